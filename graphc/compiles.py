"""``f.compiles``: what was compiled for a function, when, and what differed from before."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.errors import CompileLimitError

_LISTED = 4
_WIDEST, _WIDEST_REASON = 60, 160
_PLACE = re.compile(r" \(\S+:\d+(?=[:)])")


@dataclass(frozen=True)
class Compile:
    """One entry of ``f.compiles``: what was compiled, and what differed from before.

    types: those of the arguments, ``f64[n,3]``; a name is a size that may change. reason: such
    as ``x: float64[10] -> float64[14]``. arguments: each with its type or static value.
    """

    types: tuple[str, ...]
    reason: str
    seconds: float
    kernels: int
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.reason} ({', '.join(self.arguments)})"


class Compiles(list):
    """A list of :class:`Compile`; printed, it is a table.

    >>> print(Compiles([Compile(("f64[3]",), "first call", 0.5, 1, ("x: float64[3]",))]))
    #  reason      arguments      seconds  kernels
    1  first call  x: float64[3]     0.50        1
    """

    def __str__(self) -> str:
        rows = [("#", "reason", "arguments", "seconds", "kernels")]
        rows += [
            (str(k), _cut(c.reason, _WIDEST_REASON), _cut(", ".join(c.arguments)),
             f"{c.seconds:.2f}", str(c.kernels))
            for k, c in enumerate(self, start=1)
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = [cell.ljust(w) for cell, w in zip(row[:3], widths, strict=False)]
            cells += [cell.rjust(w) for cell, w in zip(row[3:], widths[3:], strict=True)]
            lines.append("  ".join(cells))
        return "\n".join(lines)

    __repr__ = __str__

    def check_limit(self, name: str, limit: int, arguments: Sequence[str], reason: str) -> None:
        """Raise CompileLimitError if one more, for this reason, is above the limit."""
        if len(self) < limit:
            return
        first = max(len(self) - _LISTED, 0)
        lines = [f"  {k}: {_cut(str(c))}" for k, c in enumerate(self[first:], start=first + 1)]
        raise CompileLimitError(
            "\n".join([
                f"`{name}` would compile more than max_compiles={limit} times; so far:",
                *(["  ..."] if first else []),
                *lines,
                f"and now: {_cut(reason)} ({_cut(', '.join(arguments))})",
            ])
        )  # fmt: skip


class Changes:
    """What a function reads besides its arguments and has found changed: how often that made it
    trace again, or compile."""

    _WARN_AT_COMPILES, _WARN_AT_TRACES = 2, 10

    def __init__(self):
        self._last: tuple[str, object] = ("", None)
        self._times: Counter[tuple[str, bool]] = Counter()

    def note(self, path: str, source) -> None:
        """What has changed, and the line that reads it."""
        self._last = path, source

    def served(self, name: str, compiled: bool) -> str:
        """After the last change: by a program that was compiled, or by the same as before. A
        warning, where that has happened often enough."""
        path, source = self._last
        self._times[path, compiled] += 1
        place = f" ({source})" if source else ""
        limit = self._WARN_AT_COMPILES if compiled else self._WARN_AT_TRACES
        if self._times[path, compiled] != limit:
            return ""
        if not compiled:
            return (
                f"`{name}` can reach {path}{place}, which changes: it was traced again {limit} "
                "times, with the same result.\nKeep what changes, such as counters, out of "
                f"the objects that `{name}` reads; a trace takes milliseconds."
            )
        return (
            f"`{name}` reads {path}{place}, which changes: it was compiled again, twice so far.\n"
            f"Pass it as an argument of `{name}`: new values of arguments compile nothing."
        )


def _cut(text: str, widest: int = _WIDEST) -> str:
    """At most ``widest`` characters; the place of a line, ``(model.py:12)``, is kept whole."""
    if len(text) <= widest:
        return text
    place = ""
    if found := _PLACE.search(text):
        text, place = text[: found.start()], f"{found[0]})"
        if len(text) + len(place) <= widest:
            return text + place
    return text[: max(widest - len(place) - 3, 0)] + "..." + place
