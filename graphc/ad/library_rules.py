"""Vector-Jacobian products of dense linear algebra.

Each follows from the identity that defines the result (Giles 2008, "An extended collection of
matrix derivative results"; Murray 2016, "Differentiation of the Cholesky decomposition"; Walter
and Lehmann 2018 and Roberts and Roberts 2020 for QR; Townsend 2016 for the SVD). The rules are
made of the same rows, so they can be differentiated again.

A symmetric argument (cholesky, eigh) has a symmetric gradient: that of the function of symmetric
matrices, although one triangle is read. Where eigenvalues or singular values coincide their
vectors are not differentiable: such pairs contribute 0.
"""

from __future__ import annotations

from graphc.ad.guards import outside
from graphc.ad.rules import Cotangent, rule
from graphc.errors import GradientError, SymbolicDimError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.build import matmul as mm
from graphc.ir.matrix import (
    add,
    columns_of,
    determinant_parts,
    diagonal_of,
    eigh_parts,
    eye_like,
    kept_where,
    on_diagonal,
    piece,
    reciprocal,
    rows_of,
    scaled,
    solve,
    stopped,
    sub,
    svd_parts,
    symmetric,
    triangle,
    triangular,
)
from graphc.ir.matrix import transposed as t
from graphc.ir.node import Node

IMPLICIT = {}  # rule of an `implicit` node -> function(node, cotangent, needs) -> cotangents


def implicit_rule(name: str):
    """Declare the derivative that nodes ``implicit(value, *operands), rule=name`` have."""

    def register(fn):
        IMPLICIT[name] = fn
        return fn

    return register


@rule("implicit")
def _implicit(node, ct, needs):
    if node.attr("rule") == "same":  # element by element: what is dead stays dead
        return [None, ct]
    grads = IMPLICIT[node.attr("rule")](node, ct.node, needs[1:])
    return [None, *(None if g is None else _part(ct, g) for g in grads)]


def _part(ct: Cotangent, grad: Node) -> Cotangent:
    """Dead matrices of a batch stay dead; inside a matrix everything is mixed."""
    return Cotangent(grad, outside(ct.zeros, grad.ndim - 2))


# -------------------------------------------------------------------------------------- rules


@rule("lu_solve")
def _lu_solve(node, ct, needs):
    a, packed, _ = node.inputs
    trans = node.attr("trans")
    back = build.make("lu_solve", (a, packed, ct.node), trans=1 - trans)
    left, right = (node, back) if trans else (back, node)
    grad_a = op("neg", mm(left, right, 0, 1)) if needs[0] else None
    return [None if grad_a is None else _part(ct, grad_a), None,
            _part(ct, back) if needs[2] else None]  # fmt: skip


@rule("triangular_solve")
def _triangular_solve(node, ct, needs):
    a, _ = node.inputs
    lower, trans, unit = (node.attr(k) for k in ("lower", "trans", "unit"))
    back = triangular(a, ct.node, lower, 1 - trans, unit)
    left, right = (node, back) if trans else (back, node)
    grad_a = None
    if needs[0]:
        grad_a = _part(ct, triangle(op("neg", mm(left, right, 0, 1)), lower, unit))
    return [grad_a, _part(ct, back) if needs[1] else None]


@rule("cholesky")
def _cholesky(node, ct, needs):
    half = kept_where("ge", mm(node, ct.node, 1, 0))
    half = sub(half, scaled(kept_where("eq", half), 0.5))
    inner = triangular(node, half, 1, 1)  # L^-T half
    grad = t(triangular(node, t(inner), 1, 1))  # ... L^-1
    return [_part(ct, symmetric(grad))]


def refuse_arbitrary(node: Node, m, n) -> None:
    """Vectors that complete a basis are arbitrary: they have no derivative."""
    if not node.attr("full") or m == n:
        return
    if node.op.endswith("qr"):
        raise GradientError(
            "np.linalg.qr with mode='complete' of a tall matrix has no derivative: the columns "
            "that\ncomplete Q are arbitrary; use mode='reduced'"
        )
    raise GradientError(
        "np.linalg.svd with full_matrices=True has no derivative of its vectors: those that "
        "complete\nU or V are arbitrary; use full_matrices=False"
    )


