"""What LLVM is asked to do with a loop.

A width is worth 1.1 to 1.3 times the rate for loops of 16 elements of float32, of which LLVM would
make two vectors, and nothing for 4 and 8.
"""

from __future__ import annotations

from llvmlite import ir


def ask_of_loop(latch: ir.Block, *wishes: tuple) -> None:
    """Metadata (``llvm.loop...``) of the loop that ends in the block ``latch``."""
    module = latch.function.module
    nodes = [module.add_metadata(list(wish)) for wish in wishes]
    own = module.add_metadata([f"loop {latch.name}", *nodes])
    own.operands = [own, *nodes]  # a node that holds itself belongs to one loop
    latch.terminator.set_metadata("llvm.loop", own)


def is_asked(latch: ir.Block) -> bool:
    return "llvm.loop" in latch.terminator.metadata
