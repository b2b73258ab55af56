"""Adapters: caches that programs already have, as shrinkers: those of cachetools, and functools.lru_cache.

Knows: what these caches offer. Must not know: readings, the policy, who asks.
Memory: the cache's own; an adapter holds the cache weakly, and a cache that is gone is unregistered.
Threads: the callbacks come from the monitor's thread; each says what protects the cache.

Freed bytes are bytes that Python can use again. How much of it the system gets is for its allocators to say
(docs/adapters.md has figures).
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import inspect
import logging
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol

from cacheserver.pressure.default import register_shrinker, unregister_shrinker
from cacheserver.pressure.heap import size_of, trim
from cacheserver.pressure.monitor import Monitor
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.shrinker import DEFAULT_COST

log = logging.getLogger("cacheserver.pressure")

MIB = 1 << 20
BATCH = 128  # entries that soft takes under one hold of the lock, as Linux's SHRINK_BATCH
SLICE = 0.02  # seconds after which a request ends: the monitor has others to serve, and asks again
LOCK_WAIT = 0.02  # seconds that a hard request waits for the cache's lock; the monitor asks again
SAMPLE = 16  # entries whose size is looked at to tell how much a cache holds
TRIM_EVERY = 4 * MIB  # bytes freed until malloc is told again to hand on its free pages: 1 to 2 ms
SOFT_SHARE = 0.5  # of what an lru_cache holds: a soft request for less is not worth losing all of it


class Lock(Protocol):
    """threading.Lock, RLock, Condition and their like."""

    def acquire(self, blocking: bool = ..., timeout: float = ..., /) -> bool: ...

    def release(self) -> None: ...


class LruCacheLike(Protocol):
    """What functools.lru_cache and cache make of a function."""

    def cache_info(self) -> Any: ...

    def cache_clear(self) -> None: ...


def shrink_cachetools(
    cache: Any,
    *,
    lock: Lock | None = None,
    sizeof: Callable[[Any], int] | None = None,
    name: str | None = None,
    cost: float = DEFAULT_COST,
    monitor: Monitor | None = None,
) -> Registration:
    """Register a cache of cachetools as a shrinker; returns the handle for `unregister_shrinker`.

    Asked for bytes it drops what has expired, then calls `popitem()`, the cache's own choice, until the
    target is met or `SLICE` seconds are over. It never raises.

    `lock`: what all users of the cache hold while they use it (`cached(cache, lock=lock)`): requests come
    from the monitor's thread. A soft request passes when it is busy; a hard one waits `LOCK_WAIT` seconds for
    it. None only with a `monitor` whose `tick` is called in the thread that uses the cache.
    `sizeof(value)`: bytes of a value. None: the cache's own `getsizeof`, where it was given one (it must
    count bytes), else an estimate from the objects themselves, key included (`heap.size_of`).
    `cost`: of making an entry again, as for `register_shrinker`.

    TypeError when `cache` is not of cachetools or `lock` is no lock for threads; ValueError without a lock
    where one is needed; ImportError without cachetools.
    """
    try:
        base = importlib.import_module("cachetools").Cache
    except ImportError:
        raise ImportError("shrink_cachetools needs cachetools: pip install cachetools") from None
    if not isinstance(cache, base):
        raise TypeError(f"shrink_cachetools takes a cachetools.Cache, not {type(cache).__name__}")
    if lock is None and monitor is None:
        raise ValueError("shrink_cachetools needs lock=: the monitor's thread and yours both use the cache")
    if lock is not None and not (hasattr(lock, "acquire") and hasattr(lock, "release")):
        raise TypeError(f"lock= takes a lock with acquire and release, not {type(lock).__name__}")
    if lock is not None and inspect.iscoroutinefunction(lock.acquire):
        raise TypeError("lock= takes a lock for threads: the monitor's cannot wait for one of asyncio")
    name = name or f"cachetools {type(cache).__name__}"
    return _register(cache, _Cachetools(cache, base, lock, sizeof, name), name, cost, monitor)


def shrink_lru_cache(
    func: LruCacheLike,
    *,
    item_bytes: int,
    name: str | None = None,
    cost: float = DEFAULT_COST,
    monitor: Monitor | None = None,
) -> Registration:
    """Register a function under functools.lru_cache or cache, or one like it, as a shrinker; returns the
    handle for `unregister_shrinker`.

    Such a cache can only be emptied as a whole (`cache_clear`, which also starts `cache_info`'s figures
    anew). A hard request does that, a soft one only when it wants at least half of what the cache holds. It
    never raises.

    `item_bytes`: what an entry takes, on average, > 0: nobody can look inside. `func` must bear `cache_clear`
    from any thread, as functools' does. TypeError, ValueError for what does not fit.
    """
    if not (callable(getattr(func, "cache_info", None)) and callable(getattr(func, "cache_clear", None))):
        raise TypeError(f"shrink_lru_cache takes a function with cache_info and cache_clear, not {func!r}")
    if not item_bytes > 0:
        raise ValueError(f"item_bytes must be above 0, not {item_bytes!r}")
    func = getattr(func, "__func__", func)  # a bound method is made at every look and gone after it
    name = name or f"lru_cache {getattr(func, '__qualname__', type(func).__name__)}"
    return _register(func, _LruCache(func, item_bytes, name), name, cost, monitor)


class _Adapter(ABC):
    """A cache held weakly, and what is common: the log's one line, the trim."""

    def __init__(self, cache: Any, name: str) -> None:
        self._cache: weakref.ref[Any] = weakref.ref(cache)
        self._name = name
        self._untrimmed = 0
        self._complained = False

    def request_memory(self, target: int, hard: bool) -> int:
        cache = self._cache()
        if cache is None:
            return 0
        freed = self.shrink(cache, target, hard)
        self._untrimmed += freed
        if self._untrimmed >= TRIM_EVERY:
            self._untrimmed = 0
            trim()
        # All that has expired, a whole lru_cache: far more than was asked looks like a lie to who asks.
        return min(freed, target)

    @abstractmethod
    def shrink(self, cache: Any, target: int, hard: bool) -> int:
        """Free `target` bytes of a cache that is alive; the bytes freed."""

    @abstractmethod
    def count(self) -> int:
        """Bytes it could free, roughly."""

    def complain(self, error: Exception) -> None:
        """One line for the first failure."""
        if not self._complained:
            self._complained = True
            log.error("shrinker %s: the cache raised %r; going on", self._name, error)


