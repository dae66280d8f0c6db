"""Every elementwise row has scalar code that means the same as its NumPy evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from generated import native_run, python_run

from graphc import interp, vmath
from graphc.codegen.machine import KINDS
from graphc.codegen.scalar import WHERE_SCALAR_CODE_IS, supported_ops
from graphc.errors import GraphcError
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.ops import OPS
from graphc.ir.types import tensor_type

ROWS = [n for n, row in OPS.items() if row.kind == "elementwise" and not row.library]
DTYPES = [np.dtype(kind) for kind in KINDS.values()]
# Rows whose value is exact or correctly rounded: bit for bit as NumPy has it.
APPROXIMATE = (vmath.FUNCTIONS.keys() & ROWS) - {"sqrt"}

# Which zero of a pair of unlike sign comes out depends on NumPy's own build.
SIGN_FREE = {"maximum", "minimum", "relu"}


def edge_values(dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        near = [0, 1, 2, 3, 7, 100, info.max, info.max - 1, info.max // 2 + 1, info.min]
        near += [-1, -2, -7, info.min + 1] if dtype.kind == "i" else [info.max - 6]
        return np.array(near, dtype)
    info = np.finfo(dtype)
    parts = [0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 3.0, 7.3, 42.0, 100.0, 1e5, 8388609.0,
             float(info.tiny), float(info.smallest_subnormal), float(info.max), np.inf]  # fmt: skip
    values = np.array([*parts, *(-p for p in parts), np.nan], dtype)
    return np.concatenate([values, np.random.default_rng(3).normal(size=7).astype(dtype) * 3])


def operands(row, dtype: np.dtype) -> list[np.ndarray]:
    """Every pair of edge values, flattened."""
    values = edge_values(dtype)
    if row.name == "where":
        pairs = [a.ravel() for a in np.meshgrid([False, True], values, values, indexing="ij")]
        return [pairs[0].astype(bool), *pairs[1:]]
    grids = np.meshgrid(*[values] * row.arity, indexing="ij")
    found = [np.ascontiguousarray(g.ravel()) for g in grids]
    if row.name == "pow" and dtype.kind == "i":  # NumPy raises for negative exponents
        keep = found[1] >= 0
        found = [f[keep] for f in found]
    return found


def cases():
    """(row, dtype) of each dtype that the row's type rule and NumPy both take."""
    for name in ROWS:
        if name == "cast":
            continue
        for dtype in DTYPES:
            arrays = operands(OPS[name], dtype)
            inputs = [
                build.input(i, f"x{i}", tensor_type(a.dtype, a.shape)) for i, a in enumerate(arrays)
            ]
            try:
                graph = Graph(name, tuple(inputs), (build.elementwise(name, *inputs),))
                interp.evaluate(graph, arrays)
            except (GraphcError, TypeError):
                continue
            yield name, dtype


CASES = list(cases())


def packed(dtype: np.dtype):
    """One graph with every row that takes ``dtype``, and its arrays."""
    names = [name for name, d in CASES if d == dtype]
    inputs, arrays, outputs = [], [], []
    for name in names:
        mine = []
        for array in operands(OPS[name], dtype):
            node = build.input(
                len(inputs), f"x{len(inputs)}", tensor_type(array.dtype, array.shape)
            )
            inputs.append(node), arrays.append(array), mine.append(node)
        outputs.append(build.elementwise(name, *mine))
    return names, Graph("rows", tuple(inputs), tuple(outputs)), arrays


