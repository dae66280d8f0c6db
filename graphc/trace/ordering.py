"""Functions of order: sort, search, interpolation in tables, counts of bins."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from graphc.errors import DTypeError, ShapeError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.parts import is_complex, parts_of
from graphc.trace import blame
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast, common_dtype
from graphc.trace.reductions import given, weights_of
from graphc.wording import shape_text

# ---------------------------------------------------------------------------------------- sort


def _along(context, a, axis):
    """The node and the axis to order; all elements where ``axis`` is None."""
    x = context.lift(a)
    if axis is None or not x.ndim:
        if not x.ndim and axis is not None:
            normalize_axis_index(axis, x.ndim)  # NumPy's error
        return x.ravel().node, 0
    return x.node, normalize_axis_index(axis, x.ndim)


def _order(x, axis: int):
    """The stable order of ``x``; of complex values by the real part, then the imaginary one."""
    if not is_complex(x):
        return build.argsort(x, axis)
    re, im = parts_of(x)
    order = build.argsort(im, axis)
    return build.take_along(order, build.argsort(build.take_along(re, order, axis), axis), axis)


def sorted_node(x, axis: int):
    """``x`` in increasing order; its gradient goes back to where each element came from."""
    return build.take_along(x, _order(x, axis), axis)


@implements(np.sort)
def sort(context, a, axis=-1, kind=None, order=None, *, stable=None):
    return context.wrap(sorted_node(*_along(context, a, axis)))


@implements(np.argsort)
def argsort(context, a, axis=-1, kind=None, order=None, *, stable=None):
    """Equal elements keep their order, as with NumPy's kind="stable"."""
    x = context.lift(a)
    if not x.ndim:  # unlike np.sort
        normalize_axis_index(-1 if axis is None else axis, 1)
        return context.wrap(build.full((1,), 0, np.int64))
    return context.wrap(_order(*_along(context, x, axis)))


@implements(np.partition)
def partition(context, a, kth, axis=-1, kind="introselect", order=None):
    return sort(context, a, axis)


@implements(np.argpartition)
def argpartition(context, a, kth, axis=-1, kind="introselect", order=None):
    return argsort(context, a, axis)


@implements(np.sort_complex)
def sort_complex(context, a):
    x = context.lift(a)
    narrow = x.dtype in (np.dtype(d) for d in (np.int8, np.uint8, np.int16, np.uint16))
    kind = x.dtype if x.dtype.kind == "c" else np.complex64 if narrow else np.complex128
    return sort(context, x).astype(kind)


@implements(np.lexsort)
def lexsort(context, keys, axis=-1):
    order = None
    for key in keys:  # the last is the first to decide
        x, at = _along(context, key, axis)
        if order is None:
            order = _order(x, at)
        else:
            order = build.take_along(order, _order(build.take_along(x, order, at), at), at)
    if order is None:
        raise ShapeError("np.lexsort: need at least one key")
    return context.wrap(order)


# -------------------------------------------------------------------------------------- search


@implements(np.searchsorted)
def searchsorted(context, a, v, side="left", sorter=None):
    table, values = context.lift(a), context.lift(v)
    if table.ndim != 1:
        raise ShapeError(
            f"np.searchsorted: the table must be a vector, not {shape_text(table.shape)}"
        )
    if side not in ("left", "right"):
        raise TraceError(f"np.searchsorted: unknown side {side!r}; available: left, right")
    if sorter is not None:
        table = np.take(table, sorter)
    dtype = common_dtype(table, values)
    nodes = cast(table.node, dtype), cast(values.node, dtype)
    return context.wrap(build.searchsorted(*nodes, side))


def _falls(context, bins) -> bool | None:
    """Whether constant bins decrease; None where they are traced."""
    value = blame.constant_value(bins.node)
    if value is None:
        return None
    steps = np.diff(value)
    if (steps < 0).any() and (steps > 0).any():
        raise ShapeError("np.digitize: bins must increase or decrease monotonically")
    return bool((steps < 0).any())


