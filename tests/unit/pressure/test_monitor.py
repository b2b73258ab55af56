"""The monitor on a clock and sources turned by hand."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import pytest

import cacheserver.pressure as pressure
from cacheserver.pressure import Level, Monitor
from cacheserver.pressure.policy import prior, reserve
from cacheserver.pressure.source import Reading
from tests.unit.pressure.conftest import Bench, HandSource

MIB, GIB = 1 << 20, 1 << 30
Make = Callable[[int, int], Bench]


def test_a_cache_fills_what_is_left_and_then_nothing_happens(bench: Make) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.fill()
    s = reserve(256 * MIB, 0, 4)
    assert s <= b.headroom < 1.03 * s + 2 * MIB
    assert b.source.own >= 0.80 * 256 * MIB
    for _ in range(600):
        b.step(1.0)
    assert b.asked == []
    assert b.monitor.status().shrinks_soft == b.monitor.status().shrinks_hard == 0


@pytest.mark.parametrize("limit", [64, 128, 256, 1024])
@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0, 2.4])  # GiB/s
def test_a_hog_at_any_speed_never_finds_the_group_full(bench: Make, limit: int, rate: float) -> None:
    b = bench(limit * MIB, 24 * MIB)
    b.fill()
    goal, step = b.source.others + limit * MIB // 3, 0.001
    before, lowest, due = b.source.own, b.headroom, 0.0
    while b.source.others < goal:
        b.source.others += int(rate * GIB * step)
        lowest = min(lowest, b.headroom)
        b.now += step
        if b.now >= due:
            due = b.now + b.monitor.tick(b.now).tick
    # Where the whole reserve is eaten within a tick or two no law can help.
    if limit * 0.065 > rate * 1024 * 0.008:
        assert lowest > 0
    # It began a deadband and a page above its reserve; the last soft request may still be to come.
    slack = 4 * MIB + limit * MIB // 100
    assert b.source.own <= before - limit * MIB // 3 + slack
    status = b.monitor.status()
    assert status.bytes_released_hard + status.bytes_released_soft >= limit * MIB // 3 - slack
    b.source.others = 24 * MIB
    for _ in range(400):
        b.step(0.01)
    # It is back, but for what the reserve has learnt from the hog.
    learnt = b.monitor.status().reserve
    assert b.source.own >= before - (learnt - prior(limit * MIB)) - 0.03 * learnt - 2 * MIB


def test_a_deferred_soft_debt_is_not_summed(bench: Make) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.fill()
    b.defer = True
    b.source.others += 4 * MIB
    for _ in range(30):
        b.step(0.005, grow=False)
    soft = [target for target, hard in b.asked if not hard]
    assert 2 <= len(soft) <= 4
    assert max(soft) - min(soft) < MIB
    assert b.monitor.status().bytes_asked_soft == sum(soft)


def test_growth_stops_before_a_hard_request_and_during_the_hold(bench: Make) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.fill()
    b.granted = 99 * MIB
    b.source.others += 14 * MIB
    b.step(0.005, grow=False)
    assert b.asked[0][1]
    assert b.granted_when_asked[0] == b.granted == 0
    b.step(0.3)
    assert b.granted == 0


def test_a_hopeless_deficit_neither_spins_nor_counts_requests(bench: Make) -> None:
    b = bench(256 * MIB, 300 * MIB)
    decision = b.monitor.tick(b.now)
    assert decision.level is Level.CRITICAL
    assert decision.tick >= 0.02
    assert b.monitor.status().shrinks_hard == 0
    assert b.monitor.status().headroom == -44 * MIB


def test_a_full_cache_is_watched_cheaply_and_read_in_full_once_a_second(bench: Make) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.fill()
    b.source.full_reads = b.source.quick_reads = 0
    for _ in range(400):
        b.step(0.005)
    assert 1 <= b.source.full_reads <= 2
    assert b.source.quick_reads >= 390
    b.source.limit -= 16 * MIB  # a limit lowered live is seen by the very next tick
    b.step(0.005)
    assert b.monitor.status().limit == 240 * MIB
    assert b.headroom >= 0.5 * reserve(240 * MIB, 0, 0)


def test_a_standing_allowance_is_watched_cheaply_and_given_anew_once_it_is_spent(bench: Make) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.step(0.2)
    first = b.granted
    b.source.full_reads = b.source.quick_reads = 0
    for _ in range(100):
        b.step(0.005, grow=False)
    assert b.source.full_reads <= 6
    assert b.source.quick_reads >= 90
    b.source.full_reads = 0
    b.source.own += first
    b.granted = 0
    b.step(0.005, grow=False)
    assert b.source.full_reads == 1
    assert 0 < b.granted < first
    b.source.others += 8 * MIB  # somebody else takes what was promised: the promise is cut at once
    before = b.granted
    b.step(0.005, grow=False)
    assert b.granted < before


def test_growth_while_a_look_is_interrupted_is_neither_free_memory_nor_a_jump_of_others(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(4 * GIB, 100 * MIB)
    b.step(1.0, grow=False)
    before = b.monitor.status()
    read = b.source.read

    def interrupted(now: float) -> Sequence[Reading]:
        found = read(now)
        monkeypatch.setattr(b.source, "read", read)
        b.now += 0.3
        b.source.own += b.granted // MIB * MIB
        b.granted %= MIB
        return found

    monkeypatch.setattr(b.source, "read", interrupted)
    b.monitor.tick(b.now + 5.0)
    assert b.source.own > 200 * MIB
    assert b.monitor.status().headroom == b.headroom
    b.now += 5.0
    b.step(0.01, grow=False)
    assert b.monitor.status().reserve <= before.reserve


def test_a_cheap_look_that_is_interrupted_is_followed_by_a_proper_one(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.fill()
    b.step(0.005)
    b.source.full_reads = 0
    quick = b.source.quick

    def interrupted(last: Reading) -> Reading | None:
        found = quick(last)
        b.now += 0.3
        b.source.own -= 8 * MIB  # an old debt is paid
        return found

    monkeypatch.setattr(b.source, "quick", interrupted)
    b.step(0.005, grow=False)
    assert b.source.full_reads == 1
    assert b.monitor.status().headroom == b.headroom


def test_a_broken_source_leaves_the_others_in_force(bench: Make, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = HandSource(256 * MIB, "good"), HandSource(64 * MIB, "bad")
    bad.broken = True
    monitor = Monitor([bad, good])
    for now in range(5):
        assert monitor.tick(float(now)).binding == "good"
    assert len(caplog.records) == 1
    bad.broken = False
    assert monitor.tick(9.0).binding == "bad"


def test_level_changes_are_logged_and_a_trickle_at_the_edge_is_not(
    bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")
    b = bench(256 * MIB, 27 * MIB)
    b.fill()
    for turn in range(200):
        b.source.others += (1 if turn % 2 else -1) * 3 * MIB
        b.step(0.05)
    assert 1 <= len(caplog.records) <= 4
    assert "memory pressure LOW" in caplog.text
    b.source.others += 40 * MIB
    b.step(0.05)
    assert "memory pressure CRITICAL" in caplog.text or "memory pressure NONE" in caplog.text


def test_each_request_is_counted_and_timed_for_the_whole_and_for_each_shrinker() -> None:
    now, source = [100.0], HandSource(256 * MIB)
    source.others = source.own = 100 * MIB
    monitor = Monitor([source], clock=lambda: now[0])

    def slow(target: int, hard: bool) -> int:
        now[0] += 0.004 if hard else 0.001
        return 0

    def give(target: int, hard: bool) -> int:
        source.own -= target
        return target

    def pass_on(seconds: float, taken: int) -> None:
        now[0] += seconds
        source.others += taken
        monitor.tick(now[0])

    monitor.register_shrinker("slow", slow, count=lambda: 70 * MIB, cost=8)
    monitor.register_shrinker("bad", lambda target, hard: -1, count=lambda: MIB)
    monitor.register_shrinker("cache", give, count=lambda: source.own, ledger=lambda: (source.own, 0))
    while monitor.status().shrinks_soft < 3:
        assert monitor.status().shrunk_at is None or monitor.status().shrinks_soft
        pass_on(0.25, MIB)
    assert monitor.status().shrinks_hard == 0
    pass_on(0.25, 20 * MIB)
    status, (late, bad, cache) = monitor.status(), monitor.shrinkers()
    assert status.shrinks_hard > 0
    assert [each.name for each in (late, bad, cache)] == ["slow", "bad", "cache"]
    assert (late.count, late.cost, late.enabled) == (70 * MIB, 8, True)
    assert (bad.enabled, bad.strikes, bad.requests_soft) == (False, 3, 3)
    assert late.carried > 0
    for kind in ("soft", "hard"):
        asked = [getattr(each, f"bytes_asked_{kind}") for each in (late, bad, cache)]
        freed = [getattr(each, f"bytes_freed_{kind}") for each in (late, bad, cache)]
        assert sum(asked) == getattr(status, f"bytes_asked_{kind}")
        assert freed == [0, 0, getattr(status, f"bytes_released_{kind}")]
        assert min(asked[0], asked[2]) > 0
    assert (late.last_soft, late.longest_hard, cache.longest_hard) == pytest.approx((0.001, 0.004, 0))
    assert status.seconds_soft == pytest.approx(0.001 * late.requests_soft)
    assert status.seconds_hard == pytest.approx(0.004 * late.requests_hard)
    assert (status.longest_soft, status.longest_hard) == pytest.approx((0.001, 0.004))
    assert status.shrunk_at == now[0]


def test_unregister_waits_for_a_running_callback() -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow(target: int, hard: bool) -> int:
        inside.set()
        leave.wait(5)
        return 0

    source = HandSource(256 * MIB)
    source.others = 250 * MIB
    monitor = Monitor([source])
    handle = monitor.register_shrinker("slow", slow)
    ticker = threading.Thread(target=lambda: monitor.tick(1.0))
    ticker.start()
    assert inside.wait(5)
    remover = threading.Thread(target=lambda: monitor.unregister_shrinker(handle))
    remover.start()
    remover.join(0.05)
    assert remover.is_alive()
    leave.set()
    remover.join(5)
    ticker.join(5)
    assert not remover.is_alive()


def test_the_plain_functions_run_one_shared_monitor_as_long_as_it_is_used() -> None:
    class Hog:
        asked = 0

        def request_memory(self, target: int, hard: bool) -> int:
            self.asked += 1
            return 0

    def running() -> int:
        return sum(t.name == "cacheserver-pressure" for t in threading.enumerate())

    assert isinstance(Hog(), pressure.Shrinker)
    first = pressure.register_shrinker("a", Hog())
    second = pressure.register_shrinker("b", lambda target, hard: 0)
    assert running() == 1
    assert pressure.default_monitor().status().binding != "none"
    pressure.unregister_shrinker(first)
    assert running() == 1
    pressure.unregister_shrinker(second)
    assert running() == 0
    with pytest.raises(TypeError, match="neither callable"):
        Monitor([]).register_shrinker("x", 5)  # type: ignore[arg-type]
