"""graphc: a compiled step called from Python, Trainer.fit, and the interpreter of its graphs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import graphc as gc
from bench.core import Outcome, Params, Runner, StepRunner
from bench.models import NUMPY

OPS = replace(
    NUMPY,
    derivative=gc.elementwise_grad,
    scan=gc.scan,
    conv2d=gc.nn.conv2d,
    pool2=lambda x: gc.nn.max_pool2d(x, 2),
)


def make_optimizer(optimizer):
    if optimizer.kind == "sgd":
        return gc.optim.sgd(optimizer.lr)
    return gc.optim.adam(optimizer.lr)


class GraphcInterpreter(StepRunner):
    """value_and_grad evaluated by graphc's NumPy interpreter; the update is plain NumPy."""

    def __init__(self, task):
        self.task, self.batches, self.check_epochs = task, task.batches, task.check_epochs
        self.loss = task.model.make_loss(OPS)
        self.optimizer = make_optimizer(task.optimizer)
        self.call = self.make_call()
        self.reset()

    def make_call(self):
        value_and_grad = gc.interpret(gc.value_and_grad(self.loss))

        def step(params, state, x, y):
            value, grads = value_and_grad(params, x, y)
            params, state = self.optimizer.update(params, grads, state)
            return params, state, value

        return step

    def reset(self) -> None:
        self.weights = self.task.fresh_params()
        self.state = self.optimizer.init(self.weights)

    def step(self, x, y):
        self.weights, self.state, loss = self.call(self.weights, self.state, x, y)
        return loss

    def params(self) -> Params:
        return {name: np.array(p) for name, p in self.weights.items()}


class GraphcStep(GraphcInterpreter):
    """The whole step compiled, parameters and optimiser state updated in place."""

    def make_call(self):
        value_and_grad, optimizer = gc.value_and_grad(self.loss), self.optimizer

        def step(params, state, x, y):
            value, grads = value_and_grad(params, x, y)
            params, state = optimizer.update(params, grads, state)
            return params, state, value

        return gc.compile(step, donate=(0, 1))


class GraphcEpoch(Runner):
    """Trainer.fit: all epochs in one native call. The same Trainer fits again and again, as its
    users' do, and whole calls are timed."""

    mode = "epoch"

    def __init__(self, task):
        self.task, self.steps_per_call = task, task.steps_per_epoch
        loss = task.model.make_loss(OPS)
        self.trainer = gc.Trainer(loss, make_optimizer(task.optimizer))

    def _fit(self, epochs: int):
        return self.trainer.fit(
            self.task.params,
            (self.task.x, self.task.y),
            epochs=epochs,
            batch_size=self.task.batch,
            shuffle=False,
            progress=False,
        )

    def check(self) -> Outcome:
        result = self._fit(self.task.check_epochs)
        params = {name: np.array(p) for name, p in result.params.items()}
        return Outcome(np.array(result.history.loss), params)

    def run(self, calls: int) -> None:
        history = self._fit(calls).history
        self.seconds_inside = history.us_per_step * 1e-6 * history.steps
