"""Which kernels there are, and in what order they run."""

from __future__ import annotations

import heapq

from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.rows import rows_of, storage_root
from graphc.schedule.deps import Deps, analyse, nominal
from graphc.schedule.fuse import Fusion, Group
from graphc.schedule.inplace import misaligned_updates, readers, stage_updates, updates


class BlockedRows(Exception):
    """Results that a loop cannot write where their rows belong."""

    def __init__(self, nodes: set[Node]):
        super().__init__()
        self.nodes = nodes


def grouped(graph: Graph) -> tuple[Deps, Fusion, list[Group]]:
    """Fuse and order; an in-place update that would be read too late goes through a copy. Raises
    BlockedRows where that is one of rows."""
    staged: set[int] = set()
    while True:
        staged_graph, kept, copies = stage_updates(graph, staged)
        deps = analyse(staged_graph, kept, copies)
        fusion = Fusion(deps)
        groups = fusion.run()
        blocked = misaligned_updates(staged_graph, deps, fusion)
        if not blocked:
            order, blocked = _ordered(staged_graph, deps, fusion, groups)
            if not blocked:
                return deps, fusion, order
        places = rows_of(graph).outputs
        of_rows = {k for k in blocked if isinstance(places[k], tuple)}
        if blocked <= staged | of_rows:
            if of_rows:
                raise BlockedRows({graph.outputs[k] for k in of_rows})
            raise AssertionError("in-place updates cannot be ordered")
        staged |= blocked - of_rows


def _ordered(graph: Graph, deps: Deps, fusion: Fusion, groups: list[Group]):
    """Topological order in which a donated input is overwritten after its last reader."""
    after: dict[int, set[int]] = {id(g): set() for g in groups}
    by_id = {id(g): g for g in groups}
    for unit in deps.units:
        for use in deps.uses[unit]:
            if use.unit in fusion.group_of:
                source, target = fusion.group_of[use.unit], fusion.group_of[unit]
                if source is not target:
                    after[id(source)].add(id(target))
    writer_of = {}
    for out, root, target in updates(graph):
        writer = fusion.group_of[root]
        writer_of[id(writer)] = writer_of.get(id(writer), set()) | {out}
        for use in readers(graph, deps, target):
            reader = fusion.group_of[use.reader]
            if reader is not writer:
                after[id(reader)].add(id(writer))
    waiting = {key: 0 for key in after}
    for targets in after.values():
        for key in targets:
            waiting[key] += 1
    rank = {id(g): fusion.position[g.members[0]] for g in groups}
    memory = _LiveMemory(graph, deps, fusion)
    ready = [(memory.grows(key), rank[key], key) for key, count in waiting.items() if not count]
    heapq.heapify(ready)
    order, done = [], set()
    while ready:
        _, _, key = heapq.heappop(ready)
        if key in done:  # it was here twice: it came to free more while it waited
            continue
        done.add(key)
        order.append(by_id[key])
        opened = []
        for target in after[key]:
            waiting[target] -= 1
            if not waiting[target]:
                opened.append(target)
        opened += [k for k in memory.run(key) if not waiting[k] and k not in done]
        for target in opened:
            heapq.heappush(ready, (memory.grows(target), rank[target], target))
    stuck = {key for key, count in waiting.items() if count}
    blocked = {out for key in stuck for out in writer_of.get(key, ())}
    if stuck and not blocked:
        raise AssertionError("fusion made kernels that wait for each other")
    return order, blocked


class _LiveMemory:
    """What values are alive while kernels are put in order: of those that could run next, one
    that frees as much as it needs goes first. So a weight's gradient is computed as soon as what
    it is made of has no other reader, and not after the whole backward pass."""

    def __init__(self, graph: Graph, deps: Deps, fusion: Fusion):
        kept = {storage_root(node) for node in graph.outputs}
        self._readers: dict[Node, set[int]] = {}
        self._reads: dict[int, list[Node]] = {}
        self._growth: dict[int, int] = {}
        for unit in deps.units:
            own = id(fusion.group_of[unit])
            readers = {id(fusion.group_of[u.reader]) for u in deps.used_by.get(unit, ())} - {own}
            if not readers or unit in kept:
                continue
            self._growth[own] = self._growth.get(own, 0) + nominal(unit.type.nbytes)
            self._readers[unit] = readers
            for key in readers:
                self._reads.setdefault(key, []).append(unit)

    def grows(self, key: int) -> bool:
        """Whether more is alive after a kernel than before it."""
        last = (u for u in self._reads.get(key, ()) if self._readers[u] == {key})
        return self._growth.get(key, 0) > sum(nominal(u.type.nbytes) for u in last)

    def run(self, key: int) -> list[int]:
        """Note that a kernel has run; the kernels that are now the last to read something."""
        last = []
        for unit in self._reads.get(key, ()):
            self._readers[unit].discard(key)
            last += self._readers[unit] if len(self._readers[unit]) == 1 else ()
        return last
