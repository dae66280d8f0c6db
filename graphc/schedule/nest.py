"""Lower one fused group of units to a loop nest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from graphc.ir.dims import DimLike, product
from graphc.ir.node import Node
from graphc.ir.ops import OPS, matmul_dims
from graphc.ir.ranges import has_plain_reciprocal, is_nonpositive
from graphc.schedule import loops as L
from graphc.schedule.convolutions import convolution, image_stride, operand
from graphc.schedule.deps import (
    Deps,
    domain,
    fill_value,
    is_frame,
    is_join,
    is_stack,
    only_unit_axes,
    reduced_axes,
    storage_root,
)
from graphc.schedule.fuse import Group
from graphc.schedule.placement import Placement, Segment, no_loop
from graphc.schedule.pooling import pooling
from graphc.schedule.products import (
    AHEAD_METHODS,
    MAX_AHEAD,
    in_one_block,
    is_contraction,
    method,
    work_size,
)
from graphc.schedule.sizes import nominal

_FAR_BYTES = 512 << 10  # of an array of which little is still in the second-level cache
_BLOCK = "block"  # the loop variable over blocks of rows
_BOOL, _INDEX = np.dtype(bool), np.dtype(np.int64)

Index = tuple[L.Affine, ...]


@dataclass
class _Level:
    """What happens around the loops of a segment, by nesting depth."""

    before: list[L.Stmt] = field(default_factory=list)
    after: list[L.Stmt] = field(default_factory=list)


class NestBuilder:
    """Builds the kernel of one group.

    ``storage`` maps stored nodes to buffers; ``new_temp(name, dtype, size)`` makes scratch rows;
    ``new_check(indices, size)`` registers a run-time index check and returns its number;
    ``packing(b)`` takes a product whose B is packed before a loop, None where no loop keeps b.
    """

    def __init__(
        self, deps: Deps, group: Group, storage: dict[Node, L.Buffer],
        new_temp: Callable, new_check: Callable, team: bool = False, packing: Callable = no_loop,
    ):  # fmt: skip
        self.deps, self.group, self.storage = deps, group, storage
        self.team = team  # threads share the blocks
        self.new_temp, self.new_check, self.packing = new_temp, new_check, packing
        self.outer_index: Index = _loop_index("i", group.outer)
        self.placed = Placement(deps, group, storage, team, packing)
        self.locals: dict[Node, str] = {}
        self.counter = 0
        self.current = -1  # the segment being emitted
        self.body: list[L.Stmt] = []  # where Lets go
        self.memo: dict[tuple[Node, Index], L.Expr] = {}
        self.lazy = 0  # inside a conditional expression: no Lets
        self.prologue: list[L.Stmt] = []
        self.epilogue: list[L.Stmt] = []
        self.source = None

    # ------------------------------------------------------------------------------ the recipe

    def build(self, name: str) -> L.LoopKernel:
        first = self.group.units[0]
        alone = {
            "concat": self._concat, "scatter_add": self._scatter_add,
            "scatter_set": self._scatter_set, "cumsum": self._scan, "cumprod": self._scan,
        }  # fmt: skip
        if self.group.closed:
            body = self._scalars()
        else:
            by_itself = first.op in alone and len(self.group.members) == 1
            body = alone[first.op](first) if by_itself else self._fused()
        body = L.collapse(body)
        reads, writes = _touched(body)
        symbols = sorted(
            {s for d in L.dims_used(body) if not isinstance(d, int) for s in d.symbols}
        )
        members = tuple(self.group.members)
        return L.LoopKernel(name, body, reads, writes, members, tuple(symbols))

    def _fused(self) -> list[L.Stmt]:
        self.placed.plan(self.new_temp)
        body: list[L.Stmt] = []
        packs: list[L.Stmt] = []
        for position, segment in enumerate(self.placed.segments):
            self.current = position
            if segment.products:
                for unit, made in self._products(segment):
                    pack = [L.Pack(made)] if made.method == "whole" else []
                    if unit.op == "matmul" and in_one_block(unit):  # its B may be of this kernel
                        body += pack
                    else:
                        packs += pack
                    body.append(made)
                continue
            statements = self._segment(segment)
            if self.placed.block and statements:
                rows = (_BLOCK, self.placed.block)
                statements = [L.For(self._last_var(), self.group.outer[-1], statements, rows)]
            body += statements
        if self.placed.block:
            self._look_ahead(body)
            body = [*packs, L.ForBlocks(_BLOCK, self.group.outer[-1], body, size=self.placed.block)]
        loops = list(enumerate(self.group.outer))
        for position, extent in reversed(loops[:-1] if self.placed.block else loops):
            body = [L.For(f"i{position}", extent, body)]
        self.current = len(self.placed.segments)
        self.body, self.memo = self.epilogue, {}
        for unit in self.group.post:
            self._compute(unit, _loop_index("", unit.shape))
        for unit in self.group.post:
            self._store_units([unit], _loop_index("", unit.shape))
        return [*self.prologue, *body, *self.epilogue]

    def _look_ahead(self, body: list[L.Stmt]) -> None:
        """Let products ask for what the loops behind them read and write of arrays in memory. Those
        of a transposed A wait for its rows, which come from afar themselves: they gain where the
        arrays are large (a weight and its moments)."""
        products = [k for k, s in enumerate(body) if isinstance(s, L.Product)]
        known = set(self.storage.values())
        for at, end in zip(products, [*products[1:], len(body)], strict=False):
            call = body[at]
            if len(self.group.outer) > 1 or call.method not in AHEAD_METHODS:
                continue
            if call.ta and nominal(call.m) * call.n * call.c.dtype.itemsize < _FAR_BYTES:
                continue
            position = L.flatten_index((*self.outer_index, L.variable("j0")), (call.m, call.n))
            before = {b for buffers in _touched(body[:at]) for b in buffers}
            found = [
                b for b in _walked(body[at + 1 : end], position)
                if b in known and b not in before and b.dtype == call.c.dtype
                and b not in (call.a, call.b)
            ]  # fmt: skip
            call.ahead = tuple(dict.fromkeys(found))[:MAX_AHEAD]

    def _scalars(self) -> list[L.Stmt]:
        """A run of scalars, and the arrays that they are put together to. All is computed before
        anything is stored; constants between the values are filled in first."""
        stacks = [u for u in self.group.units if is_stack(u)]
        self.current, self.body = 0, []
        scalars = [u for u in self.group.units if not is_stack(u)]
        self.placed.segment_of = dict.fromkeys(scalars, 0)
        for unit in scalars:
            self._compute(unit, ())
        stores: list[L.Stmt] = []
        fills: list[L.Stmt] = []
        for unit in stacks:
            most = _most_repeated(unit)
            offset = 0
            if most is not None:
                fills += self._filling(unit, most, 0, unit.type.size)
            for piece in unit.inputs:
                constant = fill_value(piece)
                if constant is None:
                    self.source = self.deps.graph.sources.get(unit)
                    value = self.value(piece, _loop_index("", (1,) * piece.ndim))
                    stores.append(L.Store(self.storage[unit], L.Affine() + offset, value))
                elif constant is not most:
                    fills += self._filling(unit, constant, offset, piece.type.size)
                offset += piece.type.size
        self._store_units(scalars, ())
        return [*fills, *self.body, *stores]

    def _filling(self, unit: Node, constant: Node, start: int, size: int) -> list[L.Stmt]:
        """``constant`` stored to ``size`` elements of ``unit`` from ``start`` on."""
        literal = L.Lit(unit.dtype, _literal(constant.attr("value").array.reshape(())))
        if size == 1:
            return [L.Store(self.storage[unit], L.Affine() + start, literal)]
        store = L.Store(self.storage[unit], L.variable("j0") + start, literal)
        return [L.For("j0", size, [store])]

    def _last_var(self) -> str:
        return f"i{len(self.group.outer) - 1}"

    def _products(self, segment: Segment) -> list[tuple[Node, L.Product]]:
        """The products of a segment; those in chunks that share A are one, beside each other."""
        made: list[tuple[Node, L.Product]] = []
        for unit in segment.units:
            if is_contraction(unit) or unit in self.placed.sums:
                by_itself = self._sum if unit in self.placed.sums else self._contraction
                made.append((unit, by_itself(unit)))
                continue
            product, shared = self._product(unit), None
            if product.method == "chunks" and not self.team:
                same = (p for _, p in made if _shares_chunks(p, product))
                shared = next(same, None)
            if shared is None:
                made.append((unit, product))
            else:
                shared.beside = (*shared.beside, replace(product, work=None))
        return made

    def _sum(self, unit: Node) -> L.Product:
        products, row = self.placed.sums[unit]
        first, *more = (self._product(p, unit) for p in products)
        place = row and (self.storage[storage_root(row)], L.Affine())
        return replace(first, also=tuple(more), row=place)

    def _product(self, unit: Node, target: Node | None = None) -> L.Product:
        """A block of a product, or of what it is added up to with others."""
        target = target or unit
        ta, tb, itemsize = unit.attr("ta"), unit.attr("tb"), unit.dtype.itemsize
        batch, m, n, k = matmul_dims(dict(unit.attrs), *(i.type for i in unit.inputs))
        number = L.flatten_index(self.outer_index[: len(batch)], batch)
        (a, a_start), (b, b_start) = map(self._operand, unit.inputs)
        pack = self.packing(b) if product(batch) == 1 else None
        how = method(ta, tb, m, n, k, itemsize, often=pack is not None)
        size = work_size(how, n, k)
        work = self.new_temp("work", unit.dtype, size) if size != 0 else None
        first = L.variable(_BLOCK) * self.placed.block
        if target in self.storage:
            c, c_start = self.storage[target], number * (m * n) + first * n
        else:
            c, c_start = self._scratch_rows(target, n)
        own_rows = not batch and self.placed.own_rows(unit)
        if own_rows:
            a, a_start = self._block_of(unit.inputs[0])
        else:
            a_start = a_start + (first if ta else first * k)
        made = L.Product(
            a, b, c, (a_start, b_start, c_start), ta, tb, m, n, k, _BLOCK, self.placed.block,
            how, work, self.deps.graph.sources.get(unit), own_rows=own_rows,
        )  # fmt: skip
        return pack(made) if how == "packed" else made

    def _operand(self, node: Node) -> tuple[L.Buffer, L.Affine]:
        """The matrix of a product at this batch index: where it begins."""
        root = storage_root(node)
        if root not in self.storage:
            return self._scratch_rows(root, node.shape[-1])
        rank = node.ndim - 2
        number = L.flatten_index(self.outer_index[:rank], node.shape[:rank])
        return self.storage[root], number * product(node.shape[rank:])

    def _contraction(self, unit: Node) -> L.Product:
        _, m, n, k = matmul_dims(dict(unit.attrs), *(i.type for i in unit.inputs))
        target = self.storage[unit]
        index = _loop_index("j", unit.shape)
        zero = L.Store(target, L.flatten_index(index, unit.shape), L.Lit(unit.dtype, "0.0"))
        self.prologue += _loops([zero], "j", unit.shape)
        (a, a_start), (b, b_start) = map(self._block_of, unit.inputs)
        return L.Product(
            a, b, target, (a_start, b_start, L.Affine()), 1, 0, m, n, k, _BLOCK, self.placed.block,
            "direct", None, self.deps.graph.sources.get(unit), adds=True,
        )  # fmt: skip

    def _scratch_rows(self, node: Node, columns: DimLike) -> tuple[L.Buffer, L.Affine]:
        """Scratch memory for a block of rows, and where the first one begins."""
        return self.placed.scratch[node], L.Affine((), self.placed.rows_above(node) * columns)

    def _block_of(self, operand: Node) -> tuple[L.Buffer, L.Affine]:
        """Where the rows of the block begin of what a product reads."""
        columns, node = product(operand.shape[1:]), storage_root(operand)
        if node in self.placed.scratch:
            return self._scratch_rows(node, columns)
        return self.storage[node], L.variable(_BLOCK) * (self.placed.block * columns)

    # -------------------------------------------------------------------------------- segments

    def _convolution(self, unit: Node) -> L.Convolve:
        inner = (L.Affine(),) * (unit.ndim - len(self.group.outer))
        ((out, start),) = self._targets(unit, self.outer_index + inner)
        x, w = (self.storage[storage_root(operand(i)[0])] for i in unit.inputs)
        image = self.outer_index[0] * image_stride(unit) if self.group.outer else L.Affine()
        return L.Convolve(
            x, w, out, (image, L.Affine(), start), convolution(unit), unit.inputs[0].shape[1],
            self.deps.graph.sources.get(unit),
        )  # fmt: skip

    def _pooling(self, unit: Node) -> L.Pool:
        shape, nodes = pooling(unit)
        reduced = reduced_axes(unit)
        inner = (L.Affine(),) * (len(domain(unit)) - len(reduced) - len(self.group.outer))
        ((out, start),) = self._targets(unit, self.outer_index + inner)
        starts = [self.outer_index[0] * product(n.shape[1:]) for n in nodes]
        buffers = tuple(self.storage[storage_root(n)] for n in nodes)
        source = self.deps.graph.sources.get(unit)
        return L.Pool(buffers, out, (*starts, start), shape, source)

    def _frame(self, unit: Node) -> list[L.Stmt]:
        x, fill = unit.inputs
        rank = len(self.group.outer)
        self.source = self.deps.graph.sources.get(unit)
        index = self.outer_index + _loop_index("j", unit.shape[rank:])
        self.body, self.memo = [], {}
        outside = self.value(fill, ())
        for target, position in self._targets(unit, index):
            self.body.append(L.Store(target, position, outside))
        filled = _loops(self.body, "j", unit.shape[rank:])
        index = self.outer_index + _loop_index("j", x.shape[rank:])
        self.body, self.memo = [], {}
        inside = self.value(x, index)
        moved = tuple(i + low for i, low in zip(index, unit.attr("low"), strict=True))
        for target, position in self._targets(unit, moved):
            self.body.append(L.Store(target, position, inside))
        return filled + _loops(self.body, "j", x.shape[rank:])

    def _join(self, unit: Node) -> list[L.Stmt]:
        """What the kernel has not written into its row yet."""
        axis, rank, offset = unit.attr("axis"), len(self.group.outer), 0
        self.source = self.deps.graph.sources.get(unit)
        statements: list[L.Stmt] = []
        for piece in unit.inputs:
            if not self.placed.is_joined(piece, unit):
                index = self.outer_index + _loop_index("j", piece.shape[rank:])
                self.body, self.memo = [], {}
                value = self.value(piece, index)
                for target, position in self._targets(unit, _moved(index, axis, offset)):
                    self.body.append(L.Store(target, position, value))
                statements += _loops(self.body, "j", piece.shape[rank:])
            offset = piece.shape[axis] + offset
        return statements

    def _segment(self, segment: Segment) -> list[L.Stmt]:
        if segment.closed:
            (unit,) = segment.units
            if unit.op == "conv":
                return [self._convolution(unit)]
            if is_join(unit):
                return self._join(unit)
            return self._frame(unit) if is_frame(unit) else [self._pooling(unit)]
        depth = len(segment.inner)
        index = self.outer_index + _loop_index("j", segment.inner)
        levels = [_Level() for _ in range(depth + 1)]
        self.body, self.memo = [], {}
        for unit in segment.units:
            if reduced_axes(unit):
                self._reduce(unit, index, levels)
            else:
                self._compute(unit, index)
        self._store_units(segment.units, index)
        body = self.body
        for level in range(depth, -1, -1):
            body = [*levels[level].before, *body, *levels[level].after]
            if level:
                body = [L.For(f"j{level - 1}", segment.inner[level - 1], body)]
        return body

    def _compute(self, unit: Node, index: Index) -> None:
        self.source = self.deps.graph.sources.get(unit)
        expr = self._expand(unit, index)
        name = self._fresh("t")
        self.body.append(L.Let(name, expr, self.source))
        self.locals[unit] = name
        self.memo[unit, index] = L.Ref(unit.dtype, name)

    def _store_units(self, units, index: Index) -> None:
        """Stores come last, so that an output may take the memory of an input."""
        for unit in units:
            if reduced_axes(unit):
                continue
            ref = L.Ref(unit.dtype, self.locals[unit])
            for target, position in self._targets(unit, index):
                self.body.append(L.Store(target, position, ref))

    def _targets(self, unit: Node, index: Index):
        """Where the value of a unit at ``index`` (of its own axes) is kept."""
        if unit in self.storage:
            yield self.storage[unit], L.flatten_index(index, unit.shape)
        if unit in self.placed.scratch:
            yield self.placed.scratch[unit], self._scratch_position(unit, index)
        for join, offset in self.placed.joined.get(unit, ()):
            yield from self._targets(join, _moved(index, join.attr("axis"), offset))

    def _scratch_position(self, unit: Node, index: Index) -> L.Affine:
        """Where scratch memory holds the value of a unit at ``index``."""
        rank, row = len(self.group.outer), self.placed.value_inner(unit)
        if not self.placed.block:
            return L.flatten_index(index[rank:], row)
        in_block = index[rank - 1] + L.variable(_BLOCK) * -self.placed.block
        in_block = in_block + self.placed.rows_above(unit)
        return L.flatten_index((in_block, *index[rank:]), (self.placed.block, *row))

    def _reduce(self, unit: Node, index: Index, levels: list[_Level]) -> None:
        self.source = source = self.deps.graph.sources.get(unit)
        rank, axes, space = len(self.group.outer), reduced_axes(unit), domain(unit)
        value = self.value(unit.inputs[0], index)
        kept = tuple(index[a] for a in range(len(space)) if a not in axes)
        crosses_outer = any(a < rank for a in axes)
        inner_axes = [a for a in axes if a >= rank]
        looped = [a for a in range(rank, len(space)) if a in axes or space[a] != 1]
        is_suffix = bool(inner_axes) and looped[-len(inner_axes) :] == inner_axes
        if unit.op in ("argmax", "argmin"):
            self._arg_reduce(unit, value, index, levels[len(space) - rank - 1], kept)
        elif crosses_outer and unit.type.size == 1:
            name = self._fresh("s")
            self.prologue.append(self._identity(name, unit))
            self.body.append(L.Accumulate(name, unit.op, value, source))
            self.locals[unit] = name
            for target, position in self._targets(unit, kept):
                self.epilogue.append(L.Store(target, position, L.Ref(unit.dtype, name)))
        elif inner_axes and is_suffix:
            level = levels[inner_axes[0] - rank]
            name = self._fresh("s")
            level.before.append(self._identity(name, unit))
            self.body.append(L.Accumulate(name, unit.op, value, source))
            self.locals[unit] = name
            ref = L.Ref(unit.dtype, name)
            if crosses_outer:
                self._accumulate_into(unit, kept, ref, level.after, source)
            else:
                for target, position in self._targets(unit, kept):
                    level.after.append(L.Store(target, position, ref, source))
        elif crosses_outer:
            self._accumulate_into(unit, kept, value, self.body, source)
        else:  # reduces inner axes that are not the last: a row of accumulators in memory
            for target, position in self._targets(unit, kept):
                rows = kept[len(self.outer_index) :]
                levels[0].before += self._filled(unit, target, position, rows)
                self.body.append(L.AccumulateInto(target, position, unit.op, value, source))

    def _accumulate_into(self, unit, kept: Index, value, where: list, source) -> None:
        target = self.storage[unit]
        position = L.flatten_index(kept, unit.shape)
        self.prologue += self._filled(unit, target, position, kept)
        where.append(L.AccumulateInto(target, position, unit.op, value, source))

    def _filled(self, unit: Node, target: L.Buffer, position: L.Affine, over: Index):
        """Loops over the indices ``over`` that set a target to the reduction's identity."""
        extents = dict(zip(self._index_names(unit), domain(unit), strict=True))
        body: list[L.Stmt] = [L.Store(target, position, self._identity("", unit).expr)]
        for index in reversed(over):
            for var, _ in index.terms:
                body = [L.For(var, extents[var], body)]
        return body

    def _index_names(self, unit: Node) -> list[str]:
        rank = len(self.group.outer)
        return [f"i{a}" if a < rank else f"j{a - rank}" for a in range(len(domain(unit)))]

    def _arg_reduce(self, unit, value, index, level: _Level, kept) -> None:
        best, name = self._fresh("s"), self._fresh("p")
        dtype = unit.inputs[0].dtype
        worst = _extreme(dtype, lowest=unit.op == "argmax")
        level.before.append(L.Let(best, L.Lit(dtype, worst)))
        level.before.append(L.Let(name, L.Lit(_INDEX, "0")))
        self.body.append(L.ArgUpdate(best, name, unit.op, value, index[-1], self.source))
        self.locals[unit] = name
        for target, position in self._targets(unit, kept):
            level.after.append(L.Store(target, position, L.Ref(_INDEX, name), self.source))

    def _identity(self, name: str, unit: Node) -> L.Let:
        op, dtype = unit.op, unit.dtype
        if op in ("max", "min"):
            text = _extreme(dtype, lowest=op == "max")
        else:
            text = _literal(np.zeros((), dtype) if op == "sum" else np.ones((), dtype))
        return L.Let(name, L.Lit(dtype, text))

    # ---------------------------------------------------------------------------------- values

    def value(self, node: Node, index: Index) -> L.Expr:
        """The scalar of ``node`` at ``index``, computed at most once in the current body."""
        index = tuple(
            L.Affine() if size == 1 else i for i, size in zip(index, node.shape, strict=True)
        )
        key = (node, index)
        if key in self.memo:
            return self.memo[key]
        if node.op == "const" and node.attr("value").array.size == 1:
            return L.Lit(node.dtype, _literal(node.attr("value").array.reshape(())))
        available = self._available(node, index)
        if available is not None and isinstance(available, L.Ref):
            return available
        expr = available if available is not None else self._expand(node, index)
        if self.lazy or isinstance(expr, L.Ref | L.Lit):
            return expr
        name = self._fresh("t")
        self.body.append(L.Let(name, expr, self.deps.graph.sources.get(node, self.source)))
        self.memo[key] = L.Ref(node.dtype, name)
        return self.memo[key]

    def _available(self, node: Node, index: Index) -> L.Expr | None:
        """A register, scratch row or stored array that already holds the value."""
        in_loops = node in self.placed.segment_of
        if node in self.locals and (
            (node.type.size == 1 and self.current >= len(self.placed.segments))
            or (
                in_loops
                and not self.placed.value_inner(node)
                and index == self.outer_index
                and (not self.placed.block or self.placed.segment_of[node] == self.current)
            )
        ):
            return L.Ref(node.dtype, self.locals[node])
        if in_loops and node in self.placed.scratch:
            position = self._scratch_position(node, index)
            return L.Load(node.dtype, self.placed.scratch[node], position)
        if node in self.storage:
            position = L.flatten_index(index, node.shape)
            return L.Load(node.dtype, self.storage[node], position)
        return None

    def _expand(self, node: Node, index: Index) -> L.Expr:
        """The value from the operands of ``node``."""
        op, inputs = node.op, node.inputs
        if OPS[op].kind == "elementwise":
            operands = tuple(self.value(i, index) for i in inputs)
            if op == "div" and _is_shared_divisor(inputs[1]):
                return self._divided(node.dtype, *operands)
            if op == "exp" and is_nonpositive(inputs[0]):
                op = "exp_below"
            return L.Apply(node.dtype, op, operands)
        if op == "broadcast":
            return self.value(inputs[0], tuple(index[d] for d in node.attr("dims")))
        if op == "transpose":
            below: list = [None] * node.ndim
            for position, axis in enumerate(node.attr("perm")):
                below[axis] = index[position]
            return self.value(inputs[0], tuple(below))
        if op == "slice":
            moved = zip(index, node.attr("start"), node.attr("step"), strict=True)
            return self.value(inputs[0], tuple(i * step + start for i, start, step in moved))
        if op == "windows":
            axis = node.attr("axis")
            place = index[axis] * node.attr("stride") + index[axis + 1] * node.attr("dilation")
            return self.value(inputs[0], (*index[:axis], place, *index[axis + 2 :]))
        if op == "barrier":
            return self.value(inputs[0], index)
        if op == "reshape":
            return self._reshaped(node, index)
        if op == "pad":
            return self._padded(node, index)
        if op == "iota":
            position = L.IndexValue(_INDEX, index[node.attr("axis")])
            return position if node.dtype == _INDEX else L.Apply(node.dtype, "cast", (position,))
        if op == "size":
            return L.DimValue(node.dtype, node.attr("dim"))
        if op in ("take", "take_along"):
            return self._taken(node, index)
        if op == "check_index":
            inside = self.value(inputs[0], index)
            return L.Checked(node.dtype, inside, node.attr("size"), self.new_check(node))
        raise AssertionError(f"{op} cannot be folded into a kernel")

    def _divided(self, dtype: np.dtype, x: L.Expr, divisor: L.Expr) -> L.Expr:
        """A quotient by a divisor of all steps of the innermost loop: its reciprocal is computed
        before the loop, and multiplying by it is made exact."""
        one = L.Lit(dtype, _literal(np.ones((), dtype)))
        reciprocal: L.Expr = L.Apply(dtype, "div", (one, divisor))
        if not self.lazy:
            name = self._fresh("t")
            self.body.append(L.Let(name, reciprocal, self.source))
            reciprocal = L.Ref(dtype, name)
        return L.Apply(dtype, "divided", (x, divisor, reciprocal))

    def _reshaped(self, node: Node, index: Index) -> L.Expr:
        below = node.inputs[0]
        if only_unit_axes(below.shape, node.shape):
            kept = iter(i for i, d in zip(index, node.shape, strict=True) if d != 1)
            return self.value(below, tuple(L.Affine() if d == 1 else next(kept)
                                           for d in below.shape))  # fmt: skip
        position = L.flatten_index(index, node.shape)
        return L.Load(node.dtype, self.storage[storage_root(node)], position)

    def _padded(self, node: Node, index: Index) -> L.Expr:
        x, fill = node.inputs
        tests, inside = [], []
        parts = zip(index, node.attr("low"), node.attr("interior"), x.shape, node.shape,
                    strict=True)  # fmt: skip
        for position, low, gap, size, out in parts:
            shifted = position + low * -1
            if gap:
                raise AssertionError("interior padding is lowered before scheduling")
            if size != out:
                tests.append((shifted, size, 1))
            inside.append(shifted)
        outside = self.value(fill, ())
        self.lazy += 1
        chosen = self.value(x, tuple(inside))
        self.lazy -= 1
        if not tests:
            return chosen
        return L.Select(node.dtype, L.InRange(_BOOL, tuple(tests)), chosen, outside)

    def _taken(self, node: Node, index: Index) -> L.Expr:
        axis, (x, indices) = node.attr("axis"), node.inputs
        if node.op == "take":
            at, rest = index[axis : axis + indices.ndim], index[axis + indices.ndim :]
            static = (*index[:axis], L.Affine(), *rest)
        else:
            at, static = index, (*index[:axis], L.Affine(), *index[axis + 1 :])
        size, stride = x.shape[axis], product(x.shape[axis + 1 :])
        dynamic = (self.value(indices, at), stride, size, self.new_check(node))
        position = L.flatten_index(static, x.shape)
        return L.Load(node.dtype, self.storage[storage_root(x)], position, (dynamic,))

    def _fresh(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}{self.counter}"

    # -------------------------------------------------------------------------- opaque kernels

    def _nest(self, shape, emit: Callable[[Index], None]) -> list[L.Stmt]:
        """Loops over ``shape`` around what ``emit(index)`` appends to the body."""
        self.body, self.memo = [], {}
        emit(_loop_index("j", shape))
        body = self.body
        for position, extent in reversed(list(enumerate(shape))):
            body = [L.For(f"j{position}", extent, body)]
        return body

    def _copied(self, unit: Node, x: Node, shape, moved=lambda index: index) -> list[L.Stmt]:
        """The elements of ``x`` within ``shape``, stored in the memory of ``unit``."""

        def emit(index):
            position = L.flatten_index(moved(index), unit.shape)
            self.body.append(L.Store(self.storage[unit], position, self.value(x, index)))

        return self._nest(shape, emit)

    def _concat(self, unit: Node) -> list[L.Stmt]:
        axis, offset = unit.attr("axis"), 0
        statements: list[L.Stmt] = []
        for piece in unit.inputs:

            def moved(index, offset=offset):
                return _moved(index, axis, offset)

            statements += self._copied(unit, piece, piece.shape, moved)
            offset = piece.shape[axis] + offset
        return statements

    def _scatter_add(self, unit: Node) -> list[L.Stmt]:
        zero = L.Lit(unit.dtype, _literal(np.zeros((), unit.dtype)))
        target = self.storage[unit]
        clear = L.For("j0", unit.type.size, [L.Store(target, L.variable("j0"), zero)])
        return [clear, *self._scattered(unit, L.ScatterAdd)]

    def _scatter_set(self, unit: Node) -> list[L.Stmt]:
        x = unit.inputs[0]
        return [*self._copied(unit, x, x.shape), *self._scattered(unit, L.ScatterSet)]

    def _scattered(self, unit: Node, statement) -> list[L.Stmt]:
        """Loops over the updates, which go to run-time indices of one axis."""
        indices, updates = unit.inputs[-2:]
        axis, target = unit.attr("axis"), self.storage[unit]
        stride = product(unit.shape[axis + 1 :])

        def emit(index):
            at = index[axis : axis + indices.ndim]
            static = (*index[:axis], L.Affine(), *index[axis + indices.ndim :])
            dynamic = (self.value(indices, at), stride, unit.shape[axis], self.new_check(unit))
            position = L.flatten_index(static, unit.shape)
            self.body.append(statement(target, position, dynamic, self.value(updates, index)))

        return self._nest(updates.shape, emit)

    def _scan(self, unit: Node) -> list[L.Stmt]:
        """The first elements as they are, then each from its predecessor, in the order of memory:
        inner axes are vectorised, and along the last axis the predecessor stays in a register."""
        (x,), axis, target = unit.inputs, unit.attr("axis"), self.storage[unit]
        if any(d == 0 for d in x.shape):
            return []
        combine = {"cumsum": "add", "cumprod": "mul"}[unit.op]

        def rest(index):
            here = tuple(i + 1 if a == axis else i for a, i in enumerate(index))
            before = L.Load(unit.dtype, target, L.flatten_index(index, unit.shape))
            value = L.Apply(unit.dtype, combine, (before, self.value(x, here)))
            self.body.append(L.Store(target, L.flatten_index(here, unit.shape), value))

        def sized(size):
            return [size if a == axis else d for a, d in enumerate(x.shape)]

        return [*self._copied(unit, x, sized(1)), *self._nest(sized(x.shape[axis] - 1), rest)]


