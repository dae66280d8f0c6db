"""What a traced function reads besides its arguments, and whether that has changed since.

A trace freezes globals, closure variables, defaults, attributes and elements of containers. What
a function may read of these is in its bytecode; each is a fact here, compared before each call:
by identity where that suffices (natively a nanosecond or ten, see ``runtime/entry.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import dis
import functools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from graphc.ir.graph import Source
from graphc.trace.reach import cells, is_the_users, line_naming, slots, with_inner
from graphc.trace.source import is_internal

ITEM, ELEMENT, ATTRIBUTE, CELL, SIZE, CONTENT = range(6)
MISSING = type("missing", (), {"__repr__": lambda self: "nothing"})()

_MOST_FACTS = 256
_MOST_VISITED = 2000  # objects, in a walk
_MOST_WALKS = 4
_MOST_ELEMENTS = 64  # of one container
_WHOLE_BYTES = 1 << 14  # arrays above are looked at in some places
_PLACES = 32
_NUMBERS = (bool, int, float, complex, str, bytes, type(None), np.generic)
_PLAIN = (*_NUMBERS, np.ufunc, np.dtype)
_BUILT_IN = (property, staticmethod, classmethod)


@dataclass(slots=True)
class Fact:
    """Something that was so when the function was traced.

    how: ITEM ``holder[key]`` of a dict, ELEMENT of a list, ATTRIBUTE, CELL (of a closure), SIZE
    ``len(holder)``, CONTENT of an array, whose value is a :class:`Content`. path: as users write.
    """

    path: str
    how: int
    holder: Any
    key: Any
    value: Any

    def now(self) -> Any:
        if self.how == ITEM:
            return self.holder.get(self.key, MISSING)
        if self.how == ATTRIBUTE:
            return getattr(self.holder, self.key, MISSING)
        if self.how == CELL:
            try:
                return self.holder.cell_contents
            except ValueError:
                return MISSING
        if self.how == SIZE:
            return len(self.holder)
        return self.holder[self.key] if self.key < len(self.holder) else MISSING

    def holds(self) -> bool:
        if self.how == CONTENT:
            return self.value.holds()
        now = self.now()
        return now is self.value or (self.how == SIZE and now == self.value)

    def change(self) -> str:
        """What is no longer so, for a message; empty for an equal number in another object."""
        if self.how == CONTENT:
            return f"{self.path} changed in place"
        now = self.now()
        if self.how == SIZE:
            return f"{self.path}: length {self.value} -> {now}"
        if isinstance(now, _NUMBERS) and isinstance(self.value, _NUMBERS):
            if _alike(now, self.value):
                return ""
            return f"{self.path}: {_short(self.value)} -> {_short(now)}"
        if now is MISSING:
            return f"{self.path} is gone"
        return f"{self.path} is another {type(now).__name__}"


class Captured:
    """What ``fn`` and the objects among its static arguments read, as it is now."""

    def __init__(self, fn: Any, statics: Iterable[tuple[str, Any]] = ()):
        statics = tuple(statics)
        names: set[str] = set()
        for _ in range(_MOST_WALKS):  # attributes are known by names in code that they may lead to
            walk = _Walk(frozenset(names))
            walk.run([*statics, ("", fn)])
            if walk.names <= names:
                break
            names |= walk.names
        self.facts: Sequence[Fact] = walk.facts
        self.codes: Sequence[CodeType] = walk.codes
        self.stamp = object()  # another one whenever a fact has another value

    def change(self) -> tuple[str, Fact] | None:
        """The first that is no longer so, in words. Equal numbers that are other objects are
        taken over."""
        for fact in self.facts:
            if fact.holds():
                continue
            text = fact.change()
            if text:
                return text, fact
            fact.value, self.stamp = fact.now(), object()
        return None

    def take_over(self) -> None:
        """What is now, is as it should be."""
        for fact in self.facts:
            if not fact.holds():
                is_array = fact.how == CONTENT
                fact.value = Content(fact.holder) if is_array else fact.now()
                self.stamp = object()

    def line_of(self, fact: Fact) -> Source | None:
        """The first line that names what ``fact`` is about."""
        name = _inner(fact.path).partition("[")[0].rpartition(".")[2]
        return line_naming(name, self.codes)


class Content:
    """What the memory of an array holds; of a large one, some places of it."""

    __slots__ = ("array", "data", "parts", "words")

    def __init__(self, array: np.ndarray):
        self.array = array
        self.data = address_of(array)
        low, high = _span(array, self.data)
        first, last = -(-low // 8) * 8, high // 8 * 8  # whole words of it
        self.parts: list[tuple[int, int, int]] = []  # address, mask and value of single words
        self.words: tuple[int, np.ndarray] | None = None  # address and values of many
        if high - low > _WHOLE_BYTES:
            places = first + np.linspace(0, (last - first) // 8 - 1, _PLACES).astype(np.int64) * 8
            self.parts = [(int(p), -1, _word(int(p))) for p in places]
            return
        if first > low or last < first:
            self._part(low, min(first, high))
        if last > first:
            self.words = first, _words(first, (last - first) // 8).copy()
        if high > last >= first:
            self._part(last, high)

    def _part(self, low: int, high: int) -> None:
        """Some bytes of one word."""
        at = low // 8 * 8
        if high > low:
            mask = sum(0xFF << 8 * (k - at) for k in range(low, high))
            mask -= (mask >> 63) << 64
            self.parts.append((at, mask, _word(at) & mask))

    def holds(self) -> bool:
        if address_of(self.array) != self.data:
            return False
        if any(_word(at) & mask != value for at, mask, value in self.parts):
            return False
        at, values = self.words or (0, None)
        return values is None or bool((_words(at, len(values)) == values).all())


def address_of(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _span(array: np.ndarray, data: int) -> tuple[int, int]:
    """Addresses from its first to behind its last byte."""
    reach = [s * (n - 1) for n, s in zip(array.shape, array.strides, strict=True)]
    low = data + sum(r for r in reach if r < 0)
    return low, data + sum(r for r in reach if r > 0) + array.itemsize


def _word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


def _words(address: int, count: int) -> np.ndarray:
    return np.frombuffer((ctypes.c_int64 * count).from_address(address), np.int64)


def _alike(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float | complex | np.inexact):  # 0.0 == -0.0, nan != nan
        return np.asarray(a).tobytes() == np.asarray(b).tobytes()
    return bool(a == b)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


class _Walk:
    """Finds facts, nearest first. ``names`` become the attributes that the code found names."""

    def __init__(self, attributes: frozenset[str]):
        self.attributes = attributes  # that objects are asked for
        self.names: set[str] = set()
        self.facts: list[Fact] = []
        self.codes: list[CodeType] = []
        self.seen: set[int] = set()
        self.alive: list[Any] = []  # bound methods are made anew: their ids must stay taken
        self.known: set[tuple] = set()
        self.pending: deque[tuple[str, Any]] = deque()

    def run(self, roots: Iterable[tuple[str, Any]]) -> None:
        self.pending.extend(roots)
        while self.pending and len(self.facts) < _MOST_FACTS and len(self.seen) < _MOST_VISITED:
            path, value = self.pending.popleft()
            if isinstance(value, _PLAIN) or id(value) in self.seen:
                continue
            self.seen.add(id(value))
            self.alive.append(value)
            self.visit(path, value)

    def note(self, path: str, how: int, holder: Any, key: Any, value: Any) -> None:
        """Something is so; and what it leads to."""
        if hasattr(type(value), "__graphc_leaf__"):  # of the trace itself
            return
        mark = (how, id(holder), key)
        is_module = isinstance(value, ModuleType)
        if mark not in self.known and not is_module and len(self.facts) < _MOST_FACTS:
            self.known.add(mark)
            self.facts.append(Fact(path, how, holder, key, value))
        self.pending.append((path, value))

    def visit(self, path: str, value: Any) -> None:
        kind = type(value)
        if isinstance(value, np.ndarray):
            if value.size and not isinstance(value, np.memmap):
                self.facts.append(Fact(_quoted(path), CONTENT, value, None, Content(value)))
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self.pending += [(path, value.__func__), ("self", value.__self__)]
        elif isinstance(value, functools.partial):
            self.pending += [("", value.func), *((f"{path}.args", a) for a in value.args)]
            self.pending += value.keywords.items()
        elif isinstance(value, _BUILT_IN):
            self.pending.append((path, getattr(value, "fget", None) or value.__wrapped__))
        elif isinstance(value, dict):
            self._sized(path, value)
            if len(value) <= _MOST_ELEMENTS:
                for key, part in list(value.items()):
                    self.note(f"`{_inner(path)}[{key!r}]`", ITEM, value, key, part)
        elif isinstance(value, list | tuple):
            if isinstance(value, list):
                self._sized(path, value)
            for k, part in enumerate(value[:_MOST_ELEMENTS]):
                place = f"`{_inner(path)}[{k}]`"
                if isinstance(value, list):
                    self.note(place, ELEMENT, value, k, part)
                else:
                    self.pending.append((place, part))
        elif isinstance(value, set | deque):
            self._sized(path, value)
        elif isinstance(value, ModuleType):
            if _is_watched(value.__name__):
                self._named(path, vars(value), ITEM, vars(value))
        elif kind.__module__.startswith("graphc."):
            if kind.__module__ in ("graphc.compiled", "graphc.ad.custom"):
                inner = (vars(value).get(n) for n in ("traceable", "fn", "_backward"))
                self.pending += [("", part) for part in inner if part is not None]
        elif isinstance(value, type):
            self._class(path, value)
        elif not kind.__module__.startswith("numpy"):
            with contextlib.suppress(Exception):  # what cannot be looked into is not watched
                self._instance(path, value)

    def _sized(self, path: str, value: Any) -> None:
        self.facts.append(Fact(_quoted(path), SIZE, value, None, len(value)))

    def _function(self, fn: FunctionType) -> None:
        module = fn.__globals__.get("__name__")  # not __module__, which functools.wraps copies
        if (module or "").partition(".")[0] == "graphc":  # a wrapper
            self.pending += [(name, cell.cell_contents) for name, cell in cells(fn)]
            return
        if not _is_watched(module):
            return
        self.codes += with_inner(fn.__code__)
        read, attributes = _names(fn.__code__)
        self.names |= attributes
        for name, cell in cells(fn):
            self.note(f"`{name}` of the closure", CELL, cell, 0, cell.cell_contents)
        for name in sorted(n for n in read if n in fn.__globals__):
            self.note(f"global `{name}`", ITEM, fn.__globals__, name, fn.__globals__[name])
        parameters = fn.__code__.co_varnames[: fn.__code__.co_argcount]
        defaults = fn.__defaults__ or ()
        named = zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True)
        self.pending += [*named, *(fn.__kwdefaults__ or {}).items()]

    def _named(self, path: str, inside: Any, how: int, holder: Any) -> None:
        """What is there under names that the code has."""
        names = list(inside) if "__dict__" in self.attributes else self.attributes
        for name in sorted(n for n in names if isinstance(n, str) and n in inside):
            self.note(f"`{_inner(path)}.{name}`", how, holder, name, inside[name])

    def _instance(self, path: str, value: Any) -> None:
        inside = getattr(value, "__dict__", None)
        if isinstance(inside, dict):
            self._named(path, inside, ITEM, inside)
            for cls in type(value).__mro__ if _is_watched(type(value).__module__) else ():
                for name in self.attributes & vars(cls).keys() - inside.keys():
                    if not hasattr(vars(cls)[name], "__get__"):  # the object may get its own
                        place = f"`{_inner(path)}.{name}`"
                        self.facts.append(Fact(place, ITEM, inside, name, MISSING))
        for name in slots(type(value)):
            if name in self.attributes and hasattr(value, name):
                place = f"`{_inner(path)}.{name}`"
                self.note(place, ATTRIBUTE, value, name, getattr(value, name))
        self._class(path, type(value))

    def _class(self, path: str, cls: type) -> None:
        for part in cls.__mro__:
            if not _is_watched(part.__module__):
                continue
            for name, value in list(vars(part).items()):
                is_code = isinstance(value, (FunctionType, *_BUILT_IN))
                if is_code and (name in self.attributes or _is_called_by_operators(name)):
                    self.pending.append((name, value))
                elif name in self.attributes and not is_code and not hasattr(value, "__get__"):
                    self.note(f"`{_inner(path)}.{name}`", ATTRIBUTE, part, name, value)


def _quoted(path: str) -> str:
    return path if "`" in path else f"`{path}`"


def _inner(path: str) -> str:
    """``path`` as the beginning of a longer one."""
    return path.removeprefix("global ").removesuffix(" of the closure").strip("`")


def _is_called_by_operators(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and name not in _MAKING


_MAKING = {"__init__", "__new__", "__repr__", "__setattr__", "__init_subclass__", "__reduce__"}


def _is_watched(module: str | None) -> bool:
    return is_the_users(module) and not is_internal(module or "")


_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM")


@functools.lru_cache(maxsize=1024)
def _names(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the globals that code reads, and of attributes."""
    read, attributes = set(), set()
    for inner in with_inner(code):
        for instruction in dis.get_instructions(inner):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(instruction.argval)
            elif instruction.opname in _ATTRIBUTES:
                attributes.add(instruction.argval)
        if read & {"getattr", "vars"}:
            attributes |= {c for c in inner.co_consts if isinstance(c, str) and c.isidentifier()}
    if "vars" in read:
        attributes.add("__dict__")
    return frozenset(read), frozenset(attributes)
