"""W4b: wide layers, where matrix products decide."""

from bench.core import Tolerance, Workload
from bench.limits import dense
from bench.training import classifier_task, training_case


def make():
    task = classifier_task(seed=42, sizes=(784, 512, 512, 10), batch=128, steps=16)
    return training_case(task, Tolerance(loss=1e-4, params=2e-3))


WORKLOAD = Workload(
    "W4b",
    "MLP 784-512-512-10 relu, softmax-CE, batch 128, Adam, float32",
    make,
    dense((784, 512, 512, 10), 128, "adam"),
)
