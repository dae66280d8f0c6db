"""A Trainer that fits again: nothing is traced or compiled twice, and training can go on."""

import copy
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest

import graphc as gc
from graphc import compiled, optim, pipeline
from graphc.errors import DataError, OptionError
from graphc.trace.tree import flatten
from graphc.train import FitResult, Trainer, step

both = pytest.mark.parametrize("engine", ["interpreter", "native"])


def mse(params, x, y):
    return np.mean((np.tanh(x @ params["w"]) @ params["v"] - y) ** 2)


def problem(n=50, width=4, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(3, width)).astype(dtype), "v": np.ones(width, dtype)}
    x = rng.normal(size=(n, 3)).astype(dtype)
    return params, x, (x @ np.array([1.0, -2.0, 0.5])).astype(dtype)


def same(a, b):
    """Bit by bit."""
    (a, structure), (b, other) = flatten(a), flatten(b)
    return structure == other and all(
        np.asarray(u).dtype == np.asarray(v).dtype and np.array_equal(u, v)
        for u, v in zip(a, b, strict=True)
    )


@pytest.fixture
def work(monkeypatch):
    """How often something was traced and built since it was cleared."""
    done = []

    def counted(what, fn):
        return lambda *args, **kwargs: (done.append(what), fn(*args, **kwargs))[1]

    monkeypatch.setattr(step, "trace", counted("trace", step.trace))
    monkeypatch.setattr(compiled, "trace", counted("trace", compiled.trace))
    monkeypatch.setattr(pipeline, "build", counted("build", pipeline.build))
    return done


# ------------------------------------------------------------------------- what is kept


@both
@pytest.mark.parametrize("width", [4, 80], ids=["tiny", "larger"])
def test_other_data_of_the_same_kind_need_no_work(engine, width, work):
    trainer = Trainer(mse, optim.adam(0.05), engine=engine)
    options = {"epochs": 2, "batch_size": 20}
    params, x, y = problem(width=width)
    first = trainer.fit(params, (x, y), validation=(x, y), **options)
    assert work.count("trace") >= 2 and ("build" in work) == (engine == "native")
    kept = copy.deepcopy(first)
    work.clear()
    params, x, y = problem(width=width, seed=1)
    again = trainer.fit(params, (x, y), validation=(x, y), **options)
    assert work == []
    # As a new Trainer does it; and what was returned before is as it was.
    expected = replace(trainer).fit(params, (x, y), validation=(x, y), **options)
    assert work != [] and same((again.params, again.state), (expected.params, expected.state))
    assert again.history.loss == expected.history.loss
    assert same((first.params, first.state), (kept.params, kept.state))
    assert first.history.loss == kept.history.loss


@pytest.mark.parametrize(
    "other",
    [{"dtype": np.float64}, {"width": 5}, {"n": 47}, {"n": 20}],
    ids=["dtype", "shape", "a last batch of another size", "one batch"],
)
def test_other_kinds_are_trained_as_by_a_new_trainer(other):
    trainer = Trainer(mse, optim.adam(0.05))
    for given in ({}, other, {}):
        params, x, y = problem(**given)
        again = trainer.fit(params, (x, y), epochs=2, batch_size=20)
        expected = replace(trainer).fit(params, (x, y), epochs=2, batch_size=20)
        assert same((again.params, again.state), (expected.params, expected.state))


