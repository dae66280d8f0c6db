"""The recipe: same numbers before and after, verified between, idempotent, deterministic."""

import numpy as np
import pytest
from helpers import vjp_graph
from random_graphs import INTEGRALS, random_graph

from graphc.interp import evaluate
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, Source, substitute
from graphc.ir.ops import OPS
from graphc.ir.parser import parse
from graphc.ir.printer import print_graph
from graphc.ir.types import tensor_type
from graphc.ir.verify import verify
from graphc.passes import PASSES, algebra, fold, optimize, stabilize, stabilize_nodes, views
from graphc.passes.rewrite import rewrite

e = build.elementwise


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        tol = 2e-3 if a.dtype == np.float32 else 1e-8
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs_keep_their_values(seed):
    graph, arrays = random_graph(seed)
    verify(graph)
    before = evaluate(graph, arrays)
    out = optimize(graph, check=True)
    assert out.inputs == graph.inputs
    assert_same(evaluate(out, arrays), before)
    assert optimize(out).outputs == out.outputs


SMOOTH = ["neg", "exp", "tanh", "sin", "sigmoid", "add", "sub", "mul", "div", "maximum", "where",
          "keepdims", "keepdims", "constant_operand", "reshape", "transpose", "broadcast", "slice",
          "pad", "concat", "sum", "max", "matmul", "take", "lt"]  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_random_gradients_keep_their_values(seed):
    graph, arrays = random_graph(seed, size=12, ops=SMOOTH)
    graph = graph.with_outputs([o for o in graph.outputs if o.dtype.kind == "f"])
    adjoint = vjp_graph(graph)
    rng = np.random.default_rng(seed)
    for node in adjoint.inputs[len(arrays) :]:
        shape = node.type.concrete_shape({"n": 3})
        arrays = [*arrays, rng.uniform(-1, 1, shape).astype(node.dtype)]
    expected = evaluate(adjoint, arrays)
    found = evaluate(optimize(adjoint, check=True), arrays)
    for a, b in zip(found, expected, strict=True):
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        tol = 1e-2 if a.dtype == np.float32 else 1e-8
        np.testing.assert_allclose(a / scale, b / scale, rtol=tol, atol=tol)


# Rules that must not move a single NaN or infinity, on ops where the rest are exact as well.
EXACT = [
    r for r in (*fold.RULES, *algebra.RULES, *views.RULES)
    if r.name not in ("merge_scales", "pow_by_constant", "add_twice")
]  # fmt: skip
EXACT_OPS = ["neg", "abs", "add", "sub", "mul", "maximum", "minimum", "where", "lt", "eq",
             "logical_not", "constant_operand", "reshape", "transpose", "broadcast", "slice",
             "concat", "pad", "cast", "stop_gradient", "isnan", "isfinite"]  # fmt: skip


