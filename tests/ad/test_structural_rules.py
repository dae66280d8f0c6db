"""Each structural rule by central differences, to second order, fixed and symbolic shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import check_gradient, gradient, make_graph, vjp_graph

import graphc as gc
from graphc import interp
from graphc.ad.rules import RULES
from graphc.errors import CompileWarning
from graphc.ir import build
from graphc.ir.ops import OPS

e = build.elementwise


@dataclass
class Case:
    """``fn`` over nodes of these shapes; a string dim is symbolic, 4 when evaluated."""

    name: str
    fn: object
    shapes: list
    indices: int | None = None  # the last argument holds indices below this

    def arrays(self, rng):
        sizes = [[4 if isinstance(d, str) else d for d in shape] for shape in self.shapes]
        arrays = [rng.uniform(0.4, 1.6, s) * rng.choice([-1, 1], s) for s in sizes]
        if self.indices is not None:
            arrays[-1] = rng.integers(0, self.indices, sizes[-1])
        return arrays


def slice_case(name, start, size, step, shapes):
    return Case(f"slice {name}", lambda x: build.slice_(x, start, size(x), step), shapes)


def pad_case(name, low, high, interior, shapes):
    return Case(
        f"pad {name}", lambda x, fill: build.pad(x, low, high, interior, fill), [*shapes, ()]
    )


def matmul_case(ta, tb, batch):
    m, k, n = "n", 3, 2
    a = (*batch, k, m) if ta else (*batch, m, k)
    b = (*batch, n, k) if tb else (*batch, k, n)
    return Case(f"matmul {ta}{tb} {batch}", lambda x, y: build.matmul(x, y, ta, tb), [a, b])


def reduce_cases(op, axes_list=((0,), (1,), (0, 2), (0, 1, 2))):
    for axes in axes_list:
        yield Case(f"{op} {axes}", lambda x, axes=axes: build.reduce(op, x, axes), [("n", 3, 2)])


def through(op):
    """x read twice and through ``op``: the rule's result is not the only contribution."""
    return lambda x: e("mul", build.reduce(op, x, (1,)), build.reduce("sum", x, (1,)))


