"""Who may walk over the store when, and what its client gets: with walks and clients that tests make up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator

import pytest

from cacheserver.crawler import LIST_MAX, Crawler
from cacheserver.desk import Alone
from cacheserver.listings import Listings
from cacheserver.steering import Steering

WAIT = 20.0  # seconds until a test gives up


class FakeWalk:
    """Gives what it is told to, a portion at a call; notes how it was called."""

    def __init__(self, texts: list[bytes], gate: threading.Event | None = None) -> None:
        self._texts = texts
        self._gate = gate
        self.calls: list[tuple[object, ...]] = []

    @property
    def done(self) -> bool:
        return not self._texts

    def _next(self, *how: object) -> bytes:
        self.calls.append(how)
        if self._gate is not None:
            assert self._gate.wait(WAIT)
        return self._texts.pop(0)

    def lines(self, form: str, now: int, wall: int, rest_us: int = 0, most: int = 0) -> tuple[bytes, int]:
        text = self._next(form, now, wall, rest_us, most)
        return text, text.count(b"\n")

    def measure(self, now: int, rest_us: int = 0) -> None:
        self._next(now, rest_us)

    def sizes(self) -> Iterator[tuple[int, int]]:
        return ((32 * number, number) for number in range(1, 2501))

    def expire(self, now: int, most: int = 0, rest_us: int = 0) -> int:
        self._next(now, most, rest_us)
        return 0


class FakeStream:
    """A client that takes everything, or nothing."""

    def __init__(self, refuses: bool = False) -> None:
        self.got = b""
        self.sends = 0
        self.patience: list[float] = []
        self._refuses = refuses

    def send(self, data: bytes | bytearray | memoryview, *, patience: float = 60.0) -> None:
        self.patience.append(patience)
        if self._refuses:
            raise ConnectionError("the client does not read")
        self.got += data
        self.sends += 1

    def gone(self, timeout: float = 0.0) -> bool:
        return False

    def resume(self) -> None: ...
    def close(self) -> None: ...


class Bench:
    """A crawler over made-up walks, and the commands that use it."""

    def __init__(self, *texts: bytes, gate: threading.Event | None = None, dumps: bool = True) -> None:
        self.walks: list[FakeWalk] = []
        self.asked: list[Collection[int]] = []
        self.moves: list[tuple[int, int]] = []
        self.answers = ["OK"]

        def make(classes: Collection[int]) -> FakeWalk:
            self.asked.append(classes)
            self.walks.append(FakeWalk(list(texts), gate))
            return self.walks[-1]

        self.crawler = Crawler(make, lambda: 100, wall=lambda: 5100.5, patience=3.0)
        self.control = Steering(self.crawler, self._reassign, 150, dumps)
        self.listings = Listings(self.crawler, 150, dumps)

    def _reassign(self, source: int, target: int) -> str:
        self.moves.append((source, target))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def ask(self, line: bytes, stream: FakeStream | None = None) -> bytes:
        """The whole reply to one command."""
        word, *arguments = line.split()
        if word == b"stats":
            answer = self.listings.kinds[arguments[0]](arguments[1:])
        else:
            answer = self.control.handlers[word](arguments)
        if isinstance(answer, bytes):
            return answer
        stream = stream or FakeStream()
        answer(stream)
        return stream.got

    def wait_until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_a_dump_is_framed_and_counted() -> None:
    bench = Bench(b"one\n", b"", b"two\n")
    assert bench.ask(b"lru_crawler metadump 3,1") == b"OK\r\none\ntwo\nEND\r\n"
    assert bench.asked == [{1, 3}]
    assert bench.walks[0].calls == [("metadump", 100, 5000, 100, 0)] * 3
    assert bench.crawler.counters() == {"lru_crawler_running": 0, "lru_crawler_starts": 1}
    assert bench.ask(b"lru_crawler mgdump hash") == b"OK\r\none\ntwo\nEN\r\n"
    assert bench.asked[1] == ()


def test_one_dump_or_crawl_at_a_time() -> None:
    gate = threading.Event()
    bench = Bench(b"x\n", gate=gate)
    assert bench.ask(b"lru_crawler crawl all") == b"OK\r\n"
    busy = b"BUSY currently processing crawler request\r\n"
    for line in (b"metadump all", b"mgdump hash", b"crawl 1"):
        assert bench.ask(b"lru_crawler " + line) == busy
    assert bench.crawler.counters()["lru_crawler_running"] == 1
    gate.set()
    bench.wait_until(lambda: bench.crawler.counters()["lru_crawler_running"] == 0)
    assert bench.ask(b"lru_crawler metadump all") == b"OK\r\nx\nEND\r\n"


def test_a_client_that_does_not_read_is_given_up_and_the_next_is_served() -> None:
    bench = Bench(b"x\n")
    deaf = FakeStream(refuses=True)
    with pytest.raises(ConnectionError):
        bench.ask(b"lru_crawler metadump all", deaf)
    assert deaf.patience == [3.0]
    assert bench.ask(b"lru_crawler metadump all") == b"OK\r\nx\nEND\r\n"


def test_a_dump_ends_with_the_server_and_never_looks_complete() -> None:
    bench = Bench(*[b"x\n"] * 3)
    stream = FakeStream()
    bench.crawler.stop()
    with pytest.raises(ConnectionError, match="server ends"):
        bench.ask(b"lru_crawler metadump all", stream)
    assert stream.got == b"OK\r\n"


def test_a_long_rest_does_not_keep_the_server_from_ending() -> None:
    bench = Bench(*[b"x\n"] * 1000)
    bench.ask(b"lru_crawler sleep 1000000")
    bench.ask(b"lru_crawler crawl all")
    begun = time.monotonic()
    bench.crawler.stop()
    bench.wait_until(lambda: bench.crawler.counters()["lru_crawler_running"] == 0)
    assert time.monotonic() - begun < 0.9


def test_settings_of_the_crawler_are_obeyed_and_shown() -> None:
    bench = Bench(b"x\n")
    for line in (b"sleep 7000", b"tocrawl 55"):
        assert bench.ask(b"lru_crawler " + line) == b"OK\r\n"
    shown = bench.control.settings()
    assert (shown["lru_crawler_sleep"], shown["lru_crawler_tocrawl"]) == ("7000", "55")
    bench.ask(b"lru_crawler crawl all")
    bench.wait_until(lambda: bench.crawler.counters()["lru_crawler_running"] == 0)
    assert bench.walks[0].calls == [(100, 55, 7000)]
    assert bench.ask(b"lru_crawler disable") == b"OK\r\n"
    assert bench.control.settings()["lru_crawler"] == "no"
    assert bench.ask(b"lru_crawler metadump all") == b"CLIENT_ERROR lru crawler disabled\r\n"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"lru_crawler metadump all", b"ERROR metadump not allowed\r\n"),
        (b"lru_crawler mgdump all", b"ERROR key dump not allowed\r\n"),
        (b"stats cachedump 1 0", b"CLIENT_ERROR stats cachedump not allowed\r\n"),
    ],
)
def test_keys_are_not_listed_where_that_is_forbidden(line: bytes, answer: bytes) -> None:
    assert Bench(b"x\n", dumps=False).ask(line) == answer


def test_a_dump_says_what_it_answers_behind_other_commands() -> None:
    bench = Bench()
    for form in (b"metadump", b"mgdump"):
        answer = bench.control.handlers[b"lru_crawler"]([form, b"nonsense"])
        assert isinstance(answer, Alone)
        assert answer.refusal == b"ERROR cannot pipeline other commands before %b\r\n" % form


def test_a_cachedump_stops_at_two_mebibytes_between_two_lines() -> None:
    line = b"ITEM %b [1 b; 0 s]\r\n" % (b"k" * 250)
    bench = Bench(*[line * 300] * 50)
    got = bench.ask(b"stats cachedump 150 0")
    assert bench.asked == [[150]]
    assert got.endswith(line + b"END\r\n")
    assert LIST_MAX - len(line) < len(got) - len(b"END\r\n") <= LIST_MAX


def test_a_cachedump_asks_for_what_is_left_of_its_limit() -> None:
    bench = Bench(b"ITEM a\r\nITEM b\r\n", b"ITEM c\r\n", b"ITEM d\r\n")
    assert bench.ask(b"stats cachedump 1 3") == b"ITEM a\r\nITEM b\r\nITEM c\r\nEND\r\n"
    assert [call[-1] for call in bench.walks[0].calls] == [3, 1]


def test_sizes_are_counted_once_that_is_turned_on() -> None:
    bench = Bench(b"")
    off, on = (b"STAT sizes_status %b\r\nEND\r\n" % word for word in (b"disabled", b"enabled"))
    assert bench.ask(b"stats sizes") == off
    assert bench.ask(b"stats sizes_enable") == on
    assert bench.listings.settings() == {"track_sizes": "yes"}
    stream = FakeStream()
    rows = b"".join(b"STAT %d %d\r\n" % (32 * number, number) for number in range(1, 2501))
    assert bench.ask(b"stats sizes", stream) == rows + b"END\r\n"
    assert stream.sends == 3, "in portions"
    assert bench.ask(b"stats sizes_disable") == off


def test_a_page_that_is_busy_is_asked_for_again() -> None:
    bench = Bench()
    bench.answers = ["BUSY", "BUSY", "OK"]
    assert bench.ask(b"slabs reassign -1 5") == b"OK\r\n"
    assert bench.moves == [(-1, 5)] * 3
    bench.answers = ["BUSY"]
    assert bench.ask(b"slabs reassign 3 5") == b"BUSY currently processing reassign request\r\n"


def test_what_is_set_without_effect_is_shown() -> None:
    bench = Bench()
    for line in (
        b"slabs automove 2",
        b"slabs automove ratio 0.9",
        b"slabs automove freeratio 0.02",
        b"slabs automove window 33",
        b"lru tune 11 32 0.345 3.5",
        b"lru mode flat",
        b"lru temp_ttl 77",
    ):
        assert bench.ask(line) == b"OK\r\n"
    expected = {
        "slab_automove": "2",
        "slab_automove_ratio": "0.90",
        "slab_automove_freeratio": "0.020",
        "slab_automove_window": "33",
        "hot_lru_pct": "11",
        "warm_lru_pct": "32",
        "warm_max_factor": "3.50",
        "lru_segmented": "no",
        "temp_lru": "yes",
        "temporary_ttl": "77",
    }
    assert expected.items() <= bench.control.settings().items()
    bench.ask(b"lru temp_ttl -1")
    assert bench.control.settings()["temp_lru"] == "no"


@pytest.mark.parametrize(
    "line",
    [
        b"lru tune 20 40 nan 2",
        b"lru tune 20 40 1 inf",
        b"lru tune 20 40 1_0 2",
        b"lru temp_ttl 2147483648",
        b"slabs automove ratio",
        b"slabs automove ratio x",
    ],
)
def test_numbers_that_are_none_are_errors(line: bytes) -> None:
    assert Bench().ask(line) == b"ERROR\r\n"
