"""Complex arithmetic by real and imaginary part, against NumPy's complex functions."""

import warnings

import mpmath
import numpy as np
import pytest
from generated import python_run
from helpers import make_graph

from graphc import interp
from graphc.errors import DTypeError
from graphc.ir import build
from graphc.ir.parts import in_parts, is_complex, join, modulus, parts_of

RNG = np.random.default_rng(7)
FUNCTIONS = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh tanh "
    "arcsinh arccosh arctanh sqrt neg"
)
AXES = np.array(
    [1, -1, 2, -2, 0.5, -0.5, 1j, -1j, 2j, -2j, 0.5j, -0.5j, 1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j,
     complex(2, -0.0), complex(-2, -0.0), complex(-0.5, -0.0), complex(-0.0, 2), 1e-9, 1e-9j,
     3 + 4j, -3e-5 + 2e-5j, 20 + 1j, -20 - 1j, 1.0000001 + 1e-8j]
)  # fmt: skip
POINTS = np.concatenate([AXES, RNG.normal(size=40) + 1j * RNG.normal(size=40)])


def run_in_parts(graph, arrays):
    """By the interpreter, as what a graph in parts takes and gives."""
    pairs = [a.reshape(*a.shape, 1).view(a.real.dtype) for a in arrays]
    with np.errstate(all="ignore"):
        values = interp.evaluate(in_parts(graph), pairs)
    return [
        np.ascontiguousarray(v).view(o.dtype).reshape(v.shape[:-1]) if is_complex(o) else v
        for v, o in zip(values, graph.outputs, strict=True)
    ]


def assert_close(found, expected, dtype, label=""):
    """Relative to the magnitude of each number."""
    assert found.dtype == expected.dtype and found.shape == expected.shape, label
    if expected.dtype.kind not in "fc":
        np.testing.assert_array_equal(found, expected, label)
        return
    scale = 2e-5 if np.dtype(dtype).name in ("complex64", "float32") else 4e-14
    apart = np.abs(found - expected) / np.maximum(np.abs(expected), 1e-30)
    worst = np.argmax(apart)
    assert apart.max(initial=0) <= scale, (label, worst, found.flat[worst], expected.flat[worst])


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", FUNCTIONS.split())
def test_functions(name, dtype):
    points = POINTS.astype(dtype)
    ufunc = np.negative if name == "neg" else getattr(np, name)
    with np.errstate(all="ignore"):
        expected = ufunc(points)
        if name == "log1p":  # NumPy's loses what is small beside 1
            small = np.abs(points) < 1e-3
            expected[small] = [complex(mpmath.log1p(complex(p))) for p in points[small]]
        keep = np.isfinite(expected)
    if dtype == "complex64":  # near a pole or a zero a narrow argument has few digits
        keep &= (np.abs(expected) > 1e-3) & (np.abs(points) < 5)
    graph = make_graph(lambda z: build.elementwise(name, z), [points[keep]])
    (found,) = run_in_parts(graph, [points[keep]])
    assert_close(found, expected[keep], dtype, name)


@pytest.mark.parametrize("name", ["sqrt", "log", "arctanh", "arcsin", "arccos", "arccosh"])
def test_branch_cuts_take_the_sign_of_zero(name):
    points = np.array([complex(x, s) for x in (-3.0, -1.5, 1.5, 3.0) for s in (0.0, -0.0)])
    graph = make_graph(lambda z: build.elementwise(name, z), [points])
    (found,) = run_in_parts(graph, [points])
    assert_close(found, getattr(np, name)(points), "complex128", name)


BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two(name):
    x, y = (
        a.reshape(-1) for a in np.meshgrid(AXES[:16], AXES[4:20] + (0.25 if name == "pow" else 0))
    )
    graph = make_graph(lambda a, b: build.elementwise(name, a, b), [x, y])
    (found,) = run_in_parts(graph, [x, y])
    assert_close(found, BINARY[name](x, y), "complex128", name)


def test_a_part_that_is_nan_makes_the_size_nan():
    z = np.array([complex(np.nan, 0), complex(0, np.nan), complex(np.nan, 1), complex(0, 0)])
    graph = make_graph(lambda z: modulus(*parts_of(z)), [z])
    (found,) = run_in_parts(graph, [z])
    np.testing.assert_array_equal(found, np.abs(z))


