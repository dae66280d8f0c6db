"""``x[...]`` and ``x[...] = v``: basic, integer-array and constant-mask indexing."""

from __future__ import annotations

import operator
from typing import NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from graphc.errors import DTypeError, IndexingError, ShapeError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.dims import product
from graphc.ir.node import Node
from graphc.trace import blame
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast, converted
from graphc.trace.elementwise import broadcast_shapes, truth
from graphc.trace.indices import Basic, data_dependent, parse
from graphc.trace.shaping import part
from graphc.trace.source import updates_item
from graphc.trace.tracer import Tracer
from graphc.wording import shape_text

# ------------------------------------------------------------------------------------ reading


def wrapped_index(index: Node, size) -> Node:
    """A traced index with negative values counted from the end."""
    if index.dtype.kind == "u":
        return index
    index = cast(index, np.int64)
    length = build.broadcast_to(build.size(size, np.int64), index.shape)
    negative = op("lt", index, build.full_like(index, 0))
    return op("where", negative, op("add", index, length), index)


def _index_nodes(advanced, sizes) -> list[Node]:
    nodes = []
    for item, size in zip(advanced, sizes, strict=True):
        if isinstance(item, Tracer):
            nodes.append(wrapped_index(item.node, size))
        else:
            nodes.append(build.const(item))
    return nodes


def checked_index(index: Node, size) -> Node:
    """A traced index as int64, negative values counted from the end, checked at run time."""
    return build.check_index(wrapped_index(cast(index, np.int64), size), size)


def checked_position(index: Node, size) -> Node:
    """A traced index as int64, checked at run time; a negative one is out of range."""
    return build.check_index(cast(index, np.int64), size)


def _linear(nodes: list[Node], sizes, joint) -> Node:
    """Row-major position of several indices, each checked against its own axis."""
    constants = [blame.constant_value(n) for n in nodes]
    if all(c is not None for c in constants) and all(isinstance(s, int) for s in sizes):
        arrays = np.broadcast_arrays(*constants)
        return build.const(np.ravel_multi_index(arrays, sizes).astype(np.int64))
    total = None
    for node, size in zip(nodes, sizes, strict=True):
        index = cast(node, np.int64)
        if node.op != "const":
            index = build.check_index(index, size)
        index = build.broadcast_to(index, joint)
        length = build.broadcast_to(build.size(size, np.int64), joint)
        total = index if total is None else op("add", op("mul", total, length), index)
    return total


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
    nodes = _index_nodes(advanced, sizes)
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
    if isinstance(index, Tracer) and index.dtype == bool and index.ndim and updates_item():
        # of ``x[mask] += v``: all of x is computed with
        mask = _checked_mask(index, node.shape)
        context.augmented = (context.wrap(node), mask)
        return context.augmented[0]
    among = _masked_region(index, node.shape)
    if among is not None and updates_item():
        context.augmented = (context.wrap(x[among.region].node), index)
        return context.augmented[0]
    basic, advanced = parse(context, index, node.shape)
    result = gather(context, node, basic, advanced) if advanced else basic.read(node)
    if not result.ndim and not _has_ellipsis(index):
        return context.wrap(result)  # a number, not a view
    arrays = advanced and not all(isinstance(i, Tracer) and not i.ndim for i in advanced)
    if arrays or _has_array(index):
        return context.wrap(result)
    if advanced:
        return x.seen_as(  # at a number that only the call knows: a view, as at any number
            result,
            lambda parent: gather(context, parent, basic, advanced),
            lambda parent, new: _scatter(context, parent, basic, advanced, context.wrap(new)),
            index,
        )
    move = operator.itemgetter(index) if _plain(index) else None
    return x.seen_as(
        result, basic.read, lambda parent, new: update(parent, basic, new), index, move
    )


def _has_array(index) -> bool:
    """An array of no axes is an index array to NumPy: what it picks is a copy."""
    items = index if isinstance(index, tuple) else (index,)
    return any(isinstance(i, np.ndarray) for i in items)


def _has_ellipsis(index) -> bool:
    return index is Ellipsis or (isinstance(index, tuple) and any(i is Ellipsis for i in index))


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
    if value.dtype.kind == "c" and dtype.kind != "c":
        raise DTypeError(
            f"cannot assign a {value.dtype} value to elements of {dtype}; write .real, or make the "
            "array complex"
        )
    node = converted(value, dtype)
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
    whole, marked = context.augmented or (None, None)
    among = _masked_region(index, x.shape)
    if among is not None:
        context.augmented = None
        region, value = x[among.region], context.lift(value)
        behind = region.ndim - among.axes.stop if among.only_slices else 0
        if value.ndim > behind and (value is not whole or index is not marked):
            raise data_dependent("x[mask, ...] = values with one value an element")
        chosen = build.broadcast(truth(among.mask.node), region.shape, among.axes)
        shape, dtype = region.shape, region.dtype
        region[...] = context.wrap(
            op("where", chosen, _fitted(context, value, dtype, shape), region.node)
        )
        return
    if value is whole and index is marked:
        context.augmented = None
        chosen = build.broadcast(truth(index.node), x.shape, range(index.ndim))
        x.assign(op("where", chosen, value.node, x.node))
        return
    node = x.node
    mask = _as_mask(context, index)
    if mask is not None:
        replaced = _masked(context, node, mask, value)
        if replaced is not None:
            x.assign(replaced)
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
    if view.index is index:  # x[i] += v asks for one index twice
        return True
    return _plain(index) and _plain(view.index) and index == view.index


