"""The incomplete gamma functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.vmath.arithmetic import INF, NAN, at_least, at_most, poly, poly_over
from graphc.vmath.error_functions import erfc
from graphc.vmath.exponentials import exp, expm1
from graphc.vmath.gamma import digamma, gammaln, gammaln1p
from graphc.vmath.logarithms import log
from graphc.vmath.values import Value

# (mu - log(1 + mu)) / mu**2, scaled from [-0.4, 0.6]
_GAP = (
    0.468982019567514, -0.14436565022059453, 0.04968452541478945, -0.018182335722934106,
    0.0069187458675640775, -0.0027048925143773207, 0.001078697738053015,
    -0.00043677593013734397, 0.00017899655072464382, -7.407458369404364e-05,
    3.090298731478622e-05, -1.298005854139561e-05, 5.483652402515071e-06,
    -2.3288355958804345e-06, 9.932448562537748e-07, -4.2374915553797733e-07,
    1.8175986609246788e-07, -8.097984364526884e-08, 3.533804766806085e-08,
    -1.1869958277402979e-08, 4.82490069822814e-09, -5.107637427025246e-09,
    2.4212744470892586e-09, 6.557708919523895e-10, -3.5476715663022166e-10,
    -4.155438638063653e-10, 1.9265879222925658e-10,
)  # fmt: skip
# Temme's c_k in eta, |eta| <= 1 (his recurrence, DLMF 8.12); c_k is divided by a**k, a >= 20
_TEMME = (
    (
        -0.3333333333333333, 0.08333333333333333, -0.014814814814814815, 0.0011574074074074073,
        0.0003527336860670194, -0.0001787551440329218, 3.919263178522438e-05,
        -2.185448510679992e-06, -1.85406221071516e-06, 8.296711340953087e-07,
        -1.7665952736826078e-07, 6.707853543401498e-09, 1.0261809784240309e-08,
        -4.382036018453353e-09, 9.14769958223679e-10, -2.5514193994946248e-11,
        -5.830772132550426e-11, 2.4361948020667415e-11, -5.0276692801141755e-12,
        1.1004392031956135e-13, 3.371763262400985e-13, -1.392388722418162e-13,
        2.8534893807047445e-14, -5.139111834242572e-16, -1.9752288294349442e-15,
        8.099521156704561e-16, -1.6522531216398162e-16,
    ),
    (
        -0.001851851851851852, -0.003472222222222222, 0.0026455026455026454, -0.0009902263374485596,
        0.00020576131687242798, -4.018775720164609e-07, -1.8098550334489977e-05,
        7.64916091608111e-06, -1.6120900894563446e-06, 4.647127802807434e-09, 1.378633446915721e-07,
        -5.752545603517705e-08, 1.1951628599778148e-08, -1.7543241719747647e-11,
        -1.0091543710600413e-09, 4.162792991842583e-10, -8.56390702649298e-11,
        6.067215101604758e-14, 7.1624989648114856e-12, -2.933186643771437e-12,
        5.996696365683689e-13, -2.1671786527323313e-16, -4.978339972369262e-14,
        2.0291628823713425e-14, -4.13125571381061e-15,
    ),
    (
        0.004133597883597883, -0.0026813271604938273, 0.0007716049382716049, 2.0093878600823047e-06,
        -0.0001073665322636516, 5.2923448829120125e-05, -1.2760635188618728e-05,
        3.423578734096138e-08, 1.3721957309062934e-06, -6.298992138380055e-07,
        1.4280614206064242e-07, -2.0477098421990866e-10, -1.409252991086752e-08,
        6.228974084922022e-09, -1.3670488396617114e-09, 9.428356159014678e-13,
        1.2872252400089318e-10, -5.5645956134363323e-11, 1.197593554636698e-11,
        -4.1689782251838634e-15, -1.0940640427884595e-12, 4.662239946390136e-13,
        -9.905105763906907e-14,
    ),
    (
        0.0006494341563786008, 0.00022947209362139917, -0.0004691894943952557,
        0.00026772063206283885, -7.561801671883977e-05, -2.396505113867297e-07,
        1.1082654115347302e-05, -5.6749528269915965e-06, 1.4230900732435883e-06,
        -2.7861080291528143e-11, -1.6958404091930278e-07, 8.099464905388083e-08,
        -1.9111168485973655e-08, 2.3928620439808118e-12, 2.0620131815488797e-09,
        -9.460496661855133e-10, 2.1541049775774907e-10, -1.388823336813903e-14,
        -2.1894761681963938e-11, 9.790998951171684e-12, -2.178219188018096e-12,
    ),
    (
        -0.0008618882909167117, 0.0007840392217200666, -0.0002990724803031902,
        -1.4638452578843418e-06, 6.641498215465122e-05, -3.968365047179435e-05,
        1.1375726970678419e-05, 2.507497226237533e-10, -1.6954149536558305e-06,
        8.907507532205309e-07, -2.292934834000805e-07, 2.956794137544049e-11,
        2.8865829742708783e-08, -1.4189739437803219e-08, 3.4463580499464896e-09,
        -2.3024517174528067e-13, -3.9409233028046403e-10, 1.86023389685045e-10,
        -4.356323005056618e-11,
    ),
    (
        -0.00033679855336635813, -6.972813758365857e-05, 0.0002772753244959392,
        -0.00019932570516188847, 6.797780477937208e-05, 1.419062920643967e-07,
        -1.3594048189768693e-05, 8.018470256334202e-06, -2.291481176508095e-06,
        -3.252473551298454e-10, 3.4652846491085265e-07, -1.8447187191171344e-07,
        4.8240967037894184e-08, -1.7989466721743514e-14, -6.306194500013523e-09,
        3.162417628774568e-09, -7.840924253697429e-10,
    ),
    (
        0.0005313079364639922, -0.0005921664373536939, 0.0002708782096718045, 7.902353232660328e-07,
        -8.153969367561969e-05, 5.61168275310625e-05, -1.8329116582843375e-05,
        -3.0796134506033047e-09, 3.465155368803609e-06, -2.0291327396058603e-06,
        5.788792863149004e-07, 2.338630673826657e-13, -8.828600746330484e-08,
        4.7435958880408125e-08, -1.2545415020710383e-08,
    ),
    (
        0.00034436760689237765, 5.171790908260592e-05, -0.00033493161081142234,
        0.0002812695154763237, -0.00010976582244684731, -1.2741009095484485e-07,
        2.7744451511563645e-05, -1.8263488805711332e-05, 5.7876949497350525e-06,
        4.93875893393627e-10, -1.0595367014026043e-06, 6.166714376110408e-07,
        -1.7562973359060463e-07,
    ),
    (
        -0.0006526239185953094, 0.0008394987206720873, -0.000438297098541721,
        -6.969091458420552e-07, 0.00016644846642067547, -0.00012783517679769218,
        4.629953263691304e-05, 4.557909867922708e-09, -1.0595271125805195e-05,
        6.783342904865167e-06, -2.1075476666258803e-06,
    ),
    (
        -0.0005967612901927463, -7.204895416020011e-05, 0.0006782308837667328,
        -0.0006401475260262758, 0.00027750107634328704, 1.819700838046515e-07,
        -8.479507117068503e-05, 6.105192082501531e-05, -2.1073920183404862e-05,
    ),
    (
        0.0013324454494800656, -0.0019144384985654776, 0.0011089369134596636, 9.9324041226423e-07,
        -0.0005087450129309319, 0.00042735056665392886,
    ),
)  # fmt: skip
_LARGE = 20.0  # values of a for Temme's expansion
_TERMS, _FRACTIONS = 75, 70  # of the series and of the continued fraction
_NEAR, _NEAR_TERMS = 1.25, 20  # of Q for a < 1 and small x


def _eta(v: Any, a: Value, x: Value) -> tuple[Value, Value]:
    """(eta, eta**2 / 2): the distance of x / a from 1 in which the density is a Gaussian."""
    mu = (x - a) / a
    inside = (mu > -0.4) & (mu < 0.6)
    near = mu * mu * poly_over(v, mu, -0.4, 0.6, _GAP)
    gap = v.select(inside, near, mu - log(v, v.select(inside, v.const(1.0), x / a)))
    return v.copysign(v.sqrt(gap + gap), mu), gap


def _uniform(v: Any, a: Value, eta: Value, gap: Value, upper: bool) -> Value:
    """Temme's (1979) expansion for large a."""
    eta = at_least(v, at_most(v, eta, 1.0), -1.0)
    inverse = 1.0 / a
    total = poly(v, eta, _TEMME[-1])
    for row in reversed(_TEMME[:-1]):
        total = v.fma(total, inverse, poly(v, eta, row))
    rest = exp(v, -(a * gap)) * total / v.sqrt(a * (2 * math.pi))
    z = eta * v.sqrt(a * 0.5)
    return erfc(v, z) * 0.5 + rest if upper else erfc(v, -z) * 0.5 - rest


