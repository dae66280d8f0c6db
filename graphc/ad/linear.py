"""The matrix of a graph that is linear in one of its nodes, without multiplying by an identity.

A tangent graph is linear in its tangent, an adjoint in its cotangent; applied to every basis
vector it gives a Jacobian. Doing just that (a batch of basis vectors) costs an identity matrix,
and a pass over ``n`` numbers for each of the ``n`` vectors at every operation of the graph, most
of it zeros. Here an operation gets its operand as :class:`Terms` for as long as each element
depends on a few basis vectors only: views move the terms, elementwise operations scale them, at
the cost of the vector alone. The first product with a matrix turns the identity into that matrix.
What mixes more than that becomes a batch (:mod:`graphc.ad.batching`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphc.ad import control_batching
from graphc.ad.batching import batch, batched
from graphc.ad.formulas import constant_value
from graphc.ir import build
from graphc.ir.control import CONTROL
from graphc.ir.dims import Dim, DimLike, product
from graphc.ir.graph import Source, inherit, topological
from graphc.ir.node import Node
from graphc.ir.ops import OPS, is_elementwise

_MOST_TERMS = 12  # beyond, a batch is as cheap


@dataclass(frozen=True)
class Term:
    """Element i changes with basis vector ``index[i]`` by ``value[i]``; with none where that
    is -1. Both have the shape of the node."""

    value: Node
    index: Node


Terms = tuple[Term, ...]


@dataclass(frozen=True)
class Rows:
    """The dense form: ``node`` has the basis vectors along its first axis, or along its last."""

    node: Node
    first: bool

    def with_basis(self, first: bool) -> Node:
        """``node`` in one of the two layouts."""
        if first == self.first:
            return self.node
        axes = list(range(self.node.ndim))
        return build.transpose(
            self.node, axes[1:] + axes[:1] if self.first else axes[-1:] + axes[:-1]
        )


Linear = Terms | Rows


def matrix(
    outputs: Sequence[Node],
    variable: Node,
    sources: dict[Node, Source] | None = None,
    basis_first: bool = False,
) -> list[Node | None]:
    """The derivative of each output by ``variable``, in which all of them are linear.

    The result has the shape ``(*output.shape, *variable.shape)``, with ``basis_first`` the other
    way round; None where the output does not depend on ``variable``.

    >>> from graphc.ir import types
    >>> t = build.placeholder(0, 0, types.tensor_type("float64", (3,)))
    >>> x = build.input(0, "x", types.tensor_type("float64", (3,)))
    >>> [slope] = matrix([build.elementwise("mul", t, x)], t)
    >>> str(slope.type)
    'f64[3,3]'
    """
    # Lanes of the width of the values, where they are compared in vectors.
    dtype = np.int32 if variable.dtype.itemsize <= 4 else np.int64
    index = _identity_index(variable.shape, dtype)
    found = _along(outputs, variable, index, variable.type.size, sources, basis_first)
    result: list[Node | None] = []
    for node, output in zip(found, outputs, strict=True):
        ends = (variable.shape, output.shape)
        left, right = ends if basis_first else ends[::-1]
        result.append(None if node is None else build.reshape(node, (*left, *right)))
    return result


def compressed(
    outputs: Sequence[Node],
    variable: Node,
    colours: np.ndarray,
    count: int,
    sources: dict[Node, Source] | None = None,
    basis_first: bool = False,
) -> list[Node | None]:
    """The derivative of each output along ``count`` sums of basis vectors.

    ``colours[i]`` tells in which sum element i of ``variable`` is. The result has the shape
    ``(*output.shape, count)``, with ``basis_first`` ``(count, *output.shape)``. No element of an
    output may depend on two elements of one colour: see :mod:`graphc.ad.sparsity`.
    """
    index = build.const(np.reshape(colours, variable.shape), np.int64)
    return _along(outputs, variable, index, count, sources, basis_first)


def _along(outputs, variable, index: Node, size: DimLike, sources, first) -> list[Node | None]:
    sources = {} if sources is None else sources
    walk = _Walk(size, first)
    start = (Term(build.full_like(variable, 1), index),)
    found: dict[Node, Linear] = {variable: start}
    for node in topological(outputs):
        if node in found or not any(i in found for i in node.inputs):
            continue
        parts = [found.get(i) for i in node.inputs]
        if node.op in CONTROL:
            found.update(walk.control(node, parts, sources))
            continue
        result = walk.apply(node, parts)
        found[node] = result
        if node in sources:
            for new in _nodes(result):
                inherit(sources, new, sources[node])
    return [walk.dense(found[o], o.shape, first) if o in found else None for o in outputs]


def _nodes(linear: Linear) -> list[Node]:
    return [linear.node] if isinstance(linear, Rows) else [t.value for t in linear]


@dataclass(frozen=True)
class _Walk:
    """What all nodes share: the basis, and the layout that is wanted in the end."""

    size: DimLike
    first: bool

    def apply(self, node: Node, parts: list[Linear | None]) -> Linear:
        """The derivative of one node, from those of its inputs (None: it has none)."""
        if not any(isinstance(p, Rows) for p in parts):
            if node.op in _DENSE_RULES:
                placed = _DENSE_RULES[node.op](node, parts, self.size)
                if placed is not None:
                    return self.placed(placed, node)
            rule = _RULES.get(node.op)
            result = rule(node, parts) if rule is not None else None
            if result is not None and len(result) <= _MOST_TERMS:
                return result
        if is_elementwise(node):
            first = next((p.first for p in parts if isinstance(p, Rows)), self.first)
            return Rows(self.elementwise(node, parts, first), first)
        inputs = [
            i if p is None else self.dense(p, i.shape, True)
            for i, p in zip(node.inputs, parts, strict=True)
        ]
        return Rows(batched(node, inputs, [p is not None for p in parts], self.size), True)

    def control(self, node: Node, parts: list[Linear | None], sources) -> dict[Node, Linear]:
        """The derivatives of the results of a loop or a choice: one of the whole basis. What does
        not depend on it (steps counted after a barrier) is of the new loop too, and repeated."""
        flags = [p is not None for p in parts]
        inputs = [
            i if p is None else self.dense(p, i.shape, True)
            for i, p in zip(node.inputs, parts, strict=True)
        ]
        made = control_batching.batched(node, inputs, flags, self.size, sources, batch)
        pairs = zip(build.items(node), made, strict=True)
        return {
            item: Rows(result if depends else build.spread(result, self.size), True)
            for item, (result, depends) in pairs
        }

    def elementwise(self, node: Node, parts: list[Linear | None], first: bool) -> Node:
        shape = (self.size, *node.shape) if first else (*node.shape, self.size)
        own_axes = range(1, node.ndim + 1) if first else range(node.ndim)
        operands = [
            build.broadcast(i, shape, own_axes) if p is None else self.dense(p, i.shape, first)
            for i, p in zip(node.inputs, parts, strict=True)
        ]
        return build.make(node.op, operands, **dict(node.attrs))

    def dense(self, linear: Linear, shape, first: bool) -> Node:
        if isinstance(linear, Rows):
            return linear.with_basis(first)
        if first:
            return _dense(linear, (self.size, *shape), 0)
        return _dense(linear, (*shape, self.size), len(shape))

    def placed(self, placed: _Placed, node: Node) -> Rows:
        """The product of the factors where the paired axes of basis and result agree, else 0."""
        basis, rank = placed.basis, len(placed.basis)
        shape = (*basis, *node.shape) if self.first else (*node.shape, *basis)

        def axis_of(a: int) -> int:
            """Axes are counted as [*basis, *result]."""
            return a if self.first else (a + node.ndim if a < rank else a - rank)

        here = value = None
        for a, b in placed.pairs:
            if basis[a] == 1:
                continue
            counts = (build.iota(shape, axis_of(x)) for x in (a, b))
            same = build.elementwise("eq", *counts)
            here = same if here is None else build.elementwise("logical_and", here, same)
        for factor, axes in placed.factors:
            axes = [axis_of(a) for a in axes]
            order = sorted(range(len(axes)), key=axes.__getitem__)
            factor = build.broadcast(build.transpose(factor, order), shape, sorted(axes))
            value = factor if value is None else build.elementwise("mul", value, factor)
        if here is not None:
            value = build.elementwise("where", here, value, build.full_like(value, 0))
        ends = (self.size, *node.shape) if self.first else (*node.shape, self.size)
        return Rows(build.reshape(value, ends), self.first)


@dataclass(frozen=True)
class _Placed:
    """A dense derivative: ``factors`` are nodes with the axes they have, among those of the basis
    (of shape ``basis``) and of the result behind them; ``pairs`` are axes that must agree."""

    basis: tuple[DimLike, ...]
    factors: list[tuple[Node, Sequence[int]]]
    pairs: list[tuple[int, int]]


# ----------------------------------------------------------------------------- rules on terms


def _map(terms: Terms, fn) -> Terms:
    return tuple(Term(fn(t.value), t.index) for t in terms)


def _negate(node, parts):
    return _map(parts[0], lambda v: build.elementwise("neg", v))


def _cast(node, parts):
    return _map(parts[0], lambda v: build.cast(v, node.dtype)) if node.dtype.kind == "f" else None


def _multiply(node, parts):
    if parts[0] is not None and parts[1] is not None:
        return None
    k = 0 if parts[1] is None else 1
    other = node.inputs[1 - k]
    return _map(parts[k], lambda v: build.elementwise("mul", v, other))


def _divide(node, parts):
    if parts[1] is not None:
        return None
    return _map(parts[0], lambda v: build.elementwise("div", v, node.inputs[1]))


def _add(node, parts):
    left, right = parts
    if node.op == "sub" and right is not None:
        right = _map(right, lambda v: build.elementwise("neg", v))
    if right is None:
        return left if constant_value(node.inputs[1]) == 0 else None
    if left is None:
        return right if constant_value(node.inputs[0]) == 0 else None
    return _merged((*left, *right))


def _where(node, parts):
    if parts[0] is not None:
        return None
    cond, terms = node.inputs[0], []
    for k in (1, 2):
        if parts[k] is None:
            if constant_value(node.inputs[k]) != 0:
                return None
            continue
        for t in parts[k]:
            zero = build.full_like(t.value, 0)
            sides = (t.value, zero) if k == 1 else (zero, t.value)
            terms.append(Term(build.elementwise("where", cond, *sides), t.index))
    return _merged(tuple(terms))


def _move(node, parts):
    """A view: values and indices go the same way."""
    attrs = dict(node.attrs)

    def move(x):
        return build.make(node.op, (x,), **attrs)

    return tuple(Term(move(t.value), _folded(move(t.index))) for t in parts[0])


def _pad(node, parts):
    if parts[0] is None or parts[1] is not None or constant_value(node.inputs[1]) != 0:
        return None
    sizes = [node.attr(k) for k in ("low", "high", "interior")]
    return tuple(
        Term(
            build.pad(t.value, *sizes),
            _folded(build.pad(t.index, *sizes, build.const(-1, t.index.dtype))),
        )
        for t in parts[0]
    )


def _concat(node, parts):
    known = zip(node.inputs, parts, strict=True)
    if any(p is None and constant_value(x) != 0 for x, p in known):
        return None
    result, dtype = [], next(p[0].index.dtype for p in parts if p)
    for k in range(max(len(p) for p in parts if p is not None)):
        values, indices = [], []
        for x, p in zip(node.inputs, parts, strict=True):
            there = p is not None and k < len(p)
            values.append(p[k].value if there else build.full_like(x, 0))
            indices.append(p[k].index if there else build.full(x.shape, -1, dtype))
        axis = node.attr("axis")
        result.append(Term(build.concat(values, axis), _folded(build.concat(indices, axis))))
    return tuple(result)


def _pick(node, parts):
    """take and take_along: values and indices are picked the same way."""
    if parts[1] is not None:
        return None
    indices, axis = node.inputs[1], node.attr("axis")

    def pick(x):
        return build.make(node.op, (x, indices), axis=axis)

    return tuple(Term(pick(t.value), _folded(pick(t.index))) for t in parts[0])


def _sum(node, parts, size):
    """Each basis vector goes to the element of the result that its own element is summed into."""
    (x,), axes = node.inputs, node.attr("axes")
    diagonal = _diagonal(parts[0], x, size)
    if diagonal is None:
        return None
    kept = [a for a in range(x.ndim) if a not in axes]
    pairs = [(a, x.ndim + k) for k, a in enumerate(kept)]
    return _Placed(x.shape, [(diagonal, range(x.ndim))], pairs)


def _matmul(node, parts, size):
    """A product with an identity is the other matrix, each row or column in its place."""
    if node.ndim != 2 or (parts[0] is not None and parts[1] is not None):
        return None
    k = 0 if parts[1] is None else 1
    x, other = node.inputs[k], node.inputs[1 - k]
    diagonal = _diagonal(parts[k], x, size)
    if diagonal is None:
        return None
    flags = node.attr("ta"), node.attr("tb")
    summed = k if flags[k] else 1 - k  # axis of x
    axes = [summed, 2 + (1 - k)]  # of the other matrix
    if flags[1 - k] != k:
        axes.reverse()
    return _Placed(x.shape, [(other, axes), (diagonal, (0, 1))], [(1 - summed, 2 + k)])


_DENSE_RULES = {"sum": _sum, "matmul": _matmul}
_RULES = {
    "neg": _negate, "cast": _cast, "mul": _multiply, "div": _divide, "add": _add, "sub": _add,
    "where": _where, "reshape": _move, "transpose": _move, "broadcast": _move, "slice": _move,
    "windows": _move,
    "pad": _pad, "concat": _concat, "take": _pick, "take_along": _pick,
}  # fmt: skip


# ------------------------------------------------------------------------------------ indices


def _known(index: Node) -> np.ndarray | None:
    return index.attr("value").array if index.op == "const" else None


def _folded(index: Node) -> Node:
    """An index of constants as a constant. A reshape of a reshape is one."""
    if index.op == "reshape" and index.inputs[0].op == "reshape":
        return _folded(build.reshape(index.inputs[0].inputs[0], index.shape))
    if index.op == "const" or any(isinstance(d, Dim) for d in index.shape):
        return index
    values = {}
    for node in topological([index]):
        operands = [values[i] for i in node.inputs]
        if node.op in ("input", "placeholder") or node.type.symbols:
            return index
        values[node] = OPS[node.op].evaluate(node, {}, *operands)
    return build.const(values[index], index.dtype)


def _identity_index(x_shape, dtype) -> Node:
    return _folded(build.reshape(build.iota((product(x_shape),), 0, dtype), x_shape))


def _diagonal(terms: Terms | None, x: Node, size: DimLike) -> Node | None:
    """The values, where each element depends on the basis vector of its own position, and each
    basis vector has one."""
    if terms is None or len(terms) != 1 or x.type.size != size:
        return None
    (term,) = terms
    return term.value if term.index is _identity_index(x.shape, term.index.dtype) else None


def _merged(terms: Terms) -> Terms:
    """Terms of one index are added; so are those whose indices nowhere disagree."""
    result: list[Term] = []
    for term in terms:
        for k, other in enumerate(result):
            joined = _joined(other, term)
            if joined is not None:
                result[k] = joined
                break
        else:
            result.append(term)
    return tuple(result)


def _joined(a: Term, b: Term) -> Term | None:
    if a.index is b.index:
        return Term(build.elementwise("add", a.value, b.value), a.index)
    known_a, known_b = _known(a.index), _known(b.index)
    if known_a is None or known_b is None:
        return None
    in_a, in_b = known_a >= 0, known_b >= 0
    if np.any((known_a != known_b) & in_a & in_b):
        return None
    if np.any(in_a & in_b):
        both = build.elementwise("add", a.value, b.value)
        first = build.elementwise("where", build.const(in_b), both, a.value)
    else:
        first = a.value
    value = build.elementwise("where", build.const(in_a), first, b.value)
    return Term(value, build.const(np.maximum(known_a, known_b)))


# -------------------------------------------------------------------------------- dense forms


def _dense(terms: Terms, shape, axis: int) -> Node:
    """``value`` where the basis vector (counted along ``axis``) is that of ``index``, else 0."""
    dims = [a for a in range(len(shape)) if a != axis]
    known = [_known(t.index) for t in terms]
    apart = all(
        a is not None and b is not None and not np.any((a == b) & (a >= 0))
        for k, a in enumerate(known)
        for b in known[:k]
    )
    total = zero = build.full(shape, 0, terms[0].value.dtype)
    for term in terms:
        index = term.index
        if index is _identity_index(index.shape, index.dtype):  # counts need no memory
            index = build.reshape(build.iota((product(index.shape),), 0, index.dtype), index.shape)
        count = build.iota(shape, axis, index.dtype)
        here = build.elementwise("eq", build.broadcast(index, shape, dims), count)
        value = build.broadcast(term.value, shape, dims)
        if apart:
            total = build.elementwise("where", here, value, total)
        else:
            part = build.elementwise("where", here, value, zero)
            total = part if total is zero else build.elementwise("add", total, part)
    return total
