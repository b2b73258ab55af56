"""The monitor: sources -> policy -> shrinkers -> grants, once a tick.

Knows: what a tick is, and whom to ask. Must not know: the law (policy), a file format (sources), what a
shrinker frees, what its thread waits for (runner).
Threads: `tick` and `request` run in one thread at a time; they, `status`, `shrinkers`, `register_shrinker`,
`unregister_shrinker`, `subscribe`, `unsubscribe`, `start`, `stop` may be called from any thread, and from
inside callbacks. All callbacks run in the thread that ticks or requests, when started and stopped, too: one
at a time. The sources are used by whoever has the turn, but for the descriptors that `quiet` and `watches`
give away. Processes: a forked child does not watch, whatever its parent does, until it calls `start`.
"""

from __future__ import annotations

import contextlib
import operator
import os
import time
import weakref
from collections.abc import Callable, Sequence

from cacheserver.pressure.announce import Announcer
from cacheserver.pressure.bounds import Bounds
from cacheserver.pressure.context import Context
from cacheserver.pressure.levels import Levels, OnLevel, Subscription
from cacheserver.pressure.policy import (
    GROW_HOLD,
    UNBOUNDED,
    Decision,
    Ledger,
    Level,
    State,
    cache_share,
    decide,
)
from cacheserver.pressure.record import Recorder
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.rest import full_interval, marks_suffice, quiet_window, rested, unchanged
from cacheserver.pressure.runner import Quiet, Runner
from cacheserver.pressure.sharing import Outcome, ShrinkerSet
from cacheserver.pressure.shrinker import ObjectShrinker, RequestMemory, Shrinker
from cacheserver.pressure.source import Reading, Source, Watch, detect
from cacheserver.pressure.tally import Request, ShrinkerStatus, Status, Tally
from cacheserver.pressure.turn import Deposed, Hang, Turns

HARD_ROUNDS = 16  # looks and hard requests in one tick at most
LOOKS = 3  # in one tick at most, until all of one is of the same moment
MOMENT = 0.005  # seconds; a look takes some 30 us, and a writer fills 10 MB in 5 ms
FUTILE_TICK = 0.02  # seconds until the next try when a hard request freed nothing
BOOKS_SECONDS = 1.0  # how often what has happened is summed up
COUNT_SECONDS = 10.0  # how often the shrinkers are asked what they could free, for those who look at them


_monitors: weakref.WeakSet[Monitor] = weakref.WeakSet()  # of this process


