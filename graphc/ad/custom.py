"""``custom_vjp``: a function whose gradient the user writes.

The user's backward function is traced like any other, so it can be differentiated again. Forward
mode transposes it: a tangent is the derivative of the pulled-back cotangent by the cotangent.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from graphc.ad import reverse
from graphc.ad.batching import batch
from graphc.ad.calls import Pulled, Rule, Token, inside, marked
from graphc.ad.guards import CLEAN
from graphc.ad.jvp_rules import DEAD, Tangent
from graphc.ad.rules import Cotangent
from graphc.errors import GradientError
from graphc.functions import name_of, parameters_of, positional_names, signature_of
from graphc.ir import build, calls
from graphc.ir.graph import Source, topological
from graphc.ir.node import Node
from graphc.ir.types import TensorType
from graphc.trace.source import located
from graphc.trace.tracer import Tracer
from graphc.trace.tracing import active_trace, current_trace, wrap
from graphc.trace.tree import flatten, flatten_prefix, leaf_paths, unflatten
from graphc.wording import kind_of, shape_text


class custom_vjp:
    """A function with a gradient of its own. Also a decorator.

    ``backward(cotangent, result, *args, **kwargs)`` gets the cotangent (a tree like the result),
    the result and the arguments of the call, and returns the cotangents of the arguments: a tuple
    with one for each positional argument (or the one, where there is one), or a dict by parameter
    name; those of arguments left at their default are passed over. A cotangent is a tree like its
    argument, with None where there is no gradient: for integers, for arguments in the program
    (strings, flags), and where it is zero.

    What backward computes from the arguments, and the function computed too, is computed once.
    It is traced, so gradients of gradients, vmap and compiled functions work; forward mode
    transposes it, for which it must be linear in the cotangent. What is differentiated must be
    passed as an argument, not read from a closure. Called on plain arrays the function just runs.

    Raises GradientError where a cotangent has another shape or dtype than its argument.
    :func:`graphc.check_grads` checks a rule against its function.

    >>> import numpy as np, graphc as gc
    >>> @gc.custom_vjp
    ... def log1pexp(x):
    ...     return np.log(1 + np.exp(x))
    >>> @log1pexp.backward
    ... def _(ct, result, x):
    ...     return ct * (1 - np.exp(x - result) / np.exp(x))  # any form; this one is stable
    >>> float(gc.grad(log1pexp)(0.0))
    0.5
    """

    def __init__(self, fn: Callable, backward: Callable | None = None):
        functools.update_wrapper(self, fn)
        self.fn = fn
        self._backward = backward

    def __get__(self, instance, owner=None):
        """As a function in a class: a method, whose first argument is the instance."""
        return self if instance is None else types.MethodType(self, instance)

    def backward(self, fn: Callable) -> Callable:
        """Declare the backward function; returns it."""
        self._backward = fn
        return fn

    def __call__(self, *args, **kwargs):
        leaves, structure = flatten((args, kwargs))
        if not any(isinstance(leaf, Tracer) for leaf in leaves):
            return self.fn(*args, **kwargs)
        ctx = current_trace(*args, *kwargs.values()) or active_trace()
        if (signature := signature_of(self.fn)) is not None:
            bound = signature.bind(*args, **kwargs)
            args, kwargs = bound.args, bound.kwargs
            leaves, structure = flatten((args, kwargs))
        rule = _Custom(ctx, self, leaves, structure)

        def run(leaves):
            new_args, new_kwargs = unflatten(structure, leaves)
            rule.result = self.fn(*new_args, **new_kwargs)
            return rule.result

        result = marked(ctx, rule.token, leaves, run, rule)
        rule.result = flatten(result)[1]
        return result

    def __repr__(self) -> str:
        return f"<custom_vjp of {name_of(self.fn)}>"


class _Linear(Rule):
    """A rule given by ``cotangents``; forward mode transposes it."""

    ctx: Any

    def cotangents(self, node: Node, cts: dict[int, Node]) -> list[Node | None]:
        """One cotangent, or None, for each argument of call ``node``."""
        raise NotImplementedError

    def pull(self, node, cts, active, suspect, sources) -> Pulled:
        self._refuse_closure(node, active, sources)
        found = self.cotangents(node, {k: ct.node for k, ct in cts.items()})
        zeros = DEAD if any(ct.zeros for ct in cts.values()) else CLEAN
        return [
            (x, None if ct is None else Cotangent(ct, zeros))
            for x, ct in zip(calls.arguments_of(node), found, strict=True)
        ]

    def push(self, node, parts):
        values = calls.results_of(node)
        level = self.ctx.new_level()
        cts = {
            k: build.placeholder(level, k, v.type, "cotangent")
            for k, v in enumerate(values) if v.dtype.kind == "f"
        }  # fmt: skip
        if any(t is not None for t in parts[: len(values)]):  # not through an argument
            self._refuse_closure(node, None, self.ctx.sources)
        found = self.cotangents(node, cts)
        pairs = [
            (ct, t.node) for ct, t in zip(found, parts[len(values) :], strict=True)
            if ct is not None and t is not None
        ]  # fmt: skip
        tangents = reverse.vjp(
            [ct for ct, _ in pairs], [t for _, t in pairs], list(cts.values()), self.ctx.sources
        )
        stand_ins = set(cts.values())
        if any(n in stand_ins for n in topological(tangents)):
            raise GradientError(
                located(
                    f"forward mode of `{self.token.name}`, a custom_vjp function: its backward is "
                    "not linear in the cotangent, so it cannot be transposed.\n"
                    "Differentiate in reverse mode: grad, vjp, or jacrev for a jacobian."
                )
            )
        result: list[Tangent | None] = [None] * len(values)
        for k, tangent in zip(cts, tangents, strict=True):
            result[k] = Tangent(tangent)
        return result

    def batched(self, node, mapped, size):
        return _Batched(self, mapped, size)

    def _refuse_closure(self, node: Node, active: set[Node] | None, sources) -> None:
        """What the function reads beside its arguments would silently get no gradient."""
        for read in inside(node, self.token).read:
            if (active is None and read.dtype.kind == "f") or (active and read in active):
                named = read.op in ("input", "placeholder") and read.attr("name")
                raise GradientError(
                    located(
                        f"`{self.token.name}` is a custom_vjp function and reads "
                        f"{f'`{named}`' if named else 'a value'}, which is differentiated, from "
                        "outside its arguments.\nPass it as an argument, or cut its derivative "
                        "with stop_gradient.",
                        sources.get(read),
                    )
                )


class _Custom(_Linear):
    """The rule of one call of a :class:`custom_vjp` function."""

    def __init__(self, ctx, custom: custom_vjp, leaves: list, structure):
        self.ctx = ctx
        self.custom = custom
        self.token = Token(name_of(custom.fn), is_differentiated=False)
        self.leaves = [None if isinstance(x, Tracer) else x for x in leaves]
        self.tracers = [i for i, x in enumerate(leaves) if isinstance(x, Tracer)]
        self.weak = [leaves[i].weak for i in self.tracers]
        self.structure = structure
        self.result: Any = None  # its structure

    def cotangents(self, node, cts):
        backward = self.custom._backward
        if backward is None:
            raise GradientError(
                located(
                    f"`{self.token.name}` is a custom_vjp function without a backward function.\n"
                    f"Declare it: @{self.token.name}.backward above "
                    "`def _(cotangent, result, *args):`"
                )
            )
        values = calls.results_of(node)
        results, given = [], []
        for k, value in enumerate(values):
            is_float = value.dtype.kind == "f"
            results.append(wrap(self.ctx, calls.result(node, k) if is_float else value))
            ct = cts.get(k)
            given.append(wrap(self.ctx, build.full_like(value, 0) if ct is None else ct))
        leaves = list(self.leaves)
        for i, x, weak in zip(self.tracers, calls.arguments_of(node), self.weak, strict=True):
            leaves[i] = wrap(self.ctx, x, weak)
        args, kwargs = unflatten(self.structure, leaves)
        known = len(self.ctx.sources)
        made = backward(
            unflatten(self.result, given), unflatten(self.result, results), *args, **kwargs
        )
        for new in list(self.ctx.sources)[known:]:
            line = self.ctx.sources[new]
            label = line.direction or f"backward pass of `{self.token.name}`"
            self.ctx.sources[new] = replace(line, direction=label)
        return self._fitting(made, args, kwargs, calls.arguments_of(node))

    def _fitting(self, made: Any, args: tuple, kwargs: dict, nodes) -> list[Node | None]:
        """What backward returned, a node for each tracer among the arguments."""
        names = self._names(len(args))
        entries = self._by_name(made, names, kwargs)
        found, paths = [], []
        for name, argument in (*zip(names, args, strict=True), *sorted(kwargs.items())):
            entry = entries.get(name)
            try:
                found += flatten_prefix(entry, argument)
            except ValueError:
                raise self._error(
                    f"the cotangent of `{name}` is {kind_of(entry)}; return a tree like the "
                    "argument, with None where there is no gradient"
                ) from None
            paths += leaf_paths(argument, name)
        return [
            self._checked(found[i], x, paths[i]) for i, x in zip(self.tracers, nodes, strict=True)
        ]

    def _names(self, count: int) -> list[str]:
        names = positional_names(self.custom.fn)[:count]
        return names + [f"args[{i}]" for i in range(len(names), count)]

    def _by_name(self, made: Any, names: list[str], kwargs: dict) -> dict[str, Any]:
        declared = {p.name for p in parameters_of(self.custom.fn)}  # those left at defaults, too
        positional = positional_names(self.custom.fn)
        if isinstance(made, tuple) and type(made) is tuple:
            for known in (names, positional):
                if len(made) == len(known):
                    return dict(zip(known, made, strict=True))
        elif isinstance(made, dict) and set(made) <= {*names, *kwargs, *declared}:
            return made
        elif len(names) == 1 and not isinstance(made, dict):
            return {names[0]: made}
        shown = ", ".join([*names, *sorted(kwargs)])
        raise self._error(
            f"it returned {kind_of(made)}; return a tuple of {len(names)} cotangents, one for "
            f"each positional argument, or a dict by name, of: {shown}"
        )

    def _checked(self, given: Any, x: Node, path: str) -> Node | None:
        if given is None:
            return None
        if x.dtype.kind != "f":
            raise self._error(f"`{path}` is {x.dtype} and has no gradient; return None for it")
        tracer = self.ctx.lift(given)
        node = tracer.node
        if node.shape != x.shape:
            raise self._error(
                f"the cotangent of `{path}` has shape {shape_text(node.shape)}, the argument "
                f"{shape_text(x.shape)}"
            )
        fits = node.dtype == x.dtype or (node.dtype.kind == "f" and _widens(node, x))
        if not fits and not (tracer.weak and node.dtype.kind in "fiub"):
            raise self._error(
                f"the cotangent of `{path}` is {node.dtype}, the argument {x.dtype}; "
                f"end with .astype({path}.dtype)"
            )
        return build.cast(node, x.dtype)

    def _error(self, message: str) -> GradientError:
        code = getattr(self.custom._backward, "__code__", None)
        where = Source(code.co_filename, code.co_firstlineno, code.co_name) if code else None
        return GradientError(located(f"backward of `{self.token.name}`: {message}", where))


def _widens(node: Node, to: Node) -> bool:
    return node.dtype.itemsize < to.dtype.itemsize


class _Batched(_Linear):
    """The rule of a call for a batch: that of one example, batched."""

    def __init__(self, rule: _Linear, mapped, size):
        self.rule, self.ctx, self.token = rule, rule.ctx, rule.token
        self.mapped, self.size = tuple(mapped), size

    def cotangents(self, node, cts):
        level, stand_ins = self.ctx.new_level(), {}

        def one_of(x: Node) -> Node:
            kind = TensorType(x.dtype, x.shape[1:])
            stand_in = build.placeholder(level, len(stand_ins), kind, "example")
            stand_ins[stand_in] = x
            return stand_in

        values, args = calls.results_of(node), calls.arguments_of(node)
        mapped = self.mapped[len(values) :]
        one_args = [one_of(x) if m else x for x, m in zip(args, mapped, strict=True)]
        one = calls.call([one_of(v) for v in values], one_args, self.rule)
        found = self.rule.cotangents(one, {k: one_of(ct) for k, ct in cts.items()})
        wanted = [ct for ct in found if ct is not None]
        made = iter(batch(wanted, stand_ins, self.size, self.ctx.sources))
        return [
            None if ct is None else self._for_argument(*next(made), is_mapped)
            for ct, is_mapped in zip(found, mapped, strict=True)
        ]

    def _for_argument(self, ct: Node, has_batch: bool, is_mapped: bool) -> Node:
        if is_mapped:
            return ct if has_batch else build.spread(ct, self.size)
        return build.reduce("sum", ct if has_batch else build.spread(ct, self.size), (0,))
