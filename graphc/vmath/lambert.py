"""The principal branch of Lambert's W."""

from __future__ import annotations

from typing import Any

from graphc.vmath.arithmetic import INF, at_least, at_most, poly_over, two_product
from graphc.vmath.exponentials import exp
from graphc.vmath.logarithms import log1p
from graphc.vmath.values import Value

_E = (2.718281828459045, 1.4456468917292502e-16)
# W in p = sqrt(2 (e x + 1)), scaled to [-1, 1]: up to 0.3, and a start up to 2.75
_W_BRANCH = (
    -0.8570215796262055, 0.1364009152489718, -0.006165146345820178, 0.00038306339556111577,
    -2.7067639467369045e-05, 2.0509229227949333e-06, -1.6236659995026907e-07,
    1.3247157032691068e-08, -1.1047970680515743e-09, 9.366896534684623e-11,
    -8.048222955657932e-12, 7.1699248813609e-13, -6.295832182038025e-14,
)  # fmt: skip
_W_START = (
    -0.020535827704356406, 0.7248380079940062, -0.16847877140844103, 0.053727194291022864,
    -0.01948606000341173, 0.007580140638304643, -0.003069032938761016, 0.0012821786698517816,
    -0.0005837157870824103, 0.00026036464480423227, -6.4300639410276e-05, 2.381109210293266e-05,
    -4.7537033760273307e-05, 2.305533369801006e-05,
)  # fmt: skip


def lambertw(v: Any, x: Value) -> Value:
    """w with w exp(w) = x >= -1/e: a polynomial in the distance from the branch point, elsewhere
    two of Halley's steps (Corless et al. 1996) from such a polynomial, x - x**2 near 0, or
    Winitzki's (2003) approximation beyond 1."""
    bounded = at_most(v, x, 1.0)
    high, low = two_product(v, bounded, v.const(_E[0]))
    above = (high + 1.0) + (low + bounded * _E[1])
    above = v.select(above > -1e-16, at_least(v, above, 0.0), above)  # the double nearest -1/e
    p = v.sqrt(above + above)
    branch = poly_over(v, p, 0.0, 0.3, _W_BRANCH)
    middle = poly_over(v, p, 0.0, 2.75, _W_START)
    logarithm = log1p(v, at_least(v, x, 0.0))
    far = logarithm * (1.0 - log1p(v, logarithm) / (logarithm + 2.0))
    tiny = v.abs(x) < 0.02
    near = x * (1.0 - x * (1.0 - x * 1.5))
    w = v.select(x > 1.0, far, v.select(tiny, near, v.select(p > 0.25, middle, v.const(0.0))))
    for _ in range(2):
        rest, one = w - x * exp(v, -w), w + 1.0
        w = w - rest / (one - (w + 2.0) * rest / (one + one))
    y = v.select(p >= 0.3, w, branch)
    y = v.select(x == 0.0, x, y)
    return v.select(x < INF, y, x)
