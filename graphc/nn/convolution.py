"""Convolution and pooling over images [batch, channels, height, width]."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ShapeError
from graphc.interp import evaluate
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.types import TensorType
from graphc.trace import windows
from graphc.trace.context import active_trace, any_tracer, current_trace

Size = int | tuple[int, int]


def conv2d(
    x: Any, w: Any, b: Any = None, *, stride: Size = 1, padding: Size | str = 0, dilation: Size = 1
) -> Any:
    """Cross-correlation of images with a bank of filters, as ``torch.nn.functional.conv2d``.

    Parameters
    ----------
    x : [batch, channels, height, width].
    w : [filters, channels, rows, columns].
    b : [filters] or None, added to each filter's result.
    stride, dilation : steps between windows and between the elements of one; one or two ints.
    padding : zeros around the image, one or two ints, or ``"same"`` (output as large as the
        input; stride 1).

    Returns [batch, filters, rows out, columns out] in the common dtype. Raises ShapeError where
    the shapes do not fit.

    >>> import numpy as np, graphc as gc
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> gc.nn.conv2d(x, np.ones((1, 1, 2, 2)))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    _check_images("conv2d", x)
    if np.ndim(w) != 4 or np.shape(w)[1] != np.shape(x)[1]:
        raise ShapeError(
            f"conv2d: weights {np.shape(w)} for images {np.shape(x)}; expected "
            f"(filters, {np.shape(x)[1]}, rows, columns)"
        )
    strides, dilations = _pair("stride", stride, 1), _pair("dilation", dilation, 1)
    reach = [(k - 1) * d for k, d in zip(np.shape(w)[2:], dilations, strict=True)]
    if padding == "same":
        if strides != (1, 1):
            raise ShapeError(f"conv2d: padding='same' needs stride 1, not {stride}")
        around = tuple((r // 2, r - r // 2) for r in reach)
    elif isinstance(padding, str):
        raise ShapeError(f"conv2d: padding={padding!r}; give numbers or 'same'")
    else:
        around = tuple((p, p) for p in _pair("padding", padding, 0))
    for axis, (r, (low, high)) in enumerate(zip(reach, around, strict=True), 2):
        size = np.shape(x)[axis]
        if isinstance(size, int) and size + low + high < r + 1:
            raise ShapeError(f"conv2d: filters {np.shape(w)} are larger than images {np.shape(x)}")
    out = _convolution(x, w, strides, around, dilations)
    return out if b is None else out + np.reshape(b, (-1, 1, 1))


def max_pool2d(x: Any, size: Size, stride: Size | None = None) -> Any:
    """The largest element of each window; what does not fill a window at the end is left out.

    ``stride`` is ``size`` if not given. Equal largest elements of a window share its gradient.

    >>> import numpy as np, graphc as gc
    >>> gc.nn.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    _check_images("max_pool2d", x)
    rows, columns = _pair("size", size, 1)
    strides = (rows, columns) if stride is None else _pair("stride", stride, 1)
    if strides == (rows, columns):
        batch, channels, height, width = np.shape(x)
        down, across = height // rows, width // columns
        whole = x[:, :, : down * rows, : across * columns]
        blocks = np.reshape(whole, (batch, channels, down, rows, across, columns))
        return np.max(blocks, axis=(3, 5))
    pieces = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), axis=(2, 3))
    return np.max(pieces[:, :, :: strides[0], :: strides[1]], axis=(4, 5))


def _convolution(x, w, *how) -> Any:
    context = current_trace(x, w) if any_tracer((x, w)) else active_trace()
    if context is not None:
        return windows.conv(context, x, w, *how)
    x, w = np.asarray(x), np.asarray(w)
    arrays = [v.astype(np.result_type(x, w), copy=False) for v in (x, w)]
    inputs = [
        build.input(k, name, TensorType(a.dtype, a.shape))
        for k, (name, a) in enumerate(zip("xw", arrays, strict=True))
    ]
    graph = Graph("conv2d", tuple(inputs), (windows.conv_node(*inputs, *how),))
    return evaluate(graph, arrays)[0]


def _check_images(name: str, x: Any) -> None:
    if np.ndim(x) != 4:
        raise ShapeError(f"{name}: images are {np.shape(x)}; expected (batch, channels, rows, "
                         "columns)")  # fmt: skip


def _pair(name: str, value: Size, least: int) -> tuple[int, int]:
    pair = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(pair) != 2 or any(p < least for p in pair):
        raise ShapeError(f"{name}={value}: one or two ints from {least} on")
    return tuple(int(p) for p in pair)
