"""One corpus of small user programs in plain NumPy, crossed with many modes by the tests.

``PROGRAMS`` lists them. ``program.args(dtype)`` makes the arguments: arrays named by ``normal``
and ``positive`` come in that dtype, integer arguments stay integers. ``program.smooth`` says that
the gradient by every floating argument exists at these arguments (no kinks, no ties).
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

FLOATS = ("float32", "float64")
NUMBERS = (*FLOATS, "int32", "int64")


@dataclasses.dataclass(frozen=True)
class Arg:
    """How to draw one argument."""

    kind: str
    shape: tuple[int, ...] = ()
    high: int = 0

    __graphc_leaf__ = True

    def draw(self, rng: np.random.Generator, dtype: str):
        if self.kind == "index":
            return rng.integers(0, self.high, self.shape)
        if self.kind == "bool":
            return rng.random(self.shape) < 0.5
        values = rng.normal(size=self.shape)
        if self.kind == "positive":
            values = np.abs(values) + 0.5
        if np.dtype(dtype).kind in "iu":
            values = np.round(values * 3) + (self.kind == "positive")
        return np.asarray(values, dtype)


def normal(*shape):
    return Arg("normal", shape)


def positive(*shape):
    return Arg("positive", shape)


def index(*shape, high):
    return Arg("index", shape, high)


def booleans(*shape):
    return Arg("bool", shape)


@dataclasses.dataclass(frozen=True)
class Program:
    name: str
    fn: Callable
    drawn: tuple
    dtypes: tuple[str, ...]
    smooth: bool

    def args(self, dtype: str = "float64") -> tuple:
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return tuple(_draw(a, rng, dtype) for a in self.drawn)

    def __repr__(self) -> str:
        return self.name


def _draw(tree, rng, dtype):
    if isinstance(tree, Arg):
        return tree.draw(rng, dtype)
    if isinstance(tree, dict):
        return {k: _draw(v, rng, dtype) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_draw(v, rng, dtype) for v in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(_draw(v, rng, dtype) for v in tree)
    if dataclasses.is_dataclass(tree):
        fields = {f.name: getattr(tree, f.name) for f in dataclasses.fields(tree)}
        return type(tree)(**{k: _draw(v, rng, dtype) for k, v in fields.items()})
    return tree


PROGRAMS: list[Program] = []


def program(*drawn, dtypes=FLOATS, smooth=True):
    def register(fn):
        PROGRAMS.append(Program(fn.__name__, fn, drawn, dtypes, smooth))
        return fn

    return register


# ------------------------------------------------------------------------- machine learning


@program({"W1": normal(3, 8), "b1": normal(8), "W2": normal(8, 2), "b2": normal(2)},
         normal(5, 3), normal(5, 2))  # fmt: skip
def mlp_mse(params, x, y):
    h = np.tanh(x @ params["W1"] + params["b1"])
    p = h @ params["W2"] + params["b2"]
    return np.mean((p - y) ** 2)


@program({"W": normal(4, 3), "b": normal(3)}, normal(6, 4), index(6, high=3))
def softmax_cross_entropy(params, x, labels):
    logits = x @ params["W"] + params["b"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return -np.mean(logp[np.arange(6), labels])


@program({"W": normal(4, 3), "b": normal(3)}, normal(6, 4), index(6, high=3))
def cross_entropy_take_along(params, x, labels):
    logits = x @ params["W"] + params["b"]
    peak = np.max(logits, axis=-1, keepdims=True)
    lse = peak[:, 0] + np.log(np.exp(logits - peak).sum(axis=-1))
    chosen = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return (lse - chosen).mean()


@program(normal(5, 4), index(5, high=4))
def cross_entropy_one_hot(logits, labels):
    onehot = labels[:, None] == np.arange(4)
    lse = np.log(np.exp(logits).sum(axis=1))
    return np.mean(lse - np.where(onehot, logits, 0).sum(axis=1))


@program([(normal(3, 6), normal(6)), (normal(6, 6), normal(6)), (normal(6, 1), normal(1))],
         normal(7, 3))  # fmt: skip
def relu_layers(layers, x):
    for i, (w, b) in enumerate(layers):
        x = np.dot(x, w) + b
        if i < len(layers) - 1:
            x = np.maximum(x, 0)
    return x


@program(normal(6, 5), positive(5), normal(5))
def layer_norm(x, gain, bias):
    mean = x.mean(axis=-1, keepdims=True)
    spread = x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(spread + 1e-5) * gain + bias


@program(normal(8, 4), positive(4), normal(4))
def batch_norm(x, gain, bias):
    return gain * (x - np.mean(x, 0)) / np.std(x, 0, ddof=1) + bias


@program(normal(2, 5, 4), {"q": normal(4, 3), "k": normal(4, 3), "v": normal(4, 3)})
def attention(x, w):
    q, k, v = x @ w["q"], x @ w["k"], x @ w["v"]
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    scores = np.where(np.tril(np.ones((5, 5), bool)), scores, -1e9)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


@program(normal(2, 4, 3, 5), normal(2, 4, 3, 5))
def attention_einsum(q, k):
    return np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(5)


@program(normal(3, 4), normal(4, 4), normal(5, 3), normal(4))
def recurrent(w_in, w, xs, h):
    for x in xs:
        h = np.tanh(h @ w + x @ w_in)
    return h


@program(normal(6), normal(3))
def convolve_valid(x, kernel):
    return sum(kernel[i] * x[i : i + 4] for i in range(3))


@program(normal(2, 6, 6), normal(3, 3))
def conv2d_windows(images, kernel):
    rows = [images[:, i : i + 4, j : j + 4] * kernel[i, j] for i in range(3) for j in range(3)]
    return np.maximum(np.sum(np.stack(rows), axis=0), 0)


@program(normal(2, 4, 6))
def max_pool(x):
    return x.reshape(2, 2, 2, 3, 2).max(axis=(2, 4))


@program(normal(10, 3), index(4, high=10))
def embedding_bag(table, tokens):
    return table[tokens].mean(axis=0)


@program(normal(6, 4), normal(6))
def hinge_loss(x, y):
    w = np.array([0.5, -0.25, 1.0, 2.0], x.dtype)
    return np.maximum(0, 1 - np.sign(y) * (x @ w)).sum()


@program(normal(8), normal(8))
def huber(p, y):
    d = np.abs(p - y)
    return np.where(d < 1.0, 0.5 * d**2, d - 0.5).mean()


@program(normal(8), booleans(8))
def binary_cross_entropy(z, y):
    return np.mean(np.logaddexp(0, z) - y * z)


@program(normal(5, 3))
def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@program({"w": normal(4), "m": normal(4), "v": positive(4)}, normal(4))
def adam_step(state, g):
    m = 0.9 * state["m"] + 0.1 * g
    v = 0.999 * state["v"] + 0.001 * g**2
    return {"w": state["w"] - 1e-3 * m / (np.sqrt(v) + 1e-8), "m": m, "v": v}


# ------------------------------------------------------------------------ scientific models


@program(positive(20), normal(3))
def gaussian_peak(x, p):
    return p[0] * np.exp(-0.5 * ((x - p[1]) / p[2]) ** 2)


@program(normal(3))
def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@program(normal(4, 2))
def pairwise_distances(points):
    d = points[:, None, :] - points[None, :, :]
    return np.sqrt(np.sum(d**2, axis=-1) + 1e-3)


@program(normal(5, 3), positive())
def rbf_kernel(x, scale):
    squared = np.sum(x * x, 1)[:, np.newaxis] + np.sum(x * x, 1) - 2 * x @ x.T
    return np.exp(-squared / (2 * scale**2))


@program(normal(2), positive())
def pendulum_rk4(state, dt):
    def f(s):
        return np.stack([s[1], -np.sin(s[0])])

    for _ in range(3):
        k1 = f(state)
        k2 = f(state + 0.5 * dt * k1)
        k3 = f(state + 0.5 * dt * k2)
        k4 = f(state + dt * k3)
        state = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


@program(normal(6, 6))
def heat_step(u):
    inner = u[1:-1, 1:-1]
    flow = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4 * inner
    return np.pad(inner + 0.1 * flow, 1)


@program(normal(5), positive())
def wave_roll(u, c):
    return u + c * (np.roll(u, 1) - 2 * u + np.roll(u, -1))


@program(positive(4), positive(4))
def hypotenuse_angle(x, y):
    return np.hypot(x, y), np.arctan2(y, x), np.degrees(np.arctan(y / x))


@program(positive(6))
def logs_and_roots(x):
    return np.log(x) + np.log1p(x) + np.log2(x) * np.log10(x) + np.sqrt(x) + np.cbrt(x) + x**-0.5


@program(normal(6))
def exponentials(x):
    return np.exp(x) + np.expm1(x) + np.exp2(x) + np.sinh(x) * np.cosh(x) - np.tanh(x)


@program(normal(6))
def inverse_functions(x):
    u = x / (1 + np.abs(x))
    return np.arcsin(u) + np.arccos(u) + np.arctanh(u) + np.arcsinh(x) + np.arccosh(2 + u)


@program(normal(7))
def polynomial(x):
    return np.polyval([2.0, -1.0, 0.5, 3.0], x)


@program(normal(5, 9), positive(9))
def trapezoid_rule(y, x):
    return ((y[:, 1:] + y[:, :-1]) / 2 * np.diff(np.cumsum(x))).sum(-1)


@program(normal(3, 3), normal(3))
def quadratic_form(a, x):
    return x @ a @ x + np.trace(a) - np.dot(np.diagonal(a), x)


@program(normal(4), normal(4), dtypes=NUMBERS)
def vector_products(a, b):
    return np.dot(a, b), np.inner(a, b), np.vdot(a, b), np.outer(a, b), a @ b


@program(normal(2, 3, 4), normal(4, 5), dtypes=NUMBERS)
def stacked_matmul(a, b):
    return np.matmul(a, b), np.tensordot(a, b, 1), np.dot(a, b)


@program(normal(3, 1, 2, 4), normal(5, 4, 2), dtypes=NUMBERS)
def broadcast_matmul(a, b):
    return a @ b


@program(normal(3, 4), normal(4, 5), normal(5, 2), dtypes=NUMBERS)
def einsum_chain(a, b, c):
    return np.einsum("ij,jk,kl->il", a, b, c), np.einsum("ij,jk", a, b)


@program(normal(3, 3), normal(3, 3), dtypes=NUMBERS)
def einsum_forms(a, b):
    return (
        np.einsum("ii", a),
        np.einsum("ii->i", a),
        np.einsum("ij,ij->", a, b),
        np.einsum("i...,j...->ij...", a, b),
        np.einsum("ij->ji", a),
    )


@program(normal(2, 3, 4), normal(4, 3, 5), dtypes=NUMBERS)
def tensordot_axes(a, b):
    return np.tensordot(a, b, axes=([1, 2], [1, 0]))


@program(normal(3, 4))
def norms(x):
    return (
        np.linalg.norm(x),
        np.linalg.norm(x, axis=1),
        np.linalg.norm(x, 1, axis=0, keepdims=True),
        np.linalg.norm(x, np.inf, axis=-1),
        np.linalg.norm(x, "fro"),
    )


# ------------------------------------------------------------------------------- reductions


@program(normal(3, 4), dtypes=NUMBERS)
def sums(x):
    return np.sum(x), x.sum(0), x.sum(axis=(0, 1), keepdims=True), np.prod(x[0]), np.mean(x, 1)


@program(normal(3, 4), dtypes=NUMBERS)
def spreads(x):
    return np.var(x), x.std(axis=0), np.var(x, 1, ddof=1, keepdims=True), np.ptp(x, axis=1)


@program(normal(3, 4), dtypes=NUMBERS, smooth=False)
def extremes(x):
    return (
        x.max(),
        np.min(x, axis=1),
        np.argmax(x, axis=0),
        x.argmin(),
        np.amax(x, -1, keepdims=True),
    )


@program(normal(3, 4), dtypes=NUMBERS, smooth=False)
def truths(x):
    return np.any(x > 0, axis=0), (x > 0).all(), np.count_nonzero(x > 0, axis=1), (x > 0).sum()


@program(normal(5), positive(5))
def weighted_mean(x, w):
    return np.average(x, weights=w), np.sum(x * w) / w.sum(), (x * w).sum() / x.size


@program(normal(4, 3))
def logsumexp(x):
    peak = np.max(x, axis=1, keepdims=True)
    return np.squeeze(peak, 1) + np.log(np.sum(np.exp(x - peak), axis=1))


@program(normal(3, 5), dtypes=NUMBERS)
def running_totals(x):
    return np.cumsum(x, axis=1), np.cumsum(x), np.diff(x, axis=0), np.add.reduce(x, axis=1)


# -------------------------------------------------------------------------------- shapes


@program(normal(2, 3, 4), dtypes=NUMBERS)
def reshapes(x):
    return (
        x.reshape(6, -1),
        x.ravel(),
        x.T,
        x.transpose(1, 0, 2),
        np.moveaxis(x, 0, -1),
        x.flatten(),
    )


@program(normal(3), normal(3), dtypes=NUMBERS)
def joins(a, b):
    return (
        np.concatenate([a, b]),
        np.stack([a, b], axis=1),
        np.vstack((a, b)),
        np.hstack((a, b)),
        np.column_stack((a, b)),
    )


@program(normal(4, 6), dtypes=NUMBERS)
def splits(x):
    left, right = np.split(x, 2, axis=1)
    first, *rest = np.array_split(x, 3)
    return left * right, first, rest[1]


@program(normal(2, 3), dtypes=NUMBERS)
def repeats(x):
    return np.tile(x, (2, 2)), np.repeat(x, 3, axis=1), np.flip(x, 1), np.broadcast_to(x, (4, 2, 3))


@program(normal(3, 4), dtypes=NUMBERS)
def pads(x):
    return (
        np.pad(x, ((1, 2), (0, 1)), constant_values=2),
        np.pad(x, 1, mode="edge"),
        np.pad(x, ((2, 1), (1, 3)), mode="reflect"),
    )


@program(normal(4, 4), dtypes=NUMBERS)
def triangles(x):
    return np.tril(x), np.triu(x, 1), np.diag(x), np.diag(x[0])


@program(normal(3, 1), dtypes=NUMBERS)
def single_axes(x):
    return np.squeeze(x, 1), np.expand_dims(x, (0, -1)), np.atleast_2d(x[:, 0]), x[None, ..., 0]


@program(normal(3, 4))
def slice_then_reshape(x):
    return x[:, 1:3].reshape(-1) * 2


# -------------------------------------------------------------------------------- indexing


@program(normal(5, 6), dtypes=NUMBERS)
def basic_indexing(x):
    return x[1], x[-1, 2:], x[::2, ::-1], x[..., 0], x[1:4, None, -3:-1], x[3, 4]


@program(normal(5, 6), dtypes=NUMBERS)
def constant_indexing(x):
    rows = np.array([0, -1, 2])
    return x[rows], x[:, rows], x[rows, rows], x[[1, 2], 3], x[np.ix_([0, 1], [2, 4, 5])]


@program(normal(4, 3, 5), dtypes=NUMBERS)
def separated_indexing(x):
    i = np.array([0, 1])
    return x[i, :, i], x[0, :, i], x[:, 0, i], x[np.array([True, False, True, True])], x[:, [0], 1]


@program(normal(5, 4), index(3, high=5), index(3, high=4), dtypes=NUMBERS)
def traced_indexing(x, i, j):
    return x[i], x[i, j], x[:, j - 4], x[i[0]], np.take(x, j, axis=1), x[i, 1:3]


@program(normal(4, 3), normal(2), dtypes=NUMBERS)
def in_place_updates(x, v):
    y = x.copy()
    y[0] = 0
    y[1:3, :2] += v
    y[:, -1] *= 2
    y[::2, 0] = 7
    row = y[3]
    row -= 1
    return y


@program(normal(5), smooth=False)
def masked_update(x):
    y = x * 1
    y[y < 0] = 0
    y[np.array([0, 2])] = 1
    return y


@program(normal(4, 3), index(4, high=3), dtypes=NUMBERS, smooth=False)
def compare_and_choose(x, k):
    chosen = np.select([x > 1, x < -1], [x, -x], 0)
    return chosen, np.where(k[:, None] == 1, x, 2), np.clip(x, -1, 1)


@program(normal(6), smooth=False)
def rounding(x):
    return np.round(x, 1), np.floor(x), np.ceil(x), np.trunc(x), np.rint(x * 3), np.sign(x)


@program(normal(5), positive(5), smooth=False, dtypes=NUMBERS)
def divisions(x, y):
    return x / y, x // y, x % y, np.fmod(x, y), divmod(x, y), np.remainder(x, y)


@program(normal(5), normal(5), smooth=False, dtypes=NUMBERS)
def comparisons(x, y):
    both = (x < y) & (x != 0)
    return both, (x >= y) | ~both, np.logical_xor(x > 0, y > 0), np.maximum(x, y), np.fmin(x, y)


@program(normal(5), dtypes=NUMBERS, smooth=False)
def integer_powers(x):
    return x**2, x**3, np.square(x), np.abs(x), -x, +x, np.power(x, 4)


# --------------------------------------------------------------------------------- pytrees


class Dense(NamedTuple):
    w: object
    b: object


@dataclasses.dataclass
class Model:
    layers: list
    scale: object


@program(Model([Dense(normal(3, 4), normal(4)), Dense(normal(4, 2), normal(2))], normal()),
         normal(5, 3))  # fmt: skip
def dataclass_model(model, x):
    for layer in model.layers:
        x = np.sin(x @ layer.w + layer.b)
    return model.scale * x, {"norm": np.sqrt((x**2).sum()), "none": None}


@program(normal(4), 2.0, 3)
def python_numbers(x, scale, power):
    y = x * scale + power
    return y, scale * power, np.exp(scale) * x, power // 2, scale**2


@program(normal(3, 4))
def constants_and_sizes(x):
    table = np.linspace(0, 1, 4)
    n, d = x.shape
    return (x * table.astype(x.dtype)).reshape(n * d), x.sum() / n, np.ones((n, d), x.dtype) - x


@program(normal(4, 3), dtypes=NUMBERS)
def sharing(x):
    a = x + 1
    return [a, a * (x + 1), (a, x)]
