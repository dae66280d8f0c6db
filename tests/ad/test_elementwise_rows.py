"""Each elementwise row: complete, true to its formula, its derivative proved by SymPy."""

from __future__ import annotations

import ast
import functools

import mpmath
import numpy as np
import pytest
import sympy
from helpers import check_gradient, make_graph

from graphc.ad.formulas import ARGUMENTS, derivative_of, parse, times
from graphc.ad.rules import RULES
from graphc.ir import build
from graphc.ir.control import CONTROL
from graphc.ir.ops import OPS
from graphc.ir.scipy_functions import MISSING
from graphc.ir.types import tensor_type

# Those of libraries have tests of their own (tests/test_scipy_functions.py).
ELEMENTWISE = sorted(
    n for n, r in OPS.items() if r.kind == "elementwise" and n != "cast" and not r.library
)
PROVED = [n for n in ELEMENTWISE if OPS[n].derivative is not None and OPS[n].formula]
# Structural ops without a gradient: leaves, and positions of an extremum.
NO_GRADIENT = {"input", "placeholder", "const", "size", "iota", "argmax", "argmin", "lu"}
NO_GRADIENT |= {"call", "call_result"}  # the walker asks the rule of the call
NO_GRADIENT |= {"argsort", "searchsorted", "check_index"}

OF_CONSTANTS = ("zeta", "gammainc", "gammaincc")  # no slope, or no second one, by the first

