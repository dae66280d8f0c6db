"""Handwritten digits: a network in plain NumPy, trained by graphc. Run: python examples/digits.py

The loss below is the whole model. graphc traces it, derives its gradient and compiles both.
"""

import numpy as np


def logits(params, x):
    """Scores (n, 10) of images x (n, 64)."""
    hidden = np.maximum(x @ params["W1"] + params["b1"], 0)
    return hidden @ params["W2"] + params["b2"]


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def loss(params, x, y):
    """Mean cross-entropy of the labels y (n,), integers."""
    return -np.mean(np.take_along_axis(log_softmax(logits(params, x)), y[:, None], axis=1))


def accuracy(params, x, y):
    return np.mean(logits(params, x).argmax(axis=1) == y)


def init(rng, sizes=(64, 128, 10)):
    """Glorot-uniform weights and biases, as scikit-learn's MLPClassifier draws them."""
    params = {}
    for layer in range(1, len(sizes)):
        fan_in, fan_out = sizes[layer - 1], sizes[layer]
        bound = np.sqrt(6 / (fan_in + fan_out))
        params[f"W{layer}"] = rng.uniform(-bound, bound, (fan_in, fan_out)).astype(np.float32)
        params[f"b{layer}"] = rng.uniform(-bound, bound, fan_out).astype(np.float32)
    return params


def load(seed=0, held_out=0.2):
    """The 1,797 digits of scikit-learn, scaled to [0, 1], split into training and held-out."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = np.split(order, [int(held_out * len(x))])
    return (x[train], y[train]), (x[test], y[test])


def example():
    """Arguments of the loss, for `graphc dump examples/digits.py:loss`."""
    return init(np.random.default_rng(0)), np.zeros((32, 64), np.float32), np.zeros(32, np.int64)


if __name__ == "__main__":
    import graphc as gc

    train, test = load()
    trainer = gc.Trainer(loss, gc.optim.adam(1e-3))
    result = trainer.fit(init(np.random.default_rng(0)), train, epochs=30, batch_size=32)
    print(f"held-out accuracy {accuracy(result.params, *test):.4f}")
    print(
        f"{result.history.us_per_step:.1f} us a step, compiled in {result.history.compile_s:.1f} s"
    )
