"""One training step as a graph: loss, gradient and update of all parameters and state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ad.transforms import value_and_grad
from graphc.errors import DTypeError, NonFiniteError, OptionError, SymbolicDimError
from graphc.functions import name_of
from graphc.ir.dims import evaluate, symbol
from graphc.ir.graph import FEW, Graph
from graphc.ir.types import TensorType
from graphc.nonfinite import explain
from graphc.passes import before_adjoint
from graphc.trace.tracing import ArgSpec, Traced, spec_of, trace
from graphc.trace.tree import flatten, leaf_paths, unflatten

_BATCH = symbol("batch")


def training_step(loss: Callable, optimizer: Any) -> Callable:
    """``step(params, state, *batch) -> (loss, params, state)``, to be traced."""
    gradient = value_and_grad(loss)

    def step(params, state, *batch):
        value, grads = gradient(params, *batch)
        params, state = optimizer.update(params, grads, state)
        return value, params, state

    return step


class TracedStep:
    """What every engine starts from: the memory of a training and the graphs of its step.

    ``leaves`` are the parameters and the state, ``data`` the arrays of the samples, both flat.
    A graph takes leaves then batch, and returns the loss then the new leaves.
    """

    def __init__(
        self, loss: Callable, optimizer: Any, params: Any, state: Any, data: tuple, batch_size: int
    ):
        self.leaves, self._structure = flatten((params, state))
        self.leaves = [np.array(leaf) for leaf in self.leaves]
        self.data, self._data_structure = flatten(data)
        self.batch_size = min(batch_size, len(self.data[0]))
        self._step = training_step(loss, optimizer)
        self._name = name_of(loss)
        self._graphs: dict[int | None, Traced] = {}

    @property
    def samples(self) -> int:
        return len(self.data[0])

    def params(self) -> Any:
        """A copy of the current parameters."""
        return unflatten(self._structure, [leaf.copy() for leaf in self.leaves])[0]

    def state(self) -> Any:
        """A copy of the current optimiser state."""
        return unflatten(self._structure, [leaf.copy() for leaf in self.leaves])[1]

    def traced(self, rows: int) -> Traced:
        """The graph for batches of ``rows``: one for all sizes where the function allows it."""
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
        self, rows: np.ndarray | slice, batch_names: Sequence[str], strict: bool
    ) -> NonFiniteError | None:
        """Why the step from the samples ``rows`` is not finite; ``batch_names`` are the user's."""
        batch = [a[rows] for a in self.data]
        params, state = unflatten(self._structure, self.leaves)
        changed = [*leaf_paths(params, "params"), *leaf_paths(state, "state")]
        graph = self.traced(len(batch[0])).graph
        names = {}
        for i in graph.inputs:
            name = i.attr("name")
            part, _, rest = name.removeprefix("batch[").partition("]")
            names[name] = batch_names[int(part)] + rest if name.startswith("batch[") else name
        paths = ["loss", *(f"the new {path}" for path in changed)]
        return explain(
            graph, [*self.leaves, *batch], None, self._name, paths, strict=strict, names=names
        )

    def _trace(self, rows) -> Traced:
        params, state = unflatten(self._structure, [spec_of(v, "params") for v in self.leaves])
        specs = [ArgSpec(TensorType(a.dtype, (rows, *a.shape[1:]))) for a in self.data]
        batch = unflatten(self._data_structure, specs)
        traced = trace(
            self._step,
            (params, state, *batch),
            name=f"{self._name}_step",
            shown=self._name,
            before_adjoint=before_adjoint,
        )
        if traced.shown:
            raise OptionError(
                f"debug_print at {traced.shown[0].source}: steps run natively and print nothing.\n"
                "Print in callback=, or call the loss itself on parameters and a batch."
            )
        self._check_types(traced)
        return traced

    def _check_types(self, traced: Traced) -> None:
        """What the optimiser returns must be of the types it was given."""
        before = traced.graph.inputs[: len(self.leaves)]
        after = traced.graph.outputs[1:]
        paths = leaf_paths(unflatten(self._structure, self.leaves), "(params, state)")
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
