"""Roots and powers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from graphc.vmath.arithmetic import (
    INF,
    LN2_SPLIT,
    NAN,
    at_least,
    at_most,
    not_normal,
    poly,
    two_product,
    two_sum,
)
from graphc.vmath.exponentials import exp_poly, exp_range, exp_reduce_high, two_powers
from graphc.vmath.logarithms import log_split
from graphc.vmath.values import Value


def _sqrt_one(v: Any, x: Value) -> Value:
    return v.sqrt(x)


def _sqrt_many(v: Any, x: Value) -> Value:
    """Goldschmidt's iterations from an estimate of 1 / sqrt(x), and a last one of Markstein's
    (1990), which rounds correctly: it needs sqrt(x) and half of 1 / sqrt(x) to about a unit, and
    the remainder of the root without error. A divider takes two or three times as long."""
    zero = x == 0.0
    y = v.select(zero, v.const(0.0), v.rsqrt_estimate(x))
    g, h = x * y, y * 0.5
    for _ in range(1 if v.f32 else 2):
        rest = v.fma(-h, g, 0.5)
        g, h = v.fma(g, rest, g), v.fma(h, rest, h)
    y = v.fma(v.remainder(x, g, g), h, g)
    least = 2.0 ** (54 - v.bias) if v.f32 else 2.0 ** (108 - v.bias)  # remainders are normal
    return v.rare("sqrt", _sqrt_one, lambda v, x: ~((x >= least) & (x < INF) | (x == 0.0)), [x], y)


def sqrt(v: Any, x: Value) -> Value:
    """The correctly rounded square root: the processor's, or in vectors an estimate mended."""
    if not v.estimates:
        return v.sqrt(x)
    return v.by_vectors("sqrt", _sqrt_one, _sqrt_many, x)


def _halley(v: Any, x: Value, y: Value) -> Value:
    rest = v.fma(-(x * y), y, 1.0)
    return v.fma(y * rest, v.fma(rest, 0.375, 0.5), y)


def _rsqrt_near(v: Any, x: Value) -> Value:
    """By halving the exponent in the representation, then Halley's iterations: the divider of a
    processor would take twice as long for the square root and the division."""
    guess = 0x5F3759DF if v.f32 else 0x5FE6EB50C7B537A9
    y = v.from_bits(v.iconst(guess) - (v.bits(x) >> 1))
    for _ in range(2 if v.f32 else 3):
        y = _halley(v, x, y)
    return y


