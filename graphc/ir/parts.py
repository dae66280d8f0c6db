"""Complex values as two real arrays, the real and the imaginary part.

Derivatives and compiled code see real values only: both take a graph in parts. A complex node
becomes two real ones by the formula of its op; what only moves elements does so with each part.
The formulas select between cases instead of taking absolute values or the larger of two, so that
derivatives of any order are right on the axes and diagonals too.

Sources: Kahan 1987, "Branch cuts for complex elementary functions"; Smith 1962, "Algorithm 116:
complex division".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from graphc.errors import DTypeError
from graphc.ir import build
from graphc.ir.control import CONTROL, operands
from graphc.ir.graph import Graph, Source, inherit, rebuild, topological
from graphc.ir.matrix import add as _add
from graphc.ir.matrix import scaled as _scaled
from graphc.ir.matrix import sub as _sub
from graphc.ir.node import Node
from graphc.ir.rules import Rules
from graphc.ir.types import TensorType

op = build.elementwise


class Parts(NamedTuple):
    """Real and imaginary part, of one real dtype and shape."""

    re: Node
    im: Node


Value = Node | Parts
#: ``rule(node, *inputs)``: the parts of a complex node, or a real node that reads complex ones.
Rule = Callable[..., Value]
RULES: Rules[Rule] = Rules()
rule = RULES.declare


def is_complex(node: Node) -> bool:
    return node.dtype.kind == "c"


def real_dtype(dtype) -> np.dtype:
    """float32 of complex64, float64 of complex128."""
    return np.dtype(dtype).type(0).real.dtype


def join(parts: Parts) -> Node:
    """The complex node of two parts."""
    return build.make("complex", parts)


def parts_of(node: Node) -> Parts:
    """The two parts of any complex node, as nodes that read it."""
    if node.op == "complex":
        return Parts(*node.inputs)
    return Parts(build.make("real", (node,)), build.make("imag", (node,)))


def split(
    roots: Iterable[Node],
    known: Mapping[Node, Value],
    whole: Collection[Node] = (),
    sources: dict[Node, Source] | None = None,
) -> list[Value]:
    """``roots`` with all complex values below them in parts.

    ``known`` gives the parts of some nodes; those of ``whole``, of inputs and of placeholders are
    read from the complex node. Raises DTypeError at an op without a rule.
    """
    roots, sources = tuple(roots), {} if sources is None else sources
    new: dict[Node, Value] = dict(known)
    for node in topological(roots, until={*new, *whole}):
        if node not in new:
            new[node] = value = _split(node, node in whole, new, sources)
            if node in sources:
                for part in _flat(value if isinstance(value, list) else [value]):
                    inherit(sources, part, sources[node])
    return [new[r] for r in roots]


def _split(node: Node, whole: bool, new: Mapping[Node, Value], sources) -> Value:
    if whole or node.op in ("input", "placeholder"):
        return parts_of(node) if is_complex(node) else node
    inputs = [new[i] for i in node.inputs]
    if node.op == "item" and isinstance(inputs[0], list):
        return inputs[0][node.attr("index")]
    if node.op in CONTROL and any(map(has_complex, _bodies(node))):
        return _control(node, inputs, sources)
    if not is_complex(node) and not any(isinstance(i, Parts) for i in inputs):
        return rebuild(node, tuple(inputs))
    if node.op not in RULES:
        where = f"\n  at {sources[node]} in {sources[node].function}" if node in sources else ""
        raise DTypeError(
            f"{node.op} : {node.type} of complex values is neither compiled nor differentiated"
            f"{where}\n  compute with the real and the imaginary part, or evaluate with "
            "graphc.interpret(f)"
        )
    return RULES[node.op](node, *inputs)


def _bodies(node: Node) -> list[Graph]:
    return [value for _, value in node.attrs if isinstance(value, Graph)]


def has_complex(graph: Graph) -> bool:
    """Whether a graph, or a body in it, has complex values."""
    return any(is_complex(n) for n in (*graph.order, *graph.inputs)) or any(
        has_complex(body) for n in graph.order if n.op in CONTROL for body in _bodies(n)
    )


def _flat(values: Iterable[Value]) -> list[Node]:
    return [n for v in values for n in (v if isinstance(v, Parts) else (v,))]


def _control(node: Node, inputs: list[Value], sources) -> list[Value]:
    """The results of a loop or a choice, each complex operand and result as two."""
    attrs = dict(node.attrs)
    for key, value in node.attrs:
        if isinstance(value, Graph):
            attrs[key] = _body_in_parts(value, sources)
    if node.op == "loop":
        of = operands(node)
        for key, group in (("carries", of.init), ("xs", of.xs)):
            attrs[key] = sum(1 + is_complex(n) for n in group)
    results = iter(build.items(build.make(node.op, _flat(inputs), **attrs)))
    return [
        Parts(next(results), next(results)) if kind.dtype.kind == "c" else next(results)
        for kind in node.type.items
    ]


def _body_in_parts(body: Graph, sources) -> Graph:
    known: dict[Node, Value] = {}
    inputs: list[Node] = []

    def new(name: str, dtype, shape) -> Node:
        inputs.append(build.input(len(inputs), name, TensorType(np.dtype(dtype), shape)))
        return inputs[-1]

    for node in body.inputs:
        name = node.attr("name")
        if is_complex(node):
            dtype = real_dtype(node.dtype)
            known[node] = Parts(*(new(f"{name} {p}", dtype, node.shape) for p in ("re", "im")))
        else:
            known[node] = new(name, node.dtype, node.shape)
    values = split(body.outputs, known, sources=sources)
    return Graph(body.name, tuple(inputs), tuple(_flat(values)), body.sources)


def in_parts(graph: Graph) -> Graph:
    """``graph`` without complex values. A complex input or output is a real array with one more
    axis of size 2 at its end, which is what its memory holds."""
    if not has_complex(graph):
        return graph
    known: dict[Node, Value] = {}
    inputs = []
    for node in graph.inputs:
        if is_complex(node):
            kind = TensorType(real_dtype(node.dtype), (*node.shape, 2))
            pairs = build.input(node.attr("index"), node.attr("name"), kind)
            known[node] = Parts(*(of_pairs(pairs, k) for k in (0, 1)))
            inputs.append(pairs)
        else:
            inputs.append(node)
    sources = dict(graph.sources)
    values = split(graph.outputs, known, sources=sources)
    outputs = [as_pairs(v) if isinstance(v, Parts) else v for v in values]
    return Graph(graph.name, tuple(inputs), tuple(outputs), sources, graph.donated, graph.rows)


def of_pairs(pairs: Node, k: int) -> Node:
    """Part ``k`` of an array with pairs along its last axis."""
    last = pairs.ndim - 1
    shape = pairs.shape[:last]
    part = build.slice_(pairs, (*[0] * last, k), (*shape, 1), [1] * pairs.ndim)
    return build.reshape(part, shape)


def as_pairs(parts: Parts) -> Node:
    """Both parts as pairs along a new last axis: what the memory of a complex array holds."""
    shape = parts.re.shape
    return build.concat([build.reshape(p, (*shape, 1)) for p in parts], len(shape))


# --------------------------------------------------------------------- real arithmetic, shortly


def _mul(x: Node, y: Node) -> Node:
    return op("mul", x, y)


def _div(x: Node, y: Node) -> Node:
    return op("div", x, y)


def _neg(x: Node) -> Node:
    return op("neg", x)


def _where(cond: Node, x: Node, y: Node) -> Node:
    return op("where", cond, x, y)


def _number(x: Node, value) -> Node:
    return build.full_like(x, value)


def _is_zero(x: Node) -> Node:
    return op("eq", x, _number(x, 0))


def constant(value: Value) -> complex | None:
    """The number that a value is everywhere, None where it is not one."""
    if isinstance(value, Parts):
        re, im = constant(value.re), constant(value.im)
        return None if re is None or im is None else complex(re.real, im.real)
    while value.op in ("broadcast", "reshape"):
        value = value.inputs[0]
    return complex(value.attr("value").array) if value.op == "const" and not value.ndim else None


def _by_size(re: Node, im: Node) -> tuple[Node, Node, Node]:
    """``(is_re, larger, smaller)`` of the parts by their magnitude, with their signs."""
    is_re = op("ge", op("abs", re), op("abs", im))
    return is_re, _where(is_re, re, im), _where(is_re, im, re)


def _slope(larger: Node, smaller: Node) -> Node:
    """``smaller / larger``, 0 where both are 0 (beside a zero a NaN counts as the smaller)."""
    zero = op("logical_and", _is_zero(larger), _is_zero(smaller))
    return _where(zero, _number(larger, 0), _div(smaller, _where(zero, _number(larger, 1), larger)))


def modulus(re: Node, im: Node) -> Node:
    """|z|, without overflow; its derivative at 0 is 0."""
    _, larger, smaller = _by_size(re, im)
    slope = _slope(larger, smaller)
    one = _number(slope, 1)
    value = _mul(op("abs", larger), op("sqrt", _add(one, _mul(slope, slope))))
    infinite = op("logical_or", op("isinf", re), op("isinf", im))
    return _where(infinite, _number(re, np.inf), value)


def _log_modulus(re: Node, im: Node) -> Node:
    """log |z|, accurate near |z| = 1 too."""
    _, larger, smaller = _by_size(re, im)
    size, one, half = op("abs", larger), _number(re, 1), 0.5
    slope = _slope(larger, smaller)
    far = _add(op("log", size), _scaled(op("log1p", _mul(slope, slope)), half))
    excess = _add(_mul(_sub(size, one), _add(size, one)), _mul(smaller, smaller))
    near = op("logical_and", op("gt", size, _number(re, 0.5)), op("lt", size, _number(re, 2)))
    close = _scaled(op("log1p", _where(near, excess, _number(re, 0))), half)
    return _where(near, close, far)


def _signed(x: Node) -> Node:
    """1 or -1 with the sign of ``x``, of a zero too."""
    return op("copysign", _number(x, 1), x)


# -------------------------------------------------------------------- complex arithmetic in parts


def multiply(a: Parts, b: Parts) -> Parts:
    return Parts(_sub(_mul(a.re, b.re), _mul(a.im, b.im)), _add(_mul(a.re, b.im), _mul(a.im, b.re)))


def divide(a: Parts, b: Parts) -> Parts:
    """Smith's quotient: no intermediate overflow."""
    if constant(b.im) == 0:
        return Parts(_div(a.re, b.re), _div(a.im, b.re))
    by_re, larger, smaller = _by_size(*b)
    slope = _slope(larger, smaller)
    scale = _div(_number(slope, 1), _add(larger, _mul(smaller, slope)))
    main, other = _where(by_re, a.re, a.im), _where(by_re, a.im, a.re)
    re = _mul(_add(main, _mul(other, slope)), scale)
    im = _mul(_sub(other, _mul(main, slope)), scale)
    return Parts(re, _where(by_re, im, _neg(im)))


