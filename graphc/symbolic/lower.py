"""Expressions to functions of arrays: the expression is walked once and becomes a list of steps.

A step is a NumPy function and the places of its operands, so the same list serves plain arrays
and, through NumPy's protocols, traced ones.
"""

from __future__ import annotations

import inspect
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from sympy.logic.boolalg import BooleanFalse, BooleanTrue

import graphc.numpy as gnp
from graphc import special
from graphc.errors import ShapeError, SymbolicError
from graphc.ir.build import broadcast_to
from graphc.symbolic.formula import names_in, natural, parse
from graphc.symbolic.stable import sigmoid, softplus
from graphc.trace.elementwise import broadcast_shapes, fit_all
from graphc.trace.tracing import Tracer, current_trace

_LARGEST_POWER = 64  # integer powers up to this one are products
_LARGEST_SUM = 100_000  # terms of a Sum or Product that are written out


def _many(function):
    def apply(first, *rest):
        for value in rest:
            first = function(first, value)
        return first

    return apply


def _piecewise(*parts):
    """Values and conditions in turn; NaN where none holds."""
    result = math.nan
    for value, condition in reversed(list(zip(parts[::2], parts[1::2], strict=True))):
        if condition is True:
            result = value
        elif condition is not False:
            result = np.where(condition, value, result)
    return result


# What a function of SymPy is, on arrays. Add, Mul, Pow and numbers have rules of their own.
FUNCTIONS: dict[type, Callable] = {
    sympy.exp: np.exp, sympy.log: np.log, sympy.sin: np.sin, sympy.cos: np.cos,
    sympy.tan: np.tan, sympy.asin: np.arcsin, sympy.acos: np.arccos, sympy.atan: np.arctan,
    sympy.sinh: np.sinh, sympy.cosh: np.cosh, sympy.tanh: np.tanh, sympy.asinh: np.arcsinh,
    sympy.acosh: np.arccosh, sympy.atanh: np.arctanh, sympy.atan2: np.arctan2,
    sympy.sec: lambda x: 1 / np.cos(x), sympy.csc: lambda x: 1 / np.sin(x),
    sympy.cot: lambda x: 1 / np.tan(x), sympy.sech: lambda x: 1 / np.cosh(x),
    sympy.csch: lambda x: 1 / np.sinh(x), sympy.coth: lambda x: 1 / np.tanh(x),
    sympy.sinc: lambda x: np.sinc(x / np.pi),
    sympy.Abs: np.abs, sympy.sign: np.sign, sympy.floor: np.floor, sympy.ceiling: np.ceil,
    sympy.frac: lambda x: x - np.floor(x), sympy.Mod: np.remainder,
    sympy.Max: _many(np.maximum), sympy.Min: _many(np.minimum),
    sympy.Heaviside: np.heaviside, sympy.erf: special.erf, sympy.erfc: special.erfc,
    sympy.erfinv: special.erfinv, sympy.gamma: special.gamma, sympy.loggamma: special.gammaln,
    sympy.digamma: special.digamma, sympy.polygamma: special.polygamma, sympy.beta: special.beta,
    sympy.zeta: lambda s, a=1.0: special.zeta(s, a),
    sympy.Ei: special.expi, sympy.Si: lambda x: special.sici(x)[0],
    sympy.Ci: lambda x: special.sici(x)[1], sympy.fresnels: lambda x: special.fresnel(x)[0],
    sympy.fresnelc: lambda x: special.fresnel(x)[1], sympy.elliptic_k: special.ellipk,
    sympy.elliptic_e: special.ellipe, sympy.LambertW: special.lambertw,
    sympy.factorial: lambda x: special.gamma(x + 1.0),
    sympy.Piecewise: _piecewise, sympy.ITE: np.where,
    sympy.StrictLessThan: np.less, sympy.LessThan: np.less_equal,
    sympy.StrictGreaterThan: np.greater, sympy.GreaterThan: np.greater_equal,
    sympy.Equality: np.equal, sympy.Unequality: np.not_equal,
    sympy.And: _many(np.logical_and), sympy.Or: _many(np.logical_or),
    sympy.Xor: _many(np.logical_xor), sympy.Not: np.logical_not,
    sigmoid: special.expit, softplus: special.softplus,
}  # fmt: skip


