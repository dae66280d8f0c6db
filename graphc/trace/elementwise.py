"""Elementwise functions: each ufunc is a rule over nodes of the dtypes that NumPy resolves."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.errors import DTypeError, ShapeError, SymbolicDimError
from graphc.ir import build, faults
from graphc.ir.build import elementwise as op
from graphc.ir.build import full_like
from graphc.ir.dims import Dim
from graphc.ir.node import Node
from graphc.ir.parts import Parts, is_complex, join, modulus, parts_of
from graphc.ir.types import is_supported_dtype
from graphc.trace import blame, special
from graphc.trace import scipy_special as _scipy_special  # noqa: F401 (its rules)
from graphc.trace.dispatch import FUNCTIONS, UFUNCS, implements
from graphc.trace.dtypes import (
    cast,
    common_dtype,
    converted,
    promotion_key,
    resolve,
    unknown_dtype,
)
from graphc.trace.source import operand_texts
from graphc.trace.storage import read_only
from graphc.wording import shape_text

_SYMBOLS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//",
    "remainder": "%", "power": "**", "matmul": "@", "equal": "==", "not_equal": "!=", "less": "<",
    "less_equal": "<=", "greater": ">", "greater_equal": ">=", "bitwise_and": "&",
    "bitwise_or": "|", "bitwise_xor": "^",
}  # fmt: skip


# ------------------------------------------------------------------------------- broadcasting


def broadcast_shapes(name: str, *shapes) -> tuple:
    """The joint shape by NumPy's rule; ShapeError names the operands as the user wrote them."""
    result: list = []
    for axis in range(-max(map(len, shapes), default=0), 0):
        joint = 1
        for shape in shapes:
            dim = shape[axis] if -axis <= len(shape) else 1
            if dim == 1 or dim == joint:
                continue
            if joint != 1:
                if isinstance(dim, Dim) or isinstance(joint, Dim):
                    raise SymbolicDimError(f"{name}: sizes {joint} and {dim} must be known")
                raise ShapeError(mismatch(name, shapes, f"{joint} != {dim}"))
            joint = dim
        result.append(joint)
    return tuple(result)


def mismatch(name: str, shapes, reason: str) -> str:
    """``W (64, 10) @ h (32, 64): 10 != 32`` in the user's names."""
    texts = operand_texts(len(shapes))
    parts = [
        f"`{text}` {shape_text(shape)}" if text else shape_text(shape)
        for text, shape in zip(texts, shapes, strict=True)
    ]
    if len(parts) == 2 and name in _SYMBOLS:
        return f"{parts[0]} {_SYMBOLS[name]} {parts[1]}: {reason}"
    return f"{name if '.' in name else 'np.' + name} of {', '.join(parts)}: {reason}"


def fit(tracer, dtype, shape) -> Node:
    """The tracer's node in ``dtype``, broadcast to ``shape``."""
    return build.broadcast_to(converted(tracer, dtype), shape)


def fit_all(context, name: str, *values) -> list[Node]:
    """Values in their common dtype and shape."""
    tracers = [context.lift(v) for v in values]
    dtype = common_dtype(*tracers)
    shape = broadcast_shapes(name, *(t.shape for t in tracers))
    return [fit(t, dtype, shape) for t in tracers]


# ------------------------------------------------------------------------------- application


def _handler(ufunc: np.ufunc, name: str, function: Callable):
    def apply(context, *args, dtype=None):
        operands = [context.lift(a) for a in args]
        if ufunc in _COMPARISONS:
            operands = _comparable(context, operands)
        dtype = np.dtype(dtype) if dtype is not None else None
        keys = tuple(promotion_key(o) for o in operands)
        resolved = resolve(ufunc, keys, dtype)
        dtypes = resolved[: ufunc.nin]
        if any(d.kind == "O" for d in dtypes):  # comparisons of Python integers
            dtypes = (common_dtype(*operands),) * ufunc.nin
        # int64 with uint64 in comparisons; ldexp takes an exponent of its own kind
        if ufunc.nin == 2 and dtypes[0] != dtypes[1] and ufunc is not np.ldexp:
            dtypes = (np.result_type(*dtypes),) * 2
        if name.startswith("scipy.special."):  # orders and counts may be integers
            dtypes = (resolved[-1],) * ufunc.nin
        _refuse_half(context, name, operands, resolved)
        shape = broadcast_shapes(name, *(o.shape for o in operands))
        nodes = [fit(o, d, shape) for o, d in zip(operands, dtypes, strict=True)]
        result = function(*nodes)
        if isinstance(result, tuple):
            return tuple(context.wrap(r) for r in result)
        return context.wrap(result)

    apply.__name__ = ufunc.__name__
    return apply