@implements(np.digitize)
def digitize(context, x, bins, right=False):
    x, bins = context.lift(x), context.lift(bins)
    side = "left" if right else "right"
    falls = _falls(context, bins)
    up = searchsorted(context, bins, x, side) if falls is not True else None
    down = bins.shape[0] - searchsorted(context, bins[::-1], x, side) if falls is not False else up
    if falls is None:
        return np.where(bins[0] > bins[-1], down, up)
    return down if falls else up


@implements(np.interp)
def interp(context, x, xp, fp, left=None, right=None, period=None):
    """Piecewise linear in ``x``; differentiable in ``x``, ``xp`` and ``fp``."""
    x, xp, fp = context.lift(x), context.lift(xp), context.lift(fp)
    if fp.dtype.kind == "c":
        left, right = (None if v is None else context.lift(v) for v in (left, right))
        re, im = (
            interp(context, x, xp, part(fp), *(v if v is None else part(v) for v in (left, right)),
                   period)
            for part in (np.real, np.imag)
        )  # fmt: skip
        return re + 1j * im
    x, xp, fp = (v.astype(np.float64) for v in (x, xp, fp))
    if xp.ndim != 1 or xp.shape != fp.shape:
        raise ShapeError(
            f"np.interp: xp {shape_text(xp.shape)} and fp {shape_text(fp.shape)} must be vectors "
            "of one length"
        )
    if period is not None:
        x, xp = x % abs(period), xp % abs(period)
        order = argsort(context, xp)
        xp, fp = np.take(xp, order), np.take(fp, order)
        xp = np.concatenate([xp[-1:] - abs(period), xp, xp[:1] + abs(period)])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    left = fp[0] if left is None else context.lift(left).astype(np.float64)
    right = fp[-1] if right is None else context.lift(right).astype(np.float64)
    size = xp.shape[0]
    inside = fp[0]
    if size != 1:
        at = searchsorted(context, xp, x, "right") - 1
        at = np.clip(at, 0, size - 2)
        low, high = np.take(xp, at), np.take(xp, at + 1)
        before, after = np.take(fp, at), np.take(fp, at + 1)
        inside = (after - before) / (high - low) * (x - low) + before
        inside = np.where(x == xp[-1], fp[-1], inside)
    result = np.where(x < xp[0], left, np.where(x > xp[-1], right, inside))
    return np.where(np.isnan(x), x, result)


# ---------------------------------------------------------------------------------------- bins


@implements(np.bincount)
def bincount(context, x, /, weights=None, minlength=0):
    """Counts of 0, ..., minlength - 1; a larger value is an IndexError at run time."""
    index = context.lift(x)
    if index.ndim != 1 or index.dtype.kind not in "biu":
        raise ShapeError(
            f"np.bincount takes a vector of integers, not {index.dtype}{shape_text(index.shape)}"
        )
    minlength = minlength.__index__()
    value = blame.constant_value(index.node)
    if value is not None:
        minlength = max(minlength, int(value.max(initial=-1)) + 1)
    elif not minlength:
        raise TraceError(
            "np.bincount: the size of its result depends on the data, which a static graph cannot "
            "hold.\nGive minlength=n, the number of bins: the values must then be below n."
        )
    if weights is None or index.size == 0:  # NumPy counts there whatever the weights are
        updates = build.full(index.shape, 1, np.int64)
    else:
        weights = context.lift(weights).astype(np.float64)
        if weights.shape != index.shape:
            raise ShapeError("np.bincount: the weights and the values must have one length")
        updates = weights.node
    return context.wrap(build.scatter_add(cast(index.node, np.int64), updates, 0, minlength))


def _edges(context, a, bins, bounds):
    """The edges of the bins as a traced vector."""
    if isinstance(bins, str):
        raise TraceError(
            f"np.histogram: the number of bins of bins={bins!r} depends on the data, which a "
            "static graph cannot hold.\nGive bins=n or the edges."
        )
    edges = context.lift(bins)
    if edges.ndim == 1:
        value = blame.constant_value(edges.node)
        if value is not None and (np.diff(value) < 0).any():
            raise ShapeError("np.histogram: bins must increase monotonically")
        return edges
    if bounds is None and a.size == 0:
        bounds = (0, 1)
    low, high = (np.min(a), np.max(a)) if bounds is None else map(context.lift, bounds)
    kind = np.result_type(common_dtype(low, high), a.dtype)
    kind = np.result_type(kind, float) if kind.kind in "biu" else kind
    low, high = low.astype(kind), high.astype(kind)
    same = low == high
    low, high = np.where(same, low - 0.5, low), np.where(same, high + 0.5, high)
    return np.linspace(low, high, bins.__index__() + 1, dtype=kind)