def supported() -> list[str]:
    """The names of SymPy's functions that :func:`from_sympy` takes.

    >>> "atan2" in supported()
    True
    """
    names = {f.__name__ for f in FUNCTIONS} - {"sigmoid", "softplus"}
    return sorted({*names, "Add", "Mul", "Pow", "Sum", "Product"}, key=str.lower)


@dataclass
class Steps:
    """A walked expression: ``run`` computes the values of all places and returns those of
    ``outputs``."""

    arguments: dict[sympy.Basic, int] = field(default_factory=dict)
    program: list[tuple[int, Callable, tuple[int, ...]]] = field(default_factory=list)
    constants: dict[int, Any] = field(default_factory=dict)
    outputs: list[int] = field(default_factory=list)
    _known: dict = field(default_factory=dict)
    _places: int = 0

    def run(self, values: Sequence[Any]) -> list[Any]:
        places: list[Any] = [None] * self._places
        for place, value in self.constants.items():
            places[place] = value
        for place, value in zip(self.arguments.values(), values, strict=True):
            places[place] = value
        with np.errstate(all="ignore"):
            for place, function, operands in self.program:
                places[place] = function(*[places[i] for i in operands])
        return [places[i] for i in self.outputs]

    # ------------------------------------------------------------------------------- building

    def argument(self, symbol: sympy.Basic) -> None:
        self.arguments[symbol] = self._known[symbol] = self._place()

    def define(self, symbol: sympy.Basic, expression: sympy.Basic) -> None:
        """Let ``symbol`` stand for the value of ``expression``."""
        self._known[symbol] = self.add(expression)

    def constant(self, value) -> int:
        key = (type(value), repr(value))
        if key not in self._known:
            self._known[key] = self._place()
            self.constants[self._known[key]] = value
        return self._known[key]

    def step(self, function: Callable, *operands: int) -> int:
        key = (function, operands)
        if key not in self._known:
            self._known[key] = self._place()
            self.program.append((self._known[key], function, operands))
        return self._known[key]

    def _place(self) -> int:
        self._places += 1
        return self._places - 1

    def add(self, expression: sympy.Basic) -> int:
        """The place of ``expression``; equal parts have one place."""
        stack = [(expression, False)]
        while stack:
            part, ready = stack.pop()
            if part in self._known:
                continue
            if ready:
                self._known[part] = self._made(part)
                continue
            simple = self._leaf(part)
            if simple is not None:
                self._known[part] = simple
                continue
            stack.append((part, True))
            stack.extend((a, False) for a in reversed(_operands(part)) if a not in self._known)
        return self._known[expression]

    def _leaf(self, part: sympy.Basic) -> int | None:
        if isinstance(part, BooleanTrue | BooleanFalse):
            return self.constant(bool(part))
        if isinstance(part, sympy.Integer):
            small = -(2**63) <= int(part) < 2**63
            return self.constant(int(part) if small else float(part))
        if part.is_Number or part.is_NumberSymbol or part in _LIMITS:
            return self.constant(_LIMITS[part] if part in _LIMITS else float(part))
        if not part.args or isinstance(part, sympy.Indexed):
            kind = type(part).__name__
            raise SymbolicError(f"{part} ({kind}) in the expression is not among its arguments")
        return None

    def _made(self, part: sympy.Basic) -> int:
        if part.is_Add:
            return self._sum(part)
        if part.is_Mul:
            return self._product(part)
        if part.is_Pow:
            base = self._known[part.base]
            if part.exp.is_negative:
                return self.step(
                    np.true_divide, self.constant(1), self._power(part.base, -part.exp)
                )
            return self._power(part.base, part.exp) if base is not None else base
        if isinstance(part, sympy.Piecewise):
            flat = [self._known[side] for pair in part.args for side in pair.args]
            return self.step(_piecewise, *flat)
        operands = [self._known[a] for a in part.args]
        return self.step(FUNCTIONS[type(part)], *operands)

    def _sum(self, part: sympy.Add) -> int:
        """Terms from left to right as they are printed, negative ones subtracted."""
        terms = part.as_ordered_terms() if len(part.args) < 50 else list(part.args)
        signed = [_sign_and_rest(t) for t in terms]
        first = next((k for k, (sign, _) in enumerate(signed) if sign > 0), None)
        if first is None:
            total = self._term(signed[0][1])
            total = self.step(operator.neg, total)
            rest = signed[1:]
        else:
            total = self._term(signed[first][1])
            rest = signed[:first] + signed[first + 1 :]
        for sign, term in rest:
            function = operator.add if sign > 0 else operator.sub
            total = self.step(function, total, self._term(term))
        return total

    def _term(self, term: sympy.Basic) -> int:
        return self._known[term] if term in self._known else self.add(term)

    def _product(self, part: sympy.Mul) -> int:
        above, below, negative = [], [], False
        for factor in part.args:
            if factor.is_Rational:
                value, negative = Fraction(int(factor.p), int(factor.q)), factor.is_negative
                numerator, denominator = abs(value.numerator), value.denominator
                if denominator & (denominator - 1) == 0 and denominator < 2**900:
                    scale = numerator if denominator == 1 else numerator / denominator
                    above += [self.add(sympy.Integer(scale)) if denominator == 1 else
                              self.constant(scale)] if scale != 1 else []  # fmt: skip
                else:
                    above += [self.add(sympy.Integer(numerator))] if numerator != 1 else []
                    below.append(self.add(sympy.Integer(denominator)))
            elif factor.is_Pow and factor.exp.is_negative:
                below.append(self._power(factor.base, -factor.exp))
            else:
                above.append(self._known[factor])
        total = above[0] if above else self.constant(1)
        for value in above[1:]:
            total = self.step(operator.mul, total, value)
        if below:
            divisor = below[0]
            for value in below[1:]:
                divisor = self.step(operator.mul, divisor, value)
            total = self.step(np.true_divide, total, divisor)
        return self.step(operator.neg, total) if negative else total

    def _power(self, base: sympy.Basic, exponent: sympy.Basic) -> int:
        """``base**exponent``: small integers and halves by products and a square root."""
        place = self._known[base]
        if exponent.is_Float and float(exponent * 2).is_integer():
            exponent = sympy.Rational(float(exponent))
        if exponent.is_Rational and exponent.q in (1, 2) and exponent.p <= _LARGEST_POWER:
            whole, half = divmod(int(exponent.p), 2) if exponent.q == 2 else (int(exponent.p), 0)
            root = [self.step(np.sqrt, place)] if half else []
            return self._times(root + self._squares(place, whole))
        if exponent == sympy.Rational(1, 3) and base.is_nonnegative:
            return self.step(np.cbrt, place)
        if base == 2:
            return self.step(np.exp2, self.add(exponent))
        if base == sympy.E:
            return self.step(np.exp, self.add(exponent))
        if exponent.is_number:
            return self.step(np.power, place, self.constant(float(exponent)))
        return self.step(_float_power, place, self.add(exponent))

    def _squares(self, place: int, power: int) -> list[int]:
        factors = []
        while power:
            if power & 1:
                factors.append(place)
            power >>= 1
            if power:
                place = self.step(operator.mul, place, place)
        return factors

    def _times(self, factors: list[int]) -> int:
        total = factors[0]
        for value in factors[1:]:
            total = self.step(operator.mul, total, value)
        return total


