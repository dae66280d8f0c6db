"""The native way into a compiled function: from Python arguments to Python results in one C call.

From Python the structure, dtypes, shapes and addresses of a few arguments cost microseconds, more
than a small kernel. An entry is a C function in CPython's own calling convention (METH_FASTCALL)
that does all of it natively: it walks nested dicts, lists and tuples, compares each leaf with
what the kernel was compiled for, runs the kernel, and builds the result. Whatever it does not
expect (another dtype, a strided array, a failed run-time check) goes to the general way in
Python, which is right for everything: what a call means is written in one place, there.

One program serves all functions: what a function expects is data (``self``, an array of words).
Only public functions of CPython's and NumPy's C interfaces make objects; fields are read where
those interfaces put them, and that is tested once a process. Where it differs there are no
entries. An entry serves one call at a time (its arena is one): who finds it busy goes the general
way too, as another thread while a long kernel runs without the GIL, or a finalizer.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import sysconfig
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import Any

import numpy as np

from graphc.runtime.interrupt import RAISED, is_watched
from graphc.runtime.memory import SET_HANDLER, array_interface
from graphc.runtime.once import once
from graphc.runtime.support import word_function
from graphc.schedule.memory import INTERRUPTED, STATUS_WORDS
from graphc.trace import captured

_C_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400
_TYPE, _DATA, _NDIM, _DIMS, _DESCR, _FLAGS = 8, 16, 24, 32, 56, 64  # bytes into an object
_CELL_CONTENTS = 16
_SCALAR_VALUE = 16  # of the value in a Python float and in NumPy's scalars
_NUMPY_ABI = 0x02000000
_UNCHANGING = (str, bytes, int, float, type(None), type, FunctionType, np.dtype)
_LONG_KERNEL = 5e-6  # seconds from which letting other threads run pays

# The functions of the two interfaces, in the order of their words.
_FUNCTIONS = (
    "Py_IncRef", "Py_DecRef", "PyTuple_Size", "PyTuple_GetItem", "PyList_Size", "PyList_GetItem",
    "PyDict_Size", "PyDict_GetItem", "PyTuple_New", "PyTuple_SetItem", "PyList_New",
    "PyList_SetItem", "PyDict_New", "PyDict_SetItem", "PyFloat_FromDouble", "PyLong_FromLongLong",
    "PyBool_FromLong", "PyLong_AsLongLongAndOverflow", "PyObject_Vectorcall",
    "PyObject_CallOneArg", "PyEval_SaveThread", "PyEval_RestoreThread", "PyErr_Restore",
    "PySet_Size", "PyObject_Size", "PyObject_GetAttr", "PyErr_Clear",
)  # fmt: skip
_ARRAY_FUNCTIONS = {
    "PyArray_Scalar": 60, "PyArray_Empty": 184, "PyDataMem_SetHandler": SET_HANDLER,
}  # fmt: skip

# The words of an entry. Places of sections are word numbers from the start.
(
    BUSY, RESULT, OVERFLOW, TRUE, GENERAL, KERNEL, TABLE, ARENA, INTS, RELEASE, ARGS, NAMES,
    NAMES_AT, STEPS, STEPS_AT, FOUND_AT, LEAVES, LEAVES_AT, WRITTEN, WRITTEN_AT, ARRAYS,
    ARRAYS_AT, MADE_AT, BUILDS, BUILDS_AT, STACK_AT, GUARDS, HELD_AT,
    ALLOCATOR, WATCH, FAILED, FACTS, FACTS_AT, _OWN,
) = range(34)  # fmt: skip
_CALL = {name: _OWN + k for k, name in enumerate([*_FUNCTIONS, *_ARRAY_FUNCTIONS])}
_HEAD = _OWN + len(_CALL)
# Steps that walk the arguments, four words each: what, of which object found, and two more.
GET, CONTAINER, SAME, LEAF = range(4)
# What is expected of a leaf, then its sizes; how the value of a scalar is taken.
L_ARRAY, L_DESCR, L_NDIM, L_FLAGS, L_SCALAR, L_HOW, L_SLOT, L_SIZES = range(8)
IN_OBJECT, INTEGER, TRUTH = range(3)
# What was read besides the arguments, four words each: how, and the three that the way needs.
IN_DICT, IN_LIST, IN_CLASS, OF_SIZE, WORD, MANY = range(6)
# What builds the result, three words each: the objects made go on a stack.
MADE, FLOAT, INT, BOOL, NUMPY, GIVEN, OBJECT, TUPLE, LIST, DICT, FINISH = range(11)


def _called(name: str) -> str:
    return f"h[{_CALL[name]}]"


_TEXT = f"""
def leaf(w, item, place, at):
    h = words_at(w)
    want = words_at(w + 8 * at)
    table = words_at(h[{TABLE}])
    kind = words_at(item + {_TYPE})[0]
    if kind == want[{L_ARRAY}]:
        ndim = want[{L_NDIM}]
        flags = want[{L_FLAGS}]
        if words_at(item + {_DESCR})[0] != want[{L_DESCR}]:
            return 0
        if (words_at(item + {_NDIM})[0] & 0xFFFFFFFF) != ndim:
            return 0
        if (words_at(item + {_FLAGS})[0] & flags) != flags:
            return 0
        sizes = words_at(words_at(item + {_DIMS})[0])
        for axis in range(ndim):
            if sizes[axis] != want[{L_SIZES} + axis]:
                return 0
        table[place] = words_at(item + {_DATA})[0]
        return 1
    if kind != want[{L_SCALAR}]:
        return 0
    if want[{L_HOW}] == {IN_OBJECT}:
        table[place] = item + {_SCALAR_VALUE}
        return 1
    if want[{L_HOW}] == {TRUTH}:
        h[want[{L_SLOT}]] = 1 if item == h[{TRUE}] else 0
    else:
        h[{OVERFLOW}] = 0
        value = c_call2({_called("PyLong_AsLongLongAndOverflow")}, item, w + {8 * OVERFLOW})
        if h[{OVERFLOW}] != 0:
            return 0
        h[want[{L_SLOT}]] = value
    table[place] = w + 8 * want[{L_SLOT}]
    return 1

