"""What follows a matrix product runs over the blocks of rows that it computes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from generated import assert_same, native_run, python_run

import graphc as gc
from graphc import interp, passes
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.parser import parse
from graphc.ir.types import tensor_type
from graphc.schedule import schedule
from graphc.schedule.loops import LoopKernel, Product, statements

E = build.elementwise


def matrix(index, *shape, dtype=np.float32):
    return build.input(index, f"x{index}", tensor_type(dtype, shape))


def row(node, like):
    return build.broadcast(node, like.shape, (like.ndim - 1,))


def products(made):
    return [
        s for k in made.kernels if isinstance(k, LoopKernel)
        for s in statements(k.body) if isinstance(s, Product)
    ]  # fmt: skip


def activation(m, n, k, ta=0, tb=0):
    a = matrix(0, *((k, m) if ta else (m, k)))
    b = matrix(1, *((n, k) if tb else (k, n)))
    bias = matrix(2, n)
    z = build.matmul(a, b, ta, tb)
    return Graph("f", (a, b, bias), (E("tanh", E("add", z, row(bias, z))),))


def softmax_and_column_sums(m, n, k):
    """Rows are reduced, read again, and added up over all rows; the product is an output too."""
    a, b = matrix(0, m, k), matrix(1, k, n)
    z = build.matmul(a, b)
    top = build.broadcast(build.reduce("max", z, (1,)), z.shape, (0,))
    e = E("exp", E("sub", z, top))
    p = E("div", e, build.broadcast(build.reduce("sum", e, (1,)), z.shape, (0,)))
    return Graph("f", (a, b), (p, build.reduce("sum", p, (0,)), z))


def attention(b, t, d):
    q, k, v = (matrix(i, b, t, d) for i in range(3))
    scores = build.matmul(q, k, 0, 1)
    e = E("exp", scores)
    p = E("div", e, build.broadcast(build.reduce("sum", e, (2,)), e.shape, (0, 1)))
    return Graph("f", (q, k, v), (build.matmul(p, v),))


def gates(m, n, k):
    """Two products in one kernel."""
    x, h, w, u = matrix(0, m, k), matrix(1, m, n), matrix(2, k, n), matrix(3, n, n)
    z = E("add", build.matmul(x, w), build.matmul(h, u))
    return Graph("f", (x, h, w, u), (E("sigmoid", z),))


def update(m, n, k):
    """A gradient product and the update of what is donated."""
    x, g, w, mean = matrix(0, k, m), matrix(1, k, n), matrix(2, m, n), matrix(3, m, n)
    dw = build.matmul(x, g, 1, 0)
    mean_after = E("add", E("mul", mean, build.full_like(mean, 0.5)), dw)
    w_after = E("sub", w, E("sqrt", E("abs", mean_after)))
    return Graph("f", (x, g, w, mean), (w_after, mean_after), {}, {0: 2, 1: 3})


def chain(m, widths, tb=0):
    """Layers whose rows one kernel computes, the last product of a product."""
    h = x = matrix(0, m, widths[0])
    weights = []
    for k, n in itertools.pairwise(widths):
        w = matrix(len(weights) + 1, *((n, k) if tb else (k, n)))
        h = E("tanh", build.matmul(h, w, 0, tb))
        weights.append(w)
    last = matrix(len(weights) + 1, widths[-1], 3)
    return Graph("f", (x, *weights, last), (build.matmul(build.matmul(h, last), last, 0, 1), h))


def training(m, k, n, out):
    """Two layers, forwards and backwards; both weights' gradients are sums over the rows."""
    x, w, v, y = matrix(0, m, k), matrix(1, k, n), matrix(2, n, out), matrix(3, m, out)
    h = E("tanh", build.matmul(x, w))
    error = E("sub", build.matmul(h, v), y)
    back = E("mul", build.matmul(error, v, 0, 1), E("sub", build.full_like(h, 1.0), E("mul", h, h)))
    loss = build.reduce("sum", E("mul", error, error), (0, 1))
    dv, dw = build.matmul(h, error, 1, 0), build.matmul(x, back, 1, 0)
    return Graph("f", (x, w, v, y), (loss, dw, dv, build.reduce("sum", back, (0,))))


