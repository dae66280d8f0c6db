"""Pin the process to one thread, and describe it. Nothing here imports NumPy.

Thread counts are read by the numerical libraries when they are loaded, so `pin_to_one_thread`
must run before the first of them is imported.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
import time

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
DISTRIBUTIONS = (
    "graphc", "numpy", "numba", "llvmlite", "scipy", "autograd", "jax", "jaxlib", "torch",
    "scikit-learn", "pytensor", "casadi",
)  # fmt: skip


def pin_to_one_thread(core: int | None = None) -> None:
    """Ask every library for one thread, and keep the process on one core where that can be set."""
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAGS}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {_idlest_core() if core is None else core})


def _idlest_core() -> int:
    """The allowed core that was idle the most over a tenth of a second."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        return allowed[0]
    before = _idle_ticks()
    time.sleep(0.1)
    after = _idle_ticks()
    return max(allowed, key=lambda core: after.get(core, 0) - before.get(core, 0))


def _idle_ticks() -> dict[int, int]:
    try:
        with open("/proc/stat") as stat:
            rows = [line.split() for line in stat if line.startswith("cpu")]
    except OSError:
        return {}
    return {int(row[0][3:]): int(row[4]) for row in rows if row[0] != "cpu"}


def describe() -> dict:
    """What a reader of the results must know about this run; no host name."""
    return {
        "processor": processor_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            loaded = sys.modules.get(name)
            if loaded is not None:
                found[name] = str(getattr(loaded, "__version__", "source tree"))
    return found
