"""The words as Numba's: generated text is Python that ``numba.njit`` compiles too.

graphc's own lowering of the text is ten times faster and is what programs run. Here every word
becomes a Numba intrinsic, by one rule: its meaning is written once, in ``native_words``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

from numba import njit
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from graphc.codegen.kinds import BYTES, INT64, SCALARS, Buffer, Kind, load, store
from graphc.codegen.machine import KINDS
from graphc.codegen.native_words import Word, native_words
from graphc.codegen.program import Program

_NAMES = {"bool": "boolean", "byte": "int8"}
_KINDS = {getattr(types, _NAMES.get(k.name, k.name)): k for k in SCALARS.values()}


class BufferType(types.Type):
    """A pointer to scalars: an access is one address computation, with no array structure."""

    def __init__(self, kind: Buffer):
        self.kind = kind
        super().__init__(name=f"Buffer({kind.dtype.name})")


@register_model(BufferType)
class _BufferModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, fe_type.kind.value)


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], BufferType) and isinstance(args[1], types.Integer):
            return signature(_numba_type(args[0].kind.dtype), args[0], types.int64)


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], BufferType) and isinstance(args[1], types.Integer):
            element = _numba_type(args[0].kind.dtype)
            return signature(types.none, args[0], types.int64, element)


@lower_builtin(operator.getitem, BufferType, types.Integer)
def _lower_getitem(context, builder, sig, args):
    place = builder.gep(args[0], [args[1]], inbounds=True)
    return load(builder, sig.args[0].kind.dtype, place)


@lower_builtin(operator.setitem, BufferType, types.Integer, types.Any)
def _lower_setitem(context, builder, sig, args):
    place = builder.gep(args[0], [args[1]], inbounds=True)
    store(builder, sig.args[0].kind.dtype, args[2], place)
    return context.get_dummy_value()


def _numba_type(kind: Kind | Buffer):
    if isinstance(kind, Buffer):
        return BufferType(kind)
    return getattr(types, _NAMES.get(kind.name, kind.name))


def _kind(numba_type) -> Kind | Buffer:
    if isinstance(numba_type, BufferType):
        return numba_type.kind
    return _KINDS[types.unliteral(numba_type)]


def numba_word(word: Word) -> Callable:
    """A word as a Numba intrinsic."""

    def typed(context, *given):
        meaning = word.typing(*map(_kind, given))
        if meaning is None:
            return None

        def emit(context, builder, sig, args):
            value = word.emit(builder, meaning, list(args))
            return context.get_dummy_value() if value is None else value

        return _numba_type(meaning.return_type)(*map(_numba_type, meaning.args)), emit

    names = "".join(f", x{i}" for i in range(word.arity))
    scope = {"typed": typed}
    exec(f"def {word.name}(context{names}):\n    return typed(context{names})\n", scope)
    return intrinsic(scope[word.name])


@functools.cache
def numba_words() -> dict[str, object]:
    """The namespace in which Numba compiles a program."""
    words = {n: numba_word(w) if isinstance(w, Word) else w for n, w in native_words().items()}
    words |= {"abreast": range, "unrolled": range}
    return words | {kind: dtype.type for kind, dtype in KINDS.items() if kind != "bool"}


def numba_function(program: Program) -> Callable[[int, int, int], None]:
    """A program by Numba, as a function of the addresses of its arguments' table, its arena and
    its words. Products, convolutions and parts for a team are no text: a program with them
    is not for Numba."""
    scope = dict(numba_words())
    for kernel in program.kernels:
        scope[kernel.name] = _compiled(kernel.text, kernel.name, scope)
    scope["main"] = _compiled(program.main, "main", scope)
    at = Word("bytes_at", 1, lambda a: BYTES(INT64), lambda b, s, a: b.inttoptr(a[0], BYTES.value))
    scope["bytes_at"] = numba_word(at)
    run = "def run(args, arena, ints):\n    main(bytes_at(args), bytes_at(arena), words_at(ints))\n"
    return _compiled(run, "run", scope)


def _compiled(text: str, name: str, scope: dict) -> Callable:
    namespace = dict(scope)
    exec(compile(text, f"<graphc {name}>", "exec"), namespace)
    return njit(error_model="numpy")(namespace[name])
