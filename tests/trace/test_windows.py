"""Sliding windows and convolutions: NumPy's values, PyTorch's conventions, every mode."""

import numpy as np
import pytest
from generated import python_run
from helpers import check_gradient
from numpy.lib.stride_tricks import sliding_window_view

import graphc as gc
from graphc import passes
from graphc.errors import ShapeError, TraceError

CONVOLUTIONS = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 2), {}),
    "bias and stride": ((2, 3, 7, 6), (4, 3, 3, 2), {"stride": 2}),
    "two strides, padding": ((1, 2, 6, 9), (3, 2, 3, 3), {"stride": (1, 3), "padding": (2, 0)}),
    "dilation": ((2, 1, 9, 8), (2, 1, 2, 3), {"dilation": (3, 2), "padding": 1}),
    "same": ((1, 2, 5, 5), (2, 2, 3, 4), {"padding": "same"}),
    "one by one": ((2, 3, 4, 5), (2, 3, 1, 1), {}),
    "no images": ((0, 2, 4, 4), (3, 2, 2, 2), {}),
}


def arrays_of(name, dtype=np.float64):
    x, w, how = CONVOLUTIONS[name]
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(dtype) for s in (x, w, (w[0],))], how


def by_windows(x, w, b, stride=1, padding=0, dilation=1):
    """The definition, from NumPy's sliding windows."""
    pair = lambda v: v if isinstance(v, tuple) else (v, v)  # noqa: E731
    (sy, sx), (dy, dx) = pair(stride), pair(dilation)
    ky, kx = (w.shape[2] - 1) * dy, (w.shape[3] - 1) * dx
    if padding == "same":
        around = ((ky // 2, ky - ky // 2), (kx // 2, kx - kx // 2))
    else:
        around = tuple((p, p) for p in pair(padding))
    x = np.pad(x, ((0, 0), (0, 0), *around))
    pieces = sliding_window_view(x, (ky + 1, kx + 1), axis=(2, 3))[:, :, ::sy, ::sx, ::dy, ::dx]
    return np.einsum("nchwij,ocij->nohw", pieces, w) + b[:, None, None]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d_is_its_definition_in_every_mode(name):
    arrays, how = arrays_of(name)
    expected = by_windows(*arrays, **how)
    np.testing.assert_allclose(gc.nn.conv2d(*arrays, **how), expected, atol=1e-12)
    traced = gc.interpret(lambda x, w, b: gc.nn.conv2d(x, w, b, **how))
    np.testing.assert_allclose(traced(*arrays), expected, atol=1e-12)
    graph = passes.optimize(traced.graph(*arrays))
    np.testing.assert_allclose(python_run(graph, arrays)[0], expected, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in CONVOLUTIONS if n != "no images"])
def test_gradients_of_conv2d(name):
    arrays, how = arrays_of(name)
    loss = lambda x, w, b: np.sum(np.sin(gc.nn.conv2d(x, w, b, **how)))  # noqa: E731
    check_gradient(gc.interpret(loss).graph(*arrays), arrays)


def test_native_convolutions_and_pools():
    x, w, b = arrays_of("bias and stride", np.float32)[0]

    def loss(w, x, b):
        return np.sum(gc.nn.max_pool2d(np.tanh(gc.nn.conv2d(x, w, b)), 2) ** 2)

    value, grad = gc.value_and_grad(loss)(w, x, b)
    expected, slope = gc.interpret(gc.value_and_grad(loss))(w, x, b)
    assert value.dtype == grad.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-5)


def test_a_batch_size_stays_symbolic():
    f = gc.compile(lambda x, w: gc.nn.max_pool2d(gc.nn.conv2d(x, w), 2), dims={"x": ("n",)})
    w = np.ones((1, 1, 2, 2))
    for n in (2, 5):
        x = np.arange(n * 25.0).reshape(n, 1, 5, 5)
        np.testing.assert_allclose(f(x, w), gc.nn.max_pool2d(gc.nn.conv2d(x, w), 2))
    assert len(f.compiles) == 1


@pytest.mark.parametrize("stride", [None, 1, (3, 1)])
def test_pools_overlap_or_not(stride):
    x = np.random.default_rng(1).normal(size=(2, 1, 8, 7))
    pieces = sliding_window_view(x, (3, 2), axis=(2, 3)).max(axis=(4, 5))
    down, across = (3, 2) if stride is None else (stride, stride) if stride == 1 else stride
    expected = pieces[:, :, ::down, ::across]
    pool = lambda x: gc.nn.max_pool2d(x, (3, 2), stride)  # noqa: E731
    np.testing.assert_array_equal(pool(x), expected)
    np.testing.assert_array_equal(gc.interpret(pool)(x), expected)
    graph = gc.interpret(lambda x: np.sum(np.sin(pool(x)))).graph(x)
    check_gradient(graph, [x])


def test_sliding_windows_are_numpys():
    x = np.arange(30.0).reshape(5, 6)
    for call in (
        lambda x: sliding_window_view(x, 3, axis=1),
        lambda x: sliding_window_view(x, (2, 3)),
        lambda x: sliding_window_view(x, (2, 2), axis=(0, 0)),
        lambda x: sliding_window_view(x, (2,), axis=(-1,)).mean(axis=-1),
    ):
        np.testing.assert_array_equal(gc.interpret(call)(x), call(x))
        np.testing.assert_array_equal(python_run(gc.compile(call).graph(x), [x])[0], call(x))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: sliding_window_view(x, 9, axis=1), "window of 9 on axis 1 of (5, 6)"),
        (lambda x: sliding_window_view(x, (2, 2), axis=1), "2 sizes for 1 axes"),
        (lambda x: gc.nn.conv2d(x, x), "conv2d: images are (5, 6); expected (batch, channels"),
        (lambda x: gc.nn.conv2d(x[None, None], np.ones((1, 2, 2, 2))), "expected (filters, 1, "),
        (lambda x: gc.nn.conv2d(x[None, None], np.ones((1, 1, 6, 2))), "are larger than images"),
        (lambda x: gc.nn.max_pool2d(x[None, None], 0), "size=0: one or two ints from 1"),
        (lambda x: gc.nn.conv2d(x[None, None], np.ones((1, 1, 2, 2)), padding="valid"), "'same'"),
    ],
)
def test_messages(call, says):
    with pytest.raises((ShapeError, TraceError)) as caught:
        gc.interpret(call)(np.ones((5, 6)))
    assert says in str(caught.value)
