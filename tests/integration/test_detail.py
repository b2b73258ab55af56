"""`stats detail` over real sockets, against Debian's memcached: the same requests, the same counts.

Knows: two running servers. The order of the prefixes is that of memcached's hash table, so lines are sorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest

from tests.integration.exchanges import put
from tests.servers import Server, reference, serving
from tests.wire import Wire

KEYS = [
    b"a:1",
    b"a:2",
    b"a:b:c",
    b"b:1",
    b":x",
    b"x:",
    b"plain",
    b"::",
    b"c/d:e",
    b"n\xff:x",
    b"p" * 249 + b":",
]


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving("-t", "2")), stack.enter_context(reference())]


def dump(wire: Wire) -> list[bytes]:
    wire.send(b"stats detail dump\r\n")
    lines = []
    while (line := wire.read_line()) != b"END":
        assert line.startswith(b"PREFIX ")
        lines.append(line)
    return sorted(lines)


def counted(server: Server, requests: list[bytes]) -> list[bytes]:
    """The prefixes after `requests`, each of which is answered before the next is sent."""
    with server.connect() as wire:
        for line in (b"flush_all", b"stats detail on", b"stats reset"):
            assert wire.ask(line + b"\r\n") in (b"OK", b"RESET")
        for request in requests:
            wire.send(request + b"version\r\n")
            while not wire.read_line().startswith(b"VERSION"):
                pass
        found = dump(wire)
        assert wire.ask(b"stats detail off\r\n") == b"OK"
        return found


def requests_of(random: Random, count: int) -> Iterator[bytes]:
    """Requests of every classic command, on few keys."""
    for _ in range(count):
        key, other = random.choice(KEYS), random.choice(KEYS)
        yield random.choice(
            [
                put(key, b"1"),
                b"get %b\r\n" % key,
                b"gets %b %b %b\r\n" % (key, other, key),
                b"gat 100 %b %b\r\n" % (key, other),
                b"gat -1 %b\r\n" % key,
                b"delete %b\r\n" % key,
                b"delete %b noreply\r\n" % key,
                b"incr %b 1\r\n" % key,
                b"touch %b 100\r\n" % key,
                *(
                    b"%b %b 0 0 1\r\n1\r\n" % (word, key)
                    for word in (b"add", b"replace", b"append", b"prepend")
                ),
                b"set %b 0 0 1 noreply\r\n1\r\n" % key,
                b"cas %b 0 0 1 1\r\n1\r\n" % key,
                b"set %b 0 0 1\r\nxyz\r\n" % key,
                put(key, b"x" * 300_000),
                put(key, b"x" * 1_100_000),
                b"set %b 0 0 x\r\n" % key,
                b"get %b %b\r\n" % (key, b"long:" + b"k" * 250),
                b"incr %b x\r\n" % key,
            ]
        )


@pytest.mark.parametrize("seed", range(3))
def test_the_same_requests_count_the_same(pair: list[Server], seed: int) -> None:
    requests = list(requests_of(Random(seed), 400))
    ours, theirs = (counted(each, requests) for each in pair)
    assert ours == theirs
    assert len(ours) == len({key.split(b":")[0] for key in KEYS if b":" in key})


def test_while_off_nothing_is_counted_and_nothing_is_forgotten(pair: list[Server]) -> None:
    found = []
    for each in pair:
        with each.connect() as wire:
            wire.send(b"stats detail on\r\nstats reset\r\nget no:1\r\nstats detail off\r\nget no:1\r\n")
            wire.send(b"stats detail on extra tokens\r\nget yes:1\r\nstats detail off\r\n")
            for _ in range(8):
                wire.read_line()
            found.append(dump(wire))
    assert found == [[b"PREFIX no get 1 hit 0 set 0 del 0", b"PREFIX yes get 1 hit 0 set 0 del 0"]] * 2


@pytest.mark.parametrize("line", [b"", b" ", b" x", b" ON", b" noreply", b" dumpx"])
def test_how_it_is_used_is_said_alike(pair: list[Server], line: bytes) -> None:
    replies = [each.connect().ask(b"stats detail" + line + b"\r\n") for each in pair]
    assert replies == [b"CLIENT_ERROR usage: stats detail on|off|dump"] * 2


def test_a_delimiter_turns_it_on_from_the_start() -> None:
    found = []
    for make in (serving, reference):
        with make("-D", "/") as server, server.connect() as wire:
            settings = wire.stats(b"settings")
            wire.set(b"a/b:c", b"x")
            wire.set(b"a:b", b"x")
            found.append((settings["detail_enabled"], settings["stat_key_prefix"], dump(wire)))
    assert found == [("yes", "/", [b"PREFIX a get 0 hit 0 set 1 del 0"])] * 2


def test_settings_follow_what_was_turned_on(pair: list[Server]) -> None:
    for each in pair:
        with each.connect() as wire:
            assert wire.stats(b"settings")["detail_enabled"] == "no"
            assert wire.ask(b"stats detail on\r\n") == b"OK"
            assert wire.stats(b"settings")["detail_enabled"] == "yes"
            assert wire.ask(b"stats detail off\r\n") == b"OK"


def test_a_dump_of_all_there_is_room_for(pair: list[Server]) -> None:
    server = pair[0]
    with server.connect(timeout=60) as wire:
        wire.send(b"stats reset\r\nstats detail on\r\n")
        for start in range(0, 66_000, 1000):
            wire.send(b"get " + b" ".join(b"%d:" % number for number in range(start, start + 1000)) + b"\r\n")
        wire.send(b"stats detail off\r\n")
        while wire.read_line() != b"END":
            pass
        while wire.read_line() == b"END":
            pass
        found = dump(wire)
        assert len(found) == 65_536
        assert set(found) == {b"PREFIX %d get 1 hit 0 set 0 del 0" % number for number in range(65_536)}
        assert int(wire.stats()["detail_dropped"]) == 66_000 - 65_536
        assert wire.ask(b"stats reset\r\n") == b"RESET"
        assert dump(wire) == []
