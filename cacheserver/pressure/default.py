"""The process-wide monitor behind the plain functions: `register_shrinker(name, func)` is all one needs.

Knows: one Monitor. Threads: any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cacheserver.pressure.levels import OnLevel, Subscription
from cacheserver.pressure.monitor import Monitor
from cacheserver.pressure.policy import Level
from cacheserver.pressure.shrinker import DEFAULT_COST, Registration, RequestMemory, Shrinker

_lock = threading.RLock()  # reentrant: starting makes the first tick, and its callbacks may come back here
_monitor: Monitor | None = None
_users = 0


def default_monitor() -> Monitor:
    """The process-wide monitor, made at first use."""
    global _monitor
    with _lock:
        if _monitor is None:
            _monitor = Monitor()
        return _monitor


def register_shrinker(
    name: str,
    func: RequestMemory | Shrinker,
    *,
    count: Callable[[], int] | None = None,
    cost: float = DEFAULT_COST,
    grant: Callable[[int], None] | None = None,
    ledger: Callable[[], tuple[int, int]] | None = None,
    monitor: Monitor | None = None,
) -> Registration:
    """Register with `monitor`, or with the process-wide one, which runs as long as it has users.

    The other arguments are those of `Monitor.register_shrinker`.
    """
    global _users
    if monitor is not None:
        return monitor.register_shrinker(name, func, count=count, cost=cost, grant=grant, ledger=ledger)
    shared = default_monitor()
    with _lock:
        handle = shared.register_shrinker(name, func, count=count, cost=cost, grant=grant, ledger=ledger)
        _users += 1
        if _users == 1:
            shared.start()
    return handle


def unregister_shrinker(handle: Registration, monitor: Monitor | None = None) -> None:
    """Undo `register_shrinker`, with the same `monitor`. ValueError when it is not registered there."""
    global _users
    if monitor is not None:
        monitor.unregister_shrinker(handle)
        return
    shared = default_monitor()
    shared.unregister_shrinker(handle)
    with _lock:
        _users -= 1
        if _users == 0:
            shared.stop()


def subscribe(level: Level, callback: OnLevel, *, monitor: Monitor | None = None) -> Subscription:
    """Subscribe with `monitor`, or with the process-wide one, which runs as long as it has users.

    The other arguments are those of `Monitor.subscribe`.
    """
    global _users
    if monitor is not None:
        return monitor.subscribe(level, callback)
    shared = default_monitor()
    with _lock:
        handle = shared.subscribe(level, callback)
        _users += 1
        if _users == 1:
            shared.start()
    return handle


def unsubscribe(handle: Subscription, monitor: Monitor | None = None) -> None:
    """Undo `subscribe`, with the same `monitor`. ValueError when it is not in force there."""
    global _users
    if monitor is not None:
        monitor.unsubscribe(handle)
        return
    shared = default_monitor()
    shared.unsubscribe(handle)
    with _lock:
        _users -= 1
        if _users == 0:
            shared.stop()
