"""What Python functions reach: their closures, and what is the user's among it."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable
from types import CodeType, FunctionType
from typing import Any

from graphc.ir.graph import Source

_FOREIGN = frozenset({"numpy", "scipy", "optree", "numba", "sympy", "pytest", "_pytest"})


def is_the_users(module: str | None) -> bool:
    package = (module or "").partition(".")[0]
    if package in _FOREIGN or package == "graphc":
        return False
    return package == "__main__" or package not in sys.stdlib_module_names


def with_inner(code: CodeType) -> Iterable[CodeType]:
    """``code`` and that of the functions defined in it."""
    pending = [code]
    while pending:
        code = pending.pop()
        yield code
        pending += [c for c in code.co_consts if isinstance(c, CodeType)]


def line_naming(name: str, codes: Iterable[CodeType]) -> Source | None:
    """The first line that reads ``name``."""
    for code in codes:
        for instruction in dis.get_instructions(code):
            line = instruction.positions and instruction.positions.lineno
            if line and instruction.argval == name and instruction.opname.startswith("LOAD"):
                return Source(code.co_filename, line, code.co_name)
    return None


def cells(fn: FunctionType) -> Iterable[tuple[str, Any]]:
    """The bound variables of a closure, each with its cell."""
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            cell.cell_contents  # noqa: B018
        except ValueError:  # not yet bound
            continue
        yield name, cell


def slots(kind: type) -> Iterable[str]:
    """Names of the attributes that objects of a class keep outside of a dict."""
    for cls in kind.__mro__:
        names = cls.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if isinstance(name, str) and not name.startswith("__"):
                yield name
