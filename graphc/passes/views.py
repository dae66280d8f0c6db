"""Views of views, and elementwise work pulled in front of the broadcast that repeats it.

All exact. A symbolic dim is taken to be other than 1: at size 1 the same graph is right as well.
"""

from __future__ import annotations

import functools

from graphc.ir import build
from graphc.ir.dims import Dim
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.passes.patterns import constant, rewrites

# ------------------------------------------------------------------- axes of size 1 in reshapes


def unit_axes_map(before, after) -> dict[int, int] | None:
    """Axis of ``before`` -> axis of ``after`` where they differ only by axes of size 1."""
    kept_before = [a for a, d in enumerate(before) if d != 1]
    kept_after = [a for a, d in enumerate(after) if d != 1]
    if [before[a] for a in kept_before] != [after[a] for a in kept_after]:
        return None
    return dict(zip(kept_before, kept_after))


def squeeze(x: Node) -> Node:
    """``x`` without its axes of size 1."""
    return build.reshape(x, [d for d in x.shape if d != 1])


def place(x: Node, shape, target: dict[int, int]) -> Node:
    """Broadcast ``x`` to ``shape`` with axis a at ``target[a]``; axes of size 1 have no target.

    They keep their place where the result has such an axis for each, else they are squeezed out.
    """
    dims, free = [], 0
    for axis in range(x.ndim):
        if axis in target:
            dims.append(target[axis])
        else:
            following = (target[a] for a in range(axis + 1, x.ndim) if a in target)
            last = next(following, len(shape))
            spot = next((s for s in range(free, last) if shape[s] == 1), None)
            if spot is None:
                kept = [target[a] for a in range(x.ndim) if a in target]
                return build.broadcast(squeeze(x), shape, kept)
            dims.append(spot)
        free = dims[-1] + 1
    return build.broadcast(x, shape, dims)


@rewrites("reshape")
def reshape_of_reshape(node: Node) -> Node | None:
    (inner,) = node.inputs
    return build.reshape(inner.inputs[0], node.shape) if inner.op == "reshape" else None


@rewrites("reshape")
def reshape_of_broadcast(node: Node) -> Node | None:
    """A reshape that only moves axes of size 1 goes into the broadcast; of a scalar, any does."""
    (inner,) = node.inputs
    if inner.op != "broadcast":
        return None
    (x,) = inner.inputs
    if not x.ndim:
        return build.broadcast(x, node.shape, ())
    moved = unit_axes_map(inner.shape, node.shape)
    if moved is None:
        return None
    dims = inner.attr("dims")
    return place(x, node.shape, {a: moved[dims[a]] for a, d in enumerate(x.shape) if d != 1})


