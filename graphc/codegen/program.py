"""What a program is: functions, the text of each, and what calls them."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.schedule.convolutions import Convolution
from graphc.schedule.pooling import Pooling


@dataclass(frozen=True)
class Parameter:
    """Of a kernel function: a buffer of a dtype, the status words, or a dimension (int64)."""

    name: str
    kind: str  # a short dtype, "status" or "dim"


@dataclass(frozen=True)
class KernelFunction:
    name: str
    parameters: tuple[Parameter, ...]
    text: str
    team: bool = False  # main calls ``name_team``, which runs it in parts: the last three
    # parameters are the number of the part, its first step and the end of its steps
    in_place: bool = False  # its text always stands for its call

    @property
    def team_name(self) -> str:
        return f"{self.name}_team"


@dataclass(frozen=True)
class ProductFunction:
    """``name(a, b, c, m, k, count)``: ``count`` rows of the m by n matrix ``op(a) @ op(b)`` over k,
    all contiguous; a and c begin at the first of these rows. m and k are numbers where they are
    known, and so is ``rows``, what each call computes (the last perhaps fewer). It may compute up
    to 15 rows above the first again. With the method ``whole`` it takes for b what
    ``name_pack(b, work, k)`` makes of it; with ``panel`` and ``chunks``, work memory behind c. If
    it ``adds``, c keeps what it has, and all its rows are computed. With ``chunks`` there may be
    more products of a: of ``beside`` columns, each with its b and c behind the first c. To others
    products may be added, of as many terms as ``sums`` has, each with its a and b behind c, and a
    ``row``. Behind count come ``ahead`` arrays like c, whose lines are asked for while it computes.
    b may be a panel of the columns of a matrix that has ``of`` of them, and c too: it has ``c_row``
    elements from one row to the next.
    """

    name: str
    kind: str
    ta: int
    tb: int
    m: int | None
    n: int
    k: int | None
    rows: int | None
    method: str
    adds: bool = False
    beside: tuple[int, ...] = ()
    sums: tuple[int, ...] = ()
    row: bool = False
    ahead: int = 0
    of: int = 0
    c_row: int = 0

    @property
    def columns(self) -> tuple[int, ...]:
        """Of each of its results."""
        return (self.n, *self.beside)

    @property
    def pack_name(self) -> str:
        return f"{self.name}_pack"

    @property
    def exact(self) -> bool:
        """Whether each call computes ``rows`` rows."""
        return self.m is not None and self.rows is not None and self.m % self.rows == 0

    @property
    def text(self) -> str:
        m, k = (self.m if self.m is not None else "m"), (self.k if self.k is not None else "k")
        a = f"a[{k}, {m}].T" if self.ta else f"a[{m}, {k}]"
        sign, operands, results = "+=" if self.adds else "=", [], []
        for number, n in enumerate(self.columns):
            b, c = (f"{name}{number or ''}" for name in "bc")
            operands += [b, c]
            right = f"{b}[{n}, {k}].T" if self.tb else f"{b}[{k}, {n}]"
            right += f" (columns of {self.of})" if self.of else ""
            results.append(f"{c}[{m}, {n}] {sign} {a} @ {right}")
        for number, terms in enumerate(self.sums, 1):
            operands += [f"a{number}", f"b{number}"]
            right = f"[{self.n}, {terms}].T" if self.tb else f"[{terms}, {self.n}]"
            results[0] += f" + a{number}[{m}, {terms}] @ b{number}{right}"
        if self.row:
            operands.append("row")
            results[0] += f" + row[{self.n}]"
        work = "work, " if self.method in ("panel", "chunks") else ""
        ahead = ", ..." if self.ahead else ""
        call = f"{self.name}(a, {', '.join(operands)}, {work}m, k, count{ahead})"
        text = f"# {call}: count rows of {self.kind} {', '.join(results)}"
        if self.method != "whole":
            return text
        return f"{text}\n# {self.pack_name}(b, work, k): b as {self.name} takes it"


@dataclass(frozen=True)
class ConvolutionFunction:
    """``name(x, w, out, channels)``: one convolution, of an image or of all."""

    name: str
    kind: str
    shape: Convolution

    @property
    def text(self) -> str:
        c = self.shape
        over = " x ".join(map(str, (c.images, c.filters, *c.places)))
        window = " x ".join(map(str, ("channels", *c.window)))
        return (
            f"# {self.name}(x, w, out, channels): {self.kind} out, {over}, each a sum over "
            f"{window};\n# stride {c.stride}, dilation {c.dilation}, vectors along "
            + ("the result" if c.method == "rows" else "the window")
        )


@dataclass(frozen=True)
class PoolingFunction:
    """``name(x, [m, [g,]] out)``: one pooling, as ``schedule.pooling`` defines it."""

    name: str
    kind: str
    shape: Pooling

    @property
    def text(self) -> str:
        p = self.shape
        operands = {"max": "x", "count": "x, m", "spread": "x, m, g"}[p.method]
        return (
            f"# {self.name}({operands}, out): {p.method} of {self.kind} x "
            f"[{p.rows}, {p.down}, {p.columns}, {p.across}] over blocks"
        )


@dataclass(frozen=True)
class Program:
    """Source text in pieces. The words of the ``ints`` argument of main are two status words, the
    dims, the byte offset of each temporary, and ``schedule.memory.TEAM_WORDS`` and
    ``WATCH_WORDS``."""

    kernels: tuple[KernelFunction, ...]
    main: str
    calls: tuple[str, ...]  # which function each kernel of the schedule calls
    flush_subnormals: bool = False  # while it runs; for updates in place
    products: tuple[ProductFunction, ...] = ()
    convolutions: tuple[ConvolutionFunction, ...] = ()
    poolings: tuple[PoolingFunction, ...] = ()

    @property
    def text(self) -> str:
        linked = [*self.products, *self.convolutions, *self.poolings]
        heads = ["\n".join(p.text for p in linked)] if linked else []
        return "\n\n".join([*heads, *(k.text for k in self.kernels), self.main])
