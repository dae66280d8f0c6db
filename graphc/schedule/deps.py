"""Who reads what, and how the axes line up: the facts that fusion decides on.

A *unit* is a node that gets computed by a loop or a library call. Views (broadcast, transpose,
slice, ...) and cheap expressions of stored arrays (*virtual* nodes) are folded into the units
that read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from graphc.ir.dims import DimLike, product
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.ops import OPS, is_library, is_reduction
from graphc.ir.rows import ALIASES, storage_root
from graphc.schedule.convolutions import by_image, operand
from graphc.schedule.pooling import pooling
from graphc.schedule.products import (
    in_one_block,
    is_contraction,
    is_product,
    read_in_block,
    takes_rows,
)
from graphc.schedule.sizes import nominal

_FOLDED = {
    "broadcast", "transpose", "slice", "windows", "pad", "iota", "size", "const", "take",
    "take_along", "check_index",
}  # fmt: skip
_OPAQUE = {
    "matmul", "conv", "concat", "scatter_add", "scatter_set", "cumsum", "cumprod", "loop", "cond",
    "item",
}  # fmt: skip
_FOLDED_DEPTH = 40
_MAX_PIECES, _MIN_PIECE = 16, 16  # of a join: how many, and elements of a row of each
_MAX_FRAME = 1 << 16  # elements that are written twice while they are in the cache
_VIRTUAL_FLOPS = 4
_VIRTUAL_READS = 1.25  # elements read for one recomputed

AxisMap = tuple[int | None, ...]


@dataclass(frozen=True)
class Use:
    """``reader`` reads ``unit``; axis i of the unit's value is loop axis ``axes[i]`` of the
    reader (None: some other position)."""

    reader: Node
    unit: Node
    axes: AxisMap


@dataclass
class Deps:
    graph: Graph
    units: list[Node]
    stored: set[Node]  # must be in memory whatever is fused
    operands: set[Node]  # but for those that only products read, if they are of one kernel
    virtual: set[Node]
    uses: dict[Node, list[Use]]  # reader -> what it reads
    used_by: dict[Node, list[Use]] = field(default_factory=dict)
    alone: frozenset[Node] = frozenset()  # units that share no kernel
    gathered: frozenset[Node] = frozenset()  # read at run-time indices, so from memory


def domain(unit: Node) -> tuple[DimLike, ...]:
    """The iteration space of a unit."""
    if is_contraction(unit):
        return (*unit.inputs[0].shape, unit.inputs[1].shape[1])
    if is_reduction(unit):
        return unit.inputs[0].shape
    if unit.op in ("scatter_add", "scatter_set"):
        return unit.inputs[-1].shape
    return unit.shape


def reduced_axes(unit: Node) -> tuple[int, ...]:
    if is_contraction(unit):
        return (0,)
    return unit.attr("axes") if is_reduction(unit) else ()


def is_opaque(unit: Node) -> bool:
    """Units that are kernels of their own."""
    if unit.op not in _OPAQUE:
        return is_library(unit)
    return not (completes_rows(unit) or is_contraction(unit) or is_join(unit))


def completes_rows(unit: Node) -> bool:
    """Units computed by a call for some rows, a block or an image, of a kernel's outer loop."""
    return is_product(unit) or is_call(unit)


def is_call(unit: Node) -> bool:
    """Units computed at once for one index of a kernel's outer loop."""
    return by_image(unit) or pooling(unit) is not None or is_frame(unit)


def is_frame(unit: Node) -> bool:
    """A padded array that is filled and then written into, for one index of its first axis: no
    element is asked whether it lies outside."""
    if unit.op != "pad" or any(unit.attr("interior")) or unit.shape == unit.inputs[0].shape:
        return False
    (first_low, *low), (first_high, *high) = unit.attr("low"), unit.attr("high")
    inner = unit.shape[1:]
    if first_low != 0 or first_high != 0 or not all(isinstance(d, int) for d in inner):
        return False
    return min(low + high) >= 0 and product(inner) <= _MAX_FRAME