POSITIVE = ("0.3", "0.9", "1.7", "3.2")
UNIT = ("-0.85", "-0.3", "0.2", "0.7")
BOTH = ("-2.3", "-0.6", "0.4", "1.8")
DOMAIN = {
    **dict.fromkeys(("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "pow"), POSITIVE),
    **dict.fromkeys(("cbrt",), POSITIVE),
    **dict.fromkeys(("arcsin", "arccos", "arctanh"), UNIT),
    **dict.fromkeys(("gammaln", "digamma", "gammainc", "gammaincc"), POSITIVE),
    "erfinv": UNIT,
    **dict.fromkeys(("bessel_y0", "bessel_y1", "exp1", "spence", "lambertw"), POSITIVE),
    **dict.fromkeys(("ellipk", "ellipe", "ellipd"), ("-2.3", "-0.6", "0.3", "0.61")),
    "erfcinv": ("0.2", "0.6", "1.1", "1.7"),
    "zeta": ("1.3", "1.9", "2.7", "4.2"),
    "arccosh": ("1.1", "1.6", "2.5", "4.2"),
}

x, y, w = sympy.symbols("x y w", real=True)
FUNCTIONS = {
    "trunc": lambda a: sympy.sign(a) * sympy.floor(sympy.Abs(a)),
    "rint": lambda a: sympy.floor(a + sympy.Rational(1, 2)),
    "rsqrt": lambda a: 1 / sympy.sqrt(a),
    "sigmoid": lambda a: 1 / (1 + sympy.exp(-a)),
    "gaussian": lambda a: sympy.exp(-a * a),
    "copysign": lambda a, b: sympy.Abs(a) * sympy.sign(b),
    "where": lambda c, a, b: sympy.Piecewise((a, c), (b, True)),
    "abs": sympy.Abs,
    "gammaln": sympy.loggamma,
    **{f"bessel_{kind}{order}": functools.partial(function, order) for order in (0, 1)
       for kind, function in (("i", sympy.besseli), ("j", sympy.besselj), ("y", sympy.bessely))},
    "bessel_i0e": lambda a: sympy.exp(-sympy.Abs(a)) * sympy.besseli(0, a),
    "bessel_i1e": lambda a: sympy.exp(-sympy.Abs(a)) * sympy.besseli(1, a),
    "ellipk": sympy.elliptic_k,
    "ellipd": lambda m: (sympy.elliptic_k(m) - sympy.elliptic_e(m)) / m,
}  # fmt: skip
CONSTANTS = (sympy.log(2), 1 / sympy.log(2), 1 / sympy.log(10), 2 / sympy.sqrt(sympy.pi),
             sympy.sqrt(sympy.pi) / 2, sympy.pi / 2)  # fmt: skip


def formula_of(name):
    local = {"x": x, "y": y, "w": w, **FUNCTIONS}
    if name == "where":
        local["x"] = x > 0  # the condition, as something that can be differentiated past
    return sympy.sympify(OPS[name].formula, locals=local)


def to_sympy(tree, env):
    """A derivative's text as an expression; numbers become the exact constants they round."""
    match tree:
        case ast.Constant(value=value):
            for exact in CONSTANTS:
                if isinstance(value, float) and value == float(exact.evalf(30)):
                    return exact
            return sympy.Rational(str(value))
        case ast.Name(id=name):
            return env[name]
        case ast.UnaryOp():
            return -to_sympy(tree.operand, env)
        case ast.BinOp():
            a, b = to_sympy(tree.left, env), to_sympy(tree.right, env)
            return {
                ast.Add: lambda: a + b,
                ast.Sub: lambda: a - b,
                ast.Mult: lambda: a * b,
                ast.Div: lambda: a / b,
                ast.Pow: lambda: a**b,
                ast.BitAnd: lambda: sympy.And(a, b),
                ast.BitOr: lambda: sympy.Or(a, b),
            }[type(tree.op)]()
        case ast.Compare(ops=[op], comparators=[right]):
            relation = {ast.Eq: sympy.Eq, ast.Lt: sympy.Lt, ast.Gt: sympy.Gt}[type(op)]
            return relation(to_sympy(tree.left, env), to_sympy(right, env))
        case ast.Call():
            arguments = [to_sympy(a, env) for a in tree.args]
            fn = FUNCTIONS.get(tree.func.id) or getattr(sympy, tree.func.id)
            return fn(*arguments)
    raise AssertionError(ast.dump(tree))


def points(name):
    values = [sympy.Rational(v) for v in DOMAIN.get(name, BOTH)]
    shifted = [values[(i + 1) % 4] + sympy.Rational(1, 7) for i in range(4)]
    again = [v + sympy.Rational(3, 11) for v in reversed(values)]
    return [dict(zip((x, y, w), p, strict=True)) for p in zip(values, shifted, again, strict=True)]


def number(expression, at):
    return mpmath.mpf(str(sympy.N(expression.subs(at), 40)))


def numeric_derivative(formula, by, at):
    step = sympy.Rational(1, 10**12)
    sides = [number(formula, {**at, by: at[by] + s}) for s in (step, -step)]
    return (sides[0] - sides[1]) / (2 * mpmath.mpf("1e-12"))


@pytest.mark.parametrize("name", sorted(OPS))
def test_row_is_complete(name):
    row = OPS[name]
    assert row.doc.endswith("."), "a sentence of documentation"
    assert row.nonfinite, "what NaN and infinity do"
    assert row.evaluate is not None or name in ("input", "placeholder")
    if row.kind == "elementwise":
        assert row.derivative is None or len(row.derivative) == row.arity
        assert row.formula or row.derivative is None or name == "gammainc_slope" or row.library
        assert row.cost >= 0
    elif row.kind == "control":
        assert name in CONTROL or name == "item", "a case of ad/control and of the walker"
    else:
        assert (name in RULES) != (name in NO_GRADIENT), "a vjp rule or a declared absence"


@pytest.mark.parametrize("name", PROVED)
def test_derivative_is_that_of_the_formula(name):
    if name == "stop_gradient":
        pytest.skip("its derivative is cut on purpose")
    formula = formula_of(name)
    env = {"x": x > 0 if name == "where" else x, "y": y, "w": w, "z": formula}
    for by, text in zip((x, y, w), OPS[name].derivative, strict=False):
        if text in (None, MISSING):
            assert name in ("where", *OF_CONSTANTS) and by is x
            continue
        if text.endswith("gammainc_slope(x, y)"):
            continue  # tests/test_vmath.py
        declared = sympy.sympify(to_sympy(ast.parse(text, mode="eval").body, env))
        difference = formula.diff(by) - declared
        smooth = not difference.has(
            sympy.Derivative, sympy.Piecewise, sympy.floor, sympy.Mod, sympy.Heaviside,
            sympy.sign, sympy.Max, sympy.Min,
        )  # fmt: skip
        if smooth and sympy.simplify(difference) == 0:
            continue
        with mpmath.workdps(40):
            for at in points(name):
                assert mpmath.almosteq(
                    numeric_derivative(formula, by, at), number(declared, at), 1e-18, 1e-18
                ), (text, by, at)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if OPS[n].formula and n in PROVED])
