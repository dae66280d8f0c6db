"""Sliding windows and convolutions."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from graphc.errors import ShapeError, TraceError
from graphc.ir import build
from graphc.ir.node import Node
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast, common_dtype, require_real
from graphc.trace.storage import read_only
from graphc.wording import shape_text


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(context, x, window_shape, axis=None, *, subok=False, writeable=False):
    """The windows' own axes come last."""
    x = context.lift(x)
    node = x.node
    widths = tuple(window_shape) if np.iterable(window_shape) else (window_shape,)
    if writeable:
        raise TraceError(
            "sliding_window_view: a traced view cannot be written to; write to the array itself"
        )
    axes = range(node.ndim) if axis is None else normalize_axis_tuple(axis, node.ndim, "axis", True)
    if len(axes) != len(widths):
        raise ShapeError(
            f"sliding_window_view: window_shape {widths} has {len(widths)} sizes for "
            f"{len(axes)} axes of {shape_text(node.shape)}"
        )
    for at, width in zip(axes, widths, strict=True):
        if isinstance(node.shape[at], int) and width > node.shape[at]:
            raise ShapeError(
                f"sliding_window_view: a window of {width} on axis {at} of {shape_text(node.shape)}"
            )

    def read(node: Node) -> Node:
        for at, width in zip(axes, widths, strict=True):
            rank = node.ndim
            node = build.windows(node, at, int(width))  # the offsets come right behind the axis
            node = build.transpose(node, [*(a for a in range(rank + 1) if a != at + 1), at + 1])
        return node

    refused = read_only("sliding_window_view", "Write to the array itself, or take a copy.")
    return x.seen_as(read(node), read, refused)


def conv_node(x: Node, w: Node, stride, padding, dilation) -> Node:
    """Convolution of x [n, c, *s] with w [o, c, *k]; ``padding`` holds (before, after) pairs."""
    low, high = zip((0, 0), (0, 0), *padding)
    return build.conv(build.pad(x, low, high), w, stride, dilation)


def conv(context, x, w, stride, padding, dilation):
    """:func:`conv_node` of traced values, in their common dtype."""
    x, w = context.lift(x), context.lift(w)
    require_real("conv", x, w)
    dtype = common_dtype(x, w)
    return context.wrap(
        conv_node(cast(x.node, dtype), cast(w.node, dtype), stride, padding, dilation)
    )
