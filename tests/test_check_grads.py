"""check_grads passes what is right and fails what is wrong, without tuning."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import graphc as gc
from graphc.ad import jvp_rules
from graphc.errors import GradientMismatchError, UnknownNameError
from graphc.ir import build, control, ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2))

RIGHT = {
    "linear": (lambda x: 3 * x, X),
    "constant": (lambda x: np.ones(2) + 0 * x.sum(), X),
    "smooth": (lambda x: np.tanh(x) * np.exp(-x), X),
    "stiff": (lambda x: np.sin(1e5 * x), X),
    "large": (lambda x: np.exp(x), np.array([200.0, -200.0])),
    "small": (lambda x: x**3 + x, np.array([1e-9, -3e-9])),
    "cancelling": (lambda x: (1e8 + np.sin(x)) - 1e8, X),
    "edge of a domain": (lambda x: np.log(x) + np.sqrt(x), np.array([1e-6, 0.1])),
    "steps elsewhere": (lambda x: np.floor(x) * x, np.array([0.4, 1.7])),
    "kinks elsewhere": (lambda x: np.maximum(x, 0) * 2 + np.abs(x), np.array([0.01, -3.0])),
    "zeros": (lambda x: x * x + x, np.zeros(3)),
    "empty": (lambda x: x * 2, np.zeros((0, 3))),
    "0-d": (lambda x: x**x, 1.3),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_derivatives_pass(name):
    gc.check_grads(RIGHT[name][0], *RIGHT[name][1:])


def test_trees_integers_and_keywords():
    def loss(params, index, *, scale):
        return {"a": params["w"][index] * scale, "n": index, "b": params["c"][0] ** 2}

    gc.check_grads(loss, {"w": X, "c": [2.0]}, np.array([0, 2]), scale=1.5)


def test_float32_arguments_are_checked_in_float64():
    gc.check_grads(lambda x: np.sin(x) / x, X.astype(np.float32))


def test_results_in_float32():
    gc.check_grads(lambda x: np.exp(np.sin(x).astype(np.float32)), X, order=1)


def test_long_loops_are_not_interpreted_again_and_again(monkeypatch):
    """A line has 90 points: step by step in NumPy, those of 200 steps took minutes."""
    steps, step = [], control.loop_steps

    def counted(*args):
        for found in step(*args):
            steps.append(found[0])
            yield found

    monkeypatch.setattr(control, "loop_steps", counted)

    def last(w, x):
        return gc.scan(lambda h, a: (np.tanh(h * w + a), None), 0.0, x)[0]

    gc.check_grads(last, 0.7, np.sin(np.arange(200.0)))
    assert 0 < len(steps) < 40 * 200
    wrong = gc.custom_vjp(lambda w: w * w, lambda ct, result, w: 2.001 * w * ct)
    with pytest.raises(GradientMismatchError, match="worst at `w`"):
        gc.check_grads(lambda w, x: last(wrong(w), x), 0.7, np.sin(np.arange(200.0)), order=1)


def mismatch(*args, **options):
    with pytest.raises(GradientMismatchError) as caught:
        gc.check_grads(*args, **options)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8
    return text


@pytest.mark.parametrize("factor", [1.01, 1 + 1e-5])
@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_a_slightly_wrong_derivative_is_found(monkeypatch, mode, factor):
    row = dataclasses.replace(ops.OPS["tanh"], derivative=(f"{factor}*(1 - z*z)",))
    monkeypatch.setitem(ops.OPS, "tanh", row)

    def model(params, x):
        return np.sin(x @ params["W"]) + np.tanh(params["b"])

    b = np.array([0.1, 3.0, -3.0, 3.0])
    text = mismatch(model, {"W": np.ones((2, 4)), "b": b}, X, modes=mode, order=1)
    assert "derivative 1 of `model` is wrong" in text and "slope 1.0" in text and "not 2" in text
    assert "worst at `params['b'][0]`" in text
    assert {"fwd": "forward", "rev": "reverse"}[mode] in text


def test_the_worst_of_many_coordinates(monkeypatch):
    right = jvp_rules.RULES["slice"]

    def wrong(node, tangents):
        (t,) = tangents
        bad = build.elementwise("mul", t.node, build.full_like(t.node, 1.5))
        return right(node, [t._replace(node=bad)])

    monkeypatch.setitem(jvp_rules.RULES, "slice", wrong)
    x = RNG.normal(size=(20, 30))
    text = mismatch(lambda table: np.sin(table).sum() + table[11, 17] ** 2, x, modes="fwd")
    assert "worst at `table[11, 17]`" in text


def test_only_the_second_derivative_is_wrong(monkeypatch):
    row = dataclasses.replace(ops.OPS["cos"], derivative=("-2*sin(x)",))
    monkeypatch.setitem(ops.OPS, "cos", row)
    gc.check_grads(np.sin, X, order=1)
    text = mismatch(np.sin, X, modes="rev")
    assert "derivative 2 of `sin`" in text and "reverse of reverse mode" in text


def test_no_derivative_at_a_kink():
    assert "kink" in mismatch(lambda x: np.abs(x).sum(), np.zeros(2))


def test_what_cannot_be_checked_is_said():
    assert "NaN or infinity" in mismatch(np.log, np.array([0.0, 1.0]))
    assert "derivative 1" in mismatch(lambda x: np.arcsin(x), np.array([1.0]), order=1)
    assert "no argument" in mismatch(lambda n: n + 1, 3)
    assert "returns no float" in mismatch(lambda x: np.argmax(x), X)
    with pytest.raises(UnknownNameError, match="available: fwd, rev"):
        gc.check_grads(np.sin, X, modes="both")
