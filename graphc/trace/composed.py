"""Functions that NumPy itself composes of others: finite differences, choices, arrangements."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from graphc.errors import ShapeError, TraceError
from graphc.ir import build
from graphc.trace import blame
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import common_dtype, converted
from graphc.trace.elementwise import fit_all
from graphc.trace.shaping import along
from graphc.wording import shape_text

# --------------------------------------------------------------------------------- differences


def _cut(ndim: int, axis: int, start, stop=None) -> tuple:
    return tuple(slice(start, stop) if i == axis else slice(None) for i in range(ndim))


def _spacing(context, value, length):
    """One distance, or the distances between coordinates."""
    value = context.lift(value)
    if not value.ndim:
        return value, True
    if value.ndim != 1 or value.shape[0] != length:
        raise ShapeError(
            f"np.gradient: coordinates {shape_text(value.shape)} for an axis of size {length}"
        )
    return np.diff(value.astype(np.float64) if value.dtype.kind in "iu" else value), False


def _slopes(f, axis: int, h, uniform: bool, edge_order: int):
    n = f.ndim

    def part(start, stop=None):
        return f[_cut(n, axis, start, stop)]

    def wide(d):
        return d.reshape([-1 if i == axis else 1 for i in range(n)])

    if uniform:
        inner = (part(2) - part(0, -2)) / (2.0 * h)
        first = last = h
    else:
        h1, h2 = wide(h[:-1]), wide(h[1:])
        a, b, c = -h2 / (h1 * (h1 + h2)), (h2 - h1) / (h1 * h2), h1 / (h2 * (h1 + h2))
        inner = a * part(0, -2) + b * part(1, -1) + c * part(2)
        first, last = h[0], h[-1]
    if edge_order == 1:
        low = (part(1, 2) - part(0, 1)) / first
        high = (part(-1) - part(-2, -1)) / last
    elif uniform:
        low = (-1.5 / h) * part(0, 1) + (2.0 / h) * part(1, 2) + (-0.5 / h) * part(2, 3)
        high = (0.5 / h) * part(-3, -2) + (-2.0 / h) * part(-2, -1) + (1.5 / h) * part(-1)
    else:
        d1, d2 = h[0], h[1]
        low = (-(2.0 * d1 + d2) / (d1 * (d1 + d2))) * part(0, 1)
        low = low + ((d1 + d2) / (d1 * d2)) * part(1, 2) - (d1 / (d2 * (d1 + d2))) * part(2, 3)
        d1, d2 = h[-2], h[-1]
        high = (d2 / (d1 * (d1 + d2))) * part(-3, -2) - ((d2 + d1) / (d1 * d2)) * part(-2, -1)
        high = high + ((2.0 * d2 + d1) / (d2 * (d1 + d2))) * part(-1)
    return np.concatenate([low, inner, high], axis=axis)


@implements(np.gradient)
def gradient(context, f, *varargs, axis=None, edge_order=1):
    f = context.lift(f)
    axes = tuple(range(f.ndim)) if axis is None else normalize_axis_tuple(axis, f.ndim)
    if len(varargs) == 1 and not np.ndim(varargs[0]):
        varargs = varargs * len(axes)
    elif not varargs:
        varargs = (1.0,) * len(axes)
    elif len(varargs) != len(axes):
        raise TypeError("invalid number of arguments")
    if edge_order not in (1, 2):
        raise TraceError("np.gradient: edge_order must be 1 or 2")
    if f.dtype.kind in "iu":
        f = f.astype(np.float64)
    results = []
    for at, distance in zip(axes, varargs, strict=True):
        length = f.shape[at].__index__()
        if length < edge_order + 1:
            raise ShapeError(f"np.gradient: axis {at} of size {length} is too short")
        results.append(_slopes(f, at, *_spacing(context, distance, length), edge_order)
                       .astype(f.dtype))  # fmt: skip
    return results[0] if len(axes) == 1 else tuple(results)


@implements(np.ediff1d)
def ediff1d(context, ary, to_end=None, to_begin=None):
    x = context.lift(ary).ravel()
    parts = [to_begin, np.diff(x), to_end]
    parts = [context.lift(p).ravel().astype(x.dtype) for p in parts if p is not None]
    return np.concatenate(parts)


@implements(np.unwrap)
def unwrap(context, p, discont=None, axis=-1, *, period=2 * np.pi):
    x = context.lift(p)
    steps = np.diff(x, axis=axis)
    discont = period / 2 if discont is None else discont
    dtype = np.result_type(steps, period)
    if dtype.kind in "iu":
        high, rest = divmod(period, 2)
    else:
        high, rest = period / 2, 0
    wrapped = np.mod(steps - (-high), period) + (-high)
    if rest == 0:  # half a period keeps its sign
        wrapped = np.where(np.logical_and(wrapped == -high, steps > 0), high, wrapped)
    correction = np.where(np.abs(steps) < discont, 0, wrapped - steps)
    x = x.astype(dtype)
    n = x.ndim
    at = normalize_axis_index(axis, n)
    rest = x[_cut(n, at, 1)] + np.cumsum(correction, axis=at)
    return np.concatenate([x[_cut(n, at, 0, 1)], rest], axis=at)


@implements(np.cov)
def cov(
    context, m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *,
    dtype=None,
):  # fmt: skip
    if fweights is not None or aweights is not None:
        raise TraceError("np.cov of traced values takes no weights; write them out with np.average")
    x = context.lift(m)
    values = [x] if y is None else [x, context.lift(y)]
    kind = np.result_type(common_dtype(*values), np.float64) if dtype is None else dtype
    rows = []
    for v in values:
        turned = v.ndim != 1
        v = np.atleast_2d(v.astype(kind))
        rows.append(v.T if not rowvar and turned else v)
    x = np.concatenate(rows, axis=0)
    if x.shape[0] == 0:
        return np.zeros_like(x, float, shape=(0, 0))
    ddof = (0 if bias else 1) if ddof is None else ddof
    left = context.lift(x.shape[1] - ddof).astype(np.float64)
    off = x - np.mean(x, axis=1, keepdims=True)
    products = off @ np.conj(off.T)
    return np.squeeze(products * (1 / np.maximum(left, 0)).astype(products.real.dtype))


@implements(np.corrcoef)
def corrcoef(context, x, y=None, rowvar=True, *, dtype=None):
    c = cov(context, x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return c / c
    scale = np.sqrt(np.diag(c).real)
    c = c / scale[:, None] / scale[None, :]
    if c.dtype.kind == "c":
        return np.clip(c.real, -1, 1) + 1j * np.clip(c.imag, -1, 1)
    return np.clip(c, -1, 1)


# ------------------------------------------------------------------------------------- choices


@implements(np.piecewise)
def piecewise(context, x, condlist, funclist, *args, **kw):
    """All pieces are computed on all of ``x``; each element takes the last that applies."""
    x = context.lift(x)
    if hasattr(condlist, "shape") and not isinstance(condlist, list | tuple):
        condlist = list(condlist) if condlist.ndim > x.ndim else [condlist]
    elif condlist and isinstance(condlist[0], bool | np.bool_):
        condlist = [condlist]
    if len(funclist) not in (len(condlist), len(condlist) + 1):
        raise ShapeError(f"np.piecewise: {len(condlist)} conditions and {len(funclist)} functions")
    conditions = [context.lift(c) for c in condlist]
    if len(funclist) == len(conditions) + 1:
        rest = np.logical_not(np.any(np.stack(conditions), axis=0))
        conditions.append(rest)
    result = np.zeros_like(x)
    for condition, function in zip(conditions, funclist, strict=True):
        value = function(x, *args, **kw) if callable(function) else function
        result = np.where(condition, context.lift(value).astype(x.dtype), result)
    return result


@implements(np.choose)
def choose(context, a, choices, out=None, mode="raise"):
    index = context.lift(a)
    if index.dtype.kind not in "biu":
        raise TypeError(f"np.choose: the index is {index.dtype}, not an integer")
    choices = [context.wrap(n) for n in fit_all(context, "choose", *choices)]
    count = len(choices)
    if mode == "raise":
        checked = build.check_index(index.astype(np.int64).node, count)
        index = context.wrap(checked)
    elif mode == "wrap":
        index = index % count
    else:
        index = np.clip(index, 0, count - 1)
    result = choices[-1]
    for k in range(count - 2, -1, -1):
        result = np.where(index == k, choices[k], result)
    return np.broadcast_to(result, np.broadcast_shapes(result.shape, index.shape)).copy()


@implements(np.apply_along_axis)
def apply_along_axis(context, func1d, axis, arr, *args, **kwargs):
    """The function is traced once for each slice."""
    x = context.lift(arr)
    at = normalize_axis_index(axis, x.ndim)
    rows = np.moveaxis(x, at, -1)
    outer = [d.__index__() for d in rows.shape[:-1]]
    found = [context.lift(func1d(rows[i], *args, **kwargs)) for i in np.ndindex(*outer)]
    if not found:
        raise ShapeError("np.apply_along_axis: cannot apply along an axis when there is no slice")
    inner = found[0].ndim
    whole = np.stack(found).reshape((*outer, *found[0].shape))
    last = range(len(outer), len(outer) + inner)
    return np.moveaxis(whole, list(last), [at + i for i in range(inner)])


# -------------------------------------------------------------------------------- arrangements


@implements(np.rot90)
def rot90(context, m, k=1, axes=(0, 1)):
    x = context.lift(m)
    first, second = normalize_axis_tuple(axes, x.ndim)
    k = k.__index__() % 4
    if k == 0:
        return x[:]
    if k == 2:
        return np.flip(x, (first, second))
    if k == 1:
        return np.swapaxes(np.flip(x, second), first, second)
    return np.flip(np.swapaxes(x, first, second), second)


def _three_axes(x):
    if x.ndim == 0:
        return x.reshape(1, 1, 1)
    if x.ndim == 1:
        return x[None, :, None]
    return x[:, :, None] if x.ndim == 2 else x


@implements(np.atleast_3d)
def atleast_3d(context, *arys):
    results = [_three_axes(context.lift(a)) for a in arys]
    return results[0] if len(results) == 1 else tuple(results)


@implements(np.dstack)
def dstack(context, tup):
    return np.concatenate([_three_axes(context.lift(a)) for a in tup], axis=2)


@implements(np.dsplit)
def dsplit(context, ary, indices_or_sections):
    x = context.lift(ary)
    if x.ndim < 3:
        raise ShapeError("dsplit only works on arrays of 3 or more dimensions")
    return np.split(x, indices_or_sections, axis=2)


@implements(np.block)
def block(context, arrays):
    depth = _depth(arrays)
    ndim = max([depth, *(context.lift(a).ndim for a in _leaves(arrays))])

    def joined(value, level):
        if not isinstance(value, list):
            x = context.lift(value)
            return x.reshape((1,) * (ndim - x.ndim) + tuple(x.shape))
        return np.concatenate([joined(v, level + 1) for v in value], axis=ndim - depth + level)

    return joined(arrays, 0)


def _depth(value) -> int:
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0]
    return depth


def _leaves(value):
    if isinstance(value, list):
        return list(itertools.chain.from_iterable(map(_leaves, value)))
    return [value]


def _positions(context, obj, size: int, name: str) -> np.ndarray:
    """The positions that a constant slice, mask, integer or list of integers names."""
    if isinstance(obj, slice):
        return np.arange(size)[obj]
    value = blame.constant_value(context.lift(obj).node)
    if value is None:
        raise TraceError(f"{name}: the positions must be known while tracing")
    return value


@implements(np.delete)
def delete(context, arr, obj, axis=None):
    x = context.lift(arr)
    x, axis = along(x, axis)
    size = x.shape[axis].__index__()
    kept = np.delete(np.arange(size), _positions(context, obj, size, "np.delete"))
    return np.take(x, kept, axis=axis)


@implements(np.insert)
def insert(context, arr, obj, values, axis=None):
    x = context.lift(arr)
    x, axis = along(x, axis)
    size = x.shape[axis].__index__()
    at = _positions(context, obj, size, "np.insert")
    value = context.wrap(converted(context.lift(values), x.dtype))
    single = not isinstance(at, np.ndarray) or at.ndim == 0 or at.size == 1
    if single:
        value = np.moveaxis(_leading(value, x.ndim), 0, axis) if np.ndim(at) == 0 else _leading(
            value, x.ndim)  # fmt: skip
        count = value.shape[axis]
    else:
        value, count = _leading(value, x.ndim), at.size
    shape = [count if i == axis else d for i, d in enumerate(x.shape)]
    value = np.broadcast_to(value, shape)
    # Positions in [x, values] of the elements of the result, found by NumPy itself.
    where = at if not single else np.repeat(np.ravel(at), count)
    order = np.insert(np.arange(size), where if count != 1 else np.ravel(at)[0],
                      size + np.arange(count) if count != 1 else size)  # fmt: skip
    return np.take(np.concatenate([x, value], axis=axis), order, axis=axis)


def _leading(value, ndim: int):
    return value.reshape((1,) * (ndim - value.ndim) + tuple(value.shape))


@implements(np.resize)
def resize(context, a, new_shape):
    x = context.lift(a).ravel()
    shape = (new_shape,) if not hasattr(new_shape, "__len__") else tuple(new_shape)
    count, size = int(np.prod(shape)), x.shape[0].__index__()
    if not size or not count:
        return np.zeros_like(x, shape=shape)
    return np.take(x, np.arange(count) % size).reshape(shape)


@implements(np.diagflat)
def diagflat(context, v, k=0):
    return np.diag(context.lift(v).ravel(), k)


@implements(np.vander)
def vander(context, x, N=None, increasing=False):
    x = context.lift(x)
    if x.ndim != 1:
        raise ShapeError(f"np.vander takes a vector, not {shape_text(x.shape)}")
    count = x.shape[0].__index__() if N is None else N
    kind = np.result_type(x.dtype, int)
    powers = [np.ones_like(x, dtype=kind)]
    for _ in range(count - 1):
        powers.append(powers[-1] * x.astype(kind))
    columns = powers[:count]
    return np.stack(columns if increasing else columns[::-1], axis=1)


@implements(np.fix)
def fix(context, x):
    return np.trunc(context.lift(x))


@implements(np.real_if_close)
def real_if_close(context, a, tol=100):
    x = context.lift(a)
    if x.dtype.kind == "c":
        raise TraceError("np.real_if_close: whether the result is complex depends on the data")
    return x


@implements(np.array_equiv)
def array_equiv(context, a1, a2):
    a, b = context.lift(a1), context.lift(a2)
    try:
        same = a == b
    except ShapeError:
        return False
    return context.wrap(np.all(same).node, weak=True)


# ---------------------------------------------------------------------------- scales of values


@implements(np.logspace)
def logspace(context, start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    exponents = np.linspace(context.lift(start), stop, num, endpoint, axis=axis)
    values = np.power(base, exponents)
    return values if dtype is None else values.astype(dtype)


@implements(np.geomspace)
def geomspace(context, start, stop, num=50, endpoint=True, dtype=None, axis=0):
    start, stop = context.lift(start), context.lift(stop)
    kind = np.result_type(common_dtype(start, stop), np.float64)
    sign = np.sign(start.astype(kind))
    low, high = (np.log10(np.abs(v.astype(kind))) for v in (start, stop))
    values = sign * np.power(10.0, np.linspace(low, high, num, endpoint, axis=axis))
    ends = [slice(None)] * values.ndim
    pieces = []
    count = values.shape[axis]
    at = normalize_axis_index(axis, values.ndim)
    for k, end in ((0, start), (count - 1, stop)):
        ends[at] = slice(k, k + 1)
        pieces.append(np.broadcast_to(np.expand_dims(end.astype(kind), at),
                                      values[tuple(ends)].shape))  # fmt: skip
    if count > 1 and endpoint:
        ends[at] = slice(1, -1)
        values = np.concatenate([pieces[0], values[tuple(ends)], pieces[1]], axis=at)
    elif count:
        ends[at] = slice(1, None)
        values = np.concatenate([pieces[0], values[tuple(ends)]], axis=at)
    return values if dtype is None else values.astype(dtype)
