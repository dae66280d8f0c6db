"""Sums, extremes, means and what is made of them; dtypes as NumPy's."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from graphc.errors import DTypeError, ShapeError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.dims import product
from graphc.ir.node import Node
from graphc.ir.parts import is_complex, parts_of
from graphc.trace import blame
from graphc.trace.dispatch import FUNCTIONS, implements
from graphc.trace.dtypes import cast
from graphc.trace.elementwise import broadcast_shapes, constant_scalar, fit, truth
from graphc.trace.special import logsumexp
from graphc.wording import shape_text

_NONE = np._NoValue


def given(value) -> bool:
    """Was an optional argument given? NumPy marks absent ones in two ways."""
    return value is not None and value is not _NONE


def axes_of(axis, ndim: int) -> tuple[int, ...]:
    if axis is None or axis is _NONE:
        return tuple(range(ndim))
    if isinstance(axis, bool):
        raise TypeError("an integer is required for the axis")
    if not ndim and axis in (0, -1):
        return ()  # NumPy reduces a number along its first or last axis
    return tuple(sorted(normalize_axis_tuple(axis, ndim)))


def reduce_node(name: str, x: Node, axes, keepdims=False) -> Node:
    """The reduction ``name`` over ``axes``, which stay with size 1 if ``keepdims``."""
    result = build.reduce(name, x, axes)
    if given(keepdims) and keepdims:
        shape = [1 if i in axes else d for i, d in enumerate(x.shape)]
        result = build.reshape(result, shape)
    return result


def count_of(x: Node, axes, dtype) -> Node:
    """How many elements are reduced, as a scalar node."""
    return build.size(product(x.shape[a] for a in axes), dtype)


@lru_cache(maxsize=256)
def _sum_dtype(dtype: np.dtype) -> np.dtype:
    return np.sum(np.zeros(1, dtype)).dtype


def _masked(context, x: Node, where, fill) -> Node:
    if not given(where) or where is True:
        return x
    mask = context.lift(where)
    shape = broadcast_shapes("where", x.shape, mask.shape)
    x = build.broadcast_to(x, shape)
    return op("where", build.broadcast_to(truth(mask.node), shape), x, build.full_like(x, fill))


def _with_initial(context, name: str, result: Node, initial) -> Node:
    if not given(initial):
        return result
    number = constant_scalar(context.lift(initial).node)
    if result.dtype.kind in "iu" and isinstance(number, float) and not math.isfinite(number):
        raise DTypeError(f"initial={number} is no {result.dtype}")
    return op(name, result, fit(context.lift(initial), result.dtype, result.shape))


def _accumulate(name: str, combine: str, identity: int):
    def reduction(context, a, axis=None, dtype=None, *, keepdims=False, initial=None, where=None):
        x = context.lift(a).node
        x = cast(x, np.dtype(dtype) if given(dtype) else _sum_dtype(x.dtype))
        x = _masked(context, x, where, identity)
        result = reduce_node(name, x, axes_of(axis, x.ndim), keepdims)
        return context.wrap(_with_initial(context, combine, result, initial))

    return reduction


sum_ = implements(np.sum)(_accumulate("sum", "add", 0))
implements(np.prod)(_accumulate("prod", "mul", 1))


def lowest(dtype: np.dtype, sign: int):
    """The identity of max (``sign`` -1) or min (1)."""
    if dtype.kind == "f":
        return sign * np.inf
    if dtype.kind == "b":
        return sign > 0
    return np.iinfo(dtype).min if sign < 0 else np.iinfo(dtype).max


def _extreme(name: str, combine: str, sign: int):
    def reduction(context, a, axis=None, *, keepdims=False, initial=None, where=None):
        x = context.lift(a).node
        if is_complex(x):
            return _complex_extreme(context, name, x, axis, keepdims, initial, where)
        if given(where) and where is not True and not given(initial):
            raise TraceError(f"np.{name} with where= needs initial=")
        x = _masked(context, x, where, lowest(x.dtype, sign))
        axes = axes_of(axis, x.ndim)
        if any(x.shape[i] == 0 for i in axes) and not given(initial):
            raise ShapeError(f"np.{name} of no elements: {x.type} over axes {axes}")
        if any(x.shape[i] == 0 for i in axes):
            empty = reduce_node("sum", x, axes, keepdims)
            return context.wrap(fit(context.lift(initial), x.dtype, empty.shape))
        result = reduce_node(name, x, axes, keepdims)
        return context.wrap(_with_initial(context, combine, result, initial))

    return reduction


def _first_extreme(name: str, x: Node, axis: int) -> Node:
    """Where the largest or least complex value stands: by real part, then imaginary; NaN first."""
    re, im = parts_of(x)
    best = build.reduce(name, re, (axis,))
    rest = [i for i in range(x.ndim) if i != axis]
    ties = op("eq", re, build.broadcast(best, x.shape, rest))
    lost = build.full_like(im, lowest(im.dtype, -1 if name == "max" else 1))
    im = op("where", ties, im, lost)
    chosen = op("eq", im, build.broadcast(build.reduce(name, im, (axis,)), x.shape, rest))
    chosen = op("logical_and", chosen, ties)
    nan = op("logical_or", op("isnan", parts_of(x).re), op("isnan", parts_of(x).im))
    some = build.broadcast(build.reduce("max", nan, (axis,)), x.shape, rest)
    return build.reduce("argmax", cast(op("where", some, nan, chosen), np.int64), (axis,))


def _complex_extreme(context, name: str, x: Node, axis, keepdims, initial, where):
    """The first of equal values has the gradient."""
    if given(where) and where is not True:
        if not given(initial):
            raise TraceError(f"np.{name} with where= needs initial=")
        first = np.full(1, initial, x.dtype)[0]
        x = np.where(where, context.wrap(x), first).node
    axes = axes_of(axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    shape = [x.shape[i] for i in rest]
    kept = [1 if i in axes else d for i, d in enumerate(x.shape)]
    x = build.transpose(x, [*rest, *axes])
    x = build.reshape(x, (*shape, product(x.shape[len(rest) :])))
    if given(initial):
        first = build.broadcast_to(cast(context.lift(initial).node, x.dtype), (*shape, 1))
        x = build.concat([x, first], len(rest))
    if x.shape[-1] == 0:
        raise ShapeError(f"np.{name} of no elements: {x.type}")
    at = _first_extreme(name, x, len(rest))
    found = build.take_along(x, build.reshape(at, (*shape, 1)), len(rest))
    return context.wrap(build.reshape(found, kept if given(keepdims) and keepdims else shape))


max_ = implements(np.max, np.amax)(_extreme("max", "maximum", -1))
min_ = implements(np.min, np.amin)(_extreme("min", "minimum", 1))


def _truth(name: str, identity: bool):
    def reduction(context, a, axis=None, *, keepdims=False, where=None):
        x = _masked(context, truth(context.lift(a).node), where, identity)
        axes = axes_of(axis, x.ndim)
        if any(x.shape[i] == 0 for i in axes):
            empty = reduce_node("sum", cast(x, np.int64), axes, keepdims)
            return context.wrap(build.full(empty.shape, identity, bool))
        return context.wrap(reduce_node(name, x, axes, keepdims))

    return reduction


implements(np.all)(_truth("min", True))
implements(np.any)(_truth("max", False))


def _arg_extreme(name: str):
    def reduction(context, a, axis=None, *, keepdims=False):
        x = context.lift(a).node
        kept = [1] * x.ndim
        if not given(axis):
            x, index = build.reshape(x, (x.type.size,)), 0
        else:
            index = normalize_axis_index(axis, x.ndim)
            kept = [1 if i == index else d for i, d in enumerate(x.shape)]
        if x.shape[index] == 0:
            raise ShapeError(f"np.{name} of no elements: {x.type} over axis {index}")
        found = _first_extreme(name[3:], x, index) if is_complex(x) else None
        result = build.reduce(name, x, (index,)) if found is None else found
        return context.wrap(build.reshape(result, kept) if keepdims is True else result)

    return reduction


implements(np.argmax)(_arg_extreme("argmax"))
implements(np.argmin)(_arg_extreme("argmin"))


def _mean_dtype(x: Node, dtype) -> np.dtype:
    if given(dtype):
        return np.dtype(dtype)
    return np.dtype(np.float64) if x.dtype.kind in "biu" else x.dtype


def _count(context, x: Node, axes, where, keepdims, dtype) -> Node:
    """The number of averaged elements, in a shape that broadcasts against the sum."""
    if not given(where) or where is True:
        return count_of(x, axes, dtype)
    ones = _masked(context, build.full(x.shape, 1, dtype), where, 0)
    return reduce_node("sum", ones, axes, keepdims)


def mean_node(context, x: Node, axes, keepdims, dtype, where=None) -> Node:
    working = np.dtype(np.float32) if dtype == np.float16 else dtype
    x = cast(x, working)
    total = reduce_node("sum", _masked(context, x, where, 0), axes, keepdims)
    if working.kind in "biu":  # dtype= makes NumPy add up integers, and cut the average
        total, working = cast(total, np.float64), np.dtype(np.float64)
    count = build.broadcast_to(_count(context, x, axes, where, keepdims, working), total.shape)
    return cast(op("div", total, count), dtype)


@implements(np.mean)
def mean(context, a, axis=None, dtype=None, *, keepdims=False, where=None):
    x = context.lift(a).node
    axes = axes_of(axis, x.ndim)
    return context.wrap(mean_node(context, x, axes, keepdims, _mean_dtype(x, dtype), where))


def _variance(context, a, axis, dtype, ddof, keepdims, where, correction, mean=None) -> Node:
    """As NumPy computes it: ``dtype`` is that of the sums, not of the deviations."""
    x = context.lift(a)
    if given(correction):
        if ddof != 0:
            raise ValueError("ddof and correction can't be provided simultaneously.")
        ddof = correction
    axes = axes_of(axis, x.ndim)
    kind = _mean_dtype(x.node, dtype)
    if given(mean):
        center = context.lift(mean)
    else:
        center = context.wrap(mean_node(context, x.node, axes, True, kind, where))
    off = np.subtract(x, center)
    if is_complex(off.node) and x.dtype.kind in "bc":  # |off|**2
        re, im = parts_of(off.node)
        square = op("add", op("mul", re, re), op("mul", im, im))
    else:
        square = op("mul", off.node, off.node)
    if given(dtype) or x.dtype.kind in "biu":
        square = cast(square, kind)
    total = reduce_node("sum", _masked(context, square, where, 0), axes, keepdims)
    floats = np.zeros(0, total.dtype).real.dtype
    floats = np.dtype(np.float64) if floats.kind in "biu" else floats
    count = _count(context, x.node, axes, where, keepdims, floats)
    if not isinstance(ddof, int | float):
        ddof = ddof.__index__()
    count = op("sub", count, build.full_like(count, ddof))
    count = op("maximum", count, build.full_like(count, 0)) if ddof else count
    return cast(np.true_divide(context.wrap(total), context.wrap(count)).node, total.dtype)


def _square_root(context, variance: Node):
    """In the dtype of the variance; an array of integers cannot hold it, as in NumPy."""
    if variance.dtype.kind not in "biu":
        return np.sqrt(context.wrap(variance))
    if variance.ndim:
        raise DTypeError(
            f"np.std: dtype={variance.dtype} cannot hold the square roots; leave dtype= out"
        )
    return context.wrap(cast(op("sqrt", cast(variance, np.float64)), variance.dtype))


@implements(np.var)
def var(
    context, a, axis=None, dtype=None, ddof=0, *, keepdims=False, where=None, mean=None,
    correction=None,
):  # fmt: skip
    arguments = (a, axis, dtype, ddof, keepdims, where, correction, mean)
    return context.wrap(_variance(context, *arguments))


@implements(np.std)
def std(
    context, a, axis=None, dtype=None, ddof=0, *, keepdims=False, where=None, mean=None,
    correction=None,
):  # fmt: skip
    arguments = (a, axis, dtype, ddof, keepdims, where, correction, mean)
    return _square_root(context, _variance(context, *arguments))


@implements(np.ptp)
def ptp(context, a, axis=None, *, keepdims=False):
    high = max_(context, a, axis, keepdims=keepdims)
    return high - min_(context, a, axis, keepdims=keepdims)


@implements(np.count_nonzero)
def count_nonzero(context, a, axis=None, *, keepdims=False):
    return sum_(context, context.wrap(truth(context.lift(a).node)), axis, keepdims=keepdims)


def weights_of(context, name: str, weights, x, axis):
    """``weights`` in a shape that broadcasts against ``x``: its own, or that of its axes."""
    w = context.lift(weights)
    if w.shape == x.shape:
        return w
    axes = axis if isinstance(axis, tuple) else () if axis is None else (axis,)
    axes = [normalize_axis_index(i, x.ndim) for i in axes]
    if axis is None or w.shape != tuple(x.shape[i] for i in axes):
        raise ShapeError(
            f"{name}: weights {shape_text(w.shape)} for values {shape_text(x.shape)}: give "
            "weights of the values' shape, or of that along axis="
        )
    w = np.transpose(w, np.argsort(axes))
    return w.reshape([d if i in axes else 1 for i, d in enumerate(x.shape)])


_NO_WEIGHT = "ZeroDivisionError: Weights sum to zero, can't be normalized"


@implements(np.average)
def average(context, a, axis=None, weights=None, returned=False, *, keepdims=False):
    x = context.lift(a)
    if given(axis):
        axis = normalize_axis_tuple(axis, x.ndim)
    if weights is None:
        result = np.mean(x, axis=axis, keepdims=keepdims is True)
        if result.size == 0:
            raise ZeroDivisionError("np.average of no elements")
        scale = context.wrap(count_of(x.node, axes_of(axis, x.ndim), result.dtype))
    else:
        w = weights_of(context, "np.average", weights, x, axis)
        floats = [np.float64] if x.dtype.kind in "biu" else []
        dtype = np.result_type(x.dtype, w.dtype, *floats)
        w = w.astype(dtype)
        if w.shape != x.shape and axis is None:
            w = np.broadcast_to(w, x.shape)
        scale = w.sum(axis=axis, keepdims=keepdims is True)
        known = blame.constant_value(scale.node)
        if known is not None and (known == 0).any():
            raise ZeroDivisionError("np.average: weights sum to zero, can't be normalized")
        if known is None:
            none = op("eq", scale.node, build.full_like(scale.node, 0))
            scale = context.wrap(build.refusing(scale.node, none, _NO_WEIGHT))
        result = (x.astype(dtype) * w).sum(axis=axis, keepdims=keepdims is True) / scale
    return (result, np.broadcast_to(scale, result.shape).copy()) if returned else result


def logaddexp_reduce(context, array, axis=0, *, keepdims=False, initial=None, where=None):
    """``np.logaddexp.reduce``: the logarithm of a sum of exponentials, shifted by the largest."""
    x = context.lift(array)
    if given(where) and where is not True:
        x = np.where(where, x, -np.inf)
    result = logsumexp(context, x, axis, keepdims=keepdims)
    return np.logaddexp(result, initial).astype(result.dtype) if given(initial) else result


FUNCTIONS[logaddexp_reduce] = logaddexp_reduce


def _scan(name: str):
    def scan(context, a, axis=None, dtype=None):
        x = context.lift(a).node
        if not given(axis):
            x, axis = build.reshape(x, (x.type.size,)), 0
        axis = normalize_axis_index(axis, x.ndim)
        x = cast(x, np.dtype(dtype) if given(dtype) else _sum_dtype(x.dtype))
        if name == "cumprod":
            x.shape[axis].__index__()  # its gradient doubles steps up to a known length
        return context.wrap(build.scan(name, x, axis))

    return scan


cumsum = implements(np.cumsum)(_scan("cumsum"))
cumprod = implements(np.cumprod)(_scan("cumprod"))


def _cumulative(name: str, scan, first: int):
    """The array API's spelling: an axis is needed but for vectors."""

    def cumulative(context, x, /, *, axis=None, dtype=None, include_initial=False):
        x = context.lift(x)
        if axis is None:
            if x.ndim > 1:
                raise ShapeError(f"np.{name}: give axis= for an array of {x.ndim} axes")
            x, axis = x.reshape((x.size,)), 0
        found = scan(context, x, axis, dtype)
        if not include_initial:
            return found
        shape = [1 if i == axis % x.ndim else d for i, d in enumerate(x.shape)]
        start = context.wrap(build.full(shape, first, found.dtype))
        return np.concatenate([start, found], axis=axis)

    return cumulative


implements(getattr(np, "cumulative_sum", None))(_cumulative("cumulative_sum", cumsum, 0))
implements(getattr(np, "cumulative_prod", None))(_cumulative("cumulative_prod", cumprod, 1))
