"""`python -m bench.ad_ratio`: its gradients are right before anything is timed."""

import numpy as np
import pytest

import graphc as gc
from bench.ad_ratio import PROGRAMS, largest_error, mixture_data
from bench.peers.graphc_peer import OPS


@pytest.mark.parametrize("position", [0, 2, 3])
def test_the_gradients_against_differences(position):
    program, rng = PROGRAMS[position], np.random.default_rng(0)
    args = mixture_data(rng, d=3, k=4, n=5) if position == 0 else program.make(rng)
    loss = program.loss(OPS)
    first = args[0]
    move = {k: rng.normal(size=v.shape) for k, v in first.items()} if position == 0 else (
        rng.normal(size=first.shape)
    )  # fmt: skip
    grads = gc.interpret(gc.value_and_grad(loss))(*args)[1]

    def at(step):
        moved = (
            {k: v + step * move[k] for k, v in first.items()}
            if position == 0
            else (first + step * move)
        )
        return loss(moved, *args[1:])

    slope = (at(1e-6) - at(-1e-6)) / 2e-6
    found = sum(np.sum(grads[k] * move[k]) for k in move) if position == 0 else np.sum(grads * move)
    assert found == pytest.approx(slope, rel=1e-5)


def test_an_error_of_one_leaf_is_seen():
    truth = {"a": np.ones(3), "b": np.full(2, 1e-6)}
    wrong = {"a": np.ones(3), "b": np.full(2, 2e-6)}
    assert largest_error(wrong, truth) == pytest.approx(1)
    assert largest_error(np.ones(3), np.ones(3)) == 0
