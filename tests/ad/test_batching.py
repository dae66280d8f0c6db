"""Batching rules: each op with each subset of its inputs mapped, against a loop over examples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphc import interp
from graphc.ad.batching import BATCHING, batch
from graphc.errors import DTypeError, TraceError
from graphc.ir import build, fourier, matrix
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, Source
from graphc.ir.ops import OPS
from graphc.ir.types import tensor_type
from graphc.ir.verify import verify

B = 3
F, I = "float64", "int64"


def matmul_types(ta, tb, m, k, n, *lead):
    a = (*lead, k, m) if ta else (*lead, m, k)
    b = (*lead, n, k) if tb else (*lead, k, n)
    return [(F, a), (F, b)]


def regular(x):
    """A positive definite matrix of ``x``."""
    return matrix.add(build.matmul(x, x, 0, 1), matrix.eye_like(x))


# op -> functions of input nodes, with the (dtype, shape) of each input of one example.
CASES = {
    "barrier": [(lambda x, y: build.barrier(x, y), [("float64", (4, 3)), ("float64", (2,))])],
    "reshape": [(lambda x: build.reshape(x, (2, 6)), [(F, (4, 3))])],
    "transpose": [(lambda x: build.transpose(x, (2, 0, 1)), [(F, (2, 3, 4))])],
    "broadcast": [
        (lambda x: build.broadcast(x, (2, 3, 4), (1,)), [(F, (3,))]),
        (lambda x: build.broadcast(x, (2,), ()), [(F, ())]),
    ],
    "slice": [(lambda x: build.slice_(x, (3, 1), (2, 2), (-2, 1)), [(F, (4, 3))])],
    "pad": [
        (lambda x, fill: build.pad(x, (1, 0), (2, 1), (0, 1), fill), [(F, (4, 3)), (F, ())]),
    ],
    "windows": [
        (lambda x: build.windows(x, 1, 2, 2, 3), [(F, (2, 6, 2))]),
        (lambda x: build.windows(x, 0, 2), [(F, (3, 2))]),
    ],
    "concat": [(lambda x, y: build.concat((x, y, x), 1), [(F, (2, 3)), (F, (2, 1))])],
    "take": [
        (lambda x, i, axis=axis: build.take(x, i, axis), [(F, (3, 3, 3)), (I, shape)])
        for axis in (0, 1, 2)
        for shape in ((), (2,), (2, 4))
    ],
    "take_along": [
        (lambda x, i: build.take_along(x, i, 1), [(F, (2, 3)), (I, (2, 5))]),
        (lambda x, i: build.take_along(x, i, 0), [(F, (3, 2)), ("int32", (1, 2))]),
    ],
    "scatter_add": [
        (lambda i, u, axis=axis: build.scatter_add(i, u, axis, 3), [(I, (2, 4)), (F, shape)])
        for axis, shape in ((0, (2, 4, 5)), (1, (5, 2, 4)), (1, (5, 2, 4, 3)))
    ]
    + [(lambda i, u: build.scatter_add(i, u, 1, 3), [(I, ()), (F, (2, 3))])],
    "scatter_set": [
        (
            lambda x, i, u, axis=axis: build.scatter_set(x, i, u, axis),
            [(F, shape), (I, index), (F, updates)],
        )
        for axis, shape, index, updates in (
            (0, (3, 2), (4,), (4, 2)),
            (1, (2, 3), (2, 2), (2, 2, 2)),
            (0, (3,), (), ()),
        )
    ],
    "check_index": [(lambda i: build.check_index(i, 3), [(I, (2, 3))])],
    "cumsum": [(lambda x: build.scan("cumsum", x, 0), [(F, (3, 2))])],
    "cumprod": [(lambda x: build.scan("cumprod", x, 1), [(F, (3, 2))])],
    "argsort": [(lambda x, axis=axis: build.argsort(x, axis), [(F, (3, 2))]) for axis in (0, 1)],
    "searchsorted": [
        (
            lambda t, v, side=side: build.searchsorted(
                build.take_along(t, build.argsort(t, 0), 0), v, side
            ),
            [(F, (4,)), (F, (2, 3))],
        )
        for side in ("left", "right")
    ],
    "dft": [
        (
            lambda x: build.make(
                "dft", (x, build.const(fourier.plan(6, True).table)), n=6, single=1, inverse=0
            ),
            [(F, (2, 2, 6, 1))],
        )
    ],
    "real": [(lambda z: build.make("real", (z,)), [("complex128", (3, 2))])],
    "imag": [(lambda z: build.make("imag", (z,)), [("complex128", (3,))])],
    "complex": [(lambda x, y: build.make("complex", (x, y)), [(F, (3, 2)), (F, (3, 2))])],
    "sum": [(lambda x: build.reduce("sum", x, (0, 2)), [(F, (2, 3, 4))])],
    "prod": [(lambda x: build.reduce("prod", x, (1,)), [(F, (2, 3))])],
    "max": [(lambda x: build.reduce("max", x, (0,)), [(F, (2, 3))])],
    "min": [(lambda x: build.reduce("min", x, (0, 1)), [(F, (2, 3))])],
    "argmax": [(lambda x: build.make("argmax", (x,), axes=(1,)), [(F, (2, 3))])],
    "argmin": [(lambda x: build.make("argmin", (x,), axes=(0,)), [(F, (2, 3))])],
    "conv": [
        (build.conv, [(F, (2, 3, 4)), (F, (5, 3, 2))]),
        (
            lambda x, w: build.conv(x, w, (2, 1), (1, 2)),
            [(F, (2, 3, 5, 4)), (F, (4, 3, 3, 2))],
        ),
    ],
    "matmul": [
        (lambda a, b, ta=ta, tb=tb: build.matmul(a, b, ta, tb), matmul_types(ta, tb, *sizes))
        for ta in (0, 1)
        for tb in (0, 1)
        for sizes in ((2, 3, 4), (1, 3, 4), (2, 3, 1), (2, 3, 4, 2))
    ],
    "cholesky": [
        (lambda x: build.make("cholesky", (regular(x),)), [(F, (3, 3))]),
        (lambda x: build.make("cholesky", (regular(x),)), [(F, (2, 3, 3))]),
    ],
    "triangular_solve": [
        (lambda a, b: matrix.triangular(regular(a), b, 1), [(F, (3, 3)), (F, (3, 2))]),
        (lambda a, b: matrix.triangular(regular(a), b, 0, 1), [(F, (2, 3, 3)), (F, (2, 3, 1))]),
    ],
    "lu": [(lambda x: build.make("lu", (x,)), [(F, (3, 3))])],
    "lu_solve": [
        (lambda a, b: matrix.solve(regular(a), b), [(F, (3, 3)), (F, (3, 2))]),
        (lambda a, b: matrix.solve(regular(a), b, 1), [(F, (2, 3, 3)), (F, (2, 3, 1))]),
    ],
    "qr": [
        (lambda x, full=full: build.make("qr", (x,), full=full), [(F, (3, 2))]) for full in (0, 1)
    ],
    "eigh": [(lambda x: build.make("eigh", (regular(x),)), [(F, (2, 3, 3))])],
    "svd": [(lambda x: build.make("svd", (x,), full=1), [(F, (2, 3))])],
    "complex_qr": [(lambda x: build.make("complex_qr", (x,), full=0), [(F, (3, 2, 2))])],
    "complex_eigh": [(lambda x: build.make("complex_eigh", (x,)), [(F, (2, 3, 3, 2))])],
    "complex_svd": [(lambda x: build.make("complex_svd", (x,), full=0), [(F, (2, 3, 2))])],
    "expm": [(lambda x: build.make("expm", (x,)), [(F, (3, 3))])],
    "implicit": [
        (lambda x, y: build.make("implicit", (x, y), rule="det"), [(F, ()), (F, (3, 3))]),
    ],
}


def elementwise_case(name):
    """The row on float, else integer, else boolean operands."""
    row = OPS[name]
    attrs = {"dtype": "float32"} if name == "cast" else {}
    bits = name.startswith("bitwise") or name in ("invert", "left_shift", "right_shift", "gcd")
    for dtype in (I,) if bits else (F, I, "bool"):
        types = [(dtype, (2, 3))] * row.arity
        if name == "where":
            types[0] = ("bool", (2, 3))
        try:
            row.infer(attrs, *(tensor_type(*t) for t in types))
        except DTypeError:
            continue
        return (lambda *xs: build.make(name, xs, **attrs)), types
    raise AssertionError(f"no operands for {name}")


def cases():
    for name, row in OPS.items():
        found = [elementwise_case(name)] if row.kind == "elementwise" else CASES.get(name, [])
        for k, (fn, types) in enumerate(found):
            for flags in itertools.product((False, True), repeat=len(types)):
                if any(flags):
                    label = "".join("b" if f else "-" for f in flags)
                    yield pytest.param(fn, types, flags, id=f"{name}-{k}-{label}")


def sample(rng, dtype, shape):
    if dtype == F:
        return rng.uniform(0.3, 0.9, shape)
    high = 2 if dtype == "bool" else 3
    return rng.integers(0, high, shape).astype(dtype)


def batched_graph(fn, types, flags, size) -> Graph:
    """The graph of ``fn`` for a batch in the inputs where ``flags``."""
    ones = [build.input(k, f"x{k}", tensor_type(*t)) for k, t in enumerate(types)]
    inputs = [
        build.input(k, f"x{k}", tensor_type(dtype, (size, *shape) if flag else shape))
        for k, ((dtype, shape), flag) in enumerate(zip(types, flags, strict=True))
    ]
    mapped = {one: x for one, x, flag in zip(ones, inputs, flags, strict=True) if flag}
    ((out, is_mapped),) = batch([fn(*ones)], mapped, size)
    assert is_mapped
    return verify(Graph("f", tuple(inputs), (out,)))


def looped(fn, types, flags, arrays, size):
    nodes = [build.input(k, f"x{k}", tensor_type(*t)) for k, t in enumerate(types)]
    graph = Graph("f", tuple(nodes), (fn(*nodes),))
    rows = [
        interp.evaluate(graph, [a[b] if f else a for a, f in zip(arrays, flags, strict=True)])[0]
        for b in range(size)
    ]
    return np.stack(rows)


@pytest.mark.parametrize(("fn", "types", "flags"), list(cases()))
@pytest.mark.parametrize("size", [B, "n"])
def test_a_batch_is_a_loop_over_examples(fn, types, flags, size):
    rng = np.random.default_rng(0)
    arrays = [sample(rng, d, (B, *s) if f else s) for (d, s), f in zip(types, flags, strict=True)]
    graph = batched_graph(fn, types, flags, symbol(size) if size == "n" else size)
    (found,) = interp.evaluate(graph, arrays)
    expected = looped(fn, types, flags, arrays, B)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_every_op_has_a_rule_and_a_case():
    for name, row in OPS.items():
        # Marks: test_custom_vjp.py; control: test_control_gradients.py.
        if row.kind in ("elementwise", "leaf", "mark", "control"):
            continue
        assert row.kind == "reduction" or name in BATCHING, f"{name} lacks a batching rule"
        assert name in CASES, f"{name} lacks a case in this test"


def test_an_index_out_of_range_does_not_reach_the_next_example():
    fn, types = CASES["take"][1]
    graph = batched_graph(fn, types, (True, True), B)
    indices = np.array([[0, 1], [3, 0], [1, 1]])  # 3 is the next example's first row
    with pytest.raises(IndexError):
        interp.evaluate(graph, [np.ones((B, 3, 3, 3)), indices])


def products(graph):
    return [n for n in graph.order if n.op == "matmul"]


def test_a_shared_matrix_makes_one_product_of_all_rows():
    """x[b, m, k] @ W is [b*m, k] @ W; W @ x for vectors x is one product too."""
    weights, rows, column = (F, (5, 6)), (F, (4, 5)), (F, (6, 1))
    right = batched_graph(build.matmul, [rows, weights], (True, False), B)
    assert [str(n.type) for n in products(right)] == ["f64[12,6]"]
    left = batched_graph(build.matmul, [weights, column], (False, True), B)
    assert [str(n.type) for n in products(left)] == ["f64[3,5]"]


def test_what_no_example_changes_is_computed_once():
    x, w = (build.input(k, "xw"[k], tensor_type(F, (4,))) for k in (0, 1))
    rows = build.input(0, "rows", tensor_type(F, (B, 4)))
    shared = build.elementwise("exp", w)
    (_, (same, is_mapped)) = batch([build.elementwise("mul", x, shared), shared], {x: rows}, B)
    assert same is shared and not is_mapped


def test_an_op_without_a_rule_is_named(monkeypatch):
    monkeypatch.delitem(BATCHING, "concat")
    x = build.input(0, "x", tensor_type(F, (2,)))
    rows = build.input(0, "rows", tensor_type(F, (B, 2)))
    joined = build.concat((x, x), 0)
    source = Source("/home/user/model.py", 12, "loss")
    with pytest.raises(TraceError, match=r"op `concat`.*\n.*model.py:12 in loss"):
        batch([joined], {x: rows}, B, {joined: source})


def test_deep_graphs_need_no_stack():
    x = build.input(0, "x", tensor_type(F, ()))
    rows = build.input(0, "rows", tensor_type(F, (B,)))
    y = x
    for _ in range(20_000):
        y = build.elementwise("sin", y)
    ((out, _),) = batch([y], {x: rows}, B)
    assert out.shape == (B,)
