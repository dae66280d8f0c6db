"""Dense linear algebra: type rules and NumPy meaning of the rows that are library calls.

Matrices are the last two axes; all axes before them are a batch. A row has one result, so
factorizations are packed:

``lu``    (n + 1, n): lower triangle L with its diagonal, above it U without its ones, and in the
          last row the pivots: ``a`` with columns i and pivots[i] exchanged in turn is L @ U.
``qr``    flat: Q row by row, then R row by row.
``eigh``  (n + 1, n): the eigenvalues, then an eigenvector a row.
``svd``   flat: the left singular vectors a row each, the singular values, V row by row.

Those of complex matrices (``complex_qr``, ``complex_eigh``, ``complex_svd``) take real arrays
[..., m, n, 2] of pairs and are all flat in the same order, complex elements as pairs, except
that the transposed of the third result of ``np.linalg.svd`` stands for V.
"""

from __future__ import annotations

import numpy as np

from graphc.errors import DTypeError, ShapeError
from graphc.ir.types import TensorType


def _matrix(name: str, a: TensorType) -> tuple:
    """``(batch, m, n)`` of floating matrices."""
    if a.ndim < 2 or a.dtype.kind != "f":
        kind = ShapeError if a.ndim < 2 else DTypeError
        raise kind(f"{name} takes floating matrices, not {a}")
    return a.shape[:-2], *a.shape[-2:]


def _square(name: str, a: TensorType) -> tuple:
    batch, m, n = _matrix(name, a)
    if m != n:
        raise ShapeError(f"{name} takes square matrices, not {a}")
    return batch, n


def _right_side(name: str, a: TensorType, b: TensorType) -> None:
    batch, n = _square(name, a)
    if b.ndim != a.ndim or b.shape[:-2] != batch or b.shape[-2] != n or b.dtype != a.dtype:
        raise ShapeError(f"{name}: {a} and {b} do not fit")


def infer_square(name: str):
    def infer(attrs, a):
        _square(name, a)
        return a

    return infer


def infer_triangular_solve(attrs, a, b):
    _right_side("triangular_solve", a, b)
    return b


def infer_lu_solve(attrs, a, lu, b):
    _right_side("lu_solve", a, b)
    if lu != infer_lu({}, a):
        raise ShapeError(f"lu_solve: {lu} are not factors of {a}")
    return b


def infer_lu(attrs, a):
    batch, n = _square("lu", a)
    return TensorType(a.dtype, (*batch, n + 1, n))


def infer_eigh(attrs, a):
    batch, n = _square("eigh", a)
    return TensorType(a.dtype, (*batch, n + 1, n))


def qr_sizes(attrs, a: TensorType) -> tuple:
    """``(batch, m, n, k)``: Q is (m, k), R (k, n)."""
    batch, m, n = _matrix("qr", a)
    return batch, m, n, m if attrs["full"] else min(m, n)


def infer_qr(attrs, a):
    batch, m, n, k = qr_sizes(attrs, a)
    return TensorType(a.dtype, (*batch, m * k + k * n))


def svd_sizes(attrs, a: TensorType) -> tuple:
    """``(batch, m, n, k, p, q)``: k values, p left and q right singular vectors."""
    batch, m, n = _matrix("svd", a)
    k = min(m, n)
    return batch, m, n, k, *((m, n) if attrs["full"] else (k, k))


def infer_svd(attrs, a):
    batch, m, n, k, p, q = svd_sizes(attrs, a)
    return TensorType(a.dtype, (*batch, p * m + k + n * q))


def _of_pairs(name: str, a: TensorType) -> TensorType:
    """The type of the real matrices that have as many elements as those of pairs."""
    if a.ndim < 3 or a.shape[-1] != 2:
        raise ShapeError(f"{name} takes pairs [..., m, n, 2], not {a}")
    return TensorType(a.dtype, a.shape[:-1])


def complex_qr_sizes(attrs, a: TensorType) -> tuple:
    return qr_sizes(attrs, _of_pairs("complex_qr", a))


def infer_complex_qr(attrs, a):
    batch, m, n, k = complex_qr_sizes(attrs, a)
    return TensorType(a.dtype, (*batch, 2 * (m * k + k * n)))


def infer_complex_eigh(attrs, a):
    batch, n = _square("complex_eigh", _of_pairs("complex_eigh", a))
    return TensorType(a.dtype, (*batch, n + 2 * n * n))


def complex_svd_sizes(attrs, a: TensorType) -> tuple:
    return svd_sizes(attrs, _of_pairs("complex_svd", a))


def infer_complex_svd(attrs, a):
    batch, m, n, k, p, q = complex_svd_sizes(attrs, a)
    return TensorType(a.dtype, (*batch, 2 * (p * m + n * q) + k))


def infer_implicit(attrs, value, *operands):
    return value


# ------------------------------------------------------------------------------ NumPy meaning


def cholesky(node, env, a):
    return np.linalg.cholesky(a)


