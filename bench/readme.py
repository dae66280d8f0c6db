"""Put the published results into the documents, between ``<!-- results -->`` markers."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from bench.report import family, microseconds

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "bench" / "README.md")
BLOCK = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)
VERSIONS = ("python", "numpy", "numba", "jax", "torch", "autograd", "scikit-learn",
            "casadi", "pytensor")  # fmt: skip
COMMAND = "python -m bench --rounds 5 && python -m bench --readme"
FIRST = ("graphc", "jax", "torch", "autograd", "numpy")  # then the others as they come


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
    """A table with a row for each workload and a column for each library, and how it was made."""
    meta, rows = content["meta"], content["rows"]
    found = dict.fromkeys(family(row["peer"]) for row in rows if _is_shown(row))
    libraries = [n for n in (*FIRST, *found) if n in found]
    libraries = list(dict.fromkeys(libraries))
    limits = meta.get("limits_us", {})
    lines = [
        f"| us a step | limit | {' | '.join(libraries)} |",
        f"|---|---:|{'---:|' * len(libraries)}",
    ]
    for name in dict.fromkeys(row["workload"] for row in rows):
        of_workload = [row for row in rows if row["workload"] == name and _is_shown(row)]
        limit = microseconds(limits[name]) if name in limits else ""
        own = _best(of_workload, "graphc")
        cells = [_cell(_best(of_workload, library), own) for library in libraries]
        lines.append(f"| {name} | {limit} | {' | '.join(cells)} |")
    lines += [
        "",
        "The fastest row of each library, compiled once, on one thread; in brackets: times "
        "graphc's. Limit: what arithmetic and memory alone allow at rates measured in the same "
        "run, without math functions, latency and calls. All rows (called from Python once a "
        "step, whole epochs in one call, interpreted) are in the chart.",
        "",
        *(f"- **{name}**: {title}" for name, title in meta.get("workloads", {}).items()),
        "",
        f"One core of {meta['processor']}, {meta['date'][:10]}; median of {meta['rounds']} rounds; "
        + ", ".join(f"{n} {meta['versions'][n]}" for n in VERSIONS if n in meta["versions"])
        + f". [Chart]({chart}). To reproduce: `{COMMAND}`",
    ]
    return "\n".join(lines)


def _is_shown(row: dict) -> bool:
    return row["status"] != "skipped" and row["peer"] != "graphc-interp"


def _best(rows: list[dict], library: str) -> dict | None:
    """The fastest row of a library; one that was wrong or failed only where there is no other."""
    own = [row for row in rows if family(row["peer"]) == library]
    return min(own, key=lambda row: row["us_per_step"] or float("inf"), default=None)


def _cell(row: dict | None, own: dict | None) -> str:
    if row is None:
        return ""
    us = row["us_per_step"]
    if us is None:
        return row["status"]
    if own is None or row is own or own["us_per_step"] is None:
        return f"**{microseconds(us)}**" if row is own else microseconds(us)
    ratio = us / own["us_per_step"]
    return (
        f"{microseconds(us)} ({ratio:.0f}x)"
        if ratio >= 10
        else f"{microseconds(us)} ({ratio:.2g}x)"
    )
