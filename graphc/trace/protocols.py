"""Operators, ``__array_ufunc__`` and ``__array_function__``, in terms of the dispatch tables."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from graphc.errors import DTypeError, ShapeError, TraceError
from graphc.functions import positional_names
from graphc.trace import blame, dispatch
from graphc.trace.dtypes import cast
from graphc.trace.source import located, output_text
from graphc.wording import shape_text

_LOGICAL = frozenset({np.bitwise_and, np.bitwise_or, np.bitwise_xor})
_LOGICAL |= {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal}
_DEFAULTS = {"casting": "same_kind", "order": "K", "subok": True}


def operator(ufunc: np.ufunc, context, operands) -> Any:
    """A Python operator: Python numbers among themselves stay Python numbers."""
    operands = tuple(context.lift(o) for o in operands)
    if ufunc is np.power and _is_square_of_bools(*operands):
        operands = tuple(context.wrap(cast(o.node, np.int8)) for o in operands)
    if not all(o.weak for o in operands):
        return dispatch.call(ufunc, context, operands, {})
    result = dispatch.call(ufunc, context, _as_python(ufunc, operands), {})
    for r in result if isinstance(result, tuple) else (result,):
        r.weak = True
    return result


def _is_square_of_bools(x, y) -> bool:
    """``mask ** 2`` is np.square(mask), int8, though np.power(mask, 2) is int64."""
    if x.dtype != bool or not x.ndim or not y.weak or y.dtype.kind != "i":
        return False
    exponent = blame.constant_value(y.node)
    return exponent is not None and int(exponent) == 2


def _as_python(ufunc: np.ufunc, operands) -> tuple:
    """Python numbers where Python and NumPy differ: True + True is 2, 2 ** -1 is 0.5."""
    kinds = {o.dtype.kind for o in operands}
    if kinds == {"b"} and ufunc not in _LOGICAL:
        operands = tuple(o.astype(np.int64) for o in operands)
    if ufunc is np.power and kinds <= {"b", "i"}:
        exponent = blame.constant_value(operands[1].node)
        if exponent is not None and exponent < 0:
            operands = tuple(o.astype(np.float64) for o in operands)
    return operands


def inplace(ufunc: np.ufunc, context, target, other) -> Any:
    """``target op= other``: the same array with new elements; numbers are rebound instead."""
    result = operator(ufunc, context, (target, other))
    if target.weak or not (target.ndim or target.is_view):
        return result
    assign(target, result, f"np.{ufunc.__name__}")
    return target


def assign(target, result, name: str) -> None:
    """Write ``result`` into ``target`` under NumPy's rules for output arguments."""
    if result.shape != target.shape:
        raise ShapeError(
            located(
                f"in-place {name}: the result has shape {shape_text(result.shape)}, "
                f"the array it goes into {shape_text(target.shape)}"
            )
        )
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        raise _wrong_dtype(name, result, target)
    target.assign(cast(result.node, target.dtype))


def _wrong_dtype(name: str, result, target) -> DTypeError:
    return DTypeError(
        located(
            f"in-place {name}: the result is {result.dtype} and cannot go into an array of "
            f"{target.dtype}; write x = x ... to make a new array"
        )
    )


def array_ufunc(ufunc: np.ufunc, method: str, inputs, kwargs) -> Any:
    """``Tracer.__array_ufunc__``."""
    out = kwargs.pop("out", None)
    context = _context(*inputs, out)
    if method == "__call__":
        chosen = kwargs.pop("where", True)
        for name in [n for n in _DEFAULTS if n in kwargs]:
            value = kwargs.pop(name)
            if value is not _DEFAULTS[name] and value != _DEFAULTS[name]:
                raise TraceError(
                    located(
                        f"{dispatch.public_name(ufunc)}: the argument `{name}` is not supported "
                        "here"
                    )
                )
        result = dispatch.call(ufunc, context, inputs, kwargs)
        if chosen is not True:
            result = _chosen(ufunc, result, chosen, out)
    elif method == "outer" and ufunc.nin == 2:
        a, b = (context.wrap(context.lift(i).node) for i in inputs)  # NumPy makes arrays of both
        a = a.reshape((*a.shape, *(1,) * b.ndim))
        result = dispatch.call(ufunc, context, (a, b), kwargs)
    elif ufunc.nout == 1 and (ufunc.nin == 2 or method == "at"):
        with dispatch.Located():
            result = getattr(_methods(), method)(ufunc, context, *inputs, **kwargs)
        if method == "at":
            return None
    else:
        name = dispatch.public_name(ufunc)
        raise TraceError(located(f"{name}.{method} is not supported on traced values"))
    return result if out is None else _store(ufunc, result, out)


