"""Vector-Jacobian products of the ops that are not elementwise: one rule an op.

A rule takes the node, the cotangent of its result and which inputs want one; it returns one
cotangent (or None) for each input. Rules are written with the same IR, so they can themselves
be differentiated, and their shape arithmetic works with symbolic dims.

Beside the values a cotangent carries where it can be zero *by structure*: see :class:`Cotangent`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from graphc.ad.guards import ANYWHERE, CLEAN, HIDING, Zeros, hiding, moved
from graphc.ir import build
from graphc.ir.dims import DimLike, product
from graphc.ir.node import Node
from graphc.ir.parts import Parts, join, parts_of
from graphc.ir.rules import Rules


class Cotangent(NamedTuple):
    """A cotangent and where it can be zero by structure.

    ``zeros`` holds the axes along which positions are dead (a slice, an index or a maximum did
    not pick them), or the markers ``ANYWHERE`` and ``SOFT``, beside them ``HIDING``. A sum over
    all those axes is alive again; a set of axes stands for any one of them. Dead positions must
    stay zero whatever their operands are: the walker pays for ``0 * inf`` only where this says so.
    """

    node: Node
    zeros: Zeros = CLEAN


Rule = Callable[[Node, Cotangent, tuple[bool, ...]], list[Cotangent | None]]
RULES: Rules[Rule] = Rules()
rule = RULES.declare


def _position(axes: Iterable[int]) -> Callable[[int], int | None]:
    return {axis: i for i, axis in enumerate(axes)}.get


def _zero(x: Node) -> Node:
    return build.full_like(x, 0)


def _where(cond: Node, a: Node, b: Node) -> Node:
    return build.elementwise("where", cond, a, b)


# ------------------------------------------------------------------------------------- views


@rule("cast")
def _cast(node, ct, needs):
    return [Cotangent(build.cast(ct.node, node.inputs[0].dtype), ct.zeros)]


@rule("real", "imag", "complex")
def _parts(node, ct, needs):
    """Adjoint by the real inner product: see ad/in_parts.py."""
    if node.op == "complex":
        return [Cotangent(part, ct.zeros) for part in parts_of(ct.node)]
    pair = (ct.node, _zero(ct.node))
    return [Cotangent(join(Parts(*(pair if node.op == "real" else pair[::-1]))), ct.zeros)]


@rule("barrier", "call_arg")
def _passed_on(node, ct, needs):
    return [ct, *[None] * (len(node.inputs) - 1)]


@rule("reshape")
def _reshape(node, ct, needs):
    (x,) = node.inputs
    return [Cotangent(build.reshape(ct.node, x.shape), _reshaped(ct.zeros, x.shape, node.shape))]


def _reshaped(zeros: Zeros, below: Sequence[DimLike], above: Sequence[DimLike]) -> Zeros:
    """Zeros of an array of shape ``above`` after it is reshaped to ``below``. What lies along an
    axis that becomes several lies along all of these."""
    parts = {}
    for axes, places in _common_parts(above, below):
        whole = places if len(axes) == 1 or len(places) == 1 else [ANYWHERE]
        parts |= dict.fromkeys(axes, whole)
    kept: set[int | frozenset[int]] = set()
    for zero in zeros:
        if isinstance(zero, frozenset):
            whole = {parts[a][0] for a in zero if len(parts.get(a, ())) == 1} - {ANYWHERE}
            kept.add(frozenset(whole) or ANYWHERE)
        else:
            kept |= {zero} if zero < 0 else set(parts.get(zero, ()))
    return CLEAN if kept == {HIDING} else frozenset(kept)


def _common_parts(a: Sequence[DimLike], b: Sequence[DimLike]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of as many elements, in groups of as many elements, the smallest
    that there are; axes of size 1 are in none."""
    axes = [[k for k, d in enumerate(shape) if d != 1] for shape in (a, b)]
    ends = [
        {product([shape[k] for k in kept[:n]]): n for n in range(1, len(kept) + 1)}
        for shape, kept in zip((a, b), axes, strict=True)
    ]
    common = [(n, ends[1][size]) for size, n in ends[0].items() if size in ends[1]]
    starts = [(0, 0), *common]
    return [
        (axes[0][i:k], axes[1][j:m]) for (i, j), (k, m) in zip(starts, common, strict=False)
    ]  # fmt: skip


