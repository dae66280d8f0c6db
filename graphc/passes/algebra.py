"""Algebra of elementwise ops.

Exact in floating point, NaN and infinity included, but for what a rule says of itself. Two
liberties are taken, both about the sign of zero: ``x + 0`` is ``x`` (only -0.0 + 0.0 differs; so
do padded parts that are added) and ``0 - x`` is ``-x`` (only 0.0 - 0.0 differs). There is no
``x * 0 -> 0`` and no ``x - x -> 0`` for floats: NaN and infinity would be lost.
"""

from __future__ import annotations

import numpy as np

from graphc.ir import build
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.passes.patterns import constant, is_float, is_integer, rewrites, rule


def _is_real(node: Node) -> bool:
    return node.dtype.kind != "c"  # complex products and quotients mix the two parts


def _is_bool_operand(x: Node) -> bool:
    return x.dtype.kind == "b"  # logic takes numbers too, but gives booleans


IDENTITIES = (
    rule("mul_one", "mul(x, 1)", "x", where=_is_real),
    rule("div_one", "div(x, 1)", "x", where=_is_real),
    rule("add_zero", "add(x, 0)", "x"),
    rule("sub_zero", "sub(x, 0)", "x"),
    rule("zero_sub", "sub(0, x)", "neg(x)"),
    rule("mul_minus_one", "mul(x, -1)", "neg(x)", where=_is_real),
    rule("div_minus_one", "div(x, -1)", "neg(x)", where=_is_real),
    rule("add_self", "add(x, x)", "mul(x, 2)", where=is_float),
    # Doubling is exact, so this rounds once less; gradients of squares arrive in this form.
    rule("add_twice", "add(add(x, y), y)", "add(x, mul(y, 2))", where=is_float),
    rule("int_mul_zero", "mul(x, 0)", "0", where=is_integer),
    rule("int_sub_self", "sub(x, x)", "0", where=is_integer),
    # The same value, NaN for what is not finite; LLVM leaves ``x - x`` itself out of a sum.
    rule("float_sub_self", "sub(x, x)", "mul(abs(x), 0)", where=is_float),
    rule("reciprocal_rsqrt", "div(1, rsqrt(x))", "sqrt(x)", where=is_float),
    rule("reciprocal_sqrt", "div(1, sqrt(x))", "rsqrt(x)", where=is_float),
    # The derivative of log(y / z) by y arrives in this form: a rounding less, and none of the
    # overflow of y / z.
    rule("div_by_quotient", "div(div(x, div(y, z)), z)", "div(x, y)", where=_is_real),
    rule("maximum_self", "maximum(x, x)", "x"),
    # Its derivative needs the result only, and is 0 at a tie as every framework has it.
    rule("relu", "maximum(x, 0)", "relu(x)"),
    rule("minimum_self", "minimum(x, x)", "x"),
)

# A sign travels outwards without rounding, until it meets another or becomes a subtraction.
SIGNS = (
    rule("neg_neg", "neg(neg(x))", "x"),
    rule("add_neg", "add(x, neg(y))", "sub(x, y)"),
    rule("sub_neg", "sub(x, neg(y))", "add(x, y)"),
    rule(
        "add_repeated_neg",
        "add(x, broadcast(neg(y), dims=d, shape=s))",
        "sub(x, broadcast(y, dims=d, shape=s))",
    ),
    rule(
        "sub_repeated_neg",
        "sub(x, broadcast(neg(y), dims=d, shape=s))",
        "add(x, broadcast(y, dims=d, shape=s))",
    ),
    rule("mul_neg_neg", "mul(neg(x), neg(y))", "mul(x, y)"),
    rule("div_neg_neg", "div(neg(x), neg(y))", "div(x, y)"),
    rule("abs_neg", "abs(neg(x))", "abs(x)", where=is_float),
    rule("abs_abs", "abs(abs(x))", "abs(x)", where=is_float),
    rule("cos_neg", "cos(neg(x))", "cos(x)"),
    rule("square_of_abs", "mul(abs(x), abs(x))", "mul(x, x)", where=_is_real),
)


@rewrites("mul", "div")
def neg_outwards(node: Node) -> Node | None:
    """``-x * y`` is ``-(x * y)``, and a constant takes the sign in: ``-x * c`` is ``x * -c``."""
    x, y = node.inputs
    for index, other in ((0, y), (1, x)):
        if node.inputs[index].op != "neg" or not is_float(node):
            continue
        inner = node.inputs[index].inputs[0]
        value = constant(other)
        if value is not None:
            pair = [inner, build.full_like(other, -value)]
            return build.make(node.op, pair if index == 0 else pair[::-1])
        pair = [inner, other]
        return build.elementwise("neg", build.make(node.op, pair if index == 0 else pair[::-1]))
    return None


@rewrites("neg")
def neg_of_scaled(node: Node) -> Node | None:
    """``-(x * c)`` is ``x * -c``, ``-(x / c)`` is ``x / -c``, ``-(c / x)`` is ``-c / x``."""
    (scaled,) = node.inputs
    if scaled.op not in ("mul", "div") or not is_float(node):
        return None
    for index, operand in enumerate(scaled.inputs):
        value = constant(operand)
        if value is not None:
            operands = list(scaled.inputs)
            operands[index] = build.full_like(operand, -value)
            return build.make(scaled.op, operands)
    return None


