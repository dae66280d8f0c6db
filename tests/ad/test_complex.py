"""Derivatives through complex values: the convention, against differences in both directions."""

import numpy as np
import pytest

import graphc as gc
from graphc.errors import GradientError, OptionError

RNG = np.random.default_rng(3)
Z = RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4))
W = RNG.normal(size=(4, 2)) + 1j * RNG.normal(size=(4, 2))
X = RNG.normal(size=(3, 4))


def difference(f, z, v, eps=1e-6):
    """The change of ``f`` along ``v``."""
    return (f(z + eps * v) - f(z - eps * v)) / (2 * eps)


def slopes(f, z):
    """df/dx + i df/dy by central differences."""
    out = np.zeros(z.shape, complex if z.dtype.kind == "c" else float)
    for at in np.ndindex(z.shape):
        unit = np.zeros(z.shape)
        unit[at] = 1
        out[at] = difference(f, z, unit)
        if z.dtype.kind == "c":
            out[at] += 1j * difference(f, z, 1j * unit)
    return out


HOLOMORPHIC = [
    np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p, np.sin, np.cos, np.tan,
    np.arcsin, np.arccos, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh, np.arccosh,
    np.arctanh, np.sqrt, np.square, np.reciprocal, np.negative,
    lambda z: z**3, lambda z: z**-2, lambda z: z**0.5, lambda z: z ** (1 + 2j), lambda z: 2**z,
    lambda z: z**z, lambda z: z / (1 + z), lambda z: np.cumprod(z, 0), lambda z: np.prod(z, 1),
    lambda z: np.cumsum(z, 1), lambda z: z[::-1, 1:], lambda z: z @ W, lambda z: np.exp(1j * z),
]  # fmt: skip
OTHER = [
    np.abs,
    np.angle,
    np.conj,
    np.real,
    np.imag,
    np.sign,
    lambda z: np.abs(z) ** 2,
    lambda z: z * np.conj(z),
    lambda z: np.where(z.real > 0, z, 1j * z),
    np.var,
    np.std,
    lambda z: np.linalg.norm(z),
    lambda z: np.vdot(z, z + 1),
    lambda z: np.mean(z, 0),
    lambda z: np.maximum(z, 0.1 + 0j),
    lambda z: z.real.astype(complex) * z,
]
FUNCTIONS = [*HOLOMORPHIC, *OTHER]


def name(f):
    return getattr(f, "__name__", "f")


def weighed(f, ct):
    """Re(sum(conj(ct) * f))."""
    return lambda z: np.sum((np.conj(ct) * f(z)).real)


@pytest.mark.parametrize("f", FUNCTIONS, ids=[f"{i}_{name(f)}" for i, f in enumerate(FUNCTIONS)])
def test_both_modes_against_differences(f):
    v = RNG.normal(size=Z.shape) + 1j * RNG.normal(size=Z.shape)
    value, change = gc.jvp(f, engine="interpreter")(Z, v)
    np.testing.assert_allclose(value, f(Z), rtol=1e-12)
    np.testing.assert_allclose(change, difference(f, Z, v), rtol=2e-6, atol=1e-7)
    ct = RNG.normal(size=value.shape)
    if value.dtype.kind == "c":
        ct = ct + 1j * RNG.normal(size=value.shape)
    assert value.dtype == np.asarray(f(Z)).dtype == change.dtype
    _, pulled = gc.vjp(f, engine="interpreter")(Z, ct)
    np.testing.assert_allclose(pulled, slopes(weighed(f, ct), Z), rtol=2e-6, atol=1e-6)
    dot = np.sum((np.conj(ct) * change).real)
    np.testing.assert_allclose(np.sum((np.conj(pulled) * v).real), dot, rtol=1e-10)


