"""Put object code into this process with llvmlite alone: no compiler is imported."""

from __future__ import annotations

import ctypes

from graphc import forks
from graphc.runtime import blas, scipy_calls
from graphc.runtime.once import once

_lock = forks.lock()
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class NativeFunction:
    """``graphc_main`` of one artifact. ``address`` is its C pointer; ``call`` drops the GIL."""

    @forks.waited_for()
    def __init__(self, object_code: bytes):
        # Before the lock: who makes something once loads code, with the lock of `once`.
        llvm, target, entry = _llvm()
        if any(symbol.encode() in object_code for symbol in blas.SYMBOLS):
            _add_blas()
        for name in scipy_calls.called_by(object_code):
            llvm.add_symbol(name, scipy_calls.address(name))
        with _lock:
            module = llvm.parse_assembly("")
            machine = target.create_target_machine()
            self._engine = llvm.create_mcjit_compiler(module, machine)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
            self._engine.finalize_object()
            self.address = self._engine.get_function_address(entry)
        self.call = _SIGNATURE(self.address)


@once
def _llvm():
    """llvmlite's binding; the target; the name of the entry."""
    import llvmlite.binding as llvm

    from graphc.codegen.llvm_backend import ENTRY, target

    return llvm, target(), ENTRY


@once
def _add_blas() -> None:
    """Make graphc's BLAS known to LLVM. It is large: loaded for programs that call it only."""
    llvm, _, _ = _llvm()
    for name, address in blas.load().items():
        llvm.add_symbol(name, address)
