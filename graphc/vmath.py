"""Branch-free elementary functions that LLVM's loop vectoriser can vectorise.

Numba ships no vector math library, so ``math.exp`` in a loop is one scalar libm call an element
and keeps the loop from being vectorised.  The functions here are straight-line arithmetic,
selects and bit operations: written into a loop body they vectorise for any SIMD target.

Every function is written once against a small operation set and runs on two backends:
:class:`LLVMOps` emits scalar LLVM instructions through an llvmlite ``IRBuilder`` and
:class:`NumpyOps` computes on arrays.  Importing this module imports neither Numba nor llvmlite.

Rules the formulas keep:

* ``v.fma`` is a *permission* to fuse (``llvm.fmuladd``); nothing depends on whether it does, and
  the NumPy backend never does.  Everything else is strict, so error-free transformations hold.
  Do not compile with ``fastmath``: it re-flags these instructions and breaks them.
* Integers and floats are exchanged with the "magic number" 1.5*2**(p-1) instead of fptosi/sitofp
  on 64-bit lanes, which only AVX-512 can vectorise.
* NaN must survive every clamp: comparisons are ordered, and the select keeps ``x`` when they fail.

Polynomial coefficients are weighted minimax fits (Remez exchange in 60-digit arithmetic), the
low-order coefficients rounded to the target type one by one and the rest refitted each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

__all__ = ["FUNCTIONS", "Function", "LLVMOps", "NumpyOps", "Value", "emit", "evaluate"]

_INF = float("inf")
_NAN = float("nan")


class Value:
    """A backend value (float ``f``, integer ``i`` or boolean ``b``) with arithmetic operators."""

    __slots__ = ("kind", "ops", "raw")

    def __init__(self, ops: _Ops, kind: str, raw: Any) -> None:
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


class _Ops:
    """Operations shared by the backends; subclasses supply the raw primitives."""

    dtype: str
    width: int  # bits
    mant: int  # explicit significand bits
    bias: int

    def __init__(self, dtype: str) -> None:
        if dtype not in ("float32", "float64"):
            raise TypeError(f"vmath works on float32 and float64, not {dtype}")
        self.dtype = dtype
        self.f32 = dtype == "float32"
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

    def copysign(self, x: Value, s: Value) -> Value:
        return Value(self, "f", self.binary("copysign", x.raw, s.raw))

    def bits_of(self, x: float) -> int:
        """The representation of a constant."""
        if self.f32:
            return int(np.float32(x).view(np.int32))
        return int(np.float64(x).view(np.int64))


class NumpyOps(_Ops):
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

    def arg(self, raw: Any) -> Value:
        return Value(self, "f", raw)

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

    def to_float(self, n: Value) -> Value:
        return Value(self, "f", np.asarray(n.raw).astype(self.ft))

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
        return Value(self, "i", np.array(words, np.uint64).view(np.int64)[index.raw])

    def rare(self, name: str, f: Callable[..., Value], limit: float, x: Value, y: Value) -> Value:
        """``f(x)`` where ``limit < |x| < inf``, else ``y``."""
        mask = (np.abs(x.raw) > limit) & (np.abs(x.raw) < np.inf)
        if mask.any():
            y.raw[mask] = f(self, self.arg(x.raw[mask])).raw
        return y

    def wide(self) -> NumpyOps:
        return NumpyOps("float64")

    def cast(self, x: Value) -> Value:
        return Value(self, "f", np.asarray(x.raw).astype(self.ft))


class LLVMOps(_Ops):
    """The operation set as LLVM instructions appended to an llvmlite ``IRBuilder``."""

    _BIN: ClassVar[dict[str, str]] = {
        "fadd": "fadd", "fsub": "fsub", "fmul": "fmul", "fdiv": "fdiv",
        "iadd": "add", "isub": "sub", "imul": "mul", "iand": "and_", "ior": "or_", "ixor": "xor",
        "ishl": "shl", "ilshr": "lshr", "band": "and_", "bor": "or_", "bxor": "xor",
    }  # fmt: skip

    def __init__(self, builder: Any, dtype: str) -> None:
        super().__init__(dtype)
        from llvmlite import ir

        self.ir = ir
        self.builder = builder
        self.ft = ir.FloatType() if self.f32 else ir.DoubleType()
        self.it = ir.IntType(self.width)
        self.suffix = f"f{self.width}"

    def arg(self, raw: Any) -> Value:
        return Value(self, "f", raw)

    def const(self, x: float) -> Value:
        return Value(self, "f", self.ir.Constant(self.ft, x))

    def iconst(self, n: int) -> Value:
        return Value(self, "i", self.ir.Constant(self.it, n & ((1 << self.width) - 1)))

    def bconst(self, b: bool) -> Value:
        return Value(self, "b", self.ir.Constant(self.ir.IntType(1), int(b)))

    def intrinsic(self, name: str, *args: Any) -> Any:
        full = f"llvm.{name}.{self.suffix}"
        mod = self.builder.module
        fn = mod.globals.get(full)
        if fn is None:
            fn = self.ir.Function(mod, self.ir.FunctionType(self.ft, [self.ft] * len(args)), full)
        return self.builder.call(fn, args)

    def binary(self, op: str, a: Any, b: Any) -> Any:
        if op == "copysign":
            return self.intrinsic("copysign", a, b)
        return getattr(self.builder, self._BIN[op])(a, b)

    def unary(self, op: str, a: Any) -> Any:
        if op == "neg":
            return self.builder.fneg(a)
        return self.intrinsic({"abs": "fabs"}.get(op, op), a)

    def compare(self, kind: str, op: str, a: Any, b: Any) -> Any:
        if kind == "i":
            return self.builder.icmp_signed(op, a, b)
        if op == "!=":  # true for NaN, as in Python
            return self.builder.fcmp_unordered(op, a, b)
        return self.builder.fcmp_ordered(op, a, b)

    def fma(self, a: Any, b: Any, c: Any) -> Value:
        a, b, c = (self.lift(t, "f").raw for t in (a, b, c))
        return Value(self, "f", self.intrinsic("fmuladd", a, b, c))

    def select(self, c: Value, a: Any, b: Any) -> Value:
        kind = a.kind if isinstance(a, Value) else b.kind if isinstance(b, Value) else "f"
        raw = self.builder.select(c.raw, self.lift(a, kind).raw, self.lift(b, kind).raw)
        return Value(self, kind, raw)

    def bits(self, x: Value) -> Value:
        return Value(self, "i", self.builder.bitcast(x.raw, self.it))

    def from_bits(self, n: Value) -> Value:
        return Value(self, "f", self.builder.bitcast(n.raw, self.ft))

    def to_float(self, n: Value) -> Value:
        return Value(self, "f", self.builder.sitofp(n.raw, self.ft))

    def ult(self, a: Value, b: Value) -> Value:
        return Value(self, "b", self.builder.icmp_unsigned("<", a.raw, b.raw))

    def umulh(self, a: Value, b: Value) -> Value:
        """High half of an unsigned product: scalar code only."""
        w = self.ir.IntType(2 * self.width)
        bd = self.builder
        p = bd.mul(bd.zext(a.raw, w), bd.zext(b.raw, w))
        return Value(self, "i", bd.trunc(bd.lshr(p, self.ir.Constant(w, self.width)), self.it))

    def table(self, words: tuple[int, ...], index: Value) -> Value:
        ir, mod = self.ir, self.builder.module
        name = f"graphc.table.{abs(hash(words)):x}"
        g = mod.globals.get(name)
        if g is None:
            ty = ir.ArrayType(self.it, len(words))
            g = ir.GlobalVariable(mod, ty, name)
            g.linkage = "internal"
            g.global_constant = True
            g.initializer = ir.Constant(ty, list(words))
        p = self.builder.gep(g, [ir.Constant(self.it, 0), index.raw], inbounds=True)
        return Value(self, "i", self.builder.load(p))

    def rare(self, name: str, f: Callable[..., Value], limit: float, x: Value, y: Value) -> Value:
        """``f(x)`` where ``limit < |x| < inf``, else ``y``, without slowing the common case.

        A call to a scalar function that has vector variants (LLVM's "vector-function-abi-variant"
        attribute): the vectoriser calls the variant, which returns at once unless some lane needs
        ``f`` and then works lane by lane.
        """
        fn = self._rare_function(name, f, limit)
        return Value(self, "f", self.builder.call(fn, [x.raw, y.raw]))

    def _rare_function(self, name: str, f: Callable[..., Value], limit: float) -> Any:
        ir, mod = self.ir, self.builder.module
        base = f"graphc_{name}_rare_{self.suffix}"
        if base in mod.globals:
            return mod.globals[base]
        i32, ft = ir.IntType(32), self.ft

        def define(fname: str, args: list[Any], ret: Any) -> Any:
            fn = ir.Function(mod, ir.FunctionType(ret, args), fname)
            fn.linkage = "weak_odr"  # the vectoriser finds variants by name: keep them till then
            fn.attributes.add("nounwind")
            return fn

        def needed(b: Any, x: Any, ty: Any, suffix: str, splat: Callable[[Any], Any]) -> Any:
            fabs = mod.globals.get(f"llvm.fabs.{suffix}") or ir.Function(
                mod, ir.FunctionType(ty, [ty]), f"llvm.fabs.{suffix}"
            )
            a = b.call(fabs, [x])
            return b.and_(b.fcmp_ordered(">", a, splat(limit)), b.fcmp_ordered("<", a, splat(_INF)))

        # The lanes call a function without variants of its own: the vectoriser would turn their
        # loop into a call of the variant that it stands in, an endless recursion.
        one = define(f"{base}_one", [ft, ft], ft)
        one.attributes.add("noinline")
        for extra in ("memory(none)", "willreturn"):
            set.add(one.attributes, extra)
        b = ir.IRBuilder(one.append_basic_block("entry"))
        x, y = one.args
        with b.if_then(needed(b, x, ft, self.suffix, lambda c: ir.Constant(ft, c)), likely=False):
            o = LLVMOps(b, self.dtype)
            b.ret(f(o, o.arg(x)).raw)
        b.ret(y)

        scalar = define(base, [ft, ft], ft)
        scalar.attributes.add("noinline")
        lanes = (2, 4, 8, 16)
        names = {n: f"{base}_v{n}" for n in lanes}
        variants = ",".join(f"_ZGV_LLVM_N{n}vv_{base}({names[n]})" for n in lanes)
        for extra in (f'"vector-function-abi-variant"="{variants}"', "memory(none)", "willreturn"):
            set.add(scalar.attributes, extra)
        b = ir.IRBuilder(scalar.append_basic_block("entry"))
        b.ret(b.call(one, scalar.args))

        for n in lanes:
            vt = ir.VectorType(ft, n)
            fn = define(names[n], [vt, vt], vt)
            b = ir.IRBuilder(fn.append_basic_block("entry"))
            slow, done, loop = (fn.append_basic_block(t) for t in ("slow", "done", "loop"))
            x, y = fn.args
            m = needed(
                b, x, vt, f"v{n}{self.suffix}", lambda c, vt=vt, n=n: ir.Constant(vt, [c] * n)
            )
            bits = b.bitcast(m, ir.IntType(n))
            b.cbranch(b.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)), slow, done)
            b.position_at_end(slow)
            b.branch(loop)
            b.position_at_end(loop)
            i = b.phi(i32)
            acc = b.phi(vt)
            r = b.call(one, [b.extract_element(x, i), b.extract_element(acc, i)])
            nxt = b.insert_element(acc, r, i)
            following = b.add(i, ir.Constant(i32, 1))
            i.add_incoming(ir.Constant(i32, 0), slow)
            i.add_incoming(following, loop)
            acc.add_incoming(y, slow)
            acc.add_incoming(nxt, loop)
            b.cbranch(b.icmp_unsigned("<", following, ir.Constant(i32, n)), loop, done)
            b.position_at_end(done)
            out = b.phi(vt)
            out.add_incoming(y, fn.basic_blocks[0])
            out.add_incoming(nxt, loop)
            b.ret(out)
        return scalar

    def wide(self) -> LLVMOps:
        return LLVMOps(self.builder, "float64")

    def cast(self, x: Value) -> Value:
        if x.ops.dtype == self.dtype:
            return Value(self, "f", x.raw)
        op = self.builder.fptrunc if self.f32 else self.builder.fpext
        return Value(self, "f", op(x.raw, self.ft))


# ------------------------------------------------------------------------------- building blocks


def divided(v: Any, x: Value, divisor: Value, reciprocal: Value) -> Value:
    """x / divisor by the divisor's rounded reciprocal, for divisors of moderate size.

    A step of Markstein's (1990) corrects the product: with FMA it is the rounded quotient (exact
    where that is), without it is within an ulp. Zeros, infinities and NaN pass through.
    """
    q = x * reciprocal
    rest = v.fma(-q, divisor, x)
    return v.select(v.abs(rest) < v.abs(x), v.fma(rest, reciprocal, q), q)


def _split(x: str, *bits: int) -> tuple[float, ...]:
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


_LN2 = "0.693147180559945309417232121458176568075500134360255254120680009"
_LOG2E = "1.44269504088896340735992468100189213742664595415298593413544940693"
_LOG10E = "0.434294481903251827651128918916605082294397005803666566114453783"
_LOG10_2 = "0.301029995663981195213738894724493026768189881462108541310427461"

# The high part times any exponent is exact, with or without FMA.
_LN2_SPLIT = {True: _split(_LN2, 14), False: _split(_LN2, 40)}
_LOG10_2_SPLIT = {True: _split(_LOG10_2, 14), False: _split(_LOG10_2, 40)}
_LOG2E_SPLIT = {True: _split(_LOG2E, 24), False: _split(_LOG2E, 53)}
_LOG10E_SPLIT = {True: _split(_LOG10E, 24), False: _split(_LOG10E, 53)}

# exp(r) = 1 + r + r**2 q(r), |r| <= ln(2)/2; error relative to exp (EXP) or expm1 (EXPM1).
_EXP = {
    True: (0.49999994, 0.166665152, 0.0416680798, 0.00836937409, 0.00138414383),
    False: (
        0.5000000000000011, 0.16666666666666172, 0.041666666666522745, 0.008333333333661838,
        0.0013888888946195711, 0.00019841269120853125, 2.480148996264674e-05,
        2.7557948325263597e-06, 2.763150051144413e-07, 2.4880811025970535e-08,
    ),
}  # fmt: skip
_EXPM1 = {
    True: (0.49999997, 0.166665375, 0.0416677408, 0.00836732425, 0.00138375699),
    False: (
        0.5, 0.16666666666666677, 0.041666666666666706, 0.008333333333321334,
        0.0013888888888850981, 0.00019841269887088743, 2.4801587415733167e-05,
        2.755724300958287e-06, 2.7557177184375317e-07, 2.5109541251906262e-08,
        2.0949807509017025e-09,
    ),
}  # fmt: skip
# log(1 + f) = f - f**2/2 + f**3 p(f), 1 + f in [sqrt(1/2), sqrt(2)]
_LOG_F32 = (
    0.333333135, -0.250001639, 0.200022206, -0.16659528, 0.14209798, -0.125470787, 0.121043369,
    -0.109297194, 0.0536512211,
)  # fmt: skip
# log(1 + f) = 2 s + s z p(z), s = f / (2 + f), z = s**2
_LOG_F64 = (
    0.6666666666666735, 0.3999999999940938, 0.28571428743631183, 0.2222219844029239,
    0.18183571485044192, 0.15313861130183598, 0.14797906830882562,
)  # fmt: skip


def _poly(v: Any, x: Value, coefs: Sequence[float]) -> Value:
    """Horner in one, two or four interleaved chains.

    Iterations of the caller's loop overlap, so operation count beats latency, up to what a
    scheduler holds: each doubling of the chains costs one multiplication.
    """
    if len(coefs) < 10:
        y = v.const(coefs[-1])
        for c in reversed(coefs[:-1]):
            y = v.fma(y, x, c)
        return y
    z = x * x
    return v.fma(_poly(v, z, coefs[1::2]), x, _poly(v, z, coefs[0::2]))


def _min(v: Any, x: Value, hi: float) -> Value:
    return v.select(x > hi, hi, x)


def _max(v: Any, x: Value, lo: float) -> Value:
    return v.select(x < lo, lo, x)


def _exp_reduce_high(v: Any, x: Value) -> tuple[Value, Value, Value]:
    """``(t, n, r)``: x = n ln2 + r but for n times the low part of ln2; see `_exp_reduce`."""
    magic = v.magic + 2 * v.bias
    t = v.fma(x, float(_LOG2E), magic)
    n = t - magic
    return t, n, v.fma(n, -_LN2_SPLIT[v.f32][0], x)


def _exp_reduce(v: Any, x: Value) -> tuple[Value, Value]:
    """Return ``(t, r)``: x = n ln2 + r; the low bits of t's representation are n + 2*bias."""
    t, n, r = _exp_reduce_high(v, x)
    return t, v.fma(n, -_LN2_SPLIT[v.f32][1], r)


