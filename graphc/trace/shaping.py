"""The same elements under other axes: reshape, transpose, squeeze, broadcast, flip, roll."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from graphc.errors import ShapeError, SymbolicDimError, TraceError
from graphc.ir import build
from graphc.ir.dims import Dim, exact_div, product
from graphc.ir.node import Node
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import common_dtype
from graphc.trace.elementwise import broadcast_shapes
from graphc.trace.openshape import open_shape
from graphc.wording import shape_text

# ------------------------------------------------------------------------------------- views


def dims_of(shape) -> tuple:
    """A shape argument as a tuple of dimensions."""
    if isinstance(shape, Dim) or not hasattr(shape, "__len__") or getattr(shape, "ndim", 1) == 0:
        shape = (shape,)
    return tuple(_dim(d) for d in shape)


def _dim(value):
    """A size, also where NumPy has made a number of it."""
    node = getattr(value, "node", None)
    if node is not None and node.op == "size":
        return node.attr("dim")
    return value if isinstance(value, Dim) else value.__index__()


def along(x, axis: int | None) -> tuple:
    """``x`` and the position of an axis; for None all elements in a row, as NumPy has it."""
    if axis is None:
        return x.ravel(), 0
    return x, normalize_axis_index(axis, x.ndim)


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


def reshaped(tracer, shape, contiguous: bool = False):
    """A view of the same elements under ``shape``; a copy where NumPy makes one: of elements that
    do not lie in memory in this order or, as ``ravel`` does, that are not ``contiguous``."""
    node = tracer.node
    shape = tuple(shape)
    result = build.reshape(node, shape)
    if tracer.is_view:
        layout = tracer.layout()
        if layout is None:
            return tracer.seen_as(result, None, None)
        try:
            layout.reshape(shape, copy=False)
        except ValueError:
            return tracer.context.wrap(result)
        if contiguous and not layout.flags.c_contiguous:
            return tracer.context.wrap(result)
    return _resized(tracer, shape)


def permuted(tracer, perm):
    perm = tuple(perm)
    inverse = tuple(int(i) for i in np.argsort(perm))
    return tracer.seen_as(
        build.transpose(tracer.node, perm),
        lambda parent: build.transpose(parent, perm),
        lambda _, new: build.transpose(new, inverse),
        move=lambda array: array.transpose(perm),
    )


def _resized(tracer, shape):
    """The same memory under another shape."""
    node = tracer.node
    shape, back = tuple(shape), node.shape
    return tracer.seen_as(
        build.reshape(node, shape),
        lambda parent: build.reshape(parent, shape),
        lambda _, new: build.reshape(new, back),
        move=lambda array: array.reshape(shape, copy=False),
    )


def _columns_first(order: str, name: str) -> bool:
    if order not in ("C", "F"):
        raise TraceError(
            f"np.{name} with order={order!r} depends on memory, which traced values have not; "
            "write order='C' or order='F'"
        )
    return order == "F"


@implements(np.reshape)
def reshape(context, a, shape=None, order="C", *, newshape=None, copy=None):
    x = context.lift(a)
    shape = newshape if shape is None else shape
    if _columns_first(order, "reshape"):
        dims = resolve_shape(x.node, shape)
        return transpose(context, reshape(context, transpose(context, x), dims[::-1]))
    result = reshaped(x, resolve_shape(x.node, shape))
    return result.copy() if copy else result


@implements(np.ravel)
def ravel(context, a, order="C"):
    x = context.lift(a)
    if _columns_first(order, "ravel"):
        x = transpose(context, x)
    return reshaped(x, (x.size,), contiguous=True)


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
    return x.seen_as(result, lambda parent: build.broadcast_to(parent, shape), None)


@implements(np.broadcast_arrays)
def broadcast_arrays(context, *args, subok=False):
    arrays = [context.lift(a) for a in args]
    if all(a.shape == arrays[0].shape for a in arrays):
        return tuple(arrays)
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
    shifts = shift if isinstance(shift, tuple | list) else (shift,)
    axes = axes * len(shifts) if len(axes) == 1 else axes
    shifts = shifts * len(axes) if len(shifts) == 1 else shifts
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


# ----------------------------------------------------------------------------- questions


implements(np.shape)(lambda context, a: open_shape(context.lift(a).shape))
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
