"""``x[...]`` and ``x[...] = v``: basic, integer-array and constant-mask indexing."""

from __future__ import annotations

import operator

import numpy as np

from graphc.errors import IndexingError, ShapeError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.dims import product
from graphc.ir.node import Node
from graphc.trace import blame
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast
from graphc.trace.elementwise import broadcast_shapes, shape_text, truth
from graphc.trace.indices import Basic, data_dependent, parse
from graphc.trace.shaping import part
from graphc.trace.tracer import Tracer

# ------------------------------------------------------------------------------------ reading


def wrapped_index(index: Node, size) -> Node:
    """A traced index with negative values counted from the end."""
    if index.dtype.kind == "u":
        return index
    index = cast(index, np.int64)
    length = build.broadcast_to(build.size(size, np.int64), index.shape)
    negative = op("lt", index, build.full_like(index, 0))
    return op("where", negative, op("add", index, length), index)


def _index_nodes(context, advanced, sizes) -> list[Node]:
    nodes = []
    for item, size in zip(advanced, sizes, strict=True):
        if isinstance(item, Tracer):
            nodes.append(wrapped_index(item.node, size))
        else:
            nodes.append(build.const(item))
    return nodes


def _linear(nodes: list[Node], sizes, joint) -> Node:
    """Row-major position of several indices; outside if any one of them is."""
    constants = [blame.constant_value(n) for n in nodes]
    if all(c is not None for c in constants) and all(isinstance(s, int) for s in sizes):
        arrays = np.broadcast_arrays(*constants)
        return build.const(np.ravel_multi_index(arrays, sizes).astype(np.int64))
    total, inside = None, None
    for node, size in zip(nodes, sizes, strict=True):
        index = build.broadcast_to(cast(node, np.int64), joint)
        length = build.broadcast_to(build.size(size, np.int64), joint)
        total = index if total is None else op("add", op("mul", total, length), index)
        if node.op != "const":
            fits = op("logical_and", op("ge", index, build.full_like(index, 0)),
                      op("lt", index, length))  # fmt: skip
            inside = fits if inside is None else op("logical_and", inside, fits)
    return total if inside is None else op("where", inside, total, build.full_like(total, -1))


def _is_counting(node: Node, size) -> bool:
    """Is this index 0, 1, ..., size-1 along its first axis (other axes of size 1)?"""
    if node.shape != (size, *(1,) * (node.ndim - 1)):
        return False
    if node.op == "iota":
        return node.attr("axis") == 0
    value = node.attr("value").array if node.op == "const" else None
    return value is not None and np.array_equal(value.ravel(), np.arange(value.size))


def gather(context, x: Node, basic: Basic, advanced) -> Node:
    """Advanced indexing of what the basic part leaves."""
    x = basic.read(x)
    places = [i for i, s in enumerate(basic.slots) if s == "adv"]
    sizes = [x.shape[p] for p in places]
    nodes = _index_nodes(context, advanced, sizes)
    joint = broadcast_shapes("index", *(n.shape for n in nodes))
    front = basic.apart
    if len(places) == 1:
        result = build.take(x, nodes[0], places[0])
        at = places[0]
    elif (
        x.ndim == 2
        and len(joint) in (1, 2)
        and joint[0] == x.shape[0]
        and _is_counting(nodes[0], x.shape[0])
        and nodes[0].ndim == len(joint)
    ):
        columns = build.broadcast_to(nodes[1], joint)
        along = build.reshape(columns, joint if len(joint) == 2 else (*joint, 1))
        return build.reshape(build.take_along(x, along, 1), joint)
    else:
        at = 0 if front else places[0]
        rest = [i for i in range(x.ndim) if i not in places]
        perm = rest[:at] + places + rest[at:]
        x = build.transpose(x, perm)
        merged = (*x.shape[:at], product(sizes), *x.shape[at + len(places) :])
        result = build.take(build.reshape(x, merged), _linear(nodes, sizes, joint), at)
    if front and at:
        span = range(at, at + len(joint))
        result = build.transpose(result, [*span, *(i for i in range(result.ndim) if i not in span)])
    return result