def sums_of_reshaped(b, t, d, n):
    """The operands of a sum over rows are arrays of more axes."""
    x, g = matrix(0, b, t, d), matrix(1, b, t, n)
    rows = [build.reshape(E("tanh", i), (b * t, i.shape[-1])) for i in (x, g)]
    sums = build.matmul(*rows, 1, 0)
    return Graph("f", (x, g), (sums, build.reduce("sum", rows[0], (0,))))


def logistic(n, d, vector_first):
    """A matrix times a vector, and the rows of the matrix added up with what follows from it."""
    x, w = matrix(0, n, d), matrix(1, d)
    if vector_first:
        z = build.reshape(build.matmul(build.reshape(w, (1, d)), x, 0, 1), (n,))
        r = E("tanh", z)
        sums = build.matmul(build.reshape(r, (1, n)), x)
    else:
        z = build.reshape(build.matmul(x, build.reshape(w, (d, 1))), (n,))
        r = E("tanh", z)
        sums = build.matmul(x, build.reshape(r, (n, 1)), 1, 0)
    return Graph("f", (x, w), (build.reduce("sum", r, (0,)), build.reshape(sums, (d,))))


CASES = {
    "logistic": logistic(1040, 30, False),
    "logistic-one-row-behind-blocks": logistic(1025, 17, True),
    "logistic-any": logistic(symbol("t"), 33, True),
    "logistic-long-rows": logistic(symbol("t"), 100, False),
    "chain": chain(40, (8, 24, 16)),
    "chain-transposed": chain(71, (5, 20, 33), tb=1),
    "chain-any-rows": chain(symbol("t"), (3, 20, 17)),
    "training": training(70, 9, 21, 5),
    "training-any-rows": training(symbol("t"), 4, 17, 2),
    "sums-of-reshaped": sums_of_reshaped(9, 40, 6, 7),
    "sums-of-reshaped-any": sums_of_reshaped(symbol("t"), 7, 5, 20),
    "activation": activation(32, 16, 8),
    "one-block": activation(7, 20, 3),
    "blocks": activation(50, 600, 5),
    "last-block-of-one-row": activation(33, 513, 4),
    "transposed-a": activation(41, 520, 6, ta=1),
    "transposed-b": activation(41, 520, 6, tb=1),
    "transposed-both": activation(40, 24, 6, 1, 1),
    "any-rows": activation(symbol("t"), 520, 6),
    "any-rows-transposed": activation(symbol("t"), 24, 6, ta=1),
    "softmax": softmax_and_column_sums(37, 530, 5),
    "softmax-any-rows": softmax_and_column_sums(symbol("t"), 11, 5),
    "attention": attention(6, 24, 8),
    "attention-any-batch": attention(symbol("t"), 9, 4),
    "gates": gates(16, 24, 8),
    "update": update(70, 600, 9),
    "update-any-batch": update(70, 120, symbol("t")),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    graph, rng = CASES[name], np.random.default_rng(0)
    assert products(schedule(graph)), "the product should not be a kernel of its own"
    for t in (3, 40) if graph.symbols else (0,):
        arrays = [
            rng.standard_normal(i.type.concrete_shape({"t": t})).astype(i.dtype)
            for i in graph.inputs
        ]
        expected = interp.evaluate(graph, arrays)
        for run in (python_run, native_run):
            assert_same(run(graph, [a.copy() for a in arrays]), expected, label=run.__name__)


@pytest.mark.parametrize(
    "name", ["chain", "chain-transposed", "chain-any-rows", "training", "logistic", "logistic-any"]
)
def test_chains_are_one_kernel(name):
    made = schedule(CASES[name])
    own = [k for k in made.kernels if isinstance(k, LoopKernel) and products(made)]
    assert len(made.kernels) == len(own) == 1


def test_many_rows_in_small_blocks(monkeypatch):
    """Several blocks, the last with one row; what is read for the last time leaves its memory."""
    monkeypatch.setattr("graphc.schedule.products._CHAIN_BLOCK", 1)
    for name, rows in (("chain", 40), ("training-any-rows", 65), ("chain-any-rows", 49)):
        graph, rng = CASES[name], np.random.default_rng(1)
        arrays = [
            rng.standard_normal(i.type.concrete_shape({"t": rows})).astype(i.dtype)
            for i in graph.inputs
        ]
        expected = interp.evaluate(graph, arrays)
        for run in (python_run, native_run):
            assert_same(run(graph, [a.copy() for a in arrays]), expected, label=name)
    (kernel,) = schedule(chain(64, (16,) * 9)).kernels
    assert sum(b.name.startswith("row") for b in kernel.buffers) < 6


def test_a_gradient_behind_which_its_parameter_changes_is_never_whole():
    made = schedule(update(784, 128, 64))
    assert len(made.kernels) == 1
    assert all(t.size < 784 * 128 / 4 for t in made.temps)


def test_two_products_share_a_kernel():
    made = schedule(gates(16, 512, 128))
    assert len(made.kernels) == 1 and [len(p.all) for p in products(made)] == [2]


def test_a_parameter_that_its_own_product_reads_is_not_overwritten_early():
    """w <- w @ w * 2: other rows read the old values."""
    w = matrix(0, 40, 40)
    z = build.matmul(w, w)
    graph = Graph("f", (w,), (E("add", z, E("mul", z, w)),), {}, {0: 0})
    value = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    expected = interp.evaluate(graph, [value])
    for run in (python_run, native_run):
        assert_same(run(graph, [value.copy()]), expected)


def test_a_product_does_not_take_memory_that_is_read_behind_it():
    """The product could take over the memory of a dying temporary, but comes before its reader."""
    x, w = matrix(0, 32, 32), matrix(1, 32, 32)
    h = build.matmul(x, w)
    dying = E("exp", E("sin", build.matmul(h, w)))
    z = build.matmul(h, h)
    out = E("tanh", E("mul", z, E("cos", dying)))
    graph = Graph("f", (x, w), (out, build.matmul(z, w)))
    rng = np.random.default_rng(0)
    arrays = [0.1 * rng.standard_normal((32, 32)).astype(np.float32) for _ in range(2)]
    expected = interp.evaluate(graph, arrays)
    for run in (python_run, native_run):
        assert_same(run(graph, arrays), expected)


def test_networks_in_blocks_of_rows():
    """A step over more rows than a block has, all the way from the user's function."""

    def loss(w, x, y):
        h = np.maximum(x @ w["a"] + w["b"], 0)
        return np.mean((h @ w["c"] - y) ** 2)

    rng = np.random.default_rng(1)
    w = {"a": rng.standard_normal((9, 700)), "b": np.zeros(700), "c": np.ones((700, 3))}
    x, y = rng.standard_normal((53, 9)), rng.standard_normal((53, 3))
    graph = gc.value_and_grad(loss).graph(w, x, y)
    arrays = [w["a"], w["b"], w["c"], x, y]
    expected = interp.evaluate(passes.optimize(graph), arrays)
    assert_same(native_run(graph, arrays), expected)
    assert_same(python_run(graph, arrays, optimize=True), expected)


def test_a_weight_that_many_products_take_transposed_is_transposed_once():
    x, w = matrix(0, 16, 24), matrix(1, 24, 24)
    h = x
    for _ in range(5):
        h = E("tanh", build.matmul(h, w, 0, 1))
    graph = Graph("f", (x, w), (h,))
    made = schedule(graph)
    assert all(not p.tb and p.work is None for p in products(made))
    assert sum(n.op == "transpose" for k in made.kernels for n in k.nodes) == 1
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(i.shape).astype(np.float32) for i in graph.inputs]
    expected = interp.evaluate(graph, arrays)
    for run in (python_run, native_run):
        assert_same(run(graph, arrays), expected)


