"""From an optimized graph to kernels in order over planned buffers."""

from __future__ import annotations

import numpy as np

from graphc.errors import DTypeError
from graphc.ir import control
from graphc.ir.dims import product
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.ops import is_library, matmul_dims
from graphc.ir.rows import fold_rows, rows_of, storage_root, unfitting, unfold_rows
from graphc.schedule import loops as L
from graphc.schedule.canonical import canonicalize
from graphc.schedule.library import failure_text, library_kernel
from graphc.schedule.nest import NestBuilder
from graphc.schedule.order import BlockedRows, grouped
from graphc.schedule.products import is_own, method, work_size
from graphc.schedule.program import ProgramBuilder
from graphc.schedule.small import keep_in_registers
from graphc.schedule.storage import assign_storage, item_of
from graphc.schedule.team import split

_NOT_COMPILED = frozenset(map(np.dtype, ("float16", "complex64", "complex128")))


def schedule(graph: Graph, team: bool = False) -> L.Schedule:
    """Group, order, give memory, lower; with ``team``, for several threads."""
    _check_dtypes(graph)
    graph = fold_rows(graph)
    while faults := unfitting(graph):
        graph = unfold_rows(graph, faults)
    while True:
        try:
            result = _scheduled(graph, team)
            break
        except BlockedRows as rows:
            graph = unfold_rows(graph, rows.nodes)
    result = keep_in_registers(result)
    return split(result) if team else result


def _scheduled(graph: Graph, team: bool) -> L.Schedule:
    tapes, rows = tuple(graph.tapes), rows_of(graph)
    inputs = [
        L.Buffer(f"in{k}", node.dtype, node.type.size, "input", k)
        for k, node in enumerate(rows.arguments)
    ]
    donors = rows.donors(graph.donated)
    outputs = [
        inputs[donors[k]] if k in donors else L.Buffer(f"out{k}", t.dtype, t.size, "output", k)
        for k, t in enumerate(rows.results)
    ]
    own = [b for b in outputs if b.kind == "output"]
    program = ProgramBuilder(tapes, team, [*inputs, *own])
    given = [program.at(place, inputs) for place in rows.inputs]
    made = [
        given[graph.donated[k]] if k in graph.donated else program.at(place, outputs)
        for k, place in enumerate(rows.outputs)
    ]
    kernels, scheduled = _kernels(graph, program, given, made)
    return L.Schedule(
        scheduled, kernels, inputs, outputs, program.consts, program.temps,
        program.const_values, list(program.checks), program.reasons, graph.symbols, tapes,
        program.views,
    )  # fmt: skip


def _kernels(
    graph: Graph, program: ProgramBuilder, inputs, outputs, small: bool = False
) -> tuple[list[L.Kernel], Graph]:
    """The kernels of a graph between given buffers; also the graph as it was scheduled. ``small``
    is a step that may be run in registers."""
    graph = canonicalize(graph, tiny_products=not small)
    deps, fusion, order = grouped(graph)
    graph = deps.graph  # with copies behind staged updates
    program.reasons += fusion.reasons
    storage, histories = assign_storage(graph, deps, order, program, inputs, outputs)
    return _lower(graph, deps, order, storage, histories, program), graph


def _check_dtypes(graph: Graph) -> None:
    for node in graph.deep_order:
        if node.dtype in _NOT_COMPILED:
            where = graph.sources.get(node)
            name = node.attr("name") if node.op == "input" else node.op
            raise DTypeError(
                f"`{name}` : {node.type}" + (f" at {where}" if where else "")
                + ": compiled code takes bool, integers, float32, float64 and complex values.\n"
                "Convert with .astype(np.float32), or evaluate with graphc.interpret(f)."
            )  # fmt: skip


# ----------------------------------------------------------------------------------- lowering


