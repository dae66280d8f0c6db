"""Loops over arguments: equal layers read their weights where they are, and write gradients where
the caller wants them."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run
from helpers import make_graph

import graphc as gc
from graphc import interp, optim, passes
from graphc.codegen.writer import write
from graphc.ir import build, control
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.schedule import loops as L
from graphc.schedule import schedule
from graphc.trace.tree import flatten
from graphc.train.step import StepTypes, TracedStep

E = build.elementwise
RNG = np.random.default_rng(0)


def network(layers, x):
    for w, b in layers:
        x = np.tanh(x @ w + b)
    return np.mean(x * x)


def layers(count, size=3):
    return [(RNG.normal(size=(size, size)) / 2, RNG.normal(size=size)) for _ in range(count)]


def stacked(rows, shape=None):
    return build.concat([build.reshape(r, (1, *(shape or r.shape))) for r in rows], 0)


def stepping(stack, init, reverse=False):
    """``h = sin(h + row)`` for each row: the last h, and all of them."""
    h, row = parameters(init.type, tensor_type(stack.dtype, stack.shape[1:]))
    after = E("sin", E("add", h, row))
    (body,), _ = control.close([[after, after]], [h, row])
    return build.loop(body, [init], [stack], length=stack.shape[0], reverse=reverse)


def parameters(*types):
    return [build.placeholder(-7, k, t) for k, t in enumerate(types)]


def copies(scheduled):
    """Stacks that are put together, and rows that are taken apart, by kernels."""
    nodes = [n for k in L.leaves(scheduled.kernels) for n in k.nodes]
    return sum(n.op in ("concat", "slice") for n in nodes)


def agrees(graph, arrays, native=False):
    expected = interp.evaluate(graph, arrays)
    assert_same(python_run(graph, [a.copy() for a in arrays]), expected)
    if native:
        assert_same(native_run(graph, [a.copy() for a in arrays]), expected)


@pytest.mark.parametrize("native", [False, True], ids=["python", "native"])
def test_a_network_copies_neither_weights_nor_gradients(native):
    given = layers(33), RNG.normal(size=(4, 3))
    graph = passes.optimize(gc.value_and_grad(network).graph(*given))
    scheduled = schedule(graph)
    assert copies(scheduled) == 0
    assert all(t.size != 33 * 9 for t in scheduled.temps)
    agrees(graph, [a for pair in given[0] for a in pair] + [given[1]], native)


def test_kernels_and_code_do_not_grow_with_the_layers():
    sizes = set()
    for count in (40, 80, 160):
        graph = gc.value_and_grad(network).graph(layers(count), np.ones((4, 3)))
        scheduled = schedule(passes.optimize(graph))
        code = write(scheduled).text
        sizes.add((len(scheduled.kernels), len(code.splitlines()), len(scheduled.temps)))
    assert len(sizes) == 1


@pytest.mark.parametrize("order", ["forward", "backward", "irregular", "the same"])
@pytest.mark.parametrize("reverse", [False, True])
def test_rows_in_any_order(order, reverse):
    places = {"forward": [0, 1, 2, 3, 4], "backward": [4, 3, 2, 1, 0], "the same": [2] * 5,
              "irregular": [0, 1, 4, 2, 3]}[order]  # fmt: skip

    def f(*arrays):
        rows = [arrays[k] for k in places]
        return stepping(stacked(rows), arrays[5], reverse=reverse)

    arrays = [RNG.normal(size=(2, 3)) for _ in range(6)]
    graph = make_graph(f, arrays)
    assert copies(schedule(graph)) == 0
    assert len(schedule(graph).consts) == (order == "irregular")  # the table of places
    agrees(graph, arrays, native=order == "irregular")


def test_rows_that_are_views_of_arguments_and_of_sizes_known_later():
    def f(*arrays):
        return stepping(stacked(arrays[:4], (6,)), arrays[4])[0]

    arrays = [*(RNG.normal(size=(2, 3)).astype(np.float32) for _ in range(4)), np.ones(6, "f4")]
    agrees(make_graph(f, arrays), arrays)

    def g(*arrays):
        return stepping(stacked(arrays[:4]), arrays[4])[0]

    arrays = [RNG.normal(size=7) for _ in range(5)]
    graph = make_graph(g, arrays, shapes=[("n",)] * 5)
    assert graph.inputs[0].shape == (symbol("n"),)
    assert copies(schedule(graph)) == 0
    agrees(graph, arrays)


def test_what_others_read_is_put_together():
    def computed(*arrays):  # no argument
        return stepping(stacked([E("sin", a) for a in arrays[:4]]), arrays[4])[0]

    def read_whole(*arrays):
        stack = stacked(arrays[:4])
        return stepping(stack, arrays[4])[0], build.reduce("sum", stack, (0,))

    def returned(*arrays):
        stack = stacked(arrays[:4])
        return stepping(stack, arrays[4])[0], stack

    def both(*arrays):
        stack = stacked(arrays[:5])
        init = build.broadcast(arrays[5], (5, 3), (1,))
        h, row, whole = parameters(init.type, arrays[0].type, stack.type)
        after = E("add", E("mul", h, whole), build.broadcast(row, (5, 3), (1,)))
        (body,), _ = control.close([[after]], [h, row, whole])
        return build.loop(body, [init], [stack], [stack], length=5)

    for f, count in ((computed, 5), (read_whole, 5), (returned, 5), (both, 6)):
        arrays = [RNG.normal(size=3) for _ in range(count)]
        graph = make_graph(f, arrays)
        assert copies(schedule(graph)) > 0
        agrees(graph, arrays)


def row_of(stack, k):
    start, size = (k, *[0] * (stack.ndim - 1)), (1, *stack.shape[1:])
    return build.reshape(build.slice_(stack, start, size, [1] * stack.ndim), stack.shape[1:])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_results_in_any_order(order):
    def f(*arrays):
        last, all_of_them = stepping(stacked(arrays[:4]), arrays[4])
        return last, *(row_of(all_of_them, k) for k in order)

    arrays = [RNG.normal(size=3) for _ in range(5)]
    graph = make_graph(f, arrays)
    assert copies(schedule(graph)) == 0
    agrees(graph, arrays, native=order[0] == 1)


@pytest.mark.parametrize("read", ["some", "twice", "whole", "further", "in part"])
def test_results_that_are_not_rows_only(read):
    def f(*arrays):
        _, stack = stepping(stacked(arrays[:4]), arrays[4])
        rows = [row_of(stack, k) for k in range(4)]
        if read == "some":
            return rows[:3]
        if read == "twice":
            return [*rows, rows[1]]
        if read == "whole":
            return [*rows, stack]
        if read == "further":
            return [*rows, E("exp", rows[2])]
        return [*rows[:3], build.slice_(stack, (3, 1), (1, 2), (1, 1))]

    arrays = [RNG.normal(size=3) for _ in range(5)]
    graph = make_graph(f, arrays)
    assert copies(schedule(graph)) > 0
    agrees(graph, arrays)


def test_a_weight_that_is_read_elsewhere_too():
    """Weight decay: the sum of squares of what the loops step through."""

    def loss(params, x):
        return network(params, x) + sum(np.sum(w * w) for w, _ in params)

    given = layers(34), RNG.normal(size=(4, 3))
    graph = passes.optimize(gc.value_and_grad(loss).graph(*given))
    agrees(graph, [a for pair in given[0] for a in pair] + [given[1]])


# ------------------------------------------------------------------------------ changed in place


def swapped(rows):
    """Each step's body sees its row reversed: the kernel that changes it in place must not."""
    return build.slice_(rows, (2,), (3,), (-1,))


