"""What trains: an engine holds parameters and state and runs epochs in a thread of its own.

:class:`graphc.train.native.NativeEngine` runs compiled code,
:class:`graphc.train.interpreted.InterpretedEngine` the same graph in NumPy. The Trainer knows only
what is written here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

FINISHED, STOPPED, NONFINITE = "finished", "stopped", "nonfinite"


@dataclass(frozen=True)
class EpochResult:
    """What a run did.

    ``epoch_losses`` has an entry for each finished epoch: the mean of its batch losses, weighted
    by their numbers of samples. ``steps`` are those that changed the parameters; ``seconds`` were
    spent in them alone. ``status`` is ``"finished"``, ``"stopped"`` (on request) or
    ``"nonfinite"``: the step after the last had a loss that is not finite, or made parameters
    that are not, and was dropped.
    """

    epoch_losses: np.ndarray
    steps: int
    seconds: float
    status: str


class BackgroundRun:
    """A :class:`Run` in a thread of its own: a subclass has ``_train() -> EpochResult``."""

    def __init__(self):
        self._error: BaseException | None = None
        self._result: EpochResult | None = None
        self._thread = threading.Thread(target=self._work, name="graphc-train", daemon=True)
        self._thread.start()

    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> EpochResult:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def _work(self) -> None:
        try:
            self._result = self._train()
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error

    def _train(self) -> EpochResult:
        raise NotImplementedError


class Run(Protocol):
    """Epochs under way in another thread."""

    def done(self) -> bool: ...

    def progress(self) -> tuple[int, float]:
        """Steps done in this run, and the loss of the last one (NaN before the first)."""

    def stop(self) -> None:
        """Ask the run to end after the step it is in; returns at once."""

    def abandon(self) -> None:
        """Ask the run to end even within a step, at the next turn of a loop; what the step has
        done to the parameters is not undone."""

    def result(self) -> EpochResult:
        """Wait for the end; errors of the run are raised here."""


class Engine(Protocol):
    """Training on fixed data. Batches are consecutive parts of the epoch's order (see
    ``shuffle.permutation``; without shuffling the order of the data), the last may be smaller."""

    compile_s: float

    def start(self, *, epochs: int, shuffle: bool, seed: int, first_epoch: int) -> Run: ...

    def params(self) -> Any:
        """A copy of the current parameters."""

    def state(self) -> Any:
        """A copy of the current optimiser state."""
