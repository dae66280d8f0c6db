"""Many small steps as one program: their values stay in registers from step to step."""

from __future__ import annotations

import numpy as np

from graphc.ir import build, control
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, substitute
from graphc.ir.types import TensorType

MAX_TURNS = 256  # of a call: so soon is a wish to stop heard


def in_turns(step: Graph, leaves: int, one_batch: bool) -> Graph:
    """The loop over a step that takes ``leaves`` values and a batch and returns the loss and the
    new values: from these values, batches and ``turns``, an array of a byte a step that is never
    read, to all losses and the last values, in place. Each step has a batch of its own, the next
    one of a stack, or all have ``one_batch``."""
    length = symbol("turns")
    values, batch = step.inputs[:leaves], step.inputs[leaves:]
    xs = () if one_batch else batch
    carried = [build.placeholder(0, k, v.type) for k, v in enumerate(values)]
    parts = [build.placeholder(0, leaves + k, x.type) for k, x in enumerate(xs)]
    stacks = [
        build.input(leaves + k, x.attr("name"), TensorType(x.dtype, (length, *x.shape)))
        for k, x in enumerate(xs)
    ]
    turns = build.input(len(step.inputs), "turns", TensorType(np.dtype(bool), (length,)))
    sources = dict(step.sources)
    mapping = dict(zip((*values, *xs), (*carried, *parts), strict=True))
    loss, *changed = substitute(step.outputs, mapping, sources)
    (body,), outside = control.close([[*changed, loss]], [*carried, *parts], sources)
    *last, losses = build.loop(body, values, stacks, outside, length=length)
    inputs = (*values, *(stacks or batch), turns)
    donated = {1 + k: k for k in range(leaves)}
    return Graph(step.name, inputs, (losses, *last), sources, donated)
