"""Products of all steps move into the loop that reads them; values stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from test_control_passes import loops, optimized

import graphc as gc
from graphc.ad import transforms

RNG = np.random.default_rng(5)
X, W, U, B = (RNG.normal(0, 0.1, s) for s in ((40, 16, 40), (256, 40), (64, 256), (256,)))


def recurrence(w, u, b, x, more=lambda driven: 0.0):
    """``x @ w.T + b`` of all steps at once, before the loop."""
    time, batch, size = x.shape
    driven = (x.reshape(time * batch, size) @ w.T + b).reshape(time, batch, len(b))

    def step(h, z):
        z = z + h @ u
        h = np.tanh(z[:, :64]) + z[:, 64:128]
        return h, h

    return gc.scan(step, np.zeros((batch, 64)), driven)[1].sum() + more(driven)


def products(graph):
    return [n for n in graph.order if n.op == "matmul"]


def test_a_product_that_only_the_loop_reads_is_in_the_loop():
    graph = optimized(recurrence, W, U, B, X)
    (loop,) = loops(graph)
    assert not products(graph) and len(products(loop.attr("body"))) == 2
    assert [x.shape for x in loop.inputs[1:2]] == [X.shape]  # x itself is what the steps read


def test_gradients_keep_it_there():
    graph = optimized(transforms.grad(recurrence, argnums=(0, 1, 2)), W, U, B, X)
    forward, _ = loops(graph)
    assert len(products(forward.attr("body"))) == 2


@pytest.mark.parametrize("name", ["read elsewhere", "few rows", "small", "wide x"])
def test_what_stays_before_the_loop(name):
    more = {"read elsewhere": lambda driven: np.sum(np.sin(driven))}.get(name, lambda _: 0.0)
    x, w = {"few rows": (X[:, :2], W), "small": (X[:2], W)}.get(name, (X, W))
    if name == "wide x":
        x, w = RNG.normal(size=(40, 16, 200)), RNG.normal(0, 0.1, (256, 200))
    graph = optimized(lambda w, u, b, x: recurrence(w, u, b, x, more), w, U, B, x)
    assert len(products(graph)) == 1
