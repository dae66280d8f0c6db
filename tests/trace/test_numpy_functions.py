"""Every supported function and method against NumPy: one expression a case."""
# ruff: noqa: E501 (a table of expressions)

from pathlib import Path

import numpy as np
import pytest
from trace_helpers import assert_like_numpy

import graphc as gc
from graphc.errors import DTypeError, ShapeError
from graphc.trace.dispatch import FUNCTIONS, public_name

FLOAT = ["float32", "float64"]
ALL = ["float32", "float64", "int8", "int32", "int64", "uint8", "bool"]
SIGNED = ["float32", "float64", "int32", "int64"]
REAL = [*SIGNED, "uint8"]

# Variables: a, b (3, 4) of the dtype; p positive below 1; v (4,); s 0-d; k (3,) integers 0..2.
UNARY = "positive negative absolute fabs sign square reciprocal exp log sqrt cbrt sin cos tan"
UNARY += " arcsin arccos arctan sinh cosh tanh arcsinh arctanh expm1 log1p exp2 log2 log10"
UNARY += " floor ceil trunc rint deg2rad rad2deg degrees radians isnan isinf isfinite"
UNARY += " logical_not signbit conjugate"
BINARY = "add subtract multiply divide true_divide floor_divide remainder mod fmod power"
BINARY += " maximum minimum fmax fmin hypot arctan2 copysign logaddexp logaddexp2 heaviside"
BINARY += " float_power equal not_equal less less_equal greater greater_equal logical_and"
BINARY += " logical_or logical_xor"

