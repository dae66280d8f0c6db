"""A progress bar for training: rich's where it is installed, a plain line otherwise."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import Protocol

_SECONDS_BETWEEN_LINES = 0.1


class Bar(Protocol):
    def update(self, steps: int, values: dict[str, float]) -> None:
        """``steps`` done in all; ``values`` to show behind the bar."""

    def close(self) -> None: ...


def open_bar(wanted: bool | None, epochs: int, steps_per_epoch: int) -> Bar:
    """``wanted`` None: a bar where rich is installed and standard error is a terminal."""
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        return NoBar()
    has_rich = find_spec("rich") is not None  # looks into folders
    if wanted is None and not has_rich:
        return NoBar()
    kind = RichBar if has_rich else PlainBar
    return kind(epochs, steps_per_epoch)


class NoBar:
    def update(self, steps: int, values: dict[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


def _describe(steps: int, epochs: int, steps_per_epoch: int) -> str:
    epoch = min(steps // steps_per_epoch + 1, epochs)
    return f"epoch {epoch}/{epochs}"


def _format(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())


class RichBar:
    def __init__(self, epochs: int, steps_per_epoch: int):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TextColumn("{task.fields[shown]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=epochs * steps_per_epoch, shown="")
        self._progress.start()

    def update(self, steps: int, values: dict[str, float]) -> None:
        self._progress.update(
            self._task,
            completed=steps,
            description=_describe(steps, self._epochs, self._steps_per_epoch),
            shown=_format(values),
        )

    def close(self) -> None:
        self._progress.stop()


class PlainBar:
    """One line on standard error, rewritten in place."""

    def __init__(self, epochs: int, steps_per_epoch: int):
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._last = -1.0
        self._line = ""

    def update(self, steps: int, values: dict[str, float]) -> None:
        total = self._epochs * self._steps_per_epoch
        epoch = _describe(steps, self._epochs, self._steps_per_epoch)
        self._line = f"{epoch}  {steps}/{total} steps  {_format(values)}"
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._write("")

    def close(self) -> None:
        self._write("\n")

    def _write(self, end: str) -> None:
        sys.stderr.write(f"\r{self._line}\x1b[K{end}")
        sys.stderr.flush()
