"""How much of a loop a program can record: capacities that grow until the memory budget is met.

The reverse of a loop whose number of steps depends on data needs room for what it keeps of each
step. The program asks for more when it runs out; it is then run again with twice the room, which
later calls keep.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from graphc.errors import TapeError
from graphc.runtime.artifact import Artifact
from graphc.schedule.memory import plan

FIRST_CAPACITY = 64  # steps
_FALLBACK = 4 << 30


def budget() -> int:
    """Bytes that a program with tapes may use: ``GRAPHC_TAPE_BYTES``, or half of the memory."""
    chosen = os.environ.get("GRAPHC_TAPE_BYTES")
    if chosen:
        return int(float(chosen))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _FALLBACK


class Capacities:
    """Steps that each tape of a program has room for."""

    def __init__(self, artifact: Artifact):
        self._artifact = artifact
        self.sizes = {symbol: FIRST_CAPACITY for symbol, _ in artifact.tapes}

    def grow(self, number: int, env: Mapping[str, int]) -> None:
        """Twice the room for tape ``number`` (from 1) if the budget allows it, else as much as
        it does; TapeError where that is no more than there is."""
        symbol, label = self._artifact.tapes[number - 1]
        allowed, steps = budget(), env[symbol]

        def needed(capacity: int) -> int:
            return plan(self._artifact.temps, {**env, symbol: capacity}).nbytes

        low, high = steps, 2 * steps
        if needed(high) <= allowed:
            low = high
        while high - low > 1:  # the largest that fits
            middle = (low + high) // 2
            low, high = (middle, high) if needed(middle) <= allowed else (low, middle)
        if low <= steps:
            raise TapeError(
                f"the gradient of the loop{label} needs a tape of over {_bytes(needed(steps))} at "
                f"step {steps}; the budget is {_bytes(allowed)}.\n"
                "Give while_loop max_steps=, or checkpoint=True to keep the carries of some steps "
                "only,\nor raise the budget: GRAPHC_TAPE_BYTES=8e9 in the environment."
            )
        self.sizes[symbol] = max(self.sizes[symbol], low)


def _bytes(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
