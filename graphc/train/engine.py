"""What trains: an engine holds parameters and state and runs epochs in a thread of its own.

:class:`graphc.train.native.NativeEngine` runs compiled code,
:class:`graphc.train.interpreted.InterpretedEngine` the same graph in NumPy. The Trainer knows only
what is written here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from graphc.errors import NonFiniteError
from graphc.trace.tree import flatten, unflatten
from graphc.train.step import TracedStep

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
        # Not the thread's `join`: interrupted by Ctrl-C, it takes a thread that runs for dead.
        self._over = threading.Event()
        threading.Thread(target=self._work, name="graphc-train", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        return self._over.wait(seconds)

    def result(self) -> EpochResult:
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def _work(self) -> None:
        try:
            self._result = self._train()
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error
        finally:
            self._over.set()

    def _train(self) -> EpochResult:
        raise NotImplementedError


class Run(Protocol):
    """Epochs under way in another thread."""

    def wait(self, seconds: float) -> bool:
        """Wait for the end, but no longer than ``seconds``; whether it has come."""

    def progress(self) -> tuple[int, float]:
        """Steps done in this run, and the loss of the last one (NaN before the first)."""

    def stop(self) -> None:
        """Ask the run to end after the step it is in; returns at once."""

    def abandon(self) -> None:
        """Ask the run to end even within a step, at the next turn of a loop; what the step has
        done to the parameters is not undone."""

    def result(self) -> EpochResult:
        """Wait for the end; errors of the run are raised here."""


class Engine:
    """Training on fixed data. Batches are consecutive parts of the epoch's order (see
    ``shuffle.permutation``; without shuffling the order of the data), the last may be smaller.

    ``leaves`` are the memory of the parameters and the state, ``data`` the arrays of the samples,
    both flat; ``step`` has the graphs that change them, and outlives the training.
    """

    compile_s: float  # seconds to get the step ready
    memory = None  # what a step needs, where that is limited

    def __init__(self, step: TracedStep, params: Any, state: Any, data: tuple, batch_size: int):
        self.step = step
        self.leaves = self._own([np.asarray(leaf) for leaf in flatten((params, state))[0]])
        self.data = flatten(data)[0]
        self.batch_size = min(batch_size, self.samples)

    @property
    def samples(self) -> int:
        return len(self.data[0])

    def start(self, *, epochs: int, shuffle: bool, seed: int, first_epoch: int) -> Run:
        raise NotImplementedError

    def params(self) -> Any:
        """A copy of the current parameters."""
        return self._tree([leaf.copy() for leaf in self.leaves])[0]

    def state(self) -> Any:
        """A copy of the current optimiser state."""
        return self._tree([leaf.copy() for leaf in self.leaves])[1]

    def finish(self) -> tuple[Any, Any]:
        """Parameters and state at the end of the training; the engine is of no use afterwards."""
        return self.params(), self.state()

    def explain(
        self, rows: np.ndarray | slice, batch_names: Sequence[str], strict: bool
    ) -> NonFiniteError | None:
        """Why the step from the samples ``rows`` is not finite; ``batch_names`` are the user's."""
        return self.step.explain(self.leaves, [a[rows] for a in self.data], batch_names, strict)

    def _own(self, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Copies in memory of the engine."""
        return [leaf.copy() for leaf in leaves]

    def _tree(self, leaves: list[np.ndarray]) -> tuple[Any, Any]:
        return unflatten(self.step.types.structure, leaves)
