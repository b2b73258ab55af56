"""Levels by subscription: code that only wants to know is told when the pressure changes.

Knows: levels and callables. Must not know: readings, shrinkers, why a level is what it is.
Threads: `add` and `remove` from any; `tell` from the thread that ticks, which makes the callbacks.

After mempressure's and vmpressure's levels (low, medium, critical; a subscription counts for its level and
all above), with two differences. Theirs are events of reclaim, repeated as long as it goes on, and their
silence says nothing; here a level is a state, told at each change only, its end included, as Apple's dispatch
sources do. And a level that is left comes back within milliseconds when a neighbour grows (each hard request
restores the reserve), so it counts as left only when it has not come back for FALL_SECONDS: a rise is told at
once, and between two rises to the same level lie FALL_SECONDS at least.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cacheserver.pressure.announce import shown
from cacheserver.pressure.policy import Level

log = logging.getLogger("cacheserver.pressure")

FALL_SECONDS = 2.0  # one window of the PSI triggers that any process may have
STRIKES = 3  # raises in a row until a callback is left out

OnLevel = Callable[[Level], object]
Call = Callable[["Subscription", Callable[[Level], None], Level], None]


class Subscription:
    """One callback's wish to be told: the handle that `subscribe` returns."""

    def __init__(self, level: Level, callback: OnLevel) -> None:
        self.name = f"callback {shown(callback)} for pressure levels"
        self.level = level
        self.callback = callback
        self.enabled = True
        self.hanging = False  # inside a call that was given up
        self._told = Level.NONE
        self._strikes = 0

    def tell(self, level: Level) -> None:
        """Call back if `level` is news: a change at or above the subscribed level, or the fall below it."""
        if level is self._told or max(level, self._told) < self.level:
            return
        self._told = level
        try:
            self.callback(level)
        except BaseException as error:  # SystemExit included: a callback must not end the monitor
            self._strike(error)
        else:
            self._strikes = 0

    def _strike(self, error: BaseException) -> None:
        self._strikes += 1
        if self._strikes == 1:
            log.error("%s raised %s; going on", self.name, shown(error))
        if self._strikes >= STRIKES:
            self.enabled = False
            log.error("%s raised %d times in a row; left out from now on", self.name, STRIKES)


class Levels:
    """The level over time, steadied, and all subscriptions to it.

    `call(subscription, function, level)` makes a callback: with whatever watches over those that hang.
    """

    def __init__(self, call: Call = lambda _, function, level: function(level)) -> None:
        self._call = call
        self.level = Level.NONE  # the highest of the last FALL_SECONDS
        self._seen = [-1e9] * len(Level)  # when each was last seen
        self._lock = threading.Lock()
        self._all: tuple[Subscription, ...] = ()  # replaced, never changed: readers need no lock

    def add(self, subscription: Subscription) -> None:
        """Tell it from the next tick on, at once if there is pressure already."""
        with self._lock:
            self._all = (*self._all, subscription)

    def remove(self, subscription: Subscription) -> None:
        """Forget it. ValueError when it is not subscribed."""
        with self._lock:
            if subscription not in self._all:
                raise ValueError("this subscription is not in force here")
            self._all = tuple(other for other in self._all if other is not subscription)

    def see(self, level: Level, now: float) -> Level:
        """Take note of the level at `now` (seconds); returns the steadied one."""
        self._seen[level] = now
        if level < self.level:
            level = max(one for one in Level if now - self._seen[one] < FALL_SECONDS)
        self.level = level
        return level

    def tell(self) -> None:
        """Call back whoever does not know the level yet."""
        for one in self._all:
            if one.enabled and not one.hanging and one in self._all:  # another's callback may have removed it
                self._call(one, one.tell, self.level)

    def after_fork(self) -> None:
        """In a forked child: the lock may be a thread's that is not there."""
        self._lock = threading.Lock()
