"""Sizes that are not known while a function is traced: what a program may do with them."""

from __future__ import annotations

import sys
from types import FrameType

from graphc.errors import SymbolicDimError
from graphc.ir import dims
from graphc.ir.dims import Dim
from graphc.trace import source as _source
from graphc.trace.blame import needed_by
from graphc.trace.context import active_trace
from graphc.trace.tracer import Tracer


def _refuse_unknown_equality(dim: Dim, other: object) -> None:
    """``x.shape[0] == 7`` in a user's program needs the size, as ``<`` does."""
    if _user_asks(sys._getframe(2)):
        raise SymbolicDimError(f"the program compares the size {dim} with {other}")


def _as_number(dim: Dim) -> Tracer | None:
    """``dim`` as a Python int of the trace: weak, as ints are in NumPy's promotion."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") == dims.__name__:
        frame = frame.f_back
    return active_trace().lift(dim) if _user_asks(frame) else None


def _user_asks(frame: FrameType | None) -> bool:
    return active_trace() is not None and frame is not None and _source.is_user(frame)


dims.on_unknown_equality = _refuse_unknown_equality
dims.as_number = _as_number
dims.needed_by = needed_by
