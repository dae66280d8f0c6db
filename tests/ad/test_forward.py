"""Forward mode: the walker and its table. Values of all rules: ``helpers.check_gradient``, which
holds each against reverse mode, and so against central differences."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import jvp_graph, make_graph, vjp_graph

from graphc import interp
from graphc.ad import jvp_rules, rules
from graphc.ad.forward import jvp
from graphc.errors import GradientError
from graphc.ir import build, ops
from graphc.ir.graph import Source, topological
from graphc.ir.types import tensor_type

e = build.elementwise


def inputs(*shapes, dtype="float64"):
    return [build.input(i, f"a{i}", tensor_type(dtype, s)) for i, s in enumerate(shapes)]


def pushed(fn, arrays, tangents):
    graph = make_graph(fn, arrays)
    wrt = [i for i, t in enumerate(tangents) if t is not None]
    given = [t for t in tangents if t is not None]
    return interp.evaluate(jvp_graph(graph, wrt), [*arrays, *given])


def test_every_op_with_a_reverse_rule_has_a_forward_rule():
    in_the_walker = {"where", "call", "call_result"}
    assert set(jvp_rules.RULES) - in_the_walker == set(rules.RULES)


GIVE_INTEGERS = ("argmax", "argmin", "argsort", "searchsorted", "check_index")
OF_CONSTANTS = ("lu",)  # what is solved by the factors brings the derivative


def test_every_row_that_gives_floats_has_a_rule_or_a_derivative():
    for name, row in ops.OPS.items():
        if row.kind in ("leaf", "control") or name in (*GIVE_INTEGERS, *OF_CONSTANTS):
            continue
        if name in jvp_rules.RULES:
            continue
        assert row.kind == "elementwise", f"{name}: declare its rule in ad/jvp_rules.py"


def test_nothing_is_computed_for_what_does_not_change():
    x, w, b = inputs((5, 4), (4, 3), (3,))
    z = build.matmul(e("exp", x), w)
    y = e("add", z, build.broadcast(b, z.shape, (1,)))
    (t,) = jvp([y], [w], [build.input(3, "v", w.type)])
    new = set(topological([t])) - set(topological([y]))
    assert sorted(n.op for n in new) == ["input", "matmul"]


def test_outputs_that_do_not_depend_have_zero_tangents_of_their_type():
    x, y = inputs((3,), (2,))
    index = build.reduce("argmax", x, (0,))
    found = jvp([e("exp", y), index], [x], [build.full_like(x, 1)])
    assert found == [build.full_like(y, 0), build.full_like(index, 0)]


def test_tangents_of_inner_nodes():
    (x,) = inputs((3,))
    y = e("exp", x)
    z = e("sin", y)
    v = build.input(1, "v", y.type)
    assert jvp([z], [y], [v]) == [e("mul", v, e("cos", y))]


@pytest.mark.parametrize(
    ("fn", "at", "expected"),
    [
        (lambda x, zero: e("where", e("gt", x, zero), e("log", x), zero), [-1.0, 0, 2], [0, 0, 1]),
        (lambda x, zero: e("where", e("ne", x, zero), e("div", e("sin", x), x), e("exp", zero)),
         [0.0, np.pi], [0, -2 / np.pi]),
        # An infinite derivative meets a tangent that is zero since nothing changes there.
        (lambda x, zero: e("where", e("gt", x, zero), e("log", e("relu", x)), zero),
         [-1.0, 0.0, 2.0], [0, 0, 1]),
        (lambda x, zero: e("log", e("maximum", x, zero)), [-1.0, 2.0], [0, 1]),
        (lambda x, zero: e("exp", e("log", e("relu", x))), [-1.0, 2.0], [0, 2]),
        (lambda x, zero: e("sqrt", x), [0.0, 4.0], [0, 0.5]),
        (lambda x, zero: e("abs", x), [0.0, -4.0], [0, -2]),
        (lambda x, zero: e("maximum", x, zero), [0.0, -1.0, 1.0], [1, 0, 2]),
    ],
)  # fmt: skip
def test_dead_branches_and_singular_points_as_in_reverse_mode(fn, at, expected):
    x = np.array(at)

    def with_zero(x):
        return fn(x, build.full_like(x, 0))

    (found,) = pushed(with_zero, [x], [np.full_like(x, 2)])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    adjoint = vjp_graph(make_graph(with_zero, [x]))
    (reverse,) = interp.evaluate(adjoint, [x, np.full_like(x, 2)])
    np.testing.assert_allclose(found, reverse, atol=1e-12)


def test_norm_at_zero():
    def norm(x):
        return e("sqrt", build.reduce("sum", e("mul", x, x), (0,)))

    assert pushed(norm, [np.zeros(3)], [np.ones(3)]) == [0.0]


@pytest.mark.parametrize("op", ["max", "min"])
def test_ties_share_as_in_reverse_mode(op):
    x = np.array([[3.0, 3.0, 3.0], [1.0, 2.0, 2.0]]) * (1 if op == "max" else -1)
    v = np.array([[3.0, 6.0, 9.0], [5.0, 1.0, 2.0]])
    (found,) = pushed(lambda a: build.reduce(op, a, (1,)), [x], [v])
    np.testing.assert_allclose(found, [6, 1.5])


@pytest.mark.parametrize("zeros", [(), (2,), (1, 3)])
def test_prod_is_exact_with_zeros(zeros):
    x = np.array([2.0, -3.0, 0.5, 4.0, 1.5])
    x[list(zeros)] = 0
    v = np.arange(1.0, 6.0)
    (found,) = pushed(lambda a: build.reduce("prod", a, (0,)), [x], [v])
    expected = sum(v[i] * np.prod(np.delete(x, i)) for i in range(5))
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    (none,) = pushed(lambda a: build.reduce("prod", a, (0,)), [np.ones((0, 2))], [np.ones((0, 2))])
    np.testing.assert_array_equal(none, [0, 0])


def test_matrix_products_stay_free_of_guards():
    x, w, v = np.ones((5, 4)), np.ones((4, 3)), np.ones((3, 2))

    def network(x, w, v):
        z = build.matmul(e("relu", build.matmul(x, w)), v)
        s = build.reduce("sum", e("exp", z), (1,))
        return e("log", s)

    graph = jvp_graph(make_graph(network, [x, w, v]), [1, 2])
    assert "isnan" not in [n.op for n in graph.order]


def test_deep_graphs_need_no_deep_stack():
    (x,) = inputs(())
    y = x
    for _ in range(20_000):
        y = e("sin", y)
    (t,) = jvp([y], [x], [build.const(1.0)])
    assert len(topological([t])) > 40_000


def test_new_nodes_have_the_line_of_their_primal():
    (x,) = inputs((3,))
    y = e("exp", x)
    z = e("tanh", y)
    sources = {y: Source("/user/model.py", 3), z: Source("/user/model.py", 4)}
    v = build.input(1, "v", x.type)
    (t,) = jvp([z], [x], [v], sources)
    assert sources[t].line == 4 and sources[e("mul", v, y)].line == 3


def test_an_op_without_a_rule_is_named_with_the_line(monkeypatch):
    row = ops.Op("sorted", "Sorted.", "reduction", lambda attrs, x: x, None, ())
    monkeypatch.setitem(ops.OPS, "sorted", row)
    (x,) = inputs((3,))
    y = build.make("sorted", (x,))
    with pytest.raises(GradientError) as error:
        jvp([y], [x], [build.full_like(x, 1)], {y: Source("/user/model.py", 12, "loss")})
    text = str(error.value)
    assert "forward-mode rule" in text and "`sorted`" in text and "model.py:12" in text
    assert len(text.splitlines()) <= 8
    # Nothing is wrong where nothing changes.
    assert jvp([y], [e("exp", x)], [build.full_like(x, 1)]) == [build.full_like(x, 0)]


def test_wrong_types_are_refused():
    (x,) = inputs((3,))
    with pytest.raises(GradientError, match="tangent"):
        jvp([x], [x], [build.full((2,), 1, np.float64)])