@pytest.mark.parametrize("seed", range(100))
def test_exact_rules_keep_nan_and_infinity(seed):
    graph, arrays = random_graph(seed, ops=EXACT_OPS)
    rng = np.random.default_rng(seed)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])
    arrays = [
        np.where(rng.random(a.shape) < 0.5, rng.choice(special, a.shape), a).astype(a.dtype)
        for a in arrays
    ]
    before = evaluate(graph, arrays)
    after = evaluate(rewrite(graph, EXACT), arrays)
    for a, b in zip(after, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64", "complex128", "float16", "bool"])
def test_other_dtypes_keep_their_values(dtype):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        arrays = [rng.integers(0, 100, 5).astype(dtype) for _ in range(3)]
        if dtype == "complex128":
            arrays = [a + 1j * rng.integers(-9, 9, 5) for a in arrays]
        nodes = [build.input(i, f"x{i}", tensor_type(dtype, (5,))) for i in range(3)]
        pool = [*nodes, *(build.full_like(nodes[0], v) for v in (0, 1, 2, 3))]
        ops = ["add", "mul", "maximum"] if dtype == "bool" else ["add", "sub", "mul", "neg", "pow"]
        for _ in range(12):
            op = ops[rng.integers(len(ops))]
            count = 1 if op == "neg" else 2
            operands = [pool[-1 - int(len(pool) * rng.random() ** 2)] for _ in range(count)]
            if op == "pow":
                operands[1] = build.full_like(nodes[0], int(rng.integers(4)))
            pool.append(build.make(op, operands))
        graph = Graph("f", tuple(nodes), (build.reduce("sum", pool[-1], (0,)), *pool[-3:]))
        before = evaluate(graph, arrays)
        for a, b in zip(evaluate(optimize(graph, check=True), arrays), before, strict=True):
            assert a.dtype == b.dtype
            if np.dtype(dtype).kind in "iub":
                np.testing.assert_array_equal(a, b)
            elif np.isfinite(b).all() and np.abs(b).max() < 1e3:
                np.testing.assert_allclose(a, b, rtol=1e-2 if dtype == "float16" else 1e-9)


def test_random_graphs_are_reproducible_and_varied():
    again = [print_graph(random_graph(5)[0]) for _ in range(2)]
    assert again[0] == again[1]
    graphs = [random_graph(seed, size=30)[0] for seed in range(340)]
    met = {n.op for g in graphs for n in g.order}
    bitwise = {"bitwise_and", "bitwise_or", "bitwise_xor", "invert"}
    bitwise |= {"left_shift", "right_shift", "gcd", "bitwise_count"}
    special = {n for n, row in OPS.items() if row.kind in ("library", "mark", "part")} | {
        "implicit"
    }
    special |= {n for n, row in OPS.items() if INTEGRALS.fullmatch(n) or row.library}
    assert set(OPS) - met <= bitwise | special | {"placeholder", "size"}
    assert {g.symbols for g in graphs} == {(), ("n",)}


def test_recipe_is_observed_in_order():
    graph, _ = random_graph(0)
    seen = []
    out = optimize(graph, observe=lambda name, result: seen.append((name, result)))
    assert [name for name, _ in seen] == [name for name, _ in PASSES]
    assert seen[-1][1] is out


def test_output_is_deterministic_and_parses():
    for seed in range(10):
        graph, _ = random_graph(seed)
        text = print_graph(optimize(graph))
        assert print_graph(optimize(parse(print_graph(graph)))) == text
        verify(parse(text))


def test_donated_memory_is_kept():
    x = build.input(0, "x", tensor_type("float32", (3,)))
    graph = Graph("f", (x,), (e("add", x, build.full_like(x, 0)),), donated={0: 0})
    assert optimize(graph, check=True).donated == {0: 0}


# ------------------------------------------------------------------------------ what users write

N = symbol("n")


def inputs(*shapes, dtype="float32"):
    return [build.input(i, f"x{i}", tensor_type(dtype, s)) for i, s in enumerate(shapes)]


def keep(x, axis=1):
    kept = [1 if a == axis else d for a, d in enumerate(x.type.shape)]
    return lambda small, shape: build.broadcast_to(build.reshape(small, kept), shape)


def softmax(x, shift=False):
    repeat = keep(x)
    if shift:
        x = e("sub", x, repeat(build.reduce("max", x, (1,)), x.shape))
    z = e("exp", x)
    return e("div", z, repeat(build.reduce("sum", z, (1,)), x.shape))


def value_and_gradient(output, nodes, arrays):
    (output,) = stabilize_nodes([output])
    graph = vjp_graph(Graph("f", tuple(nodes), (output,)))
    graph = optimize(graph.with_outputs([output, *graph.outputs]), check=True)
    ones = np.ones(output.type.concrete_shape({"n": len(arrays[0])}), output.dtype)
    return evaluate(graph, [*arrays, ones])


@pytest.mark.parametrize("shift", [False, True])
def test_log_softmax_is_finite_with_a_finite_gradient(shift):
    (x,) = inputs((N, 2))
    logits = np.array([[1000, -1000], [-1000, 1000], [0, 1]], np.float32)
    value, grad = value_and_gradient(e("log", softmax(x, shift)), [x], [logits])
    exact = np.array([[0, -2000], [-2000, 0], [-1.31326169, -0.31326169]])
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    p = np.exp(exact)
    np.testing.assert_allclose(grad, 1 - 2 * p, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [False, True])
def test_cross_entropy_of_picked_probabilities(shift):
    x, labels = inputs((N, 2))[0], build.input(1, "labels", tensor_type("int64", (N,)))
    picked = build.take_along(softmax(x, shift), build.reshape(labels, (N, 1)), 1)
    loss = e("neg", build.reduce("sum", e("log", picked), (0, 1)))
    logits = np.array([[1000, -1000], [-1000, 1000]], np.float32)
    value, grad = value_and_gradient(loss, [x, labels], [logits, np.array([1, 1])])
    assert value == 2000
    np.testing.assert_array_equal(grad, [[1, -1], [0, 0]])


def test_the_users_own_shift_costs_no_gradient():
    (x,) = inputs((N, 2))
    (stable,) = stabilize_nodes([softmax(x, shift=True)])
    adjoint = optimize(vjp_graph(Graph("f", (x,), (stable,))))
    assert not [n for n in adjoint.order if n.op in ("eq", "where")]


def test_logsumexp_of_infinities():
    (x,) = inputs((N, 2), dtype="float64")
    graph = Graph("f", (x,), (e("log", build.reduce("sum", e("exp", x), (1,))),))
    inf, nan = np.inf, np.nan
    rows = np.array([[-inf, -inf], [inf, 0], [-inf, 3], [nan, 1], [800, 800], [-900, -900]])
    (found,) = evaluate(optimize(graph, check=True), [rows])
    np.testing.assert_allclose(found, [-inf, inf, 3, nan, 800 + np.log(2), -900 + np.log(2)])


def test_binary_cross_entropy_is_finite():
    (x,) = inputs((N,))
    p = e("div", build.full_like(x, 1), e("add", build.full_like(x, 1), e("exp", e("neg", x))))
    loss = e("add", e("log", p), e("log", e("sub", build.full_like(x, 1), p)))
    logits = np.array([-1000, 0, 1000], np.float32)
    value, grad = value_and_gradient(loss, [x], [logits])
    np.testing.assert_allclose(value, [-1000, -2 * np.log(2), -1000], rtol=1e-6)
    np.testing.assert_allclose(grad, [1, 0, -1], atol=1e-6)


def test_stabilize_nodes_carries_user_lines():
    (x,) = inputs((N, 2))
    node = e("log", softmax(x))
    sources = {node: Source("f.py", 7)}
    (out,) = stabilize_nodes([node], sources)
    assert out is not node and sources[out].line == 7


def test_stabilize_keeps_stop_gradient():
    (x,) = inputs((N, 2))
    graph = Graph("f", (x,), (e("stop_gradient", x),))
    assert stabilize(graph).outputs == graph.outputs
    assert optimize(graph).outputs == (x,)


MLP = """
graph mlp_gradient(%0 'W1': f32[2,16], %1 'b1': f32[16], %2 'x': f32[n,2]) {
  %3 = matmul(%2, %0) {ta=0, tb=0} : f32[n,16]
  %4 = broadcast(%1) {dims=(1), shape=(n 16)} : f32[n,16]
  %5 = add(%3, %4) : f32[n,16]
  %6 = tanh(%5) : f32[n,16]
  %7 = const() {value=f32[] 1.0} : f32[]
  %8 = broadcast(%7) {dims=(), shape=(n 16)} : f32[n,16]
  %9 = mul(%6, %6) : f32[n,16]
  %10 = sub(%8, %9) : f32[n,16]
  %11 = matmul(%2, %10) {ta=1, tb=0} : f32[2,16]
  %12 = sum(%10) {axes=(0)} : f32[16]
  return %11, %12
}
"""


def test_the_gradient_of_a_layer_is_what_one_would_write():
    W1, b1, x = (
        build.input(i, name, tensor_type("float32", shape))
        for i, (name, shape) in enumerate([("W1", (2, 16)), ("b1", (16,)), ("x", (N, 2))])
    )
    out = e("tanh", e("add", build.matmul(x, W1), build.broadcast_to(b1, (N, 16))))
    graph = vjp_graph(Graph("mlp_gradient", (W1, b1, x), (build.reduce("sum", out, (0, 1)),)))
    seed = graph.inputs[-1]
    outputs = substitute(graph.outputs[:2], {seed: build.const(1, "float32")})
    found = optimize(Graph("mlp_gradient", (W1, b1, x), tuple(outputs)), check=True)
    assert found.outputs == parse(MLP).outputs


def test_a_mask_times_nan_is_nan():
    c, y = (
        build.input(i, n, tensor_type(t, (2,)))
        for i, (n, t) in enumerate((("c", bool), ("y", float)))
    )
    for a, b in ((1, 0), (0, 1)):
        mask = build.elementwise("where", c, build.full_like(y, a), build.full_like(y, b))
        graph = Graph("f", (c, y), (build.elementwise("mul", mask, y),))
        arrays = [np.array([True, False]), np.array([np.nan, np.inf])]
        (found,) = evaluate(optimize(graph), arrays)
        np.testing.assert_array_equal(found, evaluate(graph, arrays)[0])


def test_the_logarithm_of_an_empty_sum():
    x = build.input(0, "x", tensor_type(float, (3, 0)))
    total = build.reduce("sum", build.elementwise("exp", x), (1,))
    graph = Graph("f", (x,), (build.elementwise("log", total),))
    (found,) = evaluate(optimize(graph), [np.zeros((3, 0))])
    np.testing.assert_array_equal(found, [-np.inf] * 3)
