"""What a traced value holds: a node, replaced by in-place updates and shared with views.

NumPy code may write ``v = x[1:]; v += 1`` and expect ``x`` to change. Nodes never change, so a
storage holds the current node of an array, and a view knows how to read itself from its parent
and how to write itself back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphc.errors import TraceError
from graphc.ir.node import Node


class Storage:
    """The current node of an array that is nobody's view."""

    __slots__ = ("node", "version")

    def __init__(self, node: Node):
        self.node = node
        self.version = 0


@dataclass(frozen=True, eq=False)
class View:
    """``read(parent) -> node`` and ``write(parent, node) -> parent``; None where unknown.

    ``move(array) -> array`` takes the same view of an array of NumPy's.
    """

    parent: View | None
    read: Callable[[Node], Node] | None
    write: Callable[[Node, Node], Node] | None
    index: object = None
    move: Callable[[np.ndarray], np.ndarray] | None = None

    def chain(self) -> list[View]:
        """This view and those it is taken from, outermost first."""
        views, view = [], self
        while view is not None:
            views.append(view)
            view = view.parent
        return views[::-1]


def read(storage: Storage, view: View | None) -> Node:
    """The node of ``view`` (None: of the whole array) now."""
    node = storage.node
    for step in view.chain() if view is not None else ():
        if step.read is None:
            raise TraceError(_AMBIGUOUS)
        node = step.read(node)
    return node


def layout(storage: Storage, view: View | None) -> np.ndarray | None:
    """An array without elements to speak of that lies in memory as ``view`` does in NumPy, where
    the whole is contiguous; None if that is not known."""
    shape = storage.node.shape
    if not all(isinstance(d, int) for d in shape):
        return None
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    array = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), shape, strides)
    for step in view.chain() if view is not None else ():
        if step.move is None:
            return None
        array = step.move(array)
    return array


def read_only(name: str, instead: str) -> Callable[[Node, Node], Node]:
    """The ``write`` of a view that NumPy does not let anybody write to."""

    def write(parent: Node, new: Node) -> Node:
        raise TraceError(f"assignment destination is read-only: the result of {name}.\n{instead}")

    return write


def write(storage: Storage, view: View | None, node: Node) -> None:
    """Replace what ``view`` shows (None: all) by ``node``."""
    if view is None:
        storage.node = node
        storage.version += 1
        return
    chain = view.chain()
    if any(step.write is None for step in chain):
        raise TraceError(_AMBIGUOUS)
    parents = [storage.node]
    for step in chain[:-1]:
        parents.append(step.read(parents[-1]))
    for step, parent in zip(reversed(chain), reversed(parents), strict=True):
        node = step.write(parent, node)
    storage.node = node
    storage.version += 1


_AMBIGUOUS = (
    "in-place update of an array that may share memory with another (a reshape of a slice or of "
    "a transpose, or a broadcast).\nTake a copy first: y = y.copy()"
)
