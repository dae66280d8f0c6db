"""What a training step of a convolutional network does, counted without a clock."""

from __future__ import annotations

import numpy as np
from generated import assert_same, python_run

import graphc as gc
from graphc import interp, passes
from graphc.codegen.writer import write
from graphc.schedule import loops as L
from graphc.schedule import schedule
from graphc.schedule.describe import bytes_moved

BATCH = 32


def _step():
    """The gradient of LeNet on 28 x 28 images (workload W5), and arguments for it."""
    rng = np.random.default_rng(0)
    shapes = {
        "K1": (6, 1, 3, 3), "c1": (6, 1, 1), "K2": (16, 6, 3, 3), "c2": (16, 1, 1),
        "W1": (400, 120), "W2": (120, 84), "W3": (84, 10),
    }  # fmt: skip
    params = {k: (0.1 * rng.standard_normal(s)).astype(np.float32) for k, s in shapes.items()}
    x = rng.standard_normal((BATCH, 1, 28, 28)).astype(np.float32)
    y = rng.standard_normal((BATCH, 10)).astype(np.float32)

    def loss(p, x, y):
        h = x
        for i in "12":
            h = np.maximum(gc.nn.conv2d(h, p[f"K{i}"]) + p[f"c{i}"], 0)
            h = gc.nn.max_pool2d(h, 2)
        h = np.maximum(np.maximum(np.reshape(h, (BATCH, -1)) @ p["W1"], 0) @ p["W2"], 0)
        return np.mean((h @ p["W3"] - y) ** 2)

    step = gc.interpret(gc.value_and_grad(loss))
    return passes.optimize(step.graph(params, x, y)), [*dict(sorted(params.items())).values(), x, y]


def test_images_stay_in_few_kernels_and_little_memory_is_moved():
    graph, _ = _step()
    scheduled = schedule(graph)
    program = write(scheduled)
    assert sorted(c.shape.method for c in program.convolutions) == ["rows"] * 3 + ["sums"] * 2
    assert sorted(p.shape.method for p in program.poolings) == sorted(
        2 * ["max", "count", "spread"]
    )
    assert len(program.calls) <= 16
    images = [k for k in scheduled.kernels if any(n.op in ("conv", "max") for n in k.nodes)]
    assert len(images) == 4  # forward, backward, and the gradients of both banks of filters
    # No loop multiplies: what is left of loops walks over each image once.
    depth = max(_depth(k.body) for k in images)
    assert depth <= 5
    # x, both activations and their gradients, a few times each, 4 bytes an element.
    activations = BATCH * (28 * 28 + 2 * 6 * 26 * 26 + 2 * 16 * 11 * 11)
    assert bytes_moved(scheduled) < 4 * 4 * activations


def _depth(body) -> int:
    return max((1 + _depth(s.body) for s in body if isinstance(s, L.For)), default=0)


def test_values_and_gradients():
    graph, arrays = _step()
    assert_same(python_run(graph, arrays), interp.evaluate(graph, arrays))
