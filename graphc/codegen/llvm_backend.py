"""LLVM text to object code for this processor."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm

from graphc import forks
from graphc.codegen.library import SYMBOLS
from graphc.errors import VerifyError
from graphc.ir.scipy_functions import SCIPY_FUNCTIONS

ENTRY = "graphc_main"  # the one function that object code exports
_lock = forks.lock()


with contextlib.suppress(AttributeError):  # whoever uses llvmlite, Numba too, has this lock
    forks.hold(llvm.ffi.lib._lock)


@dataclass(frozen=True)
class Compiled:
    """Object code of a program, with its optimized LLVM text."""

    object_code: bytes
    llvm: str


def host_target_machine():
    """A target machine for the processor this runs on.

    On x86-64 code reaches its constants by whole addresses: the loader puts sections one by one,
    in a large process further apart than 32 bits can say, and LLVM ends the process then.
    """
    far = llvm.get_process_triple().startswith("x86_64")
    return target().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="static" if far else "pic",
        codemodel="large" if far else "default",
    )


@functools.cache
def target():
    """The target of this process, with LLVM made ready for it."""
    try:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    except RuntimeError:
        pass  # newer llvmlite initializes itself
    return llvm.Target.from_default_triple()


_EXTERNALS = frozenset(SYMBOLS) | {function.symbol for function in SCIPY_FUNCTIONS.values()}


def _check_externals(module, known: set[str]) -> None:
    """Every function called must be here or known: an unknown one would be a jump to nowhere."""
    unknown = [
        f.name
        for f in module.functions
        if f.is_declaration and not f.name.startswith("llvm.") and f.name not in _EXTERNALS | known
    ]
    if unknown:
        raise VerifyError(f"generated code calls functions that do not exist: {unknown}")


@forks.waited_for()
def optimize_and_emit(
    modules: Sequence[str], exported: str, finished: Sequence[str] = (), apart: bool = False
) -> Compiled:
    """Link ``modules``, optimize as one (-O3, vectorizers on) and emit one object.

    ``finished`` modules are linked in afterwards, as they are. Only ``exported`` stays visible,
    so kernels are inlined or dropped freely; with ``apart`` none is inlined.
    """
    with _lock:
        machine = host_target_machine()
        whole = llvm.parse_assembly("\n".join(modules[:1]))
        for text in modules[1:]:
            whole.link_in(llvm.parse_assembly(text))
        ready = [llvm.parse_assembly(text) for text in finished]
        _check_externals(whole, {f.name for m in ready for f in m.functions})
        _hide(whole, exported)
        if apart:
            for function in whole.functions:
                if not function.is_declaration and not _is_in_place(function):
                    function.add_function_attribute("noinline")
        # Unrolling short loops whole comes before vectorizing and spoils it, but what remains
        # of them afterwards gains from it (measured: steps of small models 1.2 to 2.2 times
        # faster than with either alone).
        for unrolling in (False, True):
            tuning = llvm.create_pipeline_tuning_options(speed_level=3)
            tuning.loop_vectorization = True
            tuning.slp_vectorization = True
            tuning.loop_unrolling = unrolling
            builder = llvm.create_pass_builder(machine, tuning)
            builder.getModulePassManager().run(whole, builder)
        _drop_unused_variants(whole, builder)
        for module in ready:
            whole.link_in(module)
        _hide(whole, exported)
        whole.verify()
        return Compiled(machine.emit_object(whole), str(whole))


def _drop_unused_variants(module, builder) -> None:
    """Without the vector variants of rare cases that no loop has taken (`vmath.llvm_ops`). Not
    earlier: what is hidden may change its parameters, and variants are known by their names."""
    for function in module.functions:
        if function.linkage == llvm.Linkage.weak_odr:
            function.linkage = llvm.Linkage.internal
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)


def _is_in_place(function) -> bool:
    return any(b"alwaysinline" in attributes for attributes in function.attributes)


def _hide(module, exported: str) -> None:
    """Leave ``exported`` visible alone."""
    for function in module.functions:
        hidden = not function.is_declaration and function.name != exported
        if hidden and function.linkage == llvm.Linkage.external:
            function.linkage = llvm.Linkage.internal
