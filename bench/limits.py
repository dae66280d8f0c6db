"""What the hardware allows: a roofline for each workload.

A step cannot be faster than its multiply-adds at the rate of a large matrix product, nor than
the memory that it must touch at the rate of a copy; both rates are measured in the same run. Math
functions, latency and the cost of a call are not counted, so small workloads stay far above it.
See Williams, Waterman and Patterson, "Roofline" (2009).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

IN_CACHE, IN_MEMORY = 256 << 10, 64 << 20  # bytes of the arrays that are copied
SECOND_LEVEL = 2 << 20  # bytes that stay in a cache from step to step


@dataclass(frozen=True)
class Work:
    """Of one step: floating-point operations of products, and bytes read or written."""

    flops: float
    nbytes: float
    double: bool = False


@dataclass(frozen=True)
class Rates:
    """Operations a second of products by dtype; bytes a second by size of what is copied."""

    single: float
    double: float
    cache: float
    memory: float

    def limit_us(self, work: Work) -> float:
        arithmetic = work.flops / (self.double if work.double else self.single)
        memory = work.nbytes / (self.cache if work.nbytes <= SECOND_LEVEL else self.memory)
        return max(arithmetic, memory) * 1e6


def measure_rates() -> Rates:
    """By graphc's own products (the fastest of the peers here) and NumPy's copy."""
    import graphc as gc

    def products(dtype):
        rng = np.random.default_rng(0)
        a, b = (rng.normal(size=s).astype(dtype) for s in ((256, 512), (512, 512)))
        product = gc.compile(lambda a, b: a @ b)
        return 2 * a.size * b.shape[1] / best_seconds(lambda: product(a, b))

    def copies(nbytes):
        x = np.ones(nbytes // 8)
        y = np.empty_like(x)
        return 2 * x.nbytes / best_seconds(lambda: np.copyto(y, x))

    return Rates(products(np.float32), products(np.float64), copies(IN_CACHE), copies(IN_MEMORY))


def best_seconds(call: Callable, seconds: float = 0.2) -> float:
    call()  # the first one compiles
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - start)
    return best


# ---- counts that several workloads share --------------------------------------------------------


def training(product_flops: float, first_flops: float, parameters: int, kind: str, data: int):
    """A step of a network: each product is done three times (forward, by weights, by inputs),
    but that of the first layer twice. Parameters and Adam's moments are read and written."""
    arrays = {"sgd": 1, "adam": 3}[kind]
    return Work(3 * product_flops - first_flops, 4 * (2 * arrays * parameters + data))


def dense(sizes: tuple[int, ...], batch: int, kind: str) -> Work:
    """A network of dense layers, float32."""
    weights = [a * b for a, b in pairwise(sizes)]
    parameters = sum(weights) + sum(sizes[1:])
    flops = [2 * batch * w for w in weights]
    return training(sum(flops), flops[0], parameters, kind, batch * (sizes[0] + sizes[-1]))
