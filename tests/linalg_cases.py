"""np.linalg in programs: what several tests run, compare with NumPy and differentiate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import graphc.linalg as gla

L = np.linalg


@dataclass
class Case:
    """``fn`` of ``arrays``; ``order`` of the derivatives that exist there and are checked."""

    name: str
    fn: Callable
    arrays: tuple
    order: int = 2

    def __str__(self):
        return self.name


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def positive(x):
    """A positive definite matrix of any square one."""
    return x @ np.swapaxes(x, -1, -2) + 2 * np.eye(x.shape[-1], dtype=x.dtype)


def complex_positive(z):
    return z @ np.conj(np.swapaxes(z, -1, -2)) + 2 * np.eye(z.shape[-1])


def symmetric(x):
    return (x + np.swapaxes(x, -1, -2)) / 2


def signless(u, s, vt):
    """What of a decomposition does not depend on the signs of its vectors."""
    return u[..., :, None, :] * np.swapaxes(vt, -1, -2)[..., None, :, :], s


def eigen(x, **options):
    w, v = L.eigh(x, **options)
    return w, v[..., :, None, :] * v[..., None, :, :]


def pairs(x):
    """Complex values of pairs along the last axis."""
    return x[..., 0] + 1j * x[..., 1]


def in_parts(*values):
    return tuple(p for v in values for p in (v.real, v.imag))


def complex_eigen(x, **options):
    """What does not depend on the phases of eigenvectors."""
    w, v = L.eigh(pairs(x), **options)
    return w, *in_parts(v[..., :, None, :] * np.conj(v[..., None, :, :]))


def hermitian_pairs(x):
    return np.stack([symmetric(x[..., 0]), x[..., 1] - np.swapaxes(x[..., 1], -1, -2)], axis=-1)


def complex_signless(u, s, vh):
    """What does not depend on the phases of singular vectors."""
    return s, *in_parts(u[..., :, None, :] * np.swapaxes(vh, -1, -2)[..., None, :, :])


M, STACK, TALL, WIDE = normal(4, 4), normal(2, 3, 3), normal(2, 5, 3), normal(2, 3, 5)
PAIRED = normal(2, 3, 3, 2) + 2 * np.eye(3)[..., None]
RANK3 = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [1, 0, 2, 5.0]]) / 6
RANK2 = np.outer([1, 2, 3, 4], [1, -1, 2, 0.5]) / 4 + np.outer([0, 1, 1, 2], [2, 1, 0.5, 1]) / 4

CASES = [
    Case("solve", L.solve, (M, normal(4, 2))),
    Case("solve vector", L.solve, (M, normal(4))),
    Case("solve stacks", L.solve, (STACK, normal(2, 3, 2))),
    Case("solve one matrix for all", L.solve, (M, normal(3, 4, 2))),
    Case("solve stack and one", L.solve, (STACK, normal(3, 1))),
    Case("inv", L.inv, (STACK,)),
    Case("det 1", L.det, (normal(1, 1),)),
    Case("det 2", L.det, (normal(3, 2, 2),)),
    Case("det 3", L.det, (STACK,)),
    Case("det 4", L.det, (normal(2, 4, 4),)),
    Case("det of rank n - 1", L.det, (RANK3,)),
    Case("det of rank n - 2", L.det, (RANK2,)),
    Case("det of zeros", L.det, (np.zeros((4, 4)),)),
    Case("slogdet", lambda a: tuple(L.slogdet(a)), (STACK,)),
    Case("cholesky", lambda a: L.cholesky(positive(a)), (STACK,)),
    Case("cholesky upper", lambda a: L.cholesky(positive(a), upper=True), (M,)),
    Case("qr", lambda a: tuple(L.qr(a)), (TALL,)),
    Case("qr wide", lambda a: tuple(L.qr(a)), (WIDE,)),
    Case("qr of square", lambda a: tuple(L.qr(a, mode="complete")), (STACK,)),
    Case("qr complete", lambda a: tuple(L.qr(a, mode="complete")), (TALL,), 0),
    Case("qr r", lambda a: L.qr(a, mode="r"), (TALL,)),
    Case("eigh", lambda a: eigen(symmetric(a)), (STACK,)),
    Case("eigh upper", lambda a: eigen(symmetric(a), UPLO="U"), (M,)),
    Case("eigvalsh", lambda a: L.eigvalsh(symmetric(a)), (M,)),
    Case("svd", lambda a: signless(*L.svd(a, full_matrices=False)), (TALL,)),
    Case("svd wide", lambda a: signless(*L.svd(a, full_matrices=False)), (WIDE,)),
    Case("svd square", lambda a: signless(*L.svd(a)), (STACK,)),
    Case("svd full", lambda a: L.svd(a)[1], (WIDE,)),
    Case("svd values", lambda a: L.svd(a, compute_uv=False), (TALL,)),
    Case("pinv", L.pinv, (TALL,)),
    Case("pinv wide", L.pinv, (WIDE,)),
    Case("pinv of equal values", L.pinv, (np.eye(3),)),
    Case("lstsq", lambda a, b: L.lstsq(a, b, rcond=None)[:2], (TALL[0], normal(5))),
    Case("lstsq wide", lambda a, b: L.lstsq(a, b, rcond=None)[0], (WIDE[0], normal(3, 2))),
    Case("matrix_power 3", lambda a: L.matrix_power(a, 3), (STACK,)),
    Case("matrix_power 0", lambda a: L.matrix_power(a, 0), (STACK,)),
    Case("matrix_power -2", lambda a: L.matrix_power(a, -2), (M,)),
    Case("multi_dot", lambda a, b, c: L.multi_dot([a, b, c]), (M, normal(4, 3), normal(3))),
    Case("tensorsolve", L.tensorsolve, (normal(2, 3, 6), normal(2, 3))),
    Case("tensorinv", L.tensorinv, (normal(2, 3, 6),)),
    Case("cond", L.cond, (STACK,)),
    Case("cond 1", lambda a: L.cond(a, 1), (STACK,)),
    Case("matrix_rank", L.matrix_rank, (np.stack([np.eye(3), np.ones((3, 3))]),), 0),
    *(Case(f"norm {o}", lambda a, o=o: L.norm(a, o), (M,))
      for o in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)),
    *(Case(f"vector norm {o}", lambda a, o=o: L.norm(a, o), (normal(5),))
      for o in (None, 1, 2, 3, 0.5, -1, -2, np.inf, -np.inf)),
    Case("norm 0", lambda a: L.norm(a, 0), (normal(5),), 0),
    *(Case(f"norm {o} of axes", lambda a, o=o: L.norm(a, o, axis=(2, 0), keepdims=True), (STACK,))
      for o in (None, "nuc", 2, 1)),
    Case("norm of one axis", lambda a: L.norm(a, 3, axis=-2, keepdims=True), (STACK,)),
    Case("norm of all axes", lambda a: L.norm(a, keepdims=True), (STACK,)),
    Case("vector_norm", lambda a: L.vector_norm(a, axis=(0, 2), ord=3), (STACK,)),
    Case("matrix_norm", lambda a: L.matrix_norm(a, ord="nuc"), (STACK,)),
    Case("expm", gla.expm, (0.3 * STACK,)),
    Case("expm squared", gla.expm, (4 * M,)),
    Case("solve_triangular", gla.solve_triangular, (STACK, normal(2, 3, 2))),
    Case("solve_triangular lower",
         lambda a, b: gla.solve_triangular(a, b, lower=True, trans=1), (M, normal(4))),
    Case("solve_triangular unit",
         lambda a, b: gla.solve_triangular(a, b, unit_diagonal=True), (M, normal(2, 4, 1))),
    Case("cho_solve", lambda a, b: gla.cho_solve(gla.cho_factor(positive(a)), b), (M, normal(4))),
    Case("cho_solve lower",
         lambda a, b: gla.cho_solve(gla.cho_factor(positive(a), lower=True), b), (M, normal(4))),
    *(Case(f"complex solve_triangular {t}", lambda a, b, t=t, o=o: in_parts(
        gla.solve_triangular(pairs(a), pairs(b), t, **o)), (a, b))
      for t, o, a, b in (
          (0, {}, PAIRED, normal(2, 3, 2, 2)), (1, {"lower": True}, PAIRED[0], normal(3, 2)),
          ("C", {}, PAIRED, normal(3, 1, 2)),
          ("C", {"lower": True, "unit_diagonal": True}, PAIRED[0], normal(2, 3, 1, 2)))),
    Case("complex cho_solve", lambda a, b: in_parts(
        gla.cho_solve(gla.cho_factor(complex_positive(pairs(a))), pairs(b))),
        (PAIRED, normal(3, 2, 2))),
    Case("complex cho_solve lower", lambda a, b: in_parts(
        gla.cho_solve(gla.cho_factor(complex_positive(pairs(a)), lower=True), pairs(b))),
        (PAIRED[0], normal(3, 2))),
    Case("svd of symmetric",
         lambda a: signless(*L.svd(symmetric(a), hermitian=True)), (STACK,)),
    Case("svdvals", L.svdvals, (TALL,)),
    Case("complex qr", lambda a: in_parts(*L.qr(pairs(a))), (normal(2, 4, 3, 2),)),
    Case("complex qr wide", lambda a: in_parts(*L.qr(pairs(a))), (normal(3, 4, 2),)),
    Case("complex qr complete",
         lambda a: in_parts(*L.qr(pairs(a), mode="complete")), (normal(2, 4, 3, 2),), 0),
    Case("complex eigh of one triangle", complex_eigen, (normal(3, 3, 2),), 0),
    Case("complex eigh of Hermitian",
         lambda a: complex_eigen(hermitian_pairs(a), UPLO="U"), (normal(2, 3, 3, 2),)),
    Case("complex svd",
         lambda a: complex_signless(*L.svd(pairs(a), full_matrices=False)), (normal(2, 4, 3, 2),)),
    Case("complex svd wide",
         lambda a: complex_signless(*L.svd(pairs(a), full_matrices=False)), (normal(3, 4, 2),)),
    Case("complex svd of Hermitian",
         lambda a: complex_signless(*L.svd(pairs(hermitian_pairs(a)), hermitian=True)),
         (normal(3, 3, 2),)),
    Case("complex svd full", lambda a: in_parts(*L.svd(pairs(a))), (normal(4, 3, 2),), 0),
    Case("complex svd values of full", lambda a: L.svd(pairs(a))[1], (normal(4, 3, 2),)),
]  # fmt: skip
