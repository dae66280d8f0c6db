"""Gradients of weights leave the loops that add them up; values stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from test_control_passes import loops, optimized

import graphc as gc
from graphc.ad import transforms

RNG = np.random.default_rng(4)
X, W, U = (RNG.normal(0, 0.4, s) for s in ((6, 5, 8), (8, 12), (12, 12)))


def recurrence(w, u, x, **options):
    def step(h, x):
        h = np.tanh(x @ w + h @ u)
        return h, h

    return gc.scan(step, np.zeros((x.shape[1], u.shape[0])), x, **options)[1]


def gradient_of(f, wrt=(0, 1)):
    return transforms.grad(lambda *a: (f(*a) ** 2).sum(), argnums=wrt)


def sums_in(loop):
    """Products that a body adds to a carry."""
    outputs = loop.attr("body").outputs[: loop.attr("carries")]
    return [o for o in outputs if o.op == "add" and any(i.op == "matmul" for i in o.inputs)]


def products_of_all_steps(graph):
    """The lengths of the sums of products behind the loops."""
    products = [n for n in graph.order if n.op == "matmul" and n.attr("ta")]
    return [n.inputs[0].shape[0] for n in products]


def test_each_weight_has_one_product_behind_the_loop():
    graph = optimized(gradient_of(recurrence), W, U, X)
    _, backward = loops(graph)
    assert not sums_in(backward)
    assert backward.attr("carries") == 1  # the cotangent of h: no sums are left
    assert products_of_all_steps(graph) == [30, 30]


def test_what_is_there_is_not_stacked_again():
    """x is an argument and h is on the tape: of the backward loop only the cotangent is kept."""
    graph = optimized(gradient_of(recurrence), W, U, X)
    forward, backward = loops(graph)
    assert len(backward.attr("body").outputs) == 2
    assert len(forward.attr("body").outputs) - forward.attr("carries") == 2


def test_a_start_that_is_not_zero_is_added():
    def f(total, x):
        return gc.scan(lambda total, x: (total + x.T @ x, None), total, x)[0]

    graph = optimized(f, np.ones((8, 8)), X)
    assert not loops(graph) and products_of_all_steps(graph) == [30]


def test_steps_backwards_and_sums_beside_other_carries():
    def f(x):
        def step(carry, x):
            h, total = carry
            h = np.tanh(h + x)
            return (h, total + h.T @ x), h

        return gc.scan(step, (np.zeros((5, 8)), np.zeros((8, 8))), x, reverse=True)

    (loop,) = loops(optimized(f, X))
    assert not sums_in(loop)


@pytest.mark.parametrize("name", ["sum is read", "large factor", "checkpoint", "while"])
def test_what_stays_in_the_loop(name):
    wide = RNG.normal(0, 0.1, (4, 5, 90))

    def sum_is_read(x):
        return gc.scan(lambda t, x: (t + x.T @ x, np.tanh(t).sum()), np.zeros((8, 8)), x)

    def large_factor(x):
        """Two arrays of 5 x 90 would have to be kept for a sum of 4 x 4."""

        def step(carry, x):
            y = np.tanh(x + carry[0])
            return (y, carry[1] + y[:, :4].T @ np.sin(y[:, 4:8])), None

        return gc.scan(step, (x[0] * 0, np.zeros((4, 4))), x)[0]

    def unknown(x):
        def step(c):
            return np.tanh(c[0] * 1.5), c[1] + c[0].T @ np.cos(c[0])

        return gc.while_loop(lambda c: c[0].sum() < 30, step, (x, np.zeros((8, 8))))

    if name == "checkpoint":
        graph = optimized(gradient_of(lambda *a: recurrence(*a, checkpoint=2)), W, U, X)
        outer = [n for n in loops(graph) if n.attr("remat")]
        assert all(n.attr("carries") >= 2 for n in outer if n.attr("reverse"))
        return
    f, x = {
        "sum is read": (sum_is_read, X),
        "large factor": (large_factor, wide),
        "while": (unknown, np.abs(X[0])),
    }[name]
    assert any(sums_in(loop) for loop in loops(optimized(f, x)))
