"""``python -m bench.threads``: one thread and two in turn, on the workloads that threads share.

Prints a table: microseconds a step (the least of all rounds) and how many times faster two are.
The other peers are not asked; ``python -m bench`` compares on one thread.
"""

from __future__ import annotations

import argparse
import os
import time

WORKLOADS = {"W4b": "graphc-epoch", "W5": "graphc-epoch", "W7": "graphc-epoch", "W8": "graphc-step"}
VARIABLE = "GRAPHC_NUM_THREADS"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.threads", description=__doc__)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), help="such as W4b W8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.15, help="of each measurement")
    options = parser.parse_args()
    print(f"{'':4} {'1 thread':>12} {f'{options.threads} threads':>12} {'ratio':>6}")
    for name in options.workloads:
        one, several = measure(name, options.threads, options.rounds, options.seconds)
        print(f"{name:4} {one:9.0f} us {several:9.0f} us {one / several:6.2f}", flush=True)


def measure(name: str, threads: int, rounds: int, seconds: float) -> tuple[float, float]:
    """Microseconds a step on one thread and on several."""
    from bench import registry

    peer = WORKLOADS[name]
    case = registry.discover()[name].make()
    runners, calls, best = {}, {}, {}
    for count in (1, threads):
        os.environ[VARIABLE] = str(count)
        runners[count] = case.peers[peer]()
        runners[count].run(2)
        calls[count] = max(1, round(seconds / _seconds(runners[count], 2) * 2))
        best[count] = float("inf")
    for _ in range(rounds):
        for count, runner in runners.items():
            os.environ[VARIABLE] = str(count)
            steps = calls[count] * runner.steps_per_call
            best[count] = min(best[count], _seconds(runner, calls[count]) / steps * 1e6)
    return best[1], best[threads]


def _seconds(runner, calls: int) -> float:
    started = time.perf_counter()
    measured = runner.run(calls)
    return time.perf_counter() - started if measured is None else measured


if __name__ == "__main__":
    main()
