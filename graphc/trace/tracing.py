"""From a Python function and the types of its arguments to a graph."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from graphc.errors import EscapedTracerError, GraphcError, TraceError
from graphc.functions import POSITIONAL, name_of, parameters_of
from graphc.ir import build, calls
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph, Source, deep, topological
from graphc.ir.node import Node
from graphc.ir.types import TensorType, is_supported_dtype, tensor_type
from graphc.trace import numpy_api, printing, sizes  # noqa: F401  (fill the dispatch tables, sizes' rules)
from graphc.trace.blame import IN_LOOP
from graphc.trace.context import (
    TOO_LARGE,
    TraceContext,
    active_trace,
    current_trace,
    is_python_number,
    refuse_lossy,
    running,
    wrap,
)
from graphc.trace.dtypes import unknown_dtype
from graphc.trace.guards import Decisions, Guard, Values
from graphc.trace.printing import Shown
from graphc.trace.random_guard import RandomGuard
from graphc.trace.source import located
from graphc.trace.tracer import Tracer
from graphc.trace.tree import flatten, leaf_paths, unflatten

__all__ = [
    "ArgSpec",
    "TraceContext",
    "Traced",
    "Tracer",
    "active_trace",
    "current_trace",
    "spec_of",
    "trace",
    "wrap",
]


@dataclass(frozen=True, slots=True)
class ArgSpec:
    """What is known of an argument leaf: its type, and whether it is a Python number."""

    __graphc_leaf__ = True

    type: TensorType
    weak: bool = False


@dataclass(frozen=True)
class Traced:
    """A traced function. ``out_tree`` rebuilds what it returned from ``graph.outputs``;
    ``out_weak`` marks outputs that are Python numbers; ``in_paths`` names ``graph.inputs``.
    It serves the calls in which the values of ``guards`` are as they were."""

    graph: Graph
    out_tree: Any
    out_weak: tuple[bool, ...]
    in_paths: tuple[str, ...]
    guards: tuple[Guard, ...] = ()
    shown: tuple[Shown, ...] = ()  # by debug_print, of nodes over the inputs

    @property
    def program(self) -> Graph:
        """``graph`` with what is shown as further outputs."""
        graph = self.graph
        if not self.shown:
            return graph
        outputs = (*graph.outputs, *printing.nodes_of(self.shown))
        return Graph(graph.name, graph.inputs, outputs, graph.sources, graph.donated)

    def show(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Print what a call of ``program`` has computed for that; the outputs of ``graph``."""
        printing.show(self.shown, outputs[len(self.out_weak) :])
        return list(outputs[: len(self.out_weak)])


def spec_of(leaf: Any, path: str) -> ArgSpec:
    """The :class:`ArgSpec` of a concrete argument leaf; TraceError names ``path`` for others.

    >>> spec_of(np.zeros((2, 3), np.float32), "x").type
    TensorType(dtype=dtype('float32'), shape=(2, 3))
    """
    if isinstance(leaf, np.ndarray):
        if is_supported_dtype(leaf.dtype):
            refuse_lossy(leaf, f"`{path}`")
            return ArgSpec(TensorType(_plain_dtype(leaf.dtype), leaf.shape))
        raise TraceError(located(unknown_dtype(f"`{path}`", leaf.dtype, ", or mark it static")))
    if isinstance(leaf, np.generic) and is_supported_dtype(leaf.dtype):
        return ArgSpec(tensor_type(leaf.dtype))
    if is_python_number(leaf):
        dtype = np.asarray(leaf).dtype
        if dtype.kind == "O":
            raise TraceError(located(f"`{path}` is an int that {TOO_LARGE}"))
        return ArgSpec(tensor_type(dtype), weak=True)
    if isinstance(leaf, Tracer):
        return ArgSpec(leaf.node.type, leaf.weak)
    if hasattr(leaf, "__array__") and not isinstance(leaf, type):
        return spec_of(np.asarray(leaf), path)
    raise TraceError(located(not_a_number(leaf, path)))


@functools.cache
def _plain_dtype(dtype: np.dtype) -> np.dtype:
    """By name: the one object that plain arrays carry, which native calls compare with."""
    return np.dtype(dtype.name)


