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

from graphc.ad.batching import batched
from graphc.ad.formulas import constant_value
from graphc.ir import build
from graphc.ir.dims import Dim, DimLike, product
from graphc.ir.graph import Source, inherit, topological
from graphc.ir.node import Node
from graphc.ir.ops import OPS

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
    """The dense form: ``node`` has the basis vectors along an axis in front."""

    node: Node


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
    sources = {} if sources is None else sources
    size = variable.type.size
    found: dict[Node, Linear] = {variable: _identity(variable)}
    for node in topological(outputs):
        if node in found or not any(i in found for i in node.inputs):
            continue
        parts = [found.get(i) for i in node.inputs]
        result = _apply(node, parts, size)
        found[node] = result
        if node in sources:
            for new in _nodes(result):
                inherit(sources, new, sources[node])
    return [_shaped(found[o], o, variable, basis_first) if o in found else None for o in outputs]


def _identity(variable: Node) -> Terms:
    # Lanes of the width of the values, where they are compared in vectors.
    dtype = np.int32 if variable.dtype.itemsize <= 4 else np.int64
    return (Term(build.full_like(variable, 1), _identity_index(variable.shape, dtype)),)


def _nodes(linear: Linear) -> list[Node]:
    return [linear.node] if isinstance(linear, Rows) else [t.value for t in linear]


def _apply(node: Node, parts: list[Linear | None], size: DimLike) -> Linear:
    if not any(isinstance(p, Rows) for p in parts):
        rule = _RULES.get(node.op)
        result = rule(node, parts) if rule is not None else None
        if result is not None and not (isinstance(result, tuple) and len(result) > _MOST_TERMS):
            return result
    inputs = [
        i if p is None else _rows(p, i.shape, size) for i, p in zip(node.inputs, parts, strict=True)
    ]
    return Rows(batched(node, inputs, [p is not None for p in parts], size))


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


def _sum(node, parts):
    """Each basis vector goes to the element of the result that its own element is summed into."""
    (x,), axes = node.inputs, node.attr("axes")
    diagonal = _diagonal(parts[0], x)
    if diagonal is None:
        return None
    kept = [a for a in range(x.ndim) if a not in axes]
    pairs = [(a, x.ndim + k) for k, a in enumerate(kept)]
    return _placed(diagonal, (*x.shape, *node.shape), pairs, node)


def _matmul(node, parts):
    """A product with an identity is the other matrix, each row or column in its place."""
    if node.ndim != 2 or (parts[0] is not None and parts[1] is not None):
        return None
    k = 0 if parts[1] is None else 1
    x, other = node.inputs[k], node.inputs[1 - k]
    diagonal = _diagonal(parts[k], x)
    if diagonal is None:
        return None
    flags = node.attr("ta"), node.attr("tb")
    # The axis of x that is summed over, the other one, and where the result has it.
    summed = 1 - k if not flags[k] else k
    shape = (*x.shape, *node.shape)
    summed_first = bool(flags[0]) if k == 1 else not flags[1]
    matrix_node = other if summed_first else build.swap_last(other)
    spread = build.broadcast(matrix_node, shape, (summed, 2 + (1 - k)))
    value = build.elementwise("mul", spread, build.broadcast(diagonal, shape, (0, 1)))
    return _placed(value, shape, [(1 - summed, 2 + k)], node)


def _placed(value: Node, shape, pairs, node: Node) -> Rows:
    """``value`` over [*basis, *result], where the paired axes of both agree, else 0."""
    here = None
    for a, b in pairs:
        if shape[a] == 1:
            continue
        same = build.elementwise("eq", build.iota(shape, a), build.iota(shape, b))
        here = same if here is None else build.elementwise("logical_and", here, same)
    value = build.broadcast(value, shape, range(value.ndim))
    if here is not None:
        value = build.elementwise("where", here, value, build.full_like(value, 0))
    size = product(shape[: len(shape) - node.ndim])
    return Rows(build.reshape(value, (size, *node.shape)))


_RULES = {
    "neg": _negate, "cast": _cast, "mul": _multiply, "div": _divide, "add": _add, "sub": _add,
    "where": _where, "reshape": _move, "transpose": _move, "broadcast": _move, "slice": _move,
    "pad": _pad, "concat": _concat, "take": _pick, "take_along": _pick, "sum": _sum,
    "matmul": _matmul,
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


def _diagonal(terms: Terms, x: Node) -> Node | None:
    """The values, where each element depends on the basis vector of its own position."""
    if terms is None or len(terms) != 1:
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


def _rows(linear: Linear, shape, size: DimLike) -> Node:
    """The batch over all basis vectors."""
    return linear.node if isinstance(linear, Rows) else _dense(linear, (size, *shape), 0)


def _shaped(linear: Linear, output: Node, variable: Node, basis_first: bool) -> Node:
    size, rank = variable.type.size, output.ndim
    if isinstance(linear, Rows):
        node = linear.node
        if not basis_first:
            node = build.transpose(node, [*range(1, rank + 1), 0])
    else:
        shape = (size, *output.shape) if basis_first else (*output.shape, size)
        node = _dense(linear, shape, 0 if basis_first else rank)
    ends = (variable.shape, output.shape) if basis_first else (output.shape, variable.shape)
    return build.reshape(node, (*ends[0], *ends[1]))


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
