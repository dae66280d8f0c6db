"""Dtypes of every pair of operands are NumPy's, Python numbers among arguments included."""

import itertools

import numpy as np
import pytest
from trace_helpers import assert_like_numpy, trace_like

from graphc.errors import DTypeError

DTYPES = ["bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"]
OPERATORS = ["x + y", "x * y", "x / y", "x < y", "x == y", "np.maximum(x, y)", "np.where(x, x, y)"]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(DTYPES, DTYPES)))
def test_pairs_of_dtypes(first, second):
    x, y = np.array([1, 0, 1], first), np.array([1, 1, 0], second)
    scalar = np.ones((), second)[()]
    for text in OPERATORS:
        fn = eval(f"lambda x, y: {text}", {"np": np})
        assert_like_numpy(fn, (x, y), "float16")
        assert_like_numpy(fn, (x, scalar), "float16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [2, 2.5, True])
def test_python_number_as_argument_does_not_widen(dtype, number):
    x = np.array([1, 0, 1], dtype)

    def fn(x, number):
        return x + number, number * x, x / number, x >= number, np.minimum(x, number)

    assert_like_numpy(fn, (x, number), "float16")


@pytest.mark.parametrize("number", [2, 2.5, True, 0, -3])
@pytest.mark.parametrize("other", [3, 1.5, False, -1])
def test_python_numbers_among_themselves_stay_python_numbers(number, other):
    def fn(a, b):
        sums = a + b, a - b, a * b, -a, +a, abs(b), a < b, a == b, a != b, a**2, 2 * a
        return *sums, (a + 1) * 2.0, np.multiply(a, b), np.sin(a), (a + b) * np.float32(3)

    assert_like_numpy(fn, (number, other))


def test_division_of_python_numbers():
    def fn(a, b):
        return a / b, a // b, a % b, divmod(a, b), a**-1, a**b

    assert_like_numpy(fn, (7, 2))
    assert_like_numpy(fn, (7.5, 2))


def test_numpy_scalars_are_not_weak():
    x = np.ones(3, np.float32)
    assert_like_numpy(lambda x, s: x * s, (x, np.float64(2)))
    assert_like_numpy(lambda x: x * np.float64(2), (x,))
    assert_like_numpy(lambda x: x * np.array(2.0), (x,))


def test_wide_python_integers_overflow_as_in_numpy():
    with pytest.raises(OverflowError):
        trace_like(lambda x: x + 300, np.ones(3, np.uint8))


def test_refusals_name_the_function_and_dtypes():
    with pytest.raises(DTypeError, match=r"np.subtract does not take \(bool, bool\)"):
        trace_like(lambda x: x - x, np.ones(3, bool))
    with pytest.raises(DTypeError, match="negative power -2"):
        trace_like(lambda x: x**-2, np.ones(3, int))
    with pytest.raises(DTypeError, match=r"np.bitwise_and does not take \(float64, float64\)"):
        trace_like(lambda x: x & x, np.ones(3))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64", "int64"])
@pytest.mark.parametrize("number", [-1, 300, -129, 2**63, 3])
def test_comparison_with_a_python_int_that_the_dtype_does_not_hold(dtype, number):
    x = np.array([0, 1, 3, 100, np.iinfo(dtype).max], dtype)

    def fn(x, n=number):
        return x < n, x <= n, n == x, x != n, n < x, x >= n, np.where(x > 1, x, 7)

    assert_like_numpy(fn, (x,))
    if number < 2**63:  # as an argument, whose value is not known while tracing
        assert_like_numpy(fn, (x, number))
        assert_like_numpy(lambda x, n: np.clip(x, n, 120), (x, min(number, 50)))
