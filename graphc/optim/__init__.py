"""Optimisers: ``init(params) -> state`` and ``update(params, grads, state) -> (params, state)``."""

from __future__ import annotations

from graphc import errors
from graphc.optim.adam import Adam, AdamState
from graphc.optim.sgd import SGD

sgd = SGD
adam = Adam

_BY_NAME = {"sgd": SGD, "adam": Adam}


def get(name: str) -> type:
    """The optimiser class called ``name``; raises UnknownNameError for others.

    >>> get("adam")(learning_rate=1e-2).learning_rate
    0.01
    """
    if name not in _BY_NAME:
        raise errors.unknown_name("optimizer", name, _BY_NAME)
    return _BY_NAME[name]


__all__ = ["SGD", "Adam", "AdamState", "adam", "get", "sgd"]


def __getattr__(name: str):
    raise errors.no_attribute(__name__, name, f"available: {', '.join(_BY_NAME)}")


def __dir__() -> list[str]:
    return __all__
