"""Jacobians and Hessians: programs against JAX in float64, trees, nesting, errors."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ad import transforms
from graphc.ad.jacobian import hessian, jacfwd, jacobian, jacrev
from graphc.ad.vmap import vmap
from graphc.errors import GradientError

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")

RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 0.9, 6)
W = RNG.standard_normal((4, 6))
GRID = RNG.uniform(0.3, 0.9, (3, 4))
PICKS = np.array([4, 0, 0, 2])


def run(fn, *args):
    return gc.interpret(fn)(*args)


def by_jax(make, *args):
    """``make(jnp, jax)`` is the function."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, make(jnp, jax)(*args))


def same(found, expected, rtol=1e-9):
    left, left_tree = jax.tree.flatten(found)
    right, right_tree = jax.tree.flatten(expected)
    assert left_tree == right_tree
    for a, b in zip(left, right, strict=True):
        assert np.shape(a) == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1, np.abs(b).max(initial=0)))


def rosenbrock(np):
    return lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def softmax(np):
    def f(x):
        e = np.exp(x - np.max(x))
        return e / e.sum()

    return f


def heat(np):
    """A nonlinear stencil with fixed ends."""

    def f(x):
        inner = (x[2:] - 2 * x[1:-1] + x[:-2]) * x[1:-1] ** 2
        return np.concatenate([x[:1] * 2, inner, x[-1:]])

    return f


# From a vector (or a grid) to anything: functions of a NumPy-like module.
VECTOR = {
    "elementwise": lambda np: lambda x: np.sin(x) * np.exp(-x) / (1 + x**2),
    "linear layer": lambda np: lambda x: np.tanh(W @ x + 1),
    "row vector": lambda np: lambda x: np.log(x @ W.T**2 + 2),
    "two layers": lambda np: lambda x: np.tanh(W.T @ np.tanh(W @ x)),
    "rosenbrock": rosenbrock,
    "rosenbrock gradient": lambda np: lambda x: 4 * x**3 - x[::-1],
    "softmax": softmax,
    "heat": heat,
    "flip and roll": lambda np: lambda x: np.roll(x, 2) * x[::-1],
    "steps": lambda np: lambda x: x[::2] * x[1::2],
    "outer": lambda np: lambda x: np.outer(x, np.sin(x)),
    "cumsum": lambda np: lambda x: np.cumsum(x**2),
    "norm": lambda np: lambda x: x / np.sqrt((x * x).sum()),
    "branches": lambda np: lambda x: np.where(x > 0.5, np.log(x), x * x) + np.maximum(x, 0.6),
    "extremes": lambda np: lambda x: np.max(x) * np.min(x) * x,
    "products": lambda np: lambda x: np.prod(x) + np.prod(x[:3]) * x,
    "take": lambda np: lambda x: x[PICKS] * x[:4],
    "matrix": lambda np: lambda x: np.reshape(x, (2, 3)) @ np.reshape(x, (3, 2)),
    "constant part": lambda np: lambda x: np.concatenate([np.ones(2), x * x]),
    "nothing": lambda np: lambda x: np.ones(3) + 0 * np.floor(x[:3]),
    "variance": lambda np: lambda x: np.var(x) * np.mean(x),
}
MATRIX = {
    "scaled rows": lambda np: lambda g: g * g.sum(1)[:, None],
    "transpose": lambda np: lambda g: np.sin(g).T,
    "gram": lambda np: lambda g: g @ g.T,
    "row softmax": lambda np: lambda g: np.exp(g) / np.exp(g).sum(1, keepdims=True),
    "row sums": lambda np: lambda g: (g**2).sum(0),
    "differences": lambda np: lambda g: np.diff(g, axis=1) * np.diff(g, axis=0)[:, :1].sum(),
    "total": lambda np: lambda g: np.tanh(g).sum() ** 2,
}
PROGRAMS = [(name, f, X) for name, f in VECTOR.items()]
PROGRAMS += [(name, f, GRID) for name, f in MATRIX.items()]
IDS = [name for name, _, _ in PROGRAMS]


