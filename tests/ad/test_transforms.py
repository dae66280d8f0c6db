"""User transforms on traced functions: nesting, pytrees, dtypes, errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from graphc import interp
from graphc.ad.transforms import grad, pull_back_of, value_and_grad, vjp
from graphc.errors import GradientError, TraceError
from graphc.ir.dims import symbol
from graphc.ir.types import tensor_type
from graphc.ir.verify import verify
from graphc.trace.tracing import ArgSpec, spec_of, trace
from graphc.trace.tree import flatten, unflatten

F32 = np.float32


def traced(fn, *args):
    leaves, tree = flatten(args)
    specs = unflatten(tree, [spec_of(leaf, "argument") for leaf in leaves])
    result = trace(fn, specs)
    verify(result.graph)
    return result, [np.asarray(leaf) for leaf in leaves]


def call(fn, *args):
    """``fn(*args)``, traced and interpreted."""
    result, leaves = traced(fn, *args)
    return unflatten(result.out_tree, interp.evaluate(result.graph, leaves))


def message(fn, *args, error=GradientError):
    with pytest.raises(error) as caught:
        traced(fn, *args)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8
    assert "test_transforms.py:" in text
    return text


# ----------------------------------------------------------------- nested differentiation


def test_inner_derivative_sees_the_outer_variable_as_a_constant():
    # d/dx (x * d/dy (x*y)) = d/dx x**2
    assert call(grad(lambda x: x * grad(lambda y: x * y)(x)), 3.0) == 6
    assert call(grad(lambda x: x * grad(lambda y: x * y)(2.0)), 3.0) == 6


def test_classic_perturbation_confusion():
    # d/dx (x * d/dy (x + y)) = 1, not 2
    assert call(grad(lambda x: x * grad(lambda y: x + y)(1.0)), 1.0) == 1
    assert call(grad(lambda x: x * grad(lambda y: x + y)(x)), 1.0) == 1


def test_inner_derivative_at_the_outer_variable():
    # d/dx [d/dy (x*y**3) at y = x] = d/dx 3x**3
    assert call(grad(lambda x: grad(lambda y: x * y**3)(x)), 2.0) == pytest.approx(36)


def test_the_same_function_nested_in_itself():
    def square(x):
        return x * x

    # d/dx square(square'(x)) = d/dx 4x**2
    assert call(grad(lambda x: square(grad(square)(x))), 3.0) == 24


def test_three_levels_that_share_names():
    def f(x):
        return x * grad(lambda x: x * grad(lambda x: x**3)(x))(x)

    # 3x**2; d(x * 3x**2) = 9x**2; x * 9x**2 = 9x**3
    assert call(f, 2.0) == pytest.approx(72)
    assert call(grad(f), 2.0) == pytest.approx(108)


@pytest.mark.parametrize("order", range(5))
def test_gradient_of_gradient(order):
    fn = lambda x: np.exp(2 * x)  # noqa: E731
    for _ in range(order):
        fn = grad(fn)
    assert call(fn, 0.3) == pytest.approx(2**order * np.exp(0.6))


def test_mixed_partial_derivatives_commute():
    def f(x, y):
        return np.sin(x * y) * x**2

    xy = call(grad(lambda x, y: grad(f, 1)(x, y), 0), 0.7, 1.3)
    yx = call(grad(lambda x, y: grad(f, 0)(x, y), 1), 0.7, 1.3)
    assert xy == pytest.approx(yx)
    eps = 1e-5
    by_y = [call(grad(f, 1), 0.7 + s, 1.3) for s in (eps, -eps)]
    assert xy == pytest.approx((by_y[0] - by_y[1]) / (2 * eps), rel=1e-8)


def test_hessian_vector_product():
    a = np.array([[2.0, 1.0], [1.0, 3.0]])

    def f(x):
        return 0.5 * x @ a @ x + (x**4).sum()

    def product(x, v):
        return grad(lambda x: (grad(f)(x) * v).sum())(x)

    x, v = np.array([1.0, -2.0]), np.array([0.5, 1.0])
    np.testing.assert_allclose(call(product, x, v), (a + np.diag(12 * x**2)) @ v)


def test_a_gradient_step_inside_a_loss():
    """Differentiating through an inner optimisation (meta-learning)."""

    def inner(w, x):
        return ((w * x - 1) ** 2).sum()

    def outer(w, x):
        return inner(w - 0.1 * grad(inner)(w, x), x)

    w, x = np.array([0.3, -0.2]), np.array([1.0, 2.0])
    found = call(grad(outer), w, x)
    step = w - 0.1 * 2 * (w * x - 1) * x
    np.testing.assert_allclose(found, 2 * (step * x - 1) * x * (1 - 0.2 * x**2))


def test_the_argument_also_enters_through_the_closure():
    def outer(w):
        return grad(lambda v: (v * w).sum())(w).sum()  # = sum(w)

    np.testing.assert_array_equal(call(grad(outer), np.array([2.0, 5.0])), [1, 1])


def test_a_value_that_leaves_through_a_list_keeps_its_meaning():
    def outer(x):
        kept = []

        def inner(y):
            kept.append(x * y)
            return y**2

        return grad(inner)(3 * x) + kept[0]  # 6x + 3x**2

    assert call(outer, 2.0) == 24
    assert call(grad(outer), 2.0) == 18
    assert call(grad(lambda x: outer(x) * x), 2.0) == 60


# ----------------------------------------------------------------------- values and trees


class Layer(NamedTuple):
    w: object
    b: object


@dataclass
class Model:
    layers: list
    scale: object


def test_gradients_have_the_structure_and_dtypes_of_the_argument():
    model = Model(
        [Layer(np.ones((3, 4), F32), np.zeros(4, F32)), {"w": np.ones((4, 2)), "none": None}],
        2.0,
    )

    def loss(model, x):
        h = np.tanh(x @ model.layers[0].w + model.layers[0].b)
        return model.scale * (h @ model.layers[1]["w"]).sum()

    grads = call(grad(loss), model, np.ones((5, 3), F32))
    assert isinstance(grads, Model) and isinstance(grads.layers[0], Layer)
    assert grads.layers[1]["none"] is None
    leaves, expected = flatten(grads)[0], flatten(model)[0]
    assert [g.shape for g in leaves] == [np.shape(m) for m in expected]
    assert [g.dtype for g in leaves] == [F32, F32, np.float64, np.float64]


def test_float32_stays_float32_with_python_numbers():
    def loss(w, scale):
        return (w**2 * scale / 3).mean() + 0.5

    value, grads = call(value_and_grad(loss), np.arange(3, dtype=F32), 2.0)
    assert value.dtype == F32 and grads.dtype == F32
    np.testing.assert_allclose(grads, 4 / 9 * np.arange(3), rtol=1e-6)


def test_a_python_float_is_differentiable_and_stays_weak():
    result, _ = traced(grad(lambda c, x: (c * x).sum()), 2.0, np.ones(3, F32))
    assert result.out_weak == (True,)
    assert call(grad(lambda c, x: (c * x).sum()), 2.0, np.ones(3, F32)) == 3


def test_argnums():
    def f(x, y, z):
        return x * y**2 * z**3

    assert call(grad(f, 1), 2.0, 3.0, 1.0) == 12
    assert call(grad(f, (0, 2)), 2.0, 3.0, 1.0) == (9, 54)
    assert call(grad(f, (1,)), 2.0, 3.0, 1.0) == (12,)
    assert call(grad(f, -1), 2.0, 3.0, 1.0) == 54
    assert call(lambda x: grad(f, 1)(x, z=1.0, y=x), 2.0) == 8


def test_has_aux_returns_the_rest_as_it_is():
    def loss(w, x):
        p = w * x
        return (p**2).sum(), {"p": p, "n": 3, "twice": [2 * w]}

    w, x = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    (value, aux), grads = call(value_and_grad(loss, has_aux=True), w, x)
    assert value == 73 and aux["n"] == 3
    np.testing.assert_array_equal(aux["p"], w * x)
    np.testing.assert_array_equal(aux["twice"][0], 2 * w)
    np.testing.assert_array_equal(grads, 2 * w * x**2)
    grads_alone, again = call(grad(loss, has_aux=True), w, x)
    np.testing.assert_array_equal(grads_alone, grads)
    np.testing.assert_array_equal(again["p"], w * x)


def test_aux_carries_outer_derivatives():
    def outer(x):
        _, aux = grad(lambda y: (x * y, y**2), has_aux=True)(x)
        return aux  # x**2

    assert call(grad(outer), 3.0) == 6


def test_constant_loss_has_a_zero_gradient():
    np.testing.assert_array_equal(call(grad(lambda w: 1.0), np.ones(3)), np.zeros(3))


def test_unused_and_integer_leaves_of_other_arguments():
    def loss(w, batch):
        return (w[batch["index"]] * batch["x"]).sum()

    batch = {"index": np.array([0, 2, 2]), "x": np.array([1.0, 2.0, 3.0])}
    np.testing.assert_array_equal(call(grad(loss), np.ones(4), batch), [1, 0, 5, 0])


def test_symbolic_batch():
    w, x = tensor_type(F32, (4, 3)), tensor_type(F32, (symbol("n"), 4))
    loss = lambda w, x: np.mean(np.maximum(x @ w, 0) ** 2)  # noqa: E731
    graph = verify(trace(value_and_grad(loss), (ArgSpec(w), ArgSpec(x))).graph)
    assert [str(o.type) for o in graph.outputs] == ["f32[]", "f32[4,3]"]
    rng = np.random.default_rng(0)
    for n in (1, 5):
        a, b = rng.standard_normal((4, 3)).astype(F32), rng.standard_normal((n, 4)).astype(F32)
        _, found = interp.evaluate(graph, [a, b])
        np.testing.assert_allclose(found, b.T @ (2 * np.maximum(b @ a, 0)) / (3 * n), rtol=1e-5)


def test_vjp_of_a_tree():
    def run(w, x, ct):
        return vjp(lambda w: {"a": x @ w, "b": w.sum()})(w, {"a": ct, "b": 2.0})

    w, x, ct = np.ones((3, 2)), np.arange(12.0).reshape(4, 3), np.ones((4, 2))
    value, grads = call(run, w, x, ct)
    np.testing.assert_array_equal(value["a"], x @ w)
    np.testing.assert_array_equal(grads, x.T @ ct + 2)


def test_jacobian_by_pulling_back_twice():
    def run(x):
        _, pull_back, _ = pull_back_of(lambda x: np.sin(x), (x,), {})
        return pull_back(np.array([1.0, 0.0])), pull_back(np.array([0.0, 1.0]))

    x = np.array([0.1, 0.2])
    np.testing.assert_allclose(call(run, x), np.diag(np.cos(x)))


def test_adjoint_nodes_carry_the_users_lines():
    def loss(w, x):
        h = np.tanh(x @ w)
        return (h**2).sum()

    result, _ = traced(grad(loss), np.ones((3, 2)), np.ones((4, 3)))
    first = loss.__code__.co_firstlineno
    graph = result.graph
    computed = [n for n in graph.order if n.op not in ("input", "const")]
    assert all(n in graph.sources for n in computed)
    (adjoint,) = [n for n in computed if n.op == "matmul" and n is graph.outputs[0]]
    assert graph.sources[adjoint].line == first + 1
    assert all(s.file.endswith("test_transforms.py") for s in graph.sources.values())


# ------------------------------------------------------------------ singular points, as users


@pytest.mark.parametrize(
    ("fn", "x", "expected"),
    [
        (lambda x: np.linalg.norm(x), [0.0, 0.0], [0, 0]),
        (lambda x: np.linalg.norm(x), [3.0, 4.0], [0.6, 0.8]),
        (lambda x: np.sqrt(x).sum(), [0.0, 4.0], [0, 0.25]),
        (lambda x: (x**0.5).sum(), [0.0, 4.0], [0, 0.25]),
        (lambda x: (x**2).sum() ** 0.5, [0.0, 0.0], [0, 0]),
        (lambda x: np.where(x > 0, np.log(x), 0).sum(), [0.0, 2.0], [0, 0.5]),
        (lambda x: np.where(x != 0, np.sin(x) / x, 1).sum(), [0.0], [0]),
        (lambda x: np.where(x != 0, x / np.abs(x), 0).sum(), [0.0, -3.0], [0, 0]),
        (lambda x: np.where(x > 0, x * np.log(x), 0).sum(), [0.0, 1.0], [0, 1]),
        (lambda x: np.std(x), [2.0, 2.0, 2.0], [0, 0, 0]),
        (lambda x: np.max(x), [1.0, 3.0, 3.0], [0, 0.5, 0.5]),
        (lambda x: np.maximum(x, 0).sum(), [-1.0, 0.0, 2.0], [0, 0.5, 1]),
        (lambda x: np.prod(x), [0.0, 2.0, 3.0], [6, 0, 0]),
        (lambda x: np.log(np.clip(x, 1e-6, 1)).sum(), [-1.0, 0.5, 2.0], [0, 2, 0]),
        (lambda x: np.hypot(x[0], x[1]), [3.0, 4.0], [0.6, 0.8]),
    ],
)
def test_documented_gradients_at_singular_points(fn, x, expected):
    found = call(grad(fn), np.array(x))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_log_softmax_with_an_impossible_class():
    def loss(z, label):
        p = np.exp(z - np.max(z, axis=1, keepdims=True))
        p = p / p.sum(axis=1, keepdims=True)
        return -np.log(p)[np.arange(2), label].mean()

    z, label = np.array([[0.0, -1e4], [1.0, 1.0]]), np.array([0, 1])
    found = call(grad(loss), z, label)
    np.testing.assert_allclose(found, [[0, 0], [0.25, -0.25]], atol=1e-12)


# ------------------------------------------------------------------------------- errors


def test_gradient_by_an_integer_array():
    text = message(grad(lambda x: (x * 1.0).sum()), np.arange(3))
    assert "`x`" in text and "int64" in text and "astype(float)" in text


def test_gradient_by_an_integer():
    text = message(grad(lambda x: x * 1.0), 2)
    assert "`x`" in text and "int64" in text and "2.0" in text
    text = message(lambda x: grad(lambda y: y * x)(3), 2.0)
    assert "`y`" in text and "pass 3.0" in text


def test_gradient_by_one_integer_leaf_names_the_leaf():
    params = {"w": np.ones(3), "steps": np.array([1, 2])}
    text = message(grad(lambda params: params["w"].sum()), params)
    assert "`params['steps']`" in text


def test_gradient_by_a_string_leaf():
    text = message(
        lambda w: grad(lambda params: params["w"].sum())({"w": w, "mode": "fast"}), np.ones(2)
    )
    assert "`params['mode']` is a str" in text and "static" in text


def test_vector_output():
    text = message(grad(lambda x: x * 2), np.ones(4))
    assert "shape (4,)" in text and "has_aux=True" in text and "sum" in text


def test_tuple_and_dict_outputs():
    def pair(x):
        return x.sum(), x

    text = message(grad(pair), np.ones(4))
    assert "`pair` returned a tuple of 2" in text and "has_aux=True" in text
    text = message(grad(lambda x: {"loss": x.sum()}), np.ones(4))
    assert "a dict of 1" in text


def test_function_without_return():
    def forgot(x):
        x.sum()

    text = message(grad(forgot), np.ones(4))
    assert "`forgot` returned None" in text and "return" in text


def test_integer_output():
    text = message(grad(lambda x: np.argmax(x)), np.ones(4))
    assert "int64" in text and "float" in text


def test_has_aux_without_a_pair():
    text = message(grad(lambda x: x.sum(), has_aux=True), np.ones(4))
    assert "has_aux=True" in text and "(value, aux)" in text


def test_argnums_out_of_range():
    text = message(grad(lambda x: x.sum(), 1), np.ones(4))
    assert "argnums=1" in text and "1 positional" in text
    assert "argnums" in message(grad(lambda x: x.sum(), "x"), np.ones(4))


def test_cotangents_that_do_not_fit():
    def wrong_shape(x):
        return vjp(lambda x: x * 2)(x, np.ones(3))

    def wrong_tree(x):
        return vjp(lambda x: x * 2)(x, (x, x))

    assert "shape (3,)" in message(wrong_shape, np.ones(2))
    assert "cotangent" in message(wrong_tree, np.ones(2))


def test_outside_a_trace():
    with pytest.raises(GradientError, match="outside a traced function"):
        grad(lambda x: x * 2)(1.0)


def test_a_branch_on_a_differentiated_value_names_the_argument():
    def loss(w):
        return w.sum() if w.sum() > 0 else w.mean()

    assert "`w`" in message(grad(loss), np.ones(3), error=TraceError)