def updates():
    """name -> graph of arguments a b c d, then e, and what is donated; whether that is in place"""
    a, b, c, d, e = (build.input(k, f"a{k}", tensor_type("float64", (3,))) for k in range(5))
    four = [a, b, c, d]

    def step(stack, *more, init=(), consts=(), change=lambda row, *_: E("mul", row, E("exp", row))):
        types = [tensor_type(s.dtype, s.shape[1:]) for s in (stack, *more)]
        rows = parameters(*(i.type for i in init), *types, *(k.type for k in consts))
        after = rows[: len(init)]
        changed = change(*rows[len(init) :])
        (body,), _ = control.close([[*after, changed]], rows)
        return build.loop(body, init, [stack, *more], consts, length=4)[-1]

    def case(result, *more, order=(0, 1, 2, 3), donors=(0, 1, 2, 3)):
        rows = [row_of(result, k) for k in order]
        return Graph("f", (*four, e), (*rows, *more), donated=dict(enumerate(donors)))

    stack = stacked(four)
    yield "an update", True, case(step(stack))
    yield "an update in another order", True, case(step(stacked([c, a, d, b])), donors=(2, 0, 3, 1))
    yield "rows read backwards", False, case(step(stack, change=lambda r: E("exp", swapped(r))))
    yield "rows of other steps", False, case(step(stack), order=(3, 2, 1, 0))
    yield "neighbours", False, case(step(stack), donors=(1, 0, 2, 3))
    other = step(stack, stacked([b, c, d, a]), change=lambda r, s: E("add", r, s))
    yield "rows of other steps too", False, case(other)
    constant = step(stack, consts=[b], change=lambda r, s: E("add", r, s))
    yield "a constant that is overwritten", False, case(constant)
    carried = step(stacked([e, e, e, e]), init=[b], change=lambda r: E("exp", r))
    yield "a carry that is overwritten", True, case(carried)  # it has memory of its own
    yield "not read", True, case(step(stacked([e, e, e, e])))
    yield "read before", True, case(step(stack), E("sin", b), stepping(stack, e)[0])
    yield "read after", False, case(step(stack), E("sin", E("add", b, row_of(step(stack), 0))))
    yield "not all of them", False, case(step(stack), donors=(0, 1, 2))
    yield "the old ones returned", False, case(step(stack), b)
    yield "by one that was changed", False, case(step(stack, consts=[e]), b, donors=(0, 1, 2, 3, 4))


