"""The operations as LLVM instructions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from graphc.vmath.values import Ops, Value


@functools.cache
def _vector_bits() -> int:
    """Of this processor's widest vectors."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx") else 128


@functools.cache
def host_fuses() -> bool:
    """Whether this processor has fused multiply-add: all of graphc's code is made for it."""
    from llvmlite import binding

    if not binding.get_process_triple().startswith(("x86_64", "i386", "i686")):
        return True
    return bool(binding.get_host_cpu_features().get("fma"))


@functools.cache
def _host_has(*names: str) -> bool:
    """Whether this processor has all of these features of x86-64."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return all(features.get(name) for name in names)


class LLVMOps(Ops):
    """The operation set as LLVM instructions appended to an llvmlite ``IRBuilder``.

    On scalars, which the loop vectoriser turns into vectors, or on vectors of ``lanes``.
    """

    _BIN: ClassVar[dict[str, str]] = {
        "fadd": "fadd", "fsub": "fsub", "fmul": "fmul", "fdiv": "fdiv",
        "iadd": "add", "isub": "sub", "imul": "mul", "iand": "and_", "ior": "or_", "ixor": "xor",
        "ishl": "shl", "ilshr": "lshr", "band": "and_", "bor": "or_", "bxor": "xor",
    }  # fmt: skip

    def __init__(self, builder: Any, dtype: str, lanes: int = 1, fuses: bool | None = None) -> None:
        super().__init__(dtype)
        from llvmlite import ir

        self.ir = ir
        self.builder = builder
        self.lanes = lanes
        self.fuses = host_fuses() if fuses is None else fuses
        self.converts = self.f32 or (self.fuses and _host_has("avx512dq"))
        self.ft = self._wide_type(ir.FloatType() if self.f32 else ir.DoubleType())
        self.it = self._wide_type(ir.IntType(self.width))
        self.suffix = f"f{self.width}" if lanes == 1 else f"v{lanes}f{self.width}"

    def _wide_type(self, scalar: Any) -> Any:
        return scalar if self.lanes == 1 else self.ir.VectorType(scalar, self.lanes)

    def _constant(self, kind: Any, value: Any) -> Any:
        return self.ir.Constant(kind, value if self.lanes == 1 else [value] * self.lanes)

    def const(self, x: float) -> Value:
        return Value(self, "f", self._constant(self.ft, x))

    def iconst(self, n: int) -> Value:
        return Value(self, "i", self._constant(self.it, n & ((1 << self.width) - 1)))

    def bconst(self, b: bool) -> Value:
        return Value(self, "b", self._constant(self._wide_type(self.ir.IntType(1)), int(b)))

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

    def product_error(self, a: Value, b: Value, p: Value) -> Value:
        if not self.fuses:
            return super().product_error(a, b, p)
        return Value(self, "f", self.intrinsic("fma", a.raw, b.raw, (-p).raw))

    def remainder(self, x: Value, a: Value, b: Value) -> Value:
        if not self.fuses:
            return super().remainder(x, a, b)
        return Value(self, "f", self.intrinsic("fma", (-a).raw, b.raw, x.raw))

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

    @property
    def estimates(self) -> bool:
        # Code without a loop has the plain instruction rather than a call of two ways.
        straight = getattr(self.builder, "straight", False)
        return self.fuses and _host_has("avx512f", "avx512vl") and not straight

    def rsqrt_estimate(self, x: Value) -> Value:
        """1 / sqrt(x) to 14 bits (AVX-512)."""
        ir, b = self.ir, self.builder
        if self.lanes == 1:  # as vectors have it, to the bit
            wide = LLVMOps(b, self.dtype, 128 // self.width, self.fuses)
            first, nothing = ir.IntType(32)(0), ir.Constant(wide.ft, ir.Undefined)
            found = wide.rsqrt_estimate(wide.arg(b.insert_element(nothing, x.raw, first)))
            return Value(self, "f", b.extract_element(found.raw, first))
        mask = ir.IntType(max(self.lanes, 8))
        name = f"llvm.x86.avx512.rsqrt14.p{'s' if self.f32 else 'd'}.{self.lanes * self.width}"
        function = b.module.globals.get(name) or ir.Function(
            b.module, ir.FunctionType(self.ft, [self.ft, self.ft, mask]), name
        )
        zero = self.const(0.0).raw
        return Value(self, "f", b.call(function, [x.raw, zero, ir.Constant(mask, -1)]))

    def by_vectors(self, name: str, one: Callable[..., Value], many: Callable[..., Value],
                   x: Value) -> Value:  # fmt: skip
        """``many(x)`` where a loop is vectorised, ``one(x)`` in scalar code: two ways to the same
        bits."""
        if self.lanes > 1:
            return many(self, x)
        base, known = f"graphc_{name}_f{self.width}", self.builder.module.globals
        if base not in known:
            lanes = self._variant_lanes()
            for n in lanes:
                o = self._define(f"{base}_v{n}", n, 1)
                o.builder.ret(many(o, o.arg(o.function.args[0])).raw)
            o = self._define(base, 1, 1)
            o.builder.ret(one(o, o.arg(o.function.args[0])).raw)
            _add_attributes(o.function, *self._scalar_attributes(base, lanes, 1))
        return Value(self, "f", self.builder.call(known[base], [x.raw]))

    def _variant_lanes(self) -> list[int]:
        """What the vectoriser may choose; the narrower ones are for the rest of a loop."""
        most = _vector_bits() // self.width
        return [n for n in (most, most // 2, most // 4) if n > 1]

    def _scalar_attributes(self, base: str, lanes: Sequence[int], arity: int) -> list[str]:
        variants = ",".join(f"_ZGV_LLVM_N{n}{'v' * arity}_{base}({base}_v{n})" for n in lanes)
        attribute = f'"vector-function-abi-variant"="{variants}"'
        return ["noinline", attribute, "memory(none)", "willreturn"]

    def table(self, words: tuple[int, ...], index: Value) -> Value:
        ir, mod = self.ir, self.builder.module
        name = f"graphc.table.{abs(hash(words)):x}"
        g = mod.globals.get(name)
        word = ir.IntType(self.width)
        if g is None:
            ty = ir.ArrayType(word, len(words))
            g = ir.GlobalVariable(mod, ty, name)
            g.linkage = "internal"
            g.global_constant = True
            g.initializer = ir.Constant(ty, list(words))

        def load(k: Any) -> Any:
            return self.builder.load(self.builder.gep(g, [word(0), k], inbounds=True))

        if self.lanes == 1:
            return Value(self, "i", load(index.raw))
        found = ir.Constant(self.it, ir.Undefined)
        for lane in map(ir.IntType(32), range(self.lanes)):
            entry = load(self.builder.extract_element(index.raw, lane))
            found = self.builder.insert_element(found, entry, lane)
        return Value(self, "i", found)

    def rare(
        self,
        name: str,
        f: Callable[..., Value],
        needed: Callable[..., Value],
        args: Sequence[Value],
        y: Value,
        lane_by_lane: bool = False,
    ) -> Value:
        """``f(*args)`` where ``needed(*args)``, else ``y``, without slowing the common case.

        A call to a scalar function that has vector variants (LLVM's "vector-function-abi-variant"
        attribute): the vectoriser calls the variant, which returns at once unless some lane needs
        ``f``, then computed for the whole vector or ``lane_by_lane``.
        """
        base, known = f"graphc_{name}_rare_f{self.width}", self.builder.module.globals
        if base not in known:
            self._define_rare(base, f, needed, len(args), lane_by_lane)
        own = base if self.lanes == 1 else f"{base}_v{self.lanes}"
        if own not in known:
            self._define_variant(base, self.lanes, f, needed, len(args), lane_by_lane)
        values = [*(x.raw for x in args), y.raw]
        return Value(self, "f", self.builder.call(known[own], values))

    def _define_rare(self, base: str, f: Any, needed: Any, arity: int, lane_by_lane: bool) -> None:
        # The lanes call a function without variants of its own: the vectoriser would turn their
        # loop into a call of the variant that it stands in, an endless recursion.
        one = self._define(f"{base}_one", 1, arity + 1)
        b = one.builder
        *xs, y = (one.arg(a) for a in one.function.args)
        with b.if_then(needed(one, *xs).raw, likely=False):
            b.ret(f(one, *xs).raw)
        b.ret(y.raw)
        _add_attributes(one.function, "noinline", "memory(none)", "willreturn")

        scalar = self._define(base, 1, arity + 1)
        scalar.builder.ret(scalar.builder.call(one.function, scalar.function.args))
        lanes = self._variant_lanes()
        for n in lanes:
            self._define_variant(base, n, f, needed, arity, lane_by_lane)
        _add_attributes(scalar.function, *self._scalar_attributes(base, lanes, arity + 1))

    def _define_variant(
        self, base: str, lanes: int, f: Any, needed: Any, arity: int, lane_by_lane: bool
    ) -> None:
        o = self._define(f"{base}_slow{lanes}", lanes, arity + 1)
        slow = o.function
        if lane_by_lane:
            _lane_loop(o, self.builder.module.globals[f"{base}_one"])
        else:
            *xs, y = (o.arg(a) for a in slow.args)
            o.builder.ret(o.select(needed(o, *xs), f(o, *xs), y).raw)
        _add_attributes(slow, "noinline", "memory(none)", "willreturn")

        o = self._define(f"{base}_v{lanes}", lanes, arity + 1)
        b, args = o.builder, o.function.args
        first, many, done = b.block, *(o.function.append_basic_block(t) for t in ("s", "d"))
        wanted = b.bitcast(needed(o, *map(o.arg, args[:-1])).raw, self.ir.IntType(lanes))
        some = b.icmp_unsigned("!=", wanted, self.ir.Constant(wanted.type, 0))
        b.cbranch(some, many, done).set_weights([1, 2000])
        b.position_at_end(many)
        z = b.call(slow, args)
        b.branch(done)
        b.position_at_end(done)
        out = b.phi(o.ft)
        out.add_incoming(args[-1], first)
        out.add_incoming(z, many)
        b.ret(out)

    def _define(self, name: str, lanes: int, arity: int) -> LLVMOps:
        """Operations that append to a new function of so many arguments."""
        ir, mod = self.ir, self.builder.module
        o = LLVMOps(None, self.dtype, lanes, self.fuses)
        o.function = ir.Function(mod, ir.FunctionType(o.ft, [o.ft] * arity), name)
        o.function.linkage = "weak_odr"  # kept until the vectoriser has looked for variants
        o.function.attributes.add("nounwind")
        o.builder = ir.IRBuilder(o.function.append_basic_block("entry"))
        return o

    def wide(self) -> LLVMOps:
        return LLVMOps(self.builder, "float64", self.lanes, self.fuses)

    def cast(self, x: Value) -> Value:
        if x.ops.dtype == self.dtype:
            return Value(self, "f", x.raw)
        op = self.builder.fptrunc if self.f32 else self.builder.fpext
        return Value(self, "f", op(x.raw, self.ft))


def _add_attributes(function: Any, *names: str) -> None:
    for name in names:
        set.add(function.attributes, name)  # llvmlite does not know all of them


def _lane_loop(o: LLVMOps, one: Any) -> None:
    """The body of a function that calls ``one`` for each lane."""
    ir, b, (*xs, y) = o.ir, o.builder, o.function.args
    i32, first = ir.IntType(32), o.builder.block
    loop, done = (o.function.append_basic_block(t) for t in ("loop", "done"))
    b.branch(loop)
    b.position_at_end(loop)
    i, acc = b.phi(i32), b.phi(o.ft)
    r = b.call(one, [b.extract_element(x, i) for x in (*xs, acc)])
    result, following = b.insert_element(acc, r, i), b.add(i, ir.Constant(i32, 1))
    i.add_incoming(ir.Constant(i32, 0), first)
    i.add_incoming(following, loop)
    acc.add_incoming(y, first)
    acc.add_incoming(result, loop)
    b.cbranch(b.icmp_unsigned("<", following, ir.Constant(i32, o.lanes)), loop, done)
    b.position_at_end(done)
    b.ret(result)
