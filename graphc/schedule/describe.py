"""Text of a schedule: kernels in order, the traffic of each, and why neighbours stayed apart."""

from __future__ import annotations

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
        flags = "".join(f" {n}" for n in ("ta", "tb") if getattr(kernel, n))
        batch = "" if kernel.batch == 1 else f"{kernel.batch} x "
        head = f"{kernel.name}: matmul {batch}({kernel.m}, {kernel.k}) @ ({kernel.k}, {kernel.n})"
        lines = [head + flags + _where(kernel.nodes, schedule)]
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
    lines.append(f"  reads    {_buffers(kernel.reads)}")
    lines.append(f"  writes   {_buffers(kernel.writes)}")
    return lines


def _where(nodes: tuple[Node, ...], schedule: L.Schedule) -> str:
    sources = schedule.graph.sources
    lines = dict.fromkeys(str(sources[n]) for n in nodes if n in sources)
    return f"  # {', '.join(lines)}" if lines else ""


def _buffers(buffers) -> str:
    return ", ".join(f"{b.name} {b.dtype.name}[{b.size}]" for b in buffers) or "nothing"


def bytes_moved(schedule: L.Schedule) -> DimLike:
    """Bytes that kernels read from and write to arrays, each array once a kernel: what fusion
    saves, counted without a clock. (A product's panel never leaves the cache.)"""
    total: DimLike = 0
    for kernel in schedule.kernels:
        panel = kernel.work if isinstance(kernel, L.GemmKernel) else None
        for buffer in (b for b in (*kernel.reads, *kernel.writes) if b is not panel):
            total = product([buffer.size, buffer.dtype.itemsize]) + total
    return total
