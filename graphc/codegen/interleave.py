"""Loops of long bodies run several vectors side by side.

A processor looks some hundred instructions ahead. The chain of a long body is longer than that, so
the body waits for itself while the next step could have begun. With several vectors in one step
their chains overlap (measured: power in float64 1.3x, Black-Scholes with its gradient 1.35x).
There are no registers left for constants then; operands from memory cost nothing.
"""

from __future__ import annotations

from llvmlite import ir

from graphc.codegen.loop_wishes import ask_of_loop, is_asked

_ARITHMETIC = {
    "fadd", "fsub", "fmul", "fdiv", "fneg", "fcmp", "icmp", "select", "call", "and", "or", "xor",
    "add", "sub", "shl", "lshr",
}  # fmt: skip
# Operations of a body from which so many vectors run side by side; LLVM takes powers of 2 only.
_COUNTS = ((120, 4), (60, 2))


def interleave_long_bodies(function: ir.Function) -> None:
    """Ask for it (LLVM's ``llvm.loop.interleave.count``) in the innermost loops of ``function``."""
    loops = [(latch, header, _body(latch, header)) for latch, header in _back_edges(function)]
    for latch, header, body in loops:
        if any(h in body and h is not header for _, h, _ in loops):
            continue  # another loop is within
        if is_asked(latch):
            continue
        size = sum(
            i.opname in _ARITHMETIC and not isinstance(i.type, ir.VectorType)
            for block in body
            for i in block.instructions
        )  # what is written as vectors is no business of the vectoriser
        count = next((count for least, count in _COUNTS if size >= least), None)
        if count:
            ask_of_loop(latch, ("llvm.loop.interleave.count", ir.IntType(32)(count)))


def _successors(block: ir.Block) -> list[ir.Block]:
    end = block.terminator
    return [] if end is None else [o for o in end.operands if isinstance(o, ir.Block)]


def _back_edges(function: ir.Function) -> list[tuple[ir.Block, ir.Block]]:
    """(latch, header) of each loop: edges to a block of the way that a depth-first walk is on."""
    if function.is_declaration:
        return []
    entry = function.entry_basic_block
    found, seen, way = [], {entry}, {entry: None}
    stack = [(entry, iter(_successors(entry)))]
    while stack:
        block, rest = stack[-1]
        following = next(rest, None)
        if following is None:
            stack.pop()
            del way[block]
        elif following in way:
            found.append((block, following))
        elif following not in seen:
            seen.add(following)
            way[following] = None
            stack.append((following, iter(_successors(following))))
    return found


def _body(latch: ir.Block, header: ir.Block) -> list[ir.Block]:
    """The blocks from which ``latch`` is reached without passing ``header``, and ``header``."""
    before: dict[ir.Block, list[ir.Block]] = {}
    for block in latch.function.blocks:
        for following in _successors(block):
            before.setdefault(following, []).append(block)
    body, waiting = {header: None}, [latch]
    while waiting:
        block = waiting.pop()
        if block not in body:
            body[block] = None
            waiting += before.get(block, ())
    return list(body)
