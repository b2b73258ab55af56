"""The made host: what others take is given as paths over time, caches fill and release, time is a number.

Knows: bytes, seconds. Must not know: laws, the monitor, scenarios. One thread. Deterministic: the same calls
give the same numbers.

The kernel's part in it: memory is charged when touched; clean page cache goes as soon as somebody needs the
room; what a cache has given up is counted until it has returned. Headroom here is what is left when all clean
page cache is gone: below zero somebody is killed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cacheserver.pressure.source import Reading, Watch

MIB = 1 << 20
GIB = 1 << 30
PAGE = MIB
PIECE = 4 * MIB  # what a release gives back at a time: usage is seen to fall while it lasts
NEVER = float("inf")


class Path:
    """A number over time: straight lines between points, a step where two points have the same time."""

    __slots__ = ("_at", "times", "values")

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        """`points`: (seconds, value) in order of time; before the first and after the last it is constant."""
        self.times: list[float] = []
        self.values: list[float] = []
        for at, value in points:
            self.times.append(at)
            self.values.append(value)
        self._at = 0  # where the last look was: looks go forward in time

    def at(self, now: float) -> float:
        """The value at `now`; at a step the one after it."""
        times, values = self.times, self.values
        if len(values) == 1:
            return values[0]
        i = self._at
        if times[i] > now:
            i = max(bisect_right(times, now) - 1, 0)
        last = len(times) - 1
        while i < last and times[i + 1] <= now:
            i += 1
        self._at = i
        if i == last or now <= times[i]:
            return values[i]
        return values[i] + (values[i + 1] - values[i]) * (now - times[i]) / (times[i + 1] - times[i])

    def next(self, now: float) -> float:
        """The time of the first point after `now`; NEVER when there is none. Call `at(now)` before."""
        i = self._at + 1
        return self.times[i] if i < len(self.times) else NEVER


def constant(value: float) -> Path:
    """A path that does not move."""
    return Path([(0.0, value)])


@dataclass(frozen=True)
class Bound:
    """One bound on memory. Sizes in bytes, `stall` in percent (PSI some avg10), as paths over time."""

    name: str
    limit: Path
    demand: Path  # what others hold and the kernel cannot take back
    page_cache: Path  # clean, as long as there is room for it
    stall: Path
    throttles: Path
    ooms: Path


def bound(
    limit: Path | int,
    demand: Path | int,
    *,
    name: str = "cgroup /made",
    page_cache: Path | int = 0,
    stall: Path | int = 0,
    throttles: Path | int = 0,
    ooms: Path | int = 0,
) -> Bound:
    """A bound; numbers stand for paths that do not move."""
    given = (limit, demand, page_cache, stall, throttles, ooms)
    return Bound(name, *(each if isinstance(each, Path) else constant(each) for each in given))


@dataclass(frozen=True)
class CacheKind:
    """How a cache behaves. Bytes, seconds, bytes a second."""

    fill: float = 300 * MIB  # how fast its clients would fill it
    release: float = 8 * GIB  # a hard request's speed; 1 MiB takes 0.07 to 0.1 ms when the machine is idle
    defer: float = 256 * MIB  # how fast it pays a soft request's debt
    delay: float = 0.0  # from giving up to the host having it back
    lead: int = 0  # pages taken ahead of need, beyond the one being filled, in bytes
    answer: str = "honest"  # "lies": frees nothing and says it has; "raises"
    start: int = 0  # what it holds at the beginning
    most: int = 1 << 60  # what it would hold at most


class Cache:
    """A cache of the made host. Grows as far as granted and no faster than it is filled."""

    def __init__(self, kind: CacheKind, plant: Plant) -> None:
        self.kind = kind
        self._plant = plant
        self.own = kind.start  # touched, as the host counts it
        self.untouched = 0
        self.leave = 0
        self.debt = 0  # of soft requests
        self.returning = 0  # given up, not yet back at the host
        self._due: deque[tuple[float, int]] = deque()  # when what comes back
        self._part = 0.0  # of a byte, so that nothing is lost in short steps
        self.shrinks = 0

    # -- the face to the law --

    def shrink(self, target: int, hard: bool) -> int:
        """Free `target` bytes; the clock runs meanwhile. RuntimeError where its kind is to raise."""
        if target <= 0:
            return 0
        self.shrinks += 1
        if self.kind.answer == "raises":
            raise RuntimeError("a made failure")
        if self.kind.answer == "lies":
            return target
        if not hard:
            self.debt = max(self.debt, target)
            return 0
        pages = min(-(-target // PAGE) * PAGE, self.own)
        freed = 0
        while freed < pages:
            piece = min(PIECE, pages - freed)
            self._give(piece)
            freed += piece
            self._plant.advance(self._plant.now + piece / self.kind.release)
        self.debt = max(0, self.debt - freed)
        return freed

    def grant(self, nbytes: int) -> None:
        """It may take `nbytes` more from now on."""
        self.leave = nbytes

    def count(self) -> int:
        """What it says it could free, in bytes."""
        return self.own

    def ledger(self) -> tuple[int, ...]:
        """(touched, taken and not yet touched, given up and not yet back), in bytes; the last one only where
        there is such.
        """
        if self.kind.delay > 0:
            return self.own, self.untouched, self.returning
        return self.own, self.untouched

    # -- time --

    def hungry_at(self, now: float) -> float:
        """When its leave will be used up; NEVER when it does not want more, or has none to use up."""
        if self.own >= self.kind.most or self.kind.fill <= 0 or (not self.untouched and self.leave < PAGE):
            return NEVER
        return now + (self.untouched + self.leave // PAGE * PAGE) / self.kind.fill

    @property
    def hungry(self) -> bool:
        """Whether it wants to grow and may not."""
        return not self.untouched and self.leave < PAGE and self.own < self.kind.most and self.kind.fill > 0

    def next_return(self) -> float:
        """When the next bytes come back to the host."""
        return self._due[0][0] if self._due else NEVER

    def live(self, now: float, past: float) -> None:
        """What happens within the `past` seconds before `now`."""
        while self._due and self._due[0][0] <= now:
            self.returning -= self._due.popleft()[1]
        if self.debt:
            paid = min(self.debt, self.own, int(self.kind.defer * past) + 1)
            self.debt -= paid
            self._give(paid)
        if not self.untouched and self.leave < PAGE:
            return
        wanted = min(self.kind.fill * past + self._part, self.kind.most - self.own)
        touched = int(wanted)
        self._part = wanted - touched
        if touched > self.untouched:
            need = touched - self.untouched + self.kind.lead
            taken = min(-(-need // PAGE), self.leave // PAGE) * PAGE
            self.leave -= taken
            self.untouched += taken
        touched = min(touched, self.untouched)
        self.untouched -= touched
        self.own += touched

    def _give(self, nbytes: int) -> None:
        self.own -= nbytes
        if self.kind.delay > 0 and nbytes:
            self.returning += nbytes
            self._due.append((self._plant.now + self.kind.delay, nbytes))


class Plant:
    """Bounds, caches, and the time. Keeps count of what went below zero and of what was used."""

    def __init__(self, bounds: Sequence[Bound], kinds: Iterable[CacheKind]) -> None:
        self.now = 0.0
        self.bounds = bounds
        self.caches = [Cache(kind, self) for kind in kinds]
        self.least = NEVER  # the smallest headroom so far, bytes
        self.below = 0.0  # seconds with headroom below zero
        self.used = 0.0  # byte-seconds held by caches
        self.usable = 0.0  # byte-seconds that who knows the future would have held: see _account
        self._ideal = float(sum(cache.own for cache in self.caches))
        self._fill = sum(cache.kind.fill for cache in self.caches)
        self._next = 0.0  # the next point of any path
        self._now_at = [(each.limit.at(0.0), each.demand.at(0.0)) for each in bounds]  # of each, at `now`
        self._was = self.headroom()

    def clock(self) -> float:
        """Now, in seconds; a monitor's clock."""
        return self.now

    def held(self) -> int:
        """What the caches hold of the host, in bytes, including what is on its way back."""
        return sum([cache.own + cache.returning for cache in self.caches])

    def headroom(self) -> float:
        """Bytes left at the tightest bound when all clean page cache is gone."""
        return min([limit - demand for limit, demand in self._now_at]) - self.held()

    def advance(self, until: float) -> None:
        """Let time pass until `until`; nobody looks meanwhile."""
        while self.now < until:
            if self.now >= self._next:
                self._next = self._find_next()
            step = min(until, self._next)
            for cache in self.caches:
                step = min(step, cache.next_return())
            past = step - self.now
            self.now = step
            self._now_at = [(each.limit.at(step), each.demand.at(step)) for each in self.bounds]
            for cache in self.caches:
                cache.live(step, past)
            self._account(past)

    def _find_next(self) -> float:
        soonest = NEVER
        for bound in self.bounds:
            for path in (bound.limit, bound.demand):
                path.at(self.now)
                soonest = min(soonest, path.next(self.now))
        return soonest

    def _account(self, past: float) -> None:
        left = self.headroom()
        if left < self.least:
            self.least = left
        if left < 0 or self._was < 0:
            self.below += past
        self._was = left
        self.used += sum([cache.own for cache in self.caches]) * past
        # Who knows the future leaves 2 % free, gives way in no time, and is filled no faster than the caches.
        room = min([0.98 * limit - demand for limit, demand in self._now_at])
        self._ideal = max(0.0, min(room, self._ideal + self._fill * past))
        self.usable += self._ideal * past

    def readings(self) -> list[Reading]:
        """What the kernel's files would say now."""
        return [self.reading(number) for number in range(len(self.bounds))]

    def reading(self, number: int) -> Reading:
        """What they would say of one bound."""
        now, bound = self.now, self.bounds[number]
        limit, demand = (int(value) for value in self._now_at[number])
        firm = demand + self.held()
        cached = max(0, min(int(bound.page_cache.at(now)), limit - firm))
        return Reading(
            bound.name, limit, firm + cached, cached, bound.stall.at(now),
            int(bound.throttles.at(now)), int(bound.ooms.at(now)),
        )  # fmt: skip


