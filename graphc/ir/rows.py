"""Arguments and results that are rows of one array: the weights of equal layers, their gradients.

A loop over equal layers reads a concatenation of arguments, and slices of what it stacks are
results: some nodes for each layer and weight, and every walk over the graph would visit them.
``fold_rows`` makes one input of such a concatenation and one output of such slices, and
``Graph.rows`` says which arguments and results they are made of. So the graph, and all that is done
with it, is the same for 40 layers and for 400. ``unfold_rows`` is the inverse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.ir import build, control
from graphc.ir.graph import Graph, substitute, topological
from graphc.ir.node import Node
from graphc.ir.types import TensorType

ALIASES = ("reshape", "barrier")  # other names for the memory of their first input
Place = int | tuple[int, ...]  # of an argument or result, or of those that are rows, in order


@dataclass(frozen=True)
class Rows:
    """``inputs[k]`` is the place of the input ``k`` of a graph among ``arguments``, ``outputs[k]``
    that of an output among the results, whose types are ``results``."""

    arguments: tuple[Node, ...]
    results: tuple[TensorType, ...]
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]

    def donors(self, donated: Mapping[int, int]) -> dict[int, int]:
        """``Graph.donated`` in terms of results and arguments."""
        pairs = ((self.outputs[out], self.inputs[donor]) for out, donor in donated.items())
        return {k: p for pair in pairs for k, p in zip(*map(_places, pair), strict=True)}

    def sharing(self, index: int) -> list[int]:
        """The inputs that read the memory of input ``index``."""
        own = set(_places(self.inputs[index]))
        return [k for k, p in enumerate(self.inputs) if not own.isdisjoint(_places(p))]

    def __str__(self) -> str:
        kinds = {t: str(t) for t in {*[i.type for i in self.arguments], *self.results}}
        given = " ".join([f"{i.attr('name')}: {kinds[i.type]}" for i in self.arguments])
        made = " ".join([kinds[t] for t in self.results])
        return f"inputs {self.inputs} of {given}, outputs {self.outputs} of {made}"


def rows_of(graph: Graph) -> Rows:
    """``graph.rows``, or those of a graph whose inputs are the arguments."""
    if graph.rows is not None:
        return graph.rows
    types = tuple([o.type for o in graph.outputs])
    return Rows(graph.inputs, types, tuple(range(len(graph.inputs))), tuple(range(len(types))))


def _places(place: Place) -> tuple[int, ...]:
    return place if isinstance(place, tuple) else (place,)


def storage_root(node: Node) -> Node:
    """The node whose memory a chain of reshapes and barriers shares."""
    while node.op in ALIASES:
        node = node.inputs[0]
    return node


def stack_arguments(graph: Graph, arrays: Sequence[np.ndarray], env) -> list[np.ndarray]:
    """The inputs of a graph from its arguments, with sizes of symbols given by ``env``."""
    if graph.rows is None:
        return list(arrays)
    found = []
    for place, node in zip(graph.rows.inputs, graph.inputs, strict=True):
        if isinstance(place, tuple):
            rows = [arrays[p].reshape(-1) for p in place]
            found.append(np.stack(rows).reshape(node.type.concrete_shape(env)))
        else:
            found.append(arrays[place])
    return found


def unstack_results(graph: Graph, values: Sequence[np.ndarray], env) -> list[np.ndarray]:
    """The results from the outputs of a graph."""
    if graph.rows is None:
        return list(values)
    found: dict[int, np.ndarray] = {}
    for place, value in zip(graph.rows.outputs, values, strict=True):
        rows = value if isinstance(place, tuple) else [value]
        for p, row in zip(_places(place), rows, strict=True):
            found[p] = np.reshape(row, graph.rows.results[p].concrete_shape(env))
    return [found[k] for k in range(len(found))]


# --------------------------------------------------------------------------------------- to fold


def fold_rows(graph: Graph) -> Graph:
    """``graph`` with one input for arguments that loops alone read, row by row, and one output for
    results that are all rows of what a loop stacks. Complex arguments are left apart."""
    if any(n.dtype.kind == "c" for n in (*graph.inputs, *graph.outputs)):
        return graph
    known = graph.__dict__.get("order")
    if known is not None and not any(n.op == "loop" for n in known):
        return graph
    results = _stacked_results(graph)
    places = zip(graph.inputs, rows_of(graph).inputs, strict=True)
    stacks = _Stacks({node: place for node, place in places if isinstance(place, int)})
    faults: set[Node] | None = None
    while faults is None or faults:
        part_of = {k for rows in results.values() for k in rows}
        outputs = [o for k, o in enumerate(graph.outputs) if k not in part_of]
        stacks.found.clear()
        order = topological([*outputs, *results], stacks)
        donors = _donated_rows(graph, results)
        faults = {item for item, rows in donors.items() if rows is None}
        faults |= _faults(order, outputs, stacks.found, donors, stacks.single)
        stacks.refused |= faults
        results = {item: rows for item, rows in results.items() if item not in faults}
    if not stacks.found and not results:
        graph.__dict__.setdefault("order", order)  # which it is, as nothing was left out
        return graph
    return _folded(graph, order, stacks, results, donors)


def stacks_of(roots: Iterable[Node], leaves: Mapping[Node, int]) -> dict[Node, tuple[int, ...]]:
    """Concatenations of ``leaves`` that only loops read, row by row: the places of their rows."""
    stacks, roots = _Stacks(leaves), list(roots)
    faults: set[Node] | None = None
    while faults is None or faults:
        stacks.found.clear()
        faults = _faults(topological(roots, stacks), roots, stacks.found, {}, leaves)
        stacks.refused |= faults
    return stacks.found


def row(stack: Node, k: int, shape) -> Node:
    """Row ``k`` of a stack, as an array of a shape."""
    start, size = (k, *[0] * (stack.ndim - 1)), (1, *stack.shape[1:])
    return build.reshape(build.slice_(stack, start, size, (1,) * stack.ndim), shape)


class _Stacks:
    """Concatenations of ``single`` nodes, along a new first axis: a container of nodes, which notes
    in ``found`` the places of those that it is asked for."""

    def __init__(self, single: Mapping[Node, int]):
        self.single = single
        self.found: dict[Node, tuple[int, ...]] = {}
        self.refused: set[Node] = set()

    def __contains__(self, node: Node) -> bool:
        if node.op != "concat" or node in self.refused or node.attr("axis") != 0:
            return False
        if node not in self.found:
            places = []
            for part in node.inputs:
                root = part.inputs[0] if part.op == "reshape" else part
                if root not in self.single or part.shape[0] != 1:
                    self.refused.add(node)
                    return False
                places.append(self.single[root])
            self.found[node] = tuple(places)
        return True


def _stacked_results(graph: Graph) -> dict[Node, list[int]]:
    """Of what loops stack, the outputs that are its rows, in order."""
    found: dict[Node, dict[int, int]] = {}
    refused = set()
    for k, node in enumerate(graph.outputs):
        if node.op == "reshape":
            (node,) = node.inputs
        if node.op != "slice" or node.inputs[0].op != "item":
            continue
        (item,) = node.inputs
        at, *start = node.attr("start")
        whole = node.attr("size") == (1, *item.shape[1:]) and not any(start)
        rows = found.setdefault(item, {})
        if not whole or at in rows:
            refused.add(item)
        rows[at] = k
    return {
        item: [rows[k] for k in range(len(rows))] for item, rows in found.items()
        if item not in refused and len(rows) == item.shape[0] and is_stacked_result(item)
    }  # fmt: skip


def is_stacked_result(item: Node) -> bool:
    """Whether each step of a loop writes a row, whatever the values are."""
    if item.op != "item" or item.inputs[0].op != "loop":
        return False
    (loop,) = item.inputs
    stacked = item.attr("index") >= loop.attr("carries")
    return stacked and isinstance(loop.attr("length"), int) and control.is_fixed(loop)


def _donated_rows(graph: Graph, results) -> dict[Node, tuple[int, ...] | None]:
    """The arguments whose memory the rows of each result take over, in order: () for none of them,
    None for some."""
    places = rows_of(graph).inputs
    donated: dict[Node, tuple[int, ...] | None] = {}
    for item, rows in results.items():
        donors = [places[graph.donated[k]] for k in rows if k in graph.donated]
        alike = len(donors) == len(rows) and all(isinstance(p, int) for p in donors)
        donated[item] = tuple(donors) if alike or not donors else None
    return donated


def _faults(
    order: Sequence[Node],
    outputs: Sequence[Node],
    stacks: Mapping[Node, tuple[int, ...]],
    results: Mapping[Node, tuple[int, ...] | None],
    single: Mapping[Node, int],
) -> set[Node]:
    """Those of ``stacks`` that somebody reads whole, those of ``results`` that somebody reads, or
    whose loop reads what it overwrites otherwise than row by row."""
    faults = {node for node in outputs if node in stacks or node in results}
    for node in order:
        if node in stacks:
            continue
        for i in node.inputs:
            if i in results or (i in stacks and not _steps_through(node, i)):
                faults.add(i)
    for item, donors in results.items():
        if donors and not _rows_are_own(item, donors, stacks, single):
            faults.add(item)
    return faults


def _steps_through(node: Node, stack: Node) -> bool:
    if node.op != "loop":
        return False
    given = control.operands(node)
    return stack not in given.init and stack not in given.consts


def _rows_are_own(item: Node, donors: tuple[int, ...], stacks, single) -> bool:
    """Whether each step reads no donated memory but the row that it overwrites. (Carries begin as
    copies.)"""
    given = control.operands(item.inputs[0])
    for node in dict.fromkeys((*given.xs, *given.consts)):
        if node in stacks:
            apart = set(stacks[node]).isdisjoint(donors)
            if not apart and (stacks[node] != donors or node.type != item.type):
                return False
        elif single.get(storage_root(node)) in donors:
            return False
    return True


def _folded(graph: Graph, order, stacks: _Stacks, results, donors) -> Graph:
    rows, old = rows_of(graph), graph.inputs
    part_of = {k for positions in results.values() for k in positions}
    given = {old[i] for k, i in graph.donated.items() if k not in part_of}
    given.update(n for n in order if n.op == "input")
    inputs: dict[tuple[Place, TensorType], list[Node]] = {}
    for node, place in zip(old, rows.inputs, strict=True):
        if node in given:
            inputs[place, node.type] = [node]
    for node, places in stacks.found.items():
        inputs.setdefault((places, node.type), []).append(node)
    outputs = [(rows.outputs[k], node) for k, node in enumerate(graph.outputs) if k not in part_of]
    donated: dict[Place, tuple[Place, TensorType]] = {}
    for k, i in graph.donated.items():
        if k not in part_of:
            donated[rows.outputs[k]] = rows.inputs[i], old[i].type
    for item, positions in results.items():
        place = tuple(rows.outputs[k] for k in positions)
        outputs.append((place, item))
        if donors[item]:
            donated[place] = donors[item], item.type
            inputs.setdefault(donated[place], [])
    return _assembled(graph, rows, inputs, outputs, donated, {})


def _assembled(graph: Graph, rows: Rows, inputs, outputs, donated, apart) -> Graph:
    """The graph with these ``inputs``, each in place of some nodes, ``outputs`` at their places,
    and for what is ``apart`` a concatenation of inputs."""
    made: dict[tuple[Place, TensorType], Node] = {}
    mapping: dict[Node, Node] = {}
    for k, ((place, kind), nodes) in enumerate(inputs.items()):
        first, last = (rows.arguments[_places(place)[p]].attr("name") for p in (0, -1))
        name = f"{first} ... {last}" if isinstance(place, tuple) else first
        made[place, kind] = build.input(k, name, kind)
        mapping.update(dict.fromkeys(nodes, made[place, kind]))
    for node, places in apart.items():
        parts = [made[p, rows.arguments[p].type] for p in places]
        whole = (1, *node.shape[1:])
        mapping[node] = build.concat([build.reshape(part, whole) for part in parts], 0)
    sources = dict(graph.sources)
    nodes = substitute([node for _, node in outputs], mapping, sources)
    at = {key: k for k, key in enumerate(made)}
    places = tuple([place for place, _ in outputs])
    layout = Rows(rows.arguments, rows.results, tuple([place for place, _ in made]), places)
    return Graph(
        graph.name, tuple(made.values()), tuple(nodes), sources,
        {k: at[donated[place]] for k, place in enumerate(places) if place in donated}, layout,
    )  # fmt: skip


# ------------------------------------------------------------------------------------- to unfold


def unfitting(graph: Graph) -> set[Node]:
    """Inputs and outputs of several rows that no longer are what :func:`fold_rows` makes."""
    if graph.rows is None:
        return set()
    rows = graph.rows
    single = {n: p for n, p in zip(graph.inputs, rows.inputs, strict=True) if isinstance(p, int)}
    stacks = {n: p for n, p in zip(graph.inputs, rows.inputs, strict=True) if n not in single}
    results: dict[Node, tuple[int, ...] | None] = {}
    faults, others = set(), []
    for k, (node, place) in enumerate(zip(graph.outputs, rows.outputs, strict=True)):
        if not isinstance(place, tuple):
            others.append(node)
            continue
        if node in results or not is_stacked_result(node) or node.shape[0] != len(place):
            faults.add(node)
        donor = rows.inputs[graph.donated[k]] if k in graph.donated else ()
        results[node] = donor
    return faults | _faults(graph.order, others, stacks, results, single)


def unfold_rows(graph: Graph, nodes: Collection[Node] | None = None) -> Graph:
    """``graph`` with arguments and results in the place of those inputs and outputs that are in
    ``nodes``: of all of them without."""
    if graph.rows is None:
        return graph
    rows = graph.rows
    apart: dict[Node, tuple[int, ...]] = {}
    inputs: dict[tuple[Place, TensorType], list[Node]] = {}
    if nodes is None:
        inputs = {(k, node.type): [] for k, node in enumerate(rows.arguments)}
    outputs = list(_unfolded_outputs(graph, nodes))
    donated: dict[Place, tuple[Place, TensorType]] = {}
    for k, i in graph.donated.items():
        place, donor = rows.outputs[k], rows.inputs[i]
        if isinstance(place, tuple) and (nodes is None or graph.outputs[k] in nodes):
            donated.update(
                (q, (p, rows.arguments[p].type)) for q, p in zip(place, donor, strict=True)
            )
        else:
            donated[place] = donor, graph.inputs[i].type
    for node, place in zip(graph.inputs, rows.inputs, strict=True):
        if isinstance(place, tuple) and (nodes is None or node in nodes):
            apart[node] = place
            for p in place:
                inputs.setdefault((p, rows.arguments[p].type), [])
        else:
            inputs.setdefault((place, node.type), []).append(node)
    for key in donated.values():
        inputs.setdefault(key, [])
    made = _assembled(graph, rows, inputs, outputs, donated, apart)
    if nodes is not None:
        return made
    outputs = dict(zip(made.rows.outputs, made.outputs, strict=True))
    donors = made.rows.donors(made.donated)
    results = tuple([outputs[k] for k in range(len(outputs))])
    return Graph(graph.name, rows.arguments, results, made.sources, donors)


def _unfolded_outputs(graph: Graph, nodes) -> Iterator[tuple[Place, Node]]:
    for node, place in zip(graph.outputs, graph.rows.outputs, strict=True):
        if not isinstance(place, tuple) or (nodes is not None and node not in nodes):
            yield place, node
            continue
        for k, p in enumerate(place):
            yield p, row(node, k, graph.rows.results[p].shape)
