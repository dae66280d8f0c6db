"""Maxima over blocks of pixels, how many elements reach them, and their gradient: each by code
that takes whole rows apart into the elements of their blocks.

As loops these have an inner axis of two elements, which no compiler vectorises.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir.dims import product
from graphc.ir.node import Node

_WIDTHS = (1, 2, 4)  # vectors are interleaved in pairs
_MAX_BLOCK = 16


@dataclass(frozen=True)
class Pooling:
    """``rows`` of ``columns`` results, each of a block of ``down`` by ``across`` elements of x.

    ``max``: of x. ``count``: elements of x that equal m. ``spread``: at those elements g, else 0.
    """

    method: str
    rows: int
    down: int
    columns: int
    across: int


def pooling(node: Node) -> tuple[Pooling, tuple[Node, ...]] | None:
    """What a node is as pooling of each element of its first axis, and its operands; or None."""
    if node.op == "max":
        method, (blocks,), operands = "max", node.inputs, []
    elif node.op == "sum" and node.inputs[0].op == "where":
        equal, one, zero = node.inputs[0].inputs
        if not (_is_full(one, 1) and _is_full(zero, 0)):
            return None
        method, found = "count", _equal(equal)
        if found is None:
            return None
        blocks, operands = found[0], found[1:]
    elif node.op == "where" and node.inputs[0].op == "eq":
        equal, g, zero = node.inputs
        found = _equal(equal)
        if found is None or not _is_full(zero, 0) or not _repeats(g):
            return None
        method, blocks, operands = "spread", found[0], [*found[1:], g.inputs[0]]
    else:
        return None
    if blocks.op != "reshape" or blocks.dtype.kind != "f" or blocks.dtype != node.dtype:
        return None
    if blocks.ndim < 5 or not all(isinstance(d, int) and d > 0 for d in blocks.shape[1:]):
        return None
    if method != "spread" and node.attr("axes") != (blocks.ndim - 3, blocks.ndim - 1):
        return None
    *lead, down, columns, across = blocks.shape[1:]
    if across not in _WIDTHS or down * across > _MAX_BLOCK or blocks.dtype.itemsize not in (4, 8):
        return None
    return Pooling(method, product(lead), down, columns, across), (blocks, *operands)


def _equal(node: Node) -> list[Node] | None:
    """x and m of ``x == m`` with m repeated over blocks."""
    if node.op != "eq":
        return None
    for x, m in (node.inputs, node.inputs[::-1]):
        if x.op == "reshape" and _repeats(m):
            return [x, m.inputs[0]]
    return None


def _repeats(node: Node) -> bool:
    """Whether each element is repeated over a block."""
    rank = node.ndim
    return node.op == "broadcast" and node.attr("dims") == (*range(rank - 3), rank - 2)


def _is_full(node: Node, value: float) -> bool:
    if node.op != "broadcast" or node.inputs[0].op != "const" or node.inputs[0].ndim:
        return False
    return bool(node.inputs[0].attr("value").array == value)
