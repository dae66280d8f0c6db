"""Which convolutions graphc computes by kernels of their own, and along which axis they go.

Such a kernel keeps a tile of results in registers over the whole sum, as a matrix product does;
its sum runs over channels and window, and no image is copied into columns.

``rows``: vectors of neighbouring results, filters times vectors in a tile. One call an image, so
what follows runs over the image while it is in the cache. ``sums``: vectors along the window,
which is wide in the gradient of the weights (there it is an image); each result is the sum of
one vector in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphc.ir.dims import DimLike, product
from graphc.ir.node import Node

_VECTOR = 64  # bytes of the widest vector of any processor
_MAX_STEP = 4  # between lanes: what lies between is read too
_SUM_OF_LANES = 4  # steps that the sum of a vector's lanes costs


@dataclass(frozen=True)
class Convolution:
    """``out[i, f, *p] = sum over c, *k of x[i, c, *(p * stride + k * dilation)] * w[f, c, *k]`` of
    ``images`` by ``filters`` results; strides are in elements of memory."""

    method: str
    images: int
    filters: int
    channels: int | None  # None: known at run time
    places: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    x_strides: tuple[int, ...]  # of image, channel and each axis
    w_strides: tuple[int, int]  # of filter and channel

    @property
    def steps(self) -> list[int]:
        """Between the elements of x that neighbouring results read."""
        return [s * t for s, t in zip(self.x_strides[2:], self.stride, strict=True)]

    @property
    def reaches(self) -> list[int]:
        """Between the elements of x that neighbouring elements of the window meet."""
        return [s * d for s, d in zip(self.x_strides[2:], self.dilation, strict=True)]


def operand(x: Node) -> tuple[Node, bool]:
    """What a convolution reads for an operand, and whether with its first two axes exchanged: an
    exchange is a matter of strides."""
    if x.op == "transpose" and x.attr("perm") == (1, 0, *range(2, x.ndim)):
        return x.inputs[0], True
    return x, False


def by_image(node: Node) -> bool:
    """Whether a node is a convolution that is computed image by image."""
    return node.op == "conv" and convolution(node).method == "rows"


def convolution(node: Node) -> Convolution | None:
    """The cheaper kernel for a ``conv``; None where sizes that it needs are unknown."""
    kinds = [c for c in (_rows(node), _sums(node)) if c is not None]
    return min(kinds, key=lambda c: _cost(c, node.dtype.itemsize)) if kinds else None


def image_stride(node: Node) -> DimLike:
    """Between the images that a ``conv`` reads, in elements."""
    return _strides(node.inputs[0])[0]


def _rows(node: Node) -> Convolution | None:
    known = (*node.inputs[0].shape[1:], *node.inputs[1].shape)
    return _made(node, "rows", 1, known, node.attr("stride")[-1])


def _sums(node: Node) -> Convolution | None:
    x, w = node.inputs
    known = (x.shape[0], *x.shape[2:], w.shape[0], *w.shape[2:])
    return _made(node, "sums", x.shape[0], known, node.attr("dilation")[-1])


def _made(node: Node, method: str, images, known, step: int) -> Convolution | None:
    x, w = node.inputs
    if node.dtype not in (np.float32, np.float64) or step > _MAX_STEP:
        return None
    if not all(isinstance(d, int) and d > 0 for d in (*known, *node.shape[2:])):
        return None
    (x_image, x_channel), (w_filter, w_channel) = _strides(x), _strides(w)
    x_image = 0 if images == 1 else x_image
    w_filter = 0 if w.shape[0] == 1 else w_filter
    one_channel = x.shape[1] == 1
    x_channel, w_channel = (0, 0) if one_channel else (x_channel, w_channel)
    if not all(isinstance(d, int) for d in (x_image, x_channel, w_filter, w_channel)):
        return None
    axes = [product(x.shape[axis + 1 :]) for axis in range(2, x.ndim)]
    channels = x.shape[1] if isinstance(x.shape[1], int) else None
    return Convolution(
        method, images, w.shape[0], channels, node.shape[2:], w.shape[2:],
        node.attr("stride"), node.attr("dilation"),
        (x_image, x_channel, *axes), (w_filter, w_channel),
    )  # fmt: skip


def _strides(x: Node) -> tuple[DimLike, DimLike]:
    """Of the first two axes in memory."""
    size = product(x.shape[2:])
    return (size, x.shape[0] * size) if operand(x)[1] else (x.shape[1] * size, size)


def _cost(c: Convolution, itemsize: int) -> float:
    """Lanes that compute for each one that counts."""
    lanes = _VECTOR // itemsize
    if c.method == "rows":
        return _padded(c.places[-1], lanes)
    steps = -(-c.window[-1] // lanes) * product(c.window[:-1]) * (c.channels or lanes)
    return _padded(c.window[-1], lanes) * (1 + _SUM_OF_LANES / steps)


def _padded(size: int, lanes: int) -> float:
    return -(-size // lanes) * lanes / size
