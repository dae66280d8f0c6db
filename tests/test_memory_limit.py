"""``memory_limit=``: equal results within the limit, little computed again, and what was chosen."""

from __future__ import annotations

import numpy as np
import pytest
import workload_schedules as workloads
from generated import assert_same, precision, python_run
from random_graphs import random_graph

import graphc as gc
from graphc import interp, passes
from graphc.errors import OptionError
from graphc.ir.verify import verify
from graphc.memory import predict
from graphc.memory_limit import _Held, within
from graphc.schedule import schedule

RNG = np.random.default_rng(0)
# Smaller weights leave nothing to hold: a kernel takes a block of rows through several layers.
LAYERS = [RNG.normal(size=(48, 48)) / 7 for _ in range(12)]
X = RNG.normal(size=(500, 48))
ONE = X.nbytes  # of the values between two layers


def network(ws, x):
    for w in ws:
        x = np.tanh(x @ w)
    return np.mean(x * x)


def normalized(ws, x):
    """Between products: chains of cheap operations, whose values the gradient wants."""
    for w in ws[:5]:
        z = x @ w
        z = z * (1 / np.sqrt(np.mean(z * z, axis=1, keepdims=True) + 1e-3))
        x = z * np.exp(-z) + np.sin(z)
    return np.mean(x * x)


def looped(ws, x):
    """A loop whose results are held, and one that reads what may be dropped."""
    h, _ = gc.scan(lambda h, w: (np.tanh(h @ w), h[0]), x, np.stack(ws[:3]))
    for w in ws[3:10]:
        h = np.sin(h @ w)
    h, _ = gc.scan(lambda h, w: (np.tanh(h @ w), h[0]), h, np.stack(ws[10:]))
    return np.mean(h * h)


def arrays_of(ws, x):
    return [*ws, x]


@pytest.mark.parametrize("share", [0.9, 0.75, 0.65])
@pytest.mark.parametrize("fn", [network, normalized, looped])
def test_equal_results_within_the_limit(fn, share):
    graph = gc.value_and_grad(fn).graph(LAYERS, X)
    plain = predict(graph)
    limited, needs = within(graph, int(share * plain.peak))
    assert needs.recomputed and needs.peak <= share * plain.peak
    assert predict(limited).peak == needs.peak
    expected = interp.evaluate(graph, arrays_of(LAYERS, X))
    found = interp.evaluate(limited, arrays_of(LAYERS, X))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def products(graph) -> int:
    return sum(node.op == "matmul" for node in passes.optimize(graph).order)


def test_no_more_is_computed_again_than_is_needed():
    graph = gc.value_and_grad(network).graph(LAYERS, X)
    peak = predict(graph).peak
    counts = [products(within(graph, peak - k * ONE)[0]) - products(graph) for k in (0, 1, 3, 5)]
    assert counts[0] == 0 and 0 < counts[1] < counts[2] <= counts[3] <= len(LAYERS)


def test_cheap_chains_go_before_products():
    graph = gc.value_and_grad(normalized).graph(LAYERS, X)
    limited, needs = within(graph, predict(graph).peak - ONE)
    assert products(limited) == products(graph) and needs.recomputed


def test_the_least_is_about_twice_the_root_of_the_depth():
    deep = [RNG.normal(size=(48, 48)) / 7 for _ in range(25)]  # more would be a loop
    graph = gc.value_and_grad(network).graph(deep, X)
    with pytest.raises(OptionError, match="the least") as error:
        within(graph, 1000)
    assert len(str(error.value).splitlines()) <= 8
    least = int(str(error.value).split("(")[1].split(" bytes")[0])
    found = within(graph, least)[1]
    assert found.peak <= least
    assert found.temporaries <= (2 * 5 + 5) * ONE < 0.6 * predict(graph).temporaries


