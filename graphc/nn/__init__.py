"""Layers as plain functions of arrays."""

from graphc.nn.convolution import conv2d, max_pool2d

__all__ = ["conv2d", "max_pool2d"]


def __dir__() -> list[str]:
    return __all__
