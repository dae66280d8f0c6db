"""gc.debug_print: values of a call, after it."""

import numpy as np
import pytest

import graphc as gc
from graphc.errors import NonFiniteError, OptionError, TraceError

X = np.array([1.0, 2.0, 3.0])
both = pytest.mark.parametrize("make", [gc.compile, gc.interpret])


def printed(capsys, call, *args) -> str:
    capsys.readouterr()
    call(*args)
    return capsys.readouterr().out


@both
def test_every_call_prints_its_own_values_in_order(make, capsys):
    def f(x, n):
        s = x.sum()
        gc.debug_print("sum {:.1f} of {x}, {} and {}", s, n, "text", x=x)
        gc.debug_print("no value")
        gc.debug_print({"a": x[:1], "b": (n, s)}, s * 2, note=x.shape)
        return s

    compiled = make(f)
    for k in range(4):  # by then other functions have a native entry
        x = X + k
        expected = printed(capsys, f, x, k)  # plain Python prints at once
        assert expected.startswith(f"sum {x.sum():.1f} of {x}, {k} and text\nno value\n{{'a'")
        assert "s * 2 = " in expected and "test_debug_print.py:" in expected
        assert printed(capsys, compiled, x, k).splitlines()[:2] == expected.splitlines()[:2]
        assert compiled(x, k) == x.sum()
    assert compiled(x, k) == f(x, k)


def test_sizes_that_change(capsys):
    @gc.interpret
    def f(x):
        gc.debug_print("{} of {}", x.sum(), x.shape[0])
        return x * 2

    for n in (2, 3, 4):
        assert printed(capsys, f, np.ones(n)) == f"{float(n)} of {n}\n"


def test_derivatives_print_what_the_function_has(capsys):
    def f(x):
        y = np.exp(x)
        gc.debug_print("y {}", y[0])
        return np.sum(y)

    x = np.zeros(2)
    made = [gc.grad(f), gc.value_and_grad(f), gc.jacobian(f), gc.hessian(f), gc.grad(gc.compile(f))]
    for derivative in made:
        assert printed(capsys, derivative, x) == "y 1.0\n"
    for derivative in (gc.jvp(f), gc.vjp(lambda x: np.exp(x) * f(x)), gc.hvp(f)):
        assert printed(capsys, derivative, x, np.ones(2)) == "y 1.0\n"
    assert np.allclose(made[-1](x), np.exp(x))


def test_under_vmap_all_examples_are_printed(capsys):
    def f(w, x):
        gc.debug_print("{} {}", w, x @ w)
        return np.sum(x @ w)

    batch = np.arange(6.0).reshape(2, 3)
    found = printed(capsys, gc.vmap(gc.grad(f), in_axes=(None, 0)), X, batch)
    assert found == f"{np.stack([X, X])} {batch @ X}\n" or found == f"{X} {batch @ X}\n"


def test_each_way_prints_its_own(capsys):
    @gc.compile
    def f(x):
        if x.sum() > 0:
            gc.debug_print("up {}", x.sum())
            return x
        gc.debug_print("down {}", x.sum())
        return -x

    for sign in (1, -1, 1, -1):
        expected = f"{'up' if sign > 0 else 'down'} {6.0 * sign}\n"
        assert printed(capsys, f, X * sign) == expected


def test_donated_memory_is_printed_as_it_was(capsys):
    @gc.compile(donate=0)
    def f(x):
        gc.debug_print("{}", x)
        return x + 1

    x = X.copy()
    assert printed(capsys, f, x) == f"{X}\n"
    np.testing.assert_array_equal(f(X.copy()), X + 1)


def test_a_checked_call_prints_before_it_raises(capsys):
    @gc.compile(checked=True)
    def f(x):
        gc.debug_print("x {}, infinite {}", x, 1 / (x - 1))
        return np.log(x)

    with np.errstate(divide="ignore"):
        assert printed(capsys, f, X) == f"x {X}, infinite {1 / (X - 1)}\n"  # shown is not checked
    with pytest.raises(NonFiniteError):
        f(-X)
    assert capsys.readouterr().out.startswith("x [-1. -2. -3.]")