@both
def test_what_the_loss_and_the_optimizer_read_may_change(engine, work):
    """As for gc.compile: what has changed since the trace is traced again."""
    scale, weights = [1.0], np.ones(2)

    class Descent:
        def __init__(self, rate):
            self.rate = rate

        def init(self, params):
            return ()

        def update(self, params, grads, state):
            return params - self.rate * grads, state

    descent = Descent(0.5)
    loss = lambda p, x: np.mean(scale[0] * p * x) * weights.sum() / 2  # noqa: E731
    trainer = Trainer(loss, descent, engine=engine)

    def fit():
        work.clear()
        options = {"epochs": 1, "batch_size": 1, "validation": np.ones(1)}
        result = trainer.fit(np.zeros(()), np.ones(1), **options)
        assert result.history.val_loss[0] == scale[0] * result.params * weights.mean()
        return float(result.params), "trace" in work

    assert fit() == (-0.5, True)
    assert fit() == (-0.5, False)
    scale[0] = 2.0
    assert fit() == (-1.0, True)
    descent.rate = 1.0
    assert fit() == (-2.0, True)
    weights[:] = 3.0
    assert fit() == (-6.0, True)
    assert fit() == (-6.0, False)


def test_memory_is_not_shared_with_results():
    """Parameters of a megabyte are handed over without a copy, and their memory is used again."""
    params = {"w": np.ones((512, 600), np.float32)}
    trainer = Trainer(lambda p, x: np.mean((x @ p["w"]) ** 2), optim.adam(0.1))
    x = np.ones((4, 512), np.float32)
    first = trainer.fit(params, x, epochs=1, batch_size=4)
    kept = copy.deepcopy(first)
    second = trainer.fit(first, x, epochs=1, batch_size=4)
    assert same((first.params, first.state), (kept.params, kept.state))
    leaves = [a for r in (first, second) for a in flatten((r.params, r.state))[0]]
    for k, a in enumerate(leaves):
        assert a.flags.owndata and a.flags.writeable and not np.shares_memory(a, params["w"])
        assert not any(np.shares_memory(a, b) for b in leaves[:k])


def test_a_copy_or_a_pickle_begins_without(work):
    params, x, y = problem()
    trainer = Trainer(mse, optim.sgd(0.1), engine="interpreter")
    text = repr(trainer)
    result = trainer.fit(params, (x, y), epochs=1, batch_size=20)
    assert repr(trainer) == text and trainer == Trainer(mse, optim.sgd(0.1), engine="interpreter")
    for other in (pickle.loads(pickle.dumps(trainer)), copy.deepcopy(trainer)):
        work.clear()
        again = other.fit(params, (x, y), epochs=1, batch_size=20)
        assert work == ["trace"] and same(again.params, result.params)


