"""The types of native code: scalars, buffers of them, and what a word takes and gives.

A truth value is one bit in a register and a byte in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from graphc.errors import VerifyError
from graphc.ir.types import parse_type


@dataclass(frozen=True)
class Kind:
    """A scalar. Called with the kinds of arguments it makes the signature of what returns it."""

    name: str  # of the NumPy dtype; "none" is the kind of what has no value
    family: str  # f: float, i: signed, u: unsigned, b: truth value, "": none
    bits: int

    def __call__(self, *arguments) -> Signature:
        return Signature(self, arguments)

    @property
    def value(self) -> ir.Type:
        """Of a value in a register."""
        if self.family == "f":
            return ir.FloatType() if self.bits == 32 else ir.DoubleType()
        return ir.IntType(self.bits) if self.bits else ir.VoidType()

    @property
    def memory(self) -> ir.Type:
        return ir.IntType(8) if self.family == "b" else self.value

    @property
    def is_float(self) -> bool:
        return self.family == "f"

    @property
    def is_integer(self) -> bool:
        return self.family in ("i", "u")

    @property
    def signed(self) -> bool:
        return self.family in ("i", "f")


@dataclass(frozen=True)
class Buffer:
    """A pointer to scalars of one kind."""

    dtype: Kind

    def __call__(self, *arguments) -> Signature:
        return Signature(self, arguments)

    @property
    def value(self) -> ir.Type:
        return self.dtype.memory.as_pointer()

    family = "pointer"
    is_float = is_integer = False


@dataclass(frozen=True)
class Signature:
    return_type: Kind | Buffer
    args: tuple[Kind | Buffer, ...]


def _scalar(short: str) -> Kind:
    dtype = parse_type(f"{short}[]").dtype
    return Kind(dtype.name, dtype.kind, 1 if dtype.kind == "b" else 8 * dtype.itemsize)


#: By the short names of dtypes.
SCALARS = {
    short: _scalar(short)
    for short in ("bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64")
}
BOOL, INT32, INT64, FLOAT64 = (SCALARS[short] for short in ("bool", "i32", "i64", "f64"))
UINT8 = SCALARS["u8"]
NONE = Kind("none", "", 0)
WORDS = Buffer(INT64)
BYTES = Buffer(Kind("byte", "i", 8))  # memory of no particular kind


def convert(builder, value, kind, wanted):
    """``value`` of one kind as another, as NumPy converts."""
    if kind == wanted:
        return value
    if not (isinstance(kind, Kind) and isinstance(wanted, Kind) and kind.bits and wanted.bits):
        raise VerifyError(f"generated code takes {kind} for {wanted}")
    target = wanted.value
    if isinstance(value, ir.Constant) and wanted.family != "b":
        number = value.constant
        if isinstance(number, int | float) and (wanted.is_float or kind.is_integer):
            return target(float(number) if wanted.is_float else number)
    if wanted.family == "b":
        zero = value.type(0)
        if kind.is_float:
            return builder.fcmp_unordered("!=", value, zero)
        return builder.icmp_unsigned("!=", value, zero)
    if kind.is_float and wanted.is_float:
        return (builder.fpext if wanted.bits > kind.bits else builder.fptrunc)(value, target)
    if kind.is_float:
        return (builder.fptosi if wanted.signed else builder.fptoui)(value, target)
    if wanted.is_float:
        return (builder.sitofp if kind.signed else builder.uitofp)(value, target)
    if wanted.bits == kind.bits:
        return value
    if wanted.bits < kind.bits:
        return builder.trunc(value, target)
    return (builder.sext if kind.signed else builder.zext)(value, target)


def load(builder, kind: Kind, pointer):
    value = builder.load(pointer)
    return builder.trunc(value, kind.value) if kind.family == "b" else value


def store(builder, kind: Kind, value, pointer) -> None:
    builder.store(builder.zext(value, kind.memory) if kind.family == "b" else value, pointer)


def local(builder, kind: ir.Type, count: int | None = None):
    """Memory of the function, reserved where it begins."""
    with builder.goto_entry_block():
        return builder.alloca(kind, size=count)


def local_of(builder, value):
    """Such memory that holds ``value``."""
    place = local(builder, value.type)
    builder.store(value, place)
    return place


def declared(module: ir.Module, name: str, kind: ir.FunctionType) -> ir.Function:
    """The function ``name``, of this module or of another."""
    return module.globals.get(name) or ir.Function(module, kind, name)


def copy_bytes(builder, target, source, nbytes) -> None:
    """Of memory that does not overlap; the addresses are pointers to bytes."""
    kinds = [target.type, source.type, nbytes.type]
    move = builder.module.declare_intrinsic("llvm.memcpy", kinds)
    builder.call(move, [target, source, nbytes, ir.IntType(1)(0)])
