"""Run a graph through schedule and code generation, as plain Python or natively."""

from __future__ import annotations

import re

import numpy as np

from graphc import interp, passes, pipeline
from graphc.codegen.machine import run_as_python
from graphc.codegen.program import Program
from graphc.codegen.writer import write
from graphc.ir.graph import Graph
from graphc.ir.parts import in_parts
from graphc.ir.rows import rows_of
from graphc.schedule import schedule
from graphc.schedule.memory import WATCH_WORDS, lifetimes, plan

_POISON = 0xAB


def program_of(graph: Graph) -> Program:
    return write(schedule(graph))


def python_run(graph: Graph, arrays, optimize: bool = False, threads=1) -> list[np.ndarray]:
    """Outputs of the generated program executed as plain Python over a planned, poisoned arena.

    Donated inputs are overwritten, as in native code.
    """
    types = [t.dtype for t in rows_of(graph).results]
    graph = in_parts(graph)
    arrays = [_pairs(a) if a.dtype.kind == "c" else a for a in arrays]
    scheduled = schedule(passes.optimize(graph) if optimize else graph, team=threads > 1)
    program = write(scheduled)
    env = interp.bind_dims(graph, arrays)
    memory = plan(lifetimes(scheduled.kernels, scheduled.temps), env)
    kinds = zip(scheduled.outputs, rows_of(scheduled.graph).results, strict=True)
    fresh = {
        id(buffer): np.full(kind.concrete_shape(env), 77, kind.dtype)
        for buffer, kind in kinds if buffer.kind == "output"
    }  # fmt: skip
    inputs = [np.ascontiguousarray(a).reshape(a.shape) for a in arrays]
    consts = [np.ascontiguousarray(c) for c in scheduled.const_values]
    flat = [a.reshape(-1) for a in (*inputs, *fresh.values(), *consts)]
    sizes = (env[s] for s in scheduled.symbols)
    ints = np.array([0, 0, *sizes, *memory.offsets, threads, 0, *[0] * WATCH_WORDS], np.int64)
    arena = np.full(-(-memory.nbytes // 64) * 64 + 64, _POISON, np.uint8)
    run_as_python(program, flat, arena, ints)
    if ints[0]:
        raise IndexError(f"check {ints[0]}: {ints[1]}")
    found = [fresh[id(b)] if b.kind == "output" else inputs[b.index] for b in scheduled.outputs]
    return [
        a.view(kind).reshape(a.shape[:-1]) if kind.kind == "c" else a
        for a, kind in zip(found, types, strict=True)
    ]


def _pairs(a: np.ndarray) -> np.ndarray:
    """A complex array as the real one that generated code reads."""
    return np.ascontiguousarray(a).reshape(*a.shape, 1).view(a.real.dtype)


def native_run(graph: Graph, arrays, threads: int = 1) -> list[np.ndarray]:
    """Outputs of the compiled graph, through the kernel cache."""
    return pipeline.build(graph, threads)(arrays)


def precision(graph: Graph) -> float:
    """Relative: that of the narrowest dtype that values pass through."""
    return 2e-4 if any(n.dtype == np.float32 for n in graph.order) else 1e-9


def assert_same(found, expected, rtol=None, label="") -> None:
    """Equal dtypes, shapes and, within the precision of the dtype, values."""
    assert len(found) == len(expected)
    for k, (a, b) in enumerate(zip(found, expected, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        where = f"{label} output {k}"
        assert a.dtype == b.dtype and a.shape == b.shape, (
            where,
            a.dtype,
            a.shape,
            b.dtype,
            b.shape,
        )
        if b.dtype.kind not in "fc":
            np.testing.assert_array_equal(a, b, err_msg=where)
            continue
        tolerance = rtol or (2e-4 if b.real.dtype.itemsize == 4 else 1e-9)
        scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
        np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True, err_msg=where
        )


def turns(llvm: str) -> list[list[str]]:
    """The instructions of each loop that is one block."""
    blocks = re.findall(r"^(\S+):.*\n((?:  .*\n)+)", llvm, re.MULTILINE)
    return [
        body.splitlines()
        for name, body in blocks
        if re.search(rf"br .*label %{re.escape(name)}(?![\w.])", body)
    ]
