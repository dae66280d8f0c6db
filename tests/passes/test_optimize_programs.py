"""Every user program of the corpus: optimized values and gradients are the plain ones."""

import numpy as np
import pytest
from helpers import floating, vjp_graph
from programs import PROGRAMS
from trace_helpers import trace_like

from graphc.interp import evaluate
from graphc.passes import optimize, stabilize_nodes
from graphc.trace.tree import flatten


def assert_close(found, expected, dtype):
    rtol = {"float32": 2e-4, "float64": 1e-9}.get(dtype, 0)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        finite = np.abs(b[np.isfinite(b)]) if b.dtype.kind in "fc" else np.abs(b)
        scale = float(finite.max(initial=0)) if b.dtype.kind != "b" else 0
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1.0, scale))


CASES = [
    pytest.param(p, d, id=f"{p.name}-{d}") for p in PROGRAMS for d in p.dtypes
]  # fmt: skip


@pytest.mark.parametrize("program, dtype", CASES)
def test_values(program, dtype):
    args = program.args(dtype)
    graph = trace_like(program.fn, *args).graph
    arrays = [np.asarray(a) for a in flatten(args)[0]]
    expected = evaluate(graph, arrays)
    out = optimize(graph, check=True)
    assert_close(evaluate(out, arrays), expected, dtype)
    assert optimize(out).outputs == out.outputs
    assert set(out.sources) <= set(out.order)


@pytest.mark.parametrize("program", [p for p in PROGRAMS if p.smooth], ids=repr)
def test_gradients(program):
    args = program.args("float64")
    graph = trace_like(program.fn, *args).graph
    arrays = [np.asarray(a) for a in flatten(args)[0]]
    graph = graph.with_outputs([o for o in graph.outputs if o.dtype.kind == "f"])
    if not floating(graph) or not graph.outputs:
        pytest.skip("nothing to differentiate")
    plain = vjp_graph(graph)
    stable = vjp_graph(graph.with_outputs(stabilize_nodes(graph.outputs, dict(graph.sources))))
    rng = np.random.default_rng(0)
    arrays += [rng.uniform(0.5, 1.5, o.shape).astype(o.dtype) for o in graph.outputs]
    expected = evaluate(plain, arrays)
    assert_close(evaluate(optimize(stable, check=True), arrays), expected, "float64")
