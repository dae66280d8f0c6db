"""The coverage table as data: each NumPy function with the ways in which it is called.

A case is an expression over named arguments. It is run forward in each of its dtypes,
differentiated to its order, and compiled; ``docs/coverage.md`` is written from the same rows.
"""

from __future__ import annotations

import linecache
import textwrap
from dataclasses import dataclass

import numpy as np

import graphc as gc
import graphc.numpy as gnp

FLOATS = ("float64", "float32")
ALL = ("float64", "float32", "bool", "int8", "int32", "int64", "uint8", "uint64")
NUMBERS = tuple(d for d in ALL if d != "bool")
INTEGERS = ("bool", "int8", "int32", "int64", "uint8", "uint64")


@dataclass(frozen=True)
class Array:
    """How to make an argument: ``kind`` says which values, ``dtype`` None follows the case."""

    kind: str
    shape: tuple[int, ...]
    dtype: str | None = None
    high: int = 0

    def make(self, dtype: str, seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, *self.shape])
        kind, shape = self.kind, self.shape
        target = np.dtype(self.dtype or dtype)
        if kind == "index":
            return np.asarray(rng.integers(0, self.high, shape)).astype(target)
        if kind == "few":  # one in each column, never a whole row
            return np.eye(*((1, *shape) if len(shape) == 1 else shape), dtype=bool).reshape(shape)
        if kind == "bool":
            return np.asarray(rng.integers(0, 2, shape).astype(bool))
        if target.kind in "iub":
            low = 1 if kind in ("positive", "above") else 0 if target.kind == "u" else -4
            values = np.asarray(rng.integers(low, 6, shape))
            values = np.sort(values) if kind == "sorted" else values
            return values.astype(target)
        count = int(np.prod(shape))
        grid = rng.permutation(np.linspace(0.03, 0.97, count) if count > 1 else np.full(1, 0.37))
        low, high = {
            "normal": (-2.3, 2.1), "positive": (0.3, 2.6), "unit": (-0.9, 0.9),
            "above": (1.1, 3.0), "sorted": (-2.0, 2.0), "between": (0.05, 0.95),
        }[kind]  # fmt: skip
        values = (low + (high - low) * grid[:count]).reshape(shape)
        return (np.sort(values) if kind == "sorted" else values).astype(target)


def N(*shape) -> Array:
    """Values of both signs, no two equal."""
    return Array("normal", shape)


def P(*shape) -> Array:
    """Positive values."""
    return Array("positive", shape)


def U(*shape) -> Array:
    """Values between -1 and 1."""
    return Array("unit", shape)


def above(*shape) -> Array:
    """Values above 1."""
    return Array("above", shape)


def between(*shape) -> Array:
    """Values between 0 and 1."""
    return Array("between", shape)


def S(*shape) -> Array:
    """Increasing values along the last axis."""
    return Array("sorted", shape)


def index(high: int, *shape, dtype="int64") -> Array:
    """Integers from 0 up to ``high``."""
    return Array("index", shape, dtype, high)


def B(*shape) -> Array:
    """Truth values."""
    return Array("bool", shape, "bool")


def few(*shape) -> Array:
    """True at few places, in no slice everywhere."""
    return Array("few", shape, "bool")


def I(*shape) -> Array:  # noqa: E743
    """Small integers whatever the dtype of the case is."""
    return Array("normal", shape, "int64")


@dataclass(frozen=True)
class Case:
    """``order``: how often it is differentiated; 0 where every derivative is zero or undefined.

    ``flat``: the derivative is zero everywhere. ``exact`` False: values that NumPy itself
    rounds differently from build to build.
    """

    section: str
    function: str
    text: str
    args: tuple[tuple[str, Array], ...]
    dtypes: tuple[str, ...] = FLOATS
    order: int = 2
    flat: bool = False

    @property
    def id(self) -> str:
        shapes = ",".join("x".join(map(str, a.shape)) or "0d" for _, a in self.args)
        return f"{self.text} [{shapes}]"

    def function_of(self):
        """The expression as a function of its arguments."""
        names = ", ".join(name for name, _ in self.args)
        if "\n" in self.text:
            body = textwrap.indent(self.text, "    ")
            scope = dict(NAMESPACE)
            text, file = f"def case({names}):\n{body}\n", f"<{self.id}>"
            linecache.cache[file] = (len(text), None, text.splitlines(True), file)
            exec(compile(text, file, "exec"), scope)
            return scope["case"]
        return eval(f"lambda {names}: {self.text}", NAMESPACE)

    def arrays(self, dtype: str) -> list[np.ndarray]:
        return [a.make(dtype, seed) for seed, (_, a) in enumerate(self.args)]


def _special(name):
    import scipy.special

    return getattr(scipy.special, name)


class _SciPy:
    def __getattr__(self, name):
        return _special(name)


NAMESPACE = {"np": np, "gnp": gnp, "gc": gc, "sp": _SciPy()}
CASES: list[Case] = []
_section = ""


def section(name: str) -> None:
    global _section
    _section = name


def case(function: str, *texts: str, dtypes=FLOATS, order=2, flat=False, **args: Array) -> None:
    """Rows of one function called in several ways on the same arguments."""
    for text in texts:
        text = textwrap.dedent(text).strip("\n")
        row = Case(_section, function, text, tuple(args.items()), dtypes, order, flat)
        CASES.append(row)


def flat(function: str, *texts: str, dtypes=ALL, **args: Array) -> None:
    """Rows whose value is an integer, a truth value or constant almost everywhere."""
    case(function, *texts, dtypes=dtypes, order=0, flat=True, **args)


# --------------------------------------------------------------------------------------- ufuncs

section("Ufuncs")
_DOMAIN = {
    "arccos": U, "arcsin": U, "arctanh": U, "arccosh": above, "log": P, "log2": P, "log10": P,
    "log1p": P, "sqrt": P, "cbrt": P, "reciprocal": P, "acos": U, "asin": U, "atanh": U,
    "acosh": above,
}  # fmt: skip
_PAIRS = {
    "power": (P, N), "pow": (P, N), "float_power": (P, N), "divide": (N, P), "fmod": (N, P),
    "true_divide": (N, P), "floor_divide": (N, P), "remainder": (N, P), "mod": (N, P),
    "divmod": (N, P), "copysign": (N, N),
}  # fmt: skip
_FLAT = {
    "ceil", "floor", "trunc", "rint", "sign", "signbit", "isfinite", "isinf", "isnan", "equal",
    "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_not",
    "logical_or", "logical_xor", "floor_divide", "spacing",
}  # fmt: skip
_BITS = {
    "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "invert", "bitwise_invert",
    "left_shift", "right_shift", "bitwise_left_shift", "bitwise_right_shift", "gcd", "lcm",
    "bitwise_count",
}  # fmt: skip
# Of dates, of complex numbers; matmul and its kin stand with the products.
_ELSEWHERE = {"isnat", "matmul", "vecdot", "vecmat", "matvec", "ldexp", "frexp", "nextafter"}
UFUNCS = sorted(n for n in dir(np) if isinstance(getattr(np, n), np.ufunc) and n not in _ELSEWHERE)