def test_threads_share_a_trainer(work):
    trainer = Trainer(mse, optim.adam(0.05))
    problems = [problem(seed=seed) for seed in range(4)]
    results = [None] * len(problems)

    def fit(k):
        params, x, y = problems[k]
        results[k] = trainer.fit(params, (x, y), epochs=30, batch_size=20)

    threads = [threading.Thread(target=fit, args=(k,)) for k in range(len(problems))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    builds = work.count("build")
    for (params, x, y), result in zip(problems, results, strict=True):
        expected = trainer.fit(params, (x, y), epochs=30, batch_size=20)
        assert same((expected.params, expected.state), (result.params, result.state))
    assert work.count("build") == builds


# ------------------------------------------------------------------------- going on


@both
@pytest.mark.parametrize("width", [4, 80], ids=["tiny", "larger"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_going_on_is_one_longer_run(engine, width, shuffle):
    params, x, y = problem(width=width)
    trainer = Trainer(mse, optim.adam(0.05), engine=engine)

    def fit(start, epochs):
        return trainer.fit(start, (x, y), epochs=epochs, batch_size=20, shuffle=shuffle, seed=3)

    whole, part = fit(params, 6), fit(params, 1)
    for epochs in (2, 3):
        part = fit(pickle.loads(pickle.dumps(part)), epochs)
    assert same((part.params, part.state), (whole.params, whole.state))
    assert part.state.step == 18
    assert part.history.loss == whole.history.loss[3:]
    assert part.history.first_epoch == 3 and part.history.next_epoch == 6


def test_state_alone_keeps_the_moments():
    params, x, y = problem()
    trainer = Trainer(mse, optim.adam(0.05), engine="interpreter")
    options = {"epochs": 2, "batch_size": 20, "shuffle": False}
    whole = trainer.fit(params, (x, y), **{**options, "epochs": 4})
    half = trainer.fit(params, (x, y), **options)
    on = trainer.fit(half.params, (x, y), state=half.state, **options)
    assert same((on.params, on.state), (whole.params, whole.state))
    assert on.history.first_epoch == 0
    anew = trainer.fit(half.params, (x, y), **options)
    assert not same(anew.params, whole.params) and anew.state.step == 6


def test_going_on_from_the_best_epoch():
    """With patience the parameters are those of the best epoch, and the next one follows it."""

    def loss(params, x):
        return np.mean((params - x) ** 2)

    trainer = Trainer(loss, optim.sgd(0.25), engine="interpreter")
    result = trainer.fit(np.zeros(()), np.ones(1), epochs=9, batch_size=1, patience=2,
                         validation=np.full(1, 0.8))  # fmt: skip
    assert result.history.best_epoch == 1 and result.history.next_epoch == 2
    on = trainer.fit(result, np.ones(1), epochs=1, batch_size=1)
    assert on.history.first_epoch == 2 and float(on.params) == 1 - 0.5**3


def test_a_state_of_something_else_is_refused():
    params, x, y = problem()
    fit = {"epochs": 1, "batch_size": 20}
    adam, sgd = (Trainer(mse, o, engine="interpreter") for o in (optim.adam(0.1), optim.sgd(0.1)))
    result, plain = adam.fit(params, (x, y), **fit), sgd.fit(params, (x, y), **fit)
    with pytest.raises(OptionError, match=r"no state of Adam for these .*: it lacks `state\.step`"):
        adam.fit(plain, (x, y), **fit)
    with pytest.raises(OptionError, match=r"state of SGD .* has `state\.step`, which none has"):
        sgd.fit(result, (x, y), **fit)
    other = problem(width=5)[0]
    with pytest.raises(
        OptionError, match=r"`state\.mean\['v'\]` is float32\[4\], float32\[5\] is needed"
    ):
        adam.fit(other, (x, y), state=result.state, **fit)
    with pytest.raises(OptionError, match=r"lacks `state\.mean\['b'\]`"):
        adam.fit({**params, "b": np.zeros(1)}, (x, y), state=result.state, **fit)
    wide = result.state._replace(step=np.float64(3))
    with pytest.raises(OptionError, match=r"`state\.step` is float64\[\], int64\[\] is needed"):
        adam.fit(params, (x, y), state=wide, **fit)
    bad = result.state._replace(square={"w": params["w"] * np.nan, "v": params["v"]})
    with pytest.raises(DataError, match=r"`state\.square\['w'\]` has NaN or infinity"):
        adam.fit(params, (x, y), state=bad, **fit)
    with pytest.raises(OptionError, match=r"a result has its own state; write fit\(result, \.\.\."):
        adam.fit(result, (x, y), state=result.state, **fit)
    assert isinstance(adam.fit(result, (x, y), **fit), FitResult)


@pytest.mark.parametrize("shuffle", [False, True])
def test_nonfinite_steps_are_explained_by_the_order_that_went_on(shuffle):
    """The sample at fault is found in the order of the epochs that follow."""

    def loss(params, x):
        return np.mean(np.log(params - x))

    x = np.linspace(0, 0.5, 10)
    trainer = Trainer(loss, optim.sgd(0.003), engine="interpreter", checked=True)
    result = trainer.fit(np.ones(()), x, epochs=2, batch_size=1, shuffle=shuffle)
    assert result.history.stopped is None
    with pytest.warns(gc.errors.TrainingWarning, match="non-finite"):
        on = trainer.fit(result, x, epochs=50, batch_size=1, shuffle=shuffle)
    assert on.history.error is not None and on.history.error.op == "log"
