"""``Trainer(loss, optimizer).fit(params, data, ...)``."""

from __future__ import annotations

import math
import operator
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc import errors, forks
from graphc.data.check import check_data, check_like
from graphc.errors import DataError, NonFiniteError, OptionError, TrainingWarning
from graphc.functions import misfit, name_of, positional_names, required_names, signature_of
from graphc.nonfinite import checked_option
from graphc.runtime.team import thread_count
from graphc.trace.context import refuse_lossy
from graphc.trace.source import frames_to_user
from graphc.trace.tree import flatten, leaf_paths
from graphc.train.engine import NONFINITE, STOPPED, Engine, EpochResult, Run
from graphc.train.progress import Bar, open_bar
from graphc.train.result import FitResult, History, Series
from graphc.train.shuffle import permutation
from graphc.train.start import start
from graphc.train.step import StepTypes, TracedStep
from graphc.wording import counted, kind_of

ENGINES = ("native", "interpreter")
_BETWEEN_LOOKS = 0.05  # seconds, at a run: for its bar, and for Ctrl-C where that ends no wait
_KEPT_STEPS = 16


class StopTraining(Exception):
    """Raised in a callback to end training after this epoch: ``raise gc.StopTraining("why")``.

    ``fit`` returns as usual; what was said is ``history.stopped``.
    """


class Prepared:
    """The steps that a Trainer has made, of the latest kinds of parameters and data, and its loss
    for validation. A copy or a pickle of the Trainer begins without."""

    def __init__(self):
        self._steps: dict[Any, TracedStep] = {}
        self._validation: Callable | None = None
        self._lock = forks.lock()

    def __reduce__(self):
        return Prepared, ()

    def step(self, key: Any, make: Callable[[], TracedStep]) -> TracedStep:
        with self._lock:
            step = self._steps.pop(key, None)
            if step is None or step.is_stale():
                step = make()
            self._steps[key] = step  # the latest is last
            if len(self._steps) > _KEPT_STEPS:
                del self._steps[next(iter(self._steps))]
            return step

    def validation(self, make: Callable[[], Callable]) -> Callable:
        self._validation = self._validation or make()
        return self._validation


