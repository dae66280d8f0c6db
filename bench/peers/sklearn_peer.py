"""scikit-learn's MLPClassifier, started from the common parameters by a warm start."""

from __future__ import annotations

import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from bench.core import Outcome, Runner


class SklearnEpoch(Runner):
    """`fit` for many epochs.

    A fit validates its data once, which is no part of a step, so a run times two fits that
    differ by `calls` epochs and gives the difference.
    """

    mode = "epoch"

    def __init__(self, task):
        self.task, self.steps_per_call = task, task.steps_per_epoch
        self.labels = task.labels
        self.layers = task.model.layers
        optimizer = task.optimizer
        self.net = MLPClassifier(
            hidden_layer_sizes=task.model.sizes[1:-1],
            activation=task.model.activation,
            solver="adam",
            alpha=0.0,
            batch_size=task.batch,
            learning_rate_init=optimizer.lr,
            beta_1=optimizer.beta1,
            beta_2=optimizer.beta2,
            epsilon=optimizer.eps * (1 - optimizer.beta2) ** 0.5,  # its epsilon is Kingma's "hat"
            shuffle=False,
            max_iter=1,
            tol=0.0,
            n_iter_no_change=10**9,
            warm_start=True,
        )
        self._fit(1)  # creates the attributes that a warm start begins from

    def _fit(self, epochs: int) -> None:
        self.net.set_params(max_iter=epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.net.fit(self.task.x, self.labels)

    def reset(self) -> None:
        params = self.task.fresh_params()
        self.net.coefs_ = [params[f"W{i}"] for i in self.layers]
        self.net.intercepts_ = [params[f"b{i}"] for i in self.layers]
        self.net.loss_curve_ = []

    def check(self) -> Outcome:
        self.reset()
        self._fit(self.task.check_epochs)
        weights = {f"W{i}": w for i, w in zip(self.layers, self.net.coefs_, strict=True)}
        biases = {f"b{i}": b for i, b in zip(self.layers, self.net.intercepts_, strict=True)}
        return Outcome(np.array(self.net.loss_curve_), weights | biases)

    def run(self, calls: int) -> float:
        return self._seconds(1 + calls) - self._seconds(1)

    def _seconds(self, epochs: int) -> float:
        self.reset()
        start = time.perf_counter()
        self._fit(epochs)
        return time.perf_counter() - start
