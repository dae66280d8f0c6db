"""Which matrix products graphc computes itself, and which of them copy B panel by panel."""

from __future__ import annotations

from graphc.ir.dims import DimLike
from graphc.schedule.deps import nominal

_WORK_COLUMNS, _WORK_ROWS = 64, 16  # the widest panel and vector of any processor
_MAX_B = 4 << 20  # bytes of B, of which no panel leaves the second-level cache
_MAX_A_COLUMNS = 256 << 10  # bytes of a transposed A, whose columns are read
_LARGE_B = 1 << 20
_MANY_ROWS = 256


def is_own(ta: int, m: DimLike, n: DimLike, k: DimLike, itemsize: int) -> bool:
    """Whether graphc's tiles are used: they are faster than OpenBLAS on all shapes of which a
    panel stays in the caches (measured: 1.1 to 2 times). The number of columns must be known."""
    if not isinstance(n, int):
        return False
    if ta and nominal(k) > 128 and nominal(k) * nominal(m) * itemsize > _MAX_A_COLUMNS:
        return False
    return nominal(k) * n * itemsize <= _MAX_B


def work_size(ta: int, tb: int, m: DimLike, n: int, k: DimLike, itemsize: int) -> DimLike:
    """Elements of work memory for one panel of B; 0 where B is read in place.

    A transposed B is always packed. Another is where its rows lie far apart and enough rows of
    the result share a panel.
    """
    copied = nominal(m) >= _MANY_ROWS or nominal(k) * n * itemsize > _LARGE_B
    far = n * itemsize >= 1024 and nominal(k) >= 64
    if not (tb or (copied and far and nominal(m) >= 64)):
        return 0
    return (k + _WORK_ROWS) * _WORK_COLUMNS
