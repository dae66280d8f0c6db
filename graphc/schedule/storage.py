"""Which buffer each value that is in memory has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from graphc.ir import build
from graphc.ir.control import CONTROL, is_fixed
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.schedule import loops as L
from graphc.schedule.deps import Deps, completes_rows, storage_root
from graphc.schedule.fuse import Group
from graphc.schedule.inplace import same_place
from graphc.schedule.program import ProgramBuilder


@dataclass(frozen=True)
class History:
    """All values of a carry in a row, in memory for a step more than the loop has: a step reads
    its part of ``before`` and writes that of ``after``. So nothing is copied, and what a loop
    stacks of its carries is here. ``results`` are the numbers of those."""

    first: L.View
    before: L.View
    after: L.View
    last: L.View
    results: dict[int, L.View]


def _history(node: Node, carry: int, storage, program: ProgramBuilder) -> History | None:
    """Of a carry that a loop of a known number of steps stacks; None for others, where results of
    the program have memory of their own, and of steps whose carries stay in registers."""
    body, length, count = node.attr("body"), node.attr("length"), node.attr("carries")
    given, made = body.inputs[carry], body.outputs[carry]
    stacked = {
        k: y is made for k, y in enumerate(body.outputs) if k >= count and (y is made or y is given)
    }  # fmt: skip
    if (
        length is None
        or not is_fixed(node)
        or not stacked
        or made in body.inputs
        or body.has_few_elements
    ):
        return None
    if any(item_of(node, k) in storage for k in (carry, *stacked)):
        return None
    size, dtype = given.type.size, given.dtype
    base = program.temp("tmp", dtype, (length + 1) * size)
    whole = (0, size) if not node.attr("reverse") else (size, 0)
    ends = (0, length * size) if not node.attr("reverse") else (length * size, 0)
    before, after = (program.view(base, offset, length * size) for offset in whole)
    first, last = (program.view(base, offset, size) for offset in ends)
    results = {k: after if is_made else before for k, is_made in stacked.items()}
    return History(first, before, after, last, results)


def assign_storage(graph: Graph, deps: Deps, order: list[Group], program, inputs, outputs):
    """The buffers of what is in memory, and the histories of carries by loop and number."""
    storage = _given(graph, inputs, outputs)
    histories = _carried(graph, deps, storage, program)
    group_of = {m: g for g in order for m in g.members}
    last_use = _last_uses(deps, order)
    writers = Counter(storage.values())
    unwritten = {
        b for k, b in enumerate(outputs)
        if b.kind == "output" and k not in graph.donated and writers[b] == 1
    }  # fmt: skip
    until: dict[L.Buffer, int] = {}  # the last kernel that needs what is there
    for node, buffer in storage.items():
        until[buffer] = max(until.get(buffer, 0), last_use.get(node, 0))
    for position, group in enumerate(order):
        taken: set[L.Buffer] = set()
        for unit in group.members:
            if unit in storage or unit.op in CONTROL:
                continue
            if not _leaves_kernel(unit, group, deps, group_of):
                continue
            result = _result_to_be(unit, order[last_use[unit]], deps, storage, unwritten)
            if result is not None:
                unwritten.remove(result)
                buffer = result
            elif reused := _reusable(unit, group, deps, storage, until, position, taken):
                taken.add(reused)
                buffer = reused
            else:
                buffer = program.temp("tmp", unit.dtype, unit.type.size)
            storage[unit] = buffer
            until[buffer] = max(until.get(buffer, 0), last_use[unit])
    return storage, histories


def _given(graph: Graph, inputs, outputs) -> dict[Node, L.Buffer]:
    """What has its memory from the caller."""
    storage: dict[Node, L.Buffer] = dict(zip(graph.inputs, inputs, strict=True))
    for index, node in enumerate(graph.outputs):
        donor = graph.donated.get(index)
        storage[storage_root(node)] = outputs[index] if donor is None else inputs[donor]
    return storage


def _carried(
    graph: Graph, deps: Deps, storage: dict[Node, L.Buffer], program: ProgramBuilder
) -> dict[tuple[Node, int], History]:
    """Constants and the carries of loops become part of ``storage``; the histories of carries."""
    histories: dict[tuple[Node, int], History] = {}
    for node in graph.order:
        if node.op == "const" and node in deps.stored and node not in storage:
            storage[node] = program.const(node)
        elif node.op == "loop":  # changes its carries in place
            first = node.attr("counted")
            for index in range(node.attr("carries")):
                last, begin = item_of(node, index), storage_root(node.inputs[first + index])
                history = _history(node, index, storage, program)
                if history is not None:
                    histories[node, index] = history
                    storage[begin], storage[last] = history.first, history.last
                    storage.update({item_of(node, k): v for k, v in history.results.items()})
                    continue
                if last not in storage:
                    storage[last] = program.temp("tmp", last.dtype, last.type.size)
                storage[begin] = storage[last]
    return histories


def item_of(node: Node, index: int) -> Node:
    return build.make("item", (node,), index=index)


def _leaves_kernel(unit: Node, group: Group, deps: Deps, group_of) -> bool:
    if unit in deps.stored and unit not in deps.operands:
        return True
    return any(group_of[u.reader] is not group for u in deps.used_by.get(unit, ()))


def _last_uses(deps: Deps, order: list[Group]) -> dict[Node, int]:
    last: dict[Node, int] = {}
    for position, group in enumerate(order):
        for member in group.members:
            last[member] = max(last.get(member, 0), position)
            for use in deps.uses[member]:
                last[use.unit] = position
    return last


def _result_to_be(unit, last: Group, deps, storage, unwritten) -> L.Buffer | None:
    """The memory of a result that the last kernel to read ``unit`` writes just where it reads it
    (the exponentials of a softmax, then scaled); until then nobody else needs it."""
    if not unwritten or unit in last.members:
        return None
    for result in last.units:
        if result.type != unit.type or storage.get(result) not in unwritten:
            continue
        reads = [u for m in last.members for u in deps.uses[m] if u.unit is unit]
        if all(same_place(u, result, last, deps) for u in reads):
            return storage[result]
    return None


def _reusable(unit, group, deps, storage, until, position, taken) -> L.Buffer | None:
    """A temporary that dies here and is read only where ``unit`` writes."""
    if group.opaque or unit in group.post or completes_rows(unit):
        return None
    for use in deps.uses[unit]:
        buffer = storage.get(use.unit)
        if buffer is None or buffer.kind != "temp" or buffer in taken:
            continue
        if use.unit.op == "input":  # of a body: a temporary of what surrounds it
            continue
        if use.unit.type != unit.type or use.unit in group.member_set or until[buffer] > position:
            continue
        reads = [u for m in group.members for u in deps.uses[m] if storage.get(u.unit) is buffer]
        if all(same_place(u, unit, group, deps) for u in reads):
            return buffer
    return None
