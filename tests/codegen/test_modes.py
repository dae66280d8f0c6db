"""The corpus of user programs, crossed with the ways of running them."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run
from programs import PROGRAMS

from graphc import interp
from graphc.ad.transforms import value_and_grad
from graphc.errors import GraphcError
from graphc.ir import build, control
from graphc.ir.graph import Graph
from graphc.ir.ops import OPS
from graphc.ir.types import tensor_type
from graphc.passes import stabilize_nodes
from graphc.trace.tracing import spec_of, trace
from graphc.trace.tree import flatten, leaf_paths, unflatten

FLOATS = ("float32", "float64")


def value_graph(program, dtype):
    args = program.args(dtype)
    return trace(program.fn, _specs(args), name=program.name), flatten(args)[0]


def gradient_graph(program, dtype):
    """Value and gradient of the sum of all floating outputs, by every floating argument."""
    args = program.args(dtype)
    wrt = tuple(k for k, a in enumerate(args) if _is_floating(a))

    def summed(*given):
        leaves = flatten(program.fn(*given))[0]
        floating = [np.sum(v) for v in leaves if getattr(v, "dtype", np.dtype(int)).kind == "f"]
        return sum(floating[1:], floating[0])

    traced = trace(
        value_and_grad(summed, wrt), _specs(args), name=program.name,
        before_adjoint=stabilize_nodes,
    )  # fmt: skip
    return traced.graph, [np.asarray(a) for a in flatten(args)[0]]


def _is_floating(arg) -> bool:
    return all(np.asarray(v).dtype.kind == "f" for v in flatten(arg)[0])


def _specs(args):
    specs = []
    for position, arg in enumerate(args):
        leaves, treedef = flatten(arg)
        paths = leaf_paths(arg, f"a{position}")
        specs.append(
            unflatten(treedef, [spec_of(v, p) for v, p in zip(leaves, paths, strict=True)])
        )
    return tuple(specs)


def same_as_numpy(program, dtype, found):
    expected = program.fn(*program.args(dtype))
    leaves = flatten(expected)[0]
    assert len(leaves) == len(found)
    for a, b in zip(found, leaves, strict=True):
        b = np.asarray(b)
        assert a.shape == b.shape and a.dtype == b.dtype, (a.dtype, b.dtype, a.shape, b.shape)
        if b.dtype.kind == "f":
            tolerance = 1e-4 if dtype == "float32" else 1e-10
            scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)
        else:
            np.testing.assert_array_equal(a, b)


VALUES = [(p, d) for p in PROGRAMS for d in p.dtypes]
GRADIENTS = [
    (p, d) for p in PROGRAMS for d in FLOATS
    if p.smooth and d in p.dtypes and any(map(_is_floating, p.args(d)))
]  # fmt: skip
# Compiled: every program in one dtype, and its gradient in the other.
COMPILED_VALUES = VALUES[::7]
COMPILED_GRADIENTS = GRADIENTS[1::9]


@pytest.mark.parametrize("program, dtype", VALUES, ids=str)
def test_value_interpreted_and_as_python(program, dtype):
    traced, arrays = value_graph(program, dtype)
    arrays = [np.asarray(a) for a in arrays]
    same_as_numpy(program, dtype, interp.evaluate(traced.graph, arrays))
    for optimize in (False, True):
        same_as_numpy(program, dtype, python_run(traced.graph, arrays, optimize=optimize))


@pytest.mark.parametrize("program, dtype", GRADIENTS, ids=str)
def test_gradient_as_python(program, dtype):
    graph, arrays = gradient_graph(program, dtype)
    expected = interp.evaluate(graph, arrays)
    for optimize in (False, True):
        assert_same(python_run(graph, arrays, optimize=optimize), expected, label=program.name)


@pytest.mark.parametrize("program, dtype", COMPILED_VALUES, ids=str)
def test_value_compiled(program, dtype):
    traced, arrays = value_graph(program, dtype)
    same_as_numpy(program, dtype, native_run(traced.graph, [np.asarray(a) for a in arrays]))


@pytest.mark.parametrize("program, dtype", COMPILED_GRADIENTS, ids=str)
def test_gradient_compiled(program, dtype):
    graph, arrays = gradient_graph(program, dtype)
    assert_same(native_run(graph, arrays), interp.evaluate(graph, arrays), label=program.name)


# ---------------------------------------------------------------- structural rows, each natively


def structural_graph(dtype):
    """Every structural row once or more; the elementwise ones are in test_scalar_rows."""
    x = build.input(0, "x", tensor_type(dtype, (3, 4)))
    y = build.input(1, "y", tensor_type(dtype, (3, 4)))
    i = build.input(2, "i", tensor_type(np.int64, (3, 2)))
    z = build.input(3, "z", tensor_type(dtype, (2, 4, 3)))
    w = build.input(4, "w", tensor_type(dtype, (2, 3, 5)))
    e = build.elementwise
    added = e("add", x, y)
    outputs = [
        build.const(np.arange(6).reshape(2, 3), dtype),
        build.iota((3, 4), 1, dtype),
        build.reshape(added, (2, 6)),
        build.transpose(added, (1, 0)),
        build.broadcast(x, (3, 2, 4), (0, 2)),
        build.slice_(x, (2, 3), (3, 2), (-1, -2)),
        build.pad(e("mul", x, y), (1, 0), (0, 2), (0, 1), build.const(7, dtype)),
        build.concat((x, added, y), 1),
        *(build.scan(op, z, axis) for op in ("cumsum", "cumprod") for axis in (0, 1, 2)),
        build.argsort(added, 1), build.argsort(z, 1),
        *(build.searchsorted(build.iota((5,), 0, dtype), y, side) for side in ("left", "right")),
        build.scatter_set(added, i, build.take(y, i, 1), 1),
        build.check_index(i, 4),
        build.take(added, i, 1),
        build.take_along(added, i, 1),
        build.scatter_add(i, build.broadcast(added, (3, 2, 4), (0, 2)), 0, 4),
        *(build.reduce(op, added, axes) for op in ("sum", "prod", "max", "min")
          for axes in ((0,), (1,), (0, 1))),
        *(build.reduce(op, added, (axis,)) for op in ("argmax", "argmin") for axis in (0, 1)),
        build.windows(added, 1, 2, 2),
        build.conv(z, build.slice_(z, (0, 0, 1), (2, 4, 2), (1, 1, 1))),
        build.barrier(added, z), e("mul", x, build.barrier(y, added)),
        build.reduce("sum", z, (1,)), build.reduce("max", z, (0, 2)),
        *(build.matmul(a, b, ta, tb)
          for ta in (0, 1) for tb in (0, 1)
          for a in (build.transpose(x, (1, 0)) if ta else x,)
          for b in (y if tb else build.transpose(y, (1, 0)),)),
        build.windows(added, 1, 2, 2), build.windows(z, 2, 2, 1, 2),
        build.conv(z, build.slice_(z, (0, 0, 0), (2, 4, 2), (1, 1, 1))),
        build.matmul(z, w), build.matmul(z, z, 0, 1), build.matmul(z, z, 1, 0),
        build.matmul(x, build.slice_(build.transpose(y, (1, 0)), (0, 0), (4, 1), (1, 1))),
    ]  # fmt: skip
    images = build.reshape(x, (1, *x.shape))
    outputs += [
        build.windows(x, 1, 2),
        build.conv(images, build.full((2, x.shape[0], 2), 2, dtype)),
    ]
    outputs += control_outputs(x)
    graph = Graph("structural", (x, y, i, z, w), tuple(outputs))
    rng = np.random.default_rng(0)
    arrays = [
        np.round(rng.normal(size=n.shape) * 3).astype(n.dtype) if k != 2
        else rng.integers(0, 3, n.shape)
        for k, n in enumerate(graph.inputs)
    ]  # fmt: skip
    return graph, arrays


def control_outputs(x):
    """A loop over the rows of ``x``, backwards, and a choice."""
    row = tensor_type(x.dtype, x.shape[1:])
    total, part = (build.placeholder(0, k, row, "p") for k in range(2))
    added = build.elementwise("add", total, part)
    (body,), _ = control.close([[added, build.elementwise("mul", total, part)]], [total, part])
    start = build.full(row.shape, 1, x.dtype)
    found = build.loop(body, [start], [x], length=x.shape[0], reverse=True)
    (yes, no), _ = control.close([[added], [part]], [total, part])
    positive = build.elementwise("gt", found[0], build.full_like(found[0], 0))
    pred = build.reduce("max", positive, range(positive.ndim))
    return [*found, *build.cond(pred, [found[0], start], yes, no)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("run", [python_run, native_run])
def test_structural_rows(run, dtype):
    graph, arrays = structural_graph(dtype)
    assert_same(run(graph, arrays), interp.evaluate(graph, arrays))


def test_structural_graph_has_every_structural_row():
    graph, _ = structural_graph(np.float32)
    wanted = {n for n, row in OPS.items() if row.kind not in ("elementwise", "library", "mark")}
    elsewhere = {"placeholder", "size", "implicit"}  # symbolic tests, test_linalg_compiled
    elsewhere |= {"complex", "real", "imag"}  # gone before scheduling: complex values in parts
    assert wanted - {n.op for n in graph.order} == elsewhere


def test_unsupported_dtypes_are_refused_with_the_way_out():
    x = build.input(0, "x", tensor_type(np.float16, (3,)))
    with pytest.raises(GraphcError, match=r"graphc\.interpret"):
        native_run(Graph("f", (x,), (build.elementwise("exp", x),)), [np.ones(3, np.float16)])
