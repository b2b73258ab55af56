"""Clients that send nonsense, never read, dawdle or vanish: each gets an answer or a clean close.

Knows: sockets, and the resident size of the server's process as the kernel reports it. A witness, connected
before the bad client comes, checks that its stored value is still there and that it is answered at once.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.servers import REPLACEMENT, Server
from tests.wire import Wire

PROMPT = 1.0  # seconds within which an undisturbed client is answered; far above what a free machine needs
MIB = 1 << 20
NO_LF = b"z" * 100_000
BINARY_GET = struct.pack(">BBHBBHIIQ", 0x80, 0, 1, 0, 0, 0, 1, 0, 0) + b"k"
TLS_HELLO = bytes.fromhex("16030100d1010000cd0303") + bytes(range(200))


@pytest.fixture
def witness(server: Server) -> Iterator[Wire]:
    """A well-behaved client; at the end its value must still be there and must come at once."""
    with server.connect() as wire:
        assert wire.set(b"witness", b"untouched") == b"STORED"
        yield wire
        started = time.monotonic()
        assert wire.get(b"witness") == b"untouched"
        assert time.monotonic() - started < PROMPT


def reset(wire: Wire) -> None:
    """Close so that the server sees a connection reset instead of an orderly end."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def send_all_or_stop(wire: Wire, data: bytes) -> None:
    """Send as much as the server takes before it closes."""
    try:
        wire.send(data)
    except (BrokenPipeError, ConnectionResetError):
        return


@pytest.mark.parametrize(
    ("data", "first_words"),
    [
        pytest.param(b"nonsense\r\n", (b"ERROR",), id="malformed line"),
        pytest.param(b"set a b c d\r\n", (b"CLIENT_ERROR",), id="malformed set"),
        pytest.param(NO_LF, (b"",), id="line without an end"),
        pytest.param(b"set " + NO_LF, (b"",), id="set line without an end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (b"",), id="HTTP request"),
        pytest.param(TLS_HELLO, (b"", b"ERROR", b"CLIENT_ERROR"), id="TLS hello"),
        pytest.param(
            random.Random(1).randbytes(200_000), (b"", b"ERROR", b"CLIENT_ERROR"), id="random bytes"
        ),
        pytest.param(bytes(100_000), (b"", b"ERROR"), id="NULs"),
        pytest.param(b"\n" * 5000, (b"ERROR", b"CLIENT_ERROR"), id="empty lines"),
        pytest.param(b"set a 0 0 2147483000\r\n" + NO_LF, (b"", b"SERVER_ERROR"), id="huge value announced"),
    ],
)
def test_nonsense_is_answered_or_the_connection_ends(
    data: bytes, first_words: tuple[bytes, ...], server: Server, witness: Wire
) -> None:
    with server.connect() as wire:
        send_all_or_stop(wire, data)
        with contextlib.suppress(OSError):  # closed already
            wire.half_close()
        reply = wire.read_to_end()
    assert (reply.split(None, 1) or [b""])[0] in first_words, reply[:200]


@pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached speaks the binary protocol")
def test_the_binary_protocol_is_refused_by_closing(server: Server, witness: Wire) -> None:
    with server.connect() as wire:
        wire.send(BINARY_GET)
        assert wire.read_to_end() == b""


@pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached keeps such a line whole")
@pytest.mark.parametrize("piece", [b"key" * 20 + b" ", b"k"], ids=["many keys", "one key"])
def test_an_endless_get_line_takes_bounded_memory(piece: bytes, server: Server, witness: Wire) -> None:
    before = server.rss()
    chunk = piece * (MIB // len(piece))
    with server.connect() as wire:
        try:
            wire.send(b"get ")
            for _ in range(48):
                wire.send(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert server.rss() - before < 16 * MIB


def test_clients_that_never_read_take_bounded_memory(server: Server, witness: Wire) -> None:
    value = random.Random(2).randbytes(500_000)
    witness.set(b"large", value)
    for _ in range(3):
        witness.get(b"large")
    before = server.rss()
    request = b"get large large large large\r\n" * 100
    silent = [server.connect(receive_buffer=4096) for _ in range(20)]
    try:
        for wire in silent:
            wire.socket.setblocking(False)
            for _ in range(50):
                try:
                    wire.socket.send(request)
                except BlockingIOError:
                    break
        for _ in range(20):
            started = time.monotonic()
            assert witness.get(b"witness") == b"untouched"
            assert time.monotonic() - started < PROMPT
        # 20 clients ask for 200 MB and more each; a reply may wait in one MiB of buffer for each of them.
        assert server.rss() - before < 64 * MIB
    finally:
        for wire in silent:
            reset(wire)
    assert witness.get(b"large") == value


def test_a_slow_reader_gets_the_bytes_it_asked_for(server: Server, witness: Wire) -> None:
    # The value is replaced, deleted and its memory used again while the reply is still on its way.
    value = random.Random(3).randbytes(1_000_000)
    witness.set(b"large", value)
    with server.connect(receive_buffer=4096) as wire:
        wire.send(b"get large\r\n")
        assert wire.read_line() == b"VALUE large 0 1000000"
        witness.set(b"large", b"other" * 150_000)
        witness.ask(b"delete large\r\n")
        for i in range(30):
            witness.set(b"filler%d" % i, b"f" * 1_000_000)
        assert wire.read_exactly(1_000_000) == value
        assert wire.read_exactly(7) == b"\r\nEND\r\n"


def test_a_client_that_sends_one_byte_at_a_time_is_served(server: Server, witness: Wire) -> None:
    with server.connect() as wire:
        for byte in b"set slow 7 0 11\r\nhello\r\nyou!\r\nget slow\r\ngets slow absent\r\nincr slow x\r\n":
            wire.send(bytes([byte]))
        assert wire.read_line() == b"STORED"
        assert wire.read_values() == {b"slow": b"hello\r\nyou!"}
        assert wire.read_values() == {b"slow": b"hello\r\nyou!"}
        assert wire.read_line() == b"CLIENT_ERROR invalid numeric delta argument"


def test_a_half_closed_connection_gets_its_replies(server: Server, witness: Wire) -> None:
    value = random.Random(4).randbytes(400_000)
    with server.connect(receive_buffer=65536) as wire:
        wire.send(b"set half 0 0 400000\r\n" + value + b"\r\n" + b"get half\r\n" * 20 + b"version\r\n")
        wire.half_close()
        assert wire.read_line() == b"STORED"
        for _ in range(20):
            assert wire.read_values() == {b"half": value}
        assert wire.read_line().startswith(b"VERSION ")
        assert wire.read_to_end() == b""


def test_an_abandoned_set_leaves_the_old_value(server: Server, witness: Wire) -> None:
    witness.set(b"key", b"old")
    for end in (Wire.close, reset):
        for body in (b"", b"part", b"x" * 99_000):
            with server.connect() as wire:
                wire.send(b"set key 0 0 100000\r\n" + body)
                # Answered on another connection, so the server has seen the first one by then.
                assert witness.get(b"key") == b"old"
                end(wire)
    assert witness.get(b"key") == b"old"


def test_peers_that_vanish_in_the_middle_of_a_reply(server: Server, witness: Wire) -> None:
    witness.set(b"large", b"v" * 1_000_000)
    for _ in range(100):
        wire = server.connect(receive_buffer=4096)
        wire.send(b"get large large large\r\n")
        wire.read_exactly(10)
        reset(wire)
    assert witness.get(b"large") == b"v" * 1_000_000
    deadline = time.monotonic() + 5
    while int(witness.stats()["curr_connections"]) > 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert int(witness.stats()["curr_connections"]) <= 10
