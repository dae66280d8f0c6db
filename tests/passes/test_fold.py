"""Constants are folded by the interpreter's own rows; big literals never appear."""

import numpy as np
import pytest
from expressions import node

from graphc.ir import build
from graphc.passes import rule_sets
from graphc.passes.rewrite import rewrite_nodes


def simplified(before):
    (out,) = rewrite_nodes([before], rule_sets()["simplify"])
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool", "complex64"])
def test_dtype_and_value_are_exact(dtype):
    a, b = np.arange(6).reshape(2, 3).astype(dtype), np.full((2, 3), 3).astype(dtype)
    out = simplified(build.make("add", (build.const(a), build.const(b))))
    if out.op == "broadcast":
        assert out.inputs[0].op == "const"
    else:
        assert out.op == "const" and out.dtype == dtype
        np.testing.assert_array_equal(out.attr("value").array, a + b)


def test_scalars_behind_broadcasts_fold_without_a_literal():
    big = build.full((10_000, 300), 2, "float64")
    out = simplified(build.make("exp", (build.make("mul", (big, big)),)))
    assert out is build.full((10_000, 300), np.exp(4.0), "float64")


def test_symbolic_shapes_fold():
    assert simplified(node("exp(full(0, n, 3))")) is node("full(1, n, 3)")


def test_large_constants_are_left():
    big = build.const(np.arange(2000.0))
    out = simplified(build.make("exp", (big,)))
    assert out is build.make("exp", (big,))


def test_uniform_arrays_become_scalars_whatever_the_bits():
    for value in (np.nan, -0.0, np.inf):
        out = simplified(build.const(np.full((5, 5), value)))
        assert out is build.full((5, 5), value, "float64")
    mixed = build.const(np.array([0.0, -0.0]))
    assert simplified(mixed) is mixed


def test_structure_folds():
    table = build.const(np.arange(12.0).reshape(3, 4))
    out = simplified(build.transpose(build.slice_(table, (0, 1), (2, 2), (2, 1)), (1, 0)))
    np.testing.assert_array_equal(
        out.attr("value").array, np.arange(12.0).reshape(3, 4)[::2, 1:3].T
    )


def test_an_index_out_of_range_waits_for_run_time():
    bad = build.take(build.const([1.0, 2.0]), build.const(np.array([0, 7])), 0)
    assert simplified(bad) is bad


def test_an_integer_to_a_negative_power_waits_for_run_time():
    bad = build.make("pow", (build.const(np.array([2, 3])), build.const(np.array([-1, -2]))))
    assert simplified(bad) is bad


def test_nan_is_no_number():
    x = node("x")
    before = build.make("mul", (x, build.full_like(x, np.nan)))
    assert simplified(before) is before
