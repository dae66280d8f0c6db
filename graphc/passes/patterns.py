"""Rewrite rules as data: a small pattern language, and what patterns ask of nodes.

A pattern is written as a Python expression: ``log(add(1, exp(x)))``. A call is an op, a name
binds a node (the same name twice must be the same node), a number is a constant scalar or a
broadcast of one, a keyword binds or compares an attribute (``sum(x, axes=a)``). Operands of a
commutative op match in either order.
"""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphc import syntax
from graphc.ir import build
from graphc.ir.node import Node
from graphc.ir.ops import OPS

COMMUTATIVE = frozenset(
    ("add", "mul", "maximum", "minimum", "eq", "ne", "logical_and", "logical_or", "logical_xor",
     "bitwise_and", "bitwise_or", "bitwise_xor")
)  # fmt: skip

Apply = Callable[[Node], Node | None]


@dataclass(frozen=True)
class Rule:
    """``apply(node)`` gives the replacement of a node whose op is in ``roots``, or None.

    A replacement has the type of the node; returning the node itself means no change.
    """

    name: str
    roots: tuple[str, ...]
    apply: Apply
    text: str = ""


def rule(name: str, pattern: str, replacement: str, where: Callable[..., bool] | None = None):
    """A rule from patterns.

    ``where`` is called with the bindings that its parameters name; ``node`` is the matched root.

    >>> double_negation = rule("neg_neg", "neg(neg(x))", "x")
    >>> x = build.const([1.0, 2.0])
    >>> double_negation.apply(build.elementwise("neg", build.elementwise("neg", x))) is x
    True
    """
    variants = _orders(_parse(pattern))
    result = _parse(replacement)
    asked = tuple(inspect.signature(where).parameters) if where else ()

    def apply(node: Node) -> Node | None:
        for variant in variants:
            env: dict[str, object] = {}
            if not _match(variant, node, env):
                continue
            if where is None or where(*(node if k == "node" else env[k] for k in asked)):
                return _build(result, env, node)
        return None

    return Rule(name, (variants[0].op,), apply, f"{pattern} -> {replacement}")


def rewrites(*roots: str) -> Callable[[Apply], Rule]:
    """Decorator: a rule from a function that looks at nodes of the given ops."""
    for op in roots:
        if op not in OPS:
            raise ValueError(f"no op named {op!r}")

    def wrap(function: Apply) -> Rule:
        return Rule(function.__name__, roots, function, inspect.getdoc(function) or "")

    return wrap


# -------------------------------------------------------------------------------- the language


@dataclass(frozen=True)
class _Call:
    op: str
    args: tuple[_Pattern, ...]
    attrs: tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class _Name:
    name: str


@dataclass(frozen=True)
class _Number:
    value: float


_Pattern = _Call | _Name | _Number


def _parse(text: str) -> _Pattern:
    def convert(tree) -> _Pattern:
        if isinstance(tree, ast.Call):
            op = tree.func.id
            if op not in OPS:
                raise ValueError(f"pattern {text!r}: no op named {op!r}")
            attrs = tuple((k.arg, attribute(k.value)) for k in tree.keywords)
            return _Call(op, tuple(map(convert, tree.args)), attrs)
        if isinstance(tree, ast.Name):
            return _Name(tree.id)
        return _Number(ast.literal_eval(tree))

    def attribute(tree):
        return _Name(tree.id) if isinstance(tree, ast.Name) else ast.literal_eval(tree)

    return convert(syntax.parse(text, mode="eval").body)


def _orders(pattern: _Pattern) -> list[_Pattern]:
    """The pattern with the operands of commutative ops in every order, without repeats."""
    if not isinstance(pattern, _Call):
        return [pattern]
    variants: dict[_Pattern, None] = {}
    for args in itertools.product(*map(_orders, pattern.args)):
        variants[_Call(pattern.op, args, pattern.attrs)] = None
        if pattern.op in COMMUTATIVE:
            variants[_Call(pattern.op, args[::-1], pattern.attrs)] = None
    return list(variants)


def _match(pattern: _Pattern, node: Node, env: dict[str, object]) -> bool:
    if isinstance(pattern, _Name):
        return env.setdefault(pattern.name, node) is node
    if isinstance(pattern, _Number):
        value = constant(node)
        return value is not None and bool(value == pattern.value)
    if pattern.op != node.op:
        return False
    for key, wanted in pattern.attrs:
        found = node.attr(key)
        if isinstance(wanted, _Name):
            wanted = env.setdefault(wanted.name, found)
        if wanted != found:
            return False
    return all(map(_match, pattern.args, node.inputs, itertools.repeat(env)))


def _build(pattern: _Pattern, env: dict[str, object], like: Node) -> Node:
    """The node that a replacement stands for; a number takes the type of its siblings."""
    if isinstance(pattern, _Name):
        return env[pattern.name]
    if isinstance(pattern, _Number):
        return build.full_like(like, pattern.value)
    args = {i: _build(p, env, like) for i, p in enumerate(pattern.args)
            if not isinstance(p, _Number)}  # fmt: skip
    sibling = args[max(args)]
    operands = [
        args[i] if i in args else build.full_like(sibling, p.value)
        for i, p in enumerate(pattern.args)
    ]
    attrs = {k: env[v.name] if isinstance(v, _Name) else v for k, v in pattern.attrs}
    return build.make(pattern.op, operands, **attrs)


# ------------------------------------------------------------------------- questions to nodes


def constant(node: Node) -> np.generic | None:
    """The value of a constant scalar, or of a broadcast of one, else None."""
    if node.op == "broadcast":
        node = node.inputs[0]
    if node.op == "const" and not node.ndim:
        return node.attr("value").array[()]
    return None


def is_float(node: Node) -> bool:
    return node.dtype.kind == "f"


def is_integer(node: Node) -> bool:
    return node.dtype.kind in "iu"
