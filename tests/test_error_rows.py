"""What users get wrong, row by row of the table of errors (1 to 37): one test a row, through the
functions that users call, on what the message says. Details of a row are tested beside its code.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings

import numpy as np
import pytest

import graphc as gc
import graphc.numpy as gnp
from graphc import errors, optim

X = np.array([1.0, 2.0, 3.0])
HERE = "test_error_rows.py:"


def message(fn, *args, error=errors.GraphcError, line=True) -> str:
    """The text of the error, which is short and names the user's line."""
    with pytest.raises(error) as caught:
        fn(*args)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8
    assert not line or HERE in text
    assert "numba" not in text.lower() and "llvm" not in text.lower()
    return text


def interpret(fn, **options):
    return gc.interpret(fn, **options)


# ------------------------------------------------------------------------------ 1 to 10: tracing


def test_row_1_if_that_cannot_be_specialised():
    def branch(c, v):
        if c > v:
            return c, v
        return v, c

    text = message(interpret(lambda x: gc.scan(branch, x[0], x)), X)
    assert "`if` depends on the carry, index or element of a loop's step" in text
    assert "np.where" in text and "gc.cond" in text


def test_row_2_x_or_default():
    text = message(interpret(lambda x, scale: np.sum(x * (scale or 1.0))), X, X)
    assert "`or` depends on input `scale`" in text and "write `default if x is None else x`" in text


def test_row_3_an_unsupported_function():
    text = message(interpret(lambda x: np.poly(x)), X)
    assert "np.poly is not supported" in text


def test_row_4_a_constant_table_indexed_by_a_traced_value():
    table = np.arange(4.0) ** 2

    def lookup(i):
        return np.sum(table[i])

    text = message(interpret(lookup), np.array([1, 3]))
    assert "table" in text and "graphc.numpy.asarray(table)" in text
    assert interpret(lambda i: np.sum(gnp.asarray(table)[i]))(np.array([1, 3])) == 10


def test_row_5_writing_into_a_plain_array():
    def fill(x):
        buf = np.zeros(5)
        buf[0] = x[0]
        return buf

    text = message(interpret(fill), X)
    assert "`buf`" in text and "graphc.numpy.zeros" in text


def test_row_6_the_result_of_an_update_dropped():
    """Updates act on the array, as in NumPy, so that there is no result to drop."""

    def fn(x):
        y = gnp.zeros(3)
        y[1] = x[0]
        np.add.at(y, [2], x[1])
        return y

    np.testing.assert_array_equal(interpret(fn)(X), [0, 1, 2])


def test_row_7_an_index_beyond_the_size():
    text = message(interpret(lambda r: r[10]), X, error=IndexError)
    assert "index 10" in text and "axis 0" in text and "size 3" in text


@pytest.mark.parametrize("make", [gc.interpret, gc.compile])
def test_row_8_an_index_beyond_the_size_at_run_time(make):
    def pick(x, i):
        return x[i]

    with pytest.raises(IndexError, match=r"index 7(.|\n)*size 3"):
        make(pick)(X, np.array([0, 7]))


def test_row_9_a_mask_of_the_wrong_length():
    mask = np.array([True, False])
    text = message(interpret(lambda x: x[mask]), X, error=IndexError)
    assert "2" in text and "3" in text and "mask" in text


@pytest.mark.parametrize("fn", [lambda x: x[x > 1], np.unique, np.nonzero])
def test_row_10_a_size_that_depends_on_data(fn):
    text = message(interpret(lambda x: fn(x)), X)
    assert "depends on" in text and ("size=" in text or "np.where" in text)


# -------------------------------------------------------------------------- 11 to 20: gradients


def test_row_11_an_integer_argument():
    text = message(gc.grad(lambda x: x * 1.0), 2, line=False)
    assert "`x`, which is int64" in text and "2.0" in text


def test_row_12_a_vector_or_a_tuple():
    text = message(gc.grad(lambda x: x * 2), X, line=False)
    assert "output 0" in text and "shape (3,)" in text
    assert "jacobian" in text and "has_aux=True" in text


def test_row_13_no_return():
    def forgot(x):
        x.sum()

    text = message(gc.grad(forgot), X)
    assert "`forgot` returned None; is a `return` missing?" in text


def test_row_14_an_op_without_a_gradient(monkeypatch):
    from graphc.ad import rules

    monkeypatch.delitem(rules.RULES, "take")
    text = message(gc.grad(lambda x, i: x[i].sum()), X, np.array([1]))
    assert "`take`" in text and "ops with one" in text and "custom_vjp" in text


def test_row_15_a_list_as_static_argument():
    f = interpret(lambda x, axes: np.sum(x, axis=tuple(axes)), static_argnames="axes")
    assert f(X, axes=[0]) == 6

    class Unhashable:
        __hash__ = None

    text = message(lambda: f(X, axes=Unhashable()), line=False)
    assert "`axes`" in text and "Unhashable" in text


