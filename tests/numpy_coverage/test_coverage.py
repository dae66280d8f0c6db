"""Every row of the coverage table: forward as NumPy, gradient, second order, compiled.

``python tests/numpy_coverage/coverage_table.py`` writes ``docs/coverage.md`` anew.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from coverage_cases import CASES, NAMESPACE, REQUIRED, REQUIRED_SPECIAL, REQUIRED_TWINS, UFUNCS
from coverage_table import DOCUMENT, render
from generated import assert_same, python_run
from helpers import check_gradient, floating, vjp_graph
from trace_helpers import assert_like_numpy, trace_like

from graphc import interp
from graphc.ir.graph import Graph

NAMESPACE.setdefault("__name__", "coverage_cases")


def graph_of(case, dtype) -> tuple[Graph, list[np.ndarray]]:
    arrays = case.arrays(dtype)
    return trace_like(case.function_of(), *arrays).graph, arrays


def differentiable(graph: Graph) -> Graph:
    """The floating outputs."""
    return graph.with_outputs([o for o in graph.outputs if o.dtype.kind == "f"])


def with_gradient(graph: Graph) -> Graph:
    """Outputs and, after them, the gradient for given cotangents."""
    adjoint = vjp_graph(differentiable(graph))
    return Graph(graph.name, adjoint.inputs, (*graph.outputs, *adjoint.outputs))


def cotangents(graph: Graph, arrays) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [
        rng.uniform(0.5, 1.5, v.shape).astype(v.dtype)
        for v in interp.evaluate(differentiable(graph), arrays)
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_forward(case):
    for dtype in case.dtypes:
        arrays = case.arrays(dtype)
        fn = case.function_of()
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                fn(*arrays)
        except TypeError:  # np.negative of bool, ...
            with pytest.raises(TypeError):
                trace_like(fn, *arrays)
            continue
        half = dtype in ("bool", "int8", "uint8")
        assert_like_numpy(fn, arrays, "float16" if half else dtype)


@pytest.mark.parametrize("case", [c for c in CASES if not c.flat], ids=lambda c: c.id)
def test_gradient(case):
    graph, arrays = graph_of(case, "float64")
    check_gradient(differentiable(graph), arrays, case.order, rtol=2e-6)
    if "float32" in case.dtypes:
        small, arrays32 = graph_of(case, "float32")
        ct = cotangents(small, arrays32)
        found = interp.evaluate(vjp_graph(differentiable(small)), [*arrays32, *ct])
        wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays32]
        graph64 = trace_like(case.function_of(), *wide).graph
        expected = interp.evaluate(
            vjp_graph(differentiable(graph64)), [*wide, *(c.astype(np.float64) for c in ct)]
        )
        for i, a, b in zip(floating(small), found, expected, strict=True):
            assert a.dtype == np.float32 and a.shape == arrays32[i].shape
            scale = max(1.0, np.abs(b).max(initial=0))
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3 * scale)


@pytest.mark.parametrize("case", [c for c in CASES if c.flat], ids=lambda c: c.id)
def test_no_derivative(case):
    """Where a value is constant almost everywhere its gradient is zero."""
    if "float64" not in case.dtypes:
        return
    graph, arrays = graph_of(case, "float64")
    found = interp.evaluate(vjp_graph(differentiable(graph)), [*arrays, *cotangents(graph, arrays)])
    for i, value in zip(floating(graph), found, strict=True):
        np.testing.assert_array_equal(value, np.zeros_like(arrays[i]))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_compiled(case):
    """The generated program, as plain Python, for outputs and gradient."""
    for dtype in case.dtypes:
        try:
            graph, arrays = graph_of(case, dtype)
        except TypeError:
            continue
        if any(n.dtype == np.float16 for n in graph.order):
            continue
        graph_and_gradient = with_gradient(graph)
        values = [*arrays, *cotangents(graph, arrays)]
        with np.errstate(all="ignore"):
            expected = interp.evaluate(graph_and_gradient, values)
            assert_same(python_run(graph_and_gradient, values, optimize=True), expected)


def test_nothing_that_was_asked_for_is_missing():
    named = {c.function for c in CASES}
    assert [n for n in (*REQUIRED, *UFUNCS) if f"np.{n}" not in named] == []
    for name in REQUIRED_SPECIAL:
        assert {f"scipy.special.{name}", f"graphc.special.{name}"} <= named
    assert {f"graphc.special.{name}" for name in REQUIRED_TWINS} <= named


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == render(CASES), (
        "run: python tests/numpy_coverage/coverage_table.py"
    )