def _lower(graph, deps, order, storage, histories, program: ProgramBuilder) -> list[L.Kernel]:
    def new_check(node: Node) -> int:
        return program.check(_check_label(graph, node, program))

    kernels: list[L.Kernel] = []
    for group in order:
        unit = group.units[0] if group.units else None
        if unit is not None and unit.op == "item":
            continue
        name = program.kernel_name()
        if unit is not None and unit.op == "matmul" and len(group.members) == 1:
            kernels.append(_gemm(name, unit, storage, graph, program))
        elif unit is not None and unit.op == "loop":
            kernels += _loop(name, unit, storage, histories, graph, program)
        elif unit is not None and unit.op == "cond":
            kernels.append(_choice(name, unit, storage, graph, program))
        elif unit is not None and is_library(unit):
            inputs = tuple(storage[storage_root(i)] for i in unit.inputs)
            kernels.append(
                library_kernel(name, unit, inputs, storage[unit], program.temp, new_check,
                               graph.sources.get(unit))
            )  # fmt: skip
        else:
            builder = NestBuilder(
                deps, group, storage, program.temp, new_check, program.team, program.packing
            )
            kernels.append(builder.build(name))
    return kernels


def _results(node: Node, storage, program: ProgramBuilder) -> list[L.Buffer]:
    """Memory of the results of a loop or a choice, those that nobody reads too."""
    found = []
    for index, kind in enumerate(node.type.items):
        item = item_of(node, index)
        if item not in storage:
            storage[item] = program.temp("tmp", kind.dtype, kind.size)
        found.append(storage[item])
    return found


def _loop(
    name: str, node: Node, storage, histories, graph: Graph, program: ProgramBuilder
) -> list[L.Kernel]:
    """Body and condition between the loop's buffers: carries are changed in place or have a
    history, what is stacked is passed part by part, and rows are changed in place.
    What the loop would do at each step alike comes before it."""
    body, cond, length = node.attr("body"), node.attr("cond"), node.attr("length")
    given = control.operands(node)
    results, count = _results(node, storage, program), node.attr("carries")
    carries = results[:count]
    var = program.name("t")
    parts: list[L.Part] = []

    def part(base: L.Buffer, kind) -> L.Part:
        parts.append(
            L.Part(program.name("x"), kind.dtype, kind.size, "part", base=base, var=var)
        )  # fmt: skip
        return parts[-1]

    def memory(nodes) -> list[L.Buffer]:
        return [storage[storage_root(n)] for n in nodes]

    read, consts = memory(given.xs), memory(given.consts)
    own = control.parameters(node)
    x_parts = [part(b, x.type) for b, x in zip(read, own.xs, strict=True)]
    kept = {k: h for k in range(count) if (h := histories.get((node, k)))}
    apart = [
        k for k in range(count, len(results)) if not any(k in h.results for h in kept.values())
    ]
    at = {b: x for x, b in enumerate(read) if b.kind == "rows"}
    changed = [at.get(results[k]) for k in apart]  # what the step reads of the same memory
    y_parts = [
        part(results[k], body.outputs[k].type) if x is None else x_parts[x]
        for k, x in zip(apart, changed, strict=True)
    ]
    given_parts, made_parts = list(carries), list(carries)
    for k, history in kept.items():
        given_parts[k] = part(history.before, own.init[k].type)
        made_parts[k] = part(history.after, own.init[k].type)
    donated = {k: k for k in range(count) if k not in kept}
    donated |= {count + k: count + x for k, x in enumerate(changed) if x is not None}
    outputs = [*body.outputs[:count], *(body.outputs[k] for k in apart)]
    step = Graph(body.name, body.inputs, outputs, graph.sources, donated)
    inner = program.body(body.inputs, node.inputs[node.attr("counted") :])
    with program.loop(consts) as before, inner:
        inside = [*given_parts, *x_parts, *consts], [*made_parts, *y_parts]
        kernels, _ = _kernels(step, program, *inside, step.has_few_elements)
    packed = [b for k in before for b in k.writes]
    tests, test = [], None
    if cond is not None:
        test = program.temp("tmp", cond.outputs[0].dtype, 1)
        asked = Graph(cond.name, cond.inputs, cond.outputs, graph.sources)
        with program.body(cond.inputs, [*given.init, *given.consts]):
            tests, _ = _kernels(asked, program, [*carries, *consts], [test])
    counter = None if given.count is None else storage[storage_root(given.count)]
    carries = [kept[k].first if k in kept else b for k, b in enumerate(carries)]
    reads = [*([] if counter is None else [counter]), *carries, *read, *consts, *packed]
    tape = program.tapes.index(str(length)) + 1 if node.attr("grow") else 0
    loop = L.LoopControl(
        name, var, length, counter, bool(node.attr("reverse")), tape, tests, test, kernels, parts,
        [(results[k], p.size) for k, p in zip(apart, y_parts, strict=True)],
        tuple(dict.fromkeys(reads)), tuple(dict.fromkeys(results)), (node,),
        graph.sources.get(node),
    )  # fmt: skip
    return [*before, loop]


