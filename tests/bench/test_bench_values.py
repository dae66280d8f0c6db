"""Values come before times: what the benchmark compares, and what it does with a wrong peer."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bench import registry
from bench.core import Case, Outcome, Reference, Runner, Tolerance, Workload
from bench.measure import (
    ERROR,
    FIXED_SHARE,
    OK,
    SKIPPED,
    WRONG,
    Effort,
    Row,
    add_ratios,
    calibrate,
    check_peer,
    disagreement,
    errors,
    expected_losses,
    run_workload,
    time_in_turn,
)  # fmt: skip
from bench.models import MLP, NUMPY, SGD, Logistic
from bench.peers.numpy_peer import NumpyStep
from bench.training import Task, reference_run, training_case
from bench.w5_lenet import LeNet
from bench.w6_lstm import LSTM
from bench.w7_gpt import GPT

BENCH = Path(registry.__file__).parent
SHORT = Effort(rounds=1, seconds=0.002)
TIGHT = Tolerance(loss=1e-4, params=1e-4)


def small_task(lr=0.05):
    rng = np.random.default_rng(0)
    model = MLP((2, 5, 1), "tanh", "mse")
    x = rng.normal(size=(32, 2)).astype(np.float32)
    return Task(model, SGD(lr), model.init(rng), x, x[:, :1] * x[:, 1:], batch=8)


class Untimed(NumpyStep):
    """A peer that must never reach the clock."""

    def run(self, calls):
        raise AssertionError("timed")


def workload_with(**peers) -> Workload:
    def make() -> Case:
        return dataclasses.replace(training_case(small_task(), TIGHT), peers=peers)

    return Workload("T", "a test", make)


def test_a_wrong_peer_is_reported_and_not_timed():
    slow_learner = dataclasses.replace(small_task(), optimizer=SGD(0.049))
    workload = workload_with(
        right=lambda: NumpyStep(small_task()), wrong=lambda: Untimed(slow_learner)
    )
    said = []
    right, wrong = run_workload(workload, SHORT, say=said.append)
    assert (right.status, wrong.status) == (OK, WRONG)
    assert right.us_per_step > 0 and right.ratio_to_best == 1
    assert wrong.us_per_step is None and wrong.rounds == [] and wrong.ratio_to_best is None
    assert wrong.param_error == pytest.approx(0.02, rel=0.3)
    assert "parameters off by" in wrong.note and any("wrong" in line for line in said)


def test_a_peer_that_is_missing_or_broken_does_not_end_the_run():
    def missing():
        raise ImportError("No module named 'peer'")

    def broken():
        raise RuntimeError("first line\nsecond line")

    rows = run_workload(workload_with(missing=missing, broken=broken), SHORT)
    assert [(row.status, row.note) for row in rows] == [
        (SKIPPED, "not available (No module named 'peer')"),
        (ERROR, "RuntimeError: first line"),
    ]


@pytest.mark.parametrize("spoil", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_wrong(spoil):
    reference = reference_run(small_task())
    bad = {name: p.copy() for name, p in reference.params.items()}
    bad["b1"][0] = spoil
    with np.errstate(invalid="ignore"):
        found = errors(Outcome(reference.losses, bad), reference)
    assert disagreement(*found, TIGHT)


def test_parameters_are_held_to_name_shape_and_count_of_losses():
    reference = reference_run(small_task())
    fewer = {name: p for name, p in reference.params.items() if name != "b1"}
    flat = reference.params | {"W1": reference.params["W1"].ravel()}
    for params, losses in [(fewer, 4), (flat, 4), (reference.params, 3)]:
        with pytest.raises(ValueError, match=r"parameter|losses"):
            errors(Outcome(np.ones(losses), params), reference)


def test_losses_may_come_by_step_by_epoch_or_for_the_last_epoch():
    losses = np.arange(6.0).reshape(2, 3)
    reference = Reference(losses, {}, {}, sizes=np.array([8, 8, 4]))
    assert expected_losses(reference, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert expected_losses(reference, 2).tolist() == pytest.approx([0.8, 3.8])
    assert expected_losses(reference, 1).tolist() == pytest.approx([3.8])


def test_ratios_are_to_the_best_and_to_graphc_of_the_same_mode():
    times = {"graphc-epoch": 2.0, "graphc-step": 4.0, "jax-step": 8.0, "sklearn": 10.0}
    modes = ["epoch", "step", "step", "epoch"]
    rows = [Row("T", p, mode=m, us_per_step=us) for (p, us), m in zip(times.items(), modes)]
    add_ratios(rows)
    assert [row.ratio_to_best for row in rows] == [1, 2, 4, 5]
    assert [row.ratio_to_graphc for row in rows] == [1, 1, 2, 5]
    add_ratios(rows[2:])
    assert [row.ratio_to_graphc for row in rows[2:]] == [None, None]


class Simulated(Runner):
    """A peer whose clock is arithmetic: `fixed` to enter, `per_call` for an epoch."""

    mode = "epoch"

    def __init__(self, fixed, per_call):
        self.fixed, self.per_call = fixed, per_call

    def check(self):
        raise NotImplementedError

    def run(self, calls):
        return self.fixed + calls * self.per_call


@pytest.mark.parametrize(
    ("fixed", "per_call"), [(1.3e-4, 7e-8), (1e-5, 1e-7), (5e-3, 1e-6), (0, 1e-3), (1e-3, 1.0)]
)
def test_a_timed_run_has_so_many_epochs_that_entering_it_does_not_count(fixed, per_call):
    timing = calibrate(Simulated(fixed, per_call), seconds=0.02)
    took = fixed + timing.calls * per_call
    assert fixed / took <= 1.1 * FIXED_SHARE
    assert timing.fixed == pytest.approx(fixed, rel=0.05, abs=1e-9)
    assert took < 1.1 * max(0.02 + fixed, fixed / FIXED_SHARE, fixed + per_call)


def test_a_fit_is_timed_as_a_whole_call():
    """What graphc itself counts is a field beside it."""
    row, runner = check_peer("W3", "graphc-epoch", registry.discover()["W3"].make())
    assert row.status == OK and runner.run(3) is None
    timing = time_in_turn({"graphc-epoch": runner}, SHORT)["graphc-epoch"]
    assert timing.seconds == timing.wall
    assert all(0 < inside < wall for inside, wall in zip(timing.inside, timing.wall, strict=True))


def test_a_workload_whose_data_are_missing_is_skipped():
    def make():
        raise ImportError("No module named 'data'")

    said = []
    assert run_workload(Workload("T", "a test", make), SHORT, say=said.append) == []
    assert said == ["T: skipped: not available (No module named 'data')"]


def one_hot(rng, *shape):
    return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]


SMALL_MODELS = {
    "tanh-mse": (MLP((3, 4, 2), "tanh", "mse"), (6, 3), lambda rng: rng.normal(size=(6, 2))),
    "relu-softmax-ce": (MLP((3, 5, 4), "relu", "softmax-ce"), (6, 3), lambda r: one_hot(r, 6, 4)),
    "logistic": (Logistic(3), (6, 3), lambda rng: rng.integers(0, 2, 6).astype(float)),
    "lenet": (LeNet(10, (2, 3), (4, 3)), (2, 1, 10, 10), lambda rng: one_hot(rng, 2, 3)),
    "lstm": (LSTM(3, 4, 2), (2, 5, 3), lambda rng: one_hot(rng, 2, 5, 2)),
    "gpt": (GPT(5, 4, 6, 2, 2), None, lambda rng: rng.integers(0, 5, (3, 4))),
}


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_the_gradient_by_hand_is_the_derivative_of_the_traced_loss(name):
    model, shape, target = SMALL_MODELS[name]
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=shape) if shape else target(rng), target(rng)
    params = {name: p + rng.normal(0, 0.3, p.shape) for name, p in model.init(rng).items()}
    loss = model.make_loss(NUMPY)
    value, grads = model.loss_and_grads(params, x, y)
    assert value == pytest.approx(loss(params, x, y), rel=1e-6)
    for name, p in params.items():
        for i in rng.permutation(list(np.ndindex(p.shape)))[:20]:
            nudge = np.zeros_like(p)
            nudge[tuple(i)] = 1e-6
            up, down = (loss(params | {name: p + s * nudge}, x, y) for s in (1, -1))
            assert grads[name][tuple(i)] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-8)


def test_every_workload_file_is_found_in_order():
    known = registry.discover()
    names = list(known)
    assert names[:3] == ["digits", "W1", "W2a"] and len(names) == len(list(BENCH.glob("w*_*.py")))
    assert names[1:] == sorted(names[1:], key=lambda n: (int(n[1:].rstrip("ab")), n))
    assert all(workload.name == name for name, workload in known.items())


@pytest.mark.parametrize("peer", ["numpy", "sklearn", "jax-epoch"])
def test_the_peers_train_the_digits_with_their_smaller_last_batch(peer):
    pytest.importorskip("sklearn")
    case = registry.discover()["digits"].make()
    assert case.reference.sizes.tolist() == [32] * 44 + [30]
    row, _ = check_peer("digits", peer, case)
    assert row.status in (OK, SKIPPED), row.note


def test_a_runner_goes_back_to_the_start():
    runner: Runner = NumpyStep(small_task())
    first = runner.check()
    again = runner.check()
    np.testing.assert_array_equal(first.losses, again.losses)


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("W1", "graphc-step"),
        ("W1", "graphc-interp"),
        ("W1", "numpy"),
        ("W3", "graphc-epoch"),
        ("W3", "graphc-step"),
        ("W3", "graphc-interp"),
        ("W5", "graphc-interp"),
        ("W7", "graphc-interp"),
        ("W9", "graphc-interp"),
        ("W9", "graphc-step"),
        ("W10a", "graphc-step"),
        ("W10b", "graphc-step"),
        ("digits", "graphc-epoch"),
        ("digits", "graphc-step"),
    ],
)
def test_graphc_agrees_with_the_reference(name, peer):
    row, _ = check_peer(name, peer, registry.discover()[name].make())
    assert row.status == OK, row.note
