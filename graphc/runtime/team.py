"""Threads that share kernels: how many, and the native code that hands out the parts.

A team is one for the process. Its threads are made when first needed, look for work as long as
the pauses of a training step last and then sleep. They are plain POSIX threads that never touch
Python. What the parts of a kernel are depends on the number of threads that was asked for alone,
so results do too; who runs a part does not matter: thread k looks after part k, and whoever is
done takes what nobody has begun, so nobody waits for a thread that is only waking up. Who finds
the team at work, in another Python thread, runs all parts itself.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import os
import platform
import signal
import time
from pathlib import Path

from graphc import forks
from graphc.errors import OptionError
from graphc.runtime.once import once
from graphc.runtime.support import llvm_function

VARIABLE = "GRAPHC_NUM_THREADS"
_LIMIT = 16  # parts of a kernel

# Words of the team; what different threads write is on cache lines of its own.
_BUSY, _TICKET, _TASK, _BLOCK, _PARTS, _DONE, _SLEEPERS = 0, 16, 32, 33, 34, 48, 64
_STOP, _STARTED, _CPUS, _PATIENCE, _CLOCK_ID = range(80, 85)
_CREATE, _LOCK, _UNLOCK, _WAIT, _BROADCAST, _YIELD, _MASK, _SETMASK, _CLOCK = range(96, 105)
_MUTEX, _CONDITION, _ALL_SIGNALS, _OLD_SIGNALS, _STARTS, _IDS, _WORDS = (
    112, 128, 144, 160, 176, 240, 272
)  # fmt: skip
_SPINS = 128  # looks for work, then for the time
#: Nanoseconds for which a thread without work looks for more before it sleeps. Waking takes 50 us,
#: so this is more than the small kernels between two large ones take.
PATIENCE = 500_000


# ------------------------------------------------------------------------------ how many threads


def thread_count(threads: int | str | None) -> int:
    """What the option ``threads`` stands for; None: what GRAPHC_NUM_THREADS says, or 1.

    Raises OptionError for anything but a positive int or "auto" (as many as there are
    processors for this process), and where this system has no POSIX threads.
    """
    label = "threads"
    if threads is None:
        given = os.environ.get(VARIABLE, "").strip()
        if not given:
            return 1
        label, threads = VARIABLE, int(given) if given.isdecimal() else given
    if threads == "auto":
        threads = min(available_cpus(), _LIMIT) if _has_threads() else 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise OptionError(
            f"{label}={threads!r}: give a positive int, or 'auto' for as many threads as there "
            "are processors"
        )
    if threads > 1 and not _has_threads():
        raise OptionError(f"{label}={threads}: kernels run on one thread on this system")
    return threads


def available_cpus() -> int:
    """Processors for this process: those it may run on, no more than a container's share."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, cgroup_cpus(Path("/"))))


def cgroup_cpus(root: Path) -> float | int:
    """The limit that Linux control groups set, in whole processors; inf without one.

    ``root`` has the files ``proc/self/cgroup`` and ``sys/fs/cgroup``.
    """
    base, found = root / "sys/fs/cgroup", math.inf
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    for line in [*lines, "0::/", "0:cpu:/"]:
        parts = line.split(":", 2)
        if len(parts) != 3 or not (parts[1] == "" or "cpu" in parts[1].split(",")):
            continue
        group = Path(parts[2].lstrip("/"))
        for folder in (group, *group.parents):  # a parent's limit holds too
            found = min(found, *(_quota(base / top / folder) for top in ("", parts[1], "cpu")))
    return found if found == math.inf else max(1, math.ceil(found))


