"""Compile a program to object code. Imported only when something must be compiled.

All kernels and ``main`` go into one module, so they are optimized and emitted once.
"""

from __future__ import annotations

import ast

import llvmlite.binding as llvm
from llvmlite import ir

from graphc import syntax
from graphc.codegen import convolution, pooling
from graphc.codegen.interleave import interleave_long_bodies
from graphc.codegen.kinds import INT64, NONE, SCALARS, WORDS, Buffer
from graphc.codegen.llvm_backend import ENTRY, Compiled, host_target_machine, optimize_and_emit
from graphc.codegen.llvm_backend import target as cpu
from graphc.codegen.lower import calling, lower_kernel, lower_main, lower_words
from graphc.codegen.native_team import team_word
from graphc.codegen.native_words import FloatMode, Word, native_words
from graphc.codegen.product import argument_types, pack_argument_types, products_module
from graphc.codegen.program import Program
from graphc.codegen.tiles import registers

_MANY = 32  # calls from which kernels stay functions: inlined into one, they take LLVM too long
_CONTRACTED = {"fadd", "fsub", "fmul"}


def _finish(module: ir.Module) -> None:
    """Allow fused multiply-add in what users wrote, never inside the vector math; let long bodies
    run side by side."""
    for function in module.functions:
        if not function.is_declaration:
            _prefer_whole_vectors(function)
        if function.linkage == "weak_odr":
            continue  # rare cases of the vector math (`vmath.llvm_ops`)
        for block in function.blocks:
            for instruction in block.instructions:
                if (
                    instruction.opname in _CONTRACTED
                    and not instruction.flags
                    and not getattr(instruction, "graphc_strict", False)
                ):
                    instruction.flags.append("contract")
        interleave_long_bodies(function)


def _prefer_whole_vectors(function) -> None:
    """Some processors are told to prefer 256 bits for the sake of mixed code; loops of arithmetic
    gain from the full width (measured: 1.3-1.9x on exp, log, tanh, erf). A kernel that is inlined
    has the attributes of the function that it goes into."""
    set.add(function.attributes, '"prefer-vector-width"="512"')
    # A loop has more constants than registers: keep their spill slots within cache lines.
    set.add(function.attributes, '"stackrealign"')


def compile_program(program: Program) -> Compiled:
    """Object code with one C function ``graphc_main(args**, arena*, ints*)``."""
    module = _module()
    words = dict(native_words())
    for p in program.products:
        words[p.name] = _linked(p.name, p.kind, argument_types(p))
        if p.method == "whole":
            words[p.pack_name] = _linked(p.pack_name, p.kind, pack_argument_types(p))
    for c in program.convolutions:
        words[c.name] = _linked(c.name, c.kind, convolution.argument_types(c))
    for p in program.poolings:
        words[p.name] = _linked(p.name, p.kind, pooling.argument_types(p))
    for kernel in program.kernels:
        kinds = [_argument_kind(p.kind) for p in kernel.parameters]
        word = lower_kernel(module, kernel.name, kernel.text, kinds, words, kernel.in_place)
        words[word.name] = word
        if kernel.team:
            words[kernel.team_name] = team_word(kernel.team_name, word, kinds)
    _export(program, module, words)
    _finish(module)
    finished, triple = [], cpu().triple
    machine = registers(dict(llvm.get_host_cpu_features()))
    if program.products:
        finished.append(products_module(program.products, machine, triple))
    if program.convolutions:
        finished.append(convolution.convolutions_module(program.convolutions, machine, triple))
    if program.poolings:
        finished.append(pooling.poolings_module(program.poolings, machine, triple))
    in_place = {k.name for k in program.kernels if k.in_place}
    calls = sum(name not in in_place for name in program.calls)
    return optimize_and_emit([str(module)], ENTRY, finished, apart=calls > _MANY)


def compile_words(text: str) -> Compiled:
    """Functions of int64 words that return one, each calling those before it; the last is the C
    function of the object code."""
    module = _module()
    words = dict(native_words())
    for tree in syntax.parse(text).body:
        assert isinstance(tree, ast.FunctionDef)
        words[tree.name] = lower_words(module, f"word_{tree.name}", tree, words)
    last = words[tree.name]
    entry = ir.Function(module, ir.FunctionType(INT64.value, [INT64.value] * last.arity), ENTRY)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    builder.ret(last.call(builder, [(INT64, a) for a in entry.args])[1])
    _finish(module)
    return optimize_and_emit([str(module)], ENTRY)


def _module() -> ir.Module:
    module = ir.Module("graphc", ir.Context())
    module.triple = cpu().triple
    module.data_layout = str(host_target_machine().target_data)
    return module


def _argument_kind(kind: str):
    if kind == "dim":
        return INT64
    return WORDS if kind == "status" else Buffer(SCALARS[kind])


def _linked(name: str, kind: str, arguments: list[ir.Type]) -> Word:
    """The word that calls a function of a module of its own."""
    pointer = Buffer(SCALARS[kind])
    kinds = [pointer if isinstance(a, ir.PointerType) else INT64 for a in arguments]
    return calling(name, ir.FunctionType(ir.VoidType(), arguments), kinds, NONE)


def _export(program: Program, module: ir.Module, words: dict) -> None:
    """The C entry point around ``main``; subnormals are zero while it runs, if so wanted."""
    flush = program.flush_subnormals
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, WORDS.value])
    function = ir.Function(module, kind, ENTRY)
    _prefer_whole_vectors(function)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    mode = FloatMode(builder)
    before = mode.read() if flush else None
    during = mode.flushing(before) if flush else None
    changes = builder.icmp_unsigned("!=", before, during) if flush else None
    if flush:  # setting the mode waits for the pipeline: only where it is not set already
        with builder.if_then(changes):
            mode.write(during)
    lower_main(program.main, words, builder, function.args)
    if flush:
        with builder.if_then(changes):
            mode.write(before)
    builder.ret_void()
