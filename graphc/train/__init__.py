"""Training loops."""

from graphc.train.trainer import FitResult, History, Trainer

__all__ = ["FitResult", "History", "Trainer"]


def __dir__() -> list[str]:
    return __all__
