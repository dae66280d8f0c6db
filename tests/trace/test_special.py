"""Ufuncs of scipy.special inside traced functions."""

import numpy as np
import pytest
from trace_helpers import assert_like_numpy

import graphc as gc
from graphc.errors import TraceError

special = pytest.importorskip("scipy.special")

INF, NAN = np.inf, np.nan
UNARY = [-3.0, -0.5, 0.0, 0.3, 0.5, 0.7, 1.0, 4.0, INF, -INF, NAN]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name",
    [
        "erf",
        "erfc",
        "expit",
        "logit",
        "ndtr",
        "log_expit",
        "exp2",
        "exp10",
        "expm1",
        "log1p",
        "cbrt",
        "entr",
        "softplus",
    ],
)
def test_one_argument(name, dtype):
    x = np.array(UNARY, dtype)
    assert_like_numpy(getattr(special, name), (x,), dtype)
    assert_like_numpy(getattr(special, name), (np.array([-1, 0, 1, 2]),), "float64")


@pytest.mark.parametrize("name", ["xlogy", "xlog1py", "rel_entr", "kl_div"])
def test_two_arguments(name):
    values = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, INF, NAN])
    x, y = np.meshgrid(values, values)
    if name == "kl_div":
        x, y = np.array([0.0, 0.5, 2.0]), np.array([0.5, 0.5, 1.0])
    assert_like_numpy(getattr(special, name), (x, y))
    assert_like_numpy(lambda v: getattr(special, name)(v, 2), (np.array([0.5, 1.0]),))


def test_logit_is_accurate_around_one_half():
    x = 0.5 + np.array([1e-12, -1e-9, 1e-3, 0.19, 0.21])
    np.testing.assert_allclose(gc.interpret(special.logit)(x), special.logit(x), 4e-15)


def test_derivative_of_xlogy_at_zero():
    slope = gc.grad(lambda x, y: np.sum(special.xlogy(x, y)), argnums=(0, 1))
    dx, dy = slope(np.array([0.0, 2.0]), np.array([3.0, 3.0]))
    np.testing.assert_allclose(dx, np.log([3.0, 3.0]))
    np.testing.assert_allclose(dy, [0.0, 2 / 3])


def call_price(spot, strike, rate, volatility, years):
    spread = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + volatility**2 / 2) * years) / spread
    discounted = strike * np.exp(-rate * years)
    return spot * special.ndtr(d1) - discounted * special.ndtr(d1 - spread)


def erf_price(spot, strike, rate, volatility, years):
    def ndtr(x):
        return 0.5 * (1 + special.erf(x / np.sqrt(2)))

    spread = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + volatility**2 / 2) * years) / spread
    return spot * ndtr(d1) - strike * np.exp(-rate * years) * ndtr(d1 - spread)


@pytest.mark.parametrize("price", [call_price, erf_price])
def test_black_scholes_and_its_greeks(price):
    args = (100.0, 95.0, 0.03, 0.2, 0.5)
    spread = 0.2 * np.sqrt(0.5)
    d1 = (np.log(100 / 95) + (0.03 + 0.02) * 0.5) / spread
    density = np.exp(-d1 * d1 / 2) / np.sqrt(2 * np.pi)
    value, (delta, vega) = gc.value_and_grad(price, argnums=(0, 3))(*args)
    np.testing.assert_allclose(value, call_price(*args), 1e-13)
    np.testing.assert_allclose(delta, special.ndtr(d1), 1e-13)
    np.testing.assert_allclose(vega, 100 * density * np.sqrt(0.5), 1e-12)


def test_messages_say_scipy_special():
    with pytest.raises(TraceError, match=r"^scipy\.special\.wofz is not supported"):
        gc.interpret(lambda x: special.wofz(x))(1.0)
    with pytest.raises(ValueError, match=r"scipy\.special\.xlogy of `x` \(2,\), `y` \(3,\)"):
        gc.interpret(lambda x, y: special.xlogy(x, y))(np.ones(2), np.ones(3))


def test_a_ufunc_of_the_user_is_called_by_its_own_name():
    mine = np.frompyfunc(lambda x: x + 1, 1, 1)
    with pytest.raises(TraceError, match=r"^the ufunc <lambda> \(vectorized\) calls Python"):
        gc.interpret(lambda x: mine(x))(1.0)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_infinite_scores_are_scipys(name):
    function = getattr(gc.special, name)
    for x in ([-np.inf, -np.inf], [np.inf, 0.0], [-np.inf, 1.0], [np.inf, np.inf], [np.nan, 0.0]):
        with np.errstate(all="ignore"):
            expected = getattr(special, name)(np.array(x))
        np.testing.assert_allclose(function(np.array(x)), expected)
