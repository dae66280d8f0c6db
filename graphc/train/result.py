"""What ``Trainer.fit`` returns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import errors
from graphc.errors import NonFiniteError
from graphc.trace.tree import flatten, leaf_paths
from graphc.wording import counted, type_text

if TYPE_CHECKING:
    from graphc.memory import Memory

_SHOWN_PARAMS = 12
_SHOWN_VALUES, _SHOWN_ENDS = 20, 3


class Series(Sequence):
    """A number for each epoch: a list of floats to Python, an array to NumPy.

    Its numbers stay where native code wrote them: a million epochs make no million objects. It is
    indexed, iterated and compared as a list is, a slice is a list, and it grows as training goes
    on; ``np.asarray(series)``, ``np.log(series)`` and ``plt.plot(series)`` see a float64 array,
    which cannot be written to. Printed, the middle of a long one is left out.

    >>> losses = Series([4.0, 2.0, 1.0])
    >>> losses[-1], losses[:2], len(losses), losses == [4, 2, 1]
    (1.0, [4.0, 2.0], 3, True)
    >>> np.log2(losses)
    array([2., 1., 0.])
    """

    __slots__ = ("_count", "_memory")
    __hash__ = None  # it grows

    def __init__(self, values: Iterable[float] = ()):
        self._memory, self._count = np.empty(0), 0
        self.extend(np.array(values if isinstance(values, np.ndarray) else list(values), float))

    def append(self, value: float) -> None:
        """One more epoch."""
        self._reserve(1)
        self._memory[self._count] = value
        self._count += 1

    def extend(self, values: np.ndarray) -> None:
        """More epochs; the first ones' array is kept, and must not be written to afterwards."""
        if not self._count:
            self._memory = values
        else:
            self._reserve(len(values))
            self._memory[self._count : self._count + len(values)] = values
        self._count += len(values)

    def _reserve(self, more: int) -> None:
        if self._count + more > len(self._memory):
            grown = np.empty(max(2 * self._count, self._count + more, 16))
            grown[: self._count] = self._memory[: self._count]
            self._memory = grown

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at):
        found = self._memory[: self._count][at]
        return found.tolist() if isinstance(at, slice) else float(found)

    def __iter__(self) -> Iterator[float]:
        return iter(self.tolist())

    def tolist(self) -> list[float]:
        return self._memory[: self._count].tolist()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        view = self._memory[: self._count]
        if copy or (dtype is not None and view.dtype != dtype):
            return view.astype(dtype or float)
        view.flags.writeable = False
        return view

    def __eq__(self, other: object):
        if not isinstance(other, Series | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __add__(self, other):
        return [*self, *other] if isinstance(other, Series | list) else NotImplemented

    def __radd__(self, other):
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        if len(self) <= _SHOWN_VALUES:
            return repr(self.tolist())
        first, last = (repr(part)[1:-1] for part in (self[:_SHOWN_ENDS], self[-_SHOWN_ENDS:]))
        return f"[{first}, ... {len(self) - 2 * _SHOWN_ENDS} more ..., {last}]"

    def __reduce__(self):
        return Series, (np.asarray(self),)


@dataclass
class History:
    """What happened, epoch by epoch. Each :class:`Series` is like a list of floats.

    loss: mean training loss of each finished epoch, while its parameters changed.
    val_loss: loss on the validation data after each epoch (empty without validation).
    metrics: for each metric its value on the validation data after each epoch.
    seconds: time spent in training steps alone; where several epochs ran in one native call,
    each has an equal share of it.
    us_per_step: microseconds a step, of the same time. compile_s: seconds to get the step ready,
    next to nothing where the Trainer has met parameters and data of these types before.
    steps: steps done in all, those of an unfinished epoch too.
    stopped: None, ``"interrupted"`` (Ctrl-C), ``"non-finite loss at step k"``, k from 1, what a
    callback said with StopTraining, or ``"no lower val_loss for k epochs"`` (``patience=k``).
    best_epoch: with ``patience=`` the epoch of the least ``val_loss``, from 0: that of the params.
    first_epoch: how many epochs came before, where a result was trained on; else 0.
    memory: with ``Trainer(memory_limit=...)`` what a step needs, and what it computes again.
    error: with ``Trainer(checked=True)`` what computed the first NaN or infinity of that step.
    """

    loss: Series = field(default_factory=Series)
    val_loss: Series = field(default_factory=Series)
    metrics: dict[str, Series] = field(default_factory=dict)
    seconds: Series = field(default_factory=Series)
    us_per_step: float = math.nan
    compile_s: float = math.nan
    steps: int = 0
    stopped: str | None = None
    best_epoch: int | None = None
    first_epoch: int = 0
    error: NonFiniteError | None = None
    memory: Memory | None = None

    def __getitem__(self, name: str) -> Series:
        """The series called ``name``: loss, val_loss, seconds or a metric."""
        series = {"loss": self.loss, "val_loss": self.val_loss, "seconds": self.seconds}
        series |= self.metrics
        if name not in series:
            raise errors.unknown_name("history", name, series)
        return series[name]

    @property
    def next_epoch(self) -> int:
        """The epoch that follows the parameters of the result, counted as ``first_epoch`` is."""
        done = len(self.loss) if self.best_epoch is None else self.best_epoch + 1
        return self.first_epoch + done


@dataclass(frozen=True)
class FitResult:
    """The trained parameters, the optimiser's state, and the :class:`History`.

    ``fit(result, ...)`` goes on from it. Printed, it is a summary, with types of the parameters
    instead of their values.
    """

    params: Any
    state: Any
    history: History

    def __repr__(self) -> str:
        past = self.history
        head = [counted(len(past.loss), "epoch")]
        series = {"loss": past.loss, "val_loss": past.val_loss}
        head += [f"{name} {values[-1]:.6g}" for name, values in series.items() if values]
        if past.stopped is not None:
            head.append(f"stopped: {past.stopped}")
        leaves = [np.asarray(leaf) for leaf in flatten(self.params)[0]]
        paths = leaf_paths(self.params, "params")
        lines = [f"  {path}: {type_text(leaf)}" for path, leaf in zip(paths, leaves, strict=True)]
        if len(lines) > _SHOWN_PARAMS:
            lines[_SHOWN_PARAMS - 1 :] = [f"  and {len(lines) - _SHOWN_PARAMS + 1} more"]
        return "\n".join([f"FitResult: {', '.join(head)}", *lines])
