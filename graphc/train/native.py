"""The native training engine: compiled steps under the epoch driver, in a thread of its own."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass

import numpy as np

from graphc import pipeline
from graphc.ir.graph import Graph
from graphc.runtime import driver
from graphc.runtime.executor import Binding, Executable, aligned_empty, pointer
from graphc.schedule.memory import INTERRUPTED
from graphc.train.engine import FINISHED, NONFINITE, STOPPED, BackgroundRun, EpochResult
from graphc.train.shuffle import stream_base
from graphc.train.step import TracedStep
from graphc.train.turns import MAX_TURNS, in_turns

_STATUS = {
    driver.FINISHED: FINISHED, driver.STOPPED: STOPPED, driver.NONFINITE: NONFINITE,
    driver.LIMITED: NONFINITE,
}  # fmt: skip


@dataclass(eq=False)
class _Step:
    """A compiled step for batches of some size, bound to the engine's memory."""

    executable: Executable
    binding: Binding
    loss: np.ndarray  # of a call, which has several where a call makes several steps


class NativeEngine(TracedStep):
    """Implements :class:`graphc.train.engine.Engine` with one native call a run."""

    def __init__(
        self, loss, optimizer, params, state, data: tuple, batch_size: int, threads: int = 1,
        memory_limit: int | None = None,
    ):  # fmt: skip
        start = time.perf_counter()
        self.threads = threads
        super().__init__(loss, optimizer, params, state, data, batch_size)
        self._memory_limit, self.memory = memory_limit, None
        self.leaves = [_owned(leaf) for leaf in self.leaves]
        self.data = [np.ascontiguousarray(a) for a in self.data]
        small = self.small(self.batch_size) if memory_limit is None else None
        self._turns = 0 if small is None else MAX_TURNS
        self._wide_losses = np.empty(max(self._turns, 1))
        gathered = self.batch_size * max(self._turns, 1)
        self._gathered = [aligned_empty(a[:1].nbytes * gathered) for a in self.data]
        rest = self.samples % self.batch_size
        if small is None:
            self._full = self._bound(self.batch_size)
            self._last = self._bound(rest, self._full) if rest else self._full
        else:
            one_batch = self.batch_size == self.samples
            steps = in_turns(small, len(self.leaves), one_batch)
            self._full = self._bind(pipeline.build(steps, threads), self._turns, self._turns)
            self._last = self._bound(rest) if rest else self._full
        self._driver = driver.load()
        self.compile_s = time.perf_counter() - start

    def start(self, *, epochs: int, shuffle: bool, seed: int, first_epoch: int) -> _NativeRun:
        return _NativeRun(self, epochs, shuffle, seed, first_epoch)

    def _bound(self, rows: int, other: _Step | None = None) -> _Step:
        """The step for ``rows``; one that takes any number is compiled once."""
        if other is not None and other.executable.artifact.sizes:
            return other
        graph = self.traced(rows).graph
        # Outputs are the loss, then each leaf of params and state in place.
        donated = {1 + k: k for k in range(len(self.leaves))}
        graph = Graph(graph.name, graph.inputs, graph.outputs, graph.sources, donated)
        if self._memory_limit is not None:
            from graphc.memory_limit import within  # passes and schedule

            sizes = {s: rows for s in graph.symbols if s not in graph.tapes}
            graph, needs = within(graph, self._memory_limit, sizes, self.threads > 1)
            self.memory = self.memory or needs  # that of full batches
        return self._bind(pipeline.build(graph, self.threads), rows)

    def _bind(self, executable: Executable, size: int, losses: int = 1) -> _Step:
        sizes = dict.fromkeys(executable.artifact.sizes, size)
        binding = Binding(
            executable.artifact, {**sizes, **executable.capacities.sizes}, executable.threads
        )
        loss = np.zeros(losses, executable.artifact.outputs[0].type.dtype)
        for k, leaf in enumerate(self.leaves):
            binding.table[k] = pointer(leaf)
        binding.table[len(executable.artifact.inputs)] = pointer(loss)
        return _Step(executable, binding, loss)

    def grow_tape(self) -> bool:
        """More room on the tape that a step found full, if one did; TapeError past the budget."""
        steps = list(dict.fromkeys((self._full, self._last)))
        for step in steps:
            tape = -int(step.binding.ints[0])
            if tape > 0:
                step.executable.capacities.grow(tape, step.binding.env)
                rest = self.samples % self.batch_size
                together = self._last is self._full
                self._full = self._bind(self._full.executable, self.batch_size)
                self._last = self._full if together else self._bind(self._last.executable, rest)
                return True
        return False

    @property
    def executable(self) -> Executable:
        """The compiled step, for reports."""
        return self._full.executable

    def _driver_call(self, control, losses, last_loss, order) -> None:
        """One call of the driver; it returns when all epochs are done or one stops it."""
        streams = np.zeros((len(self.data), driver.STREAM_WORDS), np.int64)
        for k, (array, gathered) in enumerate(zip(self.data, self._gathered, strict=True)):
            row_bytes = array[:1].nbytes
            streams[k] = [pointer(array), pointer(gathered), row_bytes, len(self.leaves) + k]
        steps = (self._full, self._last)
        symbolic = bool(self._last.executable.artifact.sizes)
        control[driver.STREAMS] = len(streams)
        control[driver.WIDE_LOSS] = self._full.loss.dtype == np.float64
        control[driver.SYMBOLIC] = symbolic
        control[driver.TURNS] = self._turns
        control[driver.FULL_STEP : driver.LAST_STEP + 1] = [
            s.executable.native.address for s in steps
        ]
        control[driver.FULL_ARENA : driver.LAST_ARENA + 1] = [
            s.binding.arena_address for s in steps
        ]
        addresses = [pointer(a) for a in (control, streams, order, losses, last_loss)]
        for step in steps:
            addresses += [
                ctypes.addressof(step.binding.table), step.binding.ints_address, pointer(step.loss)
            ]  # fmt: skip
        addresses.append(pointer(self._wide_losses))
        table = (ctypes.c_void_p * len(addresses))(*addresses)
        self._driver.call(table, None, None)


