"""Dead branches and singular points: gradients are finite where the value is.

The convention: at a point where the derivative does not exist it is 0 (``sqrt``, ``norm``,
``x**p`` with 0 < p < 1, ``cbrt``, ``abs`` at 0) or shared evenly (ties of ``maximum``, ``max``).
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers import gradient, make_graph, vjp_graph

import graphc as gc
from graphc import interp
from graphc.ir import build

e = build.elementwise
NAN, INF = np.nan, np.inf


def full(like, value):
    return build.full_like(like, value)


def total(x):
    return build.reduce("sum", x, range(x.ndim))


def guarded_by(compare, limit, dead, fn):
    """``np.where(x <compare> limit, fn(x), dead)``"""
    return lambda x: e("where", e(compare, x, full(x, limit)), fn(x), full(x, dead))


def square(x):
    return e("mul", x, x)


def power(p):
    return lambda x: e("pow", x, full(x, p))


def norm(x):
    return e("sqrt", total(square(x)))


def softened(fn):
    """Something regular above and below."""
    return lambda x: e("sin", fn(e("mul", x, full(x, 1.5))))


DEAD = [
    # name, f(x), f'(x) on the live side, points (the first is dead)
    ("log", "gt", lambda x: e("log", x), lambda x: 1 / x, [0.0, -1.0, 2.0]),
    ("sqrt", "ge", lambda x: e("sqrt", x), lambda x: 0.5 / np.sqrt(x), [-1.0, -3.0, 2.0]),
    ("rsqrt", "gt", lambda x: e("rsqrt", x), lambda x: -0.5 * x**-1.5, [0.0, -1.0, 2.0]),
    ("reciprocal", "ne", lambda x: e("div", full(x, 1), x), lambda x: -1 / x**2, [0.0, 0.0, 2.0]),
    ("power", "gt", power(-1.5), lambda x: -1.5 * x**-2.5, [0.0, -2.0, 2.0]),
    ("x log x", "gt", lambda x: e("mul", x, e("log", x)), lambda x: np.log(x) + 1,
     [0.0, -1.0, 3.0]),
    (
        "log below tanh", "gt",
        lambda x: e("tanh", e("log", x)), lambda x: (1 - np.tanh(np.log(x)) ** 2) / x,
        [0.0, -1.0, 2.0],
    ),
    ("log of log", "gt", lambda x: e("log", e("log", e("add", x, full(x, 1)))),
     lambda x: 1 / (np.log(1 + x) * (1 + x)), [0.0, -2.0, 2.0]),
    ("arctan2", "ne", lambda x: e("arctan2", x, full(x, 0)), lambda x: 0 * x, [0.0, 0.0, 2.0]),
    ("x / |x|", "ne", lambda x: e("div", x, e("abs", x)), lambda x: 0 * x, [0.0, 0.0, -2.0]),
]  # fmt: skip


@pytest.mark.parametrize("case", DEAD, ids=lambda c: c[0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dead_branch_of_where_gives_zero(case, dtype):
    _, compare, fn, slope, points = case
    x = np.array(points, dtype)
    (grad,) = gradient(guarded_by(compare, 0, 0, fn), x)
    assert grad.dtype == dtype
    with np.errstate(all="ignore"):
        live = {"gt": x > 0, "ge": x >= 0, "ne": x != 0}[compare]
        np.testing.assert_allclose(grad, np.where(live, slope(x), 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", DEAD, ids=lambda c: c[0])
def test_dead_branch_gives_zero_in_the_second_derivative(case):
    _, compare, fn, _, points = case
    x = np.array(points)
    first = vjp_graph(make_graph(guarded_by(compare, 0, 0, fn), [x]), [0])
    (second,) = interp.evaluate(vjp_graph(first, [0]), [x, np.ones(3), np.ones(3)])
    live = {"gt": x > 0, "ge": x >= 0, "ne": x != 0}[compare]
    assert np.isfinite(second).all()
    np.testing.assert_array_equal(second[~live], 0)
    eps = 1e-5
    plus, minus = (interp.evaluate(first, [x + s, np.ones(3)])[0] for s in (eps, -eps))
    np.testing.assert_allclose(second[live], ((plus - minus) / (2 * eps))[live], rtol=1e-6)


def test_overflowing_exp_in_the_dead_branch():
    x = np.array([1000.0, 1.0])
    (grad,) = gradient(guarded_by("lt", 10, 0, lambda a: e("exp", a)), x)
    np.testing.assert_allclose(grad, [0, np.e])


def test_maximum_and_minimum_cut_like_where():
    x = np.array([-1.0, 4.0])
    (grad,) = gradient(lambda a: e("log", e("maximum", a, full(a, 1e-3))), x)
    np.testing.assert_allclose(grad, [0, 0.25])
    (grad,) = gradient(
        lambda a: e("minimum", e("div", full(a, 1), a), full(a, 5)), np.array([0.0, 2.0])
    )
    np.testing.assert_allclose(grad, [0, -0.25])


def test_missing_data_is_masked_out_of_a_loss():
    """where(isnan(y), 0, (p - y)**2): NaN targets take no part in the gradient."""
    p, y = np.array([1.0, 2.0, 3.0]), np.array([0.5, NAN, INF])

    def loss(p, y):
        error = e("pow", e("sub", p, y), full(p, 2))
        return e("where", e("isfinite", y), error, full(p, 0))

    (grad,) = gradient(loss, p, y, wrt=[0])
    np.testing.assert_allclose(grad, [1, 0, 0])


def test_missing_data_times_a_weight():
    w, x = np.array([2.0, 3.0]), np.array([NAN, 4.0])
    (grad,) = gradient(
        lambda w, x: e("where", e("isnan", x), full(x, 0), e("mul", w, x)), w, x, wrt=[0]
    )
    np.testing.assert_allclose(grad, [0, 4])


def test_unpicked_probabilities_may_be_zero():
    """-log(p)[label]: the other entries of p may underflow to 0."""
    p, label = np.array([[0.0, 1.0], [0.25, 0.75]]), np.array([[1], [0]])
    (grad,) = gradient(lambda p, k: e("neg", build.take_along(e("log", p), k, 1)), p, label)
    np.testing.assert_allclose(grad, [[0, -1], [-4, 0]])


@pytest.mark.parametrize(
    "pick",
    [
        lambda x: build.slice_(x, (1,), (2,), (1,)),
        lambda x: build.take(x, build.const([1, 2]), 0),
        lambda x: build.reduce("max", x, (0,)),
    ],
    ids=["slice", "take", "max"],
)
def test_unpicked_elements_do_not_leak(pick):
    (grad,) = gradient(lambda x: pick(e("log", x)), np.array([0.0, 1.0, 2.0]))
    assert grad[0] == 0 and np.isfinite(grad).all()


def test_a_whole_dead_part_of_a_concat():
    x, y = np.array([0.0]), np.array([2.0])

    def fn(x, y):
        both = build.concat((e("log", x), e("log", y)), 0)
        return build.slice_(both, (1,), (1,), (1,))

    gx, gy = gradient(fn, x, y)
    np.testing.assert_allclose(np.concatenate([gx, gy]), [0, 0.5])


def test_a_fully_masked_row_of_logsumexp():
    x, keep = np.array([[-INF, -INF], [0.0, 0.0]]), np.array([False, True])

    def fn(w, x, keep):
        s = e("add", w, x)
        peak = build.broadcast(build.reduce("max", s, (1,)), s.shape, (0,))
        row = e("log", build.reduce("sum", e("exp", e("sub", s, peak)), (1,)))
        return e("where", keep, row, build.full_like(row, 0))

    (grad,) = gradient(fn, np.zeros((2, 2)), x, keep, wrt=[0])
    np.testing.assert_allclose(grad, [[0, 0], [0, 0]], atol=1e-12)


def test_a_real_nan_is_not_hidden():
    x = np.array([-1.0, 2.0])
    for fn in (lambda a: e("sqrt", a), guarded_by("lt", 9, 0, lambda a: e("sqrt", a))):
        (grad,) = gradient(fn, x)
        assert np.isnan(grad[0]) and np.isfinite(grad[1])


@pytest.mark.parametrize(
    ("fn", "at", "expected"),
    [
        (lambda x: e("sqrt", x), [0.0, 4.0], [0, 0.25]),
        (lambda x: e("cbrt", x), [0.0, 8.0], [0, 1 / 12]),
        (lambda x: e("abs", x), [0.0, -2.0], [0, -1]),
        (power(0.5), [0.0, 4.0], [0, 0.25]),
        (power(2.0), [0.0, 3.0], [0, 6]),
        (power(1.0), [0.0, 3.0], [1, 1]),
        (power(0.0), [0.0, 3.0], [0, 0]),
        (norm, [0.0, 0.0], [0, 0]),
        (norm, [3.0, -4.0], [0.6, -0.8]),
        (lambda x: e("pow", total(square(x)), build.const(0.5)), [0.0, 0.0], [0, 0]),
        (lambda x: e("sqrt", total(square(e("abs", x)))), [0.0, 0.0], [0, 0]),
        (lambda x: norm(e("sub", x, full(x, 1))), [1.0, 1.0], [0, 0]),
        (lambda x: e("maximum", x, full(x, 0)), [0.0, -1.0], [0.5, 0]),
        (lambda x: e("sqrt", e("abs", e("log", x))), [1.0, np.e], [0, 0.5 / np.e]),
    ],
)  # fmt: skip
def test_singular_points(fn, at, expected):
    (grad,) = gradient(fn, np.array(at))
    np.testing.assert_allclose(grad, expected, rtol=1e-12)
    (grad,) = gradient(softened(fn), np.array(at))
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("y", [0.0, 1.0, 2.0, 0.5])
def test_power_with_a_differentiated_exponent(y):
    x, y = np.array([0.0, 2.0]), np.full(2, y)
    gx, gy = gradient(lambda a, b: e("pow", a, b), x, y)
    at_zero = {1.0: 1.0}.get(y[0], 0.0)
    np.testing.assert_allclose(gx, [at_zero, y[1] * 2 ** (y[1] - 1)])
    np.testing.assert_allclose(gy, [0, 2 ** y[1] * np.log(2)])


def test_a_zero_cotangent_by_chance_keeps_second_derivatives():
    """d2/du2 of (max(exp(u), 0) - 1)**2 at u = 0, where the cotangent of exp is exactly 0."""

    def fn(u):
        y = e("maximum", e("exp", u), full(u, 0))
        return total(square(e("sub", y, full(y, 1))))

    u = np.zeros(1)
    first = vjp_graph(make_graph(fn, [u]), [0])
    (second,) = interp.evaluate(vjp_graph(first, [0]), [u, np.array(1.0), np.ones(1)])
    np.testing.assert_allclose(second, [2.0])


def ops_of_gradient(fn, *arrays, wrt=None):
    graph = vjp_graph(make_graph(fn, arrays), wrt)
    return [n.op for n in graph.order]


def test_only_masked_cotangents_are_guarded():
    x = np.ones((3, 2))
    assert "isnan" not in ops_of_gradient(lambda a: e("log", e("exp", a)), x)
    assert "isnan" in ops_of_gradient(guarded_by("gt", 0, 0, lambda a: e("log", a)), x)
    assert "isnan" not in ops_of_gradient(guarded_by("gt", 0, 0, lambda a: e("tanh", a)), x)
    # Constant divisors and whole powers are harmless.
    assert "isnan" not in ops_of_gradient(
        guarded_by("gt", 0, 0, lambda a: e("div", power(3.0)(a), full(a, 2))), x
    )


def attention_scores(masks, cut=None):
    """A loss of q k^T under masks, where q and k are slices of one product."""

    def loss(x):
        both = (np.arcsin(x) @ np.ones((5, 8))).reshape(2, 3, 2, 4)
        scores = both[:, :, 0] @ np.swapaxes(both[:, :, 1], 1, 2)
        for mask in masks:
            scores = np.where(mask, scores, 0.0)
        return np.sum(scores[:, :cut] ** 2)

    return loss


CAUSAL, EMPTY_ROW = np.tril(np.ones((3, 3), bool)), np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]]) > 0
ALL_BUT_DIAGONAL = CAUSAL.T & ~np.eye(3, dtype=bool)


@pytest.mark.parametrize(
    ("masks", "cut", "guards"),
    [
        ([CAUSAL], None, False),
        ([CAUSAL[:, :1]], None, False),
        ([EMPTY_ROW], None, True),
        ([CAUSAL, CAUSAL.T], None, True),
        ([CAUSAL, ALL_BUT_DIAGONAL], None, True),
        ([CAUSAL], 2, True),
    ],
)
def test_a_constant_mask_that_leaves_something_of_each_row_needs_no_guard(masks, cut, guards):
    """Sums over rows and columns of the mask's cotangent reach all elements of the operands."""
    traced = gc.grad(attention_scores(masks, cut))
    assert ("isnan" in {n.op for n in traced.graph(np.zeros((6, 5))).order}) == guards


