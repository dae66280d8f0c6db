"""Values of the current call, and the decisions that the program took by them.

A Python ``if`` or ``while`` on a traced value needs the value. Where the trace knows the arguments
of a call, the condition's node is evaluated, the program goes on along that path, and the condition
is noted as a guard: the traced graph serves the calls in which every guard has the same value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from graphc.errors import TraceError
from graphc.ir import build, calls, control
from graphc.ir.dims import Dim
from graphc.ir.faults import Refused
from graphc.ir.graph import Source, is_tape, substitute
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.trace import source as _source
from graphc.trace.blame import size_needed

_LONGEST_PATH = 10_000
_INTEGERS = 2.0**62  # below, a float's integer part is an int64
_LONGEST_QUOTE = 60


@dataclass(frozen=True)
class Guard:
    """A decision of the traced program: ``node`` (of shape ``()``) had this value there."""

    node: Node
    value: Any  # a Python bool, int, float or complex
    source: Source | None

    @property
    def is_truth(self) -> bool:
        return self.node.dtype.kind == "b"

    @property
    def place(self) -> str:
        """The user's line.

        >>> Guard(build.const(True), True, Source("dir/f.py", 3)).place
        'a condition at f.py:3'
        """
        if self.source is None:
            return "a condition"
        text = _source.line_text(self.source).rstrip(":")
        if text.startswith(("if ", "elif ", "while ")):
            text = text.partition(": ")[0]
        if len(text) > _LONGEST_QUOTE:
            text = text[: _LONGEST_QUOTE - 3] + "..."
        return f"{f'`{text}`' if text else 'a condition'} at {self.source}"


def outcome_of(value: Any) -> Any:
    """A hashable stand-in that tells apart what a program can: -0.0 from 0.0, and nan is nan."""
    return value if isinstance(value, bool | int) else repr(value)


def holds(guard: Guard) -> Node:
    """A bool node: does the guard have its value? Signs of zero and NaNs are told apart."""
    node, value = guard.node, guard.value
    if guard.is_truth:
        return node if value else build.elementwise("logical_not", node)
    same = build.elementwise("eq", node, build.const(value, node.dtype))
    if value != value:
        return build.elementwise("ne", node, node)
    if node.dtype.kind == "f" and value == 0:
        one = build.const(1, node.dtype)
        sign = build.elementwise("div", one, build.const(value, node.dtype))
        alike = build.elementwise("eq", build.elementwise("div", one, node), sign)
        return build.elementwise("logical_and", same, alike)
    return same


_FIRST_TAPE = 16

# What a node is computed from: constants alone, sizes too, or arguments.
_CONSTANT, _SIZES, _ARGUMENTS = range(3)


@dataclass(frozen=True, slots=True)
class _Known:
    value: np.ndarray | None  # None: not known in this trace
    origin: int
    moves: bool  # with a variable that is differentiated by


class Values:
    """Evaluates nodes for the arguments of one call, each node once.

    ``arrays`` are those of the ``input`` nodes, ``sizes`` those of the symbolic dims. Without
    them only constants have values.
    """

    def __init__(
        self,
        arrays: Mapping[Node, np.ndarray] = MappingProxyType({}),
        sizes: Mapping[str, int] = MappingProxyType({}),
    ):
        self._arrays = arrays
        self._sizes = sizes
        self._stand_ins: dict[Node, Node] = {}
        self._known: dict[Node, _Known] = {}
        self._tapes: dict[str, int] = {}  # sizes of those symbols that loops fill

    @classmethod
    def of_call(cls, inputs: Sequence[Node], arrays: Sequence[np.ndarray | None]) -> Values:
        """Of a call with these arrays; None where an argument is not known."""
        given = {n: a for n, a in zip(inputs, arrays, strict=True) if a is not None}
        sizes = {
            str(dim): size
            for node, array in given.items()
            for dim, size in zip(node.shape, array.shape, strict=True)
            if isinstance(dim, Dim) and str(dim) in dim.symbols
        }
        return cls(given, sizes)

    def stand_in(self, placeholder: Node, actual: Node) -> None:
        """``placeholder`` has the value of ``actual``, which holds earlier ones only."""
        self._stand_ins[placeholder] = actual

    def resolve(self, nodes: Iterable[Node]) -> list[Node]:
        """``nodes`` over the inputs of the graph, without any placeholder."""
        resolved: dict[Node, Node] = {}
        for placeholder, actual in self._stand_ins.items():
            (resolved[placeholder],) = substitute([actual], resolved)
        return substitute(nodes, resolved)

    def of(self, node: Node) -> _Known:
        """What is known of ``node``. IndexError and their kin come through from its operations."""
        known, stack = self._known, [node]
        while stack:
            current = stack[-1]
            if current in known:
                stack.pop()
                continue
            below = current.inputs
            if current in self._stand_ins:
                below = (self._stand_ins[current],)
            missing = [n for n in below if n not in known]
            if missing:
                stack += missing
            else:
                known[current] = self._evaluate(current, [known[n] for n in below])
        return known[node]

    def _evaluate(self, node: Node, below: list[_Known]) -> _Known:
        if node.op == "placeholder":
            actual = below[0] if below else _Known(None, _ARGUMENTS, True)
            return _Known(actual.value, actual.origin, True)
        if node.op == "input":
            return _Known(self._arrays.get(node), _ARGUMENTS, False)
        if is_tape(node):
            self._tapes.setdefault(str(node.attr("length")), _FIRST_TAPE)
        sized = node.op == "size" or node.type.symbols - self._tapes.keys()
        origin = max([_SIZES if sized else _CONSTANT, *(k.origin for k in below)])
        moves = (
            any(k.moves for k in below)
            and (node.dtype.kind in "fc" or node.op in control.CONTROL)
            and node.op != "stop_gradient"
        )
        operands = [k.value for k in below]
        if any(v is None for v in operands) or (sized and not self._sizes):
            return _Known(None, origin, moves)
        return _Known(self._value(node, operands), origin, moves)

    def _value(self, node: Node, operands):
        while True:
            try:
                with np.errstate(all="ignore"):
                    sizes = {**self._sizes, **self._tapes}
                    value = OPS[node.op].evaluate(node, sizes, *operands)
                return value if node.op in control.CONTROL else np.asarray(value)
            except Refused as refused:
                raise refused.error from None
            except control.TapeFull as full:
                self._tapes[full.symbol] *= 2


class Decisions:
    """The guards of one trace, in the order in which the program asked.

    ``outcomes`` are what a compiled path found for the first of them: they are taken over, so that
    rounding cannot make the trace leave the path that it is to continue.
    """

    def __init__(self, values: Values, outcomes: Sequence = ()):
        self.values = values
        self._outcomes = tuple(outcomes)
        self._guards: dict[Node, Guard] = {}

    def truth(self, node: Node) -> bool | None:
        """Whether the value of a node of one element is true; None if it is not known."""
        if node.dtype.kind != "b":
            node = build.elementwise("ne", node, build.full_like(node, 0))
        return self._decide(node)

    def number(self, node: Node) -> Any:
        """The Python number that a node of one element is; None if it is not known, or if making
        a constant of it would cut a gradient."""
        return None if self.values.of(node).moves else self._decide(node)

    def integer(self, node: Node) -> Any:
        """As ``number`` for ``int()``: numbers of one integer part share a path."""
        value = self.values.of(node).value
        if node.dtype.kind == "f" and value is not None and abs(value.item()) < _INTEGERS:
            node = build.cast(node, np.int64)
        return self._decide(node)

    def guards(self, sources: dict[Node, Source]) -> tuple[Guard, ...]:
        """All of them, over the inputs of the graph, without marks of calls."""
        nodes = calls.inline(self.values.resolve(self._guards), sources)
        pairs = zip(nodes, self._guards.values(), strict=True)
        return tuple(Guard(node, g.value, g.source) for node, g in pairs)

    def _decide(self, node: Node) -> Any:
        node = build.reshape(node, ())
        known = self.values.of(node)
        if known.origin == _SIZES:
            raise size_needed()
        if known.value is None:
            return None
        if known.origin == _CONSTANT:
            return known.value.item()
        if node not in self._guards:
            if len(self._guards) == _LONGEST_PATH:
                raise TraceError(
                    _source.located(
                        f"{_LONGEST_PATH} decisions by traced values in one call: too many to "
                        "compile.\nWrite the loop with gc.while_loop(condition, body, start)."
                    )
                )
            value = known.value.item()
            if len(self._guards) < len(self._outcomes):
                found = self._outcomes[len(self._guards)]
                value = found if type(found) is type(value) else value
            self._guards[node] = Guard(node, value, _source.here())
        return self._guards[node].value
