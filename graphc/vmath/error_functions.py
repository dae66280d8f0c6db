"""The error function, the normal distribution and their inverses."""

from __future__ import annotations

import decimal
import functools
import math
from typing import Any

import numpy as np

from graphc.vmath.arithmetic import INF, LN2_SPLIT, LOG2E, NAN, at_most, poly, two_product
from graphc.vmath.exponentials import BELOW, EXPM1, exp, exp_reduce, exp_times
from graphc.vmath.logarithms import log
from graphc.vmath.values import Value

_ERF = (  # float32: erf(x) = x + x p(x**2), |x| <= 0.90625
    0.12837915, -0.37612516, 0.11282053, -0.026775524, 0.005006699, -0.00060619833,
)  # fmt: skip
_ERF_TAIL = (  # erfc(1 + u) exp((1 + u)**2), -0.094 <= u <= 2.93, error relative to erf
    0.42758358, -0.27321365, 0.15437567, -0.07907207, 0.03656203, -0.014145687, 0.00379056,
    -0.0004846641,
)  # fmt: skip
# float64: erf at multiples of 1 / steps and exp(-r**2), larger by some bits so that no entry is
# subnormal, as many as an index may say; and where exp(-x**2) has become 0
_ERF_STEPS, _ERF_ENTRIES, _ERF_UP, _ERF_END = 128, 4096, 64, 27.3
_ERF_DENSITY = 1.1283791670955126  # 2 / sqrt(pi)
# erf(r + d) = erf(r) + erf'(r) d (1 + q), r = n / steps; of q a polynomial in n d for each power of
# d**2, the first without the constant, which is 0
_ERF_SERIES = (
    (
        -0.007812499999868775, 4.06901043529108e-05, -1.5894505144675138e-07,
        4.967039246274916e-10,
    ),
    (
        -0.33333333333046, 0.00390622341527129, -2.4426216321807343e-05, 1.9327243182957766e-08,
    ),
    (
        0.09999968932129003,
    ),
)  # fmt: skip
# exp(t) = 1 + t + t**2 p(t), |t| <= 0.2135
_EXP_SHORT = (
    0.4999999999999999, 0.16666666666665508, 0.041666666666697286, 0.008333333335400765,
    0.0013888888868438863, 0.00019841257605577282, 2.480163709284435e-05, 2.7586840876928377e-06,
    2.752660972640025e-07,
)  # fmt: skip
# erfc at multiples of 1 / steps, as many as an index may say; its end, where the result is 0; and
# the bits by which entries are larger, so that none is subnormal
_PI = "3.14159265358979323846264338327950288"
_ERFC_STEPS = {True: 64, False: 128}
_ERFC_ENTRIES = {True: 1024, False: 4096}
_ERFC_END = {True: 10.1, False: 27.3}
_ERFC_UP = {True: 40, False: 64}
# erfc(r + d) = erfc(r) + erfc'(r) d (1 + q), r = n / steps; of q a polynomial in n d for each power
# of d**2, the first without the constant, which is 0
_ERFC_SERIES = {
    True: (
        (
            -0.015625, 0.00016276042, -1.2723585e-06, 7.950825e-09,
        ),
        (
            -0.33458075, 0.007823326,
        ),
    ),
    False: (
        (
            -0.0078125, 4.069010416666646e-05, -1.589457194010414e-07, 4.967053731635193e-10,
            -1.2935035759007443e-12, 2.8872838222068628e-15, -5.639226830786935e-18,
            9.798435141760664e-21, -1.530794267707334e-23,
        ),
        (
            -0.3333333333333333, 0.003906250003204252, -2.4414062505688383e-05,
            1.0596367550179298e-07, -3.547893082533835e-10, 9.716011247625253e-13,
            -2.2482818051004622e-15,
        ),
        (
            0.09999939931793544, -0.001302081644486533, 8.745069335956247e-06,
            -3.980886205798928e-08,
        ),
    ),
}  # fmt: skip
# log(Phi(-x) exp(x**2 / 2) (x + k)) in t = scale / (x + k) - shift, x >= 0: (k, scale, shift)
_PHI = (4.0, 8.0, 1.09375)
_PHI_POLY = {
    True: (
        -0.20354140777481697, 0.84037040488502, 0.1896931800618236, -0.001203050145026953,
        -0.027003296282323765, -0.0075419313303027105, 0.0038831623104654683,
        0.0026381555743003994, -0.00046696022548651345, -0.000688492857514816,
        4.1774211811698826e-05, 0.00010300603668994372,
    ),
    False: (
        -0.2035414069578229, 0.8403703942022076, 0.1896930795718656, -0.001202597717666364,
        -0.02700135068132357, -0.007547590205471351, 0.0038698276334981096,
        0.002669029655992153, -0.0004273403922890531, -0.0007701418695046348,
        -1.0173819706222544e-05, 0.00020457543424464518, 2.8994532316733076e-05,
        -5.105954579827833e-05, -1.3114696145147885e-05, 1.1886648256554152e-05,
        4.492913751411002e-06, -2.5064020760488227e-06, -1.3310188417259956e-06,
        4.49244062280684e-07, 3.4053960826901577e-07, -6.003532732787076e-08,
        -6.720123958436454e-08, 4.358279733215519e-09, 7.3725134245808106e-09,
    ),
}  # fmt: skip


