"""The specification of a well-formed graph; run after every pass in tests."""

from __future__ import annotations

from graphc.errors import GraphcError, VerifyError
from graphc.ir.graph import Graph, bodies
from graphc.ir.ops import OPS


def verify(graph: Graph, after: str = "") -> Graph:
    """Return ``graph`` or raise :class:`VerifyError` with the lines around the fault."""
    known = set(graph.inputs)
    for position, node in enumerate(graph.order):
        fault = _fault(node, known)
        if fault:
            raise VerifyError(_report(graph, position, fault, after))
    for index, i in enumerate(graph.inputs):
        if i.op != "input" or i.attr("index") != index:
            raise VerifyError(f"input {index} of {graph.name} is {i!r}")
    for out, inp in graph.donated.items():
        if graph.outputs[out].type != graph.inputs[inp].type:
            raise VerifyError(
                f"output {out} {graph.outputs[out].type} cannot take the memory of input {inp} "
                f"{graph.inputs[inp].type}"
            )
    return graph


def _fault(node, known) -> str | None:
    row = OPS.get(node.op)
    if row is None:
        return f"unknown op {node.op!r}"
    for key, body in bodies(node):
        inner = set(body.inputs)
        for part in body.order:
            fault = _fault(part, inner)
            if fault:
                return f"{key}: {part!r}: {fault}"
    if node.op == "input":
        return None if node in known else "input is not among the graph's inputs"
    if node.op == "placeholder":
        return "a placeholder was left behind by nested differentiation"
    if tuple(k for k, _ in node.attrs) != tuple(sorted(row.attrs)):
        return f"attributes {[k for k, _ in node.attrs]}, expected {sorted(row.attrs)}"
    if row.kind == "elementwise" and len(node.inputs) != row.arity:
        return f"{len(node.inputs)} inputs, expected {row.arity}"
    try:
        inferred = row.infer(dict(node.attrs), *(i.type for i in node.inputs))
    except GraphcError as error:
        return str(error)
    return None if inferred == node.type else f"type {node.type}, inferred {inferred}"


def _report(graph, position, fault, after) -> str:
    from graphc.ir.printer import node_lines

    lines = node_lines(graph)
    first = max(0, position - 5)
    window = [("> " if i == position else "  ") + lines[i] for i in range(first, position + 1)]
    stage = f" after {after}" if after else ""
    return f"malformed graph {graph.name}{stage}: {fault}\n" + "\n".join(window)
