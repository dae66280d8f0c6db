"""Where the units of a kernel are computed: in which of its passes, by rows or by blocks of rows,
and what waits in scratch memory between passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from graphc.ir.dims import DimLike, product
from graphc.ir.node import Node
from graphc.ir.ops import OPS, matmul_dims
from graphc.schedule import loops as L
from graphc.schedule import team
from graphc.schedule.deps import (
    Deps,
    completes_rows,
    domain,
    is_call,
    is_join,
    reduced_axes,
    storage_root,
)
from graphc.schedule.fuse import Group
from graphc.schedule.products import (
    TILE_ROWS,
    block_rows,
    chain_rows,
    in_one_block,
    is_contraction,
    is_product,
    method,
)
from graphc.schedule.sizes import nominal

_RECOMPUTE_FLOPS = 4  # of a value that costs no more than to store and load it
_BLOCK_BYTES = 16384  # half of a first-level cache
_MIN_ROWS, _MAX_ROWS = 16, 256  # of a block: a vector at least
_LANES = (2, 4, 8)  # rows that are one vector
_MIN_ROW_COST = 16  # flops of a row's own arithmetic that are worth vectorising
_DEAR = 4  # ... when they are not less than a quarter of the inner loops' (which are vectorised)


def no_loop(buffer: L.Buffer) -> None:
    """There is no loop around the kernel."""


@dataclass
class Segment:
    """Units computed in one inner nest; the kernel's outer loops run its segments in turn.
    ``products`` are computed a block of rows at a time, each in its own nest; a convolution is
    one call, in a segment of its own."""

    inner: tuple[DimLike, ...]
    units: list[Node] = field(default_factory=list)
    products: bool = False

    @property
    def closed(self) -> bool:
        """Whether it takes no units of loops."""
        return self.products or any(_has_segment(u) for u in self.units)


def segments(deps: Deps, group: Group) -> dict[Node, int]:
    """The segment of each unit of a group's loops."""
    placement = Placement(deps, group, {})
    placement.place()
    return placement.segment_of