def match(w, args, count, names):
    h = words_at(w)
    if count != h[{ARGS}]:
        return 0
    named = 0
    if names != 0:
        named = c_call1({_called("PyTuple_Size")}, names)
    if named != h[{NAMES}]:
        return 0
    for k in range(named):
        if c_call2({_called("PyTuple_GetItem")}, names, k) != h[h[{NAMES_AT}] + k]:
            return 0
    given = words_at(args)
    found = words_at(w + 8 * h[{FOUND_AT}])
    last = count + named
    for k in range(last):
        found[k] = given[k]
    place = 0
    steps = words_at(w + 8 * h[{STEPS_AT}])
    for k in range(h[{STEPS}]):
        what = steps[4 * k]
        item = found[steps[4 * k + 1]]
        a = steps[4 * k + 2]
        b = steps[4 * k + 3]
        if what == {LEAF}:
            if leaf(w, item, place, a) == 0:
                return 0
            place += 1
        elif what == {GET}:
            part = c_call2(h[b], item, a)
            if part == 0:
                return 0
            found[last] = part
            last += 1
        elif what == {SAME}:
            if item != a:
                return 0
        else:
            kind = words_at(w + 8 * a)
            if words_at(item + {_TYPE})[0] != kind[0]:
                return 0
            if c_call1(h[kind[1]], item) != b:
                return 0
    return 1

