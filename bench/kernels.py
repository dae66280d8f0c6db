"""``python -m bench.kernels W7``: the time of every kernel of a training workload's native step.

The step is compiled again with a reading of the processor's clock between its kernels; each row
is the best of all steps, with the speed of its products and the rate of its bytes.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from unittest import mock

import numpy as np

MAX_CALLS = 1024


@dataclass
class Row:
    name: str
    us: float
    flops: int
    nbytes: int
    computes: str


def measure(name: str, epochs: int) -> tuple[list[Row], float]:
    """Rows in the order of execution, and microseconds of a whole step without clocks."""
    from bench import registry
    from graphc.schedule.loops import leaves

    case = registry.discover()[name].make()
    plain = case.peers["graphc-epoch"]()
    plain.run(2)
    with tempfile.TemporaryDirectory() as folder:  # what is compiled here must not be kept
        fresh = mock.patch.dict(os.environ, GRAPHC_CACHE_DIR=folder)
        with fresh, clocks() as (least, schedules):
            runner = case.peers["graphc-epoch"]()
            runner.run(2)
            least[:] = np.iinfo(np.int64).max
            runner.run(epochs)
    step = min(plain.run(2) / (2 * plain.steps_per_call) for _ in range(epochs)) * 1e6
    (made,) = schedules[-1:]
    kernels = list(leaves(made.kernels))
    sizes = dict.fromkeys(made.symbols, runner.task.batch)
    ticks = least[: len(kernels)].astype(float)
    # Ticks are turned to time by the step itself: kernels are all that it does.
    us = ticks * (step / ticks.sum())
    return [_row(kernel, t, sizes) for kernel, t in zip(kernels, us, strict=True)], step


def _row(kernel, us: float, sizes: dict[str, int]) -> Row:
    from graphc.ir.dims import evaluate, product
    from graphc.ir.ops import matmul_dims

    flops = 0
    for node in kernel.nodes:
        if node.op == "matmul":
            batch, m, n, k = matmul_dims(dict(node.attrs), *(i.type for i in node.inputs))
            flops += 2 * evaluate(product((*batch, m, n, k)), sizes)
    buffers = [b for b in {*kernel.reads, *kernel.writes} if not b.name.startswith(("row", "work"))]
    nbytes = sum(evaluate(b.size, sizes) * b.dtype.itemsize for b in buffers)
    ops = Counter(n.op for n in kernel.nodes)
    return Row(kernel.name, us, flops, nbytes, " ".join(
        op if count == 1 else f"{count}*{op}" for op, count in ops.items()
    ))  # fmt: skip


def clocks():
    """While it is entered, programs are compiled with clocks; gives the least ticks of each call
    and the schedules of the programs."""
    from llvmlite import ir

    from graphc.codegen import lower, writer

    least = np.full(MAX_CALLS, np.iinfo(np.int64).max, np.int64)
    schedules: list = []
    write = writer.write

    def noted(scheduled):
        schedules.append(scheduled)
        return write(scheduled)

    class Clocked(lower._Lowering):
        depth = calls = 0

        def block(self, statements) -> None:
            self.depth += 1
            for statement in statements:
                work = self.fixed and self.depth == 1 and _is_kernel(statement)
                start = self.ticks() if work else None
                super().block([statement])
                if work and not _is_pack(statement):
                    self.note(start)
            self.depth -= 1

        def ticks(self):
            word = ir.IntType(64)
            kind = ir.FunctionType(word, [])
            read = self.builder.module.declare_intrinsic("llvm.readcyclecounter", (), kind)
            return self.builder.call(read, [])

        def note(self, start) -> None:
            b, word = self.builder, ir.IntType(64)
            passed = b.sub(self.ticks(), start)
            place = b.inttoptr(word(least.ctypes.data + 8 * self.calls), word.as_pointer())
            before = b.load(place)
            b.store(b.select(b.icmp_unsigned("<", passed, before), passed, before), place)
            self.calls += 1

    @contextlib.contextmanager
    def entered():
        clocked = mock.patch.object(lower, "_Lowering", Clocked)
        with clocked, mock.patch.object(writer, "write", noted):
            yield least, schedules

    return entered()


def _is_kernel(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.For):
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    name = getattr(getattr(call, "func", None), "id", "")
    return name.startswith(("kernel", "product", "library", "blas", "gemm"))


def _is_pack(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return getattr(getattr(call, "func", None), "id", "").endswith("_pack")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    rows, step = measure(options.workload, options.epochs)
    print(f"{step:.1f} us a step, {len(rows)} kernels")
    print(f"{'':6}{'us':>8}{'%':>6}{'GFLOP/s':>9}{'GB/s':>7}")
    for row in sorted(rows, key=lambda r: -r.us):
        speed = f"{row.flops / row.us / 1e3:.0f}" if row.flops else ""
        share = 100 * row.us / step
        print(
            f"{row.name:6}{row.us:8.1f}{share:6.1f}{speed:>9}{row.nbytes / row.us / 1e3:7.1f}"
            f"  {row.computes[:110]}"
        )


if __name__ == "__main__":
    main()
