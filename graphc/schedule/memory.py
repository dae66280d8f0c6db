"""All memory is planned: one arena, reused as values die."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.dims import DimLike, evaluate

STATUS_WORDS = 2  # of a program, before its sizes and offsets: a failed check, its value
ALIGNMENT = 64  # a cache line, and the widest vector


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
    live_peak: int  # the largest sum of simultaneously live values: the lower bound


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
    optimization for deep neural networks")."""
    sizes = [_aligned(evaluate(life.nbytes, env)) for life in lives]
    order = sorted(range(len(lives)), key=lambda i: (-sizes[i], lives[i].first, i))
    offsets = [0] * len(lives)
    placed: list[int] = []
    for i in order:
        overlapping = sorted(
            (offsets[j], offsets[j] + sizes[j])
            for j in placed
            if lives[j].first <= lives[i].last and lives[i].first <= lives[j].last
        )
        offsets[i] = _best_gap(overlapping, sizes[i])
        placed.append(i)
    total = max((offsets[i] + sizes[i] for i in range(len(lives))), default=0)
    return Plan(tuple(offsets), total, _live_peak(lives, sizes))


def _best_gap(taken: list[tuple[int, int]], size: int) -> int:
    best, best_waste, end = None, None, 0
    for start, stop in taken:
        if start - end >= size and (best_waste is None or start - end - size < best_waste):
            best, best_waste = end, start - end - size
        end = max(end, stop)
    return end if best is None else best


def _live_peak(lives, sizes) -> int:
    change: dict[int, int] = {}
    for life, size in zip(lives, sizes, strict=True):
        change[life.first] = change.get(life.first, 0) + size
        change[life.last + 1] = change.get(life.last + 1, 0) - size
    peak = alive = 0
    for position in sorted(change):
        alive += change[position]
        peak = max(peak, alive)
    return peak


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
