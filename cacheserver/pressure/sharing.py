"""All shrinkers of one monitor: how a target is split among them, and what becomes of the rest.

Knows: registrations, bytes. Must not know: readings, the policy's law, what a shrinker frees.
Memory: the registrations. Threads: `add` and `remove` from any; the rest from one at a time (the caller
serialises).

The split is the kernel's (mm/shrinker.c, 6.7): in proportion to freeable * 4 / seeks, what a shrinker stayed
short of is carried to its next share, at most twice what it can free. Here the carried part moves shares
between shrinkers only: the total asked is always the target, because the target is measured anew at every
tick.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from cacheserver.pressure.context import Context
from cacheserver.pressure.policy import Ledger
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.tally import ShrinkerStatus

PASSES = 3  # a hard target is offered this often to those that can still give


class Outcome(NamedTuple):
    """One target, dealt with. In bytes."""

    asked: int  # the sum of the shares; 0 when there was nobody who could give anything
    freed: int


class Part(NamedTuple):
    """What can be asked of one shrinker at once: all of it, or one node's part."""

    shrinker: Registration
    context: Context


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
    """All registrations of one monitor."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.gave: dict[str, int] = {}  # what each freed of the last target
        self._lock = threading.Lock()
        self._all: tuple[Registration, ...] = ()  # replaced, never changed: readers need no lock
        self._asker = 0  # identity of the thread that asks

    def add(self, registration: Registration) -> None:
        with self._lock:
            self._all = (*self._all, registration)
            registration.registered = True

    def remove(self, registration: Registration) -> None:
        """Forget it: no callback of it is begun from now on. ValueError when it is not registered."""
        with self._lock:
            if registration not in self._all:
                raise ValueError(f"shrinker {registration.name!r} is not registered here")
            self._all = tuple(other for other in self._all if other is not registration)
            registration.registered = False

    def ledger(self) -> Ledger:
        """The sum of all ledgers; those left out count too, their memory is real."""
        everyone = self._all
        if len(everyone) == 1:
            return everyone[0].read_ledger()
        own = untouched = 0
        for one in everyone:
            if one.registered:  # it may be removed while another's callback runs
                part = one.read_ledger()
                own += part.own
                untouched += part.untouched
        return Ledger(own, untouched)

    def grant(self, allowance: int) -> None:
        """Share `allowance` bytes evenly among those that grow by leave."""
        growing = [one for one in self._all if one.grant is not None]
        for one in growing:
            if one.registered:
                one.give(allowance // len(growing) if one.enabled else 0)

    def ask(
        self,
        target: int,
        hard: bool,
        nodes: frozenset[int] | None = None,
        group: str | None = None,
        may_block: bool = True,
    ) -> Outcome:
        """Have `target` bytes freed; the other arguments are the fields of Context.

        Those that cannot keep to its limits are not asked. Soft: everyone else who has something is asked
        once, until there is enough; who returns less may be deferring. Hard: what is missing is offered again
        to those that gave their full share, the last time without regard to cost.

        A callback that asks in its turn gets nothing, as in the kernel, where who reclaims does not reclaim.
        """
        context = Context(hard=hard, nodes=nodes, group=group, may_block=may_block)
        me = threading.get_ident()
        if self._asker == me:
            return Outcome(0, 0)
        self._asker = me
        try:
            return self._ask(target, context)
        finally:
            if self._asker == me:
                self._asker = 0

    def _ask(self, target: int, context: Context) -> Outcome:
        parts = self._parts(context)
        self.gave = {}
        asked = freed = 0
        for attempt in range(PASSES if context.hard else 1):
            left = target - freed
            if left <= 0 or not parts:
                break
            able = [self._able(part, left) for part in parts]
            shares, due = _shares(parts, able, left, fair=attempt < PASSES - 1)
            gone = set()
            # Largest share first: one that gives more than it is asked must not always come before the same
            # others.
            for i in sorted(range(len(parts)), key=lambda i: -shares[i]):
                part, can, share = parts[i], able[i], shares[i]
                if not can or not part.shrinker.in_use:
                    continue
                if share <= 0 or freed >= target:
                    part.shrinker.carry(due[i], can, part.context)
                    continue
                asked += share
                got = self._call(part, share, due[i], can)
                freed += got
                if got < share:
                    gone.add(part)
            parts = [part for part in parts if part not in gone and part.shrinker.in_use]
        return Outcome(asked, freed)

    def _call(self, part: Part, share: int, due: int, can: int) -> int:
        """Ask one part, and keep count of it."""
        one, began = part.shrinker, self._clock()
        got = one.call(share, due, can, part.context)
        (one.hard if part.context.hard else one.soft).add(share, got, self._clock() - began)
        self.gave[one.name] = self.gave.get(one.name, 0) + got
        return got

    def count(self) -> None:
        """Ask everyone what it could free, for `status`."""
        for one in self._all:
            if one.in_use:
                one.freeable(0, Context())

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

    def _parts(self, context: Context) -> list[Part]:
        able = [one for one in self._all if one.in_use and one.heeds(context)]
        if context.nodes is None:
            return [Part(one, context) for one in able]
        places = [replace(context, nodes=frozenset((node,))) for node in sorted(context.nodes)]
        return [Part(one, place) for one in able for place in places]

    @staticmethod
    def _able(part: Part, left: int) -> int:
        """Bytes to reckon with; 0: not this time."""
        if not part.shrinker.in_use:
            return 0
        can = part.shrinker.freeable(left, part.context)
        soft = not part.context.hard and not part.context.limited
        return 0 if soft and part.shrinker.spared(can) else can


def _shares(parts: list[Part], able: list[int], target: int, fair: bool) -> tuple[list[int], list[int]]:
    """(bytes to ask of each part now, bytes due from each: its part of `target` and what it owes, or its
    share where it stands in for others).
    """
    owed = [part.shrinker.owes(can, part.context) for part, can in zip(parts, able, strict=True)]
    if len(parts) == 1:
        share = min(target, able[0])
        return [share], [share + owed[0]]
    weights = [
        can * (4 / part.shrinker.cost * part.shrinker.weight if fair else 1.0)
        for part, can in zip(parts, able, strict=True)
    ]
    total = sum(weights) or 1.0
    due = [target * weight / total + debt for weight, debt in zip(weights, owed, strict=True)]
    shares = split(target, due, able)
    return shares, [max(share, int(one)) for share, one in zip(shares, due, strict=True)]
