"""vmap of user functions: axes, trees, nesting with derivatives, native code, errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import graphc as gc
from graphc.ad import transforms
from graphc.ad.vmap import vmap
from graphc.errors import EscapedTracerError, GraphcError, ShapeError, TraceError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 3))
W = RNG.standard_normal((4, 3))


def run(fn, *args):
    """``fn(*args)``, traced and interpreted."""
    return gc.interpret(fn)(*args)


def loop(fn, *columns):
    return np.stack([fn(*row) for row in zip(*columns, strict=True)])


def message(fn, *args, error=ShapeError):
    with pytest.raises(error) as caught:
        run(fn, *args)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8 and "test_vmap.py:" in text
    return text


# ----------------------------------------------------------------------------------- axes


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_the_batch_comes_from_any_axis_and_goes_to_any_axis(axis):
    x = np.moveaxis(X, 0, axis)
    found = run(vmap(lambda row: np.exp(row), in_axes=axis, out_axes=axis), x)
    np.testing.assert_allclose(found, np.exp(x))


def test_none_is_the_same_for_all_examples():
    found = run(vmap(lambda w, x: np.tanh(w @ x), in_axes=(None, 0)), W, X)
    np.testing.assert_allclose(found, np.tanh(X @ W.T))
    found = run(vmap(lambda w, x: w @ x, in_axes=(0, None)), W, X[0])
    np.testing.assert_allclose(found, W @ X[0])


def test_a_result_that_no_example_changes_is_repeated_or_left():
    def both(x, w):
        return x * 2, w.sum()

    doubled, repeated = run(vmap(both, in_axes=(0, None)), X, W)
    np.testing.assert_allclose(doubled, 2 * X)
    np.testing.assert_allclose(repeated, np.full(5, W.sum()))
    _, once = run(vmap(both, in_axes=(0, None), out_axes=(0, None)), X, W)
    np.testing.assert_allclose(once, W.sum())


@dataclass
class Layer:
    W: object
    b: object


def test_in_axes_follow_the_front_of_a_tree():
    def f(params, x, scale=1.0):
        return {"y": params["layer"].W @ x + params["layer"].b, "s": x.sum() * scale}

    params = {"layer": Layer(W, RNG.standard_normal((5, 4))), "unused": (X, None)}
    spec = {"layer": Layer(None, 0), "unused": None}
    found = run(vmap(f, in_axes=(spec, 0)), params, X)
    np.testing.assert_allclose(found["y"], X @ W.T + params["layer"].b)
    found = run(lambda p, x, s: vmap(f, (spec, 0))(p, x, scale=s), params, X, np.arange(5.0))
    np.testing.assert_allclose(found["s"], X.sum(1) * np.arange(5))


def test_values_of_the_closure_are_the_same_for_all():
    found = run(lambda w, x: vmap(lambda row: w @ row)(x), W, X)
    np.testing.assert_allclose(found, X @ W.T)


def test_indices_of_each_example():
    table, index = RNG.standard_normal((5, 6, 2)), RNG.integers(-6, 6, (5, 3))
    found = run(vmap(lambda t, i: t[i]), table, index)
    np.testing.assert_allclose(found, loop(lambda t, i: t[i], table, index))
    found = run(vmap(lambda t, i: t[:, i], in_axes=(None, 0)), table[0].T, index)
    np.testing.assert_allclose(found, loop(lambda i: table[0].T[:, i], index))


def test_updates_in_place_are_those_of_the_example():
    def f(x):
        y = x * 1.0
        y[0] = x[1]
        y[1:] += 1
        return y

    np.testing.assert_allclose(run(vmap(f), X), loop(lambda x: [x[1], x[1] + 1, x[2] + 1], X))


# -------------------------------------------------------------------------------- nesting


def energy(w, x):
    return np.log1p(np.exp(w @ x)).sum() + np.max(x) * x[0]


def test_gradient_of_each_example():
    found = run(vmap(transforms.grad(energy, argnums=1), in_axes=(None, 0)), W, X)
    expected = loop(lambda x: run(transforms.grad(energy, argnums=1), W, x), X)
    np.testing.assert_allclose(found, expected)


def test_gradient_through_a_batch():
    def total(w, x):
        return vmap(energy, in_axes=(None, 0))(w, x).sum()

    found = run(transforms.grad(total), W, X)
    expected = sum(run(transforms.grad(energy), W, x) for x in X)
    np.testing.assert_allclose(found, expected)


def test_batch_of_the_gradient_of_a_batch():
    def total(w, x):
        return vmap(energy, in_axes=(None, 0))(w, x).sum()

    ws = RNG.standard_normal((2, 4, 3))
    found = run(vmap(transforms.grad(total), in_axes=(0, None)), ws, X)
    np.testing.assert_allclose(found, loop(lambda w: run(transforms.grad(total), w, X), ws))


def test_second_gradient_around_a_batch():
    def slope(x):
        inner = transforms.grad(lambda y: (vmap(lambda r: np.sin(r) * r**2)(y) ** 2).sum())
        return (inner(x) * x).sum()

    def by_hand(x):
        return run(transforms.grad(lambda y: ((np.sin(y) * y**2) ** 2).sum()), x)

    eps = 1e-6
    around = [X[0] + sign * eps * np.eye(3) for sign in (1, -1)]
    above, below = ([(by_hand(x) * x).sum() for x in points] for points in around)
    numeric = (np.array(above) - np.array(below)) / (2 * eps)
    np.testing.assert_allclose(run(transforms.grad(slope), X[0]), numeric, rtol=1e-5)


def test_pull_back_of_each_example():
    def products(x, ct):
        value, pull_back, _ = transforms.pull_back_of(lambda x: np.tanh(W @ x), (x,), {})
        return value, pull_back(ct)

    cts = RNG.standard_normal((5, 4))
    value, found = run(vmap(products), X, cts)
    np.testing.assert_allclose(value, np.tanh(X @ W.T))
    np.testing.assert_allclose(found, ((1 - value**2) * cts) @ W)


def test_batches_of_batches():
    outer = run(vmap(vmap(np.dot, in_axes=(None, 0)), in_axes=(0, None)), W, X)
    np.testing.assert_allclose(outer, W @ X.T)
    deep = RNG.standard_normal((2, 3, 4, 5))
    found = run(vmap(vmap(vmap(np.cumsum, in_axes=1, out_axes=0), in_axes=2), out_axes=2), deep)
    # [a, b, c, d]: examples along a, then (of [b, c, d]) along d, then (of [b, c]) along c.
    expected = np.cumsum(deep, axis=1).transpose(3, 2, 0, 1)
    np.testing.assert_allclose(found, expected)


# ----------------------------------------------------------------------- compiled functions


def test_compiled_with_a_batch_size_that_changes():
    scores = gc.vmap(energy, in_axes=(None, 0))
    for count in (5, 3, 7, 4):
        x = RNG.standard_normal((count, 3))
        np.testing.assert_allclose(scores(W, x), [energy(W, row) for row in x], rtol=1e-12)
    assert len(scores.compiles) == 2
    slopes = gc.vmap(gc.grad(energy, argnums=1), in_axes=(None, 0))
    expected = loop(lambda x: run(transforms.grad(energy, argnums=1), W, x), X)
    np.testing.assert_allclose(slopes(W, X), expected, rtol=1e-12)


def test_inside_compiled_functions_and_under_their_gradient():
    @gc.compile
    def loss(w, x):
        return gc.vmap(energy, in_axes=(None, 0))(w, x).mean()

    expected = sum(run(transforms.grad(energy), W, x) for x in X) / 5
    np.testing.assert_allclose(gc.grad(loss)(W, X), expected, rtol=1e-12)


def test_one_kernel_and_one_product_for_a_shared_matrix():
    report = gc.inspect(gc.vmap(lambda w, x: np.tanh(w @ x), in_axes=(None, 0)), W, X)
    assert report.ir.count("matmul") <= 1 and "tanh" in report.ir


# ---------------------------------------------------------------------------------- errors


def test_different_batch_sizes_are_named():
    text = message(vmap(lambda a, b: a @ b), W, X)
    assert "4 along axis 0 of `a`, 5 along axis 0 of `b`" in text


@pytest.mark.parametrize(
    ("in_axes", "said"),
    [
        ((0, None, 1), "in_axes has 3 entries for 2 arguments"),
        ((0, (0, 1)), "does not fit"),
        ((0, 7), "`b` has shape (5, 3), no axis 7"),
        ((None, None), "maps no array"),
        ((0, "x"), "an int or None, not 'x'"),
    ],
)
def test_in_axes_that_do_not_fit(in_axes, said):
    assert said in message(vmap(lambda a, b: b, in_axes=in_axes), X, X)


def test_a_number_has_no_batch():
    assert "in_axes=None" in message(vmap(lambda x, c: c * x), X, 2.0)


def test_out_axes_that_do_not_fit():
    text = message(vmap(lambda x: {"a": x}, out_axes=None), X)
    assert "output['a'] depends on the example" in text
    assert "out_axes=3" in message(vmap(lambda x: x, out_axes=3), X)
    assert "does not fit" in message(vmap(lambda x: x, out_axes=(0, 1)), X)


def test_a_string_has_no_batch():
    text = message(lambda x: vmap(lambda a, mode: a)(x, "fast"), X, error=TraceError)
    assert "`mode` is a str" in text


def test_a_function_without_return():
    assert "is a `return` missing?" in message(vmap(lambda x: None), X, error=TraceError)


def test_a_value_that_leaves_sideways_is_refused():
    kept = []

    def f(x):
        vmap(lambda row: kept.append(row * 2) or row)(x)
        return kept.pop()

    assert "Return it from that function" in message(f, X, error=EscapedTracerError)


def test_outside_a_traced_function():
    with pytest.raises(GraphcError, match="outside a traced function"):
        vmap(np.sin)(X)
