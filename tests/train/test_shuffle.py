"""The shuffle: a known generator, a fair permutation, and nothing but seed and epoch in it."""

import numpy as np
import pytest

from graphc.train.shuffle import permutation, splitmix64, stream_start

MASK = (1 << 64) - 1


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def scalar_splitmix64(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        yield mix(state)


def test_published_outputs():
    """The first outputs from state 1234567, as in the widely copied reference vectors."""
    found = splitmix64(1234567, 5).tolist()
    assert found == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 100, 1437])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**63 + 5, 12), (-1, 0)])
def test_scalar_definition(n, seed, epoch):
    stream = scalar_splitmix64(mix((seed * 0x9E3779B97F4A7C15 + epoch) & MASK))
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = ((next(stream) >> 32) * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    found = permutation(n, seed, epoch)
    assert found.dtype == np.int64 and found.tolist() == order


def test_is_a_permutation_that_depends_on_seed_and_epoch():
    orders = [permutation(500, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(o) == list(range(500)) for o in orders)
    assert len({tuple(o) for o in orders}) == 4
    assert permutation(500, 1, 1).tolist() == orders[3]


def test_every_order_is_about_as_likely():
    counts = {}
    for epoch in range(6000):
        key = tuple(permutation(3, 42, epoch).tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 6
    assert max(abs(c - 1000) for c in counts.values()) < 150  # 5 standard deviations


def test_start_of_the_stream():
    assert stream_start(0, 5) == mix(5)
    assert stream_start(1, 0) == mix(0x9E3779B97F4A7C15)


def test_streams_of_neighbouring_seeds_are_unrelated():
    first, second = (splitmix64(stream_start(seed, 0), 50).tolist() for seed in (3, 4))
    assert not set(first) & set(second)
