"""W1: value and gradient of ln x1 + x1 x2 - sin x2, two float64 scalars, one call.

Nothing to compute: what is measured is the price of one call. Each peer gets the scalars in the
form that it takes fastest (device arrays for JAX, leaf tensors for PyTorch, floats elsewhere).
"""

from __future__ import annotations

import math

import numpy as np

from bench.calls import CallRunner, call_reference, outcome
from bench.core import Case, Outcome, Params, Runner, Tolerance, Workload

POINTS = ((2.0, 5.0), (0.5, -1.0), (3.0, 0.25))


def f(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


def by_hand(x1, x2):
    """Python floats and the math module: what a NumPy user writes for two scalars."""
    return math.log(x1) + x1 * x2 - math.sin(x2), (1 / x1 + x2, x1 - math.cos(x2))


def read(result) -> tuple[float, Params]:
    value, (dx1, dx2) = result
    return float(value), {"dx1": float(dx1), "dx2": float(dx2)}


def graphc() -> Runner:
    import graphc as gc

    return CallRunner(gc.value_and_grad(f, argnums=(0, 1)), POINTS, read)


def graphc_interpreter() -> Runner:
    import graphc as gc

    return CallRunner(gc.interpret(gc.value_and_grad(f, argnums=(0, 1))), POINTS, read)


def autograd_tape() -> Runner:
    import autograd
    import autograd.numpy as anp

    def traced(x1, x2):
        return anp.log(x1) + x1 * x2 - anp.sin(x2)

    return CallRunner(autograd.value_and_grad(traced, argnum=(0, 1)), POINTS, read)


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
    return CallRunner(call, points, read, jax.block_until_ready, double)


def torch_eager() -> Runner:
    import torch

    def call(x1, x2):
        value = _torch_f(x1, x2)
        return value.detach(), torch.autograd.grad(value, (x1, x2))

    return CallRunner(call, _torch_points(requires_grad=True), read)


def torch_compiled() -> Runner:
    import torch

    compiled = torch.compile(torch.func.grad_and_value(_torch_f, argnums=(0, 1)))

    def call(x1, x2):
        grads, value = compiled(x1, x2)
        return value, grads

    return CallRunner(call, _torch_points(requires_grad=False), read, context=torch.no_grad)


def _torch_f(x1, x2):
    return x1.log() + x1 * x2 - x2.sin()


def _torch_points(requires_grad: bool) -> list[tuple]:
    import torch

    torch.set_num_threads(1)
    doubles = torch.tensor(POINTS, dtype=torch.float64)
    return [
        tuple(x.clone().requires_grad_(requires_grad) for x in point) for point in doubles.unbind()
    ]


def pytensor_function() -> Runner:
    """Arrays without axes and `trust_input`: the checks of arguments are half of a call."""
    import pytensor
    import pytensor.tensor as pt

    x1, x2 = pt.dscalars("x1", "x2")
    value = pt.log(x1) + x1 * x2 - pt.sin(x2)
    function = pytensor.function([x1, x2], [value, *pt.grad(value, [x1, x2])])
    function.trust_input = True
    points = [tuple(map(np.asarray, point)) for point in POINTS]
    return CallRunner(function, points, read_flat)


def casadi_function() -> Runner:
    return CallRunner(_casadi(), POINTS, read_flat)


class BufferRunner(CallRunner):
    """CasADi's interface for callers who keep the memory: nothing is passed, no object is made."""

    def __init__(self):
        self.function = _casadi()  # its buffer does not keep it alive
        self.buffer, trigger = self.function.buffer()
        self.given, self.made = np.zeros(2), np.zeros(3)
        for k in range(2):
            self.buffer.set_arg(k, memoryview(self.given[k : k + 1]))
        for k in range(3):
            self.buffer.set_res(k, memoryview(self.made[k : k + 1]))
        super().__init__(trigger, [()], read_flat)

    def check(self) -> Outcome:
        results = []
        for point in POINTS:
            self.given[:] = point
            self.call()
            results.append(read_flat(self.made))
        return outcome(results)


def _casadi():
    import casadi

    x1, x2 = casadi.SX.sym("x1"), casadi.SX.sym("x2")
    value = casadi.log(x1) + x1 * x2 - casadi.sin(x2)
    slopes = [casadi.jacobian(value, x) for x in (x1, x2)]
    return casadi.Function("f", [x1, x2], [value, *slopes])


def read_flat(result) -> tuple[float, Params]:
    value, dx1, dx2 = map(float, result)
    return read((value, (dx1, dx2)))


def make() -> Case:
    peers = {
        "graphc-step": graphc,
        "graphc-interp": graphc_interpreter,
        "numpy": lambda: CallRunner(by_hand, POINTS, read),
        "autograd": autograd_tape,
        "jax-step": jax_jit,
        "pytensor": pytensor_function,
        "casadi": casadi_function,
        "casadi-buffer": BufferRunner,
        "torch": torch_eager,
        "torch-compile": torch_compiled,
    }
    reference = call_reference([read(by_hand(*point)) for point in POINTS])
    return Case(reference, Tolerance(loss=1e-12, params=1e-12), peers)


WORKLOAD = Workload("W1", "value and gradient of ln x1 + x1 x2 - sin x2, float64, one call", make)
