"""Fixtures: a small /proc and /sys, written by hand after real ones; sources and clocks turned by hand."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cacheserver.pressure import Context, Monitor, Reading, Source, Watch

TREES = Path(__file__).parent / "trees"
MIB = 1 << 20
SOFT, HARD = Context(), Context(hard=True)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[str], Path]:
    """tree(name) lays out trees/<name>.txt: "== path" starts a file, the lines after it are its text."""

    def lay_out(name: str) -> Path:
        for part in (TREES / f"{name}.txt").read_text().split("== ")[1:]:
            path, _, text = part.partition("\n")
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return tmp_path

    return lay_out


class HandSource:
    """One bound whose usage is what the test and the cache of the test make it."""

    name = "hand"

    def __init__(self, limit: int, bound: str = "hand") -> None:
        self.bound, self.limit, self.others, self.own = bound, limit, 0, 0
        self.reclaimable, self.stale, self.broken = 0, False, False
        self.nodes: tuple[int, ...] = ()
        self.full_reads = self.quick_reads = 0

    def _reading(self) -> Reading:
        usage = self.others + self.own
        return Reading(self.bound, self.limit, usage, self.reclaimable, stale=self.stale, nodes=self.nodes)

    def read(self, now: float) -> Sequence[Reading]:
        self.full_reads += 1
        if self.broken:
            raise RuntimeError("broken source")
        return [self._reading()]

    def quick(self, last: Reading) -> Reading | None:
        self.quick_reads += 1
        return last._replace(limit=self.limit, usage=self.others + self.own)

    def watches(self) -> Sequence[Watch]:
        return ()

    def close(self) -> None:
        pass


def watch_at(source: Source, now: float) -> Watch | None:
    """The source's one watch at the time `now`."""
    source.read(now)
    watches = source.watches()
    assert len(watches) <= 1
    return watches[0] if watches else None


def ready(watch: Watch, seconds: float = 0.0) -> int:
    """The events poll reports of a watch, 0 for none."""
    poller = select.poll()
    poller.register(watch.fd, watch.events)
    return sum(events for _, events in poller.poll(seconds * 1000.0))


class Bench:
    """A monitor on a clock turned by hand, one source, and a cache that takes every grant and frees what it
    is asked.
    """

    def __init__(self, limit: int, base: int) -> None:
        self.now = 100.0
        self.source = HandSource(limit)
        self.source.others = base
        self.monitor = Monitor([self.source], clock=lambda: self.now)
        self.asked: list[tuple[int, bool]] = []
        self.granted = 0
        self.granted_when_asked: list[int] = []
        self.defer = False
        self.monitor.register_shrinker(
            "cache", self.shrink, count=lambda: self.source.own,
            grant=self.grant, ledger=lambda: (self.source.own, 0),
        )  # fmt: skip

    def shrink(self, target: int, hard: bool) -> int:
        self.asked.append((target, hard))
        self.granted_when_asked.append(self.granted)
        if self.defer and not hard:
            return 0
        pages = -(-target // MIB)
        freed = min(pages * MIB, self.source.own)
        self.source.own -= freed
        return freed

    def grant(self, nbytes: int) -> None:
        self.granted = nbytes

    def step(self, seconds: float, grow: bool = True) -> None:
        """Let time pass; the cache takes the whole pages of its grant; the monitor ticks."""
        if grow:
            pages = self.granted // MIB
            self.source.own += pages * MIB
            self.granted -= pages * MIB
        self.now += seconds
        self.monitor.tick(self.now)

    def fill(self) -> None:
        for _ in range(400):
            self.step(0.01)

    @property
    def headroom(self) -> int:
        return self.source.limit - self.source.others - self.source.own


@pytest.fixture
def bench() -> Callable[[int, int], Bench]:
    return Bench