for _name in UFUNCS:
    _ufunc = getattr(np, _name)
    _x, _y = _PAIRS.get(_name, (_DOMAIN.get(_name, N),) * 2)
    _dtypes = INTEGERS if _name in _BITS else ALL
    if _name == "spacing":  # NumPy's float16 drops the sign
        _dtypes = FLOATS
    if _name in ("power", "pow"):
        _dtypes = (*FLOATS, "bool", "uint8", "uint64")
    if "shift" in _name:
        _x = _y = P
    _order = 0 if _name in _FLAT | _BITS else 2
    _row = dict(dtypes=_dtypes, order=_order, flat=not _order)
    if _ufunc.nin == 1:
        case(f"np.{_name}", f"np.{_name}(x)", x=_x(3, 4), **_row)
        case(f"np.{_name}", f"np.{_name}(x)", x=_x(), **_row)
        case(f"np.{_name}", f"np.{_name}(x[:, ::-2])", x=_x(0, 4), **_row)
    else:
        case(f"np.{_name}", f"np.{_name}(x, y)", x=_x(3, 4), y=_y(4), **_row)
        case(f"np.{_name}", f"np.{_name}(x, y)", x=_x(), y=_y(2, 1), **_row)
        case(f"np.{_name}", f"np.{_name}(x, y)", x=_x(0, 4), y=_y(), **_row)
case("np.ldexp", "np.ldexp(x, n)", x=N(3, 4), n=I(4))
case("np.ldexp", "np.ldexp(x, n)", x=N(), n=I())
case("np.frexp", "np.frexp(x)", x=N(3, 4))
case("np.frexp", "np.frexp(x)", x=N())
case("np.nextafter", "np.nextafter(x, y)", x=N(3, 4), y=N(4))
case("np.nextafter", "np.nextafter(x, y)", x=N(), y=N(0, 2))
case("ufunc arguments", "np.add(x, y, dtype=np.float64)", "np.multiply.outer(x, y)",
     "np.add(x, 1, out=x.copy(), where=x > 0)", "np.add.reduce(x, axis=0)",
     "np.multiply.accumulate(x)", "np.maximum.reduce(x, axis=1)", x=N(3, 4), y=N(3, 4))  # fmt: skip
case("ufunc methods", "np.maximum.accumulate(x)", "np.minimum.accumulate(x, axis=-1)",
     "np.fmax.reduce(x, axis=None)", "np.hypot.reduce(x, axis=(0, 1), keepdims=True)",
     "np.subtract.reduce(x)", "np.add.reduceat(x, [0, 2, 1])", "np.fmin.reduce(x, initial=0.5)",
     "np.logaddexp.accumulate(x, axis=1)", "np.divide.accumulate(x, axis=1)[:, :2]",
     "np.fmax.reduce(x, axis=1, initial=-5.0, where=x > 0)", x=N(3, 4))  # fmt: skip
case("ufunc methods", *(f"y = x * 1\nnp.{call}\nreturn y * x" for call in (
    "subtract.at(y, [0, 0, 2], v)", "multiply.at(y, [0, 0, 2], v)", "maximum.at(y, [1, 1], v[:2])",
    "negative.at(y, [2])")), x=N(3, 2), v=N(3, 2))  # fmt: skip
flat("ufunc methods", "np.bitwise_xor.reduce(x, axis=1)", "np.bitwise_or.reduce(x)",
     "np.logical_xor.reduce(x > 0)", x=N(3, 4), dtypes=INTEGERS)  # fmt: skip
case("out=", *(f"y = np.zeros_like(x)\n{call}\nreturn y * x" for call in (
    "np.cumsum(x, axis=0, out=y)", "np.clip(x, -1, 1, out=y)", "x.sum(0, out=y[0])",
    "np.dot(x, x, out=y)", "np.maximum(x, 0.5, out=y)", "y.flat = x[0]")), x=N(3, 3))  # fmt: skip

# ----------------------------------------------------------------------------------- reductions

section("Reductions")
_WAYS = ("{f}(x)", "{f}(x, axis=1)", "{f}(x, axis=(0, -1), keepdims=True)")
for _name in ("sum", "prod"):
    _f = f"np.{_name}"
    case(_f, *(w.format(f=_f) for w in _WAYS), dtypes=ALL, x=N(2, 3))
    case(_f, f"{_f}(x, axis=0, dtype=np.float64)", f"{_f}(x, dtype=np.int64)" if 0 else
         f"{_f}(x, initial=2)", x=N(2, 3))  # fmt: skip
    case(_f, f"{_f}(x, axis=1, where=m)", f"{_f}(x, axis=1, where=m, initial=3)", x=N(2, 3),
         m=B(2, 3))  # fmt: skip
    case(_f, f"{_f}(x)", f"{_f}(x, axis=-1)", x=N(), dtypes=ALL)
    case(_f, f"{_f}(x)", f"{_f}(x, axis=0)", f"{_f}(x, axis=1, keepdims=True)", x=N(0, 3))
for _name in ("mean", "var", "std"):
    _f = f"np.{_name}"
    case(_f, *(w.format(f=_f) for w in _WAYS), dtypes=ALL, x=N(2, 3))
    case(_f, f"{_f}(x, axis=0, dtype=np.float64)", f"{_f}(x[:, ::-1], axis=-1)", x=N(2, 3))
    case(_f, f"{_f}(x, axis=1, where=m)", x=N(2, 5), m=B(2, 5))
    case(_f, f"{_f}(x)", x=N())
    case(_f, f"{_f}(x, axis=1)", x=N(0, 3))
for _name in ("var", "std"):
    case(f"np.{_name}", f"np.{_name}(x, axis=0, ddof=1)", f"np.{_name}(x, correction=1)", x=N(3, 2))
for _name in ("max", "min", "amax", "amin"):
    _f = f"np.{_name}"
    case(_f, *(w.format(f=_f) for w in _WAYS), dtypes=ALL, x=N(2, 3))
    case(_f, f"{_f}(x, axis=1, where=m, initial=0)", f"{_f}(x, initial=1)", x=N(2, 3), m=B(2, 3))
    case(_f, f"{_f}(x)", x=N())
    case(_f, f"{_f}(x, axis=0, initial=0)", f"{_f}(x, axis=1)", x=N(0, 3))
case("np.ptp", "np.ptp(x)", "np.ptp(x, axis=1)", "np.ptp(x, axis=0, keepdims=True)", x=N(2, 3),
     dtypes=NUMBERS)  # fmt: skip
for _name, _more in (("median", ""), ("quantile", ", 0.3"), ("percentile", ", 30")):
    _f = f"np.{_name}"
    case(_f, f"{_f}(x{_more})", f"{_f}(x{_more}, axis=1)", f"{_f}(x{_more}, axis=(0, 1))",
         f"{_f}(x{_more}, axis=0, keepdims=True)", x=N(3, 4), dtypes=NUMBERS)  # fmt: skip
    case(_f, f"{_f}(x{_more})", f"{_f}(x{_more}, keepdims=True)", x=N(5))
    case(_f, f"{_f}(x{_more}, axis=-1)", x=N(0, 3))
case("np.quantile", *(f"np.quantile(x, 0.35, method={m!r})" for m in (
    "lower", "higher", "nearest", "midpoint", "linear", "hazen", "weibull", "median_unbiased",
    "normal_unbiased", "interpolated_inverted_cdf", "inverted_cdf",
    "averaged_inverted_cdf", "closest_observation")),
     "np.quantile(x, [0.1, 0.5, 1.0])", x=N(7))  # fmt: skip
case("np.quantile", "np.quantile(x, q)", "np.quantile(x, q, axis=0)", x=N(6, 2), q=between(3))
case("np.percentile", "np.percentile(x, [[5, 50], [75, 100]], axis=1)", x=N(2, 4))
for _name in ("cumsum", "cumprod"):
    _f = f"np.{_name}"
    case(_f, f"{_f}(x)", f"{_f}(x, axis=0)", f"{_f}(x, axis=-1)", dtypes=ALL, x=N(3, 4))
    case(_f, f"{_f}(x, axis=1, dtype=np.float64)", x=N(2, 3))
    case(_f, f"{_f}(x)", x=N())
    case(_f, f"{_f}(x, axis=0)", f"{_f}(x, axis=1)", x=N(0, 3))
