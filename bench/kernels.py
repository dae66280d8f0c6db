"""``python -m bench.kernels W7``: the time of every kernel of a training workload's native step.

The step is compiled again with a reading of the processor's clock between its kernels; each row
is the best of all steps, with the speed of its products and the rate of its bytes. A kernel of a
loop's body has the time of all turns. Of a step of some nanoseconds (W2a) the clock itself is most:
its rows say little. With ``--threads 2``, that on two threads, and how many times
less it is than on one.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from unittest import mock

import numpy as np

MAX_CALLS = 1024


@dataclass
class Row:
    name: str
    us: float
    flops: float
    nbytes: float
    computes: str


def measure(name: str, epochs: int) -> tuple[list[Row], float]:
    """Rows in the order of execution, and microseconds of a whole step without clocks."""
    from bench import registry

    case = registry.discover()[name].make()
    plain = case.peers["graphc-epoch"]()
    plain.check()
    with tempfile.TemporaryDirectory() as folder:  # what is compiled here must not be kept
        fresh = mock.patch.dict(os.environ, GRAPHC_CACHE_DIR=folder)
        with fresh, clocks() as (least, schedules):
            runner = case.peers["graphc-epoch"]()
            runner.run(2)
            (made,) = schedules[-1:]
            together, run = _steps_together(made, runner.task)
            least[:] = np.iinfo(np.int64).max
            runner.run(epochs * run)
    step = min(_step_seconds(plain, 2 * run * together) for _ in range(epochs)) * 1e6
    sizes = dict.fromkeys(made.symbols, runner.task.batch) | {"turns": together}
    kernels = list(_with_turns(made.kernels, Fraction(1, together), sizes))
    ticks = least[: len(kernels)].astype(float)
    # Ticks are turned to time by the step itself: kernels are all that it does.
    us = ticks * (step / ticks.sum())
    return [_row(kernel, turns, t, sizes) for (kernel, turns), t in zip(kernels, us)], step


def _steps_together(made, task) -> tuple[int, int]:
    """How many steps a call of the program makes, and epochs whose calls all make as many."""
    from graphc.train.turns import MAX_TURNS

    if "turns" not in made.symbols:
        return 1, 1
    full = len(task.x) // task.batch
    if full == 1 and task.steps_per_epoch == 1:
        return MAX_TURNS, MAX_TURNS
    if full > MAX_TURNS:
        raise NotImplementedError(f"calls make {MAX_TURNS} steps, and what is left of an epoch")
    return full, 1


def _step_seconds(runner, epochs: int) -> float:
    runner.run(epochs)
    return runner.seconds_inside / (epochs * runner.steps_per_call)


def _with_turns(kernels, turns: Fraction, sizes: dict[str, int]) -> Iterator[tuple]:
    """The kernels that compute, in the order of the code, and how often each is called."""
    from graphc.ir.dims import evaluate
    from graphc.schedule.loops import ChoiceControl, LoopControl

    for kernel in kernels:
        if isinstance(kernel, LoopControl):
            if kernel.length is None or kernel.count is not None:
                raise NotImplementedError(f"{kernel.name}: the number of turns depends on data")
            yield from _with_turns(kernel.inner, turns * evaluate(kernel.length, sizes), sizes)
        elif isinstance(kernel, ChoiceControl):
            raise NotImplementedError(f"{kernel.name}: which kernels run depends on data")
        else:
            yield kernel, turns


def _row(kernel, turns: Fraction, us: float, sizes: dict[str, int]) -> Row:
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
    return Row(kernel.name, us, float(turns * flops), float(turns * nbytes), " ".join(
        op if count == 1 else f"{count}*{op}" for op, count in ops.items()
    ))  # fmt: skip


def clocks():
    """While it is entered, programs are compiled with clocks; gives the least ticks of each call
    in a step, and the schedules of the programs."""
    from llvmlite import ir

    from graphc.codegen import lower, writer

    least = np.full(MAX_CALLS, np.iinfo(np.int64).max, np.int64)
    current = np.zeros(MAX_CALLS, np.int64)  # of the step that is running
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
                work = self.fixed and _is_kernel(statement)
                start = self.ticks() if work else None
                super().block([statement])
                if work and not _is_pack(statement):
                    self.note(start, _joins_parts(statement))
            self.depth -= 1
            if self.fixed and not self.depth:
                self.finish_step()

        def ticks(self):
            word = ir.IntType(64)
            kind = ir.FunctionType(word, [])
            read = self.builder.module.declare_intrinsic("llvm.readcyclecounter", (), kind)
            return self.builder.call(read, [])

        def note(self, start, more: bool) -> None:
            self.calls += not more
            place = self.place(current, self.calls - 1)
            passed = self.builder.sub(self.ticks(), start)
            self.builder.store(self.builder.add(self.builder.load(place), passed), place)

        def finish_step(self) -> None:
            b = self.builder
            for call in range(self.calls):
                passed, best = self.place(current, call), self.place(least, call)
                now, before = b.load(passed), b.load(best)
                b.store(b.select(b.icmp_unsigned("<", now, before), now, before), best)
                b.store(ir.IntType(64)(0), passed)

        def place(self, words, index: int):
            word = ir.IntType(64)
            return self.builder.inttoptr(word(words.ctypes.data + 8 * index), word.as_pointer())

    @contextlib.contextmanager
    def entered():
        clocked = mock.patch.object(lower, "_Lowering", Clocked)
        with clocked, mock.patch.object(writer, "write", noted):
            yield least, schedules

    return entered()


def _is_kernel(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.For):  # a batch of products; the kernels of a loop have their own
        return not any(_calls(node, "kernel") for node in ast.walk(statement))
    call = statement.value if isinstance(statement, ast.Expr) else None
    return _calls(call, "kernel", "product", "library", "blas", "gemm")


def _calls(node, *prefixes: str) -> bool:
    return getattr(getattr(node, "func", None), "id", "").startswith(prefixes)


def _is_pack(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return getattr(getattr(call, "func", None), "id", "").endswith("_pack")


def _joins_parts(statement: ast.stmt) -> bool:
    """Whether a call puts together what the parts of the kernel before it have summed: its last
    argument is how many they were."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    last = call.args[-1] if isinstance(call, ast.Call) and call.args else None
    return isinstance(last, ast.Name) and re.fullmatch(r"m\d+", last.id) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    alone: list[Row] = []
    if options.threads > 1:
        os.environ["GRAPHC_NUM_THREADS"] = "1"
        alone, _ = measure(options.workload, options.epochs)
    os.environ["GRAPHC_NUM_THREADS"] = str(options.threads)
    rows, step = measure(options.workload, options.epochs)
    if [r.computes for r in alone] != [r.computes for r in rows]:
        alone = []  # other kernels
    before = {r.name: r.us for r in alone}
    print(f"{step:.{1 if step >= 1 else 3}f} us a step, {len(rows)} kernels")
    print(f"{'':6}{'us':>8}{'%':>6}{'GFLOP/s':>9}{'GB/s':>7}{'ratio' if before else '':>7}")
    for row in sorted(rows, key=lambda r: -r.us):
        speed = f"{row.flops / row.us / 1e3:.0f}" if row.flops else ""
        share = 100 * row.us / step
        ratio = f"{before[row.name] / row.us:7.2f}" if before else ""
        rate = row.nbytes / row.us / 1e3
        print(
            f"{row.name:6}{row.us:8.{1 if step >= 1 else 3}f}{share:6.1f}{speed:>9}{rate:7.1f}"
            f"{ratio}  {row.computes[:110]}"
        )


if __name__ == "__main__":
    main()
