"""Writes the table of ``docs/gradients.md``: ``python tests/ad/gradient_conventions.py``.

A row is an expression, a point at which its derivative is a choice, and what graphc chooses;
``test_gradient_conventions.py`` computes every one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "gradients.md"
START, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Row:
    """``call`` of ``at`` has the gradients ``gives`` (of the sum of its results)."""

    call: str
    at: dict[str, Any]
    gives: dict[str, Any]
    why: str


_MIDDLE = "the middle of the subgradients"
_NOT_INFINITE = "instead of infinity: a step of a descent stays finite"
_EVEN = "ties share evenly: the mean of the one-sided gradients"
_FLAT = "constant almost everywhere"
_FIRST = "NumPy's stable order says which element a result came from; that one gets it"
_LIMIT = "`0 * log(0)` is 0 there; `x * np.log(x)` itself is NaN at 0, as in NumPy"
_SHARED = "the limit of large numbers: what is +inf shares the weight"

ROWS = [
    Row("np.abs(x)", {"x": 0.0}, {"x": 0.0}, _MIDDLE),
    Row("np.sqrt(x)", {"x": 0.0}, {"x": 0.0}, _NOT_INFINITE),
    Row("np.cbrt(x)", {"x": 0.0}, {"x": 0.0}, _NOT_INFINITE),
    Row("x ** 0.5", {"x": 0.0}, {"x": 0.0}, _NOT_INFINITE),
    Row("np.linalg.norm(x)", {"x": [0.0, 0.0]}, {"x": [0.0, 0.0]}, _MIDDLE),
    Row("np.hypot(x, y)", {"x": 0.0, "y": 0.0}, {"x": 0.0, "y": 0.0}, _MIDDLE),
    Row("np.std(x)", {"x": [1.0, 1.0]}, {"x": [0.0, 0.0]}, _MIDDLE),
    Row("np.arctan2(x, y)", {"x": 0.0, "y": 0.0}, {"x": 0.0, "y": 0.0},
        "no direction is better than another"),
    Row("x ** y", {"x": 0.0, "y": 0.0}, {"x": 0.0, "y": 0.0},
        "`0 ** 0` is 1, and `x ** 0` is 1 around it"),
    Row("x ** y", {"x": 0.0, "y": 2.0}, {"x": 0.0, "y": 0.0}, "`0 * log(0)` is taken as 0"),
    Row("x ** 1.0", {"x": 0.0}, {"x": 1.0}, "exact"),
    Row("np.maximum(x, y)", {"x": 1.0, "y": 1.0}, {"x": 0.5, "y": 0.5}, _EVEN),
    Row("np.minimum(x, y)", {"x": 1.0, "y": 1.0}, {"x": 0.5, "y": 0.5}, _EVEN),
    Row("np.maximum(x, 0)", {"x": 0.0}, {"x": 0.0}, "the rectifier of every framework"),
    Row("np.clip(x, -1, 1)", {"x": [-1.0, 1.0]}, {"x": [0.5, 0.5]}, _EVEN),
    Row("np.max(x)", {"x": [2.0, 1.0, 2.0]}, {"x": [0.5, 0.0, 0.5]}, _EVEN),
    Row("np.min(x)", {"x": [1.0, 1.0]}, {"x": [0.5, 0.5]}, _EVEN),
    Row("np.sort(x) * np.array([1, 10, 100])", {"x": [2.0, 1.0, 2.0]}, {"x": [10.0, 1.0, 100.0]},
        _FIRST),
    Row("np.median(x)", {"x": [2.0, 1.0, 2.0]}, {"x": [1.0, 0.0, 0.0]}, _FIRST),
    Row("np.prod(x)", {"x": [0.0, 2.0, 3.0]}, {"x": [6.0, 0.0, 0.0]},
        "exact: products of the others, never a division"),
    Row("np.cumprod(x)", {"x": [0.0, 2.0, 3.0]}, {"x": [9.0, 0.0, 0.0]}, "exact"),
    Row("np.where(x > 0, np.log(x), 0)", {"x": [0.0, -1.0]}, {"x": [0.0, 0.0]},
        "what was not chosen takes no part, NaN or not"),
    Row("np.where(x == 0, 1, np.sin(x) / x)", {"x": 0.0}, {"x": 0.0}, "as above"),
    Row("np.nansum(x)", {"x": [float("nan"), 1.0]}, {"x": [0.0, 1.0]}, "as above"),
    Row("np.exp(x - np.max(x)) / np.sum(np.exp(x - np.max(x))) * np.array([1, 2, 3])",
        {"x": [-INF, 0.0, 0.0]}, {"x": [0.0, -0.25, 0.25]},
        "a masked score has probability 0 and gradient 0"),
    Row("gc.special.logsumexp(x)", {"x": [-INF, 0.0]}, {"x": [0.0, 1.0]}, "as above"),
    Row("gc.special.logsumexp(x)", {"x": [-INF, -INF]}, {"x": [0.0, 0.0]},
        "nothing but masked scores: -inf, and no part in any gradient"),
    Row("np.logaddexp.reduce(x)", {"x": [-INF, -INF]}, {"x": [0.0, 0.0]}, "as above"),
    Row("np.log(np.sum(np.exp(x)))", {"x": [-INF, -INF]}, {"x": [0.0, 0.0]}, "as above"),
    Row("gc.special.logsumexp(x)", {"x": [INF, 0.0, INF]}, {"x": [0.5, 0.0, 0.5]}, _SHARED),
    Row("np.logaddexp.reduce(x)", {"x": [INF, -INF]}, {"x": [1.0, 0.0]}, _SHARED),
    Row("gc.special.softmax(x)", {"x": [-INF, -INF]}, {"x": [0.0, 0.0]},
        "the value is NaN, as SciPy's"),
    Row("gc.special.softmax(x) * np.array([1, 2, 3])", {"x": [INF, INF, 0.0]},
        {"x": [-0.25, 0.25, 0.0]}, f"{_SHARED}; the value is NaN, as SciPy's"),
    Row("gc.special.log_softmax(x)", {"x": [-INF, -INF]}, {"x": [1.0, 1.0]},
        "the value is NaN, as SciPy's; `x` minus a constant"),
    Row("gc.special.log_softmax(x)", {"x": [INF, 0.0]}, {"x": [-1.0, 1.0]},
        f"{_SHARED}; the value is NaN and -inf, as SciPy's"),
    Row("-gc.special.log_softmax(x)[1]", {"x": [-INF, 0.0, 0.0]}, {"x": [0.0, -0.5, 0.5]},
        "cross-entropy: a masked class has gradient 0"),
    Row("-gc.special.log_softmax(x)[0]", {"x": [-INF, 0.0, 0.0]}, {"x": [-1.0, 0.5, 0.5]},
        "the loss is infinite: its limit"),
    Row("-gc.special.log_softmax(x)[1]", {"x": [INF, 0.0, 0.0]}, {"x": [1.0, -1.0, 0.0]},
        "the loss is infinite: its limit"),
    Row("np.where(np.isnan(x), 0, x ** 2)", {"x": [NAN, 2.0]}, {"x": [0.0, 4.0]},
        "what was not chosen takes no part, NaN or not"),
    Row("np.logaddexp(x, y)", {"x": -INF, "y": 0.0}, {"x": 0.0, "y": 1.0}, "as above"),
    Row("np.logaddexp(x, y)", {"x": 2.0, "y": 2.0}, {"x": 0.5, "y": 0.5}, "exact"),
    Row("np.logaddexp(x, y)", {"x": INF, "y": 0.0}, {"x": 1.0, "y": 0.0}, "exact"),
    Row("gc.special.xlogy(x, y)", {"x": 0.0, "y": 0.0}, {"x": 0.0, "y": 0.0}, _LIMIT),
    Row("gc.special.entr(x)", {"x": 0.0}, {"x": 0.0}, _LIMIT),
    Row("np.sinc(x)", {"x": 0.0}, {"x": 0.0}, "exact"),
    Row("np.sign(x)", {"x": 0.0}, {"x": 0.0}, _FLAT),
    Row("np.floor(x)", {"x": 2.0}, {"x": 0.0}, _FLAT),
    Row("np.round(x)", {"x": 0.5}, {"x": 0.0}, _FLAT),
    Row("np.heaviside(x, 0.5)", {"x": 0.0}, {"x": 0.0}, _FLAT),
    Row("np.mod(x, 2.0)", {"x": 4.0}, {"x": 1.0}, "the slope on either side of the jump"),
    Row("np.interp(x, np.array([0.0, 1, 2]), np.array([0.0, 1, 0]))", {"x": 1.0}, {"x": -1.0},
        "at a knot the slope to its right"),
    Row("np.log(x)", {"x": 0.0}, {"x": INF}, "the value is infinite too: nothing to choose"),
    Row("np.arcsin(x)", {"x": 1.0}, {"x": INF}, "infinite from the only side there is"),
]  # fmt: skip


def table() -> str:
    lines = ["| expression | at | gradient | why |", "|---|---|---|---|"]
    for row in ROWS:
        at = ", ".join(f"`{k} = {_shown(v)}`" for k, v in row.at.items())
        gives = ", ".join(f"`{_shown(v)}`" for v in row.gives.values())
        lines.append(f"| `{row.call}` | {at} | {gives} | {row.why} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:g}"


def rendered(document: str) -> str:
    """The document with the table of these rows."""
    before, _, rest = document.partition(START)
    return before + START + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(rendered(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
