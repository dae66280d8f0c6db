"""What a static graph cannot hold, said with the user's words: the errors that teach."""

from __future__ import annotations

import ast
import difflib
from typing import Any, NoReturn

import numpy as np

from graphc import syntax
from graphc.errors import EscapedTracerError, SymbolicDimError, TraceAttributeError, TraceError
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Node
from graphc.trace import dispatch, foreign
from graphc.trace import source as _source
from graphc.trace.source import located
from graphc.wording import shape_text

# The name of stand-ins in the body of a loop, as messages use it.
IN_LOOP = "the carry, index or element of a loop's step"

# Python wants plain numbers here by its own rules; the right side keeps the size open.
_TWINS = {
    "len": "x.shape[0] in place of len(x)",
    "float": "n / 2 or np.sqrt(n) without float()",
    "int": "x.shape[0] without int()",
    "range": "gc.fori_loop or gc.scan for a loop of n turns",
}
_CREATED = frozenset({"arange", "array", "asarray", "zeros", "ones", "empty", "full"})


def needed_by() -> str:
    """What in the user's line wants a plain number, and how to keep the size open."""
    found, _ = _source.current_expression()
    name = ast.unparse(found.func) if isinstance(found, ast.Call) else ""
    module, _, short = name.rpartition(".")
    if name in _TWINS:
        return f" by `{name}`; write {_TWINS[name]}"
    if module == "math":
        return f" by `{name}`; write np.{short}"
    if module in ("np", "numpy") and short in _CREATED:
        return f" by `{name}`; write graphc.numpy.{short}"
    return f" by `{name}`" if name else ""


def size_needed() -> SymbolicDimError:
    """Of a number made of sizes that must be known while tracing."""
    return SymbolicDimError(f"a number computed from sizes is needed{needed_by()}")


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
    """The inputs (or the step of a loop) that ``node`` is computed from, for a message.

    Raises SymbolicDimError if it is computed from sizes alone: with known sizes there is no error.
    """
    leaves = [n for n in topological([node]) if n.op in ("input", "placeholder")]
    if not leaves and constant_value(node) is not None:
        return "values made in the function"
    if not leaves:
        raise size_needed()
    names = list(dict.fromkeys(n.attr("name") for n in leaves))
    in_loop = IN_LOOP in names
    names = [name for name in names if name != IN_LOOP]
    shown = ", ".join(f"`{n}`" for n in names[:limit]) + ", ..." * (len(names) > limit)
    parts = [IN_LOOP] * in_loop + [f"input {shown}"] * bool(names)
    return " and ".join(parts) or "a traced value"


def refuse(tracer, message: str) -> NoReturn:
    """Raise TraceError; the trace remembers it, since NumPy may replace it by its own error."""
    error = TraceError(located(message))
    tracer.context.refusal = (error, _source.here())
    raise error


def to_bool(tracer) -> bool:
    node = tracer.node
    if node.type.size == 1:
        value = tracer.context.decisions.truth(node)
        if value is not None:
            return value
    inputs = depends_on(node)
    what, hint = _truth_asked(may_be_static=IN_LOOP not in inputs)
    why = "whose value is not known while tracing"
    if node.type.size != 1:
        shape = shape_text(node.shape)
        why = f"but shape {shape} has no single truth value: .any() and .all() have"
    refuse(tracer, f"{what} depends on {inputs}, {why}.\n{hint}")


_BRANCHES = {ast.If: "if", ast.IfExp: "if", ast.While: "while", ast.Assert: "assert"}
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _truth_asked(may_be_static: bool) -> tuple[str, str]:
    """Which construct asks for a truth value, and what to write instead."""
    static = ", or pass the input as a static argument" * may_be_static
    choice = f"Write np.where(condition, a, b), gc.cond(condition, f, g, x){static}."
    found, around = _source.current_expression()
    chain = [*around, found]
    for outer, inner in zip(chain[::-1], [None, *chain[:0:-1]], strict=True):
        if isinstance(outer, ast.BoolOp) and inner is not outer.values[-1]:
            word, twin = ("or", "|") if isinstance(outer.op, ast.Or) else ("and", "&")
            return (
                f"an operand of `{word}`",
                f"For a default write `default if x is None else x`; for conditions `a {twin} b`.",
            )
        if isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.Not):
            return "the operand of `not`", "Write np.logical_not(x)."
        if isinstance(outer, ast.Compare) and len(outer.ops) > 1:
            return "a chained comparison", "Write (a < x) & (x < b)."
        if isinstance(outer, ast.Call) and ast.unparse(outer.func) in ("max", "min", "sorted"):
            name = ast.unparse(outer.func)
            twin = {"max": "np.maximum or np.max", "min": "np.minimum or np.min"}.get(name)
            return f"`{name}()`", f"Write {twin}." if twin else "Call it outside the function."
        word = _BRANCHES.get(type(outer))
        if isinstance(outer, _COMPREHENSIONS):
            word = "if" if any(inner in g.ifs for g in outer.generators) else None
        if word and (inner is None or not hasattr(outer, "test") or inner is outer.test):
            if word == "while":
                return "`while`", f"Write gc.while_loop(condition, body, start){static}."
            return f"`{word}`", choice
    return "a truth value", choice


