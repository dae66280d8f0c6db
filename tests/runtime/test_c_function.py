"""Compiled functions as C pointers and inside a user's own @njit."""

from __future__ import annotations

import ctypes
import gc as garbage
import shutil
import subprocess
import threading

import numba
import numpy as np
import pytest
from numba.core.errors import NumbaWarning, TypingError

import graphc as gc
from graphc.errors import OptionError


def worked_example(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


def loss(params, x, y):
    return np.mean((np.tanh(x @ params[0] + params[1]) - y) ** 2)


RNG = np.random.default_rng(0)
PARAMS = (RNG.normal(size=(3, 2)), np.zeros(2))
X, Y = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 2))


def call(f, *arrays) -> int:
    return f.ctypes(*(a.ctypes for a in arrays))


# ---------------------------------------------------------------------------------- C pointers


def test_the_worked_example_and_its_gradient():
    f = gc.value_and_grad(worked_example, argnums=(0, 1)).c_function(2.0, 5.0)
    given = [np.array(2.0), np.array(5.0)]
    made = [np.zeros(()) for _ in range(3)]
    assert call(f, *given, *made) == 0
    np.testing.assert_allclose(made, [11.652071, 5.5, 1.716338], rtol=1e-6)
    assert [p.role for p in f.parameters] == ["in", "in", "out", "out", "out"]
    assert f.results == (2, 3, 4) and f.structure == (0, (1, 2))


