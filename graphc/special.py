"""Special functions for traced values and for plain arrays.

SciPy's ufuncs (``scipy.special.erf`` ...) answer NumPy's protocol and work inside traced functions
as they are. Its Python functions (``logsumexp``, ``softmax``, ``log_softmax``, ``polygamma``) ask
for the elements of their arguments; here are twins that trace. SciPy need not be installed, but
for functions that are its own (``jv``, ``betainc``, ``hyp2f1`` ...: ``pip install
"graphc[special]"``): compiled code calls SciPy's C functions, element by element.

>>> import numpy as np
>>> import graphc as gc
>>> gc.special.softmax(np.array([0.0, 0.0]))
array([0.5, 0.5])
>>> gc.grad(lambda x: gc.special.logsumexp(x))(np.zeros(2))
array([0.5, 0.5])
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import interp
from graphc.errors import OptionError, no_attribute
from graphc.trace import scipy_special as _scipy  # noqa: F401 (its rules)
from graphc.trace import special as _special
from graphc.trace.context import any_tracer, current_trace
from graphc.trace.dispatch import Located
from graphc.trace.tracing import spec_of, trace
from graphc.trace.tree import unflatten

__all__ = [
    "beta",
    "betaln",
    "digamma",
    "ellipe",
    "ellipk",
    "entr",
    "erf",
    "erfc",
    "erfcinv",
    "erfinv",
    "exp1",
    "exp10",
    "expi",
    "expit",
    "fresnel",
    "gamma",
    "gammainc",
    "gammaincc",
    "gammaln",
    "gammasgn",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "j0",
    "j1",
    "kl_div",
    "lambertw",
    "log_expit",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "rel_entr",
    "sici",
    "softmax",
    "softplus",
    "spence",
    "xlog1py",
    "xlogy",
    "y0",
    "y1",
    "zeta",
]


def __getattr__(name: str):
    close = difflib.get_close_matches(name, __all__, n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(close)}" if close else "see dir(graphc.special)"
    raise no_attribute(__name__, name, hint)


def __dir__() -> list[str]:
    return __all__


def _call(handler: Callable, *values: Any) -> Any:
    """``handler(context, *values)``; on plain arrays its graph is made and evaluated at once."""
    if any_tracer(values):
        with Located():
            return handler(current_trace(values), *values)
    values = tuple(np.asarray(v) if isinstance(v, list | tuple) else v for v in values)
    arrays = [np.asarray(v) for v in values]
    traced = trace(
        lambda *tracers: handler(current_trace(tracers), *tracers),
        tuple(spec_of(v, f"argument {k}") for k, v in enumerate(values)),
    )
    found = interp.evaluate(traced.graph, arrays)
    return unflatten(traced.out_tree, [value[()] for value in found])


def _elementwise(name: str, *values: Any) -> Any:
    return _call(lambda context, *xs: _special.twin(context, name, *xs), *values)


def logsumexp(a: Any, axis=None, b: Any = None, keepdims=False, return_sign=False) -> Any:
    """``log(sum(b * exp(a)))`` over ``axis`` (all axes), without overflow."""

    def handler(context, x, weights=None):
        return _special.logsumexp(context, x, axis, weights, keepdims, return_sign)

    return _call(handler, a) if b is None else _call(handler, a, b)


def softmax(x: Any, axis=None) -> Any:
    """``exp(x) / sum(exp(x))`` over ``axis`` (all axes), without overflow."""
    return _call(lambda context, v: _special.softmax(context, v, axis), x)


def log_softmax(x: Any, axis=None) -> Any:
    """Logarithm of :func:`softmax`."""
    return _call(lambda context, v: _special.log_softmax(context, v, axis), x)


def polygamma(n: int, x: Any) -> Any:
    """The derivative of order ``n`` (a constant) of digamma for x > 0; NaN below 0 from order 2."""
    return _call(lambda context, v: _special.polygamma(context, n, v), x)


def beta(a: Any, b: Any) -> Any:
    """The beta function of a, b > 0."""
    return _elementwise("beta", a, b)


def betaln(a: Any, b: Any) -> Any:
    """Logarithm of the beta function."""
    return _elementwise("betaln", a, b)


def digamma(x: Any) -> Any:
    """Derivative of :func:`gammaln`; NaN at 0, -1, -2, ... from below."""
    return _elementwise("digamma", x)


def ellipe(m: Any) -> Any:
    """Complete elliptic integral of the second kind, of the parameter m <= 1."""
    return _elementwise("ellipe", m)


def ellipk(m: Any) -> Any:
    """Complete elliptic integral of the first kind, of the parameter m < 1."""
    return _elementwise("ellipk", m)


def entr(x: Any) -> Any:
    """Entropy ``-x log(x)``; 0 at 0, -inf below."""
    return _elementwise("entr", x)


def erf(x: Any) -> Any:
    """The error function."""
    return _elementwise("erf", x)


def erfc(x: Any) -> Any:
    """1 - erf(x), accurate where erf(x) is near 1."""
    return _elementwise("erfc", x)


def erfcinv(y: Any) -> Any:
    """The x with ``erfc(x) = y``."""
    return _elementwise("erfcinv", y)


def erfinv(y: Any) -> Any:
    """The x with ``erf(x) = y``."""
    return _elementwise("erfinv", y)


def exp1(x: Any) -> Any:
    """The exponential integral E1 of x > 0."""
    return _elementwise("exp1", x)


def exp10(x: Any) -> Any:
    """10**x."""
    return _elementwise("exp10", x)


def expi(x: Any) -> Any:
    """The exponential integral Ei."""
    return _elementwise("expi", x)


def expit(x: Any) -> Any:
    """The logistic function ``1 / (1 + exp(-x))``."""
    return _elementwise("expit", x)


def fresnel(x: Any) -> Any:
    """The integrals ``(S, C)`` of sin and cos of ``pi t**2 / 2`` from 0 to x."""
    return _elementwise("fresnel", x)


def gamma(x: Any) -> Any:
    """The gamma function, by its logarithm: about 1e-13 accurate."""
    return _elementwise("gamma", x)


def gammainc(a: Any, x: Any) -> Any:
    """Regularized lower incomplete gamma function: the distribution function of a gamma
    distribution of shape ``a``."""
    return _elementwise("gammainc", a, x)


def gammaincc(a: Any, x: Any) -> Any:
    """1 - :func:`gammainc`, with all its digits where it is small."""
    return _elementwise("gammaincc", a, x)


def gammaln(x: Any) -> Any:
    """Logarithm of the absolute value of the gamma function."""
    return _elementwise("gammaln", x)


def gammasgn(x: Any) -> Any:
    """Sign of the gamma function."""
    return _elementwise("gammasgn", x)


def i0(x: Any) -> Any:
    """Modified Bessel function of the first kind, order 0."""
    return _elementwise("i0", x)


def i0e(x: Any) -> Any:
    """``exp(-|x|) i0(x)``."""
    return _elementwise("i0e", x)


def i1(x: Any) -> Any:
    """Modified Bessel function of the first kind, order 1."""
    return _elementwise("i1", x)


def i1e(x: Any) -> Any:
    """``exp(-|x|) i1(x)``."""
    return _elementwise("i1e", x)


def j0(x: Any) -> Any:
    """Bessel function of the first kind, order 0."""
    return _elementwise("j0", x)


def j1(x: Any) -> Any:
    """Bessel function of the first kind, order 1."""
    return _elementwise("j1", x)


def kl_div(x: Any, y: Any) -> Any:
    """``x log(x / y) - x + y``."""
    return _elementwise("kl_div", x, y)


def lambertw(x: Any) -> Any:
    """Principal branch of the inverse of ``w exp(w)``, of real x >= -1/e."""
    return _elementwise("lambertw", x)


def log_expit(x: Any) -> Any:
    """``log(expit(x))``, accurate for large negative x."""
    return _elementwise("log_expit", x)


def log_ndtr(x: Any) -> Any:
    """``log(ndtr(x))``, accurate for large negative x."""
    return _elementwise("log_ndtr", x)


def logit(p: Any) -> Any:
    """Inverse of :func:`expit`."""
    return _elementwise("logit", p)


def ndtr(x: Any) -> Any:
    """Distribution function of the standard normal distribution."""
    return _elementwise("ndtr", x)


def ndtri(p: Any) -> Any:
    """Quantile function of the standard normal distribution."""
    return _elementwise("ndtri", p)


def rel_entr(x: Any, y: Any) -> Any:
    """``x log(x / y)``; 0 at x = 0."""
    return _elementwise("rel_entr", x, y)


def sici(x: Any) -> Any:
    """The sine and cosine integrals ``(Si, Ci)``."""
    return _elementwise("sici", x)


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``."""
    return _elementwise("softplus", x)


