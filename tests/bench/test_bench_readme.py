"""`python -m bench --readme`: results go between the markers of the documents."""

import json

import pytest

from bench.cli import parse
from bench.readme import DOCUMENTS, publish

META = {
    "processor": "A Processor", "date": "2030-01-02T03:04:05+00:00", "rounds": 7,
    "versions": {"python": "3.12", "numpy": "2.2", "other": "1"},
    "workloads": {"W1": "one call", "W3": "a small net"}, "limits_us": {"W3": 0.25},
}  # fmt: skip


def row(workload, peer, us, ratio=None, status="ok"):
    keys = ("workload", "peer", "us_per_step", "ratio_to_graphc", "status")
    return dict(zip(keys, (workload, peer, us, ratio, status), strict=True))


def document(path, body="RESULTS"):
    path.write_text(f"before\n<!-- results -->\n{body}\n<!-- /results -->\nafter\n")
    return path


@pytest.fixture
def results(tmp_path):
    (tmp_path / "bench" / "results").mkdir(parents=True)
    rows = [
        row("W1", "graphc-step", 2.5, 1.0),
        row("W1", "torch", None, status="skipped"),
        row("W3", "graphc-epoch", 0.5, 1.0),
        row("W3", "graphc-step", 5.0, 1.0),
        row("W3", "jax-step", 61.2, 12.24),
        row("W3", "numpy", None, status="WRONG"),
    ]
    path = tmp_path / "bench" / "results" / "latest.json"
    path.write_text(json.dumps({"meta": META, "rows": rows}))
    return path


def test_the_table_replaces_what_is_between_the_markers(results, tmp_path):
    outer, inner = document(tmp_path / "README.md"), document(tmp_path / "bench" / "README.md")
    for _ in range(2):  # the second time replaces the first
        publish(results, (outer, inner))
    text = outer.read_text()
    lines = text.splitlines()
    assert lines[:6] == [
        "before",
        "<!-- results -->",
        "| us a step | limit | graphc | jax | numpy |",
        "|---|---:|---:|---:|---:|",
        "| W1 |  | **2.50** |  |  |",
        "| W3 | 0.250 | **0.500** | 61.2 (122x) | WRONG |",
    ]
    assert lines[-2:] == ["<!-- /results -->", "after"]
    assert "RESULTS" not in text and "| torch |" not in text
    assert "A Processor, 2030-01-02; median of 7 rounds; python 3.12, numpy 2.2." in text
    assert "- **W3**: a small net" in text and "`python -m bench" in text
    assert "(bench/results/latest.png)" in text
    assert "(results/latest.png)" in inner.read_text()


@pytest.mark.parametrize("body", ["no markers", "<!-- results -->\nonce\n<!-- /results -->\n" * 2])
def test_a_document_without_one_place_for_results_is_named(results, tmp_path, body):
    path = tmp_path / "OTHER.md"
    path.write_text(body)
    with pytest.raises(ValueError, match=r"OTHER\.md has [02] blocks"):
        publish(results, (path,))
    assert path.read_text() == body


def test_the_documents_have_the_place(results, tmp_path):
    for original in DOCUMENTS:
        copy = tmp_path / "copy.md"
        copy.write_text(original.read_text())
        publish(results, (copy,))
        assert "| jax |" in copy.read_text()


def test_only_a_full_run_is_called_latest():
    assert parse([]).name == parse(["--readme"]).name == "latest"
    assert parse(["W3"]).name == parse(["--quick"]).name == parse(["--peers", "jax"]).name
    assert parse(["W3"]).name == "partial" and parse(["W3", "--name", "mine"]).name == "mine"
