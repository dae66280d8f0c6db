"""A training step allocates nothing: neither in native code nor through Python."""

from __future__ import annotations

import ctypes
import struct
import sys
import tracemalloc

import numpy as np
import pytest

import graphc as gc
from graphc import pipeline
from graphc.codegen.library import SYMBOLS
from graphc.runtime import cache, driver

# What LLVM lowers copies, fills and remainders to.
_LOWERED = {"memcpy", "memset", "memmove", "fmod", "fmodf"}


def loss(params, x, y):
    h = np.tanh(x @ params["W"] + params["b"])
    return np.mean((h @ params["V"] - y) ** 2)


@pytest.fixture(scope="module")
def engine():
    rng = np.random.default_rng(0)
    shapes = {"W": (8, 16), "b": (16,), "V": (16, 1)}
    params = {name: rng.normal(size=shape) / 4 for name, shape in shapes.items()}
    optimizer = gc.optim.adam(1e-3)
    data = rng.normal(size=(50, 8)), rng.normal(size=(50, 1))
    return gc.Trainer(loss, optimizer)._engine(params, optimizer.init(params), data, 16)


class Mallinfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    ))  # fmt: skip


def malloc_bytes() -> int:
    """Bytes that C code holds, from malloc and from the system."""
    read = ctypes.CDLL(None).mallinfo2
    read.restype = Mallinfo
    found = read()
    return found.uordblks + found.hblkhd


class Watched:
    """A native function, with the memory that its calls take."""

    def __init__(self, native):
        self._native, self.kept, self.peaks, self.c_bytes = native, [], [], []

    def call(self, *args):
        self._native.call(*args)  # what a first call sets up
        tracemalloc.reset_peak()
        blocks, (traced, _) = sys.getallocatedblocks(), tracemalloc.get_traced_memory()
        held = malloc_bytes()
        self._native.call(*args)
        self.c_bytes.append(malloc_bytes() - held)
        self.peaks.append(tracemalloc.get_traced_memory()[1] - traced)
        self.kept.append(sys.getallocatedblocks() - blocks)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33 or newer")
@pytest.mark.parametrize("shuffle", [False, True])
def test_more_steps_take_no_more_memory(engine, shuffle, monkeypatch):
    watched = Watched(engine._driver)
    monkeypatch.setattr(engine, "_driver", watched)
    tracemalloc.start()
    try:
        for epochs in (1, 1, 300):
            result = engine.start(epochs=epochs, shuffle=shuffle, seed=0, first_epoch=0).result()
            assert result.status == "finished"
    finally:
        tracemalloc.stop()
    for found in (watched.c_bytes, watched.peaks, watched.kept):
        # Python itself allocates a little now and then; 1,200 steps would take far more.
        assert found[2] <= found[1] + 8192, (found, "one epoch against 300 of four steps")


def test_neither_the_step_nor_the_loop_around_it_knows_an_allocator(engine):
    allowed = _LOWERED | set(SYMBOLS)
    assert not any("alloc" in name or "map" in name for name in SYMBOLS)
    for code in (engine.executable.artifact.object_code, driver_code()):
        assert undefined_symbols(code) <= allowed
    factor = pipeline.build(gc.compile(np.linalg.cholesky).graph(np.eye(3)))
    needed = undefined_symbols(factor.artifact.object_code)
    assert any("potrf" in name for name in needed)  # the reader does read


def driver_code() -> bytes:
    """As the kernel cache has it once it was loaded."""
    driver.load.cache_clear()
    driver.load()
    return cache.load(cache.key(driver._TEXT, "driver")).object_code


def undefined_symbols(code: bytes) -> set[str]:
    """Of an ELF object (64 bits, little-endian): what it needs from elsewhere."""
    if code[:6] != b"\x7fELF\x02\x01":
        pytest.skip("reads ELF objects")
    start, size, count = struct.unpack_from("<Q", code, 40)[0], *struct.unpack_from("<HH", code, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, start + size * k) for k in range(count)]
    found = set()
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != 2:  # a symbol table
            continue
        names = sections[link][4]
        for at in range(offset + 24, offset + length, 24):
            name, _, _, section = struct.unpack_from("<IBBH", code, at)
            if section == 0:
                found.add(code[names + name : code.index(b"\0", names + name)].decode())
    return found
