"""The control law: readings, the ledger, the time and the last state in; a Decision and the next state out.

Knows: arithmetic on bytes and seconds. Must not know: clocks, files, threads, shrinkers. Pure: the same
arguments give the same answer and nothing is changed in place, so that a run can be replayed and a reading
can be judged again.

For every bound b (the host, each cgroup), in bytes:

    headroom  A = limit - usage + r * reclaimable - untouched     negative = deficit
    demand    n = limit - A - own                                 what others use
    reserve   S = clamp(max(prior * 2^(-t / 1800 s), F + 1.25 D), low, high)
    ahead     P = min(H * g, S)                                   what others take within the reaction time H

D is the largest rise of n seen in a short window, g the smoothed speed of its rise, F the floor. The bound
with the smallest A - S binds. HARD: A - P < F, or A < S/2, or the kernel has counted trouble at a bound
whose reserve is touched. SOFT: A < S. GROW: A > 1.03 S.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from cacheserver.pressure.source import Reading

KIB = 1 << 10
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
RESERVE_MIN = 4 * MIB  # four pages: the store's own steps must not reach the floor
RESERVE_MIN_SHARE = 0.25  # but never more than this share of a tiny limit
FLOOR = 0.02  # below it the next reading may be too late; always under half the reserve (0.06 / 2)
FLOOR_MAX = 32 * MIB  # about 13 ms of one core faulting at 2.4 GiB/s: one reaction time
HALF_LIFE = 1800.0  # seconds in which both the prior and what was learnt lose half their weight
JUMP_MARGIN = 1.25  # the next jump may be a quarter larger than the largest seen

# -- measuring what others take --
WINDOW = 0.05  # seconds; a rise counts over one to two windows, about the longest reaction to a full cache
MIN_SAMPLE = 0.001  # seconds; over less, page-wise charging looks like great speed
SMOOTHING = 0.4  # weight of the newest sample of g at least; rises are believed quickly
SMOOTHING_TIME = 0.05  # seconds after which the newest sample is believed wholly

# -- acting --
# seconds from the end of a tick to bytes back at the host: wake-up, interpreter lock, release
REACTION = 0.010
DEADBAND = 0.03  # of S: between S and 1.03 S nothing changes, so that shrink and growth do not alternate
GROW_SHARE = 0.5  # of the surplus at once: what others take between two ticks must find the other half
GROW_MAX = 256 * MIB  # bytes of leave at once: about 0.1 s of faulting
GROW_HOLD = 0.5  # seconds without growth after a hard shrink: a ramp seldom ends with its first step
STALL_GROW = 1.0  # percent avg10: beginning stalls forbid growth where A < 2 S
STALL_FULL = 10.0  # percent avg10 at which page cache no longer counts as free
SOFT_INTERVAL = 0.05  # seconds between soft requests: the last one is being paid meanwhile
STALL_INTERVAL = 2.0  # seconds between requests for a stall alone: one window of the trigger
STALL_SHARE = 0.01  # of the own bytes: Senpai's step
MEDIUM_SHARE = 0.75  # of S: below it a soft request is more than upkeep

# -- the next reading --
# bytes a second that a few cores can take (2.4 GiB/s a core): how soon half of S could be gone
FASTEST_FAULTING = 8 * GIB
TICK_MIN = 0.005  # seconds; a wake-up costs about 0.06 ms
TICK_NEAR = 0.05  # seconds at most while A < 2 S
TICK_MAX = 0.25  # seconds at most
TICK_ALERT = 0.001  # seconds, while growth is held after a hard request


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


class State(NamedTuple):
    """What one decision hands to the next. Never changed in place."""

    tracks: Mapping[str, Track] = {}
    hold_until: float = 0.0
    soft_at: float = -1e9
    stall_at: float = -1e9


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


UNBOUNDED = Decision(Level.NONE, 0, 0, 0, False, 0, "none", 0, 0, 0, TICK_MAX)


class _Verdict(NamedTuple):
    """One bound, judged."""

    reading: Reading
    track: Track
    headroom: int
    reserve: int
    trouble: bool  # the kernel counted trouble at this bound since the last decision


def floor(limit: int) -> int:
    """F in bytes for a limit in bytes."""
    return min(int(limit * FLOOR), FLOOR_MAX)


def prior(limit: int) -> int:
    """The reserve in bytes before anything is known: PRIOR_SMALL of `limit`, rising evenly to PRIOR_LARGE."""
    place = (min(max(limit, SMALL), LARGE) - SMALL) / (LARGE - SMALL)
    return int(limit * (PRIOR_SMALL + (PRIOR_LARGE - PRIOR_SMALL) * place))


def reserve(limit: int, jump: float, quiet: float) -> int:
    """S in bytes. `jump`: D in bytes; `quiet`: seconds since the last hard event (or the start)."""
    low = max(int(limit * RESERVE_LOW), min(RESERVE_MIN, int(limit * RESERVE_MIN_SHARE)))
    high = max(int(limit * RESERVE_HIGH), low)
    wanted = max(prior(limit) * 2.0 ** (-quiet / HALF_LIFE), floor(limit) + JUMP_MARGIN * jump)
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
    verdicts = [_judge(reading, ledger, now, state.tracks.get(reading.name)) for reading in readings]
    worst = min(verdicts, key=lambda verdict: verdict.headroom - verdict.reserve)
    headroom, limit = worst.headroom, worst.reading.limit
    tick = _tick(headroom, worst.reserve)
    ahead = int(min((tick + REACTION) * worst.track.speed, worst.reserve))
    deficit = worst.reserve - headroom

    stall = stalled and headroom < 2 * worst.reserve and now - state.stall_at >= STALL_INTERVAL
    hard = (
        headroom - ahead < floor(limit)
        or headroom < worst.reserve // 2
        or any(verdict.trouble and verdict.headroom < verdict.reserve for verdict in verdicts)
    )
    target, soft_at, hold_until = 0, state.soft_at, state.hold_until
    if hard:
        target = max(0, deficit + min(ahead, worst.reserve // 2))
        hold_until = now + GROW_HOLD
        verdicts = [verdict._replace(track=verdict.track._replace(prior_at=now)) for verdict in verdicts]
    elif (deficit > 0 or stall) and now - soft_at >= SOFT_INTERVAL:
        # A repeated request replaces the one before (the deficit is measured anew), so its share is never
        # counted twice.
        target = max(deficit, min(max(int(ledger.own * STALL_SHARE), PAGE), ledger.own) if stall else 0)
        soft_at = now

    if hard:
        level = Level.CRITICAL
    elif stall or headroom < worst.reserve * MEDIUM_SHARE:
        level = Level.MEDIUM
    else:
        level = Level.LOW if deficit > 0 else Level.NONE
    may_grow = level is Level.NONE and now >= hold_until and not any(reading.stale for reading in readings)
    allowance = min(map(_allowance, verdicts)) if may_grow else 0
    if now < hold_until:
        tick = TICK_ALERT

    tracks = {**state.tracks, **{verdict.reading.name: verdict.track for verdict in verdicts}}
    decision = Decision(
        level, headroom, worst.reserve, target, hard, allowance,
        worst.reading.name, limit, worst.reading.usage,
        max(0, ledger.own + ledger.untouched + headroom - worst.reserve), tick,
    )  # fmt: skip
    return decision, State(tracks, hold_until, soft_at, now if stall else state.stall_at)


def unchanged(decision: Decision, reading: Reading, ledger: Ledger) -> bool:
    """Whether `reading`, a fresh one of the binding bound, leaves `decision` (nothing to do) as it is.

    The cheap test of a cache at rest: headroom within 3 % of S of what was judged, and either in the deadband
    or an allowance stands that nobody has touched (the caller compares the ledgers).
    """
    if decision.level is not Level.NONE or reading.limit != decision.limit:
        return False
    headroom = headroom_of(reading, ledger)
    kept_free = decision.reserve
    if headroom < kept_free or abs(headroom - decision.headroom) > DEADBAND * kept_free:
        return False
    return decision.allowance > 0 or headroom < (1.0 + DEADBAND) * kept_free + PAGE


def rested(state: State, name: str, at: float) -> State:
    """The state after the bound `name` has been seen unchanged until `at` (seconds)."""
    track = state.tracks.get(name)
    if track is None or at <= track.at:
        return state
    speed = 0.0 if at - track.at >= SMOOTHING_TIME else track.speed
    return state._replace(tracks={**state.tracks, name: track._replace(at=at, speed=speed)})


def headroom_of(reading: Reading, ledger: Ledger) -> int:
    """A in bytes: what a bound has left, stalls taken into account; negative = deficit."""
    free = reading.limit - reading.usage - ledger.untouched
    if reading.reclaimable:
        free += int(reading.reclaimable * (1.0 - min(max(reading.stall / STALL_FULL, 0.0), 1.0)))
    return free


def _judge(reading: Reading, ledger: Ledger, now: float, track: Track | None) -> _Verdict:
    """Headroom and reserve of one bound, and its track carried on to `now`."""
    headroom = headroom_of(reading, ledger)
    demand = reading.limit - headroom - ledger.own - ledger.untouched
    if track is None:
        track = Track(now, demand, 0.0, 0.0, demand, demand, now, now, reading.throttles, reading.ooms)
    trouble = reading.throttles > track.throttles or reading.ooms > track.ooms
    track = _follow(track, demand, now, reading)
    kept_free = reserve(reading.limit, track.jump, now - track.prior_at)
    return _Verdict(reading, track, headroom, kept_free, trouble)


def _follow(track: Track, demand: int, now: float, reading: Reading) -> Track:
    """Carry a track on: speed, largest jump, windows."""
    past = now - track.at
    if past < MIN_SAMPLE:
        return track._replace(throttles=reading.throttles, ooms=reading.ooms)
    weight = min(1.0, max(SMOOTHING, past / SMOOTHING_TIME))
    speed = track.speed + weight * (max(0, demand - track.demand) / past - track.speed)
    # What no reserve could cover need not be remembered: it would only take longer to forget.
    most = (RESERVE_HIGH * reading.limit - floor(reading.limit)) / JUMP_MARGIN
    # After a tick longer than the window the windows are old: the rise within that tick is what counts.
    rise = demand - (track.demand if past >= WINDOW else min(track.low, track.low_before))
    jump = min(max(track.jump * 2.0 ** (-past / HALF_LIFE), rise, 0.0), most)
    low, before, window_at = min(track.low, demand), track.low_before, track.window_at
    if now - window_at >= WINDOW:
        before, low, window_at = (demand if past >= WINDOW else low), demand, now
    seen = (reading.throttles, reading.ooms)
    return Track(now, demand, speed, jump, low, before, window_at, track.prior_at, *seen)


def _allowance(verdict: _Verdict) -> int:
    """Bytes of leave that one bound can give: half its surplus, one page at least, nothing below a page."""
    # PSI of the host tells of every group's stalls: only one beside a nearly used up bound is ours to mind.
    if verdict.reading.stall >= STALL_GROW and verdict.headroom < 2 * verdict.reserve:
        return 0
    surplus = int(verdict.headroom - (1.0 + DEADBAND) * verdict.reserve)
    if surplus < PAGE:
        return 0
    return min(max(int(surplus * GROW_SHARE), PAGE), GROW_MAX)


def _tick(headroom: int, reserve_bytes: int) -> float:
    """Seconds until a sudden neighbour could have taken the headroom down to half the reserve."""
    longest = TICK_NEAR if headroom < 2 * reserve_bytes else TICK_MAX
    return min(max((headroom - reserve_bytes / 2) / FASTEST_FAULTING, TICK_MIN), longest)
