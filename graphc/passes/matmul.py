"""Matrix products: transposes become flags, batches become rows, naive sums become products."""

from __future__ import annotations

from graphc.ir import build
from graphc.ir.dims import Dim, product
from graphc.ir.node import Node
from graphc.ir.ops import matmul_dims
from graphc.passes.patterns import is_float, rewrites

# Below this many multiplications a fused loop beats the call of a BLAS routine.
MIN_PRODUCT = 512


def _swaps_last(node: Node) -> bool:
    if node.op != "transpose" or node.ndim < 2:
        return False
    perm = node.attr("perm")
    k = node.ndim
    return perm == (*range(k - 2), k - 1, k - 2)


def _flags(node: Node) -> tuple[int, int]:
    return node.attr("ta"), node.attr("tb")


@rewrites("matmul")
def transpose_into_flag(node: Node) -> Node | None:
    """A transposed operand is read transposed."""
    (a, b), (ta, tb) = node.inputs, _flags(node)
    if _swaps_last(a):
        a, ta = a.inputs[0], 1 - ta
    if _swaps_last(b):
        b, tb = b.inputs[0], 1 - tb
    return build.matmul(a, b, ta, tb)


def _swaps_rows(node: Node) -> bool:
    """Whether a transpose moves the innermost axis to the last place but one."""
    return node.op == "transpose" and node.attr("perm")[-2:-1] == (node.ndim - 1,)


@rewrites("matmul")
def rows_stay_rows(node: Node) -> Node | None:
    """Of an operand with exchanged axes the innermost stays innermost where a flag can say so: it
    is copied in pieces and not element by element, and its gradient has rows of its own."""
    operands, flags = list(node.inputs), list(_flags(node))
    for k, x in enumerate(operands):
        if _swaps_rows(x) and x.ndim > 2 and not _swaps_last(x):
            *lead, row, column = x.attr("perm")
            operands[k] = build.transpose(x.inputs[0], (*lead, column, row))
            flags[k] = 1 - flags[k]
    return build.matmul(*operands, *flags)


@rewrites("transpose")
def transpose_of_matmul(node: Node) -> Node | None:
    """``(A B)^T`` is ``B^T A^T``; so is it where the rows come to lie innermost among other
    exchanged axes, which are then exchanged row by row."""
    (inner,) = node.inputs
    rank = node.ndim
    if inner.op != "matmul" or node.attr("perm")[-1] != rank - 2:
        return None
    (a, b), (ta, tb) = inner.inputs, _flags(inner)
    swapped = {rank - 1: rank - 2, rank - 2: rank - 1}
    perm = [swapped.get(axis, axis) for axis in node.attr("perm")]
    return build.transpose(build.matmul(b, a, 1 - tb, 1 - ta), perm)


@rewrites("matmul")
def matmul_of_negs(node: Node) -> Node | None:
    """A sign leaves the product: rounding is symmetric, so this is exact."""
    (a, b), flags = node.inputs, _flags(node)
    signs = (a.op == "neg") + (b.op == "neg")
    if not signs or not is_float(node):
        return None
    a, b = (x.inputs[0] if x.op == "neg" else x for x in (a, b))
    result = build.matmul(a, b, *flags)
    return result if signs == 2 else build.elementwise("neg", result)


# What is in memory anyway: scaling it would cost a pass of its own.
_STORED = ("input", "const", "matmul", "reshape", "transpose", "slice")


@rewrites("matmul")
def scale_after_matmul(node: Node) -> Node | None:
    """``(A * s) B`` is ``(A B) * s`` for a scalar s when A is in memory already.

    A reassociation, within the rounding of the product. The scale joins the call (alpha) or
    the loop behind it.
    """
    for k in (0, 1):
        scaled = node.inputs[k]
        if scaled.op not in ("mul", "div") or not is_float(node):
            continue
        x, s = scaled.inputs
        if x.op not in _STORED or s.op != "broadcast" or s.inputs[0].ndim:
            continue
        operands = [x, node.inputs[1]] if k == 0 else [node.inputs[0], x]
        scale = build.broadcast(s.inputs[0], node.shape, ())
        return build.make(scaled.op, (build.matmul(*operands, *_flags(node)), scale))
    return None


@rewrites("matmul")
def drop_unit_batch(node: Node) -> Node | None:
    """Leading axes of size 1 are no batch."""
    batch = node.shape[:-2]
    if not batch or any(d != 1 for d in batch):
        return None
    a, b = (build.reshape(x, x.shape[-2:]) for x in node.inputs)
    return build.reshape(build.matmul(a, b, *_flags(node)), node.shape)


@rewrites("matmul")
def outer_product(node: Node) -> Node | None:
    """A product over an axis of size 1 is an elementwise one, which fuses with its neighbours."""
    (a, b), flags = node.inputs, _flags(node)
    batch, m, n, k = matmul_dims({"ta": flags[0], "tb": flags[1]}, a.type, b.type)
    if k != 1:
        return None
    lead = list(range(len(batch)))
    rows = build.broadcast(build.reshape(a, (*batch, m)), node.shape, [*lead, len(batch)])
    columns = build.broadcast(build.reshape(b, (*batch, n)), node.shape, [*lead, len(batch) + 1])
    return build.make("mul", (rows, columns))


