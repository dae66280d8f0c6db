"""Operations from formulas: values, derivatives of every kind, generated code."""

import subprocess
import sys

import numpy as np
import pytest
import sympy as sp
from generated import assert_same, program_of, python_run

import graphc as gc
from graphc import passes
from graphc.errors import DTypeError, SymbolicError

X = np.array([-1000.0, -3.0, -0.5, 0.0, 0.7, 2.0, 1000.0])


def numeric(f, x, eps=1e-6):
    return (f(x + eps) - f(x - eps)) / (2 * eps)


FORMULAS = {
    "swish": "x/(1+exp(-x))",
    "gelu": "0.5*x*(1 + tanh(sqrt(2/pi)*(x + 0.044715*x**3)))",
    "mish": "x*tanh(log(1 + exp(x)))",
    "elu": "where(x > 0, x, exp(minimum(x, 0)) - 1)",
    "huber": "where(abs(x) < 1, x*x/2, abs(x) - 0.5)",
    "bump": "exp(-x**2)*cos(3*x)",
    "ramp": "heaviside(x, 0.5)*x - floor(x)",
    "softsign": "x/(1 + Abs(x))",
}


@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_derivatives(name):
    f = gc.elementwise(name, FORMULAS[name])
    x = np.array([-2.6, -0.4, 0.3, 1.7])
    expected = gc.symbolic.from_sympy(f.expression, [sp.Symbol("x", real=True)])(x)
    np.testing.assert_allclose(f(x), expected, rtol=1e-13)
    np.testing.assert_allclose(gc.interpret(f)(x), expected, rtol=1e-13)
    first = gc.interpret(gc.elementwise_grad(f))
    np.testing.assert_allclose(first(x), numeric(f, x), rtol=1e-6, atol=1e-7)
    second = gc.interpret(gc.elementwise_grad(gc.elementwise_grad(f)))
    np.testing.assert_allclose(second(x), numeric(first, x), rtol=1e-6, atol=1e-7)
    third = gc.interpret(gc.elementwise_grad(gc.elementwise_grad(gc.elementwise_grad(f))))
    np.testing.assert_allclose(third(x), numeric(second, x), rtol=1e-5, atol=1e-6)
    forward = gc.interpret(gc.jvp(f))(x, np.ones(4))[1]
    np.testing.assert_allclose(forward, first(x), rtol=1e-12)


def test_extreme_arguments_stay_finite():
    swish = gc.elementwise("swish", "x/(1+exp(-x))")
    expected = np.where(X < -100, 0, X / (1 + np.exp(-np.maximum(X, -100))))
    np.testing.assert_allclose(swish(X), expected, rtol=1e-12)
    slope = gc.interpret(gc.elementwise_grad(swish))(X)
    curve = gc.interpret(gc.elementwise_grad(gc.elementwise_grad(swish)))(X)
    np.testing.assert_allclose(slope[[0, 3, 6]], [0, 0.5, 1], atol=1e-15)
    assert np.isfinite(slope).all() and np.isfinite(curve).all()
    softplus = gc.elementwise("sp", "log(1 + exp(x))")
    np.testing.assert_allclose(softplus(X)[[0, -1]], [0, 1000])
    np.testing.assert_allclose(gc.interpret(gc.elementwise_grad(softplus))(X)[[0, -1]], [0, 1])


def test_several_arguments_in_all_transforms():
    h = gc.elementwise("h", "x*y/(x+y)")
    assert h.args == ("x", "y") and h.derivatives == ("y**2/(x + y)**2", "x**2/(x + y)**2")
    a, b = np.array([1.0, 2.0, 3.0]), np.array([[0.5], [4.0]])
    np.testing.assert_allclose(h(a, b), a * b / (a + b))
    by_a, by_b = gc.interpret(gc.grad(lambda a, b: h(a, b).sum(), (0, 1)))(a, b)
    np.testing.assert_allclose(by_a, (b**2 / (a + b) ** 2).sum(0))
    np.testing.assert_allclose(by_b, (a**2 / (a + b) ** 2).sum(1, keepdims=True))
    found = gc.interpret(gc.vmap(gc.vmap(h, (0, None)), (None, 0)))(a, b[:, 0])
    np.testing.assert_allclose(found, h(a, b))
    per_pair = gc.vmap(gc.vmap(gc.grad(h, (0, 1)), (0, None)), (None, 0))
    np.testing.assert_allclose(
        gc.interpret(per_pair)(a, b[:, 0]), [b**2 / (a + b) ** 2, a**2 / (a + b) ** 2]
    )
    x, y = sp.symbols("x y")
    exact = sp.hessian(x * y / (x + y), (x, y)).subs({x: 1, y: 2})
    found = gc.interpret(gc.hessian(lambda v: h(v[0], v[1])))(np.array([1.0, 2.0]))
    np.testing.assert_allclose(found, np.array(exact, float))


def test_dtypes():
    f = gc.elementwise("f", "sin(x)/3 + y")
    for give, expected in (("float32", "float32"), ("int64", "float64"), ("bool", "float64")):
        a = np.ones(3, give)
        assert f(a, a).dtype == gc.interpret(f)(a, a).dtype == expected
    assert gc.interpret(f)(np.ones(3, np.float32), 2.0).dtype == np.float32
    assert isinstance(float(f(1.0, 2)), float)


def test_complex_values_are_refused():
    f = gc.elementwise("f", "x*x")
    for call in (f, gc.interpret(f)):
        with pytest.raises(DTypeError, match="f takes real values, not complex128"):
            call(np.ones(3, complex))


