"""Functions that are SciPy's own: one row each, with its derivative.

They become elementwise rows ``scipy_<name>`` of the op table. The interpreter calls SciPy's ufunc;
compiled code calls the same C function by the address that ``scipy.special.cython_special`` gives,
once for each element and in float64 (``runtime/scipy_calls.py``). SciPy is imported only where
such a row is evaluated or loaded.

Derivatives are written as in ``ops.py``, over ``x, y, w, v`` and the result ``z``. ``MISSING``
says that there is none: differentiating by that argument is an error.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import dataclass
from math import factorial

import numpy as np

from graphc.errors import OptionError

MISSING = "missing"
PREFIX = "scipy_"
SYMBOL = "graphc_scipy_"


@dataclass(frozen=True)
class ScipyFunction:
    """``function`` of scipy.special, or of its ``results`` several results the one at ``index``."""

    name: str
    function: str
    derivative: tuple[str, ...]
    index: int = 0
    results: int = 1

    @property
    def arity(self) -> int:
        return len(self.derivative)

    @property
    def row(self) -> str:
        return PREFIX + self.name

    @property
    def symbol(self) -> str:
        """What object code calls it."""
        return SYMBOL + self.function

    def evaluate(self, *arrays: np.ndarray) -> np.ndarray:
        ufunc = getattr(scipy_special(), self.function)
        with np.errstate(all="ignore"):
            found = ufunc(*(a.astype(np.float64) for a in arrays))
        return found[self.index] if self.results > 1 else found


def require_scipy() -> None:
    """OptionError where there is no SciPy. It is not imported: while a function is traced, that
    its import draws random numbers would be the function's fault."""
    if importlib.util.find_spec("scipy") is None:
        raise OptionError(
            "this function is SciPy's own, and SciPy is not installed.\n"
            "Install it: python3 -m pip install 'graphc[special]'"
        )


@functools.cache
def scipy_special(module: str = "scipy.special"):
    """The module."""
    require_scipy()
    return importlib.import_module(module)


SCIPY_FUNCTIONS: dict[str, ScipyFunction] = {}  # by row


def _row(name: str, *derivative: str | None, function: str = "", index: int = 0,
         results: int = 1) -> None:  # fmt: skip
    slopes = tuple(MISSING if text is None else text for text in derivative)
    row = ScipyFunction(name, function or name, slopes, index, results)
    SCIPY_FUNCTIONS[row.row] = row


def _series(coefficients, variable: str) -> str:
    text = repr(float(coefficients[-1]))
    for coefficient in reversed(coefficients[:-1]):
        text = f"{float(coefficient)!r} + {variable}*({text})"
    return text


# ------------------------------------------------------------------------- Bessel functions
_row("jv", None, "0.5*(scipy_jv(x - 1, y) - scipy_jv(x + 1, y))")
_row("yv", None, "0.5*(scipy_yv(x - 1, y) - scipy_yv(x + 1, y))")
_row("iv", None, "0.5*(scipy_iv(x - 1, y) + scipy_iv(x + 1, y))")
_row("kv", None, "-0.5*(scipy_kv(x - 1, y) + scipy_kv(x + 1, y))")
_row("ive", None, "0.5*(scipy_ive(x - 1, y) + scipy_ive(x + 1, y)) - sign(y)*z")
_row("kve", None, "z - 0.5*(scipy_kve(x - 1, y) + scipy_kve(x + 1, y))")
_row("k0", "-scipy_k1(x)")
_row("k1", "-scipy_k0(x) - z/x")
_row("k0e", "z - scipy_k1e(x)")
_row("k1e", "z - scipy_k0e(x) - z/x")
for _k, (_name, _slope) in enumerate((
    ("ai", "scipy_airy_aip(x)"), ("aip", "x*scipy_airy_ai(x)"),
    ("bi", "scipy_airy_bip(x)"), ("bip", "x*scipy_airy_bi(x)"),
)):  # fmt: skip
    _row(f"airy_{_name}", _slope, function="airy", index=_k, results=4)
for _k, (_name, _slope) in enumerate((
    ("ai", "scipy_airye_aip(x) + sqrt(x)*z"), ("aip", "x*scipy_airye_ai(x) + sqrt(x)*z"),
    ("bi", "scipy_airye_bip(x) - sqrt(relu(x))*z"),
    ("bip", "x*scipy_airye_bi(x) - sqrt(relu(x))*z"),
)):  # fmt: skip
    _row(f"airye_{_name}", _slope, function="airye", index=_k, results=4)
for _name in ("struve", "modstruve"):
    _row(_name, None, "where(y == 0, where(x == 0, 0.6366197723675814, 0), "
         f"scipy_{_name}(x - 1, y) - where(x == 0, 0, x/y*z))")  # fmt: skip
