"""Products of arrays: matmul, dot, tensordot, einsum, outer."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from graphc.errors import ShapeError, SymbolicDimError, TraceError
from graphc.ir import build
from graphc.ir.build import elementwise as op
from graphc.ir.dims import Dim, product
from graphc.ir.node import Node
from graphc.trace.dispatch import UFUNCS, call, implements
from graphc.trace.dtypes import cast, promotion_key, resolve
from graphc.trace.elementwise import broadcast_shapes, conjugate, mismatch
from graphc.trace.storage import read_only
from graphc.wording import shape_text

_TYPICAL = 64  # stands for a symbolic size when einsum chooses an order


def _same_size(name: str, shapes, a, b) -> None:
    if a != b:
        if isinstance(a, Dim) or isinstance(b, Dim):
            raise SymbolicDimError(f"{name}: sizes {a} and {b} must be known")
        raise ShapeError(mismatch(name, shapes, f"{a} != {b}"))


def matmul_node(a: Node, b: Node, name: str = "matmul") -> Node:
    """NumPy's ``a @ b`` for nodes of one dtype: vectors, matrices, stacks of them."""
    shapes = (a.shape, b.shape)
    if not a.ndim or not b.ndim:
        raise ShapeError(mismatch(name, shapes, "a scalar operand; write * instead"))
    _same_size(name, shapes, a.shape[-1], b.shape[-2] if b.ndim > 1 else b.shape[0])
    drop_row, drop_column = a.ndim == 1, b.ndim == 1
    a = build.reshape(a, (1, *a.shape)) if drop_row else a
    b = build.reshape(b, (*b.shape, 1)) if drop_column else b
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if b.ndim == 2:  # leading axes of a are more rows of one product
        batch = a.shape[:-2]
        result = build.matmul(build.reshape(a, (product((*batch, m)), k)), b)
    else:
        batch = broadcast_shapes(name, a.shape[:-2], b.shape[:-2])
        a = build.broadcast_to(a, (*batch, m, k))
        b = build.broadcast_to(b, (*batch, k, n))
        result = build.matmul(a, b)
    shape = (*batch, *(() if drop_row else (m,)), *(() if drop_column else (n,)))
    return build.reshape(result, shape)


@implements(np.matmul, getattr(np.linalg, "matmul", None))
def matmul(context, x1, x2, *, dtype=None, axes=None, axis=None):
    a, b = context.lift(x1), context.lift(x2)
    if axis is not None:
        raise TypeError("np.matmul: its operands share no single axis; give axes=")
    if axes is not None:
        if a.ndim < 2 or b.ndim < 2:
            raise TraceError("np.matmul with axes= needs operands of two axes or more")
        places = _places_of("matmul", axes, (2, 2, 2), False)
        a, b = np.moveaxis(a, places[0], (-2, -1)), np.moveaxis(b, places[1], (-2, -1))
        return np.moveaxis(matmul(context, a, b, dtype=dtype), (-2, -1), places[2])
    dtype = np.dtype(dtype) if dtype is not None else None
    dtypes = resolve(np.matmul, (promotion_key(a), promotion_key(b)), dtype)
    return context.wrap(matmul_node(cast(a.node, dtypes[0]), cast(b.node, dtypes[1])))


UFUNCS[np.matmul] = matmul


