"""Carries that a loop stacks are in memory once: what a step makes is what the next one reads."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run
from trace_helpers import trace_like

import graphc as gc
from graphc import interp, passes
from graphc.schedule import loops as L
from graphc.schedule import schedule

W = np.random.default_rng(0).normal(0, 0.4, (6, 6)).astype(np.float32)


def states(x, w, reverse=False):
    """A recurrence with all its states; none of them is an output by itself."""

    def step(h, x):
        h = np.tanh(x + h @ w)
        return h, h

    last, every = gc.scan(step, np.zeros(x.shape[1:], x.dtype), x, reverse=reverse)
    return every * np.float32(2), last + np.float32(1)


def backwards(x, w):
    return states(x, w, reverse=True)


def befores(x, w):
    """What each step began with."""
    _, every = gc.scan(lambda h, x: (np.tanh(x + h @ w), h), x[0], x)
    return every + np.float32(1)


def slopes(x, w):
    """The gradient by w needs all states, before and after each step."""
    return gc.grad(lambda w: np.sum(np.square(states(x, w)[0])))(w)


def shifted(x, w):
    """What one carry becomes is what another one was."""

    def step(carry, x):
        h, _ = carry
        return (np.tanh(x + h @ w), h), h

    (_, before), every = gc.scan(step, (x[0], x[1]), x)
    return every * before


def nested(x, w):
    def step(total, x):
        def inner(h, _):
            h = np.tanh(h @ w)
            return h, h

        _, every = gc.scan(inner, x, None, length=3)
        total = total + np.sum(every, axis=0)
        return total, total

    return gc.scan(step, np.zeros(x.shape[1:], x.dtype), x)[1] + np.float32(1)


CASES = {f.__name__: f for f in (states, backwards, befores, slopes, shifted, nested)}


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_histories_are_right(name, steps):
    x = np.random.default_rng(1).normal(size=(max(steps, 2), 20, 6)).astype(np.float32)[:steps]
    x = x if name != "shifted" or steps > 1 else np.concatenate([x, x])
    graph = trace_like(CASES[name], x, W).graph
    expected = interp.evaluate(graph, [x, W])
    assert_same(python_run(graph, [x, W], optimize=True), expected)
    if steps > 1:
        assert_same(native_run(graph, [x, W]), expected)


def test_what_a_step_makes_is_not_copied():
    x = np.zeros((5, 20, 6), np.float32)
    for name, kernels in (("states", 1), ("backwards", 1), ("slopes", 1)):
        made = schedule(passes.optimize(trace_like(CASES[name], x, W).graph))
        forward = next(k for k in made.kernels if isinstance(k, L.LoopControl))
        assert len(list(L.leaves(forward.kernels))) == kernels
        whole = {p.base.base for p in forward.parts if isinstance(p.base, L.View)}
        assert [b.size for b in whole] == [(5 + 1) * 20 * 6]


def test_results_of_the_program_have_memory_of_their_own():
    """Nothing of it is part of something larger."""

    def f(x, w):
        return gc.scan(lambda h, x: (np.tanh(x + h @ w),) * 2, np.zeros((20, 6), x.dtype), x)

    x = np.random.default_rng(1).normal(size=(5, 20, 6)).astype(np.float32)
    graph = trace_like(f, x, W).graph
    assert not schedule(passes.optimize(graph)).views
    expected = interp.evaluate(graph, [x, W])
    assert_same(python_run(graph, [x, W], optimize=True), expected)