@rewrites("matmul")
def batch_into_rows(node: Node) -> Node | None:
    """``x[b, m, k] @ W`` with one W for the whole batch is one product of ``b*m`` rows."""
    (a, b), (ta, tb) = node.inputs, _flags(node)
    lead = node.ndim - 2
    if not lead or ta or b.op != "broadcast" or b.attr("dims") != (lead, lead + 1):
        return None
    k = a.shape[-1]
    rows = build.reshape(a, (product(a.shape[:-1]), k))
    return build.reshape(build.matmul(rows, b.inputs[0], 0, tb), node.shape)


@rewrites("sum")
def batch_into_contraction(node: Node) -> Node | None:
    """``sum over b of a[b]^T @ g[b]`` (the gradient of W) is one product over ``b*k``."""
    (inner,) = node.inputs
    if inner.op != "matmul" or _flags(inner) != (1, 0) or inner.ndim < 3:
        return None
    if node.attr("axes") != tuple(range(inner.ndim - 2)):
        return None
    a, b = (build.reshape(x, (product(x.shape[:-1]), x.shape[-1])) for x in inner.inputs)
    return build.matmul(a, b, 1, 0)


@rewrites("sum")
def sum_of_rows(node: Node) -> Node | None:
    """``sum(A B, rows)`` is ``sum(A, rows) B``, and alike for columns: a reassociation.

    The gradient of what was subtracted from each row before a product meets it.
    """
    (inner,) = node.inputs
    if inner.op != "matmul" or not is_float(node):
        return None
    (a, b), (ta, tb), rank = inner.inputs, _flags(inner), inner.ndim
    if node.attr("axes") == (rank - 2,) and inner.shape[rank - 2] != 1:
        row = build.reduce("sum", a, (rank - 1 if ta else rank - 2,))
        result = build.matmul(build.reshape(row, (*row.shape[:-1], 1, row.shape[-1])), b, 0, tb)
    elif node.attr("axes") == (rank - 1,) and inner.shape[rank - 1] != 1:
        column = build.reduce("sum", b, (rank - 2 if tb else rank - 1,))
        result = build.matmul(a, build.reshape(column, (*column.shape, 1)), ta, 0)
    else:
        return None
    return build.reshape(result, node.shape)


@rewrites("sum")
def sum_of_product(node: Node) -> Node | None:
    """``sum(a[:, :, None] * b[None, :, :], 1)`` is a matrix product, and so are its kin.

    Axes of the product are sorted into batch (kept, in both), rows (kept, in a only), columns
    (kept, in b only) and contracted (summed, in both). Without rows or columns the loop reads
    no more than the product would, so it stays a loop that can fuse.
    """
    (inner,) = node.inputs
    if inner.op != "mul" or not is_float(node):
        return None
    reduced = set(node.attr("axes"))
    (a, in_a), (b, in_b) = (_source(x) for x in inner.inputs)
    both = in_a & in_b
    rows = sorted(in_a - in_b - reduced)
    columns = sorted(in_b - in_a - reduced)
    batch, contracted = sorted(both - reduced), sorted(both & reduced)
    covered = {*rows, *columns, *batch, *contracted}
    if len(covered) != inner.ndim or not _pays(inner.shape, rows, columns, contracted):
        return None
    shape = inner.shape
    left, ta = _as_matrices(a, sorted(in_a), batch, rows, contracted, shape)
    right, tb = _as_matrices(b, sorted(in_b), batch, columns, contracted, shape)
    result = build.matmul(left, right, ta, 1 - tb)
    order = [*batch, *rows, *columns]
    result = build.reshape(result, [shape[d] for d in order])
    return build.transpose(result, [order.index(d) for d in sorted(order)])


def _source(x: Node) -> tuple[Node, set[int]]:
    """What a broadcast repeats, and the axes of the result that it has."""
    if x.op == "broadcast":
        return x.inputs[0], set(x.attr("dims"))
    return x, set(range(x.ndim))


def _pays(shape, rows, columns, contracted) -> bool:
    sizes = [product(shape[d] for d in group) for group in (rows, columns, contracted)]
    if any(s == 1 for s in sizes):
        return False
    return any(isinstance(s, Dim) for s in sizes) or product(sizes) >= MIN_PRODUCT


def _as_matrices(x: Node, axes, batch, outer, contracted, shape) -> tuple[Node, int]:
    """``x`` as [*batch, outer, contracted], or with the flag 1 as [*batch, contracted, outer]."""
    groups = [[shape[d] for d in group] for group in (outer, contracted)]
    swapped = axes == [*batch, *contracted, *outer]
    order = axes if swapped else [*batch, *outer, *contracted]
    x = build.transpose(x, [axes.index(d) for d in order])
    sizes = [product(g) for g in (reversed(groups) if swapped else groups)]
    return build.reshape(x, [*(shape[d] for d in batch), *sizes]), int(swapped)


RULES = (
    transpose_into_flag,
    rows_stay_rows,
    transpose_of_matmul,
    drop_unit_batch,
    batch_into_rows,
    outer_product,
    matmul_of_negs,
    scale_after_matmul,
    batch_into_contraction,
    sum_of_rows,
    sum_of_product,
)
