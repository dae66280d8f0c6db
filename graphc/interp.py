"""NumPy evaluation of any graph: the oracle for compiled code, and a tier without a compiler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.errors import ShapeError
from graphc.ir import control
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph
from graphc.ir.rows import rows_of, stack_arguments, unstack_results

FIRST_TAPE = 16  # steps that a loop can record at first


def bind_dims(graph: Graph, arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """Sizes of the symbolic dims from actual arrays; raises ShapeError on a contradiction."""
    env: dict[str, int] = {}
    for node, array in zip(rows_of(graph).arguments, arrays, strict=True):
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


def evaluate(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of ``graph`` for ``arrays`` (one for each input, of its dtype)."""
    env = bind_dims(graph, arrays)
    env.update(dict.fromkeys(graph.tapes, FIRST_TAPE))
    arrays = stack_arguments(graph, arrays, env)
    with np.errstate(all="ignore"):
        while True:
            try:
                values = unstack_results(graph, control.run(graph, arrays, env), env)
                return [np.array(v, copy=True) for v in values]
            except control.TapeFull as full:
                env[full.symbol] *= 2
            except control.Failed as failed:
                where = graph.sources.get(failed.node)
                line = f" ({where})" if where else ""
                name = failed.node.op.removeprefix("complex_")
                what = "" if failed.node.op == "check_index" else f"{name}: "
                raise type(failed.error)(f"{what}{failed.error}{line}") from None
