"""``np.linalg``: factorizations and what is made of them; norms.

Library rows (``ir.library``) do the work: solve, inv, det and slogdet are made of ``lu``, pinv,
lstsq and the norms by singular values of ``svd``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from graphc.errors import DTypeError, ShapeError, SymbolicDimError, TraceError
from graphc.ir import build, matrix
from graphc.ir.build import elementwise as op
from graphc.ir.dims import Dim, product
from graphc.ir.node import Node
from graphc.trace import complex_linalg
from graphc.trace.complex_linalg import is_complex, paired, unpaired
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast
from graphc.trace.elementwise import broadcast_shapes, mismatch

_linalg = np.linalg


class EighResult(NamedTuple):
    """What ``np.linalg.eigh`` returns, of traced values."""

    eigenvalues: object
    eigenvectors: object


class QRResult(NamedTuple):
    """What ``np.linalg.qr`` returns, of traced values."""

    Q: object
    R: object


class SlogdetResult(NamedTuple):
    """What ``np.linalg.slogdet`` returns, of traced values."""

    sign: object
    logabsdet: object


class SVDResult(NamedTuple):
    """What ``np.linalg.svd`` returns, of traced values."""

    U: object
    S: object
    Vh: object


# ---------------------------------------------------------------------------------- operands


def _floating(context, name: str, *values) -> list:
    """Values in the common dtype of linear algebra: float32 or float64, integers as float64."""
    tracers = [context.lift(v) for v in values]
    if any(t.dtype == np.float16 for t in tracers):
        raise DTypeError(
            f"np.linalg.{name} does not take float16; convert with .astype(np.float32)"
        )
    single = all(t.dtype == np.float32 for t in tracers)
    dtype = np.float32 if single else np.float64
    return [context.wrap(cast(t.node, dtype)) for t in tracers]


def _complex_matrices(context, name: str, a):
    """``a`` as a tracer of complex matrices, None where it is real."""
    x = context.lift(a)
    return _of_rank(name, x) if is_complex(x) else None


def _complex_square(context, name: str, a):
    """``a`` as a tracer of square complex matrices, None where it is real."""
    x = _complex_matrices(context, name, a)
    return None if x is None else _of_squares(name, x)


def _matrices(context, name: str, a) -> Node:
    (x,) = _floating(context, name, a)
    return _of_rank(name, x).node


def _square(context, name: str, a) -> Node:
    return _of_squares(name, _matrices(context, name, a))


def _of_rank(name: str, x):
    if x.ndim < 2:
        raise ShapeError(mismatch(f"np.linalg.{name}", (x.shape,), "needs at least two axes"))
    return x


def _of_squares(name: str, x):
    m, n = x.shape[-2:]
    if m != n:
        if isinstance(m, Dim) or isinstance(n, Dim):
            raise SymbolicDimError(f"linalg.{name}: sizes {m} and {n} must be known")
        raise ShapeError(mismatch(f"np.linalg.{name}", (x.shape,), f"not square: {m} != {n}"))
    return x


def _identity(x: Node) -> Node:
    return matrix.eye_like(x)


# ------------------------------------------------------------------------------ linear systems


def solve_nodes(name: str, a: Node, b: Node, solver) -> Node:
    """``solver(a, b)`` with joint leading axes; b holds matrices."""
    if a.shape[-1] != b.shape[-2]:
        if isinstance(a.shape[-1], Dim) or isinstance(b.shape[-2], Dim):
            raise SymbolicDimError(f"{name}: sizes of `a` and `b` must be known")
        reason = f"{a.shape[-1]} != {b.shape[-2]}"
        raise ShapeError(mismatch(name, (a.shape, b.shape), reason))
    batch = broadcast_shapes(name, a.shape[:-2], b.shape[:-2])
    if product(a.shape[:-2]) == 1 and b.ndim > 2:
        return _one_matrix(a, b, batch, solver)
    a = build.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = build.broadcast_to(b, (*batch, *b.shape[-2:]))
    return solver(a, b)


def _one_matrix(a: Node, b: Node, batch, solver) -> Node:
    """All right sides of a batch as columns of one system."""
    n, k = b.shape[-2:]
    b = build.broadcast_to(b, (*batch, n, k))
    rank = b.ndim
    columns = build.transpose(b, (rank - 2, *range(rank - 2), rank - 1))
    flat = build.reshape(columns, (n, product((*batch, k))))
    x = solver(build.reshape(a, a.shape[-2:]), flat)
    x = build.reshape(x, (n, *batch, k))
    return build.transpose(x, (*range(1, rank - 1), 0, rank - 1))


@implements(_linalg.solve)
def solve(context, a, b):
    a, b = context.lift(a), context.lift(b)
    if is_complex(a, b):
        return complex_linalg.solve(*_complex_system("solve", a, b))
    a, b = _floating(context, "solve", a, b)
    return _solved(context, "solve", a, b, matrix.solve)


def _complex_system(name: str, a, b):
    """``a`` and ``b`` in their common dtype, where they fit."""
    if not b.ndim:
        raise ShapeError(mismatch(f"np.linalg.{name}", (a.shape, b.shape), "`b` is a scalar"))
    kind = np.result_type(a.dtype, b.dtype)
    return _of_squares(name, _of_rank(name, a)).astype(kind), b.astype(kind)


def _solved(context, name: str, a, b, solver):
    """``solver`` of nodes for a vector or matrices ``b``."""
    x, y = _square(context, name, a), b.node
    is_vector = y.ndim == 1
    if not y.ndim:
        raise ShapeError(mismatch(f"np.linalg.{name}", (x.shape, y.shape), "`b` is a scalar"))
    y = build.reshape(y, (*y.shape, 1)) if is_vector else y
    result = solve_nodes(f"np.linalg.{name}", x, y, solver)
    return context.wrap(build.reshape(result, result.shape[:-1]) if is_vector else result)


@implements(_linalg.inv)
def inv(context, a):
    z = _complex_square(context, "inv", a)
    if z is not None:
        return unpaired(inv(context, paired(z)))
    x = _square(context, "inv", a)
    return context.wrap(matrix.solve(x, _identity(x)))


@implements(_linalg.tensorsolve)
def tensorsolve(context, a, b, axes=None):
    a, b = context.lift(a), context.lift(b)
    if axes is not None:
        moved = [normalize_axis_index(k, a.ndim) for k in axes]
        a = a.transpose([*(k for k in range(a.ndim) if k not in moved), *moved])
    shape = a.shape[b.ndim :]
    size = product(shape)
    if product(a.shape[: b.ndim]) != size:
        raise ShapeError(mismatch("np.linalg.tensorsolve", (a.shape, b.shape), "not square"))
    return solve(context, a.reshape((size, size)), b.ravel()).reshape(shape)


@implements(_linalg.tensorinv)
def tensorinv(context, a, ind=2):
    a = context.lift(a)
    if ind <= 0:
        raise ShapeError("np.linalg.tensorinv: ind must be positive")
    rows, columns = a.shape[:ind], a.shape[ind:]
    if product(rows) != product(columns):
        raise ShapeError(mismatch("np.linalg.tensorinv", (a.shape,), f"not square at ind={ind}"))
    size = product(rows)
    return inv(context, a.reshape((size, size))).reshape((*columns, *rows))


@implements(_linalg.matrix_power)
def matrix_power(context, a, n):
    x = context.lift(a)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(mismatch("np.linalg.matrix_power", (x.shape,), "not square"))
    n = n.__index__()
    if n < 0:
        x, n = inv(context, x), -n
    if n == 0:
        return context.wrap(_identity(x.node))
    result = None
    while n:
        if n % 2:
            result = x if result is None else result @ x
        n //= 2
        x = x @ x if n else x
    return result


def solve_triangular(context, a, b, trans=0, lower=False, unit_diagonal=False):
    """``scipy.linalg.solve_triangular``."""
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise ShapeError(f"solve_triangular: trans={trans!r}; known: 0, 1, 2, 'N', 'T', 'C'")
    turned, unit = int(trans not in (0, "N")), int(unit_diagonal)
    a, b = context.lift(a), context.lift(b)
    if is_complex(a, b):
        a, b = _complex_system("solve_triangular", a, b)
        a = np.conj(a) if trans in (1, "T") else a

        def real(x, y):
            return solve_triangular(context, x, y, turned, lower, unit_diagonal)

        return complex_linalg.solve_triangular(a, b, turned, lower, unit, real)
    a, b = _floating(context, "solve_triangular", a, b)
    return _solved(context, "solve_triangular", a, b,
                   lambda x, y: matrix.triangular(x, y, int(lower), turned, unit))  # fmt: skip


def expm(context, a):
    """``scipy.linalg.expm``."""
    z = _complex_square(context, "expm", a)
    if z is not None:
        return unpaired(expm(context, paired(z)))
    return context.wrap(build.make("expm", (_square(context, "expm", a),)))


# -------------------------------------------------------------------------------- determinants


@implements(_linalg.det)
def det(context, a):
    z = _complex_square(context, "det", a)
    if z is not None:
        return complex_linalg.det(z)
    x = _square(context, "det", a)
    n, batch = x.shape[-1], x.shape[:-2]
    if isinstance(n, int) and n <= _BY_HAND:
        return context.wrap(_small_det(x))
    sign, size = matrix.determinant_parts(x)
    value = op("mul", sign, op("exp", size))
    return context.wrap(build.make("implicit", (build.reshape(value, batch), x), rule="det"))


_BY_HAND = 3  # sizes whose determinant is written out: exact derivatives of any order


def _small_det(x: Node) -> Node:
    n, batch = x.shape[-1], x.shape[:-2]
    if not n:
        return build.full(batch, 1, x.dtype)

    def at(i, j):
        start = [*[0] * len(batch), i, j]
        return build.reshape(build.slice_(x, start, (*batch, 1, 1), [1] * x.ndim), batch)

    def minor(i, j, k, m):  # rows i, j and columns k, m
        return op("sub", op("mul", at(i, k), at(j, m)), op("mul", at(i, m), at(j, k)))

    if n == 1:
        return at(0, 0)
    if n == 2:
        return minor(0, 1, 0, 1)
    parts = [op("mul", at(0, k), minor(1, 2, *rest)) for k, rest in enumerate(
        ((1, 2), (0, 2), (0, 1)))]  # fmt: skip
    return op("add", op("sub", parts[0], parts[1]), parts[2])


@implements(_linalg.slogdet)
def slogdet(context, a):
    z = _complex_square(context, "slogdet", a)
    if z is not None:
        return SlogdetResult(*complex_linalg.slogdet(z))
    x = _square(context, "slogdet", a)
    if isinstance(x.shape[-1], int) and not x.shape[-1]:
        sign, size = build.full(x.shape[:-2], 1, x.dtype), build.full(x.shape[:-2], 0, x.dtype)
    else:
        sign, size = matrix.determinant_parts(x)
        size = build.make("implicit", (size, x), rule="slogdet")
    return SlogdetResult(context.wrap(sign), context.wrap(size))


# ------------------------------------------------------------------------------ factorizations


@implements(_linalg.cholesky)
def cholesky(context, a, *, upper=False):
    z = _complex_square(context, "cholesky", a)
    if z is not None:
        if not upper:
            return complex_linalg.cholesky(z)
        lower = complex_linalg.cholesky(np.conj(np.swapaxes(z, -1, -2)))
        return np.conj(np.swapaxes(lower, -1, -2))
    x = _square(context, "cholesky", a)
    if not upper:
        return context.wrap(build.make("cholesky", (x,)))
    return context.wrap(build.swap_last(build.make("cholesky", (build.swap_last(x),))))


@implements(_linalg.qr)
def qr(context, a, mode="reduced"):
    if mode not in ("reduced", "complete", "r"):
        raise TraceError(f"np.linalg.qr: mode={mode!r}; supported: 'reduced', 'complete', 'r'")
    z = _complex_matrices(context, "qr", a)
    x = _matrices(context, "qr", a) if z is None else z
    m, n = x.shape[-2:]
    full = int(mode == "complete" and m > n)
    if z is not None:
        result = QRResult(*complex_linalg.qr(z, full))
        return result.R if mode == "r" else result
    k = m if full else min(m, n)
    packed = build.make("qr", (x,), full=full)
    r = context.wrap(matrix.piece(packed, m * k, (k, n)))
    return r if mode == "r" else QRResult(context.wrap(matrix.piece(packed, 0, (m, k))), r)


def _eigh(context, name: str, a, UPLO) -> EighResult:
    upper = UPLO.upper() == "U"
    if UPLO.upper() not in ("L", "U"):
        raise ShapeError(f"np.linalg.{name}: UPLO must be 'L' or 'U'")
    z = _complex_square(context, name, a)
    if z is not None:
        z = np.conj(np.swapaxes(z, -1, -2)) if upper else z
        return EighResult(*complex_linalg.eigh(z))
    x = _square(context, name, a)
    x = build.swap_last(x) if upper else x
    values, rows = matrix.eigh_parts(build.make("eigh", (x,)), x.shape[-1])
    return EighResult(context.wrap(values), context.wrap(build.swap_last(rows)))


@implements(_linalg.eigh)
def eigh(context, a, UPLO="L"):
    return _eigh(context, "eigh", a, UPLO)


@implements(_linalg.eigvalsh)
def eigvalsh(context, a, UPLO="L"):
    return _eigh(context, "eigvalsh", a, UPLO).eigenvalues


def _thin_svd(x: Node) -> tuple[Node, Node, Node]:
    return matrix.svd_parts(build.make("svd", (x,), full=0), *x.shape[-2:])


def _singular_values(context, name: str, a):
    z = _complex_matrices(context, name, a)
    if z is not None:
        return complex_linalg.svd(z)[1]
    return context.wrap(_thin_svd(_matrices(context, name, a))[1])


@implements(_linalg.svd)
def svd(context, a, full_matrices=True, compute_uv=True, hermitian=False):
    if hermitian:
        return _hermitian_svd(context, a, compute_uv)
    if not compute_uv:
        return _singular_values(context, "svd", a)
    z = _complex_matrices(context, "svd", a)
    if z is not None:
        return _complex_svd(z, full_matrices and z.shape[-1] != z.shape[-2])
    x = _matrices(context, "svd", a)
    m, n = x.shape[-2:]
    ut, s, v = _thin_svd(x)
    if full_matrices and m != n:
        packed, k = build.make("svd", (x,), full=1), min(m, n)
        ut, v = matrix.piece(packed, 0, (m, m)), matrix.piece(packed, m * m + k, (n, n))
    return SVDResult(*(context.wrap(p) for p in (build.swap_last(ut), s, build.swap_last(v))))


def _hermitian_svd(context, a, compute_uv):
    """Of the eigenvalues, as NumPy has it: V is U with the signs of eigenvalues."""
    w, v = _eigh(context, "svd", a, "L")
    order = np.argsort(np.abs(w), axis=-1)[..., ::-1]
    w = np.take_along_axis(w, order, axis=-1)
    if not compute_uv:
        return np.abs(w)
    u = np.take_along_axis(v, np.broadcast_to(order[..., None, :], v.shape), axis=-1)
    vh = np.conj(np.swapaxes(u * np.sign(w)[..., None, :], -1, -2))
    return SVDResult(u, np.abs(w), vh)


def _complex_svd(z, full) -> SVDResult:
    """The values are those of a thin one, which has a derivative."""
    u, s, vh = complex_linalg.svd(z)
    if full:
        u, _, vh = complex_linalg.svd(z, 1)
    return SVDResult(u, s, vh)


@implements(getattr(_linalg, "svdvals", None))
def svdvals(context, x):
    return _singular_values(context, "svdvals", x)


@implements(_linalg.pinv)
def pinv(context, a, rcond=None, hermitian=False, *, rtol=None):
    if hermitian:
        raise TraceError("np.linalg.pinv with hermitian=True is not supported; leave it out")
    z = _complex_matrices(context, "pinv", a)
    if z is not None:
        return unpaired(pinv(context, paired(z), rcond, rtol=rtol))
    x = _matrices(context, "pinv", a)
    cutoff = rcond if rcond is not None else rtol
    if cutoff is None or cutoff is np._NoValue:
        cutoff = 1e-15 if rtol is None else _machine_cutoff(x)
    return context.wrap(_pinv(x, cutoff))


def _machine_cutoff(x: Node) -> float:
    return max(x.shape[-2:]) * float(np.finfo(x.dtype).eps)


def _pinv(x: Node, cutoff) -> Node:
    m, n = x.shape[-2:]
    if product(x.shape) == 0:
        return build.full((*x.shape[:-2], n, m), 0, x.dtype)
    ut, s, v = _thin_svd(matrix.stopped(x))
    inverse = op("where", _large(s, cutoff), matrix.reciprocal(s), build.full_like(s, 0))
    value = build.matmul(op("mul", v, matrix.columns_of(inverse, n)), ut)
    return build.make("implicit", (value, x), rule="pinv")


def _large(s: Node, cutoff) -> Node:
    """Which singular values are above ``cutoff`` times the largest."""
    largest = build.reduce("max", s, (s.ndim - 1,))
    limit = build.broadcast(largest, s.shape, range(s.ndim - 1))
    return op("gt", s, matrix.scaled(limit, float(cutoff)))


@implements(_linalg.lstsq)
def lstsq(context, a, b, rcond=None):
    a, b = context.lift(a), context.lift(b)
    if is_complex(a, b):
        return _complex_lstsq(context, a, b, rcond)
    a, b = _floating(context, "lstsq", a, b)
    if a.ndim != 2 or b.ndim not in (1, 2) or a.shape[0] != b.shape[0]:
        reason = "needs `a` (m, n) and `b` (m,) or (m, k)"
        raise ShapeError(mismatch("np.linalg.lstsq", (a.shape, b.shape), reason))
    (m, n), x = a.shape, a.node
    cutoff = _machine_cutoff(x) if rcond is None else rcond
    if rcond is not None and rcond < 0:
        cutoff = float(np.finfo(x.dtype).eps)
    solution = context.wrap(_pinv(x, cutoff)) @ b
    _, s, _ = _thin_svd(x)
    counted = (
        build.cast(_large(s, cutoff), np.int32) if min(m, n) else build.full((0,), 0, np.int32)
    )
    rank = context.wrap(build.reduce("sum", counted, (0,)))
    if m > n:
        residuals = np.sum((b - a @ solution) ** 2, axis=0).reshape(-1)
    else:
        residuals = context.wrap(build.full((0,), 0, x.dtype))
    return solution, residuals, rank, context.wrap(s)


def _complex_lstsq(context, a, b, rcond):
    """As the real problem of pairs, whose rank and residuals count twice or in both parts."""
    if a.ndim != 2 or b.ndim not in (1, 2) or a.shape[0] != b.shape[0]:
        reason = "needs `a` (m, n) and `b` (m,) or (m, k)"
        raise ShapeError(mismatch("np.linalg.lstsq", (a.shape, b.shape), reason))
    kind = np.result_type(a.dtype, b.dtype)
    a, columns = a.astype(kind), (b[:, None] if b.ndim == 1 else b).astype(kind)
    (m, n), k = a.shape, columns.shape[1]
    cutoff = max(m, n) * float(np.finfo(kind).eps) if rcond is None else rcond
    both = np.concatenate([columns.real, columns.imag])
    x, _, rank, s = lstsq(context, paired(a), both, cutoff)
    x = x[:n] + 1j * x[n:]
    residuals = np.sum(np.abs(columns - a @ x) ** 2, axis=0)[: k if m > n else 0]
    return x[:, 0] if b.ndim == 1 else x, residuals, rank // 2, complex_linalg.each_once(s)


@implements(_linalg.matrix_rank)
def matrix_rank(context, A, tol=None, hermitian=False, *, rtol=None):
    x = context.lift(A)
    if x.ndim < 2:
        return np.any(x != 0).astype(np.int64)
    s = _singular_values(context, "matrix_rank", A)
    if tol is None:
        cutoff = max(x.shape[-2:]) * float(np.finfo(s.dtype).eps)
        tol = np.max(s, axis=-1, keepdims=True) * (cutoff if rtol is None else rtol)
    else:
        tol = context.lift(tol)[..., None]
    return np.count_nonzero(s > tol, axis=-1)


@implements(_linalg.cond)
def cond(context, x, p=None):
    a = context.lift(x)
    if not is_complex(a):
        a = context.wrap(_matrices(context, "cond", x))
    if p in (None, 2, -2):
        s = _singular_values(context, "cond", a)
        largest, smallest = s[..., 0], s[..., -1]
        return largest / smallest if p != -2 else smallest / largest
    return norm(context, a, p, (-2, -1)) * norm(context, inv(context, a), p, (-2, -1))


# --------------------------------------------------------------------------------------- norms


@implements(_linalg.norm)
def norm(context, x, ord=None, axis=None, keepdims=False):
    x = context.lift(x)
    by_singular_values = ord in (2, -2, "nuc") and (x.ndim if axis is None else np.size(axis)) == 2
    if is_complex(x) and not by_singular_values:
        x = np.abs(x)
    if x.dtype.kind in "biu":
        x = x.astype(np.float64)
    if ord is None and axis is None:
        result = np.sqrt(np.sum(x * x))
        return result.reshape((1,) * x.ndim) if keepdims else result
    axis = tuple(range(x.ndim)) if axis is None else axis
    axes = normalize_axis_tuple(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ShapeError("np.linalg.norm takes one or two axes")
    if ord in (None, "fro", "f"):
        return np.sqrt(np.sum(x * x, axis=axes, keepdims=keepdims))
    rows, columns = axes
    if ord in (1, -1, np.inf, -np.inf):
        over, rest = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = np.sum(np.abs(x), axis=over, keepdims=True)
        result = (np.max if ord > 0 else np.min)(sums, axis=rest, keepdims=True)
    elif ord in (2, -2, "nuc"):
        s = _singular_values(context, "norm", np.moveaxis(x, axes, (-2, -1)))
        s = np.where(s > 0, s, 0)  # the gradient at 0 is 0
        reduce = {2: np.max, -2: np.min, "nuc": np.sum}[ord]
        result = reduce(s, axis=-1).reshape([1 if k in axes else d for k, d in enumerate(x.shape)])
    else:
        known = "None, 'fro', 'nuc', 1, -1, 2, -2, inf, -inf"
        raise ShapeError(f"np.linalg.norm of a matrix: ord={ord!r}; known: {known}")
    return result if keepdims else np.squeeze(result, axes)


def _vector_norm(x, ord, axis, keepdims):
    options = {"axis": axis, "keepdims": keepdims}
    if ord is None or ord == 2:
        return np.sqrt(np.sum(x * x, **options))
    if ord == np.inf:
        return np.max(np.abs(x), **options)
    if ord == -np.inf:
        return np.min(np.abs(x), **options)
    if ord == 0:
        return np.sum((x != 0).astype(x.dtype), **options)
    if ord == 1:
        return np.sum(np.abs(x), **options)
    if isinstance(ord, str):
        raise ShapeError(f"np.linalg.norm: ord={ord!r} is for matrices")
    return np.sum(np.abs(x) ** ord, **options) ** (1.0 / ord)


@implements(getattr(_linalg, "vector_norm", None))
def vector_norm(context, x, *, axis=None, keepdims=False, ord=2):
    x = context.lift(x)
    if axis is None:
        result = norm(context, x.ravel(), ord, 0)
        return result.reshape((1,) * x.ndim) if keepdims else result
    axes = normalize_axis_tuple(axis, x.ndim)
    if len(axes) == 1:
        return norm(context, x, ord, axes[0], keepdims)
    rest = [k for k in range(x.ndim) if k not in axes]
    flat = x.transpose([*rest, *axes]).reshape([*(x.shape[k] for k in rest), -1])
    result = norm(context, flat, ord, -1)
    shape = [1 if k in axes else d for k, d in enumerate(x.shape)]
    return result.reshape(shape) if keepdims else result


@implements(getattr(_linalg, "matrix_norm", None))
def matrix_norm(context, x, *, keepdims=False, ord="fro"):
    return norm(context, x, ord, (-2, -1), keepdims)
