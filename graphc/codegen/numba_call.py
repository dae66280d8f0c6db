"""Compiled functions inside a user's own ``@njit``: a Numba overload that calls the C function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload
from numba.np import numpy_support

_kept: list[Any] = []  # compiled code holds addresses: what they point to lives on


class Rank:
    """Stands for an array argument whose sizes Numba does not know."""

    def __init__(self, dtype: np.dtype, ndim: int):
        self.dtype, self.ndim = dtype, ndim


def numba_function(f: Callable, name: str, specialize: Callable[[list], Any]) -> Callable:
    """A function that Numba compiles to a call of ``specialize(examples)``, a CFunction."""

    def call(*args):
        return f(*args)

    call.__name__ = call.__qualname__ = name

    @overload(call, strict=False, prefer_literal=False)
    def typed(*args):
        if len(args) == 1 and isinstance(args[0], types.StarArgTuple | types.StarArgUniTuple):
            args = tuple(args[0])
        leaves: list[tuple[str, Any]] = []
        examples = [_example(kind, f"args[{k}]", leaves) for k, kind in enumerate(args)]
        try:
            target = specialize(examples)
        except Exception as error:
            raise TypingError(f"{name}: {error}") from error
        _kept.append(target)
        return _implementation(target, leaves)

    return call


def _example(kind, text: str, leaves: list) -> Any:
    """What the function is specialized for, for an argument of a Numba type."""
    if isinstance(kind, types.Literal):
        kind = kind.literal_type
    if isinstance(kind, types.BaseTuple):
        return tuple(_example(k, f"{text}[{i}]", leaves) for i, k in enumerate(kind))
    if isinstance(kind, types.Array):
        leaves.append((text, kind))
        return Rank(numpy_support.as_dtype(kind.dtype), kind.ndim)
    if isinstance(kind, types.Number | types.Boolean):
        leaves.append((text, kind))
        # Python's numbers and NumPy's are one type to Numba; the common ones are Python's.
        plain = {types.float64: 1.0, types.int64: 1, types.boolean: True}
        return plain[kind] if kind in plain else numpy_support.as_dtype(kind).type(1)
    raise TypingError(f"{text} is {kind}; arrays, numbers and tuples of them can be passed")


def _implementation(target, leaves: list[tuple[str, Any]]) -> Callable:
    """The body that Numba compiles: checks, memory for results, the call, the result."""
    lines, pointers = [], []
    scope: dict[str, Any] = {"np": np}
    parameters = target.parameters
    for k, (text, kind) in enumerate(leaves):
        parameter, value = parameters[k], text
        if isinstance(kind, types.Array):
            shape = parameter.type.shape
            message = (
                f"{target.name} was compiled for {parameter.name} of shape {shape}; "
                "inside Numba it serves the sizes of its last call from Python before"
            )
            lines += [f"if {text}.shape != {shape!r}:", f"    raise ValueError({message!r})"]
            if kind.layout != "C" or not kind.aligned:
                if parameter.role == "inout":
                    raise TypingError(f"{parameter.name} is donated and must be contiguous")
                value = f"np.ascontiguousarray({text})"
            if parameter.role == "inout" and not kind.mutable:
                raise TypingError(f"{parameter.name} is donated but read-only")
        lines.append(f"p{k} = {value}")
        pointers.append(f"p{k}")
    scalars = []
    for k in range(len(leaves), len(parameters)):
        shape, dtype = parameters[k].type.shape, parameters[k].type.dtype
        if shape:
            scope[f"dtype{k}"] = numpy_support.from_dtype(dtype)
            lines.append(f"p{k} = np.empty({shape!r}, dtype{k})")
            pointers.append(f"p{k}")
        else:
            scalars.append((k, numpy_support.from_dtype(dtype)))
    scope["invoke"] = _invoke(target, [kind for _, kind in scalars], _order(parameters, leaves))
    lines.append(f"made = invoke(({''.join(p + ', ' for p in pointers)}))")
    lines += [f"p{k} = made[{j}]" for j, (k, _) in enumerate(scalars, start=1)]
    message = f"{target.name}: an index is out of bounds"
    lines += ["if made[0] != 0:", f"    raise IndexError({message!r})"]
    lines.append(f"return {_result(target.structure, target.results)}")
    body = "\n    ".join(lines)
    exec(f"def implementation(*args):\n    {body}", scope)
    return scope["implementation"]


def _order(parameters, leaves) -> list[bool]:
    """For each parameter, whether it is passed (or is a scalar result, made by the call)."""
    return [k < len(leaves) or bool(p.type.shape) for k, p in enumerate(parameters)]


def _result(structure: Any, results) -> str:
    if isinstance(structure, int):
        return f"p{results[structure]}"
    if structure is None:
        return "None"
    if type(structure) is tuple:
        return f"({''.join(_result(s, results) + ', ' for s in structure)})"
    raise TypingError(
        f"the result holds a {type(structure).__name__}; for Numba return arrays, numbers and "
        "tuples of them"
    )


def _invoke(target, scalars: list, passed: list[bool]):
    """``invoke(pointers) -> (status, *scalars)``: an intrinsic that calls the C function."""
    result = types.Tuple([types.int32, *scalars])

    def emit(context, builder, sig, args):
        given = iter(zip(sig.args[0], cgutils.unpack_tuple(builder, args[0]), strict=True))
        byte = ir.IntType(8).as_pointer()
        pointers, slots = [], []
        kinds = iter(scalars)
        for is_passed in passed:
            if is_passed:
                kind, value = next(given)
                if isinstance(kind, types.Array):
                    place = context.make_array(kind)(context, builder, value).data
                else:
                    place = cgutils.alloca_once(builder, context.get_data_type(kind))
                    context.pack_value(builder, kind, value, place)
            else:
                kind = next(kinds)
                place = cgutils.alloca_once(builder, context.get_data_type(kind))
                slots.append((kind, place))
            pointers.append(builder.bitcast(place, byte))
        # An address of this process: Numba must not cache what holds it.
        address = context.add_dynamic_addr(builder, target.address, info=target.name)
        signature = ir.FunctionType(ir.IntType(32), [byte] * len(pointers))
        status = builder.call(builder.bitcast(address, signature.as_pointer()), pointers)
        values = [context.unpack_value(builder, kind, place) for kind, place in slots]
        return context.make_tuple(builder, sig.return_type, [status, *values])

    @intrinsic
    def invoke(typing_context, pointers):
        return result(pointers), emit

    return invoke