CASES = {
    "a + b, a - b, a * b, -a, +a, abs(a)": SIGNED,
    "a + b, a * b, a == b, a != b, a < b, a <= b, a > b, a >= b": ALL,
    "a / p, a // p, a % p, divmod(a, p)": SIGNED,
    "a & b, a | b, a ^ b, ~a": ["bool", "int8", "int32", "int64", "uint8"],
    "a + 1, 1 + a, a * 2, 3 - a, a / 2, 2 / p, a ** 2, a // 2, a % 3": REAL,
    "a + 1.0, 1.5 * a, a - 0.5, a / 2.0, a ** 2.0, a > 0.5, a * True": ALL[:-1],
    "a + np.float64(1), a * np.float32(2), a + np.int8(1), v * np.arange(4)": ALL,
    "np.float32(2) * a, np.arange(4.0) + a, np.arange(4, dtype='int8') * v": ALL,
    "p ** 0.5, p ** -1.0, p ** 3, p ** 1.5, 2.0 ** a": FLOAT,
    "np.modf(a), np.divmod(a, p)": FLOAT,
    "np.sinc(a), np.nan_to_num(np.log(a)), np.nan_to_num(1 / (a - a), posinf=3.0)": FLOAT,
    "np.isclose(a, b), np.isclose(a, a + 1e-9), np.allclose(a, a), np.array_equal(a, a)": FLOAT,
    "np.isposinf(1 / (a - a)), np.isneginf(-1 / (p - p))": FLOAT,
    "np.clip(a, -1, 1), a.clip(0), np.clip(a, None, 1), a.clip(min=-1, max=v), a.clip(-0.5, 0.5)":
        SIGNED,
    "np.round(a), np.round(a, 2), a.round(1), np.around(a, -1)": SIGNED,
    "np.where(a > b, a, b), np.where(a > 0, a, 0), np.where(k[:, None] > 0, 1.0, 2.0)": REAL,
    "np.where(a > 0, 1, 0), np.where(a, a, -1), np.where(v > 0, a, np.float64(2))": SIGNED,
    "np.select([a > 1, a > 0], [a, 2 * a], -1), np.select([a > 0], [1.5], 0)": SIGNED,
    "np.real(a), a.real, a.imag, np.copy(a), a.copy()": REAL,
    "a.astype('int16'), a.astype(float), a.astype(np.float32), a.astype(bool)": REAL,
    # reductions
    "a.sum(), a.sum(0), a.sum(axis=1, keepdims=True), np.sum(a, (0, -1)), np.sum(a, dtype=float)":
        ALL,
    "np.mean(a), a.mean(1), a.mean((0, 1), keepdims=True), np.mean(a, dtype='float32')": ALL,
    "a.prod(), np.prod(a, 1), np.prod(a, axis=0, keepdims=True)": ALL,
    "a.var(), a.std(0), np.var(a, 1, ddof=1), np.std(a, axis=(0, 1), keepdims=True)": ALL,
    "a.max(), a.min(1), np.amax(a, 0), np.amin(a, axis=(0, 1), keepdims=True)": ALL,
    "np.ptp(p, 0), np.ptp(a), np.ptp(a, axis=1, keepdims=True)": SIGNED,
    "a.argmax(), a.argmin(1), np.argmax(a, axis=0, keepdims=True), np.argmin(a, keepdims=True)":
        ALL,
    "a.any(), a.all(1), np.any(a, axis=0, keepdims=True), np.all(a > b), np.count_nonzero(a, 1)":
        ALL,
    "np.sum(a, where=a > 0), np.mean(a, 0, where=p > 0), np.max(a, initial=9), np.sum(a, initial=2)":
        SIGNED,
    "np.min(a, 1, where=a > 0, initial=5), np.prod(a, 0, initial=2, where=b > 0)": SIGNED,
    "np.average(a), np.average(a, 1), np.average(a, 1, weights=v*v), np.average(a, weights=p)":
        SIGNED,
    "np.average(a, 0, weights=p, returned=True)": SIGNED,
    "np.cumsum(a), a.cumsum(0), np.cumsum(a, axis=-1), np.cumprod(v), a.cumprod(1)": ALL,
    "np.add.reduce(a), np.multiply.reduce(a, 1), np.maximum.reduce(a, axis=None)": SIGNED,
    "np.minimum.reduce(a, 1, keepdims=True), np.logical_and.reduce(a), np.logical_or.reduce(a, 1)":
        SIGNED,
    "np.add.outer(v, k), np.multiply.outer(k, v), np.maximum.outer(v, v), np.add.accumulate(a)":
        SIGNED,
    "np.sum(a, ()), np.max(a, axis=())": SIGNED,
    # products
    "a @ v, v @ b.T, a @ b.T, v @ v, a.dot(v), np.dot(v, 2), np.dot(3.0, a)": REAL,
    "np.inner(a, b), np.inner(v, a), np.vdot(a, b), np.outer(v, k), np.tensordot(a, b)": REAL,
    "np.tensordot(a, b, (1, 1)), np.tensordot(a, b, 0), np.kron(v, k), np.kron(a, k)": SIGNED,
    "np.einsum('ij,ij->i', a, b), np.einsum('ij,kj', a, b), np.einsum('ij,j', a, v)": SIGNED,
    "np.einsum('ij->', a), np.einsum('ij->j', a), np.einsum('ji', a), np.einsum('i,j->ij', v, k)":
        SIGNED,
    "np.einsum('ij,ij,ij->', a, b, p), np.einsum('...j,...j->...', a, b), np.einsum('...', a)":
        SIGNED,
    "np.einsum('bij,bjk->bik', t, t.mT), np.einsum('ii->i', a[:, :3]), np.einsum('iji->j', q)":
        SIGNED,
    "np.einsum('ij,jk,kl,l->i', a, b.T, a, v), np.einsum('i,i,i', v, v, v, optimize=True)": SIGNED,
    "t @ b.T, t @ v, t @ t.mT, v @ t.mT, a @ t.mT, t[:, None] @ t.mT": SIGNED,
    "np.trace(a), np.diagonal(a, 1), np.diagonal(a, -1), np.diag(v, 1), np.diag(a), np.diag(k, -2)":
        SIGNED,
    "np.diagonal(t, 0, 1, 2), np.trace(t, axis1=1, axis2=2), a.trace(offset=2), a.diagonal()":
        SIGNED,
    "np.linalg.norm(a), np.linalg.norm(v, 3), np.linalg.norm(a, 1), np.linalg.norm(a, np.inf)": REAL,
    "np.linalg.norm(a, -1), np.linalg.norm(a, axis=0), np.linalg.norm(v, 0), np.linalg.norm(v, -np.inf)":
        REAL,
    "np.linalg.norm(a, 'fro', keepdims=True), np.linalg.norm(t, axis=(1, 2))": REAL,
    "np.cross(b[:, :3], a[:, :3]), np.polyval(v, p), np.polyval([1.0, 2.0], v)": SIGNED,
    # shapes
    "a.reshape(4, 3), a.reshape((2, -1)), np.reshape(a, -1), a.ravel(), a.flatten(), a.size": REAL,
    "a.T, a.mT, a.transpose(), t.transpose(2, 0, 1), t.transpose((0, 2, 1)), np.transpose(t)": REAL,
    "t.swapaxes(0, -1), np.moveaxis(t, [0, 1], [-1, 0]), np.rollaxis(t, 2), np.swapaxes(t, 1, 2)":
        REAL,
    "a[None].squeeze(), np.squeeze(a[:, :1], 1), np.expand_dims(a, 1), np.expand_dims(a, (0, 3))":
        REAL,
    "np.broadcast_to(v, (3, 4)), np.broadcast_arrays(v, a), np.broadcast_to(a, (2, 3, 4))": REAL,
    "np.atleast_1d(s), np.atleast_2d(v), np.atleast_1d(a, v), np.shape(a), np.ndim(a), np.size(a, 1)":
        REAL,
    "np.concatenate([a, b]), np.concatenate((a, b), 1), np.concatenate([a, k], None)": ALL,
    "np.concatenate([a, np.ones((1, 4))]), np.append(v, 1.0), np.append(a, b, axis=0)": ALL,
    "np.stack([a, b]), np.stack([a, b], -1), np.stack([v, np.arange(4)]), np.vstack([a, v])": ALL,
    "np.hstack([a, b]), np.hstack([v, v]), np.hstack([s, s]), np.column_stack([v, v]), np.stack(a)":
        ALL,
    "np.split(a, 2, 1), np.split(a, [1, 2]), np.array_split(a, 3, axis=1), np.hsplit(a, 2)": REAL,
    "np.vsplit(a, 3), np.array_split(v, 3), np.split(v, [1, 5])": REAL,
    "np.tile(a, 2), np.tile(v, (2, 3)), np.tile(a, (2, 1, 1)), np.repeat(a, 2), a.repeat(2, 0)":
        REAL,
    "np.repeat(a, [1, 0, 2], axis=0), np.repeat(v, np.array([2, 1, 0, 1]))": REAL,
    "np.roll(a, 1), np.roll(a, -1, 0), np.roll(a, (1, 2), (0, 1)), np.roll(v, 5), np.roll(v, 0)":
        REAL,
    "np.flip(a), np.flip(a, 0), np.flip(a, (0, 1)), np.fliplr(a), np.flipud(a)": REAL,
    "np.pad(a, 1), np.pad(v, (1, 2)), np.pad(a, ((0, 1), (2, 0)), constant_values=3)": REAL,
    "np.pad(v, 2, constant_values=(1, 2)), np.pad(a, 2, 'edge'), np.pad(a, 2, 'reflect')": REAL,
    "np.pad(a, ((1, 0), (0, 2)), 'symmetric'), np.pad(v, 3, mode='wrap'), np.pad(a, {0: 1})": REAL,
    "np.diff(a), np.diff(a, 2), np.diff(a, axis=0), np.diff(v, prepend=0, append=v[:1])": SIGNED,
    "np.tril(a), np.triu(a), np.tril(a, 1), np.triu(a, -1), np.tril(t, -1)": REAL,
    "np.meshgrid(v, k), np.meshgrid(v, k, indexing='ij'), np.meshgrid(v, k, sparse=True)": REAL,
    "np.zeros_like(a), np.ones_like(a, dtype=float), np.full_like(a, 2), np.empty_like(a).shape": REAL,
    "np.full_like(a, s), np.zeros_like(a, shape=(2,)), np.linspace(s, v[1], 5), np.linspace(0, s, 4)":
        SIGNED,
    "np.linspace(s, 3, 4, endpoint=False), np.linspace(v, 2 * v, 3)": FLOAT,
    # indexing
    "a[0], a[-1], a[1, 2], a[:, 1], a[1:], a[::-1], a[::2, ::-2], a[..., -1], a[None], a[:, None, 0]":
        REAL,
    "a[:0], a[5:], a[2:1], a[-2:], a[:-1, 1:3], a[()], a[...], t[0, ..., 1], t[:, 0, 1:]": REAL,
    "a[[0, 2]], a[np.array([0, -1])], a[:, [1, 1]], a[[0, 1], [2, 3]], a[[[0], [1]], [0, 2]]": REAL,
    "t[0, [1, 2]], t[[0, 1], :, [0, 1]], t[:, [0], [1, 2]], t[[1], 0], t[..., [0, 2]]": REAL,
    "t[0, :, [1, 2]], t[[0, 1], None, 0], t[:, None, [0, 1], 0], t[[0], 1:, 0], t[None, [1], :, 2]":
        REAL,
    "a[np.array([True, False, True])], a[np.eye(3, 4) > 0], a[:, np.array([True] * 4)]": REAL,
    "a[k], a[k, k], a[:, k], a[k[0]], a[k[0], 1:], t[k % 2, k], a[k - 3], a[k, None], a[k[:, None], k]":
        REAL,
    "a[np.arange(3), k], a[np.arange(3)[:, None], k[:, None]], t[:, k, k], t[k % 2, :, k]": REAL,
    "np.take(a, k), np.take(a, k, 1), a.take([0, 1], axis=0), np.take(v, [[0, 1], [2, -1]])": REAL,
    "np.take(v, k * 3, mode='clip'), np.take(v, k - 7, mode='wrap')": REAL,
    "np.take_along_axis(a, k[:, None], 1), np.take_along_axis(a, k[None, :2] * np.ones((3, 1), int), 1)":
        REAL,
    "np.take_along_axis(a, a.argmax(0, keepdims=True), 0), np.take_along_axis(v, k, 0)": REAL,
    "[row.sum() for row in a], len(a), a.ndim, a.shape": REAL,
    "np.convolve(a[0], v), np.convolve(v, k[:2], 'same'), np.convolve(k, v, 'valid')": SIGNED,
    "np.correlate(v, k), np.correlate(v, k, 'full'), np.correlate(v, v, mode='same')": SIGNED,
    "np.lib.stride_tricks.sliding_window_view(a, (2, 3)), sliding_window_view(t, 2, 1)": REAL,
    "np.logaddexp.reduce(v), np.logaddexp.reduce(a, 1, keepdims=True)": FLOAT,
    "np.linalg.multi_dot([a, b.T, a]), np.linalg.matrix_power(a @ a.T, 5)": FLOAT,
    "np.trapezoid(a), np.trapezoid(a, v), np.trapezoid(a, dx=0.5, axis=0)": FLOAT,
}  # fmt: skip