@rewrites("broadcast")
def broadcast_of_broadcast(node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.op != "broadcast":
        return None
    outer = node.attr("dims")
    return build.broadcast(inner.inputs[0], node.shape, [outer[d] for d in inner.attr("dims")])


@rewrites("broadcast")
def broadcast_of_reshape(node: Node) -> Node | None:
    """keepdims: a reshape that only moves axes of size 1 goes into the broadcast."""
    (inner,) = node.inputs
    if inner.op != "reshape":
        return None
    (x,) = inner.inputs
    moved = unit_axes_map(x.shape, inner.shape)
    if moved is None:
        return None
    dims = node.attr("dims")
    placed = place(x, node.shape, {a: dims[moved[a]] for a in moved})
    # A squeeze that only replaces another reshape is no gain.
    return placed if placed.inputs[:1] == (x,) or placed is x else _fewer_axes(placed, node)


def _fewer_axes(placed: Node, node: Node) -> Node | None:
    return placed if placed.inputs[0].ndim < node.inputs[0].ndim else None


@rewrites("broadcast")
def broadcast_as_reshape(node: Node) -> Node | None:
    """A broadcast that only inserts axes of size 1 is a reshape."""
    (x,) = node.inputs
    added = set(range(node.ndim)) - set(node.attr("dims"))
    if constant(node) is not None or any(node.shape[a] != 1 for a in added):
        return None
    return build.reshape(x, node.shape)


# ----------------------------------------------------------------------------------- transposes


@rewrites("transpose")
def transpose_of_transpose(node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.op != "transpose":
        return None
    first = inner.attr("perm")
    return build.transpose(inner.inputs[0], [first[p] for p in node.attr("perm")])


@rewrites("transpose")
def transpose_as_reshape(node: Node) -> Node | None:
    """The order of elements is kept when only axes of size 1 move."""
    (x,) = node.inputs
    order = [p for p in node.attr("perm") if x.shape[p] != 1]
    return build.reshape(x, node.shape) if order == sorted(order) else None


@rewrites("transpose")
def transpose_of_reshape(node: Node) -> Node | None:
    """Inserted axes of size 1 come after the transpose."""
    (inner,) = node.inputs
    if inner.op != "reshape":
        return None
    (x,) = inner.inputs
    moved = unit_axes_map(x.shape, inner.shape)
    if moved is None or 1 not in inner.shape:
        return None
    axes = {new: k for k, new in enumerate(moved.values())}
    order = [axes[p] for p in node.attr("perm") if p in axes]
    return build.reshape(build.transpose(squeeze(x), order), node.shape)


@rewrites("transpose")
def transpose_of_broadcast(node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.op != "broadcast":
        return None
    (x,) = inner.inputs
    perm = node.attr("perm")
    target = [perm.index(d) for d in inner.attr("dims")]
    order = sorted(range(x.ndim), key=target.__getitem__)
    return build.broadcast(build.transpose(x, order), node.shape, sorted(target))


# --------------------------------------------------------------------------------------- slices


def _slice_parts(node: Node):
    return zip(node.attr("start"), node.shape, node.attr("step"), strict=True)


@rewrites("slice")
def slice_of_slice(node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.op != "slice":
        return None
    outer, under = _slice_parts(node), _slice_parts(inner)
    start, step = [], []
    for (start_2, _, step_2), (start_1, _, step_1) in zip(outer, under, strict=True):
        start.append(start_2 * step_1 + start_1)
        step.append(step_1 * step_2)
    return build.slice_(inner.inputs[0], start, node.shape, step)


@rewrites("slice")
def slice_of_broadcast(node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.op != "broadcast":
        return None
    dims = inner.attr("dims")
    start, step = ([node.attr(key)[d] for d in dims] for key in ("start", "step"))
    part = build.slice_(inner.inputs[0], start, [node.shape[d] for d in dims], step)
    return build.broadcast(part, node.shape, dims)


@rewrites("slice")
def slice_of_pad(node: Node) -> Node | None:
    """A slice that stays within the padded array, or within the padding of one axis."""
    (inner,) = node.inputs
    if inner.op != "pad":
        return None
    x, fill = inner.inputs
    pads = zip(x.shape, *(inner.attr(key) for key in ("low", "high", "interior")), strict=True)
    starts, steps = [], []
    for (start, size, step), (length, low, high, gap) in zip(_slice_parts(node), pads, strict=True):
        inside = _within(start, size, step, length, low, high, gap)
        if inside == "fill":
            return build.broadcast(fill, node.shape, ())
        if inside is None:
            return None
        starts.append(inside[0])
        steps.append(inside[1])
    return build.slice_(x, starts, node.shape, steps)


def _within(start, size, step, length, low, high, gap):
    """``(start, step)`` in the padded axis itself, "fill" beside it, None if mixed or unknown."""
    if low == 0 and high == 0 and gap == 0:
        return start, step
    if start == low and size == length and step == gap + 1:
        return 0, 1
    if gap or any(isinstance(v, Dim) for v in (start, size, length, low)) or not size:
        return None
    ends = sorted((start, start + (size - 1) * step))
    if low <= ends[0] and ends[1] < low + length:
        return start - low, step
    return "fill" if ends[1] < low or ends[0] >= low + length else None


@rewrites("slice")
def slice_of_concat(node: Node) -> Node | None:
    """A slice of one of the joined arrays."""
    (inner,) = node.inputs
    if inner.op != "concat":
        return None
    axis, offset = inner.attr("axis"), 0
    start, size, step = (node.attr(key)[axis] for key in ("start", "size", "step"))
    for x in inner.inputs:
        length = x.shape[axis]
        inside = _within(start, size, step, length, offset, 1, 0)
        if isinstance(inside, tuple):
            starts, steps = list(node.attr("start")), list(node.attr("step"))
            starts[axis], steps[axis] = inside
            return build.slice_(x, starts, node.shape, steps)
        offset = length + offset
    return None


# ---------------------------------------------------------------------------- joins and padding


@rewrites("concat")
def concat_of_slices(node: Node) -> Node | None:
    """Neighbouring slices of one array are one slice; joined joins are one join."""
    axis, parts = node.attr("axis"), []
    for x in node.inputs:
        if x.op == "concat" and x.attr("axis") == axis:
            parts.extend(x.inputs)
        else:
            joined = _joined(parts[-1], x, axis) if parts else None
            if joined is None:
                parts.append(x)
            else:
                parts[-1] = joined
    return None if tuple(parts) == node.inputs else build.concat(parts, axis)


def _joined(a: Node, b: Node, axis: int) -> Node | None:
    if not a.op == b.op == "slice" or a.inputs != b.inputs:
        return None
    for k, (first, second) in enumerate(zip(_slice_parts(a), _slice_parts(b), strict=True)):
        if k != axis and first != second:
            return None
    start, size, step = list(zip(*_slice_parts(a), strict=True))
    start_b, size_b, step_b = list(_slice_parts(b))[axis]
    if step[axis] != step_b or size[axis] * step_b + start[axis] != start_b:
        return None
    sizes = list(size)
    sizes[axis] = size_b + size[axis]
    return build.slice_(a.inputs[0], start, sizes, step)


@rewrites("add")
def add_of_pads(node: Node) -> Node | None:
    """The adjoint of a split: zero-padded parts side by side are one join, padded once."""
    small = isinstance(node.type.size, int) and node.type.size < _FEW_ELEMENTS
    parts = list(node.inputs) if small else _summed(node)
    if any(p.op != "pad" or constant(p.inputs[1]) != 0 or any(p.attr("interior")) for p in parts):
        return None
    for k, first in enumerate(parts):
        for j, second in enumerate(parts):
            joined = _side_by_side(first, second)
            if joined is not None:
                rest = [p for i, p in enumerate(parts) if i not in (k, j)]
                return functools.reduce(functools.partial(build.elementwise, "add"), rest, joined)
    return None


_MAX_PARTS = 16  # of a sum
_FEW_ELEMENTS = 16  # fit a register as they are


def _summed(node: Node) -> list[Node]:
    """What a sum of a few is the sum of, from left to right."""
    found: list[Node] = []
    stack = [node]
    while stack:
        node = stack.pop()
        if node.op == "add" and len(stack) + len(found) < _MAX_PARTS:
            stack += reversed(node.inputs)
        else:
            found.append(node)
    return found


def _side_by_side(first: Node, second: Node) -> Node | None:
    """Two padded arrays as one, where the second begins at the end of the first."""
    x, y = first.inputs[0], second.inputs[0]
    low, high = first.attr("low"), list(first.attr("high"))
    differ = [
        k for k in range(first.ndim)
        if (low[k], high[k]) != (second.attr("low")[k], second.attr("high")[k])
    ]  # fmt: skip
    if len(differ) != 1:
        return None
    (axis,) = differ
    if second.attr("low")[axis] != low[axis] + x.shape[axis]:
        return None
    high[axis] = second.attr("high")[axis]
    return build.pad(build.concat((x, y), axis), low, high)


# --------------------------------------------------------------------- work before the broadcast


_ELEMENTWISE = tuple(name for name, row in OPS.items() if row.kind == "elementwise")


@rewrites(*_ELEMENTWISE)
def elementwise_of_broadcasts(node: Node) -> Node | None:
    """``f(broadcast(a), broadcast(b))`` is ``broadcast(f(a, b))`` over the axes that a or b has."""
    if any(i.op != "broadcast" for i in node.inputs):
        return None
    used = sorted(set().union(*(i.attr("dims") for i in node.inputs)))
    repeated = [d for a, d in enumerate(node.shape) if a not in used]
    all_constant = all(constant(i) is not None for i in node.inputs)
    if not all_constant and all(d == 1 for d in repeated):
        return None
    shape = [node.shape[a] for a in used]
    operands = [
        build.broadcast(i.inputs[0], shape, [used.index(d) for d in i.attr("dims")])
        for i in node.inputs
    ]
    small = build.make(node.op, operands, **dict(node.attrs))
    return build.broadcast(small, node.shape, used)


@rewrites(*_ELEMENTWISE)
def elementwise_of_reshapes(node: Node) -> Node | None:
    """keepdims: work is done before axes of size 1 are put back, so a broadcast can absorb them."""
    shape = tuple(d for d in node.shape if d != 1)
    if len(shape) == node.ndim or not any(i.op == "reshape" for i in node.inputs):
        return None
    operands = []
    for i in node.inputs:
        if i.op == "reshape" and i.inputs[0].shape == shape:
            operands.append(i.inputs[0])
        elif constant(i) is not None:
            operands.append(build.broadcast(_scalar_source(i), shape, ()))
        else:
            return None
    return build.reshape(build.make(node.op, operands, **dict(node.attrs)), node.shape)


_FEW = 4  # elements of a vector that are worth a scalar each


@rewrites(*_ELEMENTWISE)
def elementwise_of_stacked_scalars(node: Node) -> Node | None:
    """The state of a small system, ``np.stack([x, v])``: work is done on the scalars, which
    neither wait in memory nor need kernels to join and to part them."""
    if node.ndim != 1 or not any(_stacked(i) for i in node.inputs):
        return None
    if not all(_stacked(i) or _is_repeated(i) for i in node.inputs):
        return None
    parts = []
    for k in range(node.shape[0]):
        operands = [
            build.reshape(i.inputs[k], ()) if _stacked(i) else i.inputs[0] for i in node.inputs
        ]
        parts.append(build.reshape(build.make(node.op, operands, **dict(node.attrs)), (1,)))
    return build.concat(parts, 0)


def _stacked(node: Node) -> bool:
    few = node.op == "concat" and node.ndim == 1 and len(node.inputs) <= _FEW
    return few and all(i.shape == (1,) for i in node.inputs)


def _is_repeated(node: Node) -> bool:
    return node.op == "broadcast" and not node.inputs[0].ndim


def _scalar_source(node: Node) -> Node:
    return node.inputs[0] if node.op == "broadcast" else node


@rewrites("pad")
def pad_of_pad(node: Node) -> Node | None:
    """Twice the same padding is one."""
    inner, fill = node.inputs
    if not _is_frame(node) or not _is_frame(inner) or inner.inputs[1] is not fill:
        return None
    low, high = (
        [p + q for p, q in zip(node.attr(key), inner.attr(key), strict=True)]
        for key in ("low", "high")
    )
    return build.pad(inner.inputs[0], low, high, None, fill)


@rewrites("where")
def where_of_pad(node: Node) -> Node | None:
    """What masks the adjoint of a slice with zeros need not look at the padding."""
    mask, x, zero = node.inputs
    if not _is_frame(x) or constant(x.inputs[1]) != 0 or constant(zero) != 0:
        return None
    inner = x.inputs[0]
    mask = build.slice_(mask, x.attr("low"), inner.shape, (1,) * x.ndim)
    zero = build.slice_(zero, x.attr("low"), inner.shape, (1,) * x.ndim)
    chosen = build.make("where", (mask, inner, zero))
    return build.pad(chosen, x.attr("low"), x.attr("high"), None, x.inputs[1])


def _is_frame(node: Node) -> bool:
    """Whether a node is an array with elements around it."""
    if node.op != "pad" or any(node.attr("interior")):
        return False
    sizes = (*node.attr("low"), *node.attr("high"))
    return all(not isinstance(d, int) or d >= 0 for d in sizes)


RULES = (
    elementwise_of_reshapes,
    reshape_of_reshape,
    reshape_of_broadcast,
    broadcast_of_broadcast,
    broadcast_of_reshape,
    broadcast_as_reshape,
    transpose_of_transpose,
    transpose_as_reshape,
    transpose_of_reshape,
    transpose_of_broadcast,
    slice_of_slice,
    slice_of_broadcast,
    slice_of_pad,
    slice_of_concat,
    concat_of_slices,
    add_of_pads,
    pad_of_pad,
    where_of_pad,
    elementwise_of_stacked_scalars,
    elementwise_of_broadcasts,
)
