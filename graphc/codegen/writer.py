"""The text of a program: a few functions with explicit loops, and a ``main`` that calls them.

The same text is lowered to LLVM and, in tests and for debugging, run as plain Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from graphc.codegen.library import kernel_text
from graphc.codegen.program import (
    ConvolutionFunction,
    KernelFunction,
    Parameter,
    PoolingFunction,
    ProductFunction,
    Program,
)
from graphc.codegen.routines import ROUTINES, routine_text
from graphc.codegen.scalar import ScalarText, dim, symbol_name
from graphc.ir.types import short_dtype
from graphc.schedule import loops as L
from graphc.schedule.memory import INTERRUPTED, STATUS_WORDS, TEAM_WORDS
from graphc.schedule.sizes import nominal
from graphc.schedule.team import CLAIMED, STATUS_STRIDE, work

_INDENT = "    "
_CHUNK = 1 << 27  # units of `work` between two looks for signals, of scalars some 10 ms
_MOST_IN_CHUNK = 1 << 20  # turns
_MOST_UNWATCHED = 1000  # turns before the first look
_QUICK = 10_000_000  # units of `work`: 0.1 ms, of scalars some more
_ACCUMULATE = {"sum": "accumulate_sum", "prod": "accumulate_prod"}


def write(schedule: L.Schedule) -> Program:
    """The program of a schedule. Kernels with equal text are one function, called twice."""
    calls = _Calls(STATUS_WORDS + len(schedule.symbols) + len(schedule.temps))
    lines = calls.block(schedule.kernels)
    if calls.watches:
        lines = [f"turns = {calls.unwatched}", "pace = 0", *lines]
    # The moments of an optimizer decay into subnormals, which cost a hundred cycles each.
    flush = bool(schedule.graph.donated)
    tables = calls.functions, calls.products, calls.convolutions, calls.poolings
    functions, *linked = (tuple(table.values()) for table in tables)
    return Program(functions, _main(schedule, lines), tuple(calls.called), flush, *linked)


class _Calls:
    """The lines of ``main`` that call kernels, and the functions that they call."""

    def __init__(self, team_at: int):
        self.team_at = team_at  # the first of the words about the team
        self.functions: dict[tuple, KernelFunction] = {}
        self.products: dict[tuple, ProductFunction] = {}
        self.convolutions: dict[tuple, ConvolutionFunction] = {}
        self.poolings: dict[tuple, PoolingFunction] = {}
        self.called: list[str] = []
        self.counter = 0
        self.small = False  # within a loop that keeps its values in registers
        self.own: dict[L.Buffer, str] = {}  # what it has copies of
        self.watches = False
        self.unwatched = _MOST_UNWATCHED

    def block(self, kernels: list[L.Kernel]) -> list[str]:
        lines: list[str] = []
        for kernel in kernels:
            if isinstance(kernel, L.GemmKernel):
                name, called = _gemm_call(kernel, self.products)
                lines += called
                self.called.append(name)
            elif isinstance(kernel, L.LoopControl):
                lines += self._small_loop(kernel) if kernel.small else self._loop(kernel)
            elif isinstance(kernel, L.TeamKernel):
                lines += self._team(kernel)
            elif isinstance(kernel, L.ChoiceControl):
                lines += [f"if {self.name(kernel.pred)}[0]:", *self._indented(kernel.on_true)]
                lines += ["else:", *self._indented(kernel.on_false)]
            else:
                lines += self._kernel(kernel)
        return lines

    def name(self, buffer: L.Buffer) -> str:
        return self.own.get(buffer, buffer.name)

    def _indented(self, kernels: list[L.Kernel]) -> list[str]:
        return [_INDENT + line for line in self.block(kernels) or ["pass"]]

    def _kernel(self, kernel: L.LoopKernel | L.LibraryKernel) -> list[str]:
        if isinstance(kernel, L.LibraryKernel):
            function, arguments = _library_call(kernel)
        else:
            function, arguments = _function(kernel, self)
        function = self._known(function)
        lines = [f"{function.name}({', '.join(arguments)})"]
        if any(p.kind == "status" for p in function.parameters):
            lines.append("if status[0] != 0: return")
        return lines

    def _known(self, function: KernelFunction) -> KernelFunction:
        kinds = tuple(p.kind for p in function.parameters)  # the text does not tell dtypes
        key = (re.sub(r"\s*#.*", "", function.text), kinds, function.team, function.in_place)
        name = f"kernel{len(self.functions)}"
        function = self.functions.setdefault(key, _named(function, name))
        self.called.append(function.name)
        return function

    def _team(self, kernel: L.TeamKernel) -> list[str]:
        """How many parts there are, the parts, and what puts them together."""
        function, arguments = _function(kernel.lane, self, kernel)
        function = self._known(function)
        self.counter += 1
        parts, words = f"m{self.counter}", f"ints, {self.team_at}"
        steps = f"{dim(kernel.extent)}, {kernel.size}"
        call = ", ".join([words, parts, steps, *arguments])
        lines = [
            f"{parts} = team_parts({words}, {steps}, {dim(kernel.work)})",
            f"{function.team_name}({call})",
        ]
        if kernel.finish is not None:
            function, arguments = _function(kernel.finish, self, kernel)
            function = self._known(function)
            lines.append(f"{function.name}({', '.join([*arguments, parts])})")
            if kernel.status is not None:
                lines.append("if status[0] != 0: return")
        return lines

    def _small_loop(self, loop: L.LoopControl) -> list[str]:
        """The steps, on copies in registers."""
        self.counter += 1
        own = {k.buffer: f"own{self.counter}_{k.buffer.name}" for k in loop.kept}
        lines: list[str] = []
        for buffer, name in own.items():
            lines.append(f"{name} = local_{short_dtype(buffer.dtype)}({buffer.size})")
            lines += self._copied(name, buffer.name, buffer.size)
        self.small, self.own = True, own
        lines += self._loop(loop)
        self.small, self.own = False, {}
        for kept in loop.kept:
            if kept.changes:
                lines += self._copied(kept.buffer.name, own[kept.buffer], kept.buffer.size)
        return lines

    def _copied(self, target: str, source: str, size: int) -> list[str]:
        self.counter += 1
        at = f"z{self.counter}"
        return [f"for {at} in range({size}):", f"{_INDENT}{target}[{at}] = {source}[{at}]"]

    def _loop(self, loop: L.LoopControl) -> list[str]:
        """The steps; then what is stacked is cleared beyond the last one."""
        self.counter += 1
        var, limit, room = loop.var, f"m{self.counter}", None
        comment = f"  # {loop.source}" if loop.source else ""
        lines: list[str] = []
        length = None if loop.length is None else dim(loop.length)
        if loop.length is not None and not loop.tape:
            room = length
        full = [f"status[0] = -{loop.tape}", f"status[1] = {length}", "return"]
        if loop.test is not None:
            lines.append(f"{var} = 0")
            lines.append(f"while {'True' if room is None else f'{var} < {room}'}:{comment}")
            body = [*self._watched(_quick_turns(loop)), *self.block(loop.test_kernels)]
            body.append(f"if not {self.name(loop.test)}[0]: break")
            if loop.tape:
                body += [f"if {var} >= {length}:", *(_INDENT + line for line in full)]
            body += [*self._step(loop), f"{var} = {var} + 1"]
            taken = var
        else:
            taken = room
            if loop.count is not None:
                taken = limit
                lines += [f"{limit} = {loop.count.name}[0]", f"if {limit} < 0: {limit} = 0"]
                if room is not None:
                    lines.append(f"if {limit} > {room}: {limit} = {room}")
                if loop.tape:
                    lines += [f"if {limit} > {length}:", *(_INDENT + line for line in full)]
            counter = f"s{self.counter}" if loop.reverse else var
            turn = [f"{var} = {taken} - 1 - {counter}"] if loop.reverse else []
            head, steps = [], taken
            if _is_brief(loop):
                head, steps = self._in_chunks(loop, taken)
            elif not (taken.isdecimal() and int(taken) <= _quick_turns(loop)):
                turn = [*self._watched(_quick_turns(loop)), *turn]
            lines += head
            indent = _INDENT if head else ""
            lines.append(f"{indent}for {counter} in range({steps}):{comment}")
            body = [indent + line for line in [*turn, *self._step(loop)] or ["pass"]]
        lines += [_INDENT + line for line in body]
        if loop.test is not None or loop.count is not None:
            for buffer, each in loop.stacked:
                lines += self._cleared(buffer, taken, dim(each))
        return lines

    def _watched(self, quick: int) -> list[str]:
        """At the start of a turn: end the program where a signal says so. ``quick`` turns are over
        before anybody waits for them."""
        self.watches = True
        self.unwatched = min(self.unwatched, quick)
        return [
            "turns = turns - 1",
            "if turns < 0:",
            f"{_INDENT}pace = look(ints, {self.team_at + TEAM_WORDS}, pace)",
            f"{_INDENT}if pace == 0:",
            f"{_INDENT * 2}status[0] = {INTERRUPTED}",
            f"{_INDENT * 2}return",
            f"{_INDENT}turns = pace",
        ]

    def _in_chunks(self, loop: L.LoopControl, taken: str) -> tuple[list[str], str]:
        """Of short turns, which a watch would slow down: chunks of them are watched."""
        amount = _work_of(loop.kernels)
        size = min(_CHUNK // max(amount, 1), _MOST_IN_CHUNK) if isinstance(amount, int) else 1
        if taken.isdecimal() and int(taken) <= size:
            return [], taken
        chunk = f"c{self.counter}"
        head = [f"for {chunk} in range(({taken} + {size - 1}) // {size}):"]
        head += [_INDENT + line for line in self._watched(1)]
        return head, f"{chunk} * {size}, smaller({chunk} * {size} + {size}, {taken})"

    def _step(self, loop: L.LoopControl) -> list[str]:
        return [_part_of(p, loop.var) for p in loop.parts] + self.block(loop.kernels)

    def _cleared(self, buffer: L.Buffer, taken: str, each: str) -> list[str]:
        kind = short_dtype(buffer.dtype)
        at = f"z{self.counter}"
        zero = "False" if kind == "bool" else f"{kind}(0)"
        return [
            f"for {at} in range({taken} * {each}, {dim(buffer.size)}):",
            f"{_INDENT}{buffer.name}[{at}] = {zero}",
        ]


def _part_of(part: L.Part, step: str) -> str:
    rows = part.base
    if not isinstance(rows, L.Rows):
        return f"{part.name} = part({rows.name}, {step} * {dim(part.size)})"
    place = f"{rows.table.name}[{step}]" if rows.table else f"{rows.first} + {step} * {rows.stride}"
    return f"{part.name} = argument_{short_dtype(part.dtype)}(args, {place})"


def _is_brief(loop: L.LoopControl) -> bool:
    """Whether a turn takes some nanoseconds: values in registers."""
    return loop.small or all(
        type(kernel) is L.LoopKernel
        and all(isinstance(s, L.Let | L.Store | L.ScatterAdd | L.ArgUpdate) for s in kernel.body)
        for kernel in loop.kernels
    )


def _quick_turns(loop: L.LoopControl) -> int:
    """How many turns are over before anybody waits for them; 0 where that is not known."""
    amount = _work_of(loop.inner)
    return min(_QUICK // max(amount, 1), _MOST_UNWATCHED) if isinstance(amount, int) else 0


def _work_of(kernels: list[L.Kernel]) -> L.DimLike | None:
    """See ``schedule.team.work``; None where it is not known."""
    total: L.DimLike = 0
    for kernel in kernels:
        if isinstance(kernel, L.LoopKernel):
            amount = work(kernel.body)
        elif isinstance(kernel, L.GemmKernel):
            amount = kernel.batch * kernel.m * kernel.n * kernel.k
        elif isinstance(kernel, L.ChoiceControl):
            amount = _work_of(kernel.inner)
        elif isinstance(kernel, L.LoopControl) and kernel.length is not None:
            amount = _work_of(kernel.inner)
            amount = None if amount is None else amount * kernel.length
        else:
            return None
        if amount is None:
            return None
        total = total + amount
    return total


def _named(function: KernelFunction, name: str) -> KernelFunction:
    text = function.text.replace("def kernel(", f"def {name}(", 1)
    return replace(function, name=name, text=text)


# ------------------------------------------------------------------------------------- kernels


def _function(
    kernel: L.LoopKernel, calls: _Calls, team: L.TeamKernel | None = None
) -> tuple[KernelFunction, list[str]]:
    """A kernel as a function of its own names, and the caller's arguments for them. The caller of
    a kernel of a team gives what comes last himself: the number of the part and its steps, or
    (to the one that puts the parts together) how many parts there were."""
    buffers = kernel.buffers
    names = {b: f"{'o' if b in kernel.writes else 'a'}{i}" for i, b in enumerate(buffers)}
    sizes = {} if team or calls.small else _runtime_extents(kernel.body)
    is_lane = team is not None and kernel is team.lane
    writer = _Body(names, sizes, calls, team.shared if is_lane else None)
    lines = writer.block(kernel.body, 1)
    head = [_INDENT + line for line in writer.text.constant_lines()]
    if is_lane:
        head += [
            f"{_INDENT}{names[b]} = part({names[b]}, lane * ({dim(stride)}))"
            for b, stride in team.strides.items()
        ]
    if team and team.status:
        status = names[team.status]
        if is_lane:
            head += [f"{_INDENT}status = {status}", f"{_INDENT}status[0] = 0"]
        else:
            lines += _first_failure(status)
    parameters = [Parameter(names[b], short_dtype(b.dtype)) for b in buffers]
    arguments = [calls.name(b) for b in buffers]
    text = "\n".join([*head, *lines])
    if "status" in text and not (is_lane and team.status):
        parameters.append(Parameter("status", "status"))
        arguments.append("status")
    for symbol in map(symbol_name, kernel.symbols):
        if re.search(rf"\b{symbol}\b", text):
            parameters.append(Parameter(symbol, "dim"))
            arguments.append(symbol)
    for extent, name in sizes.items():
        parameters.append(Parameter(name, "dim"))
        arguments.append(dim(extent))
    last = () if team is None else ("lane", "first", "end") if is_lane else ("lanes",)
    parameters += [Parameter(name, "dim") for name in last]
    signature = ", ".join(p.name for p in parameters)
    text = f"def kernel({signature}):\n{text}"
    return KernelFunction("kernel", tuple(parameters), text, is_lane, calls.small), arguments


def _first_failure(status: str) -> list[str]:
    """Lines that take over what the first of the parts says that found an index out of range."""
    at = f"lane * {STATUS_STRIDE}"
    lines = [
        "for lane in range(lanes):", f"    if status[0] == 0 and {status}[{at}] != 0:",
        f"        status[0] = {status}[{at}]", f"        status[1] = {status}[{at} + 1]",
    ]  # fmt: skip
    return [_INDENT + line for line in lines]


def _library_call(kernel: L.LibraryKernel) -> tuple[KernelFunction, list[str]]:
    """The kernel of a library row, and the caller's arguments for it."""
    parameters = [Parameter(n, short_dtype(b.dtype)) for n, b in kernel.buffers.items()]
    arguments = [b.name for b in kernel.buffers.values()]
    if kernel.check:
        parameters += [Parameter("status", "status"), Parameter("check", "dim")]
        arguments += ["status", str(kernel.check)]
    parameters += [Parameter(n, "dim") for n in kernel.sizes]
    arguments += [dim(size) for size in kernel.sizes.values()]
    kind, names = short_dtype(kernel.buffers["out"].dtype), [p.name for p in parameters]
    if kernel.op in ROUTINES:
        text = routine_text(kernel.op, kernel.attrs, names)
    else:
        text = kernel_text(kernel.op, kernel.attrs, names, kind)
    if kernel.source:
        text = text.replace("\n", f"  # {kernel.source}\n", 1)
    return KernelFunction("kernel", tuple(parameters), text), arguments


