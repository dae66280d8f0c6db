"""Kernels that a team of threads shares: each takes an equal part of the outer loop.

What a part adds up over the outer loop goes into memory of its own; afterwards the parts are
added in their order, so a result depends on the number of parts alone, never on who came first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from graphc.ir.dims import DimLike
from graphc.ir.ops import OPS
from graphc.schedule import loops as L
from graphc.schedule.sizes import nominal

MAX_PARTS = 16  # of a kernel; memory of the parts' own is planned for so many
#: The least work of a part, in units of about 0.01 ns: handing out work and waiting for the last
#: to finish takes some microseconds.
GRAIN = 1_000_000
_LINE = 16  # elements that are a cache line or more
_MOVE = 4  # work of a load or a store
_PACKED_BLOCKS = 4  # of a product whose B is packed again for each
_ROWS = 64


def split(schedule: L.Schedule) -> L.Schedule:
    """The schedule with :class:`loops.TeamKernel` where kernels are large and their outer loop has
    independent steps. Kernels inside loops and choices of the program stay whole."""
    users: dict[int, int] = {}
    for kernel in schedule.kernels:
        for buffer in {id(b): b for b in (*kernel.reads, *kernel.writes)}.values():
            users[id(buffer)] = users.get(id(buffer), 0) + 1
    kept = {id(b) for b in (*schedule.inputs, *schedule.outputs, *schedule.consts)}
    temps = list(schedule.temps)

    def temp(dtype, size) -> L.Buffer:
        buffer = L.Buffer(f"team{len(temps)}", dtype, size, "temp", len(temps))
        temps.append(buffer)
        return buffer

    def own(buffer: L.Buffer) -> bool:
        return buffer.kind == "temp" and id(buffer) not in kept and users.get(id(buffer)) == 1

    kernels: list[L.Kernel] = []
    for kernel in schedule.kernels:
        team = None
        if isinstance(kernel, L.GemmKernel) and kernel.method:
            team = _Splitter(_as_loops(kernel), own, temp).team()
        elif type(kernel) is L.LoopKernel:
            team = _Splitter(kernel, own, temp).team()
        if team is not None:
            team.lane.symbols = schedule.symbols
            if team.finish is not None:
                team.finish.symbols = schedule.symbols
        kernels.append(kernel if team is None else team)
    return replace(schedule, kernels=kernels, temps=temps)


def block_rows(rows: DimLike) -> int:
    """Rows of a block so that there are two at least, of a batch of usual size; whole tiles."""
    if not isinstance(rows, int):
        return _ROWS
    return max(_LINE, -(-rows // (2 * _LINE)) * _LINE)


def _as_loops(kernel: L.GemmKernel) -> L.LoopKernel:
    """A product as a loop over blocks of its rows, for each matrix of a stack."""
    m, n, k = kernel.m, kernel.n, kernel.k
    assert isinstance(n, int)
    rows = _ROWS
    if isinstance(m, int):
        if kernel.batch != 1:
            rows = m
        elif m < 2 * _ROWS:
            rows = block_rows(m)
        elif kernel.method == "panel":
            rows = max(_ROWS, -(-m // (_PACKED_BLOCKS * _LINE)) * _LINE)
    number = L.Affine() if kernel.batch == 1 else L.variable("i0")
    first = L.variable("block") * rows
    starts = (
        number * (m * k) + (first if kernel.ta else first * k),
        number * (k * n),
        number * (m * n) + first * n,
    )
    product = L.Product(
        kernel.a, kernel.b, kernel.c, starts, kernel.ta, kernel.tb, m, n, k, "block", rows,
        kernel.method, kernel.work, kernel.source,
    )  # fmt: skip
    body: list[L.Stmt] = [L.ForBlocks("block", m, [product], size=rows)]
    if kernel.method == "whole":
        body.insert(0, L.Pack(product))
    if kernel.batch != 1:
        body = [L.For("i0", kernel.batch, body)]
    return L.LoopKernel(kernel.name, body, kernel.reads, kernel.writes, kernel.nodes)


class _Splitter:
    """One kernel: is its outer loop made of independent steps, and what do parts of it need?"""

    def __init__(self, kernel: L.LoopKernel, own, temp):
        self.kernel, self.own, self.temp = kernel, own, temp
        loops = [s for s in kernel.body if isinstance(s, L.For)]
        self.main = max(loops, key=lambda s: nominal(work([s])), default=None)

    def team(self) -> L.TeamKernel | None:
        main, body = self.main, self.kernel.body
        if main is None or main.block or main.extent == 1:
            return None
        amount = work([main])
        if isinstance(amount, int) and amount < 2 * GRAIN:
            return None
        at = next(k for k, s in enumerate(body) if s is main)
        before, after = body[:at], body[at + 1 :]
        if 4 * nominal(work([*before, *after])) > nominal(amount):
            return None
        if isinstance(main, L.ForBlocks) and _at_most(main.extent, main.size):
            return None  # one step
        scalars = self._scalars(before)
        sums = self._sums(before)
        if scalars is None or sums is None:
            return None
        private = self._private(before, after, sums)
        if private is None:
            return None
        return self._made(before, after, scalars, sums, private, amount)

    def _scalars(self, before) -> dict[str, tuple[str, L.Let]] | None:
        """Locals that the steps add up: their ops and first values. None if steps depend."""
        outer = {s.name: s for s in before if isinstance(s, L.Let)}
        found: dict[str, tuple[str, L.Let]] = {}
        for stmt in L.statements([self.main]):
            if isinstance(stmt, L.Accumulate) and stmt.name in outer:
                if found.setdefault(stmt.name, (stmt.op, outer[stmt.name]))[0] != stmt.op:
                    return None
            elif (isinstance(stmt, L.Let) and stmt.name in outer) or (
                isinstance(stmt, L.ArgUpdate) and {stmt.best, stmt.position} & outer.keys()
            ):
                return None
        for stmt in L.statements([self.main]):
            for expr in L.expressions(stmt):
                if isinstance(expr, L.Ref) and expr.name in found:
                    return None
        return found if all(_is_neutral(op, first.expr) for op, first in found.values()) else None

    def _sums(self, before) -> dict[int, tuple[L.Buffer, str]] | None:
        """Buffers that are set before the loop and that its steps add to at places that do not
        follow the step. None if anything else is done before the loop."""
        sums: dict[int, tuple[L.Buffer, str]] = {}
        first: dict[int, list[L.Expr]] = {}
        for stmt in L.statements(before):
            if isinstance(stmt, L.Store):
                sums[id(stmt.buffer)] = (stmt.buffer, "")
                first.setdefault(id(stmt.buffer), []).append(stmt.expr)
            elif not isinstance(stmt, L.Let | L.For | L.Pack):
                return None
        for stmt in L.statements([self.main]):
            for buffer in _read(stmt):
                if id(buffer) in sums:
                    return None
            for buffer in _written(stmt):
                if id(buffer) in sums:
                    op = sums[id(buffer)][1]
                    if not isinstance(stmt, L.AccumulateInto) or op not in ("", stmt.op):
                        return None
                    sums[id(buffer)] = (buffer, stmt.op)
        for key, (_, op) in sums.items():
            if not op or not all(_is_neutral(op, expr) for expr in first[key]):
                return None
        if any(id(b) in sums for s in L.statements(before) for b in _read(s)):
            return None
        return sums

    def _private(self, before, after, sums) -> list[L.Buffer] | None:
        """Buffers of which each part has its own; None if steps are not independent."""
        main, private = self.main, {}
        rows, extents = self._rows()
        accesses: dict[
            int, list[tuple[L.Buffer, L.Affine | L.Product | L.Convolve | None, bool]]
        ] = {}
        for stmt in L.statements([main]):
            if isinstance(stmt, L.ScatterAdd):
                return None
            for expr in L.expressions(stmt):
                if isinstance(expr, L.Checked) or (isinstance(expr, L.Load) and expr.dynamic):
                    return None
                if isinstance(expr, L.Load):
                    accesses.setdefault(id(expr.buffer), []).append(
                        (expr.buffer, expr.index, False)
                    )
            if isinstance(stmt, L.Product | L.Pack | L.Convolve | L.Pool):
                for buffer in _read(stmt):
                    accesses.setdefault(id(buffer), []).append((buffer, None, False))
            for buffer in _written(stmt):
                index = getattr(stmt, "index", None)
                if isinstance(stmt, L.Product | L.Convolve) and buffer is _result(stmt):
                    index = stmt
                accesses.setdefault(id(buffer), []).append((buffer, index, True))
        for stmt in L.statements(before):
            if isinstance(stmt, L.Pack):
                private[id(stmt.product.work)] = stmt.product.work
        for key, uses in accesses.items():
            buffer = uses[0][0]
            if key in sums or not any(written for *_, written in uses):
                continue
            if isinstance(buffer, L.Part):
                return None
            if key in private or (self.own(buffer) and uses[0][2]):  # scratch: written first
                private[key] = buffer
                continue
            strides = {
                self._own_block(at)
                if isinstance(at, L.Product | L.Convolve)
                else _own_rows(at, rows, extents)
                for _, at, _ in uses
            }
            if len(strides) != 1 or None in strides:
                return None
        if not all(self.own(b) for b in private.values()):
            return None
        outside = {id(b) for s in L.statements(after) for b in (*_read(s), *_written(s))}
        return None if outside & private.keys() else list(private.values())

    def _own_block(self, call: L.Product | L.Convolve) -> str | None:
        """As ``_own_rows``, for what is written where it stays by a product (what it computes
        again above its first row comes out the same) or by a convolution of some images."""
        terms, main = call.starts[2].terms, self.main
        if isinstance(call, L.Convolve):
            shape = call.shape
            width = shape.images * shape.filters * math.prod(shape.places)
            alone = call.starts[2] == L.Affine(((main.var, width),))
            return str(width) if alone and type(main) is L.For else None
        if isinstance(main, L.ForBlocks):
            own = ((main.var, call.rows * call.n),)
            return str(call.n) if terms == own and call.starts[2].offset == 0 else None
        width = call.m * call.n
        return str(width) if dict(terms).get(main.var) == width else None

    def _rows(self) -> tuple[set[str], dict[str, DimLike]]:
        """Variables that number the rows of the steps, and how far each variable counts."""
        main = self.main
        extents = {s.var: s.extent for s in L.statements([main]) if isinstance(s, L.For)}
        if not isinstance(main, L.ForBlocks):
            return {main.var}, extents
        loops = [s for s in L.statements(main.body) if isinstance(s, L.For)]
        return {s.var for s in loops if s.block and s.block[0] == main.var}, extents

    def _made(self, before, after, scalars, sums, private, amount) -> L.TeamKernel:
        strides: dict[L.Buffer, DimLike] = {}
        for buffer in private:
            strides[buffer] = _padded(buffer.size)
            buffer.size = strides[buffer] * MAX_PARTS
        lane_body, combined = [*before, self.main], []
        copies: dict[int, L.Buffer] = {}
        for key, (buffer, op) in sums.items():
            stride = _padded(buffer.size)
            copy = copies[key] = self.temp(buffer.dtype, stride * MAX_PARTS)
            strides[copy] = stride
            index = L.variable("j0")
            value = L.Load(buffer.dtype, copy, L.variable("lane") * stride + index)
            add: L.Stmt = L.AccumulateInto(buffer, index, op, value)
            combined.append(L.For("j0", buffer.size, [add]))
        lane_body = [_redirected(s, copies) for s in lane_body]
        main = lane_body[len(before)]
        for name, (op, first) in scalars.items():
            copy = self.temp(first.expr.dtype, 4 * _LINE * MAX_PARTS)
            strides[copy] = 4 * _LINE
            lane_body.append(L.Store(copy, L.Affine(), L.Ref(first.expr.dtype, name)))
            value = L.Load(first.expr.dtype, copy, L.variable("lane") * (4 * _LINE))
            combined.append(L.Accumulate(name, op, value))
        finish = None
        kernel = self.kernel
        if combined or after:
            start = [s for s in before if not isinstance(s, L.Pack)]
            finish = _kernel(kernel, [*start, L.ForTeam("lane", 0, combined), *after])
        lane = _kernel(kernel, lane_body)
        pieces = [kernel, lane] if finish is None else [kernel, lane, finish]
        reads, writes = (
            tuple(dict.fromkeys(b for p in pieces for b in getattr(p, which)))
            for which in ("reads", "writes")
        )
        size = self.main.size if isinstance(self.main, L.ForBlocks) else 1
        return L.TeamKernel(
            kernel.name, lane_body, reads, writes, kernel.nodes, kernel.symbols, lane, finish,
            main, self.main.extent, size, amount, strides,
        )  # fmt: skip


def _kernel(kernel: L.LoopKernel, body: list[L.Stmt]) -> L.LoopKernel:
    found = list(L.statements(body))
    reads = tuple(dict.fromkeys(b for s in found for b in _read(s)))
    writes = tuple(dict.fromkeys(b for s in found for b in _written(s)))
    return L.LoopKernel(kernel.name, body, reads, writes, kernel.nodes, kernel.symbols)


def _read(stmt: L.Stmt) -> Iterator[L.Buffer]:
    if isinstance(stmt, L.Product):
        yield from (stmt.a, stmt.b)
    elif isinstance(stmt, L.Pack):
        yield stmt.product.b
    elif isinstance(stmt, L.Convolve):
        yield from (stmt.x, stmt.w)
    elif isinstance(stmt, L.Pool):
        yield from stmt.operands
    for expr in L.expressions(stmt):
        if isinstance(expr, L.Load):
            yield expr.buffer


def _written(stmt: L.Stmt) -> Iterator[L.Buffer]:
    if isinstance(stmt, L.Product):
        yield stmt.c
        if stmt.work is not None and stmt.method != "whole":
            yield stmt.work
    elif isinstance(stmt, L.Pack):
        assert stmt.product.work is not None
        yield stmt.product.work
    elif isinstance(stmt, L.Convolve | L.Pool):
        yield stmt.out
    elif isinstance(stmt, L.Store | L.AccumulateInto | L.ScatterAdd):
        yield stmt.buffer


def _result(call: L.Product | L.Convolve) -> L.Buffer:
    return call.c if isinstance(call, L.Product) else call.out


def _redirected(stmt: L.Stmt, copies: dict[int, L.Buffer]) -> L.Stmt:
    """A statement that writes to the copies of buffers."""
    if isinstance(stmt, L.For):
        return replace(stmt, body=[_redirected(s, copies) for s in stmt.body])
    if isinstance(stmt, L.Store | L.AccumulateInto) and id(stmt.buffer) in copies:
        return replace(stmt, buffer=copies[id(stmt.buffer)])
    return stmt


def _own_rows(index: L.Affine | None, rows: set[str], extents) -> str | None:
    """The elements of a row, as text, if an index stays within the row of its step."""
    if index is None:
        return None
    following = [(v, c) for v, c in index.terms if v in rows]
    if len(following) != 1:
        return None
    ((row, width),) = following
    low = high = index.offset
    for var, coeff in index.terms:
        if var == row:
            continue
        if var not in extents:  # the block that a row belongs to
            return None
        if isinstance(coeff, int) and coeff < 0:
            low = low + coeff * (extents[var] - 1)
        else:
            high = high + coeff * (extents[var] - 1)
    room = width - 1 - high
    if not (isinstance(low, int) and low >= 0 and isinstance(room, int) and room >= 0):
        return None
    return str(width)


def _at_most(extent: DimLike, size: int) -> bool:
    return isinstance(extent, int) and extent <= size


def _is_neutral(op: str, first: L.Expr) -> bool:
    """Whether adding ``first`` once for each part changes nothing."""
    if not isinstance(first, L.Lit):
        return False
    value = {"False": 0.0, "True": 1.0}.get(first.text)
    value = float(first.text) if value is None else value
    return op in ("max", "min") or value == (0.0 if op == "sum" else 1.0)


def _padded(size: DimLike) -> DimLike:
    """A distance that keeps parts off each other's cache lines."""
    return -(-size // _LINE) * _LINE + _LINE if isinstance(size, int) else size + 2 * _LINE


def work(body: list[L.Stmt]) -> DimLike:
    """What statements cost, in units of about 0.01 ns."""
    total: DimLike = 0
    for stmt in body:
        if isinstance(stmt, L.ForBlocks):  # its loops over rows are counted whole
            total = total + work(stmt.body)
        elif isinstance(stmt, L.For):
            total = total + stmt.extent * work(stmt.body)
        elif isinstance(stmt, L.Product):
            total = total + stmt.m * stmt.n * stmt.k
        elif isinstance(stmt, L.Pack):
            total = total + stmt.product.n * stmt.product.k * _MOVE
        elif isinstance(stmt, L.Convolve):
            sizes = (stmt.channels, stmt.shape.filters, *stmt.shape.places, *stmt.shape.window)
            total = total + math.prod(sizes, start=stmt.shape.images)
        elif isinstance(stmt, L.Pool):
            shape = stmt.shape
            total = total + _MOVE * shape.rows * shape.down * shape.columns * shape.across
        else:
            each = _MOVE if isinstance(stmt, L.Store | L.AccumulateInto) else 0
            for expr in L.expressions(stmt):
                if isinstance(expr, L.Load):
                    each += _MOVE
                elif isinstance(expr, L.Apply):
                    each += 2 * OPS[expr.op].cost
            total = total + each
    return total
