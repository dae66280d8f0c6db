"""IDX files: what is read, and what is said about damaged ones."""

import gzip
import struct

import numpy as np
import pytest

from graphc.data import load_idx, load_mnist
from graphc.errors import DataError

CODES = {
    "uint8": 0x08,
    "int8": 0x09,
    "int16": 0x0B,
    "int32": 0x0C,
    "float32": 0x0D,
    "float64": 0x0E,
}


def idx_bytes(array):
    head = bytes([0, 0, CODES[array.dtype.name], array.ndim])
    return (
        head
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", CODES)
def test_every_dtype_round_trips(tmp_path, dtype, compressed):
    array = (np.arange(24).reshape(2, 3, 4) * 5 - 40).astype(dtype)
    content = idx_bytes(array)
    path = tmp_path / "some-file"  # gzip is recognised by content, not by name
    path.write_bytes(gzip.compress(content, mtime=0) if compressed else content)
    found = load_idx(path)
    assert found.dtype == np.dtype(dtype) and found.dtype.isnative
    np.testing.assert_array_equal(found, array)


def test_scalar_and_empty(tmp_path):
    (tmp_path / "scalar").write_bytes(idx_bytes(np.array(7, np.int32)))
    assert load_idx(tmp_path / "scalar") == 7
    (tmp_path / "empty").write_bytes(idx_bytes(np.zeros((0, 28, 28), np.uint8)))
    assert load_idx(str(tmp_path / "empty")).shape == (0, 28, 28)


def test_result_can_be_written(tmp_path):
    (tmp_path / "f").write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    load_idx(tmp_path / "f")[0] = 1


GOOD = idx_bytes(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are too few"),
        (b"PK\x03\x04xxxx", "expected the bytes 00 00.*found 50 4b 03 04"),
        (b"\0\0\x07\x01\0\0\0\0", "found 00 00 07 01"),
        (GOOD[:9], "truncated: a header of 2 axes takes 12 bytes, the file has 9"),
        (GOOD[:-1], r"truncated: shape \(2, 3\) of uint8 takes 6 bytes, the file has 5"),
        (GOOD + b"x", "too long: .* takes 6 bytes, the file has 7"),
        (gzip.compress(GOOD, mtime=0)[:-12], "damaged gzip"),
        (gzip.compress(GOOD, mtime=0)[:-8] + b"\1" * 8, "damaged gzip"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_idx(path)
    assert str(path) in str(error.value)


def test_missing_file_lists_the_folder(tmp_path):
    with pytest.raises(DataError, match="no such file; the folder is empty"):
        load_idx(tmp_path / "nothing")
    (tmp_path / "other.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"the folder has other\.bin"):
        load_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match="there is no folder"):
        load_idx(tmp_path / "no" / "file")
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        load_idx(tmp_path / "sub")


def write_mnist(folder, suffix="", train=5, test=2):
    rng = np.random.default_rng(0)
    written = []
    for part, n in (("train", train), ("t10k", test)):
        images = rng.integers(0, 255, (n, 28, 28)).astype(np.uint8)
        labels = rng.integers(0, 9, n).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            path = folder / f"{part}-{name}-ubyte{suffix}"
            path.write_bytes(gzip.compress(content, mtime=0) if suffix else content)
            written.append(array)
    return written


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_load_mnist(tmp_path, suffix):
    written = write_mnist(tmp_path, suffix)
    for found, expected in zip(load_mnist(tmp_path), written, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_load_mnist_missing_part(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"expected t10k-labels-idx1-ubyte or .*folder has t10k"):
        load_mnist(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        load_mnist(tmp_path / "elsewhere")


def test_load_mnist_labels_of_another_set(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(DataError, match=r"expected shape \(5,\), one label.*found \(4,\)"):
        load_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(DataError, match=r"expected 3 axes, found shape \(4,\)"):
        load_mnist(tmp_path)
