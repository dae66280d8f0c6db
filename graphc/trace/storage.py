"""What a traced value holds: a node, replaced by in-place updates and shared with views.

NumPy code may write ``v = x[1:]; v += 1`` and expect ``x`` to change. Nodes never change, so a
storage holds the current node of an array, and a view knows how to read itself from its parent
and how to write itself back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    """``read(parent) -> node`` and ``write(parent, node) -> parent``; None where unknown."""

    parent: View | None
    read: Callable[[Node], Node] | None
    write: Callable[[Node, Node], Node] | None
    index: object = None

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
