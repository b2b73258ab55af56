"""Recordings: they replay to the same decisions, and neither a slow nor a full disk harms the monitor."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacheserver.pressure import Ledger, Level, Reading, Recorder, State, decide
from cacheserver.pressure.record import QUEUE_MAX
from tests.unit.pressure.conftest import Bench

MIB = 1 << 20
Make = Callable[[int, int], Bench]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_recording_replays_to_the_same_decisions(bench: Make, tmp_path: Path) -> None:
    b, path = bench(256 * MIB, 27 * MIB), tmp_path / "timeline"
    with Recorder(b.monitor, str(path)):
        for step in range(60):
            b.source.others += 3 * MIB if 30 <= step < 40 else 0
            b.step(1.3)  # so seldom that each tick is a full look
    state, start = State(), 100.3
    found = lines(path)
    assert len(found) >= 60
    for line in found:
        readings = [Reading(**reading) for reading in line["readings"]]
        decision, state = decide(readings, Ledger(*line["ledger"]), start + line["t"], state, line["stalled"])
        assert decision._asdict() | {"level": decision.level.name} == line["decision"]
    acted = [line for line in found if line["asked"]]
    assert acted
    status = b.monitor.status()
    assert sum(line["asked"] for line in acted) == status.bytes_asked_soft + status.bytes_asked_hard
    assert sum(line["freed"] for line in acted) == status.bytes_released_soft + status.bytes_released_hard
    assert {Level[line["decision"]["level"]] for line in found} > {Level.NONE}
    b.step(0.3)
    assert lines(path) == found
    assert b.monitor.recorder is None


def test_a_disk_that_hangs_costs_lines_and_no_tick(
    bench: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b, path, leave, write = bench(256 * MIB, 27 * MIB), tmp_path / "timeline", threading.Event(), os.write
    monkeypatch.setattr("os.write", lambda fd, text: (leave.wait(30), write(fd, text))[1])
    looks = QUEUE_MAX * 4
    with Recorder(b.monitor, str(path)):
        for _ in range(looks):
            b.step(1.3)
        leave.set()
    found, lost, end = 0, 0, time.monotonic() + 30
    while found + lost < looks and time.monotonic() < end:
        time.sleep(0.01)
        text = path.read_text()
        found, lost = text.count("\n"), sum(map(int, re.findall(r'"dropped":(\d+)', text)))
    assert found + lost == looks
    assert found <= 2 * QUEUE_MAX + 2  # what the queue held, and what the writer had in hand


@pytest.mark.parametrize("full", ["the disk", "the file"])
def test_a_recording_that_finds_no_room_ends_with_one_line(
    full: str, bench: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    b, path = bench(256 * MIB, 27 * MIB), tmp_path / "timeline"

    def no_space(fd: int, text: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if full == "the disk":
        monkeypatch.setattr("os.write", no_space)
    recorder = Recorder(b.monitor, str(path), bytes_max=2000)
    for _ in range(20):
        b.step(0.3)
    recorder.close()
    assert len(caplog.records) == 1
    assert f"recording {path} ends: " in caplog.text
    assert path.stat().st_size <= 2000
    assert b.monitor.recorder is None


def test_the_recording_of_the_run_before_is_kept_and_nothing_else_is_overwritten(
    bench: Make, tmp_path: Path
) -> None:
    b, path = bench(256 * MIB, 27 * MIB), tmp_path / "timeline"
    for run in range(3):
        with Recorder(b.monitor, str(path)):
            for _ in range(run + 1):
                b.step(1.3)
            with pytest.raises(ValueError, match="already"):
                Recorder(b.monitor, str(path))
    assert len(lines(path)) == 3
    assert len(lines(tmp_path / "timeline.1")) == 2
    os.mkfifo(tmp_path / "pipe")
    for bad in ("pipe", "nowhere/timeline"):
        with pytest.raises(OSError, match=r"exists|No such"):
            Recorder(b.monitor, str(tmp_path / bad))
    assert b.monitor.recorder is None
