"""Put the published results into the documents, between ``<!-- results -->`` markers."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from bench.report import microseconds

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "bench" / "README.md")
BLOCK = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)
VERSIONS = ("python", "numpy", "numba", "jax", "torch", "autograd", "scikit-learn")
COMMAND = "python -m bench && python -m bench --readme"


def publish(results: Path, documents=DOCUMENTS) -> None:
    """Rewrite the marked block of each document from a JSON file of results.

    Raises ValueError for a document that has not exactly one pair of markers.
    """
    content = json.loads(results.read_text())
    for document in documents:
        chart = os.path.relpath(results.with_suffix(".png"), document.parent)
        block = markdown(content, Path(chart).as_posix())
        text, count = BLOCK.subn(
            lambda found, block=block: f"{found[1]}{block}\n{found[2]}", document.read_text()
        )
        if count != 1:
            raise ValueError(f"{document.name} has {count} blocks <!-- results -->, not one")
        document.write_text(text)


def markdown(content: dict, chart: str) -> str:
    """A table with a row for each peer and a column for each workload, and how it was measured."""
    meta, cells = content["meta"], {}
    for row in content["rows"]:
        cells[row["peer"], row["workload"]] = _cell(row)
    workloads = list(dict.fromkeys(row["workload"] for row in content["rows"]))
    peers = [p for p in _in_order(content["rows"]) if any(cells.get((p, w)) for w in workloads)]
    lines = [
        f"| us a step | {' | '.join(workloads)} |",
        f"|---|{'---:|' * len(workloads)}",
        *(f"| {p} | {' | '.join(cells.get((p, w), '') for w in workloads)} |" for p in peers),
        "",
        "In brackets: times graphc's row of the same kind. `-epoch` rows and `sklearn` run whole "
        "epochs in a call, the others are called from Python once a step.",
        "",
        *(f"- **{name}**: {title}" for name, title in meta.get("workloads", {}).items()),
        "",
        f"One core of {meta['processor']}, {meta['date'][:10]}; median of {meta['rounds']} rounds; "
        + ", ".join(f"{n} {meta['versions'][n]}" for n in VERSIONS if n in meta["versions"])
        + f". [Chart]({chart}). To reproduce: `{COMMAND}`",
    ]
    return "\n".join(lines)


def _cell(row: dict) -> str:
    if row["us_per_step"] is None:
        return "" if row["status"] == "skipped" else row["status"]
    ratio = row["ratio_to_graphc"]
    return microseconds(row["us_per_step"]) + (f" ({ratio:.2g}x)" if ratio else "")


def _in_order(rows: list[dict]) -> list[str]:
    """The peers as the workload with the most of them has them, then any others."""
    by_workload: dict[str, list[str]] = {}
    for row in rows:
        by_workload.setdefault(row["workload"], []).append(row["peer"])
    longest = max(by_workload.values(), key=len, default=[])
    return list(dict.fromkeys([*longest, *(row["peer"] for row in rows)]))
