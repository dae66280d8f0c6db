"""What LLVM is asked to do with a loop.

A width is worth 1.1 to 1.3 times the rate for loops of 16 elements of float32, of which LLVM would
make two vectors, and nothing for 4 and 8.
"""

from __future__ import annotations

from llvmlite import ir

UNASKED_WIDTH = 8  # of the vectors that LLVM makes of loops so short without being asked


def ask_of_loop(latch: ir.Block, *wishes: tuple) -> None:
    """Metadata (``llvm.loop...``) of the loop that ends in the block ``latch``."""
    module = latch.function.module
    nodes = [module.add_metadata(list(wish)) for wish in wishes]
    own = module.add_metadata([f"loop {latch.name}", *nodes])
    own.operands = [own, *nodes]  # a node that holds itself belongs to one loop
    latch.terminator.set_metadata("llvm.loop", own)


def is_asked(latch: ir.Block) -> bool:
    return "llvm.loop" in latch.terminator.metadata


def is_straight(block: ir.Block) -> bool:
    """Whether nothing that ``block`` computes branches, also in what it calls. LLVM prints a remark
    to the standard error output where it cannot obey a width, and no option keeps it from that."""
    calls = (i.callee for i in block.instructions if isinstance(i, ir.CallInstr))
    return all(
        len(function.blocks) < 2 and all(is_straight(part) for part in function.blocks)
        for function in calls
        if isinstance(function, ir.Function)
    )
