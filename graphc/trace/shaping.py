"""Functions that rearrange elements: reshape, transpose, join, split, repeat, pad."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from graphc.errors import ShapeError, SymbolicDimError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.dims import Dim, exact_div, product
from graphc.ir.node import Node
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast, common_dtype
from graphc.trace.elementwise import broadcast_shapes, shape_text

# ------------------------------------------------------------------------------------- views


def dims_of(shape) -> tuple:
    """A shape argument as a tuple of dimensions."""
    if isinstance(shape, Dim) or not hasattr(shape, "__len__"):
        shape = (shape,)
    return tuple(d if isinstance(d, Dim) else d.__index__() for d in shape)


def resolve_shape(x: Node, shape) -> tuple:
    """``shape`` with -1 replaced by what is left."""
    dims = dims_of(shape)
    unknown = [i for i, d in enumerate(dims) if d == -1]
    if len(unknown) > 1:
        raise ShapeError(f"reshape to {shape_text(dims)}: only one size can be -1")
    if unknown:
        rest = product(d for d in dims if d != -1)
        left = exact_div(x.type.size, rest) if rest != 0 else None
        if left is None:
            if isinstance(x.type.size, Dim) or isinstance(rest, Dim):
                raise SymbolicDimError(f"reshape of {x.type} to {shape_text(dims)}")
            raise ShapeError(
                f"cannot reshape {shape_text(x.shape)} ({x.type.size} elements) to "
                f"{shape_text(dims)}: {x.type.size} is not a multiple of {rest}"
            )
        dims = tuple(left if i in unknown else d for i, d in enumerate(dims))
    size = product(dims)
    if size != x.type.size:
        if isinstance(size, Dim) or isinstance(x.type.size, Dim):
            raise SymbolicDimError(f"reshape of {x.type} to {shape_text(dims)}")
        raise ShapeError(
            f"cannot reshape {shape_text(x.shape)} ({x.type.size} elements) to "
            f"{shape_text(dims)} ({size} elements)"
        )
    return dims


def reshaped(tracer, shape):
    """A view of the same elements under ``shape``; a copy in NumPy where memory is strided."""
    node = tracer.node
    shape = tuple(shape)
    result = build.reshape(node, shape)
    if tracer.is_view:
        return tracer.view(result, None, None)
    back = node.shape
    return tracer.view(
        result, lambda parent: build.reshape(parent, shape), lambda _, new: build.reshape(new, back)
    )


def permuted(tracer, perm):
    perm = tuple(perm)
    inverse = tuple(int(i) for i in np.argsort(perm))
    return tracer.view(
        build.transpose(tracer.node, perm),
        lambda parent: build.transpose(parent, perm),
        lambda _, new: build.transpose(new, inverse),
    )


def _resized(tracer, shape):
    """Axes of size 1 added or dropped: always a view in NumPy."""
    node = tracer.node
    shape, back = tuple(shape), node.shape
    return tracer.view(
        build.reshape(node, shape),
        lambda parent: build.reshape(parent, shape),
        lambda _, new: build.reshape(new, back),
    )


@implements(np.reshape)
def reshape(context, a, shape=None, order="C", *, newshape=None, copy=None):
    x = context.lift(a)
    if order not in ("C", "A", "K"):
        raise TraceError(f"reshape with order={order!r} is not supported; transpose first")
    result = reshaped(x, resolve_shape(x.node, newshape if shape is None else shape))
    return result.copy() if copy else result


@implements(np.ravel)
def ravel(context, a, order="C"):
    x = context.lift(a)
    if order not in ("C", "A", "K"):
        raise TraceError(f"ravel with order={order!r} is not supported; transpose first")
    return reshaped(x, (x.size,))


@implements(np.transpose, np.permute_dims)
def transpose(context, a, axes=None):
    x = context.lift(a)
    if axes is None:
        return permuted(x, range(x.ndim)[::-1])
    axes = normalize_axis_tuple(axes, x.ndim)
    if len(axes) != x.ndim:
        raise ShapeError(f"transpose: axes {axes} do not fit {shape_text(x.shape)}")
    return permuted(x, axes)


@implements(np.matrix_transpose, getattr(np.linalg, "matrix_transpose", None))
def matrix_transpose(context, x):
    return swapaxes(context, x, -1, -2)


@implements(np.swapaxes)
def swapaxes(context, a, axis1, axis2):
    x = context.lift(a)
    perm = list(range(x.ndim))
    i, j = normalize_axis_index(axis1, x.ndim), normalize_axis_index(axis2, x.ndim)
    perm[i], perm[j] = perm[j], perm[i]
    return permuted(x, perm)


@implements(np.moveaxis)
def moveaxis(context, a, source, destination):
    x = context.lift(a)
    source = normalize_axis_tuple(source, x.ndim, "source")
    destination = normalize_axis_tuple(destination, x.ndim, "destination")
    if len(source) != len(destination):
        raise ShapeError("moveaxis: source and destination differ in length")
    perm = [i for i in range(x.ndim) if i not in source]
    for to, axis in sorted(zip(destination, source, strict=True)):
        perm.insert(to, axis)
    return permuted(x, perm)


@implements(np.rollaxis)
def rollaxis(context, a, axis, start=0):
    x = context.lift(a)
    axis = normalize_axis_index(axis, x.ndim)
    start = start + x.ndim if start < 0 else start
    return moveaxis(context, x, axis, start - 1 if axis < start else start)


@implements(np.squeeze)
def squeeze(context, a, axis=None):
    x = context.lift(a)
    if axis is None:
        axes = [i for i, d in enumerate(x.shape) if d == 1]
    else:
        axes = normalize_axis_tuple(axis, x.ndim)
        for i in axes:
            if x.shape[i] != 1:
                raise ShapeError(f"squeeze: axis {i} of {shape_text(x.shape)} has not size 1")
    return _resized(x, [d for i, d in enumerate(x.shape) if i not in axes])


@implements(np.expand_dims)
def expand_dims(context, a, axis):
    x = context.lift(a)
    axes = (axis,) if not isinstance(axis, tuple | list) else axis
    axes = normalize_axis_tuple(axes, x.ndim + len(axes))
    dims = iter(x.shape)
    return _resized(x, [1 if i in axes else next(dims) for i in range(x.ndim + len(axes))])


def _at_least(ndim: int):
    def handler(context, *arys):
        results = []
        for value in arys:
            x = context.lift(value)
            if x.ndim < ndim:
                x = _resized(x, (1,) * (ndim - x.ndim) + tuple(x.shape))
            results.append(x)
        return results[0] if len(results) == 1 else tuple(results)

    return handler


implements(np.atleast_1d)(_at_least(1))
atleast_2d = implements(np.atleast_2d)(_at_least(2))


@implements(np.broadcast_to)
def broadcast_to(context, array, shape, subok=False):
    x, shape = context.lift(array), dims_of(shape)
    joint = broadcast_shapes("broadcast_to", x.shape, shape)
    if joint != shape:
        raise ShapeError(f"cannot broadcast {shape_text(x.shape)} to {shape_text(shape)}")
    result = build.broadcast_to(x.node, shape)
    return x.view(result, lambda parent: build.broadcast_to(parent, shape), None)


@implements(np.broadcast_arrays)
def broadcast_arrays(context, *args, subok=False):
    arrays = [context.lift(a) for a in args]
    shape = broadcast_shapes("broadcast_arrays", *(a.shape for a in arrays))
    return tuple(broadcast_to(context, a, shape) for a in arrays)


@implements(np.flip)
def flip(context, m, axis=None):
    x = context.lift(m)
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim)
    return x[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))]


implements(np.flipud)(lambda context, m: flip(context, m, 0))
implements(np.fliplr)(lambda context, m: flip(context, m, 1))


def part(x: Node, axis: int, start, size) -> Node:
    """``size`` elements of one axis from ``start``."""
    starts = [start if i == axis else 0 for i in range(x.ndim)]
    sizes = [size if i == axis else d for i, d in enumerate(x.shape)]
    return build.slice_(x, starts, sizes, [1] * x.ndim)


@implements(np.roll)
def roll(context, a, shift, axis=None):
    x = context.lift(a)
    if axis is None:
        return roll(context, x.ravel(), shift, 0).reshape(x.shape)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,) * len(axes)
    node = x.node
    for by, one in zip(shifts, axes, strict=True):
        k = normalize_axis_index(one, x.ndim)
        size, by = node.shape[k], by.__index__()
        if isinstance(size, Dim):
            if abs(by) > 1:  # sizes are at least 1
                raise SymbolicDimError(f"roll by {by} along an axis of size {size}")
            head = by if by >= 0 else size + by
        else:
            head = by % size if size else 0
        if head != 0:
            pieces = [part(node, k, size - head, head), part(node, k, 0, size - head)]
            node = build.concat(pieces, k)
    return context.wrap(node)


# --------------------------------------------------------------------------- join and split


def join(context, values, axis, dtype=None) -> Node:
    tracers = [context.lift(v) for v in values]
    if not tracers:
        raise ShapeError("need at least one array to join")
    dtype = np.dtype(dtype) if dtype is not None else np.result_type(*(t.dtype for t in tracers))
    first = tracers[0]
    for t in tracers[1:]:
        if t.ndim != first.ndim:
            raise ShapeError(
                f"concatenate: {shape_text(first.shape)} and {shape_text(t.shape)} have different "
                "numbers of axes"
            )
        for i, (d, e) in enumerate(zip(first.shape, t.shape, strict=True)):
            if i != axis and d != e:
                if isinstance(d, Dim) or isinstance(e, Dim):
                    raise SymbolicDimError(f"concatenate: sizes {d} and {e} must be known")
                raise ShapeError(
                    f"concatenate along axis {axis}: {shape_text(first.shape)} and "
                    f"{shape_text(t.shape)} differ on axis {i}: {d} != {e}"
                )
    return build.concat([cast(t.node, dtype) for t in tracers], axis)


def elements(values) -> list:
    """The arrays of a sequence argument (a tracer is a sequence along its first axis)."""
    return list(values)


@implements(np.concatenate, getattr(np, "concat", None))
def concatenate(context, arrays, axis=0, *, dtype=None, casting="same_kind"):
    values = [context.lift(a) for a in elements(arrays)]
    if axis is None:
        values, axis = [v.ravel() for v in values], 0
    if any(not v.ndim for v in values):
        raise ShapeError("zero-dimensional arrays cannot be concatenated; use np.stack")
    return context.wrap(join(context, values, normalize_axis_index(axis, values[0].ndim), dtype))


@implements(np.stack)
def stack(context, arrays, axis=0, *, dtype=None, casting="same_kind"):
    values = [context.lift(a) for a in elements(arrays)]
    if not values:
        raise ShapeError("need at least one array to stack")
    for v in values:
        if v.shape != values[0].shape:
            raise ShapeError(
                f"stack: all arrays must have one shape, not {shape_text(values[0].shape)} and "
                f"{shape_text(v.shape)}"
            )
    axis = normalize_axis_index(axis, values[0].ndim + 1)
    shape = list(values[0].shape)
    shape.insert(axis, 1)
    return context.wrap(join(context, [v.reshape(shape) for v in values], axis, dtype))


@implements(np.vstack, getattr(np, "row_stack", None))
def vstack(context, tup, *, dtype=None, casting="same_kind"):
    return context.wrap(join(context, [atleast_2d(context, a) for a in elements(tup)], 0, dtype))


@implements(np.hstack)
def hstack(context, tup, *, dtype=None, casting="same_kind"):
    values = [context.lift(a) for a in elements(tup)]
    values = [v if v.ndim else v.reshape(1) for v in values]
    return context.wrap(join(context, values, 0 if values and values[0].ndim == 1 else 1, dtype))


@implements(np.column_stack)
def column_stack(context, tup):
    values = [context.lift(a) for a in elements(tup)]
    values = [v if v.ndim > 1 else v.reshape(-1, 1) for v in values]
    return context.wrap(join(context, values, 1))


@implements(np.append)
def append(context, arr, values, axis=None):
    return concatenate(context, (arr, values), axis)


def _split(context, ary, indices_or_sections, axis, equal):
    x = context.lift(ary)
    axis = normalize_axis_index(axis, x.ndim)
    if hasattr(indices_or_sections, "__len__"):
        bounds = [0, *(i.__index__() for i in indices_or_sections), None]
    else:
        sections, size = indices_or_sections.__index__(), x.shape[axis]
        if equal and isinstance(size, Dim) and exact_div(size, sections) is not None:
            each = exact_div(size, sections)
            bounds = [each * i for i in range(sections)] + [size]
        else:
            size = size.__index__()
            if equal and size % sections:
                raise ShapeError(
                    f"split: axis {axis} of size {size} does not divide into {sections} parts; "
                    "use np.array_split"
                )
            each, extra = divmod(size, sections)
            bounds = [i * each + min(i, extra) for i in range(sections + 1)]
    whole = [slice(None)] * axis
    return [x[(*whole, slice(a, b))] for a, b in pairwise(bounds)]


@implements(np.split)
def split(context, ary, indices_or_sections, axis=0):
    return _split(context, ary, indices_or_sections, axis, True)


@implements(np.array_split)
def array_split(context, ary, indices_or_sections, axis=0):
    return _split(context, ary, indices_or_sections, axis, False)


@implements(np.hsplit)
def hsplit(context, ary, indices_or_sections):
    axis = 1 if context.lift(ary).ndim > 1 else 0
    return _split(context, ary, indices_or_sections, axis, True)


implements(np.vsplit)(lambda context, ary, parts: _split(context, ary, parts, 0, True))


@implements(getattr(np, "unstack", None))
def unstack(context, x, *, axis=0):
    return tuple(moveaxis(context, x, axis, 0))


# ----------------------------------------------------------------------------- repeat and pad


@implements(np.tile)
def tile(context, A, reps):
    x = context.lift(A)
    reps = dims_of(reps)
    ndim = max(x.ndim, len(reps))
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    reps = (1,) * (ndim - len(reps)) + reps
    node = build.reshape(x.node, shape)
    interleaved = [d for pair in zip(reps, shape, strict=True) for d in pair]
    node = build.broadcast(node, interleaved, range(1, 2 * ndim, 2))
    return context.wrap(build.reshape(node, [r * d for r, d in zip(reps, shape, strict=True)]))


@implements(np.repeat)
def repeat(context, a, repeats, axis=None):
    x = context.lift(a)
    if axis is None:
        x, axis = x.ravel(), 0
    axis = normalize_axis_index(axis, x.ndim)
    if hasattr(repeats, "__len__") and len(repeats) > 1:
        index = np.repeat(np.arange(x.shape[axis].__index__()), np.asarray(repeats))
        return context.wrap(build.take(x.node, build.const(index), axis))
    count = repeats[0] if hasattr(repeats, "__len__") else repeats
    count = count if isinstance(count, Dim) else count.__index__()
    shape = list(x.shape)
    wide = [*shape[: axis + 1], count, *shape[axis + 1 :]]
    node = build.broadcast(x.node, wide, [i for i in range(x.ndim + 1) if i != axis + 1])
    shape[axis] = shape[axis] * count
    return context.wrap(build.reshape(node, shape))


@implements(np.pad)
def pad(context, array, pad_width, mode="constant", *, constant_values=0):
    x = context.lift(array)
    node = x.node
    widths = _pad_widths(pad_width, node.ndim)
    if mode == "constant":
        fills = _pad_fills(context, constant_values, node.ndim)
        if all(f is fills[0][0] for pair in fills for f in pair):
            low, high = zip(*widths, strict=True) if widths else ((), ())
            return context.wrap(build.pad(node, low, high, fill=cast(fills[0][0], node.dtype)))
        for axis, ((low, high), (before, after)) in enumerate(zip(widths, fills, strict=True)):
            for amount, fill, at_end in ((low, before, False), (high, after, True)):
                zeros = [0] * node.ndim
                grown = [amount if i == axis else 0 for i in range(node.ndim)]
                sides = (zeros, grown) if at_end else (grown, zeros)
                node = build.pad(node, *sides, fill=cast(fill, node.dtype))
        return context.wrap(node)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise TraceError(
            f"np.pad with mode={mode!r} is not supported; "
            "supported: constant, edge, reflect, symmetric, wrap"
        )
    for axis, (low, high) in enumerate(widths):
        if low or high:
            node = _pad_axis(node, axis, low, high, mode)
    return context.wrap(node)


def _pad_widths(pad_width, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        widths = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            pair = (width, width) if isinstance(width, int) else tuple(width)
            widths[normalize_axis_index(axis, ndim)] = pair
        return widths
    pairs = np.broadcast_to(np.asarray(pad_width), (ndim, 2)).tolist()
    if any(w < 0 for pair in pairs for w in pair):
        raise ShapeError("np.pad: widths cannot be negative")
    return [(low, high) for low, high in pairs]


def _pad_fills(context, values, ndim: int) -> list[tuple[Node, Node]]:
    if not isinstance(values, tuple | list | np.ndarray) or np.ndim(values) == 0:
        fill = context.lift(values).node
        return [(fill, fill)] * max(ndim, 1)
    pairs = np.broadcast_to(np.asarray(values), (ndim, 2))
    return [(build.const(a), build.const(b)) for a, b in pairs]


def _pad_axis(x: Node, axis: int, low: int, high: int, mode: str) -> Node:
    size = x.shape[axis]
    if mode == "edge":
        first, last = part(x, axis, 0, 1), part(x, axis, size - 1, 1)
        pieces = [_repeated(first, axis, low), x, _repeated(last, axis, high)]
    else:
        size = size.__index__()
        offset = 1 if mode == "reflect" else 0
        reach = size if mode == "wrap" else size - offset
        if max(low, high) > reach:
            raise TraceError(f"np.pad: mode={mode!r} reaches at most {reach} beyond axis {axis}")
        if mode == "wrap":
            pieces = [part(x, axis, size - low, low), x, part(x, axis, 0, high)]
        else:
            before = _reversed(part(x, axis, offset, low), axis)
            after = _reversed(part(x, axis, size - offset - high, high), axis)
            pieces = [before, x, after]
    return build.concat([p for p in pieces if p.shape[axis] != 0], axis)


def _repeated(x: Node, axis: int, count: int) -> Node:
    shape = [count if i == axis else d for i, d in enumerate(x.shape)]
    return build.broadcast_to(x, shape)


def _reversed(x: Node, axis: int) -> Node:
    if x.shape[axis] == 0:
        return x
    start = [x.shape[axis] - 1 if i == axis else 0 for i in range(x.ndim)]
    step = [-1 if i == axis else 1 for i in range(x.ndim)]
    return build.slice_(x, start, x.shape, step)


# ------------------------------------------------------------------ differences and triangles


@implements(np.diff)
def diff(context, a, n=1, axis=-1, prepend=None, append=None):
    x = context.lift(a)
    axis = normalize_axis_index(axis, x.ndim)
    pieces = []
    for value in (prepend, x, append):
        if value is None or value is np._NoValue:
            continue
        value = context.lift(value)
        if not value.ndim:
            shape = [1 if i == axis else d for i, d in enumerate(x.shape)]
            value = broadcast_to(context, value, shape)
        pieces.append(value)
    node = join(context, pieces, axis)
    for _ in range(n):
        size = node.shape[axis] - 1
        name = "ne" if node.dtype == bool else "sub"
        node = op(name, part(node, axis, 1, size), part(node, axis, 0, size))
    return context.wrap(node)


def band(shape, k: int) -> Node:
    """True where column - row <= k, on the last two axes."""
    ndim = len(shape)
    rows, columns = build.iota(shape, ndim - 2), build.iota(shape, ndim - 1)
    return op("le", columns, op("add", rows, build.full_like(rows, k)))


@implements(np.tril)
def tril(context, m, k=0):
    x = context.lift(m).node
    return context.wrap(op("where", band(x.shape, k), x, build.full_like(x, 0)))


@implements(np.triu)
def triu(context, m, k=0):
    x = context.lift(m).node
    return context.wrap(op("where", band(x.shape, k - 1), build.full_like(x, 0), x))


@implements(np.meshgrid)
def meshgrid(context, *xi, copy=True, sparse=False, indexing="xy"):
    arrays = [context.lift(x).ravel() for x in xi]
    ndim = len(arrays)
    place = list(range(ndim))
    if indexing == "xy" and ndim > 1:
        place[:2] = [1, 0]
    grids = []
    for array, axis in zip(arrays, place, strict=True):
        grids.append(array.reshape([-1 if i == axis else 1 for i in range(ndim)]))
    if not sparse:
        shape = broadcast_shapes("meshgrid", *(g.shape for g in grids))
        grids = [context.wrap(build.broadcast_to(g.node, shape)) for g in grids]
    return tuple(grids)


# ----------------------------------------------------------------------------- questions


implements(np.shape)(lambda context, a: context.lift(a).shape)
implements(np.ndim)(lambda context, a: context.lift(a).ndim)


@implements(np.size)
def size(context, a, axis=None):
    x = context.lift(a)
    if axis is None:
        return x.size
    return product(x.shape[i] for i in normalize_axis_tuple(axis, x.ndim))


@implements(np.result_type)
def result_type(context, *arrays_and_dtypes):
    values = [context.lift(v) if hasattr(v, "shape") else v for v in arrays_and_dtypes]
    known = [common_dtype(v) if hasattr(v, "node") and not v.weak else v for v in values]
    samples = {"b": True, "i": 1, "u": 1, "f": 1.0, "c": 1j}
    return np.result_type(*(samples[v.dtype.kind] if hasattr(v, "node") else v for v in known))


@implements(np.iscomplexobj)
def iscomplexobj(context, x):
    return context.lift(x).dtype.kind == "c"


implements(np.isrealobj)(lambda context, x: context.lift(x).dtype.kind != "c")