def test_a_row_that_a_constant_mask_leaves_unread_has_gradient_0():
    def loss(x):
        scores = np.arcsin(x) @ np.arcsin(x[1:, :2] / 2)
        return np.sum(np.where(EMPTY_ROW[:, :2], scores, 0.0) ** 2)

    x = np.full((3, 2), 0.5)
    x[1] = 1.0  # where arcsin has an infinite slope
    plain = np.asarray(gc.interpret(gc.grad(loss))(x))
    assert np.isfinite(plain).all() and plain[1].all()  # by the second operand alone


def test_cross_entropy_of_a_relu_network_needs_no_guard():
    x, w1, w2 = np.ones((5, 4)), np.ones((4, 3)), np.ones((3, 2))
    label = np.zeros((5, 1), np.int64)

    def loss(x, w1, w2, label):
        h = e("maximum", build.matmul(x, w1), build.full((5, 3), 0, np.float64))
        z = build.matmul(h, w2)
        peak = build.broadcast(build.reduce("max", z, (1,)), z.shape, (0,))
        s = e("sub", z, peak)
        norm = e("log", build.reduce("sum", e("exp", s), (1,)))
        logp = e("sub", s, build.broadcast(norm, s.shape, (0,)))
        return e("neg", total(build.take_along(logp, label, 1)))

    assert "isnan" not in ops_of_gradient(loss, x, w1, w2, label, wrt=[1, 2])


