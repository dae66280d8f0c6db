"""custom_vjp: in every transform, with every kind of argument, and its errors."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ad.calls import Token
from graphc.errors import GradientError, GradientMismatchError
from graphc.ir import build, calls
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type

X, Y = np.array([0.3, 0.4, 0.5]), np.array([1.0, 2.0, 3.0])


@gc.custom_vjp
def wave(x, y, *, n=2):
    return {"a": np.sin(x) * y**n, "best": np.argmax(x)}


@wave.backward
def _wave_backward(ct, result, x, y, *, n=2):
    return ct["a"] * np.cos(x) * y**n, ct["a"] * result["a"] * n / y


def loss(x, y):
    return (wave(x, y, n=3)["a"] ** 2).sum()


def plain(x, y):
    return ((np.sin(x) * y**3) ** 2).sum()


def same(made, expected, *args):
    found, wanted = gc.interpret(made)(*args), gc.interpret(expected)(*args)
    if not isinstance(found, tuple):
        found, wanted = (found,), (wanted,)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-10)


BOTH = (0, 1)
TRANSFORMS = {
    "value": lambda f: f,
    "grad": lambda f: gc.grad(f, BOTH),
    "grad of grad": lambda f: gc.grad(lambda x, y: (gc.grad(f)(x, y) ** 2).sum(), BOTH),
    "third": lambda f: gc.grad(lambda x, y: (gc.hvp(f)(x, y, y * y) * x).sum(), BOTH),
    "hvp": lambda f: lambda x, y: gc.hvp(f)(x, y, y),
    "jvp": lambda f: lambda x, y: gc.jvp(f, BOTH)(x, y, (y, x)),
    "jvp of jvp": lambda f: lambda x, y: gc.jvp(lambda x: gc.jvp(f)(x, y, y)[1])(x, x)[1],
    "checkpoint": lambda f: gc.grad(gc.checkpoint(f), BOTH),
    "vmap of grad": lambda f: lambda x, y: gc.vmap(gc.grad(f, BOTH), (0, None))(
        np.stack([x, y]), y
    ),
    "grad of vmap": lambda f: gc.grad(
        lambda x, y: gc.vmap(f, (0, None))(np.stack([x, 2 * x]), y).sum(), BOTH
    ),
    "jvp of vmap": lambda f: lambda x, y: gc.jvp(gc.vmap(f))(
        np.stack([x, y]), np.stack([y, y]), np.stack([x, x])
    ),
    "hvp of vmap": lambda f: lambda x, y: gc.hvp(
        lambda x: gc.vmap(f, (0, None))(np.stack([x, 2 * x]), y).sum()
    )(x, y),
    "vmap of hvp of vmap": lambda f: lambda x, y: gc.vmap(
        gc.hvp(lambda x: gc.vmap(lambda a: f(a * np.ones(3), y))(x).sum())
    )(np.stack([x, y]), np.stack([y, y])),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_in_every_transform(name):
    transform = TRANSFORMS[name]
    same(transform(loss), transform(plain), X, Y)


def test_compiled():
    found = gc.grad(loss, BOTH)(X, Y)
    for a, b in zip(found, gc.grad(plain, BOTH)(X, Y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(gc.hvp(loss)(X, Y, Y), gc.hvp(plain)(X, Y, Y), rtol=1e-12)


def test_the_rule_is_used_not_the_function():
    @gc.custom_vjp
    def clipped(x, limit):
        return x * 1.0

    @clipped.backward
    def _(ct, result, x, limit):
        return np.clip(ct, -limit, limit), None

    fn = gc.grad(lambda x: (clipped(x, 0.5) * np.array([10.0, 0.1, -10.0])).sum())
    np.testing.assert_array_equal(gc.interpret(fn)(X), [0.5, 0.1, -0.5])
    np.testing.assert_array_equal(fn(X), [0.5, 0.1, -0.5])


def test_a_function_without_derivative_gets_one():
    """The straight-through estimator: rounding has derivative 0 elsewhere."""
    rounded = gc.custom_vjp(np.round, lambda ct, result, x: ct)
    slope = gc.interpret(gc.grad(lambda x: (rounded(x) ** 2).sum()))
    np.testing.assert_array_equal(slope(np.array([0.4, 1.6])), [0, 4])
    _, change = gc.interpret(gc.jvp(rounded))(X, Y)
    np.testing.assert_array_equal(change, Y)


def test_called_on_arrays_it_is_the_function():
    found = wave(X, Y)
    assert isinstance(found["a"], np.ndarray) and found["best"] == 2


def test_trees_integers_strings_and_none():
    @gc.custom_vjp
    def gather(params, index, kind="double", *, shift):
        picked = params["table"][index]
        return (2 * picked if kind == "double" else picked) + shift + 0 * params["unused"]

    @gather.backward
    def _(ct, result, params, index, kind="double", *, shift):
        table = np.zeros_like(params["table"])
        np.add.at(table, index, ct * (2 if kind == "double" else 1))
        return {"params": {"table": table, "unused": None}, "shift": ct.sum()}

    def loss(params, shift, index):
        return (gather(params, index, "double", shift=shift) ** 2).sum()

    params, index = {"table": X, "unused": 1.0}, np.array([2, 0])
    grads, by_shift = gc.interpret(gc.grad(loss, (0, 1)))(params, 0.5, index)
    np.testing.assert_allclose(grads["table"], [8 * X[0] + 2, 0, 8 * X[2] + 2])
    assert grads["unused"] == 0
    assert by_shift == pytest.approx((2 * (2 * X[index] + 0.5)).sum())


def test_positional_arguments_by_keyword():
    same(gc.grad(lambda x, y: (wave(y=y, x=x)["a"]).sum(), BOTH),
         gc.grad(lambda x, y: (np.sin(x) * y**2).sum(), BOTH), X, Y)  # fmt: skip


def test_one_argument_given_twice_and_one_function_twice():
    @gc.custom_vjp
    def product(a, b):
        return a * b

    @product.backward
    def _(ct, result, a, b):
        return ct * b, ct * a

    assert gc.interpret(gc.grad(lambda x: product(x, x)))(3.0) == 6
    assert gc.interpret(gc.grad(lambda x: product(product(x, x), x)))(3.0) == 27
    assert gc.interpret(gc.hvp(lambda x: product(product(x, x), x)))(3.0, 1.0) == 18


def test_work_shared_with_the_function_is_done_once():
    @gc.custom_vjp
    def f(x):
        return np.exp(np.sin(x))

    @f.backward
    def _(ct, result, x):
        return ct * np.exp(np.sin(x)) * np.cos(x)

    graph = gc.value_and_grad(lambda x: f(x).sum()).graph(X)
    assert [n.op for n in graph.order].count("exp") == 1
    assert not {n.op for n in graph.order} & {"call", "call_arg", "call_result"}


def test_no_mark_outlives_the_trace_in_bodies_either():
    x = build.input(0, "x", tensor_type("float64", (3,)))
    token = Token("f", is_differentiated=True)
    inner = build.elementwise("exp", calls.argument(x, token, 0))
    marked = calls.result(calls.call([inner], [x], None), 0)
    pred = build.input(1, "pred", tensor_type("bool"))
    side = Graph("body", (x,), (marked,))
    (chosen,) = build.cond(pred, [x], side, side)
    ((choice,),) = (node.inputs for node in calls.inline([chosen], {}))
    assert choice.attr("on_true").outputs == (build.elementwise("exp", x),)


def test_dead_branches():
    @gc.custom_vjp
    def f(x):
        return np.log(x)

    @f.backward
    def _(ct, result, x):
        return ct / x

    found = gc.interpret(gc.grad(lambda x: np.where(x > 0, f(x), 0).sum()))(np.array([-1.0, 2.0]))
    np.testing.assert_array_equal(found, [0, 0.5])


def test_checked_by_check_grads():
    gc.check_grads(loss, X, Y)

    @gc.custom_vjp
    def wrong(x):
        return np.sin(x)

    wrong.backward(lambda ct, result, x: ct * np.cos(x) * np.array([1.0, 1.0, 1.001]))
    for mode in ("fwd", "rev"):
        with pytest.raises(GradientMismatchError) as error:
            gc.check_grads(lambda p: wrong(p["x"]), {"x": X}, modes=mode)
        assert "worst at `p['x'][2]`" in str(error.value) and "custom_vjp" in str(error.value)


# ---------------------------------------------------------------------------------- errors


def message(backward, fn=lambda x, i: x * 1.0, x=X, transform=gc.grad):
    made = gc.custom_vjp(fn, backward)
    with pytest.raises(GradientError) as error:
        gc.interpret(transform(lambda x, i: made(x, i).sum()))(x, np.arange(3))
    text = str(error.value)
    assert len(text.splitlines()) <= 8
    return text


def test_shapes_and_dtypes_are_checked_where_backward_is_written():
    def short(ct, result, x, i):
        return ct[:2], None

    text = message(short)
    assert "cotangent of `x` has shape (2,), the argument (3,)" in text
    assert f"test_custom_vjp.py:{short.__code__.co_firstlineno} in short" in text
    text = message(lambda ct, result, x, i: (ct.astype(np.float64), None), x=X.astype("f4"))
    assert "`x` is float64, the argument float32" in text and ".astype(x.dtype)" in text
    assert "int64" in message(lambda ct, result, x, i: (ct.astype(int), None))
    assert "`i` is int64 and has no gradient; return None" in message(
        lambda ct, result, x, i: (ct, ct)
    )


def test_numbers_of_results_are_checked():
    text = message(lambda ct, result, x, i: (ct,))
    assert "a tuple of 1; return a tuple of 2 cotangents" in text and "of: x, i" in text
    assert "return a tuple of 2" in message(lambda ct, result, x, i: ct)
    assert "return a tuple of 2" in message(lambda ct, result, x, i: {"z": ct})


def test_trees_are_checked():
    made = gc.custom_vjp(lambda p: p["w"] * p["b"], lambda ct, result, p: {"p": [ct, ct]})
    with pytest.raises(GradientError, match="`p` is a list of 2; return a tree like the argument"):
        gc.interpret(gc.grad(lambda p: made(p).sum()))({"w": X, "b": Y})


def test_a_missing_backward():
    text = message(None)
    assert "without a backward" in text and ".backward" in text


def test_what_is_read_from_outside_the_arguments():
    def outer(w, x):
        f = gc.custom_vjp(lambda x: x * w, lambda ct, result, x: ct)
        return f(x).sum()

    for transform in (gc.grad, lambda f: lambda w, x: gc.jvp(f)(w, x, w)):
        with pytest.raises(GradientError, match="reads `w`, which is differentiated") as error:
            gc.interpret(transform(outer))(X, Y)
        assert "Pass it as an argument" in str(error.value)
    gc.interpret(gc.grad(outer, 1))(X, Y)  # nothing is lost here


def test_forward_mode_of_a_backward_that_is_not_linear():
    def push(f):
        return lambda x, i: gc.jvp(lambda x: f(x, i))(x, x)[1]

    text = message(lambda ct, result, x, i: (np.clip(ct, -1, 1), None), transform=push)
    assert "not linear" in text and "jacrev" in text


@pytest.mark.parametrize("form", [dict, tuple])
def test_a_rule_for_all_parameters_serves_calls_that_leave_defaults_out(form):
    @gc.custom_vjp
    def f(x, k=2.0, *, s=1.0):
        return x**2 * k * s

    @f.backward
    def _(ct, result, x, k=2.0, *, s=1.0):
        all_of_them = {"x": ct * 2 * x * k * s, "k": ct * x**2 * s, "s": None}
        return all_of_them if form is dict else (all_of_them["x"], all_of_them["k"])

    run = gc.interpret
    assert run(gc.grad(f))(3.0) == 12
    assert run(gc.grad(lambda x: f(x, k=5.0)))(3.0) == 30
    assert run(gc.grad(lambda k: f(3.0, k)))(2.0) == 9
    assert run(gc.grad(lambda k: f(3.0, k=k)))(2.0) == 9
    assert run(gc.grad(lambda x: f(x, s=5.0) if form is dict else 5 * f(x)))(3.0) == 60


@pytest.mark.parametrize("first", [gc.grad, gc.jacfwd])
@pytest.mark.parametrize("second", [gc.grad, gc.jacfwd])
def test_a_rule_holds_for_second_derivatives_through_a_loop(first, second):
    """The derivative of what a step has computed is the rule's there, too, not that of its code."""
    steep = gc.custom_vjp(lambda u: 2 * u, lambda ct, result, u: 3 * ct)

    def looped(x):
        return gc.scan(lambda h, _: (steep(h) ** 2, None), x, None, length=2)[0]

    def counted(x):
        return gc.fori_loop(0, 2, lambda i, h: steep(h) ** 2, x, checkpoint=True)

    def unrolled(x):
        return steep(steep(x) ** 2) ** 2

    values = [gc.interpret(second(first(f)))(0.7) for f in (looped, counted, unrolled)]
    np.testing.assert_allclose(values, values[2], rtol=1e-12)