def test_gradients_at_kinks_and_singular_points():
    """Ties are shared, steps are flat, and a branch not taken does not leak."""
    larger = gc.elementwise("larger_of", "maximum(x, y)")
    assert gc.interpret(gc.grad(larger, (0, 1)))(2.0, 2.0) == (0.5, 0.5)
    assert gc.interpret(gc.grad(gc.elementwise("size", "abs(x)")))(0.0) == 0.0
    assert gc.interpret(gc.grad(gc.elementwise("stairs", "floor(x)*x")))(2.5) == 2.0
    safe = gc.elementwise("safe", "where(x > 0, x*log(x), 0)")
    slope = gc.interpret(gc.elementwise_grad(safe))(np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(slope, [0, 0, 1])
    gc.check_grads(gc.elementwise("c", "x*sin(y)/(1 + x*x)"), 0.3, 0.8)


def test_derivative_may_be_given():
    clipped = gc.elementwise("clipped", "exp(x)", derivative="minimum(exp(x), 10)")
    assert clipped.derivatives == ("minimum(exp(x), 10)",)
    found = gc.interpret(gc.elementwise_grad(clipped))(np.array([0.0, 5.0]))
    np.testing.assert_allclose(found, [1, 10])
    swapped = gc.elementwise("s", "a - b", ("0", "2*b"), args=("b", "a"))
    found = gc.interpret(gc.grad(swapped, (0, 1)))(3.0, 4.0)
    np.testing.assert_allclose(found, (0.0, 6.0))


def test_the_name_defined_again_leaves_the_first():
    x = np.arange(3.0)
    first = gc.elementwise("twice", "2*x")
    compiled = gc.interpret(first)
    np.testing.assert_allclose(compiled(x), 2 * x)
    second = gc.elementwise("twice", "2*x + 1")
    np.testing.assert_allclose(gc.interpret(second)(x), 2 * x + 1)
    np.testing.assert_allclose(compiled(x), 2 * x)
    one, two = (gc.compile(f).graph(x) for f in (first, second))
    from graphc.pipeline import _canonical_text
    from graphc.runtime import cache

    assert cache.key(_canonical_text(one)) != cache.key(_canonical_text(two))


def test_one_kernel_without_calls_of_other_libraries():
    swish = gc.elementwise("swish", "x/(1+exp(-x))")
    f = gc.value_and_grad(lambda x: np.sum(swish(2 * x) * 3))
    x = np.linspace(-3, 3, 40)
    graph = f.graph(x)
    program = program_of(passes.optimize(graph))
    assert len(program.kernels) == 1
    expected = swish(2 * x).sum() * 3
    assert_same(python_run(graph, [x], optimize=True)[:1], [np.asarray(expected)])


def test_native_code_is_vectorised():
    """The one native compile: no libm, vector instructions on the user's formula."""
    swish = gc.elementwise("swish", "x/(1+exp(-x))")
    f = gc.value_and_grad(lambda x: np.sum(swish(x)))
    x = np.linspace(-30, 30, 1001)
    report = gc.inspect(f, x)
    assert len(report.kernels) == 1
    text = report.llvm
    calls = {line.split("@")[1].split("(")[0] for line in text.splitlines() if " call " in line}
    assert all(name.startswith(("llvm.", "graphc_")) for name in calls), calls
    assert "x double> @llvm.fma" in text or "x double>" in text
    value, slope = f(x)
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(value, (x * s).sum(), rtol=1e-12)
    np.testing.assert_allclose(slope, s + x * s * (1 - s), rtol=1e-10, atol=1e-13)


def test_inspection():
    f = gc.elementwise("f", "a*x**2", doc="A parabola.")
    assert repr(f) == "<elementwise f(a, x) = a*x**2>" and f.__doc__ == "A parabola."
    assert f.derivatives == ("x**2", "2*a*x")
    assert f.formula == "a*x**2"
    assert gc.elementwise("g", sp.Symbol("t") ** 2).derivatives == ("2*t",)


@pytest.mark.parametrize(
    "formula, message",
    [
        ("x/(1+", "is not an expression"),
        ("2x", "2*x rather than 2x"),
        ("x^2", "has ^, which is not a power; write **"),
        ("__import__('os').system('true')", "calls __import__('os').system, which is not known"),
        ("x.real", "has 'x.real'"),
        ("bessel(x)", "calls bessel, which is not known"),
        ("lambda x: x", "it takes numbers, names"),
        ("atan2(x)", "atan2 with 1 argument"),
        ("3 + 4", "it has no argument"),
        ("'x'", "it takes numbers, names"),
    ],
)
def test_errors_of_formulas(formula, message):
    with pytest.raises(SymbolicError) as caught:
        gc.elementwise("f", formula)(1.0)
    text = str(caught.value)
    assert message in text.replace("\n", " ") and len(text.splitlines()) <= 8


def test_errors_of_definitions_and_calls():
    with pytest.raises(SymbolicError, match="y is not in args"):
        gc.elementwise("f", "x + y", args=("x",))
    with pytest.raises(SymbolicError, match="2 derivatives"):
        gc.elementwise("f", "x", ("1", "1"))
    with pytest.raises(TypeError, match=r"f takes 2 arguments \(x, y\), 1 given"):
        gc.elementwise("f", "x + y")(1.0)


def test_sympy_is_loaded_at_the_first_use():
    code = (
        "import sys, graphc as gc, numpy as np\n"
        "gc.interpret(lambda x: x * 2)(np.ones(3))\n"
        "swish = gc.elementwise('swish', 'x/(1+exp(-x))')\n"
        "print('sympy' in sys.modules, end=' ')\n"
        "swish(1.0)\n"
        "print('sympy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


def test_without_sympy_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['sympy'] = None\n"
        "import graphc as gc\n"
        "for use in (lambda: gc.elementwise('f', 'x*x')(1.0), lambda: gc.symbolic.from_sympy):\n"
        "    try: use()\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count('pip install "graphc[symbolic]"') == 2
