"""Places where a trace once disagreed with NumPy without a word; random programs found them."""

import numpy as np
import pytest
from trace_helpers import assert_like_numpy, run_traced

import graphc as gc
from graphc.errors import TraceError


@pytest.mark.parametrize("engine", [gc.interpret, gc.compile])
@pytest.mark.parametrize("i", [3, -4])
def test_a_traced_index_out_of_range_is_not_dropped(engine, i):
    def put(x, i):
        x = x.copy()
        x[i] = 9.0
        return x

    with pytest.raises(IndexError):
        engine(put)(np.zeros(3), np.int64(i))
    np.testing.assert_array_equal(engine(put)(np.zeros(3), np.int64(-1)), [0.0, 0.0, 9.0])


@pytest.mark.parametrize("order", ["A", "K"])
def test_orders_that_depend_on_memory_are_refused(order):
    x = np.arange(6.0).reshape(2, 3)
    for fn in (lambda x: x.T.ravel(order), lambda x: x.T.reshape(6, order=order)):
        with pytest.raises(TraceError, match="order"):
            run_traced(fn, x)


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8"])
def test_reciprocals_of_integers_round_towards_zero(dtype):
    assert_like_numpy(np.reciprocal, (np.array([1, -1, 2, -2, 7, -128], dtype),))
    assert_like_numpy(np.reciprocal, (np.array([1, 2, 255], np.uint8),))


@pytest.mark.parametrize("axis", [0, -1])
def test_a_number_is_reduced_along_its_first_or_last_axis(axis):
    x = np.array(3.0)
    for fn in (np.sum, np.prod, np.max, np.any):
        assert_like_numpy(lambda x, fn=fn: fn(x, axis=axis), (x,))


def test_integers_out_of_range_wrap_in_astype():
    assert run_traced(lambda x: gc.numpy.asarray(300).astype(np.uint8) + x, np.uint8(1)) == 45
