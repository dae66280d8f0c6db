"""Models and optimisers shared by all peers, written once.

`make_loss(ops)` gives the loss as its users would write it in a NumPy-like namespace: graphc
gets it with plain NumPy, autograd and JAX with their own. `make_torch_loss()` gives
`loss(params, x, y)` on a list of tensors in the reference's order and layout, with class numbers
as `y` if `torch_takes_labels`. `loss_and_grads` is the gradient by hand, which serves as the
float64 reference and as the NumPy peer in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bench.core import Params


@dataclass(frozen=True)
class Ops:
    """A NumPy-like namespace and the idioms its users have for what NumPy itself lacks."""

    np: Any
    relu: Callable
    log_softmax: Callable
    softplus: Callable
    derivative: Callable  # df/dx of an elementwise f, as arrays
    scan: Callable  # scan(step, carry, xs) -> (carry, ys) over the first axis of xs
    erf: Callable
    conv2d: Callable  # images [n, c, h, w] and filters [o, c, 3, 3], without padding
    pool2: Callable  # maximum over 2 x 2 blocks


def numpy_log_softmax(z):
    shifted = z - np.max(z, axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def python_loop(np):
    """`scan` as it is written where there is none."""

    def scan(step, carry, xs):
        ys = []
        for x in xs:
            carry, y = step(carry, x)
            ys.append(y)
        return carry, np.stack(ys)

    return scan


def _no_derivative(f):
    raise NotImplementedError("NumPy alone does not differentiate")


def _erf(x):
    from scipy.special import erf

    return erf(x)


def _conv2d(x, w):
    pieces = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", pieces, w)


def pool2_of(np):
    """As it is written where there is none."""

    def pool(x):
        n, c, height, width = x.shape
        whole = x[:, :, : height // 2 * 2, : width // 2 * 2]
        return np.max(np.reshape(whole, (n, c, height // 2, 2, width // 2, 2)), axis=(3, 5))

    return pool


NUMPY = Ops(
    np=np,
    relu=lambda z: np.maximum(z, 0),
    log_softmax=numpy_log_softmax,
    softplus=lambda z: np.logaddexp(0, z),
    derivative=_no_derivative,
    scan=python_loop(np),
    erf=_erf,
    conv2d=_conv2d,
    pool2=pool2_of(np),
)


class Model(Protocol):
    """What a training workload trains."""

    torch_takes_labels: bool

    def make_loss(self, ops: Ops) -> Callable: ...

    def make_torch_loss(self) -> Callable: ...

    def loss_and_grads(self, params: Params, x, y) -> tuple[Any, Params]: ...


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on labels 0 and 1; mean negative log-likelihood.

    The hand-written form is the plain one, good as long as no logit is below -88.
    """

    features: int
    torch_takes_labels = False

    def init(self, rng: np.random.Generator) -> Params:
        w = rng.normal(0, 0.1, self.features)
        return {"w": w.astype(np.float32), "b": np.zeros(1, np.float32)}

    def make_loss(self, ops: Ops) -> Callable:
        np, softplus = ops.np, ops.softplus

        def loss(params, x, y):
            z = x @ params["w"] + params["b"]
            return np.mean(softplus(z) - y * z)

        return loss

    def make_torch_loss(self) -> Callable:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        return lambda p, x, y: binary_cross_entropy_with_logits(torch.addmv(p[1], x, p[0]), y)

    def loss_and_grads(self, params: Params, x, y):
        z = x @ params["w"]
        z += params["b"]
        e = np.exp(-z)
        e += 1
        loss = (np.log(e).sum() + z.sum() - y @ z) / len(y)
        delta = 1 / e
        delta -= y
        delta /= len(y)
        return loss, {"w": delta @ x, "b": np.sum(delta, keepdims=True)}


