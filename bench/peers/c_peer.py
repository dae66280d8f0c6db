"""C compiled on the spot by the machine's own compiler; "not available" where there is none."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

FLAGS = ("-Ofast", "-march=native", "-mprefer-vector-width=512", "-fPIC")


def compile_c(name: str) -> Callable:
    """The function `name(long, pointers...)` of `name.c` in this folder."""
    text = Path(__file__).with_name(f"{name}.c").read_text()
    function = getattr(compile_text(text), name)
    function.restype = None

    def call(count: int, *addresses: int) -> None:
        function(ctypes.c_long(count), *map(ctypes.c_void_p, addresses))

    return call


def compile_text(text: str, flags: tuple[str, ...] = FLAGS) -> ctypes.CDLL:
    """The functions of a program in C."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise ImportError("no C compiler `cc`")
    with tempfile.TemporaryDirectory() as folder:
        unit, library = Path(folder) / "peer.o", Path(folder) / "peer.so"
        _run([compiler, *flags, "-c", "-x", "c", "-", "-o", str(unit)], text)
        # Linked without the flags: after -Ofast a library flushes subnormals in whoever loads it.
        _run([compiler, "-shared", str(unit), "-o", str(library), "-lmvec", "-lm"])
        return ctypes.CDLL(str(library))


def _run(command: list[str], text: str = "") -> None:
    done = subprocess.run(command, capture_output=True, text=True, input=text)
    if done.returncode:
        raise ImportError(f"{command[0]}: {done.stderr.strip().splitlines()[-1]}")