def test_evaluation_is_the_formula(name):
    formula = formula_of(name)
    for at in points(name):
        arguments = [np.float64(at[s]) for s in (x, y, w)[: OPS[name].arity]]
        if name == "where":
            arguments[0] = np.bool_(at[x] > 0)
        graph = make_graph(lambda *n: build.elementwise(name, *n), arguments)
        found = OPS[name].evaluate(graph.outputs[0], {}, *map(np.asarray, arguments))
        assert float(found) == pytest.approx(float(number(formula, at)), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", PROVED)
def test_central_differences_to_second_order(name):
    if name == "stop_gradient":
        pytest.skip("its derivative is cut on purpose")
    rng = np.random.default_rng(len(name))
    low, *_, high = (float(v) for v in DOMAIN.get(name, BOTH))
    arrays = [rng.uniform(low, high, (2, 3)) for _ in range(OPS[name].arity)]
    if name == "where":
        arrays[0] = arrays[0] > 0
    constant = [build.const(arrays.pop(0))] if name in OF_CONSTANTS else []
    graph = make_graph(lambda *n: build.elementwise(name, *constant, *n), arrays)
    check_gradient(graph, arrays)


@pytest.mark.parametrize("name", PROVED)
def test_float32_stays_float32(name):
    arrays = [np.ones((3,), np.float32)] * OPS[name].arity
    if name == "where":
        arrays[0] = np.ones(3, bool)
    node = make_graph(lambda *n: build.elementwise(name, *n), arrays).outputs[0]
    for position in range(OPS[name].arity):
        derivative = derivative_of(node, position)
        if derivative is not None and derivative.text != MISSING:
            env = dict(zip(ARGUMENTS, node.inputs, strict=False)) | {"z": node}
            ct = build.full_like(node, 1)
            assert times(ct, derivative.tree, env).type == node.type


def test_constant_operands_fold_into_the_formula():
    a = build.input(0, "a", tensor_type("float32", (3,)))
    ct = build.input(1, "ct", a.type)

    def power(exponent):
        node = build.elementwise("pow", a, build.full_like(a, exponent))
        return times(ct, parse(OPS["pow"].derivative[0]).tree, {"x": a, "y": exponent, "z": node})

    def product(*factors):
        return build.elementwise("mul", *factors)

    assert power(0.0) is None
    assert power(1.0) is ct
    assert power(2.0) is product(ct, product(build.full_like(a, 2), a))
    assert power(3.0) is product(ct, product(build.full_like(a, 3), product(a, a)))
    assert power(0.5).op == "where"


def test_quotient_shares_its_division():
    a, b, ct = (build.input(i, "abc"[i], tensor_type("float64", (3,))) for i in range(3))
    env = {"x": a, "y": b, "z": build.elementwise("div", a, b)}
    by_a, by_b = (times(ct, parse(text).tree, env) for text in OPS["div"].derivative)
    assert by_a is build.elementwise("div", ct, b)
    assert by_b is build.elementwise("neg", build.elementwise("mul", by_a, env["z"]))
