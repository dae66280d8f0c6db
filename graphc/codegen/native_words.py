"""What the words of generated programs (see ``machine.py``) mean natively.

A word says what it returns for given kinds of arguments, and appends LLVM instructions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from graphc import vmath
from graphc.codegen.kinds import (
    BOOL,
    FLOAT64,
    INT32,
    INT64,
    NONE,
    SCALARS,
    UINT8,
    Buffer,
    Kind,
    Signature,
    convert,
    copy_bytes,
    declared,
    local,
    local_of,
)
from graphc.codegen.machine import MATH
from graphc.errors import VerifyError
from graphc.ir.scipy_functions import SCIPY_FUNCTIONS, ScipyFunction
from graphc.schedule.team import CLAIMED, GRAIN, MAX_PARTS

_LINE = 64  # bytes that processors exchange, of most

# --------------------------------------------------------------------------------- intrinsics


@dataclass(frozen=True)
class Word:
    """``typing(*kinds)`` is its signature, or None where it has no meaning for them;
    ``emit(builder, signature, values)`` appends its code and returns its value, if it has one."""

    name: str
    arity: int
    typing: Callable[..., Signature | None]
    emit: Callable

    def call(self, builder, arguments: list[tuple]) -> tuple:
        """The kind and value of a call with pairs of kind and value."""
        signature = self.typing(*(kind for kind, _ in arguments))
        if signature is None or len(arguments) != self.arity:
            raise VerifyError(f"{self.name} of {[kind for kind, _ in arguments]} has no meaning")
        values = [
            convert(builder, value, kind, wanted)
            for (kind, value), wanted in zip(arguments, signature.args, strict=True)
        ]
        return signature.return_type, self.emit(builder, signature, values)


def _llvm_call(builder, name: str, result, args, flags=()):
    suffix = {"float": "f32", "double": "f64"}[str(args[0].type)]
    function = declared(
        builder.module, f"llvm.{name}.{suffix}", ir.FunctionType(result, [a.type for a in args])
    )
    return builder.call(function, args, fastmath=flags)


def _same(*args):
    """All arguments converted to the first's type, which is the result's."""
    return args[0](*([args[0]] * len(args)))


def _same_float(*args):
    return _same(*args) if args[0].is_float else None


def _float_intrinsic(name: str, llvm: str, arity: int = 1):
    def emit(builder, sig, args):
        return _llvm_call(builder, llvm, args[0].type, list(args))

    return Word(name, arity, _same_float, emit)


def _vector_math(name: str):
    def emit(builder, sig, args):
        return _strict(builder, lambda: vmath.emit(name, builder, sig.return_type.name, args))

    return Word(name, vmath.FUNCTIONS[name].arity, _same_float, emit)


def _of_scipy(function: ScipyFunction):
    """A call of SciPy's C function in float64; the last argument is Cython's own."""

    def emit(builder, sig, args):
        numbers = [convert(builder, a, sig.return_type, FLOAT64) for a in args]
        double = FLOAT64.value
        if function.results > 1:
            places = [local(builder, double) for _ in range(function.results)]
            kinds = [double] * len(numbers) + [double.as_pointer()] * len(places)
            called = declared(
                builder.module, function.symbol, ir.FunctionType(ir.VoidType(), kinds)
            )
            builder.call(called, [*numbers, *places])
            found = builder.load(places[function.index])
        else:
            kind = ir.FunctionType(double, [double] * len(numbers) + [INT32.value])
            called = declared(builder.module, function.symbol, kind)
            set.add(called.attributes, "memory(none)")  # llvmlite does not know it
            found = builder.call(called, [*numbers, INT32.value(0)])
        for attribute in ("nounwind", "willreturn"):
            set.add(called.attributes, attribute)
        return convert(builder, found, FLOAT64, sig.return_type)

    return Word(function.row, function.arity, _same_float, emit)


def _strict(builder, emit):
    """Mark what ``emit`` appends, so that no contraction is allowed there later."""
    block, before = builder.block, len(builder.block.instructions)
    value = emit()
    for instruction in block.instructions[before:]:
        instruction.graphc_strict = True
    return value


def _divided_emit(builder, sig, args):
    def emit():
        v = vmath.LLVMOps(builder, sig.return_type.name)
        known = isinstance(args[1], ir.Constant) and args[1].constant
        shrinks = isinstance(known, float) and 1 <= abs(known) < np.inf
        return vmath.divided(v, *map(v.arg, args), shrinks).raw

    return _strict(builder, emit)


def _extremum(name: str, llvm: str, signed: str):
    def emit(builder, sig, args):
        kind = sig.return_type
        if kind.is_float:
            # Which zero is the larger matters to nobody, and costs a reduction half of its time.
            return _llvm_call(builder, llvm, args[0].type, list(args), ("nsz",))
        if kind == BOOL:
            return builder.or_(*args) if llvm == "maximum" else builder.and_(*args)
        compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
        return builder.select(compare(signed, *args), *args)

    return Word(name, 2, _same, emit)


def _accumulate(name: str, float_op: str, int_op: str):
    def emit(builder, sig, args):
        if sig.return_type == BOOL:
            return builder.or_(*args) if int_op == "add" else builder.and_(*args)
        if sig.return_type.is_float:
            return getattr(builder, float_op)(*args, flags=("reassoc", "nsz", "contract"))
        return getattr(builder, int_op)(*args)

    return Word(name, 2, _same, emit)


def _conversion(name: str, kind: Kind):
    return Word(name, 1, lambda x: kind(kind), lambda builder, sig, args: args[0])


def _select_typing(cond, a, b):
    return a(BOOL, a, a)


def _select_emit(builder, sig, args):
    return builder.select(*args)


def _absolute_emit(builder, sig, args):
    kind, (x,) = sig.return_type, args
    if kind.is_float:
        return _llvm_call(builder, "fabs", x.type, [x])
    if kind == BOOL or not kind.signed:
        return x
    return builder.select(builder.icmp_signed("<", x, x.type(0)), builder.neg(x), x)


def _sign_emit(builder, sig, args):
    kind, (x,) = sig.return_type, args
    one, zero = x.type(1), x.type(0)
    if kind.is_float:
        positive = builder.fcmp_ordered(">", x, zero)
        negative = builder.fcmp_ordered("<", x, zero)
        kept = builder.select(builder.fcmp_ordered("==", x, zero), zero, x)  # NaN stays NaN
        return builder.select(positive, one, builder.select(negative, x.type(-1), kept))
    if not kind.signed:
        return builder.select(builder.icmp_unsigned("==", x, zero), zero, one)
    negative = builder.select(builder.icmp_signed("<", x, zero), x.type(-1), zero)
    return builder.select(builder.icmp_signed(">", x, zero), one, negative)


def _magnitude_test(compare: str, of_integers: bool):
    """``fabs(x) <compare> inf``; one comparison, so that no contraction can change it."""

    def emit(builder, sig, args):
        if not sig.args[0].is_float:
            return ir.IntType(1)(of_integers)
        magnitude = _llvm_call(builder, "fabs", args[0].type, [args[0]])
        return builder.fcmp_ordered(compare, magnitude, args[0].type(float("inf")))

    return emit


def _relu_emit(builder, sig, args):
    (x,), zero = args, args[0].type(0)
    if sig.return_type == BOOL or not getattr(sig.return_type, "signed", True):
        return x
    if not sig.return_type.is_float:
        return builder.select(builder.icmp_signed(">", x, zero), x, zero)
    return builder.select(builder.fcmp_ordered("<", x, zero), zero, x)  # NaN passes


def _floor_div_emit(builder, sig, args):
    kind, (a, b) = sig.return_type, args
    if kind.is_float:
        return _float_floor_div(builder, a, b)
    safe, is_zero = _safe_divisor(builder, b, kind)
    if not kind.signed:
        return builder.select(is_zero, a.type(0), builder.udiv(a, safe))
    quotient, remainder = builder.sdiv(a, safe), builder.srem(a, safe)
    floored = builder.sub(quotient, a.type(1))
    result = builder.select(_signs_differ(builder, remainder, safe), floored, quotient)
    overflow = builder.icmp_signed("==", b, b.type(-1))
    result = builder.select(overflow, builder.neg(a), result)
    return builder.select(is_zero, a.type(0), result)


def _floor_mod_emit(builder, sig, args):
    kind, (a, b) = sig.return_type, args
    if kind.is_float:
        return _float_mod(builder, a, b)
    safe, is_zero = _safe_divisor(builder, b, kind)
    if not kind.signed:
        return builder.select(is_zero, a.type(0), builder.urem(a, safe))
    remainder = builder.srem(a, safe)
    moved = builder.add(remainder, safe)
    result = builder.select(_signs_differ(builder, remainder, safe), moved, remainder)
    return builder.select(is_zero, a.type(0), result)


def _shift(left: bool):
    """NumPy's shifts: a count outside [0, bits) leaves 0, or -1 of what is negative."""

    def emit(builder, sig, args):
        x, count = args
        inside = builder.icmp_unsigned("<", count, count.type(x.type.width))
        safe = builder.select(inside, count, count.type(0))
        if left:
            return builder.select(inside, builder.shl(x, safe), x.type(0))
        if not sig.return_type.signed:
            return builder.select(inside, builder.lshr(x, safe), x.type(0))
        return builder.select(
            inside, builder.ashr(x, safe), builder.ashr(x, x.type(x.type.width - 1))
        )

    return Word("shift", 2, _same, emit)


