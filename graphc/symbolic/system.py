"""Values and Jacobian of a system of equations, as one function with shared subexpressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy

from graphc.errors import SymbolicError
from graphc.ir import build
from graphc.symbolic.lower import Parameters, Steps, prepared
from graphc.symbolic.stable import derivative, stable
from graphc.trace.elementwise import fit_all
from graphc.trace.tracing import Tracer, current_trace


def value_and_jacobian(
    expressions: Sequence[Any],
    args: Sequence[Any] | None = None,
    wrt: Sequence[sympy.Symbol] | None = None,
    *,
    sparse: bool = False,
    name: str = "system",
) -> Callable:
    """A function that returns the values of a system and its Jacobian, SymPy's derivatives.

    Parameters
    ----------
    expressions : n expressions, a list or a column Matrix.
    args : the parameters of the function, as in :func:`from_sympy`.
    wrt : the symbols to differentiate by; without it all of ``args``, in order.
    sparse : return the entries that are not zero by structure, in the order of ``rows``, ``cols``.

    The function returns ``(values, jacobian)`` of shapes ``(n,)`` and ``(n, len(wrt))``, or
    ``(values, entries)``; for arrays the shape they broadcast to stands behind these. What values
    and derivatives have in common is computed once, and zeros of the structure are not computed.
    It is a traceable function: ``gc.compile`` makes one kernel of it, whatever n. Its attributes
    ``rows`` and ``cols`` are the pattern of the Jacobian, as for ``scipy.sparse.coo_array``.

    >>> import sympy, numpy as np
    >>> x, y = sympy.symbols("x y")
    >>> f = value_and_jacobian([x * y, sympy.sin(x)], args=[(x, y)])
    >>> f(np.array([0.0, 2.0]))
    (array([0., 0.]), array([[2., 0.],
           [1., 0.]]))
    >>> f.rows, f.cols
    (array([0, 0, 1]), array([0, 1, 0]))
    """
    listed = [stable(prepared(e)) for e in sympy.flatten(expressions)]
    parameters = Parameters(listed, args)
    by = parameters.symbols if wrt is None else list(wrt)
    unknown = [s for s in by if s not in set(parameters.symbols)]
    if unknown:
        raise SymbolicError(f"wrt has {', '.join(map(str, unknown))}, not among the arguments")
    entries = _entries(listed, by)
    steps = Steps()
    for symbol in parameters.symbols:
        steps.argument(symbol)
    parameters.check(listed)
    shared, reduced = sympy.cse([*listed, *entries.values()], order="none", list=True)
    for symbol, part in shared:
        steps.define(symbol, part)
    steps.outputs = [steps.add(e) for e in reduced]
    rows, cols = (np.array([key[k] for key in entries], int) for k in (0, 1))
    flat = rows * len(by) + cols
    shape = (len(listed), len(by))

    def function(*values, **named):
        scalars = parameters.split(values, named)
        found = steps.run(scalars)
        parts, slopes = found[: len(listed)], found[len(listed) :]
        count = len(slopes) if sparse else shape[0] * shape[1]
        places = np.arange(count) if sparse else flat
        values_made = _placed(parts, np.arange(len(parts)), len(parts), scalars)
        jacobian = _placed(slopes, places, count, scalars)
        if not sparse:
            jacobian = jacobian.reshape(*shape, *jacobian.shape[1:])
        return values_made, jacobian

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Values and Jacobian of {shape[0]} expressions in {shape[1]} symbols."
    function.__signature__ = parameters.signature
    function.rows, function.cols = rows, cols
    return function


def _entries(expressions, by) -> dict[tuple[int, int], sympy.Expr]:
    """The derivatives that are not zero, by row and column, in row-major order."""
    column = {s: k for k, s in enumerate(by)}
    entries = {}
    for row, expression in enumerate(expressions):
        for symbol in sorted(expression.free_symbols & set(column), key=column.__getitem__):
            slope = derivative(expression, symbol)
            if slope != 0:
                entries[row, column[symbol]] = slope
    return entries


def _placed(values: list, places: np.ndarray, count: int, scalars: list):
    """An array of ``count`` along axis 0 with the values at their places and zeros elsewhere."""
    if not any(isinstance(v, Tracer) for v in (*values, *scalars)):
        shape = np.broadcast_shapes(*map(np.shape, (*values, *scalars)))
        made = np.zeros((count, *shape), np.result_type(float, *values))
        for place, value in zip(places, values, strict=True):
            made[place] = value
        return made
    context = current_trace(*(v for v in (*values, *scalars) if isinstance(v, Tracer)))
    first, *nodes = fit_all(context, "value_and_jacobian", 0.0, *values, *scalars)
    parts, last = [], 0
    for place, node in zip(places, nodes, strict=False):
        if place > last:
            parts.append(build.full((int(place) - last, *first.shape), 0, first.dtype))
        parts.append(build.reshape(node, (1, *first.shape)))
        last = int(place) + 1
    if count > last:
        parts.append(build.full((count - last, *first.shape), 0, first.dtype))
    return context.wrap(build.concat(parts, 0) if parts else build.full((0,), 0, first.dtype))
