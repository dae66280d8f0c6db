"""The tables from NumPy's functions to graphc's, and the one way they are called."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import GraphcError, SymbolicDimError, TraceError
from graphc.trace.source import located

FUNCTIONS: dict[Callable, Callable] = {}  # NumPy function -> handler(context, *args, **kwargs)
UFUNCS: dict[np.ufunc, Callable] = {}  # ufunc -> rule(*nodes of the resolved dtypes) -> node(s)

# NumPy functions whose result has a size that depends on the data.
DATA_DEPENDENT = frozenset({
    "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values", "nonzero",
    "flatnonzero", "argwhere", "compress", "extract", "intersect1d", "union1d", "setdiff1d",
    "setxor1d", "trim_zeros", "delete", "bincount", "histogram",
})  # fmt: skip


def implements(*functions: Callable | None):
    """Declare the handler of NumPy functions (None: absent from this NumPy)."""

    def register(handler):
        for function in functions:
            if function is not None:
                FUNCTIONS[function] = handler
        return handler

    return register


def call(function: Callable, context, args, kwargs) -> Any:
    """``function(*args, **kwargs)`` on traced values, by its handler."""
    handler = FUNCTIONS.get(function)
    if handler is None:
        raise TraceError(located(_unsupported(function)))
    unknown = [k for k in kwargs if k not in _accepted(handler)]
    if unknown and all(kwargs[k] is None or kwargs[k] is np._NoValue for k in unknown):
        kwargs = {k: v for k, v in kwargs.items() if k not in unknown}
    elif unknown:
        message = f"{public_name(function)}: the argument `{unknown[0]}` is not supported"
        raise TraceError(located(message + " on traced values"))
    with Located():
        return handler(context, *args, **kwargs)


class Located:
    """Adds the user's line to graphc errors raised inside; never swallows one."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if (
            isinstance(error, GraphcError)
            and not isinstance(error, SymbolicDimError)
            and "\n  at " not in str(error)
        ):
            error.args = (located(str(error)),)
        return False


_parameters: dict[Callable, frozenset[str]] = {}


def _accepted(handler) -> frozenset[str]:
    if handler not in _parameters:
        _parameters[handler] = frozenset(inspect.signature(handler).parameters)
    return _parameters[handler]


def public_name(function: Callable) -> str:
    """``np.linalg.norm`` for that function, and so on."""
    module = getattr(function, "__module__", None) or "numpy"
    prefix = module.replace("numpy", "np", 1) if module.startswith("numpy.") else "np"
    if "._" in prefix:
        prefix = "np.lib.stride_tricks" if "stride_tricks" in prefix else "np"
    return f"{prefix}.{getattr(function, '__name__', function)}"


def _unsupported(function: Callable) -> str:
    name = public_name(function)
    short = name.rsplit(".", 1)[-1]
    if short in DATA_DEPENDENT:
        return (
            f"{name}: the size of its result depends on the data, which a static graph cannot "
            "hold.\nUse np.where(condition, x, fill) with a fixed size, or call it outside the "
            "traced function\nand pass the result as an argument."
        )
    close = nearest(name)
    if close:
        return f"{name} is not supported on traced values; nearest supported: {close}"
    return (
        f"{name} is not supported on traced values, nor is a function of a similar name.\n"
        "Call it outside the traced function and pass the result as an argument."
    )


def nearest(name: str) -> str:
    """The supported NumPy names most like ``name``, empty if none is."""
    known = sorted({public_name(f) for f in (*FUNCTIONS, *UFUNCS)})
    short = name.rsplit(".", 1)[-1]
    by_short: dict[str, str] = {}
    for full in known:
        by_short.setdefault(full.rsplit(".", 1)[-1], full)
    close = difflib.get_close_matches(short, by_short, n=3, cutoff=0.6)
    close += [s for s in by_short if min(len(short), len(s)) > 2 and (short in s or s in short)]
    return ", ".join(dict.fromkeys(by_short[c] for c in close[:3]))
