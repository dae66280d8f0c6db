"""A main emitted without Numba's front end means what Numba's means."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same

from graphc import interp, passes, pipeline
from graphc.codegen import numba_cpu
from graphc.codegen.native_main import is_straight
from graphc.codegen.writer import write
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.runtime.executor import Executable
from graphc.schedule import schedule


def layers(count: int) -> Graph:
    """Batched and plain products, an indexed read that is checked, sizes that are symbols."""
    n = symbol("n")
    x = build.input(0, "x", tensor_type(np.float64, (n, 4)))
    w = build.input(1, "w", tensor_type(np.float64, (4, 4)))
    i = build.input(2, "i", tensor_type(np.int64, (3,)))
    h, sums = x, []
    for k in range(count):
        h = build.elementwise("tanh", build.matmul(h, w))
        if k % 4 == 0:
            sums.append(build.reduce("sum", h, (0,)))
    many = build.broadcast(w, (5, 4, 4), (1, 2))
    batched = build.reduce("sum", build.matmul(many, many), (0,))
    return Graph("layers", (x, w, i), (build.take(h, i, 0), *sums, batched))


def arrays(n=6):
    rng = np.random.default_rng(n)
    return [rng.normal(size=(n, 4)), rng.normal(size=(4, 4)) / 2, np.array([0, n - 1, 2])]


def compiled_run(graph: Graph, given):
    return Executable(pipeline.compile_graph(graph))(given)  # whatever the cache holds


def main_of(graph: Graph) -> str:
    return write(schedule(passes.optimize(graph))).main


def test_lists_of_calls_are_emitted_and_others_are_not():
    assert is_straight(main_of(layers(24)))
    loop = "def main(args, arena, ints):\n" + "    while ints[0] != 0:\n        x = 1\n" * 40
    assert not is_straight(loop)


@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.parametrize("count", [3, 24])
def test_both_ways_give_the_same(monkeypatch, straight, count):
    monkeypatch.setattr(numba_cpu, "is_straight", lambda text: straight)
    used = []
    emit = numba_cpu.emit_main
    monkeypatch.setattr(numba_cpu, "emit_main", lambda *a: used.append(1) or emit(*a))
    graph = passes.optimize(layers(count))
    given = arrays()
    assert_same(compiled_run(graph, given), interp.evaluate(graph, given), rtol=1e-10)
    assert bool(used) == straight


def test_a_failed_check_ends_an_emitted_main():
    graph = passes.optimize(layers(3))
    x, w, _ = arrays()
    with pytest.raises(IndexError, match="index 9"):
        compiled_run(graph, [x, w, np.array([0, 9, 1])])


def test_identical_layers_are_one_function():
    program = write(schedule(passes.optimize(layers(15))))  # more would be a loop
    assert len(program.calls) > 15 and len({k.text for k in program.kernels}) <= 8