def _runtime_extents(body: list[L.Stmt]) -> dict:
    """The extent of a flat kernel is passed in, so that sizes share one function."""
    loops = [s for s in L.statements(body) if isinstance(s, L.For)]
    if len(loops) != 1 or any(isinstance(s, L.For) for s in loops[0].body):
        return {}
    for stmt in loops[0].body:
        for index in L.indices(stmt):
            if any(c != 1 for _, c in index.terms):
                return {}
    return {loops[0].extent: "size"}


class _Body:
    """Statements of one kernel as lines."""

    def __init__(self, names: dict[L.Buffer, str], sizes: dict, calls: _Calls, shared=None):
        self.names, self.sizes, self.calls = names, sizes, calls
        self.shared = shared  # the loop of which the function runs some steps
        self.text = _NamedText(names)

    def block(self, body: list[L.Stmt], depth: int) -> list[str]:
        lines: list[str] = []
        for stmt in body:
            lines += self.statement(stmt, depth)
        return lines or [_INDENT * depth + "pass"]

    def statement(self, stmt: L.Stmt, depth: int) -> list[str]:
        pad, text = _INDENT * depth, self.text
        if isinstance(stmt, L.For):
            steps = _steps(stmt, self.sizes.get(stmt.extent) or dim(stmt.extent))
            if stmt is self.shared:
                steps = "first, end"
            if self.shared and (claimed := _in_place(stmt)):
                return self._claiming(stmt, steps, claimed, depth)
            how = "range"
            if self.calls.small:
                stmt = _with_sums_inside(stmt)
                how, steps = _in_sequence(stmt), _steps(stmt, dim(stmt.extent))
            return [f"{pad}for {stmt.var} in {how}({steps}):", *self.block(stmt.body, depth + 1)]
        if isinstance(stmt, L.Product | L.Pack):
            return [pad + self._product(stmt)]
        if isinstance(stmt, L.Convolve):
            return [pad + self._convolution(stmt)]
        if isinstance(stmt, L.Pool):
            return [pad + self._pooling(stmt)]
        if isinstance(stmt, L.Let):
            line = f"{stmt.name} = {text.expr(stmt.expr)}"
        elif isinstance(stmt, L.Store):
            line = f"{self.names[stmt.buffer]}[{text.index(stmt.index)}] = {text.expr(stmt.expr)}"
        elif isinstance(stmt, L.Accumulate):
            line = f"{stmt.name} = {_combine(stmt.op, stmt.name, text.expr(stmt.expr))}"
        elif isinstance(stmt, L.AccumulateInto):
            place = f"{self.names[stmt.buffer]}[{text.index(stmt.index)}]"
            line = f"{place} = {_combine(stmt.op, place, text.expr(stmt.expr))}"
        elif isinstance(stmt, L.ScatterAdd):
            place = f"{self.names[stmt.buffer]}[at]"
            at = text.position(stmt.index, (stmt.dynamic,))
            before = "" if isinstance(stmt, L.ScatterSet) else f"{place} + "
            return [f"{pad}at = {at}", f"{pad}{place} = {before}{text.expr(stmt.expr)}"]
        else:
            return self._arg_update(stmt, pad)
        comment = f"  # {stmt.source}" if stmt.source else ""
        return [pad + line + comment]

    def _claiming(self, stmt: L.For, steps: str, places: list[L.Store], depth: int) -> list[str]:
        """A loop in pieces, each of which claims what the next one changes in place: all threads
        have read it, and to write asks every processor to forget a line."""
        pad, inner = _INDENT * depth, _INDENT * (depth + 1)
        first, end = steps.split(", ", 1) if ", " in steps else ("0", steps)
        piece, at = f"{stmt.var}_piece", f"{stmt.var}_first"
        lines = [
            f"{pad}for {piece} in range(({end} - {first} + {CLAIMED - 1}) // {CLAIMED}):",
            f"{inner}{at} = {first} + {piece} * {CLAIMED}",
        ]
        for store in places:
            terms = tuple((at if v == stmt.var else v, c) for v, c in store.index.terms)
            index = self.text.index(L.Affine(terms, store.index.offset + CLAIMED))
            lines.append(f"{inner}claim({self.names[store.buffer]}, {index})")
        part = f"{at}, smaller({at} + {CLAIMED}, {end})"
        lines.append(f"{inner}for {stmt.var} in range({part}):")
        return [*lines, *self.block(stmt.body, depth + 2)]

    def _product(self, stmt: L.Product | L.Pack) -> str:
        p = stmt.product if isinstance(stmt, L.Pack) else stmt
        function = _product_function(p, p.rows, self.calls.products)
        if isinstance(stmt, L.Pack):
            b = self._part(p.b, p.starts[1])
            return f"{function.pack_name}({b}, {self.names[p.work]}, {dim(p.k)})"
        a, b, c = self._parts((p.a, p.b, p.c), p.starts)
        operands = [a, self.names[p.work] if p.method == "whole" else b, c]
        for other in p.beside:
            operands += self._parts((other.b, other.c), other.starts[1:])
        for other in p.also:
            operands += self._parts((other.a, other.b), other.starts[:2])
        if p.row:
            operands.append(self._part(*p.row))
        if p.work and p.method != "whole":
            operands.append(self.names[p.work])
        rows = f"smaller({p.rows}, {dim(p.k if p.adds else p.m)} - {p.block} * {p.rows})"
        if p.adds:
            operands += [str(p.m), rows, str(p.m)]
        else:
            operands += [rows if p.own_rows else dim(p.m), dim(p.k), rows]
        first = L.variable(p.block) * (p.rows * p.n)
        operands += [self._part(buffer, first) for buffer in p.ahead]
        comment = f"  # {p.source}" if p.source else ""
        return f"{function.name}({', '.join(operands)}){comment}"

    def _parts(self, buffers: Iterable[L.Buffer], starts: Iterable[L.Affine]) -> list[str]:
        return [self._part(buffer, start) for buffer, start in zip(buffers, starts, strict=True)]

    def _convolution(self, stmt: L.Convolve) -> str:
        key, known = (short_dtype(stmt.out.dtype), stmt.shape), self.calls.convolutions
        function = known.setdefault(key, ConvolutionFunction(f"convolution{len(known)}", *key))
        parts = self._parts((stmt.x, stmt.w, stmt.out), stmt.starts)
        comment = f"  # {stmt.source}" if stmt.source else ""
        return f"{function.name}({', '.join(parts)}, {dim(stmt.channels)}){comment}"

    def _pooling(self, stmt: L.Pool) -> str:
        key, known = (short_dtype(stmt.out.dtype), stmt.shape), self.calls.poolings
        function = known.setdefault(key, PoolingFunction(f"pooling{len(known)}", *key))
        parts = self._parts((*stmt.operands, stmt.out), stmt.starts)
        comment = f"  # {stmt.source}" if stmt.source else ""
        return f"{function.name}({', '.join(parts)}){comment}"

    def _part(self, buffer: L.Buffer, start: L.Affine) -> str:
        name = self.names[buffer]
        return name if start == L.Affine() else f"part({name}, {self.text.index(start)})"

    def _arg_update(self, stmt: L.ArgUpdate, pad: str) -> list[str]:
        value, test = self.text.expr(stmt.expr), ">" if stmt.op == "argmax" else "<"
        best = stmt.best
        first = f"{self.text.index(stmt.index)} == 0"
        better = f"(({value} != {value}) and ({best} == {best})) or ({value} {test} {best})"
        return [
            f"{pad}if {first} or {better}:",
            f"{pad}{_INDENT}{best} = {value}",
            f"{pad}{_INDENT}{stmt.position} = i64({self.text.index(stmt.index)})",
        ]


