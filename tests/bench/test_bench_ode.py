"""`python -m bench.ode`: values and gradients agree before anything is timed."""

import numpy as np
import pytest

from bench import ode


@pytest.mark.parametrize("name", ["c-by-hand", "numba"])
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
