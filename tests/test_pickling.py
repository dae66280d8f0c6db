"""Compiled functions are pickled by name or as what they were made of, and copied as themselves."""

import copy
import functools
import multiprocessing
import pickle

import numpy as np
import pytest

import graphc as gc
from graphc.errors import FunctionPicklingError
from graphc.trace.tree import flatten


def loss(w, x):
    return np.sum((w * x) ** 2)


@gc.compile(threads=1, max_compiles=7)
def model(w, x):
    return w * np.sin(x)


@gc.value_and_grad
def objective(w, x):
    return np.sum(w * x)


class Net:
    @gc.compile(static_argnames="self")
    def forward(self, x):
        return x * 2.0


W, X = np.array([1.0, 2.0]), np.array([3.0, -1.0])
hidden = model.traceable  # the plain function below a decorated name
power = functools.partial(loss, x=X)

MADE = {
    "compile": (gc.compile(loss, checked=True, dims={"x": ("n",)}), (W, X)),
    "interpret": (gc.interpret(loss), (W, X)),
    "value_and_grad": (gc.value_and_grad(loss, argnums=(0, 1)), (W, X)),
    "grad of grad": (gc.grad(gc.elementwise_grad(loss, argnums=1)), (2.0, 3.0)),
    "jvp": (gc.jvp(loss), (W, X, W)),
    "jacobian of vmap": (gc.jacobian(gc.vmap(loss, in_axes=(0, None))), (W, 2.0)),
    "of a decorated name": (gc.vmap(model), (W, X)),
    "of the function below it": (gc.vmap(hidden), (W, X)),
    "of a partial": (gc.grad(power), (W,)),
    "sparse jacobian": (gc.jacobian(loss, sparse=True), (W, X)),
    "of a ufunc": (gc.compile(np.sin), (W,)),
    "decorated": (model, (W, X)),
    "decorated derivative": (objective, (W, X)),
}


def leaves(result):
    return flatten(result)[0]


def same(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", MADE)
def test_a_pickled_function_computes_the_same(name):
    made, args = MADE[name]
    again = pickle.loads(pickle.dumps(made))
    assert (again is made) == name.startswith("decorated")
    if name == "sparse jacobian":
        np.testing.assert_array_equal(again(*args).toarray(), made(*args).toarray())
        return
    assert (again.name, again.engine) == (made.name, made.engine)
    same(gc.interpret(again)(*args), gc.interpret(made)(*args))


def test_options_are_kept():
    again = pickle.loads(pickle.dumps(MADE["compile"][0]))
    assert (again.checked, again.dims, again.name) == (True, {"x": ("n",)}, "loss")
    nested = pickle.loads(pickle.dumps(gc.grad(model)))
    assert (nested.max_compiles, nested.name) == (7, "grad_model")


def test_functions_work_in_spawned_processes():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for made in (model, objective, MADE["value_and_grad"][0], gc.grad(gc.compile(loss))):
            same(pool.starmap(made, [(W, X)])[0], made(W, X))
        same(pool.map(Net().forward, [X])[0], X * 2.0)


def test_local_functions_and_lambdas_say_what_to_do():
    def local(x):
        return x * x

    for made, what in ((gc.grad(local), "`local`"), (gc.compile(lambda x: x), "a lambda"),
                       (gc.hvp(gc.compile(local)), "`local`")):  # fmt: skip
        with pytest.raises(FunctionPicklingError, match="top level of a module") as caught:
            pickle.dumps(made)
        assert what in str(caught.value) and "test_pickling.py:" in str(caught.value)
        assert isinstance(caught.value, pickle.PicklingError)


def test_a_copy_is_the_function_itself():
    made = MADE["value_and_grad"][0]
    assert copy.deepcopy({"f": made})["f"] is made
    assert copy.copy(made) is made


def test_joblib_takes_functions_of_main_lambdas_and_closures(monkeypatch):
    """Its processes have another ``__main__``, so cloudpickle takes functions by value."""
    cloudpickle = pytest.importorskip("joblib.externals.cloudpickle")
    factor = 3.0

    def scaled(x):
        return x * factor

    made = gc.compile(scaled)
    monkeypatch.setattr(scaled, "__module__", "__main__")
    for fn, expected in ((made, 6.0), (gc.grad(made), 3.0), (gc.compile(lambda x: made(x)), 6.0)):
        again = pickle.loads(cloudpickle.dumps(fn))
        assert again is not fn and gc.interpret(again)(2.0) == expected
