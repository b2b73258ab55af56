"""The process-wide monitor behind the plain functions: `register_shrinker(name, func)` is all one needs.

Knows: one Monitor, and who uses it. Must not know: what a shrinker is.
Threads: any, the monitor's own included: a callback may register and unregister. No lock is held while the
monitor is started or stopped, since both may wait for a callback.
Forks: a child has its memory for itself, and of its parent's threads none. So the monitor starts anew there,
for all that was registered before the fork; the handles are good in both.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from cacheserver.pressure.levels import OnLevel, Subscription
from cacheserver.pressure.monitor import Monitor
from cacheserver.pressure.policy import Level
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.shrinker import ObjectShrinker, RequestMemory, Shrinker

User = TypeVar("User", Registration, Subscription)

_lock = threading.Lock()
_monitor: Monitor | None = None
_users: set[Registration | Subscription] = set()
_running = False  # as the one who starts and stops it sees it
_settling = False  # somebody is starting or stopping it


def default_monitor() -> Monitor:
    """The process-wide monitor, made at first use."""
    global _monitor
    with _lock:
        if _monitor is None:
            _monitor = Monitor()
        return _monitor


def register_shrinker(
    name: str,
    func: RequestMemory | Shrinker | ObjectShrinker,
    *,
    count: Callable[..., int] | None = None,
    cost: float | None = None,
    grant: Callable[[int], None] | None = None,
    ledger: Callable[[], tuple[int, ...]] | None = None,
    monitor: Monitor | None = None,
) -> Registration:
    """Register with `monitor`, or with the process-wide one, which runs as long as it has users.

    The other arguments are those of `Monitor.register_shrinker`.
    """
    if monitor is not None:
        return monitor.register_shrinker(name, func, count=count, cost=cost, grant=grant, ledger=ledger)
    shared = default_monitor()
    handle = shared.register_shrinker(name, func, count=count, cost=cost, grant=grant, ledger=ledger)
    _join(shared, handle, unregister_shrinker)
    return handle


def unregister_shrinker(handle: Registration, monitor: Monitor | None = None) -> None:
    """Undo `register_shrinker`, with the same `monitor`. ValueError when it is not registered there.

    When this returns none of its callbacks runs or will run (from inside one: after it). It waits for a
    running callback: hold no lock that one may want.
    """
    if monitor is not None:
        monitor.unregister_shrinker(handle)
        return
    shared = default_monitor()
    shared.unregister_shrinker(handle)
    _part(shared, handle)


def subscribe(level: Level, callback: OnLevel, *, monitor: Monitor | None = None) -> Subscription:
    """Subscribe with `monitor`, or with the process-wide one, which runs as long as it has users.

    The other arguments are those of `Monitor.subscribe`.
    """
    if monitor is not None:
        return monitor.subscribe(level, callback)
    shared = default_monitor()
    handle = shared.subscribe(level, callback)
    _join(shared, handle, unsubscribe)
    return handle


def unsubscribe(handle: Subscription, monitor: Monitor | None = None) -> None:
    """Undo `subscribe`, with the same `monitor`. ValueError when it is not in force there."""
    if monitor is not None:
        monitor.unsubscribe(handle)
        return
    shared = default_monitor()
    shared.unsubscribe(handle)
    _part(shared, handle)


def _join(shared: Monitor, user: User, undo: Callable[[User], None]) -> None:
    """Have the monitor run for `user`; where it cannot, nobody would ever call it, and `undo` forgets it."""
    with _lock:
        _users.add(user)
    try:
        _settle(shared)
    except BaseException:
        undo(user)
        raise


def _part(shared: Monitor, user: Registration | Subscription) -> None:
    with _lock:
        _users.discard(user)
    _settle(shared)


def _settle(shared: Monitor) -> None:
    """Have the monitor run exactly while there are users.

    One thread at a time starts and stops; who comes meanwhile (a callback of the first tick, for one) leaves
    it to that thread.
    """
    global _running, _settling
    with _lock:
        if _settling:
            return
        _settling = True
    while True:
        with _lock:
            wanted = bool(_users)
            if wanted == _running:
                _settling = False
                return
            _running = wanted
        try:
            if wanted:
                shared.start()
            else:
                shared.stop()
        except BaseException:
            with _lock:
                _running, _settling = not wanted, False
            raise


def _after_fork() -> None:
    global _lock, _running, _settling
    _lock, _running, _settling = threading.Lock(), False, False
    if _users and _monitor is not None:
        # Not here: the first tick calls back, and may want a lock that another thread held at the fork.
        threading.Thread(target=_settle, args=(_monitor,), daemon=True).start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
