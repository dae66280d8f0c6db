"""Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphc.optim.common import fraction, named_options, positive, update_leaves, zeros_like


class AdamState(NamedTuple):
    """Steps taken (int64 scalar) and the two moving averages, trees like the parameters."""

    step: Any
    mean: Any
    square: Any


@named_options
@dataclass(frozen=True)
class Adam:
    """Adam, algorithm 1 of Kingma and Ba, "Adam: a method for stochastic optimization" (2015).

    The bias corrections are folded into two scalars a step, as at the end of their section 2,
    with ``eps`` scaled so that the result is that of algorithm 1: an element costs one square
    root and one division.

    >>> import numpy as np
    >>> adam = Adam(learning_rate=0.1)
    >>> params = {"w": np.ones(2, np.float32)}
    >>> params, state = adam.update(params, {"w": np.float32([3, -4])}, adam.init(params))
    >>> params["w"]
    array([0.9, 1.1], dtype=float32)
    """

    learning_rate: float = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self):
        positive("adam", "learning_rate", self.learning_rate)
        fraction("adam", "b1", self.b1)
        fraction("adam", "b2", self.b2)
        positive("adam", "eps", self.eps)

    def init(self, params: Any) -> AdamState:
        """The state before the first step."""
        return AdamState(np.zeros((), np.int64), zeros_like(params), zeros_like(params))

    def update(self, params: Any, grads: Any, state: AdamState) -> tuple[Any, AdamState]:
        """The parameters and the state after one step; nothing is modified."""
        step = state.step + 1
        root = np.sqrt(1 - self.b2**step)
        rate = self.learning_rate * root / (1 - self.b1**step)
        eps = self.eps * root

        def rule(p, g, mean, square):
            mean = self.b1 * mean + (1 - self.b1) * g
            square = self.b2 * square + (1 - self.b2) * (g * g)
            # The scalars are float64; cast, they do not widen float32 parameters.
            move = rate.astype(mean.dtype) * mean / (np.sqrt(square) + eps.astype(mean.dtype))
            return p - move, mean, square

        params, mean, square = update_leaves(rule, params, grads, state.mean, state.square)
        return params, AdamState(step, mean, square)
