"""A cache at rest: which readings leave a decision as it stands, and how long one may go by them alone.

Knows: decisions, and usages beside them. Must not know: how a decision is made (policy), clocks, files,
threads. Pure, as policy is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cacheserver.pressure.policy import (
    DEADBAND,
    FASTEST_FAULTING,
    PAGE,
    RESERVE_HIGH,
    SMOOTHING_TIME,
    TICK_ALERT,
    Decision,
    Ledger,
    Level,
    State,
    headroom_of,
    returns_late,
)
from cacheserver.pressure.source import MARKED, Reading

FULL_NEAR = 0.1  # seconds between full readings at least where another bound is near; one costs up to 1 ms
FULL_FAR = 1.0  # and at most: stalls too small for a trigger and what the ledgers say are seen in them only


def unchanged(decision: Decision, reading: Reading, ledger: Ledger) -> bool:
    """Whether `reading`, a fresh one of the binding bound, leaves `decision` (nothing to do) as it is.

    The cheap test of a cache at rest: headroom within 3 % of S of what was judged, and either in the deadband
    or an allowance stands that nobody has touched (the caller compares the ledgers).
    """
    if decision.level is not Level.NONE or reading.limit != decision.limit:
        return False
    headroom = headroom_of(reading, ledger)
    kept_free = decision.reserve - decision.lean
    if headroom < kept_free or abs(headroom - decision.headroom) > DEADBAND * kept_free:
        return False
    return decision.allowance > 0 or headroom < (1.0 + DEADBAND) * kept_free + PAGE


def quiet_window(decision: Decision, reading: Reading, ledger: Ledger) -> tuple[int, int]:
    """The usages, in bytes, at which `reading` would be `unchanged`: from the first to the second, both
    included; none where the first is the greater.

    Below: room to grow. Above: others have taken the reserve, or what the decision rests on. Who only
    compares the usage with these two needs to judge nothing.
    """
    if decision.level is not Level.NONE or reading.limit != decision.limit:
        return 1, 0
    whole = headroom_of(reading, ledger) + reading.usage  # headroom at a usage of nothing
    kept_free = decision.reserve - decision.lean
    drift = int(DEADBAND * kept_free)
    least, most = max(kept_free, decision.headroom - drift), decision.headroom + drift
    if not decision.allowance:
        most = min(most, math.ceil((1.0 + DEADBAND) * kept_free + PAGE) - 1)
    return whole - most, whole - least


def marks_suffice(decision: Decision, state: State) -> bool:
    """Whether the kernel's call at a mark, with MARKED of the limit left, comes in time to rest until then.

    Not in the alert after a hard request, nor where hard requests begin before the mark, nor for a lag.
    """
    near = decision.tick <= TICK_ALERT or returns_late(state)
    return not near and decision.reserve // 2 <= decision.limit * MARKED


def full_interval(decision: Decision, readings: Sequence[Reading], ledger: Ledger) -> float:
    """Seconds until every bound is to be read again, while only the usage of the binding one is looked at: as
    for a tick, how soon a sudden neighbour could be near the end of another.
    """
    others = [reading for reading in readings if reading.name != decision.binding]
    spare = [headroom_of(reading, ledger) - reading.limit * RESERVE_HIGH / 2 for reading in others]
    return min(max(min(spare, default=math.inf) / FASTEST_FAULTING, FULL_NEAR), FULL_FAR)


def rested(state: State, name: str, at: float) -> State:
    """The state after the bound `name` has been seen unchanged until `at` (seconds)."""
    track = state.tracks.get(name)
    if track is None or at <= track.at:
        return state
    speed = 0.0 if at - track.at >= SMOOTHING_TIME else track.speed
    return state._replace(tracks={**state.tracks, name: track._replace(at=at, speed=speed)})