@rewrites("sub")
def sub_of_negated_product(node: Node) -> Node | None:
    """``x - y * -c`` is ``x + y * c``, for a negative constant."""
    x, y = node.inputs
    if y.op != "mul" or not is_float(node):
        return None
    value = constant(y.inputs[1])
    if value is None or not value < 0:
        return None
    scaled = build.make("mul", (y.inputs[0], build.full_like(y, -value)))
    return build.make("add", (x, scaled))


@rewrites("div")
def div_by_power_of_two(node: Node) -> Node | None:
    """``x / c`` is ``x * (1/c)`` where the reciprocal is exact: no rounding is added."""
    x, y = node.inputs
    value = constant(y)
    if value is None or not is_float(node) or not np.isfinite(value) or value == 0:
        return None
    if constant(x) is not None:
        return None
    mantissa, _ = np.frexp(value)
    with np.errstate(all="ignore"):
        reciprocal = node.dtype.type(1) / value
    # Subnormal reciprocals are exact too, but a machine that flushes them would differ.
    if abs(mantissa) != 0.5 or not _is_normal(reciprocal):
        return None
    return build.make("mul", (x, build.full_like(x, reciprocal)))


@rewrites("mul", "div")
def merge_scales(node: Node) -> Node | None:
    """``(x * a) * b`` is ``x * (a * b)`` for scalars, one of them a constant; also with ``/``.

    A reassociation: within one rounding. The constant is of moderate size and a folded product
    is a normal number, so no overflow or underflow appears that was not at the edge already.
    Integers wrap alike in any order.
    """
    x, b = node.inputs
    if x.op not in ("mul", "div") or not (is_float(node) or is_integer(node)):
        return None
    x, a = x.inputs
    scalar_a, scalar_b = _scalar(a), _scalar(b)
    if scalar_a is None or scalar_b is None or not _may_merge(scalar_a, scalar_b):
        return None
    if not node.ndim and not scalar_a.op == scalar_b.op == "const":
        return None  # nothing to save
    outer, inner = node.op, node.inputs[0].op
    if outer == inner == "div":
        return None  # (x / a) / b: a * b could overflow where neither quotient does
    if outer == "mul":
        # (x * a) * b = x * (a * b);  (x / a) * b = x * (b / a)
        operands = (scalar_a, scalar_b) if inner == "mul" else (scalar_b, scalar_a)
        merged = build.make(inner, operands)
    else:
        merged = build.make("div", (scalar_a, scalar_b))  # (x * a) / b = x * (a / b)
    if merged.op == "div" and not is_float(node):
        return None
    folded = _fold_scalar(merged)
    if folded is not None:
        if is_float(node) and not _is_normal(folded):
            return None
        return build.make("mul", (x, build.full_like(x, folded)))
    return build.make("mul", (x, build.broadcast(merged, node.shape, ())))


@rewrites("mul")
def scale_outwards(node: Node) -> Node | None:
    """``(x * c) * y`` is ``(x * y) * c``: constants of a product meet, and leave sums together.

    A reassociation, within one rounding; only for constants of moderate size. The square of a
    scaled value stays: its gradient reads that value as well.
    """
    if not is_float(node) or node.inputs[0] is node.inputs[1]:
        return None
    for k in (0, 1):
        scaled, y = node.inputs[k], node.inputs[1 - k]
        if scaled.op != "mul" or constant(y) is not None:
            continue
        x, c = scaled.inputs
        if _is_moderate(constant(c)):
            pair = (x, y) if k == 0 else (y, x)
            return build.make("mul", (build.make("mul", pair), c))
    return None


@rewrites("mul")
def scale_into_repeated(node: Node) -> Node | None:
    """``(x * broadcast(a)) * c`` is ``x * broadcast(a * c)``: the small factor is scaled."""
    product, c = node.inputs
    value = constant(c)
    if product.op != "mul" or not is_float(node) or not _is_moderate(value):
        return None
    for k in (1, 0):
        repeated, x = product.inputs[k], product.inputs[1 - k]
        if repeated.op != "broadcast" or constant(repeated) is not None:
            continue
        a = repeated.inputs[0]
        small = build.make("mul", (a, build.full_like(a, value)))
        return build.make("mul", (x, build.broadcast(small, node.shape, repeated.attr("dims"))))
    return None


def _scalar(node: Node) -> Node | None:
    """The rank-0 node behind a broadcast (or the node itself)."""
    if node.op == "broadcast" and not node.inputs[0].ndim:
        return node.inputs[0]
    return node if not node.ndim else None


def _fold_scalar(node: Node):
    if all(i.op == "const" for i in node.inputs):
        with np.errstate(all="ignore"):
            values = (i.attr("value").array for i in node.inputs)
            return OPS[node.op].evaluate(node, {}, *values)[()]
    return None


