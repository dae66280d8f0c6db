"""``x[...]``, ``x[...] = v``, take: basic, integer-array and constant-mask indexing."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from graphc.errors import IndexingError, ShapeError, SymbolicDimError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.dims import Dim, exact_div, product
from graphc.ir.node import Node
from graphc.trace import blame, shaping
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast
from graphc.trace.elementwise import broadcast_shapes, shape_text, truth
from graphc.trace.shaping import part
from graphc.trace.tracer import Tracer

# --------------------------------------------------------------------------- symbolic bounds


def minimum(dim) -> int | None:
    """The least value of a dimension (every symbol is at least 1), None where unknown."""
    if not isinstance(dim, Dim):
        return dim
    if any(coeff < 0 for names, coeff in dim.terms if names):
        return None
    return dim.evaluate(dict.fromkeys(dim.symbols, 1))


def _at_least(dim, least: int) -> bool:
    low = minimum(dim)
    return low is not None and low >= least


def slice_bounds(item: slice, size) -> tuple:
    """``(start, length, step)`` of a slice along an axis of ``size``."""
    if isinstance(size, int) and not any(
        isinstance(b, Dim) for b in (item.start, item.stop, item.step)
    ):
        start, stop, step = item.indices(size)
        return start, len(range(start, stop, step)), step
    step = 1 if item.step is None else item.step.__index__()
    unknown = SymbolicDimError(f"slice {item} of an axis of size {size}")
    if step < 0:
        if item.start is None and item.stop is None and step == -1:
            return size - 1, size, -1
        raise unknown
    bounds = []
    for bound, default in ((item.start, 0), (item.stop, size)):
        if bound is None:
            bounds.append(default)
            continue
        bound = bound if isinstance(bound, Dim) else bound.__index__()
        if isinstance(bound, int) and bound < 0:
            bound = size + bound
        if not (_at_least(bound, 0) and _at_least(size - bound, 0)):
            raise unknown
        bounds.append(bound)
    start, stop = bounds
    length = exact_div(stop - start, step)
    if length is None or not _at_least(stop - start, 0):
        raise unknown
    return start, length, step


def position(index: int, axis: int, shape) -> object:
    """An integer index made non-negative; IndexingError outside the axis."""
    size = shape[axis]
    if isinstance(size, Dim):
        if not _at_least(size, index + 1 if index >= 0 else -index):
            raise SymbolicDimError(f"index {index} on an axis of size {size}")
    elif not -size <= index < size:
        raise IndexingError(
            f"index {index} is out of bounds: axis {axis} of shape {shape_text(shape)} has "
            f"size {size}"
        )
    return index if index >= 0 else size + index


# ------------------------------------------------------------------------------ classification


@dataclass(frozen=True, eq=False)
class Basic:
    """A region of slices: one start, size and step an axis; axes of integers are dropped."""

    start: tuple
    size: tuple
    step: tuple
    dropped: tuple[bool, ...]
    slots: tuple[str, ...]  # in result order: "dim" (of the array), "new", "adv"
    apart: bool = False  # advanced indices with a slice between: their axes go first

    def region(self, x: Node) -> Node:
        return build.slice_(x, self.start, self.size, self.step)

    @property
    def shape(self) -> tuple:
        """The shape of the basic part, new axes included."""
        kept = iter([d for d, gone in zip(self.size, self.dropped, strict=True) if not gone])
        return tuple(1 if s == "new" else next(kept) for s in self.slots)

    def read(self, x: Node) -> Node:
        return build.reshape(self.region(x), self.shape)


def _mask_arrays(mask: np.ndarray, axis: int, shape) -> list[np.ndarray]:
    for i, length in enumerate(mask.shape):
        if axis + i >= len(shape):
            raise IndexingError(
                f"the boolean mask has {mask.ndim} axes, the array only {len(shape)}"
            )
        size = shape[axis + i]
        if isinstance(size, Dim):
            raise SymbolicDimError(f"boolean mask on an axis of size {size}")
        if size != length:
            raise IndexingError(
                f"the boolean mask has length {length}, but axis {axis + i} of shape "
                f"{shape_text(shape)} has size {size}"
            )
    return list(mask.nonzero())


def _concrete(item):
    """An index item as int, None, slice, Ellipsis, ndarray or Tracer."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, Dim):
        return item.__index__()
    if isinstance(item, Tracer):
        value = blame.constant_value(item.node)
        if value is None:
            return item
        item = value
    if isinstance(item, bool | np.bool_):
        raise TraceError("True or False as an index is not supported; use x[None] or np.where")
    array = np.asarray(item)
    if array.dtype == bool:
        return array
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.intp)
    if array.dtype.kind not in "iu":
        kind = item.dtype if hasattr(item, "dtype") else type(item).__name__
        raise IndexingError(
            f"an index must be an integer, slice, None, Ellipsis, integer array or boolean mask, "
            f"not {kind}"
        )
    return int(array) if array.ndim == 0 else array


