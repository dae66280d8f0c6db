"""From an optimized graph to kernels in order over planned buffers."""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc.errors import DTypeError
from graphc.ir import build, control
from graphc.ir.control import CONTROL
from graphc.ir.dims import Dim, product
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.ops import is_library, matmul_dims
from graphc.schedule import loops as L
from graphc.schedule.canonical import canonicalize, copy_of
from graphc.schedule.deps import (
    Deps,
    analyse,
    completes_rows,
    domain,
    is_call,
    nominal,
    reduced_axes,
    storage_root,
)
from graphc.schedule.fuse import Fusion, Group
from graphc.schedule.library import failure_text, library_kernel
from graphc.schedule.nest import NestBuilder, segments
from graphc.schedule.products import is_own, method, work_size
from graphc.schedule.rows import find_rows
from graphc.schedule.small import keep_in_registers
from graphc.schedule.team import split

_NOT_COMPILED = frozenset(map(np.dtype, ("float16", "complex64", "complex128")))


def schedule(graph: Graph, team: bool = False) -> L.Schedule:
    """Group, order, give memory, lower; with ``team``, for several threads."""
    _check_dtypes(graph)
    tapes = tuple(graph.tapes)
    inputs = [
        L.Buffer(f"in{k}", node.dtype, node.type.size, "input", k)
        for k, node in enumerate(graph.inputs)
    ]
    outputs = [
        inputs[graph.donated[k]] if k in graph.donated
        else L.Buffer(f"out{k}", node.dtype, node.type.size, "output", k)
        for k, node in enumerate(graph.outputs)
    ]  # fmt: skip
    own = [b for b in outputs if b.kind == "output"]
    program = _Program(tapes, team, [*inputs, *own])
    kernels, scheduled = _kernels(graph, program, inputs, outputs)
    result = L.Schedule(
        scheduled, kernels, inputs, outputs, program.consts, program.temps,
        program.const_values, program.checks, program.reasons, graph.symbols, tapes,
        program.views,
    )  # fmt: skip
    result = keep_in_registers(result)
    return split(result) if team else result


def _kernels(
    graph: Graph, program: _Program, inputs, outputs, small: bool = False
) -> tuple[list[L.Kernel], Graph]:
    """The kernels of a graph between given buffers; also the graph as it was scheduled. ``small``
    is a step that may be run in registers."""
    graph = canonicalize(graph, tiny_products=not small)
    deps, fusion, order = _grouped(graph, inputs, outputs)
    graph = deps.graph  # with copies behind staged updates
    program.reasons += fusion.reasons
    storage, histories = _assign_storage(graph, deps, order, program, inputs, outputs)
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


# ------------------------------------------------------------------------- grouping and order


def _grouped(graph: Graph, inputs, outputs) -> tuple[Deps, Fusion, list[Group]]:
    """Fuse and order; an in-place update that would be read too late goes through a copy."""
    staged: set[int] = set()
    while True:
        staged_graph, kept, copies = _stage_updates(graph, staged)
        deps = analyse(staged_graph, kept, copies, find_rows(staged_graph, inputs, outputs))
        fusion = Fusion(deps)
        groups = fusion.run()
        blocked = _misaligned_updates(staged_graph, deps, fusion)
        if not blocked:
            order, blocked = _ordered(staged_graph, deps, fusion, groups)
            if not blocked:
                return deps, fusion, order
        if blocked <= staged:
            raise AssertionError("in-place updates cannot be ordered")
        staged |= blocked


def _stage_updates(graph: Graph, staged: set[int]) -> tuple[Graph, set[Node], set[Node]]:
    """Copies behind the outputs ``staged``, with what must be kept in memory for them: the value
    is finished there before a kernel of its own overwrites the donated input."""
    outputs = list(graph.outputs)
    kept, copies = set(), set()
    for k in sorted(staged):
        kept.add(storage_root(outputs[k]))
        copy = copy_of(outputs[k])
        while copy in outputs:  # another output is a copy of the same value
            copy = copy_of(copy)
        outputs[k] = copy
        copies.add(copy)
    return graph.with_outputs(outputs), kept, copies


def _updates(graph: Graph, deps: Deps):
    """(output position, the unit that writes it, input node) of each real in-place update."""
    for out, donor in graph.donated.items():
        root, target = storage_root(graph.outputs[out]), graph.inputs[donor]
        if root is not target:
            yield out, deps.rows.writer.get(root, root), target


