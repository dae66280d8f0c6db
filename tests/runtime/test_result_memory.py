"""Large results take the memory of results that nobody holds any more."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import graphc as gc
from graphc.runtime import memory

N = 200_000  # of float64: above memory.LARGE


@pytest.fixture(scope="module")
def double():
    f = gc.compile(lambda x: x * 2.0)
    x = np.ones(N)
    for _ in range(3):  # the general way, then the native one
        f(x)
    return f


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_of_a_result_is_used_again(double):
    first = double(np.ones(N))
    assert first.flags.owndata and first.base is None
    at = address(first)
    before = memory.kept_bytes()
    del first
    assert memory.kept_bytes() == before + 8 * N
    again = double(np.full(N, 3.0))
    assert address(again) == at
    assert np.all(again == 6)


@pytest.mark.parametrize(
    "refer",
    [lambda a: a[::7], lambda a: a.reshape(2, -1).T[5:], memoryview, lambda a: a.view(np.int64),
     lambda a: np.frombuffer(a, np.uint8), lambda a: [a], lambda a: np.from_dlpack(a)],
)  # fmt: skip
def test_what_anything_refers_to_is_left_alone(double, refer):
    result = double(np.full(N, 2.5))
    held, at, expected = refer(result), address(result), bytes(memoryview(result))
    held_before = np.asarray(held).tobytes()
    del result
    others = [double(np.full(N, float(k))) for k in range(4)]
    assert at not in map(address, others)
    assert np.asarray(held).tobytes() == held_before
    assert len(expected) == 8 * N


def test_results_may_be_resized_and_outlive_their_function():
    f = gc.compile(lambda x: x + 1.0)
    results = [f(np.full(N, float(k))) for k in range(3)]
    del f
    results[0].resize(2 * N)
    assert np.all(results[0][:N] == 1) and np.all(results[0][N:] == 0)
    results[1].resize(4, refcheck=False)
    assert results[1].tolist() == [2, 2, 2, 2]
    assert np.all(results[2] == 3)


def test_large_results_begin_on_lines_of_the_cache_and_apart():
    f = gc.compile(lambda x: tuple(x * float(k) for k in range(8)))
    results = f(np.ones(N + 1))
    places = [address(a) % 4096 for a in results]
    assert all(place % 64 == 0 for place in places)
    assert len(set(places)) == len(results)


def test_threads_have_results_of_their_own(double):
    wrong = []

    def work(k):
        held = []
        for i in range(30):
            held.append((i, double(np.full(N, float(100 * k + i)))))
            held = held[-2:]
            wrong.extend(j for j, a in held if not np.all(a == 2 * (100 * k + j)))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_no_more_is_kept_than_the_limit(double):
    kept = memory._kept()
    limit = kept.words[memory._LIMIT]
    kept.words[memory._LIMIT] = 5 * N * 8
    try:
        results = [double(np.full(N, float(k))) for k in range(12)]
        del results
        assert 0 < memory.kept_bytes() <= 5 * N * 8
    finally:
        kept.words[memory._LIMIT] = limit


def test_many_sizes_drive_out_the_oldest():
    f = gc.compile(lambda x: x * 3.0)
    for k in range(memory._SLOTS + 8):
        assert np.all(f(np.full(N + k, 2.0)) == 6)
    assert memory.kept_bytes() <= memory._kept().words[memory._LIMIT]


def test_small_results_are_numpys_own(double):
    small = gc.compile(lambda x: x * 2.0)
    x = np.ones(1000)
    results = [small(x) for _ in range(4)]
    assert {name(a) for a in results} == {name(np.empty(3))}
    assert name(double(np.ones(N))) == "graphc"
    assert name(np.empty(N)) != "graphc"  # nobody else's arrays


def name(array):
    from numpy._core.multiarray import get_handler_name

    return get_handler_name(array)


def test_nothing_is_kept_on_request_and_exit_is_clean():
    script = (
        "import numpy as np, graphc as gc; from graphc.runtime import memory\n"
        "f = gc.compile(lambda x: x * 2.0)\n"
        f"keep = [f(np.ones({N})) for _ in range(4)]; f(np.ones({N}))\n"
        "print(memory.kept_bytes(), keep[0][0])"
    )
    for given, kept in (("0", 0), ("100000000", 8 * N)):
        environment = os.environ | {"GRAPHC_KEPT_BYTES": given}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(kept), "2.0"]
