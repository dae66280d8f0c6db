"""What tracing, differentiating, rewriting and scheduling a deep network cost: function calls
rather than seconds."""

from __future__ import annotations

import gc as garbage
import sys

import numpy as np
import pytest

import graphc as gc
from graphc import passes
from graphc.codegen.writer import write
from graphc.schedule import schedule

CURVES = (np.tanh, np.sin, lambda z: np.exp(-z * z), lambda z: np.maximum(z, 0))
ORDER = np.random.default_rng(1).integers(0, 4, 100).tolist()


def equal_layers(params, x):
    for w, b in params:
        x = np.tanh(x @ w + b)
    return np.mean(x * x)


def other_layers(params, x):
    """Of no period, each with a number of its own."""
    for k, (w, b) in enumerate(params):
        x = CURVES[ORDER[k]]((x @ w + b) * (1 + 0.001 * k))
    return np.mean(x * x)


def calls(network, count):
    """Python functions that are entered while a network is traced and differentiated, and from
    there until the text of its program is there."""
    params = [(np.ones((8, 8)), np.ones(8)) for _ in range(count)]
    found = [0, 0]
    stage = 0

    def entered(frame, event, argument):
        found[stage] += event == "call"

    garbage.collect()
    garbage.disable()  # when nodes die is a matter of chance
    sys.setprofile(entered)
    try:
        graph = gc.value_and_grad(network).graph(params, np.ones((4, 8)))
        stage = 1
        write(schedule(passes.optimize(graph)))
    finally:
        sys.setprofile(None)
        garbage.enable()
    return np.array(found)


# Each equal layer costs its own operations while they are traced; what is compiled is one layer,
# whose arguments are rows. Others are kernels of their own.
@pytest.mark.parametrize(
    ("network", "counts", "traced", "compiled"),
    [(equal_layers, (40, 60, 100), 800, 80), (other_layers, (16, 32, 64), 3500, 22_000)],
    ids=["equal", "others"],
)
def test_work_is_linear_in_the_layers(network, counts, traced, compiled):
    calls(network, counts[0])  # fills caches
    few, some, many = (calls(network, count) for count in counts)
    each = (many - some) / (counts[2] - counts[1])
    assert each[0] < traced and each[1] < compiled
    assert sum(many - some) < 1.3 * 2 * sum(some - few)
