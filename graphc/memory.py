"""How much memory a compiled function needs, told before it is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc import passes
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.schedule import schedule
from graphc.schedule.loops import Schedule
from graphc.schedule.memory import lifetimes, plan

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
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


def predict(graph: Graph, sizes: Mapping[str, int] | None = None) -> Memory:
    """What the program of ``graph`` needs where its symbolic dims have these ``sizes``."""
    return of_schedule(schedule(passes.optimize(graph)), sizes or {})


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
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{nbytes} bytes"