def test_the_option_and_what_it_says():
    plain = gc.value_and_grad(network)
    limit = int(0.7 * plain.memory(LAYERS, X).peak)
    limited = gc.value_and_grad(network, memory_limit=limit)
    value, grads = limited(LAYERS, X)
    expected, wanted = plain(LAYERS, X)
    assert value == pytest.approx(expected, rel=1e-13)
    for a, b in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
    needs = limited.memory(LAYERS, X)
    assert needs.peak <= limit
    (family,) = limited._families.values()
    (binding,) = next(iter(family.variants[0].run._free.values()))
    assert binding.plan.nbytes == needs.temporaries
    assert "tanh f64[500,48] at test_memory_limit.py" in needs.recomputed[0]
    report = gc.inspect(limited, LAYERS, X)
    assert "computed again: tanh" in str(report) and "barrier" in report.optimized


def test_other_sizes_meet_the_limit_too():
    limited = gc.value_and_grad(network, memory_limit="1.2 MB", dims={"x": ("n", None)})
    small = limited.memory(LAYERS, X[:100])
    assert not small.recomputed
    assert limited.memory(LAYERS, X[:200]).peak <= 1_200_000
    with pytest.raises(OptionError, match=r"memory_limit=1\.1 MiB"):
        limited(LAYERS, X)


def test_a_trainer_keeps_the_limit():
    def fit(**options):
        trainer = gc.Trainer(network, gc.optim.sgd(0.5), **options)
        return trainer.fit(LAYERS, X, epochs=2, batch_size=200, shuffle=False, progress=False)

    plain, limited = fit(), fit(memory_limit="1.2 MB")
    assert plain.history.memory is None
    assert limited.history.memory.peak <= 1_200_000 and limited.history.memory.recomputed
    np.testing.assert_allclose(limited.history.loss, plain.history.loss, rtol=1e-10)
    with pytest.raises(OptionError, match="native engine"):
        gc.Trainer(network, gc.optim.sgd(0.5), engine="interpreter", memory_limit=10**9)


@pytest.mark.parametrize("text", ["much", "12 parsecs", 0, -5, 1.5, True, "0 MB"])
def test_limits_that_are_none(text):
    with pytest.raises(OptionError, match="write 200_000_000"):
        gc.compile(np.sin, memory_limit=text)


def test_complex_values_are_told_and_not_computed_again():
    f = gc.compile(lambda x: np.abs(np.sum(np.exp(x) * x)), memory_limit=1000)
    assert f.memory(np.ones(20, complex)).arguments == 320
    with pytest.raises(OptionError, match="Complex values"):
        f.memory(np.ones(100, complex))


def test_a_workload_with_less_memory():
    graph, sizes = workloads.graph_of("W7")
    plain = predict(graph, sizes)
    limit = plain.peak - plain.temporaries // 10
    assert within(graph, limit, sizes)[1].peak <= limit


def test_small_layers_hold_a_block_of_rows_only():
    graph, sizes = workloads.graph_of("W9")
    more = {name: 4 * rows for name, rows in sizes.items()}
    held, of_more = (predict(graph, s).temporaries for s in (sizes, more))
    assert held < 400_000 and of_more < 1.3 * held


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_whatever_is_dropped_wherever_values_are_equal(first):
    """Programs as drawn, cut at each of their kernels, run as the generated Python."""
    tried = 0
    for seed in range(first, first + 20):
        graph, arrays = random_graph(seed, size=60)
        made, sizes = schedule(passes.optimize(graph)), interp.bind_dims(graph, arrays)
        expected = interp.evaluate(graph, arrays)
        for kernel in range(1, len(made.kernels) - 1, 2):
            held = _Held(made, sizes, kernel)
            for dropped in held.choices()[-1:]:
                tried += 1
                limited = verify(held.without(dropped))
                found = python_run(limited, arrays, optimize=True)
                assert_same(found, expected, precision(graph), f"seed {seed}, kernel {kernel}")
    assert tried > 20
