"""``debug_print``: values of a traced function, shown when a call is over.

A traced function runs once, so what it prints is printed once, of values that are not there yet.
Values to show become further results of the program; its caller prints them, in the order of the
function's lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.errors import TraceError
from graphc.ir.dims import Dim
from graphc.ir.graph import Source
from graphc.ir.node import Node
from graphc.trace import source as _source
from graphc.trace.context import active_trace, current_trace
from graphc.trace.tracer import Tracer
from graphc.trace.tree import flatten, unflatten


@dataclass(frozen=True)
class Shown:
    """One ``debug_print``: its values, with a mark for each traced one; those are ``nodes``."""

    leaves: tuple
    structure: Any
    nodes: tuple[Node, ...]
    weak: tuple[bool, ...]
    labels: tuple[str, ...]  # how the values were written, where there is no format
    source: Source | None

    def texts(self, arrays: Iterable[np.ndarray]) -> Iterator[str]:
        yield self.text(arrays)

    def text(self, arrays: Iterable[np.ndarray]) -> str:
        values = iter([_value(a, w) for a, w in zip(arrays, self.weak, strict=True)])
        leaves = [next(values) if leaf is _TRACED else leaf for leaf in self.leaves]
        args, named = unflatten(self.structure, leaves)
        return text_of(args, named, self.labels, self.source)


@dataclass(frozen=True)
class StepsShown:
    """What the steps of a loop show, in their order.

    ``nodes`` are the values of all steps, stacked, of ``ranks`` axes where no batch stands before
    them; the first only counts the steps.
    """

    inner: tuple[Shown | StepsShown, ...]
    nodes: tuple[Node, ...]
    ranks: tuple[int, ...]
    reverse: bool

    @property
    def source(self) -> Source | None:
        return self.inner[0].source

    def texts(self, arrays: Iterable[np.ndarray]) -> Iterator[str]:
        arrays = list(arrays)
        count = arrays[0].shape[-1]
        for k in reversed(range(count)) if self.reverse else range(count):
            pairs = zip(arrays[1:], self.ranks[1:], strict=True)
            parts = iter([np.take(a, k, axis=a.ndim - rank) for a, rank in pairs])
            for each in self.inner:
                yield from each.texts([next(parts) for _ in each.nodes])


_TRACED = object()


def _value(array: np.ndarray, weak: bool) -> Any:
    return array if array.ndim else array.item() if weak else array[()]


def text_of(args: Sequence, named: dict, labels: Sequence[str], source: Source | None) -> str:
    """What is printed: a format and its values, or values by their names."""
    if args and isinstance(args[0], str):
        return args[0].format(*args[1:], **named)
    parts = [f"{label} = {value}" for label, value in zip(labels, args, strict=True)]
    parts += [f"{name} = {value}" for name, value in named.items()]
    return ", ".join(parts) + (f"  ({source})" if source else "")


def debug_print(*args: Any, **named: Any) -> None:
    """See :func:`graphc.debug_print`."""
    context = current_trace(args, named) or active_trace()
    source, labels = _source.here(), _labels(args)
    if context is None:
        print(text_of(args, named, labels, source), flush=True)
        return
    if context.unshown is not None:
        raise TraceError(
            _source.located(
                f"debug_print in {context.unshown}: there is no known number of values to print "
                "after the call.\nReturn the value; or call the function without gc.compile: loops "
                "are then Python's, and every\nstep prints. In gc.scan, and in gc.fori_loop of "
                "known bounds, each step prints."
            )
        )
    leaves, structure = flatten((args, named))
    tracers = [context.lift(leaf) for leaf in leaves if isinstance(leaf, Tracer | Dim)]
    kept = tuple(_TRACED if isinstance(leaf, Tracer | Dim) else leaf for leaf in leaves)
    shown = Shown(
        kept, structure, tuple(t.node for t in tracers), tuple(bool(t.weak) for t in tracers),
        labels, source,
    )  # fmt: skip
    try:  # a format that does not fit is told at its line
        shown.text([np.ones((1,) * t.ndim, t.dtype) for t in tracers])
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise TraceError(
            _source.located(
                f"debug_print cannot format {args[0]!r}: {type(error).__name__}: {error}.\n"
                "It is filled by str.format: one {} a value; {:.3f} is for single numbers."
            )
        ) from None
    context.shown.append(shown)


def _labels(args: Sequence) -> tuple[str, ...]:
    """How the user wrote the arguments."""
    call, _ = _source.current_expression()
    written = call.args if isinstance(call, ast.Call) else []
    if len(written) != len(args) or any(isinstance(a, ast.Starred) for a in written):
        return tuple(f"value {k}" for k in range(len(args)))
    return tuple(map(ast.unparse, written))


def nodes_of(shown: Iterable[Shown | StepsShown]) -> list[Node]:
    return [node for each in shown for node in each.nodes]


def with_nodes(shown: Iterable, nodes: Iterable[Node]) -> Iterator[Shown | StepsShown]:
    """The same with others of ``nodes``, in order."""
    rest = iter(nodes)
    for each in shown:
        yield replace(each, nodes=tuple(next(rest) for _ in each.nodes))


def show(shown: Iterable[Shown | StepsShown], arrays: Iterable[np.ndarray]) -> None:
    """Print what a call has computed."""
    rest = iter(arrays)
    for each in shown:
        for text in each.texts([next(rest) for _ in each.nodes]):
            print(text, flush=True)
