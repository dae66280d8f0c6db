"""Convolutions by kernels of their own: both methods, every vector width, ranks, strides."""

from __future__ import annotations

import ctypes
import itertools

import llvmlite.binding as llvm
import numpy as np
import pytest
from generated import assert_same, native_run, program_of, python_run

import graphc as gc
from graphc import interp, passes
from graphc.codegen.convolution import convolutions_module
from graphc.codegen.llvm_backend import target
from graphc.codegen.machine import convolution_word
from graphc.codegen.program import ConvolutionFunction
from graphc.codegen.tiles import Registers, image_tile, sum_tile
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.schedule.convolutions import Convolution, by_image, convolution

MACHINES = {"avx512": Registers(32, 64), "avx2": Registers(16, 32), "sse": Registers(16, 16)}
DTYPES = {"f32": np.float32, "f64": np.float64}


def _graph(x, w, stride=None, dilation=None, dtype=np.float32) -> Graph:
    nodes = [
        build.input(i, name, tensor_type(dtype, s))
        for i, (name, s) in enumerate({"x": x, "w": w}.items())
    ]
    return Graph("conv", tuple(nodes), (build.conv(*nodes, stride, dilation),))


def _arrays(graph, rng, **env):
    shapes = [i.type.concrete_shape(env) for i in graph.inputs]
    return [
        rng.integers(-4, 5, s).astype(i.dtype) for s, i in zip(shapes, graph.inputs, strict=True)
    ]


# -------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("registers", [16, 32])
@pytest.mark.parametrize("lanes", [4, 16])
def test_tiles_fit_the_registers_and_panels_cover_each_column_once(registers, lanes):
    for filters, rows, columns in itertools.product((1, 3, 8, 100), (1, 5, 26), (1, 11, 26, 300)):
        tile = image_tile(filters, rows, columns, lanes, registers)
        assert 1 <= tile.filters <= filters and 1 <= tile.rows <= rows
        covered = 0
        for panel in tile.panels:
            vectors = tile.rows * panel.vectors
            assert vectors * tile.filters == 1 or vectors * (tile.filters + 1) + 1 <= registers
            assert panel.first == covered
            covered += panel.count * panel.vectors * lanes - (lanes - panel.live)
        assert covered == columns
        f, p = sum_tile(filters, rows * columns, registers)
        assert f * p + min(f, p) + 1 <= registers and f <= filters and p <= rows * columns


# --------------------------------------------------------------------------- native functions

# images, channels, filters, places, window, stride, dilation
SHAPES = {
    "image": (1, 3, 5, (4, 21), (3, 2), (1, 1), (1, 1)),
    "strides": (1, 2, 3, (3, 18), (2, 3), (2, 3), (1, 2)),
    "line": (1, 2, 7, (19,), (5,), (2,), (1,)),
    "large window": (1, 2, 2, (3, 5), (5, 7), (1, 1), (1, 1)),
    "volume": (1, 2, 3, (2, 3, 5), (2, 2, 3), (1, 2, 1), (2, 1, 1)),
    "gradient of weights": (3, 4, 5, (3, 3), (6, 19), (1, 1), (1, 1)),
    "with dilation": (2, 3, 3, (2, 3), (4, 70), (1, 2), (2, 2)),
}


def _function(index: int, kind: str, method: str, known: bool) -> ConvolutionFunction:
    images, channels, filters, places, window, stride, dilation = list(SHAPES.values())[index]
    sizes = [
        (p - 1) * s + (k - 1) * d + 1
        for p, s, k, d in zip(places, stride, window, dilation, strict=True)
    ]
    axes = [int(np.prod(sizes[axis + 1 :])) for axis in range(len(sizes))]
    x_strides = (channels * np.prod(sizes), np.prod(sizes), *axes)
    # Exchanged: filters of one channel lie side by side.
    w_strides = (np.prod(window), filters * np.prod(window))
    ints = [tuple(int(s) for s in strides) for strides in (x_strides, w_strides)]
    shape = Convolution(
        method,
        images,
        filters,
        channels if known else None,
        places,
        window,
        stride,
        dilation,
        *ints,
    )
    return ConvolutionFunction(f"c{index}_{method}_{int(known)}", kind, shape)


def _between_nans(rng, size, dtype):
    around = np.full(size + 128, np.nan, dtype)
    around[64 : 64 + size] = rng.integers(-4, 5, size)  # sums are exact in any order
    return around[64 : 64 + size]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", DTYPES)
def test_native_functions_of_both_methods(machine, kind):
    rng, dtype = np.random.default_rng(0), DTYPES[kind]
    functions = [
        _function(index, kind, method, known)
        for index, known in itertools.product(range(len(SHAPES)), (True, False))
        for method in ("rows", "sums")
        if method == "sums" or list(SHAPES.values())[index][0] == 1
    ]
    target()
    text = convolutions_module(functions, MACHINES[machine], llvm.get_process_triple())
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), target().create_target_machine())
    engine.finalize_object()
    for function in functions:
        shape = function.shape
        images, channels, filters, places, window = list(SHAPES.values())[int(function.name[1])][:5]
        x = _between_nans(rng, images * shape.x_strides[0], dtype)
        w = _between_nans(rng, filters * channels * int(np.prod(window)), dtype)
        found, expected = np.full((2, images * filters * int(np.prod(places)) + 16), 77, dtype)
        address = engine.get_function_address(function.name)
        call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(address)
        call(x.ctypes.data, w.ctypes.data, found.ctypes.data, channels)
        convolution_word(shape)(x, w, expected, channels)
        np.testing.assert_array_equal(found, expected, err_msg=function.text)


