"""Kernels in parts: what they compute is the same, whatever the number of parts."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, python_run
from random_graphs import random_graph

import graphc as gc
from graphc import interp, optim, passes
from graphc.codegen import machine
from graphc.codegen.writer import write
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.schedule import loops as L
from graphc.schedule import schedule, team


@pytest.fixture
def always(monkeypatch):
    """Every kernel is worth a team."""
    for module in (team, machine):
        monkeypatch.setattr(module, "GRAIN", 1)


def mlp(p, x, y):
    h = np.maximum(x @ p["w1"] + p["b1"], 0)
    z = h @ p["w2"] + p["b2"]
    z = z - z.max(axis=1, keepdims=True)
    return -np.mean(np.sum(y * (z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))), axis=1))


def mlp_arguments(rows=70):
    rng = np.random.default_rng(0)
    p = {"w1": (20, 24), "b1": (24,), "w2": (24, 10), "b2": (10,)}
    p = {name: rng.normal(size=shape) for name, shape in p.items()}
    return p, rng.normal(size=(rows, 20)), rng.normal(size=(rows, 10))


def flat(arguments):
    p, *rest = arguments
    return [*(p[name] for name in sorted(p)), *rest]


def teams(made):
    return [k for k in made.kernels if isinstance(k, L.TeamKernel)]


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_a_training_gradient_in_parts(always, threads):
    arguments = mlp_arguments()
    graph = gc.value_and_grad(mlp).graph(*arguments)
    expected = python_run(graph, flat(arguments), optimize=True)
    found = python_run(graph, flat(arguments), optimize=True, threads=threads)
    assert_same(found, expected)
    (shared,) = teams(schedule(passes.optimize(graph), team=True))
    assert shared.finish is not None  # sums of the parts, weights' gradients among them


def test_sizes_known_at_run_time_only(always):
    n, E = symbol("n"), build.elementwise
    x = build.input(0, "x", tensor_type(np.float64, (n, 5)))
    w = build.input(1, "w", tensor_type(np.float64, (5, 8)))
    outputs = (
        build.reduce("sum", E("exp", x), (0,)), E("tanh", x), build.matmul(x, w, 0, 0),
        build.reduce("max", x, (0, 1)),
    )  # fmt: skip
    graph = Graph("symbolic", (x, w), outputs)
    assert graph.symbols
    assert len(teams(schedule(graph, team=True))) == 1
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=(1100, 5)), rng.normal(size=(5, 8))]
    for threads in (2, 4):
        assert_same(python_run(graph, arrays, False, threads), interp.evaluate(graph, arrays))


def test_more_threads_than_steps(always):
    x = np.random.default_rng(2).normal(size=(3, 40))
    graph = gc.compile(lambda x: np.cumsum(np.exp(x), axis=1).sum(axis=1)).graph(x)
    assert_same(python_run(graph, [x], threads=16), python_run(graph, [x]))


def test_an_update_in_place(always):
    arguments = mlp_arguments(64)
    optimizer = optim.adam(0.1)

    def step(params, state, x, y):
        value, grads = gc.value_and_grad(mlp)(params, x, y)
        return (*optimizer.update(params, grads, state), value)

    p, x, y = arguments
    f = gc.compile(step, donate=(0, 1))
    state = optimizer.init(p)
    graph = f.graph(p, state, x, y)

    def run(threads):
        arrays = [np.zeros(i.type.shape, i.dtype) for i in graph.inputs]
        rng = np.random.default_rng(3)
        for a in arrays:
            if a.dtype.kind == "f":
                a[...] = rng.uniform(0.1, 1, a.shape)
        return python_run(graph, arrays, True, threads)

    assert_same(run(3), run(1))


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs_in_parts(always, seed):
    graph, arrays = random_graph(seed, size=12)
    with np.errstate(all="ignore"):
        expected = interp.evaluate(graph, arrays)
    assert_same(python_run(graph, arrays, True, threads=3), expected)


def test_what_depends_on_the_step_before_stays_whole(always):
    x = np.arange(500.0)
    for f in (
        lambda x: np.cumsum(x),
        lambda x: np.argmax(x),
        lambda x: np.add.reduce(x[np.array([3, 3, 1])]),
    ):
        graph = gc.compile(f).graph(x)
        assert_same(python_run(graph, [x], True, threads=4), interp.evaluate(graph, [x]))


def test_small_kernels_stay_whole():
    graph = gc.value_and_grad(mlp).graph(*mlp_arguments())
    optimized = passes.optimize(graph)
    assert not teams(schedule(optimized, team=True))


def test_one_thread_is_scheduled_as_ever():
    x = np.zeros((512, 512), np.float32)
    graph = passes.optimize(gc.compile(lambda x: np.exp(x @ x)).graph(x))
    assert not teams(schedule(graph))
    assert "_team(" not in write(schedule(graph)).text
    assert "kernel0_team(ints" in write(schedule(graph, team=True)).text


@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_products_alone(always, ta, tb, batch):
    rng = np.random.default_rng(4)
    m, n, k = 50, 24, 300
    a = rng.normal(size=(*batch, *((k, m) if ta else (m, k))))
    b = rng.normal(size=(*batch, *((n, k) if tb else (k, n))))
    nodes = [build.input(i, f"x{i}", tensor_type(v.dtype, v.shape))
             for i, v in enumerate((a, b))]  # fmt: skip
    graph = Graph("product", tuple(nodes), (build.matmul(*nodes, ta, tb),))
    assert len(teams(schedule(graph, team=True))) == 1
    assert_same(python_run(graph, [a, b], threads=3), interp.evaluate(graph, [a, b]))


def test_a_convolution_and_what_follows(always):
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(6, 2, 12, 12)), rng.normal(size=(4, 2, 3, 3))

    def loss(w, x):
        return np.sum(gc.nn.max_pool2d(np.maximum(gc.nn.conv2d(x, w), 0), 2) ** 2)

    graph = gc.value_and_grad(loss).graph(w, x)
    assert teams(schedule(passes.optimize(graph), team=True))
    for threads in (2, 4):
        assert_same(python_run(graph, [w, x], True, threads), python_run(graph, [w, x], True))
