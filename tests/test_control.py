"""scan, fori_loop, while_loop, cond and map: values, errors, native code, tapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from generated import assert_same, native_run, python_run

import graphc as gc
from graphc import interp
from graphc.ad import transforms
from graphc.errors import (
    DTypeError,
    EscapedTracerError,
    OptionError,
    ShapeError,
    TapeError,
    TraceError,
)
from graphc.ir.parser import parse
from graphc.ir.printer import print_graph
from graphc.ir.verify import verify
from graphc.schedule import schedule
from graphc.schedule.loops import leaves
from graphc.trace.tree import flatten

RNG = np.random.default_rng(0)


def lstm(w, u, xs):
    """All states [t, n, 4] of an LSTM over xs [t, n, 3]."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def step(state, x):
        h, c = state
        z = h @ w + x @ u
        i, f, o, g = (z[:, k * 4 : k * 4 + 4] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return (h, c), h

    zero = np.zeros_like(xs[0] @ u[:, :4])
    (h, c), hs = gc.scan(step, (zero, zero), xs)
    return hs, h + c


def euler(y, steps):
    return gc.fori_loop(0, steps, lambda i, y: y + 1e-3 * np.sin(y) * (1 - y), y)


def newton(a):
    return gc.while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, a)


def swapped(n):
    return gc.fori_loop(0, n, lambda i, pair: (pair[1], pair[0] + pair[1]), (0, 1))


def products(x):
    return gc.scan(lambda p, e: (p * e, p * e), np.ones_like(x[0]), x)[1]


def masks(x):
    """Boolean and integer carries."""

    def step(state, e):
        seen, count = state
        return (np.logical_or(seen, e > 1), count + (e > 0)), seen

    (seen, count), ys = gc.scan(step, (np.zeros(3, bool), np.zeros(3, np.int32)), x)
    return seen, count, ys


def nested(x):
    def outer(total, row):
        last, ys = gc.scan(lambda d, e: (d * np.cos(e) + total, d + e), 0.5, row)
        return total + last, gc.cond(total > 0.4, lambda: ys, lambda: ys[::-1] * 2)

    return gc.scan(outer, 0.0, x, reverse=True)


