"""Graph building and numerical checks of gradients, shared by many tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphc import interp
from graphc.ad.forward import jvp
from graphc.ad.reverse import vjp
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.types import tensor_type
from graphc.ir.verify import verify


def make_graph(fn: Callable, arrays: Sequence[np.ndarray], shapes=None, name="f") -> Graph:
    """``fn`` on input nodes like ``arrays``; ``shapes`` may name dims by strings ("n")."""
    nodes = []
    for i, array in enumerate(arrays):
        shape = shapes[i] if shapes is not None else array.shape
        dims = [symbol(d) if isinstance(d, str) else d for d in shape]
        nodes.append(build.input(i, f"a{i}", tensor_type(array.dtype, dims)))
    outputs = fn(*nodes)
    outputs = (outputs,) if isinstance(outputs, Node) else tuple(outputs)
    return verify(Graph(name, tuple(nodes), outputs))


def vjp_graph(graph: Graph, wrt: Sequence[int] | None = None) -> Graph:
    """Inputs of ``graph`` and one cotangent for each output; the cotangents of ``wrt``."""
    wrt = floating(graph) if wrt is None else wrt
    inputs = list(graph.inputs)
    for k, output in enumerate(graph.outputs):
        inputs.append(build.input(len(inputs), f"ct{k}", output.type))
    cotangents = inputs[len(graph.inputs) :]
    found = vjp(graph.outputs, cotangents, [graph.inputs[i] for i in wrt], dict(graph.sources))
    return verify(Graph(graph.name + "_vjp", tuple(inputs), tuple(found)))


def jvp_graph(graph: Graph, wrt: Sequence[int] | None = None) -> Graph:
    """Inputs of ``graph`` and a tangent for each of ``wrt``; the tangents of the outputs."""
    wrt = floating(graph) if wrt is None else wrt
    inputs = list(graph.inputs)
    for i in wrt:
        inputs.append(build.input(len(inputs), f"v{i}", graph.inputs[i].type))
    tangents = inputs[len(graph.inputs) :]
    wanted = [graph.inputs[i] for i in wrt]
    found = jvp(graph.outputs, wanted, tangents, dict(graph.sources))
    return verify(Graph(graph.name + "_jvp", tuple(inputs), tuple(found)))


def gradient(fn: Callable, *arrays, wrt=None, shapes=None) -> list[np.ndarray]:
    """Gradients of the scalar (or, summed, of the array) ``fn`` at ``arrays``."""
    graph = make_graph(fn, arrays, shapes)
    values = interp.evaluate(graph, arrays)
    return interp.evaluate(vjp_graph(graph, wrt), [*arrays, *(np.ones_like(v) for v in values)])


def floating(graph: Graph) -> list[int]:
    return [i for i, node in enumerate(graph.inputs) if node.dtype.kind == "f"]


def numeric_vjp(graph: Graph, arrays, cotangents, wrt, eps=1e-6) -> list[np.ndarray]:
    """``cotangents`` pulled back by central differences, one element at a time."""
    result = []
    for i in wrt:
        grad = np.zeros_like(arrays[i])
        for at in np.ndindex(arrays[i].shape):
            sides = []
            for step in (eps, -eps):
                moved = [np.array(a) for a in arrays]
                moved[i][at] += step
                values = interp.evaluate(graph, moved)
                sides.append(sum((c * v).sum() for c, v in zip(cotangents, values, strict=True)))
            grad[at] = (sides[0] - sides[1]) / (2 * eps)
        result.append(grad)
    return result


def check_gradient(graph: Graph, arrays, order=2, rtol=1e-6, seed=0) -> None:
    """Compare with central differences: the graph's gradient and, for ``order`` 2, its own.

    Forward mode is compared with the gradient: ``<ct, J v> = <J.T ct, v>``.
    """
    wrt = floating(graph)
    rng = np.random.default_rng(seed)
    values = interp.evaluate(graph, arrays)
    cotangents = [rng.uniform(0.5, 1.5, v.shape) for v in values]
    adjoint = vjp_graph(graph, wrt)
    found = interp.evaluate(adjoint, [*arrays, *cotangents])
    expected = numeric_vjp(graph, arrays, cotangents, wrt)
    for i, a, b in zip(wrt, found, expected, strict=True):
        assert a.dtype == arrays[i].dtype and a.shape == arrays[i].shape
        scale = max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=f"argument {i}")
    tangents = [rng.uniform(-1, 1, arrays[i].shape) for i in wrt]
    pushed = interp.evaluate(jvp_graph(graph, wrt), [*arrays, *tangents])
    for value, tangent in zip(values, pushed, strict=True):
        assert tangent.dtype == value.dtype and tangent.shape == value.shape
    forward = sum((c * t).sum() for c, t in zip(cotangents, pushed, strict=True))
    terms = [(g * v).sum() for g, v in zip(found, tangents, strict=True)]
    np.testing.assert_allclose(
        forward, sum(terms), rtol=1e-9, atol=1e-9 * (1 + sum(map(abs, terms)))
    )
    if order > 1:
        check_gradient(adjoint, [*arrays, *cotangents], order - 1, rtol * 10, seed + 1)


def taylor_orders(graph: Graph, arrays, seed=0, steps=4) -> np.ndarray:
    """How fast ``f(x + e*d) - f(x) - e*<grad, d>`` falls as ``e`` halves: 2 when right."""
    rng = np.random.default_rng(seed)
    wrt = floating(graph)
    (value,) = interp.evaluate(graph, arrays)
    grads = interp.evaluate(vjp_graph(graph, wrt), [*arrays, np.ones_like(value)])
    direction = {i: rng.standard_normal(arrays[i].shape) for i in wrt}
    slope = sum((direction[i] * g).sum() for i, g in zip(wrt, grads, strict=True))
    rest = []
    for k in range(steps):
        eps = 2e-3 / 2**k
        moved = [a + eps * direction[i] if i in direction else a for i, a in enumerate(arrays)]
        rest.append(abs(interp.evaluate(graph, moved)[0] - value - eps * slope))
    return np.log2(np.array(rest[:-1]) / np.array(rest[1:]))