@implements(np.histogram)
def histogram(context, a, bins=10, range=None, density=None, weights=None):
    """The edges of the bins are constants to differentiation, except in the densities."""
    a = context.lift(a).ravel()
    if a.dtype == bool:
        a = a.astype(np.uint8)
    edges = _edges(context, a, bins, range)
    count = edges.shape[0] - 1
    at = searchsorted(context, edges, a, "right")  # 0: below; count + 1: above or NaN
    at = np.where(a == edges[-1], count, at)
    if weights is None:
        updates = build.full(a.shape, 1, np.int64)
    else:
        updates = context.lift(weights).ravel().node
    found = context.wrap(build.scatter_add(at.node, updates, 0, count + 2))[1 : count + 1]
    if given(density) and density:
        widths = np.diff(edges).astype(np.float64)
        return found / widths / found.sum(), edges
    return found.copy(), edges


@implements(np.histogram_bin_edges)
def histogram_bin_edges(context, a, bins=10, range=None, weights=None):
    return _edges(context, context.lift(a).ravel(), bins, range)


@implements(np.isin)
def isin(context, element, test_elements, assume_unique=False, invert=False, *, kind=None):
    x, tests = context.lift(element), context.lift(test_elements).ravel()
    found = np.any(x[..., None] == tests, axis=-1)
    return np.logical_not(found) if invert else found


# ---------------------------------------------------------------------------------- quantiles


def _family(alpha: float, beta: float):
    return lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1


# Where the quantile lies in the sorted sample, counted from 0; between two elements or at one.
_BETWEEN = {
    "linear": lambda n, q: (n - 1) * q,
    "averaged_inverted_cdf": lambda n, q: n * q - 1,
    "interpolated_inverted_cdf": _family(0, 1),
    "hazen": _family(0.5, 0.5),
    "weibull": _family(0, 0),
    "median_unbiased": _family(1 / 3.0, 1 / 3.0),
    "normal_unbiased": _family(3 / 8.0, 3 / 8.0),
    "midpoint": lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)),
}


def _stepwise(index, stays):
    below = np.floor(index)
    return np.maximum(np.where(stays(index - below, below), below, below + 1), 0)


_AT = {
    "lower": lambda n, q: np.floor((n - 1) * q),
    "higher": lambda n, q: np.ceil((n - 1) * q),
    "nearest": lambda n, q: np.around((n - 1) * q),
    "inverted_cdf": lambda n, q: _stepwise(n * q - 1, lambda g, _: g == 0),
    "closest_observation": lambda n, q: _stepwise(
        n * q - 1.5, lambda g, below: np.logical_and(g == 0, below % 2 == 1)
    ),
}


def _weight(method: str, gamma, index):
    if method == "averaged_inverted_cdf":
        return np.where(gamma == 0, 0.5, 1.0).astype(gamma.dtype)
    if method == "midpoint":
        return np.where(index % 1 == 0, 0.0, 0.5).astype(gamma.dtype)
    return gamma


def _reduced_last(context, a, axis):
    """``a`` with the reduced axes merged into the last one, and the shape for keepdims."""
    x = context.lift(a)
    axes = range(x.ndim) if not given(axis) else axis if isinstance(axis, tuple) else (axis,)
    axes = sorted(normalize_axis_index(i, x.ndim) for i in axes)
    rest = [i for i in range(x.ndim) if i not in axes]
    shape = [x.shape[i] for i in rest]
    wide = [1 if i in axes else d for i, d in enumerate(x.shape)]
    count = x.node.type.size if not rest else None
    moved = np.transpose(x, [*rest, *axes])
    if count is None:
        count = 1
        for i in axes:
            count = count * x.shape[i]
    return moved.reshape((*shape, count)), wide


