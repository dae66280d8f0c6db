"""``memory_limit=``: values that the backward pass would wait for are computed again instead.

The schedule tells when values are made and read. At the kernel where most is alive, those that
were made before and are read after it are *held*. Some of them are dropped: their late readers
read a copy, computed again from what is kept, behind barriers that wait for what the first late
reader gets (the mechanism of ``checkpoint``). Cheap chains of elementwise operations go first; then
anything but what lies ``spacing`` bytes apart, as in Chen et al. 2016, "Training deep nets with
sublinear memory cost". Every choice is scheduled and its arena planned before it is taken.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from graphc import passes
from graphc.errors import OptionError
from graphc.ir import build
from graphc.ir.control import CONTROL
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph, rebuild, topological
from graphc.ir.node import Node
from graphc.ir.ops import OPS, is_library, is_reduction, matmul_dims
from graphc.ir.parts import in_parts
from graphc.ir.rows import storage_root, unfold_rows
from graphc.memory import Memory, of_schedule, predict, shown
from graphc.schedule import schedule
from graphc.schedule.loops import Schedule

_NOT_AGAIN = {"input", "const", "loop", "cond", "item", "scatter_add", "scatter_set"}
_SMALL = 1e-3  # of all that is held: not worth a kernel
_ROUNDS = 4
_SPACINGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # in values of middle size


def within(
    graph: Graph, limit: int, sizes: Mapping[str, int] | None = None, team: bool = False
) -> tuple[Graph, Memory]:
    """A graph of the same values whose program needs at most ``limit`` bytes, with as little
    computed again as found; and what it needs. OptionError if there is none."""
    sizes = sizes or {}
    plain = least = predict(graph, sizes, team)
    if plain.peak <= limit:
        return graph, plain
    if any(n.dtype.kind == "c" for n in (*graph.inputs, *graph.order) if n.op not in CONTROL):
        raise OptionError(
            f"memory_limit={shown(limit)}: `{graph.name}` needs {plain}.\n"
            "Complex values are not computed again in this version: give more, or smaller batches."
        )
    for _ in range(_ROUNDS):  # another kernel may need most then
        held = _Held(schedule(passes.optimize(in_parts(graph)), team), sizes)
        tried = [(graph, least)]

        def needs(dropped: list[Node], held=held, tried=tried, before=least.recomputed) -> Memory:
            candidate = held.without(dropped)
            found = of_schedule(schedule(passes.optimize(in_parts(candidate)), team), sizes)
            again = tuple(dict.fromkeys((*before, *held.told(dropped))))
            tried.append((candidate, dataclasses.replace(found, recomputed=again)))
            return found

        choices = sorted(held.choices(), key=held.work)
        chosen = next((c for c in choices if needs(c).peak <= limit), None)
        if chosen is not None:
            best = tried[-1]
            few, many = 0, len(chosen)  # what is made first is held longest: perhaps it is enough
            while many - few > 1:
                middle = (few + many) // 2
                if needs(chosen[:middle]).peak <= limit:
                    many, best = middle, tried[-1]
                else:
                    few = middle
            return best
        graph, smallest = min(tried, key=lambda t: t[1].peak)
        if smallest is least:
            break
        least = smallest
    raise OptionError(_unreachable(graph.name, limit, plain, least.peak))


def _unreachable(name: str, limit: int, plain: Memory, least: int) -> str:
    return (
        f"memory_limit={shown(limit)}: `{name}` needs {plain}.\n"
        f"Where everything is computed again that can be, {shown(least)} ({least} bytes) is the "
        "least that was found.\nGive that much, or smaller batches; `checkpoint` around parts of "
        "a function and around parts of these saves more."
    )


@dataclass(frozen=True)
class _Value:
    nbytes: int
    cheap: bool


class _Held:
    """What is held at a kernel, that where most is alive, and the graph without some of it."""

    def __init__(self, made: Schedule, sizes: Mapping[str, int], kernel: int | None = None):
        self.graph, self._sizes = made.graph, {**dict.fromkeys(made.tapes, 1), **sizes}
        self._rank = {n: k for k, n in enumerate(self.graph.order)}
        self._at = {
            n: k for k, kernel in enumerate(made.kernels) for n in kernel.nodes if n in self._rank
        }
        self._reads = self._find_reads()
        last = dict(self._at)
        for reader, units in self._reads.items():
            for unit in units:
                last[unit] = max(last.get(unit, 0), self._at[reader])
        alive = Counter()
        for unit, first in self._at.items():
            if last[unit] > first:
                size = self._nbytes(unit)
                for k in range(first, last[unit] + 1):
                    alive[k] += size
        self._peak = max(alive, key=alive.__getitem__, default=0) if kernel is None else kernel
        outputs = {storage_root(o) for o in self.graph.outputs}
        self._kept = {
            n for n, first in self._at.items()
            if first < self._peak < last[n] and n not in outputs
        }  # fmt: skip
        self._kept |= {n for n in self.graph.order if n.op == "item" and n.inputs[0] in self._kept}
        self.values = self._droppable()

    def _nbytes(self, node: Node) -> int:
        return 0 if node.op in CONTROL else evaluate(node.type.nbytes, self._sizes)

    def _find_reads(self) -> dict[Node, set[Node]]:
        """The computed values that each computed value reads, through views."""
        below: dict[Node, frozenset[Node]] = {}
        reads = {}
        for node in self.graph.order:
            found = frozenset().union(
                *(frozenset([i]) if i in self._at else below[i] for i in node.inputs)
            )
            if node in self._at:
                reads[node] = set(found)
            below[node] = found
        return reads

    def _droppable(self) -> dict[Node, _Value]:
        """Held values that can be computed again from inputs and other held values."""
        again: dict[Node, bool] = {}  # whether, and whether by elementwise operations alone
        cheap: dict[Node, bool] = {}
        found = {}
        total = sum(map(self._nbytes, self._kept))
        for node in self.graph.order:
            if self._at.get(node, -1) > self._peak:
                again[node] = cheap[node] = False
                continue
            start = node.op in ("input", "const")
            can = _can_repeat(node) and all(again[i] or i in self._kept for i in node.inputs)
            easy = OPS[node.op].kind in ("elementwise", "view", "leaf", "indexing")
            again[node] = start or can
            cheap[node] = start or (
                can and easy and all(cheap[i] or i in self._kept for i in node.inputs)
            )
            if node in self._kept and can and self._nbytes(node) > _SMALL * total:
                found[node] = _Value(self._nbytes(node), cheap[node])
        return dict(
            sorted(found.items(), key=lambda item: (self._at[item[0]], self._rank[item[0]]))
        )

    def choices(self) -> list[list[Node]]:
        """Sets of values to drop, each in the order in which they are made."""
        if not self.values:
            return []
        links = self._links()
        found = [
            [n for n, v in self.values.items() if v.cheap],
            [n for n in self.values if n not in links], list(self.values),
        ]  # fmt: skip
        ordered = sorted(self.values[n].nbytes for n in links or self.values)
        middle = ordered[len(ordered) // 2]
        for spacing in (s * middle for s in _SPACINGS):
            dropped, since = [], 0
            for node, value in self.values.items():
                if node not in links:
                    dropped.append(node)
                elif since + value.nbytes > spacing:
                    since = 0  # kept: what follows is computed from it
                else:
                    since += value.nbytes
                    dropped.append(node)
            found.append(dropped)
        return [list(c) for c in dict.fromkeys(map(tuple, found)) if c]

    def _links(self) -> set[Node]:
        """Values that others are computed again from."""
        links: set[Node] = set()
        for node in self.values:
            links.update(n for n in topological(node.inputs, until=self._kept) if n in self.values)
        return links

    def work(self, dropped: list[Node]) -> int:
        """Arithmetic that is done a second time."""
        gone = set(dropped)
        stops = (self._kept - gone) | set(self.graph.inputs)
        return sum(self._flops(n) for n in topological(dropped, until=stops) if n not in stops)

    def _flops(self, node: Node) -> int:
        if node.op == "matmul":
            batch, m, n, k = matmul_dims(dict(node.attrs), *(i.type for i in node.inputs))
            dims = (*batch, m, n, k)
        elif is_reduction(node):
            dims = node.inputs[0].shape
        elif OPS[node.op].kind == "elementwise":
            dims = node.shape
        else:
            return 0
        total = max(int(OPS[node.op].cost or 1), 1)
        for dim in dims:
            total *= evaluate(dim, self._sizes)
        return total

    def told(self, dropped: list[Node]) -> tuple[str, ...]:
        """What is computed again, for people."""
        counts = Counter()
        for node in dropped:
            where = self.graph.sources.get(node)
            counts[f"{node.op} {node.type}" + (f" at {where}" if where else "")] += 1
        return tuple(text + f", {n} times" * (n > 1) for text, n in counts.items())

    def without(self, dropped: list[Node]) -> Graph:
        """The graph in which late readers of ``dropped`` read copies."""
        gone, sources = set(dropped), dict(self.graph.sources)
        available = (self._kept - gone) | {n for n in self.graph.order if n.op == "input"}
        early = {n for n, k in self._at.items() if k <= self._peak}
        copies: dict[Node, Node] = {}
        late: dict[Node, Node] = {}

        def made_again(value: Node, after: Node) -> None:
            doors: dict[Node, Node] = {}
            for node in topological([value], until=_Either(available, copies)):
                if node in available:
                    doors[node] = build.barrier(node, after)
                elif node not in copies:
                    inputs = tuple(doors[i] if i in doors else copies[i] for i in node.inputs)
                    copies[node] = rebuild(node, inputs)
                    if node in sources:
                        sources.setdefault(copies[node], sources[node])

        def rewritten(roots) -> None:
            for node in topological(roots, until=_Either(late, early)):
                if node in late:
                    continue
                if node in gone:
                    late[node] = copies[node]
                elif node in early:
                    late[node] = node
                else:
                    late[node] = rebuild(node, tuple(late[i] for i in node.inputs))
                    if node in sources:
                        sources.setdefault(late[node], sources[node])

        readers = sorted(
            (n for n, k in self._at.items() if k > self._peak),
            key=lambda n: (self._at[n], self._rank[n]),
        )
        at_peak = next(
            n for n in self.graph.order
            if self._at.get(n.inputs[0] if n.op == "item" else n) == self._peak
            and n.op not in CONTROL
        )  # fmt: skip
        for reader in readers:
            wanted = [u for u in self._reads[reader] if u in gone and u not in copies]
            if wanted:
                before = [
                    u for u in self._reads[reader]
                    if self._peak <= self._at[u] < self._at[reader] and u.op not in CONTROL
                ]  # fmt: skip
                after = max(before, key=lambda u: (self._at[u], self._rank[u]), default=at_peak)
                rewritten([after])
                for unit in sorted(wanted, key=self._rank.__getitem__):
                    made_again(unit, late[after])
            rewritten([reader])
        rewritten(self.graph.outputs)
        return unfold_rows(self.graph.with_outputs([late[o] for o in self.graph.outputs], sources))


class _Either:
    """What is in one container or the other."""

    def __init__(self, a, b):
        self._a, self._b = a, b

    def __contains__(self, node) -> bool:
        return node in self._a or node in self._b


def _can_repeat(node: Node) -> bool:
    return node.op not in _NOT_AGAIN and not is_library(node)