case("np.cumprod", "np.cumprod(x * np.array([1.0, 0.0, 1.0, 0.0, 1.0], x.dtype))", x=N(5))
if hasattr(np, "cumulative_sum"):
    case("np.cumulative_sum", "np.cumulative_sum(x, axis=0)",
         "np.cumulative_sum(x, axis=-1, include_initial=True)", x=N(3, 4))  # fmt: skip
    case("np.cumulative_prod", "np.cumulative_prod(x, axis=1)", x=N(3, 4))
case("np.nancumsum", "np.nancumsum(np.where(m, np.nan, x))", x=N(5), m=B(5))
case("np.nancumprod", "np.nancumprod(np.where(m, np.nan, x), axis=0)", x=N(5), m=B(5))
case("np.diff", "np.diff(x)", "np.diff(x, 2)", "np.diff(x, axis=0)", dtypes=ALL, x=N(3, 4))
case("np.diff", "np.diff(x, prepend=0)", "np.diff(x, append=x[:, :1])", x=N(3, 4))
case("np.diff", "np.diff(x, 5)", "np.diff(x[:, :0])", x=N(2, 3))
case("np.ediff1d", "np.ediff1d(x)", "np.ediff1d(x, to_begin=0, to_end=[1, 2])", x=N(5))
case("np.gradient", "np.gradient(x)", "np.gradient(x, 2.0)", "np.gradient(x, edge_order=2)",
     "np.gradient(x, y)", x=N(6), y=S(6))  # fmt: skip
case("np.gradient", "np.gradient(x)", "np.gradient(x, 2.0, axis=0)", "np.gradient(x, 0.5, 3.0)",
     x=N(3, 4))  # fmt: skip
case("np.trapezoid", "np.trapezoid(x)", "np.trapezoid(x, y)", "np.trapezoid(x, dx=0.5, axis=0)",
     x=N(3, 4), y=S(4))  # fmt: skip
case("np.trapezoid", "np.trapezoid(x, y, axis=0)", x=N(3, 4), y=S(3))
flat("np.argmax", "np.argmax(x)", "np.argmax(x, axis=1)", "np.argmax(x, axis=0, keepdims=True)",
     x=N(3, 4))  # fmt: skip
flat("np.argmin", "np.argmin(x)", "np.argmin(x, axis=-1)", x=N(3, 4))
flat("np.argmax", "np.argmax(x)", x=N())
flat("np.argsort", "np.argsort(x)", "np.argsort(x, axis=0)", "np.argsort(x, axis=None)",
     "np.argsort(x, kind='stable')", x=N(3, 4), dtypes=FLOATS)  # fmt: skip
flat("np.argsort", "np.argsort(x, axis=0, kind='stable')", x=N(3, 4))
flat("np.argsort", "np.argsort(x)", x=N(0, 3))
flat("np.argsort", "np.argsort(x)", x=N())
case("np.sort", "np.sort(x)", "np.sort(x, axis=0)", "np.sort(x, axis=None)", x=N(3, 4), dtypes=ALL)
case("np.sort", "np.sort(x)", x=N(3, 0))
case("np.sort", "np.sort(np.where(m, np.nan, x))[:4]", x=N(5), m=few(5))
case("np.partition", "np.partition(x, 2)[..., 2]", x=N(3, 4))
flat("np.argpartition", "np.argpartition(x, 1)[..., 1]", x=N(3, 4), dtypes=FLOATS)
flat("np.lexsort", "np.lexsort((x, y))", "np.lexsort(np.stack([x, y]))", x=N(5), y=N(5))
flat("np.any", "np.any(x)", "np.any(x, axis=1)", "np.any(x, axis=0, keepdims=True, where=m)",
     x=N(3, 4), m=B(3, 4))  # fmt: skip
flat("np.all", "np.all(x)", "np.all(x, axis=(0, 1))", "np.all(x, axis=1, where=m)", x=N(3, 4),
     m=B(3, 4))  # fmt: skip
flat("np.all", "np.all(x)", "np.any(x, axis=0)", x=N(0, 3))
flat("np.count_nonzero", "np.count_nonzero(x)", "np.count_nonzero(x, axis=1, keepdims=True)",
     x=N(3, 4))  # fmt: skip
for _name in ("nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"):
    _f = f"np.{_name}"
    case(_f, f"{_f}(np.where(m, np.nan, x))", f"{_f}(np.where(m, np.nan, x), axis=1)",
         f"{_f}(np.where(m, np.nan, x), axis=0, keepdims=True)", x=N(3, 6),
         m=few(3, 6))  # fmt: skip
    case(_f, f"{_f}(x)", f"{_f}(x, axis=1)", x=N(3, 2), dtypes=NUMBERS)
    if _name not in ("nanmean", "nanvar", "nanstd"):
        case(_f, f"{_f}(np.where(m, np.nan, x), axis=0, initial=0.5)", x=N(1, 6), m=few(1, 6))
for _name, _more in (("nanmedian", ""), ("nanquantile", ", 0.3"), ("nanpercentile", ", 30")):
    _f = f"np.{_name}"
    case(_f, f"{_f}(np.where(m, np.nan, x){_more})", f"{_f}(np.where(m, np.nan, x){_more}, axis=1)",
         x=N(3, 6), m=few(3, 6))  # fmt: skip
flat("np.nanargmax", "np.nanargmax(np.where(m, np.nan, x), axis=0)", x=N(6), m=B(6), dtypes=FLOATS)
flat("np.nanargmin", "np.nanargmin(np.where(m, np.nan, x))", x=N(6), m=B(6), dtypes=FLOATS)
case("np.average", "np.average(x)", "np.average(x, axis=0, weights=w)", x=N(3, 2), w=P(3))
case("np.cov", "np.cov(x)", "np.cov(x, rowvar=False, bias=True)", x=N(3, 4))
case("np.corrcoef", "np.corrcoef(x)", x=N(2, 4))
case("np.clip", "np.clip(x, -1, 1)", "np.clip(x, None, y)", "np.clip(x, y, 1.5)", x=N(3, 4),
     y=N(4))  # fmt: skip
case("np.clip", "np.clip(x, 1, 3)", "np.clip(x, -1000, 1000)", x=N(3, 4), dtypes=NUMBERS)

# ------------------------------------------------------------------------------------- products

section("Products")
for _name in ("dot", "matmul", "inner"):
    _f = f"np.{_name}"
    case(_f, f"{_f}(x, y)", x=N(4), y=N(4), dtypes=ALL)
    case(_f, f"{_f}(x, y)", x=N(2, 3), y=N(3, 3), dtypes=ALL)
    case(_f, f"{_f}(x, y)", x=N(2, 3), y=N(3))
    case(_f, f"{_f}(x, y)", x=N(0, 3), y=N(3))
case("np.matmul", "x @ y", x=N(2, 1, 2, 3), y=N(4, 3, 2))
case("np.matmul", "x @ y", x=N(2, 0), y=N(0, 3))
case("np.dot", "np.dot(x, y)", x=N(2, 3), y=N(2, 3, 2))
case("np.dot", "np.dot(x, y)", x=N(), y=N(3))
case("np.inner", "np.inner(x, y)", x=N(2, 3), y=N(2, 2, 3))
case("np.vdot", "np.vdot(x, y)", x=N(2, 3), y=N(3, 2), dtypes=ALL)
case("np.vecdot", "np.vecdot(x, y)", x=N(2, 3), y=N(3), dtypes=ALL)
case("np.vecdot", "np.vecdot(x, y, axis=0, keepdims=True)", "np.vecdot(x, y, axes=[0, 0])",
     x=N(3, 2), y=N(3, 1))  # fmt: skip
