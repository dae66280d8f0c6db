"""Trigonometric functions and their inverses."""

from __future__ import annotations

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
_PIO2_CUT = pieces(_PIO2, 33, 33)  # times n < 2**20 the first two products are exact
_PIO2_HL = {True: pieces(_PIO2, 24), False: pieces(_PIO2, 53)}
_PI_HL = {True: pieces(_PI[:80], 24), False: pieces(_PI[:80], 53)}
_TRIG_LIMIT = 2.0**20  # beyond it, Payne & Hanek
_PIO2_CUT_F32 = pieces(_PIO2, 11, 11, 11, 11)  # times n < 2**13 all products but the last are exact
_TRIG_LIMIT_F32 = 12000.0  # beyond it, the way of float64
# sin(r) = r + r**3 p(z), cos(r) = 1 - z/2 + z**2 p(z), z = r**2, |r| <= pi/4
_SIN = {
    True: (
        -0.16666654536837025, 0.00833215606106939, -0.00019514632446728493,
    ),
    False: (
        -0.1666666666666663, 0.00833333333332184, -0.0001984126982935855,
        2.7557313538492944e-06, -2.5050734375489803e-08, 1.5895431576369132e-10,
    ),
}  # fmt: skip
_COS = {
    True: (
        0.04166665476237127, -0.0013887659535880138, 2.446431814468839e-05,
    ),
    False: (
        0.041666666666666595, -0.0013888888888867836, 2.480158728344031e-05,
        -2.75573122127231e-07, 2.087539691160081e-09, -1.1341514723058446e-11,
    ),
}  # fmt: skip
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


def _kernel(v: Any, r: Value, lo: Value | None, f32: bool) -> tuple[Value, Value, Value, Value]:
    """sin and cos of r + lo, |r| <= pi/4, as the last sum's two terms: large, small."""
    z = r * r
    s = (r * z) * poly(v, z, _SIN[f32])
    if lo is None:
        return r, s, v.const(1.0), z * v.fma(z, poly(v, z, _COS[f32]), -0.5)
    h = z * 0.5
    c = 1.0 - h
    s = s + lo
    tail = ((1.0 - c) - h) - r * lo
    return r, s, c, v.fma(z * z, poly(v, z, _COS[f32]), tail)


def _place(
    v: Any, kind: str, q: Value, parts: tuple[Value, Value, Value, Value], x: Value
) -> Value:
    """Put quadrant q (low two bits) and the sign of x to the sine and cosine of the rest."""
    s1, s2, c1, c2 = parts
    s, c = s1 + s2, c1 + c2
    if kind == "cos":
        q = q + 1
    odd = (q & 1) != 0
    sign = (q & 2) << (v.width - 2)
    if kind != "tan":
        y = v.select(odd, c, s)
    else:
        sign = q << (v.width - 1)
        num, den = v.select(odd, c, s), v.select(odd, s, c)
        inv = 1.0 / den
        y = num * inv
        # one correction step, the rounding errors of sine and cosine included
        p, e = two_product(v, y, den)
        slo, clo = s2 - (s - s1), c2 - (c - c1)
        rest = ((num - p) - e) + (v.select(odd, clo, slo) - y * v.select(odd, slo, clo))
        y = v.fma(rest, inv, y)
    if kind != "cos":
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
    y = _place(v, kind, q, _kernel(v, p * flip, e * flip, False), x)
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


def trig(kind: str) -> Callable[..., Value]:
    def double(v: Any, x: Value) -> Value:
        ax = v.abs(x)
        t = v.fma(ax, 2.0 / math.pi, v.magic)
        n = t - v.magic
        c1, c2, c3 = _PIO2_CUT  # the first two products are exact
        r1 = v.fma(n, -c1, ax)
        u = n * c2
        r2 = r1 - u
        r, lo = two_sum(r2, v.fma(n, -c3, (r1 - r2) - u))
        y = _place(v, kind, v.bits(t), _kernel(v, r, lo, False), x)
        return v.rare(kind, lambda o, a: _trig_huge(o, a, kind), _beyond(_TRIG_LIMIT), x, y, True)

    def far(v: Any, x: Value) -> Value:
        w = v.wide()
        return v.cast(double(w, w.cast(x)))

    def single(v: Any, x: Value) -> Value:
        ax = v.abs(x)
        t = v.fma(ax, 2.0 / math.pi, v.magic)
        n = t - v.magic
        c1, c2, c3, c4, c5 = _PIO2_CUT_F32
        r2 = v.fma(n, -c2, v.fma(n, -c1, ax))  # exact
        r3 = v.fma(n, -c3, r2)
        lo = v.fma(n, -c5, v.fma(n, -c4, v.fma(n, -c3, r2 - r3)))
        r, rest = two_sum(r3, lo)
        if kind == "tan":
            parts = _kernel(v, r, rest, True)
        else:
            parts = _kernel(v, r, None, True)
            parts = r3, lo + parts[1], *parts[2:]
        y = _place(v, kind, v.bits(t), parts, x)
        return v.rare(kind, far, _beyond(_TRIG_LIMIT_F32), x, y)

    def impl(v: Any, x: Value) -> Value:
        return (single if v.f32 else double)(v, x)

    impl.__doc__ = (
        f"{kind}: Cody & Waite reduction below 2**20 (float32: 12000, float64 beyond), "
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
