"""A compiled program that can travel: object code and what is needed to call it."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from graphc.ir import dims as _dims
from graphc.ir import faults
from graphc.ir.types import TensorType, parse_type
from graphc.schedule.memory import Lifetime

_MAGIC = b"graphc artifact 3\n"
_PLACE = re.compile(r"\{(value|wrapped|size)(?: ([^{}]*))?\}")


@dataclass(frozen=True)
class Output:
    """Type of an output, and the input whose memory it takes over (None: its own)."""

    type: TensorType
    donor: int | None


@dataclass(frozen=True)
class Artifact:
    """``object_code`` exports ``graphc_main(args**, arena*, ints*)``.

    args: inputs, outputs without a donor, constants. ints: two status words (number of the
    failed check and the offending value), the dims of ``symbols``, the offset of each temporary,
    words for a team of threads and for what looks for signals.
    """

    name: str
    inputs: tuple[tuple[str, TensorType], ...]
    outputs: tuple[Output, ...]
    symbols: tuple[str, ...]
    temps: tuple[Lifetime, ...]
    checks: tuple[str, ...]
    consts: tuple[np.ndarray, ...]
    object_code: bytes
    source: str
    compile_seconds: float = 0.0
    facts: dict = field(default_factory=dict)  # kernel count and the like, for reports
    tapes: tuple[tuple[str, str], ...] = ()  # symbols that no input binds, and whose they are

    @property
    def sizes(self) -> tuple[str, ...]:
        """The symbols that inputs bind."""
        return self.symbols[: len(self.symbols) - len(self.tapes)]

    def failure(self, check: int, value: int, env: Mapping[str, int]) -> Exception:
        """The error of run-time check number ``check`` (from 1) that met ``value``: IndexError,
        or what its text begins with.

        Places in its text: ``{value}``; ``{wrapped n}``, a negative index that was counted from
        the end of an axis of size n; ``{size n}``.
        """

        def fill(match: re.Match) -> str:
            kind, dim = match.groups()
            if kind == "value":
                return str(value)
            size = _dims.evaluate(_dims.parse(dim), env)
            return str(size if kind == "size" else value - size if value < 0 else value)

        text = _PLACE.sub(fill, self.checks[check - 1])
        return faults.error(text) or IndexError(text)

    def to_bytes(self, address: str = "") -> bytes:
        """``address`` goes into the checksum: an entry under another's name is not accepted."""
        head = {
            "name": self.name,
            "inputs": [(n, str(t)) for n, t in self.inputs],
            "outputs": [(str(o.type), o.donor) for o in self.outputs],
            "symbols": self.symbols,
            "temps": [(str(t.nbytes), t.first, t.last) for t in self.temps],
            "checks": self.checks,
            "compile_seconds": self.compile_seconds,
            "facts": self.facts,
            "tapes": self.tapes,
        }
        packed = io.BytesIO()
        np.savez(packed, **{f"c{i}": c for i, c in enumerate(self.consts)})
        parts = [
            json.dumps(head).encode(), packed.getvalue(), self.object_code, self.source.encode()
        ]  # fmt: skip
        sizes = json.dumps([len(p) for p in parts]).encode() + b"\n"
        body = sizes + b"".join(parts)
        return _MAGIC + _checksum(address, body) + b"\n" + body


def _checksum(address: str, body: bytes) -> bytes:
    return hashlib.sha256(address.encode() + b"\n" + body).hexdigest().encode()


def from_bytes(data: bytes, address: str = "") -> Artifact:
    """Inverse of :meth:`Artifact.to_bytes`; ValueError for anything damaged or foreign."""
    if not data.startswith(_MAGIC):
        raise ValueError("not a graphc artifact")
    digest, body = data[len(_MAGIC) : len(_MAGIC) + 64], data[len(_MAGIC) + 65 :]
    if _checksum(address, body) != digest:
        raise ValueError("checksum does not match")
    sizes, _, rest = body.partition(b"\n")
    parts = []
    for size in json.loads(sizes):
        parts.append(rest[:size])
        rest = rest[size:]
    head = json.loads(parts[0])
    packed = np.load(io.BytesIO(parts[1]), allow_pickle=False)
    return Artifact(
        head["name"],
        tuple((n, parse_type(t)) for n, t in head["inputs"]),
        tuple(Output(parse_type(t), d) for t, d in head["outputs"]),
        tuple(head["symbols"]),
        tuple(Lifetime(_dims.parse(s), first, last) for s, first, last in head["temps"]),
        tuple(head["checks"]),
        tuple(packed[f"c{i}"] for i in range(len(packed.files))),
        parts[2],
        parts[3].decode(),
        head["compile_seconds"],
        head["facts"],
        tuple((symbol, label) for symbol, label in head["tapes"]),
    )


__all__ = ["Artifact", "Output", "from_bytes"]
