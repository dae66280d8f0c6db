"""The kernel cache, with real second processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import graphc as gc
from graphc import pipeline
from graphc.errors import CacheWarning
from graphc.ir import build
from graphc.ir.graph import Graph
from graphc.ir.types import tensor_type
from graphc.runtime import cache

PROGRAM = """
import sys
import numpy as np
import graphc as gc

def loss(w, x, y):
    return np.mean((np.tanh(x @ w) - y) ** 2)

rng = np.random.default_rng(0)
args = rng.normal(size=(3, 2)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
f = gc.value_and_grad(loss)
value, grad = f(*args)
value, grad = f(*args)  # makes the native entry of calls
value, grad = f(*args)
expected = np.mean((np.tanh(args[1] @ args[0]) - args[2]) ** 2)
assert abs(value - expected) < 1e-12 and grad.shape == (3, 2)
print("compiled" if "graphc.codegen.native" in sys.modules else "cached", float(value))
assert "numba" not in sys.modules  # a front end of our own
"""


def environment(folder, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("GRAPHC_")}
    return env | {"GRAPHC_CACHE_DIR": str(folder)} | more


def python(code, folder, *, how="file", tmp_path=None, cwd=None, **more):
    """Run ``code`` in a new interpreter; (stdout, stderr)."""
    code = textwrap.dedent(code)
    command, given = [sys.executable], None
    if how == "file":
        path = (tmp_path or folder.parent) / "program.py"
        path.write_text(code)
        command.append(str(path))
    elif how == "-c":
        command += ["-c", code]
    elif how == "exec":
        command += ["-c", f"exec(compile({code!r}, '<cell 1>', 'exec'))"]
    elif how == "stdin":
        command.append("-")
        given = code
    elif how == "repl":
        command += ["-i", "-q"]
        blocks = code.replace("\n\nrng", "\n\n\nrng")
        given = blocks
    done = subprocess.run(
        command, env=environment(folder, **more), input=given, capture_output=True, text=True,
        timeout=120, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache folder that a first process has filled."""
    folder = tmp_path_factory.mktemp("filled") / "cache"
    out, err = python(PROGRAM, folder)
    assert out.startswith("compiled") and err == ""
    return folder


def copy_of(folder, tmp_path):
    import shutil

    target = tmp_path / "cache"
    shutil.copytree(folder, target)
    target.chmod(0o700)
    return target


def test_second_process_loads_without_the_compiler(filled):
    before = {p: p.stat().st_mtime_ns for p in filled.iterdir()}
    out, err = python(PROGRAM, filled)
    assert out.startswith("cached") and err == ""
    assert {p: p.stat().st_mtime_ns for p in filled.iterdir()} == before


@pytest.mark.parametrize("how", ["-c", "exec", "stdin", "repl"])
def test_functions_without_a_file_hit_the_same_entries(filled, how):
    out, _ = python(PROGRAM, filled, how=how)
    assert out.startswith("cached")


def test_entries_are_private_and_readable_as_source(filled):
    assert filled.stat().st_mode & 0o777 == 0o700
    kinds = {p.suffix for p in filled.iterdir()}
    assert kinds == {".gco", ".py"}
    assert any("def kernel0(" in p.read_text() for p in filled.glob("*.py"))


def damage_truncate(paths):
    for path in paths:
        path.write_bytes(path.read_bytes()[:-200])


def damage_flip(paths):
    for path in paths:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x40
        path.write_bytes(bytes(data))


def damage_empty(paths):
    for path in paths:
        path.write_bytes(b"")


def damage_swap(paths):
    """Sound entries under each other's names."""
    contents = [p.read_bytes() for p in paths]
    for path, data in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(data)


def damage_foreign(paths):
    for path in paths:
        path.write_bytes(b"\x7fELF" + os.urandom(500))


@pytest.mark.parametrize(
    "damage", [damage_truncate, damage_flip, damage_empty, damage_swap, damage_foreign]
)
def test_damaged_entries_are_rebuilt_with_a_warning(filled, tmp_path, damage):
    folder = copy_of(filled, tmp_path)
    paths = sorted(folder.glob("*.gco"))
    assert len(paths) == 2  # the function, the entry of calls
    damage(paths)
    out, err = python(PROGRAM, folder, tmp_path=tmp_path)
    assert out.startswith("compiled")
    assert err.count("CacheWarning") == len(paths) and "is damaged" in err and "rebuilt" in err
    assert all(str(p) in err for p in paths)
    out, err = python(PROGRAM, folder, tmp_path=tmp_path)
    assert out.startswith("cached") and err == ""


def test_where_nothing_can_be_written_one_warning_and_right_results(tmp_path):
    blocker = tmp_path / "a-file"
    blocker.write_text("")
    out, err = python(PROGRAM, blocker / "cache", tmp_path=tmp_path)
    assert out.startswith("compiled")
    assert err.count("CacheWarning") == 1
    assert str(blocker / "cache") in err and "GRAPHC_CACHE_DIR" in err


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_read_only_home_gives_one_warning(tmp_path):
    env = {"HOME": "/proc/self", "XDG_CACHE_HOME": "", "GRAPHC_CACHE_DIR": ""}
    out, err = python(PROGRAM, tmp_path, tmp_path=tmp_path, **env)
    assert out.startswith("compiled")
    assert err.count("CacheWarning") == 1 and "/proc/self/.cache/graphc" in err


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_that_others_can_write_to_is_refused(filled, tmp_path, mode):
    folder = copy_of(filled, tmp_path)
    folder.chmod(mode)
    out, err = python(PROGRAM, folder, tmp_path=tmp_path)
    assert out.startswith("compiled")  # the entries there were not loaded
    assert err.count("CacheWarning") == 1 and f"chmod 700 {folder}" in err


def test_switched_off(filled, tmp_path):
    folder = tmp_path / "unused"
    out, err = python(PROGRAM, folder, tmp_path=tmp_path, GRAPHC_CACHE="0")
    assert out.startswith("compiled") and err == "" and not folder.exists()
    out, _ = python(PROGRAM, filled, tmp_path=tmp_path, GRAPHC_CACHE="0")
    assert out.startswith("compiled")


def test_two_processes_compiling_the_same_thing_at_once(tmp_path):
    folder = tmp_path / "cache"
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    running = [
        subprocess.Popen(
            [sys.executable, str(path)], env=environment(folder), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    results = [p.communicate(timeout=120) for p in running]
    assert [p.returncode for p in running] == [0, 0], results
    assert len({out.split()[1] for out, _ in results}) == 1
    assert not list(folder.glob(".new-*"))
    assert python(PROGRAM, folder, tmp_path=tmp_path)[0].startswith("cached")


def test_importing_graphc_is_light(tmp_path):
    code = """
    import sys, graphc
    heavy = {"numba", "sympy", "sklearn", "matplotlib", "torch", "jax", "llvmlite"}
    print(sorted(heavy & set(sys.modules)))
    """
    assert python(code, tmp_path, how="-c")[0].strip() == "[]"


# ------------------------------------------------------------------------------- in this process


def graph_of(constant: float, name: str = "f") -> Graph:
    x = build.input(0, "x", tensor_type(np.float64, (3,)))
    return Graph(name, (x,), (build.elementwise("mul", x, build.full_like(x, constant)),))


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path / "own"


def test_the_address_depends_on_everything_that_matters(own_folder):
    x = build.input(0, "x", tensor_type(np.float64, (3,)))
    plain = graph_of(2.0)
    texts = [
        plain, graph_of(3.0), Graph("f", plain.inputs, plain.outputs, donated={0: 0}),
        Graph("f", (x,), (build.elementwise("add", x, build.full_like(x, 2.0)),)),
        Graph("f", (x,), (build.elementwise("mul", x, build.const(np.full(3, 2.0))),)),
    ]  # fmt: skip
    addresses = [cache.key(pipeline._canonical_text(g)) for g in texts]
    assert len(set(addresses)) == len(addresses)
    assert cache.key(pipeline._canonical_text(graph_of(2.0))) == addresses[0]


def test_build_compiles_once(own_folder, monkeypatch):
    calls = []
    compile_graph = pipeline.compile_graph
    monkeypatch.setattr(
        pipeline, "compile_graph", lambda g, team: (calls.append(g.name), compile_graph(g, team))[1]
    )
    for _ in range(3):
        assert pipeline.build(graph_of(5.0))([np.ones(3)])[0].tolist() == [5.0] * 3
    assert len(calls) == 1
    count = len(cache.entries())
    assert count >= 1 and cache.clear() == count and cache.entries() == []


def test_a_damaged_entry_warns_once_and_names_its_path(own_folder):
    pipeline.build(graph_of(7.0))
    (path,) = [p for p in cache.entries() if p.stem == cache.key(
        pipeline._canonical_text(graph_of(7.0)))]  # fmt: skip
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(CacheWarning, match="is damaged") as seen:
        assert pipeline.build(graph_of(7.0))([np.ones(3)])[0].tolist() == [7.0] * 3
    assert len(seen) == 1 and str(path) in str(seen[0].message)
    pipeline.build(graph_of(7.0))  # whole again: no warning


def test_a_file_in_the_place_of_the_folder_is_told_at_the_users_line(tmp_path, monkeypatch):
    place = tmp_path / "file"
    place.write_text("")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(place))
    with pytest.warns(CacheWarning, match=f"{place}: it is not a folder") as seen:
        assert gc.compile(lambda x: x + 11)(1.0) == 12.0
    assert [w.filename for w in seen] == [__file__]
