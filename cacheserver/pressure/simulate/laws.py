"""Models of the laws of other systems, to be driven on the same made host.

Knows: arithmetic on bytes. Must not know: the plant, our law. Each is a model of the law, not of the
program: the caches, the speed of release and the clock are the same for all. Where a program takes its limit
once at the start, or from its configuration, the model reads it at every look: so each is a little better
here than in life.

    osv         cloudius-systems/osv core/mempool.cc: below 10 % of all memory free the shrinkers are asked
                for the difference; vladzcloudius/osv-memcached gives at least a tenth of what it holds.
                There every allocation looks; a process on Linux cannot, so the model looks every 5 ms.
    cachelib    facebook/CacheLib MemoryMonitor: once a second, below the lower limit give 5 % of the band
                between the limits, above the upper take as much; at most 20 % is given. Its limits are
                configured (10 and 15 GB by default); here they are 10 % and 15 % of all memory.
    clickhouse  max_server_memory_usage_to_ram_ratio: may hold 0.9 * (own + available), judged again every
                50 ms, the last growth expected once more.
    ceph        PriorityCache::Manager::tune_memory, once a second, towards a target of
                0.9 * (own + available): "approach slowly, bounce away quickly".
    dragonfly   eviction_memory_budget_threshold 0.1: evicts what is missing from 10 % free, every 10 ms, less
                what is deleted and not yet returned.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Sight(NamedTuple):
    """What a law sees. Bytes."""

    limit: int
    free: int  # limit - usage + reclaimable page cache, of the bound with the smallest share of it
    own: int  # held by its caches
    returning: int  # given up, still counted by the host


class Order(NamedTuple):
    """What a law wants. Bytes."""

    release: int  # now
    room: int  # that its caches may take until the next look


class Law(Protocol):
    """A law: looks every `period` seconds."""

    period: float

    def look(self, sight: Sight) -> Order:
        """Judge."""


class Osv:
    period = 0.005

    def look(self, sight: Sight) -> Order:
        missing = sight.limit // 10 - sight.free
        if missing <= 0:
            return Order(0, -missing)
        return Order(min(max(sight.own // 10, missing), sight.own), 0)


class CacheLib:
    period = 1.0
    LOWER, UPPER, STEP, MOST = 0.10, 0.15, 0.05, 0.20

    def __init__(self) -> None:
        self._given = 0
        self._size = -1  # the configured size: what it holds at the start

    def look(self, sight: Sight) -> Order:
        if self._size < 0:
            self._size = sight.own + max(0, sight.free - int(self.LOWER * sight.limit))
        step = int(self.STEP * (self.UPPER - self.LOWER) * sight.limit)
        if sight.free < self.LOWER * sight.limit:
            step = min(step, int(self.MOST * self._size) - self._given)
            self._given += step
        elif sight.free > self.UPPER * sight.limit:
            self._given -= min(step, self._given)
        wanted = self._size - self._given
        return Order(max(0, sight.own - wanted), max(0, wanted - sight.own))


class ClickHouse:
    period = 0.05
    RATIO = 0.9

    def __init__(self) -> None:
        self._last = -1

    def look(self, sight: Sight) -> Order:
        own = sight.own
        expected = own if self._last < 0 else own + max(0, own - self._last)
        self._last = own
        allowed = int(self.RATIO * (own + sight.returning + max(0, sight.free)))
        return Order(max(0, expected - allowed), max(0, allowed - expected))


class Ceph:
    period = 1.0
    RATIO, LEAST = 0.9, 0.05

    def __init__(self) -> None:
        self._size = -1.0

    def look(self, sight: Sight) -> Order:
        mapped = sight.own + sight.returning
        target = max(1.0, self.RATIO * (mapped + max(0, sight.free)))
        least = self.LEAST * sight.limit
        size = self._size if self._size >= 0 else float(sight.own)
        if mapped < target:
            size += (1.0 - mapped / target) * max(0.0, target - size)
        else:
            size -= (1.0 - target / mapped) * max(0.0, size - least)
        self._size = size
        return Order(max(0, int(sight.own - size)), max(0, int(size - sight.own)))


class Dragonfly:
    period = 0.01

    def look(self, sight: Sight) -> Order:
        missing = sight.limit // 10 - sight.free
        if missing <= 0:
            return Order(0, -missing)
        return Order(min(max(0, missing - sight.returning), sight.own), 0)


LAWS: dict[str, type[Law]] = {
    "osv": Osv,
    "cachelib": CacheLib,
    "clickhouse": ClickHouse,
    "ceph": Ceph,
    "dragonfly": Dragonfly,
}
