"""The IDX format of the MNIST family of data sets, plain or gzipped.

Two zero bytes, a type code, the number of axes; the size of each axis as a big-endian uint32;
then the elements, big-endian, last axis fastest (Y. LeCun, C. Cortes and C. Burges, "The MNIST
database of handwritten digits").
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from graphc.errors import DataError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_LISTED = 8  # file names shown when one is missing


def load_idx(path: str | os.PathLike) -> np.ndarray:
    """The array in an IDX file, in its own shape and dtype (native byte order).

    A gzipped file is recognised by its content, whatever its name. Raises DataError naming the
    path, what was expected and what was found.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
    >>> _ = path.write_bytes(b"\\0\\0\\x08\\x01" + b"\\0\\0\\0\\x03" + bytes([7, 2, 1]))
    >>> load_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    content = _read(path)
    if len(content) < 4:
        raise DataError(f"{path}: {len(content)} bytes are too few for an IDX file")
    zeros, code, ndim = content[:2], content[2], content[3]
    if zeros != b"\0\0" or code not in _DTYPES:
        codes = ", ".join(f"{c:02x}" for c in _DTYPES)
        raise DataError(
            f"{path}: not an IDX file: expected the bytes 00 00, then one of {codes}; "
            f"found {content[:4].hex(' ')}"
        )
    header = 4 + 4 * ndim
    if len(content) < header:
        raise DataError(
            f"{path}: truncated: a header of {ndim} axes takes {header} bytes, "
            f"the file has {len(content)}"
        )
    shape = struct.unpack(f">{ndim}I", content[4:header])
    dtype = np.dtype(_DTYPES[code])
    expected, found = math.prod(shape) * dtype.itemsize, len(content) - header
    if found != expected:
        problem = "truncated" if found < expected else "too long"
        raise DataError(
            f"{path}: {problem}: shape {shape} of {dtype.name} takes {expected} bytes, "
            f"the file has {found}"
        )
    array = np.frombuffer(content, dtype, offset=header).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def load_mnist(
    folder: str | os.PathLike,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``(X_train, y_train, X_test, y_test)`` from a folder in the layout of MNIST.

    Images are uint8 of shape (n, rows, columns), labels uint8 of shape (n,), as they are in the
    files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, each plain or with ``.gz``. Raises DataError where one is missing
    or damaged, or where images and labels do not belong together.

    >>> from graphc.errors import DataError
    >>> try:
    ...     load_mnist("no-such-folder")
    ... except DataError as error:
    ...     print("train-images-idx3-ubyte" in str(error))
    True
    """
    folder = Path(folder)
    parts = []
    for part in ("train", "t10k"):
        images_path = _find(folder, f"{part}-images-idx3-ubyte")
        labels_path = _find(folder, f"{part}-labels-idx1-ubyte")
        images, labels = load_idx(images_path), load_idx(labels_path)
        if images.ndim != 3:
            raise DataError(f"{images_path}: expected 3 axes, found shape {images.shape}")
        if labels.shape != images.shape[:1]:
            raise DataError(
                f"{labels_path}: expected shape {images.shape[:1]}, one label for each image in "
                f"{images_path.name}; found {labels.shape}"
            )
        parts += [images, labels]
    return tuple(parts)


def _read(path: Path) -> bytes:
    if not path.exists():
        raise DataError(f"{path}: no such file; {_listing(path.parent)}")
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")):
        if path.exists():
            return path
    raise DataError(f"{folder}: expected {name} or {name}.gz; {_listing(folder)}")


def _listing(folder: Path) -> str:
    """What is there instead of a missing file."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(p.name for p in folder.iterdir())
    if not names:
        return "the folder is empty"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"the folder has {', '.join(names[:_LISTED])}{more}"
