"""The end of a run: whoever stops it, from wherever, leaves no leave to grow and nothing open behind."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from cacheserver.pressure import Monitor, Reading
from tests.unit.pressure.conftest import HandSource
from tests.unit.pressure.running import WAIT, Stuck, comes, running

MIB, GIB = 1 << 20, 1 << 30


class Granted(HandSource):
    """A source that is also a shrinker with leave to grow, and knows what it has and whether it is closed."""

    def __init__(self) -> None:
        super().__init__(GIB)
        self.leave, self.closed = 0, False
        self.when_granted: Callable[[], object] = lambda: None

    def put_under(self, watching: Monitor) -> None:
        watching.register_shrinker("granted", lambda target, hard: 0, grant=self.grant)

    def read(self, now: float) -> Sequence[Reading]:
        self.closed = False
        return super().read(now)

    def close(self) -> None:
        self.closed = True

    def grant(self, nbytes: int) -> None:
        self.leave = nbytes
        self.when_granted()

    def is_withdrawn(self) -> bool:
        return self.leave == 0 and self.closed


def test_a_stop_from_inside_a_callback_withdraws_the_leave_when_that_returns() -> None:
    source, stopped = Granted(), threading.Event()

    def stop() -> None:
        if threading.current_thread().name == "cacheserver-pressure" and not stopped.is_set():
            watching.stop(WAIT)
            stopped.set()

    watching = Monitor([source])
    source.put_under(watching)
    source.when_granted = stop
    watching.start()
    assert source.leave
    watching.register_shrinker("another", lambda target, hard: 0)  # judged and granted anew
    os.write(watching.wake_fd, (1).to_bytes(8, sys.byteorder))
    assert stopped.wait(WAIT)
    assert comes(source.is_withdrawn)
    assert comes(lambda: not running())
    assert source.is_withdrawn()


def test_a_stop_from_inside_the_first_tick_leaves_nothing_behind() -> None:
    source = Granted()
    watching = Monitor([source])
    source.put_under(watching)
    source.when_granted = watching.stop
    watching.start()
    assert source.is_withdrawn()
    assert not running()


def test_a_stop_inside_another_threads_request_does_not_wait_for_the_watch_which_waits_for_it() -> None:
    source, times = Granted(), []
    watching = Monitor([source])
    source.put_under(watching)

    def stop(target: int, hard: bool) -> int:
        os.write(watching.wake_fd, (1).to_bytes(8, sys.byteorder))
        time.sleep(0.05)  # the monitor's thread comes and wants the turn
        began = time.monotonic()
        watching.stop(WAIT)
        times.append(time.monotonic() - began)
        return 0

    watching.register_shrinker("stops", stop)
    watching.start()
    watching.request(MIB, False)
    assert times[0] < WAIT / 2
    assert comes(source.is_withdrawn)
    assert comes(lambda: not running())


def test_what_a_callback_has_held_up_at_the_stop_is_withdrawn_when_it_returns() -> None:
    source, stuck = Granted(), Stuck()
    watching = Monitor([source])
    source.put_under(watching)
    watching.register_shrinker("stuck", stuck)
    watching.start()
    try:
        source.others = source.limit - 40 * MIB
        assert stuck.inside.wait(WAIT)
        source.leave = MIB
        watching.stop(0.0)
        assert source.leave
    finally:
        stuck.leave.set()
    assert comes(source.is_withdrawn)


def test_a_restart_from_inside_a_callback_is_one_thread_with_leave_to_grant() -> None:
    source, again = Granted(), threading.Event()

    def restart() -> None:
        if threading.current_thread().name == "cacheserver-pressure" and not again.is_set():
            again.set()
            watching.stop()
            watching.start()

    watching = Monitor([source])
    source.put_under(watching)
    source.when_granted = restart
    watching.start()
    try:
        os.write(watching.wake_fd, (1).to_bytes(8, sys.byteorder))
        watching.register_shrinker("another", lambda target, hard: 0)
        assert again.wait(WAIT)
        assert comes(lambda: running() == 1)
        ticks = watching.status().ticks
        assert comes(lambda: watching.status().ticks > ticks + 1)
        assert source.leave
        assert not source.closed
    finally:
        watching.stop()
    assert source.is_withdrawn()


def test_a_thread_that_cannot_be_had_is_not_half_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    watching, left, real = Monitor([HandSource(GIB)]), [0], threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        real(thread)

    for there in range(3):  # the log's, the watchdog's, the monitor's
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            left[0] = there
            with pytest.raises(RuntimeError, match="can't start"):
                watching.start()
        assert comes(lambda: not [one for one in threading.enumerate() if "pressure" in one.name])
        assert not logging.getLogger("cacheserver.pressure").filters
    watching.start()
    watching.stop()


def test_what_has_not_been_said_yet_is_said_at_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")
    watching = Monitor([HandSource(GIB)])
    watching.register_shrinker("cache", lambda target, hard: target)
    watching.start()
    for _ in range(7):
        watching.request(MIB, True)
    watching.request(MIB, False)
    watching.stop()
    assert caplog.text.count("hard request: asked 1.0 MiB, freed 1.0 MiB") == 5
    assert re.search(r"2 more hard requests in \d+ s: asked 2.0 MiB", caplog.text)
    assert re.search(r"1 soft requests in \d+ s: asked 1.0 MiB", caplog.text)