@pytest.mark.parametrize("mode", [jacfwd, jacrev], ids=["forward", "reverse"])
@pytest.mark.parametrize(("name", "program", "x"), PROGRAMS, ids=IDS)
def test_jacobian(name, program, x, mode):
    same(run(mode(program(np)), x), by_jax(lambda np, jax: jax.jacfwd(program(np)), x))


@pytest.mark.parametrize(("name", "program", "x"), PROGRAMS, ids=IDS)
def test_hessian(name, program, x):
    same(run(hessian(program(np)), x), by_jax(lambda np, jax: jax.hessian(program(np)), x))


@pytest.mark.parametrize(("name", "program", "x"), PROGRAMS[::4], ids=IDS[::4])
def test_native(name, program, x):
    expected = by_jax(lambda np, jax: jax.jacfwd(program(np)), x)
    same(gc.compile(jacobian(program(np)))(x), expected)
    same(gc.compile(jacrev(program(np)))(x), expected)


@pytest.mark.parametrize("program", [rosenbrock, softmax], ids=["rosenbrock", "softmax"])
def test_native_hessian(program):
    same(gc.compile(hessian(program(np)))(X), by_jax(lambda np, jax: jax.hessian(program(np)), X))


def test_native_with_sizes_that_change():
    curvature, rows = gc.hessian(rosenbrock(np)), gc.vmap(gc.jacrev(softmax(np)))
    for n in (6, 3, 8):
        x = RNG.standard_normal(n)
        same(curvature(x), by_jax(lambda np, jax: jax.hessian(rosenbrock(np)), x))
        x = RNG.standard_normal((n, 4))
        same(rows(x), by_jax(lambda np, jax: jax.vmap(jax.jacrev(softmax(np))), x))
    assert len(curvature.compiles) == len(rows.compiles) == 2


# -------------------------------------------------------------------------------- nesting

NESTED = {
    "forward over reverse": lambda np, t: t.jacfwd(t.jacrev(softmax(np))),
    "reverse over forward": lambda np, t: t.jacrev(t.jacfwd(softmax(np))),
    "forward over forward": lambda np, t: t.jacfwd(t.jacfwd(heat(np))),
    "reverse over reverse": lambda np, t: t.jacrev(t.jacrev(heat(np))),
    "gradient of a trace": lambda np, t: t.grad(lambda x: np.trace(t.hessian(rosenbrock(np))(x))),
    "third derivatives": lambda np, t: t.jacfwd(t.hessian(lambda x: (np.sin(x) * x[::-1]).sum())),
    "jacobian of a batch": lambda np, t: t.jacfwd(
        lambda x: t.vmap(lambda w: np.tanh(w * x).sum())(W)
    ),
    "batch of jacobians": lambda np, t: lambda x: t.vmap(t.jacrev(heat(np)))(W * x),
    "batch of hessians": lambda np, t: lambda x: t.vmap(t.hessian(rosenbrock(np)))(W * x),
    "hessian of a batch": lambda np, t: t.hessian(
        lambda x: t.vmap(lambda w: np.sin(w @ x) * x[0])(W).sum()
    ),
    "batch of gradients of batches": lambda np, t: (
        lambda x: t.vmap(t.grad(lambda w: t.vmap(lambda y: np.tanh(w * y).sum())(x).sum()))(W)
    ),
}


class Ours:
    grad, vmap = staticmethod(transforms.grad), staticmethod(vmap)
    jacfwd, jacrev, hessian = staticmethod(jacfwd), staticmethod(jacrev), staticmethod(hessian)


@pytest.mark.parametrize("name", NESTED)
def test_nested(name):
    make = NESTED[name]
    same(run(make(np, Ours), X), by_jax(make, X), rtol=1e-8)


# ---------------------------------------------------------------------------------- trees


def tree_function(np):
    def f(params, x, scale):
        y = np.tanh(params["W"] @ x + params["b"][0])
        return {"y": y * scale, "parts": (y.sum(), x[:2])}

    return f


