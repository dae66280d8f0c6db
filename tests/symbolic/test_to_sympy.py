"""Programs to expressions, and back."""

import numpy as np
import pytest
import sympy as sp

import graphc as gc
from graphc.errors import SymbolicError
from graphc.ir import build
from graphc.ir.ops import OPS
from graphc.symbolic import from_sympy, latex, to_sympy

x, y = sp.symbols("x y")
ROUND_TRIPS = [
    sp.log(x) + x * y - sp.sin(y), x**3 / y, x / 3 + sp.pi * y, sp.exp(-x) * sp.tanh(y),
    sp.sqrt(x) / 2, sp.atan2(x, y), sp.Max(x, y) - sp.Min(x, y), sp.Abs(x) * sp.sign(y),
    sp.Piecewise((x, x > y), (y**2, True)), 1 / (1 + sp.exp(-x)) + 0 * y, sp.erf(x) - y,
    sp.asin(x) + sp.acosh(y), sp.floor(x) + sp.ceiling(y), x**y, sp.Rational(3, 7) * x - y / 8,
]  # fmt: skip


@pytest.mark.parametrize("e", ROUND_TRIPS, ids=str)
def test_round_trip(e):
    assert to_sympy(from_sympy(e, [x, y])) == e
    assert to_sympy(from_sympy(e, [x, y]), x, y) == e


def test_parameters_keep_their_names():
    def growth(rate, time):
        return np.exp(rate * time) / (1 + rate)

    rate, time = sp.symbols("rate time", real=True)
    assert to_sympy(growth) == sp.exp(rate * time) / (1 + rate)
    assert to_sympy(gc.compile(growth), x, y) == sp.exp(x * y) / (1 + x)


def test_derivatives():
    def g(x, y):
        return np.log(x) + x * y - np.sin(y)

    assert to_sympy(gc.grad(g), x, y) == y + 1 / x
    assert to_sympy(gc.grad(g, (0, 1)), x, y) == (y + 1 / x, x - sp.cos(y))
    assert to_sympy(gc.grad(gc.grad(g, 1), 1), x, y) == sp.sin(y)
    found = to_sympy(gc.hessian(lambda v: g(v[0], v[1])), [x, y])
    assert found == sp.Matrix([[-1 / x**2, 1], [1, sp.sin(y)]])


def test_small_arrays_are_written_out():
    A, v = np.ones((2, 2)), np.ones(2)
    a = [[sp.Symbol(f"A_{i}_{j}", real=True) for j in (0, 1)] for i in (0, 1)]
    b = [sp.Symbol(f"v_{i}", real=True) for i in (0, 1)]
    product = [a[i][0] * b[0] + a[i][1] * b[1] for i in (0, 1)]

    def f(A, v):
        return (A @ v).sum()

    assert to_sympy(f, A, v) == sp.expand(sum(product))
    assert to_sympy(lambda A, v: A @ v, A, v) == sp.Matrix(product)
    assert to_sympy(lambda v: v[::-1] * np.arange(2), v) == sp.Matrix([0, b[0]])
    found = to_sympy(lambda p: p["k"] * np.prod(p["v"]), {"k": 1.0, "v": v})
    assert str(found) == "p_k*p_v_0*p_v_1"
    assert to_sympy(lambda v: v.mean() ** 2, [x, y]) == ((x + y) / 2) ** 2


@pytest.mark.parametrize(
    "name", sorted(n for n, r in OPS.items() if r.kind == "elementwise" and r.formula)
)
def test_every_formula_of_the_table_is_understood(name):
    from graphc.symbolic.export import _applied

    row = OPS[name]
    values = [0.6, 0.3, 0.9][: row.arity]
    if name == "cast":
        pytest.skip("a conversion, not a formula")
    if name in ("where",) or name.startswith("logical"):
        values = [True, *values[1:]] if name == "where" else [True, False][: row.arity]
    values = {"arccosh": [1.6], "zeta": [2.0, 0.3]}.get(name, values)
    made = _applied(name)(*(sp.sympify(v) for v in values))
    node = build.elementwise(name, *(build.const(v) for v in values))
    expected = row.evaluate(node, {}, *(np.asarray(v) for v in values))
    found = bool(made) if expected.dtype == bool else float(made)
    assert found == pytest.approx(expected.item(), rel=1e-12)


