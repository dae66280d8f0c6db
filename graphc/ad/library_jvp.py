"""Jacobian-vector products of dense linear algebra; see ``library_rules`` for the conventions."""

from __future__ import annotations

from graphc.ad.jvp_rules import Tangent, filled, rule
from graphc.ad.library_rules import IMPLICIT, cofactors, refuse_arbitrary
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.build import matmul as mm
from graphc.ir.matrix import (
    add,
    columns_of,
    diagonal_of,
    eigh_parts,
    eye_like,
    kept_where,
    piece,
    reciprocal,
    rows_of,
    scaled,
    solve,
    sub,
    svd_parts,
    symmetric,
    triangle,
    triangular,
)
from graphc.ir.matrix import transposed as t
from graphc.ir.node import Node


@rule("lu_solve")
def _lu_solve(node, tangents):
    a, packed, b = node.inputs
    by_a, _, by_b = tangents
    right = filled(by_b, b)
    if by_a is not None:
        right = sub(right, mm(by_a.node, node, node.attr("trans")))
    if by_a is None and by_b is None:
        return None
    return Tangent(build.make("lu_solve", (a, packed, right), trans=node.attr("trans")))


@rule("triangular_solve")
def _triangular_solve(node, tangents):
    a, b = node.inputs
    by_a, by_b = tangents
    lower, trans, unit = (node.attr(k) for k in ("lower", "trans", "unit"))
    right = filled(by_b, b)
    if by_a is not None:
        right = sub(right, mm(triangle(by_a.node, lower, unit), node, trans))
    return Tangent(triangular(a, right, lower, trans, unit))


@rule("cholesky")
def _cholesky(node, tangents):
    (da,) = tangents
    inner = triangular(node, t(triangular(node, symmetric(da.node), 1)), 1)
    half = kept_where("ge", inner)
    return Tangent(mm(node, sub(half, scaled(kept_where("eq", half), 0.5))))


@rule("qr")
def _qr(node, tangents):
    """The skew matrix Q^T dQ belongs to the first columns, which determine Q."""
    (a,), (da,) = node.inputs, tangents
    m, n = a.shape[-2:]
    refuse_arbitrary(node, m, n)
    k = min(m, n)
    q, r = piece(node, 0, (m, k)), piece(node, m * k, (k, n))
    origin, ones, lead = [0] * a.ndim, [1] * a.ndim, a.shape[:-2]
    square = build.slice_(r, origin, (*lead, k, k), ones)
    first = build.slice_(da.node, origin, (*lead, m, k), ones)
    moved = t(triangular(square, t(first), 0, 1))  # dA R^-1
    inner = mm(q, moved, 1, 0)
    below = kept_where("gt", inner)
    skew = sub(below, t(below))
    dq = add(sub(moved, mm(q, inner)), mm(q, skew))
    dr = sub(mm(q, da.node, 1, 0), mm(skew, r))
    return Tangent(_packed(dq, kept_where("le", dr)))


@rule("eigh")
def _eigh(node, tangents):
    (da,), n = tangents, node.shape[-1]
    w, vt = eigh_parts(node, n)
    inner = mm(mm(vt, symmetric(da.node)), vt, 0, 1)
    gaps = reciprocal(sub(columns_of(w, n), rows_of(w, n)))
    turned = mm(t(op("mul", gaps, inner)), vt)
    dw = diagonal_of(inner)
    first = build.reshape(dw, (*dw.shape[:-1], 1, n))
    return Tangent(build.concat([first, turned], node.ndim - 2))


@rule("svd")
def _svd(node, tangents):
    (da,), (m, n) = tangents, node.inputs[0].shape[-2:]
    refuse_arbitrary(node, m, n)
    k = min(m, n)
    ut, s, v = svd_parts(node, m, n)
    inner = mm(mm(ut, da.node), v)
    sj, si = columns_of(s, k), rows_of(s, k)
    gaps = reciprocal(op("mul", sub(sj, si), add(sj, si)))
    by_u = op("mul", gaps, add(op("mul", inner, sj), op("mul", si, t(inner))))
    by_v = op("mul", gaps, add(op("mul", si, inner), op("mul", t(inner), sj)))
    du, dv = mm(ut, by_u, 1, 0), mm(v, by_v)
    inverse = reciprocal(s)
    if m > k:
        moved = op("mul", mm(da.node, v), columns_of(inverse, m))
        du = add(du, sub(moved, mm(ut, mm(ut, moved), 1, 0)))
    if n > k:
        moved = op("mul", mm(da.node, ut, 1, 1), columns_of(inverse, n))
        dv = add(dv, sub(moved, mm(v, mm(v, moved, 1, 0))))
    return Tangent(_packed(t(du), diagonal_of(inner), dv))


def _packed(*parts: Node) -> Node:
    """Matrices row by row, and vectors, one after the other."""
    batch = parts[0].shape[:-2]
    flat = []
    for part in parts:
        rest = part.shape[len(batch) :]
        size = rest[0] * rest[1] if len(rest) > 1 else rest[0]
        flat.append(build.reshape(part, (*batch, size)))
    return build.concat(flat, len(batch))


@rule("expm")
def _expm(node, tangents):
    """A corner of the exponential of [[a, da], [0, a]] (Mathias 1996)."""
    (a,), (da,) = node.inputs, tangents
    n, axis = a.shape[-1], a.ndim - 1
    rows = [build.concat(r, axis) for r in ([a, da.node], [build.full_like(a, 0), a])]
    whole = build.make("expm", (build.concat(rows, axis - 1),))
    start = [*[0] * axis, n]
    return Tangent(build.slice_(whole, start, a.shape, [1] * a.ndim))


@rule("implicit")
def _implicit(node, tangents):
    da = tangents[1]
    if node.attr("rule") == "same":
        return da
    return None if da is None else Tangent(_IMPLICIT[node.attr("rule")](node, da.node))


def _slogdet(node, da):
    return _inner(solve(node.inputs[1], eye_like(da), 1), da)


def _det(node, da):
    return _inner(cofactors(node.inputs[1]), da)


def _cofactors(node, da):
    """Cofactors are a gradient, so their derivative is symmetric."""
    return IMPLICIT["cofactors"](node, da, (True,))[0]


def _inner(x, y):
    return build.reduce("sum", op("mul", x, y), (x.ndim - 2, x.ndim - 1))


def _pinv(node, da):
    p, a = node, node.inputs[1]
    change = op("neg", mm(mm(p, da), p))
    rows = mm(mm(p, p, 0, 1), da, 0, 1)
    change = add(change, sub(rows, mm(mm(rows, a), p)))
    columns = mm(mm(da, p, 1, 1), p)
    return add(change, sub(columns, mm(p, mm(a, columns))))


def _others(node, da):
    return IMPLICIT["others"](node, da, (True,))


_IMPLICIT = {
    "others": _others,
    "slogdet": _slogdet,
    "det": _det,
    "cofactors": _cofactors,
    "pinv": _pinv,
}
