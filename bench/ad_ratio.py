"""What a gradient costs: time of value and gradient over time of the value, both compiled.

    python -m bench.ad_ratio [--quick] [--out FILE]

Theory allows up to 5 (Griewank and Walther, Evaluating Derivatives, 2008, section 4.6: 4 for the
operations, and memory traffic); the project's aims are in the table. JAX's own ratio stands
beside. Gradients are compared with JAX's before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.environment import describe, pin_to_one_thread


@dataclass(frozen=True)
class Program:
    """`loss(ops)(params, *data)` in a NumPy-like namespace; `make(rng)` gives its arguments."""

    name: str
    aim: float
    loss: Callable
    make: Callable


# ---- the programs -------------------------------------------------------------------------------


def logsumexp(np, z, axis):
    top = np.max(z, axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.sum(np.exp(z - top), axis=axis))


def mixture_loss(ops) -> Callable:
    """Log-likelihood with full covariances, given by their inverse Cholesky factors (the GMM of
    ADBench, Srajer, Kukelova, Fitzgibbon 2018, without its prior)."""
    np = ops.np

    def loss(params, x):
        logits, means, log_diagonal, lower = (params[k] for k in ("a", "m", "q", "l"))
        d = means.shape[1]
        factor = np.tril(lower, -1) + np.exp(log_diagonal)[:, :, None] * np.eye(d)
        centred = x[None] - means[:, None]  # [k, n, d]
        scaled = centred @ np.swapaxes(factor, 1, 2)
        each = -0.5 * np.sum(scaled * scaled, axis=2)
        each = each + (logits + np.sum(log_diagonal, axis=1))[:, None]
        return np.sum(logsumexp(np, each, 0)) - len(x) * logsumexp(np, logits, 0)

    return loss


def mixture_data(rng, d=64, k=100, n=1000):
    params = {
        "a": rng.normal(size=k), "m": rng.normal(size=(k, d)),
        "q": 0.1 * rng.normal(size=(k, d)), "l": 0.1 * rng.normal(size=(k, d, d)),
    }  # fmt: skip
    return params, rng.normal(size=(n, d))


def lstm_loss(ops) -> Callable:
    from bench.w6_lstm import LSTM

    return LSTM(64, 128, 64).make_loss(ops)


def lstm_data(rng):
    import numpy as np

    from bench.w6_lstm import BATCH, LSTM, TIME

    model = LSTM(64, 128, 64)
    x = rng.normal(size=(BATCH, TIME, 64)).astype(np.float32)
    y = np.eye(64, dtype=np.float32)[rng.integers(0, 64, (BATCH, TIME))]
    return model.init(rng), x, y


def squares_loss(ops) -> Callable:
    def loss(w, a, b):
        r = a @ w - b
        return 0.5 * ops.np.sum(r * r)

    return loss


PROGRAMS = (
    Program("Gaussian mixture, d 64, K 100, n 1000, float64", 3, mixture_loss, mixture_data),
    Program("LSTM 64 -> 128, T 50, batch 16, float32", 3, lstm_loss, lstm_data),
    Program(
        "log-sum-exp of 100,000, float64", 2,
        lambda ops: lambda x: logsumexp(ops.np, x, 0), lambda rng: (rng.normal(size=100_000),),
    ),
    Program(
        "least squares 2000 x 100, float64", 2, squares_loss,
        lambda rng: (rng.normal(size=100), rng.normal(size=(2000, 100)), rng.normal(size=2000)),
    ),
)  # fmt: skip


# ---- measuring ----------------------------------------------------------------------------------


@dataclass
class Row:
    program: str
    aim: float
    us_value: float
    us_gradient: float
    ratio: float
    jax_ratio: float | None
    us_gradient_jax: float | None
    gradient_error: float | None


def measure(program: Program, seconds: float) -> Row:
    import numpy as np

    import graphc as gc
    from bench.peers.graphc_peer import OPS

    args = program.make(np.random.default_rng(0))
    loss = program.loss(OPS)
    calls = {"value": gc.compile(loss), "gradient": gc.value_and_grad(loss)}
    timed = {name: (lambda f=f: f(*args)) for name, f in calls.items()}
    error = None
    try:
        peer, truth = jax_calls(program, args)
    except ImportError:
        pass
    else:
        error = largest_error(calls["gradient"](*args)[1], truth)
        if not error < (1e-3 if args[-1].dtype == np.float32 else 1e-8):
            raise ValueError(f"{program.name}: the gradient is off by {error:.1e}")
        timed |= peer
    us = in_turn(timed, seconds)
    has_jax = "jax gradient" in us
    return Row(
        program.name, program.aim, us["value"], us["gradient"], us["gradient"] / us["value"],
        us["jax gradient"] / us["jax value"] if has_jax else None,
        us.get("jax gradient"), error,
    )  # fmt: skip


def jax_calls(program: Program, args):
    """JAX's two functions and its gradient, in the dtypes of the arguments."""
    import jax
    import numpy as np

    from bench.peers.jax_peer import OPS

    loss = program.loss(OPS)
    with jax.enable_x64(True):
        truth = jax.tree.map(np.asarray, jax.grad(loss)(*args))
        on_device = jax.tree.map(jax.numpy.asarray, args)
        value, gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))

    def within(f):
        def call():
            with jax.enable_x64(True):
                jax.block_until_ready(f(*on_device))

        return call

    return {"jax value": within(value), "jax gradient": within(gradient)}, truth


def largest_error(found, truth) -> float:
    """Largest relative error (in norm) of a leaf."""
    import numpy as np

    if not isinstance(truth, dict):
        found, truth = {"": found}, {"": truth}
    return max(
        float(np.linalg.norm(np.ravel(found[k] - truth[k])) / np.linalg.norm(np.ravel(truth[k])))
        for k in truth
    )


def in_turn(calls: dict[str, Callable], seconds: float, rounds: int = 35) -> dict[str, float]:
    """Median microseconds a call, A B C, A B C, ..., in many short turns: the speed of a shared
    machine changes within a second, and long turns would compare one speed with another."""
    counts = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        counts[name] = max(1, round(7 * seconds / rounds / (time.perf_counter() - start)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds if max(counts.values()) > 1 else 9):  # slow ones are long turns anyway
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            found[name].append((time.perf_counter() - start) / counts[name] * 1e6)
    return {name: statistics.median(times) for name, times in found.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ad_ratio", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args(arguments)
    pin_to_one_thread(None)
    rows = [measure(program, 0.02 if options.quick else 0.2) for program in PROGRAMS]
    print("| program | value, us | value and gradient, us | ratio | aim | JAX's ratio |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in rows:
        jax = f"{row.jax_ratio:.2f}" if row.jax_ratio else ""
        print(
            f"| {row.program} | {row.us_value:.0f} | {row.us_gradient:.0f} | {row.ratio:.2f} | "
            f"{row.aim} | {jax} |"
        )
    if options.out:
        meta = describe()
        options.out.write_text(json.dumps({"meta": meta, "rows": [*map(asdict, rows)]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
