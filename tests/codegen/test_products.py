"""Matrix products by graphc's own tiles: every shape, edge, transpose and vector width."""

from __future__ import annotations

import ctypes
import itertools

import llvmlite.binding as llvm
import numpy as np
import pytest
from generated import assert_same, native_run, program_of, python_run

from graphc import interp
from graphc.codegen.llvm_backend import optimize_and_emit, target
from graphc.codegen.product import products_module
from graphc.codegen.program import ProductFunction
from graphc.codegen.tiles import Registers, registers, tiling
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.schedule.products import CHUNK_ROWS, CHUNK_TERMS, work_size

AVX512, AVX2, NEON, SSE = Registers(32, 64), Registers(16, 32), Registers(32, 16), Registers(16, 16)
MACHINES = {"avx512": AVX512, "avx2": AVX2, "neon": NEON, "sse": SSE}
DTYPES = {"f32": np.float32, "f64": np.float64}


# -------------------------------------------------------------------------------------- tiling


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("itemsize", [4, 8])
def test_panels_cover_each_column_once_and_fit_the_registers(machine, itemsize):
    count, lanes = MACHINES[machine].count, MACHINES[machine].lanes(itemsize)
    for m, n in itertools.product([None, 0, 1, 2, 3, 7, 8, 13, 64, 784], range(140)):
        made = tiling(m, n, lanes, count)
        assert made.rows <= (m or 8)
        columns = 0
        for panel in made.panels:
            assert panel.first == columns and 1 <= panel.live <= lanes
            assert panel.live == lanes or panel.count == 1
            assert panel.vectors * lanes <= 64
            tile = made.rows * panel.vectors + panel.vectors + 1
            assert tile <= count or (made.rows, panel.vectors) == (1, 1)
            columns += panel.count * panel.vectors * lanes - (lanes - panel.live)
        assert columns == n


def test_tiles_of_usual_shapes():
    """What the estimate is for: rows that divide, enough sums in flight, no idle lanes."""
    made = tiling(512, 192, 16, 32)
    assert made.rows * made.panels[0].vectors >= 16 and len(made.panels) == 1
    assert tiling(None, 10, 16, 32).panels[0].live == 10
    assert tiling(3, 64, 16, 32).rows == 3


def test_registers_of_processors():
    assert registers({"avx512f": True, "avx": True, "avx2": True}) == AVX512
    assert registers({"avx512f": False, "avx": True}) == AVX2
    assert registers({"neon": True}) == NEON
    assert registers({}) == SSE


# ---------------------------------------------------------------------------- native functions


class _Compiled:
    """Functions of products in this process, for any vector width."""

    def __init__(self, products, machine):
        target()
        text = products_module(products, machine, llvm.get_process_triple())
        self.products = products
        self.engine = llvm.create_mcjit_compiler(
            llvm.parse_assembly(text), target().create_target_machine()
        )
        self.engine.finalize_object()

    def _call(self, name, arrays, sizes, ahead=()):
        pointer = ctypes.c_void_p
        kinds = [pointer] * len(arrays) + [ctypes.c_int64] * len(sizes) + [pointer] * len(ahead)
        function = ctypes.CFUNCTYPE(None, *kinds)(self.engine.get_function_address(name))
        function(*(x.ctypes.data for x in arrays), *sizes, *(x.ctypes.data for x in ahead))

    def __call__(self, product, a, b, m, k, *beside):
        """The result; with more than one b, all of them."""
        c, *others = (np.full((m, n), 77, a.dtype) for n in product.columns)
        size = work_size(product.method, product.n, k)
        work = np.full(size + 1, np.nan, a.dtype)
        work[-1] = 77
        if product.method == "whole":
            self._call(product.pack_name, [b, work], [k])
            b = work
        behind = [work] if product.method in ("panel", "chunks") else []
        rows = product.rows or m
        for first in range(0, m, rows or 1):
            more = [x for other, d in zip(beside, others, strict=True) for x in (other, d[first:])]
            left = a[:, first:] if product.ta else a[first:]
            operands = [left, b, c[first:], *more, *behind]
            ahead = [np.empty(1, a.dtype)] * product.ahead  # what is asked for need not exist
            self._call(product.name, operands, [m, k, min(rows, m - first)], ahead)
        assert work[-1] == 77
        return (c, *others) if beside else c


def _operands(rng, dtype, ta, tb, m, n, k):
    """Matrices between NaNs, so that reading beyond them shows."""
    made = []
    for shape in ((k, m) if ta else (m, k), (n, k) if tb else (k, n)):
        around = np.full(shape[0] * shape[1] + 64, np.nan, dtype)
        inner = around[32 : 32 + shape[0] * shape[1]].reshape(shape)
        inner[...] = rng.integers(-4, 5, shape)  # sums are exact in any order
        made.append(inner)
    return made


