"""np.linalg of traced values gives NumPy's values, dtypes and shapes; and its errors."""

from __future__ import annotations

import inspect

import linalg_cases
import numpy as np
import pytest
from linalg_cases import CASES, M, normal, positive
from trace_helpers import run_traced, trace_like

import graphc.linalg as gla
from graphc.errors import DTypeError, GraphcError, ShapeError, TraceError
from graphc.trace.dispatch import public_name
from graphc.trace.numpy_api import FUNCTIONS
from graphc.trace.tree import flatten

L = np.linalg


def compare(fn, args, tolerance):
    expected, found = flatten(fn(*args))[0], flatten(run_traced(fn, *args))[0]
    assert len(expected) == len(found)
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape and a.dtype == b.dtype, (a.dtype, b.dtype, a.shape, b.shape)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value(case):
    compare(case.fn, case.arrays, 1e-10)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_value(case):
    compare(case.fn, tuple(a.astype(np.float32) for a in case.arrays), 5e-3)


INTEGERS = np.array([[4, 1, 0], [1, 3, 1], [0, 1, 5]])


@pytest.mark.parametrize("dtype", [np.int64, np.int8, bool])
@pytest.mark.parametrize("name", ["inv", "det", "cholesky", "eigvalsh", "pinv", "slogdet"])
def test_integers_are_promoted(name, dtype):
    compare(lambda a: tuple(np.atleast_1d(*L.slogdet(a))) if name == "slogdet"
            else getattr(L, name)(a), (np.eye(3, dtype=dtype) if dtype is bool
                                       else INTEGERS.astype(dtype),), 1e-10)  # fmt: skip


def test_mixed_dtypes_and_weak_numbers():
    compare(L.solve, (M.astype(np.float32), normal(4)), 1e-6)
    compare(lambda a: L.solve(a, [1, 2, 3, 4]), (M.astype(np.float32),), 1e-5)


@pytest.mark.parametrize(
    ("fn", "shape"),
    [
        (L.inv, (0, 3, 3)), (L.inv, (2, 0, 0)), (L.det, (0, 4, 4)), (L.det, (2, 0, 0)),
        (L.cholesky, (0, 0)), (L.eigvalsh, (0, 3, 3)), (lambda a: L.slogdet(a)[1], (0, 0)),
        (lambda a: L.svd(a, compute_uv=False), (0, 3, 2)), (L.pinv, (0, 3)), (L.pinv, (3, 0)),
        (lambda a: L.solve(a, np.ones((0, 2))), (0, 0)), (lambda a: L.qr(a)[1], (3, 0)),
        (L.norm, (0,)), (L.norm, (0, 3)), (lambda a: L.matrix_power(a, 3), (2, 0, 0)),
        (lambda a: L.svd(a, full_matrices=False)[0], (3, 0)),
    ],
)  # fmt: skip
def test_empty(fn, shape):
    compare(fn, (np.ones(shape),), 1e-10)


@pytest.mark.parametrize(
    ("fn", "args", "error", "text"),
    [
        (L.inv, (normal(3, 2),), ShapeError, "not square: 3 != 2"),
        (L.det, (normal(3),), ShapeError, "at least two axes"),
        (L.solve, (M, normal(3)), ShapeError, "4 != 3"),
        (L.inv, (M.astype(np.float16),), DTypeError, "float32"),
        (gla.solve_triangular, (1j * normal(3, 2), normal(4)), ShapeError, "not square: 3 != 2"),
        (L.solve, (1j * M, np.ones(())), ShapeError, "`b` is a scalar"),
        (L.eigvals, (M,), TraceError, r"not supported.*\nWrite np\.linalg\.eigvalsh for a symm"),
        (L.eig, (M,), TraceError, r"not supported.*\nWrite np\.linalg\.eigh for a symmetric"),
        (lambda a: L.norm(a, 7), (M,), ShapeError, "ord=7; known: None, 'fro', 'nuc'"),
        (lambda a: L.qr(a, mode="raw"), (M,), TraceError, "'reduced', 'complete', 'r'"),
    ],
)
def test_refused(fn, args, error, text):
    with pytest.raises(error, match=text) as caught:
        trace_like(lambda *a: fn(*a), *args)
    assert isinstance(caught.value, GraphcError)
    assert "test_linalg_traced.py" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 8


def test_factors_are_shared_by_solve_and_slogdet_and_their_gradients():
    def fn(a, b):
        return np.sum(L.solve(a, b)) + L.slogdet(a)[1]

    import graphc

    graph = trace_like(graphc.grad(fn, (0, 1)), positive(M), normal(4)).graph
    assert [n.op for n in graph.order].count("lu") == 1


def test_twins_are_those_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = positive(M), normal(4, 2)
    np.testing.assert_allclose(gla.expm(M), linalg.expm(M), rtol=1e-12)
    np.testing.assert_allclose(gla.expm(30 * M), linalg.expm(30 * M), rtol=1e-9)
    for options in ({}, {"lower": True}, {"trans": "T"}, {"unit_diagonal": True}):
        expected = linalg.solve_triangular(a, b, **options)
        np.testing.assert_allclose(gla.solve_triangular(a, b, **options), expected, rtol=1e-10)
    for lower in (False, True):
        expected = linalg.cho_solve(linalg.cho_factor(a, lower), b)
        np.testing.assert_allclose(gla.cho_solve(gla.cho_factor(a, lower), b), expected)
    z, b = a + 1j * np.tril(normal(4, 4), -1), b + 1j * normal(4, 2, seed=3)
    z = z + 2 * np.eye(4) + 1j * np.diag(normal(4))
    for trans in ("N", "T", "C"):
        for options in ({}, {"lower": True}, {"lower": True, "unit_diagonal": True}):
            expected = linalg.solve_triangular(z, b, trans, **options)
            found = gla.solve_triangular(z, b, trans, **options)
            np.testing.assert_allclose(found, expected, rtol=1e-10)
    with pytest.raises(L.LinAlgError, match="ingular"):
        gla.solve_triangular(np.diag([1j, 0]), b[:2])
    hermitian = z @ np.conj(z.T)
    for lower in (False, True):
        expected = linalg.cho_solve(linalg.cho_factor(hermitian, lower), b)
        np.testing.assert_allclose(gla.cho_solve(gla.cho_factor(hermitian, lower), b), expected)


def test_scipy_functions_name_what_to_write_at_the_users_line():
    linalg = pytest.importorskip("scipy.linalg")
    for fn, text in (
        (lambda a: linalg.expm(a), "Write graphc.linalg.expm(...)"),
        (lambda a: linalg.inv(a), "Write np.linalg.inv(...)"),
        (lambda a: linalg.logm(a), "Use NumPy functions on it"),
    ):
        with pytest.raises(TraceError) as caught:
            trace_like(fn, M)
        assert text in str(caught.value) and "test_linalg_traced.py" in str(caught.value)


def test_every_supported_function_of_linalg_has_a_case():
    text = inspect.getsource(linalg_cases)
    products = {"matmul", "outer", "diagonal", "trace", "tensordot", "vecdot", "cross",
                "matrix_transpose"}  # fmt: skip
    names = {public_name(f) for f in FUNCTIONS}
    linalg = {n.rsplit(".", 1)[-1] for n in names if n.startswith("np.linalg.")}
    assert not sorted(n for n in linalg - products if f"L.{n}" not in text)
