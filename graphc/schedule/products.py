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
_LONG_DOT, _FEW_ROWS = 128, 32
_MAX_B = 4 << 20  # bytes of B, of which no panel leaves the second-level cache
_MAX_A_COLUMNS = 512 << 10  # bytes of a transposed A whose columns are read in place
_LARGE_B = 1 << 20
#: Of a product in chunks: rows of the result and terms of the sum for which A is packed at a time.
CHUNK_ROWS, CHUNK_TERMS = 512, 96
#: Methods whose tiles ask for what comes next, and of how many arrays.
AHEAD_METHODS, MAX_AHEAD = ("direct", "whole", "packed", "panel"), 4
_MANY_ROWS = 256
_SMALL = 16 << 10  # bytes of a matrix that stays in the cache beside what blocks of rows need
_MANY_SUMMED = 64
_IN_FIRST_LEVEL = 32 << 10
_CHAIN_BLOCK = 256 << 10  # bytes of all that a kernel holds of a block of rows


def is_product(node: Node) -> bool:
    """Whether a node is a matrix product that graphc computes, in blocks of rows."""
    if node.op != "matmul" or is_contraction(node):
        return False
    *_, n, k = matmul_dims(dict(node.attrs), *(i.type for i in node.inputs))
    return is_own(n, k, node.dtype.itemsize)


def is_contraction(node: Node) -> bool:
    """Whether a node is ``a.T @ b`` of many rows with a small result, such as the gradient of a
    small weight: it is added up over blocks of rows of both, while these are in the cache."""
    if node.op != "matmul" or node.ndim != 2 or (node.attr("ta"), node.attr("tb")) != (1, 0):
        return False
    _, m, n, k = matmul_dims(dict(node.attrs), *(i.type for i in node.inputs))
    if not (isinstance(m, int) and isinstance(n, int)) or nominal(k) < _MANY_SUMMED:
        return False
    return m * n * node.dtype.itemsize <= _SMALL


def takes_rows(node: Node) -> bool:
    """Whether a kernel may make rows of the first operand of a product and, with them in the
    cache, rows of the product: the other operand is read once for each block."""
    if not is_product(node) or node.ndim != 2 or node.attr("ta"):
        return False
    return nominal(node.inputs[1].type.nbytes) <= _SMALL


def is_own(n: DimLike, k: DimLike, itemsize: int) -> bool:
    """Whether graphc's tiles are used: they are faster than OpenBLAS on all shapes of which a
    panel stays in the caches (measured: 1.1 to 2 times). The number of columns must be known."""
    return isinstance(n, int) and nominal(k) * n * itemsize <= _MAX_B


def method(
    ta: int, tb: int, m: DimLike, n: int, k: DimLike, itemsize: int, often: bool = False
) -> str:
    """How B is read; ``often``: the same B again and again, by a loop that does not change it.

    ``direct``: in place. ``dots``: in place too, each element of the result a dot product, for a
    transposed B that few rows share. ``panel``: packed, again for each block of rows, panel by
    panel, each used while it is in the cache. ``whole``: packed once for all blocks. A transposed
    B is packed, and one whose rows lie far apart where enough rows of the result share it.
    What is read often is packed before its loop, and the loop's product is ``packed``.
    ``chunks``: A and B packed for parts of a long sum over a wide transposed A, whose columns
    would come from far memory, and into a few lines of the cache, once for each panel.
    """
    if ta and nominal(k) > 128 and nominal(k) * nominal(m) * itemsize > _MAX_A_COLUMNS:
        return "chunks"
    dots = tb and not ta and n != 0 and m != 0
    if dots and n == 1:
        return "dots"
    if often and (tb or n > _PANEL):
        return "packed"
    if dots and nominal(k) >= _LONG_DOT and nominal(m) <= _FEW_ROWS:
        return "dots"
    copied = nominal(m) >= _MANY_ROWS or nominal(k) * n * itemsize >= _LARGE_B
    far = n * itemsize >= 1024 and nominal(k) >= 64
    if not (tb or (copied and far and nominal(m) >= 64)):
        return "direct"
    return "panel" if nominal(k) > _SHORT_SUM else "whole"


def in_one_block(node: Node) -> bool:
    """Whether all rows of a product that has a batch are one block: what it reads of its own batch
    index may be computed just before it, by the same kernel."""
    batch, m, n, k = matmul_dims(dict(node.attrs), *(i.type for i in node.inputs))
    return bool(batch) and isinstance(m, int) and m <= block_rows(n, k, node.dtype.itemsize)


def read_in_block(node: Node, position: int) -> bool:
    """Whether operand ``position`` of a product may be computed by the product's own kernel."""
    rank = node.ndim - 2
    return in_one_block(node) and node.inputs[position].shape[rank] == node.shape[rank]


def work_size(method: str, n: int, k: DimLike) -> DimLike:
    """Elements of work memory for a packed B; its last square of vectors may reach beyond it."""
    if method == "chunks":
        return CHUNK_TERMS * (CHUNK_ROWS + TILE_ROWS) + (CHUNK_TERMS + _VECTOR) * _PANEL
    if method == "panel":
        return (k + _VECTOR) * _PANEL
    return k * (n + _VECTOR) + _VECTOR * _PANEL if method in ("whole", "packed") else 0


def chain_rows(row_bytes: int) -> int:
    """Rows of a block of a kernel that holds ``row_bytes`` of each between its products."""
    few = _IN_FIRST_LEVEL // max(1, row_bytes)
    rows = few if few >= _FEW_ROWS else _CHAIN_BLOCK // max(1, row_bytes)
    return max(_MIN_ROWS, min(rows - rows % _MIN_ROWS, _MAX_ROWS))


def block_rows(n: int, k: DimLike, itemsize: int) -> int:
    """Rows of the result that are computed before what follows the product runs over them."""
    size = _SHORT_SUM_BLOCK if nominal(k) <= _SHORT_SUM else _LONG_SUM_BLOCK
    rows = size // max(1, n * itemsize)
    return max(_MIN_ROWS, min(rows - rows % _MIN_ROWS, _MAX_ROWS))
