"""Random networks, their derivatives and batches: generated code against the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, precision, python_run
from random_networks import random_network

import graphc as gc
from graphc import interp
from graphc.trace.tree import flatten, unflatten


def along(params, x, seed):
    """A direction for the parameters and ``x``."""
    leaves, structure = flatten((params, x))
    rng = np.random.default_rng(seed)
    return unflatten(structure, [rng.normal(size=a.shape).astype(a.dtype) for a in leaves])


def forward(network, f, loss):
    return f, network.args


def gradient(network, f, loss):
    return gc.value_and_grad(loss, argnums=(0, 1, 2)), network.args


def curvature(network, f, loss):
    return gc.hvp(loss, argnums=(0, 1)), (*network.args, along(*network.args[:2], 1))


def batch(network, f, loss):
    params, x, y, i = network.args
    both = gc.vmap(gc.value_and_grad(loss, argnums=(0, 1)), in_axes=(None, 0, None, None))
    return both, (params, np.stack([x, 0.7 * x]), y, i)


KINDS = [forward, gradient, curvature, batch]


def traced(network, kind):
    """A graph of the network, arrays for it, and what NumPy makes of them."""
    function, args = kind(network, *network.functions())
    graph = gc.interpret(function).graph(*args)
    arrays = [np.asarray(a) for a in flatten(args)[0]]
    return graph, arrays, interp.evaluate(graph, arrays)


@pytest.mark.parametrize("seed", range(24))
def test_as_python(seed):
    network = random_network(seed, size=9, tiny=seed % 4 != 3)
    graph, arrays, expected = traced(network, KINDS[seed // 2 % 4])
    found = python_run(graph, arrays, optimize=True, threads=1 + (seed % 5 == 0))
    assert_same(found, expected, 5 * precision(graph), network.source)


@pytest.mark.parametrize("seed", range(100, 105))
def test_compiled(seed):
    network = random_network(seed, size=7)
    graph, arrays, expected = traced(network, KINDS[seed % 4])
    found = native_run(graph, arrays, threads=1 + seed % 2)
    assert_same(found, expected, 5 * precision(graph), network.source)


@pytest.mark.parametrize("seed", [200, 203, 206])
def test_gradients_against_differences(seed):
    network = random_network(seed, size=8, dtype="float64")
    _, loss = network.functions()
    params, x, y, i = network.args
    leaves, structure = flatten((params, x))
    directions = flatten(along(params, x, seed))[0]

    def at(step):
        pairs = zip(leaves, directions, strict=True)
        return loss(*unflatten(structure, [a + step * v for a, v in pairs]), y, i)

    grads = flatten(gc.interpret(gc.grad(loss, argnums=(0, 1)))(params, x, y, i))[0]
    terms = [np.sum(g * v) for g, v in zip(grads, directions, strict=True)]
    scale = 1 + sum(map(abs, terms))
    np.testing.assert_allclose((at(1e-6) - at(-1e-6)) / 2e-6, sum(terms), atol=1e-6 * scale)


def test_one_program_for_several_batch_sizes():
    network = random_network(7, size=8, is_open=True, dtype="float64")
    f, _ = network.functions()
    compiled, interpreted = gc.compile(f), gc.interpret(f)
    for rows in network.batches:
        found, expected = (flatten(g(network.params, *rows))[0] for g in (compiled, interpreted))
        assert_same(found, expected, label=network.source)
    assert len({len(x) for x, _, _ in network.batches}) > 1


def test_networks_are_reproducible_and_varied():
    sources = [random_network(seed, size=6).source for seed in (0, 1, 0)]
    assert sources[0] == sources[2] != sources[1]
