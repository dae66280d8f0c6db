"""Random indices, read and written, against NumPy."""

import numpy as np
import pytest
from trace_helpers import trace_like

from graphc import interp


def random_index(rng, shape, arrays):
    """A random index of an array of ``shape``; ``arrays`` allows integer arrays and masks."""
    items, joint = [], [(), (1,), (2,), (2, 1)][rng.integers(4)]
    axes = rng.integers(0, len(shape) + 1)
    for size in shape[:axes]:
        kind = rng.integers(0, 5 if arrays else 3)
        bounds = [None, *range(-size - 1, size + 2)]
        if kind <= 1:
            step = [None, 1, 2, -1, -2, 3][rng.integers(6)]
            items.append(slice(*(bounds[i] for i in rng.integers(0, len(bounds), 2)), step))
        elif kind == 2:
            items.append(int(rng.integers(-size, size)))
        elif kind == 3:
            items.append(rng.integers(-size, size, joint))
        else:
            mask = np.zeros(size, bool)
            mask[rng.permutation(size)[: min(size, 2)]] = True
            items.append(mask if joint in ((), (1,), (2,)) and size > 1 else slice(None))
    if rng.random() < 0.3:
        items.insert(rng.integers(0, len(items) + 1), None)
    if rng.random() < 0.3:
        items.insert(rng.integers(0, len(items) + 1), Ellipsis)
    return tuple(items)


def cases(seed, arrays, count=60):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shape = tuple(int(d) for d in rng.integers(1, 5, rng.integers(1, 5)))
        x = rng.normal(size=shape)
        index = random_index(rng, shape, arrays)
        try:
            yield rng, x, index, x[index]
        except IndexError:  # index arrays that do not broadcast
            continue


@pytest.mark.parametrize("seed", range(12))
def test_reading(seed):
    for _, x, index, expected in cases(seed, arrays=seed % 3 > 0):
        traced = trace_like(lambda x, index=index: x[index], x)
        (value,) = interp.evaluate(traced.graph, [x])
        assert value.shape == np.shape(expected), index
        np.testing.assert_array_equal(value, expected, err_msg=str(index))


@pytest.mark.parametrize("seed", range(6))
def test_reading_at_traced_integers(seed):
    for _, x, index, expected in cases(seed + 50, arrays=True):
        place = [i for i, item in enumerate(index) if isinstance(item, np.ndarray | int)]
        place = [i for i in place if np.asarray(index[i]).dtype != bool]
        arrays = [np.asarray(index[i]) for i in place]

        def fn(x, arrays, index=index, place=place):
            items = list(index)
            for i, array in zip(place, arrays):
                items[i] = array
            return x[tuple(items)]

        traced = trace_like(fn, x, arrays)
        (value,) = interp.evaluate(traced.graph, [x, *arrays])
        assert value.shape == np.shape(expected), index
        np.testing.assert_array_equal(value, expected, err_msg=str(index))


@pytest.mark.parametrize("seed", range(6))
def test_writing(seed):
    for rng, x, index, region in cases(seed + 100, arrays=False):
        value = rng.normal(size=np.shape(region)[rng.integers(0, np.ndim(region) + 1) :])

        def fn(x, value, index=index):
            x = x.copy()
            x[index] = value
            x[index] += 1
            return x

        traced = trace_like(fn, x, value)
        (got,) = interp.evaluate(traced.graph, [x, value])
        np.testing.assert_allclose(got, fn(x, value), err_msg=str(index))


def test_an_index_out_of_range_on_one_axis_is_caught_after_axes_are_merged():
    x, i, j = np.zeros((3, 4)), np.array([0, 1]), np.array([1, 5])
    traced = trace_like(lambda x, i, j: x[i, j], x, i, j)
    with pytest.raises(IndexError):
        interp.evaluate(traced.graph, [x, i, j])
