"""JAX: one jitted step with donated buffers, and whole epochs inside one jitted call."""

from __future__ import annotations

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


OPS = Ops(np=jnp, relu=jax.nn.relu, log_softmax=jax.nn.log_softmax, softplus=softplus)


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
        self.x = jnp.asarray(np.stack([x for x, _ in task.batches]))
        self.y = jnp.asarray(np.stack([y for _, y in task.batches]))
        self.jitted = jax.jit(partial(_epochs, make_step(task)), donate_argnums=(0, 1))
        self.reset()

    reset = JaxStep.reset

    def run(self, calls: int) -> None:
        self.weights, self.state, self.loss = self.jitted(
            self.weights, self.state, self.x, self.y, calls
        )
        jax.block_until_ready(self.weights)

    def check(self) -> Outcome:
        self.reset()
        self.run(self.task.check_epochs)
        return Outcome(np.array([self.loss]), to_numpy(self.weights))


def _epochs(step, params, state, xs, ys, n):
    """Train `n` epochs; the mean loss of the last one comes back with the parameters."""

    def one_step(carry, batch):
        params, state, total = carry
        params, state, loss = step(params, state, *batch)
        return (params, state, total + loss), None

    def one_epoch(_, carry):
        params, state, _ = carry
        start = (params, state, jnp.zeros((), xs.dtype))
        if len(xs) == 1:
            return one_step(start, (xs[0], ys[0]))[0]
        (params, state, total), _ = lax.scan(one_step, start, (xs, ys), unroll=2)
        return params, state, total / len(xs)

    return lax.fori_loop(0, n, one_epoch, (params, state, jnp.zeros((), xs.dtype)))
