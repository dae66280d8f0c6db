"""Reductions of views, of broadcasts and of scaled values.

Sums are unordered already (NumPy's own pairwise order is not promised), so moving a factor out
of a sum is allowed: the result agrees within the rounding of a sum.
"""

from __future__ import annotations

import numpy as np

from graphc.ir import build
from graphc.ir.dims import Dim, product
from graphc.ir.node import Node
from graphc.passes.patterns import constant, rewrites
from graphc.passes.views import unit_axes_map

_FOLDING = ("sum", "prod", "max", "min")


@rewrites(*_FOLDING)
def reduce_of_reduce(node: Node) -> Node | None:
    """``sum(sum(x))`` is one sum over the axes of both."""
    (inner,) = node.inputs
    if inner.op != node.op:
        return None
    (x,) = inner.inputs
    first = inner.attr("axes")
    left = [a for a in range(x.ndim) if a not in first]
    return build.reduce(node.op, x, [*first, *(left[a] for a in node.attr("axes"))])


@rewrites(*_FOLDING)
def reduce_unit_axes(node: Node) -> Node | None:
    """A reduction over axes of size 1 is a reshape."""
    (x,) = node.inputs
    axes = node.attr("axes")
    units = [a for a in axes if x.shape[a] == 1]
    if not units or (x.dtype.kind == "b" and node.op in ("sum", "prod")):
        return None
    rest = [d for a, d in enumerate(x.shape) if a not in units]
    renumbered = [a - sum(u < a for u in units) for a in axes if a not in units]
    return build.reduce(node.op, build.reshape(x, rest), renumbered)


@rewrites(*_FOLDING)
def reduce_of_reshape(node: Node) -> Node | None:
    """Through a reshape that moves axes of size 1, or when everything is reduced."""
    (inner,) = node.inputs
    if inner.op != "reshape":
        return None
    (x,) = inner.inputs
    axes = node.attr("axes")
    if len(axes) == inner.ndim:
        reduced = [a for a, d in enumerate(x.shape) if d != 1]
        return build.reshape(build.reduce(node.op, x, reduced), ())
    moved = unit_axes_map(x.shape, inner.shape)
    if moved is None:
        return None
    reduced = [a for a, new in moved.items() if new in axes]
    return build.reshape(build.reduce(node.op, x, reduced), node.shape) if reduced else None


