"""What the tests of a running monitor share: a source in files, shrinkers that behave or do not, waiting."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cacheserver.pressure import Reading
from cacheserver.pressure.source import Gauge
from tests.unit.pressure.conftest import HandSource

WAIT = 10.0  # seconds after which what does not happen is lost


class FileSource(HandSource):
    """One bound whose figures stand in files, for whoever reads them behind the source's back."""

    def __init__(self, limit: int, folder: Path) -> None:
        super().__init__(limit)
        self.marked = False
        (folder / "usage").write_text(f"{0:012}\n")
        (folder / "limit").write_text(f"{limit:012}\n")
        self._usage = os.open(folder / "usage", os.O_RDWR)
        self._limit = os.open(folder / "limit", os.O_RDWR)

    def take(self, nbytes: int) -> None:
        """Others use `nbytes` from now on; the length never changes, so that no reader sees a part."""
        self.others = nbytes
        os.pwrite(self._usage, f"{nbytes:012}\n".encode(), 0)

    def gauge(self, last: Reading) -> Gauge | None:
        return Gauge(self._usage, (self._limit,), marked=self.marked)

    def __del__(self) -> None:
        os.close(self._usage)
        os.close(self._limit)


class Stuck:
    """A shrinker whose `at`-th call does not return until it is let go."""

    def __init__(self, at: int = 1) -> None:
        self._at, self.calls, self.threads = at, 0, set[threading.Thread]()
        self.inside, self.leave = threading.Event(), threading.Event()

    def __call__(self, target: int, hard: bool) -> int:
        self.calls += 1
        self.threads.add(threading.current_thread())
        if self.calls == self._at:
            self.inside.set()
            assert self.leave.wait(WAIT)
        return 0


class Cache:
    """A shrinker that frees what it is asked for, out of `source`."""

    def __init__(self, source: HandSource) -> None:
        self.source, self.freed = source, 0

    def __call__(self, target: int, hard: bool) -> int:
        freed = min(target, self.source.own)
        self.source.own -= freed
        self.freed += freed
        return freed


def comes(condition: Callable[[], object]) -> bool:
    """Whether `condition` becomes true."""
    end = time.monotonic() + WAIT
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return bool(condition())


def running() -> int:
    return sum(thread.name == "cacheserver-pressure" for thread in threading.enumerate())
