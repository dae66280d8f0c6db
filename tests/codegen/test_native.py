"""What LLVM makes of a program: plain object code, vector loops, no runtime."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from generated import assert_same, program_of

import graphc as gc
from graphc import interp, pipeline
from graphc.codegen import llvm_backend, native
from graphc.codegen.machine import python_words
from graphc.codegen.native import compile_program
from graphc.codegen.native_words import native_words
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type

E = build.elementwise


def exp_graph() -> Graph:
    x = build.input(0, "x", tensor_type(np.float32, (4096,)))
    return Graph("f", (x,), (E("exp", E("mul", x, x)),))


@pytest.fixture(scope="module")
def compiled():
    return compile_program(program_of(exp_graph()))


def test_the_object_needs_nothing_from_numba(compiled):
    outside = [
        line for line in compiled.llvm.splitlines()
        if line.startswith("declare") and "@llvm." not in line
    ]  # fmt: skip
    assert outside == []
    assert "NRT_" not in compiled.llvm and "Py" not in compiled.llvm


def test_only_the_entry_point_is_exported(compiled):
    defined = [line for line in compiled.llvm.splitlines() if line.startswith("define")]
    exported = [d for d in defined if "internal" not in d and "weak_odr" not in d]
    assert len(exported) == 1 and "@graphc_main(" in exported[0]


def test_exp_is_vectorized_without_calls(compiled):
    assert "x float> @llvm.fma" in compiled.llvm or "x float> @llvm.fmuladd" in compiled.llvm
    assert "@expf" not in compiled.llvm


def test_long_bodies_run_several_vectors_side_by_side():
    """A chain longer than the processor looks ahead needs others beside it, a short one none."""
    x = build.input(0, "x", tensor_type(np.float64, (4096,)))

    def most_side_by_side(node) -> int:
        """Vector stores of the main loop."""
        text = compile_program(program_of(Graph("f", (x,), (node,)))).llvm
        blocks = text.split("\n\n")
        return max(len(re.findall(r"store <\d+ x double>", block)) for block in blocks)

    assert most_side_by_side(E("exp", x)) == 1
    assert most_side_by_side(E("pow", x, E("mul", x, x))) > 1


def test_compiling_twice_gives_the_same_object(compiled):
    assert compile_program(program_of(exp_graph())).object_code == compiled.object_code


def test_an_object_from_another_process_is_the_same(compiled):
    """Symbols and constants are named by content, not by counters or ids."""
    code = (
        "import hashlib, sys; sys.path[:0] = [{0!r}, {1!r}]\n"
        "from test_native import exp_graph, compile_program, program_of\n"
        "print(hashlib.sha256(compile_program(program_of(exp_graph())).object_code).hexdigest())"
    )
    import hashlib
    from pathlib import Path

    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code.format(str(here), str(here.parent))],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == hashlib.sha256(compiled.object_code).hexdigest()


def test_both_machines_know_the_same_words():
    python, native = set(python_words()), set(native_words())
    driver = {"splitmix_next", "splitmix_output", "scaled_draw", "copy_bytes", "words_at",
              "flush_subnormals", "call_step"}  # fmt: skip
    calls = {*(f"c_call{n}" for n in range(5)), "c_call_f64"}
    loops = {"abreast", "unrolled"}  # ranges
    assert native - python == driver | calls and python - native == loops


@pytest.mark.parametrize("op", ["sin", "cos", "tan"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_arguments_of_trigonometry_return(op, dtype):
    """The lanes of the rare path once called themselves for ever."""
    for size in (4, 37):
        x = build.input(0, "x", tensor_type(dtype, (size,)))
        graph = Graph("f", (x,), (E(op, x),))
        array = np.full(size, 8388609.0, dtype)
        array[::3] = np.finfo(dtype).max / 3
        array[1] = np.inf
        found = pipeline.build(graph)([array])
        tolerance = 1e-5 if dtype == np.float32 else 1e-13
        assert_same(found, interp.evaluate(graph, [array]), rtol=tolerance)


def test_sums_are_vectorized_and_products_fused():
    x = build.input(0, "x", tensor_type(np.float32, (4096,)))
    y = build.input(1, "y", tensor_type(np.float32, (4096,)))
    graph = Graph("f", (x, y), (build.reduce("sum", E("mul", x, y), (0,)),))
    text = compile_program(program_of(graph)).llvm
    assert "fmul" not in text or "contract" in text
    assert "x float>" in text


def test_the_target_is_this_processor():
    machine = llvm_backend.host_target_machine()
    assert machine.triple == llvm_backend.target().triple


def test_a_kernel_uses_whole_vectors_wherever_it_is_inlined():
    """A kernel takes the attributes of the function that it is inlined into."""
    import llvmlite.binding as llvm

    from graphc.api import stages

    text = stages(lambda x: np.exp(x) + 1.0, np.ones(4096))["llvm"]()
    entry = next(f for f in llvm.parse_assembly(text).functions if f.name == "graphc_main")
    attributes = b" ".join(entry.attributes).decode()
    assert '"prefer-vector-width"="512"' in attributes and "stackrealign" in attributes


def test_arithmetic_is_contracted_outside_of_the_vector_math_alone(monkeypatch):
    texts = []
    monkeypatch.setattr(
        native, "optimize_and_emit", lambda modules, *_, **__: texts.append(modules)
    )
    x = build.input(0, "x", tensor_type(np.float64, (9,)))
    y = build.elementwise("pow", x, build.elementwise("sin", x))
    native.compile_program(program_of(Graph("f", (x,), (build.elementwise("add", y, x),))))
    functions = {f.split("(")[0].split("@")[-1].strip('"'): f for f in texts[0][0].split("define ")}
    contracted = {name for name, text in functions.items() if "contract" in text}
    assert contracted == {"kernel0"} and any("rare" in name for name in functions)


@pytest.mark.parametrize("size", [2, 4])
def test_llvm_says_nothing_to_the_user(size, capfd, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE", "0")
    rows = np.linspace(0, 1, 2 * size).reshape(2, size)

    def loss(m):
        return gc.scan(lambda c, t: (np.tanh(c + t), c * t.sum()), m[0], m)[1].sum()

    assert np.isfinite(gc.value_and_grad(loss)(rows)[0])
    assert capfd.readouterr().err == ""
