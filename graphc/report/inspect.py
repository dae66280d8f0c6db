"""``inspect(f, *args)``: what graphc makes of a function, stage by stage."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from graphc import errors
from graphc.errors import GraphcError, OptionError
from graphc.functions import misfit, name_of

if TYPE_CHECKING:
    from graphc.memory import Memory

_NOT_FUSED = "not fused:"


class Report:
    """The stages of one function, made when first looked at.

    traced: the user's function. adjoint: with its gradient. optimized (also ``ir``): what is
    compiled, after the passes. fused: its kernels. loops: the generated loops, as Python text
    (graphc lowers it itself; ``numba.njit`` takes it too). llvm: what LLVM made of them.
    ``str(report)`` is a summary.
    """

    def __init__(
        self, name: str, stages: Mapping[str, Callable[[], str]], memory: Callable[[], Memory]
    ):
        self.name = name
        self._predict = memory
        self._stages = dict(stages)
        self._texts: dict[str, str] = {}

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(self._stages)

    def stage(self, name: str) -> str:
        """The text of a stage; raises UnknownNameError."""
        if name not in self._stages:
            raise errors.unknown_name("stage", name, self._stages)
        if name not in self._texts:
            self._texts[name] = self._stages[name]()
        return self._texts[name]

    traced = property(lambda self: self.stage("traced"))
    adjoint = property(lambda self: self.stage("adjoint"))
    optimized = property(lambda self: self.stage("optimized"))
    ir = optimized
    fused = property(lambda self: self.stage("fused"))
    loops = property(lambda self: self.stage("loops"))
    llvm = property(lambda self: self.stage("llvm"))

    @property
    def kernels(self) -> list[str]:
        """What each kernel computes, reads and writes, in order of execution."""
        return [b for b in self._blocks()[1:] if not b.startswith(_NOT_FUSED)]

    @property
    def why_not_fused(self) -> list[str]:
        """Neighbouring operations that are in two kernels, and why."""
        blocks = [b for b in self._blocks() if b.startswith(_NOT_FUSED)]
        return [line.strip() for b in blocks for line in b.splitlines()[1:]]

    @functools.cached_property
    def memory(self) -> Memory:
        """Bytes that a call needs; raises OptionError where sizes are not known."""
        return self._predict()

    def _blocks(self) -> list[str]:
        return self.fused.strip().split("\n\n")

    def __str__(self) -> str:
        lines = [f"graphc report of `{self.name}`"]
        for stage in ("traced", "adjoint", "optimized"):
            lines.append(f"  {stage:<10}{self._size(stage)}")
        lines.append(f"  {'fused':<10}{self._blocks()[0]}")
        heads = [kernel.splitlines()[0] for kernel in self.kernels]
        lines += [f"    {head}" for head in heads]
        lines += [f"    not fused: {reason}" for reason in self.why_not_fused]
        with contextlib.suppress(GraphcError):  # of sizes that are not known
            lines.append(f"  {'memory':<10}{self.memory}")
        lines.append(f"Read a stage by .stage(name): {', '.join(self.stages)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<graphc report of {self.name}: {', '.join(self.stages)}>"

    def _size(self, stage: str) -> str:
        try:
            text = self.stage(stage)
        except GraphcError as error:  # a function without a gradient has no adjoint
            return f"none: {str(error).splitlines()[0]}"
        return f"{sum(' = ' in line for line in text.splitlines())} operations"


def inspect(f: Any, *args: Any, **kwargs: Any) -> Report:
    """The :class:`Report` of ``f`` for these arguments.

    ``f`` is a plain function, one made by ``graphc.compile``, ``grad`` or ``value_and_grad``, or
    a ``Trainer``, whose whole training step is reported for ``(params, *batch)`` or, as given to
    ``fit``, ``(params, batch)``. Arguments are
    what ``f`` takes; arrays are looked at for their types only.

    >>> import numpy as np
    >>> report = inspect(lambda x: np.sum(x * x), np.ones(3))
    >>> len(report.kernels)
    1
    """
    from graphc import api
    from graphc.train import Trainer

    if f is Trainer:
        raise OptionError(
            "inspect takes a Trainer, not the class: write\n"
            "  gc.inspect(gc.Trainer(loss, gc.optim.adam(1e-3)), params, x, y)"
        )
    if isinstance(f, Trainer):
        return _training_report(f, *args, **kwargs)
    name = getattr(f, "name", None) or name_of(f)
    stages = api.stages(f, *args, **kwargs)
    return Report(name, stages, lambda: api.compile(f).memory(*args, **kwargs))


def _training_report(trainer: Any, params: Any, *batch: Any) -> Report:
    from graphc import api, pipeline
    from graphc.train.step import training_step

    loss, optimizer = trainer.loss, trainer.optimizer
    if len(batch) == 1 and isinstance(batch[0], tuple) and misfit(loss, params, *batch):
        (batch,) = batch  # as for fit
    primal = api.compile(loss).graph(params, *batch)
    step = api.compile(training_step(loss, optimizer))
    subject = step.graph(params, optimizer.init(params), *batch)
    stages = pipeline.stages(
        primal, lambda: api.value_and_grad(loss).graph(params, *batch), subject
    )
    in_place = api.compile(training_step(loss, optimizer), donate=(0, 1))
    return Report(
        f"{primal.name} training step", stages,
        lambda: in_place.memory(params, optimizer.init(params), *batch),
    )  # fmt: skip