def collatz(n):
    def halve(n):
        return gc.cond(n % 2 == 0, lambda: n // 2, lambda: 3 * n + 1)

    return gc.while_loop(lambda s: s[0] != 1, lambda s: (halve(s[0]), s[1] + 1), (n, 0))


def tables(x, i):
    """A run-time index in a body."""
    return gc.map(lambda k: x[k] * 2, i)


MATRIX = RNG.normal(size=(5, 3))
PROGRAMS = {
    "lstm": (lstm, RNG.normal(size=(4, 16)), RNG.normal(size=(3, 16)), RNG.normal(size=(6, 2, 3))),
    "euler": (euler, RNG.normal(size=3), 50),
    "newton": (newton, 2.0),
    "swapped": (swapped, 10),
    "products": (products, MATRIX),
    "masks": (masks, MATRIX),
    "nested": (nested, MATRIX),
    "collatz": (collatz, 27),
    "tables": (tables, MATRIX, np.array([4, 0, 2, 2])),
    "mapped": (lambda x: gc.map(lambda r: {"n": r @ r, "m": (r, 1)}, x), MATRIX),
    "cut short": (lambda x: gc.while_loop(lambda x: x < 100, lambda x: x * 2, x, max_steps=3), 3.0),
    "never": (lambda x: gc.while_loop(lambda x: x < 0, lambda x: x * 2, x), 3.0),
    "no steps": (lambda x: gc.fori_loop(3, 1, lambda i, c: c * i, x), 3.0),
    "outside": (lambda x: gc.scan(lambda c, _: (c + x, x), 0.0, length=3), MATRIX[0, 0]),
}  # fmt: skip


def arrays_of(arguments):
    return [np.asarray(a) for a in arguments]


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_those_of_the_python_loop(name):
    """The same program on plain arrays runs as a Python loop; compiled, as a native one."""
    f, *arguments = PROGRAMS[name]
    expected = [np.asarray(v) for v in flatten(f(*arguments))[0]]
    graph = verify(gc.compile(f).graph(*arguments))
    arrays = arrays_of(arguments)
    assert_same(interp.evaluate(graph, arrays), expected, label="interpreter")
    for optimize in (False, True):
        assert_same(python_run(graph, arrays, optimize), expected, label=f"python {optimize}")
    assert_same(native_run(graph, arrays), expected, label="native")


@pytest.mark.parametrize("name", ["lstm", "euler", "newton", "products", "nested", "tables"])
def test_gradients_compiled(name):
    f, *arguments = PROGRAMS[name]

    def loss(*args):
        return sum((v * v).sum() for v in flatten(f(*args))[0])

    graph = gc.compile(transforms.value_and_grad(loss)).graph(*arguments)
    arrays = arrays_of(arguments)
    expected = interp.evaluate(graph, arrays)
    assert_same(native_run(graph, arrays), expected, label="native")
    if not graph.tapes:
        assert_same(python_run(graph, arrays, True), expected, label="python")


@pytest.mark.parametrize("name", PROGRAMS)
def test_text_parses_back(name):
    f, *arguments = PROGRAMS[name]
    graph = gc.compile(f).graph(*arguments)
    text = print_graph(graph, sources=False)
    again = parse(text)
    assert again.outputs == graph.outputs and print_graph(again) == text
    assert parse(print_graph(graph)).outputs == graph.outputs
    if name != "no steps":
        assert "test_control.py" in print_graph(graph)


def test_a_symbolic_batch_and_length():
    f = gc.compile(lstm)
    w, u = PROGRAMS["lstm"][1:3]
    for t, n in ((6, 2), (4, 3), (9, 5), (3, 7)):
        xs = RNG.normal(size=(t, n, 3))
        for found, expected in zip(f(w, u, xs), lstm(w, u, xs), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len(f.compiles) == 2, "the second compile serves every size"


def test_compile_time_does_not_depend_on_the_steps():
    short, long = (gc.compile(euler).graph(np.ones(3), n) for n in (10, 10_000))
    assert print_graph(short) == print_graph(long)
    fixed = [
        gc.compile(lambda y, n=n: euler(y, n)).graph(np.ones(3)) for n in (10, 10_000)
    ]  # fmt: skip
    kernels = [len(list(leaves(schedule(g).kernels))) for g in fixed]
    assert kernels[0] == kernels[1] <= 4


def test_no_steps_give_the_empty_result():
    def f(x):
        return gc.scan(lambda c, e: (c + e.sum(), (e * 2, c)), 1.5, x)

    empty = np.zeros((0, 3), np.float32)
    for run in (gc.compile(f), gc.interpret(f), f):
        carry, (ys, cs) = run(empty)
        assert carry == 1.5
        assert ys.shape == (0, 3) and ys.dtype == np.float32 and cs.shape == (0,)
    slope = gc.grad(lambda w: gc.scan(lambda c, e: (c * w, c), w, np.zeros((0, 2)))[0])(3.0)
    assert slope == 1.0


# --------------------------------------------------------------------------------------- carries


def test_python_numbers_in_a_carry_take_the_dtype_of_the_body():
    x = np.ones(3, np.float32)
    total, count = gc.compile(lambda x: gc.scan(
        lambda s, e: ((s[0] + e, s[1] + 1), None), (0, 0), x)[0])(x)  # fmt: skip
    assert total == 3 and total.dtype == np.float32
    assert count == 3 and isinstance(count, int)
    assert gc.compile(lambda x: gc.fori_loop(0, 3, lambda i, c: c / 2, 8) + x)(x).dtype == x.dtype


@dataclass
class State:
    n_pos: object
    total: object


def test_a_carry_that_changes_its_dtype_names_the_leaf_and_the_line():
    def step(state, x):
        return State(
            state.n_pos + (x > 0) * np.float32(1),
            state.total + x,
        ), None

    def f(x):
        return gc.scan(step, State(np.int32(0), np.float32(0)), x)[0].total

    with pytest.raises(DTypeError) as caught:
        gc.compile(f)(np.ones(3, np.float32))
    text = str(caught.value)
    assert (
        "`carry.n_pos`: int32 -> float" in text
        and f"line {step.__code__.co_firstlineno + 2}" in text
    )
    assert "test_control.py" in text and len(text.splitlines()) <= 8


@pytest.mark.parametrize(
    ("f", "error", "pattern"),
    [
        (
            lambda x: gc.scan(lambda c, e: (c + x, None), 0.0, x),
            ShapeError,
            r"`carry`: f64\[\] -> f64\[5,3\]",
        ),
        (
            lambda x: gc.scan(lambda c, e: ((c, c), None), 0.0, x),
            TraceError,
            "changes its structure: `carry` starts as a number or array and becomes a tuple of 2",
        ),
        (
            lambda x: gc.scan(lambda c, e: ({"a": {}}, e), {"a": {"b": 0.0}}, x),
            TraceError,
            r"`carry\['a'\]` starts as a dict with 'b' and becomes an empty dict",
        ),
        (
            lambda x: gc.scan(lambda c, e: (c * 1j, e), x[0], x),
            DTypeError,
            r"start with np.complex128, such as carry.astype\(np.complex128\)",
        ),
        (
            lambda x: gc.scan(lambda c, e: (np.append(c, e), e), x[0], x[:, 0]),
            ShapeError,
            r"shape \(4,\); rows that steps add are collected as y",
        ),
        (
            lambda x: gc.scan(lambda c, e: (c + 1 if e > 0 else c, e), 0.0, x[0]),
            TraceError,
            r"depends on the carry, index or element of a loop's step(.|\n)*g, x\)\.\n",
        ),
        (
            lambda x: gc.scan(lambda c, e: c, 0.0, x),
            TraceError,
            r"returns \(carry, y\), not one number(.|\n)*carry, None",
        ),
        (
            lambda x: gc.scan(lambda c, e: (c, e), 0.0, (x, x[1:])),
            ShapeError,
            r"over 5 steps, but `xs\[1\]` has 4",
        ),
        (lambda x: gc.scan(lambda c, e: (c, e), 0.0), TraceError, "needs xs or length"),
        (
            lambda x: gc.scan(lambda c, e: (c, e), 0.0, x.sum()),
            ShapeError,
            "`xs` is a single value",
        ),
        (lambda x: gc.while_loop(lambda c: c > 0, lambda c: c, x), DTypeError, "not one bool"),
        (
            lambda x: gc.while_loop(lambda c: c.sum() > 0, lambda c: c, x, max_steps=0),
            OptionError,
            "max_steps=0",
        ),
        (
            lambda x: gc.cond(x.sum() > 0, lambda: x, lambda: x[0]),
            ShapeError,
            r"sides of cond differ: `result` is f64\[5,3\] where true, f64\[3\] where false",
        ),
        (
            lambda x: gc.cond(x.sum() > 0, lambda: x, lambda: (x,)),
            TraceError,
            r"structures: `result` is a number or array where true, a tuple of 1 where false",
        ),
        (lambda x: gc.fori_loop(0, x.sum(), lambda i, c: c, x), DTypeError, "a bound of fori_loop"),
        (
            lambda x: gc.scan(lambda c, e: (c, e), 0.0, length=(x.sum() > 0)),
            TraceError,
            "use fori_loop",
        ),
    ],
)
def test_errors(f, error, pattern):
    with pytest.raises(error, match=pattern) as caught:
        gc.compile(f)(np.ones((5, 3)))
    assert (
        len(str(caught.value).splitlines()) <= 8 and "test_control.py" in str(caught.value)
    ) or (error is OptionError)


def test_a_value_that_leaves_a_body_sideways_is_named():
    kept = []

    def f(x):
        gc.scan(lambda c, e: (kept.append(c * 2) or c, e), 0.0, x)
        return kept[-1]

    with pytest.raises(EscapedTracerError, match="left the body of a loop sideways"):
        gc.compile(f)(np.ones(3))


def test_an_index_out_of_range_in_a_body_is_an_index_error():
    f = gc.compile(tables)
    with pytest.raises(IndexError, match="index 7"):
        f(MATRIX, np.array([4, 7]))


# ----------------------------------------------------------------------------------------- tapes


def decay(x, n):
    return gc.while_loop(lambda s: s[1] < n, lambda s: (np.sin(s[0]) * 1.01, s[1] + 1), (x, 0))[
        0
    ].sum()


def test_a_tape_grows_and_keeps_its_size():
    slope = gc.grad(decay)
    plain = gc.interpret(transforms.grad(decay))
    x = RNG.normal(size=3)
    for steps in (5, 300, 200, 1000):
        np.testing.assert_allclose(slope(x, steps), plain(x, steps), rtol=1e-9)
    assert len(slope.compiles) == 1


def test_a_tape_beyond_the_budget_says_what_to_do(monkeypatch):
    monkeypatch.setenv("GRAPHC_TAPE_BYTES", "5e4")
    slope = gc.grad(decay)
    x = np.ones(3)
    slope(x, 100)
    with pytest.raises(TapeError) as caught:
        slope(x, 100_000)
    text = str(caught.value)
    assert "max_steps=" in text and "checkpoint=True" in text and "test_control.py" in text
    assert "kB at step" in text and len(text.splitlines()) <= 8

    def again(x, n):
        return gc.while_loop(
            lambda s: s[1] < n, lambda s: (np.sin(s[0]) * 1.01, s[1] + 1), (x, 0), checkpoint=True
        )[0].sum()

    found = gc.grad(again)(x, 10_000)
    monkeypatch.delenv("GRAPHC_TAPE_BYTES")
    np.testing.assert_allclose(found, gc.grad(decay)(x, 10_000), rtol=1e-9)


def test_donated_memory_is_whole_when_a_tape_grows():
    def update(w, n):
        return w - 0.1 * transforms.grad(decay)(w, n)

    donating = gc.compile(update, donate=0)
    w = RNG.normal(size=3)
    expected = gc.compile(update)(w, 700)
    np.testing.assert_allclose(donating(w.copy(), 700), expected, rtol=1e-12)


# ------------------------------------------------------------------------------------- schedules


def test_a_report_shows_loops_and_counts_their_kernels_once():
    report = gc.inspect(gc.grad(newton), 2.0)
    assert "while a condition holds" in report.fused and "last step first" in report.fused
    assert "each step:" in report.fused and "a tape of" in report.fused
    assert "while True:" in report.loops
    assert "item" not in " ".join(report.why_not_fused)


def test_a_trainer_trains_through_a_scan():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 7, 2)).astype(np.float32)
    y = x.sum((1, 2))
    params = {
        "w": (0.3 * rng.normal(size=(8, 8))).astype(np.float32),
        "u": (0.3 * rng.normal(size=(2, 8))).astype(np.float32),
        "v": (0.3 * rng.normal(size=8)).astype(np.float32),
    }

    def loss(params, x, y):
        def step(h, x):
            return np.tanh(h @ params["w"] + x @ params["u"]), None

        h = gc.scan(step, np.zeros((x.shape[0], 8), np.float32), x.transpose(1, 0, 2))[0]
        return np.mean((h @ params["v"] - y) ** 2)

    results = []
    for engine in ("native", "interpreter"):
        trainer = gc.Trainer(loss, gc.optim.adam(1e-2), engine=engine)
        result = trainer.fit(params, (x, y), epochs=16, batch_size=16, seed=0)
        results.append(result.history.loss)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3)
    assert results[0][-1] < 0.5 * results[0][0]


# ---------------------------------------------------------------------- with Python's own choices


def test_an_if_on_the_result_of_a_loop_takes_a_path():
    def f(x):
        root = newton(x)
        slope = transforms.grad(newton)(x)  # through a tape
        if root > 2 and slope < 1:
            return root * 10
        return root

    compiled = gc.compile(f)
    for x in (2.0, 9.0, 3.0):
        expected = np.sqrt(x) * (10 if x > 4 else 1)
        np.testing.assert_allclose(compiled(x), expected, rtol=1e-9)


def test_an_if_inside_a_body_says_what_to_write():
    def step(c, e):
        if e > 0:
            return c + e, None
        return c, None

    with pytest.raises(TraceError, match=r"gc\.cond\(condition"):
        gc.compile(lambda x: gc.scan(step, 0.0, x)[0])(np.ones(3))