@rewrites(*_FOLDING)
def reduce_of_transpose(node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.op != "transpose":
        return None
    perm, axes = inner.attr("perm"), node.attr("axes")
    small = build.reduce(node.op, inner.inputs[0], [perm[a] for a in axes])
    left = [p for a, p in enumerate(perm) if a not in axes]
    return build.transpose(small, [sorted(left).index(p) for p in left])


@rewrites("max", "min")
def extremum_of_broadcast(node: Node) -> Node | None:
    """Repetition does not change a maximum."""
    return _reduced_source(node)


@rewrites("sum")
def sum_of_broadcast(node: Node) -> Node | None:
    """A value repeated n times sums to n times the value: one rounding instead of n.

    An infinity over a symbolic axis that turns out empty gives NaN instead of 0.
    """
    (inner,) = node.inputs
    if inner.op != "broadcast" or node.dtype.kind == "b":
        return None
    small = _reduced_source(node)
    if small is None:
        return None
    dims = inner.attr("dims")
    count = product(inner.shape[a] for a in node.attr("axes") if a not in dims)
    if count == 0:
        return None
    if isinstance(count, Dim):
        scale = build.size(count, node.dtype)
    else:
        with np.errstate(all="ignore"):
            scale = build.const(np.asarray(count).astype(node.dtype))
        if node.dtype.kind in "fc" and not np.isfinite(scale.attr("value").array):
            return None
    return build.make("mul", (small, build.broadcast(scale, node.shape, ())))


def _reduced_source(node: Node) -> Node | None:
    """The reduction of what a broadcast repeats, without the repeated axes."""
    (inner,) = node.inputs
    if inner.op != "broadcast":
        return None
    (x,) = inner.inputs
    dims, axes = inner.attr("dims"), node.attr("axes")
    if all(a in dims for a in axes):
        return None
    small = build.reduce(node.op, x, [k for k, d in enumerate(dims) if d in axes])
    kept = [d for d in dims if d not in axes]
    return build.broadcast(small, node.shape, [d - sum(a < d for a in axes) for d in kept])


@rewrites("sum")
def sum_of_neg(node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.op != "neg":
        return None
    return build.elementwise("neg", build.reduce("sum", inner.inputs[0], node.attr("axes")))


@rewrites("sum")
def sum_of_scaled(node: Node) -> Node | None:
    """``sum(x * s)`` is ``sum(x) * s`` where s is one value along the summed axes; also ``/``."""
    (inner,) = node.inputs
    if inner.op not in ("mul", "div") or node.dtype.kind not in "fiu":
        return None
    axes = node.attr("axes")
    for k in (1, 0) if inner.op == "mul" else (1,):
        factor, x = inner.inputs[k], inner.inputs[1 - k]
        if factor.op != "broadcast" or any(a in factor.attr("dims") for a in axes):
            continue
        dims = [d - sum(a < d for a in axes) for d in factor.attr("dims")]
        scale = build.broadcast(factor.inputs[0], node.shape, dims)
        return build.make(inner.op, (build.reduce("sum", x, axes), scale))
    return None


@rewrites("sum")
def sum_of_one_hot(node: Node) -> Node | None:
    """``sum(where(iota == index, v, 0))`` along the counted axis is v if the index is on it.

    The adjoint of picking one logit in each row meets the sum of a softmax in this form.
    """
    (inner,) = node.inputs
    if inner.op != "where" or inner.inputs[0].op != "eq":
        return None
    compared, value, zero = inner.inputs
    axes = node.attr("axes")
    if value.op != "broadcast" or constant(zero) != 0:
        return None
    for count, index in (compared.inputs, compared.inputs[::-1]):
        if count.op != "iota" or index.op != "broadcast" or count.dtype.kind not in "iu":
            continue
        axis = count.attr("axis")
        if axis not in axes or axis in index.attr("dims") or axis in value.attr("dims"):
            continue
        shape = tuple(d for a, d in enumerate(inner.shape) if a != axis)
        index, value = (
            build.broadcast(x.inputs[0], shape, [d - (d > axis) for d in x.attr("dims")])
            for x in (index, value)
        )
        size = build.broadcast(build.size(inner.shape[axis], index.dtype), shape, ())
        on_axis = build.make(
            "logical_and",
            (build.make("ge", (index, build.full_like(index, 0))),
             build.make("lt", (index, size))),
        )  # fmt: skip
        picked = build.make("where", (on_axis, value, build.full_like(value, 0)))
        return build.reduce("sum", picked, [a - (a > axis) for a in axes if a != axis])
    return None


@rewrites("sum")
def sum_of_pad(node: Node) -> Node | None:
    """Zeros around what is summed."""
    (x,) = node.inputs
    if x.op != "pad" or any(x.attr("interior")) or constant(x.inputs[1]) != 0:
        return None
    sizes = list(zip(x.attr("low"), x.attr("high"), strict=True))
    if any(not isinstance(d, int) or d < 0 for pair in sizes for d in pair):
        return None
    if any(pair != (0, 0) and a not in node.attr("axes") for a, pair in enumerate(sizes)):
        return None
    return build.reduce("sum", x.inputs[0], node.attr("axes"))


RULES = (
    sum_of_pad,
    sum_of_one_hot,
    reduce_of_reduce,
    reduce_unit_axes,
    reduce_of_reshape,
    reduce_of_transpose,
    extremum_of_broadcast,
    sum_of_broadcast,
    sum_of_neg,
    sum_of_scaled,
)
