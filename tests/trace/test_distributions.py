"""What messages say in place of distributions of scipy.stats is what these compute."""

import numpy as np
import pytest

import graphc as gc
from graphc.trace.distributions import FORMULAS, formula

stats = pytest.importorskip("scipy.stats")

PARAMETERS = {
    "lognorm": {"s": 0.7}, "gamma": {"a": 2.5}, "chi2": {"df": 3.5}, "beta": {"a": 1.5, "b": 2.5},
    "t": {"df": 4.5}, "f": {"dfn": 3.0, "dfd": 5.0}, "poisson": {"mu": 2.3},
    "bernoulli": {"p": 0.3}, "binom": {"n": 5.0, "p": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name):
    names = PARAMETERS.get(name, {})
    discrete = name in ("poisson", "bernoulli", "binom")
    methods = {*FORMULAS[name]} | {m[3:] for m in FORMULAS[name] if m in ("logpdf", "logpmf")}
    at = np.array([0.0, 1.0]) if discrete else np.array([0.2, 0.7])
    for method in sorted(methods):
        text = formula(name, method)
        scope = {"np": np, "special": gc.special}

        def f(x, text=text, scope=scope):
            return eval(text, {**scope, **dict.fromkeys("zkq", x), **names}) + 0 * x

        expected = getattr(getattr(stats, name), method)(at, **names)
        np.testing.assert_allclose(gc.interpret(f)(at), expected, 1e-12, err_msg=method)
