"""Graph-to-graph passes: the recipe reads top to bottom."""

from __future__ import annotations

from collections.abc import Callable

from graphc.ir.graph import Graph
from graphc.ir.rows import fold_rows
from graphc.ir.verify import verify
from graphc.passes.control import tidy_control
from graphc.passes.loop_inputs import products_into_loops
from graphc.passes.loop_sums import products_behind_loops, sums_into_loops
from graphc.passes.patterns import Rule
from graphc.passes.reroll import reroll, reroll_nodes
from graphc.passes.simplify import SIMPLIFY, simplify
from graphc.passes.stabilize import STABILIZE, stabilize, stabilize_nodes

__all__ = [
    "PASSES",
    "optimize",
    "reroll_nodes",
    "rule_sets",
    "simplify",
    "stabilize",
    "stabilize_nodes",
]

# Dead code needs no pass: a graph is what its outputs reach. Equal nodes are one node already.
PASSES: tuple[tuple[str, Callable[[Graph], Graph]], ...] = (
    ("rows", fold_rows),
    ("reroll", reroll),
    ("rows again", fold_rows),
    ("stabilize", stabilize),
    ("control", tidy_control),
    ("simplify", simplify),
    ("loop sums", products_behind_loops),
    ("loop inputs", products_into_loops),
    ("loop totals", sums_into_loops),
    ("control again", tidy_control),
)


def optimize(
    graph: Graph,
    *,
    check: bool = False,
    observe: Callable[[str, Graph], None] | None = None,
) -> Graph:
    """An equal, cheaper graph of the same inputs and output types.

    ``check`` verifies after every pass (raises VerifyError that names it); ``observe`` is called
    with the name and the result of each pass.

    >>> from graphc.ir import build, types
    >>> x = build.input(0, "x", types.tensor_type("float32", (3,)))
    >>> twice = build.elementwise("neg", build.elementwise("neg", x))
    >>> optimize(Graph("f", (x,), (twice,))).outputs == (x,)
    True
    """
    for name, run in PASSES:
        graph = run(graph)
        if check:
            verify(graph, after=name)
        if observe:
            observe(name, graph)
    return graph


def rule_sets() -> dict[str, tuple[Rule, ...]]:
    """The rules of each pass by its name, for tests, documentation and reports.

    >>> any(rule.name == "neg_neg" for rule in rule_sets()["simplify"])
    True
    """
    return {"stabilize": STABILIZE, "simplify": SIMPLIFY}