@dataclass(frozen=True)
class Trainer:
    """Trains parameters by a loss and an optimiser.

    loss: ``loss(params, *batch) -> scalar``, a plain NumPy function. optimizer: from
    ``graphc.optim``, or anything with its ``init`` and ``update``. threads: how many share the
    large kernels of a step, an int or "auto"; None: as GRAPHC_NUM_THREADS says, or 1. engine:
    ``"native"`` runs whole epochs as compiled code; ``"interpreter"`` runs the same graph node by
    node in NumPy and needs no compiler.
    checked: where a step is not finite, say which op made the first NaN or infinity, on which line
    of yours, of what operands, forward or in the backward pass (in the warning and as
    ``history.error``); steps cost nothing more. ``"strict"`` tells of masked ones first.
    memory_limit: bytes, or text such as ``"200 MB"``, that a step may need for parameters, state,
    batch and temporaries: values are computed again rather than kept, see ``history.memory``.

    The loss and the optimizer are traced and compiled once for each kind of parameters and data
    (structure, dtypes, shapes of a sample); further fits cost what their steps do. What else they
    read (globals, closures, attributes) is looked at by each fit, as :func:`graphc.compile` does
    in each call, and what has changed is traced again.

    >>> import numpy as np
    >>> from graphc import optim
    >>> def loss(params, x, y):
    ...     return np.mean((x * params["slope"] - y) ** 2)
    >>> x = np.linspace(-1, 1, 64)
    >>> trainer = Trainer(loss, optim.sgd(0.5), engine="interpreter")
    >>> result = trainer.fit({"slope": 0.0}, (x, 3 * x), epochs=20, batch_size=16)
    >>> round(float(result.params["slope"]), 3)
    3.0
    """

    loss: Callable
    optimizer: Any
    threads: int | str | None = field(default=None, kw_only=True)
    engine: str = field(default="native", kw_only=True)
    checked: bool | str = field(default=False, kw_only=True)
    memory_limit: int | str | None = field(default=None, kw_only=True)
    _prepared: Prepared = field(default_factory=Prepared, init=False, repr=False, compare=False)

    def __post_init__(self):
        if not callable(self.loss):
            raise OptionError(f"Trainer: the loss must be a function, not {self.loss!r}")
        if isinstance(self.optimizer, str):
            from graphc import optim

            optim.get(self.optimizer)  # raises for an unknown name
            raise OptionError(f"Trainer: pass graphc.optim.{self.optimizer}(learning_rate=...)")
        if isinstance(self.optimizer, type) and hasattr(self.optimizer, "update"):
            name = self.optimizer.__name__.lower()
            raise OptionError(
                f"Trainer: call the optimizer, graphc.optim.{name}(learning_rate=...)"
            )
        if not hasattr(self.optimizer, "update"):
            raise OptionError(
                f"Trainer: the optimizer must have init and update, not be {self.optimizer!r}"
            )
        if self.engine not in ENGINES:
            raise errors.unknown_name("engine", self.engine, ENGINES)
        checked_option(self.checked)
        thread_count(self.threads)
        if _limit_bytes(self.memory_limit) is not None and self.engine != "native":
            raise OptionError("memory_limit is for the native engine: NumPy plans no memory")

    def fit(
        self,
        params: Any,
        data: Any,
        *more: Any,
        epochs: int,
        batch_size: int,
        shuffle: bool = True,
        validation: Any = None,
        metrics: dict[str, Callable] | None = None,
        seed: int = 0,
        progress: bool | None = None,
        callback: Callable[[int, History, Any], object] | None = None,
        patience: int | None = None,
        state: Any = None,
    ) -> FitResult:
        """Train for ``epochs`` passes over ``data`` and return a :class:`FitResult`.

        data: a tuple of arrays (or trees of arrays) with one row a sample; ``loss`` gets the
        same number of rows of each. The last batch of an epoch has what is left. shuffle: a new
        order for each epoch, from ``seed`` alone. validation: data like ``data``; after each
        epoch its loss and ``metrics`` go to the history. metrics: name -> plain NumPy function
        ``(params, *batch) -> number``, called with the whole validation data. progress: True or
        False for a bar on standard error; None shows one on a terminal where rich is installed.
        callback: ``callback(epoch, history, params)`` after each epoch, epochs from 0; it may
        ``raise gc.StopTraining("why")``. patience: stop after so many epochs in a row without a
        lower validation loss; params and state of the best epoch are returned, however it ends.

        params: the parameters to begin with, or a :class:`FitResult` to go on from: its parameters,
        the optimizer's state (moments, number of steps), and the order of the samples, that of the
        epochs that follow. With the data, seed and options of before, fits of 3 and 2 epochs give
        what one of 5 does, bit by bit. An epoch that was not finished begins again. The history is
        that of the new epochs alone, counted from 0, and patience begins anew. state: the state of
        the optimizer alone, for parameters; the order of the samples is then that of epoch 0 on.

        ``params`` and ``data`` are not modified. Ctrl-C ends training after the current step: the
        parameters of the last finished step are returned, with ``history.stopped`` set; a second
        Ctrl-C does not wait for the step and raises KeyboardInterrupt. A loss
        or parameters that are not finite end it too, with a warning and the last good
        parameters. Raises DataError for data that cannot be used, OptionError for options.
        """
        if more:
            raise OptionError("fit: the parts of the data are one tuple: fit(params, (x, y), ...)")
        epochs = _positive_int("epochs", epochs)
        batch_size = _positive_int("batch_size", batch_size)
        seed = _int("seed", seed)
        shuffle = _bool("shuffle", shuffle)
        if progress is not None:
            progress = _bool("progress", progress)
        metrics = _checked_metrics(metrics)
        data = _as_tuple(data, self.loss)
        _check_count(self.loss, len(data))
        _check_callback(callback)
        names = _batch_names(self.loss, len(data))
        data, samples = _checked_data(data, names)
        if validation is not None:
            validation = _as_tuple(validation, self.loss)
            if len(validation) != len(data):
                raise DataError(
                    f"validation has {counted(len(validation), 'part')}, "
                    f"the training data {len(data)}"
                )
            validation, _ = _checked_data(validation, [f"validation {n}" for n in names])
            check_like(validation, data, names)
        elif metrics:
            raise OptionError("fit: metrics are computed on validation data; give validation=(...)")
        if patience is not None:
            patience = _positive_int("patience", patience)
            if validation is None:
                raise OptionError(
                    "fit: patience waits for a lower validation loss; give validation=(...)"
                )
        params, state, first_epoch = start(params, state, self.optimizer)
        engine = self._engine(params, state, data, min(batch_size, samples))
        history = History(
            metrics={name: Series() for name in metrics}, compile_s=engine.compile_s,
            first_epoch=first_epoch, memory=engine.memory,
        )  # fmt: skip
        session = _Session(
            engine=engine,
            epochs=epochs,
            steps_per_epoch=math.ceil(samples / batch_size),
            shuffle=shuffle,
            seed=seed,
            evaluate=self._evaluator(validation, metrics),
            callback=callback,
            history=history,
            patience=patience,
            explain=self._explainer(engine, names, samples, shuffle, seed),
        )
        bar = open_bar(progress, epochs, session.steps_per_epoch)
        try:
            session.run(bar)
        finally:
            bar.close()
        last = engine.finish()
        return FitResult(*(session.best or last), history)

    def _engine(self, params: Any, state: Any, data: tuple, batch_size: int) -> Engine:
        """A training, with the step that this Trainer has for such arrays, or a new one."""
        began = time.perf_counter()
        types = StepTypes.of(params, state, data)
        if self.engine == "native":
            from graphc.train.native import CompiledStep, NativeEngine

            threads = thread_count(self.threads)
            step = self._prepared.step((types, threads), lambda: CompiledStep(
                self.loss, self.optimizer, types, threads, _limit_bytes(self.memory_limit)
            ))  # fmt: skip
            engine: Engine = NativeEngine(step, params, state, data, batch_size)
        else:
            from graphc.train.interpreted import InterpretedEngine

            step = self._prepared.step(types, lambda: TracedStep(self.loss, self.optimizer, types))
            engine = InterpretedEngine(step, params, state, data, batch_size)
        engine.compile_s = time.perf_counter() - began
        return engine

    def _explainer(self, engine: Engine, names, samples: int, shuffle: bool, seed: int):
        """``(epoch, step of the epoch) -> NonFiniteError``, None unless checked."""
        if not self.checked:
            return None

        def explain(epoch: int, step: int) -> NonFiniteError | None:
            first = step * engine.batch_size
            rows = slice(first, min(first + engine.batch_size, samples))
            order = permutation(samples, seed, epoch) if shuffle else np.arange(samples)
            return engine.explain(order[rows], names, self.checked == "strict")

        return explain

    def _evaluator(self, validation: tuple | None, metrics: dict[str, Callable]):
        """``params -> {name: value}`` on the validation data, None without."""
        if validation is None:
            return None
        from graphc import api

        kind = api.interpret if self.engine == "interpreter" else api.compile
        loss = self._prepared.validation(lambda: kind(self.loss))

        def evaluate(params):
            values = {"val_loss": float(loss(params, *validation))}
            for name, fn in metrics.items():
                values[name] = _number(name, fn(params, *validation))
            return values

        return evaluate


