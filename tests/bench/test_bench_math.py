"""`python -m bench.math`: rows of rates and errors for each function and dtype."""

import json
import shutil

import numpy as np
import pytest

from bench import math as bench_math


def test_errors_are_in_units_in_the_last_place():
    arrays = bench_math.arguments("exp", "float32")
    rounded = np.exp(arrays[0].astype(np.float64)).astype(np.float32)
    assert 0.4 < bench_math.ulp_error("exp", arrays, rounded) <= 0.51
    off = np.nextafter(rounded, np.float32(np.inf))
    assert 1.4 < bench_math.ulp_error("exp", arrays, off) <= 1.51


def test_every_function_is_in_c_for_both_dtypes():
    text = {strict: bench_math.c_source(strict) for strict in (False, True)}
    for name, function in bench_math.FUNCTIONS.items():
        for dtype in ("float32", "float64"):
            assert f"void {bench_math.c_name(name, dtype)}\n" in text[function.strict]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_row_for_each_dtype(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_math, "pin_to_one_thread", lambda: None)
    monkeypatch.setattr(bench_math, "FLAGS", ("-O2", "-shared", "-fPIC"))
    out = tmp_path / "math.json"
    assert bench_math.main(["atan2", "--rounds", "1", "--repeat", "1", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["dtype"] for row in rows] == ["float32", "float64"]
    assert all(row["ulp_graphc"] < 2 and row["graphc"] > 0 for row in rows)


def test_an_unknown_function_is_named(capsys):
    with pytest.raises(SystemExit):
        bench_math.main(["cosine"])
    assert "cosine" in capsys.readouterr().err
