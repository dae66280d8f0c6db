"""All memory is planned: one arena, reused as values die."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.ir.dims import DimLike, evaluate

STATUS_WORDS = 2  # of a program, before its sizes and offsets: a failed check, its value
TEAM_WORDS = 2  # after these: into how many parts kernels may be split; what runs them, or 0
WATCH_WORDS = 10  # after all: what looks for signals while loops run (`runtime.interrupt`)
INTERRUPTED = 0x7FFFFFFF  # the first status word where that ended the program
ALIGNMENT = 64  # a cache line, and the widest vector
_SMALL = 512  # bytes; whole cache lines for less would waste more than an eighth
_GOOD_ENOUGH = 1.02  # of the live peak


@dataclass(frozen=True)
class Lifetime:
    """A temporary: its size in bytes and the kernels between which it is alive (inclusive)."""

    nbytes: DimLike
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Byte offsets of the temporaries in an arena of ``nbytes``."""

    offsets: tuple[int, ...]
    nbytes: int
    live_peak: int  # the largest sum of simultaneously live values: no arena is smaller


def lifetimes(kernels: Sequence, temps: Sequence) -> list[Lifetime]:
    """When each temporary is first written and last touched. What a loop reads and writes is
    alive for as long as it runs; the temporaries of its body only within a step."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    position = 0
    stack: list[tuple] = [(k, None) for k in reversed(kernels)]
    while stack:
        kernel, start = stack.pop()
        inner = getattr(kernel, "inner", None)
        if inner is not None and start is None:
            stack.append((kernel, position))
            stack.extend((k, None) for k in reversed(inner))
            position += 1
            continue
        for buffer in (*kernel.reads, *kernel.writes):
            while getattr(buffer, "base", None) is not None:  # a part: memory of the whole
                buffer = buffer.base
            begin = position if start is None else start
            first[id(buffer)] = min(first.get(id(buffer), begin), begin)
            last[id(buffer)] = position
        position += 1
    return [
        Lifetime(t.size * t.dtype.itemsize, first.get(id(t), 0), last.get(id(t), 0)) for t in temps
    ]


def plan(lives: Sequence[Lifetime], env: Mapping[str, int]) -> Plan:
    """Offsets by best fit, largest first: an interval-colouring heuristic that stays close to
    the live peak on the graphs of networks (Sekiyama et al. 2018, "Profile-guided memory
    optimization for deep neural networks"). Where that leaves gaps, what lives longest goes first,
    or what is there first, if the arena is smaller then."""
    sizes = [evaluate(life.nbytes, env) for life in lives]
    peak = live_peak(lives, env)
    best: Plan | None = None
    for key in (
        lambda i: (-sizes[i], lives[i].first),
        lambda i: (-sizes[i] * (lives[i].last - lives[i].first + 1), lives[i].first),
        lambda i: (lives[i].first - lives[i].last, -sizes[i]),
        lambda i: (lives[i].first, -sizes[i]),
    ):
        made = _placed(lives, sizes, sorted(range(len(lives)), key=key), peak)
        if best is None or made.nbytes < best.nbytes:
            best = made
        if best.nbytes <= peak * _GOOD_ENOUGH:
            break
    assert best is not None
    return best


def live_peak(lives: Sequence[Lifetime], env: Mapping[str, int]) -> int:
    """The largest sum of bytes that are alive at once: no arena is smaller."""
    change: dict[int, int] = {}
    for life in lives:
        size = evaluate(life.nbytes, env)
        change[life.first] = change.get(life.first, 0) + size
        change[life.last + 1] = change.get(life.last + 1, 0) - size
    peak = alive = 0
    for position in sorted(change):
        alive += change[position]
        peak = max(peak, alive)
    return peak


def _placed(lives, sizes: list[int], order: list[int], peak: int) -> Plan:
    """Each in turn at the tightest gap that what is there leaves for as long as it lives."""
    first, last, start = (np.zeros(len(lives), np.int64) for _ in range(3))
    for count, i in enumerate(order):
        life = lives[i]
        together = np.flatnonzero((first[:count] <= life.last) & (last[:count] >= life.first))
        taken = sorted((int(start[j]), int(start[j]) + sizes[order[j]]) for j in together)
        first[count], last[count] = life.first, life.last
        start[count] = _best_gap(taken, sizes[i])
    offsets = [0] * len(lives)
    for i, place in zip(order, start.tolist(), strict=True):
        offsets[i] = place
    total = max((place + size for place, size in zip(offsets, sizes, strict=True)), default=0)
    return Plan(tuple(offsets), total, peak)


def _best_gap(taken: list[tuple[int, int]], size: int) -> int:
    best, best_waste, end = None, None, 0
    unit = alignment(size)
    for start, stop in taken:
        place = -(-end // unit) * unit
        if start - place >= size and (best_waste is None or start - end - size < best_waste):
            best, best_waste = place, start - end - size
        end = max(end, stop)
    return -(-end // unit) * unit if best is None else best


def alignment(nbytes: int) -> int:
    """Of a value: that of its elements at least, and cache lines where they waste little."""
    if nbytes >= _SMALL:
        return ALIGNMENT
    return min(nbytes & -nbytes, ALIGNMENT) or ALIGNMENT
