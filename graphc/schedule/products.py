"""Which matrix products graphc computes itself, which pack B, and in what blocks of rows."""

from __future__ import annotations

from graphc.ir.dims import DimLike
from graphc.ir.node import Node
from graphc.ir.ops import matmul_dims
from graphc.schedule.sizes import nominal

_PANEL, _VECTOR = 64, 16  # elements of the widest panel and vector of any processor
TILE_ROWS = 16  # no tile of any processor has more
# Bytes of a block of the result: it stays in the first-level cache, or where much is added up
# for each element and B is large, in the second.
_SHORT_SUM, _SHORT_SUM_BLOCK, _LONG_SUM_BLOCK = 256, 32 << 10, 256 << 10
_MIN_ROWS, _MAX_ROWS = 16, 512
_MAX_B = 4 << 20  # bytes of B, of which no panel leaves the second-level cache
_MAX_A_COLUMNS = 256 << 10  # bytes of a transposed A, whose columns are read
_LARGE_B = 1 << 20
_MANY_ROWS = 256


def is_product(node: Node) -> bool:
    """Whether a node is a matrix product that graphc computes, in blocks of rows."""
    if node.op != "matmul":
        return False
    _, m, n, k = matmul_dims(dict(node.attrs), *(i.type for i in node.inputs))
    return is_own(node.attr("ta"), m, n, k, node.dtype.itemsize)


def is_own(ta: int, m: DimLike, n: DimLike, k: DimLike, itemsize: int) -> bool:
    """Whether graphc's tiles are used: they are faster than OpenBLAS on all shapes of which a
    panel stays in the caches (measured: 1.1 to 2 times). The number of columns must be known."""
    if not isinstance(n, int):
        return False
    if ta and nominal(k) > 128 and nominal(k) * nominal(m) * itemsize > _MAX_A_COLUMNS:
        return False
    return nominal(k) * n * itemsize <= _MAX_B


def work_size(ta: int, tb: int, m: DimLike, n: int, k: DimLike, itemsize: int) -> DimLike:
    """Elements of work memory for B in panels; 0 where B is read in place.

    A transposed B is always packed. Another is where its rows lie far apart and enough rows of
    the result share it.
    """
    copied = nominal(m) >= _MANY_ROWS or nominal(k) * n * itemsize > _LARGE_B
    far = n * itemsize >= 1024 and nominal(k) >= 64
    if not (tb or (copied and far and nominal(m) >= 64)):
        return 0
    # Squares of vectors reach beyond the last panel.
    return k * (n + _VECTOR) + _VECTOR * _PANEL


def block_rows(n: int, k: DimLike, itemsize: int) -> int:
    """Rows of the result that are computed before what follows the product runs over them."""
    size = _SHORT_SUM_BLOCK if nominal(k) <= _SHORT_SUM else _LONG_SUM_BLOCK
    rows = size // max(1, n * itemsize)
    return max(_MIN_ROWS, min(rows - rows % _MIN_ROWS, _MAX_ROWS))
