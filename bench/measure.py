"""Check every peer against the reference, then time the correct ones in turn."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from bench.core import Case, Outcome, Reference, Runner, Tolerance, Workload

OK, WRONG, ERROR, SKIPPED = "ok", "WRONG", "error", "skipped"
COMPILED = {"epoch": "graphc-epoch", "step": "graphc-step"}
FIXED_SHARE = 0.01  # of a timed run may be what it costs to enter the library


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: float  # how long one peer runs in one round


FULL = Effort(rounds=7, seconds=0.2)
QUICK = Effort(rounds=3, seconds=0.02)


@dataclass
class Row:
    """One line of the results. Times are microseconds for one step."""

    workload: str
    peer: str
    status: str = OK
    note: str = ""
    mode: str | None = None
    loss_error: float | None = None
    param_error: float | None = None
    us_per_step: float | None = None
    us_min: float | None = None
    us_max: float | None = None
    spread: float | None = None
    us_per_step_wall: float | None = None
    us_per_step_inside: float | None = None  # the library's own count of its steps alone
    steps_per_round: int | None = None
    fixed_share: float | None = None  # of a round that was not spent in steps, as estimated
    rounds: list[float] = field(default_factory=list)
    ratio_to_best: float | None = None
    ratio_to_graphc: float | None = None


def run_workload(
    workload: Workload,
    effort: Effort,
    wanted: Callable[[str], bool] = lambda peer: True,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Rows of the wanted peers: checked first, then timed, the correct ones only."""
    try:
        case = workload.make()
    except ImportError as error:  # its data come with a library
        say(f"{workload.name}: {SKIPPED}: not available ({error})")
        return []
    rows, runners = [], {}
    for peer in filter(wanted, case.peers):
        row, runner = check_peer(workload.name, peer, case)
        rows.append(row)
        if row.status == OK:
            runners[peer] = runner
        else:
            say(f"{workload.name} {peer}: {row.status}: {row.note}")
    for peer, timing in time_in_turn(runners, effort).items():
        _record(next(row for row in rows if row.peer == peer), timing)
    add_ratios(rows)
    return rows


# ---- values first -------------------------------------------------------------------------------


def check_peer(workload: str, peer: str, case: Case) -> tuple[Row, Runner | None]:
    """Build one peer and compare its check run with the reference."""
    row = Row(workload, peer)
    try:
        runner = case.peers[peer]()
        row.mode = runner.mode
        outcome = runner.check()
        row.loss_error, row.param_error = errors(outcome, case.reference)
    except ImportError as error:
        row.status, row.note = SKIPPED, f"not available ({error})"
        return row, None
    except Exception as error:  # one broken peer must not end the run
        row.status, row.note = ERROR, f"{type(error).__name__}: {_first_line(error)}"
        return row, None
    row.note = disagreement(row.loss_error, row.param_error, case.tolerance)
    if row.note:
        row.status = WRONG
    return row, runner


def errors(outcome: Outcome, reference: Reference) -> tuple[float, float]:
    """Largest relative error of a loss, and of the way a parameter went.

    A parameter's error is measured against the distance it travelled, not its size: a step that
    is wrong by half would hide behind large weights.
    """
    expected = expected_losses(reference, np.size(outcome.losses))
    loss_error = np.max(np.abs(outcome.losses.ravel() - expected) / np.abs(expected))
    if outcome.params.keys() != reference.params.keys():
        raise ValueError(f"parameters {sorted(outcome.params)}, not {sorted(reference.params)}")
    param_errors = [
        np.linalg.norm(_same_shape(outcome.params[name], end) - end)
        / np.linalg.norm(end - reference.start[name])
        for name, end in reference.params.items()
    ]
    return float(loss_error), float(np.max(param_errors))  # np.max keeps a NaN, max() may not


def expected_losses(reference: Reference, count: int) -> np.ndarray:
    """The reference's losses as a peer reports them: each step, each epoch, or the last epoch."""
    epochs, steps = reference.losses.shape
    if count == epochs * steps:
        return reference.losses.ravel()
    if count == epochs:
        return reference.epoch_means
    if count == 1:
        return reference.epoch_means[-1:]
    raise ValueError(f"{count} losses for {epochs} epochs of {steps} steps")


def disagreement(loss_error: float, param_error: float, tolerance: Tolerance) -> str:
    """What is wrong, or an empty string; NaN is wrong."""
    found = []
    if not loss_error <= tolerance.loss:
        found.append(f"loss off by {loss_error:.1e}, allowed {tolerance.loss:.0e}")
    if not param_error <= tolerance.params:
        found.append(f"parameters off by {param_error:.1e}, allowed {tolerance.params:.0e}")
    return "; ".join(found)


