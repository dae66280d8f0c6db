"""Jacobian-vector products of the ops that are not elementwise: one rule an op.

A rule takes the node and the tangents of its inputs, None for those that do not change; it
returns the tangent of the result. Rules are written with the same IR, so they can themselves be
differentiated in either direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from graphc.ad import rules as vjp_rules
from graphc.ad.guards import ANYWHERE, CLEAN, Zeros
from graphc.ir import build
from graphc.ir.graph import rebuild
from graphc.ir.node import Node
from graphc.ir.rules import Rules


class Tangent(NamedTuple):
    """A tangent and whether it can be zero by structure: ``zeros`` is empty or holds the markers
    of ``ad/guards.py``. An unknown tangent is never an array of zeros, but None."""

    node: Node
    zeros: Zeros = CLEAN


Rule = Callable[[Node, Sequence[Tangent | None]], Tangent | None]
RULES: Rules[Rule] = Rules()
rule = RULES.declare

DEAD: Zeros = frozenset([ANYWHERE])


def filled(tangent: Tangent | None, like: Node) -> Node:
    """The tangent of ``like`` as an array, zeros where it has none."""
    return build.full_like(like, 0) if tangent is None else tangent.node


def joint_zeros(tangents: Sequence[Tangent | None]) -> Zeros:
    """Zeros of a result that has some elements from each of ``tangents``."""
    zeros = CLEAN.union(*(t.zeros for t in tangents if t is not None))
    return zeros | DEAD if None in tangents else zeros


def add(a: Tangent | None, b: Tangent | None) -> Tangent | None:
    """The sum of two contributions. A position is dead only if neither reaches it."""
    if a is None or b is None:
        return b if a is None else a
    zeros = a.zeros | b.zeros if a.zeros and b.zeros else CLEAN
    return Tangent(build.elementwise("add", a.node, b.node), zeros)


# ---------------------------------------------------------------------------------- linear ops


@rule("reshape", "transpose", "broadcast", "slice", "windows", "sum", "cumsum", "real", "imag")
def _same(node, tangents):
    (t,) = tangents
    return Tangent(rebuild(node, (t.node,)), t.zeros)


@rule("dft")
def _dft(node, tangents):
    t, _ = tangents
    return None if t is None else Tangent(rebuild(node, (t.node, node.inputs[1])))


@rule("take", "take_along")
def _gather(node, tangents):
    t, _ = tangents
    return None if t is None else Tangent(rebuild(node, (t.node, node.inputs[1])), t.zeros)


@rule("scatter_add")
def _scatter_add(node, tangents):
    _, t = tangents
    return None if t is None else Tangent(rebuild(node, (node.inputs[0], t.node)), t.zeros | DEAD)


@rule("scatter_set")
def _scatter_set(node, tangents):
    x, indices, updates = node.inputs
    by_x, _, by_updates = tangents
    parts = (filled(by_x, x), indices, filled(by_updates, updates))
    return Tangent(rebuild(node, parts), joint_zeros([by_x, by_updates]))


@rule("pad", "concat", "complex")
def _assemble(node, tangents):
    parts = (filled(t, x) for t, x in zip(tangents, node.inputs, strict=True))
    return Tangent(rebuild(node, tuple(parts)), joint_zeros(tangents))


@rule("cast")
def _cast(node, tangents):
    (t,) = tangents
    return Tangent(build.cast(t.node, node.dtype), t.zeros)


@rule("barrier")
def _barrier(node, tangents):
    return tangents[0]


@rule("call_arg")
def _call_arg(node, tangents):
    return tangents[0] if node.attr("token").is_differentiated else None


@rule("call")
def _call(node, tangents):
    return node.attr("rule").push(node, tangents)


@rule("call_result")
def _call_result(node, tangents):
    of, _ = tangents
    return None if of is None else of[node.attr("index")]


@rule("where")
def _where(node, tangents):
    """A choice, not a product: what the side that was not taken holds never counts."""
    cond, *values = node.inputs
    sides = tangents[1:]
    a, b = (filled(t, x) for t, x in zip(sides, values, strict=True))
    return Tangent(build.elementwise("where", cond, a, b), joint_zeros(sides))


# -------------------------------------------------------------------------------------- others


@rule("max", "min")
def _extremum(node, tangents):
    """The mean of the tangents where the extremum is attained, as reverse mode shares it."""
    (x,), (t,), axes = node.inputs, tangents, node.attr("axes")
    kept = [a for a in range(x.ndim) if a not in axes]
    attained = build.elementwise("eq", x, build.broadcast(node, x.shape, kept))
    zero = build.full_like(x, 0)
    one = build.full_like(x, 1)
    total = build.reduce("sum", build.elementwise("where", attained, t.node, zero), axes)
    count = build.reduce("sum", build.elementwise("where", attained, one, zero), axes)
    return Tangent(build.elementwise("div", total, count), t.zeros)


@rule("prod")
def _prod(node, tangents):
    """Each element's tangent times the product of the others, which reverse mode knows."""
    (t,) = tangents
    one = vjp_rules.Cotangent(build.full_like(node, 1))
    (others,) = vjp_rules.RULES["prod"](node, one, (True,))
    if others is None:  # no elements
        return None
    product = build.elementwise("mul", t.node, others.node)
    return Tangent(build.reduce("sum", product, node.attr("axes")), t.zeros)


@rule("cumprod")
def _cumprod(node, tangents):
    """The product rule for y = x * shifted(x), by doubling as in reverse mode."""
    (x,), (t,), axis = node.inputs, tangents, node.attr("axis")
    value, shift = t.node, 1
    while shift < x.shape[axis].__index__():
        moved = vjp_rules.shifted(x, axis, shift, 1)
        value = build.elementwise(
            "add",
            build.elementwise("mul", value, moved),
            build.elementwise("mul", x, vjp_rules.shifted(value, axis, shift, 0)),
        )
        x = build.elementwise("mul", x, moved)
        shift *= 2
    return Tangent(value, t.zeros)


@rule("matmul", "conv")
def _bilinear(node, tangents):
    """The product rule. What follows a contraction is taken as alive."""
    a, b = node.inputs
    by_a, by_b = tangents
    left = None if by_a is None else Tangent(rebuild(node, (by_a.node, b)))
    right = None if by_b is None else Tangent(rebuild(node, (a, by_b.node)))
    return add(left, right)