def is_join(unit: Node) -> bool:
    """Arrays side by side that a kernel computes itself, row by row: each is written where it
    belongs (the gradients of gates, beside each other for the product with their weights)."""
    if unit.op != "concat" or not unit.attr("axis") or len(unit.inputs) > _MAX_PIECES:
        return False
    inner = [product(i.shape[unit.attr("axis") :]) for i in unit.inputs]
    if not all(isinstance(size, int) and size >= _MIN_PIECE for size in inner):
        return False
    return any(OPS[i.op].kind == "elementwise" for i in unit.inputs)


def is_stack(unit: Node) -> bool:
    """Whether a unit joins single values, and constants between them: ``np.stack`` of scalars."""
    if unit.op != "concat":
        return False
    return all(i.type.size == 1 or fill_value(i) is not None for i in unit.inputs)


def fill_value(node: Node) -> Node | None:
    """The scalar constant that ``node`` repeats."""
    while node.op in ("broadcast", "reshape"):
        node = node.inputs[0]
    return node if is_scalar_const(node) else None


def only_unit_axes(a, b) -> bool:
    """Whether two shapes differ by axes of size 1 only."""
    return [d for d in a if d != 1] == [d for d in b if d != 1]


def is_scalar_const(node: Node) -> bool:
    return node.op == "const" and node.attr("value").array.size == 1


def analyse(graph: Graph, kept: Iterable[Node] = (), alone: Iterable[Node] = ()) -> Deps:
    """Units, storage and uses of a graph; ``kept`` are stored too, ``alone`` never fused."""
    stored, operands = _must_store(graph)
    stored.update(kept)
    operands -= stored
    stored |= operands
    stored.update(_too_deep(graph, stored))
    products = (n for n in graph.order if n.op == "matmul")
    virtual = _virtual(graph, stored, {row for made in products for row in _made_rows(made)})
    units = [
        n
        for n in graph.order
        if n.op != "input" and n.op not in ALIASES and n not in virtual
        and (n.op not in _FOLDED or (n in stored and n.op != "const"))
    ]  # fmt: skip
    gathered = frozenset(
        storage_root(n.inputs[0]) for n in graph.order if n.op in ("take", "take_along")
    )
    deps = Deps(
        graph, units, stored, operands, virtual, {}, alone=frozenset(alone), gathered=gathered
    )
    read = set(stored)
    for unit in reversed(units):
        if unit in read:  # not only waited for, by a barrier whose value is an output
            deps.uses[unit] = list(dict.fromkeys(_uses(unit, deps)))
            read.update(use.unit for use in deps.uses[unit])
    deps.units = [unit for unit in units if unit in read]
    for unit in deps.units:
        for use in deps.uses[unit]:
            deps.used_by.setdefault(use.unit, []).append(use)
    return deps


def _must_store(graph: Graph) -> tuple[set[Node], set[Node]]:
    """What must be in memory, and what only for products that may read it in a block."""
    stored: set[Node] = set()
    operands: set[Node] = set()
    for node in graph.outputs:
        stored.add(storage_root(node))
    for node in graph.order:
        if node.op == "input" or is_opaque(node):
            stored.add(node)
        if node.op == "const" and not is_scalar_const(node):
            stored.add(node)
        if node.op == "matmul":
            needed = {storage_root(i) for i in node.inputs} - set(_made_rows(node))
            if is_product(node):
                inside = {i for k, i in enumerate(node.inputs) if read_in_block(node, k)} & needed
                operands |= inside
                needed -= inside
            stored.update(needed)
        elif node.op in ("scatter_add", "scatter_set", "loop", "cond") or is_library(node):
            stored.update(storage_root(i) for i in node.inputs)
        elif node.op == "conv":
            stored.update(storage_root(operand(i)[0]) for i in node.inputs)
        elif (found := pooling(node)) is not None:
            stored.update(storage_root(i) for i in found[1])
        elif node.op in ("take", "take_along"):
            stored.add(storage_root(node.inputs[0]))
        elif node.op == "reshape" and not only_unit_axes(node.shape, node.inputs[0].shape):
            stored.add(storage_root(node))
    return stored, operands