def _common_divisor_emit(builder, sig, args):
    """Euclid's algorithm on magnitudes as unsigned words."""
    sizes = args
    if sig.return_type.signed:
        sizes = [_absolute_emit(builder, sig.return_type(sig.return_type), [a])
                 for a in args]  # fmt: skip
    larger, left = (local_of(builder, a) for a in sizes)
    with _counted(builder, left):
        rest = builder.urem(builder.load(larger), builder.load(left))
        builder.store(builder.load(left), larger)
        builder.store(rest, left)
    return builder.load(larger)


def _count_bits_emit(builder, sig, args):
    (x,), kind = args, sig.args[0]
    if kind.signed:
        x = _absolute_emit(builder, kind(kind), [x])
    count = builder.ctpop(x)
    width = ir.IntType(8)
    return count if x.type == width else builder.trunc(count, width)


def _next_after_emit(builder, sig, args):
    """One step of the bit pattern, which counts magnitudes."""
    x, y = args
    word = ir.IntType({"float": 32, "double": 64}[str(x.type)])
    bits, zero = builder.bitcast(x, word), x.type(0)
    outward = builder.xor(builder.fcmp_ordered("<", y, x), builder.fcmp_ordered(">", x, zero))
    moved = builder.add(bits, builder.select(outward, word(1), word(-1)))
    least = _llvm_call(builder, "copysign", x.type, [builder.bitcast(word(1), x.type), y])
    result = builder.bitcast(moved, x.type)
    result = builder.select(builder.fcmp_ordered("==", x, zero), least, result)
    result = builder.select(builder.fcmp_ordered("==", x, y), y, result)
    unknown = builder.fcmp_unordered("uno", x, y)
    return builder.select(unknown, builder.fadd(x, y), result)


