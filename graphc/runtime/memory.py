"""Memory of large results, used again once nobody holds it.

Memory fresh from the operating system costs a fault for every page: for results of tens of
megabytes as much as a kernel of exponentials. An array of NumPy carries the allocator that its
memory came from (NEP 49) and gives it back there when it, its views and everything else that
refers to it are gone. Large results come from an allocator that keeps what it gets back, up to
``GRAPHC_KEPT_BYTES`` (default 256 MiB; 0: nothing), for the next result of the same size.

The allocator is NumPy's own with a list of blocks in front. Like NumPy's list of small blocks it
is only entered with the GIL held. Its blocks begin on a cache line: vectors written across two cost
Black-Scholes, which writes six arrays, an eighth of its time.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence

import numpy as np

from graphc.runtime.once import once
from graphc.runtime.support import word_function

LARGE = 1 << 20  # bytes of a result from which pages cost more than asking the list
_SLOTS = 64
# The words of the list, then the address and size of each block kept.
_TAKE, _GIVE, _SELF, _KEPT, _LIMIT, _NEXT, _MADE, _FIRST = range(8)
_PAGE, _LINE = 4096, 64  # bytes; vectors that are written should not lie across two lines
_HEAD = 16  # before a block: where its memory begins, and the size asked for
# Results that are written together must not all share the sets of a cache: large ones begin so
# many lines further into a page than the one before.
_APART, _PLACES = 5, 12
APART = _APART * _LINE

_TAKE_TEXT = f"""
def take(context, size):
    h = words_at(context)
    line = {_LINE}
    place = 0
    if size >= {LARGE}:
        for k in range({_SLOTS}):
            at = {_FIRST} + 2 * k
            if h[at + 1] == size and h[at] != 0:
                block = h[at]
                h[at] = 0
                h[at + 1] = 0
                h[{_KEPT}] -= size
                return block
        line = {_PAGE}
        place = {_APART * _LINE} * (h[{_MADE}] % {_PLACES})
        h[{_MADE}] += 1
    raw = c_call2(h[{_TAKE}], h[{_SELF}], size + {_HEAD} + line + place)
    if raw == 0:
        return 0
    block = (raw + {_HEAD} + line - 1) // line * line + place
    head = words_at(block - {_HEAD})
    head[0] = raw
    head[1] = size
    return block
"""

# The oldest blocks make room for the newest.
_GIVE_TEXT = f"""
def free(context, block):
    h = words_at(context)
    head = words_at(block - {_HEAD})
    raw = head[0]
    return c_call3(h[{_GIVE}], h[{_SELF}], raw, head[1] + block - raw)

def give(context, block, nbytes):
    h = words_at(context)
    if block == 0:
        return 0
    head = words_at(block - {_HEAD})
    size = head[1]
    if size < {LARGE} or size > h[{_LIMIT}]:
        return free(context, block)
    at = {_FIRST} + 2 * h[{_NEXT}]
    for k in range({_SLOTS}):
        old = {_FIRST} + 2 * ((h[{_NEXT}] + k) % {_SLOTS})
        if h[old] != 0 and (old == at or h[{_KEPT}] + size > h[{_LIMIT}]):
            h[{_KEPT}] -= h[old + 1]
            free(context, h[old])
            h[old] = 0
            h[old + 1] = 0
    h[at] = block
    h[at + 1] = size
    h[{_KEPT}] += size
    h[{_NEXT}] = (h[{_NEXT}] + 1) % {_SLOTS}
    return 0
"""


class _Handler(ctypes.Structure):
    """PyDataMem_Handler."""

    _fields_ = (
        ("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p), ("calloc", ctypes.c_void_p), ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )  # fmt: skip


_Take = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_Give = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_Clear = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_Resize = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def _cleared(take: int):
    """``calloc``, which arrays of graphc's results are never made with."""

    def clear(context, count, size):
        block = _Take(take)(context, count * size)
        if block:
            ctypes.memset(block, 0, count * size)
        return block

    return _Clear(clear)