def _conjugate(a: Parts) -> Parts:
    return Parts(a.re, _neg(a.im))


def _real(x: Node) -> Parts:
    return Parts(x, _number(x, 0))


def _polar(size: Node, angle: Node) -> Parts:
    return Parts(_mul(size, op("cos", angle)), _mul(size, op("sin", angle)))


def _exp(a: Parts) -> Parts:
    return _polar(op("exp", a.re), a.im)


def _log(a: Parts) -> Parts:
    return Parts(_log_modulus(*a), op("arctan2", a.im, a.re))


def _sqrt(a: Parts) -> Parts:
    x, y = a
    right = op("ge", x, _number(x, 0))
    size = op("sqrt", _scaled(_add(_where(right, x, _neg(x)), modulus(x, y)), 0.5))
    zero = _is_zero(size)
    twice = _where(zero, _number(x, 1), _scaled(size, 2))
    other = _div(y, twice)
    sign = _signed(y)
    return Parts(_where(right, size, _mul(other, sign)), _where(right, other, _mul(size, sign)))


def _times_i(a: Parts) -> Parts:
    return Parts(_neg(a.im), a.re)


def _over_i(a: Parts) -> Parts:
    return Parts(a.im, _neg(a.re))


def _through_i(fn: Callable[[Parts], Parts]) -> Callable[[Parts], Parts]:
    """``fn(i z) / i``."""
    return lambda a: _over_i(fn(_times_i(a)))


