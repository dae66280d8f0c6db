"""Formulas as text: ``"x/(1 + exp(-x))"`` to an expression, without evaluating Python.

The language is arithmetic, comparisons, ``&``, ``|``, ``~`` and the functions in :data:`NAMES`,
under NumPy's names and under SymPy's.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping

from graphc import syntax
from graphc.errors import SymbolicError
from graphc.wording import counted

_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.Mod: operator.mod,
}  # fmt: skip
_RELATIONS = {
    ast.Lt: "StrictLessThan", ast.LtE: "LessThan", ast.Gt: "StrictGreaterThan",
    ast.GtE: "GreaterThan", ast.Eq: "Equality", ast.NotEq: "Unequality",
}  # fmt: skip
_CONSTANTS = {"pi": "pi", "E": "E", "inf": "oo"}

# What a formula calls a function -> SymPy's name, or a formula of its own.
_SAME = (
    "exp log sin cos tan sec csc cot asin acos atan sinh cosh tanh asinh acosh atanh sqrt cbrt "
    "erf erfc erfinv gamma loggamma digamma polygamma zeta beta floor "
    "besseli besselj bessely expint Ei Si Ci fresnels fresnelc polylog elliptic_k elliptic_e "
    "LambertW lowergamma uppergamma "
    "ceiling sign atan2 Abs Max Min Heaviside Eq Ne And Or Not Xor Mod"
)
NAMES: dict[str, str] = {name: name for name in _SAME.split()} | {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "arctan2": "atan2", "abs": "Abs", "absolute": "Abs",
    "maximum": "Max", "minimum": "Min", "max": "Max", "min": "Min", "ceil": "ceiling",
    "heaviside": "Heaviside", "gammaln": "loggamma", "mod": "Mod",
}  # fmt: skip
_SHORTHANDS = {
    "exp2": "2**x", "expm1": "exp(x) - 1", "log2": "log(x)/log(2)", "log10": "log(x)/log(10)",
    "log1p": "log(1 + x)", "square": "x*x", "reciprocal": "1/x", "relu": "Max(x, 0)",
    "rsqrt": "1/sqrt(x)", "sigmoid": "1/(1 + exp(-x))", "softplus": "log(1 + exp(x))",
    "trunc": "sign(x)*floor(Abs(x))", "rint": "floor(x + 1/2)", "copysign": "Abs(x)*sign(y)",
    "hypot": "sqrt(x*x + y*y)", "logaddexp": "log(exp(x) + exp(y))", "erfcinv": "erfinv(1 - x)",
}  # fmt: skip
_FUNCTIONS = frozenset({*NAMES, *_SHORTHANDS, "where", "Piecewise"})


def names_in(text: str) -> tuple[str, ...]:
    """The names that ``text`` does not define, sorted (``x2`` before ``x10``).

    Raises SymbolicError where the text is not a formula. Needs no SymPy.

    >>> names_in("a*exp(-x10/x2)")
    ('a', 'x2', 'x10')
    """
    tree, found = _tree(text), set()
    stack: list[ast.AST] = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, ast.Call):
            _check_call(part, text)
            stack.extend(part.args)
        elif isinstance(part, ast.Name):
            if part.id not in _CONSTANTS:
                found.add(part.id)
        else:
            _check_part(part, text)
            stack.extend(ast.iter_child_nodes(part))
    return tuple(sorted(found, key=natural))


def natural(name: object) -> list:
    """A sort key with numbers in their order."""
    import re

    parts = re.split(r"(\d+)", str(name))
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def parse(text: str, env: Mapping):
    """The expression of ``text``, with the names of ``env`` standing for what it maps them to.

    >>> import sympy
    >>> parse("where(x > 0, x, exp(x) - 1)", {"x": sympy.Symbol("x")})
    Piecewise((x, x > 0), (exp(x) - 1, True))
    """
    return _value(_tree(text), text, env)


def _tree(text: str) -> ast.expr:
    try:
        return syntax.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise SymbolicError(
            f"the formula {text!r} is not an expression: {error.msg} at {error.offset}\n"
            "Write it as Python: 2*x rather than 2x, x**2 rather than x^2."
        ) from None


def _check_call(call: ast.Call, text: str) -> None:
    name = call.func.id if isinstance(call.func, ast.Name) else ast.unparse(call.func)
    if name not in _FUNCTIONS:
        raise SymbolicError(
            f"the formula {text!r} calls {name}, which is not known.\n"
            f"Functions: {' '.join(sorted(_FUNCTIONS, key=str.lower))}"
        )
    if call.keywords:
        raise SymbolicError(f"the formula {text!r} gives {name} a keyword; give values in order")


_PARTS = (
    ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.IfExp, ast.Tuple, ast.operator,
    ast.unaryop, ast.cmpop, ast.expr_context,
)  # fmt: skip
_REFUSED = (ast.BitXor, ast.FloorDiv, ast.MatMult, ast.LShift, ast.RShift, ast.Is, ast.In)


def _check_part(part: ast.AST, text: str) -> None:
    if isinstance(part, ast.BitXor):
        raise SymbolicError(f"the formula {text!r} has ^, which is not a power; write **")
    number = not isinstance(part, ast.Constant) or isinstance(part.value, int | float)
    if not isinstance(part, _PARTS) or isinstance(part, _REFUSED) or not number:
        raise SymbolicError(
            f"the formula {text!r} has {ast.unparse(part) or type(part).__name__!r}; it takes "
            "numbers, names, + - * / **,\ncomparisons, & | ~, a if c else b, where(c, a, b) and "
            "functions."
        )


def _value(tree: ast.expr, text: str, env: Mapping):
    import sympy

    def of(part):
        return _value(part, text, env)

    match tree:
        case ast.Constant(value=bool() as value):
            return sympy.true if value else sympy.false
        case ast.Constant(value=int() as value):
            return sympy.Integer(value)
        case ast.Constant(value=float() as value):
            return sympy.Float(repr(value), 30)
        case ast.Name(id=name) if name in env:
            return env[name]
        case ast.Name(id=name) if name in _CONSTANTS:
            return getattr(sympy, _CONSTANTS[name])
        case ast.UnaryOp(op=ast.USub()):
            return -of(tree.operand)
        case ast.UnaryOp(op=ast.UAdd()):
            return of(tree.operand)
        case ast.UnaryOp(op=ast.Invert() | ast.Not()):
            return sympy.Not(of(tree.operand))
        case ast.BinOp() if type(tree.op) in _OPERATORS:
            return _OPERATORS[type(tree.op)](of(tree.left), of(tree.right))
        case ast.Compare(ops=ops) if all(type(o) in _RELATIONS for o in ops):
            sides = [of(tree.left), *map(of, tree.comparators)]
            relations = [
                getattr(sympy, _RELATIONS[type(o)])(a, b)
                for o, a, b in zip(ops, sides, sides[1:], strict=False)
            ]
            return sympy.And(*relations)
        case ast.IfExp(test=test, body=body, orelse=other):
            return sympy.Piecewise((of(body), of(test)), (of(other), True))
        case ast.Tuple(elts=elements):
            return tuple(of(e) for e in elements)
        case ast.Call():
            _check_call(tree, text)
            return _called(tree.func.id, [of(a) for a in tree.args], text)
        case ast.Name(id=name):
            raise SymbolicError(f"the formula {text!r} has {name}, which is not an argument")
    _check_part(tree, text)
    raise SymbolicError(f"the formula {text!r} has {ast.unparse(tree)!r}, which is not known")


def _called(name: str, values: list, text: str):
    import sympy

    try:
        if name == "where":
            condition, a, b = values
            return sympy.Piecewise((a, condition), (b, True))
        if name in _SHORTHANDS:
            arguments = names_in(_SHORTHANDS[name])
            return parse(_SHORTHANDS[name], dict(zip(arguments, values, strict=True)))
        return getattr(sympy, NAMES.get(name, name))(*values)
    except (TypeError, ValueError) as error:
        count = counted(len(values), "argument")
        raise SymbolicError(f"the formula {text!r}: {name} with {count}: {error}") from None
