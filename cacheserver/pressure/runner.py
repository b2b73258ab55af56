"""The monitor's thread: waits for the next tick, or for whatever calls for one sooner, and has it made.

Knows: descriptors, time-outs, the life of the thread. Must not know: readings, shrinkers, what a tick does.
Memory: owns the descriptor that wakes it. Threads: `start` and `stop` from any thread; the rest is the
thread's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cacheserver.pressure.outbox import Outbox
from cacheserver.pressure.policy import TICK_MIN, Decision
from cacheserver.pressure.source import Watch

log = logging.getLogger("cacheserver.pressure")

WATCH_SECONDS = 1.0  # how often the sources are asked what to wait for
FAILED_TICK = 0.05  # seconds until the next try after an error of the monitor itself
LOG_WAIT = 1.0  # seconds that stop() waits at most for the last lines to be written
# the thread's priority where the system allows it: it must run while neighbours burn the processors
NICE = -10


class Ticking(Protocol):
    """What is run: a monitor."""

    @property
    def decision(self) -> Decision:
        """The decision in force."""

    def tick(self, now: float) -> Decision:
        """Look once and act."""

    def look_again(self, stalled: bool = False) -> None:
        """Have the next tick read everything; `stalled`: a PSI trigger has fired."""

    def watches(self) -> Sequence[Watch]:
        """What the sources have to wait for now."""

    def withdraw(self) -> None:
        """The thread has ended: nobody watches any more."""

    def complain(self, now: float, what: str) -> None:
        """Log the exception being handled."""


class Runner:
    """The thread of one monitor. `clock`: monotonic seconds, the time of the ticks."""

    def __init__(self, monitor: Ticking, clock: Callable[[], float]) -> None:
        self._monitor = monitor
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._outbox: Outbox | None = None
        self._wake_read, self.wake_fd = _wake_pair()
        self._watches: dict[int, Watch] = {}
        self._watched_at = -1e9

    def start(self) -> None:
        """Make the first tick, then go on in a daemon thread. RuntimeError when already started."""
        if self._thread is not None:
            raise RuntimeError("the monitor is already started")
        self._stop = threading.Event()  # a new one: an old thread must not miss that it was stopped
        self._monitor.look_again()  # stop() has withdrawn what the last decision allowed
        self._monitor.tick(self._clock())
        self._outbox = Outbox(log)
        self._thread = threading.Thread(
            target=self._run, args=(self._stop, self._outbox), name="cacheserver-pressure", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread; waits `timeout` seconds at most for a callback, and a second for the last log
        lines.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        _write_wake(self.wake_fd)
        if thread is not threading.current_thread():
            thread.join(timeout)
        if not thread.is_alive():
            self._monitor.withdraw()
            self._watches = {}
        if self._outbox:
            self._outbox.close(LOG_WAIT)

    def _run(self, stop: threading.Event, outbox: Outbox) -> None:
        outbox.divert()
        with contextlib.suppress(OSError, AttributeError):  # where it is not allowed it works without
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        delay = 0.0
        while not stop.is_set():
            try:
                self._wait(delay)
                if not stop.is_set():
                    delay = self._monitor.tick(self._clock()).tick
            except Exception as error:
                self._monitor.complain(self._clock(), f"the pressure monitor failed with {error!r}")
                time.sleep(FAILED_TICK)

    def _wait(self, delay: float) -> None:
        """Sleep `delay` seconds, or until somebody asks for a tick or the host reports something."""
        now = self._clock()
        if now - self._watched_at >= WATCH_SECONDS:
            self._watched_at = now
            self._watches = {watch.fd: watch for watch in self._monitor.watches()}
        if not self._monitor.decision.allowance:
            # There was nothing to grant a moment ago: a store that goes on asking must not make this spin.
            pause = min(delay, TICK_MIN)
            if self._poll(pause, wake=False) or delay <= pause:
                return
            delay -= pause
        self._poll(delay, wake=True)

    def _poll(self, delay: float, wake: bool) -> bool:
        """Wait for the host's descriptors, and for `wake_fd` when `wake`; True when something came."""
        poller = select.poll()
        for fd, watch in self._watches.items():
            poller.register(fd, watch.events)
        if wake:
            poller.register(self._wake_read, select.POLLIN)
        ready = poller.poll(delay * 1000.0)
        for fd, events in ready:
            if fd == self._wake_read:
                _read_wake(fd)
                if self._monitor.decision.allowance:  # it is being spent
                    self._monitor.look_again()
                continue
            watch = self._watches[fd]
            there = watch.acknowledge(events)
            self._monitor.look_again(stalled=watch.stall and there)  # whatever it was, look properly
            if not there:
                del self._watches[fd]
        return bool(ready)

    def __del__(self) -> None:
        for fd in {self._wake_read, self.wake_fd} if hasattr(self, "wake_fd") else ():
            os.close(fd)


def _wake_pair() -> tuple[int, int]:
    """(descriptor to wait on, descriptor to write 8 bytes to): one eventfd, or a pipe where there is none."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return fd, fd
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _read_wake(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 4096)


def _write_wake(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):  # already as awake as can be
        os.write(fd, (1).to_bytes(8, sys.byteorder))
