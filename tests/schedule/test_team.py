"""Kernels in parts: what they compute is the same, whatever the number of parts."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run
from random_graphs import random_graph

import graphc as gc
from graphc import interp, optim, passes
from graphc.codegen import machine
from graphc.codegen.writer import write
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.schedule import columns, schedule, team
from graphc.schedule import loops as L


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


def test_the_gradient_of_filters_by_pieces_of_the_batch(always, monkeypatch):
    monkeypatch.setattr(team, "_PIECE", 1)
    rng = np.random.default_rng(6)
    x, w = rng.normal(size=(8, 2, 12, 12)), rng.normal(size=(4, 2, 3, 3))
    graph = gc.grad(lambda w, x: np.sum(gc.nn.conv2d(x, w) ** 2)).graph(w, x)
    made = schedule(passes.optimize(graph), team=True)
    pieces = [k for k in teams(made) if isinstance(k.shared.body[0], L.Convolve)]
    (pieces,) = [k for k in pieces if k.shared.body[0].shape.method == "sums"]
    assert pieces.extent == 8 and pieces.finish
    found = [python_run(graph, [w, x], True, threads) for threads in (1, 2, 5)]
    assert_same(found[1], found[0])
    assert all(map(np.array_equal, found[1], found[2]))  # the pieces are the same


def test_the_gradient_of_a_weight_by_pieces_of_the_batch(always, monkeypatch):
    """Each part sums over examples, so that it reads what it has computed itself."""
    monkeypatch.setattr(team, "_LONG_SUM", 8)
    rng = np.random.default_rng(7)
    x, g, w = rng.normal(size=(48, 20)), rng.normal(size=(48, 12)), rng.normal(size=(20, 12))
    graph = gc.compile(lambda x, g, w: w - 0.1 * np.tanh(x.T @ g)).graph(x, g, w)
    sums, rest = teams(schedule(passes.optimize(graph), team=True))
    assert sums.extent == 6 and sums.finish is None
    assert [n.op for n in sums.nodes] == ["matmul"] and "matmul" not in [n.op for n in rest.nodes]
    for threads in (2, 4):
        found = python_run(graph, [x, g, w], True, threads)
        assert_same(found, interp.evaluate(graph, [x, g, w]))


def test_loops_of_one_name_are_told_apart():
    """Of two inner loops over j0 the first, longer one reaches into the next step."""
    out, dtype = L.Buffer("out", np.dtype("f8"), 80, "output"), np.dtype("f8")

    def made(width):
        def row(size, start):
            index = L.variable("i0") * width + L.variable("j0") + start
            return L.For("j0", size, [L.Store(out, index, L.Lit(dtype, "1.0"))])

        main = L.For("i0", 8000, [row(8, 0), row(2, 8)])
        kernel = L.LoopKernel("k", [main], (), (out,))
        return team._Splitter(kernel, lambda b: False, None).team()

    assert made(10) is not None
    assert made(9) is None


def test_an_index_out_of_range_in_a_part(always):
    """The first in the order of the steps is named, whoever found it."""
    x, at = np.arange(60.0).reshape(20, 3), np.arange(20)

    def f(x, at):
        return np.sum(np.exp(x)[at] * 2, axis=1)

    graph = gc.compile(f).graph(x, at)
    assert any(k.status for k in teams(schedule(passes.optimize(graph), team=True)))
    assert_same(python_run(graph, [x, at], True, 3), interp.evaluate(graph, [x, at]))
    at[[3, 11, 19]] = 99, 77, 55
    text = write(schedule(passes.optimize(graph), team=True)).text
    assert "if status[0] != 0: return" in text
    with pytest.raises(IndexError, match="99"):
        python_run(graph, [x, at], True, 3)


def test_large_loops_side_by_side_are_shared_each(always):
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(6, 8)), rng.normal(size=(8, 6))
    graph = gc.compile(lambda a, b: np.concatenate([a, b.T, a * 2], axis=1)).graph(a, b)
    assert len(teams(schedule(passes.optimize(graph), team=True))) == 3
    assert_same(python_run(graph, [a, b], True, 2), interp.evaluate(graph, [a, b]))


def test_only_parts_claim_what_they_change(always):
    def step(p, x):
        return p - 0.1 * np.tanh(x.T @ x) * p

    p, x = np.ones((64, 64), np.float32), np.ones((16, 64), np.float32)
    graph = passes.optimize(gc.compile(step, donate=(0,)).graph(p, x))
    graph = Graph(graph.name, graph.inputs, graph.outputs, graph.sources, {0: 0})
    assert "claim(" not in write(schedule(graph)).text
    assert "claim(" in write(schedule(graph, team=True)).text
    arrays = [np.random.default_rng(9).normal(size=i.type.shape).astype(i.dtype)
              for i in graph.inputs]  # fmt: skip
    expected = interp.evaluate(graph, arrays)
    assert_same(python_run(graph, [a.copy() for a in arrays], False, 2), expected)


@pytest.mark.parametrize("rows", [70])
def test_a_chain_of_products_in_one_kernel(always, rows):
    """What a block has made is read by its next product; gradients of weights are added up."""
    rng = np.random.default_rng(10)
    p = {k: rng.normal(size=(16, 16)) / 4 for k in "abc"}
    x = rng.normal(size=(rows, 16))

    def loss(p, x):
        for k in "abc":
            x = np.tanh(x @ p[k])
        return np.mean(x * x)

    graph = gc.value_and_grad(loss).graph(p, x)
    (chain,) = teams(schedule(passes.optimize(graph), team=True))
    products = [s for s in L.statements(chain.body) if isinstance(s, L.Product)]
    assert sum(s.adds for s in products) == 3 and len(products) == 8
    expected = interp.evaluate(graph, flat((p, x)))
    for threads in (2, 3):
        assert_same(python_run(graph, flat((p, x)), True, threads), expected)


def test_blocks_of_rows_are_halved_evenly():
    found = [team.balanced(*case) for case in ((512, 112), (400, 64), (32, 16), (784, 16))]
    assert found == [128, 64, 16, 16]


@pytest.mark.parametrize(("tb", "open_"), [(0, False), (1, True)])
def test_a_batch_beside_a_larger_weight_is_shared_by_columns(monkeypatch, tb, open_):
    """Each part packs its own columns of the weight, whose sums are its own too."""
    monkeypatch.setattr(columns, "_ROWS", 16)
    rng = np.random.default_rng(11)
    rows, k, n = 19, 260, 320
    n_rows = symbol("n") if open_ else rows
    x, w, b = rng.normal(size=(rows, k)), rng.normal(size=(k, n)), rng.normal(size=n)
    w = np.ascontiguousarray(w.T) if tb else w
    types = [(n_rows, k), w.shape, b.shape]
    nodes = [build.input(i, f"x{i}", tensor_type(x.dtype, shape)) for i, shape in enumerate(types)]
    E = build.elementwise
    product = build.matmul(nodes[0], nodes[1], 0, tb)
    h = E("tanh", E("add", product, build.broadcast(nodes[2], (n_rows, n), (1,))))
    graph = Graph("dense", tuple(nodes), (h, build.reduce("sum", h, (0,)), E("neg", product)))
    (made,) = teams(schedule(graph, team=True))
    assert made.shared.var == "panel" and (made.extent, made.size) == (n, 64)
    assert made.finish is None  # nothing is added up over columns
    (call,) = (s for s in L.statements(made.body) if isinstance(s, L.Product))
    assert (call.n, call.of, call.method) == (64, n, "panel" if tb else "direct")
    expected = interp.evaluate(graph, [x, w, b])
    for threads in (1, 3):
        assert_same(python_run(graph, [x, w, b], False, threads), expected)
    two, three = (native_run(graph, [x, w, b], threads) for threads in (2, 3))
    assert_same(two, expected)
    assert all(map(np.array_equal, two, three))


def test_a_product_that_is_kept_is_written_by_columns():
    rng = np.random.default_rng(12)
    x, w = rng.normal(size=(18, 200)), rng.normal(size=(200, 256))
    graph = gc.compile(lambda x, w: (x @ w, np.cos(x @ w + w[0]))).graph(x, w)
    (made,) = teams(schedule(passes.optimize(graph), team=True))
    (call,) = (s for s in L.statements(made.body) if isinstance(s, L.Product))
    assert made.shared.var == "panel" and call.c_row == 256
    expected = interp.evaluate(graph, [x, w])
    assert_same(python_run(graph, [x, w], True, 3), expected)
    assert_same(native_run(graph, [x, w], threads=2), expected)


def test_what_needs_whole_rows_is_shared_by_rows():
    rng = np.random.default_rng(13)
    x, w = rng.normal(size=(18, 200)), rng.normal(size=(200, 256))

    def softmax(x, w):
        h = x @ w
        e = np.exp(h - h.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    graph = gc.compile(softmax).graph(x, w)
    (made,) = teams(schedule(passes.optimize(graph), team=True))
    assert made.shared.var == "block"
    assert_same(python_run(graph, [x, w], True, 2), interp.evaluate(graph, [x, w]))
