"""Kernels that call BLAS and LAPACK: one text a row of the op table.

Arrays are row-major and LAPACK's are not, so a routine sees the transposed matrix: ``cholesky``
asks for the upper factor, ``qr`` for an LQ factorization, ``lu`` exchanges columns. Where signs
are LAPACK's choice (``eigh``, ``svd``) the matrix is copied transposed, and they are NumPy's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from graphc.ir.library import PADE, PADE_NORM

# What object code may call, beside what LLVM lowers frem and memory moves to.
SYMBOLS = tuple(
    f"scipy_{name.format(t)}"
    for name in ("cblas_{}gemm", "cblas_{}trsm", "LAPACKE_{}potrf_work", "LAPACKE_{}getrf_work",
                 "LAPACKE_{}gelqf_work", "LAPACKE_{}orglq_work", "LAPACKE_{}syevd_work",
                 "LAPACKE_{}gesdd_work")
    for t in "sd"
) + tuple(
    f"scipy_LAPACKE_{t}{name}_work" for name in ("gelqf", "unglq", "heevd", "gesdd") for t in "cz"
)  # fmt: skip

_FAIL = """
if failed and status[0] == 0:
    status[0] = check
    status[1] = t
"""


def _substitution(a: str, lower: int, trans: int, unit: int) -> str:
    """op(triangle of ``a``) x = y in place of y. A single right side is a loop along the rows of
    ``a``, which is vectorised and, for small matrices, cheaper than a call."""
    row = "range(i)" if lower else "range(i + 1, n)"
    divided = "" if unit else f"y[i] = y[i] / {a}[i * n + i]"
    if trans:
        step = f"""{divided}
top = y[i]
for j in {row}:
    y[j] = y[j] - {a}[i * n + j] * top"""
    else:
        step = f"""total = zero
for j in {row}:
    total = accumulate_sum(total, {a}[i * n + j] * y[j])
y[i] = y[i] - total
{divided}"""
    order = "r" if lower != trans else "n - 1 - r"
    return f"""
if k == 1:
    for r in range(n):
        i = {order}
{textwrap.indent(step, " " * 8)}
else:
    trsm_K({lower}, {trans}, {unit}, n, k, {a}, y)
"""


_EXCHANGE = """
    p = i64(f[n * n + i])
    for j in range(k):
        kept = y[i * k + j]
        y[i * k + j] = y[p * k + j]
        y[p * k + j] = kept
"""


def _lu_solve(trans: int) -> str:
    """With columns exchanged f is L U, so f z = y is solved by L, then U, then exchanges of
    rows; transposed in the opposite order."""
    lower, upper = _substitution("f", 1, trans, 0), _substitution("f", 0, trans, 1)
    if trans:
        return f"for i in range(n):{_EXCHANGE}{upper}{lower}"
    return f"{lower}{upper}for r in range(n):\n    i = n - 1 - r{_EXCHANGE}"


_LU = """
getrf_K(n, f, pivots)
for i in range(n):
    f[n * n + i] = K(i64(pivots[i]) - 1)
"""

_CHOLESKY = f"""
x = part(a, t * n * n)
y = part(out, t * n * n)
for i in range(n):
    for j in range(n):
        y[i * n + j] = select(j <= i, x[i * n + j], zero)
failed = potrf_K(n, y) != 0
{_FAIL}
"""


def _triangular_solve(lower: int, trans: int, unit: int) -> str:
    diagonal = "" if unit else "failed = failed | (x[i * n + i] == zero)"
    return f"""
x = part(a, t * n * n)
y = part(out, t * n * k)
z = part(b, t * n * k)
failed = False
for i in range(n):
    {diagonal or "pass"}
{_FAIL}
for i in range(n * k):
    y[i] = z[i]
{_substitution("x", lower, trans, unit)}
"""


_FACTORS = f"""
x = part(a, t * n * n)
f = part(out, t * (n + 1) * n)
for i in range(n * n):
    f[i] = x[i]
{_LU}
"""


def _solve(trans: int) -> str:
    return f"""