def _one_plus(a: Parts) -> Parts:
    return Parts(_add(_number(a.re, 1), a.re), a.im)


def _one_minus(a: Parts) -> Parts:
    return Parts(_sub(_number(a.re, 1), a.re), _neg(a.im))


def _sinh(a: Parts) -> Parts:
    x, y = a
    return Parts(_mul(op("sinh", x), op("cos", y)), _mul(op("cosh", x), op("sin", y)))


def _cosh(a: Parts) -> Parts:
    x, y = a
    return Parts(_mul(op("cosh", x), op("cos", y)), _mul(op("sinh", x), op("sin", y)))


def _cos(a: Parts) -> Parts:
    return _cosh(_times_i(a))


def _tanh(a: Parts) -> Parts:
    """(t + i u) / (1 + i t u) of the tangents t, u of the parts."""
    x, y = a
    t, u = op("tanh", x), op("tan", y)
    limit = _number(x, 40)
    inside = op("maximum", op("minimum", x, limit), _neg(limit))
    sech = _div(_number(x, 1), op("cosh", inside))  # 1 - t*t would cancel
    tt, uu, one = _mul(t, t), _mul(u, u), _number(x, 1)
    below = _add(one, _mul(tt, uu))
    return Parts(_div(_mul(t, _add(one, uu)), below), _div(_mul(u, _mul(sech, sech)), below))


