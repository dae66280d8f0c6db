"""Kernels that are algorithms rather than loop nests, written once in the machine's vocabulary.

A routine is the body of one function over its buffers and sizes (``schedule/library.py`` names
them). Like all generated code it runs as plain Python and compiled.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from graphc.codegen.fourier import dft_text

# NumPy's order: NaN comes last.
_BEFORE = "({0} < {1} or ({1} != {1} and {0} == {0}))"


def _before(a: str, b: str) -> str:
    return _BEFORE.format(a, b)


# Stable: runs of 16 by insertion, then merged in pairs through `merged`.
_ARGSORT = f"""\
for row in range(rows):
    at = row * n
    first = 0
    while first < n:
        end = smaller(first + 16, n)
        for k in range(first, end):
            key = keys[at + k]
            place = k
            while place > first and {_before("key", "keys[at + out[at + place - 1]]")}:
                out[at + place] = out[at + place - 1]
                place = place - 1
            out[at + place] = k
        first = end
    width = 16
    while width < n:
        first = 0
        while first < n:
            middle = smaller(first + width, n)
            end = smaller(first + 2 * width, n)
            left = first
            right = middle
            for k in range(first, end):
                take_left = left < middle
                if take_left and right < end:
                    x = keys[at + out[at + left]]
                    y = keys[at + out[at + right]]
                    take_left = not {_before("y", "x")}
                if take_left:
                    merged[k] = out[at + left]
                    left = left + 1
                else:
                    merged[k] = out[at + right]
                    right = right + 1
            first = end
        for k in range(n):
            out[at + k] = merged[k]
        width = 2 * width"""


def _search(side: str) -> str:
    goes_right = _before("x", "value") if side == "left" else f"not {_before('value', 'x')}"
    return f"""\
for k in range(count):
    value = values[k]
    low = 0
    high = n
    while low < high:
        middle = (low + high) >> 1
        x = table[middle]
        if {goes_right}:
            low = middle + 1
        else:
            high = middle
    out[k] = low"""


ROUTINES: dict[str, Callable[[dict], str]] = {
    "argsort": lambda attrs: _ARGSORT,
    "dft": dft_text,
    "searchsorted": lambda attrs: _search(attrs["side"]),
}


def routine_text(op: str, attrs: dict, parameters: list[str]) -> str:
    """The function ``kernel`` of one row."""
    body = textwrap.indent(ROUTINES[op](attrs), "    ")
    return f"def kernel({', '.join(parameters)}):\n{body}"