def _squared(v: Any, x: Value) -> tuple[Value, Value, Value]:
    """|x| up to where exp(-x**2) has become 0 in float32, and its square in two."""
    ax = at_most(v, v.abs(x), 10.2)
    return ax, *two_product(v, ax, ax)


def _gaussian_f32(v: Any, square: Value, rest: Value) -> Value:
    t, r = exp_reduce(v, -square, v.bias + BELOW[True])
    return exp_times(v, r - rest, v.from_bits(v.bits(t) << v.mant)) * 2.0 ** -BELOW[True]


def _erf_f32(v: Any, x: Value) -> Value:
    ax, square, rest = _squared(v, x)
    small = v.fma(ax, poly(v, square, _ERF), ax)
    tail = poly(v, at_most(v, ax, 3.93) - 1.0, _ERF_TAIL)
    big = v.fma(-_gaussian_f32(v, square, rest), tail, 1.0)
    return v.copysign(v.select(ax < 0.90625, small, big), x)


@functools.cache
def _erf_tables() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Words of erf and of exp(-r**2), each entry from the one before it by a Taylor series."""
    rows = np.ones((2, _ERF_ENTRIES))
    with decimal.localcontext(prec=26):
        h = 1 / decimal.Decimal(_ERF_STEPS)
        value, density = decimal.Decimal(0), 2 / decimal.Decimal(_PI).sqrt()
        ratio, shrink = (-h * h).exp(), (-2 * h * h).exp()
        up, x = 2**_ERF_UP / density, decimal.Decimal(0)
        for n in range(_ERF_ENTRIES):
            rows[:, n] = float(value), float(up * density)
            if value < 1:
                value += density * _integral(x, h)
            density, ratio, x = density * ratio, ratio * shrink, x - h
    return tuple(tuple(map(int, row.view(np.uint64))) for row in rows)


def _integral(r: decimal.Decimal, h: decimal.Decimal) -> decimal.Decimal:
    """exp(2 r t - t**2) from 0 to h, by Hermite's recurrence."""
    x, y, least = 2 * r * h, 2 * h * h, h * decimal.Decimal("1e-20")
    before, term, total, k = decimal.Decimal(0), h, h, 0
    while abs(term) + abs(before) > least:
        k += 1
        before, term = term, (x * term - y * before) / k
        total += term / (k + 1)
    return total


def _beside(v: Any, x: Value) -> tuple[Value, Value, Value, Value]:
    """|x| = n / steps + d, and the entry of that multiple: (|x|, n, d, entry)."""
    ax = at_most(v, v.abs(x), _ERF_END)
    t = v.fma(ax, float(_ERF_STEPS), v.magic)
    n = t - v.magic
    entry = v.bits(t) & (_ERF_ENTRIES - 1)  # in the tables for NaN, too
    return ax, n, v.fma(n, -1.0 / _ERF_STEPS, ax), entry  # d is exact


def erf(v: Any, x: Value) -> Value:
    """From the nearest entry of a table, a Taylor series whose coefficients are polynomials in the
    entry's place; float32: odd polynomial up to about 1, then 1 - `gaussian` times a polynomial,
    whose exp those share that compute both."""
    if v.f32:
        return _erf_f32(v, x)
    _, n, d, entry = _beside(v, x)
    value, density = (v.from_bits(v.table(words, entry)) for words in _erf_tables())
    z, square = n * d, d * d
    first, second, (third,) = _ERF_SERIES
    q = v.fma(square, third, poly(v, z, second))
    q = v.fma(square, q, z * poly(v, z, first))
    step = (d * density) * (_ERF_DENSITY * 2.0**-_ERF_UP)
    return v.copysign(v.fma(step, q, step + value), x)


