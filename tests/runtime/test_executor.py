"""Calling compiled graphs: whose memory is what, threads, forks, odd arrays, checks."""

from __future__ import annotations

import mmap
import os
import threading
import tracemalloc

import numpy as np
import pytest
from generated import assert_same

import graphc as gc
from graphc import interp, pipeline
from graphc.errors import DTypeError, ShapeError
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.runtime import executor
from graphc.runtime.executor import Binding, Executable, _overlap, arena_of

E = build.elementwise


def dense() -> Graph:
    n = symbol("n")
    x = build.input(0, "x", tensor_type(np.float32, (n, 6)))
    w = build.input(1, "w", tensor_type(np.float32, (6, 4)))
    h = E("tanh", build.matmul(x, w))
    return Graph("dense", (x, w), (h, build.reduce("sum", h, (0,)), build.reduce("max", h, (0, 1))))


@pytest.fixture(scope="module")
def layer() -> Executable:
    return pipeline.build(dense())


def arrays(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in [(n, 6), (6, 4)]]


def test_results_belong_to_the_caller(layer):
    first = layer(arrays(seed=1))
    copies = [a.copy() for a in first]
    for seed in range(5):
        later = layer(arrays(seed=seed + 2))
        assert not any(np.shares_memory(a, b) for a in first for b in later)
    for a, b in zip(first, copies, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.flags.owndata and a.flags.writeable


def test_the_steady_state_binds_and_plans_nothing(layer, monkeypatch):
    made = []
    monkeypatch.setattr(executor, "Binding", lambda *a: made.append(a) or Binding(*a))
    given = {n: arrays(n) for n in (3, 8, 21)}
    for n in given:
        layer(given[n])
    made.clear()
    for _ in range(10):
        for n in given:
            layer(given[n])
    assert made == []


def test_the_steady_state_allocates_outputs_only(layer):
    given = arrays(64)
    for _ in range(3):
        layer(given)
    tracemalloc.start()
    try:
        kept = [layer(given) for _ in range(50)]
        held, _ = tracemalloc.get_traced_memory()
        outputs = sum(a.nbytes for out in kept for a in out)
        objects = 50 * 3 * 250  # array and list objects
        assert outputs <= held < outputs + objects
        del kept
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            layer(given)
        after, _ = tracemalloc.get_traced_memory()
        assert after - before < 2000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("nbytes", [64, 1 << 19, (1 << 20) + 5, 3 << 20, (4 << 20) + 100])
def test_memory_of_temporaries_begins_on_a_line_or_a_huge_page(nbytes):
    arena = arena_of(nbytes)
    assert arena.nbytes == nbytes and arena.flags.writeable
    large = nbytes >= 1 << 20 and hasattr(mmap, "MADV_HUGEPAGE")
    assert arena.ctypes.data % ((2 << 20) if large else 64) == 0
    arena[:] = 7
    assert arena[-1] == 7


def test_many_sizes_do_not_pile_up_arenas(layer):
    for n in range(2, 80):
        assert_same(layer(arrays(n)), interp.evaluate(dense(), arrays(n)), rtol=1e-4)
    assert len(layer._free) <= 16
    assert_same(layer(arrays(2)), interp.evaluate(dense(), arrays(2)), rtol=1e-4)


def test_threads_share_one_executable(layer):
    expected = {n: interp.evaluate(dense(), arrays(n, n)) for n in range(2, 10)}
    faults = []

    def work(n):
        given = arrays(n, n)
        try:
            for _ in range(200):
                assert_same(layer(given), expected[n], rtol=1e-4)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(2 + k % 8,)) for k in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_after_first_use(layer):
    given = arrays(500)
    expected = layer(given)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert_same(layer(given), expected)
            x = build.input(0, "x", tensor_type(np.float64, (3,)))
            fresh = pipeline.build(
                Graph("g", (x,), (E("mul", x, build.full_like(x, os.getpid())),))
            )
            assert fresh([np.ones(3)])[0][0] == os.getpid()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert_same(layer(given), expected)


def odd_arrays(x):
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    wide = np.zeros((x.shape[0] * 2, x.shape[1] * 3), x.dtype)
    wide[::2, ::3] = x
    yield "fortran", np.asfortranarray(x)
    yield "strided", wide[::2, ::3]
    yield "negative strides", x[::-1, ::-1].copy()[::-1, ::-1]
    yield "unaligned", unaligned
    yield "read-only", read_only
    yield "subclass", x.view(type("Mine", (np.ndarray,), {}))
    yield "broadcast", np.broadcast_to(x[:1], x.shape)


def test_odd_arrays(layer):
    x, w = arrays(8)
    layer([x, w])
    for label, odd in odd_arrays(x):
        expected = interp.evaluate(dense(), [np.array(odd), w])
        assert_same(layer([odd, w]), expected, rtol=1e-4, label=label)


def test_wrong_arrays_are_refused_by_name(layer):
    x, w = arrays(8)
    with pytest.raises(DTypeError, match="argument w is float64, compiled for f32"):
        layer([x, w.astype(np.float64)])
    with pytest.raises(ShapeError, match=r"argument w has shape \(5, 4\), compiled for f32\[6,4\]"):
        layer([x, w[:5]])


