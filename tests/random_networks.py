"""Seeded random networks: NumPy programs of many layers, joins, loops and indices, as text.

``random_network(seed)`` writes a program line by line, and evaluates each line at once with NumPy,
so that all values stay finite and of moderate size. The same text then runs in plain NumPy, traced,
compiled and under every transform. ``Network.source`` is a file of its own: what fails can be read,
cut down and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import graphc as gc

LIMIT = 8.0  # largest value kept
EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65]
FAR = [127, 128, 129, 255, 257]
TINY = [1, 2, 3, 4, 5, 7, 8]
ACTS = ["np.tanh({})", "np.maximum({}, 0)", "1 / (1 + np.exp(-{}))", "np.sin({})", "{} * 0.5",
        "np.log1p(np.exp({}))", "np.where({0} > 0, {0}, 0.1 * {0})", "np.abs({})", "np.cos({})",
        "np.exp(-{0} * {0})", "np.sqrt({0} * {0} + 1)", "np.clip({}, -0.7, 0.9)", "np.arctan({})",
        "{0} / (1 + {0} * {0})", "np.square({})", "np.logaddexp({}, 0.3)"]  # fmt: skip
PAIRS = ["{} + {}", "{} - {}", "{} * {}", "np.maximum({}, {})", "np.minimum({}, {})",
         "np.hypot({}, {} + 3)", "{} / (np.abs({}) + 1)", "np.where({0} > {1}, {0}, {1})",
         "{} * np.tanh({})", "np.arctan2({}, np.abs({}) + 1)"]  # fmt: skip
REDUCTIONS = ["np.sum({}, {})", "np.mean({}, {})", "np.max({}, {})", "np.min({}, {})",
              "np.var({}, {})", "np.sqrt(np.sum(np.square({}), {}) + 0.1)", "np.ptp({}, {})",
              "np.log(np.sum(np.exp({}), {}))", "np.std({} * 1.5, {})"]  # fmt: skip


@dataclass
class Network:
    """A program ``f(p, x, y, i)`` of parameters and rows of data, with arrays for it."""

    source: str
    params: dict[str, Any]
    batches: list[tuple]  # arguments (x, y, i): of several sizes where the size is open
    values: list[str] = field(default_factory=list)

    @property
    def args(self) -> tuple:
        return (self.params, *self.batches[0])

    def functions(self) -> tuple[Callable, Callable]:
        """``f``, with a tuple of results, and ``loss``, a number."""
        made: dict[str, Any] = {"np": np, "gc": gc}
        exec(compile(self.source, "<network>", "exec"), made)
        return made["f"], made["loss"]


LOSS = """
def loss(p, x, y, i):
    total = 0.0
    for k, r in enumerate(f(p, x, y, i)):
        if np.result_type(r).kind == "f":
            total = total + np.sum(np.sin(r + 0.3 * k)) / max(1, r.size)
    return total
