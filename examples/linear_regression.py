"""Linear regression by gradient descent. Run: python examples/linear_regression.py"""

import numpy as np

import graphc as gc


def loss(params, x, y):
    return np.mean((x @ params["w"] + params["b"] - y) ** 2)


def main():
    rng = np.random.default_rng(0)
    w, b = np.array([2.0, -1.0, 0.5]), 3.0
    x = rng.normal(size=(500, 3))
    y = x @ w + b + rng.normal(0, 0.1, 500)

    step = gc.value_and_grad(loss)  # one compiled function: the loss and its gradient
    params = {"w": np.zeros(3), "b": 0.0}
    for _ in range(200):
        value, grads = step(params, x, y)
        params = {name: p - 0.1 * grads[name] for name, p in params.items()}
    print(f"loss {value:.4f}  w {np.round(params['w'], 2)}  b {params['b']:.2f}")
    return params


if __name__ == "__main__":
    main()
