"""The table of kernels: one row each, in time that adds up to the step."""

import pytest

from bench.kernels import measure


@pytest.mark.parametrize("workload", ["W2b", "W6"])
def test_each_kernel_has_a_row(workload):
    rows, step = measure(workload, 1)
    assert len({r.name for r in rows}) == len(rows) >= 2
    assert abs(sum(r.us for r in rows) - step) <= 1e-6 * step
    assert all(r.us > 0 and r.nbytes > 0 for r in rows)


def test_a_tiny_step_is_one_of_many_turns():
    """Of 256 steps in one call, each multiplies 4 rows of 4 numbers in both directions."""
    rows, _ = measure("W2a", 1)
    (whole,) = (r for r in rows if "sigmoid" in r.computes)
    assert whole.nbytes < 1000  # of one step: not of a call
    assert all(r.nbytes <= whole.nbytes for r in rows)
