"""Loops and choices: their types, their meaning, and how a body is cut out of what surrounds it.

A ``loop`` is every loop. Its inputs are ``[count] carries xs consts``, those of its body
``carries xs consts``, the outputs of its body ``carries ys``; its results are the last carries,
then each y stacked on a new axis of ``length`` (zeros where no step wrote).

It runs steps 0, 1, ... below ``length`` (None: without end), below ``count`` where it is
``counted``, and while ``cond(carries, consts)`` holds where there is one. Step t reads ``x[t]``
and writes ``y[t]``; a ``reverse`` loop begins with the last step. With ``grow``, ``length`` is a
symbol that no input binds, the capacity of a tape: running out of it raises :class:`TapeFull`, and
whoever runs the graph tries again with more.

A ``cond`` has inputs ``pred operands``; both its graphs take the operands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.errors import GraphcError, ShapeError
from graphc.ir import node as _node
from graphc.ir.dims import Dim, DimLike, evaluate, symbol
from graphc.ir.faults import Refused
from graphc.ir.graph import CONTROL, Graph, Source, rebuild, topological
from graphc.ir.node import Node
from graphc.ir.types import TensorType, TupleType

_SMALL_CONST = 16
_VIEWS = frozenset({"broadcast", "reshape", "transpose", "slice", "windows"})
_PURE = frozenset({"iota", "size", "cast", *_VIEWS})


class TapeFull(GraphcError):
    """A loop has more steps than its tape has room for."""

    def __init__(self, symbol: str):
        super().__init__(f"the tape {symbol} is full")
        self.symbol = symbol


class Failed(GraphcError):
    """A row refused its operands."""

    def __init__(self, node: Node, error: Exception):
        super().__init__(f"{node.op}: {error}")
        self.node, self.error = node, error


# ----------------------------------------------------------------------------------- the parts


@dataclass(frozen=True)
class Loop:
    """The inputs of a loop, or of its body, by what they are."""

    count: Node | None
    init: tuple[Node, ...]
    xs: tuple[Node, ...]
    consts: tuple[Node, ...]


def operands(node: Node) -> Loop:
    """The inputs of a loop."""
    counted, inputs = node.attr("counted"), node.inputs
    return _split(node, inputs[counted:], inputs[0] if counted else None)


def parameters(node: Node) -> Loop:
    """The inputs of the body of a loop."""
    return _split(node, node.attr("body").inputs, None)


def _split(node: Node, inputs, count) -> Loop:
    carries = node.attr("carries")
    xs = carries + node.attr("xs")
    return Loop(count, inputs[:carries], inputs[carries:xs], inputs[xs:])


_TAPE = "tape_"


def tape_symbol(node: Node) -> DimLike:
    """The capacity of the tape of a loop: the same symbol for the same loop."""
    from graphc.ir.printer import print_graph

    graphs = [node.attr("body"), node.attr("cond")]
    text = "".join(print_graph(g, sources=False) for g in graphs if g is not None)
    return symbol(_TAPE + hashlib.blake2b(text.encode(), digest_size=4).hexdigest())


def is_tape_symbol(length: DimLike | None) -> bool:
    """Whether a length is one of :func:`tape_symbol`'s."""
    return isinstance(length, Dim) and str(length).startswith(_TAPE)


# ----------------------------------------------------------------------------- types of results


def infer_item(attrs, x):
    return x.items[attrs["index"]]


def infer_loop(attrs, *types) -> TupleType:
    body, cond, length = attrs["body"], attrs["cond"], attrs["length"]
    counted, carries, xs = attrs["counted"], attrs["carries"], attrs["xs"]
    if counted and (not types or types[0] != TensorType(np.dtype(np.int64), ())):
        raise ShapeError("loop: the count is an int64 scalar")
    types = types[counted:]
    parts = [TensorType(t.dtype, t.shape[1:]) for t in types[carries : carries + xs]]
    for t in types[carries : carries + xs]:
        if not t.shape or t.shape[0] != length:
            raise ShapeError(f"loop: {t} is not stacked {length} times")
    wanted = [*types[:carries], *parts, *types[carries + xs :]]
    _check_inputs("loop body", body, wanted)
    if cond is not None:
        _check_inputs("loop condition", cond, wanted)
        if xs or [o.type for o in cond.outputs] != [TensorType(np.dtype(bool), ())]:
            raise ShapeError("loop: the condition of a loop without xs is one bool")
    outputs = [o.type for o in body.outputs]
    if outputs[:carries] != wanted[:carries]:
        raise ShapeError(f"loop: carries {wanted[:carries]} become {outputs[:carries]}")
    if length is None and outputs[carries:]:
        raise ShapeError("loop: a loop without end stacks nothing")
    stacked = [TensorType(t.dtype, (length, *t.shape)) for t in outputs[carries:]]
    return TupleType((*outputs[:carries], *stacked))


def infer_cond(attrs, pred, *types) -> TupleType:
    if pred != TensorType(np.dtype(bool), ()):
        raise ShapeError(f"cond: the predicate is {pred}, not one bool")
    for key in ("on_false", "on_true"):
        _check_inputs(key, attrs[key], types)
    yes, no = ([o.type for o in attrs[k].outputs] for k in ("on_true", "on_false"))
    if yes != no:
        raise ShapeError(f"cond: the sides give {yes} and {no}")
    return TupleType(tuple(yes))


def _check_inputs(what: str, body: Graph, types) -> None:
    have = [i.type for i in body.inputs]
    if have != list(types):
        raise ShapeError(f"{what}: takes {have}, given {list(types)}")


# -------------------------------------------------------------------------------------- meaning