def _gufunc(ufunc: np.ufunc | None, ranks: tuple[int, int, int], contract):
    """Declare a product of ``ranks`` core axes of both operands and of the result, which
    ``contract(a, b)`` computes of nodes that have them last. Their sizes are never broadcast."""

    def handler(context, x1, x2, *, axes=None, axis=None, keepdims=False, dtype=None):
        name = ufunc.__name__
        a, b = context.lift(x1), context.lift(x2)
        kind = np.dtype(dtype) if dtype is not None else None
        dtypes = resolve(ufunc, (promotion_key(a), promotion_key(b)), kind)
        a, b = (context.wrap(cast(v.node, d)) for v, d in zip((a, b), dtypes, strict=False))
        if (axis is not None or keepdims) and ranks != (1, 1, 0):
            raise TypeError(f"np.{name}: axis= and keepdims= are arguments of np.vecdot alone")
        if axis is not None:
            if axes is not None:
                raise TypeError(f"np.{name}: give axis= or axes=, not both")
            axes = [axis, axis, axis if keepdims else ()]
        for v, rank in zip((a, b), ranks, strict=False):
            if v.ndim < rank:
                reason = f"needs {rank} axes or more"
                raise ShapeError(mismatch(name, (a.shape, b.shape), reason))
        places = _places_of(name, axes, ranks, keepdims)
        a = np.moveaxis(a, places[0], range(-ranks[0], 0))
        b = np.moveaxis(b, places[1], range(-ranks[1], 0))
        inner = b.shape[-ranks[1]]
        _same_size(name, (a.shape, b.shape), a.shape[-1], inner)
        result = context.wrap(contract(a.node, b.node))
        if keepdims:
            result = np.expand_dims(result, -1)
        return np.moveaxis(result, range(-len(places[2]), 0), places[2])

    if ufunc is not None:
        implements(ufunc)(handler)
    return handler


def _places_of(name: str, axes, ranks, keepdims) -> list[tuple]:
    """Where the core axes of operands and result are, by default last."""
    count = ranks[2] + bool(keepdims)
    if axes is None:
        return [tuple(range(-n, 0)) for n in (*ranks[:2], count)]
    found = [(p,) if isinstance(p, int) else tuple(p) for p in axes]
    if len(found) == 2 and not ranks[2]:
        found.append((found[0][0],) if keepdims else ())
    if [len(p) for p in found] != [*ranks[:2], count]:
        raise ValueError(f"np.{name}: axes={axes!r} does not name the axes of all operands")
    return found


def _dot_of_last(a: Node, b: Node) -> Node:
    lead = broadcast_shapes("vecdot", a.shape[:-1], b.shape[:-1])
    a, b = (build.broadcast_to(v, (*lead, v.shape[-1])) for v in (conjugate(a), b))
    return build.reduce("sum", op("logical_and" if a.dtype == bool else "mul", a, b), (a.ndim - 1,))


def _column(node: Node) -> Node:
    return build.reshape(node, (*node.shape, 1))


def _row(node: Node) -> Node:
    return build.reshape(node, (*node.shape[:-1], 1, node.shape[-1]))


def _without(node: Node, axis: int) -> Node:
    axis %= node.ndim
    return build.reshape(node, [d for i, d in enumerate(node.shape) if i != axis])


_vecdot = _gufunc(getattr(np, "vecdot", None), (1, 1, 0), _dot_of_last)
_gufunc(
    getattr(np, "matvec", None),
    (2, 1, 1),
    lambda a, b: _without(matmul_node(a, _column(b), "matvec"), -1),
)
_gufunc(
    getattr(np, "vecmat", None),
    (1, 2, 1),
    lambda a, b: _without(matmul_node(_row(conjugate(a)), b, "vecmat"), -2),
)


@implements(getattr(np.linalg, "vecdot", None))
def linalg_vecdot(context, x1, x2, /, *, axis=-1):
    return _vecdot(context, x1, x2, axis=axis)


def _pair(context, a, b) -> tuple[Node, Node]:
    a, b = context.lift(a), context.lift(b)
    dtype = np.result_type(a.dtype, b.dtype)
    return cast(a.node, dtype), cast(b.node, dtype)


def _scaled(context, x, y):
    """A product with a scalar; Python numbers widen here, unlike under ``*``."""
    x, y = (context.wrap(node) for node in _pair(context, x, y))
    return call(np.multiply, context, (x, y), {})


@implements(np.dot)
def dot(context, a, b):
    x, y = context.lift(a), context.lift(b)
    if not x.ndim or not y.ndim:
        return _scaled(context, x, y)
    if x.ndim > 1 and y.ndim > 2:
        return _tensordot(context, x, y, (x.ndim - 1,), (y.ndim - 2,), "dot")
    return context.wrap(matmul_node(*_pair(context, x, y), "dot"))


@implements(np.vdot)
def vdot(context, a, b):
    x, y = context.lift(a), context.lift(b)
    x = x.conj() if x.dtype.kind == "c" else x  # NumPy's conj of bool is int8
    return dot(context, x.ravel(), y.ravel())


