"""The control law as arithmetic: one assertion for each sentence of it."""

from __future__ import annotations

import itertools

import pytest

from cacheserver.pressure.policy import (
    GROW_MAX,
    PAGE,
    Decision,
    Ledger,
    Level,
    State,
    decide,
    floor,
    prior,
    reserve,
    rested,
    unchanged,
)
from cacheserver.pressure.source import Reading

MIB, GIB = 1 << 20, 1 << 30
L = 256 * MIB


def judge(
    headroom: int, *, limit: int = L, own: int = 100 * MIB, now: float = 100.0, state: State | None = None,
    stalled: bool = False, untouched: int = 0, **more: object,
) -> tuple[Decision, State]:  # fmt: skip
    """One decision about one bound with `headroom` bytes left."""
    reading = Reading("b", limit, limit - headroom - untouched)._replace(**more)
    return decide([reading], Ledger(own, untouched), now, State() if state is None else state, stalled)


@pytest.mark.parametrize("limit", [8 * MIB, 64 * MIB, 128 * MIB, 256 * MIB, GIB, 16 * GIB, 1 << 40])
@pytest.mark.parametrize("jump", [0, MIB, GIB])
def test_floor_reserve_and_their_bounds_are_well_formed_at_every_size(limit: int, jump: int) -> None:
    for quiet in (0.0, 1800.0, 1e6):
        s = reserve(limit, jump, quiet)
        assert 0 < floor(limit) < s / 2
        assert s <= limit / 4
        assert s >= 0.06 * limit - 1
    assert reserve(limit, 0, 1e6) <= reserve(limit, 0, 0.0) <= reserve(limit, limit, 0.0)


def test_a_small_limit_starts_with_a_smaller_share_than_a_large_one() -> None:
    assert prior(L) == int(0.065 * L)
    assert reserve(64 * MIB, 0, 0) == int(0.065 * 64 * MIB) >= 4 * MIB
    assert reserve(32 * MIB, 0, 0) == 4 * MIB
    assert prior(16 * GIB) == int(0.10 * 16 * GIB)


def test_violence_teaches_a_larger_reserve_and_quiet_lets_it_go() -> None:
    state, now, taken = State(), 100.0, 0
    first, state = judge(120 * MIB, now=now, state=state)
    for _ in range(10):  # 2 MiB every 5 ms: 400 MiB/s
        taken += 2 * MIB
        now += 0.005
        decision, state = judge(120 * MIB - taken, now=now, state=state)
    assert decision.reserve > first.reserve * 1.3
    assert decision.reserve <= 0.15 * L
    later, state = judge(100 * MIB, now=now + 4 * 1800, state=state)
    assert later.reserve == int(0.06 * L)


def test_own_growth_is_no_demand() -> None:
    state, now, own = State(), 100.0, 0
    for _ in range(20):
        own += 5 * MIB
        now += 0.005
        decision, state = judge(200 * MIB - own, own=own, now=now, state=state)
    assert state.tracks["b"].speed == 0
    assert state.tracks["b"].jump == 0
    assert decision.reserve <= prior(L)