def spence(x: Any) -> Any:
    """The dilogarithm of 1 - x, x >= 0."""
    return _elementwise("spence", x)


def xlog1py(x: Any, y: Any) -> Any:
    """``x log1p(y)``, 0 where x = 0."""
    return _elementwise("xlog1py", x, y)


def xlogy(x: Any, y: Any) -> Any:
    """``x log(y)``, 0 where x = 0."""
    return _elementwise("xlogy", x, y)


def y0(x: Any) -> Any:
    """Bessel function of the second kind, order 0, of x > 0."""
    return _elementwise("y0", x)


def y1(x: Any) -> Any:
    """Bessel function of the second kind, order 1, of x > 0."""
    return _elementwise("y1", x)


def zeta(s: Any, q: Any = None) -> Any:
    """Hurwitz zeta function for s > 1, q > 0; no derivative by ``s``. Without ``q`` it is 1: the
    Riemann zeta function, for s >= 1 (OptionError below)."""
    if q is None:
        q = 1.0
        if not any_tracer((s,)) and np.any(np.asarray(s) < 1):
            raise OptionError(
                "zeta(s) is for s >= 1 here.\n"
                "For others call scipy.special.zeta outside the compiled function."
            )
    return _elementwise("zeta", s, q)


def _twin(name: str) -> Callable:
    """The function ``name`` of scipy.special, of traced values and of arrays."""

    def function(*values: Any) -> Any:
        return _elementwise(name, *values)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"As ``scipy.special.{name}``."
    return function


psi = digamma
_rest = sorted(_special.RULES.keys() - set(__all__))
globals().update({name: _twin(name) for name in _rest})
__all__ += _rest