_NO_WEIGHT = "ValueError: Weights included NaN, inf or were all zero."


def _weighted(context, ordered, weights, levels, n, outer, pick):
    """The first element at which the running share of the weights reaches the level."""
    running = np.cumsum(weights, axis=-1, dtype=np.float64)
    total = running[..., -1:]
    known = blame.constant_value(total.node)
    if known is None:
        bad = op("logical_not", op("gt", total.node, build.full_like(total.node, 0)))
        total = context.wrap(build.refusing(total.node, bad, _NO_WEIGHT))
    elif not (known > 0).all():
        raise ShapeError("the weights of a quantile included NaN or were all zero")
    share = running / total
    share = np.where(share == 0, -1.0, share)
    levels = np.reshape(context.lift(levels), (*outer, *(1,) * ordered.ndim))
    if levels.dtype.kind == "f":
        share = share.astype(levels.dtype)
    at = np.sum(share < levels, axis=-1)
    return pick(np.minimum(at, np.maximum(n - 1, 0)))


def _quantile(
    context, a, q, axis, method, keepdims, skip_nan: bool, name: str, scale: int, weights=None
):
    weak = type(q) in (int, float)
    levels = context.lift(q)
    if context.lift(a).dtype.kind == "c":
        raise DTypeError(f"{name} of complex values: they have no order")
    exact = method == "linear" and scale == 1 and levels.dtype.kind in "biu"  # of 0 and 1
    value = blame.constant_value(levels.node)
    levels = levels if value is None else value
    if scale != 1:
        levels = np.true_divide(levels, scale)
    if levels.dtype.kind in "biu":
        levels = levels.astype(np.float64)
    if value is not None and not (np.all(levels >= 0) and np.all(levels <= 1)):
        raise TraceError(f"{name}: the quantiles must lie between 0 and {scale}, not {value}")
    if method not in _AT and method not in _BETWEEN:
        raise TraceError(
            f"{name}: unknown method {method!r}; available: {', '.join([*_BETWEEN, *_AT])}"
        )
    if weights is not None:
        if method != "inverted_cdf":
            raise TraceError(f"{name}: only method='inverted_cdf' takes weights, not {method!r}")
        weights = weights_of(context, name, weights, context.lift(a), axis)
        weights = np.broadcast_to(weights, context.lift(a).shape)
        weights, _ = _reduced_last(context, weights, axis)
    x, wide = _reduced_last(context, a, axis)
    if skip_nan and context.lift(a).size == 0:  # what NumPy does there
        return np.nanmean(context.lift(a), axis=axis, keepdims=given(keepdims) and keepdims)
    if x.dtype == bool:
        if method not in _AT and not exact:
            raise DTypeError(f"{name} of bools: they cannot be interpolated; use x.astype(float)")
        found = _quantile(context, context.lift(a).astype(np.uint8), q, axis, method, keepdims,
                          skip_nan, name, scale, weights)  # fmt: skip
        return found.astype(bool)
    if weights is not None:
        order = np.argsort(x, axis=-1, stable=True)
        ordered = np.take_along_axis(x, order, axis=-1)
        weights = np.take_along_axis(weights, order, axis=-1)
    else:
        ordered = sort(context, x)
    size, floats = x.shape[-1], x.dtype.kind == "f"
    outer = tuple(levels.shape)
    n = size
    if skip_nan and floats:
        n = np.sum(np.logical_not(np.isnan(x)), axis=-1).astype(levels.dtype)
        levels = np.reshape(levels, (*outer, *(1,) * n.ndim))
    elif isinstance(levels, np.generic | np.ndarray):
        levels = levels.astype(np.float64) if weak else levels
    shape = (*outer, *x.shape[:-1])

    def pick(index):
        """Elements at ``index``, which has the axes of the quantiles, or those of the result."""
        index = context.lift(index).astype(np.int64)
        if index.ndim == len(outer) and index.ndim != len(shape):
            index = index.reshape((*outer, *(1,) * (x.ndim - 1)))
        index = np.broadcast_to(index, shape)
        last = np.moveaxis(index.reshape((math.prod(outer), *x.shape[:-1])), 0, -1)
        taken = np.take_along_axis(ordered, last, axis=-1)
        return np.moveaxis(taken, -1, 0).reshape(shape)

    if weights is not None:
        if skip_nan and floats:
            weights = np.where(np.isnan(ordered), 0, weights)
        result = _weighted(context, ordered, weights, levels, n, outer, pick)
    elif exact:
        levels = context.lift(levels).astype(np.int64)
        result = pick(_clipped((n - 1) * levels, n) if skip_nan else (n - 1) * levels)
    elif method in _AT:
        result = pick(_clipped(_AT[method](n, levels), n))
    else:
        at = _BETWEEN[method](n, levels)
        below = np.floor(at)
        inside = np.logical_and(at >= 0, at < n - 1)
        low = np.where(inside, below, np.where(at < 0, 0, n - 1))
        high = np.where(inside, below + 1, low)
        gamma = _weight(method, at - below, at)
        if not isinstance(gamma, np.ndarray | np.generic):
            gamma = context.lift(gamma)
        gamma = gamma.astype(ordered.dtype) if weak and floats else gamma
        if gamma.ndim == len(outer) and gamma.ndim != len(shape):
            gamma = gamma.reshape((*outer, *(1,) * (x.ndim - 1)))
        before, after = pick(_clipped(low, n)), pick(_clipped(high, n))
        step = after - before
        result = np.where(gamma >= 0.5, after - step * (1 - gamma), before + step * gamma)
    if floats:
        largest = ordered[..., 0 if skip_nan else -1]  # NaN stands last
        result = np.where(np.isnan(largest), largest.astype(result.dtype), result)
    return result.reshape((*outer, *wide)) if given(keepdims) and keepdims else result