def test_constants_are_what_they_round():
    found = to_sympy(lambda x: x * 0.1 + np.pi - np.sqrt(2) * 1.5 + 0.1234567890123)
    expected = sp.Symbol("x", real=True) / 10 + sp.pi - 3 * sp.sqrt(2) / 2
    assert float((found - expected).evalf(20)) == pytest.approx(0.1234567890123, rel=1e-12)
    assert to_sympy(lambda x: x / 3 + 0.25) == sp.Symbol("x", real=True) / 3 + sp.Rational(1, 4)


def test_custom_operations():
    swish = gc.elementwise("swish", "x/(1+exp(-x))")
    assert to_sympy(swish, x) == x / (1 + sp.exp(-x))
    difference = to_sympy(gc.grad(swish), x) - sp.diff(x / (1 + sp.exp(-x)), x)
    assert sp.simplify(difference) == 0


def test_latex():
    def g(x1, x2):
        return np.log(x1) + x1 * x2

    assert latex(g) == (r"g\left(x_{1}, x_{2}\right) = x_{1} x_{2} + \log{\left(x_{1} \right)}")
    assert latex(gc.grad(g, 1)) == r"\nabla_{x_{2}} g\left(x_{1}, x_{2}\right) = x_{1}"
    assert r"\nabla g\left(x_{1}, x_{2}\right) = \left[\begin{matrix}" in latex(gc.grad(g, (0, 1)))
    assert latex(x / y) == r"\frac{x}{y}"
    assert latex(lambda v: np.sum(v**2), np.ones(2)) == r"f\left(v\right) = v_{0}^{2} + v_{1}^{2}"


@pytest.mark.parametrize(
    "f, args, message",
    [
        (lambda x: np.sort(np.stack([x, -x])), (x,), "argsort"),
        (lambda v: np.argmax(v), (np.ones(3),), "argmax"),
        (lambda A: np.linalg.inv(A), (np.eye(2),), "has no formula"),
        (lambda v: v.sum(), (np.ones(5000),), "writes out at most 4096"),
        (lambda *a: a[0], (), "names no parameters"),
    ],
    ids=["sort", "argmax", "inv", "large", "names"],
)
def test_errors(f, args, message):
    with pytest.raises(SymbolicError) as caught:
        to_sympy(f, *args)
    assert message in str(caught.value) and len(str(caught.value).splitlines()) <= 8


def counted(s, x):
    return s[0] + 1, s[1] * x


def steps(carry, x):
    return carry * x + 1, carry + x


def power(x):
    return gc.fori_loop(0, 3, lambda i, s: s * x + i, 1.0)


FACTORS = np.arange(1.0, 4)
CONTROL = {
    "Piecewise((x**2, x > 0), (-x, True))": lambda x: gc.cond(
        x > 0, lambda x: x**2, lambda x: -x, x
    ),
    "x*(x**2 + 1) + 2": power,
    "x**3": lambda x: gc.while_loop(lambda s: s[0] < 3, lambda s: counted(s, x), (0, 1.0))[1],
    "4*x + 10": lambda x: gc.scan(steps, x, FACTORS)[1].sum(),
    "6*x + 4": lambda x: gc.scan(steps, x, FACTORS, reverse=True)[1][0],
    "x": lambda x: gc.scan(steps, x, np.zeros(0))[1].sum() + x,
    "3*x**2 + 1": gc.grad(power),
    "Piecewise((x, x <= 5), (0, True))": lambda x: np.where(
        np.isnan(x) | (np.isfinite(x) & ~(x > 5)), x, 0.0
    ),
}


@pytest.mark.parametrize("expected", CONTROL)
def test_choices_loops_and_logic(expected):
    assert str(to_sympy(CONTROL[expected], 0.5)) == expected


def test_hypot_is_a_root():
    assert latex(lambda x, y: np.hypot(x, y)) == r"f\left(x, y\right) = \sqrt{x^{2} + y^{2}}"


@pytest.mark.parametrize("start", [lambda x: x, lambda x: 0 * x], ids=["argument", "endless"])
def test_loops_of_unknown_length_have_no_expression(start):
    with pytest.raises(SymbolicError, match="steps"):
        to_sympy(lambda x: gc.while_loop(lambda s: s < 9, lambda s: s * x, start(x)), 3.0)