def _safe_divisor(builder, b, kind):
    """A divisor that never traps (0 and -1 replaced; callers select their own results)."""
    is_zero = builder.icmp_unsigned("==", b, b.type(0))
    safe = builder.select(is_zero, b.type(1), b)
    if kind.signed:
        safe = builder.select(builder.icmp_signed("==", b, b.type(-1)), b.type(1), safe)
    return safe, is_zero


def _signs_differ(builder, remainder, divisor):
    nonzero = builder.icmp_signed("!=", remainder, remainder.type(0))
    opposite = builder.icmp_signed("<", builder.xor(remainder, divisor), remainder.type(0))
    return builder.and_(nonzero, opposite)


def _float_mod(builder, a, b):
    """NumPy's remainder: the sign of the divisor, exact fmod underneath."""
    zero = a.type(0)
    remainder = builder.frem(a, b)
    nonzero = builder.fcmp_ordered("!=", remainder, zero)
    negative_r = builder.fcmp_ordered("<", remainder, zero)
    negative_b = builder.fcmp_ordered("<", b, zero)
    adjust = builder.and_(nonzero, builder.xor(negative_r, negative_b))
    moved = builder.select(adjust, builder.fadd(remainder, b), remainder)
    signed_zero = _llvm_call(builder, "copysign", a.type, [zero, b])
    return builder.select(builder.fcmp_ordered("==", moved, zero), signed_zero, moved)