def _clipped(index, n):
    return np.clip(index, 0, np.maximum(n - 1, 0)) if not isinstance(n, int) else index


def _quantiles(name: str, scale: int, skip_nan: bool):
    def handler(
        context, a, q, axis=None, overwrite_input=False, method="linear", keepdims=False, *,
        weights=None, interpolation=None,
    ):  # fmt: skip
        if interpolation is not None:
            raise TraceError(f"np.{name}: write method= instead of interpolation=")
        return _quantile(context, a, q, axis, method, keepdims, skip_nan, f"np.{name}", scale,
                         weights)  # fmt: skip

    return implements(getattr(np, name))(handler)


quantile = _quantiles("quantile", 1, False)
_quantiles("percentile", 100, False)
_quantiles("nanquantile", 1, True)
_quantiles("nanpercentile", 100, True)


@implements(np.median)
def median(context, a, axis=None, overwrite_input=False, keepdims=False):
    """The mean of the middle elements of the sorted sample."""
    x, wide = _reduced_last(context, a, axis)
    ordered, size = sort(context, x), x.shape[-1].__index__()
    middle = size // 2
    result = np.mean(ordered[..., middle - 1 + size % 2 : middle + 1], axis=-1)
    if x.dtype.kind == "f" and size:
        largest = ordered[..., -1]
        result = np.where(np.isnan(largest), largest, result)
    return result.reshape(wide) if given(keepdims) and keepdims else result


@implements(np.nanmedian)
def nanmedian(context, a, axis=None, overwrite_input=False, keepdims=False):
    x = context.lift(a)
    if x.size == 0:  # what NumPy does there
        return np.nanmean(x, axis=axis, keepdims=given(keepdims) and keepdims)
    if x.dtype.kind not in "fc":
        return median(context, a, axis, keepdims=keepdims)
    x, wide = _reduced_last(context, x, axis)
    ordered = sort(context, x)  # NaN stand last
    count = np.sum(np.logical_not(np.isnan(x)), axis=-1, keepdims=True)
    low, high = (
        np.take_along_axis(ordered, np.maximum(at, 0), axis=-1)[..., 0]
        for at in ((count - 1) // 2, np.minimum(count // 2, count - 1))
    )
    result = np.where(count[..., 0] % 2 == 1, low, (low + high) / 2)
    return result.reshape(wide) if given(keepdims) and keepdims else result
