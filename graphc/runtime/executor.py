"""Call an artifact with NumPy arrays: bind sizes once, plan the arena, pass pointers."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence

import numpy as np

from graphc.codegen.writer import STATUS_WORDS
from graphc.errors import DTypeError, ShapeError
from graphc.ir.dims import Dim
from graphc.ir.types import TensorType
from graphc.runtime import arguments
from graphc.runtime.arguments import Form
from graphc.runtime.artifact import Artifact
from graphc.runtime.loader import NativeFunction
from graphc.schedule.memory import ALIGNMENT, Plan, plan

_KEPT_SIZES = 16


def aligned_empty(nbytes: int) -> np.ndarray:
    """Bytes that start on a cache line."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    shift = -raw.ctypes.data % ALIGNMENT
    return raw[shift : shift + nbytes]


class Binding:
    """One artifact at fixed sizes: arena, argument table and the words of ``ints``.

    A binding serves one call at a time; the executor keeps a free list.
    """

    def __init__(self, artifact: Artifact, env: dict[str, int], weak: tuple[bool, ...] = ()):
        self.env = env
        own = [o for o in artifact.outputs if o.donor is None]
        kinds = [t for _, t in artifact.inputs] + [o.type for o in own]
        types = [TensorType(t.dtype, t.concrete_shape(env)) for t in kinds]
        inputs = len(artifact.inputs)
        weak = (weak or (False,) * inputs) + (False,) * len(own)
        written = {o.donor for o in artifact.outputs if o.donor is not None}
        written.update(range(inputs, len(types)))
        self.form = Form(types, weak, written, extra=len(artifact.consts))
        self.table = self.form.table
        self.plan: Plan = plan(artifact.temps, env)
        self.arena = aligned_empty(max(self.plan.nbytes, ALIGNMENT))
        self.ints = np.zeros(STATUS_WORDS + len(env) + len(self.plan.offsets), np.int64)
        self.ints[STATUS_WORDS : STATUS_WORDS + len(env)] = [env[s] for s in artifact.symbols]
        self.ints[STATUS_WORDS + len(env) :] = self.plan.offsets
        self._own_types = [(t.shape, t.dtype) for t in types[inputs:]]
        for k, const in enumerate(artifact.consts, start=len(types)):
            self.table[k] = pointer(const)
        self.arena_address = pointer(self.arena)
        self.ints_address = pointer(self.ints)
        self.call_arguments = (ctypes.addressof(self.table), self.arena_address, self.ints_address)

    def new_outputs(self) -> list[np.ndarray]:
        """Memory for the outputs that take none of an input's; it follows the inputs."""
        return [np.empty(shape, dtype) for shape, dtype in self._own_types]


def pointer(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class Executable:
    """Callable on flat lists of arrays. Safe to call from several threads at once."""

    def __init__(self, artifact: Artifact, weak: tuple[bool, ...] = ()):
        """``weak`` marks inputs that callers give as Python numbers."""
        self.artifact = artifact
        self.native = NativeFunction(artifact.object_code)
        self._weak = weak
        self._reader = arguments.reader()
        self._free: dict[tuple[int, ...], list[Binding]] = {}
        self._latest: list[Binding] = []  # the free list that served last
        self._slots = _dim_slots(artifact)
        self._donors = {o.donor for o in artifact.outputs if o.donor is not None}
        own = itertools.count(len(artifact.inputs))
        # Where each output is among the inputs and new outputs.
        self._outputs = [next(own) if o.donor is None else o.donor for o in artifact.outputs]

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for inputs of the artifact's dtypes. Donated inputs must be writable and
        contiguous, and are overwritten; every other output is new memory of the caller's."""
        sizes = tuple([arrays[i].shape[axis] for i, axis in self._slots])
        env = dict(zip(self.artifact.symbols, sizes, strict=True))
        free = self._free_list(sizes)
        try:
            binding = free.pop()
        except IndexError:
            binding = Binding(self.artifact, env, self._weak)
        memory = [*arrays, *binding.new_outputs()]
        if self._reader is None or not binding.form.read(self._reader, memory):
            memory[: len(arrays)] = self._ready(arrays, env)
            for k, array in enumerate(memory):
                binding.table[k] = pointer(array)
        self._latest = free
        return self._run(binding, free, memory)

    def call_same(self, leaves: list) -> list[np.ndarray] | None:
        """As the last call, if ``leaves`` are of its dtypes and shapes; else None."""
        free = self._latest
        if self._reader is None or not free:
            return None
        try:
            binding = free.pop()
        except IndexError:  # another thread was faster
            return None
        memory = leaves + binding.new_outputs()
        if not binding.form.read(self._reader, memory):
            free.append(binding)
            return None
        return self._run(binding, free, memory)

    def _run(self, binding: Binding, free: list[Binding], memory: list) -> list:
        """Call with inputs and new outputs in the table; the binding becomes free again."""
        self.native.call(*binding.call_arguments)
        if self.artifact.checks:
            failed, value = binding.ints[:STATUS_WORDS].tolist()
            binding.ints[:STATUS_WORDS] = 0
            if failed:
                free.append(binding)
                raise self.artifact.failure(failed, value, binding.env)
        free.append(binding)
        return [memory[k] for k in self._outputs]

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
        for k in self._donors:
            for j, array in enumerate(ready):
                if j != k and np.may_share_memory(ready[k], array):
                    names = [name for name, _ in self.artifact.inputs]
                    raise ShapeError(
                        f"argument {names[k]} is donated but shares memory with {names[j]}; "
                        "pass a copy of one of them"
                    )
        return ready


def _dim_slots(artifact: Artifact) -> list[tuple[int, int]]:
    """(input, axis) where each symbol's size is read."""
    slots = []
    for symbol in artifact.symbols:
        found = [
            (k, axis)
            for k, (_, kind) in enumerate(artifact.inputs)
            for axis, dim in enumerate(kind.shape)
            if isinstance(dim, Dim) and str(dim) == symbol
        ]
        slots.append(found[0])
    return slots
