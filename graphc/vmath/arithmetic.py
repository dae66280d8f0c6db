"""Polynomials, error-free transformations and constants that the families share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from graphc.vmath.values import Value

INF = float("inf")
NAN = float("nan")


def divided(v: Any, x: Value, divisor: Value, reciprocal: Value, shrinks: bool = False) -> Value:
    """x / divisor by the divisor's rounded reciprocal, for divisors of moderate size; ``shrinks``
    where it is known to be at least 1 in magnitude.

    A step of Markstein's (1990) corrects the product: with FMA it is the rounded quotient (exact
    where that is), without it is within an ulp. Zeros, infinities and NaN pass through.
    """
    q = x * reciprocal
    rest = v.fma(-q, divisor, x)
    # The rest of an infinite x is NaN, that of an infinite product infinite: they keep the product.
    mends = (rest < 0.0) | (rest > 0.0) if shrinks else v.abs(rest) < v.abs(x)
    return v.select(mends, v.fma(rest, reciprocal, q), q)


def pieces(x: str, *bits: int) -> tuple[float, ...]:
    """Cut a decimal constant into float64 pieces: each of ``bits`` bits, then a rounded rest."""
    from fractions import Fraction

    rest = Fraction(x)
    out = []
    for b in bits:
        e = math.frexp(float(rest))[1]
        scale = Fraction(2) ** (b - e)
        piece = Fraction(int(rest * scale)) / scale
        out.append(float(piece))
        rest -= piece
    out.append(float(rest))
    return tuple(out)


LN2 = "0.693147180559945309417232121458176568075500134360255254120680009"
LOG2E = "1.44269504088896340735992468100189213742664595415298593413544940693"
# The high part times any exponent is exact, with or without FMA.
LN2_SPLIT = {True: pieces(LN2, 14), False: pieces(LN2, 40)}
LOG2E_SPLIT = {True: pieces(LOG2E, 24), False: pieces(LOG2E, 53)}


def poly(v: Any, x: Value, coefs: Sequence[float], square: Value | None = None) -> Value:
    """Horner in one, two or four interleaved chains.

    Iterations of the caller's loop overlap, so operation count beats latency, up to what a
    scheduler holds: each doubling of the chains costs one multiplication. Where ``square`` is
    there anyway, pairs of terms are a chain half as long for nothing: few elements, which do not
    overlap, wait for it.
    """
    if square is not None and 4 <= len(coefs) < 10:
        pairs = [v.fma(x, b, a) for a, b in zip(coefs[0::2], coefs[1::2])]
        y = v.const(coefs[-1]) if len(coefs) % 2 else pairs.pop()
        for pair in reversed(pairs):
            y = v.fma(y, square, pair)
        return y
    if len(coefs) < 10:
        y = v.const(coefs[-1])
        for c in reversed(coefs[:-1]):
            y = v.fma(y, x, c)
        return y
    z = x * x
    return v.fma(poly(v, z, coefs[1::2]), x, poly(v, z, coefs[0::2]))


def poly_over(v: Any, x: Value, low: float, high: float, coefs: Sequence[float]) -> Value:
    """A polynomial of [low, high], scaled to [-1, 1], at what of ``x`` is in it."""
    inner = at_least(v, at_most(v, x, high), low)
    return poly(v, (inner - (high + low) / 2) * (2 / (high - low)), coefs)


def at_most(v: Any, x: Value, hi: float) -> Value:
    return v.select(x > hi, hi, x)


def at_least(v: Any, x: Value, lo: float) -> Value:
    return v.select(x < lo, lo, x)


def via_f64(impl: Callable[..., Value]) -> Callable[..., Value]:
    """Compute float32 in float64, where twice the lanes would not make up for the extra care."""

    def wrapped(v: Any, *args: Value) -> Value:
        if not v.f32:
            return impl(v, *args)
        w = v.wide()
        return v.cast(impl(w, *(w.cast(a) for a in args)))

    return wrapped


def not_normal(v: Any, x: Value) -> Value:
    """Whether x is not a normal number > 0: subnormal, zero, negative, infinite or NaN."""
    return ~((x >= v.tiny) & (x < INF))


def two_sum(a: Value, b: Value) -> tuple[Value, Value]:
    """a + b exactly as a rounded sum and its error, |a| >= |b| (Dekker 1971)."""
    s = a + b
    return s, b - (s - a)


def two_product(v: Any, a: Value, b: Value) -> tuple[Value, Value]:
    """a * b as a rounded product and its error."""
    p = a * b
    return p, v.product_error(a, b, p)
