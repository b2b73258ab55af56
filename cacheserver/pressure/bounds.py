"""The sources of one monitor together: what they raise costs one line and nothing else.

Knows: how sources are called. Must not know: what a reading leads to, threads, shrinkers.
Memory: owns the sources, and with them their descriptors, until `close`; then they open anew when read.
Threads: one at a time, whoever has the monitor's turn; `complain` from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from cacheserver.pressure.announce import shown
from cacheserver.pressure.source import Gauge, Gauged, Reading, Source, Watch

log = logging.getLogger("cacheserver.pressure")

LOG_SECONDS = 10.0  # a line about failures at most this often


class Bounds:
    """Reads all `sources`. Times are seconds of the monitor's clock."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = list(sources)
        self._owner: dict[str, Source] = {}  # of each bound that was read last
        self._failed_at = -1e9

    def read(self, now: float) -> list[Reading]:
        """Every bound there is at the moment."""
        readings: list[Reading] = []
        self._owner = {}
        for source in self._sources:
            try:
                found = list(source.read(now))
                self._owner |= {reading.name: source for reading in found}
            except Exception as error:  # a broken source must not take the others with it
                self._complain_of(source, error, now)
                continue
            readings += found
        return readings

    def quick(self, last: Reading, now: float) -> Reading | None:
        """The bound of `last` alone, read the cheap way; None: read all."""
        source = self._owner.get(last.name)
        if source is None:
            return None
        try:
            return source.quick(last)
        except Exception as error:
            self._complain_of(source, error, now)
            return None

    def gauge(self, last: Reading, now: float) -> Gauge | None:
        """The files in which the bound of `last` can be watched; None: it has none."""
        source = self._owner.get(last.name)
        if not (source and isinstance(source, Gauged)):
            return None
        try:
            return source.gauge(last)
        except Exception as error:
            self._complain_of(source, error, now)
            return None

    def watches(self, now: float) -> list[Watch]:
        """What the sources have to wait for now."""
        found: list[Watch] = []
        for source in self._sources:
            try:
                found += source.watches()
            except Exception as error:
                self._complain_of(source, error, now)
        return found

    def acknowledge(self, watch: Watch, events: int, now: float) -> bool:
        """Tell the source of `watch` of poll's `events`. False: the watch is to be forgotten."""
        try:
            return watch.acknowledge(events)
        except Exception as error:
            self.complain(now, f"a source's descriptor raised {shown(error)}")
            return False

    def close(self, now: float) -> None:
        """Close what the sources have open."""
        for source in self._sources:
            try:
                source.close()
            except Exception as error:
                self._complain_of(source, error, now)

    def _complain_of(self, source: Source, error: Exception, now: float) -> None:
        self.complain(now, f"source {source.name} raised {shown(error)}")

    def complain(self, now: float, what: str) -> None:
        """One line about the exception being handled, unless there was one a moment ago."""
        if now - self._failed_at >= LOG_SECONDS:
            self._failed_at = now
            log.error("%s; going on", what, exc_info=True)
