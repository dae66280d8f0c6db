"""How much memory a compiled function needs, told before it is compiled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from graphc.errors import OptionError
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.schedule import schedule_program
from graphc.schedule.loops import Schedule
from graphc.schedule.memory import lifetimes, plan

_SHOWN_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}  # fmt: skip
_LISTED = 4


@dataclass(frozen=True)
class Memory:
    """Bytes that a call needs: ``peak`` is their sum.

    arguments: of the caller. results: new memory, without what donated arguments give. constants:
    arrays in the program. temporaries: the arena, planned before the first call and kept for the
    next. live: the largest sum of temporaries that are needed at once, which no arena can be below.
    recomputed: what is computed a second time so that a ``memory_limit`` holds.

    >>> print(Memory(arguments=4096, results=8, constants=0, temporaries=2048, live=2048))
    6.0 KiB: arguments 4.0 KiB, results 8 bytes, temporaries 2.0 KiB
    """

    arguments: int
    results: int
    constants: int
    temporaries: int
    live: int
    recomputed: tuple[str, ...] = ()

    @property
    def peak(self) -> int:
        return self.arguments + self.results + self.constants + self.temporaries

    def __str__(self) -> str:
        names = ("arguments", "results", "constants", "temporaries")
        parts = [f"{name} {shown(size)}" for name in names if (size := getattr(self, name))]
        again = "; ".join(self.recomputed[:_LISTED]) + "; ..." * (len(self.recomputed) > _LISTED)
        return (
            shown(self.peak)
            + (f": {', '.join(parts)}" if parts else "")
            + (f"; computed again: {again}" if again else "")
        )


def predict(graph: Graph, sizes: Mapping[str, int] | None = None, team: bool = False) -> Memory:
    """What the program of ``graph``, one for a team of threads or for one, needs where its
    symbolic dims have these ``sizes``."""
    return of_schedule(schedule_program(graph, team)[1], sizes or {})


def of_schedule(made: Schedule, sizes: Mapping[str, int]) -> Memory:
    """As :func:`predict`. A tape of unknown length counts as one step."""
    sizes = {**dict.fromkeys(made.tapes, 1), **sizes}
    planned = plan(lifetimes(made.kernels, made.temps), sizes)

    def total(buffers) -> int:
        return sum(evaluate(b.size, sizes) * b.dtype.itemsize for b in buffers)

    results = [b for b in made.outputs if b.kind == "output"]
    return Memory(
        total(made.inputs), total(results), total(made.consts), planned.nbytes, planned.live_peak
    )


def shown(nbytes: int) -> str:
    """For people.

    >>> shown(3 << 20), shown(12)
    ('3.0 MiB', '12 bytes')
    """
    size, unit = float(nbytes), 0
    while size >= 1024 and unit < len(_SHOWN_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_SHOWN_UNITS[unit]}" if unit else f"{nbytes} bytes"


def limit_bytes(limit: int | str | None) -> int | None:
    """The option ``memory_limit``: bytes, or text with a unit.

    >>> limit_bytes("1.5 GiB") == 3 << 29, limit_bytes("200 MB"), limit_bytes(4096)
    (True, 200000000, 4096)
    """
    if limit is None or (type(limit) is int and limit > 0):
        return limit
    text = limit if isinstance(limit, str) else ""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*)\s*", text)
    if found is None or found[2].upper() not in _UNITS or not float(found[1]):
        raise OptionError(
            f"memory_limit={limit!r} is not a number of bytes: write 200_000_000, '200 MB' or "
            "'1.5 GiB'"
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])
