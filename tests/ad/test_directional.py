"""jvp, vjp, hvp, elementwise_grad as users call them: values, nesting, trees, errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sympy

import graphc as gc
from graphc.ad import transforms
from graphc.errors import GradientError

X, V = np.array([0.3, -0.8, 1.2]), np.array([1.0, 0.5, -2.0])


def interpreted(transform, *args):
    """``transform``, a derivative that gc offers, evaluated by NumPy."""
    return gc.interpret(transform)(*args)


# ------------------------------------------------------------------- perturbation confusion


def forward(fn):
    """The derivative of a function of one number, in forward mode."""
    return lambda x: transforms.jvp(fn)(x, 1.0)[1]


def reverse(fn):
    return transforms.grad(fn)


MODES = {"forward": forward, "reverse": reverse}
NESTINGS = list(itertools.product(MODES, MODES))


@pytest.mark.parametrize(("outer", "inner"), NESTINGS)
def test_inner_derivatives_do_not_see_outer_perturbations(outer, inner):
    outer, inner = MODES[outer], MODES[inner]

    def at(fn, x):
        return gc.interpret(fn)(x)

    # d/dx (x * d/dy (x + y)) = 1, not 2
    assert at(outer(lambda x: x * inner(lambda y: x + y)(1.0)), 1.0) == 1
    assert at(outer(lambda x: x * inner(lambda y: x + y)(x)), 3.0) == 1
    # d/dx (x * d/dy (x * y)) = d/dx x**2
    assert at(outer(lambda x: x * inner(lambda y: x * y)(2.0)), 3.0) == 6
    # d/dx [d/dy (x * y**3) at y = x] = d/dx 3x**3
    assert at(outer(lambda x: inner(lambda y: x * y**3)(x)), 2.0) == pytest.approx(36)
    # The same function inside itself: d/dx square(square'(x)) = d/dx 4x**2
    square = lambda x: x * x  # noqa: E731
    assert at(outer(lambda x: square(inner(square)(x))), 3.0) == 24


@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=3)), ids="-".join)
def test_third_derivatives_in_every_nesting(modes):
    """Against SymPy."""
    a, b, c = (MODES[m] for m in modes)
    s = sympy.Symbol("s")
    formula = sympy.sin(s) * sympy.exp(s / 2) / (1 + s**2) + sympy.tanh(s) ** 2
    expected = sympy.lambdify(s, sympy.diff(formula, s, 3), "math")

    def fn(x):
        return np.sin(x) * np.exp(x / 2) / (1 + x**2) + np.tanh(x) ** 2

    third = gc.interpret(a(b(c(fn))))
    for x in (-1.3, 0.2, 0.9):
        assert third(x) == pytest.approx(expected(x), rel=1e-12)


def test_a_tangent_that_depends_on_the_outer_variable():
    # d/dx of (change of y**2 at x along x**2) = d/dx 2x**3
    fn = lambda x: transforms.jvp(lambda y: y * y)(x, x * x)[1]  # noqa: E731
    assert gc.interpret(reverse(fn))(2.0) == 24
    assert gc.interpret(forward(fn))(2.0) == 24


def test_a_value_that_leaves_through_a_list():
    def outer(x):
        kept = []

        def inner(y):
            kept.append(x * y)
            return y**2

        return transforms.jvp(inner)(3 * x, 1.0)[1] + kept[0]  # 6x + 3x**2

    assert gc.interpret(outer)(2.0) == 24
    assert gc.interpret(forward(outer))(2.0) == 18
    assert gc.interpret(reverse(outer))(2.0) == 18


def test_the_transpose_of_a_jvp_is_the_vjp():
    """Reverse mode of the tangent by its direction gives the gradient."""

    def fn(x):
        return np.sin(x) * x[::-1] + np.cumsum(x)

    def by_transposing(x, ct):
        return transforms.grad(lambda v: (transforms.jvp(fn)(x, v)[1] * ct).sum())(np.zeros(3) * x)

    found = gc.interpret(by_transposing)(X, V)
    np.testing.assert_allclose(found, gc.interpret(gc.vjp(fn))(X, V)[1], rtol=1e-13)


# ------------------------------------------------------------------------------------ values


def vector(x, y, scale=2.0):
    return {"out": np.tanh(x @ y) * scale, "sum": (x**3).sum()}


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_jvp_of_trees_along_several_arguments(engine):
    made = gc.jvp(vector, (0, 1))
    made = gc.interpret(made) if engine == "interpreter" else made
    x, y = np.arange(6.0).reshape(2, 3) / 5, np.array([0.3, -0.2, 0.5])
    dx, dy = np.ones((2, 3)), np.array([1.0, 2.0, 3.0])
    value, change = made(x, y, (dx, dy), scale=3.0)
    eps = 1e-6
    high, low = (vector(x + s * dx, y + s * dy, 3.0) for s in (eps, -eps))
    for key in value:
        np.testing.assert_allclose(value[key], vector(x, y, 3.0)[key], rtol=1e-14)
        np.testing.assert_allclose(change[key], (high[key] - low[key]) / (2 * eps), rtol=1e-8)
    assert isinstance(change["sum"], np.float64)


def test_jvp_and_vjp_compile_once():
    f, b = gc.jvp(np.sin), gc.vjp(np.sin)
    for k in range(3):
        _, change = f(X + k, V)
        np.testing.assert_allclose(change, np.cos(X + k) * V, rtol=1e-14)
        np.testing.assert_allclose(b(X + k, V)[1], change, rtol=1e-14)
    assert len(f.compiles) == len(b.compiles) == 1
    assert f.name == "jvp_sin"


def test_has_aux():
    def fn(x):
        return x**2, {"twice": 2 * x, "n": 3}

    value, change, aux = interpreted(gc.jvp(fn, has_aux=True), X, V)
    np.testing.assert_allclose(change, 2 * X * V)
    np.testing.assert_allclose(aux["twice"], 2 * X)
    value, gradient, aux = interpreted(gc.vjp(fn, has_aux=True), X, V)
    np.testing.assert_allclose(value, X**2)
    np.testing.assert_allclose(gradient, 2 * X * V)
    assert aux["n"] == 3
    product, aux = interpreted(gc.hvp(lambda x: ((x**3).sum(), x.max()), has_aux=True), X, V)
    np.testing.assert_allclose(product, 6 * X * V)
    assert aux == 1.2


def test_tangents_take_the_dtype_of_their_argument():
    x = np.arange(3, dtype=np.float32)
    value, change = interpreted(gc.jvp(lambda x: x * 2), x, np.array([1, 2, 3]))
    assert value.dtype == change.dtype == np.float32
    np.testing.assert_array_equal(change, [2, 4, 6])
    _, gradient = interpreted(gc.vjp(lambda x: x * 2), x, V)
    assert gradient.dtype == np.float32


def test_python_numbers_stay_python_numbers():
    value, change = interpreted(gc.jvp(lambda x: x * x), 3.0, 1.0)
    assert (value, change) == (9.0, 6.0) and type(change) is float


def test_integer_results_have_zero_tangents():
    value, change = interpreted(gc.jvp(lambda x: (np.argmax(x), x.sum())), X, V)
    assert value[0] == 2 and change[0] == 0 and change[0].dtype == np.int64
    assert change[1] == V.sum()


def test_static_arguments_and_compiled_functions():
    @gc.compile(static_argnames="kind")
    def fn(x, kind):
        return np.sin(x) if kind == "sin" else x**2

    made = gc.jvp(fn)
    np.testing.assert_allclose(made(X, "sin", V)[1], np.cos(X) * V)
    np.testing.assert_allclose(made(X, "square", V)[1], 2 * X * V)
    np.testing.assert_allclose(gc.interpret(made)(X, "square", V)[1], 2 * X * V)


def test_functions_of_any_number_of_arguments():
    def fn(*xs):
        return sum(x**2 for x in xs)

    assert interpreted(gc.jvp(fn, 1), 1.0, 3.0, 5.0, 1.0) == (35.0, 6.0)


def test_a_parameter_called_tangent():
    def fn(x, tangent):
        return x * tangent

    assert interpreted(gc.jvp(fn), 2.0, 3.0, 1.0) == (6.0, 3.0)


class TestHvp:
    A = np.array([[2.0, 1.0], [1.0, 3.0]])

    def fn(self, x):
        return 0.5 * x @ self.A @ x + (x**4).sum()

    @pytest.mark.parametrize("engine", ["native", "interpreter"])
    def test_against_the_matrix(self, engine):
        made = gc.hvp(self.fn)
        made = gc.interpret(made) if engine == "interpreter" else made
        x, v = np.array([1.0, -2.0]), np.array([0.5, 1.0])
        np.testing.assert_allclose(made(x, v), (self.A + np.diag(12 * x**2)) @ v)

    def test_trees(self):
        def loss(p, x):
            return (np.tanh(x @ p["w"] + p["b"]) ** 2).sum()

        rng = np.random.default_rng(0)
        p = {"w": rng.normal(size=3), "b": 0.1}
        v = {"w": rng.normal(size=3), "b": 1.0}
        x = rng.normal(size=(4, 3))
        found = interpreted(gc.hvp(loss), p, x, v)
        grad, eps = gc.interpret(gc.grad(loss)), 1e-6
        high, low = ({k: p[k] + s * v[k] for k in p} for s in (eps, -eps))
        for k in p:
            expected = (grad(high, x)[k] - grad(low, x)[k]) / (2 * eps)
            np.testing.assert_allclose(found[k], expected, rtol=1e-7)

    def test_is_one_forward_and_one_reverse_sweep(self):
        """Its size is a small multiple of the function's, whatever the number of elements."""
        graph = gc.hvp(lambda w: np.tanh(w @ w.T).sum()).graph(np.ones((4, 4)), np.ones((4, 4)))
        assert [n.op for n in graph.order].count("matmul") <= 8


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_elementwise_grad_twice(engine):
    fn = gc.elementwise_grad(gc.elementwise_grad(np.tanh))
    fn = gc.interpret(fn) if engine == "interpreter" else fn
    t = np.tanh(X)
    np.testing.assert_allclose(fn(X), -2 * t * (1 - t**2), rtol=1e-13)


