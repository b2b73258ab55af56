"""What the monitor says in the log, and how little of it there is under a ramp."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from cacheserver.pressure.announce import HARD_LINES, LOG_SECONDS, SOFT_SECONDS, Announcer
from cacheserver.pressure.policy import Level
from cacheserver.pressure.tally import Request
from tests.unit.pressure.conftest import Bench

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


def test_a_ramp_is_told_in_a_handful_of_lines_that_add_up(
    bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")
    b = bench(1024 * MIB, 27 * MIB)
    b.fill()
    for _ in range(400):
        b.source.others += MIB
        b.step(0.001, grow=False)
    for _ in range(300):
        b.step(0.05)
    status = b.monitor.status()
    assert status.shrinks_hard > 20
    assert len(caplog.records) <= 20
    sums = [re.match(r"(\d+) more hard requests", line) for line in lines(caplog, logging.WARNING)]
    single = [line for line in lines(caplog, logging.WARNING) if line.startswith("hard request")]
    assert len(single) + sum(int(found[1]) for found in sums if found) == status.shrinks_hard
