"""Forms of an expression that neither overflow nor cancel, and derivatives that keep them.

``1/(1 + exp(-x))`` is differentiated to ``exp(-x)/(1 + exp(-x))**2``, which is ``inf/inf`` at
x = -1000. As a function of its own, ``sigmoid``, its derivative is ``sigmoid(x)*sigmoid(-x)``, and
all higher ones are products of these.
"""

from __future__ import annotations

import sympy
from sympy.core.function import ArgumentIndexError

_SMALL = 60  # operations up to which factoring is tried


class sigmoid(sympy.Function):
    """``1/(1 + exp(-x))``."""

    is_real = True
    is_positive = True

    def fdiff(self, argindex=1):
        if argindex != 1:
            raise ArgumentIndexError(self, argindex)
        return self * sigmoid(-self.args[0])

    def _eval_rewrite_as_exp(self, x, **_):
        return 1 / (1 + sympy.exp(-x))


class softplus(sympy.Function):
    """``log(1 + exp(x))``."""

    is_real = True
    is_positive = True

    def fdiff(self, argindex=1):
        if argindex != 1:
            raise ArgumentIndexError(self, argindex)
        return sigmoid(self.args[0])

    def _eval_rewrite_as_exp(self, x, **_):
        return sympy.log(1 + sympy.exp(x))


def stable(expression: sympy.Basic) -> sympy.Basic:
    """The same function with its logistic functions and softplus named.

    >>> x = sympy.Symbol("x")
    >>> stable(x / (1 + sympy.exp(-x))), stable(sympy.log(1 + sympy.exp(x)))
    (x*sigmoid(x), softplus(x))
    """
    if not expression.has(sympy.exp):
        return expression
    expression = expression.replace(_is_logistic, _as_sigmoid)
    expression = expression.replace(_is_softplus, lambda e: softplus(_exponent(e.args[0])))
    return expression.replace(lambda e: e.is_Mul and e.has(sigmoid), _joined)


def plain(expression: sympy.Basic) -> sympy.Basic:
    """The inverse of :func:`stable`: functions that every reader of SymPy knows."""
    return expression.rewrite([sigmoid, softplus], sympy.exp)


_STEPS = (sympy.floor, sympy.ceiling, sympy.sign, sympy.Heaviside)


def derivative(expression: sympy.Expr, by: sympy.Symbol) -> sympy.Expr:
    """``d expression / d by``; what jumps (``sign``, ``floor``, ``Heaviside``) has derivative 0
    beside its jumps, and so everywhere."""
    if expression.has(sympy.Mod):
        expression = expression.replace(sympy.Mod, lambda a, b: a - b * sympy.floor(a / b))
    steps: dict[sympy.Symbol, sympy.Basic] = {}
    if expression.has(*_STEPS):
        hidden: dict[sympy.Basic, sympy.Symbol] = {}
        expression = expression.replace(
            lambda e: isinstance(e, _STEPS),
            lambda e: hidden.setdefault(e, sympy.Dummy(real=True)),
        )
        steps = {dummy: part for part, dummy in hidden.items()}
    found = expression.diff(by)
    if found.has(sympy.DiracDelta):
        found = found.replace(sympy.DiracDelta, lambda *_: sympy.Integer(0))
    while steps and found.has(*steps):
        found = found.xreplace(steps)
    return found


def shorter(expression: sympy.Expr) -> sympy.Expr:
    """Factored where that is shorter: terms that cancel each other are gone then."""
    if expression.count_ops() > _SMALL or expression.has(sympy.Piecewise):
        return expression
    try:
        return min(expression, sympy.factor(expression), key=sympy.count_ops)
    except sympy.PolynomialError:
        return expression


def _exponent(one_plus_exp) -> sympy.Expr | None:
    """``u`` of ``1 + exp(u)``, else None."""
    if not (one_plus_exp.is_Add and len(one_plus_exp.args) == 2):
        return None
    one, other = one_plus_exp.args
    return other.args[0] if one == 1 and isinstance(other, sympy.exp) else None


def _is_logistic(e) -> bool:
    return (
        e.is_Pow and e.exp.is_Integer and e.exp.is_negative and _exponent(e.base) is not None
    )  # fmt: skip


def _as_sigmoid(e):
    return sigmoid(-_exponent(e.base)) ** -e.exp


def _is_softplus(e) -> bool:
    return isinstance(e, sympy.log) and _exponent(e.args[0]) is not None


def _joined(product):
    """``exp(u)*sigmoid(-u)`` is ``sigmoid(u)``."""
    factors = list(product.args)
    for part in product.args:
        base, power = part.as_base_exp()
        if isinstance(base, sigmoid) and power.is_Integer and power > 0:
            match = sympy.exp(-base.args[0])
            if match in factors:
                factors.remove(match)
                factors[factors.index(part)] = sigmoid(-base.args[0]) * base ** (power - 1)
    return sympy.Mul(*factors)
