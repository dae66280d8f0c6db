"""Seeded random graphs with inputs that suit them: the same program, checked two ways.

``random_graph(seed)`` builds well-typed nodes one by one and evaluates each at once, so that every
value stays finite and of moderate size. Ops that jump (comparisons, rounding, argmax) read only
values that no rewrite can move by a rounding error, so two ways of computing a graph agree within
a small tolerance. Half of the seeds have a symbolic dimension ``n``.
"""

from __future__ import annotations

import re

import numpy as np

from graphc.errors import GraphcError
from graphc.ir import build, control
from graphc.ir.control import CONTROL
from graphc.ir.dims import Dim, symbol
from graphc.ir.graph import Graph, substitute
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.ir.types import tensor_type

LIMIT = 30.0  # largest value kept

# Long programs of one kind, which tests of their own cover.
INTEGRALS = re.compile(
    "bessel_.*|exp1|expi|.*_integral|fresnel.|spence|ellip.|lambertw|gammaincc?|gammainc_slope"
)
_ELEMENTWISE = [
    n
    for n, row in OPS.items()
    if row.kind == "elementwise" and not row.library and not INTEGRALS.fullmatch(n)
]
UNARY = [n for n in _ELEMENTWISE if OPS[n].arity == 1 and OPS[n].derivative and n != "cast"]
BINARY = [n for n in _ELEMENTWISE if OPS[n].arity == 2 and OPS[n].derivative]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
TESTS = ["isnan", "isinf", "isfinite"]
LOGICAL = ["logical_and", "logical_or", "logical_xor", "logical_not"]
STRUCTURAL = [
    "reshape", "transpose", "broadcast", "slice", "pad", "concat", "windows", "barrier",
]  # fmt: skip
REDUCTIONS = ["sum", "prod", "max", "min", "argmax", "argmin"]
INDEXING = ["take", "take_along", "scatter_add"]
CONTROLS = ["loop", "cond"]
ORDERING = ["scatter_set", "check_index", "cumsum", "cumprod", "argsort", "searchsorted"]
OTHER = ["where", "cast", "stop_gradient", "matmul", "conv", "const", "iota"]
ALL = (
    UNARY + BINARY + COMPARISONS + TESTS + LOGICAL + STRUCTURAL * 3 + REDUCTIONS * 2
    + INDEXING + ORDERING + CONTROLS + OTHER * 2 + ["keepdims", "constant_operand"] * 6
    + ["neg", "mul", "add"] * 4
)  # fmt: skip

# These jump at a value; the wide ones lose digits of a large argument.
_JUMPS = {"sign", "floor", "ceil", "trunc", "rint", "mod", "floor_div", "copysign", "argmax",
          "nextafter", "argmin", *COMPARISONS, *TESTS}  # fmt: skip
_KEEPS_BITS = {"neg", "abs", "maximum", "minimum", "where", "max", "min", "const", "iota", "sign",
               "take", "take_along", "stop_gradient", *STRUCTURAL, *_JUMPS, *LOGICAL}  # fmt: skip


def random_graph(
    seed: int, *, size: int = 20, ops: list[str] | None = None
) -> tuple[Graph, list[np.ndarray]]:
    """A graph of about ``size`` ops drawn from ``ops`` and arrays for its inputs.

    >>> graph, arrays = random_graph(0)
    >>> [i.ndim for i in graph.inputs] == [a.ndim for a in arrays]
    True
    """
    return _Generator(seed, ops or ALL).graph(size)


