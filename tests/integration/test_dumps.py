"""Dumps over real sockets: complete, in step, bounded in memory, and no burden to other clients."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.servers import Server, serving
from tests.wire import Wire

MIB = 1 << 20
BUSY = b"BUSY currently processing crawler request"
LINE = re.compile(
    rb"key=(\S+) exp=(-1|\d+) la=(\d+) cas=(\d+) fetch=(?:yes|no) cls=(\d+) size=(\d+) flags=(\d+)"
)


def load(server: Server, count: int, size: int = 10, prefix: bytes = b"key") -> None:
    """Store `count` items of `size` bytes, so that all of them are there."""
    value = b"v" * size
    with server.connect(timeout=60.0) as wire:
        for begin in range(0, count, 10_000):
            wire.send(
                b"".join(
                    b"set %b%d 0 0 %d noreply\r\n%b\r\n" % (prefix, i, size, value)
                    for i in range(begin, min(begin + 10_000, count))
                )
            )
        assert wire.ask(b"version\r\n").startswith(b"VERSION")


def dump(wire: Wire, which: bytes = b"all") -> list[bytes]:
    """The lines of a metadump."""
    wire.send(b"lru_crawler metadump %b\r\n" % which)
    text, closed = wire.read_until(b"END\r\n")
    assert not closed
    assert text.startswith(b"OK\r\n")
    lines = text[4:].split(b"\n")
    assert lines.pop() == b""
    return lines


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(server: Server) -> bool:
    return server.stats()["lru_crawler_running"] == "1"


def test_a_metadump_lists_every_key_once(server: Server) -> None:
    load(server, 30_000)
    with server.connect() as wire:
        wire.set(b"expired", b"x", exptime=-1)
        wire.ask(b"set soon 77 1000 1\r\nx\r\n")
        for which in (b"all", b"hash"):
            found = [LINE.fullmatch(line) for line in dump(wire, which)]
            keys = Counter(match[1] for match in found if match)
            assert keys == Counter([b"soon", *(b"key%d" % i for i in range(30_000))])
            soon = next(match for match in found if match and match[1] == b"soon")
            assert 990 <= int(soon[2]) - time.time() <= 1001
            assert abs(int(soon[3]) - time.time()) <= 5
            assert soon[7] == b"77"
        by_class = sum(len(dump(wire, b"%d" % number)) for number in range(1, 20))
        assert by_class == 30_001
        assert wire.ask(b"version\r\n").startswith(b"VERSION")


def test_keys_are_written_as_memcached_writes_them(server: Server, memcached: Server) -> None:
    keys = [bytes([byte]) * 2 + b"k" for byte in range(0x21, 0x100)] + [b"a%b-_.~" % bytes(range(0x7F, 0xA0))]
    shown = []
    for each in (server, memcached):
        with each.connect() as wire:
            wire.ask(b"flush_all\r\n")
            for key in keys:
                assert wire.set(key, b"x") == b"STORED"
            wire.send(b"lru_crawler metadump all\r\n")
            text, _ = wire.read_until(b"END\r\n")
        shown.append(sorted(re.findall(rb"key=(\S+) ", text)))
    assert shown[0] == shown[1]
    assert len(shown[0]) == len(keys)


def test_an_mgdump_is_a_list_of_commands(server: Server) -> None:
    load(server, 2000)
    with server.connect() as wire:
        wire.send(b"lru_crawler mgdump hash\r\n")
        text, _ = wire.read_until(b"EN\r\n")
        first, *lines, last = text.split(b"\r\n")
        assert (first, last) == (b"OK", b"")
        assert sorted(lines) == sorted(b"mg key%d" % i for i in range(2000))


def test_what_is_sent_behind_a_dump_is_answered_behind_it(server: Server) -> None:
    load(server, 5000)
    with server.connect() as wire:
        wire.send(
            b"lru_crawler metadump all\r\nget key7\r\nlru_crawler mgdump all\r\nlru_crawler metadump 0\r\n"
        )
        text, _ = wire.read_until(b"END\r\n")
        assert text.count(b"\n") == 5001
        assert wire.read_values() == {b"key7": b"v" * 10}
        text, _ = wire.read_until(b"EN\r\n")
        assert text.count(b"mg key") == 5000
        assert wire.read_line() == b"BADCLASS invalid class id"
        for form in (b"metadump", b"mgdump"):
            wire.send(b"lru_crawler %b ,\r\nget key7\r\n" % form)
            assert wire.read_line() == b"NOTSTARTED no items to crawl", "a list of no class"
            assert wire.read_values() == {b"key7": b"v" * 10}
        wire.send(b"get key8\r\nlru_crawler metadump 9999\r\n")
        assert wire.read_values() == {b"key8": b"v" * 10}
        assert wire.read_line() == b"BADCLASS invalid class id", (
            "the reply to a get does not count as waiting"
        )


def test_a_client_that_only_half_closes_gets_its_dump(server: Server) -> None:
    load(server, 1000)
    with server.connect() as wire:
        wire.send(b"lru_crawler metadump all\r\n")
        wire.half_close()
        assert wire.read_to_end().endswith(b"END\r\n")


@pytest.fixture(scope="module")
def large() -> Iterator[Server]:
    """A server of its own with 400,000 small items and one worker."""
    with serving("-t", "1") as server:
        load(server, 400_000)
        yield server


def test_a_client_that_does_not_read_costs_little_and_stops_nobody(large: Server) -> None:
    before = large.rss()
    with large.connect(receive_buffer=4096) as deaf, large.connect() as other:
        deaf.send(b"lru_crawler metadump all\r\n")
        wait_until(lambda: running(large))
        for i in range(2000):
            assert other.get(b"key%d" % i) == b"v" * 10
        assert other.ask(b"lru_crawler metadump all\r\n") == BUSY
        assert other.ask(b"lru_crawler crawl all\r\n") == BUSY
        assert running(large)
        assert large.rss() - before < MIB
    wait_until(lambda: not running(large))
    with large.connect() as next_one:
        assert len(dump(next_one)) >= 400_000


def test_a_dump_of_many_keys_takes_no_memory_to_speak_of(large: Server) -> None:
    with large.connect() as wire:
        dump(wire, b"1")  # what the first dump ever allocates is there now
        before, peak, seen = large.rss(), 0, 0
        wire.send(b"lru_crawler metadump all\r\n")
        while True:
            line, closed = wire.read_until(b"key399")
            assert not closed
            peak = max(peak, large.rss())
            seen += line.count(b"\n")
            if seen > 390_000:
                break
        text, _ = wire.read_until(b"END\r\n")
    assert peak - before < MIB
    assert seen + text.count(b"\n") == 400_001


def test_the_server_s_end_ends_a_dump() -> None:
    with serving("-t", "1") as server:
        load(server, 200_000)
        with server.connect() as reader, server.connect(receive_buffer=4096) as wire:
            reader.ask(b"lru_crawler sleep 100000\r\n")
            wire.send(b"lru_crawler metadump all\r\n")
            wait_until(lambda: running(server))
            begun = time.monotonic()
            server.signal(signal.SIGTERM)
            assert server.wait(5.0) == 0
            assert time.monotonic() - begun < 2.5
            assert b"END" not in wire.read_to_end()
        assert "Traceback" not in server.errors()


def test_keys_are_not_listed_where_that_is_turned_off() -> None:
    with serving("-X") as server, server.connect() as wire:
        wire.set(b"a", b"x")
        assert wire.ask(b"lru_crawler metadump all\r\n") == b"ERROR metadump not allowed"
        assert wire.ask(b"lru_crawler mgdump all\r\n") == b"ERROR key dump not allowed"
        assert wire.ask(b"stats cachedump 1 0\r\n") == b"CLIENT_ERROR stats cachedump not allowed"
        assert wire.ask(b"lru_crawler crawl all\r\n") == b"OK"
        assert wire.stats(b"settings")["dump_enabled"] == "no"


def test_a_crawl_looks_at_every_item(server: Server) -> None:
    load(server, 3000)
    before = server.stats()
    with server.connect() as wire:
        assert wire.ask(b"lru_crawler crawl all\r\n") == b"OK"
    wait_until(lambda: not running(server))
    after = server.stats()
    assert int(after["lru_crawler_starts"]) == int(before["lru_crawler_starts"]) + 1
    assert int(after["crawler_items_checked"]) >= int(before["crawler_items_checked"]) + 3000


def test_the_kinds_of_stats_that_list_items(server: Server) -> None:
    load(server, 1000, size=104)
    with server.connect() as wire:
        (number,) = {name.split(":")[1] for name in wire.stats(b"items")}
        wire.send(b"stats cachedump %b 0\r\nstats cachedump %b 7\r\n" % (number.encode(), number.encode()))
        text, _ = wire.read_until(b"END\r\n")
        assert len(set(re.findall(rb"ITEM (key\d+) \[104 b; 0 s\]\r\n", text))) == 1000
        text, _ = wire.read_until(b"END\r\n")
        assert text.count(b"ITEM ") == 7
        assert wire.stats(b"sizes_enable") == {"sizes_status": "enabled"}
        sizes = wire.stats(b"sizes")
        assert wire.stats(b"sizes_disable") == {"sizes_status": "disabled"}
        assert sum(map(int, sizes.values())) == 1000
        assert all(int(size) % 32 == 0 for size in sizes)


def test_a_page_moves_on_request() -> None:
    with serving("-t", "1") as server:
        load(server, 4000, size=1000)
        with server.connect() as wire:
            slabs = wire.stats(b"slabs")
            number, pages = max(
                ((name.split(":")[0], int(value)) for name, value in slabs.items() if "total_pages" in name),
                key=lambda found: found[1],
            )
            assert wire.ask(b"slabs reassign %b 1\r\n" % number.encode()) == b"OK"
            after = wire.stats(b"slabs")
            assert int(after[f"{number}:total_pages"]) == pages - 1
            assert int(after["1:total_pages"]) >= 1
            assert wire.stats()["slabs_moved"] == "1"
