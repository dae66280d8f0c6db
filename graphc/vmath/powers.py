"""Roots and powers."""

from __future__ import annotations

from typing import Any

from graphc.vmath.arithmetic import (
    INF,
    LN2,
    LOG2E,
    LOG2E_SPLIT,
    NAN,
    at_least,
    at_most,
    poly,
    two_product,
    two_sum,
)
from graphc.vmath.exponentials import EXP, two_powers
from graphc.vmath.logarithms import log_args
from graphc.vmath.values import Value


def sqrt(v: Any, x: Value) -> Value:
    """The correctly rounded hardware square root."""
    return v.sqrt(x)


def rsqrt(v: Any, x: Value) -> Value:
    """1 / sqrt(x) by halving the exponent in the representation, then Halley's iterations: the
    divider of a processor would take twice as long for the square root and the division."""
    sub = x < v.tiny
    even = 24 if v.f32 else 54
    z = v.select(sub, x * 2.0**even, x)
    guess = 0x5F3759DF if v.f32 else 0x5FE6EB50C7B537A9
    y = v.from_bits(v.iconst(guess) - (v.bits(z) >> 1))
    for _ in range(2 if v.f32 else 3):
        rest = v.fma(-(z * y), y, 1.0)
        y = v.fma(y * rest, v.fma(rest, 0.375, 0.5), y)
    y = v.select(sub, y * 2.0 ** (even // 2), y)
    y = v.select(x < INF, y, v.const(0.0))
    y = v.select(x > 0.0, y, v.const(NAN))
    return v.select(x == 0.0, v.copysign(v.const(INF), x), y)


# exp(r) = 1 + r + r**2 q(r) to float32 accuracy with float64 coefficients
_EXP_LOW = (
    0.4999999338400981, 0.16666519516817035, 0.04166839824305653, 0.00836885191075075,
    0.001381448333441899,
)  # fmt: skip


def cbrt(v: Any, x: Value) -> Value:
    """x**(-1/3) from an exponent-thirding bit trick and Householder steps, then x y**2."""
    ax = v.abs(x)
    sub = ax < v.tiny * 8.0
    ax = v.select(sub, ax * 2.0 ** (24 if v.f32 else 54), ax)
    # -bits / 3 in floating point on the leading bits: 64-bit integers divide on no vector unit
    drop = 10 if v.f32 else 32
    two = 2.0**v.mant
    top = v.from_bits((v.bits(ax) >> drop) | v.bits_of(two)) - two
    start = 4.0 / 3.0 * (v.bits_of(1.0) >> drop) - 0.0515 * (1 << (v.mant - drop)) / 3.0 * 2.0
    g = v.fma(top, -1.0 / 3.0, round(start)) + v.magic
    y = v.from_bits((v.bits(g) - v.bits_of(v.magic)) << drop)
    for _ in range(2):
        h = v.fma(-(ax * y) * y, y, 1.0)
        y = v.fma(y * h, v.fma(v.fma(h, 14.0 / 81.0, 2.0 / 9.0), h, 1.0 / 3.0), y)
    y2 = y * y
    c = ax * y2
    half = c * 0.5  # c**3 may overflow
    c = c - (half * half * half - ax * 0.125) * y2 * (8.0 / 3.0)
    c = c * v.select(sub, v.const(2.0 ** (-8 if v.f32 else -18)), v.const(1.0))
    return v.select((ax > 0.0) & (ax < INF), v.copysign(c, x), x)


# 2/3 + z r(z) = p(z) of LOG_F64 to 2**-70, and a shorter one for float32
_LOG_DD = (
    0.3999999999999998, 0.2857142857145182, 0.22222222214694695, 0.18181819311110584,
    0.15384522877905216, 0.13337716944228542, 0.11645360505574305, 0.12238366634284863,
)  # fmt: skip
_LOG_LOW = (
    0.6666666564133433, 0.4000033622150188, 0.2853723780500779, 0.23583582698980055,
)  # fmt: skip


def _pow_log2_f32(v: Any, k: Value, f: Value) -> Value:
    s = f / (f + 2.0)
    z = s * s
    y = v.fma(s * z, poly(v, z, _LOG_LOW), s + s)
    return v.fma(y, float(LOG2E), k)


def _pow_log2_f64(v: Any, k: Value, f: Value) -> tuple[Value, Value]:
    """log2 in double-double, to about 2**-65: s = f / (2 + f), 2s + s z (2/3 + z r(z))."""
    d = f + 2.0
    dlo = f - (d - 2.0)
    inv = 1.0 / d
    s = f * inv
    slo = v.fma(-s, dlo, v.remainder(f, s, d)) * inv
    z, zlo = two_product(v, s, s)
    zlo = v.fma(s + s, slo, zlo)
    third = 2.0 / 3.0
    q, qlo = two_sum(v.const(third), z * poly(v, z, _LOG_DD))
    qlo = qlo + 3.700743415417188e-17  # 2/3 - fl(2/3)
    w, wlo = two_product(v, z, q)
    wlo = wlo + v.fma(z, qlo, zlo * q)
    g, glo = two_sum(v.const(2.0), w)
    glo = glo + wlo
    y, ylo = two_product(v, s, g)
    ylo = ylo + v.fma(s, glo, slo * g)
    chi, clo = LOG2E_SPLIT[False]
    u, ulo = two_product(v, y, v.const(chi))
    ulo = ulo + v.fma(y, clo, ylo * chi)
    hi = k + u
    return two_sum(hi, (u - (hi - k)) + ulo)


def _is_integer(a: Value) -> Value:
    """Whether a >= 0 (float64) is an integer; llvm.rint is a libm call on baseline x86-64."""
    return (a >= 2.0**52) | ((a + 2.0**52) - 2.0**52 == a)


def pow(v: Any, x: Value, y: Value) -> Value:
    """exp2(y log2|x|), the logarithm in double-double for float64, then C99's special cases."""
    w = v.wide() if v.f32 else v
    xw, yw = (w.cast(x), w.cast(y)) if v.f32 else (x, y)
    ax = w.abs(xw)
    k, f = log_args(w, ax)
    y1 = at_least(
        w, at_most(w, yw, 2.0**65), -(2.0**65)
    )  # large enough to decide, small enough to use
    bound = (-160.0, 140.0) if v.f32 else (-1080.0, 1030.0)
    magic = w.magic + 2 * w.bias
    if v.f32:
        e = y1 * _pow_log2_f32(w, k, f)
        e = at_least(w, at_most(w, e, bound[1]), bound[0])
        t = e + magic
        r = e - (t - magic)
    else:
        lh, ll = _pow_log2_f64(w, k, f)
        e, elo = two_product(w, y1, lh)
        elo = w.fma(y1, ll, elo)
        out = (e > bound[1]) | (e < bound[0])
        e = at_least(w, at_most(w, e, bound[1]), bound[0])
        t = e + magic
        r = (e - (t - magic)) + w.select(out, w.const(0.0), elo)
    r = r * float(LN2)
    a, b = two_powers(w, t)
    z = w.fma(r * r, poly(w, r, _EXP_LOW if v.f32 else EXP[False]), r) + 1.0
    z = z * a * b
    # 0 and inf: 0 or inf by the sign of y; the sign of an odd power
    down = yw < 0.0
    z = w.select(ax == 0.0, w.select(down, w.const(INF), w.const(0.0)), z)
    z = w.select(ax == INF, w.select(down, w.const(0.0), w.const(INF)), z)
    ay = w.abs(yw)
    whole = _is_integer(ay)
    odd = whole & ~_is_integer(ay * 0.5)
    neg = w.bits(xw) < 0
    z = w.select(neg & odd, -z, z)
    z = w.select((xw < 0.0) & ~whole & (ax < INF), w.const(NAN), z)
    z = w.select((xw == xw) & (yw == yw), z, w.const(NAN))
    z = w.select((xw == 1.0) | (yw == 0.0), w.const(1.0), z)
    return v.cast(z) if v.f32 else z
