"""Where a graph repeats itself: stretches of its order that are copies of one block.

Nodes are compared by op, type and attributes, and by how far back their inputs stand. What is cut
out of arguments and constants (``leaf`` terms: ``x[:, t]``, ``1 / k``) may differ from copy to copy
and has no place in the order, since equal terms are one node wherever they occur. Candidates for
the length of a block are the distances at which windows of a few sizes come again: every step is
linear in the size of the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass

from graphc.ir.graph import topological
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.ir.types import TupleType

_TERMS = frozenset({"broadcast", "reshape", "transpose", "cast", "slice"})
_DEPTH = 8  # of a leaf term: deeper ones are taken for computations
_WINDOWS = (1, 4, 16, 64, 256)
_PERIODS = 4  # candidates from each size of window
_MANY = 12  # slices of one array, from which on they are taken for those of a loop
_OPERANDS = 8  # more are joined results, which stay in their order
_CUTS = 6  # of one stretch that are tried
_LAG = 4  # a block may read what the fourth block before it made
_PRIME = (1 << 61) - 1
_NEVER = 1 << 20  # carries that would be needed to cut here


@dataclass(frozen=True)
class Region:
    """``count`` blocks of ``period`` nodes from position ``start`` of the order."""

    start: int
    period: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.period * self.count


class Order:
    """The nodes of a graph that are no leaf terms, in order, and what they look like. ``stacks``
    are leaf terms, too."""

    def __init__(self, roots: Iterable[Node], stacks: Container[Node] = ()):
        self.roots = tuple(roots)
        self._ids: dict[object, int] = {}
        self.leaves: dict[Node, tuple[int, int]] = {}  # its looks, its depth
        self.nodes: list[Node] = []
        order = _in_order(self.roots, stacks)
        self._slices = Counter(n.inputs[0] for n in order if n.op == "slice")
        for node in order:
            if node in stacks:
                self.leaves[node] = self._id(_looks(node)), 1
            elif self._is_leaf(node):
                below = [self.leaves[i] for i in node.inputs]
                looks = self._id((_looks(node), *[b[0] for b in below]))
                self.leaves[node] = looks, 1 + max([b[1] for b in below], default=0)
            else:
                self.nodes.append(node)
        self.at = {node: k for k, node in enumerate(self.nodes)}
        self._looks = [self._id(_looks(node)) for node in self.nodes]
        self.readers: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for i in dict.fromkeys(node.inputs):
                if i in self.readers:
                    self.readers[i].append(node)

    def _is_leaf(self, node: Node) -> bool:
        if not node.inputs:
            return True
        if node.op not in _TERMS:
            return False
        (base,) = node.inputs
        below = self.leaves.get(base)
        if below is None or below[1] >= _DEPTH:
            return False
        if node.op == "broadcast" and base.op == "const":
            return True
        part = below[1] > 1 and base.op != "broadcast"
        return part or self._slices[base if node.op == "slice" else node] >= _MANY

    def _id(self, looks) -> int:
        return self._ids.setdefault(looks, len(self._ids))

    def alike(self, i: int, j: int) -> bool:
        """Whether the nodes at two positions have the same looks."""
        return self._looks[i] == self._looks[j]

    def all_alike(self, positions: slice) -> bool:
        """Whether the nodes at these positions have the same looks."""
        return len(set(self._looks[positions])) == 1

    def _repeats(self, i: int, period: int) -> bool:
        """Whether the node at ``i`` is to its surroundings what that a period before is."""
        if self._looks[i] != self._looks[i - period]:
            return False
        for u, v in zip(self.nodes[i].inputs, self.nodes[i - period].inputs, strict=True):
            if u is v:
                continue
            here, there = self.at.get(u), self.at.get(v)
            if here is None or there is None:
                if here is not there or self.leaves[u][0] != self.leaves[v][0]:
                    return False
            elif here - there != period:
                return False
        return True

    # ------------------------------------------------------------------------------- periods

    def regions(self, least: int):
        """Stretches of at least ``least`` blocks, cut in several ways, those of short blocks first.

        A generator: the region that is used is sent back, and not searched again. The first blocks
        of a loop may read other things, so stretches that are two blocks shorter count too.
        """
        taken: list[tuple[int, int]] = []
        for period in self._periods(least):
            i, size = period, len(self.nodes)
            while i < size:
                if not self._repeats(i, period):
                    i += 1
                    continue
                begin = i
                while i < size and self._repeats(i, period):
                    i += 1
                if i - begin < (least - 3) * period:
                    continue
                if any(b < i and begin - period < e for b, e in taken):
                    continue
                cuts = self._cuts(begin, i, period)
                if cuts[0].count >= least - 3:
                    used = yield cuts
                    if used is not None:
                        taken.append((used.start, used.end))

    def _periods(self, least: int) -> list[int]:
        found: set[int] = set()
        for width in _WINDOWS:
            last: dict[int, int] = {}
            distances: Counter[int] = Counter()
            shift, value = pow(_PRIME // 3, width, _PRIME), 0
            for i, looks in enumerate(self._looks):
                value = (value * (_PRIME // 3) + looks + 1) % _PRIME
                if i >= width:
                    value = (value - (self._looks[i - width] + 1) * shift) % _PRIME
                if i >= width - 1:
                    if value in last:
                        distances[i - last[value]] += 1
                    last[value] = i
            often = sorted(distances.items(), key=lambda pair: (-pair[1], pair[0]))
            found.update(d for d, times in often[:_PERIODS] if times >= least - 3)
        return sorted(d for d in found if d * least <= len(self.nodes) + d)

    # -------------------------------------------------------------------------------- regions

    def _cuts(self, begin: int, end: int, period: int) -> list[Region]:
        """Blocks cut where the fewest values cross from one to the next: at several places, as
        what the first block reads may not be known at each of them.

        The nodes in ``begin <= i < end`` repeat those a period before them.
        """
        crossing = self._crossings(begin + (end - begin) // period // 2 * period, period, end)
        starts = range(begin - period, min(begin, end))
        least = min(crossing[s % period] for s in starts)
        starts = [s for s in starts if crossing[s % period] == least]
        starts = [s for k, s in enumerate(starts) if not k or starts[k - 1] != s - 1] + starts[-1:]
        found = [Region(s, period, (end - s) // period) for s in dict.fromkeys(starts)]
        return found[-_CUTS:]

    def move(self, nodes: list[Node], to: int) -> None:
        """Put nodes, whose readers all stand behind, just in front of position ``to``."""
        first = min(self.at[n] for n in nodes)
        moved = set(nodes)
        part = [n for n in self.nodes[first:to] if n not in moved] + nodes
        looks = [self._looks[self.at[n]] for n in part]
        self.nodes[first:to], self._looks[first:to] = part, looks
        self.at.update(zip(part, range(first, to), strict=True))

    def _crossings(self, middle: int, period: int, end: int) -> list[int]:
        """For each place in a block (position modulo ``period``), how many values are carried
        over a cut in front of it."""
        change = [0] * (period + 1)
        everywhere = 0
        for q in range(max(middle - period, 0), min(middle, len(self.nodes))):
            node = self.nodes[q]
            reads = [self.at[r] for r in self.readers[node]]
            reads = [r for r in reads if r < end and r - q <= _LAG * period]
            length = max(reads, default=q) - q
            weight = _NEVER if isinstance(node.type, TupleType) else 1
            everywhere += weight * (length // period)
            first, rest = (q + 1) % period, length % period
            change[first] += weight
            if first + rest <= period:
                change[first + rest] -= weight
            else:
                change[period] -= weight
                change[0] += weight
                change[first + rest - period] -= weight
        total, crossing = everywhere, []
        for k in range(period):
            total += change[k]
            crossing.append(total)
        return crossing


def _in_order(roots: Iterable[Node], until: Container[Node]) -> list[Node]:
    """Inputs before users, such that blocks stay together: the deepest root first, and what is
    only an addition to a deep chain behind that."""
    roots = tuple(roots)
    depth: dict[Node, int] = {}
    for node in topological(roots, until):
        below = node.inputs if node not in until else ()
        depth[node] = 1 + max([depth[i] for i in below], default=0)
    order: dict[Node, None] = {}
    stack = [(r, False) for r in sorted(roots, key=depth.__getitem__)]
    while stack:
        node, expanded = stack.pop()
        if node in order:
            continue
        if expanded or node in until:
            order[node] = None
            continue
        stack.append((node, True))
        inputs = node.inputs
        if 1 < len(inputs) <= _OPERANDS:
            depths = [depth[i] for i in inputs]
            half = max(depths) // 2
            if min(depths) < half:
                inputs = sorted(inputs, key=lambda i: depth[i] < half)
        stack += [(i, False) for i in reversed(inputs) if i not in order]
    return list(order)


def _looks(node: Node) -> tuple:
    """What copies of a node have in common."""
    attrs = node.attrs
    if node.op == "slice":
        attrs = tuple(pair for pair in attrs if pair[0] != "start")
    elif node.op in ("const", "input", "placeholder"):
        attrs = ()
    elif node.op == "barrier" or OPS[node.op].kind == "mark":
        attrs = (("itself", id(node)),)
    return node.op, node.type, attrs, len(node.inputs)
