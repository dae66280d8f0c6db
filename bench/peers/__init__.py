"""One module a library, each with the builders of its training runners.

A module is imported only when one of its peers is built: ImportError then means "not installed".
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from bench.core import Runner

TRAINING = {
    "graphc-epoch": ("graphc_peer", "GraphcEpoch"),
    "graphc-step": ("graphc_peer", "GraphcStep"),
    "graphc-interp": ("graphc_peer", "GraphcInterpreter"),
    "numpy": ("numpy_peer", "NumpyStep"),
    "autograd": ("autograd_peer", "AutogradStep"),
    "jax-epoch": ("jax_peer", "JaxEpoch"),
    "jax-step": ("jax_peer", "JaxStep"),
    "torch": ("torch_peer", "TorchStep"),
    "torch-compile": ("torch_peer", "TorchCompiledStep"),
}
EXTRA = {
    "sklearn": ("sklearn_peer", "SklearnEpoch"),
    "c-by-hand": ("logistic_peer", "LogisticByHand"),
}
ONLY_ON_REQUEST = ("torch-compile",)  # slow to compile


def training_peers(task, extra: tuple[str, ...] = ()) -> dict[str, Callable[[], Runner]]:
    """Builders of every peer that can train `task`, by name."""
    known = TRAINING | {name: EXTRA[name] for name in extra}
    return {name: _builder(module, cls, task) for name, (module, cls) in known.items()}


def _builder(module: str, cls: str, task) -> Callable[[], Runner]:
    def build() -> Runner:
        return getattr(importlib.import_module(f"bench.peers.{module}"), cls)(task)

    return build
