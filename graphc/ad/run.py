"""One call of the user's function on stand-ins, differentiated in either direction.

The function runs once, on stand-ins (``placeholder`` nodes of a level of their own) for the
differentiated arguments; derivatives are taken with respect to the stand-ins, and the actual
values are put back. Nested derivatives therefore never mix up their variables: what an inner
derivative sees of an outer variable is a constant to it, and still a variable to the outer one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from graphc.ad import forward, reverse
from graphc.ad.rules import Cotangent
from graphc.errors import GradientError
from graphc.functions import name_of, positional_names, signature_of
from graphc.ir import build
from graphc.ir.graph import inherit, substitute
from graphc.ir.node import Node
from graphc.ir.rows import row, stacks_of
from graphc.trace.source import located
from graphc.trace.tracer import Tracer
from graphc.trace.tracing import active_trace, current_trace, wrap
from graphc.trace.tree import flatten, leaf_paths, unflatten
from graphc.wording import kind_of, shape_text


@dataclass
class _Argument:
    """One differentiated argument."""

    structure: Any
    actual: list[Node]
    weak: list[bool]
    placeholders: list[Node]
    paths: list[str]


class Run:
    """One call of the user's function on placeholders."""

    def __init__(self, ctx, fn, args, kwargs, argnums: tuple[int, ...]):
        self.ctx = ctx
        self.level = ctx.new_level()
        self.arguments: list[_Argument] = []
        args, kwargs = list(args), dict(kwargs)
        names = positional_names(fn)
        for argnum in argnums:
            values, key, name = _find_argument(fn, argnum, args, kwargs, names)
            values[key] = self._stand_in(values[key], name)
        if not any(a.actual for a in self.arguments):
            which = argnums[0] if len(argnums) == 1 else argnums
            raise GradientError(
                located(
                    f"argument {which} (`{name}`) of `{name_of(fn)}` holds no array or number to "
                    "differentiate by; pass floats, or another argnums=..."
                )
            )
        self.result = fn(*args, **kwargs)
        actual = {
            p: node
            for argument in self.arguments
            for p, node in zip(argument.placeholders, argument.actual, strict=True)
        }
        self.mapping = dict(zip(actual, ctx.resolve(actual.values()), strict=True))
        past = ctx.placeholders
        self._inner = dict(past)
        resolved = substitute(past.values(), self.mapping, ctx.sources)
        past.update(zip(past, resolved, strict=True))
        past.update(self.mapping)

    def _stand_in(self, value, name):
        """``value`` with placeholders for its leaves."""
        leaves, structure = flatten(value)
        first = sum(len(a.actual) for a in self.arguments)
        paths = leaf_paths(value, name)
        tracers = [self._differentiable(*pair) for pair in zip(leaves, paths, strict=True)]
        actual, weak = [t.node for t in tracers], [t.weak for t in tracers]
        placeholders = [
            build.placeholder(self.level, first + k, node.type, path)
            for k, (node, path) in enumerate(zip(actual, paths, strict=True))
        ]
        self.arguments.append(_Argument(structure, actual, weak, placeholders, paths))
        for placeholder, node in zip(placeholders, actual, strict=True):
            self.ctx.decisions.values.stand_in(placeholder, node)
        stand_ins = zip(placeholders, weak, strict=True)
        return unflatten(structure, [wrap(self.ctx, p, w) for p, w in stand_ins])

    def _differentiable(self, leaf, path) -> Tracer:
        if isinstance(leaf, str | bytes):
            raise GradientError(
                located(
                    f"`{path}` is a {type(leaf).__name__}: it has no gradient.\nKeep it out of "
                    "the tree: in a closure, or as an argument in static_argnames."
                )
            )
        tracer = self.ctx.lift(leaf)
        kind = tracer.node.dtype.kind
        if kind in "fc":
            return tracer
        if isinstance(leaf, bool | int):
            fix = f"pass {float(leaf)}"
        elif tracer.node.ndim:
            fix = f"pass floats: {path}.astype(float)"
        else:
            fix = "pass a float such as 2.0"
        raise GradientError(
            located(f"gradient with respect to `{path}`, which is {tracer.node.dtype}; {fix}")
        )

    def settled(self, nodes: Iterable[Node]) -> list[Node]:
        """``nodes`` over this run's placeholders, without those of inner derivatives."""
        return substitute(nodes, self._inner, self.ctx.sources) if self._inner else list(nodes)

    def outputs(self, nodes: Iterable[Node]) -> list[Node]:
        """What the function returned, as it is computed: ``nodes`` in terms of the placeholders,
        with loops for what Python unrolled."""
        settled = self.settled(nodes)
        return self.ctx.roll(settled, self.ctx.sources) if self.ctx.roll else settled

    def resolved(self, nodes: Iterable[Node]) -> list[Node]:
        """``nodes`` with the actual values in place of the placeholders."""
        return substitute(nodes, self.mapping, self.ctx.sources)

    def gradients(self, outputs: list[Node], cotangents: list[Node]) -> tuple:
        """One tree of gradients for each differentiated argument."""
        grads = iter(self._pulled_back(outputs, cotangents))
        trees = []
        for argument in self.arguments:
            leaves = [wrap(self.ctx, next(grads), weak) for weak in argument.weak]
            trees.append(unflatten(argument.structure, leaves))
        return tuple(trees)

    def _pulled_back(self, outputs: list[Node], cotangents: list[Node]) -> list[Node]:
        """The cotangent of each placeholder, with the actual values. Those that a loop reads as
        rows of one stack have theirs as rows of one, too."""
        sources, leaves = self.ctx.sources, self.placeholders
        places = {p: k for k, p in enumerate(leaves)}
        stacks = {s: p for s, p in stacks_of(outputs, places).items() if s.dtype.kind == "f"}
        whole = {
            stack: build.placeholder(self.level, len(leaves) + k, stack.type)
            for k, stack in enumerate(stacks)
        }
        wrt = [*leaves, *whole.values()]
        given = [Cotangent(ct) for ct in cotangents]
        outputs = self.prepared(substitute(outputs, whole, sources))
        found = reverse.pull_back(outputs, given, wrt, sources)
        actual = zip(whole.values(), self.resolved(whole), strict=True)
        mapping = {**self.mapping, **dict(actual)}
        some = iter(substitute([ct.node for ct in found if ct is not None], mapping, sources))
        found = [None if ct is None else next(some) for ct in found]
        grads, of_stacks = found[: len(leaves)], found[len(leaves) :]
        for rows, stack in zip(stacks.values(), of_stacks, strict=True):
            for k, place in enumerate(rows if stack is not None else ()):
                part = row(stack, k, leaves[place].shape)
                if stack in sources:
                    inherit(sources, part, sources[stack])
                more = grads[place]
                grads[place] = part if more is None else build.elementwise("add", more, part)
        pairs = zip(grads, leaves, strict=True)
        return [build.full_like(leaf, 0) if ct is None else ct for ct, leaf in pairs]

    def tangents(self, outputs: list[Node], directions: Iterable[Any]) -> list[Node]:
        """The tangents of ``outputs``, given one tree for each differentiated argument."""
        nodes = []
        for argument, direction in zip(self.arguments, directions, strict=True):
            nodes += fitting(
                self.ctx, direction, argument.structure, argument.actual, argument.paths,
                "tangent",
            )  # fmt: skip
        outputs = self.prepared(outputs)
        found = forward.jvp(outputs, self.placeholders, nodes, self.ctx.sources)
        return self.resolved(found)

    @property
    def placeholders(self) -> list[Node]:
        return [p for argument in self.arguments for p in argument.placeholders]

    def prepared(self, outputs: list[Node]) -> list[Node]:
        """``outputs`` in the form that is differentiated."""
        if self.ctx.before_adjoint is None:
            return outputs
        return self.ctx.before_adjoint(outputs, self.ctx.sources)

    def returned(self, tree: Any) -> Any:
        """What the function returned, or a part of it, with the actual values."""
        leaves, structure = flatten(tree)
        traced = [a for a in leaves if isinstance(a, Tracer)]
        nodes = iter(self.resolved(self.settled([a.node for a in traced])))
        leaves = [
            wrap(self.ctx, next(nodes), a.weak) if isinstance(a, Tracer) else a for a in leaves
        ]
        return unflatten(structure, leaves)


