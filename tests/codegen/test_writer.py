"""The text of programs: few functions, shared where equal, readable and deterministic."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from generated import assert_same, native_run, program_of, python_run
from workload_schedules import graph_of, schedule_of

from graphc import interp, passes
from graphc.codegen.machine import python_words
from graphc.codegen.scalar import symbol_name
from graphc.codegen.writer import write
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, Source
from graphc.ir.types import tensor_type
from graphc.schedule import schedule

E = build.elementwise


def layers(sizes, dtype=np.float32) -> Graph:
    inputs, outputs = [], []
    for k, size in enumerate(sizes):
        x = build.input(k, f"x{k}", tensor_type(dtype, (size,)))
        inputs.append(x)
        outputs.append(E("add", E("mul", x, x), x))
    return Graph("f", tuple(inputs), tuple(outputs))


def test_equal_kernels_are_one_function_whatever_their_size():
    program = program_of(layers([3, 4, 5, 600]))
    assert len(program.kernels) == 1 and program.calls == ("kernel0",) * 4
    assert program.main.count("kernel0(") == 4


def test_kernels_of_equal_text_but_other_dtypes_are_two():
    x = build.input(0, "x", tensor_type(np.float32, (3,)))
    y = build.input(1, "y", tensor_type(np.float64, (4,)))
    graph = Graph("f", (x, y), (E("mul", x, x), E("mul", y, y)))
    program = program_of(graph)
    assert len(program.kernels) == 2
    assert program.kernels[0].parameters[0].kind == "f32"
    assert program.kernels[1].parameters[0].kind == "f64"
    arrays = [np.ones(3, np.float32) * 3, np.ones(4) * 5]
    assert_same(native_run(graph, arrays), interp.evaluate(graph, arrays))


def test_user_lines_are_comments_and_change_no_program():
    graph = layers([3, 4])
    lines = {n: Source("/home/me/status n.py", 7 + k) for k, n in enumerate(graph.order)}
    with_lines = Graph(graph.name, graph.inputs, graph.outputs, lines)
    program = program_of(with_lines)
    assert "# status n.py:" in program.text
    assert len(program.kernels) == 1
    assert_same(
        python_run(with_lines, [np.ones(3, "f4"), np.ones(4, "f4")]),
        interp.evaluate(graph, [np.ones(3, "f4"), np.ones(4, "f4")]),
    )


def test_text_is_deterministic():
    texts = {program_of(layers([3, 4, 5])).text for _ in range(3)}
    assert len(texts) == 1


def test_sizes_are_parameters_only_where_they_vary():
    n = symbol("n")
    x = build.input(0, "x", tensor_type(np.float32, (n, 8)))
    program = program_of(Graph("f", (x,), (build.reduce("sum", x, (0,)),)))
    (kernel,) = program.kernels
    assert [p.kind for p in kernel.parameters] == ["f32", "f32", "dim"]
    assert "n = ints[2]" in program.main and "range(8)" in kernel.text


def test_transposes_and_slices_cost_no_copy():
    x = build.input(0, "x", tensor_type(np.float32, (6, 4)))
    y = build.slice_(build.transpose(x, (1, 0)), (3, 0), (2, 3), (-1, 2))
    program = program_of(Graph("f", (x,), (E("exp", y),)))
    assert len(program.calls) == 1 and "temporary" not in program.main


def test_index_checks_return_at_once():
    table = build.input(0, "t", tensor_type(np.float32, (9, 4)))
    index = build.input(1, "i", tensor_type(np.int64, (5,)))
    rows = build.take(table, index, 0)
    product = build.matmul(rows, build.transpose(rows, (1, 0)))
    main = program_of(Graph("f", (table, index), (product,))).main.splitlines()
    call = next(k for k, line in enumerate(main) if "kernel0(" in line)
    assert main[call + 1].strip() == "if status[0] != 0: return"


def identifiers(text: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(text)))
    found = {n.id for n in nodes if isinstance(n, ast.Name)}
    found |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return found | {n.name for n in nodes if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize("name", ["digits", "W2b", "W5", "W6"])
def test_no_dimension_has_a_name_that_a_program_uses(name):
    """Products in blocks, convolutions, pools, loops with histories, teams."""
    scheduled, sizes = schedule_of(name)
    graph, _ = graph_of(name)
    texts = [write(scheduled).text]
    if name == "digits":
        texts.append(write(schedule(passes.optimize(graph), team=True)).text)
    used = set().union(*map(identifiers, texts)) - set(map(symbol_name, sizes))
    assert [i for i in sorted(used) if symbol_name(i) == i] == []
    assert [i for i in python_words() if symbol_name(i) == i] == []


@pytest.mark.parametrize("name", ["block", "claim", "view0", "kernel0_team"])
def test_dimensions_may_be_called_as_a_program_calls_its_own_things(name):
    n = symbol(name)
    x = build.input(0, "x", tensor_type(np.float32, (n, 32)))
    w = build.input(1, "w", tensor_type(np.float32, (32, 32)))
    total = build.reduce("sum", E("tanh", build.matmul(x, w)), (1,))
    graph = Graph("f", (x, w), (total,))
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((300, 32), (32, 32))]
    assert_same(python_run(graph, arrays), interp.evaluate(graph, arrays))