CASES = [
    Case("reshape", lambda x: build.reshape(x, (x.shape[0] * 3, 2)), [("n", 3, 2)]),
    Case("reshape unit axes", lambda x: build.reshape(x, (1, *x.shape, 1)), [("n", 3)]),
    Case("reshape squeeze", lambda x: build.reshape(x, (x.shape[0],)), [("n", 1)]),
    Case("transpose", lambda x: build.transpose(x, (2, 0, 1)), [("n", 3, 2)]),
    Case("broadcast scalar", lambda x: build.broadcast(x, (2, 3), ()), [()]),
    Case("broadcast", lambda x: build.broadcast(x, (2, *x.shape, 3), (1, 2)), [("n", 2)]),
    slice_case("plain", (1, 0), lambda x: (x.shape[0] - 1, 2), (1, 1), [("n", 3)]),
    slice_case("steps", (0, 1), lambda x: (x.shape[0], 3), (1, 2), [("n", 7)]),
    slice_case("steps to the end", (1, 0), lambda x: (2, 4), (2, 2), [(4, 7)]),
    slice_case("one element", (2, 1), lambda x: (1, 1), (3, 2), [(5, 3)]),
    slice_case("flipped", (3, 2), lambda x: (4, 3), (-1, -1), [(4, 3)]),
    slice_case("backwards", (6, 0), lambda x: (3, x.shape[1]), (-3, 1), [(8, "n")]),
    slice_case("backwards short", (5,), lambda x: (2,), (-2,), [(8,)]),
    slice_case("nothing", (0, 0), lambda x: (0, x.shape[1]), (1, 1), [(3, "n")]),
    pad_case("edges", (1, 0), (2, 1), (0, 0), [("n", 3)]),
    pad_case("interior", (1, 2), (0, 1), (2, 1), [(3, 4)]),
    pad_case("symbolic interior", (0,), (1,), (1,), [("n",)]),
    Case("windows", lambda x: build.windows(x, 1, 3), [("n", 5, 2)]),
    Case("windows symbolic", lambda x: build.windows(x, 0, 2), [("n", 2)]),
    Case("windows strided", lambda x: build.windows(x, 0, 2, 3, 2), [(10, 2)]),
    Case("conv", lambda x, w: build.conv(x, w), [("n", 2, 4, 5), (3, 2, 2, 3)]),
    Case(
        "conv strided", lambda x, w: build.conv(x, w, (2, 1), (1, 2)), [(2, 1, 6, 5), (2, 1, 3, 2)]
    ),
    Case("conv of a line", lambda x, w: build.conv(x, w, (3,), (2,)), [(2, 2, 9), (1, 2, 2)]),
    Case("conv of a symbolic line", lambda x, w: build.conv(x, w), [(1, 1, "n"), (2, 1, 2)]),
    Case("barrier", lambda x, y: build.barrier(x, y), [("n", 3), (2,)]),
    Case("concat", lambda x, y, z: build.concat((x, y, z), 1), [("n", 2), ("n", 1), ("n", 3)]),
    Case("concat twice the same", lambda x: build.concat((x, x), 0), [("n", 2)]),
    Case("concat symbolic", lambda x, y: build.concat((x, y), 0), [("n", 2), ("m", 2)]),
    Case("take", lambda x, i: build.take(x, i, 0), [(5, 2), ("n",)], 5),
    Case("take table", lambda x, i: build.take(x, i, 1), [(2, "n", 2), (2, 3)], 4),
    Case("take scalar index", lambda x, i: build.take(x, i, 1), [(2, 3), ()], 3),
    Case("take_along one", lambda x, i: build.take_along(x, i, 1), [("n", 5), ("n", 1)], 5),
    Case("take_along many", lambda x, i: build.take_along(x, i, 1), [(3, 4, 2), (3, 6, 2)], 4),
    Case("take_along first", lambda x, i: build.take_along(x, i, 0), [("n", 2), (3, 2)], 4),
    Case("scatter_add", lambda u, i: build.scatter_add(i, u, 0, 6), [("n", 2), ("n",)], 6),
    Case(
        "scatter_add middle", lambda u, i: build.scatter_add(i, u, 1, 4), [(2, 2, 3, 2), (2, 3)], 4
    ),
    Case("scatter_set", lambda x, u, i: build.scatter_set(x, i, u, 0), [(5, 2), (4, 2), (4,)], 5),
    Case(
        "scatter_set middle",
        lambda x, u, i: build.scatter_set(x, i, u, 1),
        [(2, 5, 2), (2, 2, 3, 2), (2, 3)],
        5,
    ),
    Case("check_index", lambda x, i: build.take(x, build.check_index(i, 5), 0), [(5, 2), (4,)], 5),
    Case("cumsum", lambda x: build.scan("cumsum", x, 0), [("n", 3)]),
    Case("cumsum last", lambda x: build.scan("cumsum", x, 2), [("n", 2, 4)]),
    Case("cumprod", lambda x: build.scan("cumprod", x, 0), [(5, 2)]),
    Case("cumprod last", lambda x: build.scan("cumprod", x, 1), [(2, 7)]),
    Case("argsort", lambda x: build.take_along(x, build.argsort(x, 1), 1), [("n", 5, 2)]),
    *reduce_cases("sum"),
    *reduce_cases("max"),
    *reduce_cases("min"),
    *reduce_cases("prod"),
    Case("prod of one", lambda x: build.reduce("prod", x, (1,)), [("n", 1)]),
    Case("prod of seven", lambda x: build.reduce("prod", x, (0,)), [(7, 2)]),
    *(Case(f"{op} beside", through(op), [("n", 3)]) for op in ("max", "prod")),
    *(matmul_case(ta, tb, b) for ta in (0, 1) for tb in (0, 1) for b in ((), (2,), ("b", 2))),
    Case("matmul with itself", lambda x: build.matmul(x, x, 0, 1), [("n", 3)]),
]


def concrete(case):
    return [[4 if isinstance(d, str) else d for d in shape] for shape in case.shapes]


VARIANTS = [(c, concrete(c), f"{c.name}, fixed") for c in CASES]
VARIANTS += [(c, c.shapes, f"{c.name}, symbolic") for c in CASES if "n" in str(c.shapes)]


@pytest.mark.parametrize(("case", "shapes"), [pytest.param(*v[:2], id=v[2]) for v in VARIANTS])
def test_central_differences_to_second_order(case, shapes):
    arrays = case.arrays(np.random.default_rng(1))

    def surrounded(*nodes):
        """The op between curved functions, so that all its derivatives matter."""
        nodes = [e("sin", n) if n.dtype.kind == "f" else n for n in nodes]
        out = case.fn(*nodes)
        return e("tanh", out)

    # The second derivative of a product asks for the number of its factors.
    order = 1 if case.name.startswith("prod") and "n" in str(shapes) else 2
    check_gradient(make_graph(surrounded, arrays, shapes), arrays, order, rtol=2e-6)


