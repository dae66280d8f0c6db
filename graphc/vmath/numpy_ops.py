"""The operations on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from graphc.vmath.values import Ops, Value


class NumpyOps(Ops):
    """The operation set on NumPy arrays (never fuses a multiply-add)."""

    _BIN: ClassVar[dict[str, Callable[[Any, Any], Any]]] = {
        "fadd": np.add, "fsub": np.subtract, "fmul": np.multiply, "fdiv": np.divide,
        "iadd": np.add, "isub": np.subtract, "imul": np.multiply,
        "iand": np.bitwise_and, "ior": np.bitwise_or, "ixor": np.bitwise_xor,
        "ishl": np.left_shift,
        "band": np.logical_and, "bor": np.logical_or, "bxor": np.logical_xor,
        "copysign": np.copysign,
    }  # fmt: skip
    _UN: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt,
    }  # fmt: skip
    _CMP: ClassVar[dict[str, Callable[[Any, Any], Any]]] = {
        "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
        "==": np.equal, "!=": np.not_equal,
    }  # fmt: skip

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype)
        self.ft = np.dtype(dtype).type
        self.it = np.int32 if self.f32 else np.int64
        self.ut = np.uint32 if self.f32 else np.uint64

    def const(self, x: float) -> Value:
        return Value(self, "f", self.ft(x))

    def iconst(self, n: int) -> Value:
        n &= (1 << self.width) - 1
        return Value(self, "i", self.ut(n).view(self.it))

    def bconst(self, b: bool) -> Value:
        return Value(self, "b", np.bool_(b))

    def binary(self, op: str, a: Any, b: Any) -> Any:
        if op == "ilshr":
            return np.right_shift(np.asarray(a).view(self.ut), np.asarray(b).view(self.ut)).view(
                self.it
            )
        return self._BIN[op](a, b)

    def unary(self, op: str, a: Any) -> Any:
        return self._UN[op](a)

    def compare(self, kind: str, op: str, a: Any, b: Any) -> Any:
        return self._CMP[op](a, b)

    def fma(self, a: Any, b: Any, c: Any) -> Value:
        a, b, c = (self.lift(t, "f").raw for t in (a, b, c))
        return Value(self, "f", a * b + c)

    def select(self, c: Value, a: Any, b: Any) -> Value:
        kind = a.kind if isinstance(a, Value) else b.kind if isinstance(b, Value) else "f"
        return Value(self, kind, np.where(c.raw, self.lift(a, kind).raw, self.lift(b, kind).raw))

    def bits(self, x: Value) -> Value:
        return Value(self, "i", np.asarray(x.raw).view(self.it))

    def from_bits(self, n: Value) -> Value:
        return Value(self, "f", np.asarray(n.raw).view(self.ft))

    def cast(self, x: Value) -> Value:
        return Value(self, "f", np.asarray(x.raw).astype(self.ft))

    to_float = cast

    def ult(self, a: Value, b: Value) -> Value:
        return Value(self, "b", a.raw.view(np.uint64) < b.raw.view(np.uint64))

    def umulh(self, a: Value, b: Value) -> Value:
        x, y = a.raw.view(np.uint64), b.raw.view(np.uint64)
        s, m = np.uint64(32), np.uint64(0xFFFFFFFF)
        xh, xl, yh, yl = x >> s, x & m, y >> s, y & m
        mid = (xl * yl >> s) + (xh * yl & m) + (xl * yh & m)
        hi = xh * yh + (xh * yl >> s) + (xl * yh >> s) + (mid >> s)
        return Value(self, "i", hi.view(np.int64))

    def table(self, words: tuple[int, ...], index: Value) -> Value:
        return Value(self, "i", np.array(words, self.ut).view(self.it)[index.raw])

    def rare(
        self,
        name: str,
        f: Callable[..., Value],
        needed: Callable[..., Value],
        args: Sequence[Value],
        y: Value,
        lane_by_lane: bool = False,
    ) -> Value:
        """``f(*args)`` where ``needed(*args)``, else ``y``."""
        mask = np.broadcast_to(needed(self, *args).raw, np.shape(y.raw))
        if mask.any():
            y.raw[mask] = f(self, *(self.arg(x.raw[mask]) for x in args)).raw
        return y

    def wide(self) -> NumpyOps:
        return NumpyOps("float64")