@rule("qr")
def _qr(node, ct, needs):
    (a,) = node.inputs
    m, n = a.shape[-2:]
    refuse_arbitrary(node, m, n)
    k = min(m, n)
    q, r = piece(node, 0, (m, k)), piece(node, m * k, (k, n))
    grad_q, grad_r = piece(ct.node, 0, (m, k)), piece(ct.node, m * k, (k, n))
    if m >= n:
        return [_part(ct, _tall_qr(q, r, grad_q, grad_r))]
    # Q belongs to the first m columns; the others are Q @ (the rest of R).
    first = [0] * (a.ndim - 1)
    ones = [1] * a.ndim
    rest = [*first, m]
    shape = (*a.shape[:-1], n - m)
    square = (*a.shape[:-1], m)
    origin = [0] * a.ndim
    y = build.slice_(a, rest, shape, ones)
    grad_v = build.slice_(grad_r, rest, shape, ones)
    grad_q = add(grad_q, mm(y, grad_v, 0, 1))
    r, grad_r = (build.slice_(x, origin, square, ones) for x in (r, grad_r))
    grad = _tall_qr(q, r, grad_q, grad_r)
    return [_part(ct, build.concat([grad, mm(q, grad_v)], a.ndim - 1))]


def _tall_qr(q, r, grad_q, grad_r):
    inner = sub(mm(r, grad_r, 0, 1), mm(grad_q, q, 1, 0))
    both = add(kept_where("ge", inner), t(kept_where("gt", inner)))
    return t(triangular(r, t(add(grad_q, mm(q, both))), 0))


@rule("eigh")
def _eigh(node, ct, needs):
    n = node.shape[-1]
    w, vt = eigh_parts(node, n)
    grad_w, grad_vt = eigh_parts(ct.node, n)
    gaps = reciprocal(sub(columns_of(w, n), rows_of(w, n)))
    inner = add(on_diagonal(grad_w), op("mul", gaps, mm(vt, grad_vt, 0, 1)))
    return [_part(ct, symmetric(mm(mm(vt, inner, 1, 0), vt)))]


@rule("svd")
def _svd(node, ct, needs):
    m, n = node.inputs[0].shape[-2:]
    refuse_arbitrary(node, m, n)
    k = min(m, n)
    ut, s, v = svd_parts(node, m, n)
    grad_ut, grad_s, grad_v = svd_parts(ct.node, m, n)
    sj, si = columns_of(s, k), rows_of(s, k)
    gaps = reciprocal(op("mul", sub(sj, si), add(sj, si)))
    by_u, by_v = mm(ut, grad_ut, 0, 1), mm(v, grad_v, 1, 0)
    by_u, by_v = (op("mul", gaps, sub(x, t(x))) for x in (by_u, by_v))
    inner = add(on_diagonal(grad_s), add(op("mul", by_u, sj), op("mul", si, by_v)))
    grad = mm(mm(ut, inner, 1, 0), v, 0, 1)
    inverse = reciprocal(s)
    if m > k:  # what of grad_u is outside the span of U
        rest = sub(t(grad_ut), mm(ut, mm(ut, grad_ut, 0, 1), 1, 0))
        grad = add(grad, mm(op("mul", rest, columns_of(inverse, m)), v, 0, 1))
    if n > k:
        rest = sub(grad_v, mm(v, mm(v, grad_v, 1, 0)))
        grad = add(grad, mm(ut, op("mul", rest, columns_of(inverse, n)), 1, 1))
    return [_part(ct, grad)]


@rule("expm")
def _expm(node, ct, needs):
    """The derivative is a corner of the exponential of [[a.T, ct], [0, a.T]] (Mathias 1996)."""
    (a,) = node.inputs
    n, axis = a.shape[-1], a.ndim - 1
    zero = build.full_like(a, 0)
    rows = [build.concat([t(a), ct.node], axis), build.concat([zero, t(a)], axis)]
    whole = build.make("expm", (build.concat(rows, axis - 1),))
    start = [*[0] * axis, n]
    return [_part(ct, build.slice_(whole, start, a.shape, [1] * a.ndim))]


