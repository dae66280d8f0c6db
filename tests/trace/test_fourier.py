"""``np.fft`` on traced values: values, dtypes, derivatives, generated code."""

import numpy as np
import pytest
from generated import python_run
from trace_helpers import trace_like

import graphc as gc
from graphc import interp
from graphc.errors import CompileWarning
from graphc.ir import fourier

RNG = np.random.default_rng(11)
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 26, 30, 37, 60, 64, 66, 94, 120, 128, 210)


def complex_of(*shape):
    return RNG.normal(size=shape) + 1j * RNG.normal(size=shape)


def close(found, expected, wide=True):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    scale = np.linalg.norm(expected) or 1.0
    count = max(2, found.size)
    allowed = (1e-15 if wide else 3e-7) * (2 + np.log2(count))
    assert np.linalg.norm(found - expected) <= allowed * scale


@pytest.mark.parametrize("run", [interp.evaluate, python_run], ids=["interpreter", "python"])
@pytest.mark.parametrize("n", LENGTHS)
def test_lengths(n, run):
    z = complex_of(2, n)
    x = z.real.copy()

    def f(z, x):
        return (
            np.fft.fft(z), np.fft.ifft(z), np.fft.fft(x), np.fft.rfft(x), np.fft.irfft(z, n),
            np.fft.fft(z, axis=0),
        )  # fmt: skip

    graph = trace_like(f, z, x).graph
    for found, expected in zip(run(graph, [z, x]), f(z, x), strict=True):
        close(found, expected)


@pytest.mark.parametrize("n", [12, 66, 94, 128])
def test_float32_stays_narrow(n):
    z = complex_of(n).astype(np.complex64)

    def f(z):
        return np.fft.fft(z), np.fft.rfft(z.real), np.fft.irfft(z)

    graph = trace_like(f, z).graph
    for found, expected in zip(python_run(graph, [z]), f(z), strict=True):
        close(found, expected, wide=False)


