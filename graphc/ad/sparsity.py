"""Which elements of a result can depend on which elements of an argument, read from the graph.

The pattern of a node is a sparse boolean matrix (SciPy, imported when first needed) with a row for
each of its elements and a column for each element of the argument. Views and constant indices are
exact; sums and products unite the patterns of what they sum; what is not known (an index that is
data, an op without a rule) counts as everything. Values play no part: a product with zeros counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphc.ad.formulas import derivative_of
from graphc.errors import OptionError, SymbolicDimError
from graphc.ir.control import CONTROL
from graphc.ir.graph import topological
from graphc.ir.node import Node
from graphc.ir.ops import OPS, is_elementwise, is_reduction


def scipy_sparse():
    """The module ``scipy.sparse``; OptionError where SciPy is not installed."""
    try:
        import scipy.sparse
    except ImportError:
        raise OptionError(
            "sparse=True needs SciPy, which is not installed: pip install scipy"
        ) from None
    return scipy.sparse


def pattern(output: Node, variable: Node):
    """A ``scipy.sparse.csr_array`` of booleans, of shape (output.size, variable.size).

    Raises SymbolicDimError where a size is not known.

    >>> from graphc.ir import build, types
    >>> x = build.input(0, "x", types.tensor_type("float64", (4,)))
    >>> differences = build.elementwise(
    ...     "sub", build.slice_(x, (1,), (3,), (1,)), build.slice_(x, (0,), (3,), (1,)))
    >>> pattern(differences, x).toarray().astype(int)
    array([[1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]])
    """
    sparse = scipy_sparse()
    for node in (output, variable):
        _size(node)
    found = {variable: sparse.eye_array(_size(variable), dtype=bool, format="csr")}
    order = topological([output])
    constants = _constants(order)
    for node in order:
        if node in found or (node.dtype.kind not in "fc" and node.op not in CONTROL):
            continue
        parts = [found.get(i) for i in node.inputs]
        if node.op in CONTROL:  # each result may depend on whatever an operand depends on
            rows = [_united(p, np.zeros(p.shape[0], int), 1) for p in parts if p is not None]
            if rows:
                found[node] = _union(rows)
            continue
        if any(p is not None for p in parts):
            result = _propagate(node, parts, constants)
            if result is not None:
                found[node] = result
    empty = sparse.csr_array((_size(output), _size(variable)), dtype=bool)
    return found.get(output, empty)


def _size(node: Node) -> int:
    size = node.type.size
    if not isinstance(size, int):
        raise SymbolicDimError(f"the sparsity of {node.type} needs its size")
    return size


def _constants(order: Sequence[Node]) -> dict[Node, np.ndarray]:
    """Values of the integer nodes that depend on constants only: indices."""
    values: dict[Node, np.ndarray] = {}
    for node in order:
        if node.dtype.kind not in "iub" or node.type.symbols:
            continue
        if node.op in ("const", "iota") or (node.inputs and all(i in values for i in node.inputs)):
            values[node] = OPS[node.op].evaluate(node, {}, *(values[i] for i in node.inputs))
    return values


def _propagate(node: Node, parts: list, constants):
    if is_elementwise(node):
        return _union(
            p
            for k, p in enumerate(parts)
            if p is not None and (node.op == "cast" or derivative_of(node, k) is not None)
        )
    rule = _RULES.get(node.op)
    if rule is None and is_reduction(node):
        rule = _reduction
    if rule is not None and all(isinstance(i.type.size, int) for i in node.inputs):
        return rule(node, parts, constants)
    return _everything(node, parts)


def _union(parts):
    total = None
    for part in parts:
        total = part if total is None else total + part
    return total


def _everything(node: Node, parts):
    """Each element depends on whatever any element of an operand depends on."""
    return _union(
        _placed(_united(p, np.zeros(p.shape[0], int), 1), np.zeros(_size(node), int))
        for p in parts
        if p is not None
    )


def _placed(part, rows):
    """``part[rows]``; a row of -1 is empty."""
    rows = np.asarray(rows).ravel()
    if rows.size and rows.min() < 0:
        sparse = scipy_sparse()
        part = sparse.vstack([part, sparse.csr_array((1, part.shape[1]), dtype=bool)], format="csr")
    return part[rows]


def _united(part, rows, count: int):
    """Row i of ``part`` goes to row ``rows[i]`` of ``count``."""
    rows = np.asarray(rows).ravel()
    ones = np.ones(rows.size, bool)
    gather = scipy_sparse().csr_array((ones, (rows, np.arange(rows.size))), (count, rows.size))
    return (gather @ part).tocsr()


def _positions(node: Node) -> np.ndarray:
    return np.arange(_size(node)).reshape(node.shape)


def _selection(node: Node, parts, constants):
    """Ops that move elements: done to their positions, they say which row goes where."""
    sparse = scipy_sparse()
    operands, blocks, offset = [], [], 0
    width = next(p.shape[1] for p in parts if p is not None)
    for x, part in zip(node.inputs, parts, strict=True):
        if part is None and x in constants and node.op in ("take", "take_along"):
            operands.append(constants[x])
            continue
        if part is None:
            operands.append(np.full(x.shape, -1))
            continue
        operands.append(_positions(x) + offset)
        blocks.append(part)
        offset += part.shape[0]
    stacked = sparse.vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0]
    assert stacked.shape[1] == width
    return _placed(stacked, OPS[node.op].evaluate(node, {}, *operands))


def _take(node: Node, parts, constants):
    x, indices = node.inputs
    if indices in constants:
        return _selection(node, parts, constants)
    axis = node.attr("axis")
    along = np.delete(np.array(x.shape), axis)
    rows = np.expand_dims(np.arange(along.prod()).reshape(along), axis)
    united = _united(parts[0], np.broadcast_to(rows, x.shape), int(along.prod()))
    if node.op == "take_along":
        return _placed(united, np.broadcast_to(rows, node.shape))
    shape = [*x.shape[:axis], *(1 for _ in indices.shape), *x.shape[axis + 1 :]]
    return _placed(united, np.broadcast_to(rows.reshape(shape), node.shape))


def _scatter_add(node: Node, parts, constants):
    indices, updates = node.inputs
    if parts[1] is None:
        return None
    axis, positions = node.attr("axis"), _positions(node)
    if indices in constants:
        targets = np.take(positions, constants[indices], axis)
        return _united(parts[1], targets, positions.size)
    rest = [*updates.shape[:axis], *updates.shape[axis + indices.ndim :]]
    rows = np.arange(int(np.prod(rest, dtype=int))).reshape(rest)
    shape = [*updates.shape[:axis], *(1 for _ in indices.shape), *rest[axis:]]
    united = _united(parts[1], np.broadcast_to(rows.reshape(shape), updates.shape), rows.size)
    return _placed(united, np.broadcast_to(np.expand_dims(rows, axis), node.shape))


def _reduction(node: Node, parts, constants):
    (x,), axes = node.inputs, node.attr("axes")
    rows = np.expand_dims(_positions(node), axes)
    return _united(parts[0], np.broadcast_to(rows, x.shape), _size(node))


def _matmul(node: Node, parts, constants):
    found = []
    for k, (x, part) in enumerate(zip(node.inputs, parts, strict=True)):
        if part is None:
            continue
        flag = node.attr("tb" if k else "ta")
        summed = x.ndim - 1 - (k ^ flag)  # axis of x
        kept = np.delete(np.array(x.shape), summed)
        rows = np.arange(int(kept.prod())).reshape(kept)
        united = _united(part, np.broadcast_to(np.expand_dims(rows, summed), x.shape), rows.size)
        missing = node.ndim - 2 if k else node.ndim - 1  # axis of the result
        found.append(_placed(united, np.broadcast_to(np.expand_dims(rows, missing), node.shape)))
    return _union(found)


_Rule = Callable[[Node, list, dict], object]
_RULES: dict[str, _Rule] = {
    "reshape": _selection, "transpose": _selection, "broadcast": _selection, "slice": _selection,
    "windows": _selection,
    "pad": _selection, "concat": _selection, "take": _take, "take_along": _take,
    "scatter_add": _scatter_add, "matmul": _matmul,
}  # fmt: skip


# ---------------------------------------------------------------------------------- colouring

_MOST_CONFLICTS = 20_000_000


def colour_columns(structure) -> np.ndarray:
    """A colour (0, 1, ...) for each column, so that no two columns of a colour share a row.

    Greedily, in the order of the columns and by falling number of conflicts, whichever needs
    fewer (Curtis, Powell and Reid 1974; Coleman and More 1983).

    >>> tridiagonal = scipy_sparse().diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(7, 7))
    >>> colour_columns(tridiagonal.tocsr().astype(bool))
    array([0, 1, 2, 0, 1, 2, 0])
    """
    count = structure.shape[1]
    in_row = np.diff(structure.indptr).astype(np.int64)
    if in_row.max(initial=0) >= count or (in_row**2).sum() > _MOST_CONFLICTS:
        return np.arange(count)
    conflicts = (structure.T.astype(bool) @ structure).tocsr()
    degree = np.diff(conflicts.indptr)
    orders = (np.arange(count), np.argsort(-degree, kind="stable"))
    found = [_greedy(conflicts, order) for order in orders]
    return min(found, key=lambda colours: colours.max(initial=0))


def _greedy(conflicts, order) -> np.ndarray:
    colours = [-1] * conflicts.shape[0]
    indptr, indices = conflicts.indptr.tolist(), conflicts.indices.tolist()
    for column in order.tolist():
        taken = {colours[c] for c in indices[indptr[column] : indptr[column + 1]]}
        colour = 0
        while colour in taken:
            colour += 1
        colours[column] = colour
    return np.array(colours, dtype=np.int64)