def test_elementwise_grad_of_other_arguments_and_scalars():
    fn = lambda x, y: x * np.exp(y)  # noqa: E731
    np.testing.assert_allclose(interpreted(gc.elementwise_grad(fn, 1), X, V), X * np.exp(V))
    assert interpreted(gc.elementwise_grad(math_like), 0.5) == pytest.approx(math.cos(0.5))


def math_like(x):
    return np.sin(x)


# ------------------------------------------------------------------------------------- jax


def test_against_jax(jax_float64):
    jax, jnp = jax_float64

    def fn(np, x, w):
        h = np.tanh(x @ w)
        p = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
        return np.log(p) * h.max(axis=0) + np.sqrt(np.abs(x)).sum()

    rng = np.random.default_rng(0)
    x, w, v = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    ct = rng.normal(size=(5, 3))
    value, change = interpreted(gc.jvp(lambda x, w: fn(np, x, w), 1), x, w, v)
    expected = jax.jvp(lambda w: fn(jnp, x, w), (w,), (v,))
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(change, expected[1], rtol=1e-11, atol=1e-12)
    _, gradient = interpreted(gc.vjp(lambda x, w: fn(np, x, w), 1), x, w, ct)
    _, pull = jax.vjp(lambda w: fn(jnp, x, w), w)
    np.testing.assert_allclose(gradient, pull(ct)[0], rtol=1e-11, atol=1e-12)
    loss = lambda np: lambda w: (fn(np, x, w) ** 2).sum()  # noqa: E731
    found = interpreted(gc.hvp(loss(np)), w, v)
    expected = jax.jvp(jax.grad(loss(jnp)), (w,), (v,))[1]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.fixture
