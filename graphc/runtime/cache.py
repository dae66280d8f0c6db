"""The kernel cache on disk: content-addressed, private, atomic, and never trusted blindly.

An entry is code that will run, so the folder belongs to the user alone (0700), each entry is
checked by hash before it is loaded, and a folder that others can write to is refused.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
import warnings
from pathlib import Path

from graphc.errors import CacheWarning
from graphc.runtime.artifact import Artifact, from_bytes
from graphc.trace.source import frames_to_user

_SUFFIX = ".gco"
_warned: set[str] = set()


def folder() -> Path:
    """``GRAPHC_CACHE_DIR``, or ``graphc`` in the user's cache folder."""
    chosen = os.environ.get("GRAPHC_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "graphc"


def key(text: str, *options: str) -> str:
    """Address of a program: its canonical text, the options, this processor and compiler."""
    return hashlib.sha256("\0".join([text, *options, _platform()]).encode()).hexdigest()


@functools.cache
def _platform() -> str:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    enabled = ",".join(sorted(name for name, on in features.items() if on))
    versions = map(_version, ("llvmlite",))
    return "\n".join([sys.platform, llvm.get_host_cpu_name(), enabled, *versions, _own_code()])


def _version(package: str) -> str:
    """What tells one release of an installed package from another, without importing it or
    reading its metadata (10 ms)."""
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "_version.py"
        if path.is_file():
            return f"{package} {path.read_text()}"
    from importlib import metadata

    return f"{package} {metadata.version(package)}"


@functools.cache
def _own_code() -> str:
    """A digest of graphc's own stages, so that a changed compiler never meets old entries."""
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for stage in ("vmath", "ir", "ad", "passes", "schedule", "codegen", "runtime"):
        for path in sorted((root / stage).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def load(address: str) -> Artifact | None:
    """The entry, or None. A damaged one is removed with a warning, to be rebuilt."""
    home = _usable_folder()
    if home is None:
        return None
    path = home / (address + _SUFFIX)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _warn_once(f"cannot read {path}: {error.strerror}")
        return None
    try:
        return from_bytes(data, address)
    except Exception as error:  # whatever a damaged file leads to
        _warn_once(f"cache entry {path} is damaged ({error}); it is rebuilt")
        path.unlink(missing_ok=True)
        return None


def store(address: str, artifact: Artifact) -> None:
    """Write an entry atomically, and its generated source beside it for reading."""
    home = _usable_folder()
    if home is None:
        return
    try:
        _write(home / (address + _SUFFIX), artifact.to_bytes(address))
        _write(home / (address + ".py"), artifact.source.encode())
    except OSError as error:
        _warn_once(_unwritable(home, error))


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _usable_folder() -> Path | None:
    """The folder, made private; None (with one warning) where it must not or cannot be used."""
    if os.environ.get("GRAPHC_CACHE") == "0":
        return None
    home = folder()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = home.stat()
    except OSError as error:
        _warn_once(_unwritable(home, error))
        return None
    if hasattr(os, "getuid"):
        if facts.st_uid != os.getuid():
            _warn_once(
                f"cache folder {home} belongs to another user and is not used; "
                "set GRAPHC_CACHE_DIR to a folder of your own"
            )
            return None
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            _warn_once(
                f"cache folder {home} can be written by other users and is not used; "
                f"run: chmod 700 {home}"
            )
            return None
    return home


def _unwritable(home: Path, error: OSError) -> str:
    why = "it is not a folder" if home.exists() and not home.is_dir() else error.strerror
    return (
        f"the kernel cache cannot be written at {home}: {why}. Kernels are compiled "
        "anew in each process; set GRAPHC_CACHE_DIR to a writable folder"
    )


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, CacheWarning, stacklevel=frames_to_user())


def entries() -> list[Path]:
    """Every entry on disk."""
    home = folder()
    return sorted(home.glob("*" + _SUFFIX)) if home.is_dir() else []


def clear() -> int:
    """Remove every entry; how many there were."""
    found = entries()
    for path in found:
        path.unlink(missing_ok=True)
        path.with_suffix(".py").unlink(missing_ok=True)
    return len(found)
