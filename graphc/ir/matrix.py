"""Small matrix expressions of nodes: the last two axes are rows and columns, others a batch."""

from __future__ import annotations

from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.node import Node


def transposed(x: Node) -> Node:
    return build.swap_last(x)


def add(x: Node, y: Node) -> Node:
    return op("add", x, y)


def sub(x: Node, y: Node) -> Node:
    return op("sub", x, y)


def scaled(x: Node, factor: float) -> Node:
    return op("mul", x, build.full_like(x, factor))


def _indices(x: Node) -> tuple[Node, Node]:
    rows, columns = (build.iota(x.shape[-2:], axis) for axis in (0, 1))
    dims = (x.ndim - 2, x.ndim - 1)
    return build.broadcast(rows, x.shape, dims), build.broadcast(columns, x.shape, dims)


def kept_where(compare: str, x: Node) -> Node:
    """``x`` where (row ``compare`` column) holds, else 0: ``ge`` is the lower triangle."""
    return op("where", op(compare, *_indices(x)), x, build.full_like(x, 0))


def triangle(x: Node, lower: int, unit: int) -> Node:
    """What a triangular solve reads of ``x``: one triangle, without its diagonal if that is 1."""
    compare = {(1, 0): "ge", (1, 1): "gt", (0, 0): "le", (0, 1): "lt"}[lower, unit]
    return kept_where(compare, x)


def on_diagonal(v: Node) -> Node:
    """[..., n] as diagonal matrices."""
    return kept_where("eq", columns_of(v, v.shape[-1]))


def columns_of(v: Node, rows) -> Node:
    """[..., n] repeated as rows: element (i, j) is v[j]."""
    shape = (*v.shape[:-1], rows, v.shape[-1])
    return build.broadcast(v, shape, (*range(v.ndim - 1), v.ndim))


def rows_of(v: Node, columns) -> Node:
    """[..., n] repeated as columns: element (i, j) is v[i]."""
    return build.broadcast(v, (*v.shape, columns), range(v.ndim))


def eye_like(x: Node) -> Node:
    """Identity matrices in the type of the square ``x``."""
    return kept_where("eq", build.full_like(x, 1))


def piece(packed: Node, start, shape) -> Node:
    """The matrix or vector of ``shape`` at ``start`` of a flat packed result."""
    batch = packed.shape[:-1]
    size = shape[0] * (shape[1] if len(shape) > 1 else 1)
    zeros, ones = [0] * len(batch), [1] * packed.ndim
    part = build.slice_(packed, [*zeros, start], [*batch, size], ones)
    return build.reshape(part, (*batch, *shape))


def row_block(packed: Node, start, count) -> Node:
    """Rows of a packed matrix."""
    *batch, _, n = packed.shape
    zeros = [0] * len(batch)
    return build.slice_(packed, [*zeros, start, 0], [*batch, count, n], [1] * packed.ndim)


def reciprocal(x: Node) -> Node:
    """1/x, and 0 at 0 with a derivative of 0 there."""
    zero, one = build.full_like(x, 0), build.full_like(x, 1)
    is_zero = op("eq", x, zero)
    return op("where", is_zero, zero, op("div", one, op("where", is_zero, one, x)))


def symmetric(x: Node) -> Node:
    return scaled(add(x, transposed(x)), 0.5)


def triangular(a: Node, b: Node, lower: int, trans: int = 0, unit: int = 0) -> Node:
    return build.make("triangular_solve", (a, b), lower=lower, trans=trans, unit=unit)


def stopped(x: Node) -> Node:
    """``x`` as a constant: for values whose derivative is given otherwise."""
    return op("stop_gradient", x)


def factors(a: Node) -> Node:
    """The factors of ``a`` for solving: what is solved brings its own derivative."""
    return build.make("lu", (stopped(a),))


def solve(a: Node, b: Node, trans: int = 0) -> Node:
    return build.make("lu_solve", (a, factors(a), b), trans=trans)


def eigh_parts(packed: Node, n) -> tuple[Node, Node]:
    """The eigenvalues, and the eigenvectors a row each, of a packed result."""
    values = row_block(packed, 0, 1)
    return build.reshape(values, (*packed.shape[:-2], n)), row_block(packed, 1, n)


def svd_parts(packed: Node, m, n) -> tuple[Node, Node, Node]:
    """U transposed, the singular values, V of a thin packed result."""
    k = min(m, n)
    parts = (0, (k, m)), (k * m, (k,)), (k * m + k, (n, k))
    return tuple(piece(packed, start, shape) for start, shape in parts)


def diagonal_of(x: Node) -> Node:
    """The diagonals of square matrices."""
    return build.reduce("sum", kept_where("eq", x), (x.ndim - 1,))


def determinant_parts(a: Node) -> tuple[Node, Node]:
    """Sign and logarithm of the absolute value of the determinant, without a derivative."""
    n = a.shape[-1]
    packed = factors(a)
    diagonal = diagonal_of(row_block(packed, 0, n))
    pivots = build.reshape(row_block(packed, n, 1), diagonal.shape)
    at = build.broadcast(build.iota((n,), 0, a.dtype), diagonal.shape, (diagonal.ndim - 1,))
    moved = op("where", op("eq", pivots, at), build.full_like(pivots, 1),
               build.full_like(pivots, -1))  # fmt: skip
    last = (diagonal.ndim - 1,)
    sign = build.reduce("prod", op("mul", op("sign", diagonal), moved), last)
    size = build.reduce("sum", op("log", op("abs", diagonal)), last)
    return sign, size
