"""Compile a program to object code with Numba. Imported only when something must be compiled.

All kernels and ``main`` go into one code library, so they are optimized and emitted once.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import threading

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, compiler, types
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from graphc.codegen import convolution, pooling
from graphc.codegen.interleave import interleave_long_bodies
from graphc.codegen.llvm_backend import ENTRY, Compiled, optimize_and_emit
from graphc.codegen.llvm_backend import target as cpu
from graphc.codegen.native_main import Unsupported, emit_main, is_straight
from graphc.codegen.native_scalars import emit_kernel, is_long
from graphc.codegen.native_team import team_word
from graphc.codegen.native_words import SCALARS, BufferType, FloatMode, inline, native_words
from graphc.codegen.product import argument_types, pack_argument_types, products_module
from graphc.codegen.tiles import registers
from graphc.codegen.writer import KernelFunction, Program

_REMEMBERED = 4096
_MANY = 32  # calls from which kernels stay functions: inlined into one, they take LLVM too long
_lock = threading.Lock()

_CONTRACTED = {"fadd", "fsub", "fmul"}


def _after_lowering(module, library) -> None:
    """Allow fused multiply-add in what users wrote; never inside the vector math."""
    for function in module.functions:
        if not function.is_declaration:
            _prefer_whole_vectors(function)
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


class _ModuleCollector(CPUCodeLibrary):
    """Keeps what Numba lowers as text, to be linked and optimized once for a whole program."""

    def __init__(self, codegen, name):
        super().__init__(codegen, name)
        self.modules: list[str] = []

    def add_ir_module(self, ir_module):
        self.modules.append(cgutils.normalize_ir_text(str(ir_module)))


@functools.cache
def _contexts():
    typing_context = cpu_target.typing_context
    target = cpu_target.target_context
    typing_context.refresh()
    target.refresh()
    target = copy.copy(target)
    target.post_lowering = _after_lowering
    return _remembering(typing_context), target


def _remembering(typing_context):
    """A typing context that resolves a function for the same argument types once, not for each
    statement: half of the time that type inference takes."""
    typing_context = copy.copy(typing_context)
    resolve, known = typing_context.resolve_function_type, {}

    def resolve_function_type(func, args, kws):
        if kws or not isinstance(func, types.Function):
            return resolve(func, args, kws)
        key = (func, tuple(args))
        if key not in known:
            if len(known) > _REMEMBERED:
                known.clear()
            known[key] = resolve(func, args, kws)
        return known[key]

    typing_context.resolve_function_type = resolve_function_type
    return typing_context


def _flags() -> compiler.Flags:
    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.nrt = False
    flags.no_rewrites = True  # of array expressions, raises and dead branches: there are none
    flags.noalias = True
    flags.error_model = "numpy"
    return flags


def _argument_type(kind: str):
    if kind == "dim":
        return types.int64
    return BufferType(types.int64 if kind == "status" else SCALARS[kind])


def compile_program(program: Program) -> Compiled:
    """Object code with one C function ``graphc_main(args**, arena*, ints*)``."""
    with _lock, global_compiler_lock:
        _, target = _contexts()
        library = _ModuleCollector(target.codegen(), "graphc")
        scope = dict(native_words())
        for p in program.products:
            scope[p.name] = _linked(p.name, p.kind, argument_types(p))
            if p.method == "whole":
                scope[p.pack_name] = _linked(p.pack_name, p.kind, pack_argument_types(p))
        for c in program.convolutions:
            scope[c.name] = _linked(c.name, c.kind, convolution.argument_types(c))
        for p in program.poolings:
            scope[p.name] = _linked(p.name, p.kind, pooling.argument_types(p))
        for kernel in program.kernels:
            word = _compile_kernel(kernel, scope, library)
            if kernel.team:
                kinds = [_argument_type(p.kind) for p in kernel.parameters]
                scope[kernel.team_name] = team_word(kernel.team_name, word, kinds)
            else:
                scope[kernel.name] = word
        _export(_main_emitter(program.main, scope, library), library, program.flush_subnormals)
        finished, triple = [], cpu().triple
        machine = registers(dict(llvm.get_host_cpu_features()))
        if program.products:
            finished.append(products_module(program.products, machine, triple))
        if program.convolutions:
            made = convolution.convolutions_module(program.convolutions, machine, triple)
            finished.append(made)
        if program.poolings:
            finished.append(pooling.poolings_module(program.poolings, machine, triple))
        return optimize_and_emit(library.modules, ENTRY, finished, apart=len(program.calls) > _MANY)


def _main_emitter(text: str, scope: dict, library):
    """``emit(builder, arguments)`` of the main in ``text``."""
    _, target = _contexts()
    if is_straight(text):
        return lambda builder, arguments: emit_main(text, scope, target, builder, arguments)
    words = (types.voidptr, types.voidptr, BufferType(types.int64))
    result = _compile(_function(text, "main", scope), words, library)
    return lambda builder, arguments: _call(builder, target, result.fndesc, arguments)


def compile_words(text: str) -> Compiled:
    """Functions of int64 words that return one, each calling those before it; the last is the C
    function of the object code."""
    with _lock, global_compiler_lock:
        _, target = _contexts()
        library = _ModuleCollector(target.codegen(), "graphc")
        scope = dict(native_words())
        for part in ast.parse(text).body:
            words = (types.int64,) * len(part.args.args)
            function = _function(ast.unparse(part), part.name, scope)
            result = _compile(function, words, library, types.int64)
            scope[part.name] = _callable(part.name, result)
        word = ir.IntType(64)
        module = library.create_ir_module("graphc_entry")
        entry = ir.Function(module, ir.FunctionType(word, [word] * len(words)), ENTRY)
        builder = ir.IRBuilder(entry.append_basic_block("entry"))
        builder.ret(_call(builder, target, result.fndesc, entry.args))
        library.add_ir_module(module)
        return optimize_and_emit(library.modules, exported=ENTRY)


def _function(text: str, name: str, scope: dict):
    namespace = dict(scope)
    exec(compile(ast.parse(text), f"<graphc {name}>", "exec"), namespace)
    return namespace[name]


def _compile_kernel(kernel: KernelFunction, scope, library):
    """The word that calls ``kernel``, whose code is added to ``library``."""
    arguments = tuple(_argument_type(p.kind) for p in kernel.parameters)
    if is_long(kernel.text):
        with contextlib.suppress(Unsupported):
            return _emit_scalars(kernel, arguments, scope, library)
    function = _function(kernel.text, kernel.name, scope)
    return _callable(kernel.name, _compile(function, arguments, library))


def _emit_scalars(kernel: KernelFunction, arguments, scope, library):
    _, target = _contexts()
    module = library.create_ir_module(f"graphc_{kernel.name}")
    function = emit_kernel(module, kernel.text, arguments, scope, target)
    _after_lowering(module, library)
    library.add_ir_module(module)
    return _linked_as(kernel.name, function.name, arguments, function.ftype.args)


def _compile(function, arguments, library, result=types.none):
    typing_context, target = _contexts()
    return compiler.compile_extra(
        typing_context, target, function, arguments, result, _flags(), {}, library=library
    )


def _call(builder, context, descriptor, args):
    """Call a function of the same library; what it returns, if anything."""
    function = context.declare_function(builder.module, descriptor)
    _, result = context.call_conv.call_function(
        builder, function, descriptor.restype, descriptor.argtypes, args
    )
    return context.get_dummy_value() if descriptor.restype == types.none else result


def _callable(name: str, result):
    """An intrinsic that calls a kernel of the same library directly."""
    descriptor, sig = result.fndesc, result.signature

    def typing(*args):
        return sig

    def emit(context, builder, sig, args):
        return _call(builder, context, descriptor, args)

    return inline(name, len(sig.args), typing, emit)


def _linked(name: str, kind: str, arguments: list[ir.Type]):
    """An intrinsic that calls a function of the products' module."""
    pointer = BufferType(SCALARS[kind])
    kinds = [pointer if isinstance(a, ir.PointerType) else types.int64 for a in arguments]
    return _linked_as(name, name, kinds, arguments)


