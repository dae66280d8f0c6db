"""Small expressions of complex matrices in parts, as ``ir/matrix.py`` has them of real ones."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import build, matrix
from graphc.ir.build import elementwise as op
from graphc.ir.node import Node
from graphc.ir.parts import Parts, as_pairs, of_pairs


def add(x: Parts, y: Parts) -> Parts:
    return Parts(matrix.add(x.re, y.re), matrix.add(x.im, y.im))


def sub(x: Parts, y: Parts) -> Parts:
    return Parts(matrix.sub(x.re, y.re), matrix.sub(x.im, y.im))


def scaled(x: Parts, factor: Node) -> Parts:
    """Times real numbers, element by element."""
    return Parts(op("mul", x.re, factor), op("mul", x.im, factor))


def turned(x: Parts) -> Parts:
    """Transposed, not conjugated."""
    return Parts(matrix.transposed(x.re), matrix.transposed(x.im))


def adjoint(x: Parts) -> Parts:
    return Parts(matrix.transposed(x.re), op("neg", matrix.transposed(x.im)))


def hermitian(x: Parts) -> Parts:
    """The mean of ``x`` and its adjoint."""
    both = add(x, adjoint(x))
    return Parts(*(matrix.scaled(p, 0.5) for p in both))


def product(x: Parts, y: Parts, tx: int = 0, ty: int = 0) -> Parts:
    """x @ y, with the adjoint of x (tx) or of y (ty)."""

    def real(a, b):
        return build.matmul(a, b, tx, ty)

    re = op("sub" if tx == ty else "add", real(x.re, y.re), real(x.im, y.im))
    of_y, of_x = real(x.re, y.im), real(x.im, y.re)
    if tx and ty:
        return Parts(re, op("neg", matrix.add(of_y, of_x)))
    if ty:
        return Parts(re, matrix.sub(of_x, of_y))
    return Parts(re, matrix.sub(of_y, of_x) if tx else matrix.add(of_y, of_x))


def kept_where(compare: str, x: Parts) -> Parts:
    return Parts(*(matrix.kept_where(compare, p) for p in x))


def on_diagonal(re: Node, im: Node) -> Parts:
    return Parts(matrix.on_diagonal(re), matrix.on_diagonal(im))


def block(x: Parts, start: Sequence, shape: Sequence) -> Parts:
    """Rows and columns of all matrices of a batch."""
    lead, ones = x.re.shape[:-2], [1] * x.re.ndim
    start = [*[0] * len(lead), *start]
    return Parts(*(build.slice_(p, start, (*lead, *shape), ones) for p in x))


# ------------------------------------------------------------------------- packed results


def of_matrices(pairs: Node) -> Parts:
    return Parts(of_pairs(pairs, 0), of_pairs(pairs, 1))


def piece(packed: Node, start, shape) -> Parts:
    """The complex matrix of ``shape`` at ``start`` of a flat packed result."""
    rows, columns = shape
    pairs = matrix.piece(packed, start, (rows, 2 * columns))
    return of_matrices(build.reshape(pairs, (*pairs.shape[:-2], rows, columns, 2)))


def packed(*values: Parts | Node) -> Node:
    """Inverse of taking pieces: matrices, and vectors of real numbers."""
    flat = []
    for value in values:
        if isinstance(value, Parts):
            *batch, rows, columns = value.re.shape
            flat.append(build.reshape(as_pairs(value), (*batch, 2 * rows * columns)))
        else:
            flat.append(value)
    return build.concat(flat, flat[0].ndim - 1)


def qr_parts(value: Node, m, n, k) -> tuple[Parts, Parts]:
    """Q and R of a packed result."""
    return piece(value, 0, (m, k)), piece(value, 2 * m * k, (k, n))


def eigh_parts(value: Node, n) -> tuple[Node, Parts]:
    """The eigenvalues, and the eigenvectors as columns."""
    return matrix.piece(value, 0, (n,)), turned(piece(value, n, (n, n)))


def svd_parts(value: Node, m, n, p, q) -> tuple[Parts, Node, Parts]:
    """U with p columns, the singular values, and the adjoint of V with q rows."""
    k = min(m, n)
    u, vt = piece(value, 0, (p, m)), piece(value, 2 * p * m + k, (n, q))
    return turned(u), matrix.piece(value, 2 * p * m, (k,)), turned(vt)


# ------------------------------------------------------------------------- triangular systems


def upper_solve(r: Parts, b: Parts, adjoint_of: int = 0) -> Parts:
    """x of ``r @ x = b``, or of the adjoint of r, for an upper triangle with a real diagonal.

    With real and imaginary parts of rows and columns side by side ``r`` is a real upper triangle.
    """
    *batch, n, columns = b.re.shape
    rows = [
        build.reshape(as_pairs(Parts(*p)), (*batch, n, 1, 2 * n))
        for p in ((r.re, op("neg", r.im)), (r.im, r.re))
    ]
    whole = build.reshape(build.concat(rows, len(batch) + 1), (*batch, 2 * n, 2 * n))
    right = [build.reshape(p, (*batch, n, 1, columns)) for p in b]
    right = build.reshape(build.concat(right, len(batch) + 1), (*batch, 2 * n, columns))
    x = matrix.triangular(whole, right, 0, adjoint_of)
    x = build.reshape(x, (*batch, n, 2 * columns))
    origin, ones = [0] * (x.ndim - 1), [1] * x.ndim
    return Parts(*(build.slice_(x, [*origin, k * columns], b.re.shape, ones) for k in (0, 1)))
