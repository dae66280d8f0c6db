"""Text of scalar expressions: one template a row of the op table.

The names used in the templates are the machine's (see ``machine.py``); they mean the same
natively and to plain Python.
"""

from __future__ import annotations

import keyword
import re

import numpy as np

from graphc.codegen.machine import MATH, python_words
from graphc.ir.dims import Dim
from graphc.ir.scipy_functions import PREFIX, SCIPY_FUNCTIONS
from graphc.ir.types import short_dtype
from graphc.schedule import loops as L

# Arithmetic that Python would widen for small integers is converted back ("exact").
_INFIX = {
    "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})", "div": "({0} / {1})",
    "eq": "({0} == {1})", "ne": "({0} != {1})", "lt": "({0} < {1})", "le": "({0} <= {1})",
    "gt": "({0} > {1})", "ge": "({0} >= {1})", "neg": "(-{0})",
    "logical_and": "({0} & {1})", "logical_or": "({0} | {1})", "logical_xor": "({0} ^ {1})",
    "logical_not": "(not {0})", "bitwise_and": "({0} & {1})", "bitwise_or": "({0} | {1})",
    "bitwise_xor": "({0} ^ {1})", "invert": "(~{0})", "stop_gradient": "{0}",
    "isnan": "({0} != {0})",
}  # fmt: skip
# Truth values add as `or` and multiply as `and`, as NumPy's do.
_BOOL = {
    "add": "({0} | {1})", "mul": "({0} & {1})", "pow": "({0} | (not {1}))",
    "floor_div": "({0} & {1})", "mod": "({0} != {0})", "invert": "(not {0})",
}  # fmt: skip
_CALLS = {
    "where": "select({0}, {1}, {2})", "maximum": "larger({0}, {1})",
    "minimum": "smaller({0}, {1})", "abs": "absolute({0})", "sign": "sign({0})",
    "floor": "floor({0})", "ceil": "ceil({0})", "trunc": "trunc({0})", "rint": "rint({0})",
    "copysign": "copysign({0}, {1})", "isinf": "isinf({0})", "isfinite": "isfinite({0})",
    "relu": "relu({0})", "left_shift": "shift_left({0}, {1})",
    "right_shift": "shift_right({0}, {1})", "gcd": "common_divisor({0}, {1})",
    "bitwise_count": "count_bits({0})", "nextafter": "next_after({0}, {1})",
    "mod": "floor_mod({0}, {1})", "floor_div": "floor_div({0}, {1})",
}  # fmt: skip
#: For messages about rows without it.
WHERE_SCALAR_CODE_IS = "a template in codegen/scalar.py, or a function of vmath/functions.py"
# What a program calls its own things, beside the words of the machine: buffers, functions, loop
# variables and locals have numbers.
_OWN = (
    "args", "arena", "at", "batch", "block", "end", "first", "ints", "lane", "lanes", "limit",
    "main", "pace", "range", "size", "status", "turns",
)  # fmt: skip
_TAKEN = frozenset({*python_words(), *_OWN, *keyword.kwlist})
_NUMBERED = re.compile(rf"[a-z]+\d+(_\w+)?|dim_.*|{PREFIX}.*")
_NONFINITE = {"inf": "INF", "-inf": "-INF", "nan": "NAN"}
_NATURAL = {"float32", "float64", "int64", "uint64", "bool"}


