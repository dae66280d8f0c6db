"""Random numbers drawn while tracing would be constants of the graph: refuse them."""

from __future__ import annotations

import dis
import sys
from typing import Any

import numpy as np

from graphc.errors import TraceError
from graphc.ir.graph import Source
from graphc.trace.source import located


class RandomGuard:
    """Compares the state of the generators that ``fn`` can reach before and after a trace."""

    def __init__(self, fn):
        self.fn = fn
        self.generators = _generators(fn)
        self.before = self._state()

    def check(self, name: str) -> None:
        """Raise TraceError if a generator moved."""
        after = self._state()
        for key, value in self.before.items():
            if _moved(value, after[key]):
                raise TraceError(
                    located(
                        f"{key} was used inside `{name}`: its numbers would be frozen into the "
                        "graph.\nDraw them outside and pass the array as an argument.",
                        _line_of(self.fn, key),
                    )
                )

    def _state(self) -> dict[str, Any]:
        state = {"np.random": _numpy_state(), "random": _python_state()}
        for name, generator in self.generators.items():
            state[f"the generator `{name}`"] = repr(generator.bit_generator.state)
        return state


def _numpy_state() -> tuple | None:
    """Key and position of NumPy's global generator, None before its import (which costs 10 ms)."""
    if "numpy.random" not in sys.modules:
        return None
    state = np.random.get_state(legacy=False)["state"]
    return (state["key"].tolist(), state["pos"]) if "pos" in state else (repr(state), None)


def _python_state() -> tuple | None:
    if "random" not in sys.modules:
        return None
    _, internal, _ = sys.modules["random"].getstate()
    return internal[:-1], internal[-1]


def _moved(before: Any, after: Any) -> bool:
    if before is None and after is not None:  # imported meanwhile: a fresh one stands at the end
        key, place = after
        return place is not None and place != len(key)
    return before != after


def _generators(fn) -> dict[str, Any]:
    """Generators among the globals and closure of a Python function."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return {}
    reachable = {n: fn.__globals__[n] for n in code.co_names if n in fn.__globals__}
    for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=False):
        try:
            reachable[name] = cell.cell_contents
        except ValueError:  # not yet bound
            continue
    if "numpy.random" not in sys.modules:
        return {}
    return {n: v for n, v in reachable.items() if isinstance(v, np.random.Generator)}


def _line_of(fn, key: str) -> Source | None:
    """The first line of ``fn`` that names the generator, else its first line."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return None
    name = key.rpartition("`")[0].rpartition("`")[2] or "random"
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        if instruction.argval == name and instruction.positions and instruction.positions.lineno:
            line = instruction.positions.lineno
            break
    return Source(code.co_filename, line, code.co_name)
