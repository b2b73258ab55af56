"""Memory pressure: what the host has left, and asking caches to give memory back before it is too late.

    from cacheserver.pressure import register_shrinker
    register_shrinker("my cache", lambda target, hard: my_cache.free(target))

Knows the host (cgroups, /proc, psutil). Must not know the store, the protocol or asyncio.
"""

from cacheserver.pressure.adapters import shrink_cachetools, shrink_lru_cache
from cacheserver.pressure.default import default_monitor, register_shrinker, unregister_shrinker
from cacheserver.pressure.heap import trim
from cacheserver.pressure.lru_list import LruList, LruStatus
from cacheserver.pressure.lru_shrinker import LruShrinker
from cacheserver.pressure.monitor import Monitor, Status
from cacheserver.pressure.policy import Decision, Ledger, Level, State, decide
from cacheserver.pressure.shrinker import Registration, Shrinker
from cacheserver.pressure.source import Reading, Source, Watch, detect

__all__ = [
    "Decision",
    "Ledger",
    "Level",
    "LruList",
    "LruShrinker",
    "LruStatus",
    "Monitor",
    "Reading",
    "Registration",
    "Shrinker",
    "Source",
    "State",
    "Status",
    "Watch",
    "decide",
    "default_monitor",
    "detect",
    "register_shrinker",
    "shrink_cachetools",
    "shrink_lru_cache",
    "trim",
    "unregister_shrinker",
]