@pytest.mark.parametrize("f", [np.exp, np.sin, np.sqrt, np.log, lambda z: z**3 / (1 + z)])
def test_holomorphic_functions(f):
    """Forward mode gives f'(z) v, reverse mode conj(f'(z)) ct: check f' along 1 and i."""
    one = np.ones_like(Z)
    slope = gc.jvp(f, engine="interpreter")(Z, one)[1]
    along_i = gc.jvp(f, engine="interpreter")(Z, 1j * one)[1]
    np.testing.assert_allclose(along_i, 1j * slope, rtol=1e-10)
    np.testing.assert_allclose(
        gc.vjp(f, engine="interpreter")(Z, one)[1], np.conj(slope), rtol=1e-10
    )


@pytest.mark.parametrize("engine", ["interpreter", "native"])
def test_the_gradient_is_the_direction_of_steepest_ascent(engine):
    z, goal = np.array([1 + 1j, -2j, 0.5]), np.array([2 - 1j, 1, 3j])

    def loss(z):
        return np.sum(np.abs(z - goal) ** 2)

    slope = gc.grad(loss, engine=engine)
    np.testing.assert_allclose(slope(z), 2 * (z - goal), rtol=1e-14)
    for _ in range(60):
        z = z - 0.2 * slope(z)
    np.testing.assert_allclose(z, goal, rtol=1e-9)


def test_real_through_complex_to_real():
    """A spectrum's magnitudes: nothing outside is complex."""

    def loss(x):
        return np.sum(np.abs(np.exp(1j * x) * x + 2) ** 1.5)

    found = gc.grad(loss, engine="interpreter")(X)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, slopes(loss, X), rtol=1e-6, atol=1e-8)
    # jax.grad agrees where the argument is real, whatever its convention for complex ones is
    hessian = gc.hessian(lambda x: loss(x), engine="interpreter")(X[0])
    by_rows = np.array(
        [difference(gc.grad(loss, engine="interpreter"), X[0], e) for e in np.eye(4)]
    )
    np.testing.assert_allclose(hessian, by_rows, rtol=1e-5, atol=1e-6)


SECOND = [
    lambda z: np.sum(np.abs(z) ** 3),
    lambda z: np.sum(np.log(np.abs(z))),
    lambda z: np.sum(np.sqrt(z)).real,
    lambda z: np.sum(np.angle(z * z + 3)),
    lambda z: np.sum((z / (z + 2)).imag),
    lambda z: np.sum(np.log(z)).imag,
    lambda z: np.sum(np.tanh(z)).real,
    lambda z: np.sum(np.arcsin(z)).real,
]
ON_AXES = np.array([1 + 1j, 1 - 1j, 0.5, -0.5 + 0.5j, 0.5j, -1.5j, 0.3 + 2j])


@pytest.mark.parametrize("f", SECOND, ids=[str(i) for i in range(len(SECOND))])
@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_second_derivatives_on_axes_and_diagonals_too(f, order):
    v = RNG.normal(size=ON_AXES.shape) + 1j * RNG.normal(size=ON_AXES.shape)
    slope = gc.grad(f, engine="interpreter")
    expected = difference(slope, ON_AXES, v)
    if order == "forward":
        found = gc.hvp(f, engine="interpreter")(ON_AXES, v)
    else:  # by symmetry the same
        found = gc.grad(lambda z: np.sum((np.conj(gc.grad(f)(z)) * v).real), engine="interpreter")(
            ON_AXES
        )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_at_zero_magnitudes_have_gradient_zero():
    z = np.array([0j, 3 + 4j])
    np.testing.assert_allclose(
        gc.grad(lambda z: np.sum(np.abs(z)), engine="interpreter")(z), [0, 0.6 + 0.8j], rtol=1e-14
    )


def test_complex64_stays_complex64():
    z = Z.astype(np.complex64)
    found = gc.grad(lambda z: np.sum(np.abs(z * (1 + 2j)) ** 2), engine="interpreter")(z)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, 10 * z, rtol=1e-5)


def test_pytrees_with_both_kinds():
    def loss(p):
        return np.sum(np.abs(p["z"] * p["x"] + 1j) ** 2)

    found = gc.grad(loss, engine="interpreter")({"z": Z, "x": X})
    np.testing.assert_allclose(found["z"], 2 * (Z * X + 1j) * X, rtol=1e-12)
    np.testing.assert_allclose(found["x"], (2 * np.conj(Z * X + 1j) * Z).real, rtol=1e-12)


