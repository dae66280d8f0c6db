"""Where a NaN or an infinity first appeared: what ``checked=True`` says of it.

The program is evaluated again, node by node in NumPy, and the bad element is followed from the
result back to where it came from. Only what reaches the result is looked at: an infinity that is
masked away, or that ``exp`` turns into a zero, is none of the user's concern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.errors import NonFiniteError, unknown_name
from graphc.interp import FIRST_TAPE, bind_dims
from graphc.ir.control import CONTROL, TapeFull, loop_steps
from graphc.ir.graph import Graph, Source, topological
from graphc.ir.node import Node
from graphc.ir.ops import OPS, is_elementwise
from graphc.ir.types import TensorType
from graphc.passes import stabilize_nodes
from graphc.passes.patterns import constant
from graphc.trace.source import line_text

CHECKED = (False, True, "strict")
_VIEWS = frozenset({"broadcast", "reshape", "transpose", "slice", "windows", "reverse"})
_SAME = _VIEWS | {"cast", "barrier"}  # other names for a value


def checked_option(value: Any) -> bool | str:
    """The option ``checked``; raises UnknownNameError for what it cannot be."""
    if value is None:
        return False
    if not isinstance(value, bool) and value != "strict":
        raise unknown_name("checked", value, map(str, CHECKED))
    return value


def all_finite(values: Sequence[np.ndarray]) -> bool:
    return not any(_bad(v).any() for v in values)


@dataclass(frozen=True)
class Place:
    """A node with a bad element: ``index`` says which, None where the node has several results.

    ``search`` has its value; ``step`` is not None inside of a loop.
    """

    node: Node
    index: tuple[int, ...] | None
    search: Search
    step: int | None = None


class Search:
    """The values of all nodes of a graph for some arguments."""

    def __init__(self, graph: Graph, arrays: Sequence[np.ndarray], sources, env: dict[str, int]):
        self.sources: dict[Node, Source] = dict(sources)
        # What is compiled is stabilised first: an overflow that this removes is none.
        self.outputs = stabilize_nodes(graph.outputs, self.sources)
        self._env = env
        self.values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
        self._order = topological(self.outputs)
        for node in self._order:
            if node not in self.values:
                self.values[node] = self._evaluate(node, [self.values[i] for i in node.inputs])

    @classmethod
    def of_call(cls, graph: Graph, arrays: Sequence[np.ndarray]) -> Search:
        env = {**bind_dims(graph, arrays), **dict.fromkeys(graph.tapes, FIRST_TAPE)}
        while True:
            try:
                return cls(graph, arrays, graph.sources, env)
            except TapeFull as full:
                env[full.symbol] *= 2

    def _evaluate(self, node: Node, operands: list) -> Any:
        with np.errstate(all="ignore"):
            value = OPS[node.op].evaluate(node, self._env, *operands)
        return value if isinstance(value, tuple) else np.asarray(value)

    # ----------------------------------------------------------------------------- following

    def bad_output(self) -> int | None:
        """The first output with a NaN, or else with an infinity."""
        for test in (_nan, _bad):
            for k, node in enumerate(self.outputs):
                if test(self.values[node]).any():
                    return k
        return None

    def origins(self, node: Node) -> list[Place]:
        """Where what is bad in ``node`` first appears. A NaN that is made of infinities has a
        second place, where the infinity first appears."""
        test = _nan if _nan(self.values[node]).any() else _bad
        place, mask = self._first(node, test, _one(test(self.values[node])))
        followed = test is _nan and place.search is self and place.node.op not in CONTROL
        for i in place.node.inputs if followed else ():
            reached = _bad(self.values[i]) & self._relevant(place.node, i, mask)
            if reached.any():
                return [place, self._first(i, _bad, _one(reached))[0]]
        return [place]

    def _first(self, node: Node, test, mask: np.ndarray) -> tuple[Place, np.ndarray]:
        while (step := self._cause(node, test, mask)) is not None:
            node, mask = step
        return (node.op in CONTROL and self._inside(node)) or self._place(node, mask), mask

    def _place(self, node: Node, mask: np.ndarray) -> Place:
        index = None if isinstance(self.values[node], tuple) else _index(mask)
        return Place(node, index, self)

    def _inside(self, node: Node) -> Place | None:
        """The place in the first step of a loop, or in the side of a choice, that has one."""
        given, step = [self.values[i] for i in node.inputs], None
        if node.op == "cond":
            body, inputs = node.attr("on_true" if given[0] else "on_false"), given[1:]
        else:
            with np.errstate(all="ignore"):
                steps = loop_steps(node, self._env, *given)
                found = next(((at, i) for at, i, out in steps if not all_finite(out)), None)
            if found is None:
                return None
            body, (step, inputs) = node.attr("body"), found
        search = Search(body, inputs, self.sources, self._env)
        if node in self.sources:  # bodies of derivatives have no lines of their own
            search.sources = dict.fromkeys(search._order, self.sources[node]) | search.sources
        at = search.bad_output()
        if at is None:
            return None
        place = search.origins(search.outputs[at])[0]
        return replace(place, step=step if place.step is None else place.step)

    def _cause(self, node: Node, test, mask) -> tuple[Node, np.ndarray] | None:
        """The operand and one element of it that made the one element ``mask`` of ``node`` bad."""
        if node.op in CONTROL:  # not run again: it might have no end
            for i in node.inputs:
                if test(self.values[i]).any():
                    return i, _one(test(self.values[i]))
            return None
        found, cleaned = None, []
        for i in node.inputs:
            value = self.values[i]
            bad = test(value) & self._relevant(node, i, mask) if test(value).any() else None
            if bad is not None and bad.any():
                found = found or (i, _one(bad))
                value = _cleaned(value, bad)
            cleaned.append(value)
        if found is None or (test(self._evaluate(node, cleaned)) & mask).any():
            return None  # bad with good operands too
        if node.op == "where" and constant(found[0]) is not None:
            return self._chosen_for(node.inputs[0], mask) or found
        return found

    def _chosen_for(self, condition: Node, mask) -> tuple[Node, np.ndarray] | None:
        """What is bad among what a condition asks: an infinite constant was chosen because of it
        (the modulus of a complex infinity)."""
        waiting, seen = [condition], set()
        while waiting:
            node = waiting.pop()
            if node in seen or not (is_elementwise(node) or node is condition):
                continue
            seen.add(node)
            for i in node.inputs:
                if i.dtype.kind == "b":
                    waiting.append(i)
                elif (_bad(self.values[i]) & mask).any() and constant(i) is None:
                    return i, _one(_bad(self.values[i]) & mask)
        return None

    def _relevant(self, node: Node, operand: Node, mask: np.ndarray) -> np.ndarray:
        """Which elements of an operand can have made the elements ``mask`` of ``node``."""
        if isinstance(self.values[node], tuple) or isinstance(self.values[operand], tuple):
            return np.ones((), bool)
        shape = self.values[operand].shape
        everything = np.ones(shape, bool)
        if node.op == "where":
            cond, a, b = node.inputs
            chosen = self.values[cond]
            used = np.zeros_like(mask)
            for side, here in ((a, chosen), (b, ~chosen)):
                if side is operand:
                    used |= mask & here
            return used
        if is_elementwise(node):
            return mask
        if node.op in _VIEWS:
            count = everything.size
            numbers = np.arange(count, dtype=np.float64).reshape(shape)
            kept = self._evaluate(node, [numbers])[mask].astype(np.int64)
            return np.isin(np.arange(count), kept).reshape(shape)
        if OPS[node.op].kind == "reduction":
            axes = node.attr("axes")
            spread = mask.reshape([1 if a in axes else d for a, d in enumerate(shape)])
            return np.broadcast_to(spread, shape)
        if node.op == "matmul" and mask.ndim == len(shape) >= 2:
            a, b = node.inputs
            used = np.zeros(shape, bool)
            if operand is a:
                rows = mask.any(-1, keepdims=True)
                used |= np.swapaxes(rows, -1, -2) if node.attr("ta") else rows
            if operand is b:
                columns = mask.any(-2, keepdims=True)
                used |= np.swapaxes(columns, -1, -2) if node.attr("tb") else columns
            return used
        return everything

    def anywhere(self) -> Place | None:
        """The first node at all that is bad though its operands are not."""
        for node in self._order:
            if node.op == "const":
                continue
            good = [test for test in (_nan, _bad) if self._all_pass(node.inputs, test)]
            new = good[-1](self.values[node]) if good else np.zeros((), bool)
            if new.any():
                return self._place(node, new)
        return None

    def _all_pass(self, nodes: Sequence[Node], test) -> bool:
        return not any(test(self.values[n]).any() for n in nodes)

    # --------------------------------------------------------------------------------- words

    def describe(self, place: Place, names: Mapping[str, str]) -> list[str]:
        """What happened at a place, for people."""
        node, index = place.node, place.index
        source = self.sources.get(node)
        if node.op == "input":
            word = _word(self.values[node], index)
            return [
                f"  it came in as data: argument `{_name(node, names)}` holds {word}{_at(index)}"
            ]
        if node.op == "const":
            return [f"  it is a constant of the function: {_word(self.values[node], index)}"]
        direction = source.direction if source is not None else ""
        kind = "several results"
        if index is not None:
            kind = f"{TensorType(node.dtype, self.values[node].shape)}{_at(index)}"
        if place.step is not None:
            kind += f", step {place.step} of the loop"
        where = direction or "forward pass"
        lines = [f"  first in the {where}: {self._call(node, index)} ({kind})"]
        if source is not None:
            text = line_text(source)
            lines.append(f"  at {source} in {source.function}{': ' + text if text else ''}")
        listed = dict.fromkeys(node.inputs)
        shown = [self._operand(i, names) for i in listed if i.dtype.kind in "fc"]
        if shown:
            lines.append(f"  operands: {'; '.join(shown[:3])}")
        return lines

    def _call(self, node: Node, index) -> str:
        if index is None or not is_elementwise(node):
            return f"`{node.op}`"
        given = ", ".join(_word(self.values[i], index) for i in node.inputs)
        return f"`{node.op}`({given}) = {_word(self.values[node], index)}"

    def _operand(self, node: Node, names) -> str:
        value = self.values[node]
        while node.op in _SAME:
            node = node.inputs[0]
        if node.op == "input":
            name = _name(node, names)
            inside = name.startswith(("step ", "outside "))  # of the body of a loop or choice
            what = "an operand of the body" if inside else f"argument `{name}`"
        elif node.op == "const":
            what = "a constant"
        else:
            source = self.sources.get(node)
            what = f"`{node.op}`" + (f" of {source}" if source is not None else "")
        if isinstance(value, tuple) or not value.size:
            return what
        if not value.ndim:
            return f"{what} = {_word(value, ())}"
        if value.dtype.kind == "c":
            return f"{what} {value.shape}"
        with np.errstate(all="ignore"):
            span = f"{_word(value.min(), ())} to {_word(value.max(), ())}"
        bad = int(_bad(value).sum())
        return f"{what} {value.shape}, " + (f"{bad} of them not finite" if bad else span)


def explain(
    graph: Graph,
    arrays: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray] | None,
    shown: str,
    paths: Sequence[str],
    *,
    strict: bool = False,
    names: Mapping[str, str] | None = None,
) -> NonFiniteError | None:
    """What there is to say of ``outputs`` (None: those of NumPy), None where nothing is wrong.

    ``paths`` name the outputs, ``names`` inputs whose names in the graph are not the user's. With
    ``strict`` what never reaches the outputs counts too.
    """
    names = names or {}
    if outputs is not None and all_finite(outputs) and not strict:
        return None
    search = Search.of_call(graph, arrays)
    at = search.bad_output()
    if at is not None:
        node = search.outputs[at]
        places = search.origins(node)
        value = search.values[node]
        bad = _nan(value) if _nan(value).any() else _bad(value)
        index = _index(bad)
        lines = [f"`{shown}` returns {_word(value, index)}: {paths[at]}{_at(index)}"]
    elif (place := search.anywhere() if strict else None) is not None:
        places = [place]
        lines = [f"`{shown}` computes {_word_of(place)}, though what it returns is finite"]
    elif outputs is None or all_finite(outputs):
        return None
    else:
        k = next(k for k, v in enumerate(outputs) if _bad(v).any())
        index = _index(_bad(outputs[k]))
        return NonFiniteError(
            f"`{shown}` returns {_word(outputs[k], index)}: {paths[k]}{_at(index)}\n"
            "  NumPy's rounding gives a finite value: the computation is at the edge of its dtype"
        )
    first = places[0]
    lines += first.search.describe(first, names)
    for more in places[1:]:
        if more.node is not first.node:
            told = more.search.describe(more, names)
            lines.append(f"  the infinity: {told[0].strip().removeprefix('it ')}")
            lines += told[1:2]
    error = NonFiniteError("\n".join(lines[:8]))
    error.op, error.source = first.node.op, first.search.sources.get(first.node)
    error.index = first.index
    return error


# ---------------------------------------------------------------------------------- helpers


def _nan(value: Any) -> np.ndarray:
    return _tested(value, np.isnan)


def _bad(value: Any) -> np.ndarray:
    return _tested(value, lambda v: ~np.isfinite(v))


def _tested(value: Any, test) -> np.ndarray:
    if isinstance(value, tuple):
        return np.array(any(_tested(v, test).any() for v in value))
    value = np.asarray(value)
    return test(value) if value.dtype.kind in "fc" else np.zeros(value.shape, bool)


def _one(mask: np.ndarray) -> np.ndarray:
    """The first element of a mask alone."""
    alone = np.zeros_like(mask)
    alone[_index(mask)] = True
    return alone


def _cleaned(value: Any, bad: np.ndarray) -> Any:
    if isinstance(value, tuple):
        return tuple(_cleaned(v, _bad(v)) for v in value)
    return np.where(bad, np.ones((), value.dtype), value)


def _index(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _at(index: tuple[int, ...] | None) -> str:
    return f" at [{', '.join(map(str, index))}]" if index else ""


def _word(value: Any, index: tuple[int, ...] | None) -> str:
    if isinstance(value, tuple) or index is None:
        return "NaN or infinity"
    number = np.asarray(value)[index].item()
    return f"{number:.6g}" if isinstance(number, float) else str(number)


def _word_of(place: Place) -> str:
    return _word(place.search.values[place.node], place.index)


def _name(node: Node, names: Mapping[str, str]) -> str:
    return names.get(node.attr("name"), node.attr("name"))
