"""W2a in C by hand, with everything in registers: the latency of a step's own operations."""

from __future__ import annotations

import numpy as np

from bench.core import Outcome, Runner
from bench.peers.c_peer import compile_c


class LogisticByHand(Runner):
    """All steps in one call; for four samples of four features."""

    mode = "epoch"

    def __init__(self, task):
        assert task.x.shape == (4, 4)
        self.task, self.call = task, compile_c("logistic_four")

    def _steps(self, count: int) -> Outcome:
        params = self.task.fresh_params()
        rate, losses = np.float32([self.task.optimizer.lr]), np.empty(count, np.float32)
        arrays = (params["w"], params["b"], self.task.x, self.task.y, rate, losses)
        self.call(count, *(np.ascontiguousarray(a).ctypes.data for a in arrays))
        return Outcome(losses, params)

    def check(self) -> Outcome:
        return self._steps(self.task.check_epochs)

    def run(self, calls: int) -> None:
        self._steps(calls)