case("np.matvec", "np.matvec(x, y)", x=N(2, 1, 2, 3), y=N(2, 3), dtypes=ALL)
case("np.matvec", "np.matvec(x, y, axes=[(0, 1), 0, 0])", x=N(2, 3, 2), y=N(3, 2))
case("np.vecmat", "np.vecmat(x, y)", x=N(2, 3), y=N(2, 3, 2), dtypes=ALL)
case("np.matmul", "np.matmul(x, y, axes=[(1, 0), (0, 1), (1, 0)])", x=N(3, 2), y=N(3, 4))
case("np.outer", "np.outer(x, y)", x=N(2, 2), y=N(3), dtypes=ALL)
case("np.tensordot", "np.tensordot(x, y)", x=N(2, 3), y=N(2, 3))
case("np.tensordot", "np.tensordot(x, y, axes=1)", "np.tensordot(x, y, axes=([0, 1], [1, 0]))",
     "np.tensordot(x, y, axes=0)", x=N(3, 2), y=N(2, 3))  # fmt: skip
case(
    "np.einsum",
    "np.einsum('ij,jk->ik', x, y)",
    "np.einsum('ij,jk', x, y)",
    "np.einsum('ij,ji->', x, y)",
    "np.einsum('...j,jk->...k', x, y)",
    x=N(2, 3),
    y=N(3, 2),
)
case("np.einsum", "np.einsum('ii->i', x)", "np.einsum('ii', x)", "np.einsum('ij->ji', x)",
     "np.einsum('ij,ij->i', x, x)", "np.einsum('ij,jk,kl->il', x, x, x)",
     "np.einsum(x, [0, 1], x, [1, 2], [0, 2])", x=N(3, 3))  # fmt: skip
case("np.kron", "np.kron(x, y)", x=N(2, 2), y=N(3), dtypes=ALL)
case("np.cross", "np.cross(x, y)", x=N(2, 3), y=N(3), dtypes=NUMBERS)
case("np.cross", "np.cross(x[:, :2], y)", "np.cross(y, x[:, :2])", "np.cross(x[:, :2], y[1:])",
     x=N(2, 3), y=N(3))  # fmt: skip
case("np.cross", "np.cross(x, y, axis=0)", "np.cross(x, y, axisa=0, axisb=0, axisc=0)", x=N(3, 2),
     y=N(3, 2))  # fmt: skip
case("np.trace", "np.trace(x)", "np.trace(x, 1)", "np.trace(x, -1, 1, 0)", x=N(3, 4), dtypes=ALL)
case("np.trace", "np.trace(x, axis1=0, axis2=2, dtype=np.float64)", x=N(2, 3, 2))
case("np.diag", "np.diag(x)", "np.diag(x, 1)", "np.diag(x, -2)", x=N(3), dtypes=ALL)
case("np.diag", "np.diag(x)", "np.diag(x, 1)", "np.diag(x, -1)", x=N(3, 4))
case("indices of triangles", "x[np.tril_indices_from(x, -1)]", "x[np.triu_indices_from(x)]",
     "x[np.diag_indices_from(x)]", x=N(3, 3))  # fmt: skip
case("np.diagflat", "np.diagflat(x)", "np.diagflat(x, -1)", x=N(2, 2))
case("np.diagonal", "np.diagonal(x)", "np.diagonal(x, 1, 1, 0)", "np.diagonal(x, offset=-1)",
     x=N(3, 4))  # fmt: skip
case("np.diagonal", "np.diagonal(x, 0, -1, 0)", x=N(2, 3, 2))
case("np.tril", "np.tril(x)", "np.tril(x, -1)", x=N(3, 4), dtypes=ALL)
case("np.triu", "np.triu(x)", "np.triu(x, 1)", x=N(2, 3, 3), dtypes=ALL)
case("np.tril", "np.tril(x)", "np.triu(x)", x=N(3))
case("np.vander", "np.vander(x)", "np.vander(x, 4, increasing=True)", x=N(3))
case("np.polyval", "np.polyval(c, x)", c=N(3), x=N(4))
case("np.polyadd", "np.polyadd(x, y)", "np.polysub(y, x)", x=N(3), y=N(4))
case("np.polymul", "np.polymul(x, y)", "np.polyder(x)", "np.polyint(x, 2, [1, 2])", x=N(3), y=N(4))
case("np.linalg.norm", "np.linalg.norm(x)", "np.linalg.norm(x, axis=1)",
     "np.linalg.norm(x, ord=1, axis=0, keepdims=True)", x=N(3, 4))  # fmt: skip

# --------------------------------------------------------------------------------------- shapes

section("Shapes")
case("np.reshape", "np.reshape(x, (4, 3))", "np.reshape(x, -1)", "x.reshape(2, -1)",
     "np.reshape(x, (4, 3), order='F')", x=N(3, 4), dtypes=ALL)  # fmt: skip
case("np.reshape", "np.reshape(x, (1, 1))", x=N())
case("np.reshape", "np.reshape(x, (3, 0))", x=N(0, 3))
case("np.ravel", "np.ravel(x)", "x.T.ravel()", "np.ravel(x, order='F')", "x.flatten()", x=N(3, 4),
     dtypes=ALL)  # fmt: skip
case("np.transpose", "np.transpose(x)", "np.transpose(x, (1, 2, 0))", "x.transpose(-1, 0, 1)",
     "x.T", x=N(2, 3, 2))  # fmt: skip
case("np.swapaxes", "np.swapaxes(x, 0, -1)", x=N(2, 3, 2))
case("np.moveaxis", "np.moveaxis(x, 0, -1)", "np.moveaxis(x, [0, 1], [-1, 0])", x=N(2, 3, 2))
case("np.rollaxis", "np.rollaxis(x, 2)", "np.rollaxis(x, 0, 3)", "np.rollaxis(x, -1, 1)",
     x=N(2, 3, 2))  # fmt: skip
case("np.squeeze", "np.squeeze(x)", "np.squeeze(x, axis=-1)", "np.squeeze(x, axis=(0, 2))",
     x=N(1, 3, 1))  # fmt: skip
case("np.expand_dims", "np.expand_dims(x, 0)", "np.expand_dims(x, (0, -1))", x=N(3))
case("np.broadcast_to", "np.broadcast_to(x, (2, 3, 4))", x=N(3, 1))
case("np.broadcast_to", "np.broadcast_to(x, (0, 2))", x=N())
case("np.broadcast_arrays", "np.broadcast_arrays(x, y)", x=N(3, 1), y=N(4))
case("np.concatenate", "np.concatenate([x, y])", "np.concatenate([x, y, x], axis=0)",
     "np.concatenate([x, y], axis=None)", "np.concatenate((x, x), axis=-1)",
     "np.concatenate([x, y], dtype=np.float64)", x=N(2, 3), y=N(1, 3))  # fmt: skip
case("np.concatenate", "np.concatenate([x, y])", x=N(0, 3), y=N(2, 3))
case("np.concatenate", "np.concatenate([x, y, z])", x=N(2), y=I(2), z=B(2), dtypes=ALL)
case("np.stack", "np.stack([x, y])", "np.stack([x, y], axis=-1)", "np.stack([x, y], axis=1)",
     x=N(2, 3), y=N(2, 3))  # fmt: skip
case("np.stack", "np.stack([x, y])", x=N(), y=N())
for _name in ("vstack", "hstack", "dstack", "column_stack"):
    case(f"np.{_name}", f"np.{_name}([x, y])", x=N(3), y=N(3))
    case(f"np.{_name}", f"np.{_name}([x, y])", x=N(2, 3), y=N(2, 3))
