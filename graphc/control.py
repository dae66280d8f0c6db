"""Loops and choices by data: ``scan``, ``fori_loop``, ``while_loop``, ``cond``, ``map``.

Inside a function that graphc compiles they become native loops, however many steps there are, and
reverse mode goes through all of them. On plain arrays, outside of such a function, they run as
the Python loops that they stand for.

A carry is any nesting of arrays and numbers; it keeps its dtypes and shapes from step to step. A
carry that starts as a Python number takes the dtype that the body gives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import OptionError, TraceError
from graphc.trace import control as _traced
from graphc.trace.source import located
from graphc.trace.tracer import Tracer
from graphc.trace.tracing import active_trace, current_trace
from graphc.trace.tree import flatten, unflatten
from graphc.wording import kind_of

__all__ = ["cond", "fori_loop", "map", "scan", "while_loop"]


def scan(
    f: Callable, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False,
    checkpoint: int | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """``(carry, ys)`` of the steps ``carry, y = f(carry, x)`` along axis 0 of ``xs``.

    Parameters
    ----------
    f : takes the carry and one x (None without ``xs``), returns the next carry and one y.
    init : the first carry.
    xs : arrays of one first axis, in any nesting; each step gets ``x[t]``.
    length : the number of steps; needed where there are no ``xs``.
    reverse : begin with the last step. ``ys[t]`` still belongs to ``xs[t]``.
    checkpoint : a number of segments. The gradient then keeps the carries at their starts and
        runs each segment again, instead of keeping the results of every step.

    Raises graphc.errors.DTypeError or ShapeError where the carry changes dtype or shape.

    >>> import numpy as np, graphc as gc
    >>> @gc.compile
    ... def running_sum(x):
    ...     return gc.scan(lambda total, x: (total + x, total + x), 0.0, x)[1]
    >>> running_sum(np.array([1.0, 2.0, 3.0]))
    array([1., 3., 6.])
    """
    _functions("scan", "gc.scan(lambda c, x: (c, y), start, xs)", f)
    ctx = current_trace(init, xs) or active_trace()
    if ctx is None:
        return _scan(f, init, xs, length, reverse)
    if checkpoint is None:
        return _traced.scan(ctx, f, init, xs, length, reverse)
    return _in_segments(ctx, f, init, xs, length, reverse, checkpoint)


def fori_loop(lower: int, upper: int, body: Callable, init: Any, checkpoint: bool = False) -> Any:
    """``carry = body(i, carry)`` for i from ``lower`` up to, not including, ``upper``.

    The bounds may be traced integers. With ``checkpoint=True`` the gradient keeps the carries of
    about the square root of the steps and runs the steps between them again.

    >>> import numpy as np, graphc as gc
    >>> power = gc.compile(lambda x, n: gc.fori_loop(0, n, lambda i, y: y * x, 1.0))
    >>> float(power(2.0, 10))
    1024.0
    """
    _functions("fori_loop", "gc.fori_loop(0, n, lambda i, c: ..., start)", body)
    ctx = current_trace(init, lower, upper) or active_trace()
    if ctx is not None:
        return _traced.fori_loop(ctx, lower, upper, body, init, checkpoint)
    for i in range(lower, upper):
        init = body(i, init)
    return init


def while_loop(
    cond: Callable, body: Callable, init: Any, max_steps: int | None = None,
    checkpoint: bool = False,
) -> Any:  # fmt: skip
    """``carry = body(carry)`` as long as ``cond(carry)``, at most ``max_steps`` times.

    The gradient keeps what it needs of each step on a tape. Without ``max_steps`` the tape grows
    with the number of steps, within the memory budget (``GRAPHC_TAPE_BYTES``, or half of the
    memory: TapeError past it); with ``checkpoint=True`` it keeps the carries of about the square
    root of the steps and runs the steps between them again. Ctrl-C ends a loop that does not.

    >>> import numpy as np, graphc as gc
    >>> @gc.compile
    ... def sqrt(a):  # Newton's iteration
    ...     return gc.while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, a)
    >>> round(float(sqrt(2.0)), 12)
    1.414213562373
    """
    if max_steps is not None and (not isinstance(max_steps, int | np.integer) or max_steps < 1):
        raise OptionError(f"max_steps={max_steps!r} is not a positive integer")
    _functions("while_loop", "gc.while_loop(lambda c: ..., lambda c: ..., start)", cond, body)
    ctx = current_trace(init) or active_trace()
    if ctx is not None:
        return _traced.while_loop(ctx, cond, body, init, max_steps, checkpoint)
    step = 0
    while (max_steps is None or step < max_steps) and cond(init):
        init, step = body(init), step + 1
    return init


def cond(pred: Any, true_fn: Callable, false_fn: Callable, *operands: Any) -> Any:
    """``true_fn(*operands)`` if ``pred`` else ``false_fn(*operands)``; only one is computed.

    Both return the same structure and shapes; dtypes are promoted as by ``np.where``.

    >>> import numpy as np, graphc as gc
    >>> f = gc.compile(lambda x: gc.cond(x > 0, lambda: np.log(x), lambda: x - 1))
    >>> float(f(1.0)), float(f(-1.0))
    (0.0, -2.0)
    """
    _functions("cond", "np.where(pred, a, b) chooses between values", true_fn, false_fn)
    ctx = current_trace(pred)
    if ctx is None:
        return (true_fn if pred else false_fn)(*operands)
    return _traced.cond(ctx, pred, true_fn, false_fn, operands)


def map(f: Callable, xs: Any) -> Any:
    """``f(x)`` for each x along axis 0 of ``xs``, one after the other, stacked.

    >>> import numpy as np, graphc as gc
    >>> gc.compile(lambda x: gc.map(lambda row: row @ row, x))(np.array([[1.0, 2], [3, 4]]))
    array([ 5., 25.])
    """
    return scan(lambda _, x: ((), f(x)), (), xs)[1]


def _functions(name: str, how: str, *given: Any) -> None:
    other = next((g for g in given if not callable(g)), None)
    if other is not None:
        kind = "traced values" if isinstance(other, Tracer) else kind_of(other)
        raise TraceError(located(f"{name} needs functions, not {kind}: {how}"))


# ----------------------------------------------------------------------------------- on arrays


def _scan(f, init, xs, length, reverse):
    leaves, treedef = flatten(xs)
    sizes = {len(leaf) for leaf in leaves} | ({length} if length is not None else set())
    if len(sizes) != 1:
        raise OptionError(f"scan needs one length; xs and length= give {sorted(sizes) or 'none'}")
    (length,) = sizes
    if not length:
        return _no_steps(f, init, leaves, treedef)
    ys: list = [None] * length
    carry = init
    for t in reversed(range(length)) if reverse else range(length):
        carry, ys[t] = f(carry, unflatten(treedef, [leaf[t] for leaf in leaves]))
    parts = [flatten(y)[0] for y in ys]
    stacked = [np.stack(p) for p in zip(*parts, strict=True)]
    return carry, unflatten(flatten(ys[0])[1], stacked)


def _no_steps(f, init, leaves, treedef):
    """The empty results, of the types that a step gives."""
    zeros = [np.zeros(np.shape(x)[1:], np.asarray(x).dtype) for x in leaves]
    _, y = f(init, unflatten(treedef, zeros))
    empty = [np.zeros((0, *np.shape(p)), np.asarray(p).dtype) for p in flatten(y)[0]]
    return init, unflatten(flatten(y)[1], empty)


# --------------------------------------------------------------------------------- checkpointing


def _in_segments(ctx, f, init, xs, length, reverse, segments):
    """A scan of ``segments`` scans, the steps of which the gradient runs again."""
    leaves, treedef = flatten(xs)
    leaves = [ctx.lift(leaf) for leaf in leaves]
    length = leaves[0].shape[0] if length is None and leaves else length
    if not isinstance(segments, int) or segments < 1:
        raise OptionError(f"checkpoint={segments!r} is not a positive number of segments")
    if length is None:
        return _traced.scan(ctx, f, init, xs, length, reverse)  # says what is missing
    length = length.__index__()
    size = max(length // min(segments, max(length, 1)), 1)
    count = length // size
    whole = count * size

    def inner(carry, xs, length):
        return _traced.scan(ctx, f, carry, xs, length, reverse)

    def segment(carry, xs):
        return inner(carry, xs, size)

    def part(begin, end):
        return unflatten(treedef, [leaf[begin:end] for leaf in leaves])

    def main(carry):
        cut = [leaf[:whole].reshape((count, size, *leaf.shape[1:])) for leaf in leaves]
        carry, ys = _traced.scan(
            ctx, segment, carry, unflatten(treedef, cut), count, reverse, remat=True
        )
        ys_leaves, ys_tree = flatten(ys)
        flat = [y.reshape((whole, *y.shape[2:])) for y in ys_leaves]
        return carry, unflatten(ys_tree, flat)

    if whole == length:
        return main(init)
    rest = length - whole
    if reverse:
        carry, last = inner(init, part(whole, length), rest)
        carry, first = main(carry)
    else:
        carry, first = main(init)
        carry, last = inner(carry, part(whole, length), rest)
    joined = [
        np.concatenate(pair) for pair in zip(flatten(first)[0], flatten(last)[0], strict=True)
    ]
    return carry, unflatten(flatten(first)[1], joined)
