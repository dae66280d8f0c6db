"""What NumPy returns as a view: a write reaches the array, or is refused; it is never lost."""
# ruff: noqa: E501 (tables of expressions)

import warnings

import numpy as np
import pytest
from trace_helpers import assert_like_numpy, run_traced, trace_like

import graphc as gc
import graphc.numpy as gnp
from graphc.errors import TraceError
from graphc.trace.tree import flatten

X = np.linspace(-2, 2.1, 12).reshape(4, 3)
WRITES = ("v[...] = -7.0", "v += 100", "v[0] = -5", "x *= 2")

VIEWS = (
    "x.reshape(3, 4)", "x.reshape(4, 3, order='F')", "x.T.reshape(4, 3, order='F')",
    "x.T.reshape(-1)", "x[::2].reshape(-1)", "x[:, 1:].reshape(-1)", "x[1].reshape(1, 3)",
    "x[1:].reshape(-1)", "x.ravel()", "x.T.ravel()", "x.ravel('F')", "x.T.ravel('F')", "x[1:3].ravel()",
    "x[::-1].ravel()", "x[:1].ravel()", "x[:, :1].ravel()", "x[:, 0].ravel()", "x[:, 0].reshape(-1)",
    "x[:, 0].reshape(2, 2)", "x[:, None].reshape(12)", "x[:1].T.reshape(-1)", "x[:2, :].reshape(3, 2)",
    "x.reshape(-1)[2:8].reshape(2, 3)", "np.swapaxes(x[None], 0, 1).reshape(4, 3)", "x.flatten()",
    "x.reshape(4, 3, copy=True)", "x.mT", "np.permute_dims(x, (1, 0))", "np.matrix_transpose(x)",
    "np.moveaxis(x, 0, -1)", "np.rollaxis(x, 1)", "np.squeeze(x[None])", "np.expand_dims(x, 0)",
    "x[::-1, ::2]", "np.flip(x)", "np.rot90(x)", "np.rot90(x, 2)", "np.rot90(x, -1)", "np.rot90(x, 0)",
    "np.atleast_2d(x[0])", "np.atleast_3d(x)", "x.real", "np.real(x)", "np.array_split(x, 3)[0]",
    "np.unstack(x, axis=1)[1]", "np.einsum('ij->ji', x)", "np.einsum('ij', x)", "np.einsum('...', x)",
    "np.einsum('ii->i', x[:3])", "np.einsum('ii->i', x[1:])", "np.einsum(x, [0, 1], [1, 0])",
    "np.einsum('ij->i', x)", "np.einsum('iji->ji', x[:3, :, None] * np.ones((1, 1, 3)))",
    "np.broadcast_arrays(x, x)[0]", "x.view()", "x.astype(float, copy=False)", "x.astype(float)",
    "np.astype(x, float, copy=False)", "np.positive(x)", "np.nan_to_num(x, copy=False)",
    "np.nan_to_num(x)", "np.take(x, [0])", "np.roll(x, 0)", "np.tile(x, 1)", "np.repeat(x, 1)",
    "np.concatenate([x])", "np.pad(x, 0)", "np.sum(x, axis=())", "np.diff(x, n=0)", "np.choose(0, [x, x])",
    "np.meshgrid(x[0], x[1])[0]", "np.meshgrid(x[0], x[1], sparse=True)[0]", "x[[0, 1]]", "x[0, ...]",
    "np.average(x, axis=0, returned=True)[1]", "np.diag(x[0])", "np.fft.fftshift(x)", "np.where(True, x, x)",
)  # fmt: skip
READ_ONLY = (
    "np.diagonal(x)", "x.diagonal(1)", "np.diag(x)", "np.linalg.diagonal(x)", "np.imag(x)",
    "np.lib.stride_tricks.sliding_window_view(x, 2, axis=0)", "np.broadcast_to(x, (2, 4, 3))",
)  # fmt: skip


def function(view: str, write: str):
    scope = {"np": np}
    exec(f"def fn(x):\n    x = x * 1\n    v = {view}\n    {write}\n    return x, v", scope)
    return scope["fn"]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_write_reaches_what_numpy_has_it_reach(view, write):
    assert_like_numpy(function(view, write), (X,))


