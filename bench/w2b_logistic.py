"""W2b: logistic regression, bound by memory and by the exponential."""

from bench.core import Tolerance, Workload
from bench.limits import Work
from bench.training import logistic_task, training_case


def make():
    task = logistic_task(seed=22, n=10_000, features=30, lr=0.1, check_epochs=32)
    return training_case(task, Tolerance(loss=1e-5, params=1e-4))


WORKLOAD = Workload(
    "W2b",
    "logistic regression n=10000 d=30, full-batch GD, float32",
    make,
    Work(4 * 30e4, 4 * 31e4),
)