def _same_shape(value: np.ndarray, like: np.ndarray) -> np.ndarray:
    value = np.asarray(value)
    if value.shape != like.shape:
        raise ValueError(f"a parameter of shape {value.shape}, not {like.shape}")
    return value


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


# ---- then time ----------------------------------------------------------------------------------


@dataclass
class Timing:
    """Rounds of one peer; `fixed` is what a run costs besides its steps, in seconds."""

    calls: int
    steps_per_call: int
    fixed: float = 0.0
    seconds: list[float] = field(default_factory=list)  # as the peer's own clock has it, if any
    wall: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)

    def us_per_step(self, seconds: Iterable[float]) -> list[float]:
        return [s / (self.calls * self.steps_per_call) * 1e6 for s in seconds]


def time_in_turn(runners: dict[str, Runner], effort: Effort) -> dict[str, Timing]:
    """A B C, A B C, ...: a machine that slows down for a while slows down for everyone.

    The first round is not counted: memory that a process asks for the first time can cost as much
    as the steps that write to it.
    """
    timings = {peer: calibrate(runner, effort.seconds) for peer, runner in runners.items()}
    gc.collect()
    gc.freeze()  # so that one peer's garbage collection does not walk another peer's library
    try:
        for _ in range(1 + effort.rounds):
            for peer, runner in runners.items():
                _time_once(runner, timings[peer])
    finally:
        gc.unfreeze()
    for timing in timings.values():
        for clock in (timing.seconds, timing.wall, timing.inside):
            del clock[:1]
    return timings


def calibrate(runner: Runner, seconds: float) -> Timing:
    """How many calls fill `seconds` and make the fixed cost of a run negligible.

    All by the clock that the row is timed with. Entering a library costs a fixed time, whatever
    the number of epochs: with few epochs in a run that would be most of a small step.
    """
    runs = [(_own_seconds(runner, 1), runner.seconds_inside) for _ in range(5)]
    once, inside = min(runs)
    calls, took = 1, once
    while took < max(seconds / 4, 1.5 * once):  # long enough to tell the two parts apart
        calls *= max(2, min(100, int(seconds / 2 / max(took, 1e-9))))
        took = _own_seconds(runner, calls)
    per_call, fixed = took / calls, 0.0
    if runner.mode == "epoch":
        per_call = (took - once) / (calls - 1)
        fixed = max(0.0, once - (per_call if inside is None else inside))
    enough = max(seconds, fixed / FIXED_SHARE) / per_call
    return Timing(max(1, round(enough)), runner.steps_per_call, fixed)


def _own_seconds(runner: Runner, calls: int) -> float:
    runner.reset()
    return stopwatch(runner, calls)[0]


def stopwatch(runner: Runner, calls: int) -> tuple[float, float]:
    """Seconds by the peer's own clock where it has one, and seconds by ours."""
    start = time.perf_counter()
    own = runner.run(calls)
    wall = time.perf_counter() - start
    return wall if own is None else own, wall


def _time_once(runner: Runner, timing: Timing) -> None:
    runner.reset()
    runner.run(max(1, timing.calls // 10))  # the peer before left its data in the caches
    runner.reset()  # every round walks the same stretch, far from underflowing gradients
    seconds, wall = stopwatch(runner, timing.calls)
    timing.seconds.append(seconds)
    timing.wall.append(wall)
    if runner.seconds_inside is not None:
        timing.inside.append(runner.seconds_inside)


def _record(row: Row, timing: Timing) -> None:
    row.rounds = timing.us_per_step(timing.seconds)
    row.us_per_step = statistics.median(row.rounds)
    row.us_min, row.us_max = min(row.rounds), max(row.rounds)
    row.spread = (row.us_max - row.us_min) / row.us_per_step
    row.us_per_step_wall = statistics.median(timing.us_per_step(timing.wall))
    if timing.inside:
        row.us_per_step_inside = statistics.median(timing.us_per_step(timing.inside))
    if timing.seconds != timing.wall:
        row.note = "timed by its own clock; us_per_step_wall has everything around it too"
    row.fixed_share = timing.fixed / statistics.median(timing.seconds)
    row.steps_per_round = timing.calls * timing.steps_per_call


def add_ratios(rows: list[Row]) -> None:
    """Ratios to the fastest peer, and to graphc's compiled row of the same mode."""
    timed = {row.peer: row for row in rows if row.us_per_step}
    best = min((row.us_per_step for row in timed.values()), default=None)
    for row in timed.values():
        row.ratio_to_best = row.us_per_step / best
        graphc = timed.get(COMPILED.get(row.mode))
        row.ratio_to_graphc = row.us_per_step / graphc.us_per_step if graphc else None
