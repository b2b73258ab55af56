"""Caches of cachetools and functools.lru_cache as shrinkers."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import cachetools
import pytest

from cacheserver.pressure import (
    Context,
    Monitor,
    Registration,
    adapters,
    shrink_cachetools,
    shrink_lru_cache,
)

KIB, MIB = 1 << 10, 1 << 20


def ask(handle: Registration, target: int, hard: bool) -> int:
    """Ask as the monitor does; the bytes freed."""
    return handle.call(target, target, 1 << 40, Context(hard=hard))


def count(handle: Registration) -> int:
    return handle.freeable(-1, Context())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def unlimited(kind: str, **more: Any) -> Any:
    """An empty cache of the named class, which lets its entries expire after 10 s where it can."""
    extra: dict[str, Any] = {
        "TTLCache": {"ttl": 10.0},
        "TLRUCache": {"ttu": lambda key, value, now: now + 10.0},
    }.get(kind, {})
    return getattr(cachetools, kind)(maxsize=1 << 40, **extra, **more)


KINDS = ["FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request ends early because the machine is busy."""
    monkeypatch.setattr(adapters, "SLICE", 600.0)


@pytest.fixture
def monitor() -> Monitor:
    return Monitor([])  # it only keeps the registration; the tests ask by hand


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_frees_the_target_and_not_an_entry_more(kind: str, monitor: Monitor) -> None:
    cache = unlimited(kind, getsizeof=len)
    for key in range(1000):
        cache[key] = b"x" * 100
    handle = shrink_cachetools(cache, lock=threading.Lock(), monitor=monitor)
    assert count(handle) == 100_000
    for hard in (False, True):
        assert ask(handle, 20_050, hard) == 20_050
    assert len(cache) == 1000 - 2 * 201
    assert ask(handle, 10**9, True) == 59_800
    assert (len(cache), count(handle), ask(handle, 1, True)) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["TTLCache", "TLRUCache"])
def test_what_has_expired_goes_first_and_is_not_claimed_beyond_the_target(
    kind: str, monitor: Monitor
) -> None:
    clock = Clock()
    cache = unlimited(kind, getsizeof=len, timer=clock)
    for key in range(2000):
        clock.now = 0.0 if key < 1000 else 5.0
        cache[key] = b"x" * 100
    for key in range(500):
        cache.get(key)  # used last, and dead all the same
    clock.now = 12.0
    handle = shrink_cachetools(cache, lock=threading.Lock(), monitor=monitor)
    assert ask(handle, 5_000, False) == 5_000
    assert sorted(cache) == list(range(1000, 2000))  # all the dead, none of the living
    assert ask(handle, 5_000, False) == 5_000
    assert len(cache) == 950


def test_the_coldest_go_and_a_look_at_their_sizes_warms_nothing(monitor: Monitor) -> None:
    cache = cachetools.LRUCache(maxsize=100)
    for key in range(10):
        cache[key] = bytes(1000)
    cache[0]
    handle = shrink_cachetools(cache, lock=threading.Lock(), monitor=monitor)
    held = count(handle)
    assert 10 * 1000 < held < 10 * 1200
    freed = ask(handle, 3000, False)
    assert freed == 3000
    assert list(cache) == [0, 4, 5, 6, 7, 8, 9]