def unchanged(w):
    h = words_at(w)
    facts = words_at(w + 8 * h[{FACTS_AT}])
    for k in range(h[{FACTS}]):
        how = facts[4 * k]
        a = facts[4 * k + 1]
        b = facts[4 * k + 2]
        value = facts[4 * k + 3]
        if how == {IN_DICT}:
            if c_call2({_called("PyDict_GetItem")}, a, b) != value:
                return 0
        elif how == {WORD}:
            if words_at(a)[0] & b != value:
                return 0
        elif how == {MANY}:
            now = words_at(a)
            before = words_at(b)
            differ = 0
            for j in range(value):
                differ = differ | (now[j] ^ before[j])
            if differ != 0:
                return 0
        elif how == {OF_SIZE}:
            if c_call1(h[b], a) != value:
                return 0
        elif how == {IN_LIST}:
            if c_call2({_called("PyList_GetItem")}, a, b) != value:
                return 0
        else:
            part = c_call2({_called("PyObject_GetAttr")}, a, b)
            if part == 0:
                c_call0({_called("PyErr_Clear")})
                return 0
            c_call1({_called("Py_DecRef")}, part)
            if part != value:
                return 0
    return 1

def apart(w):
    h = words_at(w)
    table = words_at(h[{TABLE}])
    written = words_at(w + 8 * h[{WRITTEN_AT}])
    leaves = words_at(w + 8 * h[{LEAVES_AT}])
    for k in range(h[{WRITTEN}]):
        place = written[k]
        first = table[place]
        end = first + leaves[2 * place + 1]
        for j in range(h[{LEAVES}]):
            if j != place and table[j] < end and first < table[j] + leaves[2 * j + 1]:
                return 0
    return 1

def drop(w, top):
    h = words_at(w)
    stack = words_at(w + 8 * h[{STACK_AT}])
    for k in range(top):
        c_call1({_called("Py_DecRef")}, stack[k])
    made = words_at(w + 8 * h[{MADE_AT}])
    for k in range(h[{ARRAYS}]):
        if made[k] != 0:
            c_call1({_called("Py_DecRef")}, made[k])
            made[k] = 0
    return 0

def hold(w, reference):
    h = words_at(w)
    found = words_at(w + 8 * h[{FOUND_AT}])
    leaves = words_at(w + 8 * h[{LEAVES_AT}])
    for k in range(h[{LEAVES}]):
        c_call1(reference, found[leaves[2 * k]])
    return 0

def allocate_arrays(w):
    h = words_at(w)
    table = words_at(h[{TABLE}])
    made = words_at(w + 8 * h[{MADE_AT}])
    arrays = words_at(w + 8 * h[{ARRAYS_AT}])
    for k in range(h[{ARRAYS}]):
        descr = arrays[4 * k + 3]
        c_call1({_called("Py_IncRef")}, descr)
        sizes = w + 8 * arrays[4 * k + 2]
        array = c_call4({_called("PyArray_Empty")}, arrays[4 * k + 1], sizes, descr, 0)
        if array == 0:
            return 0
        made[k] = array
        table[arrays[4 * k]] = words_at(array + {_DATA})[0]
    return 1

def allocate(w):
    h = words_at(w)
    if h[{ALLOCATOR}] == 0:
        return allocate_arrays(w)
    before = c_call1({_called("PyDataMem_SetHandler")}, h[{ALLOCATOR}])
    if before == 0:
        return 0
    good = allocate_arrays(w)
    c_call1({_called("Py_DecRef")}, c_call1({_called("PyDataMem_SetHandler")}, before))
    c_call1({_called("Py_DecRef")}, before)
    return good

def collect(w, what, a, first):
    h = words_at(w)
    stack = words_at(w + 8 * h[{STACK_AT}])
    if what == {TUPLE}:
        whole = c_call1({_called("PyTuple_New")}, a)
        if whole != 0:
            for k in range(a):
                c_call3({_called("PyTuple_SetItem")}, whole, k, stack[first + k])
        return whole
    whole = c_call1({_called("PyList_New")}, a)
    if whole != 0:
        for k in range(a):
            c_call3({_called("PyList_SetItem")}, whole, k, stack[first + k])
    return whole