def _is_one_pass(group: Group, deps: Deps) -> bool:
    """Whether all units of a group are computed in one iteration of one loop nest: none waits for
    a reduction of another or reads it elsewhere, and so none is read again in a later pass."""
    space, members = domain(group.units[0]), set(group.units)
    for unit in group.units:
        if domain(unit) != space:
            return False
        for use in deps.uses[unit]:
            elsewhere = use.axes != tuple(range(len(space)))
            waits = elsewhere or reduced_axes(use.unit) or is_call(use.unit)
            if use.unit in members and waits:
                return False
    return True


def _misaligned_updates(graph: Graph, deps: Deps, fusion: Fusion) -> set[int]:
    """Updates whose own kernel reads the old value at another position or in another pass."""
    blocked = set()
    for out, root, target in _updates(graph, deps):
        group = fusion.group_of[root]
        if root in group.post:  # written when all loops are done and the rest is computed
            continue
        if root.op == "loop":  # which changes rows of its own step (`rows`)
            continue
        uses = [u for m in group.members for u in deps.uses[m] if u.unit is target]
        if uses and not all(_same_place(u, root, group, deps) for u in uses):
            blocked.add(out)
    return blocked


def _same_place(use, writer: Node, group: Group, deps: Deps) -> bool:
    """Whether a read happens in the iteration that writes the same element."""
    space = domain(writer)
    return (
        not group.opaque
        and not completes_rows(writer)  # complete before its readers begin
        and not reduced_axes(writer)
        and domain(use.reader) == space
        and use.unit.shape == writer.shape
        and use.axes == tuple(range(len(space)))
        and _is_one_pass(group, deps)
        and not _is_read_later(use.reader, writer, group, deps)
    )


def _is_read_later(reader: Node, writer: Node, group: Group, deps: Deps) -> bool:
    """Whether what ``reader`` reads is read, or computed with once more, after ``writer`` has been
    stored: a product of the kernel comes between them."""
    if not any(completes_rows(u) for u in group.units):
        return False
    segment_of = segments(deps, group)
    waiting, seen = [reader], set()
    while waiting:
        unit = waiting.pop()
        if unit in seen or unit not in segment_of:
            continue
        seen.add(unit)
        if segment_of[unit] > segment_of[writer]:
            return True
        if unit is not writer and unit not in deps.stored and not completes_rows(unit):
            waiting += (u.reader for u in deps.used_by.get(unit, ()))
    return False


def _ordered(graph: Graph, deps: Deps, fusion: Fusion, groups: list[Group]):
    """Topological order in which a donated input is overwritten after its last reader."""
    after: dict[int, set[int]] = {id(g): set() for g in groups}
    by_id = {id(g): g for g in groups}
    for unit in deps.units:
        for use in deps.uses[unit]:
            if use.unit in fusion.group_of:
                source, target = fusion.group_of[use.unit], fusion.group_of[unit]
                if source is not target:
                    after[id(source)].add(id(target))
    writer_of = {}
    for out, root, target in _updates(graph, deps):
        writer = fusion.group_of[root]
        writer_of[id(writer)] = writer_of.get(id(writer), set()) | {out}
        for use in deps.used_by.get(target, ()):
            reader = fusion.group_of[use.reader]
            if reader is not writer:
                after[id(reader)].add(id(writer))
    waiting = {key: 0 for key in after}
    for targets in after.values():
        for key in targets:
            waiting[key] += 1
    rank = {id(g): fusion.position[g.members[0]] for g in groups}
    memory = _LiveMemory(graph, deps, fusion)
    ready = [(memory.grows(key), rank[key], key) for key, count in waiting.items() if not count]
    heapq.heapify(ready)
    order, done = [], set()
    while ready:
        _, _, key = heapq.heappop(ready)
        if key in done:  # it was here twice: it came to free more while it waited
            continue
        done.add(key)
        order.append(by_id[key])
        opened = []
        for target in after[key]:
            waiting[target] -= 1
            if not waiting[target]:
                opened.append(target)
        opened += [k for k in memory.run(key) if not waiting[k] and k not in done]
        for target in opened:
            heapq.heappush(ready, (memory.grows(target), rank[target], target))
    stuck = {key for key, count in waiting.items() if count}
    blocked = {out for key in stuck for out in writer_of.get(key, ())}
    if stuck and not blocked:
        raise AssertionError("fusion made kernels that wait for each other")
    return order, blocked


