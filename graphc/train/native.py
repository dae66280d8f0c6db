"""The native training engine: compiled steps under the epoch driver, in a thread of its own."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import pipeline
from graphc.ir.graph import Graph
from graphc.runtime import driver
from graphc.runtime.executor import Binding, Executable, aligned_empty, pointer
from graphc.runtime.memory import APART, LARGE, allocator, empty
from graphc.schedule.memory import ALIGNMENT, INTERRUPTED
from graphc.train.engine import FINISHED, NONFINITE, STOPPED, BackgroundRun, Engine, EpochResult
from graphc.train.shuffle import stream_base
from graphc.train.step import TracedStep
from graphc.train.turns import MAX_TURNS, in_turns

if TYPE_CHECKING:
    from graphc.memory import Memory

_STATUS = {
    driver.FINISHED: FINISHED, driver.STOPPED: STOPPED, driver.NONFINITE: NONFINITE,
    driver.LIMITED: NONFINITE,
}  # fmt: skip


class CompiledStep(TracedStep):
    """A step with its native programs, each compiled when first asked for."""

    def __init__(self, loss, optimizer, types, threads: int = 1, memory_limit: int | None = None):
        super().__init__(loss, optimizer, types)
        self._threads, self._memory_limit = threads, memory_limit
        self.memory: dict[int, Memory] = {}  # of batches of each size, where it is limited
        self._programs: dict[Any, Executable | None] = {}

    def program(self, rows: int) -> Executable:
        """The step for batches of ``rows``: one for all sizes where the function allows it, and
        no limit is to be met."""
        with self.lock:
            graph = self.traced(rows).graph
            sizes = {s: rows for s in graph.symbols if s not in graph.tapes}
            key = rows if self._memory_limit is not None or not sizes else None
            if key not in self._programs:
                # Outputs are the loss, then each leaf of params and state in place.
                donated = {1 + k: k for k in range(len(self.types.values))}
                graph = Graph(graph.name, graph.inputs, graph.outputs, graph.sources, donated)
                if self._memory_limit is not None:
                    from graphc.memory_limit import within  # passes and schedule

                    graph, self.memory[rows] = within(
                        graph, self._memory_limit, sizes, self._threads > 1
                    )
                self._programs[key] = pipeline.build(graph, self._threads)
            return self._programs[key]

    def turns(self, rows: int, one_batch: bool) -> Executable | None:
        """Many steps as one program, for steps of few elements; None for others. Each step has a
        batch of its own, or all have ``one_batch``."""
        if self._memory_limit is not None:
            return None
        key = (rows, one_batch)
        with self.lock:
            if key not in self._programs:
                small = self.small(rows)
                self._programs[key] = None if small is None else pipeline.build(
                    in_turns(small, len(self.types.values), one_batch), self._threads
                )  # fmt: skip
            return self._programs[key]


@dataclass(eq=False)
class _Step:
    """A compiled step for batches of some size, bound to the engine's memory."""

    executable: Executable
    binding: Binding
    loss: np.ndarray  # of a call, which has several where a call makes several steps


