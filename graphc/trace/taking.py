"""Elements chosen by index: take, take_along_axis, and what is made of windows."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from graphc.errors import ShapeError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.dims import Dim, product
from graphc.ir.node import Node
from graphc.trace import blame
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast
from graphc.trace.elementwise import broadcast_shapes
from graphc.trace.indexing import checked_position, wrapped_index
from graphc.trace.indices import checked, data_dependent
from graphc.trace.windows import sliding_window_view
from graphc.wording import shape_text

# --------------------------------------------------------------------------------------- take


def _bounded(index: Node, size, mode: str) -> Node:
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
        return context.wrap(build.take(x, build.const(checked(value, axis, x.shape)), axis))
    return context.wrap(build.take(x, _bounded(index.node, x.shape[axis], mode), axis))


def _where_true(context, condition, name: str) -> np.ndarray:
    value = blame.constant_value(context.lift(condition).node)
    if value is None:
        raise data_dependent(f"np.{name} with a traced condition")
    return np.flatnonzero(value)


@implements(np.compress)
def compress(context, condition, a, axis=None):
    return take(context, a, _where_true(context, condition, "compress"), axis)


@implements(np.extract)
def extract(context, condition, arr):
    return take(context, arr, _where_true(context, condition, "extract"))


@implements(np.unravel_index)
def unravel_index(context, indices, shape, order="C"):
    sizes = shape if isinstance(shape, tuple | list) else (shape,)
    rest = context.wrap(checked_position(context.lift(indices).node, product(sizes)))
    found = []
    for size in reversed(sizes) if order == "C" else sizes:
        length = context.wrap(build.size(size, np.int64))
        found.append(rest % length)
        rest = rest // length
    return tuple(reversed(found) if order == "C" else found)


@implements(np.ravel_multi_index)
def ravel_multi_index(context, multi_index, dims, mode="raise", order="C"):
    modes = (mode,) * len(dims) if isinstance(mode, str) else mode
    parts = []
    for index, size, how in zip(multi_index, dims, modes, strict=True):
        index = context.lift(index).node
        known = checked_position(index, size) if how == "raise" else (
            _bounded(index, size, how))  # fmt: skip
        parts.append((context.wrap(known), context.wrap(build.size(size, np.int64))))
    total = 0
    for index, length in parts if order == "C" else reversed(parts):
        total = total * length + index
    return total


@implements(np.convolve)
def convolve(context, a, v, mode="full"):
    x, kernel = np.atleast_1d(context.lift(a)), np.atleast_1d(context.lift(v))
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
    x, kernel = context.lift(a), np.conj(context.lift(v))
    if isinstance(x.shape[0], int) and x.shape[0] < kernel.shape[0]:
        return convolve(context, kernel, x[::-1], mode)[::-1].copy()
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