class _LiveMemory:
    """What values are alive while kernels are put in order: of those that could run next, one
    that frees as much as it needs goes first. So a weight's gradient is computed as soon as what
    it is made of has no other reader, and not after the whole backward pass."""

    def __init__(self, graph: Graph, deps: Deps, fusion: Fusion):
        kept = {storage_root(node) for node in graph.outputs}
        self._readers: dict[Node, set[int]] = {}
        self._reads: dict[int, list[Node]] = {}
        self._growth: dict[int, int] = {}
        for unit in deps.units:
            own = id(fusion.group_of[unit])
            readers = {id(fusion.group_of[u.reader]) for u in deps.used_by.get(unit, ())} - {own}
            if not readers or unit in kept:
                continue
            self._growth[own] = self._growth.get(own, 0) + nominal(unit.type.nbytes)
            self._readers[unit] = readers
            for key in readers:
                self._reads.setdefault(key, []).append(unit)

    def grows(self, key: int) -> bool:
        """Whether more is alive after a kernel than before it."""
        last = (u for u in self._reads.get(key, ()) if self._readers[u] == {key})
        return self._growth.get(key, 0) > sum(nominal(u.type.nbytes) for u in last)

    def run(self, key: int) -> list[int]:
        """Note that a kernel has run; the kernels that are now the last to read something."""
        last = []
        for unit in self._reads.get(key, ()):
            self._readers[unit].discard(key)
            last += self._readers[unit] if len(self._readers[unit]) == 1 else ()
        return last


# ------------------------------------------------------------------------------------ storage


class _Program:
    """What the kernels of a graph and of the bodies in it share."""

    def __init__(self, tapes: tuple[str, ...], team: bool, arguments: list[L.Buffer]):
        self.tapes, self.team = tapes, team
        self._places = {buffer: place for place, buffer in enumerate(arguments)}
        self.consts: list[L.Buffer] = []
        self.const_values: list = []
        self.temps: list[L.Buffer] = []
        self.views: list[L.View] = []
        self.checks: list[str] = []
        self.reasons: list[str] = []
        self._const_of: dict[Node, L.Buffer] = {}
        self._kernels = self._names = 0
        self._before: dict[L.Buffer, list[L.Kernel]] = {}
        self._named: dict[Node, list[str]] = {}  # inputs of the body that is lowered

    def temp(self, name: str, dtype, size) -> L.Buffer:
        buffer = L.Buffer(f"{name}{len(self.temps)}", dtype, size, "temp", len(self.temps))
        self.temps.append(buffer)
        return buffer

    def view(self, base: L.Buffer, offset, size) -> L.View:
        name = f"view{len(self.views)}"
        self.views.append(L.View(name, base.dtype, size, "view", base=base, offset=offset))
        return self.views[-1]

    def const(self, node: Node) -> L.Buffer:
        if node not in self._const_of:
            self._const_of[node] = self._constant(node.attr("value").array)
        return self._const_of[node]

    def _constant(self, array: np.ndarray) -> L.Buffer:
        index = len(self.consts)
        buffer = L.Buffer(f"const{index}", array.dtype, array.size, "const", index)
        self.consts.append(buffer)
        self.const_values.append(array)
        return buffer

    def rows(self, buffers: list[L.Buffer], size) -> L.Rows:
        """Arguments as the rows of one stack."""
        places = [self._places[b] for b in buffers]
        first, stride = places[0], places[1] - places[0] if len(places) > 1 else 1
        table = None
        if places != [first + stride * k for k in range(len(places))]:
            table = self._constant(np.array(places, np.int64))
        kind = buffers[0].dtype
        return L.Rows(self.name("rows"), kind, size, "rows", 0, first, stride, table)

    def check(self, label: str) -> int:
        """The number of a run-time check, from 1."""
        if label not in self.checks:
            self.checks.append(label)
        return self.checks.index(label) + 1

    @contextlib.contextmanager
    def body(self, inputs: Sequence[Node], given: Sequence[Node]) -> Iterator[None]:
        """While a body is lowered: its inputs have the names of the arguments that they are."""
        outer = self._named
        self._named = {
            i: self.integer_arguments(g) for i, g in zip(inputs, given, strict=True)
        }  # fmt: skip
        yield
        self._named = outer

    def integer_arguments(self, node: Node) -> list[str]:
        """Names of the integer arguments that an index is computed from."""
        names: list[str] = []
        seen, stack = set(), [node]
        while stack:
            node = stack.pop()
            if node in seen or node.dtype.kind not in "iub":
                continue
            seen.add(node)
            if node in self._named:
                names += self._named[node]
            elif node.op == "input" and node.dtype.kind in "iu":
                names.append(node.attr("name").replace("{", "(").replace("}", ")"))
            stack.extend(reversed(node.inputs))
        return list(dict.fromkeys(names))

    @contextlib.contextmanager
    def loop(self, unchanged: list[L.Buffer]) -> Iterator[list[L.Kernel]]:
        """While the body of a loop is lowered that leaves these buffers as they are: the kernels
        that must run before it. (What an outer loop leaves as it is is packed before that one.)"""
        before: list[L.Kernel] = []
        own = [b for b in dict.fromkeys(unchanged) if b not in self._before]
        self._before.update(dict.fromkeys(own, before))
        yield before
        for buffer in own:
            del self._before[buffer]

    def packing(self, buffer: L.Buffer) -> Callable[[L.Product], L.Product] | None:
        """What takes products with this B, if a loop keeps it: they are packed before the loop,
        and become ``packed`` ones, which read what the pack wrote."""
        if buffer not in self._before:
            return None
        kernels = self._before[buffer]

        def pack(product: L.Product) -> L.Product:
            body: list[L.Stmt] = [L.Pack(replace(product, method="whole"))]
            symbols = {s for d in L.dims_used(body) if isinstance(d, Dim) for s in d.symbols}
            kernels.append(
                L.LoopKernel(
                    self.kernel_name(),
                    body,
                    (product.b,),
                    (product.work,),
                    symbols=tuple(sorted(symbols)),
                )
            )
            return replace(product, b=product.work, work=None)

        return pack

    def kernel_name(self) -> str:
        self._kernels += 1
        return f"k{self._kernels - 1}"

    def name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names - 1}"


