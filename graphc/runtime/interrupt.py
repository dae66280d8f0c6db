"""Ctrl-C while a program runs: its loops look for signals now and then.

Python handles signals between its own instructions, to which a long native call does not come
back. So loops count their turns in a register; when the pace is used up they call ``look``, which
reads the clock and, a tenth of a second after the last time, takes the GIL and lets Python handle
its signals. What a handler raises (KeyboardInterrupt, for Ctrl-C) waits in the words of the call;
the program returns, and its caller raises it. Results of the call are dropped, and donated arrays
have values between old and new. Other threads than the main one handle no signals in Python.
"""

from __future__ import annotations

import ctypes
import time

import numpy as np

from graphc.runtime.once import once
from graphc.runtime.support import word_function
from graphc.schedule.memory import WATCH_WORDS

# Words of a call: what looks, or 0; its functions; the times of the last look and of the last
# question to Python; whether to stop; what was raised; a time.
LOOK, TABLE, LOOKED, ASKED, STOP, RAISED, SECONDS, NANOSECONDS = 0, 1, 2, 3, 4, 5, 8, 9
assert WATCH_WORDS == NANOSECONDS + 1
_FUNCTIONS = ("PyGILState_Ensure", "PyErr_CheckSignals", "PyErr_Fetch", "PyGILState_Release")
_CLOCK, _CLOCK_ID, _ENSURE, _CHECK, _FETCH, _RELEASE = range(6)
_MOST = 4096  # turns between two looks
_BETWEEN = 100_000_000  # nanoseconds between two questions: who has the GIL keeps it for 5 ms

_TEXT = f"""
def look(ints, at, pace):
    w = words_at(ints + 8 * at)
    table = words_at(w[{TABLE}])
    if w[{STOP}] != 0:
        return 0
    c_call2(table[{_CLOCK}], table[{_CLOCK_ID}], ints + 8 * (at + {SECONDS}))
    now = w[{SECONDS}] * 1000000000 + w[{NANOSECONDS}]
    if pace == 0:
        w[{LOOKED}] = now
        w[{ASKED}] = now
        return 1
    since = now - w[{LOOKED}]
    w[{LOOKED}] = now
    if since > 10000000:
        pace = pace // 8 if pace > 8 else 1
    elif since < 1000000 and pace < {_MOST}:
        pace = pace * 4
    if now - w[{ASKED}] < {_BETWEEN}:
        return pace
    w[{ASKED}] = now
    state = c_call0(table[{_ENSURE}])
    failed = c_call0(table[{_CHECK}]) & 0xFFFFFFFF
    if failed != 0:
        raised = ints + 8 * (at + {RAISED})
        c_call3(table[{_FETCH}], raised, raised + 8, raised + 16)
    c_call1(table[{_RELEASE}], state)
    return pace if failed == 0 else 0
"""


def is_watched(source: str) -> bool:
    """Whether loops of the program with this text look for signals."""
    return "pace = look(" in source


class _Watch:
    def __init__(self):
        self._native = word_function("look", _TEXT)
        clock = ctypes.CDLL(None).clock_gettime
        functions = [clock, *(getattr(ctypes.pythonapi, name) for name in _FUNCTIONS)]
        clock, *rest = (ctypes.cast(f, ctypes.c_void_p).value for f in functions)
        self._table = np.array([clock, time.CLOCK_MONOTONIC, *rest], np.int64)
        self.words = [self._native.address, self._table.ctypes.data]


@once
def _watch() -> _Watch:
    return _Watch()


def words(source: str) -> np.ndarray:
    """The words of a call of the program with this text."""
    found = np.zeros(WATCH_WORDS, np.int64)
    if is_watched(source) and hasattr(time, "CLOCK_MONOTONIC"):
        found[[LOOK, TABLE]] = _watch().words
    return found


_restore = ctypes.PYFUNCTYPE(None, *[ctypes.c_void_p] * 3)(("PyErr_Restore", ctypes.pythonapi))


def raise_kept(words: np.ndarray) -> None:
    """Raise what ended the call with these words; KeyboardInterrupt where it was told to stop."""
    raised = words[RAISED:SECONDS]
    kept = [int(address) or None for address in raised]
    raised[:] = 0
    if kept[0] is not None:
        _restore(*kept)  # raises
    raise KeyboardInterrupt
