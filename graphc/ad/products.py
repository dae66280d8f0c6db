"""Rows of a product that only masked results read.

The gradient of ``W`` in ``y = x @ W`` is ``x.T @ ct``: a sum over the rows of ``x``. Where a row of
``x`` holds NaN all of that row of ``y`` is NaN, and if a ``where`` hides it, the row of ``ct`` is
zero; but ``0 * nan`` inside the sum is not. Here such elements become 0 before the product: those
that are not finite and that meet nothing but zeros. Finite ones stay, so that derivatives of the
gradient by ``ct`` are what they were.

It is done only where a cotangent has zeros that may hide a NaN (``HIDING``) and the operand may be
other than finite; zeros of ``maximum``, a pooling, a slice or a mask made of constants hide none.
"""

from __future__ import annotations

from collections.abc import Collection

from graphc.ad.guards import HIDING, Zeros
from graphc.ad.rules import RULES, Cotangent
from graphc.ir import build
from graphc.ir.graph import rebuild
from graphc.ir.node import Node


def without_hidden(node: Node, ct: Cotangent, needs: tuple[bool, ...], suspect: Collection[Node]):
    """``node``, a product, over operands whose hidden elements are 0 (see above).

    The rule of the product multiplies each operand with the cotangent for the other's gradient.
    """
    if HIDING not in ct.zeros or node.op not in _ALIVE:
        return node
    operands = list(node.inputs)
    for k, x in enumerate(node.inputs):
        if needs[1 - k] and x in suspect:
            alive = _ALIVE[node.op](node, ct, k)
            if alive is not None:
                operands[k] = _masked(x, alive)
    return rebuild(node, tuple(operands))


def _masked(x: Node, alive: Node) -> Node:
    keep = build.elementwise("logical_or", build.elementwise("isfinite", x), alive)
    return build.elementwise("where", keep, x, build.full_like(x, 0))


def _indicator(ct: Node, axes) -> Node:
    """How many elements along ``axes`` are not 0."""
    one, zero = build.full_like(ct, 1), build.full_like(ct, 0)
    live = build.elementwise("where", build.elementwise("ne", ct, zero), one, zero)
    return build.reduce("sum", live, axes)


def _positive(count: Node) -> Node:
    return build.elementwise("gt", count, build.full_like(count, 0))


def _rows_of_matmul(node: Node, ct: Cotangent, k: int) -> Node | None:
    """Rows of the first operand, columns of the second."""
    x, rows, columns = node.inputs[k], node.ndim - 2, node.ndim - 1
    own, summed = (rows, columns) if k == 0 else (columns, rows)
    if not _reaches(ct.zeros, {summed}):
        return None
    alive = _positive(_indicator(ct.node, [summed]))
    transposed = node.attr("ta") if k == 0 else node.attr("tb")
    axis = own if not transposed else summed
    return build.broadcast(alive, x.shape, [*range(rows), axis])


def _reaches(zeros: Zeros, whole: set[int]) -> bool:
    """Whether zeros can fill the axes ``whole``: not those of a slice along them alone."""
    return any(
        a.isdisjoint(whole) if isinstance(a, frozenset) else a not in whole
        for a in zeros - {HIDING}
    )


def _elements_of_conv(node: Node, ct: Cotangent, k: int) -> Node | None:
    x, w = node.inputs
    if k == 1:
        others = [a for a in range(node.ndim) if a != 1]
        alive = _positive(_indicator(ct.node, others)) if _reaches(ct.zeros, set(others)) else None
        return None if alive is None else build.broadcast(alive, w.shape, [0])
    if not _reaches(ct.zeros, {1}):
        return None
    # An element is alive where a window that holds it is: one channel suffices.
    spatial = tuple(node.shape[2:])
    live = build.reshape(_indicator(ct.node, [1]), (node.shape[0], 1, *spatial))
    plain = build.full((x.shape[0], 1, *x.shape[2:]), 0, x.dtype)
    window = build.full((1, 1, *w.shape[2:]), 1, x.dtype)
    read = build.conv(plain, window, node.attr("stride"), node.attr("dilation"))
    reach = RULES["conv"](read, Cotangent(live), (True, False))[0]
    if reach is None:
        return None
    alive = build.reshape(_positive(reach.node), (x.shape[0], *x.shape[2:]))
    return build.broadcast(alive, x.shape, [0, *range(2, x.ndim)])


_ALIVE = {"matmul": _rows_of_matmul, "conv": _elements_of_conv}