# ------------------------------------------------------------------------------------- products

ROWS = np.array([[1.0, 2.0], [NAN, 3.0], [INF, -1.0], [0.5, 0.25]])
KEEP = np.array([True, False, False, True])
WEIGHTS = np.array([[0.3, -0.2, 1.0], [0.7, 0.1, 0.4]])


def kept_rows(x, w, keep):
    y = x @ w
    return np.sum(np.where(keep[:, None], np.sin(y), 0.0) ** 2)


def by_the_data(x, w, keep):
    y = np.tanh(x @ w)
    return np.sum(np.where(np.isfinite(y) & keep[:, None], y, 0.0) ** 2)


def picked_rows(x, w, keep):
    return np.sum(np.sin(x @ w)[np.argsort(~keep, kind="stable")[:2]] ** 2)


def two_layers(x, w, keep):
    h = np.maximum(x @ w, 0.0)
    return np.sum(np.where(keep[:, None], h @ (w.T @ w), 0.0) ** 2)


def transposed(x, w, keep):
    return np.sum(np.where(keep, np.sin(w.T @ x.T), 0.0) ** 2)


def batched(x, w, keep):
    return np.sum(np.where(keep[:, None], np.stack([x, 2 * x]) @ np.stack([w, w]), 0.0) ** 2)