case("np.block", "np.block([[x, y], [y, x]])", x=N(2, 2), y=N(2, 2))
case("np.append", "np.append(x, y)", "np.append(x, y[None], axis=0)", x=N(2, 3), y=N(3))
case("np.insert", "np.insert(x, 1, y)", "np.insert(x, [0, 2], y)", "np.insert(x, -1, 2.0)",
     x=N(3), y=N(2))  # fmt: skip
case("np.delete", "np.delete(x, 1, axis=0)", "np.delete(x, [0, -1], axis=1)",
     "np.delete(x, slice(0, 4, 2))", x=N(3, 4))  # fmt: skip
case("np.split", "np.split(x, 2, axis=1)", "np.split(x, [1, 3], axis=-1)", "np.split(x, 3)",
     x=N(3, 4))  # fmt: skip
case("np.array_split", "np.array_split(x, 3, axis=1)", "np.array_split(x, 2)", x=N(3, 4))
case("np.hsplit", "np.hsplit(x, 2)", "np.vsplit(x, 2)", x=N(2, 4))
case("np.dsplit", "np.dsplit(x, 2)", x=N(2, 1, 4))
case("np.tile", "np.tile(x, 2)", "np.tile(x, (2, 1, 2))", x=N(2, 3))
case("np.repeat", "np.repeat(x, 2)", "np.repeat(x, 3, axis=0)", "np.repeat(x, [1, 0, 2], axis=1)",
     x=N(2, 3))  # fmt: skip
case("np.roll", "np.roll(x, 1)", "np.roll(x, -2, axis=1)", "np.roll(x, (1, 2), axis=(0, 1))",
     x=N(3, 4), dtypes=ALL)  # fmt: skip
case("np.flip", "np.flip(x)", "np.flip(x, 0)", "np.flip(x, (0, -1))", "np.flipud(x)",
     "np.fliplr(x)", x=N(3, 4))  # fmt: skip
case("np.rot90", "np.rot90(x)", "np.rot90(x, 2)", "np.rot90(x, -1)", "np.rot90(x, 3, axes=(1, 0))",
     x=N(3, 4))  # fmt: skip
case("np.pad", "np.pad(x, 1)", "np.pad(x, ((0, 2), (1, 0)), constant_values=3)",
     *(f"np.pad(x, ((1, 2), (2, 1)), mode={m!r})" for m in
       ("edge", "reflect", "symmetric", "wrap", "linear_ramp", "mean", "maximum", "minimum")),
     "np.pad(x, (3, 9), mode='reflect')", "np.pad(x, 5, mode='wrap')",
     "np.pad(x, 7, mode='symmetric')", "np.pad(x, 1, mode='linear_ramp', end_values=2.0)",
     "np.pad(x, 3, mode='mean', stat_length=2)", "np.pad(x, 1, 'empty')[1:-1, 1:-1]",
     *(f"np.pad(x, (3, 5), {m!r}, reflect_type='odd')" for m in ("reflect", "symmetric")),
     x=N(3, 4))  # fmt: skip
case("np.pad", "np.pad(x, 2)", x=N(0))
for _name in ("atleast_1d", "atleast_2d", "atleast_3d"):
    case(f"np.{_name}", f"np.{_name}(x)", x=N())
    case(f"np.{_name}", f"np.{_name}(x)", x=N(3))
    case(f"np.{_name}", f"np.{_name}(x, y)", x=N(2, 3), y=N(2, 2, 3))
case("np.resize", "np.resize(x, (2, 5))", "np.resize(x, 2)", x=N(4))

# ------------------------------------------------------------------------- choosing and indexing

section("Choosing and indexing")
case("np.where", "np.where(x > 0, x, y)", "np.where(x > y, 1, x)", x=N(3, 4), y=N(4), dtypes=ALL)
case("np.where", "np.where(x > 0, np.log(np.where(x > 0, x, 1)), 0.0)", x=N(3, 4))
case("np.select", "np.select([x > 1, x > 0], [x * x, y], default=-1)",
     "np.select([x > 1], [x])", x=N(3, 4), y=N(4))  # fmt: skip
case("np.piecewise", "np.piecewise(x, [x < 0, x >= 0], [lambda v: -v, lambda v: v ** 2])",
     "np.piecewise(x, [x < 0], [-1, lambda v: v * 3])",
     "np.piecewise(x, [x < -1, x > 1], [0, 1, lambda v: v])", x=N(3, 4))  # fmt: skip
case("np.choose", "np.choose(i, [x, y, x * y])", "np.choose(i + 1, [x, y, x], mode='wrap')",
     "np.choose(i + 2, (x, y), mode='clip')", i=index(3, 3, 4), x=N(3, 4), y=N(4))  # fmt: skip
case("np.take", "np.take(x, i)", "np.take(x, i, axis=0)", "np.take(x, i - 3, axis=-1)",
     "np.take(x, i + 5, axis=1, mode='wrap')", "np.take(x, i + 5, mode='clip', axis=0)",
     "np.take(x, [[0, -1], [1, 1]], axis=1)", "x.take(2)", x=N(3, 4), i=index(3, 2, 2))  # fmt: skip
case("np.take", "np.take(x, i)", x=N(3), i=index(3, 0))
case("np.compress", "np.compress([True, False, True], x, axis=0)", "x.compress([1, 0, 0, 1], 1)",
     "np.compress([False, True], x)", x=N(3, 4))  # fmt: skip
case("np.extract", "np.extract(np.eye(3, 4), x)", x=N(3, 4))
case("np.unravel_index", "x[np.unravel_index(np.argmax(x), x.shape)]",
     "x[np.unravel_index(i, (3, 4), order='F')]", x=N(3, 4), i=index(12, 5))  # fmt: skip
case("np.ravel_multi_index", "x.ravel()[np.ravel_multi_index((i, i + 1), (3, 4))]",
     "x.ravel()[np.ravel_multi_index((i, i + 2), (3, 4), mode='wrap', order='F')]",
     "x.ravel()[np.ravel_multi_index((i - 1, 2 * i), x.shape, mode=('clip', 'wrap'))]",
     x=N(3, 4), i=index(3, 5))  # fmt: skip
case("ndarray.item", "x.item(3) * x[1].item(2) * x[2:, :1].item()", "gnp.array(x.tolist()) * x",
     "x.item(1, 2) * x", x=N(3, 4))  # fmt: skip
case("np.take_along_axis", "np.take_along_axis(x, i, axis=1)", x=N(3, 4), i=index(4, 3, 2))
case("np.take_along_axis", "np.take_along_axis(x, i - 1, axis=0)", x=N(3, 4), i=index(3, 5, 1))
case("np.take_along_axis", "np.take_along_axis(x, i, None)", x=N(3, 4), i=index(9, 3))
case("np.put_along_axis", "y = x.copy()\nnp.put_along_axis(y, i, v, axis=1)\nreturn y * x",
     "y = x * 2\nnp.put_along_axis(y, i - 4, 3.0, 1)\nreturn y", x=N(3, 4), i=index(4, 3, 1),
     v=N(3, 1))  # fmt: skip
case("np.put_along_axis",
     "y = x * 1\nnp.put_along_axis(y, np.array([[2, 0], [1, 3], [0, 3]]), v, axis=1)\nreturn y * x",
     x=N(3, 4), v=N(3, 2))  # fmt: skip
case("np.put", "y = x * 1\nnp.put(y, [0, 5, -1], v)\nreturn y * x", x=N(3, 4), v=N(3))
case("np.putmask", "y = x * 1\nnp.putmask(y, x > 0, x * x)\nreturn y", x=N(3, 4))
case("np.place", "y = x * 1\nnp.place(y, x > 0, v)\nreturn y * x", x=N(3, 4), v=N(3))
case("basic indexing", "x[1]", "x[-1, 2]", "x[1:, ::-2]", "x[..., None, 0]", "x[None, :, 1:3]",
     "x[::-1, ::-1]", "x[5:]", "x[()]", "x[:, 2:2]", x=N(3, 4), dtypes=ALL)  # fmt: skip
