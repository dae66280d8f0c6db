"""Jacobians and Hessians of traced functions, on any tree of arrays.

A column of a Jacobian is the derivative along one basis vector of the arguments (forward mode),
a row that of one element of the result (reverse mode). Both graphs are linear in the basis
vector, and :func:`graphc.ad.linear.matrix` takes all basis vectors at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.ad import forward, reverse
from graphc.ad.in_parts import flat, outputs_in_parts
from graphc.ad.jvp_rules import Tangent
from graphc.ad.linear import compressed, matrix
from graphc.ad.run import Run, trace_of
from graphc.ad.sparsity import colour_columns, pattern
from graphc.ad.transforms import Argnums, results, split
from graphc.errors import GradientError, OptionError
from graphc.functions import name_of
from graphc.ir import build
from graphc.ir.dims import Dim
from graphc.ir.graph import topological
from graphc.ir.node import Node
from graphc.ir.parts import Parts, is_complex, join
from graphc.trace.source import located
from graphc.trace.tracing import wrap
from graphc.trace.tree import leaf_paths, unflatten

Blocks = list[list[Node]]  # for each result, one for each differentiated leaf


def jacfwd(fn: Callable, argnums: Argnums = 0, has_aux: bool = False, **options) -> Callable:
    """The Jacobian of ``fn`` in forward mode: see :func:`jacobian`."""
    return _jacobian(fn, argnums, has_aux, _columns, **options)


def jacrev(fn: Callable, argnums: Argnums = 0, has_aux: bool = False, **options) -> Callable:
    """The Jacobian of ``fn`` in reverse mode: see :func:`jacobian`."""
    return _jacobian(fn, argnums, has_aux, _rows, **options)


def jacobian(fn: Callable, argnums: Argnums = 0, has_aux: bool = False, **options) -> Callable:
    """The function that returns the derivative of each result by each argument.

    For a result of shape ``s`` and an argument of shape ``r`` it has the shape ``(*s, *r)``. Of
    trees it is a tree like the result with trees like argument ``argnums`` (or a tuple of them)
    at its leaves. With ``has_aux`` ``fn`` returns a pair, and the result is ``(jacobian, aux)``.
    Forward mode, but reverse mode where there are fewer results than arguments.

    With ``parts`` derivatives by complex arguments are real: where a result or an argument is
    complex there is an axis of 2, its real and its imaginary part, before its own.

    >>> def slopes(x):
    ...     return jacobian(lambda x: x[1:] * x[:-1])(x)
    """
    return _jacobian(fn, argnums, has_aux, _either, **options)


def hessian(
    fn: Callable, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable:
    """The function that returns the second derivatives of ``fn``: forward over reverse mode.

    By complex arguments they are those by both parts, as :func:`jacobian` with ``parts`` has it;
    of a ``holomorphic`` function it is ``f''``.

    >>> def curvature(x):
    ...     return hessian(lambda x: (x[1:] * x[:-1]).sum())(x)
    """
    slopes = jacrev(fn, argnums, has_aux, holomorphic=holomorphic)
    return jacfwd(slopes, argnums, has_aux, holomorphic=holomorphic, parts=not holomorphic)


def _jacobian(fn, argnums, has_aux, blocks_of, holomorphic=False, parts=False) -> Callable:
    if holomorphic and parts:
        raise OptionError("a Jacobian is of a holomorphic function or of both parts: give one")
    several = isinstance(argnums, tuple)

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        ctx = trace_of(fn, args, kwargs)
        run = Run(ctx, fn, args, kwargs, argnums if several else (argnums,))
        result, aux = split(fn, run.result) if has_aux else (run.result, None)
        leaves, structure = results(ctx, fn, result)
        outputs = run.outputs([leaf.node for leaf in leaves])
        _refuse_integers(fn, outputs, result)
        outputs = run.prepared(outputs)
        if any(map(is_complex, (*outputs, *run.placeholders))):
            _refuse_complex(fn, run, outputs, holomorphic or parts, blocks_of is _sparse_blocks)
            parts_apart = parts and any(map(is_complex, run.placeholders))
            joined = _row_of_parts if parts_apart else _joined_row
            blocks = _complex_blocks(run, outputs, blocks_of, joined)
        else:
            blocks = blocks_of(run, outputs)
        trees = [_tree(run, row, leaf.weak) for row, leaf in zip(blocks, leaves, strict=True)]
        found = unflatten(structure, [t if several else t[0] for t in trees])
        return (found, run.returned(aux)) if has_aux else found

    return wrapped


def _refuse_complex(fn, run: Run, outputs, meant: bool, sparse: bool) -> None:
    """Of complex results by complex arguments only holomorphic functions have one matrix."""
    argument = next((x for x in run.placeholders if is_complex(x)), None)
    if sparse:
        raise GradientError(located(f"a sparse Jacobian of `{name_of(fn)}` is of floats"))
    if argument is None or meant or not any(map(is_complex, outputs)):
        return
    name = argument.attr("name")
    raise GradientError(
        located(
            f"`{name_of(fn)}` takes {argument.dtype} values, `{name}`, to complex ones: only "
            "where it is holomorphic is its\nderivative one complex matrix, which "
            "jacobian(..., holomorphic=True) returns.\nOtherwise jacobian(..., parts=True) is the "
            "real one of both parts; or take products: jvp, vjp."
        )
    )


@dataclass
class _InParts:
    """What blocks are made of, with complex arguments as two real ones."""

    placeholders: list[Node]
    ctx: Any


def _complex_blocks(run: Run, outputs: list[Node], blocks_of, joined) -> Blocks:
    """As :mod:`graphc.ad.in_parts` has it: ``df/dx + i df/dy`` of a real f(x + iy), the derivative
    by x alone (which is f') of a complex one."""
    variables = run.placeholders
    order = topological(outputs)
    real = outputs_in_parts(outputs, variables, order, run.ctx.sources)
    rows = iter(blocks_of(_InParts(flat(variables), run.ctx), real))
    return [joined(variables, *(next(rows) for _ in flat([output]))) for output in outputs]


def _joined_row(variables, row, imaginary=None) -> list[Node]:
    """The blocks of one result, whose imaginary part may have blocks of its own."""
    found, real, more = [], iter(row), iter(imaginary or row)
    for x in variables:
        block, other = next(real), next(more)
        if is_complex(x):
            by_imaginary = next(real), next(more)
            other = by_imaginary[0] if imaginary is None else other
        elif imaginary is None:
            found.append(block)
            continue
        found.append(join(Parts(block, other)))
    return found


def _row_of_parts(variables, *rows) -> list[Node]:
    """The blocks of one result: a complex one, and a complex argument, has an axis of its parts."""
    found, parts = [], [iter(row) for row in rows]
    for x in variables:
        of_parts = []
        for blocks in parts:
            pair = [next(blocks) for _ in flat([x])]
            of_parts.append(_stacked(pair, pair[0].ndim - x.ndim) if is_complex(x) else pair[0])
        found.append(_stacked(of_parts, 0) if len(rows) > 1 else of_parts[0])
    return found


def _stacked(parts: list[Node], axis: int) -> Node:
    shape = parts[0].shape
    return build.concat([build.reshape(p, (*shape[:axis], 1, *shape[axis:])) for p in parts], axis)


@dataclass
class Entries:
    """The entries of one block of a Jacobian that can be other than zero, as a CSR matrix.

    Rows are the elements of the result, columns those of the argument, both in row-major order.
    ``sweeps`` is the number of directions that were differentiated along.
    """

    data: Any
    indices: Any
    indptr: Any
    shape: Any
    sweeps: Any


def sparse_jacobian(fn: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """The function that returns the entries of the Jacobian that can be other than zero.

    A tree like that of :func:`jacobian` with :class:`Entries` at its leaves. Needs SciPy, and
    sizes that are known.
    """
    return _jacobian(fn, argnums, has_aux, _sparse_blocks)


def _columns(run: Run, outputs: list[Node]) -> Blocks:
    """Forward mode, a basis of one argument at a time: the others do not move."""
    variables, sources = run.placeholders, run.ctx.sources
    blocks: Blocks = [[] for _ in outputs]
    level = run.ctx.new_level()
    for k, x in enumerate(variables):
        t = build.placeholder(level, k, x.type, _name(x))
        directions = [Tangent(t) if other is x else None for other in variables]
        tangents = forward.push(outputs, variables, directions, sources)
        moving = [i for i, found in enumerate(tangents) if found is not None]
        found = matrix([tangents[i].node for i in moving], t, sources)
        dense = dict(zip(moving, found, strict=True))
        for i, output in enumerate(outputs):
            blocks[i].append(_block(dense.get(i), output, x))
    return blocks


def _name(x: Node) -> str:
    return x.attr("name") if x.op == "placeholder" else x.inputs[0].attr("name")


def _rows(run: Run, outputs: list[Node]) -> Blocks:
    """Reverse mode, a basis of one result at a time."""
    variables, sources = run.placeholders, run.ctx.sources
    blocks: Blocks = []
    level = run.ctx.new_level()
    for i, output in enumerate(outputs):
        if not output.ndim:
            one = build.full_like(output, 1)
            blocks.append(reverse.vjp([output], [one], variables, sources))
            continue
        ct = build.placeholder(level, i, output.type)
        grads = reverse.vjp([output], [ct], variables, sources)
        dense = matrix(grads, ct, sources, basis_first=True)
        blocks.append([_block(d, output, x) for d, x in zip(dense, variables, strict=True)])
    return blocks


def _either(run: Run, outputs: list[Node]) -> Blocks:
    count_in = sum(x.type.size for x in run.placeholders)
    count_out = sum(o.type.size for o in outputs)
    if isinstance(count_in, Dim) or isinstance(count_out, Dim):
        fewer_rows = isinstance(count_in, Dim) and not isinstance(count_out, Dim)
    else:
        fewer_rows = count_out < count_in
    return (_rows if fewer_rows else _columns)(run, outputs)


def _block(dense: Node | None, output: Node, x: Node) -> Node:
    shape = (*output.shape, *x.shape)
    return build.full(shape, 0, x.dtype) if dense is None else build.cast(dense, x.dtype)


def _sparse_blocks(run: Run, outputs: list[Node]) -> list[list[Entries]]:
    return [[_sparse_block(run, output, x) for x in run.placeholders] for output in outputs]


def _sparse_block(run: Run, output: Node, x: Node) -> Entries:
    """One block: coloured by columns or by rows, whichever takes fewer sweeps."""
    structure = pattern(output, x)
    columns, rows = colour_columns(structure), colour_columns(structure.T.tocsr())
    sweeps = [int(c.max(initial=-1)) + 1 for c in (columns, rows)]
    row_of = np.repeat(np.arange(structure.shape[0]), np.diff(structure.indptr))
    if sweeps[0] <= sweeps[1]:
        dense = _compressed_columns(run, output, x, columns, sweeps[0])
        entries = row_of * sweeps[0] + columns[structure.indices]
    else:
        dense = _compressed_rows(run, output, x, rows, sweeps[1])
        entries = rows[row_of] * structure.shape[1] + structure.indices
    if dense is None or not len(entries):
        data = build.full((len(entries),), 0, x.dtype)
    else:
        flat = build.reshape(dense, (dense.type.size,))
        data = build.cast(build.take(flat, build.const(entries), 0), x.dtype)
    shape = tuple(map(int, structure.shape))
    return Entries(data, structure.indices, structure.indptr, shape, min(sweeps))


def _compressed_columns(run: Run, output: Node, x: Node, colours, count: int) -> Node | None:
    t = build.placeholder(run.ctx.new_level(), 0, x.type, _name(x))
    directions = [Tangent(t) if other is x else None for other in run.placeholders]
    (tangent,) = forward.push([output], run.placeholders, directions, run.ctx.sources)
    if tangent is None:
        return None
    return compressed([tangent.node], t, colours, count, run.ctx.sources)[0]


def _compressed_rows(run: Run, output: Node, x: Node, colours, count: int) -> Node | None:
    ct = build.placeholder(run.ctx.new_level(), 0, output.type)
    grads = reverse.vjp([output], [ct], [x], run.ctx.sources)
    return compressed(grads, ct, colours, count, run.ctx.sources, basis_first=True)[0]


def _tree(run: Run, row: list, weak: bool) -> tuple:
    """One tree like each differentiated argument; blocks are nodes, or Entries."""
    blocks, trees = iter(row), []
    for argument in run.arguments:
        leaves = [_leaf(run, next(blocks), weak and w) for w in argument.weak]
        trees.append(unflatten(argument.structure, leaves))
    return tuple(trees)


def _leaf(run: Run, block, weak: bool):
    if isinstance(block, Entries):
        return replace(block, data=_leaf(run, block.data, False))
    return wrap(run.ctx, run.resolved([block])[0], weak)


def _refuse_integers(fn, outputs, result) -> None:
    for output, path in zip(outputs, leaf_paths(result, "output"), strict=True):
        if output.dtype.kind not in "fc":
            raise GradientError(
                located(
                    f"{path} of `{name_of(fn)}` is {output.dtype}; a Jacobian is of floats.\n"
                    "Leave it out, or return (result, rest) with has_aux=True."
                )
            )
