"""Addresses of SciPy's C functions, for object code that calls them.

``scipy.special.cython_special`` is SciPy's public interface for compiled code. As every Cython
module it keeps its functions in ``__pyx_capi__``: capsules whose names are their C signatures.
Object code knows them as ``graphc_scipy_<name>``; the address is looked up in each process.
"""

from __future__ import annotations

import ctypes
import functools
import re

from graphc.errors import GraphcError
from graphc.ir.scipy_functions import SCIPY_FUNCTIONS, SYMBOL, ScipyFunction, scipy_special

_BY_SYMBOL = {function.symbol: function for function in SCIPY_FUNCTIONS.values()}
_CALLED = re.compile(re.escape(SYMBOL.encode()) + rb"\w+")
_FUSED = re.compile(r"__pyx_fuse_[0-9_]*?[0-9]")


def called_by(object_code: bytes) -> list[str]:
    """The symbols of SciPy's functions in object code."""
    return sorted({name.decode() for name in _CALLED.findall(object_code)})


def _signature(function: ScipyFunction) -> str:
    numbers = ["double"] * function.arity
    if function.results > 1:
        return f"void ({', '.join([*numbers, *['double *'] * function.results])})"
    return f"double ({', '.join([*numbers, 'int __pyx_skip_dispatch'])})"


@functools.cache
def address(symbol: str) -> int:
    """Of the variant that takes doubles; GraphcError where this SciPy has none."""
    function = _BY_SYMBOL[symbol]
    capsules = scipy_special("scipy.special.cython_special").__pyx_capi__
    wanted = _signature(function).encode()
    for name, capsule in capsules.items():
        if _FUSED.sub("", name, count=1) == function.function and _name(capsule) == wanted:
            return _pointer(capsule, wanted)
    import scipy

    raise GraphcError(
        f"scipy.special.{function.function} of SciPy {scipy.__version__} has no C function of "
        "doubles.\nCall it outside of the compiled function, or install SciPy 1.15 or later."
    )


_api = ctypes.pythonapi
_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)
