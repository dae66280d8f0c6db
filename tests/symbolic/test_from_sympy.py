"""Expressions to functions: against SymPy's own evaluation, on arrays and traced."""

import inspect

import mpmath
import numpy as np
import pytest
import sympy as sp

import graphc as gc
from graphc.errors import ShapeError, SymbolicError
from graphc.symbolic import from_sympy, supported

x, y, z = sp.symbols("x y z")
POINTS = [(0.3, 1.7), (1.9, 0.45), (2.6, 3.2)]
half = sp.Rational(1, 2)

EXPRESSIONS = [
    x + y - 3, 2 * x - y / 3, -x - y, x / 7 + sp.Rational(2, 3) * y, x * y / (x + y), -(x**2),
    x**3 / y**2, x**7, x**-1, x**half, x**-half, x ** sp.Rational(3, 2), x ** sp.Rational(5, 3),
    x**y, 2**x, x**-y, sp.pi * x + sp.E, sp.sqrt(2) * x, sp.exp(-x * y), sp.log(x * y),
    sp.sin(x) * sp.cos(y) + sp.tan(x / 4), sp.asin(x / 4) + sp.acos(y / 4) + sp.atan(x),
    sp.atan2(y, x), sp.sinh(x) - sp.cosh(y) * sp.tanh(x), sp.asinh(x) + sp.acosh(1 + y),
    sp.atanh(x / 4), sp.sec(x / 3) + sp.csc(y / 4) + sp.cot(x / 4), sp.sech(x) + sp.coth(y),
    sp.Abs(x - y), sp.sign(x - y) * x, sp.floor(3 * x) + sp.ceiling(y), sp.Mod(x, y),
    sp.Max(x, y, 1) + sp.Min(x, y), sp.Heaviside(x - 1) * y, sp.erf(x) + sp.erfc(y),
    sp.gamma(x), sp.gamma(-x), sp.loggamma(x + y), sp.factorial(x), sp.sinc(x),
    sp.digamma(x), sp.polygamma(2, x), sp.zeta(2, x), sp.beta(x, y), sp.erfinv(x / 4),
    sp.Piecewise((x, x > 1), (y**2, y > 2), (x * y, True)),
    sp.Piecewise((x, (x > y) & (x < 2) | sp.Eq(x, 5)), (0, True)), x**2 + 1e-3 * x,
    sp.Sum(x**z / z, (z, 1, 6)), sp.Product(x + z, (z, 1, 3)), sp.Derivative(sp.sin(x * y), x),
    (x + 1) ** 2 * (x + 1) ** half / (x + 1), 1 / (1 + sp.exp(-x)), sp.Float("0.1") * x,
]  # fmt: skip


@pytest.mark.parametrize("e", EXPRESSIONS, ids=[str(i) for i in range(len(EXPRESSIONS))])
def test_value_is_that_of_the_expression(e):
    f = from_sympy(e, [x, y])
    exact = e.doit()
    for at in POINTS:
        with mpmath.workdps(30):
            expected = float(exact.subs(dict(zip((x, y), map(sp.Rational, at), strict=True))).n(20))
        assert float(f(*at)) == pytest.approx(expected, rel=2e-13)
        assert float(gc.interpret(f)(*at)) == pytest.approx(expected, rel=2e-13)


@pytest.mark.parametrize(
    "e", [x**3 / y, sp.exp(-x * y) * sp.sin(x), sp.atan2(x, y), sp.loggamma(x * y), x**y,
          sp.erf(x) * sp.Max(x, y), sp.Piecewise((x**2, x < 1), (sp.log(x), True))],
    ids=str,
)  # fmt: skip
def test_gradient_is_sympys_derivative(e):
    slopes = gc.interpret(gc.grad(from_sympy(e, [x, y]), (0, 1)))
    for at in POINTS:
        expected = [float(e.diff(s).subs(dict(zip((x, y), at, strict=True))).n()) for s in (x, y)]
        np.testing.assert_allclose(slopes(*at), expected, rtol=1e-9)


def test_worked_example_in_all_three_forms():
    """f(x1, x2) = ln x1 + x1 x2 - sin x2 at (2, 5): 11.652, 5.5, 1.716."""
    x1, x2 = sp.symbols("x1 x2")
    f = from_sympy(sp.log(x1) + x1 * x2 - sp.sin(x2))
    value, reverse = gc.value_and_grad(f, (0, 1))(2.0, 5.0)
    forward = [gc.jvp(f, k)(2.0, 5.0, 1.0)[1] for k in (0, 1)]
    symbolic = [gc.symbolic.to_sympy(gc.grad(f, k)).subs({x1: 2, x2: 5}).n() for k in (0, 1)]
    assert round(float(value), 3) == 11.652
    for found in (reverse, forward, symbolic):
        assert [round(float(v), 3) for v in found] == [5.5, 1.716]
    assert gc.symbolic.to_sympy(f) == sp.log(x1) + x1 * x2 - sp.sin(x2)


