"""All shrinkers of one monitor: how a target is split among them, and what becomes of the rest.

Knows: registrations, bytes. Must not know: readings, the policy's law, what a shrinker frees.
Memory: the registrations. Threads: `add` and `remove` from any; the rest from one at a time, which turns sees
to. One that hangs in a callback is left alone until that returns.

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
from cacheserver.pressure.policy import PAGE, Ledger
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.tally import ShrinkerStatus
from cacheserver.pressure.turn import Turns

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
    """All registrations of one monitor, whose turn to tick is one of `turns`; None: nobody else's."""

    def __init__(self, turns: Turns | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._turns = turns or Turns()
        self._clock = clock
        self.gave: dict[str, int] = {}  # what each freed of the last target
        self._lock = threading.Lock()
        self._all: tuple[Registration, ...] = ()  # replaced, never changed: readers need no lock
        self._asker = 0  # identity of the thread that asks
        self._first = 0  # counts up: who is the first to have what cannot be shared evenly

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

    def after_fork(self) -> None:
        """In a forked child: the lock, and the identity of who asks, may be a thread's that is not there."""
        self._lock = threading.Lock()
        if self._asker != threading.get_ident():
            self._asker = 0

    def ledger(self) -> Ledger:
        """The sum of all ledgers; those left out count too, their memory is real."""
        own = untouched = returning = 0
        late = False
        for one in self._all:
            if not one.registered:  # it may be removed while another's callback runs
                continue
            if not one.hanging:
                one.last_ledger = self._turns.call(one, one.read_ledger)
            part = one.last_ledger
            own += part.own
            untouched += part.untouched
            returning += part.returning
            late = late or part.late
        return Ledger(own, untouched, returning, late)

    def grant(self, allowance: int) -> None:
        """Share `allowance` bytes evenly among those that grow by leave.

        In whole pages, since less is of no use to anybody; what is left over goes to another one each time.
        """
        growing = [one for one in self._all if one.grant is not None and one.registered and not one.hanging]
        able = [one for one in growing if one.enabled]
        shares = dict.fromkeys(growing, 0)
        if able:
            even = allowance // len(able) // PAGE * PAGE
            shares.update(dict.fromkeys(able, even))
            if over := allowance - even * len(able):
                shares[able[self._first % len(able)]] += over
                self._first += 1
        for one, share in shares.items():
            if one.registered and not one.hanging:
                self._turns.call(one, one.give, share)

    def ask(self, target: int, context: Context, near: Sequence[int] = ()) -> Outcome:
        """Have `target` bytes freed within the limits of `context`; who cannot keep to them is not asked.

        `near`: the NUMA nodes where bytes are missing, (): anywhere. Who can tell nodes apart is asked for
        what lies there and no more, everybody else as ever: so the kernel calls shrinkers that are not
        NUMA-aware whichever node it reclaims.

        Soft: everyone who has something is asked once, until there is enough; who returns less may be
        deferring. Hard: what is missing is offered again to those that gave their full share, the last time
        without regard to cost.

        A callback that asks in its turn gets nothing, as in the kernel, where who reclaims does not reclaim.
        """
        me = threading.get_ident()
        if self._asker == me:
            return Outcome(0, 0)
        self._asker = me
        try:
            return self._ask(target, context, self._parts(context, near))
        finally:
            if self._asker == me:
                self._asker = 0

    def _ask(self, target: int, context: Context, parts: list[Part]) -> Outcome:
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
        got = self._turns.call(one, one.call, share, due, can, part.context)
        (one.hard if part.context.hard else one.soft).add(share, got, self._clock() - began)
        self.gave[one.name] = self.gave.get(one.name, 0) + got
        return got

    def count(self) -> None:
        """Ask everyone what it could free, for `status`."""
        for one in self._all:
            if one.in_use:
                self._turns.call(one, one.freeable, 0, Context())

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

    def _parts(self, context: Context, near: Sequence[int]) -> list[Part]:
        nodes = sorted(near if context.nodes is None else context.nodes)
        places = [replace(context, nodes=frozenset((node,))) for node in nodes] or [context]
        return [
            Part(one, place)
            for one in self._all
            if one.in_use and one.heeds(context)
            for place in (places if one.node_aware else (context,))
        ]

    def _able(self, part: Part, left: int) -> int:
        """Bytes to reckon with; 0: not this time."""
        one = part.shrinker
        if not one.in_use:
            return 0
        can = self._turns.call(one, one.freeable, left, part.context)
        soft = not part.context.hard and not part.context.limited
        return 0 if soft and one.spared(can) else can


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
