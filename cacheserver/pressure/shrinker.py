"""Shrinkers: who can give memory back, how a target is split among them, and how a bad one is contained.

Knows: callables and bytes. Must not know: readings, the policy, threads (its caller serialises `ask`).

The split is the kernel's (mm/shrinker.c): in proportion to freeable * 4 / cost, what a shrinker stayed short
of is carried to its next share, at most twice what it can free. Here the carried part moves shares between
shrinkers only: the total asked is always the target, because the target is measured anew at every tick.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from cacheserver.pressure.policy import MIB, Ledger
from cacheserver.pressure.tally import ShrinkerStatus, Tally

log = logging.getLogger("cacheserver.pressure")

DEFAULT_COST = 2  # Linux's DEFAULT_SEEKS: what it costs to make one object again
PASSES = 3  # a hard target is offered this often to those that can still give
STRIKES = 3  # raises or impossible answers in a row until a shrinker is left out
CARRY_MAX = 2  # times what a shrinker can free
# one large item may overshoot (memory-hog's are 31 MiB); more is a lie
OVERSHOOT_TIMES, OVERSHOOT_BYTES = 4, 64 * MIB
WEIGHT_MIN = 1 / 16
SKIPS_MAX = 30  # soft requests that one which gives nothing is spared in a row: 1.5 s

RequestMemory = Callable[[int, bool], int]


@runtime_checkable
class Shrinker(Protocol):
    """The class form, in OSv's words."""

    def request_memory(self, target: int, hard: bool) -> int:
        """Free at least `target` bytes and return how many were given back to the host.

        Soft (`hard` false): may be deferred; return what was freed at once, 0 included. Hard: now, before
        returning. Called from the monitor's thread: the cache behind it needs its own lock.
        """


