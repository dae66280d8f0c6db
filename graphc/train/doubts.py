"""What trains without an error and is not what was meant, found in the graph of a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.trace.blame import constant_value
from graphc.trace.source import line_text


def learns_nothing(grads: Iterable[Any]) -> bool:
    """Whether all gradients are 0 whatever the data is."""
    values = [constant_value(g.node) if hasattr(g, "node") else np.asarray(g) for g in grads]
    return all(value is not None and not np.any(value) for value in values)


NOTHING_LEARNED = (
    "the gradient of `{}` is 0 for all parameters, so training changes nothing.\n"
    "argmax, comparisons, round and astype(int) have gradient 0: train on a smooth error, such as\n"
    "cross-entropy or squares, and give accuracy as metrics=."
)


def all_pairs(graph: Graph, data: Sequence[Node], names: Sequence[str], rows) -> Iterator[str]:
    """Where a column (n, 1) of the data meets a vector (n,), or the reverse: NumPy makes all
    n x n pairs of samples of that."""
    shapes = f"({rows}, 1)", f"({rows},)"
    for node in graph.order:
        if node.type.shape != (rows, rows) or len(node.inputs) != 2:
            continue
        for one, other in (node.inputs, node.inputs[::-1]):
            column, vector = _column(one), _vector(other)
            named = [n for n, part in zip(names, data, strict=True) if part in (column, vector)]
            if column is None or vector is None or not named:
                continue
            source = graph.sources.get(node)
            is_column = column in data
            own, met = shapes if is_column else shapes[::-1]
            fix = f"{named[0]}[:, 0]" if is_column else f"{named[0]}[:, None]"
            yield (
                f"`{named[0]}` has shape {own} and meets {met}: NumPy makes ({rows}, {rows}) of "
                f"that, all pairs of samples.\nIf each is meant with its own, pass {fix}."
                + (f"\n  at {source}: {line_text(source)}" if source else "")
            )
            return


def _repeated(node: Node, axis: int) -> tuple[Node | None, Node | None]:
    """What ``node`` repeats and has as this axis, and what that is a reshape of."""
    if node.op != "broadcast" or tuple(node.attr("dims")) != (axis,):
        return None, None
    inner = node.inputs[0]
    return inner, inner.inputs[0] if inner.op == "reshape" else None


def _column(node: Node) -> Node | None:
    """The (n, 1) that ``node`` repeats along its rows."""
    _, below = _repeated(node, 0)
    return below if below is not None and below.type.shape[1:] == (1,) else None


def _vector(node: Node) -> Node | None:
    """The (n,) that ``node`` repeats along its columns, unless it was a row (1, n)."""
    inner, below = _repeated(node, 1)  # y.T, simplified, is of y itself
    was_row = below is not None and (below.op == "input" or below.type.shape[:1] == (1,))
    return None if inner is None or was_row or inner.type.ndim != 1 else inner
