"""Matrix products as LLVM code: register tiles for the shape at hand.

Shapes are numbers where they are known, so strides are parts of addresses, edges are known masks
and no product pays for generality. What is emitted needs no optimizer; ``llvm_backend`` links it
behind the optimized kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from graphc.codegen.tiles import Panel, Registers, tiling
from graphc.codegen.writer import ProductFunction

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_REALS = {"f32": (ir.FloatType(), 4), "f64": (ir.DoubleType(), 8)}
_DOT_ROWS = 8
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
    """What a product's function takes: a, b, c, perhaps work, then m, k, count."""
    pointers = 4 if product.method == "panel" else 3
    return [_REALS[product.kind][0].as_pointer()] * pointers + [_I64] * 3


def pack_argument_types(product: ProductFunction) -> list[ir.Type]:
    """What its pack takes: b, work, k."""
    return [_REALS[product.kind][0].as_pointer()] * 2 + [_I64]


class _Loop:
    """``for i in range(count)`` with values carried from turn to turn.

    Inside, set ``carried`` to their next values; after the block it holds the final ones.
    """

    def __init__(self, builder: ir.IRBuilder, count, carried=()):
        self.builder, self.count, self.initial = builder, count, list(carried)

    def __enter__(self) -> _Loop:
        b = self.builder
        self.before = b.block
        self.head, self.exit = b.append_basic_block("loop"), b.append_basic_block("end")
        b.cbranch(b.icmp_signed(">", self.count, _I64(0)), self.head, self.exit)
        b.position_at_end(self.head)
        self.index = b.phi(_I64)
        self.index.add_incoming(_I64(0), self.before)
        self.phis = [self._phi(v) for v in self.initial]
        self.carried = list(self.phis)
        return self

    def __exit__(self, failed, *_):
        if failed:
            return
        b, last = self.builder, self.builder.block
        following = b.add(self.index, _I64(1), flags=("nsw",))
        b.cbranch(b.icmp_signed("<", following, self.count), self.head, self.exit)
        self.index.add_incoming(following, last)
        for phi, value in zip(self.phis, self.carried, strict=True):
            phi.add_incoming(value, last)
        b.position_at_end(self.exit)
        final = [self._phi(v) for v in self.initial]
        for phi, value in zip(final, self.carried, strict=True):
            phi.add_incoming(value, last)
        self.carried = final

    def _phi(self, value):
        phi = self.builder.phi(value.type)
        phi.add_incoming(value, self.before)
        return phi


