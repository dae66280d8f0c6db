"""``np.linalg`` of complex matrices, by that of real ones.

``x + iy`` acts on pairs of real vectors as ``[[x, -y], [y, x]]``: systems, inverses and functions
of a complex matrix are those of that real one, whose singular values (or eigenvalues) are those of
the complex one, each twice. So gradients, second derivatives and kernels are the real ones.
Determinants and Cholesky factors are eliminated column by column. Factorizations are those of
complex LAPACK, of matrices given as pairs (``ir/library.py``).
"""

from __future__ import annotations

import numpy as np

from graphc.ir import build, complex_matrix
from graphc.ir.parts import as_pairs, join, parts_of


def is_complex(*tracers) -> bool:
    return any(t.dtype.kind == "c" for t in tracers)


def paired(z):
    """The real matrix that acts as ``z`` on pairs."""
    re, im = z.real, z.imag
    rows = np.concatenate([re, -im], axis=-1), np.concatenate([im, re], axis=-1)
    return np.concatenate(rows, axis=-2)


def unpaired(x):
    """Inverse of :func:`paired`."""
    m, n = (d // 2 for d in x.shape[-2:])
    return x[..., :m, :n] + 1j * x[..., m:, :n]


def solve(a, b):
    is_vector = b.ndim == 1
    b = b[:, None] if is_vector else b
    n = a.shape[-1]
    x = np.linalg.solve(paired(a), np.concatenate([b.real, b.imag], axis=-2))
    x = x[..., :n, :] + 1j * x[..., n:, :]
    return x[..., 0] if is_vector else x


def solve_triangular(a, b, adjoint: int, lower: bool, unit: int, solve_real):
    """x of ``a @ x = b``, or of ``a^H @ x = b``, for a triangle of ``a``.

    With real and imaginary parts as neighbours the real matrix is a triangle too, if the diagonal
    is real: ``a`` is its phases times such a triangle, which also has the zeros to be found.
    """
    is_vector = b.ndim == 1
    b = b[:, None] if is_vector else b
    a = np.tril(a) if lower else np.triu(a)  # what is not read may be NaN
    here = np.eye(a.shape[-1].__index__(), dtype=bool)
    if unit:
        a = np.where(here, 1, a)
    else:
        diagonal = np.where(here, a, 0).sum(axis=-1)[..., None]
        phase = np.sign(diagonal)
        a = np.where(here, np.abs(diagonal), np.conj(phase) * a)
        b = b if adjoint else np.conj(phase) * b
    rows = np.stack([a.real, -a.imag], axis=-1), np.stack([a.imag, a.real], axis=-1)
    pairs = np.stack([b.real, b.imag], axis=-2)  # [..., n, 2, k]
    x = solve_real(_merged(np.stack(rows, axis=-3), 2), _merged(pairs, 1))
    x = x[..., 0::2, :] + 1j * x[..., 1::2, :]
    x = phase * x if adjoint and not unit else x
    return x[..., 0] if is_vector else x


def _merged(x, axes: int):
    """Each of the last axes joined with the axis of 2 behind it ([..., n, 2, k] for one)."""
    if axes == 1:
        return x.reshape((*x.shape[:-3], x.shape[-3] * 2, x.shape[-1]))
    return x.reshape((*x.shape[:-4], x.shape[-4] * 2, x.shape[-2] * 2))


def each_once(values):
    """The mean of both copies of each value, which are neighbours."""
    return (values[..., 0::2] + values[..., 1::2]) * 0.5


def _packed(row: str, z, **attrs):
    return build.make(row, (as_pairs(parts_of(z.node)),), **attrs)


def qr(z, full: int):
    m, n = z.shape[-2:]
    parts = complex_matrix.qr_parts(_packed("complex_qr", z, full=full), m, n,
                                    m if full else min(m, n))  # fmt: skip
    return [z.context.wrap(join(p)) for p in parts]


def eigh(z):
    """Of Hermitian matrices, of which the lower triangle is read."""
    values, vectors = complex_matrix.eigh_parts(_packed("complex_eigh", z), z.shape[-1])
    return z.context.wrap(values), z.context.wrap(join(vectors))


def svd(z, full: int = 0):
    m, n = z.shape[-2:]
    k = min(m, n)
    u, s, vh = complex_matrix.svd_parts(_packed("complex_svd", z, full=full), m, n,
                                        *((m, n) if full else (k, k)))  # fmt: skip
    return z.context.wrap(join(u)), z.context.wrap(s), z.context.wrap(join(vh))


def pivots(a):
    """The diagonal of U in ``P a = L U``, and the sign of P, with the largest pivots."""
    found, sign = [], np.ones_like(a.real, shape=a.shape[:-2])
    for size in range(a.shape[-1].__index__(), 0, -1):
        at = np.argmax(np.abs(a[..., 0]), axis=-1)[..., None]
        rows = np.arange(size)
        order = np.where(rows == 0, at, np.where(rows == at, 0, rows))
        a = np.take_along_axis(a, np.broadcast_to(order[..., None], a.shape), axis=-2)
        sign = np.where(at[..., 0] == 0, sign, -sign)
        pivot = a[..., :1, :1]
        found.append(pivot[..., 0, 0])
        safe = np.where(pivot == 0, 1, pivot)
        a = a[..., 1:, 1:] - a[..., 1:, :1] / safe * a[..., :1, 1:]
    return found, sign


def det(a):
    found, sign = pivots(a)
    result = sign + 0j
    for pivot in found:
        result = result * pivot
    return result


def slogdet(a):
    found, sign = pivots(a)
    size, sign = np.zeros_like(sign), sign + 0j
    for pivot in found:
        size = size + np.log(np.abs(pivot))
        sign = sign * np.sign(pivot)
    return sign, size


def cholesky(a):
    columns = []
    n = a.shape[-1].__index__()
    for k in range(n):
        root = np.sqrt(a[..., :1, 0].real)
        column = np.concatenate([root + 0j, a[..., 1:, 0] / root], axis=-1)
        below = column[..., 1:]
        a = a[..., 1:, 1:] - below[..., :, None] * np.conj(below[..., None, :])
        above = np.zeros_like(column, shape=(*column.shape[:-1], k))
        columns.append(np.concatenate([above, column], axis=-1))
    return np.stack(columns, axis=-1) if columns else a
