"""Derivatives of the factorizations of complex matrices, in both directions.

They are those of ``library_rules`` with adjoints for transposed matrices: what flows is a pair of
real numbers for each complex one (``in_parts``). Phases are where they differ. ``qr`` has none
that is free: the diagonal of R is real. Eigenvectors and singular vectors may be multiplied by
any phase, so only what does not depend on phases has a derivative, and that is the same for any
choice of how they change (Wan and Zhang 2019, "Automatic differentiation for complex valued
SVD"). Here eigenvectors and right singular vectors do not turn (the diagonal of V^H dV is 0) and
left ones turn as much as the matrix makes both together.
"""

from __future__ import annotations

from graphc.ad import jvp_rules
from graphc.ad.guards import outside
from graphc.ad.jvp_rules import Tangent
from graphc.ad.library_rules import refuse_arbitrary
from graphc.ad.rules import Cotangent, rule
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.complex_matrix import (
    add,
    adjoint,
    block,
    eigh_parts,
    hermitian,
    kept_where,
    of_matrices,
    on_diagonal,
    packed,
    product,
    qr_parts,
    scaled,
    sub,
    svd_parts,
    turned,
    upper_solve,
)
from graphc.ir.matrix import columns_of, diagonal_of, reciprocal, rows_of
from graphc.ir.matrix import sub as minus
from graphc.ir.node import Node
from graphc.ir.parts import Parts, as_pairs


def _sizes(node: Node) -> tuple:
    return node.inputs[0].shape[-3:-1]


def _part(ct: Cotangent, grad: Parts) -> Cotangent:
    """Dead matrices of a batch stay dead; inside a matrix everything is mixed."""
    pairs = as_pairs(grad)
    return Cotangent(pairs, outside(ct.zeros, pairs.ndim - 3))


# ------------------------------------------------------------------------------------------ qr


def _lower_of(x: Parts) -> Parts:
    return kept_where("gt", x)


def _real_diagonal(x: Parts) -> Parts:
    diagonal = diagonal_of(x.re)
    return on_diagonal(diagonal, build.full_like(diagonal, 0))


def _turning(im: Node) -> Parts:
    """i times real numbers on the diagonal."""
    return on_diagonal(build.full_like(im, 0), im)


@rule("complex_qr")
def _qr(node, ct, needs):
    m, n = _sizes(node)
    refuse_arbitrary(node, m, n)
    k = min(m, n)
    (q, r), (grad_q, grad_r) = (qr_parts(x, m, n, k) for x in (node, ct.node))
    if m >= n:
        return [_part(ct, _tall_qr(q, r, grad_q, grad_r))]
    # Q belongs to the first m columns; the others are Q @ (the rest of R).
    a = of_matrices(node.inputs[0])
    y, grad_v = (block(x, (0, m), (m, n - m)) for x in (a, grad_r))
    grad_q = add(grad_q, product(y, grad_v, 0, 1))
    r, grad_r = (block(x, (0, 0), (m, m)) for x in (r, grad_r))
    both = _tall_qr(q, r, grad_q, grad_r), product(q, grad_v)
    last = a.re.ndim - 1
    return [_part(ct, Parts(*(build.concat(x, last) for x in zip(*both, strict=True))))]


def _tall_qr(q, r, grad_q, grad_r):
    inner = sub(product(r, grad_r, 0, 1), product(grad_q, q, 1, 0))
    below = _lower_of(inner)
    both = add(add(below, adjoint(below)), _real_diagonal(inner))
    return adjoint(upper_solve(r, adjoint(add(grad_q, product(q, both)))))


@jvp_rules.rule("complex_qr")
def _qr_jvp(node, tangents):
    m, n = _sizes(node)
    refuse_arbitrary(node, m, n)
    k = min(m, n)
    q, r = qr_parts(node, m, n, k)
    da = of_matrices(tangents[0].node)
    first = block(da, (0, 0), (m, k))
    moved = adjoint(upper_solve(block(r, (0, 0), (k, k)), adjoint(first), 1))  # dA R^-1
    inner = product(q, moved, 1, 0)
    below = _lower_of(inner)
    skew = add(sub(below, adjoint(below)), _turning(diagonal_of(inner.im)))
    dq = add(sub(moved, product(q, inner)), product(q, skew))
    dr = sub(product(q, da, 1, 0), product(skew, r))
    return Tangent(packed(dq, kept_where("le", dr)))


