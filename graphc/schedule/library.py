"""Lowering of dense linear algebra and of sorting: sizes and work space of each call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.ir import library
from graphc.ir.dims import DimLike, product
from graphc.ir.node import Node
from graphc.schedule import loops as L

_BLOCK = 32  # rows or columns of a LAPACK block, for which work space is given

FAILURES = {
    "cholesky": ("is not positive definite", "add a multiple of the identity, or use eigh"),
    "triangular_solve": ("is singular: a zero on its diagonal", "use lstsq or pinv"),
    "lu_solve": ("is singular", "use lstsq or pinv"),
    "eigh": ("has eigenvalues that did not converge", "look for NaN and infinity in it"),
    "svd": ("has singular values that did not converge", "look for NaN and infinity in it"),
}
FAILURES |= {f"complex_{op}": FAILURES[op] for op in ("eigh", "svd")}


def failure_text(node: Node, where: str) -> str:
    """What ``numpy.linalg.LinAlgError`` says when a call fails; {value} is the batch index."""
    fault, advice = FAILURES[node.op]
    name = "solve" if node.op == "lu_solve" else node.op.removeprefix("complex_")
    is_one = node.inputs[0].ndim == (3 if node.op.startswith("complex_") else 2)
    which = "the matrix" if is_one else "matrix {value} of the batch"
    return f"LinAlgError: {name}: {which} {fault}{where}; {advice}"


def library_kernel(
    name: str, node: Node, inputs: tuple[L.Buffer, ...], output: L.Buffer,
    new_temp: Callable, new_check: Callable, source: object,
) -> L.LibraryKernel:  # fmt: skip
    """The call of ``node``; ``inputs`` and ``output`` hold its operands and its result."""
    names, sizes, work = _PLANS[node.op](node)
    used = [b for b, given in zip(inputs, names, strict=True) if given]
    buffers = dict(zip((n for n in names if n), used, strict=True))
    buffers["out"] = output
    for given, (dtype, size) in work.items():
        buffers[given] = new_temp("tmp", dtype, size)
    check = new_check(node) if node.op in FAILURES else 0
    written = (output, *(buffers[w] for w in work))
    return L.LibraryKernel(name, node.op, dict(node.attrs), buffers, sizes, check, tuple(used),
                           written, (node,), source)  # fmt: skip


Sizes = dict[str, DimLike]
_INTEGER = np.dtype(np.int32)


def _square(node: Node) -> Sizes:
    a = node.inputs[0].type
    return {"batch": product(a.shape[:-2]), "n": a.shape[-1]}


def _cholesky(node):
    return ("a",), _square(node), {}


def _triangular_solve(node):
    return ("a", "b"), {**_square(node), "k": node.shape[-1]}, {}


def _lu(node):
    sizes = _square(node)
    return ("a",), sizes, {"pivots": (_INTEGER, sizes["n"])}


def _lu_solve(node):  # the matrix itself is there for the gradient only
    return ("", "lu", "b"), {**_square(node), "k": node.shape[-1]}, {}


def _qr(node):
    batch, m, n, c = library.qr_sizes(dict(node.attrs), node.inputs[0].type)
    lwork = _BLOCK * (m + n + 1)
    sizes = {"batch": product(batch), "m": m, "n": n, "k": min(m, n), "c": c, "lwork": lwork}
    dtype = node.dtype
    work = {"w": (dtype, m * n), "tau": (dtype, min(m, n)), "work": (dtype, lwork)}
    return ("a",), sizes, work


def _eigh(node):
    sizes = _square(node)
    n = sizes["n"]
    lwork, liwork = 1 + (6 + _BLOCK) * n + 2 * n * n, 3 + 5 * n
    sizes |= {"lwork": lwork, "liwork": liwork}
    return ("a",), sizes, {"work": (node.dtype, lwork), "integers": (_INTEGER, liwork)}


def _svd(node):
    batch, m, n, k, p, q = library.svd_sizes(dict(node.attrs), node.inputs[0].type)
    lwork = 4 * k * k + 7 * k + (m + n) * (1 + _BLOCK) + 1
    sizes = {"batch": product(batch), "m": m, "n": n, "k": k, "p": p, "q": q, "lwork": lwork}
    dtype = node.dtype
    work = {"w": (dtype, m * n), "work": (dtype, lwork), "integers": (_INTEGER, 8 * k)}
    return ("a",), sizes, work


def _complex_qr(node):
    batch, m, n, c = library.complex_qr_sizes(dict(node.attrs), node.inputs[0].type)
    lwork = _BLOCK * (m + n + 1)
    k = min(m, n)
    sizes = {"batch": product(batch), "m": m, "n": n, "k": k, "c": c, "lwork": lwork}
    dtype = node.dtype
    work = {"w": (dtype, 2 * m * n), "tau": (dtype, 2 * k), "work": (dtype, 2 * lwork)}
    return ("a",), sizes, work


def _complex_eigh(node):
    *batch, _, n, _ = node.inputs[0].shape
    lwork, lrwork, liwork = 1 + (1 + _BLOCK) * n + n * n, 1 + 5 * n + 2 * n * n, 3 + 5 * n
    sizes = {"batch": product(batch), "n": n, "lwork": lwork, "lrwork": lrwork, "liwork": liwork}
    work = {"work": (node.dtype, 2 * lwork), "rwork": (node.dtype, lrwork)}
    return ("a",), sizes, work | {"integers": (_INTEGER, liwork)}


def _complex_svd(node):
    batch, m, n, k, p, q = library.complex_svd_sizes(dict(node.attrs), node.inputs[0].type)
    lwork = k * k + 3 * k + (m + n) * (1 + _BLOCK) + 1
    sizes = {"batch": product(batch), "m": m, "n": n, "k": k, "p": p, "q": q, "lwork": lwork}
    dtype = node.dtype
    reals = 5 * k * k + 5 * k + 2 * m * n + k  # at least what LAPACK asks for in each case
    work = {"w": (dtype, 2 * m * n), "work": (dtype, 2 * lwork), "rwork": (dtype, reals)}
    return ("a",), sizes, work | {"integers": (_INTEGER, 8 * k)}


def _expm(node):
    sizes = _square(node)
    n = sizes["n"]
    work = {name: (node.dtype, n * n) for name in ("x", "x2", "x4", "x6", "w")}
    work |= {"f": (node.dtype, (n + 1) * n), "pivots": (_INTEGER, n)}
    return ("a",), sizes, work


def _argsort(node):
    length = node.shape[-1]
    sizes = {"rows": product(node.shape[:-1]), "n": length}
    return ("keys",), sizes, {"merged": (node.dtype, length)}


def _searchsorted(node):
    sizes = {"n": node.inputs[0].shape[0], "count": node.type.size}
    return ("table", "values"), sizes, {}


def _dft(node):
    *batch, _, n, inner = node.shape
    work = {"work": (node.dtype, 2 * n * inner)}
    return ("x", "table"), {"batch": product(batch), "inner": inner}, work


_PLANS = {
    "dft": _dft,
    "argsort": _argsort, "searchsorted": _searchsorted,
    "cholesky": _cholesky, "triangular_solve": _triangular_solve, "lu": _lu, "qr": _qr,
    "lu_solve": _lu_solve, "eigh": _eigh, "svd": _svd, "expm": _expm,
    "complex_qr": _complex_qr, "complex_eigh": _complex_eigh, "complex_svd": _complex_svd,
}  # fmt: skip
