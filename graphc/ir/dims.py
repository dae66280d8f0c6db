"""Dimensions: plain ints, or polynomials with integer coefficients in named symbols.

A small canonical form of our own: a general symbolic-algebra system in the shape
arithmetic of a compiler makes compile times explode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphc.errors import SymbolicDimError

Monomial = tuple[str, ...]  # sorted symbol names, repeated for powers; () is the constant term


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
            return self._unknown(other)
        total = dict(self.terms)
        for names, coeff in _terms(other):
            total[names] = total.get(names, 0) + coeff
        return _from_terms(total)

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return self * -1

    def __sub__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return self._unknown(other)
        return self + other * -1

    def __rsub__(self, other: DimLike) -> DimLike:
        return (self * -1).__add__(other)

    def __mul__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return self._unknown(other)
        total: dict[Monomial, int] = {}
        for names_a, coeff_a in self.terms:
            for names_b, coeff_b in _terms(other):
                names = tuple(sorted(names_a + names_b))
                total[names] = total.get(names, 0) + coeff_a * coeff_b
        return _from_terms(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return self._unknown(other)
        quotient = exact_div(self, other)
        if quotient is None:
            raise SymbolicDimError(f"{self} // {other} is not exact")
        return quotient

    def __rfloordiv__(self, other: int) -> DimLike:
        raise SymbolicDimError(f"{other} // {self}")

    def _unknown(self, other: object):
        """Arithmetic with a float needs the size; other types may know dimensions themselves."""
        return self._concrete() if isinstance(other, float | complex) else NotImplemented

    def _concrete(self, *_, **__):
        raise SymbolicDimError(f"dimension {self} is needed as a plain integer")

    __int__ = __index__ = __float__ = __bool__ = _concrete
    __lt__ = __le__ = __gt__ = __ge__ = _concrete
    __mod__ = __rmod__ = __pow__ = __rpow__ = __divmod__ = __rdivmod__ = _concrete
    __abs__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = _concrete
    __array__ = _concrete

    def __truediv__(self, other: object):
        return self._concrete() if isinstance(other, int | Dim) else self._unknown(other)

    __rtruediv__ = __truediv__

    def __str__(self) -> str:
        parts = []
        for names, coeff in self.terms:
            factors = [str(coeff)] if coeff != 1 or not names else []
            parts.append("*".join([*factors, *names]))
        return "+".join(parts).replace("+-", "-").replace("-1*", "-")

    __repr__ = __str__


DimLike = int | Dim

# Equality is that of polynomials: `n == 7` is False although a size of 7 may come. Tracing sets
# this, to refuse the question where a user's program asks it.
on_unknown_equality: Callable[[Dim, object], None] | None = None


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