class _Generator:
    def __init__(self, seed: int, ops: list[str]):
        self.rng = np.random.default_rng(seed)
        self.seed, self.ops = seed, ops
        self.dtype = np.dtype(["float32", "float64"][seed // 2 % 2])
        self.env = {"n": 3}
        self.dims = [symbol("n") if seed % 2 else 3, 4, 1, 2]
        self.values: dict[Node, np.ndarray] = {}
        self.exact: set[Node] = set()

    def graph(self, size: int) -> tuple[Graph, list[np.ndarray]]:
        shapes = [(self.dims[0], 4), (self.dims[0], 4), (4,), (4, 2), (self.dims[0], 1), ()]
        inputs = []
        for index, shape in enumerate(shapes):
            node = build.input(index, f"x{index}", tensor_type(self.dtype, shape))
            array = self.rng.uniform(-2, 2, node.type.concrete_shape(self.env))
            self.values[node] = np.asarray(array, self.dtype)
            self.exact.add(node)
            inputs.append(node)
        made: list[Node] = []
        for _ in range(size * 20):
            if len(made) >= size:
                break
            op = self.ops[self.rng.integers(len(self.ops))]
            node = self.step(op)
            if node is not None and self.keep(node):
                made.append(node)
        read = {i for n in made for i in n.inputs}
        outputs = [n for n in dict.fromkeys(made) if n not in read][-max(8, size // 4) :] or inputs[
            :1
        ]
        return Graph(f"random{self.seed}", tuple(inputs), tuple(outputs)), [
            self.values[i] for i in inputs
        ]

    # -- choices

    def pick(self, want=lambda node: True) -> Node | None:
        found = [n for n in self.values if want(n)]
        if not found:
            return None
        # Later nodes more often: deeper graphs.
        return found[-1 - int(len(found) * self.rng.random() ** 2)]

    def pick_float(self, want=lambda node: True) -> Node | None:
        return self.pick(lambda n: n.dtype == self.dtype and want(n))

    def keep(self, node: Node) -> bool:
        """Evaluate ``node`` and what is new below it; False if a value is out of hand."""
        stack, order = [node], []
        while stack:
            top = stack.pop()
            if top not in self.values:
                order.append(top)
                stack.extend(top.inputs)
        if not order:
            return False
        new: dict[Node, np.ndarray] = {}
        for n in sorted(dict.fromkeys(order), key=self.depth):
            operands = [new[i] if i in new else self.values[i] for i in n.inputs]
            with np.errstate(all="ignore"):
                value = OPS[n.op].evaluate(n, self.env, *operands)
                if n.op in CONTROL:
                    new[n] = value
                    continue
                value = np.asarray(value)
            if value.dtype.kind == "f" and not (np.abs(value) <= LIMIT).all():
                return False
            if value.size > 2000:
                return False
            new[n] = value
        for n, value in new.items():
            if n.op in CONTROL:
                continue
            self.values[n] = value
            if n.op in _KEEPS_BITS and all(i in self.exact for i in n.inputs):
                self.exact.add(n)
        return True

    def make_loop(self):
        """Steps over a stack, with a carry or two, a counter, and values from outside."""
        x = self.pick_float(lambda n: n.ndim > 0 and n.type.size != 0)
        first, other = self.pick_float(), self.pick_float()
        part = tensor_type(self.dtype, x.shape[1:])
        count = tensor_type(np.int64)
        kinds = [first.type, other.type, count, part]
        params = [build.placeholder(0, k, t, "p") for k, t in enumerate(kinds)]
        a, b, i, p = params
        outside = self.pick_float(lambda n: n.shape == first.shape)
        new_a = build.make(self.rng.choice(["tanh", "sin"]), (self.mixed(a, outside),))
        new_b = b if self.rng.random() < 0.3 else self.mixed(b, b, p)
        if first.type == other.type and self.rng.random() < 0.4:
            new_a, new_b = b, new_a  # they change places
        elif self.rng.random() < 0.5:
            new_a = build.make("tanh", (self.mixed(new_a, a, b),))
        elif a.ndim == 2 and self.rng.random() < 0.5:
            new_a = build.make("sin", (build.matmul(build.matmul(a, a, 0, 1), a),))
        y = self.mixed(p, p, new_a)
        if self.rng.random() < 0.2:
            (inner,), lifted = control.close([[self.mixed(a, a), y]], [a])
            y = build.loop(inner, [a], (), lifted, length=2)[1]
        new_i = build.make("add", (i, build.const(1)))
        ys = [y, build.cast(new_i, self.dtype)][: int(self.rng.integers(3))]
        test = build.make("lt", (i, build.const(int(self.rng.integers(4)))))
        length, kind = x.shape[0], self.rng.integers(4)
        start = [first, other, build.const(0)]
        outputs = [new_a, new_b, new_i]
        if kind == 0:  # a condition, no stack to read
            zero = build.full(p.shape, 0.5, self.dtype)
            outputs, ys = substitute([*outputs, *ys], {p: zero})[:3], []
            graphs, lifted = control.close([outputs, [test]], params[:3])
            found = build.loop(graphs[0], start, (), lifted, length=None, cond=graphs[1])
        else:
            (body,), lifted = control.close([[*outputs, *ys]], params)
            steps = build.const(int(self.rng.integers(5))) if kind == 1 else None
            found = build.loop(
                body, start, [x], lifted, length=length, count=steps,
                reverse=bool(self.rng.integers(2)),
            )  # fmt: skip
        return found[int(self.rng.integers(len(found)))]

    def mixed(self, a: Node, *others: Node) -> Node:
        """A value of the shape of ``a``, of modest size, that depends on the others too."""
        for other in others:
            if other.shape == a.shape:
                a = build.make(self.rng.choice(["add", "sub", "maximum"]), (a, other))
            else:
                total = build.reduce("sum", other, range(other.ndim))
                a = build.make("add", (a, build.broadcast(total, a.shape, ())))
        return build.make("sin", (a,))

    def make_cond(self):
        """A choice by an exact comparison, between two functions of two values."""
        tested = self.pick_float(lambda n: n in self.exact)
        pred = build.reduce("max", build.make("gt", (tested, build.full_like(tested, 0.7))),
                            range(tested.ndim))  # fmt: skip
        a, b = self.pick_float(), self.pick_float()
        params = [build.placeholder(0, k, n.type, "p") for k, n in enumerate((a, b))]
        groups = [[self.mixed(*params), params[1]], [self.mixed(params[0]), self.mixed(params[1])]]
        (yes, no), lifted = control.close(groups, params)
        found = build.cond(pred, [a, b, *lifted], yes, no)
        return found[int(self.rng.integers(2))]

    def depth(self, node: Node) -> int:
        if node in self.values:
            return 0
        return 1 + max((self.depth(i) for i in node.inputs), default=0)

    def step(self, op: str) -> Node | None:
        """A new node, or None where nothing suits this time."""
        special = getattr(self, f"make_{op}", None)
        try:
            if special is not None:
                return special()
            if op in REDUCTIONS:
                return self.reduction(op)
            return self.elementwise(op)
        except (GraphcError, LookupError):
            return None

    # -- one method for a kind of op

    def elementwise(self, op: str) -> Node | None:
        if op in LOGICAL:
            wanted = lambda n: n.dtype == np.bool_  # noqa: E731
        elif op in _JUMPS:
            wanted = lambda n: n.dtype == self.dtype and n in self.exact  # noqa: E731
        else:
            wanted = lambda n: n.dtype == self.dtype  # noqa: E731
        first = self.pick(wanted)
        if first is None:
            return None
        operands = [first]
        while len(operands) < OPS[op].arity:
            operands.append(self.pick(lambda n: wanted(n) and n.shape == first.shape))
        if op in ("div", "pow") and self.smallest(operands[op == "div"]) < 0.3:
            return None  # ill-conditioned
        if op in ("log", "log2", "log10", "rsqrt", "sqrt", "cbrt", "arctan2", "log1p") and (
            min(map(self.smallest, operands)) < 0.3 or self.nearest(operands[0], -1) < 0.3
        ):
            return None
        if op in ("arcsin", "arccos", "arctanh", "arccosh") and (
            min(self.nearest(operands[0], 1), self.nearest(operands[0], -1)) < 0.2
        ):
            return None
        if op in ("gammaln", "digamma", "zeta") and (
            self.smallest(operands[-1]) < 0.3 or self.nearest(operands[0], 1) < 0.3
        ):
            return None
        if op in ("erfinv", "erfcinv") and (
            min(self.nearest(operands[0], v) for v in (-1, 0, 1, 2)) < 0.1
        ):
            return None
        return build.elementwise(op, *operands)

    def smallest(self, node: Node) -> float:
        return self.nearest(node, 0)

    def nearest(self, node: Node, value: float) -> float:
        return float(np.abs(self.values[node].astype(float) - value).min(initial=np.inf))

    def make_constant_operand(self):
        x = self.pick_float()
        value = self.rng.choice([0.0, 1.0, -1.0, 2.0, 0.5, 3.0, 4.0, -2.0])
        op = self.rng.choice(["add", "sub", "mul", "div", "pow"])
        if op == "pow":
            value = self.rng.choice([0.0, 1.0, 2.0, 3.0, 4.0, 0.5, -0.5, -1.0, -2.0])
            if value % 1 or value < 0:
                x = build.make("add", (build.make("mul", (x, x)), build.full_like(x, 0.5)))
        if op == "div" and value == 0:
            return None
        pair = [x, build.full_like(x, value)]
        flip = op in ("add", "sub", "mul") and self.rng.random() < 0.3
        return build.make(op, pair[::-1] if flip else pair)

    def make_const(self):
        x = self.pick_float(lambda n: not n.type.symbols)
        kind = self.rng.integers(3)
        if kind == 0:
            return build.const(self.rng.uniform(-2, 2, x.shape), self.dtype)
        return build.full_like(x, self.rng.choice([0.0, 1.0, -1.0, 2.0, 0.5]))

    def make_iota(self):
        x = self.pick_float(lambda n: n.ndim > 0)
        return build.iota(x.shape, int(self.rng.integers(x.ndim)), self.dtype)

    def make_cast(self):
        narrows = self.dtype == np.float64  # rounding jumps
        x = self.pick_float(lambda n: n in self.exact or not narrows)
        other = np.dtype("float64" if self.dtype == np.float32 else "float32")
        if other == np.float64:
            return build.cast(build.cast(x, other), self.dtype)
        mask = self.pick(lambda n: n.dtype == np.bool_)
        return build.cast(mask, self.dtype) if mask is not None else None

    def make_where(self):
        c = self.pick(lambda n: n.dtype == np.bool_)
        if c is None:
            return None
        a, b = (self.pick_float(lambda n: n.shape == c.shape) for _ in range(2))
        if a is None:
            return None
        if self.rng.random() < 0.5:
            b = build.full_like(a, 0)
        if self.rng.random() < 0.3:
            a, b = build.full_like(a, 1), build.full_like(a, 0)
        return build.make("where", (c, a, b))

    def make_keepdims(self):
        """A reduction with its axis kept, repeated over the operand, as in a softmax."""
        x = self.pick_float(lambda n: n.ndim > 0)
        axis = int(self.rng.integers(x.ndim))
        small = build.reduce(self.rng.choice(["sum", "max"]), x, (axis,))
        kept = build.reshape(small, [1 if a == axis else d for a, d in enumerate(x.shape)])
        repeated = build.broadcast_to(kept, x.shape)
        return build.make(self.rng.choice(["sub", "add", "mul"]), (x, repeated))

    def make_reshape(self):
        x = self.pick()
        shape = list(x.shape)
        if 1 in shape and self.rng.random() < 0.5:
            shape.remove(1)
        elif self.rng.random() < 0.5 and len(shape) > 1:
            k = int(self.rng.integers(len(shape) - 1))
            shape[k : k + 2] = [shape[k] * shape[k + 1]]
        elif len(shape) < 4:
            shape.insert(int(self.rng.integers(len(shape) + 1)), 1)
        return build.reshape(x, shape)

    def make_transpose(self):
        x = self.pick(lambda n: n.ndim > 1)
        return build.transpose(x, [int(p) for p in self.rng.permutation(x.ndim)])

    def make_broadcast(self):
        x = self.pick(lambda n: n.ndim < 3)
        dims = sorted(int(d) for d in self.rng.permutation(x.ndim + 1)[: x.ndim])
        (new,) = set(range(x.ndim + 1)) - set(dims)
        shape = list(x.shape)
        shape.insert(new, self.dims[self.rng.integers(len(self.dims))])
        return build.broadcast(x, shape, dims)

    def make_cumsum(self):
        x = self.pick_float(lambda n: n.ndim > 0)
        return build.scan("cumsum", x, int(self.rng.integers(x.ndim)))

    def make_cumprod(self):
        x = self.pick_float(lambda n: n.ndim > 0 and isinstance(n.shape[-1], int))
        return build.scan("cumprod", x, x.ndim - 1)

    def make_argsort(self):
        x = self.pick_float(lambda n: n.ndim > 0 and n in self.exact)
        axis = int(self.rng.integers(x.ndim))
        order = build.argsort(x, axis)
        return build.take_along(x, order, axis) if self.rng.random() < 0.7 else order

    def make_searchsorted(self):
        x = self.pick_float(lambda n: n.ndim == 1 and n in self.exact)
        x = build.take_along(x, build.argsort(x, 0), 0)
        v = self.pick_float(lambda n: n in self.exact)
        side = str(self.rng.choice(["left", "right"]))
        return build.searchsorted(x, v, side)

    def make_scatter_set(self):
        x = self.pick_float(lambda n: n.ndim > 0 and isinstance(n.shape[-1], int))
        index = self.rng.integers(0, x.shape[-1], 3)
        updates = build.take(x, build.const(self.rng.permutation(index)), x.ndim - 1)
        return build.scatter_set(x, build.const(index), updates, x.ndim - 1)

    def make_check_index(self):
        x = self.pick_float(lambda n: n.ndim > 0 and isinstance(n.shape[0], int))
        index = build.const(self.rng.integers(0, x.shape[0], 4))
        return build.take(x, build.check_index(index, x.shape[0]), 0)

    def make_slice(self):
        x = self.pick(lambda n: n.ndim > 0)
        start, size, step = [], [], []
        for d in x.shape:
            if isinstance(d, Dim) or d == 0 or self.rng.random() < 0.4:
                start.append(0), size.append(d), step.append(1)
                continue
            first = int(self.rng.integers(d))
            back = self.rng.random() < 0.2
            left = first + 1 if back else d - first
            stride = int(self.rng.integers(1, 3))
            start.append(first)
            size.append(int(self.rng.integers(1, (left - 1) // stride + 2)))
            step.append(-stride if back else stride)
        return build.slice_(x, start, size, step)

    def make_windows(self):
        x = self.pick_float(lambda n: 0 < n.ndim < 4)
        if x is None:
            return None
        stride, dilation, width = (int(v) for v in self.rng.integers(1, 3, 3))
        axis = int(self.rng.integers(x.ndim))
        if isinstance(x.shape[axis], Dim):
            stride = 1
        found = build.windows(x, axis, width, stride, dilation)
        return found if min(found.type.concrete_shape(self.env)) > 0 else None

    def make_conv(self):
        x = self.pick_float(lambda n: n.ndim > 2)
        if x is None:
            return None
        w = self.pick_float(lambda n: n.ndim == x.ndim and n.shape[1] == x.shape[1])
        stride, dilation = (self.rng.integers(1, 3, x.ndim - 2).tolist() for _ in range(2))
        found = build.conv(x, w, stride, dilation)
        return found if min(found.type.concrete_shape(self.env)) > 0 else None

    def make_pad(self):
        x = self.pick_float(lambda n: n.ndim > 0)
        low, high = (tuple(int(v) for v in self.rng.integers(0, 3, x.ndim)) for _ in range(2))
        gaps = [int(self.rng.random() < 0.2) if not isinstance(d, Dim) else 0 for d in x.shape]
        return build.pad(x, low, high, gaps)

    def make_concat(self):
        x = self.pick_float(lambda n: n.ndim > 0)
        axis = int(self.rng.integers(x.ndim))
        y = self.pick_float(
            lambda n: (
                n.shape[:axis] + n.shape[axis + 1 :] == x.shape[:axis] + x.shape[axis + 1 :]
                and n.ndim == x.ndim
            )
        )
        return build.concat((x, y), axis)

    def make_barrier(self):
        return build.barrier(self.pick_float(lambda n: True), self.pick_float(lambda n: True))

    def reduction(self, op: str):
        wanted = (lambda n: n in self.exact) if op in _JUMPS else (lambda n: True)
        x = self.pick_float(lambda n: n.ndim > 0 and wanted(n))
        count = 1 if op in _JUMPS else int(self.rng.integers(1, x.ndim + 1))
        return build.reduce(op, x, sorted(int(a) for a in self.rng.permutation(x.ndim)[:count]))

    def indices(self, shape, size) -> Node:
        limit = size.evaluate(self.env) if isinstance(size, Dim) else size
        concrete = [d.evaluate(self.env) if isinstance(d, Dim) else d for d in shape]
        if any(isinstance(d, Dim) for d in shape):
            flat = build.const(self.rng.integers(0, min(limit, 2), ()), np.int64)
            return build.broadcast(flat, shape, ())
        return build.const(self.rng.integers(0, limit, concrete), np.int64)

    def make_take(self):
        x = self.pick_float(lambda n: n.ndim > 0)
        axis = int(self.rng.integers(x.ndim))
        return build.take(x, self.indices((2,) * int(self.rng.integers(3)), x.shape[axis]), axis)

    def make_take_along(self):
        x = self.pick_float(lambda n: n.ndim > 0)
        axis = int(self.rng.integers(x.ndim))
        shape = [2 if a == axis else d for a, d in enumerate(x.shape)]
        return build.take_along(x, self.indices(shape, x.shape[axis]), axis)

    def make_scatter_add(self):
        x = self.pick_float(lambda n: n.ndim > 0 and not n.type.symbols)
        axis = int(self.rng.integers(x.ndim))
        return build.scatter_add(self.indices((x.shape[axis],), 5), x, axis, 5)

    def make_matmul(self):
        a = self.pick_float(lambda n: n.ndim >= 2)
        ta, tb = (int(v) for v in self.rng.integers(0, 2, 2))
        k = a.shape[-2 if ta else -1]
        b = self.pick_float(
            lambda n: (
                n.ndim == a.ndim and n.shape[:-2] == a.shape[:-2] and n.shape[-1 if tb else -2] == k
            )
        )
        return build.matmul(a, b, ta, tb) if b is not None else None