@pytest.mark.parametrize("view", ["x.real", "x.imag", "np.einsum('ii->i', x[:3])", "x.T.imag[1:]"])
@pytest.mark.parametrize("write", [*WRITES, "v[...] = x.real[0, 0]"])
def test_of_complex_values(view, write):
    assert_like_numpy(function(view, write), (X + 1j * X[::-1],))


@pytest.mark.parametrize("statement", ["x.real = 3", "x.imag += x.real", "x.T.real[0] = 1"])
def test_parts_are_assigned(statement):
    scope: dict = {}
    exec(f"def fn(x):\n    x = x * 1\n    {statement}\n    return x", scope)
    assert_like_numpy(scope["fn"], (X + 1j,))


@pytest.mark.parametrize("view", READ_ONLY)
def test_what_numpy_does_not_let_anybody_write_to(view):
    for write in WRITES[:3]:
        with pytest.raises(ValueError, match="read-only"):
            function(view, write)(X)
        with pytest.raises(TraceError, match=r"read-only|Take a copy") as caught:
            trace_like(function(view, write), X)
        assert "<string>" in str(caught.value)
    assert_like_numpy(function(view, "x *= 2"), (X,))  # but it sees what happens to the array


@pytest.mark.parametrize(
    "view",
    ["np.broadcast_arrays(x, np.ones((2, 1, 1)))[0]", "np.meshgrid(x[0], x[1], copy=False)[0]",
     "np.lib.stride_tricks.sliding_window_view(x, 2, axis=0, writeable=True)",
     "np.lib.stride_tricks.as_strided(x, (2, 2), (24, 8))", "x.view(np.int64)"],
)  # fmt: skip
def test_what_cannot_be_written_to_says_so(view):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TraceError):
            trace_like(function(view, "v[...] = 1"), X)


def test_asarray_shares_and_array_copies():
    def fn(x):
        x = x * 1
        a, b = gnp.asarray(x), gnp.array(x)
        a[0] = 5
        b[1] = 6
        return x, a, b

    x, a, b = flatten(run_traced(fn, X))[0]
    assert (x[0] == 5).all() and (a == x).all() and (b[1] == 6).all() and (x[1] == X[1]).all()


@pytest.mark.parametrize("engine", [gc.interpret, gc.compile])
@pytest.mark.parametrize(
    "text",
    ["v = x[k]\n    v[...] = 7", "v = x[k]\n    v *= 2", "x[k][0] = 5\n    v = x[k - 1]",
     "v = x.T[-k]\n    v += x[k, 0]", "v = x[1:, k]\n    x *= 2", "v = x[k]\n    x[k] += 1",
     "v = x[k, 1:]\n    v[v > 0] = 0", "v = x[..., k]\n    v.sort()", "v = x[k][None]\n    v -= 1",
     "v = x[::-1][k]\n    np.add(v, 1, out=v)", "x[k] += x[k - 1]\n    v = x[k]",
     "v = x[np.array(1)]\n    v += 1", "v = x[[k, 0]]\n    v += 1"],
)  # fmt: skip
def test_rows_at_numbers_that_only_the_call_knows(engine, text):
    """Once a row at a traced number was a copy: what was written to it was lost."""
    scope = {"np": np}
    exec(f"def fn(x, k):\n    x = x * 1\n    {text}\n    return x, v", scope)
    f = engine(scope["fn"])
    for k in (1, 2):
        for found, expected in zip(f(X, k), scope["fn"](X, k), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_loops_write_rows():
    def fill(x):
        def step(i, x):
            row = x[i]
            row += i
            x[i, 0] *= 2
            return x

        return gc.fori_loop(0, 4, step, x * 1)

    expected = (X + np.arange(4)[:, None]) * np.array([2, 1, 1])
    np.testing.assert_allclose(gc.compile(fill)(X), expected)
    slope = gc.grad(lambda x: (fill(x) ** 2).sum())(X)
    np.testing.assert_allclose(slope, 2 * expected * np.array([2, 1, 1]))