def data_dependent(what: str) -> TraceError:
    return TraceError(
        f"{what}: the size of the result depends on the data, which a static graph cannot hold.\n"
        "Use np.where(mask, x, fill), which keeps the shape, or pass the result as an argument."
    )


def parse(context, index, shape) -> tuple[Basic, list]:
    """The basic part of an index and its advanced arrays (ndarray or Tracer), in slot order."""
    items = list(index) if isinstance(index, tuple) else [index]
    for i, item in enumerate(items):
        if isinstance(item, list):
            items[i] = context.lift(item)
    items = [_concrete(i) for i in items]
    flat: list = []
    used = 0
    for item in items:
        is_mask = isinstance(item, np.ndarray | Tracer) and item.dtype == bool
        used += item.ndim if is_mask else item is not None and item is not Ellipsis
    if used > len(shape):
        raise IndexingError(
            f"too many indices: shape {shape_text(shape)} has {len(shape)} axes, "
            f"but {used} were indexed"
        )
    if sum(i is Ellipsis for i in items) > 1:
        raise IndexingError("an index can have only one ellipsis ('...')")
    if not any(i is Ellipsis for i in items):
        items.append(Ellipsis)
    axis = 0
    for item in items:
        if item is Ellipsis:
            flat += [slice(None)] * (len(shape) - used)
            axis += len(shape) - used
        elif isinstance(item, np.ndarray) and item.dtype == bool:
            flat += _mask_arrays(item, axis, shape)
            axis += item.ndim
        else:
            if isinstance(item, Tracer) and item.dtype == bool:
                raise data_dependent("x[mask] with a traced mask")
            flat.append(item)
            axis += item is not None
    return _assemble(flat, shape)


def _assemble(items, shape) -> tuple[Basic, list]:
    start, size, step, dropped, slots, advanced, where_advanced = [], [], [], [], [], [], []
    has_arrays = any(isinstance(i, np.ndarray | Tracer) for i in items)
    axis = 0
    for place, item in enumerate(items):
        if item is None:
            slots.append("new")
            continue
        bounds, gone = (0, shape[axis], 1), False
        if isinstance(item, slice):
            bounds = slice_bounds(item, shape[axis])
            slots.append("dim")
        elif isinstance(item, int):
            bounds, gone = (position(item, axis, shape), 1, 1), True
            if has_arrays:
                where_advanced.append(place)
        else:
            slots.append("adv")
            advanced.append(_checked(item, axis, shape))
            where_advanced.append(place)
        for parts, value in zip((start, size, step), bounds, strict=True):
            parts.append(value)
        dropped.append(gone)
        axis += 1
    apart = any(b - a > 1 for a, b in pairwise(where_advanced))
    parts = (tuple(start), tuple(size), tuple(step), tuple(dropped), tuple(slots))
    return Basic(*parts, apart), advanced


def _checked(item, axis: int, shape):
    """A constant index array without negative or outside values; a traced one as it is."""
    if isinstance(item, Tracer):
        if item.dtype.kind not in "iu":
            raise IndexingError(f"an index array must hold integers, not {item.dtype}")
        return item
    size = shape[axis]
    if isinstance(size, Dim):
        for extreme in (item.min(), item.max()) if item.size else ():
            if not _at_least(size, int(extreme) + 1 if extreme >= 0 else -int(extreme)):
                raise SymbolicDimError(f"index {extreme} on an axis of size {size}")
        if item.size and item.min() < 0:
            raise SymbolicDimError(f"negative indices on an axis of size {size}")
        return item
    bad = item[(item < -size) | (item >= size)]
    if bad.size:
        position(int(bad.flat[0]), axis, shape)
    return np.where(item < 0, item + size, item).astype(np.int64)


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
        at = build.broadcast(wrapped_index(cast(index.node, np.int64), size), x.shape, ())
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


