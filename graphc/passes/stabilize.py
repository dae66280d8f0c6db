"""Numerically stable forms of the textbook formulas that people write.

Not exact: the results are better. They must be put in before differentiation to help gradients
too, so this set also runs on the primal graph (``stabilize_nodes``). A shift by a maximum cancels
in exact arithmetic; it is held constant (``stop_gradient``) and costs no gradient of its own.

Forms that reach the same numbers are left alone: a user's own max-shift is recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from graphc.ir import build
from graphc.ir.graph import Graph, Source
from graphc.ir.node import Node
from graphc.passes.patterns import constant, is_float, rewrites, rule
from graphc.passes.rewrite import rewrite, rewrite_nodes
from graphc.passes.simplify import BASIC

_VIEWS = ("reshape", "transpose", "slice", "broadcast", "take", "take_along")


# ----------------------------------------------------------------------- log-sum-exp and softmax


def _exp_sum(node: Node) -> tuple[Node, tuple[int, ...]] | None:
    """``(x, axes)`` of ``sum(exp(x), axes)``, of at least one element."""
    if node.op != "sum" or node.inputs[0].op != "exp" or node.inputs[0].type.size == 0:
        return None
    return node.inputs[0].inputs[0], node.attr("axes")


def _shift(x: Node, axes) -> tuple[Node, Node] | None:
    """``(u, m)`` of ``x = u - broadcast(m)`` where m is one value along ``axes``."""
    if x.op != "sub" or x.inputs[1].op != "broadcast":
        return None
    u, repeated = x.inputs
    if any(a in repeated.attr("dims") for a in axes):
        return None
    return u, repeated.inputs[0]


def _is_shifted(x: Node, axes) -> bool:
    """``x`` is ``u - max(u)``, perhaps scaled: its exponentials do not overflow."""
    while x.op in ("mul", "div") and constant(x.inputs[1]) is not None:
        x = x.inputs[0]
    parts = _shift(x, axes)
    if parts is None:
        return False
    u, m = parts
    while m.op in ("reshape", "broadcast", "stop_gradient", "where"):
        m = m.inputs[1 if m.op == "where" else 0]
    return m.op == "max" and _under_reshape(m.inputs[0]) is _under_reshape(u)


def _under_reshape(node: Node) -> Node:
    while node.op in ("reshape", "stop_gradient"):
        node = node.inputs[0]
    return node


def _along(m: Node, x: Node, axes) -> Node:
    """A value for each reduction over ``axes``, repeated over the shape of ``x``."""
    return build.broadcast(m, x.shape, [a for a in range(x.ndim) if a not in axes])


def _finite(x: Node) -> Node:
    """``x``, and 0 where it is not finite."""
    return build.make("where", (build.make("isfinite", (x,)), x, build.full_like(x, 0)))


def _shifted_exp_sum(x: Node, axes) -> tuple[Node, Node, Node]:
    """``(max(x), exp(x - m), sum(exp(x - m)))`` with the maximum m as a constant shift, and with
    0 where that is not finite, since inf - inf is NaN."""
    largest = build.make("stop_gradient", (build.reduce("max", x, axes),))
    m = _finite(largest)
    e = build.make("exp", (build.make("sub", (x, _along(m, x, axes))),))
    return largest, e, build.reduce("sum", e, axes)


def _held(x: Node, axes) -> Node | None:
    """``u - m`` with m held constant, for sums in which the derivative by m cancels."""
    parts = _shift(x, axes)
    if parts is None or parts[1].op in ("stop_gradient", "where", "const"):
        return None
    u, m = parts
    held = build.make("stop_gradient", (m,))
    return build.make("sub", (u, build.broadcast(held, x.shape, x.inputs[1].attr("dims"))))


@rewrites("log")
def logsumexp(node: Node) -> Node | None:
    """``log(sum(exp(x)))`` is ``m + log(sum(exp(x - m)))``; also of a scaled sum (a mean)."""
    (inside,) = node.inputs
    if inside.op in ("mul", "div") and _exp_sum(inside.inputs[0]) and is_float(node):
        total, scale = inside.inputs
        if _is_shifted(*_exp_sum(total)):
            return None
        logs = [build.make("log", (n,)) for n in (total, scale)]
        return build.make("add" if inside.op == "mul" else "sub", logs)
    found = _exp_sum(inside)
    if found is None or not is_float(node) or _is_shifted(*found):
        return None
    largest, _, total = _shifted_exp_sum(*found)
    # At least 1, but for nothing but -inf: log(1) - inf then, and 0 / 1 in the gradient.
    one = build.full_like(total, 1)
    filled = build.make("where", (build.make("lt", (total, one)), one, total))
    total = build.make("implicit", (filled, total), rule="same")
    return build.make("add", (build.make("log", (total,)), largest))


@rewrites("log")
def log_cosh(node: Node) -> Node | None:
    """``log(cosh(x))`` with ``m = |x|`` taken off the exponentials, held constant: it cancels."""
    (inside,) = node.inputs
    if inside.op != "cosh" or not is_float(node):
        return None
    (x,) = inside.inputs
    m = _finite(build.make("stop_gradient", (build.make("abs", (x,)),)))
    up = build.make("exp", (build.make("sub", (x, m)),))
    down = build.make("exp", (build.make("neg", (build.make("add", (x, m)),)),))
    total = build.make("log", (build.make("add", (up, down)),))
    return build.make("add", (total, build.make("sub", (m, build.full_like(m, np.log(2))))))


@rewrites("div")
def softmax(node: Node) -> Node | None:
    """``exp(x) / sum(exp(x))`` with the maximum taken off first, and held constant."""
    e, repeated = node.inputs
    if e.op != "exp" or repeated.op != "broadcast" or not is_float(node):
        return None
    found = _exp_sum(repeated.inputs[0])
    if found is None or found[0] is not e.inputs[0]:
        return None
    x, axes = found
    if repeated.attr("dims") != tuple(a for a in range(x.ndim) if a not in axes):
        return None
    if _is_shifted(x, axes):
        held = _held(x, axes)
        if held is None:
            return None
        e = build.make("exp", (held,))
        total = build.reduce("sum", e, axes)
    else:
        _, e, total = _shifted_exp_sum(x, axes)
    return build.make("div", (e, _along(total, x, axes)))


@rewrites("sub")
def log_softmax_own_shift(node: Node) -> Node | None:
    """``z - log(sum(exp(z)))`` does not depend on the m of ``z = u - m``: m is held constant."""
    z, repeated = node.inputs
    if repeated.op != "broadcast" or repeated.inputs[0].op != "log":
        return None
    found = _exp_sum(repeated.inputs[0].inputs[0])
    if found is None or found[0] is not z:
        return None
    _, axes = found
    held = _held(z, axes)
    if held is None or repeated.attr("dims") != tuple(a for a in range(z.ndim) if a not in axes):
        return None
    total = build.reduce("sum", build.make("exp", (held,)), axes)
    return build.make("sub", (held, _along(build.make("log", (total,)), z, axes)))


@rewrites("add")
def logsumexp_own_shift(node: Node) -> Node | None:
    """``m + log(sum(exp(u - m)))`` does not depend on m: m is held constant."""
    for k in (0, 1):
        log, m = _under_reshape(node.inputs[k]), node.inputs[1 - k]
        if log.op != "log":
            continue
        found = _exp_sum(_under_reshape(log.inputs[0]))
        held = _held(*found) if found else None
        if held is None:
            continue
        x, axes = found
        shift = x.inputs[1].inputs[0]
        if shift is not _under_reshape(m) or len(x.inputs[1].attr("dims")) != x.ndim - len(axes):
            continue
        total = build.reduce("sum", build.make("exp", (held,)), axes)
        fixed = held.inputs[1].inputs[0]
        result = build.make("add", (build.make("log", (total,)), fixed))
        return build.reshape(result, node.shape)
    return None


@rewrites("log")
def log_of_view(node: Node) -> Node | None:
    """``log(p[rows, labels])`` is ``log(p)[rows, labels]`` where log(p) has a stable form."""
    views, base = [], node.inputs[0]
    while base.op in _VIEWS:
        views.append(base)
        base = base.inputs[0]
    if not views or not is_float(node) or not _has_stable_log(base):
        return None
    result = build.make("log", (base,))
    for view in reversed(views):
        result = build.make(view.op, (result, *view.inputs[1:]), **dict(view.attrs))
    return result


def _has_stable_log(node: Node) -> bool:
    if node.op == "sigmoid" or _exp_sum(node):
        return True
    if node.op == "sub":
        return constant(node.inputs[0]) == 1 and node.inputs[1].op == "sigmoid"
    return node.op == "div" and node.inputs[0].op == "exp"


LOGS = (
    rule("log_exp", "log(exp(x))", "x", where=is_float),
    rule("log_exp_ratio", "log(div(exp(x), y))", "sub(x, log(y))", where=is_float),
    rule("log_exp_product", "log(mul(exp(x), y))", "add(x, log(y))", where=is_float),
)

# ------------------------------------------------------------------------- sigmoid and softplus

SIGMOIDS = (
    rule("sigmoid_ratio", "div(exp(x), add(1, exp(x)))", "sigmoid(x)", where=is_float),
    rule("over_one_plus_exp", "div(y, add(1, exp(x)))", "mul(y, sigmoid(neg(x)))", where=is_float),
    rule("log_sigmoid", "log(sigmoid(x))", "neg(softplus(neg(x)))", where=is_float),
    rule("log_one_minus_sigmoid", "log(sub(1, sigmoid(x)))", "neg(softplus(x))", where=is_float),
    rule("log1p_minus_sigmoid", "log1p(neg(sigmoid(x)))", "neg(softplus(x))", where=is_float),
    rule("softplus", "log(add(1, exp(x)))", "softplus(x)", where=is_float),
    rule("softplus_log1p", "log1p(exp(x))", "softplus(x)", where=is_float),
    rule(
        "softplus_own_shift",
        "add(relu(x), softplus(neg(abs(x))))",
        "softplus(x)",
        where=is_float,
    ),
)

# ------------------------------------------------------------------------- cancellation near 0

NEAR_ZERO = (
    rule("log1p", "log(add(x, 1))", "log1p(x)", where=is_float),
    rule("log1p_minus", "log(sub(1, x))", "log1p(neg(x))", where=is_float),
    rule("expm1", "sub(exp(x), 1)", "expm1(x)", where=is_float),
    rule("expm1_added", "add(exp(x), -1)", "expm1(x)", where=is_float),
    rule("expm1_negated", "sub(1, exp(x))", "neg(expm1(x))", where=is_float),
    rule(
        "tanh", "div(sub(exp(x), exp(neg(x))), add(exp(x), exp(neg(x))))", "tanh(x)", where=is_float
    ),
    rule("sqrt_square", "sqrt(mul(x, x))", "abs(x)", where=is_float),
)

_STABLE = (
    log_of_view,
    logsumexp,
    log_cosh,
    softmax,
    log_softmax_own_shift,
    logsumexp_own_shift,
    *LOGS,
    *SIGMOIDS,
    *NEAR_ZERO,
)
# Simplified along the way, so that each pattern has one spelling.
STABILIZE = (*_STABLE, *BASIC)


def stabilize(graph: Graph) -> Graph:
    """``graph`` with stable forms."""
    return rewrite(graph, STABILIZE)


def stabilize_nodes(
    roots: Sequence[Node] | Iterable[Node], sources: dict[Node, Source] | None = None
) -> list[Node]:
    """The stable forms of ``roots``, for use before differentiation.

    ``sources`` (user lines by node) gains the lines of new nodes.
    """
    return rewrite_nodes(roots, STABILIZE, sources)
