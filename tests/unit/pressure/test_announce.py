"""What the monitor says in the log, and how little of it there is under a ramp."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from cacheserver.pressure import Monitor
from cacheserver.pressure.announce import HARD_LINES, LOG_SECONDS, SOFT_SECONDS, Announcer
from cacheserver.pressure.policy import Level
from cacheserver.pressure.tally import Request
from tests.unit.pressure.conftest import Bench, HandSource

MIB = 1 << 20
Make = Callable[[int, int], Bench]


def request(hard: bool, asked: int, freed: int, seconds: float) -> Request:
    level = Level.CRITICAL if hard else Level.LOW
    return Request(hard, level, asked, freed, (("store", freed),), 3 * MIB, 9 * MIB, "host", seconds)


def lines(caplog: pytest.LogCaptureFixture, importance: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == importance]


def test_a_hard_request_is_a_line_with_what_was_asked_given_and_changed(
    bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    b = bench(256 * MIB, 27 * MIB)
    b.fill()
    before = b.headroom
    b.source.others += 14 * MIB
    b.step(0.005, grow=False)
    asked, _ = b.asked[0]
    line = next(line for line in lines(caplog, logging.WARNING) if line.startswith("hard request"))
    assert f"asked {asked / MIB:.1f} MiB, freed {-(-asked // MIB):.1f} MiB in 0.0 ms" in line
    assert f"(cache {-(-asked // MIB):.1f} MiB)" in line
    assert f"headroom {(before - 14 * MIB) / MIB:.1f} MiB before, {b.headroom / MIB:.1f} MiB after" in line
    assert line.endswith("MiB at hand")


def test_a_flood_of_hard_requests_is_a_few_lines_and_one_sum(caplog: pytest.LogCaptureFixture) -> None:
    announcer, each = Announcer(), 0.02
    for number in range(300):  # 6 s
        announcer.request(request(True, 2 * MIB, MIB, 0.001 * (1 + number % 7)), number * each)
        announcer.look(8 * MIB)
        announcer.sum_up(number * each)
    assert len(caplog.records) == HARD_LINES
    announcer.sum_up(LOG_SECONDS)
    announcer.sum_up(LOG_SECONDS * 2)
    rest = 300 - HARD_LINES
    assert lines(caplog, logging.WARNING)[HARD_LINES:] == [
        f"{rest} more hard requests in 10 s: asked {2 * rest}.0 MiB, freed {rest}.0 MiB, longest 7.0 ms"
    ]
    caplog.clear()
    announcer.request(request(True, MIB, MIB, 0.001), 99)
    announcer.look(MIB)
    announcer.sum_up(99 + LOG_SECONDS)
    assert len(caplog.records) == 1


def test_no_request_is_lost_where_nobody_looks_in_between_or_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")
    announcer = Announcer()
    for number in range(3):
        announcer.request(request(True, (number + 1) * MIB, MIB, 0.001), float(number))
        announcer.request(request(False, MIB, 0, 0.001), float(number))
    announcer.look(8 * MIB)
    found = lines(caplog, logging.WARNING)
    assert [line[:29] for line in found] == [f"hard request: asked {n}.0 MiB, " for n in (1, 2, 3)]
    assert ["not measured after" in line for line in found] == [True, True, False]
    caplog.clear()
    for _ in range(HARD_LINES):
        announcer.request(request(True, MIB, MIB, 0.001), 5.0)
    announcer.close(7.0)
    announcer.close(99.0)
    assert lines(caplog, logging.WARNING)[-2:] == [
        "hard request: asked 1.0 MiB, freed 1.0 MiB in 1.0 ms (store 1.0 MiB); level CRITICAL, "
        "headroom 3.0 MiB before, not measured after, reserve 9.0 MiB at host",
        "3 more hard requests in 7 s: asked 3.0 MiB, freed 3.0 MiB, longest 1.0 ms",
    ]
    assert lines(caplog, logging.INFO) == [
        "3 soft requests in 7 s: asked 3.0 MiB, freed 0.0 MiB, longest 1.0 ms"
    ]
    assert len(caplog.records) == 4


def test_soft_requests_are_a_line_each_for_debugging_and_one_a_minute_for_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "cacheserver.pressure")
    announcer = Announcer()
    for number in range(8):
        announcer.request(request(False, 3 * MIB, 0, 0.0005), float(number))
        announcer.look(4 * MIB)
        announcer.look(4 * MIB)
        announcer.sum_up(float(number))
    assert len(lines(caplog, logging.DEBUG)) == len(caplog.records) == 8
    announcer.sum_up(SOFT_SECONDS)
    assert lines(caplog, logging.INFO) == [
        "8 soft requests in 60 s: asked 24.0 MiB, freed 0.0 MiB, longest 0.5 ms"
    ]


def test_a_ramp_is_told_in_a_handful_of_lines_that_add_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")
    source, now = HandSource(1024 * MIB), 100.0
    source.others, source.own = 100 * MIB, 700 * MIB
    monitor = Monitor([source], clock=lambda: now)

    def give_little(target: int, hard: bool) -> int:
        source.own -= MIB
        return MIB

    monitor.register_shrinker("mean", give_little, count=lambda: source.own, ledger=lambda: (source.own, 0))
    for step in range(700):
        source.others += MIB if step < 400 else 0
        now += 0.001 if step < 400 else 0.05
        monitor.tick(now)
    status = monitor.status()
    assert status.shrinks_hard > 100
    assert len(caplog.records) <= 20
    told = lines(caplog, logging.WARNING)
    single = [line for line in told if line.startswith("hard request")]
    sums = [
        re.match(r"(\d+) more hard requests in \d+ s: asked .*, freed ([0-9.]+) MiB", line) for line in told
    ]
    assert len(single) + sum(int(found[1]) for found in sums if found) == status.shrinks_hard
    assert len(single) + sum(float(found[2]) for found in sums if found) == status.bytes_released_hard / MIB