def _float_floor_div(builder, a, b):
    """NumPy's quotient: of what is left without the remainder, rounded to the nearest integer."""
    zero, one = a.type(0), a.type(1)
    remainder = builder.frem(a, b)
    quotient = builder.fdiv(builder.fsub(a, remainder), b)
    opposite = builder.xor(
        builder.fcmp_ordered("<", remainder, zero), builder.fcmp_ordered("<", b, zero)
    )
    below = builder.and_(builder.fcmp_ordered("!=", remainder, zero), opposite)
    quotient = builder.select(below, builder.fsub(quotient, one), quotient)
    floored = _llvm_call(builder, "floor", a.type, [quotient])
    above = builder.fcmp_ordered(">", builder.fsub(quotient, floored), a.type(0.5))
    rounded = builder.select(above, builder.fadd(floored, one), floored)
    ratio = builder.fdiv(a, b)
    signed_zero = _llvm_call(builder, "copysign", a.type, [zero, ratio])
    rounded = builder.select(builder.fcmp_ordered("==", quotient, zero), signed_zero, rounded)
    return builder.select(builder.fcmp_ordered("==", b, zero), ratio, rounded)


def _power_typing(a, b):
    return _same(a, b)


def _power_emit(builder, sig, args):
    if sig.return_type.is_float:
        name = sig.return_type.name
        return _strict(builder, lambda: vmath.emit("pow", builder, name, args))
    return _integer_power(builder, *args, signed=sig.return_type.signed)


def _integer_power(builder, base, exponent, signed: bool):
    """Square and multiply; a negative exponent gives 0 (NumPy raises: checked when tracing)."""
    kind = base.type
    first = kind(1)
    if signed:
        negative = builder.icmp_signed("<", exponent, kind(0))
        first = builder.select(negative, kind(0), kind(1))
        exponent = builder.select(negative, kind(0), exponent)
    result, square, left = (local_of(builder, v)
                            for v in (first, base, exponent))  # fmt: skip
    with _counted(builder, left):
        odd = builder.and_(builder.load(left), kind(1))
        product = builder.mul(builder.load(result), builder.load(square))
        is_odd = builder.icmp_unsigned("!=", odd, kind(0))
        builder.store(builder.select(is_odd, product, builder.load(result)), result)
        builder.store(builder.mul(builder.load(square), builder.load(square)), square)
        builder.store(builder.lshr(builder.load(left), kind(1)), left)
    return builder.load(result)


class _counted:
    """``while value != 0`` around the body."""

    def __init__(self, builder, variable):
        self.builder, self.variable = builder, variable

    def __enter__(self):
        builder = self.builder
        self.head = builder.append_basic_block("power.head")
        body = builder.append_basic_block("power.body")
        self.exit = builder.append_basic_block("power.exit")
        builder.branch(self.head)
        builder.position_at_end(self.head)
        value = builder.load(self.variable)
        builder.cbranch(builder.icmp_unsigned("!=", value, value.type(0)), body, self.exit)
        builder.position_at_end(body)

    def __exit__(self, *exc):
        self.builder.branch(self.head)
        self.builder.position_at_end(self.exit)


# ------------------------------------------------------------------------- memory and libraries


def _argument(kind: str):
    result = Buffer(SCALARS[kind])

    def typing(args, index):
        return result(args, INT64)

    def emit(builder, sig, args):
        pointers = builder.bitcast(args[0], ir.IntType(8).as_pointer().as_pointer())
        pointer = builder.load(builder.gep(pointers, [args[1]]))
        return builder.bitcast(pointer, sig.return_type.value)

    return Word(f"argument_{kind}", 2, typing, emit)


def _temporary(kind: str):
    result = Buffer(SCALARS[kind])

    def typing(arena, offset):
        return result(arena, INT64)

    def emit(builder, sig, args):
        pointer = builder.gep(args[0], [args[1]], inbounds=True)
        return builder.bitcast(pointer, sig.return_type.value)

    return Word(f"temporary_{kind}", 2, typing, emit)


def _local(kind: str):
    result = Buffer(SCALARS[kind])

    def emit(builder, sig, args):
        return local(builder, sig.return_type.dtype.memory, args[0].constant)

    return Word(f"local_{kind}", 1, lambda count: result(INT64), emit)


def _part_emit(builder, sig, args):
    return builder.gep(args[0], [args[1]], inbounds=True)


