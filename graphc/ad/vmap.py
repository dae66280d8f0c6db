"""``vmap``: a function of one example becomes a function of a batch of them.

It runs the function once, on stand-ins for one example, and batches the nodes that it made
(:mod:`graphc.ad.batching`); nothing loops at run time. Stand-ins have a level of their own, as
those of derivatives have, so the transforms nest in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from graphc.ad.batching import batch
from graphc.errors import ShapeError, SymbolicDimError, TraceError
from graphc.functions import name_of, positional_names
from graphc.ir import build
from graphc.ir.dims import Dim, DimLike
from graphc.ir.node import Node
from graphc.ir.types import TensorType
from graphc.trace import printing
from graphc.trace.source import located
from graphc.trace.tracer import Tracer
from graphc.trace.tracing import active_trace, current_trace, wrap
from graphc.trace.tree import flatten, flatten_prefix, leaf_paths, unflatten
from graphc.wording import shape_text


def vmap(fn: Callable, in_axes: Any = 0, out_axes: Any = 0) -> Callable:
    """The function of batches that calls ``fn`` on each example.

    in_axes : the batch axis of the arguments: one int for all, or one entry an argument, each an
        int, None (the same for all examples) or a tree of these like the front of the argument.
        Keyword arguments have the batch as axis 0.
    out_axes : where the batch goes in the results: an int, or a tree of these like the front of
        what ``fn`` returns. None is for results that do not depend on the example.

    Raises ShapeError where batch sizes differ or an axis is not there.

    To be called on traced values, that is inside a function that graphc compiles:

    >>> def norms(rows):
    ...     return vmap(lambda row: (row * row).sum() ** 0.5)(rows)
    """

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        ctx = current_trace(*args, *kwargs.values()) or active_trace()
        if ctx is None:
            raise TraceError(
                located(f"vmap of `{name_of(fn)}` was called outside a traced function")
            )
        return _Run(ctx, fn, in_axes, out_axes)(args, kwargs)

    return wrapped


class _Run:
    """One call of the user's function on one example."""

    def __init__(self, ctx, fn, in_axes, out_axes):
        self.ctx, self.fn, self.in_axes, self.out_axes = ctx, fn, in_axes, out_axes
        self.level = ctx.new_level()
        self.mapped: dict[Node, Node] = {}
        self.sizes: list[tuple[str, int, DimLike]] = []  # of each mapped leaf: path, axis, size

    def __call__(self, args: tuple, kwargs: dict):
        example = self._example(args, self._axes_of_arguments(args), "args")
        example_kwargs = self._example(kwargs, 0, "kwargs")
        size, before = self._size(), len(self.ctx.shown)
        result = self.fn(*example, **example_kwargs)
        self._show_whole_batches(before, size)
        return self._batched(result, size)

    # ------------------------------------------------------------------------------ arguments

    def _axes_of_arguments(self, args):
        axes = self.in_axes
        if isinstance(axes, list | tuple) and len(axes) != len(args):
            raise ShapeError(
                located(
                    f"vmap of `{name_of(self.fn)}`: in_axes has {len(axes)} entries for "
                    f"{len(args)} arguments"
                )
            )
        return tuple(axes) if isinstance(axes, list) else axes

    def _example(self, tree, axes, what):
        """``tree`` with a stand-in for one example of each mapped leaf."""
        leaves, structure = flatten(tree)
        paths = _argument_paths(self.fn, tree)
        spec = self._leaf_axes(axes, tree, f"in_axes for {what}")
        values = [
            leaf if axis is None else self._stand_in(leaf, axis, path)
            for leaf, axis, path in zip(leaves, spec, paths, strict=True)
        ]
        return unflatten(structure, values)

    def _leaf_axes(self, axes, tree, what) -> list[int | None]:
        try:
            found = flatten_prefix(axes, tree)
        except ValueError as error:
            raise ShapeError(
                located(f"vmap of `{name_of(self.fn)}`: {what} does not fit: {error}")
            ) from None
        for axis in found:
            if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
                raise ShapeError(
                    located(f"vmap of `{name_of(self.fn)}`: {what}: an int or None, not {axis!r}")
                )
        return found

    def _stand_in(self, leaf, axis, path) -> Tracer:
        if isinstance(leaf, str | bytes):
            raise TraceError(
                located(f"vmap: `{path}` is a {type(leaf).__name__}, no batch; in_axes=None for it")
            )
        node = self.ctx.lift(leaf).node
        if not -node.ndim <= axis < node.ndim:
            raise ShapeError(
                located(
                    f"vmap of `{name_of(self.fn)}`: `{path}` has shape {shape_text(node.shape)}, "
                    f"no axis {axis}.\nIf it is the same for all examples, give it in_axes=None."
                )
            )
        axis %= node.ndim
        rest = [a for a in range(node.ndim) if a != axis]
        self.sizes.append((path, axis, node.shape[axis]))
        one = TensorType(node.dtype, tuple(node.shape[a] for a in rest))
        stand_in = build.placeholder(self.level, len(self.mapped), one, path)
        self.mapped[stand_in] = build.transpose(node, [axis, *rest])
        return wrap(self.ctx, stand_in)

    def _size(self) -> DimLike:
        if not self.sizes:
            raise ShapeError(
                located(f"vmap of `{name_of(self.fn)}`: in_axes maps no array of its arguments")
            )
        first = self.sizes[0][2]
        other = next((s for s in self.sizes if s[2] != first), None)
        if other is None:
            return first
        if any(isinstance(size, Dim) for _, _, size in self.sizes):
            raise SymbolicDimError(f"vmap needs one batch size, and there are {first}, {other[2]}")
        listed = ", ".join(f"{s} along axis {a} of `{p}`" for p, a, s in self.sizes[:6])
        raise ShapeError(located(f"vmap of `{name_of(self.fn)}`: batch sizes differ: {listed}"))

    # -------------------------------------------------------------------------------- results

    def _batched(self, result, size):
        if result is None:
            raise TraceError(located(f"`{name_of(self.fn)}` returned None; is a `return` missing?"))
        leaves, structure = flatten(result)
        axes = self._leaf_axes(self.out_axes, result, "out_axes")
        tracers = [self.ctx.lift(leaf) for leaf in leaves]
        nodes = self.ctx.resolve([t.node for t in tracers])
        found = batch(nodes, self.mapped, size, self.ctx.sources)
        values = []
        for k, ((node, is_mapped), axis) in enumerate(zip(found, axes, strict=True)):
            if axis is None:
                if is_mapped:
                    path = leaf_paths(result, "output")[k]
                    raise ShapeError(
                        located(
                            f"vmap of `{name_of(self.fn)}`: {path} depends on the example, "
                            "so out_axes must place its batch"
                        )
                    )
                values.append(wrap(self.ctx, node, tracers[k].weak))
            else:
                node = node if is_mapped else build.spread(node, size)
                values.append(wrap(self.ctx, self._placed(node, axis)))
        return unflatten(structure, values)

    def _show_whole_batches(self, first: int, size: DimLike) -> None:
        """What the example prints is printed of all examples together."""
        ctx, shown = self.ctx, self.ctx.shown[first:]
        nodes = ctx.resolve(printing.nodes_of(shown))
        found = [node for node, _ in batch(nodes, self.mapped, size, ctx.sources)]
        ctx.shown[first:] = printing.with_nodes(shown, found)

    def _placed(self, node: Node, axis: int) -> Node:
        if not -node.ndim <= axis < node.ndim:
            raise ShapeError(
                located(
                    f"vmap of `{name_of(self.fn)}`: out_axes={axis} for a result of shape "
                    f"{shape_text(node.shape)}"
                )
            )
        order = list(range(1, node.ndim))
        order.insert(axis % node.ndim, 0)
        return build.transpose(node, order)


def _argument_paths(fn, tree) -> list[str]:
    """How a user writes each leaf of the arguments."""
    if isinstance(tree, dict):
        return [p for name in sorted(tree) for p in leaf_paths(tree[name], name)]
    names = positional_names(fn)
    paths = []
    for position, argument in enumerate(tree):
        name = names[position] if position < len(names) else f"args[{position}]"
        paths += leaf_paths(argument, name)
    return paths
