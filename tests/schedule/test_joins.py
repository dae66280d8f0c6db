"""Arrays that a kernel computes are written side by side at once."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run
from trace_helpers import trace_like

import graphc as gc
from graphc import interp, passes
from graphc.schedule import loops as L
from graphc.schedule import schedule

X = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(5, 48)).astype(np.float32)


def halves(x, y):
    return np.concatenate([np.exp(x), np.tanh(y)], axis=1)


def with_arguments(x, y):
    """Pieces that nobody computes, and one that is an output too."""
    t = np.tanh(y)
    return np.concatenate([x, t, y[:, ::-1], np.exp(x)], axis=1), t


def twice(x, y):
    e = np.exp(x)
    return np.concatenate([e, e[:, ::-1], e], axis=1)


def two_joins(x, y):
    e, t = np.exp(x), np.tanh(y)
    return np.concatenate([e, t], axis=1), np.concatenate([t, e], axis=1)


def nested(x, y):
    inner = np.concatenate([np.exp(x), np.sin(x)], axis=1)
    return np.concatenate([np.tanh(inner[:, ::-1]), inner * y[:, :1]], axis=1)


def read_again(x, y):
    """By a sum over rows, a sum of a row, and a product."""
    z = np.concatenate([np.exp(x), np.tanh(y)], axis=1)
    return np.sum(z, axis=0), z / np.sum(z, axis=1, keepdims=True), z @ z.T


def softmaxes(x, y):
    """Pieces that wait for a reduction of their row."""
    e, f = np.exp(x), np.exp(y)
    return np.concatenate([e / np.sum(e, axis=1)[:, None], f / np.sum(f, axis=1)[:, None]], axis=1)


def deeper(x, y):
    x, y = x.reshape(5, 2, 16), y.reshape(5, 2, 24)
    return np.concatenate([np.exp(x), np.tanh(y)], axis=2) * np.float32(2)


def one_after_the_other(x, y):
    """A piece of the second is there before the first has been read."""
    t = np.tanh(y[:, :32])
    first = np.concatenate([np.sin(x), x], axis=1)
    second = np.concatenate([np.exp(x), t * np.sum(first, axis=1, keepdims=True)], axis=1)
    return np.sum(second * second)


def sums_of_products(x, y):
    """A piece that tiles write, not loops."""
    w, u = np.ones((32, 48), x.dtype), np.ones((48, 48), x.dtype)
    z = x @ w + y @ u
    return np.concatenate([x, z, np.tanh(x)], axis=1), np.concatenate([np.exp(y), z], axis=1)


def gates(x, y):
    """Slopes of slices, in another order than that of the slices."""

    def f(y):
        a, b, c = y[:, :16], y[:, 16:32], y[:, 32:]
        return np.sum(np.tanh(c) * np.exp(a) + np.sin(b) * x[:, :16])

    return gc.grad(f)(y)


CASES = {
    f.__name__: f for f in (
        halves, with_arguments, twice, two_joins, nested, read_again, softmaxes, deeper, gates,
        one_after_the_other, sums_of_products,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_joins_are_right(name):
    graph = trace_like(CASES[name], X, Y).graph
    expected = interp.evaluate(graph, [X, Y])
    assert_same(python_run(graph, [X, Y], optimize=True), expected)
    assert_same(python_run(graph, [X, Y], optimize=True, threads=2), expected)
    assert_same(native_run(graph, [X, Y]), expected)


@pytest.mark.parametrize("name", ["halves", "two_joins", "gates", "softmaxes"])
def test_pieces_are_written_where_they_belong(name):
    made = schedule(passes.optimize(trace_like(CASES[name], X, Y).graph))
    (kernel,) = L.leaves(made.kernels)
    copied = [
        s for s in L.statements(kernel.body)
        if isinstance(s, L.Store) and isinstance(s.expr, L.Load)
    ]  # fmt: skip
    assert not copied


def test_short_rows_are_joined_by_themselves():
    """Loops over two elements are no loops to compute in."""
    f = lambda x, y: np.concatenate([np.exp(x[:, :2]), np.tanh(y[:, :2])], axis=1)  # noqa: E731
    made = schedule(passes.optimize(trace_like(f, X, Y).graph))
    assert [n.op for k in L.leaves(made.kernels) for n in k.nodes].count("concat") == 1
    assert len(list(L.leaves(made.kernels))) > 1


def test_sums_over_all_steps_are_added_up_in_the_loop():
    """The gradient of a bias: what a step writes is not read again for it."""

    def loss(b, x, w):
        driven = (x.reshape(-1, 64) @ w + b).reshape(*x.shape[:2], 128)
        _, hs = gc.scan(lambda h, d: (np.tanh(h + d),) * 2, np.zeros((32, 128), x.dtype), driven)
        return np.sum(np.square(hs))

    rng = np.random.default_rng(2)
    args = [rng.normal(0, 0.1, s).astype(np.float32) for s in ((128,), (96, 32, 64), (64, 128))]
    graph = trace_like(gc.grad(loss, argnums=(0, 2)), *args).graph
    optimized = passes.optimize(graph)
    assert not any(n.op == "sum" for n in optimized.order)  # but in the loop
    expected = interp.evaluate(graph, args)
    assert_same(interp.evaluate(optimized, args), expected, 1e-3)
    assert_same(native_run(graph, args), expected, 1e-3)
