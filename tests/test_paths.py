"""Python's ``if`` and ``while`` on traced values: each way through a function is a path."""

import math
import threading
import warnings
from typing import NamedTuple

import numpy as np
import pytest

import graphc as gc
from graphc import compiled
from graphc.errors import (
    CompileLimitError,
    GradientError,
    IndexingError,
    OptionError,
    TraceError,
)
from graphc.trace.guards import Values

# ------------------------------------------------------------------- programs as autograd takes


def absolute(x):
    if x > 0:
        return x
    return -x


def pieces(x):
    if x < -1:
        return 2 * x + 1
    elif x < 1:
        return x**3
    return np.log(x) + 1


def newton(a):
    x = a
    while np.abs(x * x - a) > 1e-10 * a:
        x = 0.5 * (x + a / x)
    return x


def bisection(a):
    low, high = 0.0 * a, a + 1
    while high - low > 1e-3:
        middle = (low + high) / 2
        if middle**3 < a:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def early_return(x):
    total = 0.0
    for k in range(10):
        total = total + x ** (k + 1)
        if total > 3:
            return total
    return -total


def early_break(x):
    y = x
    for _ in range(8):
        y = y * 1.5
        if not y < 5:
            break
        y = y + 0.1 * x
    else:
        y = y * x
    return np.sin(y)


def recursive(x):
    return x if x < 1 else 0.5 * recursive(x - 1) + np.sin(x)


def builtins(x):
    low, *_, high = sorted([x * x, 2 - x, x])
    return max(x, 1.0) * low + min(x, x * x) * high


def truths(x):
    inside = 0.2 < x < 0.8
    return (x**2 if inside and not x > 0.5 else x**3) + (x if x > 2 or x < 0.1 else 0.0)


def counted(x):
    total = x
    for k in range(int(x)):
        total = total * x + k
    return total


def by_list(x):
    functions = [np.sin, np.cos, np.exp]
    return functions[int(x) % 3](x)


def of_array(x):
    v = x * np.array([1.0, -2.0, 3.0])
    if (v > 2).any():
        v = v / 2
    if (v != 0).all():
        v = v[::-1]
    return (v * np.arange(3)).sum()


def conditional_assignments(x):
    v = gc.numpy.zeros(4)
    for i in range(4):
        v[i] = x + i
        if v[i] > 2:
            v[i] = v[i] ** 2
    return v.sum()


def collatz(x):
    """The length of the trajectory scales x; nothing is differentiated through its integers."""
    n, steps = np.floor(x).astype(np.int64), 0
    while n > 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps * x


def error_is_fixed(x):
    try:
        if x > 1:
            raise ValueError
        return x**2
    except ValueError:
        return 3 * x


PROGRAMS = {
    absolute: ([2.0, -3.0, 0.5, -0.5], 2),
    pieces: ([-2.0, 0.5, 3.0, -1.5, 0.1], 3),
    newton: ([2.0, 3.0, 2.1, 100.0, 3.1], None),
    bisection: ([2.0, 2.0001], None),
    early_return: ([2.5, 0.98, 0.5, 1.1, 2.6], 4),
    early_break: ([1.0, 0.1, 1.05, 6.0], 3),
    recursive: ([0.5, 2.5, 3.2, 2.6], 3),
    builtins: ([0.5, 1.5, 3.0, -1.0], 3),
    truths: ([0.3, 0.6, 0.05, 3.0, 0.35], 4),
    counted: ([0.5, 2.5, 3.5, 2.25], 3),
    by_list: ([0.5, 1.5, 2.5, 3.5], 4),
    of_array: ([0.5, 1.0, -3.0, 0.6], 2),
    conditional_assignments: ([0.5, 1.5, 3.0, 0.6], 3),
    collatz: ([6.5, 7.5, 1.5, 6.25], 3),
    error_is_fixed: ([0.5, 2.0, 0.25], 2),
}
NATIVE = [absolute, pieces, newton, builtins, counted, conditional_assignments]


def central(f, x, step=1e-6):
    return (f(x + step) - f(x - step)) / (2 * step)


