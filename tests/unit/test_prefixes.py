"""Statistics by prefix: what counts for which prefix, and how much the table holds."""

from __future__ import annotations

import threading

import pytest

from cacheserver.detail import PIECE, Detail
from cacheserver.lines import END
from cacheserver.prefixes import Prefixes

PREFIXES_MAX = 65536
USAGE = b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"


class Switch:
    """An engine that remembers what it was told."""

    on = False

    def count_prefixes(self, on: bool) -> None:
        self.on = on


class Reader:
    """A stream that keeps what is sent."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def send(self, data: bytes, *, patience: float = 60.0) -> None:
        self.parts.append(data)


def test_a_key_counts_for_what_stands_before_its_first_delimiter() -> None:
    table = Prefixes("/")
    for key in (b"a/b:c", b"a/b/c", b"/x", b"x/", b"plain", b"a:b"):
        table.count(key, "set")
    table.count(b"a/1", "get")
    table.count(b"a/1", "get", True)
    table.count(b"new/1", "del")
    assert table.rows(0, 10) == [
        (b"a", 2, 1, 2, 0),
        (b"", 0, 0, 1, 0),
        (b"x", 0, 0, 1, 0),
        (b"new", 0, 0, 0, 1),
    ]


def test_rows_come_in_pieces_of_any_size() -> None:
    table = Prefixes()
    names = [b"p%d" % number for number in range(5000)]
    for name in names:
        table.count(name + b":", "set")
    whole = table.rows(0, 65536)
    assert [row[0] for row in whole] == names
    pieces = [row for start in range(0, 5200, 100) for row in table.rows(start, 100)]
    assert pieces == whole
    for name in names:
        table.count(name + b":again", "set")
    assert {row[3] for row in table.rows(0, 65536)} == {2}


def test_the_table_is_bounded_and_counts_what_it_drops() -> None:
    table = Prefixes()
    for number in range(PREFIXES_MAX + 10):
        table.count(b"%d:" % number, "get")
    table.count(b"0:", "get")
    assert (len(table), table.dropped) == (PREFIXES_MAX, 10)
    assert table.rows(0, 1)[0][1] == 2
    assert table.rows(PREFIXES_MAX, 1) == []
    table.clear()
    assert (len(table), table.rows(0, 10), table.dropped) == (0, [], 10)
    table.count(b"late:", "get")
    assert len(table) == 1


def test_long_prefixes_are_bounded_by_their_bytes() -> None:
    table = Prefixes()
    for number in range(20000):
        table.count(b"%0248d:" % number, "set")
    assert len(table) == (4 << 20) // 248
    assert table.dropped == 20000 - len(table)


def test_threads_count_together_while_others_read_and_clear() -> None:
    table = Prefixes()

    def count() -> None:
        for number in range(5000):
            table.count(b"%d:" % (number % 700), "set")

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for name, *counts in table.rows(0, 1000):
            assert 0 <= int(name) < 700
            assert counts[:2] + counts[3:] == [0, 0, 0]
        table.clear()
    count()
    assert sum(row[3] for row in table.rows(0, 1000)) >= 5000


@pytest.mark.parametrize("delimiter", ["", "::", "é"])
def test_the_delimiter_is_one_byte(delimiter: str) -> None:
    with pytest.raises(ValueError, match="not one single character"):
        Prefixes(delimiter)


@pytest.mark.parametrize("arguments", [[], [b"x"], [b"ON"], [b"noreply"]])
def test_stats_detail_says_how_it_is_used(arguments: list[bytes]) -> None:
    assert Detail(Prefixes(), []).command(arguments) == USAGE


def test_stats_detail_turns_every_engine_on_and_off() -> None:
    engines = [Switch(), Switch()]
    detail = Detail(Prefixes(), engines, on=True)
    assert detail.settings() == {"detail_enabled": "yes"}
    assert all(engine.on for engine in engines)
    assert detail.command([b"off"]) == b"OK\r\n"
    assert detail.settings() == {"detail_enabled": "no"}
    assert not any(engine.on for engine in engines)
    assert detail.command([b"on", b"x"]) == b"OK\r\n"
    assert all(engine.on for engine in engines)


def test_a_dump_of_many_prefixes_is_a_job_that_sends_it_in_pieces() -> None:
    table = Prefixes()
    detail = Detail(table, [])
    assert detail.command([b"dump"]) == END
    for number in range(2 * PIECE + 1):
        table.count(b"p%d:" % number, "get", True)
    job = detail.command([b"dump", b"x"])
    assert callable(job)
    reader = Reader()
    job(reader)  # type: ignore[arg-type]
    assert len(reader.parts) == 4
    lines = b"".join(reader.parts).split(b"\r\n")
    assert lines[0] == b"PREFIX p0 get 1 hit 1 set 0 del 0"
    assert lines[2 * PIECE] == b"PREFIX p%d get 1 hit 1 set 0 del 0" % (2 * PIECE)
    assert lines[2 * PIECE + 1 :] == [b"END", b""]
    detail.reset()
    assert detail.command([b"dump"]) == END
