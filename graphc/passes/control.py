"""Fewer and smaller loops: the same loop twice is one, and a loop does only what is asked of it.

The gradient of a loop brings the loop again, with more stacked results (``ad/control``): it takes
the place of the first. Then what nobody reads goes (results, carries, operands), what no step
changes becomes a value from outside, and work that no step changes is moved out.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphc.ir import build, control
from graphc.ir.graph import Graph, bodies, substitute, topological, transform
from graphc.ir.node import Node

_ROUNDS = 6  # a smaller loop may leave less for the loops before it


def tidy_control(graph: Graph) -> Graph:
    """``graph`` with its loops and choices tidied, those in bodies too."""
    if not any(bodies(n) for n in graph.order):
        return graph
    graph = _merged(graph)
    for _ in range(_ROUNDS):
        tidied = _tidied(graph)
        if tidied.outputs == graph.outputs:
            break
        graph = tidied
    return graph


# --------------------------------------------------------------------------- one loop for two


def _merged(graph: Graph) -> Graph:
    """Loops that another one contains are replaced by it."""
    found = [n for n in graph.order if n.op == "loop"]
    outputs, sources = list(graph.outputs), dict(graph.sources)
    position = 0
    while position < len(found):
        small = found[position]
        for large in found:
            mapping = _contained(small, large) if large is not small else None
            if mapping is None:
                continue
            outputs = substitute(outputs, mapping, sources)
            found = [n for n in topological(outputs) if n.op == "loop"]
            position = -1
            break
        position += 1
    return graph.with_outputs(outputs, sources)


def _contained(small: Node, large: Node) -> dict[Node, Node] | None:
    """What the results of ``small`` and ``large`` become where one loop does both."""
    for key in ("counted", "reverse"):
        if small.attr(key) != large.attr(key):
            return None
    if (small.attr("cond") is None) != (large.attr("cond") is None):
        return None
    unbounded = small.attr("length") is None and large.attr("grow")
    if small.attr("length") != large.attr("length") and not unbounded:
        return None
    a, b = control.operands(small), control.operands(large)
    if a.count is not b.count or len(a.init) > len(b.init):
        return None
    carried = _places(a.init, b.init)
    if carried is None or small in topological(large.inputs):
        return None
    own, other = control.parameters(small), control.parameters(large)
    names = {p: other.init[k] for p, k in zip(own.init, carried, strict=True)}
    for mine, theirs, given, there in (
        (own.xs, other.xs, a.xs, b.xs), (own.consts, other.consts, a.consts, b.consts)
    ):  # fmt: skip
        at = {x: theirs[k] for k, x in enumerate(there)}
        if any(x not in at for x in given):
            return None
        names.update({p: at[x] for p, x in zip(mine, given, strict=True)})
    outputs = substitute(small.attr("body").outputs, names)
    count, many = len(own.init), len(other.init)
    have = large.attr("body").outputs
    if any(o is not have[k] for o, k in zip(outputs, carried, strict=False)):
        return None
    if small.attr("cond") is not None:
        conditions = dict(zip(large.attr("body").inputs, large.attr("cond").inputs, strict=True))
        test = substitute(small.attr("cond").outputs, names)
        if substitute(test, conditions) != list(large.attr("cond").outputs):
            return None
    ys = list(have[many:])
    ys += [y for y in dict.fromkeys(outputs[count:]) if y not in ys]
    whole = large
    if len(ys) > len(have) - many:
        body = large.attr("body").with_outputs([*have[:many], *ys])
        attrs = {**dict(large.attrs), "body": body}
        whole = build.make("loop", large.inputs, **attrs)
    results = build.items(whole)
    mapping = dict(zip(build.items(large), results, strict=False)) if whole is not large else {}
    for index, item in enumerate(build.items(small)):
        place = carried[index] if index < count else many + ys.index(outputs[index])
        mapping[item] = results[place]
    return mapping


def _places(init: Iterable[Node], among: tuple[Node, ...]) -> list[int] | None:
    """A place of its own for each first carry, the same place where possible."""
    free = dict(enumerate(among))
    places = []
    for k, node in enumerate(init):
        if free.get(k) is not node:
            k = next((j for j, other in free.items() if other is node), None)
        if k is None:
            return None
        del free[k]
        places.append(k)
    return places


# ------------------------------------------------------------------------- what nobody reads


def _tidied(graph: Graph) -> Graph:
    used: dict[Node, set[int]] = {}
    for node in graph.order:
        if node.op == "item":
            used.setdefault(node.inputs[0], set()).add(node.attr("index"))
    sources = dict(graph.sources)
    results: dict[Node, dict[int, Node]] = {}

    def visit(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.op == "item" and node.inputs[0] in results:
            return results[node.inputs[0]][node.attr("index")]
        if node.op == "loop":
            results[node] = _tidied_loop(node, inputs, used[node], sources)
            return node
        if node.op == "cond":
            results[node] = _tidied_cond(node, inputs, used[node], sources)
            return node
        return build.make(node.op, inputs, **dict(node.attrs)) if inputs != node.inputs else node

    tidied = transform(graph, visit)
    return tidied.with_outputs(tidied.outputs, {**sources, **tidied.sources})


def _tidied_loop(node: Node, inputs, used: set[int], sources) -> dict[int, Node]:
    """The results in use, by their index."""
    body = _inner(node.attr("body"), sources)
    cond = node.attr("cond")
    counted, count = node.attr("counted"), node.attr("carries")
    given, own = inputs[counted:], body.inputs
    first_const = count + node.attr("xs")
    known = _known_values(node, body, given)
    outputs = substitute(body.outputs, known, sources)
    tests = [] if cond is None else substitute(_inner(cond, sources).outputs, known, sources)
    kept = [k for k in range(len(outputs)) if k in used and not (k < count and own[k] in known)]
    while True:  # carries that what is kept depends on
        reached = set(topological([*(outputs[k] for k in kept), *tests]))
        more = [
            k for k in range(count)
            if own[k] in reached and k not in kept and own[k] not in known
        ]  # fmt: skip
        if not more:
            break
        kept += more
    kept.sort()
    carries = [k for k in kept if k < count]
    xs = [k for k in range(count, first_const) if own[k] in reached]
    groups = [[outputs[k] for k in kept]] + ([tests] if tests else [])
    params = [own[k] for k in (*carries, *xs)]
    graphs, lifted = control.close(groups, params, sources)
    outside = dict(zip(own, given, strict=True))
    consts = substitute(lifted, outside, sources)
    found: dict[int, Node] = {k: given[k] for k in used if k < count and own[k] in known}
    length, grow = node.attr("length"), node.attr("grow")
    if control.is_tape_symbol(length) and not xs and carries == kept:
        length, grow = None, 0  # it records nothing any more
    if kept:
        results = build.loop(
            graphs[0], [given[k] for k in carries], [given[k] for k in xs], consts,
            length=length, count=inputs[0] if counted else None,
            cond=graphs[1] if tests else None, reverse=node.attr("reverse"), grow=grow,
            remat=node.attr("remat"),
        )  # fmt: skip
        found.update(zip(kept, results, strict=True))
        if node in sources:
            sources.setdefault(results[0].inputs[0], sources[node])
    return found


def _known_values(node: Node, body: Graph, given) -> dict[Node, Node]:
    """Parameters of a body that need not be one: carries that stay as they begin, stacks of one
    value repeated, the same value twice, constants."""
    own, count = body.inputs, node.attr("carries")
    first_const = count + node.attr("xs")
    known: dict[Node, Node] = {}
    pure = _pure_nodes(given)
    for k in range(count):
        if body.outputs[k] is own[k] or (body.outputs[k] is given[k] and given[k] in pure):
            known[own[k]] = own[k] if given[k] not in pure else given[k]
    seen: dict[Node, Node] = {}
    for k in range(count, len(own)):
        value = given[k]
        if k >= first_const and value in pure:
            known[own[k]] = value
        elif k < first_const and value.op == "broadcast" and value in pure:
            known[own[k]] = _one_of(value)
        elif (k < first_const, value) in seen:
            known[own[k]] = seen[k < first_const, value]
        else:
            seen[k < first_const, value] = own[k]
    return known


def _pure_nodes(nodes: Iterable[Node]) -> set[Node]:
    """Scalar constants and their repetitions: they cost nothing inside of a body."""
    return {
        n for n in nodes
        if (n.op == "const" and not n.ndim)
        or (n.op == "broadcast" and n.inputs[0].op == "const" and not n.inputs[0].ndim)
    }  # fmt: skip


def _one_of(stack: Node) -> Node:
    """A step's part of a repeated constant."""
    return build.broadcast(stack.inputs[0], stack.shape[1:], ())