def assert_rows(names, found, expected, arrays_of):
    faults = []
    for name, a, b in zip(names, found, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, name
        if name in APPROXIMATE and b.dtype.kind == "f":
            tolerance = 8 * np.finfo(b.dtype).eps
            tiny = float(np.finfo(b.dtype).tiny)
            with np.errstate(all="ignore"):
                good = np.isclose(a, b, rtol=tolerance, atol=tiny, equal_nan=True)
                good &= (a != 0) | (b != 0) | (np.signbit(a) == np.signbit(b))
        else:
            good = (a == b) | ((a != a) & (b != b))
            if b.dtype.kind == "f" and name not in SIGN_FREE:
                good &= (b != 0) | (np.signbit(a) == np.signbit(b))
        for at in np.flatnonzero(~good)[:3]:
            given = [x[at] for x in arrays_of(name)]
            faults.append(f"{name}({', '.join(map(repr, given))}) = {a[at]!r}, NumPy {b[at]!r}")
    assert not faults, "\n" + "\n".join(faults)


def test_every_elementwise_row_has_scalar_code():
    missing = {n for n, r in OPS.items() if r.kind == "elementwise"} - supported_ops()
    assert not missing, f"{sorted(missing)} lack scalar code: {WHERE_SCALAR_CODE_IS}"


def test_every_row_takes_some_dtype():
    assert {name for name, _ in CASES} == set(ROWS) - {"cast"}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("run", [python_run, native_run])
def test_rows_at_edge_values(run, dtype):
    names, graph, arrays = packed(dtype)
    expected = interp.evaluate(graph, arrays)
    assert_rows(names, run(graph, arrays), expected, lambda name: operands(OPS[name], dtype))


def cast_values(source: np.dtype, target: np.dtype) -> np.ndarray:
    """Values whose conversion C defines, and negative floats to narrow unsigned integers."""
    values = edge_values(source)
    if source.kind == "f" and target.kind in "iu":
        info = np.iinfo(target)
        low = -100.0 if target.itemsize < 8 else float(info.min)
        values = values[np.isfinite(values)]
        return values[(values >= low) & (values < float(info.max))]
    return values


@pytest.mark.parametrize("run", [python_run, native_run])
def test_casts_between_all_dtypes(run):
    inputs, arrays, outputs, names = [], [], [], []
    for source in DTYPES:
        for target in DTYPES:
            if source == target:
                continue
            array = cast_values(source, target)
            node = build.input(len(inputs), f"x{len(inputs)}", tensor_type(source, array.shape))
            inputs.append(node), arrays.append(array), outputs.append(build.cast(node, target))
            names.append(f"{source} to {target}")
    graph = Graph("casts", tuple(inputs), tuple(outputs))
    given = dict(zip(names, arrays, strict=True))
    found, expected = run(graph, arrays), interp.evaluate(graph, arrays)
    assert_rows(names, found, expected, lambda name: [given[name]])


@pytest.mark.parametrize("run", [python_run, native_run])
def test_reductions_of_every_dtype(run):
    """Also the identities: extreme integers, infinities, bools."""
    inputs, arrays, outputs, names = [], [], [], []
    for dtype in DTYPES:
        values = edge_values(dtype)
        if dtype.kind == "f":
            values = values[np.isfinite(values) & (np.abs(values) < 200)]
        values = values[: len(values) // 2 * 2].reshape(2, -1)
        for op in ("sum", "prod", "max", "min", "argmax", "argmin"):
            for axes in ((1,), (0,), (0, 1)):
                if op.startswith("arg") and len(axes) > 1:
                    continue
                node = build.input(len(inputs), f"x{len(inputs)}", tensor_type(dtype, values.shape))
                inputs.append(node), arrays.append(values)
                outputs.append(build.reduce(op, node, axes))
                names.append(f"{op} {axes} {dtype}")
    graph = Graph("reductions", tuple(inputs), tuple(outputs))
    found, expected = run(graph, arrays), interp.evaluate(graph, arrays)
    for name, a, b in zip(names, found, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max(), err_msg=name)


@pytest.mark.parametrize("run", [python_run, native_run])
@pytest.mark.parametrize("op", ["max", "min", "argmax", "argmin"])
def test_nan_wins_and_first_of_ties(run, op):
    rows = np.array([[1, np.nan, 3, np.nan], [2, 2, 2, 2], [-np.inf] * 4, [np.inf] * 4])
    x = build.input(0, "x", tensor_type(np.float64, rows.shape))
    graph = Graph("f", (x,), (build.reduce(op, x, (1,)), build.reduce(op, x, (0,))))
    for a, b in zip(run(graph, [rows]), interp.evaluate(graph, [rows]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_isfinite_of_an_overflowing_product_is_not_contracted():
    x = build.input(0, "x", tensor_type(np.float64, (4,)))
    product = build.elementwise("mul", x, x)
    tests = [build.elementwise(op, product) for op in ("isfinite", "isinf", "isnan")]
    graph = Graph("f", (x,), tuple(tests))
    array = np.array([1e200, 2.0, np.inf, np.nan])
    for a, b in zip(native_run(graph, [array]), interp.evaluate(graph, [array]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_division_by_a_constant_is_within_an_ulp_and_exact_where_it_can_be(dtype):
    import graphc as gc

    info = np.finfo(dtype)
    rng = np.random.default_rng(5)
    many = (rng.normal(size=2000) * 10.0 ** rng.integers(-30, 30, 2000)).astype(dtype)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny,
               info.smallest_subnormal, -info.smallest_subnormal]  # fmt: skip
    for divisor in (3.0, 7.0, -49.0, 255.0, 0.1, 1 / 3, 6.02e4):
        divisor = float(dtype(divisor))
        whole = np.arange(-300, 300).astype(dtype) * dtype(divisor)
        x = np.concatenate([many, np.array(special, dtype), whole])
        with np.errstate(all="ignore"):
            expected = x / dtype(divisor)
        found = gc.compile(lambda x, c=divisor: x / c)(x)
        assert found.dtype == expected.dtype
        bound = np.spacing(np.abs(np.where(np.isfinite(expected), expected, 1)))
        with np.errstate(invalid="ignore"):
            near = np.abs(found - expected) <= bound
        assert np.all(near | (found == expected) | (np.isnan(found) & np.isnan(expected)))
        assert np.array_equal(np.signbit(found), np.signbit(expected))
        assert np.array_equal(found[-600:], expected[-600:])  # multiples of the divisor
