"""What the rules of marked calls (``ir/calls.py``) have in common.

A rule has ``pull`` for reverse mode, ``push`` for forward mode and ``batched`` for vmap. The
marks of one call share a token: what is made of a call's own arguments is its inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.ad.jvp_rules import Tangent
from graphc.ad.rules import Cotangent
from graphc.ir import calls
from graphc.ir.dims import DimLike
from graphc.ir.graph import Source, topological
from graphc.ir.node import Node
from graphc.trace.tracer import Tracer
from graphc.trace.tracing import wrap
from graphc.trace.tree import flatten, unflatten

#: Cotangents for nodes below a call.
Pulled = list[tuple[Node, Cotangent | None]]


class Token:
    """What one call's marks have in common; it is told from others by identity.

    ``is_differentiated`` says that derivatives go through the inside of the call.
    """

    def __init__(self, name: str, is_differentiated: bool):
        self.name = name
        self.is_differentiated = is_differentiated

    def __repr__(self) -> str:
        return f"<call of {self.name}>"


class Rule:
    """How one call is differentiated."""

    token: Token

    def pull(
        self, node: Node, cts: dict[int, Cotangent], active: set[Node], suspect: set[Node],
        sources: dict[Node, Source],
    ) -> Pulled:  # fmt: skip
        """Cotangents of the arguments of call ``node`` (and of what its inside reads beside
        them), given those of its results by position."""
        raise NotImplementedError

    def push(self, node: Node, parts: Sequence[Tangent | None]) -> list[Tangent | None]:
        """The tangents of the results, given those of the inputs of ``node``."""
        raise NotImplementedError

    def batched(self, node: Node, mapped: Sequence[bool], size: DimLike) -> Rule:
        """The rule of the same call for a batch; ``mapped`` says which inputs have one."""
        raise NotImplementedError


def marked(ctx, token: Token, leaves: list, run: Callable[[list], object], rule: Rule):
    """What ``run(leaves)`` returns, as a marked call by ``rule``. The tracers among ``leaves``
    are its arguments; results that are no floats have no derivative and stay as they are."""
    args, seen = [], []
    for leaf in leaves:
        if isinstance(leaf, Tracer):
            node, leaf = leaf.node, leaf
            if node.dtype.kind == "f":
                leaf = wrap(ctx, calls.argument(node, token, len(args)), leaf.weak)
            args.append(node)
        seen.append(leaf)
    results, structure = flatten(run(seen))
    tracers = [ctx.lift(r) for r in results]
    of = calls.call([t.node for t in tracers], args, rule)
    outputs = [
        wrap(ctx, calls.result(of, k), t.weak) if t.node.dtype.kind == "f" else given
        for k, (given, t) in enumerate(zip(results, tracers, strict=True))
    ]
    return unflatten(structure, outputs)


@dataclass(frozen=True)
class Inside:
    """What is between the results of a call and its arguments."""

    own: tuple[Node, ...]  # its arguments as the function sees them
    read: tuple[Node, ...]  # what the function reads beside them, in order


def inside(node: Node, token: Token) -> Inside:
    """The inside of a call: what is made of its own arguments."""
    own = {
        calls.argument(x, token, i): None
        for i, x in enumerate(calls.arguments_of(node)) if x.dtype.kind == "f"
    }  # fmt: skip
    values = calls.results_of(node)
    made = set(own)
    read = {}
    for part in topological(values, until=own):
        if part not in own and any(i in made for i in part.inputs):
            made.add(part)
            read.update({i: None for i in part.inputs if i not in made})
    read.update({v: None for v in values if v not in made})
    return Inside(tuple(own), tuple(n for n in read if n.op != "const"))