def make_arguments(dtype):
    rng = np.random.default_rng(3)

    def draw(*shape):
        values = rng.normal(size=shape) * (1 if np.dtype(dtype).kind == "f" else 3)
        return np.asarray(values if dtype in SIGNED else np.abs(values)).astype(dtype)

    p = np.asarray(rng.random((3, 4)) * 0.9 + 0.05)
    p = p.astype(dtype) if np.dtype(dtype).kind == "f" else (p * 3 + 1).astype(dtype)
    k = np.array([2, 0, 1])
    return draw(3, 4), draw(3, 4), p, draw(4), draw(), k, draw(2, 3, 4), draw(3, 2, 3)


def check(expression, dtype):
    scope = {"np": np, "sliding_window_view": np.lib.stride_tricks.sliding_window_view}
    fn = eval(f"lambda a, b, p, v, s, k, t, q: ({expression},)", scope)
    assert_like_numpy(fn, make_arguments(dtype), dtype)


@pytest.mark.parametrize(
    ("expression", "dtype"), [(e, d) for e, dtypes in CASES.items() for d in dtypes]
)
def test_expression(expression, dtype):
    check(expression, dtype)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", [n for n in UNARY.split() if hasattr(np, n)])
def test_unary_ufunc(name, dtype):
    argument = "p" if name.startswith(("log", "sqrt", "arc", "reciprocal")) else "a"
    expression = f"np.{name}({argument})"
    check_or_same_refusal(expression, dtype)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", BINARY.split())