def test_custom_rules_and_checkpoints(capsys):
    @gc.custom_vjp
    def cube(x):
        gc.debug_print("cube of {}", x)
        return x**3

    @cube.backward
    def _(ct, result, x):
        gc.debug_print("back {}", ct)
        return 3 * x**2 * ct

    @gc.checkpoint
    def layer(x):
        gc.debug_print("layer {}", x)
        return np.sin(x)

    out = printed(capsys, gc.grad(lambda x: layer(x) * 2), 0.5)
    assert out == "layer 0.5\n"
    assert printed(capsys, gc.interpret(lambda x: cube(x) * 2), 2.0) == "cube of 2.0\n"
    assert printed(capsys, gc.grad(lambda x: cube(x) * 2), 2.0) == "cube of 2.0\nback 2.0\n"


def body(x):
    gc.debug_print("x {}", x)
    return x / 2


@pytest.mark.parametrize("fn, where", [
    (lambda x: gc.fori_loop(0, x.sum().astype(int), lambda i, y: body(y), x), "the body of fori_l"),
    (lambda x: gc.scan(lambda c, y: (c, gc.cond(c < 1, body, np.sin, y)), 0.0, x), "one side of"),
    (lambda x: gc.while_loop(lambda y: y.sum() > 1, body, x), "the body of while_loop"),
    (lambda x: gc.cond(x.sum() > 0, body, lambda x: x, x), "one side of cond"),
])  # fmt: skip
def test_bodies_of_loops_have_no_one_value(fn, where, capsys):
    with pytest.raises(
        TraceError, match=f"debug_print in {where}(?s:.)* no known number of"
    ) as told:
        gc.interpret(fn)(X)
    assert str(told.value).count("\n") < 8 and "test_debug_print.py" in str(told.value)
    capsys.readouterr()
    fn(X)  # in plain Python every step prints
    assert capsys.readouterr().out.startswith("x ")


def looped(x):
    def outer(total, row):
        gc.debug_print("row {}, total {:.1f}", row, total)

        def inner(k, c):
            gc.debug_print("  {} {:.2f}", k, c)
            return c + row[k] * total

        return total + gc.fori_loop(0, 2, inner, 1.0), None

    gc.debug_print("begin")
    total = gc.scan(outer, 0.0, x, reverse=True)[0]
    gc.debug_print("end {:.1f}", total)
    return total


@both
def test_steps_of_loops_print_in_order(make, capsys):
    for n in (2, 3, 4):
        x = np.arange(2.0 * n).reshape(n, 2)
        expected = printed(capsys, looped, x)
        assert expected.count("row") == n and expected.count("\n") == 3 * n + 2
        assert printed(capsys, make(looped), x) == expected
    if make is gc.interpret:
        assert printed(capsys, make(gc.grad(looped)), x) == expected
        assert printed(capsys, make(looped), x[:0]) == "begin\nend 0.0\n"


def test_steps_of_loops_under_vmap(capsys):
    def f(x):
        return gc.scan(lambda c, e: (c + e, body(c)), 0.0, x)[1]

    x = np.arange(6.0).reshape(2, 3)
    out = printed(capsys, gc.interpret(gc.vmap(f)), x)
    assert out == "x [0. 0.]\nx [0. 3.]\nx [1. 7.]\n"


def test_formats_that_do_not_fit_are_told_at_their_line():
    for text, values in (("{} {}", (1.0,)), ("{:.3f}", (X,)), ("{name}", ()), ("{", ())):

        def f(x, text=text, values=values):
            gc.debug_print(text, *[a * x for a in values])
            return x

        with pytest.raises(TraceError, match=r"debug_print cannot format (?s:.)*one {} a value"):
            gc.interpret(f)(1.0)


def test_where_nothing_can_be_printed():
    def loss(params, x):
        gc.debug_print("w {}", params["w"])
        return np.mean((params["w"] - x) ** 2)

    for engine in ("native", "interpreter"):
        trainer = gc.Trainer(loss, gc.optim.sgd(0.1), engine=engine)
        with pytest.raises(OptionError, match=r"debug_print at test_debug_print.py:\d+: steps run"):
            trainer.fit({"w": np.zeros(())}, X, epochs=1, batch_size=1)
    with pytest.raises(OptionError, match="no C function: it has debug_print at test_debug_print"):
        gc.compile(body).c_function(X)


def test_the_graph_and_the_stages_are_without_it():
    plain = gc.compile(lambda x: x / 2).graph(X)
    assert gc.compile(body).graph(X).outputs == plain.outputs
    assert len(gc.inspect(body, X).kernels) == 1
