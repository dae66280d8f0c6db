"""Random numbers that a trace would freeze: found wherever the function reaches a generator."""

import functools
import random

import numpy as np
import pytest

import graphc as gc
from graphc.errors import TraceError
from graphc.trace.random_guard import RandomGuard

rng = np.random.default_rng(0)
legacy = np.random.RandomState(0)
dice = random.Random(0)
sources = {"noise": np.random.default_rng(1)}


def noisy(x):
    return np.sum(x * rng.normal())


def through_helper(x):
    return 2 * noisy(x)


class Model:
    def __init__(self):
        self.rng = np.random.default_rng(2)

    def loss(self, x):
        return self.spread(x) * 2

    def spread(self, x):
        return np.sum(x) * self.rng.normal()


def of_legacy(x):
    return np.sum(x) * legacy.normal()


def of_python(x):
    return np.sum(x) * dice.random()


def of_container(x):
    return np.sum(x) * sources["noise"].normal()


def of_default(x, generator=np.random.default_rng(3)):  # noqa: B008
    return np.sum(x) * generator.normal()


def scaled(factor, x):
    return factor * np.sum(x) * rng.normal()


USERS = {
    "rng": noisy, "helper": through_helper, "self.rng": Model().loss, "legacy": of_legacy,
    "dice": of_python, "sources['noise']": of_container, "partial": functools.partial(scaled, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("fn", USERS.values(), ids=USERS)
@pytest.mark.parametrize("make", [gc.interpret, gc.grad, gc.value_and_grad])
def test_a_generator_is_found(fn, make):
    with pytest.raises(TraceError, match="numbers would be frozen into the graph") as caught:
        make(fn)(np.ones(2))
    assert "test_random_guard.py:" in str(caught.value)


def test_the_message_names_the_generator_and_its_line():
    with pytest.raises(TraceError) as caught:
        gc.value_and_grad(through_helper)(np.ones(2))
    message = str(caught.value)
    assert message.startswith("the generator `rng` was used inside `through_helper`")
    assert message.endswith("in noisy: return np.sum(x * rng.normal())")
    with pytest.raises(TraceError, match=r"`self\.rng` was used inside `loss`") as caught:
        gc.grad(Model().loss)(np.ones(2))
    assert str(caught.value).endswith("in spread: return np.sum(x) * self.rng.normal()")


def test_a_generator_in_a_closure_of_the_loss_of_a_trainer():
    own = np.random.default_rng(4)

    def loss(params, x):
        return np.mean((x * params["w"] + own.normal()) ** 2)

    trainer = gc.Trainer(loss, gc.optim.sgd(0.1), engine="interpreter")
    with pytest.raises(TraceError, match="the generator `own` was used inside `loss`"):
        trainer.fit({"w": np.ones(2)}, (np.ones((4, 2)),), epochs=1, batch_size=2)


def test_global_generators_are_named_at_the_users_line():
    def of_numpy(x):
        return np.sum(x) * np.random.normal()

    def of_module(x):
        return np.sum(x) * random.random()

    np.random.seed(0)
    for fn, text in ((of_numpy, "np.random.normal()"), (of_module, "random.random()")):
        with pytest.raises(TraceError, match=f"inside `{fn.__name__}`") as caught:
            gc.value_and_grad(fn)(np.ones(2))
        assert f"in {fn.__name__}: return np.sum(x) * {text}" in str(caught.value)


def test_a_static_generator_is_found():
    f = gc.compile(lambda x, generator: x * generator.normal(), static_argnames="generator")
    with pytest.raises(TraceError, match="the generator `generator` was used"):
        f(np.ones(2), np.random.default_rng(5))


def test_unused_generators_and_cycles_are_no_matter():
    def f(x):
        return x * 2 if rng is not None and cycle else x

    cycle = [f]
    cycle.append(cycle)
    assert gc.interpret(f)(3.0) == 6.0


def test_the_walk_is_bounded():
    many = {k: [{}] * 10 for k in range(100)}

    def f(x):
        return x * len(many) + len(huge)

    huge = [np.random.default_rng(0)] * 100_000
    assert "huge[0]" not in RandomGuard(f).generators
    assert gc.interpret(f)(1.0) == 100_100.0
