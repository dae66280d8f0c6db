"""What users call: compile, grad, value_and_grad, interpret, compiled."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import threading
import types
import warnings
from typing import NamedTuple

import numpy as np
import pytest

import graphc as gc
from graphc.errors import CompileWarning, GradientError, TraceError, UnknownNameError


def same(a, b, rtol=1e-12):
    assert type(a) is type(b), (type(a), type(b))
    np.testing.assert_allclose(a, b, rtol=rtol)
    assert np.asarray(a).dtype == np.asarray(b).dtype


# ------------------------------------------------------------------------------ dtypes and scalars


def scaled(x, s):
    return x * s + 1


@pytest.mark.parametrize(
    "scale", [2, 2.5, True, np.float32(2.5), np.float64(2.5), np.int64(3), np.array(2.5)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_numbers_follow_numpys_promotion(scale, dtype):
    x = np.arange(3).astype(dtype)
    same(NUMBERS(x, scale), scaled(x, scale), rtol=1e-6)


NUMBERS = gc.compile(scaled)  # one function for all: weak and strong numbers must not mix


def test_python_numbers_come_back_as_python_numbers():
    f = gc.compile(lambda a, b: (a * b, a + 1, b > 2))
    for _ in range(3):
        product, more, test = f(2.0, 3)
        assert (product, more, test) == (6.0, 3.0, True)
        assert type(product) is float
    assert len(f.compiles) == 1
    assert type(f(np.float64(2.0), 3)[0]) is np.float64


def test_zero_dimensional_results_are_numpy_scalars():
    f = gc.compile(np.sum)
    x = np.ones(4, np.float32)
    for _ in range(2):
        assert type(f(x)) is np.float32


@pytest.mark.parametrize("dtype", ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_integers_and_bools(dtype):
    f = gc.compile(lambda x: (x[::-1], x == x[0], np.where(x > 0, x, 0), x.sum()))
    x = np.array([1, 0, 1, 1]).astype(dtype)
    for a, b in zip(f(x), (x[::-1], x == x[0], np.where(x > 0, x, 0), x.sum()), strict=True):
        same(a, b)


def test_arrays_of_any_layout():
    f = gc.compile(lambda x: np.cumsum(x, axis=1) * 2)
    x = np.arange(12.0).reshape(3, 4)
    wide = np.zeros((6, 8))
    wide[::2, ::2] = x
    fixed = x.copy()
    fixed.flags.writeable = False
    for given in (x, np.asfortranarray(x), wide[::2, ::2], fixed, x[::-1][::-1]):
        for _ in range(2):
            np.testing.assert_array_equal(f(given), np.cumsum(x, axis=1) * 2)
    assert len(f.compiles) == 1


def test_byte_swapped_arrays():
    f = gc.compile(lambda x: x * 2)
    x = np.arange(3.0)
    for given in (x, x.astype(">f8"), x, x.astype(">f8")):
        found = f(given)
        assert found.dtype == np.float64 and found.dtype.isnative
        np.testing.assert_array_equal(found, x * 2)
    assert len(f.compiles) == 1


def test_lists_are_trees_of_numbers_and_arguments_stay_as_they_were():
    f = gc.compile(lambda xs: [2 * x for x in xs])
    given = [1.0, np.ones(2), np.float32(3)]
    first, second, third = f(given)
    assert first == 2.0 and second.tolist() == [2.0, 2.0] and third == np.float32(6)
    assert given[1].tolist() == [1.0, 1.0]


def test_empty_arrays_and_no_outputs_of_size():
    f = gc.compile(lambda x: (x.sum(axis=0), x * 2, x.sum()))
    a, b, c = f(np.zeros((0, 3)))
    assert a.tolist() == [0.0] * 3 and b.shape == (0, 3) and c == 0.0


def test_results_are_never_overwritten():
    f = gc.compile(lambda x: (x + 1, x.sum()))
    kept = [f(np.full(5, float(k))) for k in range(10)]
    assert [int(a[0]) for a, _ in kept] == list(range(1, 11))
    assert [s for _, s in kept] == [5.0 * k for k in range(10)]


# ---------------------------------------------------------------------------------- sizes


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_second_size_is_the_last_compile():
    f = gc.compile(softmax)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (8, 5, 3, 100, 8, 77, 2):
            x = np.random.default_rng(n).normal(size=(n, 4))
            np.testing.assert_allclose(f(x), softmax(x), rtol=1e-12)
    assert len(f.compiles) == 2
    first, second = f.compiles
    assert first.reason == "first call" and first.types == ("f64[8,4]",)
    assert second.reason == ("x: float64[8,4] -> float64[5,4]: axis 0 of x became symbolic")
    assert second.types == ("f64[n0,4]",)
    assert first.kernels == second.kernels == 1


def test_sizes_of_one_and_none_are_right():
    f = gc.compile(lambda x: (np.squeeze(x), x.sum(axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (6, 4, 1, 9, 0, 2, 1, 0):
            x = np.random.default_rng(n).normal(size=(n, 3))
            for a, b in zip(f(x), (np.squeeze(x), x.sum(axis=0)), strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_declared_dims_need_one_compile():
    f = gc.compile(lambda x, y: x @ y, dims={"x": ("n", None)})
    for n in (4, 9, 30):
        x, y = np.ones((n, 3)), np.ones((3, 2))
        np.testing.assert_array_equal(f(x, y), x @ y)
    assert len(f.compiles) == 1 and f.compiles[0].types == ("f64[n,3]", "f64[3,2]")


def test_a_declared_dim_may_have_any_name():
    for name in ("size", "i0", "lambda", "status", "a1"):
        f = gc.compile(lambda x: np.exp(x).sum(axis=0) * x.shape[0], dims={"x": (name,)})
        assert f(np.zeros(3)) == 9.0 and f(np.zeros(5)) == 25.0


def test_sizes_that_cannot_be_symbolic_warn_at_the_third_compile():
    f = gc.compile(lambda x: x.reshape(2, -1).sum(axis=1) / float(x.shape[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(np.ones(10))
        f(np.ones(14))
    with pytest.warns(CompileWarning, match="axis 0 of x was 10, 14, 22") as seen:
        assert f(np.ones(22)).tolist() == [0.5, 0.5]
    assert "compile 3 of" in str(seen[0].message) and seen[0].filename == __file__


def test_dtypes_are_variants_of_their_own():
    f = gc.compile(lambda x: x / 3)
    for dtype in (np.float32, np.float64, np.float32, np.int64):
        assert f(np.ones(2, dtype)).dtype == (np.ones(2, dtype) / 3).dtype
    assert len(f.compiles) == 3


# ------------------------------------------------------------------------------- arguments


class Layer(NamedTuple):
    w: np.ndarray
    b: np.ndarray


@dataclasses.dataclass
class Model:
    first: Layer
    scale: float


def test_trees_keywords_and_defaults():
    def f(model, x, *rest, power=2, **more):
        y = (x @ model.first.w + model.first.b) * model.scale
        return {"y": y**power, "rest": [r * 2 for r in rest], **more}

    g = gc.compile(f)
    model = Model(Layer(np.ones((3, 2)), np.zeros(2)), 0.5)
    x = np.arange(6.0).reshape(2, 3)
    for _ in range(2):
        found, wanted = g(model, x, x, 1.0, extra=x), f(model, x, x, 1.0, extra=x)
        assert list(found) == list(wanted)
        np.testing.assert_allclose(found["y"], wanted["y"])
        assert found["rest"][1] == 2.0
    np.testing.assert_allclose(g(model, x=x, power=3)["y"], f(model, x, power=3)["y"])


def test_decorators():
    @gc.compile
    def plain(x):
        "Doc."
        return x + 1

    @gc.compile(static_argnames="n")
    def repeated(x, n):
        return np.concatenate([x] * n)

    assert plain.__name__ == "plain" and plain.__doc__ == "Doc."
    assert plain(np.zeros(2)).tolist() == [1, 1]
    assert repeated(np.ones(2), 3).shape == (6,) and repeated(np.ones(2), n=2).shape == (4,)
    assert len(repeated.compiles) == 2


@pytest.mark.parametrize(
    "values", [("a", "b"), ([1, 2], [1, 3]), ({"k": 1}, {"k": 2}), ((1, [2]), (1, [3])), (None, 3)]
)
def test_static_arguments_of_any_kind(values):
    calls = []

    def f(x, option):
        calls.append(option)
        return x * len(calls)

    g = gc.compile(f, static_argnums=1)
    for _ in range(2):
        assert [g(np.ones(1), v)[0] for v in values] == [1.0, 2.0]
    assert calls == list(values)


def test_unknown_static_names_are_refused():
    with pytest.raises(UnknownNameError, match=r"no parameter 'z'; it has x, y"):
        gc.compile(lambda x, y: x, static_argnames="z")


def test_compiled_functions_inside_compiled_functions():
    inner = gc.compile(lambda x: np.sin(x))
    slope = gc.grad(lambda x: np.sum(inner(x) ** 2))
    outer = gc.compile(lambda x: inner(x) + slope(x))
    x = np.linspace(0, 1, 5)
    np.testing.assert_allclose(outer(x), np.sin(x) + 2 * np.sin(x) * np.cos(x), rtol=1e-12)
    assert inner.compiles == [] and slope.compiles == [] and len(outer.compiles) == 1
    np.testing.assert_allclose(inner(x), np.sin(x), rtol=1e-12)


def test_user_errors_pass_through():
    f = gc.compile(lambda x: undefined_name + x)  # noqa: F821
    for _ in range(2):
        with pytest.raises(NameError, match="undefined_name"):
            f(np.ones(2))
    assert f.compiles == []


# -------------------------------------------------------------------------------- gradients


def loss(params, x):
    return np.sum(np.tanh(x @ params["w"]) ** 2)


def test_gradients_have_the_structure_of_their_argument():
    params, x = {"w": np.ones((3, 2)), "unused": np.ones(2)}, np.arange(6.0).reshape(2, 3)
    value, grads = gc.value_and_grad(loss)(params, x)
    assert value == pytest.approx(loss(params, x))
    assert list(grads) == list(params) and grads["unused"].tolist() == [0.0, 0.0]
    both = gc.grad(loss, argnums=(0, 1))(params, x)
    assert len(both) == 2 and both[1].shape == x.shape
    np.testing.assert_allclose(both[0]["w"], grads["w"])


def test_has_aux():
    f = gc.value_and_grad(lambda x: (np.sum(x**2), {"double": 2 * x}), has_aux=True)
    (value, aux), slope = f(np.arange(3.0))
    assert value == 5.0 and aux["double"].tolist() == [0, 2, 4] and slope.tolist() == [0, 2, 4]


def test_gradient_of_a_gradient_and_of_numbers():
    f = gc.grad(gc.grad(lambda x: x**4))
    assert [f(2.0), f(np.float64(2.0))] == [48.0, 48.0]
    assert gc.grad(lambda x, y: x * y, argnums=1)(2.0, 3.0) == 2.0


def test_gradient_errors_are_graphcs_own():
    with pytest.raises(GradientError):
        gc.grad(lambda x: x * 2)(np.ones(3))
    with pytest.raises(GradientError):
        gc.grad(lambda x: x * 2)(3)


# --------------------------------------------------------------------------------- donation


def test_donated_parameters_are_updated_in_place():
    step = gc.compile(lambda p, g: {k: p[k] - 0.1 * g[k] for k in p}, donate=0)
    p, g = {"a": np.ones(3), "b": np.ones((2, 2))}, {"a": np.ones(3), "b": np.ones((2, 2))}
    first = p
    for _ in range(4):
        p = step(p, g)
    assert p["a"] is first["a"] and p["b"] is first["b"]
    np.testing.assert_allclose(first["a"], 0.6)


def test_donation_that_helps_nobody_is_refused():
    with pytest.raises(TraceError, match=r"no output has the dtype and shape of: p\."):
        gc.compile(lambda p: p.sum(), donate=0)(np.ones(3))


def test_a_swap_of_donated_arrays():
    swap = gc.compile(lambda a, b: (b, a), donate=(0, 1))
    a, b = np.zeros(4), np.ones(4)
    for k in range(3):
        x, y = swap(a, b)
        assert x is a and y is b and a[0] == (k + 1) % 2 and b[0] == k % 2


def test_donated_arrays_may_not_overlap_others():
    step = gc.compile(lambda p, g: p - g, donate=0)
    p = np.ones(3)
    for _ in range(2):
        with pytest.raises(ValueError, match="p is donated but shares memory with g"):
            step(p, p)
        step(p, p.copy())


# -------------------------------------------------------------------------- run-time indices


def test_indices_out_of_range_are_named_as_the_user_wrote_them():
    f = gc.compile(lambda table, tokens: table[tokens].sum())
    table = np.arange(10.0).reshape(5, 2)
    assert f(table, np.array([0, -1])) == 18.0
    for bad in (5, -6, 99, -99):
        message = f"index {bad} in tokens is out of bounds for an axis of size 5"
        with pytest.raises(IndexError, match=rf"{message} \(test_api.py:\d+\)"):
            f(table, np.array([0, bad]))
    assert f(table, np.array([0, -1])) == 18.0


# ---------------------------------------------------------------------------------- threads


def test_threads_calling_one_function_from_the_first_call_on():
    f = gc.compile(softmax)
    given = [np.random.default_rng(k).normal(size=(4 + k % 3, 5)) for k in range(8)]
    faults, start = [], threading.Barrier(8)

    def work(x):
        try:
            start.wait()
            for _ in range(50):
                np.testing.assert_allclose(f(x), softmax(x), rtol=1e-12)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(x,)) for x in given]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults
    assert len(f.compiles) <= 2


def test_two_functions_traced_at_once():
    faults, start = [], threading.Barrier(6)

    def work(k):
        try:
            f = gc.value_and_grad(lambda x: np.sum(np.sin(x) * k))
            start.wait()
            value, slope = f(np.full(3, 0.5))
            assert value == pytest.approx(3 * k * np.sin(0.5))
            np.testing.assert_allclose(slope, k * np.cos(0.5), rtol=1e-12)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(k + 1,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults


def test_interpreted_functions_take_every_dtype():
    f = gc.interpret(lambda x: np.exp(x) * 2)
    for dtype in (np.float16, np.complex64):
        x = np.ones(2, dtype)
        same(f(x), np.exp(x) * 2, rtol=1e-2)
    with pytest.raises(Exception, match=r"graphc\.interpret"):
        gc.compile(lambda x: np.exp(x) * 2)(np.ones(2, np.float16))


@pytest.mark.parametrize("name", ["graphc", *(f"graphc.{m}" for m in gc._MODULES)])
def test_completion_offers_public_names_alone(name):
    module = importlib.import_module(name)
    assert dir(module) == sorted(module.__all__)
    own = {"__version__", *gc._MODULES} if module is gc else set()
    for public in set(dir(module)) - own:
        value = getattr(module, public)
        assert not public.startswith("_") and not isinstance(value, types.ModuleType)
        assert value.__module__.startswith("graphc"), f"{name}.{public} is of {value.__module__}"


@dataclasses.dataclass
class Scaled:
    weight: np.ndarray

    @gc.compile
    def total(self, x):
        return np.sum(self.weight * x)

    @gc.grad
    def slope(self, x):
        return np.sum(self.weight**2 * x)

    @gc.custom_vjp
    def scaled(self, x):
        return self.weight * x

    @scaled.backward
    def _(ct, result, self, x):
        return Scaled(ct * x * 100), ct * self.weight


def test_decorated_methods_get_their_instance():
    x, layer = np.arange(3.0), Scaled(np.array([1.0, 2.0, 3.0]))
    assert layer.total(x) == 8
    layer.weight = layer.weight * 2  # a leaf of an argument, not a constant
    assert layer.total(x) == 16 and len(Scaled.total.compiles) == 1
    np.testing.assert_array_equal(layer.slope(x).weight, 2 * layer.weight * x)
    found = gc.grad(lambda m: np.sum(m.scaled(x)))(layer)
    np.testing.assert_array_equal(found.weight, 100 * x)


def test_a_method_of_a_plain_object_takes_it_as_static():
    class Model:
        def __init__(self, weight):
            self.weight = weight

        @functools.partial(gc.grad, argnums=1, static_argnames="self")
        def slope(self, x):
            return np.sum(self.weight * x**2)

        @gc.compile
        def unmarked(self, x):
            return x

    assert [Model(w).slope(3.0) for w in (1.0, 2.0)] == [6, 12]
    with pytest.raises(TraceError, match="static_argnames='self'"):
        Model(1.0).unmarked(2.0)


def test_positions_may_be_a_list_and_static_arguments_slices():
    assert gc.interpret(gc.grad(lambda x, y: x * y, argnums=[1, 0]))(2.0, 3.0) == (2, 3)
    part = gc.interpret(lambda x, s: x[s], static_argnums=1)
    for s in (slice(1, 3), slice(None, None, -1)):
        np.testing.assert_array_equal(part(np.arange(4), s), np.arange(4)[s])
