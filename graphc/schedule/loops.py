"""The loop-nest language: what a kernel does, knowing nothing of compilers or of the CPU.

A kernel body is a list of statements over named buffers. Buffers are flat; every access is an
affine function of the loop variables, so transposes, slices and broadcasts cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from graphc.ir.dims import DimLike
from graphc.schedule.convolutions import Convolution
from graphc.schedule.pooling import Pooling


@dataclass(eq=False)
class Buffer:
    """A flat piece of memory. ``kind``: input, output, const or temp."""

    name: str
    dtype: np.dtype
    size: DimLike
    kind: str
    index: int = 0  # position among the buffers of its kind

    def __repr__(self) -> str:
        return f"{self.name}:{self.dtype.name}[{self.size}]"


@dataclass(eq=False)
class Part(Buffer):
    """The piece of ``base`` that step ``var`` of a loop reads or writes."""

    base: Buffer | None = None
    var: str = ""


@dataclass(eq=False)
class Rows(Buffer):
    """Arguments of a program, one for each step of a loop: row k is at ``first + k * stride`` of
    the table of pointers, or where ``table`` says."""

    first: int = 0
    stride: int = 1
    table: Buffer | None = None


@dataclass(eq=False)
class View(Buffer):
    """``size`` elements of ``base`` from ``offset`` on."""

    base: Buffer | None = None
    offset: DimLike = 0


# ------------------------------------------------------------------------------------- indices


@dataclass(frozen=True)
class Affine:
    """``sum(coeff * var) + offset``; coefficients and offset may be symbolic dims."""

    terms: tuple[tuple[str, DimLike], ...] = ()
    offset: DimLike = 0

    def __add__(self, other: Affine | DimLike) -> Affine:
        if not isinstance(other, Affine):
            return Affine(self.terms, self.offset + other)
        total = dict(self.terms)
        for var, coeff in other.terms:
            total[var] = total.get(var, 0) + coeff
        kept = tuple((v, c) for v, c in total.items() if c != 0)
        return Affine(kept, self.offset + other.offset)

    def __mul__(self, factor: DimLike) -> Affine:
        if factor == 0:
            return Affine()
        return Affine(tuple((v, c * factor) for v, c in self.terms), self.offset * factor)

    def coeff(self, var: str) -> DimLike:
        return dict(self.terms).get(var, 0)


def variable(name: str) -> Affine:
    return Affine(((name, 1),))


def flatten_index(index: tuple[Affine, ...], shape: tuple[DimLike, ...]) -> Affine:
    """Row-major position of a multi-index."""
    total, stride = Affine(), 1
    for position, size in zip(reversed(index), reversed(shape), strict=True):
        total = position * stride + total
        stride = size * stride
    return total


# --------------------------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Expr:
    dtype: np.dtype


@dataclass(frozen=True)
class Ref(Expr):
    """A local scalar."""

    name: str


@dataclass(frozen=True)
class Lit(Expr):
    """A constant scalar; ``text`` is its repr, so NaN compares equal to itself."""

    text: str


@dataclass(frozen=True)
class DimValue(Expr):
    """The value of a dimension."""

    dim: DimLike


@dataclass(frozen=True)
class IndexValue(Expr):
    """An affine index as a value."""

    index: Affine


@dataclass(frozen=True)
class Load(Expr):
    """``buffer[index + sum(stride * dynamic)]``; each dynamic index is clamped and checked."""

    buffer: Buffer
    index: Affine
    dynamic: tuple[tuple[Expr, DimLike, DimLike, int], ...] = ()  # expr, stride, size, check id


@dataclass(frozen=True)
class Apply(Expr):
    """An elementwise op of the table on scalars; or ``divided``, a quotient with the reciprocal
    of its divisor as third operand; or ``exp_below``, exp of what is known to be at most 0."""

    op: str
    args: tuple[Expr, ...]


#: Cost of the operations that are not in the table of ops.
COSTS = {"divided": 3, "exp_below": 9}


@dataclass(frozen=True)
class InRange(Expr):
    """True where every index lies in [0, size) and is a multiple of its step."""

    tests: tuple[tuple[Affine, DimLike, int], ...]


@dataclass(frozen=True)
class Checked(Expr):
    """``expr``, clamped into [0, size); the run-time check ``check`` fails where it was not."""

    expr: Expr
    size: DimLike
    check: int


@dataclass(frozen=True)
class Select(Expr):
    """``a if cond else b``, evaluating only the chosen one."""

    cond: Expr
    a: Expr
    b: Expr


# ---------------------------------------------------------------------------------- statements


@dataclass
class For:
    """``var`` from 0 to ``extent``; with ``block = (b, size)`` only rows b*size up to the next
    block's first."""

    var: str
    extent: DimLike
    body: list[Stmt]
    block: tuple[str, int] | None = None