def gaussian(v: Any, x: Value) -> Value:
    """exp(-x**2) with the square's rounding error; float64: by erf's table of it, whose entry and
    place in it the two share."""
    if v.f32:
        return _gaussian_f32(v, *_squared(v, x)[1:])
    ax, n, d, entry = _beside(v, x)
    density = v.from_bits(v.table(_erf_tables()[1], entry))
    t = v.fma(n, -1.0 / _ERF_STEPS, -ax) * d  # -(r + x) d
    p = v.fma(t * t, poly(v, t, _EXP_SHORT), t)
    return v.fma(density, p, density) * 2.0**-_ERF_UP


@functools.cache
def _erfc_table(f32: bool) -> tuple[tuple[int, ...], ...]:
    """Words of erfc and of its derivative: the last entry by Laplace's continued fraction, each
    other from the one after it by a Taylor series."""
    steps, end, up = _ERFC_STEPS[f32], _ERFC_END[f32], 2 ** _ERFC_UP[f32]
    rows = np.zeros((2, _ERFC_ENTRIES[f32]), np.float32 if f32 else np.float64)
    with decimal.localcontext(prec=26):
        h = decimal.Decimal(1) / steps
        n = round(end * steps)
        r = n * h
        slope = up * 2 / decimal.Decimal(_PI).sqrt() * (-r * r).exp()
        fraction = r
        for k in range(50, 0, -1):
            fraction = r + k / (2 * fraction)
        value = slope / 2 / fraction
        ratio, shrink = (h * (2 * r - h)).exp(), (-2 * h * h).exp()
        zero = decimal.Decimal(0)
        while True:
            # The rounding error of the value counts twice where results are of the next binade:
            # there the slope takes off half of it, and adds half on the other side.
            rest = value - decimal.Decimal(float(rows.dtype.type(value)))
            low, high = (math.frexp(value + half * slope)[1] for half in (-h / 2, h / 2))
            tilt = rest / h if low != high else zero
            rows[:, n] = float(value), float(tilt - slope)
            if n == 0:
                break
            value += slope * _integral(r, h)
            slope, ratio, r, n = slope * ratio, ratio * shrink, r - h, n - 1
    return tuple(tuple(map(int, row.view(np.uint32 if f32 else np.uint64))) for row in rows)


def erfc(v: Any, x: Value) -> Value:
    """erfc of the nearest entry of a table, and a Taylor series whose coefficients are polynomials
    in the entry's place; 2 - that for x < 0."""
    steps, up = _ERFC_STEPS[v.f32], 2.0 ** -_ERFC_UP[v.f32]
    values, slopes = _erfc_table(v.f32)
    ax = at_most(v, v.abs(x), _ERFC_END[v.f32])
    t = v.fma(ax, float(steps), v.magic)
    n = t - v.magic
    entry = v.bits(t) & (len(values) - 1)  # in the table for NaN, too
    value, slope = (v.from_bits(v.table(words, entry)) for words in (values, slopes))
    d = v.fma(n, -1.0 / steps, ax)  # exact
    z = n * d
    first, *others, last = (poly(v, z, row) for row in _ERFC_SERIES[v.f32])
    square = d * d
    q = last
    for other in reversed(others):
        q = v.fma(q, square, other)
    q = v.fma(first, z, q * square)
    step = slope * d
    y = value + v.fma(step, q, step)
    left = x < 0.0
    zero = v.const(0.0)
    return v.fma(y, v.select(left, v.const(-up), v.const(up)), v.select(left, v.const(2.0), zero))


def _phi_end(v: Any) -> float:
    """Where x Phi(-x) has become 0."""
    return 14.5 if v.f32 else 38.7