def _density(v: Any, a: Value, x: Value, gap: Value) -> Value:
    """x**a exp(-x) / Gamma(a + 1): with Stirling's series for large a, where powers overflow."""
    inverse = 1.0 / at_least(v, a, 10.0)
    square = inverse * inverse
    tail = poly(
        v, square, (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
    )
    large = exp(v, -(a * gap) - tail * inverse) / v.sqrt(a * (2 * math.pi))
    small = exp(v, (a * log(v, x) - x) - gammaln(v, a + 1.0))
    return v.select(a > 10.0, large, small)


def _small_q(v: Any, a: Value, x: Value) -> Value:
    """Q for a < 1 and x < 5/4: 1 - P has no digits for small a, 1 - x**a / Gamma(a + 1) has all of
    them, as has what the rest of P's series adds to it."""
    power = a * log(v, x) - gammaln1p(v, a)
    series = v.const(0.0)
    for k in range(_NEAR_TERMS, 0, -1):
        series = (1.0 / (a + float(k)) - series) * (x * (1.0 / k))
    rest = expm1(v, power)
    return v.fma(a * series, rest + 1.0, -rest)


def incomplete_gamma(upper: bool) -> Callable[[Any, Value, Value], Value]:
    """P(a, x), or Q = 1 - P: Temme's uniform expansion for large a around x = a, elsewhere the
    series of P below a + 1 and Legendre's continued fraction of Q above."""

    def impl(v: Any, a: Value, x: Value) -> Value:
        eta, gap = _eta(v, a, x)
        density = _density(v, a, x, gap)
        bend = at_least(v, a + 1.0, 2.0)
        if upper:
            bend = v.select(a < 1.0, v.const(_NEAR), bend)
        below = x < bend
        inner = v.select(below, x, v.const(0.0))
        series = v.const(1.0)
        for k in range(_TERMS, 0, -1):
            series = v.fma(series, inner / (a + float(k)), 1.0)
        outer = v.select(below, a + 2.0, at_most(v, x, 1e300))
        fraction = outer + (2.0 * _FRACTIONS + 1.0) - a
        for k in range(_FRACTIONS, 0, -1):
            fraction = (outer + (2.0 * k - 1.0) - a) - (float(k) - a) * float(k) / fraction
        p, q = density * series, density * a / fraction
        if upper:
            small = _small_q(v, at_most(v, a, 1.0), at_most(v, x, _NEAR))
            y = v.select(below, v.select(a < 1.0, small, 1.0 - p), q)
        else:
            y = v.select(below, p, 1.0 - q)
        uniform = (a > _LARGE) & (v.abs(eta) < 1.0)
        y = v.select(uniform, _uniform(v, at_least(v, a, _LARGE), eta, gap, upper), y)
        ends = (1.0, 0.0) if upper else (0.0, 1.0)
        y = v.select(x == 0.0, v.const(ends[0]), v.select(x == INF, v.const(ends[1]), y))
        y = v.select((a == 0.0) & (x > 0.0), v.const(ends[1]), y)
        y = v.select((a == INF) & (x < INF), v.const(ends[0]), y)
        bad = (a < 0.0) | (x < 0.0) | ((a == 0.0) & (x == 0.0)) | ((a == INF) & (x == INF))
        return v.select(bad, v.const(NAN), v.select(a == a, v.select(x == x, y, x), a))

    return impl


@dataclass(frozen=True)
class _Dual:
    """A value and its slope by a."""

    value: Value
    slope: Value

    def __add__(self, other: _Dual | float) -> _Dual:
        if isinstance(other, _Dual):
            return _Dual(self.value + other.value, self.slope + other.slope)
        return _Dual(self.value + other, self.slope)

    def __mul__(self, other: _Dual) -> _Dual:
        return _Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    def __truediv__(self, other: _Dual) -> _Dual:
        quotient = self.value / other.value
        return _Dual(quotient, (self.slope - quotient * other.slope) / other.value)


def _dual_poly(x: _Dual, coefficients: Sequence[float | _Dual], zero: Value) -> _Dual:
    total = _Dual(zero, zero)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _uniform_slope(v: Any, a: Value, eta: Value, gap: Value, mu: Value) -> Value:
    """Of Temme's expansion: P = erfc(-eta sqrt(a/2)) / 2 - exp(-a gap) T(eta, 1/a) / sqrt(2 pi a),
    where the slope of gap is -mu / a."""
    zero, one = v.const(0.0), v.const(1.0)
    ratio = v.select(mu == 0.0, one, mu / v.select(mu == 0.0, one, eta))
    inverse = 1.0 / a
    bounded = at_least(v, at_most(v, eta, 1.0), -1.0)
    place = _Dual(bounded, -(ratio * inverse))
    rows = [_dual_poly(place, row, zero) for row in _TEMME]
    total = _dual_poly(_Dual(inverse, -(inverse * inverse)), rows, zero)
    # exp(-a gap) has the slope mu - gap, 1 / sqrt(a) that of -1 / (2 a)
    size = exp(v, -(a * gap)) / v.sqrt(a * (2 * math.pi))
    rest = total.slope + total.value * ((mu - gap) - 0.5 * inverse)
    # The slope of eta sqrt(a): eta / (2 sqrt(a)) - ratio / sqrt(a)
    return size * ((0.5 * eta - ratio) - rest)


def gammainc_slope(v: Any, a: Value, x: Value) -> Value:
    """The derivative of P(a, x) by a: of the same series, fraction and expansion."""
    mu = (x - a) / a
    eta, gap = _eta(v, a, x)
    zero, one = v.const(0.0), v.const(1.0)
    density = _density(v, a, x, gap)
    below = x < v.select(a < 1.0, v.const(_NEAR), a + 1.0)
    growth = log(v, x) - digamma(v, a + 1.0)
    inner = v.select(below, x, zero)
    series = _Dual(one, zero)
    for k in range(_TERMS, 0, -1):
        step = inner / (a + float(k))
        series = series * _Dual(step, -(step / (a + float(k)))) + 1.0
    p = density * (series.slope + series.value * growth)
    outer = v.select(below, a + 2.0, at_most(v, x, 1e300))
    fraction = _Dual(outer + (2.0 * _FRACTIONS + 1.0) - a, -one)
    for k in range(_FRACTIONS, 0, -1):
        top = _Dual((float(k) - a) * float(-k), v.const(float(k)))
        fraction = _Dual(outer + (2.0 * k - 1.0) - a, -one) + top / fraction
    q = _Dual(a, one) / fraction
    y = v.select(below, p, -(density * (q.slope + q.value * growth)))
    uniform = (a > _LARGE) & (v.abs(eta) < 1.0)
    y = v.select(uniform, _uniform_slope(v, at_least(v, a, _LARGE), eta, gap, mu), y)
    y = v.select((x == 0.0) | (x == INF) | (a == INF), zero, y)
    bad = (a < 0.0) | (x < 0.0) | (a != a) | (x != x) | ((a == 0.0) & (x == 0.0))
    return v.select(bad, v.const(NAN), y)
