"""Programs of graphc's own, the same for every user: compiled once for a machine."""

from __future__ import annotations

from collections.abc import Callable

from graphc import forks
from graphc.runtime import cache
from graphc.runtime.artifact import Artifact
from graphc.runtime.loader import NativeFunction


def support_function(name: str, text: str) -> NativeFunction:
    """The ``main`` in ``text``, from the kernel cache or compiled and cached."""

    def compiled():
        from graphc.codegen.native import compile_program
        from graphc.codegen.program import Program

        return compile_program(Program((), text.strip(), ()))

    return _load(name, text, compiled)


def word_function(name: str, text: str) -> NativeFunction:
    """The last function in ``text``, a C function of int64 words that returns one."""

    def compiled():
        from graphc.codegen.native import compile_words

        return compile_words(text)

    return _load(name, text, compiled)


def llvm_function(name: str, text: str) -> NativeFunction:
    """``graphc_main`` of LLVM text."""

    def compiled():
        from graphc.codegen.llvm_backend import ENTRY, optimize_and_emit

        return optimize_and_emit([text], ENTRY)

    return _load(name, text, compiled)


@forks.waited_for()
def _load(name: str, text: str, compiled: Callable) -> NativeFunction:
    address = cache.key(text, name)
    artifact = cache.load(address)
    if artifact is None:
        object_code = compiled().object_code
        artifact = Artifact(name, (), (), (), (), (), (), object_code, text)
        cache.store(address, artifact)
    return NativeFunction(artifact.object_code)
