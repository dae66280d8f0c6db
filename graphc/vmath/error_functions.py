"""The error function, the normal distribution and their inverses."""

from __future__ import annotations

import decimal
import functools
import math
from typing import Any

import numpy as np

from graphc.vmath.arithmetic import INF, LN2_SPLIT, LOG2E, NAN, at_most, poly, two_product
from graphc.vmath.exponentials import EXPM1, exp, exp_poly, exp_reduce
from graphc.vmath.logarithms import log
from graphc.vmath.values import Value

_ERF = {  # erf(x) = x + x p(x**2), |x| <= 1
    True: (
        0.128379166, -0.37612626, 0.112835906, -0.026854476, 0.0051903883, -0.000803403789,
        7.94726147e-05,
    ),
    False: (
        0.12837916709551256, -0.37612638903183343, 0.11283791670937701,
        -0.02686617064224069, 0.005223977600409538, -0.0008548325721512474,
        0.00012055289148765248, -1.4924657454302816e-05, 1.6446777481818521e-06,
        -1.620571806639967e-07, 1.3716192059780687e-08, -7.801518144527432e-10,
    ),
}  # fmt: skip
_ERFQ = (  # log(erfc(1 + u)), 0 <= u <= 2.93
    -1.84960556, -2.63896179, -0.843203008, -0.041014187, 0.00867803488,
    -0.000411734829, -0.000558838132, 0.0001397343,
)  # fmt: skip
_ERF_ROOT_AT = 0.962890625  # where the first coefficient is nearly exact
_ERF_ROOT = (  # fourth root of erfc(_ERF_ROOT_AT + u), error relative to erf, up to 5.93
    0.6451912497532862, -0.4155946077225272, -0.001380592747403587, 0.05142022119872053,
    -0.0031005727332860345, -0.005095017195517292, 0.000697087256340496, 0.0003174119254500502,
    -7.000481373760566e-05, -1.082778329169661e-05, 3.5061195383158795e-06, 3.2510476685085253e-07,
    -1.3516000173739579e-07, -8.456156286997351e-09, 9.911256797713084e-10, 2.8434987428944333e-09,
    -1.0622471140971288e-09, 1.845792540141484e-10, -1.8130635064293826e-11, 9.796503608836422e-13,
    -2.2806265576444405e-14,
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


def erf(v: Any, x: Value) -> Value:
    """erf: odd polynomial below 1, then 1 - erfc: exp of a polynomial in float32, the fourth power
    of one in float64, which saves the exp."""
    ax = v.abs(x)
    z = ax * ax
    small = v.fma(ax, poly(v, z, _ERF[v.f32]), ax)
    if v.f32:
        t, r = exp_reduce(v, poly(v, at_most(v, ax, 3.93) - 1.0, _ERFQ))
        a = v.from_bits((v.bits(t) - v.bias) << v.mant)
        big = 1.0 - exp_poly(v, r) * a
    else:
        root = poly(v, at_most(v, ax, 5.93) - _ERF_ROOT_AT, _ERF_ROOT)
        square = root * root
        big = v.fma(-square, square, 1.0)
    return v.copysign(v.select(ax < 1.0, small, big), x)


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
        zero, small, x, y = decimal.Decimal(0), h * decimal.Decimal("1e-20"), 2 * r * h, 2 * h * h
        while True:
            # The rounding error of the value counts twice where results are of the next binade:
            # there the slope takes off half of it, and adds half on the other side.
            rest = value - decimal.Decimal(float(rows.dtype.type(value)))
            low, high = (math.frexp(value + half * slope)[1] for half in (-h / 2, h / 2))
            tilt = rest / h if low != high else zero
            rows[:, n] = float(value), float(tilt - slope)
            if n == 0:
                break
            # the integral of exp(2 r t - t**2) from 0 to h; Hermite's recurrence
            before, term, total, k = zero, h, h, 0
            while abs(term) > small:
                k += 1
                before, term = term, (x * term - y * before) / k
                total += term / (k + 1)
            value, slope, n = value + slope * total, slope * ratio, n - 1
            ratio, x = ratio * shrink, x - y
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