_LIMITS = {
    sympy.oo: math.inf, -sympy.oo: -math.inf, sympy.nan: math.nan, sympy.zoo: math.nan,
}  # fmt: skip


def _float_power(x, y):
    return np.power(x * 1.0, y)


def _sign_and_rest(term) -> tuple[int, sympy.Basic]:
    negative = term.could_extract_minus_sign() and (term.is_Mul or term.is_Number)
    return (-1, -term) if negative else (1, term)


def _operands(part: sympy.Basic) -> list[sympy.Basic]:
    """What must be computed before ``part``; raises SymbolicError for what is not supported."""
    if part.is_Pow:
        return [part.base] if part.exp.is_number else [part.base, *_positive(part.exp)]
    if part.is_Mul:
        return [
            f.base if f.is_Pow and f.exp.is_negative else f for f in part.args if not f.is_Rational
        ]
    if part.is_Add:
        return [_sign_and_rest(t)[1] for t in part.args]
    if isinstance(part, sympy.Piecewise):
        return [side for pair in part.args for side in pair.args]
    if type(part) not in FUNCTIONS:
        raise SymbolicError(
            f"{type(part).__name__} in {_short(part)} has no numeric counterpart.\n"
            f"Supported: {' '.join(supported())}"
        )
    return list(part.args)