@implements(np.inner)
def inner(context, a, b):
    x, y = context.lift(a), context.lift(b)
    if not x.ndim or not y.ndim:
        return _scaled(context, x, y)
    return _tensordot(context, x, y, (x.ndim - 1,), (y.ndim - 1,), "inner")


@implements(np.outer, getattr(np.linalg, "outer", None))
def outer(context, a, b):
    x, y = context.lift(a), context.lift(b)
    return x.reshape(-1, 1) * y.reshape(1, -1)


@implements(np.linalg.multi_dot)
def multi_dot(context, arrays):
    product_so_far, *rest = arrays
    for array in rest:
        product_so_far = dot(context, product_so_far, array)
    return product_so_far


@implements(np.tensordot, getattr(np.linalg, "tensordot", None))
def tensordot(context, a, b, axes=2):
    x, y = context.lift(a), context.lift(b)
    if hasattr(axes, "__len__"):
        left, right = axes
    else:
        left, right = range(x.ndim - axes, x.ndim), range(axes)
    left = left if hasattr(left, "__len__") else (left,)
    right = right if hasattr(right, "__len__") else (right,)
    left, right = normalize_axis_tuple(left, x.ndim), normalize_axis_tuple(right, y.ndim)
    return _tensordot(context, x, y, left, right, "tensordot")


def _tensordot(context, x, y, left, right, name: str):
    if len(left) != len(right):
        raise ShapeError(f"{name}: {len(left)} axes against {len(right)}")
    a, b = _pair(context, x, y)
    for i, j in zip(left, right, strict=True):
        _same_size(name, (a.shape, b.shape), a.shape[i], b.shape[j])
    rows = [i for i in range(a.ndim) if i not in left]
    columns = [j for j in range(b.ndim) if j not in right]
    shape_rows, shape_columns = [a.shape[i] for i in rows], [b.shape[j] for j in columns]
    inner_size = product(a.shape[i] for i in left)
    a = build.reshape(build.transpose(a, [*rows, *left]), (product(shape_rows), inner_size))
    b = build.reshape(build.transpose(b, [*right, *columns]), (inner_size, product(shape_columns)))
    return context.wrap(build.reshape(build.matmul(a, b), (*shape_rows, *shape_columns)))


# ------------------------------------------------------------------------------------- einsum


@implements(np.einsum)
def einsum(context, *operands, dtype=None, optimize=False, order="K", casting="safe"):
    if not isinstance(operands[0], str):
        operands = _with_text(operands)
    arrays = [context.lift(o) for o in operands[1:]]
    terms, output = _subscripts(operands[0], [a.ndim for a in arrays])
    if len(arrays) == 1 and set(terms[0]) == set(output) and dtype in (None, arrays[0].dtype):
        return _elements(context, arrays[0], terms[0], output)
    common = np.result_type(*(a.dtype for a in arrays)) if dtype is None else np.dtype(dtype)
    nodes = [cast(a.node, common) for a in arrays]
    nodes, terms, sizes = _normal_operands(nodes, terms)
    for pair in _contraction_order(terms, output, sizes):
        taken = [(nodes[i], terms[i]) for i in pair]
        for i in sorted(pair, reverse=True):
            del nodes[i], terms[i]
        needed = set(output).union(*terms)
        node, term = _contract(taken, needed, sizes)
        nodes.append(node)
        terms.append(term)
    node, term = _sum_out(nodes[0], terms[0], set(output))
    return context.wrap(build.transpose(node, [term.index(c) for c in output]))


def _elements(context, x, term: str, output: str):
    """A view of the axes in another order, of diagonals where an index is repeated."""

    def read(node: Node) -> Node:
        (node,), (kept,), _ = _normal_operands([node], [term])
        return build.transpose(node, [kept.index(c) for c in output])

    def write(parent: Node, new: Node) -> Node:
        if len(term) == len(output):
            return build.transpose(new, [output.index(c) for c in term])
        whole = context.wrap(parent)
        places = np.indices([d.__index__() for d in new.shape])
        whole[tuple(places[output.index(c)] for c in term)] = context.wrap(new)
        return whole.node

    return x.seen_as(read(x.node), read, write)


