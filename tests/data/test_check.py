"""Training data that cannot be used, and what is said about it (rows 34 and 35 of the errors)."""

import numpy as np
import pytest

from graphc.data.check import check_data, check_like
from graphc.errors import DataError

X = np.arange(12.0).reshape(4, 3)
Y = np.arange(4)


def check(*data):
    return check_data(data, ["X", "y", "z"][: len(data)])


def test_good_data():
    (x, y), count = check(X, Y)
    assert x is X and y is Y and count == 4


def test_lists_of_numbers_are_arrays():
    (x, y), count = check(X.tolist(), [0, 1, 1, 0])
    assert x.shape == (4, 3) and y.dtype == np.int64 and count == 4


def test_trees():
    (x, _), count = check({"image": X, "more": [X, X]}, Y)
    assert set(x) == {"image", "more"} and count == 4
    with pytest.raises(DataError, match=r"`X\['image'\]` has 4 rows and `X\['more'\]\[1\]` 3"):
        check({"image": X, "more": [X, X[:3]]}, Y)


def test_object_column_is_named():
    table = np.array([[1.0, 2.0, "red"], [1.0, 3.0, "blue"]], object)
    with pytest.raises(DataError, match=r"`X` column 2 has dtype object, .* 'red'; encode it"):
        check(table, [0, 1])
    table[1, 0] = None
    with pytest.raises(DataError, match=r"`X` column 0 has dtype object, .* None"):
        check(table, [0, 1])


class Frame:
    """Looks like a data frame of mixed columns."""

    columns = ("height", "colour")

    def __array__(self, dtype=None, copy=None):
        return np.array([[1.5, "red"], [2.5, "blue"]], object)


def test_data_frame():
    with pytest.raises(DataError, match="`X` column 1 has dtype object, with values such as 'red'"):
        check(Frame(), [0, 1])


def test_strings_and_other_dtypes():
    with pytest.raises(DataError, match="`y` has dtype str, with values such as 'cat'; encode"):
        check(X[:2], np.array(["cat", "dog"]))
    with pytest.raises(DataError, match="`y` has dtype str, with values such as 'cat'"):
        check(X[:2], ["cat", "dog"])
    with pytest.raises(DataError, match=r"`y` has dtype datetime64.*; convert it"):
        check(X[:2], np.array(["2020-01-01", "2020-01-02"], "M8[D]"))
    with pytest.raises(DataError, match=r"`X` has dtype object; convert it: X.astype"):
        check(X.astype(object), Y)


def test_ragged():
    with pytest.raises(DataError, match="`X` is not rectangular"):
        check([[1.0, 2.0], [3.0]], [0, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_row_is_named(bad):
    x = np.zeros((5, 2, 2), np.float32)
    x[3, 1, 0] = bad
    with pytest.raises(DataError, match=rf"`X` has {bad} in row 3 \(`X\[3, 1, 0\]`\)"):
        check(x, np.arange(5))


def test_nonfinite_far_down():
    x = np.zeros((3000, 1000), np.float32)
    x[2999, 999] = np.nan
    with pytest.raises(DataError, match="nan in row 2999"):
        check(x)


def test_lengths():
    with pytest.raises(DataError, match="`X` has 4 rows and `y` 3; one row a sample"):
        check(X, Y[:3])
    with pytest.raises(DataError, match="`X` has no rows"):
        check(X[:0], Y[:0])
    with pytest.raises(DataError, match="`y` is a single value"):
        check(X, 3.0)
    with pytest.raises(DataError, match="no data"):
        check()
    with pytest.raises(DataError, match="no data"):
        check({})


def test_validation_like_training():
    check_like((X[:2], Y[:2]), (X, Y), ["X", "y"])
    with pytest.raises(DataError, match=r"validation `X` has shape \(4, 2\), in training .*4, 3"):
        check_like((X[:, :2], Y), (X, Y), ["X", "y"])
    with pytest.raises(DataError, match="validation `X` is"):
        check_like(({"a": X}, Y), (X, Y), ["X", "y"])
