"""Values that a process makes once, whichever threads ask first."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from graphc import forks

Value = TypeVar("Value")
_lock = forks.lock()


def once(make: Callable[[], Value]) -> Callable[[], Value]:
    """``make`` as a function that runs once. With ``functools.cache`` two threads may both run
    it, and of two native programs the one that is not kept is freed while somebody calls it."""
    made: list[Value] = []

    @functools.wraps(make)
    def value() -> Value:
        if not made:
            with forks.waited_for(), _lock:
                if not made:
                    made.append(make())
        return made[0]

    value.cache_clear = made.clear  # type: ignore[attr-defined]
    return value
