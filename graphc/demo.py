"""``graphc demo``: trains the network of ``examples/digits.py`` and shows what graphc did."""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import graphc as gc
from graphc.data import load_mnist
from graphc.errors import OptionError
from graphc.report import Report
from graphc.report.targets import load_file
from graphc.train import FitResult

_NEEDED = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}
_MEASURED_STEPS, _MEASURED_RUNS = 30, 5


@dataclass(frozen=True)
class Recipe:
    """How a data set is trained: ``rates`` are learning rates, ``shares`` of the epochs each."""

    sizes: tuple[int, ...]
    batch_size: int
    epochs: int
    rates: tuple[float, ...]
    shares: tuple[float, ...]

    def phases(self, epochs: int | None) -> list[tuple[float, int]]:
        """``(learning rate, epochs)`` in order."""
        left, result = epochs or self.epochs, []
        for rate, share in zip(self.rates, self.shares, strict=True):
            count = min(left, math.ceil(share * (epochs or self.epochs)))
            left -= count
            result.append((rate, count))
        return [(rate, count) for rate, count in result if count]


DIGITS = Recipe((64, 128, 10), batch_size=32, epochs=30, rates=(1e-3,), shares=(1.0,))
# A tenth of the learning rate at the end: the accuracy settles instead of wandering.
IDX = Recipe((784, 128, 10), batch_size=128, epochs=15, rates=(2e-3, 2e-4), shares=(0.8, 0.2))


def run(
    data: str | None = None,
    epochs: int | None = None,
    out: Path = Path("graphc-demo"),
    seed: int = 0,
) -> dict[str, Any]:
    """Train, print a table, write plots and IR to ``out``; returns what ``summary.json`` has."""
    began = time.perf_counter()
    _check_installed()
    if epochs is not None and epochs < 1:
        raise OptionError(f"--epochs must be at least 1, not {epochs}")
    model = load_file(example_path("digits"))
    if data is None:
        recipe, (train, test), source = DIGITS, model.load(seed), "scikit-learn's digits"
    else:
        recipe, (train, test), source = IDX, _load_idx(data), data
    out.mkdir(parents=True, exist_ok=True)

    from rich.console import Console

    console = Console()
    sizes = "-".join(map(str, recipe.sizes))
    console.print(f"Training {sizes} on {len(train[0])} images of {source}", highlight=False)
    fits = _train(model, recipe, train, test, epochs, seed)
    stopped = fits[-1].history.stopped
    params = fits[-1].params
    steps = sum(fit.history.steps for fit in fits)
    if not steps:
        raise KeyboardInterrupt  # before there was anything to show
    seconds_in_steps = sum(fit.history.us_per_step * 1e-6 * fit.history.steps for fit in fits)
    summary = {
        "accuracy": float(model.accuracy(params, *test)),
        "us_per_step": 1e6 * seconds_in_steps / steps,
        "interpreted_us_per_step": None,
        "autograd_us_per_step": None,
        "compile_s": fits[0].history.compile_s,
        "seconds": None,
        "steps": steps,
        "batch_size": recipe.batch_size,
        "stopped": stopped,
    }
    if not stopped:
        some = tuple(part[: _MEASURED_STEPS * recipe.batch_size] for part in train)
        summary["interpreted_us_per_step"] = _interpreted(model, recipe, some, seed)
        if find_spec("autograd"):
            summary["autograd_us_per_step"] = _autograd(model, recipe, some, seed)
    _plot(fits, out / "loss-curve.png")
    _write_ir(_report(model, recipe, params, test), out / "ir")
    summary["seconds"] = time.perf_counter() - began
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(_table(summary))
    console.print(f"Loss curve, IR of every stage and summary.json are in {out}/", highlight=False)
    return summary


def example_path(name: str) -> Path:
    """An example's file: installed with graphc, or beside it in a source tree."""
    package = Path(__file__).parent
    installed = package / "examples" / f"{name}.py"
    return installed if installed.exists() else package.parent / "examples" / f"{name}.py"