def _expected(a, b, ta, tb):
    return (a.T if ta else a) @ (b.T if tb else b)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", DTYPES)
def test_native_functions_of_all_kinds(machine, kind):
    rng = np.random.default_rng(0)
    lanes = MACHINES[machine].lanes(np.dtype(DTYPES[kind]).itemsize)
    shapes = [(1, 1, 1), (9, lanes + 3, 5), (3, 2 * lanes, lanes + 1), (17, 3 * lanes + 1, 2)]
    cases = [
        (ta, tb, *shape, known, method)
        for ta, tb, shape, known, method in itertools.product(
            (0, 1), (0, 1), shapes, (True, False), ("direct", "whole", "panel", "dots")
        )
        if (not tb or method != "direct") and ((ta, tb) == (0, 1) or method != "dots")
    ]
    products = [
        ProductFunction(f"p{i}", kind, ta, tb, m if known else None, n, k if known else None,
                        m if known else None, method)
        for i, (ta, tb, m, n, k, known, method) in enumerate(cases)
    ]  # fmt: skip
    compiled = _Compiled(products, MACHINES[machine])
    for product, (ta, tb, m, n, k, known, _) in zip(products, cases, strict=True):
        for rows in (m,) if known else (0, 1, 7, 8, 9, m):
            a, b = _operands(rng, DTYPES[kind], ta, tb, rows, n, k)
            found = compiled(product, a, b, rows, k)
            np.testing.assert_array_equal(found, _expected(a, b, ta, tb), err_msg=product.text)


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_asked_for_changes_no_sums(machine):
    """Sums longer and shorter than the lines of a tile, of known and unknown length."""
    rng = np.random.default_rng(0)
    cases = [
        (m, n, k, known, method)
        for m, n, k in [(19, 40, 260), (8, 48, 64), (9, 33, 5), (5, 16, 0)]
        for known in (True, False)
        for method in ("direct", "whole", "panel")
    ]
    products = [
        ProductFunction(f"p{i}", "f32", 0, method != "direct", m if known else None, n,
                        k if known else None, m if known else None, method, ahead=1 + i % 3)
        for i, (m, n, k, known, method) in enumerate(cases)
    ]  # fmt: skip
    compiled = _Compiled(products, MACHINES[machine])
    for product, (m, n, k, _, _) in zip(products, cases, strict=True):
        a, b = _operands(rng, np.float32, 0, product.tb, m, n, k)
        found = compiled(product, a, b, m, k)
        np.testing.assert_array_equal(found, _expected(a, b, 0, product.tb), err_msg=product.text)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("method", ["direct", "panel"])
def test_a_panel_of_the_columns_of_a_wider_matrix(machine, method):
    """Of B's columns, and of C's or not; what is beside them stays."""
    rng = np.random.default_rng(0)
    cases = [
        (m, n, k, whole, known)
        for m, n, k in [(19, 64, 260), (9, 33, 5)]
        for whole in (True, False)
        for known in (True, False)
    ]
    wide = 100
    products = [
        ProductFunction(f"p{i}", "f32", 0, 0, m if known else None, n, k if known else None,
                        m if known else None, method, of=wide, c_row=whole * wide)
        for i, (m, n, k, whole, known) in enumerate(cases)
    ]  # fmt: skip
    compiled = _Compiled(products, MACHINES[machine])
    for product, (m, n, k, whole, _) in zip(products, cases, strict=True):
        a, b = _operands(rng, np.float32, 0, 0, m, wide, k)
        c = np.full((m, wide if whole else n), 77, np.float32)
        work = [np.empty(work_size(method, n, k), np.float32)] if method == "panel" else []
        compiled._call(product.name, [a, b[:, 3:], c[:, 5:] if whole else c, *work], [m, k, m])
        expected = np.full_like(c, 77)
        expected[:, 5 * whole : n + 5 * whole] = a @ b[:, 3 : n + 3]
        np.testing.assert_array_equal(c, expected, err_msg=product.text)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", DTYPES)
