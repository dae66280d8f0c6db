"""What to write in place of functions of SciPy and others, which ask a tracer for its elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.trace import dispatch, distributions

_BY_EIGENVALUES = "w, v = np.linalg.eigh(a), then {} for a symmetric matrix"
_INSTEAD = {
    "scipy.linalg.cholesky": "np.linalg.cholesky(a), which is lower: its .T is SciPy's",
    "scipy.linalg.lu": "np.linalg.solve, or graphc.linalg.cho_factor for a positive matrix",
    "scipy.linalg.lu_factor": "np.linalg.solve(a, b): values and gradients share the factors",
    "scipy.linalg.lu_solve": "np.linalg.solve(a, b): values and gradients share the factors",
    "scipy.linalg.block_diag": "np.block([[a, np.zeros(...)], [np.zeros(...), b]])",
    "scipy.linalg.sqrtm": _BY_EIGENVALUES.format("(v * np.sqrt(w)) @ v.T"),
    "scipy.linalg.logm": _BY_EIGENVALUES.format("(v * np.log(w)) @ v.T"),
    "scipy.linalg.solve_banded": "np.linalg.solve of the whole matrix",
    "scipy.linalg.solveh_banded": "np.linalg.solve of the whole matrix",
    "scipy.linalg.toeplitz": "c[np.abs(i - j)], i and j from np.indices",
    "scipy.interpolate.CubicSpline": "the spline's values as a matrix times y: the spline of each "
    "row of\nnp.eye(len(y)) at x, made outside; or np.interp, which is linear",
    "scipy.interpolate.interp1d": "np.interp(x, xp, fp), which is linear",
    "scipy.signal.fftconvolve": "np.convolve(a, b)",
    "scipy.integrate.simpson": "np.trapezoid, or the weights of the rule times y",
}
SPARSE = (
    "Write A.toarray() @ x; for a large A, made outside with C = A.tocoo(), write\n"
    "np.bincount(C.row, C.data * x[C.col], minlength=A.shape[0])."
)
_SPECIAL = frozenset({"logsumexp", "softmax", "log_softmax", "polygamma"})  # Python code with twins
_LINALG = frozenset({"expm", "solve_triangular", "cho_factor", "cho_solve"})
_OF_MODULES = {
    "scipy.optimize": "Call it outside, on a compiled function of arrays: "
    "minimize(gc.value_and_grad(f), x0, jac=True).",
    "scipy.integrate": "Call it outside; inside, sum a rule, or step with gc.scan.",
    "scipy.interpolate": "Call it outside; inside, np.interp(x, xp, fp) is linear.",
    "scipy.signal": "Call it outside; inside, np.convolve and np.fft take traced values.",
    "scipy.sparse": SPARSE,
    "numpy.polynomial": "Write np.polyval(c[::-1], x), whose first coefficient is that of the "
    "highest power.",
    "scipy.stats": "Write the formula: with np, and ndtr, erf, gammaln, ... of graphc.special.",
    "numpy.testing": "Compare what the compiled function returns; inside, gc.debug_print shows "
    "values.",
}


def instead(function: Any, name: str) -> str | None:
    """The sentence for a call of ``function``, which the user wrote as ``name``; None where there
    is nothing to say."""
    module = public_module(function)
    short = getattr(function, "__name__", name.rsplit(".", 1)[-1])
    if f"{module}.{short}" in _INSTEAD:
        return f"Write {_INSTEAD[f'{module}.{short}']}."
    if module == "scipy.linalg" and short in _LINALG:
        return f"Write graphc.linalg.{short}(...), which takes traced values."
    if short in _SPECIAL and module in ("scipy.special", ""):
        return f"Write graphc.special.{short}(...), which takes traced values."
    if module == "scipy.stats" and (formula := distributions.instead(function, name)):
        return formula
    told = next((m for m in _OF_MODULES if module == m or module.startswith(m + ".")), None)
    if told is not None:
        return _OF_MODULES[told]
    if module.startswith("scipy."):
        for prefix, home in (("np.linalg", np.linalg), ("np", np), ("np.fft", np.fft)):
            if getattr(home, short, None) in dispatch.FUNCTIONS:
                return f"Write {prefix}.{short}(...), which takes traced values."
    if isinstance(function, np.vectorize) or ".vectorize(" in name:
        return "Call the function on whole arrays, or write gc.vmap(function)(x)."
    return None


def public_module(function: Any) -> str:
    """``scipy.linalg`` for what is defined in ``scipy.linalg._basic``."""
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type) and not hasattr(owner, "__path__"):
        function = type(owner)
    parts = (getattr(function, "__module__", None) or "").split(".")
    hidden = next((k for k, part in enumerate(parts) if part.startswith("_")), len(parts))
    return ".".join(parts[:hidden])
