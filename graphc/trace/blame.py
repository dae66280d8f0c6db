"""What a static graph cannot hold, said with the user's words: the errors that teach."""

from __future__ import annotations

import ast
import difflib
from typing import Any, NoReturn

import numpy as np

from graphc.errors import EscapedTracerError, SymbolicDimError, TraceError
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Node
from graphc.trace import source as _source
from graphc.trace.source import located


def constant_value(node: Node) -> np.ndarray | None:
    """The value of a node that depends on no input, else None."""
    if node.op == "const":
        return node.attr("value").array
    nodes = topological([node])
    if any(n.op in ("input", "placeholder", "size") or n.type.symbols for n in nodes):
        return None
    from graphc.interp import evaluate

    return evaluate(Graph("constant", (), (node,)), [])[0]


def depends_on(node: Node, limit: int = 3) -> str:
    """The inputs that ``node`` is computed from, for a message.

    Raises SymbolicDimError if it is computed from sizes alone: with known sizes there is no error.
    """
    leaves = [n for n in topological([node]) if n.op in ("input", "placeholder")]
    if not leaves:
        raise SymbolicDimError("a value computed from symbolic sizes is needed while tracing")
    names = list(dict.fromkeys(n.attr("name") for n in leaves))
    shown = ", ".join(f"`{n}`" for n in names[:limit])
    return shown + (", ..." if len(names) > limit else "") or "a traced value"


def to_bool(tracer) -> bool:
    value = constant_value(tracer.node)
    if value is not None:
        return bool(value)
    inputs = depends_on(tracer.node)
    statement = _branch()
    if statement in ("or", "and"):
        twin = "logical_or" if statement == "or" else "logical_and"
        message = (
            f"`{statement}` needs True or False, but its operand depends on input {inputs}.\n"
            f"For a default write `default if x is None else x`; for arrays np.{twin}(a, b)."
        )
    elif statement == "not":
        message = (
            f"`not` needs True or False, but its operand depends on input {inputs}; "
            "write np.logical_not(x)."
        )
    else:
        message = (
            f"`{statement}` depends on input {inputs}, whose value is not known while tracing.\n"
            "Write np.where(condition, a, b), or pass the input as a static argument."
        )
    raise TraceError(located(message))


_STATEMENTS = {
    ast.If: "if",
    ast.IfExp: "if",
    ast.While: "while",
    ast.Assert: "assert",
    ast.comprehension: "if",
}


def _branch() -> str:
    """Which construct asks for a truth value."""
    found, around = _source.current_expression()
    chain = [*around, found]
    for outer, inner in zip(chain[-2::-1], chain[:0:-1], strict=True):
        if isinstance(outer, ast.BoolOp) and inner is not outer.values[-1]:
            return "or" if isinstance(outer.op, ast.Or) else "and"
        if isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.Not):
            return "not"
        if type(outer) in _STATEMENTS and inner is outer.test:
            return _STATEMENTS[type(outer)]
    if isinstance(found, ast.Compare) and len(found.ops) > 1:
        return "a chained comparison"
    return _STATEMENTS.get(type(found), "bool()")


def to_number(tracer, how: str) -> Any:
    value = constant_value(tracer.node)
    if value is not None:
        return value.tolist() if how == ".tolist()" else value.item()
    hint = "Keep it an array: use the np function in place of math's, and x.astype(...) to convert."
    if how in (".item()", ".tolist()"):
        hint = f"Leave out {how} inside the traced function; return the array instead."
    raise TraceError(
        located(
            f"{how} needs a number, but the value depends on input {depends_on(tracer.node)}, "
            f"which is not known while tracing.\n{hint}"
        )
    )


def to_index(tracer) -> int:
    value = constant_value(tracer.node)
    if value is not None and value.ndim == 0 and value.dtype.kind in "iu":
        return int(value)
    inputs = depends_on(tracer.node)
    found, _ = _source.current_expression()
    if isinstance(found, ast.Subscript):
        raise TraceError(located(_indexed_constant(found, inputs)))
    raise TraceError(
        located(
            f"a plain integer is needed here, but the value depends on input {inputs}, which is "
            "not known while tracing.\nPass it as a static argument, or for a moving slice use "
            "np.take(x, start + np.arange(length))."
        )
    )