def test_long_sums_in_chunks(machine, kind):
    """Edges of tiles, of blocks of rows and of chunks of the sum; an empty sum too."""
    rng = np.random.default_rng(0)
    cases = [
        (tb, m, n, k, known)
        for tb, known in itertools.product((0, 1), (True, False))
        for m, n, k in [(3, 7, 161), (CHUNK_ROWS + 9, 5, 2), (41, 67, 2 * CHUNK_TERMS), (8, 4, 0)]
    ]
    products = [
        ProductFunction(f"p{i}", kind, 1, tb, m if known else None, n, k if known else None,
                        16 if m == 41 else m, "chunks")
        for i, (tb, m, n, k, known) in enumerate(cases)
    ]  # fmt: skip
    compiled = _Compiled(products, MACHINES[machine])
    for product, (tb, m, n, k, _) in zip(products, cases, strict=True):
        a, b = _operands(rng, DTYPES[kind], 1, tb, m, n, k)
        found = compiled(product, a, b, m, k)
        np.testing.assert_array_equal(found, _expected(a, b, 1, tb), err_msg=product.text)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", DTYPES)
def test_products_in_chunks_beside_each_other(machine, kind):
    """A is packed once for several B, in tiles of as many rows for all."""
    rng = np.random.default_rng(0)
    cases = [(tb, m, k) for tb in (0, 1) for m, k in [(3, 161), (CHUNK_ROWS + 9, 2), (41, 100)]]
    columns = (7, 40, 3)
    products = [
        ProductFunction(f"p{i}", kind, 1, tb, m, columns[0], k, m, "chunks", beside=columns[1:])
        for i, (tb, m, k) in enumerate(cases)
    ]
    compiled = _Compiled(products, MACHINES[machine])
    for product, (tb, m, k) in zip(products, cases, strict=True):
        pairs = [_operands(rng, DTYPES[kind], 1, tb, m, n, k) for n in columns]
        a, rights = pairs[0][0], [b for _, b in pairs]
        found = compiled(product, a, rights[0], m, k, *rights[1:])
        for b, result in zip(rights, found, strict=True):
            np.testing.assert_array_equal(result, _expected(a, b, 1, tb), err_msg=product.text)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("method", ["direct", "whole"])
def test_sums_of_products_in_one_tile(machine, method):
    """Further products, and a row to begin with; edges of tiles, all rows or blocks of them."""
    rng = np.random.default_rng(0)
    cases = [
        (tb, m, n, known, row)
        for tb in {0, int(method == "whole")}
        for m, n in [(1, 5), (9, 40), (16, 67)]
        for known in (True, False) for row in (True, False)
    ]  # fmt: skip
    sums = (11, 4, 3)  # terms of each
    products = [
        ProductFunction(f"p{i}", "f32", 0, tb, m if known else None, n, sums[0],
                        m if known else None, method, sums=sums[1:], row=row)
        for i, (tb, m, n, known, row) in enumerate(cases)
    ] + [ProductFunction(f"q{i}_{k}", "f32", 0, tb, m if known else None, n, k,
                         m if known else None, "whole")
         for i, (tb, m, n, known, _) in enumerate(cases) for k in sums]  # fmt: skip
    compiled = _Compiled(products, MACHINES[machine])
    for i, (tb, m, n, _, row) in enumerate(cases):
        c, bias = np.full((m, n), 77, np.float32), rng.integers(-4, 5, n).astype(np.float32)
        terms, expected = [], np.zeros((m, n)) + (bias if row else 0)
        for k in sums:
            a, b = _operands(rng, np.float32, 0, tb, m, n, k)
            expected += _expected(a, b, 0, tb)
            if method == "whole":
                work = np.full(work_size(method, n, k), np.nan, np.float32)
                compiled._call(f"q{i}_{k}_pack", [b, work], [k])
                b = work
            terms += [a, b]
        operands = [*terms[:2], c, *terms[2:], *([bias] if row else [])]
        compiled._call(f"p{i}", operands, [m, sums[0], m])
        np.testing.assert_array_equal(c, expected, err_msg=products[i].text)


@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("known", [True, False])
def test_rows_in_parts_make_the_whole(ta, known):
    """What row blocks call; the last has fewer rows."""
    m = 41
    product = ProductFunction("p", "f32", ta, 0, m if known else None, 40, None, 16, "direct")
    compiled = _Compiled([product], registers(dict(llvm.get_host_cpu_features())))
    for rows in (m,) if known else (1, 7, 15, 17, 32, m):
        a, b = _operands(np.random.default_rng(1), np.float32, ta, 0, rows, 40, 11)
        found = compiled(product, a, b, rows, 11)
        np.testing.assert_array_equal(found, _expected(a, b, ta, 0))


def test_empty_sums_are_zero():
    product = ProductFunction("p", "f32", 0, 0, None, 5, None, None, "direct")
    compiled = _Compiled([product], registers(dict(llvm.get_host_cpu_features())))
    a, b = _operands(np.random.default_rng(1), np.float32, 0, 0, 9, 5, 0)
    np.testing.assert_array_equal(compiled(product, a, b, 9, 0), np.zeros((9, 5)))