class Monitor:
    """Watches the host's memory and keeps its shrinkers inside what is left.

    `sources`: where readings come from; None: all that this host offers. `clock`: monotonic seconds.
    """

    def __init__(
        self, sources: Sequence[Source] | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds = Bounds(detect() if sources is None else sources)
        self._clock = clock
        self._turns = Turns()
        self._breaks = 0  # of the turns, as far as the state knows of them
        self._shrinkers = ShrinkerSet(self._turns, clock)
        self._state = State()
        self._decision = UNBOUNDED
        self._ledger = Ledger()  # as it was at the last full reading
        self._binding: Reading | None = None
        self._full_at = -1e9
        self._full_every = 0.0  # seconds; between, a quiet tick reads the binding bound only
        self._rested_at = 0.0  # when the last tick found nothing changed; 0.0: that has been told
        self._soft, self._hard = Tally(), Tally()
        self._shrunk_at: float | None = None
        self._levels = Levels(self._turns.call)
        self._announcer = Announcer()
        self.recorder: Recorder | None = None  # put here, and taken away, by itself
        self._ticks = 0
        self._books_due = self._counted_at = -1e9
        self._stalled = False
        self._runner = Runner(self, clock)
        self.wake_fd = self._runner.wake_fd  # write 8 bytes, as to an eventfd, for a tick at once
        _monitors.add(self)

    # -- shrinkers --

    def register_shrinker(
        self,
        name: str,
        func: RequestMemory | Shrinker | ObjectShrinker,
        *,
        count: Callable[..., int] | None = None,
        cost: float | None = None,
        grant: Callable[[int], None] | None = None,
        ledger: Callable[[], tuple[int, ...]] | None = None,
    ) -> Registration:
        """Register `func(target, hard) -> freed` (bytes), or an object with the methods of `Shrinker` or of
        `ObjectShrinker`.

        `name` is a label for the log and need not be unique. `count()`: bytes it could free (given the
        request's Context as `context` where both it and `request_memory` have such a parameter); `cost`: what
        an object costs to make again, > 0 (None: the object's `seeks`, or 2); `grant(nbytes)`: called with
        the bytes it may grow by, whenever that is judged anew; `ledger()`: (resident bytes, bytes taken but
        not yet touched) and, where it knows, the bytes given up that the host has not got back yet: who tells
        these is at first taken to return memory late. Returns the handle for `unregister_shrinker`.
        ValueError for a bad number, TypeError for what cannot be called.
        """
        registration = Registration(name, func, count=count, cost=cost, grant=grant, ledger=ledger)
        self._shrinkers.add(registration)
        self.look_again()  # the next tick judges anew and tells it what it may take
        self._runner.wake()  # which beside a cache at rest would be a second away
        return registration

    def unregister_shrinker(self, handle: Registration) -> None:
        """Forget a shrinker. When this returns none of its callbacks runs or will run (inside one: after it).

        It waits for a running tick, and for a call of this shrinker that hangs, however long: hold no lock
        that a callback may want. From inside a callback, of whichever shrinker, it does not wait: no call is
        begun any more, but one that hangs may still be running. ValueError when not registered.
        """
        self._shrinkers.remove(handle)
        self._turns.settle(handle)

    def request(
        self,
        target: int,
        hard: bool,
        *,
        nodes: frozenset[int] | None = None,
        group: str | None = None,
        may_block: bool = True,
    ) -> Outcome:
        """Have the shrinkers free `target` bytes, whatever the readings say: for those who know of pressure
        by other means. Returns the bytes asked and freed, none where a callback hung so that the request was
        given up. Hard: no growth for GROW_HOLD seconds either.

        `nodes`, `group`: only there, and only shrinkers that heed it. From any thread; the callbacks run in
        it. `may_block` false: from one that cannot wait, since it holds a lock that a callback may want; only
        shrinkers that are given a Context are asked, and nobody when a tick is running. ValueError for a
        target below 0 or an empty set of nodes, TypeError for one that is no whole number.
        """
        target = operator.index(target)
        if target < 0:
            raise ValueError(f"target must be a number of bytes, not {target}")
        context = Context(hard=hard, nodes=nodes, group=group, may_block=may_block)
        with contextlib.suppress(Deposed), self._turns.take(None if may_block else 0.0) as held:
            if not held:
                return Outcome(0, 0)
            began = self._clock()
            if hard:
                self._state = self._state._replace(hold_until=began + GROW_HOLD)
                if may_block:
                    self._shrinkers.grant(0)
            self._full_at = -1e9  # the next tick measures what this changes, and grants anew
            outcome = self._shrinkers.ask(target, context)
            if outcome.asked:
                self._book(self._decision._replace(hard=hard), outcome, began)
            return outcome
        return Outcome(0, 0)

    # -- levels --

    def subscribe(self, level: Level, callback: OnLevel) -> Subscription:
        """Have `callback(level)` called when the pressure reaches `level` (LOW, MEDIUM or CRITICAL), at each
        change above it, and once when it has fallen below, which the argument then is.

        A rise is told at the end of the tick that sees it, after the requests to shrinkers; a fall once two
        seconds have passed without the higher level. Where there is pressure already, the next tick tells.
        The callback comes from the monitor's thread and holds it up: it should be brief. One that raises
        three times in a row is left out. Returns the handle for `unsubscribe`. ValueError for Level.NONE,
        TypeError for what cannot be called.
        """
        if not level > Level.NONE:
            raise ValueError("subscribe to Level.LOW, MEDIUM or CRITICAL; its end is told, too")
        if not callable(callback):
            raise TypeError(f"{callback!r} cannot be called")
        subscription = Subscription(Level(level), callback)
        self._levels.add(subscription)
        return subscription

    def unsubscribe(self, handle: Subscription) -> None:
        """Forget a subscription. When this returns its callback neither runs nor will (inside it: after it).

        It waits for a running tick, and for a call of this callback that hangs, however long: hold no lock
        that a callback may want. From inside a callback it does not wait. ValueError when not subscribed.
        """
        self._levels.remove(handle)
        self._turns.settle(handle)

    # -- one tick --

    def tick(self, now: float) -> Decision:
        """Look once and act. `now`: seconds of the monitor's clock. Returns the decision now in force.

        Waits for a tick that runs in another thread; from inside a callback it runs at once, unless that was
        called by such a tick already.
        """
        with contextlib.suppress(Deposed), self._turns.take() as held:
            if not held:
                return self._decision
            self._ticks += 1
            self._unlearn()
            last = self._decision
            decision = seen = self._quiet(now) or self._full(now)
            if decision.hard and decision.target > 0:
                decision = self._shrink_hard(decision)
            if decision.target > 0 and not decision.hard:
                self._request(decision)
            self._decision = decision
            # Else it stands, untouched or nothing; but that there is no bound may never have been told.
            if decision is not last or decision is UNBOUNDED:
                self._shrinkers.grant(decision.allowance)
            if seen.level or self._levels.level or now >= self._books_due:
                self._tell(seen, now)
            return decision
        return self._decision

    def _unlearn(self) -> None:
        """A ledger stood still while its shrinker hung: what was learnt from it about the others is wrong."""
        if self._breaks != self._turns.breaks:
            self._breaks = self._turns.breaks
            self._state = self._state._replace(tracks={})
            self._full_at = -1e9

    def _quiet(self, now: float) -> Decision | None:
        """The cheap tick of a cache at rest: one bound, the binding one, says that nothing is to be done.

        None: look properly. Then the state stays as it was: a reading with old page cache figures teaches
        nothing.
        """
        last = self._decision
        if self._binding is None or self._stalled or last.hard or now - self._full_at >= self._full_every:
            return None
        if not self._shows_in_usage(self._binding):
            return None
        began = self._clock()
        fresh = self._bounds.quick(self._binding, now)
        if fresh is None:
            return None
        ledger = self._shrinkers.ledger()
        if self._clock() - began > MOMENT or (last.allowance and ledger != self._ledger):
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

    def _shows_in_usage(self, reading: Reading) -> bool:
        """Whether what can happen to the binding bound shows in its usage.

        Page cache may be eaten while usage stands still: where the reserve leans on it, look properly.
        """
        last = self._decision
        spare = max(last.reserve // 4, last.headroom - last.allowance - last.reserve)
        return not reading.stale and reading.reclaimable <= spare

    def _rest(self) -> None:
        """Tell the state of the quiet ticks there have been: a sudden rise began after the last of them."""
        if self._rested_at and self._binding:
            self._state = rested(self._state, self._binding.name, self._rested_at)
            self._rested_at = 0.0

    def _full(self, now: float) -> Decision:
        """Read everything and judge."""
        self._rest()
        now, readings = self._look(now)
        decision, self._state = decide(readings, self._ledger, now, self._state, self._stalled)
        if recorder := self.recorder:
            recorder.look(now, readings, self._ledger, self._stalled, decision)
        self._stalled = False
        self._announcer.look(decision.headroom)
        self._full_at, self._full_every = now, full_interval(decision, readings, self._ledger)
        self._binding = next((one for one in readings if one.name == decision.binding), None)
        return decision

    def _look(self, now: float) -> tuple[float, list[Reading]]:
        """Read every bound, and the ledger of the same moment; return when that was, too.

        A thread that loses its processor between the two takes what a shrinker has grown by meanwhile for
        free memory, and a moment later for a jump of others.
        """
        for _ in range(LOOKS):
            began = self._clock()
            readings = self._bounds.read(now)
            self._ledger = self._shrinkers.ledger()
            ended = self._clock()
            if ended - began <= MOMENT:
                break
            now = max(now, ended)
        return now, readings

    def _shrink_hard(self, decision: Decision) -> Decision:
        """Ask and look again until the deficit is gone or nothing more comes."""
        self._shrinkers.grant(0)
        for _ in range(HARD_ROUNDS):
            if self._request(decision) <= 0:
                # Nothing left to give: others are the problem, and spinning would make it worse.
                return decision._replace(tick=FUTILE_TICK)
            decision = self._full(self._clock())
            if not decision.hard or decision.target <= 0:
                break
        return decision._replace(allowance=0)

    def _request(self, decision: Decision) -> int:
        began = self._clock()
        near = self._binding.nodes if self._binding else ()
        outcome = self._shrinkers.ask(decision.target, Context(hard=decision.hard), near)
        if outcome.asked:
            self._book(decision, outcome, began)
        return outcome.freed

    def _book(self, decision: Decision, outcome: Outcome, began: float) -> None:
        """Count, record and announce a request that `decision` has led to."""
        now = self._shrunk_at = self._clock()
        (self._hard if decision.hard else self._soft).add(outcome.asked, outcome.freed, now - began)
        if recorder := self.recorder:
            recorder.act(outcome.asked, outcome.freed)
        request = Request(
            decision.hard, decision.level, outcome.asked, outcome.freed, tuple(self._shrinkers.gave.items()),
            decision.headroom, decision.reserve, decision.binding, now - began,
        )  # fmt: skip
        self._announcer.request(request, now)

    def _tell(self, decision: Decision, now: float) -> None:
        """Tell the log and the subscribers; `decision`: the first of the tick, before anything was done."""
        level = self._levels.see(decision.level, now)
        self._announcer.level(level, decision, now)
        self._levels.tell()
        if now >= self._books_due:
            self._books_due = now + BOOKS_SECONDS
            self._announcer.sum_up(now)
            self._keep_books(now)

    def _keep_books(self, now: float) -> None:
        """What only those want to know who look at the figures."""
        if now - self._counted_at >= COUNT_SECONDS:
            self._counted_at = now
            self._shrinkers.count()

    # -- what has been done --

    def status(self) -> Status:
        """A consistent picture of the last decision; the counters are exact once the tick has ended."""
        last, soft, hard = self._decision, self._soft, self._hard
        return Status(
            last.level, last.headroom, last.reserve, last.ceiling, last.limit, last.usage, last.binding,
            soft.requests, hard.requests, soft.asked, hard.asked, soft.freed, hard.freed, self._ticks,
            self._runner.cpu_seconds,
            soft.seconds, hard.seconds, soft.longest, hard.longest, self._shrunk_at,
        )  # fmt: skip

    def shrinkers(self) -> list[ShrinkerStatus]:
        """What each shrinker has been asked for and has given, in the order in which they registered."""
        return self._shrinkers.status()

    def complain(self, now: float, what: str) -> None:
        """One line about the exception being handled, unless there was one a moment ago."""
        self._bounds.complain(now, what)

    # -- the thread --

    def start(self) -> None:
        """Make the first decision, then watch in a daemon thread. RuntimeError when already started."""
        self._runner.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, withdraw the allowance, say in the log what has not been said yet; waits `timeout`
        seconds at most for a callback, and a second for the last log lines.

        What a callback holds up for longer comes when it returns; so does all of it when this is called from
        inside a callback, which waits for nobody. `wake_fd` stays open: a shrinker that still holds its
        number must not write into somebody else's file.
        """
        self._runner.stop(timeout)

    # -- what the runner needs, see runner.Ticking --

    @property
    def decision(self) -> Decision:
        """The decision in force."""
        return self._decision

    def quiet(self) -> Quiet | None:
        """What the runner may look at instead of ticking, as `_quiet` would find nothing to do."""
        with self._turns.take():
            return self._quiet_until()

    def _quiet_until(self) -> Quiet | None:
        last = self._decision
        if self._binding is None or self._stalled or last.hard or self._breaks != self._turns.breaks:
            return None
        reading = self._binding
        gauge = None if reading.stale else self._bounds.gauge(reading, self._clock())
        if gauge is None:
            return None
        if not marks_suffice(last, self._state):
            gauge = gauge._replace(marked=False)
        share = 0.0
        if not self._shows_in_usage(reading):
            if gauge.stat_fd < 0:
                return None
            share, reading = cache_share(reading.stall), reading._replace(reclaimable=0)
        low, high = quiet_window(last, reading, self._ledger)
        if low > high:
            return None
        return Quiet(gauge, last.limit, low, high, share, self._full_at + self._full_every)

    def rested(self, at: float) -> None:
        """All was quiet until `at`."""
        self._rested_at = at

    def look_again(self, stalled: bool = False) -> None:
        """Have the next tick read everything; `stalled`: a PSI trigger has fired."""
        self._full_at = -1e9
        if stalled:
            self._stalled = True

    def watches(self) -> Sequence[Watch]:
        """What the sources have to wait for now."""
        with self._turns.take():
            return self._bounds.watches(self._clock())

    def heed(self, watch: Watch, events: int) -> bool:
        """Whatever `watch` tells with poll's `events`, have the next tick look properly. False: it is to be
        forgotten.
        """
        with self._turns.take():
            there = self._bounds.acknowledge(watch, events, self._clock())
        self.look_again(stalled=watch.stall and there)
        return there

    @property
    def at_work(self) -> bool:
        """Whether the calling thread is in a tick, in a request, or in a callback of one."""
        return self._turns.inside()

    def look_for_hang(self) -> Hang | None:
        """Whether a callback hangs; see turn.Turns.look."""
        return self._turns.look()

    def withdraw(self, seconds: float | None = None) -> None:
        """Nobody watches any more: say what is left to be said, close the sources, take back what was
        allowed. Nothing when it has been started again, or the turn does not come within `seconds`.
        """
        with contextlib.suppress(Deposed), self._turns.take(seconds) as held:
            if not held or self._runner.running:
                return
            now = self._clock()
            self._announcer.close(now)
            self._bounds.close(now)
            self._shrinkers.grant(0)

    def after_fork(self) -> None:
        """In a forked child: the parent's threads are not here, and the parent's descriptors are not to be
        read, since a notice that is read here never comes there. No callback: the locks that it wants may
        have been held.
        """
        self._turns.after_fork()
        self._shrinkers.after_fork()
        self._levels.after_fork()
        self._runner.after_fork()
        self.recorder = None
        self._announcer = Announcer()  # what is left to be said there is not to be said here, too
        self._bounds.close(self._clock())
        self.look_again()


def _after_fork() -> None:
    for monitor in list(_monitors):
        monitor.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
