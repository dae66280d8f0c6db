"""LLVM code by hand: loops that carry values, and whole vectors of one dtype."""

from __future__ import annotations

from llvmlite import ir

from graphc.codegen.tiles import Registers

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
REALS = {"f32": (ir.FloatType(), 4), "f64": (ir.DoubleType(), 8)}


class Loop:
    """``for i in range(count)`` with values carried from turn to turn.

    Inside, set ``carried`` to their next values; after the block it holds the final ones.
    """

    def __init__(self, builder: ir.IRBuilder, count, carried=()):
        self.builder, self.count, self.initial = builder, count, list(carried)

    def __enter__(self) -> Loop:
        b = self.builder
        self.before = b.block
        self.head, self.exit = b.append_basic_block("loop"), b.append_basic_block("end")
        b.cbranch(b.icmp_signed(">", self.count, I64(0)), self.head, self.exit)
        b.position_at_end(self.head)
        self.index = b.phi(I64)
        self.index.add_incoming(I64(0), self.before)
        self.phis = [self._phi(v) for v in self.initial]
        self.carried = list(self.phis)
        return self

    def __exit__(self, failed, *_):
        if failed:
            return
        b, last = self.builder, self.builder.block
        following = b.add(self.index, I64(1), flags=("nsw",))
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


class Vectors:
    """Loads, stores and shuffles of whole vectors of one dtype in one function."""

    def __init__(self, module: ir.Module, kind: str, registers: Registers):
        self.module, self.kind = module, kind
        self.real, self.itemsize = REALS[kind]
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
        kinds = (result, *kind.args)
        lanes = next(k.count for k in kinds if isinstance(k, ir.VectorType))
        suffix = f"v{lanes}{self.kind}" + (".p0" if "masked" in name else "")
        full = f"llvm.{name}.{suffix}"
        function = self.module.globals.get(full) or ir.Function(self.module, kind, full)
        return self.builder.call(function, arguments)

    def fence(self) -> None:
        """No load or store is moved across: loads of a later step would take registers."""
        nothing = ir.FunctionType(ir.VoidType(), [])
        self.builder.asm(nothing, "", "~{memory}", [], side_effect=True)

    def zero(self):
        return ir.Constant(self.type, [self.real(0.0)] * self.lanes)

    def at(self, pointer, offset):
        return self.builder.gep(pointer, [offset], inbounds=True)

    def plus(self, x, number: int):
        if isinstance(x, ir.Constant):
            return I64(x.constant + number)
        return self.builder.add(x, I64(number)) if number else x

    def times(self, x, y):
        if isinstance(x, ir.Constant) and isinstance(y, ir.Constant):
            return I64(x.constant * y.constant)
        return self.builder.mul(x, y)

    def _mask(self, live):
        """Of the first ``live`` lanes, a number or a mask made at run time."""
        if not isinstance(live, int):
            return live
        kind = ir.VectorType(I1, self.lanes)
        return ir.Constant(kind, [I1(lane < live) for lane in range(self.lanes)])

    def prefetch(self, pointer, near: bool = True) -> None:
        """Ask for the line of an element, which need not exist; ``near``: to the first-level cache,
        else to the second."""
        place = self.builder.bitcast(pointer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
        prefetch = self.module.globals.get("llvm.prefetch") or ir.Function(
            self.module, kind, "llvm.prefetch"
        )
        read, kept, data = I32(0), I32(3 if near else 2), I32(1)
        self.builder.call(prefetch, [place, read, kept, data])

    def load(self, pointer, live=None):
        place = self.builder.bitcast(pointer, self.type.as_pointer())
        if live is None or live == self.lanes:
            value = self.builder.load(place)
            value.align = self.itemsize
            return value
        arguments = [place, I32(self.itemsize), self._mask(live), self.zero()]
        return self.call("masked.load", self.type, arguments)

    def load_every(self, step: int, pointer, live: int):
        """``live`` elements that lie ``step`` apart; no element behind the last is read."""
        if step == 1:
            return self.load(pointer, live)
        wide = self._wide_load(step, pointer, (live - 1) * step + 1)
        return self._every(step, wide, 0)

    def load_apart(self, step: int, pointer, live: int) -> list:
        """``live`` times ``step`` elements: the first, second, ... of every ``step``."""
        if step == 1:
            return [self.load(pointer, live)]
        wide = self._wide_load(step, pointer, live * step)
        return [self._every(step, wide, first) for first in range(step)]

    def store_together(self, vectors: list, pointer, live: int) -> None:
        """The inverse of ``load_apart``, for powers of two."""
        step = len(vectors)
        if step == 1:
            return self.store(vectors[0], pointer, live)
        while len(vectors) > 1:  # halves interleaved give every other element of the result
            half = len(vectors) // 2
            width = vectors[0].type.count
            order = self._order([i for lane in range(width) for i in (lane, width + lane)])
            pairs = zip(vectors[:half], vectors[half:], strict=True)
            vectors = [self.builder.shuffle_vector(x, y, order) for x, y in pairs]
        wide, none = vectors[0], ir.VoidType()
        place = self.builder.bitcast(pointer, wide.type.as_pointer())
        mask = self._bits(self.lanes * step, live * step)
        self.call("masked.store", none, [wide, place, I32(self.itemsize), mask])

    def _wide_load(self, step: int, pointer, count: int):
        """The first ``count`` elements of a vector of ``step`` times the usual lanes."""
        width = self.lanes * step
        kind = ir.VectorType(self.real, width)
        zero = ir.Constant(kind, [self.real(0.0)] * width)
        place = self.builder.bitcast(pointer, kind.as_pointer())
        arguments = [place, I32(self.itemsize), self._bits(width, count), zero]
        return self.call("masked.load", kind, arguments)

    def _bits(self, width: int, count: int) -> ir.Constant:
        kind = ir.VectorType(I1, width)
        return ir.Constant(kind, [I1(lane < count) for lane in range(width)])

    def _every(self, step: int, wide, first: int):
        order = self._order(range(first, self.lanes * step, step))
        return self.builder.shuffle_vector(wide, ir.Constant(wide.type, ir.Undefined), order)

    def store(self, value, pointer, live: int) -> None:
        place = self.builder.bitcast(pointer, self.type.as_pointer())
        if live == self.lanes:
            self.builder.store(value, place).align = self.itemsize
        else:
            arguments = [value, place, I32(self.itemsize), self._mask(live)]
            self.call("masked.store", ir.VoidType(), arguments)

    def splat(self, value):
        kind = ir.VectorType(value.type, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        vector = self.builder.insert_element(undefined, value, I32(0))
        return self.builder.shuffle_vector(vector, undefined, self._order([0] * self.lanes))

    def _order(self, lanes) -> ir.Constant:
        return ir.Constant(ir.VectorType(I32, len(lanes)), [I32(lane) for lane in lanes])

    def multiply_add(self, x, y, total):
        return self.call("fmuladd", self.type, [x, y, total])

    def first_lanes(self, count):
        """A mask of ``count`` (a run-time number) lanes."""
        kind = ir.VectorType(I64, self.lanes)
        numbers = ir.Constant(kind, [I64(lane) for lane in range(self.lanes)])
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
