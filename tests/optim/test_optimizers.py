"""Optimisers against the textbook algorithms in float64, and what they refuse."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest

import graphc as gc
from graphc import optim
from graphc.errors import OptionError, ShapeError, UnknownNameError


def gradients(params, steps, seed=0):
    rng = np.random.default_rng(seed)
    return [{k: rng.normal(0, 3, p.shape) for k, p in params.items()} for _ in range(steps)]


def start(dtype=np.float64):
    rng = np.random.default_rng(1)
    return {"W": rng.normal(size=(3, 4)).astype(dtype), "b": rng.normal(size=4).astype(dtype)}


def run(optimizer, params, grads):
    state = optimizer.init(params)
    for g in grads:
        params, state = optimizer.update(
            params, {k: v.astype(params[k].dtype) for k, v in g.items()}, state
        )
    return params, state


def adam_by_the_paper(params, grads, rate, b1, b2, eps):
    """Algorithm 1, line by line."""
    params = dict(params)
    m = {k: np.zeros_like(p) for k, p in params.items()}
    v = {k: np.zeros_like(p) for k, p in params.items()}
    for t, g in enumerate(grads, 1):
        for k in params:
            m[k] = b1 * m[k] + (1 - b1) * g[k]
            v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2
            m_hat = m[k] / (1 - b1**t)
            v_hat = v[k] / (1 - b2**t)
            params[k] = params[k] - rate * m_hat / (np.sqrt(v_hat) + eps)
    return params


@pytest.mark.parametrize("options", [{}, {"b1": 0.0, "b2": 0.9}, {"eps": 0.5}, {"b2": 0.0}])
def test_adam_is_algorithm_1(options):
    params, adam = start(), optim.adam(0.01, **options)
    grads = gradients(params, 50)
    found, state = run(adam, params, grads)
    expected = adam_by_the_paper(params, grads, 0.01, adam.b1, adam.b2, adam.eps)
    for k in params:
        np.testing.assert_allclose(found[k], expected[k], rtol=1e-12)
    assert state.step == 50


def test_adam_in_float32_stays_close_and_float32():
    params, adam = start(), optim.adam(0.01)
    grads = gradients(params, 50)
    expected = adam_by_the_paper(params, grads, 0.01, adam.b1, adam.b2, adam.eps)
    found, state = run(adam, start(np.float32), grads)
    for k in params:
        assert found[k].dtype == state.mean[k].dtype == state.square[k].dtype == np.float32
        np.testing.assert_allclose(found[k], expected[k], rtol=1e-4, atol=1e-5)


def test_first_step_of_adam_moves_by_the_learning_rate():
    params = {"w": np.zeros(3)}
    found, _ = run(optim.adam(0.25), params, [{"w": np.array([1e-3, -7.0, 1e4])}])
    np.testing.assert_allclose(found["w"], [-0.25, 0.25, -0.25], rtol=1e-4)


def test_sgd():
    params = start(np.float32)
    grads = gradients(params, 3)
    found, state = run(optim.sgd(0.1), params, grads)
    assert state == ()
    for k, p in params.items():
        assert found[k].dtype == np.float32
        np.testing.assert_allclose(found[k], p - 0.1 * sum(g[k] for g in grads), rtol=1e-5)


def test_momentum():
    params = start()
    grads = gradients(params, 4)
    found, state = run(optim.sgd(0.1, momentum=0.9), params, grads)
    for k, p in params.items():
        expected, velocity = p, 0
        for g in grads:
            velocity = 0.9 * velocity + g[k]
            expected = expected - 0.1 * velocity
        np.testing.assert_allclose(found[k], expected, rtol=1e-12)
        np.testing.assert_allclose(state[k], velocity, rtol=1e-12)


class Pair(NamedTuple):
    w: object
    rest: object


@pytest.mark.parametrize("optimizer", [optim.sgd(0.1), optim.sgd(0.1, 0.5), optim.adam()])
def test_any_tree_of_parameters(optimizer):
    params = Pair(np.ones(2, np.float32), [(np.ones((), np.float64),), None, {"s": 2.0}])
    new, state = optimizer.update(params, params, optimizer.init(params))
    new, state = optimizer.update(new, params, state)
    assert isinstance(new, Pair) and new.rest[1] is None
    assert new.w.dtype == np.float32 and np.all(new.w < 1)
    assert new.rest[0][0].dtype == np.float64 and new.rest[2]["s"] < 2


@pytest.mark.parametrize("optimizer", [optim.sgd(0.1), optim.sgd(0.1, 0.5), optim.adam()])
def test_nothing_is_modified(optimizer):
    params = start()
    kept = {k: p.copy() for k, p in params.items()}
    (grads,) = gradients(params, 1)
    state = optimizer.init(params)
    optimizer.update(params, grads, state)
    for k in params:
        np.testing.assert_array_equal(params[k], kept[k])
    for before, after in zip(flat(state), flat(optimizer.init(params)), strict=True):
        np.testing.assert_array_equal(before, after)


def flat(tree):
    from graphc.trace.tree import flatten

    return flatten(tree)[0]


def test_no_parameters():
    for optimizer in (optim.sgd(0.1), optim.sgd(0.1, 0.5), optim.adam()):
        assert optimizer.update({}, {}, optimizer.init({}))[0] == {}


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "0.1", None, True])
def test_bad_learning_rate(value):
    for make in (optim.sgd, optim.adam):
        with pytest.raises(OptionError, match="learning_rate must be a number above 0, not"):
            make(value)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda v: optim.sgd(0.1, momentum=v), "momentum", 1.0),
        (lambda v: optim.adam(b1=v), "b1", -0.1),
        (lambda v: optim.adam(b2=v), "b2", 1),
        (lambda v: optim.adam(eps=v), "eps", 0),
    ],
)
def test_bad_options(make, name, value):
    with pytest.raises(OptionError, match=f"{name} must be .*, not {value}"):
        make(value)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        optim.sgd(0.1).learning_rate = 1


def test_by_name():
    assert optim.get("adam")(0.5) == optim.adam(learning_rate=0.5)
    with pytest.raises(UnknownNameError, match="unknown optimizer 'admm'; available: adam, sgd"):
        optim.get("admm")


def test_gradients_of_another_structure():
    params = {"W": np.ones(2), "b": np.ones(1)}
    with pytest.raises(ShapeError, match="the structure of the parameters"):
        optim.sgd(0.1).update(params, {"W": np.ones(2)}, ())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", [optim.sgd(0.1), optim.sgd(0.1, 0.5), optim.adam(0.1)])
@pytest.mark.parametrize("mode", ["interpret", "compile"])
def test_traced_is_the_same(mode, optimizer, dtype):
    params = start(dtype)
    grads = [{k: g.astype(dtype) for k, g in d.items()} for d in gradients(params, 3)]
    update = getattr(gc, mode)(optimizer.update)
    plain = traced = (params, optimizer.init(params))
    for g in grads:
        plain = optimizer.update(plain[0], g, plain[1])
        traced = update(traced[0], g, traced[1])
    for a, b in zip(flat(traced), flat(plain), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        # Compiled code rounds a product and a sum once, where NumPy rounds twice.
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(a, b, rtol=8 * eps, atol=8 * eps)
