"""All of NumPy that traces: importing this module fills the dispatch tables."""

from graphc.trace import creation, elementwise, indexing, linalg, reductions, shaping
from graphc.trace.dispatch import FUNCTIONS, UFUNCS, nearest, public_name

__all__ = [
    "FUNCTIONS",
    "UFUNCS",
    "creation",
    "elementwise",
    "indexing",
    "linalg",
    "nearest",
    "public_name",
    "reductions",
    "shaping",
    "supported_names",
]


def supported_names() -> list[str]:
    """The public names of the supported NumPy functions, sorted."""
    functions = [f for f in FUNCTIONS if getattr(f, "__module__", "") != "_operator"]
    return sorted({public_name(f) for f in functions})
