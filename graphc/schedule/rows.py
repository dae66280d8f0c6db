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

_ALIASES = ("reshape", "barrier")


@dataclass(frozen=True)
class Rows:
    """``read``: of a concatenation, the arguments whose rows it stacks. ``written``: of a stacked
    result, the outputs that are its rows, by position. ``parts``: nodes between those and it."""

    read: Mapping[Node, Sequence[Node]] = field(default_factory=dict)
    written: Mapping[Node, Sequence[int]] = field(default_factory=dict)
    parts: frozenset[Node] = frozenset()

    @property
    def folded(self) -> frozenset[Node]:
        """What needs no kernel."""
        return self.parts | self.read.keys()


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
    parts: set[Node] = set()
    places: dict[Node, list[int]] = {}
    for position, node in enumerate(graph.outputs):
        places.setdefault(node, []).append(position)
    for item in graph.order:
        if item.op == "item" and _is_stacked_result(item):
            found = _unstacked(item, graph, places)
            if found and all(outputs[k].kind == "output" for k in found[0]):
                written[item] = found[0]
                parts.update(found[1])
    return Rows(read, written, frozenset(parts))


def _stacked(node: Node, arguments: set[Node]) -> list[Node]:
    """The arguments that are the rows of a concatenation."""
    if node.op != "concat" or node.attr("axis") != 0:
        return []
    rows = []
    for row in node.inputs:
        if row.shape[0] != 1:
            return []
        while row.op == "reshape":
            row = row.inputs[0]
        if row not in arguments:
            return []
        rows.append(row)
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
            if len(users) != 1 or users[0].op not in _ALIASES:
                return None
            (node,) = users
            parts.append(node)
        if graph.users[node] or len(places[node]) != 1 or row in rows:
            return None
        (rows[row],) = places[node]
    if item in places or len(rows) != item.shape[0]:
        return None
    return [rows[k] for k in range(len(rows))], parts