def _quota(folder: Path) -> float:
    """Processors by ``cpu.max``, or by version 1's files."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / n).read_text(encoding="utf-8").strip() for n in names)
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # none, or "max"
        return math.inf


def _has_threads() -> bool:
    return os.name == "posix" and hasattr(signal, "pthread_sigmask")


# -------------------------------------------------------------------------------------- the team

_lock = forks.lock()


def address() -> int:
    """Of the C function ``run(task, block, parts)``: ``task(block, k)`` for each k below parts."""
    with _lock:
        return _team().address


class _Team:
    def __init__(self):
        self._native = llvm_function("team", _text())
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._native))  # threads run its code
        self.address = self._native.address
        run = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(self.address)
        self.words = (ctypes.c_int64 * _WORDS).from_address(run(0, 0, 0))
        self._libc = ctypes.CDLL(None)
        names = {
            _CREATE: "pthread_create", _LOCK: "pthread_mutex_lock",
            _UNLOCK: "pthread_mutex_unlock", _WAIT: "pthread_cond_wait",
            _BROADCAST: "pthread_cond_broadcast", _YIELD: "sched_yield",
            _MASK: "pthread_sigmask", _CLOCK: "clock_gettime",
        }  # fmt: skip
        for word, name in names.items():
            self.words[word] = ctypes.cast(getattr(self._libc, name), ctypes.c_void_p).value
        self.words[_SETMASK] = signal.SIG_SETMASK
        self._signals = self._at(_ALL_SIGNALS)
        ctypes.memset(self._signals, 0xFF, 128)
        self.words[_CPUS] = available_cpus()
        self.words[_PATIENCE], self.words[_CLOCK_ID] = PATIENCE, time.CLOCK_MONOTONIC
        self.fresh()
        os.register_at_fork(after_in_child=self.fresh)
        atexit.register(self.stop)

    def _at(self, word: int) -> int:
        return ctypes.addressof(self.words) + 8 * word

    def fresh(self) -> None:
        """No threads and no work: at first, and in a forked child, where none of them exist."""
        for word in (_BUSY, _TICKET, _SLEEPERS, _STOP, _STARTED):
            self.words[word] = 0
        ctypes.memset(self._at(_MUTEX), 0, 8 * (_ALL_SIGNALS - _MUTEX))
        self._libc.pthread_mutex_init(ctypes.c_void_p(self._at(_MUTEX)), None)
        self._libc.pthread_cond_init(ctypes.c_void_p(self._at(_CONDITION)), None)

    def stop(self) -> None:
        """End the threads, unless another Python thread, which dies with the process, uses them."""
        words = self.words
        if words[_BUSY] or not words[_STARTED]:
            return
        words[_BUSY] = 1  # under the GIL; what runs without it now keeps its parts to itself
        mutex, condition = (ctypes.c_void_p(self._at(k)) for k in (_MUTEX, _CONDITION))
        self._libc.pthread_mutex_lock(mutex)
        words[_STOP] = 1
        self._libc.pthread_cond_broadcast(condition)
        self._libc.pthread_mutex_unlock(mutex)
        for k in range(1, words[_STARTED] + 1):
            self._libc.pthread_join(ctypes.c_void_p(words[_IDS + k]), None)


@once
def _team() -> _Team:
    return _Team()


def _text() -> str:
    """The team as LLVM text. Its words are a variable of the module; ``run(0, 0, 0)`` tells where.

    ``_TICKET`` is the number of the round and, in its 16 low bits, the parts that nobody has begun.
    Who takes one exchanges the whole word, so what is read about a round before (``_TASK``) is of
    that round. A round is over when all its parts are done; whoever is late finds none left.
    Going to sleep and waking follow Dekker: the sleeper says so and then looks at the ticket, who
    announces does the reverse.
    """
    arm = platform.machine().lower() in ("arm64", "aarch64")
    pause = "@llvm.aarch64.hint(i32 1)" if arm else "@llvm.x86.sse2.pause()"
    declared, pause = pause.replace(" 1", ""), f"call void {pause}"

    def at(word: int) -> str:
        return f"getelementptr (i64, ptr @team, i64 {word})"

    def call(word: int, result: str, *arguments: str, into: str = "") -> str:
        name = f"%f{next(counter)}"
        return (
            f"{name} = load ptr, ptr {at(word)}\n"
            f"  {into}call {result} {name}({', '.join(arguments)})"
        )

    counter = iter(range(1000))
    mutex, condition = f"ptr {at(_MUTEX)}", f"ptr {at(_CONDITION)}"
    return f"""
@team = internal global [{_WORDS} x i64] zeroinitializer, align 128
declare void {declared}
declare i64 @llvm.cttz.i64(i64, i1)

