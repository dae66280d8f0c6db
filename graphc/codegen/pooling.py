"""Pooling as LLVM code: rows are read as whole vectors and taken apart into the first, second, ...
elements of their blocks."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from graphc.codegen.program import PoolingFunction
from graphc.codegen.tiles import Registers
from graphc.codegen.vectors import I64, REALS, Loop, Vectors

_OPERANDS = {"max": 1, "count": 2, "spread": 3}


def poolings_module(functions: Sequence[PoolingFunction], registers: Registers, triple: str) -> str:
    """LLVM text of the functions of poolings, named as in the program."""
    module = ir.Module("graphc_poolings")
    module.triple = triple
    for function in functions:
        _Pooling(module, function, registers).emit()
    return str(module)


def argument_types(function: PoolingFunction) -> list[ir.Type]:
    """What its function takes: x, perhaps m, perhaps g, out."""
    return [REALS[function.kind][0].as_pointer()] * (_OPERANDS[function.shape.method] + 1)


class _Pooling:
    """Emits one function."""

    def __init__(self, module: ir.Module, function: PoolingFunction, registers: Registers):
        self.function, self.shape = function, function.shape
        self.v = Vectors(module, function.kind, registers)

    def emit(self) -> None:
        p, v = self.shape, self.v
        function = v.function(self.function.name, argument_types(self.function))
        with Loop(v.builder, I64(p.rows)) as loop:
            whole, rest = divmod(p.columns, v.lanes)
            if whole:
                with Loop(v.builder, I64(whole)) as across:
                    column = v.builder.mul(across.index, I64(v.lanes))
                    self._columns(function.args, loop.index, column, v.lanes)
            if rest:
                self._columns(function.args, loop.index, I64(whole * v.lanes), rest)
        v.builder.ret_void()

    def _columns(self, arguments, row, column, live: int) -> None:
        """``live`` results of one row."""
        p, v = self.shape, self.v
        b = v.builder
        width = p.columns * p.across
        small = b.add(b.mul(row, I64(p.columns)), column)
        large = b.add(b.mul(row, I64(p.down * width)), b.mul(column, I64(p.across)))
        x, *others, out = arguments
        lines = [v.at(x, b.add(large, I64(i * width))) for i in range(p.down)]
        blocks = [v.load_apart(p.across, line, live) for line in lines]
        values = [v.load(v.at(other, small), live) for other in others]
        elements = [element for block in blocks for element in block]
        if p.method == "max":
            result, *rest = elements
            for element in rest:
                result = self._larger(result, element)
            v.store(result, v.at(out, small), live)
        elif p.method == "count":
            one = ir.Constant(v.type, [v.real(1.0)] * v.lanes)
            result = v.zero()
            for element in elements:
                equal = b.fcmp_ordered("==", element, values[0])
                result = b.fadd(result, b.select(equal, one, v.zero()))
            v.store(result, v.at(out, small), live)
        else:
            m, g = values
            for i, block in enumerate(blocks):
                chosen = [b.select(b.fcmp_ordered("==", e, m), g, v.zero()) for e in block]
                v.store_together(chosen, v.at(out, b.add(large, I64(i * width))), live)

    def _larger(self, x, y):
        """NaN where either is."""
        b = self.v.builder
        first = b.or_(b.fcmp_ordered(">", x, y), b.fcmp_unordered("uno", x, x))
        return b.select(first, x, y)
