"""Sums over the steps of a loop, computed where they are cheap: products behind it, others in it.

The gradient of a weight in a recurrence is the sum over steps of ``a[t].T @ g[t]``: products of few
terms (the batch), each read from and added to the whole matrix. Stacked, they are one product of
steps times batch terms, whose tiles stay in registers for long. The gradient of a bias is a sum of
what is stacked anyhow: in the loop its terms are still in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.ir import build, control
from graphc.ir.graph import Graph, bodies, rebuild, substitute, transform
from graphc.ir.node import Node
from graphc.ir.ops import matmul_dims
from graphc.passes.loop_inputs import MIN_BYTES
from graphc.passes.patterns import constant

_FEW_TERMS = 128  # of a step: with more a product is as fast inside of the loop


def products_behind_loops(graph: Graph) -> Graph:
    """``graph`` with such sums taken out of its loops, those in bodies too."""

    def moved(loop: Node, made: Node) -> dict[Node, Node]:
        return _items(graph, loop, _Sums(made).moved() or ())

    return _with_loops(graph, products_behind_loops, moved)


def _with_loops(
    graph: Graph,
    again: Callable[[Graph], Graph],
    change: Callable[[Node, Node], dict[Node, Node]],
) -> Graph:
    """``graph`` with ``again`` of its bodies; ``change(old, made)`` of a loop is what else comes in
    the place of which nodes behind it."""
    if not any(bodies(n) for n in graph.order):
        return graph
    changed: dict[Node, Node] = {}

    def visit(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node in changed:
            return changed[node]
        if not bodies(node):
            return rebuild(node, inputs)
        attrs = dict(node.attrs)
        attrs.update((key, again(body)) for key, body in bodies(node))
        made = build.make(node.op, inputs, **attrs)
        if node.op == "loop":
            changed.update(change(node, made))
        return made

    return transform(graph, visit)


def _items(graph: Graph, loop: Node, results: Sequence[Node]) -> dict[Node, Node]:
    """``results`` in the place of those that ``graph`` reads of the loop."""
    return {item: results[item.attr("index")] for item in graph.users[loop]} if results else {}


class _Sums:
    """The sums of one loop."""

    def __init__(self, loop: Node):
        self.loop, self.body = loop, loop.attr("body")
        self.given, self.own = control.operands(loop), control.parameters(loop)
        self.carries = len(self.own.init)
        self.stacked = list(self.body.outputs[self.carries :])
        self.of_xs = dict(zip(self.own.xs, self.given.xs, strict=True))

    def moved(self) -> list[Node] | None:
        """What the results of the loop become; None where no sum is worth it."""
        loop = self.loop
        if not control.is_fixed(loop) or loop.attr("length") is None or loop.attr("remat"):
            return None  # a remat loop is one that must not keep more
        terms = {k: t for k in range(self.carries) if (t := self._product(k)) and self._pays(t)}
        if not terms:
            return None
        for term in terms.values():
            self.stacked += [x for x in self._to_stack(term) if x not in self.stacked]
        kept = [k for k in range(self.carries) if k not in terms]
        outputs = [*(self.body.outputs[k] for k in kept), *self.stacked]
        params = [*(self.own.init[k] for k in kept), *self.own.xs]
        (body,), lifted = control.close([outputs], params)
        consts = substitute(lifted, dict(zip(self.own.consts, self.given.consts, strict=True)))
        found = build.loop(
            body, [self.given.init[k] for k in kept], self.given.xs, consts,
            length=loop.attr("length"), reverse=loop.attr("reverse"),
        )  # fmt: skip
        stacks = dict(zip(self.stacked, found[len(kept) :], strict=True)) | self.of_xs
        results: list[Node] = [self.given.init[k] for k in range(self.carries)]
        for k, node in zip(kept, found, strict=False):
            results[k] = node
        for k, term in terms.items():
            total = build.matmul(*(_rows(stacks[x]) for x in term.inputs), 1, 0)
            start = self.given.init[k]
            results[k] = total if constant(start) == 0 else build.elementwise("add", start, total)
        count = len(self.body.outputs) - self.carries
        return results + found[len(kept) : len(kept) + count]

    def _product(self, k: int) -> Node | None:
        """The product that carry ``k`` is increased by at each step, if that is all there is."""
        carry, out = self.own.init[k], self.body.outputs[k]
        if out.op != "add" or carry not in out.inputs or self.body.outputs.count(out) != 1:
            return None
        if len(self.body.users[carry]) > 1 or self.body.users[out] or carry in self.body.outputs:
            return None
        (term,) = [i for i in out.inputs if i is not carry] or [None]
        if term is None or term.op != "matmul" or term.ndim != 2:
            return None
        return term if (term.attr("ta"), term.attr("tb")) == (1, 0) else None

    def _to_stack(self, term: Node) -> list[Node]:
        """Factors that are not in memory for all steps already."""
        return [x for x in term.inputs if x not in self.of_xs and x not in self.stacked]

    def _pays(self, term: Node) -> bool:
        """Few terms a step; and what has to be kept of a step is no more than its product, which
        the loop would read and write."""
        *_, k = matmul_dims(dict(term.attrs), *(i.type for i in term.inputs))
        many = isinstance(k, int) and k > _FEW_TERMS
        if many or any(i in self.own.consts for i in term.inputs):
            return False
        sizes = [x.type.size for x in self._to_stack(term)]
        if not sizes:
            return True
        known = all(isinstance(s, int) for s in (*sizes, term.type.size))
        return known and sum(sizes) <= term.type.size


def _rows(stack: Node) -> Node:
    """All steps below each other."""
    return build.reshape(stack, (stack.shape[0] * stack.shape[1], stack.shape[2]))


# ------------------------------------------------------------------------------ sums of results


_MIN_TERMS = 8  # of a step, for each element that is added to


def sums_into_loops(graph: Graph) -> Graph:
    """``graph`` with sums over all steps of what a loop stacks (the gradient of a bias) added up
    in the loop, while a step's terms are in the cache; those in bodies too."""
    wanted: dict[Node, dict[Node, tuple[int, tuple[int, ...]]]] = {}
    for node in graph.order:
        if (found := _sum_of_steps(node)) is not None:
            wanted.setdefault(found[0], {})[node] = found[1:]

    def added_up(loop: Node, made: Node) -> dict[Node, Node]:
        if loop not in wanted:
            return {}
        results, totals = _with_totals(made, list(wanted[loop].values()))
        return _items(graph, loop, results) | dict(zip(wanted[loop], totals, strict=True))

    return _with_loops(graph, sums_into_loops, added_up)


