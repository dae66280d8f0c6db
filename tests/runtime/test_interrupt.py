"""Ctrl-C, in a process of its own, while native loops run."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import graphc as gc
from graphc.runtime import interrupt
from graphc.runtime.executor import Executable

PROGRAM = """
import faulthandler, signal, sys, threading, time
import numpy as np
import graphc as gc

faulthandler.dump_traceback_later(60, exit=True)
EVER = 10**15

def counted(x, limit):
    return gc.while_loop(lambda c: c[0] < limit, lambda c: (c[0] + 1.0, c[1] * 0.5 + 1), (0.0, x))

def turns(x, n):  # scalars: in chunks
    return (gc.fori_loop(0, n, lambda i, y: y * 0.5 + 1, x),)

def products(x, n):
    return gc.fori_loop(0, n, lambda i, y: np.tanh(y @ y), x)

def interrupted(call, *args, of=KeyboardInterrupt):
    print("ready", flush=True)
    try:
        call(*args)
    except of as error:
        assert error.__traceback__ is not None
    else:
        raise AssertionError("not interrupted")

def of_loops():
    matrix, whole = np.full((20, 20), 0.1), np.full((20, 20), 0.1)
    for f, x in ((counted, 1.0), (turns, 1.0), (products, matrix)):
        compiled, few, ever = gc.compile(f), 5, EVER
        if f is counted:
            few, ever = float(few), float(ever)
        found = [compiled(x, few)]
        interrupted(compiled, x, ever)  # by way of Python
        found += [compiled(x, few) for _ in range(3)]
        interrupted(compiled, x, ever)  # by way of a native entry
        found.append(compiled(x, few))
        for result in found:
            np.testing.assert_allclose(np.stack(result), np.stack(gc.interpret(f)(x, few)))
    np.testing.assert_array_equal(matrix, whole)  # an argument is no scratch
    update = gc.compile(products, donate=0)
    update(whole.copy(), 2)
    interrupted(update, matrix, EVER)
    np.testing.assert_allclose(update(whole.copy(), 2), gc.interpret(products)(whole, 2))

def of_handlers():
    class OutOfTime(Exception):
        pass

    def late(number, frame):
        raise OutOfTime

    seen = []
    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(f(1.0, 3.0)[0]))
    f = gc.compile(counted)
    f(1.0, 2.0), f(1.0, 2.0)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    interrupted(f, 1.0, float(EVER), of=OutOfTime)
    end = time.monotonic() + 30
    while not seen and time.monotonic() < end:  # a handler may call what it interrupts
        signal.setitimer(signal.ITIMER_REAL, 0)
        threading.Timer(0.1, lambda: signal.pthread_kill(threading.main_thread().ident, 10)).start()
        f(1.0, 3e8)
    assert seen == [3.0], seen

def of_threads():
    f = gc.compile(counted)
    f(1.0, 2.0)
    threading.Thread(target=f, args=(1.0, float(EVER)), daemon=True).start()
    interrupted(time.sleep, 60)
    print("result", f(1.0, 4.0)[0])  # and the thread goes on to the end of the process

def of_training():
    def loss(params, x):
        grown = gc.while_loop(lambda c: c < x[0], lambda c: c + 1.0, 0.0)
        return np.mean((params["w"] - grown) ** 2)

    def fit():
        x = np.array([1.0, 2.0, float(EVER)])
        trainer = gc.Trainer(loss, gc.optim.sgd(0.1))
        trainer.fit({"w": np.zeros(())}, x, epochs=2, batch_size=1, shuffle=False)

    def training():
        return [t for t in threading.enumerate() if t.name == "graphc-train"]

    def impatient():
        while not training():
            time.sleep(0.01)
        for _ in range(2):
            time.sleep(0.4)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=impatient).start()
    interrupted(fit)
    end = time.monotonic() + 30
    while training() and time.monotonic() < end:
        time.sleep(0.01)
    assert not training()

globals()[sys.argv[1]]()
print("done", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("case, presses", [
    ("of_loops", 1), ("of_handlers", 0), ("of_threads", 1), ("of_training", 0),
])  # fmt: skip
def test_ctrl_c_ends_native_loops(case, presses):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, case],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        for _ in range(presses if line == "ready\n" else 0):
            time.sleep(0.3)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGINT)
    error = process.stderr.read()
    assert process.wait(60) == 0, error
    assert lines[-1] == "done" and error == "", error


def source(f, *args) -> str:
    return gc.compile(f).c_function(*args)._kept.artifact.source


def test_which_loops_are_watched():
    """All whose time is not known to be short; and C has no Python to ask."""

    def halved(n):
        return lambda x: gc.fori_loop(0, n, lambda i, y: np.sin(y) / 2, x)

    def counted(x, n):
        return gc.fori_loop(0, n, lambda i, y: y / 2, x)

    assert not interrupt.is_watched(source(halved(5), np.ones(100)))
    assert interrupt.is_watched(source(halved(10**6), np.ones(100)))
    assert not interrupt.is_watched(source(halved(1000), 1.0))
    assert interrupt.is_watched(source(counted, 1.0, 3))
    f = gc.compile(counted).c_function(1.0, 3)
    assert isinstance(f._kept, Executable) and f.ctypes is not None
    x, n, out = np.array(8.0), np.array(3), np.zeros(())
    assert f.ctypes(x.ctypes, n.ctypes, out.ctypes) == 0 and out == 1.0
