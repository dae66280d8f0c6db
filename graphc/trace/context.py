"""The state of one trace: user lines of its nodes, and the way values enter it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphc.errors import (
    DTypeError,
    EscapedTracerError,
    GraphcError,
    TraceError,
)
from graphc.ir import build
from graphc.ir.dims import Dim
from graphc.ir.graph import Source, inherit, substitute
from graphc.ir.node import Node
from graphc.ir.types import is_supported_dtype
from graphc.trace import source as _source
from graphc.trace.dtypes import unknown_dtype
from graphc.trace.guards import Decisions, Values
from graphc.trace.openshape import OpenShape
from graphc.trace.tracer import Tracer
from graphc.trace.tree import flatten

_CONTAINERS = (dict, list, tuple)


class TraceContext:
    """Made by :func:`graphc.trace.tracing.trace`; every tracer holds the one it belongs to."""

    def __init__(
        self, name: str, before_adjoint: Callable | None = None, takes_half: bool = True,
        roll: Callable | None = None,
    ):  # fmt: skip
        self.name = name  # as in messages
        self.takes_half = takes_half  # may NumPy's float16 of small integers appear?
        self.before_adjoint = before_adjoint
        self.roll = roll
        self.alive = True
        self.sources: dict[Node, Source] = {}
        self.placeholders: dict[Node, Node] = {}  # of complete derivatives: what they stand for
        self.decisions = Decisions(Values())  # what Python asked of traced values
        self.refusal: tuple[Exception, Source | None] | None = None  # the last, see blame.refuse
        self.augmented: tuple[Tracer, Tracer] | None = None  # x and mask of ``x[mask] += v``
        self.shown: list = []  # by debug_print
        self.unshown: str | None = None  # what is being traced, where debug_print has no place
        self._levels = 0

    def new_level(self) -> int:
        """A number for the placeholders of one nested differentiation."""
        self._levels += 1
        return self._levels

    @contextmanager
    def undecided(self):
        """For what a call may not come to, a side of a choice: Python decides nothing by values."""
        kept, self.decisions = self.decisions, Decisions(Values())
        try:
            yield
        finally:
            self.decisions = kept

    @contextmanager
    def without_prints(self, body: str):
        """While the body of a loop of unknown length or a side of a choice is traced."""
        kept, self.unshown = self.unshown, body
        try:
            yield
        finally:
            self.unshown = kept

    @contextmanager
    def own_prints(self):
        """A list that gets what is shown meanwhile, by the steps of a loop."""
        kept, self.shown = self.shown, []
        try:
            yield self.shown
        finally:
            self.shown = kept

    def record(self, node: Node) -> Node:
        """Note the user's current line for ``node`` and what is new below it."""
        if node not in self.sources and node.op not in ("input", "const", "placeholder"):
            line = _source.here()
            if line is not None:
                inherit(self.sources, node, line)
        return node

    def resolve(self, nodes: Iterable[Node]) -> list[Node]:
        """``nodes`` without placeholders of complete derivatives: values that left a
        differentiated function sideways (through a list, say) still hold them."""
        nodes = list(nodes)
        return substitute(nodes, self.placeholders, self.sources) if self.placeholders else nodes

    def wrap(self, node: Node, weak: bool = False) -> Tracer:
        return Tracer(self, self.record(node), weak)

    def lift(self, value: Any) -> Tracer:
        """``value`` as a tracer of this trace: a tracer, a number, an array, a dimension, or a
        list of these. Python numbers stay weak, as in NumPy's promotion."""
        if isinstance(value, Tracer):
            value.check_alive()
            if value.context is not self:
                raise EscapedTracerError(
                    _source.located(
                        f"a value traced in `{value.context.name}` was used in the trace of "
                        f"`{self.name}`; pass it as an argument"
                    )
                )
            return value
        if isinstance(value, Dim):
            return Tracer(self, build.size(value, np.int64), True)
        if isinstance(value, OpenShape) or (isinstance(value, list | tuple) and any_tracer(value)):
            from graphc.trace.creation import array

            return array(self, value)
        refuse_lossy(value, "a value")
        weak = is_python_number(value)
        array_value = np.asarray(value)
        if weak and array_value.dtype == object:
            raise DTypeError(_source.located(f"an int {TOO_LARGE}"))
        if not is_supported_dtype(array_value.dtype):
            raise DTypeError(
                _source.located(unknown_dtype(f"a {type(value).__name__}", array_value.dtype))
            )
        return Tracer(self, _constant(array_value), weak)


TOO_LARGE = "is too large for int64; write it as a float, such as 1e30"


def is_lossy(value: Any) -> bool:
    """Whether ``value`` is an array that means more than its elements: masked, or a matrix."""
    if type(value) is np.ndarray or not isinstance(value, np.ndarray):
        return False
    return isinstance(value, np.matrix) or (hasattr(value, "mask") and hasattr(value, "filled"))


def refuse_lossy(value: Any, what: str, kind: type[GraphcError] = TraceError) -> None:
    """Refuse the subclasses of ndarray that :func:`is_lossy` finds."""
    if not is_lossy(value):
        return
    if not isinstance(value, np.matrix):
        raise kind(
            _source.located(
                f"{what} is a masked array, whose mask graphc would drop.\n"
                "Pass .filled(value), or the mask as an array of its own with np.where."
            )
        )
    raise kind(
        _source.located(
            f"{what} is a np.matrix, whose `*` and shapes differ from those of arrays.\n"
            "Pass np.asarray(m), and write @ for matrix products."
        )
    )


def _constant(array: np.ndarray) -> Node:
    """A constant; one of equal elements (np.zeros, np.ones) is a broadcast scalar."""
    if array.size > 1:
        first = array.flat[0]
        if first == array.flat[-1] and (array == first).all():
            signs_agree = array.dtype.kind != "f" or first or not np.ptp(np.signbit(array) * 1)
            if signs_agree:
                return build.full(array.shape, first, array.dtype)
    return build.const(array)


_running = threading.local()


@contextmanager
def running(context: TraceContext):
    """While the traced function runs: what makes arrays from nothing asks for this trace."""
    stack = _running.__dict__.setdefault("stack", [])
    stack.append(context)
    try:
        yield context
    finally:
        stack.pop()


def active_trace() -> TraceContext | None:
    """The innermost trace running in this thread."""
    stack = _running.__dict__.get("stack")
    return stack[-1] if stack else None


def is_python_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)


def any_tracer(value: Any) -> bool:
    """Is there a tracer in ``value`` (also nested in lists and tuples)?"""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Tracer):
            return True
        if isinstance(item, list | tuple):
            stack.extend(item)
    return False


def current_trace(*values: Any) -> TraceContext | None:
    """The trace that ``values`` (trees) belong to, None if there is no tracer among them."""
    found = None
    for value in values:
        leaves = (value,) if isinstance(value, Tracer) else _leaves(value)
        for leaf in leaves:
            if isinstance(leaf, Tracer):
                leaf.check_alive()
                if found is not None and leaf.context is not found:
                    raise TraceError(
                        _source.located(
                            f"values of two traces, `{found.name}` and `{leaf.context.name}`, "
                            "meet here; pass both as arguments of one function"
                        )
                    )
                found = leaf.context
    return found


def _leaves(value: Any):
    is_tree = isinstance(value, _CONTAINERS) or hasattr(type(value), "__dataclass_fields__")
    return flatten(value)[0] if is_tree else (value,)


def wrap(context: TraceContext, node: Node, weak: bool | None = None) -> Tracer:
    """``node`` as a value of the trace; ``weak`` if it stands for a Python number."""
    return context.wrap(node, bool(weak))
