"""The benchmark of fresh processes: what a child measures, and what the table says."""

import json

import pytest

from bench import compile as bench_compile


def test_a_cold_and_a_warm_process():
    (row,) = bench_compile.first_results("W3", ["graphc"], rounds=1)
    assert "error" not in row  # the warm process, which imports no compiler, among others
    assert 0 < row["warm"] < row["cold_process"] and row["cold"] < row["cold_process"]
    assert (row["cold_aim"], row["warm_aim"]) == (1.0, 0.25)


def test_growth_counts_kernels():
    few, more = (bench_compile.child("growth", "identical", n, "0.0") for n in ("2", "4"))
    assert few["nodes"] < more["nodes"] and few["kernels"] < more["kernels"]
    assert few["cold"] > 0


def test_a_peer_that_fails_is_a_row_with_its_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_compile, "imports", lambda rounds: [])
    command = ["W3", "--peers", "none", "--rounds", "1", "--out", str(tmp_path)]
    code = bench_compile.main(command)
    (row,) = json.loads((tmp_path / "compile.json").read_text())
    assert code == 1 and "KeyError" in row["error"]
    assert "KeyError" in capsys.readouterr().out


@pytest.mark.parametrize("name", bench_compile.PROGRAMS)
def test_the_programs_are_workloads(name):
    from bench.registry import discover

    assert discover()[name].make.__module__ == f"bench.{bench_compile.PROGRAMS[name].module}"
