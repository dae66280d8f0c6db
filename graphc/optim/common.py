"""What the optimisers share: walking several trees at once, and checks of their options."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import OptionError, ShapeError, unknown_name
from graphc.trace.tree import flatten, unflatten


def named_options(optimizer: type) -> type:
    """The dataclass, whose unknown options raise an error that lists those there are."""
    init, options = optimizer.__init__, [f.name for f in dataclasses.fields(optimizer)]

    @functools.wraps(init)
    def checked(self, *args, **named):
        for name in named:
            if name not in options:
                raise unknown_name(f"option of {optimizer.__name__.lower()}", name, options)
        init(self, *args, **named)

    optimizer.__init__ = checked
    return optimizer


def positive(optimizer: str, option: str, value: float) -> None:
    """Check ``0 < value < inf``."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise OptionError(f"{optimizer}: {option} must be a number above 0, not {value!r}")


def fraction(optimizer: str, option: str, value: float) -> None:
    """Check ``0 <= value < 1``."""
    if not _is_number(value) or not 0 <= value < 1:
        raise OptionError(f"{optimizer}: {option} must be at least 0 and below 1, not {value!r}")


def _is_number(value: object) -> bool:
    numbers = int | float | np.floating | np.integer
    return isinstance(value, numbers) and not isinstance(value, bool)


def zeros_like(params: Any) -> Any:
    """A tree of zeros with the shapes and dtypes of ``params``."""
    leaves, treedef = flatten(params)
    return unflatten(treedef, [np.zeros(np.shape(p), _dtype(p)) for p in leaves])


def _dtype(leaf: Any) -> np.dtype:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def update_leaves(rule: Callable, params: Any, *others: Any) -> list[Any]:
    """Call ``rule(param, other, ...)``, which returns a tuple, on each leaf; a list of trees.

    ``others`` are the gradients and the slots of the state, each a tree like ``params``.
    """
    leaves, treedef = flatten(params)
    columns = []
    for tree in others:
        column, structure = flatten(tree)
        if structure != treedef:
            raise ShapeError(
                "the gradients and the state must have the structure of the parameters:\n"
                f"parameters {treedef}\ngot        {structure}"
            )
        columns.append(column)
    results = [rule(*row) for row in zip(leaves, *columns, strict=True)]
    if not results:
        return [params, *others[1:]]
    return [unflatten(treedef, column) for column in zip(*results, strict=True)]
