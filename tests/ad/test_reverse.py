"""The walker: accumulation, dead work, user lines, errors, whole graphs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers import check_gradient, gradient, make_graph, taylor_orders, vjp_graph

from graphc.ad.reverse import vjp
from graphc.errors import GradientError
from graphc.ir import build, ops
from graphc.ir.graph import Source, topological
from graphc.ir.types import tensor_type

e = build.elementwise
F32 = np.float32


def inputs(*shapes, dtype="float64"):
    return [build.input(i, f"a{i}", tensor_type(dtype, s)) for i, s in enumerate(shapes)]


def total(x):
    return build.reduce("sum", x, range(x.ndim))


def mean(x):
    return e("div", total(x), build.const(float(np.prod(x.shape)), x.dtype))


def rows(x, like):
    return build.broadcast(x, like.shape, (0,))


def log_softmax(z):
    s = e("sub", z, rows(build.reduce("max", z, (1,)), z))
    return e("sub", s, rows(e("log", build.reduce("sum", e("exp", s), (1,))), z))


def dense(x, w, b):
    z = build.matmul(x, w)
    return e("add", z, build.broadcast(b, z.shape, (1,)))


def mlp_loss(x, y, w1, b1, w2, b2):
    error = e("sub", dense(e("tanh", dense(x, w1, b1)), w2, b2), y)
    return mean(e("mul", error, error))


def relu_cross_entropy(x, label, w1, b1, w2, b2):
    h = dense(x, w1, b1)
    h = e("maximum", h, build.full_like(h, 0))
    return e("neg", mean(build.take_along(log_softmax(dense(h, w2, b2)), label, 1)))


def layer_norm_loss(x, w):
    n = build.full_like(build.reduce("sum", x, (1,)), float(x.shape[1]))
    centred = e("sub", x, rows(e("div", build.reduce("sum", x, (1,)), n), x))
    var = e("div", build.reduce("sum", e("mul", centred, centred), (1,)), n)
    scale = e("rsqrt", e("add", var, build.full_like(var, 1e-5)))
    y = e("mul", centred, rows(scale, x))
    return total(e("sigmoid", build.matmul(y, w)))


def row_norms(x):
    return total(e("sqrt", build.reduce("sum", e("mul", x, x), (1,))))


def logsumexp(x):
    peak = build.reduce("max", x, (1,))
    rest = build.reduce("sum", e("exp", e("sub", x, rows(peak, x))), (1,))
    return total(e("mul", e("add", peak, e("log", rest)), e("sin", peak)))


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


LABEL = np.array([[0], [2], [1], [2], [0]])
NETWORK = [normal(4, 6), normal(6), normal(6, 3), normal(3)]
COMPOSED = {
    "mlp": (mlp_loss, [normal(5, 4), normal(5, 3), *NETWORK]),
    "relu cross-entropy": (relu_cross_entropy, [normal(5, 4), LABEL, *NETWORK]),
    "layer norm": (layer_norm_loss, [normal(5, 4), normal(4, 3)]),
    "row norms": (row_norms, [normal(5, 4)]),
    "logsumexp": (logsumexp, [normal(5, 4)]),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_taylor_remainder_falls_quadratically(name):
    fn, arrays = COMPOSED[name]
    orders = taylor_orders(make_graph(fn, arrays), arrays)
    np.testing.assert_allclose(orders, 2, atol=0.15)


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_graphs_by_central_differences(name):
    fn, arrays = COMPOSED[name]
    order = 1 if name in ("mlp", "relu cross-entropy") else 2
    check_gradient(make_graph(fn, arrays), arrays, order=order)


def test_taylor_helper_notices_a_wrong_gradient(monkeypatch):
    wrong = dataclasses.replace(ops.OPS["tanh"], derivative=("1 - z",))
    monkeypatch.setitem(ops.OPS, "tanh", wrong)
    fn, arrays = COMPOSED["mlp"]
    orders = taylor_orders(make_graph(fn, arrays), arrays)
    assert (orders < 1.5).all()


SMOOTH_UNARY = ("sin", "cos", "tanh", "arctan", "sigmoid", "softplus", "erf", "arcsinh", "neg")
SMOOTH_BINARY = ("add", "sub", "mul")


def random_graph(rng, arrays):
    """A function that builds random nodes over [3, 2] and [2, 3] arrays and scalars."""
    choices = rng.integers(0, 1 << 30, (12, 4))

    def fn(*nodes):
        nodes = list(nodes)
        for kind, a, b, c in choices:
            x = nodes[a % len(nodes)]
            same = [n for n in nodes if n.shape == x.shape]
            y = same[b % len(same)]
            if kind % 4 == 0:
                new = e(SMOOTH_UNARY[c % len(SMOOTH_UNARY)], x)
            elif kind % 4 == 1:
                new = e(SMOOTH_BINARY[c % len(SMOOTH_BINARY)], x, y)
            elif kind % 4 == 2 and x.ndim:
                new = structural(x, y, c)
            else:
                d = e("add", e("mul", y, y), build.full_like(y, 1.5))
                new = e("div", x, d)
            nodes.append(new)
        parts = [mean(e("tanh", n)) if n.ndim else e("tanh", n) for n in nodes[-4:]]
        out = parts[0]
        for part in parts[1:]:
            out = e("add", out, part)
        return out

    return fn


def structural(x, y, choice):
    match choice % 7:
        case 0:
            return build.transpose(x, (1, 0))
        case 1:
            return build.broadcast(build.reduce("sum", x, (0,)), x.shape, (1,))
        case 2:
            return build.reshape(x, x.shape[::-1])
        case 3:
            rolled = [build.slice_(x, (s, 0), (n, x.shape[1]), (1, 1))
                      for s, n in ((1, x.shape[0] - 1), (0, 1))]  # fmt: skip
            return build.concat(rolled, 0)
        case 4:
            inner = build.slice_(x, (0, 0), (x.shape[0], x.shape[1] - 1), (1, 1))
            return build.pad(inner, (0, 1), (0, 0))
        case 5:
            return build.matmul(build.matmul(x, y, 0, 1), x)
        case _:
            return build.broadcast(build.reduce("max", x, (1,)), x.shape, (0,))


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_to_second_order(seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(-1, 1, (3, 2)), rng.uniform(-1, 1, (2, 3)), rng.uniform(-1, 1, ())]
    graph = make_graph(random_graph(rng, arrays), arrays)
    check_gradient(graph, arrays, rtol=5e-6)


def test_cotangents_of_several_users_and_outputs_are_summed():
    (x,) = inputs((3,))
    y, ct = e("mul", x, x), build.full((3,), 1, np.float64)
    (grad,) = vjp([y, x, y], [ct, ct, ct], [x])
    value = make_graph(lambda a: grad, [np.zeros(3)])
    from graphc import interp

    np.testing.assert_allclose(interp.evaluate(value, [np.array([1.0, 2, 3])])[0], [5, 9, 13])


def test_cotangents_of_inner_nodes():
    (x,) = inputs((3,))
    y = e("exp", x)
    z = e("sin", y)
    ct = build.full_like(z, 1)
    by_y, by_x = vjp([z], [ct], [y, x])
    assert by_y is e("mul", ct, e("cos", y))
    assert by_x is e("mul", by_y, y)


def test_independent_and_integer_arguments_get_zeros():
    a = [np.ones((2, 2), F32), np.ones(3, F32), np.ones(2, np.int64)]
    grads = gradient(lambda x, y, i: build.take(x, i, 0), *a, wrt=[0, 1, 2])
    assert [g.dtype for g in grads] == [F32, F32, np.int64]
    np.testing.assert_array_equal(grads[1], 0)
    np.testing.assert_array_equal(grads[2], 0)


def test_stop_gradient_and_comparisons_cut():
    (grad,) = gradient(lambda x: e("mul", x, e("stop_gradient", e("exp", x))), np.zeros(2))
    np.testing.assert_array_equal(grad, 1)
    (grad,) = gradient(lambda x: build.cast(e("gt", x, build.full_like(x, 0)), x.dtype), np.ones(2))
    np.testing.assert_array_equal(grad, 0)


def test_gradient_by_the_last_weight_does_no_work_for_the_others():
    fn, arrays = COMPOSED["mlp"]
    graph = make_graph(fn, arrays)
    known = set(graph.order)
    by_w2 = [n for n in vjp_graph(graph, [4]).order if n not in known]
    by_w1 = [n for n in vjp_graph(graph, [2]).order if n not in known]
    assert [n.op for n in by_w2].count("matmul") == 1  # h.T @ ct
    assert [n.op for n in by_w1].count("matmul") == 2  # ct @ W2.T, x.T @ ct
    assert len(by_w2) < len(by_w1)


def test_no_cotangent_is_built_for_constants_data_and_exponents():
    built = []
    x, y = inputs((3,), (3,))
    out = e("mul", e("pow", x, build.full_like(x, 3)), e("exp", y))
    original = build.make

    def make(op, inputs=(), **attrs):
        built.append(op)
        return original(op, inputs, **attrs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "make", make)
        vjp([out], [build.full_like(out, 1)], [x])
    assert "log" not in built and "where" not in built
    assert built.count("mul") == 4  # ct*exp(y), times 3*(x*x)


def test_adjoint_nodes_have_the_line_of_their_primal():
    (x,) = inputs((3,))
    y = e("exp", x)
    z = e("tanh", y)
    lines = {y: Source("/user/model.py", 3), z: Source("/user/model.py", 4)}
    sources = dict(lines)
    ct = build.full((3,), 1, np.float64)
    (grad,) = vjp([z], [ct], [x], sources)
    assert sources[z] == lines[z]
    product = grad.inputs[0]
    assert sources[product].line == 4 and sources[grad].line == 3
    new = [n for n in topological([grad]) if n.op not in ("input", "const") and n is not ct]
    assert all(n in sources for n in new)


def test_float32_stays_float32():
    for fn, arrays in COMPOSED.values():
        arrays = [a.astype(F32) if a.dtype.kind == "f" else a for a in arrays]
        graph = vjp_graph(make_graph(fn, arrays))
        floats = {n.dtype for n in graph.order if n.dtype.kind == "f"}
        assert floats == {np.dtype(F32)}


def test_deep_graphs_need_no_deep_stack():
    (x,) = inputs(())
    y = x
    for _ in range(20_000):
        y = e("sin", y)
    (grad,) = vjp([y], [build.const(1.0)], [x])
    assert len(topological([grad])) > 40_000


def test_the_adjoint_is_deterministic():
    from graphc.ir.printer import print_graph

    fn, arrays = COMPOSED["relu cross-entropy"]
    texts = {print_graph(vjp_graph(make_graph(fn, arrays))) for _ in range(3)}
    assert len(texts) == 1


def test_an_op_without_a_rule_is_named_with_the_line(monkeypatch):
    row = ops.Op("sorted", "Sorted.", "reduction", lambda attrs, x: x, None, ())
    monkeypatch.setitem(ops.OPS, "sorted", row)
    (x,) = inputs((3,))
    y = build.make("sorted", (x,))
    sources = {y: Source("/user/model.py", 12, "loss")}
    with pytest.raises(GradientError) as error:
        vjp([y], [build.full_like(y, 1)], [x], sources)
    text = str(error.value)
    assert "`sorted`" in text and "model.py:12" in text and "stop_gradient" in text
    assert "custom_vjp" in text
    assert len(text.splitlines()) <= 8
    # Nothing is wrong where no gradient flows through it.
    (other,) = vjp([e("stop_gradient", y)], [build.full_like(y, 1)], [x], sources)
    assert other is build.full_like(x, 0)


def test_a_cotangent_of_another_type_is_refused():
    (x,) = inputs((3,))
    with pytest.raises(GradientError, match="cotangent"):
        vjp([e("sin", x)], [build.full((2,), 1, np.float64)], [x])
