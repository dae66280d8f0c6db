"""Updates in place: where a value may be written over what its own kernel reads."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.schedule.canonical import copy_of
from graphc.schedule.deps import (
    Deps,
    Use,
    completes_rows,
    domain,
    is_call,
    reduced_axes,
    storage_root,
)
from graphc.schedule.fuse import Fusion, Group
from graphc.schedule.placement import segments


def stage_updates(graph: Graph, staged: set[int]) -> tuple[Graph, set[Node], set[Node]]:
    """Copies behind the outputs ``staged``, with what must be kept in memory for them: the value
    is finished there before a kernel of its own overwrites the donated input."""
    outputs = list(graph.outputs)
    kept, copies = set(), set()
    for k in sorted(staged):
        kept.add(storage_root(outputs[k]))
        copy = copy_of(outputs[k])
        while copy in outputs:  # another output is a copy of the same value
            copy = copy_of(copy)
        outputs[k] = copy
        copies.add(copy)
    return graph.with_outputs(outputs), kept, copies


def updates(graph: Graph) -> Iterator[tuple[int, Node, Node]]:
    """(output position, the unit that writes it, input node) of each real in-place update."""
    for out, donor in graph.donated.items():
        root, target = storage_root(graph.outputs[out]), graph.inputs[donor]
        if root is not target:
            yield out, root.inputs[0] if root.op == "item" else root, target


def readers(graph: Graph, deps: Deps, target: Node) -> Iterator[Use]:
    """The uses of the memory of an input."""
    if graph.rows is None:
        yield from deps.used_by.get(target, ())
        return
    for index in graph.rows.sharing(target.attr("index")):
        yield from deps.used_by.get(graph.inputs[index], ())


def misaligned_updates(graph: Graph, deps: Deps, fusion: Fusion) -> set[int]:
    """Updates whose own kernel reads the old value at another position or in another pass."""
    blocked = set()
    for out, root, target in updates(graph):
        group = fusion.group_of[root]
        if root in group.post:  # written when all loops are done and the rest is computed
            continue
        if root.op == "loop":  # which changes rows of its own step (`ir.rows`)
            continue
        members = set(group.members)
        uses = [u for u in readers(graph, deps, target) if u.reader in members]
        if uses and not all(same_place(u, root, group, deps) for u in uses):
            blocked.add(out)
    return blocked


def same_place(use: Use, writer: Node, group: Group, deps: Deps) -> bool:
    """Whether a read happens in the iteration that writes the same element."""
    space = domain(writer)
    return (
        not group.opaque
        and not completes_rows(writer)  # complete before its readers begin
        and not reduced_axes(writer)
        and domain(use.reader) == space
        and use.unit.shape == writer.shape
        and use.axes == tuple(range(len(space)))
        and _is_one_pass(group, deps)
        and not _is_read_later(use.reader, writer, group, deps)
    )


def _is_one_pass(group: Group, deps: Deps) -> bool:
    """Whether all units of a group are computed in one iteration of one loop nest: none waits for
    a reduction of another or reads it elsewhere, and so none is read again in a later pass."""
    space, members = domain(group.units[0]), set(group.units)
    for unit in group.units:
        if domain(unit) != space:
            return False
        for use in deps.uses[unit]:
            elsewhere = use.axes != tuple(range(len(space)))
            waits = elsewhere or reduced_axes(use.unit) or is_call(use.unit)
            if use.unit in members and waits:
                return False
    return True


def _is_read_later(reader: Node, writer: Node, group: Group, deps: Deps) -> bool:
    """Whether what ``reader`` reads is read, or computed with once more, after ``writer`` has been
    stored: a product of the kernel comes between them."""
    if not any(completes_rows(u) for u in group.units):
        return False
    segment_of = segments(deps, group)
    waiting, seen = [reader], set()
    while waiting:
        unit = waiting.pop()
        if unit in seen or unit not in segment_of:
            continue
        seen.add(unit)
        if segment_of[unit] > segment_of[writer]:
            return True
        if unit is not writer and unit not in deps.stored and not completes_rows(unit):
            waiting += (u.reader for u in deps.used_by.get(unit, ()))
    return False
