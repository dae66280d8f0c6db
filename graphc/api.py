"""Functions that users call: compile, interpret, stop_gradient; transforms.py has the others.

They return a :class:`graphc.compiled.CompiledFunction`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc import pipeline
from graphc.compiled import CompiledFunction, with_own_options
from graphc.functions import identifier_of
from graphc.ir import build
from graphc.pickling import Recipe
from graphc.trace import printing
from graphc.trace.tracing import Tracer, wrap
from graphc.trace.tree import flatten, unflatten
from graphc.transforms import value_and_grad


def compile(
    fn: Callable | None = None,
    *,
    static_argnums=(),
    static_argnames=(),
    donate=(),
    dims=None,
    max_paths=None,
    max_compiles=None,
    checked=None,
    device=None,
    threads=None,
    memory_limit=None,
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
        a hundred cycles). What they hold after a call that raised (an index out of range,
        Ctrl-C in a loop) is neither old nor new.
    dims : names for dimensions that change, by parameter: ``{"x": ("n", None)}``. Without it
        the second size seen makes a dimension symbolic.
    max_paths : how many ways through Python's ``if`` and ``while`` on traced values are compiled
        for arguments of one kind: 16 if not given. The next raises errors.CompileLimitError, which
        tells what they differ in.
    max_compiles : the next compile beyond these raises errors.CompileLimitError, which lists
        them; ``f.compiles`` does so at any time.
    checked : where a result is NaN or infinite, raise errors.NonFiniteError, which names the op,
        your line, the operands, and whether it happened forward or in the backward pass. It costs
        a look at the results (and the calls go through Python). ``"strict"`` evaluates every call
        in NumPy and also raises for what a ``where`` masks away or a convention replaces.
    memory_limit : bytes, or ``"200 MB"`` or ``"1.5 GiB"``, that a call may need at its peak,
        arguments and results included. Values that would wait for the backward pass are computed
        again instead, as few as are needed; ``f.memory(*args)`` and ``inspect`` say which. Each
        set of sizes compiles its own program. OptionError where it cannot be met, with the least
        that can.
    device : ``"cpu"``, the only one so far; another raises rather than run somewhere else.

    threads : how many threads share large kernels (products, elementwise work, reductions): an int,
        or ``"auto"`` for the processors that this process may use. Without it what the
        environment variable GRAPHC_NUM_THREADS says, or 1. A result is the same, bit by bit,
        for one number of threads, on however many processors; for others it may round otherwise.

    Arguments are never changed, except donated ones: after ``x += 1`` inside the function the
    caller's ``x`` is as before. Globals, closures and attributes are part of the program: one that
    has changed since is found by the next call, which compiles again. Pass what changes as an
    argument, and objects as such: a dataclass of arrays is a tree, and compiles once.

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
        "donate": donate, "dims": dims, "max_paths": max_paths, "max_compiles": max_compiles,
        "checked": checked, "device": device, "threads": threads,
        "memory_limit": memory_limit,
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


def _compiled(fn, options, engine="native") -> CompiledFunction:
    recipe = Recipe(_compiled, fn, (options, engine))
    primal = fn.primal if isinstance(fn, CompiledFunction) else None
    name = fn.name if isinstance(fn, CompiledFunction) else identifier_of(fn)
    fn, options = with_own_options(fn, options, "static_argnames", "dims", "donate")
    return CompiledFunction(fn, name=name, engine=engine, primal=primal, recipe=recipe, **options)


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


def debug_print(*args: Any, **named: Any) -> None:
    """Print values of a compiled function after each of its calls, in the order of its lines.

    ``debug_print("loss {:.3f}, w {w}", loss, w=params)`` fills a format as str.format does;
    ``debug_print(x, y * 2)`` prints values with their names and the line. Arguments may be traced,
    plain, or trees of both. In plain Python it prints at once.

    Under derivatives it prints the values of the function, under :func:`vmap` those of all examples
    with the batch as axis 0. A call that raises has printed nothing, unless ``checked=`` raised.
    Calls with it take some microseconds more. In :func:`scan` and in :func:`fori_loop` of
    known bounds each step prints (after the call, in order; the values of all steps are kept until
    then). Not for bodies of ``while_loop`` and sides of ``cond`` (TraceError), training steps and
    C functions (OptionError).

    >>> import numpy as np, graphc as gc
    >>> @gc.compile
    ... def f(x):
    ...     y = np.sin(x)
    ...     gc.debug_print("sum {:.2f} of {}", y.sum(), y)
    ...     return y * 2
    >>> _ = f(np.zeros(2))
    sum 0.00 of [0. 0.]
    """
    printing.debug_print(*args, **named)


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
