"""Derivatives and batches of loops and choices, against differences and plain Python loops."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ad import transforms
from graphc.ad.sparsity import pattern
from graphc.errors import DTypeError

RNG = np.random.default_rng(0)
W, U, B = RNG.normal(size=(4, 4)), RNG.normal(size=(3, 4)), RNG.normal(size=4)
XS = RNG.normal(size=(5, 2, 3))


def rnn(w, u, b, xs, **options):
    def step(h, x):
        h = np.tanh(h @ w + x @ u + b)
        return h, h

    h, hs = gc.scan(step, np.zeros((2, 4)), xs, **options)
    return (hs**2).sum() + h.sum()


def backwards(w, u, b, xs):
    return rnn(w, u, b, xs, reverse=True)


def in_segments(w, u, b, xs):
    return rnn(w, u, b, xs, checkpoint=2)


def backwards_in_segments(w, u, b, xs):
    return rnn(w, u, b, xs, reverse=True, checkpoint=3)


def newton(a, **options):
    return gc.while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, a, **options)


def newton_bounded(a):
    return newton(a, max_steps=9)


def newton_again(a):
    return newton(a, checkpoint=True)


def counting(x, w, **options):
    def body(state):
        return np.sin(state[0]) + w * state[0], state[1] + 1

    return gc.while_loop(lambda s: s[1] < 20, body, (x, 0), **options)[0].sum()


def counting_again(x, w):
    return counting(x, w, checkpoint=True)


def chosen(x, y):
    return gc.cond(x > 0, lambda: np.log(np.abs(x)) * y, lambda: np.exp(x) * y * y)


def nested(x):
    def outer(c, row):
        c, ys = gc.scan(lambda d, e: (d * np.cos(e), d + e), c, row)
        return c, gc.cond(c > 0.1, lambda: ys.sum(), lambda: ys[0] * ys[1])

    c, ys = gc.scan(outer, 1.0, x)
    return (ys * ys).sum() + c


def roots(x):
    def outer(c, e):
        z = gc.while_loop(lambda z: abs(z * z - e) > 1e-12, lambda z: (z + e / z) / 2, e)
        return c + z * c, z

    c, ys = gc.scan(outer, 1.0, x)
    return (ys**3).sum() + c


def polynomial(x):
    return gc.fori_loop(0, 5, lambda i, c: c * x[i] + i, 1.0)


def power(x, y):
    steps = (y > 0) * 2 + 3  # known when it runs
    return gc.fori_loop(0, steps, lambda i, c: c * x * y + i, 1.0)


def mapped(x):
    return gc.map(lambda row: np.sqrt(row @ row + 1), x).sum()


VECTOR, MATRIX = RNG.normal(size=3), RNG.normal(size=(4, 3))
PROGRAMS = {
    "rnn": (rnn, W, U, B, XS),
    "backwards": (backwards, W, U, B, XS),
    "in_segments": (in_segments, W, U, B, XS),
    "backwards_in_segments": (backwards_in_segments, W, U, B, XS),
    "newton": (newton, 2.0),
    "newton_bounded": (newton_bounded, 2.0),
    "newton_again": (newton_again, 2.0),
    "counting": (counting, VECTOR, VECTOR[::-1] * 0.2),
    "counting_again": (counting_again, VECTOR, VECTOR[::-1] * 0.2),
    "chosen_true": (chosen, 1.3, 2.0),
    "chosen_false": (chosen, -1.3, 2.0),
    "nested": (nested, MATRIX),
    "roots": (roots, np.array([2.0, 30.0, 0.5])),
    "polynomial": (polynomial, RNG.normal(size=5)),
    "power": (power, 1.1, 0.7),
    "mapped": (mapped, MATRIX),
}


def differences(f, arguments, step=1e-6):
    """Central differences by each argument, of the plain Python loop."""
    found = []
    for k, x in enumerate(arguments):
        x = np.asarray(x, float)
        slope = np.zeros_like(x)
        for at in np.ndindex(x.shape):
            sides = []
            for sign in (step, -step):
                moved = x.copy()
                moved[at] += sign
                given = list(arguments)
                given[k] = moved if moved.shape else float(moved)
                sides.append(f(*given))
            slope[at] = (sides[0] - sides[1]) / (2 * step)
        found.append(slope)
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_those_of_the_python_loop(name):
    f, *arguments = PROGRAMS[name]
    traced = gc.interpret(transforms.value_and_grad(f, tuple(range(len(arguments)))))
    value, slopes = traced(*arguments)
    np.testing.assert_allclose(value, f(*arguments), rtol=1e-12)
    for found, expected in zip(slopes, differences(f, arguments), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["rnn", "in_segments", "newton", "newton_bounded", "newton_again", "counting",
             "counting_again", "chosen_true", "nested", "roots", "power"],
)  # fmt: skip
def test_second_order(name):
    f, *arguments = PROGRAMS[name]
    every = tuple(range(len(arguments)))

    def norm(*args):
        return sum((g * g).sum() for g in transforms.grad(f, every)(*args))

    plain = gc.interpret(norm)
    slope = gc.interpret(transforms.grad(norm))(*arguments)
    direction = np.random.default_rng(1).normal(size=np.shape(arguments[0]))
    step = 1e-6
    sides = [plain(arguments[0] + s * step * direction, *arguments[1:]) for s in (1, -1)]
    expected = (sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose((slope * direction).sum(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_forward_mode(name):
    f, *arguments = PROGRAMS[name]
    rng = np.random.default_rng(2)
    directions = [rng.normal(size=np.shape(a)) for a in arguments]
    directions = [d if d.shape else float(d) for d in directions]
    every = tuple(range(len(arguments)))

    def pushed(arguments, directions):
        return transforms.jvp(f, every)(*arguments, directions)

    value, change = gc.interpret(pushed)(tuple(arguments), tuple(directions))[:2]
    expected = sum(
        (d * g).sum() for d, g in zip(directions, differences(f, arguments), strict=True)
    )
    np.testing.assert_allclose(value, f(*arguments), rtol=1e-12)
    np.testing.assert_allclose(change, expected, rtol=1e-5, atol=1e-6)


def counted(n, x):
    return gc.fori_loop(0, n, lambda i, c: c * x + i, 1.0)


def stacked_while(x, y):
    """Results of each kind: a carry that no example changes, one that all do."""
    z, w = gc.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + x, s[1] * y), (0.0, 1.0))
    return np.stack([z, w])


THREE = np.array([2.0, 30.0, 0.5])
BATCHES = {
    "weights": (rnn, (0, None, None, None), RNG.normal(size=(3, 4, 4)), U, B, XS),
    "data": (rnn, (None, 0, None, 0), W, RNG.normal(size=(3, 3, 4)), B,
             RNG.normal(size=(3, 5, 2, 3))),
    "steps differ": (newton, (0,), THREE),
    "steps differ, bounded": (newton_bounded, (0,), THREE),
    "sides differ": (chosen, (0, None), np.array([2.0, -3.0, 0.5]), 1.2),
    "same side": (chosen, (None, 0), 1.2, THREE),
    "nested": (nested, (0,), RNG.normal(size=(2, 4, 3))),
    "counts differ": (counted, (0, None), np.array([2, 5, 0]), 1.5),
    "counts and values differ": (counted, (0, 0), np.array([2, 5, 0]), THREE),
    "same count": (counted, (None, 0), 4, THREE),
    "state that examples share": (stacked_while, (None, 0), 0.7, THREE),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCHES)
def test_batches(name):
    f, axes, *arguments = BATCHES[name]
    found = gc.interpret(lambda *a: gc.vmap(f, axes)(*a))(*arguments)
    size = next(len(a) for a, axis in zip(arguments, axes, strict=True) if axis == 0)
    expected = [
        f(*[a[i] if axis == 0 else a for a, axis in zip(arguments, axes, strict=True)])
        for i in range(size)
    ]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-9)


def test_batches_and_gradients_nest():
    expected = 0.5 / np.sqrt(THREE)
    inner = gc.interpret(lambda a: gc.vmap(transforms.grad(newton))(a))(THREE)
    outer = gc.interpret(transforms.grad(lambda a: gc.vmap(newton)(a).sum()))(THREE)
    np.testing.assert_allclose(inner, expected)
    np.testing.assert_allclose(outer, expected)
    counts = np.array([2, 5, 0])
    slopes = gc.interpret(lambda n, x: gc.vmap(transforms.grad(counted, 1), (0, None))(n, x))
    one = gc.interpret(transforms.grad(counted, 1))
    np.testing.assert_allclose(slopes(counts, 1.5), [one(int(n), 1.5) for n in counts])


def test_a_dead_branch_does_not_leak_through_a_loop():
    """The padded steps of a sequence hold 0, where the logarithm has no derivative."""

    def f(x, w):
        def step(c, x):
            return np.where(x > 0, c + np.log(x * w), c), None

        return gc.scan(step, 0.0, x)[0]

    x = np.array([1.0, 2.0, 0.0, 0.0])
    slopes = gc.interpret(transforms.grad(f, (0, 1)))(x, 2.0)
    np.testing.assert_allclose(slopes[0], [1.0, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(slopes[1], 1.0)


def test_integers_and_data_have_no_cotangent_in_the_backward_loop():
    def f(w, x, labels):
        def step(state, given):
            total, seen = state
            row, label = given
            return (total + (row * w)[label], seen + label), None

        total, seen = gc.scan(step, (0.0, 0), (x, labels))[0]
        return total * 2 + 0 * seen

    x, labels = RNG.normal(size=(4, 3)), np.array([0, 2, 1, 2])
    graph = gc.interpret(transforms.grad(f)).graph(np.ones(3), x, labels)
    loops = [n for n in graph.order if n.op == "loop"]
    assert len(loops) == 1 and loops[0].attr("reverse"), "nothing of the forward loop is needed"
    found = gc.interpret(transforms.grad(f))(np.ones(3), x, labels)
    expected = np.zeros(3)
    for row, label in zip(x, labels, strict=True):
        expected[label] += 2 * row[label]
    np.testing.assert_allclose(found, expected)


# ------------------------------------------------------------- with the other transforms of ad/


def series(x):
    return gc.scan(lambda c, e: (np.sin(c) * e + c, c * e), x[0], x)[1]


FOUR = np.array([0.5, 1.2, -0.3, 0.7])


def slopes_of(f, x, step=1e-6):
    columns = [(f(x + step * d) - f(x - step * d)) / (2 * step) for d in np.eye(len(x))]
    return np.stack(columns, -1)


@pytest.mark.parametrize("transform", [gc.jacfwd, gc.jacrev])
def test_jacobians(transform):
    np.testing.assert_allclose(transform(series)(FOUR), slopes_of(series, FOUR), atol=1e-7)


def test_hessian():
    def f(x):
        return (series(x) ** 2).sum()

    slope = gc.interpret(transforms.grad(f))
    np.testing.assert_allclose(gc.hessian(f)(FOUR), slopes_of(slope, FOUR), atol=1e-5)


def test_the_pattern_of_a_loop_is_full():
    graph = gc.interpret(series).graph(FOUR)
    assert pattern(graph.outputs[0], graph.inputs[0]).toarray().all()


@gc.custom_vjp
def doubled(c):
    return c * 2


@doubled.backward
def _(ct, result, c):
    return 10 * ct


def test_custom_rules_and_checkpoints_hold_inside_of_bodies():
    def f(x):
        return gc.scan(lambda c, e: (doubled(c) + e, None), x[0] * 0, x)[0]

    np.testing.assert_allclose(gc.interpret(transforms.grad(f))(np.ones(3)), [100.0, 10.0, 1.0])
    cell = gc.checkpoint(lambda c, e: np.sin(c) * e + c)

    def g(x):
        return (gc.scan(lambda c, e: (cell(c, e), c), x[0], x)[1] ** 2).sum()

    np.testing.assert_allclose(
        gc.interpret(transforms.grad(g))(FOUR), slopes_of(g, FOUR), atol=1e-6
    )


@pytest.mark.parametrize("steps", [0, 1, 9])
def test_a_counted_loop_with_checkpoints(steps):
    x = np.linspace(0.2, 1, 3)

    def loss(x, n, checkpoint=False):
        def body(i, s):
            return np.sin(s) + x * i

        return np.sum(gc.fori_loop(0, n, body, x, checkpoint=checkpoint) ** 2)

    kept = gc.interpret(gc.grad(loss))(x, steps)
    again = gc.interpret(gc.grad(lambda x, n: loss(x, n, True)))(x, steps)
    np.testing.assert_allclose(again, kept, rtol=1e-12)


def test_the_counter_of_a_checkpointed_loop_is_a_number():
    """As without it, and in Python: it does not widen what it meets."""

    def f(x, n):
        return gc.fori_loop(0, n, lambda i, h: np.sin(h + 0.1 * i), x, checkpoint=True).sum()

    x = np.float32([0.3, -0.4])
    slope = gc.interpret(gc.grad(f))(x, 4)
    expected = gc.interpret(
        gc.grad(lambda x: np.sin(np.sin(np.sin(np.sin(x) + 0.1) + 0.2) + 0.3).sum())
    )
    assert slope.dtype == np.float32
    np.testing.assert_allclose(slope, expected(x), rtol=1e-5)
    with pytest.raises(DTypeError, match="carry of fori_loop"):
        gc.interpret(
            lambda x: gc.fori_loop(0, 3, lambda i, h: h * i.astype("f8"), x, checkpoint=True)
        )(x)