@pytest.mark.parametrize("fn", PROGRAMS, ids=lambda f: f.__name__)
def test_values_and_gradients_are_those_of_python(fn):
    points, paths = PROGRAMS[fn]
    value = gc.interpret(fn)
    both = gc.interpret(gc.value_and_grad(fn))
    for x in points + points[::-1]:
        assert value(x) == pytest.approx(float(fn(np.float64(x))), rel=1e-12)
        found, slope = both(x)
        assert found == value(x)
        assert slope == pytest.approx(central(lambda t: float(fn(np.float64(t))), x), rel=1e-5)
    if paths is not None:
        assert len(value.compiles) == len(both.compiles) == paths
    known = len(value.compiles)
    for x in points:
        value(x)
    assert len(value.compiles) == known  # they are remembered


@pytest.mark.parametrize("fn", NATIVE, ids=lambda f: f.__name__)
def test_compiled_programs_agree(fn):
    points, paths = PROGRAMS[fn]
    both = gc.value_and_grad(fn)
    for x in points + points[::-1] + points[::2] * 2:
        found, slope = both(x)
        assert found == pytest.approx(float(fn(np.float64(x))), rel=1e-12)
        assert slope == pytest.approx(central(lambda t: float(fn(np.float64(t))), x), rel=1e-5)
    assert paths is None or len(both.compiles) == paths


@pytest.mark.parametrize("fn", [absolute, pieces, newton, early_return])
def test_second_derivatives_follow_the_path(fn):
    second = gc.interpret(gc.grad(gc.grad(fn)))
    slope = gc.interpret(gc.grad(fn))
    for x in PROGRAMS[fn][0]:
        assert second(x) == pytest.approx(central(slope, x), rel=1e-5, abs=1e-8)


