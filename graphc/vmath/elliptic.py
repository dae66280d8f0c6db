"""Complete elliptic integrals of the parameter m: the arithmetic-geometric mean, and Cody's (1965)
expansions in log(1 - m) near m = 1."""

from __future__ import annotations

import math
from typing import Any

from graphc.vmath.arithmetic import NAN, at_least, at_most, poly
from graphc.vmath.logarithms import log
from graphc.vmath.values import Value

_NEAR = 0.1  # values of p = 1 - m for the expansions
_MEANS = 5
# K = log(16 / p) K_LOG - p K_REST and E = E_REST + log(16 / p) p E_LOG, in p (of E_REST and the
# others alike from 0)
_K_LOG = (
    0.5, 0.1250000000000097, 0.07031249999682172, 0.048828125403798515, 0.037384007205217035,
    0.030282025298351965, 0.025423105008519076, 0.022232670220866488, 0.016895604797353355,
    0.027496392124492508,
)  # fmt: skip
_K_REST = (
    0.25, 0.1640624999999993, 0.12044270833361131, 0.09488423661056601, 0.07820206030303334,
    0.06648233840458571, 0.057810906668290495, 0.051044774809874086, 0.0467972218536879,
    0.0346493408373574, 0.06426577588728637,
)  # fmt: skip
_E_LOG = (
    0.25, 0.09375000000000927, 0.05859374999696036, 0.042724609761174114, 0.033645605020505655,
    0.027758561150629156, 0.02360657734469203, 0.02084858917935437, 0.01592945359632569,
    0.026179821556049605,
)  # fmt: skip
_E_REST = (
    1.0, -0.2500000000000272, -0.20312499999107309, -0.14062500113416965, -0.10691317567548192,
    -0.08614618563665362, -0.07204567198342252, -0.06281717631179598, -0.04765939120787799,
    -0.07733359367365843,
)  # fmt: skip


def _by_means(v: Any, p: Value) -> tuple[Value, Value]:
    """(K, D = (K - E) / m) for p in [1/10, 2]. Of the differences c of the means the sum of
    2**(n - 1) c**2 is 1 - E / K; divided by m, no term cancels."""
    m, b = 1.0 - p, v.sqrt(p)
    a, b = (b + 1.0) * 0.5, v.sqrt(b)
    part = m / (a * a * 16.0)
    total, weight = part + 0.5, 1.0
    for _ in range(_MEANS - 1):
        a, b = (a + b) * 0.5, v.sqrt(a * b)
        weight *= 2.0
        part = part * part * m / (a * a * 16.0)
        total = total + part * weight
    k = (math.pi / 2) / a
    return k, k * total


def _both(v: Any, p: Value) -> tuple[Value, Value, Value]:
    """(K, E, D) for p in (0, 2]."""
    k, d = _by_means(v, at_least(v, p, _NEAR))
    inner = at_most(v, p, _NEAR)
    logarithm = 2.772588722239781 - log(v, inner)
    k_near = logarithm * poly(v, inner, _K_LOG) - inner * poly(v, inner, _K_REST)
    e_near = v.fma(logarithm * inner, poly(v, inner, _E_LOG), poly(v, inner, _E_REST))
    near, m = p < _NEAR, 1.0 - p
    e = v.select(near, e_near, k - m * d)
    d = v.select(near, (k_near - e_near) / (1.0 - inner), d)
    return v.select(near, k_near, k), e, d


def _of_parameter(which: str):
    def impl(v: Any, m: Value) -> Value:
        p = 1.0 - m
        big = p > 2.0  # K(m) = K(1 - 1/p) / sqrt(p), E(m) = sqrt(p) E(1 - 1/p)
        k, e, d = _both(v, v.select(big, 1.0 / p, p))
        root = v.sqrt(v.select(big, p, v.const(1.0)))
        k, e = k / root, e * root
        safe = v.select(big, p - 1.0, v.const(1.0))
        y = {"k": k, "e": e, "d": v.select(big, e / safe - k / safe, d)}[which]
        ends = {"k": (math.inf, 0.0), "e": (1.0, math.inf), "d": (math.inf, 0.0)}[which]
        y = v.select(p == 0.0, v.const(ends[0]), v.select(p == math.inf, v.const(ends[1]), y))
        return v.select(p < 0.0, v.const(NAN), y)

    return impl


ellipk, ellipe, ellipd = (_of_parameter(which) for which in "ked")