PARAMS = {"W": W, "b": (RNG.standard_normal(4), RNG.standard_normal(2))}


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1,)], ids=str)
@pytest.mark.parametrize("mode", ["jacfwd", "jacrev", "hessian"])
def test_trees_in_and_out(mode, argnums):
    found = run(getattr(Ours, mode)(tree_function(np), argnums), PARAMS, X, 2.0)
    expected = by_jax(
        lambda np, jax: getattr(jax, mode)(tree_function(np), argnums), PARAMS, X, 2.0
    )
    same(found, expected)


def test_numbers():
    found = run(jacobian(lambda x, y: (x * y, x**2), argnums=(0, 1)), 2.0, 3.0)
    assert found == ((3.0, 2.0), (4.0, 0.0))
    assert run(hessian(lambda x: x**3), 2.0) == 12.0


def test_auxiliary_values():
    def f(x):
        return x**2, {"kept": x.sum()}

    slopes, aux = run(jacobian(f, has_aux=True), X)
    np.testing.assert_allclose(slopes, np.diag(2 * X))
    np.testing.assert_allclose(aux["kept"], X.sum())
    curvature, aux = run(hessian(lambda x: ((x**3).sum(), x.sum()), has_aux=True), X)
    np.testing.assert_allclose(curvature, np.diag(6 * X))
    np.testing.assert_allclose(aux, X.sum())


def test_single_precision_stays():
    found = run(hessian(rosenbrock(np)), X.astype(np.float32))
    assert found.dtype == np.float32
    assert (
        run(jacobian(lambda x: x.astype(np.float64) * 2), X.astype(np.float32)).dtype == np.float32
    )


# ---------------------------------------------------------------------- what is computed


def ops_of(fn, *args):
    graph = gc.compile(fn).graph(*args)
    from graphc import passes

    return passes.optimize(graph)


def test_the_smaller_side_is_the_basis():
    """Reverse mode for few results: nothing as large as the square of the arguments."""
    graph = ops_of(jacobian(lambda x: np.stack([(x**2).sum(), np.exp(x).sum()])), np.ones(50))
    assert max(node.type.size for node in graph.order) <= 100


def test_the_hessian_of_a_chain_works_on_vectors():
    graph = ops_of(hessian(rosenbrock(np)), np.ones(50))
    large = [n.op for n in graph.order if n.type.size >= 2500]
    assert set(large) <= {"broadcast", "iota", "eq", "where"}
    assert not {"matmul", "sum"} & {n.op for n in graph.order}


def test_a_linear_layer_needs_no_identity():
    graph = ops_of(jacfwd(lambda x: np.tanh(W @ x)), X)
    assert "eq" not in {n.op for n in graph.order}
    assert sum(n.op == "matmul" for n in graph.order) <= 1


def test_infinite_slopes_stay_in_their_place():
    x = np.array([0.0, 1.0, 4.0])
    found = run(jacfwd(lambda x: np.log(x) * x[::-1]), x)
    expected = by_jax(lambda np, jax: jax.jacfwd(lambda x: np.log(x) * x[::-1]), x)
    assert np.isinf(found[0, 0]) and np.isnan(expected).sum() >= np.isnan(found).sum()
    np.testing.assert_allclose(found[1:], [[0, 1, 0], [np.log(4), 0, 0]])


# ---------------------------------------------------------------------------------- errors


def message(fn, *args):
    with pytest.raises(GradientError) as caught:
        run(fn, *args)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8 and "test_jacobian.py:" in text
    return text


@pytest.mark.parametrize("mode", [jacfwd, jacrev, jacobian, hessian])
def test_what_has_no_jacobian_is_named(mode):
    assert "output['n'] of `f`" in message(mode(named_f), X)
    assert "int64" in message(mode(lambda x: x * 2), np.arange(3))
    assert "None" in message(mode(lambda x: None), X)


def f(x):
    return {"y": x * 2.0, "n": np.argmax(x)}


named_f = f
