"""What people write who know another library, and what they are told."""

import numpy as np
import pytest

import graphc as gc
from graphc.errors import DataError, DTypeError, OptionError, TraceError, UnknownNameError

A = np.eye(3) * 2 + np.arange(9.0).reshape(3, 3) / 9


def message_of(error, call, *args, **named) -> str:
    with pytest.raises(error) as caught:
        call(*args, **named)
    assert str(caught.value).count("\n") < 8
    return str(caught.value)


def traced(fn, *args) -> str:
    message = message_of((TraceError, DTypeError), gc.interpret(fn), *args)
    assert "at test_habits.py" in message
    return message


# ------------------------------------------------------------------- functions of other libraries


@pytest.mark.parametrize("name, hint", {
    "expm": "Write graphc.linalg.expm(...)",
    "cho_factor": "Write graphc.linalg.cho_factor(...)",
    "inv": "Write np.linalg.inv(...)",
    "svd": "Write np.linalg.svd(...)",
    "cholesky": "Write np.linalg.cholesky(a), which is lower",
    "lu_factor": "Write np.linalg.solve(a, b)",
    "block_diag": "Write np.block(",
}.items())  # fmt: skip
def test_scipys_linear_algebra_is_sent_to_its_twin(name, hint):
    import scipy.linalg

    function = getattr(scipy.linalg, name)

    message = traced(lambda a: function(a), A)  # whatever it is called here
    assert message.startswith("`function` needs the elements") and hint in message


def test_functions_of_two_matrices():
    import scipy.linalg as la
    from scipy.linalg import solve

    twin = "Write graphc.linalg.solve_triangular(...)"
    assert twin in traced(lambda a: la.solve_triangular(a, a), A)
    assert "Write np.linalg.solve(...)" in traced(lambda a: solve(a, a), A)


def of_other_modules():
    import scipy.interpolate
    import scipy.optimize
    import scipy.signal
    import scipy.stats

    return {
        "minimize(gc.value_and_grad(f), x0, jac=True)": lambda x: scipy.optimize.minimize(
            lambda t: np.sum((t - x) ** 2), np.zeros(3)
        ),
        "Write np.interp(x, xp, fp)": lambda x: scipy.interpolate.interp1d(x, x),
        "Write the formula": lambda x: scipy.stats.zscore(x),
        "Write np.exp(-0.5*z**2 - 0.5*np.log(2*np.pi))\nwith z = (x - loc) / scale, and": (
            lambda x: scipy.stats.norm.pdf(x)
        ),
        "Write special.gammainc(a, z)\nwith special = graphc.special; z = (x - loc) / scale.": (
            lambda x: scipy.stats.gamma(2.0).cdf(x)
        ),
        "Write np.convolve(...)": lambda x: scipy.signal.convolve(x, x),
        "gc.debug_print shows values": lambda x: np.testing.assert_allclose(x, x),
        "gc.vmap(function)(x)": lambda x: np.vectorize(lambda t: t * 2)(x),
        "np.linalg.lstsq(np.vander(x, degree + 1), y)[0]": lambda x: np.polyfit(x, x, 1),
        "np.save(file, f(x)) outside": lambda x: np.save("x.npy", x),
        "gc.debug_print(x)": lambda x: np.array2string(x),
    }


def test_what_to_write_in_place_of_other_functions():
    for hint, fn in of_other_modules().items():
        assert hint in traced(fn, np.arange(3.0))


def test_the_fit_that_the_message_names():
    def fit(x, y):
        return np.linalg.lstsq(np.vander(x, 2), y)[0]

    x = np.arange(5.0)
    found = gc.interpret(fit)(x, 3 * x + 1)
    np.testing.assert_allclose(found, np.polyfit(x, 3 * x + 1, 1))


def test_errors_below_a_library_name_the_users_line():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    message = traced(lambda x: preprocessing.StandardScaler().fit_transform(x), A)
    assert message.startswith("`preprocessing.StandardScaler().fit_transform` needs the elements")


# ----------------------------------------------------------------------------- arrays and dtypes


@pytest.mark.parametrize("use, hint", [
    (lambda x: x.append(1.0), "np.append(x, v)"),
    (lambda x: x.backward(), "gc.grad(loss)(params)"),
    (lambda x: x.detach(), "gc.stop_gradient(x)"),
    (lambda x: x.at[0].set(1.0), "x[i] = v"),
    (lambda x: x.numpy(), "Leave it out"),
    (lambda x: setattr(x, "shape", (3, 1)), "x = x.reshape(...)"),
])  # fmt: skip
def test_attributes_of_other_arrays(use, hint):
    message = message_of(AttributeError, gc.interpret(use), np.ones(3))
    assert hint in message and "at test_habits.py" in message


def test_probing_for_attributes_finds_none():
    def f(x):
        assert not any(hasattr(x, n) for n in ("numpy", "detach", "at", "values", "unknown"))
        return x

    assert gc.interpret(f)(1.0) == 1.0


