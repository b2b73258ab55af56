"""The commands that steer a memcached: `lru_crawler`, `slabs`, `lru`, with its grammar and its replies.

Knows: the grammar, the crawler's and the store's faces. Must not know: how either works, sockets.
Owns: the settings that can be set and have no effect here, because `stats settings` must show them.
Threads: handlers may be called from every worker at once; they change nothing but single references.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Protocol

from cacheserver.desk import Alone, Job, Kind, Stream
from cacheserver.lines import BAD_FORMAT, END, ERROR, OK, reply, signed_number, whole_number

BAD_CLASS = b"BADCLASS invalid class id\r\n"
BUSY = b"BUSY currently processing crawler request\r\n"
NOT_STARTED = b"NOTSTARTED no items to crawl\r\n"
UNKNOWN = b"ERROR an unknown error happened\r\n"
DISABLED = b"CLIENT_ERROR lru crawler disabled\r\n"
SLEEP_MAX_US = 1_000_000
SHARES_MAX = 80  # percent of a class that HOT and WARM may have together
REASSIGN_TRIES = 5  # a page that is being emptied for another reason is gone in moments
REASSIGN_PAUSE = 0.02  # seconds

REASSIGNED = {
    "OK": OK,
    "BUSY": b"BUSY currently processing reassign request\r\n",
    "BADCLASS": b"BADCLASS invalid src or dst class id\r\n",
    "NOSPARE": b"NOSPARE source class has no spare pages\r\n",
    "SAME": b"SAME src and dst class are identical\r\n",
}
# form: what it is called where it is forbidden, how it ends
DUMPS = {
    b"metadump": (b"metadump", END),
    b"mgdump": (b"key dump", b"EN\r\n"),
}

Answer = bytes | Job


class CrawlerLike(Protocol):
    """See crawler.py."""

    enabled: bool
    sleep_us: int
    to_crawl: int

    def crawl(self, classes: Collection[int]) -> bool: ...
    def dump(
        self, stream: Stream, form: str, classes: Collection[int], first: bytes, last: bytes
    ) -> bool: ...


class Steering:
    """The handlers. reassign: moves a page between slab classes; class_count: how many there are;
    dumps: whether keys may be listed.
    """

    def __init__(
        self,
        crawler: CrawlerLike,
        reassign: Callable[[int, int], str],
        class_count: int,
        dumps: bool,
    ) -> None:
        self._crawler = crawler
        self._reassign = reassign
        self._class_count = class_count
        self._dumps = dumps
        self._shown: dict[str, str] = {}
        self.handlers: dict[bytes, Callable[[list[bytes]], Answer]] = {
            b"lru_crawler": self._lru_crawler,
            b"slabs": self._slabs,
            b"lru": self._lru,
        }

    def settings(self) -> dict[str, str]:
        """Return what has been set, by the names of `stats settings`."""
        crawler = self._crawler
        return {
            **self._shown,
            "lru_crawler": "yes" if crawler.enabled else "no",
            "lru_crawler_sleep": str(crawler.sleep_us),
            "lru_crawler_tocrawl": str(crawler.to_crawl),
        }

    # -- lru_crawler --

    def _lru_crawler(self, arguments: list[bytes]) -> Answer:
        word, *rest = arguments or [b""]
        if not rest:
            return self._switch(word)
        if len(rest) > 1:
            return ERROR
        if word in (b"sleep", b"tocrawl"):
            return self._set_number(word, rest)
        if word == b"crawl" or word in DUMPS:
            if not self._crawler.enabled:
                return DISABLED
            return self._crawl(rest[0]) if word == b"crawl" else self._dump(word, rest[0])
        return ERROR

    def _switch(self, word: bytes) -> bytes:
        """`disable` is no error when it is off already, `enable` is one when it is on: as in memcached."""
        if word == b"disable":
            self._crawler.enabled = False
            return OK
        if word != b"enable":
            return ERROR
        if self._crawler.enabled:
            return b"ERROR failed to start lru crawler thread\r\n"
        self._crawler.enabled = True
        return OK

    def _set_number(self, word: bytes, rest: list[bytes]) -> bytes:
        number = whole_number(rest)
        if number is None:
            return BAD_FORMAT
        if word == b"tocrawl":
            self._crawler.to_crawl = number
        elif number > SLEEP_MAX_US:
            return b"CLIENT_ERROR sleep must be one second or less\r\n"
        else:
            self._crawler.sleep_us = number
        return OK

    def _crawl(self, which: bytes) -> bytes:
        if which == b"hash":
            return UNKNOWN
        classes = self._classes(which)
        if isinstance(classes, bytes):
            return classes
        return OK if self._crawler.crawl(classes) else BUSY

    def _dump(self, form: bytes, which: bytes) -> Answer:
        name, last = DUMPS[form]
        if not self._dumps:
            return b"ERROR %b not allowed\r\n" % name

        def job(stream: Stream) -> None:
            classes = self._classes(b"all" if which == b"hash" else which)
            if isinstance(classes, bytes):
                stream.send(classes)
            elif not self._crawler.dump(stream, form.decode(), classes, OK, last):
                stream.send(BUSY)

        return Alone(Kind.LISTING, job, b"ERROR cannot pipeline other commands before %b\r\n" % form)

    def _classes(self, which: bytes) -> Collection[int] | bytes:
        """Return the class numbers of `1,2,3` (empty for `all`), or what is wrong with them."""
        if which == b"all":
            return ()
        found = set()
        for token in filter(None, which.split(b",")):
            number = whole_number([token])
            if number is None or not 1 <= number <= self._class_count:
                return BAD_CLASS
            found.add(number)
        return found or NOT_STARTED

    # -- slabs --

    def _slabs(self, arguments: list[bytes]) -> Answer:
        word, *rest = arguments or [b""]
        if word == b"reassign" and len(rest) == 2:
            source, target = map(signed_number, rest)
            return BAD_FORMAT if source is None or target is None else self._move_page(source, target)
        if word == b"automove" and rest:
            return reply(self._automove(rest), rest)
        return ERROR

    def _move_page(self, source: int, target: int) -> Job:
        def job(stream: Stream) -> None:
            for _ in range(REASSIGN_TRIES):
                outcome = self._reassign(source, target)
                if outcome != "BUSY" or stream.gone(REASSIGN_PAUSE):
                    break
            stream.send(REASSIGNED[outcome])

        return job

    def _automove(self, rest: list[bytes]) -> bytes:
        """Note what is shown; which class gives a page to which is always decided by the classes' ages."""
        word = rest[0]
        if word in (b"ratio", b"freeratio"):
            ratio = decimal(rest[1:])
            if ratio is None:
                return ERROR
            form = "{:.2f}" if word == b"ratio" else "{:.3f}"
            self._shown[f"slab_automove_{word.decode()}"] = form.format(ratio)
            return OK
        number = whole_number(rest[1:] if word == b"window" else rest)
        if number is None:
            return BAD_FORMAT
        if word == b"window":
            self._shown["slab_automove_window"] = str(number)
            return OK
        if number > 2:
            return ERROR
        self._shown["slab_automove"] = str(number)
        return OK

    # -- lru --

    def _lru(self, arguments: list[bytes]) -> bytes:
        """Note what is shown; the segments of the LRU have the sizes that memcached has by default."""
        word, *rest = arguments or [b""]
        tell = {b"tune": self._tune, b"mode": self._mode, b"temp_ttl": self._temp_ttl}.get(word)
        return reply(tell(rest) if tell and rest else ERROR, arguments)

    def _tune(self, rest: list[bytes]) -> bytes:
        hot, warm = whole_number(rest[:1]), whole_number(rest[1:2])
        hot_factor, warm_factor = decimal(rest[2:3]), decimal(rest[3:4])
        if hot is None or warm is None or hot_factor is None or warm_factor is None:
            return ERROR
        if hot + warm > SHARES_MAX:
            return b"ERROR hot and warm pcts must not exceed %d\r\n" % SHARES_MAX
        if hot_factor <= 0 or warm_factor <= 0:
            return b"ERROR hot/warm age factors must be greater than 0\r\n"
        self._shown.update(
            hot_lru_pct=str(hot),
            warm_lru_pct=str(warm),
            hot_max_factor=f"{hot_factor:.2f}",
            warm_max_factor=f"{warm_factor:.2f}",
        )
        return OK

    def _mode(self, rest: list[bytes]) -> bytes:
        if rest[0] not in (b"flat", b"segmented"):
            return ERROR
        self._shown["lru_segmented"] = "yes" if rest[0] == b"segmented" else "no"
        return OK

    def _temp_ttl(self, rest: list[bytes]) -> bytes:
        seconds = signed_number(rest[0])
        if seconds is None:
            return ERROR
        self._shown["temp_lru"] = "yes" if seconds >= 0 else "no"
        if seconds >= 0:
            self._shown["temporary_ttl"] = str(seconds)
        return OK


def decimal(arguments: list[bytes]) -> float | None:
    """Return the first argument as a finite decimal number; None if it is missing or something else."""
    if not arguments or not re.fullmatch(rb"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?", arguments[0].lower()):
        return None
    return float(arguments[0][:40])