def _two_powers(v: Any, t: Value) -> tuple[Value, Value]:
    """Two factors with product 2**n for t of `_exp_reduce`: one alone would leave the range."""
    b = v.bits(t)
    half = b >> 1
    return v.from_bits(half << v.mant), v.from_bits((b - half) << v.mant)


def _exp_poly(v: Any, r: Value) -> Value:
    return v.fma(_poly(v, r, _EXP[v.f32]), r * r, r) + 1.0


def _exp_clamped(v: Any, x: Value) -> Value:
    t, r = _exp_reduce(v, x)
    a, b = _two_powers(v, t)
    return _exp_poly(v, r) * a * b


def _exp_range(v: Any) -> tuple[float, float]:
    """Arguments beyond which exp is 0 or inf, barely: the exponent must not wrap around."""
    return (-104.0, 89.0) if v.f32 else (-746.0, 710.0)


# ------------------------------------------------------------------------------------- exp & co.


def _exp(v: Any, x: Value) -> Value:
    """exp: x = n ln2 + r with a two-part ln2 (Cody & Waite), minimax polynomial on r."""
    lo, hi = _exp_range(v)
    return _exp_clamped(v, _max(v, _min(v, x, hi), lo))


def _expm1_parts(v: Any, x: Value) -> tuple[Value, Value]:
    """Return (n's carrier t, exp(r) - 1)."""
    t, r = _exp_reduce(v, x)
    q = _poly(v, r, _EXPM1[v.f32])
    return t, v.fma(r * r, q, r)


