"""Loops of small steps keep their values in registers."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from generated import assert_same, native_run, python_run, turns
from trace_helpers import trace_like

import graphc as gc
from bench.ode import RATES, make_loss
from bench.ode import START as STATE
from graphc import interp, passes
from graphc.schedule import loops as L
from graphc.schedule import schedule

integrated = make_loss(gc.numpy.array, gc.scan, steps=50)  # Lorenz by Runge and Kutta


def filtered(x, cov, f, h, zs):
    """A Kalman filter of two states and one measurement a step."""

    def step(carry, z):
        x, cov = carry
        x, cov = f @ x, f @ cov @ f.T + 0.01 * np.eye(2)
        gain = cov @ h / (h @ cov @ h + 0.1)
        x = x + gain * (z - h @ x)
        return (x, cov - np.outer(gain, h @ cov)), x

    return gc.scan(step, (x, cov), zs)[1]


def root(x, y):
    """Newton's method with damping, as long as it takes."""

    def body(x):
        step = (x**3 - y) / (3 * x**2)
        return x - np.where(np.abs(step) > 1.0, 0.5 * step, step)

    return gc.while_loop(lambda x: np.max(np.abs(x**3 - y)) > 1e-9, body, x, max_steps=60)


def picked(x, table, at):
    """Of every step an element of a table, and of few steps a choice."""

    def step(x, k):
        x = gc.cond(k % 2 == 0, lambda x: np.tanh(x), lambda x: x * 0.5, x)
        return x + table[k], np.max(x)

    return gc.scan(step, x, at)


CASES = {
    "lorenz": (integrated, STATE, RATES),
    "its gradient": (gc.grad(integrated, argnums=(0, 1)), STATE, RATES),
    "kalman": (
        filtered, np.zeros(2), np.eye(2), np.array([[1, 0.1], [0, 1]]), np.array([1.0, 0.0]),
        np.sin(np.arange(9.0)),
    ),
    "newton": (root, np.array([1.0, 2, 3, 4]), np.array([2.0, 5, 30, 70])),
    "picked": (
        picked, np.linspace(-1, 1, 8, dtype=np.float32), np.arange(5, dtype=np.float32),
        np.array([4, 0, 2, 1]),
    ),
}  # fmt: skip


def loops_of(graph) -> list[L.LoopControl]:
    return [k for k in schedule(passes.optimize(graph)).kernels if isinstance(k, L.LoopControl)]


@pytest.mark.parametrize("case", CASES)
def test_small_steps_run_in_place(case):
    function, *arguments = CASES[case]
    graph = trace_like(function, *arguments).graph
    loops = loops_of(graph)
    assert loops and all(loop.small for loop in loops)
    expected = interp.evaluate(graph, arguments)
    assert_same(python_run(graph, arguments, optimize=True), expected)
    assert_same(native_run(graph, arguments), expected)


def test_larger_steps_do_not():
    def decayed(x):
        return gc.fori_loop(0, 50, lambda i, x: x - 0.1 * np.tanh(x), x)

    small, large = (loops_of(trace_like(decayed, np.ones(n)).graph) for n in (64, 65))
    assert [loop.small for loop in (*small, *large)] == [True, False]


def accesses(turn: list[str]) -> Counter:
    """Loads and stores of floats."""
    found = (re.search(r"\b(load|store)\b (?:double|<)", line) for line in turn)
    return Counter(match[1] for match in found if match)


def test_the_state_of_a_loop_stays_in_registers():
    """One block without memory or calls; on the way back what the way there has kept is read."""
    llvm = gc.inspect(gc.compile(integrated), STATE, RATES).llvm
    (turn,) = turns(llvm)
    assert len(turn) > 60
    assert not [line for line in turn if re.search(r"\b(load|store|alloca|call)\b", line)]
    assert "alloca" not in llvm

    llvm = gc.inspect(gc.value_and_grad(integrated, argnums=(0, 1)), STATE, RATES).llvm
    there, back = turns(llvm)
    assert accesses(there) == {"store": 2}  # three numbers, two of them at once
    assert accesses(back) == {"load": 2}


def test_rows_of_a_vector_are_one():
    """Elementwise work on four numbers is vectors of four, exponentials too."""
    x = np.ones(4, np.float32)

    def decayed(x):
        return gc.fori_loop(0, 50, lambda i, x: x - 0.1 * np.exp(x), x)

    (turn,) = turns(gc.inspect(gc.compile(decayed), x).llvm)
    text = "\n".join(turn)
    assert "<4 x float>" in text
    assert not re.search(r"\b(load|store|alloca|insertelement)\b", text)


def test_what_cannot_be_a_vector_is_no_warning(capfd):
    """LLVM writes warnings to the error stream of the process."""

    def divided(x):
        def step(s, _):
            return np.gcd(s, s[::-1] + 1) + s * 2, np.cumsum(s)

        return gc.scan(step, x, None, length=7)

    last, _ = gc.compile(divided)(np.arange(4))
    assert last.shape == (4,)
    assert capfd.readouterr().err == ""
