"""W6: an LSTM over 50 time steps, cross-entropy at each of them, SGD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.core import Params, Tolerance, Workload
from bench.limits import training
from bench.models import SGD, Ops
from bench.training import Task, training_case

BATCH, STEPS, TIME = 16, 16, 50


@dataclass(frozen=True)
class LSTM:
    """x (batch, time, inputs) -> class scores at each time; y one-hot of the same leading shape.

    PyTorch's layout: weights (4 hidden, in), gates in the order input, forget, cell, output.
    """

    inputs: int
    hidden: int
    classes: int
    torch_takes_labels = True

    def init(self, rng: np.random.Generator) -> Params:
        bound = 1 / np.sqrt(self.hidden)
        gates = 4 * self.hidden
        shapes = {
            "Wx": (gates, self.inputs), "Wh": (gates, self.hidden), "b": (gates,),
            "W": (self.hidden, self.classes), "c": (self.classes,),
        }  # fmt: skip
        return {n: rng.uniform(-bound, bound, s).astype(np.float32) for n, s in shapes.items()}

    def make_loss(self, ops: Ops) -> Callable:
        np, scan, log_softmax, size = ops.np, ops.scan, ops.log_softmax, self.hidden

        def sigmoid(z):
            return 1 / (1 + np.exp(-z))

        def loss(params, x, y):
            batch, time, inputs = x.shape
            x = np.transpose(x, (1, 0, 2)).reshape(time * batch, inputs)  # all times at once
            driven = (x @ params["Wx"].T + params["b"]).reshape(time, batch, 4 * size)

            def step(carry, driven):
                h, c = carry
                z = driven + h @ params["Wh"].T
                i, f = sigmoid(z[:, :size]), sigmoid(z[:, size : 2 * size])
                g, o = np.tanh(z[:, 2 * size : 3 * size]), sigmoid(z[:, 3 * size :])
                c = f * c + i * g
                h = o * np.tanh(c)
                return (h, c), h

            start = np.zeros((batch, size), np.float32)
            _, hs = scan(step, (start, start), driven)
            scores = hs.reshape(time * batch, size) @ params["W"] + params["c"]
            y = np.transpose(y, (1, 0, 2)).reshape(time * batch, self.classes)
            return -np.mean(np.sum(y * log_softmax(scores), axis=1))

        return loss

    def make_torch_loss(self) -> Callable:
        import torch
        import torch.nn.functional as F

        def loss(p, x, y):
            wx, wh, b, w, c = p
            zero = torch.zeros(1, len(x), self.hidden)
            flat = [wx, wh, b, torch.zeros_like(b)]  # what torch.nn.LSTM calls
            hs, _, _ = torch._VF.lstm(x, (zero, zero), flat, True, 1, 0.0, True, False, True)
            return F.cross_entropy(torch.addmm(c, hs.flatten(0, 1), w), y.flatten())

        return loss

    def loss_and_grads(self, params: Params, x, y):
        wx, wh, size = params["Wx"], params["Wh"], self.hidden
        batch, time, _ = x.shape
        x, y = x.transpose(1, 0, 2), y.transpose(1, 0, 2)
        driven = x @ wx.T + params["b"]
        h = c = np.zeros((batch, size), x.dtype)
        hs, cs, gates = [h], [c], []
        for t in range(time):
            z = driven[t] + h @ wh.T
            z[:, : 2 * size] = 1 / (1 + np.exp(-z[:, : 2 * size]))
            z[:, 2 * size : 3 * size] = np.tanh(z[:, 2 * size : 3 * size])
            z[:, 3 * size :] = 1 / (1 + np.exp(-z[:, 3 * size :]))
            i, f, g, o = np.split(z, 4, axis=1)
            c = f * c + i * g
            h = o * np.tanh(c)
            hs.append(h)
            cs.append(c)
            gates.append(z)
        outputs = np.stack(hs[1:])
        scores = outputs @ params["W"] + params["c"]
        scores -= scores.max(axis=2, keepdims=True)
        p = np.exp(scores)
        total = p.sum(axis=2, keepdims=True)
        loss = np.mean(np.log(total[..., 0]) - np.sum(y * scores, axis=2))
        bar = (p / total - y) / (time * batch)
        grads = {"W": np.einsum("tbh,tbc->hc", outputs, bar), "c": bar.sum(axis=(0, 1))}
        outputs_bar = bar @ params["W"].T
        h_bar = c_bar = np.zeros((batch, size), x.dtype)
        z_bar = np.empty_like(driven)
        for t in reversed(range(time)):
            i, f, g, o = np.split(gates[t], 4, axis=1)
            h_bar = h_bar + outputs_bar[t]
            s = np.tanh(cs[t + 1])
            c_bar = c_bar + h_bar * o * (1 - s * s)
            bars = (
                c_bar * g * i * (1 - i),
                c_bar * cs[t] * f * (1 - f),
                c_bar * i * (1 - g * g),
                h_bar * s * o * (1 - o),
            )
            z_bar[t] = np.concatenate(bars, axis=1)
            h_bar, c_bar = z_bar[t] @ wh, c_bar * f
        grads["Wx"] = np.einsum("tbg,tbi->gi", z_bar, x)
        grads["Wh"] = np.einsum("tbg,tbh->gh", z_bar, np.stack(hs[:-1]))
        grads["b"] = z_bar.sum(axis=(0, 1))
        return loss, grads


def make():
    rng = np.random.default_rng(6)
    model = LSTM(64, 128, 64)
    n = BATCH * STEPS
    x = rng.normal(0, 1, (n, TIME, model.inputs)).astype(np.float32)
    labels = np.roll(x.argmax(axis=2), 1, axis=1)  # the largest input of the step before
    y = np.eye(model.classes, dtype=np.float32)[labels]
    task = Task(model, SGD(0.1), model.init(rng), x, y, BATCH)
    return training_case(task, Tolerance(loss=1e-4, params=1e-3))


def work():
    rows = 2 * BATCH * TIME
    inputs, recurrent, outputs = rows * 64 * 512, rows * 128 * 512, rows * 128 * 64
    parameters = 192 * 512 + 512 + 129 * 64
    return training(inputs + recurrent + outputs, inputs, parameters, "sgd", BATCH * TIME * 128)


TITLE = "LSTM 64 -> 128, T 50, batch 16, CE at each step, SGD, float32"
WORKLOAD = Workload("W6", TITLE, make, work())