def _methods():
    from graphc.trace import ufunc_methods  # which is made of functions that dispatch here

    return ufunc_methods


def _chosen(ufunc, result, where, out):
    """``where=``: elsewhere the array given as ``out`` keeps its values."""
    outs = out if isinstance(out, tuple) else (out,)
    if any(o is None for o in outs):
        raise TraceError(
            located(
                f"{dispatch.public_name(ufunc)} with where= leaves other elements undefined without"
                " out=.\nWrite np.where(condition, result, other)."
            )
        )
    results = result if isinstance(result, tuple) else (result,)
    kept = tuple(np.where(where, _into(ufunc, r, o), o) for r, o in zip(results, outs, strict=True))
    return kept if isinstance(result, tuple) else kept[0]


def _into(ufunc, result, target):
    """``result`` in the dtype of the array that takes it, where NumPy's rules let it go there."""
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        raise _wrong_dtype(f"np.{ufunc.__name__}", result, target)
    return result.astype(target.dtype)


def _store(ufunc, result, out):
    outs = out if isinstance(out, tuple) else (out,)
    results = result if isinstance(result, tuple) else (result,)
    for target, value in zip(outs, results, strict=True):
        if target is None:
            continue
        if isinstance(target, np.ndarray):
            raise blame.plain_output(output_text())
        wide = value.shape != target.shape and _fits(value.shape, target.shape)
        value = np.broadcast_to(value, target.shape) if wide else value
        assign(target, value, f"np.{ufunc.__name__}")
    stored = tuple(v if t is None else t for t, v in zip(outs, results, strict=True))
    return stored if isinstance(result, tuple) else stored[0]


def _fits(shape, target) -> bool:
    """Whether NumPy broadcasts a result of ``shape`` over the array given as ``out``."""
    behind = target[len(target) - len(shape) :] if shape else ()
    pairs = zip(shape, behind, strict=False)
    return len(shape) <= len(target) and all(d in (1, e) for d, e in pairs)


def array_function(function, args, kwargs) -> Any:
    """``Tracer.__array_function__``."""
    return with_out(function, _context(args, kwargs), args, kwargs)


def with_out(function, context, args, kwargs):
    """``function(*args, **kwargs)``, written into ``out`` where that is given."""
    place, names = _from_out_on(function)
    if names and len(args) > place:
        kwargs = {**kwargs, **dict(zip(names, args[place:], strict=False))}
        args = args[:place]
    if "out" not in kwargs:
        return dispatch.call(function, context, args, kwargs)
    out = kwargs.pop("out")
    if isinstance(out, np.ndarray):
        raise blame.plain_output(output_text())
    result = dispatch.call(function, context, args, kwargs)
    if out is None:
        return result
    assign(out, result, dispatch.public_name(function))
    return out


@functools.cache
def _from_out_on(function) -> tuple[int, list[str]]:
    """The position of ``out``, and the names of it and what can be given behind it; of functions
    without it none."""
    names = positional_names(function)
    place = names.index("out") if "out" in names else len(names)
    return place, names[place:]


def _context(*values):
    from graphc.trace.context import active_trace, current_trace

    found = current_trace(*values)
    return active_trace() if found is None else found  # sizes belong to the trace that runs
