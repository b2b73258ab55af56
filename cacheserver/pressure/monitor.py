"""The monitor: sources -> policy -> shrinkers -> grants, once a tick, in its own thread.

Knows: when to look, and whom to ask. Must not know: the law (policy), a file format (sources), what a
shrinker frees.
Threads: `tick` runs in one thread at a time; `status`, `register_shrinker`,
`unregister_shrinker`, `start`, `stop` may be called from any thread. All callbacks run in the thread that
ticks.
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
from dataclasses import dataclass

from cacheserver.pressure.outbox import Outbox
from cacheserver.pressure.policy import (
    TICK_MIN,
    UNBOUNDED,
    Decision,
    Ledger,
    Level,
    State,
    decide,
    rested,
    unchanged,
)
from cacheserver.pressure.shrinker import DEFAULT_COST, Registration, RequestMemory, Shrinker, ShrinkerSet
from cacheserver.pressure.source import Reading, Source, Watch, detect

log = logging.getLogger("cacheserver.pressure")

# every bound is read in full at least this often; between, a quiet tick reads the binding one
FULL_SECONDS = 0.1
WATCH_SECONDS = 1.0  # how often the sources are asked what to wait for
HARD_ROUNDS = 16  # looks and hard requests in one tick at most
FUTILE_TICK = 0.02  # seconds until the next try when a hard request freed nothing
FAILED_TICK = 0.05  # seconds until the next try after an error of the monitor itself
LOG_WAIT = 1.0  # seconds that stop() waits at most for the last lines to be written
LOG_SECONDS = 10.0  # a line about the same level at most this often; a full cache touches its reserve all day
# the thread's priority where the system allows it: it must run while neighbours burn the processors
NICE = -10


@dataclass(frozen=True, slots=True)
class Status:
    """What the monitor knows and has done. Sizes in bytes, counters since the start."""

    level: Level
    headroom: int
    reserve: int
    ceiling: int
    limit: int
    usage: int
    binding: str
    shrinks_soft: int
    shrinks_hard: int
    bytes_asked_soft: int
    bytes_asked_hard: int
    bytes_released_soft: int  # released within the request; what a soft request deferred is not in it
    bytes_released_hard: int
    ticks: int


class _Tally:
    """Requests of one kind."""

    __slots__ = ("asked", "freed", "requests")

    def __init__(self) -> None:
        self.requests = self.asked = self.freed = 0


class Monitor:
    """Watches the host's memory and keeps its shrinkers inside what is left.

    `sources`: where readings come from; None: all that this host offers. `clock`: monotonic seconds.
    """

    def __init__(
        self, sources: Sequence[Source] | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sources = list(detect() if sources is None else sources)
        self._clock = clock
        self._shrinkers = ShrinkerSet()
        self._ticking = threading.RLock()  # reentrant: a callback may register, unregister or ask for a tick
        self._state = State()
        self._decision = UNBOUNDED
        self._ledger = Ledger()  # as it was at the last full reading
        self._binding: tuple[Source, Reading] | None = None
        self._full_at = -1e9
        self._rested_at = 0.0  # when the last tick found nothing changed; 0.0: that has been told
        self._soft, self._hard = _Tally(), _Tally()
        self._ticks = 0
        self._stalled = False
        self._said: dict[Level, float] = {}
        self._level_said = Level.NONE
        self._failed_at = -1e9
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._outbox: Outbox | None = None
        self._wake_read, self.wake_fd = _wake_pair()
        self._watches: dict[int, Watch] = {}
        self._watched_at = -1e9

    # -- shrinkers --

    def register_shrinker(
        self,
        name: str,
        func: RequestMemory | Shrinker,
        *,
        count: Callable[[], int] | None = None,
        cost: float = DEFAULT_COST,
        grant: Callable[[int], None] | None = None,
        ledger: Callable[[], tuple[int, int]] | None = None,
    ) -> Registration:
        """Register `func(target, hard) -> freed` (bytes), or an object with `request_memory(target, hard)`.

        `count()`: bytes it could free; `cost`: what an object costs to make again, > 0; `grant(nbytes)`:
        called with the bytes it may grow by, whenever that is judged anew; `ledger()`: (resident bytes,
        bytes taken but not yet touched). Returns the handle for `unregister_shrinker`. ValueError for a bad
        cost, TypeError for what cannot be called.
        """
        call = func.request_memory if isinstance(func, Shrinker) else func
        if not callable(call):
            raise TypeError(f"shrinker {name!r}: neither callable nor with a request_memory method")
        registration = Registration(name, call, count=count, cost=cost, grant=grant, ledger=ledger)
        self._shrinkers.add(registration)
        self._full_at = -1e9  # the next tick judges anew and tells it what it may take
        return registration

    def unregister_shrinker(self, handle: Registration) -> None:
        """Forget a shrinker. When this returns none of its callbacks runs or will run (inside one: after it).

        It waits for a running tick: hold no lock that a callback may want. ValueError when not registered.
        """
        self._shrinkers.remove(handle)
        with self._ticking:
            pass

    # -- one tick --

    def tick(self, now: float) -> Decision:
        """Look once and act. `now`: seconds of the monitor's clock. Returns the decision now in force."""
        with self._ticking:
            self._ticks += 1
            last = self._decision
            decision = self._quiet(now) or self._full(now)
            if decision.hard and decision.target > 0:
                decision = self._shrink_hard(decision)
            if decision.target > 0 and not decision.hard:
                self._request(decision, self._soft)
            self._decision = decision
            if decision is not last:  # else it stands, untouched or nothing
                self._shrinkers.grant(decision.allowance)
            self._announce(decision, now)
            return decision

    def _quiet(self, now: float) -> Decision | None:
        """The cheap tick of a cache at rest: one bound, the binding one, says that nothing is to be done.

        None: look properly. Then the state stays as it was: a reading with old page cache figures teaches
        nothing.
        """
        last = self._decision
        if self._binding is None or self._stalled or last.hard or now - self._full_at >= FULL_SECONDS:
            return None
        source, reading = self._binding
        # Page cache may be eaten while usage stands still: where the reserve leans on it, look properly.
        spare = max(last.reserve // 4, last.headroom - last.allowance - last.reserve)
        if reading.stale or reading.reclaimable > spare:
            return None
        fresh = source.quick(reading)
        if fresh is None:
            return None
        ledger = self._shrinkers.ledger()
        if last.allowance and ledger != self._ledger:
            return None
        if unchanged(last, fresh, ledger):
            self._rested_at = now
            return last
        self._rest()
        decision, state = decide((fresh,), ledger, now, self._state)
        if decision.target or decision.allowance or decision.hard:
            return None
        self._state = state
        return decision

    def _rest(self) -> None:
        """Tell the state of the quiet ticks there have been: a sudden rise began after the last of them."""
        if self._rested_at and self._binding:
            self._state = rested(self._state, self._binding[1].name, self._rested_at)
            self._rested_at = 0.0

    def _full(self, now: float) -> Decision:
        """Read everything and judge."""
        self._rest()
        readings: list[Reading] = []
        owner: dict[str, Source] = {}
        for source in self._sources:
            try:
                found = source.read(now)
            except Exception as error:  # a broken source must not take the others with it
                self._complain(now, f"source {source.name} raised {error!r}")
                continue
            readings += found
            for reading in found:
                owner[reading.name] = source
        self._ledger = self._shrinkers.ledger()
        decision, self._state = decide(readings, self._ledger, now, self._state, self._stalled)
        self._stalled = False
        self._full_at = now
        binding = next((one for one in readings if one.name == decision.binding), None)
        self._binding = (owner[binding.name], binding) if binding else None
        return decision

    def _shrink_hard(self, decision: Decision) -> Decision:
        """Ask and look again until the deficit is gone or nothing more comes."""
        self._shrinkers.grant(0)
        for _ in range(HARD_ROUNDS):
            if self._request(decision, self._hard) <= 0:
                # Nothing left to give: others are the problem, and spinning would make it worse.
                return decision._replace(tick=FUTILE_TICK)
            decision = self._full(self._clock())
            if not decision.hard or decision.target <= 0:
                break
        return decision._replace(allowance=0)

    def _request(self, decision: Decision, tally: _Tally) -> int:
        outcome = self._shrinkers.ask(decision.target, decision.hard)
        if not outcome.asked:
            return 0
        tally.requests += 1
        tally.asked += outcome.asked
        tally.freed += outcome.freed
        log.debug(
            "%s request: asked %d, freed %d, headroom %d of reserve %d at %s",
            "hard" if decision.hard else "soft", outcome.asked, outcome.freed,
            decision.headroom, decision.reserve, decision.binding,
        )  # fmt: skip
        return outcome.freed

    def status(self) -> Status:
        """A consistent picture of the last decision; the counters are exact once the tick has ended."""
        last, soft, hard = self._decision, self._soft, self._hard
        return Status(
            last.level, last.headroom, last.reserve, last.ceiling, last.limit, last.usage, last.binding,
            soft.requests, hard.requests, soft.asked, hard.asked, soft.freed, hard.freed, self._ticks,
        )  # fmt: skip

    def _announce(self, decision: Decision, now: float) -> None:
        """One line when the level changes, unless the same level was announced a moment ago."""
        level = decision.level
        if level is self._level_said or now - self._said.get(level, -1e9) < LOG_SECONDS:
            return
        self._said[level] = now
        log.log(
            logging.WARNING if level is Level.CRITICAL else logging.INFO,
            "memory pressure %s (was %s): headroom %d bytes, reserve %d, limit %d at %s",
            level.name, self._level_said.name,
            decision.headroom, decision.reserve, decision.limit, decision.binding,
        )  # fmt: skip
        self._level_said = level

    def _complain(self, now: float, what: str) -> None:
        if now - self._failed_at >= LOG_SECONDS:
            self._failed_at = now
            log.error("%s; going on", what, exc_info=True)

    # -- the thread --

    def start(self) -> None:
        """Make the first decision, then watch in a daemon thread. RuntimeError when already started."""
        if self._thread is not None:
            raise RuntimeError("the monitor is already started")
        self._stop = threading.Event()  # a new one: an old thread must not miss that it was stopped
        self._full_at = -1e9  # stop() has withdrawn what the last decision allowed
        self.tick(self._clock())
        self._outbox = Outbox(log)
        self._thread = threading.Thread(
            target=self._run, args=(self._stop, self._outbox), name="cacheserver-pressure", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and withdraw the allowance; waits `timeout` seconds at most for a callback, and a
        second for the last log lines.

        `wake_fd` stays open: a shrinker that still holds its number must not write into somebody else's file.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        _write_wake(self.wake_fd)
        if thread is not threading.current_thread():
            thread.join(timeout)
        if not thread.is_alive():
            self._shrinkers.grant(0)
            for source in self._sources:
                source.close()
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
                    delay = self.tick(self._clock()).tick
            except Exception as error:
                self._complain(self._clock(), f"the pressure monitor failed with {error!r}")
                time.sleep(FAILED_TICK)

    def _wait(self, delay: float) -> None:
        """Sleep `delay` seconds, or until somebody asks for a tick or the host reports something."""
        now = self._clock()
        if now - self._watched_at >= WATCH_SECONDS:
            self._watched_at = now
            self._watches = {watch.fd: watch for source in self._sources for watch in source.watches()}
        if not self._decision.allowance:
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
                if self._decision.allowance:  # it is being spent
                    self._full_at = -1e9
                continue
            watch = self._watches[fd]
            self._full_at = -1e9  # whatever it was, look properly
            if not watch.acknowledge(events):
                del self._watches[fd]
            elif watch.stall:
                self._stalled = True
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
