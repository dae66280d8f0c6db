"""Functions of scipy.special that trace: SciPy's ufuncs answer NumPy's protocol.

SciPy is not imported: its ufuncs are known by their names, and only where it is loaded.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from graphc.errors import DTypeError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.build import full_like
from graphc.ir.node import Node
from graphc.trace.dtypes import common_dtype

RULES: dict = {}  # name of the ufunc -> rule(*nodes of the resolved dtypes) -> node


def is_special(function) -> bool:
    """Whether ``function`` is a ufunc of scipy.special."""
    if not isinstance(function, np.ufunc):
        return False
    modules = (sys.modules.get(f"scipy.special{part}") for part in ("", "._ufuncs"))
    return any(getattr(m, function.__name__, None) is function for m in modules if m is not None)


def _rule(function):
    RULES[function.__name__.strip("_")] = function
    return function


def _for_each(names: str) -> None:
    for name in names.split():
        RULES[name] = lambda *nodes, name=name: op(name, *nodes)


_for_each("erf erfc exp2 expm1 log1p cbrt erfinv erfcinv exp1 expi spence ellipk ellipe")
for _name in ("i0", "i0e", "i1", "i1e", "j0", "j1", "y0", "y1"):
    RULES[_name] = lambda x, row=f"bessel_{_name}": op(row, x)
RULES["sici"] = lambda x: (op("sine_integral", x), op("cosine_integral", x))
RULES["fresnel"] = lambda x: (op("fresnels", x), op("fresnelc", x))
RULES["expit"] = lambda x: op("sigmoid", x)
RULES["log_expit"] = lambda x: op("neg", op("softplus", op("neg", x)))
RULES["softplus"] = lambda x: op("softplus", x)
RULES["exp10"] = lambda x: op("pow", full_like(x, 10), x)


@_rule
def _ndtr(x: Node) -> Node:
    """The normal distribution function: erfc(-x / sqrt(2)) / 2."""
    return op("mul", op("erfc", op("mul", x, full_like(x, -math.sqrt(0.5)))), full_like(x, 0.5))


@_rule
def _lambertw(x: Node, *branch: Node) -> Node:
    if branch:
        raise DTypeError(
            "scipy.special.lambertw is complex.\nWrite graphc.special.lambertw(x), the principal "
            "branch of real x >= -1/e."
        )
    return op("lambertw", x)


@_rule
def _logit(x: Node) -> Node:
    one = full_like(x, 1)
    apart = op("log", op("div", x, op("sub", one, x)))
    shift = op("mul", op("sub", x, full_like(x, 0.5)), full_like(x, 2))
    near = op("sub", op("log1p", shift), op("log1p", op("neg", shift)))  # exact around 1/2
    return op("where", op("lt", op("abs", shift), full_like(x, 0.4)), near, apart)


def _x_log(x: Node, y: Node, log: str, smallest: float) -> Node:
    """``x * log(y)``, 0 at x = 0 also where the logarithm is infinite or undefined."""
    zero = full_like(x, 0)
    defined = op("logical_and", op("gt", y, full_like(y, smallest)), op("isfinite", y))
    numbers = op("logical_not", op("logical_or", defined, op("isnan", y)))
    dead = op("logical_and", op("eq", x, zero), numbers)
    return op("where", dead, zero, op("mul", x, op(log, y)))


@_rule
def _xlogy(x: Node, y: Node) -> Node:
    return _x_log(x, y, "log", 0)


@_rule
def _xlog1py(x: Node, y: Node) -> Node:
    return _x_log(x, y, "log1p", -1)


@_rule
def _entr(x: Node) -> Node:
    zero = full_like(x, 0)
    below = op("where", op("lt", x, zero), full_like(x, -math.inf), zero)
    inside = op("logical_or", op("gt", x, zero), op("isnan", x))
    return op("where", inside, op("neg", op("mul", x, op("log", x))), below)


@_rule
def _rel_entr(x: Node, y: Node) -> Node:
    zero = full_like(x, 0)
    both = op("logical_and", op("gt", x, zero), op("gt", y, zero))
    at_zero = op("logical_and", op("eq", x, zero), op("ge", y, zero))
    value = op("mul", x, op("log", op("div", x, y)))
    outside = op("where", at_zero, zero, full_like(x, math.inf))
    unknown = op("logical_or", op("isnan", x), op("isnan", y))
    return op("where", op("logical_or", both, unknown), value, outside)


@_rule
def _kl_div(x: Node, y: Node) -> Node:
    return op("add", _rel_entr(x, y), op("sub", y, x))


# ----------------------------------------------------------------------------- gamma functions


def _reflected(x: Node, low: float) -> tuple[Node, Node]:
    """Where x lies below ``low``, and x or 1 - x: what the functions of positive numbers take."""
    below = op("lt", x, full_like(x, low))
    return below, op("where", below, op("sub", full_like(x, 1), x), x)


def _half_turns(x: Node) -> Node:
    """pi times the distance of x from the nearest integer, which is exact."""
    return op("mul", op("sub", x, op("rint", x)), full_like(x, math.pi))


@_rule
def _gammaln(x: Node) -> Node:
    """By reflection below 0: log(pi / |sin(pi x)|) - gammaln(1 - x)."""
    below, positive = _reflected(x, 0)
    value = op("gammaln", positive)
    angle = op("where", below, _half_turns(x), full_like(x, math.pi / 2))
    sine = op("log", op("div", full_like(x, math.pi), op("abs", op("sin", angle))))
    other = op("where", op("eq", x, full_like(x, -math.inf)), full_like(x, math.inf),
               op("sub", sine, value))  # fmt: skip
    return op("where", below, other, value)


@_rule
def _gammasgn(x: Node) -> Node:
    odd = op("ne", op("mod", op("floor", x), full_like(x, 2)), full_like(x, 0))
    negative = op("logical_and", op("lt", x, full_like(x, 0)), odd)
    return op("where", negative, full_like(x, -1), full_like(x, 1))


@_rule
def _gamma(x: Node) -> Node:
    """By the exponential of its logarithm: relative error about 1e-16 times that logarithm."""
    zero, whole = full_like(x, 0), op("eq", op("floor", x), x)
    pole = op("logical_and", op("lt", x, zero), whole)
    value = op("mul", _gammasgn(x), op("exp", _gammaln(op("where", pole, full_like(x, 1), x))))
    return op("where", pole, full_like(x, math.nan), op(
        "where", op("eq", x, zero), op("copysign", full_like(x, math.inf), x), value))  # fmt: skip


@_rule
def _digamma(x: Node) -> Node:
    """By reflection below 0: digamma(1 - x) - pi / tan(pi x)."""
    below, positive = _reflected(x, 0)
    value = op("digamma", positive)
    angle = op("where", below, _half_turns(x), full_like(x, 1))
    pole = op("logical_and", below, op("eq", angle, full_like(x, 0)))
    other = op("sub", value, op("div", full_like(x, math.pi), op("tan", angle)))
    other = op("where", pole, full_like(x, math.nan), other)
    return op("where", below, other, value)


RULES["psi"] = _digamma


_for_each("zeta gammainc gammaincc")


@_rule
def _betaln(a: Node, b: Node) -> Node:
    return op("sub", op("add", _gammaln(a), _gammaln(b)), _gammaln(op("add", a, b)))


@_rule
def _beta(a: Node, b: Node) -> Node:
    sign = op("mul", op("mul", _gammasgn(a), _gammasgn(b)), _gammasgn(op("add", a, b)))
    return op("mul", sign, op("exp", _betaln(a, b)))


@_rule
def _loggamma(x: Node) -> Node:
    """Of reals: NaN below 0, where the logarithm is complex."""
    return op("where", op("lt", x, full_like(x, 0)), full_like(x, math.nan), _gammaln(x))


@_rule
def _rgamma(x: Node) -> Node:
    return op("mul", _gammasgn(x), op("exp", op("neg", _gammaln(x))))


@_rule
def _poch(x: Node, m: Node) -> Node:
    above = op("add", x, m)
    size = op("exp", op("sub", _gammaln(above), _gammaln(x)))
    return op("mul", op("mul", _gammasgn(above), _gammasgn(x)), size)


@_rule
def _binom(n: Node, k: Node) -> Node:
    one = full_like(n, 1)
    parts = [op("add", v, one) for v in (n, k, op("sub", n, k))]
    logs, signs = [_gammaln(v) for v in parts], [_gammasgn(v) for v in parts]
    size = op("exp", op("sub", logs[0], op("add", logs[1], logs[2])))
    return op("mul", op("mul", signs[0], op("mul", signs[1], signs[2])), size)


def polygamma_node(order: int, x: Node) -> Node:
    """The derivative of digamma of this order; for x > 0, and below 0 for orders 0 and 1."""
    if order == 0:
        return _digamma(x)
    below, positive = _reflected(x, 0)
    value = op("zeta", full_like(x, order + 1), positive)
    if order == 1:
        angle = op("where", below, _half_turns(x), full_like(x, 1))
        part = op("div", full_like(x, math.pi), op("sin", angle))
        return op("where", below, op("sub", op("mul", part, part), value), value)
    value = op("where", below, full_like(x, math.nan), value)
    return op("mul", value, full_like(x, (-1) ** (order + 1) * math.factorial(order)))


# --------------------------------------------------------------------------- normal distribution


@_rule
def _ndtri(p: Node) -> Node:
    doubled = op("add", p, p)
    return op("mul", op("erfcinv", doubled), full_like(p, -math.sqrt(2)))


_TAIL = (-1.0, 3.0, -15.0, 105.0, -945.0, 10395.0, -135135.0)


@_rule
def _log_ndtr(x: Node) -> Node:
    """log(ndtr(x)): log1p above 0, and an asymptotic series where ndtr underflows."""
    one, zero = full_like(x, 1), full_like(x, 0)
    root = full_like(x, math.sqrt(0.5))
    above = op("gt", x, zero)
    far = op("lt", x, full_like(x, -20 if x.dtype == np.float64 else -8))
    near = op("where", far, op("neg", one), x)
    half = op("mul", op("erfc", op("mul", op("abs", near), root)), full_like(x, 0.5))
    middle = op("where", above, op("log1p", op("neg", half)), op("log", half))
    large = op("where", far, x, full_like(x, -20))
    inverse = op("div", one, op("mul", large, large))
    series = full_like(x, _TAIL[-1])
    for coefficient in _TAIL[-2::-1]:
        series = op("add", op("mul", series, inverse), full_like(x, coefficient))
    tail = op("log1p", op("mul", series, inverse))
    square = op("mul", op("mul", large, large), full_like(x, -0.5))
    size = op("add", op("log", op("neg", large)), full_like(x, 0.5 * math.log(2 * math.pi)))
    return op("where", far, op("add", op("sub", square, size), tail), middle)


# ------------------------------------------------------------------- losses and transformations


@_rule
def _cosm1(x: Node) -> Node:
    sine = op("sin", op("mul", x, full_like(x, 0.5)))
    return op("mul", op("mul", sine, sine), full_like(x, -2))


@_rule
def _huber(delta: Node, r: Node) -> Node:
    half, size = full_like(r, 0.5), op("abs", r)
    inside = op("mul", half, op("mul", r, r))
    outside = op("mul", delta, op("sub", size, op("mul", half, delta)))
    value = op("where", op("le", size, delta), inside, outside)
    return op("where", op("lt", delta, full_like(r, 0)), full_like(r, math.inf), value)


@_rule
def _pseudo_huber(delta: Node, r: Node) -> Node:
    zero, one = full_like(r, 0), full_like(r, 1)
    scaled = op("div", r, op("where", op("eq", delta, zero), one, delta))
    growth = op("expm1", op("mul", op("log1p", op("mul", scaled, scaled)), full_like(r, 0.5)))
    value = op("mul", op("mul", delta, delta), growth)
    return op("where", op("lt", delta, zero), full_like(r, math.inf), value)


def _power_transform(log: str):
    def boxcox(x: Node, power: Node) -> Node:
        """``(x ** power - 1) / power``; the logarithm where the power is 0."""
        logarithm, zero = op(log, x), full_like(power, 0)
        is_zero = op("eq", power, zero)
        safe = op("where", is_zero, full_like(power, 1), power)
        curved = op("div", op("expm1", op("mul", safe, logarithm)), safe)
        return op("where", is_zero, logarithm, curved)

    return boxcox


RULES["boxcox"] = _power_transform("log")
RULES["boxcox1p"] = _power_transform("log1p")


# ---------------------------------------------------------------- functions of whole arrays


def _floating(context, x):
    x = context.lift(x)
    return x.astype(np.float64) if x.dtype.kind in "biu" else x


def _shifted(x, axis):
    """``x`` less its largest element along ``axis``, for exponentials, and that element, held
    constant. Where it is infinite, -inf and +inf are the limits of large numbers: what is +inf
    shares the weight evenly, so gradients stay finite."""
    empty = any(d == 0 for d in x.shape)
    largest = np.max(x, axis=axis, keepdims=True, **({"initial": -np.inf} if empty else {}))
    largest = x.context.wrap(op("stop_gradient", largest.node))
    end = np.finfo(x.dtype).max
    shift = np.where(largest > end, end, np.where(largest < -end, -end, largest))
    off = x - shift
    capped = np.where(off > 0, 0, off)  # inf - end is inf; nothing else is above 0
    return x.context.wrap(build.make("implicit", (capped.node, off.node), rule="same")), largest


def logsumexp(context, a, axis=None, b=None, keepdims=False, return_sign=False):
    x = _floating(context, a)
    if b is not None:
        x, b = np.broadcast_arrays(x, context.lift(b))
    off, largest = _shifted(x, axis)
    powers = np.exp(off)
    total = np.sum(powers if b is None else powers * b.astype(x.dtype), axis=axis, keepdims=True)
    sign = np.sign(total)
    size = (np.abs(total) if return_sign else total) + (largest == -np.inf).astype(x.dtype)
    value = np.log(size) + largest
    if not keepdims:
        value, sign = (np.squeeze(v, axis) for v in (value, sign))
    return (value, sign) if return_sign else value


def softmax(context, x, axis=None):
    """NaN over slices of -inf alone or with +inf, as SciPy's."""
    x = _floating(context, x)
    off, largest = _shifted(x, axis)
    powers = np.exp(off)
    total = np.sum(powers, axis=axis, keepdims=True) + (largest == -np.inf).astype(x.dtype)
    return powers / total + _undefined(np.isinf(largest), np.nan, x.dtype)


