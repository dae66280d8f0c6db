"""The discrete Fourier transform as a row: its type, its meaning and the plan of its kernel.

``dft(x, table)`` takes real arrays ``[..., 2, n, inner]``, real parts before imaginary ones, and
sums ``z[k] * exp(-2j*pi*j*k/n)`` over axis -2 (``inverse``: with the other sign), unnormalised. It
is linear, and its adjoint is the transform of the other direction. ``table`` holds the sines and
cosines of its plan: a kernel computes none and knows no dtype.

A plan is passes of butterflies (Stockham: no bit reversal) that read n / radix numbers a stride
apart and write them in order. Each runs over contiguous elements for all ``span`` of what passes
before have made; a lone transform is split in two of about sqrt(n) elements with a transposition
between (Bailey 1990, "FFTs in external or hierarchical memory"), so that no span is short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from graphc.errors import ShapeError
from graphc.ir.types import TensorType

RADICES = (4, 2, 3, 5, 7, 11, 13)
_SPLIT_FROM = 64


def radices(n: int) -> list[int] | None:
    """The radices of the passes of a transform of n elements; None where n has a larger prime."""
    found = []
    for radix in RADICES:
        while n % radix == 0:
            found.append(radix)
            n //= radix
    return found if n == 1 else None


@dataclass(frozen=True)
class Pass:
    """Butterflies of one radix: ``rest`` of them for each of ``span`` (times inner) elements."""

    radix: int
    rest: int
    span: int
    twiddles: int  # where they are in the table


@dataclass
class Plan:
    """Passes before and after the transposition (``split``: (rows, columns), its twiddles)."""

    first: list[Pass] = field(default_factory=list)
    split: tuple[int, int, int] | None = None
    second: list[Pass] = field(default_factory=list)
    roots: dict[int, int] = field(default_factory=dict)  # of odd radices, in the table
    table: np.ndarray = field(default_factory=lambda: np.zeros(0))


@lru_cache(maxsize=64)
def plan(n: int, single: bool) -> Plan:
    """The plan for n elements; ``single``: of one column."""
    made, parts = Plan(), []

    def store(turns: np.ndarray, of: int) -> int:
        at = sum(p.size for p in parts)
        cosine, sine = unit_roots(turns, of)
        parts.extend([cosine.reshape(-1), sine.reshape(-1)])
        return at

    def passes(count: int, span: int) -> list[Pass]:
        found, left = [], count
        for radix in radices(count):
            rest = left // radix
            places = np.arange(rest)
            at = -1
            for k in range(1, radix) if rest > 1 else ():
                start = store(places * k, left)
                at = start if k == 1 else at
            found.append(Pass(radix, rest, span, at))
            left, span = rest, span * radix
        return found

    rows = _rows(n) if single else 1
    if rows > 1:
        columns = n // rows
        made.first = passes(rows, columns)
        at = store(np.outer(np.arange(columns), np.arange(rows)), n)
        made.split = rows, columns, at
        made.second = passes(columns, rows)
    else:
        made.first = passes(n, 1)
    for radix in sorted({p.radix for p in (*made.first, *made.second) if p.radix % 2}):
        made.roots[radix] = store(np.arange(1, radix // 2 + 1), radix)
    made.table = np.concatenate(parts) if parts else np.zeros(1)
    return made


def _rows(n: int) -> int:
    """The divisor of n next to its root, 1 where a split would not pay."""
    if n < _SPLIT_FROM:
        return 1
    divisors = [d for d in range(8, math.isqrt(n) + 1) if n % d == 0]
    return divisors[-1] if divisors else 1


def unit_roots(turns: np.ndarray, of: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of ``2 pi turns / of``, each rounded once."""
    turns = np.asarray(turns, np.int64) % of
    quarter = (8 * turns + of) // (2 * of)
    angle = (4 * turns - quarter * of) * (math.pi / (2 * of))
    cosine, sine = np.cos(angle), np.sin(angle)
    quarter = quarter % 4
    return (
        np.choose(quarter, [cosine, -sine, -cosine, sine]),
        np.choose(quarter, [sine, cosine, -sine, -cosine]),
    )


def infer_dft(attrs, x: TensorType, table: TensorType) -> TensorType:
    n, single = attrs["n"], attrs["single"]
    fits = x.ndim >= 3 and x.shape[-3] == 2 and x.shape[-2] == n
    if not fits or x.dtype.kind != "f" or (single and x.shape[-1] != 1):
        raise ShapeError(f"dft of {n} elements takes floats [..., 2, {n}, inner], not {x}")
    if table != TensorType(x.dtype, plan(n, bool(single)).table.shape):
        raise ShapeError(f"dft: {table} is not the table of {n} elements")
    return x


def evaluate_dft(node, env, x, table):
    z = np.empty((*x.shape[:-3], *x.shape[-2:]), np.result_type(x.dtype, np.complex64))
    z.real, z.imag = x[..., 0, :, :], x[..., 1, :, :]
    if z.size:
        way = np.fft.ifft if node.attr("inverse") else np.fft.fft
        z = way(z, axis=-2, norm="forward" if node.attr("inverse") else "backward")
    return np.stack([z.real, z.imag], axis=-3)
