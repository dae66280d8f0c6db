"""Arguments and results that are rows of a loop's stacks: the same values, graphs of one size."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run

import graphc as gc
from graphc import interp, optim, passes
from graphc.ad import transforms
from graphc.ir.graph import Graph
from graphc.ir.rows import fold_rows, rows_of, unfitting, unfold_rows
from graphc.ir.verify import verify
from graphc.passes.reroll import BLOCKS_OF_ARGUMENTS
from graphc.schedule import schedule
from graphc.trace.tracing import spec_of, trace
from graphc.trace.tree import flatten, unflatten
from graphc.train.step import StepTypes, TracedStep

RNG = np.random.default_rng(3)
N = BLOCKS_OF_ARGUMENTS + 2
X = RNG.normal(size=(4, 3))


def layers(count=N, dtype=np.float64):
    made = [(RNG.normal(size=(3, 3)) / 2, RNG.normal(size=3)) for _ in range(count)]
    return [(w.astype(dtype), b.astype(dtype)) for w, b in made]


def network(params, x):
    for w, b in params:
        x = np.tanh(x @ w + b)
    return np.mean(x * x)


def of_tied_weights(params, x):
    """Each weight in two layers, biases of their own."""
    half = len(params) // 2
    for k, (_, b) in enumerate(params):
        x = np.tanh(x @ params[k % half][0] + b)
    return np.mean(x * x)


def with_a_penalty(params, x):
    return network(params, x) + 0.1 * sum(np.sum(w * w) for w, _ in params)


def with_results_between(params, x):
    found = []
    for w, b in params:
        x = np.tanh(x @ w + b)
        found.append(np.sum(x))
    return np.mean(x * x) + np.mean(np.stack(found) ** 2)


def one_is_another(params, x):
    for k, (w, b) in enumerate(params):
        x = (np.sin if k == 3 else np.tanh)(x @ w + b)
    return np.mean(x * x)


def the_first_weight_again(params, x):
    return network(params, x @ params[0][0]) + np.sum(params[5][1])


def of_checkpoints(params, x):
    layer = gc.checkpoint(lambda w, b, x: np.tanh(x @ w + b))
    for w, b in params:
        x = layer(w, b, x)
    return np.mean(x * x)


def twice(params, x):
    """Two loops over the same weights."""
    return network(params, x) * network(params[::-1], x + 1)


PROGRAMS = {
    f.__name__: f
    for f in (network, of_tied_weights, with_a_penalty, with_results_between, one_is_another,
              the_first_weight_again, of_checkpoints, twice)
}  # fmt: skip
TRANSFORMS = {
    "gradient": transforms.value_and_grad,
    "both": lambda f: transforms.value_and_grad(f, (0, 1)),
    "forward": lambda f: lambda p, x: transforms.jvp(f, 1)(p, x, np.cos(x)),
    "second": lambda f: lambda p, x: transforms.hvp(f)(p, x, p),
    "of examples": lambda f: transforms.value_and_grad(
        lambda p, x: np.sum(gc.vmap(lambda row: f(p, row[None]))(x))
    ),
}


def plain(f, *args):
    """The unrolled graph; its derivatives are those of the unrolled program."""
    leaves, structure = flatten(args)
    specs = unflatten(structure, [spec_of(leaf, "x") for leaf in leaves])
    return trace(f, specs, before_adjoint=passes.stabilize_nodes).graph


def rolled(f, *args):
    leaves, structure = flatten(args)
    specs = unflatten(structure, [spec_of(leaf, "x") for leaf in leaves])
    roll = passes.reroll_nodes
    return trace(f, specs, before_adjoint=passes.stabilize_nodes, roll=roll).graph


def arrays(*args):
    return [np.asarray(a) for a in flatten(args)[0]]


CASES = [(name, "gradient") for name in PROGRAMS] + [
    (name, other)
    for name in ("network", "of_tied_weights", "with_results_between")
    for other in TRANSFORMS
    if other != "gradient"
]


@pytest.mark.parametrize(("name", "transform"), CASES)
def test_values_and_derivatives_are_those_of_the_unrolled_program(name, transform):
    f, args = TRANSFORMS[transform](PROGRAMS[name]), (layers(), X)
    given = arrays(*args)
    expected = interp.evaluate(plain(f, *args), given)
    graph = rolled(f, *args)
    assert_same(interp.evaluate(graph, given), expected)
    folded = verify(fold_rows(graph))
    assert_same(interp.evaluate(folded, given), expected)
    assert_same(interp.evaluate(verify(unfold_rows(folded)), given), expected)
    optimized = passes.optimize(graph, check=True)
    assert_same(interp.evaluate(optimized, given), expected)
    assert_same(python_run(optimized, given), expected)


def test_a_network_is_one_loop_each_way_whatever_its_depth():
    sizes = set()
    for count in (N, 2 * N):
        graph = gc.value_and_grad(network).graph(layers(count), X)
        seen = [len(fold_rows(graph).deep_order)]
        passes.optimize(graph, observe=lambda _, g, seen=seen: seen.append(len(g.deep_order)))
        seen.append(len(schedule(passes.optimize(graph)).graph.deep_order))
        sizes.add(tuple(seen))
    assert len(sizes) == 1 and max(*sizes) < 100


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_natively_also_from_views(dtype):
    params = [(w.T[::-1], b[::-1]) for w, b in layers(dtype=dtype)]
    x = X.astype(dtype)[::-1]
    value, grads = gc.value_and_grad(network)(params, x)
    f = transforms.value_and_grad(network)
    expected = interp.evaluate(plain(f, params, x), arrays(params, x))
    assert_same([value, *flatten(grads)[0]], expected)


def test_names_of_arguments_are_not_lost():
    f = gc.value_and_grad(network)
    f(layers(), X)
    run = next(iter(f._families.values())).variants[0].run
    names = [name for name, _ in run.artifact.inputs]
    assert names[:3] == ["params[0][0]", "params[0][1]", "params[1][0]"]
    assert len(names) == 2 * N + 1 and len(run.artifact.outputs) == 2 * N + 1


def step(optimizer, count=N):
    params = layers(count)
    state = optimizer.init(params)
    made = TracedStep(network, optimizer, StepTypes.of(params, state, (X,)))
    graph, leaves = made.traced(4).graph, arrays(params, state)
    donated = {1 + k: k for k in range(len(leaves))}
    graph = Graph(graph.name, graph.inputs, graph.outputs, graph.sources, donated)
    return graph, [*leaves, X]


@pytest.mark.parametrize("native", [False, True], ids=["python", "native"])
def test_training_steps_in_place(native):
    graph, given = step(optim.Adam(0.1))
    folded = passes.optimize(graph, check=True)
    assert len(folded.inputs) < 20 and len(folded.donated) == len(folded.outputs) - 1
    assert rows_of(folded).donors(folded.donated) == graph.donated
    assert unfold_rows(folded).donated == graph.donated
    run = native_run if native else python_run
    expected = interp.evaluate(graph, given)
    assert_same(run(graph if native else folded, [np.array(a) for a in given]), expected)


def test_what_a_pass_reads_whole_is_put_together_again():
    folded = fold_rows(gc.value_and_grad(network).graph(layers(), X))
    stack, result = folded.inputs[1], folded.outputs[1]
    assert not unfitting(folded)
    more = folded.with_outputs([folded.outputs[0], result, stack])
    assert unfitting(more) == {stack}
    apart = verify(unfold_rows(folded, {stack, result}))
    assert len(apart.inputs) == N + 2 and len(apart.outputs) == N + 2
    given = arrays(layers(), X)
    assert_same(interp.evaluate(apart, given), interp.evaluate(folded, given))
    assert_same(python_run(apart, given), interp.evaluate(folded, given))
