"""Rules of functions of scipy.special that are SciPy's own rows, or are made of such rows.

Distribution functions are those of Cephes: incomplete beta and gamma functions. Orthogonal
polynomials of a known degree are their recurrences.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.errors import TraceError
from graphc.ir.build import elementwise as op
from graphc.ir.build import full_like
from graphc.ir.node import Node
from graphc.ir.scipy_functions import PREFIX, SCIPY_FUNCTIONS, require_scipy
from graphc.trace.special import RULES

_PARTS: dict[str, list[str]] = {}  # of functions with several results: the row of each
for _function in SCIPY_FUNCTIONS.values():
    if _function.results > 1:
        _PARTS.setdefault(_function.function, []).append(_function.row)


def _scipy(name: str, *nodes: Node) -> Node:
    require_scipy()  # here, where the user's line is known, rather than when code is loaded
    return op(PREFIX + name, *nodes)


def _row_rule(name: str) -> Callable:
    return lambda *nodes: _scipy(name, *nodes)


def _several(rows: list[str]) -> Callable:
    def rule(*nodes: Node) -> tuple[Node, ...]:
        require_scipy()
        return tuple(op(row, *nodes) for row in rows)

    return rule


for _function in SCIPY_FUNCTIONS.values():
    if _function.results == 1 and _function.name not in RULES:
        RULES[_function.name] = _row_rule(_function.name)
for _name, _rows in _PARTS.items():
    RULES[_name] = _several(_rows)
for _name, _other in (("jn", "jv"), ("jve", "jv"), ("yn", "yv"), ("yve", "yv"), ("kn", "kv")):
    RULES[_name] = RULES[_other]  # scaled ones of real arguments are the same


def _rule(function: Callable) -> Callable:
    RULES[function.__name__.strip("_")] = function
    return function


def _add(x: Node, number: float) -> Node:
    return op("add", x, full_like(x, number))


def _times(x: Node, number: float) -> Node:
    return op("mul", x, full_like(x, number))


def _of_one(x: Node) -> Node:
    """1 - x."""
    return op("sub", full_like(x, 1), x)


# ------------------------------------------------------------------------------ distributions


@_rule
def _bdtr(k: Node, n: Node, p: Node) -> Node:
    """Binomial: at most k of n."""
    k = op("floor", k)
    found = _scipy("betaincc", _add(k, 1), op("sub", n, k), p)
    return op("where", op("eq", k, n), full_like(p, 1), found)


@_rule
def _bdtrc(k: Node, n: Node, p: Node) -> Node:
    k = op("floor", k)
    found = _scipy("betainc", _add(k, 1), op("sub", n, k), p)
    return op("where", op("eq", k, n), full_like(p, 0), found)


@_rule
def _bdtri(k: Node, n: Node, y: Node) -> Node:
    k = op("floor", k)
    return _scipy("betainccinv", _add(k, 1), op("sub", n, k), y)


@_rule
def _nbdtr(k: Node, n: Node, p: Node) -> Node:
    return _scipy("betainc", n, _add(k, 1), p)


@_rule
def _nbdtrc(k: Node, n: Node, p: Node) -> Node:
    return _scipy("betaincc", n, _add(k, 1), p)


@_rule
def _nbdtri(k: Node, n: Node, y: Node) -> Node:
    return _scipy("betaincinv", n, _add(k, 1), y)


@_rule
def _pdtr(k: Node, m: Node) -> Node:
    """Poisson: at most k."""
    return RULES["gammaincc"](_add(op("floor", k), 1), m)


@_rule
def _pdtrc(k: Node, m: Node) -> Node:
    return RULES["gammainc"](_add(op("floor", k), 1), m)


@_rule
def _pdtri(k: Node, y: Node) -> Node:
    return _scipy("gammainccinv", _add(op("floor", k), 1), y)


@_rule
def _chdtr(df: Node, x: Node) -> Node:
    """Chi squared."""
    return RULES["gammainc"](_times(df, 0.5), _times(x, 0.5))


@_rule
def _chdtrc(df: Node, x: Node) -> Node:
    return RULES["gammaincc"](_times(df, 0.5), _times(x, 0.5))


@_rule
def _chdtri(df: Node, p: Node) -> Node:
    return _times(_scipy("gammainccinv", _times(df, 0.5), p), 2)


@_rule
def _gdtr(a: Node, b: Node, x: Node) -> Node:
    """Gamma, of the rate a and the shape b."""
    return RULES["gammainc"](b, op("mul", a, x))


@_rule
def _gdtrc(a: Node, b: Node, x: Node) -> Node:
    return RULES["gammaincc"](b, op("mul", a, x))


@_rule
def _gdtrix(a: Node, b: Node, p: Node) -> Node:
    return op("div", _scipy("gammaincinv", b, p), a)


@_rule
def _gdtria(p: Node, b: Node, x: Node) -> Node:
    return op("div", _scipy("gammaincinv", b, p), x)


@_rule
def _fdtr(a: Node, b: Node, x: Node) -> Node:
    scaled = op("mul", a, x)
    share = op("div", scaled, op("add", b, scaled))
    return _scipy("betainc", _times(a, 0.5), _times(b, 0.5), share)


@_rule
def _fdtrc(a: Node, b: Node, x: Node) -> Node:
    share = op("div", b, op("add", b, op("mul", a, x)))
    return _scipy("betainc", _times(b, 0.5), _times(a, 0.5), share)


@_rule
def _fdtri(a: Node, b: Node, p: Node) -> Node:
    share = _scipy("betaincinv", _times(a, 0.5), _times(b, 0.5), p)
    rest = _scipy("betainccinv", _times(b, 0.5), _times(a, 0.5), p)  # 1 - share, with its digits
    return op("div", op("mul", b, share), op("mul", a, rest))


@_rule
def _nrdtrimn(p: Node, std: Node, x: Node) -> Node:
    """The mean of a normal distribution."""
    return op("sub", x, op("mul", std, RULES["ndtri"](p)))


@_rule
def _nrdtrisd(mean: Node, p: Node, x: Node) -> Node:
    return op("div", op("sub", x, mean), RULES["ndtri"](p))


# ---------------------------------------------------------------------- elementary functions


@_rule
def _agm(a: Node, b: Node) -> Node:
    """The arithmetic-geometric mean, by the elliptic integral K."""
    zero = full_like(a, 0)
    total = op("add", a, b)
    empty = op("eq", total, zero)
    total = op("where", empty, full_like(a, 1), total)
    ratio = op("div", op("sub", a, b), total)
    dead = op("logical_or", op("eq", a, zero), op("eq", b, zero))
    parameter = op("where", dead, zero, op("mul", ratio, ratio))
    value = op("div", _times(total, math.pi / 4), op("ellipk", parameter))
    return op("where", dead, zero, value)


@_rule
def _powm1(x: Node, y: Node) -> Node:
    """``x**y - 1``: for x > 0 by a logarithm, so that it is accurate near 0."""
    positive = op("gt", x, full_like(x, 0))
    logarithm = op("log", op("where", positive, x, full_like(x, 1)))
    other = _add(op("pow", op("where", positive, full_like(x, 1), x), y), -1)
    return op("where", positive, op("expm1", op("mul", y, logarithm)), other)


def _inverse_power(last: str) -> Callable:
    def inverse(y: Node, power: Node) -> Node:
        is_zero = op("eq", power, full_like(power, 0))
        safe = op("where", is_zero, full_like(power, 1), power)
        logarithm = op("div", op("log1p", op("mul", safe, y)), safe)
        return op(last, op("where", is_zero, y, logarithm))

    return inverse


RULES["inv_boxcox"] = _inverse_power("exp")
RULES["inv_boxcox1p"] = _inverse_power("expm1")
RULES["round"] = lambda x: op("rint", x)


@_rule
def _radian(degrees: Node, minutes: Node, seconds: Node) -> Node:
    whole = op("add", degrees, op("div", minutes, full_like(minutes, 60)))
    whole = op("add", whole, op("div", seconds, full_like(seconds, 3600)))
    return _times(whole, math.pi / 180)


# --------------------------------------------------------------------- orthogonal polynomials

_MOST = 200  # degrees: each is two operations


def _degree(n: Node, name: str) -> int:
    """The degree, which is the same everywhere and known while tracing."""
    while n.op in ("broadcast", "reshape", "cast"):
        n = n.inputs[0]
    if n.op == "const":
        values = np.unique(n.attr("value").array)
        if values.size == 1 and values[0] == int(values[0]) and 0 <= values[0] <= _MOST:
            return int(values[0])
    raise TraceError(
        f"{name}: its degree must be one integer from 0 to {_MOST}, known while tracing\n"
        "  (a static argument or a closure): the polynomial is written out."
    )


def _polynomial(name: str, first: Callable, step: Callable) -> None:
    """``p[0] = 1``, ``p[1] = first(x, *others)`` and ``p[k + 1]`` by ``step(k, x, p[k], p[k - 1],
    *others)``."""

    def rule(n: Node, *nodes: Node) -> Node:
        *others, x = nodes
        degree, before = _degree(n, name), full_like(x, 1)
        if degree == 0:
            return before
        value = first(x, *others)
        for k in range(1, degree):
            before, value = value, step(k, x, value, before, *others)
        return value

    RULES[name] = rule


def _combined(x: Node, value: Node, before: Node, slope: float, shift: float, less: float) -> Node:
    """``(slope x + shift) value - less before``."""
    scaled = _times(x, slope)
    scaled = _add(scaled, shift) if shift else scaled
    return op("sub", op("mul", scaled, value), _times(before, less))


_polynomial("eval_legendre", lambda x: x, lambda k, x, p, q: _combined(
    x, p, q, (2 * k + 1) / (k + 1), 0, k / (k + 1)))  # fmt: skip
_polynomial("eval_chebyt", lambda x: x, lambda k, x, p, q: _combined(x, p, q, 2, 0, 1))
_polynomial("eval_chebyu", lambda x: _times(x, 2), lambda k, x, p, q: _combined(x, p, q, 2, 0, 1))
_polynomial("eval_chebys", lambda x: x, lambda k, x, p, q: _combined(x, p, q, 1, 0, 1))
_polynomial("eval_hermite", lambda x: _times(x, 2), lambda k, x, p, q: _combined(
    x, p, q, 2, 0, 2 * k))  # fmt: skip
_polynomial("eval_hermitenorm", lambda x: x, lambda k, x, p, q: _combined(x, p, q, 1, 0, k))
_polynomial("eval_laguerre", _of_one, lambda k, x, p, q: _combined(
    x, p, q, -1 / (k + 1), (2 * k + 1) / (k + 1), k / (k + 1)))  # fmt: skip


def _genlaguerre_step(k: int, x: Node, p: Node, q: Node, a: Node) -> Node:
    top = op("sub", _add(a, 2 * k + 1), x)
    total = op("sub", op("mul", top, p), op("mul", _add(a, k), q))
    return _times(total, 1 / (k + 1))


def _gegenbauer_step(k: int, x: Node, p: Node, q: Node, a: Node) -> Node:
    top = op("mul", _times(_add(a, k), 2), op("mul", x, p))
    total = op("sub", top, op("mul", _add(_times(a, 2), k - 1), q))
    return _times(total, 1 / (k + 1))


def _jacobi_first(x: Node, a: Node, b: Node) -> Node:
    total = _times(_add(op("add", a, b), 2), 0.5)
    return op("add", _add(a, 1), op("mul", total, _add(x, -1)))


def _jacobi_step(k: int, x: Node, p: Node, q: Node, a: Node, b: Node) -> Node:
    n = k + 1
    total = op("add", a, b)
    c = _add(total, 2 * n)  # 2n + a + b
    below, middle = _add(c, -2), _add(c, -1)
    squares = op("mul", op("sub", a, b), total)
    inner = op("add", op("mul", op("mul", c, below), x), squares)
    last = op("mul", op("mul", _add(a, n - 1), _add(b, n - 1)), _times(c, 2))
    top = op("sub", op("mul", middle, op("mul", inner, p)), op("mul", last, q))
    return op("div", top, _times(op("mul", _add(total, n), below), 2 * n))


_polynomial("eval_genlaguerre", lambda x, a: op("sub", _add(a, 1), x), _genlaguerre_step)
_polynomial("eval_gegenbauer", lambda x, a: _times(op("mul", a, x), 2), _gegenbauer_step)
_polynomial("eval_jacobi", _jacobi_first, _jacobi_step)


def _of_other(name: str, original: str, argument: Callable) -> None:
    RULES[name] = lambda n, *nodes: RULES[original](n, *nodes[:-1], argument(nodes[-1]))


def _doubled(x: Node) -> Node:
    return _add(_times(x, 2), -1)


_of_other("eval_sh_legendre", "eval_legendre", _doubled)
_of_other("eval_sh_chebyt", "eval_chebyt", _doubled)
_of_other("eval_sh_chebyu", "eval_chebyu", _doubled)


@_rule
def _eval_chebyc(n: Node, x: Node) -> Node:
    """2 T_n(x / 2)."""
    return _times(RULES["eval_chebyt"](n, _times(x, 0.5)), 2)