f = part(lu, t * (n + 1) * n)
y = part(out, t * n * k)
z = part(b, t * n * k)
failed = False
for i in range(n):
    failed = failed | (f[i * n + i] == zero)
{_FAIL}
for i in range(n * k):
    y[i] = z[i]
{_lu_solve(trans)}
"""


_QR = """
x = part(a, t * m * n)
q = part(out, t * (m * c + c * n))
r = part(q, m * c)
for i in range(m * n):
    w[i] = x[i]
gelqf_K(n, m, w, tau, work, lwork)
for i in range(c):
    for j in range(n):
        r[i * n + j] = select(j >= i, w[i * n + j], zero)
for i in range(m):
    for j in range(k):
        q[i * c + j] = w[i * n + j]
    for j in range(c - k):
        q[i * c + k + j] = zero
orglq_K(c, m, k, q, tau, work, lwork)
"""

_EIGH = f"""
x = part(a, t * n * n)
w = part(out, t * (n + 1) * n)
v = part(w, n)
for i in range(n):
    for j in range(n):
        v[j * n + i] = select(j <= i, x[i * n + j], zero)
failed = syevd_K(n, v, w, work, lwork, integers, liwork) != 0
{_FAIL}
"""


def _without_values(width: int) -> str:
    """Of matrices without elements LAPACK leaves the vectors unset: they are the identity."""
    lines = ["if k == 0:"]
    for vectors, rows, columns in (("u", "p", "m"), ("v", "n", "q")):
        lines += [f"    for i in range({width} * {rows} * {columns}):",
                  f"        {vectors}[i] = zero",
                  f"    for i in range({rows}):",
                  f"        {vectors}[{width} * i * ({columns} + 1)] = K(1.0)"]  # fmt: skip
    return "\n".join(lines)


def _svd(full: int) -> str:
    return f"""
x = part(a, t * m * n)
u = part(out, t * (p * m + k + n * q))
s = part(u, p * m)
v = part(s, k)
for i in range(m):
    for j in range(n):
        w[j * m + i] = x[i * n + j]
failed = gesdd_K({full}, m, n, w, s, u, v, q, work, lwork, integers) != 0
{_without_values(1) if full else ""}
{_FAIL}
"""


# Of complex matrices: elements are pairs, sizes and strides count pairs.
_COMPLEX_QR = """
x = part(a, t * 2 * m * n)
q = part(out, t * 2 * (m * c + c * n))
r = part(q, 2 * m * c)
for i in range(2 * m * n):
    w[i] = x[i]
complex_gelqf_K(n, m, w, tau, work, lwork)
for i in range(c):
    for j in range(n):
        r[2 * (i * n + j)] = select(j >= i, w[2 * (i * n + j)], zero)
        r[2 * (i * n + j) + 1] = select(j >= i, w[2 * (i * n + j) + 1], zero)
for i in range(m):
    for j in range(2 * k):
        q[2 * i * c + j] = w[2 * i * n + j]
    for j in range(2 * (c - k)):
        q[2 * (i * c + k) + j] = zero
complex_unglq_K(c, m, k, q, tau, work, lwork)
"""

_COMPLEX_EIGH = f"""
x = part(a, t * 2 * n * n)
w = part(out, t * (n + 2 * n * n))
v = part(w, n)
for i in range(n):
    for j in range(n):
        v[2 * (j * n + i)] = select(j <= i, x[2 * (i * n + j)], zero)
        v[2 * (j * n + i) + 1] = select(j <= i, x[2 * (i * n + j) + 1], zero)
failed = complex_heevd_K(n, v, w, work, lwork, rwork, lrwork, integers, liwork) != 0
{_FAIL}
"""


def _complex_svd(full: int) -> str:
    return f"""
x = part(a, t * 2 * m * n)
u = part(out, t * (2 * (p * m + n * q) + k))
s = part(u, 2 * p * m)
v = part(s, k)
for i in range(m):
    for j in range(n):
        w[2 * (j * m + i)] = x[2 * (i * n + j)]
        w[2 * (j * m + i) + 1] = x[2 * (i * n + j) + 1]