def _with_text(operands) -> tuple:
    """``einsum(a, [0, 1], b, [1, 2], [0, 2])`` with the subscripts as a string."""

    def letters(axes) -> str:
        return "".join("..." if a is Ellipsis else chr(ord("a") + a) for a in axes)

    arrays, terms = operands[0 : len(operands) // 2 * 2 : 2], operands[1::2]
    text = ",".join(letters(t) for t in terms)
    output = f"->{letters(operands[-1])}" if len(operands) % 2 else ""
    return (text + output, *arrays)


def _subscripts(text: str, ndims: list[int]) -> tuple[list[str], str]:
    """Terms and output with ``...`` written out as capital letters that are not in use."""
    text = text.replace(" ", "")
    left, arrow, output = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ShapeError(f"np.einsum: {len(terms)} terms in {text!r} for {len(ndims)} operands")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in text]
    widest = 0
    for i, (term, ndim) in enumerate(zip(terms, ndims, strict=True)):
        extra = ndim - len(term.replace("...", ""))
        if extra < 0 or (extra and "..." not in term):
            raise ShapeError(f"np.einsum: term {term!r} does not fit an operand of {ndim} axes")
        widest = max(widest, extra)
        terms[i] = term.replace("...", "".join(free[:extra][::-1]))
    rest = "".join(free[:widest][::-1])
    if arrow:
        output = output.replace("...", rest)
    else:
        counts = Counter("".join(terms))
        named = sorted(c for c in counts if counts[c] == 1 and c not in rest)
        output = rest + "".join(named)
    for c in output:
        if c not in "".join(terms) or output.count(c) > 1:
            raise ShapeError(f"np.einsum: output index {c!r} of {text!r} must be in one term")
    return terms, output


def _normal_operands(nodes, terms):
    """Repeated indices taken along the diagonal, sizes checked, axes of size 1 broadcast."""
    for i, term in enumerate(terms):
        for c in dict.fromkeys(term):
            while term.count(c) > 1:
                first = term.index(c)
                second = term.index(c, first + 1)
                nodes[i] = _diagonal(nodes[i], 0, first, second)
                term = term[:first] + term[first + 1 : second] + term[second + 1 :] + c
        terms[i] = term
    sizes: dict[str, object] = {}
    for node, term in zip(nodes, terms, strict=True):
        for c, dim in zip(term, node.shape, strict=True):
            known = sizes.setdefault(c, dim)
            if known == 1:
                sizes[c] = dim
            elif dim not in (1, known):
                if isinstance(dim, Dim) or isinstance(known, Dim):
                    raise SymbolicDimError(f"einsum: sizes {known} and {dim} must be known")
                raise ShapeError(f"np.einsum: index {c!r} has size {known} and size {dim}")
    for i, (node, term) in enumerate(zip(nodes, terms, strict=True)):
        nodes[i] = build.broadcast_to(node, [sizes[c] for c in term])
    return nodes, terms, sizes


def _contraction_order(terms, output: str, sizes) -> list[tuple[int, ...]]:
    """Pairs of operands to contract, as NumPy's greedy path finds them."""
    if len(terms) <= 2:
        return [tuple(range(len(terms)))]
    typical = {c: _TYPICAL if isinstance(d, Dim) else d for c, d in sizes.items()}
    stand_ins = [np.broadcast_to(0.0, [typical[c] for c in t]) for t in terms]
    path = np.einsum_path(",".join(terms) + "->" + output, *stand_ins, optimize="greedy")[0][1:]
    return _in_pairs(path, len(terms))


def _in_pairs(path, count: int) -> list[tuple[int, ...]]:
    """Steps of more than two operands taken two at a time."""
    steps = []
    for step in path:
        step = sorted(step)
        while len(step) > 2:
            a, b, *rest = step
            steps.append((a, b))
            count -= 1
            step = [i - 2 for i in rest] + [count - 1]
        steps.append(tuple(step))
        count -= len(step) - 1
    return steps


def _sum_out(node: Node, term: str, needed) -> tuple[Node, str]:
    axes = [i for i, c in enumerate(term) if c not in needed]
    return build.reduce("sum", node, axes), "".join(c for c in term if c in needed)


