"""What ``graphc.compile`` and its relatives return: a function that specializes on its arguments.

It traces once for each kind of arguments (structure, dtypes, ranks, static values); changing
sizes become symbolic dims and share one compile.
"""

from __future__ import annotations

import functools
import inspect
import re
import traceback
import types
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import forks, pipeline
from graphc.compiles import Changes, Compile, Compiles
from graphc.errors import (
    CompileWarning,
    OptionError,
    SymbolicDimError,
    TraceError,
    UnknownNameError,
    unknown_name,
)
from graphc.functions import POSITIONAL, identifier_of, parameters_of
from graphc.interp import evaluate
from graphc.ir.dims import Dim, symbol
from graphc.ir.graph import Graph, Source
from graphc.ir.types import TensorType
from graphc.nonfinite import checked_option, explain
from graphc.passes import reroll_nodes, stabilize_nodes
from graphc.paths import Path, Paths, in_stages
from graphc.pickling import Recipe, reduced
from graphc.request import Request, became_symbolic, device_option, frozen, symbolic
from graphc.runtime.c_function import CFunction, example_of
from graphc.runtime.entry import CallForm, make_entry
from graphc.runtime.executor import Executable
from graphc.runtime.team import thread_count
from graphc.trace.captured import Captured
from graphc.trace.context import is_lossy
from graphc.trace.source import frames_to_user, is_user, line_text, located
from graphc.trace.tracing import ArgSpec, Traced, Tracer, active_trace, spec_of, trace
from graphc.trace.tree import flatten, leaf_paths, unflatten
from graphc.wording import kind_of

if TYPE_CHECKING:
    from graphc.memory import Memory

_WARN_AT_COMPILES = 3
_KEPT_SHAPES = 1024
_MAX_PATHS = 16
_ENGINES = ("native", "interpreter")
_OPTIONS = (
    "checked", "device", "dims", "donate", "engine", "max_compiles", "max_paths",
    "memory_limit", "static_argnames", "static_argnums", "threads",
)  # fmt: skip
_KEPT_ENTRIES = 16
_PYTHON_NUMBERS = (bool, int, float, complex)
_VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


@dataclass
class Specialization:
    """A traced and compiled variant of a function."""

    traced: Traced
    run: Callable[[Sequence[np.ndarray]], list[np.ndarray]]
    request: Request
    scalars: tuple[tuple[int, bool], ...]  # outputs that are no arrays to callers; weak or not

    @property
    def types(self) -> tuple[TensorType, ...]:
        return self.request.types

    def returned(self, outputs: list[np.ndarray]) -> Any:
        """What the function returns."""
        return _rebuilt(self.traced, self.scalars, outputs)

    def structure(self) -> Any:
        """Of the result, with the number of an output for each leaf."""
        return unflatten(self.traced.out_tree, range(len(self.traced.out_weak)))

    def own(self, outputs: Any) -> list[np.ndarray]:
        """The outputs alone."""
        return outputs

    def served_by(self, outputs: Any) -> tuple:
        """What ran for these outputs, how many guards must hold and outputs are theirs, the trace
        and its scalars."""
        return self.run, 0, 0, self.traced, self.scalars

    def computes(self, traced: Traced, graph: Graph) -> bool:
        """Whether it is the program of ``graph``, with the same lines in its messages."""
        own = self.traced.graph
        return (
            not traced.shown
            and graph.outputs == own.outputs and graph.inputs == own.inputs
            and not graph.donated and not self.traced.shown and graph.sources == own.sources
            and self.traced.out_tree == traced.out_tree
        )  # fmt: skip

    def fits(self, types: Sequence[TensorType]) -> bool:
        """Whether arguments of these types match, symbolic dims bound consistently.

        A symbolic dim stands for sizes from 2 on: 0 and 1 broadcast, squeeze and reduce
        differently in NumPy.
        """
        bound: dict[str, int] = {}
        for want, have in zip(self.types, types, strict=True):
            if want.dtype != have.dtype or want.ndim != have.ndim:
                return False
            for dim, size in zip(want.shape, have.shape, strict=True):
                if isinstance(dim, Dim):
                    if size <= 1 or bound.setdefault(str(dim), size) != size:
                        return False
                elif dim != size:
                    return False
        return True


