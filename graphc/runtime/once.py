"""Values that a process makes once, whichever threads ask first."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # another thread may have held it
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)


def once(make: Callable[[], Value]) -> Callable[[], Value]:
    """``make`` as a function that runs once. With ``functools.cache`` two threads may both run
    it, and of two native programs the one that is not kept is freed while somebody calls it."""
    made: list[Value] = []

    @functools.wraps(make)
    def value() -> Value:
        if not made:
            with _lock:
                if not made:
                    made.append(make())
        return made[0]

    value.cache_clear = made.clear  # type: ignore[attr-defined]
    return value
