"""Training loops."""

from graphc.train.trainer import FitResult, History, StopTraining, Trainer

__all__ = ["FitResult", "History", "StopTraining", "Trainer"]


def __dir__() -> list[str]:
    return __all__
