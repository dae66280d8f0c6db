"""digits: the network of the demo (examples/digits.py) on the data of the demo."""

import runpy
from pathlib import Path

import numpy as np

from bench.core import Tolerance, Workload
from bench.limits import dense
from bench.models import MLP, Adam
from bench.training import Task, training_case

SIZES, BATCH = (64, 128, 10), 32
DEMO = Path(__file__).parent.parent / "examples" / "digits.py"


def make():
    demo = runpy.run_path(str(DEMO))
    (x, labels), _ = demo["load"]()
    params = demo["init"](np.random.default_rng(0), SIZES)
    model = MLP(SIZES, "relu", "softmax-ce")
    y = np.eye(SIZES[-1], dtype=np.float32)[labels]
    task = Task(model, Adam(1e-3), params, x, y, BATCH)
    return training_case(task, Tolerance(loss=1e-4, params=1e-3), extra_peers=("sklearn",))


WORKLOAD = Workload(
    "digits",
    "MLP 64-128-10 relu, softmax-CE, batch 32, Adam, float32",
    make,
    dense(SIZES, BATCH, "adam"),
)