def test_signature_and_keywords():
    f = from_sympy(sp.Symbol("x10") - sp.Symbol("x2") * sp.Symbol("a"), name="line")
    assert list(inspect.signature(f).parameters) == ["a", "x2", "x10"]
    assert f.__name__ == "line" and float(f(2.0, x10=1.0, x2=3.0)) == -5.0


def test_arrays_broadcast_and_keep_their_dtype():
    f = from_sympy(x**2 + sp.sin(y) / 3)
    a, b = np.linspace(0, 1, 3, dtype=np.float32)[:, None], np.ones(4, np.float32)
    expected = a**2 + np.sin(b) / 3
    for found in (f(a, b), gc.interpret(f)(a, b)):
        assert found.dtype == np.float32 and found.shape == (3, 4)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_constant_expression_has_the_shape_of_the_arguments():
    f = from_sympy(sp.Integer(3), [x])
    assert f(np.ones(4)).shape == gc.interpret(f)(np.ones(4)).shape == (4,)


def test_lists_matrices_and_vector_arguments():
    v = sp.symbols("v:3")
    f = from_sympy(sp.Matrix([[v[0], v[1] * x], [0, sp.cos(v[2])]]), [v, x])
    a = np.array([1.0, 2.0, 0.5])
    expected = [[1, 6], [0, np.cos(0.5)]]
    assert list(inspect.signature(f).parameters) == ["v", "x"]
    np.testing.assert_allclose(f(a, 3.0), expected)
    np.testing.assert_allclose(gc.interpret(f)(a, 3.0), expected)
    g = from_sympy([[x, 1], [2, y]])
    assert g(np.ones(5), 2.0).shape == gc.interpret(g)(np.ones(5), 2.0).shape == (2, 2, 5)
    with pytest.raises(ShapeError, match="stands for 3 symbols"):
        f(np.ones(2), 3.0)


def test_elements_of_matrices_and_indexed_arrays():
    A, B = sp.MatrixSymbol("A", 2, 2), sp.IndexedBase("B")
    f = from_sympy(A[0, 1] * B[2] + A[1, 0])
    assert list(inspect.signature(f).parameters) == ["A", "B"]
    found = gc.interpret(gc.grad(f, (0, 1)))(np.array([[1.0, 2.0], [3.0, 4.0]]), np.arange(3.0))
    np.testing.assert_allclose(found[0], [[0, 2], [1, 0]])
    np.testing.assert_allclose(found[1], [0, 0, 2])


def test_equal_parts_are_computed_once():
    shared = sp.exp(x * y)
    graph = gc.compile(from_sympy([shared + 1, shared * x, sp.sin(shared)])).graph(1.0, 2.0)
    assert sum(n.op == "exp" for n in graph.order) == 1
    deep = x
    for _ in range(150):
        deep = sp.sin(deep)
    value = 0.5
    for _ in range(150):
        value = np.sin(value)
    assert float(from_sympy(deep)(0.5)) == value


def test_rationals_are_divisions_and_small_powers_products():
    ops = [n.op for n in gc.compile(from_sympy(x / 3 + x**5)).graph(1.0).order]
    assert "pow" not in ops and ops.count("div") == 1 and ops.count("mul") == 3
    assert float(from_sympy(x / 3)(0.7)) == 0.7 / 3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: from_sympy(sp.besselj(0, x)), "besselj in besselj(0, x) has no numeric"),
        (lambda: from_sympy(sp.Function("g")(x)), "g in g(x) has no numeric"),
        (lambda: from_sympy(x + y, [x]), "the expression has y, not among the arguments (x)"),
        (lambda: from_sympy(sp.Sum(x, (z, 1, y))), "the range must have known ends"),
        (lambda: from_sympy(x, ["x"]), "args[0] is 'x': give a symbol"),
        (lambda: from_sympy(sp.I * x), "I (ImaginaryUnit)"),
    ],
)
def test_errors_name_what_is_not_supported(make, message):
    with pytest.raises(SymbolicError) as caught:
        make()
    assert message in str(caught.value) and len(str(caught.value).splitlines()) <= 8


def test_supported_names_are_those_of_sympy():
    assert {"atan2", "Piecewise", "loggamma", "Pow"} <= set(supported())
    assert all(hasattr(sp, name) for name in supported())


def test_text_is_parsed_and_never_evaluated():
    assert float(from_sympy("where(a > b, a**2, b)")(3.0, 2.0)) == 9.0
    with pytest.raises(SymbolicError, match="is not known"):
        from_sympy("__import__('os').getcwd()")
    assert float(from_sympy("x + 1", x)(1.0)) == 2.0
