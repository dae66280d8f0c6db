"""The tables from NumPy's functions to graphc's, and the one way they are called."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import GraphcError, SymbolicDimError, TraceError
from graphc.trace.source import here, line_text, located

FUNCTIONS: dict[Callable, Callable] = {}  # NumPy function -> handler(context, *args, **kwargs)
UFUNCS: dict[np.ufunc, Callable] = {}  # ufunc -> rule(*nodes of the resolved dtypes) -> node(s)

# NumPy functions whose result has a size that depends on the data.
DATA_DEPENDENT = frozenset({
    "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values", "nonzero",
    "flatnonzero", "argwhere", "intersect1d", "union1d", "setdiff1d",
    "setxor1d", "trim_zeros",
})  # fmt: skip

# What to write for functions that are not supported, where NumPy has it another way.
INSTEAD = {
    "apply_over_axes": "the function with a tuple as axis",
    "vectorize": "the function on the whole array, or gc.vmap of it",
    "polyfit": "np.linalg.lstsq(np.vander(x, degree + 1), y)[0]",
    "save": "np.save(file, f(x)) outside: return the value",
    "savez": "np.savez(file, f(x)) outside: return the value",
    "savez_compressed": "np.savez_compressed(file, f(x)) outside: return the value",
    "savetxt": "np.savetxt(file, f(x)) outside: return the value",
    "array_str": "gc.debug_print(x), which prints its values after the call",
    "array_repr": "gc.debug_print(x), which prints its values after the call",
    "array2string": "gc.debug_print(x), which prints its values after the call",
    "eig": "np.linalg.eigh for a symmetric matrix; eigenvalues of a general one are complex",
    "eigvals": "np.linalg.eigvalsh for a symmetric matrix; those of a general one are complex",
}


_SIMILAR = 0.75
_UNLIKE = frozenset({"sort", "median", "isin", "iscomplex"})  # not like what they look like


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
    handler = FUNCTIONS.get(function) or _special(function)
    if handler is None:
        raise TraceError(located(_unsupported(function)))
    accepted = _accepted(handler)
    unknown = [k for k in kwargs if k not in accepted and "**" not in accepted]
    if unknown and all(kwargs[k] is None or kwargs[k] is np._NoValue for k in unknown):
        kwargs = {k: v for k, v in kwargs.items() if k not in unknown}
    elif unknown:
        message = f"{public_name(function)}: the argument `{unknown[0]}` is not supported"
        raise TraceError(located(message + " on traced values"))
    with Located():
        return handler(context, *args, **kwargs)


_specials: dict[Callable, Callable] = {}  # ufuncs of scipy.special that were met


def _special(function: Callable) -> Callable | None:
    if function not in _specials:
        from graphc.trace.elementwise import special_handler

        handler = special_handler(function)
        if handler is None:
            return None
        _specials[function] = handler
    return _specials[function]


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
        parameters = inspect.signature(handler).parameters
        any_name = ["**"] if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else []
        _parameters[handler] = frozenset([*parameters, *any_name])
    return _parameters[handler]


def public_name(function: Callable) -> str:
    """``np.linalg.norm`` for that function, and so on."""
    name = getattr(function, "__name__", str(function))
    if isinstance(function, np.ufunc) and getattr(np, name, None) is not function:
        from graphc.trace.special import is_special

        return f"scipy.special.{name}" if is_special(function) else f"the ufunc {name}"
    module = getattr(function, "__module__", None) or "numpy"
    prefix = module.replace("numpy", "np", 1) if module.startswith("numpy.") else "np"
    if "._" in prefix:
        prefix = "np.lib.stride_tricks" if "stride_tricks" in prefix else "np"
    return f"{prefix}.{name}"


def _unsupported(function: Callable) -> str:
    name = public_name(function)
    short = name.rsplit(".", 1)[-1]
    if short in DATA_DEPENDENT:
        if short == "trim_zeros" and "poly1d" in _line():
            return "np.poly1d drops zeros that only the data knows.\nWrite np.polyval(p, x)."
        return (
            f"{name}: the size of its result depends on the data, which a static graph cannot "
            "hold.\nUse np.where(condition, x, fill) with a fixed size, or call it outside the "
            "traced function\nand pass the result as an argument."
        )
    if short in INSTEAD and name.startswith("np."):
        return f"{name} is not supported on traced values.\nWrite {INSTEAD[short]}."
    if name.endswith("(vectorized)"):
        return (
            f"{name} calls Python for each element, with traced values for numbers.\n"
            "Call the function on whole arrays, or write gc.vmap(function)(x)."
        )
    close = nearest(name)
    if close:
        return f"{name} is not supported on traced values; nearest supported: {close}"
    return (
        f"{name} is not supported on traced values yet.\n"
        "Call it outside the traced function and pass the result as an argument."
    )


def _line() -> str:
    source = here()
    return "" if source is None else line_text(source)


def nearest(name: str) -> str:
    """The supported names of the same module that are much like ``name``, empty if none is."""
    prefix, _, short = name.rpartition(".")
    if short in _UNLIKE:
        return ""
    known = {public_name(f).rpartition(".") for f in (*FUNCTIONS, *UFUNCS)}
    names = sorted(last for first, _, last in known if first == prefix)
    if prefix == "scipy.special":
        names = sorted(_special_names())
    close = difflib.get_close_matches(short, names, n=3, cutoff=_SIMILAR)
    close += [n for n in names if short == f"nan{n}" and n not in close]
    return ", ".join(f"{prefix}.{c}" for c in close)


def _special_names():
    from graphc.trace.special import RULES

    return RULES
