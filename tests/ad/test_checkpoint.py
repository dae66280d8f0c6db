"""checkpoint: equal results, less memory; the barrier it stands on."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run
from helpers import make_graph

import graphc as gc
from graphc import interp, passes
from graphc.ir import build
from graphc.schedule import schedule
from graphc.schedule.memory import lifetimes, plan

e = build.elementwise
LAYERS, WIDTH, ROWS = 16, 16, 4096
RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(LAYERS, WIDTH, WIDTH)) / 4, RNG.normal(size=(ROWS, WIDTH))


def block(ws, h):
    for w in ws:
        h = np.tanh(h @ w)
    return h


def blocks_of(part, size=4):
    def loss(ws, x):
        h = x
        for k in range(0, LAYERS, size):
            h = part([ws[k + j] for j in range(size)], h)
        return (h * h).sum()

    return loss


def closed_over(ws, h):
    """Parameters from the closure, as people write it."""
    return gc.checkpoint(lambda h: block(ws, h))(h)


def arena(fn) -> int:
    scheduled = schedule(passes.optimize(gc.grad(fn).graph(W, X)))
    return plan(lifetimes(scheduled.kernels, scheduled.temps), {}).nbytes


ONE = 8 * ROWS * WIDTH  # bytes of one layer's values


@pytest.mark.parametrize("part", [gc.checkpoint(block), closed_over], ids=["arguments", "closure"])
def test_the_peak_of_memory_falls(part):
    plain = arena(blocks_of(block))
    assert plain >= LAYERS * ONE
    # 3 block boundaries and what the backward pass works with; what is recomputed stays in blocks.
    assert arena(blocks_of(part)) <= 7 * ONE
    nested = blocks_of(lambda ws, h: gc.checkpoint(lambda h: part(ws[2:], part(ws[:2], h)))(h), 8)
    assert arena(nested) < plain


@pytest.mark.parametrize("part", [gc.checkpoint(block), closed_over], ids=["arguments", "closure"])
def test_equal_values_and_derivatives(part):
    ws, x = W[:, :4, :4], X[:5, :4]
    for transform in (gc.value_and_grad, lambda f: lambda w, x: gc.hvp(f)(w, x, w * w)):
        found = gc.interpret(transform(blocks_of(part)))(ws, x)
        expected = gc.interpret(transform(blocks_of(block)))(ws, x)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_compiled_gradients_are_equal():
    ws, x = W[:, :4, :4], X[:5, :4]
    value, grads = gc.value_and_grad(blocks_of(gc.checkpoint(block)))(ws, x)
    expected = gc.value_and_grad(blocks_of(block))(ws, x)
    assert value == pytest.approx(expected[0], rel=1e-13)
    np.testing.assert_allclose(grads, expected[1], rtol=1e-11, atol=1e-12)


def test_memory_of_a_compiled_gradient_falls():
    plain, less = (gc.grad(blocks_of(part)).memory(W, X) for part in (block, gc.checkpoint(block)))
    assert less.temporaries * 2 < plain.temporaries


def test_what_stays_in_blocks_of_rows_is_not_computed_again():
    """Layers of one kernel need no array of all rows; behind barriers each would need some."""
    ws = [np.eye(WIDTH, dtype=np.float32) for _ in range(6)]
    x = np.ones((ROWS, WIDTH), np.float32)

    def loss(part):
        def run(ws, x):
            for w in ws:
                x = part(x, w)
            return (x * x).mean()

        return gc.grad(run)

    plain, parts = loss(layer := lambda x, w: np.tanh(x @ w)), loss(gc.checkpoint(layer))
    assert parts.memory(ws, x) == plain.memory(ws, x)
    assert parts.memory(ws, x).temporaries < x.nbytes
    apart = passes.optimize(parts.graph(ws, x))
    scheduled = schedule(apart)
    assert plan(lifetimes(scheduled.kernels, scheduled.temps), {}).nbytes > 2 * x.nbytes
    assert "barrier" not in gc.inspect(parts, ws, x).optimized


def test_the_part_is_computed_twice():
    def count(fn, op):
        return [n.op for n in passes.optimize(fn.graph(W, X)).order].count(op)

    assert count(gc.grad(blocks_of(gc.checkpoint(block))), "tanh") == 2 * LAYERS


def test_with_vmap_and_in_forward_mode():
    part = gc.checkpoint(lambda x, y: np.sin(x) * y)

    def loss(part):
        return lambda x, y: gc.vmap(lambda a: (part(a, y) ** 2).sum())(x).sum()

    x, y = X[:3, :4], X[4, :4]
    plain = lambda x, y: np.sin(x) * y  # noqa: E731
    for a, b in zip(gc.interpret(gc.grad(loss(part), (0, 1)))(x, y),
                    gc.interpret(gc.grad(loss(plain), (0, 1)))(x, y), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-12)
    per_row = gc.interpret(gc.vmap(gc.grad(lambda x, y: part(x, y).sum()), in_axes=(0, None)))
    np.testing.assert_allclose(per_row(x, y), np.cos(x) * y)
    _, change = gc.interpret(gc.jvp(part))(y, y, y)
    np.testing.assert_allclose(change, np.cos(y) * y * y)
    gc.check_grads(part, x, y)


def test_trees_integers_and_dead_branches():
    @gc.checkpoint
    def part(params, i, kind="log"):
        x = params["x"][i]
        return {"y": np.where(x > 0, np.log(x), 0) if kind == "log" else x, "i": i}

    def loss(params, i):
        out = part(params, i, kind="log")
        return np.where(out["i"] > 0, out["y"], 0).sum()

    x, i = np.array([0.0, -1.0, 2.0]), np.array([0, 1, 2])
    grads = gc.interpret(gc.grad(loss))({"x": x}, i)
    np.testing.assert_array_equal(grads["x"], [0, 0, 0.5])


def test_masks_reach_into_the_part():
    part = gc.checkpoint(lambda x: np.log(x))
    found = gc.interpret(gc.grad(lambda x: np.where(x > 0, part(x), 0).sum()))(np.array([0.0, 2.0]))
    np.testing.assert_array_equal(found, [0, 0.5])


def test_outside_of_a_trace_it_is_the_function():
    np.testing.assert_array_equal(gc.checkpoint(np.sin)(X), np.sin(X))


# ------------------------------------------------------------------------------- the barrier


@pytest.mark.parametrize("run", [python_run, native_run])
def test_barriers_before_every_kind_of_reader(run):
    def fn(x, w, i):
        after = build.reduce("sum", e("exp", w), (0, 1))
        y, v = build.barrier(x, after), build.barrier(w, e("sin", w))
        k = build.barrier(i, after)
        rows = build.take(y, k, 0)
        flat = build.reshape(y, (x.shape[0] * x.shape[1],))
        return (
            y,
            e("add", y, x),
            build.matmul(y, v),
            build.reduce("sum", y, (0,)),
            rows,
            build.transpose(y, (1, 0)),
            flat,
            build.concat((y, x), 0),
            build.scatter_add(k, rows, 0, 5),
            build.barrier(e("exp", x), after),
            after,
        )

    arrays = [X[:4, :3], W[0, :3, :2], np.array([3, 0])]
    graph = make_graph(fn, arrays)
    assert_same(run(graph, arrays), interp.evaluate(graph, arrays))


def test_what_is_behind_a_barrier_waits():
    def fn(a):
        slow = build.matmul(build.matmul(a, a, 0, 1), a)
        early = build.matmul(a, a, 1, 0)
        late = build.matmul(build.barrier(a, slow), a, 1, 0)
        return late, early, slow

    kernels = schedule(passes.optimize(make_graph(fn, [X[:8]]))).kernels
    products = [n for k in kernels for n in k.nodes if n.op == "matmul"]
    assert len(products) == 4  # both copies of the same product
    assert any(n.inputs[0].op == "barrier" for n in kernels[-1].nodes)


@pytest.mark.parametrize("outer", [gc.jacfwd, gc.jacrev])
@pytest.mark.parametrize("inner", [gc.jacfwd, gc.jacrev])
def test_second_jacobians_of_a_counted_loop(outer, inner):
    """What the loop counts waits for a cotangent, and does not depend on it otherwise."""

    def power(x):
        step = lambda s: (s[0] + 1, s[1] * x)  # noqa: E731
        return gc.while_loop(lambda s: s[0] < 3, step, (0, x), max_steps=5)[1]

    layer = gc.checkpoint(power)
    x = np.array([0.3, -0.4])
    found = gc.interpret(outer(inner(lambda x: x * np.sum(layer(x)))))(x)
    expected = gc.interpret(gc.jacfwd(gc.jacrev(lambda x: x * np.sum(x**4))))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