# ---------------------------------------------------------------------------------------- eigh


def _gaps(w: Node) -> Node:
    n = w.shape[-1]
    return reciprocal(minus(columns_of(w, n), rows_of(w, n)))


@rule("complex_eigh")
def _eigh(node, ct, needs):
    _, n = _sizes(node)
    (w, v), (grad_w, grad_v) = (eigh_parts(x, n) for x in (node, ct.node))
    inner = scaled(product(v, grad_v, 1, 0), _gaps(w))
    inner = add(on_diagonal(grad_w, build.full_like(grad_w, 0)), inner)
    return [_part(ct, hermitian(product(product(v, inner), v, 0, 1)))]


@jvp_rules.rule("complex_eigh")
def _eigh_jvp(node, tangents):
    _, n = _sizes(node)
    w, v = eigh_parts(node, n)
    da = hermitian(of_matrices(tangents[0].node))
    inner = product(product(v, da, 1, 0), v)
    dv = product(v, scaled(inner, _gaps(w)))
    return Tangent(packed(diagonal_of(inner.re), turned(dv)))


# ----------------------------------------------------------------------------------------- svd


def _svd_of(node: Node, value: Node) -> tuple[Parts, Node, Parts]:
    """U, the singular values and V of a thin result."""
    m, n = _sizes(node)
    k = min(m, n)
    u, s, vh = svd_parts(value, m, n, k, k)
    return u, s, adjoint(vh)


def _by_gaps(s: Node) -> tuple[Node, Node, Node]:
    k = s.shape[-1]
    sj, si = columns_of(s, k), rows_of(s, k)
    return sj, si, reciprocal(op("mul", minus(sj, si), op("add", sj, si)))


def _outside(x: Parts, u: Parts) -> Parts:
    """What of the columns of ``x`` is outside the span of ``u``."""
    return sub(x, product(u, product(u, x, 1, 0)))


@rule("complex_svd")
def _svd(node, ct, needs):
    m, n = _sizes(node)
    refuse_arbitrary(node, m, n)
    k = min(m, n)
    (u, s, v), (grad_u, grad_s, grad_v) = (_svd_of(node, x) for x in (node, ct.node))
    sj, si, gaps = _by_gaps(s)
    inverse = reciprocal(s)
    by_u, by_v = product(u, grad_u, 1, 0), product(v, grad_v, 1, 0)
    turning = op("mul", diagonal_of(by_u.im), inverse)
    by_u, by_v = (scaled(sub(x, adjoint(x)), gaps) for x in (by_u, by_v))
    inner = add(on_diagonal(grad_s, turning), add(scaled(by_u, sj), scaled(by_v, si)))
    grad = product(product(u, inner), v, 0, 1)
    if m > k:
        rest = scaled(_outside(grad_u, u), columns_of(inverse, m))
        grad = add(grad, product(rest, v, 0, 1))
    if n > k:
        rest = scaled(_outside(grad_v, v), columns_of(inverse, n))
        grad = add(grad, product(u, rest, 0, 1))
    return [_part(ct, grad)]


@jvp_rules.rule("complex_svd")
def _svd_jvp(node, tangents):
    m, n = _sizes(node)
    refuse_arbitrary(node, m, n)
    k = min(m, n)
    u, s, v = _svd_of(node, node)
    da = of_matrices(tangents[0].node)
    inner = product(product(u, da, 1, 0), v)
    other = adjoint(inner)
    sj, si, gaps = _by_gaps(s)
    inverse = reciprocal(s)
    by_u = scaled(add(scaled(inner, sj), scaled(other, si)), gaps)
    by_u = add(by_u, _turning(op("mul", diagonal_of(inner.im), inverse)))
    by_v = scaled(add(scaled(inner, si), scaled(other, sj)), gaps)
    du, dv = product(u, by_u), product(v, by_v)
    if m > k:
        moved = scaled(product(da, v), columns_of(inverse, m))
        du = add(du, _outside(moved, u))
    if n > k:
        moved = scaled(product(da, u, 1, 0), columns_of(inverse, n))
        dv = add(dv, _outside(moved, v))
    return Tangent(packed(turned(du), diagonal_of(inner.re), turned(adjoint(dv))))
