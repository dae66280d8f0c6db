"""Constructors of nodes with type inference: the only way the rest of graphc makes nodes."""

from __future__ import annotations

import numpy as np

from graphc.errors import ShapeError
from graphc.ir import node as _node
from graphc.ir.dims import Dim, DimLike
from graphc.ir.node import Literal, Node
from graphc.ir.ops import infer
from graphc.ir.types import TensorType


def make(op: str, inputs=(), **attrs) -> Node:
    """The node ``op(inputs, attrs)`` with its inferred type."""
    inputs = tuple(inputs)
    return _node.make(op, inputs, attrs, infer(op, attrs, inputs))


def input(index: int, name: str, type: TensorType) -> Node:
    return _node.make("input", (), {"index": index, "name": name}, type)


def placeholder(level: int, index: int, type: TensorType, name: str = "") -> Node:
    return _node.make("placeholder", (), {"level": level, "index": index, "name": name}, type)


def const(value, dtype=None) -> Node:
    return make("const", value=Literal(np.asarray(value, dtype)))


def full(shape, value, dtype) -> Node:
    """A constant of any shape: a broadcast scalar."""
    return broadcast(const(value, dtype), shape, ())


def full_like(x: Node, value) -> Node:
    return full(x.shape, value, x.dtype)


def size(dim: DimLike, dtype) -> Node:
    """The value of a dimension as a scalar node."""
    if isinstance(dim, Dim):
        return make("size", dim=dim, dtype=np.dtype(dtype).name)
    return const(dim, dtype)


def iota(shape, axis: int, dtype=np.int64) -> Node:
    return make("iota", axis=axis, dtype=np.dtype(dtype).name, shape=tuple(shape))


def elementwise(op: str, *inputs: Node) -> Node:
    return make(op, inputs)


def cast(x: Node, dtype) -> Node:
    dtype = np.dtype(dtype)
    return x if x.dtype == dtype else make("cast", (x,), dtype=dtype.name)


def reshape(x: Node, shape) -> Node:
    shape = tuple(shape)
    return x if shape == x.shape else make("reshape", (x,), shape=shape)


def transpose(x: Node, perm) -> Node:
    perm = tuple(perm)
    return x if perm == tuple(range(x.ndim)) else make("transpose", (x,), perm=perm)


def swap_last(x: Node) -> Node:
    """The last two axes exchanged."""
    order = list(range(x.ndim))
    order[-2:] = order[:-3:-1]
    return transpose(x, order)


def broadcast(x: Node, shape, dims) -> Node:
    shape, dims = tuple(shape), tuple(dims)
    if shape == x.shape and dims == tuple(range(x.ndim)):
        return x
    return make("broadcast", (x,), dims=dims, shape=shape)


def broadcast_to(x: Node, shape) -> Node:
    """NumPy's broadcasting rule: align right, repeat axes of size 1."""
    shape = tuple(shape)
    if x.shape == shape:
        return x
    offset = len(shape) - x.ndim
    if offset < 0:
        raise ShapeError(f"cannot broadcast {x.type} to {shape}")
    kept = []
    for axis, dim in enumerate(x.shape):
        if dim == shape[offset + axis]:
            kept.append(axis)
        elif dim != 1:
            raise ShapeError(f"cannot broadcast {x.type} to ({', '.join(map(str, shape))})")
    squeezed = reshape(x, [x.shape[a] for a in kept])
    return broadcast(squeezed, shape, [offset + a for a in kept])


def spread(x: Node, size: DimLike) -> Node:
    """``x`` repeated along a new axis in front."""
    return broadcast(x, (size, *x.shape), range(1, x.ndim + 1))


def slice_(x: Node, start, size, step) -> Node:
    start, size, step = tuple(start), tuple(size), tuple(step)
    if size == x.shape and all(s == 0 for s in start) and all(s == 1 for s in step):
        return x
    return make("slice", (x,), start=start, size=size, step=step)


def pad(x: Node, low, high, interior=None, fill: Node | None = None) -> Node:
    low, high = tuple(low), tuple(high)
    interior = tuple(interior) if interior is not None else (0,) * x.ndim
    if not any(d != 0 for d in (*low, *high, *interior)):
        return x
    fill = fill if fill is not None else const(0, x.dtype)
    return make("pad", (x, fill), low=low, high=high, interior=interior)


def concat(xs, axis: int) -> Node:
    xs = tuple(xs)
    return xs[0] if len(xs) == 1 else make("concat", xs, axis=axis)


def take(x: Node, indices: Node, axis: int) -> Node:
    return make("take", (x, indices), axis=axis)


