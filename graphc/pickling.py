"""How compiled functions are pickled: as what they were made of, to be compiled again elsewhere.

The kernels come from the disk cache there, if it is shared.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphc.errors import FunctionPicklingError


@dataclass(frozen=True)
class Recipe:
    """A compiled function is ``maker(fn, *args, **options)``."""

    maker: Callable
    fn: Callable
    args: tuple = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def reduced(made: Any, recipe: Recipe | None) -> str | tuple:
    """What ``__reduce__`` of a compiled function returns.

    Its name, where a module has it under that name; else its recipe. Raises FunctionPicklingError
    for a function that no module has.
    """
    if recipe is not None and _takes_functions_by_value():
        return _made_again, (recipe.maker, recipe.fn, False, recipe.args, dict(recipe.options))
    if _named_alike(made) is made:
        return made.__qualname__
    if recipe is None:
        raise FunctionPicklingError("only what gc.compile and its relatives return can be pickled")
    fn, is_hidden = recipe.fn, False
    if isinstance(fn, types.FunctionType):
        found = _named_alike(fn)
        is_hidden = found is not fn
        if is_hidden and _plain(found) is not fn:
            raise FunctionPicklingError(_advice(fn))
        fn = found
    return _made_again, (recipe.maker, fn, is_hidden, recipe.args, dict(recipe.options))


def _takes_functions_by_value() -> bool:
    """Whether cloudpickle asks (joblib's processes, Dask, Ray): it takes functions of ``__main__``,
    lambdas and closures with it, so a compiled one is what it was made of."""
    frame = sys._getframe(1)
    for _ in range(4):
        if frame is None:
            return False
        if "cloudpickle" in frame.f_globals.get("__name__", ""):
            return True
        frame = frame.f_back
    return False


def _made_again(maker, fn, is_hidden, args, options):
    return maker(_plain(fn) if is_hidden else fn, *args, **options)


def _plain(made: Any) -> Any:
    """The function below all transforms."""
    while isinstance(recipe := getattr(made, "recipe", None), Recipe):
        made = recipe.fn
    return made


def _named_alike(fn: Any) -> Any:
    """What the module of ``fn`` has under its name."""
    found = sys.modules.get(getattr(fn, "__module__", None) or "")
    for name in (getattr(fn, "__qualname__", None) or "<none>").split("."):
        found = getattr(found, name, None)
    return found


def _advice(fn: types.FunctionType) -> str:
    code = fn.__code__
    place = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"
    kind = "a lambda" if fn.__name__ == "<lambda>" else f"`{fn.__name__}`"
    why = "is inside another function" if "<locals>" in fn.__qualname__ else (
        f"has no name of its own in module {fn.__module__}"
    )  # fmt: skip
    return (
        f"{kind} ({place}) cannot be pickled: it {why}, and "
        "other processes find functions by name.\n"
        "Write it with `def` at the top level of a module, or use cloudpickle, as joblib does."
    )