_COMPARISONS = frozenset(
    {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal}
)


def _comparable(context, operands) -> list:
    """Integers and a Python int, which may be beyond what their dtype holds: both as int64."""
    weak = [o for o in operands if o.weak and o.dtype.kind in "iu"]
    rest = [o for o in operands if not o.weak and o.dtype.kind in "iu"]
    if len(weak) != 1 or len(rest) != 1:
        return operands
    reach = np.iinfo(rest[0].dtype)
    number = constant_scalar(weak[0].node)
    if number is not None and reach.min <= int(number) <= reach.max:
        return operands
    if number is not None and number > np.iinfo(np.int64).max:  # beyond each: as 1 is beyond 0
        x = full_like(rest[0].node, 0)
        return [context.wrap(full_like(x, 1) if o.weak else x) for o in operands]
    return [context.wrap(_as_int64(o.node)) for o in operands]


def _as_int64(x: Node) -> Node:
    if x.dtype != np.uint64:
        return cast(x, np.int64)
    most = np.iinfo(np.int64).max
    if x.op == "const" and x.ndim == 0:
        return build.const(min(int(x.attr("value").array), most), np.int64)
    return cast(op("minimum", x, full_like(x, most)), np.int64)


def _refuse_half(context, name: str, operands, dtypes) -> None:
    """NumPy computes np.sin(int8) in float16, which compiled code does not have."""
    half = np.dtype(np.float16)
    if context.takes_half or half not in dtypes or any(o.dtype == half for o in operands):
        return
    kinds = ", ".join(str(o.dtype) for o in operands)
    shown = name if "." in name else f"np.{name}"
    raise DTypeError(
        f"{shown} of {kinds} is float16 in NumPy, which compiled code does not have.\n"
        "Convert the argument: x.astype(np.float32)."
    )


def special_handler(ufunc: np.ufunc) -> Callable | None:
    """The handler of a ufunc of scipy.special, None where there is none."""
    name = ufunc.__name__.strip("_") if isinstance(ufunc, np.ufunc) else ""
    if not special.is_special(ufunc) or name not in special.RULES:
        return None
    return _handler(ufunc, f"scipy.special.{name}", special.RULES[name])


@implements(np.i0)
def i0(context, x):
    return special.twin(context, "i0", x)


def rule(*ufuncs: np.ufunc | None):
    """Declare the rule of ufuncs: nodes of the resolved dtypes and one shape -> node(s)."""

    def register(function):
        for ufunc in ufuncs:
            if ufunc is not None:
                UFUNCS[ufunc] = function
                FUNCTIONS[ufunc] = _handler(ufunc, ufunc.__name__, function)
        return function

    return register


def _primitive(name: str):
    return lambda *nodes: op(name, *nodes)


_SAME_NAME = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh tanh "
    "arcsinh arccosh arctanh sqrt cbrt maximum minimum arctan2 copysign isnan isinf isfinite "
    "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift gcd bitwise_count nextafter"
)
for _name in _SAME_NAME.split():
    rule(getattr(np, _name))(_primitive(_name))
for _name, _ufunc in (
    ("neg", np.negative), ("div", np.true_divide), ("floor_div", np.floor_divide),
    ("mod", np.remainder), ("eq", np.equal), ("ne", np.not_equal), ("lt", np.less),
    ("le", np.less_equal), ("gt", np.greater), ("ge", np.greater_equal),
    ("sub", np.subtract), ("abs", np.fabs),
):  # fmt: skip
    rule(_ufunc)(_primitive(_name))


def _is_float(x: Node) -> bool:
    return x.dtype.kind in "fc"


@rule(np.add)
def _add(x, y):
    return op("logical_or" if x.dtype == bool else "add", x, y)


@rule(np.multiply)
def _multiply(x, y):
    return op("logical_and" if x.dtype == bool else "mul", x, y)


