"""The matrix of a linear graph, against the graph applied to every basis vector."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import interp
from graphc.ad.linear import matrix
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.ir.verify import verify

RNG = np.random.default_rng(0)
N = 6
ROWS = RNG.standard_normal((N, 4))
PICKS = np.array([5, 0, 0, 3])


def e(op, *inputs):
    return build.elementwise(op, *inputs)


def vector_x(t):
    """Data like ``t``."""
    return build.input(0, "x", t.type)


def part(x, start, size, step=1):
    return build.slice_(x, (start,), (size,), (step,))


def differences(t):
    size = t.shape[0] - 1
    return e("sub", part(t, 1, size), part(t, 0, size))


def tridiagonal(t):
    """The adjoint of differences, scaled, of differences."""
    d = e("mul", differences(t), part(vector_x(t), 0, t.shape[0] - 1))
    return e("sub", build.pad(d, (1,), (0,)), build.pad(d, (0,), (1,)))


def overlap(t):
    """Parts that end on one diagonal, defined on different rows."""
    a = build.pad(part(t, 0, N - 2), (0,), (2,))
    b = build.pad(part(t, 1, N - 1), (1,), (0,))
    return e("add", e("mul", a, vector_x(t)), e("mul", b, b_scale(t)))


def b_scale(t):
    return e("exp", vector_x(t))


def masked(t, both=True):
    positive = e("gt", vector_x(t), build.full_like(t, 0))
    other = e("mul", t, vector_x(t)) if both else build.full_like(t, 0)
    return e("where", positive, t, other)


def zeros_and_ones(t):
    return build.cast(e("abs", e("sign", vector_x(t))), "int64")


def dense_and_diagonal(t):
    return e("add", t, build.broadcast(build.reduce("sum", t, (0,)), t.shape, ()))


def several(t):
    return e("add", e("add", t, flipped(t)), e("mul", flipped(t), vector_x(t)))


def many(t):
    rng, total = np.random.default_rng(0), t
    for _ in range(20):
        total = e("add", total, build.take(t, build.const(rng.permutation(N)), 0))
    return total


def flipped(t):
    return build.slice_(t, (N - 1,), (N,), (-1,))


def after_matrix(flags):
    def fn(t):
        column = build.reshape(t, (1, N) if flags[1] else (N, 1))
        a = build.const(ROWS if flags[0] else ROWS.T)
        product = build.matmul(a, column, *flags)
        return e("mul", product, build.full_like(product, 2))

    return fn


def before_matrix(flags):
    def fn(t):
        row = build.reshape(t, (N, 1) if flags[0] else (1, N))
        return build.matmul(row, build.const(ROWS.T if flags[1] else ROWS), *flags)

    return fn


def grid(t):
    return build.reshape(t, (2, 3))


def matrix_times_grid(flags):
    def fn(t):
        a = build.const(ROWS[:5, :2].T if flags[0] else ROWS[:5, :2])
        b = build.transpose(grid(t), (1, 0)) if flags[1] else grid(t)
        return build.matmul(a, b, *flags)

    return fn


def grid_times_matrix(flags):
    def fn(t):
        a = build.reshape(t, (3, 2)) if flags[0] else grid(t)
        b = build.const(ROWS[:5, :3] if flags[1] else ROWS[:3, :])
        return build.matmul(a, b, *flags)

    return fn


FLAGS = [(0, 0), (0, 1), (1, 0), (1, 1)]
CASES = (
    {
        "identity": lambda t: t,
        "scaled": lambda t: e("neg", e("div", e("mul", vector_x(t), t), b_scale(t))),
        "differences": differences,
        "tridiagonal": tridiagonal,
        "overlap": overlap,
        "flipped": flipped,
        "several terms": several,
        "masked": masked,
        "masked by zero": lambda t: masked(t, False),
        "sub from nothing": lambda t: e("sub", build.full_like(t, 0), t),
        "cast": lambda t: build.cast(build.cast(t, "float32"), "float64"),
        "steps": lambda t: part(t, 1, 3, 2),
        "interior padding": lambda t: build.pad(t, (1,), (0,), (2,)),
        "other fill": lambda t: e(
            "sub",
            build.pad(t, (1,), (0,), (0,), build.const(2.0)),
            build.pad(build.full_like(t, 0), (1,), (0,), (0,), build.const(2.0)),
        ),
        "windows": lambda t: build.windows(t, 0, 3, 2),
        "moving sums": lambda t: build.reduce("sum", build.windows(t, 0, 3), (1,)),
        "broadcast": lambda t: build.broadcast(t, (2, N, 3), (1,)),
        "grid": lambda t: build.transpose(grid(t), (1, 0)),
        "concat": lambda t: build.concat((t, build.full((2,), 0, t.dtype), differences(t)), 0),
        "take": lambda t: build.take(t, build.const(PICKS), 0),
        "take by data": lambda t: build.take(t, zeros_and_ones(t), 0),
        "take along": lambda t: build.take_along(
            grid(t), build.const(np.array([[2, 1], [0, 0]])), 1
        ),
        "scatter": lambda t: build.scatter_add(build.const(np.array([3, 1, 3, 0, 0, 2])), t, 0, 5),
        "sum": lambda t: build.reduce("sum", e("mul", t, vector_x(t)), (0,)),
        "sum of the front": lambda t: build.reduce("sum", part(t, 0, 3), (0,)),
        "row sums": lambda t: build.reduce("sum", grid(t), (1,)),
        "column sums": lambda t: build.reduce("sum", grid(t), (0,)),
        "sum of shifted": lambda t: build.reduce("sum", differences(t), (0,)),
        "dense twice": lambda t: build.matmul(build.const(ROWS), after_matrix((0, 0))(t)),
        "dense and diagonal": dense_and_diagonal,
        "many terms": many,
    }
    | {f"A t {f}": after_matrix(f) for f in FLAGS}
    | {f"t B {f}": before_matrix(f) for f in FLAGS}
)
CASES |= {f"A T {f}": matrix_times_grid(f) for f in FLAGS}
CASES |= {f"T B {f}": grid_times_matrix(f) for f in FLAGS}


def applied(fn, size, values, basis):
    t = build.input(1, "t", tensor_type("float64", (size,)))
    graph = Graph("f", (vector_x(t), t), (fn(t),))
    return np.stack([interp.evaluate(graph, [values, row])[0] for row in basis])


def matrix_graph(fn, size, basis_first):
    t = build.placeholder(0, 0, tensor_type("float64", (size,)))
    (found,) = matrix([fn(t)], t, basis_first=basis_first)
    return verify(Graph("f", (vector_x(t),), (found,)))


@pytest.mark.parametrize("basis_first", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_graph_at_every_basis_vector(name, basis_first):
    values = RNG.standard_normal(N)
    expected = applied(CASES[name], N, values, np.eye(N))
    if not basis_first:
        expected = np.moveaxis(expected, 0, -1)
    (found,) = interp.evaluate(matrix_graph(CASES[name], N, basis_first), [values])
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


SYMBOLIC = ["identity", "scaled", "differences", "tridiagonal", "masked", "sum", "take by data",
            "dense and diagonal"]  # fmt: skip


@pytest.mark.parametrize("name", SYMBOLIC)
def test_sizes_may_be_symbols(name):
    values = RNG.standard_normal(N)
    expected = np.moveaxis(applied(CASES[name], N, values, np.eye(N)), 0, -1)
    graph = matrix_graph(CASES[name], symbol("n"), False)
    (found,) = interp.evaluate(graph, [values])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def large(graph, size):
    """Nodes with as many elements as the matrix has."""
    return [n.op for n in graph.order if n.type.size >= size]


def test_work_before_the_result_is_on_vectors():
    graph = matrix_graph(tridiagonal, N, False)
    assert set(large(graph, N * N)) <= {"broadcast", "iota", "eq", "where"}
    assert large(graph, N * N).count("where") == 3  # one for each diagonal


def test_a_matrix_times_the_identity_is_the_matrix():
    for name in ("A t (0, 0)", "t B (0, 1)"):
        assert "matmul" not in {n.op for n in matrix_graph(CASES[name], N, False).order}


def test_infinite_slopes_stay_on_their_diagonal():
    values = np.array([1.0, -np.inf, np.nan, 0, 2, 3])
    (found,) = interp.evaluate(matrix_graph(lambda t: e("mul", t, vector_x(t)), N, False), [values])
    np.testing.assert_array_equal(found, np.diag(values))


def test_an_output_that_does_not_depend_has_none():
    t = build.placeholder(0, 0, tensor_type("float64", (3,)))
    assert matrix([vector_x(t), t], t)[0] is None


def test_shapes_of_several_axes():
    t = build.placeholder(0, 0, tensor_type("float64", (2, 3)))
    x = build.input(0, "x", tensor_type("float64", (2, 3)))
    columns = build.reduce("sum", e("mul", t, x), (0,))
    for first, shape in ((False, (3, 2, 3)), (True, (2, 3, 3))):
        (found,) = matrix([columns], t, basis_first=first)
        assert found.shape == shape
    values = RNG.standard_normal((2, 3))
    (dense,) = interp.evaluate(Graph("f", (x,), tuple(matrix([columns], t))), [values])
    np.testing.assert_allclose(dense, np.einsum("jk,ik->ijk", values, np.eye(3)))