@dataclass(frozen=True)
class MLP:
    """Dense layers of the given sizes; hidden activation tanh or relu; loss mse or softmax-ce."""

    sizes: tuple[int, ...]
    activation: str
    loss: str

    @property
    def layers(self) -> range:
        return range(1, len(self.sizes))

    def init(self, rng: np.random.Generator) -> Params:
        params = {}
        for i, (fan_in, fan_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False), 1):
            scale = np.sqrt((2 if self.activation == "relu" else 1) / fan_in)
            params[f"W{i}"] = rng.normal(0, scale, (fan_in, fan_out)).astype(np.float32)
            params[f"b{i}"] = np.zeros(fan_out, np.float32)
        return params

    def make_loss(self, ops: Ops) -> Callable:
        np, log_softmax, layers = ops.np, ops.log_softmax, self.layers
        activation = {"tanh": np.tanh, "relu": ops.relu}[self.activation]

        def predict(params, x):
            h = x
            for i in layers[:-1]:
                h = activation(h @ params[f"W{i}"] + params[f"b{i}"])
            return h @ params[f"W{layers[-1]}"] + params[f"b{layers[-1]}"]

        def mse(params, x, y):
            return np.mean((predict(params, x) - y) ** 2)

        def cross_entropy(params, x, y):
            return -np.mean(np.sum(y * log_softmax(predict(params, x)), axis=1))

        return {"mse": mse, "softmax-ce": cross_entropy}[self.loss]

    def make_torch_loss(self) -> Callable:
        import torch
        import torch.nn.functional as F

        activation = {"tanh": torch.tanh, "relu": torch.relu}[self.activation]
        loss = {"mse": F.mse_loss, "softmax-ce": F.cross_entropy}[self.loss]

        def network_loss(p, x, y):
            h = x
            for i in range(0, len(p) - 2, 2):
                h = activation(torch.addmm(p[i + 1], h, p[i]))
            return loss(torch.addmm(p[-1], h, p[-2]), y)

        return network_loss

    @property
    def torch_takes_labels(self) -> bool:
        return self.loss == "softmax-ce"

    def loss_and_grads(self, params: Params, x, y):
        inputs = [x]
        for i in self.layers:
            z = inputs[-1] @ params[f"W{i}"]
            z += params[f"b{i}"]
            inputs.append(z if i == self.layers[-1] else self._activate(z))
        loss, delta = LOSSES_BY_HAND[self.loss](inputs.pop(), y)
        grads = {}
        for i in reversed(self.layers):
            h = inputs.pop()
            grads[f"W{i}"] = h.T @ delta
            grads[f"b{i}"] = delta.sum(axis=0)
            if inputs:
                delta = delta @ params[f"W{i}"].T
                delta *= self._slope(h)
        return loss, grads

    def _activate(self, z):
        return np.tanh(z, out=z) if self.activation == "tanh" else np.maximum(z, 0, out=z)

    def _slope(self, h):
        return 1 - h * h if self.activation == "tanh" else h > 0


def _mse_by_hand(prediction, y):
    error = prediction - y
    return np.mean(error * error), error * (2 / error.size)


def _cross_entropy_by_hand(logits, y):
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    total = p.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - np.sum(y * logits, axis=1))
    p /= total
    p -= y
    p /= len(y)
    return loss, p


LOSSES_BY_HAND = {"mse": _mse_by_hand, "softmax-ce": _cross_entropy_by_hand}


@dataclass(frozen=True)
class SGD:
    lr: float
    kind = "sgd"

    def init(self, params: Params) -> Any:
        return None

    def update(self, params: Params, grads: Params, state: Any) -> None:
        """Update `params` in place."""
        for name, p in params.items():
            p -= self.lr * grads[name]


@dataclass(frozen=True)
class Adam:
    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    kind = "adam"

    def init(self, params: Params) -> dict:
        leaves = {k: tuple(np.zeros_like(p) for _ in range(3)) for k, p in params.items()}
        return {"t": 0, "leaves": leaves}

    def update(self, params: Params, grads: Params, state: dict) -> None:
        """Update `params` and `state` in place; the third array of a leaf is scratch."""
        state["t"] += 1
        step = self.lr / (1 - self.beta1 ** state["t"])
        root = 1 / np.sqrt(1 - self.beta2 ** state["t"]).item()
        for name, (m, v, scratch) in state["leaves"].items():
            g = grads[name]
            m *= self.beta1
            m += np.multiply(g, 1 - self.beta1, out=scratch)
            v *= self.beta2
            np.multiply(g, g, out=scratch)
            scratch *= 1 - self.beta2
            v += scratch
            np.sqrt(v, out=scratch)
            scratch *= root
            scratch += self.eps
            np.divide(m, scratch, out=scratch)
            scratch *= step
            params[name] -= scratch
