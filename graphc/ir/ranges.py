"""What is known of the values of nodes without computing them."""

from __future__ import annotations

from graphc.ir.node import Node

_VIEWS = ("broadcast", "reshape", "transpose", "slice", "barrier", "stop_gradient")
_MODERATE = 2.0**64  # a bound and its reciprocal, normal numbers of float32 and float64


def beneath_views(node: Node) -> Node:
    while node.op in _VIEWS:
        node = node.inputs[0]
    return node


def is_nonnegative(node: Node) -> bool:
    """Whether every element is known to be 0, positive or NaN."""
    while True:
        node = beneath_views(node)
        if node.op in ("sum", "max", "mul") and (node.op != "mul" or _is_number(node.inputs[1])):
            if node.op == "mul" and not _number(node.inputs[1]) >= 0:
                return False
            node = node.inputs[0]
            continue
        if node.op == "mul":
            return node.inputs[0] is node.inputs[1] and node.dtype.kind == "f"
        if node.op == "const":
            return bool((node.attr("value").array >= 0).all())
        return node.op in ("exp", "abs", "sqrt", "sigmoid", "relu", "softplus")


def is_nonpositive(node: Node) -> bool:
    """Whether every element is known to be 0, negative or NaN: the negative of what is not, and
    what lies below its own maximum."""
    pending = [node]
    while pending:
        node = beneath_views(pending.pop())
        if node.op == "where":
            pending += node.inputs[1:]
        elif node.op == "neg":
            if not is_nonnegative(node.inputs[0]):
                return False
        elif node.op in ("mul", "minimum") and _is_number(node.inputs[1]):
            below = _number(node.inputs[1]) <= 0
            if node.op == "mul" and not (below and is_nonnegative(node.inputs[0])):
                return False
            if node.op == "minimum" and not below:
                pending.append(node.inputs[0])
        elif node.op == "const":
            if not (node.attr("value").array <= 0).all():
                return False
        elif node.op != "sub" or not _is_own_maximum(*node.inputs):
            return False
    return True


def _is_own_maximum(u: Node, largest: Node) -> bool:
    """Whether ``largest`` is the maximum of ``u`` over some axes, spread over them again."""
    if largest.op != "broadcast" or largest.inputs[0].op != "max":
        return False
    repeated, largest = largest, largest.inputs[0]
    kept = tuple(a for a in range(u.ndim) if a not in largest.attr("axes"))
    return largest.inputs[0] is u and repeated.attr("dims") == kept


def is_positive(node: Node) -> bool:
    """Whether every element is known to be positive or NaN: a sum with a positive constant."""
    node = beneath_views(node)
    if _is_number(node):
        return bool(_number(node) > 0)
    if node.op != "add":
        return False
    return any(
        _is_number(beneath_views(b)) and _number(b) > 0 and is_nonnegative(a)
        for a, b in (node.inputs, node.inputs[::-1])
    )


def has_plain_reciprocal(node: Node) -> bool:
    """Whether 1 / x neither overflows nor underflows for any element x that is not 0, infinite
    or NaN: square roots, moderate numbers, and sums of exponentials below their maximum."""
    node = beneath_views(node)
    if _is_number(node):
        return 1 / _MODERATE <= abs(_number(node)) <= _MODERATE
    if node.op == "sqrt":
        return node.dtype.name in ("float32", "float64")
    if node.op == "add":
        return any(
            _is_number(beneath_views(b)) and _number(b) > 0
            and has_plain_reciprocal(b) and beneath_views(a).op == "sqrt"
            for a, b in (node.inputs, node.inputs[::-1])
        )  # fmt: skip
    if node.op != "sum" or node.inputs[0].op != "exp":
        return False
    return _is_below_maximum(node.inputs[0].inputs[0], node.attr("axes"))


def _is_below_maximum(x: Node, axes: tuple[int, ...]) -> bool:
    """Whether x is ``u - max(u, axes)``: its largest element along the axes is 0, or all are
    -inf or NaN."""
    if x.op != "sub" or x.inputs[1].op != "broadcast":
        return False
    u, repeated = x.inputs
    largest = repeated.inputs[0]
    if largest.op == "where" and largest.inputs[0].op == "isfinite":
        largest = largest.inputs[1]  # elsewhere it is no number, and neither is the sum
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    return (
        largest.op == "max" and largest.inputs[0] is u
        and largest.attr("axes") == axes and repeated.attr("dims") == kept
    )  # fmt: skip


def _is_number(node: Node) -> bool:
    node = beneath_views(node)
    return node.op == "const" and not node.ndim


def _number(node: Node) -> float:
    return beneath_views(node).attr("value").array.item()
