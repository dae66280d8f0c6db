"""LLVM text to object code for this processor."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm

_lock = threading.Lock()


@dataclass(frozen=True)
class Compiled:
    """Object code of a program, with its optimized LLVM text and assembly."""

    object_code: bytes
    llvm: str
    asm: str


def host_target_machine():
    """A target machine for the processor this runs on."""
    return _target().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="default",
    )


@functools.cache
def _target():
    try:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    except RuntimeError:
        pass  # newer llvmlite initializes itself
    return llvm.Target.from_default_triple()


def optimize_and_emit(modules: Sequence[str], exported: str) -> Compiled:
    """Link ``modules``, optimize as one (-O3, vectorizers on) and emit one object.

    Only ``exported`` stays visible, so kernels are inlined or dropped freely.
    """
    with _lock:
        machine = host_target_machine()
        machine.set_asm_verbosity(False)
        whole = llvm.parse_assembly("\n".join(modules[:1]))
        for text in modules[1:]:
            whole.link_in(llvm.parse_assembly(text))
        for function in whole.functions:
            hidden = not function.is_declaration and function.name != exported
            if hidden and function.linkage == llvm.Linkage.external:
                function.linkage = llvm.Linkage.internal
        tuning = llvm.create_pipeline_tuning_options(speed_level=3)
        tuning.loop_vectorization = True
        tuning.slp_vectorization = True
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(whole, builder)
        whole.verify()
        return Compiled(
            machine.emit_object(whole), str(whole), machine.emit_assembly(whole)
        )