def test_binary_ufunc(name, dtype):
    other = "2" if "power" in name else "p" if name.startswith(("pow", "div", "rem")) else "b"
    first = "p" if name in ("power", "float_power") else "a"
    if name in ("floor_divide", "remainder", "mod", "fmod", "divide", "true_divide"):
        other = "p"
    check_or_same_refusal(f"np.{name}({first}, {other}), np.{name}({first}, v)", dtype)


def check_or_same_refusal(expression, dtype):
    """float16 results of small integers are allowed their accuracy; refusals must agree."""
    fn = eval(f"lambda a, b, p, v, s, k, t, q: ({expression},)", {"np": np})
    arguments = make_arguments(dtype)
    try:
        with np.errstate(all="ignore"):
            expected = fn(*arguments)
    except (TypeError, ValueError):
        with pytest.raises((TypeError, ValueError)):
            assert_like_numpy(fn, arguments)
        return
    half = any(np.asarray(e).dtype == np.float16 for e in np.atleast_1d(expected[0]))
    assert_like_numpy(fn, arguments, "float16" if half or dtype == "int8" else dtype)


def test_half_precision_keeps_its_dtype():
    x = np.array([0.5, 1.5, -2.0], np.float16)
    fn = lambda x: (x * 2, np.exp(x), x.sum(), x.mean(), x @ x, x + np.float32(1))  # noqa: E731
    assert_like_numpy(fn, (x,), "float16")


