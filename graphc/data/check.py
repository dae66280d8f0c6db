"""What training data must be: numbers, finite, of one length. Errors name the column or row."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import DataError
from graphc.ir.types import is_supported_dtype
from graphc.trace.tree import flatten, leaf_paths, unflatten

_CHUNK = 1 << 20  # elements examined at a time


def check_data(data: tuple, names: list[str]) -> tuple[tuple, int]:
    """``data`` with each leaf as an ndarray, and the number of samples.

    ``data`` is a tuple of trees of arrays, ``names`` how the user calls each. Raises DataError
    for what is not numeric, for NaN and infinity, for unequal lengths and for no samples.
    """
    arrays, paths = [], []
    for tree, name in zip(data, names, strict=True):
        if hasattr(tree, "columns") or _is_table_of_numbers(tree):
            tree = _array(tree, name)  # a data frame; nested lists of numbers are rows, not a tree
        leaves, treedef = flatten(tree)
        leaf_names = leaf_paths(tree, name)
        leaves = [_numeric(leaf, path) for leaf, path in zip(leaves, leaf_names, strict=True)]
        arrays.append((treedef, leaves))
        paths += leaf_names
    flat = [a for _, leaves in arrays for a in leaves]
    if not flat:
        raise DataError("there is no data: give at least one array")
    count = _equal_lengths(flat, paths)
    if count == 0:
        raise DataError(f"`{paths[0]}` has no rows: there is nothing to train on")
    for array, path in zip(flat, paths, strict=True):
        _finite(array, path)
    return tuple(unflatten(treedef, leaves) for treedef, leaves in arrays), count


def check_like(validation: tuple, training: tuple, names: list[str]) -> None:
    """Validation data must have the structure and the row shapes of the training data."""
    for tree, reference, name in zip(validation, training, names, strict=True):
        leaves, treedef = flatten(tree)
        expected, structure = flatten(reference)
        if treedef != structure:
            raise DataError(f"validation `{name}` is {treedef}, in training it is {structure}")
        for a, b, path in zip(leaves, expected, leaf_paths(reference, name), strict=True):
            if a.shape[1:] != b.shape[1:]:
                raise DataError(
                    f"validation `{path}` has shape {a.shape}, in training it has {b.shape}"
                )


def _is_table_of_numbers(value: Any) -> bool:
    """A list, nested or not, that starts with a number or a string."""
    while isinstance(value, list | tuple) and len(value):
        value = value[0]
        if isinstance(value, bool | int | float | complex | str | bytes | np.generic):
            return True
    return False


def _array(value: Any, path: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:
        raise DataError(f"`{path}` is not rectangular: its rows differ in length") from None


def _numeric(leaf: Any, path: str) -> np.ndarray:
    array = _array(leaf, path)
    if array.dtype == object or array.dtype.kind in "SUMmV" or not is_supported_dtype(array.dtype):
        raise DataError(_not_numeric(array, path))
    if array.ndim == 0:
        raise DataError(f"`{path}` is a single value; expected an array with one row a sample")
    return array


def _not_numeric(array: np.ndarray, path: str) -> str:
    if array.ndim == 2 and array.dtype.kind in "OSU":
        for column in range(array.shape[1]):
            found = [v for v in array[:, column] if not _is_number(v)]
            if found:
                return (
                    f"`{path}` column {column} has dtype {_dtype(array)}, with values such as "
                    f"{_short(found[0])}; encode it as float"
                )
    elif array.ndim and array.size and array.dtype.kind in "OSU":
        found = [v for v in array.flat if not _is_number(v)]
        if found:
            return (
                f"`{path}` has dtype {_dtype(array)}, with values such as {_short(found[0])}; "
                "encode it as numbers"
            )
    return f"`{path}` has dtype {_dtype(array)}; convert it: {path}.astype(np.float32)"


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _dtype(array: np.ndarray) -> str:
    return {"U": "str", "S": "bytes"}.get(array.dtype.kind, array.dtype.name)


def _short(value: Any) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 24 else text[:21] + "..."


def _equal_lengths(arrays: list[np.ndarray], paths: list[str]) -> int:
    for array, path in zip(arrays, paths, strict=True):
        if len(array) != len(arrays[0]):
            raise DataError(
                f"`{paths[0]}` has {len(arrays[0])} rows and `{path}` {len(array)}; "
                "one row a sample is needed in each"
            )
    return len(arrays[0])


def _finite(array: np.ndarray, path: str) -> None:
    if array.dtype.kind not in "fc":
        return
    rows = max(1, _CHUNK // max(1, array[0].size))
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        good = np.isfinite(part)
        if good.all():
            continue
        where = tuple(int(i) for i in np.argwhere(~good)[0])
        index = ", ".join(map(str, (start + where[0], *where[1:])))
        raise DataError(
            f"`{path}` has {part[where]} in row {start + where[0]} (`{path}[{index}]`); "
            "drop or fill such rows before training"
        )
