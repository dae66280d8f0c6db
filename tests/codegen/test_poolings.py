"""Pooling by code that takes rows apart: three methods, every vector width, NaN and ties."""

from __future__ import annotations

import ctypes
import itertools

import llvmlite.binding as llvm
import numpy as np
import pytest
from generated import assert_same, native_run, program_of, python_run

import graphc as gc
from graphc import interp, passes
from graphc.codegen.llvm_backend import target
from graphc.codegen.machine import pooling_word
from graphc.codegen.pooling import poolings_module
from graphc.codegen.program import PoolingFunction
from graphc.codegen.tiles import Registers
from graphc.schedule.pooling import Pooling

MACHINES = {"avx512": Registers(32, 64), "avx2": Registers(16, 32), "sse": Registers(16, 16)}
SHAPES = [(3, 2, 13, 2), (4, 3, 5, 1), (2, 4, 40, 4), (1, 1, 16, 2), (2, 2, 37, 2), (5, 1, 1, 4)]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_native_functions_of_all_methods(machine, dtype):
    rng, kind = np.random.default_rng(0), f"f{8 * np.dtype(dtype).itemsize}"
    functions = [
        PoolingFunction(f"p{i}", kind, Pooling(method, *shape))
        for i, (method, shape) in enumerate(itertools.product(("max", "count", "spread"), SHAPES))
    ]
    target()
    text = poolings_module(functions, MACHINES[machine], llvm.get_process_triple())
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), target().create_target_machine())
    engine.finalize_object()
    for function in functions:
        p = function.shape
        small, large = p.rows * p.columns, p.rows * p.columns * p.down * p.across
        around = np.full(large + 128, np.nan, dtype)  # reading beyond would show
        x = around[64 : 64 + large]
        x[...] = rng.integers(0, 3, large)  # ties
        x[rng.random(large) < 0.05] = np.nan
        m = np.empty(small, dtype)
        pooling_word(Pooling("max", p.rows, p.down, p.columns, p.across))(x, m)
        operands = [x, m, rng.normal(size=small).astype(dtype)]
        operands = operands[: {"max": 1, "count": 2, "spread": 3}[p.method]]
        found, expected = np.full((2, (large if p.method == "spread" else small) + 32), 77, dtype)
        call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(operands) + 1))
        arguments = [*operands, found]
        call(engine.get_function_address(function.name))(*(a.ctypes.data for a in arguments))
        pooling_word(p)(*operands, expected)
        np.testing.assert_array_equal(found, expected, err_msg=function.text)


@pytest.mark.parametrize("size", [2, (3, 4), (4, 2)])
@pytest.mark.parametrize("shape", [(2, 3, 12, 12), (1, 1, 7, 9), (3, 2, 6, 40)])
def test_pools_and_their_gradients_are_calls(shape, size):
    rng = np.random.default_rng(1)
    x = rng.integers(-2, 3, shape).astype(np.float32)  # ties
    weights = rng.standard_normal(np.shape(gc.nn.max_pool2d(x, size))).astype(np.float32)

    def loss(x):
        return np.sum(weights * gc.nn.max_pool2d(np.maximum(x, 0), size))

    graph = passes.optimize(gc.interpret(gc.value_and_grad(loss)).graph(x))
    methods = [p.shape.method for p in program_of(graph).poolings]
    assert sorted(methods) == ["count", "max", "spread"]
    expected = interp.evaluate(graph, [x])
    assert_same(python_run(graph, [x]), expected)
    if shape[0] == 2:
        assert_same(native_run(graph, [x]), expected)


@pytest.mark.parametrize("size", [3, 5])
def test_other_pools_are_loops(size):
    x = np.random.default_rng(2).standard_normal((2, 2, 10, 10)).astype(np.float32)
    pool = gc.interpret(lambda x: np.sum(np.sin(gc.nn.max_pool2d(x, size))))
    graph = passes.optimize(gc.interpret(gc.grad(pool)).graph(x))
    assert not program_of(graph).poolings
    assert_same(python_run(graph, [x]), interp.evaluate(graph, [x]))
