"""W4a: the classic digit classifier."""

from bench.core import Tolerance, Workload
from bench.limits import dense
from bench.training import classifier_task, training_case


def make():
    task = classifier_task(seed=41, sizes=(784, 128, 10), batch=64, steps=64)
    return training_case(task, Tolerance(loss=1e-4, params=2e-3), extra_peers=("sklearn",))


WORKLOAD = Workload(
    "W4a",
    "MLP 784-128-10 relu, softmax-CE, batch 64, Adam, float32",
    make,
    dense((784, 128, 10), 64, "adam"),
)