def _contract(taken, needed, sizes) -> tuple[Node, str]:
    """Two operands into one: a batched matmul, or a product where nothing is summed."""
    if len(taken) == 1:
        return _sum_out(*taken[0], needed)
    (a, term_a), (b, term_b) = taken
    a, term_a = _sum_out(a, term_a, needed | set(term_b))
    b, term_b = _sum_out(b, term_b, needed | set(term_a))
    shared = [c for c in term_a if c in term_b]
    batch, summed = [c for c in shared if c in needed], [c for c in shared if c not in needed]
    rows = [c for c in term_a if c not in term_b]
    columns = [c for c in term_b if c not in term_a]
    if not summed:
        joint = "".join([*batch, *rows, *columns])
        shape = [sizes[c] for c in joint]
        parts = []
        for node, term in ((a, term_a), (b, term_b)):
            order = sorted(range(len(term)), key=lambda i: joint.index(term[i]))
            node = build.transpose(node, order)
            parts.append(build.broadcast(node, shape, [joint.index(term[i]) for i in order]))
        return op("logical_and" if a.dtype == bool else "mul", *parts), joint
    groups = {g: product(sizes[c] for c in names) for g, names in
              (("rows", rows), ("summed", summed), ("columns", columns))}  # fmt: skip
    lead = [sizes[c] for c in batch]
    a = build.transpose(a, [term_a.index(c) for c in (*batch, *rows, *summed)])
    b = build.transpose(b, [term_b.index(c) for c in (*batch, *summed, *columns)])
    a = build.reshape(a, (*lead, groups["rows"], groups["summed"]))
    b = build.reshape(b, (*lead, groups["summed"], groups["columns"]))
    joint = "".join([*batch, *rows, *columns])
    return build.reshape(build.matmul(a, b), [sizes[c] for c in joint]), joint


# ----------------------------------------------------------------------- diagonals and norms


def _diagonal(x: Node, offset: int, axis1: int, axis2: int) -> Node:
    """Every (columns + 1)-th element of the flattened last two axes."""
    rest = [i for i in range(x.ndim) if i not in (axis1, axis2)]
    x = build.transpose(x, [*rest, axis1, axis2])
    rows, columns = (d.__index__() for d in x.shape[-2:])
    start = offset if offset >= 0 else -offset * columns
    length = max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)
    lead = x.shape[:-2]
    flat = build.reshape(x, (*lead, rows * columns))
    zeros, ones = [0] * len(lead), [1] * len(lead)
    if not length:
        return build.slice_(flat, [*zeros, 0], [*lead, 0], [*ones, 1])
    return build.slice_(flat, [*zeros, start], [*lead, length], [*ones, columns + 1])


@implements(np.diagonal)
def diagonal(context, a, offset=0, axis1=0, axis2=1):
    x = context.lift(a)
    first, second = normalize_axis_index(axis1, x.ndim), normalize_axis_index(axis2, x.ndim)

    def read(node: Node) -> Node:
        return _diagonal(node, offset, first, second)

    instead = "Write np.fill_diagonal(x, values), or x[i, i] = values with i = np.arange(n)."
    return x.seen_as(read(x.node), read, read_only("np.diagonal", instead))


@implements(getattr(np.linalg, "diagonal", None))
def linalg_diagonal(context, x, *, offset=0):
    return diagonal(context, x, offset, -2, -1)


@implements(np.diag)
def diag(context, v, k=0):
    x = context.lift(v)
    if x.ndim == 2:
        return diagonal(context, x, k)
    if x.ndim != 1:
        raise ShapeError(f"np.diag takes 1 or 2 axes, not {shape_text(x.shape)}")
    n = x.shape[0] + abs(k)
    column = np.pad(x, (0, abs(k)) if k >= 0 else (abs(k), 0))
    rows, columns = build.iota((n, n), 0), build.iota((n, n), 1)
    on = op("eq", columns, op("add", rows, build.full_like(rows, k)))
    wide = build.broadcast(column.node, (n, n), (0,))
    return context.wrap(op("where", on, wide, build.full_like(wide, 0)))


@implements(np.trace)
def trace(context, a, offset=0, axis1=0, axis2=1, dtype=None):
    return diagonal(context, a, offset, axis1, axis2).sum(axis=-1, dtype=dtype)


@implements(getattr(np.linalg, "trace", None))
def linalg_trace(context, x, *, offset=0, dtype=None):
    return trace(context, x, offset, -2, -1, dtype)


