"""The crawler: walks over the store that clients ask for, so that others hardly notice.

A dump (`metadump`, `mgdump`) or a crawl for expired items runs alone; of the lists and histograms of `stats`
there may be several at once. All of them take turns, so that no more than one works at any moment.

Knows: walks, streams of the desk, the store's clock. Must not know: the grammar of commands, the store.
Owns: the thread of a crawl, the settings of `lru_crawler`.
Threads: every method may be called from any thread; a job runs in the desk's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from cacheserver.desk import PATIENCE, Stream

log = logging.getLogger("cacheserver.crawler")

SLEEP_US = 100  # memcached's default of `lru_crawler sleep`
REST_MAX_US = 10_000  # rests within a walk's call; what is longer must end when the server does
LIST_MAX = 2 << 20  # bytes of a cachedump, as in memcached
ROWS = 1000  # rows of a histogram sent at a time


class WalkLike(Protocol):
    """See walk.pyi."""

    @property
    def done(self) -> bool: ...
    def lines(self, form: str, now: int, wall: int, rest_us: int = 0, most: int = 0) -> tuple[bytes, int]: ...
    def measure(self, now: int, rest_us: int = 0) -> None: ...
    def sizes(self) -> Iterator[tuple[int, int]]: ...
    def expire(self, now: int, most: int = 0, rest_us: int = 0) -> int: ...


class Crawler:
    """Runs walks; `make_walk` takes the numbers of slab classes (empty: all), `clock` is the store's, in
    seconds, `wall` a Unix time.

    sleep_us: least rest between two stretches of work; a rest is never shorter than twice the work before it.
    to_crawl: items of each class that a crawl looks at, 0 = all.
    """

    def __init__(
        self,
        make_walk: Callable[[Collection[int]], WalkLike],
        clock: Callable[[], int],
        *,
        wall: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        self.enabled = True
        self.sleep_us = SLEEP_US
        self.to_crawl = 0
        self._make_walk = make_walk
        self._clock = clock
        self._wall = wall
        self._patience = patience
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._ending = threading.Event()
        self._running = False
        self._starts = 0

    def counters(self) -> dict[str, int]:
        """memcached's names: whether a dump or crawl runs, and how many have begun."""
        return {"lru_crawler_running": int(self._running), "lru_crawler_starts": self._starts}

    def stop(self) -> None:
        """End every walk within moments, those that are asked for later, too."""
        self._ending.set()

    def crawl(self, classes: Collection[int]) -> bool:
        """Begin to free what has expired, in a thread of its own. False: a dump or crawl is running."""
        if not self._begin():
            return False
        try:
            threading.Thread(target=self._crawl, args=(classes,), name="crawl", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            self._end()
            return False
        return True

    def dump(self, stream: Stream, form: str, classes: Collection[int], first: bytes, last: bytes) -> bool:
        """Send `first`, every item in `form`, `last`. False: a dump or crawl is running, nothing was sent.

        Raises ConnectionError: the client is gone or takes nothing, or the server ends.
        """
        if not self._begin():
            return False
        try:
            self._send(stream, first)
            for text, _ in self._portions(self._make_walk(classes), form):
                self._send(stream, text)
            self._send(stream, last)
        finally:
            self._end()
        return True

    def listing(self, stream: Stream, number: int, most: int, last: bytes) -> None:
        """Send items of one class, `most` at most (0: all), 2 MiB of them at most, then `last`."""
        left = LIST_MAX
        for text, _ in self._portions(self._make_walk([number]), "cachedump", most):
            if len(text) > left:
                text = text[: text.rfind(b"\n", 0, left) + 1]
                self._send(stream, text)
                break
            left -= len(text)
            self._send(stream, text)
        self._send(stream, last)

    def histogram(self, stream: Stream, row: Callable[[int, int], bytes], last: bytes) -> None:
        """Send a `row` for each size (in bytes, rounded up) and the number of its items, then `last`."""
        walk = self._make_walk(())
        while not walk.done:
            self._rest()
            with self._turn:
                walk.measure(self._clock(), self._rest_us())
        rows: list[bytes] = []
        for size, count in walk.sizes():
            rows.append(row(size, count))
            if len(rows) == ROWS:
                self._send(stream, b"".join(rows))
                rows.clear()
        self._send(stream, b"".join(rows) + last)

    def _portions(self, walk: WalkLike, form: str, most: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield text and how many items it is of; `most`: of so many in all."""
        wall = int(self._wall()) - self._clock()
        left = most
        while not walk.done and (left or not most):
            self._rest()
            with self._turn:
                text, count = walk.lines(form, self._clock(), wall, self._rest_us(), left)
            left -= count if most else 0
            yield text, count

    def _crawl(self, classes: Collection[int]) -> None:
        try:
            walk = self._make_walk(classes)
            while not walk.done:
                self._rest()
                with self._turn:
                    walk.expire(self._clock(), self.to_crawl, self._rest_us())
        except ConnectionError:
            pass  # the server ends
        except Exception:
            log.exception("a crawl failed")
        finally:
            self._end()

    def _begin(self) -> bool:
        with self._lock:
            if self._running:
                return False
            self._running = True
            self._starts += 1
            return True

    def _end(self) -> None:
        with self._lock:
            self._running = False

    def _send(self, stream: Stream, data: bytes) -> None:
        if data:
            stream.send(data, patience=self._patience)

    def _rest_us(self) -> int:
        return min(self.sleep_us, REST_MAX_US)

    def _rest(self) -> None:
        """Wait for what a walk does not rest by itself. Raises ConnectionError when the server ends."""
        if self._ending.wait(max(0, self.sleep_us - REST_MAX_US) / 1_000_000):
            raise ConnectionError("the server ends")
