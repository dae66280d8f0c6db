"""Single values computed after the loops of a kernel: never read inside those loops."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, python_run

from graphc import interp
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type

E = build.elementwise


def input_of(index, name, shape):
    return build.input(index, name, tensor_type(np.float64, shape))


def a_scalar_that_the_loops_read():
    """``s*s / 3`` scales a vector in a loop that a single value already follows."""
    x, s = input_of(0, "x", (3,)), input_of(1, "s", ())
    spread = E("div", E("exp", x), build.broadcast(E("mul", s, s), (3,), ()))
    total = build.reduce("sum", spread, (0,))
    third = E("div", E("mul", s, s), build.const(3.0))
    scaled = E("mul", spread, build.broadcast(third, (3,), ()))
    second = build.reduce("sum", scaled, (0,))
    return Graph("f", (x, s), (E("add", E("add", total, s), second), third))


def range_of(shape, axis):
    x = input_of(0, "x", shape)
    high, low = (build.reduce(op, x, (axis,)) for op in ("max", "min"))
    return Graph("f", (x,), (E("sub", high, low),))


def behind_a_convolution():
    """Its only element is read by what would be computed after the loops of its operand."""
    w = input_of(0, "w", (1, 3, 1))
    moved = E("neg", w)
    found = build.conv(build.iota((1, 3, 1), 0, np.float64), build.barrier(moved, moved))
    angle = E("tan", found)
    return Graph("f", (w,), (E("mul", angle, E("arctan", E("minimum", found, angle))),))


@pytest.mark.parametrize("graph", [
    a_scalar_that_the_loops_read(), range_of((1, 3, 1), 1), range_of((3, 1), 0),
    range_of((1, 3), 1), behind_a_convolution(),
])  # fmt: skip
def test_scalars_are_computed_after_what_they_need_and_before_what_reads_them(graph):
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 2, i.shape) for i in graph.inputs]
    assert_same(python_run(graph, arrays), interp.evaluate(graph, arrays))