@implements(np.cross)
def cross(context, a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = context.lift(a), context.lift(b)
    x, y = np.moveaxis(x, axisa, -1), np.moveaxis(y, axisb, -1)
    sizes = x.shape[-1], y.shape[-1]
    if not {*sizes} <= {2, 3}:
        reason = "the last axes must have size 2 or 3"
        raise ShapeError(mismatch("cross", (x.shape, y.shape), reason))
    turns = ((1, 2), (2, 0), (0, 1))
    if sizes == (2, 2):
        return x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
    x, y = ([v[..., i] for i in range(v.shape[-1])] for v in (x, y))  # the third may be absent: 0
    x, y = (v if len(v) == 3 else [*v, np.zeros_like(v[0])] for v in (x, y))
    return np.moveaxis(np.stack([x[i] * y[j] - x[j] * y[i] for i, j in turns]), 0, axisc)


@implements(getattr(np.linalg, "cross", None))
def linalg_cross(context, x1, x2, /, *, axis=-1):
    shapes = [context.lift(x).shape for x in (x1, x2)]
    if any(s[axis] != 3 for s in shapes):
        raise ShapeError(mismatch("linalg.cross", shapes, "both axes must have size 3"))
    return cross(context, x1, x2, axis=axis)


@implements(np.kron)
def kron(context, a, b):
    x, y = context.lift(a), context.lift(b)
    ndim = max(x.ndim, y.ndim)
    x = x.reshape((1,) * (ndim - x.ndim) + tuple(x.shape))
    y = y.reshape((1,) * (ndim - y.ndim) + tuple(y.shape))
    shape = [d * e for d, e in zip(x.shape, y.shape, strict=True)]
    x = x.reshape([d for pair in zip(x.shape, (1,) * ndim, strict=True) for d in pair])
    y = y.reshape([d for pair in zip((1,) * ndim, y.shape, strict=True) for d in pair])
    return (x * y).reshape(shape)


@implements(np.polyval)
def polyval(context, p, x):
    coefficients, x = context.lift(p), context.lift(x)
    total = np.zeros_like(x)
    for c in coefficients:
        total = total * x + c
    return total


def _polynomial(context, p):
    """Coefficients, highest power first, as the functions of polynomials take them."""
    return np.atleast_1d(context.lift(p))


def _added(function):
    def handler(context, a1, a2):
        x, y = _polynomial(context, a1), _polynomial(context, a2)
        length = max(x.shape[0], y.shape[0])
        return function(*(np.pad(v, (length - v.shape[0], 0)) for v in (x, y)))

    return handler


implements(np.polyadd)(_added(np.add))
implements(np.polysub)(_added(np.subtract))


@implements(np.polymul)
def polymul(context, a1, a2):
    return np.convolve(_polynomial(context, a1), _polynomial(context, a2))


@implements(np.polyder)
def polyder(context, p, m=1):
    x = _polynomial(context, p)
    for _ in range(m):
        x = x[:-1] * np.arange(x.shape[0].__index__() - 1, 0, -1)
    return x


@implements(np.polyint)
def polyint(context, p, m=1, k=None):
    x = _polynomial(context, p)
    constants = np.broadcast_to(0 if k is None else np.atleast_1d(np.asarray(k)), m)
    for constant in constants:
        powers = x / np.arange(x.shape[0].__index__(), 0, -1)
        x = np.concatenate([powers, context.lift(constant).reshape(1)])
    return x


@implements(getattr(np, "trapezoid", None), getattr(np, "trapz", None))
def trapezoid(context, y, x=None, dx=1.0, axis=-1):
    y = context.lift(y)
    if x is None:
        step = dx
    else:
        x = context.lift(x)
        step = np.diff(x, axis=axis if x.ndim > 1 else -1)
        if x.ndim == 1:
            shape = [1] * y.ndim
            shape[axis] = -1
            step = step.reshape(shape)
    after, before = [slice(None)] * y.ndim, [slice(None)] * y.ndim
    after[axis], before[axis] = slice(1, None), slice(None, -1)
    return (step * (y[tuple(after)] + y[tuple(before)]) / 2.0).sum(axis)
