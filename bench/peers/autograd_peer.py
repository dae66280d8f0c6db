"""HIPS autograd: the tape gives the gradient, the update is NumPy in place."""

from __future__ import annotations

import autograd
import autograd.numpy as anp
from autograd.scipy.signal import convolve
from autograd.scipy.special import erf
from autograd.tracer import getval

from bench.models import Ops, pool2_of, python_loop
from bench.peers.numpy_peer import NumpyStep


def log_softmax(z):
    """With the maximum as a constant: no gradient flows through it."""
    shifted = z - getval(z).max(axis=1, keepdims=True)
    return shifted - anp.log(anp.sum(anp.exp(shifted), axis=1, keepdims=True))


def conv2d(x, w):
    return convolve(
        x, w[:, :, ::-1, ::-1], axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid"
    )


OPS = Ops(
    np=anp,
    relu=lambda z: anp.maximum(z, 0),
    log_softmax=log_softmax,
    softplus=lambda z: anp.log(1 + anp.exp(z)),
    derivative=autograd.elementwise_grad,
    scan=python_loop(anp),
    erf=erf,
    conv2d=conv2d,
    pool2=pool2_of(anp),
)


class AutogradStep(NumpyStep):
    def __init__(self, task):
        super().__init__(task)
        self.loss_and_grads = autograd.value_and_grad(task.model.make_loss(OPS))
