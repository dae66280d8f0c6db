"""Convolutions as LLVM code: the register tiles of matrix products, with a sum over channels and
window and operands that lie in images. See ``schedule.convolutions`` for the two methods."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from llvmlite import ir

from graphc.codegen.program import ConvolutionFunction
from graphc.codegen.tiles import Panel, Registers, image_tile, sum_tile
from graphc.codegen.vectors import I32, I64, REALS, Loop, Vectors
from graphc.ir.dims import product

_UNROLLED = 16  # elements of a window of which each has code of its own
_UNROLLED_VECTORS = 4


def convolutions_module(
    functions: Sequence[ConvolutionFunction], registers: Registers, triple: str
) -> str:
    """LLVM text of the functions of convolutions, named as in the program."""
    module = ir.Module("graphc_convolutions")
    module.triple = triple
    for function in functions:
        _Convolution(module, function, registers).emit()
    return str(module)


def argument_types(function: ConvolutionFunction) -> list[ir.Type]:
    """What its function takes: x, w, out, channels."""
    return [REALS[function.kind][0].as_pointer()] * 3 + [I64]


class _Convolution:
    """Emits one convolution."""

    def __init__(self, module: ir.Module, function: ConvolutionFunction, registers: Registers):
        self.function, self.shape, self.registers = function, function.shape, registers
        self.v = Vectors(module, function.kind, registers)
        self.tables = 0

    def emit(self) -> None:
        function = self.v.function(self.function.name, argument_types(self.function))
        self.x, self.w, self.out, channels = function.args
        known = self.shape.channels
        self.channels = channels if known is None else I64(known)
        self._rows() if self.shape.method == "rows" else self._sums()
        self.v.builder.ret_void()

    # ------------------------------------------------------------------------------------ rows

    def _rows(self) -> None:
        c, v = self.shape, self.v
        heights, width = c.places[:-1], c.places[-1]
        starts = [_dot(q, c.steps) for q in itertools.product(*map(range, heights))]
        tile = image_tile(c.filters, len(starts), width, v.lanes, self.registers.count)
        table = self._table(starts)
        for panel in tile.panels:
            with Loop(v.builder, I64(panel.count)) as across:
                step = v.builder.mul(across.index, I64(panel.vectors * v.lanes))
                column = v.builder.add(step, I64(panel.first))
                for f in self._blocks(c.filters, tile.filters):
                    for row in self._blocks(len(starts), tile.rows):
                        self._row_tile(tile.filters, tile.rows, panel, f, row, column, table)

    def _row_tile(self, filters: int, rows: int, panel: Panel, f, row, column, table) -> None:
        c, v = self.shape, self.v
        b = v.builder
        x = v.at(self.x, b.mul(column, I64(c.steps[-1])))
        images = [v.at(x, self._entry(table, b.add(row, I64(i)))) for i in range(rows)]
        weights = v.at(self.w, b.mul(f, I64(c.w_strides[0])))
        tile = list(itertools.product(range(rows), range(panel.vectors)))
        live = [v.lanes] * (panel.vectors - 1) + [panel.live]

        def step(images, weights, totals, x_offset, w_offset):
            vectors = []
            for i, j in tile:
                offset = v.plus(x_offset, j * v.lanes * c.steps[-1])
                vectors.append(v.load_every(c.steps[-1], v.at(images[i], offset), live[j]))
            following = []
            for r in range(filters):
                offset = v.plus(w_offset, r * c.w_strides[0])
                weight = v.splat(b.load(v.at(weights, offset)))
                for vector in vectors:
                    total = totals[len(following)]
                    following.append(v.multiply_add(weight, vector, total))
            return following

        window = [(_dot(k, c.reaches), _flat(k, c.window)) for k in _indices(c.window)]
        zeros = [v.zero()] * (filters * len(tile))
        with Loop(b, self.channels, [weights, *images, *zeros]) as loop:
            weights, images = loop.carried[0], loop.carried[1 : rows + 1]
            totals = self._over(window, loop.carried[rows + 1 :], step, images, weights)
            moved = [v.at(image, I64(c.x_strides[1])) for image in images]
            loop.carried = [v.at(weights, I64(c.w_strides[1])), *moved, *totals]
        totals = iter(loop.carried[rows + 1 :])
        place = b.add(b.mul(f, I64(product(c.places))), b.mul(row, I64(c.places[-1])))
        out = v.at(self.out, b.add(place, column))
        for r in range(filters):
            for i, j in tile:
                offset = r * product(c.places) + i * c.places[-1] + j * v.lanes
                v.store(next(totals), v.at(out, I64(offset)), live[j])

    # ------------------------------------------------------------------------------------ sums

    def _sums(self) -> None:
        c, v = self.shape, self.v
        b = v.builder
        places = [
            image * c.x_strides[0] + _dot(p, c.steps)
            for image in range(c.images)
            for p in _indices(c.places)
        ]
        results = [
            image * c.filters * product(c.places) + place
            for image in range(c.images)
            for place in range(product(c.places))
        ]
        filters, count = sum_tile(c.filters, len(places), self.registers.count)
        sources, targets = self._table(places), self._table(results)
        for f in self._blocks(c.filters, filters):
            for first in self._blocks(len(places), count):
                at = [b.add(first, I64(i)) for i in range(count)]
                starts = [self._entry(sources, i) for i in at]
                sums = self._sum_tile(filters, starts, f)
                out = v.at(self.out, b.mul(f, I64(product(c.places))))
                for i, place in enumerate(at):
                    target = v.at(out, self._entry(targets, place))
                    for r in range(filters):
                        group, lane = divmod(i * filters + r, v.lanes)
                        value = b.extract_element(sums[group], I32(lane))
                        b.store(value, v.at(target, I64(r * product(c.places))))

    def _sum_tile(self, filters: int, starts: list, f) -> list:
        """Vectors of the sums, for each place in turn those of the filters."""
        c, v = self.shape, self.v
        b, width, reach = v.builder, c.window[-1], c.reaches[-1]
        whole, rest = divmod(width, v.lanes)

        def multiply(x, w, totals, x_offset, w_offset, live):
            weights = [
                v.load(v.at(w, v.plus(w_offset, r * c.w_strides[0])), live) for r in range(filters)
            ]
            following = []
            for start in starts:
                image = v.load_every(reach, v.at(v.at(x, x_offset), start), live)
                for weight in weights:
                    total = totals[len(following)]
                    following.append(v.multiply_add(weight, image, total))
            return following

        def step(x, w, totals, x_offset, w_offset):
            unrolled = whole if whole <= _UNROLLED_VECTORS else 0
            for j in range(unrolled):
                skipped = j * v.lanes
                at = v.plus(x_offset, skipped * reach), v.plus(w_offset, skipped)
                totals = multiply(x, w, totals, *at, v.lanes)
            if unrolled < whole:
                with Loop(b, I64(whole), totals) as along:
                    skipped = b.mul(along.index, I64(v.lanes))
                    at = b.add(x_offset, b.mul(skipped, I64(reach))), b.add(w_offset, skipped)
                    along.carried = multiply(x, w, along.carried, *at, v.lanes)
                totals = along.carried
            if rest:
                skipped = whole * v.lanes
                at = v.plus(x_offset, skipped * reach), v.plus(w_offset, skipped)
                totals = multiply(x, w, totals, *at, rest)
            return totals

        lines = [
            (_dot(k, c.reaches[:-1]), _flat(k, c.window[:-1]) * width)
            for k in _indices(c.window[:-1])
        ]
        w = v.at(self.w, b.mul(f, I64(c.w_strides[0])))
        zeros = [v.zero()] * (filters * len(starts))
        with Loop(b, self.channels, [self.x, w, *zeros]) as loop:
            x, w, *totals = loop.carried
            totals = self._over(lines, totals, step, x, w, unrolled=1)
            moved = v.at(x, I64(c.x_strides[1])), v.at(w, I64(c.w_strides[1]))
            loop.carried = [*moved, *totals]
        totals = loop.carried[2:]
        totals += [v.zero()] * (-len(totals) % v.lanes)
        groups = range(0, len(totals), v.lanes)
        return [v.sums(totals[first : first + v.lanes]) for first in groups]

    # ----------------------------------------------------------------------------------- shared

    def _over(self, offsets, totals, step, x, w, unrolled: int = _UNROLLED) -> list:
        """``step`` for each pair of offsets into x and w: as code, or in a loop over tables."""
        if len(offsets) <= unrolled:
            for x_offset, w_offset in offsets:
                totals = step(x, w, totals, I64(x_offset), I64(w_offset))
            return totals
        tables = [self._table(column) for column in zip(*offsets, strict=True)]
        with Loop(self.v.builder, I64(len(offsets)), totals) as loop:
            at = [self._entry(table, loop.index) for table in tables]
            loop.carried = step(x, w, loop.carried, *at)
        return loop.carried

    def _blocks(self, count: int, size: int):
        """Inside a loop over blocks: where each begins. The last is moved up to end at the end."""
        b = self.v.builder
        with Loop(b, I64(-(-count // size))) as loop:
            start, last = b.mul(loop.index, I64(size)), I64(count - size)
            yield b.select(b.icmp_signed("<", start, last), start, last)

    def _table(self, values: list[int]) -> ir.GlobalVariable:
        """Constants in memory."""
        kind = ir.ArrayType(I64, len(values))
        name = f"{self.function.name}_table{self.tables}"
        self.tables += 1
        table = ir.GlobalVariable(self.v.module, kind, name)
        table.global_constant, table.linkage = True, "internal"
        table.initializer = ir.Constant(kind, [I64(value) for value in values])
        return table

    def _entry(self, table: ir.GlobalVariable, index):
        b = self.v.builder
        return b.load(b.gep(table, [I64(0), index], inbounds=True))


def _indices(sizes):
    return itertools.product(*map(range, sizes))


def _dot(index, strides) -> int:
    return sum(i * s for i, s in zip(index, strides, strict=False))


def _flat(index, sizes) -> int:
    total = 0
    for i, size in zip(index, sizes, strict=True):
        total = total * size + i
    return total
