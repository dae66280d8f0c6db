"""Kernels of a product, with what follows it, by panels of its columns instead of blocks of rows.

Threads that share the rows of ``a @ b`` each read, and pack, all of b. Where b is the larger
operand (a layer's weight beside a batch) they have less to fetch if they share the columns: each
its own part of b, and all of a.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.schedule import loops as L
from graphc.schedule.products import TILE_ROWS
from graphc.schedule.sizes import nominal

_WIDTHS = (64, 48, 32)  # columns of a panel
_ROWS = 128  # of a block: with a panel's columns it stays in the first-level cache
_LEAST_COLUMNS = 256  # two panels or more for each of two threads
_LEAST_BYTES = 128 << 10  # of b: a smaller one costs little to read twice
_METHODS = ("direct", "panel", "whole")
PANEL = "panel"  # the loop variable over panels


def by_columns(kernel: L.LoopKernel) -> L.LoopKernel | None:
    """The kernel as a loop over panels of columns. None where that does not pay, or where what
    follows needs whole rows (a softmax, say). It takes less of the kernel's scratch memory."""
    at = next((k for k, s in enumerate(kernel.body) if isinstance(s, L.ForBlocks)), None)
    if at is None:
        return None
    call, *nests = (main := kernel.body[at]).body
    if not isinstance(call, L.Product) or call.block != main.var or not _pays(call):
        return None
    width = next((w for w in _WIDTHS if call.n % w == 0), 0)
    if not width or not all(_walks_rows(s, call) for s in nests):
        return None
    made = _panel(call, width)
    if made.c_row == 0:
        before, after = _element(call), _element(made)
        nests = [_reading(nest, call.c, before, after) for nest in nests]
        call.c.size = (TILE_ROWS + made.rows) * width
    loops = [
        replace(nest, body=[replace(i, block=(PANEL, width)) for i in nest.body],
                block=(main.var, made.rows))
        for nest in nests
    ]  # fmt: skip
    first = [s for s in kernel.body[:at] if not isinstance(s, L.Pack)]
    filled = [replace(s, block=(PANEL, width)) for s in first if _fills_columns(s, call.n)]
    whole = [s for s in first if not _fills_columns(s, call.n)]
    blocks = L.ForBlocks(main.var, call.m, [made, *loops], size=made.rows)
    panels = L.ForBlocks(PANEL, call.n, [*filled, blocks], size=width)
    return replace(kernel, body=[*whole, panels, *kernel.body[at + 1 :]])


def _panel(call: L.Product, width: int) -> L.Product:
    """The product of a panel of columns, for a block of rows."""
    rows = min(_ROWS, call.m) if isinstance(call.m, int) else _ROWS
    block, panel = L.variable(call.block), L.variable(PANEL)
    more = rows - call.rows
    a, b, c = call.starts
    a, b = a + block * (more * call.k), b + panel * (width * call.k if call.tb else width)
    if c.terms:  # all of the result is kept
        c, c_row = c + block * (more * call.n) + panel * width, call.n
    else:
        c, c_row = L.Affine((), TILE_ROWS * width), 0
    how = "direct" if call.method == "direct" else "panel"
    return replace(
        call, starts=(a, b, c), n=width, rows=rows, of=call.n, c_row=c_row, method=how, ahead=()
    )


def _element(call: L.Product) -> L.Affine:
    """Where scratch memory has the element of a row and a column."""
    row = L.variable("row") + L.variable(call.block) * -call.rows
    column = L.variable("column")
    if call.of:
        column = column + L.variable(PANEL) * -call.n
    return row * call.n + column + call.starts[2]


def _pays(call: L.Product) -> bool:
    plain = not (call.ta or call.adds or call.own_rows or call.beside or call.also or call.row)
    return (
        plain
        and call.method in _METHODS
        and isinstance(call.k, int)
        and call.n >= max(_LEAST_COLUMNS, nominal(call.m))
        and call.n * call.k * call.b.dtype.itemsize >= _LEAST_BYTES
    )


def _walks_rows(stmt: L.Stmt, call: L.Product) -> bool:
    """Whether it is a loop over the rows of a block and, in it, one over all columns, that changes
    no operand of the product and reads scratch memory where it is."""
    if not (isinstance(stmt, L.For) and stmt.block == (call.block, call.rows)):
        return False
    inner = stmt.body[0]
    if len(stmt.body) > 1 or type(inner) is not L.For or inner.block or inner.extent != call.n:
        return False
    here, kept = _at(stmt, _element(call)), call.starts[2].terms
    for s in inner.body:
        stores = type(s) in (L.Store, L.AccumulateInto)
        if not (isinstance(s, L.Let) or (stores and s.buffer not in (call.a, call.b, call.c))):
            return False
        found = [e for e in L.expressions(s) if isinstance(e, L.Load) and e.buffer is call.c]
        if found and not kept and not (_reads(s, call.c) and _same(s.expr.index, here)):
            return False
    return True


def _fills_columns(stmt: L.Stmt, n: int) -> bool:
    """Whether it sets one element for each column, by a constant."""
    if type(stmt) is not L.For or stmt.extent != n or len(stmt.body) != 1:
        return False
    (store,) = stmt.body
    return (
        type(store) is L.Store
        and store.index == L.variable(stmt.var)
        and isinstance(store.expr, L.Lit)
    )


def _at(nest: L.For, element: L.Affine) -> L.Affine:
    """An element at the loops' row and column."""
    names = {"row": nest.var, "column": nest.body[0].var}
    return L.Affine(tuple((names.get(v, v), c) for v, c in element.terms), element.offset)


def _reading(nest: L.For, scratch: L.Buffer, before: L.Affine, after: L.Affine) -> L.For:
    """The loops with what they read of scratch memory in its new place."""
    (inner,) = nest.body
    load = L.Load(scratch.dtype, scratch, _at(nest, after))
    body = [replace(s, expr=load) if _reads(s, scratch) else s for s in inner.body]
    return replace(nest, body=[replace(inner, body=body)])


def _reads(stmt: L.Stmt, buffer: L.Buffer) -> bool:
    return isinstance(stmt, L.Let) and isinstance(stmt.expr, L.Load) and stmt.expr.buffer is buffer


def _same(a: L.Affine, b: L.Affine) -> bool:
    return a.offset == b.offset and dict(a.terms) == dict(b.terms)