def _phi_tail(v: Any, ax: Value) -> tuple[Value, Value, Value, Value]:
    """(p, a, b, inv): Phi(-ax) = erfc(ax / sqrt(2)) / 2 is (1 + p) a b inv.

    Shepherd & Laframboise 1981 with the smooth factor moved into the exponent, where its rounding
    errors are absolute.
    """
    k, scale, shift = _PHI
    ax = at_most(v, ax, _phi_end(v))
    d = ax + k
    inv = 1.0 / d
    t = inv * scale - shift  # exact but for tiny t: powers of two and a short constant
    sq, small = two_product(v, ax, ax)
    sq, small = sq * 0.5, small * -0.5
    c0, c1, *coefs = _PHI_POLY[v.f32]
    chi = round(c0 * 1024.0) / 1024.0
    small = small + (c0 - chi)
    # The rounding errors of d and inv amount to a shift of x by rho * d; g / d is roughly the
    # logarithmic derivative of Phi(-x) exp(x**2 / 2).
    rho = v.fma((d - k) - ax, inv, v.remainder(v.const(1.0), d, inv))  # both differences are exact
    g = v.fma(v.fma(inv, 29.0, 1.5), inv, 1.0)
    small = v.fma(rho, g, small)
    h = v.fma(poly(v, t, [c1 - 1.0, *coefs]), t, small)  # c1 is about 1, and t exact
    magic = v.magic + 2 * v.bias
    m = v.fma((h - sq) + (t + chi), float(LOG2E), magic)
    n = m - magic
    hi, lo = LN2_SPLIT[v.f32]
    # the large terms are exact, their sum is small
    r = ((v.fma(n, -hi, -sq) + chi) + t) + v.fma(n, -lo, h)
    p = v.fma(r * r, poly(v, r, EXPM1[v.f32]), r)
    # 2**n in two factors of which one is constant: n is at most 1
    up = 30 if v.f32 else 60
    a = v.from_bits((v.bits(m) + (up - v.bias)) << v.mant)
    return p, a, v.const(2.0**-up), inv


def gelu(v: Any, x: Value) -> Value:
    """x Phi(x): |x| Phi(-|x|) to full relative accuracy, then max(x, 0) minus that."""
    ax = v.abs(x)
    p, a, b, inv = _phi_tail(v, ax)
    c, e = two_product(v, at_most(v, ax, _phi_end(v)), inv)
    y = (c + v.fma(c, p, e)) * a * b
    y = v.select(x > 0.0, x, v.const(-0.0)) - y
    y = v.select(x > -INF, y, v.const(NAN))  # -inf * 0, as in the defining formula
    return v.select(ax < 2.0 ** -(v.mant + 4), x * 0.5, y)


#: erfinv(x) / x in x**2 on [0, 1/4].
_ERFINV = (
    0.886226925452758, 0.23201366653465413, 0.1275561753057025, 0.08655212922928228,
    0.06495961849686033, 0.05173125434128652, 0.042837381929296245, 0.03645513184554066,
    0.03181283844468519, 0.026969129751201436, 0.030910158235606017, -0.0014607021070302691,
    0.08722866446698135, -0.09642274527103643, 0.12003690619362008,
)  # fmt: skip


def _erfcinv_tail(v: Any, t: Value) -> Value:
    """The y > 0 with erfc(y) = t for t <= 1/2: Winitzki's approximation, then Newton's iteration
    on log erfc, which is nearly a parabola."""
    logarithm = log(v, t * (2.0 - t))
    b = v.fma(logarithm, 0.5, 4.330746750799873)  # 2 / (pi a) with a = 0.147
    y = v.sqrt(v.sqrt(v.fma(b, b, logarithm * -6.802721088435375)) - b)
    for _ in range(3):
        c = erfc(v, y)
        # erfc(y) / erfc'(y) by exp(y**2), y**2 exact in two pieces
        high = v.from_bits(v.bits(y) & -(1 << 27))
        square = high * high
        half = exp(v, square * 0.5)
        ratio = c * half * half * v.fma(y - high, y + high, 1.0)
        step = v.fma(log(v, c / t), ratio * 0.8862269254527580, y)
        y = v.select(c > 0.0, step, y)  # erfc(y) underflows beyond 27.2
    return y


def erfinv(v: Any, x: Value) -> Value:
    """Polynomial up to 1/2, the root of erfc beyond."""
    ax = v.abs(x)
    near = ax * poly(v, ax * ax, _ERFINV)
    tail = _erfcinv_tail(v, v.select(ax > 0.5, 1.0 - ax, v.const(0.5)))
    y = v.select(ax > 0.5, tail, near)
    y = v.select(ax == 1.0, v.const(INF), y)
    return v.select(ax <= 1.0, v.copysign(y, x), v.const(NAN))


def erfcinv(v: Any, t: Value) -> Value:
    """Polynomial around 1, the root of erfc beyond; exact arguments in both tails."""
    x = 1.0 - t
    low, high = t < 0.5, t > 1.5
    side = v.select(high, 2.0 - t, t)
    near = x * poly(v, x * x, _ERFINV)
    tail = _erfcinv_tail(v, v.select(low | high, side, v.const(0.5)))
    y = v.select(low, tail, v.select(high, -tail, near))
    y = v.select(t == 0.0, v.const(INF), v.select(t == 2.0, v.const(-INF), y))
    return v.select((t >= 0.0) & (t <= 2.0), y, v.const(NAN))
