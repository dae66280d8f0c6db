"""New arrays inside a trace; ``graphc.numpy`` offers these where NumPy cannot dispatch."""

from __future__ import annotations

import numpy as np

from graphc.errors import ShapeError, TraceError
from graphc.ir import build
from graphc.ir.dims import Dim
from graphc.trace import protocols
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import common_dtype, converted
from graphc.trace.shaping import broadcast_to, dims_of
from graphc.trace.tracer import Tracer


def array(context, value, dtype=None):
    """``np.array`` of tracers, numbers and arrays nested in lists."""
    if isinstance(value, list | tuple):
        parts = [_nested(context, v) for v in value]
        common = np.result_type(*(p.dtype for p in parts)) if parts else None
        if not parts:
            return context.lift(np.array([], dtype))
        common = common if dtype is None else np.dtype(dtype)
        made = np.stack([context.wrap(converted(p, common)) for p in parts])
    else:
        made = context.lift(value)
    return context.wrap(converted(made, made.dtype if dtype is None else dtype))


def _nested(context, value):
    """``value`` as a tracer; lists inside out, without recursion over tracers."""
    return array(context, value) if isinstance(value, list | tuple) else context.lift(value)


def full(context, shape, value, dtype=None):
    filler = context.lift(value)
    dtype = filler.dtype if dtype is None else np.dtype(dtype)
    node = converted(filler, dtype)
    return context.wrap(build.broadcast_to(node, dims_of(shape)))


def arange(context, start, stop=None, step=1, dtype=None):
    if stop is None:
        start, stop = 0, start
    if isinstance(stop, Dim) and start == 0 and step == 1:
        return context.wrap(build.iota((stop,), 0, dtype or np.int64))
    return context.lift(np.arange(start, stop, step, dtype))


@implements(np.zeros_like)
def zeros_like(context, a, dtype=None, order="K", subok=True, shape=None):
    return full_like(context, a, 0, dtype, shape=shape)


@implements(np.ones_like)
def ones_like(context, a, dtype=None, order="K", subok=True, shape=None):
    return full_like(context, a, 1, dtype, shape=shape)


@implements(np.empty_like)
def empty_like(context, prototype, dtype=None, order="K", subok=True, shape=None):
    return full_like(context, prototype, 0, dtype, shape=shape)


@implements(np.full_like)
def full_like(context, a, fill_value, dtype=None, order="K", subok=True, shape=None):
    x = context.lift(a)
    return full(context, x.shape if shape is None else shape, fill_value, dtype or x.dtype)


@implements(np.linspace)
def linspace(context, start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    start, stop = context.lift(start), context.lift(stop)
    num = num.__index__()
    parts = num - 1 if endpoint else num
    floating = np.result_type(common_dtype(start, stop), 1.0)
    span = stop.astype(floating) - start.astype(floating)
    steps = np.arange(num).reshape((-1,) + (1,) * span.ndim)
    step = span / max(parts, 1)
    values = steps.astype(floating) * step + start.astype(floating)
    if endpoint and num > 1:
        values = np.concatenate([values[:-1], np.broadcast_to(stop, (1, *span.shape))])
    if dtype is not None and np.dtype(dtype).kind in "iu":
        values = np.floor(values)
    values = np.moveaxis(values.astype(floating if dtype is None else dtype), 0, axis)
    return (values, step) if retstep else values


@implements(np.copyto)
def copyto(context, dst, src, casting="same_kind", where=True):
    if not isinstance(dst, Tracer):
        raise TraceError(
            "a plain NumPy array cannot be filled with traced values; write "
            "graphc.numpy.full(shape, value) or graphc.numpy.zeros(shape)"
        )
    value = context.lift(src)
    value = context.wrap(converted(value, dst.dtype)) if value.weak else value
    value = value if where is True else np.where(where, value, dst)
    protocols.assign(dst, broadcast_to(context, value, dst.shape), "copyto")


@implements(np.fill_diagonal)
def fill_diagonal(context, a, val, wrap=False):
    if a.ndim < 2:
        raise ShapeError("np.fill_diagonal: the array must be at least 2-d")
    if a.ndim == 2 and not wrap and not np.ndim(val):
        rows, columns = (context.wrap(build.iota(a.shape, axis)) for axis in (0, 1))
        a[...] = np.where(rows == columns, val, a)
        return
    sizes = [d.__index__() for d in a.shape]
    if a.ndim > 2 and len(set(sizes)) > 1:
        raise ShapeError("np.fill_diagonal: an array of more than two axes needs equal sizes")
    step = 1 + sum(int(np.prod(sizes[i:])) for i in range(1, a.ndim))
    end = sizes[1] ** 2 if a.ndim == 2 and not wrap else a.size
    places = np.arange(0, min(end, a.size), step)
    flat = a.reshape(-1).copy()
    flat[places] = np.resize(context.lift(val), len(places))
    a[...] = flat.reshape(a.shape)
