"""What newcomers wrote, and what they are told."""

import linecache
import warnings

import numpy as np
import pytest

import graphc as gc
from graphc.errors import (
    CompileWarning,
    DataError,
    DTypeError,
    GradientError,
    OptionError,
    TraceError,
)
from graphc.trace.source import line_text

MASKED = np.ma.masked_array([1.0, 2.0], [False, True])
MATRIX_WARNS = pytest.mark.filterwarnings("ignore:the matrix subclass")


def message_of(error, call, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert str(caught.value).count("\n") < 8
    return str(caught.value)


# --------------------------------------------------------------------------------- arguments


def test_an_int_too_large():
    message = message_of(TraceError, gc.compile(lambda x: x), 10**30)
    assert message.startswith("`x` is an int that is too large for int64; write it as a float")
    assert "an int is too large" in message_of(
        DTypeError, gc.interpret(lambda x: x + 10**30), np.ones(2)
    )
    assert gc.interpret(lambda x: x * 1e30)(2.0) == 2e30


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("make", [gc.compile, gc.interpret])
@MATRIX_WARNS
def test_masked_arrays_and_matrices_are_refused(make, before):
    f = make(lambda x: x * 2)
    for _ in range(before):  # also where an array of this shape was met
        f(np.ones(2))
    message = message_of(TraceError, f, MASKED)
    assert message.startswith("`x` is a masked array") and ".filled(value)" in message
    g = make(lambda p: p["a"] * 2)
    for _ in range(before):
        g({"a": np.ones((2, 2))})
    message = message_of(TraceError, g, {"a": np.asmatrix(np.ones((2, 2)))})
    assert message.startswith("`p['a']` is a np.matrix") and "np.asarray(m)" in message


def test_a_masked_constant_is_refused():
    assert "a masked array" in message_of(TraceError, gc.interpret(lambda x: x + MASKED), 1.0)


def test_a_string_in_a_tree():
    message = message_of(TraceError, gc.compile(lambda p: p["w"]), {"w": 1.0, "mode": "fast"})
    assert "`p['mode']` is a str" in message and "in static_argnames" in message
    assert "test_newcomer.py:" in message
    message = message_of(TraceError, gc.compile(lambda x, mode: x), 1.0, "fast")
    assert "mark it static: static_argnames='mode'" in message

    def with_aux(x):
        return x * 2, {"name": "loss"}

    message = message_of(TraceError, gc.value_and_grad(with_aux, has_aux=True), 1.0)
    assert "['name'] of `with_aux` is a str" in message and "test_newcomer.py:" in message
    assert "in with_aux: def with_aux(x):" in message


# --------------------------------------------------------------------------------- derivatives


def test_nothing_to_differentiate():
    def f(a, x):
        return x * x

    message = message_of(GradientError, gc.grad(f), None, 1.0)
    assert message.startswith("argument 0 (`a`) of `f` holds no array or number")
    assert gc.grad(f, argnums=(0, 1))(None, 3.0) == (None, 6.0)


def test_transforms_keep_the_users_name(capsys):
    def cube(x):
        print(x)
        return x**3

    gc.value_and_grad(cube)(2.0)
    gc.grad(cube)(2.0)
    gc.grad(gc.compile(cube))(2.0)
    told = "<traced f64[] x of `cube`> (its values: gc.debug_print)\n"
    assert capsys.readouterr().out == told * 3

    def no_return(x):
        x * 2

    message = message_of(GradientError, gc.grad(no_return), 1.0)
    assert message.startswith("`no_return` returned None; is a `return` missing?")


# --------------------------------------------------------------------------------- dtypes


def test_float16_of_small_integers():
    for dtype in ("int8", "uint8", "bool"):
        for fn in (np.sin, np.exp, np.sqrt):
            message = message_of(DTypeError, gc.compile(lambda x, fn=fn: fn(x)), np.ones(2, dtype))
            start = f"np.{fn.__name__} of {dtype} is float16 in NumPy"
            assert message.startswith(start) and "x.astype(np.float32)" in message
            assert gc.interpret(fn)(np.ones(2, dtype)).dtype == np.float16
    assert gc.compile(lambda x: np.sin(x.astype(np.float32)))(np.ones(2, np.int8)).dtype == "f4"


def test_powers_of_masks():
    mask = np.array([True, False])
    for fn in (lambda m: m**2, lambda m: np.power(m, 2), lambda m: m**3, lambda m: m**m):
        found, wanted = gc.compile(fn)(mask), fn(mask)
        assert found.dtype == wanted.dtype and found.tolist() == wanted.tolist()


# --------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (
            np.linalg.eigvals,
            "np.linalg.eigvals is not supported on traced values.\nWrite np.linalg",
        ),
        (np.roots, "np.roots is not supported on traced values yet"),
        (lambda x: np.histogram2d(x, x), "nearest supported: np.histogram"),
        (np.unique, "the size of its result depends on the data"),
    ],
)
def test_functions_that_are_not_supported(fn, text):
    message = message_of(TraceError, gc.interpret(lambda x: fn(x)), np.ones((2, 2, 2)))
    assert text in message and "np.sin" not in message and "np.sqrt" not in message


# --------------------------------------------------------------------------------- warnings


