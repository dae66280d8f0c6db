"""graphc.special: twins of SciPy's functions on traced and plain values, and what to do where
SciPy's own cannot trace."""

import mpmath
import numpy as np
import pytest

import graphc as gc
from graphc import special
from graphc.errors import GradientError, TraceError

scipy_special = pytest.importorskip("scipy.special")

POINTS = {"erfinv": (-0.9, 0.2, 0.99), "logit": (0.1, 0.5, 0.9), "ndtri": (0.01, 0.5, 0.99),
          "erfcinv": (0.01, 0.9, 1.7)}  # fmt: skip
ONE = ["digamma", "entr", "erf", "erfc", "erfcinv", "erfinv", "exp10", "expit", "gamma", "gammaln",
       "gammasgn", "log_expit", "log_ndtr", "logit", "ndtr", "ndtri", "psi"]  # fmt: skip
TWO = ["beta", "betaln", "kl_div", "rel_entr", "xlog1py", "xlogy", "zeta"]


@pytest.mark.parametrize("name", ONE)
def test_plain_arrays_of_one_argument(name):
    x = np.array(POINTS.get(name, (0.3, 1.7, 12.5)))
    found = getattr(special, name)(x)
    assert type(found) is np.ndarray
    np.testing.assert_allclose(found, getattr(scipy_special, name)(x), 1e-12)
    small = getattr(special, name)(x.astype(np.float32))
    assert small.dtype == np.float32
    assert isinstance(getattr(special, name)(0.25), float)


@pytest.mark.parametrize("name", TWO)
def test_plain_arrays_of_two_arguments(name):
    x, y = np.array([[1.5], [2.0]]), np.array([0.5, 1.0, 3.0])
    found = getattr(special, name)(x, y)
    np.testing.assert_allclose(found, getattr(scipy_special, name)(x, y), 1e-12)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_functions_of_whole_arrays(name, axis):
    x = np.array([[1.0, 700.0, -5.0], [0.0, -np.inf, 2.0]])
    expected = getattr(scipy_special, name)(x, axis=axis)
    np.testing.assert_allclose(getattr(special, name)(x, axis=axis), expected, 1e-13)
    traced = gc.interpret(lambda x: getattr(special, name)(x, axis=axis))(x)
    np.testing.assert_allclose(traced, expected, 1e-13)


def test_logsumexp_with_weights_and_signs():
    x, b = np.array([1.0, 2.0, 3.0]), np.array([1.0, -2.0, 0.5])
    value, sign = special.logsumexp(x, b=b, return_sign=True)
    expected = scipy_special.logsumexp(x, b=b, return_sign=True)
    np.testing.assert_allclose((value, sign), expected)
    assert special.logsumexp(np.zeros(0)) == -np.inf


@pytest.mark.parametrize("x", [-3.7, -0.5, -0.1, 0.3, 2.0, 40.0])
def test_derivatives_of_the_gamma_family_also_below_zero(x):
    first = gc.interpret(gc.grad(lambda x: special.gammaln(x)))(x)
    second = gc.interpret(gc.grad(gc.grad(lambda x: special.gammaln(x))))(x)
    third = gc.interpret(gc.grad(gc.grad(lambda x: special.digamma(x))))(x)
    for order, found in enumerate((first, second, third)):
        np.testing.assert_allclose(found, float(mpmath.polygamma(order, x)), 1e-12)


def test_third_derivatives_of_erfinv():
    slope = lambda f: gc.interpret(gc.grad(f))  # noqa: E731
    third = slope(gc.grad(gc.grad(lambda x: special.erfinv(x))))
    np.testing.assert_allclose(third(0.6), float(mpmath.diff(mpmath.erfinv, 0.6, 3)), 1e-9)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_the_python_functions_of_scipy_name_their_twin(name):
    def fn(x):
        return getattr(scipy_special, name)(x)

    with pytest.raises(TraceError) as caught:
        gc.interpret(fn)(np.ones(3))
    message = str(caught.value)
    assert "graphc.special." in message or "needs the elements" in message, message
    assert "test_special_functions.py" in message


def test_scipys_logsumexp_written_out_names_its_twin():
    with pytest.raises(TraceError, match=r"graphc\.special\.logsumexp"):
        gc.interpret(lambda x: scipy_special.logsumexp(x))(np.ones(3))
    with pytest.raises(TraceError, match=r"graphc\.special\.polygamma"):
        gc.interpret(lambda x: scipy_special.polygamma(1, x))(np.ones(3))


def test_the_order_of_zeta_is_a_constant():
    with pytest.raises(GradientError, match="must be known while tracing"):
        gc.interpret(lambda s: scipy_special.zeta(s, 2.0))(3.0)
