"""Every rule that makes a graph cheaper, brought to one common fixed point.

One set and not a pass for each file: a folded constant lets algebra act, which lets a view
vanish, which lets a matmul take a transpose. No pass has to run twice.
"""

from __future__ import annotations

from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.passes import adjoints, algebra, fold, matmul, reductions, views
from graphc.passes.patterns import rewrites, rule
from graphc.passes.rewrite import rewrite


# After differentiation only: before it the op is what cuts the derivative.
@rewrites("implicit")
def drop_implicit(node: Node) -> Node:
    """The derivative has been taken: only the value counts."""
    return node.inputs[0]


_AFTER_AD = (rule("stop_gradient", "stop_gradient(x)", "x"), drop_implicit)

# Safe before differentiation as well: the stabilising rules see their patterns in one form.
BASIC = (*fold.RULES, *algebra.RULES, *views.RULES, *reductions.RULES)
SIMPLIFY = (*_AFTER_AD, *BASIC, *adjoints.RULES, *matmul.RULES)


def simplify(graph: Graph) -> Graph:
    """``graph`` with all simplifying rules applied."""
    return rewrite(graph, SIMPLIFY)
