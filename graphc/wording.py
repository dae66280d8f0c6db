"""How messages and reports name values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``count`` and the noun in its number.

    >>> counted(1, "kernel"), counted(0, "kernel"), counted(2, "temporary", "temporaries")
    ('1 kernel', '0 kernels', '2 temporaries')
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def shape_text(shape: Iterable) -> str:
    """As NumPy shows it; sizes that are not known have their names.

    >>> shape_text(["n"]), shape_text((3, 4))
    ('(n,)', '(3, 4)')
    """
    sizes = list(map(str, shape))
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


def type_text(value: Any) -> str:
    """Dtype and shape of a value or type, as users name them.

    >>> import numpy as np
    >>> type_text(np.zeros((10, 3)))
    'float64[10,3]'
    """
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def kind_of(value: Any) -> str:
    """What a value is, where another one was needed.

    >>> kind_of([1, 2]), kind_of(None), kind_of("text")
    ('a list of 2', 'None', 'a str')
    """
    if value is None:
        return "None"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    shape = getattr(value, "shape", None)
    name = type(value).__name__
    article = "an" if name[:1] in "aeiou" else "a"
    if shape is None:
        return f"{article} {name}"
    return f"an array of shape {shape_text(shape)}" if len(shape) else "one number"
