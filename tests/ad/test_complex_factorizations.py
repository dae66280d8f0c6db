"""Gradients of qr, eigh and svd of complex matrices: what depends on no free phase, and NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import GradientError


def normal(*shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


WEIGHTS = normal(5, 5, seed=7)


def losses(xp):
    """Real functions of complex matrices, of values of NumPy or of JAX."""

    def adjoint(x):
        return xp.conj(xp.swapaxes(x, -1, -2))

    def weighed(z):
        return xp.sum((z * WEIGHTS[: z.shape[-2], : z.shape[-1]]).real)

    def qr(a):
        q, r = xp.linalg.qr(a)
        return weighed(q) ** 2 + weighed(r) + xp.sum(xp.abs(r) ** 3)

    def eigh(a):
        w, v = xp.linalg.eigh(a)
        turned = (v * xp.sin(w)[..., None, :]) @ adjoint(v)
        return weighed(turned) + xp.sum(xp.abs(v[..., 0]) ** 4) + xp.sum(w[..., 0] ** 2)

    def svd(a):
        u, s, vh = xp.linalg.svd(a, full_matrices=False)
        lengths = xp.sum(xp.abs(u[..., 1]) ** 4) + xp.sum(xp.abs(vh[..., 1, :]) ** 4)
        return weighed((u * xp.sin(s)[..., None, :]) @ vh) + lengths + xp.sum(s**3)

    return qr, eigh, svd


HERMITIAN = normal(2, 4, 4) + np.conj(np.swapaxes(normal(2, 4, 4), -1, -2))
MATRICES = [
    *(("qr", 0, a) for a in (normal(3, 3), normal(2, 5, 3), normal(2, 3, 5))),
    ("eigh", 1, HERMITIAN),
    *(("svd", 2, a) for a in (normal(3, 3), normal(2, 5, 3), normal(2, 3, 5))),
]
NAMES = [f"{name} {a.shape}" for name, _, a in MATRICES]


@pytest.mark.parametrize(("name", "which", "a"), MATRICES, ids=NAMES)
def test_taylor_slope_in_both_modes_and_of_the_gradient(name, which, a):
    """What the first order leaves falls with the square of the step, of the gradient too."""
    fn = losses(np)[which]
    v = normal(*a.shape, seed=1)
    v = v + np.conj(np.swapaxes(v, -1, -2)) if name == "eigh" else v
    gradient = gc.grad(fn, engine="interpreter")
    g, slope = gradient(a), gc.jvp(fn, engine="interpreter")(a, v)[1]
    np.testing.assert_allclose(np.sum((np.conj(g) * v).real), slope, rtol=1e-10)
    if name == "eigh":
        np.testing.assert_allclose(g, np.conj(np.swapaxes(g, -1, -2)))
    curve = gc.jvp(gradient, engine="interpreter")(a, v)[1]
    for f, change in ((fn, slope), (gradient, curve)):
        rests = [np.abs(f(a + h * v) - f(a) - h * change).max() for h in (1e-3, 1e-4)]
        assert 1.8 < np.log10(rests[0] / rests[1]) < 2.2


@pytest.mark.parametrize(("name", "which", "a"), MATRICES[2::2], ids=NAMES[2::2])
def test_jax_has_the_conjugate_gradient(name, which, a):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        expected = np.conj(jax.grad(losses(jax.numpy)[which])(a))
    found = gc.grad(losses(np)[which], engine="interpreter")(a)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_compiled_values_and_gradients(dtype):
    """Many in one program, so that they compile at once. Phases and signs are LAPACK's."""

    def fn(a, b, h):
        found = [*np.linalg.qr(a), *np.linalg.qr(b, mode="complete"), *np.linalg.eigh(h)]
        found += [*np.linalg.svd(a), *np.linalg.svd(b, full_matrices=False)]
        return (*found, np.linalg.svd(b, compute_uv=False), np.linalg.eigvalsh(h))

    def loss(a, b, h):
        qr, eigh, svd = losses(np)
        return qr(b) + svd(a) + eigh(h)

    args = [x.astype(dtype) for x in (normal(2, 3, 4), normal(5, 3), HERMITIAN)]
    tolerance = 1e-11 if dtype == np.complex128 else 2e-3
    for found, expected in zip(gc.compile(fn)(*args), fn(*args), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    found = gc.grad(loss, (0, 1, 2))(*args)
    doubled = gc.grad(loss, (0, 1, 2), engine="interpreter")(*(x.astype(complex) for x in args))
    for x, y in zip(found, doubled, strict=True):
        assert x.dtype == dtype
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max())


def test_one_program_serves_sizes_that_change():
    compiled = gc.compile(lambda a: np.linalg.eigh(a + np.conj(a.T)))
    for n in (2, 5, 9):
        a = normal(n, n)
        w, v = compiled(a)
        np.testing.assert_allclose(v * w @ np.conj(v.T), a + np.conj(a.T), atol=1e-12 * n)
    assert len(compiled.compiles) <= 2


def test_what_has_no_value_and_no_derivative_says_so():
    bad = np.full((2, 3, 3), np.nan + 0j)
    texts = (gc.compile, "svd: matrix 0 of the batch has sing"), (gc.interpret, "^svd: SVD did not")
    for run, text in texts:
        with pytest.raises(np.linalg.LinAlgError, match=text):
            run(lambda a: np.linalg.svd(a)[1])(bad)
    for fn in (lambda a: np.linalg.svd(a)[0], lambda a: np.linalg.qr(a, mode="complete")[0]):
        with pytest.raises(GradientError, match="arbitrary"):
            gc.grad(lambda a, fn=fn: np.sum(np.abs(fn(a))))(normal(4, 2))


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 2, 2), (1, 1)])
def test_small_and_empty(shape):
    def fn(a):
        found = (*np.linalg.qr(a), *np.linalg.svd(a))
        return (*found, *np.linalg.eigh(a)) if shape[-1] == shape[-2] else found

    compiled = gc.compile(fn)
    for a in (np.ones(shape, complex), np.ones(shape)):
        for found, expected in zip(compiled(a), fn(a), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-14)


def test_equal_and_zero_values_have_finite_gradients():
    _, eigh, svd = losses(np)
    for fn, a in ((eigh, np.eye(3) + 0j), (svd, np.eye(3) + 0j), (svd, np.zeros((3, 3), complex))):
        assert np.isfinite(gc.grad(fn, engine="interpreter")(a)).all()