def test_one_warning_for_a_function():
    f = gc.compile(lambda x: x.reshape(2, -1).sum(axis=1) / float(x.shape[0]))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for size in (10, 14, 10, 22, 30, 14, 38):
            f(np.ones(size))
    (warning,) = [w for w in seen if issubclass(w.category, CompileWarning)]
    text = str(warning.message)
    assert "axis 0 of x was 10, 14, 22;" in text
    assert "n0" not in text
    assert warning.filename == __file__
    assert linecache.getline(warning.filename, warning.lineno).strip() == "f(np.ones(size))"
    assert "x.shape[0]" in f.compiles[1].reason and "n0" not in f.compiles[1].reason


# --------------------------------------------------------------------------------- messages


def test_long_lines_are_cut(tmp_path):
    from graphc.ir.graph import Source

    file = tmp_path / "long.py"
    file.write_text("x = " + "1 + " * 100 + "1\ny = 2\n")
    text = line_text(Source(str(file), 1, "f"))
    assert len(text) == 120 and text.startswith("x = 1 + ") and text.endswith("...")
    assert line_text(Source(str(file), 2, "f")) == "y = 2"


def test_without_source_text_both_causes_are_named():
    scope = {"np": np}
    exec("def f(x):\n    b = np.zeros(3)\n    b[0] = x\n    return b", scope)
    message = message_of(TraceError, gc.interpret(scope["f"]), 1.0)
    assert "in place of math's" in message and "graphc.numpy.zeros(shape)" in message
    exec("def g(x):\n    b = np.zeros(3)\n    b[:2] = x\n    return b", scope)
    message = message_of(TraceError, gc.interpret(scope["g"]), np.ones(2))
    assert "graphc.numpy.zeros(shape)" in message


# --------------------------------------------------------------------------------- training


def loss(params, x, y):
    return np.mean((x @ params["w"] - y) ** 2)


X = np.arange(8.0).reshape(4, 2) / 8
Y = X @ np.array([1.0, 2.0])


def fit(params=None, data=(X, Y), **options):
    trainer = gc.Trainer(loss, gc.optim.sgd(0.1), engine="interpreter")
    params = {"w": np.zeros(2)} if params is None else params
    return trainer.fit(params, data, **{"epochs": 1, "batch_size": 2, **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"metrics": [loss]}, "metrics must be a dict from names to functions"),
        ({"metrics": {"m": 3}}, "metrics['m'] must be a function, not 3"),
        ({"metrics": {"m": lambda p, x, y: y}}, "metrics['m'] must return one number"),
        ({"metrics": {"m": lambda p, x, y: None}}, "but returned None"),
        ({"shuffle": "yes"}, "shuffle must be True or False, not 'yes'"),
        ({"shuffle": 1}, "shuffle must be True or False, not 1"),
        ({"progress": "no"}, "progress must be True or False, not 'no'"),
    ],
)
def test_options_of_training(options, text):
    assert text in message_of(OptionError, fit, validation=(X, Y), **options)


def test_data_as_a_list():
    result = fit(data=[X, Y], validation=[X, Y])
    np.testing.assert_array_equal(result.params["w"], fit().params["w"])
    assert result.history.val_loss == fit(validation=(X, Y)).history.val_loss

    def of_pair(params, pair):
        return loss(params, *pair)

    trainer = gc.Trainer(of_pair, gc.optim.sgd(0.1), engine="interpreter")
    pair = trainer.fit({"w": np.zeros(2)}, [X, Y], epochs=1, batch_size=2)
    np.testing.assert_array_equal(pair.params["w"], result.params["w"])


@MATRIX_WARNS
def test_training_refuses_masks():
    masked = np.ma.masked_array(X, X > 0.5)
    assert "`x` is a masked array" in message_of(DataError, fit, data=(masked, Y))
    bad = (masked, Y)
    assert "`validation x` is a masked" in message_of(DataError, fit, validation=bad)
    weights = {"w": np.ma.masked_array([0.0, 0.0], [True, False])}
    assert "`params['w']` is a masked" in message_of(DataError, fit, params=weights)
    assert "`params['w']` is a np.matrix" in message_of(
        DataError, fit, params={"w": np.asmatrix(np.ones(2))}
    )


def test_training_refuses_large_ints_and_strings():
    assert "too large for int64" in message_of(GradientError, fit, params={"w": 10**30})
    message = message_of(GradientError, fit, params={"w": np.ones(2), "mode": "fast"})
    assert "`params['mode']` is a str" in message and "test_newcomer.py:" in message


def test_options_of_a_derivative_name_the_users_function():
    def f(x, y):
        return x * y

    for make in (gc.grad, gc.value_and_grad):
        message = message_of(ValueError, make, f, static_argnames="z")
        assert message == "static_argnames: `f` has no parameter 'z'; it has x, y"


def test_a_value_where_a_function_belongs():
    with pytest.raises(TraceError, match=r"a function is needed, not a float: pass `f`"):
        gc.grad(np.sum(np.ones(3)).item())


@pytest.mark.parametrize("call", [gc.jvp, gc.grad, gc.elementwise_grad])
def test_arguments_beside_the_function(call):
    name = call.__name__
    with pytest.raises(GradientError, match=rf"not an array; .*: `gc\.{name}\(f\)\(x"):
        call(np.sum, (np.ones(3),) if call is gc.jvp else np.ones(3))


def test_a_compile_for_each_size_names_the_line():
    f = gc.grad(lambda x: np.sum(x * x) / len(x), engine="interpreter")
    for n in (5, 6):
        f(np.ones(n))
    reason = f.compiles[-1].reason
    assert "x.shape[0] is needed as a plain integer by `len`; write x.shape[0] in place" in reason
    assert "(test_newcomer.py:" in reason and "/ len(x)" in reason
