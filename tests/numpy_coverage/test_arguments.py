"""Unusual arguments: as NumPy has them, value, dtype and shape. Random programs found each."""
# ruff: noqa: E501 (tables of expressions)

import warnings

import numpy as np
import pytest
from generated import assert_same, python_run
from helpers import check_gradient
from trace_helpers import assert_like_numpy, trace_like

import graphc as gc

F = np.array([[-1.7, 0.4, 2.1], [1.3, -0.6, 0.9]])
I = np.array([[-3, 2, 5], [4, 1, -2]])
Z = F + 1j * F[::-1]
N = np.where(F > 1, np.nan, F)
ZN = np.where(F > 1, np.nan, Z)
M = F > 0
W = np.array([[0.3, 1.2, 0.5], [2.0, 0.0, 0.7]])
SMALL = I.astype(np.int8)

SAME = [
    ("np.mean(i, axis=0, dtype=bool)", "np.mean(i, dtype=np.uint8)", "np.mean(f, axis=1, dtype=int)"),
    ("np.var(f, dtype=complex)", "np.var(i, axis=0, dtype=int, ddof=1)", "np.std(z, dtype='f4')",
     "f.var(axis=1, dtype=np.complex64)", "np.std(i, dtype=int)", "np.var(z, axis=0, correction=1)",
     "np.var(f, axis=1, mean=np.mean(f, axis=1, keepdims=True))", "np.var(z, where=m)"),
    ("np.nanmean(zn, axis=0)", "np.nanvar(zn)", "np.nanstd(zn, axis=1, ddof=1, where=m)",
     "np.nanmax(zn, axis=0)", "np.nanmedian(zn, axis=1)", "np.nanmedian(n, axis=0, keepdims=True)",
     "np.nanmedian(np.where(m, np.inf, np.nan))", "np.nanvar(i, dtype=int)", "np.nanstd(i, dtype=int)"),
    ("np.max(z, axis=1, initial=0, where=m)", "np.logical_and.reduce(i, axis=0, initial=2)",
     "np.logaddexp.reduce(f, axis=1, initial=1.5, where=m)", "np.logical_or.reduce(f, dtype=bool)",
     "np.true_divide.reduce(f, axis=1, initial=1.5, where=m)", "np.maximum.reduce(i, dtype='f4')",
     "np.bitwise_xor.reduce(i, axis=1, initial=5, where=m)", "np.hypot.outer(s[0, 1], 2)",
     "np.remainder.outer(s[0, 2], 2)", "np.bitwise_and.reduce(i, dtype=np.uint8, where=m)"),
    ("np.quantile(i, 1)", "np.quantile(s, [0, 1], axis=1)", "np.quantile(m, 1)",
     "np.quantile(m, 0.3, method='lower')", "np.nanquantile(s, np.float32(0.25), axis=1)",
     "np.percentile(s, np.float32(25), axis=0, method='midpoint')",
     "np.quantile(f, [0, 0.3, 1], weights=w[0], axis=1, method='inverted_cdf')",
     "np.percentile(f, 40, weights=w, method='inverted_cdf', keepdims=True)",
     "np.nanquantile(n, 0.7, weights=w, method='inverted_cdf', axis=1)",
     "np.nanquantile(n[:0], [0.2, 0.3], axis=1)"),
    ("np.average(f, axis=(1, 0), weights=w.T)", "np.average(f, axis=(0,), returned=True)",
     "np.cov(f, ddof=3)", "np.cov(z, rowvar=False)", "np.corrcoef(z)", "np.cov(f[:1], rowvar=False)",
     "np.unwrap(i, period=3)", "np.unwrap(i, period=2, axis=0)", "np.cumulative_sum(f[0, 0])"),
    ("o = f * 0\nnp.add(f[0], 1, out=o)\nreturn o", "np.roll(f, (1, 2))", "np.roll(f, (1, 2), axis=0)",
     "o = s * 1\nnp.add(i.astype('u8'), 1, out=o, where=m)\nreturn o", "np.angle(s, deg=True)",
     "np.linspace(s.astype(np.uint8), 1, 3)", "np.gradient(f, 2.0, [0, 1, 3])",
     "np.piecewise(f, [m], [lambda v, c: v * c, 0], c=2)", "np.histogram(f[:0], 3)",
     "np.nan_to_num(zn, nan=2)", "np.vecdot(z, z)", "np.vecmat(z[:, 0], z)"),
    ("np.pad(s, 1, constant_values=((1, 2), (3, 4)))", "np.pad(f, 1, constant_values=(f[0, 0], 2))"),
    *[(f"y = {x} + 0\nnp.{call}\nreturn y",) for x in ("f", "i") for call in (
        "add.at(y, (0, 0), 2)", "add.at(y, (slice(None), 1), 1)", "subtract.at(y, [-1, -1], 1.5)",
        "add.at(y, 1, True)")],
]  # fmt: skip