; Run parts until there are none that nobody has begun: one's own first.
define internal void @share(i64 %lane) {{
entry:
  %own = shl i64 1, %lane
  br label %look
look:
  %ticket = call i64 @offered(i64 %lane)
  %mine = icmp ne i64 %ticket, 0
  br i1 %mine, label %choose, label %done
choose:
  %open = and i64 %ticket, 65535
  %task = load atomic ptr, ptr {at(_TASK)} monotonic, align 8
  %block = load atomic ptr, ptr {at(_BLOCK)} monotonic, align 8
  %first = call i64 @llvm.cttz.i64(i64 %open, i1 true)
  %kept = and i64 %open, %own
  %taken = icmp eq i64 %kept, 0
  %part = select i1 %taken, i64 %first, i64 %lane
  %bit = shl i64 1, %part
  %left = xor i64 %ticket, %bit
  %pair = cmpxchg ptr {at(_TICKET)}, i64 %ticket, i64 %left acq_rel acquire
  %won = extractvalue {{i64, i1}} %pair, 1
  br i1 %won, label %go, label %look
go:
  call void %task(ptr %block, i64 %part)
  %d = atomicrmw add ptr {at(_DONE)}, i64 1 release
  br label %look
done:
  ret void
}}

define internal i64 @now() {{
  %place = alloca [2 x i64], align 16
  %clock = load i64, ptr {at(_CLOCK_ID)}
  %which = trunc i64 %clock to i32
  {call(_CLOCK, "i32", "i32 %which", "ptr %place")}
  %seconds = load i64, ptr %place
  %second = getelementptr i64, ptr %place, i64 1
  %rest = load i64, ptr %second
  %whole = mul i64 %seconds, 1000000000
  %time = add i64 %whole, %rest
  ret i64 %time
}}

; The ticket if it has work for a thread, else 0.
define internal i64 @offered(i64 %lane) alwaysinline {{
  %ticket = load atomic i64, ptr {at(_TICKET)} seq_cst, align 8
  %parts = load atomic i64, ptr {at(_PARTS)} monotonic, align 8
  %open = and i64 %ticket, 65535
  %some = icmp ne i64 %open, 0
  %called = icmp slt i64 %lane, %parts
  %yes = and i1 %some, %called
  %found = select i1 %yes, i64 %ticket, i64 0
  ret i64 %found
}}

define internal ptr @work(ptr %start) {{
entry:
  %lane = load i64, ptr %start
  %bit = shl i64 1, %lane
  %others = xor i64 %bit, -1
  br label %wait
wait:
  %since = call i64 @now()
  br label %spin
spin:
  %turn = phi i64 [ 0, %wait ], [ %more, %again ], [ 0, %patient ]
  %offer = call i64 @offered(i64 %lane)
  %news = icmp ne i64 %offer, 0
  br i1 %news, label %go, label %idle
idle:
  %long = icmp uge i64 %turn, {_SPINS}
  br i1 %long, label %time, label %again
again:
  {pause}
  %more = add i64 %turn, 1
  br label %spin
time:
  {call(_YIELD, "i32")}
  %stop = load atomic i64, ptr {at(_STOP)} monotonic, align 8
  %on = icmp eq i64 %stop, 0
  br i1 %on, label %tired, label %leave
tired:
  %now = call i64 @now()
  %idly = sub i64 %now, %since
  %patience = load i64, ptr {at(_PATIENCE)}
  %enough = icmp sgt i64 %idly, %patience
  br i1 %enough, label %sleep, label %patient
patient:
  br label %spin
sleep:
  {call(_LOCK, "i32", mutex)}
  %s1 = atomicrmw or ptr {at(_SLEEPERS)}, i64 %bit seq_cst
  br label %look
look:
  %work = call i64 @offered(i64 %lane)
  %woken = icmp ne i64 %work, 0
  %end = load atomic i64, ptr {at(_STOP)} monotonic, align 8
  %ended = icmp ne i64 %end, 0
  %awake = or i1 %woken, %ended
  br i1 %awake, label %wake, label %doze
doze:
  {call(_WAIT, "i32", condition, mutex)}
  br label %look
wake:
  %s2 = atomicrmw and ptr {at(_SLEEPERS)}, i64 %others seq_cst
  {call(_UNLOCK, "i32", mutex)}
  br i1 %ended, label %leave, label %go
go:
  call void @share(i64 %lane)
  br label %wait
leave:
  ret ptr null
}}

