"""The operations as LLVM instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from graphc.vmath.arithmetic import INF
from graphc.vmath.values import Ops, Value


class LLVMOps(Ops):
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
            return b.and_(b.fcmp_ordered(">", a, splat(limit)), b.fcmp_ordered("<", a, splat(INF)))

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