case("integer indexing", "x[i]", "x[:, i]", "x[i, i]", "x[i[:, None], [0, -1]]", "x[[0, -1]]",
     "x[1, i]", "x[i - 3]", "x[i[0], 1:]", "x[[0, 2], :, None]", "x[i, ..., 1]", x=N(3, 4),
     i=index(3, 3))  # fmt: skip
case("integer indexing", "x[i, j]", x=N(3, 4), i=index(3), j=index(4))
case("boolean indexing", "x[np.array([True, False, True])]",
     "x[:, np.array([True, False, True, True])]", "x[np.eye(3, 4, dtype=bool)]",
     "x[np.array([False, False, True]), 1:]", x=N(3, 4))  # fmt: skip
case("x[i] = v", *(f"y = x * 1\ny[{i}] = {v}\nreturn y * x" for i, v in (
    ("1", "v"), ("0, 2", "3.0"), ("1:, ::2", "v[:2]"), ("x > 0", "0.5"), ("[0, 2]", "v"),
    ("i[0]", "v"), ("i", "v"), (":, i", "v[:3]"), ("i[0], 2", "v[1]"), ("i, 1", "v[:3]"),
    ("..., -1", "v[0]"), ("[0, 1], [2, 3]", "v[:2]"), ("::-1, 0", "v[:3]"),
    ("np.array([True, False, True])", "v"), ("1:, i", "v[0]"), ("2, i", "v[:3]"))),
     x=N(3, 4), v=N(4), i=Array("index", (3,), "int64", 3), order=2)  # fmt: skip
case("x[i] += v", *(f"y = x * 1\ny[{i}] += {v}\nreturn y * x" for i, v in (
    ("1", "v"), ("0, 2", "3.0"), ("1:, ::2", "v[:2]"), ("x > 0", "0.5"), ("[0, 2]", "v"),
    ("i[0]", "v"), ("i", "v"), (":, i", "v[:3]"), ("i[0], 2", "v[1]"))),
     "y = x * 1\nnp.add.at(y, i, v)\nreturn y * y",
     "y = x * 1\nnp.add.at(y, (i, i), 2.0)\nreturn y * y",
     "y = x * 1\nrow = y[1]\nrow *= v\nreturn y * x", x=N(3, 4), v=N(4), i=index(3, 3))  # fmt: skip
flat("np.searchsorted", "np.searchsorted(s, x)", "np.searchsorted(s, x, side='right')", s=S(6),
     x=N(3, 4), dtypes=(*FLOATS, "int64", "int32"))  # fmt: skip
flat("np.searchsorted", "np.searchsorted(s, 0.5)", "np.searchsorted(s, s, 'right')",
     "np.searchsorted(s[::-1], x, sorter=np.arange(6)[::-1])", "s.searchsorted(x)", s=S(6),
     x=N(0, 2), dtypes=FLOATS)  # fmt: skip
case("np.interp", "np.interp(x, s, y)", "np.interp(x, s, y, left=-1, right=2)",
     "np.interp(x, s, y, period=3.0)", x=N(3, 4), s=S(5), y=N(5))  # fmt: skip
case("np.interp", "np.interp(x, s, y)", x=N(), s=S(1), y=N(1))
flat("np.digitize", "np.digitize(x, s)", "np.digitize(x, s, right=True)",
     "np.digitize(x, np.array([2.0, 0.5, -1.0]))", x=N(3, 4), s=S(5), dtypes=FLOATS)  # fmt: skip
flat("np.bincount", "np.bincount(i, minlength=5)", i=index(5, 7), dtypes=("float64",))
case("np.bincount", "np.bincount(i, weights=w, minlength=6)", i=index(5, 7), w=N(7))
case("np.histogram", "np.histogram(x, s)", x=N(3, 4), s=S(4))
flat("np.histogram", "np.histogram(x, s)[0]", "np.histogram(x, bins=4, range=(-1, 1))[0]",
     "np.histogram(x, 3)[0]", x=N(3, 4), s=S(4), dtypes=FLOATS)  # fmt: skip
case("np.histogram", "np.histogram(x, [-2, -0.5, 1.0, 2.0], weights=w)[0]",
     "np.histogram(x, 4, range=(-2, 2), density=True, weights=w)[0]", x=N(9), w=P(9))  # fmt: skip
for _name in ("convolve", "correlate"):
    for _mode in ("full", "same", "valid"):
        case(f"np.{_name}", f"np.{_name}(x, y, {_mode!r})", x=N(5), y=N(3), dtypes=NUMBERS)
    case(f"np.{_name}", f"np.{_name}(x, y)", x=N(2), y=N(4))
case("np.nan_to_num", "np.nan_to_num(x)", "np.nan_to_num(np.where(x > 0, np.nan, x), nan=2.0)",
     "np.nan_to_num(x / (x > 0), posinf=1.0, neginf=-1.0)", x=N(3, 4))  # fmt: skip
for _name in ("round", "around"):
    flat(f"np.{_name}", f"np.{_name}(x)", f"np.{_name}(x, 1)", f"np.{_name}(x, -1)", x=N(3, 4),
         dtypes=(*FLOATS, "int64"))  # fmt: skip
flat("np.fix", "np.fix(x)", x=N(3, 4), dtypes=FLOATS)
case("np.sinc", "np.sinc(x)", x=N(4))
case("np.unwrap", "np.unwrap(x * 4)", x=N(6))
case("np.real", "np.real(x)", "x.real", "np.real_if_close(x)", x=N(3))
flat("np.isin", "np.isin(x, [1, 2])", x=N(5))
flat("np.isclose", "np.isclose(x, y)", "np.allclose(x, y)", "np.array_equal(x, y)",
     "np.array_equiv(x, y)", x=N(3, 4), y=N(3, 4), dtypes=FLOATS)  # fmt: skip
case("np.apply_along_axis", "np.apply_along_axis(lambda v: v * v.sum(), 1, x)",
     "np.apply_along_axis(np.sum, 0, x)", x=N(3, 4))  # fmt: skip

# ------------------------------------------------------------------------------------- creation

section("Creation")
for _name in ("zeros_like", "ones_like"):
    flat(f"np.{_name}", f"np.{_name}(x)", f"np.{_name}(x, dtype=np.int32)", x=N(3, 4))
case("np.full_like", "np.full_like(x, y)", x=N(3, 4), y=N())
flat("gnp.zeros", "gnp.zeros(x.shape)", "gnp.ones((2, 2), np.float32)", "gnp.eye(3, k=1)",
     "gnp.identity(2)", "gnp.arange(4) * np.sign(x[0, 0])", "np.empty_like(x) * 0", x=N(3, 4),
     dtypes=FLOATS)  # fmt: skip
case("gnp.full", "gnp.full((2, 3), x[0])", "gnp.array([x[0], 1.0, x[1] * 2])",
     "gnp.asarray([[x[0], x[1]], [0, 1]])", x=N(3))  # fmt: skip
case("np.linspace", "np.linspace(x, y, 5)", "np.linspace(x, 2.0, 4, endpoint=False)",
     "np.linspace(x, y, 3, axis=-1)", "np.linspace(x, y, 1)", x=N(2), y=N(2))  # fmt: skip
case("np.logspace", "np.logspace(x, y, 4)", "np.logspace(x, y, 3, base=2.0)", x=N(), y=N())
case("np.geomspace", "np.geomspace(x, y, 4)", x=P(), y=P())
case("np.meshgrid", "np.meshgrid(x, y)", "np.meshgrid(x, y, indexing='ij', sparse=True)", x=N(3),
     y=N(2))  # fmt: skip

