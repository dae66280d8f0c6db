"""Derivative formulas of elementwise rows, turned into nodes.

A row of ``ir/ops.py`` states each derivative as a text over its arguments ``x, y, w, v`` and its
result ``z``. The text is parsed once; here it becomes nodes, already multiplied by a cotangent.
Constant operands enter as plain numbers, so that ``y*x**(y - 1)`` is ``2*x`` when ``y`` is 2.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from graphc import syntax
from graphc.ir import build
from graphc.ir.node import Node
from graphc.ir.ops import BOOL, OPS

Value = Node | float | bool
ARGUMENTS = "xywv"

_ARITHMETIC = {
    ast.Add: ("add", operator.add),
    ast.Sub: ("sub", operator.sub),
    ast.Mult: ("mul", operator.mul),
    ast.Div: ("div", operator.truediv),
    ast.Pow: ("pow", operator.pow),
}
_COMPARISONS = {
    ast.Eq: ("eq", operator.eq),
    ast.NotEq: ("ne", operator.ne),
    ast.Lt: ("lt", operator.lt),
    ast.LtE: ("le", operator.le),
    ast.Gt: ("gt", operator.gt),
    ast.GtE: ("ge", operator.ge),
}


@dataclass(frozen=True)
class Derivative:
    """A parsed formula.

    ``factors`` are the names whose values are multiplied into the cotangent (not those that
    only decide a ``where``); ``branches`` says that parts of the result are exactly zero.
    """

    text: str
    tree: ast.expr
    factors: frozenset[str]
    branches: bool


@cache
def parse(text: str) -> Derivative | None:
    """The formula ``text``, or None where it is the number 0."""
    tree = syntax.parse(text, mode="eval").body
    if isinstance(tree, ast.Constant) and tree.value == 0:
        return None
    factors: set[str] = set()
    branches = False
    stack: list[ast.AST] = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, ast.Name):
            factors.add(part.id)
        elif isinstance(part, ast.Call):
            name = part.func.id
            branches = branches or name in ("where", "sign")
            stack.extend(part.args[1:] if name == "where" else part.args)
        else:
            stack.extend(ast.iter_child_nodes(part))
    return Derivative(text, tree, frozenset(factors), branches)


def derivative_of(node: Node, position: int) -> Derivative | None:
    """The derivative of an elementwise node by one input; None where it is zero."""
    row = OPS[node.op].derivative
    text = row[position] if row is not None else None
    return parse(text) if text is not None else None


def constant_value(node: Node) -> float | None:
    """The number that a node is everywhere, when it is a (broadcast) scalar constant."""
    while node.op in ("broadcast", "reshape"):
        node = node.inputs[0]
    if node.op != "const" or node.ndim or node.dtype.kind != "f":
        return None
    return float(node.attr("value").array)


def environment(node: Node) -> dict[str, Value]:
    """Values of ``x, y, w, v, z`` for an elementwise node."""
    env: dict[str, Value] = {"z": node}
    for name, operand in zip(ARGUMENTS, node.inputs, strict=False):
        number = constant_value(operand)
        env[name] = operand if number is None else number
    return env


def times(ct: Node, tree: ast.expr, env: Mapping[str, Value]) -> Node | None:
    """``ct * tree`` as nodes, in its cheapest form; None when it is zero."""
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        product = times(ct, tree.operand, env)
        return None if product is None else build.elementwise("neg", product)
    if isinstance(tree, ast.Call) and tree.func.id == "where":
        cond = _value(tree.args[0], env)
        if isinstance(cond, bool):
            return times(ct, tree.args[1 if cond else 2], env)
        a, b = (times(ct, branch, env) for branch in tree.args[1:])
        if a is None and b is None:
            return None
        zero = build.full_like(ct, 0)
        return build.elementwise("where", cond, zero if a is None else a, zero if b is None else b)
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Div):
        # Dividing the cotangent first lets x/y share one division between its derivatives.
        return times(_apply("div", ct, _value(tree.right, env)), tree.left, env)
    factor = _value(tree, env)
    if isinstance(factor, Node):
        return build.elementwise("mul", ct, factor)
    if factor == 0:
        return None
    if factor == 1:
        return ct
    if factor == -1:
        return build.elementwise("neg", ct)
    return _apply("mul", ct, factor)


def _value(tree: ast.expr, env: Mapping[str, Value]) -> Value:
    match tree:
        case ast.Constant():
            return float(tree.value)
        case ast.Name():
            return env[tree.id]
        case ast.UnaryOp(op=ast.USub()):
            operand = _value(tree.operand, env)
            return build.elementwise("neg", operand) if isinstance(operand, Node) else -operand
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
            both = isinstance(tree.op, ast.BitAnd)
            return _logical(both, _value(tree.left, env), _value(tree.right, env))
        case ast.BinOp():
            name, number = _ARITHMETIC[type(tree.op)]
            return _fold(name, number, _value(tree.left, env), _value(tree.right, env))
        case ast.Compare(ops=[op], comparators=[right]):
            name, number = _COMPARISONS[type(op)]
            return _fold(name, number, _value(tree.left, env), _value(right, env))
        case ast.Call(func=ast.Name(id="where")):
            cond = _value(tree.args[0], env)
            if isinstance(cond, bool):
                return _value(tree.args[1 if cond else 2], env)
            a, b = (_value(branch, env) for branch in tree.args[1:])
            like = next((v for v in (a, b, env["z"]) if isinstance(v, Node)), None)
            return build.elementwise("where", cond, _node(a, like), _node(b, like))
        case ast.Call():
            return _apply(tree.func.id, *(_value(a, env) for a in tree.args), like=env["z"])
    raise ValueError(f"not part of the formula language: {ast.dump(tree)}")


def _node(value: Value, like: Node) -> Node:
    return value if isinstance(value, Node) else build.full_like(like, value)


def _apply(op: str, *operands: Value, like: Node | None = None) -> Node:
    like = next((v for v in operands if isinstance(v, Node)), like)
    return build.elementwise(op, *(_node(v, like) for v in operands))


def _fold(op: str, number, a: Value, b: Value) -> Value:
    if not isinstance(a, Node) and not isinstance(b, Node):
        return number(a, b)
    if op == "mul" and 1 in (a, b):
        return b if a == 1 else a
    if op == "pow" and not isinstance(b, Node) and b in (0, 1, 2):
        return {0: 1.0, 1: a}[b] if b < 2 else build.elementwise("mul", a, a)
    return _apply(op, a, b)


def _logical(both: bool, a: Value, b: Value) -> Value:
    for first, second in ((a, b), (b, a)):
        if isinstance(first, bool):
            return second if first is both else first
    assert isinstance(a, Node) and a.dtype == BOOL
    return build.elementwise("logical_and" if both else "logical_or", a, b)
