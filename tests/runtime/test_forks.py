"""A child forked at any moment can trace, compile and load."""

import os
import subprocess
import sys
import threading

import pytest

from graphc import forks

PROGRAM = """
import itertools, os, signal, sys, threading, time
import numpy as np
import graphc as gc

count = itertools.count()

def fresh(k):  # a program that nobody has compiled
    return gc.grad(lambda x: np.sum(np.tanh(x * (k + 0.125)) + np.sin(x) / (k + 1)))

shared = fresh(-0.5)
stop = threading.Event()

def compiling():
    for k in count:
        (shared if k == 3 else fresh(k))(np.full(3, 0.1))
        if stop.is_set():
            return

threads = [threading.Thread(target=compiling) for _ in range(2)]
for thread in threads:
    thread.start()
children = []
for n in range(5):
    time.sleep(0.03 + 0.05 * (n % 4))
    child = os.fork()
    if not child:
        x = np.full(3, 0.1)
        for f in (shared, fresh(1000 + n)):
            assert f(x).shape == (3,)
        os._exit(0)
    children.append(child)
stop.set()
end, codes = time.monotonic() + 60, []
while children and time.monotonic() < end:
    done, code = os.waitpid(children[0], os.WNOHANG)
    if done:
        codes.append(code)
        children.pop(0)
    else:
        time.sleep(0.02)
for child in children:
    os.kill(child, signal.SIGKILL)
for thread in threads:
    thread.join()
print(codes, len(children))
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_a_child_forked_while_others_compile_compiles(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True,
        timeout=120, env=os.environ | {"GRAPHC_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    assert (done.stderr, done.stdout.strip()) == ("", f"{[0] * 5} 0")


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_locks_are_free_in_a_child_unless_it_holds_them_itself():
    others, own = forks.lock(), forks.lock()
    held, done = threading.Event(), threading.Event()

    def hold():
        with others:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    with own:
        child = os.fork()
        if not child:
            os._exit(0 if others.acquire(timeout=5) and own._is_owned() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not others.acquire(blocking=False)  # the parent's is as it was
    done.set()
    thread.join()
