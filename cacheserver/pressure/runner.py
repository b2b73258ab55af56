"""The monitor's thread: waits for the next tick, or for whatever calls for one sooner, and has it made.

Knows: descriptors, time-outs, the life of the thread. Must not know: readings, shrinkers, what a tick does.
Memory: owns the descriptor that wakes it.

Beside a cache at rest it waits in `glance`, without the interpreter; where that was not compiled, or a source
has no file to look at, every tick is one of Python.

Threads: `start` and `stop` from any thread. Beside the thread that ticks there is a watchdog: when a callback
hangs, a new thread goes on in the place of the one inside it, and that one ends when the callback returns.
Whoever makes the last tick of a run withdraws what it has allowed: its thread, or `start` in its first tick.
Lock order: `_lock`, then whatever starting a thread takes; no tick is made and no thread waited for under it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from cacheserver.pressure.announce import shown
from cacheserver.pressure.outbox import Outbox
from cacheserver.pressure.policy import TICK_MIN, Decision
from cacheserver.pressure.source import Gauge, Watch
from cacheserver.pressure.turn import LOOKS, Hang

try:
    from cacheserver.pressure.glance import glance
except ImportError:
    glance = None  # type: ignore[assignment]

log = logging.getLogger("cacheserver.pressure")

WATCH_SECONDS = 1.0  # how often the sources are asked what to wait for
FAILED_TICK = 0.05  # seconds until the next try after an error of the monitor itself
# Seconds between two looks of the watchdog. A callback hangs after one second: long beside the 20 ms that
# freeing 64 MiB may take, and as long as nobody watches in the meantime.
LOOK_SECONDS = 1.0 / LOOKS
# Seconds between two glances at least where the kernel itself calls for a tick when usage rises past a mark:
# that call comes sooner than the next glance would, and each costs up to 85 us on a virtual machine.
MARKED_TICK = 0.05
LOG_WAIT = 1.0  # seconds that stop() waits at most for the last lines to be written
# the thread's priority where the system allows it: it must run while neighbours burn the processors
NICE = -10

T = TypeVar("T")


class Quiet(NamedTuple):
    """While the usage behind `gauge` stays within the window, and until `until`, a tick would do nothing."""

    gauge: Gauge
    limit: int  # bytes, and so the window
    low: int
    high: int
    share: float  # of the page cache that is to be subtracted from the usage; 0.0: its window knows of it
    until: float  # by the monitor's clock


class Ticking(Protocol):
    """What is run: a monitor."""

    @property
    def decision(self) -> Decision:
        """The decision in force."""

    def tick(self, now: float) -> Decision:
        """Look once and act."""

    def quiet(self) -> Quiet | None:
        """What to look at instead of ticking; None: tick."""

    def rested(self, at: float) -> None:
        """All was quiet until `at`."""

    def look_again(self, stalled: bool = False) -> None:
        """Have the next tick read everything; `stalled`: a PSI trigger has fired."""

    def look_for_hang(self) -> Hang | None:
        """A callback that hangs, told once; to be called every LOOK_SECONDS."""

    def watches(self) -> Sequence[Watch]:
        """What the sources have to wait for now."""

    def heed(self, watch: Watch, events: int) -> bool:
        """`watch` is ready; False: wait for it no more."""

    @property
    def at_work(self) -> bool:
        """Whether the calling thread is in a tick or a callback."""

    def withdraw(self, seconds: float | None = None) -> None:
        """Nobody watches any more, unless somebody does again; waits `seconds` at most for other threads."""

    def complain(self, now: float, what: str) -> None:
        """Log the exception being handled."""


class Runner:
    """The thread of one monitor. `clock`: monotonic seconds, the time of the ticks."""

    def __init__(self, monitor: Ticking, clock: Callable[[], float]) -> None:
        self._monitor = monitor
        self._clock = clock
        self._lock = threading.Lock()  # the next four change together
        self._stop: threading.Event | None = None  # None: not started
        self._thread: threading.Thread | None = None
        self._watchdog: threading.Thread | None = None
        self._outbox: Outbox | None = None
        self._wake_read, self.wake_fd = _wake_pair()
        self._watches: dict[int, Watch] = {}
        self._watched_at = -1e9
        self._hangs: deque[Hang] = deque()  # not yet told of
        self.cpu_seconds = 0.0  # of a processor that the thread has used, callbacks included

    @property
    def running(self) -> bool:
        """Whether it is started, be it that its first tick has not ended."""
        return self._stop is not None

    def start(self) -> None:
        """Make the first tick, then go on in a daemon thread. RuntimeError when already started."""
        with self._lock:
            if self._stop is not None:
                raise RuntimeError("the monitor is already started")
            self._outbox = Outbox(log, self._diverted)
            stop = self._stop = threading.Event()
            watchdog = self._watchdog = threading.Thread(
                target=self._guard, args=(stop,), name="cacheserver-pressure-watchdog", daemon=True
            )
        try:
            watchdog.start()
            self._monitor.look_again()  # stop() has withdrawn what the last decision allowed
            self._monitor.tick(self._clock())
            self._begin(stop, None)
        except BaseException:
            self.stop(LOG_WAIT)
            raise
        if stop.is_set():
            self._monitor.withdraw()

    def _begin(self, stop: threading.Event, old: threading.Thread | None) -> None:
        """Start the thread of the run that `stop` ends, unless another than `old` is at work."""
        with self._lock:
            if stop.is_set() or self._thread not in (None, old):
                return
            thread = threading.Thread(
                target=self._run, args=(stop,), name="cacheserver-pressure", daemon=True
            )
            self._thread, before = thread, self._thread
            self._watched_at = -1e9
            try:
                thread.start()
            except BaseException:
                self._thread = before
                raise

    def stop(self, timeout: float) -> None:
        """End the thread; waits `timeout` seconds at most for a callback, for none when called in one, and a
        second for the last log lines.
        """
        with self._lock:
            stop, self._stop = self._stop, None
            thread, self._thread = self._thread, None
            watchdog, self._watchdog = self._watchdog, None
            outbox, self._outbox = self._outbox, None
            if stop is None:
                return
            stop.set()
        self.wake()
        inside = self._monitor.at_work  # then the thread waits for us
        for each in (watchdog, thread):
            if each is not None and each.ident is not None and each is not threading.current_thread():
                each.join(0.0 if inside else timeout)
        if thread is None and not inside:
            self._monitor.withdraw(timeout)
        if outbox is not None:
            outbox.close(LOG_WAIT)

    def wake(self) -> None:
        """Have the next tick made at once, where there is a thread to make it."""
        with contextlib.suppress(OSError):  # as awake as can be; somebody has closed it
            os.write(self.wake_fd, (1).to_bytes(8, sys.byteorder))

    def _diverted(self) -> bool:
        """Whether the calling thread must not wait for who reads the log: it watches, or keeps others from
        it.
        """
        return threading.current_thread() is self._thread or self._monitor.at_work

    def after_fork(self) -> None:
        """In a forked child: no thread of the run is here, and what is written to the parent's descriptor
        would wake the parent, and reading from it keep it asleep.
        """
        self._lock = threading.Lock()
        if self._outbox is not None:
            self._outbox.discard()
        self._stop = self._thread = self._watchdog = self._outbox = None
        self._watches = {}
        self._hangs.clear()
        with contextlib.suppress(OSError):  # no descriptor to be had
            fresh = _wake_pair()
            os.dup2(fresh[0], self._wake_read, inheritable=False)
            os.dup2(fresh[1], self.wake_fd, inheritable=False)
            for fd in set(fresh):
                os.close(fd)

    # -- the watchdog's thread --

    def _guard(self, stop: threading.Event) -> None:
        lost: threading.Thread | None = None
        while not stop.wait(LOOK_SECONDS):
            with contextlib.suppress(Exception):  # no thread or memory to be had: at the next look
                hang = self._monitor.look_for_hang()
                if hang is not None:
                    lost = hang.thread
                    # Not logged here: whoever reads the log may be what hangs.
                    self._hangs.append(hang)
                if lost is not None:
                    self._begin(stop, lost)
                    lost = None

    # -- the thread --

    def _run(self, stop: threading.Event) -> None:
        with contextlib.suppress(OSError, AttributeError):  # where it is not allowed it works without
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        mine, used_before = threading.current_thread(), self.cpu_seconds
        delay = 0.0
        while not stop.is_set() and self._thread is mine:
            # Two steps: a wait that fails, again and again even, must not keep the tick from being made.
            self._contained(self._tell)
            self._contained(self._wait, delay)
            if stop.is_set() or self._thread is not mine:
                break
            decision = self._contained(self._tick)
            delay = delay if decision is None else decision.tick
            if self._thread is mine:
                self.cpu_seconds = used_before + time.thread_time()
        self._contained(self._monitor.withdraw)

    def _contained(self, step: Callable[..., T], *args: float) -> T | None:
        """`step(*args)`. Where it fails, be it with SystemExit, a line in the log, a pause, and None: nothing
        must end the watch.
        """
        try:
            return step(*args)
        except BaseException as error:
            with contextlib.suppress(BaseException):  # no memory for a line, say
                self._monitor.complain(self._clock(), f"the pressure monitor failed with {shown(error)}")
            time.sleep(FAILED_TICK)
            return None

    def _tick(self) -> Decision:
        return self._monitor.tick(self._clock())

    def _tell(self) -> None:
        """One line for each callback that was given up."""
        while self._hangs:
            log.warning(
                "%s: a call has not returned for %.0f s; going on without it until it does",
                self._hangs.popleft().name, LOOKS * LOOK_SECONDS,
            )  # fmt: skip

    def _wait(self, delay: float) -> None:
        """Sleep `delay` seconds, and longer while all is quiet, or until somebody asks for a tick or the host
        reports something.
        """
        now = self._clock()
        if now - self._watched_at >= WATCH_SECONDS:
            self._watched_at = now
            self._watches = {watch.fd: watch for watch in self._monitor.watches()}
            now = self._clock()
        # Nothing granted a moment ago: a store that goes on asking must not make this spin.
        deaf = 0.0 if self._monitor.decision.allowance else min(delay, TICK_MIN)
        quiet = self._monitor.quiet() if glance is not None and delay > 0.0 else None
        if quiet and quiet.until > now + delay:
            watches = [(watch.fd, watch.events) for watch in self._watches.values()]
            tick = max(delay, MARKED_TICK) if quiet.gauge.marked else delay
            ready, rested = glance(
                watches, self._wake_read, deaf, tick, quiet.until - now,
                quiet.gauge, quiet.limit, quiet.low, quiet.high, quiet.share,
            )  # fmt: skip
            if rested >= 0.0:
                self._monitor.rested(now + rested)
            self._heed(ready)
            return
        if deaf:
            ready = self._poll(deaf, wake=False)
            if ready or delay <= deaf:
                self._heed(ready)
                return
        self._heed(self._poll(delay - deaf, wake=True))

    def _poll(self, delay: float, wake: bool) -> list[tuple[int, int]]:
        """Wait for the host's descriptors, and for `wake_fd` when `wake`; those that are ready."""
        poller = select.poll()
        for watch in self._watches.values():
            poller.register(watch.fd, watch.events)
        if wake:
            poller.register(self._wake_read, select.POLLIN)
        return poller.poll(delay * 1000.0)

    def _heed(self, ready: list[tuple[int, int]]) -> None:
        """See to what is ready, so that the next wait does not end at once for the same reason."""
        for fd, events in ready:
            if fd == self._wake_read:
                _read_wake(fd)
                if self._monitor.decision.allowance:  # it is being spent
                    self._monitor.look_again()
                continue
            watch = self._watches.get(fd)
            if watch is not None and (not self._monitor.heed(watch, events) or events & select.POLLNVAL):
                del self._watches[fd]

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
