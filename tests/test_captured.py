"""What a compiled function reads besides its arguments: it is never stale."""

import collections
import functools
import types
import warnings

import numpy as np
import pytest

import graphc as gc
from graphc.errors import CompileLimitError, CompileWarning
from graphc.trace.captured import Captured

scale = 2.0
table = np.arange(3.0)
layers = [1.0, 2.0]
config = {"rate": 0.5, "steps": 0}


class Settings:
    rate = 1.0


def helper(x):
    return x * scale


def reader(x, offsets=[1.0]):  # noqa: B006
    y = helper(x) + table
    for factor in layers:
        y = y * factor
    return y * config["rate"] * Settings.rate + offsets[0]


def _rebind():
    global scale
    scale += 1.0


def _redefine():
    global helper
    helper = types.FunctionType(
        (lambda x: x - scale).__code__, globals(), "helper"
    )  # as a notebook does when a cell runs again


CHANGES = {
    "global `scale`: 2.0 -> 3.0": _rebind,
    "global `table` changed in place": lambda: table.__setitem__(1, 7.0),
    "global `layers`: length 2 -> 3": lambda: layers.append(3.0),
    "`layers[0]`: 1.0 -> 5.0": lambda: layers.__setitem__(0, 5.0),
    "`config['rate']`: 0.5 -> 4.0": lambda: config.update(rate=4.0),
    "`Settings.rate`: 1.0 -> 8.0": lambda: setattr(Settings, "rate", 8.0),
    "`offsets[0]`: 1.0 -> 100.0": lambda: reader.__defaults__[0].__setitem__(0, 100.0),
    "global `helper` is another function": _redefine,
}


@pytest.mark.parametrize("make", [gc.compile, gc.interpret])
def test_what_changes_is_read_again(make):
    g = globals()
    saved = scale, table.copy(), list(layers), dict(config), helper
    f, x = make(reader), np.ones(3)
    try:
        for change in (lambda: None, *CHANGES.values()):
            change()
            for _ in range(4):  # in Python, and by the native entry
                np.testing.assert_allclose(f(x), reader(x), rtol=1e-14)
        assert [c.reason for c in f.compiles] == ["first call", *CHANGES]
    finally:
        g["scale"], g["helper"] = saved[0], saved[4]
        table[:], layers[:] = saved[1], saved[2]
        config.update(saved[3])
        Settings.rate, reader.__defaults__[0][0] = 1.0, 1.0


class Model:
    def __init__(self):
        self.w, self.k, self.traces, self.log = np.ones(3), 2.0, 0, []

    @functools.partial(gc.compile, static_argnames="self")
    def predict(self, x):
        self.traces += 1
        return x * self.k + self.w

    def train(self):
        self.log.append(len(self.log))


@pytest.mark.filterwarnings("ignore::graphc.errors.CompileWarning")
def test_attributes_of_a_static_self():
    model, x = Model(), np.ones(3)
    for k in (2.0, 3.0, 4.0):
        model.k = k
        for _ in range(4):
            model.train()  # what the method does not name is not asked for
            np.testing.assert_array_equal(model.predict(x), x * k + 1)
    model.w[1] = 5.0
    assert model.predict(x).tolist() == [5.0, 9.0, 5.0]
    model.w = np.zeros(3)
    assert model.predict(x).tolist() == [4.0, 4.0, 4.0]
    assert model.traces == 5
    assert [c.reason for c in Model.predict.compiles][-2:] == [
        "`self.w` changed in place", "`self.w` is another ndarray"
    ]  # fmt: skip


def test_a_rebound_closure_variable_and_equal_numbers():
    factor = 1.5

    @gc.compile
    def f(x):
        return x * factor

    for value in ("1.5", "1.5", "2.5"):
        factor = float(value)
        for _ in range(3):
            assert f(2.0) == 2.0 * factor
    reasons = [c.reason for c in f.compiles]
    assert reasons == ["first call", "`factor` of the closure: 1.5 -> 2.5"]


@pytest.mark.filterwarnings("ignore::graphc.errors.CompileWarning")
class Base:
    extra = 2.0

    def scaled(self, x):
        return x * self.extra * sum(queue)


queue = collections.deque([1.0])


@pytest.mark.filterwarnings("ignore::graphc.errors.CompileWarning")
def test_an_attribute_of_the_class_that_an_object_gets_itself_and_a_queue():
    one = Base()
    f = gc.compile(one.scaled)
    for change in (lambda: None, lambda: setattr(one, "extra", 6.0), lambda: queue.append(3.0)):
        change()
        for _ in range(3):
            assert f(2.0) == one.scaled(2.0)


