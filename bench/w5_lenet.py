"""W5: LeNet on 28 x 28 images: two convolutions with pools, three dense layers, SGD."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bench.core import Params, Tolerance, Workload
from bench.limits import training
from bench.models import SGD, Ops
from bench.training import Task, classification_data, training_case

BATCH, STEPS = 32, 16


@dataclass(frozen=True)
class LeNet:
    """Images (batch, 1, size, size) -> class scores; y one-hot rows."""

    size: int
    channels: tuple[int, int]
    dense: tuple[int, ...]
    torch_takes_labels = True

    def init(self, rng: np.random.Generator) -> Params:
        first, second = self.channels
        side = ((self.size - 2) // 2 - 2) // 2  # after each 3 x 3 convolution and pool
        sizes = (second * side * side, *self.dense)
        weights = {"K1": (first, 1, 3, 3), "K2": (second, first, 3, 3)}
        biases = {"c1": first, "c2": second}
        for i, pair in enumerate(itertools.pairwise(sizes), 1):
            weights[f"W{i}"], biases[f"b{i}"] = pair, pair[1]
        params = {}
        for (name, shape), (bias, size) in zip(weights.items(), biases.items(), strict=True):
            fan_in = 9 * shape[1] if len(shape) == 4 else shape[0]
            params[name] = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
            params[bias] = np.zeros(size, np.float32)
        return params

    def make_loss(self, ops: Ops) -> Callable:
        np, relu, conv, pool = ops.np, ops.relu, ops.conv2d, ops.pool2
        layers = range(1, len(self.dense) + 1)

        def loss(params, x, y):
            h = x
            for i in (1, 2):
                h = pool(relu(conv(h, params[f"K{i}"]) + params[f"c{i}"][:, None, None]))
            h = np.reshape(h, (len(y), -1))
            for i in layers[:-1]:
                h = relu(h @ params[f"W{i}"] + params[f"b{i}"])
            scores = h @ params[f"W{layers[-1]}"] + params[f"b{layers[-1]}"]
            return -np.mean(np.sum(y * ops.log_softmax(scores), axis=1))

        return loss

    def make_torch_loss(self) -> Callable:
        import torch
        import torch.nn.functional as F

        last = torch.channels_last

        def loss(p, x, y):
            h = x.contiguous(memory_format=last)
            for k, c in (p[0:2], p[2:4]):
                h = F.conv2d(h, k.contiguous(memory_format=last), c)
                h = F.max_pool2d(torch.relu(h), 2)
            h = h.flatten(1)
            for i in range(4, len(p) - 2, 2):
                h = torch.relu(torch.addmm(p[i + 1], h, p[i]))
            return F.cross_entropy(torch.addmm(p[-1], h, p[-2]), y)

        return loss

    def loss_and_grads(self, params: Params, x, y):
        h, backward, grads = x, [], {}
        for i in (1, 2):
            h, back = _conv_relu_pool(h, params, f"K{i}", f"c{i}", grads)
            backward.append(back)
        shape = h.shape
        h = h.reshape(len(x), -1)
        inputs, layers = [], range(1, len(self.dense) + 1)
        for i in layers:
            inputs.append(h)
            h = h @ params[f"W{i}"] + params[f"b{i}"]
            if i != layers[-1]:
                h = np.maximum(h, 0)
        scores = h - h.max(axis=1, keepdims=True)
        p = np.exp(scores)
        total = p.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) - np.sum(y * scores, axis=1))
        bar = (p / total - y) / len(x)
        for i in reversed(layers):
            grads[f"W{i}"], grads[f"b{i}"] = inputs[i - 1].T @ bar, bar.sum(axis=0)
            bar = bar @ params[f"W{i}"].T * (inputs[i - 1] > 0)
        bar = bar.reshape(shape)
        for back in reversed(backward):
            bar = back(bar)
        return loss, grads


def _conv_relu_pool(x, params, k, c, grads):
    kernel = params[k]
    pieces = sliding_window_view(x, (3, 3), axis=(2, 3))
    z = np.moveaxis(np.tensordot(pieces, kernel, ((1, 4, 5), (1, 2, 3))), 3, 1)
    z += params[c][:, None, None]
    n, o, height, width = z.shape
    down, across = height // 2, width // 2
    whole = z[:, :, : 2 * down, : 2 * across].reshape(n, o, down, 2, across, 2)
    largest = whole.max(axis=(3, 5), keepdims=True)
    out = np.maximum(largest[:, :, :, 0, :, 0], 0)

    def back(bar):
        taken = (whole == largest) & (largest > 0)
        spread = np.where(taken, bar[:, :, :, None, :, None], 0)
        z_bar = np.zeros_like(z)
        z_bar[:, :, : 2 * down, : 2 * across] = spread.reshape(n, o, 2 * down, 2 * across)
        grads[k] = np.tensordot(z_bar, pieces, ((0, 2, 3), (0, 2, 3)))
        grads[c] = z_bar.sum(axis=(0, 2, 3))
        around = np.pad(z_bar, ((0, 0), (0, 0), (2, 2), (2, 2)))
        windows = sliding_window_view(around, (3, 3), axis=(2, 3))
        flipped = kernel[:, :, ::-1, ::-1]
        return np.moveaxis(np.tensordot(windows, flipped, ((1, 4, 5), (0, 2, 3))), 3, 1)

    return out, back


def make():
    rng = np.random.default_rng(5)
    model = LeNet(28, (6, 16), (120, 84, 10))
    x, y = classification_data(rng, BATCH * STEPS, 28 * 28, 10)
    x = x.reshape(-1, 1, 28, 28)
    task = Task(model, SGD(0.05), model.init(rng), x, y, BATCH)
    return training_case(task, Tolerance(loss=1e-4, params=1e-3))


def work():
    first = 2 * BATCH * 26 * 26 * 6 * 9
    second = 2 * BATCH * 11 * 11 * 16 * 6 * 9
    dense = 2 * BATCH * (400 * 120 + 120 * 84 + 84 * 10)
    return training(first + second + dense, first, 60_000, "sgd", BATCH * 28 * 28)


TITLE = "LeNet, 2 conv 3x3 and 3 dense layers, batch 32, SGD, float32"
WORKLOAD = Workload("W5", TITLE, make, work())