# Where there is no source text: at a prompt, or in code run from a string.
_PERHAPS_ASSIGNED = (
    "\nIf this line is `buf[i] = x`: a plain NumPy array cannot hold traced values; create "
    "it with\ngraphc.numpy.zeros(shape) (or graphc.numpy.array), then assign to it."
)
_PERHAPS_LISTED = (
    "\nIf it is a list, [a, b], that a NumPy function takes: write np.stack([a, b]) "
    "or\ngraphc.numpy.array([a, b])."
)


def to_number(tracer, how: str) -> Any:
    node, decisions = tracer.node, tracer.context.decisions
    if node.type.size == 1 and not _source.stores_item():
        value = decisions.integer(node) if how == "int()" else decisions.number(node)
        if value is not None:
            return value
    inputs = depends_on(node)
    found, _ = _source.current_expression()
    if isinstance(found, ast.Subscript) and isinstance(found.ctx, ast.Store):
        refuse(tracer, _assigned_to_plain(found.value))
    name = ast.unparse(found.func) if isinstance(found, ast.Call) else ""
    instead = foreign.instead(_source.called_function(), name) if name else None
    what = how if instead is None else f"`{name}`"
    if how != "int()" and decisions.values.of(node).moves:
        hint = instead or (
            "Keep it an array: use the np function in place of math's; or write "
            f"{how.replace('()', '(gc.stop_gradient(x))')} where 0 is meant."
        )
        refuse(
            tracer,
            f"{what} would make a constant of a value that depends on {inputs}, which the "
            f"gradient needs.\n{hint}",
        )
    hint = "Keep it an array: use the np function in place of math's, and x.astype(...) to convert."
    hint = instead or hint
    if found is None and how in ("float()", "int()"):
        hint += _PERHAPS_ASSIGNED
    refuse(
        tracer,
        f"{what} needs a number, but the value depends on {inputs}, which is not known while "
        f"tracing.\n{hint}",
    )


def to_index(tracer) -> int:
    if tracer.node.ndim == 0 and tracer.node.dtype.kind in "iu":
        value = tracer.context.decisions.number(tracer.node)
        if value is not None:
            return value
    inputs = depends_on(tracer.node)
    found, _ = _source.current_expression()
    if isinstance(found, ast.Subscript) and not _has_slice(found):
        refuse(tracer, _indexed_constant(found, inputs))
    refuse(
        tracer,
        f"a plain integer is needed here, but the value depends on {inputs}, which is not "
        "known while tracing.\nPass it as a static argument, or for a moving slice use "
        "np.take(x, start + np.arange(length)).",
    )


def _has_slice(subscript: ast.Subscript) -> bool:
    return any(isinstance(n, ast.Slice) for n in ast.walk(subscript.slice))


def to_array(tracer) -> NoReturn:
    """A plain NumPy function asked a tracer for its elements."""
    inputs = depends_on(tracer.node)
    found, _ = _source.current_expression()
    targets = [found] if isinstance(found, ast.Subscript) else getattr(found, "targets", [])
    for target in targets:
        if isinstance(target, ast.Subscript) and isinstance(target.ctx, ast.Store):
            refuse(tracer, _assigned_to_plain(target.value))
    if isinstance(found, ast.Subscript):
        if _has_slice(found):
            to_index(tracer)
        refuse(tracer, _indexed_constant(found, inputs))
    name = ast.unparse(found.func) if isinstance(found, ast.Call) else ""
    short = name.rsplit(".", 1)[-1]
    twin = foreign.instead(_source.called_function(), name)
    if isinstance(found, ast.BinOp) and _source.operands_are("scipy.sparse"):
        name, twin = ast.unparse(found), foreign.SPARSE
    if short in ("array", "asarray", "asanyarray", "ascontiguousarray", "full"):
        twin = "asarray" if short.startswith("as") else short
        hint = f"Write graphc.numpy.{twin}(...), which takes traced values."
    elif twin is not None:
        hint = twin
    elif short in np.sctypeDict and hasattr(np, short):
        hint = f"Write x.astype(np.{short})."
    elif getattr(np, short, None) in dispatch.FUNCTIONS and short != "linspace":
        hint = f"Pass one array instead of a list: {name}(np.stack([...]))."
    else:
        hint = "Use NumPy functions on it, or call this outside the traced function."
        if found is None:
            hint = (_PERHAPS_LISTED + _PERHAPS_ASSIGNED).lstrip("\n")
    what = f"`{name}`" if name else "this"
    refuse(
        tracer,
        f"{what} needs the elements of an array that depends on {inputs}, which are not "
        f"known while tracing.\n{hint}",
    )