def test_a_result_written_before_a_product_is_no_place_for_what_is_read_after_it():
    """%11 is stored before the product %12 of its kernel, %8 is read behind it."""
    graph = parse("""graph f(%0 'a': f64[3,3], %1 'b': f64[3,3], %2 'c': f64[3,3], \
%3 'd': f64[3,3], %4 'e': f64[3,3], %5 'g': f64[3,3]) {
  %6 = exp(%0) : f64[3,3]
  %7 = add(%6, %5) : f64[3,3]
  %8 = matmul(%7, %1) {ta=0, tb=0} : f64[3,3]
  %9 = matmul(%6, %2) {ta=0, tb=0} : f64[3,3]
  %10 = triangular_solve(%3, %9) {lower=0, trans=0, unit=0} : f64[3,3]
  %11 = transpose(%10) {perm=(1 0)} : f64[3,3]
  %12 = matmul(%4, %10) {ta=0, tb=1} : f64[3,3]
  %13 = neg(%12) : f64[3,3]
  %14 = add(%13, %8) : f64[3,3]
  return %11, %14
}""")
    arrays = [np.random.default_rng(i).uniform(1, 2, (3, 3)) for i in range(6)]
    assert_same(python_run(graph, arrays), interp.evaluate(graph, arrays))


@pytest.mark.parametrize("sizes", [(0, 4, 3), (4, 0, 3), (4, 3, 0)], ids=str)
@pytest.mark.parametrize("batch", [(), (2,), (0,)], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_products_of_nothing(sizes, batch, threads):
    m, n, k = sizes

    def loss(x, y):
        return np.sum(np.sin(np.tanh(x) @ y) @ (y.mT * 2.0))

    def slopes(x, y):
        return gc.grad(lambda x, y: np.sum(gc.grad(loss)(x, y) ** 2), argnums=(0, 1))(x, y)

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(*batch, m, k)), rng.normal(size=(*batch, k, n))]
    graph = gc.compile(slopes).graph(*arrays)
    expected = interp.evaluate(graph, arrays)
    assert_same(python_run(graph, arrays, optimize=True, threads=threads), expected)


