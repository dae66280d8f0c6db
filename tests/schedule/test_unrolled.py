"""Unrolled loops over scalars: work that grows with the program, functions that do not."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import passes
from graphc.codegen.writer import write
from graphc.schedule import schedule
from graphc.schedule.fuse import Fusion, _parts

START = np.array([4.0, 0.3, 1.1])


def euler(steps):
    def loss(p):
        x, v, total = 1.0, 0.0, 0.0
        for _ in range(steps):
            total = total + (x - 0.5) ** 2
            x, v = x + 0.1 * v, v + 0.1 * (-p[0] * x - p[1] * v)
        return total

    return loss


def runge_kutta(steps):
    """The state is a stacked vector of two."""

    def loss(p):
        s, total, dt = np.stack([p[2], 0.0]), 0.0, 0.05
        for _ in range(steps):
            total += (s[0] - 0.5) ** 2
            k1 = slope(p, s)
            k2 = slope(p, s + dt / 2 * k1)
            k3 = slope(p, s + dt / 2 * k2)
            s = s + dt / 6 * (k1 + 4 * k2 + slope(p, s + dt * k3))
        return total

    def slope(p, s):
        return np.stack([s[1], -p[0] * s[0] - p[1] * s[1]])

    return loss


def gradient_schedule(loss):
    return schedule(passes.optimize(gc.value_and_grad(loss).graph(START)))


@pytest.mark.parametrize("program", [euler, runge_kutta])
def test_more_steps_need_no_more_functions(program):
    short, long = (len(write(gradient_schedule(program(n))).kernels) for n in (40, 80))
    assert long <= short <= 24  # those of two loops and of what surrounds them


def test_a_stacked_state_becomes_scalars():
    made = gradient_schedule(runge_kutta(12))
    assert len(made.kernels) < 20
    assert sum(n.op == "concat" for n in made.graph.order) <= 1  # the gradient of p


@pytest.mark.parametrize("program", [euler, runge_kutta])
def test_grouping_takes_work_in_proportion_to_the_program(program, monkeypatch):
    calls = 0
    decide, successors = Fusion.can_fuse, Fusion._successors

    def counted(method):
        def run(self, *args):
            nonlocal calls
            calls += 1
            return method(self, *args)

        return run

    monkeypatch.setattr(Fusion, "can_fuse", counted(decide))
    monkeypatch.setattr(Fusion, "_successors", counted(successors))
    work = []
    for steps in (40, 80):
        calls = 0
        gradient_schedule(program(steps))
        work.append(calls + steps)
    assert work[1] <= 2.2 * work[0]


def test_parts_are_whole_periods_and_cover_the_run():
    shapes = [("head", k) for k in range(7)] + [("step", k % 30) for k in range(600)]
    parts = _parts(shapes)
    assert [s for p in parts for s in shapes[p]] == shapes
    sizes = [p.stop - p.start for p in parts]
    assert sizes[0] == 7 and set(sizes[1:-2]) == {90}


def test_values_and_gradients_of_cut_programs():
    for program in (euler, runge_kutta):
        loss = program(30)
        value, grad = gc.value_and_grad(loss)(START)
        np.testing.assert_allclose(value, loss(START), rtol=1e-12)
        for k in range(3):
            step = np.eye(3)[k] * 1e-6
            slope = (loss(START + step) - loss(START - step)) / 2e-6
            np.testing.assert_allclose(grad[k], slope, rtol=1e-5, atol=1e-6)
