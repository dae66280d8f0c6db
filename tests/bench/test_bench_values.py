"""Values come before times: what the benchmark compares, and what it does with a wrong peer."""

import dataclasses

import numpy as np
import pytest

from bench import registry
from bench.core import Case, Outcome, Runner, Tolerance, Workload
from bench.measure import (
    ERROR,
    OK,
    SKIPPED,
    WRONG,
    Effort,
    Row,
    add_ratios,
    check_peer,
    disagreement,
    errors,
    expected_losses,
    run_workload,
)  # fmt: skip
from bench.models import MLP, SGD, Logistic
from bench.peers.numpy_peer import NumpyStep
from bench.training import Task, reference_run, training_case

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
    assert expected_losses(losses, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert expected_losses(losses, 2).tolist() == [1, 4]
    assert expected_losses(losses, 1).tolist() == [4]


def test_ratios_are_to_the_best_and_to_the_fastest_compiled_graphc():
    times = {"graphc-epoch": 2.0, "graphc-step": 3.0, "graphc-interp": 1.0, "jax-step": 8.0}
    rows = [Row("T", peer, us_per_step=us) for peer, us in times.items()]
    add_ratios(rows)
    assert [row.ratio_to_best for row in rows] == [2, 3, 1, 8]
    assert [row.ratio_to_graphc for row in rows] == [1, 1.5, 0.5, 4]


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (MLP((3, 4, 2), "tanh", "mse"), lambda rng: rng.normal(size=(6, 2))),
        (MLP((3, 5, 4), "relu", "softmax-ce"), lambda rng: np.eye(4)[rng.integers(0, 4, 6)]),
        (Logistic(3), lambda rng: rng.integers(0, 2, 6).astype(float)),
    ],
    ids=["tanh-mse", "relu-softmax-ce", "logistic"],
)
def test_the_gradient_by_hand_is_the_derivative_of_the_traced_loss(model, target):
    from bench.models import NUMPY

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 3)), target(rng)
    params = {name: p + rng.normal(0, 0.3, p.shape) for name, p in model.init(rng).items()}
    loss = model.make_loss(NUMPY)
    value, grads = model.loss_and_grads(params, x, y)
    assert value == pytest.approx(loss(params, x, y), rel=1e-12)
    for name, p in params.items():
        for i in np.ndindex(p.shape):
            nudge = np.zeros_like(p)
            nudge[i] = 1e-6
            up, down = (loss(params | {name: p + s * nudge}, x, y) for s in (1, -1))
            assert grads[name][i] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-8)


def test_every_workload_file_is_found_in_order():
    known = registry.discover()
    assert list(known)[:6] == ["W1", "W2a", "W2b", "W3", "W4a", "W4b"]
    assert all(workload.name == name for name, workload in known.items())


def test_a_runner_goes_back_to_the_start():
    runner: Runner = NumpyStep(small_task())
    first = runner.check()
    again = runner.check()
    np.testing.assert_array_equal(first.losses, again.losses)


def graphc_lacks() -> str:
    """What of the API that the benchmark uses is not there (yet)."""
    gc = pytest.importorskip("graphc")
    names = ("compile", "value_and_grad", "interpret", "optim", "Trainer")
    return ", ".join(name for name in names if not hasattr(gc, name))


@pytest.mark.parametrize(
    ("name", "peer"),
    [("W1", "graphc-step"), ("W1", "graphc-interp"), ("W3", "graphc-epoch"), ("W3", "graphc-step"),
     ("W3", "graphc-interp")],
)  # fmt: skip
def test_graphc_agrees_with_the_reference(name, peer):
    if graphc_lacks():
        pytest.skip(f"graphc has no {graphc_lacks()}")
    row, _ = check_peer(name, peer, registry.discover()[name].make())
    assert row.status == OK, row.note