def _resized(take: int, give: int):
    """``realloc``, for ``ndarray.resize``."""

    def resize(context, block, size):
        new = _Take(take)(context, size)
        if new and block:
            _, before = (ctypes.c_int64 * 2).from_address(block - _HEAD)
            ctypes.memmove(new, block, min(before, size))
            _Give(give)(context, block, size)
        return new

    return _Resize(resize)


def _address(function) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value


_CAPSULE = b"mem_handler"
_NUMPY_ABI = 0x02000000
SET_HANDLER, _DEFAULT_HANDLER = 304, 306  # in NumPy's C interface


def array_interface():
    """The table of NumPy's C interface."""
    from numpy._core import _multiarray_umath

    read = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ctypes.cast(ctypes.pythonapi.PyCapsule_GetPointer, ctypes.c_void_p).value
    )
    return ctypes.cast(read(_multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))


class _Kept:
    """The allocator, and the blocks that it keeps. Arrays may outlive everything else of graphc:
    it is never freed."""

    def __init__(self, table, limit: int):
        pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
            ctypes.cast(ctypes.pythonapi.PyCapsule_GetPointer, ctypes.c_void_p).value
        )
        default = ctypes.cast(table[_DEFAULT_HANDLER], ctypes.POINTER(ctypes.py_object))[0]
        numpy_own = _Handler.from_address(pointer(default, _CAPSULE))
        if numpy_own.name != b"default_allocator" or numpy_own.version != 1:
            raise ValueError
        self.words = np.zeros(_FIRST + 2 * _SLOTS, np.int64)
        self.words[_TAKE], self.words[_GIVE] = numpy_own.malloc, numpy_own.free
        self.words[_SELF], self.words[_LIMIT] = numpy_own.context or 0, limit
        self._native = [word_function("take", _TAKE_TEXT), word_function("give", _GIVE_TEXT)]
        take, give = (f.address for f in self._native)
        self._seldom = _cleared(take), _resized(take, give)
        self._handler = _Handler(
            b"graphc", 1, self.words.ctypes.data, take, *map(_address, self._seldom), give
        )
        new = ctypes.PYFUNCTYPE(
            ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
        )(ctypes.cast(ctypes.pythonapi.PyCapsule_New, ctypes.c_void_p).value)
        self.capsule = new(ctypes.addressof(self._handler), _CAPSULE, None)
        self._set = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def empty(self, shapes: Sequence[tuple[tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
        before = self._set(self.capsule)
        try:
            return [np.empty(shape, dtype) for shape, dtype in shapes]
        finally:
            self._set(before)


@once
def _kept() -> _Kept | None:
    """None where there is nothing to keep, or NumPy is another than the one known."""
    limit = int(os.environ.get("GRAPHC_KEPT_BYTES", 256 << 20))
    try:
        table = array_interface()
        if limit < LARGE or ctypes.PYFUNCTYPE(ctypes.c_uint)(table[0])() != _NUMPY_ABI:
            return None
        return _Kept(table, limit)
    except (ImportError, AttributeError, ValueError):
        return None


def kept_bytes() -> int:
    """Bytes kept for results to come."""
    kept = _kept()
    return int(kept.words[_KEPT]) if kept is not None else 0


def allocator(shapes: Sequence[tuple[tuple[int, ...], np.dtype]]) -> _Kept | None:
    """Of arrays that are made together: the allocator for large ones, if one is."""
    if all(math.prod(shape) * dtype.itemsize < LARGE for shape, dtype in shapes):
        return None
    return _kept()


def empty(shapes: Sequence[tuple[tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
    """Arrays that are made together; memory of large ones may have been used before."""
    kept = allocator(shapes)
    if kept is not None:
        return kept.empty(shapes)
    return [np.empty(shape, dtype) for shape, dtype in shapes]
