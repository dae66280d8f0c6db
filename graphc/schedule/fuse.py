"""Fusion: which units share a kernel. Two functions decide, and the first gives its reason."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphc.ir.dims import DimLike
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.schedule.deps import (
    Deps,
    Use,
    aligned_depth,
    completes_rows,
    domain,
    is_call,
    is_join,
    is_opaque,
    is_stack,
    reduced_axes,
)
from graphc.schedule.products import in_one_block, is_contraction, is_product
from graphc.schedule.sizes import nominal

_MAX_UNITS = 256
_TOLD = {"loop", "cond", "item"}  # they are seen in the list of kernels: nothing to explain
_MAX_BUFFERS = 64
_MIN_SCALARS, _MAX_SCALARS = 64, 512  # units of a kernel cut from a long run of scalars
# A run of scalars is one kernel whatever its length where a stacked result comes of so few of them:
# then it is wide (a system of equations) and not long (an unrolled loop).
_SCALARS_A_RESULT, _MAX_WIDE = 32, 50_000
_MAX_SIBLINGS = 12  # tried for each unit: an array that all read would make that quadratic


@dataclass(frozen=True)
class _Facts:
    """What fusion asks of all units of a group, put together when groups are."""

    reads: frozenset[Node]  # by any of them, what they compute themselves too
    first: int  # positions
    last: int
    blocks: frozenset[int] = frozenset()  # loops outside of what is computed for blocks of rows
    batched: tuple[Node, ...] = ()  # products of more than two axes
    single: bool = False  # no loop has more than one step

    def __or__(self, other: _Facts) -> _Facts:
        return _Facts(
            self.reads | other.reads, min(self.first, other.first), max(self.last, other.last),
            self.blocks | other.blocks, self.batched + other.batched, self.single and other.single,
        )  # fmt: skip


@dataclass(eq=False)
class Group:
    """Units of one kernel, in order. They share the loops over ``outer``; scalar units in
    ``post`` run once, after the loops. A closed group takes no more units."""

    units: list[Node]
    post: list[Node]
    outer: tuple[DimLike, ...]
    facts: _Facts
    opaque: bool = False
    closed: bool = False

    @cached_property
    def members(self) -> tuple[Node, ...]:
        return (*self.units, *self.post)

    @cached_property
    def member_set(self) -> frozenset[Node]:
        return frozenset(self.members)

    @cached_property
    def reads(self) -> frozenset[Node]:
        """What is computed elsewhere."""
        return self.facts.reads - self.member_set


@dataclass(frozen=True)
class Decision:
    """Whether two groups can fuse, the loops they would share, or why not."""

    yes: bool
    reason: str = ""
    depth: int = 0
    epilogue: bool = False


def initial_depth(unit: Node) -> int:
    """Loops outside of a unit's own reduction; all of them when it reduces leading axes."""
    rank, reduced = len(domain(unit)), reduced_axes(unit)
    if is_product(unit):
        return rank - 1
    if is_contraction(unit):
        return 1
    if is_call(unit) or unit.op == "conv":
        return int(is_call(unit))
    if is_join(unit):
        return unit.attr("axis")
    if reduced and (reduced == tuple(range(rank - len(reduced), rank)) or _is_arg(unit)):
        return rank - len(reduced) or (0 if _is_arg(unit) else rank)
    return rank


def _is_arg(unit: Node) -> bool:
    return unit.op in ("argmax", "argmin")


Reason = tuple[Node, Node, str]  # why two neighbours are in two kernels


