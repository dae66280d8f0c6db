"""The series of a history: lists to Python, arrays to NumPy."""

import copy
import json
import pickle

import numpy as np
import pytest

from graphc.train import History, Series


def test_a_series_is_a_list_of_floats():
    losses = Series([3.0, 2.0, 1.0])
    assert losses == [3.0, 2.0, 1.0] == losses and losses != [3.0, 2.0] and losses != (3, 2, 0)
    assert losses and not Series() and Series() == []
    assert (losses[0], losses[-1], losses[np.int64(1)]) == (3.0, 1.0, 2.0)
    assert type(losses[0]) is float and {type(v) for v in losses} == {float}
    assert losses[1:] == [2.0, 1.0] and losses[::-1] == [1.0, 2.0, 3.0]
    assert list(reversed(losses)) == sorted(losses) and 2.0 in losses and losses.index(1.0) == 2
    assert losses + losses == [*losses, *losses] and losses + [0] == [3, 2, 1, 0] == [3] + losses[
        1:
    ] + [0]
    assert [9.0] + losses == [9.0, 3.0, 2.0, 1.0]
    assert (repr(losses), str(losses)) == ("[3.0, 2.0, 1.0]",) * 2
    assert json.dumps(losses.tolist()) == json.dumps(losses[:]) == "[3.0, 2.0, 1.0]"
    with pytest.raises(IndexError):
        losses[3]


def test_a_series_is_an_array_to_numpy():
    losses = Series([4.0, 2.0])
    assert np.asarray(losses) is not None and np.asarray(losses).dtype == np.float64
    assert np.shares_memory(np.asarray(losses), np.asarray(losses))
    assert not np.shares_memory(np.array(losses), np.asarray(losses))
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(losses)[0] = 1.0
    np.array(losses)[0] = 1.0
    assert losses == [4.0, 2.0]
    assert np.log2(losses).tolist() == [2.0, 1.0] and np.mean(losses) == 3.0
    assert np.asarray(losses, np.float32).dtype == np.float32
    assert (np.arange(2) + losses).tolist() == [4.0, 3.0]


def test_a_series_grows_without_touching_what_was_seen():
    given = np.arange(3.0)
    series = Series()
    series.extend(given)
    early = np.asarray(series)
    for k in range(3, 100):
        series.append(k)
        series.extend(np.array([]))
    series.extend(np.broadcast_to(7.0, 5))
    assert series == [*map(float, range(100)), *[7.0] * 5]
    assert early.tolist() == given.tolist() == [0.0, 1.0, 2.0]


def test_a_long_series_is_printed_short():
    assert repr(Series(range(1000))) == "[0.0, 1.0, 2.0, ... 994 more ..., 997.0, 998.0, 999.0]"
    assert repr(Series(range(20))) == repr([float(k) for k in range(20)])


def test_histories_are_copied_pickled_and_compared():
    past = History(
        loss=Series([2.0, 1.0]), metrics={"a": Series([5.0])}, us_per_step=1.0, compile_s=0.0
    )
    for other in (pickle.loads(pickle.dumps(past)), copy.deepcopy(past)):
        assert other == past and isinstance(other["a"], Series)
        other.loss.append(0.5)
        assert other != past and past.loss == [2.0, 1.0]
    assert past["loss"] is past.loss