def _choice(
    name: str, node: Node, storage, graph: Graph, program: ProgramBuilder
) -> L.ChoiceControl:
    pred, *operands = (storage[storage_root(i)] for i in node.inputs)
    results = _results(node, storage, program)
    sides = []
    for key in ("on_true", "on_false"):
        side = node.attr(key)
        step = Graph(side.name, side.inputs, side.outputs, graph.sources)
        with program.body(side.inputs, node.inputs[1:]):
            sides.append(_kernels(step, program, operands, results)[0])
    reads = tuple(dict.fromkeys([pred, *operands]))
    return L.ChoiceControl(
        name, pred, *sides, reads, tuple(results), (node,), graph.sources.get(node)
    )


def _gemm(name: str, node: Node, storage, graph, program: ProgramBuilder) -> L.GemmKernel:
    a, b = (storage[storage_root(i)] for i in node.inputs)
    ta, tb = node.attr("ta"), node.attr("tb")
    batch, m, n, k = matmul_dims(dict(node.attrs), *(i.type for i in node.inputs))
    own = is_own(n, k, node.dtype.itemsize)
    pack = program.packing(b) if own and product(batch) == 1 else None
    how = method(ta, tb, m, n, k, node.dtype.itemsize, pack is not None) if own else None
    size = work_size(how, n, k) if own else 0
    work = program.temp("work", node.dtype, size) if size != 0 else None
    if how == "packed":
        zeros = (L.Affine(),) * 3
        made = L.Product(a, b, storage[node], zeros, ta, tb, m, n, k, "", m, how, work)
        b, work = pack(made).b, None
    return L.GemmKernel(
        name, a, b, storage[node], product(batch), m, n, k, ta, tb, (node,),
        graph.sources.get(node), how, work,
    )  # fmt: skip


def _check_label(graph: Graph, node: Node, program: ProgramBuilder) -> str:
    """What an out-of-range index or a failed factorization is reported as;
    ``Artifact.failure`` fills the places in."""
    where = graph.sources.get(node)
    line = f" ({where})" if where else ""
    if is_library(node):
        return failure_text(node, line)
    if node.op == "check_index" and node.attr("fault"):
        named = " and ".join(program.integer_arguments(node.inputs[0]))
        return node.attr("fault") + (f" in {named}" if named else "") + line
    indices = node.inputs[1 if node.op in ("take", "take_along", "scatter_set") else 0]
    if node.op in ("scatter_add", "check_index"):
        size = node.attr("size")
    else:
        size = node.inputs[0].shape[node.attr("axis")]
    named = " and ".join(program.integer_arguments(indices))
    value = f"{{wrapped {size}}}" if _is_wrapped(indices) else "{value}"
    place = f" in {named}" if named else ""
    return f"index {value}{place} is out of bounds for an axis of size {{size {size}}}{line}"


def _below_views(node: Node) -> Node:
    while node.op in ("broadcast", "reshape", "cast"):
        node = node.inputs[0]
    return node


def _is_wrapped(indices: Node) -> bool:
    """``where(i < 0, i + size, i)``: what tracing makes of an index that may be negative."""
    node = _below_views(indices)
    if node.op != "where" or node.inputs[1].op != "add":
        return False
    return _below_views(node.inputs[2]) in map(_below_views, node.inputs[1].inputs)