def _limit_bytes(limit: int | str | None) -> int | None:
    if limit is None:
        return None
    from graphc.memory import limit_bytes

    return limit_bytes(limit)


@dataclass
class _Session:
    """One fit: starts runs, watches them, keeps the history."""

    engine: Engine
    epochs: int
    steps_per_epoch: int
    shuffle: bool
    seed: int
    evaluate: Callable | None
    callback: Callable | None
    history: History
    patience: int | None = None
    best: tuple[Any, Any] | None = None  # parameters and state of the least validation loss
    explain: Callable[[int, int], NonFiniteError | None] | None = None
    native_seconds: float = 0.0
    shown: dict[str, float] = field(default_factory=dict)
    current: Run | None = None
    told: bool = False  # that what a callback returns means nothing

    def run(self, bar: Bar) -> None:
        # Nothing to do between epochs: all of them in one call.
        together = 1 if self.evaluate or self.callback else self.epochs
        try:
            for epoch in range(0, self.epochs, together):
                self.current = self.engine.start(
                    epochs=together, shuffle=self.shuffle, seed=self.seed,
                    first_epoch=self.history.first_epoch + epoch,
                )  # fmt: skip
                self._watch(bar)
                self._finish()
                if self.history.stopped:
                    return
                self._after_epoch(epoch, bar)
                if self.history.stopped:
                    return
        except KeyboardInterrupt:
            self.history.stopped = "interrupted"
        finally:
            if self.current is not None:
                self.current.stop()
                try:
                    self._finish()
                except KeyboardInterrupt:  # once more: nobody waits for the step
                    self.current.abandon()
                    raise

    def _watch(self, bar: Bar) -> None:
        """Wait for the end of the run, and show how far it is; Ctrl-C ends the wait."""
        while not self.current.wait(_BETWEEN_LOOKS):
            steps, loss = self.current.progress()
            if steps:
                bar.update(self.history.steps + steps, {"loss": loss, **self.shown})

    def _finish(self) -> None:
        """Wait for the current run and take up what it did."""
        try:
            result = self.current.result()
        except Exception:
            self.current = None
            raise
        self.current = None
        self._record(result)

    def _record(self, result: EpochResult) -> None:
        history = self.history
        history.loss.extend(result.epoch_losses)
        if epochs := len(result.epoch_losses):
            history.seconds.extend(np.broadcast_to(result.seconds / epochs, epochs))
        history.steps += result.steps
        self.native_seconds += result.seconds
        if history.steps:
            history.us_per_step = 1e6 * self.native_seconds / history.steps
        if result.status == NONFINITE:
            step = history.steps + 1
            history.stopped = f"non-finite loss at step {step}"
            why = ""
            if self.explain is not None:
                epoch, within = divmod(history.steps, self.steps_per_epoch)
                history.error = self.explain(history.first_epoch + epoch, within)
                why = f"\n{history.error}" if history.error is not None else ""
            warnings.warn(
                f"training stopped: non-finite loss at step {step} "
                f"(epoch {history.steps // self.steps_per_epoch + 1} of {self.epochs}); the "
                f"parameters before that step are kept. A smaller learning rate may help.{why}",
                TrainingWarning,
                stacklevel=frames_to_user(),
            )
        elif result.status == STOPPED:
            history.stopped = "interrupted"

    def _after_epoch(self, epoch: int, bar: Bar) -> None:
        history = self.history
        if self.evaluate or self.callback:
            params = self.engine.params()
        if self.evaluate:
            values = self.evaluate(params)
            history.val_loss.append(values["val_loss"])
            for name, series in history.metrics.items():
                series.append(values[name])
            self.shown = values
        bar.update(history.steps, {"loss": history.loss[-1], **self.shown})
        if self.patience:
            self._wait_for_less(epoch, params)
        if self.callback:
            try:
                returned = self.callback(epoch, history, params)
            except StopTraining as stop:
                history.stopped = str(stop) or "stopped by the callback"
            else:
                self._tell_of_true(returned)

    def _wait_for_less(self, epoch: int, params: Any) -> None:
        history = self.history
        losses, best = history.val_loss, history.best_epoch
        if best is None or losses[epoch] < losses[best] or math.isnan(losses[best]):
            history.best_epoch, self.best = epoch, (params, self.engine.state())
        elif epoch - best >= self.patience:
            history.stopped = f"no lower val_loss for {self.patience} epochs"

    def _tell_of_true(self, returned: object) -> None:
        """Progress bars return True now and then, so that alone does not end hours of training."""
        if returned is True and not self.told:
            self.told = True
            warnings.warn(
                "the callback returned True, and training goes on; to stop, write "
                'raise graphc.StopTraining("why")',
                TrainingWarning,
                stacklevel=frames_to_user(),
            )


