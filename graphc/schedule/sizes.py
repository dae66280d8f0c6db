"""Sizes where a rough one is enough."""

from __future__ import annotations

from graphc.ir.dims import DimLike, evaluate

_NOMINAL_DIM = 64  # stands for a symbolic dimension


def nominal(dim: DimLike) -> int:
    """A size for estimates."""
    return evaluate(dim, _Nominal())


class _Nominal(dict):
    def __missing__(self, key):
        return _NOMINAL_DIM