class GuardedSpecialization(Specialization):
    """One whose ``run`` are :class:`graphc.paths.Paths`: its program decides by traced values."""

    def returned(self, outputs: Any) -> Any:
        path, outputs = outputs
        return path.returned(outputs)

    def computes(self, traced: Traced, graph: Graph) -> bool:
        return False  # a path of several

    def own(self, outputs: Any) -> list[np.ndarray]:
        return outputs[1]

    def served_by(self, outputs: Any) -> tuple:
        path, _ = outputs
        run, width = path.whole
        return run, len(path.guards), width, *path.returned.args


def _rebuilt(traced: Traced, scalars, outputs: list[np.ndarray]) -> Any:
    outputs = traced.show(outputs) if traced.shown else outputs
    for k, weak in scalars:
        outputs[k] = outputs[k].item() if weak else outputs[k][()]
    return unflatten(traced.out_tree, outputs)


@dataclass
class _Family:
    """Specializations of one structure of arguments."""

    variants: list[Specialization] = field(default_factory=list)
    seen: list[tuple[TensorType, ...]] = field(default_factory=list)  # that were compiled for
    exact: dict[tuple, Specialization] = field(default_factory=dict)
    asked: Request | None = None  # what was compiled last
    captured: Captured | None = None  # what its traces read besides arguments
    change: str = ""  # of that, which made this family take the place of ``before``
    before: Sequence[Specialization] = ()


