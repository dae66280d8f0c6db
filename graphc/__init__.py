"""graphc: trace, differentiate, fuse and compile plain NumPy functions for the CPU."""

from __future__ import annotations

__version__ = "0.1.0"

_LAZY = {
    "compile": "api", "debug_print": "api", "interpret": "api",
    "stop_gradient": "api",
    "grad": "transforms", "value_and_grad": "transforms", "jvp": "transforms",
    "vjp": "transforms", "hvp": "transforms", "elementwise_grad": "transforms",
    "hessian": "transforms", "jacfwd": "transforms", "jacobian": "transforms",
    "jacrev": "transforms", "vmap": "transforms", "check_grads": "check",
    "custom_vjp": "ad.custom", "checkpoint": "ad.checkpoint",
    "cond": "control", "fori_loop": "control", "map": "control", "scan": "control",
    "while_loop": "control", "elementwise": "symbolic.operation",
    "StopTraining": "train", "Trainer": "train", "inspect": "report",
}  # fmt: skip
_MODULES = (
    "data", "errors", "linalg", "nn", "numpy", "optim", "special", "symbolic", "train", "report",
)  # fmt: skip

__all__ = [*_LAZY, *_MODULES, "__version__"]


def __getattr__(name: str):
    """Names load when first used: `import graphc` costs next to nothing."""
    import importlib

    if name in _LAZY:
        value = getattr(importlib.import_module(f"graphc.{_LAZY[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"graphc.{name}")
    else:
        raise AttributeError(f"module 'graphc' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