def _loop_index(prefix: str, extents) -> Index:
    """One loop variable an axis; axes of size 1 have no loop and stay at 0."""
    return tuple(
        L.Affine() if size == 1 else L.variable(f"{prefix}{k}") for k, size in enumerate(extents)
    )


def _moved(index: Index, axis: int, offset: DimLike) -> Index:
    return tuple(i + offset if a == axis else i for a, i in enumerate(index))


def _loops(body: list[L.Stmt], prefix: str, extents) -> list[L.Stmt]:
    """``body`` inside loops over ``_loop_index(prefix, extents)``."""
    for position, extent in reversed(list(enumerate(extents))):
        body = [L.For(f"{prefix}{position}", extent, body)]
    return body


def _is_shared_divisor(node: Node) -> bool:
    """Whether a divisor is the same for a row, and its reciprocal a plain number."""
    rows = [a for a, size in enumerate(node.shape) if size != 1]
    return (
        node.op == "broadcast" and bool(rows) and bool(node.inputs[0].ndim)
        and rows[-1] not in node.attr("dims") and has_plain_reciprocal(node)
    )  # fmt: skip


def _shares_chunks(a: L.Product, b: L.Product) -> bool:
    """Whether two products in chunks read the same rows of one A."""
    return (a.method, a.a, a.starts[0], a.ta, a.tb, a.m, a.k, a.rows) == (
        b.method, b.a, b.starts[0], b.ta, b.tb, b.m, b.k, b.rows
    )  # fmt: skip


