"""Reverse-mode differentiation: the adjoint of a graph as nodes of the same IR.

One walk over the nodes between ``wrt`` and ``outputs``, results first; cotangents of a node
with several users are summed. Elementwise rows bring their derivative formulas, all other ops
a rule of ``ad/rules.py``.

Dead positions never leak. ``where(x > 0, log(x), 0)`` at ``x = -1`` has a zero cotangent on the
side of the logarithm, and ``0 * nan`` must stay 0. A cotangent knows whether it can be zero by
structure (:class:`graphc.ad.rules.Cotangent`), and only then, and only where the other factor
can be infinite or NaN, its product is guarded. The factor is taken as finite when it is computed
from constants and the differentiated values by rows that are not ``singular``; arguments that
are not differentiated (data) may hold NaN. Products inside ``matmul`` and ``conv`` have a guard
of their own, ``ad/products.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.ad import (
    complex_library,  # noqa: F401  (fills RULES)
    control,
    library_rules,  # noqa: F401  (fills RULES)
)
from graphc.ad.formulas import derivative_of, environment
from graphc.ad.guards import (
    CLEAN,
    may_be_nonfinite,
    no_rule,
    refuse_complex,
    refusing_at,
    through,
)
from graphc.ad.in_parts import flat, flows_through_complex, in_two, joined, outputs_in_parts
from graphc.ad.products import without_hidden
from graphc.ad.rules import RULES, Cotangent
from graphc.errors import GradientError
from graphc.ir import build
from graphc.ir.control import CONTROL
from graphc.ir.graph import Source, inherit, topological
from graphc.ir.node import Node
from graphc.ir.ops import is_elementwise


def vjp(
    outputs: Sequence[Node],
    cotangents: Sequence[Node],
    wrt: Sequence[Node],
    sources: dict[Node, Source] | None = None,
) -> list[Node]:
    """The cotangent of each node of ``wrt``, given those of ``outputs``.

    ``cotangents[i]`` has the type of ``outputs[i]``; the results have the types of ``wrt``,
    zeros where no output depends on it. Integers and booleans have no cotangent: an output of
    such a type is passed over. New nodes enter ``sources`` with the line of the node they belong
    to. Raises GradientError at an op that has no gradient rule.

    >>> from graphc.ir import build, types
    >>> x = build.input(0, "x", types.tensor_type("float32", (3,)))
    >>> y = build.elementwise("mul", x, x)
    >>> vjp([y], [build.full_like(y, 1)], [x])[0].type
    TensorType(dtype=dtype('float32'), shape=(3,))
    """
    sources = {} if sources is None else sources
    for output, ct in zip(outputs, cotangents, strict=True):
        if output.dtype.kind in "fc" and ct.type != output.type:
            raise GradientError(f"cotangent {ct.type} for an output {output.type}")
    found = pull_back(outputs, [Cotangent(ct) for ct in cotangents], wrt, sources)
    pairs = zip(wrt, found, strict=True)
    return [build.full_like(w, 0) if ct is None else ct.node for w, ct in pairs]


def pull_back(
    outputs: Sequence[Node],
    cotangents: Sequence[Cotangent | None],
    wrt: Sequence[Node],
    sources: dict[Node, Source],
) -> list[Cotangent | None]:
    """As :func:`vjp`, with what is known of zeros; None where no output depends on a node."""
    order = topological(outputs)
    if flows_through_complex((*order, *wrt), _active(order, wrt)[0]):
        parts = outputs_in_parts(outputs, wrt, order, sources)
        return joined(pull_back(parts, in_two(cotangents, outputs), flat(wrt), sources), wrt)
    found = walk(order, outputs, cotangents, wrt, may_be_nonfinite(order, wrt), sources)
    return [found.get(w) for w in wrt]


def walk(
    order: Sequence[Node],
    outputs: Sequence[Node],
    cotangents: Sequence[Cotangent | None],
    wrt: Sequence[Node],
    suspect: set[Node],
    sources: dict[Node, Source],
) -> dict[Node, Cotangent]:
    """The cotangents of those of ``wrt`` that have one.

    ``order`` holds the nodes between ``wrt`` and ``outputs``, inputs first, and ``suspect`` those
    of them that may be infinite or NaN.
    """
    active, moved = _active(order, wrt)
    refuse_complex(order, active, sources)
    pending: dict[Node, list[Cotangent]] = {}
    results: dict[
        Node, dict[int, Cotangent]
    ] = {}  # of marked calls, loops and choices, by position
    for output, ct in zip(outputs, cotangents, strict=True):
        if output in active and ct is not None:
            pending.setdefault(output, []).append(ct)
    wanted, found = set(wrt), {}
    for node in reversed(order):
        source = sources.get(node)
        backward = source.derived("backward pass", node.op) if source is not None else None
        if node in results and node.op in CONTROL:
            needs = tuple(i in active for i in node.inputs)
            parts = control.pull(node, results.pop(node), needs, moved[node], sources, pull_back)
            pulled = zip(node.inputs, parts, strict=True)
        elif node in results:
            rule = node.attr("rule")
            pulled = rule.pull(node, results.pop(node), active, suspect, sources)
        else:
            parts = pending.pop(node, None)
            if not parts:
                continue
            ct = _total(parts)
            if node in wanted:
                found[node] = ct
            if backward is not None:
                inherit(sources, ct.node, backward)
            if node.op in ("call_result", "item"):
                results.setdefault(node.inputs[0], {})[node.attr("index")] = ct
                continue
            needs = tuple(i in active for i in node.inputs)
            if not any(needs):
                continue
            pulled = zip(node.inputs, _pull(node, ct, needs, suspect, source), strict=True)
        for operand, part in pulled:
            if part is None or operand not in active:
                continue
            pending.setdefault(operand, []).append(part)
            if backward is not None:
                inherit(sources, part.node, backward)
    return found


def _total(parts: list[Cotangent]) -> Cotangent:
    total, zeros = parts[0]
    for node, more in parts[1:]:
        total = build.elementwise("add", total, node)
        # A position is dead only if no contribution reaches it.
        zeros = zeros | more if zeros and more else CLEAN
    return Cotangent(total, zeros)


def _pull(node, ct, needs, suspect, source) -> list[Cotangent | None]:
    """Cotangents of the inputs of one node."""
    if node.op in RULES:
        with refusing_at(source):
            return RULES[node.op](without_hidden(node, ct, needs, suspect), ct, needs)
    if is_elementwise(node):
        env = environment(node)
        with refusing_at(source):
            return [
                through(node, position, ct, env, suspect) if need else None
                for position, need in enumerate(needs)
            ]
    raise no_rule("gradient", RULES, node, source)


def _active(order: Iterable[Node], wrt: Iterable[Node]):
    """Nodes through which a change of ``wrt`` reaches the outputs; of loops and choices, which
    of their results."""
    active = {w for w in wrt if w.dtype.kind in "fc"}
    results: dict[Node, set[int]] = {}
    for node in order:
        if node.op in CONTROL:
            needs = [i in active for i in node.inputs]
            if any(needs):
                results[node] = control.active_results(node, needs, lambda o, w: _active(o, w)[0])
        elif node.op == "item":
            moved = node.attr("index") in results.get(node.inputs[0], ())
            if moved and node.dtype.kind in "fc":
                active.add(node)
        elif node.dtype.kind in "fc" and any(
            operand in active and _passes_gradient(node, position)
            for position, operand in enumerate(node.inputs)
        ):
            active.add(node)
    return active, results


def _passes_gradient(node: Node, position: int) -> bool:
    if node.op in RULES or not is_elementwise(node):
        return True
    return derivative_of(node, position) is not None
