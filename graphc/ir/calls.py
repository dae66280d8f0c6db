"""Marked calls: parts of a graph that bring a derivative of their own.

While a function is traced, a call of a ``custom_vjp`` or ``checkpoint`` function stands in the
graph as three rows. Its arguments pass through ``call_arg``; what the function made of them are
the first inputs of a ``call``, whose others are the arguments themselves; its results are
``call_result`` nodes. Derivatives go to the ``call``, which asks its ``rule`` for them instead of
walking what is inside. When the trace ends all derivatives are taken, and :func:`inline` removes
the marks: later stages never see one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphc.ir import build
from graphc.ir import node as _node
from graphc.ir.graph import Graph, Source, deep, inherit, topological
from graphc.ir.node import Node

MARKS = frozenset({"call_arg", "call", "call_result"})


def argument(x: Node, token: Any, index: int) -> Node:
    """Argument ``index`` of the call ``token``, as its function sees it."""
    return build.make("call_arg", (x,), index=index, token=token)


def call(values: Iterable[Node], args: Iterable[Node], rule: Any) -> Node:
    """The call itself. ``rule`` is what differentiates it: see ``ad/calls.py``."""
    values = tuple(values)
    return build.make("call", (*values, *args), results=len(values), rule=rule)


def result(of: Node, index: int) -> Node:
    """Result ``index`` of a call."""
    return build.make("call_result", (of, of.inputs[index]), index=index)


def results_of(node: Node) -> tuple[Node, ...]:
    """What the function of a call computed."""
    return node.inputs[: node.attr("results")]


def arguments_of(node: Node) -> tuple[Node, ...]:
    """The arguments of a call."""
    return node.inputs[node.attr("results") :]


def inline(nodes: Iterable[Node], sources: dict[Node, Source]) -> list[Node]:
    """``nodes`` without marks, also in the bodies that nodes have as attributes."""
    nodes = list(nodes)
    if not any(node.op in MARKS for node in deep(nodes)):
        return nodes
    new: dict[Node, Node] = {}
    for node in topological(nodes):
        if node.op == "call":
            continue
        if node.op in MARKS:
            new[node] = new[node.inputs[-1]]
            continue
        attrs = {
            key: value.with_outputs(inline(value.outputs, sources))
            if isinstance(value, Graph) else value
            for key, value in node.attrs
        }  # fmt: skip
        inputs = tuple(new[i] for i in node.inputs)
        new[node] = _node.make(node.op, inputs, attrs, node.type)
        if node in sources:
            inherit(sources, new[node], sources[node])
    return [new[n] for n in nodes]