class _Work:
    """How far a request has come. `left`: entries that were there at first and may still go, -1: not known;
    later ones are not worth chasing.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.freed = 0
        self.left = -1

    @property
    def done(self) -> bool:
        return self.freed >= self.target or self.left == 0


class _Cachetools(_Adapter):
    """A cachetools.Cache. Soft holds the lock for a batch of entries at a time, hard until the end."""

    def __init__(
        self, cache: Any, base: Any, lock: Lock | None, sizeof: Callable[[Any], int] | None, name: str
    ) -> None:
        super().__init__(cache, name)
        self._look = base.__getitem__  # the plain one: a look is no use, so it must not change the order
        self._lock = lock
        self._sizeof = sizeof
        # Without a getsizeof of its own, a cache counts entries.
        self._counts_bytes = sizeof is None and cache.getsizeof is not base.getsizeof
        self._counted = 0

    def shrink(self, cache: Any, target: int, hard: bool) -> int:
        work = _Work(target)
        end = time.monotonic() + SLICE
        try:
            while not work.done:
                # What goes is dropped when the lock is free: its finalizers may want it.
                gone: list[tuple[Any, Any]] = []
                if not self._enter(hard):
                    break
                try:
                    if work.left < 0:
                        gone += self._expired(cache)
                        work.freed = sum(self._bytes_of(cache, key, value) for key, value in gone)
                        work.left = len(cache)
                    # Hard keeps the lock: who goes on filling the cache meanwhile would undo it.
                    while not work.done:
                        self._evict(cache, gone, work)
                        if not hard or time.monotonic() >= end:
                            break
                finally:
                    self._leave()
                if time.monotonic() >= end:
                    break
                if not hard:
                    time.sleep(0)  # soft has time: whoever waits for the lock goes first
        except Exception as error:
            self.complain(error)
        return work.freed

    def _evict(self, cache: Any, gone: list[tuple[Any, Any]], work: _Work) -> None:
        """Take out a batch of entries."""
        for _ in range(min(BATCH, work.left)):
            work.left -= 1
            try:
                gone.append(cache.popitem())
            except KeyError:
                if len(cache):
                    raise
                work.left = 0  # the rest has expired meanwhile
                break
            work.freed += self._bytes_of(cache, *gone[-1])
            if work.freed >= work.target:
                break

    def count(self) -> int:
        cache = self._cache()
        if cache is None:
            return 0
        try:
            if self._enter(False):
                try:
                    self._counted = int(cache.currsize) if self._counts_bytes else self._estimate(cache)
                finally:
                    self._leave()
        except Exception as error:
            self.complain(error)
        return self._counted

    def _estimate(self, cache: Any) -> int:
        """Bytes in the cache, from the first few entries."""
        keys = list(islice(cache, SAMPLE))
        sizes = [self._bytes_of(cache, key, self._look(cache, key)) for key in keys]
        return len(cache) * sum(sizes) // len(sizes) if sizes else 0

    def _bytes_of(self, cache: Any, key: Any, value: Any) -> int:
        if self._counts_bytes:
            return max(0, int(cache.getsizeof(value)))
        return size_of(key, value) if self._sizeof is None else max(0, int(self._sizeof(value)))

    @staticmethod
    def _expired(cache: Any) -> list[tuple[Any, Any]]:
        """Take out what has expired, in caches that know of time."""
        expire = getattr(cache, "expire", None)
        return list(expire() or ()) if expire else []  # versions before 5.5 do not say what went

    def _enter(self, hard: bool) -> bool:
        if self._lock is None:
            return True
        return self._lock.acquire(True, LOCK_WAIT) if hard else self._lock.acquire(False)

    def _leave(self) -> None:
        if self._lock is not None:
            self._lock.release()


class _LruCache(_Adapter):
    """What functools.lru_cache makes: all or nothing."""

    def __init__(self, func: LruCacheLike, item_bytes: int, name: str) -> None:
        super().__init__(func, name)
        self._item_bytes = item_bytes

    def shrink(self, cache: Any, target: int, hard: bool) -> int:
        held = self.count()
        if not hard and target < held * SOFT_SHARE:
            return 0
        try:
            cache.cache_clear()
        except Exception as error:
            self.complain(error)
            return 0
        return held

    def count(self) -> int:
        cache = self._cache()
        if cache is None:
            return 0
        try:
            return int(cache.cache_info().currsize) * self._item_bytes
        except Exception as error:
            self.complain(error)
            return 0


def _register(
    cache: object, adapter: _Adapter, name: str, cost: float, monitor: Monitor | None
) -> Registration:
    trim()  # its first call loads what it needs: now, while there is memory and time
    handle = register_shrinker(name, adapter.request_memory, count=adapter.count, cost=cost, monitor=monitor)
    weakref.finalize(cache, _bury, handle, monitor).atexit = False
    return handle


def _bury(handle: Registration, monitor: Monitor | None) -> None:
    """Unregister for a cache that is gone.

    It may go anywhere, in a garbage collection in the middle of a tick too, and to unregister waits for the
    tick to end: so that is done in a thread of its own. (Starting a threading.Thread takes locks, this does
    not.)
    """
    with contextlib.suppress(RuntimeError):  # no more threads: the registration stays, and frees nothing
        _thread.start_new_thread(_unregister, (handle, monitor))


def _unregister(handle: Registration, monitor: Monitor | None) -> None:
    with contextlib.suppress(ValueError):  # it has been unregistered by hand
        unregister_shrinker(handle, monitor)
