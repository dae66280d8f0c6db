"""Many scalars put together: one kernel that stores each where it belongs."""

import numpy as np
import pytest
from generated import assert_same, program_of, python_run

import graphc as gc
import graphc.numpy as gnp
from graphc import interp, passes, pipeline
from graphc.codegen import lower
from graphc.runtime.executor import Executable
from graphc.schedule import schedule


def system(n, gaps=True):
    """n equations and a matrix of their slopes with zeros (and ones) between."""

    def f(x):
        values, rows = [], []
        for i in range(n):
            left = x[i - 1] if i else 0.0
            e = np.exp(x[i] * left) / (1 + x[0] * x[0])
            values.append(e * np.sin(x[7 * i % n]) - 2 * x[i])
            row = [np.zeros(n - 1), gnp.array([1.0])] if gaps else []
            row[1:1] = [gnp.array([e, np.cos(x[i])])]
            rows.append(np.concatenate(row))
        return gnp.array(values), np.concatenate(rows).reshape(n, -1)

    return f


def optimized(f, *args):
    return passes.optimize(gc.compile(f).graph(*args))


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("n", [20, 60])
def test_one_kernel(n, gaps):
    x = np.linspace(-1, 1, n)
    graph = optimized(system(n, gaps), x)
    program = program_of(graph)
    assert len(program.kernels) == 1
    loops = program.text.count("for ")
    assert loops <= 1  # zeros are filled in at once
    assert_same(python_run(graph, [x]), interp.evaluate(graph, [x]))


def test_text_grows_in_proportion():
    lines = [
        len(program_of(optimized(system(n), np.ones(n))).text.splitlines()) for n in (30, 60, 120)
    ]
    assert lines[2] - lines[1] < 2.1 * (lines[1] - lines[0])


def test_native_long_kernel_of_both_dtypes(monkeypatch):
    """Long enough for vector math to be called; comparisons, selections, powers, casts."""
    n, called = 40, []
    call = lower._Lowering._called
    monkeypatch.setattr(lower._Lowering, "_called", lambda *a: called.append(a) or call(*a))

    def f(x, y):
        out = []
        for i in range(n):
            a, b = x[i], y[i]
            c = np.where((a < b) & (a != 0), np.tanh(a) ** 2.5, np.maximum(a, -b))
            out.append(c.astype(np.float64) * 2 + np.sqrt(np.abs(a)) - np.log1p(b * b))
        return gnp.array(out), gnp.array([x[i] / 3 for i in range(n)])

    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x, y = (rng.uniform(-2, 2, n).astype(dtype) for _ in range(2))
        graph = gc.compile(f).graph(x, y)
        program = program_of(passes.optimize(graph))
        assert len(program.kernels) == 1 and program.kernels[0].text.count("\n") > 300
        found = Executable(pipeline.compile_graph(graph))([x, y])
        tolerance = 2e-6 if dtype == np.float32 else 1e-13
        assert_same(found, interp.evaluate(graph, [x, y]), rtol=tolerance)
    assert len(called) == 2 * 3 * n


def test_constants_among_the_values():
    def f(x):
        parts = [np.sin(x[i]) * x[i] + i for i in range(70)]
        return np.concatenate(
            [np.full(3, 2.0), gnp.array(parts), np.zeros(100), gnp.array([5.0, x[0], 0.0]), x[1:2]]
        )

    x = np.linspace(0, 1, 70)
    graph = optimized(f, x)
    assert_same(python_run(graph, [x]), interp.evaluate(graph, [x]))


def test_a_stack_that_is_read_again_and_integer_stacks():
    def read(x):
        stacked = gnp.array([np.exp(x[i]) * x[i - 1] for i in range(80)])
        return stacked, np.sum(stacked * x)

    def integers(x):
        return gnp.array([x[i] * x[i - 1] + i for i in range(80)])

    x = np.linspace(0, 1, 80)
    for f, values in ((read, x), (integers, np.arange(80))):
        graph = optimized(f, values)
        assert_same(python_run(graph, [values]), interp.evaluate(graph, [values]))


def test_donated_memory_is_not_overwritten_early():
    def f(x):
        return gnp.array([np.sin(x[i]) + x[79 - i] for i in range(80)])

    x = np.linspace(0, 1, 80)
    graph = gc.compile(f, donate=0).graph(x)
    expected = interp.evaluate(graph, [x.copy()])
    assert_same(python_run(graph, [x.copy()], optimize=True), expected)


def test_long_loops_are_still_cut():
    def f(p):
        x, v = p[0], p[1]
        for _ in range(400):
            x, v = x + 0.1 * v, v - 0.1 * np.sin(x)
        return gnp.array([x, v])

    scheduled = schedule(optimized(f, np.ones(2)))
    assert len(scheduled.kernels) > 3