class Placement:
    """The segments of a group, and what they keep for each other.

    ``storage`` and ``packing``: see ``NestBuilder``. ``sums`` are additions of products that one
    call computes, with these products and the row that is added; ``joined`` says in which joins
    the value of a unit is written, from where on; ``scratch`` is memory of a row or a block.
    """

    def __init__(
        self, deps: Deps, group: Group, storage: dict[Node, L.Buffer], team: bool = False,
        packing: Callable = no_loop,
    ):  # fmt: skip
        self.deps, self.group, self.storage = deps, group, storage
        self.team, self.packing = team, packing
        self.members = group.member_set
        self.segments: list[Segment] = []
        self.segment_of: dict[Node, int] = {}
        self.sums: dict[Node, tuple[list[Node], Node | None]] = {}
        self.in_sums: set[Node] = set()  # what is computed nowhere else
        self.joined: dict[Node, list[tuple[Node, DimLike]]] = {}
        self.scratch: dict[Node, L.Buffer] = {}
        self.block = 0  # rows of a block, where segments take turns by blocks (0: by rows)

    def plan(self, new_temp: Callable) -> None:
        """Place all units of the loops, with rows of scratch memory from ``new_temp``."""
        self._find_sums()
        self.place()
        self.block = self._block_rows()
        self._join_pieces()
        self._choose_scratch(new_temp)

    def _inner(self, unit: Node) -> tuple[DimLike, ...]:
        return domain(unit)[len(self.group.outer) :]

    @property
    def units(self) -> list[Node]:
        """What is computed, each by itself."""
        return [u for u in self.group.units if u not in self.in_sums]

    def _find_sums(self) -> None:
        """Sums of products: a tile goes through all of them and begins with the bias, so none of
        them is in memory by itself. What products read is complete when the kernel begins."""
        uses = [u.unit for unit in self.members for u in self.deps.uses[unit]]
        read = {self.storage[u] for u in uses if u in self.storage}
        for unit in () if self.team else reversed(self.group.units):
            if unit in self.in_sums or (found := self._summed(unit)) is None:
                continue
            if self.storage.get(unit) in read:  # in place: what is there may be read after it
                continue
            products, row, inside = found
            if len({self._kind_of(p) for p in products}) == 1:
                self.sums[unit] = products, row
                self.in_sums |= inside

    def _summed(self, unit: Node) -> tuple[list[Node], Node | None, set[Node]] | None:
        """The products that a sum adds up, a row added to all rows, and all that is for it alone;
        None for other units."""
        if unit.op != "add" or unit.ndim != 2 or unit.dtype.kind != "f":
            return None
        products: list[Node] = []
        rows: list[Node] = []
        inside: set[Node] = set()
        stack = list(reversed(unit.inputs))
        while stack:
            node = stack.pop()
            if node.op == "broadcast" and node.attr("dims") == (1,):
                rows.append(node.inputs[0])
                if not self._is_complete(node.inputs[0]) or len(rows) > 1:
                    return None
                continue
            if node not in self.members or node in self.storage:
                return None
            if len(self.deps.used_by[node]) != 1 or node in inside:
                return None
            inside.add(node)
            if node.op == "add":
                stack.extend(reversed(node.inputs))
            elif is_product(node) and all(map(self._is_complete, node.inputs)):
                products.append(node)
            else:
                return None
        row = rows[0] if rows else None
        return (products, row, inside) if len(products) > 1 else None

    def _is_complete(self, node: Node) -> bool:
        root = storage_root(node)
        return root in self.storage and root not in self.members

    def _kind_of(self, unit: Node) -> object:
        """What products of one sum have in common; nothing is like those that cannot be in one."""
        _, m, n, k = matmul_dims(dict(unit.attrs), *(i.type for i in unit.inputs))
        b = self.storage[storage_root(unit.inputs[1])]
        ta, tb = unit.attr("ta"), unit.attr("tb")
        often = self.packing(b) is not None
        how = method(ta, tb, m, n, k, unit.dtype.itemsize, often=often)
        fits = how in ("direct", "packed") and isinstance(k, int) and not ta
        return (how, tb) if fits else unit

    def place(self) -> None:
        """Put each unit into the first segment of its shape that comes late enough. A product
        reads what is complete for its block of rows."""
        for unit in self.units:
            by_block = _by_block(unit) or unit in self.sums
            inner = () if by_block else self._inner(unit)
            earliest = 0
            for use in self.deps.uses[unit]:
                if use.unit in self.segment_of:
                    same = not by_block and self._flows_by_register(use, inner)
                    earliest = max(earliest, self.segment_of[use.unit] + (0 if same else 1))
            for position in range(earliest, len(self.segments)):
                segment = self.segments[position]
                if by_block and segment.products:
                    break
                open_ = not (by_block or segment.closed or _has_segment(unit))
                if open_ and segment.inner == inner:
                    break
            else:
                position = len(self.segments)
                self.segments.append(Segment(inner, products=by_block))
            self.segments[position].units.append(unit)
            self.segment_of[unit] = position

    def _reads_group(self, unit: Node) -> bool:
        return any(use.unit in self.members for use in self.deps.uses[unit])

    def _block_rows(self) -> int:
        """How many rows each segment runs over in its turn; 0 to take turns row by row.

        Between inner loops a row's own arithmetic is scalar code. Where that is dear (an
        exponential a row, say) segments run over blocks of rows that fit the first-level cache,
        so that it is vectorised along the rows.
        """
        rows = self.group.outer[-1] if self.group.outer else 1
        products = [u for u in self.group.units if _by_block(u)]
        if any(in_one_block(u) and self._reads_group(u) for u in products):
            return rows or 1
        if products:
            sizes = [
                block_rows(*_columns_and_sum(u), u.dtype.itemsize)
                for u in products if is_product(u)
            ]  # fmt: skip
            if sum(s.products for s in self.segments) > 1 or not sizes:
                sizes.append(chain_rows(self._row_bytes()))
            if self.team and len(self.group.outer) == 1:
                sizes.append(team.block_rows(rows))
            if not isinstance(rows, int):
                return min(sizes)
            size = max(1, min([*sizes, rows]))
            return team.balanced(rows, size) if self.team and len(self.group.outer) == 1 else size
        lanes = self.deps.graph.has_few_elements and rows in _LANES  # see ``schedule.small``
        few = nominal(rows) < _MIN_ROWS and not lanes
        if few or any(map(_has_segment, self.group.units)):
            return 0
        row_cost = inner_cost = row_bytes = 0
        for segment in self.segments:
            size = nominal(product(segment.inner))
            cost = sum(OPS[u.op].cost for u in segment.units)
            if size == 1:
                row_cost += sum(
                    OPS[u.op].cost for u in segment.units if OPS[u.op].kind == "elementwise"
                )
            else:
                inner_cost += size * cost
                row_bytes += size * sum(u.dtype.itemsize for u in segment.units)
        if not inner_cost or row_cost < _MIN_ROW_COST or row_cost * _DEAR < inner_cost:
            return 0
        if lanes:
            return rows
        fitting = _BLOCK_BYTES // row_bytes
        return max(_MIN_ROWS, min(fitting - fitting % _MIN_ROWS, _MAX_ROWS))

    def _row_bytes(self) -> int:
        """Bytes that a block holds at most for each of its rows."""
        read = {i for u in self.group.units if _by_block(u) for i in u.inputs}
        rows = self.group.outer[0]
        whole = [i for i in read if i.shape[:1] == (rows,) and storage_root(i) not in self.members]
        from_memory = sum(nominal(product(i.shape[1:])) * i.dtype.itemsize for i in whole)
        held = [from_memory] * len(self.segments)
        for unit in self.units:
            later = [self.segment_of[r] for r in self._readers_behind(unit)]
            if later:
                size = nominal(product(self.value_inner(unit))) * unit.dtype.itemsize
                for position in range(self.segment_of[unit], max(later) + 1):
                    held[position] += size
        return max(held)

    def _flows_by_register(self, use, inner) -> bool:
        unit = use.unit
        if reduced_axes(unit) or completes_rows(unit) or self._inner(unit) != inner:
            return False
        return use.axes == tuple(range(len(domain(unit))))

    def _join_pieces(self) -> None:
        """Note what loops compute here and is a piece of a join; sums of products are of tiles."""
        for join in filter(is_join, self.group.units):
            offset: DimLike = 0
            for piece in join.inputs:
                is_looped = OPS[piece.op].kind == "elementwise" and piece not in self.sums
                if piece in self.segment_of and is_looped:
                    self.joined.setdefault(piece, []).append((join, offset))
                offset = piece.shape[join.attr("axis")] + offset

    def is_joined(self, unit: Node, join: Node) -> bool:
        return any(other is join for other, _ in self.joined.get(unit, ()))

    def _reads_again(self, join: Node, unit: Node) -> bool:
        """Whether a join reads ``unit`` for a piece that it does not write itself."""
        stack = [piece for piece in join.inputs if not self.is_joined(piece, join)]
        while stack:
            node = stack.pop()
            if node is unit:
                return True
            if node not in self.segment_of and node not in self.storage:
                stack.extend(node.inputs)
        return False

    def _choose_scratch(self, new_temp: Callable) -> None:
        """Rows that a later segment needs and that are dear to recompute. What is read for the
        last time leaves its memory to what later segments make."""
        free: dict[tuple, list[L.Buffer]] = {}
        held: list[tuple[int, tuple, L.Buffer]] = []  # the segment of the last read
        begin = dict(self.segment_of)  # where they are first written into
        for piece, joins in self.joined.items():
            for join, _ in joins:
                begin[join] = min(begin[join], self.segment_of[piece])
        for unit in sorted(self.units, key=begin.__getitem__):
            position = begin[unit]
            row = self.value_inner(unit)
            if unit in self.storage or not (row or self.block):
                continue
            later = self._readers_behind(unit)
            if later and (
                reduced_axes(unit) or not self._cheap(unit) or any(map(_by_block, later))
            ):
                for entry in [h for h in held if h[0] < position]:
                    held.remove(entry)
                    free.setdefault(entry[1], []).append(entry[2])
                key = unit.dtype, product(row) * ((self.block or 1) + self.rows_above(unit))
                known = free.get(key)
                self.scratch[unit] = known.pop() if known else new_temp("row", *key)
                last = max(self.segment_of[r] for r in later)
                held.append((last, key, self.scratch[unit]))

    def _readers_behind(self, unit: Node) -> list[Node]:
        """Readers in later segments."""
        position = self.segment_of[unit]
        readers = (u.reader for u in self.deps.used_by.get(unit, ()))
        return [
            r for r in readers
            if self.segment_of.get(r, position) != position
            and not (self.is_joined(unit, r) and not self._reads_again(r, unit))
        ]  # fmt: skip

    def own_rows(self, unit: Node) -> bool:
        """Whether the rows that a product reads are made here: there are none above them."""
        return storage_root(unit.inputs[0]) in self.segment_of

    def rows_above(self, unit: Node) -> int:
        """Rows of scratch memory before the first: the last tile of a block may begin there."""
        made = unit in self.sums or (is_product(unit) and not self.own_rows(unit))
        return TILE_ROWS if made else 0

    def value_inner(self, unit: Node) -> tuple[DimLike, ...]:
        """Inner axes of a unit's value."""
        reduced = reduced_axes(unit)
        rank = len(self.group.outer)
        return tuple(d for a, d in enumerate(domain(unit)) if a >= rank and a not in reduced)

    def _cheap(self, unit: Node) -> bool:
        """Whether recomputing reads only memory or scalars of the outer loops."""
        if OPS[unit.op].kind != "elementwise" or OPS[unit.op].cost > _RECOMPUTE_FLOPS:
            return False
        if unit in self.sums:
            return False
        for use in self.deps.uses[unit]:
            if use.unit in self.segment_of and (self.block or self.value_inner(use.unit)):
                return False
        return True


def _by_block(unit: Node) -> bool:
    """Whether a unit is computed for a block of rows at a time, by one call."""
    return is_product(unit) or is_contraction(unit)


def _has_segment(unit: Node) -> bool:
    """Whether a unit is a segment of its own: one call."""
    return unit.op == "conv" or is_call(unit) or is_join(unit)


def _columns_and_sum(unit: Node) -> tuple[int, DimLike]:
    _, _, n, k = matmul_dims(dict(unit.attrs), *(i.type for i in unit.inputs))
    return n, k
