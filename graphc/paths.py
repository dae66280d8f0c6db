"""The paths that calls take through a function with ``if`` and ``while`` on traced values.

A path is compiled with its guards: it says up to which of them it serves a call. At the first one
that differs, the paths known to take the other way are looked up; where there is none, the function
is traced along that way. Paths thus form a tree, whose forks are guards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.errors import CompileLimitError
from graphc.ir import build
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Node
from graphc.trace.guards import Guard, Values, holds, outcome_of
from graphc.trace.tracing import Traced

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def guard_outputs(guards: Sequence[Guard]) -> list[Node]:
    """How many guards hold in a row (int64), then the numbers that guards are about."""
    row, count = None, None
    for guard in guards:
        here = holds(guard)
        row = here if row is None else build.elementwise("logical_and", row, here)
        one = build.cast(row, np.int64)
        count = one if count is None else build.elementwise("add", count, one)
    return [count, *(g.node for g in guards if not g.is_truth)]


def in_stages(graph: Graph, guards: Sequence[Guard]) -> list[tuple[tuple[Guard, ...], Graph]]:
    """The programs of a path, to be run in turn, and the guards that each gives before its outputs.

    One, if nothing forbids. But memory is overwritten, and a loop that may have no end is begun,
    only after all guards that the program asked before.
    """
    endless = {n for n in topological([*graph.outputs, *(g.node for g in guards)]) if _endless(n)}
    groups: list[tuple[Guard, ...]] = [()]
    begun: set[Node] = set()
    for guard in guards:
        loops = endless.intersection(topological([guard.node])) if endless else set()
        if groups[-1] and not loops <= begun:
            groups.append(())
        begun |= loops
        groups[-1] += (guard,)
    if graph.donated or endless - begun:
        groups.append(())
    stages = []
    for k, group in enumerate(groups, start=1):
        last = k == len(groups)
        outputs = [*(guard_outputs(group) if group else ()), *(graph.outputs if last else ())]
        name = graph.name if last else f"{graph.name}_guards"
        donated = graph.donated if not group else {}
        stages.append((group, Graph(name, graph.inputs, tuple(outputs), graph.sources, donated)))
    return stages


def _endless(node: Node) -> bool:
    return node.op == "loop" and (node.attr("length") is None or node.attr("grow"))


@dataclass
class Fork:
    """Where paths part: by the outcome of one guard. ``path`` is one of those beyond it."""

    path: Path
    ways: dict[Any, Fork] = field(default_factory=dict)


class Path:
    """One way through a function, compiled; ``stages`` are those of :func:`in_stages`."""

    def __init__(
        self, traced: Traced, returned: Callable, stages: Sequence[tuple[tuple[Guard, ...], Run]]
    ):
        self.traced = traced
        self.guards: tuple[Guard, ...] = traced.guards
        self.returned = returned
        self._stages = tuple(stages)
        self.forks: list[Fork] = []  # before each guard, and the end

    @property
    def outcomes(self) -> list:
        return [g.value for g in self.guards]

    def attempt(self, arrays: Sequence[np.ndarray]) -> tuple[list | None, int, Any]:
        """``(outputs, held, value)``: None for outputs where guard ``held`` has another value."""
        held, found = 0, []
        for guards, run in self._stages:
            try:
                found = run(arrays)
            except Exception:
                # An error on a way that this call does not take is none.
                other = self._first_other(arrays) if guards else (len(self.guards), None)
                if other[0] == len(self.guards):
                    raise
                return None, *other
            if guards:
                now, value = _verdict(guards, found)
                if now < len(guards):
                    return None, held + now, value
                held, found = held + now, found[_width(guards) :]
        return found, held, None

    @property
    def whole(self) -> tuple[Run | None, int]:
        """The one program that gives the outputs, and how many outputs of guards come first."""
        if len(self._stages) > 1:
            return None, 0
        ((guards, run),) = self._stages
        return run, _width(guards)

    def regardless(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs, whatever the guards say."""
        guards, run = self._stages[-1]
        return run(arrays)[_width(guards) :]

    def _first_other(self, arrays) -> tuple[int, Any]:
        """As far as the guards hold, evaluated one by one without the compiled program."""
        arrays = [np.asarray(a) for a in arrays]
        values = Values.of_call(self.traced.graph.inputs, arrays)
        for k, guard in enumerate(self.guards):
            value = values.of(guard.node).value.item()
            if outcome_of(value) != outcome_of(guard.value):
                return k, value
        return len(self.guards), None


def _width(guards: Sequence[Guard]) -> int:
    """How many outputs guards take."""
    return 1 + sum(not g.is_truth for g in guards) if guards else 0


def _verdict(guards: Sequence[Guard], found: list) -> tuple[int, Any]:
    """How many guards hold, and the value of the next, from the outputs of a program."""
    held = int(found[0])
    if held == len(guards):
        return held, None
    if guards[held].is_truth:
        return held, not guards[held].value
    return held, found[_width(guards[:held]) or 1].item()


