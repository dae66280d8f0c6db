"""A divisor of a whole row is inverted once, where its reciprocal is known to be a plain number."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same, native_run, program_of, python_run

from graphc import interp
from graphc.codegen import machine
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.ranges import has_plain_reciprocal, is_nonnegative, is_positive
from graphc.ir.types import tensor_type
from graphc.schedule import loops as L
from graphc.schedule import schedule, team

E = build.elementwise
ROWS, COLUMNS = 13, 40
X = build.input(0, "x", tensor_type(np.float32, (ROWS, COLUMNS)))
S = build.input(1, "s", tensor_type(np.float32, (ROWS,)))


def spread(rows):
    return build.broadcast(rows, X.shape, (0,))


def shifted(guard=None):
    most = build.reduce("max", X, (1,))
    if guard is not None:
        most = E("where", E(guard, most), most, build.full_like(most, 0))
    return E("exp", E("sub", X, spread(most)))


DIVISORS = {
    "root": (E("sqrt", S), True),
    "root and eps": (E("add", E("sqrt", S), build.full_like(S, 1e-6)), True),
    "softmax": (build.reduce("sum", shifted(), (1,)), True),
    "softmax, guarded": (build.reduce("sum", shifted(guard="isfinite"), (1,)), True),
    "shifted by choice": (build.reduce("sum", shifted(guard="isnan"), (1,)), False),
    "any sum": (build.reduce("sum", X, (1,)), False),
    "exponentials": (build.reduce("sum", E("exp", X), (1,)), False),
    "other axis": (build.reduce("sum", shifted(), (0,)), False),
    "argument": (S, False),
}


def quotient(divisor):
    return Graph("f", (X, S), (E("div", X, spread(divisor)),))


@pytest.mark.parametrize("name", [n for n in DIVISORS if n != "other axis"])
def test_only_known_divisors_are_inverted(name):
    divisor, plain = DIVISORS[name]
    assert ("divided(" in program_of(quotient(divisor)).text) == plain


@pytest.mark.parametrize("name", DIVISORS)
def test_what_is_known_of_divisors(name):
    divisor, plain = DIVISORS[name]
    assert has_plain_reciprocal(divisor) == plain


@pytest.mark.parametrize("run", [python_run, native_run])
def test_quotients_are_those_of_division(run):
    rng = np.random.default_rng(3)
    x = (rng.normal(size=X.shape) * 10.0 ** rng.integers(-20, 20, X.shape)).astype(np.float32)
    x[:, :6] = [0, -0.0, np.inf, -np.inf, np.nan, np.finfo(np.float32).max]
    s = (rng.random(ROWS) * 10.0 ** rng.integers(-30, 30, ROWS)).astype(np.float32)
    s[:5] = 0, np.inf, np.nan, 1e-45, np.finfo(np.float32).max
    with np.errstate(all="ignore"):
        want = x / np.sqrt(s)[:, None]
        (got,) = run(quotient(DIVISORS["root"][0]), [x, s])
    finite = np.isfinite(want) & (np.abs(want) >= np.finfo(np.float32).tiny * 2.0**24)
    np.testing.assert_array_equal(got[finite], want[finite])
    np.testing.assert_array_equal(got[~np.isfinite(want)], want[~np.isfinite(want)])
    np.testing.assert_allclose(got, want, atol=1e-37, rtol=1e-6)


def test_signs():
    assert is_nonnegative(E("mul", X, X)) and not is_nonnegative(E("mul", X, E("neg", X)))
    assert is_positive(E("add", E("mul", X, X), build.full_like(X, 1e-5)))
    assert not is_positive(E("add", X, build.full_like(X, 1e-5)))
    assert not is_positive(E("mul", X, X))


def test_rows_in_parts(monkeypatch):
    for module in (team, machine):
        monkeypatch.setattr(module, "GRAIN", 1)
    graph = quotient(DIVISORS["softmax"][0])
    assert any(isinstance(k, L.TeamKernel) for k in schedule(graph, team=True).kernels)
    x, s = np.random.default_rng(6).normal(size=X.shape).astype(np.float32), np.ones(ROWS, "f4")
    assert_same(python_run(graph, [x, s], threads=3), interp.evaluate(graph, [x, s]))
