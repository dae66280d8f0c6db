"""What the kernels of a program have in common: buffers, constants, run-time checks, names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from graphc.ir.dims import Dim
from graphc.ir.node import Node
from graphc.ir.rows import Place
from graphc.schedule import loops as L


class ProgramBuilder:
    """Collects them while a graph and the bodies in it are lowered."""

    def __init__(self, tapes: tuple[str, ...], team: bool, arguments: list[L.Buffer]):
        self.tapes, self.team = tapes, team
        self._places = {buffer: place for place, buffer in enumerate(arguments)}
        self.consts: list[L.Buffer] = []
        self.const_values: list = []
        self.temps: list[L.Buffer] = []
        self.views: list[L.View] = []
        self.checks: dict[str, int] = {}
        self.reasons: list[tuple[Node, Node, str]] = []
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

    def at(self, place: Place, arguments: list[L.Buffer]) -> L.Buffer:
        """The buffer of an input or an output: of rows, one of several arguments."""
        if not isinstance(place, tuple):
            return arguments[place]
        buffers = [arguments[p] for p in place]
        places = [self._places[b] for b in buffers]
        first, stride = places[0], places[1] - places[0] if len(places) > 1 else 1
        table = None
        if places != [first + stride * k for k in range(len(places))]:
            table = self._constant(np.array(places, np.int64))
        kind = buffers[0].dtype
        size = len(places) * buffers[0].size
        return L.Rows(self.name("rows"), kind, size, "rows", 0, first, stride, table)

    def check(self, label: str) -> int:
        """The number of a run-time check, from 1."""
        return self.checks.setdefault(label, len(self.checks) + 1)

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
                L.LoopKernel(self.kernel_name(), body, (product.b,), (product.work,),
                             symbols=tuple(sorted(symbols)))
            )  # fmt: skip
            return replace(product, b=product.work, work=None)

        return pack

    def kernel_name(self) -> str:
        self._kernels += 1
        return f"k{self._kernels - 1}"

    def name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names - 1}"
