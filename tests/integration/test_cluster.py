"""`config get cluster` over a real socket, taken apart as the cluster clients do it."""

from __future__ import annotations

import time

import pytest

from tests.servers import HOST, REPLACEMENT, Server, command, free_port, serving
from tests.wire import Wire

pytestmark = pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached knows no cluster")

ASK = b"config get cluster\r\n"


def asked(wire: Wire, line: bytes = ASK) -> tuple[int, list[tuple[str, str, int]]]:
    """Return (number, nodes); the block has the length that is announced, the reply nothing beside it."""
    wire.send(line)
    word, name, flags, size = wire.read_line().split(b" ")
    assert (word, name, flags) == (b"CONFIG", b"cluster", b"0")
    version, nodes, rest = wire.read_exactly(int(size)).split(b"\n")
    assert rest == b""
    assert wire.read_exactly(7) == b"\r\nEND\r\n"
    fields = [node.split("|") for node in nodes.decode().split(" ")]
    return int(version), [(host, address, int(port)) for host, address, port in fields]


def test_a_list_is_told_in_its_order_and_keeps_its_number() -> None:
    with serving("--cluster", "localhost:5,10.0.0.2,[::1]:7") as server, server.connect() as wire:
        assert isinstance(server.address, tuple)
        wait_for_the_list(wire)
        first = asked(wire)
        assert first[1] == [
            ("localhost", "127.0.0.1", 5),
            ("10.0.0.2", "10.0.0.2", server.address[1]),
            ("::1", "::1", 7),
        ]
        assert abs(first[0] - time.time()) < 60
        assert asked(wire, b"config get cluster\n") == first
        wire.send(b"get absent\r\n")
        assert wire.read_values() == {}


def test_one_name_is_told_as_its_addresses() -> None:
    port = free_port()
    with Server(command(port, "--cluster", "localhost"), (HOST, port)) as server, server.connect() as wire:
        wait_for_the_list(wire)
        assert asked(wire)[1] == [("127.0.0.1", "127.0.0.1", port)]


def test_a_name_that_does_not_resolve_is_an_error_and_holds_nothing_up() -> None:
    with serving("--cluster", "no.such.host.invalid") as server, server.connect() as wire:
        assert wire.ask(ASK).startswith(b"SERVER_ERROR ")
        assert wire.set(b"key", b"value") == b"STORED"


def test_without_a_cluster_it_is_an_unknown_command(server: Server) -> None:
    with server.connect() as wire:
        for line in (ASK, b"config\r\n", b"config get cluster noreply\r\n", b"config set cluster 0 0\r\n"):
            assert wire.ask(line) == b"ERROR"


def wait_for_the_list(wire: Wire) -> None:
    """Wait until the names are resolved."""
    deadline = time.monotonic() + 10
    while True:
        wire.send(ASK + b"version\r\n")
        if wire.read_until(b"VERSION")[0].startswith(b"CONFIG"):
            wire.read_line()
            return
        wire.read_line()
        assert time.monotonic() < deadline
        time.sleep(0.01)
