"""Forward mode through loops and choices: the tangents are more carries and more results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.ad.guards import CLEAN
from graphc.ad.jvp_rules import DEAD, Tangent, filled
from graphc.ir import build, control
from graphc.ir.graph import Graph, Source, substitute
from graphc.ir.node import Node


def push(
    node: Node, tangents: Sequence[Tangent | None], sources: dict[Node, Source], push: Callable
) -> list[Tangent | None]:
    """The tangents of the results, from those of the inputs; ``push`` is that of ad/forward."""
    walk = _push_cond if node.op == "cond" else _push_loop
    return walk(node, tangents, sources, push)


def _push_loop(node, tangents, sources, push):
    body, cond, counted = node.attr("body"), node.attr("cond"), node.attr("counted")
    given, own, tangents = control.operands(node), control.parameters(node), tangents[counted:]
    count = len(own.init)
    extra = len(body.inputs)
    moving = [
        None if t is None else build.input(extra + k, "step t", parameter.type)
        for k, (t, parameter) in enumerate(zip(tangents, body.inputs, strict=True))
    ]
    zeros = [CLEAN if t is None else t.zeros for t in tangents]
    while True:  # until what a step makes is what the next one takes
        marked = [
            None if p is None else Tangent(p, DEAD if z else CLEAN)
            for p, z in zip(moving, zeros, strict=True)
        ]
        found = push(body.outputs, body.inputs, marked, sources)
        changed = False
        for k, t in enumerate(found[:count]):
            late = t is not None and moving[k] is None  # the first one is zero
            if late:
                moving[k] = build.input(extra + k, "step t", body.inputs[k].type)
            if late or (t is not None and t.zeros and not zeros[k]):
                zeros[k], changed = DEAD, True
        if not changed:
            break
    carried = [k for k in range(count) if moving[k] is not None]
    read = [k for k in range(len(own.xs)) if moving[count + k] is not None]
    stacked = [k for k in range(count, len(found)) if found[k] is not None]
    outputs = [*body.outputs[:count], *(filled(found[k], body.outputs[k]) for k in carried)]
    outputs += [*body.outputs[count:], *(found[k].node for k in stacked)]
    params = [*own.init, *(moving[k] for k in carried), *own.xs]
    params += [moving[count + k] for k in read]
    groups = [outputs] if cond is None else [outputs, list(cond.outputs)]
    graphs, lifted = control.close(groups, params, sources)
    outside = dict(zip(own.consts, given.consts, strict=True))
    for p, t in zip(moving[count + len(own.xs) :], tangents[count + len(own.xs) :], strict=True):
        if p is not None:
            outside[p] = t.node
    results = build.loop(
        graphs[0],
        [*given.init, *(filled(tangents[k], given.init[k]) for k in carried)],
        [*given.xs, *(tangents[count + k].node for k in read)],
        substitute(lifted, outside, sources),
        length=node.attr("length"), count=given.count,
        cond=None if cond is None else graphs[1], reverse=node.attr("reverse"),
        grow=node.attr("grow"), remat=node.attr("remat"),
    )  # fmt: skip
    result: list[Tangent | None] = [None] * len(body.outputs)
    for position, k in enumerate(carried):
        result[k] = Tangent(results[count + position], zeros[k])
    first = count + len(carried) + len(body.outputs) - count
    for position, k in enumerate(stacked):
        result[k] = Tangent(results[first + position], DEAD)
    return result


def _push_cond(node, tangents, sources, push):
    pred, *operands = node.inputs
    tangents = tangents[1:]
    sides = [node.attr("on_true"), node.attr("on_false")]
    alive = [k for k, t in enumerate(tangents) if t is not None]
    found = []
    for side in sides:
        extra = len(side.inputs)
        moving = [None] * extra
        for position, k in enumerate(alive):
            stand_in = build.input(extra + position, "step t", side.inputs[k].type)
            moving[k] = Tangent(stand_in, tangents[k].zeros and DEAD)
        pushed = push(side.outputs, side.inputs, moving, sources)
        found.append((pushed, [t.node for t in moving if t is not None]))
    moved = [k for k in range(len(sides[0].outputs)) if any(f[0][k] is not None for f in found)]
    made = [
        Graph("body", (*side.inputs, *inputs), tuple(filled(f[k], side.outputs[k]) for k in moved))
        for side, (f, inputs) in zip(sides, found, strict=True)
    ]
    results = build.cond(pred, [*operands, *(tangents[k].node for k in alive)], *made)
    result: list[Tangent | None] = [None] * len(sides[0].outputs)
    for k, value in zip(moved, results, strict=True):
        result[k] = Tangent(value, DEAD)
    return result