def not_a_number(leaf: Any, path: str) -> str:
    """What to do about a leaf that is neither an array nor a number."""
    kind = type(leaf).__name__
    if (meant := _meant(leaf, path)) is not None:
        return f"`{path}` is a {kind}, not an array or a number.\nPass {meant}."
    if path.isidentifier():
        fix = f"mark it static: static_argnames={path!r}"
    else:
        fix = "keep it out of the tree: in a closure, or as an argument in static_argnames"
    return f"`{path}` is a {kind}, not an array or a number.\nEither leave it out, or {fix}."


def _meant(leaf: Any, path: str) -> str | None:
    """What holds the numbers of an object of a known kind."""
    if isinstance(leaf, Mapping):  # scikit-learn's Bunch
        keys = [k for k in leaf if isinstance(leaf[k], np.ndarray)][:2] or list(leaf)[:2]
        return "its arrays, such as " + " and ".join(f"{path}[{k!r}]" for k in keys)
    if type(leaf).__module__.startswith("scipy.sparse"):
        return f"{path}.toarray(), or the arrays of {path}.tocoo(): data, row and col"
    if isinstance(leaf, Number):  # Decimal, Fraction
        return f"float({path})"
    if isinstance(leaf, Iterator):
        return f"np.array(list({path}))"
    return None


def trace(
    fn: Callable,
    args: tuple,
    kwargs: dict | None = None,
    *,
    name: str | None = None,
    static: Iterable[int | str] = (),
    before_adjoint: Callable | None = None,
    roll: Callable | None = None,
    shown: str | None = None,
    takes_half: bool = True,
    arrays: Sequence[np.ndarray | None] | None = None,
    outcomes: Sequence = (),
) -> Traced:
    """Run ``fn`` once on tracers and return its graph.

    ``args`` and ``kwargs`` are trees whose leaves are :class:`ArgSpec`; any other leaf is static
    and reaches ``fn`` as it is, and so do the whole arguments whose position or name is in
    ``static``. ``roll(nodes, sources) -> nodes`` rewrites what a differentiated function returns,
    ``before_adjoint`` then what is differentiated in its place.
    ``name`` is that of the graph, ``shown`` that in messages. Without ``takes_half`` functions
    that NumPy computes in float16 for small integers are refused.
    ``arrays`` are those of the current call, one for each ArgSpec: with them Python may
    decide by traced values, which become guards; ``outcomes`` are those of the first guards.
    Raises TraceError and its kin for what a static graph cannot hold.

    >>> spec = ArgSpec(tensor_type(np.float32, (3,)))
    >>> str(trace(lambda x: np.sum(x * 2), (spec,)).graph.outputs[0].type)
    'f32[]'
    """
    kwargs = kwargs or {}
    static = frozenset(static)
    name = name or name_of(fn)
    name = name if name.isidentifier() else "function"
    shown = shown or name
    context = TraceContext(shown, before_adjoint, takes_half, roll)
    arguments = _named_arguments(fn, args, kwargs)
    inputs: list[Node] = []
    values = []
    for key, label, argument in arguments:
        is_static = key in static or label in static
        values.append(argument if is_static else _trace_leaves(context, argument, label, inputs))
    new_args, new_kwargs = values[: len(args)], dict(zip(sorted(kwargs), values[len(args) :]))
    if arrays is not None:
        context.decisions = Decisions(Values.of_call(inputs, arrays), outcomes)
    guard = RandomGuard(fn, (args, kwargs))
    try:
        with running(context):
            result = fn(*new_args, **new_kwargs)
            guard.check(shown)
            graph, out_tree, out_weak = _outputs(context, fn, result, name, inputs)
            shown = _shown(context)
    except GraphcError:
        raise
    except Exception as error:
        cause = _hidden(context, error)
        if cause is None:
            raise
        raise cause from None
    finally:
        context.alive = False
    guards = context.decisions.guards(context.sources)
    more = [*(g.node for g in guards), *printing.nodes_of(shown)]
    lines = context.sources
    graph.sources.update({n: lines[n] for n in (*graph.deep_order, *deep(more)) if n in lines})
    paths = tuple(i.attr("name") for i in inputs)
    return Traced(graph, out_tree, out_weak, paths, guards, shown)


