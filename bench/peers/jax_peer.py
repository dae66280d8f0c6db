"""JAX: one jitted step with donated buffers, and whole epochs inside one jitted call."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, tree

from bench.core import Outcome, Params, Runner, StepRunner
from bench.models import SGD, Adam, Ops

# With one core, handing work to a second thread only costs; there is no environment variable.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def softplus(z):
    """Stable as jax.nn.softplus, and up to twice as fast inside a loop."""
    return jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z)))


def derivative(f):
    """Forward mode with a tangent of ones: the cheapest where f acts elementwise."""
    return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]


def conv2d(x, w):
    numbers = lax.conv_dimension_numbers(x.shape, w.shape, ("NCHW", "OIHW", "NCHW"))
    return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=numbers)


def pool2(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


OPS = Ops(
    np=jnp,
    relu=jax.nn.relu,
    log_softmax=jax.nn.log_softmax,
    softplus=softplus,
    derivative=derivative,
    scan=lax.scan,
    erf=lax.erf,
    conv2d=conv2d,
    pool2=pool2,
)


def init_state(optimizer: SGD | Adam, params):
    if optimizer.kind == "sgd":
        return ()
    m, v = (tree.map(jnp.zeros_like, params) for _ in range(2))
    return jnp.zeros((), jnp.int32), m, v


def update(optimizer: SGD | Adam, params, grads, state):
    if optimizer.kind == "sgd":
        return tree.map(lambda p, g: p - optimizer.lr * g, params, grads), state
    t, m, v = state
    b1, b2 = optimizer.beta1, optimizer.beta2
    t = t + 1
    m = tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
    v = tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, grads)
    rate, root = optimizer.lr / (1 - b1**t), 1 / jnp.sqrt(1 - b2**t)
    new = tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) * root + optimizer.eps), params, m, v
    )
    return new, (t, m, v)


def make_step(task):
    value_and_grad = jax.value_and_grad(task.model.make_loss(OPS))

    def step(params, state, x, y):
        loss, grads = value_and_grad(params, x, y)
        return *update(task.optimizer, params, grads, state), loss

    return step


def to_numpy(params) -> Params:
    return {name: np.array(p) for name, p in params.items()}


class JaxStep(StepRunner):
    def __init__(self, task):
        self.task, self.check_epochs = task, task.check_epochs
        self.batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in task.batches]
        self.jitted = jax.jit(make_step(task), donate_argnums=(0, 1))
        self.reset()

    def reset(self) -> None:
        self.weights = {name: jnp.array(p) for name, p in self.task.params.items()}
        self.state = init_state(self.task.optimizer, self.weights)

    def step(self, x, y):
        self.weights, self.state, loss = self.jitted(self.weights, self.state, x, y)
        return loss

    def sync(self) -> None:
        jax.block_until_ready(self.weights)

    def params(self) -> Params:
        return to_numpy(self.weights)


class JaxEpoch(Runner):
    """`lax.scan` over the minibatches inside a `fori_loop` over epochs: one call trains."""

    mode = "epoch"

    def __init__(self, task):
        self.task, self.steps_per_call = task, task.steps_per_epoch
        self.data = _stacked(task)
        self.jitted = jax.jit(partial(_epochs, make_step(task)), donate_argnums=(0, 1))
        self.reset()

    reset = JaxStep.reset

    def run(self, calls: int) -> None:
        self.weights, self.state, self.loss = self.jitted(
            self.weights, self.state, self.data, calls
        )
        jax.block_until_ready(self.weights)

    def check(self) -> Outcome:
        self.reset()
        self.run(self.task.check_epochs)
        return Outcome(np.array([self.loss]), to_numpy(self.weights))


def _stacked(task):
    """The minibatches that scan can take, those of full size, stacked; and those that are left."""
    full = [batch for batch in task.batches if len(batch[0]) == task.batch]
    stacked = tuple(jnp.asarray(np.stack(part)) for part in zip(*full, strict=True))
    rest = task.batches[len(full) :]
    if len(full) == 1:  # no loop
        return None, [tuple(map(jnp.asarray, batch)) for batch in full + rest]
    return stacked, [tuple(map(jnp.asarray, batch)) for batch in rest]


def _epochs(step, params, state, data, n):
    """Train `n` epochs; the mean loss of the last one comes back with the parameters."""
    stacked, rest = data
    samples = sum(len(x) for x, _ in rest) + (math.prod(stacked[0].shape[:2]) if stacked else 0)

    def one_step(carry, batch):
        params, state, total = carry
        params, state, loss = step(params, state, *batch)
        return (params, state, total + loss * len(batch[0])), None

    def one_epoch(_, carry):
        carry = (*carry[:2], jnp.zeros_like(carry[2]))
        if stacked:
            carry, _ = lax.scan(one_step, carry, stacked, unroll=2)
        for batch in rest:
            carry, _ = one_step(carry, batch)
        params, state, total = carry
        return params, state, total / samples

    return lax.fori_loop(0, n, one_epoch, (params, state, jnp.zeros((), jnp.float32)))