@dataclass(frozen=True)
class Outage:
    """From `start` to `end` (seconds) the source is "stale" (the last figures, marked), "missing" (no bound
    at all) or "broken" (reading raises)."""

    start: float
    end: float
    kind: str


class MadeSource:
    """The source of a made host's readings, in the monitor's terms."""

    name = "made"

    def __init__(self, plant: Plant, outages: Sequence[Outage] = ()) -> None:
        self._plant = plant
        self._outages = outages
        self._last: list[Reading] = []

    def _outage(self) -> str:
        now = self._plant.now
        return next((each.kind for each in self._outages if each.start <= now < each.end), "")

    def read(self, now: float) -> Sequence[Reading]:
        """Every bound, or what an outage leaves of it."""
        kind = self._outage() if self._outages else ""
        if kind == "broken":
            raise OSError("a made failure")
        if kind == "missing":
            return []
        if kind == "stale":
            return [reading._replace(stale=True) for reading in self._last]
        self._last = self._plant.readings()
        return self._last

    def quick(self, last: Reading) -> Reading | None:
        """The limit and usage of one bound; None during an outage."""
        if self._outages and self._outage():
            return None
        for number, bound in enumerate(self._plant.bounds):
            if bound.name == last.name:
                limit, usage, *_ = self._plant.reading(number)[1:]
                return last._replace(limit=limit, usage=usage)
        return None

    def watches(self) -> Sequence[Watch]:
        """Nothing to wait for: a made host has no descriptors."""
        return ()

    def close(self) -> None:
        """Nothing to close."""
