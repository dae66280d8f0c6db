"""Logarithms, and the inverse hyperbolic functions made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.vmath.arithmetic import (
    INF,
    LN2_SPLIT,
    LOG2E_SPLIT,
    NAN,
    not_normal,
    pieces,
    poly,
    two_product,
    two_sum,
)
from graphc.vmath.exponentials import exp_below
from graphc.vmath.values import Value

_LOG10E = "0.434294481903251827651128918916605082294397005803666566114453783"
_LOG10_2 = "0.301029995663981195213738894724493026768189881462108541310427461"
_LOG10_2_SPLIT = {True: pieces(_LOG10_2, 14), False: pieces(_LOG10_2, 40)}
_LOG10E_SPLIT = {True: pieces(_LOG10E, 24), False: pieces(_LOG10E, 53)}
# log(1 + f) = f - f**2/2 + f**3 p(f), 1 + f in [sqrt(1/2), sqrt(2)]
_LOG_F32 = (
    0.333333135, -0.250001639, 0.200022206, -0.16659528, 0.14209798, -0.125470787, 0.121043369,
    -0.109297194, 0.0536512211,
)  # fmt: skip
# log(1 + f) = 2 s + s z p(z), s = f / (2 + f), z = s**2
LOG_F64 = (
    0.6666666666666735, 0.3999999999940938, 0.28571428743631183, 0.2222219844029239,
    0.18183571485044192, 0.15313861130183598, 0.14797906830882562,
)  # fmt: skip
_SQRT_HALF = math.sqrt(0.5)


def _k_unit(v: Any) -> float:
    return 2.0**-v.mant if v.converts else 1.0


def log_split(v: Any, x: Value) -> tuple[Value, Value, Value]:
    """x = 2**k m, m in [sqrt(1/2), sqrt(2)): (k / unit, k << mant, m); normal x > 0.

    ``unit`` is `_k_unit`: constants that multiply k absorb it.
    """
    base = v.bits_of(np.float32(_SQRT_HALF) if v.f32 else _SQRT_HALF)
    i = v.bits(x) - base
    frac = i & ((1 << v.mant) - 1)
    k = i - frac
    m = v.from_bits(frac + base)
    if v.converts:
        kf = v.to_float(k)
    else:
        # 2**52 + (k + bias) assembled in the representation
        u = (i + (v.bias << 52)) >> 52
        kf = v.from_bits(u | v.bits_of(2.0**52)) - (2.0**52 + v.bias)
    return kf, k, m


def _log_core(v: Any, f: Value) -> Value:
    """log(1 + f) - f for 1 + f in about [sqrt(1/2), sqrt(2)]."""
    if v.f32:
        return f * f * v.fma(f, poly(v, f, _LOG_F32), -0.5)
    s = f / (f + 2.0)  # Tang 1990 / fdlibm: odd series in s
    z = s * s
    h = f * f * 0.5
    return v.fma(s, v.fma(z, poly(v, z, LOG_F64), h), -h)


def _log_specials(v: Any, x: Value, y: Value) -> Value:
    y = v.select(x < INF, y, x)
    return v.select(x > 0.0, y, v.select(x == 0.0, v.const(-INF), v.const(NAN)))


def log_args(v: Any, x: Value) -> tuple[Value, Value]:
    """(k / unit, f): x = 2**k (1 + f), subnormal x included."""
    sub = x < v.tiny
    shift = 25.0 if v.f32 else 54.0
    k, _, m = log_split(v, v.select(sub, x * 2.0**shift, x))
    return k - v.select(sub, v.const(shift / _k_unit(v)), v.const(0.0)), m - 1.0


def _log_sum(v: Any, k: Value, f: Value) -> Value:
    """log(1 + f) + k ln2."""
    hi, lo = (c * _k_unit(v) for c in LN2_SPLIT[v.f32])
    return v.fma(k, hi, f + v.fma(k, lo, _log_core(v, f)))


def _log_general(v: Any, x: Value) -> Value:
    k, f = log_args(v, x)
    return _log_specials(v, x, _log_sum(v, k, f))


def log(v: Any, x: Value) -> Value:
    """log: exponent plus log(1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1] (Tang 1990, Cephes)."""
    k, _, m = log_split(v, x)
    return v.rare("log", _log_general, not_normal, [x], _log_sum(v, k, m - 1.0))


def log2(v: Any, x: Value) -> Value:
    """log2: as log, the factor log2(e) split in two; exact at powers of two."""
    k, f = log_args(v, x)
    hi, lo = LOG2E_SPLIT[v.f32]
    y = v.fma(f, hi, v.fma(f, lo, _log_core(v, f) * hi))
    return _log_specials(v, x, v.fma(k, _k_unit(v), y))


def log10(v: Any, x: Value) -> Value:
    """log10: as log, with split log10(e) and log10(2)."""
    k, f = log_args(v, x)
    hi, lo = _LOG10E_SPLIT[v.f32]
    khi, klo = (c * _k_unit(v) for c in _LOG10_2_SPLIT[v.f32])
    y = v.fma(f, hi, v.fma(k, klo, v.fma(f, lo, _log_core(v, f) * hi)))
    return _log_specials(v, x, v.fma(k, khi, y))


def _log1p_args(v: Any, x: Value, lo: Value | None = None) -> tuple[Value, Value]:
    """(k / unit, f): 1 + x + lo = 2**k (1 + f), f correctly rounded or exact; x > -1."""
    u = x + 1.0
    b = u - 1.0
    err = (1.0 - (u - b)) + (x - b)  # two-sum: u + err = 1 + x
    if lo is not None:
        err = err + lo
    k, kbits, m = log_split(v, u)
    scale = v.from_bits(v.iconst(v.bits_of(2.0)) - kbits)  # 2**(1-k): 2**-k may not exist
    return k, v.fma(err * 0.5, scale, m - 1.0)


def _log1p_near(v: Any, x: Value) -> Value:
    """log1p of x > -1 that is not huge: log of the rounded 1 + x, its rounding error put back into
    the reduced argument. Zeros keep their signs, and subnormals their bits."""
    u = x + 1.0
    err = x - (u - 1.0)  # the inner difference is exact wherever it counts
    k, kbits, m = log_split(v, u)
    scale = v.from_bits(v.iconst(v.bits_of(1.0)) - kbits)  # 2**-k
    return v.copysign(_log_sum(v, k, v.fma(err, scale, m - 1.0)), x)


def _log1p_general(v: Any, x: Value) -> Value:
    y = _log_sum(v, *_log1p_args(v, x))
    y = v.select(x < INF, y, x)
    return v.select(x > -1.0, y, v.select(x == -1.0, v.const(-INF), v.const(NAN)))


def _log1p_unusual(v: Any, x: Value) -> Value:
    return ~((x > -1.0) & (x < 2.0 ** (v.bias - 1)))


def log1p(v: Any, x: Value) -> Value:
    """log1p: log of the rounded 1 + x and of its rounding error (Tang 1990, Cephes)."""
    return v.rare("log1p", _log1p_general, _log1p_unusual, [x], _log1p_near(v, x))


def softplus(v: Any, x: Value) -> Value:
    """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|))."""
    e = exp_below(v, -v.abs(x))
    big = e > math.sqrt(2.0) - 1.0  # then 1 + e = 2 (1 + (e - 1) / 2)
    f = v.select(big, v.fma(e, 0.5, -0.5), e)
    hi, lo = LN2_SPLIT[v.f32]
    y = f + (_log_core(v, f) + v.select(big, v.const(lo), v.const(0.0)))
    y = y + v.select(big, v.const(hi), v.const(0.0))
    return v.select(x > 0.0, x, v.const(0.0)) + v.select(x == x, y, x)


def arcsinh(v: Any, x: Value) -> Value:
    """log1p(x + x**2 / (1 + sqrt(1 + x**2))), the argument in two pieces."""
    ax = v.abs(x)
    big = ax > 2.0**60  # then log(2x) = log(x) + ln2
    z = ax * ax
    t = v.select(big, v.const(0.0), z / (v.sqrt(z + 1.0) + 1.0))
    k, f = _log1p_args(v, *two_sum(ax, t))
    k = k + v.select(big, v.const(1.0 / _k_unit(v)), v.const(0.0))
    y = v.select(ax < INF, _log_sum(v, k, f), ax)
    return v.select(ax < 2.0**-28, x, v.copysign(y, x))


def arccosh(v: Any, x: Value) -> Value:
    """log1p(t + sqrt(t (t + 2))), t = x - 1, the square root in two pieces."""
    big = x > 2.0**60  # then log(2x) = log(x) + ln2
    t = x - 1.0
    d = x + 1.0
    p, e = two_product(v, t, d)
    q = v.sqrt(p)
    rest = v.remainder(p, q, q) + v.fma(t, 1.0 - (d - x), e)
    qlo = v.select(q > 0.0, rest * 0.5 / q, v.const(0.0))
    s = t + q
    lo = (t - (s - q)) + qlo  # q >= t
    s = v.select(big, x, s)
    k, f = _log1p_args(v, s, v.select(big, v.const(0.0), lo))
    k = k + v.select(big, v.const(1.0 / _k_unit(v)), v.const(0.0))
    y = v.select(x < INF, _log_sum(v, k, f), x)
    return v.select(x >= 1.0, y, v.const(NAN))


def arctanh(v: Any, x: Value) -> Value:
    """log1p(2x / (1 - x)) / 2, the quotient in two pieces."""
    ax = v.abs(x)
    w = 1.0 - ax
    wlo = (1.0 - w) - ax
    inv = 1.0 / w
    x2 = ax + ax
    q = x2 * inv
    lo = v.fma(-q, wlo, v.remainder(x2, q, w)) * inv
    k, f = _log1p_args(v, q, lo)
    y = _log_sum(v, k, f) * 0.5
    y = v.select(ax < 1.0, y, v.select(ax == 1.0, v.const(INF), v.const(NAN)))
    return v.select(ax < 2.0**-28, x, v.copysign(y, x))