def _positive(exponent):
    return [-exponent] if exponent.is_negative else [exponent]


def _short(part) -> str:
    text = str(part)
    return text if len(text) <= 60 else text[:57] + "..."


def prepared(expression: Any) -> sympy.Basic:
    """An expression that can be walked: sums written out, derivatives and integrals done."""
    if isinstance(expression, str):  # SymPy would evaluate it as Python
        names = names_in(expression)
        expression = parse(expression, {n: sympy.Symbol(n) for n in names})
    expression = sympy.sympify(expression, strict=True)
    for part in expression.atoms(sympy.Sum, sympy.Product):
        terms = [
            int(high) - int(low) + 1
            for _, low, high in part.limits if low.is_Integer and high.is_Integer
        ]  # fmt: skip
        if len(terms) != len(part.limits) or math.prod(terms) > _LARGEST_SUM:
            raise SymbolicError(
                f"{_short(part)}: the range must have known ends and at most {_LARGEST_SUM} terms"
            )
    if expression.has(sympy.Sum, sympy.Product, sympy.Derivative, sympy.Integral):
        expression = expression.doit()
    return expression


# ------------------------------------------------------------------------------ the function


Arguments = Sequence[Any]


def free_symbols(expressions: Sequence[sympy.Basic]) -> list[sympy.Basic]:
    """The symbols of all expressions, by name; of arrays (``A[i, j]``) the array."""
    found: set = set()
    for e in expressions:
        matrices = e.atoms(sympy.MatrixSymbol)
        bases = {i.base for i in e.atoms(sympy.Indexed)}
        labels = {s for b in bases for s in (b.label, *b.free_symbols)}
        indexed = {s for s in e.free_symbols if isinstance(s, sympy.Indexed)}
        found |= (e.free_symbols - labels - indexed) | matrices | bases
    return sorted(found, key=natural)


