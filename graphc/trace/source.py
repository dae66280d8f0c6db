"""Where the user is: the innermost frame outside graphc and NumPy, and what is written there."""

from __future__ import annotations

import ast
import dis
import functools
import itertools
import linecache
import sys
from types import FrameType
from typing import Any

from graphc import syntax
from graphc.ir.graph import Source

_LONGEST_QUOTE = 120
# Nobody's own lines: what is said is about the line that calls into these.
_INTERNAL = frozenset({
    "graphc", "numpy", "scipy", "optree", "functools", "contextlib", "copy", "sklearn", "pandas",
    "matplotlib", "torch", "jax", "seaborn", "statsmodels", "joblib", "tqdm",
})  # fmt: skip


def user_frame() -> FrameType | None:
    """The innermost frame that the user wrote."""
    frame = sys._getframe(1)
    while frame is not None and is_internal(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return frame


def is_user(frame: FrameType) -> bool:
    """Whether a frame is the user's, or of a library that the user calls."""
    package = _package(frame)
    return package not in _INTERNAL and package not in sys.stdlib_module_names


def frames_to_user() -> int:
    """``stacklevel`` of the innermost line outside graphc, for a warning of the caller."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and not is_user(frame):
        level, frame = level + 1, frame.f_back
    return level


def called_function() -> Any:
    """What the user's line calls, if it is a name or an attribute of one; else None."""
    call, _ = current_expression()
    frame = user_frame()
    if not isinstance(call, ast.Call) or frame is None:
        return None
    attributes, node = [], call.func
    while isinstance(node, ast.Attribute | ast.Call):
        if isinstance(node, ast.Call):  # of what a class or function made: that one
            attributes, node = [], node.func
        else:
            attributes.append(node.attr)
            node = node.value
    if not isinstance(node, ast.Name):
        return None
    found = _named(frame, node.id)
    for name in reversed(attributes):
        if hasattr(found, "__graphc_leaf__"):
            return None
        found = getattr(found, name, None)
    return found


def _named(frame: FrameType, name: str) -> Any:
    return frame.f_locals.get(name, frame.f_globals.get(name))


def operands_are(package: str) -> bool:
    """Whether the user's expression names an object of a class of ``package``."""
    expression, _ = current_expression()
    frame = user_frame()
    if expression is None or frame is None:
        return False
    names = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)}
    return any(type(_named(frame, n)).__module__.startswith(package) for n in names)


def stores_item() -> bool:
    """Whether the user's current instruction is ``buf[i] = x`` into something not traced."""
    frame = user_frame()
    if frame is None:
        return False
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] in ("STORE_SUBSCR", "STORE_SLICE")


def updates_item() -> bool:
    """Whether the user's current instruction reads the target of ``x[i] += v``: Python then keeps
    both ``x`` and ``i`` for the store. Source text is not needed, so it works at a prompt."""
    frame = user_frame()
    if frame is None or frame.f_lasti < 4:
        return False
    code, at = frame.f_code.co_code, frame.f_lasti
    return all(dis.opname[code[place]] == "COPY" for place in (at - 2, at - 4))


def _package(frame: FrameType) -> str:
    return _package_of(frame.f_globals.get("__name__", ""))


def _package_of(module: str) -> str:
    return module.partition(".")[0]


@functools.lru_cache(maxsize=1024)
def is_internal(module: str) -> bool:
    return _package_of(module) in _INTERNAL


def here() -> Source | None:
    """The user's current line."""
    frame = user_frame()
    if frame is None:
        return None
    code = frame.f_code
    return _line(code.co_filename, frame.f_lineno, code.co_name)


@functools.lru_cache(maxsize=1024)
def _line(file: str, line: int, function: str) -> Source:
    return Source(file, line, function)


def line_text(source: Source) -> str:
    """The text of a line, cut where it is long, empty where the file cannot be read."""
    text = linecache.getline(source.file, source.line).strip()
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 3] + "..."


def located(message: str, source: Source | None = None) -> str:
    """``message`` with the user's line below it."""
    source = source or here()
    if source is None:
        return message
    text = line_text(source)
    return f"{message}\n  at {source} in {source.function}{': ' + text if text else ''}"


def current_expression() -> tuple[ast.AST | None, list[ast.AST]]:
    """The expression that the user's frame is evaluating, and the nodes around it, outermost
    first. ``(None, [])`` where the source is not available."""
    frame = user_frame()
    if frame is None:
        return None, []
    code = frame.f_code
    positions = next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None), None)
    lines = linecache.getlines(code.co_filename, frame.f_globals)
    tree = _parsed("".join(lines))
    if not lines or tree is None or positions is None or None in positions:
        return None, []
    line, end_line, column, end_column = positions
    start, end = (line, column), (end_line, end_column)
    found, around, node = None, [], tree
    while node is not None:
        found, inner = node, None
        for child in _placed_children(node):
            begin = (child.lineno, child.col_offset)
            if begin <= start and end <= (child.end_lineno, child.end_col_offset):
                inner = child
                break
        if inner is not None:
            around.append(node)
        node = inner
    return found, around


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> ast.Module | None:
    try:
        return syntax.parse(text)
    except SyntaxError:
        return None


def _placed_children(node: ast.AST):
    """Children that have a place in the text (the parts of a comprehension have none)."""
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno"):
            yield child
        else:
            yield from _placed_children(child)


def operand_texts(count: int) -> list[str | None]:
    """How the user wrote the operands of the current expression, None where unknown."""
    expression, _ = current_expression()
    if isinstance(expression, ast.BinOp):
        parts = [expression.left, expression.right]
    elif isinstance(expression, ast.Compare) and len(expression.comparators) == 1:
        parts = [expression.left, expression.comparators[0]]
    elif isinstance(expression, ast.AugAssign):
        parts = [expression.target, expression.value]
    elif isinstance(expression, ast.Call):
        parts = list(expression.args)
        if isinstance(expression.func, ast.Attribute) and len(parts) == count - 1:
            parts.insert(0, expression.func.value)
        if len(parts) == 1 and isinstance(parts[0], ast.List | ast.Tuple):
            parts = parts[0].elts
    else:
        parts = []
    texts: list[str | None] = [_short(p) for p in parts[:count]]
    return texts + [None] * (count - len(texts))


def output_text() -> str | None:
    """How the user wrote the array that the current expression writes into."""
    expression, around = current_expression()
    for node in (expression, *around[::-1]):
        if isinstance(node, ast.AugAssign):
            return ast.unparse(node.target)
        if isinstance(node, ast.Call):
            outs = [k.value for k in node.keywords if k.arg == "out"]
            return ast.unparse(outs[0]) if outs else None
    return None


def _short(node: ast.AST) -> str | None:
    text = ast.unparse(node)
    return text if len(text) <= 32 else None