@rule("transpose")
def _transpose(node, ct, needs):
    perm = node.attr("perm")
    inverse = sorted(range(len(perm)), key=perm.__getitem__)
    return [Cotangent(build.transpose(ct.node, inverse), moved(ct.zeros, perm.__getitem__))]


@rule("broadcast")
def _broadcast(node, ct, needs):
    dims = node.attr("dims")
    repeated = [a for a in range(node.ndim) if a not in dims]
    total = build.reduce("sum", ct.node, repeated)
    return [Cotangent(total, moved(ct.zeros, _position(dims)))]


@rule("slice")
def _slice(node, ct, needs):
    (x,) = node.inputs
    if any(isinstance(d, int) and d == 0 for d in node.shape):
        return [None]
    starts, steps, value = node.attr("start"), node.attr("step"), ct.node
    backward = [a for a, step in enumerate(steps) if step < 0]
    value = build.flip(value, backward)
    low, high, interior = [], [], []
    for axis, (start, step, size) in enumerate(zip(starts, steps, node.shape, strict=True)):
        if axis in backward:
            start = start + (size - 1) * step
        gap = abs(step) - 1 if size != 1 else 0
        low.append(start)
        interior.append(gap)
        high.append(x.shape[axis] - start - size - (size - 1) * gap)
    cut = {a for a in range(x.ndim) if node.shape[a] != x.shape[a]}
    return [Cotangent(build.pad(value, low, high, interior), ct.zeros | cut)]


