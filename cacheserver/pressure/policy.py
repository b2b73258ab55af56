"""The control law: readings, the ledger, the time and the last state in; a Decision and the next state out.

Knows: arithmetic on bytes and seconds. Must not know: clocks, files, threads, shrinkers. Pure: the same
arguments give the same answer and nothing is changed in place, so that a run can be replayed and a reading
can be judged again.

For every bound b (the host, each cgroup), in bytes:

    headroom  A = limit - usage + reclaimable - untouched         negative = deficit
    due       I = returning                                       given up, on its way back to the host
    demand    n = limit - A - own - I                             what others use
    reserve   S = clamp(max(prior * 2^(-t / 1800 s), F + 1.25 D), low, high)
    ahead     P = min(max(H * g, rise within the lag), S)         what others take before a release is seen

D is the largest rise of n seen in a short window, g the smoothed speed of its rise, H the reaction time, F
the floor; the window reaches over the lag, the time that bytes were seen to need to return. The bound with
the smallest A - S binds.
HARD: A + I - P < F, or A + I < S/2, or others would be at F before soft requests had paid, or the kernel has
counted trouble at a bound whose reserve is touched.
SOFT: A + I < S - lean. GROW: A > 1.03 S - lean: who holds little leans on who holds more. What is due is
asked for once; nobody grows into it before it is there. While tasks stall, page cache counts less: nobody
grows into it, and caches are asked for a hundredth now and then, no more: it would fill whatever is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from cacheserver.pressure.source import Reading

MIB = 1 << 20
GIB = 1 << 30

PAGE = MIB  # the store takes and releases memory in this unit: a smaller allowance is of no use to it

# -- the reserve, as a share of the limit --
PRIOR_SMALL = 0.065  # up to SMALL: there 10 % would be most of what the interpreter leaves to the cache
PRIOR_LARGE = 0.10  # from LARGE on: the share at which OSv, ClickHouse and Dragonfly start
SMALL = 512 * MIB
LARGE = 4 * GIB
RESERVE_LOW = 0.06  # what a long quiet may teach; at 3 % a first burst after a quiet hour went below zero
RESERVE_HIGH = 0.15  # what violence may teach; beyond it the cache pays more than the neighbours gain
RESERVE_MIN = 6 * MIB  # six pages: the store's own steps must not reach the floor, nor a burst of 10 ms
RESERVE_MIN_SHARE = 0.25  # but never more than this share of a tiny limit
FLOOR = 0.02  # below it the next reading may be too late; always under half the reserve (0.06 / 2)
FLOOR_MAX = 32 * MIB  # about 13 ms of one core faulting at 2.4 GiB/s: one reaction time
# Where memory returns late the reserve alone meets what others take meanwhile, in small groups, too.
PRIOR_LATE = 0.135  # from LAG_LONG on; 0.145 cost one point of memory and saved 1 of 196 made runs
RESERVE_HIGH_LATE = 0.20  # 0.25, with a little more prior: three points of memory for 1 of 31 runs tried
LAG_LONG = 0.1  # seconds: from here on nothing is back before a burst is over
# seconds in which both the prior and what was learnt lose half their weight: a job that comes every few
# minutes is remembered, last night's is not
HALF_LIFE = 1800.0
JUMP_MARGIN = 1.25  # the next jump may be a quarter larger than the largest seen

# -- measuring what others take --
WINDOW = 0.02  # seconds; a rise counts over one to two windows: twice the usual reaction to a full cache
MIN_SAMPLE = 0.001  # seconds; over less, page-wise charging looks like great speed
SMOOTHING = 0.4  # weight of the newest sample of g at least; rises are believed quickly
SMOOTHING_TIME = 0.05  # seconds after which the newest sample is believed wholly

LAG_MAX = 2.0  # seconds: what takes longer to return is not on its way, it is kept
LAG_WINDOW = 0.6  # of the lag: a rise counts over one to two windows, so about one lag
LAG_FIRST = 0.05  # seconds: at first, who counts what is on its way is taken to return it so late
LAG_HALF_LIFE = 60.0  # seconds; a lag is a matter of the allocator and the load, not of the last burst

# -- acting --
# seconds from the end of a tick to bytes back at the host: wake-up, interpreter lock, release
REACTION = 0.010
DEADBAND = 0.03  # of S: between S and 1.03 S nothing changes, so that shrink and growth do not alternate
# Of several servers under one limit each would keep for ever what it got first: all see the same headroom.
# So one that holds little of what is used grows a little into the reserve, and those that hold more refill
# it. The difference between 60 and 40 % of it all must exceed deadband and page.
LEAN = 1 / 3  # of S at most: well above the half of S where hard requests begin
LEAN_FROM = 0.6  # of what is used: who holds more is alone, or the larger one
GROW_SHARE = 0.5  # of the surplus at once: what others take between two ticks must find the other half
GROW_STEP = 256 * MIB  # bytes of leave at once: about 0.1 s of faulting
# ... or an eighth of a surplus of gigabytes, up to GROW_MAX: small values of many sizes take a page for each
# size in each shard (110 in the 4 of two workers), and a monitor that waits for a processor answers late.
# No more than that: several servers are each given leave out of the same surplus.
GROW_FAR = 1 / 8
GROW_MAX = 512 * MIB
GROW_HOLD = 0.5  # seconds without growth after a hard shrink: a ramp seldom ends with its first step
STALL_GROW = 1.0  # percent avg10: beginning stalls forbid growth where A < 2 S
STALL_FULL = 10.0  # percent avg10 at which page cache no longer counts as free
SOFT_INTERVAL = 0.05  # seconds between soft requests: the last one is being paid meanwhile
# bytes a second that a cache pays of a soft request: a share of its loop, a fifth of the slowest release
SOFT_PACE = 256 * MIB
STALL_INTERVAL = 2.0  # seconds between requests for a stall alone: one window of the trigger
STALL_SHARE = 0.01  # of the own bytes: Senpai's step
# of S: where memory returns late, more than this missing within a lag is asked hard; less is upkeep
LATE_SHARE = 0.05
MEDIUM_SHARE = 0.75  # of S: below it a soft request is more than upkeep

# -- the next reading --
# bytes a second that a few cores can take (2.4 GiB/s a core): how soon half of S could be gone
FASTEST_FAULTING = 8 * GIB
TICK_MIN = 0.005  # seconds; a wake-up costs about 0.06 ms
TICK_NEAR = 0.05  # seconds at most while A < 2 S: the interval of soft requests
TICK_MAX = 0.25  # seconds at most: an eighth of a trigger's window, and four wake-ups a second cost nothing
TICK_ALERT = 0.001  # seconds, while growth is held after a hard request: there the next step is due


class Level(IntEnum):
    """How much pressure there is, in the words of mempressure."""

    NONE = 0
    LOW = 1  # the reserve is touched: soft requests
    MEDIUM = 2  # a quarter of the reserve is gone, or tasks stall
    CRITICAL = 3  # hard requests
    OOM = 3  # mempressure's name for it


class Ledger(NamedTuple):
    """What the shrinkers hold, in bytes."""

    own: int = 0  # resident
    untouched: int = 0  # taken with leave, not yet charged by the host
    returning: int = 0  # given up, still charged: known by who gave it up, never guessed from usage
    late: bool = False  # somebody keeps count of `returning`: its memory may take time to return


class Track(NamedTuple):
    """What is remembered of one bound."""

    at: float  # when `demand` was measured
    demand: int  # n
    speed: float  # g, bytes a second, >= 0
    jump: float  # D, bytes, decayed to `at`
    low: int  # smallest n in the running window
    low_before: int  # and in the one before
    window_at: float
    prior_at: float  # when the prior last had its full weight
    throttles: int
    ooms: int


class Lag(NamedTuple):
    """How long bytes that were given up are on their way."""

    at: float = 0.0  # seconds; when this was last carried on
    own: int = 0  # the ledger then, in bytes
    returning: int = 0
    waiting: int = 0  # of the bytes that were on their way at `since`, so many still are
    since: float = 0.0
    longest: float = 0.0  # seconds, decayed to `at`


class State(NamedTuple):
    """What one decision hands to the next. Never changed in place."""

    tracks: Mapping[str, Track] = {}
    hold_until: float = 0.0
    soft_at: float = -1e9
    stall_at: float = -1e9
    lag: Lag = Lag()


class Decision(NamedTuple):
    """What to do now, and why. Sizes in bytes, times in seconds."""

    level: Level
    headroom: int  # of the binding bound, reserve not subtracted; negative = deficit
    reserve: int
    target: int  # bytes to ask of the shrinkers now; 0 = none
    hard: bool
    allowance: int  # bytes the shrinkers together may take until the next decision
    binding: str  # name of the bound with the least surplus
    limit: int  # of that bound
    usage: int
    ceiling: int  # bytes the shrinkers together may hold under this bound, >= 0
    tick: float  # seconds until the next reading
    lean: int = 0  # bytes of the reserve that a small process leaves to larger ones to keep free


UNBOUNDED = Decision(Level.NONE, 0, 0, 0, False, 0, "none", 0, 0, 0, TICK_MAX)


class _Verdict(NamedTuple):
    """One bound, judged."""

    reading: Reading
    track: Track
    headroom: int
    firm: int  # headroom with all page cache counted, however dear it is to reclaim
    reserve: int
    lean: int
    trouble: bool  # the kernel counted trouble at this bound since the last decision


def floor(limit: int) -> int:
    """F in bytes for a limit in bytes."""
    return min(int(limit * FLOOR), FLOOR_MAX)


def prior(limit: int) -> int:
    """The reserve in bytes before anything is known: PRIOR_SMALL of `limit`, rising evenly to PRIOR_LARGE."""
    place = (min(max(limit, SMALL), LARGE) - SMALL) / (LARGE - SMALL)
    return int(limit * (PRIOR_SMALL + (PRIOR_LARGE - PRIOR_SMALL) * place))


def reserve(limit: int, jump: float, quiet: float, lag: float = 0.0) -> int:
    """S in bytes. `jump`: D in bytes; `quiet`: seconds since the last hard event (or the start); `lag`:
    seconds that bytes need to return: where they are late, the reserve alone meets a burst.
    """
    low = max(int(limit * RESERVE_LOW), min(RESERVE_MIN, int(limit * RESERVE_MIN_SHARE)))
    late = lag > WINDOW
    high = max(int(limit * (RESERVE_HIGH_LATE if late else RESERVE_HIGH)), low)
    start: float = prior(limit)
    if late:
        start += (limit * PRIOR_LATE - start) * min(1.0, lag / LAG_LONG)
    wanted = max(start * 2.0 ** (-quiet / HALF_LIFE), floor(limit) + JUMP_MARGIN * jump)
    return int(min(max(wanted, low), high))


def decide(
    readings: Sequence[Reading], ledger: Ledger, now: float, state: State, stalled: bool = False
) -> tuple[Decision, State]:
    """Judge all `readings` taken at `now` (seconds). `stalled`: a PSI trigger has fired since the last
    decision.

    Given one reading only, the others' tracks are kept as they are.
    """
    if not readings:
        return UNBOUNDED, state
    lag = _lag(state.lag, ledger, now)
    verdicts = [
        _judge(reading, ledger, now, state.tracks.get(reading.name), lag.longest) for reading in readings
    ]
    worst = min(verdicts, key=lambda verdict: verdict.firm + verdict.lean - verdict.reserve)
    if worst.firm + worst.lean >= worst.reserve:
        worst = min(verdicts, key=lambda verdict: verdict.headroom + verdict.lean - verdict.reserve)
    limit = worst.reading.limit
    tick = next_look(worst.headroom, worst.reserve)
    ahead = int(min(_ahead(worst.track, tick + REACTION, lag.longest), worst.reserve))
    headroom = worst.firm + ledger.returning
    deficit = worst.reserve - headroom
    owed = deficit - worst.lean  # the part of it that is for this process to make up without haste

    # Page cache that is dear to reclaim is no reason to give without end: it would fill whatever is given.
    dear = owed <= 0 and worst.headroom + ledger.returning < worst.reserve - worst.lean
    stall = (dear or (stalled and headroom < 2 * worst.reserve)) and now - state.stall_at >= STALL_INTERVAL
    late = lag.longest > WINDOW  # a soft request's leisure would come on top of the lag
    hard = (
        headroom - ahead < floor(limit)
        # at their speed others would be at the floor before soft requests had paid
        or (headroom - floor(limit)) * SOFT_PACE < worst.track.speed * owed
        or (late and owed > 0 and owed + ahead > worst.reserve * LATE_SHARE)
        or headroom < worst.reserve // 2
        or any(verdict.trouble and verdict.firm + ledger.returning < verdict.reserve for verdict in verdicts)
    )
    target, soft_at, hold_until = 0, state.soft_at, state.hold_until
    if hard:
        target = max(0, deficit + (ahead if late else min(ahead, worst.reserve // 2)))
        hold_until = now + GROW_HOLD
        verdicts = [verdict._replace(track=verdict.track._replace(prior_at=now)) for verdict in verdicts]
    elif (owed > 0 or stall) and now - soft_at >= SOFT_INTERVAL:
        # A repeated request replaces the one before (the deficit is measured anew), so its share is never
        # counted twice.
        target = max(owed, min(max(int(ledger.own * STALL_SHARE), PAGE), ledger.own) if stall else 0)
        soft_at = now

    if hard:
        level = Level.CRITICAL
    elif stall or owed > worst.reserve * (1.0 - MEDIUM_SHARE):
        level = Level.MEDIUM
    else:
        level = Level.LOW if owed > 0 or dear else Level.NONE
    may_grow = level is Level.NONE and now >= hold_until and not any(reading.stale for reading in readings)
    allowance = min(map(_allowance, verdicts)) if may_grow else 0
    if now < hold_until:
        tick = TICK_ALERT

    tracks = {**state.tracks, **{verdict.reading.name: verdict.track for verdict in verdicts}}
    decision = Decision(
        level, worst.headroom, worst.reserve, target, hard, allowance,
        worst.reading.name, limit, worst.reading.usage,
        max(0, ledger.own + ledger.untouched - owed), tick, worst.lean,
    )  # fmt: skip
    return decision, State(tracks, hold_until, soft_at, now if stall else state.stall_at, lag)


def headroom_of(reading: Reading, ledger: Ledger) -> int:
    """A in bytes: what a bound has left, stalls taken into account; negative = deficit."""
    free = reading.limit - reading.usage - ledger.untouched
    if reading.reclaimable:
        free += int(reading.reclaimable * cache_share(reading.stall))
    return free


def cache_share(stall: float) -> float:
    """r: how much of the page cache that could be dropped counts as free at a stall of `stall` percent."""
    return 1.0 - min(max(stall / STALL_FULL, 0.0), 1.0)


def _ahead(track: Track, soon: float, lag: float) -> float:
    """Bytes that others take before a release begun now is seen: at their speed of this moment for `soon`
    seconds, and over a longer `lag` (seconds) as much again as in the last one: a speed does not keep.
    """
    again = track.demand - min(track.low, track.low_before) if lag > soon else 0
    return max(soon * track.speed, again)


def _lag(lag: Lag, ledger: Ledger, now: float) -> Lag:
    """Carry on what is known of the time that bytes need to return: how long those that were on their way at
    one moment took, one such moment after the other. Growth meanwhile hides returns: then it seems longer.
    """
    if ledger.late and not lag.at:
        return Lag(now, ledger.own, ledger.returning, ledger.returning, now, LAG_FIRST)
    if not ledger.returning and not lag.returning and not lag.longest:
        return lag  # where memory returns at once, there is nothing to know
    given = max(0, lag.own - ledger.own)
    waiting = max(0, lag.waiting - max(0, lag.returning + given - ledger.returning))
    longest = lag.longest * 2.0 ** (-max(0.0, now - lag.at) / LAG_HALF_LIFE)
    if lag.waiting:
        longest = min(max(longest, now - lag.since), LAG_MAX)
    elif longest < MIN_SAMPLE:
        longest = 0.0
    since = lag.since if waiting else now
    return Lag(now, ledger.own, ledger.returning, waiting or ledger.returning, since, longest)


def _judge(reading: Reading, ledger: Ledger, now: float, track: Track | None, lag: float) -> _Verdict:
    """Headroom and reserve of one bound, and its track carried on to `now`."""
    if reading.stale and track is not None:
        # What others use is taken to be as it was. What the shrinkers hold is known: an old usage would not
        # fall with it, and a deficit of a moment would be asked for again until nothing is left.
        held = ledger.own + ledger.returning
        reading = reading._replace(usage=track.demand + reading.reclaimable + held)
    headroom = headroom_of(reading, ledger)
    firm = reading.limit - reading.usage - ledger.untouched + reading.reclaimable
    demand = reading.limit - firm - ledger.own - ledger.untouched - ledger.returning
    if track is None:
        track = Track(now, demand, 0.0, 0.0, demand, demand, now, now, reading.throttles, reading.ooms)
    trouble = reading.throttles > track.throttles or reading.ooms > track.ooms
    track = _follow(track, demand, now, reading, lag)
    kept_free = reserve(reading.limit, track.jump, now - track.prior_at, lag)
    lean = 0 if lag > WINDOW else _lean(ledger.own, reading.limit - firm, kept_free)
    return _Verdict(reading, track, headroom, firm, kept_free, lean, trouble)


def _lean(own: int, used: int, kept_free: int) -> int:
    """Bytes of the reserve that who holds `own` of the `used` bytes may leave to others to keep free."""
    if used <= 0 or own >= LEAN_FROM * used:
        return 0
    return int(LEAN * kept_free * (1.0 - own / (LEAN_FROM * used)))


def _follow(track: Track, demand: int, now: float, reading: Reading, lag: float) -> Track:
    """Carry a track on: speed, largest jump, windows (over the `lag`)."""
    past, window = now - track.at, max(WINDOW, LAG_WINDOW * lag)
    if past < MIN_SAMPLE:
        return track._replace(throttles=reading.throttles, ooms=reading.ooms)
    weight = min(1.0, max(SMOOTHING, past / SMOOTHING_TIME))
    speed = track.speed + weight * (max(0, demand - track.demand) / past - track.speed)
    # What no reserve could cover need not be remembered: it would only take longer to forget.
    high = RESERVE_HIGH_LATE if lag > WINDOW else RESERVE_HIGH
    most = (high * reading.limit - floor(reading.limit)) / JUMP_MARGIN
    # After a tick longer than the window the windows are old: the rise within that tick is what counts.
    rise = demand - (track.demand if past >= window else min(track.low, track.low_before))
    jump = min(max(track.jump * 2.0 ** (-past / HALF_LIFE), rise, 0.0), most)
    low, before, window_at = min(track.low, demand), track.low_before, track.window_at
    if now - window_at >= window:
        before, low, window_at = (demand if past >= window else low), demand, now
    seen = (reading.throttles, reading.ooms)
    return Track(now, demand, speed, jump, low, before, window_at, track.prior_at, *seen)


def _allowance(verdict: _Verdict) -> int:
    """Bytes of leave that one bound can give: half its surplus, one page at least, nothing below a page."""
    # PSI of the host tells of every group's stalls: only one beside a nearly used up bound is ours to mind.
    if verdict.reading.stall >= STALL_GROW and verdict.headroom < 2 * verdict.reserve:
        return 0
    surplus = int(verdict.headroom + verdict.lean - (1.0 + DEADBAND) * verdict.reserve)
    if surplus < PAGE:
        return 0
    most = max(GROW_STEP, min(int(surplus * GROW_FAR), GROW_MAX))
    return min(max(int(surplus * GROW_SHARE), PAGE), most)


def next_look(headroom: int, reserve_bytes: int) -> float:
    """Seconds until a sudden neighbour could have taken the headroom down to half the reserve."""
    longest = TICK_NEAR if headroom < 2 * reserve_bytes else TICK_MAX
    return min(max((headroom - reserve_bytes / 2) / FASTEST_FAULTING, TICK_MIN), longest)


def returns_late(state: State) -> bool:
    """Whether bytes were seen to need so long to return that only what is kept free meets a burst."""
    return state.lag.longest > WINDOW
