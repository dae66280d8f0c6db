"""Loops and choices of a batch: one loop whose steps are batches.

Where examples take different numbers of steps, the loop runs as long as one of them does, and the
carries of those that are done stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphc.ir import build, control
from graphc.ir.dims import DimLike
from graphc.ir.graph import Graph, Source, substitute
from graphc.ir.node import Node
from graphc.ir.types import TensorType


def batched(
    node: Node, inputs: Sequence[Node], mapped: Sequence[bool], size: DimLike,
    sources: dict[Node, Source], batch: Callable,
) -> list[tuple[Node, bool]]:  # fmt: skip
    """The results for a batch, and whether each has the batch as axis 0."""
    walk = _batched_cond if node.op == "cond" else _batched_loop
    return walk(node, inputs, mapped, size, sources, batch)


def _stand_in(position: int, like: Node, size: DimLike) -> Node:
    return build.input(position, "step b", TensorType(like.dtype, (size, *like.shape)))


def _exchanged(x: Node) -> Node:
    """The first two axes exchanged: steps of a batch, or a batch of steps."""
    return build.transpose(x, [1, 0, *range(2, x.ndim)])


def _chosen(alive: Node, new: Node, old: Node) -> Node:
    return build.elementwise("where", build.broadcast(alive, new.shape, (0,)), new, old)


def _batched_loop(node, inputs, mapped, size, sources, batch):
    body, cond, counted = node.attr("body"), node.attr("cond"), node.attr("counted")
    own, count = control.parameters(node), node.attr("carries")
    flags = list(mapped[counted:])
    counts = inputs[0] if counted and mapped[0] else None  # one number of steps an example
    first = len(body.inputs)
    stand_ins = {p: _stand_in(first + k, p, size) for k, p in enumerate(body.inputs)}
    differ = counts is not None
    while True:  # until the carries that come out are mapped as those that go in
        values = {p: stand_ins[p] for p, f in zip(body.inputs, flags, strict=True) if f}
        found = batch(body.outputs, values, size, sources)
        test = None
        if cond is not None:
            ((test, each),) = batch(cond.outputs, values, size, sources)
            differ = differ or each
        new = [k for k in range(count) if not flags[k] and (differ or found[k][1])]
        if not new:
            break
        for k in new:
            flags[k] = True
    outputs = [
        o if is_mapped or not flags[k] else build.spread(o, size)
        for k, (o, is_mapped) in enumerate(found[:count])
    ]
    ys = [o for o, _ in found[count:]]
    params = [values.get(p, p) for p in body.inputs]
    init = [
        x if m or not f else build.spread(x, size)
        for x, m, f in zip(inputs[counted:][:count], mapped[counted:], flags, strict=False)
    ]
    tests = [] if cond is None else [[test]]
    extra: list[tuple[Node, Node, Node]] = []  # parameter, first value, next value
    alive = None
    if counts is not None:
        step = build.input(2 * first, "step n", TensorType(np.dtype(np.int64), ()))
        each = build.input(2 * first + 1, "step n", counts.type)
        one = build.const(1, np.int64)
        total = build.reduce("max", counts, (0,))
        alive = build.elementwise("lt", build.broadcast(step, (size,), ()), each)
        begin, move = build.const(0, np.int64), "add"
        if node.attr("reverse"):
            last = total
            if node.attr("length") is not None:
                last = build.elementwise("minimum", last, build.size(node.attr("length"), np.int64))
            begin, move = build.elementwise("sub", last, one), "sub"
        extra.append((step, begin, build.elementwise(move, step, one)))
    if cond is not None and differ:
        alive = test if alive is None else build.elementwise("logical_and", alive, test)
        tests = [[build.reduce("max", test, (0,))]]
    if alive is not None:
        outputs = [_chosen(alive, o, p) for o, p in zip(outputs, params, strict=False)]
        ys = [
            _chosen(alive, y := o if m else build.spread(o, size), build.full_like(y, 0))
            for o, m in found[count:]
        ]
    xs = params[count : count + len(own.xs)]
    kept = [*params[:count], *(p for p, _, _ in extra), *xs]
    graphs, lifted = control.close(
        [[*outputs, *(n for _, _, n in extra), *ys], *tests], kept, sources
    )
    given = inputs[counted:]
    stacked = [
        _exchanged(x) if f else x
        for x, f in zip(given[count:], flags[count : count + len(own.xs)], strict=False)
    ]
    outside = dict(zip(params[count + len(own.xs) :], given[count + len(own.xs) :], strict=True))
    trip = inputs[0] if counted else None
    if counts is not None:
        outside[each], trip = counts, total
    results = build.loop(
        graphs[0], [*init, *(b for _, b, _ in extra)], stacked,
        substitute(lifted, outside, sources), length=node.attr("length"), count=trip,
        cond=graphs[1] if tests else None, reverse=node.attr("reverse"), grow=node.attr("grow"),
        remat=node.attr("remat"),
    )  # fmt: skip
    ends = [(r, f) for r, f in zip(results, flags[:count], strict=False)]
    made = results[count + len(extra) :]
    for (_, is_mapped), result in zip(found[count:], made, strict=True):
        is_mapped = is_mapped or alive is not None
        ends.append((_exchanged(result) if is_mapped else result, is_mapped))
    return ends


def _batched_cond(node, inputs, mapped, size, sources, batch):
    pred, *operands = inputs
    sides = [node.attr("on_true"), node.attr("on_false")]
    flags = mapped[1:]
    if mapped[0]:  # both sides for all examples
        chosen = []
        for side in sides:
            values = dict(zip(side.inputs, operands, strict=True))
            first = len(side.inputs)
            stand_ins = {p: _stand_in(first + k, p, size) for k, p in enumerate(side.inputs)}
            batched_inputs = {p: stand_ins[p] for p, f in zip(side.inputs, flags, strict=True) if f}
            found = batch(side.outputs, batched_inputs, size, sources)
            back = {batched_inputs.get(p, p): x for p, x in values.items()}
            nodes = substitute([o for o, _ in found], back, sources)
            pairs = zip(nodes, found, strict=True)
            chosen.append([n if f else build.spread(n, size) for n, (_, f) in pairs])
        return [(_chosen(pred, yes, no), True) for yes, no in zip(*chosen, strict=True)]
    found = []
    for side in sides:
        pairs = list(zip(side.inputs, flags, strict=True))
        values = {p: _stand_in(k, p, size) for k, (p, f) in enumerate(pairs) if f}
        found.append((batch(side.outputs, values, size, sources), values))
    results = [any(f[0][k][1] for f in found) for k in range(len(sides[0].outputs))]
    made = []
    for side, (outputs, values) in zip(sides, found, strict=True):
        pairs = zip(outputs, results, strict=True)
        nodes = [o if m or not f else build.spread(o, size) for (o, m), f in pairs]
        made.append(Graph("body", tuple(values.get(p, p) for p in side.inputs), tuple(nodes)))
    return list(zip(build.cond(pred, operands, *made), results, strict=True))
