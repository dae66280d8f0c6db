"""Functions that users call: compile, grad, value_and_grad, interpret.

Each returns a :class:`graphc.compiled.CompiledFunction`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc import pipeline
from graphc.ad import transforms
from graphc.ad import vmap as _vmap
from graphc.compiled import CompiledFunction, name_of
from graphc.ir import build
from graphc.trace.tracing import Tracer, wrap
from graphc.trace.tree import flatten, unflatten


def compile(
    fn: Callable | None = None, *, static_argnums=(), static_argnames=(), donate=(), dims=None
) -> CompiledFunction | Callable:
    """Compile a NumPy function to native code on its first call. Also a decorator.

    Parameters
    ----------
    fn : a function of arrays, numbers and any nesting of dict, list, tuple, dataclass of them.
    static_argnums, static_argnames : arguments that are part of the program (strings, flags,
        sizes); another value compiles again.
    donate : positions of arguments whose memory the outputs of the same dtype and shape take
        over: they are overwritten, and returned. Such a function is taken for an update step:
        subnormal numbers are zero to it (an optimizer's moments decay into them, and each costs
        a hundred cycles).
    dims : names for dimensions that change, by parameter: ``{"x": ("n", None)}``. Without it
        the second size seen makes a dimension symbolic.

    Arguments are never changed, except donated ones: after ``x += 1`` inside the function the
    caller's ``x`` is as before. Globals and closures are read once, when the function is traced.

    Raises graphc.errors.TraceError and relatives where the function cannot be traced.

    >>> import numpy as np, graphc as gc
    >>> @gc.compile
    ... def norm(x):
    ...     return np.sqrt(np.sum(x * x))
    >>> float(norm(np.array([3.0, 4.0])))
    5.0
    """
    options = {
        "static_argnums": static_argnums, "static_argnames": static_argnames,
        "donate": donate, "dims": dims,
    }  # fmt: skip
    if fn is None:
        return lambda f: compile(f, **options)
    return _compiled(fn, options)


def interpret(fn: Callable, **options) -> CompiledFunction:
    """Trace ``fn`` and evaluate its graph with NumPy: slower, no compiler, every dtype.

    >>> import numpy as np, graphc as gc
    >>> float(gc.interpret(lambda x: np.sum(x ** 2))(np.arange(3.0)))
    5.0
    """
    return _compiled(fn, options, engine="interpreter")


def grad(fn: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False, **options):
    """The compiled gradient of a scalar function with respect to ``argnums``.

    >>> import numpy as np, graphc as gc
    >>> gc.grad(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    return _derivative(transforms.grad, "grad", fn, argnums, has_aux, options)


def value_and_grad(
    fn: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False, **options
):
    """The compiled function that returns ``(value, gradient)``, sharing their work.

    With ``has_aux`` the function returns ``(value, aux)`` and the result is
    ``((value, aux), gradient)``.

    >>> import numpy as np, graphc as gc
    >>> value, slope = gc.value_and_grad(lambda x: np.sin(x))(0.0)
    >>> float(value), float(slope)
    (0.0, 1.0)
    """
    return _derivative(transforms.value_and_grad, "value_and_grad", fn, argnums, has_aux, options)


def vmap(fn: Callable, in_axes: Any = 0, out_axes: Any = 0, **options) -> CompiledFunction:
    """The compiled function that calls ``fn`` on each example of a batch, without a loop.

    Parameters
    ----------
    in_axes : the batch axis of the arguments: one int for all, or one entry an argument, each an
        int, None (the same for all examples) or a tree of these like the front of the argument.
        Keyword arguments have the batch as axis 0.
    out_axes : where the batch goes in the results: an int, or a tree of these like the front of
        what ``fn`` returns. None is for results that do not depend on the example.

    The graph of one example is rewritten for a batch (a matrix that all examples share meets
    one large product), so it nests with every other transform in any order. Raises
    graphc.errors.ShapeError where batch sizes differ or an axis is not there.

    >>> import numpy as np, graphc as gc
    >>> gc.vmap(np.dot, in_axes=(0, None))(np.eye(3), np.array([1.0, 2.0, 3.0]))
    array([1., 2., 3.])
    """
    fn, options = _with_own_options(fn, options, "static_argnames", "dims")
    mapped = _vmap.vmap(fn, in_axes, out_axes)
    return CompiledFunction(mapped, name=f"vmap_{name_of(fn)}", **options)


def _derivative(transform, label, fn, argnums, has_aux, options) -> CompiledFunction:
    fn, options = _with_own_options(fn, options, "static_argnames", "dims")
    derivative = transform(fn, argnums, has_aux)
    return CompiledFunction(derivative, name=f"{label}_{name_of(fn)}", primal=fn, **options)


def _compiled(fn, options, engine="native") -> CompiledFunction:
    primal = fn.primal if isinstance(fn, CompiledFunction) else None
    name = fn.name if isinstance(fn, CompiledFunction) else name_of(fn)
    fn, options = _with_own_options(fn, options, "static_argnames", "dims", "donate")
    return CompiledFunction(fn, name=name, engine=engine, primal=primal, **options)


def _with_own_options(fn, options: dict, *inherited: str) -> tuple[Callable, dict]:
    """A compiled function hands on its options, where no others are given."""
    if not isinstance(fn, CompiledFunction):
        return fn, options
    given = {k: v for k, v in options.items() if v is not None and v != ()}
    if "static_argnums" in given:
        inherited = tuple(k for k in inherited if k != "static_argnames")
    own = {"static_argnames": sorted(fn._static_names), "dims": fn.dims, "donate": fn.donate}
    return fn.traceable, {**{k: own[k] for k in inherited}, **given}


def stages(fn: Callable, *args, **kwargs) -> dict[str, Callable[[], str]]:
    """Text of every stage of ``fn`` for these arguments, computed when called.

    Keys are ``graphc.pipeline.STAGES``. For a function that is not a derivative the adjoint is
    that of ``value_and_grad`` with respect to its first argument.
    """
    made = fn if isinstance(fn, CompiledFunction) else compile(fn)
    subject = made.graph(*args, **kwargs)
    if made.primal is None:
        return pipeline.stages(
            subject, lambda: value_and_grad(made).graph(*args, **kwargs), subject
        )
    primal = compile(made.primal, static_argnames=sorted(made._static_names)).graph(*args, **kwargs)
    return pipeline.stages(primal, lambda: subject, subject)


def stop_gradient(x: Any) -> Any:
    """``x`` with its derivative cut: a constant to every gradient around it.

    >>> import numpy as np, graphc as gc
    >>> float(gc.grad(lambda x: x * gc.stop_gradient(x))(3.0))
    3.0
    """
    leaves, treedef = flatten(x)
    cut = [
        wrap(leaf.context, build.elementwise("stop_gradient", leaf.node), leaf.weak)
        if isinstance(leaf, Tracer) else leaf
        for leaf in leaves
    ]  # fmt: skip
    return unflatten(treedef, cut)