def _expm1(v: Any, x: Value) -> Value:
    """expm1: x = n ln2 + r, then (2**n - 1 + 2**n r) + 2**n (exp(r) - 1 - r)."""
    lo, hi = (-18.0, 89.0) if v.f32 else (-38.0, 710.0)
    t, n, r1 = _exp_reduce_high(v, _max(v, _min(v, x, hi), lo))
    small = n * -_LN2_SPLIT[v.f32][1]
    r = r1 + small
    small = v.fma(r * r, _poly(v, r, _EXPM1[v.f32]), small)
    # 2**(n-1), doubled at the end: 2**n itself overflows before expm1 does.
    a = v.from_bits((v.bits(t) - (v.bias + 1)) << v.mant)
    y = v.fma(a, r1, a - 0.5) + a * small  # the first sum is exact where the result is small
    return v.select(v.abs(x) < 2.0 ** -(v.mant + 2), x, y + y)  # keeps -0.0 and subnormals


def _sigmoid(v: Any, x: Value) -> Value:
    """2**n / (2**n + exp(-r)), x = n ln2 + r: a single rounding before the division."""
    lo, hi = _exp_range(v)[0], 40.0
    t, r = _exp_reduce(v, _max(v, _min(v, x, hi), lo))
    p = v.fma(r * r, _poly(v, -r, _EXPM1[v.f32]), -r)  # exp(-r) - 1
    a, b = _two_powers(v, t)
    one = v.const(1.0)
    neg = x < -8.0  # 2**n + 1 is exact but for tiny 2**n, 2**n + p then nearly so
    return a / (v.fma(a, b, v.select(neg, p, one)) + v.select(neg, one, p)) * b


# ------------------------------------------------------------------------------------ logarithms

_SQRT_HALF = math.sqrt(0.5)


def _k_unit(v: Any) -> float:
    return 2.0**-23 if v.f32 else 1.0


def _log_split(v: Any, x: Value) -> tuple[Value, Value, Value]:
    """x = 2**k m, m in [sqrt(1/2), sqrt(2)): (k / unit, k << mant, m); normal x > 0.

    ``unit`` is `_k_unit`: constants that multiply k absorb it.
    """
    base = v.bits_of(np.float32(_SQRT_HALF) if v.f32 else _SQRT_HALF)
    i = v.bits(x) - base
    frac = i & ((1 << v.mant) - 1)
    k = i - frac
    m = v.from_bits(frac + base)
    if v.f32:
        kf = v.to_float(k)
    else:
        # 2**52 + (k + bias) assembled in the representation: i64 -> f64 is AVX-512 only
        u = (i + (v.bias << 52)) >> 52
        kf = v.from_bits(u | v.bits_of(2.0**52)) - (2.0**52 + v.bias)
    return kf, k, m


def _log_core(v: Any, f: Value) -> Value:
    """log(1 + f) - f for 1 + f in about [sqrt(1/2), sqrt(2)]."""
    if v.f32:
        z = f * f
        return v.fma(z * f, _poly(v, f, _LOG_F32), z * -0.5)
    s = f / (f + 2.0)  # Tang 1990 / fdlibm: odd series in s
    z = s * s
    h = f * f * 0.5
    return v.fma(s, v.fma(z, _poly(v, z, _LOG_F64), h), -h)


def _log_specials(v: Any, x: Value, y: Value) -> Value:
    y = v.select(x < _INF, y, x)
    return v.select(x > 0.0, y, v.select(x == 0.0, v.const(-_INF), v.const(_NAN)))


def _log_args(v: Any, x: Value) -> tuple[Value, Value]:
    """(k / unit, f): x = 2**k (1 + f), subnormal x included."""
    sub = x < v.tiny
    shift = 25.0 if v.f32 else 54.0
    k, _, m = _log_split(v, v.select(sub, x * 2.0**shift, x))
    return k - v.select(sub, v.const(shift / _k_unit(v)), v.const(0.0)), m - 1.0


def _log_sum(v: Any, k: Value, f: Value) -> Value:
    """log(1 + f) + k ln2."""
    hi, lo = (c * _k_unit(v) for c in _LN2_SPLIT[v.f32])
    return v.fma(k, hi, f + v.fma(k, lo, _log_core(v, f)))


def _log(v: Any, x: Value) -> Value:
    """log: exponent plus log(1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1] (Tang 1990, Cephes)."""
    k, f = _log_args(v, x)
    return _log_specials(v, x, _log_sum(v, k, f))


def _log2(v: Any, x: Value) -> Value:
    """log2: as log, the factor log2(e) split in two; exact at powers of two."""
    k, f = _log_args(v, x)
    hi, lo = _LOG2E_SPLIT[v.f32]
    y = v.fma(f, hi, v.fma(f, lo, _log_core(v, f) * hi))
    return _log_specials(v, x, v.fma(k, _k_unit(v), y))


def _log10(v: Any, x: Value) -> Value:
    """log10: as log, with split log10(e) and log10(2)."""
    k, f = _log_args(v, x)
    hi, lo = _LOG10E_SPLIT[v.f32]
    khi, klo = (c * _k_unit(v) for c in _LOG10_2_SPLIT[v.f32])
    y = v.fma(f, hi, v.fma(k, klo, v.fma(f, lo, _log_core(v, f) * hi)))
    return _log_specials(v, x, v.fma(k, khi, y))


def _log1p_args(v: Any, x: Value, lo: Value | None = None) -> tuple[Value, Value]:
    """(k / unit, f): 1 + x + lo = 2**k (1 + f), f correctly rounded or exact; x > -1."""
    u = x + 1.0
    b = u - 1.0
    err = (1.0 - (u - b)) + (x - b)  # two-sum: u + err = 1 + x
    if lo is not None:
        err = err + lo
    k, kbits, m = _log_split(v, u)
    scale = v.from_bits(v.iconst(v.bits_of(2.0)) - kbits)  # 2**(1-k): 2**-k may not exist
    return k, v.fma(err * 0.5, scale, m - 1.0)


def _log1p(v: Any, x: Value) -> Value:
    """log1p: log of the rounded 1 + x, its rounding error put back into the reduced argument."""
    k, f = _log1p_args(v, x)
    y = _log_sum(v, k, f)
    y = v.select(x < _INF, y, x)
    y = v.select(x > -1.0, y, v.select(x == -1.0, v.const(-_INF), v.const(_NAN)))
    return v.select(v.abs(x) < 2.0 ** -(v.mant + 2), x, y)  # keeps -0.0 and subnormals


def _softplus(v: Any, x: Value) -> Value:
    """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|))."""
    e = _exp_clamped(v, _max(v, -v.abs(x), _exp_range(v)[0]))
    big = e > math.sqrt(2.0) - 1.0  # then 1 + e = 2 (1 + (e - 1) / 2)
    f = v.select(big, v.fma(e, 0.5, -0.5), e)
    hi, lo = _LN2_SPLIT[v.f32]
    y = f + (_log_core(v, f) + v.select(big, v.const(lo), v.const(0.0)))
    y = y + v.select(big, v.const(hi), v.const(0.0))
    return v.select(x > 0.0, x, v.const(0.0)) + v.select(x == x, y, x)


def _sqrt(v: Any, x: Value) -> Value:
    """The correctly rounded hardware square root."""
    return v.sqrt(x)


