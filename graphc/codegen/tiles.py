"""How a matrix product is cut into tiles that the processor's registers hold.

A tile is ``rows`` by ``vectors`` of C, kept in registers over the whole sum: each step loads
``vectors`` of a row of B, broadcasts ``rows`` elements of A and multiplies each with each.
Columns are walked in panels of one tile's width. See Goto and van de Geijn, "Anatomy of
high-performance matrix multiplication" (2008); with shapes known when compiling, the tile is
chosen for each shape.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

WORK_COLUMNS = 64  # no panel is wider, on any processor
_USUAL_ROWS = 64  # stands for a number of rows that is known at run time only
_RUN_TIME_TILE = 8  # rows of a tile then: a divisor of usual batches
_MAX_TILE_ROWS = 16
LATENCY = 8  # multiply-adds in flight that two units keep busy
_MAX_VECTORS = 6  # side by side or below each other in the tile of a convolution
_MAX_PLACES = 8  # whose addresses are in registers
_EQUAL = 0.999  # times of two tilings that are the same
_MOVED = 4  # elements, of which rows of a packed A are made
_PER_STEP = 1.0  # cycles a step of the sum, for what is neither load nor arithmetic


@dataclass(frozen=True)
class Registers:
    """Vector registers of a processor: how many, and their bytes."""

    count: int
    nbytes: int

    def lanes(self, itemsize: int) -> int:
        return self.nbytes // itemsize


def registers(features: dict[str, bool]) -> Registers:
    """Of the processor with these features (as LLVM names them)."""
    if features.get("avx512f"):
        return Registers(32, 64)
    if features.get("avx"):
        return Registers(16, 32)
    return Registers(32 if features.get("neon") else 16, 16)


@dataclass(frozen=True)
class Panel:
    """``count`` panels of ``vectors`` side by side from column ``first``; ``live`` lanes of the
    last vector are columns of the matrix."""

    first: int
    count: int
    vectors: int
    live: int


@dataclass(frozen=True)
class Tiling:
    rows: int
    panels: tuple[Panel, ...]


@functools.cache
def tiling(m: int | None, n: int, lanes: int, registers: int) -> Tiling:
    """The tiling of an ``m`` by ``n`` result (``m`` None: known at run time) with the least
    estimated time."""
    return _best_tilings(m, (n,), lanes, registers, _row_choices(m))[0]


@functools.cache
def packed_tilings(
    m: int | None, columns: tuple[int, ...], lanes: int, registers: int
) -> tuple[Tiling, ...]:
    """Tilings of results side by side, all of as many rows: for these A is packed. Rows that are
    no multiple of 4 take more than two moves each."""
    rows = _row_choices(m)
    whole = [r for r in rows if r % _MOVED == 0]
    return _best_tilings(m, columns, lanes, registers, whole or rows)


def _best_tilings(m, columns, lanes: int, registers: int, choices) -> tuple[Tiling, ...]:
    best, best_cycles = (), 0.0
    for rows in choices:
        found = [_best_panels(m, n, rows, lanes, registers) for n in columns]
        cycles = sum(c for _, c in found)
        if not best or cycles < best_cycles * _EQUAL:
            best = tuple(Tiling(rows, panels) for panels, _ in found)
            best_cycles = cycles
    return best


def _best_panels(m, n: int, rows: int, lanes: int, registers: int):
    """The panels of tiles of ``rows`` rows, and their cycles."""
    best, best_cycles = (), math.inf
    widest = max(1, min(WORK_COLUMNS // lanes, -(-n // lanes)))
    for vectors in range(1, widest + 1):
        if rows * vectors + vectors + 1 > registers and (rows, vectors) != (1, 1):
            continue
        panels = _panels(n, vectors, lanes)
        usual = _USUAL_ROWS if m is None else m
        steps = -(-usual // rows)
        cycles = steps * sum(p.count * _cycles(rows, p.vectors) for p in panels)
        # Of equals the one with fewer panels: they are compiled, and read A, once each.
        if cycles < best_cycles * _EQUAL:
            best, best_cycles = panels, cycles
    return best, best_cycles


def _row_choices(m: int | None) -> range:
    if m is None:
        return range(_RUN_TIME_TILE, 0, -1)
    return range(max(1, min(m, _MAX_TILE_ROWS)), 0, -1)


def _panels(n: int, vectors: int, lanes: int) -> tuple[Panel, ...]:
    """Panels of ``vectors``, then one with the vectors left or with a partly filled one."""
    total, live = -(-n // lanes), (n - 1) % lanes + 1
    whole, rest = divmod(total, vectors)
    if not rest and live != lanes:
        whole, rest = whole - 1, vectors
    panels = []
    if whole:
        panels.append(Panel(0, whole, vectors, lanes))
    if rest:
        panels.append(Panel(whole * vectors * lanes, 1, rest, live))
    return tuple(panels)


def _cycles(rows: int, vectors: int) -> float:
    """Of one step of a tile: two multiply-adds a cycle, or two loads."""
    arithmetic = max(rows * vectors, LATENCY) / 2
    # With one vector each broadcast is used once and is the memory operand of its multiply-add;
    # measured, those run at 0.8 of the speed.
    loads = (rows + vectors) / 2 if vectors > 1 else rows / 2 * 1.25 + 1
    return max(arithmetic, loads) + _PER_STEP


@dataclass(frozen=True)
class ImageTile:
    """Of a convolution: ``filters`` by ``rows`` of the result by the vectors of a panel."""

    filters: int
    rows: int
    panels: tuple[Panel, ...]


@functools.cache
def image_tile(filters: int, rows: int, columns: int, lanes: int, registers: int) -> ImageTile:
    """The tile for so many filters and a result of ``rows`` by ``columns``."""
    best, best_cycles = None, 0.0
    for f in range(1, min(filters, _MAX_TILE_ROWS) + 1):
        for vectors in range(1, min(_MAX_VECTORS, -(-columns // lanes)) + 1):
            for r in range(1, min(rows, _MAX_VECTORS // vectors) + 1):
                if (f + 1) * r * vectors + 1 > registers and f * r * vectors > 1:
                    continue
                panels = _panels(columns, vectors, lanes)
                steps = -(-filters // f) * -(-rows // r)
                cycles = steps * sum(p.count * _cycles(f, r * p.vectors) for p in panels)
                if best is None or cycles < best_cycles * 0.999:
                    best, best_cycles = ImageTile(f, r, panels), cycles
    return best


@functools.cache
def sum_tile(filters: int, places: int, registers: int) -> tuple[int, int]:
    """Filters and places whose sums are vectors, each multiplying two vectors from memory."""
    sizes = [
        (f, p)
        for f in range(1, min(filters, _MAX_TILE_ROWS) + 1)
        for p in range(1, min(places, _MAX_PLACES) + 1)
        if f * p + min(f, p) + 1 <= registers
    ]

    def cycles(size):
        f, p = size
        # Vectors of images begin anywhere: most loads touch two lines of the cache.
        step = max(max(f * p, LATENCY) / 2, f + p) + _PER_STEP
        return -(-filters // f) * -(-places // p) * step

    return min(sizes, key=cycles)
