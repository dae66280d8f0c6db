"""``checkpoint``: the backward pass computes again what the forward pass did not keep.

What is computed again reads its operands through ``barrier`` nodes, which wait for the cotangent
to arrive: equal nodes are one node in graphc, and the barrier makes them another. It costs
nothing, being another name for the same memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from graphc.ad import reverse
from graphc.ad.calls import Pulled, Rule, Token, inside, marked
from graphc.ad.guards import may_be_nonfinite
from graphc.functions import name_of
from graphc.ir import build, calls
from graphc.ir.graph import substitute, topological
from graphc.trace.tracing import active_trace, current_trace
from graphc.trace.tree import flatten, unflatten


def checkpoint(fn: Callable) -> Callable:
    """``fn``, whose intermediate values are not kept for the backward pass but computed again.

    For a function that is one part of a larger one (a layer, a block of time steps): what is kept
    of it is its arguments and its results. Values and gradients are the same; memory falls, and
    the part is computed twice.

    >>> import numpy as np, graphc as gc
    >>> layer = gc.checkpoint(lambda w, h: np.tanh(h @ w))
    >>> def loss(w, h):
    ...     for _ in range(3):
    ...         h = layer(w, h)
    ...     return h.sum()
    >>> float(gc.grad(loss)(np.zeros((2, 2)), np.ones((5, 2))).sum())
    0.0
    """

    @functools.wraps(fn)
    def wrapped(*args, **kwargs):
        ctx = current_trace(*args, *kwargs.values()) or active_trace()
        if ctx is None:
            return fn(*args, **kwargs)
        leaves, structure = flatten((args, kwargs))

        def run(leaves):
            new_args, new_kwargs = unflatten(structure, leaves)
            return fn(*new_args, **new_kwargs)

        token = Token(name_of(fn), is_differentiated=True)
        return marked(ctx, token, leaves, run, _Recompute(token))

    return wrapped


class _Recompute(Rule):
    def __init__(self, token: Token):
        self.token = token

    def pull(self, node, cts, active, suspect, sources) -> Pulled:
        part = inside(node, self.token)
        own, read = part.own, tuple(n for n in part.read if n in active)
        after = next(iter(cts.values())).node
        operands = [*(a.inputs[0] for a in own), *read]
        doors = [build.barrier(x, after) for x in operands]
        # Parts that do not depend on anything differentiated are computed again as well.
        values = calls.results_of(node)
        again = substitute(values, dict(zip((*own, *read), doors, strict=True)), sources)
        order = topological(again, until=set(doors))
        doubtful = {d for d, x in zip(doors, operands, strict=True) if x in suspect}
        doubtful = may_be_nonfinite(order, doors, doubtful)
        given = [cts.get(k) for k in range(len(values))]
        found = reverse.walk(order, again, given, doors, doubtful, sources)
        return [(x, found.get(d)) for x, d in zip(operands, doors, strict=True)]

    def push(self, node, parts):
        return list(parts[: node.attr("results")])

    def batched(self, node, mapped, size):
        return self
