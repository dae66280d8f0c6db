"""Graphs of one example turned into graphs of a batch: one rule an op.

A mapped node stands for one value of each example; its batched node has the batch as axis 0. A
node that depends on no mapped value is computed once for all of them. An op whose inputs are all
unmapped is never given to a rule. Rules are written with the same IR, so their results can be
differentiated, and batched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from graphc.ad import control_batching
from graphc.errors import TraceError
from graphc.ir import build, calls
from graphc.ir.control import CONTROL
from graphc.ir.dims import DimLike, product
from graphc.ir.graph import Source, inherit, topological
from graphc.ir.node import Node
from graphc.ir.ops import is_elementwise, is_reduction
from graphc.ir.rules import Rules

#: ``rule(node, inputs, mapped, size)``: the batched ``node``. ``inputs[i]`` has the batch in front
#: where ``mapped[i]``, at least once; ``size`` is that of the batch.
Rule = Callable[[Node, Sequence[Node], Sequence[bool], DimLike], Node]
BATCHING: Rules[Rule] = Rules()
rule = BATCHING.declare


def batch(
    outputs: Iterable[Node],
    mapped: Mapping[Node, Node],
    size: DimLike,
    sources: dict[Node, Source] | None = None,
) -> list[tuple[Node, bool]]:
    """Each output for a whole batch, and whether it has the batch as axis 0.

    ``mapped`` gives nodes of one example their batched values, of ``size`` examples along axis
    0. An output that depends on none of them comes back as it is. New nodes enter ``sources``
    with the line of the node they stand for. Raises TraceError at an op without a rule.

    >>> from graphc.ir import types
    >>> x = build.input(0, "x", types.tensor_type("float32", (3,)))
    >>> rows = build.input(1, "rows", types.tensor_type("float32", (5, 3)))
    >>> [(node, is_mapped)] = batch([build.reduce("sum", x, (0,))], {x: rows}, 5)
    >>> str(node.type), is_mapped
    ('f32[5]', True)
    """
    outputs = tuple(outputs)
    sources = {} if sources is None else sources
    done: dict[Node, Node] = dict(mapped)
    for node in topological(outputs):
        flags = [i in done for i in node.inputs]
        if node in done or not any(flags):
            continue
        inputs = [done.get(i, i) for i in node.inputs]
        if node.op in CONTROL:
            found = control_batching.batched(node, inputs, flags, size, sources, batch)
            for item, (result, is_mapped) in zip(build.items(node), found, strict=True):
                # The loop itself has become another: what examples share is repeated for them.
                done[item] = result if is_mapped else build.spread(result, size)
            continue
        result = batched(node, inputs, flags, size, sources.get(node))
        done[node] = result
        if node in sources:
            inherit(sources, result, sources[node])
    return [(done.get(o, o), o in done) for o in outputs]


def batched(
    node: Node, inputs: Sequence[Node], mapped: Sequence[bool], size: DimLike, source=None
) -> Node:
    """One node by its rule."""
    apply = _leading if is_elementwise(node) else BATCHING.get(node.op)
    if apply is None and is_reduction(node):
        apply = _reduction
    if apply is None:
        where = f"\n  at {source} in {source.function}" if source else ""
        raise TraceError(
            f"vmap has no rule for op `{node.op}` ({node.type}){where}\n"
            "  call that part outside vmap, or loop over its examples"
        )
    return apply(node, inputs, mapped, size)


def _all_mapped(inputs, mapped, size) -> list[Node]:
    return [x if m else build.spread(x, size) for x, m in zip(inputs, mapped, strict=True)]


def _shifted(axes: Iterable[int]) -> tuple[int, ...]:
    return tuple(a + 1 for a in axes)


@rule(
    "real", "imag", "complex", "cholesky", "lu", "qr", "eigh", "svd", "complex_qr",
    "complex_eigh", "complex_svd", "expm", "implicit",
)  # fmt: skip
def _leading(node, inputs, mapped, size):
    """Elements, or vectors and matrices of which leading axes are a batch already."""
    return build.make(node.op, _all_mapped(inputs, mapped, size), **dict(node.attrs))


def _reduction(node, inputs, mapped, size):
    return build.make(node.op, inputs, axes=_shifted(node.attr("axes")))


# ------------------------------------------------------------------------------------- views


@rule("dft")
def _dft(node, inputs, mapped, size):  # the table is a constant
    return build.make("dft", inputs, **dict(node.attrs))


@rule("reshape")
def _reshape(node, inputs, mapped, size):
    return build.reshape(inputs[0], (size, *node.shape))


@rule("transpose")
def _transpose(node, inputs, mapped, size):
    return build.transpose(inputs[0], (0, *_shifted(node.attr("perm"))))


@rule("broadcast")
def _broadcast(node, inputs, mapped, size):
    return build.broadcast(inputs[0], (size, *node.shape), (0, *_shifted(node.attr("dims"))))


@rule("slice")
def _slice(node, inputs, mapped, size):
    start, step = (0, *node.attr("start")), (1, *node.attr("step"))
    return build.slice_(inputs[0], start, (size, *node.shape), step)


@rule("windows")
def _windows(node, inputs, mapped, size):
    return build.make("windows", inputs, **{**dict(node.attrs), "axis": node.attr("axis") + 1})


@rule("pad")
def _pad(node, inputs, mapped, size):
    (x, fill), (_, fill_mapped) = _all_mapped(inputs, (mapped[0], True), size), mapped
    low, high, interior = ((0, *node.attr(k)) for k in ("low", "high", "interior"))
    if not fill_mapped:
        return build.pad(x, low, high, interior, fill)
    # A fill of its own for each example: padding takes one scalar only.
    outside = build.pad(build.full(x.shape, False, bool), low, high, interior, build.const(True))
    padded = build.pad(x, low, high, interior)
    return build.elementwise("where", outside, build.broadcast(fill, padded.shape, (0,)), padded)


@rule("concat")
def _concat(node, inputs, mapped, size):
    return build.concat(_all_mapped(inputs, mapped, size), node.attr("axis") + 1)


# ---------------------------------------------------------------------------------- indexing


@rule("take")
def _take(node, inputs, mapped, size):
    (x, indices), axis = inputs, node.attr("axis")
    if not mapped[1]:
        return build.take(x, indices, axis + 1)
    if not mapped[0]:
        return _to_front(build.take(x, indices, axis), axis)
    count, rank = x.shape[axis + 1], indices.ndim - 1
    x = _to_second(x, axis + 1)
    rows = build.reshape(x, (size * count, *x.shape[2:]))
    found = build.take(rows, _of_joined_axis(indices, count), 0)
    return _from_second(found, rank, axis)


@rule("take_along")
def _take_along(node, inputs, mapped, size):
    x, indices = _all_mapped(inputs, mapped, size)
    return build.take_along(x, indices, node.attr("axis") + 1)


@rule("scatter_add")
def _scatter_add(node, inputs, mapped, size):
    (indices, updates), axis, count = inputs, node.attr("axis"), node.attr("size")
    if not mapped[0]:
        return build.scatter_add(indices, updates, axis + 1, count)
    if not mapped[1]:
        updates = build.spread(updates, size)
    rank = indices.ndim - 1
    order = [0, *range(axis + 1, axis + 1 + rank)]
    updates = build.transpose(updates, order + [a for a in range(updates.ndim) if a not in order])
    joined = build.scatter_add(_of_joined_axis(indices, count), updates, 0, size * count)
    return _from_second(build.reshape(joined, (size, count, *joined.shape[1:])), 1, axis)


@rule("scatter_set")
def _scatter_set(node, inputs, mapped, size):
    axis = node.attr("axis")
    x, indices, updates = _all_mapped(inputs, (mapped[0], True, mapped[2]), size)
    if not mapped[1]:
        return build.scatter_set(x, indices, updates, axis + 1)
    count, rank = x.shape[axis + 1], indices.ndim - 1
    x = _to_second(x, axis + 1)
    order = [0, *range(axis + 1, axis + 1 + rank)]
    updates = build.transpose(updates, order + [a for a in range(updates.ndim) if a not in order])
    rows = build.reshape(x, (size * count, *x.shape[2:]))
    found = build.scatter_set(rows, _of_joined_axis(indices, count), updates, 0)
    return _from_second(build.reshape(found, x.shape), 1, axis)


@rule("check_index")
def _check_index(node, inputs, mapped, size):
    return build.check_index(inputs[0], node.attr("size"), node.attr("fault"))


def _of_joined_axis(indices: Node, count: DimLike) -> Node:
    """``indices`` [batch, ...] below ``count`` as those of batch and axis joined into one.

    They are checked before, so that no example reaches into its neighbour.
    """
    indices = build.check_index(build.cast(indices, np.int64), count)

    def spread_scalar(x):
        return build.broadcast(x, indices.shape, ())

    count_node = spread_scalar(build.size(count, np.int64))
    first = build.elementwise("mul", build.iota(indices.shape, 0), count_node)
    return build.elementwise("add", indices, first)


def _to_front(x: Node, axis: int) -> Node:
    return build.transpose(x, [axis, *(a for a in range(x.ndim) if a != axis)])


def _to_second(x: Node, axis: int) -> Node:
    return build.transpose(x, [0, axis, *(a for a in range(1, x.ndim) if a != axis)])


def _from_second(x: Node, rank: int, axis: int) -> Node:
    """[batch, *moved, *rest] with the ``rank`` moved axes put back after ``axis`` of the rest."""
    moved, rest = list(range(1, 1 + rank)), list(range(1 + rank, x.ndim))
    return build.transpose(x, [0, *rest[:axis], *moved, *rest[axis:]])


# --------------------------------------------------------------------------- scans and orders


@rule("cumsum", "cumprod", "argsort")
def _along_one_axis(node, inputs, mapped, size):
    return build.make(node.op, inputs, axis=node.attr("axis") + 1)


@rule("searchsorted")
def _searchsorted(node, inputs, mapped, size):
    """A table for each example: its elements before each value are counted."""
    if not mapped[0]:
        return build.searchsorted(*inputs, node.attr("side"))
    table, values = _all_mapped(inputs, mapped, size)
    count = table.shape[1]
    shape = (*values.shape, count)
    table = build.broadcast(table, shape, (0, values.ndim))
    values = build.broadcast(values, shape, range(values.ndim))
    left = node.attr("side") == "left"
    a, b = (table, values) if left else (values, table)
    last = build.elementwise(
        "logical_and",
        build.elementwise("isnan", b),
        build.elementwise("logical_not", build.elementwise("isnan", a)),
    )
    before = build.elementwise("logical_or", build.elementwise("lt", a, b), last)
    found = build.reduce("sum", build.cast(before, np.int64), (len(shape) - 1,))
    if left:
        return found
    total = build.broadcast(build.size(count, np.int64), found.shape, ())
    return build.elementwise("sub", total, found)


# ---------------------------------------------------------------------------------- products


@rule("matmul")
def _matmul(node, inputs, mapped, size):
    """An operand that all examples share makes one large product of their rows."""
    (a, b), (ta, tb) = inputs, (node.attr("ta"), node.attr("tb"))
    if node.ndim == 2 and mapped == [True, False]:
        rows = _as_rows(a, ta)
        if rows is not None:
            return build.reshape(build.matmul(rows, b, 0, tb), (size, *node.shape))
    if node.ndim == 2 and mapped == [False, True]:
        columns = _as_rows(b, 1 - tb)
        if columns is not None:  # (a b)^T = b^T a^T
            flipped = build.matmul(columns, a, 0, 1 - ta)
            return build.swap_last(build.reshape(flipped, (size, *node.shape[::-1])))
    return build.matmul(*_all_mapped(inputs, mapped, size), ta, tb)


def _as_rows(x: Node, transposed: int) -> Node | None:
    """``x`` [batch, m, k] as [batch*m, k], where that moves nothing in memory."""
    if not transposed:
        return build.reshape(x, (product(x.shape[:2]), x.shape[2]))
    return build.reshape(x, x.shape[:2]) if x.shape[2] == 1 else None


@rule("conv")
def _conv(node, inputs, mapped, size):
    """Examples are more images where they share the weights, more filters where those differ."""
    (x, w), how = inputs, (node.attr("stride"), node.attr("dilation"))
    if not mapped[1]:
        images = build.reshape(x, (size * x.shape[1], *x.shape[2:]))
        return build.reshape(build.conv(images, w, *how), (size, *node.shape))
    if not mapped[0]:
        filters = build.reshape(w, (size * w.shape[1], *w.shape[2:]))
        out = build.conv(x, filters, *how)
        out = build.reshape(out, (out.shape[0], size, w.shape[1], *out.shape[2:]))
        return _to_front(out, 1)
    spatial = node.ndim - 2
    for axis in reversed(range(spatial)):
        x = build.windows(x, axis + 3, w.shape[axis + 3], how[0][axis], how[1][axis])
    # x is [batch, n, c, p1, k1, p2, k2, ...]
    places, offsets = (range(first, first + 2 * spatial, 2) for first in (3, 4))
    pieces = build.transpose(x, (0, 1, *places, 2, *offsets))
    inner = product(w.shape[2:])
    rows = build.reshape(pieces, (size, product(node.shape[:1] + node.shape[2:]), inner))
    out = build.matmul(rows, build.reshape(w, (*w.shape[:2], inner)), 0, 1)
    out = build.reshape(out, (size, node.shape[0], *node.shape[2:], node.shape[1]))
    return build.transpose(out, (0, 1, out.ndim - 1, *range(2, out.ndim - 1)))


# ------------------------------------------------------------------------------- marked calls


@rule("barrier")
def _barrier(node, inputs, mapped, size):
    x, after = inputs
    return build.barrier(x if mapped[0] else build.spread(x, size), after)


@rule("call_arg")
def _call_arg(node, inputs, mapped, size):
    return build.make("call_arg", inputs, **dict(node.attrs))


@rule("call")
def _call(node, inputs, mapped, size):
    count = node.attr("results")
    values = _all_mapped(inputs[:count], mapped[:count], size)
    rule = node.attr("rule").batched(node, mapped, size)
    return calls.call(values, inputs[count:], rule)


@rule("call_result")
def _call_result(node, inputs, mapped, size):
    return calls.result(inputs[0], node.attr("index"))


# ----------------------------------------------------------------------- dense linear algebra


@rule("triangular_solve", "lu_solve")
def _solve(node, inputs, mapped, size):
    """A matrix that all examples share has their right sides as columns."""
    if any(mapped[:-1]):
        return _leading(node, inputs, mapped, size)
    *matrices, b = inputs
    last = b.ndim - 2  # where the batch is moved: in front of the columns
    columns = build.transpose(b, [*range(1, last + 1), 0, last + 1])
    joined = build.reshape(columns, (*columns.shape[:-2], product(columns.shape[-2:])))
    x = build.make(node.op, (*matrices, joined), **dict(node.attrs))
    return build.transpose(build.reshape(x, columns.shape), [last, *range(last), last + 1])
