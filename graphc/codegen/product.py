"""Matrix products as LLVM code: register tiles for the shape at hand.

Shapes are numbers where they are known, so strides are parts of addresses, edges are known masks
and no product pays for generality. What is emitted needs no optimizer; ``llvm_backend`` links it
behind the optimized kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from graphc.codegen.program import ProductFunction
from graphc.codegen.tiles import LATENCY, Panel, Registers, Tiling, packed_tilings, tiling
from graphc.codegen.vectors import I32, I64, REALS, Loop, Vectors
from graphc.schedule.products import CHUNK_ROWS, CHUNK_TERMS, TILE_ROWS

_FAR = 1024  # bytes between rows of B that no processor expects: they are asked for in advance
_AHEAD = 16  # rows
_UNROLLED, _LONG_SUM = 4, 256
_SHORT_DOT = 4  # vectors
_LINE = 64  # bytes that come together
_MASKED_LOADS = 32  # bytes of the vectors of processors that have them


def products_module(products: Sequence[ProductFunction], registers: Registers, triple: str) -> str:
    """LLVM text of the functions of products, named as in the program."""
    module = ir.Module("graphc_products")
    module.triple = triple
    for product in products:
        emitter = _Product(module, product, registers)
        emitter.emit()
        if product.method == "whole":
            emitter.emit_pack()
    return str(module)


def argument_types(product: ProductFunction) -> list[ir.Type]:
    """What a product's function takes: a, each b and c, each further a and b, perhaps a row,
    perhaps work, then m, k, count, and what it asks for."""
    pointers = 1 + 2 * (len(product.columns) + len(product.sums)) + product.row
    pointers += product.method in ("panel", "chunks")
    pointer = REALS[product.kind][0].as_pointer()
    return [pointer] * pointers + [I64] * 3 + [pointer] * product.ahead


def pack_argument_types(product: ProductFunction) -> list[ir.Type]:
    """What its pack takes: b, work, k."""
    return [REALS[product.kind][0].as_pointer()] * 2 + [I64]


@dataclass(frozen=True)
class _Lines:
    """``rows`` times ``lines`` lines of the cache from ``start`` on, rows ``step`` apart."""

    start: ir.Value
    step: int
    lines: int
    rows: int


@dataclass(frozen=True)
class _Asked:
    """Lines at ``places`` and, every turn, ``step`` elements further, for so many turns."""

    places: tuple
    step: ir.Constant
    turns: int


class _Product:
    """Emits one product, and what packs its B: panels one behind the other, the one from column j
    at element j * k, each row of a panel contiguous."""

    def __init__(self, module: ir.Module, product: ProductFunction, registers: Registers):
        self.product, self.registers = product, registers
        self.v = Vectors(module, product.kind, registers)
        rows = product.rows if product.m is not None else None  # fewer may come than are usual
        if product.method == "chunks":
            every = packed_tilings(rows, product.columns, self.v.lanes, registers.count)
        else:
            every = (tiling(rows, product.n, self.v.lanes, registers.count),)
        self.tiling, self.tilings = every[0], every
        self.b_row, self.c_row = product.of or product.n, product.c_row or product.n

    def emit(self) -> None:
        p, v = self.product, self.v
        packs = p.method in ("panel", "chunks")
        self.squares = _transposing_pack(v) if packs and p.tb else None
        self.next: _Lines | None = None  # of B, that tiles ask for
        function = v.function(p.name, argument_types(p))
        arguments = list(function.args)
        self.ahead = [arguments.pop() for _ in range(p.ahead)]
        self.a, *arrays, m, k, self.count = arguments
        rest = iter(arrays)
        self.pairs = [(next(rest), next(rest)) for _ in p.columns]  # each b and c
        self.also = [(next(rest), next(rest), I64(k)) for k in p.sums]
        self.row = next(rest) if p.row else None
        (self.b, self.c), work = self.pairs[0], list(rest)
        self.m = m if p.m is None else I64(p.m)
        self.k = k if p.k is None else I64(p.k)
        self.a_row, self.a_step = (I64(1), self.m) if p.ta else (self.k, I64(1))
        if p.method == "dots":
            self._dots()
        elif p.method == "chunks":
            self._chunks(work[0])
        else:
            for panel, column in self._panels(self.tiling):
                if p.method == "panel":
                    self._pack(panel, column, self.b, work[0], self.k)
                    self.next = self._next_panel(panel, column)
                self._rows(panel, column, *work)
        v.builder.ret_void()

    def _panels(self, tiling: Tiling):
        """Inside the loop over the panels of each kind: the panel and its first column."""
        v = self.v
        for panel in tiling.panels:
            with Loop(v.builder, I64(panel.count)) as loop:
                step = v.builder.mul(loop.index, I64(panel.vectors * v.lanes))
                yield panel, v.builder.add(step, I64(panel.first))

    def _rows(self, panel: Panel, column, work=None) -> None:
        """All rows of one panel of columns."""
        p, v = self.product, self.v
        b_step = I64(self.b_row if p.method == "direct" else panel.vectors * v.lanes)
        if p.method == "direct":
            sources = [v.at(b, column) for b in (self.b, *(b for _, b, _ in self.also))]
        else:
            sources = [work or v.at(self.b, v.builder.mul(column, self.k))]
            sources += [v.at(b, v.builder.mul(column, k)) for _, b, k in self.also]
        rows = self.tiling.rows
        if p.adds:
            self._disjoint_tiles(panel, rows, column, sources, b_step)
            return
        if rows == 1 or p.m is not None:
            self._tiles(panel, rows, column, sources, b_step)
            return
        enough = v.builder.icmp_signed(">=", self.m, I64(rows))
        with v.builder.if_else(enough) as (many, few):
            with many:
                self._tiles(panel, rows, column, sources, b_step)
            with few:
                self._tiles(panel, 1, column, sources, b_step)

    def _tiles(self, panel: Panel, rows: int, column, sources, b_step) -> None:
        """Tiles below each other; one that would reach beyond the last row is moved up, perhaps
        above the first, and what two tiles cover is computed twice."""
        p, v = self.product, self.v
        b = v.builder
        with Loop(b, b.sdiv(b.add(self.count, I64(rows - 1)), I64(rows))) as loop:
            row = b.mul(loop.index, I64(rows))
            if rows > 1 and not (p.exact and p.rows % rows == 0):
                row = self._moved_up(row, rows, self.count)
            self._tile(panel, rows, row, column, sources, b_step)

    def _disjoint_tiles(self, panel: Panel, rows: int, column, sources, b_step) -> None:
        """Tiles of all rows, each row in one tile: what is added must be added once."""
        b = self.v.builder
        whole, rest = divmod(self.product.m, rows)
        with Loop(b, I64(whole)) as loop:
            self._tile(panel, rows, b.mul(loop.index, I64(rows)), column, sources, b_step)
        if rest:
            self._tile(panel, rest, I64(whole * rows), column, sources, b_step)

    def _tile(self, panel: Panel, rows: int, row, column, sources, b_step) -> None:
        """``rows`` rows from ``row`` on, of the columns of a panel."""
        v, live = self.v, _live(panel, self.v)
        c = v.at(self.c, v.builder.add(v.times(row, I64(self.c_row)), column))
        places = [
            (v.at(c, I64(r * self.c_row + j * v.lanes)), lanes)
            for r in range(rows) for j, lanes in enumerate(live)
        ]  # fmt: skip
        totals = None
        if self.product.adds:
            totals = [v.load(*place) for place in places]
        elif self.row is not None:
            start = v.at(self.row, column)
            totals = [v.load(v.at(start, I64(j * v.lanes)), x) for j, x in enumerate(live)] * rows
        asked = self._asked(panel, rows, row, column)
        lefts = [(self.a, self.a_row, self.a_step, self.k)]
        lefts += [(a, k, I64(1), k) for a, _, k in self.also]
        for (a, a_row, a_step, k), source in zip(lefts, sources, strict=True):
            left = v.at(a, v.times(row, a_row)), a_row, a_step
            totals = self._sums(panel, rows, left, source, b_step, k, totals, asked)
            asked = []
        for value, place in zip(totals, places, strict=True):
            v.store(value, *place)

    def _asked(self, panel: Panel, rows: int, row, column) -> list[_Asked]:
        """What a tile asks for: its part of the next panel of B, and of each array that comes after
        the product as many elements as it has, one behind the other."""
        v, b = self.v, self.v.builder
        found = []
        if self.next is not None:
            found.append(self._part(self.next, rows, row))
        if self.ahead:
            width = I64(panel.vectors * v.lanes)
            behind = b.add(b.mul(column, self.count), v.times(row, width))
            places = tuple(v.at(array, behind) for array in self.ahead)
            found.append(_Asked(places, I64(v.lanes), rows * panel.vectors))
        return found

    def _next_panel(self, panel: Panel, column) -> _Lines | None:
        """Lines of B that are packed after a panel: while tiles compute the way to memory is idle,
        and rows far apart come as slowly as nobody has asked for them."""
        v, b, p = self.v, self.v.builder, self.product
        if p.k is None or (p.of or p.n) <= panel.vectors * v.lanes:
            return None
        width = panel.vectors * v.lanes
        column = b.add(column, I64(width))
        lines = -(-width * v.itemsize // _LINE)
        if p.tb:
            return _Lines(v.at(self.b, b.mul(column, self.k)), _LINE // v.itemsize, 1, p.k * lines)
        return _Lines(v.at(self.b, column), self.b_row, lines, p.k)

    def _part(self, wanted: _Lines, rows: int, row) -> _Asked:
        """An equal part of them for each tile of the panel."""
        v, b, p = self.v, self.v.builder, self.product
        turns = p.k // self._unrolled(self.k)
        tiles = -(-p.rows // rows)
        each = min(-(-wanted.rows // tiles), turns)
        number = b.sdiv(row, I64(rows))
        start = v.at(wanted.start, b.mul(number, I64(each * wanted.step)))
        line = _LINE // v.itemsize
        places = tuple(v.at(start, I64(k * line)) for k in range(wanted.lines))
        return _Asked(places, I64(wanted.step), each)

    def _sums(
        self, panel: Panel, rows: int, left, source, b_step, k, totals=None, asked=()
    ) -> list:
        """The vectors of a tile, row by row; ``left`` is where A begins, and its two steps;
        ``totals``, what is there to add to; ``asked``, what is asked for in the turns of the sum,
        one behind the other."""
        v, b = self.v, self.v.builder
        a, a_row, a_step = left
        vectors, live = range(panel.vectors), _live(panel, v)
        far = self.product.method == "direct" and self.b_row * v.itemsize >= _FAR
        ahead = b.mul(b_step, I64(_AHEAD))

        def step(a, row_of_b, totals):
            for j in vectors if far else ():
                v.prefetch(v.at(row_of_b, b.add(ahead, I64(j * v.lanes))))
            columns = [v.load(v.at(row_of_b, I64(j * v.lanes)), live[j]) for j in vectors]
            totals = list(totals)
            for r in range(rows):
                x = v.splat(b.load(v.at(a, v.times(I64(r), a_row))))
                for j in vectors:
                    at = r * panel.vectors + j
                    totals[at] = v.multiply_add(x, columns[j], totals[at])
            return totals

        zeros = [v.zero()] * (rows * panel.vectors)
        apart = LATENCY // len(zeros) if self.product.adds else 1
        if apart > 1:  # sums that do not wait for each other
            whole = b.sdiv(k, I64(apart))
            k = b.sub(k, b.mul(whole, I64(apart)))
            with Loop(b, whole, [a, source, *(totals or zeros), *zeros * (apart - 1)]) as loop:
                a, row_of_b, *every = loop.carried
                for first in range(0, len(every), len(zeros)):
                    here = slice(first, first + len(zeros))
                    every[here] = step(a, row_of_b, every[here])
                    a, row_of_b = v.at(a, a_step), v.at(row_of_b, b_step)
                loop.carried = [a, row_of_b, *every]
            a, source, *every = loop.carried
            totals = every[: len(zeros)]
            for at, more in enumerate(every[len(zeros) :]):
                place = at % len(zeros)
                totals[place] = b.fadd(totals[place], more)
        turns = self._unrolled(k)
        count = k if turns == 1 else I64(k.constant // turns)

        def summed(count, state, step_of_places=None) -> list:
            with Loop(b, count, state) as loop:
                *places, a, row_of_b = loop.carried[: len(state) - len(zeros)]
                totals = loop.carried[len(state) - len(zeros) :]
                for place in places:
                    v.prefetch(place, near=False)
                for turn in range(turns):
                    if turn:
                        v.fence()
                    here = v.at(a, v.times(I64(turn), a_step)) if turn else a
                    totals = step(here, v.at(row_of_b, v.times(I64(turn), b_step)), totals)
                over = [v.times(I64(turns), by) for by in (a_step, b_step)]
                places = [v.at(place, step_of_places) for place in places]
                loop.carried = [*places, v.at(a, over[0]), v.at(row_of_b, over[1]), *totals]
            return loop.carried

        state = [a, source, *(totals or zeros)]
        known = isinstance(count, ir.Constant)
        for each in asked:
            if known and count.constant < each.turns:
                continue
            first = I64(each.turns) if known else _smaller(b, I64(each.turns), count)
            state = summed(first, [*each.places, *state], each.step)[len(each.places) :]
            count = I64(count.constant - each.turns) if known else b.sub(count, first)
        return summed(count, state)[2:]

    def _unrolled(self, k) -> int:
        """Steps of the sum in a turn of its loop. Fewer instructions a step let the processor look
        further ahead, where rows of A or B come from afar (measured: 1.05 to 1.2 times)."""
        known = isinstance(k, ir.Constant) and k.constant % _UNROLLED == 0
        long = self.product.ta or (known and k.constant >= _LONG_SUM)
        return _UNROLLED if known and long else 1

    def _chunks(self, work) -> None:
        """For a long sum over a wide transposed A. A's rows are far apart, so it is packed too:
        for so many rows of the result and so many terms of the sum at a time, tile by tile. Then
        a panel of B stays in the first-level cache, what is packed of A in the second, and the
        result is read and written once for each chunk of the sum."""
        v, rows = self.v, self.tiling.rows
        b, most = v.builder, I64(-(-CHUNK_ROWS // rows) * rows)
        panel_at = v.at(work, I64(CHUNK_TERMS * (CHUNK_ROWS + TILE_ROWS)))
        with Loop(b, _pieces(b, self.count, most)) as down:
            first = b.mul(down.index, most)
            count = _smaller(b, most, b.sub(self.count, first))
            chunks = _pieces(b, self.k, I64(CHUNK_TERMS))
            chunks = b.select(b.icmp_signed(">", chunks, I64(0)), chunks, I64(1))
            with Loop(b, chunks) as along:  # one for an empty sum, which is 0
                term = b.mul(along.index, I64(CHUNK_TERMS))
                terms = _smaller(b, I64(CHUNK_TERMS), b.sub(self.k, term))
                a = v.at(self.a, b.add(b.mul(term, self.a_step), first))
                self._pack_rows(a, work, rows, count, terms)
                results = zip(self.product.columns, self.tilings, self.pairs, strict=True)
                for n, tiles, (right, result) in results:
                    for panel, column in self._panels(tiles):
                        self._pack(panel, column, right, panel_at, terms, term, n)
                        c = v.at(result, b.add(b.mul(first, I64(n)), column))
                        self._chunk_tiles(panel, work, panel_at, c, count, term, terms, n)

    def _pack_rows(self, a, target, rows: int, count, terms) -> None:
        """Tiles of ``rows`` columns of the stored matrix, one behind the other, each term after
        term, in the order in which it lies in memory."""
        v, b = self.v, self.v.builder
        whole = b.sdiv(count, I64(rows))
        left = b.sub(count, b.mul(whole, I64(rows)))
        some = b.select(b.icmp_signed(">", left, I64(0)), I64(1), I64(0))
        apart = b.mul(terms, I64(rows))
        with Loop(b, terms) as loop:
            source = v.at(a, b.mul(loop.index, self.a_step))
            place = v.at(target, b.mul(loop.index, I64(rows)))
            with Loop(b, whole, [source, place]) as tiles:
                source, place = tiles.carried
                kind = ir.VectorType(v.real, rows).as_pointer()
                value = b.load(b.bitcast(source, kind))
                value.align = v.itemsize
                b.store(value, b.bitcast(place, kind)).align = v.itemsize
                tiles.carried = [v.at(source, I64(rows)), v.at(place, apart)]
            with Loop(b, some):
                source, place = tiles.carried
                for q in range(0, rows, v.lanes):
                    mask = v.first_lanes(b.sub(left, I64(q)))
                    value = v.load(v.at(source, I64(q)), mask)
                    v.store(value, v.at(place, I64(q)), min(v.lanes, rows - q))

    def _chunk_tiles(self, panel: Panel, a, source, c, count, term, terms, n: int) -> None:
        """Tiles below each other, added to what the chunks before have left in C."""
        v, b, rows = self.v, self.v.builder, self.tiling.rows
        width, tile = I64(panel.vectors * v.lanes), b.mul(terms, I64(rows))
        with Loop(b, _pieces(b, count, I64(rows)), [a, c]) as loop:
            a, c = loop.carried
            left = (a, I64(1), I64(rows))
            sums = self._sums(panel, rows, left, source, width, terms)
            rest = b.sub(count, b.mul(loop.index, I64(rows)))
            with b.if_else(b.icmp_signed("==", term, I64(0))) as branches:
                for added, branch in enumerate(branches):
                    with branch:
                        for r in range(rows):
                            with b.if_then(b.icmp_signed(">", rest, I64(r))):
                                row = sums[r * panel.vectors : (r + 1) * panel.vectors]
                                self._store_row(panel, row, v.at(c, I64(r * n)), added)
            loop.carried = [v.at(a, tile), v.at(c, I64(rows * n))]

    def _store_row(self, panel: Panel, row: list, c, added: int) -> None:
        v = self.v
        for j, (value, live) in enumerate(zip(row, _live(panel, v), strict=True)):
            place = v.at(c, I64(j * v.lanes))
            if added:
                value = v.builder.fadd(value, v.load(place, live))
            v.store(value, place, live)

    def emit_pack(self) -> None:
        """The function that packs all panels."""
        p, v = self.product, self.v
        self.squares = _transposing_pack(v) if p.tb else None
        function = v.function(p.pack_name, pack_argument_types(p))
        b, work, k = function.args
        self.k = k = k if p.k is None else I64(p.k)
        for panel, column in self._panels(self.tiling):
            self._pack(panel, column, b, v.at(work, v.builder.mul(column, k)), k)
        v.builder.ret_void()

    def _pack(self, panel: Panel, column, b, target, terms, term=None, n=None) -> None:
        """Rows of a panel of B (``terms``, from ``term`` on) lie far apart or, transposed, are
        columns; and their distance, often a power of two, puts them all into a few lines of the
        cache."""
        v = self.v
        width, row = I64(panel.vectors * v.lanes), I64(self.b_row if n is None else n)
        if self.squares is not None:
            source = v.at(b, v.builder.mul(column, self.k))
            source = source if term is None else v.at(source, term)
            live = I64((panel.vectors - 1) * v.lanes + panel.live)
            v.builder.call(self.squares, [source, target, self.k, width, live, terms])
            return
        if term is not None:
            b = v.at(b, v.builder.mul(term, row))
        with Loop(v.builder, terms, [v.at(b, column), target]) as loop:
            source, target = loop.carried
            for j in range(panel.vectors):
                live = panel.live if j == panel.vectors - 1 else v.lanes
                value = v.load(v.at(source, I64(j * v.lanes)), live)
                v.store(value, v.at(target, I64(j * v.lanes)), v.lanes)
            loop.carried = [v.at(source, row), v.at(target, width)]

    def _dots(self) -> None:
        """Each element a dot product of contiguous rows, of tiles of rows of A by two rows of B."""
        p, v = self.product, self.v
        b, most = v.builder, self.registers.count // 4
        if p.n == 1:  # their sums fill one vector
            most = min(2 * most, v.lanes)
        rows = min(most, p.rows) if p.m is not None else most
        if p.m is not None or rows == 1:
            self._dot_tiles(rows)
            return
        with b.if_else(b.icmp_signed(">=", self.m, I64(rows))) as (many, few):
            with many:
                self._dot_tiles(rows)
            with few:
                self._dot_tiles(1)

    def _dot_tiles(self, rows: int) -> None:
        p, v = self.product, self.v
        b = v.builder
        columns = min(2, p.n)
        with Loop(b, b.sdiv(b.add(self.count, I64(rows - 1)), I64(rows))) as down:
            row = self._moved_up(b.mul(down.index, I64(rows)), rows, self.count)
            with Loop(b, I64(-(-p.n // columns))) as across:
                column = b.mul(across.index, I64(columns))
                column = self._moved_up(column, columns, I64(p.n))
                a = v.at(self.a, b.mul(row, self.k))
                other = v.at(self.b, b.mul(column, self.k))
                sums = self._dot_tile(rows, columns, a, other)
                c = v.at(self.c, b.add(b.mul(row, I64(p.n)), column))
                self._store_dots(sums, c, rows, columns)

    def _store_dots(self, sums: list, c, rows: int, columns: int) -> None:
        v, b, n = self.v, self.v.builder, self.product.n
        if n == 1 and rows <= v.lanes:
            v.store(sums[0], c, rows)
            return
        for index in range(rows * columns):
            r, j = divmod(index, columns)
            value = b.extract_element(sums[index // v.lanes], I32(index % v.lanes))
            b.store(value, v.at(c, I64(r * n + j)))

    def _moved_up(self, start, size: int, end):
        b = self.v.builder
        last = b.sub(end, I64(size))
        return b.select(b.icmp_signed("<", start, last), start, last)

    def _dot_tile(self, rows: int, columns: int, a, other) -> list:
        """Vectors of the sums, row by row."""
        v, b = self.v, self.v.builder
        pairs = [(r, j) for r in range(rows) for j in range(columns)]

        def step(p, live, totals):
            left = [v.load(v.at(a, b.add(p, v.times(I64(r), self.k))), live) for r in range(rows)]
            right = [
                v.load(v.at(other, b.add(p, v.times(I64(j), self.k))), live) for j in range(columns)
            ]
            return [
                v.multiply_add(left[r], right[j], total)
                for (r, j), total in zip(pairs, totals, strict=True)
            ]

        if isinstance(self.k, ir.Constant) and self.k.constant <= _SHORT_DOT * v.lanes:
            totals = [v.zero()] * len(pairs)
            for p in range(0, self.k.constant, v.lanes):
                totals = step(I64(p), min(v.lanes, self.k.constant - p), totals)
            return self._sums_of(totals)
        whole = b.sdiv(self.k, I64(v.lanes))
        with Loop(b, whole, [v.zero()] * len(pairs)) as loop:
            loop.carried = step(b.mul(loop.index, I64(v.lanes)), None, loop.carried)
        done = b.mul(whole, I64(v.lanes))
        left = b.sub(self.k, done)
        some = b.select(b.icmp_signed(">", left, I64(0)), I64(1), I64(0))
        with Loop(b, some, loop.carried) as rest:
            rest.carried = step(done, v.first_lanes(left), rest.carried)
        return self._sums_of(rest.carried)

    def _sums_of(self, totals: list) -> list:
        """The sums of the lanes of each, so many to a vector."""
        v = self.v
        totals = totals + [v.zero()] * (-len(totals) % v.lanes)
        groups = range(0, len(totals), v.lanes)
        return [v.sums(totals[first : first + v.lanes]) for first in groups]


def _live(panel: Panel, v: Vectors) -> list[int]:
    """Lanes of each vector of a panel that are columns of the matrix."""
    return [v.lanes] * (panel.vectors - 1) + [panel.live]


def _pieces(b: ir.IRBuilder, count, size: ir.Constant):
    """How many pieces of ``size`` cover ``count``."""
    return b.sdiv(b.add(count, I64(size.constant - 1)), size)


def _smaller(b: ir.IRBuilder, x, y):
    return b.select(b.icmp_signed("<", x, y), x, y)


def _transposing_pack(v: Vectors) -> ir.Function:
    """``target[p * width + q] = source[q * stride + p]`` for p < steps and q < columns, squares of
    vectors at a time; what it writes beyond has no meaning. One for all products of a dtype."""
    name = f"graphc_pack_{v.kind}"
    if name in v.module.globals:
        return v.module.globals[name]
    pointer = v.real.as_pointer()
    function = v.function(name, [pointer, pointer, I64, I64, I64, I64])
    source, target, stride, width, columns, steps = function.args
    b, lanes = v.builder, I64(v.lanes)

    def square(starts, p, mask, column) -> None:
        rows = v.transposed([v.load(v.at(start, p), mask) for start in starts])
        to = v.at(target, b.add(b.mul(p, width), column))
        for row in rows:
            v.store(row, to, v.lanes)
            to = v.at(to, width)

    with Loop(b, b.sdiv(b.add(columns, I64(v.lanes - 1)), lanes)) as loop:
        column = b.mul(loop.index, lanes)
        starts = []
        for q in range(v.lanes):  # rows that do not exist are read as the last
            row, last = b.add(column, I64(q)), b.sub(columns, I64(1))
            row = b.select(b.icmp_signed("<", row, last), row, last)
            starts.append(v.at(source, b.mul(row, stride)))
        masked = v.nbytes >= _MASKED_LOADS  # one square, masked always, is half the code
        whole = b.sdiv(b.add(steps, I64(v.lanes - 1)) if masked else steps, lanes)
        with Loop(b, whole) as squares:
            p = b.mul(squares.index, lanes)
            square(starts, p, v.first_lanes(b.sub(steps, p)) if masked else None, column)
        if not masked:
            done = b.mul(whole, lanes)
            left = b.sub(steps, done)
            with b.if_then(b.icmp_signed(">", left, I64(0))):
                square(starts, done, v.first_lanes(left), column)
    b.ret_void()
    return function