def _arcsin(a: Parts) -> Parts:
    plus, minus = _sqrt(_one_plus(a)), _sqrt(_one_minus(a))
    below = _sub(_mul(plus.re, minus.re), _mul(plus.im, minus.im))
    over = _sub(_mul(minus.re, plus.im), _mul(minus.im, plus.re))
    return Parts(op("arctan2", a.re, below), op("arcsinh", over))


def _arccos(a: Parts) -> Parts:
    plus, minus = _sqrt(_one_plus(a)), _sqrt(_one_minus(a))
    over = _sub(_mul(plus.re, minus.im), _mul(plus.im, minus.re))
    return Parts(_scaled(op("arctan2", minus.re, plus.re), 2), op("arcsinh", over))


def _arccosh(a: Parts) -> Parts:
    plus = _sqrt(_one_plus(a))
    minus = _sqrt(Parts(_sub(a.re, _number(a.re, 1)), a.im))
    over = _add(_mul(minus.re, plus.re), _mul(minus.im, plus.im))
    return Parts(op("arcsinh", over), _scaled(op("arctan2", minus.im, plus.re), 2))


def _arctanh(a: Parts) -> Parts:
    x, y = a
    one, left = _number(x, 1), op("lt", x, _number(x, 0))
    size = _where(left, _neg(x), x)
    apart = _sub(one, size)
    ratio = _div(_scaled(size, 4), _add(_mul(apart, apart), _mul(y, y)))
    re = _scaled(op("log1p", ratio), 0.25)
    angle = op("arctan2", _scaled(y, 2), _sub(_mul(_sub(one, x), _add(one, x)), _mul(y, y)))
    return Parts(_where(left, _neg(re), re), _scaled(angle, 0.5))


def _expm1(a: Parts) -> Parts:
    x, y = a
    half = op("sin", _scaled(y, 0.5))
    less = _scaled(_mul(half, half), 2)
    re = _sub(_mul(op("expm1", x), op("cos", y)), less)
    return Parts(re, _mul(op("exp", x), op("sin", y)))


def _log1p(a: Parts) -> Parts:
    x, y = a
    half = _number(x, 0.5)
    near = op("logical_and", op("lt", op("abs", x), half), op("lt", op("abs", y), half))
    excess = _add(_mul(x, _add(_number(x, 2), x)), _mul(y, y))
    excess = _where(near, excess, _number(x, 0))
    whole = _one_plus(a)
    re = _where(near, _scaled(op("log1p", excess), 0.5), _log_modulus(*whole))
    return Parts(re, op("arctan2", y, whole.re))


def _reciprocal(a: Parts) -> Parts:
    return divide(_real(_number(a.re, 1)), a)