def _undefined(where, value, dtype):
    """That there, else 0: added as a constant, since a choice would mask what flows back."""
    return np.where(where, value, 0).astype(dtype)


def log_softmax(context, x, axis=None):
    x = _floating(context, x)
    off, largest = _shifted(x, axis)
    infinite = np.isinf(largest)
    total = np.sum(np.exp(off), axis=axis, keepdims=True) + (largest == -np.inf).astype(x.dtype)
    undefined = _undefined(infinite, np.where(largest > 0, np.inf, np.nan), x.dtype)
    return x - np.where(infinite, 0, largest) - (np.log(total) + undefined)


def polygamma(context, n, x):
    x = context.lift(x).astype(np.float64)
    return context.wrap(polygamma_node(n.__index__(), x.node))


def twin(context, name: str, *values):
    """The function ``name`` of RULES on values of any dtype, as SciPy's ufunc."""
    from graphc.trace.elementwise import broadcast_shapes, fit  # which imports this module

    tracers = [context.lift(v) for v in values]
    dtype = common_dtype(*tracers)
    dtype = np.dtype(np.float64) if dtype.kind in "biu" else dtype
    shape = broadcast_shapes(f"special.{name}", *(t.shape for t in tracers))
    found = RULES[name](*(fit(t, dtype, shape) for t in tracers))
    return tuple(map(context.wrap, found)) if isinstance(found, tuple) else context.wrap(found)
