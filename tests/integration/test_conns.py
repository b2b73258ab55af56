"""`stats conns` of the live server: each connection of each worker, in memcached's form."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from cacheserver.roster import PATIENCE, SLICE, roster
from tests.integration.test_lifecycle import not_memcached
from tests.servers import HOST, Server, bare_command, serving
from tests.wire import Wire

FORM = re.compile(r"(\d+):(addr|listen_addr|state|secs_since_last_cmd)")
ADDRESS = re.compile(r"tcp:[\d.]+:\d+|tcp6:\[[\da-f:]+\]:\d+|unix:\S*")
ATTRIBUTES = ["addr", "listen_addr", "state", "secs_since_last_cmd"]


def connections(wire: Wire) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, value in wire.stats(b"conns").items():
        match = FORM.fullmatch(name)
        assert match
        found.setdefault(match[1], {})[match[2]] = value
    return found


def test_conns_tell_each_connection_of_each_worker(busy: Server) -> None:
    assert isinstance(busy.address, tuple)
    others = [busy.connect() for _ in range(3 * SLICE)]
    assert all(other.ask(b"delete nothing\r\n") == b"NOT_FOUND" for other in others)
    half = busy.connect()
    half.send(b"set a 0 0 200000\r\n" + b"x" * 100_000)
    with busy.connect() as wire:
        found = connections(wire)
        assert wire.ask(b"version\r\n").startswith(b"VERSION")
        own = "tcp:{}:{}".format(*wire.socket.getsockname())
    listening = [each for each in found.values() if each["state"] == "conn_listening"]
    assert [list(each) for each in listening] == [["addr", "state", "secs_since_last_cmd"]]
    server_side = f"tcp:{HOST}:{busy.address[1]}"
    assert listening[0]["addr"] == server_side
    peers = {each["addr"]: each for each in found.values() if each not in listening}
    assert {"tcp:{}:{}".format(*other.socket.getsockname()) for other in others} | {own} <= set(peers)
    for each in peers.values():
        assert list(each) == ATTRIBUTES
        assert ADDRESS.fullmatch(each["addr"])
        assert each["listen_addr"] == server_side
        assert 0 <= int(each["secs_since_last_cmd"]) < 600
    assert peers[own]["state"] == "conn_parse_cmd"
    assert peers["tcp:{}:{}".format(*half.socket.getsockname())]["state"] == "conn_nread"
    assert peers["tcp:{}:{}".format(*others[0].socket.getsockname())]["state"] == "conn_read"
    for each in (*others, half):
        each.close()


def test_conns_have_the_form_of_memcached(busy: Server, memcached: Server) -> None:
    found = []
    for server in (busy, memcached):
        with server.connect() as wire, server.connect() as idle:
            idle.ask(b"version\r\n")
            for _ in range(1000):
                wire.send(b"stats conns\r\n")
                text, _ = wire.read_until(b"END\r\n")
                if b"conn_mwrite" not in text:  # memcached has replied to the idle one and gone on
                    break
            lines = {re.sub(rb"\d+", b"n", line) for line in text.split(b"\r\n")}
            found.append(lines)
    assert found[0] == found[1]


@not_memcached
def test_conns_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Server(bare_command("-s", path), path) as server, server.connect() as wire:
        found = list(connections(wire).values())
    assert [(each["addr"], each["state"]) for each in found] == [
        (f"unix:{path}", "conn_listening"),
        ("unix:", "conn_parse_cmd"),
    ]
    assert found[1]["listen_addr"] == f"unix:{path}"


@not_memcached
def test_conns_do_not_hold_up_a_server_that_ends() -> None:
    with serving("-t", "2") as server:
        wires = [server.connect() for _ in range(20)]
        for wire in wires:
            wire.send(b"stats conns\r\n" * 5)
        server.signal(signal.SIGTERM)
        assert server.wait(3) == 0


class Silent:
    """A worker that never does what it is told."""

    def call_soon_threadsafe(self, *_: object) -> bool:
        return True


class Ended(Silent):
    def call_soon_threadsafe(self, *_: object) -> bool:
        return False


class Obedient:
    """A worker with `count` connections, asked from a thread of its own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[tuple[int, int]] = []
        self.reactor = self

    def seats(self, first: int, most: int) -> list[tuple[int, str, str, str, int]]:
        self.asked.append((first, most))
        return [(i, "p", "l", "s", 0) for i in range(first, min(self.count, first + most))]

    def call_soon_threadsafe(self, callback: Any, *_: object) -> bool:
        threading.Thread(target=callback).start()
        return True


class Heard:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def send(self, data: bytes, **_: object) -> None:
        self.parts.append(data)


def test_a_worker_that_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacheserver.roster.PATIENCE", PATIENCE / 100)
    workers: Any = [Silent(), Ended(), Obedient(SLICE + 1)]
    heard: Any = Heard()
    listener: Any = type("L", (), {"sockets": ()})()
    roster(listener, workers, 0)(heard)
    text = b"".join(heard.parts)
    assert text.endswith(b"END\r\n")
    assert text.count(b":addr ") == SLICE + 1
    assert workers[2].asked == [(0, SLICE), (SLICE, SLICE)]
    assert max(map(len, heard.parts)) < 200 * SLICE, "no part is as large as the whole"