# ------------------------------------------------------------------------------ whole programs

PROGRAMS = {
    "line": ((3, 2, 11), (4, 2, 3), (2,), (1,)),
    "image": ((2, 3, 7, 20), (5, 3, 3, 3), (1, 1), (1, 1)),
    "volume": ((2, 2, 5, 6, 7), (3, 2, 2, 3, 2), (1, 2, 1), (2, 1, 1)),
    "one channel": ((4, 1, 6, 9), (1, 1, 2, 2), (1, 1), (2, 3)),
    "a large step": ((2, 2, 4, 30), (3, 2, 2, 2), (1, 7), (1, 1)),
    "wide window": ((3, 4, 9, 33), (2, 4, 8, 31), (1, 1), (1, 1)),
    "one pixel": ((2, 5, 4, 6), (3, 5, 1, 1), (1, 1), (1, 1)),
    "no image": ((0, 2, 4, 4), (3, 2, 2, 2), (1, 1), (1, 1)),
    "no channel": ((2, 0, 4, 4), (3, 0, 2, 2), (1, 1), (1, 1)),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_programs_in_plain_python(name, dtype):
    graph = _graph(*PROGRAMS[name], dtype=dtype)
    arrays = _arrays(graph, np.random.default_rng(1))
    assert_same(python_run(graph, arrays), interp.evaluate(graph, arrays))


def test_symbolic_batches_natively():
    n = symbol("n")
    graph = _graph((n, 3, 9, 20), (4, 3, 3, 3))
    by_batch = [build.transpose(i, (1, 0, 2, 3)) for i in graph.inputs]
    x = build.input(0, "x", tensor_type(np.float32, (n, 3, 9, 20)))
    ct = build.input(1, "ct", tensor_type(np.float32, (n, 4, 7, 18)))
    by_batch = [build.transpose(i, (1, 0, 2, 3)) for i in (x, ct)]
    both = Graph("gradient", (x, ct), (build.conv(*by_batch),))
    assert by_image(graph.outputs[0]) and convolution(both.outputs[0]).method == "sums"
    for program, size in itertools.product((graph, both), (1, 2, 5, 0)):
        arrays = _arrays(program, np.random.default_rng(2), n=size)
        expected = interp.evaluate(program, arrays)
        assert_same(native_run(program, arrays), expected)
        assert_same(python_run(program, arrays), expected)


def test_windows_of_one_element_see_an_image_as_one_line():
    program = program_of(_graph((2, 5, 4, 6), (3, 5, 1, 1)))
    assert [c.shape.places for c in program.convolutions] == [(24,)]
    assert "for " not in program.kernels[0].text.replace("for i0 in range(2)", "")


def test_exchanged_axes_are_strides_and_not_copies():
    text = program_of(_gradient_of_weights()).text
    assert "convolution0(" in text and "for " not in text.split("def kernel0")[1].split("def ")[0]


def _gradient_of_weights() -> Graph:
    x = build.input(0, "x", tensor_type(np.float32, (8, 3, 9, 20)))
    ct = build.input(1, "ct", tensor_type(np.float32, (8, 4, 7, 18)))
    return Graph("g", (x, ct), (build.conv(*(build.transpose(i, (1, 0, 2, 3)) for i in (x, ct))),))


def test_what_follows_a_convolution_runs_image_by_image():
    """Bias, relu and pooling are in its kernel, and so is the next convolution."""
    rng = np.random.default_rng(3)
    x, w, b, v = (
        rng.standard_normal(s).astype(np.float32)
        for s in ((4, 1, 12, 12), (3, 1, 3, 3), (3, 1, 1), (2, 3, 2, 2))
    )

    def network(x, w, b, v):
        return gc.nn.conv2d(gc.nn.max_pool2d(np.maximum(gc.nn.conv2d(x, w) + b, 0), 2), v)

    graph = passes.optimize(gc.interpret(network).graph(x, w, b, v))
    program = program_of(graph)
    assert len(program.calls) == 1 and len(program.convolutions) == 2
    assert_same(python_run(graph, [x, w, b, v]), interp.evaluate(graph, [x, w, b, v]))
    assert_same(native_run(graph, [x, w, b, v]), interp.evaluate(graph, [x, w, b, v]))


def test_a_single_value_is_not_computed_among_scalars():
    """Of a sum over everything: what a call makes is no epilogue of the loop that adds up."""

    def network(x, w, b):
        total = np.tanh(np.sum(x, keepdims=True))
        return np.exp(gc.nn.conv2d(total.reshape(1, 1, 1, 1), w, b))

    arrays = [np.arange(12.0).reshape(4, 3), np.full((1, 1, 1, 1), 0.5), np.ones(1)]
    graph = passes.optimize(gc.interpret(network).graph(*arrays))
    assert_same(python_run(graph, arrays), interp.evaluate(graph, arrays))
