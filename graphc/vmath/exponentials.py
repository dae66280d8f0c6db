"""exp, its relatives and the hyperbolic functions."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from graphc.vmath.arithmetic import LN2, LN2_SPLIT, LOG2E, at_least, at_most, poly
from graphc.vmath.values import Value

# exp(r) = 1 + r + r**2 q(r), |r| <= ln(2)/2; error relative to exp (EXP) or expm1 (EXPM1).
EXP = {
    True: (0.49999994, 0.166665152, 0.0416680798, 0.00836937409, 0.00138414383),
    False: (
        0.5000000000000011, 0.16666666666666172, 0.041666666666522745, 0.008333333333661838,
        0.0013888888946195711, 0.00019841269120853125, 2.480148996264674e-05,
        2.7557948325263597e-06, 2.763150051144413e-07, 2.4880811025970535e-08,
    ),
}  # fmt: skip
EXPM1 = {
    True: (0.49999997, 0.166665375, 0.0416677408, 0.00836732425, 0.00138375699),
    False: (
        0.5, 0.16666666666666677, 0.041666666666666706, 0.008333333333321334,
        0.0013888888888850981, 0.00019841269887088743, 2.4801587415733167e-05,
        2.755724300958287e-06, 2.7557177184375317e-07, 2.5109541251906262e-08,
        2.0949807509017025e-09,
    ),
}  # fmt: skip


def exp_reduce_high(v: Any, x: Value, up: int | None = None) -> tuple[Value, Value, Value]:
    """``(t, n, r)``: x = n ln2 + r but for n times the low part of ln2; see `exp_reduce`."""
    magic = v.magic + (2 * v.bias if up is None else up)
    t = v.fma(x, float(LOG2E), magic)
    n = t - magic
    return t, n, v.fma(n, -LN2_SPLIT[v.f32][0], x)


def exp_reduce(v: Any, x: Value, up: int | None = None) -> tuple[Value, Value]:
    """Return ``(t, r)``: x = n ln2 + r; the low bits of t's representation are n + 2*bias, or
    n + ``up``."""
    t, n, r = exp_reduce_high(v, x, up)
    return t, v.fma(n, -LN2_SPLIT[v.f32][1], r)


def two_powers(v: Any, t: Value) -> tuple[Value, Value]:
    """Two factors with product 2**n for t of `exp_reduce`: one alone would leave the range."""
    b = v.bits(t)
    half = b >> 1
    return v.from_bits(half << v.mant), v.from_bits((b - half) << v.mant)


def exp_poly(v: Any, r: Value) -> Value:
    square = r * r
    return v.fma(poly(v, r, EXP[v.f32], square), square, r) + 1.0


def exp_times(v: Any, r: Value, power: Value) -> Value:
    """``power`` exp(r)."""
    square = r * r
    return v.fma(v.fma(poly(v, r, EXP[v.f32], square), square, r), power, power)


def exp_clamped(v: Any, x: Value) -> Value:
    t, r = exp_reduce(v, x)
    a, b = two_powers(v, t)
    return exp_times(v, r, a) * b


def exp_range(v: Any) -> tuple[float, float]:
    """Arguments beyond which exp is 0 or inf, barely: the exponent must not wrap around."""
    return (-104.0, 89.0) if v.f32 else (-746.0, 710.0)


def exp(v: Any, x: Value) -> Value:
    """exp: x = n ln2 + r with a two-part ln2 (Cody & Waite), minimax polynomial on r."""
    lo, hi = exp_range(v)
    return exp_clamped(v, at_least(v, at_most(v, x, hi), lo))


#: Bits by which 2**n is larger, so that no power is subnormal before the last multiplication.
BELOW = {True: 30, False: 60}


def exp_below(v: Any, x: Value) -> Value:
    """exp of what is at most 0: 2**n in two factors of which one is constant."""
    up = BELOW[v.f32]
    t, r = exp_reduce(v, at_least(v, x, exp_range(v)[0]), v.bias + up)
    return exp_times(v, r, v.from_bits(v.bits(t) << v.mant)) * 2.0**-up


def _expm1_parts(v: Any, x: Value) -> tuple[Value, Value]:
    """Return (n's carrier t, exp(r) - 1)."""
    t, r = exp_reduce(v, x)
    square = r * r
    return t, v.fma(square, poly(v, r, EXPM1[v.f32], square), r)


def expm1(v: Any, x: Value) -> Value:
    """expm1: x = n ln2 + r, then (2**n - 1 + 2**n r) + 2**n (exp(r) - 1 - r)."""
    lo, hi = (-18.0, 89.0) if v.f32 else (-38.0, 710.0)
    t, n, r1 = exp_reduce_high(v, at_least(v, at_most(v, x, hi), lo))
    small = n * -LN2_SPLIT[v.f32][1]
    r = r1 + small
    square = r * r
    small = v.fma(square, poly(v, r, EXPM1[v.f32], square), small)
    # 2**(n-1), doubled at the end: 2**n itself overflows before expm1 does.
    a = v.from_bits((v.bits(t) - (v.bias + 1)) << v.mant)
    y = v.fma(a, r1, a - 0.5) + a * small  # the first sum is exact where the result is small
    return v.select(v.abs(x) < 2.0 ** -(v.mant + 2), x, y + y)  # keeps -0.0 and subnormals


def _sigmoid_parts(v: Any, x: Value) -> tuple[Value, Value]:
    """(n's carrier t, exp(-r) - 1), x = n ln2 + r."""
    t, r = exp_reduce(v, x)
    square = r * r
    return t, v.fma(square, poly(v, -r, EXPM1[v.f32], square), -r)


def _sigmoid_general(v: Any, x: Value) -> Value:
    t, p = _sigmoid_parts(v, at_least(v, at_most(v, x, 40.0), exp_range(v)[0]))
    a, b = two_powers(v, t)
    one = v.const(1.0)
    neg = x < -8.0  # 2**n + 1 is exact but for tiny 2**n, 2**n + p then nearly so
    return a / (v.fma(a, b, v.select(neg, p, one)) + v.select(neg, one, p)) * b


def sigmoid(v: Any, x: Value) -> Value:
    """2**n / (2**n + exp(-r)), x = n ln2 + r: a single rounding before the division."""
    t, p = _sigmoid_parts(v, x)
    a = v.from_bits((v.bits(t) - v.bias) << v.mant)
    one = v.const(1.0)
    neg = x < -8.0
    y = a / ((a + v.select(neg, p, one)) + v.select(neg, one, p))
    end = 87.0 if v.f32 else 708.0  # 2**n is a normal number
    return v.rare("sigmoid", _sigmoid_general, lambda v, x: ~(v.abs(x) <= end), [x], y)


_SINH = {  # sinh(r) = r + r**3 p(r**2), |r| <= ln(2)/2
    True: (
        0.166666672, 0.00833317544, 0.000199740243,
    ),
    False: (
        0.16666666666666677, 0.008333333333321376, 0.0001984126988686589,
        2.7557243380589845e-06, 2.5109352039959312e-08,
    ),
}  # fmt: skip
_COSH = {  # cosh(r) = 1 + z/2 + z**2 p(z), z = r**2
    True: (
        0.0416666679, 0.00138885831, 2.50055728e-05,
    ),
    False: (
        0.041666666666666685, 0.0013888888888873264, 2.4801587349281772e-05,
        2.7557251718311264e-07, 2.0921810752250027e-09,
    ),
}  # fmt: skip
_TANH = (  # tanh(x) = x + x**3 p(x**2), |x| <= 0.551
    -0.33333333333332277, 0.13333333333163447, -0.05396825387350125,
    0.021869485912864334, -0.008863193662553103, 0.0035917127977579863,
    -0.0014531819339157715, 0.0005790311798149622, -0.00021012473626437112,
    5.089495065538082e-05,
)  # fmt: skip


def exp2(v: Any, x: Value) -> Value:
    """exp2: the reduced argument x - n is exact; then exp's polynomial."""
    x = at_least(v, at_most(v, x, 129.0 if v.f32 else 1025.0), -151.0 if v.f32 else -1076.0)
    magic = v.magic + 2 * v.bias
    t = x + magic
    r = (x - (t - magic)) * float(LN2)
    a, b = two_powers(v, t)
    return exp_poly(v, r) * a * b


_TANH_STEPS = 64
_TANH_ENTRIES = 1024  # beyond _TANH_END, so that any index is within
_TANH_END = 9.25  # from where the result is 1


@functools.cache
def _tanh_table() -> tuple[int, ...]:
    """Words of tanh at multiples of 1 / steps, for float32."""
    values = np.tanh(np.arange(_TANH_ENTRIES) / _TANH_STEPS).astype(np.float32)
    return tuple(map(int, values.view(np.uint32)))


def _tanh_f32(v: Any, x: Value) -> Value:
    """By the addition theorem from the nearest entry of a table."""
    ax = at_most(v, v.abs(x), _TANH_END)
    t = v.fma(ax, float(_TANH_STEPS), v.magic)
    # an index within the table for NaN, too
    high = v.from_bits(v.table(_tanh_table(), v.bits(t) & (_TANH_ENTRIES - 1)))
    d = v.fma(t - v.magic, -1.0 / _TANH_STEPS, ax)  # exact
    low = v.fma(d * d, d * (-1.0 / 3.0), d)  # tanh(d)
    z = high * low
    y = v.fma(v.fma(-high, high, 1.0) * low, v.fma(z, z, 1.0 - z), high)
    return v.copysign(y, x)


def tanh(v: Any, x: Value) -> Value:
    """1 - 2 / (exp(2x) + 1), and an odd polynomial where that would cancel; float32 by a table."""
    if v.f32:
        return _tanh_f32(v, x)
    ax = v.abs(x)
    z = ax * ax
    small = v.fma(ax * z, poly(v, z, _TANH), ax)
    y = at_most(v, ax, 20.0)
    t, p = _expm1_parts(v, y + y)
    a = v.from_bits((v.bits(t) - v.bias) << v.mant)
    big = 1.0 - 2.0 / v.fma(a, p, a + 1.0)
    return v.copysign(v.select(ax < 0.55, small, big), x)


def _hyperbolic(v: Any, ax: Value) -> tuple[Value, Value, Value, Value, Value]:
    """ax = n ln2 + r: (2**n - 2**-n) / 4, (2**n + 2**-n) / 4, r, sinh(r) - r, cosh(r) - 1."""
    # Beyond the clamp both overflow, but 2**(n-2) does not.
    t, r = exp_reduce(v, at_most(v, ax, 89.6 if v.f32 else 710.7))
    n = (v.bits(t) - 2 * v.bias) << v.mant
    up = v.from_bits(n + v.bits_of(0.25))
    down = v.from_bits(v.iconst(v.bits_of(0.25)) - n)
    down = v.select(ax > 40.0, v.const(0.0), down)  # negligible, and may not be representable
    z = r * r
    s = (r * z) * poly(v, z, _SINH[v.f32])
    c = v.fma(z * z, poly(v, z, _COSH[v.f32]), z * 0.5)
    return up - down, up + down, r, s, c


def sinh(v: Any, x: Value) -> Value:
    """sinh(n ln2 + r) by the addition theorem: no division; large terms exact, added last."""
    ax = v.abs(x)
    a, b, r, s, c = _hyperbolic(v, ax)
    y = a + v.fma(b, r, v.fma(a, c, b * s))
    y = v.copysign(y + y, x)
    return v.select(ax < 2.0 ** -(v.mant // 2 + 2), x, y)


def cosh(v: Any, x: Value) -> Value:
    """cosh(n ln2 + r) by the addition theorem."""
    a, b, r, s, c = _hyperbolic(v, v.abs(x))
    y = b + v.fma(a, r, v.fma(b, c, a * s))
    return y + y