def run(graph: Graph, arrays: Sequence[np.ndarray], env: dict[str, int]) -> list[np.ndarray]:
    """The outputs of a graph for arrays of its types, sizes of symbols given by ``env``."""
    from graphc.ir.ops import OPS

    values = dict(zip(graph.inputs, arrays, strict=True))
    remaining = {n: len(u) for n, u in graph.users.items()}
    kept = set(graph.outputs)
    for node in graph.order:
        if node not in values:
            given = [values[i] for i in node.inputs]
            try:
                value = OPS[node.op].evaluate(node, env, *given)
            except np.linalg.LinAlgError as error:
                raise Failed(node, error) from None
            except Refused as refused:
                raise Failed(node, refused.error) from None
            values[node] = value if node.op in CONTROL else np.asarray(value)
        for i in dict.fromkeys(node.inputs):
            remaining[i] -= 1
            if not remaining[i] and i not in kept:
                del values[i]
    return [values[o] for o in graph.outputs]


def run_loop(node: Node, env, *arrays):
    """The last carries, and what the steps stacked."""
    counted, carries = node.attr("counted"), node.attr("carries")
    carry = arrays[counted : counted + carries]
    ys = [np.zeros(t.concrete_shape(env), t.dtype) for t in node.type.items[carries:]]
    for at, _, outputs in loop_steps(node, env, *arrays):
        carry = outputs[:carries]
        for y, part in zip(ys, outputs[carries:], strict=True):
            y[at] = part
    return (*carry, *ys)


def is_fixed(loop: Node) -> bool:
    """Whether a loop's number of steps does not depend on values."""
    return loop.attr("cond") is None and not loop.attr("counted")


def loop_steps(node: Node, env, *arrays) -> Iterator[tuple[int, list, list[np.ndarray]]]:
    """The steps of a loop: which it is, what its body is given, and the outputs of the body."""
    body, cond, length = node.attr("body"), node.attr("cond"), node.attr("length")
    counted, carries, xs = node.attr("counted"), node.attr("carries"), node.attr("xs")
    capacity = None if length is None else evaluate(length, env)
    limits = [capacity] if capacity is not None and not node.attr("grow") else []
    limits += [int(arrays[0])] if counted else []
    limit = min(limits) if limits else None
    given = arrays[counted:]
    carry, stacked, consts = given[:carries], given[carries : carries + xs], given[carries + xs :]
    step = 0
    while limit is None or step < limit:
        if cond is not None and not run(cond, [*carry, *consts], env)[0]:
            break
        if node.attr("grow") and step >= capacity:
            raise TapeFull(str(length))
        at = limit - 1 - step if node.attr("reverse") else step
        parts = [np.asarray(x[at]) for x in stacked]
        inputs = [*carry, *parts, *consts]
        outputs = run(body, inputs, env)
        yield at, inputs, outputs
        carry = outputs[:carries]
        step += 1


def run_cond(node: Node, env, pred, *arrays):
    return tuple(run(node.attr("on_true" if pred else "on_false"), arrays, env))


# ------------------------------------------------------------------------- cutting a body out


def close(
    groups: Sequence[Sequence[Node]],
    params: Sequence[Node],
    sources: dict[Node, Source] | None = None,
    inside: Callable[[Node], bool] | None = None,
) -> tuple[list[Graph], list[Node]]:
    """Graphs of ``params`` and of what they use from outside: ``(graphs, outside nodes)``.

    One graph for each group of outputs; all take the parameters, then the outside values. What
    does not depend on the parameters stays outside (``inside`` chooses otherwise), so work that
    a loop would repeat is done once; constants and views cost nothing and go in.
    In ``sources`` the nodes of the graphs get the lines of those they are made of.
    """
    params = tuple(params)
    own = set(params)
    order = topological(o for group in groups for o in group)
    within: dict[Node, bool] = {}
    pure: dict[Node, bool] = {}
    for node in order:
        pure[node] = node not in own and _is_pure(node, pure)
        chosen = inside(node) if inside else any(within[i] for i in node.inputs)
        within[node] = node in own or (chosen and not pure[node])
    needed = {o for group in groups for o in group}
    lifted: list[Node] = []
    for node in reversed(order):
        if node not in needed or node in own or pure[node]:
            continue
        if within[node] or node.op in _VIEWS:
            needed.update(node.inputs)
        else:
            lifted.append(node)
    lifted.reverse()
    inputs = _inputs([*params, *lifted], len(params))
    new = dict(zip([*params, *lifted], inputs, strict=True))
    for node in order:
        if node in needed and node not in new:
            new[node] = node if pure[node] else rebuild(node, tuple(new[i] for i in node.inputs))
            if sources is not None and node in sources:
                sources.setdefault(new[node], sources[node])
    graphs = [Graph("body", inputs, tuple(new[o] for o in group)) for group in groups]
    return graphs, lifted


def _inputs(nodes: Sequence[Node], count: int) -> tuple[Node, ...]:
    """Inputs of these types. No argument of a user has such a name, so that the nodes of a body
    are never those of what surrounds it."""
    return tuple(
        _node.make(
            "input", (), {"index": k, "name": f"step {k}" if k < count else f"outside {k}"}, n.type
        )
        for k, n in enumerate(nodes)
    )


def _is_pure(node: Node, pure: dict[Node, bool]) -> bool:
    """Whether a node is cheap to make again and depends on nothing."""
    if node.op == "const":
        return node.attr("value").array.size <= _SMALL_CONST
    if node.op not in _PURE and (node.shape or node.op in CONTROL or not node.inputs):
        return False
    return all(pure[i] for i in node.inputs)
