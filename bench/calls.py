"""A workload that is one function, called from Python again and again."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.core import Outcome, Params, Reference, Runner


@dataclass
class CallRunner(Runner):
    """`call(*point)` for points in the peer's own types; the first point is timed.

    `read(result)` gives one number and the named arrays that are compared with the reference.
    """

    call: Callable
    points: Sequence[tuple]
    read: Callable[[Any], tuple[float, Params]]
    sync: Callable = lambda last: None
    context: Callable = contextlib.nullcontext

    def check(self) -> Outcome:
        with self.context():
            return outcome([self.read(self.call(*point)) for point in self.points])

    def run(self, calls: int) -> None:
        call, point, last = self.call, self.points[0], None
        with self.context():
            for _ in itertools.repeat(None, calls):
                last = call(*point)
            self.sync(last)


def outcome(results: Sequence[tuple[float, Params]]) -> Outcome:
    """The numbers in a row, and each named array stacked over the points."""
    values = np.array([value for value, _ in results], np.float64)
    names = results[0][1]
    return Outcome(values, {n: np.stack([np.asarray(p[n]) for _, p in results]) for n in names})


def call_reference(results: Sequence[tuple[float, Params]]) -> Reference:
    """The truth at each point; errors are relative to the size of each array."""
    truth = outcome(results)
    start = {name: np.zeros_like(value) for name, value in truth.params.items()}
    return Reference(truth.losses[None], start, truth.params, np.ones(len(results)))
