"""Branch-free elementary functions that LLVM's loop vectoriser can vectorise.

LLVM brings no vector math library, so ``exp`` in a loop would be one scalar libm call an element
and keep the loop from being vectorised.  The functions here are straight-line arithmetic,
selects and bit operations: written into a loop body they vectorise for any SIMD target.

Every function is written once against a small operation set and runs on two backends:
:class:`LLVMOps` emits scalar LLVM instructions through an llvmlite ``IRBuilder`` and
:class:`NumpyOps` computes on arrays.  Importing this module does not import llvmlite.

Rules the formulas keep:

* ``v.fma`` is a *permission* to fuse (``llvm.fmuladd``); nothing depends on whether it does, and
  the NumPy backend never does.  Everything else is strict, so error-free transformations hold.
  Do not compile with ``fastmath``: it re-flags these instructions and breaks them.
* Integers and floats are exchanged with the "magic number" 1.5*2**(p-1) instead of fptosi/sitofp
  on 64-bit lanes, which only AVX-512 can vectorise; where ``v.converts`` says so, sitofp is there.
* What only a processor's vectors have (``v.estimates``) must end in the same bits as scalar code.
* NaN must survive every clamp: comparisons are ordered, and the select keeps ``x`` when they fail.

Polynomial coefficients are weighted minimax fits (Remez exchange in 60-digit arithmetic), the
low-order coefficients rounded to the target type one by one and the rest refitted each time.
"""

from graphc.vmath.arithmetic import divided
from graphc.vmath.functions import FUNCTIONS, Function, emit, evaluate
from graphc.vmath.llvm_ops import LLVMOps
from graphc.vmath.numpy_ops import NumpyOps
from graphc.vmath.values import Value

__all__ = [
    "FUNCTIONS",
    "Function",
    "LLVMOps",
    "NumpyOps",
    "Value",
    "divided",
    "emit",
    "evaluate",
]
