"""A table with a rule for each op."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Rule = TypeVar("Rule", bound=Callable)


class Rules(dict[str, Rule]):
    """By the name of the op.

    >>> table = Rules()
    >>> @table.declare("add", "sub")
    ... def both(node):
    ...     return node
    >>> sorted(table)
    ['add', 'sub']
    """

    def declare(self, *ops: str) -> Callable[[Rule], Rule]:
        """Declare the rule of ``ops``."""

        def register(rule: Rule) -> Rule:
            self.update(dict.fromkeys(ops, rule))
            return rule

        return register