class CompiledFunction:
    """A function that runs as native code; made by :func:`compile` and its relatives.

    Called inside another traced function it is traced inline, so compiled functions compose.
    """

    # A call finds what `__call__` of the instance is: at first `_call`, which is right for
    # every call; once a call has come again, a native entry that hands others on to `_call`.
    __slots__ = ("__call__", "__dict__", "__weakref__")

    def __get__(self, instance, owner=None):
        """As a function in a class: a method, whose first argument is the instance (static, or a
        pytree such as a dataclass)."""
        return self if instance is None else types.MethodType(self, instance)

    def __init__(
        self, traceable: Callable, *, name: str, static_argnums=(), static_argnames=(),
        donate=(), dims: Mapping[str, Sequence] | None = None, engine: str = "native",
        primal: Callable | None = None, max_paths: int | None = None,
        max_compiles: int | None = None, checked: bool | str | None = None,
        device: str | None = None, threads: int | str | None = None,
        memory_limit: int | str | None = None, recipe: Recipe | None = None,
    ):  # fmt: skip
        is_function = isinstance(traceable, types.FunctionType | CompiledFunction)
        functools.update_wrapper(self, traceable, updated=("__dict__",) if is_function else ())
        self.traceable = traceable
        self.name = name
        self.primal = primal  # what a derivative was taken of
        self.recipe = recipe
        self._warned = False
        self.donate = (donate,) if isinstance(donate, int | str) else tuple(donate)
        self.dims = dict(dims or {})
        if engine not in _ENGINES:
            raise unknown_name("engine", engine, _ENGINES)
        self.engine = engine
        max_paths = _MAX_PATHS if max_paths is None else max_paths
        self.max_paths = _at_least_one("max_paths", max_paths)
        self.max_compiles = _at_least_one("max_compiles", max_compiles)
        self.checked = checked_option(checked)
        self.device = device_option(device)
        self.threads = thread_count(threads)
        self.memory_limit = None if memory_limit is None else _limit_bytes(memory_limit)
        self.compiles = Compiles()
        self._changes = Changes()
        self._parameters = parameters_of(traceable)
        self._static_names = self._resolve_static(static_argnums, static_argnames)
        self._dynamic = [p for p in self._parameters if p.name not in self._static_names]
        self._donated_names = self._resolve_donated()
        self._check_dims()
        self._families: dict[Any, _Family] = {}
        self._compiling = forks.lock()
        self._asked: Request | None = None  # what was compiled last
        self._entries: dict[tuple, Callable | None] = {}
        self.__call__ = self._call

    def _resolve_static(self, argnums, argnames) -> frozenset[str]:
        argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        argnames = (argnames,) if isinstance(argnames, str) else tuple(argnames)
        names = [p.name for p in self._parameters]
        for name in argnames:
            if names and name not in names:
                raise UnknownNameError(
                    f"static_argnames: `{self._shown}` has no parameter {name!r}; "
                    f"it has {', '.join(names)}"
                )
        return frozenset([*(names[i] for i in argnums), *argnames])

    def _resolve_donated(self) -> frozenset[str]:
        wrong = next((d for d in self.donate if not isinstance(d, int)), None)
        if wrong is not None:
            raise OptionError(
                f"donate takes positions of arguments, such as donate=0, not {wrong!r}"
            )
        names = [p.name for p in self._parameters if p.kind in POSITIONAL]
        if any(i >= len(names) for i in self.donate):
            raise OptionError(
                f"donate={max(self.donate)}, but `{self._shown}` has {len(names)} positional "
                "parameters; name each array that is donated as a parameter of its own"
            )
        donated = frozenset(names[i] for i in self.donate)
        if donated & self._static_names:
            both = ", ".join(sorted(donated & self._static_names))
            raise OptionError(f"donate: `{both}` of `{self._shown}` is static and has no memory")
        return donated

    def _check_dims(self) -> None:
        kinds = {p.kind for p in self._parameters}
        names = [p.name for p in self._parameters]
        for path in self.dims if names and not kinds & _VARIADIC else ():
            if path.split("[")[0].split(".")[0] not in names:
                raise UnknownNameError(
                    f"dims: `{self._shown}` has no parameter {path!r}; it has {', '.join(names)}"
                )

    @property
    def _shown(self) -> str:
        """The user's name of the function, for messages."""
        return self.name if self.primal is None else identifier_of(self.primal)

    def __repr__(self) -> str:
        return f"<graphc.{self.engine} {self.name}, {len(self.compiles)} compiled>"

    def __reduce__(self):
        return reduced(self, self.recipe)

    def __copy__(self):
        return self  # as functions are

    def __deepcopy__(self, memo):
        return self

    def _call(self, *args, **kwargs):
        given = args, kwargs
        args, kwargs, statics = self._split_static(args, kwargs)
        leaves, treedef = flatten((args, kwargs))
        if active_trace() is not None or any(isinstance(leaf, Tracer) for leaf in leaves):
            return self._traceable_with(statics)(*args, **kwargs)
        arrays, key = _arrays(leaves)
        family_key, family, special = self._variant(
            args, kwargs, statics, leaves, treedef, arrays, key
        )
        before = [a.copy() for a in arrays] if self.checked and self.donate else arrays
        try:
            outputs = special.run(arrays)
        except SymbolicDimError as error:  # on a path not met before
            special = self._at_these_sizes(family, special, arrays, error)
            family.exact[key] = special
            outputs = special.run(arrays)
        program = special.served_by(outputs)
        if self.checked:
            self._check(program[3], before, special.own(outputs))
        elif isinstance(program[0], Executable) and not program[3].shown:
            kept = family.captured
            call_key = (program[0], family_key, kept.stamp, key, len(given[0]), *given[1])
            self._prepare_entry(call_key, kept.facts, *given, leaves, *program)
        return special.returned(outputs)

    def _check(self, traced: Traced, arrays, outputs) -> None:
        """Raise NonFiniteError if what is returned, or with "strict" anything, is not finite."""
        numbered = unflatten(traced.out_tree, range(len(traced.out_weak)))
        paths = leaf_paths(numbered, "output")
        strict = self.checked == "strict"
        own = outputs[: len(paths)]
        error = explain(traced.graph, arrays, own, self._shown, paths, strict=strict)
        if error is not None:
            traced.show(outputs)
            raise error

    def _variant(self, args, kwargs, statics, leaves, treedef, arrays, key):
        """What serves a call: the key of its family, the family, the specialization."""
        # Python numbers promote otherwise than NumPy's: they are another kind of argument.
        weak = tuple(type(leaf) in _PYTHON_NUMBERS for leaf in leaves)
        family_key = (treedef, weak, frozen(statics))
        family = self._families.get(family_key)
        if family is None:
            family = self._families.setdefault(family_key, _Family())
        elif family.captured is not None and (change := family.captured.change()) is not None:
            family = self._renewed(family_key, family, change)
        special = family.exact.get(key)
        if special is None:
            with self._compiling:  # threads that need the same variant wait for it
                special = family.exact.get(key)
                if special is None:
                    request = self._request(args, kwargs, statics, leaves, treedef)
                    special = self._specialize(family, request, arrays)
                    if len(family.exact) >= _KEPT_SHAPES:  # sizes that never come back
                        family.exact.clear()
                    family.exact[key] = special
        return family_key, family, special

    def _renewed(self, key, family: _Family, change) -> _Family:
        """In place of a family whose traces have read what has changed since, a new one."""
        text, fact = change
        with self._compiling:
            if self._families.get(key) is family:
                self._changes.note(fact.path, family.captured.line_of(fact))
                self._families[key] = _Family(
                    asked=family.asked, change=text, before=tuple(family.variants)
                )
            return self._families[key]

    def _changed(self, is_new: bool) -> None:
        """Warn of what changes again and again; ``is_new``: it has made another program."""
        if text := self._changes.served(self._shown, is_new):
            _warn(text)

    def _prepare_entry(self, key: tuple, *call) -> None:
        """Answer the next call like this one natively, if this one has come before."""
        if key not in self._entries:
            if len(self._entries) >= _KEPT_ENTRIES:
                self._entries.clear()
            self._entries[key] = self._call
            return
        entry = self._entries[key]
        if entry == self._call:
            entry = self._entries[key] = self._entry(*call)
        if entry is not None:
            self.__call__ = entry

    def _entry(
        self, facts, args, kwargs, leaves, run, guards, width, traced, scalars
    ) -> Callable | None:
        positions = enumerate(p.name for p in self._parameters if p.kind in POSITIONAL)
        static = {i for i, name in positions if name in self._static_names}
        form = CallForm(
            args, kwargs, static | self._static_names, leaves, scalars,
            unflatten(traced.out_tree, range(len(traced.out_weak))), guards, width,
            functools.partial(unflatten, traced.out_tree), self._call, facts,
        )  # fmt: skip
        return make_entry(run, form)

    # ------------------------------------------------------------------------ other languages

    def c_function(self, *args, **kwargs) -> CFunction:
        """This function for arguments like these as a C function, compiled but not called.

        ``.header`` declares it, ``.address`` is its pointer, ``.ctypes`` calls it. It takes a
        pointer for each leaf of the arguments, then for each of the result, and may be called
        by any number of threads at once. Sizes are fixed; donated arguments are overwritten. What
        the function reads besides its arguments stays as it is now, and long loops do not look for
        signals (the caller may hold no GIL, or have no Python at all): Ctrl-C waits for their end.

        Raises OptionError for a function that has no program of its own at these sizes.

        >>> import ctypes, numpy as np, graphc as gc
        >>> f = gc.value_and_grad(lambda x: np.sum(x ** 2)).c_function(np.zeros(3))
        >>> x, value, slope = np.arange(3.0), np.zeros(()), np.zeros(3)
        >>> f.ctypes(x.ctypes, value.ctypes, slope.ctypes), float(value), slope.tolist()
        (0, 5.0, [0.0, 2.0, 4.0])
        """
        args, kwargs, statics = self._split_static(args, kwargs)
        leaves, treedef = flatten((args, kwargs))
        arrays, key = _arrays(leaves)
        special = self._variant(args, kwargs, statics, leaves, treedef, arrays, key)[2]
        if not isinstance(special.run, Executable):
            why = "is interpreted" if self.engine != "native" else (
                "decides by traced values: write np.where or gc.cond"
            )  # fmt: skip
            raise OptionError(f"`{self._shown}` has no C function: it {why}")
        if special.traced.shown:
            place = special.traced.shown[0].source
            raise OptionError(f"`{self._shown}` has no C function: it has debug_print at {place}")
        return CFunction(self.name, special.run, arrays, special.structure())

    @functools.cached_property
    def njit(self) -> Callable:
        """This function for use inside a function of yours that Numba compiles.

        It takes arrays, numbers and tuples of them by position, and returns them. The types of
        Numba have no sizes: an array argument has those of the last call of this function from
        Python with arrays of that dtype and rank, and others raise ValueError. For the rest it is
        as :meth:`c_function` says.

        >>> import numba, numpy as np, graphc as gc
        >>> slope = gc.grad(lambda x: x ** 3).njit
        >>> @numba.njit
        ... def newton(x):
        ...     for _ in range(60):
        ...         x -= x ** 3 / slope(x)
        ...     return x
        >>> newton(1.0) < 1e-9
        True
        """
        from graphc.codegen.numba_call import numba_function

        return numba_function(self, self.name, self._for_numba)

    def _for_numba(self, examples: list) -> CFunction:
        leaves, treedef = flatten((tuple(examples), {}))
        sizes = self._latest_sizes(leaves, treedef)
        filled = [
            example_of(leaf.dtype, shape) if hasattr(leaf, "ndim") and shape is not None else leaf
            for leaf, shape in zip(leaves, sizes, strict=True)
        ]
        args, _ = unflatten(treedef, filled)
        return self.c_function(*args)

    def _latest_sizes(self, leaves: list, treedef) -> list[tuple[int, ...] | None]:
        """Shapes of the last call of this structure, with arrays of these dtypes and ranks."""
        from graphc.codegen.numba_call import Rank

        wanted = [(k.dtype, k.ndim) if isinstance(k, Rank) else None for k in leaves]
        if not any(wanted):
            return [None] * len(leaves)
        for (structure, *_), family in reversed(self._families.items()):
            for key in reversed(family.exact) if structure == treedef else ():
                at = [i for i, word in enumerate(key) if isinstance(word, np.dtype)]
                kinds = [(key[i], len(key[i + 1])) for i in at]
                if all(w is None or w == kind for w, kind in zip(wanted, kinds, strict=True)):
                    return [key[i + 1] if w else None for i, w in zip(at, wanted, strict=True)]
        raise OptionError(
            f"call `{self._shown}` from Python first, with arrays of these dtypes and ranks: "
            "the types of Numba have no sizes"
        )

    # ------------------------------------------------------------------------- specialization

    def _split_static(self, args, kwargs):
        if not self._static_names:
            return args, kwargs, ()
        try:
            bound = inspect.signature(self.traceable).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._shown}: {error}") from None
        bound.apply_defaults()
        statics = tuple((n, v) for n, v in bound.arguments.items() if n in self._static_names)
        static_at = {
            i for i, p in enumerate(self._parameters)
            if p.name in self._static_names and p.kind in POSITIONAL
        }  # fmt: skip
        args = tuple(v for i, v in enumerate(bound.args) if i not in static_at)
        kwargs = {n: v for n, v in bound.kwargs.items() if n not in self._static_names}
        return args, kwargs, statics

    def _traceable_with(self, statics) -> Callable:
        """The function of the arguments that ``_split_static`` leaves."""
        if not statics:
            return self.traceable
        given = dict(statics)

        def traceable(*args, **kwargs):
            rest, full = iter(args), []
            for p in self._parameters:
                if p.kind in POSITIONAL:
                    full.append(given[p.name] if p.name in given else next(rest))
                elif p.kind is p.KEYWORD_ONLY and p.name in given:
                    kwargs[p.name] = given[p.name]
            return self.traceable(*full, *rest, **kwargs)

        traceable.__name__ = self.name
        traceable.__wrapped__ = self.traceable  # type: ignore[attr-defined]
        traceable.__signature__ = inspect.Signature(self._dynamic)  # type: ignore[attr-defined]
        return traceable

    def _request(self, args, kwargs, statics, leaves, treedef) -> Request:
        paths = self._leaf_paths(args, kwargs)
        specs = [
            leaf if isinstance(leaf, ArgSpec) else spec_of(leaf, path)
            for leaf, path in zip(leaves, paths, strict=True)
        ]
        return Request(treedef, tuple(paths), tuple(s.type for s in specs),
                        tuple(s.weak for s in specs), statics)  # fmt: skip

    def _specialize(self, family: _Family, request: Request, arrays) -> Specialization:
        for variant in family.variants:
            if variant.fits(request.types):
                return variant
        reason = request.differs_from(family.asked or self._asked)
        wanted = self._with_declared_dims(request.types, request.paths)
        if family.change and not family.variants:
            reason = family.change
            wanted = next((v.types for v in family.before if v.fits(request.types)), wanted)
        if family.variants and self.memory_limit is None:
            found = (symbolic(v.types, wanted) for v in reversed(family.variants))
            wanted = next((f for f in found if f is not None), wanted)
        special, why = None, ""
        try:
            axes = became_symbolic(request, wanted) if family.variants else ""
            if self.memory_limit is not None and family.variants:
                axes = "; sizes are fixed because memory_limit is met for each of them"
            special = self._build(family, request.of_types(wanted), arrays, reason + axes)
        except SymbolicDimError as error:
            why = _in_user_terms(str(error), wanted, request.paths, self.dims) + _raised_at(error)
        if special is None:
            why = f"{reason}; sizes are fixed because {why}"
            special = self._build(family, request, arrays, why)
        self._remember(family, special, request)
        return special

    def _at_these_sizes(self, family, special, arrays, error: Exception) -> Specialization:
        """A variant for the sizes of this call, where a path of ``special`` needs them."""
        request = special.request.of_types(TensorType(a.dtype, a.shape) for a in arrays)
        with self._compiling:
            for variant in family.variants:
                if variant.types == request.types:
                    return variant
            why = _in_user_terms(str(error), special.types, request.paths, self.dims)
            why += _raised_at(error)
            why = f"a path needs the sizes because {why}"
            fixed = self._build(family, request, arrays, why)
            self._remember(family, fixed, request)
        return fixed

    def _remember(self, family: _Family, special: Specialization, request: Request) -> None:
        family.variants.append(special)
        family.variants.sort(key=lambda v: any(t.symbols for t in v.types))  # exact ones first
        family.seen.append(request.types)
        self._asked = family.asked = request
        if len(family.variants) >= _WARN_AT_COMPILES and not self._warned:
            self._warn_recompiling(family, request.types, request.paths)

    def _leaf_paths(self, args, kwargs) -> list[str]:
        paths = []
        names = [p.name for p in self._dynamic if p.kind in POSITIONAL]
        rest = next((p.name for p in self._dynamic if p.kind is p.VAR_POSITIONAL), "args")
        for position, arg in enumerate(args):
            beyond = position - len(names)
            name = names[position] if beyond < 0 else f"{rest}[{beyond}]"
            paths += leaf_paths(arg, name)
        for name in sorted(kwargs):
            paths += leaf_paths(kwargs[name], name)
        return paths

    def _with_declared_dims(self, types, paths):
        if not self.dims or self.memory_limit is not None:  # which is for sizes that are known
            return types
        result = []
        for kind, path in zip(types, paths, strict=True):
            names = self.dims.get(path) or self.dims.get(path.split("[")[0].split(".")[0])
            shape = tuple(
                symbol(n) if n is not None and d > 1 else d
                for d, n in zip(kind.shape, [*names, *[None] * kind.ndim], strict=False)
            ) if names else kind.shape  # fmt: skip
            result.append(TensorType(kind.dtype, shape))
        return tuple(result)

    def _build(self, family: _Family, request: Request, arrays, reason: str) -> Specialization:
        """A variant whose first path is that of ``arrays``. Raises SymbolicDimError."""

        def trace(arrays, outcomes=()):
            others = [f.captured for f in list(self._families.values()) if f.captured is not None]
            as_read = [c for c in others if c.change() is None]
            traced = self._trace(request, arrays, outcomes)
            for one in as_read:
                one.take_over()  # what the function itself changes, such as a counter
            family.captured = family.captured or Captured(self.traceable, request.statics)
            return traced

        def extend(arrays, outcomes, reason):
            return self._compiled_path(trace(arrays, outcomes), request, reason)

        traced = trace(arrays)
        if traced.guards:
            first = self._compiled_path(traced, request, reason)
            paths = Paths(self._shown, first, self.max_paths, extend, self._compiling)
            return GuardedSpecialization(traced, paths, request, ())
        graph = self._program(traced, request)[0]
        run = next((v.run for v in family.before if v.computes(traced, graph)), None)
        is_new = run is None
        if run is None:
            run = self._compiled(graph, request, reason)
        if family.change and not family.variants:
            self._changed(is_new)
        return Specialization(traced, run, request, _scalars(traced, graph))

    def _compiled_path(self, traced: Traced, request: Request, reason: str) -> Path:
        graph = self._program(traced, request)[0]
        returned = functools.partial(_rebuilt, traced, _scalars(traced, graph))
        stages, listed = [], reason
        for guards, program in in_stages(graph, traced.guards)[::-1]:
            stages.append((guards, self._compiled(program, request, listed)))
            listed = None  # checks that run before are no entry of their own
        return Path(traced, returned, stages[::-1])

    def _compiled(self, graph: Graph, request: Request, reason: str | None):
        """What runs ``graph``, listed in ``compiles`` if there is a reason."""
        if reason is not None and self.max_compiles is not None:
            self.compiles.check_limit(self._shown, self.max_compiles, request.listed(), reason)
        run, seconds, kernels = _engine(self.engine, graph, self.threads)
        if reason is not None:
            self.compiles.append(
                Compile(tuple(map(str, request.types)), reason, seconds, kernels, request.listed())
            )
        return run

    def _trace(self, request: Request, arrays, outcomes=()) -> Traced:
        specs = map(ArgSpec, request.types, request.weak)
        args, kwargs = unflatten(request.treedef, specs)
        try:
            return trace(
                self._traceable_with(request.statics), args, kwargs, name=self.name,
                before_adjoint=stabilize_nodes, roll=reroll_nodes, shown=self._shown,
                takes_half=self.engine != "native", arrays=arrays, outcomes=outcomes,
            )  # fmt: skip
        except Exception as error:
            # What would fail with known sizes too will say so; np.fft.fftfreq(n) takes ints only.
            if isinstance(error, SymbolicDimError) or not request.widened:
                raise
            reason = str(error).split("\n")[0]
            raise SymbolicDimError(f"a size that is a symbol was refused: {reason}") from error

    def _program(self, traced: Traced, request: Request) -> tuple[Graph, Memory | None]:
        """What is compiled; what it needs, where that is limited."""
        graph = self._with_donation(traced, request)
        if self.memory_limit is None or graph.symbols != tuple(graph.tapes):
            return graph, None
        from graphc.memory_limit import within  # passes and schedule

        return within(graph, self.memory_limit, None, self.threads > 1)

    def _with_donation(self, traced: Traced, request: Request) -> Graph:
        """Outputs take the memory of donated inputs of their type, in order."""
        if not self.donate:
            return traced.program
        args, kwargs = unflatten(request.treedef, range(len(request.types)))
        free, start = [], 0
        names = [p.name for p in self._dynamic if p.kind in POSITIONAL]
        named = [*zip([*names, *[""] * len(args)], args), *((n, kwargs[n]) for n in sorted(kwargs))]
        for name, arg in named:
            count = len(flatten(arg)[0])
            if name in self._donated_names:
                free += range(start, start + count)
            start += count
        donated: dict[int, int] = {}
        graph = traced.program
        for out, node in enumerate(traced.graph.outputs):
            match = next((i for i in free if graph.inputs[i].type == node.type), None)
            if match is not None:
                donated[out] = match
                free.remove(match)
        if free:
            names = ", ".join(graph.input_name(i) for i in free)
            raise TraceError(
                f"donated to `{self._shown}`, but no output has the dtype and shape of: {names}.\n"
                "Return the updated value, or leave the argument out of donate."
            )
        return Graph(graph.name, graph.inputs, graph.outputs, graph.sources, donated)

    def _warn_recompiling(self, family: _Family, types, paths) -> None:
        _, _, why = self.compiles[-1].reason.partition("; ")
        advice = why or f"Name the dimension: graphc.compile(f, dims={{'{paths[0]}': ('n',)}})"
        changing = []
        for position, path in enumerate(paths):
            fixed = [v.types[position].shape for v in family.variants]
            seen = [s[position].shape for s in family.seen]
            for axis in range(types[position].ndim):
                often = {s[axis] for s in fixed if len(s) > axis} - {0, 1}
                if sum(isinstance(size, int) for size in often) >= _WARN_AT_COMPILES:
                    sizes = dict.fromkeys(s[axis] for s in seen if len(s) > axis)
                    changing.append(f"axis {axis} of {path} was {', '.join(map(str, sizes))}")
        if changing:
            self._warned = True
            _warn(
                f"compile {len(family.variants)} of `{self._shown}`: {'; '.join(changing[:3])}; "
                f"{advice}"
            )

    def memory(self, *args, **kwargs) -> Memory:
        """Bytes that a call with these arguments needs, told without compiling or calling it.

        Arguments may be types of known sizes alone; OptionError for symbolic ones.

        >>> import numpy as np, graphc as gc
        >>> gc.grad(lambda x: np.sum(x ** 2)).memory(np.zeros(1000)).peak
        16000
        """
        from graphc.memory import predict  # passes and schedule: not in a process that only calls

        args, kwargs, statics = self._split_static(args, kwargs)
        leaves, treedef = flatten((args, kwargs))
        request = self._request(args, kwargs, statics, leaves, treedef)
        for kind, path in zip(request.types, request.paths, strict=True):
            if kind.symbols:
                raise OptionError(
                    f"memory: give the size {min(kind.symbols)} of {path} as a number"
                )
        family = self._families.get((treedef, request.weak, frozen(statics)), _Family())
        types = next((v.types for v in family.variants if v.fits(request.types)), None)
        types = types or self._with_declared_dims(request.types, request.paths)
        try:
            traced = self._trace(request.of_types(types), _values(leaves))
        except SymbolicDimError:
            types = request.types
            traced = self._trace(request, _values(leaves))
        sizes = {
            str(dim): size
            for kind, given in zip(types, request.types, strict=True)
            for dim, size in zip(kind.shape, given.shape, strict=True)
            if isinstance(dim, Dim)
        }
        graph, limited = self._program(traced, request)
        return limited or predict(graph, sizes, self.threads > 1)

    def graph(self, *args, **kwargs) -> Graph:
        """The traced graph for these arguments (concrete, or ``ArgSpec`` leaves).

        Where the program decides by traced values it is the path of these arguments.
        """
        args, kwargs, statics = self._split_static(args, kwargs)
        leaves, treedef = flatten((args, kwargs))
        request = self._request(args, kwargs, statics, leaves, treedef)
        traced = self._trace(request, _values(leaves))
        return self._program(replace(traced, shown=()), request)[0]


