"""A graph: named inputs, outputs, and where the user wrote each node."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from graphc.ir import node as _node
from graphc.ir.node import Node

if TYPE_CHECKING:
    from graphc.ir.rows import Rows

FEW = 64  # elements that a processor can hold in registers
#: Rows with bodies and several results, which ``item`` nodes pick.
CONTROL = frozenset({"loop", "cond"})


@dataclass(frozen=True)
class Source:
    """A line that the user wrote."""

    file: str
    line: int
    function: str = ""
    # Of a node that differentiation made: ``backward pass of `sqrt```.
    direction: str = field(default="", compare=False)

    def derived(self, direction: str, op: str) -> Source:
        """The line of the derivative of an op that was written here."""
        return _derived(self, direction, op)

    def __str__(self) -> str:
        """On one line, since generated code has it as a comment."""
        return " ".join(f"{self.file.rsplit('/', 1)[-1]}:{self.line}".splitlines())


@lru_cache(maxsize=1024)
def _derived(source: Source, direction: str, op: str) -> Source:
    return replace(source, direction=f"{direction} of `{op}`")


@dataclass(frozen=True)
class Graph:
    """Immutable. ``inputs`` are ``input`` nodes in call order; ``outputs`` any nodes.

    ``sources`` maps nodes to user lines; it never takes part in the identity of a node.
    ``donated`` maps an output to the input whose memory it may take over. ``rows`` says which
    arguments and results of the program these are, where it is not each its own (see ``ir.rows``).
    """

    name: str
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    sources: Mapping[Node, Source] = field(default_factory=dict, compare=False)
    donated: Mapping[int, int] = field(default_factory=dict)
    rows: Rows | None = None

    def __hash__(self) -> int:  # a graph may be an attribute: the body of a loop
        return hash((self.inputs, self.outputs))

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """Every reachable node, inputs before users; deterministic."""
        return topological(self.outputs)

    @cached_property
    def users(self) -> dict[Node, list[Node]]:
        """Who reads each node (an entry for each node of ``order``)."""
        users: dict[Node, list[Node]] = {n: [] for n in self.order}
        for n in self.order:
            for i in dict.fromkeys(n.inputs):
                users[i].append(n)
        return users

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbolic dims: of the inputs in order of appearance, then of tapes (see
        ``loop``), whose size only running tells."""
        arguments = self.inputs if self.rows is None else self.rows.arguments
        found = {s: None for i in arguments for s in sorted(i.type.symbols)}
        return (*found, *(t for t in self.tapes if t not in found))

    @cached_property
    def tapes(self) -> dict[str, Node]:
        """Symbols that stand for the capacity of a loop's tape, and the loop."""
        return {str(n.attr("length")): n for n in self.deep_order if is_tape(n)}

    @cached_property
    def deep_order(self) -> tuple[Node, ...]:
        """``order``, each node preceded by those of its bodies."""
        return _with_bodies(self.order)

    @cached_property
    def has_few_elements(self) -> bool:
        """Whether each array that it computes has :data:`FEW` elements or less, of known number."""
        sizes = (n.type.size for n in self.order if n.op != "input")
        return all(isinstance(size, int) and size <= FEW for size in sizes)

    def input_name(self, index: int) -> str:
        return self.inputs[index].attr("name")

    def with_outputs(self, outputs: Iterable[Node], sources=None, name=None) -> Graph:
        """The same inputs with other outputs."""
        return Graph(
            name or self.name,
            self.inputs,
            tuple(outputs),
            self.sources if sources is None else sources,
            self.donated,
            self.rows,
        )


def topological(roots: Iterable[Node], until: Container[Node] = ()) -> tuple[Node, ...]:
    """Post-order without recursion: graphs can be deeper than Python's stack. What is below
    nodes of ``until`` is left out."""
    order: dict[Node, None] = {}
    stack = list(reversed(tuple(roots)))
    while stack:
        node = stack[-1]
        if node not in order and node not in until:
            pending = [i for i in node.inputs if i not in order]
            if pending:  # the node comes again when they are done
                pending.reverse()
                stack += pending
                continue
        order[node] = None
        stack.pop()
    return tuple(order)


def bodies(node: Node) -> list[tuple[str, Graph]]:
    """The graphs among the attributes of a node: what a loop repeats, the sides of a choice."""
    if node.op not in CONTROL:
        return []
    return [(key, value) for key, value in node.attrs if isinstance(value, Graph)]


def deep(roots: Iterable[Node]) -> tuple[Node, ...]:
    """As :func:`topological`, each node preceded by the nodes of its bodies."""
    return _with_bodies(topological(roots))


def _with_bodies(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    if not any(node.op in CONTROL for node in nodes):
        return nodes
    order: dict[Node, None] = {}
    for node in nodes:
        for _, body in bodies(node):
            order.update(dict.fromkeys(body.deep_order))
        order[node] = None
    return tuple(order)


def is_tape(node: Node) -> bool:
    """Whether a node is a loop that records its steps on a tape as long as needed."""
    return node.op == "loop" and bool(node.attr("grow"))


def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
    """``node`` over other inputs of the same types."""
    return node if inputs == node.inputs else _node.over(node, inputs)


def transform(
    graph: Graph, visit: Callable[[Node, tuple[Node, ...]], Node], name: str | None = None
) -> Graph:
    """Rebuild bottom-up: ``visit(old, new_inputs) -> new``. User lines follow the nodes."""
    new: dict[Node, Node] = {}
    sources = dict(graph.sources)
    for node in graph.order:
        result = visit(node, tuple(new[i] for i in node.inputs))
        new[node] = result
        if result is not node and node in graph.sources:
            inherit(sources, result, graph.sources[node])
    return graph.with_outputs((new[o] for o in graph.outputs), sources, name)


def inherit(sources: dict[Node, Source], root: Node, source: Source) -> None:
    """Give ``source`` to ``root`` and to what is new below it."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in sources and node.op not in ("input", "const", "placeholder"):
            sources[node] = source
            stack.extend(node.inputs)


def substitute(
    roots: Iterable[Node],
    mapping: Mapping[Node, Node],
    sources: dict[Node, Source] | None = None,
) -> list[Node]:
    """``roots`` with nodes replaced (replacements are not searched again).

    In ``sources`` a rebuilt node gets the line of the node it stands for.
    """
    roots = tuple(roots)
    new: dict[Node, Node] = dict(mapping)
    stack = list(reversed(roots))
    while stack:
        node = stack[-1]
        if node not in new:
            pending = [i for i in node.inputs if i not in new]
            if pending:  # the node comes again when they are done
                stack += pending
                continue
            new[node] = rebuild(node, tuple([new[i] for i in node.inputs]))
            if sources is not None and node in sources:
                sources.setdefault(new[node], sources[node])
        stack.pop()
    return [new[r] for r in roots]