failed = complex_gesdd_K({full}, m, n, w, s, u, v, q, work, lwork, rwork, integers) != 0
{_without_values(2) if full else ""}
{_FAIL}
"""


_COMBINED = """
for i in range(n * n):
    {target}[i] = {terms}
"""


def _combination(target: str, highest: int, powers: str, terms: str = "") -> str:
    """``target = sum of coefficients times even powers of x``, from x2 upwards."""
    parts = [f"c{highest - 4 + 2 * k} * {name}[i]" for k, name in enumerate(powers.split())]
    return _COMBINED.format(target=target, terms=" + ".join([*parts, *([terms] if terms else [])]))


def _times(target: str, a: str, b: str) -> str:
    return f"gemm_K(0, 0, n, n, n, 1.0, {a}, {b}, 0.0, {target})\n"


# The same approximant as `ir.library.expm`: odd and even part, a solve, squarings.
_EXPM = (
    """
a0 = part(a, t * n * n)
y = part(out, t * n * n)
norm = zero
for j in range(n):
    total = zero
    for i in range(n):
        total = total + absolute(a0[i * n + j])
    norm = select((total > norm) | (total != total), total, norm)
squarings = 0
scale = one
if norm - norm == zero:
    while norm > limit:
        norm = norm * half
        scale = scale * half
        squarings += 1
else:
    scale = norm - norm
for i in range(n * n):
    x[i] = a0[i] * scale
"""
    + _times("x2", "x", "x")
    + _times("x4", "x2", "x2")
    + _times("x6", "x4", "x2")
    + _combination("y", 13, "x2 x4 x6")
    + _times("w", "x6", "y")
    + _combination("w", 7, "x2 x4 x6", "w[i]")
    + """
for i in range(n):
    w[i * n + i] = w[i * n + i] + c1
"""
    + _times("y", "x", "w")
    + _combination("w", 12, "x2 x4 x6")
    + _times("x", "x6", "w")
    + _combination("x", 6, "x2 x4 x6", "x[i]")
    + f"""
for i in range(n):
    x[i * n + i] = x[i * n + i] + c0
for i in range(n * n):
    f[i] = x[i] - y[i]
    y[i] = x[i] + y[i]
k = n
{_LU}
{_lu_solve(0)}
for square in range(squarings):
    {_times("w", "y", "y").strip()}
    for i in range(n * n):
        y[i] = w[i]
"""
)
_EXPM_CONSTANTS = "\n".join(
    [f"c{i} = K({c!r})" for i, c in enumerate(PADE)]
    + ["one = K(1.0)", "half = K(0.5)", f"limit = K({PADE_NORM!r})"]
)

# A text, or a function of the row's attributes.
_BODIES: dict[str, str | Callable[..., str]] = {
    "cholesky": _CHOLESKY, "triangular_solve": _triangular_solve, "lu": _FACTORS,
    "qr": lambda full: _QR, "lu_solve": _solve, "eigh": _EIGH, "svd": _svd, "expm": _EXPM,
    "complex_qr": lambda full: _COMPLEX_QR, "complex_eigh": _COMPLEX_EIGH,
    "complex_svd": _complex_svd,
}  # fmt: skip


def kernel_text(op: str, attrs: dict, parameters: list[str], kind: str) -> str:
    """The function ``kernel`` of one row for a dtype; its loop ``t`` runs over the batch."""
    body = _BODIES[op]
    body = body if isinstance(body, str) else body(**attrs)
    head = _EXPM_CONSTANTS if op == "expm" else ""
    lines = f"zero = K(0.0)\n{head}\nfor t in range(batch):\n{textwrap.indent(body, '    ')}"
    text = f"def kernel({', '.join(parameters)}):\n{textwrap.indent(lines, '    ')}"
    text = text.replace("_K(", f"_{kind}(").replace("K(", f"{kind}(")
    return "\n".join(line for line in text.split("\n") if line.strip())