for _name, _ufunc in (("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc)):
    rule(_ufunc)(lambda x, name=_name: op(name, x) if _is_float(x) else x)


@rule(np.rint)
def _rint(x):
    if not is_complex(x):
        return op("rint", x)
    return join(Parts(*(op("rint", part) for part in parts_of(x))))


@rule(np.positive)
def _identity(x):
    return x


@rule(np.conjugate)
def conjugate(x):
    if not is_complex(x):
        return x
    re, im = parts_of(x)
    return join(Parts(re, op("neg", im)))


@rule(np.absolute)
def _absolute(x):
    return modulus(*parts_of(x)) if is_complex(x) else op("abs", x)


@rule(np.sign)
def _sign(x):
    """Of complex numbers: z / |z|."""
    if not is_complex(x):
        return op("sign", x)
    size = modulus(*parts_of(x))
    zero = op("eq", size, full_like(size, 0))
    size = op("where", zero, full_like(size, 1), size)
    return join(Parts(*(op("div", p, size) for p in parts_of(x))))


@rule(np.square)
def _square(x):
    return _multiply(x, x)


@rule(np.reciprocal)
def _reciprocal(x):
    one = full_like(x, 1)
    if _is_float(x):
        return op("div", one, x)
    # The quotient rounds towards 0: 1 and -1 are their own reciprocals, all others give 0.
    is_unit = op("eq", op("abs", x) if x.dtype.kind == "i" else x, one)
    return op("where", is_unit, x, full_like(x, 0))


def constant_scalar(x: Node):
    """The value of a constant of equal elements, else None."""
    while x.op == "broadcast":
        x = x.inputs[0]
    return x.attr("value").array.item() if x.op == "const" and x.ndim == 0 else None


@rule(np.power, np.float_power, getattr(np, "pow", None))
def _power(x, y):
    exponent = constant_scalar(y)
    if x.dtype.kind in "iu":
        if exponent == 2:
            return op("mul", x, x)
        y = _not_negative(y)
    elif exponent in (1, 2, 3):  # as NumPy does itself for 2; exact derivatives
        return x if exponent == 1 else _square(x) if exponent == 2 else op("mul", _square(x), x)
    elif exponent == 0.5 and x.dtype.kind == "f":
        return op("sqrt", x)
    elif exponent == -1:
        return _reciprocal(x)
    return op("pow", x, y)


def _not_negative(y: Node) -> Node:
    """An integer exponent, checked now if it is known and else at run time."""
    below = y
    while below.op in ("broadcast", "reshape", "cast") and below.inputs[0].dtype.kind in "iub":
        below = below.inputs[0]
    if below.dtype.kind in "ub" or y.type.size == 0:
        return y
    value = blame.constant_value(below)
    if value is None:
        return build.refusing(y, op("lt", y, full_like(y, 0)), faults.NEGATIVE_POWER, y)
    if (value < 0).any():
        raise DTypeError(
            f"integers to the negative power {value.min()} are not integers; "
            "write np.power(x.astype(float), y)"
        )
    return y


@rule(np.fmod)
def _fmod(x, y):
    if x.dtype.kind == "u":
        return op("mod", x, y)
    if _is_float(x):
        return op("copysign", op("mod", op("abs", x), op("abs", y)), x)
    remainder, zero = op("mod", x, y), full_like(x, 0)  # has the sign of y; |x| may overflow
    differs = op("ne", op("lt", x, zero), op("lt", y, zero))
    moved = op("logical_and", differs, op("ne", remainder, zero))
    return op("where", moved, op("sub", remainder, y), remainder)


@rule(np.divmod)
def _divmod(x, y):
    return op("floor_div", x, y), op("mod", x, y)


@rule(np.modf)
def _modf(x):
    whole = op("trunc", x)
    fraction = op("where", op("isinf", x), full_like(x, 0), op("sub", x, whole))
    return op("copysign", fraction, x), whole


def truth(x: Node) -> Node:
    """``x != 0``."""
    return x if x.dtype == bool else op("ne", x, full_like(x, 0))


rule(np.logical_not)(lambda x: op("logical_not", truth(x)))
rule(np.logical_and)(lambda x, y: op("logical_and", truth(x), truth(y)))
rule(np.logical_or)(lambda x, y: op("logical_or", truth(x), truth(y)))
rule(np.logical_xor)(lambda x, y: op("logical_xor", truth(x), truth(y)))


@rule(np.deg2rad, np.radians)
def _deg2rad(x):
    return op("mul", x, full_like(x, math.pi / 180))


@rule(np.rad2deg, np.degrees)
def _rad2deg(x):
    return op("mul", x, full_like(x, 180 / math.pi))


@rule(np.hypot)
def _hypot(x, y):
    # Scaled by the larger side, as a constant to differentiation: no overflow, no new kinks.
    largest = op("maximum", op("abs", x), op("abs", y))
    usable = op("logical_and", op("isfinite", largest), truth(largest))
    scale = op("stop_gradient", op("where", usable, largest, full_like(x, 1)))
    a, b = op("div", x, scale), op("div", y, scale)
    value = op("mul", scale, op("sqrt", op("add", _square(a), _square(b))))
    infinite = op("logical_or", op("isinf", x), op("isinf", y))  # beside a NaN too
    return op("where", infinite, full_like(x, math.inf), value)


def _log_add(x, y, log1p, exp):
    # Of operands in order rather than of |x - y|: both orders are the same smooth function, so
    # that all derivatives are right where the operands are equal.
    first = op("gt", x, y)
    high, low = op("where", first, x, y), op("where", first, y, x)
    # Equal infinities have no difference.
    same = op("logical_and", op("eq", x, y), op("isinf", x))
    difference = op("where", same, full_like(x, 0), op("sub", low, high))
    return op("add", high, log1p(op(exp, difference)))


@rule(np.logaddexp)
def _logaddexp(x, y):
    for side, other in ((x, y), (y, x)):
        if constant_scalar(side) == 0:
            return op("softplus", other)
    return _log_add(x, y, lambda t: op("log1p", t), "exp")


@rule(np.logaddexp2)
def _logaddexp2(x, y):
    def log1p2(t):
        return op("mul", op("log1p", t), full_like(t, 1 / math.log(2)))

    return _log_add(x, y, log1p2, "exp2")


@rule(np.fmax)
def _fmax(x, y):
    return _skip_nan("maximum", x, y)


@rule(np.fmin)
def _fmin(x, y):
    return _skip_nan("minimum", x, y)


def _skip_nan(name, x, y):
    if not _is_float(x):
        return op(name, x, y)
    return op("where", op("isnan", x), y, op("where", op("isnan", y), x, op(name, x, y)))


@rule(np.heaviside)
def _heaviside(x, at_zero):
    zero = full_like(x, 0)
    step = op("where", op("gt", x, zero), full_like(x, 1), zero)
    step = op("where", op("eq", x, zero), at_zero, step)
    return op("where", op("isnan", x), x, step)


@rule(np.signbit)
def _signbit(x):
    if x.dtype.kind == "f":
        x = op("copysign", full_like(x, 1), x)
    return op("lt", x, full_like(x, 0))


@rule(np.lcm)
def _lcm(x, y):
    divisor = op("gcd", x, y)
    zero = full_like(x, 0)
    safe = op("where", op("eq", divisor, zero), full_like(x, 1), divisor)
    if x.dtype.kind == "i":
        x, y = op("abs", x), op("abs", y)
    return op("mul", op("floor_div", x, safe), y)


@rule(np.spacing)
def _spacing(x):
    """The distance to the next number away from zero, with the sign of x."""
    size = op("abs", x)
    last = op("eq", size, full_like(x, np.finfo(x.dtype).max))
    safe = op("where", last, op("mul", size, full_like(x, 0.5)), size)
    step = op("sub", op("nextafter", safe, full_like(x, math.inf)), safe)
    step = op("where", last, op("add", step, step), step)
    step = op("where", op("isfinite", x), op("copysign", step, x), full_like(x, math.nan))
    return op("stop_gradient", step)


def _scaled(x: Node, exponent: Node) -> Node:
    """``x * 2**exponent`` in steps that neither overflow nor round twice."""
    info = np.finfo(x.dtype)
    high, low = info.maxexp - 1, info.minexp + info.nmant + 1
    for _ in range(2):
        up = op("gt", exponent, full_like(exponent, high))
        down = op("lt", exponent, full_like(exponent, info.minexp))
        step = op("where", up, full_like(exponent, high),
                  op("where", down, full_like(exponent, low), full_like(exponent, 0)))  # fmt: skip
        x = op("mul", x, op("exp2", cast(step, x.dtype)))
        exponent = op("sub", exponent, step)
    limit = full_like(exponent, info.maxexp)
    exponent = op("maximum", op("minimum", exponent, limit), full_like(exponent, info.minexp))
    return op("mul", x, op("exp2", cast(exponent, x.dtype)))


@rule(np.ldexp)
def _ldexp(x, exponent):
    wide = cast(exponent, np.int64)
    far = full_like(wide, 5000)
    return _scaled(x, op("maximum", op("minimum", wide, far), op("neg", far)))


@rule(np.frexp)
def _frexp(x):
    """Mantissa in [1/2, 1) and exponent; the exponent is a constant to differentiation."""
    zero = full_like(x, 0)
    usable = op("logical_and", op("isfinite", x), op("ne", x, zero))
    size = op("abs", op("where", usable, x, full_like(x, 1)))
    exponent = cast(op("add", op("floor", op("log2", size)), full_like(x, 1)), np.int64)
    part = _scaled(size, op("neg", exponent))  # the logarithm may have been rounded up or down
    one = full_like(exponent, 1)
    exponent = op("where", op("ge", part, full_like(x, 1)), op("add", exponent, one),
                  op("where", op("lt", part, full_like(x, 0.5)), op("sub", exponent, one),
                     exponent))  # fmt: skip
    mantissa = _scaled(op("where", usable, x, full_like(x, 1)), op("neg", exponent))
    none = full_like(exponent, 0)
    return (op("where", usable, mantissa, x),
            cast(op("where", usable, exponent, none), np.int32))  # fmt: skip


# ----------------------------------------------------------------- functions that are no ufunc


def _within(dtype: np.dtype, bound, side: int):
    """A bound of np.clip: an int beyond what the dtype holds is none, as NumPy has it."""
    if dtype.kind not in "iu" or type(bound) is not int:
        return bound
    info = np.iinfo(dtype)
    return None if (bound < info.min and side < 0) or (bound > info.max and side > 0) else bound


@implements(np.clip)
def clip(context, a, a_min=None, a_max=None, *, min=None, max=None, dtype=None):
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    x = context.lift(a)
    low, high = (_within(x.dtype, b, side) for b, side in ((low, -1), (high, 1)))
    bounds = [b for b in (low, high) if b is not None]
    lifted = [context.lift(b) for b in bounds]
    kind = x.dtype
    if kind.kind in "iu" and any(b.weak and b.dtype.kind == "i" and b.node.op != "const"
                                 for b in lifted):  # fmt: skip
        x = context.wrap(_as_int64(x.node))  # a Python int may be beyond the dtype's values
    nodes = fit_all(context, "clip", x, *lifted)
    result = nodes.pop(0)
    if result.dtype == x.dtype != kind:
        dtype = kind if dtype is None else dtype
    if low is not None:
        result = op("maximum", result, nodes.pop(0))
    if high is not None:
        result = op("minimum", result, nodes.pop(0))
    return context.wrap(result if dtype is None else cast(result, dtype))


@implements(np.round, np.around)
def around(context, a, decimals=0):
    x = context.lift(a).node
    decimals = int(decimals)
    if is_complex(x):
        parts = (around(context, context.wrap(part), decimals).node for part in parts_of(x))
        return context.wrap(join(Parts(*parts)))
    if x.dtype.kind == "b":
        x = cast(x, np.float16)
    if not _is_float(x):
        if decimals >= 0:
            return context.wrap(x)
        scale = full_like(x, 10**-decimals)
        scaled = op("rint", op("div", cast(x, np.float64), cast(scale, np.float64)))
        return context.wrap(op("mul", cast(scaled, x.dtype), scale))
    if decimals == 0:
        return context.wrap(op("rint", x))
    scale = full_like(x, 10.0 ** abs(decimals))
    there, back = ("mul", "div") if decimals > 0 else ("div", "mul")
    return context.wrap(op(back, op("rint", op(there, x, scale)), scale))


@implements(np.where)
def where(context, condition, x=None, y=None):
    if x is None or y is None:
        from graphc.trace.indices import data_dependent

        raise data_dependent("np.where with one argument")
    condition, x, y = context.lift(condition), context.lift(x), context.lift(y)
    shape = broadcast_shapes("where", condition.shape, x.shape, y.shape)
    dtype = common_dtype(x, y)
    x, y = (_wrapped(context, v, dtype) for v in (x, y))
    chosen = build.broadcast_to(truth(condition.node), shape)
    return context.wrap(op("where", chosen, fit(x, dtype, shape), fit(y, dtype, shape)))


def _wrapped(context, value, dtype: np.dtype):
    """A Python int as np.where takes it into a narrower dtype: its lowest bits."""
    if value.node.op != "const" or not value.weak or dtype.kind not in "iu":
        return value
    return context.wrap(build.const(value.node.attr("value").array.astype(dtype)))


@implements(np.select)
def select(context, condlist, choicelist, default=0):
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ShapeError("np.select: give one choice for each condition, and at least one")
    choices = [context.lift(c) for c in (*choicelist, default)]
    dtype = common_dtype(*choices)
    choices = [_wrapped(context, c, dtype) for c in choices]
    result = context.wrap(converted(choices.pop(), dtype))
    for condition, choice in zip(reversed(condlist), reversed(choices), strict=True):
        result = where(context, condition, context.wrap(converted(choice, dtype)), result)
    return result


@implements(np.nan_to_num)
def nan_to_num(context, x, copy=True, nan=0.0, posinf=None, neginf=None):
    array = context.lift(x)
    if _is_float(array.node):
        parts = parts_of(array.node) if is_complex(array.node) else (array.node,)
        parts = [_finite(context, part, nan, posinf, neginf) for part in parts]
        result = join(Parts(*parts)) if is_complex(array.node) else parts[0]
    else:
        result = array.node
    if copy or array is not x:
        return context.wrap(result)
    array.assign(result)
    return array


def _finite(context, node: Node, nan, posinf, neginf) -> Node:
    limits, zero = np.finfo(node.dtype), full_like(node, 0)

    def fill(value) -> Node:
        return fit(context.lift(value), node.dtype, node.shape)

    result = op("where", op("isnan", node), fill(nan), node)
    for test, value in (
        ("gt", limits.max if posinf is None else posinf),
        ("lt", limits.min if neginf is None else neginf),
    ):
        infinite = op("logical_and", op("isinf", node), op(test, node, zero))
        result = op("where", infinite, fill(value), result)
    return result


@implements(np.isclose)
def isclose(context, a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    a, b = context.lift(a), context.lift(b)
    near = np.abs(a - b) <= atol + rtol * np.abs(b)
    if context.lift(b).dtype.kind == "f":
        near = np.logical_or(np.logical_and(near, np.isfinite(b)), a == b)
    if equal_nan:
        near = np.logical_or(near, np.logical_and(np.isnan(a), np.isnan(b)))
    return near


@implements(np.allclose)
def allclose(context, a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    return context.wrap(isclose(context, a, b, rtol, atol, equal_nan).all().node, weak=True)


@implements(np.array_equal)
def array_equal(context, a1, a2):
    a, b = context.lift(a1), context.lift(a2)
    return context.wrap((a == b).all().node, weak=True) if a.shape == b.shape else False


@implements(np.sinc)
def sinc(context, x):
    x = context.lift(x)
    scaled = np.pi * x
    safe = np.where(scaled == 0, 1, scaled)
    return np.where(scaled == 0, 1, np.sin(safe) / safe)


@implements(np.real)
def real(context, val):
    value = context.lift(val)
    return _part(value, 0) if is_complex(value.node) else value


@implements(np.imag)
def imag(context, val):
    value = context.lift(val)
    if is_complex(value.node):
        return _part(value, 1)
    refused = read_only("np.imag of real values", "Make the array complex: x.astype(complex).")
    zeros = full_like(value.node, 0)
    return value.seen_as(zeros, lambda parent: full_like(parent, 0), refused)


def _part(value, which: int):
    """The real or the imaginary part, a view."""

    def changed(parent: Node, new: Node) -> Node:
        both = list(parts_of(parent))
        both[which] = new
        return join(Parts(*both))

    node = parts_of(value.node)[which]
    return value.seen_as(node, lambda parent: parts_of(parent)[which], changed)


@implements(np.angle)
def angle(context, z, deg=False):
    z = context.lift(z)
    result = np.arctan2(z.imag, z.real) if is_complex(z.node) else np.arctan2(0, z)
    return result * (180 / math.pi) if deg else result


@implements(np.astype)
def astype(context, x, dtype, *, copy=True):
    node, dtype = context.lift(x).node, np.dtype(dtype)
    if not copy and dtype == node.dtype:
        return x
    if not is_supported_dtype(dtype):
        raise DTypeError(unknown_dtype("the result", dtype))
    if node.op == "const" and not node.ndim:  # integers out of range wrap around, unlike in cast
        with np.errstate(all="ignore"):
            return context.wrap(build.const(node.attr("value").array.astype(dtype)))
    return context.wrap(cast(node, dtype))


@implements(np.copy)
def copy(context, a, order="K"):
    return context.wrap(context.lift(a).node)


def _infinity(sign):
    def handler(context, x):
        x = context.lift(x)
        return np.logical_and(np.isinf(x), x > 0 if sign > 0 else x < 0)

    return handler


implements(np.isposinf)(_infinity(1))
implements(np.isneginf)(_infinity(-1))


@implements(np.isreal)
def isreal(context, x):
    return imag(context, x) == 0


@implements(np.iscomplex)
def iscomplex(context, x):
    return imag(context, x) != 0
