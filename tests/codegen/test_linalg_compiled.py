"""np.linalg in generated code, as plain Python and natively; and failures at run time."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run
from linalg_cases import CASES, normal, positive
from trace_helpers import trace_like

import graphc
from graphc import interp
from graphc.ir.ops import OPS
from graphc.trace.tree import flatten

L = np.linalg
FLOATS = (np.float32, np.float64)


def summed(case):
    def fn(*args):
        return sum(np.sum(o) for o in flatten(case.fn(*args))[0])

    return fn


def graph_of(case, dtype, order):
    arrays = [np.asarray(a, dtype) for a in case.arrays]
    fn = case.fn
    if order:
        fn = graphc.value_and_grad(summed(case), tuple(range(len(arrays))))
    return trace_like(fn, *arrays).graph, arrays


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_generated_program_as_python(case, dtype):
    graph, arrays = graph_of(case, dtype, case.order)
    expected = interp.evaluate(graph, arrays)
    assert_same(python_run(graph, arrays), expected, rtol=5e-3 if dtype == np.float32 else 1e-8)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("part", range(4))
def test_native(part, dtype):
    """Many cases in one program, so that they compile at once."""
    cases = CASES[part::4]
    arrays, spans = [], []
    for case in cases:
        spans.append(slice(len(arrays), len(arrays) + len(case.arrays)))
        arrays += [np.asarray(a, dtype) for a in case.arrays]

    def fn(*args):
        values = [case.fn(*args[at]) for case, at in zip(cases, spans, strict=True)]
        return [v for value in values for v in flatten(value)[0]]

    graph = trace_like(fn, *arrays).graph
    found, expected = native_run(graph, arrays), interp.evaluate(graph, arrays)
    assert_same(found, expected, rtol=5e-3 if dtype == np.float32 else 1e-8)


@pytest.mark.parametrize("name", ["solve stacks", "det 4", "cholesky", "qr wide", "svd", "pinv"])
def test_native_gradient(name):
    case = next(c for c in CASES if c.name == name)
    graph, arrays = graph_of(case, np.float64, 1)
    assert_same(native_run(graph, arrays), interp.evaluate(graph, arrays), rtol=1e-8)


def test_the_cases_have_every_library_row():
    met = {n.op for c in CASES for n in graph_of(c, np.float64, c.order)[0].order}
    rows = {name for name, row in OPS.items() if row.kind == "library"}
    assert rows - {"dft"} <= met and "implicit" in met  # that one: tests of np.fft


def test_sizes_that_change_are_served_by_one_program():
    solve = graphc.compile(lambda a, b: L.solve(a, b) + L.slogdet(a)[1])
    for n in (3, 5, 7):
        a, b = positive(normal(n, n)), normal(n)
        expected = L.solve(a, b) + L.slogdet(a)[1]
        np.testing.assert_allclose(solve(a, b), expected, rtol=1e-9)
    assert len(solve.compiles) == 2


SINGULAR = np.ones((3, 3))
FAILURES = [
    (lambda a: L.cholesky(a), -np.eye(3), "cholesky: the matrix is not positive definite"),
    (lambda a: L.inv(a), SINGULAR, "solve: the matrix is singular"),
    (lambda a: L.solve(a, np.ones(3)), SINGULAR, "solve: the matrix is singular"),
    (lambda a: L.matrix_power(a, -1), SINGULAR, "solve: the matrix is singular"),
    (lambda a: L.inv(a), np.stack([np.eye(3), SINGULAR]), "solve: matrix 1 of the batch is sing"),
    (lambda a: L.svd(a)[1], np.full((3, 3), np.nan), "svd: the matrix has singular values that"),
    (graphc.grad(lambda a: L.slogdet(a)[1]), SINGULAR, "solve: the matrix is singular"),
]


@pytest.mark.parametrize(("fn", "bad", "text"), FAILURES)
def test_failures_raise_what_numpy_raises_with_the_line(fn, bad, text):
    compiled = graphc.compile(fn)
    with pytest.raises(L.LinAlgError, match=text) as caught:
        compiled(bad)
    assert "(test_linalg_compiled.py:" in str(caught.value)
    good = np.broadcast_to(positive(np.eye(3)), bad.shape).copy()
    compiled(good)  # the failure leaves nothing behind
    with pytest.raises(L.LinAlgError, match=r"\(test_linalg_compiled.py:\d+\)"):
        graphc.interpret(fn)(bad)


def test_a_large_system_is_solved_to_lapack_precision():
    a, b = normal(120, 120), normal(120, 7)
    x = graphc.compile(lambda a, b: L.solve(a, b))(a, b)
    np.testing.assert_allclose(a @ x, b, atol=1e-10)
    q, r = graphc.compile(lambda a: tuple(L.qr(a)))(a)
    np.testing.assert_allclose(q @ r, a, atol=1e-12)
    w, v = graphc.compile(lambda a: tuple(L.eigh(a)))(positive(a))
    np.testing.assert_allclose(v * w @ v.T, positive(a), rtol=1e-9, atol=1e-9)
    u, s, vt = graphc.compile(lambda a: tuple(L.svd(a)))(a)
    np.testing.assert_allclose(u * s @ vt, a, atol=1e-11)