def _gemm(kind: str, symbol: str):
    """A call of CBLAS on row-major contiguous matrices."""
    real, buffer = SCALARS[kind], Buffer(SCALARS[kind])

    def typing(ta, tb, m, n, k, alpha, a, b, beta, c):
        size = INT64
        return NONE(size, size, size, size, size, real, buffer, buffer, real, buffer)

    def emit(builder, sig, args):
        ta, tb, m, n, k, alpha, a, b, beta, c = args
        i32, i64 = ir.IntType(32), ir.IntType(64)
        fp, pointer = alpha.type, a.type

        def at_least_one(x):
            return builder.select(builder.icmp_signed(">", x, i64(1)), x, i64(1))

        def transposed(flag, yes, no):
            return builder.select(builder.icmp_signed("!=", flag, i64(0)), yes, no)

        lda = at_least_one(transposed(ta, m, k))
        ldb = at_least_one(transposed(tb, k, n))
        words = [
            i32(101), transposed(ta, i32(112), i32(111)), transposed(tb, i32(112), i32(111)),
            *(builder.trunc(x, i32) for x in (m, n, k)), alpha,
            a, builder.trunc(lda, i32), b, builder.trunc(ldb, i32),
            beta, c, builder.trunc(at_least_one(n), i32),
        ]  # fmt: skip
        kinds = [i32] * 6 + [fp, pointer, i32, pointer, i32, fp, pointer, i32]
        function = declared(builder.module, symbol, ir.FunctionType(ir.VoidType(), kinds))
        builder.call(function, words)

    return Word(f"gemm_{kind}", 10, typing, emit)


class _Call:
    """Operands of a C function of BLAS or LAPACK while a call is emitted."""

    def __init__(self, builder):
        self.builder = builder
        self.int, self.char = ir.IntType(32), ir.IntType(8)

    def size(self, n):
        return self.builder.trunc(n, self.int)

    def stride(self, n):
        """A leading dimension: at least 1."""
        one = n.type(1)
        return self.size(self.builder.select(self.builder.icmp_signed(">", n, one), n, one))

    def choice(self, flag, yes, no):
        """A constant by a flag: of C's enumerations, or a letter."""
        kind = self.char if isinstance(yes, str) else self.int
        yes, no = (kind(ord(x) if isinstance(x, str) else x) for x in (yes, no))
        return self.builder.select(self.builder.icmp_signed("!=", flag, flag.type(0)), yes, no)

    def letter(self, text: str):
        return self.char(ord(text))

    def call(self, symbol: str, words, result):
        kind = ir.FunctionType(result, [w.type for w in words])
        function = declared(self.builder.module, symbol, kind)
        return self.builder.call(function, words)


# A routine by its symbol, the kinds of its word's arguments (n: a size or flag, x: a buffer of
# the dtype, i: of 32-bit integers) and the operands of the C function.
_ROUTINES = {
    "trsm": (
        "cblas_{}trsm", "nnnnnxx", lambda c, lower, trans, unit, n, k, a, b: [
            c.int(101), c.int(141), c.choice(lower, 122, 121), c.choice(trans, 112, 111),
            c.choice(unit, 132, 131), c.size(n), c.size(k), a.type.pointee(1.0),
            a, c.stride(n), b, c.stride(k),
        ],
    ),
    "potrf": (
        "LAPACKE_{}potrf_work", "nx",
        lambda c, n, a: [c.int(102), c.letter("U"), c.size(n), a, c.stride(n)],
    ),
    "getrf": (
        "LAPACKE_{}getrf_work", "nxi",
        lambda c, n, a, pivots: [c.int(102), c.size(n), c.size(n), a, c.stride(n), pivots],
    ),
    "gelqf": (
        "LAPACKE_{}gelqf_work", "nnxxxn", lambda c, m, n, a, tau, work, lwork: [
            c.int(102), c.size(m), c.size(n), a, c.stride(m), tau, work, c.size(lwork),
        ],
    ),
    "orglq": (
        "LAPACKE_{}orglq_work", "nnnxxxn", lambda c, m, n, k, a, tau, work, lwork: [
            c.int(102), c.size(m), c.size(n), c.size(k), a, c.stride(m), tau, work,
            c.size(lwork),
        ],
    ),
    "syevd": (
        "LAPACKE_{}syevd_work", "nxxxnin", lambda c, n, a, w, work, lwork, integers, liwork: [
            c.int(102), c.letter("V"), c.letter("L"), c.size(n), a, c.stride(n), w,
            work, c.size(lwork), integers, c.size(liwork),
        ],
    ),
    "gesdd": (
        "LAPACKE_{}gesdd_work", "nnnxxxxnxni",
        lambda c, full, m, n, a, s, u, v, q, work, lwork, integers: [
            c.int(102), c.choice(full, "A", "S"), c.size(m), c.size(n), a, c.stride(m),
            s, u, c.stride(m), v, c.stride(q), work, c.size(lwork), integers,
        ],
    ),
    "complex_heevd": (
        "LAPACKE_{}heevd_work", "nxxxnxnin",
        lambda c, n, a, w, work, lwork, rwork, lrwork, integers, liwork: [
            c.int(102), c.letter("V"), c.letter("L"), c.size(n), a, c.stride(n), w,
            work, c.size(lwork), rwork, c.size(lrwork), integers, c.size(liwork),
        ],
    ),
    "complex_gesdd": (
        "LAPACKE_{}gesdd_work", "nnnxxxxnxnxi",
        lambda c, full, m, n, a, s, u, v, q, work, lwork, rwork, integers: [
            c.int(102), c.choice(full, "A", "S"), c.size(m), c.size(n), a, c.stride(m),
            s, u, c.stride(m), v, c.stride(q), work, c.size(lwork), rwork, integers,
        ],
    ),
}  # fmt: skip
_ROUTINES["complex_gelqf"] = _ROUTINES["gelqf"]
_ROUTINES["complex_unglq"] = ("LAPACKE_{}unglq_work", *_ROUTINES["orglq"][1:])


