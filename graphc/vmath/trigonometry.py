"""Trigonometric functions and their inverses."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from graphc.vmath.arithmetic import INF, NAN, pieces, poly, two_product, two_sum
from graphc.vmath.values import Value

_PI = (
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803"
    "4825342117067982148086513282306647093844609550582231725359408128481117450284102701938521"
)
_PIO2 = "1.570796326794896619231321691639751442098584699687552910487472296153908203143"
_PIO2_HL = {True: pieces(_PIO2, 24), False: pieces(_PIO2, 53)}
_PI_HL = {True: pieces(_PI[:80], 24), False: pieces(_PI[:80], 53)}
#: Beyond it another way: Payne & Hanek; for float32 that of float64.
_LIMIT = {True: 6000.0, False: 2.0**20}
_CUT = {True: (12, 12, 12), False: (33, 19, 33)}  # exact times n below the limit
_PI_CUT = {f32: pieces(_PI[:80], *bits) for f32, bits in _CUT.items()}
_PIO2_CUT = {f32: pieces(_PIO2, *bits) for f32, bits in _CUT.items()}

# sin(r) = r + r**3 p(z), z = r**2, |r| <= pi/2
_SIN = {
    True: (-0.1666666, 0.008333069, -0.00019809777, 2.6060957e-06),
    False: (
        -0.16666666666666666, 0.008333333333333207, -0.0001984126984121248,
        2.755731921156964e-06, -2.5052106904602146e-08, 1.6058941035803548e-10,
        -7.643021314414969e-13, 2.7214548224046673e-15,
    ),
}  # fmt: skip
# tan(r) = r + r**3 p(z), |r| <= pi/4; for float64 with p(z) / (1 + z q(z)) in place of p(z)
_TAN = {
    True: (
        0.33333334, 0.13333228, 0.05399511, 0.021616071, 0.009979843, 0.0011571082, 0.0038598478,
    ),
    False: (0.3333333333333333, -0.02223669377555279,
            0.00029383051600379294, -4.975352157201306e-07),
}  # fmt: skip
_TAN_DIVISOR = (
    -0.46671008132665837, 0.025660762173912076, -0.0003116784879259847, 4.975352157201306e-07,
)  # fmt: skip
_ASIN = {  # asin(x) = x + x**3 p(x**2), |x| <= 1/2
    True: (
        0.166667521, 0.0749530941, 0.0454691648, 0.0241846554, 0.042158559,
    ),
    False: (
        0.16666666666665408, 0.07500000000337126, 0.044642856828301436,
        0.030381959133993178, 0.022371758242348206, 0.017359699945575204,
        0.013885300375853622, 0.012168692796646645, 0.006530517255078137,
        0.019520754688480083, -0.016211944187911533, 0.03190366293705049,
    ),
}  # fmt: skip
_ATAN = {  # atan(x) = x + x**3 p(x**2), |x| <= 1
    True: (
        -0.333331525, 0.199937671, -0.142110109, 0.106658392, -0.0755187497, 0.0432079136,
        -0.0163654946, 0.00292007555,
    ),
    False: (
        -0.3333333333333186, 0.19999999999755258, -0.14285714271349575, 0.11111110679371523,
        -0.09090901252712459, 0.07692213229694025, -0.06665863644596215,
        0.05877331734297201, -0.05239354613814443, 0.04674392729511508,
        -0.04093823730092044, 0.034091411046420994, -0.025861927221662518,
        0.01701698935743179, -0.009216274799087293, 0.0038743887780543374,
        -0.0011712889459554719, 0.00022473400491695755, -2.0444089999692092e-05,
    ),
}  # fmt: skip


def _reduced(
    v: Any, n: Value, x: Value, cut: tuple[float, ...], whole: bool = False
) -> tuple[Value, Value]:
    """x - n c as a rounded number and what it lacks, for c cut in pieces (Cody & Waite).

    Of the differences only that with the last piece but one is rounded, and not where it is small;
    its error is at most half a unit, and part of what is lacking if ``whole``.
    """
    *exact, third, last = cut
    for piece in exact:
        x = v.fma(n, -piece, x)
    r = v.fma(n, -third, x)
    if whole:
        return r, -v.fma(n, last, v.fma(n, third, r - x))  # -0.0 where x is a zero
    return r, n * -last


def _sin_of(v: Any, r: Value, lo: Value) -> Value:
    """sin(r) + lo, |r| <= pi/2."""
    z = r * r
    return r + v.fma(r * z, poly(v, z, _SIN[v.f32]), lo)


def _times_cos(v: Any, r: Value, lo: Value) -> Value:
    """lo cos(r) to a few digits, which is what ``lo`` adds to sin(r)."""
    return lo * v.fma(r * r, -0.405, 1.0)


def _tan_of(v: Any, odd: Value, r: Value, lo: Value) -> Value:
    """tan(r + lo), |r| <= pi/4, or where ``odd`` -1 over it: that of a quarter turn more.

    A division is there anyway for the latter. In float64, where a polynomial is long, it serves a
    quotient of short ones: r + t / d, or -d / (r d + t).
    """
    z = r * r
    if v.f32:
        lo = lo * v.fma(z, 1.5, 1.0)  # about the derivative
        y = r + v.fma(r * z, poly(v, z, _TAN[True]), lo)
        return v.select(odd, -1.0 / y, y)
    d = v.fma(z, poly(v, z, _TAN_DIVISOR), 1.0)
    t = v.fma(r * z, poly(v, z, _TAN[False]), lo * v.fma(z, 0.66, 1.0))  # the derivative times d
    quotient = v.select(odd, d, t) / v.select(odd, -v.fma(r, d, t), d)
    return v.select(odd, 0.0, r) + quotient


def _signed(v: Any, y: Value, turns: Value, x: Value | None) -> Value:
    """y with the sign changed for odd ``turns`` and, if given, for negative ``x``."""
    sign = turns << (v.width - 1)
    if x is not None:
        sign = sign ^ (v.bits(x) & -v.sign)
    return v.from_bits(v.bits(y) ^ sign)


def _trig_huge(v: Any, x: Value, kind: str) -> Value:
    """Payne & Hanek 1983: x times the 192 bits of 2/pi that matter, modulo 4, in integers."""
    bits = v.bits(x)
    start = ((bits >> 52) & 0x7FF) - (1075 - 62)  # where those bits start in the table
    m = (bits & ((1 << 52) - 1)) | (1 << 52)
    word = start >> 6
    s = start & 63
    t = [v.table(_TWO_OVER_PI, word + i) for i in range(4)]
    w = [(t[i] << s) | ((t[i + 1] >> 1) >> (63 - s)) for i in range(3)]
    mid = m * w[1]
    low = v.umulh(m, w[2])
    mid2 = mid + low
    carry = v.select(v.ult(mid2, mid), v.iconst(1), v.iconst(0))
    top = m * w[0] + v.umulh(m, w[1]) + carry
    # top:mid2 is the fraction in units of 2**-126 quadrants; round to the nearest quadrant
    q = (top + (1 << 61)) >> 62
    f = top - (q << 62)
    neg = f < 0
    f = v.select(neg, ~f + v.select(mid2 == 0, v.iconst(1), v.iconst(0)), f)
    g = v.select(neg, -mid2, mid2)
    a = v.to_float(f >> 20) * 2.0**20
    b = v.to_float(f & 0xFFFFF) + v.to_float(g >> 11) * 2.0**-53
    hi, lo = two_sum(a, b)
    big = hi == 0.0
    hi, lo = v.select(big, b, hi), v.select(big, v.const(0.0), lo)
    chi, clo = _PIO2_HL[False]
    p, e = two_product(v, hi, v.const(chi))
    p, e = two_sum(p, v.fma(lo, chi, v.fma(hi, clo, e)))
    flip = v.select(neg, v.const(-(2.0**-62)), v.const(2.0**-62))
    r, lo = p * flip, e * flip  # of a quarter turn; sine and cosine are made for half turns
    odd = (q & 1) != 0
    if kind == "tan":
        y = _signed(v, _tan_of(v, odd, r, lo), v.iconst(0), x)
    else:
        # sin(r + pi/2 q): cos(r) = sin(pi/2 - |r|)
        if kind == "cos":
            odd, q = ~odd, q + 1
        ar = v.abs(r)
        side, rest = two_sum(v.const(_PIO2_HL[False][0]), -ar)
        rest = rest + (_PIO2_HL[False][1] - v.select(r < 0.0, -lo, lo))
        side, rest = two_sum(side, rest)
        r, lo = v.select(odd, side, r), v.select(odd, rest, lo)
        y = _sin_of(v, r, _times_cos(v, r, lo))
        y = _signed(v, y, q >> 1, x if kind == "sin" else None)
    return v.select(v.abs(x) < INF, y, v.const(NAN))


#: 64 zero bits, then 2/pi, in 64-bit words.
def _two_over_pi(words: int) -> tuple[int, ...]:
    # pi by Machin's formula in integers: no dependency, done once at import
    n = 64 * words
    one = 1 << (n + 32)

    def arctan_inverse(k: int) -> int:
        term = total = one // k
        i, sign = 3, -1
        while term:
            term //= k * k
            total += sign * (term // i)
            i, sign = i + 2, -sign
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    bits = (2 << (n - 64)) * one // pi
    return tuple((bits >> (64 * (words - 1 - i))) & ((1 << 64) - 1) for i in range(words))


_TWO_OVER_PI = _two_over_pi(22)


def _beyond(limit: float) -> Callable[[Any, Value], Value]:
    return lambda v, x: v.abs(x) > limit


def _near(v: Any, kind: str, x: Value) -> Value:
    """For arguments up to the limit: reduced to half turns, for tan to quarter turns."""
    if kind == "tan":
        t = v.fma(x, 2.0 / math.pi, v.magic)
        r, lo = _reduced(v, t - v.magic, x, _PIO2_CUT[v.f32], whole=True)
        return _tan_of(v, (v.bits(t) & 1) != 0, r, lo)
    ax = v.abs(x)
    if kind == "sin":
        t = v.fma(ax, 1.0 / math.pi, v.magic)
        n = t - v.magic
    else:  # cos(r + pi (k + 1/2)) is the sine of -r, turned k times
        t = v.fma(ax, 1.0 / math.pi, -0.5) + v.magic
        n = (t - v.magic) + 0.5
    r, lo = _reduced(v, n, ax, _PI_CUT[v.f32])
    if v.f32:  # where lo is less than the rounding error of r, cos(r) is 1 wherever lo counts
        lo = _times_cos(v, r, lo)
    if kind == "sin":
        return _signed(v, _sin_of(v, r, lo), v.bits(t), x)
    return _signed(v, _sin_of(v, -r, -lo), v.bits(t), None)


def trig(kind: str) -> Callable[..., Value]:
    def double(v: Any, x: Value) -> Value:
        huge, far = functools.partial(_trig_huge, kind=kind), _beyond(_LIMIT[False])
        return v.rare(kind, huge, far, [x], _near(v, kind, x), lane_by_lane=True)

    def far(v: Any, x: Value) -> Value:
        w = v.wide()
        return v.cast(double(w, w.cast(x)))

    def impl(v: Any, x: Value) -> Value:
        if not v.f32:
            return double(v, x)
        return v.rare(kind, far, _beyond(_LIMIT[True]), [x], _near(v, kind, x))

    impl.__doc__ = (
        f"{kind}: Cody & Waite reduction below 2**20 (float32: 6000, float64 beyond), "
        "Payne & Hanek above; minimax polynomials."
    )
    return impl


def _asin_parts(v: Any, ax: Value) -> tuple[Value, Value, Value]:
    """(ax > 1/2, a, b): asin(a + b) parts with a = ax or sqrt((1 - ax) / 2), b = asin(a) - a."""
    big = ax > 0.5
    z = v.select(big, (1.0 - ax) * 0.5, ax * ax)
    a = v.select(big, v.sqrt(z), ax)
    return big, a, a * z * poly(v, z, _ASIN[v.f32])


def arcsin(v: Any, x: Value) -> Value:
    """asin: minimax polynomial below 1/2, pi/2 - 2 asin(sqrt((1 - x) / 2)) above."""
    ax = v.abs(x)
    big, a, b = _asin_parts(v, ax)
    hi, lo = _PIO2_HL[v.f32]
    y = v.select(big, hi - ((a + a) + ((b + b) - lo)), a + b)
    return v.copysign(y, x)


def arccos(v: Any, x: Value) -> Value:
    """acos: from asin's parts; 2 asin(sqrt((1 - x) / 2)) above 1/2."""
    ax = v.abs(x)
    big, a, b = _asin_parts(v, ax)
    neg = x < 0.0
    hi, lo = _PIO2_HL[v.f32]
    phi, plo = _PI_HL[v.f32]
    a = v.select(neg, -a, a)
    b = v.select(neg, -b, b)
    small = hi - (a + (b - lo))
    far = v.select(neg, v.const(phi), v.const(0.0)) + (
        (a + a) + ((b + b) + v.select(neg, v.const(plo), v.const(0.0)))
    )
    return v.select(big, far, small)


