"""Reverse mode through loops and choices.

The adjoint of a loop is two loops: the forward one again, which also stacks what the backward one
needs of each step, and one that runs the steps backwards over that tape. (The first does all that
the loop itself does; ``passes`` let it take the loop's place.) Kept are the results of dear ops
and the carries themselves; cheap arithmetic is done again, and what a step reads from ``xs`` or
from outside is there anyhow.

A loop whose number of steps only running tells counts them. Its tape is as long as ``max_steps``,
or grows (see ``grow`` in ir/control.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from graphc.ad.guards import ANYWHERE, CLEAN, Zeros
from graphc.ad.rules import Cotangent
from graphc.ir import build, control
from graphc.ir.dims import DimLike
from graphc.ir.graph import Graph, Source, substitute, topological
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.ir.types import TensorType, tensor_type

_DEAR = 10  # flops an element from which a result is kept rather than computed again
_SOME: Zeros = frozenset({ANYWHERE})
_COUNT = tensor_type(np.int64)

#: ``pull_back(outputs, cotangents, wrt, sources)``: :func:`graphc.ad.reverse.pull_back`.
PullBack = Callable[..., list[Cotangent | None]]


def _is_real(node: Node) -> bool:
    return node.dtype.kind in "fc"


# ------------------------------------------------------------------------------- what is active


def active_results(node: Node, needs: Sequence[bool], active_nodes: Callable) -> set[int]:
    """Which results change with the inputs that ``needs`` marks."""
    if node.op == "cond":
        found: set[int] = set()
        for key in ("on_true", "on_false"):
            side = node.attr(key)
            moved = active_nodes(side.order, _marked(side.inputs, needs[1:]))
            found |= {k for k, o in enumerate(side.outputs) if o in moved}
        return found
    body, count = node.attr("body"), node.attr("carries")
    given = list(needs[node.attr("counted") :])
    while True:
        moved = active_nodes(body.order, _marked(body.inputs, given))
        found = {k for k, o in enumerate(body.outputs) if o in moved}
        new = {k for k in found if k < count and not given[k]}
        if not new:
            carried = {k for k in range(count) if given[k] and _is_real(body.inputs[k])}
            return found | carried
        for k in new:
            given[k] = True


def _marked(nodes: Iterable[Node], flags: Iterable[bool]) -> list[Node]:
    return [n for n, flag in zip(nodes, flags, strict=True) if flag]


# ---------------------------------------------------------------------------------------- loops


def pull(
    node: Node, cts: dict[int, Cotangent], needs: tuple[bool, ...], results: set[int],
    sources: dict[Node, Source], pull_back: PullBack,
) -> list[Cotangent | None]:  # fmt: skip
    """Cotangents of the inputs of a loop or a choice, given those of its results.

    ``results`` are those that are active.
    """
    if node.op == "cond":
        return _pull_cond(node, cts, needs, sources, pull_back)
    if node.attr("remat") and node.attr("cond") is not None:
        return _pull_in_segments(node, cts, needs, results, sources, pull_back)
    return _LoopPull(node, cts, needs, results, sources, pull_back).cotangents()


class _LoopPull:
    """The adjoint of one loop."""

    def __init__(self, node, cts, needs, results, sources, pull_back):
        self.node, self.cts, self.sources, self.pull_back = node, cts, sources, pull_back
        self.body: Graph = node.attr("body")
        self.given, self.own = control.operands(node), control.parameters(node)
        carries, xs = len(self.own.init), len(self.own.xs)
        self.active = sorted(k for k in results if k < carries)
        self.read = sorted(k for k in cts if k >= carries)  # stacked results that have one
        after = needs[node.attr("counted") + carries :]
        self.xs = [k for k in range(xs) if after[k] and _is_real(self.own.xs[k])]
        flags = after[xs:]
        self.consts = [k for k, f in enumerate(flags) if f and _is_real(self.own.consts[k])]
        self.to_outside = dict(zip(self.own.consts, self.given.consts, strict=True))
        self.extra = len(self.body.inputs)

    def _parameter(self, type: TensorType, name: str) -> Node:
        self.extra += 1
        return build.input(self.extra - 1, f"step {name}", type)

    def cotangents(self) -> list[Cotangent | None]:
        body, own = self.body, self.own
        self.d_carry = [self._parameter(body.outputs[k].type, "d") for k in self.active]
        self.d_read = [self._parameter(body.outputs[k].type, "d") for k in self.read]
        self.sums = [self._parameter(own.consts[k].type, "s") for k in self.consts]
        wrt = [own.init[k] for k in self.active]
        wrt += [own.xs[k] for k in self.xs] + [own.consts[k] for k in self.consts]
        found, zeros = self._step(wrt)
        a, x = len(self.active), len(self.xs)
        back, d_xs, d_consts = found[:a], found[a : a + x], found[a + x :]
        carry_out = [self._node(ct, p) for ct, p in zip(back, self.d_carry, strict=True)]
        carry_out += [
            s if ct is None else build.elementwise("add", s, ct.node)
            for s, ct in zip(self.sums, d_consts, strict=True)
        ]
        ys = [self._node(ct, own.xs[k]) for ct, k in zip(d_xs, self.xs, strict=True)]
        results = self._backward(carry_out, ys)
        ends = iter(results)
        may_skip = CLEAN if control.is_fixed(self.node) else _SOME
        result: list[Cotangent | None] = [None] * len(self.node.inputs)
        first = self.node.attr("counted")
        for k, flagged in zip(self.active, zeros, strict=True):
            result[first + k] = Cotangent(next(ends), _SOME if flagged else may_skip)
        after = first + len(own.init)
        for k, ct in zip(self.consts, d_consts, strict=True):
            marks = may_skip | (_SOME if ct is None or ct.zeros else CLEAN)
            result[after + len(own.xs) + k] = Cotangent(next(ends), marks)
        for k, ct in zip(self.xs, d_xs, strict=True):
            marks = may_skip | (_SOME if ct is None or ct.zeros else CLEAN)
            result[after + k] = Cotangent(next(ends), marks)
        return result

    def _node(self, ct: Cotangent | None, like: Node) -> Node:
        return build.full_like(like, 0) if ct is None else ct.node

    def _step(self, wrt) -> tuple[list[Cotangent | None], list[bool]]:
        """The cotangents of one step, and which carries' may be zero by structure: where a step
        makes it so, the next one must know."""
        outputs = [self.body.outputs[k] for k in (*self.active, *self.read)]
        flagged = [k not in self.cts or bool(self.cts[k].zeros) for k in self.active]
        while True:
            marks = flagged + [bool(self.cts[k].zeros) for k in self.read]
            given = [
                Cotangent(d, _SOME if mark else CLEAN)
                for d, mark in zip([*self.d_carry, *self.d_read], marks, strict=True)
            ]
            found = self.pull_back(outputs, given, wrt, self.sources)
            new = [
                f or (ct is None or bool(ct.zeros)) for f, ct in zip(flagged, found, strict=False)
            ]
            if new == flagged:
                return found, flagged
            flagged = new

    # ----------------------------------------------------------------------- the two loops

    def _backward(self, carry_out: list[Node], ys: list[Node]) -> list[Node]:
        """The results of the loop over the tape."""
        node, own = self.node, self.own
        unknown = {*self.d_carry, *self.d_read, *self.sums}
        kept = _kept([*carry_out, *ys], unknown, own, bool(node.attr("remat")))
        count, length, tape = self._forward(kept)
        stand_ins = [self._parameter(k.type, "r") for k in kept]
        outputs = substitute([*carry_out, *ys], dict(zip(kept, stand_ins, strict=True)))
        used = set(topological(outputs))
        read = [k for k, x in enumerate(own.xs) if x in used]
        params = [*self.d_carry, *self.sums, *stand_ins, *(own.xs[k] for k in read), *self.d_read]
        (graph,), lifted = control.close([outputs], params, self.sources)
        consts = substitute(lifted, self.to_outside, self.sources)
        init = [
            self.cts[k].node if k in self.cts else build.full_like(self.given.init[k], 0)
            for k in self.active
        ]
        init += [build.full_like(s, 0) for s in self.sums]
        xs = [*tape, *(self.given.xs[k] for k in read), *(self.cts[k].node for k in self.read)]
        return build.loop(
            graph, init, xs, consts, length=length if xs or ys else None if count else length,
            count=count, reverse=not node.attr("reverse"), remat=node.attr("remat"),
        )  # fmt: skip

    def _forward(self, kept: list[Node]) -> tuple[Node | None, DimLike | None, list[Node]]:
        """How many steps there were, the length of the tape, and the tape."""
        node, body, given, own = self.node, self.body, self.given, self.own
        length, counts = node.attr("length"), node.attr("cond") is not None
        if not kept and not counts:
            return given.count, length, []
        grow = node.attr("grow")
        if kept and length is None:
            length, grow = control.tape_symbol(node), 1
        carries = len(own.init)
        outputs, ys = list(body.outputs[:carries]), list(body.outputs[carries:])
        params, init = list(own.init), list(given.init)
        if counts:
            counter = self._parameter(_COUNT, "n")
            params.append(counter)
            init.append(build.const(0, np.int64))
            outputs.append(build.elementwise("add", counter, build.const(1, np.int64)))
        ys += [k for k in dict.fromkeys(kept) if k not in ys]
        groups = [[*outputs, *ys]]
        if counts:
            groups.append(list(node.attr("cond").outputs))
        graphs, lifted = control.close(groups, [*params, *own.xs], self.sources)
        consts = substitute(lifted, self.to_outside, self.sources)
        results = build.loop(
            graphs[0], init, given.xs, consts, length=length, count=given.count,
            cond=graphs[1] if counts else None, reverse=node.attr("reverse"), grow=grow,
            remat=node.attr("remat"),
        )  # fmt: skip
        count = results[carries] if counts else given.count
        return count, length, [results[len(init) + ys.index(k)] for k in kept]


def _kept(outputs, unknown: set[Node], own: control.Loop, remat: bool) -> list[Node]:
    """Nodes of the forward step that the backward one reads from the tape.

    ``remat`` keeps only carries and computes all else again.
    """
    order = topological(outputs)
    backward: set[Node] = set()
    varies: set[Node] = set()  # from step to step
    carries = set(own.init)
    for node in order:
        if node in unknown or any(i in backward for i in node.inputs):
            backward.add(node)
        if node in carries or node in own.xs or any(i in varies for i in node.inputs):
            varies.add(node)
    stack = [i for n in reversed(order) if n in backward for i in reversed(n.inputs)]
    stack += [o for o in reversed(outputs) if o not in backward]
    kept: dict[Node, None] = {}
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen or node in backward or node not in varies:
            continue
        seen.add(node)
        if node in carries or (not remat and _is_dear(node, varies)):
            kept[node] = None
        else:
            stack.extend(reversed(node.inputs))
    return list(kept)


def _is_dear(node: Node, varies: set[Node]) -> bool:
    if node.op == "call_result":  # marks stay for further derivatives: its slope is a rule
        return True
    kind = OPS[node.op].kind
    if kind == "elementwise":
        return OPS[node.op].cost >= _DEAR
    if kind == "indexing":  # a part of what has to be kept otherwise
        return node.op == "scatter_add" or node.inputs[0] in varies
    return kind in ("reduction", "contraction") or node.op == "item"


def _pull_in_segments(node, cts, needs, results, sources, pull_back):
    """A loop of unknown length whose steps are run again: how many steps there are is counted
    first, then they are run in about as many segments as each has steps."""
    given, own, body = control.operands(node), control.parameters(node), node.attr("body")
    one = build.const(1, np.int64)
    total = _counted(node, given, own, sources)
    root = build.elementwise("ceil", build.elementwise("sqrt", build.cast(total, np.float64)))
    size = build.elementwise("maximum", build.cast(root, np.int64), one)
    segments = build.elementwise("floor_div", _sum(total, size, build.const(-1, np.int64)), size)
    extra = len(body.inputs)
    left, step = (build.input(extra + k, "step n", _COUNT) for k in range(2))
    inner = build.loop(
        body, own.init, (), own.consts, length=None,
        count=build.elementwise("minimum", left, step),
    )  # fmt: skip
    after = build.elementwise("sub", left, step)
    (graph,), lifted = control.close([[*inner, after]], [*own.init, left], sources)
    outside = dict(zip((*own.consts, step), (*given.consts, size), strict=True))
    consts = substitute(lifted, outside, sources)
    count = len(own.init)
    whole = build.loop(
        graph, [*given.init, total], (), consts, length=None, count=segments, remat=True
    )[0].inputs[0]  # fmt: skip
    active = [needs[k] for k in range(count)]
    needed = [lift in own.consts and needs[count + own.consts.index(lift)] for lift in lifted]
    found = pull(whole, cts, (False, *active, False, *needed), results, sources, pull_back)
    result: list[Cotangent | None] = [*found[1 : count + 1], *([None] * len(own.consts))]
    for lift, ct in zip(lifted, found[count + 2 :], strict=True):
        if lift in own.consts:
            result[count + own.consts.index(lift)] = ct
    return result


def _counted(node, given, own, sources) -> Node:
    """The number of steps of a loop with a condition."""
    body, count = node.attr("body"), len(own.init)
    counter = build.input(len(body.inputs), "step n", _COUNT)
    after = build.elementwise("add", counter, build.const(1, np.int64))
    groups = [[*body.outputs, after], list(node.attr("cond").outputs)]
    graphs, lifted = control.close(groups, [*own.init, counter], sources)
    consts = substitute(lifted, dict(zip(own.consts, given.consts, strict=True)), sources)
    return build.loop(
        graphs[0], [*given.init, build.const(0, np.int64)], (), consts,
        length=node.attr("length"), cond=graphs[1],
    )[count]  # fmt: skip


def _sum(*terms: Node) -> Node:
    total = terms[0]
    for term in terms[1:]:
        total = build.elementwise("add", total, term)
    return total


# -------------------------------------------------------------------------------------- choices


def _pull_cond(node, cts, needs, sources, pull_back) -> list[Cotangent | None]:
    """The choice between the adjoints of the two sides, which compute what they need again."""
    given = node.inputs[1:]
    wanted = [k for k, x in enumerate(given) if needs[k + 1] and _is_real(x)]
    read = sorted(cts)
    sides = []
    for key in ("on_true", "on_false"):
        side = node.attr(key)
        extra = [
            build.input(len(side.inputs) + j, "step d", side.outputs[k].type)
            for j, k in enumerate(read)
        ]
        pairs = zip(extra, read, strict=True)
        marked = [Cotangent(d, _SOME if cts[k].zeros else CLEAN) for d, k in pairs]
        wrt = [side.inputs[k] for k in wanted]
        found = pull_back([side.outputs[k] for k in read], marked, wrt, sources)
        outputs = [
            build.full_like(x, 0) if ct is None else ct.node
            for x, ct in zip(wrt, found, strict=True)
        ]
        sides.append(Graph("body", (*side.inputs, *extra), tuple(outputs)))
    results = build.cond(node.inputs[0], [*given, *(cts[k].node for k in read)], *sides)
    result: list[Cotangent | None] = [None] * len(node.inputs)
    for k, found in zip(wanted, results, strict=True):
        result[k + 1] = Cotangent(found, _SOME)
    return result
