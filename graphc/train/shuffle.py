"""The order of the samples in an epoch: the same from seed and epoch alone, on any machine.

The native epoch driver repeats this algorithm; ``tests/train/test_shuffle.py`` holds both to it.

The stream is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
2014) from the state ``mix(seed*0x9E3779B97F4A7C15 + epoch)``, mix being its output function:
without it the streams of neighbouring seeds would be one stream, shifted. It draws the swaps of a
Fisher-Yates shuffle: for i = n-1 ... 1, j = ((next() >> 32) * (i + 1)) >> 32, swap i and j.
"""

from __future__ import annotations

import numpy as np

GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
MAX_SAMPLES = 1 << 32  # a draw has 32 bits


def stream_base(seed: int, epoch: int) -> int:
    """What identifies the stream of an epoch."""
    return (seed * GAMMA + epoch) & _MASK


def stream_start(seed: int, epoch: int) -> int:
    """The state of the generator before the first draw of ``epoch``."""
    return int(_mix(np.array([stream_base(seed, epoch)], np.uint64))[0])


def splitmix64(state: int, count: int) -> np.ndarray:
    """The next ``count`` outputs (uint64) after ``state``."""
    steps = np.arange(1, count + 1, dtype=np.uint64)
    return _mix(np.uint64(state) + steps * np.uint64(GAMMA))  # arrays wrap around silently


def _mix(z: np.ndarray) -> np.ndarray:
    """The output function of splitmix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order (int64) of ``n`` samples in ``epoch``.

    >>> permutation(5, seed=0, epoch=0)
    array([2, 3, 0, 1, 4])
    """
    if n >= MAX_SAMPLES:
        raise ValueError(f"at most {MAX_SAMPLES} samples can be shuffled, not {n}")
    if n < 2:
        return np.arange(n)
    last = np.arange(n - 1, 0, -1, dtype=np.uint64)
    draws = splitmix64(stream_start(seed, epoch), n - 1) >> np.uint64(32)
    swaps = (draws * (last + np.uint64(1))) >> np.uint64(32)
    order = list(range(n))
    for i, j in zip(range(n - 1, 0, -1), swaps.tolist(), strict=True):
        order[i], order[j] = order[j], order[i]
    return np.array(order)
