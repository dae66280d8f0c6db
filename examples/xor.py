"""XOR by a network of four hidden units. Run: python examples/xor.py"""

import numpy as np

import graphc as gc

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
Y = np.array([0, 1, 1, 0], np.float64)


def predict(params, x):
    hidden = np.tanh(x @ params["W1"] + params["b1"])
    return 1 / (1 + np.exp(-(hidden @ params["W2"] + params["b2"])))


def loss(params, x, y):
    p = predict(params, x)
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


def main():
    rng = np.random.default_rng(0)
    params = {
        "W1": rng.normal(size=(2, 4)),
        "b1": np.zeros(4),
        "W2": rng.normal(size=4),
        "b2": 0.0,
    }
    trainer = gc.Trainer(loss, gc.optim.adam(0.05))
    result = trainer.fit(params, (X, Y), epochs=500, batch_size=4, shuffle=False)
    p = predict(result.params, X)
    for x, y, value in zip(X, Y, p, strict=True):
        print(f"{x} -> {value:.3f}  (wanted {y:.0f})")
    return p


if __name__ == "__main__":
    main()
