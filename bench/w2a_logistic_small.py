"""W2a: logistic regression on four points: one chain of operations that wait for each other."""

from bench.core import Tolerance, Workload
from bench.training import logistic_task, training_case


def make():
    task = logistic_task(seed=21, n=4, features=4, lr=0.1, check_epochs=32)
    return training_case(task, Tolerance(loss=1e-5, params=1e-5), extra_peers=("c-by-hand",))


WORKLOAD = Workload("W2a", "logistic regression n=4 d=4, full-batch GD, float32", make)
