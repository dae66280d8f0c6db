"""Unrolled Python loops become loops: same bits, gradients that are loops, code of one size."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gc
from graphc import interp, passes
from graphc.ad import transforms
from graphc.codegen.writer import write
from graphc.ir.printer import print_graph
from graphc.ir.verify import verify
from graphc.passes.reroll import BLOCKS, BLOCKS_OF_ARGUMENTS, reroll
from graphc.schedule import schedule
from graphc.trace.tracing import spec_of, trace
from graphc.trace.tree import flatten, unflatten

RNG = np.random.default_rng(0)
W, U = RNG.normal(size=(3, 3)) / 2, RNG.normal(size=(3, 12)) / 2
X = RNG.normal(size=(4, 24, 3))
Y = np.array([0.4, -0.3])


def loops(graph):
    return [n for n in graph.order if n.op == "loop"]


def arrays(args):
    return [np.asarray(a) for a in flatten(args)[0]]


def unrolled(f, *args):
    """The traced graph; derivatives in it are taken of the unrolled program."""
    leaves, structure = flatten(args)
    specs = unflatten(structure, [spec_of(leaf, "x") for leaf in leaves])
    return trace(f, specs, before_adjoint=passes.stabilize_nodes).graph


# ------------------------------------------------------------------------------------- programs


def euler(steps):
    def f(y):
        for _ in range(steps):
            y = y + 0.01 * np.stack([y[1], -np.sin(y[0])])
        return y

    return f


def rk4(steps):
    def f(y, a):
        def slope(y):
            return np.stack([y[1] * a, np.exp(a) * np.sin(y[0])])

        h = 0.01
        for _ in range(steps):
            k1 = slope(y)
            k2 = slope(y + h / 2 * k1)
            k3 = slope(y + h / 2 * k2)
            k4 = slope(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y

    return f


def rnn(w, x):
    h, hs = np.zeros((4, 3)), []
    for t in range(x.shape[1]):
        h = np.tanh(h @ w + x[:, t])
        hs.append(h)
    return np.stack(hs, axis=1)


def backwards(w, x):
    h, hs = np.zeros((4, 3)), []
    for t in reversed(range(x.shape[1])):
        h = np.tanh(h @ w + x[:, t])
        hs.append(h)
    return np.concatenate(hs[::-1], axis=1)


def lstm(x, v, u):
    h = c = np.zeros((4, 3))
    for t in range(x.shape[1]):
        z = x[:, t] @ v + h @ u
        i, f, g, o = (1 / (1 + np.exp(-z[:, 3 * k : 3 * k + 3])) for k in range(4))
        c = f * c + i * g
        h = o * np.tanh(c)
    return h, c


def power_iteration(a):
    v = np.ones(3)
    for _ in range(40):
        v = a @ v
        v = v / np.sqrt(v @ v)
    return v @ a @ v


def shared_layers(x, w, b):
    for _ in range(20):
        x = np.tanh(x @ w + b)
    return x


def own_layers(x, layers):
    for w, b in layers:
        x = np.tanh(x @ w + b)
    return x


def named_layers(x, params):
    for k in range(len(params) // 2):
        x = np.tanh(x @ params[f"W{k:02}"].T + params[f"b{k:02}"])
    return x


def series(x):
    term = total = 1.0
    for k in range(1, 200):
        term = term * x / k
        total = total + term
    return total


def two_carries(x):
    a, b = x, 2 * x
    for _ in range(100):
        a, b = np.sin(b) + a / 2, np.cos(a) - b / 3
    return a * b


def older_values(x):
    a, b = x, 2 * x
    for _ in range(150):
        a, b = b, np.sin(b) - a / 2
    return b


def surrounded(x, w):
    x = np.exp(x @ w) / (1 + np.exp(x))
    for _ in range(17):
        x = np.tanh(x @ w)
    return np.log(1 + x * x).sum() + x[0, 0]


def nested(x, w):
    for k in range(17):
        for _ in range(16):
            x = np.tanh(x @ w) / (k + 1)
        x = np.cos(x)
    return x


def short_inside(x, w):
    for _ in range(20):
        for j in range(3):
            x = np.tanh(x @ w) * (j + 0.5)
        x = np.cos(x)
    return x


def running_loss(w, x, y):
    h, loss = np.zeros(3), 0.0
    for t in range(20):
        h = np.tanh(w @ h + x[t])
        loss = loss + np.sum((h - y[t]) ** 2)
    return h, loss / 20


def windowed(x):
    total = np.zeros(3)
    for k in range(20):
        total = np.tanh(total + x[k : k + 3] @ x[3 * k : 3 * k + 3])
    return total


def permuted(x):
    total, order = np.zeros(3), np.random.default_rng(1).permutation(24)
    for k in order:
        total = np.tanh(W @ total + x[0, k])
    return total


def recursive(x, depth=120):
    return x if not depth else np.sin(recursive(x, depth - 1)) * x + 0.1 * np.cos(x) / (1 + x * x)


def with_break(x):
    term = total = 1.0
    for k in range(1, 400):
        term = term * x / k
        total = total + term
        if abs(term) < 1e-300:
            break
    return total


LAYERS = [(RNG.normal(size=(3, 3)) / 2, RNG.normal(size=3)) for _ in range(BLOCKS_OF_ARGUMENTS)]
NAMED = {f"W{k:02}": w for k, (w, _) in enumerate(LAYERS)}
NAMED |= {f"b{k:02}": b for k, (_, b) in enumerate(LAYERS)}
PROGRAMS = {
    "euler": (euler(400), Y), "rk4": (rk4(100), Y, 0.7), "rnn": (rnn, W, X),
    "backwards": (backwards, W, X), "lstm": (lstm, X, U, U), "power": (power_iteration, W @ W.T),
    "shared": (shared_layers, X[0], W, Y[0] * np.ones(3)), "own": (own_layers, X[0], LAYERS),
    "named": (named_layers, X[0], NAMED), "series": (series, 0.7), "two": (two_carries, 0.3),
    "older": (older_values, 0.3), "surrounded": (surrounded, X[0], W),
    "nested": (nested, X[0], W), "short inside": (short_inside, X[0], W),
    "running loss": (running_loss, W, X[0], X[1]), "windows": (windowed, RNG.normal(size=(60, 3))),
    "permuted": (permuted, X), "recursion": (recursive, 0.4),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_values_are_the_same_bits(name):
    f, *args = PROGRAMS[name]
    graph = unrolled(f, *args)
    rolled = verify(reroll(graph))
    assert loops(rolled)
    assert len(rolled.order) < len(graph.order)
    pairs = zip(
        interp.evaluate(rolled, arrays(args)), interp.evaluate(graph, arrays(args)), strict=True
    )
    for found, expected in pairs:
        np.testing.assert_array_equal(found, expected)
    assert any(n in rolled.sources for n in loops(rolled))


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_loops(name):
    f, *args = PROGRAMS[name]

    def scalar(*args):
        return sum(np.sum(leaf * leaf) for leaf in flatten(f(*args))[0])

    g = transforms.value_and_grad(scalar, argnums=tuple(range(len(args))))
    graph = passes.optimize(gc.compile(g).graph(*args), check=True)
    assert any(n.attr("reverse") for n in loops(graph))
    expected = interp.evaluate(unrolled(g, *args), arrays(args))
    for found, wanted in zip(interp.evaluate(graph, arrays(args)), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_ten_thousand_steps():
    def decay(x):
        for _ in range(10_000):
            x = x + 0.001 * np.sin(x)
        return x

    graph = passes.optimize(gc.compile(transforms.value_and_grad(decay)).graph(0.5))
    forward, backward = loops(graph)
    assert forward.attr("length") == backward.attr("length") == 10_000
    value, gradient = interp.evaluate(graph, [np.asarray(0.5)])
    x, slope = 0.5, 1.0
    for _ in range(10_000):
        x, slope = x + 0.001 * np.sin(x), slope * (1 + 0.001 * np.cos(x))
    np.testing.assert_allclose([value, gradient], [x, slope], rtol=1e-9)


def test_second_derivatives():
    f = transforms.grad(transforms.grad(lambda x: two_carries(x)))
    found = interp.evaluate(gc.compile(f).graph(0.3), [np.asarray(0.3)])
    expected = interp.evaluate(unrolled(f, 0.3), [np.asarray(0.3)])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_forward_mode_and_batches():
    f = transforms.jvp(lambda x: series(x))
    found = interp.evaluate(gc.compile(f).graph(0.7, 1.0), [np.asarray(0.7), np.asarray(1.0)])
    np.testing.assert_allclose(found, [np.exp(0.7)] * 2, rtol=1e-14)
    xs = np.linspace(0.1, 1, 5)
    graph = passes.optimize(gc.compile(gc.vmap(series)).graph(xs))
    assert loops(graph)
    np.testing.assert_allclose(interp.evaluate(graph, [xs])[0], np.exp(xs), rtol=1e-14)


def test_a_loop_with_a_break():
    graph = reroll(gc.compile(with_break).graph(0.7))
    (loop,) = loops(graph)
    assert 100 < loop.attr("length") < 200  # the path of these arguments
    np.testing.assert_allclose(
        interp.evaluate(graph, [np.asarray(0.7)])[0], np.exp(0.7), rtol=1e-14
    )


# --------------------------------------------------------------------- the same as a written loop


def text(f, *args, optimized=True):
    graph = gc.compile(f).graph(*args)
    graph = passes.optimize(graph) if optimized else graph
    return re.sub(r"^graph \S+?\(", "graph f(", print_graph(graph, sources=False))


@pytest.mark.parametrize("transform", [lambda f: f, transforms.grad], ids=["value", "gradient"])
def test_the_graph_is_that_of_fori_loop(transform):
    def step(y):
        return y + 0.01 * np.stack([y[1], -np.sin(y[0])])

    def python(y):
        for _ in range(100):
            y = step(y)
        return np.sum(y)

    def written(y):
        return np.sum(gc.scan(lambda y, _: (step(y), None), y, length=100)[0])

    assert text(transform(python), Y) == text(transform(written), Y)


@pytest.mark.parametrize("transform", [lambda f: f, transforms.grad], ids=["value", "gradient"])
def test_the_graph_is_that_of_scan(transform):
    x = X[0]

    def python(w, x):
        h, hs = np.zeros(3), []
        for t in range(24):
            h = np.tanh(w @ h + x[t])
            hs.append(h)
        return np.sum(np.stack(hs) ** 2)

    def written(w, x):
        hs = gc.scan(lambda h, e: ((z := np.tanh(w @ h + e)), z), np.zeros(3), x)[1]
        return np.sum(hs**2)

    assert text(transform(python), W, x) == text(transform(written), W, x)


# ----------------------------------------------------------------------------- one size of code


@pytest.mark.parametrize(
    "program",
    [
        lambda n: (lambda x, w: np.sum(shared(x, w, n)), X[0], W),
        lambda n: (lambda y: np.sum(euler(n)(y)), Y),
    ],
    ids=["layers", "euler"],
)
@pytest.mark.parametrize("transform", [lambda f: f, transforms.value_and_grad], ids=["f", "grad"])
def test_kernels_and_code_do_not_grow_with_the_steps(program, transform):
    sizes = set()
    for steps in (110, 220, 440):
        f, *args = program(steps)
        scheduled = schedule(passes.optimize(gc.compile(transform(f)).graph(*args)))
        code = re.sub(r"\d+", "0", write(scheduled).text)
        sizes.add((len(scheduled.kernels), len(code), len(code.splitlines())))
    assert len(sizes) == 1


def shared(x, w, n):
    for _ in range(n):
        x = np.tanh(x @ w)
    return x


def test_constants_that_count_are_counted():
    graph = reroll(unrolled(series, 0.5))
    assert max(n.attr("value").array.size for n in graph.order if n.op == "const") == 1
    (loop,) = loops(graph)
    assert loop.attr("length") == 199


def test_shared_work_stays_outside():
    (loop,) = loops(reroll(unrolled(rk4(50), Y, 0.7)))
    assert not any(n.op == "exp" for n in loop.attr("body").order)
    assert loop.attr("length") == 50


# ------------------------------------------------------------------------------ what stays as it is


def cheap_chain(x):
    for _ in range(8):
        x = np.sin(x) * 0.5
    return x


def cheap_on_arrays(x):
    for _ in range(100):
        x = x * 0.5 + 1.0
    return x


def three_layers(x, w):
    for _ in range(3):
        x = np.tanh(x @ w)
    return x


def alternating(x, w):
    for k in range(40):
        x = [np.tanh, np.sin, np.cos, np.exp][(k * k + k // 3) % 4](x @ w)
    return x


def different_shapes(x):
    for k in range(2, 40):
        x = np.ones((k + 1, k)) @ x
    return x


def equations(x):
    return np.stack([np.sin(x[k]) * x[k + 1] / (k + 1) + np.exp(x[k]) for k in range(99)])


def skipping(x, w):
    """Each value is read again at places that do not repeat."""
    seen = [x]
    for k in range(40):
        seen.append(np.tanh(seen[-1] @ w) + seen[k // 2])
    return seen[-1]


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (cheap_chain, (np.ones(1000),)), (cheap_on_arrays, (np.ones(100_000),)),
        (three_layers, (X[0], W)), (alternating, (X[0], W)), (different_shapes, (np.ones((2, 1)),)),
        (skipping, (X[0], W)), (equations, (np.ones(100),)),
        (lambda x, w: shared(x, w, BLOCKS - 1), (X[0], W)),
        (own_layers, (X[0], LAYERS[:24])),
    ],
)  # fmt: skip
def test_not_a_loop(f, args):
    graph = unrolled(f, *args)
    assert reroll(graph) is graph


def weights_updated(x, weights):
    return [w - 0.1 * x * np.sin(w) for w in weights]


@pytest.mark.parametrize("count", [BLOCKS_OF_ARGUMENTS - 1, BLOCKS_OF_ARGUMENTS + 4])
def test_updates_of_many_arguments_are_a_loop(count):
    weights = [RNG.normal(size=(2, 3)) for _ in range(count)]
    graph = unrolled(weights_updated, 0.5, weights)
    rolled = verify(reroll(graph))
    assert bool(loops(rolled)) == (count >= BLOCKS_OF_ARGUMENTS)
    found, expected = (interp.evaluate(g, arrays((0.5, weights))) for g in (rolled, graph))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_updates_that_others_read_are_no_loop():
    def f(x, weights):
        new = weights_updated(x, weights)
        return new, np.sin(np.concatenate(new))

    graph = unrolled(f, 0.5, [RNG.normal(size=3) for _ in range(40)])
    assert not loops(reroll(graph))


def test_cheap_arithmetic_on_an_array_is_one_kernel():
    graph = passes.optimize(unrolled(cheap_chain, np.ones(1000)))
    assert len(schedule(graph).kernels) == 1


def test_a_step_that_differs_stays_between_two_loops():
    def f(x, w):
        for k in range(50):
            x = np.tanh(x @ w) if k != 25 else np.sinh(x @ w) + 1
        return x

    graph = unrolled(f, X[0], W)
    rolled = reroll(graph)
    assert sorted(n.attr("length") for n in loops(rolled)) == [24, 25]
    args = [X[0], W]
    np.testing.assert_array_equal(interp.evaluate(rolled, args)[0], interp.evaluate(graph, args)[0])


def test_every_step_read_from_outside_is_a_part_of_the_stack():
    def f(x, w):
        seen = []
        for _ in range(20):
            x = np.tanh(x @ w)
            seen.append(x)
        return seen[3] + seen[-1], seen[7][0]

    graph = unrolled(f, X[0], W)
    rolled = reroll(graph)
    assert len(loops(rolled)) == 1
    pairs = zip(interp.evaluate(rolled, [X[0], W]), interp.evaluate(graph, [X[0], W]), strict=True)
    for found, expected in pairs:
        np.testing.assert_array_equal(found, expected)


def test_work_is_linear_in_the_steps():
    """Nodes looked at while a chain is searched, rather than seconds."""
    from graphc.passes.periods import Order

    counts = []
    for steps in (200, 400, 800):
        order = Order(unrolled(lambda x, w, n=steps: shared(x, w, n), X[0], W).outputs)
        calls = 0
        compare = order._repeats

        def counted(i, period, compare=compare):
            nonlocal calls
            calls += 1
            return compare(i, period)

        order._repeats = counted
        list(order.regions(BLOCKS))
        counts.append(calls)
    assert counts[2] < 2.2 * counts[1] < 2.2 * 2.2 * counts[0]


def test_loops_run_natively():
    f = gc.compile(gc.value_and_grad(lambda w, x: np.sum(rnn(w, x) ** 2)))
    value, gradient = f(W, X)
    expected = interp.evaluate(
        unrolled(transforms.value_and_grad(lambda w, x: np.sum(rnn(w, x) ** 2)), W, X), [W, X]
    )
    np.testing.assert_allclose(value, expected[0], rtol=1e-10)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-9)
