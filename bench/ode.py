"""A differential equation in 10,000 small steps: Lorenz by Runge and Kutta.

    python -m bench.ode

The value (sum of squares of the last state) and its gradient to start and parameters in float64,
by graphc's and JAX's scan of the same function, by hand in C and Numba, and in JAX as its gradient
is fastest (it stacks every intermediate of a step, unless it is told to compute them again).
Results are compared before anything is timed; peers take turns, and the least of all rounds counts.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.environment import pin_to_one_thread, processor_name

STEPS, H, ROUNDS = 10_000, 0.001, 60
START, RATES = np.array([1.0, 1.0, 1.0]), np.array([10.0, 28.0, 8 / 3])


def make_loss(array: Callable, scan: Callable, steps: int) -> Callable:
    """In the namespace of a library: how it makes an array of numbers, and its loop."""

    def slope(s, p):
        x, y, z = s[0], s[1], s[2]
        return array([p[0] * (y - x), x * (p[1] - z) - y, x * y - p[2] * z])

    def loss(start, p):
        def step(s, _):
            k1 = slope(s, p)
            k2 = slope(s + H / 2 * k1, p)
            k3 = slope(s + H / 2 * k2, p)
            k4 = slope(s + H * k3, p)
            return s + H / 6 * (k1 + 2 * k2 + 2 * k3 + k4), ()

        last, _ = scan(step, start, None, length=steps)
        return (last**2).sum()

    return loss


# ---- peers: each a pair of calls without arguments, of the value and of (value, gradients) -------


def graphc_peer(steps: int) -> tuple[Callable, Callable]:
    import graphc as gc

    loss = make_loss(gc.numpy.array, gc.scan, steps)
    value, gradient = gc.compile(loss), gc.value_and_grad(loss, argnums=(0, 1))
    return lambda: value(START, RATES), lambda: gradient(START, RATES)


def jax_peer(steps: int) -> tuple[Callable, Callable]:
    import jax

    return _jitted(make_loss(jax.numpy.array, jax.lax.scan, steps))


def jax_by_hand(steps: int) -> tuple[Callable, Callable]:
    """As JAX's gradient is fastest here: a carry of scalars, and each step computed again in the
    backward pass (``jax.checkpoint``), so that states alone are kept."""
    import jax

    def slope(s, p):
        (x, y, z), (a, b, c) = s, p
        return a * (y - x), x * (b - z) - y, x * y - c * z

    def ahead(s, h, k):
        return tuple(a + h * b for a, b in zip(s, k, strict=True))

    def loss(start, p):
        @jax.checkpoint
        def step(s, _):
            k1 = slope(s, p)
            k2 = slope(ahead(s, H / 2, k1), p)
            k3 = slope(ahead(s, H / 2, k2), p)
            k4 = slope(ahead(s, H, k3), p)
            k = tuple(a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4, strict=True))
            return ahead(s, H / 6, k), ()

        last, _ = jax.lax.scan(step, tuple(start), None, length=steps)
        return sum(v**2 for v in last)

    return _jitted(loss)


def _jitted(loss: Callable) -> tuple[Callable, Callable]:
    import jax

    jax.config.update("jax_enable_x64", True)
    value, gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    start, rates = jax.numpy.array(START), jax.numpy.array(RATES)
    wait = jax.block_until_ready
    return lambda: wait(value(start, rates)), lambda: wait(gradient(start, rates))


def c_peer(steps: int) -> tuple[Callable, Callable]:
    from bench.peers.c_peer import compile_text

    library = compile_text((Path(__file__).parent / "peers" / "lorenz.c").read_text())
    tape, results = np.empty(3 * steps), np.empty(7)

    def call(function, *arrays):
        function.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * len(arrays)
        return lambda: function(steps, *(a.ctypes.data for a in arrays))

    value = call(library.lorenz_value, START, RATES, results)
    gradient = call(library.lorenz_gradient, START, RATES, tape, results)

    def values():
        value()
        return results[0]

    def gradients():
        gradient()
        return results[0], (results[1:4], results[4:])

    return values, gradients


def numba_peer(steps: int) -> tuple[Callable, Callable | None]:
    """The value alone: a gradient by hand would be that of C."""
    from numba import njit

    @njit(fastmath=True)
    def slope(x, y, z, a, b, c):
        return a * (y - x), x * (b - z) - y, x * y - c * z

    @njit(fastmath=True)
    def value(start, rates):
        x, y, z = start
        a, b, c = rates
        for _ in range(steps):
            u1, v1, w1 = slope(x, y, z, a, b, c)
            h = H / 2
            u2, v2, w2 = slope(x + h * u1, y + h * v1, z + h * w1, a, b, c)
            u3, v3, w3 = slope(x + h * u2, y + h * v2, z + h * w2, a, b, c)
            h = H
            u4, v4, w4 = slope(x + h * u3, y + h * v3, z + h * w3, a, b, c)
            x += H / 6 * (u1 + 2 * u2 + 2 * u3 + u4)
            y += H / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
            z += H / 6 * (w1 + 2 * w2 + 2 * w3 + w4)
        return x * x + y * y + z * z

    start, rates = tuple(START), tuple(RATES)
    return lambda: value(start, rates), None


PEERS = {
    "graphc": graphc_peer, "c-by-hand": c_peer, "numba": numba_peer, "jax": jax_peer,
    "jax-by-hand": jax_by_hand,
}  # fmt: skip


def flat(result) -> np.ndarray:
    """Value and gradients in a row."""
    value, *rest = result if isinstance(result, tuple) else (result,)
    return np.concatenate([np.ravel(np.asarray(a)) for a in (value, *(rest[0] if rest else ()))])


def peers(steps: int, makers: dict[str, Callable]) -> dict[str, tuple[Callable, Callable | None]]:
    """Those that can be had here, with results that agree."""
    found, expected = {}, None
    for name, make in makers.items():
        try:
            value, gradient = make(steps)
        except ImportError as error:
            print(f"{name}: not available ({error})")
            continue
        if gradient is not None:
            expected = flat(gradient()) if expected is None else expected
            np.testing.assert_allclose(flat(gradient()), expected, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(flat(value()), expected[:1], rtol=1e-6, err_msg=name)
        found[name] = value, gradient
    return found


def main() -> None:
    pin_to_one_thread()
    found = peers(STEPS, PEERS)
    least: dict[tuple[str, int], float] = {}
    for _ in range(ROUNDS):
        for name, pair in found.items():
            for which, call in enumerate(pair):
                if call is not None:
                    began = time.perf_counter()
                    call()
                    passed = time.perf_counter() - began
                    least[name, which] = min(least.get((name, which), passed), passed)
    print(f"{processor_name()}, one thread, ns a step (over graphc)")
    print(f"{'':12}{'value':>16}{'value and gradient':>24}")
    for name in found:
        cells = []
        for which, width in ((0, 16), (1, 24)):
            if (name, which) in least:
                ratio = least[name, which] / least["graphc", which]
                cells.append(f"{least[name, which] / STEPS * 1e9:.1f} ({ratio:.2f})".rjust(width))
        print(f"{name:12}{''.join(cells)}")


if __name__ == "__main__":
    main()
