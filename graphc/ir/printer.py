"""Deterministic text of a graph. ``parser.parse`` reads it back to the same graph."""

from __future__ import annotations

import base64

import numpy as np

from graphc.ir.graph import Graph, bodies
from graphc.ir.node import Literal, Node
from graphc.ir.types import TensorType

_INLINE_ELEMENTS = 16


def print_graph(graph: Graph, sources: bool = True, whole: bool = True) -> str:
    """The text form; ``sources`` adds the user's line behind each node as a comment.

    Without ``whole`` large constants show their first and last elements only: for people, since
    such a text cannot be parsed back, nor tells two graphs apart.
    """
    lines = _graph_lines(graph, f"graph {graph.name}", graph.sources if sources else {}, whole)
    return "\n".join(lines) + "\n"


def _graph_lines(graph: Graph, head: str, sources, whole: bool) -> list[str]:
    names = _names(graph)
    args = ", ".join(f"{names[i]} {i.attr('name')!r}: {i.type}" for i in graph.inputs)
    lines = [f"{head}({args}) {{"]
    lines += ["  " + line for line in _node_lines(graph, names, sources, False, whole)]
    lines.append("  return " + ", ".join(names[o] for o in graph.outputs))
    if graph.donated:
        pairs = ", ".join(f"{o} <- {i}" for o, i in sorted(graph.donated.items()))
        lines.append(f"  donate {pairs}")
    return [*lines, "}"]


def node_lines(graph: Graph, sources: bool = True, with_inputs: bool = True) -> list[str]:
    """One line a node for a message, in order; the bodies of a node follow it."""
    return _node_lines(graph, _names(graph), graph.sources if sources else {}, with_inputs, False)


def _node_lines(graph: Graph, names, sources, with_inputs: bool, whole: bool) -> list[str]:
    lines = []
    for node in graph.order:
        if node.op == "input" and not with_inputs:
            continue
        args = ", ".join(names[i] for i in node.inputs)
        inner = bodies(node)
        keys = {key for key, _ in inner}
        shown = (f"{k}={format_attr(v, whole)}" for k, v in node.attrs if k not in keys)
        attrs = ", ".join(shown)
        line = f"{names[node]} = {node.op}({args}){f' {{{attrs}}}' if attrs else ''} : {node.type}"
        if node in sources:
            line = f"{line:<72} # {sources[node]}"
        lines.append(line)
        for key, body in inner:
            lines += ["  " + text for text in _graph_lines(body, key, sources, whole)]
    return lines


def _names(graph: Graph) -> dict[Node, str]:
    names = {i: f"%{k}" for k, i in enumerate(graph.inputs)}
    for node in graph.order:
        names.setdefault(node, f"%{len(names)}")
    return names


def format_attr(value, whole: bool = True) -> str:
    if isinstance(value, Literal):
        return _format_literal(value.array, whole)
    if isinstance(value, tuple):
        return "(" + " ".join(map(str, value)) + ")"
    if isinstance(value, str):
        return repr(value)
    return str(value)


def _format_literal(array: np.ndarray, whole: bool) -> str:
    head = str(TensorType(array.dtype, array.shape))
    if array.size <= _INLINE_ELEMENTS:
        return f"{head} " + " ".join(repr(v) for v in array.ravel().tolist())
    if not whole:
        flat = array.ravel()
        first, last = (" ".join(map(repr, part.tolist())) for part in (flat[:3], flat[-1:]))
        return f"{head} {first} ... {last}"
    return f"{head} b64:{base64.b64encode(array.tobytes()).decode()}"
