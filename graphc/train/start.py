"""What a fit begins with: parameters, and where training goes on, the optimizer's state."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import DataError, GradientError, OptionError
from graphc.trace.context import TOO_LARGE, refuse_lossy
from graphc.trace.source import located
from graphc.trace.tree import flatten, leaf_paths, unflatten
from graphc.train.result import FitResult
from graphc.wording import type_text


def start(given: Any, state: Any, optimizer: Any) -> tuple[Any, Any, int]:
    """Parameters, state and number of the first epoch, of parameters or of a result. Leaves are
    arrays, possibly the caller's own."""
    first_epoch = 0
    if isinstance(given, FitResult):
        if state is not None:
            raise OptionError(
                "fit: a result has its own state; write fit(result, ...), "
                "or fit(result.params, ..., state=...)"
            )
        given, state, first_epoch = given.params, given.state, given.history.next_epoch
    params = _checked_params(given)
    fresh = optimizer.init(params)
    return params, fresh if state is None else _checked_state(state, fresh, optimizer), first_epoch


def _checked_params(params: Any) -> Any:
    """``params`` with arrays for leaves; each must be floating."""
    leaves, structure = flatten(params)
    arrays = []
    for leaf, path in zip(leaves, leaf_paths(params, "params"), strict=True):
        if isinstance(leaf, str | bytes):
            raise GradientError(
                located(
                    f"`{path}` is a {type(leaf).__name__}, which cannot be trained; keep it out "
                    "of the parameters, e.g. in a closure of the loss"
                )
            )
        refuse_lossy(leaf, f"`{path}`", DataError)
        array = np.asarray(leaf)
        if array.dtype == object and isinstance(leaf, int):
            raise GradientError(f"`{path}` is an int that {TOO_LARGE}")
        if array.dtype.kind != "f":
            raise GradientError(
                f"`{path}` is {array.dtype}, which cannot be trained; pass floats"
                + (f", e.g. {float(leaf)}" if isinstance(leaf, int) else "")
            )
        _check_finite(array, path)
        arrays.append(array)
    return unflatten(structure, arrays)


def _checked_state(state: Any, fresh: Any, optimizer: Any) -> Any:
    """``state`` with arrays for leaves; it must be like the ``fresh`` one of these parameters."""
    leaves, structure = flatten(state)
    expected, wanted = flatten(fresh)
    whose = f"{type(optimizer).__name__} for these parameters"
    advice = (
        "Go on with the optimizer and parameters that the state comes from, or begin with a new "
        "state: fit(params, ...)."
    )
    if structure != wanted:
        have, need = leaf_paths(state, "state"), leaf_paths(fresh, "state")
        lacks = next((f"lacks `{p}`" for p in need if p not in have), None)
        more = next((f"has `{p}`, which none has" for p in have if p not in need), None)
        what = lacks or more or f"is {structure} instead of {wanted}"
        raise OptionError(f"fit: this is no state of {whose}: it {what}.\n{advice}")
    arrays = []
    for leaf, like, path in zip(leaves, expected, leaf_paths(state, "state"), strict=True):
        array, like = np.asarray(leaf), np.asarray(like)
        if (array.dtype, array.shape) != (like.dtype, like.shape):
            raise OptionError(
                f"fit: this is no state of {whose}: `{path}` is {type_text(array)}, "
                f"{type_text(like)} is needed.\n{advice}"
            )
        if array.dtype.kind in "fc":
            _check_finite(array, path)
        arrays.append(array)
    return unflatten(structure, arrays)


def _check_finite(array: np.ndarray, path: str) -> None:
    if not np.isfinite(array).all():
        raise DataError(f"`{path}` has NaN or infinity before the first step")
