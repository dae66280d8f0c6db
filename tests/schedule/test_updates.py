"""Donated inputs: outputs overwrite them, and every reader still sees the value it should."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, python_run

from graphc import interp
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.schedule import schedule

E = build.elementwise


def vector(index, name="p", shape=(6,)):
    return build.input(index, name, tensor_type(np.float64, shape))


def reverse(x):
    return build.slice_(x, (x.shape[0] - 1,), x.shape, (-1,))


def hazards():
    """name -> graph with donations."""
    p, q, r = vector(0, "p"), vector(1, "q"), vector(2, "r")
    m, w = vector(0, "m", (4, 4)), vector(1, "w", (4, 4))
    s = build.input(2, "s", tensor_type(np.float64, ()))
    half = build.full_like(p, 0.5)
    step = E("sub", p, E("mul", half, q))
    total = build.reduce("sum", E("mul", p, q), (0,))
    spread = build.broadcast(total, (6,), ())
    product = build.matmul(m, w)
    yield "plain update", Graph("f", (p, q), (step,), donated={0: 0})
    yield "swap", Graph("f", (p, q), (q, p), donated={0: 0, 1: 1})
    yield "rotate", Graph("f", (p, q, r), (q, r, p), donated={0: 0, 1: 1, 2: 2})
    yield "unchanged", Graph("f", (p, q), (p, step), donated={0: 0})
    yield "unchanged and returned again", Graph("f", (p, q), (p, p, q), donated={0: 0, 2: 1})
    yield "reads itself reversed", Graph("f", (p,), (E("sub", p, reverse(p)),), donated={0: 0})
    yield "is itself reversed", Graph("f", (p,), (reverse(p),), donated={0: 0})
    yield "transpose of itself", Graph("f", (m,), (build.transpose(m, (1, 0)),), donated={0: 0})
    yield (
        "plus its transpose",
        Graph("f", (m,), (E("add", m, build.transpose(m, (1, 0))),), donated={0: 0}),
    )
    yield "normalised by its own sum", Graph("f", (p, q), (E("div", p, spread),), donated={0: 0})
    yield (
        "read later by another kernel",
        Graph("f", (p, q), (step, build.reduce("max", E("exp", reverse(p)), (0,))), donated={0: 0}),
    )
    yield (
        "read by a product and its update",
        Graph("f", (m, w), (E("sub", m, product), build.matmul(w, m)), donated={0: 0}),
    )
    yield "product over itself", Graph("f", (m, w), (product,), donated={0: 0})
    yield "product and swap", Graph("f", (m, w), (product, m), donated={0: 0, 1: 1})
    yield "same output twice", Graph("f", (p, q), (step, step), donated={0: 0, 1: 1})
    yield (
        "each from the other reversed",
        Graph(
            "f", (p, q), (E("add", p, reverse(q)), E("add", q, reverse(p))), donated={0: 0, 1: 1}
        ),
    )
    yield (
        "shifted",
        Graph(
            "f", (p,), (build.pad(build.slice_(p, (0,), (5,), (1,)), (1,), (0,)),), donated={0: 0}
        ),
    )
    yield "gathered", Graph(
        "f", (p,), (build.take(p, build.const(np.array([5, 5, 0, 1, 0, 2]), np.int64), 0),),
        donated={0: 0},
    )  # fmt: skip
    yield "scattered", Graph(
        "f", (p,),
        (E("add", p, build.scatter_add(build.const(np.array([5, 5, 0, 1, 0, 2])), p, 0, 6)),),
        donated={0: 0},
    )  # fmt: skip
    yield "a reduction over it", Graph(
        "f", (m, vector(1, "c", (4,))),
        (build.reduce("sum", E("mul", m, m), (0,)), E("add", m, m)), donated={0: 1, 1: 0},
    )  # fmt: skip
    yield "scalar read in loops", Graph(
        "f", (m, w, s),
        (E("mul", m, build.broadcast(s, (4, 4), ())), E("add", s, build.const(1.0, np.float64))),
        donated={0: 0, 1: 2},
    )  # fmt: skip
    yield "scalar becomes a sum", Graph(
        "f", (m, w, s),
        (E("mul", m, build.broadcast(s, (4, 4), ())),
         E("mul", s, build.reduce("sum", E("mul", m, w), (0, 1)))),
        donated={0: 0, 1: 2},
    )  # fmt: skip
    yield (
        "read again after a reduction of the row",
        Graph("f", (m, w), row_passes(m), donated={1: 0}),
    )


def row_passes(m):
    """Values of one loop nest that a second pass over the same row needs, the old row too."""
    top = build.broadcast(build.reduce("max", m, (1,)), (4, 4), (0,))
    squashed = E("mul", m, E("arctan", m))
    return E("mul", E("sub", squashed, top), m), squashed


HAZARDS = dict(hazards())


@pytest.mark.parametrize("optimize", [False, True])
def test_a_reused_temporary_is_not_read_again(optimize):
    x = vector(0, "x", (4, 4))
    stored = build.matmul(x, x)  # a temporary whose last reader is the kernel of the passes
    first, squashed = row_passes(stored)
    graph = Graph("f", (x,), (first, build.matmul(squashed, x)))
    array = np.random.default_rng(0).normal(size=(4, 4))
    found = python_run(graph, [array], optimize=optimize)
    assert_same(found, interp.evaluate(graph, [array]))


@pytest.mark.parametrize("name", HAZARDS)
@pytest.mark.parametrize("optimize", [False, True])
def test_hazard(name, optimize):
    graph = HAZARDS[name]
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=i.shape) for i in graph.inputs]
    expected = interp.evaluate(graph, arrays)
    given = [a.copy() for a in arrays]
    found = python_run(graph, given, optimize=optimize)
    assert_same(found, expected)
    for out, donor in graph.donated.items():
        assert np.shares_memory(found[out], given[donor])
    kept = set(range(len(arrays))) - set(graph.donated.values())
    for k in kept:
        np.testing.assert_array_equal(given[k], arrays[k])


def test_all_hazards_natively():
    """Packed into one graph: one compile."""
    inputs, outputs, donated, arrays = [], [], {}, []
    rng = np.random.default_rng(2)
    from graphc.ir.graph import substitute

    for graph in HAZARDS.values():
        first_in, first_out = len(inputs), len(outputs)
        fresh = [
            build.input(first_in + k, f"x{first_in + k}", i.type)
            for k, i in enumerate(graph.inputs)
        ]
        inputs += fresh
        outputs += substitute(graph.outputs, dict(zip(graph.inputs, fresh, strict=True)))
        donated |= {first_out + o: first_in + d for o, d in graph.donated.items()}
        arrays += [rng.normal(size=i.shape) for i in graph.inputs]
    packed = Graph("hazards", tuple(inputs), tuple(outputs), donated=donated)
    expected = interp.evaluate(packed, arrays)
    given = [a.copy() for a in arrays]
    found = native_run(packed, given)
    assert_same(found, expected)
    for out, donor in donated.items():
        assert found[out] is given[donor]


def test_an_aligned_update_needs_no_copy():
    scheduled = schedule(HAZARDS["plain update"])
    assert len(scheduled.kernels) == 1 and not scheduled.temps


def test_a_misaligned_update_goes_through_one_temporary():
    scheduled = schedule(HAZARDS["reads itself reversed"])
    assert len(scheduled.kernels) == 2 and len(scheduled.temps) == 1


def kept_values(x):
    """name -> (outputs, temporaries): exponentials that a later kernel reads to make results."""
    e = E("exp", x)
    total = build.broadcast(build.reduce("sum", e, (0, 1)), x.shape, ())
    yield "scaled", (E("mul", e, total),), 1
    yield "of two results one", (E("mul", e, total), E("sub", e, total)), 1
    yield "is a result itself", (e, E("mul", e, total)), 1
    turned = E("mul", build.transpose(build.matmul(e, x), (1, 0)), total)
    yield "read transposed", (turned,), 3


@pytest.mark.parametrize("case", range(4))
def test_a_value_waits_in_the_memory_of_the_result_made_of_it(case):
    x = vector(0, "x", (4, 4))
    _, outputs, temps = list(kept_values(x))[case]
    graph = Graph("f", (x,), outputs)
    array = np.random.default_rng(0).normal(size=(4, 4))
    assert_same(python_run(graph, [array]), interp.evaluate(graph, [array]))
    assert [len(schedule(graph).temps)] == [temps]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: build.reshape(x, (3, 4)),
        lambda x: build.transpose(x, (1, 0)),
        lambda x: build.reshape(build.transpose(x, (1, 0)), (12,)),
        lambda x: build.slice_(x, (0, 0), (2, 3), (1, 1)),
        lambda x: build.const(np.arange(3.0), np.float64),
    ],
)
def test_outputs_that_are_views_own_their_memory(make):
    x = vector(0, "x", (4, 3))
    out = make(x)
    graph = Graph("f", (x,), (out, out, E("exp", out)))
    array = np.random.default_rng(0).normal(size=(4, 3))
    found = python_run(graph, [array])
    assert_same(found, interp.evaluate(graph, [array]))
    assert not np.shares_memory(found[0], array) and not np.shares_memory(found[0], found[1])
