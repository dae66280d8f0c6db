"""All of NumPy that traces: importing this module fills the dispatch tables."""

from graphc.trace import (
    composed,
    creation,
    elementwise,
    fourier,
    indexing,
    joining,
    linalg,
    matrices,
    nans,
    ordering,
    reductions,
    shaping,
    taking,
    windows,
)
from graphc.trace.dispatch import FUNCTIONS, UFUNCS, nearest, public_name

__all__ = [
    "FUNCTIONS",
    "UFUNCS",
    "composed",
    "creation",
    "elementwise",
    "fourier",
    "indexing",
    "joining",
    "linalg",
    "matrices",
    "nans",
    "nearest",
    "ordering",
    "public_name",
    "reductions",
    "shaping",
    "supported_names",
    "taking",
    "windows",
]


def supported_names() -> list[str]:
    """The public names of the supported NumPy functions, sorted."""
    own = ("_operator", "graphc")  # keys that are not NumPy's: indexing, ufunc methods
    modules = {f: getattr(f, "__module__", None) or "numpy" for f in FUNCTIONS}
    return sorted({public_name(f) for f in FUNCTIONS if not modules[f].startswith(own)})
