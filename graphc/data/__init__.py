"""Reading data for training."""

from graphc.data.idx import load_idx, load_mnist

__all__ = ["load_idx", "load_mnist"]


def __dir__() -> list[str]:
    return __all__