def take_along(x: Node, indices: Node, axis: int) -> Node:
    return make("take_along", (x, indices), axis=axis)


def scatter_add(indices: Node, updates: Node, axis: int, size: DimLike) -> Node:
    return make("scatter_add", (indices, updates), axis=axis, size=size)


def scatter_set(x: Node, indices: Node, updates: Node, axis: int) -> Node:
    return make("scatter_set", (x, indices, updates), axis=axis)


def check_index(indices: Node, size: DimLike, fault: str = "") -> Node:
    return make("check_index", (indices,), size=size, fault=fault)


def refusing(x: Node, bad: Node, fault: str, value: Node | None = None) -> Node:
    """``x``; where ``bad`` is true the call raises ``fault`` of :mod:`graphc.ir.faults`.

    ``value`` is the number that the fault shows; it must not be 0 where it is bad.
    """
    zero = full(bad.shape, 0, np.int64)
    value = full(bad.shape, 1, np.int64) if value is None else make("cast", (value,), dtype="int64")
    found = check_index(elementwise("where", bad, value, zero), 1, fault)  # 0, wherever it is
    return elementwise("sub", x, cast(found, x.dtype))  # x - 0 is x, -0.0 too


def scan(op: str, x: Node, axis: int) -> Node:
    """``cumsum`` or ``cumprod`` along one axis."""
    return make(op, (x,), axis=axis)


def argsort(x: Node, axis: int) -> Node:
    return make("argsort", (x,), axis=axis)


def searchsorted(table: Node, values: Node, side: str) -> Node:
    return make("searchsorted", (table, values), side=side)


def reverse(x: Node, axis: int) -> Node:
    """One axis backwards."""
    start = [x.shape[axis] - 1 if a == axis else 0 for a in range(x.ndim)]
    return slice_(x, start, x.shape, [-1 if a == axis else 1 for a in range(x.ndim)])


def position(index: Node, shape: tuple[DimLike, ...], axis: int) -> Node:
    """Row-major positions in an array of ``shape`` of the elements ``[..., index, ...]``: the
    other axes of ``index`` count through those of the array."""
    total = None
    for a, dim in enumerate(shape):
        here = cast(index, np.int64) if a == axis else iota(index.shape, a)
        if total is not None:
            length = broadcast(size(dim, np.int64), index.shape, ())
            here = elementwise("add", elementwise("mul", total, length), here)
        total = here
    return total


def reduce(op: str, x: Node, axes) -> Node:
    axes = tuple(sorted(axes))
    return x if not axes else make(op, (x,), axes=axes)


def matmul(a: Node, b: Node, ta: int = 0, tb: int = 0) -> Node:
    return make("matmul", (a, b), ta=int(ta), tb=int(tb))


def flip(x: Node, axes) -> Node:
    """``x`` backwards along ``axes``."""
    start = [d - 1 if a in axes else 0 for a, d in enumerate(x.shape)]
    return slice_(x, start, x.shape, [-1 if a in axes else 1 for a in range(x.ndim)])


def windows(x: Node, axis: int, width: int, stride: int = 1, dilation: int = 1) -> Node:
    return make("windows", (x,), axis=axis, width=width, stride=stride, dilation=dilation)


def conv(x: Node, w: Node, stride=None, dilation=None) -> Node:
    ones = (1,) * (x.ndim - 2)
    return make("conv", (x, w), stride=tuple(stride or ones), dilation=tuple(dilation or ones))


def barrier(x: Node, after: Node) -> Node:
    """``x``, in a copy of the computation that waits for ``after``."""
    return make("barrier", (x, after))


def items(node: Node) -> list[Node]:
    """The results of a loop or a choice."""
    return [make("item", (node,), index=k) for k in range(len(node.type.items))]


def loop(
    body, init, xs=(), consts=(), *, length: DimLike | None, count: Node | None = None, cond=None,
    reverse=False, grow=False, remat=False,
) -> list[Node]:  # fmt: skip
    """The last carries and the stacked results of a loop: see :mod:`graphc.ir.control`."""
    init, xs = tuple(init), tuple(xs)
    counted = () if count is None else (count,)
    node = make(
        "loop", (*counted, *init, *xs, *consts), body=body, cond=cond, length=length,
        carries=len(init), xs=len(xs), counted=len(counted), reverse=int(reverse),
        grow=int(grow), remat=int(remat),
    )  # fmt: skip
    return items(node)


def cond(pred: Node, operands, on_true, on_false) -> list[Node]:
    """The results of the chosen side."""
    return items(make("cond", (pred, *operands), on_true=on_true, on_false=on_false))
