"""graphc's own OpenBLAS: a private copy with the kernels that suit the processor.

The copy that NumPy ships picks its kernels by processor model and is conservative on new ones;
the choice can only be made before a library is loaded, so graphc loads one of its own.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path

from graphc.codegen.library import SYMBOLS
from graphc.errors import GraphcError
from graphc.runtime.once import once

_lib = None


def core_type(features: dict[str, bool]) -> str | None:
    """OpenBLAS core for CPU features (as LLVM names them); None leaves the choice to OpenBLAS."""
    if all(features.get(f"avx512{f}") for f in ("f", "bw", "dq", "vl")):
        return "SKYLAKEX"
    if features.get("avx2") and features.get("fma"):
        return "HASWELL"
    return None


def library_path() -> Path:
    """The shared library inside the scipy-openblas32 package, found without importing it
    (importing loads it, and then the core type can no longer be chosen)."""
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        raise GraphcError(
            "graphc needs the package scipy-openblas32 for matrix products; "
            "reinstall graphc or `python3 -m pip install scipy-openblas32`"
        )
    folder = Path(spec.origin).parent / "lib"
    for pattern in ("libscipy_openblas*.so*", "libscipy_openblas*.dylib", "*openblas*.dll"):
        for path in sorted(folder.glob(pattern)):
            return path
    raise GraphcError(f"no OpenBLAS library in {folder}; reinstall scipy-openblas32")


@once
def load() -> dict[str, int]:
    """Addresses of the products, from a library loaded once for this process."""
    global _lib
    import llvmlite.binding as llvm

    features = dict(llvm.get_host_cpu_features())
    chosen = {"OPENBLAS_NUM_THREADS": "1"}
    core = os.environ.get("GRAPHC_BLAS_CORE") or core_type(features)
    if core:
        chosen["OPENBLAS_CORETYPE"] = core
    saved = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        _lib = ctypes.CDLL(str(library_path()), mode=getattr(os, "RTLD_LOCAL", 0))
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return {s: ctypes.cast(getattr(_lib, s), ctypes.c_void_p).value for s in SYMBOLS}


def describe() -> str:
    """Version and core of the loaded library, for reports."""
    load()
    _lib.scipy_openblas_get_config.restype = ctypes.c_char_p
    _lib.scipy_openblas_get_corename.restype = ctypes.c_char_p
    config = _lib.scipy_openblas_get_config().decode()
    return f"{config.split(' DYNAMIC')[0]} core {_lib.scipy_openblas_get_corename().decode()}"
