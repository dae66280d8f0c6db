"""W9: a physics-informed network for the heat equation: second derivatives inside the loss.

One step: forward with u_t and u_xx, the gradient of their residual, update (SGD).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.core import Params, Tolerance, Workload
from bench.limits import training
from bench.models import MLP, SGD, Ops
from bench.training import Task, training_case

POINTS = 1024


@dataclass(frozen=True)
class HeatPINN:
    """u(x, t) by a tanh network; loss is the mean of (u_t - u_xx)^2 over collocation points.

    `x` has the columns x and t; there are no labels, `y` is not used. The last layer has no bias:
    derivatives do not see it.
    """

    sizes: tuple[int, ...]
    torch_takes_labels = False

    def init(self, rng: np.random.Generator) -> Params:
        params = MLP(self.sizes, "tanh", "mse").init(rng)
        del params[f"b{len(self.sizes) - 1}"]
        return params

    def make_loss(self, ops: Ops) -> Callable:
        np, derivative, layers = ops.np, ops.derivative, len(self.sizes) - 1

        def u(params, x, t):
            h = np.concatenate([x, t], axis=1)
            for i in range(1, layers):
                h = np.tanh(h @ params[f"W{i}"] + params[f"b{i}"])
            return h @ params[f"W{layers}"]

        def loss(params, points, _):
            x, t = points[:, :1], points[:, 1:]
            u_t = derivative(lambda t: u(params, x, t))(t)
            u_xx = derivative(derivative(lambda x: u(params, x, t)))(x)
            return np.mean((u_t - u_xx) ** 2)

        return loss

    def make_torch_loss(self) -> Callable:
        import torch

        def derivative(value, at):
            return torch.autograd.grad(value.sum(), at, create_graph=True)[0]

        def loss(p, points, _):
            x, t = points[:, :1].requires_grad_(), points[:, 1:].requires_grad_()
            h = torch.cat([x, t], dim=1)
            for i in range(0, len(p) - 1, 2):
                h = torch.tanh(torch.addmm(p[i + 1], h, p[i]))
            u = h @ p[-1]
            u_xx = derivative(derivative(u, x), x)
            return ((derivative(u, t) - u_xx) ** 2).mean()

        return loss

    def loss_and_grads(self, params: Params, points, _):
        """The layers carry h with its x-, t- and xx-derivatives; backward through all four."""
        n, layers = len(points), range(1, len(self.sizes))
        one = np.zeros_like(points)
        one_x, one_t = one.copy(), one
        one_x[:, 0], one_t[:, 1] = 1, 1
        h = [points, one_x, one_t, np.zeros_like(points)]
        inputs, saved = [], []
        for i in layers:
            z = [part @ params[f"W{i}"] for part in h]
            inputs.append(h)
            if i == layers[-1]:
                break
            z[0] += params[f"b{i}"]
            s = np.tanh(z[0])
            d1 = 1 - s * s
            d2 = -2 * s * d1
            saved.append((z, s, d1, d2))
            h = [s, d1 * z[1], d1 * z[2], d2 * z[1] * z[1] + d1 * z[3]]
        residual = z[2] - z[3]
        slope = residual * (2 / n)
        zero = np.zeros_like(slope)
        bar, grads = [zero, zero, slope, -slope], {}
        for i in reversed(layers):
            h = inputs.pop()
            grads[f"W{i}"] = sum(part.T @ b for part, b in zip(h, bar, strict=True))
            if i < layers[-1]:
                grads[f"b{i}"] = bar[0].sum(axis=0)
            if not inputs:
                break
            a, ax, at, axx = (b @ params[f"W{i}"].T for b in bar)
            z, s, d1, d2 = saved.pop()
            d3 = -2 * (d1 * d1 + s * d2)
            curved = ax * z[1] + at * z[2] + axx * z[3]
            bar = [
                a * d1 + curved * d2 + axx * d3 * z[1] * z[1],
                ax * d1 + 2 * axx * d2 * z[1],
                at * d1,
                axx * d1,
            ]
        return np.mean(residual * residual), grads


def make():
    rng = np.random.default_rng(9)
    model = HeatPINN((2, 32, 32, 32, 1))
    points = rng.uniform(-1, 1, (POINTS, 2)).astype(np.float32)
    unused = np.zeros((POINTS, 1), np.float32)
    task = Task(model, SGD(1e-3), model.init(rng), points, unused, POINTS, check_epochs=3)
    return training_case(task, Tolerance(loss=1e-4, params=1e-3))


def work():
    """The value and three derivatives go through each layer; the first knows theirs."""
    first, hidden, last = (2 * POINTS * w for w in (2 * 32, 2 * 32 * 32, 32))
    return training(first + 4 * hidden + 2 * last, first, 2300, "sgd", 2 * POINTS)


TITLE = "PINN 2-32-32-32-1, u_t = u_xx, 1024 points, SGD, float32"
WORKLOAD = Workload("W9", TITLE, make, work())
