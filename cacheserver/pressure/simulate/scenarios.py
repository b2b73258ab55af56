"""What happens on the made host: scenarios with a name, and one for every seed.

Knows: paths, caches' kinds, a seeded random number generator. Must not know: laws, the monitor. A name and a
limit, or a seed, always make the same scenario.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cacheserver.pressure.simulate.plant import GIB, MIB, Bound, CacheKind, Outage, Path, bound

LIMIT = 256 * MIB
# Limits of the random scenarios. A third of them is small: there a share of the limit is few bytes.
LIMITS = tuple(mib * MIB for mib in (64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536))
FASTEST = 2.4 * GIB  # bytes a second that one core faults in
# Of the limit, a second: what runs in a small group is small, too. At 64 MiB this is 0.5 GiB/s.
FASTEST_SHARE = 8.0
RANDOM_SECONDS = 30.0
LOOK = 0.005  # seconds between two looks beside a full cache
# GiB a second, as powers of ten: small items on a busy machine (1.2) to large ones on an idle one (10).
RELEASE = (0.08, 1.0)
LATE = 0.002  # seconds that a look comes late at most where a scenario does not say otherwise


@dataclass(frozen=True)
class Scenario:
    """All that happens, whatever the law does. Times in seconds."""

    name: str
    seconds: float
    bounds: tuple[Bound, ...]
    # One tuple for each process: the caches in it. Every process has a law of its own.
    processes: tuple[tuple[CacheKind, ...], ...]
    late: float = LATE
    stalls: tuple[float, ...] = ()  # when a PSI trigger fires
    outages: tuple[Outage, ...] = ()
    seed: int = 0  # of how late each look comes

    def jump(self) -> float:
        """The largest rise of others' demand, in bytes, that a release begun at once cannot make up.

        A rise counts in full over the time from one look until the first bytes are back; of what rises later
        the caches can return `release` bytes a second.
        """
        kind = max((cache for caches in self.processes for cache in caches), key=lambda one: one.start)
        blind = LOOK + self.late + max(cache.delay for caches in self.processes for cache in caches)
        return max(_jump(each, blind, kind.release) for each in self.bounds)


def _jump(of: Bound, blind: float, speed: float) -> float:
    """For all s <= t: the rise of demand - limit from s to t, less `speed` * (t - s - `blind`)."""
    points = sorted({*of.demand.times, *of.limit.times})
    ends = sorted({*points, *(point + blind for point in points)})
    starts = sorted({*points, *(point - blind for point in points)})
    before = [(at, _before(of, at)) for at in starts]
    largest, first = 0.0, 0
    longest = max(of.limit.values) / speed + blind  # after which a cache of any size has given all
    for end in ends:
        top = max(_before(of, end), of.demand.at(end) - of.limit.at(end))
        while first < len(before) and end - before[first][0] > longest:
            first += 1
        for at, low in before[first:]:
            if at > end:
                break
            largest = max(largest, top - low - speed * max(0.0, end - at - blind))
    return largest


def _before(of: Bound, at: float) -> float:
    """Demand less limit just before `at`."""
    at = max(at - 1e-9, 0.0)
    return of.demand.at(at) - of.limit.at(at)


# -- scenarios with a name --


def _one(
    name: str, seconds: float, where: Bound, limit: int, kind: CacheKind | None = None, **more: object
) -> Scenario:
    """One process with one cache that begins full: what it may hold beside the demand at the start."""
    start = int(max(0.0, 0.88 * limit - where.demand.at(0.0)))
    kind = replace(kind or CacheKind(), start=start)
    return replace(Scenario(name, seconds, (where,), ((kind,),)), **more)  # type: ignore[arg-type]


def _rate(limit: int, share: float) -> float:
    return min(FASTEST, share * limit)


def ramp(limit: int) -> Scenario:
    """A neighbour takes 30 % of the limit at 1 limit/s (2.4 GiB/s at most), holds it for 10 s and leaves."""
    n, top = 0.1 * limit, 0.4 * limit
    end = 10 + 0.3 * limit / _rate(limit, 1.0)
    path = [(10, n), (end, top), (end + 10, top), (end + 10, n)]
    return _one("ramp", end + 50, bound(limit, Path(path)), limit)


def small_items(limit: int) -> Scenario:
    """A neighbour takes half of the limit at 1.1 limit/s (GiB/s at most); the cache releases 1.2 GiB/s."""
    n, up = 0.1 * limit, 0.5 * limit / min(1.1 * GIB, 1.1 * limit)
    path = Path([(10, n), (10 + up, 6 * n), (20 + up, 6 * n), (20 + up, n)])
    return _one("small-items", up + 45, bound(limit, path), limit, CacheKind(release=1.2 * GIB))


def sawtooth(limit: int) -> Scenario:
    """20 % of the limit more within 2 s, and at once gone; every 20 s."""
    n, points = 0.1 * limit, []
    rise = 0.2 * limit / _rate(limit, 0.1)
    for at in range(5, 120, 20):
        points += [(at, n), (at + rise, n + 0.2 * limit), (at + rise, n)]
    return _one("sawtooth", 130, bound(limit, Path(points)), limit)


def leak(limit: int) -> Scenario:
    """0.2 % of the limit a second for four minutes."""
    return _one("leak", 250, bound(limit, Path([(5, 0.1 * limit), (245, 0.58 * limit)])), limit)


def bursts(limit: int) -> Scenario:
    """7.5 % of the limit for half a second every 5 s, at 4 limits/s."""
    n, points = 0.15 * limit, []
    size = 0.075 * limit
    for at in range(5, 35, 5):
        up = size / _rate(limit, 4.0)
        points += [(at, n), (at + up, n + size), (at + up + 0.5, n + size), (at + up + 0.5, n)]
    return _one("bursts", 40, bound(limit, Path(points)), limit)


def step(limit: int) -> Scenario:
    """5 % of the limit at one instant, three times."""
    n, points = 0.1 * limit, []
    for turn, at in enumerate((5, 15, 25)):
        points += [(at, n + turn * 0.05 * limit), (at, n + (turn + 1) * 0.05 * limit)]
    return _one("step", 35, bound(limit, Path(points)), limit)


def infeasible(limit: int) -> Scenario:
    """25 % of the limit at one instant: more than any reserve."""
    path = Path([(5, 0.1 * limit), (5, 0.35 * limit)])
    return _one("infeasible", 15, bound(limit, path), limit)


def flood(limit: int) -> Scenario:
    """Page cache fills whatever is free, twice; reclaim begins to stall tasks; programs grow into it."""
    cache = [(5, 0.0), (8, limit), (30, limit), (30, 0.0), (40, 0.0), (42, limit)]
    stall = [(6, 0.0), (10, 6.0), (30, 6.0), (40, 0.0)]
    demand = [(12, 0.1 * limit), (14, 0.25 * limit), (28, 0.25 * limit), (30, 0.1 * limit)]
    where = bound(limit, Path(demand), page_cache=Path(cache), stall=Path(stall))
    return _one("flood", 50, where, limit)


def resize(limit: int) -> Scenario:
    """The limit goes down to 60 % in steps of 2 % every 0.1 s, later up at once."""
    points = [(10.0, float(limit))]
    for turn in range(20):
        at = 10.0 + turn * 0.1
        points += [(at, (1 - 0.02 * turn) * limit), (at, (0.98 - 0.02 * turn) * limit)]
    points += [(20.0, 0.6 * limit), (20.0, float(limit))]
    return _one("resize", 40, bound(Path(points), int(0.1 * limit)), limit)


def stalls(limit: int) -> Scenario:
    """PSI alone: tasks stall for 10 s while usage stands still."""
    path = Path([(10, 0.0), (11, 12.0), (20, 12.0), (25, 0.0)])
    where = bound(limit, int(0.1 * limit), stall=path)
    fired = tuple(10.0 + 2.0 * turn for turn in range(6))
    return _one("stalls", 35, where, limit, stalls=fired)


def quiet(limit: int) -> Scenario:
    """Ten minutes in which nothing happens but small change: 0.1 % of the limit up and down."""
    points = [(at / 2, (0.101 if at % 2 else 0.1) * limit) for at in range(1200)]
    return _one("quiet", 600, bound(limit, Path(points)), limit)


def quiet_host(limit: int) -> Scenario:
    """Two hours of quiet, and one burst of 6 % of the limit ten minutes before the end."""
    n = 0.1 * limit
    up = 6600 + 0.06 * limit / _rate(limit, 4.0)
    path = Path([(6600, n), (up, 1.6 * n), (up + 0.5, 1.6 * n), (up + 0.5, n)])
    return _one("quiet-host", 7200, bound(limit, path), limit)


def two(limit: int) -> Scenario:
    """Two servers under one limit, both new."""
    return _pair("two", limit, (0.0, 0.0))


def latecomer(limit: int) -> Scenario:
    """Two servers under one limit, one of them full when the other starts."""
    return _pair("latecomer", limit, (0.78, 0.0))


def _pair(name: str, limit: int, starts: tuple[float, float]) -> Scenario:
    n = 0.1 * limit
    path = Path([(40, n), (42, n + 0.2 * limit), (55, n + 0.2 * limit), (55, n)])
    caches = tuple((CacheKind(start=int(share * limit)),) for share in starts)
    return Scenario(name, 100, (bound(limit, path),), caches, seed=1)


def late_return(limit: int, delay: float) -> Scenario:
    """A neighbour takes 20 % at 5 % of the limit a second, and what caches give up returns `delay` later."""
    n = 0.1 * limit
    path = Path([(10, n), (14, n + 0.2 * limit), (24, n + 0.2 * limit), (24, n)])
    return _one(f"return-{delay:g}s", 44, bound(limit, path), limit, CacheKind(delay=delay))


def beside(limit: int, answer: str) -> Scenario:
    """A ramp, with a second cache in the process that lies about what it freed, or raises, or is slow."""
    plain = ramp(limit)
    good = replace(plain.processes[0][0], start=int(0.6 * limit))
    bad = CacheKind(fill=0.0, start=int(0.1 * limit), answer=answer)
    if answer == "slow":
        bad = replace(bad, answer="honest", release=256 * MIB, defer=16 * MIB)
    return replace(plain, name=answer, processes=((bad, good),))


def outage(limit: int, kind: str) -> Scenario:
    """The source is stale, missing or broken for 3 s; the neighbour grows 2 % meanwhile and 10 % after it."""
    n = 0.1 * limit
    path = Path([(10, n), (13, n + 0.02 * limit), (14, n + 0.1 * limit)])
    return _one(kind, 30, bound(limit, path), limit, outages=(Outage(10.0, 13.0, kind),))


NAMED: dict[str, Callable[[int], Scenario]] = {
    "ramp": ramp,
    "small-items": small_items,
    "sawtooth": sawtooth,
    "leak": leak,
    "bursts": bursts,
    "step": step,
    "infeasible": infeasible,
    "flood": flood,
    "resize": resize,
    "stalls": stalls,
    "quiet": quiet,
    "quiet-host": quiet_host,
    "two": two,
    "latecomer": latecomer,
    "return-0.05s": lambda limit: late_return(limit, 0.05),
    "return-0.5s": lambda limit: late_return(limit, 0.5),
    "return-2s": lambda limit: late_return(limit, 2.0),
    "lies": lambda limit: beside(limit, "lies"),
    "raises": lambda limit: beside(limit, "raises"),
    "slow": lambda limit: beside(limit, "slow"),
    "stale": lambda limit: outage(limit, "stale"),
    "missing": lambda limit: outage(limit, "missing"),
    "broken": lambda limit: outage(limit, "broken"),
}
LONG = frozenset({"quiet-host"})  # minutes of computing: not among "all"


# -- a scenario for every seed --


def drawn(seed: int, limit: int = 0) -> Scenario:
    """The random scenario of `seed`: half a minute of ramps, bursts, leaks, saw-teeth, steps, floods of page
    cache, stalls and resizes, any of which may coincide. `limit` in bytes; 0: drawn, too.
    """
    rng = random.Random(f"pressure {seed}")
    drawn_limit = rng.choice(LIMITS)
    limit = limit or drawn_limit
    base = rng.uniform(0.05, 0.35) * limit
    changes: list[tuple[float, float]] = []  # (time, slope change in bytes/s), and steps
    steps: list[tuple[float, float]] = []
    now = rng.uniform(1.0, 5.0)
    low = rng.uniform(0.7, 0.95) if rng.random() < 0.15 else 1.0  # what a resize leaves of the limit
    room = (low - 0.15) * limit - base  # so that there is something left to give when events coincide
    held: list[tuple[float, float]] = []
    while now < 0.9 * RANDOM_SECONDS:
        share = min(rng.choice(EVENTS)(rng) * limit, room - sum(size for end, size in held if end > now))
        if share > 0:
            rise, hold = _one_event(rng, share, limit)
            changes += [(now, share / rise), (now + rise, -share / rise)] if rise else []
            if not rise:
                steps.append((now, share))
            steps.append((now + rise + hold, -share))
            held.append((now + rise + hold, share))
        now += rng.expovariate(1 / 3.0)
    demand = _sum(base, changes, steps)
    limits = _resizes(rng, limit, low) if low < 1.0 else Path([(0.0, limit)])
    cached, stall = _floods(rng, limit)
    where = bound(limits, demand, page_cache=cached, stall=stall)
    delay = rng.choice((0.0, 0.0, 0.0, 0.05, 0.5, rng.uniform(0.0, 2.0))) if rng.random() < 0.4 else 0.0
    kind = CacheKind(
        fill=10 ** rng.uniform(1.7, 3.0) * MIB,
        release=10 ** rng.uniform(*RELEASE) * GIB,
        delay=delay,
        lead=rng.choice((0, 0, 1, 4)) * MIB,
    )
    late = 10 ** rng.uniform(-4.0, -2.5)
    return _one(f"seed {seed}", RANDOM_SECONDS, where, limit, kind, late=late, seed=seed)


# Shares of the limit that one event takes: small change, bursts as large as the common reserve leaves room
# for, ramps to much more.
EVENTS: Sequence[Callable[[random.Random], float]] = (
    lambda rng: rng.uniform(0.001, 0.02),
    lambda rng: rng.uniform(0.01, 0.075),
    lambda rng: rng.uniform(0.05, 0.40),
)


def _one_event(rng: random.Random, size: float, limit: int) -> tuple[float, float]:
    """(seconds of rising, seconds of holding) of an event of `size` bytes. 0 s of rising: at one instant."""
    if size < 0.05 * limit and rng.random() < 0.2:
        return 0.0, rng.uniform(0.1, 5.0)
    fastest = min(FASTEST, FASTEST_SHARE * limit)
    rate = fastest * 10 ** rng.uniform(-3.0, 0.0)
    return size / rate, rng.choice((0.1, 0.5, 2.0, 10.0)) * rng.uniform(0.5, 1.5)


def _sum(base: float, changes: list[tuple[float, float]], steps: list[tuple[float, float]]) -> Path:
    """The path that begins with `base` and has these changes of slope and these steps."""
    events = [(at, slope, 0.0) for at, slope in changes] + [(at, 0.0, size) for at, size in steps]
    points, at, value, slope = [(0.0, base)], 0.0, base, 0.0
    for time, more, size in sorted(events):
        value += slope * (time - at)
        at = time
        points.append((at, value))
        slope += more
        if size:
            value += size
            points.append((at, value))
    return Path((time, max(0.0, number)) for time, number in points)


def _resizes(rng: random.Random, limit: int, low: float) -> Path:
    """Down to `low` of the limit in steps, as the documentation advises, and up at once."""
    at = rng.uniform(2.0, 15.0)
    points = [(at, float(limit))]
    value = 1.0
    while value > low:
        points += [(at, value * limit), (at, (value - 0.02) * limit)]
        value -= 0.02
        at += rng.uniform(0.1, 0.5)
    points += [(at + 10, value * limit), (at + 10, limit)]
    return Path(points)


def _floods(rng: random.Random, limit: int) -> tuple[Path, Path]:
    """Page cache that comes and goes, and the stalls of its reclaim."""
    cached: list[tuple[float, float]] = [(0.0, 0.0)]
    stall: list[tuple[float, float]] = [(0.0, 0.0)]
    if rng.random() < 0.3:
        at = rng.uniform(2.0, 20.0)
        size, worst = rng.uniform(0.1, 1.0) * limit, rng.choice((0.0, 0.5, 3.0, 12.0))
        cached += [(at, 0.0), (at + 2, size), (at + 12, size), (at + 12, 0.0)]
        stall += [(at + 1, 0.0), (at + 4, worst), (at + 12, worst), (at + 20, 0.0)]
    return Path(cached), Path(stall)