PRODUCTS = [kept_rows, by_the_data, picked_rows, two_layers, transposed, batched]


@pytest.mark.parametrize("fn", PRODUCTS, ids=lambda f: f.__name__)
def test_hidden_rows_of_a_product_do_not_leak_into_its_weights(fn):
    found = gc.interpret(gc.grad(fn, argnums=1))(ROWS, WEIGHTS, KEEP)
    clean = gc.interpret(gc.grad(fn, argnums=1))(ROWS[KEEP], WEIGHTS, KEEP[KEEP])
    np.testing.assert_allclose(found, clean, rtol=1e-12)
    missing = np.where(np.isfinite(ROWS), ROWS, NAN)
    second = gc.interpret(gc.hessian(fn, argnums=1))(missing, WEIGHTS, KEEP)
    np.testing.assert_allclose(
        second, gc.interpret(gc.hessian(fn, argnums=1))(ROWS[KEEP], WEIGHTS, KEEP[KEEP])
    )


def test_hidden_rows_natively():
    found = gc.grad(kept_rows, argnums=1)(ROWS, WEIGHTS, KEEP)
    clean = gc.interpret(gc.grad(kept_rows, argnums=1))(ROWS[KEEP], WEIGHTS, KEEP[KEEP])
    np.testing.assert_allclose(found, clean, rtol=1e-12)


