"""What a user's function says of itself: its name, and what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def name_of(fn: Callable) -> str:
    """As messages show it, ``<lambda>`` too."""
    return getattr(fn, "__name__", None) or type(fn).__name__


def identifier_of(fn: Callable) -> str:
    """As a graph and its function in C are called."""
    name = name_of(fn)
    return name if name.isidentifier() else "function"


def signature_of(fn: Callable) -> inspect.Signature | None:
    """None for some functions written in C, which have none."""
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None


def parameters_of(fn: Callable) -> list[Parameter]:
    """Empty where they are not known."""
    signature = signature_of(fn)
    return [] if signature is None else list(signature.parameters.values())


def positional_names(fn: Callable) -> list[str]:
    """The parameters that can be given without their names."""
    return [p.name for p in parameters_of(fn) if p.kind in POSITIONAL]


def required_names(fn: Callable) -> list[str]:
    """Those of them that have no default.

    >>> required_names(lambda params, x, scale=1.0: None)
    ['params', 'x']
    """
    return [p.name for p in parameters_of(fn) if p.kind in POSITIONAL and p.default is p.empty]


def misfit(fn: Callable, *args: object) -> str | None:
    """Why ``fn(*args)`` has too few or too many arguments; None where it has not, as far as the
    signature says.

    >>> misfit(lambda x, y: x + y, 1)
    "missing a required argument: 'y'"
    """
    signature = signature_of(fn)
    try:
        if signature is not None:
            signature.bind(*args)
    except TypeError as error:
        return str(error)
    return None
