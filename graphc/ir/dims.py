"""Dimensions: plain ints, or polynomials with integer coefficients in named symbols.

A small canonical form of our own: a general symbolic-algebra system in the shape
arithmetic of a compiler makes compile times explode.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from graphc.errors import SymbolicDimError

Monomial = tuple[str, ...]  # sorted symbol names, repeated for powers; () is the constant term


def _by_value(operation: Callable, swapped: bool = False):
    """An operator whose result is no polynomial: arithmetic with the size as a traced number."""

    def method(self, other):
        if not isinstance(other, int | float | complex | Dim):
            return NotImplemented
        size = self._as_number()
        return operation(other, size) if swapped else operation(size, other)

    return method


class Dim:
    """A non-constant polynomial such as ``n``, ``2*n+1`` or ``n*m``. Immutable, hashable."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]):
        self.terms = terms
        self._hash = hash(terms)

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset(name for names, _ in self.terms for name in names)

    def evaluate(self, env: Mapping[str, int]) -> int:
        total = 0
        for names, coeff in self.terms:
            for name in names:
                coeff *= env[name]
            total += coeff
        return total

    def __eq__(self, other: object) -> bool:
        if self is other or (isinstance(other, Dim) and self.terms == other.terms):
            return True
        if on_unknown_equality is not None and _may_equal(self, other):
            on_unknown_equality(self, other)
        return False

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return self._unknown(other, operator.add)
        total = dict(self.terms)
        for names, coeff in _terms(other):
            total[names] = total.get(names, 0) + coeff
        return _from_terms(total)

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return self * -1

    def __sub__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return self._unknown(other, operator.sub)
        return self + other * -1

    def __rsub__(self, other: DimLike) -> DimLike:
        return (self * -1).__add__(other)

    def __mul__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return self._unknown(other, operator.mul)
        total: dict[Monomial, int] = {}
        for names_a, coeff_a in self.terms:
            for names_b, coeff_b in _terms(other):
                names = tuple(sorted(names_a + names_b))
                total[names] = total.get(names, 0) + coeff_a * coeff_b
        return _from_terms(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike):
        if not isinstance(other, int | Dim):
            return self._unknown(other, operator.floordiv)
        quotient = exact_div(self, other)
        return self._as_number() // other if quotient is None else quotient

    def __pow__(self, other: object):
        if type(other) is int and 0 <= other <= _LARGEST_POWER:
            return product([self] * other)
        if isinstance(other, Dim) or (type(other) is int and other > 0):
            return self._concrete()  # Python's integers have no bounds
        return self._power(other)

    def __rpow__(self, other: object):
        return self._concrete() if isinstance(other, int) else self._power_of(other)

    __truediv__ = _by_value(operator.truediv)
    __rtruediv__ = _by_value(operator.truediv, swapped=True)
    __rfloordiv__ = _by_value(operator.floordiv, swapped=True)
    _power, _power_of = _by_value(operator.pow), _by_value(operator.pow, swapped=True)
    __mod__ = _by_value(operator.mod)
    __rmod__ = _by_value(operator.mod, swapped=True)
    __divmod__ = _by_value(divmod)
    __rdivmod__ = _by_value(divmod, swapped=True)

    def _unknown(self, other: object, operation: Callable):
        """Arithmetic with a float; other types may know dimensions themselves."""
        if not isinstance(other, float | complex):
            return NotImplemented
        return operation(self._as_number(), other)

    def _as_number(self):
        """The size as a traced number, where a trace is running."""
        number = as_number(self) if as_number is not None else None
        return self._concrete() if number is None else number

    def __round__(self, digits=0):
        return self if digits is None or digits >= 0 else self._concrete()

    def __abs__(self):
        return abs(self._as_number())

    def _itself(self):
        return self

    def _concrete(self, *_, **__):
        reason = needed_by() if needed_by is not None else ""
        raise SymbolicDimError(f"dimension {self} is needed as a plain integer{reason}")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return self._as_number().__array_ufunc__(ufunc, method, *inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return self._as_number().__array_function__(function, types, args, kwargs)

    __int__ = __index__ = __float__ = __bool__ = __complex__ = __array__ = _concrete
    __lt__ = __le__ = __gt__ = __ge__ = _concrete
    __trunc__ = __floor__ = __ceil__ = __pos__ = _itself

    def __str__(self) -> str:
        parts = []
        for names, coeff in self.terms:
            factors = [str(coeff)] if coeff != 1 or not names else []
            parts.append("*".join([*factors, *names]))
        return "+".join(parts).replace("+-", "-").replace("-1*", "-")

    __repr__ = __str__


DimLike = int | Dim

# Tracing sets these three. Equality is that of polynomials: `n == 7` is False although a size of 7
# may come; the first refuses the question where a user's program asks it.
on_unknown_equality: Callable[[Dim, object], None] | None = None
# The size as a traced number where a user's program computes with it, else None.
as_number: Callable[[Dim], Any] | None = None
# What in the user's line needs a plain integer, and what to write instead.
needed_by: Callable[[], str] | None = None

_LARGEST_POWER = 8  # of a polynomial


def _may_equal(dim: Dim, other: object) -> bool:
    """Whether some sizes, all at least 2, could make ``dim`` and ``other`` equal."""
    if isinstance(other, Dim):
        return True
    if not isinstance(other, int):
        return False
    if any(coeff < 0 for names, coeff in dim.terms if names):
        return True
    return dim.evaluate(dict.fromkeys(dim.symbols, 2)) <= other


def symbol(name: str) -> Dim:
    """The dimension named ``name``."""
    if not name.isidentifier():
        raise ValueError(f"a dimension name must be an identifier, not {name!r}")
    return Dim((((name,), 1),))


def _terms(value: DimLike) -> tuple[tuple[Monomial, int], ...]:
    return value.terms if isinstance(value, Dim) else (((), int(value)),)


def _from_terms(total: Mapping[Monomial, int]) -> DimLike:
    kept = {names: coeff for names, coeff in total.items() if coeff}
    if not kept:
        return 0
    if list(kept) == [()]:
        return kept[()]
    # Highest degree first, then alphabetical: one printed form for one polynomial.
    return Dim(tuple(sorted(kept.items(), key=lambda t: (-len(t[0]), t[0]))))


def exact_div(a: DimLike, b: DimLike) -> DimLike | None:
    """``a / b`` when it is a polynomial with integer coefficients, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    divisor = _terms(b)
    if len(divisor) != 1:
        return 1 if a == b else None
    (names_b, coeff_b), result = divisor[0], {}
    for names, coeff in _terms(a):
        left = list(names)
        if coeff_b == 0 or coeff % coeff_b:
            return None
        for name in names_b:
            if name not in left:
                return None
            left.remove(name)
        result[tuple(left)] = coeff // coeff_b
    return _from_terms(result)


def product(dims) -> DimLike:
    """The product of dimensions, 1 for none."""
    total: DimLike = 1
    for dim in dims:
        total = dim * total
    return total


def evaluate(dim: DimLike, env: Mapping[str, int]) -> int:
    """The size of ``dim`` with symbols bound by ``env``."""
    return dim.evaluate(env) if isinstance(dim, Dim) else dim


def parse(text: str) -> DimLike:
    """Parse the printed form of a dimension."""
    total: DimLike = 0
    for part in text.replace("-", "+-").split("+"):
        if not part:
            continue
        sign, part = (-1, part[1:]) if part.startswith("-") else (1, part)
        factors = [int(f) if f.isdigit() else symbol(f) for f in part.split("*")]
        total = product([sign, *factors]) + total
    return total
