"""Sparse Jacobians: patterns read from the graph, colours, values against dense ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import graphc as gc
from graphc import interp
from graphc.ad.reverse import vjp
from graphc.ad.sparsity import colour_columns, pattern
from graphc.errors import GradientError, OptionError, SymbolicDimError
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type

sparse = pytest.importorskip("scipy.sparse")

RNG = np.random.default_rng(0)
N = 6
X = RNG.uniform(0.3, 0.9, N)
GRID = RNG.uniform(0.3, 0.9, (3, 4))
W = RNG.standard_normal((4, N))
BAND = np.array([[1.0, 2, 0], [0, 3, 4]])


def heat(x):
    """A nonlinear tridiagonal system."""
    left = np.concatenate([np.zeros(1), x[:-1]])
    right = np.concatenate([x[1:], np.zeros(1)])
    return right - 2 * np.sin(x) + left**2


def upwind(g):
    return g[1:, :] * g[:-1, :] + np.roll(g, 1, axis=1)[1:, :]


# name -> function, argument, whether the pattern has no entry too many
PROGRAMS = {
    "heat": (heat, X, True),
    "elementwise": (lambda x: np.exp(x) * x - 1, X, True),
    "diff": (np.diff, X, True),
    "flip": (lambda x: x[::-1] * x, X, True),
    "steps": (lambda x: x[::2] - x[1::2] ** 2, X, True),
    "take": (lambda x: x[np.array([3, 0, 0])] * x[:3], X, True),
    "stop": (lambda x: gc.stop_gradient(x[0]) * x, X, True),
    "ceil": (lambda x: np.ceil(x[0]) * x, X, True),
    "where": (lambda x: np.where(x[::-1] > 0.5, x, 2.0), X, False),
    "constant rows": (lambda x: np.concatenate([np.ones(2), x[1:3] ** 2]), X, True),
    "row sums": (lambda g: (g**2).sum(1), GRID, True),
    "column maxima": (lambda g: np.max(g, axis=0), GRID, False),
    "scaled rows": (lambda g: g * g.sum(1, keepdims=True), GRID, True),
    "transpose": (lambda g: np.sin(g).T, GRID, True),
    "stencil": (upwind, GRID, True),
    "dense layer": (lambda x: np.tanh(W @ x), X, True),
    "band matrix": (lambda x: BAND @ x[:3], X, False),  # values play no part
    "gram": (lambda g: g @ g.T, GRID, True),
    "one number": (lambda x: (x[1:3] ** 2).sum(), X, True),
    "no entries": (lambda x: np.ones(3) + np.floor(x[:3]), X, True),
    "arrow": (lambda x: x * x[0] + np.concatenate([x.sum()[None], np.zeros(N - 1)]), X, True),
    "picked by data": (lambda x: x[np.argmax(x)] * x, X, False),
    "cumsum": (lambda x: np.cumsum(x)[:3] * x[:3], X, False),
    "batch": (lambda g: gc.vmap(lambda row: np.diff(row) * row[0])(g), GRID, True),
}
IDS = list(PROGRAMS)


def dense_of(fn, x):
    found = gc.interpret(gc.jacobian(fn))(x)
    return np.reshape(found, (-1, x.size))


def sparse_of(fn, x):
    """Through the interpreter: nothing is compiled."""
    jacobian = gc.jacobian(fn, sparse=True)
    jacobian.entries = gc.interpret(jacobian.entries)
    return jacobian(x), jacobian.sweeps


@pytest.mark.parametrize("name", IDS)
def test_values_are_those_of_the_dense_matrix(name):
    fn, x, exact = PROGRAMS[name]
    found, _ = sparse_of(fn, x)
    dense = dense_of(fn, x)
    assert isinstance(found, sparse.csr_array) and found.shape == dense.shape
    np.testing.assert_allclose(found.toarray(), dense, rtol=1e-12, atol=1e-14)
    if exact:
        assert found.nnz == np.count_nonzero(dense)


@pytest.mark.parametrize("name", ["heat", "stencil", "arrow", "gram", "no entries"])
def test_native(name):
    fn, x, _ = PROGRAMS[name]
    found = gc.jacobian(fn, sparse=True)(x)
    np.testing.assert_allclose(found.toarray(), dense_of(fn, x), rtol=1e-12, atol=1e-14)


def test_a_tridiagonal_matrix_of_10000_takes_3_sweeps():
    n = 10_000
    x = np.random.default_rng(0).standard_normal(n)
    jacobian = gc.jacobian(heat, sparse=True)
    found = jacobian(x)
    assert jacobian.sweeps == 3
    assert found.shape == (n, n) and found.nnz == 3 * n - 2
    np.testing.assert_allclose(found.diagonal(), -2 * np.cos(x))
    np.testing.assert_allclose(found.diagonal(1), np.ones(n - 1))
    np.testing.assert_allclose(found.diagonal(-1), 2 * x[:-1])


def test_nothing_of_the_full_size_is_computed():
    jacobian = gc.jacobian(heat, sparse=True)
    graph = jacobian.entries.graph(np.ones(1000))
    assert max(node.type.size for node in graph.order) <= 3 * 1000


def test_few_results_are_coloured_by_rows():
    """A dense row needs as many columns as it has entries, but is one row."""
    _, sweeps = sparse_of(lambda x: np.stack([x.sum(), (x[:2] ** 2).sum()]), X)
    assert sweeps == 2


def test_hessians():
    def chain(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    found, sweeps = sparse_of(gc.grad(chain), X)
    assert sweeps == 3
    np.testing.assert_allclose(found.toarray(), gc.interpret(gc.hessian(chain))(X))


def test_trees_arguments_and_auxiliary_values():
    def f(p, y, k=2.0):
        return {"a": p["u"] * y, "b": (np.diff(p["v"]) * k,)}, y.sum()

    params = {"u": X, "v": X[:4]}
    jacobian = gc.jacobian(f, argnums=(0, 1), has_aux=True, sparse=True)
    found, aux = jacobian(params, 2 * X, k=3.0)
    np.testing.assert_allclose(aux, 2 * X.sum())
    by_p, by_y = found["a"]
    np.testing.assert_allclose(by_p["u"].toarray(), np.diag(2 * X))
    assert by_p["v"].nnz == 0 and by_p["v"].shape == (6, 4)
    np.testing.assert_allclose(by_y.toarray(), np.diag(X))
    expected = 3 * np.diff(np.eye(4), axis=0)
    np.testing.assert_allclose(found["b"][0][0]["v"].toarray(), expected)


def test_another_size_is_another_pattern():
    jacobian = gc.jacobian(heat, sparse=True)
    for n in (5, 8):
        x = RNG.standard_normal(n)
        np.testing.assert_allclose(jacobian(x).toarray(), dense_of(heat, x))


# ------------------------------------------------------------------------ pattern of each op


def graph_pattern(fn, shape):
    x = build.input(0, "x", tensor_type("float64", shape))
    return pattern(fn(x), x).toarray()


def probed(fn, shape):
    """What the adjoint finds at random values."""
    x = build.input(0, "x", tensor_type("float64", shape))
    ct = build.input(1, "ct", fn(x).type)
    graph = Graph("f", (x, ct), tuple(vjp([fn(x)], [ct], [x])))
    count = ct.type.size
    values = RNG.uniform(0.5, 1, shape)
    rows = [
        interp.evaluate(graph, [values, row.reshape(ct.shape)])[0].ravel() for row in np.eye(count)
    ]
    return np.array(rows) != 0


INDEX = np.array([[2, 0], [1, 1]])
OPS = {
    "pad": lambda x: build.pad(x, (1, 0), (0, 2), (0, 1)),
    "pad by data": lambda x: build.pad(
        build.full((2,), 0, "float64"), (1,), (2,), (0,), build.reduce("sum", x, (0, 1))
    ),
    "slice": lambda x: build.slice_(x, (2, 1), (2, 2), (-1, 2)),
    "windows": lambda x: build.windows(x, 1, 2, 2),
    "broadcast": lambda x: build.broadcast(x, (2, 3, 4), (1, 2)),
    "concat": lambda x: build.concat((x, build.full((1, 4), 1, "float64"), x), 0),
    "take": lambda x: build.take(x, build.const(INDEX), 1),
    "take along": lambda x: build.take_along(x, build.const(INDEX[:, :1].repeat(4, 1)), 0),
    "scatter": lambda x: build.scatter_add(build.const(np.array([4, 0, 4])), x, 0, 5),
    "prod": lambda x: build.reduce("prod", x, (0,)),
    "matmul": lambda x: build.matmul(x, build.const(RNG.standard_normal((4, 2)))),
    "matmul flags": lambda x: build.matmul(build.const(np.ones((3, 2))), x, 1, 0),
    "matmul transposed": lambda x: build.matmul(build.const(np.ones((2, 4))), x, 0, 1),
    "both": lambda x: build.matmul(x, build.elementwise("exp", x), 0, 1),
    "batched": lambda x: build.matmul(build.reshape(x, (3, 2, 2)), build.const(np.ones((3, 2, 1)))),
}


@pytest.mark.parametrize("name", OPS)
def test_pattern_of_an_op_is_exact(name):
    np.testing.assert_array_equal(graph_pattern(OPS[name], (3, 4)), probed(OPS[name], (3, 4)))


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        # Rows 0 and 1 of the result come from any row of x, in their own column.
        (lambda x, i: build.take(x, i, 0), np.tile(np.eye(2), (2, 2))),
        (lambda x, i: build.scatter_add(i, x, 0, 3), np.tile(np.eye(2), (3, 2))),
    ],
    ids=["take", "scatter"],
)
def test_an_index_that_is_data_may_pick_anything_on_its_axis(fn, expected):
    x = build.input(0, "x", tensor_type("float64", (2, 2)))
    i = build.input(1, "i", tensor_type("int64", (2,)))
    np.testing.assert_array_equal(pattern(fn(x, i), x).toarray(), expected)


def test_symbolic_sizes_are_refused():
    x = build.input(0, "x", tensor_type("float64", (symbol("n"),)))
    with pytest.raises(SymbolicDimError):
        pattern(x, x)


# ---------------------------------------------------------------------------------- colours


def test_no_two_columns_of_a_colour_meet():
    for density in (0.02, 0.1, 0.5):
        matrix = sparse.random_array((40, 30), density=density, rng=np.random.default_rng(1))
        structure = matrix.tocsr().astype(bool)
        colours = colour_columns(structure)
        for colour in range(colours.max() + 1):
            assert structure[:, np.flatnonzero(colours == colour)].sum(1).max(initial=0) <= 1


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_band_takes_its_width(width):
    offsets = list(range(-width, width + 1))
    band = sparse.diags_array([1.0] * len(offsets), offsets=offsets, shape=(50, 50))
    assert colour_columns(band.tocsr().astype(bool)).max() + 1 == 2 * width + 1


def test_no_columns_and_no_entries():
    assert colour_columns(sparse.csr_array((3, 0), dtype=bool)).size == 0
    assert colour_columns(sparse.csr_array((3, 4), dtype=bool)).max() == 0


# ----------------------------------------------------------------------------------- errors


def test_inside_a_traced_function_it_says_what_to_use():
    jacobian = gc.jacobian(heat, sparse=True)
    with pytest.raises(GradientError, match="without sparse=True"):
        gc.interpret(lambda x: jacobian(x))(X)


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(OptionError, match="pip install scipy"):
        gc.jacobian(heat, sparse=True)