def test_levels_follow_the_headroom() -> None:
    s = reserve(L, 0, 0)
    assert judge(2 * s)[0].level is Level.NONE
    assert judge(s - 1)[0].level is Level.LOW
    assert judge(int(0.7 * s))[0].level is Level.MEDIUM
    assert judge(s // 2 - 1)[0].level is Level.CRITICAL
    assert judge(-5 * MIB)[0].level is Level.CRITICAL


def test_soft_asks_for_the_deficit_and_not_again_while_it_is_being_paid() -> None:
    s = reserve(L, 0, 0)
    first, state = judge(s - 2 * MIB)
    assert (first.target, first.hard) == (2 * MIB, False)
    again, state = judge(s - 2 * MIB, now=100.02, state=state)
    assert (again.target, again.level) == (0, Level.LOW)
    later, _ = judge(s - 1 * MIB, now=100.06, state=state)
    assert abs(later.target - MIB) < 4096


def test_hard_asks_for_more_than_the_deficit_when_others_are_running_away() -> None:
    s = reserve(L, 0, 0)
    still, _ = judge(s // 4)
    assert still.hard
    assert still.target == s - s // 4
    _, state = judge(s + 20 * MIB)
    fast, _ = judge(s // 4, now=100.01, state=state)
    assert fast.target > fast.reserve - s // 4 + 2 * MIB


def test_a_fast_ramp_is_hard_before_the_reserve_is_gone() -> None:
    state, now, headroom = State(), 100.0, 60 * MIB
    while True:  # 1.2 GiB/s
        decision, state = judge(headroom, now=now, state=state)
        if decision.hard:
            break
        now += 0.005
        headroom -= 6 * MIB
    assert headroom > prior(L)  # as much as the whole reserve of a quiet group is still there


def test_growth_takes_half_of_the_surplus_whole_pages_only_and_never_more_than_the_bound() -> None:
    s = reserve(L, 0, 0)
    assert judge(int(1.03 * s) + 100 * MIB)[0].allowance == pytest.approx(50 * MIB, abs=4096)
    assert judge(int(1.03 * s) + PAGE + 4096)[0].allowance == PAGE
    assert judge(int(1.03 * s) + PAGE - 4096)[0].allowance == 0
    assert judge(15 * GIB, limit=16 * GIB)[0].allowance == GROW_MAX


def test_what_is_granted_but_untouched_is_already_gone() -> None:
    s = reserve(L, 0, 0)
    decision, _ = decide([Reading("b", L, L - s - 50 * MIB)], Ledger(10 * MIB, 50 * MIB), 1.0, State())
    assert decision.headroom == s
    assert decision.allowance == 0
    assert decision.ceiling == 60 * MIB


def test_nothing_grows_for_half_a_second_after_a_hard_request() -> None:
    _, state = judge(0)
    calm, state = judge(100 * MIB, now=100.4, state=state)
    assert (calm.level, calm.allowance) == (Level.NONE, 0)
    assert judge(100 * MIB, now=100.6, state=state)[0].allowance > 0


def test_nothing_grows_on_stale_readings() -> None:
    assert judge(100 * MIB, stale=True)[0].allowance == 0


def test_stalls_stop_growth_near_the_bound_that_has_them_and_nowhere_else() -> None:
    s = reserve(L, 0, 0)
    assert judge(int(1.9 * s))[0].allowance > 0
    assert judge(int(1.9 * s), stall=1.5)[0].allowance == 0
    assert judge(int(2.1 * s), stall=1.5)[0].allowance > 0
    host = Reading("host", 16 * GIB, 2 * GIB, stall=9.0)  # another container thrashes
    empty = Reading("cgroup /a", L, 20 * MIB)
    assert decide([host, empty], Ledger(), 1.0, State())[0].allowance > 100 * MIB


def test_page_cache_is_free_only_while_reclaim_is_cheap() -> None:
    full = judge(0, reclaimable=40 * MIB)[0]
    assert full.headroom == 40 * MIB
    assert judge(0, reclaimable=40 * MIB, stall=5.0)[0].headroom == 20 * MIB
    assert judge(0, reclaimable=40 * MIB, stall=60.0)[0].headroom == 0


def test_the_bound_with_the_least_surplus_binds_not_the_one_with_the_least_headroom() -> None:
    small = Reading("small", 256 * MIB, 226 * MIB)  # 30 MiB left, reserve 17
    large = Reading("large", 16 * GIB, 15 * GIB)  # 1 GiB left, reserve 1.6 GiB
    decision, _ = decide([small, large], Ledger(2 * GIB), 1.0, State())
    assert decision.binding == "large"
    assert decision.target == decision.reserve - GIB


def test_kernel_events_are_hard_only_where_the_reserve_is_touched() -> None:
    s = reserve(L, 0, 0)
    for name, headroom in itertools.product(("throttles", "ooms"), (s - MIB, 2 * s)):
        _, state = judge(headroom, **{name: 5})
        same, _ = judge(headroom, now=100.1, state=state, **{name: 5})
        more, _ = judge(headroom, now=100.1, state=state, **{name: 6})
        assert not same.hard
        assert more.hard is (headroom < s)


def test_a_stall_alone_asks_for_little_once_a_window_and_never_far_from_the_bound() -> None:
    s = reserve(L, 0, 0)
    first, state = judge(int(1.5 * s), own=200 * MIB, stalled=True)
    assert (first.target, first.hard, first.level) == (int(2 * MIB), False, Level.MEDIUM)
    again, _ = judge(int(1.5 * s), own=200 * MIB, now=101.0, state=state, stalled=True)
    assert again.target == 0
    assert judge(3 * s, own=200 * MIB, stalled=True)[0].target == 0


def test_the_tick_is_short_where_half_the_reserve_could_soon_be_gone() -> None:
    s = reserve(L, 0, 0)
    assert judge(s)[0].tick == 0.005
    assert 0.005 < judge(200 * MIB)[0].tick < 0.05
    assert judge(15 * GIB, limit=16 * GIB)[0].tick == 0.25
    assert judge(reserve(64 * GIB, 0, 0), limit=64 * GIB)[0].tick == 0.05
    assert judge(0)[0].tick <= 0.001


def test_no_bound_known_changes_nothing() -> None:
    decision, state = decide([], Ledger(5 * MIB), 1.0, State())
    assert (decision.level, decision.target, decision.allowance) == (Level.NONE, 0, 0)
    assert state == State()


def test_the_same_arguments_give_the_same_answer_and_change_nothing() -> None:
    _, state = judge(30 * MIB)
    before = repr(state)
    answers = {repr(judge(10 * MIB, now=100.01, state=state)) for _ in range(3)}
    assert len(answers) == 1
    assert repr(state) == before


def test_a_quiet_reading_is_recognised_and_a_rise_after_it_is_measured_from_it() -> None:
    s = reserve(L, 0, 0)
    decision, state = judge(s + MIB)
    ledger = Ledger(100 * MIB)

    def at(headroom: int, limit: int = L) -> Reading:
        return Reading("b", limit, limit - headroom)

    assert unchanged(decision, at(s + MIB - 65536), ledger)
    assert not unchanged(decision, at(s - 1), ledger)
    assert not unchanged(decision, at(s + 3 * MIB), ledger)
    assert not unchanged(decision, at(s + MIB, limit=L - MIB), ledger)
    state = rested(state, "b", 100.09)
    _, state = judge(s - 5 * MIB, now=100.095, state=state)
    # 6 MiB in 5 ms, smoothed; over the whole 95 ms it would be 63 MiB/s
    assert state.tracks["b"].speed > 400 * MIB
