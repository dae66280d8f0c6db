"""What an index means: slices along symbolic axes, integers, masks, index arrays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from graphc.errors import IndexingError, SymbolicDimError, TraceError
from graphc.ir import build
from graphc.ir.dims import Dim, exact_div
from graphc.ir.node import Node
from graphc.trace import blame
from graphc.trace.tracer import Tracer
from graphc.wording import shape_text

# --------------------------------------------------------------------------- symbolic bounds


def minimum(dim) -> int | None:
    """The least value of a dimension (every symbol is at least 1), None where unknown."""
    if not isinstance(dim, Dim):
        return dim
    if any(coeff < 0 for names, coeff in dim.terms if names):
        return None
    return dim.evaluate(dict.fromkeys(dim.symbols, 1))


def _at_least(dim, least: int) -> bool:
    low = minimum(dim)
    return low is not None and low >= least


def slice_bounds(item: slice, size) -> tuple:
    """``(start, length, step)`` of a slice along an axis of ``size``."""
    if isinstance(size, int) and not any(
        isinstance(b, Dim) for b in (item.start, item.stop, item.step)
    ):
        start, stop, step = item.indices(size)
        return start, len(range(start, stop, step)), step
    step = 1 if item.step is None else item.step.__index__()
    unknown = SymbolicDimError(f"slice {item} of an axis of size {size}")
    if step < 0:
        if item.start is None and item.stop is None and step == -1:
            return size - 1, size, -1
        raise unknown
    bounds = []
    for bound, default in ((item.start, 0), (item.stop, size)):
        if bound is None:
            bounds.append(default)
            continue
        bound = bound if isinstance(bound, Dim) else bound.__index__()
        if isinstance(bound, int) and bound < 0:
            bound = size + bound
        if not (_at_least(bound, 0) and _at_least(size - bound, 0)):
            raise unknown
        bounds.append(bound)
    start, stop = bounds
    length = exact_div(stop - start, step)
    if length is None or not _at_least(stop - start, 0):
        raise unknown
    return start, length, step


def position(index: int, axis: int, shape) -> object:
    """An integer index made non-negative; IndexingError outside the axis."""
    size = shape[axis]
    if isinstance(size, Dim):
        if not _at_least(size, index + 1 if index >= 0 else -index):
            raise SymbolicDimError(f"index {index} on an axis of size {size}")
    elif not -size <= index < size:
        raise IndexingError(
            f"index {index} is out of bounds: axis {axis} of shape {shape_text(shape)} has "
            f"size {size}"
        )
    return index if index >= 0 else size + index


# ------------------------------------------------------------------------------ classification


@dataclass(frozen=True, eq=False)
class Basic:
    """A region of slices: one start, size and step an axis; axes of integers are dropped."""

    start: tuple
    size: tuple
    step: tuple
    dropped: tuple[bool, ...]
    slots: tuple[str, ...]  # in result order: "dim" (of the array), "new", "adv"
    apart: bool = False  # advanced indices with a slice between: their axes go first

    def region(self, x: Node) -> Node:
        return build.slice_(x, self.start, self.size, self.step)

    @property
    def shape(self) -> tuple:
        """The shape of the basic part, new axes included."""
        kept = iter([d for d, gone in zip(self.size, self.dropped, strict=True) if not gone])
        return tuple(1 if s == "new" else next(kept) for s in self.slots)

    def read(self, x: Node) -> Node:
        return build.reshape(self.region(x), self.shape)


def _mask_arrays(mask: np.ndarray, axis: int, shape) -> list[np.ndarray]:
    for i, length in enumerate(mask.shape):
        if axis + i >= len(shape):
            raise IndexingError(
                f"the boolean mask has {mask.ndim} axes, the array only {len(shape)}"
            )
        size = shape[axis + i]
        if isinstance(size, Dim):
            raise SymbolicDimError(f"boolean mask on an axis of size {size}")
        if size != length:
            raise IndexingError(
                f"the boolean mask has length {length}, but axis {axis + i} of shape "
                f"{shape_text(shape)} has size {size}"
            )
    return list(mask.nonzero())


def _concrete(item):
    """An index item as int, None, slice, Ellipsis, ndarray or Tracer."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, Dim):
        return item.__index__()
    if isinstance(item, Tracer):
        value = blame.constant_value(item.node)
        if value is None:
            return item
        item = value
    if isinstance(item, bool | np.bool_):
        if item:
            return None  # a mask of no axes: a new axis, along which all is chosen
        raise TraceError("False as an index is not supported; use x[:0]")
    array = np.asarray(item)
    if array.dtype == bool and not array.ndim:
        return _concrete(bool(array))
    if array.dtype == bool:
        return array
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.intp)
    if array.dtype.kind not in "iu":
        kind = item.dtype if hasattr(item, "dtype") else type(item).__name__
        raise IndexingError(
            f"an index must be an integer, slice, None, Ellipsis, integer array or boolean mask, "
            f"not {kind}{_instead(item)}"
        )
    return int(array) if array.ndim == 0 else array