def collect_dict(w, count, keys, first):
    h = words_at(w)
    stack = words_at(w + 8 * h[{STACK_AT}])
    whole = c_call0({_called("PyDict_New")})
    if whole != 0:
        for k in range(count):
            failed = c_call3({_called("PyDict_SetItem")}, whole, h[keys + k], stack[first + k])
            if failed & 0xFFFFFFFF != 0:
                c_call1({_called("Py_DecRef")}, whole)
                return 0
        for k in range(count):
            c_call1({_called("Py_DecRef")}, stack[first + k])
    return whole

def build(w):
    h = words_at(w)
    found = words_at(w + 8 * h[{FOUND_AT}])
    made = words_at(w + 8 * h[{MADE_AT}])
    stack = words_at(w + 8 * h[{STACK_AT}])
    builds = words_at(w + 8 * h[{BUILDS_AT}])
    top = 0
    for k in range(h[{BUILDS}]):
        what = builds[3 * k]
        a = builds[3 * k + 1]
        b = builds[3 * k + 2]
        if what == {MADE}:
            item = made[a]
            made[a] = 0
        elif what == {GIVEN}:
            item = found[a]
            c_call1({_called("Py_IncRef")}, item)
        elif what == {FLOAT}:
            item = c_call_f64({_called("PyFloat_FromDouble")}, w + 8 * a)
        elif what == {NUMPY}:
            item = c_call3({_called("PyArray_Scalar")}, w + 8 * a, b, 0)
        elif what == {INT}:
            item = c_call1({_called("PyLong_FromLongLong")}, h[a])
        elif what == {BOOL}:
            item = c_call1({_called("PyBool_FromLong")}, h[a] & 1)
        elif what == {OBJECT}:
            item = a
            c_call1({_called("Py_IncRef")}, item)
        elif what == {FINISH}:
            item = c_call2({_called("PyObject_CallOneArg")}, a, stack[top - 1])
            top -= 1
            c_call1({_called("Py_DecRef")}, stack[top])
        elif what == {DICT}:
            item = collect_dict(w, a, b, top - a)
            if item != 0:
                top -= a
        else:
            item = collect(w, what, a, top - a)
            if item != 0:
                top -= a
        if item == 0:
            drop(w, top)
            return 0
        stack[top] = item
        top += 1
    return stack[0]

def run(w):
    h = words_at(w)
    if allocate(w) == 0:
        drop(w, 0)
        h[{RESULT}] = 0
        return 1
    status = words_at(h[{INTS}])
    raised = words_at(h[{WATCH}] + {8 * RAISED})
    if h[{RELEASE}] != 0:
        hold(w, {_called("Py_IncRef")})
        thread = c_call0({_called("PyEval_SaveThread")})
        call_step(h[{KERNEL}], words_at(h[{TABLE}]), h[{ARENA}], status)
        c_call1({_called("PyEval_RestoreThread")}, thread)
    else:
        call_step(h[{KERNEL}], words_at(h[{TABLE}]), h[{ARENA}], status)
    good = 1
    if status[0] == {INTERRUPTED}:
        status[0] = 0
        drop(w, 0)
        h[{RESULT}] = 0
        c_call3({_called("PyErr_Restore")}, raised[0], raised[1], raised[2])
    elif status[0] != 0:
        drop(w, 0)
        h[{RESULT}] = 0
        if h[{FAILED}] != 0:
            h[{RESULT}] = c_call2({_called("PyObject_CallOneArg")}, h[{FAILED}], h[{TRUE}])
        else:
            good = 0
        status[0] = 0
        status[1] = 0
    elif h[h[{HELD_AT}]] != h[{GUARDS}]:
        good = 0
        drop(w, 0)
    else:
        h[{RESULT}] = build(w)
    if h[{RELEASE}] != 0:
        hold(w, {_called("Py_DecRef")})
    return good

def entry(self, args, count, names):
    w = words_at(self + {_DATA})[0]
    h = words_at(w)
    if h[{BUSY}] == 0:
        h[{BUSY}] = 1
        if match(w, args, count, names) != 0:
            if apart(w) != 0 and unchanged(w) != 0:
                if run(w) != 0:
                    result = h[{RESULT}]
                    h[{BUSY}] = 0
                    return result
        h[{BUSY}] = 0
    return c_call4({_called("PyObject_Vectorcall")}, h[{GENERAL}], args, count, names)
