"""What a static graph cannot hold: each error names the user's line and what to write instead.

The numbers are the rows of the table of user mistakes that tracing meets.
"""
# ruff: noqa: E501 (tables of expressions)

import math

import numpy as np
import pytest
from trace_helpers import trace_like

import graphc.nn as nn
import graphc.numpy as gnp
from graphc.errors import (
    DTypeError,
    EscapedTracerError,
    GraphcError,
    IndexingError,
    ShapeError,
    TraceAttributeError,
    TraceError,
)

table = np.arange(10.0)
generator = np.random.default_rng(0)
kept = []

CASES = []


VECTOR = (np.ones(3),)


def case(row, *patterns, error=TraceError, args=VECTOR):
    def register(fn):
        CASES.append(pytest.param(fn, args, error, patterns, id=f"row{row}-{fn.__name__}"))
        return fn

    return register


MATRIX = (np.ones((32, 64)),)
INDEX = (np.array([0, 1]),)

WHERE = (
    "Write np.where(condition, a, b), gc.cond(condition, f, g, x), or pass the input as a static"
)


@case(1, "`if` depends on input `x`", WHERE, "in branch: if x[0] > 0:")
def branch(x):
    if x[0] > 0:
        return x
    return -x


@case(1, "`if` depends on input `x`", "else -x")
def conditional_expression(x):
    return x if np.sum(x) > 0 else -x


@case(1, "`while` depends on input `x`", "gc.while_loop(condition, body, start), or pass")
def loop(x):
    while x.sum() > 1:
        x = x / 2
    return x


@case(1, "`assert` depends on input `x`")
def assertion(x):
    assert x.min() > 0, "must be positive"
    return x


@case(1, "a chained comparison depends on input `x`", "(a < x) & (x < b)")
def chained_comparison(x):
    return 0 < x[0] < 1


@case(1, "`max()` depends on input `x`", "np.maximum")
def builtin_max(x):
    return max(x[0], x[1])


@case(1, "`if` depends on input `x`")
def filtered(x):
    return [v for v in x if v > 0]


@case(1, "depends on input `params['w']`, `y`", args=({"w": np.ones(2)}, np.ones(2)))
def several_inputs(params, y):
    return y if (params["w"] * y).all() else -y


@case(
    2,
    "an operand of `or` depends on input `x`",
    "shape (3,) has no single truth value",
    "`default if x is None else x`",
)
def default_by_or(x):
    y = x or 3
    return y


@case(2, "an operand of `and` depends on input `x`", "`a & b`")
def both(x):
    if x[0] > 0 and x[1] > 0:
        return x
    return -x


@case(2, "the operand of `not` depends on input `x`", "np.logical_not(x)")
def negated(x):
    return x if not x[0] > 1 else -x


@case(3, "np.histogram2d is not supported", "nearest supported: np.histogram",
      "return np.histogram2d(x, x)")  # fmt: skip
def unsupported_function(x):
    return np.histogram2d(x, x)


@case(3, "np.poly is not supported", "Call it outside the traced function")
def nothing_near(x):
    return np.poly(x)


@case(3, "np.linalg.eigvals is not supported", "eigvals(x)")
def unsupported_linalg(x):
    return np.linalg.eigvals(x)


@case(3, "np.isnat is not supported")
def unsupported_ufunc(x):
    return np.isnat(x)


@case(3, "np.add with where= leaves other elements undefined", "np.where(condition, result, other)")
def unsupported_ufunc_argument(x):
    return np.add(x, x, where=[True, False, True])


@case(3, "np.pad with mode='cubic' is not supported", "supported: constant, edge")
def unsupported_mode(x):
    return np.pad(x, 1, mode="cubic")


@case(5, "`buf` (line", "is a plain NumPy array", "graphc.numpy.zeros(shape)")
def plain_out(x):
    buf = np.zeros(())
    return np.sum(x, out=buf)


@case(10, "np.maximum.at with an index that is not known while tracing", "gc.fori_loop")
def at_a_traced_index(x):
    y = x * 1
    np.maximum.at(y, np.argsort(x), 1.0)
    return y


@case(3, "traced arrays do not support `.tobytes`", error=TraceAttributeError)
def unsupported_method(x):
    return x.tobytes()


@case(4, "`table` is a plain array or list, indexed by the traced `i`", "graphc.numpy.asarray(table)[i]",
      args=INDEX)  # fmt: skip
def constant_table(i):
    return table[i]


@case(4, "indexed by the traced `i[0]`", args=INDEX)
def constant_table_one(i):
    return table[i[0]]


@case(4, "graphc.numpy.asarray(table[None])[0, i]", args=INDEX)
def constant_table_of_two(i):
    return table[None][0, i]


@case(4, "a plain integer is needed", "np.take(x, start + np.arange(length))", args=INDEX)
def moving_slice(i):
    return table[i[0] : i[0] + 2]


@case(5, "`buf` (line", "is a plain NumPy array", "graphc.numpy.zeros(shape)", "buf[1] = x[0]")
def number_into_plain_array(x):
    buf = np.zeros(5)
    buf[1] = x[0]
    return buf