CALLS = {
    "fft_n": lambda z, x: (np.fft.fft(z, 6), np.fft.fft(z, 3, 0), np.fft.fft(x, 9, axis=1)),
    "norms": lambda z, x: [
        f(z, norm=norm)
        for f in (np.fft.fft, np.fft.ifft, np.fft.irfft, np.fft.fft2, np.fft.ifftn)
        for norm in ("ortho", "forward", "backward")
    ],
    "rfft": lambda z, x: (np.fft.rfft(x, axis=0), np.fft.rfft(x, 5), np.fft.rfft(x, norm="ortho")),
    "irfft": lambda z, x: (np.fft.irfft(z), np.fft.irfft(z, 7), np.fft.irfft(x, axis=0)),
    "hfft": lambda z, x: (np.fft.hfft(z), np.fft.hfft(z, 7, norm="forward"), np.fft.ihfft(x),
                          np.fft.ihfft(x, 6, 0, "ortho")),
    "two": lambda z, x: (np.fft.fft2(z), np.fft.ifft2(x), np.fft.rfft2(x), np.fft.irfft2(z),
                         np.fft.fft2(z, (3, 4)), np.fft.fft2(z, axes=(1, 0))),
    "many": lambda z, x: (np.fft.fftn(z), np.fft.ifftn(z, axes=(0,)), np.fft.rfftn(x),
                          np.fft.irfftn(z), np.fft.fftn(x, (4, 8), (0, 1)),
                          np.fft.rfftn(x, axes=(1, 0)),
                          np.fft.irfftn(z, (5, 6), axes=(0, 1))),
    "shifts": lambda z, x: (np.fft.fftshift(z), np.fft.ifftshift(x, axes=1), np.fft.fftshift(x, 0),
                            np.fft.ifftshift(z)),
    "integers": lambda z, x: (np.fft.fft((x * 4).astype(int)), np.fft.rfft(x > 0)),
    "fftfreq": lambda z, x: np.fft.fft(x) * np.fft.fftfreq(x.shape[1], 0.5),
    "cube": lambda z, x: np.fft.fftn(np.stack([z, 2 * z, z + x])),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    z = complex_of(5, 6)
    x = z.real.copy()
    graph = trace_like(CALLS[name], z, x).graph
    expected = CALLS[name](z, x)
    expected = [expected] if isinstance(expected, np.ndarray) else expected
    for run in (interp.evaluate, python_run):
        for found, value in zip(run(graph, [z, x]), expected, strict=True):
            close(found, value)


@pytest.mark.parametrize("n", [5, 8, 12, 17, 66])
@pytest.mark.parametrize("name", ["fft", "ifft", "irfft", "hfft", "rfft", "ihfft", "fftn"])
def test_derivatives_are_the_transform_and_its_adjoint(name, n):
    f = getattr(np.fft, name)
    real = name in ("rfft", "ihfft")
    z = RNG.normal(size=(2, n)) if real else complex_of(2, n)
    v = RNG.normal(size=(2, n)) if real else complex_of(2, n)
    value, change = gc.jvp(f, engine="interpreter")(z, v)
    close(value, f(z))
    close(change, f(v))
    ct = complex_of(*value.shape) if value.dtype.kind == "c" else RNG.normal(size=value.shape)
    _, pulled = gc.vjp(f, engine="interpreter")(z, ct)
    assert pulled.dtype == z.dtype
    inner = np.sum((np.conj(pulled) * v).real)
    np.testing.assert_allclose(inner, np.sum((np.conj(ct) * change).real), rtol=1e-11)


def spectral_loss(x):
    spectrum = np.fft.rfft(x, norm="ortho")
    return np.sum(np.log1p(np.abs(spectrum) ** 2)) + np.sum(np.fft.irfft(spectrum**2) ** 3)


def test_gradient_and_hessian_of_a_spectral_loss():
    x, v, eps = RNG.normal(size=12), RNG.normal(size=12), 1e-5
    slope = gc.grad(spectral_loss, engine="interpreter")
    change = (spectral_loss(x + eps * v) - spectral_loss(x - eps * v)) / (2 * eps)
    np.testing.assert_allclose(slope(x) @ v, change, rtol=1e-7)
    second = (slope(x + eps * v) - slope(x - eps * v)) / (2 * eps)
    np.testing.assert_allclose(
        gc.hvp(spectral_loss, engine="interpreter")(x, v), second, rtol=1e-6, atol=1e-8
    )
    hessian = gc.hessian(spectral_loss, engine="interpreter")(x)
    np.testing.assert_allclose(hessian @ v, second, rtol=1e-6, atol=1e-8)


def test_jacobian_of_a_circular_convolution():
    x, k = RNG.normal(size=8), RNG.normal(size=8)

    def f(x):
        return np.fft.irfft(np.fft.rfft(x) * np.fft.rfft(k))

    found = gc.jacobian(f, engine="interpreter")(x)
    np.testing.assert_allclose(
        found, [[k[(i - j) % 8] for j in range(8)] for i in range(8)], atol=1e-14
    )


def test_batches():
    x = RNG.normal(size=(3, 10))
    found = gc.vmap(np.fft.rfft, engine="interpreter")(x)
    close(found, np.fft.rfft(x))


def test_natively_compiled():
    x, z = RNG.normal(size=(3, 360)), complex_of(256, 6)

    def f(x, z):
        return np.fft.rfft(x), np.fft.fft2(z), np.fft.ifft(z[:94, 0])

    for found, expected in zip(gc.compile(f)(x, z), f(x, z), strict=True):
        close(found, expected)
    small = gc.compile(np.fft.fft)(z.T.astype(np.complex64).copy())
    close(small, np.fft.fft(z.T.astype(np.complex64)), wide=False)
    slope = gc.grad(lambda x: np.sum(np.abs(np.fft.rfft(x)) ** 2))(x)
    weights = np.full(181, 2.0)
    weights[[0, -1]] = 1  # Parseval: the ends are counted once, the rest stands for two
    whole = 2 * np.fft.irfft(np.fft.rfft(x) / weights * 2, 360) * 180
    np.testing.assert_allclose(slope, whole, rtol=1e-10, atol=1e-10)


def test_plans_have_no_short_span():
    for n in (64, 1024, 3 * 2**10, 2**16, 5040):
        made = fourier.plan(n, True)
        assert made.split and min(p.span for p in (*made.first, *made.second)) >= 8


def test_lengths_of_none():
    with pytest.raises(ValueError, match="Invalid number of FFT data points"):
        gc.interpret(lambda x: np.fft.fft(x, 0))(np.ones(3))
    with pytest.raises(TypeError, match=r"np\.fft\.fft"):
        gc.interpret(np.fft.rfft)(np.ones(3, complex))


def test_frequencies_of_several_sizes():
    """NumPy's fftfreq takes no symbolic size: then sizes are fixed."""
    f = gc.interpret(lambda x: x * np.fft.fftfreq(x.shape[0]))
    with pytest.warns(CompileWarning, match="sizes are fixed because"):
        for n in (4, 6, 8):
            x = np.arange(n) + 1.0
            np.testing.assert_allclose(f(x), x * np.fft.fftfreq(n), rtol=1e-15)
