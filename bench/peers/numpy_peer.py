"""NumPy with the gradient written by hand."""

from __future__ import annotations

from bench.core import Params, StepRunner


class NumpyStep(StepRunner):
    def __init__(self, task):
        self.task, self.batches, self.check_epochs = task, task.batches, task.check_epochs
        self.loss_and_grads, self.update = task.model.loss_and_grads, task.optimizer.update
        self.reset()

    def reset(self) -> None:
        self.weights = self.task.fresh_params()
        self.state = self.task.optimizer.init(self.weights)

    def step(self, x, y):
        loss, grads = self.loss_and_grads(self.weights, x, y)
        self.update(self.weights, grads, self.state)
        return loss

    def params(self) -> Params:
        return {name: p.copy() for name, p in self.weights.items()}