def _made_rows(product: Node) -> list[Node]:
    """Operands of a matrix product that need not be whole in memory when it begins: the kernel
    that computes it may make them, a block of rows at a time."""
    if is_product(product) and in_one_block(product):
        operands = [i for k, i in enumerate(product.inputs) if read_in_block(product, k)]
        return [i for i in operands if OPS[i.op].kind == "elementwise" or is_product(i)]
    operands = product.inputs if is_contraction(product) else product.inputs[: takes_rows(product)]
    roots = [(storage_root(i), i) for i in operands]
    return [
        root for root, i in roots
        if (OPS[root.op].kind == "elementwise" or is_product(root))
        and root.shape[:1] == i.shape[:1] and only_unit_axes(root.shape, i.shape)
    ]  # fmt: skip


def _too_deep(graph: Graph, stored: set[Node]) -> set[Node]:
    """Nodes that cut long chains of views, which are folded one inside the other."""
    depth: dict[Node, int] = {}
    cuts = set()
    for node in graph.order:
        below = 0 if node in stored else max((depth[i] for i in node.inputs), default=0)
        depth[node] = below + (OPS[node.op].kind != "elementwise" or OPS[node.op].cost == 0)
        if depth[node] > _FOLDED_DEPTH and OPS[node.op].kind != "leaf":
            cuts.add(storage_root(node))
            depth[node] = 0
        elif OPS[node.op].kind not in ("elementwise", "view", "indexing") or is_join(node):
            depth[node] = 0
    return cuts


def _virtual(graph: Graph, stored: set[Node], made: set[Node]) -> set[Node]:
    """Elementwise nodes that are cheaper to recompute from stored arrays than to store; not those
    that are ``made``, since products read them from memory."""
    virtual: set[Node] = set()
    facts: dict[Node, tuple[int, frozenset[Node]] | None] = {}  # flops, stored leaves
    for node in graph.order:
        if node in stored:
            facts[node] = (0, frozenset([node]))
            continue
        kind = OPS[node.op].kind
        if kind not in ("elementwise", "view", "leaf") or is_join(node):
            facts[node] = None
            continue
        parts = [facts[i] for i in node.inputs]
        if any(p is None for p in parts):
            facts[node] = None
            continue
        flops = sum(p[0] for p in parts) + (OPS[node.op].cost if kind == "elementwise" else 0)
        leaves = frozenset().union(*(p[1] for p in parts))
        fact = (flops, leaves)
        if kind == "elementwise":
            read = sum(nominal(leaf.type.size) for leaf in leaves)
            cheap = flops <= _VIRTUAL_FLOPS and read <= _VIRTUAL_READS * nominal(node.type.size)
            if cheap and node not in made:
                virtual.add(node)
            else:
                fact = None
        facts[node] = fact
    return virtual


def _uses(unit: Node, deps: Deps) -> Iterator[Use]:
    """Walk from a unit through folded nodes to the units and inputs it reads."""
    start = tuple(range(len(domain(unit))))
    stack: list[tuple[Node, AxisMap]] = []
    if unit.op == "concat":
        axis = unit.attr("axis")
        piece = tuple(a if a != axis else None for a in start)
        stack = [(i, piece) for i in unit.inputs]
    elif unit.op == "conv":
        (x, swapped), (w, _) = map(operand, unit.inputs)
        image = (None, 0) if swapped else (0, None)
        axes = (*image, *[None] * (x.ndim - 2)) if by_image(unit) else (None,) * x.ndim
        stack = [(x, axes), (w, (None,) * w.ndim)]
    elif (found := pooling(unit)) is not None:
        stack = [(i, (0, *[None] * (i.ndim - 1))) for i in found[1]]
    elif is_contraction(unit):
        stack = list(zip(unit.inputs, ((0, 1), (0, 2)), strict=True))
    elif takes_rows(unit):
        stack = list(zip(unit.inputs, ((0, None), (None, None)), strict=True))
    elif is_product(unit):
        stack = [(i, _operand_axes(unit, k)) for k, i in enumerate(unit.inputs)]
    elif is_opaque(unit):
        stack = [(i, (None,) * i.ndim) for i in unit.inputs]
    elif unit.op in _FOLDED:
        stack = list(_through_view(unit, start))
    else:
        stack = [(i, start) for i in unit.inputs]
    seen = set()
    while stack:
        node, axes = stack.pop()
        if (node, axes) in seen:
            continue
        seen.add((node, axes))
        if node.op == "input" or node in deps.stored or _is_unit(node, deps):
            if not is_scalar_const(node):
                yield Use(unit, node, axes)
        elif node in deps.virtual:
            stack.extend((i, axes) for i in node.inputs)
        else:
            stack.extend(_through_view(node, axes))


