"""The derivative of f(x1, x2) = ln x1 + x1 x2 - sin x2 at (2, 5), three ways.

Run: python examples/symbolic.py
"""

import numpy as np
import sympy

import graphc as gc


def f(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


def main():
    at = 2.0, 5.0
    value, reverse = gc.value_and_grad(f, argnums=(0, 1))(*at)
    forward = [gc.jvp(f, argnums=k)(*at, 1.0)[1] for k in (0, 1)]

    x1, x2 = sympy.symbols("x1 x2")
    formulas = gc.symbolic.to_sympy(gc.grad(f, argnums=(0, 1)), x1, x2)
    symbolic = [formula.subs({x1: at[0], x2: at[1]}).evalf() for formula in formulas]

    # And back: SymPy's expression as a function that compiles.
    again = gc.symbolic.from_sympy(gc.symbolic.to_sympy(f, x1, x2))
    print(gc.symbolic.latex(f))
    print(gc.symbolic.latex(gc.grad(f, argnums=(0, 1))))
    print(f"f(2, 5) = {value:.3f}, as an expression {gc.compile(again)(*at):.3f}")
    for name, slopes in (("reverse", reverse), ("forward", forward), ("symbolic", symbolic)):
        print(f"{name:<9}{slopes[0]:.3f} {slopes[1]:.3f}")
    return float(value), [[float(s) for s in way] for way in (reverse, forward, symbolic)]


if __name__ == "__main__":
    main()
