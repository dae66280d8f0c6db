"""Rewrites that leave the scheduler fewer cases, without changing what is computed."""

from __future__ import annotations

from collections import Counter

from graphc.ir import build
from graphc.ir.dims import product
from graphc.ir.graph import Graph, rebuild, transform
from graphc.ir.node import Node
from graphc.ir.ops import matmul_dims
from graphc.ir.rows import rows_of, storage_root
from graphc.schedule.convolutions import convolution
from graphc.schedule.products import is_product

_OFTEN = 4
_TINY = 256  # multiplications
_SHORT_ROWS, _MANY_ROWS = range(16, 257), 1024


def canonicalize(graph: Graph, tiny_products: bool = True) -> Graph:
    """Matrix products of what BLAS takes (without ``tiny_products`` sums for those), sums for
    convolutions without a kernel, arg-reductions over the last axis, no interior padding, and for
    each output and each carry a node of its own."""
    often = _often_transposed(graph)

    def lower(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.op == "matmul" and not tiny_products and _is_tiny(node, inputs[0]):
            return _matmul_as_sum(node, *inputs)
        if node.op == "matmul" and node.attr("tb") and node.inputs[1] in often:
            a, b = inputs
            return build.matmul(a, build.swap_last(b), node.attr("ta"))
        return _lower(node, inputs)

    return _own_memory(transform(graph, lower))


def _often_transposed(graph: Graph) -> set[Node]:
    """Matrices that several products take transposed (a weight at each step of an unrolled
    recurrence): one transposed copy serves all, and each would else make its own."""
    counts = Counter(
        n.inputs[1] for n in graph.order if n.op == "matmul" and n.attr("tb") and is_product(n)
    )
    return {node for node, count in counts.items() if count >= _OFTEN}


def _lower(node: Node, inputs: tuple[Node, ...]) -> Node:
    if node.op == "matmul" and (node.dtype.kind != "f" or 1 in node.shape[-2:]):
        return _matrix_by_vector(node, *inputs) or _matmul_as_sum(node, *inputs)
    if node.op == "conv":
        return _conv(build.conv(*inputs, node.attr("stride"), node.attr("dilation")))
    if node.op in ("argmax", "argmin"):
        (x,), axis = inputs, node.attr("axes")[0]
        last = build.transpose(x, [*(a for a in range(x.ndim) if a != axis), axis])
        return build.reduce(node.op, last, (x.ndim - 1,))
    if node.op == "implicit":
        return inputs[0]
    if node.op == "argsort" and node.attr("axis") != node.ndim - 1:
        (x,), axis = inputs, node.attr("axis")
        perm = [*(a for a in range(x.ndim) if a != axis), axis]
        inverse = sorted(range(x.ndim), key=perm.__getitem__)
        return build.transpose(build.argsort(build.transpose(x, perm), x.ndim - 1), inverse)
    if node.op == "pad" and any(node.attr("interior")):
        return _pad_interior(node, *inputs)
    return rebuild(node, inputs)


def _is_tiny(node: Node, a: Node) -> bool:
    """Whether a product is a few lines of arithmetic, less than to call a function for it."""
    size = product([*node.shape, a.shape[-2 if node.attr("ta") else -1]])
    return isinstance(size, int) and size <= _TINY


def _matrix_by_vector(node: Node, a: Node, b: Node) -> Node | None:
    """Of a given matrix of many short rows: a dot product of each row, or rows added up. Tiles fill
    their vectors with several rows, and mask the ends of rows, where loops are left with single
    elements; what surrounds them fuses by blocks of rows. A matrix that is computed is better
    consumed by the loop that computes it."""
    if node.ndim != 2 or node.dtype.kind != "f":
        return None
    _, m, n, k = matmul_dims(dict(node.attrs), a.type, b.type)
    if m == 1:  # the vector comes second
        a, b, m, n = b, a, n, m
        transposed = not node.attr("tb")
    else:
        transposed = node.attr("ta")
    columns, rows = (m, k) if transposed else (k, m)
    if n != 1 or not isinstance(columns, int) or columns not in _SHORT_ROWS:
        return None
    few = isinstance(rows, int) and rows < _MANY_ROWS
    if few or storage_root(a).op not in ("input", "const"):
        return None
    if transposed:
        result = build.matmul(build.reshape(b, (k, 1)), a, 1, 0)
    else:
        result = build.matmul(a, build.reshape(b, (1, k)), 0, 1)
    return build.reshape(result, node.shape)


def _matmul_as_sum(node: Node, a: Node, b: Node) -> Node:
    """Products that BLAS does not take, and matrix times vector: that reads each element of the
    matrix once, so a loop is as fast and fuses with what surrounds it. The loops run over the
    larger operand in the order of its memory."""
    batch, m, n, k = matmul_dims(dict(node.attrs), a.type, b.type)
    rank, ta, tb = len(batch), node.attr("ta"), node.attr("tb")
    sums_first = ta if n == 1 else not tb
    if sums_first:
        shape, (at_k, at_m, at_n) = (*batch, k, m, n), (rank, rank + 1, rank + 2)
    else:
        shape, (at_m, at_n, at_k) = (*batch, m, n, k), (rank, rank + 1, rank + 2)
    left = _spread(a, shape, rank, (at_m, at_k) if not ta else (at_k, at_m))
    right = _spread(b, shape, rank, (at_k, at_n) if not tb else (at_n, at_k))
    if node.dtype.kind == "b":
        return build.reduce("max", build.elementwise("logical_and", left, right), (at_k,))
    return build.reduce("sum", build.elementwise("mul", left, right), (at_k,))


def _conv(node: Node) -> Node:
    """A convolution that has a kernel of its own, or a sum. Windows of one element see an image
    as one line: a matrix product, of filters by channels and channels by pixels."""
    x, w = node.inputs
    if node.ndim > 3 and x.shape[2:] == node.shape[2:]:
        lines = build.reshape(x, (*x.shape[:2], product(x.shape[2:])))
        return build.reshape(
            _conv(build.conv(lines, build.reshape(w, (*w.shape[:2], 1)))), node.shape
        )
    return node if convolution(node) else _conv_as_sum(node, x, w)


def _conv_as_sum(node: Node, x: Node, w: Node) -> Node:
    """Loops [n, o, *p without the last, c, *k, last p]: the innermost walks along memory."""
    rank = x.ndim - 2
    batch, out = node.shape[:2]
    for axis in reversed(range(rank)):
        stride, dilation = node.attr("stride")[axis], node.attr("dilation")[axis]
        x = build.windows(x, axis + 2, w.shape[axis + 2], stride, dilation)  # [n, c, p1, k1, ...]
    shape = (batch, out, *node.shape[2:-1], *w.shape[1:], node.shape[-1])
    places, offsets = [*range(2, rank + 1), 2 * rank + 2], range(rank + 2, 2 * rank + 2)
    at = [0, rank + 1, *(a for pair in zip(places, offsets, strict=True) for a in pair)]
    order = sorted(range(len(at)), key=at.__getitem__)
    pieces = build.broadcast(build.transpose(x, order), shape, sorted(at))
    weights = build.broadcast(w, shape, [1, rank + 1, *offsets])
    product = build.elementwise("mul", pieces, weights)
    return build.reduce("sum", product, [rank + 1, *offsets])


def _spread(x: Node, shape, rank: int, axes: tuple[int, int]) -> Node:
    """``x`` broadcast to ``shape`` with its last two axes at ``axes``."""
    if axes[0] > axes[1]:
        x, axes = build.swap_last(x), axes[::-1]
    return build.broadcast(x, shape, (*range(rank), *axes))


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


def _own_memory(graph: Graph) -> Graph:
    """Copies where values would share memory: outputs that are arguments, constants, views, or
    the memory of another output; carries, which loops change in place."""
    claimed: set[Node] = set()

    def own(node: Node) -> Node:
        node = copy_of(node)
        while node in claimed:  # the same value more than once
            node = copy_of(node)
        claimed.add(node)
        return node

    def with_own_carries(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.op == "loop":
            first = node.attr("counted")
            last = first + node.attr("carries")
            inputs = (*inputs[:first], *map(own, inputs[first:last]), *inputs[last:])
        return rebuild(node, inputs)

    if any(node.op == "loop" for node in graph.order):
        graph = transform(graph, with_own_carries)
    outputs, places = [], rows_of(graph).outputs
    for position, node in enumerate(graph.outputs):
        root = storage_root(node)
        donor = graph.donated.get(position)
        unchanged = donor is not None and graph.inputs[donor] is node
        # The memory of a loop's result is written before its kernel is done reading others.
        lent = root.op == "item" and donor is not None and not isinstance(places[position], tuple)
        shared = root.op in ("input", "const") or lent
        if not unchanged and (shared or root in claimed):
            node = root = own(node)
        claimed.add(root)
        outputs.append(node)
    return graph.with_outputs(outputs)
