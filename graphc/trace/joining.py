"""Functions that join, split, repeat and pad, and what is made of parts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from graphc.errors import ShapeError, SymbolicDimError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.dims import Dim, exact_div
from graphc.ir.node import Node
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast, converted
from graphc.trace.elementwise import broadcast_shapes
from graphc.trace.shaping import along, atleast_2d, broadcast_to, dims_of, moveaxis, part
from graphc.wording import shape_text

# --------------------------------------------------------------------------- join and split


def join(context, values, axis, dtype=None) -> Node:
    tracers = [context.lift(v) for v in values]
    if not tracers:
        raise ShapeError("need at least one array to join")
    dtype = np.dtype(dtype) if dtype is not None else np.result_type(*(t.dtype for t in tracers))
    first = tracers[0]
    for t in tracers[1:]:
        if t.ndim != first.ndim:
            raise ShapeError(
                f"concatenate: {shape_text(first.shape)} and {shape_text(t.shape)} have different "
                "numbers of axes"
            )
        for i, (d, e) in enumerate(zip(first.shape, t.shape, strict=True)):
            if i != axis and d != e:
                if isinstance(d, Dim) or isinstance(e, Dim):
                    raise SymbolicDimError(f"concatenate: sizes {d} and {e} must be known")
                raise ShapeError(
                    f"concatenate along axis {axis}: {shape_text(first.shape)} and "
                    f"{shape_text(t.shape)} differ on axis {i}: {d} != {e}"
                )
    return build.concat([cast(t.node, dtype) for t in tracers], axis)


def elements(values) -> list:
    """The arrays of a sequence argument (a tracer is a sequence along its first axis)."""
    return list(values)


@implements(np.concatenate, getattr(np, "concat", None))
def concatenate(context, arrays, axis=0, *, dtype=None, casting="same_kind"):
    values = [context.lift(a) for a in elements(arrays)]
    if axis is None:
        values, axis = [v.ravel() for v in values], 0
    if any(not v.ndim for v in values):
        raise ShapeError("zero-dimensional arrays cannot be concatenated; use np.stack")
    return context.wrap(join(context, values, normalize_axis_index(axis, values[0].ndim), dtype))


@implements(np.stack)
def stack(context, arrays, axis=0, *, dtype=None, casting="same_kind"):
    values = [context.lift(a) for a in elements(arrays)]
    if not values:
        raise ShapeError("need at least one array to stack")
    for v in values:
        if v.shape != values[0].shape:
            raise ShapeError(
                f"stack: all arrays must have one shape, not {shape_text(values[0].shape)} and "
                f"{shape_text(v.shape)}"
            )
    axis = normalize_axis_index(axis, values[0].ndim + 1)
    shape = list(values[0].shape)
    shape.insert(axis, 1)
    return context.wrap(join(context, [v.reshape(shape) for v in values], axis, dtype))


@implements(np.vstack, getattr(np, "row_stack", None))
def vstack(context, tup, *, dtype=None, casting="same_kind"):
    return context.wrap(join(context, [atleast_2d(context, a) for a in elements(tup)], 0, dtype))


@implements(np.hstack)
def hstack(context, tup, *, dtype=None, casting="same_kind"):
    values = [context.lift(a) for a in elements(tup)]
    values = [v if v.ndim else v.reshape(1) for v in values]
    return context.wrap(join(context, values, 0 if values and values[0].ndim == 1 else 1, dtype))


@implements(np.column_stack)
def column_stack(context, tup):
    values = [context.lift(a) for a in elements(tup)]
    values = [v if v.ndim > 1 else v.reshape(-1, 1) for v in values]
    return context.wrap(join(context, values, 1))


@implements(np.append)
def append(context, arr, values, axis=None):
    return concatenate(context, (arr, values), axis)


def _split(context, ary, indices_or_sections, axis, equal):
    x = context.lift(ary)
    axis = normalize_axis_index(axis, x.ndim)
    if hasattr(indices_or_sections, "__len__"):
        bounds = [0, *(i.__index__() for i in indices_or_sections), None]
    else:
        sections, size = indices_or_sections.__index__(), x.shape[axis]
        if equal and isinstance(size, Dim) and exact_div(size, sections) is not None:
            each = exact_div(size, sections)
            bounds = [each * i for i in range(sections)] + [size]
        else:
            size = size.__index__()
            if equal and size % sections:
                raise ShapeError(
                    f"split: axis {axis} of size {size} does not divide into {sections} parts; "
                    "use np.array_split"
                )
            each, extra = divmod(size, sections)
            bounds = [i * each + min(i, extra) for i in range(sections + 1)]
    whole = [slice(None)] * axis
    return [x[(*whole, slice(a, b))] for a, b in pairwise(bounds)]


@implements(np.split)
def split(context, ary, indices_or_sections, axis=0):
    return _split(context, ary, indices_or_sections, axis, True)


@implements(np.array_split)
def array_split(context, ary, indices_or_sections, axis=0):
    return _split(context, ary, indices_or_sections, axis, False)


@implements(np.hsplit)
def hsplit(context, ary, indices_or_sections):
    axis = 1 if context.lift(ary).ndim > 1 else 0
    return _split(context, ary, indices_or_sections, axis, True)


implements(np.vsplit)(lambda context, ary, parts: _split(context, ary, parts, 0, True))


@implements(getattr(np, "unstack", None))
def unstack(context, x, *, axis=0):
    return tuple(moveaxis(context, x, axis, 0))


# ----------------------------------------------------------------------------- repeat and pad


@implements(np.tile)
def tile(context, A, reps):
    x = context.lift(A)
    reps = dims_of(reps)
    ndim = max(x.ndim, len(reps))
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    reps = (1,) * (ndim - len(reps)) + reps
    node = build.reshape(x.node, shape)
    interleaved = [d for pair in zip(reps, shape, strict=True) for d in pair]
    node = build.broadcast(node, interleaved, range(1, 2 * ndim, 2))
    return context.wrap(build.reshape(node, [r * d for r, d in zip(reps, shape, strict=True)]))


@implements(np.repeat)
def repeat(context, a, repeats, axis=None):
    x = context.lift(a)
    x, axis = along(x, axis)
    if hasattr(repeats, "__len__") and len(repeats) > 1:
        index = np.repeat(np.arange(x.shape[axis].__index__()), np.asarray(repeats))
        return context.wrap(build.take(x.node, build.const(index), axis))
    count = repeats[0] if hasattr(repeats, "__len__") else repeats
    count = count if isinstance(count, Dim) else count.__index__()
    shape = list(x.shape)
    wide = [*shape[: axis + 1], count, *shape[axis + 1 :]]
    node = build.broadcast(x.node, wide, [i for i in range(x.ndim + 1) if i != axis + 1])
    shape[axis] = shape[axis] * count
    return context.wrap(build.reshape(node, shape))


@implements(np.pad)
def pad(
    context, array, pad_width, mode="constant", *, constant_values=0, end_values=0,
    stat_length=None, reflect_type="even",
):  # fmt: skip
    x = context.lift(array)
    node = x.node
    widths = _pad_widths(pad_width, node.ndim)
    if mode == "empty":
        mode, constant_values = "constant", 0
    if mode == "constant":
        fills = _pad_fills(context, constant_values, node.dtype, node.ndim)
        if all(f is fills[0][0] for pair in fills for f in pair):
            low, high = zip(*widths, strict=True) if widths else ((), ())
            return context.wrap(build.pad(node, low, high, fill=fills[0][0]))
        for axis, ((low, high), (before, after)) in enumerate(zip(widths, fills, strict=True)):
            for amount, fill, at_end in ((low, before, False), (high, after, True)):
                zeros = [0] * node.ndim
                grown = [amount if i == axis else 0 for i in range(node.ndim)]
                sides = (zeros, grown) if at_end else (grown, zeros)
                node = build.pad(node, *sides, fill=fill)
        return context.wrap(node)
    if any(size == 0 and any(w) for size, w in zip(node.shape, widths, strict=True)):
        raise ShapeError(f"np.pad: mode={mode!r} has nothing to extend of {shape_text(node.shape)}")
    if mode in _STATISTICS:
        return _pad_statistics(context, x, widths, mode, stat_length)
    if mode == "linear_ramp":
        return _pad_ramps(context, x, widths, _pad_fills(context, end_values, None, node.ndim))
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        available = ", ".join(["constant", "edge", "reflect", "symmetric", "wrap", "linear_ramp",
                               *_STATISTICS])  # fmt: skip
        raise TraceError(f"np.pad with mode={mode!r} is not supported; supported: {available}")
    if reflect_type not in ("even", "odd"):
        raise TraceError(f"np.pad: unknown reflect_type {reflect_type!r}; available: even, odd")
    if reflect_type == "odd" and mode in ("reflect", "symmetric"):
        return _pad_odd(context, x, widths, mode)
    for axis, (low, high) in enumerate(widths):
        if low or high:
            node = _pad_axis(node, axis, low, high, mode)
    return context.wrap(node)


def _pad_odd(context, x, widths, mode: str):
    """Reflected at both ends: an element beyond an end is twice the end less its mirror image.

    How often the ends and the image count is what NumPy makes of the elements of an identity.
    """
    for axis, width in enumerate(widths):
        size = x.shape[axis].__index__()
        sides = [(0, 0), width]
        weights = np.pad(np.eye(size), sides, mode=mode, reflect_type="odd")
        moved = np.moveaxis(x, axis, -1)
        x = np.moveaxis((moved @ weights.astype(x.dtype)), -1, axis)
    return x


_STATISTICS = {"mean": np.mean, "maximum": np.max, "minimum": np.min, "median": np.median}


def _pad_statistics(context, x, widths, mode: str, stat_length):
    lengths = _pad_widths(stat_length, x.ndim) if stat_length is not None else [(None, None)] * (
        x.ndim)  # fmt: skip
    for axis, ((low, high), (first, last)) in enumerate(zip(widths, lengths, strict=True)):
        size = x.shape[axis].__index__()
        pieces = []
        for amount, length, at_end in ((low, first, False), (high, last, True)):
            length = size if length is None else min(length, size)
            chosen = part(x.node, axis, size - length if at_end else 0, length)
            value = _STATISTICS[mode](context.wrap(chosen), axis=axis, keepdims=True)
            if x.dtype.kind in "iu" and mode in ("mean", "median"):
                value = np.round(value)
            shape = [amount if i == axis else d for i, d in enumerate(x.shape)]
            pieces.append(np.broadcast_to(value.astype(x.dtype), shape))
        x = np.concatenate([pieces[0], x, pieces[1]], axis=axis)
    return x


def _pad_ramps(context, x, widths, ends):
    for axis, ((low, high), (before, after)) in enumerate(zip(widths, ends, strict=True)):
        size = x.shape[axis]
        edges = (part(x.node, axis, 0, 1), part(x.node, axis, size - 1, 1))
        ramps = []
        for amount, end, edge in ((low, before, edges[0]), (high, after, edges[1])):
            steps = np.linspace(context.wrap(cast(end, x.dtype)),
                                np.squeeze(context.wrap(edge), axis), amount, endpoint=False,
                                dtype=x.dtype, axis=axis)  # fmt: skip
            ramps.append(steps)
        x = np.concatenate([ramps[0], x, np.flip(ramps[1], axis)], axis=axis)
    return x


def _pad_widths(pad_width, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        widths = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            pair = (width, width) if isinstance(width, int) else tuple(width)
            widths[normalize_axis_index(axis, ndim)] = pair
        return widths
    pairs = np.broadcast_to(np.asarray(pad_width), (ndim, 2)).tolist()
    if any(w < 0 for pair in pairs for w in pair):
        raise ShapeError("np.pad: widths cannot be negative")
    return [(low, high) for low, high in pairs]


def _pad_fills(context, values, dtype, ndim: int) -> list[tuple[Node, Node]]:
    value = context.lift(values)
    value = value if dtype is None else context.wrap(converted(value, dtype))
    if not value.ndim:
        return [(value.node, value.node)] * max(ndim, 1)
    pairs = np.broadcast_to(value, (ndim, 2))
    return [(pairs[i, 0].node, pairs[i, 1].node) for i in range(ndim)]


def _pad_axis(x: Node, axis: int, low: int, high: int, mode: str) -> Node:
    size = x.shape[axis]
    if size == 0:
        raise ShapeError(f"np.pad: mode={mode!r} has nothing to repeat on the empty axis {axis}")
    if mode == "edge":
        first, last = part(x, axis, 0, 1), part(x, axis, size - 1, 1)
        pieces = [_repeated(first, axis, low), x, _repeated(last, axis, high)]
    else:
        order = np.pad(np.arange(size.__index__()), (low, high), mode=mode)
        return build.take(x, build.const(order), axis)
    return build.concat([p for p in pieces if p.shape[axis] != 0], axis)


def _repeated(x: Node, axis: int, count: int) -> Node:
    shape = [count if i == axis else d for i, d in enumerate(x.shape)]
    return build.broadcast_to(x, shape)


# ------------------------------------------------------------------ differences and triangles


@implements(np.diff)
def diff(context, a, n=1, axis=-1, prepend=None, append=None):
    x = context.lift(a)
    axis = normalize_axis_index(axis, x.ndim)
    if n == 0:
        return x
    if n < 0:
        raise ValueError(f"np.diff: n, the number of differences, cannot be negative: {n}")
    pieces = []
    for value in (prepend, x, append):
        if value is None or value is np._NoValue:
            continue
        value = context.lift(value)
        if not value.ndim:
            shape = [1 if i == axis else d for i, d in enumerate(x.shape)]
            value = broadcast_to(context, value, shape)
        pieces.append(value)
    node = join(context, pieces, axis)
    for _ in range(n):
        if node.shape[axis] == 0:
            break
        size = node.shape[axis] - 1
        name = "ne" if node.dtype == bool else "sub"
        node = op(name, part(node, axis, 1, size), part(node, axis, 0, size))
    return context.wrap(node)


def band(shape, k: int) -> Node:
    """True where column - row <= k, on the last two axes."""
    ndim = len(shape)
    rows, columns = build.iota(shape, ndim - 2), build.iota(shape, ndim - 1)
    return op("le", columns, op("add", rows, build.full_like(rows, k)))


def _matrix(x: Node) -> Node:
    """A vector counts as the row of which each row of a square matrix is a copy."""
    return build.broadcast(x, (*x.shape, *x.shape), (1,)) if x.ndim == 1 else x


@implements(np.tril)
def tril(context, m, k=0):
    x = _matrix(context.lift(m).node)
    return context.wrap(op("where", band(x.shape, k), x, build.full_like(x, 0)))


@implements(np.triu)
def triu(context, m, k=0):
    x = _matrix(context.lift(m).node)
    return context.wrap(op("where", band(x.shape, k - 1), build.full_like(x, 0), x))


@implements(np.meshgrid)
def meshgrid(context, *xi, copy=True, sparse=False, indexing="xy"):
    arrays = [context.lift(x).ravel() for x in xi]
    ndim = len(arrays)
    place = list(range(ndim))
    if indexing == "xy" and ndim > 1:
        place[:2] = [1, 0]
    grids = []
    for array, axis in zip(arrays, place, strict=True):
        grids.append(array.reshape([-1 if i == axis else 1 for i in range(ndim)]))
    if not sparse:
        shape = broadcast_shapes("meshgrid", *(g.shape for g in grids))
        grids = [broadcast_to(context, g, shape) for g in grids]
    return tuple(g.copy() for g in grids) if copy else tuple(grids)