class Registration:
    """One registered shrinker: the handle that `register_shrinker` returns."""

    def __init__(
        self,
        name: str,
        func: RequestMemory,
        *,
        count: Callable[[], int] | None = None,
        cost: float = DEFAULT_COST,
        grant: Callable[[int], None] | None = None,
        ledger: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        if not cost > 0:
            raise ValueError(f"shrinker {name!r}: cost must be above 0, not {cost!r}")
        self.name = name
        self.func = func
        self.count = count
        self.cost = cost
        self.grant = grant
        self.ledger = ledger
        self.weight = 1.0  # halved when it claims more than the ledger shows
        self.carried = 0  # bytes it stayed short of
        self.strikes = 0
        self.enabled = True
        self.soft, self.hard = Tally(), Tally()
        self.can_free = 0  # bytes, as it last said
        self._counted = -1
        self._futile = self._skips = 0

    def strike(self, why: str) -> None:
        """A raise or an impossible answer; the third in a row ends its use."""
        self.strikes += 1
        if self.strikes == 1:
            log.error("shrinker %s: %s; counted as nothing freed", self.name, why)
        if self.strikes >= STRIKES and self.enabled:
            self.enabled = False
            log.error("shrinker %s: failed %d times in a row; left out from now on", self.name, STRIKES)

    def freeable(self, unknown: int) -> int:
        """What it says it can free, in bytes; `unknown` where it does not say."""
        if self.count is None:
            return unknown
        try:
            self.can_free = max(0, int(self.count()))
            return self.can_free
        except BaseException as error:
            self.strike(f"count raised {error!r}")
            return 0

    def spared(self, can: int) -> bool:
        """Whether to leave out a soft request: it counts the same `can` bytes as ever, asked or not.

        What is deferred moves the count before long; an empty cache's own structures never do.
        """
        if self.count is None:
            return False
        if can != self._counted:
            self._counted, self._futile, self._skips = can, 0, 0
            return False
        if self._skips > 0:
            self._skips -= 1
            return True
        self._futile += 1
        self._skips = min(2**self._futile - 2, SKIPS_MAX)
        return False

    def call(self, target: int, hard: bool) -> int:
        """Ask for `target` bytes; the bytes freed as far as the answer can be believed."""
        before = self.read_ledger() if hard and self.ledger else None
        try:
            freed = self.func(target, hard)
        except BaseException as error:  # SystemExit included: a callback must not end the monitor
            self.strike(f"raised {error!r}")
            return 0
        if not isinstance(freed, int) or isinstance(freed, bool) or freed < 0:
            self.strike(f"answered {freed!r} when asked for {target} bytes")
            return 0
        if freed > OVERSHOOT_TIMES * target + OVERSHOOT_BYTES:
            self.strike(f"claims {freed} bytes when asked for {target}")
            return min(freed, target)
        self.strikes = 0
        if freed > 0:
            self._futile = self._skips = 0
        if before is not None:
            self._verify(freed, before.own - self.read_ledger().own)
        return freed

    def _verify(self, freed: int, shown: int) -> None:
        if freed > 2 * max(shown, 0) + MIB:
            if self.weight == 1.0:
                log.warning("shrinker %s: claims %d bytes freed, ledger shows %d", self.name, freed, shown)
            self.weight = max(WEIGHT_MIN, self.weight / 2)
        else:
            self.weight = min(1.0, self.weight * 1.25)

    def read_ledger(self) -> Ledger:
        """Its own and untouched bytes; nothing where it keeps no ledger or fails."""
        if self.ledger is None:
            return Ledger()
        try:
            own, untouched = self.ledger()
            return Ledger(max(0, own), max(0, untouched))
        except BaseException as error:
            self.strike(f"ledger raised {error!r}")
            return Ledger()

    def give(self, allowance: int) -> None:
        """Hand it its growth allowance in bytes, which replaces the last one."""
        if self.grant is None:
            return
        try:
            self.grant(allowance)
        except BaseException as error:
            self.strike(f"grant raised {error!r}")


class Outcome(NamedTuple):
    """One target, dealt with. In bytes."""

    asked: int  # the sum of the shares; 0 when there was nobody who could give anything
    freed: int


def split(target: int, weights: Sequence[float], caps: Sequence[int]) -> list[int]:
    """Share `target` bytes in proportion to `weights`, nobody above its cap; the shares add up to min(target,
    sum(caps)).
    """
    shares = [0] * len(weights)
    left = min(target, sum(caps))
    while left > 0:
        open_ = [i for i, cap in enumerate(caps) if shares[i] < cap]
        total = sum(weights[i] for i in open_)
        start = left
        for i in open_:
            part = start * weights[i] / total if total > 0 else start / len(open_)
            step = min(int(part), caps[i] - shares[i], left)
            shares[i] += step
            left -= step
        if left == start:  # only the rounding is left
            step = min(left, caps[open_[0]] - shares[open_[0]])
            shares[open_[0]] += step
            left -= step
    return shares


class ShrinkerSet:
    """All registrations of one monitor. `add` and `remove` from any thread; the rest from one thread at a
    time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.gave: dict[str, int] = {}  # what each freed of the last target
        self._lock = threading.Lock()
        self._all: tuple[Registration, ...] = ()  # replaced, never changed: readers need no lock

    def add(self, registration: Registration) -> None:
        with self._lock:
            self._all = (*self._all, registration)

    def remove(self, registration: Registration) -> None:
        """Forget it. ValueError when it is not registered."""
        with self._lock:
            if registration not in self._all:
                raise ValueError(f"shrinker {registration.name!r} is not registered here")
            self._all = tuple(other for other in self._all if other is not registration)

    def ledger(self) -> Ledger:
        """The sum of all ledgers; those left out count too, their memory is real."""
        everyone = self._all
        if len(everyone) == 1:
            return everyone[0].read_ledger()
        own = untouched = 0
        for one in everyone:
            part = one.read_ledger()
            own += part.own
            untouched += part.untouched
        return Ledger(own, untouched)

    def grant(self, allowance: int) -> None:
        """Share `allowance` bytes evenly among those that grow by leave."""
        growing = [one for one in self._all if one.grant is not None]
        for one in growing:
            one.give(allowance // len(growing) if one.enabled else 0)

    def ask(self, target: int, hard: bool) -> Outcome:
        """Have `target` bytes freed, in registration order.

        Soft: everyone who has something is asked once; who returns less may be deferring. Hard: what is
        missing is offered again to those that gave their full share, the last time without regard to cost.
        """
        candidates = [one for one in self._all if one.enabled]
        self.gave = {}
        asked = freed = 0
        for attempt in range(PASSES if hard else 1):
            left = target - freed
            if left <= 0 or not candidates:
                break
            able = [one.freeable(left) for one in candidates]
            if not hard:
                able = [0 if one.spared(can) else can for one, can in zip(candidates, able, strict=True)]
            gone = set()
            shares = self._shares(candidates, able, left, fair=attempt < PASSES - 1)
            for one, can, share in zip(candidates, able, shares, strict=True):
                if share <= 0:
                    continue
                asked += share
                began = self._clock()
                got = one.call(share, hard)
                (one.hard if hard else one.soft).add(share, got, self._clock() - began)
                self.gave[one.name] = self.gave.get(one.name, 0) + got
                one.carried = min(max(0, share - got), CARRY_MAX * can)
                freed += got
                if got < share or not one.enabled:
                    gone.add(one)
                if freed >= target:
                    break
            candidates = [one for one in candidates if one not in gone]
        return Outcome(asked, freed)

    def count(self) -> None:
        """Ask everyone what it could free, for `status`."""
        for one in self._all:
            if one.enabled:
                one.freeable(0)

    def status(self) -> list[ShrinkerStatus]:
        """What each has been asked for and has given. Any thread."""
        return [
            ShrinkerStatus(
                one.name, one.enabled, one.can_free, one.cost, one.carried, one.strikes,
                one.soft.requests, one.hard.requests, one.soft.asked, one.hard.asked,
                one.soft.freed, one.hard.freed, one.soft.last, one.hard.last,
                one.soft.longest, one.hard.longest,
            )
            for one in self._all
        ]  # fmt: skip

    @staticmethod
    def _shares(candidates: list[Registration], able: list[int], target: int, fair: bool) -> list[int]:
        if len(candidates) == 1:
            return [min(target, able[0])]
        weights = [
            can * (4 / one.cost * one.weight if fair else 1.0)
            for one, can in zip(candidates, able, strict=True)
        ]
        total = sum(weights) or 1.0
        due = [target * weight / total + one.carried for weight, one in zip(weights, candidates, strict=True)]
        return split(target, due, able)
