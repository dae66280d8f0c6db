"""Elementary functions in elements a nanosecond, with their errors: `python -m bench.math`.

graphc's function of one array, C compiled for this machine with the vector math library (libmvec)
and NumPy, on an array in the second-level cache. graphc and C are called through the same kind of
pointer. Errors are in units in the last place, against mpmath (a sample of the same arguments).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.environment import describe, pin_to_one_thread
from bench.peers.c_peer import FLAGS, compile_text

SIZE = 16384  # elements: up to 3 arrays of 128 KiB
SAMPLE = 400


@dataclass(frozen=True)
class Function:
    """In C (`x`, `y` of type `T`), in NumPy or SciPy, in mpmath; and where arguments are drawn."""

    c: str
    numpy: str
    exact: str
    low: float
    high: float
    graphc: str = ""  # where it is not the line of NumPy
    strict: bool = False  # C without -Ofast, where that changes what is computed


FUNCTIONS = {
    "exp": Function("exp(x)", "np.exp(x)", "mp.exp(x)", -80, 80),
    "expm1": Function("expm1(x)", "np.expm1(x)", "mp.expm1(x)", -5, 5),
    "log": Function("log(x)", "np.log(x)", "mp.log(x)", 1e-3, 1e3),
    "log1p": Function("log1p(x)", "np.log1p(x)", "mp.log1p(x)", -0.9, 10),
    "sin": Function("sin(x)", "np.sin(x)", "mp.sin(x)", -100, 100),
    "cos": Function("cos(x)", "np.cos(x)", "mp.cos(x)", -100, 100),
    "tan": Function("tan(x)", "np.tan(x)", "mp.tan(x)", -100, 100),
    "tanh": Function("tanh(x)", "np.tanh(x)", "mp.tanh(x)", -5, 5),
    "sigmoid": Function("1 / (1 + exp(-x))", "special.expit(x)", "1 / (1 + mp.exp(-x))", -20, 20),
    "softplus": Function(
        "fmax(x, (T)0) + log1p(exp(-fabs(x)))", "np.logaddexp(x, 0)", "mp.log1p(mp.exp(x))",
        -20, 20, "special.softplus(x)",
    ),
    "erf": Function("erf(x)", "special.erf(x)", "mp.erf(x)", -3, 3),
    "erfc": Function("erfc(x)", "special.erfc(x)", "mp.erfc(x)", -3, 8),
    "gelu": Function(
        "(T)0.5 * x * (1 + erf(x * (T)M_SQRT1_2))", "0.5 * x * (1 + special.erf(x * 0.5 ** 0.5))",
        "x * mp.ncdf(x)", -5, 5,
    ),
    "sqrt": Function("sqrt(x)", "np.sqrt(x)", "mp.sqrt(x)", 1e-3, 1e3, strict=True),
    "rsqrt": Function("1 / sqrt(x)", "1 / np.sqrt(x)", "1 / mp.sqrt(x)", 1e-3, 1e3, strict=True),
    "sqrt -Ofast": Function("sqrt(x)", "np.sqrt(x)", "mp.sqrt(x)", 1e-3, 1e3),
    "rsqrt -Ofast": Function("1 / sqrt(x)", "1 / np.sqrt(x)", "1 / mp.sqrt(x)", 1e-3, 1e3),
    "pow": Function("pow(x, y)", "np.power(x, y)", "mp.power(x, y)", 1e-2, 10),
    "atan2": Function("atan2(x, y)", "np.arctan2(x, y)", "mp.atan2(x, y)", -10, 10),
}  # fmt: skip
BINARY = ("pow", "atan2")
# libmvec has no square root. -Ofast makes one in float32 of the processor's estimate and a step of
# Newton's iteration, up to 1.3 ulp off and nothing for subnormals; NumPy and graphc round it.
# The peer is therefore C that does so too, and lines "-Ofast" have the other one.
STRICT_FLAGS = ("-O3", "-fno-math-errno", *(f for f in FLAGS if f != "-Ofast"))
C_TEXT = """
#define _GNU_SOURCE
#include <math.h>
#include <tgmath.h>
"""


@dataclass
class Row:
    function: str
    dtype: str
    graphc: float  # elements a nanosecond, the median
    c: float
    numpy: float
    ratio: float  # graphc's rate over that of C
    ulp_graphc: float
    ulp_c: float
    ulp_numpy: float


def c_name(name: str, dtype: str) -> str:
    return f"{name.replace(' -', '_')}_{dtype}"


def c_source(strict: bool = False) -> str:
    text = C_TEXT
    for name, function in FUNCTIONS.items():
        if function.strict != strict:
            continue
        for kind, dtype in (("float", "float32"), ("double", "float64")):
            second = "const T *restrict b, " if name in BINARY else ""
            y = "T y = b[i]; " if name in BINARY else ""
            text += (
                f"#define T {kind}\nvoid {c_name(name, dtype)}\n"
                f"(long n, const T *restrict a, {second}T *restrict out)\n"
                f"{{ for (long i = 0; i < n; i++) {{ T x = a[i]; {y}out[i] = {function.c}; }} }}\n"
                "#undef T\n"
            )
    return text


def arguments(name: str, dtype: str) -> list[np.ndarray]:
    function, rng = FUNCTIONS[name], np.random.default_rng(3)
    arrays = [rng.uniform(function.low, function.high, SIZE).astype(dtype)]
    if name in BINARY:
        low = -5 if name == "pow" else function.low
        arrays.append(rng.uniform(low, -low, SIZE).astype(dtype))
    return arrays


def numpy_function(text: str, special) -> Callable:
    return eval(f"lambda x, y=None: {text}", {"np": np, "special": special})


def graphc_caller(name: str, arrays: list[np.ndarray], out: np.ndarray) -> Callable[[], object]:
    import graphc as gc

    function = FUNCTIONS[name]
    body = numpy_function(function.graphc or function.numpy, gc.special)
    take = (lambda x, y: body(x, y)) if name in BINARY else (lambda x: body(x))
    compiled = gc.compile(take).c_function(*arrays)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, out)]
    return lambda: compiled.ctypes(*pointers)


def c_caller(library, name: str, arrays, out) -> Callable[[], object]:
    function = getattr(library, c_name(name, str(out.dtype)))
    function.restype = None
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, out)]
    return lambda: function(ctypes.c_long(out.size), *pointers)


def numpy_caller(name: str, arrays, out) -> Callable[[], object]:
    import scipy.special

    body = numpy_function(FUNCTIONS[name].numpy, scipy.special)

    def call():
        with np.errstate(all="ignore"):
            out[...] = body(*arrays)

    return call


def ulp_error(name: str, arrays, found: np.ndarray) -> float:
    """The largest of a sample."""
    import mpmath

    exact = eval(f"lambda x, y=None: {FUNCTIONS[name].exact}", {"mp": mpmath})
    worst, bits = 0.0, np.finfo(found.dtype).nmant + 1
    with mpmath.workdps(40):
        for k in range(0, SIZE, SIZE // SAMPLE):
            truth = exact(*(mpmath.mpf(float(a[k])) for a in arrays))
            # Not np.spacing: -Ofast makes the processor flush subnormals.
            unit = 2.0 ** (mpmath.frexp(truth)[1] - bits) if truth else 1.0
            worst = max(worst, float(abs(mpmath.mpf(float(found[k])) - truth) / unit))
    return worst


def rates(callers: dict[str, Callable], rounds: int, repeat: int) -> dict[str, float]:
    """Elements a nanosecond of each, in turn: the median of the rounds."""
    seconds: dict[str, list[float]] = {peer: [] for peer in callers}
    for call in callers.values():
        call()
    for _ in range(rounds):
        for peer, call in callers.items():
            started = time.perf_counter()
            for _ in range(repeat):
                call()
            seconds[peer].append((time.perf_counter() - started) / repeat)
    return {peer: SIZE / (1e9 * statistics.median(s)) for peer, s in seconds.items()}


def measure(name: str, dtype: str, library, rounds: int, repeat: int) -> Row:
    arrays = arguments(name, dtype)
    outs = {peer: np.zeros(SIZE, dtype) for peer in ("graphc", "c", "numpy")}
    callers = {
        "graphc": graphc_caller(name, arrays, outs["graphc"]),
        "c": c_caller(library, name, arrays, outs["c"]),
        "numpy": numpy_caller(name, arrays, outs["numpy"]),
    }
    speed = rates(callers, rounds, repeat)
    errors = {f"ulp_{peer}": ulp_error(name, arrays, out) for peer, out in outs.items()}
    return Row(name, dtype, **speed, ratio=speed["graphc"] / speed["c"], **errors)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.math", description=__doc__)
    parser.add_argument("functions", nargs="*", help=f"of {', '.join(FUNCTIONS)}; all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=20, help="calls a round")
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    options = parser.parse_args(given)
    if unknown := set(options.functions) - set(FUNCTIONS):
        parser.error(f"no function {', '.join(sorted(unknown))}")
    pin_to_one_thread()
    fast, strict = compile_text(c_source(), FLAGS), compile_text(c_source(True), STRICT_FLAGS)
    print(f"{'':22}{'elements/ns':>24}{'graphc':>10}{'largest error, ulp':>28}")
    print(f"{'':22}{'graphc':>8}{'C':>8}{'NumPy':>8}{'/ C':>10}{'graphc':>12}{'C':>8}{'NumPy':>8}")
    rows = []
    for name in options.functions or FUNCTIONS:
        for dtype in ("float32", "float64"):
            library = strict if FUNCTIONS[name].strict else fast
            row = measure(name, dtype, library, options.rounds, options.repeat)
            rows.append(row)
            print(
                f"{name:14}{dtype:8}{row.graphc:8.2f}{row.c:8.2f}{row.numpy:8.2f}{row.ratio:10.2f}"
                f"{row.ulp_graphc:12.2f}{row.ulp_c:8.2f}{row.ulp_numpy:8.2f}",
                flush=True,
            )
    if options.out:
        content = {"environment": describe(), "rows": [asdict(row) for row in rows]}
        options.out.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