_row("ber", "scipy_berp(x)")
_row("bei", "scipy_beip(x)")
_row("ker", "scipy_kerp(x)")
_row("kei", "scipy_keip(x)")
_row("berp", "-scipy_bei(x) - z/x")
_row("beip", "scipy_ber(x) - z/x")
_row("kerp", "-scipy_kei(x) - z/x")
_row("keip", "scipy_ker(x) - z/x")
_row("wright_bessel", None, None, "scipy_wright_bessel(x, x + y, w)")
_row("itj", "bessel_j0(x)", function="itj0y0", index=0, results=2)
_row("ity", "bessel_y0(x)", function="itj0y0", index=1, results=2)
_row("iti", "bessel_i0(x)", function="iti0k0", index=0, results=2)
_row("itk", "scipy_k0(x)", function="iti0k0", index=1, results=2)
_row("itstruve0", "scipy_struve(0, x)")
_row("itmodstruve0", "scipy_modstruve(0, x)")

# ------------------------------------------------------------------ hypergeometric functions
_row("hyp0f1", None, "scipy_hyp0f1(x + 1, y)/x")
_row("hyp1f1", None, None, "x/y*scipy_hyp1f1(x + 1, y + 1, w)")
_row("hyp2f1", None, None, None, "x*y/w*scipy_hyp2f1(x + 1, y + 1, w + 1, v)")
_row("hyperu", None, None, "-x*scipy_hyperu(x + 1, y + 1, w)")
_row("lpmv", None, None, "(y*w*z - (x + y)*scipy_lpmv(x, y - 1, w))/((w - 1)*(w + 1))")
_row("pbdv", None, "scipy_pbdvp(x, y)", function="pbdv", index=0, results=2)
_row("pbdvp", None, "(0.25*y*y - x - 0.5)*scipy_pbdv(x, y)", function="pbdv", index=1, results=2)
_row("pbvv", None, "scipy_pbvvp(x, y)", function="pbvv", index=0, results=2)
_row("pbvvp", None, "(0.25*y*y - x - 0.5)*scipy_pbvv(x, y)", function="pbvv", index=1, results=2)

# ------------------------------------------------------------------------ beta distributions
_row("betaln", "digamma(x) - digamma(x + y)", "digamma(y) - digamma(x + y)")
_BETA = ("where(({0} == 0) | ({0} == 1), {0}**(x - 1)*(1 - {0})**(y - 1)*exp(-scipy_betaln(x, y)), "
         "exp((x - 1)*log({0}) + (y - 1)*log1p(-{0}) - scipy_betaln(x, y)))")  # fmt: skip
_row("betainc", None, None, _BETA.format("w"))
_row("betaincc", None, None, f"-{_BETA.format('w')}")
_QUANTILE = "exp(scipy_betaln(x, y) - (x - 1)*log(z) - (y - 1)*log1p(-z))"
_row("betaincinv", None, None, _QUANTILE)
_row("betainccinv", None, None, f"-{_QUANTILE}")
_STUDENT = "{}scipy_betaln(0.5*x, 0.5) {} 0.5*(x + 1)*log1p({}/x)"
_row("stdtr", None, f"exp({_STUDENT.format('-', '-', 'y*y')})/sqrt(x)")
_row("stdtrit", None, f"exp({_STUDENT.format('', '+', 'z*z')})*sqrt(x)")

# ----------------------------------------------------------------------- gamma distributions
_GAMMA_QUANTILE = "exp(z - (x - 1)*log(z) + gammaln(x))"
_row("gammaincinv", f"-gammainc_slope(x, z)*{_GAMMA_QUANTILE}", _GAMMA_QUANTILE)
_row("gammainccinv", f"-gammainc_slope(x, z)*{_GAMMA_QUANTILE}", f"-{_GAMMA_QUANTILE}")
_CENTRAL = "exp((0.5*y - 1)*log(0.5*x) - 0.5*x - gammaln(0.5*y))"
_NONCENTRAL = ("exp(-0.5*(sqrt(x) - sqrt(w))*(sqrt(x) - sqrt(w)))*(x/w)**(0.25*y - 0.5)"
               "*scipy_ive(0.5*y - 1, sqrt(x*w))")  # fmt: skip
_row("chndtr", f"0.5*where(w == 0, {_CENTRAL}, {_NONCENTRAL})", None,
     "0.5*(scipy_chndtr(x, y + 2, w) - z)")  # fmt: skip

# ---------------------------------------------------- exponential integrals, error functions
_row("expn", None, "where(x == 0, -z*(1 + 1/y), -scipy_expn(x - 1, y))")
_FAR = (-0.5, 0.75, -1.875, 6.5625, -29.53125)  # x erfcx(x) sqrt(pi) - 1 in 1 / x**2
_INVERSE_SQUARE = "(1/(x*x))"
_FAR_ERFCX = f"1.1283791670955126*{_INVERSE_SQUARE}*({_series(_FAR, _INVERSE_SQUARE)})"
_row("erfcx", f"where(50 < x, {_FAR_ERFCX}, 2*x*z - 1.1283791670955126)")
_row("erfi", "1.1283791670955126*exp(x*x)")
_FAR_DAWSN = f"-{_INVERSE_SQUARE}*({_series([abs(c) for c in _FAR], _INVERSE_SQUARE)})"
_row("dawsn", f"where(50 < abs(x), {_FAR_DAWSN}, 1 - 2*x*z)")
_row("owens_t", "-0.19947114020071635*gaussian(0.7071067811865476*x)*erf(0.7071067811865476*x*y)",
     "0.15915494309189535*gaussian(0.7071067811865476*x)*gaussian(0.7071067811865476*x*y)"
     "/(1 + y*y)")  # fmt: skip
