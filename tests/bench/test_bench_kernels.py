"""The table of kernels: one row each, in time that adds up to the step."""

import pytest

from bench.kernels import measure


@pytest.mark.parametrize("workload", ["W2b", "W6"])
def test_each_kernel_has_a_row(workload):
    rows, step = measure(workload, 1)
    assert len({r.name for r in rows}) == len(rows) >= 2
    assert abs(sum(r.us for r in rows) - step) <= 1e-6 * step
    assert all(r.us > 0 and r.nbytes > 0 for r in rows)