def _tidied_cond(node: Node, inputs, used: set[int], sources) -> dict[int, Node]:
    pred, given = inputs[0], inputs[1:]
    sides = [_inner(node.attr(key), sources) for key in ("on_true", "on_false")]
    kept = sorted(used)
    chosen = [[side.outputs[k] for k in kept] for side in sides]
    if pred.op == "const":
        taken = int(not pred.attr("value").array)
        outside = dict(zip(sides[taken].inputs, given, strict=True))
        return dict(zip(kept, substitute(chosen[taken], outside, sources), strict=True))
    reached = [set(topological(outputs)) for outputs in chosen]
    read = [
        k for k in range(len(given))
        if any(s.inputs[k] in r for s, r in zip(sides, reached, strict=True))
    ]  # fmt: skip
    made = []
    for side, outputs in zip(sides, chosen, strict=True):
        params = [side.inputs[k] for k in read]
        (graph,), _ = control.close([outputs], params, sources)
        made.append(graph)
    results = build.cond(pred, [given[k] for k in read], *made)
    if node in sources:
        sources.setdefault(results[0].inputs[0], sources[node])
    return dict(zip(kept, results, strict=True))


def _inner(body: Graph, sources) -> Graph:
    """A body with its own loops tidied."""
    if not any(bodies(n) for n in body.order):
        return body
    done = tidy_control(Graph(body.name, body.inputs, body.outputs, sources))
    sources.update(done.sources)
    return body.with_outputs(done.outputs, {})
