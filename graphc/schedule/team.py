"""Kernels that a team of threads shares: each takes an equal part of the outer loop.

What a part adds up over the outer loop goes into memory of its own; afterwards the parts are
added in their order, so a result depends on the number of parts alone, never on who came first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from graphc.ir.dims import DimLike
from graphc.ir.ops import OPS
from graphc.schedule import loops as L
from graphc.schedule.columns import PANEL, by_columns
from graphc.schedule.products import TILE_ROWS
from graphc.schedule.sizes import nominal

MAX_PARTS = 16  # of a kernel; memory of the parts' own is planned for so many
#: The least work of a part, in units of about 0.01 ns. Handing out work and waiting for the last
#: to finish takes 0.3 us, and what the other processor wrote has to come from there.
GRAIN = 200_000
CLAIMED = 512  # elements that a part asks for at once before it changes them in place
STATUS_STRIDE = 16  # words between those of the parts
_LINE = 16  # elements that are a cache line or more
_MOVE = 8  # work of a load or a store
_PACKED_BLOCKS = 4  # of a product whose B is packed again for each
_ROWS = 64
_FEW_RESULTS, _LONG_SUM = 32 << 10, 128  # of products whose sum is cut into pieces
_PIECE = 128  # vectors that are added up, at least, before their lanes are


def split(schedule: L.Schedule) -> L.Schedule:
    """The schedule with :class:`loops.TeamKernel` where kernels are large and their outer loop has
    independent steps. Kernels inside loops and choices of the program stay whole."""
    users: dict[int, int] = {}
    whole = [part for kernel in schedule.kernels for part in _apart(kernel)]
    for kernel in whole:
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

    def columns(kernel: L.LoopKernel) -> L.TeamKernel | None:
        sizes = [(b, b.size) for b in temps]
        panels = by_columns(kernel)
        team = panels and _Splitter(panels, own, temp).team()
        if team is None:
            for buffer, size in sizes:
                buffer.size = size
        return team

    def shared(kernel: L.Kernel) -> L.Kernel:
        team = None
        if type(kernel) is L.LoopKernel:
            team = (
                _in_pieces(kernel, temp) or columns(kernel) or _Splitter(kernel, own, temp).team()
            )
        if team is not None:
            team.lane.symbols = schedule.symbols
            if team.finish is not None:
                team.finish.symbols = schedule.symbols
        return team or kernel

    kernels: list[L.Kernel] = []
    for kernel in whole:
        if isinstance(kernel, L.GemmKernel) and kernel.method:
            team = shared(_as_loops(kernel))
            kernels.append(team if isinstance(team, L.TeamKernel) else kernel)
        elif type(kernel) is L.LoopKernel:
            kernels += map(shared, _by_sums(kernel, temp) or [kernel])
        else:
            kernels.append(kernel)
    return replace(schedule, kernels=kernels, temps=temps)


def block_rows(rows: DimLike) -> int:
    """Rows of a block so that there are two at least, of a batch of usual size; whole tiles."""
    if not isinstance(rows, int):
        return _ROWS
    return max(_LINE, -(-rows // (2 * _LINE)) * _LINE)


def balanced(rows: int, size: int) -> int:
    """About as many rows of a block, so that two parts have as much to do as can be."""
    least, most = max(_LINE, size // 2), max(size, size * 5 // 4)
    sizes = [size, *range(-(-least // _LINE) * _LINE, most + 1, _LINE)]

    def longest(n: int) -> int:
        first = -(-rows // n) // 2 * n
        return max(first, rows - first)

    return min(sizes, key=lambda n: (longest(n), abs(n - size)))


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


def _apart(kernel: L.Kernel) -> list[L.Kernel]:
    """A kernel of several loops that are large, each by itself."""
    body = kernel.body if type(kernel) is L.LoopKernel else []
    if len(body) < 2 or not all(isinstance(s, L.For) and _is_enough(work([s])) for s in body):
        return [kernel]
    parts = [_kernel(kernel, [s]) for s in body]
    return [parts[0], *(replace(part, nodes=()) for part in parts[1:])]


def _by_sums(kernel: L.LoopKernel, temp) -> list[L.LoopKernel] | None:
    """A weight's gradient in two: sums over pieces of the batch, then what they add up to and what
    follows. None where that does not pay.

    By rows of the result each thread would read what all have computed, rows of a batch far
    apart; by pieces of the batch it reads what it has computed itself.
    """
    at = next((k for k, s in enumerate(kernel.body) if isinstance(s, L.ForBlocks)), None)
    if at is None or not isinstance(call := (main := kernel.body[at]).body[0], L.Product):
        return None
    pieces = _summed_pieces(call)
    if (
        pieces == 1
        or call.adds
        or call.block != main.var
        or any(isinstance(s, L.Pack) for s in kernel.body)
    ):
        return None
    assert isinstance(call.k, int) and isinstance(call.m, int) and isinstance(main, L.ForBlocks)
    each, size, index = call.k // pieces, call.m * call.n, L.variable("i0")
    parts = temp(call.c.dtype, pieces * size)
    a, b, _ = call.starts
    row = L.variable("piece")
    starts = (
        row * call.m + index * (each * call.m) + a.offset, b + index * (each * call.n),
        row * call.n + index * size,
    )  # fmt: skip
    piece = replace(call, c=parts, starts=starts, k=each, block="piece", rows=call.m)
    sums = [L.For("i0", pieces, [L.ForBlocks("piece", call.m, [piece], size=call.m)])]
    of, element = call.rows * call.n, L.variable("e0")
    total: L.Expr = L.Load(call.c.dtype, parts, element)
    for k in range(1, pieces):
        value = L.Load(call.c.dtype, parts, element + k * size)
        total = L.Apply(call.c.dtype, "add", (total, value))
    target = call.starts[2] + element + L.variable(call.block) * -of
    added = L.For("e0", size, [L.Store(call.c, target, total, call.source)], (main.var, of))
    rest = replace(main, body=[added, *main.body[1:]])
    body = [*kernel.body[:at], rest, *kernel.body[at + 1 :]]
    product = [n for n in kernel.nodes if n.op == "matmul"]
    others = [n for n in kernel.nodes if n.op != "matmul"]
    made = (sums, product), (body, others)
    return [replace(_kernel(kernel, part), nodes=tuple(nodes)) for part, nodes in made]


def _summed_pieces(call: L.Product) -> int:
    """Into how many pieces the sum of a product is cut: long sums over a batch for few results."""
    m, k = call.m, call.k
    if not (isinstance(m, int) and isinstance(k, int) and call.ta and call.method == "direct"):
        return 1
    if not _is_enough(m * call.n * k) or m * call.n > _FEW_RESULTS:
        return 1
    return next((p for p in range(k // _LONG_SUM, 1, -1) if k % p == 0), 1)


def _in_pieces(kernel: L.LoopKernel, temp) -> L.TeamKernel | None:
    """The gradient of a convolution's weights by pieces of the batch: each piece's sums by
    themselves, then their sum, the same for any number of threads."""
    if len(kernel.body) != 1 or not isinstance(call := kernel.body[0], L.Convolve):
        return None
    amount, pieces = work(kernel.body), _pieces(call)
    if call.shape.method != "sums" or pieces == 1 or not _is_enough(amount):
        return None
    each, size = call.channels // pieces, _spans(call)[2]
    parts, index = temp(call.out.dtype, pieces * size), L.variable("j0")
    strides = call.shape.x_strides[1], call.shape.w_strides[1], size
    starts = tuple(
        start + L.variable("i0") * (stride * count)
        for start, stride, count in zip(call.starts, strides, (each, each, 1), strict=True)
    )
    shape = replace(call.shape, channels=each)
    piece = replace(call, out=parts, starts=starts, shape=shape, channels=each)
    shared = L.For("i0", pieces, [piece])
    value = L.Load(call.out.dtype, parts, L.variable("i0") * size + index)
    total = L.Ref(call.out.dtype, "s0")
    finish: list[L.Stmt] = [
        L.Let("s0", L.Lit(call.out.dtype, "0.0")),
        L.For("i0", pieces, [L.Accumulate("s0", "sum", value)]),
        L.Store(call.out, call.starts[2] + index, total),
    ]
    lane, finish = _kernel(kernel, [shared]), _kernel(kernel, [L.For("j0", size, finish)])
    return L.TeamKernel(
        kernel.name, lane.body, lane.reads, (*lane.writes, *finish.writes), kernel.nodes,
        kernel.symbols, lane, finish, shared, pieces, 1, amount, {},
    )  # fmt: skip


def _pieces(call: L.Convolve) -> int:
    """Of a convolution's channels, each of some length: adding the lanes of vectors is the end."""
    if not isinstance(call.channels, int):
        return 1
    vectors = -(-call.shape.window[-1] // _LINE) * math.prod(call.shape.window[:-1])
    fitting = (p for p in range(MAX_PARTS, 1, -1) if call.channels % p == 0)
    return next((p for p in fitting if call.channels // p * vectors >= _PIECE), 1)


def _is_enough(amount: DimLike) -> bool:
    return not isinstance(amount, int) or amount >= 2 * GRAIN


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
        if not _is_enough(amount):
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
                    added = _op_of_sum(stmt, buffer)
                    if added is None or op not in ("", added):
                        return None
                    sums[id(buffer)] = (buffer, added)
        for key, (_, op) in sums.items():
            if not op or not all(_is_neutral(op, expr) for expr in first[key]):
                return None
        if any(id(b) in sums for s in L.statements(before) for b in _read(s)):
            return None
        return sums

    def _private(self, before, after, sums) -> list[L.Buffer] | None:
        """Buffers of which each part has its own; None if steps are not independent.

        Steps are independent where all that they do with a buffer stays within as many elements
        for each, one step's behind the other's. Scratch memory that does not follow the step is
        the part's own.
        """
        found: dict[int, list[tuple[_Access, str | None]]] = {}
        for stmt, loops in _within(self.main):
            if isinstance(stmt, L.ScatterAdd):
                return None
            for access in _accesses(stmt, self.main.var):
                step = self._elements_of_a_step(access, loops)
                found.setdefault(id(access.buffer), []).append((access, step))
        packed = [s.product.work for s in L.statements(before) if isinstance(s, L.Pack)]
        private = {id(b): b for b in packed}
        for key, uses in found.items():
            buffer = uses[0][0].buffer
            if key in sums or key in private or not any(access.written for access, _ in uses):
                continue
            if isinstance(buffer, L.Part):
                return None
            steps = {step for _, step in uses}
            if len(steps) == 1 and None not in steps:
                continue
            if not (self.own(buffer) and uses[0][0].written):
                return None
            private[key] = buffer
        if not all(self.own(b) for b in private.values()):
            return None
        outside = {id(b) for s in L.statements(after) for b in (*_read(s), *_written(s))}
        return None if outside & private.keys() else list(private.values())

    def _elements_of_a_step(self, access: _Access, loops: dict[str, L.For]) -> str | None:
        """How many elements further the next step begins, as text; None if a step may reach
        beyond them. ``loops`` are those around the access."""
        if access.start is None:
            return None
        step: DimLike = 0
        again, rows = self._again(), False
        low, high = access.start.offset, access.start.offset + access.span - 1
        for var, coeff in access.start.terms:
            count: DimLike = 1
            if var == self.main.var:
                step = step + coeff
            else:
                loop = loops.get(var)
                if loop is None:
                    return None
                count = loop.extent
                if loop.block and loop.block[0] == self.main.var:
                    count = loop.block[1]
                    step = step + coeff * count
                elif again and isinstance(coeff, int) and coeff % again == 0 and coeff >= 0:
                    rows = True
                    continue
                elif isinstance(loop, L.ForBlocks):
                    count = -(-count // loop.size) if isinstance(count, int) else count
            if isinstance(coeff, int) and coeff < 0:
                low = low + coeff * (count - 1)
            else:
                high = high + coeff * (count - 1)
        room = step - 1 - high
        if not (isinstance(low, int) and low >= 0 and isinstance(room, int) and room >= 0):
            return None
        return None if rows and step != self.main.size else str(step)

    def _again(self) -> int:
        """After how many elements panels of columns begin again, in the next row; 0 for rows."""
        main = self.main
        return main.extent if isinstance(main, L.ForBlocks) and main.var == PANEL else 0

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
        status = self._status()
        if combined or after or status:
            start = [s for s in before if not isinstance(s, L.Pack)]
            finish = _kernel(kernel, [*start, L.ForTeam("lane", 0, combined), *after])
        lane = _kernel(kernel, lane_body)
        if status is not None:
            assert finish is not None
            strides[status] = STATUS_STRIDE
            lane = replace(lane, writes=(*lane.writes, status))
            finish = replace(finish, reads=(*finish.reads, status))
        pieces = [kernel, lane] if finish is None else [kernel, lane, finish]
        reads, writes = (
            tuple(dict.fromkeys(b for p in pieces for b in getattr(p, which)))
            for which in ("reads", "writes")
        )
        size = self.main.size if isinstance(self.main, L.ForBlocks) else 1
        return L.TeamKernel(
            kernel.name, lane_body, reads, writes, kernel.nodes, kernel.symbols, lane, finish,
            main, self.main.extent, size, amount, strides, status,
        )  # fmt: skip

    def _status(self) -> L.Buffer | None:
        """Where each part says what index it found out of range; None if none is looked at."""
        for stmt in L.statements([self.main]):
            for expr in L.expressions(stmt):
                if isinstance(expr, L.Checked) or (isinstance(expr, L.Load) and expr.dynamic):
                    return self.temp(np.dtype(np.int64), STATUS_STRIDE * MAX_PARTS)
        return None


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


def _within(main: L.For) -> Iterator[tuple[L.Stmt, dict[str, L.For]]]:
    """Each statement of a loop, and the loops around it by their variables."""
    waiting: list[tuple[L.Stmt, dict[str, L.For]]] = [(main, {})]
    while waiting:
        stmt, loops = waiting.pop()
        yield stmt, loops
        if isinstance(stmt, L.For):
            loops = {**loops, stmt.var: stmt}
            waiting += [(inner, loops) for inner in reversed(stmt.body)]


@dataclass(frozen=True)
class _Access:
    """``span`` elements of a buffer, from ``start`` on; None: anywhere."""

    buffer: L.Buffer
    start: L.Affine | None
    span: DimLike
    written: bool


def _accesses(stmt: L.Stmt, step: str) -> Iterator[_Access]:
    """What a statement reads, then what it writes; ``step`` is the variable of the shared loop."""
    for expr in L.expressions(stmt):
        if isinstance(expr, L.Load):
            span = sum((stride * (size - 1) for _, stride, size, _ in expr.dynamic), start=1)
            yield _Access(expr.buffer, expr.index, span, False)
    if isinstance(stmt, L.Product):
        yield from _accesses_of_product(stmt, step)
    elif isinstance(stmt, L.Convolve):
        for buffer, start, span in zip(
            (stmt.x, stmt.w, stmt.out), stmt.starts, _spans(stmt), strict=True
        ):
            yield _Access(buffer, start, span, buffer is stmt.out)
    elif isinstance(stmt, L.Pool):
        small = stmt.shape.rows * stmt.shape.columns
        large = small * stmt.shape.down * stmt.shape.across
        spans = (large, *[small] * (len(stmt.operands) - 1))
        for buffer, start, span in zip(stmt.operands, stmt.starts, spans, strict=False):
            yield _Access(buffer, start, span, False)
        span = large if stmt.shape.method == "spread" else small
        yield _Access(stmt.out, stmt.starts[-1], span, True)
    for buffer in _written(stmt):
        if isinstance(stmt, L.Store | L.AccumulateInto):
            yield _Access(buffer, stmt.index, 1, True)
        elif not isinstance(stmt, L.Convolve | L.Pool) and buffer is not getattr(stmt, "c", None):
            yield _Access(buffer, None, 0, True)


def _accesses_of_product(call: L.Product, step: str) -> Iterator[_Access]:
    m, n, k, rows = call.m, call.n, call.k, call.rows
    a, b, c = call.starts
    if call.adds and call.block == step:
        spans = rows * m, rows * n, m * n
    elif call.block == step:
        # A tile that would reach beyond the last row is moved up, where there are few into another
        # step's rows: what it computes there again comes out the same, unless what it reads is
        # made by that step.
        spans = rows * k, k * n, rows * n
        last = m % rows if isinstance(m, int) else 1
        if not call.own_rows and (rows < TILE_ROWS or 0 < last < TILE_ROWS):
            a = None
    else:
        a, b, c = (
            L.Affine(tuple(t for t in at.terms if t[0] != call.block), at.offset)
            for at in call.starts
        )
        spans = m * k, k * n, n if call.c_row else m * n
    if call.ta and not call.adds and call.block == step:
        a = None  # columns
    for buffer, start, span in zip((call.a, call.b), (a, b), spans, strict=False):
        yield _Access(buffer, start, span, False)
    yield _Access(call.c, c, spans[2], True)


def _spans(call: L.Convolve) -> list[DimLike]:
    """How far a convolution reaches into x, w and out."""
    shape, (image, channel, *_) = call.shape, call.shape.x_strides
    x = (shape.images - 1) * image + (call.channels - 1) * channel + 1
    for steps, count in ((shape.steps, shape.places), (shape.reaches, shape.window)):
        x = x + sum(s * (n - 1) for s, n in zip(steps, count, strict=True))
    of_filter, of_channel = shape.w_strides
    w = (shape.filters - 1) * of_filter + (call.channels - 1) * of_channel
    return [x, w + math.prod(shape.window), shape.images * shape.filters * math.prod(shape.places)]


def _op_of_sum(stmt: L.Stmt, buffer: L.Buffer) -> str | None:
    """How a statement adds to what a buffer holds."""
    if isinstance(stmt, L.Product):
        return "sum" if stmt.adds and stmt.c is buffer else None
    return stmt.op if isinstance(stmt, L.AccumulateInto) else None


def _redirected(stmt: L.Stmt, copies: dict[int, L.Buffer]) -> L.Stmt:
    """A statement that writes to the copies of buffers."""
    if isinstance(stmt, L.For):
        return replace(stmt, body=[_redirected(s, copies) for s in stmt.body])
    if isinstance(stmt, L.Store | L.AccumulateInto) and id(stmt.buffer) in copies:
        return replace(stmt, buffer=copies[id(stmt.buffer)])
    if isinstance(stmt, L.Product) and id(stmt.c) in copies:
        return replace(stmt, c=copies[id(stmt.c)])
    return stmt


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
            total = total + stmt.m * (stmt.of or stmt.n) * stmt.k
        elif isinstance(stmt, L.Pack):
            total = total + stmt.product.n * stmt.product.k * _MOVE
        elif isinstance(stmt, L.Convolve):
            sizes = (stmt.channels, stmt.shape.filters, *stmt.shape.places, *stmt.shape.window)
            total = total + math.prod(sizes, start=2 * stmt.shape.images)
        elif isinstance(stmt, L.Pool):
            shape = stmt.shape
            total = total + _MOVE * shape.rows * shape.down * shape.columns * shape.across
        else:
            each = _MOVE if isinstance(stmt, L.Store | L.AccumulateInto) else 0
            for expr in L.expressions(stmt):
                if isinstance(expr, L.Load):
                    each += _MOVE
                elif isinstance(expr, L.Apply):
                    each += 2 * (L.COSTS.get(expr.op) or OPS[expr.op].cost)
            total = total + each
    return total
