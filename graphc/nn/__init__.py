"""Layers as plain functions of arrays."""

from graphc.nn.convolution import conv2d, max_pool2d

__all__ = ["conv2d", "max_pool2d"]
