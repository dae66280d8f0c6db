"""Generated text means natively what it means as Python."""

from __future__ import annotations

import ctypes
import itertools
import re

import numpy as np
import pytest
from generated import assert_same

import graphc as gc
from graphc import interp, passes, pipeline
from graphc.codegen.machine import run_as_python
from graphc.codegen.native import compile_program, compile_words
from graphc.codegen.program import KernelFunction, Parameter, Program
from graphc.codegen.writer import write
from graphc.errors import VerifyError
from graphc.ir import build
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.runtime.executor import Executable, pointer
from graphc.runtime.loader import NativeFunction
from graphc.schedule import schedule

# Control flow in all forms that texts have; each is f(n, m) for small n and m.
FUNCTIONS = {
    "nested loops share a name": """
    total = 0
    for i in range(n):
        for j in range(i, m):
            total += i * 10 + j
        j = total % 7
        total = total + j
    return total""",
    "the last value of a loop's name": """
    i = 5
    for i in range(n):
        m = m + i
    return i * 100 + m""",
    "names of disjoint blocks": """
    out = 0
    if n > m:
        t = n - m
        out = t * 2
    else:
        t = m - n
        out = t * 3
    for k in range(3):
        t2 = k * n
        out = out + t2
    for k in range(2):
        t2 = k + 1 == m
        out = out + (1 if t2 else 0)
    return out""",
    "while, break and return": """
    steps = 0
    while True:
        if n == m:
            return steps
        if steps > 20:
            break
        if n < m:
            n = n + 2
        elif n % 3 == 0:
            n = n - 1
        else:
            n = n - m - 1
        steps = steps + 1
    return -steps""",
    "a value carried to the next step": """
    last = 0
    found = 0
    for i in range(n):
        if i > 0:
            found = found * 2 + last
        last = i * m
    return found""",
    "conditions stop where they are known": """
    count = 0
    for i in range(n):
        if (i != m and 12 // (i - m) > 0) or not i < 4:
            count += 1
        if 0 <= i < m and i != 2:
            count += 10
    return count""",
    "integer arithmetic": """
    a = -7 * n + m
    b = m - 3
    if b == 0:
        b = 5
    return (a // b) * 1000 + a % b + ((a >> 1) & 255) + (n << 3) + (n | m) + (n ^ m) + (~n)""",
    "one of two": """
    x = n if n < m else m
    y = (m - n if m > 2 else n - m) if n > 2 else 9
    return x * 10 + y""",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_control_flow_means_what_it_means_in_python(name):
    text = f"def f(n, m):{FUNCTIONS[name]}\n"
    scope: dict = {}
    exec(text, scope)
    native = NativeFunction(compile_words(text).object_code)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(native.address)
    for n, m in itertools.product(range(7), range(7)):
        assert call(n, m) == scope["f"](n, m), (n, m)


@pytest.mark.parametrize("statement", [
    "x = ints[0] + 1.5", "x = unknown(1)", "x = unknown", "for i in range(9, 0, -1): pass",
    "x = ints + ints", "with ints: pass", "x = ints[0].real", "import os", "x = smaller(1)",
])  # fmt: skip
def test_text_without_a_meaning_is_refused(statement):
    main = f"def main(args, arena, ints):\n    {statement}\n    ints[0] = x\n"
    with pytest.raises(VerifyError):
        compile_program(Program((), main, ()))


def layers(count: int, width: int = 4) -> Graph:
    """Batched and plain products, an indexed read that is checked, sizes that are symbols."""
    n = symbol("n")
    x = build.input(0, "x", tensor_type(np.float64, (n, width)))
    w = build.input(1, "w", tensor_type(np.float64, (width, width)))
    i = build.input(2, "i", tensor_type(np.int64, (3,)))
    h, sums = x, []
    for k in range(count):
        h = build.elementwise("tanh", build.matmul(h, w))
        if k % 4 == 0:
            sums.append(build.reduce("sum", h, (0,)))
    many = build.broadcast(w, (5, *w.shape), (1, 2))
    batched = build.reduce("sum", build.matmul(many, many), (0,))
    return Graph("layers", (x, w, i), (build.take(h, i, 0), *sums, batched))


def arrays(n=6):
    rng = np.random.default_rng(n)
    return [rng.normal(size=(n, 4)), rng.normal(size=(4, 4)) / 2, np.array([0, n - 1, 2])]


def compiled_run(graph: Graph, given):
    return Executable(pipeline.compile_graph(graph))(given)  # whatever the cache holds


@pytest.mark.parametrize("count", [3, 24])
def test_short_and_long_lists_of_calls(count):
    graph = passes.optimize(layers(count))
    given = arrays()
    assert_same(compiled_run(graph, given), interp.evaluate(graph, given), rtol=1e-10)


def test_a_failed_check_ends_a_main():
    graph = passes.optimize(layers(3))
    x, w, _ = arrays()
    with pytest.raises(IndexError, match="index 9"):
        compiled_run(graph, [x, w, np.array([0, 9, 1])])


def test_identical_layers_are_one_function():
    # More would be a loop; with smaller weights, a kernel would take several layers.
    program = write(schedule(passes.optimize(layers(15, 64))))
    assert len(program.calls) > 15 and len({k.text for k in program.kernels}) <= 8


def arithmetic(layers: int) -> set[str]:
    """Texts of the kernels of a deep network's gradient that do more than move memory."""

    def loss(params, x):
        for w, b in params:
            x = np.tanh(x @ w + b)
        return np.mean(x * x)

    params = [(np.eye(8) + k, np.ones(8)) for k in range(layers)]
    graph = gc.value_and_grad(loss).graph(params, np.ones((16, 8)))
    program = write(schedule(passes.optimize(graph)))
    return {
        kernel.text for kernel in program.kernels
        if not all(_MOVE.fullmatch(line.split("#")[0].strip()) for line in kernel.text.split("\n"))
    }  # fmt: skip


_MOVE = re.compile(r"(t\d+|o\d+\[[^]]*]) = (t\d+|a\d+\[[^]]*])|(for|def) .*|")


def test_what_is_compiled_does_not_grow_with_identical_layers():
    """Each layer has weights of its own: they are moved together, nothing else is more."""
    few = arithmetic(50)
    assert 1 <= len(few) <= 6 and arithmetic(400) == few


def stacked(count: int) -> Graph:
    """Arrays joined, and taken apart again: what a loop over many layers does with weights."""
    given = [
        build.input(k, f"w{k}", tensor_type(np.float32, (2, 3))) for k in range(count)
    ]  # fmt: skip
    whole = build.concat(tuple(given), 0)
    double = build.elementwise("add", whole, whole)
    parts = [build.slice_(double, (2 * k, 0), (2, 3), (1, 1)) for k in range(count)]
    return Graph("stacked", tuple(given), (whole, *parts))


@pytest.mark.parametrize("count", [3, 40])
def test_copies_are_moves_of_memory(count):
    graph = stacked(count)
    arrays = [np.full((2, 3), k, np.float32) + np.eye(2, 3, dtype=np.float32) for k in range(count)]
    assert_same(compiled_run(graph, arrays), interp.evaluate(graph, arrays))
    text = compile_program(write(schedule(passes.optimize(graph)))).llvm
    assert ("@move(" in text) == (count == 40)  # hundreds of moves in place are one long block


COPYING = """
def kernel(a0, a1, o2, o3, s4, n):
    for j in range(n):
        t0 = a0[2 + j]
        o2[j + 1 * 3] = t0
        o3[j] = a1[j + 4]
    for j in range(4):
        o2[j] = a0[j * 2]
    for j in range(3):
        o3[j + 1] = o3[j]
    for j in range(2):
        t1 = a1[j]
        o2[j + 20] = t1
        o2[j + 21] = a0[j]
    for j in range(1):
        i = s4[2 + j]
        o3[j + i] = a0[j + 5]
"""


@pytest.mark.parametrize("n", [-2, 0, 5])
def test_loops_that_only_look_like_copies_stay_loops(n):
    """Strides, overlaps and targets written twice are done step by step."""
    main = (
        "def main(args, arena, ints):\n    kernel(argument_f64(args, 0), argument_f64(args, 1), "
        "argument_f64(args, 2), argument_f64(args, 3), argument_i64(args, 4), ints[2])\n"
    )
    kinds = [Parameter(p, "f64") for p in ("a0", "a1", "o2", "o3")]
    kinds += [Parameter("s4", "i64"), Parameter("n", "dim")]
    kernel = KernelFunction("kernel", tuple(kinds), COPYING.strip())
    program = Program((kernel,), main, ("kernel",))
    found, expected = (
        [*(np.arange(30.0) + 100 * k for k in range(4)), np.arange(30)] for _ in range(2)
    )
    ints, arena = np.array([0, 0, n, 0, 0]), np.zeros(64, np.uint8)
    run_as_python(program, expected, arena, ints)
    table = (ctypes.c_void_p * 5)(*map(pointer, found))
    native = NativeFunction(compile_program(program).object_code)
    native.call(ctypes.addressof(table), pointer(arena), pointer(ints))
    assert_same(found, expected)
