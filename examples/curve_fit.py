"""Fit a sum of two decaying exponentials with SciPy's L-BFGS-B and graphc's gradient.

Run: python examples/curve_fit.py
"""

import numpy as np
from scipy.optimize import minimize

import graphc as gc


def model(p, t):
    """Amplitudes p[0], p[2] and rates exp(p[1]), exp(p[3]), which are positive whatever p is."""
    return p[0] * np.exp(-np.exp(p[1]) * t) + p[2] * np.exp(-np.exp(p[3]) * t)


def misfit(p, t, y):
    return np.sum((model(p, t) - y) ** 2)


def main():
    t = np.linspace(0, 5, 200)
    true = np.array([2.0, np.log(3.0), 1.0, np.log(0.4)])
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    y = model(true, t) + noise

    fun = gc.value_and_grad(misfit)
    start = np.array([1.0, 0.5, 1.0, -0.5])
    fit = minimize(fun, start, args=(t, y), jac=True, method="L-BFGS-B")
    a, b, c, d = fit.x
    print(f"y = {a:.2f} exp(-{np.exp(b):.2f} t) + {c:.2f} exp(-{np.exp(d):.2f} t)")
    print(f"{fit.nfev} evaluations, misfit {fit.fun:.4f}")
    return fit


if __name__ == "__main__":
    main()
