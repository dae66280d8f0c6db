"""One trace with a named batch size serves every size; what cannot, asks for a plain number."""
# ruff: noqa: E501 (tables of expressions)

import numpy as np
import pytest

import graphc.numpy as gnp
from graphc import interp
from graphc.errors import ShapeError, SymbolicDimError
from graphc.ir.dims import symbol
from graphc.ir.types import tensor_type
from graphc.ir.verify import verify
from graphc.trace.indices import minimum, slice_bounds
from graphc.trace.tracing import ArgSpec, trace

N = symbol("n")


def spec(*shape, dtype="float64"):
    return ArgSpec(tensor_type(dtype, shape))


STAY_SYMBOLIC = {
    "np.mean((x @ w - 1) ** 2)": 1e-12,
    "x.mean(0), x.mean(), x.var(axis=0), np.std(x)": 1e-12,
    "(x - x.max(1, keepdims=True)).sum(axis=-1) / x.shape[0]": 1e-12,
    "x.sum() / len_(x), x.sum() * x.size, 2 * x.shape[0] * x": 1e-12,
    "x.reshape(-1), x.reshape(-1, 2, 2), x.T, x.reshape(x.shape[0] * 4), x.ravel().sum()": 0,
    "x[0], x[-1], x[1:], x[:-1], x[::-1], x[:, 1], x[:, 1:3], x[..., None], x[:x.shape[0]]": 0,
    "x[1:] * 2 - x[:-1], np.diff(x, axis=0)": 0,
    "np.concatenate([x, x]), np.stack([x, x]), np.vstack([x, w.T]), np.hstack([x, x])": 0,
    "np.concatenate([x, x])[1:], np.pad(x, 1)[2:], np.tile(x, 2), np.repeat(x, 2, 0)": 0,
    "np.take_along_axis(x, k[:, None], axis=1)[:, 0].mean()": 1e-12,
    "x[gnp.arange(x.shape[0]), k]": 0,
    "np.where(k[:, None] == np.arange(4), x, 0).sum(1), w[k], np.take(x, k, axis=1)": 1e-12,
    "np.einsum('ni,ij->nj', x, w), np.einsum('ni,nj->ij', x, x), np.einsum('ni,ni,ij', x, x, w)": 1e-12,
    "np.roll(x, 1, axis=0), np.flip(x), np.roll(x, -1, 0), np.expand_dims(x, 0)": 0,
    "np.zeros_like(x) + 1, gnp.ones((x.shape[0], 2)), np.broadcast_to(w[0], x.shape)": 0,
    "np.split(x, 2, axis=1), x.argmax(), x.argmin(0), np.linalg.norm(x, axis=1), x @ x.T": 1e-12,
    "np.tril(x @ x.T), np.outer(k, k), np.dot(x, w), np.tensordot(x, x, ([0], [0]))": 1e-12,
}  # fmt: skip


@pytest.mark.parametrize("text", STAY_SYMBOLIC)
def test_one_graph_for_every_size(text):
    fn = eval(f"lambda x, w, k: ({text},)", {"np": np, "gnp": gnp, "len_": lambda x: x.shape[0]})
    traced = trace(fn, (spec(N, 4), spec(4, 4), spec(N, dtype="int64")))
    verify(traced.graph)
    assert traced.graph.symbols == ("n",)
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        args = rng.normal(size=(n, 4)), rng.normal(size=(4, 4)), rng.integers(0, 4, n)
        got = interp.evaluate(traced.graph, args)
        expected = []
        for value in fn(*args):
            expected += value if isinstance(value, list) else [value]
        for value, want in zip(got, expected, strict=True):
            assert value.dtype == np.asarray(want).dtype and value.shape == np.shape(want)
            np.testing.assert_allclose(value, want, rtol=max(STAY_SYMBOLIC[text], 1e-15))


NEED_A_NUMBER = [
    "x[5]", "x[2:]", "x[:3]", "x[-2:]", "x[::2]", "x[1:-1]", "range(x.shape[0])", "len(x)",
    "np.zeros(x.shape[0])", "np.zeros(x.shape) + x", "np.arange(x.shape[0])", "list(x)",
    "2 ** x.shape[0] * x", "x[:x.shape[0] // 2]", "x.reshape(2, x.shape[0] // 2, 4)",
    "x + np.ones((3, 4))", "x.reshape(8, -1)", "x.reshape(6, 2)", "np.split(x, 2)", "np.diagonal(x)",
    "x @ np.ones((4, 4)) @ x", "np.cumprod(x, 0)", "x if x.shape[0] > 3 else 2 * x",
    "x[np.array([3, 1])]", "x[np.array([True, False])]", "np.concatenate([x, np.ones((2, 3))], 1)",
    "float(x.shape[0]) * x", "x.shape[0] / 2 > 3 or x", "x * 2 if (np.zeros_like(x) == 0).all() else x", "np.einsum('ni,nj->ij', x, np.ones((3, 4)))",
]  # fmt: skip


@pytest.mark.parametrize("text", NEED_A_NUMBER)
def test_asks_for_a_plain_number(text):
    fn = eval(f"lambda x: {text}", {"np": np})
    with pytest.raises(SymbolicDimError):
        trace(fn, (spec(N, 4),))


def test_two_symbols():
    m = symbol("m")

    def fn(x, y):
        return x @ y.T, np.concatenate([x, y]).mean(axis=0), (x[:, None] - y[None]).reshape(-1, 2)

    traced = trace(fn, (spec(N, 2), spec(m, 2)))
    assert [str(o.type) for o in traced.graph.outputs] == ["f64[n,m]", "f64[2]", "f64[m*n,2]"]
    args = (
        np.random.default_rng(0).normal(size=(3, 2)),
        np.random.default_rng(1).normal(size=(4, 2)),
    )
    for value, want in zip(interp.evaluate(traced.graph, args), fn(*args), strict=True):
        np.testing.assert_allclose(value, want)


def test_unequal_symbols_ask_for_numbers_and_fixed_ones_are_errors():
    with pytest.raises(SymbolicDimError):
        trace(lambda x, y: x + y, (spec(N), spec(symbol("m"))))
    with pytest.raises(ShapeError, match="4 != 3"):
        trace(lambda x, y: x + y, (spec(N, 4), spec(N, 3)))


def test_bounds_of_slices():
    assert slice_bounds(slice(1, None), N) == (1, N - 1, 1)
    assert slice_bounds(slice(None, -1), N + 2) == (0, N + 1, 1)
    assert slice_bounds(slice(None, None, 2), 2 * N) == (0, N, 2)
    assert slice_bounds(slice(N, None), 2 * N) == (N, N, 1)
    assert minimum(2 * N + 3) == 5 and minimum(N - 1) == 0 and minimum(5 - N) is None