def _as_tuple(data: Any, loss: Callable) -> tuple:
    """The parts of a batch. A list ``[X, y]`` is them too, unless the loss takes it as one."""
    if isinstance(data, tuple):
        return data
    if isinstance(data, list) and len(data) > 1 and len(required_names(loss)) == 1 + len(data):
        return tuple(data)
    return (data,)


def _check_count(loss: Callable, parts: int) -> None:
    """DataError where the loss takes another number of arguments."""
    if misfit(loss, *[None] * (1 + parts)) is not None:
        raise DataError(
            f"`{name_of(loss)}` takes {signature_of(loss)}, of which the first are the parameters, "
            f"but the data has {counted(parts, 'part')}.\nGive fit(params, (x, y), ...) a tuple "
            "with an array for each of the others."
        )


def _check_callback(callback: Any) -> None:
    if callback is None:
        return
    told = "callback must be a function of (epoch, history, params)"
    if not callable(callback):
        raise OptionError(f"{told}, not {kind_of(callback)}")
    if misfit(callback, 0, None, None) is not None:
        raise OptionError(f"{told}; this one takes {signature_of(callback)}")


def _checked_data(data: tuple, names: list[str]) -> tuple[tuple, int]:
    for tree, name in zip(data, names, strict=True):
        for leaf, path in zip(flatten(tree)[0], leaf_paths(tree, name), strict=True):
            refuse_lossy(leaf, f"`{path}`", DataError)
    return check_data(data, names)


def _bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _checked_metrics(metrics: Any) -> dict[str, Callable]:
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise OptionError(
            "metrics must be a dict from names to functions, such as "
            f"{{'accuracy': accuracy}}, not {kind_of(metrics)}"
        )
    for name, fn in metrics.items():
        if not callable(fn):
            raise OptionError(f"metrics[{name!r}] must be a function, not {fn!r}")
    return dict(metrics)


def _number(name: str, value: Any) -> float:
    """The value of a metric."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        what = "None" if value is None else f"shape {array.shape} of {array.dtype}"
        raise OptionError(
            f"metrics[{name!r}] must return one number, but returned {what}; return its mean or sum"
        )
    return float(array.reshape(()))


def _positive_int(name: str, value: Any) -> int:
    number = _int(name, value)
    if number < 1:
        raise OptionError(f"{name} must be an integer of at least 1, not {value!r}")
    return number


def _int(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise OptionError(f"{name} must be an integer, not {value!r}") from None


def _batch_names(loss: Callable, count: int) -> list[str]:
    """How the loss calls the parts of a batch."""
    names = positional_names(loss)[1:]
    return [names[i] if i < len(names) else f"data[{i}]" for i in range(count)]