"""


@dataclass(frozen=True)
class CallForm:
    """A call that the general way has made, and that an entry is to make again."""

    args: tuple
    kwargs: dict  # in the order of the call
    static: frozenset[int | str]  # positions and names of arguments that are no inputs
    leaves: list  # of the other arguments, in the order of the inputs
    scalars: tuple[tuple[int, bool], ...]  # outputs that are no arrays to callers; weak or not
    structure: Any  # of the result, with the number of an output for each leaf
    guards: int  # how many must hold: the first output counts them
    width: int  # outputs before those of the result
    finish: Callable[[list], Any]  # from outputs to the result
    general: Callable  # the function in Python
    facts: Sequence[captured.Fact] = ()  # that must still be so


class _Words(np.ndarray):
    """The words of an entry, and (``keep``) the objects that they refer to."""


class _Unusual(Exception):
    """This call is for the general way."""


_alive: weakref.WeakValueDictionary[int, _Words] = weakref.WeakValueDictionary()


def make_entry(executable, form: CallForm) -> Callable | None:
    """A C function that makes calls like ``form`` natively; None where that cannot be."""
    start = _program()
    if start is None:
        return None
    try:
        words = _Writer(executable, form).words()
    except _Unusual:
        return None
    return start(words)


class _Writer:
    """Writes the words of one entry."""

    def __init__(self, executable, form: CallForm):
        self.executable, self.form = executable, form
        self.binding = executable.bind([np.asarray(leaf) for leaf in form.leaves])
        self.data: list[int] = [0] * _HEAD
        self.keep: list[Any] = [executable, self.binding, form.general]
        self.walked: list[Any] = []  # leaves as the steps meet them
        self.leaf_words: list[int] = []
        self.steps: list[int] = []
        self.container_kinds: dict[type, int] = {}

    def words(self) -> _Words:
        form, artifact = self.form, self.executable.artifact
        self.donated = {o.donor for o in artifact.outputs if o.donor is not None}
        if artifact.tapes and self.donated:
            raise _Unusual  # what is full is made larger by the general way, over restored memory
        names = list(form.kwargs)
        items = [*form.args, *form.kwargs.values()]
        self.found = len(items)
        # Inputs are in the order of positions, then of sorted names.
        order = [(k, k) for k in range(len(form.args))]
        order += [(n, len(form.args) + names.index(n)) for n in sorted(names)]
        for name, register in order:
            if name in form.static:
                self._fixed(register, items[register])
            else:
                self._walk(register, items[register])
        if len(self.walked) != len(form.leaves) or any(
            a is not b for a, b in zip(self.walked, form.leaves)
        ):
            raise _Unusual
        self.facts = self._facts()
        self._header(names)
        self._outputs()
        words = np.array(self.data, np.int64).view(_Words)
        words.keep = self.keep
        for place, slot in self.slots:
            self.binding.table[place] = words.ctypes.data + 8 * slot
        return words

    def section(self, *values: int) -> int:
        at = len(self.data)
        self.data += values
        return at

    def address(self, obj: Any) -> int:
        self.keep.append(obj)
        return id(obj)

    # ------------------------------------------------------------------------------- arguments

    def _walk(self, register: int, value: Any) -> None:
        pending = [(register, value)]
        while pending:
            register, value = pending.pop()
            kind = type(value)
            if value is None:
                self._same(register, None)
            elif kind is dict:
                try:
                    keys = sorted(value)
                except TypeError:
                    raise _Unusual from None
                if not all(type(k) in (str, int) for k in keys):
                    raise _Unusual
                self._container(register, dict, "PyDict_Size", len(keys))
                parts = [self._get(register, self.address(k), "PyDict_GetItem") for k in keys]
                pending += reversed([(p, value[k]) for p, k in zip(parts, keys)])
            elif kind is list or kind is tuple or (issubclass(kind, tuple) and _is_named(kind)):
                base = "PyList" if kind is list else "PyTuple"
                self._container(register, kind, f"{base}_Size", len(value))
                parts = [self._get(register, k, f"{base}_GetItem") for k in range(len(value))]
                pending += reversed([*zip(parts, value)])
            else:
                self._leaf(register, value)

    def _fixed(self, register: int, value: Any) -> None:
        if not isinstance(value, _UNCHANGING):
            raise _Unusual
        self._same(register, value)

    def _same(self, register: int, value: Any) -> None:
        self.steps += [SAME, register, self.address(value), 0]

    def _container(self, register: int, kind: type, size: str, count: int) -> None:
        if kind not in self.container_kinds:
            self.container_kinds[kind] = self.section(self.address(kind), _CALL[size])
        self.steps += [CONTAINER, register, self.container_kinds[kind], count]

    def _get(self, register: int, key: int, function: str) -> int:
        self.steps += [GET, register, key, _CALL[function]]
        self.found += 1
        return self.found - 1

    def _leaf(self, register: int, value: Any) -> None:
        place = len(self.walked)
        if place >= len(self.binding.types):
            raise _Unusual
        kind, flags = self.binding.types[place], _C_CONTIGUOUS | _ALIGNED
        dtype = np.dtype(kind.dtype.name)  # the one object that plain arrays carry
        written = place in self.donated
        array, scalar, how = id(np.ndarray), 0, IN_OBJECT
        if type(value) in (float, int, bool):
            how = {float: IN_OBJECT, int: INTEGER, bool: TRUTH}[type(value)]
            if dtype != {float: np.float64, int: np.int64, bool: np.bool_}[type(value)] or written:
                raise _Unusual
            array, scalar = 1, id(type(value))  # 1: no type
        elif not kind.shape and not written and dtype.kind in "fiub":
            scalar = id(dtype.type)
        slot = self.section(0) if how != IN_OBJECT else 0
        flags |= _WRITEABLE if written else 0
        self.steps += [LEAF, register, self.section(
            array, self.address(dtype), len(kind.shape), flags, scalar, how, slot, *kind.shape
        ), 0]  # fmt: skip
        self.walked.append(value)
        self.leaf_words += [register, kind.nbytes]

    # ---------------------------------------------------------------- what else the program holds

    def _facts(self) -> list[int]:
        words: list[int] = []
        for fact in self.form.facts:
            holder, value = self.address(fact.holder), self.address(fact.value)
            value = 0 if fact.value is captured.MISSING else value
            if fact.how == captured.CONTENT:
                words += self._content(fact.value)
            elif fact.how == captured.SIZE:
                words += [OF_SIZE, holder, _CALL[_size_function(fact.holder)], fact.value]
            elif fact.how == captured.CELL:
                words += [WORD, holder + _CELL_CONTENTS, -1, value]
            elif fact.how == captured.ELEMENT:
                words += [IN_LIST, holder, fact.key, value]
            else:
                how = IN_DICT if fact.how == captured.ITEM else IN_CLASS
                words += [how, holder, self.address(fact.key), value]
        return words

    def _content(self, content: captured.Content) -> list[int]:
        words = [WORD, id(content.array) + _DATA, -1, content.data]
        for address, mask, value in content.parts:
            words += [WORD, address, mask, value]
        if content.words is not None:
            address, values = content.words
            words += [MANY, address, captured.address_of(values), len(values)]
        return words

    # --------------------------------------------------------------------------------- the rest

    def _header(self, names: list[str]) -> None:
        data, form, binding, artifact = self.data, self.form, self.binding, self.executable.artifact
        for name, address in _interfaces().items():
            data[_CALL[name]] = address
        table, arena, ints = binding.call_arguments
        written = sorted(self.donated)
        long = self.executable.seconds > _LONG_KERNEL or is_watched(artifact.source)
        values = {
            TRUE: id(True), GENERAL: id(form.general), KERNEL: self.executable.native.address,
            TABLE: table, ARENA: arena, INTS: ints, RELEASE: int(long),
            WATCH: binding.watch.ctypes.data,
            ARGS: len(form.args), NAMES: len(names),
            NAMES_AT: self.section(*map(self.address, names)),
            STEPS: len(self.steps) // 4, STEPS_AT: self.section(*self.steps),
            FOUND_AT: self.section(*[0] * self.found),
            FACTS: len(self.facts) // 4, FACTS_AT: self.section(*self.facts),
            LEAVES: len(form.leaves), LEAVES_AT: self.section(*self.leaf_words),
            WRITTEN: len(written), WRITTEN_AT: self.section(*written),
            ALLOCATOR: 0 if binding.allocator is None else id(binding.allocator.capsule),
            # The general way makes the call again and raises; not over memory that has changed.
            FAILED: self.address(self._failure_raiser()) if artifact.checks and written else 0,
        }  # fmt: skip
        for word, value in values.items():
            data[word] = value

    def _failure_raiser(self) -> Callable:
        """For a call that a run-time check has stopped."""
        binding, artifact = self.binding, self.executable.artifact

        def raise_failure(_):
            failed, value = binding.ints[:STATUS_WORDS].tolist()
            raise artifact.failure(failed, value, binding.env)

        return raise_failure

    def _outputs(self) -> None:
        """Memory for each output, and the steps that make Python objects of them."""
        artifact, scalars = self.executable.artifact, dict(self.form.scalars)
        leaf: dict[int, list[int]] = {}
        arrays: list[int] = []
        slots: list[tuple[int, int]] = []
        place = len(artifact.inputs)
        held = self.section(0)  # guards that hold, where the program counts them
        width = self.form.width
        for k, output in enumerate(artifact.outputs, start=-width):
            if output.donor is not None:
                if k in scalars:
                    raise _Unusual
                leaf[k] = [GIVEN, self.leaf_words[2 * output.donor], 0]
                continue
            kind = self.binding.types[place]
            dtype = np.dtype(kind.dtype.name)
            if k in scalars or k < 0:
                slot = self.section(0, 0)
                slots.append((place, slot))
                if k >= 0:
                    leaf[k] = [self._scalar(dtype, scalars[k]), slot, self.address(dtype)]
                elif k == -width:
                    held = slot
            else:
                leaf[k] = [MADE, len(arrays) // 4, 0]
                arrays += [
                    place, len(kind.shape), self.section(*kind.shape), self.address(dtype)
                ]  # fmt: skip
            place += 1
        builds = self._builds(leaf)
        values = {
            ARRAYS: len(arrays) // 4, ARRAYS_AT: self.section(*arrays),
            MADE_AT: self.section(*[0] * (len(arrays) // 4)),
            BUILDS: len(builds) // 3, BUILDS_AT: self.section(*builds),
            STACK_AT: self.section(*[0] * (len(builds) // 3 + 1)),
            GUARDS: self.form.guards, HELD_AT: held,
        }  # fmt: skip
        for word, value in values.items():
            self.data[word] = value
        self.slots = slots

    def _scalar(self, dtype: np.dtype, weak: bool) -> int:
        if not weak:
            return NUMPY
        try:
            return {"d": FLOAT, "?": BOOL, np.dtype(np.int64).char: INT}[dtype.char]
        except KeyError:
            raise _Unusual from None

    def _builds(self, leaf: dict[int, list[int]]) -> list[int]:
        """Steps from leaves to the whole; other containers than Python's own are made in Python."""
        steps: list[int] = []
        pending: list[tuple[Any, bool]] = [(self.form.structure, False)]
        while pending:
            value, parts_done = pending.pop()
            kind = type(value)
            if value is None:
                steps += [OBJECT, self.address(None), 0]
            elif kind is int:
                steps += leaf[value]
            elif kind not in (tuple, list, dict):
                return self._finished(leaf)
            elif parts_done:
                keys = self.section(*map(self.address, value)) if kind is dict else 0
                steps += [{tuple: TUPLE, list: LIST, dict: DICT}[kind], len(value), keys]
            else:
                pending.append((value, True))
                parts = list(value.values()) if kind is dict else list(value)
                pending += [(part, False) for part in reversed(parts)]
        return steps

    def _finished(self, leaf: dict[int, list[int]]) -> list[int]:
        steps = [word for k in range(len(leaf)) for word in leaf[k]]
        return [*steps, LIST, len(leaf), 0, FINISH, self.address(self.form.finish), 0]