_JOINS = {"r_": "np.concatenate", "c_": "np.column_stack"}


def _indexed_constant(subscript: ast.Subscript, inputs: str) -> str:
    table, index = ast.unparse(subscript.value), ast.unparse(subscript.slice)
    if isinstance(subscript.value, ast.Attribute) and subscript.value.attr in _JOINS:
        join = _JOINS[subscript.value.attr]
        return f"`{table}` cannot join traced values ({inputs}).\nWrite {join}([...])."
    if isinstance(subscript.slice, ast.Tuple):
        index = index.strip("()")
    return (
        f"`{table}` is a plain array or list, indexed by the traced `{index}` ({inputs}).\n"
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


def plain_output(text: str | None) -> TraceError:
    """``out=`` or an augmented assignment into a plain array."""
    tree = syntax.parse(text, mode="eval").body if text else ast.Name("the array")
    return TraceError(located(_assigned_to_plain(tree)))


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


# What others' arrays have.
_ATTRIBUTES = {
    "append": "A list can be appended to; of arrays write np.append(x, v) or np.concatenate.",
    "at": "Write x[i] = v or x[i] += v: the caller's array stays as it is.",
    "backward": "Gradients are functions: gc.grad(loss)(params), outside this one.",
    "block_until_ready": "Leave it out: calls return when their results are there.",
    "cpu": "Leave it out: everything is on the CPU.",
    "cuda": "Leave it out: everything is on the CPU.",
    "detach": "Write gc.stop_gradient(x) to cut the gradient.",
    "device": "Leave it out: everything is on the CPU.",
    "dim": "Write x.ndim.",
    "exp": "Write np.exp(x).",
    "float": "Write x.astype(np.float32).",
    "double": "Write x.astype(np.float64).",
    "long": "Write x.astype(np.int64).",
    "grad": "Gradients are functions: gc.grad(loss)(params), outside this one.",
    "matmul": "Write x @ y.",
    "mm": "Write x @ y.",
    "numpy": "Leave it out: it is one already.",
    "permute": "Write x.transpose(...).",
    "requires_grad": "Gradients are functions: gc.grad(loss)(params), outside this one.",
    "t": "Write x.T.",
    "to": "Leave it out: everything is on the CPU; x.astype(dtype) converts.",
    "unsqueeze": "Write x[:, None] or np.expand_dims(x, axis).",
    "values": "Leave it out: it is an array already.",
}


def foreign_attribute(name: str) -> str | None:
    """The message for an attribute of other libraries' arrays; None for all else."""
    if name not in _ATTRIBUTES:
        return None
    return located(f"traced arrays have no `.{name}`, as NumPy's have none.\n{_ATTRIBUTES[name]}")


def reshaped_in_place() -> NoReturn:
    raise TraceAttributeError(
        located("the shape of a traced array is fixed; write x = x.reshape(...)")
    )


def unhashable(tracer) -> NoReturn:
    inputs = depends_on(tracer.node)
    refuse(
        tracer,
        "a traced value cannot be the key of a dict or in a set: it depends on "
        f"{inputs}.\nWrite int(x) for a whole number (each is a path of its own), or take from an "
        "array:\ngraphc.numpy.asarray(table)[x]. For functools.cache make the array hashable "
        "outside.",
    )


def no_attribute(name: str, supported: list[str]) -> str:
    close = difflib.get_close_matches(name, supported, n=3, cutoff=0.4)
    nearest = f"; nearest supported: {', '.join('.' + c for c in close)}" if close else ""
    return located(f"traced arrays do not support `.{name}`{nearest}")
