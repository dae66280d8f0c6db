"""Derivatives of traced Python functions: ``value_and_grad``, ``grad``, ``vjp``.

They run the function once, on stand-ins (``placeholder`` nodes of a level of their own) for the
differentiated arguments, derive the adjoint with respect to the stand-ins, and put the actual
values back. Nested derivatives therefore never mix up their variables: what an inner derivative
sees of an outer variable is a constant to it, and still a variable to the outer one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from graphc.ad import reverse
from graphc.errors import GradientError
from graphc.ir import build
from graphc.ir.graph import substitute
from graphc.ir.node import Node
from graphc.trace.source import located
from graphc.trace.tracer import Tracer
from graphc.trace.tracing import active_trace, current_trace, wrap
from graphc.trace.tree import flatten, leaf_paths, unflatten


def value_and_grad(
    fn: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable:
    """The function that returns ``(fn(*args), gradient)``.

    ``fn`` returns one real number (an array of shape ``()``), or with ``has_aux`` a pair of it
    and any other values, which come back as ``((value, aux), gradient)``. The gradient has the
    structure and the dtypes of argument ``argnums``; for a tuple of argnums it is a tuple.
    Raises GradientError for integer or complex arguments and for other results.

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
        ctx = _trace_of(fn, args, kwargs)
        (value, aux), grads = differentiate(ctx, fn, args, kwargs, argnums, has_aux)
        return ((value, aux) if has_aux else value), grads

    return wrapped