def test_hidden_columns_of_weights():
    w = np.array([[1.0, NAN], [2.0, 0.5]])

    def fn(x, w, use):
        return np.sum(np.where(use, x @ w, 0.0) ** 2)

    x, use = np.ones((3, 2)), np.array([True, False])
    dx = gc.interpret(gc.grad(fn))(x, w, use)
    np.testing.assert_allclose(dx, [[6, 12]] * 3)


def test_a_nan_that_is_used_stays():
    grad = gc.interpret(gc.grad(kept_rows, argnums=1))(ROWS, WEIGHTS, np.ones(4, bool))
    assert np.isnan(grad).all()


def test_hidden_windows_of_a_convolution():
    x = np.arange(1.0, 11.0).reshape(1, 1, 1, 10)
    x[..., 6] = NAN
    w = np.array([0.5, -1.0, 0.25]).reshape(1, 1, 1, 3)

    def fn(x, w):
        y = gc.nn.conv2d(x, w)
        return np.sum(np.where(np.isnan(y), 0.0, y) ** 2)

    (dw,) = gc.interpret(gc.grad(fn, argnums=(1,)))(x, w)
    windows = np.lib.stride_tricks.sliding_window_view(x.ravel(), 3)
    good = windows[np.isfinite(windows).all(1)]
    np.testing.assert_allclose(dw.ravel(), good.T @ (2 * good @ w.ravel()))


def test_a_zero_cotangent_by_chance_keeps_the_second_derivative_of_a_product():
    """d2/dw2 of where(keep, x @ w, 0)**2 at w = 0: all cotangents of the product are 0."""

    def fn(w, x, keep):
        return np.sum(np.where(keep, x @ w, 0.0) ** 2)

    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    found = gc.interpret(gc.hessian(fn))(np.zeros(2), x, np.ones(2, bool))
    np.testing.assert_allclose(found, 2 * x.T @ x)


def test_ordinary_networks_have_no_guards_in_products():
    x, w = np.ones((5, 4)), np.ones((4, 4))
    causal = np.tril(np.ones((5, 5), bool))

    def attention(w, x):
        q = np.maximum(x @ w, 0) / np.sqrt(np.sum(x**2))
        s = np.where(causal, q @ q.T, -np.inf)
        e = np.exp(s - np.max(s, axis=1, keepdims=True))
        return np.sum((e / np.sum(e, axis=1, keepdims=True) @ q)[:, 1:3] @ w[1:3])

    graph = gc.grad(attention).graph(w, x)
    assert "isfinite" not in {n.op for n in graph.order}
    graph = gc.grad(kept_rows, argnums=1).graph(ROWS, WEIGHTS, KEEP)
    assert "isfinite" in {n.op for n in graph.order}


@pytest.mark.parametrize("fn", [np.logaddexp, np.logaddexp2])
def test_logaddexp_of_equal_operands_to_second_order(fn):
    x, scale = 1.3, 1.0 if fn is np.logaddexp else np.log(2)
    second = gc.interpret(gc.hessian(lambda v: fn(v[0], v[1])))(np.array([x, x]))
    np.testing.assert_allclose(second, scale * np.array([[0.25, -0.25], [-0.25, 0.25]]))
    for at in (INF, -INF):
        value, slopes = gc.interpret(gc.value_and_grad(fn, argnums=(0, 1)))(at, at)
        assert value == at and sum(slopes) == 1


@pytest.mark.parametrize("slope", [np.inf, -np.inf, np.nan, "1 / 0"], ids=str)
@pytest.mark.parametrize("mode", [gc.grad, lambda f: lambda x: gc.jvp(f)(x, np.ones(2))[1]])
def test_a_constant_slope_that_is_not_finite_does_not_leak(slope, mode):
    def f(x):
        scaled = x / 0.0 if slope == "1 / 0" else x * slope
        return np.sum(np.where(x > 1, 3 * x, 0) + np.where(x > 5, scaled, 0))

    found = gc.interpret(mode(f))(np.array([2.0, 3.0]))
    np.testing.assert_array_equal(found, [3.0, 3.0] if np.ndim(found) else 6.0)
