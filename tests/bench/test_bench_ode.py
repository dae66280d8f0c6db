"""`python -m bench.ode`: values and gradients agree before anything is timed."""

import sys

import numpy as np
import pytest

from bench import ode


@pytest.fixture(autouse=True)
def float64_is_for_these_tests_alone():
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", False)


@pytest.mark.parametrize("name", ["c-by-hand", "numba", "jax-by-hand"])
def test_peers_agree(name, capsys):
    chosen = {"graphc": ode.PEERS["graphc"], name: ode.PEERS[name]}
    found = ode.peers(20, chosen)
    if name not in found:
        pytest.skip(capsys.readouterr().out)
    value, gradient = found["graphc"]
    assert np.isfinite(ode.flat(value())).all() and len(ode.flat(gradient())) == 7


def test_results_that_differ_are_found():
    def wrong(steps):
        return lambda: 1.0, None

    with pytest.raises(AssertionError, match="wrong"):
        ode.peers(20, {"graphc": ode.PEERS["graphc"], "wrong": wrong})
