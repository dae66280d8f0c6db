"""What a call asks for: the structure, types and static values of its arguments.

How two requests differ, and the widest type that serves both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.errors import OptionError, TraceError, unknown_name
from graphc.ir.dims import Dim, symbol
from graphc.ir.types import TensorType
from graphc.wording import type_text

DEVICES = ("cpu",)


def device_option(name: str | None) -> str:
    """The option ``device``. Nothing is moved to another device than the one asked for.

    >>> device_option(None)
    'cpu'
    """
    if name is None:
        return "cpu"
    if str(name).partition(":")[0] in ("cuda", "gpu", "mps", "tpu"):
        raise OptionError(
            f"device {name!r}: graphc makes code for the CPU only.\n"
            "  Leave device out or give device='cpu'; threads='auto' uses all processors."
        )
    if name not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    return name


@dataclass(frozen=True)
class Request:
    """Arguments of one kind: what a variant is traced for."""

    treedef: Any
    paths: tuple[str, ...]  # of the leaves, as users write them
    types: tuple[TensorType, ...]
    weak: tuple[bool, ...]  # leaves that are Python numbers
    statics: tuple[tuple[str, Any], ...]
    widened: bool = False  # sizes of the call were made symbols

    def of_types(self, types: Iterable[TensorType]) -> Request:
        types = tuple(types)
        widened = types != self.types and any(t.symbols for t in types)
        return replace(self, types=types, widened=widened)

    def listed(self) -> tuple[str, ...]:
        """The arguments, each with its type or static value."""
        static = [f"{name}={_short(value)}" for name, value in self.statics]
        kinds = map(_kind, self.types, self.weak)
        return tuple([*static, *(f"{p}: {k}" for p, k in zip(self.paths, kinds, strict=True))])

    def differs_from(self, before: Request | None) -> str:
        """What is new since ``before``: the reason of a compile."""
        if before is None:
            return "first call"
        given = dict(before.statics)
        for name, value in self.statics:
            if freeze(value) != freeze(given.get(name)):
                return f"static `{name}`: {_short(given.get(name))} -> {_short(value)}"
        if self.paths != before.paths:
            new = [p for p in self.paths if p not in before.paths]
            gone = [p for p in before.paths if p not in self.paths]
            parts = [("with " + ", ".join(new[:3])) if new else ""]
            parts.append(("without " + ", ".join(gone[:3])) if gone else "")
            return f"other arguments: {' and '.join(filter(None, parts))}"
        for position, path in enumerate(self.paths):
            old = _kind(before.types[position], before.weak[position])
            now = _kind(self.types[position], self.weak[position])
            if old != now:
                return f"{path}: {old} -> {now}"
        return "other containers of the arguments"


def _kind(kind: TensorType, weak: bool) -> str:
    """How users name a type: ``float64[10,n]``."""
    if weak:
        return f"Python {type(kind.dtype.type().item()).__name__}"
    return type_text(kind)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def frozen(statics: Iterable[tuple[str, Any]]) -> tuple:
    """Static arguments as a key. Raises TraceError for one that cannot be told apart."""
    result = []
    for name, value in statics:
        try:
            result.append((name, freeze(value)))
        except TraceError as error:
            raise TraceError(f"`{name}`: {error}") from None
    return tuple(result)


def freeze(value: Any) -> Any:
    """A hashable stand-in for a static value, so that lists and dicts may be static."""
    if isinstance(value, dict):
        return ("dict", tuple((k, freeze(v)) for k, v in value.items()))  # order may matter too
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(map(freeze, value)))
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, set):
        return ("set", frozenset(map(freeze, value)))
    if isinstance(value, slice):
        return ("slice", freeze((value.start, value.stop, value.step)))
    if isinstance(value, float):
        return (type(value).__name__, value.hex())  # 0.0 == -0.0, nan != nan
    try:
        hash(value)
    except TypeError:
        raise TraceError(
            f"a static argument of type {type(value).__name__} cannot be hashed, so graphc "
            "cannot tell whether it changed; pass a tuple, or give the class __hash__ and __eq__"
        ) from None
    return (type(value).__name__, value)


def symbolic(before, now) -> tuple[TensorType, ...] | None:
    """``now`` with a named dim wherever its size differs from ``before``; None if more differs.

    Sizes that changed together share a name. Sizes of 0 and 1 stay: they broadcast differently.
    """
    names: dict[tuple, Dim] = {}
    declared = frozenset().union(*(t.symbols for t in now))
    fresh = (symbol(n) for n in map("n{}".format, itertools.count()) if n not in declared)
    result = []
    for old, new in zip(before, now, strict=True):
        if old.dtype != new.dtype or old.ndim != new.ndim:
            return None
        shape = []
        for a, b in zip(old.shape, new.shape, strict=True):
            if a == b or isinstance(b, Dim):
                shape.append(b)
            elif b <= 1 or (isinstance(a, int) and a <= 1):
                return None
            else:
                pair = (a, b)
                if pair not in names:
                    names[pair] = next(fresh)
                shape.append(names[pair])
        result.append(TensorType(new.dtype, tuple(shape)))
    return tuple(result)


def became_symbolic(request: Request, wanted: Sequence[TensorType]) -> str:
    """Which axes may have any size in a compile, for its reason."""
    axes = [
        f"axis {axis} of {path}"
        for path, kind in zip(request.paths, wanted, strict=True)
        for axis, dim in enumerate(kind.shape)
        if isinstance(dim, Dim)
    ]
    shown = ", ".join(axes[:3]) + ", ..." * (len(axes) > 3)
    return f": {shown} became symbolic" if axes else ""