def test_natively_compiled_with_its_gradient():
    def f(z, w):
        h = np.tanh(z @ w) / (2 + np.exp(-1j * np.angle(z @ w)))
        return np.sum(np.abs(h)), np.sqrt(h)[:, ::-1] * np.conj(h)

    loss, h = gc.compile(f)(Z, W)
    expected = f(Z, W)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-13)
    np.testing.assert_allclose(h, expected[1], rtol=1e-13)
    assert h.dtype == np.complex128
    by_z, by_w = gc.grad(lambda z, w: f(z, w)[0], argnums=(0, 1))(Z, W)
    np.testing.assert_allclose(by_z, slopes(lambda z: f(z, W)[0], Z), rtol=1e-6)
    np.testing.assert_allclose(by_w, slopes(lambda w: f(Z, w)[0], W), rtol=1e-6)


def test_batches():
    def f(z):
        return np.sum(np.exp(z) * np.conj(z))

    found = gc.vmap(f, engine="interpreter")(Z)
    np.testing.assert_allclose(found, [f(z) for z in Z], rtol=1e-12)
    slopes_ = gc.vmap(gc.grad(lambda z: f(z).imag), engine="interpreter")(Z)
    each = gc.grad(lambda z: f(z).imag, engine="interpreter")
    np.testing.assert_allclose(slopes_, [each(z) for z in Z], rtol=1e-12)


def test_complex_jacobians_say_what_to_do():
    with pytest.raises(GradientError, match="real one of both parts"):
        gc.jacobian(np.exp, engine="interpreter")(Z[0])


def test_complex_losses_are_refused():
    with pytest.raises(GradientError, match="return its real part"):
        gc.grad(np.sum, engine="interpreter")(Z)


def _loop(z):
    return gc.fori_loop(0, 4, lambda i, w: w * w + z, z)


def _inside(x):
    """Complex values within the body only."""
    return gc.fori_loop(0, 4, lambda i, w: np.abs(np.exp(1j * w) * w + x), x)


def _scan(z):
    last, sizes = gc.scan(lambda c, x: (c * x + 1j, np.abs(c)), np.ones((), complex), z)
    return np.sum(sizes) + last.imag


def _choice(z):
    return gc.cond(z.real.sum() > 0, np.exp, lambda z: z * 1j, z)


FLOWS = [_loop, _inside, _scan, _choice, lambda z: _choice(-z)]
SMALL = np.array([0.1 + 0.2j, 0.3 - 0.1j, 0.25j])


@pytest.mark.parametrize("f", FLOWS, ids=["loop", "inside", "scan", "choice", "other"])
def test_control_flow(f):
    z = SMALL.real + 0.1 if f is _inside else SMALL
    outside = gc.interpret(f)
    np.testing.assert_allclose(gc.compile(f)(z), outside(z), rtol=1e-13)

    def loss(z):
        return np.sum(np.abs(f(z)) ** 2)

    found = gc.grad(loss, engine="interpreter")(z)
    np.testing.assert_allclose(found, slopes(gc.interpret(loss), z), rtol=1e-6, atol=1e-8)


def test_control_flow_natively():
    found = gc.grad(_scan)(SMALL)
    np.testing.assert_allclose(found, gc.grad(_scan, engine="interpreter")(SMALL), rtol=1e-13)


def test_through_a_checkpoint():
    found = gc.grad(lambda z: np.sum(np.abs(gc.checkpoint(lambda z: np.exp(z) * z)(z))),
                    engine="interpreter")(SMALL)  # fmt: skip
    expected = slopes(lambda z: np.sum(np.abs(np.exp(z) * z)), SMALL)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "f", [np.max, np.min, np.argmax, np.argmin, lambda z: np.max(z, axis=0, initial=9)]
)
def test_extremes_are_numpys(f):
    """By the real part, then by the imaginary one; the first NaN wins."""
    for z in (
        np.array([[1 + 2j, 1 - 2j], [0, 1 + 1j]]),
        np.array([[-np.inf, -np.inf + 1j], [-np.inf - 1j, -np.inf]]),
        np.array([[1, 2 + 1j * np.nan], [np.nan, 3]]),
        np.array([[3 - 1j * np.inf, 3 + 1j * np.inf], [3, 1]]),
    ):
        np.testing.assert_array_equal(gc.interpret(f)(z), f(z))