def test_quotients_neither_overflow_nor_underflow():
    x = np.array([1e300 + 1e300j, 1e-300 + 1e-300j, 4.0])
    graph = make_graph(lambda a, b: build.elementwise("div", a, b), [x, x])
    (found,) = run_in_parts(graph, [x, x])
    np.testing.assert_allclose(found, np.ones(3, complex), rtol=1e-15)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, -1, -3, 0.5, 1.5 + 2j, 20])
def test_powers_of_constants(exponent):
    x = np.array([0.5 + 0.25j, -2, 1j, 1 + 1j])
    graph = make_graph(lambda a: build.elementwise("pow", a, build.full_like(a, exponent)), [x])
    (found,) = run_in_parts(graph, [x])
    assert_close(found, x ** np.array(exponent, complex), "complex128")


def test_powers_of_zero():
    x, y = np.zeros(3, complex), np.array([0, 2, 1.5], complex)
    graph = make_graph(lambda a, b: build.elementwise("pow", a, b), [x, y])
    np.testing.assert_array_equal(run_in_parts(graph, [x, y])[0], x**y)


Z = RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4))
STRUCTURAL = {
    "reshape": lambda z: build.reshape(z, (2, 6)),
    "transpose": lambda z: build.transpose(z, (1, 0)),
    "broadcast": lambda z: build.broadcast(z, (2, 3, 4), (1, 2)),
    "slice": lambda z: build.slice_(z, (2, 0), (2, 2), (-1, 2)),
    "pad": lambda z: build.pad(z, (1, 0), (0, 2), fill=build.const(1 - 2j)),
    "concat": lambda z: build.concat([z, z], 1),
    "windows": lambda z: build.windows(z, 1, 2),
    "take": lambda z: build.take(z, build.const([2, 0, 0]), 0),
    "scatter_add": lambda z: build.scatter_add(build.const([1, 0, 1]), z, 0, 2),
    "sum": lambda z: build.reduce("sum", z, (0,)),
    "prod": lambda z: build.reduce("prod", z, (0, 1)),
    "cumsum": lambda z: build.scan("cumsum", z, 1),
    "cumprod": lambda z: build.scan("cumprod", z, 0),
    "matmul": lambda z: build.matmul(z, z, 1, 0),
    "to_real": lambda z: build.cast(z, np.float32),
    "to_narrow": lambda z: build.cast(z, np.complex64),
    "to_bool": lambda z: build.cast(z, bool),
    "from_real": lambda z: build.cast(build.make("real", (z,)), np.complex128),
    "where": lambda z: build.elementwise(
        "where", build.elementwise("gt", z, build.full_like(z, 0)), z, build.full_like(z, 2j)
    ),
    "parts": lambda z: join(parts_of(build.elementwise("neg", z))[::-1]),
    "isnan": lambda z: build.elementwise("isnan", z),
    "isfinite": lambda z: build.elementwise("isfinite", z),
    "iota": lambda z: build.elementwise("add", z, build.iota(z.shape, 1, np.complex128)),
}


@pytest.mark.parametrize("name", STRUCTURAL)
@pytest.mark.parametrize("run", [run_in_parts, python_run], ids=["interpreter", "python"])
def test_everything_else(name, run):
    graph = make_graph(STRUCTURAL[name], [Z])
    with warnings.catch_warnings(action="ignore"):
        expected = interp.evaluate(graph, [Z])[0]
    (found,) = run(graph, [Z])
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(
        found, expected, rtol=1e-6 if name in ("to_real", "to_narrow") else 1e-12
    )


def test_no_complex_node_is_left():
    graph = make_graph(lambda z: build.elementwise("exp", z), [Z])
    assert not any(is_complex(n) for n in in_parts(graph).order)


def test_real_graphs_stay_as_they_are():
    graph = make_graph(lambda x: build.elementwise("exp", x), [Z.real])
    assert in_parts(graph) is graph


def test_what_has_no_rule_is_named():
    graph = make_graph(lambda z: build.argsort(z, 0), [Z])
    with pytest.raises(DTypeError, match="argsort"):
        in_parts(graph)
