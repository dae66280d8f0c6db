"""log Gamma and its derivatives."""

from __future__ import annotations

from typing import Any

from graphc.vmath.arithmetic import INF, NAN, poly
from graphc.vmath.logarithms import log, log1p
from graphc.vmath.powers import pow
from graphc.vmath.values import Value

#: lgamma(2 + y) / y on [-1/2, 1/2].
_LGAMMA = (
    0.42278433509846713, 0.3224670334241132, -0.06735230105319814, 0.02058080842778457,
    -0.0073855510286681535, 0.002890510330738737, -0.0011927539120010226, 0.0005096695248853096,
    -0.00022315475074520367, 9.945750909889392e-05, -4.4926351103833334e-05,
    2.050726741605779e-05, -9.438458716242811e-06, 4.374374916915131e-06,
    -2.0449201467015115e-06, 9.578663334114758e-07, -4.303558760359961e-07,
    2.0304806751615227e-07, -1.3412819758517287e-07, 6.379047507619774e-08,
)  # fmt: skip
#: Stirling's series in 1 / x**2.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_STEPS = 7  # unit steps between the polynomial and the asymptotic series


def _lowered(v: Any, x: Value, low: float) -> tuple[Value, list[tuple[Value, Value]]]:
    """``x`` moved into [low, low + 1) by unit steps down, and each step: (was taken, its place).
    Every subtraction is exact."""
    steps, moved = [], x
    for k in range(1, _STEPS + 1):
        taken = x >= low + k
        place = x - float(k)
        moved = v.select(taken, place, moved)
        steps.append((taken, place))
    return moved, steps


def gammaln(v: Any, x: Value) -> Value:
    """log Gamma of x > 0: a polynomial around 2, reached by unit steps; Stirling's series above."""
    moved, steps = _lowered(v, x, 1.5)
    product = v.const(1.0)
    for taken, place in steps:
        product = product * v.select(taken, place, v.const(1.0))
    tiny, low = x < 0.5, x < 1.5
    y = v.select(tiny, x, v.select(low, x - 1.0, moved - 2.0))
    near = y * poly(v, y, _LGAMMA)
    # Below 3/2: log Gamma(1 + y) = log Gamma(2 + y) - log(1 + y), and once more below 1/2.
    big = x >= 8.5
    logarithm = log(v, v.select(big | tiny, x, product))
    down = v.select(low, log1p(v, y), v.const(0.0))
    small = v.select(tiny, (near - down) - logarithm, v.select(low, near - down, near + logarithm))
    inv = 1.0 / x
    tail = inv * poly(v, inv * inv, _STIRLING)
    large = v.fma(x - 0.5, logarithm - 1.0, 0.4189385332046727418) + tail
    y = v.select(big, large, small)
    y = v.select(x == 0.0, v.const(INF), y)
    y = v.select(x < INF, y, x)
    return v.select(x < 0.0, v.const(NAN), y)


def gammaln1p(v: Any, a: Value) -> Value:
    """log Gamma(1 + a), 0 <= a <= 1, of the digits of a."""
    low = a < 0.5
    y = v.select(low, a, a - 1.0)
    near = y * poly(v, y, _LGAMMA)
    return v.select(low, near - log1p(v, a), near)


_PSI_ROOT = (1.4616321449683622, 9.5499954299656977e-17)
#: digamma(x) / (x - root) on [1, 2], in x - 3/2.
_PSI = (
    0.9510558760318328, -0.4236274212814606, 0.24054248424078697, -0.14840492305388092,
    0.09498872445289039, -0.06192213327548831, 0.040760833940846085, -0.026975796659787055,
    0.017907248317313294, -0.011908220105959716, 0.007927021796868154, -0.005279937255532708,
    0.003518106563802472, -0.0023454947397380833, 0.0015633696313653504,
    -0.0010364584817312839, 0.0006909255761282986, -0.00048595039220036254,
    0.00032395945401345196, -0.00014480643368061614, 9.653646261410062e-05,
    -0.0001782188548855923, 0.00011881232908510335,
)  # fmt: skip
_PSI_TAIL = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def digamma(v: Any, x: Value) -> Value:
    """Derivative of log Gamma for x > 0: a polynomial around its root, reached by unit steps; the
    asymptotic series above."""
    moved, steps = _lowered(v, x, 1.0)
    total = v.const(0.0)
    for taken, place in steps:
        total = total + v.select(taken, 1.0 / place, v.const(0.0))
    below = x < 1.0
    at = v.select(below, x + 1.0, moved)
    near = ((at - _PSI_ROOT[0]) - _PSI_ROOT[1]) * poly(v, at - 1.5, _PSI)
    inv = 1.0 / x
    small = near + v.select(below, -inv, total)
    tail = inv * inv * poly(v, inv * inv, _PSI_TAIL)
    large = (log(v, x) - 0.5 * inv) - tail
    y = v.select(x >= 8.0, large, small)
    y = v.select(x < INF, y, x)
    return v.select(x < 0.0, v.const(NAN), y)


#: Coefficients of the Euler-Maclaurin sum: B_2j / (2j)!.
_EULER = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
    1 / 74724249600, -3617 / 10670622842880000, 43867 / 5109094217170944000,
    -174611 / 802857662698291200000,
)  # fmt: skip
_ZETA_TERMS = 10


def zeta(v: Any, s: Value, q: Value) -> Value:
    """Hurwitz zeta for s > 1, q > 0: ten terms, then the Euler-Maclaurin sum of the rest."""
    total = v.const(0.0)
    for k in range(_ZETA_TERMS):
        total = total + pow(v, q + float(k), -s)
    a = q + float(_ZETA_TERMS)
    inv = 1.0 / a
    last = pow(v, a, -s)
    rest = v.fma(last, 0.5, last * a / (s - 1.0))
    factor = s * last * inv
    for j, coefficient in enumerate(_EULER):
        rest = v.fma(factor, coefficient, rest)
        factor = factor * inv * inv * (s + (2.0 * j + 1.0)) * (s + (2.0 * j + 2.0))
    y = total + rest
    y = v.select((q == 0.0) | (s == 1.0), v.const(INF), y)
    y = v.select(s < INF, y, v.select(q > 1.0, v.const(0.0), v.const(INF)))
    y = v.select((s == INF) & (q == 1.0), v.const(1.0), y)
    y = v.select(q < INF, y, v.select(q == q, v.const(0.0), q))
    return v.select((q < 0.0) | (s < 1.0) | (s != s), v.const(NAN), y)
