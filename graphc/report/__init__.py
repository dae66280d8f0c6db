"""Seeing into graphc: every stage of a function as text."""

from graphc.report.inspect import Report, inspect

__all__ = ["Report", "inspect"]


def __dir__() -> list[str]:
    return __all__
