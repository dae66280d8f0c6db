"""Constant folding by the same row that the interpreter uses, so values and dtypes are exact."""

from __future__ import annotations

import numpy as np

from graphc.ir import build
from graphc.ir.dims import Dim
from graphc.ir.faults import Refused
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.passes.patterns import constant, rewrites

# Above this a folded array would cost more memory traffic than computing it.
MAX_ELEMENTS = 1024

_FOLDABLE = tuple(
    name for name, row in OPS.items()
    if row.kind not in ("leaf", "mark", "control") and name not in ("broadcast", "barrier")
)  # fmt: skip


@rewrites(*_FOLDABLE)
def fold_constants(node: Node) -> Node | None:
    """An op of small constants only is a constant. A broadcast stays a broadcast."""
    if any(i.op not in ("const", "broadcast") for i in node.inputs):
        return None
    if not all(map(_is_small, (node, *node.inputs))):
        return None
    values = [_value(i) for i in node.inputs]
    if any(v is None for v in values):
        return None
    try:
        with np.errstate(all="ignore"):
            return build.const(OPS[node.op].evaluate(node, {}, *values), node.dtype)
    except (IndexError, ValueError, Refused):
        return None  # an index out of range, an integer to a negative power: said at run time


@rewrites("const")
def uniform_constant(node: Node) -> Node | None:
    """An array of one value repeated is a broadcast scalar. Bits are compared: NaN, -0.0."""
    array = node.attr("value").array
    if not array.ndim or not array.size:
        return None
    rows = array.reshape(-1, 1).view(np.uint8).reshape(array.size, array.itemsize)
    if (rows != rows[0]).any():
        return None
    return build.full(node.shape, array.flat[0], node.dtype)


def _is_small(node: Node) -> bool:
    size = node.type.size
    return not isinstance(size, Dim) and size <= MAX_ELEMENTS


def _value(node: Node) -> np.ndarray | None:
    if node.op == "const":
        return node.attr("value").array
    scalar = constant(node)
    return None if scalar is None else np.full(node.shape, scalar, node.dtype)


RULES = (uniform_constant, fold_constants)
