"""Training loops."""

from graphc.train.result import FitResult, History, Series
from graphc.train.trainer import StopTraining, Trainer

__all__ = ["FitResult", "History", "Series", "StopTraining", "Trainer"]


def __dir__() -> list[str]:
    return __all__
