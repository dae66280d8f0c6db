"""Random numbers drawn while tracing would be constants of the graph: refuse them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from graphc.errors import TraceError
from graphc.ir.graph import Source
from graphc.trace.reach import cells, is_the_users, line_naming, slots, with_inner
from graphc.trace.source import located

_MOST_VISITED = 4000  # objects: a bound on the work, not on what is meant to be found
_MOST_ELEMENTS = 256  # of one container
_PLAIN = (str, bytes, int, float, complex, type(None), np.ndarray, np.generic, np.ufunc, np.dtype)


class RandomGuard:
    """Compares the states of the generators that ``fn`` can reach before and after a trace.

    Reached are closures, globals and defaults of ``fn`` and of the functions it names, the
    attributes of objects and modules among them, and the elements of containers.
    """

    def __init__(self, fn, arguments: Any = ()):
        self.fn = fn
        self.generators: dict[str, Any] = {}
        self.codes: list[CodeType] = []  # of the user's functions, in the order of the walk
        self._walk(fn, arguments)
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
                        self._line_of(key),
                    )
                )

    def _state(self) -> dict[str, Any]:
        state = {"np.random": _numpy_state(), "random": _python_state()}
        for name, generator in self.generators.items():
            state[f"the generator `{name}`"] = _state_of(generator)
        return state

    def _walk(self, fn, arguments) -> None:
        """Fill ``generators`` and ``codes``."""
        seen: set[int] = set()
        pending: list[tuple[str, Any]] = [("arguments", arguments), ("", fn)]
        alive = []  # bound methods are made anew: their ids must stay taken
        while pending and len(seen) < _MOST_VISITED:
            name, value = pending.pop()
            if isinstance(value, _PLAIN) or id(value) in seen:
                continue
            seen.add(id(value))
            alive.append(value)
            if _is_generator(value):
                name = name or type(value).__name__
                same = sum(n.partition(" (")[0] == name for n in self.generators)
                self.generators[f"{name} ({same + 1})" if same else name] = value
            elif isinstance(value, FunctionType) and is_the_users(value.__module__):
                self.codes.append(value.__code__)
                pending += reversed([*_reached_by_code(value)])
            else:
                pending += reversed([*_parts(name, value)])

    def _line_of(self, key: str) -> Source | None:
        """The first line that names the generator, else the first line of the function."""
        name = key.rpartition("`")[0].rpartition("`")[2] or "random"
        name = name.partition(" (")[0].partition("[")[0].rpartition(".")[2]
        found = line_naming(name, (c for code in self.codes for c in with_inner(code)))
        if found is not None or not self.codes:
            return found
        code = self.codes[0]
        return Source(code.co_filename, code.co_firstlineno, code.co_name)


def _is_generator(value: Any) -> bool:
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random and isinstance(value, numpy_random.Generator | numpy_random.RandomState):
        return True
    python_random = sys.modules.get("random")
    if python_random is None or isinstance(value, python_random.SystemRandom):  # has no state
        return False
    return isinstance(value, python_random.Random)


def _reached_by_code(fn: FunctionType) -> Iterable[tuple[str, Any]]:
    """What a Python function reads: its closure, defaults and the globals that it names."""
    yield from ((n, cell.cell_contents) for n, cell in cells(fn))
    for value in (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()):
        yield "a default", value
    named = {n for code in with_inner(fn.__code__) for n in code.co_names}
    for name in sorted(named & fn.__globals__.keys()):
        value = fn.__globals__[name]
        if isinstance(value, ModuleType):
            if is_the_users(value.__name__):
                inside = vars(value)
                yield from ((f"{name}.{n}", inside[n]) for n in sorted(named & inside.keys()))
        else:
            yield name, value


def _parts(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    """What an object that is no function of the user's leads to."""
    if isinstance(value, FunctionType):  # a wrapper: of graphc, functools or another library
        for inner, cell in cells(value):
            content = cell.cell_contents
            if inner == "given" and isinstance(content, dict):  # static arguments, by name
                yield from content.items()
            else:
                yield inner, content
    elif isinstance(value, MethodType):
        yield name, value.__func__
        yield "self", value.__self__
    elif isinstance(value, functools.partial):
        yield name, value.func
        yield from ((f"{name}.args[{i}]", v) for i, v in enumerate(value.args))
        yield from value.keywords.items()
    elif isinstance(value, dict):
        if len(value) <= _MOST_ELEMENTS:
            yield from ((f"{name}[{k!r}]", v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        if len(value) <= _MOST_ELEMENTS:
            yield from ((f"{name}[{i}]", v) for i, v in enumerate(value))
    elif hasattr(type(value), "__graphc_leaf__") or isinstance(value, ModuleType):
        return
    elif type(value).__module__ == "graphc.compiled":
        yield name, getattr(value, "traceable", None)
    elif isinstance(value, type):
        if is_the_users(value.__module__):
            yield from _of_class(name, value)
    elif is_the_users(type(value).__module__) or type(value).__module__.startswith("graphc.optim"):
        yield from _of_instance(name, value)


def _of_instance(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    prefix = f"{name}." if name else ""
    for attribute, part in getattr(value, "__dict__", {}).items():
        yield f"{prefix}{attribute}", part
    for slot in slots(type(value)):
        yield f"{prefix}{slot}", getattr(value, slot, None)
    for cls in type(value).__mro__:
        if is_the_users(cls.__module__):
            yield from _of_class(name, cls)


def _of_class(name: str, cls: type) -> Iterable[tuple[str, Any]]:
    for attribute, part in list(vars(cls).items()):
        if isinstance(part, property):
            part = part.fget
        elif isinstance(part, staticmethod | classmethod):
            part = part.__func__
        if isinstance(part, FunctionType) or _is_generator(part):
            yield (f"{name}.{attribute}" if name else attribute), part


def _state_of(generator: Any) -> str:
    if hasattr(generator, "bit_generator"):
        return repr(generator.bit_generator.state)
    if hasattr(generator, "getstate"):
        return str(hash(generator.getstate()))
    return repr(generator.get_state(legacy=False))


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
