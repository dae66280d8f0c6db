"""Reductions that pass over NaN: the others of a slice decide, as if the NaN were not there."""

from __future__ import annotations

import numpy as np

from graphc.errors import DTypeError
from graphc.trace.dispatch import implements
from graphc.trace.reductions import given


def _kept(**options):
    return {k: v for k, v in options.items() if v is not np._NoValue and v is not None}


def _others(x, fill):
    return np.where(np.isnan(x), fill, x) if x.dtype.kind in "fc" else x


def _inexact(dtype) -> None:
    if given(dtype) and np.dtype(dtype).kind not in "fc":
        raise DTypeError(f"the values may be NaN, which dtype={np.dtype(dtype)} does not hold")


def _filled(function, fill):
    def handler(context, a, axis=None, dtype=None, keepdims=None, initial=None, where=None):
        options = _kept(dtype=dtype, keepdims=keepdims, initial=initial, where=where)
        return function(_others(context.lift(a), fill), axis=axis, **options)

    return handler


implements(np.nansum)(_filled(np.sum, 0))
implements(np.nanprod)(_filled(np.prod, 1))


def _running(function, fill):
    def handler(context, a, axis=None, dtype=None):
        return function(_others(context.lift(a), fill), axis=axis, dtype=dtype)

    return handler


implements(np.nancumsum)(_running(np.cumsum, 0))
implements(np.nancumprod)(_running(np.cumprod, 1))


def _extreme(function, fill):
    def handler(context, a, axis=None, keepdims=None, initial=None, where=None):
        x = context.lift(a)
        options = _kept(keepdims=keepdims, initial=initial, where=where)
        result = function(_others(x, fill), axis=axis, **options)
        if x.dtype.kind not in "fc" or given(initial):
            return result
        kept = _kept(keepdims=keepdims)
        return np.where(np.all(np.isnan(x), axis=axis, **kept), np.nan, result)

    return handler


implements(np.nanmax)(_extreme(np.max, -np.inf))
implements(np.nanmin)(_extreme(np.min, np.inf))


def _position(function, fill):
    def handler(context, a, axis=None, *, keepdims=None):
        return function(_others(context.lift(a), fill), axis=axis, **_kept(keepdims=keepdims))

    return handler


implements(np.nanargmax)(_position(np.argmax, -np.inf))
implements(np.nanargmin)(_position(np.argmin, np.inf))


def _count(x, axis, options, dtype):
    return np.sum(np.logical_not(np.isnan(x)), axis=axis, **options).astype(dtype)


@implements(np.nanmean)
def nanmean(context, a, axis=None, dtype=None, keepdims=None, *, where=None):
    x = context.lift(a)
    options = _kept(keepdims=keepdims, where=where)
    if x.dtype.kind not in "fc":
        return np.mean(x, axis=axis, dtype=dtype, **options)
    _inexact(dtype)
    total = np.sum(_others(x, 0), axis=axis, dtype=dtype, **options)
    return (total / _count(x, axis, options, total.real.dtype)).astype(total.dtype)


@implements(np.nanvar)
def nanvar(
    context, a, axis=None, dtype=None, ddof=0, keepdims=None, *, where=None, mean=None,
    correction=None,
):  # fmt: skip
    x = context.lift(a)
    if x.dtype.kind not in "fc":
        options = _kept(keepdims=keepdims, where=where, mean=mean, correction=correction)
        return np.var(x, axis=axis, dtype=dtype, ddof=ddof, **options)
    _inexact(dtype)
    if given(correction):
        if ddof != 0:
            raise ValueError("ddof and correction can't be provided simultaneously.")
        ddof = correction
    if not given(mean):
        mean = nanmean(context, x, axis, dtype, True, where=where)
    off = np.where(np.isnan(x), 0, (x - mean).astype(x.dtype))
    square = off.real * off.real + off.imag * off.imag if off.dtype.kind == "c" else off * off
    options = _kept(keepdims=keepdims, where=where)
    total = np.sum(square, axis=axis, dtype=dtype, **options)
    left = _count(x, axis, options, total.real.dtype) - ddof
    found = total / np.where(left > 0, left, 1)
    return np.where(left > 0, found, np.nan).astype(total.dtype)


@implements(np.nanstd)
def nanstd(
    context, a, axis=None, dtype=None, ddof=0, keepdims=None, *, where=None, mean=None,
    correction=None,
):  # fmt: skip
    if context.lift(a).dtype.kind not in "fc":
        options = _kept(keepdims=keepdims, where=where, mean=mean, correction=correction)
        return np.std(context.lift(a), axis=axis, dtype=dtype, ddof=ddof, **options)
    return np.sqrt(nanvar(context, a, axis, dtype, ddof, keepdims, where=where, mean=mean,
                          correction=correction))  # fmt: skip
