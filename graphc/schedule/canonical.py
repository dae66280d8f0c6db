"""Rewrites that leave the scheduler fewer cases, without changing what is computed."""

from __future__ import annotations

from graphc.ir import build
from graphc.ir import node as _node
from graphc.ir.graph import Graph, transform
from graphc.ir.node import Node
from graphc.ir.ops import matmul_dims
from graphc.schedule.deps import storage_root


def canonicalize(graph: Graph) -> Graph:
    """Matrix products of what BLAS takes, arg-reductions over the last axis, no interior
    padding, and for each output a node of its own."""
    return _own_outputs(transform(graph, _lower))


def _lower(node: Node, inputs: tuple[Node, ...]) -> Node:
    if node.op == "matmul" and node.dtype.kind != "f":
        return _matmul_as_sum(node, *inputs)
    if node.op in ("argmax", "argmin"):
        (x,), axis = inputs, node.attr("axes")[0]
        last = build.transpose(x, [*(a for a in range(x.ndim) if a != axis), axis])
        return build.reduce(node.op, last, (x.ndim - 1,))
    if node.op == "pad" and any(node.attr("interior")):
        return _pad_interior(node, *inputs)
    if inputs == node.inputs:
        return node
    return _node.make(node.op, inputs, dict(node.attrs), node.type)


def _matmul_as_sum(node: Node, a: Node, b: Node) -> Node:
    batch, m, n, k = matmul_dims(dict(node.attrs), a.type, b.type)
    a = build.swap_last(a) if node.attr("ta") else a
    b = b if node.attr("tb") else build.swap_last(b)
    rank, shape = len(batch), (*batch, m, n, k)
    lead = tuple(range(rank))
    left = build.broadcast(a, shape, (*lead, rank, rank + 2))
    right = build.broadcast(b, shape, (*lead, rank + 1, rank + 2))
    if node.dtype.kind == "b":
        return build.reduce("max", build.elementwise("logical_and", left, right), (rank + 2,))
    return build.reduce("sum", build.elementwise("mul", left, right), (rank + 2,))


def _pad_interior(node: Node, x: Node, fill: Node) -> Node:
    """Gaps between elements: a new last axis padded behind each element, merged and trimmed."""
    for axis, gap in enumerate(node.attr("interior")):
        if not gap:
            continue
        size = x.shape[axis]
        split = build.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
        high = [0] * split.ndim
        high[axis + 1] = gap
        wide = build.pad(split, [0] * split.ndim, high, None, fill)
        merged_size = size * (gap + 1)
        merged = build.reshape(wide, (*x.shape[:axis], merged_size, *x.shape[axis + 1 :]))
        trimmed = list(merged.shape)
        trimmed[axis] = merged_size - gap
        x = build.slice_(merged, [0] * x.ndim, trimmed, [1] * x.ndim)
    return build.pad(x, node.attr("low"), node.attr("high"), None, fill)


def copy_of(node: Node) -> Node:
    """A node of its own with the value of ``node``."""
    return build.make("cast", (node,), dtype=node.dtype.name)


def _own_outputs(graph: Graph) -> Graph:
    """Copy outputs that are arguments, constants, views, or the memory of another output."""
    outputs, claimed = [], set()
    for position, node in enumerate(graph.outputs):
        root = storage_root(node)
        donor = graph.donated.get(position)
        unchanged = donor is not None and graph.inputs[donor] is node
        if not unchanged and (root.op in ("input", "const") or root in claimed):
            node = copy_of(node)
            while node in claimed:  # the same output more than once
                node = copy_of(node)
            root = node
        claimed.add(root)
        outputs.append(node)
    return graph.with_outputs(outputs)