def grad(fn: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """The function that returns the gradient of ``fn``: see :func:`value_and_grad`.

    With ``has_aux`` it returns ``(gradient, aux)``.

    >>> def slope(x):
    ...     return grad(lambda y: y**3)(x)  # 3 * x**2
    """

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        ctx = _trace_of(fn, args, kwargs)
        (_, aux), grads = differentiate(ctx, fn, args, kwargs, argnums, has_aux)
        return (grads, aux) if has_aux else grads

    return wrapped


def vjp(fn: Callable, *primals: Any) -> tuple[Any, Callable]:
    """``(fn(*primals), pull_back)``; ``pull_back(cotangent)`` gives one cotangent a primal.

    ``cotangent`` has the structure of the result and values of its shapes.

    >>> def products(w, x, ct):
    ...     value, pull_back = vjp(lambda w: x @ w, w)
    ...     return pull_back(ct)[0]  # x.T @ ct
    """
    ctx = _trace_of(fn, primals, {})
    run = _Run(ctx, fn, primals, {}, tuple(range(len(primals))))
    leaves, structure = flatten(run.result)
    outputs = [run.settled(ctx.lift(leaf).node) for leaf in leaves]

    def pull_back(cotangent):
        given, given_structure = flatten(cotangent)
        if given_structure != structure:
            raise GradientError(
                located(
                    f"the cotangent is a {given_structure}, the result of `{_name(fn)}` a "
                    f"{structure}"
                )
            )
        nodes = []
        for value, output in zip(given, outputs, strict=True):
            node = ctx.lift(value).node
            if node.shape != output.shape:
                raise GradientError(
                    located(f"a cotangent of shape {node.shape} for a result {output.type}")
                )
            nodes.append(build.cast(node, output.dtype))
        return run.gradients(outputs, nodes)

    return unflatten(structure, [wrap(ctx, n) for n in run.resolved(outputs)]), pull_back


def differentiate(
    ctx: Any,
    fn: Callable,
    args: tuple,
    kwargs: dict[str, Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
) -> tuple[tuple[Any, Any], Any]:
    """``((value, aux), grads)`` of ``fn(*args, **kwargs)``, traced in ``ctx``; aux may be None."""
    several = isinstance(argnums, tuple)
    run = _Run(ctx, fn, args, kwargs, argnums if several else (argnums,))
    result, aux = _split(fn, run.result) if has_aux else (run.result, None)
    value = ctx.lift(_scalar(fn, result, has_aux))
    output = run.settled(value.node)
    _check_output(fn, output)
    grads = run.gradients([output], [build.full_like(output, 1)])
    aux_leaves, aux_structure = flatten(aux)
    aux_leaves = [
        wrap(ctx, run.resolved([run.settled(a.node)])[0], a.weak) if isinstance(a, Tracer) else a
        for a in aux_leaves
    ]
    value = wrap(ctx, run.resolved([output])[0], value.weak)
    return (value, unflatten(aux_structure, aux_leaves)), grads if several else grads[0]


@dataclass
class _Argument:
    """One differentiated argument."""

    structure: Any
    actual: list[Node]
    weak: list[bool]
    placeholders: list[Node]


class _Run:
    """One call of the user's function on placeholders."""

    def __init__(self, ctx, fn, args, kwargs, argnums: tuple[int, ...]):
        self.ctx = ctx
        self.level = ctx.new_level()
        self.arguments: list[_Argument] = []
        args, kwargs = list(args), dict(kwargs)
        names = _parameter_names(fn)
        for argnum in argnums:
            values, key, name = _find_argument(fn, argnum, args, kwargs, names)
            values[key] = self._stand_in(values[key], name)
        if not any(a.actual for a in self.arguments):
            which = argnums[0] if len(argnums) == 1 else argnums
            raise GradientError(
                located(
                    f"argument {which} (`{name}`) of `{_name(fn)}` holds no array or number to "
                    "differentiate by; pass floats, or another argnums=..."
                )
            )
        self.result = fn(*args, **kwargs)
        actual = {
            p: node
            for argument in self.arguments
            for p, node in zip(argument.placeholders, argument.actual, strict=True)
        }
        self.mapping = dict(zip(actual, ctx.resolve(actual.values()), strict=True))
        past = ctx.placeholders
        self._inner = dict(past)
        resolved = substitute(past.values(), self.mapping, ctx.sources)
        past.update(zip(past, resolved, strict=True))
        past.update(self.mapping)

    def _stand_in(self, value, name):
        """``value`` with placeholders for its leaves."""
        leaves, structure = flatten(value)
        first = sum(len(a.actual) for a in self.arguments)
        paths = leaf_paths(value, name)
        tracers = [self._differentiable(*pair) for pair in zip(leaves, paths, strict=True)]
        actual, weak = [t.node for t in tracers], [t.weak for t in tracers]
        placeholders = [
            build.placeholder(self.level, first + k, node.type, path)
            for k, (node, path) in enumerate(zip(actual, paths, strict=True))
        ]
        self.arguments.append(_Argument(structure, actual, weak, placeholders))
        stand_ins = zip(placeholders, weak, strict=True)
        return unflatten(structure, [wrap(self.ctx, p, w) for p, w in stand_ins])

    def _differentiable(self, leaf, path) -> Tracer:
        if isinstance(leaf, str | bytes):
            raise GradientError(
                located(
                    f"`{path}` is a {type(leaf).__name__}: it has no gradient.\nKeep it out of "
                    "the tree: in a closure, or as an argument in static_argnames."
                )
            )
        tracer = self.ctx.lift(leaf)
        kind = tracer.node.dtype.kind
        if kind == "f":
            return tracer
        if kind == "c":
            fix = "differentiate a function of its real and its imaginary part"
        elif isinstance(leaf, bool | int):
            fix = f"pass {float(leaf)}"
        elif tracer.node.ndim:
            fix = f"pass floats: {path}.astype(float)"
        else:
            fix = "pass a float such as 2.0"
        raise GradientError(
            located(f"gradient with respect to `{path}`, which is {tracer.node.dtype}; {fix}")
        )

    def settled(self, node: Node) -> Node:
        """``node`` over this run's placeholders, without those of inner derivatives."""
        return substitute([node], self._inner, self.ctx.sources)[0] if self._inner else node

    def resolved(self, nodes: Iterable[Node]) -> list[Node]:
        """``nodes`` with the actual values in place of the placeholders."""
        return substitute(nodes, self.mapping, self.ctx.sources)

    def gradients(self, outputs: list[Node], cotangents: list[Node]) -> tuple:
        """One tree of gradients for each differentiated argument."""
        wrt = [p for argument in self.arguments for p in argument.placeholders]
        if self.ctx.before_adjoint is not None:
            outputs = self.ctx.before_adjoint(outputs, self.ctx.sources)
        found = reverse.vjp(outputs, cotangents, wrt, self.ctx.sources)
        grads = iter(self.resolved(found))
        trees = []
        for argument in self.arguments:
            leaves = [wrap(self.ctx, next(grads), weak) for weak in argument.weak]
            trees.append(unflatten(argument.structure, leaves))
        return tuple(trees)


def _trace_of(fn, args, kwargs):
    ctx = current_trace(*args, *kwargs.values()) or active_trace()
    if ctx is None:
        raise GradientError(
            located(f"the gradient of `{_name(fn)}` was asked for outside a traced function")
        )
    return ctx


def _name(fn: Callable) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


def _parameter_names(fn: Callable) -> list[str]:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # some builtins
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional]


def _find_argument(fn, argnum, args, kwargs, names):
    """``(container, key, name)`` of a differentiated argument."""
    if isinstance(argnum, bool) or not isinstance(argnum, int):
        raise GradientError(located(f"argnums is an int or a tuple of ints, not {argnum!r}"))
    position = argnum + (len(names) or len(args)) if argnum < 0 else argnum
    name = names[position] if 0 <= position < len(names) else f"argument {position}"
    if 0 <= position < len(args):
        return args, position, name
    if name in kwargs:
        return kwargs, name, name
    raise GradientError(
        located(f"argnums={argnum}, but `{_name(fn)}` got {len(args)} positional arguments")
    )


def _split(fn, result):
    if isinstance(result, tuple | list) and len(result) == 2:
        return result
    raise GradientError(
        located(f"with has_aux=True `{_name(fn)}` must return (value, aux), not {_kind(result)}")
    )


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" if shape is None else f"shape {_shape(shape)}"


def _shape(shape) -> str:
    return "(" + ", ".join(map(str, shape)) + (",)" if len(shape) == 1 else ")")


def _scalar(fn, result, has_aux):
    if result is None:
        raise GradientError(located(f"`{_name(fn)}` returned None; is a `return` missing?"))
    if isinstance(result, Tracer | int | float | complex) or hasattr(result, "dtype"):
        return result
    extra = "" if has_aux else ", or return (loss, rest) with has_aux=True"
    raise GradientError(
        located(
            f"`{_name(fn)}` returned {_kind(result)}; a gradient needs one number: return the "
            f"loss alone{extra}"
        )
    )


def _check_output(fn, output: Node) -> None:
    name = _name(fn)
    if output.ndim:
        raise GradientError(
            located(
                f"output 0 of `{name}` has shape {_shape(output.shape)}; a gradient needs one "
                "number.\nReturn its sum or mean, or return (loss, output) with has_aux=True."
            )
        )
    if output.dtype.kind != "f":
        fix = "return its real part" if output.dtype.kind == "c" else "return a float"
        raise GradientError(located(f"`{name}` returned {output.dtype}; {fix}"))