def _check_installed() -> None:
    missing = [project for module, project in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise OptionError(
            f"the demo needs {', '.join(missing)}: python3 -m pip install 'graphc[demo]'"
        )


def _load_idx(folder: str):
    """``(train, test)``: pixels as float32 in [0, 1], one row an image; integer labels."""
    x_train, y_train, x_test, y_test = load_mnist(folder)
    pixels = IDX.sizes[0]
    if math.prod(x_train.shape[1:]) != pixels:
        raise OptionError(
            f"{folder}: the demo's network takes {pixels} pixels, these images have "
            f"{' x '.join(map(str, x_train.shape[1:]))}"
        )
    classes = max(y_train.max(initial=0), y_test.max(initial=0)) + 1
    if classes > IDX.sizes[-1]:
        raise OptionError(f"{folder}: the demo's network has 10 classes, the labels {classes}")

    def scaled(x):
        return (x.reshape(len(x), -1) / np.float32(255)).astype(np.float32)

    train = scaled(x_train), y_train.astype(np.int64)
    return train, (scaled(x_test), y_test.astype(np.int64))


def _train(model: ModuleType, recipe: Recipe, train, test, epochs, seed: int) -> list[FitResult]:
    params = model.init(np.random.default_rng(seed), recipe.sizes)
    fits: list[FitResult] = []
    for phase, (rate, count) in enumerate(recipe.phases(epochs)):
        fit = gc.Trainer(model.loss, gc.optim.adam(rate)).fit(
            params,
            train,
            epochs=count,
            batch_size=recipe.batch_size,
            validation=test,
            metrics={"accuracy": model.accuracy},
            seed=seed + phase,
            progress=True,
        )
        fits.append(fit)
        params = fit.params
        if fit.history.stopped:
            break
    return fits


def _interpreted(model: ModuleType, recipe: Recipe, data: tuple, seed: int) -> float:
    """Microseconds a step when the traced step is evaluated node by node in NumPy."""
    params = model.init(np.random.default_rng(seed), recipe.sizes)
    trainer = gc.Trainer(model.loss, gc.optim.adam(recipe.rates[0]), engine="interpreter")
    fits = [
        trainer.fit(params, data, epochs=1, batch_size=recipe.batch_size, seed=seed, progress=False)
        for _ in range(_MEASURED_RUNS)
    ]
    return statistics.median(fit.history.us_per_step for fit in fits)


def _autograd(model: ModuleType, recipe: Recipe, data: tuple, seed: int) -> float:
    """Microseconds a step of the package autograd: its tape, and the update in NumPy."""
    import autograd
    import autograd.numpy as anp

    class Namespace:
        """autograd.numpy with the function that it lacks."""

        def __getattr__(self, name):
            return getattr(anp, name)

        @staticmethod
        def take_along_axis(z, indices, axis):
            return z[np.arange(len(indices)), indices[:, 0]]

    copy = load_file(example_path("digits"))
    copy.np = Namespace()
    value_and_grad = autograd.value_and_grad(copy.loss)
    adam = gc.optim.adam(recipe.rates[0])
    params = model.init(np.random.default_rng(seed), recipe.sizes)
    state, times = adam.init(params), []
    for _ in range(_MEASURED_RUNS):
        start, steps = time.perf_counter(), 0
        for first in range(0, len(data[0]), recipe.batch_size):
            batch = [part[first : first + recipe.batch_size] for part in data]
            _, grads = value_and_grad(params, *batch)
            params, state = adam.update(params, grads, state)
            steps += 1
        times.append(1e6 * (time.perf_counter() - start) / steps)
    return statistics.median(times)


def _plot(fits: list[FitResult], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    loss = [v for fit in fits for v in fit.history.loss]
    val_loss = [v for fit in fits for v in fit.history.val_loss]
    accuracy = [v for fit in fits for v in fit.history["accuracy"]]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.semilogy(range(1, len(loss) + 1), loss, label="training loss")
    axes.semilogy(range(1, len(val_loss) + 1), val_loss, label="held-out loss")
    axes.set(xlabel="epoch", ylabel="cross-entropy", title="graphc demo")
    right = axes.twinx()
    epochs = range(1, len(accuracy) + 1)
    right.plot(epochs, accuracy, color="tab:green", label="held-out accuracy")
    right.set(ylabel="accuracy")
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def _report(model: ModuleType, recipe: Recipe, params, test) -> Report:
    batch = tuple(part[: recipe.batch_size] for part in test)
    trainer = gc.Trainer(model.loss, gc.optim.adam(recipe.rates[0]))
    return gc.inspect(trainer, params, *batch)


def _write_ir(report: Report, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for stage in report.stages:
        (folder / f"{stage}.txt").write_text(report.stage(stage))


def _table(summary: dict[str, Any]):
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    if summary["stopped"]:
        table.add_row("training stopped", f"{summary['stopped']}, {summary['steps']} steps done")
    native = summary["us_per_step"]
    table.add_row("held-out accuracy", f"{100 * summary['accuracy']:.2f} %")
    table.add_row("one training step, compiled", f"{native:.1f} us")
    for name, label in (
        ("interpreted_us_per_step", "the same step, interpreted autodiff (graphc's own graph)"),
        ("autograd_us_per_step", "the same step, interpreted autodiff (package autograd)"),
    ):
        if summary[name] is not None:
            table.add_row(label, f"{summary[name]:.1f} us")
            table.add_row("  ratio to compiled", f"{summary[name] / native:.1f} x")
    table.add_row("time to compile", f"{summary['compile_s']:.2f} s")
    table.add_row("time in all", f"{summary['seconds']:.1f} s")
    return table