def power(x, n):
    """By squaring; the recursion ends where the traced n does."""
    if n == 0:
        return x * 0 + 1.0
    half = power(x, n // 2)
    return half * half * x if n % 2 else half * half


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_recursion_over_a_traced_integer(make):
    f, slope = make(power), make(gc.grad(power))
    for n in (0, 1, 5, 10, 5, 13):
        assert f(1.5, n) == pytest.approx(1.5**n, rel=1e-12)
        assert slope(1.5, n) == pytest.approx(n * 1.5 ** (n - 1), rel=1e-12)
    assert len(f.compiles) == 5


# -------------------------------------------------------------------------- kinds of arguments


class Model(NamedTuple):
    w: np.ndarray
    limit: float


def clipped(model, x, *, extra=None):
    y = x["a"] @ model.w
    norm = np.sqrt((y**2).sum())
    if norm > model.limit:
        y = y * (model.limit / norm)
    if extra is not None and extra.sum() > 0:
        y = y + extra
    return y.sum()


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_trees_keywords_and_sizes(make):
    f, slope = make(clipped), make(gc.grad(clipped))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n, limit in ((3, 0.5), (4, 100.0), (5, 0.5), (6, 100.0), (7, 0.5)):
            x = {"a": np.linspace(0, 1, 2 * n).reshape(n, 2)}
            model = Model(np.array([1.0, -0.5]), limit)
            assert f(model, x) == pytest.approx(clipped(model, x), rel=1e-12)
            found = slope(model, x).w
            for k in range(2):

                def moved(t, k=k, model=model, x=x):
                    w = model.w.copy()
                    w[k] = t
                    return clipped(model._replace(w=w), x)

                assert found[k] == pytest.approx(central(moved, model.w[k]), rel=1e-5, abs=1e-9)
    # One compile at the first size, then each path for all sizes.
    assert len(f.compiles) == 3
    assert "axis 0 of x['a'] became symbolic" in f.compiles[1].reason
    assert f.compiles[2].types == f.compiles[1].types
    assert f(model, x, extra=np.ones(7)) == pytest.approx(clipped(model, x, extra=np.ones(7)))


def test_static_arguments_and_closures():
    limit = 2.0

    def fn(x, mode):
        if mode == "up":
            return x if x > limit else limit
        return x if x < limit else limit

    f = gc.interpret(fn, static_argnames="mode")
    for mode in ("up", "down", "up"):
        for x in (1.0, 3.0):
            assert f(x, mode) == fn(x, mode)
    assert [c.reason.partition(":")[0] for c in f.compiles] == [
        "first call", "path", "static `mode`", "path"]  # fmt: skip
    assert f.compiles[2].reason == "static `mode`: 'up' -> 'down'"


def test_compiled_functions_inside_others_share_their_path():
    inner = gc.compile(absolute)
    slope = gc.grad(pieces)
    outer = gc.interpret(lambda x: inner(x) + (slope(x) if inner(x) > 1 else 0.0))
    for x in (2.0, -0.5, -2.0, 0.25):
        expected = abs(x) + (central(pieces, x) if abs(x) > 1 else 0.0)
        assert outer(x) == pytest.approx(expected, rel=1e-6)
    assert inner.compiles == [] and slope.compiles == [] and len(outer.compiles) == 4


def test_a_path_met_later_may_need_the_sizes():
    def fn(x):
        return x[: x.shape[0] // 2].sum() if x[0] < 0 else x.sum()

    f = gc.interpret(fn)
    rows = [(3, 1), (4, 1), (5, -1), (6, 1), (5, -1), (5, 1), (8, -1), (9, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n, sign in rows * 2:
            x = sign * np.arange(1.0, n + 1)
            assert f(x) == fn(x)
    known = len(f.compiles)
    for n, sign in rows:
        f(sign * np.arange(1.0, n + 1))
    assert len(f.compiles) == known


def test_outputs_may_differ_in_structure_and_shape():
    def fn(x):
        if x.sum() > 0:
            return {"positive": x}
        return x[0], 3

    f = gc.compile(fn)
    for _ in range(3):
        assert f(np.ones(2))["positive"].tolist() == [1, 1]
        assert f(-np.ones(2)) == (-1.0, 3)


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_integers_floats_bools_and_special_values(make):
    def fn(x, n, flag):
        scale = 1.0 / float(x) if flag else 2.0
        return scale * np.ones(n)

    f = make(fn)
    for x in (0.0, -0.0, np.nan, 2.0, 0.0):
        for flag in (True, False):
            with np.errstate(all="ignore"):
                expected = (1.0 / np.float64(x) if flag else 2.0) * np.ones(3)
            if x == 0 and flag:
                with pytest.raises(ZeroDivisionError):  # as Python's floats do
                    f(x, 3, flag)
            else:
                np.testing.assert_array_equal(f(x, 3, flag), expected)
    sign = make(lambda x: math.copysign(1.0, x) * np.ones(1))
    assert [sign(v)[0] for v in (0.0, -0.0, np.nan, 0.0, -0.0)] == [1, -1, 1, 1, -1]
    assert len(sign.compiles) == 3


# ------------------------------------------------------------------------------- errors in paths


def test_the_users_errors_are_raised_and_no_path_is_kept():
    def fn(x):
        assert x > 0, "must be positive"
        if x > 100:
            raise OverflowError("too large")
        return np.sqrt(x)

    f = gc.compile(fn)
    for _ in range(2):
        assert f(4.0) == 2.0
        with pytest.raises(AssertionError, match="must be positive"):
            f(-1.0)
        with pytest.raises(OverflowError):
            f(200.0)
    assert len(f.compiles) == 1


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_an_error_on_a_way_not_taken_is_none(make):
    def fn(table, i):
        if i < len(table):
            return table[i]
        return 0.0

    table = np.arange(3.0)
    f = make(fn)
    assert [float(f(table, i)) for i in (1, 7, 2, 9, 0)] == [1.0, 0.0, 2.0, 0.0, 0.0]
    first = make(lambda table, i: table[i] if i < 100 else 0.0)
    assert first(table, 1) == 1.0
    with pytest.raises(IndexError):
        first(table, 5)
    assert first(table, 500) == 0.0 and first(table, 2) == 2.0


# ---------------------------------------------------------------------------- donated arguments


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_donated_memory_is_overwritten_once_the_path_is_known(make):
    def step(w, g):
        if (g * w).sum() > 0:
            w = w - g
            if w[0] > 5:
                return w * 2
            return w
        return w + 0.5 * g

    f = make(step, donate=0)
    rng = np.random.default_rng(0)
    for _ in range(30):
        w, g = rng.normal(size=3) * 5, rng.normal(size=3)
        expected = step(w.copy(), g)
        found = f(w, g)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert make is gc.interpret or found is w
    assert len(f.compiles) == 3


# ---------------------------------------------------------------------------- limits and reasons


def test_the_limit_of_paths_says_what_differed():
    def fn(x):
        while x > 1:
            x = x / 2
        return x

    f = gc.interpret(fn, max_paths=3)
    for x in (1.0, 2.0, 4.0, 2.0):
        assert f(x) == fn(x)
    with pytest.raises(CompileLimitError) as caught:
        f(100.0)
    message = str(caught.value)
    assert "`fn` takes more than 3 paths" in message and message.count("\n") < 8
    assert "`while x > 1` at test_paths.py:" in message and "3 ways" in message
    assert "gc.while_loop(condition, body, start)" in message and "max_paths=" in message
    assert f(4.0) == 1.0 and len(f.compiles) == 3
    default = gc.interpret(fn)
    for k in range(compiled._MAX_PATHS):
        default(2.0**k)
    with pytest.raises(CompileLimitError, match="more than 16 paths"):
        default(2.0**40)


def test_the_limit_for_numbers_and_branches_gives_their_advice():
    f = gc.interpret(lambda x: math.exp(x), max_paths=2)
    assert [f(0.0), f(1.0), f(0.0)] == [1.0, math.e, 1.0]
    with pytest.raises(CompileLimitError, match="Keep the number an array"):
        f(2.0)

    def branches(x):
        if x[0] > 0:
            x = x * 2
        if x[1] > 0:
            x = x * 3
        return x

    f = gc.interpret(branches, max_paths=2)
    f(np.array([1.0, 1.0]))
    f(np.array([1.0, -1.0]))
    with pytest.raises(CompileLimitError, match=r"`if x\[1\] > 0` at .*(.|\n)*gc.cond"):
        f(np.array([-1.0, -1.0]))


def test_max_compiles_lists_them():
    f = gc.interpret(lambda x: x * 2, max_compiles=2)
    f(np.ones(3))
    f(np.ones(3, np.float32))
    f(np.ones(3))
    with pytest.raises(CompileLimitError) as caught:
        f(3)
    message = str(caught.value)
    assert "max_compiles=2" in message and message.count("\n") < 8
    assert "1: first call (x: float64[3])" in message
    assert "2: x: float64[3] -> float32[3] (x: float32[3])" in message
    assert "and now: x: float32[3] -> Python int (x: Python int)" in message
    paths = gc.interpret(absolute, max_compiles=1)
    assert paths(1.0) == 1.0
    with pytest.raises(CompileLimitError, match=r"and now: path: `if x > 0` at test_paths.py"):
        paths(-1.0)
    for option in ("max_compiles", "max_paths"):
        with pytest.raises(OptionError, match=f"{option} must be an int from 1 on, not 0"):
            gc.compile(absolute, **{option: 0})


def test_symbolic_sizes_need_no_third_compile():
    f = gc.interpret(lambda x: x.sum(), max_compiles=2)
    for n in (10, 14, 3, 100):
        assert f(np.ones(n)) == n
    assert [c.reason for c in f.compiles] == [
        "first call", "x: float64[10] -> float64[14]: axis 0 of x became symbolic"]  # fmt: skip


def test_reasons_tell_what_differed():
    f = gc.interpret(lambda p, *rest, mode="a": p["w"] + sum(rest), static_argnames="mode")
    one = np.ones(2)
    f({"w": one})
    f({"w": one}, mode=["b"])
    f({"w": one}, one, mode=["b"])
    f({"w": one}, 2.0, mode=["b"])
    f({"w": one}, mode=["b"])
    f({"w": one, "v": one})
    f({"w": np.ones(5)}, mode=["b"])
    assert [c.reason for c in f.compiles] == [
        "first call", "static `mode`: 'a' -> ['b']", "other arguments: with rest[0]",
        "rest[0]: float64[2] -> Python float", "static `mode`: ['b'] -> 'a'",
        "p['w']: float64[2] -> float64[5]: axis 0 of p['w'] became symbolic",
    ]  # fmt: skip


def test_compiles_print_as_a_table():
    f = gc.interpret(absolute)
    assert f.compiles == [] and str(f.compiles).startswith("#  reason")
    f(1.0)
    f(-1.0)
    head, first, second = str(f.compiles).splitlines()
    assert head.split() == ["#", "reason", "arguments", "seconds", "kernels"]
    assert first.startswith("1  first call  ") and "x: Python float" in first
    assert second.startswith("2  path: `if x > 0` at test_paths.py:")
    assert second.split("  x: ")[0].rstrip().endswith("was False")
    assert repr(f.compiles) == str(f.compiles)


def test_the_time_of_a_loop_is_named():
    def fn(x):
        while x > 1:
            x = x / 2
        return x

    f = gc.interpret(fn)
    f(8.0)
    f(2.0)
    assert f.compiles[1].reason.endswith(", time 2, was False")


# ------------------------------------------------------------------------- what has no one path


def test_a_gradient_is_never_cut_silently():
    for fn in (lambda x: math.exp(x), lambda x: x * float(x)):
        assert gc.interpret(fn)(0.5) == pytest.approx(fn(np.float64(0.5)))
        with pytest.raises(TraceError, match=r"gradient needs(.|\n)*gc.stop_gradient"):
            gc.interpret(gc.grad(fn))(0.5)
    meant = gc.interpret(gc.grad(lambda x: x * float(gc.stop_gradient(x))))
    assert [meant(3.0), meant(4.0)] == [3.0, 4.0]


def test_without_values_the_error_says_what_to_write():
    f = gc.interpret(absolute)
    spec = compiled.ArgSpec(compiled.TensorType(np.dtype(float), ()))
    with pytest.raises(TraceError) as caught:
        f.graph(spec)
    message = str(caught.value)
    assert "`if` depends on input `x`, whose value is not known while tracing" in message
    assert "np.where" in message and "gc.cond" in message and "static" in message
    assert "test_paths.py:" in message
    assert f.graph(-2.0).outputs[0].op == "neg"


def test_a_training_step_has_no_one_path():
    def loss(params, x, y):
        error = ((x @ params["w"] - y) ** 2).mean()
        return error if error < 1 else np.log(error)

    trainer = gc.Trainer(loss, gc.optim.sgd(0.1), engine="interpreter")
    with pytest.raises(TraceError, match=r"`if` depends on input(.|\n)*gc.cond(.|\n)*test_paths"):
        trainer.fit({"w": np.zeros(2)}, (np.ones((4, 2)), np.ones(4)), epochs=1, batch_size=2)


def test_an_array_has_no_single_truth_value():
    with pytest.raises(TraceError, match=r"`if` depends on input `x`, but shape \(3,\) has no"):
        gc.interpret(lambda x: x if x > 0 else -x)(np.ones(3))
    assert gc.interpret(lambda x: x if x > 0 else -x)(np.full((1, 1), -2.0)).tolist() == [[2.0]]


def test_a_loop_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr("graphc.trace.guards._LONGEST_PATH", 50)

    def fn(x):
        while x > 0:
            x = x + 1
        return x

    with pytest.raises(TraceError, match=r"50 decisions(.|\n)*gc.while_loop"):
        gc.interpret(fn)(1.0)


def test_wrong_ways_to_ask_stay_errors():
    with pytest.raises(IndexingError):
        gc.interpret(lambda x: x[3] if x.sum() > 0 else x[0])(np.ones(2))
    with pytest.raises(GradientError):
        gc.interpret(gc.grad(lambda x: x if x.sum() > 0 else x[0]))(np.ones(2))


# ----------------------------------------------------------------------------------- machinery


def test_each_node_is_evaluated_once(monkeypatch):
    evaluated = []
    original = Values._evaluate
    monkeypatch.setattr(
        Values, "_evaluate", lambda *args: evaluated.append(args[1]) or original(*args)
    )

    def fn(x):
        steps = 0
        while x < 1000:
            x = x + 1
            steps += 1
        return x + steps

    assert gc.interpret(fn)(0.0) == 2000.0
    assert len(evaluated) == len(set(evaluated)) < 2100


def test_functions_without_decisions_have_no_guards():
    f = gc.compile(lambda x: np.where(x > 0, x, -x))
    f(np.ones(2))
    ((family,),) = [f._families.values()]
    assert type(family.variants[0]) is compiled.Specialization
    assert len(family.variants[0].traced.graph.outputs) == 1


def test_paths_that_contradict_each_other_leave_it_to_numpy(monkeypatch):
    """Near a fork two compiled paths may round to opposite answers."""
    f = gc.interpret(absolute)
    assert f(1.0) == 1.0 and f(-1.0) == 1.0
    monkeypatch.setattr("graphc.paths._verdict", lambda guards, found: (0, not guards[0].value))
    for x in (2.0, -2.0, 3.0):
        assert f(x) == abs(x)
    assert len(f.compiles) == 2


def test_threads_that_need_the_same_path_compile_it_once():
    f = gc.compile(pieces)
    given = [-2.0, 0.5, 3.0, -1.5, 0.1, 2.0]
    faults, start = [], threading.Barrier(len(given))

    def work(x):
        try:
            start.wait()
            for _ in range(50):
                assert f(x) == pytest.approx(float(pieces(np.float64(x))), rel=1e-12)
                assert f(-x - 1) == pytest.approx(float(pieces(np.float64(-x - 1))), rel=1e-12)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(x,)) for x in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and len(f.compiles) == 3


def test_inspection_shows_the_path_of_the_arguments():
    for x, op in ((2.0, "mul"), (-2.0, "neg")):
        assert op in gc.inspect(lambda x: x * 3 if x > 0 else -x, x).stage("traced")


def test_the_examples_of_a_batch_have_no_one_path():
    for fn in (absolute, gc.grad(absolute)):
        with pytest.raises(TraceError, match="`if` depends on input `x`, whose value is not known"):
            gc.vmap(fn)(np.ones(3))
    shared = gc.vmap(lambda x, s: x if s > 0 else -x, in_axes=(0, None))
    assert shared(np.ones(2), 1.0).tolist() == [1, 1]
    assert shared(np.ones(2), -1.0).tolist() == [-1, -1]


@gc.custom_vjp
def softened(x):
    if x > 1:
        return x * x
    return 2 * x - 1


@softened.backward
def _(ct, result, x):
    return ct * (2 * x if x > 1 else 2.0)


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_decisions_in_and_by_functions_with_rules_of_their_own(make):
    waves = gc.checkpoint(lambda x: np.sin(x) if x > 0 else np.cos(x))

    def fn(x):
        y = softened(x)
        return waves(y) * x if y > waves(x) else y

    both, forward = make(gc.value_and_grad(fn)), make(gc.jvp(fn))
    for x in (2.0, 0.8, -3.0, 1.05):
        plain = float(fn(np.float64(x)))
        slope = central(lambda t: float(fn(np.float64(t))), x)
        assert both(x) == (pytest.approx(plain), pytest.approx(slope, rel=1e-6))
        assert forward(x, 1.0) == (pytest.approx(plain), pytest.approx(slope, rel=1e-6))


@pytest.mark.parametrize("transform", [gc.hessian, gc.jacfwd, gc.jacrev])
def test_matrices_of_derivatives_follow_the_path(transform):
    f = gc.interpret(transform(lambda x: (x**3).sum() if x[0] > 0 else (x**2).sum()))
    for x in (np.array([1.0, 2.0]), np.array([-1.0, 2.0])):
        first, second = (3 * x**2, 6 * x) if x[0] > 0 else (2 * x, np.full(2, 2.0))
        expected = np.diag(second) if transform is gc.hessian else first
        np.testing.assert_allclose(f(x), expected, rtol=1e-12)


# ------------------------------------------------------------------------------ random programs

SMOOTH = [np.sin, np.tanh, lambda v: v * v + 0.3, lambda v: 1.5 - v, lambda v: np.exp(-v * v),
          lambda v: v / (1 + v * v)]  # fmt: skip


def random_program(seed):
    """``fn(x, log)``: the decisions that it takes are appended to ``log``."""
    rng = np.random.default_rng(seed)
    steps = [
        (rng.integers(5), rng.choice(len(SMOOTH), 3), float(rng.uniform(-0.5, 1))) for _ in range(4)
    ]

    def fn(x, log):
        y = x
        for kind, (a, b, c), limit in steps:
            f, g, h = SMOOTH[a], SMOOTH[b], SMOOTH[c]
            if kind == 0:
                log.append(bool(y > limit))
                y = f(y) if log[-1] else g(y)
            elif kind == 1:
                while abs(y) > 0.4:
                    log.append(True)
                    y = 0.6 * y
                y = f(y)
            elif kind == 2:
                log.append(int(3 * y) % 3)
                y = [f, g, h][log[-1]](y)
            elif kind == 3:
                log.append(bool(limit < y < 1 or not g(y) > limit))
                y = h(y) + (f(y) if log[-1] else 0.0)
            else:
                y = max(f(y), g(y)) + min(y, limit)
        return y

    return fn


@pytest.mark.parametrize("seed", range(25))
def test_random_programs(seed):
    fn = random_program(seed)
    both = gc.interpret(gc.value_and_grad(lambda x: fn(x, [])), max_paths=100)
    rng = np.random.default_rng(seed + 100)
    for x in rng.uniform(-2, 2, 12):
        value, slope = both(x)
        logs, sides = [], []
        for step in (-1e-6, 0.0, 1e-6):
            logs.append([])
            sides.append(float(fn(np.float64(x + step), logs[-1])))
        assert value == pytest.approx(sides[1], rel=1e-12, abs=1e-14)
        left, right = sides[1] - sides[0], sides[2] - sides[1]
        if logs[0] == logs[1] == logs[2] and abs(left - right) < 1e-9:  # smooth here
            assert slope == pytest.approx((left + right) / 2e-6, rel=1e-4, abs=1e-7)


# ------------------------------------------------------------------------- beside loops and choices


def test_bodies_have_no_one_path_and_the_error_says_so():
    steps = np.arange(3.0)
    programs = [
        lambda x: gc.cond(x > 0, absolute, np.sin, x),
        lambda x: gc.scan(lambda c, v: (absolute(c) + v, c), x, steps)[0],
        lambda x: gc.while_loop(lambda c: c < 5, lambda c: absolute(c) + 1, x),
        lambda x: gc.fori_loop(0, 3, lambda k, c: absolute(c) * 2, x),
    ]
    for fn in programs:
        with pytest.raises(
            TraceError, match=r"`if` depends on (input|the carry)(.|\n)*gc.cond(.|\n)*in absolute"
        ):
            gc.interpret(fn)(2.0)


def until(limit, x):
    return gc.while_loop(lambda c: c < limit, lambda c: c * 1.5, x)


def beside_loops(x, s):
    y, _ = gc.scan(lambda c, v: (c * (v if s > 0 else -v), c), x, np.array([1.0, 2.0]))
    if y > 1:
        z = until(100.0, y)  # would never end on the other way
        if z > 120:
            return z * x
        return z
    return y


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_decisions_around_loops(make):
    f, slope = make(beside_loops), make(gc.grad(beside_loops))
    points = [(1.0, 2.0), (-1.0, 2.0), (0.0, 1.0), (3.3, 1.0), (1.0, -1.0), (3.0, 1.0)]
    for x, s in points * 2:
        y = 2 * x
        rounds = 0
        while y > 1 and y * 1.5**rounds < 100:
            rounds += 1
        z = y * 1.5**rounds
        assert f(x, s) == pytest.approx(z * x if z > 120 else z, rel=1e-12)
        expected = 2 * 1.5**rounds
        assert slope(x, s) == pytest.approx(2 * x * expected if z > 120 else expected, rel=1e-12)


def test_a_decision_by_the_gradient_of_a_loop():
    """The tape of the loop grows while the condition is evaluated."""

    def fn(x):
        slope = gc.grad(lambda x: gc.while_loop(lambda c: c < 1e6, lambda c: c * 1.5, x))(x)
        return slope if slope > 3e4 else slope * 2

    f = gc.interpret(fn)
    for x in (1.0, 50.0, 2.0):
        slope = 1.5 ** np.ceil(np.log(1e6 / x) / np.log(1.5))
        assert f(x) == pytest.approx(slope if slope > 3e4 else slope * 2)
    assert len(f.compiles) == 2
