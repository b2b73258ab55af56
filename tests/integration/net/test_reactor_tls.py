"""What only TLS connections have: records in pieces, last words, OpenSSL's memory.

The other modules of this folder run their tests over TLS, too.
"""

import os
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from cacheserver.net.budget import Budget
from tests.integration.net.conftest import REST_BYTES
from tests.secure import secure_pair

MakeRig = Callable[..., Any]
pytestmark = pytest.mark.parametrize("make_rig", ["tls"], indirect=True)

GET = b"get none\r\n"


def test_a_record_may_come_byte_by_byte_and_counts_while_it_is_half(make_rig: MakeRig) -> None:
    secure = Budget(1 << 20)
    rig = make_rig(max_secure=secure)
    client, other = rig.connect_unix(), rig.connect_unix()
    at_rest = secure.used
    assert at_rest == 2 * REST_BYTES
    record = client.encrypted(GET)
    for number, byte in enumerate(record):
        client.raw.send(bytes([byte]))
        rig.pump_all()
        assert (secure.used > at_rest) == (number < len(record) - 1)
        rig.ask(other, GET, b"END\r\n")
    assert rig.read(client, 5) == b"END\r\n"


def test_a_large_value_in_records_of_odd_sizes_cut_anywhere(rig: Any) -> None:
    client, dice = rig.connect(), random.Random(1)
    value = dice.randbytes(900000)
    request = b"set k 0 0 900000\r\n" + value + b"\r\n"
    stream, at = b"", 0
    while at < len(request):
        size = dice.choice((1, 3, 700, 5000, 16384))
        stream += client.encrypted(request[at : at + size])
        at += size
    while stream:
        try:
            sent = client.raw.send(stream[: dice.randrange(1, 100000)])
        except BlockingIOError:
            sent = 0
        stream = stream[sent:]
        rig.pump_all()
    assert rig.read(client, 8) == b"STORED\r\n"
    rig.ask(client, b"get k\r\n", b"VALUE k 0 900000\r\n" + value + b"\r\nEND\r\n")


def test_drain_waits_for_the_rest_of_a_record(rig: Any) -> None:
    client, idle = rig.connect(), rig.connect()
    record = client.encrypted(GET)
    client.raw.send(record[:10])
    rig.pump_all()
    rig.reactor.drain()
    assert rig.read_to_end(idle) == b""
    assert rig.reactor.connections == 1
    client.raw.send(record[10:])
    assert rig.read_to_end(client) == b"END\r\n"
    assert rig.reactor.drained


def test_who_breaks_the_records_is_closed_and_counted(rig: Any) -> None:
    client, other = rig.connect(), rig.connect()
    rig.send(client, b"set k 0 0 100000\r\n" + b"x" * 50000)
    client.raw.send(b"get a\r\n" * 20)
    rig.pump(lambda: rig.reactor.connections == 1)
    rig.ask(other, b"get k\r\n", b"END\r\n")
    assert rig.reactor.counters()["ssl_proto_errors"] == 1


def test_the_server_says_the_last_word(rig: Any) -> None:
    """Without it a client cannot tell the end of the answers from an answer that was cut off."""
    client = rig.connect()
    rig.send(client, GET + b"quit\r\n")
    assert rig.read_to_end(client) == b"END\r\n"
    assert client.last_word


def test_who_says_his_last_word_alone_still_gets_his_answers(rig: Any) -> None:
    client = rig.connect()
    client.send(GET * 3)
    client.raw.send(_last_word(client))
    assert rig.read_to_end(client) == b"END\r\n" * 3
    rig.pump(lambda: rig.reactor.connections == 0)


def _last_word(client: Any) -> bytes:
    with pytest.raises(Exception, match="did not complete"):
        client.tls.unwrap()
    return bytes(client._out.read())


def test_an_exceeded_budget_of_openssl_s_memory_closes_who_is_silent_longest(make_rig: MakeRig) -> None:
    secure = Budget(8 * REST_BYTES)
    rig = make_rig(max_secure=secure)
    clients = [rig.connect() for _ in range(8)]
    for now, client in enumerate(clients):
        rig.reactor.sweep(float(now))
        rig.ask(client, GET, b"END\r\n")
    newest = rig.connect()
    rig.ask(newest, GET, b"END\r\n")
    assert rig.reactor.connections == 8
    assert rig.read_to_end(clients[0]) == b""
    secure.limit = 3 * REST_BYTES
    rig.reactor.sweep(10.0)
    assert secure.used == 3 * REST_BYTES
    for client in (*clients[6:], newest):
        rig.ask(client, GET, b"END\r\n")


def test_whatever_ends_connections_gives_all_their_memory_back(make_rig: MakeRig) -> None:
    secure = Budget(1 << 30)
    before = len(os.listdir("/proc/self/fd"))
    rig = make_rig(max_secure=secure)
    writer = rig.connect()
    rig.store(writer, b"k", b"v" * 1000000)
    deaf = [rig.connect(rcvbuf=4096, sndbuf=8192) for _ in range(3)]
    for client in deaf:
        rig.send(client, b"get k k\r\n")
    half = rig.connect()
    half.raw.send(half.encrypted(GET)[:7])
    rig.pump_all()
    assert rig.reactor.relieve(True) > 0
    rig.reactor.close()
    counters = rig.reactor.counters()
    names = ("pending_bytes", "pinned_bytes", "carry_bytes", "ssl_connections", "curr_connections")
    assert [counters[name] for name in names] == [0] * 5
    assert secure.used == 0
    rig.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_socket_handed_to_a_closed_reactor_is_closed(rig: Any) -> None:
    client, server = socket.socketpair()
    with client:
        _, secure = secure_pair(client, server, rig.contexts)
        rig.reactor.close()
        assert not rig.reactor.adopt_tls(secure, REST_BYTES)
        assert secure.fileno() == -1


def test_a_handed_over_socket_that_nobody_took_is_closed_with_the_reactor(rig: Any) -> None:
    client, server = socket.socketpair()
    with client:
        _, secure = secure_pair(client, server, rig.contexts)
        assert rig.reactor.adopt_tls(secure, REST_BYTES)
        rig.reactor.close()
        assert secure.fileno() == -1
        assert rig.reactor.drained