def _most_repeated(stack: Node) -> Node | None:
    """The constant that fills most of a stack, None where constants are no more than single."""
    sizes: dict[Node, int] = {}
    for piece in stack.inputs:
        constant = fill_value(piece)
        if constant is not None:
            sizes[constant] = sizes.get(constant, 0) + piece.type.size
    most = max(sizes, key=sizes.__getitem__, default=None)
    return most if most is not None and sizes[most] > len(stack.inputs) // 2 else None


def _walked(body: list[L.Stmt], position: L.Affine) -> Iterator[L.Buffer]:
    """Buffers that statements read or write at ``position``."""
    for stmt in L.statements(body):
        for expr in L.expressions(stmt):
            if isinstance(expr, L.Load) and not expr.dynamic and expr.index == position:
                yield expr.buffer
        if isinstance(stmt, L.Store) and stmt.index == position:
            yield stmt.buffer


def _touched(body) -> tuple[tuple[L.Buffer, ...], tuple[L.Buffer, ...]]:
    reads, writes = {}, {}
    for stmt in L.statements(body):
        if isinstance(stmt, L.Store | L.ScatterAdd | L.AccumulateInto):
            writes[stmt.buffer] = None
        elif isinstance(stmt, L.Product):
            if stmt.row:
                reads[stmt.row[0]] = None
            for p in stmt.all:
                reads.update({p.a: None, p.b: None})
                writes.update({p.c: None, **({p.work: None} if p.work else {})})
        elif isinstance(stmt, L.Convolve):
            reads.update({stmt.x: None, stmt.w: None})
            writes[stmt.out] = None
        elif isinstance(stmt, L.Pool):
            reads.update(dict.fromkeys(stmt.operands))
            writes[stmt.out] = None
        for expr in L.expressions(stmt):
            if isinstance(expr, L.Load):
                reads[expr.buffer] = None
    return tuple(reads), tuple(writes)


def _literal(array: np.ndarray) -> str:
    return repr(array.item())


def _extreme(dtype: np.dtype, lowest: bool) -> str:
    """The identity of max (lowest) or min."""
    if dtype.kind == "f":
        return "-inf" if lowest else "inf"
    if dtype.kind == "b":
        return repr(not lowest)
    info = np.iinfo(dtype)
    return repr(info.min if lowest else info.max)