def _size_function(holder: Any) -> str:
    kinds = {dict: "PyDict_Size", list: "PyList_Size", set: "PySet_Size"}
    return next((n for kind, n in kinds.items() if isinstance(holder, kind)), "PyObject_Size")


def _is_named(kind: type) -> bool:
    return isinstance(getattr(kind, "_fields", None), tuple)


# ------------------------------------------------------------------------------- the interfaces


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )  # fmt: skip


_FASTCALL_KEYWORDS = 0x0080 | 0x0002


@once
def _program() -> Callable[[_Words], Callable] | None:
    """``start(words)``: the C function of an entry. None where layouts are not as known."""
    if not _layout_is_known():
        return None
    native = word_function("entry", _TEXT)
    method = _MethodDef(b"call", native.address, _FASTCALL_KEYWORDS, None)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ctypes.cast(make, ctypes.c_void_p).value
    )

    def start(words: _Words) -> Callable:
        _alive[id(words)] = words
        return make(ctypes.addressof(method), words, None)

    start.keep = native, method  # type: ignore[attr-defined]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_free_all)
    return start


def _free_all() -> None:
    """In a forked child no other thread is inside an entry."""
    for words in list(_alive.values()):
        words[BUSY] = 0


@functools.cache
def _interfaces() -> dict[str, int]:
    """Addresses of the functions that entries call."""
    found = {}
    for name in _FUNCTIONS:
        found[name] = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    table = array_interface()
    return found | {name: table[k] for name, k in _ARRAY_FUNCTIONS.items()}


