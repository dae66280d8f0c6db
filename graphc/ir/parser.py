"""Read the text form of a graph back: a bug report or a test is a text."""

from __future__ import annotations

import ast
import base64
import re

import numpy as np

from graphc.errors import GraphcError
from graphc.ir import dims as _dims
from graphc.ir import node as _node
from graphc.ir.graph import Graph
from graphc.ir.node import Literal, Node
from graphc.ir.ops import OPS
from graphc.ir.types import parse_type

_HEAD = re.compile(r"(graph )?(\S+?)\((.*)\) \{$")
_ARG = re.compile(r"(%\d+) ('[^']*'|\"[^\"]*\"): (\w+\[[^\]]*\])")
_LINE = re.compile(
    r"(%\d+) = (\w+)\(([^)]*)\)(?: \{(.*)\})? : (\w+\[[^\]]*\]|\((?:\w+\[[^\]]*\][, ]*)*\))"
    r"\s*(?:#.*)?$"
)


def parse(text: str) -> Graph:
    """The graph that ``text`` prints; nodes are interned, so equal text gives equal nodes."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    head = _HEAD.match(lines[0])
    if not head or not head[1] or lines[-1] != "}":
        raise GraphcError("not a graph: expected 'graph NAME(...) {' ... '}'")
    return _parse_graph(_Lines(lines), head)


class _Lines:
    """Lines that are read one after the other."""

    def __init__(self, lines: list[str]):
        self.lines, self.position = lines, 1

    def next(self) -> str:
        self.position += 1
        return self.lines[self.position - 1]

    def head(self) -> re.Match | None:
        """The head of a body, if that is what comes next."""
        head = _HEAD.match(self.lines[self.position])
        if head:
            self.position += 1
        return head


def _parse_graph(lines: _Lines, head: re.Match) -> Graph:
    values: dict[str, Node] = {}
    inputs = []
    for name, label, type_text in _ARG.findall(head[3]):
        attrs = {"index": len(inputs), "name": ast.literal_eval(label)}
        inputs.append(_node.make("input", (), attrs, parse_type(type_text)))
        values[name] = inputs[-1]
    outputs, donated = (), {}
    while (line := lines.next()) != "}":
        if line.startswith("return"):
            outputs = tuple(values[n.strip()] for n in line[6:].split(",") if n.strip())
        elif line.startswith("donate"):
            pairs = (p.split("<-") for p in line[6:].split(","))
            donated = {int(o): int(i) for o, i in pairs}
        else:
            match = _LINE.match(line)
            if not match or match[2] not in OPS:
                raise GraphcError(f"line {lines.position} of the graph text cannot be read: {line}")
            name, op, args, attrs_text, type_text = match.groups()
            attrs = _parse_attrs(attrs_text)
            while inner := lines.head():
                attrs[inner[2]] = _parse_graph(lines, inner)
            operands = tuple(values[a.strip()] for a in args.split(",") if a.strip())
            values[name] = _node.make(op, operands, attrs, parse_type(type_text))
    name = head[2] if head[1] else "body"
    return Graph(name, tuple(inputs), outputs, donated=donated)


def _parse_attrs(text: str | None) -> dict[str, object]:
    if not text:
        return {}
    parts = re.split(r", (?=\w+=)", text)
    return {k: _parse_attr(v) for k, v in (p.split("=", 1) for p in parts)}


def _parse_attr(text: str):
    if text == "None" or text.startswith(("'", '"')):
        return ast.literal_eval(text)
    if text.startswith("("):
        return tuple(_dims.parse(t) for t in text[1:-1].split())
    if re.match(r"\w+\[[^\]]*\] ?", text):
        return _parse_literal(text)
    return _dims.parse(text)


def _parse_literal(text: str) -> Literal:
    head, _, body = text.partition("] ")
    kind = parse_type(head.rstrip("]") + "]")
    if " ... " in body:
        raise GraphcError(
            f"the constant {head}] is abbreviated: the text is one for people, which cannot be read"
        )
    if body.startswith("b64:"):
        flat = np.frombuffer(base64.b64decode(body[4:]), kind.dtype)
    else:
        flat = np.array([_scalar(t, kind.dtype) for t in body.split()], kind.dtype)
    return Literal(flat.reshape(kind.shape))


def _scalar(text: str, dtype: np.dtype):
    if dtype.kind == "b":
        return text == "True"
    if dtype.kind in "iu":
        return int(text)
    return complex(text) if dtype.kind == "c" else float(text)