def _atan_poly(v: Any, z: Value) -> Value:
    """Of alternating series near z = 1, even and odd terms would cancel: cut it in the middle."""
    coefs = _ATAN[v.f32]
    if v.f32:
        return poly(v, z, coefs)
    z2 = z * z
    z4 = z2 * z2
    return v.fma(z4 * z4, poly(v, z, coefs[8:]), poly(v, z, coefs[:8]))


def arctan(v: Any, x: Value) -> Value:
    """atan: minimax polynomial on [0, 1], pi/2 - atan(1/x) beyond."""
    ax = v.abs(x)
    inv = ax > 1.0
    t = v.select(inv, v.const(-1.0), ax) / v.select(inv, ax, v.const(1.0))
    z = t * t
    hi, lo = _PIO2_HL[v.f32]
    b = v.fma(t * z, _atan_poly(v, z), v.select(inv, v.const(lo), v.const(0.0)))
    y = v.select(inv, v.const(hi), v.const(0.0)) + (t + b)
    return v.copysign(y, x)


def arctan2(v: Any, y: Value, x: Value) -> Value:
    """atan2: atan of the smaller over the larger magnitude, moved to the right octant."""
    ax = v.abs(x)
    ay = v.abs(y)
    swap = ay > ax
    num = v.select(swap, ax, ay)
    den = v.select(swap, ay, ax)
    t = num / den
    t = v.select(num == den, v.const(1.0), t)  # inf / inf
    t = v.select(den == 0.0, v.const(0.0), t)
    left = v.bits(x) < 0
    flip = swap ^ left
    z = t * t
    hi, lo = _PIO2_HL[v.f32]
    phi, plo = _PI_HL[v.f32]
    b = t * z * _atan_poly(v, z)
    t = v.select(flip, -t, t)
    b = v.select(flip, -b, b)
    zero = v.const(0.0)
    off = v.select(swap, v.const(hi), v.select(left, v.const(phi), zero))
    olo = v.select(swap, v.const(lo), v.select(left, v.const(plo), zero))
    out = v.copysign(off + (t + (b + olo)), y)
    return v.select((x == x) & (y == y), out, v.const(NAN))