def _may_merge(a: Node, b: Node) -> bool:
    if a.dtype.kind in "iu":
        return a.op == b.op == "const"
    values = [constant(n) for n in (a, b)]
    if all(v is not None for v in values):
        return True
    return any(map(_is_moderate, values))


def _is_moderate(value) -> bool:
    """Scaling by it moves overflow and underflow only near the ends of the range."""
    if value is None:
        return False
    power = min(16, np.finfo(value.dtype).maxexp // 8)  # float16: 4, else 65536
    return 2.0**-power <= abs(float(value)) <= 2.0**power


def _is_normal(value) -> bool:
    return bool(np.isfinite(value) and abs(value) >= np.finfo(value.dtype).tiny)


@rewrites("pow")
def pow_by_constant(node: Node) -> Node | None:
    """Small powers as products and roots: one rounding each, as NumPy does for ``x ** 2``.

    ``x ** 0.5`` is ``sqrt(x)`` as in NumPy's scalar powers (pow differs at -0.0 and -inf only),
    and ``x ** -0.5`` is ``1/sqrt(x)`` (NumPy's pow differs there again);
    ``x ** 0`` is 1 for NaN too. ``x ** -2`` is ``1/(x*x)``: subnormal results may become 0.
    """
    x, y = node.inputs
    value = constant(y)
    if value is None:
        return None
    if value == 0:
        return build.full_like(x, 1)
    if value == 1:
        return x
    if value in (2, 3, 4):
        square = build.make("mul", (x, x))
        if value == 2:
            return square
        return build.make("mul", (square, x if value == 3 else square))
    if not is_float(node):
        return None
    if value == 0.5:
        return build.make("sqrt", (x,))
    if value == -0.5:
        return build.make("rsqrt", (x,))
    if value in (-1, -2):
        below = x if value == -1 else build.make("mul", (x, x))
        return build.make("div", (build.full_like(x, 1), below))
    return None


# No rule takes where(c, 1, 0) * y to where(c, y, 0): the NaN of 0 * inf would be lost, and
# derivatives are written with the second form already.
SELECTIONS = (
    rule("where_same", "where(c, x, x)", "x"),
    rule("where_not", "where(logical_not(c), x, y)", "where(c, y, x)"),
    rule("where_where_true", "where(c, where(c, x, y), w)", "where(c, x, w)"),
    rule("where_where_false", "where(c, x, where(c, y, w))", "where(c, x, w)"),
    rule("neg_where_zero", "neg(where(c, x, 0))", "where(c, neg(x), 0)"),
    rule("neg_zero_where", "neg(where(c, 0, x))", "where(c, 0, neg(x))"),
    rule("add_where_both", "add(where(c, x, 0), where(c, y, 0))", "where(c, add(x, y), 0)"),
    rule("add_zero_where_both", "add(where(c, 0, x), where(c, 0, y))", "where(c, 0, add(x, y))"),
    rule("add_where_either", "add(where(c, x, 0), where(c, 0, y))", "where(c, x, y)"),
    rule("not_not", "logical_not(logical_not(x))", "x", where=_is_bool_operand),
    rule("and_self", "logical_and(x, x)", "x", where=_is_bool_operand),
    rule("or_self", "logical_or(x, x)", "x", where=_is_bool_operand),
    rule("and_true", "logical_and(x, 1)", "x", where=_is_bool_operand),
    rule("and_false", "logical_and(x, 0)", "0", where=_is_bool_operand),
    rule("or_true", "logical_or(x, 1)", "1", where=_is_bool_operand),
    rule("or_false", "logical_or(x, 0)", "x", where=_is_bool_operand),
)


@rewrites("where")
def where_constant(node: Node) -> Node | None:
    """A constant condition picks its branch."""
    c, x, y = node.inputs
    value = constant(c)
    return None if value is None else x if value else y


@rewrites("cast")
def cast_of_cast(node: Node) -> Node | None:
    """One cast, where the first holds every value of its operand."""
    (inner,) = node.inputs
    if inner.op != "cast":
        return None
    (x,) = inner.inputs
    return build.cast(x, node.dtype) if _holds(inner.dtype, x.dtype) else None


def _holds(wide: np.dtype, narrow: np.dtype) -> bool:
    """Every value of ``narrow`` is a value of ``wide`` (unlike NumPy's 'safe' for int64)."""
    if narrow.kind == "b" or wide == narrow:
        return True
    if narrow.kind in "iu" and wide.kind in "iu":
        low, high = np.iinfo(narrow), np.iinfo(wide)
        return high.min <= low.min and low.max <= high.max
    if narrow.kind in "iu" and wide.kind == "f":
        return np.iinfo(narrow).bits <= np.finfo(wide).nmant + 1 and wide.itemsize > 2
    if narrow.kind in "fc" and wide.kind in "fc":
        return np.can_cast(narrow, wide, "safe")
    return False


RULES = (
    *IDENTITIES,
    *SIGNS,
    neg_outwards,
    neg_of_scaled,
    sub_of_negated_product,
    pow_by_constant,
    div_by_power_of_two,
    merge_scales,
    scale_into_repeated,
    scale_outwards,
    *SELECTIONS,
    where_constant,
    cast_of_cast,
)