def _in_place(loop: L.For) -> list[L.Store]:
    """Where a long innermost loop changes arrays element by element."""
    if (
        not all(isinstance(s, L.Let | L.Store) for s in loop.body)
        or nominal(loop.extent) < 4 * CLAIMED
    ):
        return []
    read = {
        (id(e.buffer), e.index)
        for s in loop.body
        for e in L.expressions(s)
        if isinstance(e, L.Load) and not e.dynamic
    }
    return [
        s for s in loop.body
        if isinstance(s, L.Store) and not isinstance(s, L.ScatterAdd)
        and (id(s.buffer), s.index) in read and s.index.coeff(loop.var) == 1
    ]  # fmt: skip


class _NamedText(ScalarText):
    """Scalar text with a kernel's own buffer names."""

    def __init__(self, names):
        super().__init__()
        self.names = names

    def expr(self, e: L.Expr) -> str:
        if isinstance(e, L.Load):
            return f"{self.names[e.buffer]}[{self.position(e.index, e.dynamic)}]"
        return super().expr(e)


def _in_sequence(loop: L.For) -> str:
    """How the steps of a loop of a small step are run: those of an innermost loop that are as many
    as the lanes of a vector are these lanes, unless they do nothing but add up. Of two steps LLVM
    makes something else before it vectorises, and then says on stderr that it could not."""
    within = list(L.statements(loop.body))
    stores = [s for s in within if isinstance(s, L.Store | L.AccumulateInto)]
    abreast = (
        loop.extent in (4, 8, 16)
        and not isinstance(loop, L.ForBlocks)
        and not any(isinstance(s, L.ScatterAdd | L.ArgUpdate) for s in within)
        and bool(stores)
        and all(s.index.coeff(loop.var) != 0 for s in stores)
        and all(_only_sums(s) for s in within if isinstance(s, L.For))
    )
    return "abreast" if abreast else "unrolled"