def _rsqrt_general(v: Any, x: Value) -> Value:
    sub = x < v.tiny
    even = 24 if v.f32 else 54
    y = _rsqrt_near(v, v.select(sub, x * 2.0**even, x))
    y = v.select(sub, y * 2.0 ** (even // 2), y)
    y = v.select(x < INF, y, v.const(0.0))
    y = v.select(x > 0.0, y, v.const(NAN))
    return v.select(x == 0.0, v.copysign(v.const(INF), x), y)


def _rsqrt_estimated(v: Any, x: Value) -> Value:
    y = v.rsqrt_estimate(x)
    for _ in range(1 if v.f32 else 2):
        y = _halley(v, x, y)
    return v.rare("rsqrt", _rsqrt_general, not_normal, [x], y)


def rsqrt(v: Any, x: Value) -> Value:
    """1 / sqrt(x) from an estimate or an exponent-halving bit trick, and Halley's iterations."""
    if v.estimates:
        return v.by_vectors("rsqrt", _rsqrt_estimated, _rsqrt_estimated, x)
    return v.rare("rsqrt", _rsqrt_general, not_normal, [x], _rsqrt_near(v, x))


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


# log2(1 + f) / f, 1 + f in [sqrt(1/2), sqrt(2)], to 2**-34.9
_LOG2_LOW = (
    1.4426950408686816, -0.7213475208678841, 0.4808983614124181, -0.36067367496618596,
    0.28853729211855494, -0.24045316578817386, 0.20617538032569524, -0.18030017657326824,
    0.15876965374323623, -0.14316895925906162, 0.14476082867943693, -0.14273946552358976,
    0.0772000094136778,
)  # fmt: skip
# (exp2(r) - 1) / r, |r| <= 1/2, to 2**-28.9 of exp2(r)
_EXP2_LOW = (
    0.693147202887137, 0.24022647910879222, 0.05550332403564322, 0.009618437544242298,
    0.0013398901393645297, 0.00015353355616898722,
)  # fmt: skip
# log(1 + r) = r - r**2/2 + r**3 p(r), |r| <= 0.0068
_LOG_NEAR = (
    0.3333333333333352, -0.25000000000000394, 0.19999999974402527, -0.16666666630090562,
    0.1428668880288355, -0.12501069775538015,
)  # fmt: skip
_LOG_BITS = 7  # of the significand choose the entry of the table
_LOG_BASE = 0x3FE6A09E667F3BCD  # sqrt(1/2)


@functools.cache
def _log_table() -> tuple[tuple[int, ...], ...]:
    """Words of -1/c, and of log(c) in two parts, for c near the middle of each of 128 intervals.

    1/c is so short that m / c - 1 is exact, and 1 around 1, where the logarithm is small; the
    first part of the logarithm is so short that sums with multiples of ln2 are.
    """
    import decimal

    rows = []
    with decimal.localcontext(prec=50):
        for k in range(1 << _LOG_BITS):
            start = _LOG_BASE + (k << 52 - _LOG_BITS)
            low, high = np.array([start, start + (1 << 52 - _LOG_BITS)]).view(np.float64)
            unit = 2.0**7 if low < 1.0 else 2.0**8
            inverse = 1.0 if low <= 1.0 < high else round(2.0 * unit / (low + high)) / unit
            logarithm = -decimal.Decimal(inverse).ln()
            first = round(float(logarithm) * 2.0**41) / 2.0**41
            rest = float(logarithm - decimal.Decimal(first))
            rows.append((-inverse, first, rest))
    return tuple(tuple(map(int, np.array(c).view(np.uint64))) for c in zip(*rows, strict=True))


def _log_in_two(v: Any, x: Value, shift: Value) -> tuple[Value, Value]:
    """log(2**-shift x) of normal x > 0 as a sum to about 2**-67: Tang 1990 with 128 intervals."""
    inverses, firsts, rests = _log_table()
    i = v.bits(x) - _LOG_BASE
    entry = (i >> 52 - _LOG_BITS) & ((1 << _LOG_BITS) - 1)
    m = v.from_bits((i & ((1 << 52) - 1)) + _LOG_BASE)
    # 2**52 + (k + bias) assembled in the representation, as in logarithms.py
    k = v.from_bits(((i + (v.bias << 52)) >> 52) | v.bits_of(2.0**52)) - (2.0**52 + v.bias)
    inverse, first, rest = (
        v.from_bits(v.table(words, entry)) for words in (inverses, firsts, rests)
    )
    k = k - shift
    r = v.remainder(v.const(-1.0), m, inverse)
    hi, lo = LN2_SPLIT[False]
    large = v.fma(k, hi, first)  # exact
    s, s_lo = two_sum(large, r)
    half = r * -0.5
    square, square_lo = two_product(v, r, half)
    total, total_lo = two_sum(s, square)
    tail = v.fma(r * square * -2.0, poly(v, r, _LOG_NEAR), v.fma(k, lo, rest))
    return two_sum(total, ((s_lo + total_lo) + square_lo) + tail)


def _near_f32(v: Any, x: Value, y: Value, shift: Value) -> Value:
    """(2**-shift x)**y of normal x > 0, finite y: in float64, where one polynomial is enough."""
    k, _, m = log_split(v, x)
    k = k - shift * 2.0**23
    w = v.wide()
    f, k, y = (w.cast(a) for a in (m - 1.0, k, y))
    e = y * w.fma(f, poly(w, f, _LOG2_LOW), k * 2.0**-23)
    e = at_least(w, at_most(w, e, 140.0), -160.0)
    magic = w.magic + w.bias
    t = e + magic
    r = e - (t - magic)
    z = w.fma(r, poly(w, r, _EXP2_LOW), 1.0)
    return v.cast(z * w.from_bits(w.bits(t) << w.mant))


def _exponent_f64(v: Any, x: Value, y: Value, shift: Value) -> tuple[Value, Value]:
    """y log(2**-shift x) as a sum."""
    high, low = _log_in_two(v, x, shift)
    e, e_lo = two_product(v, y, high)
    return e, v.fma(y, low, e_lo)


def _exp_in_two(v: Any, e: Value, e_lo: Value) -> tuple[Value, Value]:
    """exp(e + e_lo) but for the power of two, whose exponent is in the low bits of the second."""
    t, n, r = exp_reduce_high(v, e)
    return exp_poly(v, r + v.fma(n, -LN2_SPLIT[False][1], e_lo)), t


def _is_integer(v: Any, a: Value) -> Value:
    """Whether a >= 0 is an integer; llvm.rint is a libm call on baseline x86-64."""
    big = 2.0**v.mant
    return (a >= big) | ((a + big) - big == a)


def _pow_general(v: Any, x: Value, y: Value, *_: Value) -> Value:
    """Any arguments: subnormals, results out of range, and C99's special cases."""
    ax, ay = v.abs(x), v.abs(y)
    sub = ax < v.tiny
    shift = 25.0 if v.f32 else 54.0
    scaled = v.select(sub, ax * 2.0**shift, ax)
    shift = v.select(sub, v.const(shift), v.const(0.0))
    # large enough to decide, small enough to use
    bounded = at_least(v, at_most(v, y, 2.0**65), -(2.0**65))
    if v.f32:
        z = _near_f32(v, scaled, bounded, shift)
    else:
        e, e_lo = _exponent_f64(v, scaled, bounded, shift)
        low, high = exp_range(v)
        inside = at_least(v, at_most(v, e, high), low)
        z, t = _exp_in_two(v, inside, v.select(e == inside, e_lo, v.const(0.0)))
        a, b = two_powers(v, t)
        z = z * a * b
    # 0 and inf: 0 or inf by the sign of y; the sign of an odd power
    down = y < 0.0
    z = v.select(ax == 0.0, v.select(down, v.const(INF), v.const(0.0)), z)
    z = v.select(ax == INF, v.select(down, v.const(0.0), v.const(INF)), z)
    whole = _is_integer(v, ay)
    odd = whole & ~_is_integer(v, ay * 0.5)
    z = v.select((v.bits(x) < 0) & odd, -z, z)
    z = v.select((x < 0.0) & ~whole & (ax < INF), v.const(NAN), z)
    z = v.select((x == x) & (y == y), z, v.const(NAN))
    return v.select((x == 1.0) | (y == 0.0), v.const(1.0), z)


def _pow_unusual(v: Any, x: Value, y: Value, e: Value | None = None) -> Value:
    """Whether x is not a normal number > 0, or y or the result is not within range."""
    inside = (v.abs(y) < INF) if e is None else (v.abs(e) < 708.0)
    return not_normal(v, x) | ~inside


def pow(v: Any, x: Value, y: Value) -> Value:
    """exp(y log x), the logarithm as a sum of two numbers for float64; float32 in float64."""
    zero = v.const(0.0)
    if v.f32:
        return v.rare("pow", _pow_general, _pow_unusual, [x, y], _near_f32(v, x, y, zero))
    e, e_lo = _exponent_f64(v, x, y, zero)
    z, t = _exp_in_two(v, e, e_lo)
    z = z * v.from_bits((v.bits(t) - v.bias) << v.mant)
    return v.rare("pow", _pow_general, _pow_unusual, [x, y, e], z)
