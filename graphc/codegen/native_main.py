"""The ``main`` of a program as LLVM instructions, without Numba's front end.

A main is a list of calls, as long as the program has kernels. Numba infers types and lowers such
a function in a millisecond a line and more, the more lines the dearer; here a line costs some
tens of microseconds. The words are the same: each says its types and emits its instructions.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator

from llvmlite import ir
from numba.core import types

from graphc.codegen.native_words import BufferType

_INTEGER_OPERATIONS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}
_ARGUMENTS = ("args", "arena", "ints")
_COMPARISONS = {ast.Eq: "==", ast.NotEq: "!="}


class Unsupported(Exception):
    """A statement that only Numba can compile."""


def is_straight(text: str) -> bool:
    """Whether the ``main`` in ``text`` is made of what can be emitted here."""
    known = (
        ast.FunctionDef, ast.arguments, ast.arg, ast.Assign, ast.Expr, ast.Call, ast.Name,
        ast.Constant, ast.Subscript, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.If, ast.Compare,
        ast.Eq, ast.NotEq, ast.Return, ast.For, ast.expr_context, ast.Module,
    )  # fmt: skip
    return all(isinstance(n, known) and _is_plain(n) for n in ast.walk(ast.parse(text)))


def _is_plain(node: ast.AST) -> bool:
    """Not a choice, nor a loop from elsewhere than 0: what data-dependent control is made of."""
    if isinstance(node, ast.If):
        return not node.orelse and len(node.body) == 1 and isinstance(node.body[0], ast.Return)
    if isinstance(node, ast.For):
        return isinstance(node.iter, ast.Call) and len(node.iter.args) == 1
    return True


def emit_main(text: str, scope: dict, context, builder, arguments) -> None:
    """Append the body of the ``main`` in ``text``; ``arguments`` are its LLVM values.

    ``scope`` has the words. The builder is left where the function may return.
    """
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    kinds = (types.voidptr, types.voidptr, BufferType(types.int64))
    names = [a.arg for a in function.args.args]
    emitter = Emitter(scope, context, builder)
    emitter.names.update(zip(names, zip(kinds, arguments, strict=True), strict=True))
    emitter.done = builder.append_basic_block("main.done")
    emitter.block(function.body)
    builder.branch(emitter.done)
    builder.position_at_end(emitter.done)


class Emitter:
    def __init__(self, scope: dict, context, builder):
        self.scope, self.context, self.builder = scope, context, builder
        self.names: dict[str, tuple] = {}  # to (Numba type, LLVM value)
        self.meanings: dict[str, ast.expr] = {}  # of names that stand for words of the arguments
        self.done: ir.Block

    def block(self, statements) -> None:
        for statement in statements:
            getattr(self, f"_{type(statement).__name__}", self._unsupported)(statement)

    def _unsupported(self, node) -> None:
        raise Unsupported(ast.unparse(node))

    # ------------------------------------------------------------------------------ statements

    def _Assign(self, node: ast.Assign) -> None:
        (target,) = node.targets
        if not isinstance(target, ast.Name) or target.id in self.names:
            self._unsupported(node)
        elif not self._is_fixed(node.value):
            self.names[target.id] = self.value(node.value)
        else:
            # Read where it is used: hundreds of pointers that live from the start to their use
            # would not fit into registers, and sorting that out takes LLVM longest of all.
            self.meanings[target.id] = node.value

    def _is_fixed(self, node: ast.expr) -> bool:
        """Whether an expression has one value as long as the main runs."""
        words = {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call)}  # type: ignore
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - words
        read = [n.value for n in ast.walk(node) if isinstance(n, ast.Subscript)]
        return names <= {*_ARGUMENTS, *self.meanings} and all(
            isinstance(of, ast.Name) and of.id == "ints" for of in read
        )

    def _Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def _If(self, node: ast.If) -> None:
        """``if status[0] != 0: return``"""
        test, body = node.test, node.body
        plain = isinstance(test, ast.Compare) and len(test.ops) == 1 and not node.orelse
        if not plain or len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value:
            self._unsupported(node)
        left, right = self._int(test.left), self._int(test.comparators[0])
        met = self.builder.icmp_signed(_COMPARISONS[type(test.ops[0])], left, right)
        after = self.builder.append_basic_block("main.on")
        self.builder.cbranch(met, self.done, after)
        self.builder.position_at_end(after)

    def _For(self, node: ast.For) -> None:
        """``for name in range(count):``"""
        steps = node.iter
        if not (
            isinstance(node.target, ast.Name) and isinstance(steps, ast.Call)
            and isinstance(steps.func, ast.Name) and steps.func.id == "range"
            and len(steps.args) == 1 and not node.orelse
        ):  # fmt: skip
            self._unsupported(node)
        known = dict(self.names)
        with self._loop(self._int(steps.args[0])) as index:
            self.names[node.target.id] = types.int64, index
            self.block(node.body)
        self.names = known

    @contextlib.contextmanager
    def _loop(self, count) -> Iterator:
        builder, start = self.builder, self.builder.block
        head, body, after = (
            builder.append_basic_block(f"main.{part}") for part in ("head", "body", "after")
        )
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(count.type)
        index.add_incoming(count.type(0), start)
        builder.cbranch(builder.icmp_signed("<", index, count), body, after)
        builder.position_at_end(body)
        yield index
        index.add_incoming(builder.add(index, count.type(1)), builder.block)
        builder.branch(head)
        builder.position_at_end(after)

    # ------------------------------------------------------------------------------ expressions

    def value(self, node: ast.expr) -> tuple:
        """``(Numba type, LLVM value)``."""
        if isinstance(node, ast.Name) and node.id in self.names:
            return self.names[node.id]
        if isinstance(node, ast.Name) and node.id in self.meanings:
            return self.value(self.meanings[node.id])
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return types.int64, ir.IntType(64)(node.value)
        if isinstance(node, ast.Constant) and type(node.value) is float:
            return types.float64, ir.DoubleType()(node.value)
        if isinstance(node, ast.BinOp) and type(node.op) in _INTEGER_OPERATIONS:
            operation = getattr(self.builder, _INTEGER_OPERATIONS[type(node.op)])
            return types.int64, operation(self._int(node.left), self._int(node.right))
        if isinstance(node, ast.Subscript):
            kind, pointer = self.value(node.value)
            if isinstance(kind, BufferType):
                place = self.builder.gep(pointer, [self._int(node.slice)], inbounds=True)
                return kind.dtype, self.context.unpack_value(self.builder, kind.dtype, place)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self.call(self.scope[node.func.id], [self.value(a) for a in node.args])
        self._unsupported(node)
        raise AssertionError

    def _int(self, node: ast.expr):
        kind, value = self.value(node)
        if kind != types.int64:
            self._unsupported(node)
        return value

    def call(self, word, arguments: list[tuple]) -> tuple:
        """A word is an intrinsic: a function of types that gives a signature and an emitter."""
        signature, emit = word._defn(None, *(kind for kind, _ in arguments))
        values = [
            self.context.cast(self.builder, value, kind, wanted)
            for (kind, value), wanted in zip(arguments, signature.args, strict=True)
        ]
        result = emit(self.context, self.builder, signature, values)
        return signature.return_type, result
