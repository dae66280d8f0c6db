"""The training engine without a compiler: the traced step, evaluated node by node in NumPy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import interp
from graphc.ad.transforms import value_and_grad
from graphc.errors import DTypeError, SymbolicDimError
from graphc.ir.dims import symbol
from graphc.ir.types import TensorType
from graphc.passes import stabilize_nodes
from graphc.trace.tracing import ArgSpec, Traced, spec_of, trace
from graphc.trace.tree import flatten, leaf_paths, unflatten
from graphc.train.engine import FINISHED, NONFINITE, STOPPED, EpochResult
from graphc.train.shuffle import permutation

_BATCH = symbol("batch")


class InterpretedEngine:
    """Implements :class:`graphc.train.engine.Engine`. ``data`` is a tuple of trees of arrays."""

    def __init__(
        self, loss: Callable, optimizer: Any, params: Any, state: Any, data: tuple, batch_size: int
    ):
        start = time.perf_counter()
        self._leaves, self._structure = flatten((params, state))
        self._leaves = [np.array(leaf) for leaf in self._leaves]
        self._data, self._data_structure = flatten(data)
        self._step = training_step(loss, optimizer)
        self._name = getattr(loss, "__name__", "loss")
        self._batch_size = batch_size
        self._graphs: dict[int | None, Traced] = {}
        self._traced(min(batch_size, len(self._data[0])))
        self.compile_s = time.perf_counter() - start

    def start(self, *, epochs: int, shuffle: bool, seed: int, first_epoch: int) -> _InterpretedRun:
        return _InterpretedRun(self, epochs, shuffle, seed, first_epoch)

    def params(self) -> Any:
        return unflatten(self._structure, [leaf.copy() for leaf in self._leaves])[0]

    def state(self) -> Any:
        return unflatten(self._structure, [leaf.copy() for leaf in self._leaves])[1]

    @property
    def samples(self) -> int:
        return len(self._data[0])

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def step(self, rows: np.ndarray | slice) -> float | None:
        """One update from the samples ``rows``; its loss, None if it was dropped."""
        batch = [a[rows] for a in self._data]
        traced = self._traced(len(batch[0]))
        loss, *leaves = interp.evaluate(traced.graph, [*self._leaves, *batch])
        if not all(np.isfinite(v).all() for v in (loss, *leaves)):
            return None
        self._leaves = leaves
        return float(loss)

    def _traced(self, rows: int) -> Traced:
        """The graph for batches of ``rows``: one for all sizes where the function allows it."""
        if rows not in self._graphs and None not in self._graphs:
            try:
                self._graphs[None] = self._trace(_BATCH)
            except SymbolicDimError:
                self._graphs[rows] = self._trace(rows)
        return self._graphs.get(rows) or self._graphs[None]

    def _trace(self, rows) -> Traced:
        params, state = unflatten(self._structure, [spec_of(v, "params") for v in self._leaves])
        specs = [ArgSpec(TensorType(a.dtype, (rows, *a.shape[1:]))) for a in self._data]
        batch = unflatten(self._data_structure, specs)
        traced = trace(
            self._step,
            (params, state, *batch),
            name=f"{self._name}_step",
            before_adjoint=stabilize_nodes,
        )
        self._check_types(traced)
        return traced

    def _check_types(self, traced: Traced) -> None:
        """What the optimiser returns must be of the types it was given."""
        before = traced.graph.inputs[: len(self._leaves)]
        after = traced.graph.outputs[1:]
        paths = leaf_paths(unflatten(self._structure, self._leaves), "(params, state)")
        if len(after) != len(before):
            raise DTypeError(
                f"the optimizer was given {len(before)} values (parameters and state) and "
                f"returned {len(after)}"
            )
        for path, a, b in zip(paths, before, after, strict=True):
            if a.type != b.type:
                raise DTypeError(
                    f"one training step changes the type of {path}: {a.type} -> {b.type}"
                )


def training_step(loss: Callable, optimizer: Any) -> Callable:
    """``step(params, state, *batch) -> (loss, params, state)``, to be traced."""
    gradient = value_and_grad(loss)

    def step(params, state, *batch):
        value, grads = gradient(params, *batch)
        params, state = optimizer.update(params, grads, state)
        return value, params, state

    return step


class _InterpretedRun:
    """Implements :class:`graphc.train.engine.Run`."""

    def __init__(self, engine: InterpretedEngine, epochs, shuffle, seed, first_epoch):
        self._engine = engine
        self._epochs = range(first_epoch, first_epoch + epochs)
        self._shuffle, self._seed = shuffle, seed
        self._progress = (0, float("nan"))
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._result: EpochResult | None = None
        self._thread = threading.Thread(target=self._work, name="graphc-train", daemon=True)
        self._thread.start()

    def done(self) -> bool:
        return not self._thread.is_alive()

    def progress(self) -> tuple[int, float]:
        return self._progress

    def stop(self) -> None:
        self._stop.set()

    def result(self) -> EpochResult:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def _work(self) -> None:
        try:
            start = time.perf_counter()
            losses, status = self._train()
            seconds = time.perf_counter() - start
            steps = self._progress[0]
            self._result = EpochResult(np.array(losses, np.float64), steps, seconds, status)
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error

    def _train(self) -> tuple[list[float], str]:
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
                loss = self._engine.step(rows)
                if loss is None:
                    return losses, NONFINITE
                self._progress = (self._progress[0] + 1, loss)
                total += loss * (last - first)
            losses.append(total / samples)
        return losses, FINISHED
