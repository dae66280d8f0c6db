"""``f.memory(...)``: what is told before a call is what the process then takes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import graphc as gc
from graphc.errors import OptionError
from graphc.report.targets import parse_arguments

MODEL = """
import numpy as np
import graphc as gc


def loss(params, x):
    for w in params:
        x = np.tanh(x @ w)
    return np.mean(x * x)


def arguments(rows):
    weights = [np.full((256, 256), 0.01, np.float32) for _ in range(6)]
    return weights, np.ones((rows, 256), np.float32)


f = gc.value_and_grad(loss, dims={"x": ("n", None)})
"""

MEASURE = """
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


f(*arguments(3))  # compiles, imports what calls need
predicted = f.memory(*arguments(40_000))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forget the peak so far
before = status("VmRSS")
f(*arguments(40_000))
print(predicted.peak, status("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_predicted_and_measured_peak_of_a_fresh_process():
    done = subprocess.run(
        [sys.executable, "-c", MODEL + MEASURE], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    predicted, measured = map(int, done.stdout.split())
    assert predicted > 200 << 20
    assert abs(measured - predicted) <= 0.1 * predicted, (predicted, measured)


def test_parts_of_a_prediction():
    scope: dict = {}
    exec(textwrap.dedent(MODEL), scope)
    found = scope["f"].memory(*scope["arguments"](512))
    layer = 4 * 512 * 256
    assert found.arguments == 6 * 4 * 256 * 256 + layer
    assert found.results == 6 * 4 * 256 * 256 + 4
    assert 6 * layer <= found.live <= found.temporaries <= 9 * layer
    assert found.peak == sum((found.arguments, found.results, found.constants, found.temporaries))
    assert str(found) == "7.0 MiB: arguments 2.0 MiB, results 1.5 MiB, temporaries 3.5 MiB"


def test_donated_memory_counts_once_and_constants_count():
    table = np.arange(5000.0)
    step = gc.compile(lambda x, d: x - d * table, donate=0)
    found = step.memory(np.zeros(5000), np.zeros(5000))
    assert (found.arguments, found.results, found.constants) == (80_000, 0, 40_000)
    assert found.temporaries == 0


def test_the_prediction_is_the_arena():
    x = np.linspace(0, 1, 300)

    def f(x):
        return np.outer(x, x) @ np.exp(np.outer(x, np.sin(x)))

    compiled = gc.value_and_grad(lambda x: f(x).sum())
    binding = next(iter(compiled_bindings(compiled, x)))
    assert compiled.memory(x).temporaries == binding.plan.nbytes


def compiled_bindings(compiled, *args):
    compiled(*args)
    (family,) = compiled._families.values()
    yield from (b for free in family.variants[0].run._free.values() for b in free)


def test_reports_tell_it():
    loss = lambda p, x: np.mean((x @ p) ** 2)  # noqa: E731
    p, x = np.zeros((20, 30)), np.zeros((1000, 20))
    found = gc.inspect(gc.value_and_grad(loss), p, x)
    assert found.memory == gc.value_and_grad(loss).memory(p, x)
    assert f"memory    {found.memory}" in str(found)
    step = gc.inspect(gc.Trainer(loss, gc.optim.adam(0.1)), p, x)
    assert step.memory.arguments >= p.nbytes * 3 + x.nbytes  # parameters and both moments
    assert step.memory.results == 8  # the loss: the others are changed in place


def test_without_sizes_there_is_none():
    (x,) = parse_arguments("f64[n,3]")
    assert "  memory" not in str(gc.inspect(gc.compile(np.sin), x))
    with pytest.raises(OptionError, match="size n of x"):
        gc.compile(lambda x: np.sin(x)).memory(x)
