"""The control law as arithmetic: one assertion for each sentence of it."""

from __future__ import annotations

import itertools

import pytest

from cacheserver.pressure.policy import (
    PAGE,
    PRIOR_LATE,
    TICK_ALERT,
    Decision,
    Ledger,
    Level,
    State,
    decide,
    floor,
    prior,
    reserve,
    returns_late,
)
from cacheserver.pressure.rest import full_interval, marks_suffice, quiet_window, rested, unchanged
from cacheserver.pressure.source import Reading

MIB, GIB = 1 << 20, 1 << 30
L = 256 * MIB


def judge(
    headroom: int, *, limit: int = L, own: int = 230 * MIB, now: float = 100.0, state: State | None = None,
    stalled: bool = False, untouched: int = 0, returning: int = 0, **more: object,
) -> tuple[Decision, State]:  # fmt: skip
    """One decision about one bound with `headroom` bytes left, most of the rest held by the caches."""
    reading = Reading("b", limit, limit - headroom - untouched)._replace(**more)
    return decide(
        [reading], Ledger(own, untouched, returning), now, State() if state is None else state, stalled
    )


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
    assert reserve(64 * MIB, 0, 0) == reserve(32 * MIB, 0, 0) == 6 * MIB
    assert reserve(16 * MIB, 0, 0) == 4 * MIB  # a quarter
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


