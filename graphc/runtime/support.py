"""Programs of graphc's own, the same for every user: compiled once for a machine."""

from __future__ import annotations

from graphc.codegen.writer import Program
from graphc.runtime import cache
from graphc.runtime.artifact import Artifact
from graphc.runtime.loader import NativeFunction


def support_function(name: str, text: str) -> NativeFunction:
    """The ``main`` in ``text``, from the kernel cache or compiled and cached."""
    address = cache.key(text)
    artifact = cache.load(address)
    if artifact is None:
        from graphc.codegen.numba_cpu import compile_program

        object_code = compile_program(Program((), text.strip(), ())).object_code
        artifact = Artifact(name, (), (), (), (), (), (), object_code, text)
        cache.store(address, artifact)
    return NativeFunction(artifact.object_code)
