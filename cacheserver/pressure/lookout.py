"""The lookout: reads the bounds and the ledger of one moment and has the law judge them, the cheap way where
that is enough.

Knows: what the law remembers, which bound binds, when all of it was read last. Must not know: what is done
about a decision, whom it is told.
Threads: all methods belong to whoever has the turn, but `look_again` and `rested`, which any thread may call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cacheserver.pressure.bounds import Bounds
from cacheserver.pressure.policy import GROW_HOLD, Decision, Ledger, State, cache_share, decide
from cacheserver.pressure.rest import full_interval, marks_suffice, quiet_window, rested, unchanged
from cacheserver.pressure.runner import Quiet
from cacheserver.pressure.source import Reading

LOOKS = 3  # in one tick at most, until all of one is of the same moment
MOMENT = 0.005  # seconds; a look takes some 30 us, and a writer fills 10 MB in 5 ms


class Look(NamedTuple):
    """What was seen and what the law made of it. `at`: seconds of the clock."""

    at: float
    readings: list[Reading]
    ledger: Ledger
    stalled: bool  # a PSI trigger had fired
    decision: Decision


class Lookout:
    """Looks at `bounds` and at what `ledger` tells; `clock`: monotonic seconds."""

    def __init__(self, bounds: Bounds, ledger: Callable[[], Ledger], clock: Callable[[], float]) -> None:
        self._bounds = bounds
        self._read_ledger = ledger
        self._clock = clock
        self._state = State()
        self._ledger = Ledger()  # as it was at the last full reading
        self.binding: Reading | None = None  # the bound that decides, as it was read last
        self._full_at = -1e9
        self._full_every = 0.0  # seconds; between, a quick look reads the binding bound only
        self._rested_at = 0.0  # when the last look found nothing changed; 0.0: that has been told
        self._stalled = False

    def look_again(self, stalled: bool = False) -> None:
        """Read everything the next time; `stalled`: a PSI trigger has fired."""
        self._full_at = -1e9
        if stalled:
            self._stalled = True

    def rested(self, at: float) -> None:
        """All was quiet until `at`."""
        self._rested_at = at

    def hold(self, now: float) -> None:
        """Let nobody grow for GROW_HOLD seconds from `now` on."""
        self._state = self._state._replace(hold_until=now + GROW_HOLD)

    def unlearn(self) -> None:
        """A ledger stood still while its shrinker hung: what was learnt from it about the others is wrong."""
        self._state = self._state._replace(tracks={})
        self.look_again()

    def quick(self, now: float, last: Decision) -> Decision | None:
        """The cheap look of a cache at rest, with `last` in force: one bound, the binding one, says that
        nothing is to be done.

        None: look properly. Then the state stays as it was: a reading with old page cache figures teaches
        nothing.
        """
        if self.binding is None or self._stalled or last.hard or now - self._full_at >= self._full_every:
            return None
        if not _shows_in_usage(self.binding, last):
            return None
        began = self._clock()
        fresh = self._bounds.quick(self.binding, now)
        if fresh is None:
            return None
        ledger = self._read_ledger()
        if self._clock() - began > MOMENT or (last.allowance and ledger != self._ledger):
            return None
        if unchanged(last, fresh, ledger):
            self._rested_at = now
            return last
        self._tell_rest()
        decision, state = decide((fresh,), ledger, now, self._state)
        if decision.target or decision.allowance or decision.hard:
            return None
        self._state = state
        return decision

    def full(self, now: float) -> Look:
        """Read everything and judge."""
        self._tell_rest()
        now, readings = self._read(now)
        decision, self._state = decide(readings, self._ledger, now, self._state, self._stalled)
        look = Look(now, readings, self._ledger, self._stalled, decision)
        self._stalled = False
        self._full_at, self._full_every = now, full_interval(decision, readings, self._ledger)
        self.binding = next((one for one in readings if one.name == decision.binding), None)
        return look

    def quiet(self, last: Decision) -> Quiet | None:
        """What may be watched with `last` in force, as long as `quick` would find nothing to do."""
        if self.binding is None or self._stalled or last.hard:
            return None
        reading = self.binding
        gauge = None if reading.stale else self._bounds.gauge(reading, self._clock())
        if gauge is None:
            return None
        if not marks_suffice(last, self._state):
            gauge = gauge._replace(marked=False)
        share = 0.0
        if not _shows_in_usage(reading, last):
            if gauge.stat_fd < 0:
                return None
            share, reading = cache_share(reading.stall), reading._replace(reclaimable=0)
        low, high = quiet_window(last, reading, self._ledger)
        if low > high:
            return None
        return Quiet(gauge, last.limit, low, high, share, self._full_at + self._full_every)

    def _tell_rest(self) -> None:
        """Tell the state of the quiet looks there have been: a sudden rise began after the last of them."""
        if self._rested_at and self.binding:
            self._state = rested(self._state, self.binding.name, self._rested_at)
            self._rested_at = 0.0

    def _read(self, now: float) -> tuple[float, list[Reading]]:
        """Read every bound, and the ledger of the same moment; return when that was, too.

        A thread that loses its processor between the two takes what a shrinker has grown by meanwhile for
        free memory, and a moment later for a jump of others.
        """
        for _ in range(LOOKS):
            began = self._clock()
            readings = self._bounds.read(now)
            self._ledger = self._read_ledger()
            ended = self._clock()
            if ended - began <= MOMENT:
                break
            now = max(now, ended)
        return now, readings


def _shows_in_usage(reading: Reading, last: Decision) -> bool:
    """Whether what can happen to the binding bound shows in its usage.

    Page cache may be eaten while usage stands still: where the reserve leans on it, look properly.
    """
    spare = max(last.reserve // 4, last.headroom - last.allowance - last.reserve)
    return not reading.stale and reading.reclaimable <= spare