def from_sympy(expression: Any, args: Arguments | None = None, name: str = "f") -> Callable:
    """A NumPy function of an expression: traced, differentiated and compiled like any other.

    Parameters
    ----------
    expression : an expression (of SymPy, or text as for :func:`graphc.elementwise`), a (nested)
        list of them or a Matrix. Equal parts are computed once.
    args : the parameters in order. A symbol is a number or an array, and arrays broadcast; a tuple
        of symbols is one array with an element for each along axis 0; a MatrixSymbol or an
        IndexedBase is an array whose elements the expression names. Without it: every symbol of
        the expression, sorted by name (``x2`` before ``x10``).

    The function is called with arrays or inside a traced function; its parameters have the
    symbols' names. A list of n expressions gives an array ``(n, *shape)``, a matrix ``(r, c,
    *shape)``, with the shape that the arguments broadcast to. Values are real: what is complex is
    NaN. Small integer powers are products, rationals divisions, so nothing is rounded twice.
    Raises errors.SymbolicError, which names what is not supported.

    >>> import sympy, numpy as np
    >>> x, y = sympy.symbols("x y")
    >>> f = from_sympy(x**2 / y)
    >>> float(f(3.0, y=2.0)), f(np.array([1.0, 2.0]), 2.0)
    (4.5, array([0.5, 2. ]))
    >>> from_sympy([x + y, x * y], args=[(x, y)])(np.array([2.0, 3.0]))
    array([5., 6.])
    """
    listed, shape = _flattened(expression)
    expressions = [prepared(e) for e in listed]
    parameters = Parameters(expressions, args)
    parameters.check(expressions)
    steps = Steps()
    for symbol in parameters.symbols:
        steps.argument(symbol)
    steps.outputs = [steps.add(e) for e in expressions]

    def function(*values, **named):
        scalars = parameters.split(values, named)
        return _stacked(steps.run(scalars), scalars, shape)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name}{parameters.signature} = {_short(expression)}"
    function.__signature__ = parameters.signature
    function.__graphc_symbols__ = tuple(parameters.given)
    return function


class Parameters:
    """The parameters of a function of expressions, and the symbols that their elements are."""

    def __init__(self, expressions: Sequence[sympy.Basic], args: Arguments | None):
        args = [args] if isinstance(args, sympy.Symbol | sympy.MatrixSymbol) else args
        self.given = free_symbols(expressions) if args is None else list(args)
        self._by_name = _parameters(self.given)
        self._elements = _elements(self._by_name, expressions)
        self.symbols = [s for _, symbols in self._elements for s in symbols]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.signature = inspect.Signature([inspect.Parameter(n, kind) for n in self._by_name])

    def check(self, expressions) -> None:
        """Raise SymbolicError where an expression has a symbol that is no argument."""
        _check_free(expressions, self._elements)

    def split(self, values, named) -> list:
        """The values of ``symbols``, from the arguments of a call."""
        bound = self.signature.bind(*values, **named).arguments
        return [
            value
            for (parameter, symbols), label in zip(self._elements, self._by_name, strict=True)
            for value in _split(bound[label], parameter, symbols, label)
        ]


def _flattened(expression: Any) -> tuple[list, tuple[int, ...] | None]:
    """The expressions of a list or matrix, and its shape (None: a single one)."""
    if isinstance(expression, sympy.MatrixBase | sympy.NDimArray):
        return list(sympy.flatten(expression)), tuple(expression.shape)
    if isinstance(expression, list | tuple | np.ndarray):
        parts = [_flattened(e) for e in expression]
        shapes = {shape for _, shape in parts}
        if len(shapes) > 1:
            raise SymbolicError("a list of expressions must be rectangular")
        inner = next(iter(shapes), None) or ()
        return [e for listed, _ in parts for e in listed], (len(parts), *inner)
    return [expression], None


def _parameters(given: Arguments) -> dict[str, Any]:
    """Parameter name -> symbol, tuple of symbols, MatrixSymbol or IndexedBase."""
    parameters: dict[str, Any] = {}
    for index, one in enumerate(given):
        if isinstance(one, list | tuple | sympy.Tuple):
            label = _common_name([str(s) for s in one]) or f"x{index}"
        elif isinstance(one, sympy.Symbol | sympy.MatrixSymbol | sympy.IndexedBase):
            label = str(one)
        else:
            raise SymbolicError(
                f"args[{index}] is {one!r}: give a symbol, or a tuple of symbols for an array"
            )
        label = re.sub(r"\W+", "_", label).strip("_") if not label.isidentifier() else label
        label = label if label.isidentifier() else f"x{index}"
        while label in parameters:
            label += "_"
        parameters[label] = one
    return parameters


def _common_name(names: list[str]) -> str:
    """``x`` of x0, x1, x2."""
    stems = {n.rstrip("0123456789").rstrip("_") for n in names}
    return stems.pop() if len(stems) == 1 else ""