@rule("windows")
def _windows(node, ct, needs):
    """Each offset within the windows went to positions of its own: their sum."""
    (x,) = node.inputs
    axis, width = node.attr("axis"), node.attr("width")
    stride, dilation, count = node.attr("stride"), node.attr("dilation"), node.shape[axis]
    if isinstance(count, int) and count == 0:
        return [None]
    total = None
    for k in range(width):
        start = [k if a == axis + 1 else 0 for a in range(node.ndim)]
        size = [1 if a == axis + 1 else d for a, d in enumerate(node.shape)]
        piece = build.slice_(ct.node, start, size, (1,) * node.ndim)
        piece = build.reshape(piece, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
        low, high, interior = ([0] * x.ndim for _ in range(3))
        low[axis], interior[axis] = k * dilation, stride - 1
        high[axis] = x.shape[axis] - k * dilation - (count - 1) * stride - 1
        piece = build.pad(piece, low, high, interior)
        total = piece if total is None else build.elementwise("add", total, piece)

    def axis_of(a):
        return a if a <= axis else max(axis, a - 1)

    dead = {axis} if stride > 1 or width == 1 else set()
    return [Cotangent(total, moved(ct.zeros, axis_of) | dead)]


@rule("pad")
def _pad(node, ct, needs):
    x, _ = node.inputs
    low, high, interior = (node.attr(k) for k in ("low", "high", "interior"))
    result: list[Cotangent | None] = [None, None]
    if needs[0]:
        back = build.slice_(ct.node, low, x.shape, [gap + 1 for gap in interior])
        result[0] = Cotangent(back, ct.zeros)
    if needs[1]:
        inside = build.full(x.shape, False, bool)
        filled = build.pad(inside, low, high, interior, build.const(True))
        rest = _where(filled, ct.node, _zero(ct.node))
        total = build.reduce("sum", rest, range(node.ndim))
        result[1] = Cotangent(total, moved(ct.zeros, lambda axis: None))
    return result


@rule("concat")
def _concat(node, ct, needs):
    axis = node.attr("axis")
    # A slice further up may have picked one part only: then the others are dead as a whole.
    zeros = moved(ct.zeros, lambda a: ANYWHERE if a == axis else a)
    result: list[Cotangent | None] = []
    offset: DimLike = 0
    for x, need in zip(node.inputs, needs, strict=True):
        start = [offset if a == axis else 0 for a in range(x.ndim)]
        offset = offset + x.shape[axis]
        part = build.slice_(ct.node, start, x.shape, (1,) * x.ndim) if need else None
        result.append(None if part is None else Cotangent(part, zeros))
    return result


# ---------------------------------------------------------------------------------- indexing


@rule("take")
def _take(node, ct, needs):
    x, indices = node.inputs
    axis = node.attr("axis")

    def axis_of(a):
        return a if a < axis else max(axis, a - indices.ndim + 1)

    value = build.scatter_add(indices, ct.node, axis, x.shape[axis])
    return [Cotangent(value, moved(ct.zeros, axis_of) | {axis} | hiding(indices)), None]


@rule("take_along")
def _take_along(node, ct, needs):
    x, indices = node.inputs
    axis, count = node.attr("axis"), node.shape[node.attr("axis")]
    zeros = ct.zeros | {axis} | hiding(indices)
    if isinstance(count, int) and count == 1:
        if indices.dtype not in (np.int32, np.int64):
            indices = build.cast(indices, np.int64)  # a narrow counter would wrap around
        picked = _equal(build.iota(x.shape, axis, indices.dtype), indices)
        value = build.broadcast_to(ct.node, x.shape)
        return [Cotangent(_where(picked, value, _zero(value)), zeros), None]
    at = build.reshape(build.position(indices, x.shape, axis), (node.type.size,))
    flat = build.reshape(ct.node, (node.type.size,))
    back = build.scatter_add(at, flat, 0, x.type.size)
    return [Cotangent(build.reshape(back, x.shape), zeros), None]


def _equal(a: Node, b: Node) -> Node:
    return build.elementwise("eq", a, build.broadcast_to(b, a.shape))


@rule("scatter_add")
def _scatter_add(node, ct, needs):
    indices, _ = node.inputs
    axis = node.attr("axis")

    def axis_of(a):
        return a if a < axis else ANYWHERE if a == axis else a + indices.ndim - 1

    return [None, Cotangent(build.take(ct.node, indices, axis), moved(ct.zeros, axis_of))]


@rule("scatter_set")
def _scatter_set(node, ct, needs):
    """What was overwritten gets nothing; of equal indices only the last has a cotangent."""
    x, indices, updates = node.inputs
    axis = node.attr("axis")
    result: list[Cotangent | None] = [None, None, None]
    if needs[0]:
        kept = build.scatter_set(ct.node, indices, _zero(updates), axis)
        result[0] = Cotangent(kept, ct.zeros | {axis} | hiding(indices))
    if needs[2]:
        count = indices.type.size
        order = build.reshape(build.iota((count,), 0), indices.shape)
        size = x.shape[axis]
        writer = build.scatter_set(build.full((size,), -1, np.int64), indices, order, 0)
        wins = build.elementwise("eq", build.take(writer, indices, 0), order)
        dims = range(axis, axis + indices.ndim)
        taken = build.take(ct.node, indices, axis)
        value = _where(build.broadcast(wins, taken.shape, dims), taken, _zero(taken))
        zeros = moved(ct.zeros, lambda a: a if a < axis else ANYWHERE if a == axis
                       else a + indices.ndim - 1)  # fmt: skip
        result[2] = Cotangent(value, zeros | {ANYWHERE})
    return result


# ------------------------------------------------------------------------------------- scans


@rule("cumsum")
def _cumsum(node, ct, needs):
    axis = node.attr("axis")
    back = build.reverse(build.scan("cumsum", build.reverse(ct.node, axis), axis), axis)
    return [Cotangent(back, ct.zeros)]


@rule("cumprod")
def _cumprod(node, ct, needs):
    """By doubling: y = x * shifted(x) for shifts 1, 2, 4, ..., products only, so zeros are exact
    and so are all higher derivatives."""
    (x,), axis = node.inputs, node.attr("axis")
    levels, shift = [], 1
    while shift < x.shape[axis].__index__():
        moved = shifted(x, axis, shift, 1)
        levels.append((x, moved, shift))
        x = build.elementwise("mul", x, moved)
        shift *= 2
    value = ct.node
    for x, moved, shift in reversed(levels):
        back = shifted(build.elementwise("mul", value, x), axis, -shift, 0)
        value = build.elementwise("add", build.elementwise("mul", value, moved), back)
    return [Cotangent(value, ct.zeros)]


def shifted(x: Node, axis: int, by: int, fill: int) -> Node:
    """``x`` moved along an axis (forward for positive ``by``), ``fill`` where nothing came."""
    zeros, amount = [0] * x.ndim, abs(by)
    size = [d - amount if a == axis else d for a, d in enumerate(x.shape)]
    start = [amount if a == axis and by < 0 else 0 for a in range(x.ndim)]
    gap = [amount if a == axis else 0 for a in range(x.ndim)]
    kept = build.slice_(x, start, size, [1] * x.ndim)
    low, high = (gap, zeros) if by > 0 else (zeros, gap)
    return build.pad(kept, low, high, fill=build.const(fill, x.dtype))


# -------------------------------------------------------------------------------- reductions


def _kept_axes(node: Node) -> list[int]:
    return [a for a in range(node.inputs[0].ndim) if a not in node.attr("axes")]


def _spread(node: Node, value: Node) -> Node:
    """``value``, shaped as the result of a reduction, repeated over the reduced axes."""
    return build.broadcast(value, node.inputs[0].shape, _kept_axes(node))


@rule("dft")
def _dft(node, ct, needs):
    """The adjoint of a transform is that of the other direction."""
    attrs = {**dict(node.attrs), "inverse": 1 - node.attr("inverse")}
    return [Cotangent(build.make("dft", (ct.node, node.inputs[1]), **attrs)), None]


@rule("sum")
def _sum(node, ct, needs):
    return [Cotangent(_spread(node, ct.node), moved(ct.zeros, _kept_axes(node).__getitem__))]


@rule("max", "min")
def _extremum(node, ct, needs):
    """Ties share the cotangent evenly."""
    (x,) = node.inputs
    attained = build.elementwise("eq", x, _spread(node, node))
    ones = _where(attained, build.full_like(x, 1), _zero(x))
    count = build.reduce("sum", ones, node.attr("axes"))
    share = _spread(node, build.elementwise("div", ct.node, count))
    zeros = moved(ct.zeros, _kept_axes(node).__getitem__) | set(node.attr("axes"))
    return [Cotangent(_where(attained, share, _zero(x)), zeros)]


@rule("prod")
def _prod(node, ct, needs):
    """The product of the other elements, exact with any number of zeros.

    Sizes that are known multiply in halves, a tree of plain products that stays exact for all
    higher derivatives too. Over a symbolic axis zeros are counted instead, and a second derivative
    asks for the size (``others`` in library_rules.py).
    """
    (x,) = node.inputs
    kept, axes = _kept_axes(node), list(node.attr("axes"))
    zeros = moved(ct.zeros, kept.__getitem__)
    count = product(x.shape[a] for a in axes)
    if not isinstance(count, int):
        others = build.make("implicit", (_others_by_count(node), x), rule="others")
        grad = build.elementwise("mul", _spread(node, ct.node), others)
        return [Cotangent(grad, zeros | {ANYWHERE})]
    if count == 0:
        return [None]
    perm = kept + axes
    batch = tuple(x.shape[a] for a in kept)
    value = build.reshape(build.transpose(x, perm), (*batch, count))
    grad = _prod_by_halves(value, build.reshape(ct.node, (*batch, 1)))
    grad = build.reshape(grad, tuple(x.shape[a] for a in perm))
    inverse = sorted(range(x.ndim), key=perm.__getitem__)
    return [Cotangent(build.transpose(grad, inverse), zeros)]


def _prod_by_halves(x: Node, ct: Node) -> Node:
    """Cotangent of ``x`` [..., n] for the product over its last axis, whose own is [..., 1]."""
    levels = []
    while (n := x.shape[-1]) > 1:
        half = n // 2
        left, right = _part(x, 0, half), _part(x, half, half)
        rest = [_part(x, 2 * half, 1)] if n % 2 else []
        levels.append((left, right, half, n))
        x = build.concat([build.elementwise("mul", left, right), *rest], x.ndim - 1)
    for left, right, half, n in reversed(levels):
        joint = _part(ct, 0, half)
        rest = [_part(ct, half, 1)] if n % 2 else []
        sides = [build.elementwise("mul", joint, other) for other in (right, left)]
        ct = build.concat([*sides, *rest], ct.ndim - 1)
    return ct


def _part(x: Node, start: int, size: int) -> Node:
    low = [0] * (x.ndim - 1)
    return build.slice_(x, [*low, start], [*x.shape[:-1], size], [1] * x.ndim)


def _others_by_count(node: Node) -> Node:
    """For each element the product of the others."""
    (x,) = node.inputs
    one, zero = build.full_like(x, 1), _zero(x)
    is_zero = build.elementwise("eq", x, zero)
    nonzero = _where(is_zero, one, x)
    zeros = build.reduce("sum", _where(is_zero, one, zero), node.attr("axes"))
    rest = build.reduce("prod", nonzero, node.attr("axes"))
    # Zeros other than the element itself.
    others = build.elementwise("sub", _spread(node, zeros), _where(is_zero, one, zero))
    alive = build.elementwise("eq", others, zero)
    return _where(alive, build.elementwise("div", _spread(node, rest), nonzero), zero)


@rule("matmul")
def _matmul(node, ct, needs):
    """Again products with transpose flags; no transposed array is ever made."""
    a, b = node.inputs
    ta, tb = node.attr("ta"), node.attr("tb")
    rows, columns = node.ndim - 2, node.ndim - 1
    result: list[Cotangent | None] = [None, None]
    if needs[0]:
        grad = build.matmul(b, ct.node, tb, 1) if ta else build.matmul(ct.node, b, 0, 1 - tb)
        kept = {rows: columns if ta else rows, columns: None}
        result[0] = Cotangent(grad, moved(ct.zeros, lambda axis: kept.get(axis, axis)))
    if needs[1]:
        grad = build.matmul(ct.node, a, 1, ta) if tb else build.matmul(a, ct.node, 1 - ta, 0)
        kept_b = {rows: None, columns: rows if tb else columns}
        result[1] = Cotangent(grad, moved(ct.zeros, lambda axis: kept_b.get(axis, axis)))
    return result


@rule("conv")
def _conv(node, ct, needs):
    """Convolutions again: the one with flipped weights, and the one of input and cotangent."""
    x, w = node.inputs
    strides, dilations = node.attr("stride"), node.attr("dilation")
    spatial = range(2, x.ndim)
    swap = (1, 0, *spatial)
    whole = zip(x.shape[2:], w.shape[2:], node.shape[2:], strides, dilations, strict=True)
    # Elements at the end of the input that no window reaches.
    unread = [s - (p - 1) * t - (k - 1) * d - 1 for s, k, p, t, d in whole]
    result: list[Cotangent | None] = [None, None]
    if any(isinstance(d, int) and d == 0 for d in node.shape):
        return result
    if needs[0]:
        reach = [(k - 1) * d for k, d in zip(w.shape[2:], dilations, strict=True)]
        high = [r + u for r, u in zip(reach, unread, strict=True)]
        gaps = [t - 1 for t in strides]
        spread = build.pad(ct.node, (0, 0, *reach), (0, 0, *high), (0, 0, *gaps))
        mirrored = build.transpose(build.flip(w, spatial), swap)
        grad = build.conv(spread, mirrored, None, dilations)
        zeros = moved(ct.zeros, lambda axis: None if axis == 1 else axis)
        skipped = {a for a, t, u in zip(spatial, strides, unread, strict=True) if t > 1 or u != 0}
        result[0] = Cotangent(grad, zeros | skipped)
    if needs[1]:
        read = [*x.shape[:2], *(s - u for s, u in zip(x.shape[2:], unread, strict=True))]
        reached = build.slice_(x, (0,) * x.ndim, read, (1,) * x.ndim)
        batch_last = (build.transpose(v, swap) for v in (reached, ct.node))
        grad = build.transpose(build.conv(*batch_last, dilations, strides), swap)
        result[1] = Cotangent(grad, moved(ct.zeros, lambda axis: 0 if axis == 1 else None))
    return result
