"""Derivatives of traced Python functions: gradients, and products with a direction.

Each transform makes a function of the same arguments; those with a direction (``jvp``, ``vjp``,
``hvp``) take it as one more, behind the arguments that have no default. All run the user's
function once (:mod:`graphc.ad.run`) and nest in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from graphc.ad.directions import call_with_direction, with_direction
from graphc.ad.run import Run, fitting, trace_of
from graphc.errors import GradientError
from graphc.functions import name_of
from graphc.ir import build
from graphc.ir.node import Node
from graphc.trace.source import located
from graphc.trace.tracer import Tracer
from graphc.trace.tracing import wrap
from graphc.trace.tree import flatten, leaf_paths, unflatten
from graphc.wording import kind_of, shape_text

Argnums = int | tuple[int, ...]


def value_and_grad(fn: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """The function that returns ``(fn(*args), gradient)``.

    ``fn`` returns one real number (an array of shape ``()``), or with ``has_aux`` a pair of it
    and any other values, which come back as ``((value, aux), gradient)``. The gradient has the
    structure and the dtypes of argument ``argnums``; for a tuple of argnums it is a tuple. By a
    complex argument x + iy it is df/dx + i df/dy, the direction of steepest ascent.
    Raises GradientError for integer arguments and for other results.

    Where a derivative does not exist it is 0 (``sqrt``, ``cbrt``, ``x**0.5``, ``norm`` and
    ``abs`` at 0), and ties share it evenly (``max``, ``maximum(x, y)``), but that of
    ``maximum(x, 0)`` at 0 is 0 in compiled functions. The side of a ``where`` that was not taken
    contributes exactly 0, also where it is NaN or infinite; only the sums inside a matrix product
    with NaN are not protected.

    To be called on traced values, that is inside a function that graphc compiles:

    >>> def step(w, x):
    ...     return value_and_grad(lambda w: ((x @ w) ** 2).sum())(w)
    """

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        ctx = trace_of(fn, args, kwargs)
        (value, aux), grads = differentiate(ctx, fn, args, kwargs, argnums, has_aux)
        return ((value, aux) if has_aux else value), grads

    return wrapped


def grad(fn: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """The function that returns the gradient of ``fn``: see :func:`value_and_grad`.

    With ``has_aux`` it returns ``(gradient, aux)``.

    >>> def slope(x):
    ...     return grad(lambda y: y**3)(x)  # 3 * x**2
    """

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        ctx = trace_of(fn, args, kwargs)
        (_, aux), grads = differentiate(ctx, fn, args, kwargs, argnums, has_aux)
        return (grads, aux) if has_aux else grads

    return wrapped


def jvp(fn: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """The function ``(*args, tangent) -> (fn(*args), its change along tangent)``: forward mode.

    ``tangent`` is a tree like argument ``argnums``, or a tuple of such trees. With ``has_aux``
    the function returns ``(result, aux)`` and this one ``(result, change, aux)``.

    >>> def slope(x):
    ...     return jvp(np.sin)(x, 1.0)[1]  # cos(x)
    """
    several = isinstance(argnums, tuple)

    @with_direction(fn, "tangent")
    def wrapped(tangent, args, kwargs):
        ctx = trace_of(fn, (*args, tangent), kwargs)
        run = Run(ctx, fn, args, kwargs, argnums if several else (argnums,))
        result, aux = split(fn, run.result) if has_aux else (run.result, None)
        leaves, structure = results(ctx, fn, result)
        outputs = run.outputs([leaf.node for leaf in leaves])
        changes = run.tangents(outputs, _one_for_each(tangent, argnums))
        values = [wrap(ctx, n, a.weak) for n, a in zip(run.resolved(outputs), leaves, strict=True)]
        changes = [wrap(ctx, n, a.weak) for n, a in zip(changes, leaves, strict=True)]
        both = unflatten(structure, values), unflatten(structure, changes)
        return (*both, run.returned(aux)) if has_aux else both

    return wrapped


def vjp(fn: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """The function ``(*args, cotangent) -> (fn(*args), gradient)``: reverse mode.

    ``cotangent`` is a tree like what ``fn`` returns, a weight for each of its elements; the
    gradient is that of the weighted sum. With ``has_aux`` the function returns ``(result, aux)``
    and this one ``(result, gradient, aux)``.

    >>> def products(w, x, ct):
    ...     return vjp(lambda w: x @ w)(w, ct)[1]  # x.T @ ct
    """

    @with_direction(fn, "cotangent")
    def wrapped(cotangent, args, kwargs):
        value, pull_back, aux = pull_back_of(fn, args, kwargs, argnums, has_aux)
        both = value, pull_back(cotangent)
        return (*both, aux) if has_aux else both

    return wrapped


def pull_back_of(
    fn: Callable, args: tuple, kwargs: dict[str, Any], argnums: Argnums = 0, has_aux: bool = False
) -> tuple[Any, Callable, Any]:
    """``(value, pull_back, aux)`` of a call; ``pull_back(cotangent)`` gives the gradient."""
    ctx = trace_of(fn, args, kwargs)
    several = isinstance(argnums, tuple)
    run = Run(ctx, fn, args, kwargs, argnums if several else (argnums,))
    result, aux = split(fn, run.result) if has_aux else (run.result, None)
    leaves, structure = results(ctx, fn, result)
    outputs = run.outputs([leaf.node for leaf in leaves])
    paths = leaf_paths(result, "result")

    def pull_back(cotangent):
        nodes = fitting(ctx, cotangent, structure, outputs, paths, "cotangent")
        grads = run.gradients(outputs, nodes)
        return grads if several else grads[0]

    values = [wrap(ctx, n, a.weak) for n, a in zip(run.resolved(outputs), leaves, strict=True)]
    return unflatten(structure, values), pull_back, run.returned(aux)


def hvp(fn: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """The function ``(*args, v) -> H @ v``, H the matrix of second derivatives of a scalar
    function: the gradient, differentiated along ``v``. With ``has_aux``: ``(H @ v, aux)``.

    >>> def curvature(x, v):
    ...     return hvp(lambda x: (x**4).sum())(x, v)  # 12 * x**2 * v
    """
    slope = grad(fn, argnums, has_aux)

    @with_direction(fn, "vector")
    def wrapped(vector, args, kwargs):
        found = call_with_direction(jvp(slope, argnums, has_aux), vector, args, kwargs)
        return found[1:] if has_aux else found[1]

    return wrapped


def elementwise_grad(fn: Callable, argnums: int = 0) -> Callable:
    """The derivative of a function that acts on each element alone, at every element.

    >>> def slopes(x):
    ...     return elementwise_grad(np.tanh)(x)  # 1 - np.tanh(x) ** 2
    """

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        ctx = trace_of(fn, args, kwargs)
        run = Run(ctx, fn, args, kwargs, (argnums,))
        leaves, _ = results(ctx, fn, run.result)
        outputs = run.outputs([leaf.node for leaf in leaves])
        (argument,) = run.arguments
        for output in outputs:
            _check_float(fn, output)
            for node, path in zip(argument.actual, argument.paths, strict=True):
                if node.shape != output.shape:
                    raise GradientError(
                        located(
                            f"elementwise_grad: `{path}` has shape {shape_text(node.shape)}, the "
                            f"result of `{name_of(fn)}` {shape_text(output.shape)}; it is for "
                            "functions of each element alone.\nUse jacobian for others."
                        )
                    )
        ones = [build.full_like(output, 1) for output in outputs]
        return run.gradients(outputs, ones)[0]

    return wrapped


def differentiate(
    ctx: Any,
    fn: Callable,
    args: tuple,
    kwargs: dict[str, Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> tuple[tuple[Any, Any], Any]:
    """``((value, aux), grads)`` of ``fn(*args, **kwargs)``, traced in ``ctx``; aux may be None."""
    several = isinstance(argnums, tuple)
    run = Run(ctx, fn, args, kwargs, argnums if several else (argnums,))
    result, aux = split(fn, run.result) if has_aux else (run.result, None)
    value = ctx.lift(_scalar(fn, result, has_aux))
    (output,) = run.outputs([value.node])
    _check_output(fn, output)
    grads = run.gradients([output], [build.full_like(output, 1)])
    value = wrap(ctx, run.resolved([output])[0], value.weak)
    return (value, run.returned(aux)), grads if several else grads[0]


def split(fn, result):
    if isinstance(result, tuple | list) and len(result) == 2:
        return result
    raise GradientError(
        located(
            f"with has_aux=True `{name_of(fn)}` must return (value, aux), not {kind_of(result)}"
        )
    )


def _one_for_each(tangent, argnums: Argnums) -> tuple:
    """One tangent for each differentiated argument."""
    if not isinstance(argnums, tuple):
        return (tangent,)
    if isinstance(tangent, tuple | list) and len(tangent) == len(argnums):
        return tuple(tangent)
    raise GradientError(
        located(
            f"argnums={argnums} needs a tuple of {len(argnums)} tangents, not {kind_of(tangent)}"
        )
    )


def results(ctx, fn, result) -> tuple[list[Tracer], Any]:
    """The leaves of what ``fn`` returned, and their structure."""
    if result is None:
        raise GradientError(located(f"`{name_of(fn)}` returned None; is a `return` missing?"))
    leaves, structure = flatten(result)
    return [ctx.lift(leaf) for leaf in leaves], structure


def _scalar(fn, result, has_aux):
    if result is None:
        raise GradientError(located(f"`{name_of(fn)}` returned None; is a `return` missing?"))
    if isinstance(result, Tracer | int | float | complex) or hasattr(result, "dtype"):
        return result
    extra = "" if has_aux else ", or return (loss, rest) with has_aux=True"
    raise GradientError(
        located(
            f"`{name_of(fn)}` returned {kind_of(result)}; a gradient needs one number: return the "
            f"loss alone{extra}"
        )
    )


def _check_output(fn, output: Node) -> None:
    name = name_of(fn)
    if output.ndim:
        raise GradientError(
            located(
                f"output 0 of `{name}` has shape {shape_text(output.shape)}; a gradient needs one "
                "number.\nReturn its sum or mean, or (loss, output) with has_aux=True; for all its "
                "derivatives use jacobian."
            )
        )
    _check_float(fn, output)


def _check_float(fn, output: Node) -> None:
    if output.dtype.kind != "f":
        fix = "return its real part" if output.dtype.kind == "c" else "return a float"
        raise GradientError(located(f"`{name_of(fn)}` returned {output.dtype}; {fix}"))
