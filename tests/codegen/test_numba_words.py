"""Generated text is Numba's too: compiled by Numba it computes what our own lowering computes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from generated import assert_same, program_of
from random_graphs import ALL, random_graph
from test_scalar_rows import ROWS

from graphc import passes, pipeline
from graphc.codegen.native import compile_program
from graphc.codegen.native_words import native_words
from graphc.codegen.numba_words import numba_function, numba_words
from graphc.codegen.writer import write
from graphc.errors import GraphcError
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.ops import OPS
from graphc.ir.types import tensor_type
from graphc.runtime.executor import Binding, Executable, pointer
from graphc.schedule import schedule

OF_INTEGERS = {
    "bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift", "gcd",
    "bitwise_count",
}  # fmt: skip


def assert_both_agree(graph: Graph, arrays, **tolerance) -> None:
    scheduled = schedule(passes.optimize(graph))
    program = write(scheduled)
    object_code = compile_program(program).object_code
    artifact = pipeline.package(graph, scheduled, program, object_code, 0)
    binding = Binding(artifact, {})
    found = binding.new_outputs()
    for k, array in enumerate([*arrays, *found]):
        binding.table[k] = pointer(array)
    numba_function(program)(*binding.call_arguments)
    assert_same(found, Executable(artifact)(arrays), **tolerance)


def rows_graph(dtype: np.dtype) -> Graph:
    """Every elementwise row that the dtype has, on the same arguments."""
    kind = tensor_type(dtype, (37,))
    given = [build.input(k, name, kind) for k, name in enumerate("abc")]
    results = []
    for name in ROWS:
        if dtype.kind == "f" and name in OF_INTEGERS:
            continue
        arity = OPS[name].arity
        operands = given[:arity]
        if name == "where":
            operands = [build.elementwise("lt", *given[:2]), *given[1:]]
        attrs = {"dtype": "int64"} if name == "cast" else {}
        try:
            results.append(build.make(name, tuple(operands), **attrs))
        except GraphcError:  # not of this dtype
            continue
    return Graph("rows", tuple(given), tuple(results))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint64])
def test_every_row(dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(1, 9, 37).astype(dtype) for _ in "abc"]
    graph = rows_graph(np.dtype(dtype))
    assert len(graph.outputs) > 15
    # Numba contracts no products and sums.
    tolerance = {np.float32: 2e-6, np.float64: 1e-14}.get(dtype, 0)
    assert_both_agree(graph, arrays, rtol=tolerance)


@pytest.mark.parametrize("seed", [304, 302])
def test_random_programs(seed):
    graph, arrays = random_graph(seed, ops=[op for op in ALL if op != "matmul"])
    assert_both_agree(graph, arrays, rtol=1e-5)


def test_sorting_is_text_of_loops_and_branches():
    keys = build.input(0, "keys", tensor_type(np.float64, (3, 40)))
    values = np.random.default_rng(1).integers(0, 9, (3, 40)).astype(float)
    values[1, ::7] = np.nan
    assert_both_agree(Graph("order", (keys,), (build.argsort(keys, 1),)), [values], rtol=0)


def test_every_word_is_a_word_of_numba():
    assert numba_words().keys() >= native_words().keys()
    text = program_of(rows_graph(np.dtype(np.float32))).text
    text += program_of(rows_graph(np.dtype(np.int64))).text
    used = set(re.findall(r"(\w+)\(", text)) & native_words().keys()
    assert len(used) > 50  # what the test of rows compares is most of the words