def test_extreme_values_follow_numpy():
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e300, -1e-300])
    y = np.array([np.inf, np.inf, 1.0, np.nan, 2.0, 1e300, -1e-300])

    def fn(x, y):
        pairs = np.logaddexp(x, y), np.maximum(x, y), np.fmax(x, y), np.fmod(x, y), x % y
        pairs += np.hypot(x, y), np.hypot(y, x[::-1])
        return *pairs, np.sign(x), np.signbit(x), np.nan_to_num(x), np.isclose(x, y), x // y

    assert_like_numpy(fn, (x, y))


def test_ufunc_methods_at_the_edges():
    x = np.array([[0.0, -2.0, 1.0], [0.0, 0.0, 3.0]])
    n = x.astype(int)
    assert_like_numpy(lambda x: np.logical_and.accumulate(x, axis=1), (x,))
    assert_like_numpy(lambda x: np.logical_xor.reduceat(x, [1, 0, 1], axis=1), (x,))
    assert_like_numpy(lambda x: np.logical_xor.reduce(x, axis=0, initial=2.0), (x,))
    assert_like_numpy(lambda n: np.bitwise_or.reduce(n[:0], axis=0, keepdims=True), (n,))
    assert_like_numpy(lambda x: np.hypot.reduce(x[0, 1:2]), (x,))
    assert_like_numpy(lambda x: np.logical_or.reduceat(x, [1, 0]), (x,))
    with pytest.raises(ShapeError, match="over one axis"):
        gc.interpret(lambda x: np.subtract.reduce(x, axis=None))(x)
    with pytest.raises(DTypeError, match="of float64 values is bool"):
        gc.interpret(lambda x: np.greater.accumulate(x))(x)


@pytest.mark.parametrize("dtype", ["int8", "int64"])
def test_remainders_of_the_least_integer(dtype):
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = np.array([least, least + 1, -7, -1, 1, 3, 7, most - 1, most], dtype)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    assert_like_numpy(lambda x, y: (np.fmod(x, y), np.remainder(x, y)), (x, y))


def test_every_supported_function_is_named_in_a_case():
    text = " ".join(CASES) + UNARY + BINARY
    coverage = Path(__file__).parents[1] / "numpy_coverage" / "coverage_cases.py"
    text += coverage.read_text(encoding="utf-8")
    free = {"fill_diagonal", "copyto", "result_type", "iscomplexobj", "isrealobj", "isreal"}
    free |= {"getitem", "setitem", "imag", "astype", "real", "arccosh", "matmul", "invert"}
    free |= {"bitwise_and", "bitwise_or", "bitwise_xor", "matrix_transpose", "unstack", "vecdot"}
    free |= {
        "matvec",
        "vecmat",
        "vector_norm",
        "permute_dims",
        "size",
        "divmod",
        "row_stack",
        "logaddexp_reduce",
        "sort_complex",
        "histogram_bin_edges",
    }
    shown = {public_name(f) for f in FUNCTIONS}  # np.linalg has cases of its own
    names = {name.rsplit(".", 1)[-1] for name in shown if not name.startswith("np.linalg.")}
    assert not sorted(n for n in names - free if n not in text)