def test_every_rule_has_a_case():
    covered = {
        n.op
        for case in CASES
        for n in make_graph(case.fn, case.arrays(np.random.default_rng(0))).order
    }
    elsewhere = {"cast", "call_arg"}  # see below, and test_custom_vjp.py
    elsewhere |= {n for n, row in OPS.items() if row.kind == "library"} | {"implicit"}
    elsewhere |= {"real", "imag", "complex"}  # test_complex.py
    # ... and test_linalg_gradients.py
    assert set(RULES) - covered <= elsewhere


def test_cast_returns_to_the_dtype_of_its_input():
    x = np.array([1.0, 2.0], np.float32)
    (grad,) = gradient(lambda a: e("exp", build.cast(a, np.float64)), x)
    assert grad.dtype == np.float32
    np.testing.assert_allclose(grad, np.exp(x), rtol=1e-6)


def test_cast_to_integer_cuts_the_gradient():
    x = np.array([1.5, 2.5])
    (grad,) = gradient(lambda a: build.cast(build.cast(a, np.int64), np.float64), x)
    np.testing.assert_array_equal(grad, [0, 0])


@pytest.mark.parametrize("op", ["max", "min"])
def test_ties_share_the_gradient_evenly(op):
    x = np.array([[3.0, 3.0, 3.0], [1.0, 2.0, 2.0]]) * (1 if op == "max" else -1)
    (grad,) = gradient(lambda a: build.reduce(op, a, (1,)), x)
    np.testing.assert_allclose(grad, [[1 / 3, 1 / 3, 1 / 3], [0, 0.5, 0.5]])


@pytest.mark.parametrize("shapes", [[(5,)], [("n",)]], ids=["halves", "by count"])
@pytest.mark.parametrize("zeros", [(), (2,), (0,), (1, 3), (0, 2, 4)])
def test_prod_is_exact_with_zeros(shapes, zeros):
    x = np.array([2.0, -3.0, 0.5, 4.0, 1.5])
    x[list(zeros)] = 0
    (grad,) = gradient(lambda a: build.reduce("prod", a, (0,)), x, shapes=shapes)
    expected = [np.prod(np.delete(x, i)) for i in range(5)]
    np.testing.assert_allclose(grad, expected, rtol=1e-14)


def test_second_derivative_of_prod_is_exact_with_zeros():
    x = np.array([2.0, 0.0, 0.5, 0.0])
    first = vjp_graph(make_graph(lambda a: build.reduce("prod", a, (0,)), [x]))
    second = vjp_graph(first, [0])
    hessian = [interp.evaluate(second, [x, np.array(1.0), np.eye(4)[i]])[0] for i in range(4)]
    expected = [
        [0 if i == j else np.prod(np.delete(x, [i, j])) for j in range(4)] for i in range(4)
    ]
    np.testing.assert_allclose(hessian, expected)


def test_second_derivative_of_prod_over_changing_sizes():
    hessian = gc.hessian(np.prod, engine="interpreter")
    with pytest.warns(CompileWarning, match="needs the number of its factors"):
        for x in ([2.0, 0.0, 3.0], [0.0, 0.0, 3.0, 5.0], [0.0, 1.0]):
            n = len(x)
            expected = [
                [0 if i == j else np.prod(np.delete(x, [i, j])) for j in range(n)] for i in range(n)
            ]
            np.testing.assert_allclose(hessian(np.array(x)), expected)


@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
def test_matmul_adjoint_is_two_products_without_transposes(ta, tb):
    a = np.ones((3, 4) if ta else (4, 3))
    b = np.ones((2, 3) if tb else (3, 2))
    adjoint = vjp_graph(make_graph(lambda x, y: build.matmul(x, y, ta, tb), [a, b]))
    assert sorted(n.op for n in adjoint.order) == ["input"] * 3 + ["matmul"] * 2


def test_narrow_indices_do_not_wrap_around():
    x, i = np.arange(600.0).reshape(2, 300), np.array([[3], [200]], np.uint8)
    (grad,) = gradient(lambda a, k: build.take_along(a, k, 1), x, i)
    assert grad.sum() == 2 and grad[0, 3] == 1 and grad[1, 200] == 1


def test_repeated_indices_accumulate():
    x, i = np.arange(3.0), np.array([1, 1, 1, 2])
    (grad,) = gradient(lambda a, k: build.take(a, k, 0), x, i)
    np.testing.assert_array_equal(grad, [0, 3, 1])
