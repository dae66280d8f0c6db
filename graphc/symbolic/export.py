"""Programs as expressions: the graph is evaluated on SymPy's symbols, op by op, by the rows'
own formulas."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from graphc.compiled import CompiledFunction
from graphc.errors import SymbolicError
from graphc.functions import identifier_of, name_of, positional_names, required_names
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.ops import OPS
from graphc.ir.types import tensor_type
from graphc.symbolic.formula import parse
from graphc.symbolic.stable import plain
from graphc.trace.tracing import ArgSpec, trace
from graphc.trace.tree import flatten, leaf_paths, unflatten

_MANY = 4096  # elements of an array that are written out
_LARGEST_DENOMINATOR = 1000
_SIMPLIFIED = 150  # operations up to which latex simplifies


def to_sympy(f: Callable, *args: Any, simplify: bool = False) -> Any:
    """The expression that a traced function of numbers or small arrays computes.

    ``args`` are the arguments: a SymPy symbol (a number by that name), a list of symbols (an
    array), a Matrix of symbols, or an example array, whose elements become ``v_0``, ``v_1``, ...
    Without them every parameter without a default is a real number by its own name.

    The result has the structure of what ``f`` returns: an expression for a number, a Matrix for a
    vector (one column) or matrix, an Array for more axes. Constants that round a fraction or a
    multiple of pi are those again. ``f`` may be made by ``gc.grad`` and its kin. Sums and products
    of small arrays are written out. Raises errors.SymbolicError for operations without a formula,
    and graphc.errors.TraceError where ``f`` cannot be traced.

    >>> import numpy as np, graphc as gc
    >>> to_sympy(lambda x, a: a * np.tanh(x) / 2)
    a*tanh(x)/2
    >>> to_sympy(gc.grad(lambda v: np.sum(v**2)), np.ones(2))
    Matrix([
    [2*v_0],
    [2*v_1]])
    """
    traced, elements = _traced(f, args)
    values = _evaluated(traced.graph, elements)
    leaves = [_result(v) for v in values]
    if simplify:
        leaves = [sympy.simplify(leaf) for leaf in leaves]
    return unflatten(traced.out_tree, leaves)


def latex(f: Callable, *args: Any, simplify: bool = True, **settings: Any) -> str:
    """LaTeX of a function or its derivative, ``f(x) = ...``; ``args`` as in :func:`to_sympy`.

    ``f`` may also be an expression. ``settings`` are those of ``sympy.latex``.

    >>> import numpy as np, graphc as gc
    >>> def f(x, y):
    ...     return x * np.sin(y)
    >>> print(latex(f))
    f\\left(x, y\\right) = x \\sin{\\left(y \\right)}
    >>> print(latex(gc.grad(f)))
    \\nabla_{x} f\\left(x, y\\right) = \\sin{\\left(y \\right)}
    """
    if isinstance(f, sympy.Basic | sympy.MatrixBase):
        return sympy.latex(f, **settings)
    traced, elements = _traced(f, args)
    values = _evaluated(traced.graph, elements)
    shown = [_tidy(_result(v)) if simplify else _result(v) for v in values]
    body = unflatten(traced.out_tree, shown)
    names = [_argument_latex(e) for e in elements.values()]
    inside = rf"\left({', '.join(names)}\right)"
    return f"{_head(f, names)}{inside} = {sympy.latex(_printable(body), **settings)}"


# ----------------------------------------------------------------------------------- arguments


def _traced(f: Callable, args: tuple):
    """The traced function, and the array of symbols that each input of its graph stands for."""
    args = args or getattr(f, "__graphc_symbols__", ()) or _own_names(f)
    names = _parameter_names(f, len(args))
    symbols = [_symbols(a, n) for a, n in zip(args, names, strict=True)]
    specs, elements = [], []
    for tree in symbols:
        leaves, structure = flatten(tree)
        elements += leaves
        kinds = [ArgSpec(tensor_type(np.float64, leaf.array.shape)) for leaf in leaves]
        specs.append(unflatten(structure, kinds))
    traced = trace(lambda *values: f(*values), tuple(specs), name=_plain_name(f))
    return traced, dict(zip(traced.graph.inputs, (e.array for e in elements), strict=True))


class _Elements:
    """An array of symbols: one leaf of an argument."""

    __graphc_leaf__ = True

    def __init__(self, array):
        self.array = np.asarray(array, dtype=object)
        if self.array.size > _MANY:
            raise SymbolicError(
                f"an argument has {self.array.size} elements; to_sympy writes out at most {_MANY}"
            )


def _symbols(argument: Any, name: str) -> Any:
    if isinstance(argument, sympy.Expr):
        return _Elements(argument)
    if isinstance(argument, sympy.MatrixSymbol | sympy.MatrixBase | sympy.NDimArray):
        return _Elements(sympy.Matrix(argument).tolist() if argument.shape else argument)
    if isinstance(argument, list | tuple) and all(isinstance(a, sympy.Expr) for a in argument):
        return _Elements(list(argument))
    leaves, structure = flatten(argument)
    paths = leaf_paths(argument, name) if len(leaves) != 1 or structure is not None else [name]
    made = [_named(p, np.shape(leaf)) for p, leaf in zip(paths, leaves, strict=True)]
    return unflatten(structure, made)


def _named(path: str, shape: tuple[int, ...]) -> _Elements:
    """Real symbols ``path_0``, ``path_1``, ..."""
    label = path.replace("['", "_").replace("']", "").replace("[", "_").replace("]", "")
    array = np.empty(shape, object)
    for index in np.ndindex(shape):
        array[index] = sympy.Symbol("_".join([label, *map(str, index)]), real=True)
    return _Elements(array)


def _own_names(f: Callable) -> list[sympy.Symbol]:
    names = required_names(f)
    if not names:
        raise SymbolicError(f"`{name_of(f)}` names no parameters; give to_sympy the symbols")
    return [sympy.Symbol(n, real=True) for n in names]


def _parameter_names(f: Callable, count: int) -> list[str]:
    names = positional_names(f)[:count]
    return names + [f"x{i}" for i in range(len(names), count)]


def _plain_name(f: Callable) -> str:
    return f.name if isinstance(f, CompiledFunction) else identifier_of(f)


# ---------------------------------------------------------------------------------- evaluation


def _evaluated(graph: Graph, elements: Mapping[Node, np.ndarray]) -> list[np.ndarray]:
    values: dict[Node, np.ndarray] = dict(elements)
    for node in graph.order:
        if node not in values:
            values[node] = _value(graph, node, [values[i] for i in node.inputs])
    return [values[o] for o in graph.outputs]


def _value(graph: Graph, node: Node, operands: list) -> Any:
    if node.op == "item":
        return operands[0][node.attr("index")]
    if node.op == "cond":
        return _choice(node, *operands)
    if node.op == "loop":
        return _unrolled(graph, node, operands)
    kind = OPS[node.op].kind
    size = node.type.size
    if not isinstance(size, int) or size > _MANY:
        raise _refused(graph, node, f"has {size} elements; at most {_MANY} are written out")
    if node.op == "const":
        return _objects(np.frompyfunc(exact, 1, 1)(node.attr("value").array))
    if node.op == "cast":
        return _cast(node, operands[0])
    if node.op in _LOGIC and node.dtype == bool:
        return _objects(np.frompyfunc(_LOGIC[node.op], len(operands), 1)(*operands))
    if kind == "elementwise":
        if not OPS[node.op].formula:
            raise _refused(graph, node, "has no formula")
        return _objects(np.frompyfunc(_applied(node.op), len(operands), 1)(*operands))
    if node.op in _REDUCTIONS:
        return _reduced(node, operands[0])
    if node.op == "matmul" or kind in ("view", "leaf") or node.op == "take":
        return _objects(_moved(graph, node, operands))
    raise _refused(graph, node, "has no formula")


def _of_body(body: Graph, given: list) -> list:
    return _evaluated(body, dict(zip(body.inputs, given, strict=True)))


def _choice(node: Node, condition, *given) -> tuple:
    """Both sides, as cases."""
    sides = (_of_body(node.attr(side), list(given)) for side in ("on_true", "on_false"))
    cases = np.frompyfunc(_applied("where"), 3, 1)
    return tuple(_objects(cases(condition[()], a, b)) for a, b in zip(*sides, strict=True))


def _unrolled(graph: Graph, node: Node, operands: list) -> tuple:
    """The last carries of a loop whose steps are known, and what its steps stacked."""
    length, cond, counted = node.attr("length"), node.attr("cond"), node.attr("counted")
    carries, xs = node.attr("carries"), node.attr("xs")
    limit = operands[0][()] if counted else length
    if isinstance(length, int) and counted and getattr(limit, "is_Integer", False):
        limit = min(limit, length)
    if limit is not None and not isinstance(limit, int | sympy.Integer):
        raise _refused(graph, node, "has a number of steps that depends on an argument")
    given = operands[counted:]
    carry, parts, constants = given[:carries], given[carries : carries + xs], given[carries + xs :]
    stacked: dict[int, list] = {}
    for step in itertools.count() if limit is None else range(int(limit)):
        if step == _MANY:
            raise _refused(graph, node, f"takes more than {_MANY} steps")
        if cond is not None:
            (again,) = _of_body(cond, [*carry, *constants])
            if again[()] not in (sympy.true, sympy.false):
                raise _refused(graph, node, "has a number of steps that depends on an argument")
            if again[()] == sympy.false:
                break
        at = int(limit) - 1 - step if node.attr("reverse") else step
        outputs = _of_body(
            node.attr("body"), [*carry, *(_objects(x[at]) for x in parts), *constants]
        )
        carry, stacked[at] = outputs[:carries], outputs[carries:]
    ys = zip(*(stacked[at] for at in sorted(stacked)), strict=True)
    rows = [_objects(np.stack(y)) for y in ys]
    kinds = node.type.items[carries:]
    return (*carry, *(rows or [np.empty(t.shape, object) for t in kinds]))


def _moved(graph: Graph, node: Node, operands: list[np.ndarray]) -> np.ndarray:
    """Rows whose NumPy meaning holds for arrays of expressions too."""
    if node.op == "take":
        if not all(getattr(i, "is_Integer", False) for i in operands[1].flat):
            raise _refused(graph, node, "has an index that depends on an argument")
        operands = [operands[0], operands[1].astype(int)]
    if node.op == "implicit":
        return operands[0]
    if node.op == "iota":
        return np.frompyfunc(exact, 1, 1)(OPS[node.op].evaluate(node, {}))
    if node.op == "pad":
        out = np.full(node.shape, operands[1][()], object)
        parts = zip(node.inputs[0].shape, node.attr("low"), node.attr("interior"), strict=True)
        index = tuple(slice(low, low + n + (n - 1) * gap, gap + 1) for n, low, gap in parts if n)
        if operands[0].size:
            out[index] = operands[0]
        return out
    return OPS[node.op].evaluate(node, {}, *operands)


def _objects(values: Any) -> np.ndarray:
    """An object array, also of a single expression."""
    if isinstance(values, np.ndarray):
        return values.astype(object)
    out = np.empty((), object)
    out[()] = values
    return out


_REDUCTIONS: dict[str, Callable] = {
    "sum": lambda x: sympy.Add(*x), "prod": lambda x: sympy.Mul(*x),
    "max": lambda x: sympy.Max(*x), "min": lambda x: sympy.Min(*x),
}  # fmt: skip


def _reduced(node: Node, x: np.ndarray) -> np.ndarray:
    axes = node.attr("axes")
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = x.transpose(kept + list(axes)).reshape(*(x.shape[a] for a in kept), -1)
    out = np.empty(rows.shape[:-1], object)
    for index in np.ndindex(out.shape):
        out[index] = _REDUCTIONS[node.op](rows[index])
    return out


def _cast(node: Node, x: np.ndarray) -> np.ndarray:
    before, after = node.inputs[0].dtype.kind, node.dtype.kind
    if before == "b" and after != "b":
        return _objects(np.frompyfunc(lambda c: sympy.Piecewise((1, c), (0, True)), 1, 1)(x))
    if before == "f" and after in "iu":
        return _objects(np.frompyfunc(lambda e: sympy.sign(e) * sympy.floor(abs(e)), 1, 1)(x))
    if after == "b" and before != "b":
        return _objects(np.frompyfunc(lambda e: sympy.Ne(e, 0), 1, 1)(x))
    return x


_ARITHMETIC: dict[str, Callable] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b, "neg": lambda a: -a, "pow": lambda a, b: a**b,
    "stop_gradient": lambda a: a,
    "where": lambda c, a, b: a if a == b else sympy.Piecewise((a, c), (b, True)),
}  # fmt: skip


_LOGIC: dict[str, Callable] = {  # symbols stand for finite numbers
    "isnan": lambda a: sympy.true if a is sympy.nan else sympy.false,
    "isinf": lambda a: sympy.true if a in (sympy.oo, -sympy.oo) else sympy.false,
    "isfinite": lambda a: sympy.false if a in (sympy.nan, sympy.oo, -sympy.oo) else sympy.true,
    "bitwise_and": lambda a, b: sympy.And(a, b), "bitwise_or": lambda a, b: sympy.Or(a, b),
    "bitwise_xor": lambda a, b: sympy.Xor(a, b), "invert": lambda a: sympy.Not(a),
}  # fmt: skip


@functools.cache
def _applied(op: str) -> Callable:
    """What an op makes of expressions, by its formula."""
    if op in _ARITHMETIC:
        return _ARITHMETIC[op]
    formula = OPS[op].formula
    return lambda *values: parse(formula, dict(zip("xyw", values, strict=False)))


_CONSTANTS = {
    float(sympy.N(c, 25)): c
    for c in (
        sympy.pi, sympy.pi / 2, sympy.pi / 4, 2 * sympy.pi, sympy.pi / 180, 180 / sympy.pi,
        sympy.E, sympy.log(2), 1 / sympy.log(2), sympy.log(10), 1 / sympy.log(10), sympy.sqrt(2),
        1 / sympy.sqrt(2), sympy.sqrt(sympy.pi), 2 / sympy.sqrt(sympy.pi), 1 / sympy.pi,
        sympy.sqrt(2 * sympy.pi), 1 / sympy.sqrt(2 * sympy.pi), sympy.log(2 * sympy.pi),
        sympy.EulerGamma, sympy.GoldenRatio,
    )
}  # fmt: skip


def exact(value: Any) -> sympy.Basic:
    """The number or truth that an element of a constant array most likely rounds.

    >>> exact(0.1), exact(np.pi), exact(-0.75)
    (1/10, pi, -3/4)
    """
    if isinstance(value, bool | np.bool_):
        return sympy.true if value else sympy.false
    if isinstance(value, int | np.integer):
        return sympy.Integer(int(value))
    number = float(value)
    if not math.isfinite(number):
        return sympy.nan if math.isnan(number) else sympy.oo if number > 0 else -sympy.oo
    if abs(number) in _CONSTANTS:
        known = _CONSTANTS[abs(number)]
        return known if number > 0 else -known
    near = Fraction(number).limit_denominator(_LARGEST_DENOMINATOR)
    if float(near) == number:
        return sympy.Rational(near.numerator, near.denominator)
    return sympy.Float(repr(number), 17)


def _refused(graph: Graph, node: Node, why: str) -> SymbolicError:
    where = f" ({graph.sources[node]})" if node in graph.sources else ""
    return SymbolicError(
        f"{node.op} : {node.type}{where} {why}, so `{graph.name}` has no expression.\n"
        "to_sympy takes elementwise functions, sums, products, views of small arrays, choices, and "
        "loops\nof a known number of steps."
    )


# --------------------------------------------------------------------------------------- output


def _result(value: np.ndarray) -> Any:
    if not value.ndim:
        return _plain(value[()])
    parts = [_plain(v) for v in value.flat]
    if value.ndim <= 2:
        return sympy.Matrix(value.shape[0], *(value.shape[1:] or (1,)), parts)
    return sympy.Array(parts, value.shape)


def _plain(value) -> sympy.Basic:
    return plain(sympy.sympify(value))


def _tidy(expression):
    if sympy.count_ops(expression) > _SIMPLIFIED:
        return expression
    simple = sympy.simplify(expression)
    return min(expression, simple, key=sympy.count_ops)


def _printable(body: Any) -> Any:
    """A tuple of scalar derivatives is a vector."""
    several = isinstance(body, tuple | list) and len(body) > 1
    if several and all(isinstance(b, sympy.Expr) for b in body):
        return sympy.Matrix(list(body))
    return body


def _argument_latex(array: np.ndarray) -> str:
    if not array.ndim:
        return sympy.latex(array[()])
    stems = {str(s).rstrip("0123456789_") for s in array.flat}
    return sympy.latex(sympy.Symbol(stems.pop())) if len(stems) == 1 else sympy.latex(
        sympy.Tuple(*array.flat)
    )  # fmt: skip


_HEADS = {"grad_": r"\nabla", "hessian_": r"\nabla^{2}", "jacobian_": "J"}


def _head(f: Callable, arguments: list[str]) -> str:
    name = _plain_name(f)
    for prefix, symbol in _HEADS.items():
        if isinstance(f, CompiledFunction) and name.startswith(prefix):
            inner = _function_latex(name.removeprefix(prefix))
            by = _differentiated(f, arguments)
            return f"{symbol}_{{{by}}} {inner}" if by else f"{symbol} {inner}"
    return _function_latex(name)


def _differentiated(f: CompiledFunction, arguments: list[str]) -> str:
    """The arguments that a derivative is by, where it is not by all."""
    found = getattr(f, "argnums", ())
    chosen = (found,) if isinstance(found, int) else tuple(found)
    return "" if len(chosen) >= len(arguments) else ", ".join(arguments[i] for i in chosen)


def _function_latex(name: str) -> str:
    if not name.isidentifier() or name == "function":
        return "f"
    if len(name) == 1:
        return sympy.latex(sympy.Symbol(name))
    escaped = name.replace("_", r"\_")
    return rf"\operatorname{{{escaped}}}"