# --------------------------------------------------------------------------------------- take


def _bounded(context, index: Node, size, mode: str) -> Node:
    if mode == "raise":
        return wrapped_index(index, size)
    index = cast(index, np.int64)
    length = build.broadcast_to(build.size(size, np.int64), index.shape)
    if mode == "wrap":
        return op("mod", index, length)
    last = op("sub", length, build.full_like(index, 1))
    return op("minimum", op("maximum", index, build.full_like(index, 0)), last)


@implements(np.take)
def take(context, a, indices, axis=None, *, mode="raise"):
    x = context.lift(a).node
    index = context.lift(indices)
    if axis is None:
        x, axis = build.reshape(x, (x.type.size,)), 0
    axis = normalize_axis_index(axis, x.ndim)
    value = blame.constant_value(index.node) if mode == "raise" else None
    if value is not None:
        return context.wrap(build.take(x, build.const(_checked(value, axis, x.shape)), axis))
    return context.wrap(build.take(x, _bounded(context, index.node, x.shape[axis], mode), axis))


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(context, x, window_shape, axis=None, *, subok=False, writeable=False):
    """The windows along each axis, gathered; the windows' own axes come last."""
    array = context.lift(x)
    node, sizes = array.node, shaping.dims_of(window_shape)
    axes = tuple(range(node.ndim)) if axis is None else normalize_axis_tuple(axis, node.ndim)
    if len(sizes) != len(axes):
        raise ShapeError(f"sliding_window_view: {len(sizes)} window sizes for {len(axes)} axes")
    for size, at in zip(sizes, axes, strict=True):
        count = node.shape[at].__index__() - size + 1
        if count < 0 or size < 0:
            raise ShapeError(f"sliding_window_view: window {size} does not fit axis {at}")
        index = build.const(np.arange(count)[:, None] + np.arange(size))
        node = build.take(node, index, at)
        order = [i for i in range(node.ndim) if i != at + 1]
        node = build.transpose(node, [*order, at + 1])
    return context.wrap(node)


@implements(np.convolve)
def convolve(context, a, v, mode="full"):
    x, kernel = context.lift(a), context.lift(v)
    if x.ndim != 1 or kernel.ndim != 1:
        raise ShapeError("np.convolve takes two vectors")
    if isinstance(x.shape[0], Dim) or x.shape[0] < kernel.shape[0]:
        x, kernel = kernel, x
    n, k = x.shape[0].__index__(), kernel.shape[0].__index__()
    if mode not in ("full", "same", "valid"):
        raise TraceError(f"np.convolve: unknown mode {mode!r}; available: full, same, valid")
    windows = sliding_window_view(context, np.pad(x, k - 1), k) @ kernel[::-1]
    first = {"full": 0, "same": (k - 1) // 2, "valid": k - 1}[mode]
    length = {"full": n + k - 1, "same": n, "valid": n - k + 1}[mode]
    return windows[first : first + length].copy()


@implements(np.correlate)
def correlate(context, a, v, mode="valid"):
    x, kernel = context.lift(a), context.lift(v)
    if x.shape[0] < kernel.shape[0]:
        raise TraceError("np.correlate of traced values: the first vector must be the longer")
    return convolve(context, x, kernel[::-1], mode)


@implements(np.take_along_axis)
def take_along_axis(context, arr, indices, axis=-1):
    x, index = context.lift(arr).node, context.lift(indices).node
    if axis is None:
        x, axis = build.reshape(x, (x.type.size,)), 0
    axis = normalize_axis_index(axis, x.ndim)
    if x.ndim != index.ndim:
        raise ShapeError(
            f"take_along_axis: {shape_text(x.shape)} and indices {shape_text(index.shape)} need "
            "the same number of axes"
        )
    outer = broadcast_shapes(
        "take_along_axis",
        tuple(1 if i == axis else d for i, d in enumerate(x.shape)),
        tuple(1 if i == axis else d for i, d in enumerate(index.shape)),
    )
    size = x.shape[axis]
    x = build.broadcast_to(x, [x.shape[axis] if i == axis else d for i, d in enumerate(outer)])
    wide = [index.shape[axis] if i == axis else d for i, d in enumerate(outer)]
    index = build.broadcast_to(wrapped_index(index, size), wide)
    return context.wrap(build.take_along(x, index, axis))
