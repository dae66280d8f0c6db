"""Complex derivatives are those of the real and the imaginary part.

A complex number is a pair of real ones to differentiation, so one convention holds for every
function, holomorphic or not, of any order: what flows backward is adjoint with respect to the
real inner product ``Re(sum(conj(a) * b))``. The gradient of a real f(x + iy) is
``df/dx + i df/dy``: the direction of steepest ascent, so that ``z - rate * grad(f)(z)`` descends,
and ``Re(sum(conj(grad(f)(z)) * v))`` is the change along ``v``. Forward mode gives that change
itself: ``f'(z) * v`` where f is holomorphic, and there the vjp is ``conj(f'(z)) * ct``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from graphc.errors import DTypeError, GradientError
from graphc.ir import build
from graphc.ir.graph import Source
from graphc.ir.node import Node
from graphc.ir.parts import Parts, is_complex, join, parts_of, split


def flows_through_complex(order: Sequence[Node], active: Collection[Node]) -> bool:
    """Whether a derivative passes complex values."""
    return any(is_complex(n) and n in active for n in order)


def flat(nodes: Sequence[Node]) -> list[Node]:
    """``nodes`` with each complex one as its two parts."""
    return [p for n in nodes for p in (parts_of(n) if is_complex(n) else (n,))]


def in_two(flows: Sequence, values: Sequence[Node]) -> list:
    """Cotangents or tangents (or None) of ``values`` as those of ``flat(values)``."""
    found = []
    for flow, value in zip(flows, values, strict=True):
        if not is_complex(value):
            found.append(flow)
        else:
            pair = (None, None) if flow is None else flat([flow.node])
            found += [p and flow._replace(node=p) for p in pair]
    return found


def joined(flows: Sequence, values: Sequence[Node]) -> list:
    """Inverse of :func:`in_two`."""
    rest, found = iter(flows), []
    for value in values:
        flow = next(rest)
        if is_complex(value):
            pair = (flow, next(rest))
            flow = pair[0] or pair[1]
            if flow is not None:
                zero = build.full_like(flow.node, 0)
                parts = Parts(*(zero if f is None else f.node for f in pair))
                zeros = frozenset[int]().union(*(f.zeros for f in pair if f is not None))
                flow = flow._replace(node=join(parts), zeros=zeros)
        found.append(flow)
    return found


def outputs_in_parts(
    outputs: Sequence[Node],
    wrt: Sequence[Node],
    order: Sequence[Node],
    sources: dict[Node, Source],
) -> list[Node]:
    """``flat(outputs)`` computed by real arithmetic from ``flat(wrt)``."""
    known = {w: parts_of(w) if is_complex(w) else w for w in wrt}
    reached = set(wrt)  # by the values, where no gradient passes too: a condition, a constant copy
    for node in order:
        if not reached.isdisjoint(node.inputs):
            reached.add(node)
    try:
        values = split(outputs, known, {n for n in order if n not in reached}, sources)
    except DTypeError as error:
        raise GradientError(str(error)) from None
    return [p for v in values for p in (v if isinstance(v, Parts) else (v,))]
