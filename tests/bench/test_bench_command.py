"""`python -m bench` as a user runs it: one quick round, and the files that it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW_KEYS = {
    "workload", "peer", "status", "note", "mode", "loss_error", "param_error", "us_per_step",
    "us_min", "us_max", "spread", "rounds", "ratio_to_best", "ratio_to_graphc",
}  # fmt: skip


def bench(*arguments):
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    out = tmp_path_factory.mktemp("results")
    done = bench("W1", "W3", "--quick", "--rounds", 1, "--peers", "numpy,jax", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, out


def test_the_json_holds_the_machine_and_checked_rows(quick_run):
    _, out = quick_run
    content = json.loads((out / "partial.json").read_text())
    assert content["meta"].keys() >= {"processor", "date", "versions", "threads", "rounds"}
    assert content["meta"]["versions"].keys() >= {"python", "numpy"}
    assert set(content["meta"]["threads"].values()) == {"1"}
    rows = content["rows"]
    assert {row["workload"] for row in rows} == {"W1", "W3"}
    assert {row["peer"] for row in rows} == {"numpy", "jax-step", "jax-epoch"}
    for row in rows:
        assert row.keys() >= ROW_KEYS
        if row["status"] == "skipped":
            assert row["us_per_step"] is None and "not available" in row["note"]
            continue
        assert row["status"] == "ok" and row["mode"] in ("step", "epoch")
        assert row["loss_error"] < 1e-4 and row["param_error"] < 1e-4
        assert row["us_min"] <= row["us_per_step"] <= row["us_max"]
        assert len(row["rounds"]) == 1 and row["ratio_to_best"] >= 1


def test_the_table_and_the_chart(quick_run):
    said, out = quick_run
    assert "W3: MLP 2-16-16-1" in said and "us/step" in said and "numpy" in said
    assert (out / "partial.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_workload_is_named():
    done = bench("W99")
    assert done.returncode == 2
    assert "no workload W99" in done.stdout
