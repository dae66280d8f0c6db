"""NumPy's promotion, asked from NumPy itself."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from graphc.errors import DTypeError
from graphc.ir import build, faults
from graphc.ir.node import Node
from graphc.trace.dispatch import public_name
from graphc.trace.source import located

_PYTHON = {"i": int, "u": int, "f": float, "c": complex}
_SAMPLES = {"b": True, "i": 1, "u": 1, "f": 1.0, "c": 1j}


def promotion_key(value) -> np.dtype | type:
    """How a tracer enters promotion: its dtype, or a Python type if it is weak."""
    dtype = value.node.dtype
    return _PYTHON.get(dtype.kind, dtype) if value.weak else dtype


@lru_cache(maxsize=4096)
def resolve(ufunc: np.ufunc, operands: tuple, dtype: np.dtype | None = None) -> tuple:
    """The loop dtypes, inputs then outputs, that NumPy chooses for ``ufunc``."""
    options = {}
    if dtype is not None:
        options["signature"] = (None,) * ufunc.nin + (dtype,) * ufunc.nout
    try:
        return ufunc.resolve_dtypes((*operands, *(None,) * ufunc.nout), **options)
    except TypeError as error:
        names = ", ".join(getattr(o, "name", None) or f"Python {o.__name__}" for o in operands)
        reason = str(error).split("\n")[0]
        raise DTypeError(f"{public_name(ufunc)} does not take ({names}): {reason}") from None


def require_real(name: str, *values) -> None:
    """Refuse complex values where the function would need conjugates or real parts."""
    if any(v.dtype.kind == "c" for v in values):
        raise DTypeError(located(f"np.{name} of complex values is not supported"))


def common_dtype(*values) -> np.dtype:
    """``np.result_type`` of tracers, weak ones as Python numbers."""
    keys = [_SAMPLES[v.node.dtype.kind] if v.weak else v.node.dtype for v in values]
    return np.result_type(*keys)


def cast(node: Node, dtype) -> Node:
    """``node`` in ``dtype``; scalar constants and sizes are made in it outright."""
    dtype = np.dtype(dtype)
    if node.dtype == dtype:
        return node
    if node.op == "const" and node.ndim == 0:
        value = node.attr("value").array[()]
        if value.dtype.kind in "iu" and dtype.kind in "iu":
            return build.const(int(value), dtype)  # OverflowError as in NumPy
        with np.errstate(all="ignore"):
            return build.const(value.astype(dtype))
    if node.op == "size" and dtype.kind in "iuf":
        return build.size(node.attr("dim"), dtype)
    return build.cast(node, dtype)


def converted(tracer, dtype) -> Node:
    """A tracer's node in ``dtype``: of a Python int, OverflowError where it is out of bounds."""
    node, dtype = tracer.node, np.dtype(dtype)
    if not tracer.weak or node.dtype.kind != "i" or dtype.kind not in "iu" or node.op == "const":
        return cast(node, dtype)
    if node.op == "size" and dtype.itemsize > 2:
        return cast(node, dtype)
    reach = np.iinfo(dtype)
    tests = [("gt", reach.max)] if dtype.itemsize < 8 else []
    tests += [("lt", reach.min)] if dtype != np.int64 else []
    for test, limit in tests:
        bad = build.elementwise(test, node, build.full_like(node, limit))
        node = build.refusing(node, bad, faults.out_of_bounds(dtype), node)
    return cast(node, dtype)


def unknown_dtype(what: str, dtype: np.dtype, otherwise: str = "") -> str:
    """Of a value whose dtype is none of graphc's."""
    if dtype.kind not in "fc":
        return f"{what} has dtype {dtype}; encode it as numbers{otherwise}"
    name, plain = ("longdouble", "float64") if dtype.kind == "f" else ("clongdouble", "complex128")
    return (
        f"{what} has dtype {dtype} (np.{name}), in which graphc does not compute.\n"
        f"Convert it with .astype(np.{plain})."
    )
