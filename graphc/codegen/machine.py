"""The words of generated programs, as plain Python: errors there are readable.

``native_words`` gives the same words their native meaning. Buffers are flat NumPy arrays here.
"""

from __future__ import annotations

import numpy as np

from graphc import vmath
from graphc.codegen.program import ProductFunction, Program
from graphc.ir import library
from graphc.ir.dims import product
from graphc.ir.scipy_functions import SCIPY_FUNCTIONS
from graphc.ir.types import parse_type
from graphc.schedule.convolutions import Convolution
from graphc.schedule.pooling import Pooling
from graphc.schedule.team import GRAIN, MAX_PARTS

KINDS = {k: parse_type(f"{k}[]").dtype for k in
         ("bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64")}  # fmt: skip
MATH = tuple(name for name in vmath.FUNCTIONS if name not in ("pow", "gelu"))


def run_as_python(program: Program, arrays, arena: np.ndarray, ints: np.ndarray) -> None:
    """Execute a program without a compiler: ``arrays`` are flat, in the order of the table."""
    namespace = python_words()
    for function in program.products:
        namespace |= _product_words(function)
    for function in program.convolutions:
        namespace[function.name] = convolution_word(function.shape)
    for function in program.poolings:
        namespace[function.name] = pooling_word(function.shape)
    for kernel in program.kernels:
        if kernel.team:
            namespace[kernel.team_name] = _team_word(namespace, kernel.name)
    exec(compile(program.text, "<graphc program>", "exec"), namespace)
    with np.errstate(all="ignore"):
        namespace["main"](arrays, arena, ints)


def python_words() -> dict[str, object]:
    """The namespace in which a program runs as plain Python."""
    words: dict[str, object] = {
        "INF": np.inf, "NAN": np.nan, "select": _select, "larger": np.maximum,
        "smaller": np.minimum, "absolute": np.abs, "sign": np.sign, "floor": np.floor,
        "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "copysign": np.copysign,
        "isinf": np.isinf, "isfinite": np.isfinite,
        "shift_left": np.left_shift, "shift_right": np.right_shift, "common_divisor": np.gcd,
        "count_bits": np.bitwise_count, "next_after": np.nextafter,
        "relu": lambda x: np.maximum(x, x.dtype.type(0)),
        "divided": lambda x, divisor, reciprocal: x / divisor,
        "floor_mod": np.remainder, "floor_div": np.floor_divide, "power": _power,
        "accumulate_sum": lambda a, b: a + b, "accumulate_prod": lambda a, b: a * b,
        "checked": _checked, "status_words": lambda ints: ints,
        "part": lambda buffer, offset: buffer[offset:], "team_parts": _team_parts,
        "claim": lambda buffer, index: None, "abreast": range, "unrolled": range,
        "look": lambda ints, at, pace: 1 << 62,
    }  # fmt: skip
    for kind, dtype in KINDS.items():
        if kind != "bool":
            words[kind] = _conversion(dtype)
        words[f"argument_{kind}"] = lambda args, index: args[index]
        words[f"temporary_{kind}"] = _temporary(dtype)
        words[f"local_{kind}"] = _local(dtype)
    for kind in ("f32", "f64"):
        words[f"gemm_{kind}"] = _gemm
        for name, word in LIBRARY_WORDS.items():
            words[f"{name}_{kind}"] = word
    for name in MATH:
        words[name] = _math(name)
    for name in SCIPY_FUNCTIONS:
        words[name] = _of_scipy(name)
    return words


def _temporary(dtype):
    """Memory of the arena from an offset on, in whole elements."""
    size = np.dtype(dtype).itemsize
    return lambda arena, offset: arena[offset : len(arena) - (len(arena) - offset) % size].view(
        dtype
    )


def _local(dtype):
    """Memory of the function, in which is anything."""
    size = np.dtype(dtype).itemsize
    return lambda count: np.full(count * size, 0xAB, np.uint8).view(dtype)


