"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphc.optim.common import fraction, named_options, positive, update_leaves, zeros_like


@named_options
@dataclass(frozen=True)
class SGD:
    """Gradient descent, with heavy-ball momentum if ``momentum`` is not 0.

    ``velocity = momentum*velocity + gradient``, ``param -= learning_rate*velocity`` (Polyak, "Some
    methods of speeding up the convergence of iteration methods", 1964, in the scaling of
    Sutskever et al. 2013 without the learning rate inside the velocity).

    >>> import numpy as np
    >>> params, state = SGD(0.5).update({"w": np.ones(2)}, {"w": np.ones(2)}, ())
    >>> params["w"]
    array([0.5, 0.5])
    """

    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self):
        positive("sgd", "learning_rate", self.learning_rate)
        fraction("sgd", "momentum", self.momentum)

    def init(self, params: Any) -> Any:
        """The state before the first step: the velocity, ``()`` without momentum."""
        return zeros_like(params) if self.momentum else ()

    def update(self, params: Any, grads: Any, state: Any) -> tuple[Any, Any]:
        """The parameters and the state after one step; nothing is modified."""
        if not self.momentum:
            (params,) = update_leaves(lambda p, g: (p - self.learning_rate * g,), params, grads)
            return params, state

        def rule(p, g, velocity):
            velocity = self.momentum * velocity + g
            return p - self.learning_rate * velocity, velocity

        return tuple(update_leaves(rule, params, grads, state))