def function(text: str):
    scope = {"np": np}
    body = text if "\n" in text else f"return {text}"
    lines = "\n".join("    " + line for line in body.splitlines())
    exec(f"def fn(f, i, z, n, zn, m, w, s):\n{lines}", scope)
    return scope["fn"]


ARGUMENTS = (F, I, Z, N, ZN, M, W, SMALL)


@pytest.mark.parametrize("text", [t for group in SAME for t in group])
def test_as_numpy(text):
    fn = function(text)
    traced = assert_like_numpy(fn, ARGUMENTS, "float32")
    graph = traced.graph
    if any(node.dtype == np.float16 for node in graph.order):
        return
    expected = gc.interp.evaluate(graph, list(ARGUMENTS))
    assert_same(python_run(graph, list(ARGUMENTS), optimize=True), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["np.var(f, axis=0, dtype=float, correction=1)", "np.average(f, axis=0, weights=w[:, 0])",
     "np.quantile(f, [0.2, 0.6], weights=w + 0.1, method='inverted_cdf')",
     "np.nanmedian(f, axis=1)", "np.logaddexp.reduce(f, axis=1, initial=1.5, where=f > 0)",
     "np.divide.reduce(f, axis=1, initial=1.5, where=f > 0)", "np.cov(f, ddof=0)"],
)  # fmt: skip
def test_derivatives(text):
    fn = function(text)
    graph = trace_like(lambda f, w: fn(f, I, Z, N, ZN, M, w, SMALL), F, W).graph
    check_gradient(graph, [F, W], 2, rtol=2e-6)


@pytest.mark.parametrize(
    "text",
    ["np.nanmean(n, dtype=int)", "np.nanvar(n, dtype=bool)", "np.quantile(z, 0.3)",
     "np.percentile(m, 30)", "np.max(i, initial=np.inf)", "np.std(i, axis=0, dtype=int)",
     "np.logical_xor.reduce(f, dtype=complex)", "np.copysign.reduce(f, dtype=np.uint8)",
     "np.add.reduceat(f, [0, 2])", "np.sum(f, axis=True)", "np.var(f, ddof=1, correction=1)",
     "np.average(f, axis=0, weights=np.zeros(2))", "np.average(f, weights=w[0])",
     "np.average(f, weights=w * 0)", "np.quantile(f, 0.3, weights=w * 0, method='inverted_cdf')",
     "np.quantile(f, 0.3, weights=w)", "np.gradient(f, [0, 2])", "np.vecdot(f, f[:, :1])",
     "np.vander(f)", "np.pad(f[:0], 1, 'mean')", "np.matvec(f, f[0, :1])"],
)  # fmt: skip
def test_refused_as_in_numpy(text):
    fn = function(text)
    with (
        pytest.raises((TypeError, ValueError, ArithmeticError, IndexError)),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        fn(*ARGUMENTS)
    with pytest.raises((TypeError, ValueError, ArithmeticError, IndexError)):
        gc.interpret(fn)(*ARGUMENTS)


def test_weights_that_sum_to_zero_are_an_error_of_the_call():
    f = gc.compile(lambda x, w: np.average(x, axis=0, weights=w))
    np.testing.assert_allclose(f(F, np.array([1.0, 3.0])), (F[0] + 3 * F[1]) / 4)
    with pytest.raises(ZeroDivisionError, match=r"Weights sum to zero.*test_arguments\.py"):
        f(F, np.array([1.0, -1.0]))
