"""Levels by subscription: who is told what, when, and what a bad callback does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

import cacheserver.pressure as pressure
from cacheserver.pressure import Level, Monitor
from cacheserver.pressure.levels import FALL_SECONDS, Levels, Subscription
from tests.unit.pressure.conftest import Bench, HandSource

MIB = 1 << 20
NONE, LOW, MEDIUM, CRITICAL = Level
Make = Callable[[int, int], Bench]


class Ear:
    """One subscription and what it has heard."""

    def __init__(self, levels: Levels, level: Level) -> None:
        self.heard: list[Level] = []
        self.subscription = Subscription(level, self.heard.append)
        levels.add(self.subscription)


def play(levels: Levels, *moments: tuple[float, Level]) -> None:
    for now, level in moments:
        levels.see(level, now)
        levels.tell()


def test_each_hears_of_its_level_of_those_above_and_of_the_end() -> None:
    levels = Levels()
    low, medium, critical = (Ear(levels, level) for level in (LOW, MEDIUM, CRITICAL))
    play(levels, (0, NONE), (1, LOW), (2, MEDIUM), (3, CRITICAL), (4, MEDIUM), (5.5, LOW), (9, NONE))
    assert low.heard == [LOW, MEDIUM, CRITICAL, MEDIUM, NONE]
    assert medium.heard == [MEDIUM, CRITICAL, MEDIUM, NONE]
    assert critical.heard == [CRITICAL, MEDIUM]


def test_a_level_that_comes_and_goes_is_told_once_and_its_end_once() -> None:
    levels = Levels()
    ear = Ear(levels, LOW)
    play(levels, *((0.001 * step, CRITICAL if step % 3 == 0 else NONE) for step in range(5000)))
    assert ear.heard == [CRITICAL]
    end = 4.998
    play(levels, (end + FALL_SECONDS - 0.01, NONE))
    assert ear.heard == [CRITICAL]
    play(levels, (end + FALL_SECONDS + 0.01, NONE), (end + 60, NONE))
    assert ear.heard == [CRITICAL, NONE]


def test_a_fall_stops_at_the_highest_level_of_the_last_two_seconds() -> None:
    levels = Levels()
    ear = Ear(levels, LOW)
    play(levels, (0, CRITICAL), (1, MEDIUM), (1.5, LOW), (2.1, NONE), (3.1, NONE), (3.6, NONE))
    assert ear.heard == [CRITICAL, MEDIUM, LOW, NONE]


def test_who_subscribes_under_pressure_is_told_at_once_and_after_the_end_nothing() -> None:
    levels = Levels()
    play(levels, (0, MEDIUM))
    ear, deaf = Ear(levels, LOW), Ear(levels, CRITICAL)
    play(levels, (0.1, LOW))
    assert ear.heard == [MEDIUM]
    levels.remove(ear.subscription)
    play(levels, (9, NONE))
    assert (ear.heard, deaf.heard) == ([MEDIUM], [])
    with pytest.raises(ValueError, match="not in force"):
        levels.remove(ear.subscription)


def test_a_hard_request_is_told_after_it_although_it_has_ended_the_pressure(bench: Make) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.fill()
    told: list[tuple[Level, int]] = []
    handle = b.monitor.subscribe(MEDIUM, lambda level: told.append((level, len(b.asked))))
    b.source.others += 14 * MIB
    b.step(0.005, grow=False)
    hard = len(b.asked)
    assert hard
    assert told == [(CRITICAL, hard)]
    assert b.monitor.status().level is not CRITICAL
    for _ in range(300):
        b.step(0.01)
    ((end, _),) = told[1:]
    assert end < MEDIUM
    b.monitor.unsubscribe(handle)


def test_a_callback_that_raises_is_left_out_after_three_times_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    levels, calls = Levels(), []

    def bad(level: Level) -> None:
        calls.append(level)
        raise SystemExit("not your business")

    levels.add(Subscription(LOW, bad))
    ear = Ear(levels, LOW)
    play(levels, *((10.0 * step, LOW if step % 2 else NONE) for step in range(12)))
    assert calls == [LOW, NONE, LOW]
    assert len(ear.heard) == 11
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "left out" in caplog.text


def test_who_is_unsubscribed_by_another_ones_callback_is_told_no_more() -> None:
    levels = Levels()
    levels.add(Subscription(LOW, lambda level: levels.remove(second.subscription)))
    second = Ear(levels, LOW)
    play(levels, (0, LOW))
    assert second.heard == []


def test_what_cannot_even_be_shown_is_a_callback_like_others(caplog: pytest.LogCaptureFixture) -> None:
    class Shy(ValueError):
        def __repr__(self) -> str:
            raise RuntimeError("not even that")

    class Callback:
        __repr__ = Shy.__repr__

        def __call__(self, level: Level) -> None:
            raise Shy

    levels = Levels()
    levels.add(Subscription(LOW, Callback()))
    ear = Ear(levels, LOW)
    play(levels, (0, LOW))
    assert ear.heard == [LOW]
    assert (
        "<Callback that cannot be shown> for pressure levels raised <Shy that cannot be shown>" in caplog.text
    )


def test_what_cannot_be_subscribed_is_refused_in_words() -> None:
    monitor = Monitor([HandSource(256 * MIB)])
    with pytest.raises(ValueError, match="LOW, MEDIUM or CRITICAL"):
        monitor.subscribe(NONE, print)
    with pytest.raises(TypeError, match="cannot be called"):
        monitor.subscribe(LOW, 5)  # type: ignore[arg-type]


def test_the_plain_functions_run_the_shared_monitor_and_oom_is_critical() -> None:
    def running() -> int:
        return sum(t.name == "cacheserver-pressure" for t in threading.enumerate())

    assert Level.OOM is Level.CRITICAL
    handle = pressure.subscribe(Level.OOM, print)
    assert running() == 1
    pressure.unsubscribe(handle)
    assert running() == 0