def fitting(ctx, tree: Any, structure: Any, nodes: list[Node], paths: list[str], what: str):
    """The leaves of a direction as nodes of the types of ``nodes``; what does not fit is named
    by its path."""
    leaves, found = flatten(tree)
    if found != structure:
        raise GradientError(
            located(f"the {what} is a {_text(found)}, where a {_text(structure)} is needed")
        )
    result = []
    for leaf, node, path in zip(leaves, nodes, paths, strict=True):
        given = ctx.lift(leaf).node
        if given.shape != node.shape:
            raise GradientError(
                located(
                    f"a {what} of shape {shape_text(given.shape)} for `{path}` of shape "
                    f"{shape_text(node.shape)}"
                )
            )
        if given.dtype.kind == "c" != node.dtype.kind:
            raise GradientError(
                located(f"a complex {what} for `{path}`, which is {node.dtype}; pass its real part")
            )
        result.append(build.cast(given, node.dtype))
    return result


def _text(structure: Any) -> str:
    return str(structure).removeprefix("PyTreeSpec(").removesuffix(")").replace("*", "leaf")


def trace_of(fn, args, kwargs):
    ctx = current_trace(*args, *kwargs.values()) or active_trace()
    if ctx is None:
        raise GradientError(
            located(f"the gradient of `{name_of(fn)}` was asked for outside a traced function")
        )
    return ctx


def check_argnums(argnums, call: str) -> int | tuple[int, ...]:
    """An int or a tuple of ints, else GradientError; ``call`` is how it is written."""
    if isinstance(argnums, list) and all(isinstance(a, int) for a in argnums):
        argnums = tuple(argnums)
    for argnum in argnums if isinstance(argnums, tuple) else (argnums,):
        if isinstance(argnum, bool) or not isinstance(argnum, int):
            kind = "an array" if hasattr(argnum, "shape") else kind_of(argnum)
            message = f"argnums is an int or a tuple of ints, not {kind}"
            raise GradientError(located(f"{message}; arguments follow the function: `{call}`"))
    return argnums


def _find_argument(fn, argnum, args, kwargs, names):
    """``(container, key, name)`` of a differentiated argument."""
    check_argnums(argnum, f"gc.grad({name_of(fn)})(...)")
    position = argnum + (len(names) or len(args)) if argnum < 0 else argnum
    name = names[position] if 0 <= position < len(names) else f"argument {position}"
    if 0 <= position < len(args):
        return args, position, name
    if name in kwargs:
        return kwargs, name, name
    _refuse_unknown(fn, kwargs)
    raise GradientError(
        located(f"argnums={argnum}, but `{name_of(fn)}` got {len(args)} positional arguments")
    )


def _refuse_unknown(fn, kwargs) -> None:
    """Raise GradientError for a keyword that ``fn`` does not take, as its call would."""
    signature = signature_of(fn)
    if signature is None:
        return
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    taken = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in kwargs:
        if name not in taken:
            shown = f"{name_of(fn)}{signature}"
            message = (
                f"{name_of(fn)}() got an unexpected keyword argument {name!r}: it is `{shown}`"
            )
            raise GradientError(located(message))
