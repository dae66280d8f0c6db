"""W1: value and gradient of ln x1 + x1 x2 - sin x2, two float64 scalars, one call.

Nothing to compute: what is measured is the price of one call. Each peer gets the scalars in the
form that it takes fastest (device arrays for JAX, leaf tensors for PyTorch, floats elsewhere).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bench.core import Case, Outcome, Reference, Runner, Tolerance, Workload

POINTS = ((2.0, 5.0), (0.5, -1.0), (3.0, 0.25))


def f(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


def by_hand(x1, x2):
    """Python floats and the math module: what a NumPy user writes for two scalars."""
    return math.log(x1) + x1 * x2 - math.sin(x2), (1 / x1 + x2, x1 - math.cos(x2))


@dataclass
class CallRunner(Runner):
    """`call(x1, x2)` returns the value and both derivatives; `points` are in its own types."""

    call: Callable
    points: list[tuple] = field(default_factory=lambda: list(POINTS))
    sync: Callable = lambda last: None
    context: Callable = contextlib.nullcontext

    def check(self) -> Outcome:
        with self.context():
            results = [self.call(*point) for point in self.points]
        values = np.array([float(value) for value, _ in results])
        grads = np.array([[float(g) for g in grads] for _, grads in results])
        return Outcome(values, {"dx1": grads[:, 0], "dx2": grads[:, 1]})

    def run(self, calls: int) -> None:
        call, (x1, x2), last = self.call, self.points[0], None
        with self.context():
            for _ in itertools.repeat(None, calls):
                last = call(x1, x2)
            self.sync(last)


def graphc() -> Runner:
    import graphc as gc

    return CallRunner(gc.value_and_grad(f, argnums=(0, 1)))


def graphc_interpreter() -> Runner:
    import graphc as gc

    return CallRunner(gc.interpret(gc.value_and_grad(f, argnums=(0, 1))))


def autograd_tape() -> Runner:
    import autograd
    import autograd.numpy as anp

    def traced(x1, x2):
        return anp.log(x1) + x1 * x2 - anp.sin(x2)

    return CallRunner(autograd.value_and_grad(traced, argnum=(0, 1)))


def jax_jit() -> Runner:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_cpu_enable_async_dispatch", False)  # as in jax_peer.py

    def traced(x1, x2):
        return jnp.log(x1) + x1 * x2 - jnp.sin(x2)

    def double():
        return jax.enable_x64(True)

    with double():
        points = [(jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)) for a, b in POINTS]
    call = jax.jit(jax.value_and_grad(traced, argnums=(0, 1)))
    return CallRunner(call, points, jax.block_until_ready, double)


def torch_eager() -> Runner:
    import torch

    def call(x1, x2):
        value = _torch_f(x1, x2)
        return value.detach(), torch.autograd.grad(value, (x1, x2))

    return CallRunner(call, _torch_points(requires_grad=True))


def torch_compiled() -> Runner:
    import torch

    compiled = torch.compile(torch.func.grad_and_value(_torch_f, argnums=(0, 1)))

    def call(x1, x2):
        grads, value = compiled(x1, x2)
        return value, grads

    return CallRunner(call, _torch_points(requires_grad=False), context=torch.no_grad)


def _torch_f(x1, x2):
    return x1.log() + x1 * x2 - x2.sin()


def _torch_points(requires_grad: bool) -> list[tuple]:
    import torch

    torch.set_num_threads(1)
    doubles = torch.tensor(POINTS, dtype=torch.float64)
    return [
        tuple(x.clone().requires_grad_(requires_grad) for x in point) for point in doubles.unbind()
    ]


def reference() -> Reference:
    results = [by_hand(*point) for point in POINTS]
    grads = np.array([grads for _, grads in results])
    return Reference(
        losses=np.array([[value for value, _ in results]]),
        start={"dx1": np.zeros(len(POINTS)), "dx2": np.zeros(len(POINTS))},
        params={"dx1": grads[:, 0], "dx2": grads[:, 1]},
        sizes=np.ones(len(POINTS)),
    )


def make() -> Case:
    peers = {
        "graphc-step": graphc,
        "graphc-interp": graphc_interpreter,
        "numpy": lambda: CallRunner(by_hand),
        "autograd": autograd_tape,
        "jax-step": jax_jit,
        "torch": torch_eager,
        "torch-compile": torch_compiled,
    }
    return Case(reference(), Tolerance(loss=1e-12, params=1e-12), peers)


WORKLOAD = Workload("W1", "value and gradient of ln x1 + x1 x2 - sin x2, float64, one call", make)
