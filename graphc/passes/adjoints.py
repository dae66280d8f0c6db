"""Forms in which adjoints keep and read less of the forward pass.

The values agree within a rounding or two. What these rules save is memory that is written in the
forward pass and read again in the backward one.
"""

from __future__ import annotations

from collections import Counter

from graphc.ir import build
from graphc.ir.node import Node
from graphc.ir.ranges import is_positive
from graphc.passes.patterns import constant, is_float, rewrites

_MAX_FACTORS = 12
_MIN_FACTORS = 5  # of both sides: with fewer a fused multiply-add costs no more


@rewrites("add")
def common_factor(node: Node) -> Node | None:
    """``g*a*b + g*c*d`` is ``g * (a*b + c*d)``: the derivative of an activation that has several
    terms is one array, computed where its operands are at hand, and not each of them."""
    if not is_float(node) or not node.ndim:
        return None
    left, right = map(_factors, node.inputs)
    if len(left) + len(right) < _MIN_FACTORS:
        return None
    shared = Counter(left) & Counter(right)
    common = [f for f in dict.fromkeys(left) if f in shared and constant(f) is None]
    if len(common) != 1 or shared[common[0]] != 1:
        return None
    rests = []
    for factors in (left, right):
        factors.remove(common[0])
        if not factors:
            return None
        rests.append(_product(factors))
    if any(constant(rest) is not None for rest in rests):
        return None
    return build.make("mul", (common[0], build.make("add", rests)))


def _factors(node: Node) -> list[Node]:
    found, stack = [], [node]
    while stack and len(found) + len(stack) <= _MAX_FACTORS:
        node = stack.pop()
        if node.op == "mul":
            stack += reversed(node.inputs)
        else:
            found.append(node)
    return found + stack


def _product(factors: list[Node]) -> Node:
    """Constants last, as the other rules have them."""
    factors = sorted(factors, key=lambda f: constant(f) is not None)
    result = factors[0]
    for factor in factors[1:]:
        result = build.make("mul", (result, factor))
    return result


@rewrites("mul")
def softmax_adjoint(node: Node) -> Node | None:
    """``(g/s - sum(g/s * w)) * e`` is ``(g - sum(g * w)) * w`` for the softmax ``w = e/s``: neither
    the exponentials nor their sums are read again."""
    if not is_float(node):
        return None
    for inner, e in (node.inputs, node.inputs[::-1]):
        if inner.op != "sub" or inner.inputs[1].op != "broadcast":
            continue
        quotient, repeated = inner.inputs
        total = repeated.inputs[0]
        if quotient.op != "div" or total.op != "sum" or total.inputs[0].op != "mul":
            continue
        g, s = quotient.inputs
        w = build.make("div", (e, s))
        if not _same_pair(total.inputs[0].inputs, (quotient, w)):
            continue
        axes = total.attr("axes")
        kept = tuple(a for a in range(node.ndim) if a not in axes)
        if repeated.attr("dims") != kept or not _is_along(s, axes):
            continue
        total = build.reduce("sum", build.make("mul", (g, w)), axes)
        centred = build.make("sub", (g, build.broadcast(total, node.shape, kept)))
        return build.make("mul", (centred, w))
    return None


@rewrites("mul")
def normalized_adjoint(node: Node) -> Node | None:
    """``x * repeat(sum(h * x/s) / s)`` is ``x/s * repeat(sum(h * x/s))``: of a normalized array
    the backward pass reads ``x/s`` alone."""
    if not is_float(node):
        return None
    for x, repeated in (node.inputs, node.inputs[::-1]):
        if repeated.op != "broadcast":
            continue
        small, scale = repeated.inputs[0], None
        if small.op == "mul" and constant(small.inputs[1]) is not None:
            small, scale = small.inputs
        if small.op != "div" or small.inputs[0].op != "sum":
            continue
        total, s = small.inputs
        if total.inputs[0].op != "mul":
            continue
        for quotient in total.inputs[0].inputs:
            if quotient.op != "div" or quotient.inputs[0] is not x:
                continue
            divisor = quotient.inputs[1]
            if divisor.op != "broadcast" or divisor.inputs[0] is not s:
                continue
            if divisor.attr("dims") != repeated.attr("dims"):
                continue
            factor = total if scale is None else build.make("mul", (total, scale))
            factor = build.broadcast(factor, node.shape, repeated.attr("dims"))
            return build.make("mul", (quotient, factor))
    return None


@rewrites("eq")
def positive_is_not_zero(node: Node) -> Node | None:
    """``x + 1e-5 == 0`` is false where x is a sum of squares: what the derivative of a square
    root asks of the variance in a normalization."""
    x, y = node.inputs
    if is_float(x) and constant(y) == 0 and is_positive(x):
        return build.full_like(node, False)
    return None


def _same_pair(pair, other) -> bool:
    return tuple(pair) in (tuple(other), tuple(other[::-1]))


def _is_along(s: Node, axes) -> bool:
    """Whether ``s`` is one value along ``axes``."""
    return s.op == "broadcast" and not any(a in s.attr("dims") for a in axes)


RULES = (common_factor, softmax_adjoint, normalized_adjoint, positive_is_not_zero)
