"""Writes ``docs/coverage.md`` from the cases: ``python tests/numpy_coverage/coverage_table.py``."""

from __future__ import annotations

import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "coverage.md"

_HEAD = """\
# What graphc covers of NumPy and SciPy

Written by `python tests/numpy_coverage/coverage_table.py` from the cases of
`tests/numpy_coverage/coverage_cases.py`; a test fails where this file differs from them. Every call
below is run by `tests/numpy_coverage/test_coverage.py`:

- *forward*: value, dtype and shape as NumPy has them, in each of the dtypes;
- *gradient*, *2nd*: against central differences in float64, and in float32 against float64;
  "0" where the value is constant almost everywhere, so that the derivative is zero (tested);
- *compiled*: the generated program, with its gradient, gives the interpreter's values.

`x`, `y` stand for traced arrays, in the shapes that the cases state: ordinary, broadcast, 0-d and
empty ones.
"""


def render(cases) -> str:
    """The document for ``cases``."""
    lines = [_HEAD]
    sections: dict[str, dict[str, list]] = {}
    for case in cases:
        sections.setdefault(case.section, {}).setdefault(case.function, []).append(case)
    for name, functions in sections.items():
        lines += [f"## {name}\n",
                  "| function | calls | dtypes | forward | gradient | 2nd | compiled |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        for function, rows in functions.items():
            lines.append(_row(function, rows))
        lines.append("")
    return "\n".join(lines)


def _row(function: str, rows) -> str:
    texts = dict.fromkeys(" ; ".join(r.text.splitlines()) for r in rows)
    calls = "<br>".join(f"`{t.replace('|', chr(92) + '|')}`" for t in texts)
    dtypes = " ".join(_short(d) for d in dict.fromkeys(d for r in rows for d in r.dtypes))
    flat = all(r.flat for r in rows)
    order = min((r.order for r in rows if not r.flat), default=0)
    first = "0" if flat else "yes"
    second = "0" if flat else "yes" if order > 1 else "no"
    return f"| {function} | {calls} | {dtypes} | yes | {first} | {second} | yes |"


def _short(dtype: str) -> str:
    return dtype.replace("float", "f").replace("uint", "u").replace("int", "i")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from coverage_cases import CASES

    DOCUMENT.write_text(render(CASES), encoding="utf-8")
    print(f"{DOCUMENT}: {len(CASES)} calls")
