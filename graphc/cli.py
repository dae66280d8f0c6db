"""The command ``graphc``. Imports wait until a command needs them, so that it starts at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_STAGES = ("traced", "adjoint", "optimized", "fused", "loops", "llvm")
_USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    from graphc.errors import GraphcError

    parser = _parser()
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        parser.print_help(sys.stderr)
        return _USAGE_ERROR
    options = parser.parse_args(argv)
    try:
        return options.run(options) or 0
    except GraphcError as error:
        print(f"graphc: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except BrokenPipeError:  # the reader of our output has gone: `graphc dump ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"graphc: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="graphc",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compile and train plain NumPy functions on the CPU.",
        epilog=(
            "examples:\n"
            "  graphc demo --epochs 5\n"
            "  graphc dump examples/digits.py:loss --grad --stage loops\n"
            "  graphc dump --help"
        ),
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train a network on handwritten digits")
    demo.add_argument("--data", metavar="DIR", help="a folder of MNIST-format IDX files")
    demo.add_argument("--epochs", type=int, metavar="N", help="passes over the training data")
    demo.add_argument(
        "--out", default="graphc-demo", metavar="DIR", help="where results go (./graphc-demo)"
    )
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="of split, weights, order")
    demo.set_defaults(run=_demo)

    dump = commands.add_parser(
        "dump",
        help="print a stage of a function",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print what graphc makes of a function.",
        epilog=(
            "arguments of the function:\n"
            '  --args "f32[32,64] f32[64,10]"            arrays; f32 alone is a scalar\n'
            "  --args \"{'W': f32[3,4], 'b': f32[4]}\"     any nesting of dict, list, tuple\n"
            '  --args "f32[n,64] i64[n]"                 n: a size left open\n'
            "without --args: FUNCTION.example, or `example` or `EXAMPLE` in the file, the\n"
            "tuple of arguments or a function that returns it"
        ),
    )
    dump.add_argument("target", metavar="FILE.py:FUNCTION")
    dump.add_argument(
        "--stage", default="optimized", metavar="STAGE", help=f"{', '.join(_STAGES)} (optimized)"
    )
    dump.add_argument("--grad", action="store_true", help="of its value and gradient")
    dump.add_argument("--args", nargs="+", metavar="TYPE", help="the types of its arguments")
    dump.set_defaults(run=_dump)

    cache = commands.add_parser("cache", help="show or empty the kernel cache")
    cache.add_argument("--clear", action="store_true", help="remove every entry")
    cache.set_defaults(run=_cache)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        from graphc import __version__

        print(f"graphc {__version__}")
        parser.exit()


def _demo(options) -> None:
    from graphc.demo import run

    run(data=options.data, epochs=options.epochs, out=Path(options.out), seed=options.seed)


def _dump(options) -> None:
    from graphc import api, errors
    from graphc.report import inspect, targets

    if options.stage not in _STAGES:
        raise errors.unknown_name("stage", options.stage, _STAGES)
    function, module = targets.load(options.target)
    if options.args is None:
        args = targets.example(function, module)
    else:
        args = targets.parse_arguments(" ".join(options.args))
    targets.check_arguments(function, args)
    if options.grad:
        function = api.value_and_grad(function)
    sys.stdout.write(inspect(function, *args).stage(options.stage))


def _cache(options) -> None:
    from graphc.runtime import cache

    if options.clear:
        print(f"removed {cache.clear()} entries from {cache.folder()}")
        return
    entries = cache.entries()
    size = sum(path.stat().st_size for path in entries)
    print(f"{cache.folder()}: {len(entries)} entries, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())
