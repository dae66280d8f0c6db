"""Loops of a program whose steps are so small that their values belong into registers.

A step of some tens of operations waits for what it stores and reads again, and for the ends of
its loops. Where every array of such a step has few elements, of known number, they become memory
of the function alone (LLVM turns it into registers), the kernels of the step are put in place, and
their loops are unrolled or become single vectors. What the loop shares with the rest of the program
is copied before it and after it, so that carried values stay in registers from step to step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from graphc.ir.graph import FEW
from graphc.schedule import loops as L

_STATEMENTS = 2048  # of all such steps of a program, their loops unrolled
_SIMPLE = (
    L.For, L.Let, L.Store, L.ScatterAdd, L.Accumulate, L.AccumulateInto, L.ArgUpdate
)  # fmt: skip


def keep_in_registers(schedule: L.Schedule) -> L.Schedule:
    """The schedule with ``small`` loops, and what they alone use as its ``locals``."""
    users = _users(schedule.kernels)
    viewed = {id(v.base) for v in schedule.views}
    kernels: list[L.Kernel] = []
    local: set[int] = set()
    budget = _STATEMENTS
    for kernel in schedule.kernels:
        count = statements([kernel]) if isinstance(kernel, L.LoopControl) else None
        if count is None or count > budget:
            kernels.append(kernel)
            continue
        budget -= count
        kept = []
        for buffer, written in _touched(kernel).items():
            if not _is_small(buffer) or id(buffer) in viewed:
                continue
            if buffer.kind == "temp" and users[id(buffer)] == {id(kernel)}:
                local.add(id(buffer))
            else:
                kept.append(L.Kept(buffer, written))
        kernels.append(replace(kernel, small=True, kept=tuple(kept)))
    return replace(
        schedule,
        kernels=kernels,
        temps=[b for b in schedule.temps if id(b) not in local],
        locals=[b for b in schedule.temps if id(b) in local],
    )


def statements(kernels: Iterable[L.Kernel]) -> int | None:
    """How many statements one run of these kernels takes, each body of a loop of the program once;
    None where one does more than arithmetic on few elements, or their number is not known."""
    total = 0
    for kernel in L.leaves(kernels):
        if type(kernel) is not L.LoopKernel:
            return None
        waiting = [(s, 1) for s in kernel.body]
        while waiting:
            stmt, turns = waiting.pop()
            if not isinstance(stmt, _SIMPLE):
                return None
            if isinstance(stmt, L.For):
                if not isinstance(stmt.extent, int) or stmt.extent > FEW:
                    return None
                turns *= 1 if isinstance(stmt, L.ForBlocks) else stmt.extent
                waiting += [(s, turns) for s in stmt.body]
            else:
                total += turns
        if total > _STATEMENTS:
            return None
    return total


def _is_small(buffer: L.Buffer) -> bool:
    return isinstance(buffer.size, int) and buffer.size <= FEW


def _users(kernels: list[L.Kernel]) -> dict[int, set[int]]:
    """By buffer the kernels of the program that touch it, or an array that it is a part of."""
    users: dict[int, set[int]] = {}
    for kernel in kernels:
        inner = [kernel, *_within(kernel)] if isinstance(kernel, L.Control) else [kernel]
        for part in inner:
            for buffer in (*part.reads, *part.writes):
                users.setdefault(id(buffer), set()).add(id(kernel))
    return users


def _touched(loop: L.LoopControl) -> dict[L.Buffer, bool]:
    """The arrays that kernels of a loop read or write, other than parts of larger ones, and
    whether they write them."""
    found: dict[L.Buffer, bool] = {}
    sliced = set()
    for kernel in [loop, *_within(loop)]:
        if isinstance(kernel, L.LoopControl):
            sliced |= {id(p.base) for p in kernel.parts} | {id(b) for b, _ in kernel.stacked}
            asked = [kernel.test] if kernel.test is not None else []
        elif isinstance(kernel, L.ChoiceControl):
            asked = [kernel.pred]
        else:
            asked = []
            for buffer in kernel.writes:
                found[buffer] = True
            asked = kernel.reads
        for buffer in asked:
            found.setdefault(buffer, False)
    return {b: w for b, w in found.items() if type(b) is L.Buffer and id(b) not in sliced}


def _within(control: L.Kernel) -> list[L.Kernel]:
    """The kernels inside of a loop or a choice, and inside of those."""
    found, waiting = [], list(control.inner)
    while waiting:
        kernel = waiting.pop()
        found.append(kernel)
        if isinstance(kernel, L.Control):
            waiting += kernel.inner
    return found
