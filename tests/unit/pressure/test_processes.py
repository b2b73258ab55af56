"""The shared monitor and the life of processes: forks, and the end of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, select, threading, time
from cacheserver.pressure import ChunkAccount, Level, default_monitor
from cacheserver.pressure import register_shrinker, subscribe, unregister_shrinker, unsubscribe

def names():
    return sorted(thread.name for thread in threading.enumerate())

def runs():
    while names() != RUNNING or not ticks:
        time.sleep(0.001)

asked, ticks, lock = [], [], threading.Lock()

def shrink(target, hard):
    asked.append((os.getpid(), target))
    return target

def ledger():
    with lock:  # another thread may hold it at the fork: that is a hang of this callback, not of the fork
        return 0, 0

first = register_shrinker("first", shrink, count=lambda: 1 << 30, cost=1)
account = ChunkAccount(1 << 20)
account.add(50)
second = register_shrinker("second", shrink, count=lambda: 1 << 30, grant=ticks.append)
level = subscribe(Level.LOW, print)
RUNNING = names()
ticks.clear()
if child := os.fork():
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not select.select([account], [], [], 0)[0]  # nobody has asked it
    assert default_monitor().request(1 << 20, True).freed >= 1 << 20
else:
    runs()
    assert [one.name for one in default_monitor().shrinkers()] == ["first", "chunks", "second"]
    assert default_monitor().request(7, True).freed == 7
    assert sum(target for process, target in asked if process == os.getpid()) >= 7
    ticks.clear()
    child = os.fork()
    if not child:
        runs()
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
unregister_shrinker(first)
unregister_shrinker(second)
unsubscribe(level)
account.close()
assert names() == ["MainThread"]

held = register_shrinker("held", shrink, ledger=ledger)
with lock:
    child = os.fork()
    if not child:
        os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run `program` in an interpreter of its own, with a cache under the shared monitor."""
    before = """
import os, sys, threading, time
import cacheserver.pressure as pressure
def running():
    return sum(one.name == "cacheserver-pressure" for one in threading.enumerate())
def comes(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()
granted = []
handle = pressure.register_shrinker("cache", lambda target, hard: target, grant=granted.append)
shared = pressure.default_monitor()
"""
    return subprocess.run(
        [sys.executable, "-c", before + program], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_forked_child_watches_by_itself_whoever_had_the_turn_at_the_fork() -> None:
    done = python("""
inside, leave = threading.Event(), threading.Event()
def stay(level):
    inside.set()
    leave.wait(10)
asking = pressure.register_shrinker("stays", lambda target, hard: stay(0) or 0)
threading.Thread(target=shared.request, args=(1 << 20, False), daemon=True).start()
assert inside.wait(10)  # the turn is another thread's at the fork
child = os.fork()
if not child:
    ticks = shared.status().ticks
    assert shared.request(0, False) == (0, 0)
    assert comes(lambda: running() == 1 and shared.status().ticks > ticks)
    second = pressure.register_shrinker("second", lambda target, hard: 0)
    assert running() == 1
    os.write(shared.wake_fd, (1).to_bytes(8, sys.byteorder))
    for one in (second, asking, handle):
        pressure.unregister_shrinker(one)
    assert comes(lambda: not running())
    os.write(shared.wake_fd, (1).to_bytes(8, sys.byteorder))  # nobody reads it
    os._exit(7)
pid, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
leave.set()
assert running() == 1
try:
    os.eventfd_read(shared.wake_fd)
    raise AssertionError("the child's writing has come here")
except BlockingIOError:
    pass
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("last", ["", "os._exit(0)", "sys.exit(0)"])
def test_an_interpreter_ends_at_once_whatever_callback_is_running(last: str) -> None:
    began = time.monotonic()
    done = python(f"""
inside = threading.Event()
def never(target, hard):
    inside.set()
    time.sleep(3600)
pressure.register_shrinker("never", never)
threading.Thread(target=shared.request, args=(1 << 20, True), daemon=True).start()
assert inside.wait(10)
{last}
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_both_sides_of_a_fork_go_on_by_themselves() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
