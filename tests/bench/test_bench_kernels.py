"""The table of kernels: one row each, in time that adds up to the step."""

from bench.kernels import measure


def test_each_kernel_has_a_row():
    rows, step = measure("W2b", 1)
    assert [r.name for r in rows] == [f"k{i}" for i in range(len(rows))] and len(rows) >= 2
    assert abs(sum(r.us for r in rows) - step) <= 1e-6 * step
    assert all(r.us > 0 and r.nbytes > 0 for r in rows)
