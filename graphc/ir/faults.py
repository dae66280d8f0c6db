"""What a program refuses at run time, as texts: ``OverflowError: {value} is out of bounds``.

``{value}`` stands for the number that was refused. A node that can refuse has such a text, compiled
code reports which one and the number, and whoever made the call raises :func:`error`.
"""

from __future__ import annotations

import numpy as np

_KINDS = {
    "LinAlgError": np.linalg.LinAlgError,
    "OverflowError": OverflowError,
    "ValueError": ValueError,
    "ZeroDivisionError": ZeroDivisionError,
}
NEGATIVE_POWER = (
    "ValueError: Integers to negative integer powers are not allowed: x ** {value}; "
    "write x.astype(float)"
)


def out_of_bounds(dtype: np.dtype) -> str:
    """Of a Python int that an array's dtype does not hold, in NumPy's words."""
    return f"OverflowError: Python integer {{value}} out of bounds for {dtype}"


def error(text: str) -> Exception | None:
    """The exception that ``text`` names; None where it names none."""
    kind, separator, message = text.partition(": ")
    return _KINDS[kind](message) if separator and kind in _KINDS else None


class Refused(Exception):
    """Raised by the meaning of a row that refuses its operands."""

    def __init__(self, text: str, value: object):
        super().__init__(text, value)
        self.error = error(text.replace("{value}", str(value)))
