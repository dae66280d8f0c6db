"""Training loops."""

from graphc.train.trainer import FitResult, History, Trainer

__all__ = ["FitResult", "History", "Trainer"]