@dataclass
class ForBlocks(For):
    """``var`` counts blocks of ``size`` rows of ``extent``; the last may be smaller."""

    size: int = 1


@dataclass
class ForTeam(For):
    """``var`` counts the parts in which a team ran a kernel."""


@dataclass
class Let:
    """``name = expr``; ``source`` is the user's line, when known."""

    name: str
    expr: Expr
    source: object = None


@dataclass
class Store:
    buffer: Buffer
    index: Affine
    expr: Expr
    source: object = None


@dataclass
class ScatterAdd:
    """``buffer[index + stride * clamp(dynamic)] += expr``."""

    buffer: Buffer
    index: Affine
    dynamic: tuple[Expr, DimLike, DimLike, int]
    expr: Expr
    source: object = None


@dataclass
class ScatterSet(ScatterAdd):
    """``buffer[index + stride * clamp(dynamic)] = expr``."""


@dataclass
class Accumulate:
    """``name = name <op> expr`` for op sum, prod, max or min, free to reassociate."""

    name: str
    op: str
    expr: Expr
    source: object = None


@dataclass
class AccumulateInto:
    """``buffer[index] = buffer[index] <op> expr``."""

    buffer: Buffer
    index: Affine
    op: str
    expr: Expr
    source: object = None


@dataclass
class ArgUpdate:
    """Keep the first best value of argmax/argmin and its position."""

    best: str
    position: str
    op: str
    expr: Expr
    index: Affine
    source: object = None


@dataclass
class Product:
    """Block number ``block`` of ``rows`` rows of ``c = op(a) @ op(b)``. ``starts`` are the elements
    where these rows of a and c begin, and b. ``method``: see ``products``. With ``own_rows`` there
    is nothing before the first row of a. With ``adds`` the block is one of rows of a and b, whose
    number is k, and ``a.T @ b`` of it is added to all of c. ``beside`` are products of the same a,
    which is packed for all of them at once. ``also`` are products added to this one while a tile of
    it is in registers, and ``row`` is where the tile's columns begin. ``ahead`` are arrays of the
    result's shape whose rows the loops behind take next: they are asked for meanwhile. A product
    may be of a panel of the ``of`` columns of b, which is not packed; ``c_row`` are the elements
    from a row of c to the next, if these are not n."""

    a: Buffer
    b: Buffer
    c: Buffer
    starts: tuple[Affine, Affine, Affine]
    ta: int
    tb: int
    m: DimLike
    n: int
    k: DimLike
    block: str
    rows: int
    method: str
    work: Buffer | None = None
    source: object = None
    own_rows: bool = False
    adds: bool = False
    beside: tuple[Product, ...] = ()
    also: tuple[Product, ...] = ()
    row: tuple[Buffer, Affine] | None = None
    ahead: tuple[Buffer, ...] = ()
    of: int = 0
    c_row: int = 0

    @property
    def all(self) -> tuple[Product, ...]:
        """The product itself, those beside it and those added to it."""
        return (self, *self.beside, *self.also)


@dataclass
class Convolve:
    """``out = conv(x, w)`` of what begins at the elements ``starts`` of the three; ``shape`` is a
    ``convolutions.Convolution``."""

    x: Buffer
    w: Buffer
    out: Buffer
    starts: tuple[Affine, Affine, Affine]
    shape: Convolution
    channels: DimLike
    source: object = None


@dataclass
class Pool:
    """``out`` of operands that begin, like out, at the elements ``starts``; ``shape`` is a
    ``pooling.Pooling``."""

    operands: tuple[Buffer, ...]
    out: Buffer
    starts: tuple[Affine, ...]
    shape: Pooling
    source: object = None


@dataclass
class Pack:
    """Put b of a product into its work memory, for the method ``whole``, or for products elsewhere
    that have this memory for b and the method ``packed``."""

    product: Product