define i64 @graphc_main(i64 %task, i64 %block, i64 %parts) {{
entry:
  %asked = icmp eq i64 %task, 0
  br i1 %asked, label %tell, label %take
tell:
  ret i64 ptrtoint (ptr @team to i64)
take:
  %was = atomicrmw xchg ptr {at(_BUSY)}, i64 1 acquire
  %mine = icmp eq i64 %was, 0
  br i1 %mine, label %plan, label %alone
alone:
  %function = inttoptr i64 %task to ptr
  %given = inttoptr i64 %block to ptr
  br label %serial
serial:
  %k = phi i64 [ 0, %alone ], [ %k1, %serial ]
  call void %function(ptr %given, i64 %k)
  %k1 = add i64 %k, 1
  %rest = icmp slt i64 %k1, %parts
  br i1 %rest, label %serial, label %end
plan:
  %cpus = load i64, ptr {at(_CPUS)}
  %few = icmp slt i64 %parts, %cpus
  %wanted = select i1 %few, i64 %parts, i64 %cpus
  br label %staff
staff:
  %started = load i64, ptr {at(_STARTED)}
  %there = add i64 %started, 1
  %enough = icmp sge i64 %there, %wanted
  br i1 %enough, label %launch, label %hire
hire:
  %place = mul i64 %there, 4
  %slot = getelementptr i64, ptr {at(_STARTS)}, i64 %place
  store i64 %there, ptr %slot
  %id = getelementptr i64, ptr {at(_IDS)}, i64 %there
  %how = load i64, ptr {at(_SETMASK)}
  %set = trunc i64 %how to i32
  {call(_MASK, "i32", "i32 %set", f"ptr {at(_ALL_SIGNALS)}", f"ptr {at(_OLD_SIGNALS)}")}
  {call(_CREATE, "i32", "ptr %id", "ptr null", "ptr @work", "ptr %slot", into="%failed = ")}
  {call(_MASK, "i32", "i32 %set", f"ptr {at(_OLD_SIGNALS)}", "ptr null")}
  %hired = icmp eq i32 %failed, 0
  br i1 %hired, label %hiring, label %launch
hiring:
  store i64 %there, ptr {at(_STARTED)}
  br label %staff
launch:
  store atomic i64 %task, ptr {at(_TASK)} monotonic, align 8
  store atomic i64 %block, ptr {at(_BLOCK)} monotonic, align 8
  store atomic i64 %parts, ptr {at(_PARTS)} monotonic, align 8
  store atomic i64 0, ptr {at(_DONE)} monotonic, align 8
  %before = load atomic i64, ptr {at(_TICKET)} monotonic, align 8
  %round = add i64 %before, 65536
  %count = shl i64 1, %parts
  %all = sub i64 %count, 1
  %ticket = or i64 %round, %all
  %t = atomicrmw xchg ptr {at(_TICKET)}, i64 %ticket seq_cst
  %sleepers = load atomic i64, ptr {at(_SLEEPERS)} seq_cst, align 8
  %needed = and i64 %sleepers, %all
  %awake = icmp eq i64 %needed, 0
  br i1 %awake, label %own, label %call
call:
  {call(_LOCK, "i32", mutex)}
  {call(_BROADCAST, "i32", condition)}
  {call(_UNLOCK, "i32", mutex)}
  br label %own
own:
  call void @share(i64 0)
  br label %join
join:
  %turn = phi i64 [ 0, %own ], [ %turn1, %pause ], [ 0, %yield ]
  %finished = load atomic i64, ptr {at(_DONE)} acquire, align 8
  %over = icmp eq i64 %finished, %parts
  br i1 %over, label %free, label %patient
patient:
  %turn1 = add i64 %turn, 1
  %long = icmp uge i64 %turn1, {16 * _SPINS}
  br i1 %long, label %yield, label %pause
pause:
  {pause}
  br label %join
yield:
  {call(_YIELD, "i32")}
  br label %join
free:
  store atomic i64 0, ptr {at(_BUSY)} release, align 8
  br label %end
end:
  ret i64 0
}}
"""