def test_sums_of_products_are_one_product_that_begins_with_the_bias():
    def f(x, h, w, u, b):
        z = x @ w + b + h @ u
        return np.tanh(z[:, :20]) * z[:, 20:], np.sum(z, axis=0)

    rng = np.random.default_rng(0)
    shapes = (13, 9), (13, 12), (9, 40), (12, 40), (40,)
    arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
    graph = gc.compile(f).graph(*arrays)
    (found,) = products(schedule(passes.optimize(graph)))
    assert [p.k for p in found.all] == [9, 12] and found.row is not None
    expected = interp.evaluate(graph, arrays)
    for run in (python_run, native_run):
        assert_same(run(graph, arrays), expected)


def test_a_sum_of_products_in_place_waits_for_who_reads_what_was_there():
    x, w, u, z = matrix(0, 8, 8), matrix(1, 8, 8), matrix(2, 8, 8), matrix(3, 8, 8)
    total = E("add", build.matmul(x, w), build.matmul(x, u))
    graph = Graph("f", (x, w, u, z), (total, E("mul", total, E("exp", z))), donated={0: 3})
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((8, 8)).astype(np.float32) for _ in range(4)]
    expected = interp.evaluate(graph, arrays)
    assert_same(python_run(graph, [a.copy() for a in arrays]), expected)


@pytest.mark.parametrize("ta", [0, 1])
def test_products_ask_for_what_follows_them(ta):
    """Arrays of the result's shape that the loops behind read or write; not rows, scratch and what
    the kernel has just touched, and no small ones beside a transposed A."""
    m, n, k = 512, 64, 128
    a, b, skip, bias = matrix(0, *((k, m) if ta else (m, k))), *(
        matrix(i, *shape) for i, shape in enumerate([(k, n), (m, n), (n,)], 1)
    )  # fmt: skip
    z = build.matmul(a, b, ta, 0)
    y = E("mul", E("tanh", E("add", z, row(bias, z))), skip)
    graph = Graph("f", (a, b, skip, bias), (y, build.reduce("sum", y, (0,))))
    (call,) = products(schedule(graph))
    assert [x.size for x in call.ahead] == ([] if ta else [m * n] * 2)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=i.shape).astype(np.float32) for i in graph.inputs]
    expected = interp.evaluate(graph, values)
    for run in (python_run, native_run):
        assert_same(run(graph, values), expected, rtol=1e-4)


def test_the_gradient_of_a_large_weight_asks_for_the_weight():
    m, n, k = 512, 512, 64
    x, g, w = matrix(0, k, m), matrix(1, k, n), matrix(2, m, n)
    graph = Graph("f", (x, g, w), (E("sub", w, build.matmul(x, g, 1, 0)),), donated={0: 2})
    (call,) = products(schedule(graph))
    assert [b.size for b in call.ahead] == [m * n]
    values = [np.random.default_rng(k).normal(size=i.shape).astype(np.float32)
              for k, i in enumerate(graph.inputs)]  # fmt: skip
    expected = interp.evaluate(graph, values)
    assert_same(native_run(graph, [v.copy() for v in values]), expected)