class NativeEngine(Engine):
    """One native call a run."""

    def __init__(self, step: CompiledStep, params, state, data: tuple, batch_size: int):
        start = time.perf_counter()
        super().__init__(step, params, state, data, batch_size)
        self.data = [np.ascontiguousarray(a) for a in self.data]
        rows, rest = self.batch_size, self.samples % self.batch_size
        turns = step.turns(rows, one_batch=not rest and rows == self.samples)
        self._turns = 0 if turns is None else MAX_TURNS
        calls = max(self._turns, 1)
        self._wide_losses = np.empty(calls)
        self._gathered = [aligned_empty(a[:1].nbytes * rows * calls) for a in self.data]
        self._full = self._last = self._bind(
            turns or step.program(rows), self._turns or rows, calls
        )
        if rest and (turns or not self._full.executable.artifact.sizes):
            self._last = self._bind(step.program(rest), rest)
        self.memory = step.memory.get(rows)
        self._before: list[np.ndarray] = []
        self._driver = driver.load()
        self.compile_s = time.perf_counter() - start

    def start(self, *, epochs: int, shuffle: bool, seed: int, first_epoch: int) -> _NativeRun:
        return _NativeRun(self, epochs, shuffle, seed, first_epoch)

    def finish(self) -> tuple[Any, Any]:
        for step in dict.fromkeys((self._full, self._last)):
            step.executable.give_back(step.binding)
        # Large ones have memory of their own; a small one lies in more than it needs.
        return self._tree([a if a.base is None else a.copy() for a in self.leaves])

    def _own(self, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
        copies = _like(leaves)
        _copy(leaves, copies)
        return copies

    def remember(self) -> None:
        """The values of the leaves now, for :meth:`restore`."""
        self._before = self._before or _like(self.leaves)
        _copy(self.leaves, self._before)

    def restore(self) -> None:
        _copy(self._before, self.leaves)

    def _bind(self, executable: Executable, size: int, losses: int = 1) -> _Step:
        binding = executable.borrow(dict.fromkeys(executable.artifact.sizes, size))
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


def _copy(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target[...] = source


def _like(leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Memory for arrays of these types, each contiguous and from the start of a cache line. A
    large one has memory of its own, which was used before if there is some; the others share."""
    kinds = [(leaf.shape, leaf.dtype) for leaf in leaves]
    kept = allocator(kinds)
    sizes = [0 if kept and leaf.nbytes >= LARGE else leaf.nbytes + APART for leaf in leaves]
    ends = [0, *accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)]
    shared = aligned_empty(ends[-1])
    return [
        kept.empty([kind])[0]
        if not size
        else shared[first : first + leaf.nbytes].view(leaf.dtype).reshape(leaf.shape)
        for leaf, kind, size, first in zip(leaves, kinds, sizes, ends, strict=False)
    ]


class _NativeRun(BackgroundRun):
    def __init__(self, engine: NativeEngine, epochs, shuffle, seed, first_epoch):
        self._engine = engine
        self._request = (epochs, shuffle, seed, first_epoch)
        self._control = driver.control_block()
        self._last_loss = np.full(1, np.nan)
        engine.remember()
        super().__init__()

    def progress(self) -> tuple[int, float]:
        return int(self._control[driver.DONE]), float(self._last_loss[0])

    def stop(self) -> None:
        self._control[driver.STOP] = 1

    def abandon(self) -> None:
        for step in (self._engine._full, self._engine._last):
            step.binding.stop()

    def _train(self) -> EpochResult:
        while True:
            losses, seconds = self._call(self._control, limit=-1)
            status = int(self._control[driver.STATUS])
            if status != driver.BAD_INDEX:
                break
            if not self._engine.grow_tape():
                self._raise_bad_index()
            self._engine.restore()  # runs are deterministic: begin again
            self._control[: driver.CONTROL_WORDS] = driver.control_block()
        if status == driver.NONFINITE or not self._finite():
            self._rewind()
            status = driver.NONFINITE
        epochs_done, steps = (int(self._control[w]) for w in (driver.EPOCHS_DONE, driver.DONE))
        if epochs_done < len(losses):
            losses = losses[:epochs_done].copy()
        return EpochResult(losses, steps, seconds, _STATUS[status])

    def _call(self, control: np.ndarray, limit: int) -> tuple[np.ndarray, float]:
        engine, (epochs, shuffle, seed, first_epoch) = self._engine, self._request
        base = stream_base(seed, first_epoch)
        control[driver.LIMIT] = limit
        control[driver.SAMPLES] = engine.samples
        control[driver.BATCH] = engine.batch_size
        control[driver.EPOCHS] = epochs
        control[driver.SHUFFLE] = shuffle
        control[driver.RANDOM] = base - (1 << 64) if base >> 63 else base
        # Fresh memory would be paid for page by page: that of an earlier history, if it is gone.
        (losses,) = empty([((epochs,), np.dtype(float))])
        order = np.zeros(engine.samples if shuffle else 1, np.int64)
        began = time.perf_counter()
        engine._driver_call(control, losses, self._last_loss, order)
        return losses, time.perf_counter() - began

    def _finite(self) -> bool:
        return all(np.isfinite(leaf).all() for leaf in self._engine.leaves)

    def _rewind(self) -> None:
        """Back to the last finite parameters. Runs are deterministic, so the steps before the
        fault are run again from the start of the run instead of copying parameters each step."""
        good = int(self._control[driver.DONE])
        while True:
            self._engine.restore()
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
                error = step.executable.artifact.failure(failed, value, step.binding.env)
                raise type(error)(self._engine.step.in_user_terms(str(error)))
        raise IndexError("an index in the data is out of bounds")
