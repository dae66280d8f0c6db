"""Products that read what their own kernel computes: attention is one kernel in each direction."""

from __future__ import annotations

import numpy as np
import pytest
from generated import native_run, python_run

from graphc import interp
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.schedule import schedule

E = build.elementwise


def matrices(batch, rows, size=8):
    return [
        build.input(k, name, tensor_type(np.float32, (*batch, rows, size)))
        for k, name in enumerate("qkv")
    ]


def mixed(batch=(2, 3), rows=24, size=8):
    """``exp(q k.T) v`` and, of the same weights transposed, ``exp(q k.T).T q``; not the weights."""
    q, k, v = matrices(batch, rows, size)
    weights = E("exp", build.matmul(q, k, 0, 1))
    return Graph("f", (q, k, v), (build.matmul(weights, v), build.matmul(weights, q, 1, 0)))


def weights_too():
    graph = mixed()
    return graph.with_outputs((*graph.outputs, graph.outputs[0].inputs[0]))


def b_is_computed():
    """The second operand, which is packed, comes from the same kernel."""
    q, k, v = matrices((4,), 20)
    total = E("add", build.matmul(q, E("tanh", k), 0, 1), build.matmul(q, v, 0, 1))
    return Graph("f", (q, k, v), (total,))


def chain():
    q, k, v = matrices((3,), 8)
    first = build.matmul(build.matmul(q, k, 0, 1), v)
    return Graph("f", (q, k, v), (E("tanh", build.matmul(first, k, 0, 1)), first))


ONE = {"mixed": mixed(), "weights too": weights_too(), "chain": chain()}
MORE = {"many rows": mixed((2,), 600, 8), "no batch": mixed((), 24, 8)}


def kernels(graph):
    return len(schedule(graph).kernels)


@pytest.mark.parametrize("name", ONE)
def test_one_kernel(name):
    assert kernels(ONE[name]) == 1


@pytest.mark.parametrize("name", MORE)
def test_rows_of_several_blocks_are_complete_before_they_are_read(name):
    assert kernels(MORE[name]) > 1


def test_what_only_products_of_the_kernel_read_is_not_stored():
    sizes = [b.size for b in schedule(mixed((16,), 64, 16)).temps]
    assert max(sizes) < 16 * 64 * 64


def values(graph, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=i.shape).astype(np.float32) * 0.5 for i in graph.inputs]
    return arrays, interp.evaluate(graph, arrays)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("graph", [*ONE.values(), b_is_computed(), MORE["no batch"]],
                         ids=[*ONE, "b", "no batch"])  # fmt: skip
def test_python(graph, threads):
    arrays, want = values(graph)
    for got, expected in zip(python_run(graph, arrays, threads=threads), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_native():
    for graph in (*ONE.values(), b_is_computed(), MORE["many rows"]):
        arrays, want = values(graph, 1)
        for got, expected in zip(native_run(graph, arrays), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=3e-4, atol=3e-4)