def test_object_code_holds_products_that_no_one_else_sees():
    product = ProductFunction("product0", "f32", 0, 0, 4, 4, 4, 4, "direct")
    triple = llvm.get_process_triple()
    entry = (
        f'target triple = "{triple}"\n'
        "declare void @product0(ptr, ptr, ptr, i64, i64, i64)\n"
        "define void @graphc_main(ptr %a) {\n"
        "  call void @product0(ptr %a, ptr %a, ptr %a, i64 4, i64 4, i64 4)\n"
        "  ret void\n}\n"
    )
    made = optimize_and_emit([entry], "graphc_main", [products_module([product], SSE, triple)])
    defined = [line for line in made.llvm.splitlines() if line.startswith("define")]
    assert len(defined) == 2 and sum("internal" in line for line in defined) == 1


# ------------------------------------------------------------------------------- whole programs


def _graph(ta, tb, m, n, k, dtype=np.float32, batch=()) -> Graph:
    a = build.input(0, "a", tensor_type(dtype, (*batch, *((k, m) if ta else (m, k)))))
    b = build.input(1, "b", tensor_type(dtype, (*batch, *((n, k) if tb else (k, n)))))
    return Graph("f", (a, b), (build.matmul(a, b, ta, tb),))


def _arrays(graph, rng, **env):
    return [rng.standard_normal(i.type.concrete_shape(env)).astype(i.dtype) for i in graph.inputs]


def test_every_small_shape_in_plain_python():
    rng = np.random.default_rng(2)
    for ta, tb, m, n, k in itertools.product((0, 1), (0, 1), (1, 2, 5), (1, 3, 20), (1, 2, 7)):
        graph = _graph(ta, tb, m, n, k)
        arrays = _arrays(graph, rng)
        assert_same(python_run(graph, arrays), interp.evaluate(graph, arrays))


NATIVE = [
    (0, 0, 33, 31, 17, np.float32, ()),
    (1, 0, 33, 130, 64, np.float32, ()),
    (0, 1, 64, 65, 20, np.float64, ()),
    (1, 1, 9, 16, 33, np.float32, ()),
    (0, 1, 12, 16, 5, np.float32, (2, 3)),
    (0, 0, symbol("t"), 24, 10, np.float32, ()),
    (1, 0, 24, 12, symbol("t"), np.float32, (symbol("b"),)),
    (0, 1, symbol("t"), symbol("t"), 8, np.float32, ()),
    (1, 0, 900, 12, 160, np.float32, ()),  # in chunks
    (0, 1, 24, 0, 200, np.float32, ()),
    (0, 1, 0, 24, 200, np.float32, ()),
]


@pytest.mark.parametrize("case", NATIVE, ids=range(len(NATIVE)))
def test_native_programs(case):
    graph, rng = _graph(*case), np.random.default_rng(3)
    for size in (1, 3, 40):
        arrays = _arrays(graph, rng, t=size, b=2)
        expected = interp.evaluate(graph, arrays)
        assert_same(python_run(graph, arrays), expected)
        assert_same(native_run(graph, arrays), expected)
        if not graph.symbols:
            break


def test_products_of_one_shape_are_one_function():
    x = build.input(0, "x", tensor_type(np.float32, (symbol("b"), 80)))
    w = [build.input(k, f"w{k}", tensor_type(np.float32, (80, 80))) for k in (1, 2, 3)]
    h = x
    for weight in w:
        h = build.matmul(h, weight)
    program = program_of(Graph("f", (x, *w), (h,)))
    assert len(program.products) == 1 and program.main.count("product0(") == 3
    assert "f32 c[m, 80] = a[m, 80] @ b[80, 80]" in program.text


def test_gradients_of_weights_beside_each_other_pack_what_they_share_once():
    a, x, y = (
        build.input(k, name, tensor_type(np.float32, (160, n)))
        for k, (name, n) in enumerate([("a", 900), ("x", 12), ("y", 20)])
    )
    graph = Graph("f", (a, x, y), tuple(build.matmul(a, b, 1, 0) for b in (x, y)))
    program = program_of(graph)
    assert len(program.products) == 1 and program.products[0].columns == (12, 20)
    arrays = _arrays(graph, np.random.default_rng(3))
    expected = interp.evaluate(graph, arrays)
    assert_same(python_run(graph, arrays), expected)
    assert_same(native_run(graph, arrays), expected)
    assert_same(native_run(graph, arrays, threads=2), expected)


def test_columns_known_at_run_time_only_are_left_to_openblas():
    program = program_of(_graph(0, 0, 4, symbol("t"), 8))
    assert not program.products and "gemm_f32(" in program.main
