"""Python loops become loops again: copies of one block are replaced by a ``loop`` over it.

A traced Python loop is a chain of equal blocks, each fed by the one before. ``periods`` finds
where they may be; here every block is held against the last one before anything is replaced, so
that the result is exact. What differs from block to block is stacked: constants, slices of one
array, arguments of one type. What is collected from the blocks (``np.stack`` of them) is a stacked
result of the loop.

Whether it pays is decided by counts alone, see :func:`_pays`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from graphc.ir import build, control
from graphc.ir.graph import Graph, Source, bodies, rebuild
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.passes.periods import Order, Region

BLOCKS = 16  # fewer are left as they are
BLOCKS_OF_ARGUMENTS = 32  # where stacking copies what each block has of its own (weights)
_CHEAP_NODES = 256  # of unrolled arithmetic on a few numbers, which one kernel does
_CHEAP_ARRAY_NODES = 2048  # of arithmetic on arrays: one kernel reads and writes memory once
_EARLIER = 8  # first blocks that stand in another order
_FEW = 64  # numbers
_ROUNDS = 8  # what is rolled can be a block of an outer loop
_RUN = 4  # neighbours in a concatenation that are taken from a stacked result as one
_LEVEL = -1  # of stand-ins, which no derivative has
_VIEWS = frozenset({"broadcast", "reshape", "transpose", "cast", "slice"})
_ARGUMENTS = frozenset({"input", "placeholder"})


def reroll(graph: Graph) -> Graph:
    """``graph`` with its chains of equal blocks as loops."""
    sources = dict(graph.sources)
    outputs = reroll_nodes(graph.outputs, sources, results=True)
    return graph if tuple(outputs) == graph.outputs else graph.with_outputs(outputs, sources)


def reroll_nodes(
    roots: Iterable[Node], sources: dict[Node, Source], results: bool = False
) -> list[Node]:
    """``roots`` with loops for chains of equal blocks; ``sources`` gains the lines of new nodes.
    Of ``results`` of a program each has memory of its own: updates of many are a loop, too."""
    roots, stacks = list(roots), set()
    for _ in range(_ROUNDS):
        order = Order(roots, stacks)
        if any(n.op == "barrier" for n in order.nodes):
            break  # a loop would keep each block's values, which a checkpoint gave up
        found = _found(order, results)
        inner = {n: _with_rolled_bodies(n, sources) for n in order.nodes if bodies(n)}
        inner = {n: new for n, new in inner.items() if new is not n}
        if not found and not inner:
            break
        rebuilt = _Rebuild(order, found, inner, sources)
        roots = rebuilt.roots()
        stacks |= rebuilt.stacks
    return roots


def _found(order: Order, results: bool) -> list[_Blocks]:
    if len(order.nodes) < BLOCKS:
        return []
    found: list[_Blocks] = []
    search = order.regions(BLOCKS)
    cuts = next(search, None)
    while cuts is not None:
        blocks = _verified(order, cuts, results)
        if blocks is not None:
            found.append(blocks)
        try:
            cuts = search.send(blocks and blocks.region)
        except StopIteration:
            break
    return sorted(found, key=lambda b: b.region.start)


def _with_rolled_bodies(node: Node, sources) -> Node:
    attrs = dict(node.attrs)
    for key, body in bodies(node):
        outputs = tuple(reroll_nodes(body.outputs, sources))
        if outputs != body.outputs:
            attrs[key] = body.with_outputs(outputs)
    return build.make(node.op, node.inputs, **attrs) if attrs != dict(node.attrs) else node


# ------------------------------------------------------------------------------ the same blocks


class _Blocks:
    """Equal blocks, and what each input of each of their nodes is.

    ``roles[slot]`` has one entry an input: ``("in", slot)``, ``("carry", slot, lag)`` for what
    the block ``lag`` before made, ``("same", node)``, or ``("own", nodes)``, one a block.
    ``first[slot, lag]`` is what the loop starts with.
    """

    def __init__(self, order: Order, region: Region):
        self.order, self.region = order, region
        self.first: dict[tuple[int, int], Node] = {}
        self.roles: list[list[tuple]] = []
        self.starts: dict[int, list[Node]] = {}  # slices at varying places: each block's

    def node(self, slot: int, block: int) -> Node:
        return self.order.nodes[self.region.start + block * self.region.period + slot]

    def at(self, slot: int) -> slice:
        """The positions of the nodes of one slot, block by block."""
        return slice(self.region.start + slot, self.region.end, self.region.period)

    def nodes(self, slot: int) -> list[Node]:
        return self.order.nodes[self.at(slot)]

    def place(self, node: Node) -> tuple[int, int] | None:
        """The slot and the block of a node, None if it is outside."""
        position = self.order.at.get(node, -1)
        if not self.region.start <= position < self.region.end:
            return None
        block, slot = divmod(position - self.region.start, self.region.period)
        return slot, block

    def carried(self) -> dict[tuple[int, int], None]:
        """Carries ``(slot, lag)``, those of earlier blocks behind those they come from."""
        lags: dict[int, int] = {}
        for roles in self.roles:
            for role in roles:
                if role[0] == "carry":
                    lags[role[1]] = max(lags.get(role[1], 0), role[2])
        return {(slot, lag): None for slot, most in lags.items() for lag in range(1, most + 1)}


def _verified(order: Order, cuts: list[Region], results: bool) -> _Blocks | None:
    """The most blocks that one of the cuts gives; None if they differ or it does not pay."""
    best, last = None, None
    for cut in cuts:
        last = _grown(order, cut)
        if last is not None and (best is None or last.region.count > best[0].region.count):
            best = last, cut
    if best is None:
        return None
    blocks = best[0] if best[0] is last else _grown(order, best[1])
    if blocks.region.count < BLOCKS:
        return None
    return blocks if (results and _are_updates(blocks)) or _pays(blocks) else None


def _grown(order: Order, region: Region) -> _Blocks | None:
    """The blocks of a region, and those before it that are no copies in the same order."""
    blocks = _classified(order, region)
    if blocks is None:
        rest = Region(region.start + region.period, region.period, region.count - 1)
        blocks = _classified(order, rest)
    for _ in range(_EARLIER):
        earlier = _earlier(blocks) if blocks is not None else None
        if earlier is None:
            break
        region = blocks.region
        order.move(earlier, region.start)
        grown = Region(region.start - region.period, region.period, region.count + 1)
        found = _classified(order, grown)
        if found is None:
            break
        blocks = found
    return blocks


def _classified(order: Order, region: Region) -> _Blocks | None:
    blocks = _Blocks(order, region)
    return blocks if region.count >= 2 and _classify(blocks) else None


def _earlier(blocks: _Blocks) -> list[Node] | None:
    """A block before the first: what the first begins with, and what that is made of.

    Its nodes need not stand together, but nothing that comes before the blocks may read them.
    """
    order, start = blocks.order, blocks.region.start
    found = {slot: node for (slot, lag), node in blocks.first.items() if lag == 1}
    stack = list(found)
    while stack:
        slot = stack.pop()
        if not _stands_for(blocks, found[slot], slot):
            return None
        for role, u in zip(blocks.roles[slot], found[slot].inputs, strict=True):
            if role[0] != "in":
                continue
            if role[1] not in found:
                found[role[1]] = u
                stack.append(role[1])
            elif found[role[1]] is not u:
                return None
    for slot, roles in enumerate(blocks.roles):  # what no later block reads
        if slot in found:
            continue
        inside = [(k, role[1]) for k, role in enumerate(roles) if role[0] == "in"]
        if any(t not in found for _, t in inside) or not inside:
            return None
        taken = set(found.values())
        fitting = (
            r for r in order.readers[found[inside[0][1]]]
            if r not in taken and _stands_for(blocks, r, slot)
            and all(r.inputs[k] is found[t] for k, t in inside)
        )  # fmt: skip
        found[slot] = next(fitting, None)
        if found[slot] is None:
            return None
    own = set(found.values())
    if len(own) < len(found):
        return None
    if any(order.at[r] < start and r not in own for n in own for r in order.readers[n]):
        return None
    return [found[slot] for slot in range(blocks.region.period)]


def _stands_for(blocks: _Blocks, node: Node, slot: int) -> bool:
    order, start = blocks.order, blocks.region.start
    at = order.at.get(node, start)
    return at < start and order.alike(at, start + slot)


def _classify(blocks: _Blocks) -> bool:
    order, region = blocks.order, blocks.region
    last = region.count - 1
    for slot in range(region.period):
        model, roles = blocks.node(slot, last), []
        copies = blocks.nodes(slot)
        if not order.all_alike(blocks.at(slot)):
            return False
        for index, u in enumerate(model.inputs):
            given = [copy.inputs[index] for copy in copies]
            role = _role(blocks, u, given)
            if role is None:
                return False
            roles.append(role)
        if model.op == "slice" and any(c.attrs != model.attrs for c in copies):
            if roles[0][0] not in ("same", "own"):
                return False
            blocks.starts[slot] = copies
        blocks.roles.append(roles)
    wanted = blocks.carried()
    return all(key in blocks.first for key in wanted)


def _role(blocks: _Blocks, u: Node, given: list[Node]) -> tuple | None:
    order, region = blocks.order, blocks.region
    if u in order.leaves:
        leaves, looks = order.leaves, order.leaves[u][0]
        if not leaves.keys() >= set(given) or any([leaves[g][0] != looks for g in given]):
            return None
        return ("same", u) if all([g is u for g in given]) else ("own", given)
    place = blocks.place(u)
    if place is None:
        outside = order.at[u] < region.start and all(g is u for g in given)
        return ("same", u) if outside else None
    slot, block = place
    lag = region.count - 1 - block
    if any([g is not n for g, n in zip(given[lag:], blocks.nodes(slot), strict=False)]):
        return None
    for k, g in enumerate(given[:lag]):
        outside = g in order.leaves or order.at[g] < region.start
        if not outside or g.type != u.type:
            return None
        if blocks.first.setdefault((slot, lag - k), g) is not g:
            return None
    return ("carry", slot, lag) if lag else ("in", slot)


def _pays(blocks: _Blocks) -> bool:
    """Rules that count: no timing, and nothing that depends on the machine.

    - Blocks with products, reductions, solves, sorts or loops: from ``BLOCKS`` blocks on; if each
      has arguments of its own, which must be copied to be stacked, ``BLOCKS_OF_ARGUMENTS``.
    - Elementwise arithmetic alone fuses into one kernel, so it is left unless that kernel would
      be very long; later for arrays, which a loop reads and writes at every step; always if no
      block needs another.
    - The loop must replace more than half of what the blocks were.
    """
    region = blocks.region
    nodes = [blocks.node(slot, 0) for slot in range(region.period)]
    own = [role[1] for roles in blocks.roles for role in roles if role[0] == "own"]
    copied = sum(map(_is_copied, own))
    scattered, collected = _escapes(blocks)
    if not blocks.carried() and (copied or scattered or not collected):
        return False
    size = region.period * region.count
    replaced = size + sum(_depth(terms[-1]) for terms in own) * region.count
    if 2 * (2 * scattered + region.period) > replaced:
        return False
    if copied and region.count < BLOCKS_OF_ARGUMENTS:
        return False
    if any(OPS[n.op].kind not in ("elementwise", "view") for n in nodes):
        return True
    if not blocks.carried():  # equations beside each other
        return False
    few = all(isinstance(n.type.size, int) and n.type.size <= _FEW for n in nodes)
    return size >= (_CHEAP_NODES if few else _CHEAP_ARRAY_NODES)


def _are_updates(blocks: _Blocks) -> bool:
    """Whether blocks that do not need each other turn arguments of their own into results that
    nobody reads: a loop does so without a stack of either."""
    region, roots = blocks.region, set(blocks.order.roots)
    if blocks.carried() or region.count < BLOCKS_OF_ARGUMENTS:
        return False
    own = [role[1] for roles in blocks.roles for role in roles if role[0] == "own"]
    for slot in range(region.period):
        made = blocks.nodes(slot)
        if any(n in roots for n in made) and not all(n in roots for n in made):
            return False
        if any(blocks.order.at[r] >= region.end for n in made for r in blocks.order.readers[n]):
            return False
    return any(map(_is_copied, own))


def _is_copied(terms: Sequence[Node]) -> bool:
    """Whether stacking these terms copies one after the other."""
    a, b = terms[0], terms[-1]
    while a.op in _VIEWS and a.inputs[0] is not b.inputs[0]:
        a, b = a.inputs[0], b.inputs[0]
    return a.op not in _VIEWS and a.op != "const"


def _depth(term: Node) -> int:
    """How many nodes a leaf term consists of."""
    depth = 0
    while term.op in _VIEWS:
        term, depth = term.inputs[0], depth + 1
    return depth + (term.op == "const")


def _escapes(blocks: _Blocks) -> tuple[int, int]:
    """How many values are read from outside one by one, and how many in a concatenation."""
    order, region = blocks.order, blocks.region
    roots, at, end = set(order.roots), order.at, region.end
    scattered = collected = 0
    for slot in range(region.period):
        for node in blocks.nodes(slot)[:-1]:
            outside = [r for r in order.readers[node] if at[r] >= end]
            if not outside and node not in roots:
                continue
            in_runs = sum(_is_run(r) for r in outside)
            collected += bool(in_runs)
            scattered += len(outside) > in_runs or node in roots
    return scattered, collected


def _is_run(reader: Node) -> bool:
    return reader.op == "concat" and len(reader.inputs) >= BLOCKS - 1


# ---------------------------------------------------------------------------------- the new graph


class _Rebuild:
    """The graph in order, with loops in the place of blocks."""

    def __init__(self, order: Order, found: list[_Blocks], inner: dict[Node, Node], sources):
        self.order, self.inner, self.sources = order, inner, sources
        self.new: dict[Node, Node] = {}
        self.made: dict[Node, _Rolled] = {}  # nodes of blocks, to the loop that replaces them
        self.stacks: set[Node] = set()  # of arguments: nobody looks for blocks among those
        roots = set(order.roots)
        position = 0
        for blocks in found:
            self._copy(position, blocks.region.start)
            rolled = _Rolled(blocks, self, roots)
            for k in range(blocks.region.start, blocks.region.end):
                self.made[order.nodes[k]] = rolled
            position = blocks.region.end
        self._copy(position, len(order.nodes))

    def roots(self) -> list[Node]:
        return [self.made[r].last(r) if r in self.made else self.value(r) for r in self.order.roots]

    def value(self, node: Node) -> Node:
        """What a node has become."""
        if node in self.new:
            return self.new[node]
        rolled = self.made.get(node)
        if rolled is None:
            return node  # a leaf term
        self.new[node] = rolled.value(node)
        return self.new[node]

    def inherit(self, new: Node, old: Node) -> None:
        if old in self.sources:
            self.sources.setdefault(new, self.sources[old])

    def _copy(self, begin: int, end: int) -> None:
        for node in self.order.nodes[begin:end]:
            old = self.inner.get(node, node)
            if node.op == "concat" and any(i in self.made for i in node.inputs):
                new = build.concat(self._joined(node), node.attr("axis"))
            else:
                new = rebuild(old, tuple(self.value(i) for i in node.inputs))
            self.new[node] = new
            self.inherit(new, node)

    def _joined(self, node: Node) -> list[Node]:
        """The operands of a concatenation, neighbours that one loop makes as one."""
        parts, k = [], 0
        while k < len(node.inputs):
            rolled = self.made.get(node.inputs[k])
            length = rolled.run(node.inputs[k:]) if rolled is not None else 1
            if abs(length) >= _RUN:
                parts.append(rolled.stacked(node.inputs[k], length, node.attr("axis")))
            else:
                length = 1
                parts.append(self.value(node.inputs[k]))
            k += abs(length)
        return parts


class _Rolled:
    """The loop that stands for some blocks."""

    def __init__(self, blocks: _Blocks, graph: _Rebuild, roots: set[Node]):
        self.blocks, self.graph = blocks, graph
        self.count = blocks.region.count
        self.params = 0
        self.xs: dict[Node, Node] = {}  # stack -> its part in a step
        self.consts: dict[Node, Node] = {}  # outside node -> stand-in
        last, stacked = self._read(roots)
        carried = blocks.carried()
        carried.update({(slot, 1): None for slot in last if (slot, 1) not in carried})
        self.carries = {key: self._parameter(blocks.node(key[0], 0).type) for key in carried}
        slots = self._body()
        after = [
            slots[slot] if lag == 1 else self.carries[slot, lag - 1] for slot, lag in self.carries
        ]
        init = [
            graph.value(blocks.first[key]) if key in blocks.first
            else build.full_like(blocks.node(key[0], 0), 0)
            for key in self.carries
        ]  # fmt: skip
        params = [*self.carries.values(), *self.xs.values(), *self.consts.values()]
        outputs = [*after, *(slots[s] for s in stacked)]
        (body,), lifted = control.close([outputs], params, graph.sources)
        outside = [*(graph.value(c) for c in self.consts), *lifted]
        results = build.loop(body, init, list(self.xs), outside, length=self.count)
        line = next((n for n in map(blocks.node, range(len(slots)), [0] * len(slots))
                     if n in graph.sources), None)  # fmt: skip
        for result in (results[0].inputs[0], *results):
            if line is not None:
                graph.inherit(result, line)
        self.ends = dict(zip(self.carries, results, strict=False))
        self.ys = dict(zip(stacked, results[len(init) :], strict=True))

    def _read(self, roots: set[Node]) -> tuple[list[int], list[int]]:
        """Slots whose last value is read from outside, and those with other values."""
        last, stacked, alone = {}, {}, Counter()
        order, region = self.blocks.order, self.blocks.region
        at, end = order.at, region.end
        for slot in range(region.period):
            for block, node in enumerate(self.blocks.nodes(slot)):
                outside = [r for r in order.readers[node] if at[r] >= end]
                if not outside and node not in roots:
                    continue
                alone[slot] += not all(map(_is_run, outside))
                if node in roots or outside:
                    (last if block == region.count - 1 else stacked)[slot] = None
        self.one_by_one = {slot for slot in stacked if alone[slot] >= BLOCKS - 1}
        stacked = dict.fromkeys(self._source(s) for s in stacked)
        return [s for s in last if self._source(s) not in stacked], list(stacked)

    def _source(self, slot: int) -> int:
        """The slot that is stacked for ``slot``: reshapes are done outside, on all at once."""
        while self.blocks.node(slot, 0).op == "reshape" and self.blocks.roles[slot][0][0] == "in":
            slot = self.blocks.roles[slot][0][1]
        return slot

    # ------------------------------------------------------------------------------- the body

    def _parameter(self, type) -> Node:
        self.params += 1
        return build.placeholder(_LEVEL, self.params, type)

    def _body(self) -> list[Node]:
        blocks = self.blocks
        slots: list[Node] = []
        for slot, roles in enumerate(blocks.roles):
            old = blocks.node(slot, self.count - 1)
            if slot in blocks.starts:
                new = self._own([blocks.starts[slot][k] for k in range(self.count)])
            else:
                node = self.graph.inner.get(old, old)
                new = rebuild(node, tuple(self._operand(role, slots) for role in roles))
            slots.append(new)
            self.graph.inherit(new, old)
        return slots

    def _operand(self, role: tuple, slots: list[Node]) -> Node:
        if role[0] == "in":
            return slots[role[1]]
        if role[0] == "carry":
            return self.carries[role[1:]]
        if role[0] == "own":
            return self._own(role[1])
        return self._outside(role[1])

    def _outside(self, node: Node) -> Node:
        """A value that all blocks share; views of it are made inside, where they cost nothing."""
        views = []
        while node in self.blocks.order.at and node.op in _VIEWS and node.op != "cast":
            views.append(node)
            node = node.inputs[0]
        if node in self.blocks.order.at:
            if node not in self.consts:
                self.consts[node] = self._parameter(node.type)
            node = self.consts[node]
        for view in reversed(views):
            node = rebuild(view, (node,))
        return node

    def _own(self, terms: list[Node]) -> Node:
        """What stands in the body for terms that differ from block to block."""
        first, wrapping = terms[0], []
        while True:
            if all(t is first for t in terms):
                new = self._outside(first)
                break
            alike = first.op in _VIEWS and all(t.attrs == first.attrs for t in terms)
            below = [t.inputs[0] for t in terms] if alike else []
            if not alike or (first.op == "reshape" and _is_sliced(below)):
                stack = self._stack(terms)
                if stack not in self.xs:
                    self.xs[stack] = self._parameter(first.type)
                new = self.xs[stack]
                break
            wrapping.append(first)
            terms, first = below, below[0]
        for view in reversed(wrapping):
            new = rebuild(view, (new,))
        return new

    # ------------------------------------------------------------------------------- stacking

    def _stack(self, terms: list[Node]) -> Node:
        """``terms`` along a new first axis."""
        first = terms[0]
        shape = (self.count, *first.shape)
        if first.op == "const":
            return _stacked_constants([t.attr("value").array for t in terms])
        sliced = [t.inputs[0] for t in terms] if first.op == "reshape" else terms
        if _is_sliced(sliced):
            found = _stacked_slices(sliced, self.graph.value(sliced[0].inputs[0]))
            if found is not None:
                return build.reshape(found, shape)
        parts = [self.graph.value(t) for t in terms] if first.op != "slice" else [
            rebuild(t, tuple(self.graph.value(i) for i in t.inputs)) for t in terms
        ]  # fmt: skip
        stack = build.concat([build.reshape(p, (1, *p.shape)) for p in parts], 0)
        if all([p.op in _ARGUMENTS for p in parts]):
            self.graph.stacks.add(stack)
        return stack

    # ---------------------------------------------------------------------------- its results

    def value(self, node: Node) -> Node:
        """A result of one block, as others read it."""
        slot, _ = self.blocks.place(node)
        return self.part(node) if slot in self.one_by_one else self.last(node)

    def last(self, node: Node) -> Node:
        """A result of one block, from the last carries if it is among them."""
        slot, block = self.blocks.place(node)
        key = slot, self.count - block
        return self.ends[key] if key in self.ends else self.part(node)

    def part(self, node: Node) -> Node:
        """A result of one block, from the stacked ones."""
        slot, block = self.blocks.place(node)
        stack = self.ys[self._source(slot)]
        start = (block, *[0] * (stack.ndim - 1))
        part = build.slice_(stack, start, (1, *stack.shape[1:]), [1] * stack.ndim)
        new = build.reshape(part, node.shape)
        self.graph.inherit(new, node)
        return new

    def run(self, nodes: Sequence[Node]) -> int:
        """How many of the first ``nodes`` are one slot's values in successive blocks; negative if
        they go backwards."""
        slot, block = self.blocks.place(nodes[0])
        if self._source(slot) not in self.ys or len(nodes) < 2:
            return 1
        second = self.blocks.place(nodes[1])
        step = second[1] - block if second is not None and second[0] == slot else 0
        length = 1
        while abs(step) == 1 and length < len(nodes):
            if self.blocks.place(nodes[length]) != (slot, block + step * length):
                break
            length += 1
        return length if step >= 0 else -length

    def stacked(self, node: Node, length: int, axis: int) -> Node:
        """The values of ``abs(length)`` blocks from that of ``node``, joined along ``axis``."""
        slot, block = self.blocks.place(node)
        stack, many = self.ys[self._source(slot)], abs(length)
        start = (block, *[0] * (stack.ndim - 1))
        step = [1 if length > 0 else -1, *[1] * (stack.ndim - 1)]
        part = build.slice_(stack, start, (many, *stack.shape[1:]), step)
        part = build.reshape(part, (many, *node.shape))
        moved = build.transpose(part, [*range(1, axis + 1), 0, *range(axis + 1, part.ndim)])
        shape = list(node.shape)
        shape[axis] = many * shape[axis]
        joined = build.reshape(moved, shape)
        self.graph.inherit(joined, node)
        return joined


def _is_sliced(terms: Sequence[Node]) -> bool:
    """Whether these are slices of one array."""
    first = terms[0]
    return first.op == "slice" and all(t.inputs[0] is first.inputs[0] for t in terms)


def _stacked_slices(terms: list[Node], base: Node) -> Node | None:
    """Slices of ``base`` at places along one axis, stacked: the other elements of each in order.
    None where they differ in another way."""
    first = terms[0]
    size, step = first.attr("size"), first.attr("step")
    starts = [t.attr("start") for t in terms]
    varying = [a for a in range(base.ndim) if any(s[a] != starts[0][a] for s in starts)]
    if len(varying) != 1:
        return None
    (axis,) = varying
    places = [s[axis] for s in starts]
    width, count = size[axis], len(terms)
    if not all(isinstance(p, int) for p in (*places, width, step[axis])):
        return None
    stride = places[1] - places[0]
    even = all(b - a == stride for a, b in pairwise(places))

    def with_axis(values, value):
        return [value if a == axis else v for a, v in enumerate(values)]

    if even and width == 1:
        part = build.slice_(base, starts[0], with_axis(size, count), with_axis(step, stride))
    elif even and stride == width and step[axis] == 1:
        part = build.slice_(base, starts[0], with_axis(size, count * width), step)
    else:
        whole = build.slice_(
            base, with_axis(starts[0], 0), with_axis(size, base.shape[axis]), with_axis(step, 1)
        )
        rows = [p + step[axis] * k for p in places for k in range(width)]
        part = build.take(whole, build.const(rows, np.int64), axis)
    shape = part.shape
    split = build.reshape(part, (*shape[:axis], count, width, *shape[axis + 1 :]))
    order = [axis, *(a for a in range(split.ndim) if a != axis)]
    return build.transpose(split, order)


_EXACT = {"f": {4: 1 << 24, 8: 1 << 53}, "i": {4: 1 << 31, 8: 1 << 53}}


def _stacked_constants(values: list[np.ndarray]) -> Node:
    """Constants along a new first axis; those that count evenly are counted."""
    first, count = values[0], len(values)
    stack = np.stack(values)
    most = _EXACT.get(first.dtype.kind, {}).get(first.dtype.itemsize)
    if first.ndim or most is None or not np.isfinite(stack).all():
        return build.const(stack)
    if (stack != np.trunc(stack)).any() or abs(stack).max() >= most:
        return build.const(stack)
    start, stride = int(stack[0]), int(stack[1]) - int(stack[0])
    even = np.arange(count) * stride + start
    if (even != stack).any() or (first.dtype.kind == "f" and np.signbit(stack[stack == 0]).any()):
        return build.const(stack)
    found = build.iota((count,), 0)
    if stride != 1:
        found = build.elementwise("mul", found, build.full_like(found, stride))
    if start:
        found = build.elementwise("add", found, build.full_like(found, start))
    return build.cast(found, first.dtype)
