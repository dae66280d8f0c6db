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
_UNROLLED = 2  # steps of the sum in one turn of its loop


def products_module(products: Sequence[ProductFunction], registers: Registers, triple: str) -> str:
    """LLVM text with one function for each product, named as in the program."""
    module = ir.Module("graphc_products")
    module.triple = triple
    for product in products:
        _Product(module, product, registers).emit()
    return str(module)


def argument_types(product: ProductFunction) -> list[ir.Type]:
    """What the function takes: a, b, c, perhaps work, then m, k, first row, last row."""
    pointer = _REALS[product.kind][0].as_pointer()
    return [pointer] * (3 + product.packed) + [_I64] * 4


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
        self.width = str(8 * registers.nbytes)
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
            set.add(function.attributes, f'"{attribute}"="{self.width}"')
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
        rows, size, width = list(rows), self.lanes // 2, self.lanes
        while size:
            low = self._order([i if not i & size else width + i - size for i in range(width)])
            high = self._order([i + size if not i & size else width + i for i in range(width)])
            for i in range(width):
                if not i & size:
                    x, y = rows[i], rows[i + size]
                    rows[i] = self.builder.shuffle_vector(x, y, low)
                    rows[i + size] = self.builder.shuffle_vector(x, y, high)
            size //= 2
        return rows


class _Product:
    """Emits one product."""

    def __init__(self, module: ir.Module, product: ProductFunction, registers: Registers):
        self.product = product
        self.v = _Vectors(module, product.kind, registers)
        self.tiling = tiling(product.m, product.n, self.v.lanes, registers.count)

    def emit(self) -> None:
        p, v = self.product, self.v
        pack = _transposing_pack(v) if p.tb else None
        function = v.function(p.name, argument_types(p))
        self.a, self.b, self.c = function.args[:3]
        m, k, self.first, self.last = function.args[-4:]
        self.work = function.args[3] if p.packed else None
        self.m = m if p.m is None else _I64(p.m)
        self.k = k if p.k is None else _I64(p.k)
        self.a_row, self.a_step = (_I64(1), self.m) if p.ta else (self.k, _I64(1))
        for panel in self.tiling.panels:
            with _Loop(v.builder, _I64(panel.count)) as loop:
                step = v.builder.mul(loop.index, _I64(panel.vectors * v.lanes))
                self._panel(panel, v.builder.add(step, _I64(panel.first)), pack)
        v.builder.ret_void()

    def _panel(self, panel: Panel, column, pack) -> None:
        """All rows from first to last of one panel of columns."""
        p, v = self.product, self.v
        width = panel.vectors * v.lanes
        source, b_step = v.at(self.b, column), _I64(p.n)
        if p.tb:
            source = v.at(self.b, v.builder.mul(column, self.k))
            live = (panel.vectors - 1) * v.lanes + panel.live
            v.builder.call(pack, [source, self.work, self.k, _I64(width), _I64(live), self.k])
        elif p.packed:
            self._copy(panel, source)
        if p.packed:
            source, b_step = self.work, _I64(width)
        rows = self.tiling.rows
        if p.m is not None or rows == 1:
            self._tiles(panel, rows, column, source, b_step)
            return
        enough = v.builder.icmp_signed(">=", self.m, _I64(rows))
        with v.builder.if_else(enough) as (many, few):
            with many:
                self._tiles(panel, rows, column, source, b_step)
            with few:
                self._tiles(panel, 1, column, source, b_step)

    def _tiles(self, panel: Panel, rows: int, column, source, b_step) -> None:
        """Tiles below each other; the last is moved up where it would reach beyond the end, and
        what two tiles cover is computed twice."""
        p, v = self.product, self.v
        b = v.builder
        span = b.sub(self.last, self.first)
        with _Loop(b, b.sdiv(b.add(span, _I64(rows - 1)), _I64(rows))) as loop:
            row = b.add(b.mul(loop.index, _I64(rows)), self.first)
            if p.m is None or p.m % rows:
                end = b.sub(self.m, _I64(rows))
                row = b.select(b.icmp_signed("<", row, end), row, end)
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

        state = [a, source, *([v.zero()] * (rows * panel.vectors))]
        if isinstance(self.k, ir.Constant):
            turns, rest = divmod(self.k.constant, _UNROLLED)
            turns = _I64(turns)
        else:
            turns, rest = b.sdiv(self.k, _I64(_UNROLLED)), b.srem(self.k, _I64(_UNROLLED))
        with _Loop(b, turns, state) as loop:
            for _ in range(_UNROLLED):
                loop.carried = step(*loop.carried)
        state = loop.carried
        if isinstance(rest, int):
            for _ in range(rest):
                state = step(*state)
        else:
            with _Loop(b, rest, state) as loop:
                loop.carried = step(*loop.carried)
            state = loop.carried
        totals = state[2:]
        for r in range(rows):
            for j in vectors:
                place = v.at(c, _I64(r * self.product.n + j * v.lanes))
                v.store(totals[r * panel.vectors + j], place, live[j])

    def _copy(self, panel: Panel, source) -> None:
        """A panel of B in rows that follow each other: its own rows lie far apart, and their
        distance, often a power of two, puts them all into a few lines of the cache."""
        v = self.v
        with _Loop(v.builder, self.k, [source, self.work]) as loop:
            source, target = loop.carried
            for j in range(panel.vectors):
                live = panel.live if j == panel.vectors - 1 else v.lanes
                value = v.load(v.at(source, _I64(j * v.lanes)), live)
                v.store(value, v.at(target, _I64(j * v.lanes)), v.lanes)
            width = panel.vectors * v.lanes
            loop.carried = [v.at(source, _I64(self.product.n)), v.at(target, _I64(width))]


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
        whole = b.sdiv(steps, lanes)
        with _Loop(b, whole) as squares:
            square(starts, b.mul(squares.index, lanes), None, column)
        done = b.mul(whole, lanes)
        left = b.sub(steps, done)
        with b.if_then(b.icmp_signed(">", left, _I64(0))):
            square(starts, done, v.first_lanes(left), column)
    b.ret_void()
    return function