def jax_float64():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield jax, jax.numpy


# ---------------------------------------------------------------------------------- errors


def message(fn, *args, error=GradientError):
    with pytest.raises(error) as caught:
        fn(*args)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8
    return text


def test_errors_name_the_argument_and_what_to_do():
    tree = {"w": X, "b": 1.0}
    fn = lambda p: p["w"].sum() * p["b"]  # noqa: E731
    text = message(gc.jvp(fn), tree, {"w": V[:2], "b": 1.0})
    assert "tangent of shape (2,) for `p['w']` of shape (3,)" in text
    assert "test_directional.py:" in text
    assert "the tangent is a {'w': leaf}" in message(gc.jvp(fn), tree, {"w": V})
    assert "`result` of shape ()" in message(gc.vjp(np.sum), X, V)
    assert "tuple of 2 tangents" in message(gc.jvp(vector, (0, 1)), X, X, X)
    assert "pass a float such as 2.0" in message(gc.jvp(np.sin), 2, 1.0)


def test_a_complex_tangent():
    assert "a complex tangent for `x`" in message(gc.jvp(lambda x: x * 2), X, V + 1j)


def test_a_missing_direction_shows_the_signature():
    text = message(gc.jvp(vector), X, X, error=TypeError)
    assert "vector(x, y, tangent, *, scale=2.0)" in text and "missing" in text
    assert "without a tangent" in message(gc.jvp(lambda *xs: xs[0]), error=TypeError)


def test_a_function_without_return():
    def forgot(x):
        x.sum()

    for made in (gc.jvp(forgot), gc.vjp(forgot)):
        assert "`forgot` returned None" in message(made, X, V)


def test_elementwise_grad_of_other_functions():
    text = message(gc.elementwise_grad(np.sum), X)
    assert "has shape (3,)" in text and "result of `sum` ()" in text and "jacobian" in text
    assert "int64" in message(gc.elementwise_grad(lambda x: x.astype(int)), X)


def test_a_vector_needs_a_scalar_function_for_hvp():
    assert "shape (3,)" in message(gc.hvp(lambda x: x * x), X, V)
