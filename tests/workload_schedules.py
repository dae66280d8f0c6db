"""The schedules of the benchmark's workloads, without data that matters and without compiling."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from unittest import mock

import numpy as np

import graphc as gc
from graphc import passes
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.schedule import schedule
from graphc.schedule.describe import bytes_moved
from graphc.schedule.loops import Schedule, leaves
from graphc.train.step import StepTypes, TracedStep

_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in sys.path:  # `bench` lies beside graphc and is not installed
    sys.path.insert(0, _ROOT)

TRAINED = {
    "digits": "w0_digits", "W2a": "w2a_logistic_small", "W2b": "w2b_logistic",
    "W3": "w3_mlp_small", "W4a": "w4a_mlp_mnist", "W4b": "w4b_mlp_wide", "W5": "w5_lenet",
    "W6": "w6_lstm", "W7": "w7_gpt", "W9": "w9_pinn",
}  # fmt: skip
CALLED = ("W1", "W8", "W10a", "W10b")
WORKLOADS = (*TRAINED, *CALLED)


def graph_of(name: str) -> tuple[Graph, dict[str, int]]:
    """What graphc compiles for a workload, the step of ``Trainer.fit`` or the timed function; the
    sizes of its symbolic dims."""
    if name in TRAINED:
        return _training_step(f"bench.{TRAINED[name]}")
    return _function(name), {}


@functools.cache
def schedule_of(name: str) -> tuple[Schedule, dict[str, int]]:
    graph, sizes = graph_of(name)
    return schedule(passes.optimize(graph)), sizes


def costs(name: str) -> tuple[int, int]:
    """Kernels, and bytes that they move."""
    made, sizes = schedule_of(name)
    return len(list(leaves(made.kernels))), evaluate(bytes_moved(made), sizes)


def _training_step(module: str) -> tuple[Graph, dict[str, int]]:
    from bench.peers.graphc_peer import OPS, make_optimizer

    workload = importlib.import_module(module)
    with mock.patch.object(workload, "training_case", lambda task, *_, **__: task):
        task = workload.make()  # without the reference run
    optimizer = make_optimizer(task.optimizer)
    params = task.fresh_params()
    types = StepTypes.of(params, optimizer.init(params), (task.x, task.y))
    graph = TracedStep(task.model.make_loss(OPS), optimizer, types).traced(task.batch).graph
    donated = {1 + k: k for k in range(len(types.values))}
    graph = Graph(graph.name, graph.inputs, graph.outputs, graph.sources, donated)
    return graph, dict.fromkeys(graph.symbols, task.batch)


def _function(name: str) -> Graph:
    from scipy.special import erf

    from bench import w1_scalar, w8_black_scholes, w10a_hessian, w10b_jacobian

    if name == "W1":
        return gc.value_and_grad(w1_scalar.f, argnums=(0, 1)).graph(2.0, 5.0)
    if name == "W8":
        total = w8_black_scholes.total_and_price(w8_black_scholes.make_price(np, erf))
        options = [np.ones(w8_black_scholes.OPTIONS)] * 5
        return gc.value_and_grad(total, argnums=tuple(range(5)), has_aux=True).graph(*options)
    if name == "W10a":
        return gc.hessian(w10a_hessian.make_rosenbrock(np)).graph(np.ones(w10a_hessian.SIZE))
    return gc.jacobian(w10b_jacobian.make_layer(np)).graph(np.ones(w10b_jacobian.INPUTS))


if __name__ == "__main__":
    for name in WORKLOADS:
        print(f'    "{name}": ({", ".join(f"{n:_}" for n in costs(name))}),')
