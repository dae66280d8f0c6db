"""Rows 11 to 14 and 28 of the table of errors, through the public functions (27: the examples)."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ad import rules
from graphc.errors import GradientError, TraceError

X = np.array([0.5, 1.5, 2.5, 3.5])


def message(fn, *args, error=GradientError):
    with pytest.raises(error) as caught:
        fn(*args)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8
    return text


OF_SCALARS = [gc.grad, gc.value_and_grad]


@pytest.mark.parametrize("transform", [*OF_SCALARS, gc.elementwise_grad])
def test_row_11_gradient_with_respect_to_an_integer(transform):
    text = message(transform(lambda x: x * 1.0), 2)
    assert "`x`, which is int64" in text and "2.0" in text
    text = message(transform(lambda x: x * 1.0), np.arange(3))
    assert "`x`, which is int64" in text and "x.astype(float)" in text


@pytest.mark.parametrize("transform", [gc.jvp, gc.vjp, gc.hvp])
def test_row_11_in_products_with_a_direction(transform):
    text = message(transform(lambda x: (x * 1.0).sum()), np.arange(3), np.ones(3))
    assert "`x`, which is int64" in text and "x.astype(float)" in text


@pytest.mark.parametrize("transform", OF_SCALARS)
def test_row_12_gradient_of_a_vector_or_a_tuple(transform):
    text = message(transform(lambda x: x * 2), X)
    assert "output 0" in text and "shape (4,)" in text
    assert "jacobian" in text and "has_aux=True" in text
    text = message(transform(lambda x: (x.sum(), x)), X)
    assert "a tuple of 2" in text and "has_aux=True" in text


def test_row_12_what_it_points_to_works():
    np.testing.assert_allclose(gc.interpret(gc.jacobian(lambda x: x * 2))(X), 2 * np.eye(4))
    slope, aux = gc.interpret(gc.grad(lambda x: (x.sum(), x), has_aux=True))(X)
    np.testing.assert_array_equal(slope, 1)
    np.testing.assert_array_equal(aux, X)


@pytest.mark.parametrize("transform", [*OF_SCALARS, gc.elementwise_grad, gc.compile])
def test_row_13_a_function_without_return(transform):
    def forgot(x):
        x.sum()

    text = message(transform(forgot), X, error=(GradientError, TraceError))
    assert "`forgot` returned None; is a `return` missing?" in text


def test_row_14_an_op_without_a_gradient(monkeypatch):
    monkeypatch.delitem(rules.RULES, "take")

    def pick(table, i):
        return table[i].sum()

    text = message(gc.grad(pick), X, np.array([1, 2]))
    assert "`take`" in text and "test_gradient_errors.py:" in text and "in pick" in text
    assert "ops with one" in text and "stop_gradient" in text
    assert "graphc.custom_vjp" in text


def test_row_14_what_it_points_to_works(monkeypatch):
    monkeypatch.delitem(rules.RULES, "take")
    pick = gc.custom_vjp(lambda table, i: table[i])

    @pick.backward
    def _(ct, result, table, i):
        back = np.zeros_like(table)
        np.add.at(back, i, ct)
        return back, None

    slope = gc.interpret(gc.grad(lambda table, i: pick(table, i).sum()))(X, np.array([1, 2, 2]))
    np.testing.assert_array_equal(slope, [0, 1, 2, 0])


def test_row_28_float64_is_honoured():
    x = X.astype(np.float32)

    def loss(x):
        return np.sum(x * x, dtype=np.float64)

    value, slope = gc.value_and_grad(loss)(x)
    assert value.dtype == np.float64 and slope.dtype == np.float32
    wide = gc.compile(lambda x: x.astype(np.float64) * (1 + 1e-12))(x)
    assert wide.dtype == np.float64 and (wide != x).all()
    for made in (gc.grad(loss), gc.elementwise_grad(np.sin)):
        assert made(X).dtype == np.float64
    assert gc.jvp(np.sin)(X, X)[1].dtype == gc.hvp(loss)(X, X).dtype == np.float64


def test_an_unknown_keyword_is_named_with_the_signature():
    def loss(w, x):
        return w * x

    for derivative in (gc.grad(loss), gc.jacobian(loss)):
        with pytest.raises(GradientError) as caught:
            derivative(wt=1.0, x=2.0)
        assert "loss() got an unexpected keyword argument 'wt': it is `loss(w, x)`" in str(
            caught.value
        )
    with pytest.raises(GradientError, match="got 0 positional arguments"):
        gc.grad(loss)(x=2.0)