def _routine(name: str, kind: str):
    """The word ``name_kind``: a routine that returns 0 where it succeeds (trsm nothing)."""
    symbol, kinds, operands = _ROUTINES[name]
    letters = "cz" if name.startswith("complex_") else "sd"
    symbol = "scipy_" + symbol.format(letters[("f32", "f64").index(kind)])
    argument = {"n": INT64, "x": Buffer(SCALARS[kind]), "i": Buffer(INT32)}
    has_result = symbol.endswith("_work")

    def typing(*args):
        result = INT64 if has_result else NONE
        return result(*(argument[k] for k in kinds))

    def emit(builder, sig, args):
        call = _Call(builder)
        result = call.int if has_result else ir.VoidType()
        info = call.call(symbol, operands(call, *args), result)
        return builder.sext(info, ir.IntType(64)) if has_result else None

    return Word(f"{name}_{kind}", len(kinds), typing, emit)


def _checked_emit(builder, sig, args):
    status, check, index, size = args
    i64 = ir.IntType(64)
    bad = builder.icmp_unsigned(">=", index, size)
    with builder.if_then(bad, likely=False):
        unset = builder.icmp_signed("==", builder.load(status), i64(0))
        with builder.if_then(unset):
            builder.store(check, status)
            builder.store(index, builder.gep(status, [i64(1)], inbounds=True))
    last = builder.sub(size, i64(1))
    low = builder.select(builder.icmp_signed("<", index, i64(0)), i64(0), last)
    return builder.select(bad, low, index)


# ------------------------------------------------------------ the words of the epoch driver


def _next_emit(builder, sig, args):
    return builder.add(args[0], args[0].type(_signed(0x9E3779B97F4A7C15)))


def _mix_emit(builder, sig, args):
    """The output function of splitmix64: see ``train.shuffle``."""
    (z,) = args
    word = z.type
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = builder.xor(z, builder.lshr(z, word(shift)))
        z = builder.mul(z, word(_signed(factor)))
    return builder.xor(z, builder.lshr(z, word(31)))


def _draw_emit(builder, sig, args):
    """The high half of a random word, scaled to [0, n)."""
    z, n = args
    high = builder.lshr(z, z.type(32))
    return builder.lshr(builder.mul(high, n), z.type(32))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


# --------------------------------------------------------------------- the words of native calls


def _c_call(arity: int):
    """Call the C function at an address with words; its result is a word."""

    def emit(builder, sig, args):
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word] * arity)
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return Word(f"c_call{arity}", 1 + arity, lambda *a: INT64(*[INT64] * len(a)), emit)


def _c_call_f64_emit(builder, sig, args):
    """Call the C function at an address with the float64 at another."""
    word, double = ir.IntType(64), ir.DoubleType()
    value = builder.load(builder.inttoptr(args[1], double.as_pointer()))
    kind = ir.FunctionType(word, [double])
    return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [value])


def _words_at_emit(builder, sig, args):
    return builder.inttoptr(args[0], ir.IntType(64).as_pointer())