def _owned(leaf: np.ndarray) -> np.ndarray:
    """A contiguous copy that starts on a cache line."""
    memory = aligned_empty(max(leaf.nbytes, 1))[: leaf.nbytes]
    copy = memory.view(leaf.dtype).reshape(leaf.shape)
    copy[...] = leaf
    return copy


class _NativeRun(BackgroundRun):
    def __init__(self, engine: NativeEngine, epochs, shuffle, seed, first_epoch):
        self._engine = engine
        self._request = (epochs, shuffle, seed, first_epoch)
        self._control = driver.control_block()
        self._last_loss = np.full(1, np.nan)
        self._before = [leaf.copy() for leaf in engine.leaves]
        super().__init__()

    def progress(self) -> tuple[int, float]:
        return int(self._control[driver.DONE]), float(self._last_loss[0])

    def stop(self) -> None:
        self._control[driver.STOP] = 1

    def abandon(self) -> None:
        for step in (self._engine._full, self._engine._last):
            step.binding.stop()

    def _train(self) -> EpochResult:
        losses, seconds = self._call(self._control, limit=-1)
        status = int(self._control[driver.STATUS])
        while status == driver.BAD_INDEX:
            if not self._engine.grow_tape():
                self._raise_bad_index()
            self._restore()  # runs are deterministic: begin again
            self._control[: driver.CONTROL_WORDS] = driver.control_block()
            losses, seconds = self._call(self._control, limit=-1)
            status = int(self._control[driver.STATUS])
        if status == driver.NONFINITE or not self._finite():
            self._rewind()
            status = driver.NONFINITE
        epochs_done, steps = (int(self._control[w]) for w in (driver.EPOCHS_DONE, driver.DONE))
        return EpochResult(losses[:epochs_done], steps, seconds, _STATUS[status])

    def _call(self, control: np.ndarray, limit: int) -> tuple[np.ndarray, float]:
        engine, (epochs, shuffle, seed, first_epoch) = self._engine, self._request
        base = stream_base(seed, first_epoch)
        control[driver.LIMIT] = limit
        control[driver.SAMPLES] = engine.samples
        control[driver.BATCH] = engine.batch_size
        control[driver.EPOCHS] = epochs
        control[driver.SHUFFLE] = shuffle
        control[driver.RANDOM] = base - (1 << 64) if base >> 63 else base
        losses = np.zeros(epochs)
        order = np.zeros(engine.samples if shuffle else 1, np.int64)
        began = time.perf_counter()
        engine._driver_call(control, losses, self._last_loss, order)
        return losses, time.perf_counter() - began

    def _finite(self) -> bool:
        return all(np.isfinite(leaf).all() for leaf in self._engine.leaves)

    def _restore(self) -> None:
        for leaf, before in zip(self._engine.leaves, self._before, strict=True):
            leaf[...] = before

    def _rewind(self) -> None:
        """Back to the last finite parameters. Runs are deterministic, so the steps before the
        fault are run again from the start of the run instead of copying parameters each step."""
        good = int(self._control[driver.DONE])
        while True:
            self._restore()
            if good:
                replay = driver.control_block()
                self._call(replay, limit=good)
                self._control[driver.EPOCHS_DONE] = replay[driver.EPOCHS_DONE]
            self._control[driver.DONE] = good
            if good == 0 or self._finite():
                return
            good -= 1

    def _raise_bad_index(self) -> None:
        for step in (self._engine._full, self._engine._last):
            failed, value = step.binding.ints[:2].tolist()
            if failed:
                step.binding.ints[:2] = 0
                if failed == INTERRUPTED:
                    raise KeyboardInterrupt
                raise step.executable.artifact.failure(failed, value, step.binding.env)
        raise IndexError("an index in the data is out of bounds")
