"""Seconds until the first result of a training step: ``python -m bench.compile``.

In fresh processes. Cold: the library's own cache is empty. Warm: a process before has filled it.
The clock runs from the start of the process, through imports and tracing, to the first loss;
making the data is taken out. Bytecode of all modules exists, as after an installation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
LAYERS = (50, 100, 200, 400)


@dataclass(frozen=True)
class Program:
    """A workload's module, and graphc's aims in seconds: first call cold, process warm."""

    module: str
    cold: float
    warm: float


PROGRAMS = {
    "W3": Program("w3_mlp_small", 1.0, 0.25),
    "W4a": Program("w4a_mlp_mnist", 1.5, 0.25),
    "W5": Program("w5_lenet", 3.0, 0.4),
    "W7": Program("w7_gpt", 6.0, 0.6),
}
PEERS = {
    "graphc": ("graphc_peer", "GraphcStep"),
    "jax": ("jax_peer", "JaxStep"),
    "torch-compile": ("torch_peer", "TorchCompiledStep"),
}
IMPORT_AIM = 0.15


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.child:
        print(json.dumps(child(*options.child)))
        return 0
    rows: list[dict] = []
    if not options.growth_only:
        rows += imports(options.rounds)
        for name in options.workloads or PROGRAMS:
            rows += map(report, first_results(name, options.peers.split(","), options.rounds))
    if options.growth or options.growth_only:
        for kind in ("identical", "distinct"):
            rows += [report(growth(kind, n)) for n in options.layers]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "compile.json").write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row.get("error") for row in rows))


def parse(arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compile", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", choices=[*PROGRAMS, []], help="all if none is named"
    )
    parser.add_argument("--peers", default="graphc,jax", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=5, help="processes, of which the median")
    parser.add_argument("--growth", action="store_true", help="also networks of many layers")
    parser.add_argument("--growth-only", action="store_true")
    parser.add_argument("--layers", type=int, nargs="+", default=LAYERS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def report(row: dict) -> dict:
    aims = {k: row[f"{k}_aim"] for k in ("cold", "warm") if f"{k}_aim" in row}
    cells = [
        f"{k} {v:.3f}" + (f" (aim {aims[k]})" if k in aims else "") if isinstance(v, float)
        else f"{k} {v}"
        for k, v in row.items() if not k.endswith("_aim")
    ]  # fmt: skip
    print("  ".join(cells), flush=True)
    return row


# -------------------------------------------------------------------------------- fresh processes


def environment(cache: str) -> dict[str, str]:
    """Every library's own cache in ``cache``; bytecode is written, as an installation does."""
    dropped = ("GRAPHC_", "JAX_", "PYTHONDONTWRITEBYTECODE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return env | {
        "GRAPHC_CACHE_DIR": f"{cache}/graphc", "JAX_COMPILATION_CACHE_DIR": f"{cache}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torch", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def run(cache: str, *words: str) -> dict:
    """What a child says, with the seconds from its start to its first result."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "bench.compile", "--child", *words, repr(started)],
        env=environment(cache), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"exit {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def first_results(name: str, peers: list[str], rounds: int) -> list[dict]:
    """Cold and warm medians of each peer; they take turns, as the machine's speed changes."""
    pairs: dict[str, list[tuple[dict, dict]]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            pairs[peer].append(cold_and_warm(name, peer))
    rows = []
    for peer, found in pairs.items():
        row: dict = {"workload": name, "peer": peer}
        errors = [{"error": r["error"]} for pair in found for r in pair if "error" in r]
        if errors:
            rows.append(row | errors[0])
            continue
        row |= {
            "cold": statistics.median(cold["call"] for cold, _ in found),
            "cold_process": statistics.median(cold["seconds"] for cold, _ in found),
            "warm": statistics.median(warm["seconds"] for _, warm in found),
        }
        if peer == "graphc":
            row |= {"cold_aim": PROGRAMS[name].cold, "warm_aim": PROGRAMS[name].warm}
        rows.append(row)
    return rows


def cold_and_warm(name: str, peer: str) -> tuple[dict, dict]:
    """What a process with empty caches says, and the one after it."""
    with tempfile.TemporaryDirectory() as cache:
        Path(cache, "graphc").mkdir(mode=0o700)
        cold, warm = (run(cache, "first", name, peer) for _ in range(2))
    if peer == "graphc" and warm.get("compilers"):
        warm = {"error": f"the warm process imported {warm['compilers']}"}
    return cold, warm


def imports(rounds: int) -> list[dict]:
    """Seconds of ``import``, the interpreter's own start taken out."""
    programs = {
        "import numpy": "import numpy", "import graphc": "import graphc",
        "import graphc, use it": "import graphc; graphc.compile, graphc.grad, graphc.optim",
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ["", *programs]}
    for _ in range(rounds + 1):  # the first writes bytecode
        for name in seconds:
            started = time.monotonic()
            code = programs.get(name, "pass")
            subprocess.run([sys.executable, "-c", code], env=environment("."), check=True)
            seconds[name].append(time.monotonic() - started)
    plain = statistics.median(seconds.pop("")[1:])
    rows = [{"what": n, "warm": statistics.median(s[1:]) - plain} for n, s in seconds.items()]
    for row in rows[1:]:
        row["warm_aim"] = IMPORT_AIM
    return [report(row) for row in rows]


def growth(kind: str, layers: int) -> dict:
    with tempfile.TemporaryDirectory() as cache:
        return {"what": f"{layers} {kind} layers"} | run(cache, "growth", kind, str(layers))


# --------------------------------------------------------------------------------- in the child


def child(what: str, *words: str) -> dict:
    *words, started = words
    return (first if what == "first" else grow)(*words, float(started))


def first(name: str, peer: str, started: float) -> dict:
    import importlib

    workload = importlib.import_module(f"bench.{PROGRAMS[name].module}")
    workload.training_case = lambda task, *_, **__: task  # the data alone: no reference, no peers
    before = time.monotonic()
    task = workload.make()
    data = time.monotonic() - before
    module, runner_class = PEERS[peer]
    runner = getattr(importlib.import_module(f"bench.peers.{module}"), runner_class)(task)
    before = time.monotonic()
    loss = float(runner.step(*runner.batches[0]))
    runner.sync()
    now = time.monotonic()
    assert loss == loss
    compilers = [m for m in ("numba", "sympy", "graphc.codegen.native") if m in sys.modules]
    return {"seconds": now - started - data, "call": now - before, "compilers": compilers}


def grow(kind: str, layers: str, started: float) -> dict:
    """Value and gradient of a deep network: the first call, and how many kernels it has."""
    import numpy as np

    import graphc as gc

    curves = (np.tanh, np.sin, lambda z: np.exp(-z * z), lambda z: np.maximum(z, 0))
    order = np.random.default_rng(1).integers(0, 4, int(layers))  # of no period: there is no loop

    def loss(params, x):
        for k, (w, b) in enumerate(params):
            z = x @ w + b
            x = np.tanh(z) if kind == "identical" else curves[order[k]](z * (1 + 0.001 * k))
        return np.mean(x * x)

    rng = np.random.default_rng(0)
    params = [(0.3 * rng.normal(size=(8, 8)), np.zeros(8)) for _ in range(int(layers))]
    x = rng.normal(size=(16, 8))
    f = gc.value_and_grad(loss)
    value_and_grad_of_one = gc.value_and_grad(lambda p, x: np.mean(np.tanh(x @ p)))
    value_and_grad_of_one(params[0][0], x)  # imports the compiler
    before = time.monotonic()
    f(params, x)
    call = time.monotonic() - before
    before = time.monotonic()
    traced = f.graph(params, x)
    return {
        "cold": call, "of which tracing": time.monotonic() - before,
        "nodes": len(traced.order), "kernels": f.compiles[0].kernels,
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