Stmt = (
    For | Let | Store | ScatterAdd | Accumulate | AccumulateInto | ArgUpdate
    | Product | Convolve | Pool | Pack
)  # fmt: skip


@dataclass
class LoopKernel:
    """A fused kernel: one function of explicit loops."""

    name: str
    body: list[Stmt]
    reads: tuple[Buffer, ...] = ()
    writes: tuple[Buffer, ...] = ()
    nodes: tuple = ()  # what it computes, for reports
    symbols: tuple[str, ...] = ()

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return tuple(dict.fromkeys((*self.reads, *self.writes)))


@dataclass
class TeamKernel(LoopKernel):
    """A kernel that threads share (``schedule.team``). ``lane`` computes one part: the steps
    ``first`` to ``last`` of its loop ``shared`` over ``extent`` rows, ``size`` rows a step. It has
    ``strides[buffer]`` elements of its own of each of these buffers. ``finish`` puts the parts
    together. ``work`` is what all cost. ``status`` has status words of each part, if it has checks.
    """

    lane: LoopKernel = None  # type: ignore[assignment]
    finish: LoopKernel | None = None
    shared: For | None = None
    extent: DimLike = 1
    size: int = 1
    work: DimLike = 0
    strides: dict[Buffer, DimLike] = field(default_factory=dict)
    status: Buffer | None = None


@dataclass
class GemmKernel:
    """``c = op(a) @ op(b)`` on contiguous matrices, ``batch`` times: by OpenBLAS, or by graphc
    itself with a ``method`` (see ``products``) that may need ``work`` memory."""

    name: str
    a: Buffer
    b: Buffer
    c: Buffer
    batch: DimLike
    m: DimLike
    n: DimLike
    k: DimLike
    ta: int
    tb: int
    nodes: tuple = ()
    source: object = None
    method: str | None = None
    work: Buffer | None = None

    @property
    def reads(self) -> tuple[Buffer, ...]:
        return (self.a, self.b)

    @property
    def writes(self) -> tuple[Buffer, ...]:
        return (self.c, self.work) if self.work else (self.c,)


@dataclass
class LibraryKernel:
    """Dense linear algebra (``codegen.library``), ``sizes["batch"]`` times, or a routine of order
    (``codegen.routines``).

    ``buffers`` and ``sizes`` are the arguments of its text by name; ``check`` is the number of
    the failure that it can report, 0 for none.
    """

    name: str
    op: str
    attrs: dict[str, int]
    buffers: dict[str, Buffer]
    sizes: dict[str, DimLike]
    check: int
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]  # the result and the work space
    nodes: tuple = ()
    source: object = None


@dataclass(frozen=True)
class Kept:
    """An array that a small loop has in memory of its own: copied there before it, and back
    behind it if it ``changes``."""

    buffer: Buffer
    changes: bool


@dataclass
class LoopControl:
    """Kernels that are run for each step: ``var`` from 0 below ``length`` and the value of
    ``count`` (None: without that limit), as long as ``test`` holds after ``test_kernels``.

    ``parts`` follow the step. Where it is not known before how many steps there are, what
    ``stacked`` has room for beyond them is cleared; ``tape`` is the number (from 1) of the tape
    symbol that ``length`` is, 0 for others. Of a ``small`` one (``schedule.small``) steps are put
    in place, on copies of what is ``kept``.
    """

    name: str
    var: str
    length: DimLike | None
    count: Buffer | None
    reverse: bool
    tape: int
    test_kernels: list[Kernel]
    test: Buffer | None
    kernels: list[Kernel]
    parts: list[Part]
    stacked: list[tuple[Buffer, DimLike]]  # with the elements of one step
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    nodes: tuple = ()
    source: object = None
    small: bool = False
    kept: tuple[Kept, ...] = ()

    @property
    def inner(self) -> list[Kernel]:
        return [*self.test_kernels, *self.kernels]


@dataclass
class ChoiceControl:
    """Kernels of which either the first or the second list is run."""

    name: str
    pred: Buffer
    on_true: list[Kernel]
    on_false: list[Kernel]
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    nodes: tuple = ()
    source: object = None

    @property
    def inner(self) -> list[Kernel]:
        return [*self.on_true, *self.on_false]