def _named_arguments(fn, args, kwargs) -> list[tuple[int | str, str, Any]]:
    """``(key, label, argument)``: positional ones in order, then keywords sorted by name."""
    names = []
    parameters = parameters_of(fn)
    positional = [p.name for p in parameters if p.kind in POSITIONAL]
    variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    for index in range(len(args)):
        if index < len(positional):
            names.append(positional[index])
        elif variadic is not None:
            names.append(f"{variadic}[{index - len(positional)}]")
        else:
            names.append(f"arg{index}")
    listed: list = [(i, n, a) for i, (n, a) in enumerate(zip(names, args, strict=True))]
    return listed + [(k, k, kwargs[k]) for k in sorted(kwargs)]


def _trace_leaves(context, argument, label: str, inputs: list[Node]):
    """``argument`` with each ArgSpec replaced by a tracer of a new input."""
    if isinstance(argument, ArgSpec):
        leaves, treedef, paths = [argument], None, [label]
    else:
        leaves, treedef = flatten(argument)
        if not any(isinstance(leaf, ArgSpec) for leaf in leaves):
            return argument
        paths = leaf_paths(argument, label)
    for i, (leaf, path) in enumerate(zip(leaves, paths, strict=True)):
        if isinstance(leaf, ArgSpec):
            inputs.append(build.input(len(inputs), path, leaf.type))
            leaves[i] = Tracer(context, inputs[-1], leaf.weak)
    return leaves[0] if treedef is None else unflatten(treedef, leaves)


def _outputs(context, fn, result, name: str, inputs: list[Node]):
    """The graph of what the function returned, its structure, and which of it is weak."""
    if result is None:
        source = _definition(fn)
        raise TraceError(located(f"`{context.name}` returned None; is a `return` missing?", source))
    leaves, out_tree = flatten(result)
    nodes, weak = [], []
    for index, leaf in enumerate(leaves):
        is_value = isinstance(leaf, Tracer | Dim | np.ndarray | np.generic)
        if not is_value and not is_python_number(leaf):
            path = leaf_paths(result, "output")[index]
            raise TraceError(
                located(
                    f"{path} of `{context.name}` is a {type(leaf).__name__}; "
                    "a traced function returns arrays and numbers.\n"
                    "Leave it out of what is returned: the caller can keep it beside.",
                    _definition(fn),
                )
            )
        tracer = context.lift(leaf)
        nodes.append(tracer.node)
        weak.append(bool(tracer.weak))
    graph = Graph(name, tuple(inputs), tuple(nodes), {})
    if any(n.op == "placeholder" for n in graph.order):
        graph = Graph(name, graph.inputs, tuple(context.resolve(nodes)), {})
    if any(n.op in calls.MARKS for n in graph.deep_order):
        inlined = calls.inline(graph.outputs, context.sources)
        graph = Graph(name, graph.inputs, tuple(inlined), {})
    _refuse_stand_ins(context, graph.order)
    return graph, out_tree, tuple(weak)


def _shown(context) -> tuple[Shown, ...]:
    nodes = calls.inline(context.resolve(printing.nodes_of(context.shown)), context.sources)
    _refuse_stand_ins(context, topological(nodes))
    return tuple(printing.with_nodes(context.shown, nodes))


def _refuse_stand_ins(context, order: Sequence[Node]) -> None:
    """What one step of a loop or one example of a batch computed has no value outside of it."""
    left = next((n for n in order if n.op == "placeholder"), None)
    if left is not None:
        inner = "the body of a loop" if left.attr("name") == IN_LOOP else "a function under vmap"
        of = "" if left.attr("name") == IN_LOOP else f" that depends on `{left.attr('name')}`"
        raise EscapedTracerError(
            located(
                f"a value{of} left {inner} sideways, in `{context.name}`.\n"
                "Return it from that function."
            )
        )


def _definition(fn) -> Source | None:
    """Where the user's function begins, also where a transform wraps it."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return Source(code.co_filename, code.co_firstlineno, code.co_name) if code else None


def _hidden(context, error: BaseException) -> GraphcError | None:
    """The graphc error that NumPy replaced by its own ("setting an array element with ..."), or
    that C code (scipy.optimize.brentq) went on after."""
    if context.refusal is None or not isinstance(error, TypeError | ValueError | SystemError):
        return None
    refusal, source = context.refusal
    step = error.__traceback__
    while step is not None and source is not None:
        if (step.tb_frame.f_code.co_filename, step.tb_lineno) == (source.file, source.line):
            return refusal
        step = step.tb_next
    return None
