"""Put object code into this process with llvmlite alone: Numba is not imported."""

from __future__ import annotations

import ctypes
import functools
import threading

from graphc.runtime import blas

ENTRY = "graphc_main"  # the one function that object code exports
_lock = threading.Lock()
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class NativeFunction:
    """``graphc_main`` of one artifact. ``address`` is its C pointer; ``call`` drops the GIL."""

    def __init__(self, object_code: bytes):
        with _lock:
            llvm = _llvm()
            module = llvm.parse_assembly("")
            machine = llvm.Target.from_default_triple().create_target_machine()
            self._engine = llvm.create_mcjit_compiler(module, machine)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
            self._engine.finalize_object()
            self.address = self._engine.get_function_address(ENTRY)
        self.call = _SIGNATURE(self.address)


@functools.cache
def _llvm():
    import llvmlite.binding as llvm

    try:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    except RuntimeError:
        pass  # newer llvmlite initializes itself
    for name, address in blas.load().items():
        llvm.add_symbol(name, address)
    return llvm
