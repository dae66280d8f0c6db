"""Show the rows: a table, a JSON file and a bar chart."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.core import Workload
from bench.measure import OK, Row

COLOURS = {
    "graphc": "#d1495b", "numpy": "#4d77a8", "autograd": "#8c8c8c", "jax": "#5b8e7d",
    "torch": "#e39a3b", "sklearn": "#6f5b9e", "c": "#3a3a3a", "casadi": "#b0764b",
    "pytensor": "#9aa63c", "numba": "#5f5f5f",
}  # fmt: skip


def family(peer: str) -> str:
    """The library of a peer: `jax` of `jax-epoch`."""
    return peer.split("-")[0]


def print_table(console: Console, workload: Workload, rows: list[Row]) -> None:
    table = Table(title=f"{workload.name}: {workload.title}", title_justify="left")
    for name, justify in (
        ("peer", "left"), ("us/step", "right"), ("min", "right"), ("spread", "right"),
        ("vs best", "right"), ("vs graphc", "right"), ("loss error", "right"),
        ("param error", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)
    for row in sorted(rows, key=lambda row: row.us_per_step or float("inf")):
        table.add_row(*_cells(row), style="bold" if family(row.peer) == "graphc" else None)
    console.print(table)


def _cells(row: Row) -> list[str]:
    error_cells = [_show(row.loss_error, "{:.0e}"), _show(row.param_error, "{:.0e}")]
    if row.status != OK:
        return [row.peer, row.status, "", "", "", "", *error_cells]
    return [
        row.peer,
        microseconds(row.us_per_step),
        microseconds(row.us_min),
        _show(row.spread, "{:.0%}"),
        _show(row.ratio_to_best, "{:.2f}x"),
        _show(row.ratio_to_graphc, "{:.2f}x"),
        *error_cells,
    ]


def microseconds(value: float) -> str:
    """Three digits, or all that stand before the point."""
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}"


def _show(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def write_json(path: Path, meta: dict, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"meta": meta, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_chart(path: Path, meta: dict, rows: list[Row]) -> None:
    """Horizontal bars on a log scale, one panel a workload."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, list[Row]] = {}
    for row in rows:
        if row.us_per_step:
            panels.setdefault(row.workload, []).append(row)
    if not panels:
        return
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.0 * lines + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (name, timed) in zip(axes, panels.items(), strict=False):
        _draw_panel(axis, name, timed, meta.get("limits_us", {}).get(name))
    for axis in axes[len(panels) :]:
        axis.remove()
    figure.suptitle(f"Microseconds a step, one core of {meta['processor']}", fontsize=11)
    figure.savefig(path, dpi=130)


def _draw_panel(axis, name: str, rows: list[Row], limit: float | None) -> None:
    from matplotlib.ticker import NullFormatter

    rows = sorted(rows, key=lambda row: row.us_per_step, reverse=True)
    times = [row.us_per_step for row in rows]
    bars = axis.barh(
        [row.peer for row in rows], times, color=[COLOURS.get(family(r.peer), "k") for r in rows]
    )
    axis.bar_label(bars, [microseconds(t) for t in times], padding=3, fontsize=8)
    if limit is not None:
        axis.axvline(limit, color="k", linestyle=":", linewidth=1.2)
        axis.annotate(
            " limit", (limit, 1), xycoords=("data", "axes fraction"), va="bottom", fontsize=7
        )
    axis.set_xscale("log")
    axis.set_xlim(min([*times, limit or times[-1]]) / 2, max(times) * 6)
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_title(name, loc="left", fontsize=10, fontweight="bold")
    axis.set_xlabel("us per step, log scale", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
