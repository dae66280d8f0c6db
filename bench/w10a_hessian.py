"""W10a: Hessian of the 50-dimensional Rosenbrock function, float64, one call.

2500 numbers, all but 148 of them zero: who sees the structure wins.
"""

from __future__ import annotations

import numpy as np

from bench.core import Case, Workload
from bench.derivative_matrices import case
from bench.limits import Work

SIZE = 50


def make_rosenbrock(np):
    """The function as the users of a NumPy-like namespace write it."""

    def rosenbrock(x):
        terms = 100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2
        return terms.sum() if hasattr(terms, "sum") else np.sum1(terms)  # CasADi's name

    return rosenbrock


def by_hand(x):
    matrix = np.zeros((len(x), len(x)))
    inner = np.arange(len(x) - 1)
    matrix[inner, inner] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    matrix[inner + 1, inner + 1] += 200
    matrix[inner, inner + 1] = matrix[inner + 1, inner] = -400 * x[:-1]
    return matrix


def in_numba():
    import numba

    @numba.njit(error_model="numpy")
    def fill(x, out):
        n = len(x)
        out[:] = 0
        for i in range(n - 1):
            out[i, i] += 1200 * x[i] * x[i] - 400 * x[i + 1] + 2
            out[i + 1, i + 1] = 200
            out[i, i + 1] = out[i + 1, i] = -400 * x[i]

    return fill, (SIZE, SIZE)


def make() -> Case:
    points = np.random.default_rng(10).uniform(-1.5, 1.5, (3, SIZE))
    return case("hessian", make_rosenbrock, list(points), by_hand, in_numba)


WORKLOAD = Workload(
    "W10a",
    "Hessian of the 50-dim Rosenbrock function, float64, one call",
    make,
    Work(0, 8 * 2500, double=True),
)
