"""The life of connections and of the reactor: idle time, draining, closing, handing over from threads."""

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cacheserver.store.store import Store
from tests.descriptors import open_files

MakeRig = Callable[..., Any]
pytestmark = pytest.mark.parametrize("make_rig", ["plain", "tls"], indirect=True)


def test_idle_connection_is_closed_after_its_time_and_an_active_one_is_not(make_rig: MakeRig) -> None:
    rig = make_rig(idle_timeout=10)
    rig.reactor.sweep(1000.0)
    idle, active = rig.connect(), rig.connect()
    for now in (1005.0, 1009.0):
        rig.reactor.sweep(now)
        rig.ask(active, b"get a\r\n", b"END\r\n")
    assert rig.reactor.connections == 2
    rig.reactor.sweep(1010.5)
    assert rig.read_to_end(idle) == b""
    assert rig.reactor.counters()["idle_kicks"] == 1
    rig.ask(active, b"get a\r\n", b"END\r\n")


def test_no_idle_timeout_means_never(rig: Any) -> None:
    client = rig.connect()
    rig.reactor.sweep(0.0)
    rig.reactor.sweep(1e9)
    rig.ask(client, b"get a\r\n", b"END\r\n")


def test_closing_connection_that_does_not_read_is_given_up(rig: Any) -> None:
    writer, deaf = rig.connect(), rig.connect(rcvbuf=4096, sndbuf=8192)
    rig.store(writer, b"k", b"v" * 1000000)
    rig.reactor.sweep(0.0)
    rig.send(deaf, b"get k\r\nquit\r\n")
    rig.reactor.sweep(5.0)
    assert rig.reactor.connections == 2
    rig.reactor.sweep(20.0)
    assert rig.reactor.connections == 1
    assert rig.reactor.counters()["pending_bytes"] == 0


def test_drain_closes_the_idle_and_finishes_the_rest(rig: Any) -> None:
    writer = rig.connect()
    rig.store(writer, b"k", b"v" * 1000000)
    idle, half, asked = rig.connect(), rig.connect(), rig.connect()
    slow = rig.connect(rcvbuf=4096, sndbuf=8192)
    rig.send(half, b"set h 0 0 10\r\n12345")
    rig.send(slow, b"get k\r\n")
    asked.send(b"get none\r\n")  # received by the kernel, not yet by the reactor
    rig.reactor.drain()
    assert rig.read_to_end(idle) == rig.read_to_end(writer) == b""
    assert rig.read_to_end(asked) == b"END\r\n"
    assert not rig.reactor.drained
    half.send(b"67890\r\n")
    assert rig.read_to_end(half) == b"STORED\r\n"
    assert rig.read_to_end(slow) == b"VALUE k 0 1000000\r\n" + b"v" * 1000000 + b"\r\nEND\r\n"
    assert rig.reactor.drained


def test_drain_forgets_no_paused_connection(rig: Any) -> None:
    client = rig.connect()
    rig.store(client, b"k", b"v" * 2000)
    client.send(b"get k\r\n" * 2000)
    rig.pump_once()
    rig.reactor.drain()
    assert rig.read_to_end(client) == (b"VALUE k 0 2000\r\n" + b"v" * 2000 + b"\r\nEND\r\n") * 2000


def test_handler_may_close_the_reactor_that_runs_it(rig: Any) -> None:
    def handler(line: bytes) -> bytes:
        rig.reactor.close()
        return b"OK\r\n"

    rig.engine.handler = handler
    clients = [rig.connect() for _ in range(5)]
    for client in clients:
        client.send(b"stats\r\nget a\r\n")
    rig.reactor.on_ready()
    assert rig.reactor.connections == 0
    rig.reactor.on_ready()
    assert rig.reactor.fileno() == -1


def test_connections_destroyed_in_a_batch_get_no_stale_events(rig: Any) -> None:
    clients = [rig.connect() for _ in range(20)]
    rig.reactor.sweep(0.0)

    def handler(line: bytes) -> bytes:
        rig.reactor.drain()
        return b"OK\r\n"

    rig.engine.handler = handler
    for number, client in enumerate(clients):
        client.send(b"stats\r\nget a\r\n" if number % 3 == 0 else b"get a\r\n")
    for number, client in enumerate(clients):
        assert rig.read_to_end(client) == (b"OK\r\nEND\r\n" if number % 3 == 0 else b"END\r\n")
    assert rig.reactor.drained


def test_sockets_handed_over_by_many_threads_are_all_served(rig: Any) -> None:
    ends: list[socket.socket] = []

    def hand_over() -> None:
        for _ in range(50):
            client, server = socket.socketpair()
            server.setblocking(False)
            client.send(b"get a\r\n")
            rig.reactor.adopt(server.detach())
            ends.append(client)

    threads = [threading.Thread(target=hand_over) for _ in range(4)]
    for thread in threads:
        thread.start()
    rig.pump(lambda: not any(thread.is_alive() for thread in threads))
    assert rig.reactor.connections == 200
    for client in ends:
        client.setblocking(False)
        assert rig.read(client, 5) == b"END\r\n"
        client.close()
    rig.pump(lambda: rig.reactor.drained)


def test_socket_handed_to_a_closed_reactor_is_closed(rig: Any) -> None:
    rig.reactor.close()
    client, server = socket.socketpair()
    with client:
        fd = server.detach()
        assert not rig.reactor.adopt(fd)
        assert client.recv(1) == b""
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_closing_leaves_no_file_open(make_rig: MakeRig) -> None:
    before = open_files()
    rig = make_rig()
    for _ in range(10):
        rig.connect()
    rig.close()
    assert open_files() <= before


NARROW = b"k" * 31  # with a value of one byte it fills its chunk: a longer one needs a page of another class
GROWING = {
    "incr": b"incr %b 1\r\n" % NARROW,
    "ma": b"ma %b\r\n" % NARROW,
    "ma N": b"ma %b N0\r\n" % (b"m" * 40),
    "mg N": b"mg %b N0\r\n" % (b"m" * 40),
    "mg N v": b"mg %b N0 v\r\n" % (b"m" * 40),
    "ms": b"ms %b 2\r\nxx\r\n" % NARROW,
    "append": b"append %b 0 0 1\r\nx\r\n" % NARROW,
}


@pytest.mark.parametrize("evictions", [True, False], ids=["evicting", "refusing"])
@pytest.mark.parametrize("request_line", GROWING.values(), ids=GROWING)
def test_whoever_needs_a_page_wakes_the_monitor(
    make_rig: MakeRig, request_line: bytes, evictions: bool
) -> None:
    store = Store(evictions=evictions)
    store.wake_fd = wake = os.eventfd(0, os.EFD_NONBLOCK)
    store.grant(1 << 20)
    rig = make_rig(store=store)
    client = rig.connect()
    rig.ask(client, b"set %b 0 0 1\r\n9\r\n" % NARROW, b"STORED\r\n")
    assert os.eventfd_read(wake) == 1
    rig.send(client, request_line)
    assert os.eventfd_read(wake) == 1, "items are evicted until the monitor looks by itself"
    os.close(wake)
