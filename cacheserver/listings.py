"""The kinds of `stats` that walk over the store: `cachedump`, and the histogram of `sizes`.

Knows: their grammar and form, the crawler's face. Must not know: how a walk works, sockets.
Owns: whether `stats sizes` is on. Threads: handlers may be called from every worker at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cacheserver.desk import Job, JobOf, Kind, Stream
from cacheserver.lines import BAD_FORMAT, END, whole_number


class ListerLike(Protocol):
    """See crawler.py."""

    def listing(self, stream: Stream, number: int, most: int, last: bytes) -> None: ...
    def histogram(self, stream: Stream, row: Callable[[int, int], bytes], last: bytes) -> None: ...


class Listings:
    """The handlers. class_count: how many slab classes there are; dumps: whether keys may be listed."""

    def __init__(self, crawler: ListerLike, class_count: int, dumps: bool) -> None:
        self._crawler = crawler
        self._class_count = class_count
        self._dumps = dumps
        self._sizes_on = False
        self.kinds: dict[bytes, Callable[[list[bytes]], bytes | Job]] = {
            b"cachedump": self._cachedump,
            b"sizes": self._sizes,
            b"sizes_enable": lambda _: self._switch_sizes(True),
            b"sizes_disable": lambda _: self._switch_sizes(False),
        }

    def settings(self) -> dict[str, str]:
        """Return what has been set, by the names of `stats settings`."""
        return {"track_sizes": "yes" if self._sizes_on else "no"}

    def _cachedump(self, arguments: list[bytes]) -> bytes | Job:
        if not self._dumps:
            return b"CLIENT_ERROR stats cachedump not allowed\r\n"
        if len(arguments) < 2:
            return b"CLIENT_ERROR bad command line\r\n"
        number, most = whole_number(arguments), whole_number(arguments[1:])
        if number is None or most is None:
            return BAD_FORMAT
        if number > self._class_count:
            return b"CLIENT_ERROR Illegal slab id\r\n"
        if number == 0:
            return END
        return JobOf(Kind.LISTING, lambda stream: self._crawler.listing(stream, number, most, END))

    def _sizes(self, _arguments: list[bytes]) -> bytes | Job:
        """Off until it is asked for, as in memcached: it takes a walk over the store."""
        if not self._sizes_on:
            return self._status()
        return JobOf(Kind.LISTING, lambda stream: self._crawler.histogram(stream, row, END))

    def _switch_sizes(self, on: bool) -> bytes:
        self._sizes_on = on
        return self._status()

    def _status(self) -> bytes:
        return b"STAT sizes_status %b\r\n" % (b"enabled" if self._sizes_on else b"disabled") + END


def row(size: int, count: int) -> bytes:
    return b"STAT %d %d\r\n" % (size, count)
