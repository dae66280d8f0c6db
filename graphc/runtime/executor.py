"""Call an artifact with NumPy arrays: bind sizes once, plan the arena, pass pointers."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import time
from collections.abc import Mapping, Sequence, Set

import numpy as np

from graphc.errors import DTypeError, ShapeError
from graphc.ir.dims import Dim
from graphc.ir.types import TensorType
from graphc.runtime import interrupt, team
from graphc.runtime.artifact import Artifact
from graphc.runtime.loader import NativeFunction
from graphc.runtime.memory import allocator
from graphc.runtime.tape import Capacities
from graphc.schedule.memory import (
    ALIGNMENT,
    INTERRUPTED,
    STATUS_WORDS,
    TEAM_WORDS,
    WATCH_WORDS,
    Plan,
    plan,
)

_KEPT_SIZES = 16


def aligned_empty(nbytes: int) -> np.ndarray:
    """Bytes that start on a cache line."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    shift = -raw.ctypes.data % ALIGNMENT
    return raw[shift : shift + nbytes]


_HUGE_PAGE = 2 << 20


def arena_of(nbytes: int) -> np.ndarray:
    """Memory for temporaries, on a cache line; in huge pages, where the system has them and at most
    half of the last one stays unused. Their memory lies in one piece, so what a cache can hold of
    it is not left to the pages that the system happened to find."""
    in_pages = (nbytes + _HUGE_PAGE // 2) // _HUGE_PAGE * _HUGE_PAGE
    if not in_pages or not hasattr(mmap, "MADV_HUGEPAGE"):
        return aligned_empty(nbytes)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        memory = mmap.mmap(-1, max(nbytes, in_pages) + _HUGE_PAGE, flags=flags)
    except OSError:
        return aligned_empty(nbytes)  # or MemoryError, which says how much it is
    raw = np.frombuffer(memory, np.uint8)
    first = -raw.ctypes.data % _HUGE_PAGE
    with contextlib.suppress(OSError):  # a system without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE, first, in_pages)
    return raw[first : first + nbytes]


class Binding:
    """One artifact at fixed sizes: arena, argument table and the words of ``ints``.

    A binding serves one call at a time; the executor keeps a free list.
    """

    def __init__(self, artifact: Artifact, env: dict[str, int], threads: int = 1):
        self.env, self.symbols = env, artifact.symbols
        own = [o.type for o in artifact.outputs if o.donor is None]
        kinds = [t for _, t in artifact.inputs] + own
        # Of the inputs, and of the outputs that take none of an input's memory.
        self.types = [TensorType(t.dtype, t.concrete_shape(env)) for t in kinds]
        self._own = [(t.shape, t.dtype) for t in self.types[len(artifact.inputs) :]]
        self.allocator = allocator(self._own)
        self.table = (ctypes.c_void_p * max(len(kinds) + len(artifact.consts), 1))()
        self.plan: Plan = plan(artifact.temps, env)
        self.arena = arena_of(max(self.plan.nbytes, ALIGNMENT))
        size = STATUS_WORDS + len(env) + len(self.plan.offsets)
        self.ints = np.zeros(size + TEAM_WORDS + WATCH_WORDS, np.int64)
        self.restore()
        self.ints[STATUS_WORDS + len(env) : size] = self.plan.offsets
        self.ints[size : size + TEAM_WORDS] = (threads, team.address() if threads > 1 else 0)
        self.watch = self.ints[size + TEAM_WORDS :]  # a view
        self.watch[:] = interrupt.words(artifact.source)
        for k, const in enumerate(artifact.consts, start=len(kinds)):
            self.table[k] = pointer(const)
        self.arena_address = pointer(self.arena)
        self.ints_address = pointer(self.ints)
        self.call_arguments = (ctypes.addressof(self.table), self.arena_address, self.ints_address)

    def stop(self) -> None:
        """Ask a call that runs to end at the next turn of a loop."""
        self.watch[interrupt.STOP] = 1

    def restore(self) -> bool:
        """Put back the sizes, which a borrower may have changed; False if the last call failed or
        was asked to end."""
        at = len(self.ints) - WATCH_WORDS + interrupt.STOP
        sizes = slice(STATUS_WORDS, STATUS_WORDS + len(self.env))
        self.ints[sizes] = [self.env[s] for s in self.symbols]
        return not (self.ints[:STATUS_WORDS].any() or self.ints[at : at + 2].any())

    def new_outputs(self) -> list[np.ndarray]:
        """Memory for the outputs that take none of an input's; it follows the inputs."""
        if self.allocator is not None:
            return self.allocator.empty(self._own)
        return [np.empty(shape, dtype) for shape, dtype in self._own]


def pointer(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class Executable:
    """Callable on flat lists of arrays. Safe to call from several threads at once."""

    def __init__(self, artifact: Artifact, threads: int = 1):
        self.artifact = artifact
        self.threads = threads  # how many parts its kernels may be split into
        self.native = NativeFunction(artifact.object_code)
        self.seconds = float("inf")  # of the fastest run of the native code
        self._free: dict[tuple[int, ...], list[Binding]] = {}
        self._slots = _dim_slots(artifact)
        self._watched = interrupt.is_watched(artifact.source)
        self.capacities = Capacities(artifact)
        self._donors = {o.donor for o in artifact.outputs if o.donor is not None}
        own = itertools.count(len(artifact.inputs))
        # Where each output is among the inputs and new outputs.
        self._outputs = [next(own) if o.donor is None else o.donor for o in artifact.outputs]

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for inputs of the artifact's dtypes. Donated inputs must be writable and
        contiguous, and are overwritten; every other output is new memory of the caller's."""
        sizes, env = self._sizes(arrays)
        memory = self._ready(arrays, env)
        free = self._free_list(sizes)
        try:
            binding = free.pop()
        except IndexError:
            binding = Binding(self.artifact, env, self.threads)
        memory += binding.new_outputs()
        for k, array in enumerate(memory):
            binding.table[k] = pointer(array)
        tapes = self.artifact.tapes
        before = {k: memory[k].copy() for k in self._donors} if tapes else {}
        started = time.perf_counter()
        self.native.call(*binding.call_arguments)
        self.seconds = min(self.seconds, time.perf_counter() - started)
        if self.artifact.checks or tapes or self._watched:
            failed, value = binding.ints[:STATUS_WORDS].tolist()
            binding.ints[:STATUS_WORDS] = 0
            if failed == INTERRUPTED:
                interrupt.raise_kept(binding.watch)
            if failed < 0:
                return self._run_again(-failed, binding, memory, before)
            if failed:
                free.append(binding)
                raise self.artifact.failure(failed, value, env)
        free.append(binding)
        return [memory[k] for k in self._outputs]

    def bind(self, arrays: Sequence[np.ndarray]) -> Binding:
        """A binding of the caller's own, for the sizes of these arrays."""
        return Binding(self.artifact, self._sizes(arrays)[1], self.threads)

    def borrow(self, sizes: Mapping[str, int]) -> Binding:
        """A binding for these sizes, for as long as the caller wants; see :meth:`give_back`."""
        env = {**sizes, **self.capacities.sizes}
        try:
            return self._free_list(tuple(env.values())).pop()
        except IndexError:
            return Binding(self.artifact, env, self.threads)

    def give_back(self, binding: Binding) -> None:
        """Keep a borrowed binding, with its memory, for a later call or borrower."""
        if binding.restore():
            self._free_list(tuple(binding.env.values())).append(binding)

    def _sizes(self, arrays) -> tuple[tuple[int, ...], dict[str, int]]:
        """The size of each symbol."""
        sizes = tuple([arrays[i].shape[axis] for i, axis in self._slots])
        env = dict(zip(self.artifact.sizes, sizes, strict=True))
        if self.artifact.tapes:
            env.update(self.capacities.sizes)
        return tuple(env.values()), env

    def _run_again(self, tape: int, binding: Binding, memory: list, before: dict) -> list:
        """With more room on a tape that was full; its binding is dropped."""
        for k, array in before.items():
            memory[k][...] = array
        self.capacities.grow(tape, binding.env)
        return self(memory[: len(self.artifact.inputs)])

    def _free_list(self, sizes: tuple[int, ...]) -> list[Binding]:
        """Bindings for these sizes; of many sizes only the latest keep their arenas."""
        free = self._free.get(sizes)
        if free is None:
            if len(self._free) >= _KEPT_SIZES:
                self._free = dict(list(self._free.items())[1 - _KEPT_SIZES :])
            free = self._free.setdefault(sizes, [])
        return free

    def _ready(self, arrays, env) -> list[np.ndarray]:
        ready = []
        for k, (array, (name, kind)) in enumerate(zip(arrays, self.artifact.inputs, strict=True)):
            if array.dtype != kind.dtype:
                raise DTypeError(f"argument {name} is {array.dtype}, compiled for {kind}")
            if array.shape != kind.concrete_shape(env):
                raise ShapeError(f"argument {name} has shape {array.shape}, compiled for {kind}")
            if not array.flags.c_contiguous or not array.flags.aligned:
                if k in self._donors:
                    raise ShapeError(f"argument {name} is donated and must be contiguous")
                array = array.copy(order="C")
            if k in self._donors and not array.flags.writeable:
                raise ShapeError(f"argument {name} is donated but read-only")
            ready.append(array)
        if self._donors and (pair := _overlap(ready, self._donors)):
            donated, other = (self.artifact.inputs[k][0] for k in pair)
            raise ShapeError(
                f"argument {donated} is donated but shares memory with {other}; "
                "pass a copy of one of them"
            )
        return ready


def _overlap(arrays: Sequence[np.ndarray], donors: Set[int]) -> tuple[int, int] | None:
    """The number of an array among ``donors`` and of another one that shares its memory."""
    spans = sorted((pointer(a), k) for k, a in enumerate(arrays) if a.size)
    # What reaches farthest of those that begin before: of all arrays, and of the donated ones.
    reach, donated = (0, -1), (0, -1)
    for start, k in spans:
        span = (start + arrays[k].nbytes, k)
        if k in donors and start < reach[0]:
            return k, reach[1]
        if start < donated[0]:
            return donated[1], k
        reach = max(reach, span)
        if k in donors:
            donated = max(donated, span)
    return None


def _dim_slots(artifact: Artifact) -> list[tuple[int, int]]:
    """(input, axis) where each symbol's size is read."""
    slots = []
    for symbol in artifact.sizes:
        found = [
            (k, axis)
            for k, (_, kind) in enumerate(artifact.inputs)
            for axis, dim in enumerate(kind.shape)
            if isinstance(dim, Dim) and str(dim) == symbol
        ]
        slots.append(found[0])
    return slots
