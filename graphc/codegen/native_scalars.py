"""A long kernel without branches as LLVM instructions, without Numba's front end.

A system of equations is thousands of scalar statements in one kernel. Numba infers types and
lowers a millisecond a line; here a line costs some tens of microseconds. Vector math is called
rather than put in place: thousands of copies would take LLVM minutes, and gain nothing where
nothing is vectorised.
"""

from __future__ import annotations

import ast

from llvmlite import ir
from numba.core import types

from graphc.codegen.machine import MATH
from graphc.codegen.native_main import Emitter, Unsupported
from graphc.codegen.native_words import SCALARS, BufferType

_LEAST_LINES = 300  # below that Numba is as fast, and code in place is faster
_OPERATIONS = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
_LOGICAL = {ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"}
_ORDER = {ast.Eq: "==", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_OUT_OF_LINE = frozenset({*MATH, "power"}) - {"sqrt", "rsqrt"}


def is_long(text: str) -> bool:
    """Whether the kernel in ``text`` may be worth emitting here."""
    return text.count("\n") >= _LEAST_LINES


def emit_kernel(module, text: str, kinds, scope: dict, context) -> ir.Function:
    """The kernel in ``text`` as a function of ``module``, of parameters of Numba types ``kinds``.

    ``scope`` has the words. Raises Unsupported where a statement is more than scalars, their
    stores and filling loops; the module is then to be dropped.
    """
    (tree,) = ast.parse(text).body
    assert isinstance(tree, ast.FunctionDef)
    _check(tree)
    values = [context.get_value_type(k) for k in kinds]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), values), f"graphc_{tree.name}")
    for argument, kind in zip(function.args, kinds, strict=True):
        if isinstance(kind, BufferType):
            argument.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    emitter = _Scalars(scope, context, builder)
    names = [a.arg for a in tree.args.args]
    emitter.names.update(zip(names, zip(kinds, function.args, strict=True), strict=True))
    emitter.block(tree.body)
    builder.ret_void()
    return function


def _check(tree: ast.FunctionDef) -> None:
    known = (
        ast.FunctionDef, ast.arguments, ast.arg, ast.Assign, ast.Call, ast.Name, ast.Constant,
        ast.Subscript, ast.BinOp, ast.UnaryOp, ast.USub, ast.Not, ast.Compare, ast.NotEq, ast.For,
        ast.expr_context, *_OPERATIONS, *_LOGICAL, *_ORDER,
    )  # fmt: skip
    stored = set()
    for node in ast.walk(tree):
        if not isinstance(node, known):
            raise Unsupported(type(node).__name__)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in stored:  # no one value of a name
                raise Unsupported(node.targets[0].id)
            stored.add(node.targets[0].id)
        if isinstance(node, ast.For) and not _only_fills(node):  # may be worth vectorising
            raise Unsupported("for")


def _only_fills(loop: ast.For) -> bool:
    """``for j in range(n): o[j] = c``"""
    (statement, *more) = loop.body
    return (
        not more
        and isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Subscript)
        and isinstance(statement.value, ast.Name)
        and isinstance(loop.iter, ast.Call)
        and len(loop.iter.args) == 1
    )


class _Scalars(Emitter):
    def _Assign(self, node: ast.Assign) -> None:
        (target,) = node.targets
        kind, value = self.value(node.value)
        if isinstance(target, ast.Name):
            self.names[target.id] = kind, value
            return
        assert isinstance(target, ast.Subscript)
        buffer, pointer = self.value(target.value)
        value = self.context.cast(self.builder, value, kind, buffer.dtype)
        place = self.builder.gep(pointer, [self._int(target.slice)], inbounds=True)
        self.context.pack_value(self.builder, buffer.dtype, value, place)

    def value(self, node: ast.expr) -> tuple:
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return types.boolean, ir.IntType(1)(node.value)
        if isinstance(node, ast.Name) and isinstance(self.scope.get(node.id), float):
            return types.float64, ir.DoubleType()(self.scope[node.id])
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.Compare):
            return self._compare(node)
        if isinstance(node, ast.BinOp):
            return self._binary(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in SCALARS:
                kind, value = self.value(node.args[0])
                wanted = SCALARS[node.func.id]
                return wanted, self.context.cast(self.builder, value, kind, wanted)
            if node.func.id in _OUT_OF_LINE:
                return self._called(node.func.id, [self.value(a) for a in node.args])
        return super().value(node)

    def _unary(self, node: ast.UnaryOp) -> tuple:
        kind, value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            if kind != types.boolean:
                self._unsupported(node)
            return kind, self.builder.not_(value)
        if isinstance(kind, types.Float):
            return kind, self.builder.fneg(value)
        return kind, self.builder.neg(value)

    def _binary(self, node: ast.BinOp) -> tuple:
        (kind, a), (other, b) = self.value(node.left), self.value(node.right)
        if kind == other == types.boolean and type(node.op) in _LOGICAL:
            return kind, getattr(self.builder, _LOGICAL[type(node.op)])(a, b)
        if kind == other and isinstance(kind, types.Float) and type(node.op) in _OPERATIONS:
            return kind, getattr(self.builder, _OPERATIONS[type(node.op)])(a, b)
        if kind == other == types.int64:
            return super().value(node)
        raise Unsupported(ast.unparse(node))

    def _compare(self, node: ast.Compare) -> tuple:
        (kind, a), (other, b) = self.value(node.left), self.value(node.comparators[0])
        if kind != other or not isinstance(kind, types.Float) or len(node.ops) != 1:
            raise Unsupported(ast.unparse(node))
        if isinstance(node.ops[0], ast.NotEq):
            return types.boolean, self.builder.fcmp_unordered("!=", a, b)
        return types.boolean, self.builder.fcmp_ordered(_ORDER[type(node.ops[0])], a, b)

    def _called(self, name: str, arguments: list[tuple]) -> tuple:
        """A function of this module for one word and type, made at its first call."""
        kind, module = arguments[0][0], self.builder.module
        label = f"graphc_{name}_{kind}"
        function = module.globals.get(label)
        if function is None:
            scalar = self.context.get_value_type(kind)
            function = ir.Function(
                module, ir.FunctionType(scalar, [scalar] * len(arguments)), label
            )
            function.linkage = "internal"
            function.attributes.add("noinline")
            inner = ir.IRBuilder(function.append_basic_block("entry"))
            emitter = Emitter(self.scope, self.context, inner)
            given = [(kind, a) for a in function.args]
            inner.ret(emitter.call(self.scope[name], given)[1])
        values = [self.context.cast(self.builder, v, k, kind) for k, v in arguments]
        return kind, self.builder.call(function, values)