class ScalarText:
    """Expressions of one kernel: dims and constants become its parameters and first lines."""

    def __init__(self):
        self.constants: dict[tuple[str, str], str] = {}

    def expr(self, e: L.Expr) -> str:
        if isinstance(e, L.Ref):
            return e.name
        if isinstance(e, L.Lit):
            return self.constant(e.dtype, e.text)
        if isinstance(e, L.Load):
            return f"{e.buffer.name}[{self.position(e.index, e.dynamic)}]"
        if isinstance(e, L.Apply):
            return self.apply(e)
        if isinstance(e, L.DimValue):
            return f"{short_dtype(e.dtype)}({dim(e.dim)})"
        if isinstance(e, L.IndexValue):
            return f"i64({self.index(e.index)})"
        if isinstance(e, L.Select):
            return f"({self.expr(e.a)} if {self.expr(e.cond)} else {self.expr(e.b)})"
        if isinstance(e, L.Checked):
            size = dim(e.size)
            return f"checked(status, {e.check}, i64({self.expr(e.expr)}), {size})"
        if isinstance(e, L.InRange):
            parts = (f"0 <= {self.index(i)} < {dim(size)}" for i, size, _ in e.tests)
            return "(" + " and ".join(f"({p})" for p in parts) + ")"
        raise AssertionError(f"no text for {e}")

    def apply(self, e: L.Apply) -> str:
        args = [self.expr(a) for a in e.args]
        kind = short_dtype(e.dtype)
        if e.op == "cast":
            if e.dtype == e.args[0].dtype:
                return args[0]
            return self._cast(args[0], e.args[0].dtype, e.dtype)
        if e.op.startswith("logical_"):
            args = [self._cast(a, x.dtype, e.dtype) for a, x in zip(args, e.args, strict=True)]
        if kind == "bool" and e.args[0].dtype == e.dtype and e.op in _BOOL:
            return _BOOL[e.op].format(*args)
        if e.op == "div" and isinstance(e.args[1], L.Lit):
            reciprocal = _reciprocal(e.args[1])
            if reciprocal is not None:
                return f"divided({args[0]}, {args[1]}, {self.constant(e.dtype, reciprocal)})"
        if e.op == "divided":
            return f"divided({', '.join(args)})"
        if e.op == "pow":
            return f"power({args[0]}, {args[1]})"
        if e.op in MATH or e.op in SCIPY_FUNCTIONS:
            return f"{e.op}({', '.join(args)})"
        template = _INFIX.get(e.op) or _CALLS.get(e.op)
        if template is None:
            raise AssertionError(f"op {e.op} has no scalar code: {WHERE_SCALAR_CODE_IS}")
        text = template.format(*args)
        if e.dtype.name in _NATURAL or e.args[0].dtype != e.dtype:
            return text
        return f"{kind}({text})"

    def _cast(self, text: str, source: np.dtype, target: np.dtype) -> str:
        kind = short_dtype(target)
        if source == target:
            return text
        if kind == "bool":
            return f"({text} != 0)"
        if source.kind == "f" and target.kind in "iu" and target.itemsize < 8:
            return f"{kind}(i64({text}))"  # wraps as NumPy's conversions do
        return f"{kind}({text})"

    def constant(self, dtype: np.dtype, text: str) -> str:
        if dtype.kind == "b":
            return text
        key = (short_dtype(dtype), text)
        return self.constants.setdefault(key, f"c{len(self.constants)}")

    def constant_lines(self) -> list[str]:
        lines = []
        for (kind, text), name in self.constants.items():
            value = _NONFINITE.get(text, text)
            lines.append(f"{name} = {kind}({value})")
        return lines

    def index(self, index: L.Affine) -> str:
        parts = []
        for var, coeff in index.terms:
            parts.append(var if coeff == 1 else f"{var} * {dim(coeff)}")
        if index.offset != 0 or not parts:
            parts.append(dim(index.offset))
        return " + ".join(parts)

    def position(self, index: L.Affine, dynamic=()) -> str:
        parts = [] if dynamic and index == L.Affine() else [self.index(index)]
        for expr, stride, size, check in dynamic:
            at = f"checked(status, {check}, i64({self.expr(expr)}), {dim(size)})"
            parts.append(at if stride == 1 else f"{at} * {dim(stride)}")
        return " + ".join(parts)


def _reciprocal(divisor: L.Lit) -> str | None:
    """Of a float constant of moderate size, which multiplies faster than it divides."""
    if divisor.dtype.name not in ("float32", "float64"):
        return None
    value = divisor.dtype.type(float(divisor.text))
    if not 2.0**-16 <= abs(value) <= 2.0**16:
        return None
    return repr(float(divisor.dtype.type(1) / value))


def dim(value) -> str:
    """A dimension as Python text."""
    if not isinstance(value, Dim):
        return str(value)
    text = re.sub(r"[^\W\d]\w*", lambda match: symbol_name(match[0]), str(value))
    return f"({text})" if len(value.terms) > 1 else text


def symbol_name(name: str) -> str:
    """The variable of a symbolic dimension: its own name, unless a program may use that."""
    return f"dim_{name}" if name in _TAKEN or _NUMBERED.fullmatch(name) else name


def supported_ops() -> set[str]:
    """Rows that have scalar code."""
    return {*_INFIX, *_CALLS, *MATH, *SCIPY_FUNCTIONS, "pow", "cast"}