@implements(operator.getitem)
def getitem(context, x, index):
    node = x.node
    basic, advanced = parse(context, index, node.shape)
    if advanced:
        return context.wrap(gather(context, node, basic, advanced))
    result = basic.read(node)
    if not result.ndim:
        return context.wrap(result)
    return x.view(result, basic.read, lambda parent, new: update(parent, basic, new), index)


# ------------------------------------------------------------------------------------ writing


def update(x: Node, basic: Basic, value: Node) -> Node:
    """``x`` with a region of slices replaced; ``value`` has the shape of the basic part."""
    value = build.reshape(value, basic.size)
    start, step = list(basic.start), list(basic.step)
    backward = [s < 0 for s in step]
    if any(backward):
        ends = [n - 1 if b else 0 for n, b in zip(basic.size, backward, strict=True)]
        turn = [-1 if b else 1 for b in backward]
        value = build.slice_(value, ends, basic.size, turn)
        for axis in (a for a, b in enumerate(backward) if b):
            start[axis] = start[axis] + (basic.size[axis] - 1) * step[axis]
            step[axis] = -step[axis]
    if any(n == 0 for n in basic.size):
        return x
    if all(s == 1 or n == 1 for s, n in zip(step, basic.size, strict=True)):
        return _replace(x, start, basic.size, value)
    gaps = [s - 1 for s in step]
    low = start
    high = [
        d - a - ((n - 1) * s + 1)
        for d, a, n, s in zip(x.shape, start, basic.size, step, strict=True)
    ]
    inside = build.full(basic.size, True, bool)
    inside = build.pad(inside, low, high, gaps, build.const(False))
    return op("where", inside, build.pad(value, low, high, gaps), x)


def _replace(x: Node, start, size, value: Node) -> Node:
    """A contiguous box replaced, by joining what surrounds it axis by axis."""
    axes = [i for i, d in enumerate(x.shape) if size[i] != d]
    bands = [x]  # bands[k]: x cut to the box on the first k of these axes
    for axis in axes[:-1]:
        bands.append(part(bands[-1], axis, start[axis], size[axis]))
    for axis, band in zip(reversed(axes), reversed(bands), strict=bool(axes)):
        end = start[axis] + size[axis]
        before, after = (
            part(band, axis, 0, start[axis]),
            part(band, axis, end, band.shape[axis] - end),
        )
        value = build.concat([p for p in (before, value, after) if p.shape[axis] != 0], axis)
    return value


def _fitted(context, value, dtype, shape) -> Node:
    """The assigned value, cast and broadcast to ``shape`` (extra leading axes of size 1 go)."""
    value = context.lift(value)
    node = cast(value.node, dtype)
    while node.ndim > len(shape) and node.shape[0] == 1:
        node = build.reshape(node, node.shape[1:])
    try:
        fits = broadcast_shapes("assignment", node.shape, shape) == tuple(shape)
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(
            f"cannot assign shape {shape_text(value.shape)} to an index of shape "
            f"{shape_text(shape)}"
        )
    return build.broadcast_to(node, shape)


@implements(operator.setitem)
def setitem(context, x, index, value):
    if x.weak:
        raise TypeError("a Python number does not support item assignment")
    if isinstance(value, Tracer) and _is_own_part(x, index, value):
        return  # x[i] += v: the view has written itself back already
    node = x.node
    mask = _as_mask(context, index)
    if mask is not None:
        x.assign(_masked(context, node, mask, value))
        return
    basic, advanced = parse(context, index, node.shape)
    if advanced:
        x.assign(_scatter(context, node, basic, advanced, value))
        return
    x.assign(update(node, basic, _fitted(context, value, node.dtype, basic.shape)))


def _is_own_part(x, index, value) -> bool:
    view = value._view
    if view is None or value._storage is not x._storage or view.parent is not x._view:
        return False
    return _plain(index) and _plain(view.index) and index == view.index