def _plain(index) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, int | slice) for i in items)


class _MaskedRegion(NamedTuple):
    """``x[1:, mask]``: the region that the slices leave, and where the mask stands in it."""

    mask: Tracer
    region: tuple
    axes: range
    only_slices: bool  # around the mask


def _masked_region(index, shape) -> _MaskedRegion | None:
    """A traced mask among slices and numbers; None where the index is another one."""
    if not isinstance(index, tuple):
        return None
    masks = [k for k, i in enumerate(index) if isinstance(i, Tracer) and i.dtype == bool and i.ndim]
    if len(masks) != 1:
        return None
    place, mask = masks[0], index[masks[0]]
    before, after = index[:place], index[place + 1 :]
    if not _plain(before) or not _plain(after) or blame.constant_value(mask.node) is not None:
        return None
    used = sum(i is not None and i is not Ellipsis for i in (*before, *after)) + mask.ndim
    if used > len(shape):
        return None  # whose error parse tells
    hidden = len(shape) - used if Ellipsis in before else 0
    axis = hidden + sum(i is not None and i is not Ellipsis for i in before)
    _checked_mask(mask, shape[axis:])
    first = hidden + sum(i is None or isinstance(i, slice) for i in before)
    region = (*before, *(slice(None),) * mask.ndim, *after)
    numbers = any(isinstance(i, int) for i in (*before, *after))
    return _MaskedRegion(mask, region, range(first, first + mask.ndim), not numbers)


def _as_mask(context, index):
    if isinstance(index, list):
        index = np.asarray(index)
    if isinstance(index, Tracer) and index.dtype == bool and index.ndim:
        return index
    if isinstance(index, np.ndarray) and index.dtype == bool and index.ndim:
        return context.lift(index)
    return None


def _checked_mask(mask, shape):
    for axis, (length, size) in enumerate(zip(mask.shape, shape, strict=False)):
        if length != size:
            raise IndexingError(
                f"the boolean mask has length {length}, but axis {axis} of shape "
                f"{shape_text(shape)} has size {size}"
            )
    if mask.ndim > len(shape):
        raise IndexingError(f"the boolean mask has {mask.ndim} axes, the array only {len(shape)}")
    return mask


def _masked(context, x: Node, mask, value) -> Node | None:
    """``x[mask] = v``; None where a constant mask selects a value of its own for each element."""
    _checked_mask(mask, x.shape)
    value = context.lift(value)
    rest = x.shape[mask.ndim :]
    if value.ndim > len(rest):
        if blame.constant_value(mask.node) is not None:
            return None
        raise data_dependent("x[mask] = values with one value an element")
    chosen = build.broadcast(truth(mask.node), x.shape, range(mask.ndim))
    return op("where", chosen, _fitted(context, value, x.dtype, x.shape), x)


def _scatter(context, x: Node, basic: Basic, advanced, value) -> Node:
    """``x[.., i, ..] = v``; of equal indices the last wins."""
    simple = (
        len(advanced) == 1
        and basic.size == x.shape
        and not any(basic.dropped)
        and "new" not in basic.slots
        and all(s == 1 for s in basic.step)
    )
    if not simple:
        at = _positions(context, x.shape, basic, advanced)
        value = _fitted(context, value, x.dtype, at.shape)
        flat = build.reshape(x, (x.type.size,))
        return build.reshape(build.scatter_set(flat, at, value, 0), x.shape)
    axis, index = basic.slots.index("adv"), advanced[0]
    size, before, after = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    value = _fitted(context, value, x.dtype, (*before, *index.shape, *after))
    if isinstance(index, Tracer):
        if index.ndim:
            return build.scatter_set(x, wrapped_index(index.node, size), value, axis)
        value = build.broadcast(value, x.shape, [i for i in range(x.ndim) if i != axis])
        at = build.broadcast(checked_index(index.node, size), x.shape, ())
        return op("where", op("eq", build.iota(x.shape, axis), at), value, x)
    value = build.reshape(value, (*before, index.size, *after))
    if not index.size:
        return x
    source = np.full(size, -1)
    source[index.ravel()] = np.arange(index.size)  # the last of equal indices wins
    written = build.const(source >= 0)
    moved = build.take(value, build.const(np.maximum(source, 0)), axis)
    return op("where", build.broadcast(written, x.shape, (axis,)), moved, x)