@pytest.mark.parametrize(("speed", "hard"), [(200 * MIB, False), (2400 * MIB, True)])
def test_who_takes_faster_than_soft_requests_are_paid_is_met_with_a_hard_one(speed: int, hard: bool) -> None:
    """64 GiB, of whose reserve a fifth is gone: half of it and the floor are far."""
    limit, own, left = 64 * GIB, 40 * GIB, int(0.8 * prior(64 * GIB))
    _, state = judge(left + speed // 20, limit=limit, own=own, now=100.0)
    decision, _ = judge(left, limit=limit, own=own, now=100.05, state=state)
    assert decision.reserve == pytest.approx(prior(limit), rel=0.001)
    assert decision.hard is hard


def test_growth_takes_half_of_the_surplus_whole_pages_only_and_never_more_than_the_bound() -> None:
    s = reserve(L, 0, 0)
    assert judge(int(1.03 * s) + 100 * MIB)[0].allowance == pytest.approx(50 * MIB, abs=4096)
    assert judge(int(1.03 * s) + PAGE + 4096)[0].allowance == PAGE
    assert judge(int(1.03 * s) + PAGE - 4096)[0].allowance == 0
    for surplus, allowance in ((GIB, 256), (2 * GIB, 256), (3 * GIB, 384), (4 * GIB, 512), (60 * GIB, 512)):
        limit = surplus * 2
        headroom = int(1.03 * reserve(limit, 0, 0)) + surplus
        decision, _ = judge(headroom, limit=limit, own=limit - headroom)
        assert decision.lean == 0
        assert decision.allowance == pytest.approx(allowance * MIB, abs=4096)


def test_who_holds_little_leans_on_larger_ones_and_leaves_them_the_small_deficits() -> None:
    s = reserve(L, 0, 0)
    for headroom in (s - MIB, s + MIB // 2):
        large, _ = judge(headroom, own=230 * MIB)
        half, _ = judge(headroom, own=100 * MIB)
        small, _ = judge(headroom, own=10 * MIB)
        assert large.lean == 0 < half.lean < small.lean <= s / 3
        assert large.allowance == 0
        assert (large.target, half.target, small.target) == (max(0, s - headroom), 0, 0)
        assert small.allowance >= PAGE  # it grows into the reserve until the larger one has given as much
    # Where a reserve is nearly gone everybody is asked, for all of it.
    assert judge(s // 2 - 1, own=10 * MIB)[0].target == judge(s // 2 - 1)[0].target > s // 2
    decision, _ = judge(s - MIB, own=10 * MIB)
    assert decision.reserve == s
    assert unchanged(
        decision._replace(allowance=0, lean=2 * MIB), Reading("b", L, L - s + MIB), Ledger(10 * MIB)
    )


def test_what_is_on_its_way_back_is_asked_for_once_and_grown_into_only_when_it_is_there() -> None:
    s = reserve(L, 0, 0)
    assert judge(s // 4)[0].target == s - s // 4
    due, _ = judge(s // 4, returning=s - s // 4)
    assert (due.target, due.hard, due.level) == (0, False, Level.NONE)
    assert due.headroom == s // 4  # the truth, as the host sees it
    part, _ = judge(s // 4, returning=s // 2)
    assert part.target == s - s // 4 - s // 2
    assert judge(s, returning=40 * MIB)[0].allowance == 0


def test_what_is_on_its_way_back_is_no_demand_of_others() -> None:
    _, state = judge(30 * MIB, own=200 * MIB)
    after, state = judge(30 * MIB, own=180 * MIB, returning=20 * MIB, now=100.01, state=state)
    assert state.tracks["b"].jump == 0
    _, state = judge(50 * MIB, own=180 * MIB, now=100.5, state=state)
    assert state.tracks["b"].jump == 0
    assert after.target == 0


def test_the_lag_is_learnt_from_what_returns_and_others_are_expected_to_go_on_that_long() -> None:
    """A cache gives 1 MiB every 10 ms, which is back 0.3 s later, while a neighbour takes 10 MiB/s."""
    own, now, state, given = 150 * MIB, 100.0, State(), []
    others = L - own - 25 * MIB
    for _ in range(200):
        now += 0.01
        own -= MIB // 10
        others += MIB // 10
        given.append((now, MIB // 10))
        returning = sum(nbytes for at, nbytes in given if now - at < 0.3)
        headroom = L - others - own - returning
        decision, state = judge(headroom, own=own, returning=returning, now=now, state=state)
    assert 0.25 < state.lag.longest < 0.7
    assert returns_late(state)
    assert decision.reserve >= floor(L) + 1.25 * 3 * MIB  # what the neighbour takes in 0.3 s
    for _ in range(200):
        now += 6.0
        _, state = judge(30 * MIB, own=own, now=now, state=state)
    assert state.lag.longest == 0
    assert not returns_late(state)


def test_who_counts_what_is_on_its_way_is_at_first_taken_to_return_it_late() -> None:
    reading, ledger = Reading("b", L, L - 60 * MIB), Ledger(150 * MIB, late=True)
    first, state = decide([reading], ledger, 100.0, State())
    assert prior(L) < first.reserve < int(PRIOR_LATE * L) == reserve(L, 0, 0, 0.5)
    assert returns_late(state)
    later, state = decide([reading], ledger, 700.0, state)
    assert later.reserve < prior(L)
    assert not returns_late(state)
    again, state = decide([reading], ledger, 701.0, state)
    assert again.reserve < prior(L)


def test_what_is_granted_but_untouched_is_already_gone() -> None:
    s = reserve(L, 0, 0)
    decision, _ = decide([Reading("b", L, L - s - 50 * MIB)], Ledger(180 * MIB, 50 * MIB), 1.0, State())
    assert decision.headroom == s
    assert decision.allowance == 0
    assert decision.ceiling == 230 * MIB


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
    decision, _ = decide([small, large], Ledger(14 * GIB), 1.0, State())
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


@pytest.mark.parametrize("allowance", [0, 40 * MIB])
@pytest.mark.parametrize("headroom", [12, 13, 14, 15, 17, 18, 19, 20, 40, 90])  # MiB
@pytest.mark.parametrize("cached", [0, 3 * MIB])
@pytest.mark.parametrize("own", [230 * MIB, 40 * MIB])
def test_the_quiet_window_holds_exactly_the_usages_that_change_nothing(
    allowance: int, headroom: int, cached: int, own: int
) -> None:
    decision, _ = judge(headroom * MIB + cached, own=own, reclaimable=cached, stall=2.0)
    assert (decision.lean > 0) == (own == 40 * MIB), "who holds little leans on the others"
    decision, ledger = decision._replace(allowance=allowance), Ledger(own, MIB, 5 * MIB)
    last = Reading("b", L, L - headroom * MIB, reclaimable=cached, stall=2.0)
    low, high = quiet_window(decision, last, ledger)
    edges = {low, high} if low <= high else set()
    tried = [*range(0, L, 64 * 1024), *(edge + step for edge in edges for step in (-1, 0, 1))]
    quiet = [usage for usage in tried if unchanged(decision, last._replace(usage=usage), ledger)]
    assert quiet == [usage for usage in tried if low <= usage <= high]
    if not cached:
        full = headroom * MIB < 1.06 * (decision.reserve - decision.lean) + MIB
        assert bool(quiet) == (decision.level is Level.NONE and (allowance > 0 or full))
    assert quiet_window(decision, last._replace(limit=L - 1), ledger) == (1, 0)


def test_all_bounds_are_read_sooner_where_another_one_is_near() -> None:
    decision, _ = judge(20 * MIB)
    binding, far = Reading("b", L, L - 20 * MIB), Reading("far", 16 * GIB, 4 * GIB)
    near, middle = Reading("near", L, L - 40 * MIB), Reading("middle", 6 * GIB, 2 * GIB)
    assert full_interval(decision, [binding], Ledger()) == full_interval(decision, [binding, far], Ledger())
    intervals = [full_interval(decision, [binding, far, one], Ledger()) for one in (near, middle, far)]
    assert sorted({0.1, *intervals, 1.0}) == intervals, "rising, between 0.1 and 1 s"


def test_marks_are_trusted_only_where_they_come_in_time() -> None:
    calm, state = judge(20 * MIB)
    assert marks_suffice(calm, state)
    assert not marks_suffice(calm._replace(reserve=L // 8), state), "hard requests begin before the mark"
    assert not marks_suffice(calm._replace(tick=TICK_ALERT), state)
    _, late = decide([Reading("b", L, L - 60 * MIB)], Ledger(150 * MIB, late=True), 100.0, State())
    assert not marks_suffice(calm, late)