_MAPS: dict[str, Callable[[Parts], Parts]] = {
    "exp": _exp,
    "exp2": lambda a: _polar(op("exp2", a.re), _scaled(a.im, math.log(2))),
    "expm1": _expm1,
    "log": _log,
    "log2": lambda a: Parts(*(_scaled(p, 1 / math.log(2)) for p in _log(a))),
    "log10": lambda a: Parts(*(_scaled(p, 1 / math.log(10)) for p in _log(a))),
    "log1p": _log1p,
    "sin": _through_i(_sinh),
    "cos": _cos,
    "tan": _through_i(_tanh),
    "arcsin": _arcsin,
    "arccos": _arccos,
    "arctan": _through_i(_arctanh),
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "arcsinh": _through_i(_arcsin),
    "arccosh": _arccosh,
    "arctanh": _arctanh,
    "sqrt": _sqrt,
    "rsqrt": lambda a: _reciprocal(_sqrt(a)),
}
for _name, _function in _MAPS.items():
    RULES[_name] = lambda node, a, fn=_function: fn(a)

rule("mul")(lambda node, a, b: multiply(a, b))
rule("div")(lambda node, a, b: divide(a, b))


@rule("pow")
def _pow(node, a: Parts, b: Parts) -> Parts:
    """Small whole powers by products; else exp(b log a), 0**b as NumPy has it."""
    number = constant(b)
    if number is not None and number.imag == 0 and abs(number.real) <= 16:
        n = int(number.real)
        if n == number.real:
            power = _whole_power(a, abs(n))
            return _reciprocal(power) if n < 0 else power
    zero = op("logical_and", _is_zero(a.re), _is_zero(a.im))
    safe = Parts(_where(zero, _number(a.re, 1), a.re), a.im)
    value = _exp(multiply(b, _log(safe)))
    unit = op("logical_and", _is_zero(b.re), _is_zero(b.im))
    nothing, nan = _number(a.re, 0), _number(a.re, np.nan)
    positive = op("gt", b.re, nothing)
    at_zero = _where(unit, _number(a.re, 1), _where(positive, nothing, nan))
    beside = _where(op("logical_or", unit, positive), nothing, nan)
    return Parts(_where(zero, at_zero, value.re), _where(zero, beside, value.im))


def _whole_power(a: Parts, n: int) -> Parts:
    result = _real(_number(a.re, 1)) if n == 0 else None
    while n:
        if n & 1:
            result = a if result is None else multiply(result, a)
        n >>= 1
        a = multiply(a, a) if n else a
    return result


# ---------------------------------------------------------------- between real and complex values


rule("real")(lambda node, a: a.re)
rule("imag")(lambda node, a: a.im)
rule("complex")(lambda node, re, im: Parts(re, im))


@rule("const")
def _const(node) -> Parts:
    value = node.attr("value").array
    return Parts(build.const(value.real), build.const(value.imag))


@rule("iota", "size")
def _counted(node) -> Parts:
    dtype = real_dtype(node.dtype).name
    return _real(build.make(node.op, (), **{**dict(node.attrs), "dtype": dtype}))


@rule("cast")
def _cast(node, a: Value) -> Value:
    """To bool: whether it is not 0; to real numbers: the real part."""
    if isinstance(a, Parts):
        if is_complex(node):
            return Parts(*(build.cast(p, real_dtype(node.dtype)) for p in a))
        return _nonzero(a) if node.dtype == bool else build.cast(a.re, node.dtype)
    return _real(build.cast(a, real_dtype(node.dtype)))


def _nonzero(a: Parts) -> Node:
    return op("logical_or", *(op("ne", p, _number(p, 0)) for p in a))


@rule("logical_and", "logical_or", "logical_xor", "logical_not")
def _logical(node, *inputs: Parts) -> Node:
    return op(node.op, *(_nonzero(a) for a in inputs))


@rule("eq")
def _eq(node, a: Parts, b: Parts) -> Node:
    return op("logical_and", op("eq", a.re, b.re), op("eq", a.im, b.im))


@rule("ne")
def _ne(node, a: Parts, b: Parts) -> Node:
    return op("logical_or", op("ne", a.re, b.re), op("ne", a.im, b.im))


