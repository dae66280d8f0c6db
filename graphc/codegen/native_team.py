"""How a program hands the parts of a kernel to a team of threads (``runtime.team``)."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from graphc.codegen.kinds import INT64, NONE, WORDS, local
from graphc.codegen.native_words import FloatMode, Word, steps_of

_WORD = ir.IntType(64)
_PARTS, _STEPS, _MODE, _ARGUMENTS = range(4)  # words of what the parts are given


def team_word(name: str, kernel: Word, kinds) -> Word:
    """A word ``name(ints, at, parts, extent, size, *arguments)``: run ``kernel`` in parts,
    by the function whose address is in ``ints[at + 1]``.

    ``kernel`` is the word that calls it with arguments of the types ``kinds``.
    """
    whole = kernel.typing(*kinds)
    kinds = kinds[:-3]

    def typing(*given):
        return NONE(WORDS, *[INT64] * 4, *kinds)

    def call(builder, arguments) -> None:
        kernel.emit(builder, whole, arguments)

    def emit(builder, sig, args):
        ints, at, parts, extent, size, *arguments = args
        steps = steps_of(builder, extent, size)
        count = _ARGUMENTS + len(arguments)
        block = local(builder, _WORD, count)
        with builder.if_else(builder.icmp_signed("<=", parts, parts.type(1))) as (alone, shared):
            with alone:
                zero = _WORD(0)
                call(builder, [*arguments, zero, zero, steps])
            with shared:
                mode = FloatMode(builder)
                given = [parts, steps, _widened(builder, mode.read())]
                given += [
                    builder.ptrtoint(a, _WORD) if isinstance(a.type, ir.PointerType) else a
                    for a in arguments
                ]
                for k, value in enumerate(given):
                    builder.store(value, builder.gep(block, [_WORD(k)], inbounds=True))
                task = _task(name, builder.module, arguments, call)
                run = builder.load(builder.gep(ints, [builder.add(at, _WORD(1))], inbounds=True))
                kind = ir.FunctionType(_WORD, [_WORD] * 3)
                run = builder.inttoptr(run, kind.as_pointer())
                addresses = [builder.ptrtoint(p, _WORD) for p in (task, block)]
                builder.call(run, [*addresses, parts])

    return Word(name, 5 + len(kinds), typing, emit)


def _widened(builder, mode):
    return mode if mode.type == _WORD else builder.zext(mode, _WORD)


def _task(name: str, module, arguments, call: Callable) -> ir.Function:
    """``task(block, lane)``: part number ``lane``, under the floating-point mode of who shares."""
    name = f"{name}_task"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(
        module, ir.FunctionType(ir.VoidType(), [_WORD.as_pointer(), _WORD]), name
    )
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    block, lane = function.args

    def word(k: int):
        return builder.load(builder.gep(block, [_WORD(k)], inbounds=True))

    mode = FloatMode(builder)
    wanted = word(_MODE)
    wanted = wanted if mode.word == _WORD else builder.trunc(wanted, mode.word)
    with builder.if_then(builder.icmp_unsigned("!=", wanted, mode.read())):
        mode.write(wanted)
    parts, steps = word(_PARTS), word(_STEPS)
    ends = [
        builder.sdiv(builder.mul(steps, at), parts) for at in (lane, builder.add(lane, _WORD(1)))
    ]
    values = [
        builder.inttoptr(word(_ARGUMENTS + k), a.type) if isinstance(a.type, ir.PointerType)
        else word(_ARGUMENTS + k)
        for k, a in enumerate(arguments)
    ]  # fmt: skip
    call(builder, [*values, lane, *ends])
    builder.ret_void()
    return function
