"""Functions of other functions' arguments and a direction (a tangent, a cotangent, a vector)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from graphc.functions import POSITIONAL, name_of, signature_of


def with_direction(fn: Callable, direction: str) -> Callable:
    """Decorate ``wrapped(direction, args, kwargs)``: it becomes a function of the arguments of
    ``fn`` and, behind those without a default, ``direction``.

    Arguments of ``fn`` with a default are given by keyword: what is the direction never depends
    on how many were given. A function of ``*args`` has its direction last.

    >>> @with_direction(lambda x, k=1: x, "v")
    ... def call(v, args, kwargs):
    ...     return v, args, kwargs
    >>> call(1, 2, k=3)
    (2, (1,), {'k': 3})
    """
    signature, name = _extended(fn, direction)

    def decorate(wrapped):
        @functools.wraps(fn)
        def call(*args, **kwargs):
            if signature is None:
                if not args:
                    raise TypeError(f"`{name_of(fn)}` was called without a {direction}")
                return wrapped(args[-1], args[:-1], kwargs)
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name_of(fn)}{signature}: {error}") from None
            given = bound.arguments.pop(name)
            return wrapped(given, bound.args, bound.kwargs)

        call.takes_direction = wrapped
        if signature is not None:
            call.__signature__ = signature
        return call

    return decorate


def call_with_direction(transformed: Callable, direction: Any, args: tuple, kwargs: dict) -> Any:
    """Call what :func:`with_direction` made, with its arguments sorted already."""
    return transformed.takes_direction(direction, args, kwargs)


def without_direction(fn: Callable, direction: str) -> Callable:
    """``fn`` as a function that takes a direction too, and passes over it."""
    return with_direction(fn, direction)(lambda _, args, kwargs: fn(*args, **kwargs))


def _extended(fn: Callable, direction: str) -> tuple[inspect.Signature | None, str]:
    """The signature with the direction in it, and the name it has there."""
    signature = signature_of(fn)
    if signature is None:
        return None, direction
    parameters = list(signature.parameters.values())
    if any(p.kind is Parameter.VAR_POSITIONAL for p in parameters):
        return None, direction
    names = {p.name for p in parameters}
    while direction in names:
        direction += "_"
    required = [p for p in parameters if p.kind in POSITIONAL and p.default is Parameter.empty]
    named = [
        p.replace(kind=Parameter.KEYWORD_ONLY) for p in parameters
        if p not in required and p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]  # fmt: skip
    rest = [p for p in parameters if p.kind is Parameter.VAR_KEYWORD]
    added = Parameter(direction, Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Signature([*required, added, *named, *rest]), direction