def _team_parts(ints, at, extent, size, work):
    """Into how many parts a kernel of so many steps and so much work is split."""
    return max(1, min(int(ints[at]), MAX_PARTS, -(-extent // size), work // GRAIN))


def _team_word(namespace, name: str):
    def run(ints, at, parts, extent, size, *arguments):
        steps = -(-extent // size)
        for lane in range(parts):
            first, end = steps * lane // parts, steps * (lane + 1) // parts
            namespace[name](*arguments, lane, first, end)

    return run


def _conversion(dtype: np.dtype):
    return lambda x: np.asarray(x).astype(dtype)[()]


def _select(cond, a, b):
    return a if cond else b


def _power(x, y):
    """As on arrays: for single values NumPy takes short cuts that round differently."""
    return np.power(np.asarray(x).reshape(1), np.asarray(y).reshape(1))[0]


def _checked(status, check, index, size):
    if 0 <= index < size:
        return int(index)
    if status[0] == 0:
        status[0], status[1] = check, index
    return int(min(max(index, 0), max(size - 1, 0)))


def _math(name):
    def call(*args):
        return vmath.evaluate(name, args[0].dtype.name, *args)[()]

    return call


def _of_scipy(name):
    def call(*args):
        found = SCIPY_FUNCTIONS[name].evaluate(*map(np.asarray, args))
        return np.asarray(found, args[0].dtype)[()]

    return call


def _product_words(product: ProductFunction) -> dict[str, object]:
    def multiply(a, *rest):
        *arrays, m, k, count = rest[: len(rest) - product.ahead]
        also = 2 * len(product.columns)
        row = also + 2 * len(product.sums)
        assert len(arrays) == row + product.row + (product.method in ("panel", "chunks"))
        step = a.itemsize
        strides = (step, m * step) if product.ta else (k * step, step)
        left = np.lib.stride_tricks.as_strided(a, (count, k), strides)
        for n, b, c in zip(product.columns, arrays[::2], arrays[1::2], strict=False):
            right = b[: k * n].reshape((n, k)).T if product.tb else rows_of(b, k, n, product.of)
            result = rows_of(c, count, n, product.c_row)
            result[...] = result + left @ right if product.adds else left @ right
        n, result = product.n, rows_of(arrays[1], count, product.n, product.c_row)
        for k, a, b in zip(
            product.sums, arrays[also:row:2], arrays[also + 1 : row : 2], strict=True
        ):
            right = b[: k * n].reshape((n, k)).T if product.tb else b[: k * n].reshape((k, n))
            result += a[: count * k].reshape((count, k)) @ right
        if product.row:
            result += arrays[row][:n]

    def rows_of(array, count, n, apart):
        step = array.itemsize
        return np.lib.stride_tricks.as_strided(array, (count, n), ((apart or n) * step, step))

    def pack(b, work, k):  # the layout of the pack is the native code's own
        work[: k * product.n] = b[: k * product.n]

    return {product.name: multiply, product.pack_name: pack}


def convolution_word(shape: Convolution):
    """The Python meaning of a convolution."""

    def convolve(x, w, out, channels):
        step, strided = x.itemsize, np.lib.stride_tricks.as_strided
        sizes = (shape.images, channels, *shape.places, *shape.window)
        strides = (*shape.x_strides[:2], *shape.steps, *shape.reaches)
        pieces = strided(x, sizes, [s * step for s in strides])
        inner = [product(shape.window[axis:]) for axis in range(1, len(shape.window) + 1)]
        sizes = (shape.filters, channels, *shape.window)
        weights = strided(w, sizes, [s * step for s in (*shape.w_strides, *inner)])
        rank = len(shape.places)
        over = [1, *range(2 + rank, 2 + 2 * rank)]
        result = np.tensordot(pieces, weights, (over, range(1, weights.ndim)))
        result = np.moveaxis(result, -1, 1)
        out[: result.size] = result.ravel()

    return convolve


def pooling_word(shape: Pooling):
    """The Python meaning of a pooling."""
    rows, columns = shape.rows, shape.columns

    def pool(*arguments):
        *operands, out = arguments
        sizes = (rows, shape.down, columns, shape.across)
        x = operands[0][: np.prod(sizes)].reshape(sizes)
        others = [o[: rows * columns].reshape(rows, 1, columns, 1) for o in operands[1:]]
        if shape.method == "max":
            result = x.max((1, 3))
        elif shape.method == "count":
            result = (x == others[0]).sum((1, 3))
        else:
            result = np.where(x == others[0], others[1], 0)
        out[: result.size] = result.ravel()

    return pool


def _trsm(lower, trans, unit, n, k, a, b):
    """op(triangle of a) x = b in place of b."""
    triangle = (np.tril if lower else np.triu)(a[: n * n].reshape(n, n))
    if unit:
        np.fill_diagonal(triangle, 1)
    if n and np.diagonal(triangle).all():
        x = b[: n * k].reshape(n, k)
        x[...] = np.linalg.solve(triangle.T if trans else triangle, x)


def _potrf(n, a):
    """Lower factor in place of the lower triangle; 0, or not 0 where there is none."""
    x = a[: n * n].reshape(n, n)
    try:
        x[...] = np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        return 1
    return 0


def _getrf(n, a, pivots):
    """As the row ``lu``, with pivots that count from 1."""
    packed = library.lu(None, None, a[: n * n].reshape(n, n))
    a[: n * n] = packed[:n].ravel()
    pivots[:n] = packed[n] + 1
    return 0


def _gelqf(n, m, a, tau, work, lwork):
    """Householder QR of a (m, n): R, and below it the reflectors with their factors."""
    x = a[: m * n].reshape(m, n)
    reflectors, factors = np.linalg.qr(x, "raw")
    x[...], tau[: min(m, n)] = reflectors.T, factors
    return 0


def _orglq(c, m, k, a, tau, work, lwork):
    """The first c columns of the product of k reflectors, which are the columns of a (m, c)."""
    x = a[: m * c].reshape(m, c)
    q = np.eye(m, c, dtype=x.dtype)
    for i in reversed(range(k)):
        v = x[:, i].copy()
        v[:i], v[i] = 0, 1
        q -= tau[i] * np.outer(v, v.conj() @ q)
    x[...] = q
    return 0


def _syevd(n, a, w, work, lwork, integers, liwork):
    """Eigenvalues and, a row each, eigenvectors in place of a; reads its upper triangle."""
    x = a[: n * n].reshape(n, n)
    try:
        w[:n], vectors = np.linalg.eigh(x.T)
    except np.linalg.LinAlgError:
        return 1
    x[...] = vectors.T
    return 0


def _gesdd(full, m, n, a, s, u, v, q, work, lwork, integers):
    """Singular values and vectors (left ones and V's rows in memory) of a, given transposed."""
    try:
        left, s[: min(m, n)], right = np.linalg.svd(a[: m * n].reshape(n, m).T, bool(full))
    except np.linalg.LinAlgError:
        return 1
    u[: left.size], v[: n * q] = left.T.ravel(), right.T.ravel()
    return 0


def _complex(pairs):
    """A buffer of pairs as one of complex numbers."""
    return pairs[: len(pairs) // 2 * 2].view(np.result_type(pairs.dtype, np.complex64))


def _complex_gelqf(n, m, a, tau, work, lwork):
    return _gelqf(n, m, _complex(a), _complex(tau), work, lwork)


def _complex_unglq(c, m, k, a, tau, work, lwork):
    return _orglq(c, m, k, _complex(a), _complex(tau), work, lwork)


def _complex_heevd(n, a, w, work, lwork, rwork, lrwork, integers, liwork):
    return _syevd(n, _complex(a), w, work, lwork, integers, liwork)


def _complex_gesdd(full, m, n, a, s, u, v, q, work, lwork, rwork, integers):
    return _gesdd(full, m, n, _complex(a), s, _complex(u), _complex(v), q, work, lwork, integers)


#: BLAS and LAPACK by what they do to row-major matrices; each exists for f32 and f64.
LIBRARY_WORDS = {
    "trsm": _trsm, "potrf": _potrf, "getrf": _getrf, "gelqf": _gelqf, "orglq": _orglq,
    "syevd": _syevd, "gesdd": _gesdd, "complex_gelqf": _complex_gelqf,
    "complex_unglq": _complex_unglq, "complex_heevd": _complex_heevd,
    "complex_gesdd": _complex_gesdd,
}  # fmt: skip


def _gemm(ta, tb, m, n, k, alpha, a, b, beta, c):
    left = a[: m * k].reshape((k, m)).T if ta else a[: m * k].reshape((m, k))
    right = b[: k * n].reshape((n, k)).T if tb else b[: k * n].reshape((k, n))
    out = c[: m * n].reshape((m, n))
    product = left @ right if alpha == 1.0 else c.dtype.type(alpha) * (left @ right)
    out[...] = product if beta == 0.0 else product + c.dtype.type(beta) * out
