"""Random numbers drawn while tracing would be constants of the graph: refuse them."""

from __future__ import annotations

import dis
import random
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
            if value != after[key]:
                raise TraceError(
                    located(
                        f"{key} was used inside `{name}`: its numbers would be frozen into the "
                        "graph.\nDraw them outside and pass the array as an argument.",
                        _line_of(self.fn, key),
                    )
                )

    def _state(self) -> dict[str, Any]:
        legacy = np.random.get_state(legacy=False)
        state = {
            "np.random": (legacy["state"]["key"].tobytes(), legacy["state"]["pos"])
            if "key" in legacy["state"]
            else repr(legacy["state"]),
            "random": random.getstate(),
        }
        for name, generator in self.generators.items():
            state[f"the generator `{name}`"] = repr(generator.bit_generator.state)
        return state


def _generators(fn) -> dict[str, np.random.Generator]:
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
