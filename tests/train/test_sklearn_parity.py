"""The digits network learns as well as scikit-learn's of the same shape."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import graphc as gc
from graphc.demo import example_path
from graphc.report.targets import load_file

EPOCHS, BATCH, RATE = 20, 32, 1e-3


def test_mean_accuracy_over_ten_splits():
    digits = load_file(example_path("digits"))
    trainer = gc.Trainer(digits.loss, gc.optim.adam(RATE))
    ours, theirs = [], []
    for seed in range(10):
        train, test = digits.load(seed)
        params = digits.init(np.random.default_rng(seed))
        result = trainer.fit(params, train, epochs=EPOCHS, batch_size=BATCH, seed=seed)
        ours.append(digits.accuracy(result.params, *test))
        net = MLPClassifier(
            (128,), learning_rate_init=RATE, batch_size=BATCH, max_iter=EPOCHS, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(*train)
        theirs.append(net.score(*test))
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.005, (ours, theirs)
    assert np.mean(ours) > 0.96