def test_traced_keys():
    for use in (lambda x: {1.0: 2.0}[x[0]], lambda x: len({x[0]}) * x):
        message = traced(use, np.ones(3))
        assert message.startswith("a traced value cannot be the key of a dict or in a set")


def test_dtypes_that_graphc_has_not():
    wide = np.ones(2, np.longdouble)
    if wide.dtype == np.float64:
        pytest.skip("longdouble is float64 here")
    arguments = [(lambda x: x.astype(np.longdouble), np.ones(2)), (lambda x: x * wide, np.ones(2))]
    for f, x in [(lambda x: x, wide), *arguments]:
        message = traced(f, x)
        assert "(np.longdouble), in which graphc does not compute" in message
        assert ".astype(np.float64)" in message
    message = traced(lambda x: x, wide * 1j)
    assert "(np.clongdouble)" in message and ".astype(np.complex128)" in message
    half = message_of(DTypeError, gc.compile(lambda x: x + 1), np.ones(2, np.float16))
    assert "float32, float64 and complex values" in half


# ------------------------------------------------------------------------------ names and options


def square(x):
    return (x * x).sum()


def test_options_that_are_nearly_right():
    for make in (gc.grad, gc.value_and_grad, gc.jacobian, gc.jvp, gc.elementwise_grad):
        message = message_of(UnknownNameError, make, square, argnum=0)
        assert "'argnum'; available: argnums" in message
        assert message.endswith("did you mean 'argnums'?")
    message = message_of(UnknownNameError, gc.vmap, square, in_axis=0)
    assert message.endswith("did you mean 'in_axes'?")
    message = message_of(OptionError, gc.compile, square, donate="x")
    assert message.startswith("donate takes positions of arguments, ")
    message = message_of(UnknownNameError, gc.compile, square, dims={"y": ("n",)})
    assert message == "dims: `square` has no parameter 'y'; it has x"
    gc.compile(square, dims={"x": ("n",), "x['W'].a": ("n",)})  # a leaf of an argument
    gc.compile(lambda *a: a, dims={"a[0]": ("n",)})


@pytest.mark.parametrize("module, name, meant", [
    (gc, "jit", "write gc.compile"),
    (gc, "Adam", "write gc.optim.adam"),
    (gc, "jacobain", "write gc.jacobian"),
    (gc.numpy, "sin", "write np.sin, which traces"),
    (gc.linalg, "inv", "write np.linalg.inv, which traces"),
    (gc.special, "erff", "nearest: "),
    (gc.optim, "rmsprop", "available: sgd, adam"),
], ids=lambda value: value if isinstance(value, str) else value.__name__)  # fmt: skip
def test_names_of_modules(module, name, meant):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'; {meant}"):
        getattr(module, name)
    with pytest.raises(AttributeError, match=r"has no attribute '__wrapped__'$"):
        module.__wrapped__  # noqa: B018


def test_values_where_functions_belong():
    assert traced(lambda x: gc.cond(x > 0, x, -x), 1.0).startswith(
        "cond needs functions, not traced values: np.where(pred, a, b)"
    )
    for f in (
        lambda x: gc.while_loop(x > 0, lambda c: c - 1, x),
        lambda x: gc.fori_loop(0, 3, x, x),
        lambda x: gc.scan(x, x, np.ones(3)),
    ):
        assert "needs functions, not traced values: gc." in traced(f, 1.0)
    assert "needs functions, not a float" in message_of(TraceError, gc.cond, True, 1.0, 2.0)


# --------------------------------------------------------------------------------------- training


def loss(params, x, y):
    return np.mean((x @ params["w"] - y) ** 2)


def fit(*data, **options):
    trainer = gc.Trainer(loss, gc.optim.sgd(0.1), engine="interpreter")
    return trainer.fit({"w": np.zeros(3)}, *data, **{"epochs": 1, "batch_size": 2, **options})


def test_data_in_several_arguments():
    y = A[:, 0]
    assert fit((A, y)).history.steps == 2
    assert "one tuple: fit(params, (x, y), ...)" in message_of(OptionError, fit, A, y)
    message = message_of(DataError, fit, A)
    assert message.startswith("`loss` takes (params, x, y), of which the first are the parameters,")
    assert "but the data has 1 part.\nGive fit(params, (x, y), ...)" in message


def test_callbacks_of_other_kinds():
    data = (A, A[:, 0])
    told = "callback must be a function of (epoch, history, params)"
    assert message_of(OptionError, fit, data, callback=[print]) == f"{told}, not a list of 1"
    message = message_of(OptionError, fit, data, callback=lambda epoch: None)
    assert message == f"{told}; this one takes (epoch)"
    assert fit(data, callback=lambda *_: None).history.steps == 2


def test_optimizers_of_other_names():
    message = message_of(UnknownNameError, gc.optim.adam, lr=0.1)
    assert message == "unknown option of adam 'lr'; available: b1, b2, eps, learning_rate"
    assert gc.optim.sgd(0.5, momentum=0.9).momentum == 0.9
    message = message_of(OptionError, gc.Trainer, loss, gc.optim.adam)
    assert message.endswith("graphc.optim.adam(learning_rate=...)")
