"""The monitor's thread, woken for real, and replaced when a callback hangs."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from cacheserver.pressure import Decision, Level, Monitor, lookout, rest, runner
from cacheserver.pressure.policy import prior
from cacheserver.pressure.turn import LOOKS
from tests.unit.pressure.conftest import HandSource
from tests.unit.pressure.running import WAIT, Cache, FileSource, Stuck, comes, running

MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def quick_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.02)


def test_writing_to_wake_fd_makes_the_running_monitor_tick_at_once() -> None:
    ticked = threading.Event()
    source = HandSource(16 * GIB)  # far from its bound: the next tick is 250 ms away
    monitor = Monitor([source])
    handle = monitor.register_shrinker("x", lambda t, h: 0, grant=lambda n: ticked.set())
    monitor.start()
    try:
        time.sleep(0.02)
        ticked.clear()
        start = time.monotonic()
        os.write(monitor.wake_fd, (1).to_bytes(8, sys.byteorder))
        assert ticked.wait(5)
        assert time.monotonic() - start < 0.2
        monitor.unregister_shrinker(handle)
        with pytest.raises(ValueError, match="not registered"):
            monitor.unregister_shrinker(handle)
    finally:
        monitor.stop()
    assert not [t for t in threading.enumerate() if t.name == "cacheserver-pressure"]


def test_the_thread_survives_a_policy_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monitor, calls, again = Monitor([HandSource(GIB)]), [], threading.Event()
    real = monitor.tick

    def tick(now: float) -> Decision:
        calls.append(now)
        if len(calls) in (2, 3):
            raise MemoryError
        if len(calls) > 3:
            again.set()
        return real(now)

    monkeypatch.setattr(monitor, "tick", tick)
    monitor.start()
    assert again.wait(5)
    monitor.stop()
    assert "failed with MemoryError" in caplog.text


def test_a_log_that_nobody_reads_does_not_stop_the_monitor() -> None:
    writing, leave, lines = threading.Event(), threading.Event(), []

    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            writing.set()
            leave.wait(5)

    def bad(target: int, hard: bool) -> int:
        for _ in range(300):
            logging.getLogger("cacheserver.pressure").error("a line")
        raise ValueError

    handler, source = Full(), HandSource(256 * MIB)
    monitor = Monitor([source])
    monitor.register_shrinker("bad", bad)
    logging.getLogger("cacheserver.pressure").addHandler(handler)
    try:
        monitor.start()
        source.others = 250 * MIB
        assert writing.wait(5)
        ticks, end = monitor.status().ticks, time.monotonic() + 5
        while monitor.status().ticks < ticks + 10 and time.monotonic() < end:
            time.sleep(0.01)
        assert monitor.status().ticks >= ticks + 10
        leave.set()
    finally:
        leave.set()
        monitor.stop()
        logging.getLogger("cacheserver.pressure").removeHandler(handler)
    assert 50 < len(lines) < 300
    assert any("lines lost" in line for line in lines)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_rise_between_two_full_readings_is_answered_by_the_glance_or_by_ticks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: bool
) -> None:
    monkeypatch.setattr(lookout, "full_interval", lambda *whatever: 1000.0)
    if not compiled:
        monkeypatch.setattr(runner, "glance", None)
    source, asked = FileSource(256 * MIB, tmp_path), threading.Event()
    source.take(238 * MIB)  # a full cache: the reserve and a little more is left
    watching = Monitor([source])
    watching.register_shrinker("x", lambda target, hard: asked.set() or 0, count=lambda: MIB)
    watching.start()
    try:
        assert watching.decision.target == 0
        at_first = watching.status().ticks
        if compiled:
            assert not asked.wait(0.1)
            assert watching.status().ticks <= at_first + 2, "nothing has happened: nothing to do for Python"
        source.take(250 * MIB)
        assert asked.wait(WAIT)
    finally:
        watching.stop()


@pytest.mark.parametrize(("marked", "late"), [(False, False), (True, False), (True, True)])
def test_the_glances_are_rarer_where_the_kernel_calls_by_itself_and_memory_returns_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, marked: bool, late: bool
) -> None:
    glances, source = [], FileSource(256 * MIB, tmp_path)

    def recorded(watches: object, wake: int, deaf: float, tick: float, *more: object) -> object:
        glances.append(tick)
        time.sleep(0.001)
        return [], 0.001

    monkeypatch.setattr(runner, "glance", recorded)
    monkeypatch.setattr(rest, "returns_late", lambda state: late)
    source.marked = marked
    source.take(238 * MIB)
    watching = Monitor([source])
    watching.start()
    try:
        assert comes(lambda: glances)
        assert glances[0] == (runner.MARKED_TICK if marked and not late else watching.decision.tick)
        assert watching.decision.tick < runner.MARKED_TICK
    finally:
        watching.stop()


def test_a_cache_that_comes_while_all_is_at_rest_is_granted_leave_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lookout, "full_interval", lambda *whatever: 1000.0)
    source, granted, resting, look = FileSource(256 * MIB, tmp_path), threading.Event(), [], runner.glance
    monkeypatch.setattr(runner, "glance", lambda *seen: (resting.append(seen), look(*seen))[1])
    watching = Monitor([source])
    watching.start()
    try:
        assert comes(lambda: resting)
        reads = source.full_reads
        watching.register_shrinker("late", lambda target, hard: 0, grant=lambda nbytes: granted.set())
        assert granted.wait(WAIT)
        assert source.full_reads > reads
    finally:
        watching.stop()


def test_the_state_learns_when_the_quiet_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, told = FileSource(256 * MIB, tmp_path), []
    source.take(238 * MIB)
    watching = Monitor([source])
    monkeypatch.setattr(watching, "rested", told.append)
    watching.start()
    try:
        started = time.monotonic()
        assert comes(lambda: told)
        source.take(250 * MIB)
        risen = time.monotonic()
        assert comes(lambda: watching.decision.level is Level.CRITICAL)
        assert started <= told[0]
        assert max(told) < risen
    finally:
        watching.stop()


def test_another_thread_goes_on_without_a_callback_that_hangs(
    quick_watchdog: None, caplog: pytest.LogCaptureFixture
) -> None:
    source, stuck = HandSource(256 * MIB), Stuck()
    cache = Cache(source)
    source.others, source.own = 60 * MIB, 170 * MIB
    watching = Monitor([source])
    handle = watching.register_shrinker("stuck", stuck, count=lambda: GIB)  # the most, so asked first
    watching.register_shrinker("cache", cache, count=lambda: source.own, ledger=lambda: (source.own, 0))
    watching.start()
    try:
        old = next(thread for thread in threading.enumerate() if thread.name == "cacheserver-pressure")
        source.others += 20 * MIB
        assert stuck.inside.wait(WAIT)
        assert comes(lambda: cache.freed > 0), "the pressure is still there"
        assert old.is_alive()
        assert stuck.calls == 1
        removing = threading.Thread(target=watching.unregister_shrinker, args=(handle,), daemon=True)
        removing.start()
        removing.join(0.05)
        assert removing.is_alive()
        stuck.leave.set()
        removing.join(WAIT)
        assert not removing.is_alive()
        old.join(WAIT)
        assert not old.is_alive()
        ticks = watching.status().ticks
        assert comes(lambda: watching.status().ticks > ticks)
        assert running() == 1
    finally:
        stuck.leave.set()
        watching.stop()
    status = watching.status()
    assert status.bytes_released_soft + status.bytes_released_hard == cache.freed
    assert stuck.calls == 1
    assert caplog.text.count("stuck: a call has not returned for") == 1
    assert caplog.text.count("stuck: the call has returned after") == 1


def test_a_subscriber_that_hangs_is_told_again_once_it_is_back(quick_watchdog: None) -> None:
    source, stuck, heard = HandSource(256 * MIB), Stuck(), []
    watching = Monitor([source])
    handle = watching.subscribe(Level.LOW, lambda level: heard.append(level) or stuck(0, False))
    watching.start()
    try:
        source.others = 250 * MIB
        assert stuck.inside.wait(WAIT)
        assert comes(lambda: handle.hanging)
        source.others = 20 * MIB
        assert comes(lambda: watching.decision.level is Level.NONE), "somebody goes on"
        removing = threading.Thread(target=watching.unsubscribe, args=(handle,), daemon=True)
        removing.start()
        removing.join(0.05)
        assert removing.is_alive()
        stuck.leave.set()
        removing.join(WAIT)
        assert not removing.is_alive()
        assert heard == [Level.CRITICAL]
    finally:
        stuck.leave.set()
        watching.stop()


def test_a_request_that_is_given_up_has_freed_nothing_and_stops_nobody() -> None:
    source, stuck, outcomes = HandSource(256 * MIB), Stuck(), []
    watching = Monitor([source])
    watching.register_shrinker("stuck", stuck, ledger=lambda: (3 * MIB, 2 * MIB, MIB))
    watching.register_shrinker("cache", lambda target, hard: target)
    watching.tick(100.0)
    asking = threading.Thread(target=lambda: outcomes.append(watching.request(MIB, True)), daemon=True)
    asking.start()
    assert stuck.inside.wait(WAIT)
    assert watching.request(MIB, True, may_block=False) == (0, 0)
    assert any(watching.look_for_hang() for _ in range(LOOKS))
    assert watching.request(MIB, True) == (MIB, MIB), "from the other, without the one that hangs"
    assert watching.tick(101.0).headroom == source.limit - 2 * MIB, "its memory is there still"
    stuck.leave.set()
    asking.join(WAIT)
    assert outcomes == [(0, 0)]
    assert watching.status().shrinks_hard == 1


def test_what_a_late_call_frees_teaches_nothing_about_the_others() -> None:
    source, freed, leave = HandSource(256 * MIB), threading.Event(), threading.Event()
    source.others, source.own = 60 * MIB, 185 * MIB

    def late(target: int, hard: bool) -> int:
        source.own -= 60 * MIB
        freed.set()
        assert leave.wait(WAIT)
        return 60 * MIB

    watching = Monitor([source])
    watching.register_shrinker("late", late, ledger=lambda: (source.own, 0))
    ticking = threading.Thread(target=watching.tick, args=(100.0,), daemon=True)
    ticking.start()
    assert freed.wait(WAIT)
    assert any(watching.look_for_hang() for _ in range(LOOKS))
    watching.tick(100.01)  # others seem to have let go of 60 MiB
    leave.set()
    ticking.join(WAIT)
    watching.tick(100.02)  # and to have taken them again at once
    assert watching.status().reserve == prior(256 * MIB)
    assert watching.status().bytes_released_hard == 0


def test_who_comes_back_late_is_asked_again_by_the_new_thread(quick_watchdog: None) -> None:
    source, stuck = HandSource(256 * MIB), Stuck()
    source.others = 250 * MIB
    watching = Monitor([source])
    starting = threading.Thread(target=watching.start, daemon=True)
    watching.register_shrinker("stuck", stuck)
    starting.start()  # its first tick does not come back, the monitor begins nevertheless
    try:
        assert stuck.inside.wait(WAIT)
        assert comes(running)
        ticks = watching.status().ticks
        assert comes(lambda: watching.status().ticks > ticks + 2)
        assert starting.is_alive()
        stuck.leave.set()
        assert comes(lambda: stuck.calls > 1)
        starting.join(WAIT)
        assert not starting.is_alive()
        assert running() == 1
        assert len(stuck.threads) == 2
    finally:
        stuck.leave.set()
        watching.stop()
    assert running() == 0


def test_a_start_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Monitor([HandSource(GIB)])
    monkeypatch.setattr(watching, "tick", lambda now: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        watching.start()
    assert not [thread for thread in threading.enumerate() if "pressure" in thread.name]
    monkeypatch.undo()
    watching.start()
    with pytest.raises(RuntimeError, match="already started"):
        watching.start()
    watching.stop()


def test_the_thread_tells_its_own_processor_time() -> None:
    def work(target: int, hard: bool) -> int:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return 0

    source = HandSource(256 * MIB)
    watching = Monitor([source])
    watching.register_shrinker("busy", work)
    watching.start()
    try:
        source.others = 250 * MIB
        assert comes(lambda: watching.status().cpu_seconds >= 0.02)
        assert watching.status().cpu_seconds <= time.process_time()
    finally:
        watching.stop()
