"""The one driver of all rewrite rules: bottom-up, to a fixed point at each node.

No recursion (graphs are deeper than Python's stack), each node is visited once, and a rule set
that goes round in circles is an error that names its rules.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from graphc.errors import GraphcError, VerifyError
from graphc.ir import node as _node
from graphc.ir.graph import Graph, Source, bodies, deep, inherit, rebuild, topological
from graphc.ir.node import Node
from graphc.passes.patterns import COMMUTATIVE, Rule, constant

Fired = Callable[[Rule, Node, Node], None]

_STEPS_PER_NODE = 50
_RECENT = 24


class RewriteCycleError(GraphcError):
    """Rules undo each other or grow a graph without end: a bug in graphc."""


def rewrite(graph: Graph, rules: Sequence[Rule], fired: Fired | None = None) -> Graph:
    """``graph`` with ``rules`` applied until none fits; user lines follow the nodes."""
    sources = dict(graph.sources)
    outputs = rewrite_nodes(graph.outputs, rules, sources, fired)
    alive = deep(outputs)
    return graph.with_outputs(outputs, {n: sources[n] for n in alive if n in sources})


def rewrite_nodes(
    roots: Iterable[Node],
    rules: Sequence[Rule],
    sources: dict[Node, Source] | None = None,
    fired: Fired | None = None,
) -> list[Node]:
    """The final forms of ``roots``; of rules for one op the first that fits wins.

    ``sources`` gains the lines of new nodes. ``fired(rule, old, new)`` is told each step.
    Raises RewriteCycleError when the rules do not come to an end.
    """
    roots = tuple(roots)
    table = _index(rules)
    sources = {} if sources is None else sources
    final: dict[Node, Node] = {}
    twins: dict[tuple, Node] = {}
    recent: deque[str] = deque(maxlen=_RECENT)
    steps, limit = 0, _STEPS_PER_NODE * (len(topological(roots)) + 20)
    # An entry (node, form) means: node will be what form turns out to be.
    stack: list[tuple[Node, Node]] = [(r, r) for r in reversed(roots)]
    while stack:
        node, form = stack.pop()
        if form in final:
            _settle(final, sources, node, final[form])
            continue
        pending = [i for i in form.inputs if i not in final]
        if pending:
            stack.append((node, form))
            stack.extend((i, i) for i in reversed(pending))
            continue
        current = rebuild(form, tuple(final[i] for i in form.inputs))
        if bodies(current):
            current = _with_rewritten_bodies(current, rules, sources, fired)
        if current.op in COMMUTATIVE:
            current = _canonical_order(twins, current)
        if current in final:
            _settle(final, sources, form, final[current])
            _settle(final, sources, node, final[current])
            continue
        new, used = _first_fit(table.get(current.op, ()), current)
        if used is None:
            for settled in dict.fromkeys((current, form, node)):
                _settle(final, sources, settled, current)
            continue
        steps += 1
        recent.append(used.name)
        if steps > limit:
            raise RewriteCycleError(
                f"rewriting does not end after {limit} steps; the last rules were "
                + ", ".join(f"{n} ({c} times)" for n, c in Counter(recent).most_common(6))
            )
        if fired:
            fired(used, current, new)
        stack.extend((n, new) for n in dict.fromkeys((node, form, current)))
    return [final[r] for r in roots]


def _with_rewritten_bodies(node: Node, rules, sources, fired) -> Node:
    attrs = dict(node.attrs)
    for key, body in bodies(node):
        attrs[key] = body.with_outputs(rewrite_nodes(body.outputs, rules, sources, fired))
    return _node.make(node.op, node.inputs, attrs, node.type)


def _index(rules: Sequence[Rule]) -> dict[str, list[Rule]]:
    table: dict[str, list[Rule]] = {}
    for rule in rules:
        for op in rule.roots:
            table.setdefault(op, []).append(rule)
    return table


def _first_fit(rules: Iterable[Rule], node: Node) -> tuple[Node, Rule | None]:
    for rule in rules:
        new = rule.apply(node)
        if new is None or new is node:
            continue
        if new.type != node.type:
            raise VerifyError(f"rule {rule.name} turned {node!r} into {new!r}: another type")
        return new, rule
    return node, None


def _canonical_order(twins: dict[tuple, Node], node: Node) -> Node:
    """Scalars behind arrays, constants last; of ``a + b`` and ``b + a`` the first met is both.

    Exact but for which NaN comes out, and which zero of ``maximum(0.0, -0.0)``.
    """
    a, b = node.inputs
    if _rank(a) > _rank(b):
        node = rebuild(node, (b, a))
    return twins.setdefault((node.op, frozenset(node.inputs), node.type), node)


def _rank(operand: Node) -> int:
    if constant(operand) is not None:
        return 2
    return int(operand.op == "broadcast" and not operand.inputs[0].ndim)


def _settle(final: dict[Node, Node], sources: dict[Node, Source], node: Node, to: Node) -> None:
    final[node] = to
    if to is not node and node in sources:
        inherit(sources, to, sources[node])
