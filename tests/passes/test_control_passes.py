"""Loops are merged, trimmed and freed of what no step changes; values stay the same."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import interp
from graphc.ad import transforms
from graphc.passes import optimize

X = np.random.default_rng(0).normal(size=(5, 3))


def optimized(f, *arguments):
    """The optimized graph; its values are compared first."""
    graph = gc.compile(f).graph(*arguments)
    made = optimize(graph, check=True)
    arrays = [np.asarray(a) for a in arguments]
    pairs = zip(interp.evaluate(made, arrays), interp.evaluate(graph, arrays), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    return made


def loops(graph):
    return [n for n in graph.order if n.op == "loop"]


def tanh_rnn(w, x):
    return gc.scan(lambda h, e: ((z := np.tanh(h @ w + e)), z), np.zeros(3), x)


W = np.random.default_rng(1).normal(size=(3, 3))


def test_the_value_comes_from_the_forward_loop_of_the_gradient():
    graph = optimized(transforms.value_and_grad(lambda w, x: (tanh_rnn(w, x)[1] ** 2).sum()), W, X)
    forward, backward = loops(graph)
    assert not forward.attr("reverse") and backward.attr("reverse")


def test_a_loop_of_unknown_length_is_merged_with_its_tape():
    def root(a):
        return gc.while_loop(lambda x: abs(x * x - a) > 1e-9, lambda x: (x + a / x) / 2, a)

    graph = optimized(transforms.value_and_grad(root), 2.0)
    assert [n.attr("reverse") for n in loops(graph)] == [0, 1] and len(graph.tapes) == 1


def test_two_loops_over_one_stack_are_one_if_one_contains_the_other():
    def f(x):
        total = gc.scan(lambda c, e: (c + e.sum(), None), 0.0, x)[0]
        steps = gc.scan(lambda c, e: (c + e.sum(), c), 0.0, x)[1]
        return total, steps

    assert len(loops(optimized(f, X))) == 1


def test_other_loops_stay_apart():
    def f(x):
        total = gc.scan(lambda c, e: (c + e.sum(), None), 0.0, x)[0]
        after = gc.scan(lambda c, e: (c + e.sum(), None), total, x)[0]
        backwards = gc.scan(lambda c, e: (c + e.sum(), None), 0.0, x, reverse=True)[0]
        return after + backwards + gc.scan(lambda c, e: (c * e.sum(), None), 0.0, x)[0]

    assert len(loops(optimized(f, X))) >= 3


def test_results_that_nobody_reads_are_not_computed():
    def f(x):
        def step(state, e):
            a, b, c = state
            return (a + e.sum(), np.exp(b) + e.sum(), c), (np.sin(e), a)

        (_, _, c), (_, p) = gc.scan(step, (0.0, 0.0, 2.0), x)
        return p * c

    (loop,) = loops(optimized(f, X))
    assert loop.attr("carries") == 1 and len(loop.type.items) == 2
    assert not {"exp", "sin"} & {n.op for n in loop.attr("body").order}


def test_a_side_of_a_choice_known_before_is_taken():
    def f(x):
        return gc.scan(lambda c, e: (gc.cond(np.zeros(()) + c * 0 == c * 0 + 1, lambda: c,
                                             lambda: c + e.sum()), None), 0.0, x)[0]  # fmt: skip

    optimized(f, X)
    graph = optimized(lambda x: gc.cond(x.sum() * 0 == 0, lambda: x, lambda: np.exp(x)), X)
    assert len(graph.outputs) == 1


@pytest.mark.parametrize("reverse", [False, True])
def test_what_no_step_changes_is_done_once(reverse):
    def f(w, x):
        return gc.scan(lambda c, e: (c + (np.exp(w) @ e).sum(), None), 0.0, x, reverse=reverse)[0]

    graph = optimized(f, W, X)
    (loop,) = loops(graph)
    assert "exp" in {n.op for n in graph.order}
    assert "exp" not in {n.op for n in loop.attr("body").order}
