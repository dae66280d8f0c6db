"""Text of a schedule: kernels in order, the traffic of each, and why neighbours stayed apart."""

from __future__ import annotations

from collections import Counter

from graphc.ir.dims import DimLike, product
from graphc.ir.node import Node
from graphc.schedule import loops as L
from graphc.wording import counted


def describe(schedule: L.Schedule) -> str:
    """One block a kernel: what it computes, reads and writes; then the reasons."""
    kernels = list(L.leaves(schedule.kernels))
    temporaries = counted(len(schedule.temps), "temporary", "temporaries")
    lines = [f"{counted(len(kernels), 'kernel')}, {temporaries}"]
    for kernel in schedule.kernels:
        lines.append("")
        lines += _block(kernel, schedule)
    if schedule.reasons:
        lines += ["", "not fused:"]
        told = (
            f"  {first.op} | {then.op}: {why}{_where((first, then), schedule)}"
            for first, then, why in schedule.reasons
        )
        lines += dict.fromkeys(told)
    return "\n".join(lines) + "\n"


def _block(kernel: L.Kernel, schedule: L.Schedule) -> list[str]:
    """The lines of a kernel; those of the body of a loop or a choice are further in."""
    if isinstance(kernel, L.LoopControl):
        how = [] if kernel.length is None else [f"{kernel.length} steps"]
        how = [f"a tape of {kernel.length} steps"] if kernel.tape else how
        how += ["a counted number of steps"] if kernel.count is not None else []
        how += ["while a condition holds"] if kernel.test is not None else []
        how += ["last step first"] if kernel.reverse else []
        head = f"{kernel.name}: loop, {', '.join(how)}"
        sections = [("each step", kernel.kernels)]
        if kernel.test is not None:
            sections.insert(0, ("condition", kernel.test_kernels))
    elif isinstance(kernel, L.ChoiceControl):
        head = f"{kernel.name}: choice by {kernel.pred.name}"
        sections = [("if true", kernel.on_true), ("if false", kernel.on_false)]
    else:
        return _kernel(kernel, schedule)
    lines = [head + _where(kernel.nodes, schedule)]
    for title, inner in sections:
        lines.append(f"  {title}:")
        for part in inner:
            lines += ["    " + line for line in _block(part, schedule)]
    return lines


def _kernel(kernel: L.LoopKernel | L.GemmKernel, schedule: L.Schedule) -> list[str]:
    if isinstance(kernel, L.GemmKernel):
        batch = "" if kernel.batch == 1 else f"{kernel.batch} x "
        code = "" if kernel.method else " by OpenBLAS"
        head = f"{kernel.name}: {batch}{_product(kernel)}{code}"
        lines = [head + _where(kernel.nodes, schedule)]
    elif isinstance(kernel, L.LibraryKernel):
        sizes = ", ".join(f"{k} {v}" for k, v in kernel.sizes.items())
        lines = [f"{kernel.name}: {kernel.op} of {sizes}{_where(kernel.nodes, schedule)}"]
    elif isinstance(kernel.body[0], L.Pack) and not kernel.nodes:
        p = kernel.body[0].product
        where = f"  # {p.source}" if p.source else ""
        lines = [f"{kernel.name}: packs ({p.k}, {p.n}) for the products of each step{where}"]
    else:
        loops = [str(s.extent) for s in L.statements(kernel.body) if isinstance(s, L.For)]
        ops = ", ".join(n.op for n in kernel.nodes)
        lines = [
            f"{kernel.name}: loops over {', '.join(loops) or 'nothing'}"
            f"{_where(kernel.nodes, schedule)}",
            f"  computes {ops}",
        ]
        for s in (s for s in L.statements(kernel.body) if isinstance(s, L.Product)):
            lines += [f"  {_product(p)} in blocks of {p.rows} rows" for p in s.all]
        for c in (s for s in L.statements(kernel.body) if isinstance(s, L.Convolve)):
            lines.append(f"  {_convolution(c)}")
        for p in (s.shape for s in L.statements(kernel.body) if isinstance(s, L.Pool)):
            over = f"{p.rows} rows of {p.columns} blocks of {p.down} x {p.across}"
            lines.append(f"  {p.method} over {over}")
    lines.append(f"  reads    {_buffers(kernel.reads)}")
    lines.append(f"  writes   {_buffers(kernel.writes)}")
    return lines


def _product(p: L.GemmKernel | L.Product) -> str:
    flags = "".join(f" {name}" for name in ("ta", "tb") if getattr(p, name))
    return f"matmul ({p.m}, {p.k}) @ ({p.k}, {p.n}){flags}"


def _convolution(c: L.Convolve) -> str:
    shape = c.shape
    one = "an image" if shape.method == "rows" else f"{shape.images} images"
    result, window = (" x ".join(map(str, s)) for s in (shape.places, shape.window))
    return (
        f"conv of {one}, {c.channels} channels: {shape.filters} filters {window}, results {result}"
        + (", sums of vectors" if shape.method == "sums" else "")
    )


def _where(nodes: tuple[Node, ...], schedule: L.Schedule) -> str:
    sources = schedule.graph.sources
    lines = dict.fromkeys(str(sources[n]) for n in nodes if n in sources)
    return f"  # {', '.join(lines)}" if lines else ""


def _buffers(buffers) -> str:
    return ", ".join(f"{b.name} {b.dtype.name}[{b.size}]" for b in buffers) or "nothing"


def bytes_moved(schedule: L.Schedule) -> DimLike:
    """Bytes that kernels read from and write to arrays, each array once a kernel: what fusion
    saves, counted without a clock. Scratch memory of one kernel stays in the cache;
    a loop's body counts once."""
    total: DimLike = 0
    kernels = list(L.leaves(schedule.kernels))
    touched = [b for k in kernels for b in {*k.reads, *k.writes}]
    touched += [base for b in touched if (base := getattr(b, "base", None)) is not None]
    scratch = {b for b, kernels in Counter(touched).items() if b.kind == "temp" and kernels == 1}
    for kernel in kernels:
        for buffer in (b for b in (*kernel.reads, *kernel.writes) if b not in scratch):
            total = product([buffer.size, buffer.dtype.itemsize]) + total
    return total