def _copy_emit(builder, sig, args):
    pointer = ir.IntType(8).as_pointer()
    target, source = (builder.inttoptr(a, pointer) for a in args[:2])
    copy_bytes(builder, target, source, args[2])


def _claim_emit(builder, sig, args):
    """Ask for lines of memory that are going to be written, which no other processor keeps then."""
    buffer, index = args
    element, byte = sig.args[0].dtype, ir.IntType(8).as_pointer()
    kinds = [byte, *[ir.IntType(32)] * 3]
    kind = ir.FunctionType(ir.VoidType(), kinds)
    prefetch = declared(builder.module, "llvm.prefetch.p0i8", kind)
    options = [k(value) for k, value in zip(kinds[1:], (1, 3, 1), strict=True)]
    for k in range(0, CLAIMED, _LINE * 8 // max(8, element.bits)):
        place = builder.gep(buffer, [builder.add(index, index.type(k))])
        builder.call(prefetch, [builder.bitcast(place, byte), *options])


def _parts_emit(builder, sig, args):
    ints, at, extent, size, work = args
    most = builder.load(builder.gep(ints, [at], inbounds=True))
    parts = most.type(MAX_PARTS)
    for limit in (most, steps_of(builder, extent, size), builder.sdiv(work, size.type(GRAIN))):
        parts = builder.select(builder.icmp_signed("<", limit, parts), limit, parts)
    one = parts.type(1)
    return builder.select(builder.icmp_signed(">", parts, one), parts, one)


def _look_emit(builder, sig, args):
    """See ``runtime.interrupt``. What looks touches no memory that the program knows of, so values
    of a loop may stay in registers."""
    ints, at, pace = args
    word = pace.type
    address = builder.load(builder.gep(ints, [at], inbounds=True))
    result = local_of(builder, word(1 << 62))
    with builder.if_then(builder.icmp_signed("!=", address, word(0)), likely=False):
        kind = ir.FunctionType(word, [word] * 3)
        looks = builder.inttoptr(address, kind.as_pointer())
        called = builder.call(looks, [builder.ptrtoint(ints, word), at, pace])
        set.add(called.attributes, "memory(inaccessiblemem: readwrite)")
        set.add(called.attributes, "nounwind")
        builder.store(called, result)
    return builder.load(result)


def steps_of(builder, extent, size):
    """Steps of a loop over ``extent`` rows, ``size`` a step."""
    return builder.sdiv(builder.add(extent, builder.sub(size, size.type(1))), size)


class FloatMode:
    """The floating-point mode word of the running thread, where the target has one."""

    def __init__(self, builder):
        self.builder, module = builder, builder.module
        self.x86 = module.triple.startswith("x86_64")
        self.arm = module.triple.startswith(("aarch64", "arm64"))
        self.word = ir.IntType(32) if self.x86 else ir.IntType(64)
        self.flush = self.word(0x8040 if self.x86 else 1 << 24)  # FTZ and DAZ; FZ

    def _call(self, name: str, result, *args):
        kind = ir.FunctionType(result, [a.type for a in args])
        function = declared(self.builder.module, f"llvm.{name}", kind)
        return self.builder.call(function, args)

    def read(self):
        if self.x86:
            memory = local(self.builder, self.word)
            self._call("x86.sse.stmxcsr", ir.VoidType(), memory)
            return self.builder.load(memory)
        return self._call("aarch64.get.fpcr", self.word) if self.arm else self.flush

    def write(self, value) -> None:
        if self.x86:
            memory = local_of(self.builder, value)
            self._call("x86.sse.ldmxcsr", ir.VoidType(), memory)
        elif self.arm:
            self._call("aarch64.set.fpcr", ir.VoidType(), value)

    def flushing(self, value):
        """``value`` with subnormals flushed to zero."""
        return self.builder.or_(value, self.flush)


def _flush_emit(builder, sig, args):
    mode = FloatMode(builder)
    mode.write(mode.flushing(mode.read()))


def _step_emit(builder, sig, args):
    pointer, words = ir.IntType(8).as_pointer(), ir.IntType(64).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, words])
    function = builder.inttoptr(args[0], kind.as_pointer())
    table = builder.bitcast(args[1], pointer)
    builder.call(function, [table, builder.inttoptr(args[2], pointer), args[3]])


