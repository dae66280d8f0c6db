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
    listed = [stable(prepared(e)) for e in expressions]
    parameters = Parameters(listed, args)
    by = parameters.symbols if wrt is None else list(wrt)
    unknown = [s for s in by if s not in set(parameters.symbols)]
    if unknown:
        raise SymbolicError(f"wrt has {', '.join(map(str, unknown))}, not among the arguments")
    steps = Steps()
    for symbol in parameters.symbols:
        steps.argument(symbol)
    parameters.check(listed)
    shared, reduced = sympy.cse(listed, order="none", list=True)
    system = _Derivatives(by, shared)
    entries = {
        (row, system.column[symbol]): slope
        for row, expression in enumerate(reduced)
        for symbol, slope in system.of(expression).items()
    }
    for symbol, part in system.definitions:
        steps.define(symbol, part)
    steps.outputs = [steps.add(e) for e in (*reduced, *entries.values())]
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


class _Derivatives:
    """Derivatives by the chain rule over shared subexpressions: SymPy differentiates each small
    part by what it is made of, once, however many equations and arguments it stands between."""

    def __init__(self, by: Sequence[sympy.Symbol], shared: Sequence[tuple]):
        self.column = {s: k for k, s in enumerate(by)}
        self.definitions: list[tuple[sympy.Symbol, sympy.Expr]] = []
        self._slopes: dict[sympy.Symbol, dict[sympy.Symbol, sympy.Expr]] = {}
        for symbol, part in shared:
            self.definitions.append((symbol, part))
            slopes = self.of(part)
            self._slopes[symbol] = {by: self._named(slope) for by, slope in slopes.items()}

    def of(self, expression: sympy.Expr) -> dict[sympy.Symbol, sympy.Expr]:
        """The derivatives of an expression that are not zero, by symbol, in order."""
        found: dict[sympy.Symbol, list[sympy.Expr]] = {}
        for symbol in sorted(expression.free_symbols, key=str):
            inner = self._slopes.get(symbol) or ({symbol: 1} if symbol in self.column else {})
            if not inner:
                continue
            local = derivative(expression, symbol)
            if local == 0:
                continue
            local = self._named(local) if len(inner) > 1 else local
            for by, slope in inner.items():
                found.setdefault(by, []).append(local * slope)
        totals = {by: sympy.Add(*parts) for by, parts in found.items()}
        return {s: totals[s] for s in sorted(totals, key=self.column.__getitem__) if totals[s] != 0}

    def _named(self, expression: sympy.Expr) -> sympy.Expr:
        """A symbol that stands for ``expression``; atoms stand for themselves."""
        if not expression.args:
            return expression
        symbol = sympy.Dummy()
        self.definitions.append((symbol, expression))
        return symbol


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