def _layout_is_known() -> bool:
    """CPython with the plain object header (not free-threaded, not a debug build), NumPy's second
    interface, and fields where entries read them."""
    plain = not sysconfig.get_config_var("Py_GIL_DISABLED") and not hasattr(sys, "gettotalrefcount")
    if sys.implementation.name != "cpython" or not plain or sys.byteorder != "little":
        return False
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    try:
        table = array_interface()
        abi = ctypes.PYFUNCTYPE(ctypes.c_uint)(table[0])()
        if abi != _NUMPY_ABI or table[2] != id(np.ndarray):
            return False
        _interfaces()
    except (ImportError, AttributeError, ValueError):
        return False
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    sizes = (ctypes.c_int64 * 2).from_address(_word(array, _DIMS))
    return (
        _word(array, _TYPE) == id(np.ndarray) and _word(2.5, _TYPE) == id(float)
        and _word(array, _DATA) == array.__array_interface__["data"][0]
        and _word(array, _NDIM) & 0xFFFFFFFF == 2 and tuple(sizes) == (2, 3)
        and _word(array, _DESCR) == id(np.dtype(np.float32))
        and _word(array, _FLAGS) & 0x501 == 0x501
        and _word(np.asfortranarray(array), _FLAGS) & _C_CONTIGUOUS == 0
        and all(_value(kind(3)) == 3 for kind in (float, np.float64))
        and _word(np.int64(-5), _SCALAR_VALUE) == -5
        and _word(CellType(array), _CELL_CONTENTS) == id(array)
    )  # fmt: skip


def _word(obj: Any, offset: int) -> int:
    return ctypes.c_int64.from_address(id(obj) + offset).value


def _value(obj: Any) -> float:
    return ctypes.c_double.from_address(id(obj) + _SCALAR_VALUE).value
