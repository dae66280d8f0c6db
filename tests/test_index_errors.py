"""Rows 6 and 8 of the error table: updates take effect, and run-time indices out of range are
named with value and size, in each tier."""

import numpy as np
import pytest

import graphc as gc

TIERS = [gc.interpret, gc.compile]
X = np.arange(12.0).reshape(3, 4)


def read_pair(x, i, j):
    return x[i, j]


def read_pair_of_arrays(x, i, j):
    return x[i[:, None], j]


def write_pair(x, i, j):
    x[i, j] = 7.0
    return x


def put_along(x, i, j):
    np.put_along_axis(x, j[:, None], 0.0, axis=1)
    return x


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    ("fn", "i", "j", "value", "size"),
    [
        (read_pair, 1, 4, "4", "4"),
        (read_pair, 3, 0, "3", "3"),
        (read_pair, 0, -5, "-", "4"),
        (read_pair_of_arrays, np.array([0, 3]), np.array([0, 1]), "3", "3"),
        (write_pair, np.array([0, 1]), np.array([9, 0]), "9", "4"),
        (write_pair, 5, 1, "5", "3"),
        (put_along, 0, np.array([0, 1, 6]), "6", "4"),
    ],
)
def test_row8_value_and_size_are_named(tier, fn, i, j, value, size):
    with pytest.raises(IndexError) as caught:
        tier(fn)(X.copy(), i, j)
    message = str(caught.value)
    assert f"index {value}" in message and f"axis of size {size}" in message, message


def test_row8_compiled_code_names_the_argument_and_the_line():
    with pytest.raises(IndexError, match=r"index 9 in `?j`?.*size 4.*test_index_errors.py"):
        gc.compile(read_pair)(X, 0, 9)


@pytest.mark.parametrize("tier", TIERS)
def test_row8_nothing_is_written_out_of_bounds(tier):
    x = X.copy()
    with pytest.raises(IndexError):
        tier(write_pair)(x, 3, 3)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("tier", TIERS)
def test_row6_an_update_needs_no_assignment_of_a_result(tier):
    """There is no functional form whose result could be dropped: `x[i] = v` itself takes effect,
    and the array of the caller stays as it is."""

    def fn(x, i, v):
        x[i] = v
        x[i] += 1
        np.add.at(x, i, 2.0)
        return x

    x, i, v = np.zeros(4), np.array([1, 3]), np.array([5.0, 6.0])
    np.testing.assert_array_equal(tier(fn)(x, i, v), [0, 8, 0, 9])
    np.testing.assert_array_equal(x, np.zeros(4))


@pytest.mark.parametrize("tier", TIERS)
def test_the_last_of_equal_indices_wins_and_alone_has_a_gradient(tier):
    def fn(x, i, v):
        x[i] = v
        return np.sum(x * np.array([1.0, 2.0, 3.0]))

    i = np.array([2, 0, 2])
    arguments = np.zeros(3), i, np.array([1.0, 2.0, 3.0])
    assert float(tier(fn)(*arguments)) == 2.0 + 9.0
    by_x, by_v = tier(gc.grad(fn, argnums=(0, 2)))(*arguments)
    np.testing.assert_array_equal(by_x, [0, 2, 0])
    np.testing.assert_array_equal(by_v, [0, 1, 3])


def test_bincount_asks_for_the_number_of_bins():
    with pytest.raises(gc.errors.TraceError, match=r"Give minlength=n"):
        gc.interpret(lambda i: np.bincount(i))(np.array([0, 1]))
    with pytest.raises(IndexError):
        gc.interpret(lambda i: np.bincount(i, minlength=2))(np.array([0, 2]))
