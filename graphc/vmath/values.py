"""A value of a backend, with operators, and the operations that every backend has."""

from __future__ import annotations

from typing import Any

import numpy as np


class Value:
    """A backend value (float ``f``, integer ``i`` or boolean ``b``) with arithmetic operators."""

    __slots__ = ("kind", "ops", "raw")

    def __init__(self, ops: Ops, kind: str, raw: Any) -> None:
        self.ops = ops
        self.kind = kind
        self.raw = raw

    def _bin(self, op: str, other: Any, swap: bool = False) -> Value:
        a, b = self, self.ops.lift(other, self.kind)
        if swap:
            a, b = b, a
        return Value(self.ops, self.kind, self.ops.binary(self.kind + op, a.raw, b.raw))

    def _cmp(self, op: str, other: Any) -> Value:
        b = self.ops.lift(other, self.kind)
        return Value(self.ops, "b", self.ops.compare(self.kind, op, self.raw, b.raw))

    def __add__(self, o: Any) -> Value:
        return self._bin("add", o)

    def __radd__(self, o: Any) -> Value:
        return self._bin("add", o, True)

    def __sub__(self, o: Any) -> Value:
        return self._bin("sub", o)

    def __rsub__(self, o: Any) -> Value:
        return self._bin("sub", o, True)

    def __mul__(self, o: Any) -> Value:
        return self._bin("mul", o)

    def __rmul__(self, o: Any) -> Value:
        return self._bin("mul", o, True)

    def __truediv__(self, o: Any) -> Value:
        return self._bin("div", o)

    def __rtruediv__(self, o: Any) -> Value:
        return self._bin("div", o, True)

    def __and__(self, o: Any) -> Value:
        return self._bin("and", o)

    def __or__(self, o: Any) -> Value:
        return self._bin("or", o)

    def __xor__(self, o: Any) -> Value:
        return self._bin("xor", o)

    def __lshift__(self, o: int) -> Value:
        return self._bin("shl", o)

    def __rshift__(self, o: int) -> Value:
        """Logical right shift: AVX2 has no arithmetic one for 64-bit lanes."""
        return self._bin("lshr", o)

    def __neg__(self) -> Value:
        if self.kind == "i":
            return self._bin("sub", 0, True)
        return Value(self.ops, "f", self.ops.unary("neg", self.raw))

    def __invert__(self) -> Value:
        return self._bin("xor", True if self.kind == "b" else -1)

    def __lt__(self, o: Any) -> Value:
        return self._cmp("<", o)

    def __le__(self, o: Any) -> Value:
        return self._cmp("<=", o)

    def __gt__(self, o: Any) -> Value:
        return self._cmp(">", o)

    def __ge__(self, o: Any) -> Value:
        return self._cmp(">=", o)

    def __eq__(self, o: object) -> Value:  # type: ignore[override]
        return self._cmp("==", o)

    def __ne__(self, o: object) -> Value:  # type: ignore[override]
        return self._cmp("!=", o)

    __hash__ = None  # type: ignore[assignment]


class Ops:
    """Operations shared by the backends; subclasses supply the raw primitives."""

    dtype: str
    width: int  # bits
    mant: int  # explicit significand bits
    bias: int
    estimates = False  # of 1 / sqrt(x), by an instruction

    def __init__(self, dtype: str) -> None:
        if dtype not in ("float32", "float64"):
            raise TypeError(f"vmath works on float32 and float64, not {dtype}")
        self.dtype = dtype
        self.f32 = dtype == "float32"
        #: Whether vectors of integers become floats by an instruction.
        self.converts = self.f32
        self.width, self.mant, self.bias = (32, 23, 127) if self.f32 else (64, 52, 1023)
        #: Adding it rounds to an integer, left in the low bits of the sum's representation.
        self.magic = 1.5 * 2.0**self.mant
        self.tiny = 2.0 ** (1 - self.bias)  # smallest normal
        self.sign = 1 << (self.width - 1)

    # primitives -----------------------------------------------------------------------------
    def const(self, x: float) -> Value:
        raise NotImplementedError

    def iconst(self, n: int) -> Value:
        raise NotImplementedError

    def bconst(self, b: bool) -> Value:
        raise NotImplementedError

    def binary(self, op: str, a: Any, b: Any) -> Any:
        raise NotImplementedError

    def unary(self, op: str, a: Any) -> Any:
        raise NotImplementedError

    def compare(self, kind: str, op: str, a: Any, b: Any) -> Any:
        raise NotImplementedError

    # derived --------------------------------------------------------------------------------
    def arg(self, raw: Any) -> Value:
        return Value(self, "f", raw)

    def lift(self, x: Any, kind: str) -> Value:
        if isinstance(x, Value):
            return x
        if kind == "f":
            return self.const(float(x))
        return self.bconst(bool(x)) if kind == "b" else self.iconst(int(x))

    def abs(self, x: Value) -> Value:
        return Value(self, "f", self.unary("abs", x.raw))

    def sqrt(self, x: Value) -> Value:
        return Value(self, "f", self.unary("sqrt", x.raw))

    def product_error(self, a: Value, b: Value, p: Value) -> Value:
        """a * b - p exactly, p = a * b rounded (Dekker 1971), the halves cut by mask."""
        mask = -(1 << (12 if self.f32 else 27))
        ah, bh = self.from_bits(self.bits(a) & mask), self.from_bits(self.bits(b) & mask)
        al, bl = a - ah, b - bh
        # products of halves are exact, so fusing or not does not matter
        return self.fma(al, bl, self.fma(al, bh, self.fma(ah, bl, self.fma(ah, bh, -p))))

    def remainder(self, x: Value, a: Value, b: Value) -> Value:
        """x - a b without the error of the product, for a b near x (then it is exact)."""
        p = a * b
        return (x - p) - self.product_error(a, b, p)

    def copysign(self, x: Value, s: Value) -> Value:
        return Value(self, "f", self.binary("copysign", x.raw, s.raw))

    def bits_of(self, x: float) -> int:
        """The representation of a constant."""
        if self.f32:
            return int(np.float32(x).view(np.int32))
        return int(np.float64(x).view(np.int64))