def _plain(index) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, int | slice) for i in items)


def _as_mask(context, index):
    if isinstance(index, list):
        index = np.asarray(index)
    if isinstance(index, Tracer) and index.dtype == bool and index.ndim:
        return index
    if isinstance(index, np.ndarray) and index.dtype == bool and index.ndim:
        return context.lift(index)
    return None


def _masked(context, x: Node, mask, value) -> Node:
    for axis, (length, size) in enumerate(zip(mask.shape, x.shape, strict=False)):
        if length != size:
            raise IndexingError(
                f"the boolean mask has length {length}, but axis {axis} of shape "
                f"{shape_text(x.shape)} has size {size}"
            )
    if mask.ndim > x.ndim:
        raise IndexingError(f"the boolean mask has {mask.ndim} axes, the array only {x.ndim}")
    value = context.lift(value)
    rest = x.shape[mask.ndim :]
    if value.ndim > len(rest):
        raise data_dependent("x[mask] = values with one value an element")
    chosen = build.broadcast(truth(mask.node), x.shape, range(mask.ndim))
    return op("where", chosen, _fitted(context, value, x.dtype, x.shape), x)


def _scatter(context, x: Node, basic: Basic, advanced, value) -> Node:
    """``x[.., i, ..] = v`` for one constant index array, or one traced scalar."""
    axis = basic.slots.index("adv")
    simple = (
        len(advanced) == 1
        and basic.size == x.shape
        and not any(basic.dropped)
        and "new" not in basic.slots
        and all(s == 1 for s in basic.step)
    )
    if not simple or (isinstance(advanced[0], Tracer) and advanced[0].ndim):
        raise TraceError(
            "x[index] = v is supported for slices, boolean masks, one traced integer and one "
            "constant index array.\nTo add at traced indices write np.add.at(x, index, v)."
        )
    index, size = advanced[0], x.shape[axis]
    if isinstance(index, Tracer):
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        value = _fitted(context, value, x.dtype, shape)
        value = build.broadcast(value, x.shape, [i for i in range(x.ndim) if i != axis])
        at = wrapped_index(cast(index.node, np.int64), size)
        at = build.take(build.iota((size,), 0), at, 0)  # itself, checked at run time
        at = build.broadcast(at, x.shape, ())
        return op("where", op("eq", build.iota(x.shape, axis), at), value, x)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    value = _fitted(context, value, x.dtype, (*before, *index.shape, *after))
    value = build.reshape(value, (*before, index.size, *after))
    source = np.full(size, -1)
    source[index.ravel()] = np.arange(index.size)  # the last of equal indices wins
    written = build.const(source >= 0)
    moved = build.take(value, build.const(np.maximum(source, 0)), axis)
    return op("where", build.broadcast(written, x.shape, (axis,)), moved, x)


def add_at(context, x, index, value) -> None:
    """``np.add.at(x, index, value)``: equal indices accumulate."""
    if not isinstance(x, Tracer):
        raise TraceError(
            "np.add.at on a plain NumPy array cannot hold traced values; create it with "
            "graphc.numpy.zeros"
        )
    node = x.node
    items = index if isinstance(index, tuple) else (index,)
    items = tuple(i if isinstance(i, Tracer) else np.asarray(i) for i in items)
    basic, advanced = parse(context, items, node.shape)
    count = len(items)
    if basic.slots[:count] != ("adv",) * count:
        raise TraceError("np.add.at takes one integer array for each leading axis")
    sizes = node.shape[:count]
    nodes = _index_nodes(context, advanced, sizes)
    joint = broadcast_shapes("index", *(n.shape for n in nodes))
    position_of = nodes[0] if count == 1 else _linear(nodes, sizes, joint)
    rest = node.shape[count:]
    updates = _fitted(context, value, node.dtype, joint + rest)
    added = build.scatter_add(position_of, updates, 0, product(sizes))
    x.assign(op("add", node, build.reshape(added, node.shape)))