def _rsqrt(v: Any, x: Value) -> Value:
    """1 / sqrt(x) by halving the exponent in the representation, then Halley's iterations: the
    divider of a processor would take twice as long for the square root and the division."""
    sub = x < v.tiny
    even = 24 if v.f32 else 54
    z = v.select(sub, x * 2.0**even, x)
    guess = 0x5F3759DF if v.f32 else 0x5FE6EB50C7B537A9
    y = v.from_bits(v.iconst(guess) - (v.bits(z) >> 1))
    for _ in range(2 if v.f32 else 3):
        rest = v.fma(-(z * y), y, 1.0)
        y = v.fma(y * rest, v.fma(rest, 0.375, 0.5), y)
    y = v.select(sub, y * 2.0 ** (even // 2), y)
    y = v.select(x < _INF, y, v.const(0.0))
    y = v.select(x > 0.0, y, v.const(_NAN))
    return v.select(x == 0.0, v.copysign(v.const(_INF), x), y)


# ------------------------------------------------------------------- more exponentials, hyperbolics

_SINH = {  # sinh(r) = r + r**3 p(r**2), |r| <= ln(2)/2
    True: (
        0.166666672, 0.00833317544, 0.000199740243,
    ),
    False: (
        0.16666666666666677, 0.008333333333321376, 0.0001984126988686589,
        2.7557243380589845e-06, 2.5109352039959312e-08,
    ),
}  # fmt: skip
_COSH = {  # cosh(r) = 1 + z/2 + z**2 p(z), z = r**2
    True: (
        0.0416666679, 0.00138885831, 2.50055728e-05,
    ),
    False: (
        0.041666666666666685, 0.0013888888888873264, 2.4801587349281772e-05,
        2.7557251718311264e-07, 2.0921810752250027e-09,
    ),
}  # fmt: skip
_TANH = {  # tanh(x) = x + x**3 p(x**2), |x| <= 0.551
    True: (
        -0.333333164, 0.133325443, -0.0538475476, 0.0210507065, -0.00624282053,
    ),
    False: (
        -0.33333333333332277, 0.13333333333163447, -0.05396825387350125,
        0.021869485912864334, -0.008863193662553103, 0.0035917127977579863,
        -0.0014531819339157715, 0.0005790311798149622, -0.00021012473626437112,
        5.089495065538082e-05,
    ),
}  # fmt: skip


def _exp2(v: Any, x: Value) -> Value:
    """exp2: the reduced argument x - n is exact; then exp's polynomial."""
    x = _max(v, _min(v, x, 129.0 if v.f32 else 1025.0), -151.0 if v.f32 else -1076.0)
    magic = v.magic + 2 * v.bias
    t = x + magic
    r = (x - (t - magic)) * float(_LN2)
    a, b = _two_powers(v, t)
    return _exp_poly(v, r) * a * b


def _tanh(v: Any, x: Value) -> Value:
    """1 - 2 / (exp(2x) + 1), and an odd polynomial where that would cancel."""
    ax = v.abs(x)
    z = ax * ax
    small = v.fma(ax * z, _poly(v, z, _TANH[v.f32]), ax)
    y = _min(v, ax, 10.0 if v.f32 else 20.0)
    t, p = _expm1_parts(v, y + y)
    a = v.from_bits((v.bits(t) - v.bias) << v.mant)
    big = 1.0 - 2.0 / v.fma(a, p, a + 1.0)
    return v.copysign(v.select(ax < 0.55, small, big), x)


def _hyperbolic(v: Any, ax: Value) -> tuple[Value, Value, Value, Value, Value]:
    """ax = n ln2 + r: (2**n - 2**-n) / 4, (2**n + 2**-n) / 4, r, sinh(r) - r, cosh(r) - 1."""
    # Beyond the clamp both overflow, but 2**(n-2) does not.
    t, r = _exp_reduce(v, _min(v, ax, 89.6 if v.f32 else 710.7))
    n = (v.bits(t) - 2 * v.bias) << v.mant
    up = v.from_bits(n + v.bits_of(0.25))
    down = v.from_bits(v.iconst(v.bits_of(0.25)) - n)
    down = v.select(ax > 40.0, v.const(0.0), down)  # negligible, and may not be representable
    z = r * r
    s = (r * z) * _poly(v, z, _SINH[v.f32])
    c = v.fma(z * z, _poly(v, z, _COSH[v.f32]), z * 0.5)
    return up - down, up + down, r, s, c


def _sinh(v: Any, x: Value) -> Value:
    """sinh(n ln2 + r) by the addition theorem: no division; large terms exact, added last."""
    ax = v.abs(x)
    a, b, r, s, c = _hyperbolic(v, ax)
    y = a + v.fma(b, r, v.fma(a, c, b * s))
    y = v.copysign(y + y, x)
    return v.select(ax < 2.0 ** -(v.mant // 2 + 2), x, y)


def _cosh(v: Any, x: Value) -> Value:
    """cosh(n ln2 + r) by the addition theorem."""
    a, b, r, s, c = _hyperbolic(v, v.abs(x))
    y = b + v.fma(a, r, v.fma(b, c, a * s))
    return y + y


def _via_f64(impl: Callable[..., Value]) -> Callable[..., Value]:
    """Compute float32 in float64, where twice the lanes would not make up for the extra care."""

    def wrapped(v: Any, *args: Value) -> Value:
        if not v.f32:
            return impl(v, *args)
        w = v.wide()
        return v.cast(impl(w, *(w.cast(a) for a in args)))

    return wrapped


def _two_sum(a: Value, b: Value) -> tuple[Value, Value]:
    """a + b exactly as a rounded sum and its error, |a| >= |b| (Dekker 1971)."""
    s = a + b
    return s, b - (s - a)


def _two_product(v: Any, a: Value, b: Value) -> tuple[Value, Value]:
    """a * b as a rounded product and its error (Dekker 1971), the halves cut by mask."""
    mask = -(1 << (12 if v.f32 else 27))
    ah = v.from_bits(v.bits(a) & mask)
    bh = v.from_bits(v.bits(b) & mask)
    al = a - ah
    bl = b - bh
    p = a * b
    # products of halves are exact, so fusing or not does not matter
    return p, v.fma(al, bl, v.fma(al, bh, v.fma(ah, bl, v.fma(ah, bh, -p))))


def _arcsinh(v: Any, x: Value) -> Value:
    """log1p(x + x**2 / (1 + sqrt(1 + x**2))), the argument in two pieces."""
    ax = v.abs(x)
    big = ax > 2.0**60  # then log(2x) = log(x) + ln2
    z = ax * ax
    t = v.select(big, v.const(0.0), z / (v.sqrt(z + 1.0) + 1.0))
    k, f = _log1p_args(v, *_two_sum(ax, t))
    k = k + v.select(big, v.const(1.0), v.const(0.0))
    y = v.select(ax < _INF, _log_sum(v, k, f), ax)
    return v.select(ax < 2.0**-28, x, v.copysign(y, x))


def _arccosh(v: Any, x: Value) -> Value:
    """log1p(t + sqrt(t (t + 2))), t = x - 1, the square root in two pieces."""
    big = x > 2.0**60  # then log(2x) = log(x) + ln2
    t = x - 1.0
    d = x + 1.0
    p, e = _two_product(v, t, d)
    q = v.sqrt(p)
    qq, qe = _two_product(v, q, q)
    rest = ((p - qq) - qe) + v.fma(t, 1.0 - (d - x), e)
    qlo = v.select(q > 0.0, rest * 0.5 / q, v.const(0.0))
    s = t + q
    lo = (t - (s - q)) + qlo  # q >= t
    s = v.select(big, x, s)
    k, f = _log1p_args(v, s, v.select(big, v.const(0.0), lo))
    k = k + v.select(big, v.const(1.0), v.const(0.0))
    y = v.select(x < _INF, _log_sum(v, k, f), x)
    return v.select(x >= 1.0, y, v.const(_NAN))


def _arctanh(v: Any, x: Value) -> Value:
    """log1p(2x / (1 - x)) / 2, the quotient in two pieces."""
    ax = v.abs(x)
    w = 1.0 - ax
    wlo = (1.0 - w) - ax
    inv = 1.0 / w
    x2 = ax + ax
    q = x2 * inv
    p, e = _two_product(v, q, w)
    lo = (((x2 - p) - e) - q * wlo) * inv
    k, f = _log1p_args(v, q, lo)
    y = _log_sum(v, k, f) * 0.5
    y = v.select(ax < 1.0, y, v.select(ax == 1.0, v.const(_INF), v.const(_NAN)))
    return v.select(ax < 2.0**-28, x, v.copysign(y, x))


# ------------------------------------------------------------------------------------ trigonometry

_PI = (
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803"
    "4825342117067982148086513282306647093844609550582231725359408128481117450284102701938521"
)
_PIO2 = "1.570796326794896619231321691639751442098584699687552910487472296153908203143"
_PIO2_CUT = _split(_PIO2, 33, 33)  # times n < 2**20 the first two products are exact
_PIO2_HL = {True: _split(_PIO2, 24), False: _split(_PIO2, 53)}
_PI_HL = {True: _split(_PI[:80], 24), False: _split(_PI[:80], 53)}
_TRIG_LIMIT = 2.0**20  # beyond it, Payne & Hanek
_PIO2_CUT_F32 = _split(_PIO2, 11, 11, 11, 11)  # times n < 2**13 all products but the last are exact
_TRIG_LIMIT_F32 = 12000.0  # beyond it, the way of float64

# sin(r) = r + r**3 p(z), cos(r) = 1 - z/2 + z**2 p(z), z = r**2, |r| <= pi/4
_SIN = {
    True: (
        -0.16666654536837025, 0.00833215606106939, -0.00019514632446728493,
    ),
    False: (
        -0.1666666666666663, 0.00833333333332184, -0.0001984126982935855,
        2.7557313538492944e-06, -2.5050734375489803e-08, 1.5895431576369132e-10,
    ),
}  # fmt: skip
_COS = {
    True: (
        0.04166665476237127, -0.0013887659535880138, 2.446431814468839e-05,
    ),
    False: (
        0.041666666666666595, -0.0013888888888867836, 2.480158728344031e-05,
        -2.75573122127231e-07, 2.087539691160081e-09, -1.1341514723058446e-11,
    ),
}  # fmt: skip
_ASIN = {  # asin(x) = x + x**3 p(x**2), |x| <= 1/2
    True: (
        0.166667521, 0.0749530941, 0.0454691648, 0.0241846554, 0.042158559,
    ),
    False: (
        0.16666666666665408, 0.07500000000337126, 0.044642856828301436,
        0.030381959133993178, 0.022371758242348206, 0.017359699945575204,
        0.013885300375853622, 0.012168692796646645, 0.006530517255078137,
        0.019520754688480083, -0.016211944187911533, 0.03190366293705049,
    ),
}  # fmt: skip
_ATAN = {  # atan(x) = x + x**3 p(x**2), |x| <= 1
    True: (
        -0.333331525, 0.199937671, -0.142110109, 0.106658392, -0.0755187497, 0.0432079136,
        -0.0163654946, 0.00292007555,
    ),
    False: (
        -0.3333333333333186, 0.19999999999755258, -0.14285714271349575, 0.11111110679371523,
        -0.09090901252712459, 0.07692213229694025, -0.06665863644596215,
        0.05877331734297201, -0.05239354613814443, 0.04674392729511508,
        -0.04093823730092044, 0.034091411046420994, -0.025861927221662518,
        0.01701698935743179, -0.009216274799087293, 0.0038743887780543374,
        -0.0011712889459554719, 0.00022473400491695755, -2.0444089999692092e-05,
    ),
}  # fmt: skip


def _kernel(v: Any, r: Value, lo: Value | None, f32: bool) -> tuple[Value, Value, Value, Value]:
    """sin and cos of r + lo, |r| <= pi/4, as the last sum's two terms: large, small."""
    z = r * r
    s = (r * z) * _poly(v, z, _SIN[f32])
    if lo is None:
        return r, s, v.const(1.0), z * v.fma(z, _poly(v, z, _COS[f32]), -0.5)
    h = z * 0.5
    c = 1.0 - h
    s = s + lo
    tail = ((1.0 - c) - h) - r * lo
    return r, s, c, v.fma(z * z, _poly(v, z, _COS[f32]), tail)


def _place(
    v: Any, kind: str, q: Value, parts: tuple[Value, Value, Value, Value], x: Value
) -> Value:
    """Put quadrant q (low two bits) and the sign of x to the sine and cosine of the rest."""
    s1, s2, c1, c2 = parts
    s, c = s1 + s2, c1 + c2
    if kind == "cos":
        q = q + 1
    odd = (q & 1) != 0
    sign = (q & 2) << (v.width - 2)
    if kind != "tan":
        y = v.select(odd, c, s)
    else:
        sign = q << (v.width - 1)
        num, den = v.select(odd, c, s), v.select(odd, s, c)
        inv = 1.0 / den
        y = num * inv
        # one correction step, the rounding errors of sine and cosine included
        p, e = _two_product(v, y, den)
        slo, clo = s2 - (s - s1), c2 - (c - c1)
        rest = ((num - p) - e) + (v.select(odd, clo, slo) - y * v.select(odd, slo, clo))
        y = v.fma(rest, inv, y)
    if kind != "cos":
        sign = sign ^ (v.bits(x) & -v.sign)
    return v.from_bits(v.bits(y) ^ sign)


def _trig_huge(v: Any, x: Value, kind: str) -> Value:
    """Payne & Hanek 1983: x times the 192 bits of 2/pi that matter, modulo 4, in integers."""
    bits = v.bits(x)
    start = ((bits >> 52) & 0x7FF) - (1075 - 62)  # where those bits start in the table
    m = (bits & ((1 << 52) - 1)) | (1 << 52)
    word = start >> 6
    s = start & 63
    t = [v.table(_TWO_OVER_PI, word + i) for i in range(4)]
    w = [(t[i] << s) | ((t[i + 1] >> 1) >> (63 - s)) for i in range(3)]
    mid = m * w[1]
    low = v.umulh(m, w[2])
    mid2 = mid + low
    carry = v.select(v.ult(mid2, mid), v.iconst(1), v.iconst(0))
    top = m * w[0] + v.umulh(m, w[1]) + carry
    # top:mid2 is the fraction in units of 2**-126 quadrants; round to the nearest quadrant
    q = (top + (1 << 61)) >> 62
    f = top - (q << 62)
    neg = f < 0
    f = v.select(neg, ~f + v.select(mid2 == 0, v.iconst(1), v.iconst(0)), f)
    g = v.select(neg, -mid2, mid2)
    a = v.to_float(f >> 20) * 2.0**20
    b = v.to_float(f & 0xFFFFF) + v.to_float(g >> 11) * 2.0**-53
    hi, lo = _two_sum(a, b)
    big = hi == 0.0
    hi, lo = v.select(big, b, hi), v.select(big, v.const(0.0), lo)
    chi, clo = _PIO2_HL[False]
    p, e = _two_product(v, hi, v.const(chi))
    p, e = _two_sum(p, v.fma(lo, chi, v.fma(hi, clo, e)))
    flip = v.select(neg, v.const(-(2.0**-62)), v.const(2.0**-62))
    return _place(v, kind, q, _kernel(v, p * flip, e * flip, False), x)


#: 64 zero bits, then 2/pi, in 64-bit words.
def _two_over_pi(words: int) -> tuple[int, ...]:
    # pi by Machin's formula in integers: no dependency, done once at import
    n = 64 * words
    one = 1 << (n + 32)

    def arctan_inverse(k: int) -> int:
        term = total = one // k
        i, sign = 3, -1
        while term:
            term //= k * k
            total += sign * (term // i)
            i, sign = i + 2, -sign
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    bits = (2 << (n - 64)) * one // pi
    return tuple((bits >> (64 * (words - 1 - i))) & ((1 << 64) - 1) for i in range(words))


_TWO_OVER_PI = _two_over_pi(22)


def _trig(kind: str) -> Callable[..., Value]:
    def double(v: Any, x: Value) -> Value:
        ax = v.abs(x)
        t = v.fma(ax, 2.0 / math.pi, v.magic)
        n = t - v.magic
        c1, c2, c3 = _PIO2_CUT  # the first two products are exact
        r1 = v.fma(n, -c1, ax)
        u = n * c2
        r2 = r1 - u
        r, lo = _two_sum(r2, v.fma(n, -c3, (r1 - r2) - u))
        y = _place(v, kind, v.bits(t), _kernel(v, r, lo, False), x)
        return v.rare(kind, lambda o, a: _trig_huge(o, a, kind), _TRIG_LIMIT, x, y)

    def far(v: Any, x: Value) -> Value:
        w = v.wide()
        return v.cast(double(w, w.cast(x)))

    def single(v: Any, x: Value) -> Value:
        ax = v.abs(x)
        t = v.fma(ax, 2.0 / math.pi, v.magic)
        n = t - v.magic
        c1, c2, c3, c4, c5 = _PIO2_CUT_F32
        r2 = v.fma(n, -c2, v.fma(n, -c1, ax))  # exact
        r3 = v.fma(n, -c3, r2)
        lo = v.fma(n, -c5, v.fma(n, -c4, v.fma(n, -c3, r2 - r3)))
        r, rest = _two_sum(r3, lo)
        if kind == "tan":
            parts = _kernel(v, r, rest, True)
        else:
            parts = _kernel(v, r, None, True)
            parts = r3, lo + parts[1], *parts[2:]
        y = _place(v, kind, v.bits(t), parts, x)
        return v.rare(kind, far, _TRIG_LIMIT_F32, x, y)

    def impl(v: Any, x: Value) -> Value:
        return (single if v.f32 else double)(v, x)

    impl.__doc__ = (
        f"{kind}: Cody & Waite reduction below 2**20 (float32: 12000, float64 beyond), "
        "Payne & Hanek above; minimax polynomials."
    )
    return impl


def _asin_parts(v: Any, ax: Value) -> tuple[Value, Value, Value]:
    """(ax > 1/2, a, b): asin(a + b) parts with a = ax or sqrt((1 - ax) / 2), b = asin(a) - a."""
    big = ax > 0.5
    z = v.select(big, (1.0 - ax) * 0.5, ax * ax)
    a = v.select(big, v.sqrt(z), ax)
    return big, a, a * z * _poly(v, z, _ASIN[v.f32])


def _arcsin(v: Any, x: Value) -> Value:
    """asin: minimax polynomial below 1/2, pi/2 - 2 asin(sqrt((1 - x) / 2)) above."""
    ax = v.abs(x)
    big, a, b = _asin_parts(v, ax)
    hi, lo = _PIO2_HL[v.f32]
    y = v.select(big, hi - ((a + a) + ((b + b) - lo)), a + b)
    return v.copysign(y, x)


def _arccos(v: Any, x: Value) -> Value:
    """acos: from asin's parts; 2 asin(sqrt((1 - x) / 2)) above 1/2."""
    ax = v.abs(x)
    big, a, b = _asin_parts(v, ax)
    neg = x < 0.0
    hi, lo = _PIO2_HL[v.f32]
    phi, plo = _PI_HL[v.f32]
    a = v.select(neg, -a, a)
    b = v.select(neg, -b, b)
    small = hi - (a + (b - lo))
    far = v.select(neg, v.const(phi), v.const(0.0)) + (
        (a + a) + ((b + b) + v.select(neg, v.const(plo), v.const(0.0)))
    )
    return v.select(big, far, small)


def _atan_poly(v: Any, z: Value) -> Value:
    """Of alternating series near z = 1, even and odd terms would cancel: cut it in the middle."""
    coefs = _ATAN[v.f32]
    if v.f32:
        return _poly(v, z, coefs)
    z2 = z * z
    z4 = z2 * z2
    return v.fma(z4 * z4, _poly(v, z, coefs[8:]), _poly(v, z, coefs[:8]))


def _arctan(v: Any, x: Value) -> Value:
    """atan: minimax polynomial on [0, 1], pi/2 - atan(1/x) beyond."""
    ax = v.abs(x)
    inv = ax > 1.0
    t = v.select(inv, v.const(-1.0), ax) / v.select(inv, ax, v.const(1.0))
    z = t * t
    hi, lo = _PIO2_HL[v.f32]
    b = v.fma(t * z, _atan_poly(v, z), v.select(inv, v.const(lo), v.const(0.0)))
    y = v.select(inv, v.const(hi), v.const(0.0)) + (t + b)
    return v.copysign(y, x)


def _arctan2(v: Any, y: Value, x: Value) -> Value:
    """atan2: atan of the smaller over the larger magnitude, moved to the right octant."""
    ax = v.abs(x)
    ay = v.abs(y)
    swap = ay > ax
    num = v.select(swap, ax, ay)
    den = v.select(swap, ay, ax)
    t = num / den
    t = v.select(num == den, v.const(1.0), t)  # inf / inf
    t = v.select(den == 0.0, v.const(0.0), t)
    left = v.bits(x) < 0
    flip = swap ^ left
    z = t * t
    hi, lo = _PIO2_HL[v.f32]
    phi, plo = _PI_HL[v.f32]
    b = t * z * _atan_poly(v, z)
    t = v.select(flip, -t, t)
    b = v.select(flip, -b, b)
    zero = v.const(0.0)
    off = v.select(swap, v.const(hi), v.select(left, v.const(phi), zero))
    olo = v.select(swap, v.const(lo), v.select(left, v.const(plo), zero))
    out = v.copysign(off + (t + (b + olo)), y)
    return v.select((x == x) & (y == y), out, v.const(_NAN))


# --------------------------------------------------------------------------------- error function

_ERF = {  # erf(x) = x + x p(x**2), |x| <= 1
    True: (
        0.128379166, -0.37612626, 0.112835906, -0.026854476, 0.0051903883, -0.000803403789,
        7.94726147e-05,
    ),
    False: (
        0.12837916709551256, -0.37612638903183343, 0.11283791670937701,
        -0.02686617064224069, 0.005223977600409538, -0.0008548325721512474,
        0.00012055289148765248, -1.4924657454302816e-05, 1.6446777481818521e-06,
        -1.620571806639967e-07, 1.3716192059780687e-08, -7.801518144527432e-10,
    ),
}  # fmt: skip
_ERFQ = (  # log(erfc(1 + u)), 0 <= u <= 2.93
    -1.84960556, -2.63896179, -0.843203008, -0.041014187, 0.00867803488,
    -0.000411734829, -0.000558838132, 0.0001397343,
)  # fmt: skip
_ERF_ROOT_AT = 0.962890625  # where the first coefficient is nearly exact
_ERF_ROOT = (  # fourth root of erfc(_ERF_ROOT_AT + u), error relative to erf, up to 5.93
    0.6451912497532862, -0.4155946077225272, -0.001380592747403587, 0.05142022119872053,
    -0.0031005727332860345, -0.005095017195517292, 0.000697087256340496, 0.0003174119254500502,
    -7.000481373760566e-05, -1.082778329169661e-05, 3.5061195383158795e-06, 3.2510476685085253e-07,
    -1.3516000173739579e-07, -8.456156286997351e-09, 9.911256797713084e-10, 2.8434987428944333e-09,
    -1.0622471140971288e-09, 1.845792540141484e-10, -1.8130635064293826e-11, 9.796503608836422e-13,
    -2.2806265576444405e-14,
)  # fmt: skip
# log(erfc(x) exp(x**2) (x + k)) in t = scale / (x + k) - shift, x >= 0: (k, scale, shift)
_ERFC = (2.5, 4.0, {True: 0.9375, False: 0.875})
_ERFC_POLY = {
    True: (
        0.18783410051752977, 1.0114886738645081, 0.19645177435049238, -0.06720089394001628,
        -0.05670679398042228, 0.010073850343946285, 0.019439197527743944, -0.002335411545022132,
        -0.006898840345739512, 0.000610153642610773, 0.0017405519274776358,
    ),
    False: (
        0.12539897764362617, 0.9862006850697197, 0.2077032878433058, -0.052724384557882774,
        -0.0587171369256491, 0.002658569723768279, 0.019835800045731707, 0.001307791846111129,
        -0.00755542703808333, -0.0008447345674077315, 0.003083094545131443,
        0.0003133596569669633, -0.0012885870905405743, -6.357546494714228e-05,
        0.000528836239358467, -1.4511805296981533e-05, -0.00020503510431376198,
        2.2519104576317274e-05, 7.246702744739612e-05, -1.2670233725752007e-05,
        -2.235603905386086e-05, 4.269436843063444e-06, 5.468958321242217e-06,
        -7.130691806083616e-07, -7.890566366645523e-07,
    ),
}  # fmt: skip
# the same for Phi(-x) = erfc(x / sqrt(2)) / 2 with exp(x**2 / 2)
_PHI = (4.0, 8.0, {True: 1.09375, False: 1.09375})
_PHI_POLY = {
    True: (
        -0.20354140777481697, 0.84037040488502, 0.1896931800618236, -0.001203050145026953,
        -0.027003296282323765, -0.0075419313303027105, 0.0038831623104654683,
        0.0026381555743003994, -0.00046696022548651345, -0.000688492857514816,
        4.1774211811698826e-05, 0.00010300603668994372,
    ),
    False: (
        -0.2035414069578229, 0.8403703942022076, 0.1896930795718656, -0.001202597717666364,
        -0.02700135068132357, -0.007547590205471351, 0.0038698276334981096,
        0.002669029655992153, -0.0004273403922890531, -0.0007701418695046348,
        -1.0173819706222544e-05, 0.00020457543424464518, 2.8994532316733076e-05,
        -5.105954579827833e-05, -1.3114696145147885e-05, 1.1886648256554152e-05,
        4.492913751411002e-06, -2.5064020760488227e-06, -1.3310188417259956e-06,
        4.49244062280684e-07, 3.4053960826901577e-07, -6.003532732787076e-08,
        -6.720123958436454e-08, 4.358279733215519e-09, 7.3725134245808106e-09,
    ),
}  # fmt: skip


def _erf(v: Any, x: Value) -> Value:
    """erf: odd polynomial below 1, then 1 - erfc: exp of a polynomial in float32, the fourth power
    of one in float64, which saves the exp."""
    ax = v.abs(x)
    z = ax * ax
    small = v.fma(ax, _poly(v, z, _ERF[v.f32]), ax)
    if v.f32:
        t, r = _exp_reduce(v, _poly(v, _min(v, ax, 3.93) - 1.0, _ERFQ))
        a = v.from_bits((v.bits(t) - v.bias) << v.mant)
        big = 1.0 - _exp_poly(v, r) * a
    else:
        root = _poly(v, _min(v, ax, 5.93) - _ERF_ROOT_AT, _ERF_ROOT)
        square = root * root
        big = v.fma(-square, square, 1.0)
    return v.copysign(v.select(ax < 1.0, small, big), x)


def _tail_end(v: Any, half: bool) -> float:
    """Where erfc(x), or x Phi(-x), has become 0."""
    if v.f32:
        return 14.5 if half else 10.1
    return 38.7 if half else 27.3


def _tail(v: Any, ax: Value, half: bool) -> tuple[Value, Value, Value, Value]:
    """(p, a, b, inv): erfc(ax), or with ``half`` Phi(-ax), is (1 + p) a b inv.

    Shepherd & Laframboise 1981 with the smooth factor moved into the exponent, where its rounding
    errors are absolute.
    """
    k, scale, shift = _PHI if half else _ERFC
    ax = _min(v, ax, _tail_end(v, half))
    d = ax + k
    inv = 1.0 / d
    t = inv * scale - shift[v.f32]  # exact but for tiny t: powers of two and a short constant
    xh = v.from_bits(v.bits(ax) & -(1 << (12 if v.f32 else 27)))
    sq = xh * xh  # exact
    small = -(ax - xh) * (ax + xh)
    if half:
        sq, small = sq * 0.5, small * 0.5
    c0, c1, *coefs = (_PHI_POLY if half else _ERFC_POLY)[v.f32]
    chi = round(c0 * 1024.0) / 1024.0
    small = small + (c0 - chi)
    # The rounding errors of d and inv amount to a shift of x by rho * d; g / d is roughly the
    # logarithmic derivative of erfc(x) exp(x**2).
    p, e = _two_product(v, d, inv)
    u = d - k
    rho = ((1.0 - p) - e) - ((ax - u) + (k - (d - u))) * inv
    g = v.fma(v.fma(inv, 29.0, 1.5) if half else v.fma(inv, 8.0, 1.2), inv, 1.0)
    small = v.fma(rho, g, small)
    h = v.fma(_poly(v, t, [c1 - 1.0, *coefs]), t, small)  # c1 is about 1, and t exact
    magic = v.magic + 2 * v.bias
    m = v.fma((h - sq) + (t + chi), float(_LOG2E), magic)
    n = m - magic
    hi, lo = _LN2_SPLIT[v.f32]
    # the large terms are exact, their sum is small
    r = ((v.fma(n, -hi, -sq) + chi) + t) + v.fma(n, -lo, h)
    p = v.fma(r * r, _poly(v, r, _EXPM1[v.f32]), r)
    a, b = _two_powers(v, m)
    return p, a, b, inv


# exp(r) = 1 + r + r**2 q(r) to float32 accuracy with float64 coefficients
_EXP_LOW = (
    0.4999999338400981, 0.16666519516817035, 0.04166839824305653, 0.00836885191075075,
    0.001381448333441899,
)  # fmt: skip


def _erfc(v: Any, x: Value) -> Value:
    """erfc(|x|) = exp(-x**2 + h(x)) / (|x| + k), x**2 exact in two pieces; 2 - that for x < 0."""
    p, a, b, inv = _tail(v, v.abs(x), False)
    y = v.fma(inv, p, inv) * a * b
    return v.select(x < 0.0, 2.0 - y, y)


def _gelu(v: Any, x: Value) -> Value:
    """x Phi(x): |x| Phi(-|x|) to full relative accuracy as in erfc, then max(x, 0) minus that."""
    ax = v.abs(x)
    p, a, b, inv = _tail(v, ax, True)
    c, e = _two_product(v, _min(v, ax, _tail_end(v, True)), inv)
    y = (c + v.fma(c, p, e)) * a * b
    y = v.select(x > 0.0, x, v.const(-0.0)) - y
    y = v.select(x > -_INF, y, v.const(_NAN))  # -inf * 0, as in the defining formula
    return v.select(ax < 2.0 ** -(v.mant + 4), x * 0.5, y)


# -------------------------------------------------------------------------------- cube root, power


def _cbrt(v: Any, x: Value) -> Value:
    """x**(-1/3) from an exponent-thirding bit trick and Householder steps, then x y**2."""
    ax = v.abs(x)
    sub = ax < v.tiny * 8.0
    ax = v.select(sub, ax * 2.0 ** (24 if v.f32 else 54), ax)
    # -bits / 3 in floating point on the leading bits: 64-bit integers divide on no vector unit
    drop = 10 if v.f32 else 32
    two = 2.0**v.mant
    top = v.from_bits((v.bits(ax) >> drop) | v.bits_of(two)) - two
    start = 4.0 / 3.0 * (v.bits_of(1.0) >> drop) - 0.0515 * (1 << (v.mant - drop)) / 3.0 * 2.0
    g = v.fma(top, -1.0 / 3.0, round(start)) + v.magic
    y = v.from_bits((v.bits(g) - v.bits_of(v.magic)) << drop)
    for _ in range(2):
        h = v.fma(-(ax * y) * y, y, 1.0)
        y = v.fma(y * h, v.fma(v.fma(h, 14.0 / 81.0, 2.0 / 9.0), h, 1.0 / 3.0), y)
    y2 = y * y
    c = ax * y2
    half = c * 0.5  # c**3 may overflow
    c = c - (half * half * half - ax * 0.125) * y2 * (8.0 / 3.0)
    c = c * v.select(sub, v.const(2.0 ** (-8 if v.f32 else -18)), v.const(1.0))
    return v.select((ax > 0.0) & (ax < _INF), v.copysign(c, x), x)


# 2/3 + z r(z) = p(z) of _LOG_F64 to 2**-70, and a shorter one for float32
_LOG_DD = (
    0.3999999999999998, 0.2857142857145182, 0.22222222214694695, 0.18181819311110584,
    0.15384522877905216, 0.13337716944228542, 0.11645360505574305, 0.12238366634284863,
)  # fmt: skip
_LOG_LOW = (
    0.6666666564133433, 0.4000033622150188, 0.2853723780500779, 0.23583582698980055,
)  # fmt: skip


def _pow_log2_f32(v: Any, k: Value, f: Value) -> Value:
    s = f / (f + 2.0)
    z = s * s
    y = v.fma(s * z, _poly(v, z, _LOG_LOW), s + s)
    return v.fma(y, float(_LOG2E), k)


def _pow_log2_f64(v: Any, k: Value, f: Value) -> tuple[Value, Value]:
    """log2 in double-double, to about 2**-65: s = f / (2 + f), 2s + s z (2/3 + z r(z))."""
    d = f + 2.0
    dlo = f - (d - 2.0)
    inv = 1.0 / d
    s = f * inv
    p, e = _two_product(v, s, d)
    slo = (((f - p) - e) - s * dlo) * inv
    z, zlo = _two_product(v, s, s)
    zlo = v.fma(s + s, slo, zlo)
    third = 2.0 / 3.0
    q, qlo = _two_sum(v.const(third), z * _poly(v, z, _LOG_DD))
    qlo = qlo + 3.700743415417188e-17  # 2/3 - fl(2/3)
    w, wlo = _two_product(v, z, q)
    wlo = wlo + v.fma(z, qlo, zlo * q)
    g, glo = _two_sum(v.const(2.0), w)
    glo = glo + wlo
    y, ylo = _two_product(v, s, g)
    ylo = ylo + v.fma(s, glo, slo * g)
    chi, clo = _LOG2E_SPLIT[False]
    u, ulo = _two_product(v, y, v.const(chi))
    ulo = ulo + v.fma(y, clo, ylo * chi)
    hi = k + u
    return _two_sum(hi, (u - (hi - k)) + ulo)


def _is_integer(a: Value) -> Value:
    """Whether a >= 0 (float64) is an integer; llvm.rint is a libm call on baseline x86-64."""
    return (a >= 2.0**52) | ((a + 2.0**52) - 2.0**52 == a)


def _pow(v: Any, x: Value, y: Value) -> Value:
    """exp2(y log2|x|), the logarithm in double-double for float64, then C99's special cases."""
    w = v.wide() if v.f32 else v
    xw, yw = (w.cast(x), w.cast(y)) if v.f32 else (x, y)
    ax = w.abs(xw)
    k, f = _log_args(w, ax)
    y1 = _max(w, _min(w, yw, 2.0**65), -(2.0**65))  # large enough to decide, small enough to use
    bound = (-160.0, 140.0) if v.f32 else (-1080.0, 1030.0)
    magic = w.magic + 2 * w.bias
    if v.f32:
        e = y1 * _pow_log2_f32(w, k, f)
        e = _max(w, _min(w, e, bound[1]), bound[0])
        t = e + magic
        r = e - (t - magic)
    else:
        lh, ll = _pow_log2_f64(w, k, f)
        e, elo = _two_product(w, y1, lh)
        elo = w.fma(y1, ll, elo)
        out = (e > bound[1]) | (e < bound[0])
        e = _max(w, _min(w, e, bound[1]), bound[0])
        t = e + magic
        r = (e - (t - magic)) + w.select(out, w.const(0.0), elo)
    r = r * float(_LN2)
    a, b = _two_powers(w, t)
    z = w.fma(r * r, _poly(w, r, _EXP_LOW if v.f32 else _EXP[False]), r) + 1.0
    z = z * a * b
    # 0 and inf: 0 or inf by the sign of y; the sign of an odd power
    down = yw < 0.0
    z = w.select(ax == 0.0, w.select(down, w.const(_INF), w.const(0.0)), z)
    z = w.select(ax == _INF, w.select(down, w.const(0.0), w.const(_INF)), z)
    ay = w.abs(yw)
    whole = _is_integer(ay)
    odd = whole & ~_is_integer(ay * 0.5)
    neg = w.bits(xw) < 0
    z = w.select(neg & odd, -z, z)
    z = w.select((xw < 0.0) & ~whole & (ax < _INF), w.const(_NAN), z)
    z = w.select((xw == xw) & (yw == yw), z, w.const(_NAN))
    z = w.select((xw == 1.0) | (yw == 0.0), w.const(1.0), z)
    return v.cast(z) if v.f32 else z


# ------------------------------------------------------------- gamma, its logarithm's derivatives

#: lgamma(2 + y) / y on [-1/2, 1/2].
_LGAMMA = (
    0.42278433509846713, 0.3224670334241132, -0.06735230105319814, 0.02058080842778457,
    -0.0073855510286681535, 0.002890510330738737, -0.0011927539120010226, 0.0005096695248853096,
    -0.00022315475074520367, 9.945750909889392e-05, -4.4926351103833334e-05,
    2.050726741605779e-05, -9.438458716242811e-06, 4.374374916915131e-06,
    -2.0449201467015115e-06, 9.578663334114758e-07, -4.303558760359961e-07,
    2.0304806751615227e-07, -1.3412819758517287e-07, 6.379047507619774e-08,
)  # fmt: skip
#: Stirling's series in 1 / x**2.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_STEPS = 7  # unit steps between the polynomial and the asymptotic series


def _lowered(v: Any, x: Value, low: float) -> tuple[Value, list[tuple[Value, Value]]]:
    """``x`` moved into [low, low + 1) by unit steps down, and each step: (was taken, its place).
    Every subtraction is exact."""
    steps, moved = [], x
    for k in range(1, _STEPS + 1):
        taken = x >= low + k
        place = x - float(k)
        moved = v.select(taken, place, moved)
        steps.append((taken, place))
    return moved, steps


def _gammaln(v: Any, x: Value) -> Value:
    """log Gamma of x > 0: a polynomial around 2, reached by unit steps; Stirling's series above."""
    moved, steps = _lowered(v, x, 1.5)
    product = v.const(1.0)
    for taken, place in steps:
        product = product * v.select(taken, place, v.const(1.0))
    tiny, low = x < 0.5, x < 1.5
    y = v.select(tiny, x, v.select(low, x - 1.0, moved - 2.0))
    near = y * _poly(v, y, _LGAMMA)
    # Below 3/2: log Gamma(1 + y) = log Gamma(2 + y) - log(1 + y), and once more below 1/2.
    big = x >= 8.5
    log = _log(v, v.select(big | tiny, x, product))
    down = v.select(low, _log1p(v, y), v.const(0.0))
    small = v.select(tiny, (near - down) - log, v.select(low, near - down, near + log))
    inv = 1.0 / x
    tail = inv * _poly(v, inv * inv, _STIRLING)
    large = v.fma(x - 0.5, log - 1.0, 0.4189385332046727418) + tail
    y = v.select(big, large, small)
    y = v.select(x == 0.0, v.const(_INF), y)
    y = v.select(x < _INF, y, x)
    return v.select(x < 0.0, v.const(_NAN), y)


_PSI_ROOT = (1.4616321449683622, 9.5499954299656977e-17)
#: digamma(x) / (x - root) on [1, 2], in x - 3/2.
_PSI = (
    0.9510558760318328, -0.4236274212814606, 0.24054248424078697, -0.14840492305388092,
    0.09498872445289039, -0.06192213327548831, 0.040760833940846085, -0.026975796659787055,
    0.017907248317313294, -0.011908220105959716, 0.007927021796868154, -0.005279937255532708,
    0.003518106563802472, -0.0023454947397380833, 0.0015633696313653504,
    -0.0010364584817312839, 0.0006909255761282986, -0.00048595039220036254,
    0.00032395945401345196, -0.00014480643368061614, 9.653646261410062e-05,
    -0.0001782188548855923, 0.00011881232908510335,
)  # fmt: skip
_PSI_TAIL = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def _digamma(v: Any, x: Value) -> Value:
    """Derivative of log Gamma for x > 0: a polynomial around its root, reached by unit steps; the
    asymptotic series above."""
    moved, steps = _lowered(v, x, 1.0)
    total = v.const(0.0)
    for taken, place in steps:
        total = total + v.select(taken, 1.0 / place, v.const(0.0))
    below = x < 1.0
    at = v.select(below, x + 1.0, moved)
    near = ((at - _PSI_ROOT[0]) - _PSI_ROOT[1]) * _poly(v, at - 1.5, _PSI)
    inv = 1.0 / x
    small = near + v.select(below, -inv, total)
    tail = inv * inv * _poly(v, inv * inv, _PSI_TAIL)
    large = (_log(v, x) - 0.5 * inv) - tail
    y = v.select(x >= 8.0, large, small)
    y = v.select(x < _INF, y, x)
    return v.select(x < 0.0, v.const(_NAN), y)


#: Coefficients of the Euler-Maclaurin sum: B_2j / (2j)!.
_EULER = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
    1 / 74724249600, -3617 / 10670622842880000, 43867 / 5109094217170944000,
    -174611 / 802857662698291200000,
)  # fmt: skip
_ZETA_TERMS = 10


def _zeta(v: Any, s: Value, q: Value) -> Value:
    """Hurwitz zeta for s > 1, q > 0: ten terms, then the Euler-Maclaurin sum of the rest."""
    total = v.const(0.0)
    for k in range(_ZETA_TERMS):
        total = total + _pow(v, q + float(k), -s)
    a = q + float(_ZETA_TERMS)
    inv = 1.0 / a
    last = _pow(v, a, -s)
    rest = v.fma(last, 0.5, last * a / (s - 1.0))
    factor = s * last * inv
    for j, coefficient in enumerate(_EULER):
        rest = v.fma(factor, coefficient, rest)
        factor = factor * inv * inv * (s + (2.0 * j + 1.0)) * (s + (2.0 * j + 2.0))
    y = total + rest
    y = v.select((q == 0.0) | (s == 1.0), v.const(_INF), y)
    y = v.select(s < _INF, y, v.select(q > 1.0, v.const(0.0), v.const(_INF)))
    y = v.select((s == _INF) & (q == 1.0), v.const(1.0), y)
    y = v.select(q < _INF, y, v.select(q == q, v.const(0.0), q))
    return v.select((q < 0.0) | (s < 1.0) | (s != s), v.const(_NAN), y)


# ------------------------------------------------------------------------ inverse error function

#: erfinv(x) / x in x**2 on [0, 1/4].
_ERFINV = (
    0.886226925452758, 0.23201366653465413, 0.1275561753057025, 0.08655212922928228,
    0.06495961849686033, 0.05173125434128652, 0.042837381929296245, 0.03645513184554066,
    0.03181283844468519, 0.026969129751201436, 0.030910158235606017, -0.0014607021070302691,
    0.08722866446698135, -0.09642274527103643, 0.12003690619362008,
)  # fmt: skip


def _erfcinv_tail(v: Any, t: Value) -> Value:
    """The y > 0 with erfc(y) = t for t <= 1/2: Winitzki's approximation, then Newton's iteration
    on log erfc, which is nearly a parabola."""
    log = _log(v, t * (2.0 - t))
    b = v.fma(log, 0.5, 4.330746750799873)  # 2 / (pi a) with a = 0.147
    y = v.sqrt(v.sqrt(v.fma(b, b, log * -6.802721088435375)) - b)
    for _ in range(3):
        c = _erfc(v, y)
        # erfc(y) / erfc'(y) by exp(y**2), y**2 exact in two pieces
        high = v.from_bits(v.bits(y) & -(1 << 27))
        square = high * high
        half = _exp(v, square * 0.5)
        ratio = c * half * half * v.fma(y - high, y + high, 1.0)
        step = v.fma(_log(v, c / t), ratio * 0.8862269254527580, y)
        y = v.select(c > 0.0, step, y)  # erfc(y) underflows beyond 27.2
    return y


def _erfinv(v: Any, x: Value) -> Value:
    """Polynomial up to 1/2, the root of erfc beyond."""
    ax = v.abs(x)
    near = ax * _poly(v, ax * ax, _ERFINV)
    tail = _erfcinv_tail(v, v.select(ax > 0.5, 1.0 - ax, v.const(0.5)))
    y = v.select(ax > 0.5, tail, near)
    y = v.select(ax == 1.0, v.const(_INF), y)
    return v.select(ax <= 1.0, v.copysign(y, x), v.const(_NAN))


def _erfcinv(v: Any, t: Value) -> Value:
    """Polynomial around 1, the root of erfc beyond; exact arguments in both tails."""
    x = 1.0 - t
    low, high = t < 0.5, t > 1.5
    side = v.select(high, 2.0 - t, t)
    near = x * _poly(v, x * x, _ERFINV)
    tail = _erfcinv_tail(v, v.select(low | high, side, v.const(0.5)))
    y = v.select(low, tail, v.select(high, -tail, near))
    y = v.select(t == 0.0, v.const(_INF), v.select(t == 2.0, v.const(-_INF), y))
    return v.select((t >= 0.0) & (t <= 2.0), y, v.const(_NAN))


# --------------------------------------------------------------------------------------- registry


@dataclass(frozen=True)
class Function:
    """An entry: its argument count, formula, and error bound in ulp by dtype.

    ``impl.__doc__`` names the method.  The bound holds over the whole range, subnormal arguments
    and results included; special values are NumPy's.
    """

    name: str
    arity: int
    impl: Callable[..., Value]
    ulp: dict[str, float]


def _entry(name: str, impl: Callable[..., Value], f32: float, f64: float, arity: int = 1) -> None:
    FUNCTIONS[name] = Function(name, arity, impl, {"float32": f32, "float64": f64})


#: Name to entry.  Bounds are maxima seen in dense tests with and without FMA, rounded up.
FUNCTIONS: dict[str, Function] = {}
_entry("exp", _exp, 1.1, 1.1)
_entry("expm1", _expm1, 1.5, 1.5)
_entry("log", _log, 1.0, 1.0)
_entry("log2", _log2, 1.9, 2.0)
_entry("log10", _log10, 1.95, 1.9)
_entry("log1p", _log1p, 1.6, 1.5)
_entry("sigmoid", _sigmoid, 1.9, 1.9)
_entry("softplus", _softplus, 1.9, 1.9)
_entry("tanh", _tanh, 1.5, 1.5)
_entry("exp2", _exp2, 1.2, 1.2)
_entry("sinh", _sinh, 1.5, 1.9)
_entry("cosh", _cosh, 1.9, 1.6)
_entry("arcsinh", _via_f64(_arcsinh), 0.51, 1.9)
_entry("arccosh", _via_f64(_arccosh), 0.51, 1.7)
_entry("arctanh", _via_f64(_arctanh), 0.51, 1.7)
_entry("sin", _trig("sin"), 1.6, 1.0)
_entry("cos", _trig("cos"), 1.6, 1.0)
_entry("tan", _trig("tan"), 1.3, 1.2)
_entry("arcsin", _arcsin, 1.8, 1.8)
_entry("arccos", _arccos, 1.3, 1.3)
_entry("arctan", _arctan, 1.5, 1.8)
_entry("arctan2", _arctan2, 1.8, 1.9, 2)
_entry("erf", _erf, 1.4, 1.9)
_entry("erfc", _erfc, 1.9, 1.9)
_entry("gelu", _gelu, 2.0, 1.7)
_entry("cbrt", _cbrt, 1.1, 1.1)
_entry("pow", _pow, 0.6, 1.3, 2)
_entry("sqrt", _sqrt, 0.5, 0.5)
_entry("rsqrt", _rsqrt, 1.5, 1.5)
_entry("gammaln", _via_f64(_gammaln), 0.51, 6.0)
_entry("digamma", _via_f64(_digamma), 0.51, 6.0)
_entry("zeta", _via_f64(_zeta), 0.51, 8.0, 2)
_entry("erfinv", _via_f64(_erfinv), 0.51, 5.0)
_entry("erfcinv", _via_f64(_erfcinv), 0.51, 5.0)


def emit(name: str, builder: Any, dtype: str, args: Sequence[Any]) -> Any:
    """Append the instructions of ``name`` to ``builder``; ``args`` are scalar LLVM values.

    ``dtype`` is ``"float32"`` or ``"float64"`` and is the type of every argument and the result.
    """
    f = FUNCTIONS[name]
    if len(args) != f.arity:
        raise TypeError(f"{name} takes {f.arity} argument(s), not {len(args)}")
    v = LLVMOps(builder, str(np.dtype(dtype)))
    # A loop has more constants than registers: keep their spill slots within cache lines.
    set.add(builder.function.attributes, '"stackrealign"')
    return f.impl(v, *(v.arg(a) for a in args)).raw


def evaluate(name: str, dtype: str, *arrays: Any) -> Any:
    """Compute ``name`` on arrays (broadcast, converted to ``dtype``) with the NumPy backend."""
    f = FUNCTIONS[name]
    if len(arrays) != f.arity:
        raise TypeError(f"{name} takes {f.arity} argument(s), not {len(arrays)}")
    v = NumpyOps(str(np.dtype(dtype)))
    xs = np.broadcast_arrays(*(np.asarray(a, dtype=v.ft) for a in arrays))
    shape = xs[0].shape
    with np.errstate(all="ignore"):
        y = f.impl(v, *(v.arg(np.ascontiguousarray(x).reshape(-1)) for x in xs)).raw
    return np.asarray(y, dtype=v.ft).reshape(shape)