def triangular_solve(node, env, a, b):
    a = np.tril(a) if node.attr("lower") else np.triu(a)
    if node.attr("unit"):
        on = np.arange(a.shape[-1])
        a = a.copy()
        a[..., on, on] = 1
    return np.linalg.solve(np.swapaxes(a, -1, -2) if node.attr("trans") else a, b)


def lu(node, env, a):
    """Crout's elimination with exchanges of columns, for all matrices of the batch at once."""
    n = a.shape[-1]
    out = np.zeros((*a.shape[:-2], n + 1, n), a.dtype)
    left = np.array(a).reshape(int(np.prod(a.shape[:-2])), n, n)
    each = np.arange(len(left))
    pivots = np.zeros((len(left), n), np.intp)
    for i in range(n):
        pivots[:, i] = p = i + np.argmax(np.abs(left[:, i, i:]), axis=-1)
        kept, moved = left[:, :, i].copy(), left[each, :, p]
        left[each, :, p], left[:, :, i] = kept, moved
        pivot = left[:, i, i, None]
        left[:, i, i + 1 :] /= np.where(pivot == 0, 1, pivot)
        left[:, i + 1 :, i + 1 :] -= left[:, i + 1 :, i, None] * left[:, i, None, i + 1 :]
    out[..., :n, :] = left.reshape(a.shape)
    out[..., n, :] = pivots.reshape(*a.shape[:-2], n)
    return out


def lu_solve(node, env, a, factors, b):
    return np.linalg.solve(np.swapaxes(a, -1, -2) if node.attr("trans") else a, b)


def _flat(*parts) -> np.ndarray:
    """Matrices row by row and vectors, one after the other."""
    batch = parts[0].shape[:-2]
    rows = [np.reshape(p, (*batch, int(np.prod(p.shape[len(batch) :])))) for p in parts]
    return np.concatenate(rows, axis=-1)


def qr(node, env, a):
    return _flat(*np.linalg.qr(a, "complete" if node.attr("full") else "reduced"))


def eigh(node, env, a):
    values, vectors = np.linalg.eigh(a)
    return np.concatenate([values[..., None, :], np.swapaxes(vectors, -1, -2)], axis=-2)


def svd(node, env, a):
    u, s, vt = np.linalg.svd(a, full_matrices=bool(node.attr("full")))
    return _flat(np.swapaxes(u, -1, -2), s, np.swapaxes(vt, -1, -2))


def _complex(pairs) -> np.ndarray:
    """Pairs along the last axis as complex numbers."""
    return pairs[..., 0] + np.complex64(1j) * pairs[..., 1]


def _pairs(z) -> np.ndarray:
    """A complex matrix with twice as many columns."""
    return np.stack([z.real, z.imag], axis=-1).reshape(*z.shape[:-1], 2 * z.shape[-1])


def complex_qr(node, env, a):
    q, r = np.linalg.qr(_complex(a), "complete" if node.attr("full") else "reduced")
    return _flat(_pairs(q), _pairs(r))


def complex_eigh(node, env, a):
    values, vectors = np.linalg.eigh(_complex(a))
    return _flat(values[..., None, :], _pairs(np.swapaxes(vectors, -1, -2)))


def complex_svd(node, env, a):
    u, s, vt = np.linalg.svd(_complex(a), full_matrices=bool(node.attr("full")))
    left, right = (_pairs(np.swapaxes(x, -1, -2)) for x in (u, vt))
    return _flat(left, s[..., None, :], right)


# Higham 2005, "The scaling and squaring method for the matrix exponential revisited".
PADE = (64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0,
        129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0,
        40840800.0, 960960.0, 16380.0, 182.0, 1.0)  # fmt: skip
PADE_NORM = 5.371920351148152


def expm(node, env, a):
    n = a.shape[-1]
    if not n:
        return a
    one = np.eye(n, dtype=a.dtype)
    out = np.empty_like(a)
    for at in np.ndindex(a.shape[:-2]):
        out[at] = _expm(a[at], one)
    return out


def _expm(x, one):
    norm = np.abs(x).sum(axis=0).max()
    if not np.isfinite(norm):
        return np.full_like(x, np.nan)
    squarings = 0
    while norm > PADE_NORM:
        norm, squarings = norm * 0.5, squarings + 1
    x = np.ldexp(x, -squarings)
    b = [x.dtype.type(c) for c in PADE]
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    odd = x @ (x6 @ (b[13] * x6 + b[11] * x4 + b[9] * x2)
               + b[7] * x6 + b[5] * x4 + b[3] * x2 + b[1] * one)  # fmt: skip
    even = x6 @ (b[12] * x6 + b[10] * x4 + b[8] * x2) + (
        b[6] * x6 + b[4] * x4 + b[2] * x2 + b[0] * one
    )
    result = np.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        result = result @ result
    return result


def implicit(node, env, value, *operands):
    return value
