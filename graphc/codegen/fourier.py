"""The kernel of a discrete Fourier transform, from its plan (``ir/fourier.py``)."""

from __future__ import annotations

import textwrap

from graphc.ir.fourier import Pass, plan


def dft_text(attrs: dict) -> str:
    """The body of a kernel over x, table, out, work; batch, inner."""
    n, single, inverse = attrs["n"], bool(attrs["single"]), bool(attrs["inverse"])
    made = plan(n, single)
    sign = "-" if inverse else "+"
    steps: list = [*made.first, *([made.split] if made.split else []), *made.second]
    body = []
    source = "x"
    for left, step in zip(range(len(steps), 0, -1), steps, strict=True):
        target = "y" if left % 2 else "w"
        if isinstance(step, Pass):
            body += _butterflies(step, source, target, single, sign)
        else:
            body += _transposition(*step, source, target, sign)
        source = target
    size = str(n) if single else f"{n} * inner"
    head = [f"size = {size}"]
    for radix, at in made.roots.items():
        half = radix // 2
        for j in range(half):
            head += [
                f"c{radix}_{j + 1} = table[{at + j}]",
                f"s{radix}_{j + 1} = table[{at + half + j}]",
            ]
    parts = [
        f"{v}{part} = part({name}, {offset})"
        for v, name, start in (("x", "x", "t * 2 * size"), ("y", "out", "t * 2 * size"),
                               ("w", "work", "0"))
        for part, offset in (("r", start), ("i", f"{start} + size"))
    ]  # fmt: skip
    loop = textwrap.indent("\n".join([*parts, *body]), "    ")
    return "\n".join([*head, "for t in range(batch):", loop])


def _turned(re: str, im: str, cosine: str, sine: str, sign: str) -> tuple[str, str]:
    """A number times a unit root, the conjugate one in forward direction (``sign`` +)."""
    other = "-" if sign == "+" else "+"
    return (
        f"({re}) * {cosine} {sign} ({im}) * {sine}",
        f"({im}) * {cosine} {other} ({re}) * {sine}",
    )


def _butterflies(step: Pass, source: str, target: str, single: bool, sign: str) -> list[str]:
    radix, rest = step.radix, step.rest
    span = str(step.span) if single else f"{step.span} * inner"
    twiddles = []
    if rest > 1:
        for k in range(1, radix):
            at = step.twiddles + 2 * rest * (k - 1)
            twiddles += [f"a{k} = table[{at} + p]", f"b{k} = table[{at + rest} + p]"]
    inner = ["i = q + span * p", f"o = q + span * {radix} * p"]
    for j in range(radix):
        place = f"i + span * {rest * j}" if j else "i"
        inner += [f"x{j}r = {source}r[{place}]", f"x{j}i = {source}i[{place}]"]
    lines, values = _RADIX.get(radix, _odd)(radix, sign)
    inner += lines
    for k, (re, im) in enumerate(values):
        if k and rest > 1:
            inner += [f"v{k}r = {re}", f"v{k}i = {im}"]
            re, im = _turned(f"v{k}r", f"v{k}i", f"a{k}", f"b{k}", sign)
        place = f"o + span * {k}" if k else "o"
        inner += [f"{target}r[{place}] = {re}", f"{target}i[{place}] = {im}"]
    return [
        f"span = {span}",
        f"for p in range({rest}):",
        *(f"    {line}" for line in twiddles),
        "    for q in range(span):",
        *(f"        {line}" for line in inner),
    ]


def _transposition(rows, columns, at, source: str, target: str, sign: str) -> list[str]:
    """[rows, columns] to [columns, rows] with its twiddles."""
    re, im = _turned("ur", "ui", "a", "b", sign)
    return [
        f"for p in range({columns}):",
        f"    for q in range({rows}):",
        f"        i = q * {columns} + p",
        f"        o = p * {rows} + q",
        f"        a = table[{at} + o]",
        f"        b = table[{at + rows * columns} + o]",
        f"        ur = {source}r[i]",
        f"        ui = {source}i[i]",
        f"        {target}r[o] = {re}",
        f"        {target}i[o] = {im}",
    ]


def _two(radix: int, sign: str):
    return [], [("x0r + x1r", "x0i + x1i"), ("x0r - x1r", "x0i - x1i")]


def _four(radix: int, sign: str):
    lines = []
    for part in "ri":
        lines += [
            f"t0{part} = x0{part} + x2{part}", f"t1{part} = x0{part} - x2{part}",
            f"t2{part} = x1{part} + x3{part}", f"t3{part} = x1{part} - x3{part}",
        ]  # fmt: skip
    other = "-" if sign == "+" else "+"
    return lines, [
        ("t0r + t2r", "t0i + t2i"), (f"t1r {sign} t3i", f"t1i {other} t3r"),
        ("t0r - t2r", "t0i - t2i"), (f"t1r {other} t3i", f"t1i {sign} t3r"),
    ]  # fmt: skip


def _odd(radix: int, sign: str):
    """Sums and differences of the elements k and radix - k; their weights are conjugate."""
    half, lines = radix // 2, []
    for j in range(1, half + 1):
        for part in "ri":
            a, b = f"x{j}{part}", f"x{radix - j}{part}"
            lines += [f"u{j}{part} = {a} + {b}", f"d{j}{part} = {a} - {b}"]
    total = [" + ".join([f"x0{p}", *(f"u{j}{p}" for j in range(1, half + 1))]) for p in "ri"]
    values = {0: (total[0], total[1])}
    other = "-" if sign == "+" else "+"
    for k in range(1, half + 1):
        for part in "ri":
            even, odd = f"x0{part}", ""
            for j in range(1, half + 1):
                turn = j * k % radix
                low = min(turn, radix - turn)
                even += f" + c{radix}_{low} * u{j}{part}"
                odd += f" {'+' if turn == low else '-'} s{radix}_{low} * d{j}{part}"
            odd = odd.removeprefix(" + ")
            odd = f"-{odd.removeprefix(' - ')}" if odd.startswith(" - ") else odd
            lines += [f"e{k}{part} = {even}", f"f{k}{part} = {odd}"]
        values[k] = f"e{k}r {sign} f{k}i", f"e{k}i {other} f{k}r"
        values[radix - k] = f"e{k}r {other} f{k}i", f"e{k}i {sign} f{k}r"
    return lines, [values[k] for k in range(radix)]


_RADIX = {2: _two, 4: _four}
