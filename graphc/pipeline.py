"""How a graph becomes a kernel, top to bottom.

trace -> ir -> ad happens where the user's function runs (``api``); from the graph on:
passes -> schedule -> codegen -> runtime. What compiles is imported where it is used: a process
whose kernels are in the cache does without.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from graphc import forks
from graphc.ir.graph import Graph
from graphc.ir.ops import is_library
from graphc.ir.printer import print_graph
from graphc.ir.rows import fold_rows, rows_of
from graphc.runtime import cache
from graphc.runtime.artifact import Artifact, Output
from graphc.runtime.executor import Executable

if TYPE_CHECKING:
    from graphc.codegen.program import Program
    from graphc.schedule.loops import Schedule


@forks.waited_for()
def build(graph: Graph, threads: int = 1) -> Executable:
    """The native function of a graph: from the cache, or compiled and cached. One object serves
    all numbers of threads but 1: blocks are larger where nobody shares them."""
    graph, team = fold_rows(graph), threads > 1
    address = cache.key(_canonical_text(graph) + "\nfor a team" * team)
    artifact = cache.load(address)
    if artifact is None:
        artifact = compile_graph(graph, team)
        cache.store(address, artifact)
    return Executable(artifact, threads)


@forks.waited_for()
def compile_graph(graph: Graph, team: bool = False) -> Artifact:
    """Optimize, schedule, write and compile a graph, whatever the cache holds."""
    from graphc.codegen.writer import write
    from graphc.schedule import schedule_program

    started = time.perf_counter()
    _, scheduled = schedule_program(graph, team)
    program = write(scheduled)
    object_code = _compile(program).object_code
    return package(graph, scheduled, program, object_code, time.perf_counter() - started)


def _compile(program: Program):
    from graphc.codegen.native import compile_program  # only when there is work for it

    return compile_program(program)


def package(
    graph: Graph, scheduled: Schedule, program: Program, object_code: bytes, seconds: float
) -> Artifact:
    """Object code with what is needed to call it, by the types of the user's ``graph``."""
    from graphc.schedule.loops import leaves
    from graphc.schedule.memory import lifetimes

    kernels, rows = list(leaves(scheduled.kernels)), rows_of(graph)
    donors = rows.donors(graph.donated)
    return Artifact(
        name=graph.name,
        inputs=tuple((i.attr("name"), i.type) for i in rows.arguments),
        outputs=tuple(Output(kind, donors.get(k)) for k, kind in enumerate(rows.results)),
        symbols=scheduled.symbols,
        temps=tuple(lifetimes(scheduled.kernels, scheduled.temps)),
        checks=tuple(scheduled.checks),
        consts=tuple(scheduled.const_values),
        object_code=object_code,
        source=program.text,
        compile_seconds=seconds,
        facts={
            "kernels": len(kernels),
            "functions": len(program.kernels),
            "products": sum(n.op == "matmul" for k in kernels for n in k.nodes),
        },
        tapes=tuple(
            (symbol, f" at {where}" if (where := graph.sources.get(loop)) else "")
            for symbol, loop in graph.tapes.items()
        ),
    )


STAGES = ("traced", "adjoint", "optimized", "fused", "loops", "llvm")


def stages(primal: Graph, adjoint: Callable[[], Graph], subject: Graph) -> dict[str, Callable]:
    """The text of each stage, computed when called.

    ``primal`` is the user's function, ``adjoint()`` the graph with its gradient, ``subject``
    the graph that is compiled: one of the two.
    """
    from graphc.codegen.writer import write
    from graphc.schedule import schedule_program
    from graphc.schedule.describe import describe

    @functools.cache
    def program() -> tuple[Graph, Schedule]:
        return schedule_program(subject)

    return {
        "traced": lambda: print_graph(primal, whole=False),
        "adjoint": lambda: print_graph(adjoint(), whole=False),
        "optimized": lambda: print_graph(program()[0], whole=False),
        "fused": lambda: describe(program()[1]),
        "loops": lambda: write(program()[1]).text + "\n",
        "llvm": lambda: _compile(write(program()[1])).llvm,
    }


_CHECKED = frozenset({"take", "take_along", "scatter_add", "scatter_set", "check_index"})


def _canonical_text(graph: Graph) -> str:
    """The graph without user lines, except where a run-time message quotes them."""
    quoted = [
        str(graph.sources[n])
        for n in graph.deep_order
        if (n.op in _CHECKED or is_library(n)) and n in graph.sources
    ]
    rows = "" if graph.rows is None else str(graph.rows)
    return "\n".join([print_graph(graph, sources=False), rows, *quoted])
