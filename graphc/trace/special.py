"""Functions of scipy.special that trace: SciPy's ufuncs answer NumPy's protocol.

SciPy is not imported: its ufuncs are known by their names, and only where it is loaded.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from graphc.ir.build import elementwise as op
from graphc.ir.build import full_like
from graphc.ir.node import Node

RULES: dict = {}  # name of the ufunc -> rule(*nodes of the resolved dtypes) -> node


def is_special(function) -> bool:
    """Whether ``function`` is a ufunc of scipy.special."""
    if not isinstance(function, np.ufunc):
        return False
    module = sys.modules.get("scipy.special")
    return module is not None and getattr(module, function.__name__, None) is function


def _rule(function):
    RULES[function.__name__.strip("_")] = function
    return function


def _for_each(names: str) -> None:
    for name in names.split():
        RULES[name] = lambda *nodes, name=name: op(name, *nodes)


_for_each("erf erfc exp2 expm1 log1p cbrt")
RULES["expit"] = lambda x: op("sigmoid", x)
RULES["log_expit"] = lambda x: op("neg", op("softplus", op("neg", x)))
RULES["exp10"] = lambda x: op("pow", full_like(x, 10), x)


@_rule
def _ndtr(x: Node) -> Node:
    """The normal distribution function: erfc(-x / sqrt(2)) / 2."""
    return op("mul", op("erfc", op("mul", x, full_like(x, -math.sqrt(0.5)))), full_like(x, 0.5))


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