def with_own_options(
    fn, options: dict, *inherited: str, named: Sequence[str] = ()
) -> tuple[Callable, dict]:
    """A compiled function hands on its options, where no others are given. ``named``: those that
    the transform has as parameters.

    Raises UnknownNameError for an option that there is not, TraceError where ``fn`` is none.
    """
    if not callable(fn):
        message = f"a function is needed, not {kind_of(fn)}"
        raise TraceError(located(f"{message}: pass `f` itself, as in `gc.grad(f)(x)`, not `f(x)`"))
    if isinstance(fn, type) and not _is_tree(fn):
        raise TraceError(
            located(f"a function is needed, not the class `{fn.__name__}`: pass an object of it")
        )
    for name in options:
        if name not in _OPTIONS:
            raise unknown_name("option", name, (*named, *_OPTIONS))
    if not isinstance(fn, CompiledFunction):
        return fn, options
    given = {k: v for k, v in options.items() if v is not None and v != ()}
    if "static_argnums" in given:
        inherited = tuple(k for k in inherited if k != "static_argnames")
    own = {
        "static_argnames": sorted(fn._static_names), "dims": fn.dims, "donate": fn.donate,
        "max_paths": fn.max_paths, "max_compiles": fn.max_compiles, "checked": fn.checked,
        "device": fn.device, "threads": fn.threads, "memory_limit": fn.memory_limit,
    }  # fmt: skip
    shared = ("max_paths", "max_compiles", "checked", "device", "threads", "memory_limit")
    inherited = (*inherited, *shared)
    return fn.traceable, {**{k: own[k] for k in inherited}, **given}


