"""Forward-mode differentiation: the tangents of a graph as nodes of the same IR.

One walk from ``wrt`` to ``outputs``, inputs first. Elementwise rows bring their derivative
formulas, all other ops a rule of ``ad/jvp_rules.py``. What does not change has no tangent (None)
rather than an array of zeros, so nothing is computed for data and constants.

Dead branches never leak, as in reverse mode: ``where`` chooses between tangents, and where a
tangent that is zero by structure meets a derivative that can be infinite or NaN, the product is
guarded (``ad/guards.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ad import (
    complex_library,  # noqa: F401  (fills RULES)
    control_forward,
    library_jvp,  # noqa: F401  (fills RULES)
)
from graphc.ad.formulas import environment
from graphc.ad.guards import (
    may_be_nonfinite,
    no_rule,
    refuse_complex,
    refusing_at,
    through,
)
from graphc.ad.in_parts import flat, flows_through_complex, in_two, joined, outputs_in_parts
from graphc.ad.jvp_rules import RULES, Tangent, add
from graphc.errors import GradientError
from graphc.ir import build
from graphc.ir.control import CONTROL
from graphc.ir.graph import Source, inherit, topological
from graphc.ir.node import Node
from graphc.ir.ops import is_elementwise


def jvp(
    outputs: Sequence[Node],
    wrt: Sequence[Node],
    tangents: Sequence[Node],
    sources: dict[Node, Source] | None = None,
) -> list[Node]:
    """The tangent of each output when ``wrt`` moves along ``tangents``.

    ``tangents[i]`` has the type of ``wrt[i]``; the results have the types of ``outputs``, zeros
    where an output does not depend on ``wrt`` or is no float. New nodes enter ``sources`` with
    the line of the node they belong to. Raises GradientError at an op that has no rule.

    >>> from graphc.ir import types
    >>> x = build.input(0, "x", types.tensor_type("float32", (3,)))
    >>> y = build.elementwise("mul", x, x)
    >>> jvp([y], [x], [build.full_like(x, 1)])[0].type
    TensorType(dtype=dtype('float32'), shape=(3,))
    """
    sources = {} if sources is None else sources
    found = push(outputs, wrt, [Tangent(t) for t in tangents], sources)
    return [build.full_like(o, 0) if t is None else t.node for o, t in zip(outputs, found)]


def push(
    outputs: Sequence[Node],
    wrt: Sequence[Node],
    tangents: Sequence[Tangent | None],
    sources: dict[Node, Source],
) -> list[Tangent | None]:
    """As :func:`jvp`, with None where nothing changes."""
    order = topological(outputs)
    active = {w for w, t in zip(wrt, tangents, strict=True) if t is not None}
    for node in order:
        if node.dtype.kind in "fc" and not active.isdisjoint(node.inputs):
            active.add(node)
    if flows_through_complex((*order, *wrt), active):
        parts = outputs_in_parts(outputs, wrt, order, sources)
        return joined(push(parts, flat(wrt), in_two(tangents, wrt), sources), outputs)
    found: dict[Node, Tangent | None] = {}
    results: dict[Node, list[Tangent | None]] = {}  # of loops and choices
    for node, t in zip(wrt, tangents, strict=True):
        if t is not None and t.node.type != node.type:
            raise GradientError(f"tangent {t.node.type} for a value {node.type}")
        found[node] = t if node.dtype.kind in "fc" else None
    suspect = may_be_nonfinite(order, wrt)
    for node in order:
        if node in found:
            continue
        parts = [found[i] for i in node.inputs]
        if node.op in CONTROL:
            found[node] = None
            if any(p is not None for p in parts):
                results[node] = control_forward.push(node, parts, sources, push)
            continue
        if node.op == "item":
            found[node] = results[node.inputs[0]][node.attr("index")] if (
                node.inputs[0] in results
            ) else None  # fmt: skip
            continue
        alive = node.dtype.kind in "fc" and any(p is not None for p in parts)
        found[node] = _push(node, parts, suspect, sources) if alive else None
        if isinstance(found[node], Tangent) and node in sources:
            inherit(
                sources, found[node].node, sources[node].derived("forward-mode derivative", node.op)
            )
    refuse_complex(order, {n for n, t in found.items() if t is not None}, sources)
    return [found[o] for o in outputs]


def _push(node: Node, parts: list[Tangent | None], suspect, sources) -> Tangent | None:
    """The tangent of one node, from those of its inputs."""
    if node.op in RULES:
        with refusing_at(sources.get(node)):
            return RULES[node.op](node, parts)
    if not is_elementwise(node):
        raise no_rule("forward-mode", RULES, node, sources.get(node))
    env = environment(node)
    total = None
    with refusing_at(sources.get(node)):
        for position, part in enumerate(parts):
            if part is not None:
                total = add(total, through(node, position, part, env, suspect))
    return total