def _positions(context, shape, basic: Basic, advanced) -> Node:
    """Row-major positions of the elements that an index picks, in the shape of the result."""
    counters = build.position(build.iota(shape, 0), shape, 0)
    return gather(context, counters, basic, advanced) if advanced else basic.read(counters)


def add_at(context, x, index, value) -> None:
    """``np.add.at(x, index, value)``: equal indices accumulate."""
    if not isinstance(x, Tracer):
        raise TraceError(
            "np.add.at on a plain NumPy array cannot hold traced values; create it with "
            "graphc.numpy.zeros"
        )
    node = x.node
    items = index if isinstance(index, tuple) else (index,)
    items = tuple(
        i if isinstance(i, Tracer | slice) or i is None or i is Ellipsis else np.asarray(i)
        for i in items
    )
    basic, advanced = parse(context, items, node.shape)
    count = len(items)
    if advanced and basic.slots[:count] == ("adv",) * count:
        sizes = node.shape[:count]
        nodes = _index_nodes(advanced, sizes)
        joint = broadcast_shapes("index", *(n.shape for n in nodes))
        at = nodes[0] if count == 1 else _linear(nodes, sizes, joint)
        updates = _fitted(context, value, node.dtype, joint + node.shape[count:])
        size = product(sizes)
    else:
        at, size = _positions(context, node.shape, basic, advanced), node.type.size
        updates = _fitted(context, value, node.dtype, at.shape)
    added = build.scatter_add(at, updates, 0, size)
    x.assign(op("add", node, build.reshape(added, node.shape)))


def _target(x, name: str) -> Tracer:
    if not isinstance(x, Tracer):
        raise TraceError(
            f"{name} into a plain NumPy array cannot hold traced values; create it with "
            "graphc.numpy.zeros or graphc.numpy.array"
        )
    return x


@implements(np.put_along_axis)
def put_along_axis(context, arr, indices, values, axis=-1):
    x, index = _target(arr, "np.put_along_axis"), context.lift(indices).node
    node = x.node if axis is not None else build.reshape(x.node, (x.size,))
    axis = 0 if axis is None else normalize_axis_index(axis, node.ndim)
    if node.ndim != index.ndim:
        raise ShapeError(
            f"np.put_along_axis: {shape_text(node.shape)} and indices {shape_text(index.shape)} "
            "need the same number of axes"
        )
    wide = [index.shape[a] if a == axis else d for a, d in enumerate(node.shape)]
    index = build.broadcast_to(checked_index(index, node.shape[axis]), wide)
    at = build.position(index, node.shape, axis)
    value = _fitted(context, values, node.dtype, at.shape)
    flat = build.reshape(node, (node.type.size,))
    x.assign(build.reshape(build.scatter_set(flat, at, value, 0), x.shape))


@implements(np.put)
def put(context, a, ind, v, mode="raise"):
    x, index = _target(a, "np.put"), context.lift(ind).ravel()
    size = x.size
    if mode == "wrap":
        at = (index % size).astype(np.int64).node
    elif mode == "clip":
        at = np.clip(index, 0, size - 1).astype(np.int64).node
    else:
        at = checked_index(index.node, size)
    count = index.shape[0].__index__()
    value = np.resize(context.wrap(converted(context.lift(v), x.dtype)), count).node
    flat = build.reshape(x.node, (size,))
    x.assign(build.reshape(build.scatter_set(flat, at, value, 0), x.shape))


@implements(np.putmask)
def putmask(context, a, mask, values):
    x = _target(a, "np.putmask")
    value = context.wrap(converted(context.lift(values), x.dtype))
    if value.shape != x.shape:
        value = np.resize(value, x.shape)
    chosen = build.broadcast_to(truth(context.lift(mask).node), x.shape)
    x.assign(op("where", chosen, cast(value.node, x.dtype), x.node))


@implements(np.place)
def place(context, arr, mask, vals):
    """The k-th element where ``mask`` holds becomes the k-th of ``vals``, repeated."""
    x, values = _target(arr, "np.place"), context.lift(vals).ravel()
    chosen = np.broadcast_to(context.lift(mask).astype(bool), x.shape)
    turn = (np.cumsum(chosen).reshape(x.shape) - 1) % values.size
    x[...] = np.where(chosen, np.take(values, np.maximum(turn, 0)).astype(x.dtype), x)


def _indices_of_triangle(function):
    def handler(context, arr, k=0):
        rows, columns = (d.__index__() for d in arr.shape)
        return function(rows, k, columns)

    return handler


implements(np.tril_indices_from)(_indices_of_triangle(np.tril_indices))
implements(np.triu_indices_from)(_indices_of_triangle(np.triu_indices))


@implements(np.diag_indices_from)
def diag_indices_from(context, arr):
    return np.diag_indices(arr.shape[0].__index__(), arr.ndim)
