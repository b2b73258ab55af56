"""One registered shrinker: what it says, what it is owed, and how a bad one is contained.

Knows: one shrinker, behind one of the forms. Must not know: the others, how a target is shared, the policy.
Memory: one number for each NUMA node it owes for. Threads: its maker's until it is added to a ShrinkerSet,
then the one that asks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cacheserver.pressure.context import Context
from cacheserver.pressure.forms import BYTES_MAX, check, contained, form_of
from cacheserver.pressure.policy import MIB, Ledger
from cacheserver.pressure.shrinker import ObjectShrinker, RequestMemory, Shrinker
from cacheserver.pressure.tally import Tally

log = logging.getLogger("cacheserver.pressure")

STRIKES = 3  # raises or impossible answers in a row until a shrinker is left out
CARRY_MAX = 2  # times what a shrinker can free
# one large item may overshoot (memory-hog's are 31 MiB); more is a lie
OVERSHOOT_TIMES, OVERSHOOT_BYTES = 4, 64 * MIB
WEIGHT_MIN = 1 / 16
COST_MIN, COST_MAX = 1e-6, 1e6  # beyond, shares could not be told from nothing, or from everything
SKIPS_MAX = 30  # soft requests that one which gives nothing is spared in a row: 1.5 s


class Registration:
    """The handle that `register_shrinker` returns; its arguments are those of `Monitor.register_shrinker`."""

    def __init__(
        self,
        name: str,
        func: RequestMemory | Shrinker | ObjectShrinker,
        *,
        count: Callable[..., int] | None = None,
        cost: float | None = None,
        grant: Callable[[int], None] | None = None,
        ledger: Callable[[], tuple[int, ...]] | None = None,
    ) -> None:
        try:
            self._form = form_of(func, count)
            if grant is not None:
                check("grant", grant, 0)
            if ledger is not None:
                check("ledger", ledger)
            self.cost = self._form.cost if cost is None else cost
            if not COST_MIN <= self.cost <= COST_MAX:
                raise ValueError(f"cost must be above 0, {COST_MIN} to {COST_MAX}, not {self.cost!r}")
        except TypeError as error:
            raise TypeError(f"shrinker {name!r}: {error}") from error
        except ValueError as error:
            raise ValueError(f"shrinker {name!r}: {error}") from error
        self.name = name
        self.grant = grant
        self.ledger = ledger
        self.registered = False  # kept by the set it is in
        self.enabled = True
        self.hanging = False  # see turn.Callee
        self.last_ledger = Ledger()  # what stands for it while it hangs: its ledger may need the same lock
        self.strikes = 0
        self.soft, self.hard = Tally(), Tally()
        self.can_free = 0  # bytes, as it last said
        self.weight = 1.0  # halved when it claims more than the ledger shows
        self._left: dict[int | None, int] = {}  # bytes owed: by node, None: wherever they are
        self._counted = -1
        self._futile = self._skips = 0

    @property
    def in_use(self) -> bool:
        """Whether it is asked at all."""
        return self.registered and self.enabled and not self.hanging

    @property
    def node_aware(self) -> bool:
        """Whether it can keep to NUMA nodes."""
        return self._form.node_aware

    def heeds(self, context: Context) -> bool:
        """Whether it can keep to the limits of `context`: what it freed elsewhere would help nobody, and who
        cannot be told not to block might wait for a lock that the one who asks holds.
        """
        return (
            (context.nodes is None or self._form.node_aware)
            and (context.group is None or self._form.group_aware)
            and (context.may_block or self._form.takes_context)
        )

    def strike(self, why: str) -> None:
        """A raise or an impossible answer; the third in a row ends its use."""
        self.strikes += 1
        if self.strikes == 1:
            log.error("shrinker %s: %s; left out after %d in a row", self.name, why, STRIKES)
        if self.strikes >= STRIKES and self.enabled:
            self.enabled = False
            log.error("shrinker %s: failed %d times in a row; left out from now on", self.name, STRIKES)

    def freeable(self, unknown: int, context: Context) -> int:
        """What it says it can free, in bytes; `unknown` where it does not say."""
        try:
            can = self._form.freeable(context)
        except BaseException as error:
            self.strike(f"count raised {contained(error)}")
            return 0
        if can is None:
            return unknown
        can = min(can, BYTES_MAX)
        if not context.limited:  # else it is a part of what it has
            self.can_free = can
        return can

    def spared(self, can: int) -> bool:
        """Whether to leave out a soft request: it counts the same `can` bytes as ever, asked or not.

        What is deferred moves the count before long; an empty cache's own structures never do.
        """
        if not self._form.counts:
            return False
        if can != self._counted:
            self._counted, self._futile, self._skips = can, 0, 0
            return False
        if self._skips > 0:
            self._skips -= 1
            return True
        return False

    @property
    def carried(self) -> int:
        """Bytes that it owes from earlier requests, on all nodes together."""
        return sum(self._left.copy().values())  # a copy: anybody may look while somebody asks

    def owes(self, can: int, context: Context) -> int:
        """Bytes of earlier requests for the same place that it owes, at most twice the `can` it has now.

        Nothing for a group: what one group's cache stayed short of must not be taken from another's.
        """
        if context.group is not None:
            return 0
        return min(self._left.get(_place(context), 0), CARRY_MAX * can)

    def call(self, share: int, due: int, can: int, context: Context) -> int:
        """Ask for `share` bytes; the bytes freed as far as the answer can be believed.

        `due`: its part of the target and what was carried; what is left of it is carried on.
        """
        # Whoever asks without waiting may hold the lock that the ledger wants.
        before = self.read_ledger() if context.hard and context.may_block and self.ledger else None
        freed, left, waits, fault = self._form.request(share, due, can, context)
        self.carry(left, can, context)
        if freed > OVERSHOOT_TIMES * share + OVERSHOOT_BYTES:
            # Who has emptied all that it counted may say so; nobody else is spared for it.
            if freed > can:
                fault = fault or f"claims {freed} bytes when asked for {share}, of {can} that there were"
            freed = share
        if fault:
            self.strike(fault)
            return freed
        self.strikes = 0
        if freed > 0 or waits:
            self._futile = self._skips = 0
        elif not context.hard and not context.limited:
            self._futile += 1
            self._skips = min(2**self._futile - 2, SKIPS_MAX)
        if before is not None:
            self._verify(freed, before.own - self.read_ledger().own)
        return freed

    def carry(self, left: int, can: int, context: Context) -> None:
        """Have it owe `left` bytes from now on, at most twice the `can` it has."""
        if context.group is not None:
            return
        left = min(left, CARRY_MAX * can)
        if left > 0:
            self._left[_place(context)] = left
        else:
            self._left.pop(_place(context), None)

    def _verify(self, freed: int, shown: int) -> None:
        if freed > 2 * max(shown, 0) + MIB:
            if self.weight == 1.0:
                log.warning("shrinker %s: claims %d bytes freed, ledger shows %d", self.name, freed, shown)
            self.weight = max(WEIGHT_MIN, self.weight / 2)
        else:
            self.weight = min(1.0, self.weight * 1.25)

    def read_ledger(self) -> Ledger:
        """Its own, untouched and returning bytes; nothing where it keeps no ledger or fails."""
        if self.ledger is None:
            return Ledger()
        try:
            numbers = [max(0, int(nbytes)) for nbytes in self.ledger()]
            if max(numbers) > BYTES_MAX:
                raise ValueError("it holds more bytes than any machine has")
            own, untouched, returning = numbers if len(numbers) == 3 else [*numbers, 0]
            return Ledger(own, untouched, returning, late=len(numbers) == 3)
        except BaseException as error:
            self.strike(f"ledger raised {contained(error)}")
            return Ledger()

    def give(self, allowance: int) -> None:
        """Hand it its growth allowance in bytes, which replaces the last one."""
        if self.grant is None:
            return
        try:
            self.grant(allowance)
        except BaseException as error:
            self.strike(f"grant raised {contained(error)}")


def _place(context: Context) -> int | None:
    """The node a request is for; None for one that is for all."""
    return None if context.nodes is None else next(iter(context.nodes))
