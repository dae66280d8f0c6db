"""Compiled functions for other languages: a C pointer, its declaration, ctypes."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np

from graphc.runtime.executor import Executable, pointer
from graphc.runtime.loader import NativeFunction


class CFunction:
    """A compiled function at fixed sizes, as C calls it; made by ``f.c_function(*examples)``.

    Attributes
    ----------
    address : of the function, an int. It is valid as long as this object lives.
    header : its declaration in C, one pointer for each leaf of the arguments, then of the result.
    ctypes : the function as :mod:`ctypes` calls it, without the GIL.
    parameters : its parameters: name, type with plain sizes, and role ("in", "out", "inout").
    structure : of the result, with the position of a parameter for each leaf.
    """

    def __init__(self, name: str, run: Executable, arrays, structure: Any):
        from graphc.codegen import c_interface
        from graphc.codegen.llvm_backend import optimize_and_emit

        binding = run.bind(arrays)
        binding.watch[:] = 0  # no Python around to look for signals
        artifact = run.artifact
        donors = {o.donor for o in artifact.outputs}
        own = [k for k, o in enumerate(artifact.outputs) if o.donor is None]
        names = _identifiers([n for n, _ in artifact.inputs], len(own))
        roles = ["inout" if k in donors else "in" for k in range(len(artifact.inputs))]
        roles += ["out"] * len(own)
        self.name = name
        self.parameters = tuple(map(c_interface.Pointer, names, binding.types, roles))
        self.checks = artifact.checks
        # Where each output of the program is among the parameters.
        self.results = tuple(
            len(artifact.inputs) + own.index(k) if o.donor is None else o.donor
            for k, o in enumerate(artifact.outputs)
        )
        self.structure = structure
        memory = c_interface.Memory(
            run.native.address, tuple(map(pointer, artifact.consts)), binding.ints,
            binding.plan.nbytes, _address("PyMem_RawMalloc"), _address("PyMem_RawFree"),
        )  # fmt: skip
        count = len(self.parameters)
        text = c_interface.wrapper(range(count), count + len(artifact.consts), memory)
        self._native = NativeFunction(optimize_and_emit([text], c_interface.ENTRY).object_code)
        self._kept = run
        self.address = self._native.address
        self.header = c_interface.header(name, self.parameters)
        self.ctypes = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * count)(self.address)

    def __repr__(self) -> str:
        return f"<C function {self.name} of {len(self.parameters)} pointers>"


def _address(name: str) -> int:
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def _identifiers(paths: list[str], outputs: int) -> list[str]:
    """C names of inputs, as a user writes them: ``params['W']`` -> ``params_W``; of outputs."""
    names: list[str] = []
    for path in [*paths, *(f"out{k}" for k in range(outputs))]:
        name = re.sub(r"\W+", "_", path).strip("_") or "x"
        name = name if name[0].isalpha() and name not in _KEYWORDS else f"arg_{name}"
        while name in names:
            name += "_"
        names.append(name)
    return names


_KEYWORDS = frozenset(keyword for line in """
auto bool break case char class const continue default delete do double else enum extern float for
goto if inline int long new private public register restrict return short signed sizeof static
struct switch template this typedef union unsigned void volatile while
""".splitlines() for keyword in line.split())  # fmt: skip


def example_of(dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """An array that stands for its kind: its elements are never read and take no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)