@dataclass(frozen=True)
class _History:
    """All values of a carry in a row, in memory for a step more than the loop has: a step reads
    its part of ``before`` and writes that of ``after``. So nothing is copied, and what a loop
    stacks of its carries is here. ``results`` are the numbers of those."""

    first: L.View
    before: L.View
    after: L.View
    last: L.View
    results: dict[int, L.View]


def _history(node: Node, carry: int, storage, program: _Program) -> _History | None:
    """Of a carry that a loop of a known number of steps stacks; None for others, where results of
    the program have memory of their own, and of steps whose carries stay in registers."""
    body, length, count = node.attr("body"), node.attr("length"), node.attr("carries")
    known = node.attr("cond") is None and not node.attr("counted") and not node.attr("grow")
    given, made = body.inputs[carry], body.outputs[carry]
    stacked = {
        k: y is made for k, y in enumerate(body.outputs) if k >= count and (y is made or y is given)
    }  # fmt: skip
    if length is None or not known or not stacked or made in body.inputs or body.has_few_elements:
        return None
    if any(_item(node, k) in storage for k in (carry, *stacked)):
        return None
    size, dtype = given.type.size, given.dtype
    base = program.temp("tmp", dtype, (length + 1) * size)
    whole = (0, size) if not node.attr("reverse") else (size, 0)
    ends = (0, length * size) if not node.attr("reverse") else (length * size, 0)
    before, after = (program.view(base, offset, length * size) for offset in whole)
    first, last = (program.view(base, offset, size) for offset in ends)
    results = {k: after if is_made else before for k, is_made in stacked.items()}
    return _History(first, before, after, last, results)


def _assign_storage(graph: Graph, deps: Deps, order: list[Group], program, inputs, outputs):
    """The buffers of what is in memory, and the histories of carries by loop and number."""
    storage: dict[Node, L.Buffer] = dict(zip(graph.inputs, inputs, strict=True))
    histories: dict[tuple[Node, int], _History] = {}
    for index, node in enumerate(graph.outputs):
        donor = graph.donated.get(index)
        storage[storage_root(node)] = outputs[index] if donor is None else inputs[donor]
    for stack, rows in deps.rows.read.items():
        storage[stack] = program.rows([storage[row] for row in rows], stack.type.size)
    for stack, positions in deps.rows.written.items():
        storage[stack] = program.rows([outputs[k] for k in positions], stack.type.size)
    for node in graph.order:
        if node.op == "const" and node in deps.stored and node not in storage:
            storage[node] = program.const(node)
        elif node.op == "loop":  # changes its carries in place
            first = node.attr("counted")
            for index in range(node.attr("carries")):
                last, begin = _item(node, index), storage_root(node.inputs[first + index])
                history = _history(node, index, storage, program)
                if history is not None:
                    histories[node, index] = history
                    storage[begin], storage[last] = history.first, history.last
                    storage.update({_item(node, k): v for k, v in history.results.items()})
                    continue
                if last not in storage:
                    storage[last] = program.temp("tmp", last.dtype, last.type.size)
                storage[begin] = storage[last]
    group_of = {m: g for g in order for m in g.members}
    last_use = _last_uses(deps, order)
    own = [b for k, b in enumerate(outputs) if b.kind == "output" and k not in graph.donated]
    writers = Counter(storage.values())
    unwritten = {b for b in own if writers[b] == 1}
    for position, group in enumerate(order):
        taken: set[int] = set()
        for unit in group.members:
            if unit in storage or unit.op in CONTROL:
                continue
            if not _leaves_kernel(unit, group, deps, group_of):
                continue
            reused = _reusable(unit, group, deps, storage, last_use, position, taken)
            result = _result_to_be(unit, order[last_use[unit]], deps, storage, unwritten)
            if result is not None:
                unwritten.remove(result)
                storage[unit] = result
            elif reused is not None:
                taken.add(id(reused))
                storage[unit] = reused
            else:
                storage[unit] = program.temp("tmp", unit.dtype, unit.type.size)
    return storage, histories