def test_row_16_a_string_among_the_parameters():
    text = message(gc.grad(lambda params: params["w"]), {"w": 1.0, "mode": "fast"})
    assert "`params['mode']` is a str" in text and "static" in text


def test_row_17_another_size_at_each_call():
    f = interpret(lambda x: x.reshape(2, int(x.shape[0]) // 2).sum(0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in (10, 14, 22, 26):
            assert f(np.ones(n)).shape == (n // 2,)
    told = [str(w.message) for w in caught if w.category is errors.CompileWarning]
    assert len(told) <= 1
    assert all("axis 0 of x was 10, 14, 22" in t for t in told)


def test_row_18_numpy_random():
    text = message(interpret(lambda x: x + np.random.normal(size=3)), X)
    assert "np.random" in text and "frozen" in text


kept = []


def test_row_19_a_traced_value_kept_in_a_global():
    def keep(x):
        kept.append(x * 2)
        return x

    interpret(keep)(X)
    text = message(lambda: kept[0] + 1)
    assert "keep" in text and "escaped" in text


def test_row_20_shapes_that_do_not_fit():
    text = message(interpret(lambda W, h: W @ h), np.ones((64, 10)), np.ones((32, 64)),
                   error=ValueError)  # fmt: skip
    assert "(64, 10)" in text and "(32, 64)" in text and "10" in text and "32" in text


# --------------------------------------------------------------------- 21 to 23: loops and choices


def test_row_21_a_carry_that_changes():
    def step(carry, x):
        return {"n_pos": carry["n_pos"] + 0.5}, x

    text = message(interpret(lambda x: gc.scan(step, {"n_pos": np.int64(0)}, x)), X)
    assert "carry['n_pos']" in text and "int64" in text and "float64" in text


def test_row_22_no_steps():
    last, ys = interpret(lambda x: gc.scan(lambda c, v: (c + v, 2 * c), 1.5, x))(np.zeros((0,)))
    assert last == 1.5 and ys.shape == (0,)


def test_row_23_a_tape_beyond_the_budget(monkeypatch):
    monkeypatch.setenv("GRAPHC_TAPE_BYTES", "20000")

    def grow(x, n):
        last = gc.while_loop(lambda c: c[1] < n, lambda c: (np.sin(c[0]) * c[0], c[1] + 1), (x, 0))
        return np.sum(last[0])

    text = message(gc.grad(grow), np.ones(10), 2000)
    assert "tape of over" in text and "at step" in text and "the budget is 20" in text
    assert "max_steps=" in text and "checkpoint=True" in text


# ------------------------------------------------------------------------- 24 to 28: surroundings


def run(code, folder, **more):
    import subprocess

    env = {k: v for k, v in os.environ.items() if not k.startswith("GRAPHC_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env | {"GRAPHC_CACHE_DIR": str(folder)} | more,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


CALL = "import numpy as np, graphc as gc; print(gc.compile(lambda x: x * 3)(np.ones(2))[0])"


def test_row_24_a_place_where_nothing_can_be_written(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    out, err = run(CALL, blocker / "cache")
    assert out == "3.0" and err.count("CacheWarning") == 1 and str(blocker / "cache") in err


def test_row_25_threads_in_one_kernel():
    f = gc.compile(lambda x: np.sin(x) * 2)
    results: dict[int, bool] = {}

    def work(k):
        x = np.full(500, float(k))
        results[k] = all((f(x) == f(x)).all() and abs(f(x)[0] - 2 * np.sin(k)) < 1e-12
                         for _ in range(30))  # fmt: skip

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == dict.fromkeys(range(4), True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_row_26_fork_after_first_use(tmp_path):
    code = (
        "import os, numpy as np, graphc as gc\n"
        "f = gc.compile(lambda x: x * 3)\nf(np.ones(2)); f(np.ones(2))\n"
        "pid = os.fork()\nok = f(np.ones(2))[0] == 3\n"
        "if pid == 0: os._exit(0 if ok else 1)\n"
        "print(ok, os.waitpid(pid, 0)[1])\n"
    )
    assert run(code, tmp_path / "cache")[0] == "True 0"


def test_row_27_float32_into_scipy():
    minimize = pytest.importorskip("scipy.optimize").minimize
    f = interpret(gc.value_and_grad(lambda x: np.sum((x - np.float32(2)) ** 2)))
    assert f(np.zeros(3, np.float32))[1].dtype == np.float32

    def fun(x):
        return f(x.astype(np.float32))

    found = minimize(fun, np.zeros(3), jac=True, method="L-BFGS-B")
    np.testing.assert_allclose(found.x, 2, rtol=1e-5)


def test_row_28_float64_is_honoured():
    value, slope = interpret(gc.value_and_grad(lambda x: np.sum(x * x, dtype=np.float64)))(
        np.ones(2, np.float32)
    )
    assert value.dtype == np.float64 and slope.dtype == np.float32


# ------------------------------------------------------------------------------ 29 to 37: the rest


def test_row_29_an_undefined_name():
    def misspelt(x):
        return npp.sum(x)  # noqa: F821

    with pytest.raises(NameError, match="npp") as caught:
        gc.compile(misspelt)(X)
    assert type(caught.value) is NameError


def test_row_30_slice_then_reshape():
    found = interpret(lambda x: x[::2, 1:].reshape(-1))(np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(found, [1, 2, 3, 9, 10, 11])


def norm(x):
    return np.sqrt(np.sum(x**2))


def masked_log(x):
    return np.sum(np.where(x > 0, np.log(x), 0))


def test_row_31_gradients_at_singular_points():
    np.testing.assert_array_equal(interpret(gc.grad(norm))(np.zeros(3)), 0)
    assert interpret(gc.grad(lambda x: np.sqrt(x)))(0.0) == 0
    np.testing.assert_array_equal(interpret(gc.grad(masked_log))(np.array([-1.0, 2])), [0, 0.5])
    text = message(interpret(gc.grad(norm), checked="strict"), np.zeros(3))
    assert "backward pass of `sqrt`" in text and "in norm: return np.sqrt" in text
    text = message(interpret(masked_log, checked="strict"), np.array([-1.0, 2]))
    assert "`log`(-1) = nan" in text and "in masked_log" in text


def test_row_32_cuda():
    """Nothing runs elsewhere than asked for, and no device is listed that there is not."""
    for device in ("cuda", "cuda:0", "gpu"):
        text = message(lambda device=device: gc.compile(norm, device=device), line=False)
        assert f"device '{device}': graphc makes code for the CPU only" in text
        assert "device='cpu'" in text
    assert gc.interpret(norm, device="cpu")(X) == pytest.approx(14**0.5)


def test_row_33_unknown_names():
    text = message(lambda: gc.compile(norm, device="fpga"), line=False)
    assert "unknown device 'fpga'; available: cpu" in text and "cuda" not in text
    text = message(lambda: gc.grad(norm, fast=True), line=False)
    assert "unknown option 'fast'; available: argnums, checked, device" in text
    text = message(lambda: optim.get("adamm"), line=False)
    assert "unknown optimizer 'adamm'; available: adam" in text
    text = message(lambda: gc.Trainer(norm, optim.sgd(0.1), engine="gpu"), line=False)
    assert "unknown engine 'gpu'" in text
    with pytest.raises(TypeError, match="floaty"):
        gc.interpret(lambda x: x.astype("floaty"))(X)


def line_loss(params, x, y):
    return np.mean((x @ params - y) ** 2)


def test_row_34_an_object_column():
    data = np.array([[1.0, 2.0, "a"], [1.0, 2.0, "b"]], dtype=object)
    trainer = gc.Trainer(line_loss, optim.sgd(0.1), engine="interpreter")
    text = message(
        lambda: trainer.fit(np.ones(3), (data, np.ones(2)), epochs=1, batch_size=2), line=False
    )
    assert "`x`" in text and "dtype object" in text and "float" in text


def test_row_35_nan_in_data_in_a_call_and_in_training():
    text = message(interpret(lambda x: np.log(x).sum(), checked=True), np.array([1.0, -2]))
    assert "`log`(-2) = nan" in text and "forward pass" in text and "operands: argument `x`" in text
    text = message(interpret(norm, checked=True), np.array([1.0, np.nan]), line=False)
    assert "came in as data: argument `x` holds nan at [1]" in text
    trainer = gc.Trainer(line_loss, optim.sgd(1e200), engine="interpreter", checked=True)
    x = np.linspace(1, 2, 12).reshape(6, 2)
    with pytest.warns(errors.TrainingWarning, match=r"non-finite loss at step \d(.|\n)* first in"):
        result = trainer.fit(np.ones(2), (x, x[:, 0]), epochs=3, batch_size=2)
    assert np.isfinite(result.params).all() and result.history.error.op
    with pytest.raises(errors.DataError, match="`x` has nan in row 1"):
        trainer.fit(np.ones(2), (np.array([[1.0, 1], [1, np.nan]]), np.ones(2)), epochs=1,
                    batch_size=1)  # fmt: skip


def test_row_36_a_damaged_cache_entry(tmp_path):
    folder = tmp_path / "cache"
    run(CALL, folder)
    (entry,) = folder.glob("*.gco")
    entry.write_bytes(entry.read_bytes()[:-100])
    out, err = run(CALL, folder)
    assert out == "3.0" and "is damaged" in err and "rebuilt" in err and str(entry) in err


def test_row_37_a_cache_folder_that_others_can_write_to(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    out, err = run(CALL, folder)
    assert out == "3.0" and err.count("CacheWarning") == 1 and f"chmod 700 {folder}" in err
    assert not list(folder.iterdir())


def test_every_row_has_a_test():
    rows = {int(name.split("_")[2]) for name in globals() if name.startswith("test_row_")}
    assert rows == set(range(1, 38))