def _only_sums(loop: L.For) -> bool:
    return _in_sequence(loop) == "unrolled" and all(
        isinstance(s, L.Let | L.Accumulate | L.AccumulateInto) for s in loop.body
    )


def _with_sums_inside(loop: L.For) -> L.For:
    """Rows added up with their elements as the outer loop, so that elements are summed in registers
    and side by side."""
    if len(loop.body) != 1 or type(loop) is not L.For or type(loop.body[0]) is not L.For:
        return loop
    (inner,) = loop.body
    sums = [s for s in inner.body if isinstance(s, L.AccumulateInto)]
    if not sums or not all(isinstance(s, L.Let | L.AccumulateInto) for s in inner.body):
        return loop
    if any(s.index.coeff(loop.var) != 0 or s.index.coeff(inner.var) == 0 for s in sums):
        return loop
    return replace(inner, body=[replace(loop, body=inner.body)])


def _is_one_block(loop: L.For) -> bool:
    return loop.block is not None and isinstance(loop.extent, int) and loop.extent <= loop.block[1]


def _steps(loop: L.For, extent: str) -> str:
    """The argument of ``range``."""
    if isinstance(loop, L.ForTeam):
        return "lanes"
    if isinstance(loop, L.ForBlocks) and isinstance(loop.extent, int):
        return str(-(-loop.extent // loop.size))
    if isinstance(loop, L.ForBlocks):
        return f"({extent} + {loop.size - 1}) // {loop.size}"
    if loop.block and not _is_one_block(loop):
        block, size = loop.block
        return f"{block} * {size}, smaller({block} * {size} + {size}, {extent})"
    return extent


def _combine(op: str, a: str, b: str) -> str:
    return f"{_ACCUMULATE.get(op) or {'max': 'larger', 'min': 'smaller'}[op]}({a}, {b})"


# ---------------------------------------------------------------------------------------- main


def _main(schedule: L.Schedule, calls: list[str]) -> str:
    """Unpack the argument tables and call the kernels in order."""
    lines = ["def main(args, arena, ints):", f"{_INDENT}status = status_words(ints)"]
    used = set(re.findall(r"\w+", " ".join(calls)))
    for position, symbol in enumerate(schedule.symbols):
        lines.append(f"{_INDENT}{symbol_name(symbol)} = ints[{STATUS_WORDS + position}]")
    for position, buffer in enumerate(argument_buffers(schedule)):
        if buffer.name in used:
            kind = short_dtype(buffer.dtype)
            lines.append(f"{_INDENT}{buffer.name} = argument_{kind}(args, {position})")
    first = STATUS_WORDS + len(schedule.symbols)
    for position, buffer in enumerate(schedule.temps):
        kind = short_dtype(buffer.dtype)
        lines.append(f"{_INDENT}{buffer.name} = temporary_{kind}(arena, ints[{first + position}])")
    for view in (v for v in schedule.views if v.name in used):
        lines.append(f"{_INDENT}{view.name} = part({view.base.name}, {dim(view.offset)})")
    for buffer in schedule.locals:
        lines.append(f"{_INDENT}{buffer.name} = local_{short_dtype(buffer.dtype)}({buffer.size})")
    lines += [_INDENT + call for call in calls]
    return "\n".join(lines)


def argument_buffers(schedule: L.Schedule) -> list[L.Buffer]:
    """The order of the pointer table: inputs, outputs that have memory of their own, constants."""
    own = [b for b in schedule.outputs if b.kind == "output"]
    return [*schedule.inputs, *own, *schedule.consts]


def _product_function(p: L.Product | L.GemmKernel, rows, known: dict) -> ProductFunction:
    """graphc's own function for a product, shared by products of one shape."""
    m, k, rows = (d if isinstance(d, int) else None for d in (p.m, p.k, rows))
    adds = isinstance(p, L.Product) and p.adds
    if adds:
        k, rows = None, m  # the block is one of rows that are summed
    elif isinstance(p, L.Product) and p.own_rows:  # each block is a matrix of its own
        m = rows = rows if m is not None and rows is not None and m % rows == 0 else None
    elif m is not None and rows is not None:
        rows = min(m, rows)
    how = "whole" if p.method == "packed" else p.method  # the same code
    more: tuple = ()
    if isinstance(p, L.Product):
        more = tuple(o.n for o in p.beside), tuple(o.k for o in p.also)
        more = *more, p.row is not None, len(p.ahead), p.of, p.c_row
    key = (short_dtype(p.c.dtype), p.ta, p.tb, m, p.n, k, rows, how, adds, *more)
    return known.setdefault(key, ProductFunction(f"product{len(known)}", *key))


def _gemm_call(kernel: L.GemmKernel, products: dict) -> tuple[str, list[str]]:
    """What computes a product that is a kernel of its own, and the lines that call it."""
    m, n, k = dim(kernel.m), dim(kernel.n), dim(kernel.k)
    operands = [kernel.a.name, kernel.b.name, kernel.c.name]
    if kernel.batch != 1:
        steps = [f"{m} * {k}", f"{k} * {n}", f"{m} * {n}"]
        operands = [f"part({o}, batch * ({s}))" for o, s in zip(operands, steps, strict=True)]
    a, b, c = operands
    calls = []
    if kernel.method:
        function = _product_function(kernel, kernel.m, products)
        name = function.name
        if kernel.method == "whole":
            calls.append(f"{function.pack_name}({b}, {kernel.work.name}, {k})")
            b = kernel.work.name
        elif kernel.work:
            c = f"{c}, {kernel.work.name}"
        calls.append(f"{name}({a}, {b}, {c}, {m}, {k}, {m})")
    else:
        name, shape = f"gemm_{short_dtype(kernel.c.dtype)}", f"{m}, {n}, {k}"
        calls.append(f"{name}({kernel.ta}, {kernel.tb}, {shape}, 1.0, {a}, {b}, 0.0, {c})")
    calls[-1] += f"  # {kernel.source}" if kernel.source else ""
    if kernel.batch == 1:
        return name, calls
    head = f"for batch in range({dim(kernel.batch)}):"
    return name, [head, *(_INDENT + call for call in calls)]
