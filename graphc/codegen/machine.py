"""The words of generated programs, as plain Python: errors there are readable.

``native_words`` gives the same words their native meaning. Buffers are flat NumPy arrays here.
"""

from __future__ import annotations

import numpy as np

from graphc import vmath
from graphc.codegen.writer import ProductFunction, Program
from graphc.ir.types import parse_type

KINDS = {k: parse_type(f"{k}[]").dtype for k in
         ("bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64")}  # fmt: skip
MATH = tuple(name for name in vmath.FUNCTIONS if name not in ("pow", "gelu"))


def run_as_python(program: Program, arrays, arena: np.ndarray, ints: np.ndarray) -> None:
    """Execute a program without a compiler: ``arrays`` are flat, in the order of the table."""
    namespace = python_words() | {p.name: _product(p) for p in program.products}
    exec(compile(program.text, "<graphc program>", "exec"), namespace)
    with np.errstate(all="ignore"):
        namespace["main"](arrays, arena, ints)


def python_words() -> dict[str, object]:
    """The namespace in which a program runs as plain Python."""
    words: dict[str, object] = {
        "INF": np.inf, "NAN": np.nan, "select": _select, "larger": np.maximum,
        "smaller": np.minimum, "absolute": np.abs, "sign": np.sign, "floor": np.floor,
        "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "copysign": np.copysign,
        "isinf": np.isinf, "isfinite": np.isfinite,
        "relu": lambda x: np.maximum(x, x.dtype.type(0)),
        "floor_mod": np.remainder, "floor_div": np.floor_divide, "power": _power,
        "accumulate_sum": lambda a, b: a + b, "accumulate_prod": lambda a, b: a * b,
        "checked": _checked, "status_words": lambda ints: ints,
        "part": lambda buffer, offset: buffer[offset:],
    }  # fmt: skip
    for kind, dtype in KINDS.items():
        if kind != "bool":
            words[kind] = _conversion(dtype)
        words[f"argument_{kind}"] = lambda args, index: args[index]
        words[f"temporary_{kind}"] = lambda arena, offset, dtype=dtype: arena[offset:].view(dtype)
    for kind in ("f32", "f64"):
        words[f"gemm_{kind}"] = _gemm
    for name in MATH:
        words[name] = _math(name)
    return words


def _conversion(dtype: np.dtype):
    return lambda x: np.asarray(x).astype(dtype)[()]


def _select(cond, a, b):
    return a if cond else b


def _power(x, y):
    """As on arrays: for single values NumPy takes short cuts that round differently."""
    return np.power(np.asarray(x).reshape(1), np.asarray(y).reshape(1))[0]


def _checked(status, check, index, size):
    if 0 <= index < size:
        return int(index)
    if status[0] == 0:
        status[0], status[1] = check, index
    return int(min(max(index, 0), max(size - 1, 0)))


def _math(name):
    def call(*args):
        return vmath.evaluate(name, args[0].dtype.name, *args)[()]

    return call


def _product(product: ProductFunction):
    def call(a, b, c, *rest):
        *work, m, k, first, last = rest
        assert len(work) == product.packed
        left = a[: m * k].reshape((k, m)).T if product.ta else a[: m * k].reshape((m, k))
        right = b[: k * product.n].reshape((product.n, k) if product.tb else (k, product.n))
        out = c[: m * product.n].reshape((m, product.n))
        out[first:last] = left[first:last] @ (right.T if product.tb else right)

    return call


def _gemm(ta, tb, m, n, k, alpha, a, b, beta, c):
    left = a[: m * k].reshape((k, m)).T if ta else a[: m * k].reshape((m, k))
    right = b[: k * n].reshape((n, k)).T if tb else b[: k * n].reshape((k, n))
    out = c[: m * n].reshape((m, n))
    product = left @ right if alpha == 1.0 else c.dtype.type(alpha) * (left @ right)
    out[...] = product if beta == 0.0 else product + c.dtype.type(beta) * out
