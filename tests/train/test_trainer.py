"""Trainer.fit with both engines: results, history, stopping, and everything it refuses."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from typing import NamedTuple

import numpy as np
import pytest

import graphc as gc
from graphc import optim
from graphc.errors import (
    DataError,
    DTypeError,
    GradientError,
    OptionError,
    TrainingWarning,
    UnknownNameError,
)
from graphc.train import StopTraining, Trainer
from graphc.train.shuffle import permutation


def mse(params, x, y):
    return np.mean((x @ params["w"] + params["b"] - y) ** 2)


def problem(n=50, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(dtype)
    y = (x @ np.array([1.0, -2.0, 0.5]) + 0.3).astype(dtype)
    return {"w": np.zeros(3, dtype), "b": np.zeros((), dtype)}, x, y


def by_hand(params, x, y, rate, epochs, batch, seed=None, dtype=np.float64):
    """SGD in plain NumPy; the order of the samples from the published algorithm."""
    w, b = params["w"].astype(dtype), params["b"].astype(dtype)
    losses = []
    for epoch in range(epochs):
        order = np.arange(len(x)) if seed is None else permutation(len(x), seed, epoch)
        total = 0.0
        for first in range(0, len(x), batch):
            rows = order[first : first + batch]
            error = x[rows] @ w + b - y[rows]
            total += float(np.mean(error**2)) * len(rows)
            w = w - rate * 2 / len(rows) * (error @ x[rows])
            b = b - rate * 2 * np.mean(error)
        losses.append(total / len(x))
    return {"w": w, "b": b}, losses


def trainer(loss=mse, optimizer=None, engine="interpreter"):
    return Trainer(loss, optimizer or optim.sgd(0.1), engine=engine)


both = pytest.mark.parametrize("engine", ["interpreter", "native"])


@both
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch", [10, 16, 50, 1000])
def test_equals_sgd_by_hand(engine, shuffle, batch):
    params, x, y = problem(dtype=np.float64)
    result = trainer(engine=engine).fit(
        params, (x, y), epochs=3, batch_size=batch, shuffle=shuffle, seed=5
    )
    expected, losses = by_hand(params, x, y, 0.1, 3, batch, 5 if shuffle else None)
    np.testing.assert_allclose(result.params["w"], expected["w"], rtol=1e-12)
    np.testing.assert_allclose(result.params["b"], expected["b"], rtol=1e-12)
    np.testing.assert_allclose(result.history.loss, losses, rtol=1e-12)
    assert result.history.steps == 3 * math.ceil(50 / batch)
    assert result.history.stopped is None


@both
def test_history(engine):
    params, x, y = problem()
    history = (
        trainer(engine=engine)
        .fit(
            params,
            (x[:40], y[:40]),
            epochs=4,
            batch_size=8,
            validation=(x[40:], y[40:]),
            metrics={"worst": lambda p, x, y: np.abs(x @ p["w"] + p["b"] - y).max()},
        )
        .history
    )
    assert len(history.loss) == len(history.val_loss) == len(history.seconds) == 4
    assert history["worst"] is history.metrics["worst"] and len(history["worst"]) == 4
    assert history.loss[-1] < history.loss[0] and history.val_loss[-1] < history.val_loss[0]
    assert history.us_per_step == pytest.approx(1e6 * sum(history.seconds) / 20)
    assert history.compile_s > 0
    with pytest.raises(UnknownNameError, match="unknown history 'acc'; available: loss, seconds"):
        history["acc"]


@both
def test_one_run_or_one_an_epoch_is_the_same(engine):
    params, x, y = problem()
    seen = []

    def callback(epoch, history, current):
        seen.append((epoch, len(history.loss), current["w"].copy()))

    adam = optim.adam(0.05)
    one = trainer(optimizer=adam, engine=engine).fit(
        params, (x, y), epochs=3, batch_size=16, seed=3
    )
    many = trainer(optimizer=adam, engine=engine).fit(
        params, (x, y), epochs=3, batch_size=16, seed=3, callback=callback
    )
    assert one.history.loss == many.history.loss
    np.testing.assert_array_equal(one.params["w"], many.params["w"])
    np.testing.assert_array_equal(one.state.square["w"], many.state.square["w"])
    assert [s[:2] for s in seen] == [(0, 1), (1, 2), (2, 3)]
    np.testing.assert_array_equal(seen[-1][2], many.params["w"])


def test_seed():
    params, x, y = problem()

    def fit(seed):
        return trainer().fit(params, (x, y), epochs=1, batch_size=7, seed=seed).params["w"]

    np.testing.assert_array_equal(fit(1), fit(1))
    assert not np.array_equal(fit(1), fit(2))


@both
def test_nothing_of_the_user_is_modified(engine):
    params, x, y = problem()
    kept = params["w"].copy(), x.copy(), y.copy()
    result = trainer(engine=engine).fit(params, (x, y), epochs=2, batch_size=8)
    for before, after in zip(kept, (params["w"], x, y), strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.shares_memory(result.params["w"], params["w"])


class Weights(NamedTuple):
    w: object
    b: object


@both
def test_trees_dtypes_and_scalars(engine):
    params, x, y = problem()

    def loss(params, batch, y):
        return np.mean((batch["x"] @ params[0].w + params[0].b - y) ** 2)

    start = [Weights(params["w"], 0.5), None]
    result = trainer(loss, engine=engine).fit(start, ({"x": x}, y), epochs=1, batch_size=16)
    assert isinstance(result.params[0], Weights) and result.params[1] is None
    assert result.params[0].w.dtype == np.float32 and result.params[0].b.dtype == np.float64


@both
def test_one_array_of_data(engine):
    def loss(params, x):
        return np.mean((x - params["centre"]) ** 2)

    x = np.random.default_rng(0).normal(3, 1, (64, 2))
    result = trainer(loss, engine=engine).fit({"centre": np.zeros(2)}, x, epochs=120, batch_size=64)
    np.testing.assert_allclose(result.params["centre"], x.mean(axis=0), rtol=1e-4)


@both
def test_loss_that_needs_plain_sizes(engine):
    """The batch size is used as a number: one graph for each size."""
    params, x, y = problem()

    def loss(params, x, y):
        weights = np.linspace(1, 2, int(x.shape[0]))
        return np.mean(weights * (x @ params["w"] + params["b"] - y) ** 2)

    history = trainer(loss, engine=engine).fit(params, (x, y), epochs=2, batch_size=16).history
    assert history.steps == 8 and history.loss[1] < history.loss[0]


# ------------------------------------------------------------------------- stopping early


@both
def test_nonfinite_loss_stops_and_keeps_the_last_good_parameters(engine):
    params, x, y = problem(40)
    y = y.copy()
    y[25] = 1e30  # the square overflows float32: batch 4 of each epoch

    def fit():
        return trainer(engine=engine).fit(params, (x, y), epochs=2, batch_size=8, shuffle=False)

    with pytest.warns(TrainingWarning, match=r"non-finite loss at step 4 \(epoch 1 of 2\)") as w:
        result = fit()
    assert w[0].filename == __file__
    assert result.history.stopped == "non-finite loss at step 4"
    assert result.history.steps == 3 and result.history.loss == []
    expected, _ = by_hand(params, x[:24], y[:24], 0.1, 1, 8, dtype=np.float32)
    np.testing.assert_allclose(result.params["w"], expected["w"], rtol=1e-5)


@both
def test_divergence_keeps_finite_parameters(engine):
    params, x, y = problem()
    with pytest.warns(TrainingWarning, match="A smaller learning rate may help"):
        result = trainer(optimizer=optim.sgd(1e4), engine=engine).fit(
            params, (x, y), epochs=50, batch_size=16
        )
    assert np.isfinite(result.params["w"]).all()


@both
def test_interrupt_between_epochs(engine):
    params, x, y = problem()

    def callback(epoch, history, params):
        if epoch == 1:
            raise KeyboardInterrupt

    result = trainer(engine=engine).fit(params, (x, y), epochs=9, batch_size=50, callback=callback)
    assert result.history.stopped == "interrupted" and result.history.steps == 2
    expected, _ = by_hand(params, x, y, 0.1, 2, 50, 0)
    np.testing.assert_allclose(result.params["w"], expected["w"], rtol=1e-5)


def test_other_errors_of_a_callback_pass():
    params, x, y = problem()
    with pytest.raises(ZeroDivisionError):
        trainer().fit(params, (x, y), epochs=2, batch_size=50, callback=lambda *a: 1 / 0)


INTERRUPTED = textwrap.dedent(
    """
    import sys, threading
    import numpy as np
    from graphc import optim
    from graphc.train import Trainer
    from graphc.train.interpreted import InterpretedEngine
    from graphc.train.native import NativeEngine

    engine = {"interpreter": InterpretedEngine, "native": NativeEngine}[sys.argv[1]]
    start = engine.start

    def noticed_start(self, **options):
        threading.Timer(0.2, lambda: print("ready", flush=True)).start()
        return start(self, **options)

    engine.start = noticed_start

    def loss(params, x):
        return np.mean((x - params["c"]) ** 2)

    x = np.random.default_rng(0).normal(size=(2000, 2))
    result = Trainer(loss, optim.sgd(1e-9), engine=sys.argv[1]).fit(
        {"c": np.zeros(2)}, x, epochs=10**6, batch_size=1)
    assert result.history.stopped == "interrupted", result.history.stopped
    assert result.history.steps > 0
    assert 0 < np.abs(result.params["c"]).max() < 0.1
    print("steps", result.history.steps)
    """
)


@both
def test_ctrl_c_returns_the_last_parameters(engine):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, engine],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("steps ")


# ------------------------------------------------------------------------- early stopping


def test_a_callback_stops_training():
    params, x, y = problem()

    def callback(epoch, history, current):
        if epoch == 2:
            raise StopTraining("enough")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = trainer().fit(params, (x, y), epochs=9, batch_size=16, callback=callback)
    assert result.history.stopped == "enough" and len(result.history.loss) == 3
    expected = trainer().fit(params, (x, y), epochs=3, batch_size=16)
    np.testing.assert_array_equal(result.params["w"], expected.params["w"])

    def silent(*_):
        raise gc.StopTraining

    result = trainer().fit(params, (x, y), epochs=9, batch_size=16, callback=silent)
    assert result.history.stopped == "stopped by the callback" and len(result.history.loss) == 1


def test_a_callback_that_returns_true_is_told_how_to_stop():
    params, x, y = problem()
    with pytest.warns(TrainingWarning, match=r'raise graphc\.StopTraining\("why"\)') as told:
        result = trainer().fit(params, (x, y), epochs=3, batch_size=16, callback=lambda *a: True)
    assert len(told) == 1 and told[0].filename == __file__
    assert result.history.stopped is None and len(result.history.loss) == 3


@pytest.mark.parametrize("state", ["falls", "rises", "stays infinite"])
def test_patience_returns_the_best_epoch(state):
    """The loss pulls w from 0 to 1 by half of the way an epoch; what validates wants some w."""
    goal = {"falls": 1.0, "rises": 0.8, "stays infinite": 1e200}[state]

    def loss(params, x):
        return np.mean((params["w"] - x) ** 2)

    seen = []
    result = Trainer(loss, optim.sgd(0.25), engine="interpreter").fit(
        {"w": np.zeros(())}, np.ones(1), epochs=12, batch_size=1, patience=3,
        validation=np.full(1, goal),
        callback=lambda epoch, history, params: seen.append(float(params["w"])),
    )  # fmt: skip
    assert seen[:3] == [0.5, 0.75, 0.875]
    history = result.history
    if state == "falls":
        assert history.stopped is None and history.best_epoch == 11
        assert result.params["w"] == seen[-1] == 1 - 0.5**12
    else:
        best = 1 if state == "rises" else 0
        assert history.stopped == "no lower val_loss for 3 epochs"
        assert history.best_epoch == best and len(seen) == best + 4
        assert result.params["w"] == seen[best]


def test_patience_needs_validation():
    params, x, y = problem()
    with pytest.raises(OptionError, match=r"patience waits for a lower validation loss; give"):
        trainer().fit(params, (x, y), epochs=3, batch_size=16, patience=2)
    with pytest.raises(OptionError, match="patience must be an integer of at least 1, not 0"):
        trainer().fit(params, (x, y), epochs=3, batch_size=16, patience=0, validation=(x, y))


# ------------------------------------------------------------------------- progress


@pytest.mark.parametrize("plain", [False, True])
def test_progress_goes_to_standard_error(capsys, monkeypatch, plain):
    if plain:
        monkeypatch.setattr("graphc.train.progress.find_spec", lambda name: None)
    params, x, y = problem()
    trainer().fit(params, (x, y), epochs=3, batch_size=16, progress=True, validation=(x, y))
    out, err = capsys.readouterr()
    assert out == "" and "12/12 steps" in err and "val_loss" in err


def test_no_progress_without_a_terminal(capsys):
    params, x, y = problem()
    trainer().fit(params, (x, y), epochs=3, batch_size=16)
    assert capsys.readouterr() == ("", "")


# ------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, not 0"),
        ({"epochs": 2.5}, "epochs must be an integer, not 2.5"),
        ({"batch_size": -1}, "batch_size must be an integer of at least 1, not -1"),
        ({"batch_size": True}, "batch_size must be an integer, not True"),
        ({"seed": "x"}, "seed must be an integer, not 'x'"),
        ({"metrics": {"m": mse}}, "metrics are computed on validation data"),
    ],
)
def test_bad_options(options, message):
    params, x, y = problem()
    with pytest.raises(OptionError, match=message):
        trainer().fit(params, (x, y), **{"epochs": 1, "batch_size": 8, **options})


def test_bad_data_is_named_as_the_loss_names_it():
    params, x, y = problem()
    fit = {"epochs": 1, "batch_size": 8}
    table = x.astype(object)
    table[7, 2] = "tall"
    with pytest.raises(DataError, match=r"`x` column 2 has dtype object.*encode it as float"):
        trainer().fit(params, (table, y), **fit)
    x[9, 1] = np.nan
    with pytest.raises(DataError, match="`x` has nan in row 9"):
        trainer().fit(params, (x, y), **fit)
    with pytest.raises(DataError, match="`x` has 40 rows and `y` 50"):
        trainer().fit(params, (x[10:], y), **fit)
    with pytest.raises(DataError, match="`validation x` has nan in row 9"):
        trainer().fit(params, (x[10:], y[10:]), validation=(x, y), **fit)
    with pytest.raises(DataError, match="validation has 1 part, the training data 2"):
        trainer().fit(params, (x[10:], y[10:]), validation=x[10:], **fit)


def test_bad_parameters():
    params, x, y = problem()
    fit = {"epochs": 1, "batch_size": 8}
    with pytest.raises(
        GradientError, match=r"`params\['mode'\]` is a str, which cannot be trained"
    ):
        trainer().fit({**params, "mode": "relu"}, (x, y), **fit)
    with pytest.raises(
        GradientError, match=r"`params\['b'\]` is int64, .* pass floats, e\.g\. 2.0"
    ):
        trainer().fit({**params, "b": 2}, (x, y), **fit)
    with pytest.raises(DataError, match=r"`params\['b'\]` has NaN or infinity"):
        trainer().fit({**params, "b": np.nan}, (x, y), **fit)


@both
def test_bad_loss(engine):
    params, x, y = problem()
    with pytest.raises(GradientError, match=r"has shape \(batch,\); a gradient needs one number"):
        trainer(lambda p, x, y: x @ p["w"] - y, engine=engine).fit(
            params, (x, y), epochs=1, batch_size=8
        )


def test_bad_trainer():
    with pytest.raises(UnknownNameError, match="unknown engine 'gpu'; available: interpreter"):
        Trainer(mse, optim.sgd(0.1), engine="gpu")
    with pytest.raises(UnknownNameError, match="unknown optimizer 'admm'; available: adam, sgd"):
        Trainer(mse, "admm")
    with pytest.raises(OptionError, match=r"pass graphc\.optim\.adam\(learning_rate"):
        Trainer(mse, "adam")
    with pytest.raises(OptionError, match="call the optimizer, graphc"):
        Trainer(mse, optim.adam)
    with pytest.raises(OptionError, match="the loss must be a function"):
        Trainer(3, optim.adam())
    with pytest.raises(OptionError, match="threads=0: give a positive int"):
        Trainer(mse, optim.adam(), threads=0)
    with pytest.raises(OptionError, match="threads='all': give a positive int, or 'auto'"):
        Trainer(mse, optim.adam(), threads="all")
    Trainer(mse, optim.adam(), threads=1)


def test_optimizer_that_changes_a_type():
    class Widening(optim.SGD):
        def update(self, params, grads, state):
            return {k: p.astype(np.float64) for k, p in params.items()}, state

    params, x, y = problem()
    with pytest.raises(DTypeError, match=r"changes the type of .*'b'.*: f32\[\] -> f64\[\]"):
        trainer(optimizer=Widening(0.1)).fit(params, (x, y), epochs=1, batch_size=8)


def test_a_good_fit_warns_of_nothing():
    params, x, y = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer().fit(params, (x, y), epochs=1, batch_size=8)


# ------------------------------------------------------------------------- native against both


def network(params, x, y):
    hidden = np.maximum(x @ params["W1"] + params["b1"], 0)
    z = hidden @ params["W2"]
    z = z - z.max(axis=1, keepdims=True)
    z = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -np.mean(np.take_along_axis(z, y[:, None], axis=1))


def network_problem():
    rng = np.random.default_rng(0)
    params = {
        "W1": rng.normal(0, 0.3, (6, 12)).astype(np.float32),
        "b1": np.zeros(12, np.float32),
        "W2": rng.normal(0, 0.3, (12, 3)).astype(np.float32),
    }
    x = rng.normal(size=(70, 6)).astype(np.float32)
    return params, x, (x[:, :3].argmax(axis=1)).astype(np.int32)


def test_native_is_the_interpreted_training_and_repeats_bit_by_bit():
    params, x, y = network_problem()
    results = [
        trainer(network, optim.adam(0.01), engine).fit(params, (x, y), epochs=5, batch_size=16)
        for engine in ("interpreter", "native", "native")
    ]
    interpreted, native, again = results
    np.testing.assert_allclose(native.history.loss, interpreted.history.loss, rtol=1e-4)
    for name in params:
        np.testing.assert_allclose(
            native.params[name], interpreted.params[name], rtol=1e-3, atol=1e-4
        )
        np.testing.assert_array_equal(native.params[name], again.params[name])
    assert native.history.loss == again.history.loss
    assert native.state.step == 25 and native.state.step.dtype == np.int64


@both
def test_label_out_of_range_is_named(engine):
    params, x, y = network_problem()
    y[13] = 3
    with pytest.raises(IndexError, match="3"):
        trainer(network, engine=engine).fit(params, (x, y), epochs=1, batch_size=16)


def test_a_result_is_printed_as_a_summary():
    params, x, y = problem()
    result = trainer().fit(params, (x, y), epochs=2, batch_size=10, validation=(x, y))
    past = result.history
    head, *shapes = str(result).splitlines()
    assert head == (
        f"FitResult: 2 epochs, loss {past.loss[-1]:.6g}, val_loss {past.val_loss[-1]:.6g}"
    )
    assert shapes == ["  params['b']: float32[]", "  params['w']: float32[3]"]

    def stop(*_):
        raise StopTraining("enough")

    stopped = trainer().fit(params, (x, y), epochs=2, batch_size=10, callback=stop)
    assert repr(stopped).splitlines()[0].endswith("stopped: enough")
    many = type(result)([np.zeros(2)] * 40, (), past)
    assert len(str(many).splitlines()) == 13 and str(many).endswith("  and 29 more")


def told(loss, params, *data):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = gc.Trainer(loss, gc.optim.sgd(0.01), engine="interpreter")
        trainer.fit(params, data, epochs=1, batch_size=4)
    assert all("test_trainer.py" in w.filename for w in caught)
    return "\n".join(str(w.message) for w in caught)


def test_a_column_that_meets_a_vector_is_told():
    """(n, 1) - (n,) is (n, n) in NumPy: the mistake that trains, and learns nothing."""
    x, y = np.ones((8, 3)), np.ones(8)

    def mse(p, x, y):
        return np.mean((x @ p - y) ** 2)

    text = told(mse, np.zeros(3), x, y[:, None])
    assert "`y` has shape (batch, 1) and meets (batch,)" in text and "pass y[:, 0]" in text
    assert "in mse" in text or "test_trainer.py:" in text
    assert "pass y[:, None]" in told(mse, np.zeros((3, 1)), x, y)
    assert not told(mse, np.zeros(3), x, y)
    assert not told(mse, np.zeros((3, 1)), x, y[:, None])
    assert not told(lambda p, x, y: np.mean((y[:, None] - x @ p) ** 2), np.zeros(3), x, y)
    assert not told(lambda p, x, y: np.mean((y - y.T) ** 2 * p), np.zeros(()), x, y[:, None])


def test_a_loss_without_a_gradient_is_told():
    x, y = np.ones((8, 3)), np.ones(8)
    text = told(lambda p, x, y: np.mean((x @ p > 0) == y), np.zeros(3), x, y)
    assert "the gradient of `<lambda>` is 0 for all parameters" in text and "metrics=" in text
    assert "is 0 for all" in told(lambda p, x, y: 1.0, np.zeros(3), x, y)


def test_an_index_out_of_range_names_the_data():
    def loss(p, x, label):
        return np.mean(p[label] * x)

    trainer = gc.Trainer(loss, gc.optim.sgd(0.01))
    with pytest.raises(IndexError, match="index 7 in `label` is out of bounds"):
        trainer.fit(np.zeros(3), (np.ones(4), np.array([0, 1, 7, 2])), epochs=1, batch_size=2)
