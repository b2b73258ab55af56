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
from cacheserver.pressure.lookout import Lookout
from cacheserver.pressure.policy import UNBOUNDED, Decision, Level
from cacheserver.pressure.record import Recorder
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.runner import Quiet, Runner
from cacheserver.pressure.sharing import Outcome, ShrinkerSet
from cacheserver.pressure.shrinker import ObjectShrinker, RequestMemory, Shrinker
from cacheserver.pressure.source import Source, Watch, detect
from cacheserver.pressure.tally import Request, ShrinkerStatus, Status, Tally
from cacheserver.pressure.turn import Deposed, Hang, Turns

HARD_ROUNDS = 16  # looks and hard requests in one tick at most
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
        self._lookout = Lookout(self._bounds, self._shrinkers.ledger, clock)
        self._decision = UNBOUNDED
        self._soft, self._hard = Tally(), Tally()
        self._shrunk_at: float | None = None
        self._levels = Levels(self._turns.call)
        self._announcer = Announcer()
        self.recorder: Recorder | None = None  # put here, and taken away, by itself
        self._ticks = 0
        self._books_due = self._counted_at = -1e9
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
                self._lookout.hold(began)
                if may_block:
                    self._shrinkers.grant(0)
            self.look_again()  # the next tick measures what this changes, and grants anew
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
            decision = seen = self._lookout.quick(now, last) or self._full(now)
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
        """See Lookout.unlearn, after a shrinker has hung."""
        if self._breaks != self._turns.breaks:
            self._breaks = self._turns.breaks
            self._lookout.unlearn()

    def _full(self, now: float) -> Decision:
        """Read everything and judge."""
        look = self._lookout.full(now)
        if recorder := self.recorder:
            recorder.look(look.at, look.readings, look.ledger, look.stalled, look.decision)
        self._announcer.look(look.decision.headroom)
        return look.decision

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
        binding = self._lookout.binding
        near = binding.nodes if binding else ()
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
        """What the runner may look at instead of ticking."""
        with self._turns.take():
            return None if self._breaks != self._turns.breaks else self._lookout.quiet(self._decision)

    def rested(self, at: float) -> None:
        """All was quiet until `at`."""
        self._lookout.rested(at)

    def look_again(self, stalled: bool = False) -> None:
        """Have the next tick read everything; `stalled`: a PSI trigger has fired."""
        self._lookout.look_again(stalled)

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
