"""W8: price of European calls and its gradient to all five inputs, a million options, float64.

Vector math and memory: 11 arrays of 8 MB are read or written, with one exp, log, sqrt and two
normal distribution functions for each option.
"""

from __future__ import annotations

import math

import numpy as np

from bench.calls import CallRunner, call_reference
from bench.core import Case, Params, Runner, Tolerance, Workload
from bench.limits import Work

OPTIONS = 1_000_000
NAMES = ("spot", "strike", "expiry", "rate", "volatility")


def inputs() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(8)
    low, high = (80, 80, 0.25, 0.01, 0.1), (120, 120, 2.0, 0.05, 0.5)
    return tuple(rng.uniform(a, b, OPTIONS) for a, b in zip(low, high, strict=True))


def make_price(np, erf):
    """The formula as the users of a NumPy-like namespace write it."""

    def price(s, k, t, r, v):
        root = v * np.sqrt(t)
        d1 = (np.log(s / k) + (r + 0.5 * v * v) * t) / root
        d2 = d1 - root
        cdf1 = 0.5 * (1 + erf(d1 / math.sqrt(2)))
        cdf2 = 0.5 * (1 + erf(d2 / math.sqrt(2)))
        return s * cdf1 - k * np.exp(-r * t) * cdf2

    return price


def total_and_price(price):
    """Options do not depend on each other: the gradient of the sum has all derivatives."""

    def total(*inputs):
        prices = price(*inputs)
        return prices.sum(), prices

    return total


def read(result) -> tuple[float, Params]:
    price, grads = result
    arrays = dict(zip(("price", *NAMES), map(np.asarray, (price, *grads)), strict=True))
    return float(np.mean(arrays["price"])), arrays


def by_hand(s, k, t, r, v):
    """Closed forms (the "Greeks"), each array made once: NumPy with SciPy's erf."""
    from scipy.special import ndtr

    root_t = np.sqrt(t)
    root = v * root_t
    d1 = (np.log(s / k) + (r + 0.5 * v * v) * t) / root
    d2 = d1 - root
    delta, cdf2 = ndtr(d1), ndtr(d2)
    discount = np.exp(-r * t)
    density = np.exp(-0.5 * d1 * d1) * (s / math.sqrt(2 * math.pi))
    discounted = k * discount
    price = s * delta - discounted * cdf2
    by_expiry = density * v / (2 * root_t) + r * discounted * cdf2
    return price, (delta, -discount * cdf2, by_expiry, t * discounted * cdf2, density * root_t)


def graphc() -> Runner:
    from scipy.special import erf

    import graphc as gc

    function = gc.value_and_grad(
        total_and_price(make_price(np, erf)), argnums=tuple(range(5)), has_aux=True
    )

    def call(*arrays):
        (_, price), grads = function(*arrays)
        return price, grads

    return CallRunner(call, [inputs()], read)


def autograd_tape() -> Runner:
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import erf

    price = make_price(anp, erf)

    def call(*arrays):
        backward, prices = autograd.make_vjp(price, tuple(range(5)))(*arrays)
        return prices, backward(np.ones(OPTIONS))

    return CallRunner(call, [inputs()], read)


def jax_jit() -> Runner:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_cpu_enable_async_dispatch", False)  # as in jax_peer.py

    def double():
        return jax.enable_x64(True)

    with double():
        point = tuple(map(jnp.asarray, inputs()))
    gradient = jax.value_and_grad(
        total_and_price(make_price(jnp, jax.scipy.special.erf)), tuple(range(5)), has_aux=True
    )

    def both(*arrays):
        (_, price), grads = gradient(*arrays)
        return price, grads

    return CallRunner(jax.jit(both), [point], read, jax.block_until_ready, double)


def torch_eager() -> Runner:
    import torch

    price = make_price(torch, torch.erf)

    def call(*leaves):
        prices = price(*leaves)
        return prices.detach(), torch.autograd.grad(prices.sum(), leaves)

    return CallRunner(call, [_torch_inputs(requires_grad=True)], read)


def torch_compiled() -> Runner:
    import torch

    gradient = torch.func.grad_and_value(
        total_and_price(make_price(torch, torch.erf)), tuple(range(5)), has_aux=True
    )

    def both(*leaves):
        grads, (_, prices) = gradient(*leaves)
        return prices, grads

    point = _torch_inputs(requires_grad=False)
    return CallRunner(torch.compile(both), [point], read, context=torch.no_grad)


def _torch_inputs(requires_grad: bool) -> tuple:
    import torch

    torch.set_num_threads(1)
    return tuple(torch.from_numpy(x).requires_grad_(requires_grad) for x in inputs())


def c_vector() -> Runner:
    """The closed forms in C, with the vector math library and memory made once: the floor."""
    from bench.peers.c_peer import compile_c

    function = compile_c("black_scholes")
    point, out = inputs(), np.empty((6, OPTIONS))
    out[:] = 0  # the pages are there before the clock starts
    addresses = [x.ctypes.data for x in (*point, *out)]

    def call(*arrays):
        function(OPTIONS, *addresses)
        return out[0], tuple(out[1:])

    return CallRunner(call, [point], read)


def make() -> Case:
    peers = {
        "graphc-step": graphc,
        "numpy": lambda: CallRunner(by_hand, [inputs()], read),
        "autograd": autograd_tape,
        "jax-step": jax_jit,
        "torch": torch_eager,
        "torch-compile": torch_compiled,
        "c": c_vector,
    }
    reference = call_reference([read(by_hand(*inputs()))])
    return Case(reference, Tolerance(loss=1e-12, params=1e-10), peers)


TITLE = "Black-Scholes price and 5 derivatives, 1e6 options, float64"
WORKLOAD = Workload("W8", TITLE, make, Work(0, 11 * 8 * OPTIONS, double=True))
