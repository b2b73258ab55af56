"""Accepting: the connection limit, dealing to reactors, and running out of file descriptors."""

import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from cacheserver.net.listener import Listener


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as sock:
        yield sock


@pytest.fixture
def spent_files() -> Iterator[Any]:
    """A context in which no file descriptor above those open now can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def spend() -> None:
        top = os.dup(0)
        os.close(top)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))

    yield spend
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(listening: socket.socket, count: int) -> list[socket.socket]:
    return [socket.create_connection(listening.getsockname(), timeout=5) for _ in range(count)]


def close(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


def test_connections_are_dealt_to_the_reactors_in_turn(make_rig: Any, listening: socket.socket) -> None:
    rigs = [make_rig() for _ in range(3)]
    listener = Listener([listening], [rig.reactor for rig in rigs], max_conns=100)
    clients = connect(listening, 30)
    assert listener.accept_ready(0) == 30
    assert [rig.reactor.connections for rig in rigs] == [10, 10, 10]
    assert listener.counters()["total_connections"] == 30
    close(clients)


def test_client_beyond_the_limit_is_told_so_and_a_place_set_free_is_given_again(
    rig: Any, listening: socket.socket
) -> None:
    listener = Listener([listening], [rig.reactor], max_conns=3)
    clients = connect(listening, 5)
    listener.accept_ready(0)
    for refused in clients[3:]:
        assert refused.recv(100) == b"ERROR Too many open connections\r\n"
        assert refused.recv(100) == b""
    counters = listener.counters()
    assert (counters["total_connections"], counters["rejected_connections"]) == (3, 2)
    rig.pump_all()
    clients[0].close()
    rig.pump(lambda: rig.reactor.connections == 2)
    (late,) = connect(listening, 1)
    listener.accept_ready(0)
    late.send(b"get a\r\n")
    rig.pump_all()
    assert late.recv(100) == b"END\r\n"
    close([*clients, late])


def test_client_beyond_the_limit_waits_for_a_place_where_none_is_refused(
    rig: Any, listening: socket.socket
) -> None:
    pauses: list[float] = []
    listener = Listener([listening], [rig.reactor], max_conns=2, refuse=False, on_pause=pauses.append)
    clients = connect(listening, 2)
    assert listener.accept_ready(0) == 2
    assert not listener.paused  # nobody waits yet
    clients += connect(listening, 1)
    assert listener.accept_ready(0) == 0
    assert listener.full
    assert listener.resume() == 0.01
    counters = listener.counters()
    assert (counters["accepting_conns"], counters["listen_disabled_num"]) == (0, 1)
    rig.pump_all()
    clients[0].close()
    rig.pump(lambda: rig.reactor.connections == 1)
    assert listener.resume() == 0
    assert listener.accept_ready(0) == 1
    clients[2].send(b"get a\r\n")
    rig.pump_all()
    assert clients[2].recv(100) == b"END\r\n"
    counters = listener.counters()
    assert (counters["accepting_conns"], counters["listen_disabled_num"]) == (1, 1)
    assert counters["rejected_connections"] == 0
    assert counters["time_in_listen_disabled_us"] > 0
    assert pauses == [0.01]
    close(clients)


def test_who_speaks_tls_waits_while_there_are_too_many_handshakes_and_nobody_else_does(
    rig: Any, listening: socket.socket
) -> None:
    taken: list[int] = []
    waits: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as plain:
        listener = Listener(
            [plain, listening], [rig.reactor], max_conns=100, secure=[1], on_secure=taken.append,
            max_unsettled=2, on_crowd=waits.append,
        )  # fmt: skip
        clients = [*connect(listening, 5), *connect(plain, 1)]
        assert listener.accept_ready(1) == 2
        assert listener.accept_ready(1) == 0
        assert waits == [1]
        assert listener.accept_ready(0) == 1
        listener.settled()
        assert listener.accept_ready(1) == 1
    assert len(taken) == 3
    counters = listener.counters()
    assert (counters["rejected_connections"], counters["accepting_conns"]) == (0, 1)
    for fd in taken:
        os.close(fd)
    close(clients)


def test_accepting_pauses_when_files_are_spent_and_then_takes_up_those_who_waited(
    rig: Any, listening: socket.socket, spent_files: Any
) -> None:
    pauses: list[float] = []
    listener = Listener([listening], [rig.reactor], max_conns=100, on_pause=pauses.append)
    clients = connect(listening, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spent_files()
    assert listener.accept_ready(0) == 0
    assert listener.accept_ready(0) == 0  # paused: does not even try
    assert listener.counters()["accepting_conns"] == 0
    listener.resume()
    assert listener.accept_ready(0) == 0
    assert pauses == [0.01, 0.02]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    listener.resume()
    assert listener.accept_ready(0) == 5
    counters = listener.counters()
    assert counters["listen_disabled_num"] == 2
    assert counters["accepting_conns"] == 1
    assert counters["time_in_listen_disabled_us"] > 0
    close(clients)


def test_client_that_gave_up_waiting_is_skipped(rig: Any, listening: socket.socket) -> None:
    listener = Listener([listening], [rig.reactor], max_conns=100)
    gone, stays = connect(listening, 2)
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gone.close()
    listener.accept_ready(0)
    stays.send(b"get a\r\n")
    rig.pump(lambda: rig.reactor.connections == 1)
    rig.pump_all()
    assert stays.recv(100) == b"END\r\n"
    stays.close()


def test_stopped_listener_leaves_clients_waiting(rig: Any, listening: socket.socket) -> None:
    listener = Listener([listening], [rig.reactor], max_conns=100)
    listener.stop()
    clients = connect(listening, 1)
    assert listener.accept_ready(0) == 0
    assert listener.counters()["accepting_conns"] == 0
    close(clients)


def test_bad_arguments_are_refused(rig: Any, listening: socket.socket) -> None:
    with pytest.raises(ValueError, match="max_conns"):
        Listener([listening], [rig.reactor], max_conns=0)
    with pytest.raises(ValueError, match="at least one"):
        Listener([listening], [], max_conns=1)
    with pytest.raises(IndexError):
        Listener([listening], [rig.reactor], max_conns=1).accept_ready(1)