_row("ndtri_exp", "exp(x + 0.5*z*z + 0.9189385332046727)")
_NEAR_EXPREL = _series([(k + 1) / factorial(k + 2) for k in range(12)], "x")
_row("exprel", f"where((-0.25 < x) & (x < 0.25), {_NEAR_EXPREL}, (exp(x) - z)/x)")
_NEAR_SINHC = _series([1 / factorial(2 * k + 1) for k in range(7)], "(x*x)")
_row("shi", f"where((-0.25 < x) & (x < 0.25), {_NEAR_SINHC}, sinh(x)/x)", function="shichi",
     index=0, results=2)  # fmt: skip
_row("chi", "cosh(x)/x", function="shichi", index=1, results=2)
_row("wrightomega", "z/(1 + z)")

# --------------------------------------------------------------------------------- elliptic
_row("ellipkm1", "-0.5*(z - ellipd(1 - x))/x")
_HALF_TURNS = "rint(0.3183098861837907*x)"
_REST = f"(x - 3.141592653589793*{_HALF_TURNS})"
_SINE, _COSINE = f"sin{_REST}", f"cos{_REST}"
_DELTA = f"(1 - y*{_SINE}*{_SINE})"
# (F - E) / m by Carlson's integral: what the derivatives by the parameter are made of.
_D = (f"(2*{_HALF_TURNS}*ellipd(y) + {_SINE}*{_SINE}*{_SINE}/3"
      f"*scipy_elliprd({_COSINE}*{_COSINE}, {_DELTA}, 1))")  # fmt: skip
_row("ellipkinc", f"rsqrt{_DELTA}", f"0.5*(z - {_D} - {_SINE}*{_COSINE}*rsqrt{_DELTA})/(1 - y)")
_row("ellipeinc", f"sqrt{_DELTA}", f"-0.5*{_D}")
for _k, (_name, _slope) in enumerate((
    ("sn", "scipy_ellipj_cn(x, y)*scipy_ellipj_dn(x, y)"),
    ("cn", "-scipy_ellipj_sn(x, y)*scipy_ellipj_dn(x, y)"),
    ("dn", "-y*scipy_ellipj_sn(x, y)*scipy_ellipj_cn(x, y)"),
    ("ph", "scipy_ellipj_dn(x, y)"),
)):  # fmt: skip
    _row(f"ellipj_{_name}", _slope, None, function="ellipj", index=_k, results=4)
_row("elliprf", "-scipy_elliprd(y, w, x)/6", "-scipy_elliprd(w, x, y)/6",
     "-scipy_elliprd(x, y, w)/6")  # fmt: skip
_row("elliprc", None, None)
_row("elliprd", None, None, None)
_row("elliprg", None, None, None)
_row("elliprj", None, None, None, None)

# ------------------------------------------------------------------- trigonometry in degrees
_DEGREE = "0.017453292519943295"
_row("sindg", f"{_DEGREE}*scipy_cosdg(x)")
_row("cosdg", f"-{_DEGREE}*scipy_sindg(x)")
_row("tandg", f"{_DEGREE}*(1 + z*z)")
_row("cotdg", f"-{_DEGREE}*(1 + z*z)")

# ------------------------------------------------- values alone: derivatives have no formula
for _name, _arity in {
    "kolmogorov": 1, "kolmogi": 1, "zetac": 1, "chdtriv": 2, "stdtridf": 2, "pdtrik": 2,
    "smirnov": 2, "smirnovi": 2, "tklmbda": 2, "mathieu_a": 2, "mathieu_b": 2,
    "voigt_profile": 3, "nctdtr": 3, "nctdtrit": 3, "nctdtridf": 3, "nctdtrinc": 3, "chndtrix": 3,
    "chndtridf": 3, "chndtrinc": 3, "btdtria": 3, "btdtrib": 3, "bdtrik": 3, "bdtrin": 3,
    "nbdtrik": 3, "nbdtrin": 3, "fdtridfd": 3, "gdtrib": 3, "besselpoly": 3,
    "log_wright_bessel": 3, "ncfdtr": 4, "ncfdtri": 4, "ncfdtridfd": 4, "ncfdtridfn": 4,
    "ncfdtrinc": 4,
}.items():  # fmt: skip
    _row(_name, *[None] * _arity)
