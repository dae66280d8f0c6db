"""Which variant of a function serves a call: sizes, static arguments, donated memory."""

import numpy as np
import pytest

import graphc as gc
from graphc.compiled import _KEPT_SHAPES
from graphc.compiles import Compile, Compiles
from graphc.errors import IndexingError, OptionError, TraceError, UnknownNameError
from graphc.ir.dims import symbol
from graphc.request import freeze


def scaled_at_seven(x):
    return x * 100 if x.shape[0] == 7 else x


def product_of_equals(x, y):
    return (x * y).sum() if x.shape == y.shape else x.sum() * y.sum()


def unless_seven(x):
    return x if len(x.shape) == 2 or x.shape[0] - 1 != 6 else -x


@pytest.mark.filterwarnings("ignore::graphc.errors.CompileWarning")
@pytest.mark.parametrize("fn", [scaled_at_seven, unless_seven])
def test_a_program_that_compares_a_size_is_right_at_every_size(fn):
    traced = gc.interpret(fn)
    for n in (3, 4, 5, 7, 1, 8, 7):
        x = np.arange(1.0, n + 1)
        np.testing.assert_array_equal(traced(x), fn(x))


@pytest.mark.filterwarnings("ignore::graphc.errors.CompileWarning")
def test_sizes_that_differ_in_the_trace_may_be_equal_in_a_later_call():
    traced = gc.interpret(product_of_equals)
    for n, m in ((3, 4), (5, 6), (7, 7), (9, 2)):
        x, y = np.arange(n) + 1.0, np.arange(m) + 2.0
        assert traced(x, y) == product_of_equals(x, y)


def test_comparisons_that_every_size_answers_alike_keep_one_variant():
    def fn(x):
        if x.shape[0] == 1 or x.shape == (0,) or x.shape[0] * 2 == 3 or x.shape != (x.shape[0],):
            return x
        return x + 1

    traced = gc.interpret(fn)
    for n in (3, 4, 5, 6):
        assert traced(np.zeros(n)).tolist() == [1.0] * n
    assert len(traced.compiles) == 2


def test_equality_of_dims_outside_a_trace_is_that_of_polynomials():
    n = symbol("n")
    assert n == symbol("n") and n + 1 != n and n != 7 and n * 2 - n == n


def test_a_declared_dimension_never_stands_for_an_empty_array():
    first = gc.interpret(lambda x: x[0], dims={"x": ("n",)})
    with pytest.raises(IndexingError, match="size 0"):
        first(np.zeros(0))
    assert first(np.ones(3)) == 1.0


def test_declared_names_and_made_up_ones_do_not_clash():
    total = gc.interpret(lambda x, y: x.sum() + y.sum(), dims={"x": ("n0",)})
    for n, m in ((3, 4), (3, 5), (9, 6)):
        assert total(np.ones(n), np.ones(m)) == n + m


def test_shapes_that_never_come_back_are_forgotten():
    traced = gc.interpret(lambda x: x + 1)
    for n in range(2, _KEPT_SHAPES + 20):
        traced(np.zeros(n))
    (family,) = traced._families.values()
    assert len(family.exact) <= _KEPT_SHAPES and len(family.variants) == 2


# ------------------------------------------------------------------------------ static arguments


def test_static_arguments_of_any_kind():
    def fn(x, mode, /, *rest, scale="one", **named):
        total = x + sum(rest) + named.get("extra", 0)
        return (total if mode else -total) * (2 if scale == "two" else 1)

    traced = gc.interpret(fn, static_argnames=("mode", "scale"))
    x = np.arange(3.0)
    for args, kwargs in (
        ((x, True), {}), ((x, False, x, 2.0), {}), ((x, True, x), {"scale": "two"}),
        ((x, True), {"extra": x, "scale": "two"}),
    ):  # fmt: skip
        np.testing.assert_array_equal(traced(*args, **kwargs), fn(*args, **kwargs))


def test_an_error_names_the_argument_beside_a_static_one():
    with pytest.raises(TypeError, match="`x` is a str"):
        gc.interpret(lambda mode, x: x, static_argnums=0)("a", "text")


def test_gradient_beside_a_static_argument():
    slope = gc.grad(lambda mode, x: x**2 if mode == "square" else x, argnums=1, static_argnums=0)
    assert slope("square", 3.0) == 6.0 and slope("other", 3.0) == 1.0