@case(5, "`buf` (line", "buf[1:4] = x")
def array_into_plain_array(x):
    buf = np.zeros(5)
    buf[1:4] = x
    return buf


@case(5, "`buf` (line", "buf += x")
def added_to_plain_array(x):
    buf = np.zeros(3)
    buf += x
    return buf


@case(5, "`state['total']` is a plain NumPy array")
def into_plain_array_of_a_dict(x):
    state = {"total": np.zeros(3)}
    state["total"][0] += x[0]
    return state


@case(5, "a plain NumPy array cannot be filled", "graphc.numpy")
def copied_into_plain_array(x):
    buf = np.zeros(3)
    np.copyto(buf, x)
    return buf


@case(7, "index 10 is out of bounds: axis 0 of shape (3,) has size 3", error=IndexingError)
def index_outside(x):
    return x[10]


@case(7, "index -4 is out of bounds", error=IndexError)
def index_array_outside(x):
    return x[[0, -4]]


@case(7, "index 9 is out of bounds: axis 1 of shape (32, 9) has size 9", error=IndexingError,
      args=(np.ones((32, 9)),))  # fmt: skip
def take_outside(x):
    return np.take(x, 9, axis=1)


@case(7, "too many indices: shape (3,) has 1 axes, but 2 were indexed", error=IndexingError)
def too_many_indices(x):
    return x[0, 1]


@case(7, "an index must be an integer", "not float", error=IndexingError)
def float_index(x):
    return x[1.5]


@case(9, "the boolean mask has length 2, but axis 0 of shape (3,) has size 3", error=IndexingError)
def mask_of_wrong_length(x):
    return x[np.array([True, False])]


@case(9, "the boolean mask has length 2", error=IndexError)
def assigned_mask_of_wrong_length(x):
    x[np.array([True, False])] = 0
    return x


@case(10, "size of the result depends on the data", "np.where(mask, x, fill)", "return x[x > 0]")
def masked(x):
    return x[x > 0]


@case(10, "np.unique: the size of its result depends on the data", "np.where")
def unique(x):
    return np.unique(x)


@case(10, "np.nonzero: the size of its result depends on the data")
def nonzero(x):
    return x.nonzero()


@case(10, "np.where with one argument", "depends on the data")
def where_of_one(x):
    return np.where(x > 0)


@case(13, "`no_return` returned None; is a `return` missing?", "def no_return(x):")
def no_return(x):
    x + 1


@case(13, "output['name'] of `text_output` is a str")
def text_output(x):
    return {"x": x, "name": "text"}


@case(18, "np.random was used inside `random_global`", "pass the array as an argument",
      "noise = np.random.normal(size=3)")  # fmt: skip
def random_global(x):
    noise = np.random.normal(size=3)
    return x + noise


@case(18, "the generator `generator` was used inside `random_generator`")
def random_generator(x):
    return x + generator.normal(size=3)


@case(20, "`W` (64, 10) @ `h` (32, 64): 10 != 32", "return W @ h", error=ShapeError, args=MATRIX)
def matmul_mismatch(h):
    W = np.ones((64, 10))
    return W @ h


@case(20, "`h` (32, 64) + `np.ones(3)` (3,): 64 != 3", error=ShapeError, args=MATRIX)
def add_mismatch(h):
    return h + np.ones(3)


@case(20, "`h` (32, 64) + `b` (63,): 64 != 63", error=ShapeError, args=(*MATRIX, np.ones(63)))
def inplace_mismatch(h, b):
    h += b
    return h


@case(20, "np.where of `h > 0` (32, 64), `np.ones(5)` (5,), `h` (32, 64): 64 != 5", error=ValueError,
      args=MATRIX)  # fmt: skip
def where_mismatch(h):
    return np.where(h > 0, np.ones(5), h)


@case(20, "np.dot of `h` (32, 64), `h` (32, 64): 64 != 32", error=ShapeError, args=MATRIX)
def method_mismatch(h):
    return h.dot(h)


@case(20, "(32, 64) and (3, 2) differ on axis 0: 32 != 3", error=ShapeError, args=MATRIX)
def concatenate_mismatch(h):
    return np.concatenate([h, np.ones((3, 2))], axis=1)


@case(20, "cannot reshape (32, 64) (2048 elements) to (7, -1)", error=ShapeError, args=MATRIX)
def reshape_mismatch(h):
    return h.reshape(7, -1)


@case(20, "np.einsum: index 'j' has size 64 and size 32", error=ShapeError, args=MATRIX)
def einsum_mismatch(h):
    return np.einsum("ij,jk->ik", h, h)


@case("-", "float() needs a number", "use the np function in place of math's")
def math_function(x):
    return math.exp(x[0])


@case("-", "`np.r_` cannot join traced values", "Write np.concatenate([...])")
def joined_by_brackets(x):
    return np.r_[x, 1.0]


@case("-", "`np.sum` needs the elements", "np.sum(np.stack([...]))")
def list_with_a_constant(x):
    return np.sum(np.meshgrid(np.arange(3), x))


