"""In-place updates and views: what NumPy code may rely on holds while tracing."""
# ruff: noqa: E501 (tables of expressions)

import numpy as np
import pytest
from trace_helpers import assert_like_numpy, trace_like

import graphc.numpy as gnp
from graphc.errors import DTypeError, ShapeError, TraceError

X = np.arange(12.0).reshape(3, 4)


def like_numpy(fn, *args):
    """Fresh copies: the plain run really updates its arguments."""
    fresh = lambda: tuple(np.array(a) if isinstance(a, np.ndarray) else a for a in args)  # noqa: E731
    assert_like_numpy(lambda *a: fn(*(np.copy(x) if np.ndim(x) else x for x in a)), fresh())


def test_an_alias_sees_the_update():
    def fn(x):
        y = x
        y += 1
        return x, y

    like_numpy(fn, X)


@pytest.mark.parametrize(
    "view",
    ["x[1:]", "x[0]", "x[::2, ::-1]", "x[..., 1:3]", "x.T", "x.T[1:]", "x[1:].T[0]", "x.reshape(4, 3)",
     "x.ravel()[2:5]", "x[:, None, 1]", "x.swapaxes(0, 1)", "np.squeeze(x[None], 0)",
     "np.expand_dims(x, 1)", "np.moveaxis(x, 0, 1)", "np.split(x, 2, 1)[1]", "list(x)[2]"],
)  # fmt: skip
def test_a_view_writes_to_its_array_and_reads_from_it(view):
    take = eval(f"lambda x: {view}", {"np": np})

    def fn(x):
        v = take(x)
        v *= 2
        x += 10
        kept = v.copy()
        v[...] = -1
        return x, v, kept, take(x).sum()

    like_numpy(fn, X)


@pytest.mark.parametrize(
    "statement",
    ["x[0] = 1", "x[1, 2] = 5", "x[-1] += x[0]", "x[:, 1] -= 2", "x[::2, 1::2] = 9",
     "x[::-1, ::-2] *= 3", "x[1:1] = 4", "x[...] = v", "x[:] = v[None]", "x[1:, None, :2] = 1",
     "x[[0, 2]] = v", "x[:, [1, 1]] = np.array([[1., 2.]])", "x[np.array([1, -1])] += 1",
     "x[x > 3] = 0", "x[np.array([True, False, True])] = v", "x[0][1:] = 7", "x.T[0] = 3", "x.fill(2)",
     "np.add(x, v, out=x)", "np.fill_diagonal(x, 0)", "np.add.at(x, [0, 0, 2], v)",
     "np.add.at(x, ([0, 0], [1, 1]), 5.0)", "np.add.at(x, x > 3, 2.0)", "x[x.sum(1) > 9] += v",
     "x[x.sum(1) > 9, 1:3] = v[1:3]", "x[:, v > 0] = 2", "x[x[:, 0] > 3, 0] += 5",
     "x[..., v > 0] *= 3",
     "x[np.array([], int)] = 7", "x[0, 0, ...] += 5", "x[1, ...][2, ...] = 4", "x.view()[0] = 3",
     "x.conj()[0] = 3", "x.astype(float, copy=False)[1] = 3", "np.fill_diagonal(x, v[:3])",
     "np.fill_diagonal(x.T, v[:2], wrap=True)", "np.copyto(x, v)", "x //= 2", "x **= 2", "x /= 4"],
)  # fmt: skip
def test_statement(statement):
    scope = {"np": np}
    exec(f"def fn(x, v):\n    {statement}\n    return x, x + v", scope)
    like_numpy(scope["fn"], X, np.array([0.5, -1.0, 2.0, 3.0]))


def test_traced_scalar_index_is_written():
    def fn(x, i, v):
        x[i] = v
        x[:, i - 1] = 0
        return x

    like_numpy(fn, X, np.array(2), np.ones(4))


def test_a_buffer_filled_in_a_loop():
    def fill(zeros):
        def fn(x):
            out = zeros(5)
            for i in range(3):
                out[i] = x[i].sum()
                out[i + 1] += 1
            return out

        return fn

    traced = assert_like_numpy(fill(gnp.zeros), (X,))
    assert traced.graph.outputs[0].dtype == np.float64
    np.testing.assert_array_equal(fill(np.zeros)(X), fill(gnp.zeros)(X))


def test_numbers_are_rebound_not_updated():
    def fn(x, s):
        total = x.sum()
        before = total
        total += 1
        s *= 2
        return before, total, s

    like_numpy(fn, X, 3.0)


def test_values_keep_the_dtype_of_the_array():
    x = np.arange(4, dtype=np.float32)

    def fn(x):
        y = x * 1
        y += np.ones(4)
        y[0] = 2.5
        z = y.astype(int)
        z[1] = 7.9
        return y, z

    assert_like_numpy(fn, (x,))


def test_what_cannot_be_updated_says_so():
    with pytest.raises(DTypeError, match="result is float64 and cannot go into an array of int64"):
        trace_like(lambda x: x.__iadd__(0.5), np.arange(3))
    with pytest.raises(
        ShapeError, match=r"result has shape \(3, 4\), the array it goes into \(4,\)"
    ):
        trace_like(lambda v, x: v.__iadd__(x), np.ones(4), X)
    with pytest.raises(ShapeError, match=r"cannot assign shape \(3,\) to an index of shape \(4,\)"):
        trace_like(lambda x: x.__setitem__(0, np.ones(3)), X)

    def repeated(x):
        y = np.broadcast_to(x, (2, 3, 4))
        y += 1
        return x

    with pytest.raises(TraceError, match="Take a copy first"):
        trace_like(repeated, X)


def test_arguments_of_the_caller_are_not_changed():
    x = X.copy()

    def fn(x):
        x += 1
        return x.sum()

    trace_like(fn, x)
    np.testing.assert_array_equal(x, X)


def test_a_mask_on_the_right_of_an_update_is_no_target():
    def fn(x):
        y = x * 1
        y += x[x > 5]
        return y

    with pytest.raises(TraceError, match="size of the result depends on the data"):
        trace_like(fn, X)