def test_scalars_and_empty_arrays():
    s = build.input(0, "s", tensor_type(np.float64, ()))
    e = build.input(1, "e", tensor_type(np.float64, (0, 3)))
    graph = Graph("f", (s, e), (
        E("exp", s), E("neg", e), build.reduce("sum", e, (0,)), build.reduce("prod", e, (0, 1)),
        build.broadcast(s, (0, 2), ()), build.concat((e, e), 0),
        build.matmul(e, build.transpose(e, (1, 0))), build.matmul(build.transpose(e, (1, 0)), e),
        build.pad(e, (1, 0), (1, 0)),
    ))  # fmt: skip
    run = pipeline.build(graph)
    for value in (np.array(0.5), np.float64(0.25)):
        given = [np.asarray(value), np.zeros((0, 3))]
        assert_same(run(given), interp.evaluate(graph, given))


# ---------------------------------------------------------------------------- run-time checks


def gather() -> Graph:
    n = symbol("n")
    table = build.input(0, "table", tensor_type(np.float64, (n, 2)))
    index = build.input(1, "batch['token']", tensor_type(np.int64, (4,)))
    rows = build.take(table, index, 0)
    sums = build.scatter_add(index, rows, 0, n)
    return Graph("gather", (table, index), (rows, sums))


def test_an_index_out_of_range_names_argument_value_and_size():
    run = pipeline.build(gather())
    table = np.arange(10.0).reshape(5, 2)
    good = np.array([0, 4, 2, 0])
    for bad in (5, -1, 1 << 40, -(1 << 62)):
        message = rf"index {bad} in batch\['token'\] is out of bounds for an axis of size 5"
        with pytest.raises(IndexError, match=message):
            run([table, np.array([0, bad, 2, 0])])
        assert_same(run([table, good]), interp.evaluate(gather(), [table, good]))


@pytest.mark.parametrize("where", ["nested", "carry", "choice", "condition"])
def test_an_index_within_a_loop_or_a_choice_has_the_name_of_its_argument(where):
    def f(table, i):
        if where == "nested":
            turn = lambda _, s: gc.fori_loop(0, 3, lambda t, c: c + table[i[t]], s)  # noqa: E731
            return gc.fori_loop(0, 2, turn, 0.0)
        if where == "carry":
            return gc.fori_loop(0, 2, lambda _, c: (c[0] + table[c[1]], c[1]), (np.zeros(3), i))
        if where == "choice":
            return gc.cond(table[0] < 9, lambda t, k: t[k], lambda t, k: t[:3], table, i)
        return gc.while_loop(lambda c: table[i][c] < 3, lambda c: c + 1, 0)

    with pytest.raises(IndexError, match="index 9 in i is out of bounds for an axis of size 4"):
        gc.compile(f)(np.arange(4.0), np.array([0, 9, 1]))


def test_too_much_memory_is_a_memory_error():
    with pytest.raises(MemoryError, match="PiB"):
        arena_of(1 << 52)


def test_nothing_is_written_out_of_bounds():
    index = build.input(0, "i", tensor_type(np.int64, (3,)))
    values = build.input(1, "v", tensor_type(np.float64, (3,)))
    memory = build.input(2, "m", tensor_type(np.float64, (4,)))
    graph = Graph("f", (index, values, memory),
                  (build.scatter_add(index, values, 0, 4),), donated={0: 2})  # fmt: skip
    run = pipeline.build(graph)
    guarded = np.full(4 + 2000, 7.0)
    for bad in (4, 900, -1, -900):
        with pytest.raises(IndexError):
            run([np.array([0, bad, 1]), np.ones(3), guarded[1000:1004]])
    assert (guarded[:1000] == 7).all() and (guarded[1004:] == 7).all()


# ---------------------------------------------------------------------------------- donation


def update() -> Graph:
    p = build.input(0, "p", tensor_type(np.float64, (5,)))
    g = build.input(1, "g", tensor_type(np.float64, (5,)))
    return Graph("update", (p, g), (E("sub", p, g),), donated={0: 0})


def test_donated_memory_is_taken_over():
    run = pipeline.build(update())
    p, g = np.arange(5.0), np.ones(5)
    for _ in range(3):
        (out,) = run([p, g])
        assert out is p
    assert p.tolist() == [-3.0, -2.0, -1.0, 0.0, 1.0] and g.tolist() == [1.0] * 5


def test_donated_arrays_must_be_plain_memory():
    run = pipeline.build(update())
    fixed = np.arange(5.0)
    fixed.flags.writeable = False
    with pytest.raises(ShapeError, match="argument p is donated but read-only"):
        run([fixed, np.ones(5)])
    with pytest.raises(ShapeError, match="argument p is donated and must be contiguous"):
        run([np.arange(10.0)[::2], np.ones(5)])
    assert fixed.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_donated_memory_must_not_be_another_argument_too():
    run = pipeline.build(update())
    whole = np.arange(6.0)
    for p, g in ((whole[:5], whole[:5]), (whole[:5], whole[1:])):
        with pytest.raises(ShapeError, match="argument p is donated but shares memory with g"):
            run([p, g])
    assert whole.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_overlaps_are_found_as_by_comparing_all_pairs():
    rng = np.random.default_rng(3)
    whole = np.zeros(60, np.uint8)
    found = 0
    for _ in range(400):
        starts, sizes = rng.integers(0, 54, 5), rng.integers(0, 7, 5)
        arrays = [whole[a : a + n] for a, n in zip(starts, sizes, strict=True)]
        donors = set(rng.choice(5, 2, replace=False).tolist())
        pairs = {
            (k, j) for k in donors for j in range(5)
            if j != k and np.may_share_memory(arrays[k], arrays[j])
        }  # fmt: skip
        pair = _overlap(arrays, donors)
        assert pair in pairs if pairs else pair is None
        found += bool(pairs)
    assert 50 < found < 350
