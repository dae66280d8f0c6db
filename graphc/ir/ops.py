"""The table of primitive operations: an op is one row.

An elementwise row is a formula, its NumPy meaning, one derivative for each argument and a cost.
Derivatives are formulas too, over the arguments ``x, y, w`` and the result ``z``; SymPy proves
each against the op's own formula in the tests. The generated scalar code of a row is in
``codegen`` (a template or a vector-math function of the same name).

A structural row is a type rule and a NumPy evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, factorial, pi

import numpy as np

from graphc.errors import DTypeError, ShapeError
from graphc.ir import control, faults, fourier, library
from graphc.ir.dims import evaluate, product
from graphc.ir.node import Node
from graphc.ir.scipy_functions import MISSING, SCIPY_FUNCTIONS
from graphc.ir.types import TensorType, tensor_type

BOOL = np.dtype(bool)


@dataclass(frozen=True)
class Op:
    """One row. ``infer(attrs, *types) -> TensorType``; ``evaluate(node, env, *arrays)``."""

    name: str
    doc: str
    # elementwise, part, reduction, view, leaf, contraction, indexing, library, control, mark, scan
    # or sort
    kind: str
    infer: Callable | None
    evaluate: Callable | None
    attrs: tuple[str, ...] = ()
    # Elementwise rows only:
    arity: int = 1
    formula: str = ""
    derivative: tuple[str, ...] | None = None
    singular: bool = False  # the derivative can be infinite or NaN at a finite argument
    cost: int = 1  # rough flops an element; decides recomputation
    nonfinite: str = "propagates"  # what NaN and infinity do, for the documentation
    library: str = ""  # whose function it is, if not graphc's: scipy (ir/scipy_functions.py)


OPS: dict[str, Op] = {}


def _register(op: Op) -> None:
    if op.name in OPS:
        raise ValueError(f"op {op.name!r} is declared twice")
    OPS[op.name] = op


# --------------------------------------------------------------------------- elementwise rows


def _same_shape(name: str, types) -> tuple:
    shape = types[0].shape
    for t in types[1:]:
        if t.shape != shape:
            raise ShapeError(f"{name}: shapes {types[0]} and {t} differ")
    return shape


def _same_dtype(name: str, types) -> np.dtype:
    dtype = types[0].dtype
    for t in types[1:]:
        if t.dtype != dtype:
            raise DTypeError(f"{name}: dtypes {types[0]} and {t} differ")
    return dtype


def _infer_same(name):
    return lambda attrs, *types: TensorType(_same_dtype(name, types), _same_shape(name, types))


def _infer_kind(kinds: str, text: str):
    """Of operands whose dtype is of one of ``kinds``."""

    def named(name):
        def infer(attrs, *types):
            dtype = _same_dtype(name, types)
            if dtype.kind not in kinds:
                raise DTypeError(f"{name} takes {text}, not {types[0]}")
            return TensorType(dtype, _same_shape(name, types))

        return infer

    return named


_infer_float = _infer_kind("fc", "floating values")
_infer_integer = _infer_kind("iu", "integers")


def _infer_bool(name):
    def infer(attrs, *types):
        _same_dtype(name, types)
        return TensorType(BOOL, _same_shape(name, types))

    return infer


def _infer_count(name):
    integer = _infer_integer(name)
    return lambda attrs, x: TensorType(np.dtype(np.uint8), integer(attrs, x).shape)


def _infer_where(attrs, cond, a, b):
    if cond.dtype != BOOL:
        raise DTypeError(f"where: the condition is {cond}, not bool")
    return TensorType(_same_dtype("where", (a, b)), _same_shape("where", (cond, a, b)))


def _elementwise(name, formula, numpy, derivative, doc, *, result="float", arity=1, **row):
    infer = {
        "float": _infer_float, "same": _infer_same, "bool": _infer_bool,
        "integer": _infer_integer, "count": _infer_count,
    }[result](name)  # fmt: skip

    def evaluate_row(node, env, *arrays):
        return np.asarray(numpy(*arrays), dtype=node.dtype)

    _register(
        Op(name, doc, "elementwise", infer, evaluate_row, arity=arity, formula=formula,
           derivative=derivative, **row)
    )  # fmt: skip


def _vmath(name):
    """The polynomial of the kernels."""

    def evaluate(*xs):
        from graphc import vmath

        return vmath.evaluate(name, xs[0].dtype.name, *xs)

    return evaluate


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_e = _elementwise
_e("neg", "-x", np.negative, ("-1",), "Negation.", result="same")
_e("abs", "Abs(x)", np.abs, ("sign(x)",), "Absolute value; gradient 0 at 0.", result="same")
_e("sign", "sign(x)", np.sign, ("0",), "-1, 0 or 1; NaN stays NaN.", result="same")
_e("floor", "floor(x)", np.floor, ("0",), "Largest integer not above.")
_e("ceil", "ceiling(x)", np.ceil, ("0",), "Smallest integer not below.")
_e("trunc", "trunc(x)", np.trunc, ("0",), "Rounds towards zero.")
_e("rint", "rint(x)", np.rint, ("0",), "Rounds to nearest, ties to even.")
_e("exp", "exp(x)", np.exp, ("z",), "e**x.", singular=True, cost=12)
_e("exp2", "2**x", np.exp2, ("0.6931471805599453*z",), "2**x.", singular=True, cost=12)
_e("expm1", "exp(x) - 1", np.expm1, ("z + 1",), "exp(x) - 1, accurate near 0.",
   singular=True, cost=16)  # fmt: skip
_e("log", "log(x)", np.log, ("1/x",), "Natural logarithm; -inf at 0.", singular=True, cost=14)
_e("log2", "log(x)/log(2)", np.log2, ("1.4426950408889634/x",), "Base-2 logarithm.",
   singular=True, cost=15)  # fmt: skip
_e("log10", "log(x)/log(10)", np.log10, ("0.4342944819032518/x",), "Base-10 logarithm.",
   singular=True, cost=15)  # fmt: skip
_e("log1p", "log(1 + x)", np.log1p, ("1/(1 + x)",), "log(1 + x), accurate near 0.",
   singular=True, cost=16)  # fmt: skip
_e("sin", "sin(x)", np.sin, ("cos(x)",), "Sine of radians.", cost=16)
_e("cos", "cos(x)", np.cos, ("-sin(x)",), "Cosine of radians.", cost=16)
_e("tan", "tan(x)", np.tan, ("1 + z*z",), "Tangent of radians.", singular=True, cost=20)
_e("arcsin", "asin(x)", np.arcsin, ("rsqrt((1 - x)*(1 + x))",), "Inverse sine.",
   singular=True, cost=20)  # fmt: skip
_e("arccos", "acos(x)", np.arccos, ("-rsqrt((1 - x)*(1 + x))",), "Inverse cosine.",
   singular=True, cost=20)  # fmt: skip
_e("arctan", "atan(x)", np.arctan, ("1/(1 + x*x)",), "Inverse tangent.", cost=16)
_e("sinh", "sinh(x)", np.sinh, ("cosh(x)",), "Hyperbolic sine.", singular=True, cost=20)
_e("cosh", "cosh(x)", np.cosh, ("sinh(x)",), "Hyperbolic cosine.", singular=True, cost=20)
_e("tanh", "tanh(x)", np.tanh, ("1 - z*z",), "Hyperbolic tangent.", cost=16)
_e("arcsinh", "asinh(x)", np.arcsinh, ("rsqrt(x*x + 1)",), "Inverse hyperbolic sine.", cost=22)
_e("arccosh", "acosh(x)", np.arccosh, ("rsqrt((x - 1)*(x + 1))",), "Inverse hyperbolic cosine.",
   singular=True, cost=22)  # fmt: skip
_e("arctanh", "atanh(x)", np.arctanh, ("1/((1 - x)*(1 + x))",), "Inverse hyperbolic tangent.",
   singular=True, cost=22)  # fmt: skip
_e("sqrt", "sqrt(x)", np.sqrt, ("where(x == 0, 0, 0.5/z)",),
   "Square root; the gradient at 0 is taken as 0.", singular=True, cost=4)  # fmt: skip
_e("rsqrt", "1/sqrt(x)", lambda x: 1 / np.sqrt(x), ("-0.5*z*z*z",), "1/sqrt(x).",
   singular=True, cost=5)  # fmt: skip
_e("cbrt", "cbrt(x)", np.cbrt, ("where(x == 0, 0, 1/(3*z*z))",),
   "Cube root; the gradient at 0 is taken as 0.", singular=True, cost=20)  # fmt: skip
_e("sigmoid", "1/(1 + exp(-x))", _sigmoid, ("z*(1 - z)",), "Logistic function.", cost=14)
_e("softplus", "log(1 + exp(x))", _softplus, ("sigmoid(x)",), "log(1 + exp(x)), never overflows.",
   cost=26)  # fmt: skip
_e("relu", "Max(x, 0)", lambda x: np.maximum(x, x.dtype.type(0)), ("where(z > 0, 1, 0)",),
   "max(x, 0); the gradient at 0 is 0.", result="same")  # fmt: skip
_e("erf", "erf(x)", _vmath("erf"), ("1.1283791670955126*gaussian(x)",), "Error function.", cost=20)
_e("erfc", "erfc(x)", _vmath("erfc"), ("-1.1283791670955126*gaussian(x)",),
   "Complementary error function.", cost=24)  # fmt: skip
_e("gaussian", "exp(-x*x)", _vmath("gaussian"), ("-2*x*z",),
   "exp(-x**2), accurate for large x too.", singular=True, cost=14)  # fmt: skip
_e("gammaln", "loggamma(x)", _vmath("gammaln"), ("digamma(x)",),
   "Logarithm of the gamma function for x > 0; NaN below 0.", singular=True, cost=90)  # fmt: skip
_e("digamma", "digamma(x)", _vmath("digamma"), ("zeta(2, x)",),
   "Derivative of gammaln for x > 0; NaN below 0.", singular=True, cost=90)  # fmt: skip
_e("erfinv", "erfinv(x)", _vmath("erfinv"), ("0.886226925452758*exp(z*z)",),
   "Inverse error function.", singular=True, cost=200)  # fmt: skip
_e("erfcinv", "erfinv(1 - x)", _vmath("erfcinv"), ("-0.886226925452758*exp(z*z)",),
   "Inverse complementary error function.", singular=True, cost=200)  # fmt: skip


def _near(
    point: float, width: float, series, formula: str, variable: str = "x*x", factor: str = "1"
) -> str:
    """``formula``, but a power series around ``point``, where it would cancel."""
    text = repr(series[-1])
    for coefficient in reversed(series[:-1]):
        text = f"{coefficient!r} + {variable}*({text})"
    return f"where(({point - width} < x) & (x < {point + width}), {factor}*({text}), {formula})"


def _bessel_series(sign: int) -> list[float]:
    """The derivative of J1 (sign -1) or I1 in x**2."""
    return [(2 * k + 1) * sign**k / (2 ** (2 * k + 1) * factorial(k) * factorial(k + 1))
            for k in range(7)]  # fmt: skip


_SINC = [(-1) ** k / factorial(2 * k + 1) for k in range(7)]
# Of D = (K - E) / m: integrals of sine powers.
_ELLIPD = [(k + 1) * pi / 2 * comb(2 * k + 2, k + 1) * comb(2 * k + 4, k + 2) / 4 ** (2 * k + 3)
           for k in range(9)]  # fmt: skip
_LOG_OVER = [-((-1) ** k) / (k + 1) for k in range(10)]

_I_SERIES = _bessel_series(1)
for _name, _formula, _slope, _row in (
    ("i0", "besseli(0, x)", "bessel_i1(x)", {"singular": True}),
    ("i1", "besseli(1, x)", _near(0, 0.25, _I_SERIES, "bessel_i0(x) - z/x"), {"singular": True}),
    ("i0e", "exp(-Abs(x))*besseli(0, x)", "bessel_i1e(x) - sign(x)*z", {}),
    (
        "i1e",
        "exp(-Abs(x))*besseli(1, x)",
        "-sign(x)*z + " + _near(0, 0.25, _I_SERIES, "bessel_i0e(x) - z/x", factor="exp(-abs(x))"),
        {},
    ),
    ("j0", "besselj(0, x)", "-bessel_j1(x)", {}),
    ("j1", "besselj(1, x)", _near(0, 0.25, _bessel_series(-1), "bessel_j0(x) - z/x"), {}),
    ("y0", "bessely(0, x)", "-bessel_y1(x)", {"singular": True}),
    ("y1", "bessely(1, x)", "bessel_y0(x) - z/x", {"singular": True}),
):
    _e(f"bessel_{_name}", _formula, _vmath(f"bessel_{_name}"), (_slope,),
       f"Bessel function {_formula}{'; NaN below 0' * _name.startswith('y')}.", cost=150,
       **_row)  # fmt: skip
_e("exp1", "expint(1, x)", _vmath("exp1"), ("-exp(-x)/x",),
   "Exponential integral E1; NaN below 0.", singular=True, cost=120)  # fmt: skip
_e("expi", "Ei(x)", _vmath("expi"), ("exp(x)/x",), "Exponential integral Ei.", singular=True,
   cost=300)  # fmt: skip
_e("sine_integral", "Si(x)", _vmath("sine_integral"), (_near(0, 0.25, _SINC, "sin(x)/x"),),
   "Integral of sin(t)/t from 0.", cost=200)  # fmt: skip
_e("cosine_integral", "Ci(Abs(x))", _vmath("cosine_integral"), ("cos(x)/x",),
   "Euler's constant + log|x| + the integral of (cos(t) - 1)/t from 0.", singular=True,
   cost=220)  # fmt: skip
_e("fresnels", "fresnels(x)", _vmath("fresnels"), ("sin(1.5707963267948966*x*x)",),
   "Integral of sin(pi t**2 / 2) from 0.", cost=200)  # fmt: skip
_e("fresnelc", "fresnelc(x)", _vmath("fresnelc"), ("cos(1.5707963267948966*x*x)",),
   "Integral of cos(pi t**2 / 2) from 0.", cost=200)  # fmt: skip
_e("spence", "polylog(2, 1 - x)", _vmath("spence"),
   (_near(1, 0.02, _LOG_OVER, "log(x)/(1 - x)", "(x - 1)"),),
   "Dilogarithm of 1 - x; NaN below 0.", singular=True, cost=90)  # fmt: skip
_e("ellipk", "elliptic_k(x)", _vmath("ellipk"), ("0.5*(z - ellipd(x))/(1 - x)",),
   "Complete elliptic integral of the first kind, of the parameter m = x; NaN above 1.",
   singular=True, cost=120)  # fmt: skip
_e("ellipe", "elliptic_e(x)", _vmath("ellipe"), ("-0.5*ellipd(x)",),
   "Complete elliptic integral of the second kind; NaN above 1.", singular=True,
   cost=120)  # fmt: skip
_e("ellipd", "(elliptic_k(x) - elliptic_e(x))/x", _vmath("ellipd"),
   (_near(0, 0.02, _ELLIPD, "0.5*((ellipk(x) - z)/(1 - x) - z)/x", "x"),),
   "(K - E) / m of the elliptic integrals; NaN above 1.", singular=True, cost=120)  # fmt: skip
_GAMMA_DENSITY = "where(y == 0, y**(x - 1)*exp(-gammaln(x)), exp((x - 1)*log(y) - y - gammaln(x)))"
for _name, _kind, _sign in (("gammainc", "lower", ""), ("gammaincc", "upper", "-")):
    _e(_name, f"{_kind}gamma(x, y)/gamma(x)", _vmath(_name),
       (f"{_sign}gammainc_slope(x, y)", f"{_sign}{_GAMMA_DENSITY}"),
       f"Regularized {_kind} incomplete gamma function of x >= 0, y >= 0.", arity=2, singular=True,
       cost=900)  # fmt: skip
_e("gammainc_slope", "", _vmath("gammainc_slope"),
   (MISSING, f"where(y == 0, 0, {_GAMMA_DENSITY}*(log(y) - digamma(x)))"),
   "Derivative of gammainc by its first argument; none by that argument again.", arity=2,
   singular=True, cost=1800)  # fmt: skip
_e("lambertw", "LambertW(x)", _vmath("lambertw"), ("exp(-z)/(1 + z)",),
   "Principal branch of the inverse of w exp(w); NaN below -1/e.", singular=True,
   cost=150)  # fmt: skip
for _scipy in SCIPY_FUNCTIONS.values():
    _e(_scipy.row, "", _scipy.evaluate, _scipy.derivative, f"SciPy's {_scipy.name}.",
       arity=_scipy.arity, singular=True, cost=2000, library="scipy")  # fmt: skip
_e("stop_gradient", "x", lambda x: x, None, "The value; its derivative is cut.", result="same",
   cost=0)  # fmt: skip

_e("add", "x + y", np.add, ("1", "1"), "Sum.", result="same", arity=2)
_e("sub", "x - y", np.subtract, ("1", "-1"), "Difference.", result="same", arity=2)
_e("mul", "x*y", np.multiply, ("y", "x"), "Product.", result="same", arity=2)
_e("div", "x/y", np.divide, ("1/y", "-z/y"), "True division.", arity=2, singular=True, cost=4)
_e("pow", "x**y", np.power,
   ("where((y == 0) | (0 < y) & (y < 1) & (x == 0), 0, y*x**(y - 1))",
    "where(x == 0, 0, z*log(x))"),
   "Power; d/dy at x = 0 is taken as 0, d/dx at x = 0 too where it would be infinite and x**y "
   "is not.", result="same", arity=2, singular=True, cost=40)  # fmt: skip
_e("mod", "Mod(x, y)", np.remainder, ("1", "-floor(x/y)"), "Remainder, sign of the divisor.",
   result="same", arity=2, singular=True, cost=8)  # fmt: skip
_e("floor_div", "floor(x/y)", np.floor_divide, ("0", "0"), "Floor division.", result="same",
   arity=2, singular=True, cost=8)  # fmt: skip
_e("maximum", "Max(x, y)", np.maximum,
   ("where(x > y, 1, where(x == y, 0.5, 0))", "where(y > x, 1, where(x == y, 0.5, 0))"),
   "Larger of two, NaN if either is; a tie splits the gradient.", result="same",
   arity=2)  # fmt: skip
_e("minimum", "Min(x, y)", np.minimum,
   ("where(x < y, 1, where(x == y, 0.5, 0))", "where(y < x, 1, where(x == y, 0.5, 0))"),
   "Smaller of two, NaN if either is; a tie splits the gradient.", result="same",
   arity=2)  # fmt: skip
_e("arctan2", "atan2(x, y)", np.arctan2,
   ("where((x == 0) & (y == 0), 0, y/(x*x + y*y))",
    "where((x == 0) & (y == 0), 0, -x/(x*x + y*y))"),
   "Angle of the point (y, x); the gradient at the origin is taken as 0.", arity=2,
   singular=True, cost=26)  # fmt: skip
_e("zeta", "zeta(x, y)", _vmath("zeta"), (MISSING, "-x*zeta(x + 1, y)"),
   "Hurwitz zeta function for x > 1, y > 0, NaN elsewhere; no derivative by x.",
   arity=2, singular=True, cost=500)  # fmt: skip
_e("nextafter", "x", np.nextafter, ("1", "0"), "The next number after x towards y.", arity=2,
   cost=6)  # fmt: skip
_e("copysign", "Abs(x)*sign(y)", np.copysign, ("sign(x)*copysign(1, y)", "0"),
   "|x| with the sign of y.", arity=2)  # fmt: skip

for _name, _formula, _ufunc in (
    ("eq", "Eq(x, y)", np.equal), ("ne", "Ne(x, y)", np.not_equal), ("lt", "x < y", np.less),
    ("le", "x <= y", np.less_equal), ("gt", "x > y", np.greater),
    ("ge", "x >= y", np.greater_equal),
):  # fmt: skip
    _e(_name, _formula, _ufunc, None, f"Comparison {_formula}.", result="bool", arity=2,
       nonfinite="false with NaN (ne: true)")  # fmt: skip

for _name, _ufunc in (("isnan", np.isnan), ("isinf", np.isinf), ("isfinite", np.isfinite)):
    _e(_name, "", _ufunc, None, f"{_name}.", result="bool", nonfinite="tested for")

_e("logical_not", "Not(x)", np.logical_not, None, "Truth inverted.", result="bool")
_e("logical_and", "And(x, y)", np.logical_and, None, "Both true.", result="bool", arity=2)
_e("logical_or", "Or(x, y)", np.logical_or, None, "Either true.", result="bool", arity=2)
_e("logical_xor", "Xor(x, y)", np.logical_xor, None, "Exactly one true.", result="bool", arity=2)
_e("bitwise_and", "", np.bitwise_and, None, "Bits of both.", result="same", arity=2)
_e("bitwise_or", "", np.bitwise_or, None, "Bits of either.", result="same", arity=2)
_e("bitwise_xor", "", np.bitwise_xor, None, "Bits of exactly one.", result="same", arity=2)
_e("left_shift", "", np.left_shift, None, "x * 2**y; 0 once all bits are out.", result="integer",
   arity=2)  # fmt: skip
_e("right_shift", "", np.right_shift, None, "x / 2**y rounded down.", result="integer", arity=2)
_e("gcd", "", np.gcd, None, "Greatest common divisor, not negative.", result="integer", arity=2,
   cost=60)  # fmt: skip
_e("invert", "", np.invert, None, "Bits inverted.", result="same")

_e("bitwise_count", "", np.bitwise_count, None, "How many bits of |x| are set.", result="count")

_register(
    Op("where", "y where x holds, else w; the other branch never leaks into the gradient.",
       "elementwise", _infer_where, lambda node, env, c, a, b: np.where(c, a, b), arity=3,
       formula="Piecewise((y, x), (w, True))",
       derivative=(None, "where(x, 1, 0)", "where(x, 0, 1)"))
)  # fmt: skip


def _infer_cast(attrs, x):
    return TensorType(np.dtype(attrs["dtype"]), x.shape)


_register(
    Op("cast", "Conversion to another dtype, as ndarray.astype.", "elementwise", _infer_cast,
       lambda node, env, x: x.astype(node.dtype), ("dtype",), formula="x", derivative=("1",))
)  # fmt: skip


# -------------------------------------------------------------------------------- complex parts


def _infer_part(attrs, z):
    if z.dtype.kind != "c":
        raise DTypeError(f"the parts of {z}, which is not complex")
    return TensorType(z.dtype.type(0).real.dtype, z.shape)


def _infer_complex(attrs, re, im):
    dtype = _same_dtype("complex", (re, im))
    if dtype.kind != "f":
        raise DTypeError(f"complex takes two real arrays, not {re}")
    return TensorType(np.result_type(dtype, np.complex64), _same_shape("complex", (re, im)))


def _eval_complex(node, env, re, im):
    out = np.empty(re.shape, node.dtype)
    out.real, out.imag = re, im
    return out


def _part(name, doc, infer, evaluate_part):
    _register(Op(name, doc, "part", infer, evaluate_part))


# Of interpreted graphs only: derivatives and compiled code split values first (ir/parts.py).
_part("real", "The real part.", _infer_part, lambda node, env, z: z.real)
_part("imag", "The imaginary part.", _infer_part, lambda node, env, z: z.imag)
_part("complex", "x + iy of two real arrays.", _infer_complex, _eval_complex)


# ----------------------------------------------------------------------------- structural rows


def _shape_of(node, env):
    return node.type.concrete_shape(env)


def _leaf(name, doc, infer, evaluate_leaf, attrs):
    _register(Op(name, doc, "leaf", infer, evaluate_leaf, attrs))


def _infer_const(attrs):
    return tensor_type(attrs["value"].array.dtype, attrs["value"].array.shape)


def _infer_iota(attrs):
    return tensor_type(attrs["dtype"], attrs["shape"])


def _eval_iota(node, env):
    shape, axis = _shape_of(node, env), node.attr("axis")
    column = np.arange(shape[axis], dtype=node.dtype)
    index = [None] * len(shape)
    index[axis] = slice(None)
    return np.broadcast_to(column[tuple(index)], shape)


_leaf("input", "An argument of the graph.", None, None, ("index", "name"))
_leaf("placeholder", "A stand-in that nested differentiation replaces.", None, None,
      ("index", "level", "name"))  # fmt: skip
_leaf("const", "A constant array.", _infer_const, lambda node, env: node.attr("value").array,
      ("value",))  # fmt: skip
_leaf("size", "The value of a symbolic dimension as a scalar.",
      lambda attrs: tensor_type(attrs["dtype"]),
      lambda node, env: np.asarray(evaluate(node.attr("dim"), env), node.dtype),
      ("dim", "dtype"))  # fmt: skip
_leaf("iota", "Counts along one axis.", _infer_iota, _eval_iota, ("axis", "dtype", "shape"))


def _infer_reshape(attrs, x):
    shape = attrs["shape"]
    if product(shape) != x.size:
        raise ShapeError(f"cannot reshape {x} to ({', '.join(map(str, shape))})")
    return TensorType(x.dtype, shape)


def _infer_transpose(attrs, x):
    perm = attrs["perm"]
    if sorted(perm) != list(range(x.ndim)):
        raise ShapeError(f"transpose: {perm} is not a permutation of the {x.ndim} axes of {x}")
    return TensorType(x.dtype, tuple(x.shape[p] for p in perm))


def _infer_broadcast(attrs, x):
    shape, dims = attrs["shape"], attrs["dims"]
    if len(dims) != x.ndim or list(dims) != sorted(set(dims)):
        raise ShapeError(f"broadcast: {dims} does not place the {x.ndim} axes of {x}")
    for size, dim in zip(x.shape, dims, strict=True):
        if shape[dim] != size:
            raise ShapeError(f"broadcast: axis of size {size} placed on {shape[dim]}")
    return TensorType(x.dtype, shape)


def _eval_broadcast(node, env, x):
    shape, dims = _shape_of(node, env), node.attr("dims")
    expanded = [1] * len(shape)
    for size, dim in zip(x.shape, dims, strict=True):
        expanded[dim] = size
    return np.broadcast_to(x.reshape(expanded), shape)


def _infer_slice(attrs, x):
    if not len(attrs["start"]) == len(attrs["size"]) == len(attrs["step"]) == x.ndim:
        raise ShapeError(f"slice: one start, size and step for each axis of {x}")
    return TensorType(x.dtype, attrs["size"])


def _eval_slice(node, env, x):
    index = []
    starts, steps = node.attr("start"), node.attr("step")
    for start, size, step in zip(starts, _shape_of(node, env), steps, strict=True):
        start = evaluate(start, env)
        stop = start + size * step
        index.append(slice(start, stop if stop >= 0 else None, step) if size else slice(0, 0))
    return x[tuple(index)]


def _pad_size(size, low, high, interior):
    return low + high + size + (size - 1) * interior if interior else low + high + size


def _infer_pad(attrs, x, fill):
    if fill.ndim or fill.dtype != x.dtype:
        raise ShapeError(f"pad: the fill of {x} must be a scalar of its dtype, not {fill}")
    parts = zip(x.shape, attrs["low"], attrs["high"], attrs["interior"], strict=True)
    return TensorType(x.dtype, tuple(_pad_size(*p) for p in parts))


def _eval_pad(node, env, x, fill):
    out = np.full(_shape_of(node, env), fill)
    if x.size:
        parts = zip(x.shape, node.attr("low"), node.attr("interior"), strict=True)
        index = []
        for size, low, gap in parts:
            low = evaluate(low, env)
            index.append(slice(low, low + (size - 1) * (gap + 1) + 1, gap + 1))
        out[tuple(index)] = x
    return out


def _infer_concat(attrs, *types):
    axis, dtype = attrs["axis"], _same_dtype("concat", types)
    total = 0
    for t in types:
        rest, first = list(t.shape), list(types[0].shape)
        if len(rest) != len(first) or rest[:axis] + rest[axis + 1 :] != (
            first[:axis] + first[axis + 1 :]
        ):
            raise ShapeError(f"concatenate on axis {axis}: {types[0]} and {t} do not fit")
        total = t.shape[axis] + total
    shape = list(types[0].shape)
    shape[axis] = total
    return TensorType(dtype, tuple(shape))


def window_count(size, width, stride, dilation):
    """How many windows of ``width`` elements fit into ``size``."""
    rest = size - (width - 1) * dilation - 1
    return rest + 1 if stride == 1 else rest // stride + 1


def _infer_windows(attrs, x):
    axis, width = attrs["axis"], attrs["width"]
    count = window_count(x.shape[axis], width, attrs["stride"], attrs["dilation"])
    if isinstance(count, int) and count < 0:
        raise ShapeError(f"windows of {width} do not fit into axis {axis} of {x}")
    return TensorType(x.dtype, (*x.shape[:axis], count, width, *x.shape[axis + 1 :]))


def _eval_windows(node, env, x):
    axis, stride = node.attr("axis"), x.strides[node.attr("axis")]
    strides = list(x.strides)
    strides[axis : axis + 1] = [stride * node.attr("stride"), stride * node.attr("dilation")]
    return _strided(x, _shape_of(node, env), strides)


def _strided(x, shape, strides):
    if min(shape, default=0) < 0:
        raise ShapeError(f"windows larger than the array of shape {x.shape}")
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def _view(name, doc, infer, evaluate_view, attrs):
    _register(Op(name, doc, "view", infer, evaluate_view, attrs))


_view("reshape", "The same elements in row-major order under another shape.", _infer_reshape,
      lambda node, env, x: x.reshape(_shape_of(node, env)), ("shape",))  # fmt: skip
_view("transpose", "Axes permuted.", _infer_transpose,
      lambda node, env, x: x.transpose(node.attr("perm")), ("perm",))  # fmt: skip
_view("broadcast", "Axis i of the input becomes axis dims[i]; other axes repeat.",
      _infer_broadcast, _eval_broadcast, ("dims", "shape"))  # fmt: skip
_view("slice", "out[i] = x[start + i*step] on each axis; a step may be negative.", _infer_slice,
      _eval_slice, ("size", "start", "step"))  # fmt: skip
_view("windows", "Overlapping pieces of one axis: out[p, k] = x[p*stride + k*dilation].",
      _infer_windows, _eval_windows, ("axis", "dilation", "stride", "width"))  # fmt: skip
_view("pad", "x inside a larger array of a fill value; interior puts gaps between elements.",
      _infer_pad, _eval_pad, ("high", "interior", "low"))  # fmt: skip
_view("concat", "Arrays joined along one axis.", _infer_concat,
      lambda node, env, *xs: np.concatenate(xs, node.attr("axis")), ("axis",))  # fmt: skip


def _infer_take(attrs, x, indices):
    axis = attrs["axis"]
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"take: indices are {indices}, not integers")
    return TensorType(x.dtype, x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def _infer_take_along(attrs, x, indices):
    axis = attrs["axis"]
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"take_along: indices are {indices}, not integers")
    rest = [d for i, d in enumerate(x.shape) if i != axis]
    if x.ndim != indices.ndim or rest != [d for i, d in enumerate(indices.shape) if i != axis]:
        raise ShapeError(f"take_along_axis on axis {axis}: {x} and indices {indices} do not fit")
    return TensorType(x.dtype, indices.shape)


def _infer_scatter_add(attrs, indices, updates):
    axis = attrs["axis"]
    if updates.shape[axis : axis + indices.ndim] != indices.shape:
        raise ShapeError(f"scatter_add: updates {updates} do not fit indices {indices}")
    shape = updates.shape[:axis] + (attrs["size"],) + updates.shape[axis + indices.ndim :]
    return TensorType(updates.dtype, shape)


def _checked_indices(indices, size, fault=""):
    bad = (indices < 0) | (indices >= size)
    if np.any(bad):
        value = indices[bad].flat[0] if indices.ndim else indices
        if fault:
            raise faults.Refused(fault, value)
        raise IndexError(f"index {value} is out of bounds for an axis of size {size}")
    return indices


def _eval_take(node, env, x, indices):
    axis = node.attr("axis")
    return np.take(x, _checked_indices(indices, x.shape[axis]), axis)


def _eval_take_along(node, env, x, indices):
    axis = node.attr("axis")
    return np.take_along_axis(x, _checked_indices(indices, x.shape[axis]), axis)


def _eval_scatter_add(node, env, indices, updates):
    axis, shape = node.attr("axis"), _shape_of(node, env)
    out = np.zeros(shape, node.dtype)
    _checked_indices(indices, shape[axis])
    np.add.at(out, (slice(None),) * axis + (indices,), updates)
    return out


def _indexing(name, doc, infer, evaluate_indexing, attrs):
    _register(Op(name, doc, "indexing", infer, evaluate_indexing, attrs))


_indexing("take", "Elements of one axis by an integer array; indices in range, not negative.",
          _infer_take, _eval_take, ("axis",))  # fmt: skip
_indexing("take_along", "One index for each position: out[i, j] = x[i, indices[i, j]].",
          _infer_take_along, _eval_take_along, ("axis",))  # fmt: skip
_indexing("scatter_add", "Adjoint of take: adds updates into zeros at the indices.",
          _infer_scatter_add, _eval_scatter_add, ("axis", "size"))  # fmt: skip


def _infer_scatter_set(attrs, x, indices, updates):
    axis = attrs["axis"]
    expected = _infer_take(attrs, x, indices)
    if updates != expected:
        raise ShapeError(f"scatter_set: updates {updates} for a region {expected} on axis {axis}")
    return x


def _eval_scatter_set(node, env, x, indices, updates):
    axis, out = node.attr("axis"), np.array(x)
    flat = _checked_indices(indices, x.shape[axis]).reshape(-1)
    shape = (*x.shape[:axis], flat.size, *x.shape[axis + 1 :])
    last = {int(i): k for k, i in enumerate(flat)}  # of equal indices the last wins
    kept = list(last.values())
    where = (slice(None),) * axis
    out[(*where, flat[kept])] = updates.reshape(shape)[(*where, kept)]
    return out


def _infer_check_index(attrs, indices):
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"check_index: indices are {indices}, not integers")
    return indices


_indexing("scatter_set", "x with updates written at the indices of one axis; the last of equal "
          "indices wins.", _infer_scatter_set, _eval_scatter_set, ("axis",))  # fmt: skip
_indexing("check_index", "The indices themselves; at run time IndexError, or the fault, outside "
          "[0, size).",
          _infer_check_index,
          lambda node, env, i: _checked_indices(
              i, evaluate(node.attr("size"), env), node.attr("fault")),
          ("size", "fault"))  # fmt: skip


# ---------------------------------------------------------------------------- scans and orders


def _scan(name, ufunc, doc):
    def evaluate_scan(node, env, x):
        return ufunc.accumulate(x, axis=node.attr("axis"), dtype=node.dtype)

    _register(Op(name, doc, "scan", lambda attrs, x: x, evaluate_scan, ("axis",)))


_scan("cumsum", np.add, "Running sums along one axis, in the input's dtype.")
_scan("cumprod", np.multiply, "Running products along one axis, in the input's dtype.")


def _infer_argsort(attrs, x):
    return TensorType(np.dtype(np.int64), x.shape)


def _infer_searchsorted(attrs, table, values):
    if table.ndim != 1 or table.dtype != values.dtype:
        raise ShapeError(f"searchsorted: {table} is not a vector of the dtype of {values}")
    return TensorType(np.dtype(np.int64), values.shape)


_register(
    Op("argsort", "Positions in increasing order along one axis; ties keep their order, NaN is "
       "last.", "sort", _infer_argsort,
       lambda node, env, x: np.argsort(x, node.attr("axis"), kind="stable"), ("axis",))
)  # fmt: skip
_register(
    Op("searchsorted", "Where values go into an increasing vector: before equal ones (side "
       "left) or behind them.", "sort", _infer_searchsorted,
       lambda node, env, a, v: np.asarray(np.searchsorted(a, v, node.attr("side"))), ("side",))
)  # fmt: skip


def _kept(x, axes):
    if list(axes) != sorted(set(axes)) or (axes and not 0 <= axes[0] <= axes[-1] < x.ndim):
        raise ShapeError(f"axes {axes} do not fit {x}")
    return tuple(d for i, d in enumerate(x.shape) if i not in axes)


def _infer_reduce(attrs, x):
    return TensorType(x.dtype, _kept(x, attrs["axes"]))


def _infer_arg_reduce(attrs, x):
    return TensorType(np.dtype(np.int64), _kept(x, attrs["axes"]))


def _reduction(name, ufunc, doc):
    def evaluate_reduction(node, env, x):
        if name in ("sum", "prod"):
            return np.asarray(ufunc(x, axis=node.attr("axes"), dtype=node.dtype))
        if name in ("argmax", "argmin"):
            return np.asarray(ufunc(x, axis=node.attr("axes")[0]))
        return np.asarray(ufunc(x, axis=node.attr("axes")))

    infer = _infer_arg_reduce if name.startswith("arg") else _infer_reduce
    _register(Op(name, doc, "reduction", infer, evaluate_reduction, ("axes",)))


_reduction("sum", np.sum, "Sum over axes, in the input's dtype.")
_reduction("prod", np.prod, "Product over axes, in the input's dtype.")
_reduction("max", np.max, "Largest over axes; NaN wins; ties share the gradient.")
_reduction("min", np.min, "Smallest over axes; NaN wins; ties share the gradient.")
_reduction("argmax", np.argmax, "First index of the largest along one axis; NaN wins.")
_reduction("argmin", np.argmin, "First index of the smallest along one axis; NaN wins.")


def matmul_dims(attrs, a: TensorType, b: TensorType):
    """``(batch, m, n, k)`` of a matmul; raises ShapeError where they do not fit."""
    if a.ndim != b.ndim or a.ndim < 2 or a.shape[:-2] != b.shape[:-2]:
        raise ShapeError(f"matmul: {a} and {b} do not fit")
    m, k = a.shape[-2:] if not attrs["ta"] else a.shape[:-3:-1]
    k_b, n = b.shape[-2:] if not attrs["tb"] else b.shape[:-3:-1]
    if k != k_b:
        raise ShapeError(f"matmul: {a} and {b}: {k} != {k_b}")
    return a.shape[:-2], m, n, k


def _infer_matmul(attrs, a, b):
    dtype = _same_dtype("matmul", (a, b))
    batch, m, n, _ = matmul_dims(attrs, a, b)
    return TensorType(dtype, (*batch, m, n))


def _eval_matmul(node, env, a, b):
    a = np.swapaxes(a, -1, -2) if node.attr("ta") else a
    b = np.swapaxes(b, -1, -2) if node.attr("tb") else b
    return np.matmul(a, b)


_register(
    Op("matmul", "Matrix product over equal leading axes; ta, tb (0 or 1) transpose an operand.",
       "contraction", _infer_matmul, _eval_matmul, ("ta", "tb"))
)  # fmt: skip


def _infer_conv(attrs, x, w):
    dtype = _same_dtype("conv", (x, w))
    if x.ndim != w.ndim or x.ndim < 3 or x.shape[1] != w.shape[1]:
        raise ShapeError(f"conv: input {x} and weights {w} do not fit")
    parts = zip(x.shape[2:], w.shape[2:], attrs["stride"], attrs["dilation"], strict=True)
    counts = [window_count(*part) for part in parts]
    if any(isinstance(c, int) and c < 0 for c in counts):
        raise ShapeError(f"conv: weights {w} are larger than the input {x}")
    return TensorType(dtype, (x.shape[0], w.shape[0], *counts))


def _eval_conv(node, env, x, w):
    spatial = x.ndim - 2
    strides, counts = list(x.strides[:2]), _shape_of(node, env)[2:]
    strides += [s * t for s, t in zip(x.strides[2:], node.attr("stride"), strict=True)]
    strides += [s * d for s, d in zip(x.strides[2:], node.attr("dilation"), strict=True)]
    shape = (*x.shape[:2], *counts, *w.shape[2:])
    pieces = _strided(x, shape, strides)
    inner = [1, *range(2 + spatial, 2 + 2 * spatial)]
    out = np.tensordot(pieces, w, (inner, range(1, w.ndim)))  # [n, *counts, o]
    return np.moveaxis(out, -1, 1)


_register(
    Op("conv", "Cross-correlation without padding: x [n, c, *s] and weights [o, c, *k] give "
       "out[n, o, p] = sum over c, k of x[n, c, p*stride + k*dilation] * w[o, c, k].",
       "contraction", _infer_conv, _eval_conv, ("dilation", "stride"))
)  # fmt: skip
_register(
    Op("loop", "Steps of a body over carries, stacked inputs and stacked results: see ir/control.",
       "control", control.infer_loop, control.run_loop,
       ("body", "carries", "cond", "counted", "grow", "length", "remat", "reverse", "xs"))
)  # fmt: skip
_register(
    Op("cond", "One of two graphs of the operands.", "control", control.infer_cond,
       control.run_cond, ("on_false", "on_true"))
)  # fmt: skip
_register(
    Op("item", "One of several results.", "control", control.infer_item,
       lambda node, env, x: x[node.attr("index")], ("index",))
)  # fmt: skip


_view("barrier", "x, computed only when `after` is: never merged with x or with what computes x.",
      lambda attrs, x, after: x, lambda node, env, x, after: x, ())  # fmt: skip


def _mark(name, doc, infer, evaluate_mark, attrs):
    _register(Op(name, doc, "mark", infer, evaluate_mark, attrs))


# Only while a function is traced: see ir/calls.py.
_mark("call_arg", "An argument, inside of a marked call.", lambda attrs, x: x,
      lambda node, env, x: x, ("index", "token"))  # fmt: skip
_mark("call", "A marked call: what it computed, then its arguments.",
      lambda attrs, *types: tensor_type(np.float32),
      lambda node, env, *arrays: np.float32(0), ("results", "rule"))  # fmt: skip
_mark("call_result", "One result of a marked call.", lambda attrs, call, value: value,
      lambda node, env, call, value: value, ("index",))  # fmt: skip


def _library(name, infer, doc, attrs=()):
    _register(Op(name, doc, "library", infer, getattr(library, name), attrs))


_library(
    "cholesky",
    library.infer_square("cholesky"),
    "Lower factor L of a symmetric positive definite a = L @ L.T; reads the lower triangle.",
)
_library("triangular_solve", library.infer_triangular_solve,
         "x of a @ x = b for a triangle of a; trans: of a.T @ x = b; unit: ones on its diagonal.",
         ("lower", "trans", "unit"))  # fmt: skip
_library("lu", library.infer_lu, "Triangular factors with pivots, packed; of any square matrix.")
_library("lu_solve", library.infer_lu_solve,
         "x of a @ x = b, or of a.T @ x = b (trans), by the factors of a.", ("trans",))  # fmt: skip
_library("qr", library.infer_qr, "Orthogonal and triangular factor, packed.", ("full",))
_library(
    "eigh",
    library.infer_eigh,
    "Eigenvalues, ascending, and eigenvectors, packed; reads the lower triangle.",
)
_library("svd", library.infer_svd, "Singular values, descending, and vectors, packed.", ("full",))
_library("complex_qr", library.infer_complex_qr, "qr of complex matrices, given as pairs.",
         ("full",))  # fmt: skip
_library("complex_eigh", library.infer_complex_eigh, "eigh of Hermitian matrices, given as pairs.")
_library("complex_svd", library.infer_complex_svd, "svd of complex matrices, given as pairs.",
         ("full",))  # fmt: skip
_register(
    Op("dft", "Sums of z * exp(-2j pi j k / n) over axis -2 of x [..., 2, n, inner], real parts "
       "before imaginary ones (inverse: + in the exponent); unnormalised.", "library",
       fourier.infer_dft, fourier.evaluate_dft, ("inverse", "n", "single"))
)  # fmt: skip
_library("expm", library.infer_square("expm"), "Matrix exponential.")
_register(
    Op("implicit", "The first operand; its derivative by the others is given by a rule (det, "
       "slogdet, pinv; `same`: the identity's), not by how it was computed.", "view",
       library.infer_implicit, library.implicit, ("rule",))
)  # fmt: skip


def infer(op: str, attrs: dict, inputs: tuple[Node, ...]) -> TensorType:
    """The result type of ``op``; raises ShapeError or DTypeError."""
    return OPS[op].infer(attrs, *[i.type for i in inputs])


def is_elementwise(node: Node) -> bool:
    return OPS[node.op].kind == "elementwise"


def is_library(node: Node) -> bool:
    """Whether a node is a call of dense linear algebra."""
    return OPS[node.op].kind in ("library", "sort")


def is_reduction(node: Node) -> bool:
    return OPS[node.op].kind == "reduction"
