"""What SciPy and others cannot take from a trace is refused with what to write."""

import re
from fractions import Fraction

import numpy as np
import pytest

import graphc as gc
from graphc.errors import IndexingError, TraceError

integrate = pytest.importorskip("scipy.integrate")
interpolate = pytest.importorskip("scipy.interpolate")
optimize = pytest.importorskip("scipy.optimize")
signal = pytest.importorskip("scipy.signal")
sparse = pytest.importorskip("scipy.sparse")
stats = pytest.importorskip("scipy.stats")

T = np.linspace(0.0, 1.0, 5)
A = sparse.csr_array(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))
spline = interpolate.CubicSpline(T, T**2)


def quad(a):
    return integrate.quad(lambda x: np.exp(-a * x), 0, 1)[0]


def brentq(a):
    return optimize.brentq(lambda x: x * x - a, 0, 5)  # its C code goes on after an error


REFUSED = {
    "`integrate.quad` would make a constant*sum a rule, or step with gc.scan": quad,
    "`optimize.brentq` would make a constant*Call it outside, on a compiled function": brentq,
    "interp1d*np.interp(x, xp, fp)": lambda a: interpolate.interp1d(T, T)(a),
    "CubicSpline*np.eye(len(y)) at x": lambda a: interpolate.CubicSpline(T, T)(a),
    "`spline`*np.interp": lambda a: spline(a),
    "stats.norm*the formula": lambda a: stats.norm(a, 1.0).logpdf(T).sum(),
    "signal.lfilter*np.convolve": lambda a: signal.lfilter([1.0], [1.0, 0.5], a * T).sum(),
    "`A @ (a * np.ones(2))`*np.bincount(C.row": lambda a: (A @ (a * np.ones(2))).sum(),
    "`A.dot`*A.toarray() @ x": lambda a: A.dot(a * np.ones(2)).sum(),
    "Polynomial*np.polyval(c[::-1], x)": lambda a: np.polynomial.Polynomial([a, a])(T).sum(),
    "np.poly1d*np.polyval(p, x)": lambda a: np.poly1d(a * T)(T).sum(),
    "(vectorized)*gc.vmap(function)": lambda a: np.frompyfunc(lambda v: v * v, 1, 1)(a * T).sum(),
}


@pytest.mark.parametrize("words", REFUSED)
def test_calls_of_other_libraries(words):
    with pytest.raises(TraceError) as caught:
        gc.interpret(gc.grad(REFUSED[words]))(1.5)
    text = str(caught.value)
    assert re.search("(.|\n)*".join(map(re.escape, words.split("*"))), text), text
    assert "test_foreign.py" in text and len(text.splitlines()) <= 8


def test_what_is_advised_for_sparse_matrices_works():
    c = A.tocoo()
    x = np.array([2.0, 5.0])
    f = gc.interpret(lambda x: np.bincount(c.row, c.data * x[c.col], minlength=A.shape[0]))
    np.testing.assert_array_equal(f(x), A @ x)


class Bunch(dict):
    """As scikit-learn's data sets are."""


ARGUMENTS = {
    "such as d['data'] and d['target']": Bunch(data=np.ones(2), names=["a"], target=np.ones(2)),
    "Pass d.toarray(), or the arrays of d.tocoo()": A,
    "Pass float(d)": Fraction(1, 2),
    "Pass np.array(list(d))": iter([1, 2]),
}


@pytest.mark.parametrize("words", ARGUMENTS)
def test_arguments_that_hold_arrays_or_numbers(words):
    with pytest.raises(TraceError, match=re.escape(words)):
        gc.interpret(lambda d: d)(ARGUMENTS[words])


def test_indices_of_other_kinds():
    with pytest.raises(IndexingError, match=r"not str(.|\n)*table\[.a.\].to_numpy"):
        gc.interpret(lambda x: x["a"])(np.ones((2, 2)))
    with pytest.raises(IndexingError, match=r"not float64; convert it: y.astype\(int\)"):
        gc.interpret(lambda x, y: x[y])(np.ones(3), np.ones(2))