"""


def random_network(
    seed: int,
    *,
    size: int = 12,
    dtype=None,
    is_open=None,
    tiny=None,
    kinds: list[str] | None = None,
) -> Network:
    """A network of about ``size`` steps; ``is_open``: for batches of several sizes.

    >>> network = random_network(0)
    >>> f, loss = network.functions()
    >>> len(f(*network.args)) > 1
    True
    """
    return _Writer(seed, dtype, is_open, tiny, kinds).network(size)


def _dims(shape: tuple) -> str:
    return "(" + "".join(f"{d}, " for d in shape) + ")"


class _Writer:
    def __init__(self, seed, dtype, is_open, tiny, kinds):
        self.rng = rng = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype or ["float32", "float64"][seed % 2])
        self.is_open = rng.random() < 0.3 if is_open is None else is_open
        self.tiny = rng.random() < 0.3 if tiny is None else tiny
        self.kinds = kinds or KINDS
        self.count = 0
        self.lines: list[str] = []
        self.params: dict[str, Any] = {}
        few = 5 if self.tiny else 1 + int(rng.integers(4))
        pool = TINY if self.tiny else EDGES + (FAR if rng.random() < 0.15 else [])
        self.sizes = [int(s) for s in rng.choice(pool, few)]
        first = int(rng.choice(pool))
        rows = [first, *(int(r) for r in rng.choice(pool, 2))] if self.is_open else [first]
        self.d, self.e = self.size(), self.size()
        self.envs = []
        self.batches = []
        for b in rows:
            x, y = self.normal((b, self.d)), self.normal((b, self.e))
            i = rng.integers(0, max(self.d, 2), b)
            self.batches.append((x, y, i))
            self.envs.append({"np": np, "gc": gc, "p": self.params, "x": x, "y": y, "i": i})
        self.names = ["x", "y"]  # floats, oldest first
        self.read: set[str] = set()
        self.before: list[tuple] = []

    def network(self, size: int) -> Network:
        with np.errstate(all="ignore"):
            for _ in range(size * 8):
                if len(self.before) >= size:
                    break
                self.step(str(self.rng.choice(self.kinds)))
        last = [n for n in self.names if n not in self.read]
        extra = [n for n in self.names if n not in last and self.rng.random() < 0.12]
        outs = list(dict.fromkeys([*last[-8:], *extra]))
        head = "def f(p, x, y, i):\n"
        body = "".join(f"    {line}\n" for line in self.lines)
        source = f"{head}{body}    return {', '.join(outs)},\n{LOSS}"
        return Network(source, self.params, self.batches, outs)

    # ------------------------------------------------------------------------------- pieces

    def size(self) -> int:
        return int(self.rng.choice(self.sizes))

    def normal(self, shape, scale=1.0):
        return np.asarray(self.rng.normal(0, scale, shape), self.dtype)

    def param(self, shape, scale=1.0) -> str:
        return self.keep_param(self.normal(shape, scale))

    def keep_param(self, value) -> str:
        name = f"w{len(self.params)}"
        self.params[name] = value
        return f"p['{name}']"

    def new(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def act(self, text: str) -> str:
        return str(self.rng.choice(ACTS)).format(f"({text})")

    def value(self, name: str) -> np.ndarray:
        return self.envs[0][name]

    def shape(self, name: str) -> tuple:
        return np.shape(self.value(name))

    def pick(self, least=0, most=9, want=lambda v: True) -> str:
        """A float value, later ones more often."""
        found = [n for n in self.names if least <= np.ndim(self.value(n)) <= most
                 and np.size(self.value(n)) and want(self.value(n))]  # fmt: skip
        if not found:
            raise LookupError
        name = found[-1 - int(len(found) * self.rng.random() ** 1.7)]
        self.touched.add(name)
        return name

    def axis(self, name: str) -> int:
        return int(self.rng.integers(np.ndim(self.value(name))))

    def step(self, kind: str) -> None:
        """Lines of one kind, if they suit; otherwise all stays as it was."""
        params = dict(self.params)
        self.touched: set[str] = set()
        try:
            lines, names = getattr(self, kind)()
            found = []
            for env in self.envs:
                made = dict(env)
                exec("\n".join(lines), made)
                found.append(made)
            for made in found:
                for name in names:
                    self.check(made[name])
        except (LookupError, ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError):
            self.params.clear()
            self.params.update(params)
            return
        for env, made in zip(self.envs, found, strict=True):
            env.update(made)
        self.lines += lines
        self.names += names
        self.before.append((kind, names))
        self.read |= self.touched

    def check(self, value) -> None:
        value = np.asarray(value)
        if value.dtype.kind != "f" or value.size > 40000 or value.ndim > 5:
            raise ValueError("not for us")
        if not (np.abs(value) < LIMIT).all():
            raise ArithmeticError("out of hand")

    def one(self, text: str):
        name = self.new()
        return [f"{name} = {text}"], [name]

    # -------------------------------------------------------------------------------- kinds

    def dense(self):
        v = self.pick(1)
        k, m = self.shape(v)[-1], self.size()
        w = self.param((k, m), k**-0.5)
        if self.rng.random() < 0.2:
            w = self.param((m, k), k**-0.5) + ".T"
        text = f"{v} @ {w}"
        draw = self.rng.random()
        if draw < 0.6:
            text += f" + {self.param((m,), 0.3)}"
        elif draw < 0.75:
            text = f"({text}) * {self.param((m,))}"
        if self.rng.random() < 0.7:
            text = self.act(text)
        if self.rng.random() < 0.3 and k == m:
            text = f"{v} + {text}"
        return self.one(text)

    def product(self):
        v = self.pick(2)
        s = self.shape(v)
        draw = self.rng.random()
        if draw < 0.3:
            u = self.pick(2, want=lambda a: a.ndim == len(s) and a.shape[-1] == s[-1]
                          and a.shape[:-2] == s[:-2])  # fmt: skip
            return self.one(self.act(f"{v} @ np.swapaxes({u}, -1, -2) * {s[-1] ** -0.5:.4f}"))
        if draw < 0.6:
            u = self.pick(2, want=lambda a: a.ndim == len(s) and a.shape[:-1] == s[:-1])
            return self.one(f"np.tanh(np.swapaxes({v}, -1, -2) @ {u} * 0.2)")
        if draw < 0.8:
            u = self.pick(1, want=lambda a: a.shape[-1] == s[-1])
            return self.one(f"np.einsum('...k,...k->...', {v}, {u}) * 0.2")
        u = self.pick(2, 2, want=lambda a: a.shape[0] == s[-1])
        return self.one(self.act(f"np.einsum('...k,km->...m', {v}, {u}) * 0.3"))

    def unary(self):
        return self.one(self.act(self.pick()))

    def binary(self):
        a = self.pick()
        s = self.shape(a)
        draw = self.rng.random()
        b = self.pick(want=lambda v: v.shape == s) if draw < 0.6 else self.pick()
        return self.one(str(self.rng.choice(PAIRS)).format(a, b))

    def residual(self):
        v = self.pick(2)
        k, m = self.shape(v)[-1], self.size()
        a, b = self.param((k, m), k**-0.5), self.param((m, k), m**-0.5)
        return self.one(f"{v} + {self.act(f'{v} @ {a}')} @ {b}")

    def norm(self):
        v = self.pick(1)
        n = self.new()
        ax = int(self.rng.choice([-1, -1, -1, 0]))
        m = f"{v} - {v}.mean({ax}, keepdims=True)"
        lines = [
            f"{n} = {m}",
            f"{n} = {n} / np.sqrt(np.mean({n} * {n}, {ax}, keepdims=True) + 0.1)",
        ]
        if self.rng.random() < 0.5:
            k = self.shape(v)[-1]
            lines.append(f"{n} = {n} * {self.param((k,))} + {self.param((k,), 0.3)}")
        return lines, [n]

    def softmax(self):
        v = self.pick(1)
        n, ax = self.new(), self.axis(v)
        lines = [f"{n} = np.exp({v} - np.max({v}, {ax}, keepdims=True))",
                 f"{n} = {n} / np.sum({n}, {ax}, keepdims=True)"]  # fmt: skip
        if self.rng.random() < 0.3:
            lines.append(f"{n} = np.log({n} + 0.01)")
        return lines, [n]

    def attention(self):
        v = self.pick(2, 3)
        k, m = self.shape(v)[-1], self.size()
        q, s, u, n = self.new(), self.new(), self.new(), self.new()
        w = [self.param((k, m), k**-0.5) for _ in range(3)]
        lines = [f"{q} = {v} @ {w[0]}", f"{s} = {q} @ np.swapaxes({v} @ {w[1]}, -1, -2)"]
        t = f"{v}.shape[-2]"
        draw = self.rng.random()
        if draw < 0.4:
            low = self.rng.choice(["-1e9", "-np.inf"])
            lines.append(f"{s} = np.where(np.tril(np.ones(({t}, {t}), bool)), {s}, {low})")
        elif draw < 0.6:
            lines.append(f"{s} = np.where({v}[..., :1] > -0.5, {s}, -5.0)")
        lines += [f"{u} = np.exp({s} - {s}.max(-1, keepdims=True))",
                  f"{n} = ({u} / {u}.sum(-1, keepdims=True)) @ ({v} @ {w[2]})"]  # fmt: skip
        return lines, [n]

    def heads(self):
        v = self.pick(2, 2)
        k = self.shape(v)[-1]
        h, m = int(self.rng.choice([2, 3, 4])), int(self.rng.choice([1, 2, 4, 8]))
        q, s, n = self.new(), self.new(), self.new()
        w = self.param((k, 3 * h * m), k**-0.5)
        lines = [f"{q} = ({v} @ {w}).reshape(-1, 3, {h}, {m}).transpose(1, 2, 0, 3)",
                 f"{s} = np.exp({q}[0] @ {q}[1].transpose(0, 2, 1) * {m**-0.5:.4f} * 0.5)",
                 f"{n} = (({s} / {s}.sum(-1, keepdims=True)) @ {q}[2])",
                 f"{n} = {n}.transpose(1, 0, 2).reshape(-1, {h * m})"]  # fmt: skip
        return lines, [n]

    def join(self):
        v = self.pick(1)
        ax, s = self.axis(v), self.shape(v)

        def fits(a):
            return a.ndim == len(s) and all(a.shape[d] == s[d] for d in range(len(s)) if d != ax)

        parts = [v, *(self.pick(want=fits) for _ in range(int(self.rng.integers(1, 4))))]
        if self.rng.random() < 0.4:
            parts = [self.act(a) if self.rng.random() < 0.6 else a for a in parts]
        if self.rng.random() < 0.3:
            parts = [f"np.flip({a}, {ax})" if self.rng.random() < 0.4 else a for a in parts]
        return self.one(f"np.concatenate([{', '.join(parts)}], {ax})")

    def stack(self):
        v = self.pick(0, 3)
        s = self.shape(v)
        parts = [v, *(self.pick(want=lambda a: a.shape == s) for _ in range(self.rng.integers(3)))]
        if self.rng.random() < 0.5:
            parts = [self.act(a) for a in parts]
        return self.one(f"np.stack([{', '.join(parts)}], {int(self.rng.integers(len(s) + 1))})")

    def split(self):
        v = self.pick(1)
        ax = self.axis(v)
        n = self.shape(v)[ax]
        a, b = self.new(), self.new()
        at = int(self.rng.integers(0, n + 1))
        return [f"{a}, {b} = np.split({v}, [{at}], {ax})"], [a, b]

    def index(self, n: int) -> str:
        draw = self.rng.random()
        k = int(self.rng.integers(0, n + 1))
        if draw < 0.25:
            return ":"
        if draw < 0.4:
            return f"{k}:"
        if draw < 0.55:
            return f":{k}"
        if draw < 0.7:
            return f"::{self.rng.choice([2, 3, -1, -2])}"
        if draw < 0.8:
            return f"{-1 - int(self.rng.integers(n))}"
        return f"{k}::{self.rng.choice([1, 2])}"

    def cut(self):
        v = self.pick(1)
        at = ", ".join(self.index(n) for n in self.shape(v))
        return self.one(f"{v}[{at}]")

    def moved(self):
        v = self.pick(1, 4)
        s = self.shape(v)
        ax = self.axis(v)
        order = ", ".join(map(str, self.rng.permutation(len(s))))
        return self.one(str(self.rng.choice([
            f"np.flip({v}, {ax})", f"np.roll({v}, {self.rng.integers(-3, 4)}, {ax})",
            f"np.transpose({v}, ({order}))", f"{v}.T", f"{v}.reshape(-1)",
            f"np.expand_dims({v}, {ax})",
            f"{v}.reshape({s[0]}, -1)", f"{v}.reshape(-1, {s[-1]})", f"np.repeat({v}, 2, {ax})",
            f"np.tile({v}, 2)", f"np.pad({v}, 1)", f"np.diff({v}, axis={ax})",
            f"np.moveaxis({v}, {ax}, 0)", f"np.squeeze({v}[None])", f"np.triu(np.atleast_2d({v}))",
        ])))  # fmt: skip

    def reduction(self):
        v = self.pick(1)
        rank = len(self.shape(v))
        axes = sorted(int(a) for a in self.rng.permutation(rank)[: self.rng.integers(1, rank + 1)])
        at = "None" if self.rng.random() < 0.1 else str(tuple(axes))
        keep = ", keepdims=True" if self.rng.random() < 0.4 else ""
        return self.one(str(self.rng.choice(REDUCTIONS)).format(v, f"axis={at}{keep}"))

    def centred(self):
        """What a reduction says about all, brought back to each."""
        v = self.pick(1)
        r = str(self.rng.choice(REDUCTIONS)).format(v, f"axis={self.axis(v)}, keepdims=True")
        return self.one(self.rng.choice([f"{v} - {r}", f"{v} * {r} * 0.3", f"{v} / ({r} + 9)"]))

    def running(self):
        v = self.pick(1)
        ax = self.axis(v)
        return self.one(self.rng.choice([
            f"np.cumsum({v}, {ax}) * 0.1", f"np.sort({v}, {ax})", f"np.median({v}, {ax})",
            f"np.cumprod(1 + 0.1 * np.tanh({v}), {ax})", f"np.trapezoid({v}, axis={ax}) * 0.2"
            if hasattr(np, "trapezoid") else f"np.trapz({v}, axis={ax}) * 0.2",
        ]))  # fmt: skip

    def chosen(self):
        """By exact tests, of what was given."""
        v = self.pick(1)
        rows = "" if len(self.shape(v)) < 2 else "[:, None]"
        test = self.rng.choice([f"(x[:, 0] > 0.1){rows}", f"(i % 2 == 0){rows}",
                                f"~(y[:, -1] < 0){rows}"])  # fmt: skip
        other = self.rng.choice(["0", f"{v} * 0.3", f"np.sqrt(np.abs({v}) + 0.1)", "1.5"])
        return self.one(f"np.where({test}, np.exp(-np.abs({v})), {other})")

    def gather(self):
        v = self.pick(1)
        ax, s = self.axis(v), self.shape(v)
        n = s[ax]
        if self.rng.random() < 0.3:
            k = self.size()
            w = self.param((max(self.d, 2), k))
            return self.one(self.rng.choice([f"{w}[i]", f"np.take({w}, i, 0)", f"{w}.T[:, i]"]))
        at = self.rng.integers(-n, n, int(self.rng.integers(1, 6)))
        index = f"np.array({at.tolist()})"
        return self.one(self.rng.choice([
            f"np.take({v}, {index}, {ax})", f"{v}[(slice(None),) * {ax} + ({index},)]",
            f"{v}[..., {index} % {s[-1]}]", f"{v}[i % {s[0]}]",
            f"{v}[{index} % {s[0]}, {index} % {s[-1]}]",
            f"np.take_along_axis({v}, (np.argsort({v}, {ax})), {ax})",
        ]))  # fmt: skip

    def scatter(self):
        v = self.pick(1, 3)
        s = self.shape(v)
        n = self.new()
        if self.rng.random() < 0.5:
            u = self.pick(want=lambda a: a.shape == s)
        else:
            u = self.pick()
        at = ", ".join(self.index(k) for k in s)
        flat = self.rng.integers(-s[0], s[0], 3).tolist()
        changes = [
            f"{n}[{at}] += {u}[{at}]", f"{n}[{at}] *= 0.5", f"{n}[{at}] = 0.7",
            f"{n}[{at}] = np.tanh({u})[{at}]", f"{n}[{flat}] += 0.3", f"{n}[i % {s[0]}] += 0.2",
            f"np.add.at({n}, i % {s[0]}, 0.1)", f"{n}[{n} > 0.6] = 0.6", f"{n} *= 0.9",
            f"{n}[{flat}] = {u}[{flat}]", f"{n} += {u}", f"{n}[0], {n}[-1] = {n}[-1], {n}[0] * 0.5",
        ]  # fmt: skip
        start = self.rng.choice([f"{v}.copy()", f"np.zeros_like({v})", f"1.0 * {v}",
                                 f"np.tanh({v})"])  # fmt: skip
        picked = self.rng.choice(changes, int(self.rng.integers(1, 4)))
        return [f"{n} = {start}", *picked], [n]

    def images(self):
        v = self.pick(2)
        n = int(np.prod(self.shape(v)[1:]))
        c = int(self.rng.choice([c for c in (1, 2, 3, 4) if n % c == 0]))
        n //= c
        h = int(self.rng.choice([h for h in range(1, n + 1) if n % h == 0]))
        w, m = n // h, int(self.rng.choice([1, 2, 3, 5, 8]))
        kh, kw = (int(min(self.rng.integers(1, 4), k)) for k in (h, w))
        name = self.new()
        stride, pad = int(self.rng.choice([1, 1, 1, 2])), int(self.rng.choice([0, 0, 1]))
        filters = self.param((m, c, kh, kw), (c * kh * kw) ** -0.5)
        how = f"stride={stride}, padding={pad}"
        if self.rng.random() < 0.2:
            how = "padding='same'"
        bias = self.param((m,), 0.3) if self.rng.random() < 0.6 else "None"
        lines = [f"{name} = {v}.reshape(-1, {c}, {h}, {w})",
                 f"{name} = gc.nn.conv2d({name}, {filters}, {bias}, {how})"]  # fmt: skip
        if self.rng.random() < 0.6:
            lines.append(f"{name} = {self.act(name)}")
        if self.rng.random() < 0.5 and min(h, w) > 3:
            lines.append(f"{name} = gc.nn.max_pool2d({name}, 2{self.rng.choice(['', ', 1'])})")
        if self.rng.random() < 0.7:
            lines.append(f"{name} = {name}.reshape({name}.shape[0], -1)")
        return lines, [name]

    def windowed(self):
        v = self.pick(1, 3)
        ax = self.axis(v)
        w = int(self.rng.integers(1, min(4, self.shape(v)[ax]) + 1))
        view = f"np.lib.stride_tricks.sliding_window_view({v}, {w}, {ax})"
        return self.one(self.rng.choice([f"{view}.mean(-1)", f"{view}.max(-1)", view,
                                         f"{view} @ {self.param((w,))}"]))  # fmt: skip

    def algebra(self):
        v = self.pick(2, 2, want=lambda a: a.shape[-1] <= 9)
        k = self.shape(v)[-1]
        a, n = self.new(), self.new()
        return [
            f"{a} = {v}.T @ {v} * 0.2 + 2 * np.eye({k}, dtype={v}.dtype)",
            f"{n} = " + self.rng.choice([
                f"np.linalg.solve({a}, {v}.T).T", f"np.linalg.cholesky({a})", f"np.linalg.inv({a})",
                f"np.log(np.linalg.det({a}))", f"np.linalg.slogdet({a})[1] * 0.3",
                f"np.linalg.eigvalsh({a})", f"np.trace({a}) * 0.1", f"np.linalg.qr({a})[1]",
            ]),
        ], [n]  # fmt: skip

    def contraction(self):
        a = self.pick(2, 3)
        letters = "abc"[: len(self.shape(a))]
        k = self.size()
        w = self.param((self.shape(a)[-1], k), 0.3)
        out = "".join(self.rng.permutation([*letters[:-1], "z"]))
        return self.one(f"np.einsum('{letters},{letters[-1]}z->{out}', {a}, {w})")

    def converted(self):
        v = self.pick()
        other = "float64" if self.dtype == np.float32 else "float32"
        if self.dtype == np.float64:
            other = "float64"
        return self.one(self.rng.choice([
            f"np.tanh({v}.astype(np.{other})).astype(np.{self.dtype})",
            f"{v} + (i.sum() % 3)", f"{v} * np.float32(0.5)",
            f"np.floor(x[:, 0] * 2).sum() * 0.01 + {v}",
            f"{v} * (x[0, 0] > 0.1)", f"gc.stop_gradient({v}) * {v}", f"{v} + x.shape[0] * 0.001",
        ]))  # fmt: skip

    def again(self):
        """Checkpointed, or mapped, or differentiated within."""
        v = self.pick(1)
        body = self.act(f"a * {self.act('a')}")
        lines = [f"np.tanh(gc.checkpoint(lambda a: {body})({v}))", f"gc.map(lambda a: {body}, {v})",
                 f"gc.checkpoint(lambda a, w: np.tanh(a @ w) * 0.5)({v}, "
                 f"{self.param((self.shape(v)[-1], self.size()))})"]  # fmt: skip
        return self.one(self.rng.choice(lines))

    # --------------------------------------------------------------------------------- loops

    def layers(self):
        v = self.pick(1, 3)
        k = self.shape(v)[-1]
        count = int(self.rng.choice([2, 3, 5, 16, 17, 33]))
        n = self.new()
        name = f"w{len(self.params)}"
        kind = self.rng.integers(4)
        scale = 0.7 * k**-0.5
        if kind == 0:
            self.params[name] = [(self.normal((k, k), scale), self.normal((k,), 0.2))
                                 for _ in range(count)]  # fmt: skip
            body = [f"for w, b in p['{name}']:", f"    {n} = {self.act(f'{n} @ w + b')}"]
        elif kind == 1:
            self.params[name] = [self.normal((k, k), scale) for _ in range(count)]
            body = [f"for w in p['{name}']:", f"    {n} = np.tanh({n} + np.sin({n} @ w))"]
        elif kind == 2:
            self.params[name] = self.normal((count, k, k), scale)
            body = [f"for t in range({count}):", f"    {n} = np.tanh({n} @ p['{name}'][t])"]
        else:
            shapes = {"a": (k, 2 * k), "b": (2 * k, k)}
            self.params[name] = [
                {"g": self.normal((k,)), **{w: self.normal(c, scale) for w, c in shapes.items()}}
                for _ in range(count)
            ]
            body = [f"for w in p['{name}']:",
                    f"    h = {n} - {n}.mean(-1, keepdims=True)",
                    "    h = h / np.sqrt(np.mean(h * h, -1, keepdims=True) + 0.1) * w['g']",
                    f"    {n} = {n} * 0.7 + 0.2 * np.tanh(h @ w['a']) @ w['b']"]  # fmt: skip
        return [f"{n} = {v}", *body], [n]

    def unrolled(self):
        v = self.pick(2, 3)
        rows = self.shape(v)[1]
        k = int(np.prod(self.shape(v)[2:]))
        n, ys = self.new(), self.new()
        count = min(rows, int(self.rng.choice([2, 3, 7, 20, 40])))
        m = int(self.rng.choice([1, 2, 4]))
        lines = [f"{n} = np.zeros((x.shape[0], {m}), {v}.dtype)", f"{ys} = []",
                 f"for t in range({count}):",
                 f"    {n} = np.tanh({v}[:, t].reshape(-1, {k}) @ {self.param((k, m))} + "
                 f"{n} @ {self.param((m, m), 0.5)})",
                 f"    {ys}.append({n}{self.rng.choice(['', '.sum(-1)', ' * 2'])})",
                 f"{ys} = np.stack({ys}, {self.rng.choice([0, 1])})"]  # fmt: skip
        return lines, [n, ys]

    def scan(self):
        v = self.pick(2, 3)
        s = self.shape(v)
        part = s[1:]
        k = part[-1]
        m = self.size()
        n, ys = self.new(), self.new()
        w, u = self.param((k, m), k**-0.5), self.param((m, m), 0.6 * m**-0.5)
        lead = part[:-1]
        kind = int(self.rng.integers(6))
        zero = f"np.zeros({_dims((*lead, m))}, {v}.dtype)"
        opts = self.rng.choice(["", ", reverse=True", ", checkpoint=2"])
        if kind == 0:
            body = [
                f"    h = {self.act(f'a @ {w} + c @ {u}')}",
                "    h = np.tanh(h)",
                f"    return h, {self.rng.choice(['h', 'h.sum(-1)', 'c', 'np.sin(h) * c'])}",
            ]
            start, first = zero, n
        elif kind == 1:  # carries of several kinds
            body = ["    h, k, s = c", f"    h = np.tanh(a @ {w} + h @ {u})",
                    "    g = np.where(k % 2 == 0, h, 0.5 * h)",
                    "    return (g, k + 1, s * 0.9 + np.sum(a) * 0.1), (g, s)"]  # fmt: skip
            start, first = f"({zero}, 0, 0.5)", f"({n}, _, _)"
        elif kind == 2:  # they change places
            body = [
                "    h, g = c",
                f"    return (g, np.tanh(h + a @ {w} * 0.5)), np.concatenate([h, g], -1)",
            ]
            start, first = f"({zero}, {zero} + 1)", f"({n}, _)"
        elif kind == 3:  # a loop inside
            body = [f"    h = gc.fori_loop(0, {int(self.rng.integers(0, 4))}, "
                    f"lambda t, h: np.tanh(h @ {u} + t * 0.1), c + a @ {w})",
                    "    h = np.sin(h)", "    return h, h"]  # fmt: skip
            start, first = zero, n
        elif kind == 4:  # a choice inside
            body = [f"    h = gc.cond(np.sum(a) > 0.0137, lambda h: np.tanh(h @ {u}), "
                    "lambda h: h * 0.5, c)",
                    f"    h = h + 0.3 * np.tanh(a @ {w})", "    h = np.sin(h)",
                    "    return h, np.max(h, -1)"]  # fmt: skip
            start, first = zero, n
        else:  # an LSTM
            w, u = self.param((k, 4 * m), k**-0.5), self.param((m, 4 * m), m**-0.5)
            body = ["    h, s = c", f"    z = a @ {w} + h @ {u}",
                    "    q, f, o, g = np.split(z, 4, -1)" if self.rng.random() < 0.5 else
                    f"    q, f, o, g = (z[..., {m} * t : {m} * t + {m}] for t in range(4))",
                    "    s = s / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-q))",
                    "    h = np.tanh(s) / (1 + np.exp(-o))", "    return (h, s), h"]  # fmt: skip
            start, first = f"({zero}, {zero})", f"({n}, _)"
        result = f"({ys}, _)" if kind == 1 else ys
        return [f"def step{n}(c, a):", *body,
                f"{first}, {result} = gc.scan(step{n}, {start}, {v}{opts})"], [n, ys]  # fmt: skip

    def fori(self):
        v = self.pick(0, 3)
        count = int(self.rng.choice([0, 1, 2, 3, 7, 20]))
        n = self.new()
        bound = self.rng.choice([str(count), "i.sum() % 5", f"{count}"])
        ck = self.rng.choice(["", ", checkpoint=True"])
        draw = self.rng.random()
        if draw < 0.5:
            body = self.act("h * 0.9 + t * 0.01")
            return [
                f"{n} = gc.fori_loop(0, {bound}, lambda t, h: np.tanh({body}), 1.0 * {v}{ck})"
            ], [n]
        body = "(np.sin(c[0] + c[1].sum() * 0.01), np.tanh(c[0]))"
        start = f"(1.0 * {v}, 0.5 * {v})"
        return [f"{n}, _ = gc.fori_loop(0, {bound}, lambda t, c: {body}, {start}{ck})"], [n]

    def loop_while(self):
        v = self.pick(0, 2)
        n = self.new()
        limit = int(self.rng.integers(0, 6))
        return [f"_, {n} = gc.while_loop(lambda c: c[0] < {limit} + i.sum() % 3, "
                f"lambda c: (c[0] + 1, np.tanh({self.act('c[1]')})), (0, 1.0 * {v})"
                + self.rng.choice([")", ", max_steps=9)", ", checkpoint=True)"])], [n]  # fmt: skip

    def branch(self):
        v = self.pick(0)
        n = self.new()
        test = self.rng.choice(["x[0, 0] > 0", "i.sum() % 2 == 0", "y.shape[0] > 3"])
        if test.startswith("y"):
            return [f"{n} = {self.act(v)} if {test} else {self.act(v)}"], [n]
        if self.rng.random() < 0.3:
            return [
                f"if {test}:",
                f"    {n} = {self.act(v)}",
                "else:",
                f"    {n} = {self.act(v)}",
            ], [n]
        return [
            f"{n} = gc.cond({test}, lambda a: {self.act('a')}, lambda a: {self.act('a')}, {v})"
        ], [n]


KINDS = [
    *["dense"] * 6, *["product"] * 3, *["unary"] * 4, *["binary"] * 6, *["residual"] * 2,
    *["norm"] * 3, *["softmax"] * 3, "attention", "attention", "heads", *["join"] * 8,
    *["stack"] * 3, *["split"] * 4, *["cut"] * 5, *["moved"] * 4, *["reduction"] * 5,
    *["centred"] * 4, *["running"] * 2, *["chosen"] * 2, *["gather"] * 4, *["scatter"] * 4,
    *["images"] * 3, *["windowed"] * 2, "algebra", *["contraction"] * 2, *["converted"] * 2,
    *["again"] * 2, *["layers"] * 2, *["unrolled"] * 2, *["scan"] * 4, "fori", "loop_while",
    *["branch"] * 2,
]  # fmt: skip
