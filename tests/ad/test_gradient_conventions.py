"""Every row of the table in ``docs/gradients.md``."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_conventions import DOCUMENT, ROWS, rendered

import graphc as gc

IDS = [f"{k}-{row.call}" for k, row in enumerate(ROWS)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_row(row, dtype):
    names = list(row.at)
    fn = eval(f"lambda {', '.join(names)}: {row.call}", {"np": np, "gc": gc})
    args = [np.array(row.at[name], dtype) for name in names]
    gives = [np.array(row.gives[name], dtype) for name in names]
    every = tuple(range(len(args)))
    total = gc.interpret(gc.grad(lambda *xs: np.sum(fn(*xs)), argnums=every))
    for found, expected in zip(total(*args), gives, strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    ones = tuple(np.ones_like(a) for a in args)
    push = gc.interpret(gc.jvp(fn, argnums=every))
    _, change = push(*args, ones)
    np.testing.assert_allclose(np.sum(change), sum(g.sum() for g in gives), rtol=1e-5, atol=1e-6)


def test_the_document_has_the_rows():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert rendered(text) == text, "run: python tests/ad/gradient_conventions.py"
