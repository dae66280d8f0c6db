"""``check_grads``: whether derivatives are right, by the slope of the Taylor remainder.

For a right derivative ``D`` of ``phi(t) = f(x + t v)`` the remainder ``phi(t) - phi(0) - t D``
falls with the square of ``t``, for a wrong one with ``t`` itself. The slope is read where ``t``
is as small as rounding allows, so there is no step to choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ad import transforms
from graphc.compiled import CompiledFunction
from graphc.errors import GradientMismatchError, unknown_name
from graphc.functions import identifier_of, positional_names
from graphc.ir.graph import bodies
from graphc.trace.tree import flatten, leaf_paths, unflatten

_STEPS = 0.5 ** np.arange(52)
_TINY = slice(26, None)  # steps so small that all that is left there is rounding
_ABOVE_NOISE = 10
_ENOUGH = 1.5  # between the slope 1 of a wrong derivative and 2 of a right one
_WINDOW = 3
_EXHAUSTIVE = 64  # coordinates that are tried one by one
_MANY, _COMPILED = 400, 4  # nodes interpreted 90 times, as long as a program and a node compile
_UNKNOWN_STEPS = 100
_MODES = {"fwd": "forward", "rev": "reverse"}

Arrays = list[np.ndarray]


def check_grads(
    f: Callable,
    *args: Any,
    order: int = 2,
    modes: Sequence[str] | str = ("fwd", "rev"),
    seed: int = 0,
    **kwargs: Any,
) -> None:
    """Check the derivatives of ``f`` at ``args`` against ``f`` itself; returns where all is right.

    Parameters
    ----------
    f : returns any tree of arrays; it is differentiated by every float in its arguments, which
        are any trees. All is computed in float64.
    order : how many derivatives deep, all combinations of ``modes``.
    modes : "fwd" (jvp), "rev" (vjp), or both.
    seed : of the random direction and the random weights of the results.

    Raises graphc.errors.GradientMismatchError, which names the worst coordinate. At a kink
    (``abs`` at 0, a tie of ``max``) there is no derivative and the check fails.

    >>> import numpy as np, graphc as gc
    >>> gc.check_grads(lambda x: np.tanh(x) / (1 + x * x), np.array([0.3, -2.0]))
    """
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    for mode in modes:
        if mode not in _MODES:
            raise unknown_name("mode", mode, _MODES)
    leaves, structure = flatten((args, kwargs))
    positions = [i for i, leaf in enumerate(leaves) if _is_float(leaf)]
    if not positions:
        raise GradientMismatchError(f"no argument of `{identifier_of(f)}` holds a float to move")
    all_paths = _paths(f, args, kwargs)

    def of_floats(variables):
        moved = list(leaves)
        for position, value in zip(positions, variables, strict=True):
            moved[position] = value
        new_args, new_kwargs = unflatten(structure, moved)
        results = flatten(f(*new_args, **new_kwargs))[0]
        return [r for r in results if np.result_type(r).kind == "f"]

    point = [np.asarray(leaves[i], np.float64) for i in positions]
    paths = [all_paths[i] for i in positions]
    _check(of_floats, point, paths, identifier_of(f), order, modes, np.random.default_rng(seed), ())


def _check(fn, point: Arrays, paths, name, order, modes, rng, above: tuple[str, ...]) -> None:
    values = _interpreted(fn)(point)
    if not values:
        raise GradientMismatchError(f"`{name}` returns no float: there is nothing to differentiate")
    _refuse_nonfinite(values, name, above)
    weights = [rng.uniform(0.5, 1.5, v.shape) * rng.choice([-1, 1], v.shape) for v in values]
    direction = [rng.uniform(0.5, 1, x.shape) * rng.choice([-1, 1], x.shape) * _scale(x)
                 for x in point]  # fmt: skip
    for mode in modes:
        derivative = _derivative(fn, mode, direction, weights)
        made = _interpreted(derivative)(point)
        _refuse_nonfinite(made, name, (*above, mode))
        slope = _dot(weights if mode == "fwd" else direction, made)
        trial = _Line(fn, point, weights)
        found = _remainder_slope(trial, direction, slope)
        if found < _ENOUGH:
            raise _mismatch(fn, trial, mode, paths, name, found, (*above, mode))
        if order > 1:
            _check(derivative, point, paths, name, order - 1, modes, rng, (*above, mode))


def _derivative(fn, mode: str, direction: Arrays, weights: Arrays) -> Callable:
    if mode == "fwd":
        return lambda point: transforms.jvp(fn)(point, direction)[1]
    return lambda point: transforms.vjp(fn)(point, weights)[1]


class _Line:
    """``phi(t)``, the weighted sum of the results at ``point + t * direction``."""

    def __init__(self, fn, point: Arrays, weights: Arrays):
        engine = "native" if _has_long_loops(fn, point) else "interpreter"
        self._fn, self._point, self._weights = _run_by(engine, fn), point, weights

    def at(self, direction: Arrays, step: float) -> tuple[float, float]:
        """The value, and the size of its rounding."""
        moved = [x + step * v for x, v in zip(self._point, direction, strict=True)]
        values = self._fn(moved)
        noise = sum(
            float(np.abs(w * v).sum()) * np.finfo(v.dtype).eps
            for w, v in zip(self._weights, values, strict=True)
        )
        return _dot(self._weights, values), noise

    def slope(self, direction: Arrays) -> float:
        """The derivative by central differences, at the step where it settles best."""
        with np.errstate(all="ignore"):
            found = [
                (self.at(direction, t)[0] - self.at(direction, -t)[0]) / (2 * t)
                for t in _STEPS[2:40:2]
            ]
            changes = np.abs(np.diff(found))
        changes[~np.isfinite(changes)] = np.inf
        return found[int(np.argmin(changes)) + 1]


def _remainder_slope(line: _Line, direction: Arrays, slope: float) -> float:
    """How fast the remainder falls, on a logarithmic scale, where the steps are smallest."""
    start, noise = line.at(direction, 0.0)
    values = np.array([line.at(direction, t)[0] for t in _STEPS])
    rest = np.abs(values - start - _STEPS * slope)
    rounding = np.abs(values - start - _STEPS * line.slope(direction))[_TINY]
    rounding = rounding[np.isfinite(rounding)].max(initial=np.finfo(float).tiny)
    floor = _ABOVE_NOISE * max(4 * noise, rounding)
    clear = np.flatnonzero(np.isfinite(rest) & (rest > floor))
    if not len(clear):
        return math.inf  # linear along this direction, and matched exactly
    last = int(clear[-1])
    levels = np.log2(np.maximum(rest, floor))
    falls = levels[:-1] - levels[1:]
    into_noise = falls[last] if last < len(falls) else 0.0
    window = falls[max(0, last - _WINDOW) : last]
    window = window[np.isfinite(window)]
    return max(float(into_noise), float(np.median(window)) if len(window) else 0.0)


# ---------------------------------------------------------------------------------- messages


def _mismatch(fn, line: _Line, mode, paths, name, slope, above) -> GradientMismatchError:
    where, claimed, by_difference = _worst(fn, line, mode, paths)
    kind = " of ".join(_MODES[m] for m in reversed(above))
    return GradientMismatchError(
        f"derivative {len(above)} of `{name}` is wrong ({kind} mode): its Taylor remainder falls "
        f"with slope {slope:.2f}, not 2\n"
        f"  worst at `{where}`: the derivative is {claimed:.9g}, by differences "
        f"{by_difference:.9g}\n"
        "  If a rule of custom_vjp is involved, mend it; at a kink (abs, max) move the point."
    )


def _worst(fn, line: _Line, mode, paths) -> tuple[str, float, float]:
    """A coordinate where the derivative is most wrong: halves, then one by one."""
    point, weights = line._point, line._weights
    sizes = [x.size for x in point]
    if mode == "rev":
        gradient = _flat(_interpreted(_derivative(fn, "rev", point, weights))(point))
        claimed = lambda flat: float(gradient @ flat)  # noqa: E731
    else:
        push = _interpreted(lambda x, v: transforms.jvp(fn)(x, v)[1])
        claimed = lambda flat: _dot(weights, push(point, _unflat(flat, point)))  # noqa: E731

    def error(coordinates) -> tuple[float, float, float]:
        flat = np.zeros(sum(sizes))
        flat[coordinates] = 1
        stated, measured = claimed(flat), line.slope(_unflat(flat, point))
        gap = abs(stated - measured)
        return (gap if np.isfinite(gap) else math.inf), stated, measured

    candidates = np.arange(sum(sizes))
    while len(candidates) > _EXHAUSTIVE:
        halves = np.array_split(candidates, 2)
        candidates = max(halves, key=lambda half: error(half)[0])
    at = max(candidates, key=lambda c: error([c])[0])
    _, stated, measured = error([at])
    for path, x in zip(paths, point, strict=True):
        if at < x.size:
            index = ", ".join(map(str, np.unravel_index(at, x.shape)))
            return (f"{path}[{index}]" if x.ndim else path), stated, measured
        at -= x.size
    raise AssertionError("a coordinate outside of all arguments")


def _refuse_nonfinite(values: Arrays, name: str, above: tuple[str, ...]) -> None:
    if all(np.isfinite(v).all() for v in values):
        return
    what = f"derivative {len(above)} of `{name}`" if above else f"`{name}`"
    raise GradientMismatchError(
        f"{what} holds NaN or infinity at this point, so there is no slope to compare with.\n"
        "Check at a point where it is finite."
    )


# ----------------------------------------------------------------------------------- helpers


def _interpreted(fn: Callable) -> Callable:
    return _run_by("interpreter", fn)


def _run_by(engine: str, fn: Callable) -> Callable:
    made = CompiledFunction(fn, name=identifier_of(fn), engine=engine)
    return lambda *args: [np.asarray(v) for v in flatten(made(*args))[0]]


def _has_long_loops(fn: Callable, point: Arrays) -> bool:
    """Whether to interpret a line of points would take longer than to compile: it evaluates the
    nodes of a loop at every step."""
    graph = CompiledFunction(fn, name=identifier_of(fn), engine="interpreter").graph(point)
    evaluated, compiled, stack = 0, 0, [(graph, 1)]
    while stack:
        part, times = stack.pop()
        evaluated += times * len(part.order)
        compiled += len(part.order)
        for node in part.order:
            length = node.attr("length") if node.op == "loop" else 1
            steps = length if isinstance(length, int) else _UNKNOWN_STEPS
            stack += [(body, times * steps) for _, body in bodies(node)]
    return evaluated > _MANY + _COMPILED * compiled


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, float | np.ndarray | np.generic) and np.asarray(leaf).dtype.kind == "f"


def _scale(x: np.ndarray) -> np.ndarray:
    """Steps in proportion to the values, where they are not zero."""
    typical = float(np.sqrt(np.mean(x * x))) if x.size else 0.0
    return np.maximum(np.abs(x), typical or 1.0)


def _dot(a: Arrays, b: Arrays) -> float:
    return float(sum((x * y).sum() for x, y in zip(a, b, strict=True)))


def _flat(arrays: Arrays) -> np.ndarray:
    return np.concatenate([a.ravel() for a in arrays])


def _unflat(flat: np.ndarray, like: Arrays) -> Arrays:
    stops = np.cumsum([x.size for x in like])[:-1]
    return [part.reshape(x.shape) for part, x in zip(np.split(flat, stops), like, strict=True)]


def _paths(f: Callable, args: tuple, kwargs: dict) -> list[str]:
    """How a user writes each leaf of the arguments."""
    names, paths = positional_names(f), []
    for i, arg in enumerate(args):
        paths += leaf_paths(arg, names[i] if i < len(names) else f"args[{i}]")
    for key in sorted(kwargs):
        paths += leaf_paths(kwargs[key], key)
    return paths