def test_a_request_ends_when_its_time_is_over(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cachetools.LRUCache(maxsize=1 << 40, getsizeof=len)
    for key in range(1000):
        cache[key] = b"x" * 100
    handle = shrink_cachetools(cache, lock=threading.Lock(), monitor=monitor)
    monkeypatch.setattr(adapters, "SLICE", 0.0)
    freed = [ask(handle, 50_000, True) for _ in range(2)]
    assert freed[0] == freed[1] > 0
    assert len(cache) == 1000 - sum(freed) // 100 > 500


def test_small_requests_add_up_to_a_trim(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[int] = []
    cache = cachetools.LRUCache(maxsize=1 << 40)
    cache.update(dict.fromkeys(range(20)))
    handle = shrink_cachetools(cache, lock=threading.Lock(), sizeof=lambda value: MIB, monitor=monitor)
    monkeypatch.setattr(adapters, "trim", lambda: trims.append(len(cache)))
    for _ in range(10):
        ask(handle, MIB, False)
    assert trims == [16, 12]


def test_a_sizeof_of_ones_own_counts_instead_of_the_caches(monitor: Monitor) -> None:
    cache = cachetools.LRUCache(maxsize=100, getsizeof=lambda value: 2)
    for key in range(10):
        cache[key] = "x"
    handle = shrink_cachetools(cache, lock=threading.Lock(), sizeof=lambda value: 500, monitor=monitor)
    assert count(handle) == 5000
    assert ask(handle, 1001, False) == 1001
    assert len(cache) == 7


def test_soft_passes_a_busy_lock_and_hard_waits_for_it(monitor: Monitor) -> None:
    cache = cachetools.LRUCache(maxsize=100, getsizeof=lambda value: 10)
    cache.update(dict.fromkeys(range(10)))
    waited: list[tuple[Any, ...]] = []

    class Busy:
        """A lock that somebody holds until a second look."""

        free = False

        def acquire(self, *how: Any) -> bool:
            waited.append(how)
            taken, self.free = self.free, how != (False,)
            return taken

        def release(self) -> None:
            self.free = True

    lock = Busy()
    handle = shrink_cachetools(cache, lock=lock, monitor=monitor)
    assert ask(handle, 20, False) == 0
    assert ask(handle, 20, True) == 0
    assert len(cache) == 10
    assert ask(handle, 20, True) == 20
    assert waited[0] == (False,)
    assert waited[1][0] is True
    assert 0 < waited[1][1] < 1  # a bounded wait


def test_the_lock_keeps_a_cache_whole_that_others_fill(monitor: Monitor) -> None:
    cache, lock = cachetools.LRUCache(maxsize=500), threading.Lock()
    failures: list[Exception] = []
    handle = shrink_cachetools(cache, lock=lock, sizeof=lambda value: 10, monitor=monitor)
    done = threading.Event()

    def fill(first: int) -> None:
        try:
            for key in range(first, first + 20_000):
                with lock:
                    cache[key % 3000] = key
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=fill, args=(n * 1000,), daemon=True) for n in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        threading.Thread(target=lambda: [thread.join() for thread in threads] and done.set()).start()
        while not done.is_set():
            ask(handle, 500, True)
            ask(handle, 300, False)
    finally:
        sys.setswitchinterval(interval)
    assert not failures
    assert cache.currsize == len(cache) == len(list(cache)) <= 500
    ask(handle, 10**6, True)
    assert len(cache) == 0


def test_finalizers_of_values_may_take_the_caches_lock(monitor: Monitor) -> None:
    lock, seen = threading.Lock(), []  # type: Any, list[bool]

    class Value:
        def __del__(self) -> None:
            seen.append(lock.acquire(timeout=5))
            lock.release()

    cache = cachetools.FIFOCache(maxsize=1000)
    for key in range(300):
        cache[key] = Value()
    handle = shrink_cachetools(cache, lock=lock, sizeof=lambda value: 10, monitor=monitor)
    assert ask(handle, 2500, True) == 2500
    assert seen == [True] * 250


class Stubborn(cachetools.LRUCache):  # type: ignore[misc]
    """Lets go of three entries, then fails."""

    def popitem(self) -> Any:
        if len(self) <= 7:
            raise OSError("write-back failed")
        return super().popitem()


def test_a_cache_that_raises_costs_one_line_and_frees_what_it_can(
    monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Stubborn(maxsize=1000, getsizeof=lambda value: 10)
    cache.update(dict.fromkeys(range(10)))
    lock = threading.Lock()
    handle = shrink_cachetools(cache, lock=lock, name="stubborn", monitor=monitor)
    with caplog.at_level(logging.ERROR):
        assert [ask(handle, 1000, True) for _ in range(4)] == [30, 0, 0, 0]
    assert [record.getMessage() for record in caplog.records] == [
        "shrinker stubborn: the cache raised OSError('write-back failed'); going on"
    ]
    assert not lock.locked()
    assert handle.enabled


def test_a_cache_whose_popitem_removes_nothing_ends_the_request(monitor: Monitor) -> None:
    class Hollow(cachetools.LRUCache):  # type: ignore[misc]
        def popitem(self) -> Any:
            return next(iter(self)), b""

    cache = Hollow(maxsize=1000, getsizeof=len)
    for key in range(300):
        cache[key] = b"x"
    assert ask(shrink_cachetools(cache, lock=threading.Lock(), monitor=monitor), 10, True) == 0


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: shrink_cachetools(cachetools.LRUCache(1)), ValueError, "needs lock="),
        (lambda: shrink_cachetools({}, lock=threading.Lock()), TypeError, "not dict"),
        (lambda: shrink_cachetools(cachetools.LRUCache(1), lock=object()), TypeError, "not object"),
        (lambda: shrink_cachetools(cachetools.LRUCache(1), lock=asyncio.Lock()), TypeError, "for threads"),
        (lambda: shrink_lru_cache(len, item_bytes=1), TypeError, "cache_info"),
        (lambda: shrink_lru_cache(functools.cache(len), item_bytes=0), ValueError, "above 0"),
    ],
)
def test_what_cannot_work_is_said_at_once(make: Callable[[], object], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_without_cachetools_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cachetools", None)
    with pytest.raises(ImportError, match="pip install cachetools"):
        shrink_cachetools(object(), lock=threading.Lock())


def filled_lru_cache(entries: int) -> Any:
    @functools.cache
    def square(number: int) -> int:
        return number * number

    for number in range(entries):
        square(number)
    return square


def test_an_lru_cache_is_cleared_when_hard_or_when_soft_wants_half_of_it(monitor: Monitor) -> None:
    func = filled_lru_cache(100)
    handle = shrink_lru_cache(func, item_bytes=KIB, monitor=monitor)
    assert count(handle) == 100 * KIB
    assert ask(handle, 49 * KIB, False) == 0
    assert func.cache_info().currsize == 100
    assert ask(handle, 50 * KIB, False) == 50 * KIB  # no more than was asked is claimed
    assert func.cache_info().currsize == 0
    func = filled_lru_cache(100)
    assert ask(shrink_lru_cache(func, item_bytes=KIB, monitor=monitor), 1, True) == 1
    assert func.cache_info().currsize == 0


def test_a_method_under_lru_cache_stays_registered(monitor: Monitor) -> None:
    class Table:
        @functools.lru_cache  # noqa: B019 - the point of the test
        def row(self, number: int) -> int:
            return number

    table = Table()
    handle = shrink_lru_cache(table.row, item_bytes=KIB, monitor=monitor)
    table.row(1)
    gc.collect()
    assert ask(handle, KIB, True) == KIB


def test_an_lru_cache_that_raises_is_contained(monitor: Monitor) -> None:
    class Broken:
        def cache_info(self) -> Any:
            raise RuntimeError("no")

        def cache_clear(self) -> None:
            raise RuntimeError("no")

    broken = Broken()
    handle = shrink_lru_cache(broken, item_bytes=KIB, monitor=monitor)
    assert (count(handle), ask(handle, KIB, True)) == (0, 0)