def _warn(text: str) -> None:
    warnings.warn(text, CompileWarning, stacklevel=frames_to_user())


def _is_tree(cls: type) -> bool:
    """Whether a class may make a tree of its arguments."""
    is_own = cls.__module__.startswith("graphc.")
    return (hasattr(cls, "__dataclass_fields__") and not is_own) or issubclass(
        cls, tuple | list | dict
    )


def _in_user_terms(text: str, types, paths, declared: Mapping) -> str:
    """``text`` with ``x.shape[0]`` for the names that ``symbolic`` made up."""
    kept = {n for names in declared.values() for n in names}
    for kind, path in zip(types, paths, strict=True):
        for axis, dim in enumerate(kind.shape):
            if isinstance(dim, Dim) and str(dim) not in kept:
                text = re.sub(rf"\b{dim}\b", f"{path}.shape[{axis}]", text)
                kept.add(str(dim))
    return text


def _raised_at(error: BaseException) -> str:
    """The user's line below which an error was raised, in brackets."""
    lines = [
        Source(frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if is_user(frame)
    ]
    return f" ({lines[-1]}: {line_text(lines[-1])})" if lines else ""


def _arrays(leaves: Iterable) -> tuple[list[np.ndarray], tuple]:
    """Leaves as arrays, and what distinguishes them for compilation."""
    arrays, key = [], []
    for leaf in leaves:
        if type(leaf) is not np.ndarray:
            kind = type(leaf)
            key.append(kind if kind in _PYTHON_NUMBERS or is_lossy(leaf) else None)
            leaf = np.asarray(leaf)
        if not leaf.dtype.isnative:
            leaf = leaf.astype(leaf.dtype.newbyteorder("="))
        arrays.append(leaf)
        key.append(leaf.dtype)
        key.append(leaf.shape)
    return arrays, tuple(key)


def _values(leaves: Iterable) -> list[np.ndarray | None]:
    """Leaves as arrays, None for types alone."""
    return [None if isinstance(leaf, ArgSpec) else _arrays([leaf])[0][0] for leaf in leaves]


def _scalars(traced: Traced, graph: Graph) -> tuple[tuple[int, bool], ...]:
    """Outputs that are no arrays to callers (the donated ones stay arrays); weak or not."""
    return tuple(
        (k, weak)
        for k, (node, weak) in enumerate(zip(graph.outputs, traced.out_weak))
        if not node.type.shape and (weak or k not in graph.donated)
    )


def _limit_bytes(limit: int | str) -> int:
    from graphc.memory import limit_bytes

    return limit_bytes(limit)


def _at_least_one(option: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise OptionError(f"{option} must be an int from 1 on, not {value!r}")
    return value


def _engine(engine: str, graph: Graph, threads: int):
    """``(run, compile seconds, kernel count)`` of a graph."""
    if engine == "interpreter":
        return (lambda arrays: evaluate(graph, arrays)), 0.0, 0
    executable = pipeline.build(graph, threads)
    facts = executable.artifact
    return executable, facts.compile_seconds, facts.facts["kernels"]
