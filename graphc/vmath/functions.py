"""The table of functions: how each is called, and its error bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.vmath.arithmetic import via_f64
from graphc.vmath.bessel import bessel_i, bessel_j, bessel_y
from graphc.vmath.elliptic import ellipd, ellipe, ellipk
from graphc.vmath.error_functions import erf, erfc, erfcinv, erfinv, gaussian, gelu
from graphc.vmath.exponentials import cosh, exp, exp2, exp_below, expm1, sigmoid, sinh, tanh
from graphc.vmath.gamma import digamma, gammaln, zeta
from graphc.vmath.incomplete import gammainc_slope, incomplete_gamma
from graphc.vmath.integrals import (
    cosine_integral,
    exp1,
    expi,
    fresnelc,
    fresnels,
    sine_integral,
    spence,
)
from graphc.vmath.lambert import lambertw
from graphc.vmath.llvm_ops import LLVMOps
from graphc.vmath.logarithms import arccosh, arcsinh, arctanh, log, log1p, log2, log10, softplus
from graphc.vmath.numpy_ops import NumpyOps
from graphc.vmath.powers import cbrt, pow, rsqrt, sqrt
from graphc.vmath.trigonometry import arccos, arcsin, arctan, arctan2, trig
from graphc.vmath.values import Value


@dataclass(frozen=True)
class Function:
    """An entry: its argument count, formula, and error bound in ulp by dtype.

    ``impl.__doc__`` names the method.  The bound holds over the whole range, subnormal arguments
    and results included; special values are NumPy's or SciPy's.  Of what oscillates, an error is
    told in ulp of ``amplitude(*args)`` where that is larger than the result: so is that of what a
    rounding of the argument moves by more.
    """

    name: str
    arity: int
    impl: Callable[..., Value]
    ulp: dict[str, float]
    amplitude: Callable[..., float] | None = None


def _entry(
    name: str, impl: Callable[..., Value], f32: float, f64: float, arity: int = 1, amplitude=None
) -> None:
    bounds = {"float32": f32, "float64": f64}
    FUNCTIONS[name] = Function(name, arity, impl, bounds, amplitude)


def _of_bessel(x: float) -> float:
    """The amplitude of J and Y around and beyond their first zeros."""
    return math.sqrt(2 / math.pi / abs(x)) if abs(x) > 0.5 else 0.0


def _of_cosine_integral(x: float) -> float:
    return 1 / (1 + abs(x)) if abs(x) > 0.2 else 0.0


def _of_gamma(a: float, x: float) -> float:
    """By how much P and Q move with x."""
    return math.exp(a * math.log(x) - x - math.lgamma(a)) if a > 0 and 0 < x < 1e300 else 0.0


#: Name to entry.  Bounds are maxima seen in dense tests with and without FMA, rounded up.
FUNCTIONS: dict[str, Function] = {}
_entry("exp", exp, 1.1, 1.1)
_entry("exp_below", exp_below, 1.1, 1.1)
_entry("expm1", expm1, 1.5, 1.5)
_entry("log", log, 1.0, 1.0)
_entry("log2", log2, 1.9, 2.0)
_entry("log10", log10, 1.95, 1.9)
_entry("log1p", log1p, 1.6, 1.5)
_entry("sigmoid", sigmoid, 1.9, 1.9)
_entry("softplus", softplus, 1.9, 1.9)
_entry("tanh", tanh, 1.7, 1.5)
_entry("exp2", exp2, 1.2, 1.2)
_entry("sinh", sinh, 1.5, 1.9)
_entry("cosh", cosh, 1.9, 1.6)
_entry("arcsinh", via_f64(arcsinh), 0.51, 1.9)
_entry("arccosh", via_f64(arccosh), 0.51, 1.7)
_entry("arctanh", via_f64(arctanh), 0.51, 1.7)
_entry("sin", trig("sin"), 1.95, 1.95)
_entry("cos", trig("cos"), 1.99, 1.95)
_entry("tan", trig("tan"), 1.9, 1.9)
_entry("arcsin", arcsin, 1.8, 1.8)
_entry("arccos", arccos, 1.3, 1.3)
_entry("arctan", arctan, 1.5, 1.8)
_entry("arctan2", arctan2, 1.8, 1.9, 2)
_entry("erf", erf, 1.4, 1.9)
_entry("erfc", erfc, 1.5, 1.8)
_entry("gaussian", gaussian, 1.5, 1.5)
_entry("gelu", gelu, 2.0, 1.7)
_entry("cbrt", cbrt, 1.1, 1.1)
_entry("pow", pow, 0.6, 1.3, 2)
_entry("sqrt", sqrt, 0.5, 0.5)
_entry("rsqrt", rsqrt, 1.5, 1.5)
_entry("gammaln", via_f64(gammaln), 0.51, 6.0)
_entry("digamma", via_f64(digamma), 0.51, 6.0)
_entry("zeta", via_f64(zeta), 0.51, 8.0, 2)
_entry("erfinv", via_f64(erfinv), 0.51, 5.0)
_entry("erfcinv", via_f64(erfcinv), 0.51, 5.0)
for _order in (0, 1):
    _entry(f"bessel_i{_order}", via_f64(bessel_i(_order, False)), 0.51, 5.0)
    _entry(f"bessel_i{_order}e", via_f64(bessel_i(_order, True)), 0.51, 4.0)
    _entry(f"bessel_j{_order}", via_f64(bessel_j(_order)), 0.51, 7.0, amplitude=_of_bessel)
    _entry(f"bessel_y{_order}", via_f64(bessel_y(_order)), 0.51, 8.0, amplitude=_of_bessel)
_entry("exp1", via_f64(exp1), 0.51, 6.0)
_entry("expi", via_f64(expi), 0.51, 6.0)
_entry("sine_integral", via_f64(sine_integral), 0.51, 4.0)
_entry("cosine_integral", via_f64(cosine_integral), 0.51, 12.0, amplitude=_of_cosine_integral)
_entry("fresnels", via_f64(fresnels), 0.51, 9.0)
_entry("fresnelc", via_f64(fresnelc), 0.51, 7.0)
_entry("spence", via_f64(spence), 0.51, 4.0)
_entry("ellipk", via_f64(ellipk), 0.51, 5.0)
_entry("ellipe", via_f64(ellipe), 0.51, 5.0)
_entry("ellipd", via_f64(ellipd), 0.51, 11.0)
for _name, _upper in (("gammainc", False), ("gammaincc", True)):
    _entry(_name, via_f64(incomplete_gamma(_upper)), 0.51, 20.0, 2, _of_gamma)
_entry("gammainc_slope", via_f64(gammainc_slope), 0.51, 20.0, 2, amplitude=_of_gamma)
_entry("lambertw", via_f64(lambertw), 0.51, 6.0)


def emit(
    name: str, builder: Any, dtype: str, args: Sequence[Any], fuses: bool | None = None
) -> Any:
    """Append the instructions of ``name`` to ``builder``; ``args`` are scalar LLVM values.

    ``dtype`` is ``"float32"`` or ``"float64"`` and is the type of every argument and the result.
    ``fuses`` says whether the processor has fused multiply-add; None asks this one.
    """
    f = FUNCTIONS[name]
    if len(args) != f.arity:
        raise TypeError(f"{name} takes {f.arity} argument(s), not {len(args)}")
    v = LLVMOps(builder, str(np.dtype(dtype)), fuses=fuses)
    # A loop has more constants than registers: keep their spill slots within cache lines.
    set.add(builder.function.attributes, '"stackrealign"')
    return f.impl(v, *(v.arg(a) for a in args)).raw


def evaluate(name: str, dtype: str, *arrays: Any) -> Any:
    """Compute ``name`` on arrays (broadcast, converted to ``dtype``) with the NumPy backend."""
    f = FUNCTIONS[name]
    if len(arrays) != f.arity:
        raise TypeError(f"{name} takes {f.arity} argument(s), not {len(arrays)}")
    v = NumpyOps(str(np.dtype(dtype)))
    xs = np.broadcast_arrays(*(np.asarray(a, dtype=v.ft) for a in arrays))
    shape = xs[0].shape
    with np.errstate(all="ignore"):
        y = f.impl(v, *(v.arg(np.ascontiguousarray(x).reshape(-1)) for x in xs)).raw
    return np.asarray(y, dtype=v.ft).reshape(shape)
