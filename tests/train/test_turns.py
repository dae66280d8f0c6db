"""Steps of few elements: many of them are one call, and train what single steps train."""

from __future__ import annotations

import re

import numpy as np
import pytest
from generated import assert_same, python_run, turns

import graphc as gc
from graphc import interp
from graphc.codegen.native import compile_program
from graphc.codegen.writer import write
from graphc.passes import optimize
from graphc.schedule import loops as L
from graphc.schedule import schedule
from graphc.trace.tree import flatten
from graphc.train.turns import in_turns

RNG = np.random.default_rng(5)
X = RNG.normal(size=(18, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5] > 0).astype(np.float32)


def loss(params, x, y):
    z = x @ params["w"] + params["b"]
    return np.mean(np.logaddexp(0, z) - y * z)


def engine(kind, batch_size, x=X, optimizer=None, fn=loss):
    params = {"w": np.zeros(3, np.float32), "b": np.zeros(1, np.float32)}
    optimizer = optimizer or gc.optim.adam(0.05)
    trainer = gc.Trainer(fn, optimizer, engine=kind)
    return trainer._engine(params, optimizer.init(params), (x, Y[: len(x)]), batch_size)


@pytest.mark.parametrize("batch_size", [18, 4, 6])
@pytest.mark.parametrize("shuffle", [False, True])
def test_turns_are_the_steps(batch_size, shuffle):
    """One batch, batches with a rest, batches without; more epochs than turns of a call."""
    epochs = 300 if batch_size == 18 else 40
    ends = []
    for kind in ("native", "interpreter"):
        trained = engine(kind, batch_size)
        ran = trained.start(epochs=epochs, shuffle=shuffle, seed=3, first_epoch=0).result()
        ends.append((ran, trained.params(), trained.state()))
    (native, *values), (plain, *expected) = ends
    assert native.status == plain.status == "finished"
    assert native.steps == plain.steps == epochs * -(-18 // batch_size)
    np.testing.assert_allclose(native.epoch_losses, plain.epoch_losses, rtol=2e-4)
    for a, b in zip(flatten(values)[0], flatten(expected)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def test_the_last_good_step_is_found_among_turns():
    """Parameters grow until the loss is not finite, long before the turns of a call are over."""

    def growing(params, x, y):
        return -np.mean(np.exp(params["w"][0] * 4)) + 0 * np.sum(x) + 0 * np.sum(y)

    ends = []
    for kind in ("native", "interpreter"):
        trained = engine(kind, 18, optimizer=gc.optim.sgd(0.02), fn=growing)
        ran = trained.start(epochs=1000, shuffle=False, seed=0, first_epoch=0).result()
        ends.append((ran, trained.params()["w"]))
    (native, w), (plain, expected) = ends
    assert native.status == plain.status == "nonfinite"
    assert native.steps == plain.steps > 2
    assert len(native.epoch_losses) == native.steps
    np.testing.assert_allclose(w, expected, rtol=1e-3)


def test_a_wish_to_stop_is_heard():
    run = engine("native", 18).start(epochs=10**9, shuffle=False, seed=0, first_epoch=0)
    run.stop()
    assert run.result().status == "stopped"


@pytest.mark.parametrize("one_batch", [True, False])
def test_turns_are_one_small_loop(one_batch):
    x, y = X[:4], Y[:4]
    built = engine("native", 4, x)
    values, step = built.leaves, built.step.traced(4).graph
    graph = in_turns(built.step.small(4), len(values), one_batch)
    loops = [k for k in schedule(optimize(graph)).kernels if isinstance(k, L.LoopControl)]
    assert [loop.small for loop in loops] == [True]
    data = [x, y] if one_batch else [np.stack([x, x]), np.stack([y, y])]
    given = [*values, *data, np.zeros(2, bool)]
    once = interp.evaluate(step, [*values, x, y])
    twice = interp.evaluate(step, [*once[1:], x, y])
    expected = [np.array([once[0], twice[0]]), *twice[1:]]
    assert_same(interp.evaluate(graph, given), expected)
    assert_same(python_run(graph, [a.copy() for a in given], optimize=True), expected)


def test_parameters_stay_in_registers():
    """The loop over the steps is one block that loads nothing but where losses go, and stores a
    loss."""

    def squares(params, x, y):
        return np.mean((x @ params["w"] + params["b"] - y) ** 2)

    built = engine("native", 4, X[:4], gc.optim.sgd(0.1), squares)
    graph = in_turns(built.step.small(4), len(built.leaves), one_batch=True)
    llvm = compile_program(write(schedule(optimize(graph)))).llvm
    (turn,) = turns(llvm)
    assert not [line for line in turn if re.search(r"\bload (float|<)|alloca", line)]
    assert len([line for line in turn if re.search(r"\bstore\b", line)]) == 1
    assert not [line for line in turn if " call " in line and "@llvm." not in line]


def test_an_index_out_of_range_is_named_as_data():
    def picked(params, index, y):
        return np.mean((params["w"][index] - y) ** 2)

    index = np.array([0, 2, 9, 1])
    trainer = gc.train.Trainer(picked, gc.optim.sgd(0.1))
    with pytest.raises(IndexError, match="index 9 in `index` is out of bounds"):
        trainer.fit({"w": np.zeros(4)}, (index, 1.0 * index), epochs=9, batch_size=4)