def _item(node: Node, index: int) -> Node:
    return build.make("item", (node,), index=index)


def _leaves_kernel(unit: Node, group: Group, deps: Deps, group_of) -> bool:
    if unit in deps.stored and unit not in deps.operands:
        return True
    return any(group_of[u.reader] is not group for u in deps.used_by.get(unit, ()))


def _last_uses(deps: Deps, order: list[Group]) -> dict[Node, int]:
    last: dict[Node, int] = {}
    for position, group in enumerate(order):
        for member in group.members:
            last[member] = max(last.get(member, 0), position)
            for use in deps.uses[member]:
                last[use.unit] = position
    return last


def _result_to_be(unit, last: Group, deps, storage, unwritten) -> L.Buffer | None:
    """The memory of a result that the last kernel to read ``unit`` writes just where it reads it
    (the exponentials of a softmax, then scaled); until then nobody else needs it."""
    if not unwritten or unit in last.members:
        return None
    for result in last.units:
        if result.type != unit.type or storage.get(result) not in unwritten:
            continue
        reads = [u for m in last.members for u in deps.uses[m] if u.unit is unit]
        if all(_same_place(u, result, last, deps) for u in reads):
            return storage[result]
    return None


def _reusable(unit, group, deps, storage, last_use, position, taken) -> L.Buffer | None:
    """A temporary that dies here and is read only where ``unit`` writes."""
    if group.opaque or unit in group.post or completes_rows(unit):
        return None
    for use in deps.uses[unit]:
        buffer = storage.get(use.unit)
        if buffer is None or buffer.kind != "temp" or id(buffer) in taken:
            continue
        if use.unit.op == "input":  # of a body: a temporary of what surrounds it
            continue
        if last_use[use.unit] != position or use.unit in group.members:
            continue
        if use.unit.type != unit.type:
            continue
        sharing = [n for n, b in storage.items() if b is buffer]
        if any(last_use.get(n, 0) > position for n in sharing):
            continue
        reads = [u for m in group.members for u in deps.uses[m] if storage.get(u.unit) is buffer]
        if all(_same_place(u, unit, group, deps) for u in reads):
            return buffer
    return None


# ----------------------------------------------------------------------------------- lowering


def _lower(graph, deps, order, storage, histories, program: _Program) -> list[L.Kernel]:
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
            kernels += _loop(name, unit, storage, histories, graph, program, deps.rows.updates)
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


def _results(node: Node, storage, program: _Program) -> list[L.Buffer]:
    """Memory of the results of a loop or a choice, those that nobody reads too."""
    found = []
    for index, kind in enumerate(node.type.items):
        item = _item(node, index)
        if item not in storage:
            storage[item] = program.temp("tmp", kind.dtype, kind.size)
        found.append(storage[item])
    return found


def _loop(
    name: str, node: Node, storage, histories, graph: Graph, program: _Program, updates
) -> list[L.Kernel]:
    """Body and condition between the loop's buffers: carries are changed in place or have a
    history, what is stacked is passed part by part, and ``updates`` change that of what they read.
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
    stacks = [updates.get(_item(node, k)) for k in apart]
    changed = [None if stack is None else given.xs.index(stack) for stack in stacks]
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


def _choice(name: str, node: Node, storage, graph: Graph, program: _Program) -> L.ChoiceControl:
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


def _gemm(name: str, node: Node, storage, graph, program: _Program) -> L.GemmKernel:
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


def _check_label(graph: Graph, node: Node, program: _Program) -> str:
    """What an out-of-range index or a failed factorization is reported as;
    ``Artifact.failure`` fills the places in."""
    where = graph.sources.get(node)
    line = f" ({where})" if where else ""
    if is_library(node):
        return failure_text(node, line)
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