def _linked_as(name: str, symbol: str, kinds, arguments):
    """An intrinsic ``name`` that calls the function ``symbol`` of another module."""
    sig = types.none(*kinds)

    def emit(context, builder, sig, args):
        signature = ir.FunctionType(ir.VoidType(), arguments)
        builder.call(cgutils.get_or_insert_function(builder.module, signature, symbol), args)
        return context.get_dummy_value()

    return inline(name, len(arguments), lambda *_: sig, emit)


def _export(emit, library, flush: bool) -> None:
    """The C entry point around what ``emit`` appends; with ``flush``, subnormals are zero while
    it runs."""
    module = library.create_ir_module("graphc_entry")
    pointer = ir.IntType(8).as_pointer()
    words = ir.IntType(64).as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, pointer, words]), ENTRY)
    _prefer_whole_vectors(function)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    mode = FloatMode(builder)
    before = mode.read() if flush else None
    during = mode.flushing(before) if flush else None
    changes = builder.icmp_unsigned("!=", before, during) if flush else None
    if flush:  # setting the mode waits for the pipeline: only where it is not set already
        with builder.if_then(changes):
            mode.write(during)
    emit(builder, function.args)
    if flush:
        with builder.if_then(changes):
            mode.write(before)
    builder.ret_void()
    library.add_ir_module(module)
