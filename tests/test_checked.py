"""checked=True: the op, the line, the operands and the direction of the first NaN or infinity."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import optim
from graphc.errors import NonFiniteError, TrainingWarning, UnknownNameError


def message(fn, *args) -> str:
    with pytest.raises(NonFiniteError) as caught:
        fn(*args)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8 and "test_checked.py:" in text
    return text


def checked(fn, mode=True):
    return gc.interpret(fn, checked=mode)


def log_of(x):
    return np.sum(np.log(x - 1))


def entropy(p):
    return -np.sum(p * np.log(p))


def masked(x):
    return np.sum(np.where(x > 0, np.log(x), 0))


def norm(x):
    return np.sqrt(np.sum(x**2))


def attention(s, mask):
    s = np.where(mask, s, -np.inf)
    e = np.exp(s - np.max(s, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_forward(make):
    f = make(log_of, checked=True)
    for _ in range(4):  # never answered by an entry that does not look
        assert f(np.array([2.0, 3.0])) == pytest.approx(np.log(2))
    text = message(f, np.array([2.0, 0.5, 3.0]))
    assert "`log_of` returns nan: output" in text
    assert "first in the forward pass: `log`(-0.5) = nan (f64[3] at [1])" in text
    assert "in log_of: return np.sum(np.log(x - 1))" in text
    assert "operands: `sub` of test_checked.py" in text and "-0.5 to 2" in text


def test_backward_names_the_op_that_was_differentiated():
    slope = gc.grad(lambda x: np.sum(np.arcsin(x)), engine="interpreter", checked=True)
    with pytest.raises(NonFiniteError) as caught:
        slope(np.array([0.5, 1.0]))
    error = caught.value
    assert "first in the backward pass of `arcsin`: `rsqrt`(0) = inf (f64[2] at [1])" in str(error)
    assert error.op == "rsqrt" and error.index == (1,)
    assert error.source.direction == "backward pass of `arcsin`"


def test_the_value_is_fine_and_the_gradient_is_not():
    def fn(x):
        return x * np.arctanh(1 - x)

    both = gc.value_and_grad(fn, engine="interpreter", checked=True)
    with pytest.raises(NonFiniteError, match="the forward pass: `arctanh`"):
        both(0.0)
    slope = gc.value_and_grad(lambda x: np.arccos(x), engine="interpreter", checked=True)
    with pytest.raises(NonFiniteError, match=r"output\[1\]\n(.*)backward pass of `arccos`"):
        slope(1.0)


def test_forward_mode():
    push = gc.jvp(np.log, engine="interpreter", checked=True)
    with pytest.raises(NonFiniteError, match="forward pass: `log`"):
        push(0.0, 1.0)
    push = gc.jvp(lambda x: np.arcsin(x) * 1.0, engine="interpreter", checked=True)
    with pytest.raises(NonFiniteError, match="forward-mode derivative of `arcsin`"):
        push(1.0, 1.0)


def test_a_nan_made_of_an_infinity_names_both_places():
    text = message(checked(entropy), np.array([0.25, 0.0]))
    assert "`mul`(0, -inf) = nan" in text
    assert "the infinity: first in the forward pass: `log`(0) = -inf" in text


def test_masks_are_no_fault():
    mask = np.array([[True, False, True]])
    np.testing.assert_allclose(checked(attention)(np.ones((1, 3)), mask), [[0.5, 0, 0.5]])
    assert checked(masked)(np.array([-1.0, 2.0])) == pytest.approx(np.log(2))
    slope = gc.interpret(gc.grad(masked), checked=True)(np.array([-1.0, 2.0]))
    np.testing.assert_allclose(slope, [0, 0.5])
    text = message(checked(attention), np.ones((2, 3)), np.array([[True] * 3, [False] * 3]))
    assert "`sub`(-inf, -inf) = nan (f64[2,3] at [1, 0])" in text
    assert "the infinity: is a constant of the function: -inf" in text


def test_strict_tells_of_masked_values_and_conventions():
    text = message(checked(masked, "strict"), np.array([-1.0, 2.0]))
    assert "though what it returns is finite" in text and "`log`(-1) = nan" in text
    np.testing.assert_array_equal(checked(gc.grad(norm))(np.zeros(3)), 0)
    text = message(checked(gc.grad(norm), "strict"), np.zeros(3))
    assert "first in the backward pass of `sqrt`" in text and "in norm: " in text
    assert checked(norm, "strict")(np.array([3.0, 4.0])) == 5
    mask = np.array([[True, False, True]])
    np.testing.assert_allclose(checked(attention, "strict")(np.ones((1, 3)), mask)[0, 1], 0)


def test_data_is_told_by_its_path():
    f = checked(lambda params, x: {"y": x @ params["W"]})
    params = {"W": np.array([[1.0, np.nan], [1.0, 2.0]])}
    with pytest.raises(NonFiniteError) as caught:
        f(params, np.ones((3, 2)))
    assert "argument `params['W']` holds nan at [0, 1]" in str(caught.value)
    assert "output['y'] at [0, 1]" in str(caught.value)
    with pytest.raises(NonFiniteError, match=r"argument `x` holds inf at \[2\]"):
        checked(lambda x: np.concatenate([x[::-1], x]).reshape(2, 3).T)(np.array([1, 2, np.inf]))


def test_decisions_and_donation():
    def fn(x):
        if x[0] > 0:
            return x - 1
        return np.log(x)

    f = gc.compile(fn, checked=True, donate=0)
    np.testing.assert_array_equal(f(np.array([2.0, 1.0])), [1, 0])
    text = message(f, np.array([-2.0, 1.0]))
    assert "`log`(-2) = nan" in text and "argument `x` (2,), -2 to 1" in text


def test_what_the_compiler_makes_stable_is_no_overflow():
    def f(x):
        return np.log(np.sum(np.exp(x)))

    assert checked(f, True)(np.array([1.0, 2.0])) == pytest.approx(f(np.array([1.0, 2.0])))
    assert gc.compile(f, checked="strict")(np.array([1000.0, 0.0])) == 1000


def test_the_option_is_handed_on_and_checked():
    slope = gc.grad(gc.compile(log_of, checked=True))
    assert slope.checked is True
    assert gc.grad(gc.compile(log_of, checked=True), checked=False).checked is False
    with pytest.raises(UnknownNameError, match="unknown checked 'yes'; available: False, True"):
        gc.compile(log_of, checked="yes")


def root_loss(params, x, y):
    return np.mean((np.sqrt(x @ params["w"]) - y) ** 2)


X = np.linspace(0.1, 1, 48).reshape(16, 3)
Y = -np.linspace(0, 5, 16)


@pytest.mark.parametrize("engine", ["interpreter", "native"])
def test_training_names_the_step_and_the_op(engine):
    trainer = gc.Trainer(root_loss, optim.sgd(0.05), engine=engine, checked=True)
    with pytest.warns(
        TrainingWarning, match=r"step \d+(.|\n)*`sqrt`\(-(.|\n)*in root_loss: "
    ) as got:
        result = trainer.fit({"w": np.ones(3)}, (X, Y), epochs=50, batch_size=5)
    assert len(str(got[0].message).splitlines()) <= 8
    step = int(result.history.stopped.rsplit(" ", 1)[1])
    assert step == result.history.steps + 1 > 1
    assert np.isfinite(result.params["w"]).all()
    assert result.history.error.op == "sqrt"


def test_training_names_the_update_too():
    def loss(params, x):
        return np.mean(x @ params["w"])

    trainer = gc.Trainer(loss, optim.sgd(1e300), engine="interpreter", checked=True)
    with pytest.warns(TrainingWarning, match=r"the new params\['w'\] at \[0\](.|\n)*`mul`"):
        result = trainer.fit({"w": np.ones(3)}, (X * 1e10,), epochs=2, batch_size=8)
    np.testing.assert_array_equal(result.params["w"], 1)
    assert result.history.stopped == "non-finite loss at step 1"


def roots(x):
    return gc.scan(lambda c, v: (np.sqrt(c - v), c), x, np.ones(4))[0]


def test_inside_of_loops_and_choices():
    text = message(checked(roots), 9.0)
    assert "`sqrt`(-0.406541) = nan (f64[], step 3 of the loop)" in text
    text = message(checked(gc.grad(roots)), 9.0)
    assert "step 3 of the loop" in text and "in roots: " in text
    text = message(checked(lambda x: gc.cond(x > 0, lambda x: np.log(x - 1), np.sin, x)), 0.5)
    assert "`log`(-0.5) = nan" in text
    grows = checked(lambda x: gc.while_loop(lambda c: c < 1e300, lambda c: c**3, x))
    assert "step 6 of the loop" in message(grows, 2.0)
    with pytest.raises(NonFiniteError, match="argument `x` holds nan"):
        checked(lambda x: gc.fori_loop(0, 3, lambda i, c: c * 2, x))(np.nan)


def test_a_rule_of_the_users_own_is_the_backward_pass():
    @gc.custom_vjp
    def doubled(x):
        return 2 * x

    @doubled.backward
    def _(ct, result, x):
        return ct / (x - 1)

    text = message(checked(gc.grad(lambda x: np.sum(doubled(x)))), np.array([1.0, 2.0]))
    assert "in the backward pass of `doubled`: `div`(1, 0) = inf" in text
    assert "return ct / (x - 1)" in text


def test_a_complex_infinity_is_followed_behind_its_modulus():
    text = message(checked(lambda x: np.abs(np.log(x + 0j)).sum()), np.array([1.0, 0.0]))
    assert "`log`(0j) = (-inf+0j)" in text


def test_a_difference_of_infinities_is_not_lost_in_a_sum():
    assert np.isnan(gc.compile(lambda x: np.sum(np.exp(x) - np.exp(x)))(np.array([1e4, 1.0])))
