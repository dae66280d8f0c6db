"""Bodies of loops and choices: run once on stand-ins, closed over what they use from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import DTypeError, ShapeError, TraceError
from graphc.ir import build
from graphc.ir import control as _control
from graphc.ir.dims import Dim, DimLike
from graphc.ir.node import Node
from graphc.ir.types import TensorType
from graphc.trace import printing
from graphc.trace.blame import IN_LOOP
from graphc.trace.context import TraceContext
from graphc.trace.dtypes import cast, common_dtype
from graphc.trace.source import located
from graphc.trace.tracer import Tracer
from graphc.trace.tree import difference, flatten, leaf_paths, unflatten
from graphc.wording import kind_of, shape_text

_ATTEMPTS = 5  # each promotes a carry that began as a Python number; there are few dtypes


def scan(
    ctx: TraceContext, body: Callable, init: Any, xs: Any, length: DimLike | None,
    reverse: bool = False, remat: bool = False, name: str = "scan",
):  # fmt: skip
    """``(carry, ys)`` of the steps ``carry, y = body(carry, x)``."""
    stacked = [ctx.lift(leaf) for leaf in flatten(xs)[0]]
    treedef = flatten(xs)[1]
    length = _length(name, stacked, leaf_paths(xs, "xs"), length)
    parts = [TensorType(x.dtype, x.shape[1:]) for x in stacked]

    def step(carry, given):
        x = unflatten(treedef, [ctx.wrap(p) for p in given])
        result = body(carry, x)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TraceError(
                located(
                    f"the body of {name} returns (carry, y), not {kind_of(result)}.\n"
                    "y is what is collected of a step: return carry, None where that is nothing."
                )
            )
        return result

    made = _Carried(ctx, name, init, step, parts, prints=True)
    if isinstance(length, int) and length == 0:
        results = [*made.init, *(build.full((0, *y.shape), 0, y.dtype) for y in made.ys)]
    else:
        results = made.loop(
            [x.node for x in stacked], length=length, reverse=reverse, remat=remat
        )  # fmt: skip
    ys = [ctx.wrap(node) for node in results[len(made.init) :][: len(made.ys)]]
    return made.carry(results), unflatten(made.ys_tree, ys)


def fori_loop(
    ctx: TraceContext, lower: Any, upper: Any, body: Callable, init: Any, remat: bool = False
):
    """``carry = body(i, carry)`` for i from ``lower`` up to ``upper``, which may be traced."""
    known = all(isinstance(b, int | np.integer | Dim) for b in (lower, upper))
    first, last = (_bound(ctx, b) for b in (lower, upper))

    def step(carry, given):
        i, rest = carry
        return (i + 1, body(i, rest)), ()

    test = (lambda carry: carry[0] < Tracer(ctx, last)) if remat else None
    init, prints = (Tracer(ctx, first, True), init), known and not remat
    made = _Carried(ctx, "fori_loop", init, step, (), test, prints=prints)
    if remat:  # segments of as many steps as it turns out to have
        results = made.loop((), length=None, remat=True)
    elif known:
        steps = upper - lower
        length = steps if isinstance(steps, Dim) else max(int(steps), 0)
        results = made.loop((), length=length) if length != 0 else made.init
    else:
        steps = build.elementwise("sub", last, first)
        results = made.loop((), length=None, count=steps)
    return made.carry(results)[1]


def while_loop(
    ctx: TraceContext, condition: Callable, body: Callable, init: Any, max_steps: int | None,
    remat: bool = False,
):  # fmt: skip
    """``carry = body(carry)`` as long as ``condition(carry)``, at most ``max_steps`` times."""

    def step(carry, given):
        return body(carry), ()

    made = _Carried(ctx, "while_loop", init, step, (), condition)
    return made.carry(made.loop((), length=max_steps, remat=remat))


def cond(ctx: TraceContext, pred: Any, on_true: Callable, on_false: Callable, operands: tuple):
    """``on_true(*operands)`` or ``on_false(*operands)``, only one of which is computed."""
    test = _truth("cond", ctx.lift(pred), "predicate")
    known = set(ctx.sources)
    sides: list[list[Tracer]] = []
    trees, returned = [], []
    for side in (on_true, on_false):
        with ctx.undecided(), ctx.without_prints("one side of cond"):
            returned.append(side(*operands))
        leaves, tree = flatten(returned[-1])
        sides.append([ctx.lift(leaf) for leaf in leaves])
        trees.append(tree)
    if trees[0] != trees[1]:
        path, yes, no = difference(*returned, "result")
        raise TraceError(
            located(
                f"the sides of cond return different structures: `{path}` is {yes} where true, "
                f"{no} where false.\nReturn the same structure from both."
            )
        )
    groups: list[list[Node]] = [[], []]
    weak = []
    for position, (yes, no) in enumerate(zip(*sides, strict=True)):
        if yes.shape != no.shape:
            path = leaf_paths(unflatten(trees[0], sides[0]), "result")[position]
            raise ShapeError(
                located(
                    f"the sides of cond differ: `{path}` is {yes.node.type} where true, "
                    f"{no.node.type} where false.\nReturn the same shapes from both, "
                    "such as np.zeros_like(...) for what a side has not."
                )
            )
        dtype = common_dtype(yes, no)
        weak.append(yes.weak and no.weak)
        for group, value in zip(groups, (yes, no), strict=True):
            group.append(cast(value.node, dtype))
    groups = [ctx.resolve(group) for group in groups]
    leaf_ops = ("input", "placeholder", "const")
    (yes_body, no_body), outside = _control.close(
        groups, (), ctx.sources, lambda node: node not in known and node.op not in leaf_ops
    )
    results = build.cond(test, outside, yes_body, no_body)
    return unflatten(trees[0], [ctx.wrap(r, w) for r, w in zip(results, weak, strict=True)])


# -------------------------------------------------------------------------------------- carries


class _Carried:
    """A body traced with carries of the types that it hands on.

    A carry that starts as a Python number takes the dtype that the body gives it, as the number
    would in NumPy; one that starts as an array keeps its own.
    """

    def __init__(
        self, ctx, name: str, init: Any, step: Callable, parts, condition=None, prints=False
    ):
        self.ctx, self.name = ctx, name
        leaves, self.tree = flatten(init)
        tracers = [ctx.lift(leaf) for leaf in leaves]
        paths = leaf_paths(init, "carry")
        state = [(t.node.dtype, t.weak) for t in tracers]
        shapes = [t.shape for t in tracers]
        for _ in range(_ATTEMPTS):
            before = state
            where = f"the body of {name}"
            with ctx.own_prints() as self.shown, _prints(ctx, None if prints else where):
                outputs = self._trace(step, condition, state, shapes, parts)
            state = [
                self._next(kind, shape, out, path)
                for kind, shape, out, path in zip(before, shapes, outputs, paths, strict=True)
            ]
            if state == before:
                break
        else:
            raise DTypeError(located(f"the carry of {name} changes its dtype at every step"))
        self.weak = [weak for _, weak in state]
        self.init = [cast(t.node, dtype) for t, (dtype, _) in zip(tracers, state, strict=True)]
        self.outputs = [cast(o.node, dtype) for o, (dtype, _) in zip(outputs, state, strict=True)]

    def _trace(self, step, condition, state, shapes, parts) -> list[Tracer]:
        ctx, level = self.ctx, self.ctx.new_level()
        types = [TensorType(d, s) for (d, _), s in zip(state, shapes, strict=True)]
        self.params = [
            build.placeholder(level, k, t, IN_LOOP) for k, t in enumerate([*types, *parts])
        ]
        count = len(types)

        def carry():
            pairs = zip(self.params, state, strict=False)
            return unflatten(self.tree, [Tracer(ctx, p, weak) for p, (_, weak) in pairs])

        self.test = None
        if condition is not None:
            self.test = _truth(self.name, ctx.lift(condition(carry())), "condition")
        result, ys = step(carry(), self.params[count:])
        leaves, tree = flatten(result)
        if tree != self.tree:
            path, before, after = difference(carry(), result, "carry")
            raise TraceError(
                located(
                    f"the carry of {self.name} changes its structure: `{path}` starts as {before} "
                    f"and becomes {after}.\nA loop keeps the structure: return the carry in the "
                    "form in which it starts."
                )
            )
        y_leaves, self.ys_tree = flatten(ys)
        self.ys = ctx.resolve([ctx.lift(y).node for y in y_leaves])
        return [ctx.lift(leaf) for leaf in leaves]

    def _next(self, kind, shape, out: Tracer, path: str):
        """The dtype of a carry, and whether it is a Python number, given what a step makes."""
        dtype, weak = kind
        if out.shape != shape:
            self._refuse(path, TensorType(dtype, shape), out.node.type, out)
        if weak and out.weak:
            return np.result_type(dtype, out.dtype), True
        if weak:
            return out.dtype, False
        if out.dtype != dtype and (not out.weak or _promoted(dtype, out) != dtype):
            self._refuse(path, dtype, out.dtype, out)
        return kind

    def _refuse(self, path: str, before, after, out: Tracer):
        source = self.ctx.sources.get(out.node)
        line = f", line {source.line}" if source else ""
        shapes = isinstance(before, TensorType)
        if shapes:
            fix = f"start with an array of shape {shape_text(after.shape)}"
            if after.shape[1:] == before.shape[1:]:
                fix += "; rows that steps add are collected as y, by gc.scan"
        elif after.kind == "c" and before.kind != "c":
            fix = f"start with np.{after}, such as {path}.astype(np.{after})"
        else:
            fix = f"start with np.{after}, or return {path}.astype(np.{before})"
        raise (ShapeError if shapes else DTypeError)(
            located(
                f"the carry of {self.name} changes: `{path}`: {before} -> {after}{line}\n"
                f"A loop keeps dtypes and shapes: {fix}.",
                source,
            )
        )

    def loop(self, xs: Sequence[Node], **options) -> list[Node]:
        """The results of the loop over ``xs``."""
        printed = printing.nodes_of(self.shown)
        if self.shown:
            printed = [build.const(np.int64(0)), *printed]
        outputs = self.ctx.resolve([*self.outputs, *self.ys, *printed])
        tests = [] if self.test is None else [self.ctx.resolve([self.test])]
        graphs, outside = _control.close([outputs, *tests], self.params, self.ctx.sources)
        condition = graphs[1] if tests else None
        results = build.loop(graphs[0], self.init, xs, outside, cond=condition, **options)
        if self.shown:
            stacked = tuple(results[len(results) - len(printed) :])
            ranks, reverse = tuple(n.ndim for n in stacked), bool(options.get("reverse"))
            steps = printing.StepsShown(tuple(self.shown), stacked, ranks, reverse)
            self.ctx.shown.append(steps)
        return results

    def carry(self, results: Sequence[Node]) -> Any:
        """The last carry, from the first results of the loop."""
        pairs = zip(results, self.weak, strict=False)
        return unflatten(self.tree, [self.ctx.wrap(node, weak) for node, weak in pairs])


def _prints(ctx, where: str | None):
    """The context in which a body is traced: ``where`` it may not print, if it may not."""
    return contextlib.nullcontext() if where is None else ctx.without_prints(where)


def _promoted(dtype: np.dtype, number: Tracer) -> np.dtype:
    samples = {"b": True, "i": 1, "u": 1, "f": 1.0, "c": 1j}
    return np.result_type(dtype, samples[number.dtype.kind])


# ------------------------------------------------------------------------------------ arguments


def _length(name: str, stacked: Sequence[Tracer], paths, length) -> DimLike:
    """How many steps; ShapeError where the arguments do not agree."""
    if isinstance(length, Tracer):
        raise TraceError(located(f"the length of {name} is traced; use fori_loop or while_loop"))
    for x, path in zip(stacked, paths, strict=True):
        if not x.ndim:
            raise ShapeError(located(f"{name} runs over axis 0, but `{path}` is a single value"))
        if length is None:
            length = x.shape[0]
        elif x.shape[0] != length:
            raise ShapeError(located(f"{name} over {length} steps, but `{path}` has {x.shape[0]}"))
    if length is None:
        raise TraceError(located(f"{name} needs xs or length="))
    return length if isinstance(length, Dim) else int(length)


def _bound(ctx: TraceContext, value: Any) -> Node:
    tracer = ctx.lift(value)
    if tracer.ndim or tracer.dtype.kind not in "iu":
        raise DTypeError(located(f"a bound of fori_loop is {tracer.node.type}, not one integer"))
    return cast(tracer.node, np.int64)


def _truth(name: str, value: Tracer, what: str) -> Node:
    if value.ndim or value.dtype != bool:
        raise DTypeError(
            located(
                f"the {what} of {name} is {value.node.type}, not one bool; reduce it: (...).all()"
            )
        )
    return value.node
