"""Text of a schedule: kernels in order, the traffic of each, and why neighbours stayed apart."""

from __future__ import annotations

from collections import Counter

from graphc.ir.dims import DimLike, product
from graphc.ir.node import Node
from graphc.schedule import loops as L


def describe(schedule: L.Schedule) -> str:
    """One block a kernel: what it computes, reads and writes; then the reasons."""
    lines = [f"{len(schedule.kernels)} kernels, {len(schedule.temps)} temporaries"]
    for kernel in schedule.kernels:
        lines.append("")
        lines += _kernel(kernel, schedule)
    if schedule.reasons:
        lines += ["", "not fused:"]
        lines += [f"  {reason}" for reason in dict.fromkeys(schedule.reasons)]
    return "\n".join(lines) + "\n"


def _kernel(kernel: L.Kernel, schedule: L.Schedule) -> list[str]:
    if isinstance(kernel, L.GemmKernel):
        batch = "" if kernel.batch == 1 else f"{kernel.batch} x "
        code = "" if kernel.method else " by OpenBLAS"
        head = f"{kernel.name}: {batch}{_product(kernel)}{code}"
        lines = [head + _where(kernel.nodes, schedule)]
    elif isinstance(kernel, L.LibraryKernel):
        sizes = ", ".join(f"{k} {v}" for k, v in kernel.sizes.items())
        lines = [f"{kernel.name}: {kernel.op} of {sizes}{_where(kernel.nodes, schedule)}"]
    else:
        loops = [str(s.extent) for s in L.statements(kernel.body) if isinstance(s, L.For)]
        ops = ", ".join(n.op for n in kernel.nodes)
        lines = [
            f"{kernel.name}: loops over {', '.join(loops) or 'nothing'}"
            f"{_where(kernel.nodes, schedule)}",
            f"  computes {ops}",
        ]
        for p in (s for s in L.statements(kernel.body) if isinstance(s, L.Product)):
            lines.append(f"  {_product(p)} in blocks of {p.rows} rows")
    lines.append(f"  reads    {_buffers(kernel.reads)}")
    lines.append(f"  writes   {_buffers(kernel.writes)}")
    return lines


def _product(p: L.GemmKernel | L.Product) -> str:
    flags = "".join(f" {name}" for name in ("ta", "tb") if getattr(p, name))
    return f"matmul ({p.m}, {p.k}) @ ({p.k}, {p.n}){flags}"


def _where(nodes: tuple[Node, ...], schedule: L.Schedule) -> str:
    sources = schedule.graph.sources
    lines = dict.fromkeys(str(sources[n]) for n in nodes if n in sources)
    return f"  # {', '.join(lines)}" if lines else ""


def _buffers(buffers) -> str:
    return ", ".join(f"{b.name} {b.dtype.name}[{b.size}]" for b in buffers) or "nothing"


def bytes_moved(schedule: L.Schedule) -> DimLike:
    """Bytes that kernels read from and write to arrays, each array once a kernel: what fusion
    saves, counted without a clock. Scratch memory of one kernel stays in the cache."""
    total: DimLike = 0
    touched = [b for k in schedule.kernels for b in {*k.reads, *k.writes}]
    scratch = {b for b, kernels in Counter(touched).items() if b.kind == "temp" and kernels == 1}
    for kernel in schedule.kernels:
        for buffer in (b for b in (*kernel.reads, *kernel.writes) if b not in scratch):
            total = product([buffer.size, buffer.dtype.itemsize]) + total
    return total
