"""Products of derivatives that must stay zero where a branch is dead.

Both directions of differentiation multiply what flows (a cotangent, a tangent) with local
derivatives. Where the flow is zero by structure and the derivative infinite or NaN, the product
must be 0: here is when that can happen, and the guarded product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from graphc.ad.formulas import Derivative, Value, constant_value, derivative_of, times
from graphc.errors import GradientError
from graphc.ir import build
from graphc.ir.graph import Source
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.ir.scipy_functions import MISSING, PREFIX

#: Zeros at any position: what ``where``, ``maximum``, ... leave on their dead side.
ANYWHERE = -1
#: Zeros only where the operand itself has a plain finite value (``sqrt`` and ``abs`` at 0).
SOFT = -2
#: Beside others: some of the zeros may stand where the operand is NaN, since a ``where`` or an
#: index that is computed from arguments did not want it. Those of ``maximum`` never do (NaN wins),
#: and what is known beforehand, such as a slice or a causal mask, can be cut off before a product.
HIDING = -3

Zeros = frozenset[int]
_ORDINALS = ("first", "second", "third", "fourth")
Flow = TypeVar("Flow")  # a Cotangent or a Tangent: a node and what is known of its zeros
CLEAN: Zeros = frozenset()
ANYWHERE_ONLY: Zeros = frozenset([ANYWHERE])

# Their zero derivative is a convention at an ordinary finite argument, not a dead branch.
SOFT_ROWS = frozenset({"abs", "sqrt", "cbrt", "pow", "copysign", "arctan2"})


def zeros_of(node: Node, position: int, derivative: Derivative, flow: Zeros) -> Zeros:
    """Which zeros a derivative formula by one argument brings into a flow with zeros ``flow``."""
    if not derivative.branches:
        return CLEAN
    if node.op == "where":
        # Two masks together may leave nothing alive of a row that each leaves something of.
        live = frozenset[int]() if flow - {HIDING, SOFT} else _live_axes(node.inputs[0], position)
        return frozenset([live]) if live else ANYWHERE_ONLY | hiding(node.inputs[0])
    return frozenset([SOFT if node.op in SOFT_ROWS else ANYWHERE])


def needs_guard(node: Node, factors: Sequence[Value], zeros: Zeros, suspect: set[Node]) -> bool:
    """Whether a flow with ``zeros`` can meet an infinite or NaN derivative of ``node``."""
    if not zeros or not factors:
        return False
    nodes = [f for f in factors if isinstance(f, Node)]
    if is_singular(node) or not np.isfinite([f for f in factors if f not in nodes]).all():
        return True
    return zeros - {HIDING} != {SOFT} and any(f in suspect for f in nodes)


def guarded(ct: Node, product: Node) -> Node:
    """``product``, but 0 where ``ct`` is 0 and the product is NaN.

    Testing the product too keeps higher derivatives right where ``ct`` merely happens to be 0.
    """
    zero = build.full_like(ct, 0)
    dead = build.elementwise(
        "logical_and", build.elementwise("eq", ct, zero), build.elementwise("isnan", product)
    )
    return build.elementwise("where", dead, zero, product)


def refuse_complex(order, active, sources) -> None:
    """Raise GradientError at the first complex value that would be differentiated."""
    for node in order:
        if node in active and node.dtype.kind == "c":
            raise GradientError(
                f"no gradient through complex values: `{node.op}` ({node.type})"
                f"{at_line(sources.get(node))}\n"
                "  compute with the real and the imaginary part as two arrays"
            )


def may_be_nonfinite(
    order: Iterable[Node], wrt: Iterable[Node], known: Iterable[Node] = ()
) -> set[Node]:
    """Nodes that can hold NaN or infinity while constants and ``wrt`` are finite, but for those
    that are ``known`` to be among them and those that the program tests for NaN."""
    wrt = set(wrt)
    order = list(order)
    finite, suspect = wrt - _tested(order), set(known)
    for node in order:
        if node in finite or node.dtype.kind not in "fc":
            continue
        if node.op == "const":
            risky = not np.isfinite(node.attr("value").array).all()
        else:
            risky = (
                node in wrt
                or node.op in ("input", "placeholder", "item")
                or is_singular(node)
                or any(i in suspect for i in node.inputs)
            )
        if risky:
            suspect.add(node)
    return suspect


_VIEWS = frozenset({"slice", "reshape", "transpose", "broadcast", "take", "take_along"})


def _tested(order: Iterable[Node]) -> set[Node]:
    """What the program asks whether it is NaN, seen through views: it may well be."""
    found = set()
    for node in order:
        if node.op in ("isnan", "isfinite") or (node.op == "ne" and len(set(node.inputs)) == 1):
            value = node.inputs[0]
            while value.op in _VIEWS:
                value = value.inputs[0]
            found.add(value)
    return found


def is_singular(node: Node) -> bool:
    """Whether finite operands can give an infinite or NaN value or derivative."""
    if not OPS[node.op].singular:
        return False
    number = constant_value(node.inputs[1]) if len(node.inputs) == 2 else None
    if number is None:
        return True
    if node.op == "div":
        return number == 0
    return not (node.op == "pow" and number >= 1 and number == int(number))


def through(node: Node, position: int, flow: Flow, env, suspect: set[Node]) -> Flow | None:
    """A cotangent or a tangent times the derivative of an elementwise row by one argument."""
    derivative = derivative_of(node, position)
    if derivative is not None and derivative.text == MISSING:
        raise GradientError(
            f"{node.op.removeprefix(PREFIX)} has no derivative by its {_ORDINALS[position]} "
            "argument\n"
            "  treat that one as a constant: graphc.stop_gradient(value)"
        )
    product = None if derivative is None else times(flow.node, derivative.tree, env)
    if product is None:
        return None
    factors = [env[name] for name in derivative.factors]
    if needs_guard(node, factors, flow.zeros, suspect):
        product = guarded(flow.node, product)
    return flow._replace(
        node=product, zeros=flow.zeros | zeros_of(node, position, derivative, flow.zeros)
    )


def hiding(choice: Node) -> Zeros:
    """Whether what ``choice`` (a condition, indices) leaves out may be NaN."""
    return CLEAN if is_constant(choice) else frozenset([HIDING])


def _live_axes(condition: Node, position: int) -> frozenset[int]:
    """Of a condition that is a constant: the axes along which it chooses operand ``position`` of
    a ``where`` at least once, wherever one stands."""
    dims = tuple(range(condition.ndim))
    while condition.op == "broadcast":
        below = condition.inputs[0]
        dims = tuple(dims[a] for a in condition.attr("dims"))
        condition = below
    if condition.op != "const":
        return frozenset()
    chosen = condition.attr("value").array == (position == 1)
    return frozenset(a for k, a in enumerate(dims) if chosen.any(axis=k).all())


def outside(zeros: Zeros, rank: int) -> Zeros:
    """What is left of ``zeros`` where all axes from ``rank`` on are mixed."""
    return moved(zeros, lambda a: a if a < rank else None)


def moved(zeros: Zeros, axis_of: Callable[[int], int | None]) -> Zeros:
    """``zeros`` with its axes renamed; None drops an axis (it was summed over)."""
    kept: set[int | frozenset[int]] = set()
    for a in zeros:
        if isinstance(a, frozenset):
            axes = {axis_of(b) for b in a}
            if None not in axes:
                kept.add(frozenset(b for b in axes if b is not None and b >= 0) or ANYWHERE)
        elif (place := a if a < 0 else axis_of(a)) is not None:
            kept.add(place)
    return CLEAN if kept == {HIDING} else frozenset(kept)


def is_constant(node: Node) -> bool:
    """Whether a node depends on no argument."""
    stack, seen = [node], {node}
    while stack:
        current = stack.pop()
        if current.op in ("input", "placeholder"):
            return False
        new = [i for i in current.inputs if i not in seen]
        seen.update(new)
        stack += new
    return True


def no_rule(mode: str, rules: Iterable[str], node: Node, source: Source | None) -> GradientError:
    """``mode`` ("gradient") has no rule for ``node``."""
    return GradientError(
        f"no {mode} rule for op `{node.op}` ({node.type}){at_line(source)}\n"
        f"  ops with one: all elementwise functions, {', '.join(sorted(rules))}\n"
        "  write it with those, give the function that uses it a gradient of its own with\n"
        "  graphc.custom_vjp, or treat the value as a constant: graphc.stop_gradient(value)"
    )


class refusing_at:
    """Adds the user's line to a GradientError of a rule."""

    def __init__(self, source: Source | None):
        self.source = source

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, GradientError) and "\n  at " not in str(error):
            error.args = (f"{error}{at_line(self.source)}",)
        return False


def at_line(source: Source | None) -> str:
    """The user's line, as the end of a message."""
    return f"\n  at {source} in {source.function}" if source else ""
