"""The one node class. Interned: the same computation is the same object."""

from __future__ import annotations

import hashlib
import weakref

import numpy as np

from graphc import forks
from graphc.ir.types import TensorType


class Literal:
    """A constant array as an attribute: compared and hashed by dtype, shape and bytes."""

    __slots__ = ("array", "digest")

    def __init__(self, array):
        self.array = np.array(array, order="C", copy=True)
        self.array.flags.writeable = False
        head = f"{self.array.dtype.str}{self.array.shape}".encode()
        self.digest = hashlib.blake2b(head + self.array.tobytes(), digest_size=12).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Literal({self.array!r})"


Attrs = tuple[tuple[str, object], ...]


class Node:
    """``op(inputs, attrs) : type``. Immutable; built only by :func:`make`.

    Identity is equality, so common subexpressions are shared for free. Where the user wrote
    it is not part of a node: graphs keep that beside (see ``Graph.sources``).
    """

    __slots__ = ("__weakref__", "attrs", "inputs", "op", "type")

    op: str
    inputs: tuple[Node, ...]
    attrs: Attrs
    type: TensorType

    @property
    def dtype(self) -> np.dtype:
        return self.type.dtype

    @property
    def shape(self):
        return self.type.shape

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    def attr(self, key: str):
        for name, value in self.attrs:
            if name == key:
                return value
        raise KeyError(f"{self.op} has no attribute {key!r}")

    def __setattr__(self, name, value):
        raise AttributeError("nodes are immutable")

    def __repr__(self) -> str:
        attrs = "".join(f", {k}={v}" for k, v in self.attrs)
        return f"<{self.op}({len(self.inputs)} inputs{attrs}) : {self.type}>"


class _Entry(weakref.ref):
    """A node in the table. A WeakValueDictionary does the same in three times the time."""

    __slots__ = ("key",)


# Inputs are keyed by id: a live node keeps its inputs alive, so those ids cannot be reused.
_table: dict[tuple, _Entry] = {}
_dead: list[tuple] = []  # keys of nodes that are gone
_lock = forks.lock()
_set_op, _set_inputs, _set_attrs, _set_type = (
    getattr(Node, name).__set__ for name in ("op", "inputs", "attrs", "type")
)


def make(op: str, inputs: tuple[Node, ...], attrs: dict[str, object], type: TensorType) -> Node:
    """The node with these parts, creating it only if no equal one is alive."""
    return _interned(op, inputs, tuple(sorted(attrs.items())), type)


def over(node: Node, inputs: tuple[Node, ...]) -> Node:
    """``node`` over other inputs of the same types."""
    return _interned(node.op, inputs, node.attrs, node.type)


def _interned(op: str, inputs: tuple[Node, ...], attrs: Attrs, type: TensorType) -> Node:
    key = (op, tuple(map(id, inputs)), attrs, type)
    with _lock:
        entry = _table.get(key)
        node = entry() if entry is not None else None
        if node is None:
            node = object.__new__(Node)
            _set_op(node, op)
            _set_inputs(node, inputs)
            _set_attrs(node, attrs)
            _set_type(node, type)
            entry = _Entry(node, _forget)
            entry.key = key
            _table[key] = entry
        if _dead:
            _clear()
    return node


def _forget(entry: _Entry) -> None:
    """A node is gone: perhaps while this thread, or another one, changes the table."""
    _dead.append(entry.key)
    if _lock.acquire(blocking=False):
        try:
            _clear()
        finally:
            _lock.release()


def _clear() -> None:
    while _dead:
        key = _dead.pop()
        entry = _table.get(key)
        if entry is not None and entry() is None:  # no equal node was made since
            _table.pop(key, None)
