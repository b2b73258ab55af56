"""Caches under an adapter that die: anywhere, in a tick too, and nothing of them stays registered."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Callable
from typing import Any

import cachetools
import pytest

from cacheserver.pressure import Monitor, Registration, shrink_cachetools, shrink_lru_cache
from tests.unit.pressure.test_adapters import ask, count

MIB = 1 << 20


class Graves(Monitor):
    """Tells when a registration has ended."""

    def __init__(self) -> None:
        super().__init__([])
        self.buried = threading.Event()

    def unregister_shrinker(self, handle: Registration) -> None:
        super().unregister_shrinker(handle)
        self.buried.set()


def make_cachetools(monitor: Monitor) -> tuple[Any, Registration]:
    cache = cachetools.LRUCache(maxsize=10)
    cache[1] = bytes(MIB)
    return cache, shrink_cachetools(cache, lock=threading.Lock(), monitor=monitor)


def make_lru_cache(monitor: Monitor) -> tuple[Any, Registration]:
    func = functools.lru_cache(lambda number: number)
    func(1)
    return func, shrink_lru_cache(func, item_bytes=MIB, monitor=monitor)


@pytest.mark.parametrize("make", [make_cachetools, make_lru_cache])
def test_a_cache_that_is_gone_unregisters_itself_and_frees_nothing(
    make: Callable[[Monitor], tuple[Any, Registration]],
) -> None:
    monitor = Graves()
    cache, handle = make(monitor)
    assert count(handle) > 0
    del cache
    gc.collect()
    assert monitor.buried.wait(30)
    assert (count(handle), ask(handle, MIB, True)) == (0, 0)
    with pytest.raises(ValueError, match="not registered"):
        monitor.unregister_shrinker(handle)


def test_a_cache_that_dies_within_a_tick_does_not_stop_it() -> None:
    monitor = Graves()
    cache, _ = make_cachetools(monitor)
    alive = [cache]
    del cache

    def ledger() -> tuple[int, int]:
        alive.clear()
        return 0, 0

    monitor.register_shrinker("last", lambda target, hard: 0, ledger=ledger)
    monitor.tick(1.0)
    assert monitor.buried.wait(30)


def test_a_cache_may_die_under_a_lock_that_a_running_tick_waits_for() -> None:
    monitor, lock, inside = Graves(), threading.Lock(), threading.Event()
    cache, _ = make_cachetools(monitor)
    got: list[bool] = []

    def ledger() -> tuple[int, int]:
        inside.set()
        got.append(lock.acquire(timeout=30))
        if got[-1]:
            lock.release()
        return 0, 0

    monitor.register_shrinker("waits", lambda target, hard: 0, ledger=ledger)
    ticking = threading.Thread(target=lambda: monitor.tick(1.0), daemon=True)
    with lock:
        ticking.start()
        assert inside.wait(30)
        del cache
        gc.collect()
    ticking.join(30)
    assert set(got) == {True}
    assert monitor.buried.wait(30)