# ----------------------------------------------------------------------------- implicit rules


@implicit_rule("others")
def _others(node, ct, needs):
    """Of the products of the others along an axis whose size is not known (rules.py)."""
    raise SymbolicDimError("the second derivative of a product needs the number of its factors")


@implicit_rule("slogdet")
def _slogdet(node, ct, needs):
    """Of log |det a|."""
    a = node.inputs[1]
    inverse_t = solve(a, eye_like(a), 1)
    return [op("mul", inverse_t, _over_matrix(ct, a))]


@implicit_rule("det")
def _det(node, ct, needs):
    """The cofactors, det(a) inv(a).T where a is regular, from the singular values for any a."""
    return [op("mul", cofactors(node.inputs[1]), _over_matrix(ct, node.inputs[1]))]


def cofactors(a: Node) -> Node:
    """The matrix of cofactors of square matrices of size 1 or more."""
    n = a.shape[-1]
    ut, s, v = svd_parts(build.make("svd", (stopped(a),), full=0), n, n)
    sign = op("mul", _orientation(ut), _orientation(v))
    others = op("mul", _products_without(s, 1), build.broadcast(sign, s.shape, range(s.ndim - 1)))
    value = mm(mm(ut, on_diagonal(others), 1, 0), v, 0, 1)
    return build.make("implicit", (value, a), rule="cofactors")


@implicit_rule("cofactors")
def _cofactors(node, ct, needs):
    """In the bases of singular vectors the second derivative of the determinant by elements
    (i, i) and (j, j) is the product of the other singular values, by (i, j) and (j, i) minus
    that. Here the singular vectors are differentiable where singular values are distinct."""
    a = node.inputs[1]
    n = a.shape[-1]
    ut, s, v = svd_parts(build.make("svd", (a,), full=0), n, n)
    sign = op("mul", _orientation(ut), _orientation(v))
    weight = op("mul", _products_without(s, 2), _over_matrix(sign, a))
    weight = sub(weight, kept_where("eq", weight))
    g = mm(mm(ut, ct), v)
    traces = build.reduce("sum", op("mul", weight, columns_of(diagonal_of(g), n)), (a.ndim - 1,))
    inner = sub(on_diagonal(traces), t(op("mul", weight, g)))
    return [mm(mm(ut, inner, 1, 0), v, 0, 1)]


def _products_without(s: Node, count: int) -> Node:
    """Products of all singular values but one [..., i], or but two [..., i, j]."""
    n, rank = s.shape[-1], s.ndim
    shape = (*s.shape[:-1], *(n,) * count, n)
    last = rank - 1 + count
    value = build.broadcast(s, shape, (*range(rank - 1), last))
    k = build.iota(shape, last)
    for axis in range(rank - 1, last):
        left_out = op("eq", build.iota(shape, axis), k)
        value = op("where", left_out, build.full_like(value, 1), value)
    return build.reduce("prod", value, (last,))


def _orientation(q: Node) -> Node:
    """The determinant of orthogonal matrices, 1 or -1."""
    return determinant_parts(q)[0]


def _over_matrix(x: Node, a: Node) -> Node:
    """One value a matrix, over all its elements."""
    return build.broadcast(x, a.shape, range(a.ndim - 2))


@implicit_rule("pinv")
def _pinv(node, ct, needs):
    """Of constant rank (Golub and Pereyra 1973)."""
    p, a = node, node.inputs[1]
    grad = op("neg", mm(mm(p, ct, 1, 0), p, 0, 1))
    pp = mm(p, p, 0, 1)
    back = mm(pp, ct)  # P P^T ct, and below P^T P ct^T
    outer = sub(t(back), mm(a, mm(p, t(back))))
    grad = add(grad, outer)
    back = mm(mm(p, p, 1, 0), t(ct))
    return [add(grad, sub(back, mm(mm(back, p), a)))]
