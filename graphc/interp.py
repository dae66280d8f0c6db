"""NumPy evaluation of any graph: the oracle for compiled code, and a tier without a compiler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.errors import ShapeError
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.ops import OPS


def bind_dims(graph: Graph, arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """Sizes of the symbolic dims from actual arrays; raises ShapeError on a contradiction."""
    env: dict[str, int] = {}
    for node, array in zip(graph.inputs, arrays, strict=True):
        name = node.attr("name")
        if array.ndim != node.ndim:
            raise ShapeError(f"argument {name}: expected {node.type}, got shape {array.shape}")
        for dim, size in zip(node.shape, array.shape, strict=True):
            if isinstance(dim, Dim) and len(dim.symbols) == 1 and dim.terms[0][1] == 1:
                dim_name = str(dim)
                if dim_name.isidentifier() and env.setdefault(dim_name, size) != size:
                    raise ShapeError(
                        f"argument {name}: dimension {dim} is {env[dim_name]} elsewhere, "
                        f"here {size}"
                    )
            elif not isinstance(dim, Dim) and dim != size:
                raise ShapeError(f"argument {name}: expected {node.type}, got shape {array.shape}")
    return env


def _evaluated(graph: Graph, node: Node, env, operands) -> np.ndarray:
    try:
        return np.asarray(OPS[node.op].evaluate(node, env, *operands))
    except np.linalg.LinAlgError as error:
        where = f" ({graph.sources[node]})" if node in graph.sources else ""
        raise np.linalg.LinAlgError(f"{node.op}: {error}{where}") from None


def evaluate(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of ``graph`` for ``arrays`` (one for each input, of its dtype)."""
    env = bind_dims(graph, arrays)
    values = dict(zip(graph.inputs, arrays, strict=True))
    remaining = {n: len(u) for n, u in graph.users.items()}
    kept = set(graph.outputs)
    with np.errstate(all="ignore"):
        for node in graph.order:
            if node not in values:
                operands = [values[i] for i in node.inputs]
                values[node] = _evaluated(graph, node, env, operands)
            for i in dict.fromkeys(node.inputs):
                remaining[i] -= 1
                if not remaining[i] and i not in kept:
                    del values[i]
    return [np.array(values[o], copy=True) for o in graph.outputs]