Control = LoopControl | ChoiceControl
Kernel = LoopKernel | GemmKernel | LibraryKernel | LoopControl | ChoiceControl


def leaves(kernels: Iterable[Kernel]) -> Iterator[LoopKernel | GemmKernel | LibraryKernel]:
    """The kernels that compute, those of bodies once."""
    stack = list(reversed(list(kernels)))
    while stack:
        kernel = stack.pop()
        if isinstance(kernel, Control):
            stack.extend(reversed(kernel.inner))
        else:
            yield kernel


@dataclass
class Schedule:
    """Kernels in execution order and every buffer they touch."""

    graph: object
    kernels: list[Kernel]
    inputs: list[Buffer]
    outputs: list[Buffer]  # may be an input's buffer where memory was donated
    consts: list[Buffer]
    temps: list[Buffer]
    const_values: list[np.ndarray]
    checks: list[str] = field(default_factory=list)  # what each run-time index check guards
    # Of neighbours in two kernels: both, and why.
    reasons: list[tuple] = field(default_factory=list)
    symbols: tuple[str, ...] = ()
    tapes: tuple[str, ...] = ()  # symbols among them whose size only running tells
    views: list[View] = field(default_factory=list)  # of temps
    locals: list[Buffer] = field(default_factory=list)  # of small loops, in registers


# ----------------------------------------------------------------------------------- traversal


def statements(body: list[Stmt]) -> Iterator[Stmt]:
    """Every statement, loops before their bodies."""
    stack = list(reversed(body))
    while stack:
        stmt = stack.pop()
        yield stmt
        if isinstance(stmt, For):
            stack.extend(reversed(stmt.body))


def expressions(stmt: Stmt) -> Iterator[Expr]:
    """Every expression of one statement (not of nested loops)."""
    stack = [] if isinstance(stmt, For | Product | Convolve | Pool | Pack) else [stmt.expr]
    if isinstance(stmt, ScatterAdd):
        stack.append(stmt.dynamic[0])
    while stack:
        expr = stack.pop()
        yield expr
        if isinstance(expr, Apply):
            stack.extend(expr.args)
        elif isinstance(expr, Select):
            stack.extend((expr.cond, expr.a, expr.b))
        elif isinstance(expr, Checked):
            stack.append(expr.expr)
        elif isinstance(expr, Load):
            stack.extend(d[0] for d in expr.dynamic)


def indices(stmt: Stmt) -> Iterator[Affine]:
    """Every affine index that a statement uses."""
    if isinstance(stmt, Store | ScatterAdd | AccumulateInto | ArgUpdate):
        yield stmt.index
    elif isinstance(stmt, Product):
        yield from (start for p in stmt.all for start in p.starts)
        if stmt.row:
            yield stmt.row[1]
    elif isinstance(stmt, Convolve | Pool):
        yield from stmt.starts
    elif isinstance(stmt, Pack):
        yield stmt.product.starts[1]
    for expr in expressions(stmt):
        if isinstance(expr, Load | IndexValue):
            yield expr.index
        elif isinstance(expr, InRange):
            yield from (t[0] for t in expr.tests)


def dims_used(body: list[Stmt]) -> Iterator[DimLike]:
    """Every dimension that the body's text mentions."""
    for stmt in statements(body):
        if isinstance(stmt, For):
            yield stmt.extent
            continue
        for index in indices(stmt):
            yield index.offset
            yield from (c for _, c in index.terms)
        if isinstance(stmt, ScatterAdd):
            yield from stmt.dynamic[1:3]
        elif isinstance(stmt, Product | Pack):
            p = stmt.product if isinstance(stmt, Pack) else stmt
            yield from (p.m, p.k)
        elif isinstance(stmt, Convolve):
            yield stmt.channels
        for expr in expressions(stmt):
            if isinstance(expr, DimValue):
                yield expr.dim
            elif isinstance(expr, Checked):
                yield expr.size
            elif isinstance(expr, InRange):
                yield from (t[1] for t in expr.tests)
            elif isinstance(expr, Load):
                yield from (d for dyn in expr.dynamic for d in dyn[1:3])