# --------------------------------------------------------------------------------- scipy.special

section("scipy.special and graphc.special")
_ONE = {
    "expit": N, "logit": between, "log_expit": N, "erf": N, "erfc": N, "erfinv": U,
    "erfcinv": between, "gammaln": P, "gamma": P, "digamma": P, "psi": P, "ndtr": N,
    "ndtri": between, "log_ndtr": N, "entr": P, "exp10": N, "softplus": N,
    **dict.fromkeys(("i0", "i0e", "i1", "i1e", "j0", "j1", "expi", "fresnel"), N),
    **dict.fromkeys(("y0", "y1", "exp1", "sici", "spence"), P), "ellipk": between, "ellipe": U,
}  # fmt: skip
for _name, _x in _ONE.items():
    for _ns in ("sp", "gc.special"):
        _shown = "scipy.special" if _ns == "sp" else "graphc.special"
        case(f"{_shown}.{_name}", f"{_ns}.{_name}(x)", x=_x(3, 4))
    case(f"scipy.special.{_name}", f"sp.{_name}(x)", x=_x())
    case(f"scipy.special.{_name}", f"sp.{_name}(x)", x=_x(0, 2))
for _name, _x in {
    "xlogy": P, "xlog1py": P, "rel_entr": P, "kl_div": P, "betaln": P, "beta": P,
}.items():  # fmt: skip
    for _ns, _shown in (("sp", "scipy.special"), ("gc.special", "graphc.special")):
        case(f"{_shown}.{_name}", f"{_ns}.{_name}(x, y)", x=_x(3, 4), y=_x(4))
        case(f"{_shown}.{_name}", f"{_ns}.{_name}(x, y)", x=_x(), y=_x(0, 2))
# Python functions of SciPy, which ask for elements: the error names the twin.
for _name in ("logsumexp", "softmax", "log_softmax"):
    _f = f"gc.special.{_name}"
    case(f"graphc.special.{_name}", f"{_f}(x)", f"{_f}(x, axis=1)", f"{_f}(x, axis=(0, 1))",
         x=N(3, 4))  # fmt: skip
    case(f"graphc.special.{_name}", f"{_f}(x)", x=N(3))
    case(f"graphc.special.{_name}", f"{_f}(x, axis=1)", x=N(0, 3))
case("graphc.special.logsumexp", "gc.special.logsumexp(x, axis=0, keepdims=True)",
     "gc.special.logsumexp(x, axis=1, b=w)", x=N(3, 4), w=P(4))  # fmt: skip
case("graphc.special.polygamma", "gc.special.polygamma(1, x)", "gc.special.polygamma(3, x)",
     x=P(3, 4))  # fmt: skip
case("graphc.special.digamma", "gc.special.digamma(x)", "gc.special.gammaln(x)",
     "gc.special.polygamma(1, x)", x=N(3, 4))  # fmt: skip
case("scipy.special.zeta", "sp.zeta(2.5, x)", x=P(3))
case("np.i0", "np.i0(x)", x=N(3, 4))
for _name in ("gammainc", "gammaincc"):
    case(f"scipy.special.{_name}", f"sp.{_name}(2.5, x)", f"sp.{_name}(30.0, 20 * x)", x=P(3, 4))
    case(f"graphc.special.{_name}", f"gc.special.{_name}(2.5, x)", x=P(3, 4))
case("graphc.special.lambertw", "gc.special.lambertw(x)", x=P(3, 4))
for _call in (
    "loggamma(x)", "rgamma(y)", "poch(x, y)", "binom(x, y)", "cosm1(y)", "huber(x, y)",
    "pseudo_huber(x, y)", "boxcox(x, y)", "boxcox1p(x, y)", "boxcox(x, 0.0)",
):  # fmt: skip
    case(f"scipy.special.{_call.split('(')[0]}", f"sp.{_call}", x=P(3, 4), y=N(4))

# SciPy's own C functions; all of them are in tests/test_scipy_functions.py.
for _call in (
    "jv(1.5, x)", "yv(2, x)", "iv(0.5, x)", "ive(1, x)", "kv(1.5, x)", "kve(1, x)", "k0(x)",
    "k1(x)", "airy(x)", "struve(1, x)", "hyp0f1(1.5, x)", "hyp1f1(0.5, 1.5, x)",
    "hyp2f1(0.5, 1, 1.5, -x)", "hyperu(0.5, 1.5, x)", "expn(2, x)", "erfcx(x)", "erfi(x)",
    "dawsn(x)", "owens_t(x, y)", "exprel(x)", "wrightomega(x)", "betainc(1.5, 2, x / 3)",
    "betaincc(1.5, 2, x / 3)", "betaincinv(1.5, 2, x / 3)", "gammaincinv(1.5, x / 3)",
    "stdtr(3, x)", "stdtrit(3, x / 3)", "bdtr(2, 5, x / 3)", "pdtr(2, x)", "chdtr(3, x)",
    "fdtr(2, 3, x)", "gdtr(x, 2.5, y)", "ellipj(x, 0.3)", "agm(x, y)", "ellipkinc(x, 0.3)",
    "ellipeinc(x, 0.3)", "eval_legendre(4, x)", "eval_hermite(3, x)", "eval_jacobi(3, 0.5, 1, x)",
):  # fmt: skip
    _arguments = {"x": P(3), **({"y": P(3)} if "y)" in _call else {})}
    case(f"scipy.special.{_call.split('(')[0]}", f"sp.{_call}", **_arguments)

# ------------------------------------------------------------------------------ complex values

section("Complex values")
# Results are shown by both parts, so that each has its gradient.
for _name in [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "sqrt",
    "square",
    "reciprocal",
    "negative",
    "conj",
    "sign",
    "cumsum",
    "cumprod",
]:
    case(f"np.{_name} of complex", f"np.{_name}(x + 1j * y).real",
         f"np.{_name}(x + 1j * y).imag", x=N(3), y=P(3), dtypes=FLOATS)  # fmt: skip
for _name in ("abs", "angle", "real", "imag", "var", "std", "linalg.norm"):
    case(f"np.{_name} of complex", f"np.{_name}(x + 1j * y)", x=N(3), y=P(3), dtypes=FLOATS)
for _name in ("add", "subtract", "multiply", "divide", "power", "where", "maximum"):
    _call = f"np.{_name}({'x > 0, ' if _name == 'where' else ''}x + 1j * y, y - 2j * x)"
    case(f"np.{_name} of complex", f"{_call}.real", f"{_call}.imag", x=N(2, 3), y=P(3),
         dtypes=FLOATS)  # fmt: skip
for _call in ("sum(z, axis=0)", "mean(z)", "prod(z, axis=1)", "matmul(z, z.T)", "vdot(z, z + 1)",
              "transpose(z)", "concatenate([z, z[:1]])", "take(z, [2, 0], axis=0)",
              "einsum('ij,kj->ik', z, np.conj(z))", "vecdot(z, z + 1)"):  # fmt: skip
    _shown = f"np.{_call}".replace("z", "(x + 1j * y)")
    case(f"np.{_call.split('(')[0]} of complex", f"{_shown}.real", f"{_shown}.imag", x=N(3, 2),
         y=P(3, 2), dtypes=FLOATS)  # fmt: skip
flat("comparisons of complex", "x + 1j * y == y + 1j * x", "x + 1j * y < y + 1j * x",
     "np.isfinite(x + 1j * y)", "np.isnan(x + 1j * y)", x=N(3), y=P(3), dtypes=FLOATS)  # fmt: skip
