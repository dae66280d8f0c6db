"""Graphs written as expressions: ``node("mul(x, 1)")``. Numbers become constants of the sibling."""

from __future__ import annotations

import numpy as np

from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.ir.types import tensor_type

N, M = symbol("n"), symbol("m")

_INPUTS = {
    "x": ("float32", (N, 3)), "y": ("float32", (N, 3)), "w": ("float32", (N, 3)),
    "c": ("bool", (N, 3)), "d": ("bool", (N, 3)),
    "i": ("int32", (N, 3)), "j": ("int32", (N, 3)),
    "v": ("float32", (3,)), "u": ("float32", (N,)), "s": ("float32", ()), "labels": ("int64", (N,)),
    "z": ("float32", (N, 1)), "t": ("float32", (2, 5, 7)),
    "a": ("float32", (16, 32)), "b": ("float32", (32, 8)), "e": ("float32", (16, 8)),
    "ab": ("float32", (4, 16, 32)), "bb": ("float32", (4, 32, 8)), "eb": ("float32", (4, 16, 8)),
    "kv": ("float32", (8, 4, 32)), "a1": ("float32", (1, 16, 32)), "b1": ("float32", (1, 32, 8)),
    "col": ("float32", (16, 1)), "row": ("float32", (1, 8)),
    "an": ("float32", (N, M)), "bn": ("float32", (N, 4)),
}  # fmt: skip
INPUTS = {
    name: build.input(k, name, tensor_type(dtype, shape))
    for k, (name, (dtype, shape)) in enumerate(_INPUTS.items())
}


def _lift(operands):
    like = next((o for o in operands if isinstance(o, Node)), None)
    return [o if isinstance(o, Node) else build.full_like(like, o) for o in operands]


def _op(name):
    return lambda *operands, **attrs: build.make(name, _lift(operands), **attrs)


def _where(condition, x, y):
    like = next((o for o in (x, y) if isinstance(o, Node)), None)
    dtype = like.dtype if like is not None else np.dtype("float32")
    x, y = (o if isinstance(o, Node) else build.full(condition.shape, o, dtype) for o in (x, y))
    return build.make("where", (condition, x, y))


def _keep(op, x, axis):
    """A reduction with keepdims, repeated over ``x``."""
    small = build.reduce(op, x, (axis,))
    kept = build.reshape(small, [1 if k == axis else d for k, d in enumerate(x.shape)])
    return build.broadcast_to(kept, x.shape)


NAMES = {
    **{name: _op(name) for name in OPS},
    "where": _where,
    "sum": lambda x, *axes: build.reduce("sum", x, axes),
    "max": lambda x, *axes: build.reduce("max", x, axes),
    "min": lambda x, *axes: build.reduce("min", x, axes),
    "keep": _keep,
    "reshape": lambda x, *shape: build.reshape(x, shape),
    "transpose": lambda x, *perm: build.transpose(x, perm),
    "broadcast": lambda x, dims, *shape: build.broadcast(x, shape, dims),
    "slice": build.slice_,
    "pad": build.pad,
    "concat": lambda axis, *xs: build.concat(xs, axis),
    "matmul": build.matmul,
    "implicit": lambda x, y: build.make("implicit", (x, y), rule="det"),
    "same": lambda x, y: build.make("implicit", (x, y), rule="same"),
    "cast": build.cast,
    "const": build.const,
    "full": lambda value, *shape: build.full(shape, value, "float32"),
    "iota": build.iota,
    "size": lambda dim: build.size(dim, "float32"),
    "n": N, "m": M, **INPUTS,
}  # fmt: skip


def node(text: str) -> Node:
    """The node that ``text`` describes."""
    return eval(text, {"__builtins__": {}}, NAMES)
