"""Systems of equations: values and Jacobian in one kernel."""

import numpy as np
import pytest
import sympy as sp
from generated import assert_same, program_of, python_run

import graphc as gc
from graphc import passes
from graphc.errors import SymbolicError
from graphc.schedule import schedule
from graphc.symbolic import value_and_jacobian

k, h = sp.symbols("k h")


def reactor(n):
    """Diffusion and an Arrhenius reaction, a coupling of all cells, neighbours out of order."""
    c = sp.symbols(f"c:{n}")
    load = c[0] + c[n // 2] + c[n - 1]
    equations = []
    for i in range(n):
        left, right = c[i - 1] if i else 0, c[i + 1] if i + 1 < n else 1
        rate = c[i] * sp.exp(-k / (1 + c[i])) * h**2 / (1 + load**2)
        equations.append(left - 2 * c[i] + right + rate + c[i] * sp.sin(c[7 * i % n]))
    return c, equations


def central(f, x, eps=1e-6):
    columns = []
    for step in np.eye(len(x)) * eps:
        columns.append((f(x + step) - f(x - step)) / (2 * eps))
    return np.stack(columns, 1)


def test_two_hundred_equations_are_one_kernel():
    """The issue's system, compiled natively: against SymPy's lambdify and central differences."""
    c, equations = reactor(200)
    f = value_and_jacobian(equations, [c, k, h], wrt=c)
    at = np.linspace(0.1, 1, 200), 2.0, 0.3
    compiled = gc.compile(f)
    optimized = passes.optimize(compiled.graph(*at))
    assert len(schedule(optimized).kernels) == 1
    # Each reaction's exponential is in its value and in its slopes, once.
    assert sum(n.op == "exp" for n in optimized.order) == 200
    numeric = sp.lambdify([c, k, h], equations, "numpy", cse=True)
    values, jacobian = compiled(*at)
    assert compiled.compiles[-1].kernels == 1
    np.testing.assert_allclose(values, numeric(*at), rtol=1e-12, atol=1e-13)
    expected = central(lambda x: np.array(numeric(x, *at[1:])), at[0])
    np.testing.assert_allclose(jacobian, expected, rtol=1e-7, atol=1e-8)
    pattern = np.zeros((200, 200), bool)
    pattern[f.rows, f.cols] = True
    assert len(f.rows) < 1600 and not jacobian[~pattern].any()


@pytest.mark.parametrize("n", [3, 12, 40])
def test_smaller_systems_in_the_machine(n):
    c, equations = reactor(n)
    f = value_and_jacobian(equations, [c, k, h], wrt=c)
    at = np.linspace(0.1, 1, n), 2.0, 0.3
    expected = f(*at)
    np.testing.assert_allclose(
        expected[1], central(lambda x: f(x, *at[1:])[0], at[0]), rtol=1e-7, atol=1e-8
    )
    assert_same(gc.interpret(f)(*at), expected)
    graph = gc.compile(f).graph(*at)
    inputs = [at[0], np.float64(at[1]), np.float64(at[2])]
    assert_same(python_run(graph, inputs, optimize=True), expected)


def test_work_grows_with_the_system_and_not_faster():
    lines = []
    for n in (40, 80):
        c, equations = reactor(n)
        f = gc.compile(value_and_jacobian(equations, [c, k, h], wrt=c))
        program = program_of(passes.optimize(f.graph(np.ones(n), 2.0, 0.3)))
        assert len(program.kernels) == 1
        lines.append(len(program.text.splitlines()))
    assert lines[1] < 2.1 * lines[0]


def test_sparse_entries_and_structure():
    x, y, z = sp.symbols("x y z")
    f = value_and_jacobian([x * y, sp.cos(z), 3 * x + z**2], [(x, y, z)], sparse=True)
    at = np.array([2.0, 5.0, 0.5])
    assert (f.rows.tolist(), f.cols.tolist()) == ([0, 0, 1, 2, 2], [0, 1, 2, 0, 2])
    for run in (f, gc.interpret(f)):
        values, entries = run(at)
        np.testing.assert_allclose(values, [10, np.cos(0.5), 6.25])
        np.testing.assert_allclose(entries, [5, 2, -np.sin(0.5), 3, 1])
    dense = gc.interpret(value_and_jacobian([x * y, sp.cos(z), 3 * x + z**2], [(x, y, z)]))(at)[1]
    np.testing.assert_allclose(dense, [[5, 2, 0], [0, 0, -np.sin(0.5)], [3, 0, 1]])


def test_batches_stand_behind():
    x, y = sp.symbols("x y")
    f = value_and_jacobian([x**2 * y, sp.Integer(1) * y], [x, y])
    a, b = np.array([1.0, 2.0, 3.0]), 2.0
    for run in (f, gc.interpret(f)):
        values, jacobian = run(a, b)
        np.testing.assert_allclose(values, [a**2 * b, [2, 2, 2]])
        np.testing.assert_allclose(jacobian, [[2 * a * b, a**2], [[0] * 3, [1] * 3]])


def test_jacobian_is_differentiable():
    x, y = sp.symbols("x y")
    f = value_and_jacobian([sp.exp(x * y)], [x, y])
    found = gc.interpret(gc.grad(lambda x, y: f(x, y)[1][0, 1]))(0.3, 0.7)
    assert found == pytest.approx(float(sp.exp(x * y).diff(y, x).subs({x: 0.3, y: 0.7})))


def test_extreme_arguments_stay_finite():
    x = sp.Symbol("x")
    f = value_and_jacobian([x / (1 + sp.exp(-x)), sp.log(1 + sp.exp(x))], [x])
    for at, slopes in ((-1000.0, [0, 0]), (1000.0, [1, 1])):
        np.testing.assert_allclose(f(at)[1][:, 0], slopes, atol=1e-12)


def test_wrt_must_be_arguments():
    x, y = sp.symbols("x y")
    with pytest.raises(SymbolicError, match="wrt has y, not among the arguments"):
        value_and_jacobian([x], [x], wrt=[y])
