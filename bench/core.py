"""The three things a workload is made of: runners, outcomes to compare, and the workload itself."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.limits import Work

Params = dict[str, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What a check run produced.

    `losses` holds one loss a step, or one mean an epoch, or only the mean of the last epoch: a
    peer gives what it has, see `bench.measure.expected_losses`.
    """

    losses: np.ndarray
    params: Params


@dataclass(frozen=True)
class Reference:
    """The float64 truth: losses of shape (epochs, steps), and parameters before and after.

    `sizes` are the numbers of samples of an epoch's batches: the mean over an epoch is weighted
    by them.
    """

    losses: np.ndarray
    start: Params
    params: Params
    sizes: np.ndarray

    @property
    def epoch_means(self) -> np.ndarray:
        return np.average(self.losses, axis=1, weights=self.sizes)


@dataclass(frozen=True)
class Tolerance:
    """Largest relative error of a loss, and of the distance that each parameter travelled."""

    loss: float
    params: float


class Runner(ABC):
    """One peer, ready to be checked and timed."""

    mode = "step"  # "step": Python calls once a step; "epoch": many steps inside one call
    steps_per_call = 1
    seconds_inside: float | None = None  # of the last run, in steps alone, if the peer counts them

    @abstractmethod
    def check(self) -> Outcome:
        """Run the few steps that are compared with the reference, from the initial parameters."""

    @abstractmethod
    def run(self, calls: int) -> float | None:
        """Make `calls` calls and wait for them; seconds, or None to be timed from outside.

        In epoch mode all `calls` epochs go into one call of the library.
        """

    def reset(self) -> None:  # noqa: B027 - a runner without state has nothing to do
        """Go back to the initial parameters; never timed."""


class StepRunner(Runner):
    """A peer that Python calls once a step; a subclass has `batches` of its own array type."""

    batches: list[tuple[Any, Any]]
    check_epochs: int

    @abstractmethod
    def step(self, x: Any, y: Any) -> Any:
        """Do one step and return its loss (an array of the peer's own type will do)."""

    @abstractmethod
    def params(self) -> Params:
        """The parameters now, as NumPy arrays in the layout of the reference."""

    def sync(self) -> None:
        """Wait for work that was only queued."""

    def check(self) -> Outcome:
        self.reset()
        batches = self.batches * self.check_epochs
        losses = [float(self.step(x, y)) for x, y in batches]
        return Outcome(np.array(losses), self.params())

    def run(self, calls: int) -> None:
        step = self.step
        for x, y in itertools.islice(itertools.cycle(self.batches), calls):
            step(x, y)
        self.sync()


@dataclass(frozen=True)
class Case:
    """A workload with its data made: the truth, and how to build each peer.

    A builder imports its library itself, so that ImportError means "not installed".
    """

    reference: Reference
    tolerance: Tolerance
    peers: dict[str, Callable[[], Runner]]


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    make: Callable[[], Case]
    work: Work | None = None  # for the limit of the hardware, see bench/limits.py
