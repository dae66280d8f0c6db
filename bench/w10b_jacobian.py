"""W10b: Jacobian of tanh(A x + b), R^20 -> R^200, float64, one call."""

from __future__ import annotations

import math

import numpy as np

from bench.core import Case, Workload
from bench.derivative_matrices import case
from bench.limits import Work

INPUTS, OUTPUTS = 20, 200
_rng = np.random.default_rng(10)
A = _rng.standard_normal((OUTPUTS, INPUTS)) / math.sqrt(INPUTS)
B = _rng.standard_normal(OUTPUTS)


def make_layer(np):
    """The function as the users of a NumPy-like namespace write it."""
    a, b = A, B
    if np.__name__ == "torch":
        a, b = np.from_numpy(A), np.from_numpy(B)
    elif np.__name__ == "casadi":
        a, b = np.DM(A), np.DM(B)
    return lambda x: np.tanh(a @ x + b)


def by_hand(x):
    return A * (1 - np.tanh(A @ x + B) ** 2)[:, None]


def in_numba():
    import numba

    @numba.njit(error_model="numpy", fastmath={"reassoc", "contract"})
    def fill(a, b, x, out):
        for i in range(len(b)):
            row, total = a[i], b[i]
            for j in range(len(x)):
                total += row[j] * x[j]
            slope = 1 - math.tanh(total) ** 2
            for j in range(len(x)):
                out[i, j] = row[j] * slope

    return (lambda x, out: fill(A, B, x, out)), (OUTPUTS, INPUTS)


def make() -> Case:
    points = np.random.default_rng(11).standard_normal((3, INPUTS))
    return case("jacobian", make_layer, list(points), by_hand, in_numba)


WORKLOAD = Workload(
    "W10b",
    "Jacobian of tanh(A x + b), 20 -> 200, float64, one call",
    make,
    Work(0, 2 * 8 * 4000, double=True),
)
