"""Python's parser, by one thread at a time.

CPython 3.11 counts the depth of syntax trees in one place for all threads: two that parse at once
meet "SystemError: AST constructor recursion depth mismatch".
"""

from __future__ import annotations

import ast

from graphc import forks

_lock = forks.lock()


def parse(text: str, mode: str = "exec") -> ast.AST:
    """``ast.parse``."""
    with _lock:
        return ast.parse(text, mode=mode)