class Fusion:
    """The state of grouping one graph."""

    def __init__(self, deps: Deps):
        self.deps = deps
        self.position = {u: i for i, u in enumerate(deps.units)}
        self.group_of: dict[Node, Group] = {}
        self.reasons: list[Reason] = []
        # By position of a unit: the position of the last unit of its group.
        self._last = np.arange(len(deps.units))
        for unit in deps.units:
            depth = initial_depth(unit)
            opaque = is_opaque(unit) or unit in deps.alone
            facts = self._facts(unit, depth)
            self.group_of[unit] = Group([unit], [], domain(unit)[:depth], facts, opaque)
        # By position, too: the groups, and who reads a unit.
        self._at = [self.group_of[unit] for unit in deps.units]
        self._readers = {
            unit: list(dict.fromkeys(self.position[use.reader] for use in uses))
            for unit, uses in deps.used_by.items()
        }

    def _facts(self, unit: Node, depth: int) -> _Facts:
        reads = frozenset([use.unit for use in self.deps.uses[unit]])
        here = self.position[unit]
        single = all(size == 1 for size in domain(unit))
        in_blocks = unit.op == "matmul" and (is_product(unit) or is_contraction(unit))
        batched = (unit,) if in_blocks and unit.ndim > 2 else ()
        blocks = frozenset([depth] if in_blocks else ())
        return _Facts(reads, here, here, blocks, batched, single)

    def groups(self) -> list[Group]:
        return list(dict.fromkeys(self.group_of[u] for u in self.deps.units))

    # ------------------------------------------------------------------------------- decisions

    def can_fuse(self, a: Group, b: Group) -> Decision:
        """Whether ``b`` (not before ``a``) may join ``a``; the first obstacle found if not."""
        if a.closed or b.closed:
            return Decision(False, "a long run of scalars is a kernel of its own")
        if a.opaque or b.opaque:
            name = next(u.op for g in (a, b) if g.opaque for u in g.units)
            return Decision(False, f"{name} is a kernel of its own")
        between = list(self._uses_between(a, b))
        for use in between:
            if use.unit in self.deps.gathered and use.unit.type.size == 1:
                # No loop ends between computing it and reading it from memory.
                return Decision(False, f"{use.unit.op} is read at a run-time index")
        if self._is_epilogue(a, b, between):
            if self._path_through_others(a, b):
                return Decision(False, "another kernel must run between them")
            return Decision(True, depth=len(a.outer), epilogue=True)
        depth = min([len(a.outer), len(b.outer), *(aligned_depth(u) for u in between)])
        while depth and a.outer[:depth] != b.outer[:depth]:
            depth -= 1
        if depth == 0 and (a.outer or b.outer or a.post):
            return Decision(False, self._why_no_common_loop(between))
        if (a.facts.blocks | b.facts.blocks) - {depth}:
            return Decision(False, "a matrix product takes turns by blocks of rows")
        if self._cuts_items(a, b):
            return Decision(False, "a matrix product reads rows of more than one block")
        if any(u.unit in group.post for u in between for group in (a, b)):
            return Decision(False, "a scalar computed after the loops is needed inside them")
        if any(group.post and depth < len(group.outer) for group in (a, b)):
            return Decision(False, "a scalar computed after the loops needs all of them")
        if len(a.members) + len(b.members) > _MAX_UNITS:
            return Decision(False, f"the kernel would have more than {_MAX_UNITS} operations")
        if len(a.reads | b.reads) > _MAX_BUFFERS:
            return Decision(False, f"the kernel would read more than {_MAX_BUFFERS} arrays")
        if self._path_through_others(a, b):
            return Decision(False, "another kernel must run between them")
        return Decision(True, depth=depth)

    def fusion_gain(self, a: Group, b: Group) -> int:
        """Bytes of memory traffic that fusing saves (symbolic sizes estimated)."""
        saved, members = 0, a.member_set | b.member_set
        for unit in dict.fromkeys(u.unit for u in self._uses_between(a, b)):
            size = nominal(unit.type.nbytes)
            saved += size
            readers = {u.reader for u in self.deps.used_by.get(unit, ())}
            if unit not in self.deps.stored and readers <= members:
                saved += size
        return saved + sum(nominal(n.type.nbytes) for n in a.reads & b.reads if n.type.size != 1)

    def _is_epilogue(self, a: Group, b: Group, between: list[Use]) -> bool:
        """Single values that follow complete reductions of ``a``'s loops."""
        if not between or not a.outer or a.facts.single or not b.facts.single or b.post:
            return False
        if any(reduced_axes(u) or completes_rows(u) for u in b.members):
            return False
        if any(self.group_of[u.reader] is a for u in between):  # the loops wait for the value
            return False
        if any(completes_rows(u.unit) for u in between):  # what a call makes is in memory
            return False
        return all(u.unit.type.size == 1 for u in between)

    def _why_no_common_loop(self, between: list[Use]) -> str:
        for use in between:
            if aligned_depth(use) == 0:
                if reduced_axes(use.unit):
                    axes = ", ".join(map(str, reduced_axes(use.unit)))
                    return f"{use.unit.op} over axis {axes} must finish first"
                return f"{use.reader.op} reads {use.unit.op} in another order"
        return "they have no loop in common"

    def _cuts_items(self, a: Group, b: Group) -> bool:
        """Whether a product would read what its own kernel computes in several blocks."""
        products = a.facts.batched + b.facts.batched
        if not products:
            return False
        members = a.member_set | b.member_set
        inside = any(use.unit in members for p in products for use in self.deps.uses[p])
        return inside and not all(map(in_one_block, products))

    def _uses_between(self, a: Group, b: Group) -> Iterator[Use]:
        for readers, made in ((b, a), (a, b)):
            read = readers.facts.reads & made.member_set
            if not read:
                continue
            members: Iterable[Node] = readers.members
            if sum(len(self.deps.used_by[unit]) for unit in read) < len(readers.members):
                found = {use.reader for unit in read for use in self.deps.used_by[unit]}
                members = sorted(found & readers.member_set, key=readers.members.index)
            for member in members:
                for use in self.deps.uses[member]:
                    if use.unit in read:
                        yield use

    def _path_through_others(self, a: Group, b: Group) -> bool:
        """Whether a third group depends on one of the two and feeds the other."""
        limit = self._closed(max(a.facts.last, b.facts.last))
        seen = self._successors(a, limit) | self._successors(b, limit)
        seen -= {a, b}
        stack = list(seen)
        while stack:
            group = stack.pop()
            if group is a or group is b:
                return True
            new = self._successors(group, limit) - seen
            seen |= new
            stack.extend(new)
        return False

    def _closed(self, limit: int) -> int:
        """The first position from ``limit`` on that no group reaches across: from groups behind
        it no path leads back."""
        reached = np.maximum.accumulate(self._last)[limit:]
        return limit + int(np.argmax(reached <= np.arange(limit, limit + len(reached))))

    def _successors(self, group: Group, limit: int) -> set[Group]:
        """Groups that read what ``group`` makes, but for readers behind the position ``limit``."""
        found: set[Group] = set()
        for member in group.members:
            for place in self._readers.get(member, ()):
                if place > limit:
                    break
                found.add(self._at[place])
        found.discard(group)
        return found

    # --------------------------------------------------------------------------------- merging

    def merge(self, a: Group, b: Group, decision: Decision) -> Group:
        by_position, facts = self.position.__getitem__, a.facts | b.facts
        if decision.epilogue:
            merged = Group(a.units, sorted([*a.post, *b.members], key=by_position), a.outer, facts)
        else:
            outer = (a.outer if len(a.outer) <= len(b.outer) else b.outer)[: decision.depth]
            units = sorted([*a.units, *b.units], key=by_position)
            merged = Group(units, sorted([*a.post, *b.post], key=by_position), outer, facts)
        self._last[[self.position[m] for m in merged.members]] = facts.last
        for member in merged.members:
            self.group_of[member] = self._at[self.position[member]] = merged
        return merged

    def run(self) -> list[Group]:
        """Long runs of scalars first. Then greedy: each unit joins what it reads, best gain first;
        then siblings that read the same arrays join each other."""
        self._group_scalars()
        open_units = [u for u in self.deps.units if not self.group_of[u].closed]
        for unit in open_units:
            candidates = dict.fromkeys(
                self.group_of[u.unit] for u in self.deps.uses[unit] if u.unit in self.group_of
            )
            self._fuse_best(unit, candidates, explain=True)
        for unit in open_units:
            siblings = dict.fromkeys(
                self.group_of[other.reader]
                for use in self.deps.uses[unit]
                if use.unit.type.size != 1
                for other in self._near(self.deps.used_by[use.unit], unit)
            )
            near = heapq.nsmallest(_MAX_SIBLINGS, siblings, key=lambda g: self._distance(g, unit))
            self._fuse_best(unit, near, explain=False)
        return self.groups()

    def _near(self, uses: list[Use], unit: Node) -> list[Use]:
        """The readers on either side of ``unit``: slices of one array may be thousands."""
        if len(uses) <= 4 * _MAX_SIBLINGS:
            return uses
        here = self.position[unit]
        at = bisect.bisect_left(uses, here, key=lambda use: self.position[use.reader])
        return uses[max(at - 2 * _MAX_SIBLINGS, 0) : at + 2 * _MAX_SIBLINGS]

    def _group_scalars(self) -> None:
        """Unrolled loops over scalars: neighbours in the order of the graph share a kernel, so
        nothing has to be weighed and no other kernel can have to run between them."""
        run: list[Node] = []
        for unit in [*self.deps.units, None]:
            if unit is not None and (self._is_scalar(unit) or self._is_result(unit)):
                run.append(unit)
                if unit not in self.deps.gathered:
                    continue
            if self._is_wide(run):
                self._close(run)
            elif len(run) >= _MIN_SCALARS:
                run = [u for u in run if not is_stack(u)]
                for part in _parts([self._shape_of(u) for u in run]):
                    self._close(run[part])
            run = []

    def _is_wide(self, run: list[Node]) -> bool:
        results = sum(len(u.inputs) for u in run if is_stack(u))
        long = _MIN_SCALARS <= len(run) - sum(map(is_stack, run)) <= _MAX_WIDE
        return long and results * _SCALARS_A_RESULT >= len(run)

    def _is_result(self, unit: Node) -> bool:
        """Scalars put together, for nobody here to read."""
        return is_stack(unit) and not self.deps.used_by.get(unit) and unit not in self.deps.alone

    def _shape_of(self, unit: Node) -> tuple:
        """What the same unit of another step of an unrolled loop has in common with this one."""
        here = self.position[unit]
        back = (here - self.position.get(i, -_MIN_SCALARS) for i in unit.inputs)
        return unit.op, tuple(b if b < _MIN_SCALARS else None for b in back)

    def _close(self, units: list[Node]) -> None:
        positions = [self.position[u] for u in units]
        facts = _Facts(frozenset(), positions[0], positions[-1])  # nobody asks for more
        group = Group(units, [], (), facts, closed=True)
        for place, unit in zip(positions, units, strict=True):
            self.group_of[unit] = self._at[place] = group
        self._last[positions] = facts.last

    def _is_scalar(self, unit: Node) -> bool:
        return (
            unit.shape == () and OPS[unit.op].kind == "elementwise" and unit not in self.deps.alone
        )

    def _distance(self, group: Group, unit: Node) -> int:
        here = self.position[unit]
        return min(abs(self.position[u] - here) for u in (group.members[0], group.members[-1]))

    def _fuse_best(self, unit: Node, candidates, explain: bool) -> None:
        here = self.group_of[unit]
        ranked = sorted(
            (g for g in candidates if g is not here and not g.closed),
            key=lambda g: (-self.fusion_gain(g, here), self.position[g.members[0]]),
        )
        for group in ranked:
            here = self.group_of[unit]
            group = self.group_of[group.members[0]]
            if group is here:
                continue
            first, second = sorted((group, here), key=lambda g: self.position[g.members[-1]])
            decision = self.can_fuse(first, second)
            if decision.yes and (self.fusion_gain(first, second) > 0 or decision.epilogue):
                self.merge(first, second, decision)
            elif (
                explain and not decision.yes and not {first.units[0].op, second.units[0].op} & _TOLD
            ):
                self.reasons.append((group.members[-1], unit, decision.reason))


def _parts(shapes: list[tuple]) -> list[slice]:
    """Cut a run of units into kernels: where it repeats itself, after whole periods, so that the
    kernels have equal text and are compiled once."""
    ids: dict[tuple, int] = {}
    codes = [ids.setdefault(s, len(ids)) for s in shapes]
    window = _MIN_SCALARS
    following: dict[tuple, int] = {}
    period = [0] * len(codes)  # how far ahead the same window begins; 0: nowhere near
    for i in reversed(range(len(codes) - window + 1)):
        key = tuple(codes[i : i + window])
        ahead = following.get(key, i) - i
        period[i] = ahead if ahead <= _MAX_SCALARS else 0
        following[key] = i
    parts, start = [], 0
    while start < len(codes):
        step, stop = period[start], start + 1
        if step:
            stop = start + -(-window // step) * step
        else:
            while stop < len(codes) and stop - start < _MAX_SCALARS and not period[stop]:
                stop += 1
        parts.append(slice(start, min(stop, len(codes))))
        start = stop
    return parts