case("complex arguments", "np.exp(1j * x) * (2 - 1j)", "(x + 0j) @ np.ones((3, 2), complex)",
     "np.sqrt(x.astype(complex))", x=N(4, 3), dtypes=FLOATS)  # fmt: skip

# Order by the real part, then by the imaginary one; matrices by those of pairs of real numbers.
for _call in (
    "max(z, axis=0)", "min(z)", "max(z, axis=(0, 1), keepdims=True)", "sort(z, axis=0)", "ptp(z)",
    "cov(z)", "interp(x, [-1, 0, 1], [1j, 2, z[0, 0]])", "linalg.solve(z, z[0])",
    "linalg.solve(x, z)", "linalg.inv(z)", "linalg.pinv(z[:, :2])", "linalg.det(z)",
    "linalg.slogdet(z)[0]", "linalg.matrix_power(z, -2)", "linalg.lstsq(z[:, :2], z)[0]",
):  # fmt: skip
    _shown = f"np.{_call}".replace("z", "(x + 1j * y)")
    case(f"np.{_call.split('(')[0]} of complex", f"{_shown}.real", f"{_shown}.imag", x=N(3, 3),
         y=P(3, 3), dtypes=FLOATS)  # fmt: skip
_HERMITIAN = "(x + 1j * y) @ np.conj(x + 1j * y).T + 1j * np.eye(3, dtype=x.dtype)"
for _call in (
    "slogdet(x + 1j * y)[1]",
    "norm(x + 1j * y, 'nuc')",
    "norm(x + 1j * y, 2)",
    "svd(x + 1j * y, compute_uv=False)",
    "cond(x + 1j * y)",
    "cond(x + 1j * y, 1)",
    "lstsq((x + 1j * y)[:, :2], y)[1]",
    f"eigvalsh({_HERMITIAN})",
    f"cholesky({_HERMITIAN})[1, 0].imag",
    f"cholesky({_HERMITIAN}, upper=True).real",
    "qr(x + 1j * y)[0].imag",
    "qr((x + 1j * y)[:2], mode='r').real",
    f"eigh({_HERMITIAN})[0]",
    "svd((x + 1j * y)[:2])[1]",
    f"svd({_HERMITIAN}, hermitian=True)[1]",
):
    case(f"np.linalg.{_call.split('(')[0]} of complex", f"np.linalg.{_call}", x=N(3, 3), y=P(3, 3),
         dtypes=FLOATS)  # fmt: skip
# Of vectors whose phases are free, what does not depend on them.
case("np.linalg.eigh of complex", "(lambda w, v: (v * np.sin(w)) @ np.conj(v.T))"
     f"(*np.linalg.eigh({_HERMITIAN})).imag", x=N(3, 3), y=P(3, 3), dtypes=FLOATS)  # fmt: skip
case("np.linalg.svd of complex", "(lambda u, s, vh: (u * np.sin(s)) @ vh)"
     "(*np.linalg.svd((x + 1j * y)[:2], full_matrices=False)).imag", x=N(3, 3), y=P(3, 3),
     dtypes=FLOATS)  # fmt: skip
case("graphc.linalg.expm of complex", "gc.linalg.expm((x + 1j * y) / 4).real", x=N(2, 2), y=P(2, 2),
     dtypes=FLOATS)  # fmt: skip
flat("np.linalg.matrix_rank of complex", "np.linalg.matrix_rank(x + 1j * y)", x=N(3, 3), y=P(3, 3),
     dtypes=FLOATS)  # fmt: skip
flat("order of complex", "np.argmax(x + 1j * y, axis=0)", "np.argmin(x + 1j * y)",
     "np.argsort(x + 1j * y)", "np.isreal(x + 1j * y)", "np.iscomplex(x + 1j * y)", x=N(3, 3),
     y=P(3, 3), dtypes=FLOATS)  # fmt: skip
case("np.correlate of complex", "np.correlate(x + 1j * y[0], y[0] - 1j * x, 'full')",
     "np.correlate(y[0] + 1j, x - 1j * y[0], 'same').imag", x=N(3), y=P(3, 3),
     dtypes=FLOATS)  # fmt: skip

# What the issue asks for by name.
section("Fourier transforms")
# Of x + iy, shown by both parts.
_ONE_AXIS = ("({})", "({}, 4)", "({}, n=7, axis=0)", "({}, axis=0, norm='ortho')",
             "({}, norm='forward')")  # fmt: skip
_AXES = ("({})", "({}, s=(4, 6), axes=(0, 1))", "({}, axes=(1, 0), norm='ortho')")
for _name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fft2", "ifft2", "rfft2", "irfft2",
              "fftn", "ifftn", "rfftn", "irfftn"):  # fmt: skip
    _arg = "x" if _name.startswith(("r", "ih")) else "x + 1j * y"
    _parts = ("",) if _name in ("irfft", "hfft", "irfft2", "irfftn") else (".real", ".imag")
    for _way in _AXES if _name[-1] in "2n" else _ONE_AXIS:
        case(f"np.fft.{_name}", *(f"np.fft.{_name}{_way.format(_arg)}{_p}" for _p in _parts),
             x=N(3, 6), y=N(3, 6), dtypes=FLOATS)  # fmt: skip
for _name in ("fftshift", "ifftshift"):
    case(f"np.fft.{_name}", f"np.fft.{_name}(x)", f"np.fft.{_name}(x, axes=1)",
         f"np.fft.{_name}(x, axes=(0, 1))", x=N(3, 4))  # fmt: skip
for _name in ("fftfreq", "rfftfreq"):
    case(f"np.fft.{_name}", f"x * np.fft.{_name}(7, 0.1)[:4]", x=N(3, 4))

REQUIRED = [
    "sum",
    "prod",
    "mean",
    "var",
    "std",
    "max",
    "min",
    "amax",
    "amin",
    "ptp",
    "median",
    "quantile",
    "percentile",
    "cumsum",
    "cumprod",
    "diff",
    "gradient",
    "trapezoid",
    "argmax",
    "argmin",
    "argsort",
    "sort",
    "any",
    "all",
    "count_nonzero",
    "nansum",
    "nanmean",
    "nanmax",
    "clip",
    "dot",
    "matmul",
    "vdot",
    "inner",
    "outer",
    "tensordot",
    "einsum",
    "kron",
    "cross",
    "trace",
    "diag",
    "diagonal",
    "tril",
    "triu",
    "reshape",
    "ravel",
    "transpose",
    "swapaxes",
    "moveaxis",
    "rollaxis",
    "squeeze",
    "expand_dims",
    "broadcast_to",
    "broadcast_arrays",
    "concatenate",
    "stack",
    "vstack",
    "hstack",
    "dstack",
    "column_stack",
    "split",
    "array_split",
    "tile",
    "repeat",
    "roll",
    "flip",
    "rot90",
    "pad",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "where",
    "select",
    "piecewise",
    "choose",
    "take",
    "take_along_axis",
    "put_along_axis",
    "zeros_like",
    "ones_like",
    "full_like",
    "linspace",
    "meshgrid",
    "searchsorted",
    "interp",
    "digitize",
    "bincount",
    "histogram",
    "convolve",
    "correlate",
    "isnan",
    "isfinite",
    "nan_to_num",
    "round",
    "floor",
    "ceil",
    "trunc",
    "sign",
    "heaviside",
]
REQUIRED += [
    f"fft.{_n}"
    for _n in ("fft", "ifft", "rfft", "irfft", "fft2", "fftn", "fftfreq", "fftshift", "ifftshift")
]
REQUIRED_SPECIAL = [
    "expit",
    "logit",
    "erf",
    "erfc",
    "erfinv",
    "gammaln",
    "digamma",
    "betaln",
    "xlogy",
]
REQUIRED_TWINS = ["logsumexp", "softmax", "log_softmax"]
