"""Twins of the functions of ``scipy.linalg`` that SciPy cannot hand to a tracer.

They take traced values inside a traced function and arrays outside one, leading axes as a
batch, floating and complex (integers become float64), and have derivatives of any order.
Everything of ``np.linalg`` needs no twin: plain NumPy traces.

>>> import numpy as np
>>> import graphc.linalg as gla
>>> gla.expm(np.array([[0.0, 1.0], [0.0, 0.0]]))
array([[1., 1.],
       [0., 1.]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import interp
from graphc.errors import no_attribute
from graphc.trace import matrices, numpy_api  # noqa: F401  (fills the dispatch tables)
from graphc.trace.context import active_trace, any_tracer, current_trace
from graphc.trace.dispatch import Located
from graphc.trace.tracing import spec_of, trace

__all__ = ["cho_factor", "cho_solve", "expm", "solve_triangular"]


def __getattr__(name: str):
    known = hasattr(np.linalg, name)
    hint = f"write np.linalg.{name}, which traces" if known else f"it has {', '.join(__all__)}"
    raise no_attribute(__name__, name, hint)


def __dir__() -> list[str]:
    return __all__


def _apply(function: Callable, *values: Any) -> Any:
    """``function(context, *values)`` in the running trace, else evaluated at once."""
    context = current_trace(*(v for v in values if any_tracer(v))) or active_trace()
    if context is not None:
        with Located():
            return function(context, *values)
    arrays = [np.asarray(v) for v in values]
    specs = tuple(spec_of(a, f"argument {k + 1}") for k, a in enumerate(arrays))

    def traced(*tracers):
        return function(tracers[0].context, *tracers)

    graph = trace(traced, specs, name=function.__name__).graph
    return interp.evaluate(graph, arrays)[0]


def expm(A: Any) -> Any:
    """Exponential of square matrices [..., n, n], by scaling and squaring of a rational
    approximant (Higham 2005). Raises ShapeError where they are not square.

    >>> np.round(expm(np.diag([0.0, 1.0])), 3)
    array([[1.   , 0.   ],
           [0.   , 2.718]])
    """
    return _apply(matrices.expm, A)


def solve_triangular(
    a: Any, b: Any, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False
) -> Any:
    """x of ``a @ x = b``, of ``a.T @ x = b`` with ``trans`` 1 or "T", of ``np.conj(a.T) @ x = b``
    with 2 or "C", reading one triangle of ``a`` [..., n, n]; ``b`` is [n] or [..., n, k]. Raises
    numpy.linalg.LinAlgError where ``a`` has a zero on its diagonal.

    >>> solve_triangular(np.array([[2.0, 0.0], [1.0, 4.0]]), np.array([2.0, 9.0]), lower=True)
    array([1., 2.])
    """

    def solve(context, a, b):
        return matrices.solve_triangular(context, a, b, trans, lower, unit_diagonal)

    return _apply(solve, a, b)


def cho_factor(a: Any, lower: bool = False) -> tuple[Any, bool]:
    """The Cholesky factor of ``a`` and ``lower``, as :func:`cho_solve` takes them. The other
    triangle of the factor is 0. Raises numpy.linalg.LinAlgError where ``a`` is not positive
    definite.

    >>> cho_factor(np.array([[4.0]]))
    (array([[2.]]), False)
    """
    factor = _apply(matrices.cholesky, a)
    return (factor if lower else np.conj(np.swapaxes(factor, -1, -2))), lower


def cho_solve(c_and_lower: tuple[Any, bool], b: Any) -> Any:
    """x of ``a @ x = b`` by the factor of ``a`` from :func:`cho_factor`.

    >>> cho_solve(cho_factor(np.array([[4.0]])), np.array([8.0]))
    array([2.])
    """
    factor, lower = c_and_lower
    half = solve_triangular(factor, b, "N" if lower else "C", lower)
    return solve_triangular(factor, half, "C" if lower else "N", lower)
