"""Derivatives of np.linalg: by central differences to second order, and where they are special."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import check_gradient
from linalg_cases import CASES, normal, positive, symmetric
from trace_helpers import run_traced, trace_like

import graphc
from graphc.errors import GradientError

L = np.linalg
DIFFERENTIABLE = [c for c in CASES if c.order]


def gradient(fn, x):
    return run_traced(graphc.grad(fn), np.asarray(x, float))


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_gradient(case):
    traced = trace_like(case.fn, *case.arrays)
    check_gradient(traced.graph, list(case.arrays), order=case.order, rtol=2e-6)


@pytest.mark.parametrize("case", DIFFERENTIABLE[::3], ids=str)
def test_float32_gradient_is_that_of_float64(case):
    def summed(*args):
        outputs = case.fn(*args)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return sum(np.sum(o) for o in outputs)

    single = tuple(a.astype(np.float32) for a in case.arrays)
    found = run_traced(graphc.grad(summed), *single)
    expected = run_traced(graphc.grad(summed), *(a.astype(np.float64) for a in single))
    assert found.dtype == np.float32
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-4 * scale)


def test_third_derivatives():
    traced = trace_like(lambda a: L.slogdet(positive(a))[1], normal(2, 2))
    check_gradient(traced.graph, [normal(2, 2)], order=3, rtol=1e-6)


@pytest.mark.parametrize("ord", [None, 2, "nuc", 1, np.inf])
def test_the_gradient_of_a_norm_at_zero_is_zero_or_finite(ord):
    grad = gradient(lambda x: L.norm(x, ord), np.zeros((3, 3)))
    assert np.isfinite(grad).all()
    if ord in (None, 2, "nuc"):
        assert not grad.any()


def test_determinants_of_singular_matrices_have_their_cofactors_as_gradient():
    a = np.diag([2.0, 3.0, 4.0, 0.0])
    np.testing.assert_allclose(gradient(L.det, a), np.diag([0, 0, 0, 24.0]), atol=1e-12)
    assert not gradient(L.det, np.zeros((4, 4))).any()


def test_symmetric_arguments_have_symmetric_gradients():
    a = positive(normal(3, 3))
    for fn in (lambda x: np.sum(L.cholesky(x)), lambda x: np.sum(L.eigh(x)[0] ** 3)):
        grad = gradient(fn, a)
        np.testing.assert_allclose(grad, grad.T)
        composed = gradient(lambda x, fn=fn: fn(symmetric(x)), a)
        np.testing.assert_allclose(grad, composed, rtol=1e-10)


def test_equal_eigenvalues_and_singular_values_give_finite_gradients():
    rotated = np.diag([1.0, 2.0, 2.0])
    for fn in (lambda x: np.sum(L.eigh(x)[1] ** 3), lambda x: np.sum(L.svd(x)[0] ** 3)):
        assert np.isfinite(gradient(fn, rotated)).all()
    # Symmetric functions of them are differentiable, and right.
    np.testing.assert_allclose(
        gradient(lambda x: np.sum(L.eigvalsh(x) ** 2), rotated), 2 * rotated, atol=1e-12
    )
    np.testing.assert_allclose(
        gradient(lambda x: np.sum(L.svd(x, compute_uv=False) ** 2), rotated), 2 * rotated,
        atol=1e-12,
    )  # fmt: skip
    assert np.isfinite(gradient(lambda x: np.sum(L.svd(x)[0]), np.zeros((3, 3)))).all()


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (lambda a: np.sum(L.qr(a, mode="complete")[0]), "use mode='reduced'"),
        (lambda a: np.sum(L.svd(a)[0]), "use full_matrices=False"),
    ],
)
def test_arbitrary_vectors_have_no_gradient(fn, text):
    for derivative in (graphc.grad, graphc.jacfwd):
        with pytest.raises(GradientError, match=text) as caught:
            run_traced(derivative(fn), normal(4, 2))
        assert "at test_linalg_gradients.py:" in str(caught.value)
