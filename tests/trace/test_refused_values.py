"""What only a call knows and NumPy refuses: the same error in every engine, with the line."""

import numpy as np
import pytest

import graphc as gc
import graphc.numpy as gnp
from graphc.errors import DTypeError

ENGINES = pytest.mark.parametrize("engine", [gc.interpret, gc.compile])
SMALL = np.array([1, 2], np.int8)


@ENGINES
def test_integers_to_negative_powers(engine):
    def fn(x, exponent):
        return x**exponent

    f = engine(fn)
    np.testing.assert_array_equal(f(np.array([2, -3]), np.array([3, 0])), [8, 1])
    for exponent in (np.array([2, -1]), np.array([-2, -2]), -2):
        with pytest.raises(ValueError, match=r"negative integer powers.*\*\* -\d.*values.py:\d+"):
            f(np.array([2, -3]), exponent)
    assert f(np.zeros(0, int), np.zeros(0, int)).shape == (0,)
    with pytest.raises(DTypeError, match="negative power -2"):
        engine(lambda x: x ** np.array([1, -2]))(np.array([2, -3]))


@ENGINES
def test_unsigned_exponents_are_not_checked(engine):
    f = engine(lambda x, y: x**y)
    found = f(SMALL, np.array([2, 3], np.uint8))
    assert found.dtype == np.int16 and found.tolist() == [1, 8]


def _put(x, k):
    x = x.copy()
    np.put(x, [0], k)
    return x


def _set(x, k):
    x = x.copy()
    x[0] = k
    return x


def _masked(x, k):
    x = x.copy()
    np.putmask(x, x > 1, k)
    return x


def _copied(x, k):
    x = x.copy()
    np.copyto(x, k)
    return x


@ENGINES
@pytest.mark.parametrize(
    "fn",
    [lambda x, k: x + k, lambda x, k: k - x, lambda x, k: np.maximum(x, k), _set, _put, _masked,
     _copied, lambda x, k: np.full_like(x, k), lambda x, k: np.max(x, initial=k),
     lambda x, k: np.pad(x, 1, constant_values=k), lambda x, k: np.insert(x, 0, k),
     lambda x, k: np.sum(x, initial=k, dtype=np.int8), lambda x, k: np.where(x > 1, x, k)],
)  # fmt: skip
def test_a_python_int_that_the_dtype_does_not_hold(engine, fn):
    """NumPy's OverflowError; np.where alone wraps there, which is refused too."""
    f = engine(fn)
    found, expected = f(SMALL, 100), fn(SMALL, 100)
    assert found.dtype == np.int8 and found.tolist() == expected.tolist()
    with pytest.raises(OverflowError, match=r"300 out of bounds for int8.*values.py"):
        f(SMALL, 300)


@ENGINES
def test_bounds_of_each_dtype(engine):
    f = engine(lambda x, k: x + k)
    with pytest.raises(OverflowError, match="Python integer -1 out of bounds for uint64"):
        f(np.array([3], np.uint64), -1)
    with pytest.raises(OverflowError, match="out of bounds for int32"):
        f(np.array([3], np.int32), 2**31)
    assert f(np.array([3], np.int32), -(2**31)).tolist() == [3 - 2**31]
    assert f(np.array([3]), 2**62).tolist() == [3 + 2**62]
    assert engine(lambda x, k: x < k)(SMALL, 300).all()  # comparisons are exact in NumPy


def test_each_example_of_a_batch_is_checked():
    f = gc.compile(gc.vmap(lambda x, y: x**y))
    with pytest.raises(ValueError, match="negative integer powers"):
        f(np.array([[1], [2]]), np.array([[1], [-2]]))


def test_values_that_a_list_makes():
    fn = gc.compile(lambda x, k: gnp.array([k, 1], dtype=np.int8) + x)
    assert fn(SMALL, 5).tolist() == [6, 3]
    with pytest.raises(OverflowError, match="out of bounds for int8"):
        fn(SMALL, 300)