def _ordered(name: str, a: Parts, b: Parts) -> Node:
    """By the real parts, then the imaginary ones: NumPy's order."""
    strict = {"le": "lt", "ge": "gt"}.get(name, name)
    tie = op("logical_and", op("eq", a.re, b.re), op(name, a.im, b.im))
    numbers = op("logical_not", op("logical_or", op("isnan", a.im), op("isnan", b.im)))
    return op("logical_or", op("logical_and", op(strict, a.re, b.re), numbers), tie)


@rule("lt", "le", "gt", "ge")
def _order(node, a: Parts, b: Parts) -> Node:
    return _ordered(node.op, a, b)


@rule("maximum", "minimum")
def _extremum(node, a: Parts, b: Parts) -> Parts:
    first = _ordered("ge" if node.op == "maximum" else "le", a, b)
    first = op("logical_or", first, op("logical_or", *(op("isnan", p) for p in a)))
    return Parts(*(_where(first, x, y) for x, y in zip(a, b, strict=True)))


@rule("isnan", "isinf")
def _any_part(node, a: Parts) -> Node:
    return op("logical_or", *(op(node.op, p) for p in a))


@rule("isfinite")
def _both_parts(node, a: Parts) -> Node:
    return op("logical_and", *(op("isfinite", p) for p in a))


# ------------------------------------------------------------------------------- part by part


@rule(
    "neg", "add", "sub", "where", "stop_gradient", "reshape", "transpose", "broadcast", "slice",
    "windows", "pad", "concat", "take", "take_along", "scatter_add", "scatter_set", "sum",
    "cumsum",
)  # fmt: skip
def _each_part(node, *inputs: Value) -> Parts:
    return Parts(*(
        build.make(node.op, [i[k] if isinstance(i, Parts) else i for i in inputs],
                   **dict(node.attrs))
        for k in (0, 1)
    ))  # fmt: skip


@rule("barrier")
def _barrier(node, a: Value, after: Value) -> Value:
    after = after.re if isinstance(after, Parts) else after
    if isinstance(a, Parts):
        return Parts(*(build.barrier(p, after) for p in a))
    return build.barrier(a, after)


@rule("matmul", "conv")
def _bilinear(node, a: Parts, b: Parts) -> Parts:
    def product(x, y):
        return build.make(node.op, (x, y), **dict(node.attrs))

    return Parts(
        _sub(product(a.re, b.re), product(a.im, b.im)),
        _add(product(a.re, b.im), product(a.im, b.re)),
    )


def _piece(a: Parts, axis: int, start, count) -> Parts:
    def piece(x):
        size = [count if k == axis else d for k, d in enumerate(x.shape)]
        low = [start if k == axis else 0 for k in range(x.ndim)]
        return build.slice_(x, low, size, [1] * x.ndim)

    return Parts(*map(piece, a))


def _joined(pieces: Sequence[Parts], axis: int) -> Parts:
    return Parts(*(build.concat(column, axis) for column in zip(*pieces, strict=True)))


@rule("prod")
def _prod(node, a: Parts) -> Parts:
    """In halves, one axis after the other."""
    for axis in sorted(node.attr("axes"), reverse=True):
        rest = tuple(d for k, d in enumerate(a.re.shape) if k != axis)
        while (n := a.re.shape[axis].__index__()) > 1:
            half = n // 2
            product = multiply(_piece(a, axis, 0, half), _piece(a, axis, half, half))
            odd = [_piece(a, axis, 2 * half, 1)] if n % 2 else []
            a = _joined([product, *odd], axis)
        if n:
            a = Parts(*(build.reshape(p, rest) for p in a))
        else:
            a = _real(build.full(rest, 1, a.re.dtype))
    return a


@rule("cumprod")
def _cumprod(node, a: Parts) -> Parts:
    """By doubling: times itself shifted by 1, 2, 4, ..."""
    axis, shift = node.attr("axis"), 1
    n = a.re.shape[axis].__index__()
    while shift < n:
        product = multiply(_piece(a, axis, shift, n - shift), _piece(a, axis, 0, n - shift))
        a = _joined([_piece(a, axis, 0, shift), product], axis)
        shift *= 2
    return a