def data_dependent(what: str) -> TraceError:
    return TraceError(
        f"{what}: the size of the result depends on the data, which a static graph cannot hold.\n"
        "Use np.where(mask, x, fill), which keeps the shape, or pass the result as an argument."
    )


def parse(context, index, shape) -> tuple[Basic, list]:
    """The basic part of an index and its advanced arrays (ndarray or Tracer), in slot order."""
    items = list(index) if isinstance(index, tuple) else [index]
    for i, item in enumerate(items):
        if isinstance(item, list):
            items[i] = context.lift(item)
    whole = any(i is True or (isinstance(i, np.bool_) and bool(i)) for i in items)
    items = [_concrete(i) for i in items]
    if whole and any(isinstance(i, np.ndarray | Tracer) for i in items):
        raise TraceError("True among index arrays is not supported; write x[None] and index that")
    flat: list = []
    used = 0
    for item in items:
        is_mask = isinstance(item, np.ndarray | Tracer) and item.dtype == bool
        used += item.ndim if is_mask else item is not None and item is not Ellipsis
    if used > len(shape):
        raise IndexingError(
            f"too many indices: shape {shape_text(shape)} has {len(shape)} axes, "
            f"but {used} were indexed"
        )
    if sum(i is Ellipsis for i in items) > 1:
        raise IndexingError("an index can have only one ellipsis ('...')")
    if not any(i is Ellipsis for i in items):
        items.append(Ellipsis)
    axis = 0
    for item in items:
        if item is Ellipsis:
            flat += [slice(None)] * (len(shape) - used)
            axis += len(shape) - used
        elif isinstance(item, np.ndarray) and item.dtype == bool:
            flat += _mask_arrays(item, axis, shape)
            axis += item.ndim
        else:
            if isinstance(item, Tracer) and item.dtype == bool:
                raise data_dependent("x[mask] with a traced mask")
            flat.append(item)
            axis += item is not None
    return _assemble(flat, shape)


def _assemble(items, shape) -> tuple[Basic, list]:
    start, size, step, dropped, slots, advanced, where_advanced = [], [], [], [], [], [], []
    has_arrays = any(isinstance(i, np.ndarray | Tracer) for i in items)
    axis = 0
    for place, item in enumerate(items):
        if item is None:
            slots.append("new")
            continue
        bounds, gone = (0, shape[axis], 1), False
        if isinstance(item, slice):
            bounds = slice_bounds(item, shape[axis])
            slots.append("dim")
        elif isinstance(item, int):
            bounds, gone = (position(item, axis, shape), 1, 1), True
            if has_arrays:
                where_advanced.append(place)
        else:
            slots.append("adv")
            advanced.append(checked(item, axis, shape))
            where_advanced.append(place)
        for parts, value in zip((start, size, step), bounds, strict=True):
            parts.append(value)
        dropped.append(gone)
        axis += 1
    apart = any(b - a > 1 for a, b in pairwise(where_advanced))
    parts = (tuple(start), tuple(size), tuple(step), tuple(dropped), tuple(slots))
    return Basic(*parts, apart), advanced


def _instead(item) -> str:
    if isinstance(item, str):
        return (
            ".\nA DataFrame arrives as its array, without names: index by position, x[:, 0], or "
            'pass a dict\nof columns, such as {"a": table["a"].to_numpy()}'
        )
    return "; convert it: i.astype(int)" if hasattr(item, "dtype") else ""


def checked(item, axis: int, shape):
    """A constant index array without negative or outside values; a traced one as it is."""
    if isinstance(item, Tracer):
        if item.dtype.kind not in "iu":
            raise IndexingError(
                f"an index array must hold integers, not {item.dtype}; convert it: y.astype(int)"
            )
        return item
    size = shape[axis]
    if isinstance(size, Dim):
        for extreme in (item.min(), item.max()) if item.size else ():
            if not _at_least(size, int(extreme) + 1 if extreme >= 0 else -int(extreme)):
                raise SymbolicDimError(f"index {extreme} on an axis of size {size}")
        if item.size and item.min() < 0:
            raise SymbolicDimError(f"negative indices on an axis of size {size}")
        return item
    bad = item[(item < -size) | (item >= size)]
    if bad.size:
        position(int(bad.flat[0]), axis, shape)
    return np.where(item < 0, item + size, item).astype(np.int64)
