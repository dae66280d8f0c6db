"""The driver: fixed point, bounds, cost, user lines, canonical order."""

from collections import Counter

import pytest

from graphc.errors import VerifyError
from graphc.ir import build
from graphc.ir.graph import Graph, Source
from graphc.ir.types import tensor_type
from graphc.passes import rule_sets
from graphc.passes.patterns import Rule, rewrites, rule
from graphc.passes.rewrite import RewriteCycleError, rewrite, rewrite_nodes

X = build.input(0, "x", tensor_type("float32", (4,)))
Y = build.input(1, "y", tensor_type("float32", (4,)))
e = build.elementwise


def counting(rules, attempts):
    def wrap(r):
        def apply(node):
            attempts[r.name] += 1
            return r.apply(node)

        return Rule(r.name, r.roots, apply, r.text)

    return [wrap(r) for r in rules]


def test_rules_that_undo_each_other_are_named():
    rules = [rule("to_exp2", "exp(x)", "exp2(x)"), rule("to_exp", "exp2(x)", "exp(x)")]
    with pytest.raises(RewriteCycleError, match=r"to_exp2? \(\d+ times\), to_exp2? \(\d+ times\)"):
        rewrite_nodes([e("exp", X)], rules)


def test_a_rule_that_grows_for_ever_is_named():
    with pytest.raises(RewriteCycleError, match=r"the last rules were grow \(24 times\)"):
        rewrite_nodes([e("sin", X)], [rule("grow", "sin(x)", "sin(sin(x))")])


def test_a_rule_that_changes_the_type_is_named():
    wrong = rule("wrong", "exp(x)", "isnan(x)")
    with pytest.raises(VerifyError, match="rule wrong turned"):
        rewrite_nodes([e("exp", X)], [wrong])


def chain(length):
    node = X
    for k in range(length):
        node = e("neg" if k % 2 else "abs", e("add", node, build.full_like(X, 1 + k % 7)))
    return node


@pytest.mark.parametrize("pass_name", ["simplify", "stabilize"])
def test_cost_is_linear(pass_name):
    attempts = {}
    for length in (1000, 2000):
        counts = attempts[length] = Counter()
        rewrite_nodes([chain(length)], counting(rule_sets()[pass_name], counts))
    assert attempts[2000].total() <= 2.05 * attempts[1000].total()


def test_a_chain_deeper_than_the_stack_collapses():
    node = X
    for _ in range(5000):
        node = e("neg", node)
    assert rewrite_nodes([node], rule_sets()["simplify"]) == [X]


def test_shared_nodes_are_visited_once():
    node = X
    for _ in range(60):  # 2**60 paths
        node = e("mul", node, e("exp", node))
    attempts = Counter()
    rewrite_nodes([node], counting([rule("r", "exp(neg(x))", "x")], attempts))
    assert attempts["r"] == 60


def test_replacements_reach_their_own_fixed_point():
    rules = [rule("a", "exp(x)", "sin(cos(x))"), rule("b", "cos(x)", "tan(x)"),
             rule("c", "sin(tan(x))", "tanh(x)")]  # fmt: skip
    assert rewrite_nodes([e("exp", X)], rules) == [e("tanh", X)]


def test_the_first_rule_that_fits_wins():
    rules = [rule("never", "exp(exp(x))", "x"), rule("one", "exp(x)", "sin(x)"),
             rule("two", "exp(x)", "cos(x)")]  # fmt: skip
    assert rewrite_nodes([e("exp", X)], rules) == [e("sin", X)]


def test_operands_in_either_order_are_one_node():
    a, b = rewrite_nodes([e("add", e("exp", X), Y), e("add", Y, e("exp", X))], [])
    assert a is b is e("add", e("exp", X), Y)
    (fixed,) = rewrite_nodes([e("sub", X, Y)], [])
    assert fixed is e("sub", X, Y)


def test_constants_go_last():
    two, scalar = build.full_like(X, 2), build.input(2, "s", tensor_type("float32"))
    repeated = build.broadcast_to(scalar, (4,))
    out = rewrite_nodes([e("mul", two, X), e("mul", repeated, X), e("add", two, repeated)], [])
    assert out == [e("mul", X, two), e("mul", X, repeated), e("add", repeated, two)]


def test_user_lines_follow():
    square, root = e("mul", X, X), e("sqrt", e("mul", X, X))
    kept = e("exp", root)
    lines = {square: Source("/a/f.py", 1), root: Source("/a/f.py", 2), kept: Source("/a/f.py", 3)}
    graph = Graph("f", (X,), (kept,), lines)
    out = rewrite(graph, [rule("abs", "sqrt(mul(x, x))", "abs(x)")])
    assert out.outputs == (e("exp", e("abs", X)),)
    assert {n: s.line for n, s in out.sources.items()} == {e("abs", X): 2, out.outputs[0]: 3}


def test_patterns_bind_and_compare_attributes():
    keep_axes = rule("max_neg", "max(neg(x), axes=a)", "neg(min(x, axes=a))")
    negated = build.reduce("max", e("neg", X), (0,))
    assert keep_axes.apply(negated) is e("neg", build.reduce("min", X, (0,)))
    fixed = rule("r", "cast(x, dtype='int32')", "cast(neg(x), dtype='int32')")
    assert fixed.apply(build.cast(X, "int64")) is None
    assert fixed.apply(build.cast(X, "int32")) is build.cast(e("neg", X), "int32")


def test_patterns_compare_repeated_names():
    same = rule("r", "maximum(x, x)", "x")
    assert same.apply(e("maximum", X, Y)) is None
    assert same.apply(e("maximum", Y, Y)) is Y


def test_unknown_ops_in_rules_are_refused():
    with pytest.raises(ValueError, match="no op named 'frobnicate'"):
        rule("r", "frobnicate(x)", "x")
    with pytest.raises(ValueError, match="no op named 'frobnicate'"):
        rewrites("frobnicate")