def test_arrays_of_any_place_size_and_layout():
    base = np.zeros(64, np.float32)
    parts = [base[1:4], base[5:40:7], np.zeros(3, np.int8), np.asfortranarray(np.zeros((3, 3)))]
    big = np.zeros(100_000)

    @gc.compile
    def f(x):
        return x + sum(part.sum() for part in parts) + big[0] + big[-1]

    def expected():
        return sum(part.sum() for part in parts) + big[0] + big[-1]

    writes = [(base, 2), (base, 5), (base, 33), (parts[2], 2), (parts[3], (2, 1))]
    for array, index in writes:
        f(0.0), f(0.0), f(0.0)
        array[index] += 1
        assert f(0.0) == expected()
    big += 1.0
    assert f(0.0) == expected()


def test_derivatives_vmap_and_guarded_paths():
    weights = np.ones(3)
    slope = gc.grad(lambda x: np.sum(weights * x**2))
    mapped = gc.vmap(lambda x: np.sum(weights * x))

    @gc.compile
    def guarded(x):
        return x * weights[0] if x > 0 else -x * weights[1]

    for _ in range(2):
        for _ in range(3):
            np.testing.assert_array_equal(slope(np.ones(3)), 2 * weights)
            np.testing.assert_array_equal(mapped(np.ones((2, 3))), [weights.sum()] * 2)
            assert guarded(2.0) == 2 * weights[0] and guarded(-2.0) == 2 * weights[1]
        weights = weights + 1.0


def test_sizes_stay_symbolic():
    factor = 1.0
    f = gc.interpret(lambda x: x * factor)
    for n in (3, 4, 5):
        f(np.ones(n))
    factor = 2.0
    for n in (6, 7, 5):
        assert f(np.ones(n)).tolist() == [2.0] * n
    assert len(f.compiles) == 3


def test_a_counter_of_traces_is_no_change():
    traces = []

    def f(x, option):
        traces.append(option)
        return x * 2

    f = gc.interpret(f, static_argnames="option")
    for _ in range(3):
        f(1.0, "a"), f(1.0, "b")
    assert traces == ["a", "b"]


def test_the_third_program_warns_with_the_line_and_the_limit_holds():
    penalty = 0.0

    def f(x):
        return x * penalty

    g = gc.compile(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g(1.0)
        penalty = 1.0
        g(1.0)
    penalty = 2.0
    with pytest.warns(CompileWarning, match=r"(?s)`penalty` of the closure .*py:.*Pass it"):
        assert g(1.0) == 2.0
    penalty, limited = 0.0, gc.compile(f, max_compiles=1)
    limited(1.0)
    penalty = 1.0
    with pytest.raises(CompileLimitError, match=r"closure: 0\.0 -> 1\.0"):
        limited(1.0)


def test_what_changes_without_an_effect_is_traced_but_not_compiled():
    state = {"step": 0, "scale": 2.0}
    f = gc.compile(lambda x: x * state["scale"])
    with pytest.warns(CompileWarning, match=r"can reach `state\['step'\]`.*traced again 10 times"):
        for _ in range(12):
            state["step"] += 1
            assert f(3.0) == 6.0
    assert len(f.compiles) == 1


def test_a_trainer_reads_again_at_each_fit():
    target = 1.0
    trainer = gc.Trainer(lambda w, x: np.mean((w * x - target) ** 2), gc.optim.sgd(0.5))
    for target in (1.0, 3.0):
        fit = trainer.fit(0.0, np.ones(4), epochs=20, batch_size=4)
        assert abs(fit.params - target) < 1e-3


def test_the_walk_ends():
    """Names found in code may lead to code whose names lead elsewhere; walks have bounds."""
    import programs

    from graphc.trace.captured import Captured

    functions = [f for f in vars(programs).values() if isinstance(f, types.FunctionType)]
    assert functions and all(len(Captured(f).facts) < 400 for f in functions)


@pytest.mark.parametrize("transform", [gc.grad, gc.value_and_grad, gc.hessian, gc.vmap])
def test_transforms_add_nothing_to_what_a_function_reads(transform):
    """Their wrappers are named after the user's function, and are graphc's all the same."""

    def plain(x):
        return x * x * scale

    assert [f.path for f in Captured(transform(plain)).facts] == ["global `scale`"]
