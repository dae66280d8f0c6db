"""Check arguments and take their addresses natively: a fraction of a microsecond for all.

From Python each address, dtype and shape costs a few hundred nanoseconds, more than a small
kernel. This reads them where CPython and NumPy keep them (``PyArrayObject`` of NumPy's C API,
whose layout is public). The layout is tested once a process; where it differs the executor
goes the slow way.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from graphc.ir.types import TensorType
from graphc.runtime.support import support_function

_C_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400
_LIST_SIZE, _LIST_ITEMS = 16, 24  # offsets of ob_size and ob_item in PyListObject
_TYPE, _DATA, _NDIM, _DIMS, _DESCR, _FLAGS = 8, 16, 24, 32, 56, 64  # bytes into an object
_SCALAR_VALUE = 16  # offset of the value in a Python float and in NumPy's scalars

# Words of what is expected of an argument: type, dtype, number of axes, flags, type of a scalar
# that will do as well, bytes, then the sizes. Memory that is written belongs to one argument.
_HEAD = 6

_TEXT = f"""
def main(args, arena, ints):
    items = words_at(temporary_i64(arena, {_LIST_ITEMS})[0])
    expected = argument_i64(args, 0)
    table = argument_i64(args, 1)
    result = argument_i64(args, 2)
    result[0] = 0
    if temporary_i64(arena, {_LIST_SIZE})[0] != expected[0]:
        return
    at = 1
    for k in range(expected[0]):
        item = items[k]
        kind = words_at(item + {_TYPE})[0]
        ndim = expected[at + 2]
        if kind == expected[at]:
            good = words_at(item + {_DESCR})[0] == expected[at + 1]
            good = good & ((words_at(item + {_NDIM})[0] & 0xFFFFFFFF) == ndim)
            flags = expected[at + 3]
            good = good & ((words_at(item + {_FLAGS})[0] & flags) == flags)
            if good:
                sizes = words_at(words_at(item + {_DIMS})[0])
                for axis in range(ndim):
                    good = good & (sizes[axis] == expected[at + {_HEAD} + axis])
            if not good:
                return
            table[k] = words_at(item + {_DATA})[0]
        elif kind == expected[at + 4]:
            table[k] = item + {_SCALAR_VALUE}
        else:
            return
        at += {_HEAD} + ndim
    at = 1
    for k in range(expected[0]):
        if expected[at + 3] & {_WRITEABLE} != 0:
            first = table[k]
            end = first + expected[at + 5]
            other = 1
            for j in range(expected[0]):
                if j != k and table[j] < end and first < table[j] + expected[other + 5]:
                    return
                other += {_HEAD} + expected[other + 2]
        at += {_HEAD} + expected[at + 2]
    result[0] = 1
"""


@functools.cache
def reader():
    """The native reader as a ctypes function that keeps the GIL; None where layouts differ."""
    native = support_function("reader", _TEXT)
    words = [ctypes.c_void_p] * 3
    call = ctypes.PYFUNCTYPE(None, *words)(native.address)
    call.native = native  # keeps the code alive
    return call if _layout_is_known() and _works(call) else None


def _layout_is_known() -> bool:
    """CPython with the plain object header (not free-threaded, not a debug build)."""
    import sys
    import sysconfig

    plain = not sysconfig.get_config_var("Py_GIL_DISABLED") and not hasattr(sys, "gettotalrefcount")
    return sys.implementation.name == "cpython" and plain and ctypes.sizeof(ctypes.c_void_p) == 8


def _works(call) -> bool:
    array, number = np.arange(6, dtype=np.float32).reshape(2, 3), 2.5
    types = (TensorType(array.dtype, (2, 3)), TensorType(np.dtype(np.float64), ()))
    form = Form(types, weak=(False, True), written=())
    items = [array, number]
    form.read(call, items)
    value = ctypes.c_double.from_address(form.table[1] or id(number)).value
    return bool(form.result.value) and form.table[0] == array.ctypes.data and value == number


class Form:
    """What a binding expects of its arguments, and the table of addresses to fill."""

    def __init__(self, types, weak, written, extra: int = 0):
        """``types`` of inputs and new outputs have plain sizes; ``weak`` marks Python numbers;
        ``written`` are positions that must be writable; ``extra`` leaves room behind them."""
        words = [len(types)]
        for k, (kind, is_weak) in enumerate(zip(types, weak, strict=True)):
            flags = _C_CONTIGUOUS | _ALIGNED | (_WRITEABLE if k in written else 0)
            dtype = np.dtype(kind.dtype.name)  # the one object that plain arrays carry
            scalar = 0
            if not kind.shape and k not in written:
                scalar = id(float) if is_weak and dtype == np.float64 else 0
                scalar = id(dtype.type) if not is_weak and dtype.kind in "fiu" else scalar
            array_type = 1 if is_weak else id(np.ndarray)
            shape = kind.shape
            words += [array_type, id(dtype), len(shape), flags, scalar, kind.nbytes, *shape]
        self.expected = np.array(words, np.int64)
        self.table = (ctypes.c_void_p * max(len(types) + extra, 1))()
        self.result = ctypes.c_int64(0)
        self._args = (ctypes.c_void_p * 3)(
            self.expected.ctypes.data,
            ctypes.addressof(self.table),
            ctypes.addressof(self.result),
        )
        self._args_address = ctypes.addressof(self._args)

    def read(self, call, items: list) -> bool:
        """Fill the table from ``items``; False if one is not as expected."""
        call(self._args_address, id(items), None)
        return self.result.value != 0