def _operand_axes(unit: Node, position: int) -> AxisMap:
    """Where all rows of a product are one block, its operands are complete when it begins."""
    operand = unit.inputs[position]
    if not read_in_block(unit, position):
        return (None,) * operand.ndim
    return (*range(unit.ndim - 1), None)


def _is_unit(node: Node, deps: Deps) -> bool:
    folded = node.op in _FOLDED or node.op in ALIASES
    return not folded and node not in deps.virtual


def _through_view(node: Node, axes: AxisMap) -> Iterator[tuple[Node, AxisMap]]:
    """The operands of a folded node with their axes in terms of the reader's loops."""
    op = node.op
    if op == "broadcast":
        yield node.inputs[0], tuple(axes[d] for d in node.attr("dims"))
    elif op == "transpose":
        below: list[int | None] = [None] * node.ndim
        for position, axis in enumerate(node.attr("perm")):
            below[axis] = axes[position]
        yield node.inputs[0], tuple(below)
    elif op == "slice":
        whole = zip(node.attr("start"), node.attr("step"), node.inputs[0].shape, node.shape,
                    axes, strict=True)  # fmt: skip
        yield (
            node.inputs[0],
            tuple(a if s == 0 and t == 1 and d == e else None for s, t, d, e, a in whole),
        )
    elif op == "windows":
        axis = node.attr("axis")
        yield node.inputs[0], (*axes[:axis], None, *axes[axis + 2 :])
    elif op == "pad":
        whole = zip(node.attr("low"), node.attr("high"), node.attr("interior"), axes, strict=True)
        yield node.inputs[0], tuple(a if lo == hi == g == 0 else None for lo, hi, g, a in whole)
        yield node.inputs[1], ()
    elif op == "reshape":
        yield node.inputs[0], _reshape_axes(node.inputs[0].shape, node.shape, axes)
    elif op == "barrier":
        yield node.inputs[0], axes
        yield node.inputs[1], (None,) * node.inputs[1].ndim  # not read, but waited for
    elif op == "take":
        axis, (x, indices) = node.attr("axis"), node.inputs
        yield x, axes[:axis] + (None,) + axes[axis + indices.ndim :]
        yield indices, axes[axis : axis + indices.ndim]
    elif op == "take_along":
        axis, (x, indices) = node.attr("axis"), node.inputs
        yield x, axes[:axis] + (None,) + axes[axis + 1 :]
        yield indices, axes
    elif op == "check_index":
        yield node.inputs[0], axes


def _reshape_axes(below, above, axes: AxisMap) -> AxisMap:
    """Axes that a reshape leaves alone, matched from both ends; axes of size 1 are skipped."""
    result: list[int | None] = [None] * len(below)
    for step in (1, -1):
        i, j = (0, 0) if step == 1 else (len(below) - 1, len(above) - 1)
        while 0 <= i < len(below) and 0 <= j < len(above):
            if below[i] == above[j]:
                result[i] = axes[j]
                i, j = i + step, j + step
            elif below[i] == 1:
                i += step
            elif above[j] == 1:
                j += step
            else:
                break
    return tuple(result)


def aligned_depth(use: Use) -> int:
    """How many leading loops reader and unit can share: same index, not reduced by the unit, and
    not the columns of a product or the pixels of an image, which are complete when their row is."""
    reduced = reduced_axes(use.unit)
    kept = [a for a in range(len(domain(use.unit))) if a not in reduced]
    position = dict(zip(kept, use.axes, strict=True)) if not is_opaque(use.unit) else {}
    depth = 0
    while depth in position and position[depth] == depth:
        depth += 1
    if is_call(use.unit):
        return min(depth, 1)
    if is_join(use.unit):  # its row is complete when all its pieces are
        return min(depth, use.unit.attr("axis"))
    return min(depth, use.unit.ndim - 1) if is_product(use.unit) else depth
