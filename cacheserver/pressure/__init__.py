"""Memory pressure: what the host has left, and asking caches to give memory back before it is too late.

    from cacheserver.pressure import register_shrinker
    register_shrinker("my cache", lambda target, hard: my_cache.free(target))

    from cacheserver.pressure import Level, subscribe
    subscribe(Level.MEDIUM, lambda level: print("pressure is", level.name))

Knows the host (cgroups, /proc, psutil). Must not know the store, the protocol or asyncio.
"""

from typing import TYPE_CHECKING

from cacheserver.pressure.context import Context
from cacheserver.pressure.default import (
    default_monitor,
    register_shrinker,
    subscribe,
    unregister_shrinker,
    unsubscribe,
)
from cacheserver.pressure.levels import Subscription
from cacheserver.pressure.monitor import Monitor
from cacheserver.pressure.policy import Decision, Ledger, Level, State, decide
from cacheserver.pressure.record import Recorder
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.sharing import Outcome
from cacheserver.pressure.shrinker import SHRINK_EMPTY, SHRINK_STOP, ObjectShrinker, Shrinker
from cacheserver.pressure.source import Reading, Source, Watch, detect
from cacheserver.pressure.tally import ShrinkerStatus, Status

if TYPE_CHECKING:
    from cacheserver.pressure.adapters import shrink_cachetools, shrink_lru_cache
    from cacheserver.pressure.chunks import ChunkAccount
    from cacheserver.pressure.heap import trim
    from cacheserver.pressure.lru_list import LruList, LruStatus
    from cacheserver.pressure.lru_shrinker import LruShrinker

__all__ = [
    "SHRINK_EMPTY",
    "SHRINK_STOP",
    "ChunkAccount",
    "Context",
    "Decision",
    "Ledger",
    "Level",
    "LruList",
    "LruShrinker",
    "LruStatus",
    "Monitor",
    "ObjectShrinker",
    "Outcome",
    "Reading",
    "Recorder",
    "Registration",
    "Shrinker",
    "ShrinkerStatus",
    "Source",
    "State",
    "Status",
    "Subscription",
    "Watch",
    "decide",
    "default_monitor",
    "detect",
    "register_shrinker",
    "shrink_cachetools",
    "shrink_lru_cache",
    "subscribe",
    "trim",
    "unregister_shrinker",
    "unsubscribe",
]


def __getattr__(name: str) -> object:
    """What is for other programs' caches: loaded when it is asked for, since the server has no use for it."""
    if name == "ChunkAccount":
        from cacheserver.pressure import chunks

        return chunks.ChunkAccount
    if name in ("LruList", "LruStatus"):
        from cacheserver.pressure import lru_list

        return getattr(lru_list, name)
    if name == "LruShrinker":
        from cacheserver.pressure import lru_shrinker

        return lru_shrinker.LruShrinker
    if name == "trim":
        from cacheserver.pressure import heap

        return heap.trim
    if name in ("shrink_cachetools", "shrink_lru_cache"):
        from cacheserver.pressure import adapters

        return getattr(adapters, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
