"""Stacks that are never put together: a loop whose steps each have arguments of their own (the
weights of equal layers) reads them where they are, and writes results of its steps where the
caller wants them. The table of pointers that a program is given is what such a loop counts through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphc.ir import control
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.schedule.loops import Buffer

ALIASES = ("reshape", "barrier")  # other names for the memory of their first input


def storage_root(node: Node) -> Node:
    """The node whose memory a chain of reshapes and barriers shares."""
    while node.op in ALIASES:
        node = node.inputs[0]
    return node


@dataclass(frozen=True)
class Rows:
    """``read``: of a concatenation, the arguments whose rows it stacks. ``written``: of a stacked
    result, the outputs that are its rows, by position. ``updates``: of such a result, the stack
    that the loop changes in place. ``writer``: of nodes between a result and outputs, the loop."""

    read: Mapping[Node, Sequence[Node]] = field(default_factory=dict)
    written: Mapping[Node, Sequence[int]] = field(default_factory=dict)
    updates: Mapping[Node, Node] = field(default_factory=dict)
    writer: Mapping[Node, Node] = field(default_factory=dict)

    @property
    def folded(self) -> set[Node]:
        """What needs no kernel."""
        return {*self.writer, *self.read}


NO_ROWS = Rows()


def find_rows(graph: Graph, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> Rows:
    """The stacks of a graph between these buffers that can stay apart."""
    loops = [node for node in graph.order if node.op == "loop"]
    if not loops:
        return NO_ROWS
    arguments = {n for n, b in zip(graph.inputs, inputs, strict=True) if b.kind == "input"}
    read: dict[Node, list[Node]] = {}
    for loop in loops:
        for stack in dict.fromkeys(control.operands(loop).xs):
            rows = _stacked(stack, arguments)
            if rows and stack not in graph.outputs and _only_stepped_through(stack, graph):
                read[stack] = rows
    written: dict[Node, list[int]] = {}
    updates: dict[Node, Node] = {}
    writer: dict[Node, Node] = {}
    places: dict[Node, list[int]] = {}
    for position, node in enumerate(graph.outputs):
        places.setdefault(node, []).append(position)
    for item in graph.order:
        if item.op == "item" and _is_stacked_result(item):
            found = _unstacked(item, graph, places)
            if found is None:
                continue
            rows, between = found
            if all(k in graph.donated and outputs[k].kind == "input" for k in rows):
                donors = [graph.inputs[graph.donated[k]] for k in rows]
                touching = _touching(item.inputs[0], set(donors), read)
                if touching and not _is_update(item, touching, donors, read):
                    continue
                if touching:
                    updates[item] = touching[0]
            elif not all(outputs[k].kind == "output" for k in rows):
                continue
            written[item] = rows
            writer.update(dict.fromkeys(between, item.inputs[0]))
    return Rows(read, written, updates, writer)


def _touching(loop: Node, donors: set[Node], read: Mapping[Node, Sequence[Node]]) -> list[Node]:
    """What a loop reads of the memory of ``donors``."""
    return [
        i for i in loop.inputs
        if storage_root(i) in donors or not donors.isdisjoint(read.get(i, ()))
    ]  # fmt: skip


def _is_update(item: Node, touching: Sequence[Node], donors: Sequence[Node], read) -> bool:
    """Whether each step reads the row that it overwrites, and no other step does."""
    (stack, *more), (loop,) = touching, item.inputs
    if more or list(read.get(stack, ())) != list(donors) or stack.type != item.type:
        return False
    return stack in control.operands(loop).xs


def _stacked(node: Node, arguments: set[Node]) -> list[Node]:
    """The arguments that are the rows of a concatenation."""
    if node.op != "concat" or node.attr("axis") != 0:
        return []
    rows = []
    for row in node.inputs:
        if row.shape[0] != 1:
            return []
        root = storage_root(row)
        if root not in arguments:
            return []
        rows.append(root)
    return rows


def _only_stepped_through(stack: Node, graph: Graph) -> bool:
    """Whether loops that read a stack step by step are all who read it."""
    for user in graph.users[stack]:
        if user.op != "loop":
            return False
        given = control.operands(user)
        if stack in given.init or stack in given.consts:
            return False
    return True


def _is_stacked_result(item: Node) -> bool:
    """Whether each step of a loop writes a row, whatever the values are."""
    (loop,) = item.inputs
    if loop.op != "loop" or item.attr("index") < loop.attr("carries"):
        return False
    counted = loop.attr("cond") is not None or loop.attr("counted")
    return isinstance(loop.attr("length"), int) and not counted


def _unstacked(item: Node, graph: Graph, places: Mapping[Node, Sequence[int]]):
    """The outputs that are the rows of ``item``, in order, and the nodes that take them apart; None
    if there are others who read it, or rows of which no output or several are made."""
    rows: dict[int, int] = {}
    parts: list[Node] = []
    whole = (1, *item.shape[1:])
    for node in graph.users[item]:
        if node.op != "slice" or node.attr("size") != whole or any(node.attr("start")[1:]):
            return None
        row = node.attr("start")[0]
        parts.append(node)
        while node not in places:
            users = graph.users[node]
            if len(users) != 1 or users[0].op not in ALIASES:
                return None
            (node,) = users
            parts.append(node)
        if graph.users[node] or len(places[node]) != 1 or row in rows:
            return None
        (rows[row],) = places[node]
    if item in places or len(rows) != item.shape[0]:
        return None
    return [rows[k] for k in range(len(rows))], parts
