"""Random graphs: generated code against the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, precision, program_of, python_run
from random_graphs import random_graph

from graphc import interp, pipeline
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.schedule import schedule

E = build.elementwise


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_as_python(first, optimize):
    for seed in range(first, first + 20):
        graph, arrays = random_graph(seed, size=24)
        expected = interp.evaluate(graph, arrays)
        found = python_run(graph, arrays, optimize=optimize)
        assert_same(found, expected, precision(graph), f"seed {seed}")


@pytest.mark.parametrize("first", [1000, 1100])
def test_large_as_python(first):
    for seed in range(first, first + 6):
        graph, arrays = random_graph(seed, size=120)
        expected = interp.evaluate(graph, arrays)
        assert_same(python_run(graph, arrays), expected, precision(graph), f"seed {seed}")


@pytest.mark.parametrize("seed", range(300, 312))
def test_compiled(seed):
    graph, arrays = random_graph(seed)
    expected = interp.evaluate(graph, arrays)
    assert_same(native_run(graph, arrays), expected, precision(graph), f"seed {seed}")


def symbolic_graph() -> Graph:
    n, m = symbol("n"), symbol("m")
    x = build.input(0, "x", tensor_type(np.float64, (n, 3)))
    y = build.input(1, "y", tensor_type(np.float64, (3, m)))
    v = build.input(2, "v", tensor_type(np.float64, (n,)))
    back = build.slice_(x, (n - 1, 2), (n, 3), (-1, -1))
    z = build.matmul(x, y)
    total = build.reduce("sum", E("exp", back), (0,))
    count = build.size(n * m + 1, np.float64)
    flat = build.reshape(E("tanh", z), (n * m,))
    return Graph("f", (x, y, v), (
        back, total, E("div", build.reduce("sum", z, (0, 1)), count), flat,
        build.concat((x, build.pad(back, (1, 0), (0, 0))), 0),
        build.transpose(z, (1, 0)), build.iota((n, m), 0, np.float64),
        E("mul", z, build.broadcast(v, (n, m), (0,))),
        build.reduce("sum", E("mul", x, back), (1,)),
        build.matmul(x, x, 1, 0), build.matmul(x, x, 0, 1), build.broadcast(total, (n, m, 3), (2,)),
        build.matmul(build.reshape(v, (1, n)), x),
    ))  # fmt: skip


@pytest.mark.parametrize("run", ["python", "native"])
def test_symbolic_sizes_share_one_program(run):
    graph = symbolic_graph()
    executable = pipeline.build(graph) if run == "native" else None
    rng = np.random.default_rng(5)
    for n, m in [(5, 4), (1, 1), (0, 3), (2, 0), (1, 7), (33, 17), (0, 0), (5, 4)]:
        arrays = [rng.normal(size=s) for s in [(n, 3), (3, m), (n,)]]
        found = executable(arrays) if executable else python_run(graph, arrays)
        assert_same(found, interp.evaluate(graph, arrays), label=f"n={n} m={m}")


def test_symbol_names_that_a_program_uses_itself():
    names = ["i0", "j1", "a0", "o1", "in", "size", "status", "range", "lambda", "t1", "exp", "at"]
    names += ["main", "args", "tmp0", "dim_x", "c0", "batch", "k"]
    inputs, outputs, arrays = [], [], []
    for k, name in enumerate(names):
        shape = (symbol(name), 3)
        x = build.input(k, f"x{k}", tensor_type(np.float64, shape))
        inputs.append(x)
        e = E("exp", E("mul", x, build.full_like(x, 2.0)))
        row = build.broadcast(build.reduce("sum", e, (0,)), shape, (1,))
        outputs.append(
            E("div", E("mul", e, build.broadcast(build.size(shape[0], "f8"), shape, ())), row)
        )
        arrays.append(np.random.default_rng(k).normal(size=(k + 2, 3)))
    graph = Graph("f", tuple(inputs), tuple(outputs))
    assert_same(python_run(graph, arrays), interp.evaluate(graph, arrays))
    compile(program_of(graph).text, "program", "exec")


def chain(length: int, step) -> Graph:
    x = build.input(0, "x", tensor_type(np.float64, (7,)))
    y = x
    for k in range(length):
        y = step(y, k)
    return Graph("chain", (x,), (y,))


def test_a_deep_elementwise_chain():
    graph = chain(2000, lambda y, k: E(("sin", "tanh", "sigmoid", "arctan")[k % 4], y))
    scheduled = schedule(graph)
    assert len(scheduled.kernels) <= 2000 // 60
    array = np.linspace(-1, 1, 7)
    assert_same(python_run(graph, [array]), interp.evaluate(graph, [array]))


@pytest.mark.parametrize(
    "step",
    [
        lambda y, k: build.make("stop_gradient", (y,)),
        lambda y, k: E("neg", y),
        lambda y, k: build.slice_(build.pad(y, (1,), (0,)), (k % 2,), (7,), (1,)),
        lambda y, k: build.slice_(y, (6,), (7,), (-1,)),
        lambda y, k: build.make("cast", (y,), dtype="float64"),
        lambda y, k: build.reshape(build.transpose(build.reshape(y, (1, 7)), (1, 0)), (7,)),
        lambda y, k: build.take(y, build.const(np.arange(7)[::-1].copy(), np.int64), 0),
        lambda y, k: E("add", y, build.slice_(y, (6,), (7,), (-1,))) if k < 40 else E("neg", y),
    ],
)
def test_deep_chains_of_what_is_folded(step):
    graph = chain(1200, step)
    array = np.linspace(-1, 1, 7)
    assert_same(python_run(graph, [array]), interp.evaluate(graph, [array]))


def test_work_grows_with_the_graph_not_its_square(monkeypatch):
    """Counted, not timed: how often fusion looks at a pair of groups."""
    from graphc.schedule.fuse import Fusion

    counts = {}
    for length in (250, 1000):
        calls = []
        original = Fusion._successors

        def counted(self, *given, original=original, calls=calls):
            calls.append(1)
            return original(self, *given)

        monkeypatch.setattr(Fusion, "_successors", counted)
        schedule(chain(length, lambda y, k: E("sin", y)))
        monkeypatch.setattr(Fusion, "_successors", original)
        counts[length] = len(calls)
    assert counts[1000] < 6 * counts[250]


@pytest.mark.parametrize(
    "make",
    [
        lambda x, at: build.take(E("erf", E("exp2", build.reshape(x, (1,)))), at, 0),
        lambda x, at: build.take(build.reshape(E("erf", E("exp2", x)), (1,)), at, 0),
        lambda x, at: E("exp", build.take(build.reshape(E("sin", x), (1, 1)), at, 1)),
    ],
)
def test_single_values_read_at_an_index_are_stored_before(make):
    x = build.input(0, "x", tensor_type(np.float64, ()))
    graph = Graph("f", (x,), (make(x, build.const(0, np.int64)),))
    array = np.array(0.7)
    assert_same(python_run(graph, [array]), interp.evaluate(graph, [array]))


def test_a_total_read_at_an_index_after_its_loop():
    x = build.input(0, "x", tensor_type(np.float64, (5,)))
    total = build.reshape(build.reduce("sum", x, (0,)), (1,))
    graph = Graph("f", (x,), (build.take(E("exp", total), build.const(0, np.int64), 0),))
    array = np.linspace(0, 1, 5)
    assert_same(python_run(graph, [array]), interp.evaluate(graph, [array]))


@pytest.mark.parametrize(
    "shape, axes", [((1, 3, 1), (1,)), ((2, 3, 1), (1,)), ((1, 3, 1, 4), (1, 3))]
)
def test_reductions_before_axes_of_size_one(shape, axes):
    x = build.input(0, "x", tensor_type(np.float64, shape))
    total = build.reduce("sum", x, (0, 1, *range(2, len(shape))))
    most = build.reduce("max", E("sin", x), axes)
    graph = Graph("f", (x,), (E("add", most, build.broadcast(total, most.shape, ())),))
    array = np.random.default_rng(0).normal(size=shape)
    assert_same(python_run(graph, [array]), interp.evaluate(graph, [array]))