@pytest.mark.parametrize("jacobian", [gc.jacobian, gc.jacfwd, gc.jacrev])
def test_jacobians(jacobian):
    """f' of holomorphic functions, complex rows, and rows like gradients."""
    z = np.array([0.5 + 1j, -0.3 + 0.2j])

    def run(f, x, **options):
        return jacobian(f, engine="interpreter", **options)(x)

    found = run(lambda z: np.exp(z) * z[0], z, holomorphic=True)
    expected = np.diag(np.exp(z) * z[0])
    expected[:, 0] += np.exp(z)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    slopes_of_real = run(lambda x: np.exp(1j * x), z.real)
    np.testing.assert_allclose(slopes_of_real, np.diag(1j * np.exp(1j * z.real)))
    tree = run(lambda p: np.abs(p["z"]) ** 2 * p["x"], {"z": z, "x": np.array([2.0, 3.0])})
    np.testing.assert_allclose(tree["z"], np.diag(2 * z * [2, 3]))
    np.testing.assert_allclose(tree["x"], np.diag(np.abs(z) ** 2))
    with pytest.raises(GradientError, match="holomorphic=True"):
        run(lambda z: z * np.conj(z), z)
    both = run(lambda z: z * np.conj(z[::-1]), z, parts=True)
    assert both.shape == (2, 2, 2, 2)
    v = np.array([0.2 - 1j, 0.7 + 0.3j])
    _, change = gc.jvp(lambda z: z * np.conj(z[::-1]), engine="interpreter")(z, v)
    found = both.reshape(4, 4) @ np.concatenate([v.real, v.imag])
    np.testing.assert_allclose(found, np.concatenate([change.real, change.imag]), rtol=1e-13)
    with pytest.raises(OptionError, match="give one"):
        run(np.exp, z, parts=True, holomorphic=True)


@pytest.mark.parametrize("engine", ["interpreter", "native"])
def test_hessians(engine):
    """Of a real function those by both parts; of a holomorphic one f''."""

    def f(z, x):
        mixed = np.sum(np.abs(z**2 * x) ** 2 + (z * np.conj(z[::-1])).real * x)
        return mixed + np.sum(np.exp(z).imag)

    def in_real_numbers(v):
        return f(v[:2] + 1j * v[2:4], v[4:])

    z, x = np.array([0.5 + 1j, -0.3 + 0.2j]), np.array([2.0, 3.0])
    (zz, zx), (xz, xx) = gc.hessian(f, (0, 1), engine=engine)(z, x)
    assert zz.shape == (2, 2, 2, 2) and zx.shape == (2, 2, 2) and zz.dtype == np.float64
    found = np.block([[zz.reshape(4, 4), zx.reshape(4, 2)], [xz.reshape(2, 4), xx]])
    v = np.concatenate([z.real, z.imag, x])
    expected = gc.hessian(in_real_numbers, engine=engine)(v)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    step = np.array([0.3 - 1j, 2 + 0.1j])
    product = gc.hvp(f, engine=engine)(z, x, step)
    by_matrix = zz.reshape(4, 4) @ np.concatenate([step.real, step.imag])
    np.testing.assert_allclose(np.concatenate([product.real, product.imag]), by_matrix, rtol=1e-12)
    second = gc.hessian(lambda z: np.sum(z**3) * z[0], engine=engine, holomorphic=True)(z)
    expected = [[12 * z[0] ** 2, 3 * z[1] ** 2], [3 * z[1] ** 2, 6 * z[1] * z[0]]]
    np.testing.assert_allclose(second, expected, rtol=1e-12)
