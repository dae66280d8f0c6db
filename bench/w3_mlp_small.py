"""W3: a small network, where the cost of a call and of an operation decides."""

import numpy as np

from bench.core import Tolerance, Workload
from bench.limits import dense
from bench.models import MLP, SGD
from bench.training import Task, training_case

BATCH, STEPS = 32, 64


def make():
    rng = np.random.default_rng(3)
    model = MLP((2, 16, 16, 1), "tanh", "mse")
    x = rng.uniform(-1, 1, (BATCH * STEPS, 2))
    y = np.sin(3 * x[:, :1]) * x[:, 1:] + 0.1 * rng.normal(size=(len(x), 1))
    x, y = x.astype(np.float32), y.astype(np.float32)
    task = Task(model, SGD(0.05), model.init(rng), x, y, BATCH)
    return training_case(task, Tolerance(loss=1e-4, params=1e-4))


WORKLOAD = Workload(
    "W3",
    "MLP 2-16-16-1 tanh, MSE, batch 32, SGD, float32",
    make,
    dense((2, 16, 16, 1), BATCH, "sgd"),
)
