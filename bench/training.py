"""A training workload: model, data, optimiser, and the float64 run that all peers must match."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.core import Case, Params, Reference, Tolerance
from bench.models import MLP, SGD, Adam, Logistic, Model
from bench.peers import training_peers


@dataclass(frozen=True)
class Task:
    """`y` is what the loss takes (one-hot rows for softmax-ce).

    An epoch walks over all samples; its last batch has what is left.
    """

    model: Model
    optimizer: SGD | Adam
    params: Params
    x: np.ndarray
    y: np.ndarray
    batch: int
    check_epochs: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.x) // self.batch)

    @property
    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        starts = range(0, len(self.x), self.batch)
        return [(self.x[i : i + self.batch], self.y[i : i + self.batch]) for i in starts]

    @property
    def labels(self) -> np.ndarray:
        """Class numbers, for the peers whose users pass those and not one-hot rows."""
        return self.y.argmax(axis=-1)

    def fresh_params(self) -> Params:
        return {name: p.copy() for name, p in self.params.items()}


def training_case(task: Task, tolerance: Tolerance, extra_peers: tuple[str, ...] = ()) -> Case:
    return Case(reference_run(task), tolerance, training_peers(task, extra_peers))


def reference_run(task: Task) -> Reference:
    """The check steps in float64 and plain NumPy."""
    start = {name: p.astype(np.float64) for name, p in task.params.items()}
    params = {name: p.copy() for name, p in start.items()}
    state = task.optimizer.init(params)
    losses = np.empty((task.check_epochs, task.steps_per_epoch))
    for epoch in range(task.check_epochs):
        for i, (x, y) in enumerate(task.batches):
            x, y = _double(x), _double(y)
            losses[epoch, i], grads = task.model.loss_and_grads(params, x, y)
            task.optimizer.update(params, grads, state)
    sizes = np.array([len(x) for x, _ in task.batches])
    return Reference(losses, start, params, sizes)


def _double(array: np.ndarray) -> np.ndarray:
    """Numbers in double precision; labels and token numbers as they are."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def classification_data(rng: np.random.Generator, n: int, features: int, classes: int):
    """Noisy class prototypes; a fifth of the labels is random, so the loss stays away from zero."""
    labels = rng.integers(0, classes, n)
    prototypes = rng.normal(0, 1, (classes, features))
    x = 0.3 * prototypes[labels] + rng.normal(0, 1, (n, features))
    labels = np.where(rng.random(n) < 0.2, rng.integers(0, classes, n), labels)
    return x.astype(np.float32), np.eye(classes, dtype=np.float32)[labels]


def logistic_task(seed: int, n: int, features: int, lr: float, check_epochs: int) -> Task:
    """Full-batch gradient descent: an epoch is one step."""
    rng = np.random.default_rng(seed)
    model = Logistic(features)
    x = rng.normal(0, 1, (n, features)).astype(np.float32)
    noise = rng.logistic(0, 1, n)
    y = (x @ rng.normal(0, 1, features) + noise > 0).astype(np.float32)
    return Task(model, SGD(lr), model.init(rng), x, y, batch=n, check_epochs=check_epochs)


def classifier_task(seed: int, sizes: tuple[int, ...], batch: int, steps: int) -> Task:
    """A relu classifier trained by Adam, `steps` distinct minibatches an epoch."""
    rng = np.random.default_rng(seed)
    model = MLP(sizes, "relu", "softmax-ce")
    x, y = classification_data(rng, batch * steps, sizes[0], sizes[-1])
    return Task(model, Adam(1e-3), model.init(rng), x, y, batch)
