"""A compiled program at fixed sizes as one plain C function: a pointer for each array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphc.codegen.llvm_backend import ENTRY
from graphc.ir.types import TensorType

_C_TYPES = {
    "float32": "float", "float64": "double", "bool": "bool",
    **{f"{u}int{b}": f"{u}int{b}_t" for u in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip


@dataclass(frozen=True)
class Pointer:
    """A parameter of the C function."""

    name: str
    type: TensorType  # of plain sizes
    role: str  # "in", "out", or "inout": an argument whose memory an output takes over

    @property
    def declaration(self) -> str:
        const = "const " if self.role == "in" else ""
        return f"{const}{_C_TYPES[self.type.dtype.name]} *{self.name}"


def header(name: str, pointers: Sequence[Pointer]) -> str:
    """The declaration for a C or C++ compiler, with the shapes as comments."""
    width = max((len(p.declaration) for p in pointers), default=0) + 1
    lines = []
    for k, p in enumerate(pointers, start=1):
        comma = "," if k < len(pointers) else ""
        shape = "x".join(map(str, p.type.shape)) or "one value"
        note = {"inout": ", overwritten with the result", "out": ", result"}.get(p.role, "")
        lines.append(f"    {p.declaration + comma:{width}} /* {shape}{note} */")
    parameters = "\n".join(lines) or "    void"
    return (
        "#include <stdbool.h>\n#include <stdint.h>\n\n"
        "/* Arrays are contiguous, in row-major order. Returns 0; the number of the check of an\n"
        "   index that failed; -1 without memory. Any number of threads may call it at once. */\n"
        f"int {name}(\n{parameters}\n);\n"
    )


@dataclass(frozen=True)
class Memory:
    """What the C function brings along: addresses of the program, of its constants, of the words
    of ``ints`` (copied for each call), of malloc and free; bytes of its arena."""

    program: int
    constants: tuple[int, ...]
    words: np.ndarray
    arena: int
    malloc: int
    free: int


def wrapper(places: Sequence[int], size: int, memory: Memory) -> str:
    """LLVM text of the C function. Parameter k goes to place ``places[k]`` of the table of ``size``
    pointers, which ends with the constants.

    One arena is kept for the next call. Who finds it taken (by another thread) allocates another:
    taking and giving back are single atomic exchanges.
    """
    first = size - len(memory.constants)
    count = len(memory.words)
    values = ", ".join(f"i64 {int(w)}" for w in memory.words)
    stored = [(place, f"%p{k}") for k, place in enumerate(places)]
    stored += [
        (first + k, f"inttoptr (i64 {address} to ptr)")
        for k, address in enumerate(memory.constants)
    ]
    table = [
        line
        for place, value in stored
        for line in (
            f"  %t{place} = getelementptr ptr, ptr %table, i64 {place}",
            f"  store ptr {value}, ptr %t{place}",
        )
    ]
    parameters = ", ".join(f"ptr %p{k}" for k in range(len(places)))
    return "\n".join([
        "@kept = internal global i64 0, align 8",
        f"@words = internal constant [{count} x i64] [{values}], align 8",
        "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
        f"define i32 @{ENTRY}({parameters}) {{",
        "entry:",
        f"  %table = alloca [{max(size, 1)} x ptr], align 8",
        f"  %ints = alloca [{count} x i64], align 8",
        *table,
        f"  call void @llvm.memcpy.p0.p0.i64(ptr %ints, ptr @words, i64 {8 * count}, i1 false)",
        "  %found = atomicrmw xchg ptr @kept, i64 0 acq_rel",
        "  %none = icmp eq i64 %found, 0",
        "  br i1 %none, label %allocate, label %run",
        "allocate:",
        f"  %made = call i64 inttoptr (i64 {memory.malloc} to ptr)(i64 {memory.arena + 64})",
        "  %failed = icmp eq i64 %made, 0",
        "  br i1 %failed, label %without, label %run",
        "without:",
        "  ret i32 -1",
        "run:",
        "  %raw = phi i64 [ %found, %entry ], [ %made, %allocate ]",
        "  %above = add i64 %raw, 63",
        "  %aligned = and i64 %above, -64",
        "  %arena = inttoptr i64 %aligned to ptr",
        f"  call void inttoptr (i64 {memory.program} to ptr)(ptr %table, ptr %arena, ptr %ints)",
        "  %status = load i64, ptr %ints",
        "  %code = trunc i64 %status to i32",
        "  %other = atomicrmw xchg ptr @kept, i64 %raw acq_rel",
        "  %alone = icmp eq i64 %other, 0",
        "  br i1 %alone, label %done, label %spare",
        "spare:",
        f"  call void inttoptr (i64 {memory.free} to ptr)(i64 %other)",
        "  br label %done",
        "done:",
        "  ret i32 %code",
        "}",
    ])  # fmt: skip
