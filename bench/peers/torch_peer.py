"""PyTorch, eager, one thread: functional form, 40-60 us a step faster than nn.Module.

For SGD the gradients go straight into one `_foreach_add_` (what torch.optim.SGD calls after its
bookkeeping); Adam is torch.optim.Adam in its fused form, the fastest of the three on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.core import Params, StepRunner

torch.set_num_threads(1)


class TorchStep(StepRunner):
    def __init__(self, task):
        self.task, self.check_epochs = task, task.check_epochs
        self.batches = _tensor_batches(task)
        self.loss = task.model.make_torch_loss()
        self.step = {"sgd": self.sgd_step, "adam": self.adam_step}[task.optimizer.kind]
        self.reset()

    def reset(self) -> None:
        fresh = self.task.fresh_params().values()
        self.weights = [torch.from_numpy(p).requires_grad_() for p in fresh]
        if self.task.optimizer.kind == "adam":
            how = self.task.optimizer
            self.optimizer = torch.optim.Adam(
                self.weights, how.lr, (how.beta1, how.beta2), how.eps, fused=True
            )

    def step(self, x, y):
        """Set in __init__: one of the two below."""

    def sgd_step(self, x, y):
        loss = self.loss(self.weights, x, y)
        grads = torch.autograd.grad(loss, self.weights)
        with torch.no_grad():
            torch._foreach_add_(self.weights, grads, alpha=-self.task.optimizer.lr)
        return loss.detach()

    def adam_step(self, x, y):
        loss = self.loss(self.weights, x, y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def params(self) -> Params:
        values = [w.detach().numpy().copy() for w in self.weights]
        return dict(zip(self.task.params, values, strict=True))


class TorchCompiledStep(TorchStep):
    """The whole step as one graph: torch.func gradients and the update written out in place."""

    def __init__(self, task):
        super().__init__(task)
        self.compiled = torch.compile(make_functional_step(self.loss, task.optimizer))
        self.step = self.compiled_step

    def reset(self) -> None:
        self.weights = [torch.from_numpy(p) for p in self.task.fresh_params().values()]
        self.m, self.v = ([torch.zeros_like(w) for w in self.weights] for _ in range(2))
        self.t = torch.zeros(())

    def compiled_step(self, x, y):
        with torch.no_grad():
            return self.compiled(self.weights, self.m, self.v, self.t, x, y)


def make_functional_step(loss: Callable, optimizer) -> Callable:
    grad_and_value = torch.func.grad_and_value(loss)
    b1, b2 = getattr(optimizer, "beta1", 0), getattr(optimizer, "beta2", 0)

    def sgd_step(weights, m, v, t, x, y):
        grads, value = grad_and_value(weights, x, y)
        torch._foreach_add_(weights, grads, alpha=-optimizer.lr)
        return value

    def adam_step(weights, ms, vs, t, x, y):
        grads, value = grad_and_value(weights, x, y)
        t.add_(1)
        rate, root = optimizer.lr / (1 - b1**t), 1 / torch.sqrt(1 - b2**t)
        for w, m, v, g in zip(weights, ms, vs, grads, strict=True):
            m.mul_(b1).add_(g, alpha=1 - b1)
            v.mul_(b2).addcmul_(g, g, value=1 - b2)
            w.sub_(rate * m / (v.sqrt() * root + optimizer.eps))
        return value

    return {"sgd": sgd_step, "adam": adam_step}[optimizer.kind]


def _tensor_batches(task):
    target = torch.from_numpy(task.labels if task.model.torch_takes_labels else task.y)
    x = torch.from_numpy(task.x)
    return list(zip(x.split(task.batch), target.split(task.batch), strict=True))
