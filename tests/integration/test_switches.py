"""What flags allow and forbid, and a command that changes nothing: as clients of the live server see it."""

from __future__ import annotations

from tests.integration.test_lifecycle import not_memcached, wait_for
from tests.servers import reference, serving


def test_shutdown_ends_as_memcached_ends() -> None:
    found = []
    for start in (serving, reference):
        for request in (b"shutdown\r\n", b"shutdown graceful\r\n"):
            with start("-A") as server, server.connect() as wire:
                refusals = [
                    wire.ask(b"shutdown %b\r\n" % mode) for mode in (b"now", b"noreply", b"graceful now")
                ]
                wire.send(b"set a 0 0 1\r\n1\r\n")
                assert wire.read_line() == b"STORED"
                wire.send(request)
                found.append((refusals, wire.read_to_end(), server.wait(5)))
    assert found[0] == found[2]
    assert found[1] == found[3]


def test_flush_all_is_refused_in_memcacheds_words() -> None:
    requests = (
        b"flush_all",
        b"flush_all 0",
        b"flush_all 10",
        b"flush_all -1",
        b"flush_all x",
        b"flush_all 0 0",
    )
    found = []
    for start in (serving, reference):
        with start("-F") as server, server.connect() as wire:
            wire.set(b"a", b"1")
            lines = [wire.ask(request + b"\r\n") for request in requests]
            wire.send(b"flush_all noreply\r\nflush_all 5 noreply\r\n")
            counted = wire.stats()["cmd_flush"]
            found.append((lines, wire.get(b"a"), counted, wire.stats(b"settings")["flush_enabled"]))
    assert found[0] == found[1]


@not_memcached
def test_cache_memlimit_changes_nothing() -> None:
    with serving() as server, server.connect() as wire:
        value = b"x" * 500_000
        for number in range(40):
            wire.set(b"%d" % number, value)
        assert wire.ask(b"cache_memlimit 8\r\n") == b"OK"
        assert wait_for(lambda: int(wire.stats()["evictions"]) == 0, 1)
        assert sum(wire.get(b"%d" % number) == value for number in range(40)) == 40
        assert int(wire.stats(b"settings")["maxbytes"]) > 40 * len(value)
