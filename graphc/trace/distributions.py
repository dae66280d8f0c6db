"""What to write in place of methods of distributions of scipy.stats, which cannot be traced."""

from __future__ import annotations

import re
from typing import Any

_HALF_LOG = "0.5*np.log(2*np.pi)"
#: In z = (x - loc) / scale, counts k and probabilities q, for z within the support. A density is
#: that of z: of x it is divided by the scale.
FORMULAS: dict[str, dict[str, str]] = {
    "norm": {
        "logpdf": f"-0.5*z**2 - {_HALF_LOG}", "cdf": "special.ndtr(z)", "sf": "special.ndtr(-z)",
        "logcdf": "special.log_ndtr(z)", "logsf": "special.log_ndtr(-z)", "ppf": "special.ndtri(q)",
    },
    "lognorm": {
        "logpdf": f"-0.5*(np.log(z)/s)**2 - np.log(s*z) - {_HALF_LOG}",
        "cdf": "special.ndtr(np.log(z)/s)", "sf": "special.ndtr(-np.log(z)/s)",
        "ppf": "np.exp(s*special.ndtri(q))",
    },
    "expon": {
        "logpdf": "-z", "cdf": "-np.expm1(-z)", "sf": "np.exp(-z)", "ppf": "-np.log1p(-q)",
    },
    "gamma": {
        "logpdf": "special.xlogy(a - 1, z) - z - special.gammaln(a)",
        "cdf": "special.gammainc(a, z)", "sf": "special.gammaincc(a, z)",
        "ppf": "special.gammaincinv(a, q)",
    },
    "chi2": {
        "logpdf": "special.xlogy(df/2 - 1, z/2) - z/2 - special.gammaln(df/2) - np.log(2)",
        "cdf": "special.chdtr(df, z)", "sf": "special.chdtrc(df, z)",
        "ppf": "2*special.gammaincinv(df/2, q)",
    },
    "beta": {
        "logpdf": "special.xlogy(a - 1, z) + special.xlog1py(b - 1, -z) - special.betaln(a, b)",
        "cdf": "special.betainc(a, b, z)", "sf": "special.betaincc(a, b, z)",
        "ppf": "special.betaincinv(a, b, q)",
    },
    "t": {
        "logpdf": "-0.5*(df + 1)*np.log1p(z**2/df) - special.betaln(df/2, 0.5) - 0.5*np.log(df)",
        "cdf": "special.stdtr(df, z)", "sf": "special.stdtr(df, -z)",
        "ppf": "special.stdtrit(df, q)",
    },
    "f": {
        "cdf": "special.fdtr(dfn, dfd, z)", "sf": "special.fdtrc(dfn, dfd, z)",
        "ppf": "special.fdtri(dfn, dfd, q)",
    },
    "uniform": {
        "logpdf": "np.where((z >= 0) & (z <= 1), 0.0, -np.inf)", "cdf": "np.clip(z, 0, 1)",
        "ppf": "q",
    },
    "laplace": {"logpdf": "-np.abs(z) - np.log(2)"},
    "logistic": {
        "logpdf": "-z - 2*special.softplus(-z)", "cdf": "special.expit(z)",
        "sf": "special.expit(-z)", "ppf": "special.logit(q)",
    },
    "cauchy": {
        "logpdf": "-np.log1p(z**2) - np.log(np.pi)", "cdf": "0.5 + np.arctan(z)/np.pi",
        "ppf": "np.tan(np.pi*(q - 0.5))",
    },
    "poisson": {
        "logpmf": "special.xlogy(k, mu) - mu - special.gammaln(k + 1)",
        "cdf": "special.pdtr(k, mu)", "sf": "special.pdtrc(k, mu)",
    },
    "bernoulli": {"logpmf": "special.xlogy(k, p) + special.xlog1py(1 - k, -p)"},
    "binom": {
        "logpmf": "special.xlogy(k, p) + special.xlog1py(n - k, -p) - np.log(n + 1) "
        "- special.betaln(k + 1, n - k + 1)",
        "cdf": "special.bdtr(k, n, p)", "sf": "special.bdtrc(k, n, p)",
    },
}  # fmt: skip


def formula(distribution: str, method: str) -> str | None:
    """The expression for a method, None where none is known."""
    known = FORMULAS.get(distribution, {})
    if method in ("pdf", "pmf") and f"log{method}" in known:
        return f"np.exp({known[f'log{method}']})"
    return known.get(method)


def instead(function: Any, written: str) -> str | None:
    """The sentence for ``stats.norm.pdf`` or ``stats.norm(0, 1).pdf``, as it is ``written``: the
    function is then the method, or the distribution that the frozen one was made of."""
    distribution = getattr(getattr(function, "__self__", function), "name", None)
    method = written.rsplit(".", 1)[-1]
    text = formula(distribution, method) if isinstance(distribution, str) else None
    if text is None:
        return None
    used = "special = graphc.special" if "special." in text else ""
    if re.search(r"\bz\b", text):
        used += ("; " if used else "") + "z = (x - loc) / scale"
        if "pdf" in method:
            density = "minus np.log(scale)" if method == "logpdf" else "over the scale"
            used += f", and the density {density}"
    return f"Write {text}" + (f"\nwith {used}." if used else ".")