def test_static_values_are_told_apart_by_their_bits():
    signed = gc.interpret(lambda x, c: np.copysign(x, c), static_argnums=1)
    assert signed(np.ones(1), 0.0) == 1 and signed(np.ones(1), -0.0) == -1
    assert freeze(np.nan) == freeze(float("nan"))
    assert freeze({1: 2, "a": 3}) != freeze({"a": 3, 1: 2})  # a program can see the order
    assert freeze(1) != freeze(True) != freeze(1.0)


def update(w, grad, mode):
    return w - grad


@pytest.mark.parametrize("call", [
    lambda f, w, g: f(w, g, "sgd"), lambda f, w, g: f(w=w, grad=g, mode="sgd"),
    lambda f, w, g: f(w, mode="sgd", grad=g),
])  # fmt: skip
def test_donation_beside_a_static_argument_and_by_keyword(call):
    step = gc.compile(update, donate=0, static_argnames="mode")
    w = np.ones(3)
    assert call(step, w, np.full(3, 0.25)) is w
    np.testing.assert_array_equal(w, [0.75] * 3)


def test_a_static_argument_cannot_be_donated():
    with pytest.raises(OptionError, match="`mode` of `update` is static"):
        gc.compile(update, donate=2, static_argnames="mode")


def test_arguments_are_not_changed():
    def fill(x):
        x[0] = 5.0
        x += 1
        return x

    x = np.zeros(2)
    np.testing.assert_array_equal(gc.interpret(fill)(x), [6.0, 1.0])
    np.testing.assert_array_equal(x, [0.0, 0.0])


def test_donation_needs_a_parameter_of_its_own():
    with pytest.raises(OptionError, match="has 1 positional parameters"):
        gc.compile(lambda x, *rest: x, donate=1)


def test_a_compiled_function_hands_on_its_options():
    power = gc.compile(lambda x, kind: x**2 if kind == "square" else x, static_argnames="kind")
    for made in (gc.interpret(power), gc.grad(power), gc.interpret(gc.value_and_grad(power))):
        made(3.0, "square")
    assert gc.grad(power)(3.0, "square") == 6.0
    assert gc.interpret(power, static_argnums=1)(3.0, "other") == 3.0
    assert gc.interpret(gc.compile(update, donate=0)).donate == (0,)
    assert "adjoint" in gc.inspect(power, 3.0, "square").stages


# ------------------------------------------------------------------------- the table of mistakes


def test_row15_lists_and_dicts_are_frozen_and_others_are_named():
    f = gc.interpret(lambda x, sizes: x * sum(sizes), static_argnames="sizes")
    assert f(1.0, [1, 2]) == 3 and f(1.0, {3: "a", 4: "b"}) == 7 and f(1.0, [1, 2]) == 3
    assert len(f.compiles) == 2
    assert f.compiles[1].reason == "static `sizes`: [1, 2] -> {3: 'a', 4: 'b'}"

    class Unhashable:
        __hash__ = None

    with pytest.raises(TraceError, match=r"`sizes`: a static argument of type Unhashable cannot"):
        f(1.0, Unhashable())


def test_row33_unknown_options_and_engines_are_named():
    available = r"available: .*checked, device, dims, donate, engine, .*max_compiles, max_paths"
    for make in (gc.grad, gc.value_and_grad, gc.interpret, gc.vmap, gc.jvp):
        with pytest.raises(UnknownNameError, match=f"unknown option 'static'; {available}"):
            make(update, static="mode")
    with pytest.raises(UnknownNameError, match="unknown engine 'gpu'; available: interpreter, nat"):
        gc.grad(update, engine="gpu")


def test_row2_and_row29_through_a_call():
    with pytest.raises(TraceError, match=r"`or` depends on input `x`, but shape(.|\n)*x is None"):
        gc.interpret(lambda x: x or 3)(np.ones(3))
    assert gc.interpret(lambda x: x or 3.0)(0.0) == 3.0  # a number has a truth value
    with pytest.raises(NameError, match="not_defined") as caught:
        gc.interpret(lambda x: x + not_defined)(1.0)  # noqa: F821
    last = caught.traceback[-1]
    assert str(last.path) == __file__ and "not_defined" in str(last.statement)


def test_a_reason_that_is_cut_keeps_its_line():
    reason = f"x: float64[7] -> float64[9]; sizes are fixed because {'it is so ' * 12}"
    quoted = Compile((), f"{reason}(model.py:1234: return np.sum(x[:5]))", 0.5, 1)
    table = str(Compiles([quoted]))
    assert "... (model.py:1234)  " in table or "so (model.py:1234)  " in table
    assert "return" not in table
    longer = Compile((), f"{'why ' * 60}(model.py:1234: y = x)", 0.5, 1)
    assert "... (model.py:1234)  " in str(Compiles([longer]))
