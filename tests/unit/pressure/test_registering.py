"""Shrinkers that come and go while others are asked."""

from __future__ import annotations

import sys
import threading

import pytest

import cacheserver.pressure as pressure
from cacheserver.pressure import Monitor
from cacheserver.pressure.registration import Registration
from tests.unit.pressure.conftest import HandSource
from tests.unit.pressure.test_requests import Plain

MIB = 1 << 20


def test_the_same_name_may_be_registered_twice_and_the_handle_tells_them_apart() -> None:
    monitor, first, second = Monitor([]), Plain(), Plain()
    one, two = monitor.register_shrinker("x", first), monitor.register_shrinker("x", second)
    monitor.unregister_shrinker(one)
    monitor.request(MIB, True)
    assert (first.asked, second.asked) == ([], [MIB])
    with pytest.raises(ValueError, match="'x' is not registered"):
        monitor.unregister_shrinker(one)
    monitor.unregister_shrinker(two)


def test_a_callback_may_unregister_itself_and_those_after_it_in_the_same_request() -> None:
    monitor, later = Monitor([]), Plain()

    def last_words(target: int, hard: bool) -> int:
        monitor.unregister_shrinker(own)
        monitor.unregister_shrinker(other)
        with pytest.raises(ValueError, match="not registered"):
            monitor.unregister_shrinker(own)
        return 0

    own = monitor.register_shrinker("own", last_words, count=lambda: MIB)
    other = monitor.register_shrinker("later", later, count=lambda: MIB)
    assert monitor.request(2 * MIB, True).freed == 0
    assert later.asked == []
    assert not own.strikes
    assert monitor.request(MIB, True) == (0, 0)


def test_a_grant_may_unregister_the_next_one_before_its_own() -> None:
    monitor, granted = Monitor([HandSource(256 * MIB)]), []
    first = monitor.register_shrinker(
        "first", lambda t, h: 0, grant=lambda n: monitor.unregister_shrinker(second)
    )
    second = monitor.register_shrinker("second", lambda t, h: 0, grant=granted.append)
    monitor.tick(1.0)
    assert granted == []
    assert not first.strikes


def test_callbacks_of_the_shared_monitor_may_register_and_unregister_with_it() -> None:
    def running() -> int:
        return sum(t.name == "cacheserver-pressure" for t in threading.enumerate())

    later: list[Registration] = []
    known, replaced = threading.Event(), threading.Event()

    def grant(allowance: int) -> None:  # the first comes within register_shrinker, from its first tick
        if not later:
            later.append(pressure.register_shrinker("second", lambda t, h: 0, grant=ends))

    def ends(allowance: int) -> None:
        if len(later) == 1 and known.is_set():
            assert threading.current_thread().name == "cacheserver-pressure"
            pressure.unregister_shrinker(first)
            later.append(pressure.register_shrinker("third", lambda t, h: 0))
            replaced.set()

    first = pressure.register_shrinker("first", lambda t, h: 0, grant=grant)
    known.set()
    assert replaced.wait(5)
    assert running() == 1
    for handle in later:
        pressure.unregister_shrinker(handle)
    assert running() == 0


def test_the_shared_monitor_survives_being_stopped_from_its_own_thread() -> None:
    known, ended = threading.Event(), threading.Event()

    def grant(allowance: int) -> None:
        if known.is_set() and not ended.is_set():
            assert threading.current_thread().name == "cacheserver-pressure"
            pressure.unregister_shrinker(only)
            ended.set()

    only = pressure.register_shrinker("only", lambda t, h: 0, grant=grant)
    known.set()
    assert ended.wait(5)
    again = pressure.register_shrinker("again", lambda t, h: 0)
    pressure.unregister_shrinker(again)
    for thread in threading.enumerate():
        if thread.name == "cacheserver-pressure":
            thread.join(5)
            assert not thread.is_alive()


def test_threads_that_come_ask_and_go_are_called_one_at_a_time_and_never_after_they_left() -> None:
    source = HandSource(256 * MIB)
    source.others = 250 * MIB  # every tick asks hard
    monitor, inside, failures, freed = Monitor([source]), threading.Lock(), [], []  # type: ignore[var-annotated]

    class Guest:
        here = True

        def count(self) -> int:
            return MIB if self.here else failures.append("counted late") or 0  # type: ignore[func-returns-value]

        def request_memory(self, target: int, hard: bool) -> int:
            if not inside.acquire(blocking=False):
                failures.append("two at a time")
                return 0
            if not self.here:
                failures.append("asked late")
            freed.append(target)
            inside.release()
            return target

    def come_and_go() -> None:
        try:
            for turn in range(40):
                guest = Guest()
                handle = monitor.register_shrinker("guest", guest, count=guest.count)
                monitor.request(MIB, turn % 2 == 0)
                monitor.unregister_shrinker(handle)
                guest.here = False
                if turn % 4 == 0:
                    monitor.tick(float(turn))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go, daemon=True) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures
    status = monitor.status()
    assert status.bytes_released_soft + status.bytes_released_hard == sum(freed) > 0
    assert monitor.shrinkers() == []
