"""Twins of the NumPy functions that NumPy cannot hand to a tracer.

``np.array([a, b])`` of traced values and ``buf = np.zeros(n); buf[0] = a`` ask for plain memory.
The functions here take the same arguments, work on traced values inside a traced function, and
are NumPy's own outside one, so the function also runs untraced.

>>> import graphc.numpy as gnp
>>> gnp.array([1.0, 2.0])
array([1., 2.])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import no_attribute
from graphc.trace import creation, numpy_api  # noqa: F401  (fills the dispatch tables)
from graphc.trace.context import active_trace, any_tracer, current_trace
from graphc.trace.dtypes import cast
from graphc.trace.shaping import dims_of

__all__ = [
    "arange",
    "array",
    "asarray",
    "empty",
    "eye",
    "full",
    "full_like",
    "identity",
    "linspace",
    "ones",
    "ones_like",
    "stack",
    "zeros",
    "zeros_like",
]


def __getattr__(name: str):
    hint = "only twins are here" if not hasattr(np, name) else f"write np.{name}, which traces"
    raise no_attribute(__name__, name, hint)


def __dir__() -> list[str]:
    return __all__


def _context(*values: Any):
    """The trace of ``values``, else the one that is running."""
    found = current_trace(*(v for v in values if any_tracer(v)))
    return active_trace() if found is None else found


def array(object: Any, dtype=None) -> Any:
    """``np.array`` of numbers, arrays and traced values, nested in lists."""
    context = _context(object)
    if context is None:
        return np.array(object, dtype)
    return creation.array(context, object, dtype)


def asarray(a: Any, dtype=None) -> Any:
    """``np.asarray``: a traced array is returned as it is, unless ``dtype`` differs."""
    context = _context(a)
    if context is None:
        return np.asarray(a, dtype)
    if isinstance(a, list | tuple):
        return creation.array(context, a, dtype)
    traced = context.lift(a)
    if dtype is None or traced.dtype == np.dtype(dtype):
        return traced if not traced.weak else context.wrap(traced.node)
    return context.wrap(cast(traced.node, dtype))


def stack(arrays: Any, axis: int = 0) -> Any:
    """``np.stack``."""
    return np.stack([asarray(a) for a in arrays], axis)


def full(shape: Any, fill_value: Any, dtype=None) -> Any:
    """``np.full``; the value may be traced and the shape may hold symbolic dimensions."""
    context = _context(fill_value)
    if context is None:
        return np.full(shape, fill_value, dtype)
    return creation.full(context, dims_of(shape), fill_value, dtype)


def zeros(shape: Any, dtype=float) -> Any:
    """``np.zeros``; the result takes traced values: ``buf[i] = x``."""
    return full(shape, 0, dtype)


def ones(shape: Any, dtype=float) -> Any:
    """``np.ones``."""
    return full(shape, 1, dtype)


def empty(shape: Any, dtype=float) -> Any:
    """``np.empty``, filled with zeros."""
    return full(shape, 0, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype=None) -> Any:
    """``np.arange``; ``arange(n)`` may count along a symbolic dimension."""
    context = _context(start, stop, step)
    if context is None:
        return (
            np.arange(0, start, 1, dtype) if stop is None else np.arange(start, stop, step, dtype)
        )
    return creation.arange(context, start, stop, step, dtype)


def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype=None) -> Any:
    """``np.linspace``."""
    context = _context(start, stop)
    if context is None:
        return np.linspace(start, stop, num, endpoint, dtype=dtype)
    if not any_tracer((start, stop)):
        return context.lift(np.linspace(start, stop, num, endpoint, dtype=dtype))
    return creation.linspace(context, start, stop, num, endpoint, dtype=dtype)


def eye(N: int, M: int | None = None, k: int = 0, dtype=float) -> Any:
    """``np.eye``."""
    context = _context()
    values = np.eye(N, M, k, dtype)
    return values if context is None else context.lift(values)


def identity(n: int, dtype=float) -> Any:
    """``np.identity``."""
    return eye(n, dtype=dtype)


def zeros_like(a: Any, dtype=None) -> Any:
    """``np.zeros_like``; inside a traced function the result takes traced values."""
    return full_like(a, 0, dtype)


def ones_like(a: Any, dtype=None) -> Any:
    """``np.ones_like``."""
    return full_like(a, 1, dtype)


def full_like(a: Any, fill_value: Any, dtype=None) -> Any:
    """``np.full_like``."""
    context = _context(a, fill_value)
    if context is None:
        return np.full_like(a, fill_value, dtype)
    return creation.full_like(context, a, fill_value, dtype)