class _Vectors:
    """Loads, stores and shuffles of whole vectors of one dtype in one function."""

    def __init__(self, module: ir.Module, kind: str, registers: Registers):
        self.module, self.kind = module, kind
        self.real, self.itemsize = _REALS[kind]
        self.lanes = registers.lanes(self.itemsize)
        self.nbytes = registers.nbytes
        self.type = ir.VectorType(self.real, self.lanes)
        self.builder: ir.IRBuilder = None

    def function(self, name: str, arguments: list[ir.Type]) -> ir.Function:
        kind = ir.FunctionType(ir.VoidType(), arguments)
        function = ir.Function(self.module, kind, name)
        for argument in function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        function.attributes.add("noinline")
        for attribute in ("prefer-vector-width", "min-legal-vector-width"):
            set.add(function.attributes, f'"{attribute}"="{8 * self.nbytes}"')
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        return function

    def call(self, name: str, result, arguments):
        kind = ir.FunctionType(result, [a.type for a in arguments])
        suffix = f"v{self.lanes}{self.kind}" + (".p0" if "masked" in name else "")
        full = f"llvm.{name}.{suffix}"
        function = self.module.globals.get(full) or ir.Function(self.module, kind, full)
        return self.builder.call(function, arguments)

    def zero(self):
        return ir.Constant(self.type, [self.real(0.0)] * self.lanes)

    def at(self, pointer, offset):
        return self.builder.gep(pointer, [offset], inbounds=True)

    def times(self, x, y):
        if isinstance(x, ir.Constant) and isinstance(y, ir.Constant):
            return _I64(x.constant * y.constant)
        return self.builder.mul(x, y)

    def _mask(self, live):
        """Of the first ``live`` lanes, a number or a mask made at run time."""
        if not isinstance(live, int):
            return live
        kind = ir.VectorType(_I1, self.lanes)
        return ir.Constant(kind, [_I1(lane < live) for lane in range(self.lanes)])

    def load(self, pointer, live=None):
        place = self.builder.bitcast(pointer, self.type.as_pointer())
        if live is None or live == self.lanes:
            value = self.builder.load(place)
            value.align = self.itemsize
            return value
        arguments = [place, _I32(self.itemsize), self._mask(live), self.zero()]
        return self.call("masked.load", self.type, arguments)

    def store(self, value, pointer, live: int) -> None:
        place = self.builder.bitcast(pointer, self.type.as_pointer())
        if live == self.lanes:
            self.builder.store(value, place).align = self.itemsize
        else:
            arguments = [value, place, _I32(self.itemsize), self._mask(live)]
            self.call("masked.store", ir.VoidType(), arguments)

    def splat(self, value):
        kind = ir.VectorType(value.type, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        vector = self.builder.insert_element(undefined, value, _I32(0))
        return self.builder.shuffle_vector(vector, undefined, self._order([0] * self.lanes))

    def _order(self, lanes) -> ir.Constant:
        return ir.Constant(ir.VectorType(_I32, len(lanes)), [_I32(lane) for lane in lanes])

    def multiply_add(self, x, y, total):
        return self.call("fmuladd", self.type, [x, y, total])

    def first_lanes(self, count):
        """A mask of ``count`` (a run-time number) lanes."""
        kind = ir.VectorType(_I64, self.lanes)
        numbers = ir.Constant(kind, [_I64(lane) for lane in range(self.lanes)])
        return self.builder.icmp_signed("<", numbers, self.splat(count))

    def transposed(self, rows: list) -> list:
        """A square of vectors, transposed by swapping ever smaller blocks."""
        rows, size = list(rows), self.lanes // 2
        while size:
            for i in range(self.lanes):
                if not i & size:
                    rows[i], rows[i + size] = self._swapped(rows[i], rows[i + size], size)
            size //= 2
        return rows

    def sums(self, rows: list):
        """The vector of the sums of ``lanes`` vectors."""
        rows, size = list(rows), self.lanes // 2
        while size:
            for i in range(size):
                rows[i] = self.builder.fadd(*self._swapped(rows[i], rows[i + size], size))
            size //= 2
        return rows[0]

    def _swapped(self, x, y, size: int):
        """Two vectors after an exchange of their odd and even blocks of ``size`` lanes."""
        lanes = range(self.lanes)
        low = self._order([i if not i & size else self.lanes + i - size for i in lanes])
        high = self._order([i + size if not i & size else self.lanes + i for i in lanes])
        return self.builder.shuffle_vector(x, y, low), self.builder.shuffle_vector(x, y, high)


class _Product:
    """Emits one product, and what packs its B: panels one behind the other, the one from column j
    at element j * k, each row of a panel contiguous."""

    def __init__(self, module: ir.Module, product: ProductFunction, registers: Registers):
        self.product, self.registers = product, registers
        self.v = _Vectors(module, product.kind, registers)
        rows = product.rows if product.m is not None else None  # fewer may come than are usual
        self.tiling = tiling(rows, product.n, self.v.lanes, registers.count)

    def emit(self) -> None:
        p, v = self.product, self.v
        squares = _transposing_pack(v) if p.method == "panel" and p.tb else None
        function = v.function(p.name, argument_types(p))
        self.a, self.b, self.c, *work, m, k, self.count = function.args
        self.m = m if p.m is None else _I64(p.m)
        self.k = k if p.k is None else _I64(p.k)
        self.a_row, self.a_step = (_I64(1), self.m) if p.ta else (self.k, _I64(1))
        if p.method == "dots":
            self._dots()
        else:
            for panel, column in self._panels():
                if p.method == "panel":
                    self._pack(panel, column, self.b, work[0], self.k, squares)
                self._rows(panel, column, *work)
        v.builder.ret_void()

    def _panels(self):
        """Inside the loop over the panels of each kind: the panel and its first column."""
        v = self.v
        for panel in self.tiling.panels:
            with _Loop(v.builder, _I64(panel.count)) as loop:
                step = v.builder.mul(loop.index, _I64(panel.vectors * v.lanes))
                yield panel, v.builder.add(step, _I64(panel.first))

    def _rows(self, panel: Panel, column, work=None) -> None:
        """All rows of one panel of columns."""
        p, v = self.product, self.v
        b_step = _I64(p.n if p.method == "direct" else panel.vectors * v.lanes)
        if p.method == "direct":
            source = v.at(self.b, column)
        else:
            source = work or v.at(self.b, v.builder.mul(column, self.k))
        rows = self.tiling.rows
        if rows == 1 or p.m is not None:
            self._tiles(panel, rows, column, source, b_step)
            return
        enough = v.builder.icmp_signed(">=", self.m, _I64(rows))
        with v.builder.if_else(enough) as (many, few):
            with many:
                self._tiles(panel, rows, column, source, b_step)
            with few:
                self._tiles(panel, 1, column, source, b_step)

    def _tiles(self, panel: Panel, rows: int, column, source, b_step) -> None:
        """Tiles below each other; one that would reach beyond the last row is moved up, perhaps
        above the first, and what two tiles cover is computed twice."""
        p, v = self.product, self.v
        b = v.builder
        with _Loop(b, b.sdiv(b.add(self.count, _I64(rows - 1)), _I64(rows))) as loop:
            row = b.mul(loop.index, _I64(rows))
            if rows > 1 and not (p.exact and p.rows % rows == 0):
                row = self._moved_up(row, rows, self.count)
            a = v.at(self.a, b.mul(row, self.a_row))
            c = v.at(self.c, b.add(b.mul(row, _I64(p.n)), column))
            self._tile(panel, rows, a, source, b_step, c)

    def _tile(self, panel: Panel, rows: int, a, source, b_step, c) -> None:
        v, b = self.v, self.v.builder
        vectors = range(panel.vectors)
        live = [v.lanes] * (panel.vectors - 1) + [panel.live]

        def step(a, row_of_b, *totals):
            columns = [v.load(v.at(row_of_b, _I64(j * v.lanes)), live[j]) for j in vectors]
            totals = list(totals)
            for r in range(rows):
                x = v.splat(b.load(v.at(a, v.times(_I64(r), self.a_row))))
                for j in vectors:
                    at = r * panel.vectors + j
                    totals[at] = v.multiply_add(x, columns[j], totals[at])
            return [v.at(a, self.a_step), v.at(row_of_b, b_step), *totals]

        zeros = [v.zero()] * (rows * panel.vectors)
        with _Loop(b, self.k, [a, source, *zeros]) as loop:
            loop.carried = step(*loop.carried)
        totals = loop.carried[2:]
        for r in range(rows):
            for j in vectors:
                place = v.at(c, _I64(r * self.product.n + j * v.lanes))
                v.store(totals[r * panel.vectors + j], place, live[j])

    def emit_pack(self) -> None:
        """The function that packs all panels."""
        p, v = self.product, self.v
        squares = _transposing_pack(v) if p.tb else None
        function = v.function(p.pack_name, pack_argument_types(p))
        b, work, k = function.args
        k = k if p.k is None else _I64(p.k)
        for panel, column in self._panels():
            self._pack(panel, column, b, v.at(work, v.builder.mul(column, k)), k, squares)
        v.builder.ret_void()

    def _pack(self, panel: Panel, column, b, target, k, squares) -> None:
        """Rows of a panel of B lie far apart or, transposed, are columns; and their distance, often
        a power of two, puts them all into a few lines of the cache."""
        v = self.v
        width = _I64(panel.vectors * v.lanes)
        if squares is not None:
            source = v.at(b, v.builder.mul(column, k))
            live = _I64((panel.vectors - 1) * v.lanes + panel.live)
            v.builder.call(squares, [source, target, k, width, live, k])
            return
        with _Loop(v.builder, k, [v.at(b, column), target]) as loop:
            source, target = loop.carried
            for j in range(panel.vectors):
                live = panel.live if j == panel.vectors - 1 else v.lanes
                value = v.load(v.at(source, _I64(j * v.lanes)), live)
                v.store(value, v.at(target, _I64(j * v.lanes)), v.lanes)
            loop.carried = [v.at(source, _I64(self.product.n)), v.at(target, width)]

    def _dots(self) -> None:
        """Each element a dot product of contiguous rows, of tiles of rows of A by two rows of B."""
        p, v = self.product, self.v
        b, most = v.builder, _DOT_ROWS if self.registers.count >= 32 else _DOT_ROWS // 2
        rows = min(most, p.rows) if p.m is not None else most
        if p.m is not None or rows == 1:
            self._dot_tiles(rows)
            return
        with b.if_else(b.icmp_signed(">=", self.m, _I64(rows))) as (many, few):
            with many:
                self._dot_tiles(rows)
            with few:
                self._dot_tiles(1)

    def _dot_tiles(self, rows: int) -> None:
        p, v = self.product, self.v
        b = v.builder
        columns = min(2, p.n)
        with _Loop(b, b.sdiv(b.add(self.count, _I64(rows - 1)), _I64(rows))) as down:
            row = self._moved_up(b.mul(down.index, _I64(rows)), rows, self.count)
            with _Loop(b, _I64(-(-p.n // columns))) as across:
                column = b.mul(across.index, _I64(columns))
                column = self._moved_up(column, columns, _I64(p.n))
                a = v.at(self.a, b.mul(row, self.k))
                other = v.at(self.b, b.mul(column, self.k))
                sums = self._dot_tile(rows, columns, a, other)
                c = v.at(self.c, b.add(b.mul(row, _I64(p.n)), column))
                for index in range(rows * columns):
                    r, j = divmod(index, columns)
                    value = b.extract_element(sums[index // v.lanes], _I32(index % v.lanes))
                    b.store(value, v.at(c, _I64(r * p.n + j)))

    def _moved_up(self, start, size: int, end):
        b = self.v.builder
        last = b.sub(end, _I64(size))
        return b.select(b.icmp_signed("<", start, last), start, last)

    def _dot_tile(self, rows: int, columns: int, a, other) -> list:
        """Vectors of the sums, row by row."""
        v, b = self.v, self.v.builder
        pairs = [(r, j) for r in range(rows) for j in range(columns)]

        def step(p, live, totals):
            left = [v.load(v.at(a, b.add(p, v.times(_I64(r), self.k))), live) for r in range(rows)]
            right = [
                v.load(v.at(other, b.add(p, v.times(_I64(j), self.k))), live)
                for j in range(columns)
            ]
            return [
                v.multiply_add(left[r], right[j], total)
                for (r, j), total in zip(pairs, totals, strict=True)
            ]

        whole = b.sdiv(self.k, _I64(v.lanes))
        with _Loop(b, whole, [v.zero()] * len(pairs)) as loop:
            loop.carried = step(b.mul(loop.index, _I64(v.lanes)), None, loop.carried)
        done = b.mul(whole, _I64(v.lanes))
        left = b.sub(self.k, done)
        some = b.select(b.icmp_signed(">", left, _I64(0)), _I64(1), _I64(0))
        with _Loop(b, some, loop.carried) as rest:
            rest.carried = step(done, v.first_lanes(left), rest.carried)
        totals = rest.carried
        totals += [v.zero()] * (-len(totals) % v.lanes)
        groups = range(0, len(totals), v.lanes)
        return [v.sums(totals[first : first + v.lanes]) for first in groups]


def _transposing_pack(v: _Vectors) -> ir.Function:
    """``target[p * width + q] = source[q * stride + p]`` for p < steps and q < columns, squares of
    vectors at a time; what it writes beyond has no meaning. One for all products of a dtype."""
    name = f"graphc_pack_{v.kind}"
    if name in v.module.globals:
        return v.module.globals[name]
    pointer = v.real.as_pointer()
    function = v.function(name, [pointer, pointer, _I64, _I64, _I64, _I64])
    source, target, stride, width, columns, steps = function.args
    b, lanes = v.builder, _I64(v.lanes)

    def square(starts, p, mask, column) -> None:
        rows = v.transposed([v.load(v.at(start, p), mask) for start in starts])
        to = v.at(target, b.add(b.mul(p, width), column))
        for row in rows:
            v.store(row, to, v.lanes)
            to = v.at(to, width)

    with _Loop(b, b.sdiv(b.add(columns, _I64(v.lanes - 1)), lanes)) as loop:
        column = b.mul(loop.index, lanes)
        starts = []
        for q in range(v.lanes):  # rows that do not exist are read as the last
            row, last = b.add(column, _I64(q)), b.sub(columns, _I64(1))
            row = b.select(b.icmp_signed("<", row, last), row, last)
            starts.append(v.at(source, b.mul(row, stride)))
        masked = v.nbytes >= _MASKED_LOADS  # one square, masked always, is half the code
        whole = b.sdiv(b.add(steps, _I64(v.lanes - 1)) if masked else steps, lanes)
        with _Loop(b, whole) as squares:
            p = b.mul(squares.index, lanes)
            square(starts, p, v.first_lanes(b.sub(steps, p)) if masked else None, column)
        if not masked:
            done = b.mul(whole, lanes)
            left = b.sub(steps, done)
            with b.if_then(b.icmp_signed(">", left, _I64(0))):
                square(starts, done, v.first_lanes(left), column)
    b.ret_void()
    return function