def to_array(tracer) -> NoReturn:
    """A plain NumPy function asked a tracer for its elements."""
    inputs = depends_on(tracer.node)
    found, around = _source.current_expression()
    target = next((n for n in (found, *around[::-1]) if isinstance(n, ast.Assign)), None)
    if isinstance(found, ast.Subscript) and isinstance(found.ctx, ast.Store):
        raise TraceError(located(_assigned_to_plain(found.value)))
    if isinstance(found, ast.Assign | ast.AugAssign) and target is not None:
        for t in target.targets:
            if isinstance(t, ast.Subscript):
                raise TraceError(located(_assigned_to_plain(t.value)))
    if isinstance(found, ast.Subscript):
        raise TraceError(located(_indexed_constant(found, inputs)))
    name = ast.unparse(found.func) if isinstance(found, ast.Call) else ""
    short = name.rsplit(".", 1)[-1]
    twins = ("array", "asarray", "asanyarray", "ascontiguousarray", "arange", "linspace", "full")
    if short in twins:
        twin = "asarray" if short.startswith("as") else short
        hint = f"Write graphc.numpy.{twin}(...), which takes traced values."
    elif short in np.sctypeDict and hasattr(np, short):
        hint = f"Write x.astype(np.{short})."
    else:
        hint = "Use NumPy functions on it, or call this outside the traced function."
    what = f"`{name}`" if name else "this"
    raise TraceError(
        located(
            f"{what} needs the elements of an array that depends on input {inputs}, which are "
            f"not known while tracing.\n{hint}"
        )
    )


def _indexed_constant(subscript: ast.Subscript, inputs: str) -> str:
    table, index = ast.unparse(subscript.value), ast.unparse(subscript.slice)
    return (
        f"the plain array `{table}` is indexed by the traced `{index}` (input {inputs}).\n"
        f"Wrap it: graphc.numpy.asarray({table})[{index}]"
    )


def _assigned_to_plain(target: ast.AST) -> str:
    name = ast.unparse(target)
    line = _line_of_definition(name)
    where = f" (line {line})" if line else ""
    return (
        f"`{name}`{where} is a plain NumPy array and cannot hold traced values.\n"
        "Create it with graphc.numpy.zeros(shape) (or graphc.numpy.array), then assign to it."
    )


def plain_output(text: str | None) -> NoReturn:
    """``out=`` or an augmented assignment into a plain array."""
    tree = ast.parse(text, mode="eval").body if text else ast.Name("the array")
    raise TraceError(located(_assigned_to_plain(tree)))


def _line_of_definition(name: str) -> int | None:
    """The last line before the current one, in the same function, that assigns ``name``."""
    frame = _source.user_frame()
    _, around = _source.current_expression()
    line = None
    for node in ast.walk(around[0]) if around and frame else ():
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            inside = frame.f_code.co_firstlineno <= node.lineno < frame.f_lineno
            line = max(line or 0, node.lineno) if inside else line
    return line


def escaped(tracer) -> NoReturn:
    """A tracer met after its trace ended."""
    context = tracer.context
    made = context.sources.get(tracer._node)
    where = f" line {made.line}" if made else ""
    frame = _source.user_frame()
    through = ""
    for kind, names in (("global", frame.f_globals), ("variable", frame.f_locals)) if frame else ():
        name = next((k for k, v in names.items() if _holds(v, tracer)), None)
        if name:
            through = f" through {kind} `{name}`"
            break
    raise EscapedTracerError(
        located(
            f"a value from `{context.name}`{where} escaped{through}: it was used after the trace "
            "ended.\nReturn it from the function instead of storing it."
        )
    )


def _holds(value, tracer) -> bool:
    if value is tracer:
        return True
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list | tuple) and any(v is tracer for v in value)


def no_attribute(name: str, supported: list[str]) -> str:
    close = difflib.get_close_matches(name, supported, n=3, cutoff=0.4)
    nearest = f"; nearest supported: {', '.join('.' + c for c in close)}" if close else ""
    return located(f"traced arrays do not support `.{name}`{nearest}")