def test_arrays_constants_and_an_arena():
    table = np.arange(12.0).reshape(3, 4)  # an array of the program's own
    g = gc.value_and_grad(lambda p, x, y: loss(p, x, y) + np.sum(x @ table) ** 2)
    value, (dw, db) = g(PARAMS, X, Y)
    f = g.c_function(PARAMS, X, Y)
    made = [np.full(s, np.nan) for s in ((), (3, 2), (2,))]
    for _ in range(3):
        assert call(f, *PARAMS, X, Y, *made) == 0
        for found, expected in zip(made, (value, dw, db), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_header_is_c(tmp_path):
    def f(params, switch, double):
        return params["W 1"] * double, params["b"][0] + 1, switch

    params = {"W 1": np.ones((2, 3), np.float32), "b": [np.arange(3, dtype=np.int16)]}
    made = gc.compile(f).c_function(params, np.bool_(True), 2.0)
    assert "const float *params_W_1," in made.header and "/* 2x3 */" in made.header
    assert "const int16_t *params_b_0" in made.header and "const bool *arg_switch" in made.header
    assert "float *out0" in made.header and "one value, result" in made.header
    compiler = shutil.which("cc")
    if compiler:
        path = tmp_path / "f.h"
        path.write_text(made.header)
        subprocess.run([compiler, "-fsyntax-only", "-Wall", "-Werror", "-x", "c", path], check=True)


def test_donated_arguments_are_overwritten():
    step = gc.compile(lambda p, g: (p - 0.5 * g, np.sum(p)), donate=0)
    f = step.c_function(np.ones(4), np.ones(4))
    p, g, total = np.arange(4.0), np.ones(4), np.zeros(())
    assert call(f, p, g, total) == 0
    assert p.tolist() == [-0.5, 0.5, 1.5, 2.5] and total == 6.0
    assert [q.role for q in f.parameters] == ["inout", "in", "out"]
    assert "overwritten with the result" in f.header and f.results == (0, 2)


def test_a_failed_check_is_the_status():
    f = gc.compile(lambda t, i: np.take(t, i)).c_function(np.ones(5), np.array([0, 1]))
    t, made = np.arange(5.0), np.zeros(2)
    assert call(f, t, np.array([0, 9]), made) == 1
    assert call(f, t, np.array([0, 4]), made) == 0 and made.tolist() == [0.0, 4.0]


def test_threads_call_at_once():
    g = gc.compile(lambda x: (np.tanh(x @ x.T).sum(axis=0), np.sum(np.exp(x))))
    f = g.c_function(np.ones((40, 40)))
    faults = []

    def work(k):
        x = np.full((40, 40), 0.001 * k)
        expected = g(x)
        a, b = np.zeros(40), np.zeros(())
        for _ in range(300):
            a[:] = b[...] = 0
            if call(f, x, a, b) or not (np.array_equal(a, expected[0]) and b == expected[1]):
                faults.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert faults == []


def test_the_function_lives_as_long_as_its_object():
    f = gc.compile(lambda x: x * 2).c_function(np.ones(3))
    pointer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(f.address)
    garbage.collect()
    x, made = np.arange(3.0), np.zeros(3)
    assert pointer(x.ctypes.data, made.ctypes.data) == 0 and made.tolist() == [0.0, 2.0, 4.0]


def test_what_has_no_c_function():
    with pytest.raises(OptionError, match=r"decides by traced values: write np\.where"):
        gc.compile(lambda x: x * 2 if x > 0 else x).c_function(1.0)
    with pytest.raises(OptionError, match="is interpreted"):
        gc.interpret(lambda x: x * 2).c_function(1.0)


# --------------------------------------------------------------------------------- inside @njit


def test_inside_njit_on_numbers():
    f = gc.value_and_grad(worked_example, argnums=(0, 1))
    native = f.njit

    @numba.njit
    def descend(x1, x2, steps):
        value = 0.0
        for _ in range(steps):
            value, (d1, d2) = native(x1, x2)
            x1, x2 = x1 - 0.01 * d1, x2 - 0.01 * d2
        return value, x1, x2

    x1, x2 = 2.0, 5.0
    for _ in range(7):
        value, (d1, d2) = f(x1, x2)
        x1, x2 = x1 - 0.01 * d1, x2 - 0.01 * d2
    np.testing.assert_allclose(descend(2.0, 5.0, 7), (value, x1, x2), rtol=1e-12)
    assert native(2.0, 5.0) == f(2.0, 5.0)  # from Python it is the function itself
    assert f.njit is native


def test_inside_njit_on_arrays_and_tuples():
    f = gc.value_and_grad(loss)
    expected, (dw, db) = f(PARAMS, X, Y)
    native = f.njit

    @numba.njit
    def run(params, x, y):
        value, grads = native(params, x, y)
        return value, grads

    for x in (X, np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        value, grads = run(PARAMS, x, Y)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(grads[0], dw, rtol=1e-12)
        np.testing.assert_allclose(grads[1], db, rtol=1e-12)
    with pytest.raises(ValueError, match=r"compiled for x of shape \(5, 3\)"):
        run(PARAMS, X[:4], Y)


def test_inside_njit_donated_arrays_and_single_values():
    step = gc.compile(lambda p, g: (p - g, np.sum(p) > 3, np.float32(2) * np.max(g)), donate=0)
    step(np.ones(4), np.ones(4))
    native = step.njit

    @numba.njit
    def run(p, g):
        q, big, top = native(p, g)
        return q, big, top

    p, g = np.arange(4.0), np.ones(4)
    q, big, top = run(p, g)
    assert p.tolist() == [-1.0, 0.0, 1.0, 2.0] == q.tolist() and big and top == 2.0
    fixed = np.arange(4.0)
    fixed.flags.writeable = False
    with pytest.raises(TypingError, match="donated but read-only"):
        run(fixed, g)


def test_inside_njit_a_failed_check_raises():
    f = gc.compile(lambda t, i: np.take(t, i))
    f(np.ones(5), np.array([0, 1]))
    native = f.njit
    run = numba.njit(lambda t, i: native(t, i))
    assert run(np.arange(5.0), np.array([4, 0])).tolist() == [4.0, 0.0]
    with pytest.raises(IndexError, match="out of bounds"):
        run(np.arange(5.0), np.array([4, 7]))


def test_what_njit_cannot_take_is_said():
    f = gc.compile(lambda x: x * 2)
    native = f.njit
    with pytest.raises(TypingError, match="from Python first"):
        numba.njit(lambda x: native(x))(np.ones(3))
    with pytest.raises(TypingError, match="arrays, numbers and tuples"):
        numba.njit(lambda: native("text"))()
    named = gc.compile(lambda x: {"a": x * 2}).njit
    with pytest.raises(TypingError, match="the result holds a dict"):
        numba.njit(lambda x: named(x))(1.0)


doubled = gc.compile(lambda x: x * 2).njit


@numba.njit(cache=True)
def doubled_and_one(x):
    return doubled(x) + 1


def test_numba_does_not_cache_an_address_of_this_process():
    with pytest.warns(NumbaWarning, match="dynamic globals"):
        assert doubled_and_one(2.0) == 5.0


def test_threads_inside_njit():
    native = gc.grad(lambda x: np.sin(x) * x).njit

    @numba.njit(nogil=True)
    def run(x, n):
        total = 0.0
        for _ in range(n):
            total += native(x)
        return total

    run(1.0, 1)
    found = {}
    threads = [
        threading.Thread(target=lambda k=k: found.__setitem__(k, run(float(k), 20000)))
        for k in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(4):
        np.testing.assert_allclose(found[k], 20000 * (np.cos(k) * k + np.sin(k)), rtol=1e-9)