@functools.cache
def native_words() -> dict[str, Word | float]:
    """The namespace in which a program is compiled."""
    status = Buffer(INT64)
    words: dict[str, Word | float] = {
        "INF": float("inf"), "NAN": float("nan"),
        "select": Word("select", 3, _select_typing, _select_emit),
        "larger": _extremum("larger", "maximum", ">"),
        "smaller": _extremum("smaller", "minimum", "<"),
        "absolute": Word("absolute", 1, _same, _absolute_emit),
        "sign": Word("sign", 1, _same, _sign_emit),
        "isinf": Word("isinf", 1, BOOL, _magnitude_test("==", False)),
        "isfinite": Word("isfinite", 1, BOOL, _magnitude_test("<", True)),
        "relu": Word("relu", 1, _same, _relu_emit),
        "divided": Word("divided", 3, _same, _divided_emit),
        "floor_div": Word("floor_div", 2, _same, _floor_div_emit),
        "floor_mod": Word("floor_mod", 2, _same, _floor_mod_emit),
        "power": Word("power", 2, _power_typing, _power_emit),
        "shift_left": _shift(True),
        "shift_right": _shift(False),
        "common_divisor": Word("common_divisor", 2, _same, _common_divisor_emit),
        "count_bits": Word(
            "count_bits", 1, lambda x: UINT8(x), _count_bits_emit
        ),
        "next_after": Word("next_after", 2, _same, _next_after_emit),
        "accumulate_sum": _accumulate("accumulate_sum", "fadd", "add"),
        "accumulate_prod": _accumulate("accumulate_prod", "fmul", "mul"),
        "checked": Word(
            "checked", 4,
            lambda s, c, i, n: INT64(status, INT64, INT64, INT64),
            _checked_emit,
        ),
        "status_words": Word("status_words", 1, lambda x: x(x), lambda b, s, a: a[0]),
        "part": Word("part", 2, lambda p, i: p(p, INT64), _part_emit),
        "claim": Word("claim", 2, lambda p, i: NONE(p, INT64), _claim_emit),
        "team_parts": Word(
            "team_parts", 5, lambda i, *_: INT64(status, *[INT64] * 4), _parts_emit
        ),
        "look": Word("look", 3, lambda i, *_: INT64(status, INT64, INT64), _look_emit),
        "splitmix_next": Word(
            "splitmix_next", 1, lambda x: INT64(INT64), _next_emit
        ),
        "splitmix_output": Word(
            "splitmix_output", 1, lambda x: INT64(INT64), _mix_emit
        ),
        "scaled_draw": Word(
            "scaled_draw", 2, lambda x, n: INT64(INT64, INT64), _draw_emit
        ),
        "copy_bytes": Word(
            "copy_bytes", 3, lambda d, s, n: NONE(*[INT64] * 3), _copy_emit
        ),
        "words_at": Word("words_at", 1, lambda a: status(INT64), _words_at_emit),
        **{f"c_call{n}": _c_call(n) for n in range(5)},
        "c_call_f64": Word(
            "c_call_f64", 2, lambda f, a: INT64(INT64, INT64), _c_call_f64_emit
        ),
        "flush_subnormals": Word("flush_subnormals", 0, lambda: NONE(), _flush_emit),
        "call_step": Word(
            "call_step", 4,
            lambda f, t, a, w: NONE(INT64, status, INT64, status), _step_emit,
        ),
        "gemm_f32": _gemm("f32", "scipy_cblas_sgemm"),
        "gemm_f64": _gemm("f64", "scipy_cblas_dgemm"),
    }  # fmt: skip
    for name in _ROUTINES:
        for kind in ("f32", "f64"):
            words[f"{name}_{kind}"] = _routine(name, kind)
    for name in ("floor", "ceil", "trunc", "rint"):
        words[name] = _float_intrinsic(name, name)
    words["copysign"] = _float_intrinsic("copysign", "copysign", 2)
    for name in MATH:
        words[name] = _vector_math(name)
    for function in SCIPY_FUNCTIONS.values():
        words[function.row] = _of_scipy(function)
    for kind, scalar in SCALARS.items():
        if kind != "bool":
            words[kind] = _conversion(kind, scalar)
        words[f"argument_{kind}"] = _argument(kind)
        words[f"temporary_{kind}"] = _temporary(kind)
        words[f"local_{kind}"] = _local(kind)
    return words
