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
        raise AttributeError(f"module 'graphc' has no attribute {name!r}{_meant(name)}")
    globals()[name] = value
    return value


_ELSEWHERE = {
    "jit": "gc.compile", "njit": "gc.compile(f).njit", "hessp": "gc.hvp", "Adam": "gc.optim.adam",
    "adam": "gc.optim.adam", "SGD": "gc.optim.sgd", "sgd": "gc.optim.sgd",
    "print": "gc.debug_print",
    "array": "np.array, or gc.numpy.array of traced values", "tensor": "np.array",
    "Tensor": "np.array", "debug": "gc.debug_print, or gc.inspect", "random": "np.random, outside",
    "autograd": "gc.grad", "backward": "gc.grad", "np": "gc.numpy", "pmap": "gc.vmap",
    "lax": "gc.scan, gc.while_loop, gc.cond", "fit": "gc.Trainer(loss, optimizer).fit",
    "load": "np.load", "save": "np.savez", "no_grad": "gc.stop_gradient",
}  # fmt: skip


def _meant(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, __all__, n=1, cutoff=0.7)
    meant = _ELSEWHERE.get(name) or (f"gc.{close[0]}" if close else "")
    return f"; write {meant}" if meant else ""


def __dir__():
    return sorted(__all__)