UPDATES = {name: (in_place, graph) for name, in_place, graph in updates()}


@pytest.mark.parametrize("name", UPDATES)
def test_updates_of_rows(name):
    in_place, graph = UPDATES[name]
    agrees(graph, [RNG.normal(size=3) for _ in graph.inputs])
    if in_place:
        assert copies(schedule(graph)) == 0


@pytest.mark.parametrize("name", ["an update in another order", "rows read backwards"])
def test_updates_of_rows_natively(name):
    graph = UPDATES[name][1]
    agrees(graph, [RNG.normal(size=3) for _ in graph.inputs], native=True)


def training_step(count, optimizer):
    params, x = layers(count), RNG.normal(size=(8, 3))
    state = optimizer.init(params)
    step = TracedStep(network, optimizer, StepTypes.of(params, state, (x,)))
    graph, leaves = step.traced(4).graph, flatten((params, state))[0]
    donated = {1 + k: k for k in range(len(leaves))}
    graph = Graph(graph.name, graph.inputs, graph.outputs, graph.sources, donated)
    return passes.optimize(graph), [*map(np.array, leaves), x[:4]]


@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.Adam(0.1)], ids=["sgd", "adam"])
def test_training_steps_do_not_grow_with_the_layers(optimizer):
    sizes = set()
    for count in (40, 80):
        graph, arrays = training_step(count, optimizer)
        scheduled = schedule(graph)
        lines = [k.text.count("\n") for k in write(scheduled).kernels]
        sizes.add((len(scheduled.kernels), len(scheduled.temps), tuple(lines)))
        expected = interp.evaluate(graph, arrays)
        assert_same(python_run(graph, [np.array(a) for a in arrays]), expected)
    assert len(sizes) == 1