class Paths:
    """The known paths of a function for one kind of arguments.

    ``extend(arrays, outcomes, reason)`` makes the path of a call whose first guards had these
    outcomes. A call returns ``(path, outputs)``; it raises CompileLimitError past ``limit`` paths.
    """

    def __init__(self, name: str, first: Path, limit: int, extend: Callable, lock: Any):
        self.name = name
        self._lock = lock
        self._limit = limit
        self._extend = extend
        self._root = Fork(first)
        self.known: list[Path] = []
        self.latest = first
        self._add(first)

    def __call__(self, arrays: Sequence[np.ndarray]) -> tuple[Path, list[np.ndarray]]:
        path = self.latest
        return self._follow(path, path.attempt(arrays), arrays)

    def _follow(self, path: Path, found, arrays) -> tuple[Path, list[np.ndarray]]:
        """From a path that was tried to the one that serves the call."""
        tried = {path}
        while True:
            outputs, held, value = found
            if outputs is not None:
                if path is not self.latest:
                    self._prefer(path)
                return path, outputs
            path = self._beyond(path, held, value, arrays)
            if path in tried:
                path = self._by_numpy(arrays)
                return path, path.regardless(arrays)
            tried.add(path)
            found = path.attempt(arrays)

    def _beyond(self, path: Path, held: int, value: Any, arrays) -> Path:
        """A path that takes the other way at guard ``held`` of ``path``."""
        ways, way = path.forks[held].ways, outcome_of(value)
        fork = ways.get(way)
        if fork is None:
            with self._lock:  # threads that need the same path wait for it
                fork = ways.get(way)
                if fork is None:
                    return self._new(path, [*path.outcomes[:held], value], arrays)
        return fork.path

    def _by_numpy(self, arrays) -> Path:
        """The path that NumPy's values choose. For calls so close to a fork that the compiled
        paths on its two sides round to opposite answers."""
        values = Values.of_call(self.latest.traced.graph.inputs, arrays)
        fork, outcomes = self._root, []
        while fork.ways:
            guard = fork.path.guards[len(outcomes)]
            value = values.of(guard.node).value.item()
            outcomes.append(value)
            way = outcome_of(value)
            if way not in fork.ways:
                with self._lock:
                    return self._new(fork.path, outcomes, arrays)
            fork = fork.ways[way]
        return fork.path

    def _new(self, like: Path, outcomes: list, arrays) -> Path:
        """Trace, compile and remember the path that has the guards of ``like`` at first, with
        these outcomes."""
        *before, guard = like.guards[: len(outcomes)]
        if len(self.known) >= self._limit:
            raise CompileLimitError(self._too_many(guard, outcomes[-1]))
        asked = sum(g.source == guard.source for g in before) + 1
        time = f", time {asked}," if asked > 1 else ""
        reason = f"path: {guard.place}{time} was {outcomes[-1]}"
        path = self._extend(arrays, outcomes, reason)
        self._add(path)
        return path

    def _add(self, path: Path) -> None:
        fork = self._root
        path.forks = [fork]
        for guard in path.guards:
            fork = fork.ways.setdefault(outcome_of(guard.value), Fork(path))
            path.forks.append(fork)
        self.known.append(path)

    def _prefer(self, path: Path) -> None:
        """The path taken last is the first to be tried, at each fork before it too."""
        for fork in path.forks:
            fork.path = path
        self.latest = path

    def _too_many(self, guard: Guard, value: Any) -> str:
        parted: Counter[str] = Counter()
        asked: dict[str, Guard] = {}
        forks = [self._root]
        while forks:
            fork = forks.pop()
            if len(fork.ways) > 1:
                at = next(g for g, f in zip(fork.path.guards, fork.path.forks) if f is fork)
                parted[at.place] += len(fork.ways) - 1
                asked[at.place] = at
            forks += fork.ways.values()
        lines = [f"  {place}: {n + 1} ways" for place, n in parted.most_common(3)]
        often = asked[parted.most_common(1)[0][0]] if parted else guard
        return "\n".join([
            f"`{self.name}` takes more than {self._limit} paths for arguments of one kind; a path "
            "is compiled for each way that Python decides by traced values:",
            *lines,
            f"now {guard.place} was {value}.",
            _advice(often),
        ])  # fmt: skip


def _advice(guard: Guard) -> str:
    """What to write instead of what parts the most paths."""
    if not guard.is_truth:
        advice = "Keep the number an array (np functions; graphc.numpy.asarray(table)[i])"
    elif guard.place.startswith("`while "):
        advice = "Write the loop with gc.while_loop(condition, body, start)"
    else:
        advice = "Write np.where(condition, a, b), gc.cond(condition, f, g, x) or gc.while_loop"
    return f"{advice}, or allow more: max_paths=..."
