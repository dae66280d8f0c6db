"""What a fork needs, so that the child can trace, compile and load, whatever other threads did.

A child has one thread, and all locks as they were: those that other threads held are held for ever.
Python's own can be freed (:func:`lock`). LLVM's cannot, nor can those of modules that are being
imported: a fork waits for who is inside (:func:`waited_for`).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager

_PATIENCE = 60.0  # seconds after which a fork goes ahead, should something never end

_locks: weakref.WeakSet = weakref.WeakSet()
_outer: list[AbstractContextManager] = []
_gate = threading.Condition()
_inside: dict[int, int] = {}  # how deep each thread is inside
_forking: list[int] = []  # threads that fork, or wait for that


def lock() -> threading.RLock:
    """A lock that is free in a child, unless the thread that forks holds it itself: for what is
    consistent between any two steps of its holder."""
    made = threading.RLock()
    _locks.add(made)
    return made


@contextlib.contextmanager
def waited_for() -> Iterator[None]:
    """No fork by another thread happens inside, and nobody goes inside while one waits. So what is
    inside must not wait for a thread that is not: no code of users, and no lock that is also taken
    outside, unless for some steps only."""
    me = threading.get_ident()
    with _gate:
        while _forking and me not in _inside and me not in _forking:
            _gate.wait()
        _inside[me] = _inside.get(me, 0) + 1
    try:
        yield
    finally:
        with _gate:
            _inside[me] -= 1
            if not _inside[me]:
                del _inside[me]
                _gate.notify_all()


def hold(foreign: AbstractContextManager) -> None:
    """Forks happen inside of a foreign lock, too."""
    _outer.append(foreign)


def _before() -> None:
    me, end = threading.get_ident(), time.monotonic() + _PATIENCE
    _gate.acquire()  # until after the fork
    _forking.append(me)
    while _inside.keys() - {me} and (left := end - time.monotonic()) > 0:
        _gate.wait(left)
    for foreign in _outer:
        foreign.__enter__()


def _after() -> None:
    for foreign in reversed(_outer):
        foreign.__exit__(None, None, None)
    _forking.remove(threading.get_ident())
    _gate.notify_all()
    _gate.release()


def _after_in_child() -> None:
    me = threading.get_ident()
    for thread in _inside.keys() - {me}:
        del _inside[thread]
    _forking[:] = [me]
    for held in list(_locks):
        if not held._is_owned():
            held._at_fork_reinit()
    _after()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