def collapse(body: list[Stmt]) -> list[Stmt]:
    """Drop loops of one step and merge perfectly nested loops that walk memory as one."""
    result: list[Stmt] = []
    for stmt in body:
        if not isinstance(stmt, For):
            result.append(stmt)
            continue
        inner = collapse(stmt.body)
        if isinstance(stmt, ForBlocks):
            result.append(replace(stmt, body=inner))
            continue
        if stmt.block:
            result.append(_flat_block(stmt, inner))
            continue
        if stmt.extent == 1:
            result.extend(rename(s, {stmt.var: Affine()}) for s in inner)
            continue
        if len(inner) == 1 and type(inner[0]) is For and _walks_as_one(stmt, inner[0]):
            only = inner[0]
            body = [rename(s, {stmt.var: Affine()}) for s in only.body]
            result.append(For(only.var, stmt.extent * only.extent, body))
        else:
            result.append(For(stmt.var, stmt.extent, inner))
    return result


def _flat_block(stmt: For, inner: list[Stmt]) -> For:
    """A loop over the rows of a block, and over their elements as one where it can be."""
    only, (block, size) = inner[0], stmt.block
    perfect = len(inner) == 1 and type(only) is For and not only.block
    if not (perfect and isinstance(only.extent, int) and _walks_as_one(stmt, only)):
        return replace(stmt, body=inner)
    body = [rename(s, {stmt.var: Affine()}) for s in only.body]
    return For(only.var, stmt.extent * only.extent, body, (block, size * only.extent))


def _walks_as_one(outer: For, inner: For) -> bool:
    for stmt in statements(inner.body):
        if isinstance(stmt, For) and (outer.var in str(stmt.extent)):
            return False
        if isinstance(stmt, For):
            continue
        for index in indices(stmt):
            if index.coeff(outer.var) != index.coeff(inner.var) * inner.extent:
                return False
        if any(isinstance(e, InRange) for e in expressions(stmt)) or isinstance(stmt, ArgUpdate):
            return False
    return True


def rename(stmt: Stmt, mapping: Mapping[str, Affine]) -> Stmt:
    """``stmt`` with loop variables replaced by affine indices."""
    if isinstance(stmt, For):
        return replace(stmt, body=[rename(s, mapping) for s in stmt.body])
    if isinstance(stmt, Product | Convolve | Pool):
        starts = tuple(_rename_index(i, mapping) for i in stmt.starts)
        if isinstance(stmt, Product):
            beside, also = (
                tuple(rename(p, mapping) for p in more) for more in (stmt.beside, stmt.also)
            )
            row = stmt.row and (stmt.row[0], _rename_index(stmt.row[1], mapping))
            return replace(stmt, starts=starts, beside=beside, also=also, row=row)
        return replace(stmt, starts=starts)
    if isinstance(stmt, Pack):
        return Pack(rename(stmt.product, mapping))
    changes = {"expr": _rename_expr(stmt.expr, mapping)}
    if hasattr(stmt, "index"):
        changes["index"] = _rename_index(stmt.index, mapping)
    if isinstance(stmt, ScatterAdd):
        changes["dynamic"] = (_rename_expr(stmt.dynamic[0], mapping), *stmt.dynamic[1:])
    return type(stmt)(**{**stmt.__dict__, **changes})


def _rename_index(index: Affine, mapping) -> Affine:
    result = Affine((), index.offset)
    for var, coeff in index.terms:
        result = result + mapping.get(var, variable(var)) * coeff
    return result


def _rename_expr(expr: Expr, mapping) -> Expr:
    if isinstance(expr, Load):
        dynamic = tuple((_rename_expr(d[0], mapping), *d[1:]) for d in expr.dynamic)
        return Load(expr.dtype, expr.buffer, _rename_index(expr.index, mapping), dynamic)
    if isinstance(expr, IndexValue):
        return IndexValue(expr.dtype, _rename_index(expr.index, mapping))
    if isinstance(expr, Apply):
        return Apply(expr.dtype, expr.op, tuple(_rename_expr(a, mapping) for a in expr.args))
    if isinstance(expr, Select):
        parts = (_rename_expr(e, mapping) for e in (expr.cond, expr.a, expr.b))
        return Select(expr.dtype, *parts)
    if isinstance(expr, Checked):
        return replace(expr, expr=_rename_expr(expr.expr, mapping))
    if isinstance(expr, InRange):
        tests = tuple((_rename_index(i, mapping), size, step) for i, size, step in expr.tests)
        return InRange(expr.dtype, tests)
    return expr
