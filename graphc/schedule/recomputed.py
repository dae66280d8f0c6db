"""Whether computing parts again (``checkpoint``) saves memory at all.

Kernels over blocks of rows keep what flows between their parts for a block alone. Behind the
barriers of a recomputation a part is a kernel of its own, whose operands are kept whole: small
layers that need a few blocks without ``checkpoint`` then need arrays of all rows.
"""

from __future__ import annotations

from graphc import passes
from graphc.ir.graph import Graph, rebuild, transform
from graphc.ir.parts import in_parts
from graphc.schedule.build_schedule import schedule
from graphc.schedule.loops import Schedule
from graphc.schedule.memory import lifetimes, live_peak

_OPEN_SIZE = 4096  # stands for a size that is open: memory matters where it is large


def schedule_program(graph: Graph, team: bool = False) -> tuple[Graph, Schedule]:
    """A graph as it was traced, optimized, and its schedule. Where the graph needs as little memory
    if nothing is computed again, nothing is."""
    optimized = passes.optimize(in_parts(graph))
    made = schedule(optimized, team)
    if not any(n.op == "barrier" for n in optimized.order):
        return optimized, made
    plain = passes.optimize(in_parts(_without_barriers(graph)))
    kept = schedule(plain, team)
    return (plain, kept) if _peak(kept) <= _peak(made) else (optimized, made)


def _without_barriers(graph: Graph) -> Graph:
    """What is computed again is then what was there: equal nodes are one."""
    return transform(
        graph, lambda node, inputs: inputs[0] if node.op == "barrier" else rebuild(node, inputs)
    )


def _peak(made: Schedule) -> int:
    sizes = {s: _OPEN_SIZE for s in made.symbols}
    return live_peak(lifetimes(made.kernels, made.temps), {**sizes, **dict.fromkeys(made.tapes, 1)})