@case("-", "`np.array` needs the elements", "graphc.numpy.array(...)")
def plain_array(x):
    return np.array([x[0], 1])


@case(
    "-", "`np.sum` needs the elements", "Pass one array instead of a list: np.sum(np.stack([...]))"
)
def list_argument(x):
    return np.sum([x[0], x[1]])


@case(
    "-",
    "np.conv of complex values is not supported",
    error=DTypeError,
    args=(np.ones((1, 1, 3, 3), complex),),
)
def complex_values(x):
    return nn.conv2d(x, x)


@case("-", "`np.asarray` needs the elements", "graphc.numpy.asarray(...)")
def plain_asarray(x):
    return np.asarray(x)


@case("-", "Write x.astype(np.float32)")
def scalar_type(x):
    return np.float32(x[0])


@case("-", "a plain integer is needed", "Pass it as a static argument", args=INDEX)
def size_from_data(i):
    return np.zeros(i[0])


@case("-", "a plain integer is needed", args=INDEX)
def range_from_data(i):
    return range(i[0])


@case("-", "has dtype <U1; encode it as numbers", error=DTypeError)
def text_operand(x):
    return x + np.array(["a"])


@pytest.mark.parametrize(("fn", "args", "error", "patterns"), CASES)
def test_message(fn, args, error, patterns):
    np.random.seed(0)
    with pytest.raises(error) as caught:
        trace_like(fn, *args)
    message = str(caught.value)
    assert isinstance(caught.value, GraphcError)
    for pattern in patterns:
        assert pattern in message, message
    assert message.count("\n") < 8
    if fn is not text_output:
        assert "test_trace_errors.py:" in message
    line = fn.__code__.co_firstlineno
    if "test_trace_errors.py:" in message:
        number = int(message.rsplit("test_trace_errors.py:", 1)[1].split(" ")[0])
        assert line <= number <= line + 12


def test_row4_the_advice_works():
    fn = lambda i: gnp.asarray(table)[i]  # noqa: E731
    assert str(trace_like(fn, *INDEX).graph.outputs[0].type) == "f64[2]"


def test_row5_the_advice_works():
    def fn(x):
        buf = gnp.zeros(5)
        buf[1:4] = x
        return buf

    assert str(trace_like(fn, np.ones(3)).graph.outputs[0].type) == "f64[5]"


def test_row19_a_value_kept_in_a_global():
    def fn(x):
        kept.append(np.sin(x))
        return x

    trace_like(fn, np.ones(3))
    line = fn.__code__.co_firstlineno + 1
    for use in (lambda: np.cos(kept[0]), lambda: kept[0] + 1, lambda: kept[0].shape):
        with pytest.raises(EscapedTracerError) as caught:
            use()
        assert f"a value from `fn` line {line} escaped through global `kept`" in str(caught.value)
        assert "Return it from the function" in str(caught.value)

    def later(x):
        return x + kept[0]

    with pytest.raises(EscapedTracerError, match="escaped through global `kept`"):
        trace_like(later, np.ones(3))
    kept.clear()


def test_row29_an_undefined_name_is_a_plain_name_error():
    with pytest.raises(NameError, match="undefined"):
        trace_like(lambda x: x + undefined, np.ones(3))  # noqa: F821


def test_row30_slice_then_reshape_works():
    assert str(trace_like(lambda x: x[1:].reshape(-1), np.ones((3, 4))).graph.outputs[0].type) == (
        "f64[8]"
    )


def test_without_source_text_the_message_still_says_what_to_do():
    scope = {"np": np}
    exec("def fn(x):\n    return x if x.sum() > 0 else -x", scope)
    with pytest.raises(TraceError, match=r"depends on input `x`(.|\n)*np.where(.|\n)*<string>:2"):
        trace_like(scope["fn"], np.ones(3))
    exec("def fn(x):\n    return x + np.ones(2)", scope)
    with pytest.raises(ShapeError, match=r"\(3,\) \+ \(2,\): 3 != 2"):
        trace_like(scope["fn"], np.ones(3))


def test_a_refusal_that_the_user_caught_is_forgotten():
    def fn(x):
        try:
            limit = float(x[0])
        except TypeError:
            limit = 1.0
        return x * limit + int("not a number")

    with pytest.raises(ValueError, match="invalid literal"):
        trace_like(fn, np.ones(3))


def test_random_numbers_outside_the_function_are_fine():
    np.random.normal()
    noise = generator.normal(size=3)
    trace_like(lambda x: x + noise, np.ones(3))


def test_printing_a_tracer_helps():
    seen = []

    def fn(x):
        seen.append(f"{x} {x[0]:.3f} {x!r}")
        return x

    trace_like(fn, np.ones((2, 3), np.float32))
    (text,) = seen
    assert text.startswith(
        "<traced f32[2,3] x of `fn`> (its values: gc.debug_print) <traced f32[3]"
    )
    assert "<traced f32[3] of `fn`, made at test_trace_errors.py:" in text
    assert text.endswith("<traced f32[2,3] x of `fn`>")
