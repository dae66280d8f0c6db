"""One training step as a graph: loss, gradient and update of all parameters and state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from graphc import forks
from graphc.ad.transforms import value_and_grad
from graphc.errors import (
    DTypeError,
    NonFiniteError,
    OptionError,
    SymbolicDimError,
    TrainingWarning,
)
from graphc.functions import name_of, positional_names
from graphc.ir.dims import evaluate, symbol
from graphc.ir.graph import FEW, Graph
from graphc.ir.types import TensorType
from graphc.nonfinite import explain
from graphc.passes import reroll_nodes, stabilize_nodes
from graphc.trace.captured import Captured
from graphc.trace.source import frames_to_user
from graphc.trace.tracing import ArgSpec, Traced, spec_of, trace
from graphc.trace.tree import flatten, leaf_paths, unflatten
from graphc.train import doubts

_BATCH = symbol("batch")


def training_step(loss: Callable, optimizer: Any, watch: Callable | None = None) -> Callable:
    """``step(params, state, *batch) -> (loss, params, state)``, to be traced. ``watch`` is called
    with the gradients."""
    gradient = value_and_grad(loss)

    def step(params, state, *batch):
        value, grads = gradient(params, *batch)
        if watch is not None:
            watch(grads)
        params, state = optimizer.update(params, grads, state)
        return value, params, state

    return step


@dataclass(frozen=True)
class StepTypes:
    """What a step is traced for: types and structure of the parameters and the state, and of the
    rows of the data."""

    structure: Any
    values: tuple[TensorType, ...]
    data_structure: Any
    rows: tuple[TensorType, ...]

    @staticmethod
    def of(params: Any, state: Any, data: tuple) -> StepTypes:
        values, structure = flatten((params, state))
        rows, data_structure = flatten(data)
        return StepTypes(
            structure,
            tuple(spec_of(np.asarray(v), "params").type for v in values),
            data_structure,
            tuple(TensorType(a.dtype, a.shape[1:]) for a in rows),
        )


class TracedStep:
    """The graphs of a step, each traced when first asked for; no array is kept.

    A graph takes leaves (of the parameters, then of the state) and a batch, and returns the loss
    then the new leaves.
    """

    def __init__(self, loss: Callable, optimizer: Any, types: StepTypes):
        self.types = types
        self.lock = forks.lock()  # several trainings may want it at once
        self._read = loss, optimizer
        self._captured: Captured | None = None  # what the traces read besides arguments
        self._step = training_step(loss, optimizer, self._look_at)
        self._learns_nothing = False
        self._name = name_of(loss)
        self._graphs: dict[int | None, Traced] = {}

    def is_stale(self) -> bool:
        """Whether something that the traces have read is no longer so."""
        return self._captured is not None and self._captured.change() is not None

    def traced(self, rows: int) -> Traced:
        """The graph for batches of ``rows``: one for all sizes where the function allows it."""
        with self.lock:
            if rows not in self._graphs and None not in self._graphs:
                try:
                    self._graphs[None] = self._trace(_BATCH)
                except Exception as error:  # what has another cause fails again
                    try:
                        self._graphs[rows] = self._trace(rows)
                    except Exception as again:
                        cause = again if isinstance(error, SymbolicDimError) else error
                        raise cause from None
            return self._graphs.get(rows) or self._graphs[None]

    def small(self, rows: int) -> Graph | None:
        """The graph for batches of ``rows`` alone, if all its arrays have few elements."""
        graph = self.traced(rows).graph
        sizes = dict.fromkeys(graph.symbols, rows)
        if graph.tapes or any(evaluate(n.type.size, sizes) > FEW for n in graph.order):
            return None
        graph = self._trace(rows).graph if graph.symbols else graph
        return graph if graph.has_few_elements else None

    def explain(
        self, leaves: Sequence[np.ndarray], batch: Sequence[np.ndarray],
        batch_names: Sequence[str], strict: bool,
    ) -> NonFiniteError | None:  # fmt: skip
        """Why the step is not finite; ``batch_names`` are the user's."""
        params, state = self._numbered()
        changed = [*leaf_paths(params, "params"), *leaf_paths(state, "state")]
        graph = self.traced(len(batch[0])).graph
        names = {}
        for i in graph.inputs:
            name = i.attr("name")
            part, _, rest = name.removeprefix("batch[").partition("]")
            names[name] = batch_names[int(part)] + rest if name.startswith("batch[") else name
        paths = ["loss", *(f"the new {path}" for path in changed)]
        return explain(
            graph, [*leaves, *batch], None, self._name, paths, strict=strict, names=names
        )

    def _numbered(self) -> tuple[Any, Any]:
        """Parameters and state with a number for each leaf."""
        return unflatten(self.types.structure, range(len(self.types.values)))

    def _trace(self, rows) -> Traced:
        types = self.types
        params, state = unflatten(types.structure, map(ArgSpec, types.values))
        specs = [ArgSpec(TensorType(row.dtype, (rows, *row.shape))) for row in types.rows]
        batch = unflatten(types.data_structure, specs)
        traced = trace(
            self._step,
            (params, state, *batch),
            name=f"{self._name}_step",
            shown=self._name,
            before_adjoint=stabilize_nodes,
            roll=reroll_nodes,
        )
        if self._captured is None:
            loss, optimizer = self._read
            self._captured = Captured(loss, [("optimizer", optimizer.update)])
            self._tell_doubts(traced.graph, rows)
        else:
            self._captured.take_over()  # what the functions themselves change, such as a counter
        if traced.shown:
            raise OptionError(
                f"debug_print at {traced.shown[0].source}: steps run natively and print nothing.\n"
                "Print in callback=, or call the loss itself on parameters and a batch."
            )
        self._check_types(traced)
        return traced

    def _look_at(self, grads: Any) -> None:
        self._learns_nothing = doubts.learns_nothing(flatten(grads)[0])

    def _tell_doubts(self, graph: Graph, rows) -> None:
        """Warn of what trains, and cannot be meant."""
        told = [doubts.NOTHING_LEARNED.format(self._name)] if self._learns_nothing else []
        if rows is _BATCH:
            data = graph.inputs[len(self.types.values) :]
            told += doubts.all_pairs(graph, data, self._data_names(), rows)
        for text in told:
            warnings.warn(text, TrainingWarning, stacklevel=frames_to_user())

    def in_user_terms(self, text: str) -> str:
        """``text`` with the user's names for the parts of a batch."""
        names = positional_names(self._read[0])[1:]
        for k, name in enumerate(names[: len(self.types.rows)]):
            text = text.replace(f"batch[{k}]", f"`{name}`")
        return text

    def _data_names(self) -> list[str]:
        """How the user calls the parts of the data."""
        numbered = unflatten(self.types.data_structure, range(len(self.types.rows)))
        own = positional_names(self._read[0])[1:]
        named = zip_longest(own[: len(numbered)], numbered)
        return [p for k, (n, part) in enumerate(named) for p in leaf_paths(part, n or f"data[{k}]")]

    def _check_types(self, traced: Traced) -> None:
        """What the optimiser returns must be of the types it was given."""
        before = traced.graph.inputs[: len(self.types.values)]
        after = traced.graph.outputs[1:]
        paths = leaf_paths(self._numbered(), "(params, state)")
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