def _elements(parameters: dict, expressions) -> list[tuple[Any, list]]:
    """Each parameter with the symbols that stand for its elements."""
    used: dict[Any, list] = {}
    for e in expressions:
        for part in sorted(e.atoms(sympy.Indexed), key=str):
            used.setdefault(part.base, []).append(part)
        for part in sorted(e.atoms(sympy.matrices.expressions.matexpr.MatrixElement), key=str):
            used.setdefault(part.parent, []).append(part)
    result = []
    for one in parameters.values():
        if isinstance(one, sympy.MatrixSymbol | sympy.IndexedBase):
            result.append((one, list(dict.fromkeys(used.get(one, ())))))
        elif isinstance(one, sympy.Symbol):
            result.append((one, [one]))
        else:
            result.append((one, list(one)))
    return result


def _check_free(expressions, elements) -> None:
    known = {s for _, symbols in elements for s in symbols}
    free = {s for e in expressions for s in e.free_symbols}
    arrays = {p for p, _ in elements} | {getattr(p, "label", None) for p, _ in elements}
    missing = sorted(
        (s for s in free - known - arrays if not isinstance(s, sympy.Indexed)), key=natural
    )
    if missing:
        raise SymbolicError(
            f"the expression has {', '.join(map(str, missing))}, not among the arguments "
            f"({', '.join(str(p) for p, _ in elements)}).\nList it in args, or substitute a "
            "number: expression.subs(symbol, value)."
        )


def _split(value, parameter, symbols, label: str) -> list:
    """The scalars, or arrays, that the symbols of a parameter stand for."""
    if isinstance(parameter, sympy.Symbol):
        return [value]
    if not isinstance(value, Tracer):
        value = np.asarray(value)
    if isinstance(parameter, sympy.MatrixSymbol | sympy.IndexedBase):
        return [value[_position(s, label)] for s in symbols]
    if not value.ndim or value.shape[0] != len(symbols):
        shape = tuple(value.shape)
        raise ShapeError(
            f"`{label}` stands for {len(symbols)} symbols; axis 0 of its shape {shape} does not"
        )
    return [value[i] for i in range(len(symbols))]


def _position(element, label: str) -> tuple[int, ...]:
    indices = element.indices
    if not all(i.is_Integer for i in indices):
        raise SymbolicError(f"{element}: the indices of `{label}` must be numbers")
    return tuple(int(i) for i in indices)


def _stacked(values: list, scalars: list, shape: tuple[int, ...] | None):
    if shape is None:
        (value,) = values
        return _spread(value, scalars)
    if not values:
        return np.zeros(shape)
    context = current_trace(*(v for v in (*values, *scalars) if isinstance(v, Tracer)))
    if context is None:
        arrays = np.broadcast_arrays(*(np.asarray(v) for v in (*values, *scalars)))
        dtype = np.result_type(*values)
        made = np.array(arrays[: len(values)], dtype)
    else:
        made = gnp.stack(context.wrap(n) for n in fit_all(context, "stack", *values))
    return made if shape == made.shape[:1] else made.reshape(*shape, *made.shape[1:])


def _spread(value, scalars: list):
    """``value`` in the shape of all arguments: a constant expression is an array too."""
    shapes = [np.shape(s) for s in scalars if not isinstance(s, Tracer)]
    traced = [s for s in scalars if isinstance(s, Tracer)]
    if traced or not any(shapes):
        return value if not traced else _traced_spread(value, scalars)
    shape = np.broadcast_shapes(*shapes, np.shape(value))
    return value if np.shape(value) == shape else np.broadcast_to(value, shape).copy()


def _traced_spread(value, scalars):
    context = current_trace(*(s for s in scalars if isinstance(s, Tracer)))
    value = context.lift(value)
    shape = broadcast_shapes("from_sympy", value.shape, *(context.lift(s).shape for s in scalars))
    return value if value.shape == shape else context.wrap(broadcast_to(value.node, shape))