def _sum_of_steps(node: Node) -> tuple[Node, int, tuple[int, ...]] | None:
    """The loop, the number of the result and the axes of a step's part that a sum is over."""
    if node.op != "sum" or 0 not in node.attr("axes"):
        return None
    (stack,), axes = node.inputs, node.attr("axes")
    inner = tuple(a - 1 for a in axes if a)
    if stack.op == "reshape":  # the rows of all steps below each other
        (below,) = stack.inputs
        if below.ndim != stack.ndim + 1 or below.shape[2:] != stack.shape[1:]:
            return None
        stack, inner = below, tuple(axes)
    if stack.op != "item" or stack.inputs[0].op != "loop":
        return None
    (loop,), index = stack.inputs, stack.attr("index")
    if not control.is_fixed(loop) or index < loop.attr("carries"):
        return None
    sizes = stack.type.nbytes, stack.type.size, stack.shape[0], node.type.size
    if not all(isinstance(s, int) for s in sizes) or stack.type.nbytes < MIN_BYTES:
        return None
    few = stack.type.size < _MIN_TERMS * stack.shape[0] * node.type.size
    return None if few else (loop, index, inner)


def _with_totals(loop: Node, sums: list[tuple[int, tuple[int, ...]]]):
    """What the results of ``loop`` become where it adds up ``sums`` (of a result over the axes of a
    step's part), and these sums."""
    body, given, own = loop.attr("body"), control.operands(loop), control.parameters(loop)
    carries = len(own.init)
    before, after = [], []
    for number, (index, axes) in enumerate(sums):
        term = body.outputs[index]
        term = build.reduce("sum", term, axes) if axes else term
        before.append(build.input(len(body.inputs) + number, "step s", term.type))
        after.append(build.elementwise("add", before[-1], term))
    outputs = [*body.outputs[:carries], *after, *body.outputs[carries:]]
    (made,), lifted = control.close([outputs], [*own.init, *before, *own.xs])
    consts = substitute(lifted, dict(zip(own.consts, given.consts, strict=True)))
    found = build.loop(
        made, [*given.init, *(build.full_like(b, 0) for b in before)], given.xs, consts,
        length=loop.attr("length"), reverse=loop.attr("reverse"), remat=loop.attr("remat"),
    )  # fmt: skip
    behind = carries + len(sums)
    return [*found[:carries], *found[behind:]], list(found[carries:behind])
