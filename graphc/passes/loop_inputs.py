"""Products of all steps that only a loop reads are computed in the loop, step by step.

``z = x @ W + b`` for all steps of a recurrence is larger than ``x``, and goes to memory and back.
In the loop it stays in the cache, and its products share a kernel with what follows them; ``W`` is
packed once, before the loop. So a step of as many rows as a tile has is as fast.
"""

from __future__ import annotations

from graphc.ir import build, control
from graphc.ir.graph import Graph, bodies, rebuild, substitute, transform
from graphc.ir.node import Node
from graphc.ir.types import TensorType

_MIN_ROWS = 8  # of a step: a product of fewer does not fill a tile
MIN_BYTES = 1 << 20  # of all steps: less stays in the cache anyhow


def products_into_loops(graph: Graph) -> Graph:
    """``graph`` with such products in the bodies of the loops that read them."""
    if not any(bodies(n) for n in graph.order):
        return graph
    sources = dict(graph.sources)

    def visit(node: Node, inputs: tuple[Node, ...]) -> Node:
        made = rebuild(node, inputs)
        if node.op != "loop" or node.attr("cond") is not None or node.attr("remat"):
            return made
        before, after = control.operands(node), control.operands(made)
        moved = {
            k: parts
            for k, x in enumerate(after.xs)
            if _only_reader(graph, before.xs[k]) and (parts := _product_of_rows(x))
        }
        return _with_products(made, moved, sources) if moved else made

    moved = transform(graph, visit)
    return moved.with_outputs(moved.outputs, {**sources, **moved.sources})


def _only_reader(graph: Graph, x: Node) -> bool:
    """Whether the loop alone reads ``x`` and what it is made of, once."""
    while x.op in ("reshape", "add", "matmul"):
        if len(graph.users[x]) != 1 or x in graph.outputs:
            return False
        if x.op == "matmul":
            return True
        x = next((i for i in x.inputs if i.op != "broadcast"), x.inputs[0])
    return False


def _product_of_rows(x: Node) -> tuple[Node, Node, int, Node | None] | None:
    """``(a, w, tb, bias)`` of ``x[t] = a[t] @ w + bias``, None for anything else."""
    if x.op != "reshape" or x.ndim != 3 or not all(isinstance(d, int) for d in x.shape):
        return None
    rows, bias = x.inputs[0], None
    if rows.ndim != 2 or rows.shape[1] != x.shape[2] or x.type.nbytes < MIN_BYTES:
        return None
    if rows.op == "add":
        pairs = [rows.inputs, rows.inputs[::-1]]
        found = [(r, b) for r, b in pairs if r.op == "matmul" and b.op == "broadcast"]
        if not found or found[0][1].attr("dims") != (1,):
            return None
        rows, bias = found[0][0], found[0][1].inputs[0]
    if rows.op != "matmul" or rows.attr("ta"):
        return None
    a, w = rows.inputs
    if x.shape[1] < _MIN_ROWS or a.shape[1] * 2 > x.shape[2]:
        return None  # what is read instead is no smaller
    return build.reshape(a, (*x.shape[:2], a.shape[1])), w, rows.attr("tb"), bias


def _with_products(loop: Node, moved, sources) -> Node:
    """The loop that computes these of its ``xs`` itself."""
    body, given, own = loop.attr("body"), control.operands(loop), control.parameters(loop)
    extra = len(body.inputs)
    outside = dict(zip(own.consts, given.consts, strict=True))

    def parameter(node: Node, shape) -> Node:
        nonlocal extra
        extra += 1
        return build.input(extra - 1, "step p", TensorType(node.dtype, tuple(shape)))

    values: dict[Node, Node] = {}
    xs, params = list(given.xs), list(own.xs)
    for k, (a, w, tb, bias) in moved.items():
        xs[k], params[k] = a, parameter(a, a.shape[1:])
        weight = parameter(w, w.shape)
        outside[weight] = w
        value = build.matmul(params[k], weight, 0, tb)
        if bias is not None:
            row = parameter(bias, bias.shape)
            outside[row] = bias
            value = build.elementwise("add", value, build.broadcast(row, value.shape, (1,)))
        values[own.xs[k]] = value
    outputs = substitute(body.outputs, values, sources)
    (made,), lifted = control.close([outputs], [*own.init, *params], sources)
    consts = substitute(lifted, outside, sources)
    attrs = {**dict(loop.attrs), "body": made}
    count = () if given.count is None else (given.count,)
    return build.make("loop", (*count, *given.init, *xs, *consts), **attrs)
