"""The native entry of calls: the same answers as the general way, and no leaks."""

from __future__ import annotations

import gc as garbage
import os
import sys
import threading
import weakref
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ShapeError
from graphc.runtime import entry


def settled(f, *args, **kwargs):
    """``f`` after the calls that make its entry."""
    for _ in range(2):
        f(*args, **kwargs)
    return f


def is_native(f) -> bool:
    return f.__call__ != f._call


class Counted:
    """Counts the calls of a compiled function that go the general way."""

    def __init__(self, f):
        self.f, self.calls, general = f, 0, f._call

        def counting(*args, **kwargs):
            self.calls += 1
            return general(*args, **kwargs)

        f._call = f.__call__ = counting

    def of(self, *args, **kwargs) -> int:
        before = self.calls
        self.f(*args, **kwargs)
        return self.calls - before


def test_the_entry_is_used_here():
    """Everywhere that CI runs; elsewhere calls go the general way."""
    assert entry._program() is not None


def assert_same_tree(found, expected):
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same_tree(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_same_tree(a, b)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


Pair = namedtuple("Pair", ["a", "b"])


@dataclass
class Layer:
    w: object
    b: object


X, Y = np.arange(6.0).reshape(2, 3), np.linspace(0, 1, 3)
CALLS = {
    "floats": (lambda a, b: a * b + 1, (2.0, 3.0), {}),
    "an int and a bool": (lambda a, b: (a + 1, a > 2, np.where(b, a, 0)), (5, True), {}),
    "numpy scalars": (
        lambda a, b, c: (a * 2, b, c), (np.float32(1.5), np.int16(3), np.bool_(True)), {}),
    "arrays": (lambda x, y: (x + y, np.sum(x), np.max(x, axis=0)), (X, Y), {}),
    "integers and bools": (lambda x: (x > 2, x + 1), (np.arange(6, dtype=np.int32),), {}),
    "a zero-dimensional array": (lambda x: x + 1, (np.array(2.0),), {}),
    "an empty array": (lambda x: x * 2, (np.zeros((0, 3)),), {}),
    "keywords": (lambda x, *, b, a: {"x": x - a, "b": b * a}, (X,), {"b": 2.0, "a": Y}),
    "a dict out of order": (lambda p: {"z": p["b"] + 1, "a": p["a"] * 2},
                            ({"b": X, "a": Y},), {}),
    "nested": (
        lambda p, q: [p["w"][0] * q[1][0], (p["w"][1], None, {"k": [p["v"]]})],
        ({"w": [X, Y], "v": 1.5}, (None, (2.0,), [], {})), {}),
    "nothing": (lambda: np.arange(3.0), (), {}),
    "no result": (lambda x: (), (X,), {}),
    "a named tuple as argument": (lambda p: p.a * p.b, (Pair(X, 2.0),), {}),
    "a named tuple as result": (lambda x: Pair(x, [x + 1, np.sum(x)]), (X,), {}),
    "an ordered dict as result": (lambda x: OrderedDict(b=x, a=x + 1), (X,), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_an_entry_gives_what_the_general_way_gives(name):
    fn, args, kwargs = CALLS[name]
    f = gc.compile(fn)
    expected = f(*args, **kwargs)
    settled(f, *args, **kwargs)
    assert is_native(f)
    for _ in range(3):
        assert_same_tree(f(*args, **kwargs), expected)


def test_structures_that_have_no_entry_are_right_too():
    f = gc.compile(lambda p, q: Layer(p.w * q["a"], p.b))
    for _ in range(4):
        found = f(Layer(X, Y), OrderedDict(a=2.0))
        np.testing.assert_array_equal(found.w, X * 2)
        np.testing.assert_array_equal(found.b, Y)
    assert not is_native(f)


def others(x):
    """Arguments of ``lambda x: x * 2`` that an entry for a float64[2,3] must not take."""
    yield "dtype", x.astype(np.float32)
    yield "shape", x[:, :2].copy()
    yield "rank", x.ravel()
    yield "strided", np.asfortranarray(x)
    yield "byte order", x.astype(">f8")
    yield "subclass", x.view(type("Mine", (np.ndarray,), {}))
    yield "number", 3.0
    yield "unaligned", np.frombuffer(b"1" + x.tobytes(), np.float64, 6, 1).reshape(2, 3)


@pytest.mark.parametrize("what", [name for name, _ in others(X)])
def test_other_arguments_go_the_general_way(what):
    f = gc.compile(lambda x: np.multiply(x, 2))
    calls = Counted(f)
    settled(f, X)
    assert calls.of(X) == 0
    other = dict(others(X))[what]
    found = f(other)
    assert calls.calls == 3
    expected = np.multiply(other, 2)
    np.testing.assert_array_equal(found, expected)
    assert np.asarray(found).dtype == expected.dtype
    np.testing.assert_array_equal(f(X), X * 2)


def test_numbers_of_other_types_and_sizes():
    f = settled(gc.compile(lambda n: n + 1), 3)
    assert f(4) == 5 and type(f(4)) is int
    assert f(-(2**62)) == 1 - 2**62
    assert f(4.0) == 5.0 and type(f(4.0)) is float
    assert f(np.int64(4)) == 5 and type(f(np.int64(4))) is np.int64
    with pytest.raises(Exception, match=r"int64|too large|OverflowError|range"):
        f(2**70)
    assert f(4) == 5


def test_containers_are_told_apart():
    f = gc.compile(lambda p: p["a"] * 2 if isinstance(p, dict) else p[0] * 3)
    settled(f, {"a": 1.0})
    assert f([1.0]) == 3.0 and f((1.0,)) == 3.0 and f({"a": 1.0}) == 2.0
    assert f(OrderedDict(a=1.0)) == 2.0 and f({"a": 1.0, "b": 2.0}) == 2.0
    settled(f, [1.0])
    assert f({"a": 1.0}) == 2.0 and f(type("L", (list,), {})([1.0]) and [2.0]) == 6.0
    with pytest.raises(KeyError):
        f({"b": 1.0})


def test_keywords_in_any_order_and_defaults():
    f = gc.compile(lambda x, y=2.0, *, z=3.0: (x, y * 10, z * 100))
    expected = {
        (): (1.0, 20.0, 300.0), ("z",): (1.0, 20.0, 500.0), ("y",): (1.0, 40.0, 300.0),
        ("y", "z"): (1.0, 40.0, 500.0), ("z", "y"): (1.0, 40.0, 500.0),
    }  # fmt: skip
    values = {"y": 4.0, "z": 5.0}
    for _ in range(4):
        for names, result in expected.items():
            assert f(1.0, **{n: values[n] for n in names}) == result
    assert settled(f, 1.0, 4.0)(1.0, 4.0) == (1.0, 40.0, 300.0)
    for wrong in ({"w": 1.0}, {"x": 1.0}):
        with pytest.raises(TypeError):
            f(1.0, **wrong)


def test_static_arguments():
    f = gc.compile(lambda x, mode, n=2: x * n if mode == "mul" else x + n, static_argnums=(1, 2))
    for _ in range(3):
        for mode, n in (("mul", 2), ("add", 2), ("mul", 3)):
            for _ in range(3):
                assert f(5.0, mode, n) == (5.0 * n if mode == "mul" else 5.0 + n)
                assert f(5.0, mode=mode, n=n) == (5.0 * n if mode == "mul" else 5.0 + n)
        assert f(5.0, "mul") == 10.0
    assert is_native(f)
    listed = gc.compile(lambda x, sizes: x * sum(sizes), static_argnums=1)
    sizes = [1, 2]
    assert settled(listed, 1.0, sizes)(1.0, sizes) == 3.0
    sizes.append(3)
    assert listed(1.0, sizes) == 6.0


def test_sizes_that_alternate():
    f = gc.compile(lambda x: (x * 2, np.sum(x)))
    for _ in range(3):
        for n in (3, 5, 8, 5, 5, 5):
            doubled, total = f(np.arange(float(n)))
            assert doubled.tolist() == (np.arange(n) * 2.0).tolist() and total == n * (n - 1) / 2


def test_many_sizes_keep_few_entries():
    f = gc.compile(lambda x: x * 2)
    for n in range(2, 60):
        for _ in range(2):
            assert f(np.ones(n)).shape == (n,)
    assert len(f._entries) <= 16


def test_results_are_new_memory():
    f = settled(gc.compile(lambda x: x + 1), X)
    kept = [f(X) for _ in range(5)]
    kept[0][:] = 0
    assert all((k == X + 1).all() for k in kept[1:])
    assert all(k.flags.owndata and k.flags.writeable for k in kept)


def by_sign(x):
    if np.sum(x) > 0:
        return {"up": x * 2, "sum": np.sum(x)}
    return x - 1


def test_a_path_with_guards_has_an_entry_of_its_own():
    f = gc.compile(by_sign)
    calls = Counted(f)
    for _ in range(2):
        for x in (X, -X):
            settled(f, x)
            for _ in range(3):
                assert calls.of(x) == 0
                assert_same_tree(f(x), by_sign(x))
            assert calls.of(-x) == 1  # after its guards failed natively
    for k in range(6):
        assert_same_tree(f(X * (-1) ** k), by_sign(X * (-1) ** k))
    assert len(f.compiles) == 2


# ----------------------------------------------------------------------------- donated memory


def sgd_step():
    def step(params, x, y):
        loss, grads = gc.value_and_grad(
            lambda p, x, y: np.mean((np.tanh(x @ p["W"] + p["b"]) - y) ** 2)
        )(params, x, y)
        return {k: params[k] - 0.1 * grads[k] for k in params}, loss

    return step


def test_a_donated_dict_is_updated_in_place():
    rng = np.random.default_rng(0)
    start = {"b": np.zeros(2), "W": rng.normal(size=(3, 2))}
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    step, plain = gc.compile(sgd_step(), donate=0), gc.interpret(sgd_step())
    params, expected = {k: v.copy() for k, v in start.items()}, dict(start)
    for _ in range(8):
        before = dict(params)
        params, loss = step(params, x, y)
        expected, expected_loss = plain(expected, x, y)
        assert all(params[k] is before[k] for k in before) and type(loss) is np.float64
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    assert is_native(step)
    for k in start:
        np.testing.assert_allclose(params[k], expected[k], rtol=1e-12)


def test_donated_arrays_are_refused_as_the_general_way_does():
    f = gc.compile(lambda p, g: p - g, donate=0)
    settled(f, np.ones(5), np.ones(5))
    assert is_native(f)
    fixed, whole = np.ones(5), np.arange(8.0)
    fixed.flags.writeable = False
    with pytest.raises(ShapeError, match="read-only"):
        f(fixed, np.ones(5))
    for p, g in ((whole[:5], whole[:5]), (whole[:5], whole[2:7])):
        with pytest.raises(ShapeError, match="shares memory"):
            f(p, g)
    assert whole.tolist() == np.arange(8.0).tolist()
    assert f(whole[:4], whole[4:]).tolist() == [-4.0] * 4


def test_a_failed_check_raises_as_the_general_way_does():
    f = gc.compile(lambda t, i: (np.take(t, i), t * 2))
    table = np.arange(5.0)
    settled(f, table, np.array([0, 4]))
    assert is_native(f)
    for _ in range(5):
        with pytest.raises(IndexError, match="index 7 in i is out of bounds"):
            f(table, np.array([1, 7]))
        assert f(table, np.array([1, 3]))[0].tolist() == [1.0, 3.0]


def test_a_donated_step_with_checks_is_native_and_a_failed_check_raises_once():
    """Token numbers are checked at run time: such a step must not go the general way."""

    def step(params, state, rows):
        loss, grads = gc.value_and_grad(lambda p: np.sum(p["table"][rows] ** 2))(params)
        return *optimizer.update(params, grads, state), loss

    optimizer = gc.optim.adam(0.1)
    params = {"table": np.ones((6, 4), np.float32), "unused": np.ones(3, np.float32)}
    state = optimizer.init(params)
    f = gc.compile(step, donate=(0, 1))
    counted = Counted(f)
    settled(f, params, state, np.array([0, 4, 4]))
    assert is_native(f)
    assert counted.of(params, state, np.array([5, 5, 1])) == 0
    for _ in range(3):
        before = params["table"].copy()
        references = sys.getrefcount(params["table"])
        with pytest.raises(IndexError, match="index 6 in rows is out of bounds"):
            counted.of(params, state, np.array([1, 6, 2]))
        assert counted.calls == 2  # of settled
        held = sys.getrefcount(params["table"])
        assert held == references
        np.testing.assert_array_equal(params["table"], before)
        assert counted.of(params, state, np.array([1, 2, 3])) == 0


def test_a_warm_step_takes_no_memory_from_the_system():
    """Every page that a step takes afresh is a fault: a large step in place has none."""
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    params = {k: rng.normal(size=(600, 600)).astype(np.float32) for k in "ab"}
    x = rng.normal(size=(600, 600)).astype(np.float32)
    optimizer = gc.optim.adam(1e-3)

    def step(params, state, x):
        def loss(p):
            return np.sum(np.tanh(np.tanh(x @ p["a"]) @ p["b"]))

        value, grads = gc.value_and_grad(loss)(params)
        return *optimizer.update(params, grads, state), value

    f = gc.compile(step, donate=(0, 1))
    state = optimizer.init(params)
    settled(f, params, state, x)
    assert is_native(f)
    faults = []
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        f(params, state, x)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults) == 0, faults  # an array of this size alone has 350 pages


# ------------------------------------------------------------------ references, threads, forks


def test_nothing_leaks():
    f = gc.compile(
        lambda p, s, n: ({"w": p["w"] + s}, [np.sum(p["w"]), s * 2, n + 1], None, p["w"])
    )
    p, marker = {"w": np.ones(100)}, object()
    args = (p, 1.5, 3)
    settled(f, *args)
    assert is_native(f)
    watched = [p, p["w"], 1.5, p["w"].dtype, "w", np.float64, None, marker]
    for _ in range(100):
        f(*args)
    garbage.collect()
    blocks, counts = sys.getallocatedblocks(), [sys.getrefcount(o) for o in watched]
    for k in range(3000):
        f(*args)
        if k % 10 == 0:
            f({"w": np.full(100, 1.0)}, 2.0, 4)  # np.ones leaks references
    garbage.collect()
    # Other threads of the test run hold some of these too: a leak would count thousands.
    gained = [sys.getrefcount(o) - count for o, count in zip(watched, counts, strict=True)]
    assert max(map(abs, gained)) < 300
    assert abs(sys.getallocatedblocks() - blocks) < 200


@pytest.mark.parametrize("release", [0, 1])
def test_references_with_and_without_the_lock(release):
    f = settled(gc.compile(lambda p: p["w"] * 2), {"w": np.ones(10)})
    words = f.__call__.__self__
    words[entry.RELEASE] = release
    w = np.ones(10)
    count = sys.getrefcount(w)
    for _ in range(1000):
        assert f({"w": w})[0] == 2.0
    assert sys.getrefcount(w) == count


def test_functions_are_collected():
    f = settled(gc.compile(lambda x: x * 2), X)
    gone = weakref.ref(f)
    call = f.__call__
    del f
    np.testing.assert_array_equal(call(X), X * 2)  # an entry keeps alive what it needs
    del call
    garbage.collect()
    assert gone() is None


@pytest.mark.parametrize("release", [0, 1])
def test_threads_in_one_function(release):
    f = gc.compile(lambda x, k: (np.tanh(x) * k, np.sum(x)))
    given = [(np.full(2000, 0.001 * k), float(k)) for k in range(8)]
    expected = [f(*g) for g in given]
    settled(f, *given[0])
    f.__call__.__self__[entry.RELEASE] = release
    faults = []

    def work(k):
        for _ in range(300):
            found = f(*given[k])
            if not all(np.array_equal(a, b) for a, b in zip(found, expected[k], strict=True)):
                faults.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    assert faults == []


def test_who_finds_it_busy_goes_the_general_way():
    f = gc.compile(lambda x: x * 2)
    calls = Counted(f)
    settled(f, X)
    assert calls.of(X) == 0
    words = f.__call__.__self__
    words[entry.BUSY] = 1
    assert calls.of(X) == 1 and words[entry.BUSY] == 1
    np.testing.assert_array_equal(f(X), X * 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_finds_no_entry_busy():
    f = settled(gc.compile(lambda x: x * 2), X)
    words = f.__call__.__self__
    words[entry.BUSY] = 1  # as if another thread were inside
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert words[entry.BUSY] == 0
            assert (f(X) == X * 2).all()
            code = 0
        finally:
            os._exit(code)
    words[entry.BUSY] = 0
    assert os.waitpid(pid, 0)[1] == 0


def test_a_finalizer_may_call_the_function_that_is_running():
    f = settled(gc.compile(lambda x: (x * 2, [x + 1])), X)
    seen = []

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            seen.append(f(X)[0][1, 2])

    thresholds = garbage.get_threshold()
    garbage.set_threshold(5, 2, 2)
    try:
        kept = []
        for _ in range(300):
            Cycle()
            kept.append(f(X))
    finally:
        garbage.set_threshold(*thresholds)
    assert seen and set(seen) == {10.0}
    assert all((a == X * 2).all() and (b == X + 1).all() for a, (b,) in kept)


def test_without_entries_calls_go_the_general_way(monkeypatch):
    monkeypatch.setattr(entry, "_program", lambda: None)
    f = settled(gc.compile(lambda x: x * 2), X)
    assert not is_native(f)
    np.testing.assert_array_equal(f(X), X * 2)


def test_inside_a_trace_a_function_with_an_entry_is_traced_inline():
    f = settled(gc.compile(lambda x: x * x), 3.0)
    assert gc.grad(lambda x: f(x) * 2)(3.0) == 12.0
    assert gc.grad(f)(3.0) == 6.0
