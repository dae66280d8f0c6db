"""The command line of ``python -m bench``.

Only the standard library is imported up here: the thread counts must be set before NumPy loads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.environment import describe, pin_to_one_thread

RESULTS = Path(__file__).parent / "results"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help="such as W3 W4a; all when none is named")
    parser.add_argument("--peers", help="comma separated: a library (jax) or one row (jax-step)")
    parser.add_argument("--torch-compile", action="store_true", help="also the slow-to-compile row")
    parser.add_argument(
        "--name", help="name of the result files; default latest, partial for a part or --quick"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument("--quick", action="store_true", help="short rounds: seconds a workload")
    parser.add_argument("--rounds", type=int, help="rounds of A B C")
    parser.add_argument("--core", type=int, help="core to stay on; default the idlest")
    parser.add_argument("--list", action="store_true", help="name the workloads and stop")
    parser.add_argument(
        "--readme", action="store_true", help="put measured results into the documents and stop"
    )
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.name is None:
        # What is published must not be overwritten by a look at one workload.
        part = options.workloads or options.peers or options.quick
        options.name = "partial" if part and not options.readme else "latest"
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.readme:
        from bench.readme import publish

        publish(options.out / f"{options.name}.json")
        return 0
    pin_to_one_thread(options.core)
    return run(options)


def run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from bench import registry, report
    from bench.limits import measure_rates
    from bench.measure import ERROR, WRONG, run_workload

    console = make_console()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    known = registry.discover()
    if options.list:
        for workload in known.values():
            console.print(f"{workload.name:6} {workload.title}")
        return 0
    missing = [name for name in options.workloads if name not in known]
    if missing:
        console.print(f"no workload {', '.join(missing)}; there are {', '.join(known)}")
        return 2
    effort, rows = choose_effort(options), []
    for name in options.workloads or known:
        found = run_workload(known[name], effort, peer_filter(options), say)
        report.print_table(console, known[name], found)
        rows += found
    rates = measure_rates()
    limits = {n: rates.limit_us(w.work) for n, w in known.items() if w.work is not None}
    meta = describe() | {
        "rounds": effort.rounds,
        "seconds_per_round": effort.seconds,
        "workloads": {name: known[name].title for name in options.workloads or known},
        "rates": asdict(rates),
        "limits_us": {n: us for n, us in limits.items() if n in (options.workloads or known)},
    }
    target = options.out / options.name
    report.write_json(target.with_name(f"{options.name}.json"), meta, rows)
    report.write_chart(target.with_name(f"{options.name}.png"), meta, rows)
    say(f"written: {target}.json and .png")
    return int(any(row.status in (WRONG, ERROR) for row in rows))


def make_console():
    """A console wide enough for the table where the output is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=100, highlight=False)


def choose_effort(options: argparse.Namespace):
    from dataclasses import replace

    from bench.measure import FULL, QUICK

    effort = QUICK if options.quick else FULL
    return replace(effort, rounds=options.rounds) if options.rounds else effort


def peer_filter(options: argparse.Namespace):
    """Keep the peers named by --peers, by library or by row; torch-compile only when asked for."""
    from bench.peers import ONLY_ON_REQUEST
    from bench.report import family

    asked = {name.strip() for name in (options.peers or "").split(",") if name.strip()}
    on_request = set(ONLY_ON_REQUEST) if options.torch_compile else set()

    def wanted(peer: str) -> bool:
        if peer in asked:
            return True
        if peer in ONLY_ON_REQUEST and peer not in on_request:
            return False
        return not asked or family(peer) in asked

    return wanted
