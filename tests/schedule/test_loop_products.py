"""What a loop would do at each step alike is done before it: weights are packed once."""

from __future__ import annotations

import numpy as np
import pytest
import workload_schedules as workloads
from generated import assert_same, native_run, python_run
from trace_helpers import trace_like

import graphc as gc
from graphc import interp, passes
from graphc.schedule import loops as L
from graphc.schedule import schedule


def recurrence(x, w, u):
    """A wide recurrence: u has more columns than a panel, and is read transposed backwards."""

    def step(h, x):
        h = np.tanh(x @ w + h @ u)
        return h, h

    return gc.scan(step, np.zeros((x.shape[1], u.shape[0]), x.dtype), x)[1]


def nested(x, w):
    """The inner loop takes w of the outer one."""

    def step(h, x):
        inner = gc.fori_loop(0, 3, lambda _, h: np.tanh(h @ w.T), h + x)
        return inner, inner

    return gc.scan(step, np.zeros(x.shape[1:], x.dtype), x)[1]


def changing(x, w):
    """The matrix is a carry: it must be packed, or read, anew at each step."""

    def step(w, x):
        y = x @ w.T
        return w * np.float32(0.5), y

    return gc.scan(step, w, x)[1]


def arrays(*shapes):
    rng = np.random.default_rng(3)
    return [rng.normal(0, 0.3, s).astype(np.float32) for s in shapes]


CASES = {
    "recurrence": (recurrence, ((5, 4, 20), (20, 80), (80, 80))),
    "nested": (nested, ((5, 4, 72), (72, 72))),
    "changing": (changing, ((5, 4, 20), (80, 20))),
}


def packs(kernels):
    """Weights packed by these kernels, and how their products read them."""
    statements = [s for k in L.leaves(kernels) for s in statements_of(k)]
    packed = [s.product for s in statements if isinstance(s, L.Pack)]
    read = [p for s in statements if isinstance(s, L.Product) for p in s.all]
    return packed, read + [k for k in L.leaves(kernels) if isinstance(k, L.GemmKernel)]


def statements_of(kernel):
    return L.statements(kernel.body) if isinstance(kernel, L.LoopKernel) else ()


def loops_of(made):
    return [k for k in made.kernels if isinstance(k, L.LoopControl)]


@pytest.mark.parametrize("name", CASES)
def test_packed_products_are_right(name):
    f, shapes = CASES[name]
    values = arrays(*shapes)
    value_and_slope = gc.value_and_grad(lambda *a: np.sum(np.square(f(*a))), argnums=1)
    graph = trace_like(value_and_slope, *values).graph
    expected = interp.evaluate(graph, values)
    assert_same(python_run(graph, values, optimize=True), expected, 1e-4)
    assert_same(native_run(graph, values), expected, 1e-4)


def test_a_loop_packs_nothing_that_it_keeps():
    f, shapes = CASES["recurrence"]
    loss = gc.grad(lambda *a: np.sum(np.square(f(*a))), argnums=(1, 2))
    made = schedule(passes.optimize(trace_like(loss, *arrays(*shapes)).graph))
    forward, backward = loops_of(made)
    for loop in (forward, backward):
        inside, read = packs(loop.kernels)
        assert not inside
        kept = [p for p in read if p.method == "packed"]
        assert kept and all(p.b in loop.reads for p in kept)  # alive for as long as it runs
    outside, _ = packs([k for k in made.kernels if not isinstance(k, L.LoopControl)])
    assert len(outside) == 3  # w and u on the way there, u on the way back


def test_it_is_packed_before_the_outermost_loop():
    f, shapes = CASES["nested"]
    made = schedule(passes.optimize(trace_like(f, *arrays(*shapes)).graph))
    (loop,) = loops_of(made)
    assert not packs(loop.kernels)[0]
    assert len(packs(made.kernels)[0]) == 1


def test_what_a_step_changes_is_not_packed_before():
    f, shapes = CASES["changing"]
    made = schedule(passes.optimize(trace_like(f, *arrays(*shapes)).graph))
    (loop,) = loops_of(made)
    assert all(p.method != "packed" for p in packs(loop.kernels)[1])


def test_a_step_of_the_lstm_is_what_must_be_done_at_each_step():
    """W6: two products forward and one backward, weights packed before, their gradients behind."""
    made = workloads.schedule_of("W6")
    made = made[0] if isinstance(made, tuple) else made
    forward, backward = loops_of(made)
    for loop, products, kernels in ((forward, 2, 1), (backward, 1, 4)):
        packed, read = packs(loop.kernels)
        assert not packed and [p.method for p in read] == ["packed"] * products
        assert len(list(L.leaves(loop.kernels))) <= kernels
    _, outside = packs(made.kernels)
    shared = [p for p in outside if p.method == "chunks"]
    assert sorted((p.m, p.n, p.k) for p in shared) == [(512, 64, 800), (512, 128, 800)]
    assert [len(p.beside) for p in shared] == [1, 0]  # the gates' gradients are packed once
    assert all(p.method for p in outside)  # none is left to OpenBLAS
