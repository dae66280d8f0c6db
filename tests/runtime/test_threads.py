"""Threads that share kernels: how many there are, and that their results are right."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import graphc as gc
from graphc import optim
from graphc.errors import OptionError
from graphc.runtime import team

pytestmark = pytest.mark.skipif(not team._has_threads(), reason="no POSIX threads")


def model(x, w):
    h = np.tanh(x @ w)
    return np.sum(h * h), np.sum(h, axis=0)


def arguments():
    rng = np.random.default_rng(0)
    return rng.normal(size=(512, 64)) / 8, rng.normal(size=(64, 96))


@pytest.fixture(scope="module")
def shared():
    made = gc.compile(model, threads=2)
    made(*arguments())
    return made


def run_of(made):
    (family,) = made._families.values()
    return family.variants[0].run


def test_two_threads_compute_what_one_does(shared):
    found, expected = shared(*arguments()), gc.compile(model)(*arguments())
    assert "_team(ints" in run_of(shared).artifact.source
    assert team._team().words[team._STARTED] >= 1 or team.available_cpus() == 1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_results_are_bit_identical_for_one_number_of_threads(shared):
    first = shared(*arguments())
    for _ in range(20):
        for a, b in zip(first, shared(*arguments()), strict=True):
            assert np.array_equal(a, b)
    words, cpus = team._team().words, team._team().words[team._CPUS]
    try:
        for available in (1, 2, 3):  # who runs the parts does not matter
            words[team._CPUS] = available
            for a, b in zip(first, shared(*arguments()), strict=True):
                assert np.array_equal(a, b)
    finally:
        words[team._CPUS] = cpus


def test_one_object_serves_several_numbers_of_threads(shared):
    four = gc.compile(model, threads=4)
    found = four(*arguments())
    assert run_of(four).artifact.object_code == run_of(shared).artifact.object_code
    for a, b in zip(found, shared(*arguments()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_threads_without_work_sleep_and_are_woken(shared):
    first = shared(*arguments())
    words = team._team().words
    if team.available_cpus() == 1:
        pytest.skip("one processor")
    until = time.monotonic() + 20
    while not words[team._SLEEPERS] & 2 and time.monotonic() < until:
        time.sleep(0.002)
    assert words[team._SLEEPERS] & 2  # thread 1
    for a, b in zip(first, shared(*arguments()), strict=True):
        assert np.array_equal(a, b)


def test_nobody_waits_for_a_thread_that_does_not_come(shared):
    """As after a fork, in a container without time, or where no thread could be made."""
    first = shared(*arguments())
    words = team._team().words
    started, cpus = words[team._STARTED], words[team._CPUS]
    try:
        words[team._STARTED], words[team._CPUS] = 15, 16  # the others do not exist
        for a, b in zip(first, gc.compile(model, threads=2)(*arguments()), strict=True):
            assert np.array_equal(a, b)
        gc.compile(model, threads=8)(*arguments())
    finally:
        words[team._STARTED], words[team._CPUS] = started, cpus


def test_an_index_out_of_range_is_named_as_on_one_thread():
    def f(x, at):
        return np.sum(np.exp(x[at]), axis=1)

    x, at = np.ones((4096, 64)), np.arange(4096)
    at[[100, 3000]] = 5000, 6000
    found = []
    for threads in (1, 2):
        made = gc.compile(f, threads=threads)
        with pytest.raises(IndexError) as raised:
            made(x, at)
        found.append(str(raised.value))
    assert found[0] == found[1] and "5000" in found[0]


def test_several_python_threads_at_once(shared):
    expected, wrong = shared(*arguments()), []

    def calls():
        for _ in range(50):
            if not all(map(np.array_equal, shared(*arguments()), expected)):
                wrong.append(1)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


_FORK = """
import os, sys
sys.path.insert(0, {folder!r})
import numpy as np, graphc as gc
from graphc.runtime import team
from test_threads import arguments, model
f = gc.compile(model, threads=2)
before = [f(*arguments()) for _ in range(3)][-1]
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        fresh = team._team().words[team._STARTED] == 0
        same = all(map(np.array_equal, f(*arguments()), before))
        again = team._team().words[team._STARTED] >= 1 or team.available_cpus() == 1
        os._exit(0 if fresh and same and again else 1)
    children.append(child)
codes = [os.waitpid(c, 0)[1] for c in children]
assert all(map(np.array_equal, f(*arguments()), before))
print(codes)
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_after_fork_and_at_exit(shared):
    from pathlib import Path

    script = _FORK.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[0, 0, 0]", "")


def test_training_on_two_threads():
    def loss(params, x, y):
        return np.mean((np.tanh(x @ params["w"]) @ params["v"] - y) ** 2)

    rng = np.random.default_rng(1)
    params = {"w": rng.normal(size=(64, 256)) / 8, "v": rng.normal(size=(256, 8)) / 16}
    data = rng.normal(size=(1024, 64)), rng.normal(size=(1024, 8))

    def trained(threads):
        trainer = gc.Trainer(loss, optim.adam(1e-3), threads=threads)
        return trainer.fit(params, data, epochs=3, batch_size=512).params

    one, two, again = trained(1), trained(2), trained(2)
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-9)
        assert np.array_equal(two[name], again[name])


def test_derivatives_take_and_hand_on_the_option():
    f = gc.compile(lambda x: np.sum(x * x), threads=3)
    assert gc.grad(f).threads == 3
    assert gc.grad(f, threads=2).threads == 2
    assert gc.grad(lambda x: x).threads == 1


def test_the_environment_variable(monkeypatch):
    monkeypatch.setenv(team.VARIABLE, "3")
    assert gc.compile(lambda x: x).threads == 3
    assert gc.compile(lambda x: x, threads=1).threads == 1
    monkeypatch.setenv(team.VARIABLE, "auto")
    assert team.thread_count(None) == min(team.available_cpus(), 16)
    monkeypatch.setenv(team.VARIABLE, "many")
    with pytest.raises(OptionError, match="GRAPHC_NUM_THREADS='many': give a positive int"):
        gc.compile(lambda x: x)
    monkeypatch.setenv(team.VARIABLE, "")
    assert team.thread_count(None) == 1


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "two"])
def test_an_impossible_number_of_threads(threads):
    with pytest.raises(OptionError, match=f"threads={threads!r}: give a positive int, or 'auto'"):
        gc.compile(lambda x: x, threads=threads)


def files(root, contents):
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, np.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, np.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n",
          "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n"}, 1),
        ({"proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n",
          "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"proc/self/cgroup": "3:cpu:/x\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
          "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n"}, np.inf),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/cpu.max": "nonsense"}, np.inf),
    ],
    ids=["none", "max", "rounded-up", "the-parents", "version-1", "version-1-none", "nonsense"],
)  # fmt: skip
def test_limits_of_containers(tmp_path, contents, expected):
    assert team.cgroup_cpus(files(tmp_path, contents)) == expected


def test_the_processors_of_this_process():
    assert 1 <= team.available_cpus() <= (__import__("os").cpu_count() or 1)
