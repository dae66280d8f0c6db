"""Find the workloads: every file of this folder named like `w3_mlp_small.py` holds one.

The number gives the order, the `WORKLOAD` in the file its name.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

from bench.core import Workload

WORKLOAD_FILE = re.compile(r"w(\d+)([a-z]?)_\w+$")


def discover() -> dict[str, Workload]:
    """Workloads by name, in the order of their numbers."""
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    files = sorted((m for m in map(WORKLOAD_FILE.match, names) if m), key=_order)
    found = [importlib.import_module(f"bench.{m.group(0)}").WORKLOAD for m in files]
    return {workload.name: workload for workload in found}


def _order(match: re.Match) -> tuple[int, str]:
    return int(match.group(1)), match.group(2)
