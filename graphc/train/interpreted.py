"""The training engine without a compiler: the traced step, evaluated node by node in NumPy."""

from __future__ import annotations

import threading
import time

import numpy as np

from graphc import interp
from graphc.train.engine import FINISHED, NONFINITE, STOPPED, BackgroundRun, Engine, EpochResult
from graphc.train.shuffle import permutation
from graphc.train.step import TracedStep


class InterpretedEngine(Engine):
    """A step is the evaluation of its graph."""

    def __init__(self, step: TracedStep, params, state, data: tuple, batch_size: int):
        start = time.perf_counter()
        super().__init__(step, params, state, data, batch_size)
        step.traced(self.batch_size)
        self.compile_s = time.perf_counter() - start

    def start(self, *, epochs: int, shuffle: bool, seed: int, first_epoch: int) -> _InterpretedRun:
        return _InterpretedRun(self, range(first_epoch, first_epoch + epochs), shuffle, seed)

    def make_step(self, rows: np.ndarray | slice) -> float | None:
        """One update from the samples ``rows``; its loss, None if it was dropped."""
        batch = [a[rows] for a in self.data]
        graph = self.step.traced(len(batch[0])).graph
        loss, *leaves = interp.evaluate(graph, [*self.leaves, *batch])
        if not all(np.isfinite(v).all() for v in (loss, *leaves)):
            return None
        self.leaves = leaves
        return float(loss)


class _InterpretedRun(BackgroundRun):
    def __init__(self, engine: InterpretedEngine, epochs: range, shuffle: bool, seed: int):
        self._engine, self._epochs, self._shuffle, self._seed = engine, epochs, shuffle, seed
        self._progress = (0, float("nan"))
        self._stop = threading.Event()
        super().__init__()

    def progress(self) -> tuple[int, float]:
        return self._progress

    def stop(self) -> None:
        self._stop.set()

    abandon = stop

    def _train(self) -> EpochResult:
        start = time.perf_counter()
        losses, status = self._epoch_losses()
        seconds = time.perf_counter() - start
        return EpochResult(np.array(losses, np.float64), self._progress[0], seconds, status)

    def _epoch_losses(self) -> tuple[list[float], str]:
        samples, size = self._engine.samples, self._engine.batch_size
        losses: list[float] = []
        for epoch in self._epochs:
            order = permutation(samples, self._seed, epoch) if self._shuffle else None
            total = 0.0
            for first in range(0, samples, size):
                if self._stop.is_set():
                    return losses, STOPPED
                last = min(first + size, samples)
                rows = slice(first, last) if order is None else order[first:last]
                loss = self._engine.make_step(rows)
                if loss is None:
                    return losses, NONFINITE
                self._progress = (self._progress[0] + 1, loss)
                total += loss * (last - first)
            losses.append(total / samples)
        return losses, FINISHED
